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
static int add_value(struct series *s, const struct cvb_stats_input *in, const char *text)
{
	double v;

	if (!cvb_stats_number(text, &v))
		return cvb_err_set(in->err, -EINVAL,
				   "%s:%zu: \"%.60s\" is not a number; expected one value a line, "
				   "no header",
				   in->name, in->line, text);
	if (!isfinite(v))
		return cvb_err_set(in->err, -EINVAL, "%s:%zu: the value is not finite (%.60s)",
				   in->name, in->line, text);
	if (s->n == MAX_POINTS)
		return cvb_err_set(in->err, -EINVAL, "%s:%zu: more than %zu values", in->name,
				   in->line, MAX_POINTS);
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 1024;
		double *x = reallocarray(s->x, room, sizeof(*x));

		if (!x)
			return cvb_err_set(in->err, -ENOMEM, "out of memory for %zu values", room);
		s->x = x;
		s->room = room;
	}
	s->x[s->n++] = v;
	return 0;
}

/* Blank lines may only end the input: in the middle a night without a value is not one of 0. */
static int read_series(struct cvb_stats_input *in, struct series *s)
{
	size_t blank = 0;
	char *text;
	int r;

	while ((r = cvb_stats_next_line(in, &text)) == 1) {
		if (!*text) {
			blank = blank ? blank : in->line;
			continue;
		}
		if (blank)
			return cvb_err_set(in->err, -EINVAL, "%s:%zu: the line is blank", in->name,
					   blank);
		r = add_value(s, in, text);
		if (r < 0)
			return r;
	}
	if (r == 0 && !s->n)
		r = cvb_err_set(in->err, -EINVAL, "%s: there are no values; expected one a line",
				in->name);
	return r;
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

int cvb_stats_changepoint_cli(struct cvb_stats_input *in, const struct cvb_stats_conf *conf,
			      struct cvb_err *err)
{
	bool explore = conf->preset == CVB_STATS_EXPLORE;
	struct cvb_changepoints c = {0};
	struct series s = {0};
	int r = read_series(in, &s);

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
