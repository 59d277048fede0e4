/* SPDX-License-Identifier: Apache-2.0 */
#include "report/plot.h"

#include "core/file.h"
#include "core/proc.h"
#include "core/util.h"
#include "report/text.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#define SVG_MAX_BYTES (4 * CVB_MIB)
#define ARGS_MAX      9

/* Something that a picture must not hold.  Compared without case. */
static const char *active_part(const char *svg)
{
	static const char *const words[] = {"<script", "<foreignobject", "<iframe",
					    "<image",  "<style",	 "<!entity"};

	for (size_t i = 0; i < CVB_ARRAY_LEN(words); i++)
		if (strcasestr(svg, words[i]))
			return words[i];
	/* attributes: on… = handlers, and references that do not begin with # */
	for (const char *s = svg; (s = strchr(s, '=')) != NULL; s++) {
		const char *name = s;

		while (name > svg && (isalnum((unsigned char)name[-1]) || strchr(":-_", name[-1])))
			name--;
		if (s - name > 2 && !strncasecmp(name, "on", 2) && (s[1] == '"' || s[1] == '\''))
			return "an event handler";
		if (s - name >= 4 && !strncasecmp(s - 4, "href", 4) && s[1] && s[2] != '#')
			return "a reference outside of the picture";
	}
	return NULL;
}

/* Copy what follows a found piece: replacements of text by text, tried at each place. */
struct edit {
	const char *find;
	const char *put; /* NULL: `find` stays, and the id prefix follows it */
};

static const struct edit edits[] = {
	{"id='", NULL},
	{"id=\"", NULL},
	{"href='#", NULL},
	{"href=\"#", NULL},
	{"url(#", NULL},
	{" kiB<", " KiB<"}, /* gnuplot's %B prints the IEC prefix in small */
	{"color=\"black\"", "color=\"inherit\""},
	{"fill=\"black\"", "fill=\"currentColor\""},
	{"fill='black'", "fill='currentColor'"},
	{"fill = 'black'", "fill='currentColor'"},
	{"stroke=\"black\"", "stroke=\"currentColor\""},
	{"stroke='black'", "stroke='currentColor'"},
};

/* Length of an element that is left out whole at s ("<title>…</title>"), or 0. */
static size_t dropped(const char *s)
{
	static const char *const names[] = {"title", "desc"};

	for (size_t i = 0; i < CVB_ARRAY_LEN(names); i++) {
		char open[16], close[16];
		const char *end;

		snprintf(open, sizeof(open), "<%s>", names[i]);
		snprintf(close, sizeof(close), "</%s>", names[i]);
		if (strncmp(s, open, strlen(open)) != 0)
			continue;
		end = strstr(s, close);
		return end ? (size_t)(end - s) + strlen(close) : 0;
	}
	return 0;
}

static void put_edited(FILE *f, const char *s, unsigned number)
{
	while (*s) {
		size_t skip = *s == '<' ? dropped(s) : 0;
		const struct edit *e = NULL;

		if (skip) {
			s += skip;
			continue;
		}
		for (size_t i = 0; i < CVB_ARRAY_LEN(edits) && !e; i++)
			if (!strncmp(s, edits[i].find, strlen(edits[i].find)))
				e = &edits[i];
		if (!e) {
			fputc(*s++, f);
			continue;
		}
		if (e->put)
			fputs(e->put, f);
		else
			fprintf(f, "%sp%u-", e->find, number);
		s += strlen(e->find);
	}
}

int cvb_svg_inline(const char *raw, unsigned number, const char *alt, char **ret_svg,
		   struct cvb_err *err)
{
	const char *start = strstr(raw, "<svg"), *active;
	char *text = NULL;
	size_t bytes = 0;
	FILE *f;

	if (!start || !strstr(start, "</svg>"))
		return cvb_err_set(err, -EBADMSG, "gnuplot's output is not an SVG picture");
	active = active_part(start);
	if (active)
		return cvb_err_set(err, -EBADMSG, "the picture holds %s", active);
	f = open_memstream(&text, &bytes);
	if (!f)
		return cvb_err_set(err, -ENOMEM, "out of memory for a picture");
	fputs("<svg role=\"img\" aria-label=\"", f);
	cvb_text_html(f, alt);
	fputs("\"", f);
	put_edited(f, start + strlen("<svg"), number);
	if (fclose(f) != 0) {
		free(text);
		return cvb_err_set(err, -ENOMEM, "out of memory for a picture");
	}
	*ret_svg = text;
	return 0;
}

int cvb_plot_run(const char *script, const char *const args[], unsigned number, const char *alt,
		 unsigned timeout_ms, char **ret_svg, struct cvb_err *err)
{
	_cleanup_free_ char *program = cvb_program_find("gnuplot", CVB_GNUPLOT_PACKAGE, err);
	_cleanup_free_ char *name = cvb_strf("plots/%s", script);
	_cleanup_free_ char *path = program && name ? cvb_data_path(name, err) : NULL;
	_cleanup_free_ char *svg = NULL, *said = NULL;
	const char *argv[ARGS_MAX + 5] = {program, "-d", "-c", path};
	char status_text[64];
	int status = 0, r;

	if (!path)
		return program ? -ENOENT : -EOPNOTSUPP;
	for (size_t i = 0; i < ARGS_MAX && args[i]; i++)
		argv[4 + i] = args[i];
	r = cvb_proc_run(argv, timeout_ms, SVG_MAX_BYTES, &svg, &said, &status, err);
	if (r < 0)
		return r;
	if (status != 0) {
		_cleanup_free_ char *plain = cvb_text_plain(said, 160);

		return cvb_err_set(err, -EIO, "gnuplot %s: %s: %s", script,
				   cvb_proc_status_text(status, status_text, sizeof(status_text)),
				   plain ? plain : "");
	}
	return cvb_svg_inline(svg ? svg : "", number, alt, ret_svg, err);
}
