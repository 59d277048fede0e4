/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/verdict.h"

#include "campaign/verdict_part.h"
#include "core/opt.h"
#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#define EXACT_RESOLUTION 1e-9
/* A margin of (nearly) 1 leaves no tolerance of its own to hold an A/A deviation against. */
#define AA_LEAST_TOLERANCE 0.01

int cvb_verdict_decide(struct cvb_judgement *j, enum cvb_verdict verdict, const char *fmt, ...)
{
	va_list ap;

	free(j->reason);
	va_start(ap, fmt);
	if (vasprintf(&j->reason, fmt, ap) < 0)
		j->reason = NULL;
	va_end(ap);
	j->verdict = verdict;
	return j->reason ? 0 : -ENOMEM;
}

/* The rule of a gate; a report is judged like the default, and its verdict dropped. */
static enum cvb_gate_rule rule_of(const struct cvb_gate *g)
{
	return g->kind == CVB_GATE_REPORT ? CVB_RULE_NON_INFERIORITY : (enum cvb_gate_rule)g->kind;
}

double cvb_verdict_margin(const struct cvb_gate *g)
{
	return g->kind == CVB_GATE_ABSOLUTE ? 1 : g->margin;
}

/*
 * How well the numbers agree with "the gate holds".  With several looks each bound is narrower; the
 * p value is scaled by the same factor, so that it is below .05 just where the gate fails.
 */
static int p_fail(const struct cvb_sessions *s, const struct cvb_gate_plan *plan,
		  const struct cvb_gate_answer *a, double *ret, struct cvb_err *err)
{
	struct cvb_bounds_of above = {
		.alpha = a->alpha, .margin = 1 / plan->margin, .resolution = plan->resolution};
	struct cvb_ratio r;
	int e;

	*ret = a->ratio.p_below;
	if (plan->rule == CVB_RULE_EQUIVALENCE) {
		if (plan->margin > 1)
			above.margin = plan->margin;
		e = cvb_sessions_ratio(s, a->ratio.sessions, &above, &r, err);
		if (e < 0)
			return e;
		*ret = r.p_above;
		above.margin = 1 / above.margin;
		e = cvb_sessions_ratio(s, a->ratio.sessions, &above, &r, err);
		if (e < 0)
			return e;
		*ret = fmin(*ret, r.p_below);
	}
	*ret = fmin(*ret * CVB_GATE_ALPHA / a->alpha, 1);
	return 0;
}

/* Bounds and verdict of a series' pairs.  -EINVAL with the reason for values that have no ratio. */
static int judge_pairs(const struct cvb_gate *g, const struct cvb_model_series *s,
		       struct cvb_matched *pairs, bool exact, struct cvb_judgement *j,
		       struct cvb_err *err)
{
	/* a virtual clock's numbers are computed: that they agree is no lack of resolution */
	struct cvb_gate_plan plan = {.rule = rule_of(g),
				     .margin = cvb_verdict_margin(g),
				     .n_looks = g->n_looks,
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
	return cvb_verdict_decide(j, a.verdict, "%s%s", a.reason,
				  a.ratio.why == CVB_INTERVAL_ONE_SESSION ? ", 5 to certify" : "");
}

/* Add to the reason that is there.  0 or -ENOMEM. */
static int CVB_PRINTF(2, 3) also(struct cvb_judgement *j, const char *fmt, ...)
{
	_cleanup_free_ char *before = CVB_TAKE(j->reason);
	_cleanup_free_ char *more = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&more, fmt, ap) < 0)
		more = NULL;
	va_end(ap);
	return more ? cvb_verdict_decide(j, j->verdict, "%s; %s", before, more) : -ENOMEM;
}

/* The planned look after `sessions` sessions; 0: none. */
static unsigned next_look(const struct cvb_gate *g, unsigned sessions)
{
	for (unsigned i = 0; i < g->n_looks; i++)
		if (g->looks[i] > sessions)
			return g->looks[i];
	return 0;
}

/*
 * Hold the verdict against the A/A arm.  Its 99 % interval excluding 1 voids the gate.  With few
 * sessions that interval is too wide to ever do so; then a deviation larger than the gate's own
 * tolerance voids a PASS or FAIL that would not survive it.
 */
static int check_aa(const struct cvb_model *m, struct cvb_judgement *j, int base,
		    const struct cvb_gate *g, struct cvb_err *err)
{
	int aa = g->kind == CVB_GATE_ABSOLUTE ? -1 : cvb_model_aa_arm(m, j->series, base);
	double margin = cvb_verdict_margin(g),
	       tolerance = fmax(fabs(1 - margin), AA_LEAST_TOLERANCE);
	struct cvb_err why = {0};
	struct cvb_matched pairs;
	struct cvb_ratio r;
	int e;

	if (aa < 0) {
		j->aa_missing = g->kind != CVB_GATE_ABSOLUTE;
		return 0;
	}
	e = cvb_verdict_match(j->series, base, aa, &pairs, err);
	if (e < 0)
		return e;
	j->aa_missing = !pairs.n;
	e = pairs.n ? cvb_ratio_paired(pairs.v, pairs.n, j->series->better == CVB_LOWER_IS_BETTER,
				       CVB_AA_ALPHA, &r, &why)
		    : 0;
	cvb_matched_done(&pairs);
	if (j->aa_missing)
		return 0;
	if (e < 0)
		return cvb_verdict_decide(j, CVB_VERDICT_INVALID, "A/A arm %s: %s",
					  m->arms[aa].name, why.frame[0].msg);
	if (r.has_interval && (r.lower > 1 || r.upper < 1)) {
		j->aa_excludes_one = true;
		return cvb_verdict_decide(
			j, CVB_VERDICT_INVALID,
			"arm %s measured again (arm %s) differs from itself: ratio %.4g, 99 %% "
			"interval %.4g to %.4g excludes 1",
			m->arms[base].name, m->arms[aa].name, r.ratio, r.lower, r.upper);
	}

	if (r.has_interval && r.sessions >= CVB_AA_FEW_SESSIONS && r.upper - r.lower > tolerance) {
		/* more sessions make it narrower */
		j->next_look = next_look(g, r.sessions);
		j->open = j->next_look > 0;
		return cvb_verdict_decide(
			j, CVB_VERDICT_INVALID,
			"too noisy to decide: the 99 %% interval %.4g to %.4g of arm %s "
			"measured again (arm %s) is wider than the %.2g %% that this gate "
			"tolerates",
			r.lower, r.upper, m->arms[base].name, m->arms[aa].name, 100 * tolerance);
	}

	double off = fabs(r.log_mean);

	if (r.sessions >= CVB_AA_FEW_SESSIONS || off <= fmax(fabs(log(margin)), AA_LEAST_TOLERANCE))
		return 0;
	if (j->verdict == CVB_VERDICT_INCONCLUSIVE)
		return also(j, "the A/A arm %s is off by %.2g %% itself", m->arms[aa].name,
			    100 * expm1(off));
	if (cvb_gate_decide(rule_of(g), j->ratio.lower * exp(-off), j->ratio.upper * exp(off),
			    margin) == j->verdict)
		return also(j, "it stands even with the %.2g %% that A/A arm %s is off",
			    100 * expm1(off), m->arms[aa].name);
	return cvb_verdict_decide(
		j, CVB_VERDICT_INVALID,
		"arm %s measured again (arm %s) is off by %.2g %%, more than this gate "
		"tolerates, and that could have made the %s",
		m->arms[base].name, m->arms[aa].name, 100 * expm1(off),
		cvb_verdict_names[j->verdict]);
}

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

/* What the numbers' surroundings say against a verdict that they gave. */
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
	if ((unsteady(&s->points[arm]) || unsteady(&s->points[base])) &&
	    (j->verdict == CVB_VERDICT_PASS || j->verdict == CVB_VERDICT_FAIL))
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

/* Why an arm left out the series with these params, or NULL. */
static const char *left_out(const struct cvb_model *m, const char *arm, int bench,
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

/* A verdict on the rounds that both arms have; 0, or -ENOMEM. */
static int judge_matched(const struct cvb_model *m, const struct cvb_model_series *s,
			 const struct cvb_gate *g, int arm, int base, struct cvb_matched *pairs,
			 struct cvb_judgement *j, struct cvb_err *err)
{
	const struct cvb_model_bench *b = &m->benches[s->bench];
	unsigned voided = pairs->voided;
	struct cvb_err why = {0};
	char by[160];
	int e;

	j->voided = voided;
	j->pairing = pairs->pairing;
	if (!pairs->n && voided)
		return check_rounds(s, g, arm, base, pairs, j);
	if (!pairs->n && s->points[arm].n && s->points[base].n)
		return cvb_verdict_decide(j, CVB_VERDICT_INVALID,
					  "arms %s and %s have no round in common for %s", g->arm,
					  g->base, s->key);
	if (!pairs->n && (!s->points[arm].n) != (!s->points[base].n)) {
		const char *missing = s->points[arm].n ? g->base : g->arm;
		const char *left = left_out(m, missing, (int)s->bench, s->params_key);

		if (left)
			return cvb_verdict_decide(j, CVB_VERDICT_UNSUPPORTED, "%s on arm %s: %s",
						  s->key, missing, left);
	}
	if (!pairs->n && (s->points[arm].n || s->points[base].n) && b->sessions_done)
		return cvb_verdict_decide(j, CVB_VERDICT_INVALID, "only arm %s measured %s",
					  s->points[arm].n ? g->arm : g->base, s->key);
	if (!pairs->n)
		return cvb_verdict_decide(j, CVB_VERDICT_INCONCLUSIVE,
					  "no round of %s was completed", s->key);
	e = judge_pairs(g, s, pairs, b->cells[arm].deterministic && b->cells[base].deterministic, j,
			&why);
	if (e == -EINVAL)
		return cvb_verdict_decide(j, CVB_VERDICT_INVALID,
					  "%s (test is arm %s, base is arm %s)", why.frame[0].msg,
					  g->arm, g->base);
	if (e == 0)
		e = check_aa(m, j, base, g, err);
	if (e == 0 && voided)
		e = also(j, "%u of %zu rounds are left out (%s)", voided, pairs->n + voided,
			 voided_text(pairs, by, sizeof(by)));
	return e < 0 ? e : check_rounds(s, g, arm, base, pairs, j);
}

static int judge_series(const struct cvb_model *m, const struct cvb_model_series *s,
			const struct cvb_gate *g, int arm, int base, struct cvb_judgement *j,
			struct cvb_err *err)
{
	struct cvb_matched pairs;
	int e = cvb_verdict_match(s, base, arm, &pairs, err);

	j->series = s;
	j->p_fail = NAN;
	if (e == 0)
		e = judge_matched(m, s, g, arm, base, &pairs, j, err);
	cvb_matched_done(&pairs);
	return e;
}

/* Is `a` worse news than `b`? */
static bool worse(const struct cvb_judgement *a, const struct cvb_judgement *b)
{
	if (a->verdict != b->verdict)
		return a->verdict > b->verdict;
	if (!a->has_ratio || !b->has_ratio)
		return b->has_ratio;
	if (a->ratio.has_interval && b->ratio.has_interval && a->ratio.lower != b->ratio.lower)
		return a->ratio.lower < b->ratio.lower;
	return a->ratio.ratio < b->ratio.ratio;
}

/* The metric name nearest to what the gate asks, or what there is, into buf. */
static const char *near_names(const struct cvb_model *m, const char *metric, char *buf,
			      size_t buf_bytes)
{
	_cleanup_free_ const char **names = calloc(m->n_series + 1, sizeof(*names));
	size_t n = 0, used;
	const char *near;

	buf[0] = '\0';
	for (size_t i = 0; names && i < m->n_series; i++)
		if (!n || strcmp(names[n - 1], m->series[i]->name) != 0)
			names[n++] = m->series[i]->name;
	if (!n)
		return buf;
	near = cvb_nearest(metric, names);
	if (near) {
		snprintf(buf, buf_bytes, "; did you mean %.150s?", near);
		return buf;
	}
	used = (size_t)snprintf(buf, buf_bytes, "; there are");
	for (size_t i = 0; i < n && i < 6 && used < buf_bytes; i++)
		used += (size_t)snprintf(buf + used, buf_bytes - used, "%s %.100s", i ? "," : "",
					 names[i]);
	return buf;
}

/* The benchmark of "mem.stream/triad", or -1. */
static int bench_of_metric(const struct cvb_model *m, const char *metric)
{
	const char *slash = strrchr(metric, '/');

	for (size_t i = 0; slash && i < m->n_benches; i++) {
		const char *name = m->benches[i].name;

		if (strlen(name) == (size_t)(slash - metric) &&
		    !strncmp(name, metric, (size_t)(slash - metric)))
			return (int)i;
	}
	return -1;
}

static int judge_no_series(const struct cvb_model *m, const struct cvb_gate *g,
			   struct cvb_judgement *j)
{
	const char *const arms[] = {g->arm, g->base};

	for (size_t i = 0; i < CVB_ARRAY_LEN(arms); i++) {
		const char *why = left_out(m, arms[i], bench_of_metric(m, g->metric), g->params);

		if (why)
			return cvb_verdict_decide(j, CVB_VERDICT_UNSUPPORTED, "%s on arm %s: %s",
						  g->metric, arms[i], why);
	}

	char near[800];
	const struct cvb_model_series *other = NULL;

	for (size_t i = 0; i < m->n_series && !other; i++)
		if (!strcmp(m->series[i]->name, g->metric))
			other = m->series[i];
	if (other)
		return cvb_verdict_decide(
			j, CVB_VERDICT_INVALID,
			"no series of %s has the params \"%s\"; one there is has \"%s\"", g->metric,
			g->params ? g->params : "", other->params_key);
	return cvb_verdict_decide(j, CVB_VERDICT_INVALID,
				  "no benchmark of this campaign measured %s%s", g->metric,
				  near_names(m, g->metric, near, sizeof(near)));
}

static int judge_matching(const struct cvb_model *m, const struct cvb_gate *g,
			  struct cvb_judgement *worst, struct cvb_err *err)
{
	int arm = cvb_model_arm(m, g->arm), base = cvb_model_arm(m, g->base), e = 0;
	unsigned count[CVB_VERDICT_FAIL + 1] = {0}, matched = 0;
	bool aa_excludes_one = false, aa_missing = false;

	for (size_t i = 0; i < m->n_series; i++) {
		struct cvb_judgement j = {0};

		if (strcmp(m->series[i]->name, g->metric) != 0 ||
		    !cvb_model_params_match(m->series[i], g->params))
			continue;
		e = judge_series(m, m->series[i], g, arm, base, &j, err);
		if (e < 0) {
			free(j.reason);
			return e;
		}
		count[j.verdict]++;
		aa_excludes_one = aa_excludes_one || j.aa_excludes_one;
		aa_missing = aa_missing || j.aa_missing;
		if (!matched++ || worse(&j, worst)) {
			free(worst->reason);
			*worst = j;
		} else {
			free(j.reason);
		}
	}
	if (!matched)
		return judge_no_series(m, g, worst);
	worst->matched = matched;
	worst->aa_excludes_one = aa_excludes_one;
	worst->aa_missing = aa_missing;
	if (matched == 1)
		return 0;

	_cleanup_free_ char *why = CVB_TAKE(worst->reason);
	char tally[120];
	size_t used = 0;

	for (int v = CVB_VERDICT_FAIL; v >= 0; v--)
		if (count[v])
			used += (size_t)snprintf(tally + used, sizeof(tally) - used, "%s%u %s",
						 used ? ", " : "", count[v], cvb_verdict_names[v]);
	return cvb_verdict_decide(worst, worst->verdict, "worst of %u series (%s) is {%s}: %s",
				  matched, tally, worst->series->params_key, why);
}

/* Judge; numbers of a measurement that is not trusted are shown, but decide nothing. */
static int judge_measured(const struct cvb_model *m, const struct cvb_gate *g, int bench,
			  struct cvb_judgement *j, struct cvb_err *err)
{
	struct cvb_judgement distrust = {0};
	int trusted = cvb_verdict_side_trusted(m, g->arm, bench, &distrust), e;

	if (trusted == 1)
		trusted = cvb_verdict_side_trusted(m, g->base, bench, &distrust);
	if (trusted == 1)
		trusted = cvb_verdict_sides_alike(m, g, bench, &distrust);
	e = trusted < 0 ? trusted : judge_matching(m, g, j, err);
	if (e == 0 && trusted == 0) {
		free(j->reason);
		j->reason = CVB_TAKE(distrust.reason);
		j->verdict = distrust.verdict;
		j->sessions_needed = 0;
		j->open = false;
	}
	free(distrust.reason);
	return e;
}

static int judge_gate(const struct cvb_model *m, const struct cvb_gate *g, struct cvb_judgement *j,
		      struct cvb_err *err)
{
	int bench = bench_of_metric(m, g->metric);
	int e = cvb_verdict_side_measured(m, g->arm, bench, j);

	if (e == 1)
		e = cvb_verdict_side_measured(m, g->base, bench, j);
	if (e == 1)
		e = judge_measured(m, g, bench, j, err);
	if (e == -ENOMEM)
		return cvb_err_set(err, e, "out of memory judging gate %s", g->id);
	return e;
}

int cvb_verdict_judge(const struct cvb_model *m, const struct cvb_gate *gates, size_t n_gates,
		      json_t **ret, struct cvb_err *err)
{
	struct cvb_judgement *j = calloc(n_gates + 1, sizeof(*j));
	json_t *doc = json_object();
	int e = j && doc ? 0 : cvb_err_set(err, -ENOMEM, "out of memory judging %s", m->path);

	for (size_t i = 0; e == 0 && i < n_gates; i++)
		e = judge_gate(m, &gates[i], &j[i], err);
	if (e == 0)
		e = cvb_verdict_document(m, gates, j, n_gates, doc, err);
	for (size_t i = 0; j && i < n_gates; i++)
		free(j[i].reason);
	free(j);
	if (e < 0) {
		json_decref(doc);
		return e;
	}
	*ret = doc;
	return 0;
}
