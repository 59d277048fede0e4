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

/* ---- the family ------------------------------------------------------------------------------ */

static void mark(const struct cvb_model *m, const struct cvb_gate *g, bool *seen, size_t *count)
{
	int base = cvb_model_arm(m, g->base);

	for (size_t i = 0; base >= 0 && i < m->n_series; i++) {
		const struct cvb_model_series *s = m->series[i];
		bool *at = &seen[i * m->n_arms + (size_t)base];

		if (*at || strcmp(s->name, g->metric) != 0 ||
		    !cvb_model_params_match(s, g->params) || cvb_model_aa_arm(m, s, base) < 0)
			continue;
		*at = true;
		++*count;
	}
}

int cvb_verdict_aa_alpha(const struct cvb_model *m, const struct cvb_gate *gates, size_t n,
			 double *ret, struct cvb_err *err)
{
	_cleanup_free_ bool *seen = calloc(m->n_series * m->n_arms + 1, sizeof(*seen));
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

/* The planned look after `sessions` sessions; 0: none. */
static unsigned next_look(const struct cvb_gate *g, unsigned sessions)
{
	for (unsigned i = 0; i < g->n_looks; i++)
		if (g->looks[i] > sessions)
			return g->looks[i];
	return 0;
}

/* Both arms' names, for messages. */
struct names {
	const char *base, *aa;
};

/*
 * From CVB_AA_FEW_SESSIONS on.  The half-width of the A/A arm's two-sided 90 % interval is how far
 * off an arm may come out that is the base itself.  Beyond the gate's tolerance not even that arm
 * could pass, so that an undecided gate says something about the machine, not about the product.  A
 * decided gate has its own interval, of more rounds than the A/A arm's: it stands up to twice that.
 */
static int check_noise(struct cvb_judgement *j, const struct cvb_gate *g, const struct cvb_ratio *r,
		       double tolerance, const struct names *names)
{
	bool decided = j->verdict == CVB_VERDICT_PASS || j->verdict == CVB_VERDICT_FAIL;
	double half = r->has_interval ? log(r->upper / r->lower) / 2 : 0;

	if (half <= (decided ? DECIDED_TOLERANCES : 1) * tolerance)
		return 0;
	/* more sessions make it narrower */
	j->next_look = decided ? 0 : next_look(g, r->sessions);
	j->open = j->next_look > 0;
	return cvb_verdict_decide(
		j, CVB_VERDICT_INVALID,
		"too noisy to decide: the 90 %% interval %.4g to %.4g of arm %s measured again (arm "
		"%s) is wider than plus or minus %.2g %%%s",
		r->lower, r->upper, names->base, names->aa,
		100 * tolerance * (decided ? DECIDED_TOLERANCES : 1),
		decided ? ", twice what this gate tolerates" : ", which this gate tolerates");
}

/*
 * Below CVB_AA_FEW_SESSIONS the interval is too wide to exclude anything; then a deviation larger
 * than the gate's own tolerance voids a PASS or FAIL that would not survive it.
 */
static int check_estimate(struct cvb_judgement *j, const struct cvb_gate *g,
			  const struct cvb_ratio *r, double tolerance, const struct names *names)
{
	double off = fabs(r->log_mean);

	if (off <= tolerance)
		return 0;
	if (j->verdict == CVB_VERDICT_INCONCLUSIVE)
		return cvb_verdict_also(j, "the A/A arm %s is off by %.2g %% itself", names->aa,
					100 * expm1(off));
	if (cvb_gate_decide(cvb_verdict_rule(g), j->ratio.lower * exp(-off),
			    j->ratio.upper * exp(off), cvb_verdict_margin(g)) == j->verdict)
		return cvb_verdict_also(j, "it stands even with the %.2g %% that A/A arm %s is off",
					100 * expm1(off), names->aa);
	return cvb_verdict_decide(
		j, CVB_VERDICT_INVALID,
		"arm %s measured again (arm %s) is off by %.2g %%, more than this gate tolerates, "
		"and that could have made the %s",
		names->base, names->aa, 100 * expm1(off), cvb_verdict_names[j->verdict]);
}

static int differs(struct cvb_judgement *j, const struct cvb_ratio *r, double alpha,
		   const struct names *names)
{
	j->aa_excludes_one = true;
	return cvb_verdict_decide(
		j, CVB_VERDICT_INVALID,
		"arm %s measured again (arm %s) differs from itself: ratio %.4g, %.6g %% interval "
		"%.4g to %.4g excludes 1",
		names->base, names->aa, r->ratio, 100 * (1 - 2 * alpha), r->lower, r->upper);
}

int cvb_verdict_check_aa(const struct cvb_judging *c, struct cvb_judgement *j, int base,
			 const struct cvb_gate *g, struct cvb_err *err)
{
	int aa = g->kind == CVB_GATE_ABSOLUTE ? -1 : cvb_model_aa_arm(c->m, j->series, base), e;
	const struct names names = {c->m->arms[base].name, aa < 0 ? NULL : c->m->arms[aa].name};
	bool lower_is_better = j->series->better == CVB_LOWER_IS_BETTER;
	double tolerance = fmax(fabs(log(cvb_verdict_margin(g))), LEAST_TOLERANCE);
	struct cvb_ratio wide, narrow;
	struct cvb_matched pairs;
	struct cvb_err why = {0};

	j->aa_missing = g->kind != CVB_GATE_ABSOLUTE;
	if (aa < 0)
		return 0;
	e = cvb_verdict_match(j->series, base, aa, j->last_session, CVB_MATCH_UNDISTURBED, &pairs,
			      err);
	if (e < 0)
		return e;
	j->aa_missing = !pairs.n;
	if (pairs.n)
		e = cvb_ratio_paired(pairs.v, pairs.n, lower_is_better, c->aa_alpha, &wide, &why);
	if (e == 0 && pairs.n)
		e = cvb_ratio_paired(pairs.v, pairs.n, lower_is_better, CVB_GATE_ALPHA, &narrow,
				     &why);
	cvb_matched_done(&pairs);
	if (j->aa_missing)
		return 0;
	if (e < 0)
		return cvb_verdict_decide(j, CVB_VERDICT_INVALID, "A/A arm %s: %s", names.aa,
					  why.frame[0].msg);
	if (excludes_one(&wide))
		return differs(j, &wide, c->aa_alpha, &names);
	return wide.sessions >= CVB_AA_FEW_SESSIONS
		       ? check_noise(j, g, &narrow, tolerance, &names)
		       : check_estimate(j, g, &wide, tolerance, &names);
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
