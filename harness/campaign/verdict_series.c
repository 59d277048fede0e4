/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verdict on one series: two arms, one metric with one set of params.
 */
#include "campaign/verdict_part.h"
#include "core/util.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#define EXACT_RESOLUTION 1e-9

enum cvb_gate_rule cvb_verdict_rule(const struct cvb_gate *g)
{
	/* a report is judged like the default, and its verdict dropped */
	return g->kind == CVB_GATE_REPORT ? CVB_RULE_NON_INFERIORITY : (enum cvb_gate_rule)g->kind;
}

double cvb_verdict_margin(const struct cvb_gate *g)
{
	return g->kind == CVB_GATE_ABSOLUTE ? 1 : g->margin;
}

/*
 * How well the numbers agree with "the gate holds": of the t part, since it is meant for a family
 * of many.  With several looks each bound is narrower; the p value is scaled by the same factor, so
 * that it is at most .05 wherever the gate fails.  NaN where there was nothing to chance.
 */
static int p_fail(const struct cvb_sessions *s, const struct cvb_gate_plan *plan,
		  const struct cvb_gate_answer *a, double *ret, struct cvb_err *err)
{
	struct cvb_bounds_of above = {
		.alpha = a->alpha, .margin = 1 / plan->margin, .resolution = plan->resolution};
	struct cvb_ratio r;
	int e;

	*ret = a->ratio.p_below_t;
	if (isnan(*ret))
		return 0;
	if (plan->rule == CVB_RULE_EQUIVALENCE) {
		if (plan->margin > 1)
			above.margin = plan->margin;
		e = cvb_sessions_ratio(s, a->ratio.sessions, &above, &r, err);
		if (e < 0)
			return e;
		*ret = r.p_above_t;
		above.margin = 1 / above.margin;
		e = cvb_sessions_ratio(s, a->ratio.sessions, &above, &r, err);
		if (e < 0)
			return e;
		*ret = fmin(*ret, r.p_below_t);
	}
	*ret = fmin(*ret * CVB_GATE_ALPHA / a->alpha, 1);
	return 0;
}

/* The number of the n-th session of the pairs, n from 1. */
static unsigned session_number(const struct cvb_matched *pairs, unsigned n)
{
	for (size_t i = 0; i < pairs->n; i++)
		if ((!i || pairs->v[i].session != pairs->v[i - 1].session) && --n == 0)
			return pairs->v[i].session;
	return UINT_MAX;
}

/*
 * Bounds and verdict of a series' pairs.  -EINVAL with the reason for values that have no ratio.
 * `exact`: a virtual clock's numbers are computed, and that they agree is no lack of resolution.
 */
static int judge_pairs(const struct cvb_judging *c, const struct cvb_gate *g,
		       const struct cvb_model_series *s, struct cvb_matched *pairs, bool exact,
		       struct cvb_judgement *j, struct cvb_err *err)
{
	struct cvb_gate_plan plan = {.rule = cvb_verdict_rule(g),
				     .margin = cvb_verdict_margin(g),
				     .n_looks = g->n_looks,
				     .final = c->m->sessions_complete == c->m->sessions,
				     .resolution = exact ? EXACT_RESOLUTION : 0};
	struct cvb_sessions sessions = {0};
	struct cvb_gate_answer a;
	int r;

	memcpy(plan.looks, g->looks, sizeof(plan.looks));
	for (size_t i = 0; i < pairs->n && g->kind == CVB_GATE_ABSOLUTE; i++)
		pairs->v[i].base = g->limit;
	r = cvb_sessions_make(&sessions, pairs->v, pairs->n, s->better == CVB_LOWER_IS_BETTER,
			      (enum cvb_ratio_estimator)g->estimator, pairs->pairing, err);
	if (r == 0)
		r = cvb_gate_judge(&sessions, &plan, &a, err);
	if (r == 0)
		r = p_fail(&sessions, &plan, &a, &j->p_fail, err);
	cvb_sessions_done(&sessions);
	if (r < 0)
		return r;
	j->ratio = a.ratio;
	j->has_ratio = true;
	j->alpha = a.alpha;
	j->look = a.look;
	j->next_look = a.next_look;
	j->open = a.verdict == CVB_VERDICT_INCONCLUSIVE && a.next_look;
	j->sessions_needed = a.sessions_needed;
	j->last_session = session_number(pairs, a.ratio.sessions);
	return cvb_verdict_decide(j, a.verdict, "%s%s", a.reason,
				  a.ratio.why == CVB_INTERVAL_ONE_SESSION ? ", 5 to certify" : "");
}

/* ---- what the numbers' surroundings say against the verdict that they gave ------------------- */

/* Most sessions of this arm had no steady state: the first one of them decides nothing. */
static bool unsteady(const struct cvb_model_points *p)
{
	return p->sessions_unsteady > p->sessions_steady;
}

/* "the host took CPU time in 3, a CPU was throttled in 1" */
static const char *voided_text(const struct cvb_matched *pairs, char *buf, size_t buf_bytes)
{
	static const char *const what[CVB_DISTURBANCES] = {
		[CVB_DISTURBED_STEAL] = "the host took CPU time in",
		[CVB_DISTURBED_THROTTLE] = "a CPU was throttled in",
		[CVB_DISTURBED_CLOCK] = "clocks disagree on the length of"};
	size_t used = 0;

	buf[0] = '\0';
	for (int d = 1; d < CVB_DISTURBANCES && used < buf_bytes; d++)
		if (pairs->by[d])
			used += (size_t)snprintf(buf + used, buf_bytes - used, "%s%s %u",
						 used ? ", " : "", what[d], pairs->by[d]);
	return buf;
}

static bool decided(const struct cvb_judgement *j)
{
	return j->verdict == CVB_VERDICT_PASS || j->verdict == CVB_VERDICT_FAIL;
}

/*
 * What disturbs a round may belong to the arm: a product whose vCPU is taken away in its slow
 * rounds would pass by having them left out.  A verdict stands only if it is the same with the
 * voided rounds back in (but for those whose clocks are wrong: their values mean nothing).
 */
static int check_voided(const struct cvb_judging *c, const struct cvb_gate *g, int arm, int base,
			bool exact, struct cvb_judgement *j, struct cvb_err *err)
{
	struct cvb_judgement with = {.p_fail = NAN};
	struct cvb_matched all;
	struct cvb_err why = {0};
	char by[160];
	int e = cvb_verdict_match(j->series, base, arm, j->last_session, CVB_MATCH_DISTURBED, &all,
				  err);

	if (e < 0)
		return e;
	e = judge_pairs(c, g, j->series, &all, exact, &with, &why);
	if (e == 0 && with.verdict != j->verdict)
		e = cvb_verdict_decide(
			j, CVB_VERDICT_INCONCLUSIVE,
			"%s without the rounds left out (%s), but %s with them (ratio %.4g, bounds "
			"%.4g to %.4g): the verdict must not depend on them",
			cvb_verdict_names[j->verdict], voided_text(&all, by, sizeof(by)),
			cvb_verdict_names[with.verdict], with.ratio.ratio, with.ratio.lower,
			with.ratio.upper);
	else if (e == -EINVAL)
		e = cvb_verdict_decide(j, CVB_VERDICT_INCONCLUSIVE,
				       "a round that was left out has no value: %s",
				       why.frame[0].msg);
	free(with.reason);
	cvb_matched_done(&all);
	return e;
}

static int check_rounds(const struct cvb_model_series *s, const struct cvb_gate *g, int arm,
			int base, const struct cvb_matched *pairs, struct cvb_judgement *j)
{
	unsigned voided = pairs->voided;
	size_t all = pairs->n + voided;
	char by[160];

	if (voided > CVB_VOIDED_LIMIT * (double)all)
		return cvb_verdict_decide(
			j, CVB_VERDICT_INVALID, "%u of %zu rounds are void (%s): more than %g %%",
			voided, all, voided_text(pairs, by, sizeof(by)), 100 * CVB_VOIDED_LIMIT);
	if ((unsteady(&s->points[arm]) || unsteady(&s->points[base])) && decided(j))
		return cvb_verdict_decide(
			j, CVB_VERDICT_INCONCLUSIVE,
			"no-steady-state: %s still changed its speed when the warm-up was over, in "
			"%u of %u sessions on arm %s and %u of %u on arm %s; raise rounds or "
			"sample_ms, which also lengthens the warm-up",
			s->name, s->points[arm].sessions_unsteady,
			s->points[arm].sessions_unsteady + s->points[arm].sessions_steady, g->arm,
			s->points[base].sessions_unsteady,
			s->points[base].sessions_unsteady + s->points[base].sessions_steady,
			g->base);
	return 0;
}

/* The rules in order; `counted` are the rounds of the sessions that the verdict rests on. */
static int check_surroundings(const struct cvb_judging *c, const struct cvb_gate *g, int arm,
			      int base, bool exact, const struct cvb_matched *counted,
			      struct cvb_judgement *j, struct cvb_err *err)
{
	char by[160];
	int e = 0;

	j->voided = counted->voided;
	if (counted->by[CVB_DISTURBED_STEAL] + counted->by[CVB_DISTURBED_THROTTLE] && decided(j))
		e = check_voided(c, g, arm, base, exact, j, err);
	if (e == 0)
		e = cvb_verdict_check_aa(c, j, base, g, err);
	if (e == 0 && counted->voided)
		e = cvb_verdict_also(j, "%u of %zu rounds are left out (%s)", counted->voided,
				     counted->n + counted->voided,
				     voided_text(counted, by, sizeof(by)));
	return e < 0 ? e : check_rounds(j->series, g, arm, base, counted, j);
}

/* ---- the series ------------------------------------------------------------------------------ */

const char *cvb_verdict_left_out(const struct cvb_model *m, const char *arm, int bench,
				 const char *params)
{
	int a = cvb_model_arm(m, arm);
	const json_t *list = a < 0 || bench < 0 ? NULL : m->benches[bench].cells[a].left_out, *row;
	size_t i;

	json_array_foreach (list, i, row)
		if (cvb_model_left_out_match(json_object_get(row, "params"), params))
			return json_string_value(json_object_get(row, "reason"));
	return NULL;
}

/* Why two arms have no undisturbed round in common. */
static int judge_without_pairs(const struct cvb_judging *c, const struct cvb_gate *g, int arm,
			       int base, const struct cvb_matched *pairs, struct cvb_judgement *j)
{
	const struct cvb_model_series *s = j->series;
	bool have_arm = s->points[arm].n, have_base = s->points[base].n;
	const char *left = NULL, *missing = have_arm ? g->base : g->arm;

	if (pairs->voided)
		return check_rounds(s, g, arm, base, pairs, j);
	if (have_arm && have_base)
		return cvb_verdict_decide(j, CVB_VERDICT_INVALID,
					  "arms %s and %s have no round in common for %s", g->arm,
					  g->base, s->key);
	if (have_arm != have_base)
		left = cvb_verdict_left_out(c->m, missing, (int)s->bench, s->params_key);
	if (left)
		return cvb_verdict_decide(j, CVB_VERDICT_UNSUPPORTED, "%s on arm %s: %s", s->key,
					  missing, left);
	if (have_arm != have_base && c->m->benches[s->bench].sessions_done)
		return cvb_verdict_decide(j, CVB_VERDICT_INVALID, "only arm %s measured %s",
					  have_arm ? g->arm : g->base, s->key);
	return cvb_verdict_decide(j, CVB_VERDICT_INCONCLUSIVE, "no round of %s was completed",
				  s->key);
}

/* A verdict on the rounds that both arms have. */
static int judge_matched(const struct cvb_judging *c, const struct cvb_gate *g, int arm, int base,
			 struct cvb_matched *pairs, struct cvb_judgement *j, struct cvb_err *err)
{
	const struct cvb_model_bench *b = &c->m->benches[j->series->bench];
	bool exact = b->cells[arm].deterministic && b->cells[base].deterministic;
	struct cvb_matched counted;
	struct cvb_err why = {0};
	int e = judge_pairs(c, g, j->series, pairs, exact, j, &why);

	if (e == -EINVAL)
		return cvb_verdict_decide(j, CVB_VERDICT_INVALID,
					  "%s (test is arm %s, base is arm %s)", why.frame[0].msg,
					  g->arm, g->base);
	if (e < 0)
		return e;
	e = cvb_verdict_match(j->series, base, arm, j->last_session, CVB_MATCH_UNDISTURBED,
			      &counted, err);
	if (e < 0)
		return e;
	e = check_surroundings(c, g, arm, base, exact, &counted, j, err);
	cvb_matched_done(&counted);
	return e;
}

int cvb_verdict_series(const struct cvb_judging *c, const struct cvb_model_series *s,
		       const struct cvb_gate *g, struct cvb_judgement *j, struct cvb_err *err)
{
	int arm = cvb_model_arm(c->m, g->arm), base = cvb_model_arm(c->m, g->base);
	struct cvb_matched pairs;
	int e = cvb_verdict_match(s, base, arm, UINT_MAX, CVB_MATCH_UNDISTURBED, &pairs, err);

	*j = (struct cvb_judgement){.series = s, .p_fail = NAN, .last_session = UINT_MAX};
	if (e < 0)
		return e;
	j->voided = pairs.voided;
	j->pairing = pairs.pairing;
	e = pairs.n ? judge_matched(c, g, arm, base, &pairs, j, err)
		    : judge_without_pairs(c, g, arm, base, &pairs, j);
	cvb_matched_done(&pairs);
	return e;
}
