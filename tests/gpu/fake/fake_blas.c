/* SPDX-License-Identifier: Apache-2.0 */
/* cuBLASLt, as the backend uses it; see fake.h.  One-byte formats as on Hopper: first operand
 * transposed, dimensions of a multiple of 16. */
#include "fake.h"
#include "gpu/emu.h"

#include <cublasLt.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CALL(name) FAKE_CALL(name, cublasStatus_t)

struct layout {
	cudaDataType type;
	uint64_t rows, cols;
	int64_t ld;
};

struct preference {
	size_t workspace_bytes; /* 0 unless told, as in the library */
	uint32_t schemes;	/* all unless told */
};

struct desc {
	cublasComputeType_t compute;
	cudaDataType scale;
	bool turned;
};

static cublasStatus_t made(void **ret, size_t bytes)
{
	*ret = calloc(1, bytes);
	fake_count(1);
	return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t freed(const void *p)
{
	free((void *)p);
	fake_count(-1);
	return CUBLAS_STATUS_SUCCESS;
}

FAKE_API cublasStatus_t cublasLtCreate(cublasLtHandle_t *ret)
{
	CALL("cublasLtCreate");
	return made((void **)ret, 1);
}

FAKE_API cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
	return freed(handle);
}

FAKE_API size_t cublasLtGetVersion(void)
{
	return 130000;
}

FAKE_API const char *cublasLtGetStatusName(cublasStatus_t status)
{
	return status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
						     : "CUBLAS_STATUS_EXECUTION_FAILED";
}

FAKE_API cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *ret,
						 cublasComputeType_t compute, cudaDataType scale)
{
	CALL("cublasLtMatmulDescCreate");
	made((void **)ret, sizeof(struct desc));
	*(struct desc *)*ret = (struct desc){compute, scale, false};
	return CUBLAS_STATUS_SUCCESS;
}

FAKE_API cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
	return freed(desc);
}

FAKE_API cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
						       cublasLtMatmulDescAttributes_t which,
						       const void *value, size_t bytes)
{
	CALL("cublasLtMatmulDescSetAttribute");
	if (which != CUBLASLT_MATMUL_DESC_TRANSA || bytes != sizeof(cublasOperation_t))
		return CUBLAS_STATUS_INVALID_VALUE;
	((struct desc *)desc)->turned = *(const cublasOperation_t *)value == CUBLAS_OP_T;
	return CUBLAS_STATUS_SUCCESS;
}

FAKE_API cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *ret, cudaDataType type,
						   uint64_t rows, uint64_t cols, int64_t ld)
{
	CALL("cublasLtMatrixLayoutCreate");
	made((void **)ret, sizeof(struct layout));
	*(struct layout *)*ret = (struct layout){type, rows, cols, ld};
	return CUBLAS_STATUS_SUCCESS;
}

FAKE_API cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
	return freed(layout);
}

FAKE_API cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *ret)
{
	CALL("cublasLtMatmulPreferenceCreate");
	made((void **)ret, sizeof(struct preference));
	((struct preference *)*ret)->schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
	return CUBLAS_STATUS_SUCCESS;
}

FAKE_API cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
	return freed(p);
}

FAKE_API cublasStatus_t cublasLtMatmulPreferenceSetAttribute(
	cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t which, const void *value,
	size_t bytes)
{
	CALL("cublasLtMatmulPreferenceSetAttribute");
	struct preference *want = (struct preference *)p;

	if (which == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && value && bytes == sizeof(size_t))
		want->workspace_bytes = *(const size_t *)value;
	else if (which == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK && value &&
		 bytes == sizeof(uint32_t))
		want->schemes = *(const uint32_t *)value;
	else
		return CUBLAS_STATUS_INVALID_VALUE;
	return CUBLAS_STATUS_SUCCESS;
}

static bool is_byte(cudaDataType type)
{
	return type == CUDA_R_8I || type == CUDA_R_8F_E4M3;
}

/* May the types go together?  From the tables of cublasLtMatmul's documentation. */
static bool types_fit(const struct desc *op, cudaDataType ab, cudaDataType c, cudaDataType d)
{
	static const struct {
		cublasComputeType_t compute;
		cudaDataType scale, ab, c, d;
	} rows[] = {
		{CUBLAS_COMPUTE_64F, CUDA_R_64F, CUDA_R_64F, CUDA_R_64F, CUDA_R_64F},
		{CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F},
		{CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F},
		{CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUDA_R_16BF, CUDA_R_16BF},
		{CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16F, CUDA_R_16F, CUDA_R_16F},
		{CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_8F_E4M3, CUDA_R_16BF, CUDA_R_8F_E4M3},
		{CUBLAS_COMPUTE_32I, CUDA_R_32F, CUDA_R_8I, CUDA_R_8I, CUDA_R_8I},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].compute == op->compute && rows[i].scale == op->scale &&
		    rows[i].ab == ab && rows[i].c == c && rows[i].d == d)
			return true;
	return false;
}

/* m, n, k of D = op(A) B + C if the four fit together. */
static bool shape(const struct desc *op, const struct layout *a, const struct layout *b,
		  const struct layout *c, const struct layout *d, uint64_t ret[3])
{
	ret[0] = op->turned ? a->cols : a->rows;
	ret[1] = b->cols;
	ret[2] = op->turned ? a->rows : a->cols;
	if (b->rows != ret[2] || d->rows != ret[0] || d->cols != ret[1] || c->rows != ret[0] ||
	    c->cols != ret[1] || a->ld < (int64_t)a->rows || d->ld < (int64_t)d->rows)
		return false;
	if (a->type != b->type || !types_fit(op, a->type, c->type, d->type) ||
	    b->ld < (int64_t)b->rows || c->ld < (int64_t)c->rows)
		return false;
	return !is_byte(a->type) ||
	       (op->turned && ret[0] % 16 == 0 && ret[1] % 16 == 0 && ret[2] % 16 == 0);
}

FAKE_API cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
	cublasLtHandle_t handle, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
	cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
	cublasLtMatmulPreference_t want, int most, cublasLtMatmulHeuristicResult_t ret[],
	int *ret_found)
{
	uint64_t mnk[3];

	CALL("cublasLtMatmulAlgoGetHeuristic");
	if (!handle || !want || most < 1)
		return CUBLAS_STATUS_INVALID_VALUE;
	*ret_found = shape((struct desc *)op, (struct layout *)a, (struct layout *)b,
			   (struct layout *)c, (struct layout *)d, mnk);
	ret[0].state = *ret_found ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
	const char *none = getenv("FAKE_BLAS_NONE");

	if (none && !strcmp(none, "found"))
		*ret_found = 0;
	if (none && !strcmp(none, "state"))
		ret[0].state = CUBLAS_STATUS_NOT_SUPPORTED;
	ret[0].workspaceSize = ((struct preference *)want)->workspace_bytes;
	/* parts of a sum are added in the output's type where that is not forbidden */
	ret[0].algo.data[0] =
		((struct preference *)want)->schemes &
		(CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE);
	ret[0].algo.data[1] = ret[0].workspaceSize;
	return CUBLAS_STATUS_SUCCESS;
}

struct product {
	struct desc op;
	struct layout a, b, c, d;
	const void *pa, *pb, *pc;
	void *pd;
	double alpha, beta;
	uint64_t mnk[3];
	bool lossy; /* the sum's first half goes through the output's type */
};

static double value_of(const struct layout *l, const void *p, uint64_t row, uint64_t col, bool tf32)
{
	size_t i = col * (size_t)l->ld + row;
	float f;

	switch ((int)l->type) {
	case CUDA_R_64F:
		return ((const double *)p)[i];
	case CUDA_R_8I:
		return ((const int8_t *)p)[i];
	case CUDA_R_8F_E4M3:
		emu_type_load(CVB_GPU_FP8, &f, (const uint8_t *)p + i, 1);
		return f;
	case CUDA_R_16F:
		emu_type_load(CVB_GPU_FP16, &f, (const uint16_t *)p + i, 1);
		return f;
	case CUDA_R_16BF:
		emu_type_load(CVB_GPU_BF16, &f, (const uint16_t *)p + i, 1);
		return f;
	default:
		f = ((const float *)p)[i];
		if (tf32)
			emu_type_load(CVB_GPU_TF32, &f, (const float *)p + i, 1);
		return f;
	}
}

static void put(const struct layout *l, void *p, uint64_t row, uint64_t col, double v)
{
	size_t i = col * (size_t)l->ld + row;
	float f = (float)v;

	switch ((int)l->type) {
	case CUDA_R_64F:
		((double *)p)[i] = v;
		break;
	case CUDA_R_8I:
		emu_int8_store((int8_t *)p + i, &v, 1);
		break;
	case CUDA_R_8F_E4M3:
		emu_type_store(CVB_GPU_FP8, (uint8_t *)p + i, &f, 1);
		break;
	case CUDA_R_16F:
		emu_type_store(CVB_GPU_FP16, (uint16_t *)p + i, &f, 1);
		break;
	case CUDA_R_16BF:
		emu_type_store(CVB_GPU_BF16, (uint16_t *)p + i, &f, 1);
		break;
	default:
		((float *)p)[i] = f;
	}
}

static void product_run(void *arg)
{
	const struct product *p = arg;
	bool tf32 = p->op.compute == CUBLAS_COMPUTE_32F_FAST_TF32;

	for (uint64_t col = 0; col < p->mnk[1]; col++) {
		for (uint64_t row = 0; row < p->mnk[0]; row++) {
			double sum = 0;

			for (uint64_t i = 0; i < p->mnk[2]; i++) {
				if (p->lossy && i == p->mnk[2] / 2) {
					put(&p->d, p->pd, row, col, sum);
					sum = value_of(&p->d, p->pd, row, col, false);
				}
				sum += value_of(&p->a, p->pa, p->op.turned ? i : row,
						p->op.turned ? row : i, tf32) *
				       value_of(&p->b, p->pb, i, col, tf32);
			}
			sum *= p->alpha;
			if (p->beta != 0)
				sum += p->beta * value_of(&p->c, p->pc, row, col, false);
			put(&p->d, p->pd, row, col, sum);
		}
	}
}

FAKE_API cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t op,
				       const void *alpha, const void *pa, cublasLtMatrixLayout_t a,
				       const void *pb, cublasLtMatrixLayout_t b, const void *beta,
				       const void *pc, cublasLtMatrixLayout_t c, void *pd,
				       cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algo,
				       void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
	struct product p = {*(struct desc *)op,
			    *(struct layout *)a,
			    *(struct layout *)b,
			    *(struct layout *)c,
			    *(struct layout *)d,
			    pa,
			    pb,
			    pc,
			    pd,
			    0,
			    0,
			    {0},
			    algo && algo->data[0]};
	bool full = p.op.scale == CUDA_R_64F;

	CALL("cublasLtMatmul");
	if (!handle || !algo || !fake_is_device(workspace, workspace_bytes) ||
	    (uintptr_t)workspace % 256 || workspace_bytes < algo->data[1])
		return CUBLAS_STATUS_INVALID_VALUE;
	if (!shape(&p.op, &p.a, &p.b, &p.c, &p.d, p.mnk))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	p.alpha = full ? *(const double *)alpha : (double)*(const float *)alpha;
	p.beta = full ? *(const double *)beta : (double)*(const float *)beta;
	return fake_push((CUstream)stream, product_run, &p, sizeof(p)) == CUDA_SUCCESS
		       ? CUBLAS_STATUS_SUCCESS
		       : CUBLAS_STATUS_EXECUTION_FAILED;
}
