/* SPDX-License-Identifier: Apache-2.0 */
#include "core/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char trace_list[256];
static bool quiet_info;
static void (*before_line)(void);

int cvb_log_trace(const char *list, struct cvb_err *err)
{
	if (!list)
		list = "";
	if (strlen(list) >= sizeof(trace_list) || strstr(list, ",,") || list[0] == ',')
		return cvb_err_set(err, -EINVAL,
				   "--trace=%s: expected component names separated by commas, such "
				   "as qemu,agent or all,-gpu",
				   list);
	snprintf(trace_list, sizeof(trace_list), "%s", list);
	return 0;
}

void cvb_log_quiet(bool quiet)
{
	quiet_info = quiet;
}

bool cvb_log_is_quiet(void)
{
	return quiet_info;
}

void cvb_log_set_before_line(void (*hook)(void))
{
	before_line = hook;
}

bool cvb_log_traced(const char *component)
{
	size_t len = strlen(component);
	bool on = false;

	for (const char *p = trace_list; *p;) {
		size_t n = strcspn(p, ",");
		bool minus = *p == '-';
		const char *name = p + minus;
		size_t name_len = n - minus;

		/* the last matching word wins, so that "all,-gpu" reads as written */
		if ((name_len == 3 && !memcmp(name, "all", 3)) ||
		    (name_len == len && !memcmp(name, component, len)))
			on = !minus;
		p += n;
		if (*p == ',')
			p++;
	}
	return on;
}

/* What a terminal would obey has no place in a line: texts come from files and guests too. */
static void defuse(char *text)
{
	for (unsigned char *p = (unsigned char *)text; *p; p++) {
		if (*p < ' ' || *p == 0x7f)
			*p = '?';
		else if (*p == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f) /* C1 controls in UTF-8 */
			p[0] = p[1] = '?';
	}
}

static void line(const char *prefix, const char *component, const char *fmt, va_list ap)
	CVB_PRINTF(3, 0);

static void line(const char *prefix, const char *component, const char *fmt, va_list ap)
{
	char buf[2048];
	int used;

	used = snprintf(buf, sizeof(buf), "%s%s%s", prefix, component ? component : "",
			component ? ": " : "");
	if (used < 0)
		return;
	vsnprintf(buf + used, sizeof(buf) - (size_t)used - 1, fmt, ap);
	defuse(buf);
	buf[strlen(buf) + 1] = '\0'; /* the last byte was kept free above */
	buf[strlen(buf)] = '\n';
	if (before_line)
		before_line();
	fputs(buf, stderr);
	fflush(stderr);
}

void cvb_debug(const char *component, const char *fmt, ...)
{
	va_list ap;

	if (!cvb_log_traced(component))
		return;
	va_start(ap, fmt);
	line("cvmbench: ", component, fmt, ap);
	va_end(ap);
}

void cvb_info(const char *fmt, ...)
{
	va_list ap;

	if (quiet_info)
		return;
	va_start(ap, fmt);
	line("cvmbench: ", NULL, fmt, ap);
	va_end(ap);
}

void cvb_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line("cvmbench: warning: ", NULL, fmt, ap);
	va_end(ap);
}

void cvb_log_err(const struct cvb_err *err)
{
	char text[CVB_ERR_FRAMES * CVB_ERR_MSG_BYTES];

	cvb_err_text(err, text, sizeof(text));
	defuse(text);
	if (before_line)
		before_line();
	fprintf(stderr, "cvmbench: error: %s\n", text);
}
