/* SPDX-License-Identifier: Apache-2.0 */
#include "core/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void frame_fill(struct cvb_err_frame *f, const char *file, int line, const char *func,
		       const char *fmt, va_list ap) CVB_PRINTF(5, 0);

static void frame_fill(struct cvb_err_frame *f, const char *file, int line, const char *func,
		       const char *fmt, va_list ap)
{
	f->file = file;
	f->line = line;
	f->func = func;
	vsnprintf(f->msg, sizeof(f->msg), fmt, ap);
}

int cvb_err_set_at(struct cvb_err *err, int code, const char *file, int line, const char *func,
		   const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	err->code = code;
	err->n = 1;
	err->truncated = false;
	va_start(ap, fmt);
	frame_fill(&err->frame[0], file, line, func, fmt, ap);
	va_end(ap);
	return code;
}

int cvb_err_wrap_at(struct cvb_err *err, int code, const char *file, int line, const char *func,
		    const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	if (!err->n) /* the layer below said nothing: at least name its errno */
		cvb_err_set_at(err, code, file, line, func, "%s", strerror(-code));
	if (err->n == CVB_ERR_FRAMES) {
		err->truncated = true;
		return code;
	}
	va_start(ap, fmt);
	frame_fill(&err->frame[err->n++], file, line, func, fmt, ap);
	va_end(ap);
	return code;
}

void cvb_err_clear(struct cvb_err *err)
{
	if (!err)
		return;
	err->code = 0;
	err->n = 0;
	err->truncated = false;
}

static bool is_utf8(const char *text)
{
	json_t *j = json_string(text); /* NULL for what is not UTF-8 */

	json_decref(j);
	return j != NULL;
}

void cvb_err_text(const struct cvb_err *err, char *buf, size_t buf_bytes)
{
	size_t used = 0;

	if (!buf_bytes)
		return;
	buf[0] = '\0';
	for (unsigned i = err->n; i-- > 0 && used + 1 < buf_bytes;) {
		int n = snprintf(buf + used, buf_bytes - used, "%s%s", used ? ": " : "",
				 err->frame[i].msg);
		if (n < 0)
			return;
		used += (size_t)n;
	}
	/* a message may hold a path, or be cut within a character; JSON must be UTF-8 */
	if (!is_utf8(buf))
		for (char *p = buf; *p; p++)
			if (*p & 0x80)
				*p = '?';
}

enum cvb_exit cvb_err_exit(int code)
{
	switch (code < 0 ? -code : code) {
	case 0:
		return CVB_EXIT_OK;
	case EINVAL:
	case EBADMSG:
		return CVB_EXIT_USAGE;
	case EOPNOTSUPP:
	case ENODEV:
		return CVB_EXIT_UNSUPPORTED;
	default:
		return CVB_EXIT_INTERNAL;
	}
}

const char *cvb_errno_name(int code)
{
	const char *name = strerrorname_np(code < 0 ? -code : code);

	return name ? name : "EUNKNOWN";
}

void cvb_bug(const char *file, int line, const char *what)
{
	fprintf(stderr, "cvmbench: BUG at %s:%d: %s\n", file, line, what);
	abort();
}
