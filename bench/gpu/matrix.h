/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Matrices with known numbers in device memory, and the check of a product of two of them.
 *
 * The number at place i of a matrix follows from a seed and i alone, so that none of them is kept
 * on the host: 8192 x 8192 costs a tile of CVB_MATRIX_TILE elements that is repeated.  The tile's
 * length is a prime, so that no two rows of a matrix begin alike.  Every number is exact in its
 * format:
 *
 *   fp64, fp32             uniform in [-1, 1) with all their bits
 *   tf32, fp16, bf16, fp8  odd / 2^p, |odd| < 2^p, where p is the precision: 11, 11, 8, 4 bits
 *   int8                   odd, -15 to 15
 *
 * FP8 is E4M3 of the OCP 8-bit formats, the result is rounded to the type, to the nearest.
 */
#ifndef CVB_BENCH_GPU_MATRIX_H
#define CVB_BENCH_GPU_MATRIX_H

#include "gpu/device.h"

#define CVB_MATRIX_TILE ((size_t)65521)

/* Number i of the matrix of a seed. */
double cvb_matrix_value(enum cvb_gpu_type type, uint64_t seed, size_t i);

/* Elements from memory and into it; a value to be written must be exact in the type. */
double cvb_matrix_load(enum cvb_gpu_type type, const void *p, size_t i);
void cvb_matrix_store(enum cvb_gpu_type type, void *p, size_t i, double v);

/* The host memory to check with: pinned where there is, as the rate of pageable copies is unknown
 * of some models. */
enum cvb_gpu_mem cvb_matrix_host(const struct cvb_gpu *gpu);

/*
 * Fill the first `count` elements of a DEVICE buffer, and read the tile back; what came out
 * different is kept in `bad`, for verify.
 */
CVB_MUST_CHECK int cvb_matrix_fill(struct cvb_gpu *gpu, struct cvb_gpu_stream *stream,
				   struct cvb_gpu_buf *buf, enum cvb_gpu_type type, size_t count,
				   uint64_t seed, struct cvb_dev_bad *bad, struct cvb_err *err);

/* Make `count` elements something that no product leaves behind: NaN, or -1 for int8. */
CVB_MUST_CHECK int cvb_matrix_poison(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *buf,
				     enum cvb_gpu_type type, size_t count, struct cvb_err *err);

/* A factor for int8 products of `k` terms, a power of two, so that few results saturate; 1 for
 * other types. */
double cvb_matrix_alpha(enum cvb_gpu_type type, size_t k);

#define CVB_MATRIX_SAMPLES 64

/*
 * Compare CVB_MATRIX_SAMPLES elements of C (a quarter of them from k of 16384 on), the last one
 * among them, with dot products in long double; A has the numbers of seed_a and B of seed_b, beta
 * is 0.  `scratch` is host memory of at least CVB_MATRIX_SAMPLES * 8 bytes.  -EBADMSG names `what`
 * and the element.
 *
 * Bound: half a unit in the last place of the result, and 2 u k max(|sum|, 4 sqrt(sum of squares of
 * the products)), u = 2^-53 for fp64 and 2^-24 else.  A sum of k terms in any order has an error of
 * at most u k times its largest partial sum (Higham, Accuracy and Stability, 4.2); partial sums of
 * random signs stay below four standard deviations.  2: adders that cut off rather than round.
 */
CVB_MUST_CHECK int cvb_matrix_check(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *scratch,
				    const struct cvb_gpu_gemm *gemm, uint64_t seed_a,
				    uint64_t seed_b, const char *what, struct cvb_err *err);

/* The same of no more than `most` elements, the last one among them: for one of many products. */
CVB_MUST_CHECK int cvb_matrix_check_some(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *scratch,
					 const struct cvb_gpu_gemm *gemm, uint64_t seed_a,
					 uint64_t seed_b, size_t most, const char *what,
					 struct cvb_err *err);

#endif
