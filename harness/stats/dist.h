/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Distribution functions that the estimators need.  Pure functions, callable from any thread.
 *
 * Sources: NIST Digital Library of Mathematical Functions (https://dlmf.nist.gov), sections 5.11
 * (Stirling's series), 8.17 (incomplete beta function and its continued fraction).
 */
#ifndef CVB_STATS_DIST_H
#define CVB_STATS_DIST_H

/*
 * Regularised incomplete beta function I_x(a, b) for a, b > 0.  `x` and `y` = 1 - x are both given,
 * so that no digits are lost when x is close to 0 or 1.  NaN outside the domain.
 */
double cvb_beta_inc(double a, double b, double x, double y);

/* Student t with `df` > 0 degrees of freedom: P(T <= t). */
double cvb_t_cdf(double t, double df);

/* P(T > t): keeps its digits far out in the tail, where 1 - cvb_t_cdf would not. */
double cvb_t_sf(double t, double df);

/* The t with P(T <= t) = p.  -inf and +inf at p = 0 and 1, NaN outside [0, 1] or for df <= 0. */
double cvb_t_quantile(double p, double df);

#endif
