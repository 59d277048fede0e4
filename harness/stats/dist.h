/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Distribution functions that the estimators need.  Pure functions, callable from any thread.
 *
 * Sources: NIST Digital Library of Mathematical Functions (https://dlmf.nist.gov), sections 5.11
 * (Stirling's series), 8.17 (incomplete beta function and its continued fraction); Loader 2000,
 * "Fast and accurate computation of binomial probabilities" (saddle-point form).
 */
#ifndef CVB_STATS_DIST_H
#define CVB_STATS_DIST_H

/* What ln z! is above ln(sqrt(2 pi z) (z / e)^z), for z >= 0; 0 at z = 0, as a binomial wants it.
 */
double cvb_stirling_rest(double z);

/* x ln(x / m) + m - x for x, m > 0, without cancellation near x = m (Loader 2000). */
double cvb_deviance(double x, double m);

/*
 * Regularised incomplete beta function I_x(a, b) for a, b > 0.  `x` and `y` = 1 - x are both given,
 * so that no digits are lost when x is close to 0 or 1.  NaN outside the domain.
 */
double cvb_beta_inc(double a, double b, double x, double y);

/*
 * Student t with `df` > 0 degrees of freedom: P(T <= t).  Relative error of either tail: about
 * 1e-14 up to df = 200, 1e-12 up to 1e4, 2e-11 at 1e6.
 */
double cvb_t_cdf(double t, double df);

/* P(T > t): keeps its digits far out in the tail, where 1 - cvb_t_cdf would not. */
double cvb_t_sf(double t, double df);

/* The t with P(T <= t) = p.  -inf and +inf at p = 0 and 1, NaN outside [0, 1] or for df <= 0. */
double cvb_t_quantile(double p, double df);

#endif
