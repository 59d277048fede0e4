/* SPDX-License-Identifier: Apache-2.0 */
#include "core/ini.h"

#include "core/file.h"
#include "core/opt.h"
#include "core/util.h"

#include <errno.h>
#include <ini.h>
#include <string.h>

struct reader {
	const struct cvb_ini_ops *ops;
	void *ctx;
	const char *at; /* rest of the text */
	unsigned line;	/* number of the line handed out last */
	char *section;	/* NULL before the first */
	json_t *lines;	/* "[section] key" and "[section]" -> number of the line that has it */
	int r;
	struct cvb_err *err;
};

/* The later of two would win silently, whichever was meant. */
static int check_once(struct reader *rd, const char *section, const char *key)
{
	_cleanup_free_ char *name = cvb_strf("[%s]%s%s", section, key ? " " : "", key ? key : "");
	const json_t *before = name ? json_object_get(rd->lines, name) : NULL;

	if (before)
		return cvb_err_set(rd->err, -EINVAL,
				   "%s is there twice: first in line %" JSON_INTEGER_FORMAT,
				   key ? key : name, json_integer_value(before));
	if (!name || json_object_set_new(rd->lines, name, json_integer(rd->line)) < 0)
		return cvb_err_set(rd->err, -ENOMEM, "out of memory");
	return 0;
}

/* `line` begins with '['.  One that never closes is left to inih, which refuses it. */
static int open_section(struct reader *rd, const char *line)
{
	const char *close = strchr(line, ']');
	char *name;
	int r;

	if (!close)
		return 0;
	const char *rest = close + 1 + strspn(close + 1, " \t\r\n");

	if (*rest && !strchr(";#", *rest))
		return cvb_err_set(rd->err, -EINVAL,
				   "%.*s: only a comment may stand behind a section's ]",
				   (int)(close + 1 - line), line);
	name = strndup(line + 1, (size_t)(close - line - 1));
	if (!name)
		return cvb_err_set(rd->err, -ENOMEM, "out of memory");
	free(rd->section);
	rd->section = name;
	r = check_once(rd, name, NULL);
	return r < 0 ? r : rd->ops->section(rd->ctx, name, rd->line, rd->err);
}

static bool is_utf8(const char *text)
{
	_cleanup_json_ json_t *j = json_string(text); /* NULL for what is not */

	return j;
}

/* inih's fgets.  Leading blanks are dropped: it would take an indented line as the continuation of
 * the value above. */
static char *next_line(char *buf, int room, void *ctx)
{
	struct reader *rd = ctx;
	size_t len;

	if (!*rd->at || rd->r < 0)
		return NULL;
	rd->line++;
	rd->at += strspn(rd->at, " \t");
	len = strcspn(rd->at, "\n");
	if (rd->at[len] == '\n')
		len++;
	if (len >= (size_t)room) { /* inih would take the rest as another line */
		rd->r = cvb_err_set(rd->err, -EINVAL, "the line is longer than %d bytes", room - 1);
		return NULL;
	}
	memcpy(buf, rd->at, len);
	buf[len] = '\0';
	rd->at += len;
	if (!is_utf8(buf))
		rd->r = cvb_err_set(rd->err, -EINVAL, "the line is not UTF-8 text");
	else if (buf[0] == '[')
		rd->r = open_section(rd, buf);
	return rd->r < 0 ? NULL : buf;
}

/* The section that inih tells is cut to 50 characters. */
static int on_entry(void *ctx, const char *section, const char *key, const char *value)
{
	struct reader *rd = ctx;

	(void)section;
	if (rd->r < 0 || !key)
		return 1;
	if (!rd->section) {
		rd->r = cvb_err_set(rd->err, -EINVAL, "%s stands before any [section]", key);
		return 1;
	}
	rd->r = check_once(rd, rd->section, key);
	if (rd->r == 0)
		rd->r = rd->ops->key(rd->ctx, key, value ? value : "", rd->line, rd->err);
	if (rd->r < 0)
		cvb_err_wrap(rd->err, rd->r, "[%s]", rd->section);
	return 1;
}

int cvb_ini_parse(const char *text, const char *path, const struct cvb_ini_ops *ops, void *ctx,
		  struct cvb_err *err)
{
	static const char bom[] = "\xef\xbb\xbf";
	bool marked = !strncmp(text, bom, strlen(bom));
	_cleanup_json_ json_t *lines = json_object();
	struct reader rd = {
		.ops = ops,
		.ctx = ctx,
		.at = text + (marked ? strlen(bom) : 0),
		.lines = lines,
		.err = err,
	};
	int bad = lines ? ini_parse_stream(next_line, &rd, on_entry, &rd) : -1;

	free(rd.section);
	/* inih goes on behind a line that it cannot read; the first mistake is the one to tell */
	if (bad > 0 && (rd.r == 0 || (unsigned)bad < rd.line)) {
		rd.line = (unsigned)bad;
		rd.r = cvb_err_set(err, -EINVAL, "expected [section], key = value or a comment");
	}
	if (rd.r < 0)
		return cvb_err_wrap(err, rd.r, "%s:%u", path, rd.line);
	return bad < 0 ? cvb_err_set(err, -ENOMEM, "out of memory reading %s", path) : 0;
}

int cvb_ini_read(const char *path, bool follow, char **ret_text, struct cvb_err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t bytes;
	int r = (follow ? cvb_file_read : cvb_file_read_regular)(path, CVB_INI_MAX_BYTES, &text,
								 &bytes, err);

	if (r < 0)
		return r == -ENOMEM || r == -EIO || r == -EMFILE || r == -ENFILE ? r : -EINVAL;
	if (!bytes)
		return cvb_err_set(err, -EINVAL, "%s is empty", path);
	if (strlen(text) != bytes) {
		unsigned line = 1;

		for (const char *c = text; *c; c++)
			line += *c == '\n';
		return cvb_err_set(err, -EINVAL, "%s:%u: a NUL byte is no text", path, line);
	}
	*ret_text = CVB_TAKE(text);
	return 0;
}

int cvb_ini_unknown(const char *what, const char *word, const char *const *names,
		    struct cvb_err *err)
{
	const char *near = cvb_nearest(word, names);
	bool section = !strcmp(what, "section");
	const char *open = section ? "[" : "", *close = section ? "]" : "";
	char list[200] = "";
	size_t used = 0;

	if (near)
		return cvb_err_set(err, -EINVAL, "unknown %s %s%s%s; did you mean %s%s%s?", what,
				   open, word, close, open, near, close);
	for (size_t i = 0; names[i] && used < sizeof(list); i++) {
		int n = snprintf(list + used, sizeof(list) - used, "%s%s%s%s",
				 !i		? ""
				 : names[i + 1] ? ", "
						: " or ",
				 open, names[i], close);

		used += (size_t)cvb_max(n, 0);
	}
	return cvb_err_set(err, -EINVAL, "unknown %s %s%s%s: expected %s%s", what, open, word,
			   close, list, used < sizeof(list) ? "" : "…");
}
