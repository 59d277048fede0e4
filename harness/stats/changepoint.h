/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Change points of a history: where the level of a noisy series changed for good, for a while, or
 * began to drift.
 *
 *  1. Isolated outliers (at most 3 of 7 neighbours: Hampel identifier, Davies & Gather 1993, JASA
 *     88(423)) are set aside and reported as spikes, not as changes.
 *  2. The rest is cut into levels and straight lines by exact penalised segmentation
 *     (stats/segment.h) with penalty beta ln sqrt(90 n) per parameter: Yao's (1988, Stat. Probab.
 *     Lett. 6) beta ln n at 90 points, stricter below and milder above.  Serial dependence
 *     inflates the noise variance:
 *         v = var(residuals) (1 + phi) / (1 - phi),  phi = lag-1 autocorrelation of the residuals,
 *     corrected for its small-sample bias (Kendall 1954, Biometrika 41).  The two steps alternate
 *     until the answer repeats.
 *  3. A change between two levels is kept only if it also beats a constant level with first-order
 *     autoregressive noise, and stands out from the spread of the two segments beside it: noisy
 *     stretches and slow wandering do not count as steps.
 *
 * Multiplying a series by a positive number or adding a constant does not change what is found.
 * Pure functions, deterministic, callable from any thread.  Cost: quadratic at most up to
 * CVB_CHANGEPOINT_EXACT points.  Above that the series is segmented as medians of blocks of equal
 * size, and each change is then placed within its block; `block` in the answer says so.
 */
#ifndef CVB_STATS_CHANGEPOINT_H
#define CVB_STATS_CHANGEPOINT_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>

#define CVB_CHANGEPOINT_EXACT 20000
#define CVB_CHANGEPOINT_MIN_N 8 /* a shorter series has no change points: two segments of 4 */

#define CVB_CHANGEPOINT_ALERT	2.95 /* beta: few false alarms */
#define CVB_CHANGEPOINT_EXPLORE 2.5  /* beta: a person looks at the answer */

enum cvb_changepoint_label {
	CVB_CHANGEPOINT_STEP,
	CVB_CHANGEPOINT_EXCURSION, /* left and came back within 10 points: both ends say so */
	CVB_CHANGEPOINT_TREND,	   /* a drift begins here (0: it spans the start of the series) */
};

struct cvb_changepoint {
	size_t index; /* 0-based first point of the new level */
	size_t end;   /* first point after that level, or after the drift */
	enum cvb_changepoint_label label;
	/*
	 * New level minus old, in the unit of the values: Hodges-Lehmann shift of up to 30 points
	 * on each side (difference of means where most neighbours are equal); for a trend its whole
	 * rise.  lower … upper: 95 % Welch interval with the effective number of points
	 * n (1 - phi) / (1 + phi); given that there is a change here.
	 */
	double effect;
	double lower;
	double upper;
};

struct cvb_changepoints {
	struct cvb_changepoint *cp; /* owned, ascending index */
	size_t n_cp;
	size_t *spike; /* owned: indices (of block medians when block > 1) of outliers set aside */
	size_t n_spikes;
	size_t n;
	size_t block;	/* 1: every point was segmented; else points per block */
	double sd;	/* of the residuals, outliers set aside; NaN for n < 2 */
	double phi;	/* their lag-1 autocorrelation, 0 … 0.8 */
	bool two_state; /* the level flips between the same two states: steps mean little */
};

/*
 * Find the change points of n >= 1 finite values.  beta > 0.  -EINVAL naming the value that is not
 * finite; -ENOMEM.  A short or constant series has no change points, which is not an error.
 */
CVB_MUST_CHECK int cvb_changepoints_find(const double *x, size_t n, double beta,
					 struct cvb_changepoints *ret, struct cvb_err *err);

void cvb_changepoints_done(struct cvb_changepoints *c);

/* "step", "excursion", "trend" */
const char *cvb_changepoint_label_name(enum cvb_changepoint_label label);

#endif
