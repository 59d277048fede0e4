/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/matrix.h"

#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define SAMPLE_TERMS ((size_t)1 << 18)

/* A binary format: precision with the hidden bit; 0 for what the host has itself. */
struct format {
	int precision, exponent_bits, bias;
	bool has_inf;
};

static const struct format formats[CVB_GPU_TYPES] = {
	[CVB_GPU_TF32] = {11, 0, 0, false}, /* in memory a float */
	[CVB_GPU_BF16] = {8, 8, 127, true}, [CVB_GPU_FP16] = {11, 5, 15, true},
	[CVB_GPU_FP8] = {4, 4, 7, false},   [CVB_GPU_INT8] = {4, 0, 0, false}, /* of our operands */
};

/* ---- formats ---- */

static double decode(const struct format *f, uint32_t bits)
{
	int mantissa_bits = f->precision - 1, top = (1 << f->exponent_bits) - 1;
	uint32_t mantissa = bits & ((1U << mantissa_bits) - 1);
	int exponent = (int)(bits >> mantissa_bits) & top;
	double sign = bits >> (f->exponent_bits + mantissa_bits) ? -1 : 1;

	if (exponent == top && f->has_inf)
		return mantissa ? (double)NAN : sign * (double)INFINITY;
	if (exponent == top && mantissa == (1U << mantissa_bits) - 1)
		return (double)NAN;
	if (!exponent)
		return sign * ldexp(mantissa, 1 - f->bias - mantissa_bits);
	return sign * ldexp(mantissa | 1U << mantissa_bits, exponent - f->bias - mantissa_bits);
}

/* Of a normal number that is exact in the format. */
static uint32_t encode(const struct format *f, double v)
{
	int mantissa_bits = f->precision - 1, exponent;
	uint32_t sign = signbit(v) ? 1U << (f->exponent_bits + mantissa_bits) : 0;
	double fraction = frexp(fabs(v), &exponent); /* in [0.5, 1) */

	if (v == 0)
		return sign;
	uint32_t mantissa = (uint32_t)ldexp(fraction, f->precision) - (1U << mantissa_bits);

	return sign | (uint32_t)(exponent - 1 + f->bias) << mantissa_bits | mantissa;
}

double cvb_matrix_load(enum cvb_gpu_type type, const void *p, size_t i)
{
	switch (type) {
	case CVB_GPU_FP64:
		return ((const double *)p)[i];
	case CVB_GPU_FP32:
	case CVB_GPU_TF32:
		return (double)((const float *)p)[i];
	case CVB_GPU_BF16:
	case CVB_GPU_FP16:
		return decode(&formats[type], ((const uint16_t *)p)[i]);
	case CVB_GPU_FP8:
		return decode(&formats[type], ((const uint8_t *)p)[i]);
	case CVB_GPU_INT8:
		return (double)((const int8_t *)p)[i];
	case CVB_GPU_TYPES:
		break;
	}
	return (double)NAN;
}

void cvb_matrix_store(enum cvb_gpu_type type, void *p, size_t i, double v)
{
	switch (type) {
	case CVB_GPU_FP64:
		((double *)p)[i] = v;
		break;
	case CVB_GPU_FP32:
	case CVB_GPU_TF32:
		((float *)p)[i] = (float)v;
		break;
	case CVB_GPU_BF16:
	case CVB_GPU_FP16:
		((uint16_t *)p)[i] = (uint16_t)encode(&formats[type], v);
		break;
	case CVB_GPU_FP8:
		((uint8_t *)p)[i] = (uint8_t)encode(&formats[type], v);
		break;
	case CVB_GPU_INT8:
		((int8_t *)p)[i] = (int8_t)v;
		break;
	case CVB_GPU_TYPES:
		break;
	}
}

/* ---- numbers ---- */

double cvb_matrix_value(enum cvb_gpu_type type, uint64_t seed, size_t i)
{
	int64_t x = (int64_t)cvb_gpu_pattern(seed, i % CVB_MATRIX_TILE);
	int p = formats[type].precision;

	if (type == CVB_GPU_FP64)
		return (double)x * 0x1p-63;
	if (type == CVB_GPU_FP32)
		return (double)(float)((double)x * 0x1p-63);
	/* p bits with a sign, doubled, plus one */
	double odd = (double)(2 * (x >> (64 - p)) + 1);

	return type == CVB_GPU_INT8 ? odd : ldexp(odd, -p);
}

double cvb_matrix_alpha(enum cvb_gpu_type type, size_t k)
{
	/* the operands' variance is 85: sums have a standard deviation of 85 sqrt(k), want 32 */
	if (type != CVB_GPU_INT8)
		return 1;
	return ldexp(1, -(int)ceil(log2(85 * sqrt((double)k) / 32)));
}

/* ---- filling ---- */

enum cvb_gpu_mem cvb_matrix_host(const struct cvb_gpu *gpu)
{
	return cvb_gpu_caps(gpu)->flags & CVB_GPU_CAP_PINNED ? CVB_GPU_HOST_PINNED
							     : CVB_GPU_HOST_PAGEABLE;
}

static int copy_wait(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst,
		     struct cvb_gpu_buf *src, size_t bytes, struct cvb_err *err)
{
	int r = cvb_gpu_copy_async(stream, dst, 0, src, 0, bytes, err);
	int synced = cvb_gpu_sync(stream, r < 0 ? NULL : err);

	return r < 0 ? r : synced;
}

/* The first tile of the buffer, there and back. */
static int put_tile(struct cvb_gpu *gpu, struct cvb_gpu_stream *stream, struct cvb_gpu_buf *buf,
		    enum cvb_gpu_type type, size_t count, uint64_t seed, struct cvb_err *err)
{
	size_t bytes = count * cvb_gpu_type_bytes(type);
	struct cvb_gpu_buf *there = NULL, *back = NULL;
	int r = cvb_gpu_alloc(gpu, cvb_matrix_host(gpu), bytes, &there, err);

	if (r == 0)
		r = cvb_gpu_alloc(gpu, cvb_matrix_host(gpu), bytes, &back, err);
	if (r == 0) {
		for (size_t i = 0; i < count; i++)
			cvb_matrix_store(type, cvb_gpu_buf_host(there), i,
					 cvb_matrix_value(type, seed, i));
		memset(cvb_gpu_buf_host(back), 0xff, bytes);
		r = copy_wait(stream, buf, there, bytes, err);
	}
	if (r == 0)
		r = copy_wait(stream, back, buf, bytes, err);
	if (r == 0 && memcmp(cvb_gpu_buf_host(there), cvb_gpu_buf_host(back), bytes) != 0)
		r = cvb_err_set(err, -EBADMSG, "operands came out different on the way back");
	cvb_gpu_free(there);
	cvb_gpu_free(back);
	return r;
}

int cvb_matrix_fill(struct cvb_gpu *gpu, struct cvb_gpu_stream *stream, struct cvb_gpu_buf *buf,
		    enum cvb_gpu_type type, size_t count, uint64_t seed, struct cvb_dev_bad *bad,
		    struct cvb_err *err)
{
	size_t elem = cvb_gpu_type_bytes(type), done = cvb_min(count, CVB_MATRIX_TILE);
	struct cvb_err why = {0};
	int r = put_tile(gpu, stream, buf, type, done, seed, &why);

	if (r == -EBADMSG) {
		cvb_dev_keep(bad, r, &why);
		r = 0;
	}
	if (r < 0 && err)
		*err = why;

	/* what there is, doubled: a whole number of tiles until the last piece */
	for (size_t n; r == 0 && done < count; done += n) {
		n = cvb_min(done, count - done);
		r = cvb_gpu_copy_async(stream, buf, done * elem, buf, 0, n * elem, err);
	}
	return r < 0 ? r : cvb_gpu_sync(stream, err);
}

int cvb_matrix_poison(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *buf,
		      enum cvb_gpu_type type, size_t count, struct cvb_err *err)
{
	int r = cvb_gpu_memset_async(stream, buf, 0, 0xff, count * cvb_gpu_type_bytes(type), err);

	return r < 0 ? r : cvb_gpu_sync(stream, err);
}

/* ---- check ---- */

/* Half of the distance between numbers of the type near v; 0 where the bound below has it. */
static double half_step(enum cvb_gpu_type type, double v)
{
	const struct format *f = &formats[type];
	int exponent;

	if (type == CVB_GPU_INT8)
		return 0.5;
	if (!f->exponent_bits)
		return fabs(v) * 0x1p-24; /* fp64: far more than it needs is added below */
	frexp(v, &exponent);
	exponent = cvb_max(exponent, 2 - f->bias); /* subnormal ones */
	return ldexp(0.5, exponent - f->precision);
}

/* The product's element and the bound of its error. */
static double expect(const struct cvb_gpu_gemm *g, uint64_t seed_a, uint64_t seed_b, size_t row,
		     size_t col, double *ret_bound)
{
	double u = g->type == CVB_GPU_FP64 ? 0x1p-53 : 0x1p-24, squares = 0;
	long double sum = 0;

	for (size_t i = 0; i < g->k; i++) {
		double a = cvb_matrix_value(g->type, seed_a, row * g->k + i);
		double b = cvb_matrix_value(g->type, seed_b, i * g->n + col);

		sum += (long double)a * (long double)b;
		squares += a * b * a * b;
	}
	double largest = fmax(fabs((double)sum), 4 * sqrt(squares));
	double want = g->alpha * (double)sum;

	if (g->type == CVB_GPU_INT8) {
		want = fmin(fmax(want, INT8_MIN), INT8_MAX);
		*ret_bound = 0.5; /* its sums are exact */
		return want;
	}
	*ret_bound = fabs(g->alpha) * 2 * u * (double)g->k * largest +
		     (g->type == CVB_GPU_FP64 ? 0 : half_step(g->type, want));
	return want;
}

/* Long rows: fewer of them, as all of a wrong product is wrong. */
static size_t sample_count(const struct cvb_gpu_gemm *g)
{
	size_t n = SAMPLE_TERMS / g->k;

	return cvb_max((size_t)CVB_MATRIX_SAMPLES / 4, cvb_min(n, (size_t)CVB_MATRIX_SAMPLES));
}

static size_t place(const struct cvb_gpu_gemm *g, size_t i)
{
	size_t count = (size_t)g->m * g->n;

	/* the last element too: a product that stops early misses it */
	return i ? cvb_gpu_pattern(42, i) % count : count - 1;
}

int cvb_matrix_check(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *scratch,
		     const struct cvb_gpu_gemm *gemm, uint64_t seed_a, uint64_t seed_b,
		     const char *what, struct cvb_err *err)
{
	return cvb_matrix_check_some(stream, scratch, gemm, seed_a, seed_b, CVB_MATRIX_SAMPLES,
				     what, err);
}

int cvb_matrix_check_some(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *scratch,
			  const struct cvb_gpu_gemm *gemm, uint64_t seed_a, uint64_t seed_b,
			  size_t most, const char *what, struct cvb_err *err)
{
	size_t elem = cvb_gpu_type_bytes(gemm->type), n = cvb_min(sample_count(gemm), most);
	int r = 0;

	memset(cvb_gpu_buf_host(scratch), 0xff, n * elem);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = cvb_gpu_copy_async(stream, scratch, i * elem, gemm->c, place(gemm, i) * elem,
				       elem, err);
	int synced = cvb_gpu_sync(stream, r < 0 ? NULL : err);

	r = r < 0 ? r : synced;
	for (size_t i = 0; r == 0 && i < n; i++) {
		size_t row = place(gemm, i) / gemm->n, col = place(gemm, i) % gemm->n;
		double got = cvb_matrix_load(gemm->type, cvb_gpu_buf_host(scratch), i);
		double bound, want = expect(gemm, seed_a, seed_b, row, col, &bound);

		if (!(fabs(got - want) <= bound)) /* also a NaN */
			r = cvb_err_set(err, -EBADMSG,
					"%s %s: element (%zu, %zu) is %.17g instead of %.17g; the "
					"bound is %.3g",
					what, cvb_gpu_type_text(gemm->type), row, col, got, want,
					bound);
	}
	return r;
}
