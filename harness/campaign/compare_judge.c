/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/compare_part.h"

#include "campaign/verdict_part.h"
#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

static void CVB_PRINTF(2, 3) say(struct cvb_compared *row, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(row->reason, sizeof(row->reason), fmt, ap);
	va_end(ap);
}

bool cvb_compare_labelled(const struct cvb_side_bench *b, enum cvb_side_label label)
{
	return b->labelled[label] && b->labelled[label] == b->sessions;
}

static bool exact(const struct cvb_compared *row)
{
	return cvb_compare_labelled(row->bench[0], CVB_SIDE_DETERMINISTIC) &&
	       cvb_compare_labelled(row->bench[1], CVB_SIDE_DETERMINISTIC);
}

/* --- the same numbers ------------------------------------------------------------------------- */

static int compare_hashes(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static uint64_t *sorted_hashes(const struct cvb_side_series *s)
{
	uint64_t *h = calloc(s->n, sizeof(*h));

	for (unsigned i = 0; h && i < s->n; i++)
		h[i] = s->v[i].hash;
	if (h)
		qsort(h, s->n, sizeof(*h), compare_hashes);
	return h;
}

/* Sessions in any order: files may have been renamed.  1, 0 or -ENOMEM. */
static int same_samples(const struct cvb_compared *row)
{
	_cleanup_free_ uint64_t *a = NULL, *b = NULL;

	if (row->series[0]->n != row->series[1]->n)
		return 0;
	a = sorted_hashes(row->series[0]);
	b = sorted_hashes(row->series[1]);
	if (!a || !b)
		return -ENOMEM;
	return !memcmp(a, b, row->series[0]->n * sizeof(*a));
}

/* --- the interval ----------------------------------------------------------------------------- */

static double *logs_of(const struct cvb_side_series *s)
{
	double *x = calloc(s->n, sizeof(*x));

	for (unsigned i = 0; x && i < s->n; i++)
		x[i] = s->v[i].log_perf;
	return x;
}

static bool constant(const double *x, unsigned n)
{
	for (unsigned i = 1; i < n; i++)
		if (fabs(x[i] - x[0]) > CVB_RATIO_NO_SPREAD)
			return false;
	return true;
}

/* A virtual clock says the same in every session, so that one is as good as many. */
static void exact_ratio(struct cvb_ratio *r, double margin)
{
	r->has_interval = true;
	r->why = CVB_INTERVAL_NO_SPREAD;
	r->method = CVB_METHOD_RESOLUTION;
	r->lower = r->ratio * (1 - CVB_COMPARE_RESOLUTION);
	r->upper = r->ratio * (1 + CVB_COMPARE_RESOLUTION);
	r->p_below = r->upper < margin ? 0 : 1;
	r->p_above = r->lower > margin ? 0 : 1;
}

static void no_interval(struct cvb_ratio *r, enum cvb_no_interval why)
{
	r->has_interval = false;
	r->why = why;
	r->method = CVB_METHOD_NONE;
	r->lower = r->upper = r->p_below = r->p_above = NAN;
}

static int estimate(const struct cvb_compared *row, const struct cvb_side_series *const series[2],
		    double margin, struct cvb_ratio *ret, struct cvb_err *err)
{
	const struct cvb_side_series *b = series[0], *c = series[1];
	_cleanup_free_ double *xb = logs_of(b), *xc = logs_of(c);
	struct cvb_bounds_of of = {.alpha = CVB_GATE_ALPHA, .margin = margin};
	int r;

	if (!xb || !xc)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cvb_ratio_welch(xb, b->n, xc, c->n, &of, ret, err);
	if (r == 0 && exact(row) && constant(xb, b->n) && constant(xc, c->n))
		exact_ratio(ret, margin);
	return r;
}

/* --- the verdict ------------------------------------------------------------------------------ */

static void say_undecided(struct cvb_compared *row, const struct cvb_compare_plan *plan)
{
	const struct cvb_ratio *r = &row->ratio;
	unsigned nb = row->series[0]->n, nc = row->series[1]->n, most = cvb_max(nb, nc);
	double end = plan->margin, needed;

	if (r->why == CVB_INTERVAL_ONE_SESSION) {
		say(row,
		    "%s: that cannot tell a change from what differs between any two runs; "
		    "compare folders of several result documents, or bundles",
		    nb == 1 && nc == 1 ? "one run on each side"
		    : nb == 1	       ? "one run of base"
				       : "one run of current");
		return;
	}
	if (r->why == CVB_INTERVAL_NO_SPREAD && !r->has_interval) {
		say(row, "all sessions of each side agree exactly: that shows how coarse the "
			 "instrument is, not how sure the ratio");
		return;
	}
	if (plan->rule == CVB_RULE_EQUIVALENCE &&
	    fabs(r->log_mean - log(end)) > fabs(r->log_mean + log(end)))
		end = 1 / end;
	needed = cvb_ratio_sessions_needed(r, end, CVB_GATE_ALPHA, CVB_GATE_MOST_SESSIONS);
	if (needed > 0)
		say(row,
		    "the interval contains the margin %.4g; about %.0f sessions on each side would "
		    "probably decide",
		    end, fmax(needed, most + 1.0));
	else
		say(row,
		    "the interval contains the margin %.4g, and the ratio is so near it that more "
		    "than %d sessions would be needed",
		    end, CVB_GATE_MOST_SESSIONS);
}

static void say_decided(struct cvb_compared *row, const struct cvb_compare_plan *plan)
{
	const struct cvb_ratio *r = &row->ratio;
	double low = fmin(plan->margin, 1 / plan->margin);

	if (plan->rule == CVB_RULE_EQUIVALENCE)
		say(row, "the 95 %% bounds %.6g and %.6g lie %s %.4g to %.4g", r->lower, r->upper,
		    row->verdict == CVB_VERDICT_PASS ? "inside" : "outside", low, 1 / low);
	else if (row->verdict == CVB_VERDICT_PASS)
		say(row, "the 95 %% lower bound %.4g is at least the margin %.4g", r->lower,
		    plan->margin);
	else
		say(row, "the 95 %% upper bound %.4g is below the margin %.4g", r->upper,
		    plan->margin);
}

static int judge_one(struct cvb_compared *row, const struct cvb_compare_plan *plan,
		     struct cvb_err *err)
{
	int same = same_samples(row);
	struct cvb_ratio *r = &row->ratio, other;
	int e = same < 0 ? cvb_err_set(err, -ENOMEM, "out of memory") : 0;

	if (e == 0)
		e = estimate(row, row->series, plan->margin, r, err);
	if (e < 0)
		return e;
	row->verdict = CVB_VERDICT_INCONCLUSIVE;
	row->p_fail = NAN;
	if (same && !exact(row)) {
		no_interval(r, CVB_INTERVAL_NO_SPREAD);
		say(row, "both sides are the same numbers to the last bit: one measurement, not "
			 "two that could differ");
		return 0;
	}
	if (r->has_interval) {
		row->verdict = cvb_gate_decide(plan->rule, r->lower, r->upper, plan->margin);
		row->p_fail = r->p_below;
	}
	if (r->has_interval && plan->rule == CVB_RULE_EQUIVALENCE) {
		/* outside on either side; margins come in either direction */
		double low = fmin(plan->margin, 1 / plan->margin), below;

		e = estimate(row, row->series, low, &other, err);
		below = other.p_below;
		if (e == 0)
			e = estimate(row, row->series, 1 / low, &other, err);
		row->p_fail = fmin(below, other.p_above);
	}
	if (row->verdict == CVB_VERDICT_INCONCLUSIVE)
		say_undecided(row, plan);
	else
		say_decided(row, plan);
	return e;
}

/* --- what speaks against it ------------------------------------------------------------------- */

static bool decided(const struct cvb_compared *row)
{
	return row->verdict == CVB_VERDICT_PASS || row->verdict == CVB_VERDICT_FAIL;
}

/* As in a campaign (verdict_series.c): the verdict must not depend on what was voided. */
static int check_voided(struct cvb_compared *row, const struct cvb_compare_plan *plan,
			struct cvb_err *err)
{
	const struct cvb_side_series *with[2];
	enum cvb_verdict other;
	struct cvb_ratio r;
	size_t voided = 0;

	if (!decided(row) || (!row->series[0]->with && !row->series[1]->with))
		return 0;
	for (int i = 0; i < 2; i++) {
		with[i] = row->series[i]->with ? row->series[i]->with : row->series[i];
		voided += with[i]->samples - row->series[i]->samples;
		if (with[i]->bad || !with[i]->n) {
			row->verdict = CVB_VERDICT_INCONCLUSIVE;
			say(row, "%s: a sample that was left out has no value: %.300s",
			    cvb_side_names[i], with[i]->bad ? with[i]->bad : "?");
			return 0;
		}
	}
	int e = estimate(row, with, plan->margin, &r, err);

	if (e < 0)
		return e;
	other = cvb_gate_decide(plan->rule, r.lower, r.upper, plan->margin);
	if (other == row->verdict)
		return 0;
	say(row,
	    "%s without the %zu samples that stolen CPU time or throttling disturbed, but %s with "
	    "them (ratio %.4g, bounds %.4g to %.4g): the verdict must not depend on them",
	    cvb_verdict_names[row->verdict], voided, cvb_verdict_names[other], r.ratio, r.lower,
	    r.upper);
	row->verdict = CVB_VERDICT_INCONCLUSIVE;
	return 0;
}

/* As in a campaign (verdict_aa.c): what an arm differs from itself is no change. */
static int check_again(struct cvb_compared *row, const struct cvb_compare_plan *plan, int side,
		       const struct cvb_side_again *a, struct cvb_err *err)
{
	_cleanup_free_ char *aa = cvb_strf("%s of %s", a->aa, cvb_side_names[side]);
	const struct cvb_again again = {
		.base = a->base, .aa = aa, .wide = a->wide, .narrow = a->narrow, .alpha = a->alpha};
	struct cvb_judgement j = {.verdict = row->verdict,
				  .ratio = row->ratio,
				  .has_ratio = true,
				  .reason = strdup(row->reason)};
	int e = aa && j.reason ? cvb_verdict_hold(&j, plan->rule, plan->margin, &again) : -ENOMEM;

	if (e == 0) {
		row->verdict = j.verdict;
		say(row, "%s", j.reason);
	}
	free(j.reason);
	return e < 0 ? cvb_err_set(err, e, "out of memory") : 0;
}

static int check_surroundings(struct cvb_compared *row, const struct cvb_compare_plan *plan,
			      struct cvb_err *err)
{
	int e = check_voided(row, plan, err);

	for (int i = 0; i < 2; i++)
		for (size_t k = 0;
		     k < row->series[i]->n_again && e == 0 && row->verdict != CVB_VERDICT_INVALID;
		     k++)
			e = check_again(row, plan, i, &row->series[i]->again[k], err);
	return e;
}

int cvb_compare_judge(struct cvb_compared *rows, size_t n, const struct cvb_compare_plan *plan,
		      struct cvb_err *err)
{
	_cleanup_free_ double *p = calloc(n + 1, sizeof(*p));
	_cleanup_free_ double *adjusted = calloc(n + 1, sizeof(*adjusted));
	int r = 0;

	if (!p || !adjusted)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = judge_one(&rows[i], plan, err);
		/* exact values are beyond chance: no part of the family */
		p[i] = rows[i].ratio.method == CVB_METHOD_RESOLUTION ? NAN : rows[i].p_fail;
	}
	if (r == 0 && cvb_benjamini_hochberg(p, n, adjusted) < 0)
		r = cvb_err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < n; i++) {
		struct cvb_compared *row = &rows[i];

		row->p_adjusted = isnan(p[i]) ? row->p_fail : adjusted[i];
		if (row->verdict == CVB_VERDICT_FAIL && adjusted[i] > CVB_COMPARE_FDR) {
			row->verdict = CVB_VERDICT_INCONCLUSIVE;
			say(row,
			    "taken alone the bounds fail the margin %.4g, but among all metrics "
			    "that were compared some do so by chance: p is %.3g, adjusted %.3g",
			    plan->margin, row->p_fail, adjusted[i]);
		}
		r = check_surroundings(row, plan, err);
	}
	return r;
}

/* --- JSON ------------------------------------------------------------------------------------- */

static json_t *number(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

/* Typical value of a side: the middle of its sessions, in the metric's unit. */
static double value_of(const struct cvb_side_series *s)
{
	double sum = 0;

	for (unsigned i = 0; i < s->n; i++)
		sum += s->v[i].log_perf;
	return exp((s->better == CVB_LOWER_IS_BETTER ? -sum : sum) / s->n);
}

/* What a reader must know of either side. */
static json_t *labels_json(const struct cvb_compared *row)
{
	json_t *list = json_array();

	for (int l = 0; l < CVB_SIDE_LABELS; l++) {
		bool b = row->bench[0]->labelled[l], c = row->bench[1]->labelled[l];
		_cleanup_free_ char *text = cvb_strf("%s%s",
						     b && c ? ""
						     : b    ? "base: "
							    : "current: ",
						     cvb_side_label_names[l]);

		if (b || c)
			json_array_append_new(list, json_string(text ? text : "?"));
	}
	return list;
}

json_t *cvb_compared_json(const struct cvb_compared *row, const struct cvb_compare_plan *plan)
{
	const struct cvb_side_series *b = row->series[0], *c = row->series[1];
	const char *arm = *row->arm->name ? row->arm->name : NULL;
	const struct cvb_ratio *r = &row->ratio;
	_cleanup_free_ char *id = cvb_strf("%s%s%s", arm ? arm : "", arm ? ":" : "", b->title);
	json_t *o = json_pack("{s:s, s:s, s:s?, s:s?, s:O?, s:s, s:s}", "id", id ? id : "?",
			      "metric", b->metric, "arm", arm, "base", arm, "params", b->params,
			      "unit", b->unit, "better", cvb_better_text(b->better));

	json_object_set_new(o, "base_value", number(value_of(b)));
	json_object_set_new(o, "current_value", number(value_of(c)));
	json_object_set_new(o, "kind", json_string(cvb_gate_rule_names[plan->rule]));
	json_object_set_new(o, "margin", json_real(plan->margin));
	json_object_set_new(o, "ratio", number(r->ratio));
	json_object_set_new(o, "lower", number(r->lower));
	json_object_set_new(o, "upper", number(r->upper));
	json_object_set_new(o, "confidence", json_real(1 - CVB_GATE_ALPHA));
	json_object_set_new(o, "alpha", json_real(CVB_GATE_ALPHA));
	json_object_set_new(o, "method", json_string(cvb_ratio_method_names[r->method]));
	json_object_set_new(o, "sessions", json_integer(cvb_min(b->n, c->n)));
	json_object_set_new(o, "sessions_base", json_integer(b->n));
	json_object_set_new(o, "sessions_current", json_integer(c->n));
	json_object_set_new(o, "rounds", json_integer((json_int_t)(b->samples + c->samples)));
	json_object_set_new(o, "pairing", json_string(cvb_pairing_names[CVB_PAIRING_NONE]));
	json_object_set_new(o, "p_fail", number(row->p_fail));
	json_object_set_new(o, "p_adjusted", number(row->p_adjusted));
	json_object_set_new(o, "verdict", json_string(cvb_verdict_names[row->verdict]));
	json_object_set_new(o, "reason", json_string(row->reason));
	json_object_set_new(o, "emulated",
			    json_boolean(row->bench[0]->labelled[CVB_SIDE_EMULATED] ||
					 row->bench[1]->labelled[CVB_SIDE_EMULATED]));
	json_object_set_new(o, "deterministic", json_boolean(exact(row)));
	json_object_set_new(o, "labels", labels_json(row));
	return o;
}
