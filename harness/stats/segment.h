/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exact penalised segmentation of a series into level and linear pieces.
 *
 * Among all ways to cut y[0..n) into segments of at least `min_len` points, find the one with the
 * least  sum over segments of (squared residuals / v) + penalty x (parameters beyond the first
 * level).  A level costs one penalty, a straight line two; a line has at least `min_line` points.
 * Optimal partitioning over prefix sums: exact, O(n^2) time, O(n) memory.
 *
 * Sources: Jackson et al. 2005, "An algorithm for optimal partitioning of data on an interval",
 * IEEE Signal Processing Letters 12(2); Killick, Fearnhead, Eckley 2012, "Optimal detection of
 * changepoints with a linear computational cost", JASA 107(500), for the pruning.
 *
 * Threading: one segmenter belongs to one thread at a time.
 */
#ifndef CVB_STATS_SEGMENT_H
#define CVB_STATS_SEGMENT_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>

struct cvb_segment {
	size_t start;
	size_t end; /* first point after it */
	bool line;  /* else a level: slope is 0 */
	double mean;
	double slope; /* per point; the line passes through `mean` at the middle of the segment */
};

struct cvb_segmenter {
	size_t n;
	const double *y; /* borrowed; centred and scaled to about unit noise by the caller */
	double *memory;	 /* owned; what follows points into it */
	double *sum;	 /* prefix sums of y, y^2 and i y; n + 1 entries each */
	double *sum_sq;
	double *sum_iy;
	double *inv_n; /* 1 / m and 12 / (m (m^2 - 1)) for m = 0 … n */
	double *inv_sxx;
	double *cost;		     /* of the best segmentation of y[0..t) */
	size_t *last;		     /* owned: start of its last segment */
	size_t *live;		     /* owned: starts that may still be best */
	struct cvb_segment *segment; /* owned: the answer of the latest run, in order */
	size_t n_segments;
};

/* `y` must stay until _done and hold finite numbers, n >= 1.  -ENOMEM. */
CVB_MUST_CHECK int cvb_segmenter_init(struct cvb_segmenter *s, const double *y, size_t n,
				      struct cvb_err *err);

/*
 * Find the best segmentation for noise variance v > 0.  A series shorter than 2 min_len has one
 * segment.  The answer is in s->segment until the next run.
 */
void cvb_segmenter_run(struct cvb_segmenter *s, double v, double penalty, size_t min_len,
		       size_t min_line);

/* Accepts a zeroed or half-built one. */
void cvb_segmenter_done(struct cvb_segmenter *s);

/* Fit y[start..end) with a level or a line. */
void cvb_segment_fit(const struct cvb_segmenter *s, size_t start, size_t end, bool line,
		     struct cvb_segment *ret);

/* The segment's value at point i, which may lie outside it. */
static inline double cvb_segment_at(const struct cvb_segment *g, double i)
{
	return g->mean + g->slope * (i - ((double)g->start + (double)g->end - 1) / 2);
}

#endif
