/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The four kernels of STREAM, in the variants that differ in how they store.
 *
 *   copy  c = a        16 bytes an element
 *   scale b = s × c    16
 *   add   c = a + b    24
 *   triad a = b + s × c 24
 *
 * Bytes are counted as STREAM counts them: what the program asks for.  A regular store also reads
 * the line it writes to; that traffic is not counted.
 */
#ifndef CVB_BENCH_MEM_STREAM_KERNELS_H
#define CVB_BENCH_MEM_STREAM_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

enum cvb_stream_kernel {
	CVB_STREAM_COPY,
	CVB_STREAM_SCALE,
	CVB_STREAM_ADD,
	CVB_STREAM_TRIAD,
	CVB_STREAM_KERNELS,
};

/* One pass over n elements: n a multiple of 8, arrays aligned to 64 bytes. */
typedef void cvb_stream_fn(double *a, double *b, double *c, double s, size_t n);

struct cvb_stream_set {
	const char *name; /* "avx regular" */
	cvb_stream_fn *kernel[CVB_STREAM_KERNELS];
};

/* The best variant this CPU has, with regular or non-temporal stores. */
const struct cvb_stream_set *cvb_stream_pick(bool nontemporal);

/* By number, for tests: NULL past the end; `ret_usable` tells whether this CPU has it. */
const struct cvb_stream_set *cvb_stream_set_at(size_t index, bool *ret_usable);

#endif
