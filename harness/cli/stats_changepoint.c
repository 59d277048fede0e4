/* SPDX-License-Identifier: Apache-2.0 */
/* `stats changepoint`: one value a line in, change points as one JSON object out. */
#include "cli/stats_part.h"
#include "core/util.h"
#include "stats/changepoint.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define MAX_POINTS ((size_t)10000000)

struct series {
	double *x;
	size_t n, room;
};

/* One trimmed line that is not blank. */
static int add_value(struct series *s, const char *text, const char *name, size_t line,
		     struct cvb_err *err)
{
	double v;

	if (!cvb_stats_number(text, &v))
		return cvb_err_set(err, -EINVAL,
				   "%s:%zu: \"%.60s\" is not a number; expected one value a line, "
				   "no header",
				   name, line, text);
	if (!isfinite(v))
		return cvb_err_set(err, -EINVAL, "%s:%zu: the value is not finite (%.60s)", name,
				   line, text);
	if (s->n == MAX_POINTS)
		return cvb_err_set(err, -EINVAL, "%s:%zu: more than %zu values", name, line,
				   MAX_POINTS);
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 1024;
		double *x = reallocarray(s->x, room, sizeof(*x));

		if (!x)
			return cvb_err_set(err, -ENOMEM, "out of memory for %zu values", room);
		s->x = x;
		s->room = room;
	}
	s->x[s->n++] = v;
	return 0;
}

/* Blank lines may only end the input: in the middle a night without a value is not one of 0. */
static int read_series(FILE *in, const char *name, struct series *s, struct cvb_err *err)
{
	_cleanup_free_ char *buf = NULL;
	size_t buf_bytes = 0, line = 0, blank = 0;
	ssize_t len;

	while ((len = getline(&buf, &buf_bytes, in)) >= 0) {
		size_t n = (size_t)len;
		char *text = buf;
		int r;

		line++;
		if (memchr(buf, 0, n))
			return cvb_err_set(err, -EINVAL, "%s:%zu: a NUL byte is not a number", name,
					   line);
		if (line == 1 && !strncmp(text, "\xef\xbb\xbf", 3)) {
			text += 3;
			n -= 3;
		}
		while (n && strchr(" \t\r\n", text[n - 1]))
			text[--n] = '\0';
		text += strspn(text, " \t");
		if (!*text) {
			blank = blank ? blank : line;
			continue;
		}
		if (blank)
			return cvb_err_set(err, -EINVAL, "%s:%zu: the line is blank", name, blank);
		r = add_value(s, text, name, line, err);
		if (r < 0)
			return r;
	}
	if (ferror(in))
		return cvb_err_set(err, -EIO, "%s: cannot read after line %zu", name, line);
	if (!s->n)
		return cvb_err_set(err, -EINVAL, "%s: there are no values; expected one a line",
				   name);
	return 0;
}

/* A number, or null where there is none. */
static json_t *real_or_null(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

static json_t *to_json(const struct cvb_changepoints *c, const char *preset)
{
	json_t *list = json_array(), *spikes = json_array();

	for (size_t i = 0; i < c->n_cp; i++) {
		const struct cvb_changepoint *p = &c->cp[i];

		json_array_append_new(
			list, json_pack("{s:I, s:s, s:o, s:o, s:o}", "index", (json_int_t)p->index,
					"label", cvb_changepoint_label_name(p->label), "effect",
					real_or_null(p->effect), "lower", real_or_null(p->lower),
					"upper", real_or_null(p->upper)));
	}
	for (size_t i = 0; i < c->n_spikes; i++)
		json_array_append_new(spikes, json_integer((json_int_t)(c->spike[i] * c->block)));
	return json_pack("{s:o, s:o, s:I, s:I, s:o, s:o, s:b, s:s}", "changepoints", list, "spikes",
			 spikes, "n", (json_int_t)c->n, "block", (json_int_t)c->block, "sd",
			 real_or_null(c->sd), "phi", real_or_null(c->phi), "two_state",
			 (int)c->two_state, "preset", preset);
}

int cvb_stats_changepoint_cli(FILE *in, const char *in_name, const struct cvb_stats_conf *conf,
			      struct cvb_err *err)
{
	bool explore = conf->preset == CVB_STATS_EXPLORE;
	struct cvb_changepoints c = {0};
	struct series s = {0};
	int r = read_series(in, in_name, &s, err);

	if (r == 0)
		r = cvb_changepoints_find(s.x, s.n,
					  explore ? CVB_CHANGEPOINT_EXPLORE : CVB_CHANGEPOINT_ALERT,
					  &c, err);
	if (r == 0) {
		_cleanup_json_ json_t *answer = to_json(&c, explore ? "explore" : "alert");

		if (!answer)
			r = cvb_err_set(err, -ENOMEM, "out of memory for the answer");
		else if (json_dumpf(answer, stdout, JSON_INDENT(2)) != 0 || putchar('\n') == EOF)
			r = cvb_err_set(err, -EIO, "cannot write the answer");
	}
	cvb_changepoints_done(&c);
	free(s.x);
	return r < 0 ? r : CVB_EXIT_OK;
}
