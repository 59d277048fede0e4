/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verb `stats`: the engine that judges campaigns, on anyone's own numbers.
 */
#include "cli/stats_part.h"
#include "core/util.h"
#include "stats/describe.h"
#include "stats/gate.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static const char *const better_names[] = {"higher", "lower", NULL};
static const char *const preset_names[] = {"alert", "explore", NULL};

#define C(field) offsetof(struct cvb_stats_conf, field)
static const struct cvb_opt opts[] = {
	{.name = "margin",
	 .letter = 'm',
	 .type = CVB_OPT_DOUBLE,
	 .offset = C(margin),
	 .min = 1e-6,
	 .max = 1000,
	 .def = "0.99",
	 .help = "ratio: smallest acceptable performance ratio test / base"},
	{.name = "better",
	 .letter = 'b',
	 .type = CVB_OPT_CHOICE,
	 .offset = C(better),
	 .choices = better_names,
	 .def = "higher",
	 .help = "what a larger value means: higher is better (a rate) or lower (a time)"},
	{.name = "kind",
	 .type = CVB_OPT_CHOICE,
	 .offset = C(kind),
	 .choices = cvb_gate_rule_names,
	 .def = "non-inferiority",
	 .help = "ratio: kind of judgement; absolute holds test against --limit"},
	{.name = "limit",
	 .type = CVB_OPT_DOUBLE,
	 .offset = C(limit),
	 .help = "ratio --kind absolute: worst acceptable value of test"},
	{.name = "estimator",
	 .type = CVB_OPT_CHOICE,
	 .offset = C(estimator),
	 .choices = cvb_ratio_estimator_names,
	 .def = "location",
	 .help = "ratio: what is compared: location, throughput (total times), tail (p99), mean"},
	{.name = "pairing",
	 .type = CVB_OPT_CHOICE,
	 .offset = C(pairing),
	 .choices = cvb_pairing_names,
	 .def = "pair",
	 .help = "ratio: how base and test were measured; none compares them by Welch's t"},
	{.name = "looks",
	 .type = CVB_OPT_STR,
	 .offset = C(looks),
	 .arg = "S,S,…",
	 .help = "ratio: planned looks, such as 6,10,16,24; default: one, at what is there"},
	{.name = "alpha",
	 .type = CVB_OPT_DOUBLE,
	 .offset = C(alpha),
	 .min = 1e-9,
	 .max = 0.4999,
	 .help = "one-sided error of each bound; default .05, with 2 to 4 looks .0175 at each, "
		 "with 5 to 8 looks .012"},
	{.name = "resolution",
	 .type = CVB_OPT_DOUBLE,
	 .offset = C(resolution),
	 .min = 1e-12,
	 .max = 10,
	 .help = "ratio: smallest relative step that the instrument can show"},
	{.name = "id", .type = CVB_OPT_STR, .offset = C(id), .help = "ratio: name of the gate"},
	{.name = "metric",
	 .type = CVB_OPT_STR,
	 .offset = C(metric),
	 .help = "ratio: name of the metric"},
	{.name = "preset",
	 .type = CVB_OPT_CHOICE,
	 .offset = C(preset),
	 .choices = preset_names,
	 .def = "alert",
	 .help = "changepoint: few false alarms, or more sensitive"},
	{.name = "json",
	 .type = CVB_OPT_FLAG,
	 .offset = C(json),
	 .help = "print JSON (ratio and describe always do)"},
	CVB_COMMON_OPTS,
	CVB_OPT_END,
};

/* --- ratio: answer ---------------------------------------------------------------------------- */

static json_t *number(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

static json_t *spikes_json(const struct cvb_spikes *s)
{
	json_t *o = json_pack("{s:I, s:I, s:I}", "base", (json_int_t)s->base, "test",
			      (json_int_t)s->test, "rounds", (json_int_t)s->rounds);

	json_object_set_new(o, "p_test_higher", number(s->p));
	json_object_set_new(o, "test_rate_lower", number(s->rate_lower));
	json_object_set_new(o, "test_rate_upper", number(s->rate_upper));
	return o;
}

static json_t *gate_json(const struct cvb_stats_conf *c, const struct cvb_gate_plan *plan,
			 const struct cvb_gate_answer *a, const struct cvb_spikes *spikes)
{
	const struct cvb_ratio *r = &a->ratio;
	json_t *o = json_pack("{s:s, s:s?, s:s, s:s?, s:s}", "id", c->id ? c->id : "stdin",
			      "metric", c->metric, "arm", "test", "base",
			      c->kind == CVB_RULE_ABSOLUTE ? NULL : "base", "kind",
			      cvb_gate_rule_names[c->kind]);

	json_object_set_new(o, "margin", json_real(plan->margin));
	json_object_set_new(o, "ratio", number(r->ratio));
	json_object_set_new(o, "lower", number(r->lower));
	json_object_set_new(o, "upper", number(r->upper));
	json_object_set_new(o, "sessions", json_integer(r->sessions));
	json_object_set_new(o, "rounds", json_integer(r->rounds));
	json_object_set_new(o, "pairing", json_string(cvb_pairing_names[c->pairing]));
	json_object_set_new(o, "verdict", json_string(cvb_verdict_names[a->verdict]));
	json_object_set_new(o, "reason", json_string(a->reason));
	json_object_set_new(o, "confidence", json_real(1 - a->alpha));
	json_object_set_new(o, "alpha", json_real(a->alpha));
	json_object_set_new(o, "estimator", json_string(cvb_ratio_estimator_names[c->estimator]));
	json_object_set_new(o, "method", json_string(cvb_ratio_method_names[r->method]));
	json_object_set_new(o, "better", json_string(better_names[c->better]));
	if (c->kind == CVB_RULE_ABSOLUTE)
		json_object_set_new(o, "limit", json_real(c->limit));
	json_object_set_new(o, "log_sd", number(r->log_sd));
	json_object_set_new(o, "p_fail", number(a->p_fail));
	json_object_set_new(o, "p_pass", number(a->p_pass));
	json_object_set_new(o, "look", a->look ? json_integer(a->look) : json_null());
	json_object_set_new(o, "sessions_needed",
			    a->sessions_needed ? json_integer(a->sessions_needed) : json_null());
	json_object_set_new(o, "spikes", spikes_json(spikes));
	return o;
}

/* What cannot be written is told when stdout is flushed. */
static int print_json(const json_t *out, struct cvb_err *err)
{
	_cleanup_free_ char *text = out ? json_dumps(out, JSON_INDENT(2)) : NULL;

	if (!text)
		return cvb_err_set(err, -ENOMEM, "out of memory for the answer");
	printf("%s\n", text);
	return 0;
}

/* The answer is JSON, which is UTF-8. */
static int check_name(const char *option, const char *text, struct cvb_err *err)
{
	_cleanup_json_ json_t *s = json_string(text ? text : "");

	return s ? 0 : cvb_err_set(err, -EINVAL, "%s: expected UTF-8 text", option);
}

static int judge_pairs(struct cvb_pair *pairs, size_t n, const struct cvb_stats_conf *c,
		       struct cvb_err *err)
{
	struct cvb_gate_plan plan = {.rule = (enum cvb_gate_rule)c->kind,
				     .margin = c->margin,
				     .alpha = c->alpha,
				     .resolution = c->resolution};
	_cleanup_json_ json_t *out = NULL;
	struct cvb_sessions s = {0};
	struct cvb_gate_answer a;
	struct cvb_spikes spikes;
	int r = c->looks ? cvb_gate_parse_looks(c->looks, plan.looks, &plan.n_looks, err) : 0;

	if (r == 0)
		r = cvb_spikes_count(pairs, n, c->better == CVB_LOWER_IS_BETTER, CVB_GATE_ALPHA,
				     &spikes, err);
	if (c->kind == CVB_RULE_ABSOLUTE) {
		plan.margin = 1;
		for (size_t i = 0; i < n; i++)
			pairs[i].base = c->limit;
	}
	if (r == 0)
		r = cvb_sessions_make(&s, pairs, n, c->better == CVB_LOWER_IS_BETTER,
				      (enum cvb_ratio_estimator)c->estimator,
				      (enum cvb_pairing)c->pairing, err);
	if (r == 0)
		r = cvb_gate_judge(&s, &plan, &a, err);
	cvb_sessions_done(&s);
	if (r < 0)
		return r;
	out = gate_json(c, &plan, &a, &spikes);
	r = print_json(out, err);
	return r < 0 ? r : (int)cvb_verdict_code(a.verdict);
}

static int ratio_cli(struct cvb_stats_input *in, const struct cvb_stats_conf *c,
		     struct cvb_err *err)
{
	_cleanup_free_ struct cvb_pair *pairs = NULL;
	size_t n = 0;
	int r;

	if ((c->kind == CVB_RULE_ABSOLUTE) != (c->limit > 0))
		return cvb_err_set(err, -EINVAL,
				   "--kind absolute and a --limit above 0 belong together");
	r = check_name("--id", c->id, err);
	if (r == 0)
		r = check_name("--metric", c->metric, err);
	if (r == 0)
		r = cvb_stats_table_read(in, &pairs, &n);
	if (r == 0)
		r = judge_pairs(pairs, n, c, err);
	return r;
}

/* --- describe --------------------------------------------------------------------------------- */

static int read_values(struct cvb_stats_input *in, double **ret, size_t *ret_n)
{
	size_t n = 0, room = 0;
	char *line;
	int r;

	while ((r = cvb_stats_next_line(in, &line)) == 1) {
		if (!*line)
			continue;
		if (n == room) {
			void *more = reallocarray(*ret, room ? 2 * room : 1024, sizeof(**ret));

			if (!more)
				return cvb_err_set(in->err, -ENOMEM, "out of memory at line %zu",
						   in->line);
			*ret = more;
			room = room ? 2 * room : 1024;
		}
		r = cvb_stats_parse_number(in, "value", line, &(*ret)[n]);
		if (r == 0 && !isfinite((*ret)[n]))
			r = cvb_err_set(in->err, -EBADMSG, "%s:%zu: value: %s is not finite",
					in->name, in->line, line);
		if (r < 0)
			return r;
		n++;
	}
	if (r == 0 && !n)
		r = cvb_err_set(in->err, -EBADMSG, "%s is empty: expected one number a line",
				in->name);
	*ret_n = n;
	return r;
}

static int describe_cli(struct cvb_stats_input *in, struct cvb_err *err)
{
	_cleanup_free_ double *x = NULL;
	_cleanup_json_ json_t *out = NULL;
	struct cvb_describe d;
	size_t n = 0;
	int r = read_values(in, &x, &n);

	if (r == 0)
		r = cvb_describe(x, n, &d, err);
	if (r < 0)
		return r;
	out = json_pack("{s:I}", "n", (json_int_t)d.n);
	json_object_set_new(out, "mean", number(d.mean));
	json_object_set_new(out, "sd", number(d.sd));
	json_object_set_new(out, "lag1", number(d.lag1));
	json_object_set_new(out, "median", number(d.median));
	json_object_set_new(out, "mad", number(d.mad));
	json_object_set_new(out, "min", number(d.min));
	json_object_set_new(out, "max", number(d.max));
	return print_json(out, err);
}

/* --- the verb --------------------------------------------------------------------------------- */

static int run(const void *conf, int argc, char **argv, struct cvb_err *err)
{
	static const char *const subjects[] = {"ratio", "describe", "changepoint", NULL};
	const struct cvb_stats_conf *c = conf;
	struct cvb_stats_input in = {.f = stdin, .name = "stdin", .err = err};
	const char *near = argc ? cvb_nearest(argv[0], subjects) : NULL;

	if (argc == 1 && !strcmp(argv[0], "ratio"))
		return ratio_cli(&in, c, err);
	if (argc == 1 && !strcmp(argv[0], "describe"))
		return describe_cli(&in, err);
	if (argc == 1 && !strcmp(argv[0], "changepoint"))
		return cvb_stats_changepoint_cli(&in, c, err);
	return cvb_err_set(err, -EINVAL,
			   "stats: expected one of ratio, describe, changepoint%s%s%s",
			   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static const struct cvb_verb verb = {
	.name = "stats",
	.usage = "ratio|describe|changepoint [OPTION]… < NUMBERS",
	.summary = "judge, describe or segment your own numbers from stdin",
	.details =
		"  ratio        CSV with the header session,round,base,test (columns in any order);\n"
		"               answers one gate as JSON, and its verdict as exit code; looks count\n"
		"               sessions by rising number, or as they come if not all are numbers\n"
		"  describe     one number a line; n, mean, sd, lag1, median, mad as JSON\n"
		"  changepoint  one number a line, oldest first; where the level changed\n",
	.order = 60,
	.opts = opts,
	.conf_size = sizeof(struct cvb_stats_conf),
	.run = run,
};
CVB_VERB(verb);
