/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Number formats that no CPU library multiplies: to and from float, rounding to nearest even.
 *
 *   fp16  IEEE 754 binary16          bf16  the upper half of a float
 *   fp8   E4M3 of the OCP 8-bit floating point specification: no infinity, saturates at 448
 *   tf32  a float whose mantissa is rounded to 10 bits as it is read
 *   int8  saturates
 */
#include "core/util.h"
#include "gpu/emu.h"

#include <math.h>
#include <string.h>

/* A format of 1 + exponent + mantissa bits. */
struct format {
	unsigned mantissa;    /* bits */
	unsigned bias;	      /* of the exponent */
	uint32_t largest;     /* code of the largest finite number */
	uint32_t beyond;      /* code of what is larger than that */
	uint32_t first_nan;   /* codes from here on are no numbers, or infinite */
	uint32_t sign, quiet; /* sign bit, code of a NaN */
};

static const struct format fp16 = {10, 15, 0x7bff, 0x7c00, 0x7c00, 0x8000, 0x7e00};
static const struct format bf16 = {7, 127, 0x7f7f, 0x7f80, 0x7f80, 0x8000, 0x7fc0};
static const struct format fp8 = {3, 7, 0x7e, 0x7e, 0x7f, 0x80, 0x7f};

static float float_of_bits(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static uint32_t bits_of_float(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

static inline float decode(const struct format *t, uint32_t code)
{
	uint32_t magnitude = code & ~t->sign;
	/* the exponent is too small by a constant, also where the number is subnormal */
	float f = float_of_bits(magnitude << (23 - t->mantissa)) *
		  float_of_bits((254 - t->bias) << 23);

	if (magnitude >= t->first_nan)
		f = magnitude == t->beyond ? INFINITY : NAN;
	return code & t->sign ? -f : f;
}

/* Round the mantissa of a float's bits to so many bits; a carry goes into the exponent. */
static inline uint32_t round_mantissa(uint32_t bits, unsigned mantissa)
{
	unsigned drop = 23 - mantissa;

	return bits + ((1U << (drop - 1)) - 1) + (bits >> drop & 1);
}

static inline uint32_t encode(const struct format *t, float f)
{
	uint32_t sign = signbit(f) ? t->sign : 0, code;
	float magnitude = fabsf(f);

	if (isnan(f))
		return sign | t->quiet;
	/* below the smallest normal number the codes are multiples of the smallest of all */
	if (magnitude < float_of_bits((128 - t->bias) << 23))
		code = (uint32_t)lrintf(ldexpf(magnitude, (int)(t->bias - 1 + t->mantissa)));
	else
		code = (round_mantissa(bits_of_float(magnitude), t->mantissa) >>
			(23 - t->mantissa)) -
		       ((127 - t->bias) << t->mantissa);
	return sign | (code > t->largest ? t->beyond : code);
}

static float round_tf32(float f)
{
	return isfinite(f) ? float_of_bits(round_mantissa(bits_of_float(f), 10) & ~0x1fffU) : f;
}

void emu_type_load(enum cvb_gpu_type type, float *dst, const void *src, size_t n)
{
	const uint16_t *half = src;
	const uint8_t *byte = src;
	const float *full = src;

	/* all of its codes are a float's upper half: a loop of its own is several times as fast */
	for (size_t i = 0; type == CVB_GPU_BF16 && i < n; i++)
		dst[i] = float_of_bits((uint32_t)half[i] << 16);
	for (size_t i = 0; type != CVB_GPU_BF16 && i < n; i++) {
		if (type == CVB_GPU_FP16)
			dst[i] = decode(&fp16, half[i]);
		else if (type == CVB_GPU_FP8)
			dst[i] = decode(&fp8, byte[i]);
		else
			dst[i] = round_tf32(full[i]);
	}
}

void emu_type_store(enum cvb_gpu_type type, void *dst, const float *src, size_t n)
{
	uint16_t *half = dst;
	uint8_t *byte = dst;
	float *full = dst;

	for (size_t i = 0; i < n; i++) {
		if (type == CVB_GPU_BF16)
			half[i] = (uint16_t)encode(&bf16, src[i]);
		else if (type == CVB_GPU_FP16)
			half[i] = (uint16_t)encode(&fp16, src[i]);
		else if (type == CVB_GPU_FP8)
			byte[i] = (uint8_t)encode(&fp8, src[i]);
		else
			full[i] = src[i];
	}
}

void emu_int8_load(double *dst, const int8_t *src, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = src[i];
}

void emu_int8_store(int8_t *dst, const double *src, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = (int8_t)lrint(fmin(fmax(src[i], INT8_MIN), INT8_MAX));
}
