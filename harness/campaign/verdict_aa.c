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

			*count += !*at && cvb_verdict_measures_again(m, s, a, base);
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

/* One A/A arm beside one verdict. */
struct beside {
	const struct cvb_again *again;
	enum cvb_gate_rule rule;
	double margin;
	double tolerance; /* log; of the gate */
};

/* Would the verdict be the same if the arm were `off` (log) worse, or better? */
static bool survives(const struct cvb_judgement *j, const struct beside *x, double off)
{
	return cvb_gate_decide(x->rule, j->ratio.lower * exp(-off), j->ratio.upper * exp(off),
			       x->margin) == j->verdict;
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
static int check_noise(struct cvb_judgement *j, const struct beside *x)
{
	const struct cvb_ratio *r = &x->again->narrow;
	double half = log(r->upper / r->lower) / 2;
	double limit = (decided(j) ? DECIDED_TOLERANCES : 1) * x->tolerance;

	if (half <= limit || (decided(j) && survives(j, x, half)))
		return 0;
	j->retry = true;
	return cvb_verdict_decide(
		j, CVB_VERDICT_INVALID,
		"too noisy to decide: the 90 %% interval %.4g to %.4g of arm %s measured again (arm "
		"%s) is wider than plus or minus %.2g %%%s",
		r->lower, r->upper, x->again->base, x->again->aa, 100 * expm1(limit),
		decided(j) ? ", twice what the margin tolerates" : ", which the margin tolerates");
}

/*
 * Where there is no telling interval: below CVB_AA_FEW_SESSIONS, or without spread.  A deviation
 * beyond `least` voids a PASS or FAIL that would not survive it.
 */
static int check_estimate(struct cvb_judgement *j, const struct beside *x, double least)
{
	double off = fabs(x->again->wide.log_mean);

	if (off <= least)
		return 0;
	if (!decided(j))
		return cvb_verdict_also(j, "the A/A arm %s is off by %.2g %% itself", x->again->aa,
					100 * expm1(off));
	if (survives(j, x, off))
		return cvb_verdict_also(j, "it stands even with the %.2g %% that A/A arm %s is off",
					100 * expm1(off), x->again->aa);
	return cvb_verdict_decide(
		j, CVB_VERDICT_INVALID,
		"arm %s measured again (arm %s) is off by %.2g %%%s, and that could have made the "
		"%s",
		x->again->base, x->again->aa, 100 * expm1(off),
		least > 0 ? ", more than the margin tolerates" : " in every session",
		cvb_verdict_names[j->verdict]);
}

/* Nothing that matters: all of the interval is within a tenth of the gate's tolerance. */
static bool negligible(const struct beside *x)
{
	double least = NEGLIGIBLE_TOLERANCES * x->tolerance;

	return log(x->again->wide.lower) >= -least && log(x->again->wide.upper) <= least;
}

int cvb_verdict_hold(struct cvb_judgement *j, enum cvb_gate_rule rule, double margin,
		     const struct cvb_again *again)
{
	const struct beside x = {.again = again,
				 .rule = rule,
				 .margin = margin,
				 .tolerance = fmax(fabs(log(margin)), LEAST_TOLERANCE)};
	const struct cvb_ratio *r = &again->wide;

	if (r->why == CVB_INTERVAL_NO_SPREAD)
		return check_estimate(j, &x, 0);
	if (excludes_one(r) && !negligible(&x)) {
		j->aa_excludes_one = true;
		return cvb_verdict_decide(
			j, CVB_VERDICT_INVALID,
			"arm %s measured again (arm %s) differs from itself: ratio %.6g, %.6g %% "
			"interval %.6g to %.6g excludes 1",
			again->base, again->aa, r->ratio, 100 * (1 - 2 * again->alpha), r->lower,
			r->upper);
	}
	if (r->sessions < CVB_AA_FEW_SESSIONS || !r->has_interval || !again->narrow.has_interval)
		return check_estimate(j, &x, x.tolerance);
	return check_noise(j, &x);
}

/* Both intervals of the A/A arm; -EINVAL with a reason. */
static int estimate(struct cvb_again *a, const struct cvb_matched *pairs, bool lower_is_better,
		    enum cvb_ratio_estimator estimator, struct cvb_err *err)
{
	struct cvb_bounds_of of = {.alpha = a->alpha};
	struct cvb_sessions s = {0};
	int r = cvb_sessions_make(&s, pairs->v, pairs->n, lower_is_better, estimator,
				  pairs->pairing, err);

	if (r < 0)
		return r;
	r = cvb_sessions_ratio(&s, s.n, &of, &a->wide, err);
	of.alpha = CVB_GATE_ALPHA;
	if (r == 0)
		r = cvb_sessions_ratio(&s, s.n, &of, &a->narrow, err);
	cvb_sessions_done(&s);
	return r;
}

int cvb_verdict_again(const struct cvb_model *m, const struct cvb_again_of *of,
		      struct cvb_again *ret, char **ret_distrust, struct cvb_err *err)
{
	const struct cvb_model_series *s = of->series;
	const struct cvb_model_cell *cells = m->benches[s->bench].cells;
	struct cvb_judgement distrust = {0};
	struct cvb_matched pairs;
	int e = cvb_verdict_side_trusted(m, m->arms[of->aa].name, (int)s->bench, &distrust);

	*ret = (struct cvb_again){
		.base = m->arms[of->base].name, .aa = m->arms[of->aa].name, .alpha = of->alpha};
	*ret_distrust = distrust.reason;
	if (e == -ENOMEM)
		return cvb_err_set(err, e, "out of memory judging %s", m->path);
	if (e != 1 || cells[of->aa].workers != cells[of->base].workers)
		return 0;
	e = cvb_verdict_match(s, of->base, of->aa, of->last_session, CVB_MATCH_UNDISTURBED, &pairs,
			      err);
	if (e < 0)
		return e;
	if (pairs.n && pairs.voided <= CVB_VOIDED_LIMIT * (double)(pairs.n + pairs.voided)) {
		e = estimate(ret, &pairs, s->better == CVB_LOWER_IS_BETTER, of->estimator, err);
		e = e < 0 ? e : 1;
	}
	cvb_matched_done(&pairs);
	return e;
}

bool cvb_verdict_measures_again(const struct cvb_model *m, const struct cvb_model_series *s,
				size_t a, int base)
{
	return m->arms[a].aa_of && s->points[a].n && cvb_model_arm(m, m->arms[a].aa_of) == base;
}

/*
 * Hold the verdict against one A/A arm.  An arm that is not to be believed itself, or was hardly
 * measured, tells nothing: *ret_told is then false.
 */
static int check_arm(const struct cvb_judging *c, struct cvb_judgement *j, int base, int aa,
		     const struct cvb_gate *g, bool *ret_told, struct cvb_err *err)
{
	const struct cvb_again_of of = {.series = j->series,
					.base = base,
					.aa = aa,
					.estimator = (enum cvb_ratio_estimator)g->estimator,
					.last_session = j->last_session,
					.alpha = c->aa_alpha};
	_cleanup_free_ char *distrust = NULL;
	struct cvb_again again;
	struct cvb_err why = {0};
	int e = cvb_verdict_again(c->m, &of, &again, &distrust, &why);

	*ret_told = e == 1 || e == -EINVAL;
	if (e == -EINVAL)
		return cvb_verdict_decide(j, CVB_VERDICT_INVALID, "A/A arm %s: %s", again.aa,
					  why.frame[0].msg);
	if (e < 0 && err)
		*err = why;
	if (e == 0 && distrust)
		e = cvb_verdict_also(j, "A/A arm %s tells nothing: %s", again.aa, distrust);
	if (e != 1)
		return e;
	*ret_told =
		again.wide.sessions >= cvb_min(j->ratio.sessions, (unsigned)CVB_CERTIFY_SESSIONS);
	return cvb_verdict_hold(j, cvb_verdict_rule(g), cvb_verdict_margin(g), &again);
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

		if (!cvb_verdict_measures_again(c->m, j->series, aa, base))
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
