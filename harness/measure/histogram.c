/* SPDX-License-Identifier: Apache-2.0 */
#include "measure/histogram.h"

#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* A value is kept as its highest DIGIT_BITS bits and a shift.  2^11 = 2048 > 2 * 10^3: three
 * decimal digits. */
#define DIGIT_BITS 11
#define HALF	   (UINT64_C(1) << (DIGIT_BITS - 1))
#define VALUE_BITS 44
#define MAX_SHIFT  (VALUE_BITS - DIGIT_BITS)
#define BUCKETS	   ((MAX_SHIFT + 2) * HALF)

struct cvb_histogram {
	uint64_t n, min, max;
	unsigned __int128 sum;
	uint64_t count[BUCKETS];
};

static unsigned shift_of(uint64_t value)
{
	return value >> DIGIT_BITS ? (unsigned)(64 - DIGIT_BITS - __builtin_clzll(value)) : 0;
}

static size_t bucket_of(uint64_t value)
{
	unsigned shift = shift_of(value);

	return shift > MAX_SHIFT ? BUCKETS - 1 : shift * HALF + (value >> shift);
}

/* The middle of a bucket. */
static double value_of(size_t bucket)
{
	uint64_t shift = bucket < 2 * HALF ? 0 : bucket / HALF - 1;
	double low = (double)((bucket - shift * HALF) << shift);

	return low + (double)((UINT64_C(1) << shift) - 1) / 2;
}

int cvb_histogram_new(struct cvb_histogram **ret, struct cvb_err *err)
{
	struct cvb_histogram *h = malloc(sizeof(*h));

	if (!h)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	cvb_histogram_reset(h);
	*ret = h;
	return 0;
}

struct cvb_histogram *cvb_histogram_free(struct cvb_histogram *h)
{
	free(h);
	return NULL;
}

void cvb_histogram_reset(struct cvb_histogram *h)
{
	memset(h, 0, sizeof(*h));
	h->min = UINT64_MAX;
}

void cvb_histogram_add(struct cvb_histogram *h, uint64_t value)
{
	h->count[bucket_of(value)]++;
	h->n++;
	h->sum += value;
	h->min = cvb_min(h->min, value);
	h->max = cvb_max(h->max, value);
}

void cvb_histogram_merge(struct cvb_histogram *to, const struct cvb_histogram *from)
{
	for (size_t i = 0; i < BUCKETS; i++)
		to->count[i] += from->count[i];
	to->n += from->n;
	to->sum += from->sum;
	to->min = cvb_min(to->min, from->min);
	to->max = cvb_max(to->max, from->max);
}

uint64_t cvb_histogram_count(const struct cvb_histogram *h)
{
	return h->n;
}

uint64_t cvb_histogram_min(const struct cvb_histogram *h)
{
	return h->n ? h->min : 0;
}

uint64_t cvb_histogram_max(const struct cvb_histogram *h)
{
	return h->max;
}

double cvb_histogram_mean(const struct cvb_histogram *h)
{
	return h->n ? (double)h->sum / (double)h->n : NAN;
}

double cvb_histogram_percentile(const struct cvb_histogram *h, double p)
{
	double rank = ceil(p * (double)h->n);
	uint64_t want = rank < 1 ? 1 : (uint64_t)rank, seen = 0;
	size_t i = 0;

	if (!h->n)
		return NAN;
	if (want >= h->n)
		return (double)h->max;
	while ((seen += h->count[i]) < want)
		i++;
	/* a bucket's middle may lie beyond the values that are in it */
	return cvb_min(cvb_max(value_of(i), (double)h->min), (double)h->max);
}
