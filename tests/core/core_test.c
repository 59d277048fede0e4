/* SPDX-License-Identifier: Apache-2.0 */
/* Errors, files and programs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/proc.h"
#include "core/util.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void cause_is_kept_below_what_was_being_done(void **state)
{
	struct cvb_err err = {0};
	char text[512];

	(void)state;
	assert_int_equal(cvb_err_set(&err, -EIO, "cause %d", 1), -EIO);
	for (int i = 0; i < CVB_ERR_FRAMES + 2; i++)
		assert_int_equal(cvb_err_wrap(&err, -EIO, "layer %d", i), -EIO);
	cvb_err_text(&err, text, sizeof(text));
	assert_non_null(strstr(text, "layer 0: cause 1"));
	assert_true(err.truncated);
	cvb_err_text(&err, text, 8); /* too small: cut, terminated */
	assert_int_equal(strlen(text), 7);
}

static void no_err_is_fine(void **state)
{
	(void)state;
	assert_int_equal(cvb_err_set(NULL, -EIO, "x"), -EIO);
	assert_int_equal(cvb_err_wrap(NULL, -EIO, "x"), -EIO);
}

static void write_replaces_whole_or_not_at_all(void **state)
{
	char dir[] = "/tmp/cvb-core-XXXXXX", path[64], missing[80], *text;
	struct cvb_err err = {0};

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/a", dir);
	assert_int_equal(cvb_file_write(path, "one", 3, &err), 0);
	assert_int_equal(cvb_file_write(path, "two!", 4, &err), 0);
	assert_int_equal(cvb_file_read(path, 100, &text, NULL, &err), 0);
	assert_string_equal(text, "two!");
	free(text);
	assert_int_equal(cvb_file_read(path, 3, &text, NULL, &err), -EFBIG);
	snprintf(missing, sizeof(missing), "%s/no/such", dir);
	assert_int_equal(cvb_file_write(missing, "x", 1, &err), -ENOENT);
	assert_int_equal(cvb_remove_tree(dir), 0);
	assert_int_not_equal(access(dir, F_OK), 0); /* no temporary file was left to keep it */
}

/* What a stranger's bundle may hold where we write. */
static void write_replaces_files_and_links_only(void **state)
{
	char dir[] = "/tmp/cvb-core-XXXXXX", victim[64], path[64], *text;
	_cleanup_json_ json_t *doc = json_pack("[i]", 7);
	struct cvb_err err = {0};
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(victim, sizeof(victim), "%s/victim", dir);
	snprintf(path, sizeof(path), "%s/here", dir);
	assert_int_equal(cvb_file_write(victim, "keep", 4, &err), 0);
	const char *const behind[] = {victim, dir, "/dev/full", "/nowhere"};

	for (size_t i = 0; i < CVB_ARRAY_LEN(behind); i++) {
		assert_int_equal(symlink(behind[i], path), 0);
		assert_int_equal(cvb_file_write(path, "new", 3, &err), 0);
		assert_int_equal(lstat(path, &st), 0);
		assert_true(S_ISREG(st.st_mode));
		assert_int_equal(unlink(path), 0);
	}
	assert_int_equal(cvb_file_read(victim, 100, &text, NULL, &err), 0);
	assert_string_equal(text, "keep");
	free(text);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(cvb_file_write(path, "x", 1, &err), -EINVAL);
	assert_int_equal(cvb_json_write(path, doc, &err), -EINVAL);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISFIFO(st.st_mode));
	assert_int_equal(cvb_file_write(dir, "x", 1, &err), -EINVAL);
	assert_int_equal(cvb_remove_tree(dir), 0);
}

/* Neither waits for a writer nor reads what never ends. */
static void read_takes_regular_files_only(void **state)
{
	char dir[] = "/tmp/cvb-core-XXXXXX", path[64], *text = NULL;
	struct cvb_err err = {0};

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/pipe", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	const char *const not_files[] = {path, dir, "/dev/null", "/dev/zero"};

	alarm(20);
	for (size_t i = 0; i < CVB_ARRAY_LEN(not_files); i++) {
		assert_int_equal(cvb_file_read(not_files[i], 100, &text, NULL, &err), -EINVAL);
		assert_non_null(strstr(err.frame[0].msg, "is not a regular file"));
		assert_int_equal(cvb_file_read_input(not_files[i], 100, &text, NULL, NULL),
				 -EINVAL);
	}
	alarm(0);
	assert_int_equal(cvb_file_read("/proc/self/stat", 4096, &text, NULL, &err), 0);
	assert_true(strlen(text) > 10);
	free(text);
	assert_int_equal(cvb_remove_tree(dir), 0);
}

/* `compare <(zcat a.json.gz) b.json` */
static void input_may_be_an_inherited_pipe(void **state)
{
	char path[32], *text = NULL;
	struct cvb_err err = {0};
	int fd[2];

	(void)state;
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	assert_int_equal(write(fd[1], "{}", 2), 2);
	close(fd[1]);
	snprintf(path, sizeof(path), "/dev/fd/%d", fd[0]);
	assert_int_equal(cvb_file_read_input(path, 100, &text, NULL, &err), 0);
	assert_string_equal(text, "{}");
	free(text);
	close(fd[0]);
	assert_int_equal(cvb_file_read_input(path, 100, &text, NULL, &err), -EBADF);
	assert_int_equal(cvb_file_read_input("/dev/fd/1x", 100, &text, NULL, &err), -ENOENT);
}

static void fresh_files_and_own_folders_follow_no_link(void **state)
{
	char dir[] = "/tmp/cvb-core-XXXXXX", victim[64], path[64], *text;
	struct cvb_err err = {0};
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(victim, sizeof(victim), "%s/victim", dir);
	snprintf(path, sizeof(path), "%s/here", dir);
	assert_int_equal(cvb_file_write(victim, "keep", 4, &err), 0);
	const char *const behind[] = {victim, "/dev/null", "/nowhere", NULL};

	for (size_t i = 0; i < CVB_ARRAY_LEN(behind); i++) {
		if (behind[i])
			assert_int_equal(symlink(behind[i], path), 0);
		else
			assert_int_equal(mkfifo(path, 0600), 0);
		assert_int_equal(cvb_file_fresh(path, 0600, &fd, &err), 0);
		assert_int_equal(write(fd, "new", 3), 3);
		close(fd);
		assert_int_equal(cvb_file_read_regular(path, 100, &text, NULL, &err), 0);
		assert_string_equal(text, "new");
		free(text);
		assert_int_equal(unlink(path), 0);
	}
	assert_int_equal(cvb_file_read(victim, 100, &text, NULL, &err), 0);
	assert_string_equal(text, "keep");
	free(text);
	assert_int_not_equal(cvb_file_fresh(dir, 0600, &fd, &err), 0);

	assert_int_equal(cvb_mkdir_own(path, &err), 0);
	assert_int_equal(cvb_mkdir_own(path, &err), 0); /* it is there */
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(symlink(dir, path), 0);
	assert_int_equal(cvb_mkdir_own(path, &err), -EINVAL);
	assert_int_equal(cvb_mkdir_own(victim, &err), -EINVAL);
	assert_int_equal(cvb_remove_tree(dir), 0);
}

/* What a user may name with -o. */
static void output_goes_through_to_devices_and_pipes(void **state)
{
	char dir[] = "/tmp/cvb-core-XXXXXX", path[64], link_path[64], said[64] = "";
	_cleanup_json_ json_t *doc = json_pack("[i]", 7);
	struct cvb_err err = {0};
	struct stat st;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/pipe", dir);
	snprintf(link_path, sizeof(link_path), "%s/link", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(symlink(path, link_path), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(cvb_json_output(link_path, doc, &err), 0);
	assert_int_equal(read(fd, said, sizeof(said) - 1), (ssize_t)strlen("[\n  7\n]\n"));
	assert_string_equal(said, "[\n  7\n]\n");
	close(fd);
	assert_int_equal(cvb_json_output(path, doc, &err), -ENXIO); /* no reader: no wait */
	assert_int_equal(cvb_json_output("/dev/null", doc, &err), 0);
	assert_int_equal(cvb_json_output("/dev/full", doc, &err), -ENOSPC);
	assert_int_equal(stat("/dev/null", &st), 0);
	assert_true(S_ISCHR(st.st_mode));
	assert_int_equal(cvb_remove_tree(dir), 0);
}

static void program_that_ends_takes_its_children_along(void **state)
{
	const char *const argv[] = {"sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!", NULL};
	struct cvb_err err = {0};
	char *out;
	int status;

	(void)state;
	assert_int_equal(cvb_proc_run(argv, 10000, 100, &out, NULL, &status, &err), 0);
	pid_t child = (pid_t)strtoul(out, NULL, 10);

	assert_true(child > 1);
	/* killed at once; the zombie is init's to reap */
	for (int i = 0; i < 200 && kill(child, 0) == 0; i++) {
		char path[64], line[256];

		snprintf(path, sizeof(path), "/proc/%d/stat", (int)child);
		if (cvb_file_read_line(path, line, sizeof(line)) < 0 || strstr(line, ") Z "))
			break;
		assert_true(i < 199);
		cvb_sleep_ms(10);
	}
	free(out);
}

static void program_output_and_status_are_kept_apart(void **state)
{
	const char *const argv[] = {"sh", "-c", "echo out; echo err >&2; exit 3", NULL};
	struct cvb_err err = {0};
	char *out, *errors;
	int status;

	(void)state;
	assert_int_equal(cvb_proc_run(argv, 10000, 1000, &out, &errors, &status, &err), 0);
	assert_string_equal(out, "out\n");
	assert_string_equal(errors, "err\n");
	assert_int_equal(WEXITSTATUS(status), 3);
	free(out);
	free(errors);
}

static void program_that_hangs_is_ended_with_its_children(void **state)
{
	/* the child's child would hold the pipe open and live on, were only the child killed */
	const char *const argv[] = {"sh", "-c", "sleep 1000 & echo $!; wait", NULL};
	struct cvb_err err = {0};
	int fds[2];
	char text[32] = "";
	struct cvb_proc proc;

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);

	struct cvb_proc_opts opts = {.stdin_fd = -1, .stdout_fd = fds[1], .stderr_fd = -1};

	assert_int_equal(cvb_proc_start(&proc, argv, &opts, &err), 0);
	close(fds[1]);
	assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
	pid_t grandchild = (pid_t)strtoul(text, NULL, 10);

	assert_int_equal(kill(grandchild, 0), 0);
	cvb_proc_end(&proc, 100);
	/* gone, or a zombie that nobody here can reap: the pipe's end shows it ran no further */
	assert_int_equal(read(fds[0], text, sizeof(text)), 0);
	close(fds[0]);

	const char *const slow[] = {"sleep", "1000", NULL};

	assert_int_equal(cvb_proc_run(slow, 50, 10, NULL, NULL, NULL, &err), -ETIMEDOUT);
}

static void missing_program_names_its_package(void **state)
{
	struct cvb_err err = {0};
	char text[512];

	(void)state;
	assert_null(cvb_program_find("no-such-program-here", "the-package", &err));
	cvb_err_text(&err, text, sizeof(text));
	assert_non_null(strstr(text, "the-package"));
	assert_int_equal(cvb_err_exit(err.code), CVB_EXIT_UNSUPPORTED);
}

static void too_much_output_is_an_error(void **state)
{
	const char *const argv[] = {"head", "-c", "100000", "/dev/zero", NULL};
	struct cvb_err err = {0};
	char *out = NULL;
	int status;

	(void)state;
	assert_int_equal(cvb_proc_run(argv, 10000, 1000, &out, NULL, &status, &err), -EFBIG);
	assert_null(out);
}

static void argv_reads_back_from_a_shell(void **state)
{
	struct cvb_argv a = {0};
	char *text;

	(void)state;
	cvb_argv_add(&a, "plain-word");
	cvb_argv_add(&a, "it's \"$HOME\"");
	cvb_argv_add(&a, "");
	text = cvb_argv_quoted(&a);
	assert_string_equal(text, "plain-word 'it'\\''s \"$HOME\"' ''");
	free(text);
	cvb_argv_done(&a);
}

#define READING_NS UINT64_C(25)

/* A clock whose readings take READING_NS, and in one of them the CPU is away for 10 ms. */
static uint64_t interrupted_now_ns(void *ctx)
{
	uint64_t *readings = ctx;

	++*readings;
	return *readings * READING_NS + (*readings >= 1000 ? 10 * CVB_NS_PER_MS : 0);
}

static void lost_cpu_time_is_not_the_clocks_cost(void **state)
{
	uint64_t readings = 0;
	const struct cvb_clock clock = {
		.name = "test", .now_ns = interrupted_now_ns, .ctx = &readings};

	(void)state;
	assert_true(cvb_clock_cost_ns(&clock) == READING_NS);
	assert_true(readings > 1000);
}

static void values_read_well(void **state)
{
	static const struct {
		double v;
		const char *unit, *text;
	} t[] = {{12.34e9, "bytes_per_s", "12.3 GB/s"},
		 {85.06, "ns", "85.1 ns"},
		 {1200, "ns", "1.20 us"},
		 {45250, "ops_per_s", "45.2 kop/s"},
		 {0.5, "bytes_per_s", "0.50 B/s"},
		 {999.6, "ns", "1000 ns"},
		 {2, "ratio", "2"}};
	char buf[64];

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(t); i++)
		assert_string_equal(cvb_value_text(t[i].v, t[i].unit, buf, sizeof(buf)), t[i].text);
	assert_string_equal(cvb_value_text(NAN, "ns", buf, sizeof(buf)), "n/a");
	assert_string_equal(cvb_bytes_text(65536, buf, sizeof(buf)), "64 KiB");
	assert_string_equal(cvb_bytes_text(1500, buf, sizeof(buf)), "1500 B");
}

static void ratios_fit_their_column(void **state)
{
	static const struct {
		double x;
		const char *text;
	} t[] = {{0, "0.000"},	     {3e-12, "3e-12"},	 {0.00029, "3e-04"}, {0.00096, "0.0010"},
		 {0.0676, "0.0676"}, {0.09951, "0.100"}, {1, "1.000"},	     {9.9994, "9.999"},
		 {9.9996, "10.00"},  {99.994, "99.99"},	 {99.996, "100"},    {99999.4, "99999"},
		 {99999.6, "1e+05"}, {1.06e9, "1e+09"},	 {NAN, "-"}};
	char buf[32];

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(t); i++) {
		assert_string_equal(cvb_ratio_cell(t[i].x, buf, sizeof(buf)), t[i].text);
		assert_true(strlen(buf) <= 6);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cause_is_kept_below_what_was_being_done),
		cmocka_unit_test(no_err_is_fine),
		cmocka_unit_test(write_replaces_whole_or_not_at_all),
		cmocka_unit_test(write_replaces_files_and_links_only),
		cmocka_unit_test(read_takes_regular_files_only),
		cmocka_unit_test(input_may_be_an_inherited_pipe),
		cmocka_unit_test(fresh_files_and_own_folders_follow_no_link),
		cmocka_unit_test(output_goes_through_to_devices_and_pipes),
		cmocka_unit_test(program_that_ends_takes_its_children_along),
		cmocka_unit_test(program_output_and_status_are_kept_apart),
		cmocka_unit_test(program_that_hangs_is_ended_with_its_children),
		cmocka_unit_test(missing_program_names_its_package),
		cmocka_unit_test(too_much_output_is_an_error),
		cmocka_unit_test(argv_reads_back_from_a_shell),
		cmocka_unit_test(lost_cpu_time_is_not_the_clocks_cost),
		cmocka_unit_test(values_read_well),
		cmocka_unit_test(ratios_fit_their_column),
	};

	return cmocka_run_group_tests_name("core", tests, NULL, NULL);
}
