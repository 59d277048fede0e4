/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sample looks like: location, spread and serial dependence.
 */
#ifndef CVB_STATS_DESCRIBE_H
#define CVB_STATS_DESCRIBE_H

#include "core/err.h"

#include <stddef.h>

struct cvb_describe {
	size_t n;
	double mean;
	double sd;     /* n - 1 in the denominator; NaN for n < 2 */
	double lag1;   /* lag-1 autocorrelation in the given order; NaN for n < 2 or no spread */
	double median; /* mean of the two middle values when n is even */
	double mad;    /* median of |x - median|, not scaled (x 1.4826 estimates a Gaussian sd) */
	double min;
	double max;
};

/*
 * Describe n values.  -EINVAL for n == 0 or a value that is not finite (the message names which);
 * -ENOMEM.
 */
CVB_MUST_CHECK int cvb_describe(const double *x, size_t n, struct cvb_describe *ret,
				struct cvb_err *err);

/*
 * Mean and standard deviation alone, no allocation: corrected two-pass with compensated sums (Chan,
 * Golub, LeVeque 1983; Neumaier 1974), so that 1e9 + tiny differences keep their digits.
 * ret_sd may be NULL.
 */
void cvb_mean_sd(const double *x, size_t n, double *ret_mean, double *ret_sd);

/* Sort in place, ascending; values must not be NaN. */
void cvb_sort_doubles(double *x, size_t n);

/* Median of sorted values, n >= 1. */
double cvb_median_sorted(const double *x, size_t n);

#endif
