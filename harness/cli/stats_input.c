/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines and numbers from a stranger's file, for every subject of `stats`.
 */
#include "cli/stats_part.h"
#include "core/util.h"

#include <errno.h>
#include <string.h>

/* One line without its end into in->buf: 1, 0 at the end, or negative errno. */
static int read_line(struct cvb_stats_input *in)
{
	size_t n = 0;
	int c;

	while ((c = getc_unlocked(in->f)) != EOF && c != '\n') {
		if (!c)
			return cvb_err_set(in->err, -EBADMSG, "%s:%zu: there is a NUL byte in it",
					   in->name, in->line + 1);
		if (n + 1 == sizeof(in->buf))
			return cvb_err_set(in->err, -EBADMSG,
					   "%s:%zu: the line is longer than %zu bytes", in->name,
					   in->line + 1, sizeof(in->buf) - 1);
		in->buf[n++] = (char)c;
	}
	if (ferror(in->f))
		return cvb_err_set(in->err, -EIO, "%s: cannot read after line %zu", in->name,
				   in->line);
	if (!n && c == EOF)
		return 0;
	in->buf[n] = '\0';
	in->line++;
	return 1;
}

int cvb_stats_next_line(struct cvb_stats_input *in, char **ret)
{
	int r = read_line(in);
	char *s = in->buf;
	size_t n;

	if (r <= 0)
		return r;
	if (in->line == 1 && !strncmp(s, "\xef\xbb\xbf", 3))
		s += 3;
	n = strlen(s);
	while (n && strchr(" \t\r", s[n - 1]))
		s[--n] = '\0';
	*ret = s + strspn(s, " \t");
	return 1;
}

bool cvb_stats_number(const char *text, double *ret)
{
	char *end;

	*ret = strtod(text, &end);
	return end != text && !*end && !strpbrk(text, "xX");
}

int cvb_stats_parse_number(const struct cvb_stats_input *in, const char *field, const char *text,
			   double *ret)
{
	if (!cvb_stats_number(text, ret))
		return cvb_err_set(in->err, -EBADMSG, "%s:%zu: %s: \"%.60s\" is not a number",
				   in->name, in->line, field, text);
	return 0;
}
