/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors with a cause chain.
 *
 * Every function that can fail returns 0 (or a useful non-negative number) or a negative errno.
 * One that can fail for several reasons also takes a last parameter `struct cvb_err *err`, which
 * may be NULL.  The lowest frame is the cause and is never overwritten; each layer on the way up
 * may add one frame that says what it was doing.  On success `err` is untouched.
 *
 * A cvb_err holds everything in place: no allocation, no clean-up, copy it freely.
 * Threading: one cvb_err belongs to one thread at a time.
 */
#ifndef CVB_CORE_ERR_H
#define CVB_CORE_ERR_H

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#define CVB_ERR_FRAMES	  6
#define CVB_ERR_MSG_BYTES 320

#define CVB_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define CVB_MUST_CHECK	      __attribute__((warn_unused_result))

struct cvb_err_frame {
	const char *file;
	int line;
	const char *func;
	char msg[CVB_ERR_MSG_BYTES];
};

struct cvb_err {
	int code;	/* negative errno of the cause, 0 while unset */
	unsigned n;	/* frames in use; frame[0] is the cause */
	bool truncated; /* a frame was dropped because all were in use */
	struct cvb_err_frame frame[CVB_ERR_FRAMES];
};

/* Exit codes of the program; part of the contract with users. */
enum cvb_exit {
	CVB_EXIT_OK = 0,
	CVB_EXIT_GATE_FAILED = 1,
	CVB_EXIT_USAGE = 2,
	CVB_EXIT_INCONCLUSIVE = 3,
	CVB_EXIT_UNSUPPORTED = 4,
	CVB_EXIT_INVALID = 5,
	CVB_EXIT_INTERNAL = 6,
};

/*
 * Record a cause: forgets older frames, stores `code` (negative errno) and the message.
 * Returns `code`, so that `return cvb_err_set(err, -EINVAL, "…")` is one statement.
 */
#define cvb_err_set(err, code, ...)                                                                \
	cvb_err_set_at(err, code, __FILE__, __LINE__, __func__, __VA_ARGS__)

/* Add what this layer was doing to an error that came from below.  Returns `code` unchanged. */
#define cvb_err_wrap(err, code, ...)                                                               \
	cvb_err_wrap_at(err, code, __FILE__, __LINE__, __func__, __VA_ARGS__)

int cvb_err_set_at(struct cvb_err *err, int code, const char *file, int line, const char *func,
		   const char *fmt, ...) CVB_PRINTF(6, 7);
int cvb_err_wrap_at(struct cvb_err *err, int code, const char *file, int line, const char *func,
		    const char *fmt, ...) CVB_PRINTF(6, 7);

/* Forget everything; for an err that is used again after its error was handled. */
void cvb_err_clear(struct cvb_err *err);

/* The chain as one line, outermost first: "a: b: cause".  `buf` is always terminated. */
void cvb_err_text(const struct cvb_err *err, char *buf, size_t buf_bytes);

/* Which exit code an error deserves: EOPNOTSUPP/ENODEV 4, EINVAL/EBADMSG/ENOENT-of-input 2, else 6.
 */
enum cvb_exit cvb_err_exit(int code);

/* Short name of an errno ("EIO"); code may have either sign. */
const char *cvb_errno_name(int code);

/* Our own invariant is broken: print and abort.  Never for input or hardware. */
_Noreturn void cvb_bug(const char *file, int line, const char *what);
#define CVB_BUG_ON(cond)                                                                           \
	do {                                                                                       \
		if (cond)                                                                          \
			cvb_bug(__FILE__, __LINE__, #cond);                                        \
	} while (0)

/* A wanted drop of a must-check result, with the reason in the line's comment. */
static inline void cvb_ignore(int r)
{
	(void)r;
}

#endif
