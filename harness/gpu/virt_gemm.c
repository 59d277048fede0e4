/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Elements of a matrix product, each when somebody reads it.
 *
 * Products are summed in double, in the order of k, and rounded once to the type, to the nearest,
 * ties to even.  Formats: IEEE 754 half and single; BF16 is the upper half of a single; TF32 a
 * single of which the product takes 10 bits of mantissa; FP8 is E4M3 as in the OCP 8-bit formats,
 * without infinity, saturating at 448; INT8 saturates.
 */
#include "gpu/virt.h"

#include "core/util.h"

#include <math.h>
#include <string.h>

enum {
	BATCH = 512,
};

/* ---- small formats ---- */

struct format {
	int exponent_bits, mantissa_bits, bias;
	bool has_inf;
};

static const struct format half_format = {5, 10, 15, true};
static const struct format bfloat_format = {8, 7, 127, true};
static const struct format e4m3_format = {4, 3, 7, false};

static double decode_small(const struct format *f, uint32_t bits)
{
	uint32_t mantissa = bits & ((1U << f->mantissa_bits) - 1);
	int top = (1 << f->exponent_bits) - 1;
	int exponent = (int)(bits >> f->mantissa_bits) & top;
	double sign = bits >> (f->exponent_bits + f->mantissa_bits) ? -1.0 : 1.0;

	if (exponent == top && f->has_inf)
		return mantissa ? (double)NAN : sign * (double)INFINITY;
	if (exponent == top && mantissa == (1U << f->mantissa_bits) - 1)
		return (double)NAN;
	if (!exponent)
		return sign * ldexp(mantissa, 1 - f->bias - f->mantissa_bits);
	return sign *
	       ldexp(mantissa + (1U << f->mantissa_bits), exponent - f->bias - f->mantissa_bits);
}

/* The largest finite number, and the code above it: infinity or NaN. */
static uint32_t encode_large(const struct format *f)
{
	uint32_t top = ((1U << f->exponent_bits) - 1) << f->mantissa_bits;

	/* without infinity: the largest, all ones less the NaN */
	return f->has_inf ? top : top + (1U << f->mantissa_bits) - 2;
}

static uint32_t encode_small(const struct format *f, double v)
{
	uint32_t sign = signbit(v) ? 1U << (f->exponent_bits + f->mantissa_bits) : 0;
	int exponent;

	if (isnan(v))
		return sign | ((1U << (f->exponent_bits + f->mantissa_bits)) - 1);
	v = fabs(v);
	if (v == 0)
		return sign;
	if (isinf(v))
		return sign | encode_large(f);
	frexp(v, &exponent);
	exponent = cvb_max(exponent - 1, 1 - f->bias); /* of the unit bit; subnormals share one */
	/* in units of the last bit: exact, then rounded to even; a carry goes to the exponent */
	double units = nearbyint(ldexp(v, f->mantissa_bits - exponent));

	if (exponent > f->bias + 1 || units > ldexp(1, f->mantissa_bits + 1))
		return sign | encode_large(f);
	uint32_t code = (uint32_t)units + ((uint32_t)(exponent + f->bias - 1) << f->mantissa_bits);

	return sign | cvb_min(code, encode_large(f));
}

static double round_tf32(float v)
{
	uint32_t bits;

	memcpy(&bits, &v, sizeof(bits));
	if ((bits >> 23 & 0xff) != 0xff) {
		bits += 0xfff + (bits >> 13 & 1);
		bits &= ~UINT32_C(0x1fff);
	}
	memcpy(&v, &bits, sizeof(v));
	return (double)v;
}

double virt_decode(enum cvb_gpu_type type, const void *p, size_t i)
{
	const uint16_t *u = p;
	const uint8_t *b = p;

	switch (type) {
	case CVB_GPU_FP64:
		return ((const double *)p)[i];
	case CVB_GPU_FP32:
	case CVB_GPU_TF32:
		return (double)((const float *)p)[i];
	case CVB_GPU_BF16:
		return decode_small(&bfloat_format, u[i]);
	case CVB_GPU_FP16:
		return decode_small(&half_format, u[i]);
	case CVB_GPU_FP8:
		return decode_small(&e4m3_format, b[i]);
	case CVB_GPU_INT8:
		return (double)((const int8_t *)p)[i];
	case CVB_GPU_TYPES:
		break;
	}
	return (double)NAN;
}

void virt_encode(enum cvb_gpu_type type, void *p, size_t i, double v)
{
	uint16_t *u = p;
	uint8_t *b = p;

	switch (type) {
	case CVB_GPU_FP64:
		((double *)p)[i] = v;
		break;
	case CVB_GPU_FP32:
	case CVB_GPU_TF32:
		((float *)p)[i] = (float)v;
		break;
	case CVB_GPU_BF16:
		u[i] = (uint16_t)encode_small(&bfloat_format, v);
		break;
	case CVB_GPU_FP16:
		u[i] = (uint16_t)encode_small(&half_format, v);
		break;
	case CVB_GPU_FP8:
		b[i] = (uint8_t)encode_small(&e4m3_format, v);
		break;
	case CVB_GPU_INT8:
		/* alpha may be a NaN */
		((int8_t *)p)[i] =
			isnan(v) ? 0 : (int8_t)fmin(fmax(nearbyint(v), INT8_MIN), INT8_MAX);
		break;
	case CVB_GPU_TYPES:
		break;
	}
}

/* ---- products ---- */

/* Elements of a matrix as the product takes them. */
static void operand_read(const struct virt_content *c, enum cvb_gpu_type type, size_t first,
			 size_t count, double *out)
{
	size_t elem = cvb_gpu_type_bytes(type);
	double raw[BATCH];

	if (type == CVB_GPU_FP64) {
		virt_content_read(c, first * elem, count * elem, out);
		return;
	}
	virt_content_read(c, first * elem, count * elem, raw);
	if (type == CVB_GPU_FP32) { /* the common one: a loop of its own */
		for (size_t i = 0; i < count; i++)
			out[i] = (double)((const float *)(void *)raw)[i];
		return;
	}
	for (size_t i = 0; i < count; i++)
		out[i] = type == CVB_GPU_TF32 ? round_tf32(((const float *)(void *)raw)[i])
					      : virt_decode(type, raw, i);
}

/* sum[j] += a[row][p] * b[p][col + j] for p in first … first + count - 1. */
static void add_products(const struct virt_gemm *g, size_t row, size_t col, size_t n, size_t first,
			 size_t count, double *sum)
{
	double a[BATCH], b[BATCH];

	operand_read(g->a, g->type, row * g->k + first, count, a);
	for (size_t p = 0; p < count; p++) {
		operand_read(g->b, g->type, (first + p) * g->n + col, n, b);
		for (size_t j = 0; j < n; j++)
			sum[j] += a[p] * b[j];
	}
}

/* Up to BATCH elements of one row. */
static void row_read(const struct virt_gemm *g, size_t row, size_t col, size_t n, double *sum)
{
	double c[BATCH];

	memset(sum, 0, n * sizeof(*sum));
	for (size_t p = 0; p < g->k; p += BATCH)
		add_products(g, row, col, n, p, cvb_min((size_t)BATCH, g->k - p), sum);
	if (g->c)
		operand_read(g->c, g->type == CVB_GPU_TF32 ? CVB_GPU_FP32 : g->type,
			     row * g->n + col, n, c);
	for (size_t j = 0; j < n; j++)
		sum[j] = g->alpha * sum[j] + (g->c ? g->beta * c[j] : 0);
}

void virt_gemm_read(const struct virt_gemm *g, size_t first, size_t count, void *out)
{
	double sum[BATCH];

	for (size_t done = 0; done < count;) {
		size_t row = (first + done) / g->n, col = (first + done) % g->n;
		size_t n = cvb_min(cvb_min(count - done, g->n - col), (size_t)BATCH);

		row_read(g, row, col, n, sum);
		for (size_t j = 0; j < n; j++)
			virt_encode(g->type, out, done + j, sum[j]);
		done += n;
	}
}
