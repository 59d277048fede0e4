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

void emu_blas_gemm(const struct cvb_gpu_gemm *g)
{
	int m = (int)g->m, n = (int)g->n, k = (int)g->k;
	void *a = emu_buf_ptr(g->a, 0), *b = emu_buf_ptr(g->b, 0), *c = emu_buf_ptr(g->c, 0);

	if (g->type == CVB_GPU_FP32)
		blas.sgemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANS, CBLAS_NO_TRANS, m, n, k,
			   (float)g->alpha, a, k, b, n, (float)g->beta, c, n);
	else
		blas.dgemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANS, CBLAS_NO_TRANS, m, n, k, g->alpha, a, k,
			   b, n, g->beta, c, n);
}
