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
 * The mean less x[0], n >= 1.  Relative to the first value the sum stays exact when a large offset
 * is common to all; and (x[i] - x[0]) - shift is a distance from the mean before it is rounded.
 */
static double mean_shift(const double *x, size_t n)
{
	struct sum s = {0};

	for (size_t i = 0; i < n; i++)
		sum_add(&s, x[i] - x[0]);
	return sum_value(&s) / (double)n;
}

void cvb_mean_sd(const double *x, size_t n, double *ret_mean, double *ret_sd)
{
	struct sum rest = {0}, squares = {0};
	double shift = n ? mean_shift(x, n) : NAN;

	*ret_mean = n ? x[0] + shift : NAN;
	if (!ret_sd)
		return;
	*ret_sd = NAN;
	if (n < 2)
		return;
	for (size_t i = 0; i < n; i++) {
		double d = (x[i] - x[0]) - shift;

		sum_add(&rest, d);
		sum_add(&squares, d * d);
	}
	/* the second term is 0 but for rounding; taking it off corrects the first to first order */
	double r = sum_value(&rest);
	double ss = sum_value(&squares) - r * r / (double)n;

	*ret_sd = sqrt(fmax(ss, 0) / (double)(n - 1));
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
	/* halves first: the sum of two huge values must not overflow */
	return x[n / 2 - 1] / 2 + x[n / 2] / 2;
}

static double lag1(const double *x, size_t n)
{
	struct sum products = {0}, squares = {0};
	double shift = mean_shift(x, n), before = 0;

	for (size_t i = 0; i < n; i++) {
		double d = (x[i] - x[0]) - shift;

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
	*ret = d;
	return 0;
}
