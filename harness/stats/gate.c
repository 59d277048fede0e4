/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/gate.h"

#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define FEW_LOOKS 4 /* the most that CVB_GATE_LOOK_ALPHA is good for */

const char *const cvb_verdict_names[] = {"PASS",    "UNSUPPORTED", "INCONCLUSIVE",
					 "INVALID", "FAIL",	   NULL};
const char *const cvb_gate_rule_names[] = {"non-inferiority", "equivalence", "absolute", NULL};

enum cvb_exit cvb_verdict_code(enum cvb_verdict v)
{
	static const enum cvb_exit code[] = {CVB_EXIT_OK, CVB_EXIT_UNSUPPORTED,
					     CVB_EXIT_INCONCLUSIVE, CVB_EXIT_INVALID,
					     CVB_EXIT_GATE_FAILED};

	return code[v];
}

double cvb_gate_alpha(const struct cvb_gate_plan *plan)
{
	if (plan->alpha > 0)
		return plan->alpha;
	if (plan->n_looks <= 1)
		return CVB_GATE_ALPHA;
	return plan->n_looks <= FEW_LOOKS ? CVB_GATE_LOOK_ALPHA : CVB_GATE_MANY_ALPHA;
}

/* The range of ratios that a gate accepts. */
static void accepted(enum cvb_gate_rule rule, double margin, double *ret_lo, double *ret_hi)
{
	*ret_lo = margin;
	*ret_hi = INFINITY;
	if (rule == CVB_RULE_EQUIVALENCE) {
		*ret_lo = fmin(margin, 1 / margin);
		*ret_hi = fmax(margin, 1 / margin);
	}
}

enum cvb_verdict cvb_gate_decide(enum cvb_gate_rule rule, double lower, double upper, double margin)
{
	double lo, hi;

	accepted(rule, margin, &lo, &hi);
	if (lower >= lo && upper <= hi)
		return CVB_VERDICT_PASS;
	return upper < lo || lower > hi ? CVB_VERDICT_FAIL : CVB_VERDICT_INCONCLUSIVE;
}

/* --- judging ---------------------------------------------------------------------------------- */

static int check_plan(const struct cvb_gate_plan *p, struct cvb_err *err)
{
	if (!(p->margin > 0) || isinf(p->margin))
		return cvb_err_set(err, -EINVAL, "the margin is %g, but must be a positive number",
				   p->margin);
	if (p->rule == CVB_RULE_EQUIVALENCE && p->margin == 1)
		return cvb_err_set(
			err, -EINVAL,
			"a margin of 1 leaves no room to be equivalent: 0.99 accepts 0.99 "
			"to 1 / 0.99");
	if (!(p->alpha >= 0 && p->alpha < 0.5))
		return cvb_err_set(err, -EINVAL, "alpha is %g, but must lie in (0, 0.5)", p->alpha);
	if (p->n_looks > CVB_GATE_MAX_LOOKS)
		return cvb_err_set(err, -EINVAL, "more than %d looks", CVB_GATE_MAX_LOOKS);
	for (unsigned i = 0; i < p->n_looks; i++)
		if (p->looks[i] < 2 || (i && p->looks[i] <= p->looks[i - 1]))
			return cvb_err_set(err, -EINVAL,
					   "looks must rise and be at least 2 sessions");
	return 0;
}

/* Distance of an estimate from the nearest end of what is accepted, as a margin. */
static double nearest_margin(const struct cvb_gate_plan *p, const struct cvb_ratio *r)
{
	double lo, hi;

	accepted(p->rule, p->margin, &lo, &hi);
	return isinf(hi) || fabs(r->log_mean - log(lo)) <= fabs(r->log_mean - log(hi)) ? lo : hi;
}

static void CVB_PRINTF(2, 3) say(struct cvb_gate_answer *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->reason, sizeof(a->reason), fmt, ap);
	va_end(ap);
}

static void say_decided(struct cvb_gate_answer *a, const struct cvb_gate_plan *p)
{
	double confidence = 100 * (1 - a->alpha), lo, hi;
	const struct cvb_ratio *r = &a->ratio;

	accepted(p->rule, p->margin, &lo, &hi);
	if (p->rule == CVB_RULE_EQUIVALENCE)
		say(a,
		    "the %.4g %% bounds, %.4g lower bound and %.4g upper bound, lie %s %.4g to "
		    "%.4g",
		    confidence, r->lower, r->upper,
		    a->verdict == CVB_VERDICT_PASS ? "inside" : "outside", lo, hi);
	else if (a->verdict == CVB_VERDICT_PASS)
		say(a, "the %.4g %% lower bound %.4g is at least the margin %.4g", confidence,
		    r->lower, p->margin);
	else
		say(a, "the %.4g %% upper bound %.4g is below the margin %.4g", confidence,
		    r->upper, p->margin);
}

/* Sessions were measured that no planned look has counted, and their bounds would decide. */
static bool would_say(const struct cvb_gate_answer *a, const struct cvb_gate_plan *p,
		      enum cvb_verdict *ret)
{
	*ret = cvb_gate_decide(p->rule, a->ratio.lower, a->ratio.upper, p->margin);
	return p->n_looks && *ret != CVB_VERDICT_INCONCLUSIVE;
}

static void say_no_interval(struct cvb_gate_answer *a)
{
	const struct cvb_ratio *r = &a->ratio;

	if (r->why == CVB_INTERVAL_ONE_SESSION)
		say(a, "one session gives no interval: at least 2 are needed");
	else if (r->why == CVB_INTERVAL_NO_SPREAD)
		say(a,
		    "all %u sessions gave exactly the same ratio: that shows how coarse the "
		    "instrument is, not how sure the ratio; without its resolution there are no "
		    "bounds",
		    r->sessions);
	else
		say(a, "the base mean is not surely above 0, so the ratio of means has no bounds");
}

static void say_undecided(struct cvb_gate_answer *a, const struct cvb_gate_plan *p, unsigned have)
{
	const struct cvb_ratio *r = &a->ratio;
	enum cvb_verdict now;

	if (!r->has_interval)
		say_no_interval(a);
	else if (a->next_look && (would_say(a, p, &now) || a->sessions_needed <= have))
		say(a, "%u sessions were measured; the next planned look is at %u", have,
		    a->next_look);
	else if (would_say(a, p, &now))
		say(a,
		    "undecided at the last planned look, after %u sessions; the bounds of all %u "
		    "would say %s, but a look that was not planned does not count",
		    p->looks[p->n_looks - 1], have, cvb_verdict_names[now]);
	else if (a->sessions_needed > have)
		say(a,
		    "the interval contains the margin %.4g; about %u sessions would probably "
		    "decide (%u were measured)%s",
		    nearest_margin(p, r), a->sessions_needed, have,
		    p->n_looks && !a->next_look ? "; no planned look is left" : "");
	else
		say(a,
		    "the interval contains the margin %.4g, and the ratio is so near it that more "
		    "than %d sessions would be needed",
		    nearest_margin(p, r), CVB_GATE_MOST_SESSIONS);
}

/* How many sessions would decide, rounded up to a planned look where there is one. */
static unsigned would_decide(const struct cvb_gate_answer *a, const struct cvb_gate_plan *p,
			     unsigned have)
{
	unsigned s = cvb_ratio_sessions_needed(&a->ratio, nearest_margin(p, &a->ratio), a->alpha,
					       CVB_GATE_MOST_SESSIONS);

	if (s && s <= have && !a->next_look)
		s = have + 1; /* t alone would have decided; the wider bound did not yet */
	for (unsigned i = 0; s && i < p->n_looks; i++)
		if (p->looks[i] >= s && p->looks[i] > have)
			return p->looks[i];
	return s;
}

/* One look, after the first `n` sessions; sets the verdict where there is an interval. */
static int look_at(const struct cvb_sessions *s, const struct cvb_gate_plan *plan, unsigned n,
		   struct cvb_gate_answer *a, struct cvb_err *err)
{
	struct cvb_bounds_of of = {
		.alpha = a->alpha, .margin = plan->margin, .resolution = plan->resolution};
	int r = cvb_sessions_ratio(s, n, &of, &a->ratio, err);

	if (r == 0 && a->ratio.has_interval)
		a->verdict =
			cvb_gate_decide(plan->rule, a->ratio.lower, a->ratio.upper, plan->margin);
	return r;
}

/*
 * The sessions at which look `i` is held, 0 if it is still to come.  A plan without looks has one,
 * at all there is.
 */
static unsigned look_sessions(const struct cvb_gate_plan *plan, unsigned i, unsigned have)
{
	if (!plan->n_looks)
		return have;
	if (plan->looks[i] <= have)
		return plan->looks[i];
	return plan->final ? have : 0;
}

/* The p values against either end of what is accepted. */
static int find_p(const struct cvb_sessions *s, const struct cvb_gate_plan *plan,
		  struct cvb_gate_answer *a, struct cvb_err *err)
{
	struct cvb_bounds_of of = {.alpha = a->alpha, .resolution = plan->resolution};
	struct cvb_ratio low = a->ratio, high;
	double lo, hi, t;
	int e = 0;

	accepted(plan->rule, plan->margin, &lo, &hi);
	a->p_fail = low.p_below;
	a->p_pass = low.p_above;
	t = low.p_below_t;
	if (!isinf(hi)) {
		of.margin = lo;
		e = cvb_sessions_ratio(s, a->ratio.sessions, &of, &low, err);
		of.margin = hi;
		if (e == 0)
			e = cvb_sessions_ratio(s, a->ratio.sessions, &of, &high, err);
		if (e < 0)
			return e;
		a->p_fail = fmin(low.p_below, high.p_above);
		a->p_pass = fmax(low.p_above, high.p_below);
		t = fmin(low.p_below_t, high.p_above_t);
	}
	a->p_fail_family = isnan(t) ? NAN : fmin(t * CVB_GATE_ALPHA / a->alpha, 1);
	return 0;
}

int cvb_gate_judge(const struct cvb_sessions *s, const struct cvb_gate_plan *plan,
		   struct cvb_gate_answer *ret, struct cvb_err *err)
{
	struct cvb_gate_answer a = {.verdict = CVB_VERDICT_INCONCLUSIVE,
				    .alpha = cvb_gate_alpha(plan)};
	struct cvb_bounds_of of = {
		.alpha = a.alpha, .margin = plan->margin, .resolution = plan->resolution};
	unsigned looks = cvb_max(plan->n_looks, 1U);
	int r = check_plan(plan, err);

	for (unsigned i = 0; r == 0 && i < looks && !a.look; i++) {
		unsigned n = look_sessions(plan, i, s->n);

		if (!n) {
			a.next_look = plan->final ? 0 : plan->looks[i];
			break;
		}
		r = look_at(s, plan, n, &a, err);
		if (r == 0 && a.verdict != CVB_VERDICT_INCONCLUSIVE)
			a.look = i + 1;
	}
	if (r == 0 && !a.look)
		r = cvb_sessions_ratio(s, s->n, &of, &a.ratio, err);
	if (r < 0)
		return r;
	if (a.look) {
		say_decided(&a, plan);
	} else {
		if (a.ratio.has_interval)
			a.sessions_needed = would_decide(&a, plan, s->n);
		say_undecided(&a, plan, s->n);
	}
	r = find_p(s, plan, &a, err);
	if (r == 0)
		*ret = a;
	return r;
}

int cvb_gate_parse_looks(const char *text, unsigned looks[CVB_GATE_MAX_LOOKS], unsigned *ret_n,
			 struct cvb_err *err)
{
	unsigned n = 0;
	char *end;

	for (const char *s = text;; s = end + 1) {
		errno = 0;

		unsigned long v = strtoul(s, &end, 10);

		if (end == s || strspn(s, "0123456789 ") == 0 || (*end && *end != ',') || v < 2 ||
		    v > 1000)
			return cvb_err_set(
				err, -EINVAL,
				"looks = %s: expected numbers of sessions from 2 to 1000, "
				"as in 6,10,16,24",
				text);
		if (n == CVB_GATE_MAX_LOOKS)
			return cvb_err_set(err, -EINVAL, "looks = %s: more than %d looks", text,
					   CVB_GATE_MAX_LOOKS);
		if (n && v <= looks[n - 1])
			return cvb_err_set(err, -EINVAL, "looks = %s: they must rise", text);
		looks[n++] = (unsigned)v;
		if (!*end)
			break;
	}
	*ret_n = n;
	return 0;
}

/* --- many tests at once ----------------------------------------------------------------------- */

struct ranked {
	double p;
	size_t i;
};

static int compare_ranked(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->p != y->p)
		return x->p < y->p ? -1 : 1;
	return (x->i > y->i) - (x->i < y->i);
}

/* The p values that exist, sorted; fresh memory in *ret. */
static int rank(const double *p, size_t n, double *adjusted, struct ranked **ret, size_t *ret_n)
{
	struct ranked *list = calloc(n + 1, sizeof(*list));
	size_t m = 0;

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		adjusted[i] = NAN;
		if (!isnan(p[i]))
			list[m++] = (struct ranked){p[i], i};
	}
	qsort(list, m, sizeof(*list), compare_ranked);
	*ret = list;
	*ret_n = m;
	return 0;
}

int cvb_holm(const double *p, size_t n, double *adjusted)
{
	_cleanup_free_ struct ranked *list = NULL;
	double least = 0;
	size_t m = 0;
	int r = rank(p, n, adjusted, &list, &m);

	for (size_t k = 0; r == 0 && k < m; k++) {
		least = fmax(least, fmin(1, (double)(m - k) * list[k].p));
		adjusted[list[k].i] = least;
	}
	return r;
}

int cvb_benjamini_hochberg(const double *p, size_t n, double *adjusted)
{
	_cleanup_free_ struct ranked *list = NULL;
	double most = 1;
	size_t m = 0;
	int r = rank(p, n, adjusted, &list, &m);

	for (size_t k = m; r == 0 && k-- > 0;) {
		most = fmin(most, (double)m / (double)(k + 1) * list[k].p);
		adjusted[list[k].i] = most;
	}
	return r;
}
