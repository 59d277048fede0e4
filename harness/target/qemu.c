/* SPDX-License-Identifier: Apache-2.0 */
#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "core/proc.h"
#include "core/util.h"
#include "machine/fingerprint.h"
#include "target/peer.h"
#include "target/qemu_argv.h"
#include "target/qemu_probe.h"
#include "target/qmp.h"
#include "target/target.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define SOCKET_MS	  10000
#define MAX_CONSOLE_BYTES (16 << 20) /* a guest must not fill the disk with its console */
#define STATUS_LOOK_NS	  (500 * CVB_NS_PER_MS)

struct qemu {
	struct cvb_proc proc;
	struct cvb_qmp qmp;
	bool qmp_open;
	bool stopping;
	bool paused;
	bool internal_error; /* seen in that run state: KVM cannot run this guest here */
	uint64_t looked_ns;  /* when the run state was asked for last */
	char *run_dir; /* sockets and QEMU's stderr; short path, since a socket's is limited */
	char *kernel, *initrd, *disk, *console, *stderr_path, *qmp_path, *agent_path;
};

/* --- what went wrong ------------------------------------------------------------------------- */

/* The last `max` bytes of a file, cleaned line by line; "" when there is none. */
static void read_tail(const char *path, char *buf, size_t buf_bytes)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n = 0;

	buf[0] = '\0';
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	off_t from = st.st_size > (off_t)buf_bytes - 1 ? st.st_size - (off_t)buf_bytes + 1 : 0;

	n = pread(fd, buf, buf_bytes - 1, from);
	buf[cvb_max(n, (ssize_t)0)] = '\0';
}

/* The line that explains a death best: the kernel's panic line, else the last that is not empty. */
static void telling_line(char *text, char *line, size_t line_bytes)
{
	char *save = NULL, *best = NULL;

	for (char *l = strtok_r(text, "\r\n", &save); l; l = strtok_r(NULL, "\r\n", &save)) {
		if (strspn(l, " \t") == strlen(l))
			continue;
		best = l;
		if (strstr(l, "Kernel panic"))
			break;
	}
	snprintf(line, line_bytes, "%s", best ? best : "");
	cvb_wire_sanitise(line);
}

static int died(struct cvb_target *t, struct cvb_err *err)
{
	struct qemu *q = t->state;
	char status[64], tail[8192], said[160], console[160];

	read_tail(q->stderr_path, tail, sizeof(tail));
	telling_line(tail, said, sizeof(said));
	read_tail(q->console, tail, sizeof(tail));
	telling_line(tail, console, sizeof(console));
	return cvb_err_set(err, -EPIPE, "the guest of arm %s ended (%s)%s%s%s%s%s", t->arm->name,
			   cvb_proc_status_text(q->proc.status, status, sizeof(status)),
			   *said ? "; QEMU said: " : "", said,
			   *console ? "; last on its console: " : "", console,
			   *console ? "" : "; nothing on its console");
}

/* Asked while waiting for the agent: is the guest still one that can answer? */
static int guest_alive(void *ctx, struct cvb_err *err)
{
	struct cvb_target *t = ctx;
	struct qemu *q = t->state;
	uint64_t now_ns = cvb_now_ns();
	struct stat st;
	char status[64];
	int r;

	if (q->stopping)
		return 0;
	if (cvb_proc_poll(&q->proc))
		return died(t, err);
	if (!q->qmp_open || now_ns - q->looked_ns < STATUS_LOOK_NS)
		return 0;
	q->looked_ns = now_ns;
	if (stat(q->console, &st) == 0 && st.st_size > MAX_CONSOLE_BYTES)
		return cvb_err_set(err, -EPIPE, "the guest of arm %s floods its console (%s)",
				   t->arm->name, q->console);
	r = cvb_qmp_status(&q->qmp, status, sizeof(status), err);
	if (r < 0) {
		/* it may have died between the two looks */
		if (cvb_proc_wait(&q->proc, 1000) > 0)
			return died(t, err);
		return r;
	}
	q->internal_error = !strcmp(status, "internal-error");
	if (q->internal_error || !strcmp(status, "guest-panicked") || !strcmp(status, "io-error"))
		return cvb_err_set(err, -EPIPE, "the guest of arm %s stopped in run state %s",
				   t->arm->name, status);
	return 0;
}

/* --- start ----------------------------------------------------------------------------------- */

static int connect_to(struct cvb_target *t, const char *path, int *ret_fd, struct cvb_err *err)
{
	struct qemu *q = t->state;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	uint64_t deadline_ns = cvb_now_ns() + SOCKET_MS * CVB_NS_PER_MS;

	if (strlen(path) >= sizeof(addr.sun_path))
		return cvb_err_set(err, -ENAMETOOLONG, "%s is too long for a socket; set TMPDIR",
				   path);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	for (;;) {
		_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			return cvb_err_set(err, -errno, "cannot make a socket: %s",
					   strerror(errno));
		if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
			*ret_fd = CVB_TAKE_FD(fd);
			return 0;
		}
		if (cvb_proc_poll(&q->proc))
			return died(t, err);
		if (cvb_now_ns() > deadline_ns)
			return cvb_err_set(err, -ETIMEDOUT, "QEMU did not open %s within %d s",
					   path, SOCKET_MS / 1000);
		cvb_sleep_ms(5);
	}
}

static int make_paths(struct cvb_target *t, struct cvb_err *err)
{
	struct qemu *q = t->state;
	const char *tmp = getenv("TMPDIR");
	_cleanup_free_ char *guest = cvb_guest_dir(t->arm);
	char cwd[4096];

	q->run_dir = cvb_strf("%s/cvmbench-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!q->run_dir || !mkdtemp(q->run_dir)) {
		int r = -errno;

		free(q->run_dir);
		q->run_dir = NULL;
		return cvb_err_set(err, r, "cannot make a temporary folder: %s", strerror(-r));
	}
	if (!getcwd(cwd, sizeof(cwd)))
		cwd[0] = '\0';
	const char *scratch = t->env.scratch_dir ? t->env.scratch_dir : q->run_dir;
	const char *console = t->env.console_dir ? t->env.console_dir : q->run_dir;

	q->kernel = cvb_strf("%s/vmlinuz", guest ? guest : ".");
	q->initrd = cvb_strf("%s/initrd.img", guest ? guest : ".");
	q->disk = cvb_strf("%s/%s.raw", scratch, t->env.label);
	q->console = cvb_strf("%s/%s.console.log", console, t->env.label);
	q->stderr_path = cvb_strf("%s/qemu.stderr", q->run_dir);
	q->qmp_path = cvb_strf("%s/qmp.sock", q->run_dir);
	q->agent_path = cvb_strf("%s/agent.sock", q->run_dir);
	if (!q->kernel || !q->initrd || !q->disk || !q->console || !q->stderr_path ||
	    !q->qmp_path || !q->agent_path)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	return 0;
}

static int make_disk(struct cvb_target *t, struct cvb_err *err)
{
	struct qemu *q = t->state;
	_cleanup_close_ int fd = -1;
	int r = cvb_file_fresh(q->disk, 0600, &fd, err);

	if (r < 0)
		return cvb_err_wrap(err, r, "disk image");
	/* reserve the space now: a full disk is to be told here, not as an I/O error in the guest
	 */
	r = posix_fallocate(fd, 0, (off_t)t->arm->disk_bytes);
	if (r)
		return cvb_err_set(err, -r, "cannot reserve %llu MiB for disk image %s: %s",
				   (unsigned long long)(t->arm->disk_bytes / CVB_MIB), q->disk,
				   strerror(r));
	return 0;
}

/* QEMU would write through a link. */
static int make_console(struct cvb_target *t, struct cvb_err *err)
{
	struct qemu *q = t->state;
	_cleanup_close_ int fd = -1;
	int r = cvb_file_fresh(q->console, 0644, &fd, err);

	return r < 0 ? cvb_err_wrap(err, r, "console log") : 0;
}

static int launch(struct cvb_target *t, struct cvb_err *err)
{
	struct qemu *q = t->state;
	struct cvb_argv argv = {0};
	_cleanup_close_ int err_fd = open(q->stderr_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	struct cvb_proc_opts opts = {.stdin_fd = -1, .stdout_fd = err_fd, .stderr_fd = err_fd};
	struct cvb_qemu_plan plan = {.arm = t->arm,
				     .accel = t->accel,
				     .qemu_major = cvb_qemu_major(t->arm->qemu),
				     .cpus = cvb_qemu_cpus(t->arm),
				     .kernel = q->kernel,
				     .initrd = q->initrd,
				     .disk = q->disk,
				     .console = q->console,
				     .qmp_socket = q->qmp_path,
				     .agent_socket = q->agent_path,
				     .reach_host = t->env.peer_port || t->env.echo_port};
	int r = cvb_qemu_argv(&plan, &argv, err);

	if (r == 0) {
		_cleanup_free_ char *shown = cvb_argv_quoted(&argv);

		cvb_debug("qemu", "%s", shown ? shown : "");
		r = cvb_proc_start(&q->proc, (const char *const *)argv.v, &opts, err);
	}
	cvb_argv_done(&argv);
	return r;
}

static int connect_guest(struct cvb_target *t, struct cvb_err *err)
{
	struct qemu *q = t->state;
	int fd, r = connect_to(t, q->qmp_path, &fd, err);

	if (r < 0)
		return r;
	r = cvb_qmp_open(&q->qmp, fd, err);
	if (r < 0) /* it refuses its own command line only after it has opened its sockets */
		return cvb_proc_wait(&q->proc, 1000) > 0 ? died(t, err) : r;
	q->qmp_open = true;
	r = connect_to(t, q->agent_path, &fd, err);
	if (r < 0)
		return r;
	cvb_client_init(&t->client, fd, fd);
	t->client.wire.alive = guest_alive;
	t->client.wire.alive_ctx = t;
	r = cvb_client_wait_ready(&t->client, (unsigned)t->arm->boot_timeout_s * 1000, err);
	if (r == -ETIMEDOUT) {
		char tail[8192], line[160];

		read_tail(q->console, tail, sizeof(tail));
		telling_line(tail, line, sizeof(line));
		return cvb_err_set(err, r,
				   "the guest's agent did not answer within boot_timeout_s = %llu; "
				   "last on its console: %s",
				   (unsigned long long)t->arm->boot_timeout_s,
				   *line ? line : "(nothing)");
	}
	return r;
}

/* One attempt at booting with t->accel. */
static int boot(struct cvb_target *t, struct cvb_err *err)
{
	int r = make_paths(t, err);

	if (r == 0)
		r = make_disk(t, err);
	if (r == 0)
		r = make_console(t, err);
	if (r == 0)
		r = launch(t, err);
	if (r == 0)
		r = connect_guest(t, err);
	return r;
}

static void stop(struct cvb_target *t)
{
	struct qemu *q = t->state;

	if (!q)
		return;
	q->stopping = true;
	t->client.wire.alive = NULL;
	cvb_client_done(&t->client);
	cvb_client_init(&t->client, -1, -1);
	if (q->qmp_open && !cvb_proc_poll(&q->proc)) {
		/* the guest's memory and disk are thrown away: no need for an orderly shutdown */
		cvb_ignore(cvb_qmp_command(&q->qmp, "quit", NULL, NULL));
	}
	if (q->qmp_open)
		cvb_qmp_close(&q->qmp);
	cvb_proc_end(&q->proc, 2000);
	if (q->disk)
		unlink(q->disk);
	if (q->run_dir)
		cvb_remove_tree(q->run_dir);
	free(q->run_dir);
	free(q->kernel);
	free(q->initrd);
	free(q->disk);
	free(q->console);
	free(q->stderr_path);
	free(q->qmp_path);
	free(q->agent_path);
	free(q);
	t->state = NULL;
}

static int start(struct cvb_target *t, struct cvb_err *err)
{
	/* not for a confidential guest: it is nothing without KVM */
	bool may_fall_back = t->arm->accel == CVB_ACCEL_AUTO && t->arm->tee == CVB_TEE_NONE;
	struct qemu *q = calloc(1, sizeof(*q));
	int r;

	if (!q)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	t->state = q;
	r = cvb_qemu_accel(t->arm, &t->accel, err);
	if (r < 0)
		return r;
	r = boot(t, err);
	if (r < 0 && may_fall_back && t->accel == CVB_ACCEL_KVM && q->internal_error) {
		char why[512];

		cvb_err_text(err, why, sizeof(why));
		cvb_warn("arm %s: kvm is offered but does not run a guest here (%s); using tcg",
			 t->arm->name, why);
		stop(t);
		cvb_err_clear(err);
		t->state = calloc(1, sizeof(*q));
		if (!t->state)
			return cvb_err_set(err, -ENOMEM, "out of memory");
		cvb_qemu_kvm_is_broken();
		t->accel = CVB_ACCEL_TCG;
		r = boot(t, err);
	}
	if (r < 0)
		return r;
	t->disk = strdup("/dev/vda");
	/* slirp's gateway is the host's loopback */
	t->peer = cvb_peer_text("10.0.2.2", t->env.peer_port, t->env.echo_port);
	return 0;
}

static int run_state(struct cvb_target *t, const char *command, bool paused, struct cvb_err *err)
{
	struct qemu *q = t->state;
	int r;

	if (q->paused == paused)
		return 0;
	if (cvb_proc_poll(&q->proc))
		return died(t, err);
	r = cvb_qmp_command(&q->qmp, command, NULL, err);
	if (r < 0)
		return cvb_proc_wait(&q->proc, 1000) > 0 ? died(t, err) : r;
	q->paused = paused;
	return 0;
}

static int pause_guest(struct cvb_target *t, struct cvb_err *err)
{
	return run_state(t, "stop", true, err);
}

static int resume_guest(struct cvb_target *t, struct cvb_err *err)
{
	return run_state(t, "cont", false, err);
}

const struct cvb_target_ops cvb_target_qemu = {
	.name = "qemu",
	.supported = cvb_qemu_supported,
	.start = start,
	.pause = pause_guest,
	.resume = resume_guest,
	.stop = stop,
};
