/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines and numbers from a stranger's file, for every subject of `stats`.
 */
#include "cli/stats_part.h"
#include "core/util.h"

#include <errno.h>
#include <string.h>

int cvb_stats_next_line(struct cvb_stats_input *in, char **ret)
{
	char *s = in->buf;
	size_t n;

	if (!fgets(in->buf, sizeof(in->buf), in->f)) {
		if (ferror(in->f))
			return cvb_err_set(in->err, -EIO, "%s: cannot read after line %zu",
					   in->name, in->line);
		return 0;
	}
	in->line++;
	n = strlen(s);
	if (n + 1 == sizeof(in->buf) && s[n - 1] != '\n')
		return cvb_err_set(in->err, -EBADMSG, "%s:%zu: the line is longer than %d bytes",
				   in->name, in->line, CVB_STATS_LINE_BYTES - 2);
	if (in->line == 1 && !strncmp(s, "\xef\xbb\xbf", 3)) {
		s += 3;
		n -= 3;
	}
	while (n && strchr(" \t\r\n", s[n - 1]))
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
