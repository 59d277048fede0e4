/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/ratio.h"

#include "core/util.h"
#include "stats/describe.h"
#include "stats/dist.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Doubles as integers of the same order, so that bisection can walk from one to the next. */
static int64_t ordered_bits(double x)
{
	int64_t i;

	memcpy(&i, &x, sizeof(i));
	return i >= 0 ? i : INT64_MIN - i;
}

static double from_ordered_bits(int64_t i)
{
	double x;

	i = i >= 0 ? i : INT64_MIN - i;
	memcpy(&x, &i, sizeof(x));
	return x;
}

/* How many pairs a <= b of sorted x have (x_a + x_b) / 2 <= v. */
static uint64_t walsh_at_most(const double *x, size_t n, double v)
{
	uint64_t count = 0;
	size_t top = n; /* x[top - 1] is the largest partner of x[a] that still fits */

	for (size_t a = 0; a < n; a++) {
		while (top > 0 && x[a] / 2 + x[top - 1] / 2 > v)
			top--;
		if (top <= a)
			break;
		count += top - a;
	}
	return count;
}

/* The k-th smallest Walsh average, k from 1: the least v with at least k averages <= v. */
static double walsh_select(const double *x, size_t n, uint64_t k)
{
	int64_t lo = ordered_bits(x[0]), hi = ordered_bits(x[n - 1]);

	while (lo < hi) {
		/* floor of the mean, without overflow */
		int64_t mid = (lo & hi) + ((lo ^ hi) >> 1);

		if (walsh_at_most(x, n, from_ordered_bits(mid)) >= k)
			hi = mid;
		else
			lo = mid + 1;
	}
	return from_ordered_bits(lo);
}

double cvb_hodges_lehmann(double *x, size_t n)
{
	uint64_t all = (uint64_t)n * (n + 1) / 2;

	cvb_sort_doubles(x, n);
	if (all % 2)
		return walsh_select(x, n, all / 2 + 1);
	return walsh_select(x, n, all / 2) / 2 + walsh_select(x, n, all / 2 + 1) / 2;
}

static int compare_pairs(const void *a, const void *b)
{
	const struct cvb_pair *x = a, *y = b;

	if (x->session != y->session)
		return x->session < y->session ? -1 : 1;
	return (x->round > y->round) - (x->round < y->round);
}

static int check_pairs(const struct cvb_pair *pairs, size_t n, double alpha, struct cvb_err *err)
{
	if (!n)
		return cvb_err_set(err, -EINVAL,
				   "there is no round in which both arms were measured");
	if (!(alpha > 0 && alpha < 0.5))
		return cvb_err_set(err, -EINVAL, "alpha is %g, it must lie between 0 and 0.5",
				   alpha);
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

void cvb_ratio_bounds(const struct cvb_ratio *r, double alpha, double *ret_lower, double *ret_upper)
{
	*ret_lower = *ret_upper = NAN;
	if (!r->has_interval)
		return;

	double s = r->sessions;
	double half = cvb_t_quantile(1 - alpha, s - 1) * r->log_sd / sqrt(s);

	*ret_lower = exp(r->log_mean - half);
	*ret_upper = exp(r->log_mean + half);
}

int cvb_ratio_paired(const struct cvb_pair *pairs, size_t n, bool lower_is_better, double alpha,
		     struct cvb_ratio *ret, struct cvb_err *err)
{
	int r = check_pairs(pairs, n, alpha, err);

	if (r < 0)
		return r;

	_cleanup_free_ struct cvb_pair *p = calloc(n, sizeof(*p));
	_cleanup_free_ double *y = calloc(n, sizeof(*y));
	_cleanup_free_ double *z = calloc(n, sizeof(*z));
	unsigned sessions = 0;

	if (!p || !y || !z)
		return cvb_err_set(err, -ENOMEM, "out of memory for %zu rounds", n);
	memcpy(p, pairs, n * sizeof(*p));
	qsort(p, n, sizeof(*p), compare_pairs);
	for (size_t start = 0, end; start < n; start = end) {
		for (end = start; end < n && p[end].session == p[start].session; end++) {
			/* difference of logarithms: the quotient itself could overflow */
			double ln = log(p[end].test) - log(p[end].base);

			y[end] = lower_is_better ? -ln : ln;
		}
		z[sessions++] = cvb_hodges_lehmann(y + start, end - start);
	}

	struct cvb_ratio out = {
		.sessions = sessions, .rounds = (unsigned)n, .has_interval = sessions > 1};

	cvb_mean_sd(z, sessions, &out.log_mean, &out.log_sd);
	out.ratio = exp(out.log_mean);
	cvb_ratio_bounds(&out, alpha, &out.lower, &out.upper);
	*ret = out;
	return 0;
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
