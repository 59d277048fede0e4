/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One worker's part of mem.stream's three arrays: filled so that every element tells its index, and
 * followed along with the kernels' passes, so that at the end each element is known and checked.
 */
#ifndef CVB_BENCH_MEM_STREAM_SLICE_H
#define CVB_BENCH_MEM_STREAM_SLICE_H

#include "core/err.h"
#include "mem/stream_kernels.h"

/* A worker's part, and what every element of it must be: relative to its first value, but the same
 * number all over c after a write. */
struct cvb_stream_slice {
	_Alignas(128) double *a; /* no line is shared with another worker's */
	double *b, *c;
	size_t first, n;
	unsigned calls[CVB_STREAM_KERNELS];
	double expect_a, expect_b, expect_c;
	bool c_constant;
	uint64_t read_got, read_wanted;
};

/* Write the first values; a, b, c, first and n are set, the rest is zero. */
void cvb_stream_slice_fill(struct cvb_stream_slice *sl);

/* `iters` passes of a kernel, with the two scalars in turn from pass to pass and from call to call.
 * This is what is timed. */
void cvb_stream_slice_step(struct cvb_stream_slice *sl, enum cvb_stream_kernel k, cvb_stream_fn *fn,
			   const double scalar[2], uint64_t iters);

/* -EBADMSG tells the first element that is not what the passes give, or a wrong sum of the reads.
 */
CVB_MUST_CHECK int cvb_stream_slice_check(const struct cvb_stream_slice *sl, struct cvb_err *err);

#endif
