/* SPDX-License-Identifier: Apache-2.0 */
#include "core/proc.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/stop.h"
#include "core/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

char *cvb_program_find(const char *name, const char *debian_package, struct cvb_err *err)
{
	const char *path = getenv("PATH");
	_cleanup_free_ char *dirs = strdup(path && *path ? path : "/usr/local/bin:/usr/bin:/bin");
	char *save = NULL;

	if (strchr(name, '/')) {
		if (access(name, X_OK) == 0)
			return strdup(name);
	} else if (dirs) {
		for (char *d = strtok_r(dirs, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
			char *full = cvb_strf("%s/%s", d, name);

			if (full && access(full, X_OK) == 0)
				return full;
			free(full);
		}
	}
	cvb_err_set(
		err, -EOPNOTSUPP,
		"program \"%s\" not found in PATH (Debian package %s; scripts/setup installs it)",
		name, debian_package);
	return NULL;
}

/* In the child, after fork: only async-signal-safe calls. */
static _Noreturn void child_exec(const char *const argv[], const struct cvb_proc_opts *o,
				 int null_fd, int report_fd, pid_t parent)
{
	const int want[3] = {o->stdin_fd, o->stdout_fd, o->stderr_fd};
	sigset_t none;
	int saved[3], code;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before the line above */
		_exit(127);
	setpgid(0, 0);
	/* move our sources above 2 first, so that no dup2 overwrites one still needed */
	for (int i = 0; i < 3; i++) {
		int src = want[i] == -2 ? i : want[i] < 0 ? null_fd : want[i];

		saved[i] = fcntl(src, F_DUPFD_CLOEXEC, 3);
		if (saved[i] < 0)
			goto fail;
	}
	for (int i = 0; i < 3; i++)
		if (dup2(saved[i], i) < 0)
			goto fail;
	if (o->cwd && chdir(o->cwd) < 0)
		goto fail;
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
fail:
	code = errno;
	if (write(report_fd, &code, sizeof(code)) < 0)
		_exit(126);
	_exit(127);
}

int cvb_proc_start(struct cvb_proc *proc, const char *const argv[],
		   const struct cvb_proc_opts *opts, struct cvb_err *err)
{
	_cleanup_close_ int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	int report[2], code = 0;

	*proc = (struct cvb_proc){0};
	if (null_fd < 0)
		return cvb_err_set(err, -errno, "cannot open /dev/null: %s", strerror(errno));
	if (pipe2(report, O_CLOEXEC) < 0)
		return cvb_err_set(err, -errno, "cannot make a pipe: %s", strerror(errno));

	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid < 0) {
		code = errno;
		close(report[0]);
		close(report[1]);
		return cvb_err_set(err, -code, "cannot fork for %s: %s", argv[0], strerror(code));
	}
	if (pid == 0)
		child_exec(argv, opts, null_fd, report[1], parent);
	close(report[1]);

	/* the pipe closes on exec; anything that arrives is the errno of a failure */
	ssize_t n;

	do
		n = read(report[0], &code, sizeof(code));
	while (n < 0 && errno == EINTR);
	close(report[0]);
	if (n == (ssize_t)sizeof(code)) {
		waitpid(pid, NULL, 0);
		return cvb_err_set(err, -code, "cannot start %s: %s", argv[0], strerror(code));
	}
	setpgid(pid, pid);
	proc->pid = pid;
	cvb_debug("proc", "started %s as process %d", argv[0], (int)pid);
	return 0;
}

int cvb_proc_poll(struct cvb_proc *proc)
{
	siginfo_t info = {0};

	if (!proc->pid)
		return 1;
	/* look without reaping: while it is a zombie its group's number cannot be anyone else's */
	if (waitid(P_PID, (id_t)proc->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 &&
	    errno == EINTR)
		return 0;
	if (info.si_pid != proc->pid)
		return 0;
	kill(-proc->pid, SIGKILL); /* what it left behind */
	while (waitpid(proc->pid, &proc->status, 0) < 0 && errno == EINTR)
		;
	proc->pid = 0;
	return 1;
}

int cvb_proc_wait(struct cvb_proc *proc, unsigned timeout_ms)
{
	uint64_t deadline_ns = cvb_now_ns() + timeout_ms * CVB_NS_PER_MS;
	unsigned nap_ms = 1;

	while (!cvb_proc_poll(proc)) {
		if (cvb_stop_requested())
			return -EINTR;
		if (cvb_now_ns() >= deadline_ns)
			return 0;
		cvb_sleep_ms(nap_ms);
		nap_ms = cvb_min(nap_ms * 2, 20U);
	}
	return 1;
}

void cvb_proc_end(struct cvb_proc *proc, unsigned grace_ms)
{
	uint64_t deadline_ns = cvb_now_ns() + grace_ms * CVB_NS_PER_MS;

	if (cvb_proc_poll(proc))
		return;
	kill(-proc->pid, SIGTERM);
	kill(proc->pid, SIGTERM);
	/* not cvb_proc_wait: a requested stop must not cut the grace short */
	while (!cvb_proc_poll(proc) && cvb_now_ns() < deadline_ns) {
		struct timespec nap = {.tv_nsec = 2000000};

		nanosleep(&nap, NULL);
	}
	if (!proc->pid)
		return;
	kill(-proc->pid, SIGKILL);
	kill(proc->pid, SIGKILL);
	while (waitpid(proc->pid, &proc->status, 0) < 0 && errno == EINTR)
		;
	proc->pid = 0;
}

const char *cvb_proc_status_text(int status, char *buf, size_t buf_bytes)
{
	if (WIFSIGNALED(status))
		snprintf(buf, buf_bytes, "signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		snprintf(buf, buf_bytes, "exit status %d", WEXITSTATUS(status));
	return buf;
}

struct sink {
	int fd;
	char *text;
	size_t used, max;
	bool over;
};

/* Take what is there; 0 at end of file. */
static int sink_read(struct sink *s)
{
	char buf[16384];
	ssize_t n = read(s->fd, buf, sizeof(buf));

	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 1 : 0;
	if (n == 0)
		return 0;
	if (s->used + (size_t)n > s->max) {
		s->over = true;
		return 1; /* keep draining so that the program is not blocked */
	}
	char *bigger = realloc(s->text, s->used + (size_t)n + 1);

	if (!bigger) {
		s->over = true;
		return 1;
	}
	s->text = bigger;
	memcpy(s->text + s->used, buf, (size_t)n);
	s->used += (size_t)n;
	s->text[s->used] = '\0';
	return 1;
}

/* Collect from both pipes until the program ended and both are dry, or time or patience is out. */
static int collect(struct cvb_proc *proc, struct sink sinks[2], unsigned timeout_ms)
{
	uint64_t deadline_ns = cvb_now_ns() + timeout_ms * CVB_NS_PER_MS;

	while (sinks[0].fd >= 0 || sinks[1].fd >= 0) {
		struct pollfd p[2] = {{.fd = sinks[0].fd, .events = POLLIN},
				      {.fd = sinks[1].fd, .events = POLLIN}};
		uint64_t now = cvb_now_ns();

		if (cvb_stop_requested())
			return -EINTR;
		if (now >= deadline_ns)
			return -ETIMEDOUT;
		int n = poll(p, 2, (int)cvb_min((deadline_ns - now) / CVB_NS_PER_MS + 1, 200U));

		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; n > 0 && i < 2; i++) {
			if (p[i].revents && !sink_read(&sinks[i])) {
				close(sinks[i].fd);
				sinks[i].fd = -1;
			}
		}
	}
	while (!cvb_proc_poll(proc)) {
		if (cvb_stop_requested())
			return -EINTR;
		if (cvb_now_ns() >= deadline_ns)
			return -ETIMEDOUT;
		cvb_sleep_ms(1);
	}
	return 0;
}

int cvb_proc_run(const char *const argv[], unsigned timeout_ms, size_t max_bytes, char **ret_stdout,
		 char **ret_stderr, int *ret_status, struct cvb_err *err)
{
	int out[2] = {-1, -1}, errp[2] = {-1, -1}, r;
	struct cvb_proc proc = {0};

	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(errp, O_CLOEXEC) < 0) {
		r = -errno;
		if (out[0] >= 0) {
			close(out[0]);
			close(out[1]);
		}
		return cvb_err_set(err, r, "cannot make a pipe: %s", strerror(-r));
	}
	struct cvb_proc_opts opts = {.stdin_fd = -1, .stdout_fd = out[1], .stderr_fd = errp[1]};
	struct sink sinks[2] = {{.fd = out[0], .max = max_bytes},
				{.fd = errp[0], .max = max_bytes}};

	r = cvb_proc_start(&proc, argv, &opts, err);
	close(out[1]);
	close(errp[1]);
	if (r == 0) {
		r = collect(&proc, sinks, timeout_ms);
		if (r == -ETIMEDOUT)
			cvb_err_set(err, r, "%s did not end within %u ms and was killed", argv[0],
				    timeout_ms);
		else if (r == -EINTR)
			cvb_err_set(err, r, "interrupted while %s was running", argv[0]);
		else if (r < 0)
			cvb_err_set(err, r, "cannot read from %s: %s", argv[0], strerror(-r));
		else if (sinks[0].over && ret_stdout)
			r = cvb_err_set(err, -EFBIG, "%s printed more than %zu bytes", argv[0],
					max_bytes);
	}
	for (int i = 0; i < 2; i++)
		if (sinks[i].fd >= 0)
			close(sinks[i].fd);
	cvb_proc_end(&proc, 500);
	if (r == 0) {
		if (ret_status)
			*ret_status = proc.status;
		if (ret_stdout)
			*ret_stdout = sinks[0].text ? CVB_TAKE(sinks[0].text) : strdup("");
		if (ret_stderr)
			*ret_stderr = sinks[1].text ? CVB_TAKE(sinks[1].text) : strdup("");
	}
	free(sinks[0].text);
	free(sinks[1].text);
	return r;
}

void cvb_argv_add(struct cvb_argv *a, const char *s)
{
	char **bigger = a->oom ? NULL : realloc(a->v, (a->n + 2) * sizeof(*bigger));
	char *copy = bigger ? strdup(s) : NULL;

	if (bigger)
		a->v = bigger;
	if (!copy) {
		a->oom = true;
		return;
	}
	a->v[a->n++] = copy;
	a->v[a->n] = NULL;
}

void cvb_argv_addf(struct cvb_argv *a, const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	if (!s) {
		a->oom = true;
		return;
	}
	cvb_argv_add(a, s);
	free(s);
}

int cvb_argv_check(const struct cvb_argv *a, struct cvb_err *err)
{
	if (a->oom || !a->n)
		return cvb_err_set(err, -ENOMEM, "out of memory building a command line");
	return 0;
}

void cvb_argv_done(struct cvb_argv *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->v[i]);
	free(a->v);
	*a = (struct cvb_argv){0};
}

char *cvb_argv_quoted(const struct cvb_argv *a)
{
	static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789-_=+,./:@%";
	char *text = NULL;
	size_t bytes = 0;
	FILE *f = open_memstream(&text, &bytes);

	if (!f)
		return NULL;
	for (size_t i = 0; i < a->n; i++) {
		const char *s = a->v[i];

		if (i)
			fputc(' ', f);
		if (*s && s[strspn(s, safe)] == '\0') {
			fputs(s, f);
			continue;
		}
		fputc('\'', f);
		for (; *s; s++) {
			if (*s == '\'')
				fputs("'\\''", f);
			else
				fputc(*s, f);
		}
		fputc('\'', f);
	}
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
