/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A histogram of times with three significant digits, for operations that are timed one by one.
 *
 * Buckets are log-linear: below 2048 every value has its own, above that each power of two has
 * 1024.  A bucket stands for its middle, so that a percentile is off by at most 1/2048 of itself.
 * Adding allocates nothing and costs a few instructions.  One histogram belongs to one thread at a
 * time.
 */
#ifndef CVB_MEASURE_HISTOGRAM_H
#define CVB_MEASURE_HISTOGRAM_H

#include "core/err.h"

#include <stdint.h>

struct cvb_histogram;

/* -ENOMEM.  All its memory is touched here, not while adding.  Caller frees. */
CVB_MUST_CHECK int cvb_histogram_new(struct cvb_histogram **ret, struct cvb_err *err);
struct cvb_histogram *cvb_histogram_free(struct cvb_histogram *h); /* NULL in, NULL out */

void cvb_histogram_reset(struct cvb_histogram *h);

/* Values of 2^44 (5 hours in ns) and above fall into the last bucket; min and max stay exact. */
void cvb_histogram_add(struct cvb_histogram *h, uint64_t value);

/* Add all values of `from` to `to`. */
void cvb_histogram_merge(struct cvb_histogram *to, const struct cvb_histogram *from);

uint64_t cvb_histogram_count(const struct cvb_histogram *h);
uint64_t cvb_histogram_min(const struct cvb_histogram *h); /* 0 without values */
uint64_t cvb_histogram_max(const struct cvb_histogram *h);
double cvb_histogram_mean(const struct cvb_histogram *h); /* exact; NaN without values */

/*
 * The smallest value that at least `p` (0 … 1) of all values do not exceed: element ceil(p · n) of
 * the sorted values (nearest rank), within the precision above.  NaN without values.  With fewer
 * than 1 / (1 - p) values it is the maximum.
 */
double cvb_histogram_percentile(const struct cvb_histogram *h, double p);

#endif
