/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ratio of two arms' performance, estimated so that a verdict can be built on it.
 *
 * The unit of inference is the session (a fresh boot of every arm), because runs differ from one
 * another by more than the samples within a run do.  With performance = value, or 1/value where
 * lower is better:
 *
 *   y_ij = ln(perf_test / perf_base)   round j of session i, both arms measured in that round
 *   z_i  = Hodges-Lehmann of y_i1 … y_im: the median of all (y_a + y_b) / 2, a <= b
 *   mean(z) -+ t(1 - alpha, S - 1) sd(z) / sqrt(S)
 *
 * Everything is on the log scale and exponentiated last.  Each bound is a one-sided (1 - alpha)
 * bound; together they are a two-sided (1 - 2 alpha) interval.
 *
 * Sources: Hodges & Lehmann 1963, Ann. Math. Statist. 34(2); sessions as the unit: Kalibera &
 * Jones, "Quantifying performance changes with effect size confidence intervals", arXiv:2007.10899.
 */
#ifndef CVB_STATS_RATIO_H
#define CVB_STATS_RATIO_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>

/* Both arms' values of one round.  `session` is any number that tells sessions apart. */
struct cvb_pair {
	unsigned session;
	unsigned round;
	double base;
	double test;
};

struct cvb_ratio {
	double ratio;	   /* exp(mean(z)): test / base, > 1 means test is faster */
	double lower;	   /* one-sided (1 - alpha) lower bound; NaN when there is no interval */
	double upper;	   /* one-sided (1 - alpha) upper bound; NaN when there is no interval */
	double log_mean;   /* mean of the z_i */
	double log_sd;	   /* their standard deviation; NaN for one session */
	unsigned sessions; /* S */
	unsigned rounds;   /* pairs of all sessions together */
	bool has_interval; /* false with one session: its spread cannot be known */
};

/*
 * Estimate from `n` pairs.  They may come in any order; sessions may have unequal numbers of
 * rounds. -EINVAL for no pairs, alpha outside (0, 0.5), or a value that is not a positive finite
 * number (the message names session, round and value); -ENOMEM.
 */
CVB_MUST_CHECK int cvb_ratio_paired(const struct cvb_pair *pairs, size_t n, bool lower_is_better,
				    double alpha, struct cvb_ratio *ret, struct cvb_err *err);

/* The same estimate with another alpha (an A/A check at 99 % beside a gate at 95 %). */
void cvb_ratio_bounds(const struct cvb_ratio *r, double alpha, double *ret_lower,
		      double *ret_upper);

/*
 * How many sessions would probably decide between "at least margin" and "below it", if the observed
 * mean and spread persist: the least S whose half-width t(1 - alpha, S - 1) sd / sqrt(S) is no
 * wider than the distance of the estimate from the margin.  0 when it cannot be told (one session)
 * or when more than `max` would be needed.
 */
unsigned cvb_ratio_sessions_needed(const struct cvb_ratio *r, double margin, double alpha,
				   unsigned max);

/*
 * Hodges-Lehmann location of n >= 1 finite values: the exact median of the n (n + 1) / 2 Walsh
 * averages, in O(n log n) time and no extra memory.  Sorts `x` in place.
 */
double cvb_hodges_lehmann(double *x, size_t n);

#endif
