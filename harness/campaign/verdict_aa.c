/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A/A: an arm measured again must not differ from itself, nor be too noisy to tell.
 *
 * One difference among many is bound to look large by chance, so that the intervals of a campaign
 * are simultaneous ones (Bonferroni): the chance that any of them excludes 1 for nothing is at most
 * 2 CVB_AA_ALPHA, whatever the number of series that its gates judge.
 */
#include "campaign/verdict_part.h"
#include "core/stop.h"
#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* A margin of (nearly) 1 leaves no tolerance of its own to hold an A/A deviation against. */
#define LEAST_TOLERANCE 0.01
/* What a decided gate may have of A/A noise, in its tolerances. */
#define DECIDED_TOLERANCES 2
/* An A/A deviation of less says nothing against a gate, however sure it is. */
#define NEGLIGIBLE_TOLERANCES 0.1

/* Does arm `a` measure `base` again in this series? */
static bool measures_again(const struct cvb_model *m, const struct cvb_model_series *s, size_t a,
			   int base)
{
	return m->arms[a].aa_of && s->points[a].n && cvb_model_arm(m, m->arms[a].aa_of) == base;
}

/* ---- the family ------------------------------------------------------------------------------ */

#define ESTIMATORS (CVB_RATIO_MEAN + 1)

static void mark(const struct cvb_model *m, const struct cvb_gate *g, bool *seen, size_t *count)
{
	int base = cvb_model_arm(m, g->base);

	for (size_t i = 0; base >= 0 && i < m->n_series; i++) {
		const struct cvb_model_series *s = m->series[i];

		if (strcmp(s->name, g->metric) != 0 || !cvb_model_params_match(s, g->params))
			continue;
		for (size_t a = 0; a < m->n_arms; a++) {
			bool *at = &seen[(i * m->n_arms + a) * ESTIMATORS + (size_t)g->estimator];

			*count += !*at && measures_again(m, s, a, base);
			*at = true;
		}
	}
}

int cvb_verdict_aa_alpha(const struct cvb_model *m, const struct cvb_gate *gates, size_t n,
			 double *ret, struct cvb_err *err)
{
	_cleanup_free_ bool *seen = calloc(m->n_series * m->n_arms * ESTIMATORS + 1, sizeof(*seen));
	size_t count = 0;

	if (!seen)
		return cvb_err_set(err, -ENOMEM, "out of memory judging %s", m->path);
	for (size_t i = 0; i < n; i++)
		if (gates[i].kind != CVB_GATE_REPORT && gates[i].kind != CVB_GATE_ABSOLUTE)
			mark(m, &gates[i], seen, &count);
	*ret = CVB_AA_ALPHA / (double)cvb_max(count, (size_t)1);
	return 0;
}

static bool excludes_one(const struct cvb_ratio *r)
{
	return r->has_interval && (r->lower > 1 || r->upper < 1);
}

/* ---- one gate -------------------------------------------------------------------------------- */

/* One A/A arm beside one gate. */
struct again {
	const struct cvb_gate *g;
	const char *base, *aa;	       /* names, for messages */
	struct cvb_ratio wide, narrow; /* at the family's alpha, and at CVB_GATE_ALPHA */
	double alpha;
	double tolerance; /* log; of the gate */
};

/* Would the verdict be the same if the arm were `off` (log) worse, or better? */
static bool survives(const struct cvb_judgement *j, const struct again *a, double off)
{
	return cvb_gate_decide(cvb_verdict_rule(a->g), j->ratio.lower * exp(-off),
			       j->ratio.upper * exp(off), cvb_verdict_margin(a->g)) == j->verdict;
}

static bool decided(const struct cvb_judgement *j)
{
	return j->verdict == CVB_VERDICT_PASS || j->verdict == CVB_VERDICT_FAIL;
}

/*
 * The half-width of the A/A arm's two-sided 90 % interval is how far off an arm may come out that
 * is the base itself.  Beyond the gate's tolerance not even that arm could pass, so that an
 * undecided gate says something about the machine, not about the product.  A decided gate has its
 * own interval, of more rounds than the A/A arm's: it stands up to twice that, and wherever the
 * noise could not have made it.
 */
static int check_noise(struct cvb_judgement *j, const struct again *a)
{
	const struct cvb_ratio *r = &a->narrow;
	double half = log(r->upper / r->lower) / 2;
	double limit = (decided(j) ? DECIDED_TOLERANCES : 1) * a->tolerance;

	if (half <= limit || (decided(j) && survives(j, a, half)))
		return 0;
	j->retry = true;
	return cvb_verdict_decide(
		j, CVB_VERDICT_INVALID,
		"too noisy to decide: the 90 %% interval %.4g to %.4g of arm %s measured again (arm "
		"%s) is wider than plus or minus %.2g %%%s",
		r->lower, r->upper, a->base, a->aa, 100 * expm1(limit),
		decided(j) ? ", twice what this gate tolerates" : ", which this gate tolerates");
}

/*
 * Where there is no telling interval: below CVB_AA_FEW_SESSIONS, or without spread.  A deviation
 * beyond `least` voids a PASS or FAIL that would not survive it.
 */
static int check_estimate(struct cvb_judgement *j, const struct again *a, double least)
{
	double off = fabs(a->wide.log_mean);

	if (off <= least)
		return 0;
	if (!decided(j))
		return cvb_verdict_also(j, "the A/A arm %s is off by %.2g %% itself", a->aa,
					100 * expm1(off));
	if (survives(j, a, off))
		return cvb_verdict_also(j, "it stands even with the %.2g %% that A/A arm %s is off",
					100 * expm1(off), a->aa);
	return cvb_verdict_decide(
		j, CVB_VERDICT_INVALID,
		"arm %s measured again (arm %s) is off by %.2g %%%s, and that could have made the "
		"%s",
		a->base, a->aa, 100 * expm1(off),
		least > 0 ? ", more than this gate tolerates" : " in every session",
		cvb_verdict_names[j->verdict]);
}

/* Nothing that matters: all of the interval is within a tenth of the gate's tolerance. */
static bool negligible(const struct again *a)
{
	double least = NEGLIGIBLE_TOLERANCES * a->tolerance;

	return log(a->wide.lower) >= -least && log(a->wide.upper) <= least;
}

static int check_one(struct cvb_judgement *j, const struct again *a)
{
	const struct cvb_ratio *r = &a->wide;

	if (r->why == CVB_INTERVAL_NO_SPREAD)
		return check_estimate(j, a, 0);
	if (excludes_one(r) && !negligible(a)) {
		j->aa_excludes_one = true;
		return cvb_verdict_decide(
			j, CVB_VERDICT_INVALID,
			"arm %s measured again (arm %s) differs from itself: ratio %.6g, %.6g %% "
			"interval %.6g to %.6g excludes 1",
			a->base, a->aa, r->ratio, 100 * (1 - 2 * a->alpha), r->lower, r->upper);
	}
	if (r->sessions < CVB_AA_FEW_SESSIONS || !r->has_interval || !a->narrow.has_interval)
		return check_estimate(j, a, a->tolerance);
	return check_noise(j, a);
}

/* Both intervals of the A/A arm by the gate's own estimator; -EINVAL with a reason. */
static int estimate(struct again *a, const struct cvb_judgement *j, const struct cvb_matched *pairs,
		    struct cvb_err *err)
{
	struct cvb_bounds_of of = {.alpha = a->alpha};
	struct cvb_sessions s = {0};
	int r = cvb_sessions_make(&s, pairs->v, pairs->n, j->series->better == CVB_LOWER_IS_BETTER,
				  (enum cvb_ratio_estimator)a->g->estimator, pairs->pairing, err);

	if (r < 0)
		return r;
	r = cvb_sessions_ratio(&s, s.n, &of, &a->wide, err);
	of.alpha = CVB_GATE_ALPHA;
	if (r == 0)
		r = cvb_sessions_ratio(&s, s.n, &of, &a->narrow, err);
	cvb_sessions_done(&s);
	return r;
}

/*
 * Hold the verdict against one A/A arm.  An arm that is not to be believed itself, or was hardly
 * measured, tells nothing: *ret_told is then false.
 */
static int check_arm(const struct cvb_judging *c, struct cvb_judgement *j, int base, int aa,
		     const struct cvb_gate *g, bool *ret_told, struct cvb_err *err)
{
	const struct cvb_model_bench *b = &c->m->benches[j->series->bench];
	struct again a = {.g = g,
			  .base = c->m->arms[base].name,
			  .aa = c->m->arms[aa].name,
			  .alpha = c->aa_alpha,
			  .tolerance = fmax(fabs(log(cvb_verdict_margin(g))), LEAST_TOLERANCE)};
	struct cvb_judgement distrust = {0};
	struct cvb_err why = {0};
	struct cvb_matched pairs;
	int e = cvb_verdict_side_trusted(c->m, a.aa, (int)j->series->bench, &distrust);

	*ret_told = false;
	if (e == 1 && b->cells[aa].workers != b->cells[base].workers)
		e = 0;
	if (e == 0 && distrust.reason)
		e = cvb_verdict_also(j, "A/A arm %s tells nothing: %s", a.aa, distrust.reason);
	free(distrust.reason);
	if (e != 1)
		return e;
	e = cvb_verdict_match(j->series, base, aa, j->last_session, CVB_MATCH_UNDISTURBED, &pairs,
			      err);
	if (e < 0)
		return e;
	*ret_told = pairs.n && pairs.voided <= CVB_VOIDED_LIMIT * (double)(pairs.n + pairs.voided);
	e = *ret_told ? estimate(&a, j, &pairs, &why) : 0;
	cvb_matched_done(&pairs);
	if (e == -EINVAL)
		return cvb_verdict_decide(j, CVB_VERDICT_INVALID, "A/A arm %s: %s", a.aa,
					  why.frame[0].msg);
	if (e < 0 || !*ret_told)
		return e;
	*ret_told = a.wide.sessions >= cvb_min(j->ratio.sessions, (unsigned)CVB_CERTIFY_SESSIONS);
	return check_one(j, &a);
}

int cvb_verdict_check_aa(const struct cvb_judging *c, struct cvb_judgement *j, int base,
			 const struct cvb_gate *g, struct cvb_err *err)
{
	int e = 0;

	if (g->kind == CVB_GATE_ABSOLUTE)
		return 0;
	j->aa_missing = true;
	for (size_t aa = 0; e == 0 && aa < c->m->n_arms; aa++) {
		bool told = false;

		if (!measures_again(c->m, j->series, aa, base))
			continue;
		e = check_arm(c, j, base, (int)aa, g, &told, err);
		j->aa_missing = j->aa_missing && !told;
		if (j->verdict == CVB_VERDICT_INVALID)
			break;
	}
	return e;
}

/* ---- "aa" of the document -------------------------------------------------------------------- */

static json_t *aa_json(const struct cvb_model *m, const struct cvb_model_series *worst,
		       const struct cvb_ratio *r, int base, int aa, unsigned series,
		       unsigned excluded, double alpha)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:O?, s:i, s:i}", "arm", m->arms[aa].name, "base",
			      m->arms[base].name, "metric", worst->name, "params", worst->params,
			      "series", (int)series, "series_excluding_one", (int)excluded);

	json_object_set_new(o, "ratio", cvb_verdict_number(r->ratio));
	json_object_set_new(o, "lower", cvb_verdict_number(r->lower));
	json_object_set_new(o, "upper", cvb_verdict_number(r->upper));
	json_object_set_new(o, "confidence", json_real(1 - 2 * alpha));
	json_object_set_new(o, "sessions", json_integer(r->sessions));
	json_object_set_new(o, "rounds", json_integer(r->rounds));
	json_object_set_new(o, "excludes_one", json_boolean(excludes_one(r)));
	return o;
}

#define LAST SIZE_MAX

/* The series of one metric: `first`, then next[first] and so on; NULL without a common round. */
static json_t *aa_metric(const struct cvb_model *m, size_t first, const size_t *next, int base,
			 int aa, double alpha)
{
	const struct cvb_model_series *worst = NULL;
	struct cvb_ratio worst_ratio = {0};
	unsigned series = 0, excluded = 0;
	bool worst_excludes = false;

	for (size_t i = first; i != LAST; i = next[i]) {
		const struct cvb_model_series *s = m->series[i];
		struct cvb_ratio r;

		if (!cvb_verdict_ratio(s, base, aa, alpha, &r))
			continue;

		bool excludes = excludes_one(&r);

		series++;
		excluded += excludes;
		if (!worst || (excludes && !worst_excludes) ||
		    (excludes == worst_excludes && fabs(r.log_mean) > fabs(worst_ratio.log_mean))) {
			worst = s;
			worst_ratio = r;
			worst_excludes = excludes;
		}
	}
	return worst ? aa_json(m, worst, &worst_ratio, base, aa, series, excluded, alpha) : NULL;
}

/* Chain the series of each metric; begins[i]: series i is its metric's first. */
static int chain(const struct cvb_model *m, size_t *next, bool *begins)
{
	_cleanup_json_ json_t *latest = json_object(); /* metric -> index of its latest series */

	for (size_t i = 0; i < m->n_series; i++) {
		const char *name = m->series[i]->name;
		const json_t *before = json_object_get(latest, name);

		next[i] = LAST;
		begins[i] = !before;
		if (before)
			next[json_integer_value(before)] = i;
		if (json_object_set_new(latest, name, json_integer((json_int_t)i)) < 0)
			return -ENOMEM;
	}
	return 0;
}

int cvb_verdict_aa(const struct cvb_model *m, double alpha, json_t *list, struct cvb_err *err)
{
	_cleanup_free_ size_t *next = calloc(m->n_series + 1, sizeof(*next));
	_cleanup_free_ bool *begins = calloc(m->n_series + 1, sizeof(*begins));
	int r = next && begins ? chain(m, next, begins) : -ENOMEM;

	for (size_t aa = 0; r == 0 && aa < m->n_arms; aa++) {
		int base = m->arms[aa].aa_of ? cvb_model_arm(m, m->arms[aa].aa_of) : -1;

		for (size_t i = 0; r == 0 && base >= 0 && i < m->n_series; i++) {
			json_t *o = begins[i] ? aa_metric(m, i, next, base, (int)aa, alpha) : NULL;

			if (o)
				r = json_array_append_new(list, o) < 0 ? -ENOMEM : 0;
			if (r == 0 && cvb_stop_requested())
				return cvb_err_set(err, -EINTR, "interrupted while judging %s",
						   m->path);
		}
	}
	return r < 0 ? cvb_err_set(err, -ENOMEM, "out of memory judging %s", m->path) : 0;
}
