/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/ratio.h"

#include "core/util.h"
#include "stats/describe.h"
#include "stats/dist.h"
#include "stats/exact.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

const char *const cvb_ratio_estimator_names[] = {"location", "throughput", "tail", "mean", NULL};
const char *const cvb_pairing_names[] = {"pair", "block", "none", NULL};
const char *const cvb_ratio_method_names[] = {
	"none", "t", "t+signed-rank", "welch", "fieller", "resolution", NULL};

double cvb_hodges_lehmann(double *x, size_t n)
{
	uint64_t all = (uint64_t)n * (n + 1) / 2;

	cvb_sort_doubles(x, n);
	if (all % 2)
		return cvb_walsh_select(x, n, all / 2 + 1);
	return cvb_walsh_select(x, n, all / 2) / 2 + cvb_walsh_select(x, n, all / 2 + 1) / 2;
}

static int compare_pairs(const void *a, const void *b)
{
	const struct cvb_pair *x = a, *y = b;

	if (x->session != y->session)
		return x->session < y->session ? -1 : 1;
	return (x->round > y->round) - (x->round < y->round);
}

static int check_pairs(const struct cvb_pair *pairs, size_t n, struct cvb_err *err)
{
	if (n == 0)
		return cvb_err_set(err, -EINVAL, "no rounds to compare");
	if (n > UINT32_MAX)
		return cvb_err_set(err, -EINVAL, "more than %u rounds", UINT32_MAX);
	for (size_t i = 0; i < n; i++) {
		const double *v = &pairs[i].base;
		const char *arm = "base";

		if (isfinite(*v) && *v > 0) {
			v = &pairs[i].test;
			arm = "test";
		}
		if (!isfinite(*v) || *v <= 0)
			return cvb_err_set(err, -EINVAL,
					   "session %u round %u: the %s value is %g, but a ratio "
					   "needs positive finite numbers",
					   pairs[i].session, pairs[i].round, arm, *v);
	}
	return 0;
}

static int check_bounds(const struct cvb_bounds_of *of, struct cvb_err *err)
{
	if (!(of->alpha > 0 && of->alpha < 0.5))
		return cvb_err_set(err, -EINVAL, "alpha is %g, but must lie in (0, 0.5)",
				   of->alpha);
	if (!(of->margin >= 0) || isinf(of->margin))
		return cvb_err_set(err, -EINVAL, "the margin is %g, but must be a positive number",
				   of->margin);
	if (!(of->resolution >= 0) || isinf(of->resolution))
		return cvb_err_set(err, -EINVAL, "the resolution is %g, but must not be negative",
				   of->resolution);
	return 0;
}

/* --- rounds to sessions ----------------------------------------------------------------------- */

/* ln(sum of exp(l_i)), without overflow. */
static double log_sum(const double *l, size_t n)
{
	double max = l[0], sum = 0;

	for (size_t i = 1; i < n; i++)
		max = fmax(max, l[i]);
	for (size_t i = 0; i < n; i++)
		sum += exp(l[i] - max);
	return max + log(sum);
}

/* ln performance of an arm in one session, from its l[i] = ln(perf) of n rounds; sorts l. */
static double arm_location(double *l, size_t n, enum cvb_ratio_estimator estimator)
{
	switch (estimator) {
	case CVB_RATIO_THROUGHPUT:
		for (size_t i = 0; i < n; i++)
			l[i] = -l[i];
		return log((double)n) - log_sum(l, n);
	case CVB_RATIO_TAIL:
		/* the ceil(.99 n)-th shortest time is the one with that many at least as fast */
		cvb_sort_doubles(l, n);
		return l[n - (n * 99 + 99) / 100];
	case CVB_RATIO_MEAN:
		return log_sum(l, n) - log((double)n);
	case CVB_RATIO_LOCATION:
		break;
	}
	return cvb_hodges_lehmann(l, n);
}

/* One session's rounds p[0..n) into slot i; x and y have room for n. */
static void sum_up(struct cvb_sessions *s, unsigned i, const struct cvb_pair *p, size_t n,
		   double sign, double *x, double *y)
{
	bool paired_location = s->estimator == CVB_RATIO_LOCATION && s->pairing == CVB_PAIRING_PAIR;

	s->rounds[i] = (unsigned)n;
	for (size_t k = 0; k < n; k++) {
		x[k] = sign * log(p[k].base);
		y[k] = sign * log(p[k].test);
		/* difference of logarithms: the quotient itself could overflow */
		if (paired_location)
			y[k] -= x[k];
	}
	if (paired_location) {
		s->base[i] = s->test[i] = NAN;
		s->z[i] = cvb_hodges_lehmann(y, n);
		return;
	}
	s->base[i] = arm_location(x, n, s->estimator);
	s->test[i] = arm_location(y, n, s->estimator);
	s->z[i] = s->test[i] - s->base[i];
}

static bool in_order(const struct cvb_pair *p, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (compare_pairs(&p[i - 1], &p[i]) > 0)
			return false;
	return true;
}

int cvb_sessions_make(struct cvb_sessions *ret, const struct cvb_pair *pairs, size_t n,
		      bool lower_is_better, enum cvb_ratio_estimator estimator,
		      enum cvb_pairing pairing, struct cvb_err *err)
{
	int r = check_pairs(pairs, n, err);

	if (r < 0)
		return r;

	_cleanup_free_ struct cvb_pair *p = calloc(n, sizeof(*p));
	_cleanup_free_ double *x = calloc(n, sizeof(*x));
	_cleanup_free_ double *y = calloc(n, sizeof(*y));
	struct cvb_sessions s = {.estimator = estimator, .pairing = pairing};
	size_t count = 1;

	if (!p || !x || !y)
		return cvb_err_set(err, -ENOMEM, "out of memory for %zu rounds", n);
	memcpy(p, pairs, n * sizeof(*p));
	if (!in_order(p, n))
		qsort(p, n, sizeof(*p), compare_pairs);
	for (size_t i = 1; i < n; i++)
		count += p[i].session != p[i - 1].session;
	s.z = calloc(count, sizeof(*s.z));
	s.base = calloc(count, sizeof(*s.base));
	s.test = calloc(count, sizeof(*s.test));
	s.rounds = calloc(count, sizeof(*s.rounds));
	if (!s.z || !s.base || !s.test || !s.rounds) {
		cvb_sessions_done(&s);
		return cvb_err_set(err, -ENOMEM, "out of memory for %zu sessions", count);
	}
	for (size_t start = 0, end; start < n; start = end) {
		for (end = start; end < n && p[end].session == p[start].session;)
			end++;
		sum_up(&s, s.n++, p + start, end - start, lower_is_better ? -1 : 1, x, y);
	}
	*ret = s;
	return 0;
}

void cvb_sessions_done(struct cvb_sessions *s)
{
	free(s->z);
	free(s->base);
	free(s->test);
	free(s->rounds);
	*s = (struct cvb_sessions){0};
}

/* --- sessions to bounds ----------------------------------------------------------------------- */

static double log_margin(const struct cvb_bounds_of *of)
{
	return of->margin > 0 ? log(of->margin) : 0;
}

/* Fill in bounds given on the log scale, never nearer than the resolution. */
static void set_bounds(struct cvb_ratio *r, double lower, double upper,
		       const struct cvb_bounds_of *of)
{
	double step = log1p(of->resolution);

	r->lower = exp(fmin(lower, r->log_mean - step));
	r->upper = exp(fmax(upper, r->log_mean + step));
	r->has_interval = true;
	r->why = CVB_INTERVAL_OK;
}

static struct cvb_ratio no_bounds(unsigned n, double log_mean, double log_sd,
				  enum cvb_no_interval why)
{
	return (struct cvb_ratio){.ratio = exp(log_mean),
				  .lower = NAN,
				  .upper = NAN,
				  .log_mean = log_mean,
				  .log_sd = log_sd,
				  .sessions = n,
				  .rounds = n,
				  .why = why,
				  .df = NAN,
				  .p_below = NAN,
				  .p_above = NAN,
				  .p_below_t = NAN,
				  .p_above_t = NAN};
}

/* All sessions agree: only a stated resolution gives a width. */
static void no_spread(struct cvb_ratio *r, const struct cvb_bounds_of *of)
{
	r->why = CVB_INTERVAL_NO_SPREAD;
	if (of->resolution > 0) {
		set_bounds(r, r->log_mean, r->log_mean, of);
		r->method = CVB_METHOD_RESOLUTION;
	}
}

/* The t part: mean -+ t(1 - alpha, df) se. */
static void t_bounds(struct cvb_ratio *r, double se, double df, const struct cvb_bounds_of *of,
		     double *ret_half)
{
	double t = (r->log_mean - log_margin(of)) / se;

	r->df = df;
	*ret_half = cvb_t_quantile(1 - of->alpha, df) * se;
	r->p_below = r->p_below_t = cvb_t_cdf(t, df);
	r->p_above = r->p_above_t = cvb_t_sf(t, df);
}

int cvb_ratio_of_logs(const double *z, unsigned n, const struct cvb_bounds_of *of,
		      struct cvb_ratio *ret, struct cvb_err *err)
{
	int r = check_bounds(of, err);
	double mean, sd, half, lower, upper, m = log_margin(of);

	if (r < 0)
		return r;
	if (n == 0)
		return cvb_err_set(err, -EINVAL, "no sessions to compare");
	for (unsigned i = 0; i < n; i++)
		if (!isfinite(z[i]))
			return cvb_err_set(err, -EINVAL, "session value %u is not finite", i + 1);
	cvb_mean_sd(z, n, &mean, &sd);
	*ret = no_bounds(n, mean, sd, CVB_INTERVAL_ONE_SESSION);
	if (n == 1)
		return 0;
	if (sd <= CVB_RATIO_NO_SPREAD) {
		no_spread(ret, of);
		return 0;
	}

	_cleanup_free_ double *sorted = calloc(n, sizeof(*sorted));

	if (!sorted)
		return cvb_err_set(err, -ENOMEM, "out of memory for %u sessions", n);
	memcpy(sorted, z, n * sizeof(*sorted));
	cvb_sort_doubles(sorted, n);
	t_bounds(ret, sd / sqrt(n), n - 1.0, of, &half);
	ret->method = CVB_METHOD_T;
	if (cvb_walsh_bounds(sorted, n, of->alpha, &lower, &upper)) {
		uint64_t all = (uint64_t)n * (n + 1) / 2;
		uint64_t at_most = cvb_walsh_at_most(sorted, n, m);
		uint64_t below = cvb_walsh_at_most(sorted, n, nextafter(m, -INFINITY));

		ret->method = CVB_METHOD_T_HL;
		ret->p_below = fmax(ret->p_below, cvb_signed_rank_cdf(all - below, n));
		ret->p_above = fmax(ret->p_above, cvb_signed_rank_cdf(at_most, n));
	} else {
		lower = upper = mean;
	}
	set_bounds(ret, fmin(lower, mean - half), fmax(upper, mean + half), of);
	return 0;
}

int cvb_ratio_welch(const double *log_base, unsigned n_base, const double *log_test,
		    unsigned n_test, const struct cvb_bounds_of *of, struct cvb_ratio *ret,
		    struct cvb_err *err)
{
	unsigned least = cvb_min(n_base, n_test);
	double mean_b, sd_b, mean_t, sd_t, half;
	int r = check_bounds(of, err);

	if (r < 0)
		return r;
	if (least == 0)
		return cvb_err_set(err, -EINVAL, "no sessions of the %s arm",
				   n_base ? "test" : "base");
	cvb_mean_sd(log_base, n_base, &mean_b, &sd_b);
	cvb_mean_sd(log_test, n_test, &mean_t, &sd_t);
	if (!isfinite(mean_b) || !isfinite(mean_t))
		return cvb_err_set(err, -EINVAL, "a session value of the %s arm is not finite",
				   isfinite(mean_b) ? "test" : "base");
	*ret = no_bounds(least, mean_t - mean_b, NAN, CVB_INTERVAL_ONE_SESSION);
	if (least == 1)
		return 0;

	double vb = sd_b * sd_b / n_base, vt = sd_t * sd_t / n_test, v = vb + vt;

	ret->log_sd = sqrt(v * least); /* as if of `least` differences */
	if (fmax(sd_b, sd_t) <= CVB_RATIO_NO_SPREAD) {
		no_spread(ret, of);
		return 0;
	}
	/* in parts of v, since squares of tiny variances would underflow */
	vb /= v;
	vt /= v;
	t_bounds(ret, sqrt(v), 1 / (vb * vb / (n_base - 1.0) + vt * vt / (n_test - 1.0)), of,
		 &half);
	ret->method = CVB_METHOD_WELCH;
	set_bounds(ret, ret->log_mean - half, ret->log_mean + half, of);
	return 0;
}

/* Mean of products of deviations over n (n - 1): the covariance of the two means. */
static double mean_covariance(const double *a, double mean_a, const double *b, double mean_b,
			      unsigned n)
{
	double sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += (a[i] - mean_a) * (b[i] - mean_b);
	return sum / n / (n - 1.0);
}

int cvb_ratio_fieller(const double *base, const double *test, unsigned n,
		      const struct cvb_bounds_of *of, struct cvb_ratio *ret, struct cvb_err *err)
{
	double a, b, sd, m, se;
	int r = check_bounds(of, err);

	if (r < 0)
		return r;
	if (n == 0)
		return cvb_err_set(err, -EINVAL, "no sessions to compare");
	cvb_mean_sd(base, n, &a, &sd);
	cvb_mean_sd(test, n, &b, &sd);
	if (!isfinite(a) || !isfinite(b) || !(a > 0) || !(b > 0))
		return cvb_err_set(err, -EINVAL,
				   "the session means %g (base) and %g (test) have no ratio", a, b);
	*ret = no_bounds(n, log(b / a), NAN, CVB_INTERVAL_ONE_SESSION);
	if (n == 1)
		return 0;

	double va = mean_covariance(base, a, base, a, n), vb = mean_covariance(test, b, test, b, n);
	double c = mean_covariance(base, a, test, b, n);
	double t = cvb_t_quantile(1 - of->alpha, n - 1.0), t2 = t * t, q = b / a;
	double lead = a * a - t2 * va, mid = a * b - t2 * c, last = b * b - t2 * vb;
	double disc = mid * mid - lead * last;

	se = sqrt(fmax(vb - 2 * q * c + q * q * va, 0)) / b;
	ret->log_sd = se * sqrt(n);
	ret->df = n - 1.0;
	if (ret->log_sd <= 1e-7) { /* the square of 1e-7 is what differences of squares can show */
		no_spread(ret, of);
		return 0;
	}
	m = of->margin > 0 ? of->margin : 1;
	se = sqrt(fmax(vb - 2 * m * c + m * m * va, 0));
	ret->p_below = ret->p_below_t = cvb_t_cdf((b - m * a) / se, n - 1.0);
	ret->p_above = ret->p_above_t = cvb_t_sf((b - m * a) / se, n - 1.0);
	if (lead <= 0 || disc < 0) {
		ret->why = CVB_INTERVAL_UNBOUNDED;
		return 0;
	}
	ret->method = CVB_METHOD_FIELLER;
	set_bounds(ret, log(fmax((mid - sqrt(disc)) / lead, 0)), log((mid + sqrt(disc)) / lead),
		   of);
	return 0;
}

/* Fieller on the sessions' means, scaled so that neither overflows. */
static int fieller_sessions(const struct cvb_sessions *s, unsigned n,
			    const struct cvb_bounds_of *of, struct cvb_ratio *ret,
			    struct cvb_err *err)
{
	_cleanup_free_ double *base = calloc(n, sizeof(*base));
	_cleanup_free_ double *test = calloc(n, sizeof(*test));

	if (!base || !test)
		return cvb_err_set(err, -ENOMEM, "out of memory for %u sessions", n);
	for (unsigned i = 0; i < n; i++) {
		base[i] = exp(s->base[i] - s->base[0]);
		test[i] = exp(s->test[i] - s->base[0]);
	}
	return cvb_ratio_fieller(base, test, n, of, ret, err);
}

int cvb_sessions_ratio(const struct cvb_sessions *s, unsigned n, const struct cvb_bounds_of *of,
		       struct cvb_ratio *ret, struct cvb_err *err)
{
	int r;

	if (n < 1 || n > s->n)
		return cvb_err_set(err, -EINVAL, "%u of %u sessions asked for", n, s->n);
	if (s->pairing == CVB_PAIRING_NONE)
		r = cvb_ratio_welch(s->base, n, s->test, n, of, ret, err);
	else if (s->estimator == CVB_RATIO_MEAN)
		r = fieller_sessions(s, n, of, ret, err);
	else
		r = cvb_ratio_of_logs(s->z, n, of, ret, err);
	if (r < 0)
		return r;
	ret->rounds = 0;
	for (unsigned i = 0; i < n; i++)
		ret->rounds += s->rounds[i];
	return 0;
}

int cvb_ratio_paired(const struct cvb_pair *pairs, size_t n, bool lower_is_better, double alpha,
		     struct cvb_ratio *ret, struct cvb_err *err)
{
	struct cvb_sessions s = {0};
	struct cvb_bounds_of of = {.alpha = alpha};
	int r = cvb_sessions_make(&s, pairs, n, lower_is_better, CVB_RATIO_LOCATION,
				  CVB_PAIRING_PAIR, err);

	if (r < 0)
		return r;
	r = cvb_sessions_ratio(&s, s.n, &of, ret, err);
	cvb_sessions_done(&s);
	return r;
}

unsigned cvb_ratio_sessions_needed(const struct cvb_ratio *r, double margin, double alpha,
				   unsigned max)
{
	if (!r->has_interval || !(margin > 0))
		return 0;

	double distance = fabs(r->log_mean - log(margin));
	unsigned lo = 2, hi = max;

	if (max < 2 || !(cvb_t_quantile(1 - alpha, max - 1.0) * r->log_sd / sqrt(max) <= distance))
		return 0;
	/* the half-width falls with S, so that the least S is found by halving */
	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (cvb_t_quantile(1 - alpha, mid - 1.0) * r->log_sd / sqrt(mid) <= distance)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}
