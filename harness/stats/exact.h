/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Distributions that can be computed exactly: binomial and Wilcoxon's signed rank, and the bounds
 * that rest on them.  Pure functions, callable from any thread.
 *
 * Sources: Clopper & Pearson 1934, Biometrika 26 (binomial interval); Wilcoxon 1945, Biometrics
 * Bulletin 1; Tukey 1949 and Walsh 1949 (bounds from averages of pairs), as in Hollander, Wolfe &
 * Chicken, "Nonparametric Statistical Methods", 3rd ed., sections 3.1 to 3.6; Hoeffding 1963, J.
 * Am. Stat. Assoc. 58 (how far a sum of bounded terms strays).
 */
#ifndef CVB_STATS_EXACT_H
#define CVB_STATS_EXACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- binomial: k successes in n trials of probability p --------------------------------------- */

/* P(X = k).  NaN for p outside [0, 1]; 0 for k > n. */
double cvb_binom_pmf(uint64_t k, uint64_t n, double p);

/* P(X <= k) and P(X >= k): each is computed on its own side, so that a small one keeps its digits.
 */
double cvb_binom_cdf(uint64_t k, uint64_t n, double p);
double cvb_binom_sf(uint64_t k, uint64_t n, double p);

/*
 * Clopper-Pearson bounds of p after k of n, each one-sided (1 - alpha): the exact tails are equal
 * to alpha there.  0 at k = 0 and 1 at k = n.  Both NaN for n == 0 or k > n or a bad alpha.
 */
void cvb_binom_bounds(uint64_t k, uint64_t n, double alpha, double *ret_lower, double *ret_upper);

/*
 * Are k1 of n1 and k2 of n2 of the same rate?  One-sided p value of "the second rate is higher", by
 * Fisher's exact test: the hypergeometric probability of k2 or more, given k1 + k2.  NaN when k >
 * n.
 */
double cvb_rates_p(uint64_t k1, uint64_t n1, uint64_t k2, uint64_t n2);

/* --- Wilcoxon signed rank --------------------------------------------------------------------- */

/* Up to here the null distribution is counted out; above, its Fourier series is summed. */
#define CVB_SIGNED_RANK_EXACT_MAX 100

/* Above CVB_SIGNED_RANK_EXACT_MAX a smaller probability is given as this one: it is the error bound
 * there, so that what is returned is never too small. */
#define CVB_SIGNED_RANK_LEAST 1e-12

/* P(W+ <= w) for n differences without ties, of which each sign is a fair coin. */
double cvb_signed_rank_cdf(uint64_t w, size_t n);

/* The largest w with P(W+ <= w) <= alpha into *ret.  False when there is none (2^-n > alpha). */
bool cvb_signed_rank_critical(double alpha, size_t n, uint64_t *ret);

/* --- bounds for a location -------------------------------------------------------------------- */

/* The k-th smallest of the n (n + 1) / 2 Walsh averages (x_a + x_b) / 2, a <= b, of sorted x; k
 * from 1.  O(n) memory-free. */
double cvb_walsh_select(const double *sorted, size_t n, uint64_t k);

/* How many Walsh averages of sorted x are <= v. */
uint64_t cvb_walsh_at_most(const double *sorted, size_t n, double v);

/*
 * One-sided (1 - alpha) bounds of the centre of symmetry, the companion of the Hodges-Lehmann
 * estimate: k-th smallest and k-th largest Walsh average, k from the exact distribution.  False
 * when they do not exist because n is too small: alpha .05 needs 5 values, .0175 needs 6.
 */
bool cvb_walsh_bounds(const double *sorted, size_t n, double alpha, double *ret_lower,
		      double *ret_upper);

#endif
