/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STREAM's four kernels, a read and a write, in the variants that differ in instruction set and in
 * how they store.
 *
 *   copy  c = a         16 bytes an element
 *   scale b = s × c     16
 *   add   c = a + b     24
 *   triad a = b + s × c 24
 *   write c = s          8
 *   read  sum of c       8
 *
 * Bytes are counted as STREAM counts them: what the program asks for.  A regular store also reads
 * the line it writes to; that traffic is not counted.
 */
#ifndef CVB_BENCH_MEM_STREAM_KERNELS_H
#define CVB_BENCH_MEM_STREAM_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cvb_stream_kernel {
	CVB_STREAM_COPY,
	CVB_STREAM_SCALE,
	CVB_STREAM_ADD,
	CVB_STREAM_TRIAD,
	CVB_STREAM_WRITE,
	CVB_STREAM_READ,
	CVB_STREAM_KERNELS,
};

enum cvb_stream_isa {
	CVB_STREAM_SSE2,
	CVB_STREAM_AVX2,
	CVB_STREAM_AVX512,
	CVB_STREAM_ISAS,
};

extern const char *const cvb_stream_isa_names[]; /* "sse2", …; CVB_STREAM_ISAS of them */

/* One pass over n elements: n a multiple of 32, arrays aligned to 64 bytes.  Read returns the sum
 * of the 64-bit patterns (mod 2^64), the others 0. */
typedef uint64_t cvb_stream_fn(double *a, double *b, double *c, double s, size_t n);

/* NULL where this CPU lacks the instructions.  Read does not store: the same both ways. */
cvb_stream_fn *cvb_stream_pick(enum cvb_stream_isa isa, enum cvb_stream_kernel kernel,
			       bool nontemporal);

/* The widest that this CPU has. */
enum cvb_stream_isa cvb_stream_best_isa(void);

#endif
