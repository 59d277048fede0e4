/* SPDX-License-Identifier: Apache-2.0 */
/* The journal file: appending, torn lines, short writes, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "campaign/journal.h"
#include "core/file.h"
#include "core/util.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char dir[] = "/tmp/cvb-journal-XXXXXX";
static char path[sizeof(dir) + 8];

static int count_lines(const json_t *line, size_t number, void *ctx, struct cvb_err *err)
{
	size_t *n = ctx;

	(void)err;
	assert_true(json_is_object(line));
	assert_int_equal(number, *n + 1);
	*n = number;
	return 0;
}

static size_t lines(void)
{
	size_t n = 0;

	assert_int_equal(cvb_journal_read(path, count_lines, &n, NULL), 0);
	return n;
}

static void put(const char *text, size_t bytes)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, bytes, f), bytes);
	fclose(f);
}

static off_t file_bytes(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static int fresh(void **state)
{
	(void)state;
	unlink(path);
	return 0;
}

static void append_and_read(void **state)
{
	struct cvb_journal *j = NULL;

	(void)state;
	for (int turn = 0; turn < 2; turn++) {
		assert_int_equal(cvb_journal_open(&j, path, NULL), 0);
		for (int i = 0; i < 3; i++)
			assert_int_equal(
				cvb_journal_add(j, json_pack("{s:i, s:f}", "i", i, "x", 0.1), NULL),
				0);
		assert_int_equal(cvb_journal_sync(j, NULL), 0);
		j = cvb_journal_close(j);
		assert_null(j);
	}
	assert_int_equal(lines(), 6);
}

static int same_number(const json_t *line, size_t number, void *ctx, struct cvb_err *err)
{
	(void)number;
	(void)err;
	return json_real_value(json_object_get(line, "x")) == *(double *)ctx ? 0 : -EINVAL;
}

static void doubles_survive(void **state)
{
	double x = 0.1 + 0.2;
	struct cvb_journal *j;

	(void)state;
	assert_int_equal(cvb_journal_open(&j, path, NULL), 0);
	assert_int_equal(cvb_journal_add(j, json_pack("{s:f}", "x", x), NULL), 0);
	cvb_journal_close(j);
	assert_int_equal(cvb_journal_read(path, same_number, &x, NULL), 0);
}

static void torn_line_is_cut(void **state)
{
	static const char text[] = "{\"a\":1}\n{\"a\":2}\n{\"a\":";
	struct cvb_journal *j;

	(void)state;
	put(text, strlen(text));
	assert_int_equal(lines(), 2);
	assert_int_equal(cvb_journal_open(&j, path, NULL), 0);
	assert_int_equal(file_bytes(), 16);
	assert_int_equal(cvb_journal_add(j, json_pack("{s:i}", "a", 3), NULL), 0);
	cvb_journal_close(j);
	assert_int_equal(lines(), 3);
}

static void only_a_torn_line(void **state)
{
	static char big[200000];
	struct cvb_journal *j;

	(void)state;
	memset(big, 'x', sizeof(big)); /* longer than the buffer that looks for the newline */
	put(big, sizeof(big));
	assert_int_equal(lines(), 0);
	assert_int_equal(cvb_journal_open(&j, path, NULL), 0);
	assert_int_equal(cvb_journal_add(j, json_object(), NULL), 0);
	cvb_journal_close(j);
	assert_int_equal(lines(), 1);
}

static void damage_is_named(void **state)
{
	static const struct {
		const char *text;
		const char *why;
	} rows[] = {
		{"{\"a\":1}\nnonsense\n", ":2: not JSON"},
		{"[1]\n", ":1: not a JSON object"},
		{"{\"a\":1}\n\n", ":2: not JSON"},
		{"{\"a\":1,\"a\":2}\n", ":1: not JSON: duplicate"},
		{"{\"a\":\"\xff\"}\n", ":1: not JSON"},
		{"{\"a\":\"\\u0000\"}\n", ":1: not JSON"},
	};
	size_t n;

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++) {
		struct cvb_err err = {0};

		put(rows[i].text, strlen(rows[i].text));
		n = 0;
		assert_int_equal(cvb_journal_read(path, count_lines, &n, &err), -EBADMSG);
		assert_non_null(strstr(err.frame[0].msg, path));
		if (!strstr(err.frame[0].msg, rows[i].why))
			fail_msg("\"%s\" does not say \"%s\"", err.frame[0].msg, rows[i].why);
	}
	put("{}\n\0\0\0\n", 7); /* what a power cut leaves */
	n = 0;
	assert_int_equal(cvb_journal_read(path, count_lines, &n, NULL), -EBADMSG);
}

static void long_line_is_refused(void **state)
{
	const size_t bytes = 5 * CVB_MIB;
	_cleanup_free_ char *big = malloc(bytes);
	struct cvb_err err = {0};
	struct cvb_journal *j;
	size_t n = 0;

	(void)state;
	assert_non_null(big);
	memset(big, 'x', bytes);
	big[bytes - 1] = '\n';
	put(big, bytes);
	assert_int_equal(cvb_journal_read(path, count_lines, &n, &err), -EBADMSG);
	unlink(path);
	assert_int_equal(cvb_journal_open(&j, path, NULL), 0);
	assert_int_equal(
		cvb_journal_add(j, json_pack("{s:o}", "x", json_stringn(big, bytes - 1)), &err),
		-EMSGSIZE);
	cvb_journal_close(j);
	assert_int_equal(lines(), 0);
}

/* A full disk in the middle of a line: nothing of it stays, and later lines fit. */
static void short_write_is_undone(void **state)
{
	struct rlimit was, small = {.rlim_cur = 100};
	struct cvb_err err = {0};
	struct cvb_journal *j;
	char pad[200];

	(void)state;
	memset(pad, 'x', sizeof(pad) - 1);
	pad[sizeof(pad) - 1] = '\0';
	assert_int_equal(cvb_journal_open(&j, path, NULL), 0);
	assert_int_equal(cvb_journal_add(j, json_pack("{s:i}", "a", 1), NULL), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	small.rlim_max = was.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);

	int r = cvb_journal_add(j, json_pack("{s:s}", "pad", pad), &err);

	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_int_equal(r, -EFBIG);
	assert_non_null(strstr(err.frame[0].msg, path));
	assert_int_equal(lines(), 1);
	assert_int_equal(file_bytes(), 8);
	assert_int_equal(cvb_journal_add(j, json_pack("{s:i}", "a", 2), NULL), 0);
	cvb_journal_close(j);
	assert_int_equal(lines(), 2);
}

static void two_writers_are_refused(void **state)
{
	struct cvb_journal *a, *b = NULL;

	(void)state;
	assert_int_equal(cvb_journal_open(&a, path, NULL), 0);
	assert_int_equal(cvb_journal_open(&b, path, NULL), -EBUSY);
	cvb_journal_close(a);
	assert_int_equal(cvb_journal_open(&b, path, NULL), 0);
	cvb_journal_close(b);
}

static void bad_targets(void **state)
{
	struct cvb_journal *j = NULL;
	size_t n = 0;

	(void)state;
	assert_int_equal(cvb_journal_open(&j, "/dev/null", NULL), -EINVAL);
	assert_int_equal(cvb_journal_open(&j, "/nonexistent/j", NULL), -ENOENT);
	assert_int_equal(cvb_journal_read("/nonexistent/j", count_lines, &n, NULL), -ENOENT);
	assert_int_equal(cvb_journal_open(&j, path, NULL), 0);
	assert_int_equal(cvb_journal_add(j, NULL, NULL), -ENOMEM);
	cvb_journal_close(j);
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/j", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return cvb_remove_tree(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(append_and_read, fresh),
		cmocka_unit_test_setup(doubles_survive, fresh),
		cmocka_unit_test_setup(torn_line_is_cut, fresh),
		cmocka_unit_test_setup(only_a_torn_line, fresh),
		cmocka_unit_test_setup(damage_is_named, fresh),
		cmocka_unit_test_setup(long_line_is_refused, fresh),
		cmocka_unit_test_setup(short_write_is_undone, fresh),
		cmocka_unit_test_setup(two_writers_are_refused, fresh),
		cmocka_unit_test_setup(bad_targets, fresh),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
