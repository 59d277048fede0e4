/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs we run: always an argv, never a shell; always ended by us.
 *
 * A child gets PR_SET_PDEATHSIG, so that it dies with us even when we are killed, and its own
 * process group, so that what it started dies with it and a terminal's ^C does not reach it first.
 * Call from the thread that will outlive the child.
 */
#ifndef CVB_CORE_PROC_H
#define CVB_CORE_PROC_H

#include "core/err.h"

#include <stdint.h>
#include <sys/types.h>

struct cvb_proc {
	pid_t pid;  /* 0 when none */
	int status; /* wait status once reaped */
};

struct cvb_proc_opts {
	int stdin_fd;	 /* -1: /dev/null; ownership stays with the caller */
	int stdout_fd;	 /* -1: /dev/null */
	int stderr_fd;	 /* -1: /dev/null; -2: inherit ours */
	const char *cwd; /* NULL: ours */
};

/*
 * Is this program there?  The full path in fresh memory, or NULL with -EOPNOTSUPP in `err` and a
 * message that names the Debian package to install.
 */
char *cvb_program_find(const char *name, const char *debian_package, struct cvb_err *err);

/* Start argv[0] (looked up in PATH).  On success `proc` is to be ended by cvb_proc_end. */
CVB_MUST_CHECK int cvb_proc_start(struct cvb_proc *proc, const char *const argv[],
				  const struct cvb_proc_opts *opts, struct cvb_err *err);

/* Has it ended?  1 yes (status is set, the process is reaped), 0 no. */
int cvb_proc_poll(struct cvb_proc *proc);

/* Wait up to `timeout_ms` for its end: 1 ended, 0 still running, -EINTR if a stop was requested. */
int cvb_proc_wait(struct cvb_proc *proc, unsigned timeout_ms);

/* End it: SIGTERM to its group, `grace_ms` of waiting, SIGKILL, reap.  Accepts an unused one. */
void cvb_proc_end(struct cvb_proc *proc, unsigned grace_ms);

/* "exit status 3" or "signal 9 (Killed)".  Returns buf. */
const char *cvb_proc_status_text(int status, char *buf, size_t buf_bytes);

/*
 * Run to the end and collect what it printed: at most `max_bytes` each of stdout and stderr
 * (fresh memory; either may be NULL to discard).  Ended after `timeout_ms`: -ETIMEDOUT.
 * A non-zero exit is not an error here: `ret_status` is the wait status.
 */
CVB_MUST_CHECK int cvb_proc_run(const char *const argv[], unsigned timeout_ms, size_t max_bytes,
				char **ret_stdout, char **ret_stderr, int *ret_status,
				struct cvb_err *err);

/* A growing argv: every string is copied.  Zero-initialise; done frees all. */
struct cvb_argv {
	char **v; /* NULL-terminated once anything was added */
	size_t n;
	bool oom; /* an addition failed; cvb_argv_check says so */
};

void cvb_argv_add(struct cvb_argv *a, const char *s);
void cvb_argv_addf(struct cvb_argv *a, const char *fmt, ...) CVB_PRINTF(2, 3);
CVB_MUST_CHECK int cvb_argv_check(const struct cvb_argv *a, struct cvb_err *err);
void cvb_argv_done(struct cvb_argv *a);
/* One line that a shell would read back as this argv.  Fresh memory. */
char *cvb_argv_quoted(const struct cvb_argv *a);

#endif
