/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Elements of a matrix product, each when somebody reads it.
 *
 * Products are summed in double, in the order of k.  The formats are those of emu_types.c; what is
 * smaller than a float is rounded to one first, as there.
 */
#include "gpu/emu.h"
#include "gpu/virt.h"

#include "core/util.h"

#include <string.h>

enum {
	BATCH = 512,
};

/* ---- formats ---- */

/* `n` numbers, up to BATCH, as the product takes them. */
static void load(enum cvb_gpu_type type, double *out, const void *in, size_t n)
{
	float f[BATCH];

	if (type == CVB_GPU_FP64) {
		memcpy(out, in, n * sizeof(*out));
		return;
	}
	if (type == CVB_GPU_INT8) {
		emu_int8_load(out, in, n);
		return;
	}
	if (type == CVB_GPU_FP32)
		memcpy(f, in, n * sizeof(*f));
	else
		emu_type_load(type, f, in, n);
	for (size_t i = 0; i < n; i++)
		out[i] = (double)f[i];
}

static void store(enum cvb_gpu_type type, void *out, const double *in, size_t n)
{
	float f[BATCH];

	if (type == CVB_GPU_FP64) {
		memcpy(out, in, n * sizeof(*in));
		return;
	}
	if (type == CVB_GPU_INT8) {
		emu_int8_store(out, in, n);
		return;
	}
	for (size_t i = 0; i < n; i++)
		f[i] = (float)in[i];
	if (type == CVB_GPU_FP32)
		memcpy(out, f, n * sizeof(*f));
	else
		emu_type_store(type, out, f, n);
}

/* ---- products ---- */

/* Elements of a matrix. */
static void operand_read(const struct virt_content *c, enum cvb_gpu_type type, size_t first,
			 size_t count, double *out)
{
	size_t elem = cvb_gpu_type_bytes(type);
	double raw[BATCH];

	virt_content_read(c, first * elem, count * elem, raw);
	load(type, out, raw, count);
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
		store(g->type, (uint8_t *)out + done * cvb_gpu_type_bytes(g->type), sum, n);
		done += n;
	}
}
