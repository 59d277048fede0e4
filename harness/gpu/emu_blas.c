/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Matrix products by OpenBLAS, loaded when first needed: it starts threads as it loads, which no
 * other benchmark should have beside it, and a machine without it runs the others.
 */
#include "core/util.h"
#include "gpu/emu.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>

/* From the CBLAS interface of OpenBLAS built with 32-bit integers, as libopenblas.so.0 is. */
#define CBLAS_ROW_MAJOR 101
#define CBLAS_NO_TRANS	111

typedef void sgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
		      const float *a, int lda, const float *b, int ldb, float beta, float *c,
		      int ldc);
typedef void dgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, double alpha,
		      const double *a, int lda, const double *b, int ldb, double beta, double *c,
		      int ldc);
typedef char *get_config_fn(void);

static struct {
	pthread_mutex_t lock;
	void *lib; /* stays loaded: its threads live as long as the program */
	sgemm_fn *sgemm;
	dgemm_fn *dgemm;
	const char *config;
} blas = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int load(struct cvb_err *err)
{
	void *lib = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);

	if (!lib)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "gemm needs OpenBLAS, Debian package libopenblas0 (%s)",
				   dlerror());
	get_config_fn *get_config = (get_config_fn *)dlsym(lib, "openblas_get_config");

	blas.sgemm = (sgemm_fn *)dlsym(lib, "cblas_sgemm");
	blas.dgemm = (dgemm_fn *)dlsym(lib, "cblas_dgemm");
	if (!blas.sgemm || !blas.dgemm || !get_config) {
		dlclose(lib);
		return cvb_err_set(err, -EOPNOTSUPP,
				   "libopenblas.so.0 lacks cblas_sgemm, cblas_dgemm or "
				   "openblas_get_config; Debian package libopenblas0 has them");
	}
	blas.config = get_config();
	blas.lib = lib;
	return 0;
}

int emu_blas_load(const cpu_set_t *cpus, struct cvb_err *err)
{
	cpu_set_t mine;
	int r = 0;

	pthread_mutex_lock(&blas.lock);
	if (!blas.lib) {
		/* it takes as many threads as its loader has CPUs, and a worker is pinned to one */
		bool moved = !pthread_getaffinity_np(pthread_self(), sizeof(mine), &mine) &&
			     !pthread_setaffinity_np(pthread_self(), sizeof(*cpus), cpus);

		r = load(err);
		if (moved)
			pthread_setaffinity_np(pthread_self(), sizeof(mine), &mine);
	}
	pthread_mutex_unlock(&blas.lock);
	return r;
}

int emu_blas_check(const struct emu_device *d, const struct cvb_gpu_gemm *g, struct cvb_err *err)
{
	if (g->m > INT_MAX || g->n > INT_MAX || g->k > INT_MAX)
		return cvb_err_set(err, -EINVAL, "gemm: a dimension is larger than %d", INT_MAX);
	return emu_blas_load(&d->cpus, err);
}

const char *emu_blas_config(void)
{
	pthread_mutex_lock(&blas.lock);
	const char *config = blas.lib ? blas.config : NULL;

	pthread_mutex_unlock(&blas.lock);
	return config;
}

static void sgemm(const struct cvb_gpu_gemm *g, const float *a, const float *b, float *c)
{
	int m = (int)g->m, n = (int)g->n, k = (int)g->k;

	blas.sgemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANS, CBLAS_NO_TRANS, m, n, k, (float)g->alpha, a, k,
		   b, n, (float)g->beta, c, n);
}

static void dgemm(const struct cvb_gpu_gemm *g, const double *a, const double *b, double *c)
{
	int m = (int)g->m, n = (int)g->n, k = (int)g->k;

	blas.dgemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANS, CBLAS_NO_TRANS, m, n, k, g->alpha, a, k, b, n,
		   g->beta, c, n);
}

/* Room for the three matrices in a wider format; kept, for the next product needs it too. */
static void *scratch(struct emu_device *d, size_t bytes, struct cvb_err *err)
{
	if (d->scratch.bytes >= bytes)
		return d->scratch.p;
	cvb_mem_unmap(&d->scratch);
	d->scratch = (struct cvb_mem){0};
	return cvb_mem_map(&d->scratch, bytes, CVB_PAGES_THP, /* numa_node= */ -1, err) < 0
		       ? NULL
		       : d->scratch.p;
}

/* fp8, fp16, bf16 and tf32 are exact in a float, as their products are; sums are float's. */
static int gemm_in_float(struct emu_device *d, const struct cvb_gpu_gemm *g, struct cvb_err *err)
{
	size_t na = (size_t)g->m * g->k, nb = (size_t)g->k * g->n, nc = (size_t)g->m * g->n;
	float *a = scratch(d, (na + nb + nc) * sizeof(float), err), *b, *c;

	if (!a)
		return -ENOMEM;
	b = a + na;
	c = b + nb;
	emu_type_load(g->type, a, emu_buf_ptr(g->a, 0), na);
	emu_type_load(g->type, b, emu_buf_ptr(g->b, 0), nb);
	if (g->type == CVB_GPU_TF32) /* C is a plain float matrix */
		c = (float *)(void *)emu_buf_ptr(g->c, 0);
	else if (g->beta != 0)
		emu_type_load(g->type, c, emu_buf_ptr(g->c, 0), nc);
	sgemm(g, a, b, c);
	if (g->type != CVB_GPU_TF32)
		emu_type_store(g->type, emu_buf_ptr(g->c, 0), c, nc);
	return 0;
}

/* Sums of products of int8 are exact in a double up to k of 2^39. */
static int gemm_int8(struct emu_device *d, const struct cvb_gpu_gemm *g, struct cvb_err *err)
{
	size_t na = (size_t)g->m * g->k, nb = (size_t)g->k * g->n, nc = (size_t)g->m * g->n;
	double *a = scratch(d, (na + nb + nc) * sizeof(double), err), *b, *c;

	if (!a)
		return -ENOMEM;
	b = a + na;
	c = b + nb;
	emu_int8_load(a, (int8_t *)emu_buf_ptr(g->a, 0), na);
	emu_int8_load(b, (int8_t *)emu_buf_ptr(g->b, 0), nb);
	if (g->beta != 0)
		emu_int8_load(c, (int8_t *)emu_buf_ptr(g->c, 0), nc);
	dgemm(g, a, b, c);
	emu_int8_store((int8_t *)emu_buf_ptr(g->c, 0), c, nc);
	return 0;
}

int emu_blas_gemm(struct emu_device *d, const struct cvb_gpu_gemm *g, struct cvb_err *err)
{
	void *a = emu_buf_ptr(g->a, 0), *b = emu_buf_ptr(g->b, 0), *c = emu_buf_ptr(g->c, 0);

	if (g->type == CVB_GPU_FP32)
		sgemm(g, a, b, c);
	else if (g->type == CVB_GPU_FP64)
		dgemm(g, a, b, c);
	else
		return g->type == CVB_GPU_INT8 ? gemm_int8(d, g, err) : gemm_in_float(d, g, err);
	return 0;
}
