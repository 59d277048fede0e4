/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/describe.h"

#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* A running sum that keeps what rounding drops (Neumaier 1974). */
struct sum {
	double total;
	double dropped;
};

static void sum_add(struct sum *s, double x)
{
	double t = s->total + x;

	if (fabs(s->total) >= fabs(x))
		s->dropped += (s->total - t) + x;
	else
		s->dropped += (x - t) + s->total;
	s->total = t;
}

static double sum_value(const struct sum *s)
{
	return s->total + s->dropped;
}

/*
 * Values as they are summed: times 2^-exp, which is exact but for digits that are lost beside the
 * largest value, so that neither squares nor differences overflow or vanish.
 */
struct scaled {
	const double *x;
	size_t n;
	int exp; /* 0 for numbers of a usual size */
};

/* up to here no sum of squares overflows, and the square of no difference vanishes */
#define USUAL_EXP 400

static struct scaled scale(const double *x, size_t n)
{
	struct scaled s = {x, n, 0};
	double largest = 0;
	int exp;

	for (size_t i = 0; i < n; i++)
		largest = fmax(largest, fabs(x[i]));
	frexp(largest, &exp);
	if (largest > 0 && isfinite(largest) && abs(exp) > USUAL_EXP)
		s.exp = exp;
	return s;
}

static double at(const struct scaled *s, size_t i)
{
	return s->exp ? ldexp(s->x[i], -s->exp) : s->x[i];
}

/*
 * The mean less the first value, n >= 1.  Relative to that the sum stays exact when a large offset
 * is common to all; and (x[i] - x[0]) - shift is a distance from the mean before it is rounded.
 */
static double mean_shift(const struct scaled *s)
{
	double first = at(s, 0);
	struct sum sum = {0};

	for (size_t i = 0; i < s->n; i++)
		sum_add(&sum, at(s, i) - first);
	return sum_value(&sum) / (double)s->n;
}

void cvb_mean_sd(const double *x, size_t n, double *ret_mean, double *ret_sd)
{
	struct sum rest = {0}, squares = {0};
	struct scaled s = scale(x, n);
	double shift = n ? mean_shift(&s) : NAN, first = n ? at(&s, 0) : NAN;

	*ret_mean = ldexp(first + shift, s.exp);
	if (!ret_sd)
		return;
	*ret_sd = NAN;
	if (n < 2)
		return;
	for (size_t i = 0; i < n; i++) {
		double d = (at(&s, i) - first) - shift;

		sum_add(&rest, d);
		sum_add(&squares, d * d);
	}
	/* the second term is 0 but for rounding; taking it off corrects the first to first order */
	double r = sum_value(&rest);
	double ss = sum_value(&squares) - r * r / (double)n;

	*ret_sd = ldexp(sqrt(fmax(ss, 0) / (double)(n - 1)), s.exp);
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void cvb_sort_doubles(double *x, size_t n)
{
	if (n > 1)
		qsort(x, n, sizeof(*x), compare_doubles);
}

double cvb_median_sorted(const double *x, size_t n)
{
	if (n % 2)
		return x[n / 2];
	double a = x[n / 2 - 1], b = x[n / 2];

	/* the sum of two huge values would overflow, the halves of the smallest ones are none */
	return fabs(a) < 1 && fabs(b) < 1 ? (a + b) / 2 : a / 2 + b / 2;
}

static double lag1(const double *x, size_t n)
{
	struct sum products = {0}, squares = {0};
	struct scaled s = scale(x, n);
	double shift = mean_shift(&s), first = at(&s, 0), before = 0;

	for (size_t i = 0; i < n; i++) {
		double d = (at(&s, i) - first) - shift;

		sum_add(&squares, d * d);
		sum_add(&products, before * d);
		before = d;
	}
	double ss = sum_value(&squares);

	return n > 1 && ss > 0 ? sum_value(&products) / ss : NAN;
}

int cvb_describe(const double *x, size_t n, struct cvb_describe *ret, struct cvb_err *err)
{
	if (!n)
		return cvb_err_set(err, -EINVAL, "there are no values to describe");
	for (size_t i = 0; i < n; i++)
		if (!isfinite(x[i]))
			return cvb_err_set(err, -EINVAL, "value %zu of %zu is not finite (%g)",
					   i + 1, n, x[i]);

	_cleanup_free_ double *sorted = calloc(n, sizeof(*sorted));

	if (!sorted)
		return cvb_err_set(err, -ENOMEM, "out of memory for %zu values", n);
	memcpy(sorted, x, n * sizeof(*sorted));
	cvb_sort_doubles(sorted, n);

	struct cvb_describe d = {.n = n, .min = sorted[0], .max = sorted[n - 1]};

	d.median = cvb_median_sorted(sorted, n);
	cvb_mean_sd(x, n, &d.mean, &d.sd);
	d.lag1 = lag1(x, n);
	for (size_t i = 0; i < n; i++)
		sorted[i] = fabs(sorted[i] - d.median);
	cvb_sort_doubles(sorted, n);
	d.mad = cvb_median_sorted(sorted, n);
	if (isinf(d.sd) || isinf(d.mad))
		return cvb_err_set(err, -EINVAL,
				   "the values lie from %g to %g: their spread is larger than a "
				   "number can be",
				   d.min, d.max);
	*ret = d;
	return 0;
}
