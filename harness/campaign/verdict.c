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

json_t *cvb_verdict_number(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

/* Set verdict and reason.  0 or -ENOMEM. */
static int CVB_PRINTF(3, 4)
	decide(struct cvb_judgement *j, enum cvb_verdict verdict, const char *fmt, ...)
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

int cvb_verdict_pairs(const struct cvb_model_series *s, int base, int test, struct cvb_pair **ret,
		      size_t *ret_n, struct cvb_err *err)
{
	const struct cvb_model_points *b = &s->points[base], *t = &s->points[test];
	struct cvb_pair *pairs = calloc(cvb_min(b->n, t->n) + 1, sizeof(*pairs));
	size_t n = 0;

	if (!pairs)
		return cvb_err_set(err, -ENOMEM, "out of memory judging %s", s->key);
	for (size_t i = 0, k = 0; i < b->n && k < t->n;) {
		const struct cvb_model_point *x = &b->v[i], *y = &t->v[k];

		if (x->session == y->session && x->round == y->round) {
			pairs[n++] = (struct cvb_pair){.session = x->session,
						       .round = x->round,
						       .base = x->value,
						       .test = y->value};
			i++;
			k++;
		} else if (x->session < y->session ||
			   (x->session == y->session && x->round < y->round)) {
			i++;
		} else {
			k++;
		}
	}
	*ret = pairs;
	*ret_n = n;
	return 0;
}

/* The rule of a gate; a report is judged like the default, and its verdict dropped. */
static enum cvb_gate_rule rule_of(const struct cvb_gate *g)
{
	return g->kind == CVB_GATE_REPORT ? CVB_RULE_NON_INFERIORITY : (enum cvb_gate_rule)g->kind;
}

static double margin_of(const struct cvb_gate *g)
{
	return g->kind == CVB_GATE_ABSOLUTE ? 1 : g->margin;
}

/* Bounds and verdict of a series' pairs.  -EINVAL with the reason for values that have no ratio. */
static int judge_pairs(const struct cvb_gate *g, const struct cvb_model_series *s,
		       struct cvb_pair *pairs, size_t n, bool exact, struct cvb_judgement *j,
		       struct cvb_err *err)
{
	/* a virtual clock's numbers are computed: that they agree is no lack of resolution */
	struct cvb_gate_plan plan = {.rule = rule_of(g),
				     .margin = margin_of(g),
				     .n_looks = g->n_looks,
				     .resolution = exact ? EXACT_RESOLUTION : 0};
	struct cvb_sessions sessions = {0};
	struct cvb_gate_answer a;
	int r;

	memcpy(plan.looks, g->looks, sizeof(plan.looks));
	for (size_t i = 0; i < n && g->kind == CVB_GATE_ABSOLUTE; i++)
		pairs[i].base = g->limit;
	r = cvb_sessions_make(&sessions, pairs, n, s->better == CVB_LOWER_IS_BETTER,
			      (enum cvb_ratio_estimator)g->estimator, CVB_PAIRING_PAIR, err);
	if (r == 0)
		r = cvb_gate_judge(&sessions, &plan, &a, err);
	cvb_sessions_done(&sessions);
	if (r < 0)
		return r;
	j->ratio = a.ratio;
	j->has_ratio = true;
	j->alpha = a.alpha;
	j->look = a.look;
	j->sessions_needed = a.sessions_needed;
	return decide(j, a.verdict, "%s%s", a.reason,
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
	return more ? decide(j, j->verdict, "%s; %s", before, more) : -ENOMEM;
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
	double margin = margin_of(g), tolerance = fmax(fabs(1 - margin), AA_LEAST_TOLERANCE);
	_cleanup_free_ struct cvb_pair *pairs = NULL;
	struct cvb_ratio r;
	size_t n;
	int e;

	if (aa < 0) {
		j->aa_missing = g->kind != CVB_GATE_ABSOLUTE;
		return 0;
	}
	e = cvb_verdict_pairs(j->series, base, aa, &pairs, &n, err);
	if (e < 0)
		return e;
	if (!n) {
		j->aa_missing = true;
		return 0;
	}

	struct cvb_err why = {0};

	if (cvb_ratio_paired(pairs, n, j->series->better == CVB_LOWER_IS_BETTER, CVB_AA_ALPHA, &r,
			     &why) < 0)
		return decide(j, CVB_VERDICT_INVALID, "A/A arm %s: %s", m->arms[aa].name,
			      why.frame[0].msg);
	if (r.has_interval && (r.lower > 1 || r.upper < 1)) {
		j->aa_excludes_one = true;
		return decide(
			j, CVB_VERDICT_INVALID,
			"arm %s measured again (arm %s) differs from itself: ratio %.4g, 99 %% "
			"interval %.4g to %.4g excludes 1",
			m->arms[base].name, m->arms[aa].name, r.ratio, r.lower, r.upper);
	}

	if (r.has_interval && r.sessions >= CVB_AA_FEW_SESSIONS && r.upper - r.lower > tolerance)
		return decide(j, CVB_VERDICT_INVALID,
			      "too noisy to decide: the 99 %% interval %.4g to %.4g of arm %s "
			      "measured again (arm %s) is wider than the %.2g %% that this gate "
			      "tolerates",
			      r.lower, r.upper, m->arms[base].name, m->arms[aa].name,
			      100 * tolerance);

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
	return decide(j, CVB_VERDICT_INVALID,
		      "arm %s measured again (arm %s) is off by %.2g %%, more than this gate "
		      "tolerates, and that could have made the %s",
		      m->arms[base].name, m->arms[aa].name, 100 * expm1(off),
		      cvb_verdict_names[j->verdict]);
}

static int judge_series(const struct cvb_model *m, const struct cvb_model_series *s,
			const struct cvb_gate *g, int arm, int base, struct cvb_judgement *j,
			struct cvb_err *err)
{
	const struct cvb_model_bench *b = &m->benches[s->bench];
	_cleanup_free_ struct cvb_pair *pairs = NULL;
	struct cvb_err why = {0};
	size_t n;
	int e = cvb_verdict_pairs(s, base, arm, &pairs, &n, err);

	if (e < 0)
		return e;
	j->series = s;
	if (!n && s->points[arm].n && s->points[base].n)
		return decide(j, CVB_VERDICT_INVALID,
			      "arms %s and %s have no round in common for %s", g->arm, g->base,
			      s->key);
	if (!n && (s->points[arm].n || s->points[base].n) && b->sessions_done)
		return decide(j, CVB_VERDICT_INVALID, "only arm %s measured %s",
			      s->points[arm].n ? g->arm : g->base, s->key);
	if (!n)
		return decide(j, CVB_VERDICT_INCONCLUSIVE, "no round of %s was completed", s->key);
	e = judge_pairs(g, s, pairs, n, b->cells[arm].deterministic && b->cells[base].deterministic,
			j, &why);
	if (e == -EINVAL)
		return decide(j, CVB_VERDICT_INVALID, "%s (test is arm %s, base is arm %s)",
			      why.frame[0].msg, g->arm, g->base);
	return e < 0 ? e : check_aa(m, j, base, g, err);
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

static int judge_no_series(const struct cvb_model *m, const struct cvb_gate *g,
			   struct cvb_judgement *j)
{
	char near[800];
	const struct cvb_model_series *other = NULL;

	for (size_t i = 0; i < m->n_series && !other; i++)
		if (!strcmp(m->series[i]->name, g->metric))
			other = m->series[i];
	if (other)
		return decide(j, CVB_VERDICT_INVALID,
			      "no series of %s has the params \"%s\"; one there is has \"%s\"",
			      g->metric, g->params ? g->params : "", other->params_key);
	return decide(j, CVB_VERDICT_INVALID, "no benchmark of this campaign measured %s%s",
		      g->metric, near_names(m, g->metric, near, sizeof(near)));
}

/* Was this side of the gate measured at all?  1: yes; 0: no, and `j` says why; -ENOMEM. */
static int side_measured(const struct cvb_model *m, const char *name, int bench,
			 struct cvb_judgement *j)
{
	int i = cvb_model_arm(m, name);
	const struct cvb_model_arm *arm = i < 0 ? NULL : &m->arms[i];

	if (!arm)
		return decide(j, CVB_VERDICT_INVALID, "this campaign has no arm %s", name);
	if (arm->state == CVB_MODEL_ARM_UNSUPPORTED)
		return decide(j, CVB_VERDICT_UNSUPPORTED, "arm %s: %s", name, arm->reason);
	if (arm->state == CVB_MODEL_ARM_UNSEEN)
		return decide(j, CVB_VERDICT_INCONCLUSIVE, "arm %s was not reached%s%s", name,
			      m->abort ? ": " : "", m->abort ? m->abort : "");
	if (bench < 0)
		return 1;

	const struct cvb_model_bench *b = &m->benches[bench];
	const struct cvb_model_cell *cell = &b->cells[i];

	if (cell->outcome == CVB_MODEL_UNSUPPORTED)
		return decide(j, CVB_VERDICT_UNSUPPORTED, "%s on arm %s: %s", b->name, name,
			      cell->reason);
	if (cell->outcome != CVB_MODEL_NONE)
		return 1;
	if (b->arm_mask & (UINT32_C(1) << i))
		return decide(j, CVB_VERDICT_INCONCLUSIVE, "%s was not reached on arm %s", b->name,
			      name);
	return decide(j, CVB_VERDICT_INVALID, "%s is not planned on arm %s", b->name, name);
}

/* May what this side measured be believed?  1: yes; 0: no, and `j` says why; -ENOMEM. */
static int side_trusted(const struct cvb_model *m, const char *name, int bench,
			struct cvb_judgement *j)
{
	int i = cvb_model_arm(m, name);

	if (m->arms[i].accel_changed)
		return decide(j, CVB_VERDICT_INVALID,
			      "arm %s ran under kvm in some sessions and under tcg in others",
			      name);
	if (bench < 0)
		return 1;

	const struct cvb_model_bench *b = &m->benches[bench];
	const struct cvb_model_cell *cell = &b->cells[i];

	if (cell->outcome == CVB_MODEL_FAILED || cell->outcome == CVB_MODEL_UNTRUSTED)
		return decide(j, CVB_VERDICT_INVALID, "%s on arm %s %s: %s", b->name, name,
			      cell->outcome == CVB_MODEL_FAILED ? "failed" : "is untrusted",
			      cell->reason);
	if (cell->invalid)
		return decide(j, CVB_VERDICT_INVALID, "arm %s: %s", name, cell->invalid);
	if (cell->steal_ratio > CVB_STEAL_LIMIT_RATIO)
		return decide(j, CVB_VERDICT_INVALID,
			      "the host took %.2g %% of the CPU time of %s on arm %s (steal; the "
			      "limit is %g %%)",
			      100 * cell->steal_ratio, b->name, name, 100 * CVB_STEAL_LIMIT_RATIO);
	return 1;
}

/* Did both sides run with the same number of threads?  A guest with fewer CPUs than its host does
 * other work than the host. */
static int sides_alike(const struct cvb_model *m, const struct cvb_gate *g, int bench,
		       struct cvb_judgement *j)
{
	const struct cvb_model_bench *b = bench >= 0 ? &m->benches[bench] : NULL;
	unsigned arm = b ? b->cells[cvb_model_arm(m, g->arm)].workers : 0;
	unsigned base = b ? b->cells[cvb_model_arm(m, g->base)].workers : 0;

	if (arm == base)
		return 1;
	return decide(j, CVB_VERDICT_INVALID,
		      "%s ran with %u threads on arm %s and %u on arm %s: set threads = in "
		      "[bench %s]",
		      b->name, arm, g->arm, base, g->base, b->name);
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
	return decide(worst, worst->verdict, "worst of %u series (%s) is {%s}: %s", matched, tally,
		      worst->series->params_key, why);
}

/* Judge; numbers of a measurement that is not trusted are shown, but decide nothing. */
static int judge_measured(const struct cvb_model *m, const struct cvb_gate *g, int bench,
			  struct cvb_judgement *j, struct cvb_err *err)
{
	struct cvb_judgement distrust = {0};
	int trusted = side_trusted(m, g->arm, bench, &distrust), e;

	if (trusted == 1)
		trusted = side_trusted(m, g->base, bench, &distrust);
	if (trusted == 1)
		trusted = sides_alike(m, g, bench, &distrust);
	e = trusted < 0 ? trusted : judge_matching(m, g, j, err);
	if (e == 0 && trusted == 0) {
		free(j->reason);
		j->reason = CVB_TAKE(distrust.reason);
		j->verdict = distrust.verdict;
		j->sessions_needed = 0;
	}
	free(distrust.reason);
	return e;
}

static int judge_gate(const struct cvb_model *m, const struct cvb_gate *g, struct cvb_judgement *j,
		      struct cvb_err *err)
{
	int bench = bench_of_metric(m, g->metric);
	int e = side_measured(m, g->arm, bench, j);

	if (e == 1)
		e = side_measured(m, g->base, bench, j);
	if (e == 1)
		e = judge_measured(m, g, bench, j, err);
	if (e == -ENOMEM)
		return cvb_err_set(err, e, "out of memory judging gate %s", g->id);
	return e;
}

/* "vm: tcg" for each side of the gate that has labels, "both: emulated" where they are the same. */
static json_t *gate_labels(const struct cvb_model *m, const struct cvb_gate *g)
{
	const char *const names[] = {g->arm, g->base};
	char labels[2][160] = {"", ""};
	json_t *list = json_array();

	for (size_t i = 0; i < 2; i++) {
		int a = cvb_model_arm(m, names[i]);

		if (a >= 0)
			cvb_model_labels(&m->arms[a], labels[i], sizeof(labels[i]));
	}
	bool same = !strcmp(labels[0], labels[1]);

	for (size_t i = 0; i < (same ? 1 : 2); i++) {
		_cleanup_free_ char *text = cvb_strf("%s: %s", same ? "both" : names[i], labels[i]);

		if (labels[i][0])
			json_array_append_new(list, json_string(text ? text : labels[i]));
	}
	return list;
}

static json_t *gate_json(const struct cvb_model *m, const struct cvb_gate *g,
			 const struct cvb_judgement *j)
{
	const struct cvb_ratio *r = j->has_ratio ? &j->ratio : NULL;
	bool report = g->kind == CVB_GATE_REPORT;
	json_t *params = j->series ? j->series->params : NULL;
	json_t *o = json_pack("{s:s, s:s, s:O?, s:s, s:s, s:s}", "id", g->id, "metric", g->metric,
			      "params", params, "arm", g->arm, "base", g->base, "kind",
			      cvb_gate_kind_names[g->kind]);

	if (!report)
		json_object_set_new(o, "margin", cvb_verdict_number(margin_of(g)));
	if (g->kind == CVB_GATE_ABSOLUTE)
		json_object_set_new(o, "limit", json_real(g->limit));
	json_object_set_new(o, "ratio", cvb_verdict_number(r ? r->ratio : NAN));
	json_object_set_new(o, "lower", cvb_verdict_number(r ? r->lower : NAN));
	json_object_set_new(o, "upper", cvb_verdict_number(r ? r->upper : NAN));
	json_object_set_new(o, "confidence", json_real(1 - (r ? j->alpha : CVB_GATE_ALPHA)));
	json_object_set_new(o, "estimator", json_string(cvb_ratio_estimator_names[g->estimator]));
	json_object_set_new(o, "method", json_string(cvb_ratio_method_names[r ? r->method : 0]));
	json_object_set_new(o, "sessions", json_integer(r ? r->sessions : 0));
	json_object_set_new(o, "rounds", json_integer(r ? r->rounds : 0));
	/* the campaign measures every arm in each round, seconds apart, the others paused */
	json_object_set_new(o, "pairing", json_string(r ? "pair" : "none"));
	json_object_set_new(o, "series", json_integer(j->matched));
	json_object_set_new(o, "labels", gate_labels(m, g));
	if (!report)
		json_object_set_new(o, "verdict", json_string(cvb_verdict_names[j->verdict]));
	json_object_set_new(o, "reason", json_string(j->reason));
	json_object_set_new(o, "sessions_needed",
			    j->sessions_needed ? json_integer(j->sessions_needed) : json_null());
	return o;
}

/* A "report" row does not judge: its reason keeps only what explains missing numbers. */
static void strip_report(struct cvb_judgement *j)
{
	if (!j->has_ratio)
		return;
	free(j->reason);
	j->reason = j->matched > 1 ? cvb_strf("lowest of %u series is {%s}", j->matched,
					      j->series->params_key)
				   : strdup("");
	j->sessions_needed = 0;
}

static enum cvb_verdict overall_of(const struct cvb_gate *gates, const struct cvb_judgement *j,
				   size_t n)
{
	enum cvb_verdict worst = CVB_VERDICT_PASS;
	bool any = false;

	for (size_t i = 0; i < n; i++) {
		if (gates[i].kind == CVB_GATE_REPORT)
			continue;
		any = true;
		worst = cvb_max(worst, j[i].verdict);
	}
	return any ? worst : CVB_VERDICT_INCONCLUSIVE;
}

static int build(const struct cvb_model *m, const struct cvb_gate *gates, struct cvb_judgement *j,
		 size_t n, json_t *doc, struct cvb_err *err)
{
	json_t *why = json_array(), *rows = json_array(), *reported = json_array(),
	       *aa = json_array(), *failures = json_array();
	enum cvb_verdict overall = overall_of(gates, j, n);
	int e = cvb_verdict_why_not(m, gates, j, n, why, err);

	for (size_t i = 0; i < n; i++) {
		bool report = gates[i].kind == CVB_GATE_REPORT;

		if (report)
			strip_report(&j[i]);
		json_array_append_new(report ? reported : rows, gate_json(m, &gates[i], &j[i]));
	}
	if (e == 0)
		e = cvb_verdict_failures(gates, j, n, failures, err);
	if (e == 0)
		e = cvb_verdict_aa(m, aa, err);
	json_object_set_new(doc, "schema", json_string("cvmbench.verdict/1"));
	json_object_set_new(doc, "profile", json_string(m->profile));
	json_object_set_new(doc, "overall", json_string(cvb_verdict_names[overall]));
	json_object_set_new(doc, "certifiable", json_boolean(json_array_size(why) == 0));
	json_object_set_new(doc, "why_not", why);
	json_object_set_new(doc, "gates", rows);
	json_object_set_new(doc, "reported", reported);
	json_object_set_new(doc, "failures", failures);
	json_object_set_new(doc, "aa", aa);
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
		e = build(m, gates, j, n_gates, doc, err);
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

enum cvb_exit cvb_verdict_exit(const json_t *verdicts)
{
	const char *overall = json_string_value(json_object_get(verdicts, "overall"));

	for (int i = 0; overall && cvb_verdict_names[i]; i++)
		if (!strcmp(overall, cvb_verdict_names[i]))
			return cvb_verdict_code((enum cvb_verdict)i);
	return CVB_EXIT_INVALID;
}
