/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Warm-up: from which iteration on a benchmark runs at its steady speed.
 *
 * The logarithms of the iteration times are searched for change points (stats/changepoint.h, alert
 * preset); steady state begins after the last one whose old level differs from the new one by more
 * than `tolerance`.  It must leave at least half of the iterations, else the benchmark has no
 * steady state within what was measured; so has one that still drifts at its end.  Some benchmarks
 * never reach one (Traini et al. 2023, Empirical Software Engineering 28), which is a finding to be
 * shown, not an error.
 */
#ifndef CVB_STATS_STEADY_H
#define CVB_STATS_STEADY_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>

#define CVB_STEADY_TOLERANCE 0.01

enum cvb_steady_state {
	CVB_STEADY_REACHED,
	CVB_STEADY_NONE,    /* "no-steady-state" */
	CVB_STEADY_TOO_FEW, /* fewer than CVB_CHANGEPOINT_MIN_N iterations: cannot be told */
};

struct cvb_steady {
	enum cvb_steady_state state;
	size_t first;	     /* first steady iteration, from 0; n when there is none */
	double warmup_ratio; /* time at the start / steady time, medians of 4; NaN unless reached */
};

/*
 * Judge n >= 1 iteration (or round) times in order.  `tolerance` in (0, 1), such as
 * CVB_STEADY_TOLERANCE.  -EINVAL naming a time that is not positive and finite; -ENOMEM.
 */
CVB_MUST_CHECK int cvb_steady_find(const double *times, size_t n, double tolerance,
				   struct cvb_steady *ret, struct cvb_err *err);

/* "steady", "no-steady-state", "too-few" */
const char *cvb_steady_name(enum cvb_steady_state state);

/* The state of such a word, or -1. */
int cvb_steady_of_name(const char *name);

#endif
