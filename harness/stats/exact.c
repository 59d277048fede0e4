/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/exact.h"

#include "core/util.h"
#include "stats/dist.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define HALF_LN_2PI 0.91893853320467274178

/* --- binomial --------------------------------------------------------------------------------- */

double cvb_binom_pmf(uint64_t k, uint64_t n, double p)
{
	double x = (double)k, all = (double)n, y = all - x;

	if (!(p >= 0 && p <= 1))
		return NAN;
	if (k > n)
		return 0;
	if (p == 0 || p == 1)
		return (p == 0 ? k == 0 : k == n) ? 1 : 0;
	if (k == 0)
		return exp(all * log1p(-p));
	if (k == n)
		return exp(all * log(p));

	double ln = cvb_stirling_rest(all) - cvb_stirling_rest(x) - cvb_stirling_rest(y) -
		    cvb_deviance(x, all * p) - cvb_deviance(y, all * (1 - p));

	return exp(ln - HALF_LN_2PI + 0.5 * (log(all) - log(x) - log(y)));
}

/* DLMF 8.17.5: P(X >= k) = I_p(k, n - k + 1). */
double cvb_binom_sf(uint64_t k, uint64_t n, double p)
{
	if (!(p >= 0 && p <= 1))
		return NAN;
	if (k == 0)
		return 1;
	if (k > n)
		return 0;
	return cvb_beta_inc((double)k, (double)(n - k) + 1, p, 1 - p);
}

double cvb_binom_cdf(uint64_t k, uint64_t n, double p)
{
	if (!(p >= 0 && p <= 1))
		return NAN;
	if (k >= n)
		return 1;
	return cvb_beta_inc((double)(n - k), (double)k + 1, 1 - p, p);
}

/* The p at which a tail that rises (sf) or falls (cdf) with p is alpha; bisection to the last bit.
 */
static double binom_solve(uint64_t k, uint64_t n, double alpha, bool lower)
{
	double lo = 0, hi = 1;

	for (int i = 0; i < 1100; i++) {
		double mid = lo + (hi - lo) / 2;
		bool above =
			lower ? cvb_binom_sf(k, n, mid) > alpha : cvb_binom_cdf(k, n, mid) <= alpha;

		if (mid <= lo || mid >= hi)
			break;
		if (above)
			hi = mid;
		else
			lo = mid;
	}
	return lower ? lo : hi;
}

void cvb_binom_bounds(uint64_t k, uint64_t n, double alpha, double *ret_lower, double *ret_upper)
{
	*ret_lower = *ret_upper = NAN;
	if (n == 0 || k > n || !(alpha > 0 && alpha < 1))
		return;
	*ret_lower = k == 0 ? 0 : binom_solve(k, n, alpha, true);
	*ret_upper = k == n ? 1 : binom_solve(k, n, alpha, false);
}

double cvb_rates_p(uint64_t k1, uint64_t n1, uint64_t k2, uint64_t n2)
{
	uint64_t k = k1 + k2, n = n1 + n2, top = cvb_min(k, n2), least = k > n1 ? k - n1 : 0;
	double p = (double)k / (double)n, all, sum = 0;

	if (k1 > n1 || k2 > n2)
		return NAN;
	if (k == 0 || k == n || k2 == least)
		return 1;
	/* hypergeometric probability as a quotient of binomial ones, which do not under- or
	 * overflow at p = k / n */
	all = cvb_binom_pmf(k, n, p);
	for (uint64_t i = k2; i <= top; i++) {
		double term = cvb_binom_pmf(i, n2, p) * cvb_binom_pmf(k - i, n1, p) / all;

		sum += term;
		if (term < sum * 1e-18 && (double)i > (double)n2 * p)
			break;
	}
	return fmin(sum, 1);
}

/* --- signed rank ------------------------------------------------------------------------------ */

#define EXACT_W_MAX (CVB_SIGNED_RANK_EXACT_MAX * (CVB_SIGNED_RANK_EXACT_MAX + 1) / 4)

/*
 * A campaign asks for the same few n over and over, so that what only depends on n is kept for the
 * life of the program.  Who asks first makes it; of two at the same time the later one throws his
 * away.
 */
static const void *keep(_Atomic(void *) *slot, void *made)
{
	void *there = NULL;

	if (atomic_compare_exchange_strong(slot, &there, made))
		return made;
	free(made);
	return there;
}

/*
 * P(W+ = w) for w up to `top` <= n (n + 1) / 4 into mass[]: the coefficients of the product of
 * (1 + x^i) / 2.  Up to n = 62 every number is exact (counts below 2^62 over a power of two).
 */
static void signed_rank_mass(size_t n, size_t top, long double *mass)
{
	memset(mass, 0, (top + 1) * sizeof(*mass));
	mass[0] = 1;
	for (size_t i = 1; i <= n; i++) {
		size_t reach = cvb_min(i * (i + 1) / 2, top);

		for (size_t w = reach; w >= i && w > 0; w--)
			mass[w] = (mass[w] + mass[w - i]) / 2;
		for (size_t w = 0; w < cvb_min(i, reach + 1); w++)
			mass[w] /= 2;
	}
}

/* P(W+ <= w) for w up to n (n + 1) / 4, n at most CVB_SIGNED_RANK_EXACT_MAX; in `room` (EXACT_W_MAX
 * + 1 of them) only where there is no memory to keep it. */
static const long double *signed_rank_sums(size_t n, long double *room)
{
	static _Atomic(void *) kept[CVB_SIGNED_RANK_EXACT_MAX + 1];
	const long double *there = atomic_load(&kept[n]);
	size_t half = n * (n + 1) / 4;
	long double *sum;

	if (there)
		return there;
	sum = calloc(half + 1, sizeof(*sum));
	room = sum ? sum : room;
	signed_rank_mass(n, half, room);
	for (size_t w = 1; w <= half; w++)
		room[w] += room[w - 1];
	return sum ? keep(&kept[n], sum) : room;
}

/*
 * For larger n: with X = W+ - mean, symmetric about 0, and y = w + 1/2 - mean,
 *
 *	P(W+ <= w) = 1/2 + E sign(y - X) / 2
 *
 * y - X is half an odd number u.  On these sign() is, for |u| < N / 2 and N even, a finite Fourier
 * series: 2 / N times the sum over odd j < N of sin(j h u) / sin(j h / 2), h = 2 pi / N, where j
 *and N - j give the same.  E exp(i t X) is the product of cos(k t / 2), k = 1 to n.  Hence
 *
 *	1/2 + 2 / N times the sum over odd j < N / 2 of
 *		sin(j h y) / sin(j h / 2) times the product of cos(k j h / 2)
 *
 * if |y - X| < N / 2, which is set to 20 sd or the next integer.  For |y| < 10 sd that fails where
 * |X| > 10 sd; X is a sum of k / 2 with random signs, so by Hoeffding 1963 with a probability below
 * 2 exp(-50).  While n t < pi the product is below exp(-(t sd)^2 / 2); further on it was evaluated
 * to stay below exp(-.46 n).  For n > 100 the terms beyond the first 29 (t sd < 9) are therefore
 * below 1e-17, and what remains is rounding, n times 1e-16.
 */
#define WAVES	  29
#define MOST_KEPT 1000 /* as many sessions as a profile may have */

struct signed_rank_waves {
	double mean, sd;
	double step; /* h */
	double height[WAVES];
};

static struct signed_rank_waves make_waves(double n)
{
	struct signed_rank_waves s = {
		.mean = n * (n + 1) / 4,
		.sd = sqrt(n * (n + 1) * (2 * n + 1) / 24),
	};
	double half = ceil(20 * s.sd);

	s.step = M_PI / half;
	for (unsigned i = 0; i < WAVES; i++) {
		double t = (2 * i + 1) * s.step, product = 1;

		for (double k = 1; k <= n; k++)
			product *= cos(k * t / 2);
		s.height[i] = product / sin(t / 2) / half;
	}
	return s;
}

static struct signed_rank_waves signed_rank_waves(size_t n)
{
	static _Atomic(void *) kept[MOST_KEPT + 1];
	const struct signed_rank_waves *there = n > MOST_KEPT ? NULL : atomic_load(&kept[n]);
	struct signed_rank_waves made, *copy;

	if (there)
		return *there;
	made = make_waves((double)n);
	copy = n > MOST_KEPT ? NULL : malloc(sizeof(*copy));
	if (copy) {
		*copy = made;
		keep(&kept[n], copy);
	}
	return made;
}

static double signed_rank_sum(const struct signed_rank_waves *s, uint64_t w)
{
	double y = (double)w + 0.5 - s->mean, p = 0.5;

	if (fabs(y) >= 10 * s->sd)
		return y < 0 ? CVB_SIGNED_RANK_LEAST : 1;
	for (unsigned i = 0; i < WAVES; i++)
		p += s->height[i] * sin((2 * i + 1) * s->step * y);
	return fmin(fmax(p, CVB_SIGNED_RANK_LEAST), 1);
}

double cvb_signed_rank_cdf(uint64_t w, size_t n)
{
	uint64_t all = (uint64_t)n * (n + 1) / 2;
	long double room[EXACT_W_MAX + 1];

	if (w >= all)
		return 1;
	if (n > CVB_SIGNED_RANK_EXACT_MAX) {
		struct signed_rank_waves waves = signed_rank_waves(n);

		return signed_rank_sum(&waves, w);
	}
	const long double *sum = signed_rank_sums(n, room);

	/* symmetric: the upper half through the lower one */
	return (double)(w > all / 2 ? 1 - sum[all - w - 1] : sum[w]);
}

bool cvb_signed_rank_critical(double alpha, size_t n, uint64_t *ret)
{
	long double room[EXACT_W_MAX + 1];
	uint64_t lo = 0, hi = (uint64_t)n * (n + 1) / 4; /* cdf(lo) <= alpha < cdf(hi) */

	if (!(alpha > 0 && alpha < 0.5) || n == 0 || exp2(-(double)n) > alpha)
		return false;

	bool counted = n <= CVB_SIGNED_RANK_EXACT_MAX;
	struct signed_rank_waves waves =
		counted ? (struct signed_rank_waves){0} : signed_rank_waves(n);
	const long double *sum = counted ? signed_rank_sums(n, room) : NULL;

	while (hi - lo > 1) {
		uint64_t mid = lo + (hi - lo) / 2;

		if ((counted ? sum[mid] : (long double)signed_rank_sum(&waves, mid)) <= alpha)
			lo = mid;
		else
			hi = mid;
	}
	*ret = lo;
	return true;
}

/* --- bounds for a location -------------------------------------------------------------------- */

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

uint64_t cvb_walsh_at_most(const double *x, size_t n, double v)
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

/* The least v with at least k averages <= v. */
double cvb_walsh_select(const double *x, size_t n, uint64_t k)
{
	int64_t lo = ordered_bits(x[0]), hi = ordered_bits(x[n - 1]);

	while (lo < hi) {
		/* floor of the mean, without overflow */
		int64_t mid = (lo & hi) + ((lo ^ hi) >> 1);

		if (cvb_walsh_at_most(x, n, from_ordered_bits(mid)) >= k)
			hi = mid;
		else
			lo = mid + 1;
	}
	return from_ordered_bits(lo);
}

bool cvb_walsh_bounds(const double *sorted, size_t n, double alpha, double *ret_lower,
		      double *ret_upper)
{
	uint64_t w, all = (uint64_t)n * (n + 1) / 2;

	*ret_lower = *ret_upper = NAN;
	if (!cvb_signed_rank_critical(alpha, n, &w))
		return false;
	*ret_lower = cvb_walsh_select(sorted, n, w + 1);
	*ret_upper = cvb_walsh_select(sorted, n, all - w);
	return true;
}
