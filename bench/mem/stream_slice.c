/* SPDX-License-Identifier: Apache-2.0 */
#include "mem/stream_slice.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Elements start at a value that tells their index, or one slice could pass for another. */
#define PATTERN 1021

/* Replay and kernels do the same operations; only the order of magnitude of their rounding is
 * at stake. */
#define TOLERANCE 1e-9

static double first_value(size_t index)
{
	return 1.0 + (double)(index % PATTERN) / PATTERN;
}

void cvb_stream_slice_fill(struct cvb_stream_slice *sl)
{
	for (size_t i = 0; i < sl->n; i++) {
		sl->a[i] = first_value(sl->first + i);
		sl->b[i] = 2 * sl->a[i];
		sl->c[i] = 0;
	}
	sl->expect_a = 1;
	sl->expect_b = 2;
}

static uint64_t bits_of(double v)
{
	uint64_t bits;

	memcpy(&bits, &v, sizeof(bits));
	return bits;
}

/* What the last of a batch of passes leaves: each overwrites what the one before wrote. */
static void replay(struct cvb_stream_slice *sl, enum cvb_stream_kernel k, double s, uint64_t iters)
{
	switch (k) {
	case CVB_STREAM_COPY:
		sl->expect_c = sl->expect_a;
		sl->c_constant = false;
		break;
	case CVB_STREAM_SCALE:
		sl->expect_b = s * sl->expect_c;
		break;
	case CVB_STREAM_ADD:
		sl->expect_c = sl->expect_a + sl->expect_b;
		sl->c_constant = false;
		break;
	case CVB_STREAM_TRIAD:
		sl->expect_a = sl->expect_b + s * sl->expect_c;
		break;
	case CVB_STREAM_WRITE:
		sl->expect_c = s;
		sl->c_constant = true;
		break;
	case CVB_STREAM_READ:
		sl->read_wanted += iters * sl->n * bits_of(sl->expect_c);
		break;
	case CVB_STREAM_KERNELS:
		break;
	}
}

void cvb_stream_slice_step(struct cvb_stream_slice *sl, enum cvb_stream_kernel k, cvb_stream_fn *fn,
			   const double scalar[2], uint64_t iters)
{
	uint64_t turn = sl->calls[k]++, sum = 0;

	for (uint64_t i = 0; i < iters; i++) {
		sum += fn(sl->a, sl->b, sl->c, scalar[(i ^ turn) & 1], sl->n);
		__asm__ volatile("" : : : "memory"); /* each pass is a pass */
	}
	sl->read_got += sum;
	if (iters)
		replay(sl, k, scalar[((iters - 1) ^ turn) & 1], iters);
}

static bool near(double value, double expected)
{
	return fabs(value - expected) <= TOLERANCE * fabs(expected);
}

int cvb_stream_slice_check(const struct cvb_stream_slice *sl, struct cvb_err *err)
{
	for (size_t i = 0; i < sl->n; i++) {
		double x = first_value(sl->first + i);
		double c = sl->c_constant ? sl->expect_c : x * sl->expect_c;

		if (near(sl->a[i], x * sl->expect_a) && near(sl->b[i], x * sl->expect_b) &&
		    near(sl->c[i], c))
			continue;
		return cvb_err_set(
			err, -EBADMSG,
			"element %zu is a=%.17g b=%.17g c=%.17g, and the passes made give "
			"a=%.17g b=%.17g c=%.17g",
			sl->first + i, sl->a[i], sl->b[i], sl->c[i], x * sl->expect_a,
			x * sl->expect_b, c);
	}
	if (sl->read_got != sl->read_wanted)
		return cvb_err_set(err, -EBADMSG,
				   "the reads summed up to %#" PRIx64 ", and what was there gives "
				   "%#" PRIx64,
				   sl->read_got, sl->read_wanted);
	return 0;
}
