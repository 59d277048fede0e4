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

/* The number of the n-th session of the pairs, n from 1. */
static unsigned session_number(const struct cvb_matched *pairs, unsigned n)
{
	for (size_t i = 0; i < pairs->n; i++)
		if ((!i || pairs->v[i].session != pairs->v[i - 1].session) && --n == 0)
			return pairs->v[i].session;
	return UINT_MAX;
}

/* Distinct sessions of the pairs. */
static unsigned count_sessions(const struct cvb_matched *pairs)
{
	unsigned n = 0;

	for (size_t i = 0; i < pairs->n; i++)
		n += !i || pairs->v[i].session != pairs->v[i - 1].session;
	return n;
}

/* What a series is judged by: two arms, a gate, and one look at it. */
struct look {
	const struct cvb_judging *c;
	const struct cvb_model_series *s;
	const struct cvb_gate *g;
	int arm, base;
	bool exact; /* a virtual clock's numbers: that they agree is no lack of resolution */
	struct cvb_gate_plan plan;
};

/*
 * Bounds and verdict of a look's pairs, which become those of an absolute gate.  -EINVAL with the
 * reason for values that have no ratio.
 */
static int judge_pairs(const struct look *l, struct cvb_matched *pairs, struct cvb_judgement *j,
		       struct cvb_err *err)
{
	struct cvb_sessions sessions = {0};
	struct cvb_gate_answer a;
	int r;

	for (size_t i = 0; i < pairs->n && l->g->kind == CVB_GATE_ABSOLUTE; i++)
		pairs->v[i].base = l->g->limit;
	r = cvb_sessions_make(&sessions, pairs->v, pairs->n, l->s->better == CVB_LOWER_IS_BETTER,
			      (enum cvb_ratio_estimator)l->g->estimator, pairs->pairing, err);
	if (r == 0)
		r = cvb_gate_judge(&sessions, &l->plan, &a, err);
	cvb_sessions_done(&sessions);
	if (r < 0)
		return r;
	j->ratio = a.ratio;
	j->has_ratio = true;
	j->alpha = a.alpha;
	j->p_fail = a.p_fail_family;
	j->next_look = a.next_look;
	j->open = a.verdict == CVB_VERDICT_INCONCLUSIVE && a.next_look;
	j->sessions_needed = a.sessions_needed;
	return cvb_verdict_decide(j, a.verdict, "%s%s", a.reason,
				  a.ratio.why == CVB_INTERVAL_ONE_SESSION ? ", 5 to certify" : "");
}

/* ---- what the numbers' surroundings say against the verdict that they gave ------------------- */

/* Most sessions of this arm had no steady state: the first one of them decides nothing. */
static bool unsteady(const struct cvb_model_points *p)
{
	return 2 * p->sessions_unsteady > p->sessions;
}

/* "the host took CPU time in 3, a CPU or the GPU was throttled in 1" */
static const char *voided_text(const struct cvb_matched *pairs, char *buf, size_t buf_bytes)
{
	static const char *const what[CVB_DISTURBANCES] = {
		[CVB_DISTURBED_STEAL] = "the host took CPU time in",
		[CVB_DISTURBED_THROTTLE] = "a CPU or the GPU was throttled in",
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
static int check_voided(const struct look *l, struct cvb_judgement *j, struct cvb_err *err)
{
	struct cvb_judgement with = {.p_fail = NAN};
	struct cvb_matched all;
	struct cvb_err why = {0};
	char by[160];
	int e = cvb_verdict_match(l->s, l->base, l->arm, j->last_session, CVB_MATCH_DISTURBED, &all,
				  err);

	if (e < 0)
		return e;
	e = judge_pairs(l, &all, &with, &why);
	j->retry = e == -EINVAL || (e == 0 && with.verdict != j->verdict);
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

/* More than CVB_VOIDED_LIMIT of the rounds are void: 1, and the verdict says so; 0; -ENOMEM. */
static int check_share_voided(const struct cvb_matched *pairs, struct cvb_judgement *j)
{
	size_t all = pairs->n + pairs->voided;
	char by[160];

	if (pairs->voided <= CVB_VOIDED_LIMIT * (double)all)
		return 0;
	j->retry = true;
	if (cvb_verdict_decide(j, CVB_VERDICT_INVALID,
			       "%u of %zu rounds are void (%s): more than %g %%", pairs->voided,
			       all, voided_text(pairs, by, sizeof(by)), 100 * CVB_VOIDED_LIMIT) < 0)
		return -ENOMEM;
	return 1;
}

static int check_steady(const struct look *l, struct cvb_judgement *j)
{
	const struct cvb_model_points *a = &l->s->points[l->arm], *b = &l->s->points[l->base];

	j->no_steady_state = unsteady(a) || unsteady(b);
	if (!j->no_steady_state)
		return 0;
	if (j->verdict == CVB_VERDICT_INCONCLUSIVE)
		return cvb_verdict_also(j,
					"no-steady-state in %u of %u sessions on arm %s and %u "
					"of %u on arm %s",
					a->sessions_unsteady, a->sessions, l->g->arm,
					b->sessions_unsteady, b->sessions, l->g->base);
	if (!decided(j))
		return 0;
	return cvb_verdict_decide(
		j, CVB_VERDICT_INCONCLUSIVE,
		"no-steady-state: %s still changed its speed when the warm-up was over, in "
		"%u of %u sessions on arm %s and %u of %u on arm %s; raise rounds or "
		"sample_ms, which also lengthens the warm-up",
		l->s->name, a->sessions_unsteady, a->sessions, l->g->arm, b->sessions_unsteady,
		b->sessions, l->g->base);
}

/* The rules in order; `counted` are the rounds of the sessions that the verdict rests on. */
static int check_surroundings(const struct look *l, const struct cvb_matched *counted,
			      struct cvb_judgement *j, struct cvb_err *err)
{
	char by[160];
	int e = 0;

	if (counted->by[CVB_DISTURBED_STEAL] + counted->by[CVB_DISTURBED_THROTTLE] && decided(j))
		e = check_voided(l, j, err);
	if (e == 0)
		e = cvb_verdict_check_aa(l->c, j, l->base, l->g, err);
	if (e == 0 && counted->voided)
		e = cvb_verdict_also(j, "%u of %zu rounds are left out (%s)", counted->voided,
				     counted->n + counted->voided,
				     voided_text(counted, by, sizeof(by)));
	if (e == 0)
		e = check_share_voided(counted, j);
	if (e == 0)
		e = check_steady(l, j);
	return cvb_min(e, 0);
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
		return cvb_min(check_share_voided(pairs, j), 0);
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

/* One look: verdict and surroundings of the sessions up to `last_session`, nothing later. */
static int judge_at(const struct look *l, unsigned last_session, struct cvb_judgement *j,
		    struct cvb_err *err)
{
	struct cvb_matched pairs;
	struct cvb_err why = {0};
	int e = cvb_verdict_match(l->s, l->base, l->arm, last_session, CVB_MATCH_UNDISTURBED,
				  &pairs, err);

	if (e < 0)
		return e;
	free(j->reason);
	*j = (struct cvb_judgement){.series = l->s,
				    .p_fail = NAN,
				    .last_session = last_session,
				    .voided = pairs.voided,
				    .pairing = pairs.pairing};
	e = judge_pairs(l, &pairs, j, &why);
	if (e == 0)
		e = check_surroundings(l, &pairs, j, err);
	else if (e == -EINVAL)
		e = cvb_verdict_decide(j, CVB_VERDICT_INVALID,
				       "%s (test is arm %s, base is arm %s)", why.frame[0].msg,
				       l->g->arm, l->g->base);
	cvb_matched_done(&pairs);
	return e;
}

/*
 * Hold the planned looks in order, each over the sessions up to it.  The first one that decides
 * stands.  One that only bad luck keeps from deciding (`retry`: disturbed rounds, a noisy A/A arm)
 * leaves the gate to the next look.
 */
static int judge_looks(struct look *l, const struct cvb_matched *all, struct cvb_judgement *j,
		       struct cvb_err *err)
{
	const struct cvb_gate *g = l->g;
	unsigned have = count_sessions(all), held = 0;
	const struct cvb_gate_plan whole = l->plan;
	int e = 0;

	l->plan.alpha = cvb_gate_alpha(&whole);
	l->plan.n_looks = 1;
	l->plan.final = false;
	j->retry = true; /* no look was held yet */
	for (unsigned i = 0, before = 0; e == 0 && i < g->n_looks; i++) {
		unsigned n = g->looks[i] <= have			 ? g->looks[i]
			     : whole.final && have > cvb_max(before, 1U) ? have
									 : 0;

		if (!n) {
			j->next_look = whole.final ? 0 : g->looks[i];
			break;
		}
		before = n;
		held = i;
		l->plan.looks[0] = n;
		e = judge_at(l, session_number(all, n), j, err);
		j->next_look = 0;
		if (decided(j) || (j->verdict != CVB_VERDICT_INCONCLUSIVE && !j->retry))
			return e;
	}
	/* looks before the last one are over, whatever kept them from deciding */
	l->plan = whole;
	l->plan.alpha = cvb_gate_alpha(&whole);
	l->plan.n_looks -= held;
	memmove(l->plan.looks, l->plan.looks + held, l->plan.n_looks * sizeof(*l->plan.looks));
	if (e == 0 && (!j->has_ratio || !j->retry)) {
		unsigned next = j->next_look;

		/* undecided: show all there is */
		e = judge_at(l, UINT_MAX, j, err);
		j->next_look = next;
	}
	j->open = j->next_look > 0;
	return e;
}

int cvb_verdict_series(const struct cvb_judging *c, const struct cvb_model_series *s,
		       const struct cvb_gate *g, struct cvb_judgement *j, struct cvb_err *err)
{
	int arm = cvb_model_arm(c->m, g->arm), base = cvb_model_arm(c->m, g->base);
	const struct cvb_model_bench *b = &c->m->benches[s->bench];
	struct look l = {.c = c, .s = s, .g = g, .arm = arm, .base = base};
	struct cvb_matched pairs;
	int e = cvb_verdict_match(s, base, arm, UINT_MAX, CVB_MATCH_UNDISTURBED, &pairs, err);

	*j = (struct cvb_judgement){.series = s, .p_fail = NAN, .last_session = UINT_MAX};
	if (e < 0)
		return e;
	l.exact = b->cells[arm].deterministic && b->cells[base].deterministic;
	l.plan = (struct cvb_gate_plan){.rule = cvb_verdict_rule(g),
					.margin = cvb_verdict_margin(g),
					.n_looks = g->n_looks,
					.final = c->m->sessions_complete == c->m->sessions,
					.resolution = l.exact ? EXACT_RESOLUTION : 0};
	memcpy(l.plan.looks, g->looks, sizeof(l.plan.looks));
	j->voided = pairs.voided;
	j->pairing = pairs.pairing;
	if (!pairs.n)
		e = judge_without_pairs(c, g, arm, base, &pairs, j);
	else if (g->n_looks)
		e = judge_looks(&l, &pairs, j, err);
	else
		e = judge_at(&l, UINT_MAX, j, err);
	cvb_matched_done(&pairs);
	return e;
}
