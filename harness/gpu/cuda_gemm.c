/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Matrix products by cuBLASLt, whose heuristic picks the algorithm once for each shape.
 *
 * cuBLASLt thinks in columns: our row-major C = A B is its column-major C' = B' A', where X' is the
 * same memory read the other way.  Formats of one byte have kernels for dimensions of a multiple of
 * 16 only, and on most devices only where its first operand is transposed: for these B is turned
 * around, and operands are padded, before every product.  That is part of the product's time; what
 * cvb_gpu_describe says under "gemm_packed" names the types.
 */
#include "core/util.h"
#include "gpu/cuda.h"

#include <dlfcn.h>
#include <errno.h>

#define WORKSPACE_BYTES (32 * CVB_MIB) /* what cuBLAS itself takes on Hopper */
#define BYTE_MULTIPLE	16U

#define BLAS_SYMBOLS(X)                                                                            \
	X(cublasLtCreate)                                                                          \
	X(cublasLtDestroy)                                                                         \
	X(cublasLtGetVersion)                                                                      \
	X(cublasLtGetStatusName)                                                                   \
	X(cublasLtMatmul)                                                                          \
	X(cublasLtMatmulAlgoGetHeuristic)                                                          \
	X(cublasLtMatmulDescCreate)                                                                \
	X(cublasLtMatmulDescDestroy)                                                               \
	X(cublasLtMatmulDescSetAttribute)                                                          \
	X(cublasLtMatrixLayoutCreate)                                                              \
	X(cublasLtMatrixLayoutDestroy)                                                             \
	X(cublasLtMatmulPreferenceCreate)                                                          \
	X(cublasLtMatmulPreferenceDestroy)                                                         \
	X(cublasLtMatmulPreferenceSetAttribute)

static struct {
	pthread_mutex_t lock;
	void *lib; /* stays loaded */
#define BLAS_FIELD(name) __typeof__(&(name)) name;
	BLAS_SYMBOLS(BLAS_FIELD)
#undef BLAS_FIELD
} blas = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct {
	cudaDataType_t type;
	cublasComputeType_t compute;
	cudaDataType_t scale;
	int capability; /* from this one on, 10 major + minor */
} types[CVB_GPU_TYPES] = {
	[CVB_GPU_FP64] = {CUDA_R_64F, CUBLAS_COMPUTE_64F, CUDA_R_64F, 0},
	[CVB_GPU_FP32] = {CUDA_R_32F, CUBLAS_COMPUTE_32F, CUDA_R_32F, 0},
	[CVB_GPU_TF32] = {CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F, 80},
	[CVB_GPU_BF16] = {CUDA_R_16BF, CUBLAS_COMPUTE_32F, CUDA_R_32F, 80},
	[CVB_GPU_FP16] = {CUDA_R_16F, CUBLAS_COMPUTE_32F, CUDA_R_32F, 53},
	[CVB_GPU_FP8] = {CUDA_R_8F_E4M3, CUBLAS_COMPUTE_32F, CUDA_R_32F, 89},
	[CVB_GPU_INT8] = {CUDA_R_8I, CUBLAS_COMPUTE_32I, CUDA_R_32F, 72},
};

uint32_t cuda_gemm_types(int major, int minor)
{
	uint32_t bits = 0;

	for (unsigned i = 0; i < CVB_GPU_TYPES; i++)
		/* without kernels there is nothing to turn operands of one byte with */
		if (10 * major + minor >= types[i].capability &&
		    (cuda_has_kernels() || cvb_gpu_type_bytes((enum cvb_gpu_type)i) > 1))
			bits |= 1U << i;
	return bits;
}

/* ---- the library ---- */

static int load(struct cvb_err *err)
{
	static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12",
					    "libcublasLt.so"};
	void *lib = NULL;

	for (size_t i = 0; !lib && i < CVB_ARRAY_LEN(names); i++)
		lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "products need cuBLASLt of the CUDA toolkit, libcublasLt.so.13 "
				   "or .12 (%s)",
				   dlerror());
#define BLAS_FIND(name)                                                                            \
	blas.name = (__typeof__(&(name)))dlsym(lib, #name);                                        \
	if (!blas.name) {                                                                          \
		dlclose(lib);                                                                      \
		return cvb_err_set(err, -EOPNOTSUPP,                                               \
				   "libcublasLt has no " #name ": cuBLASLt 12 or 13 is needed");   \
	}
	BLAS_SYMBOLS(BLAS_FIND)
#undef BLAS_FIND
	blas.lib = lib;
	return 0;
}

static int blas_load(struct cvb_err *err)
{
	pthread_mutex_lock(&blas.lock);
	int r = blas.lib ? 0 : load(err);

	pthread_mutex_unlock(&blas.lock);
	return r;
}

size_t cuda_blas_version(void)
{
	pthread_mutex_lock(&blas.lock);
	size_t version = blas.lib ? blas.cublasLtGetVersion() : 0;

	pthread_mutex_unlock(&blas.lock);
	return version;
}

static int blas_result(cublasStatus_t code, const char *call, struct cvb_err *err)
{
	if (code == CUBLAS_STATUS_SUCCESS)
		return 0;
	int error = code == CUBLAS_STATUS_ALLOC_FAILED	  ? -ENOMEM
		    : code == CUBLAS_STATUS_NOT_SUPPORTED ? -EOPNOTSUPP
							  : -EIO;

	return cvb_err_set(
		err, error,
		"%s: %s; CUBLASLT_LOG_LEVEL=2 in the environment makes cuBLASLt say more", call,
		blas.cublasLtGetStatusName(code));
}

#define BLAS(err, name, ...) blas_result(blas.name(__VA_ARGS__), #name, err)

/* The context's handle, made when first needed. */
static int blas_handle(struct cuda_context *c, struct cvb_err *err)
{
	int r = blas_load(err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&c->lock);
	if (!c->blas)
		r = BLAS(err, cublasLtCreate, &c->blas);
	pthread_mutex_unlock(&c->lock);
	return r;
}

void cuda_blas_free(struct cuda_context *c)
{
	if (c->blas)
		cvb_ignore((int)blas.cublasLtDestroy(c->blas));
	c->blas = NULL;
}

/* ---- plans ---- */

struct cuda_plan {
	LIST_ENTRY(cuda_plan) link;
	enum cvb_gpu_type type;
	uint32_t m, n, k;    /* as asked for */
	uint32_t pm, pn, pk; /* as multiplied */
	bool packed;	     /* B turned, what is not a multiple padded */
	bool wide;	     /* what beta multiplies is converted to bf16 */
	cublasLtMatmulDesc_t desc;
	cublasLtMatrixLayout_t a, b, c, d; /* a is our B */
	cublasLtMatmulHeuristicResult_t best;
};

static void plan_free(struct cuda_plan *p)
{
	cublasLtMatrixLayout_t layouts[] = {p->a, p->b, p->c, p->d};

	for (size_t i = 0; i < CVB_ARRAY_LEN(layouts); i++)
		if (layouts[i])
			cvb_ignore((int)blas.cublasLtMatrixLayoutDestroy(layouts[i]));
	if (p->desc)
		cvb_ignore((int)blas.cublasLtMatmulDescDestroy(p->desc));
	free(p);
}

static int plan_layouts(struct cuda_plan *p, struct cvb_err *err)
{
	cudaDataType_t t = types[p->type].type, ct = p->wide ? CUDA_R_16BF : t;
	cublasOperation_t turned = CUBLAS_OP_T;
	int r = BLAS(err, cublasLtMatmulDescCreate, &p->desc, types[p->type].compute,
		     types[p->type].scale);

	if (r == 0 && p->packed)
		r = BLAS(err, cublasLtMatmulDescSetAttribute, p->desc, CUBLASLT_MATMUL_DESC_TRANSA,
			 &turned, sizeof(turned));
	if (r == 0)
		r = p->packed
			    ? BLAS(err, cublasLtMatrixLayoutCreate, &p->a, t, p->pk, p->pn, p->pk)
			    : BLAS(err, cublasLtMatrixLayoutCreate, &p->a, t, p->pn, p->pk, p->pn);
	if (r == 0)
		r = BLAS(err, cublasLtMatrixLayoutCreate, &p->b, t, p->pk, p->pm, p->pk);
	if (r == 0)
		r = BLAS(err, cublasLtMatrixLayoutCreate, &p->c, ct, p->pn, p->pm, p->pn);
	if (r == 0)
		r = BLAS(err, cublasLtMatrixLayoutCreate, &p->d, t, p->pn, p->pm, p->pn);
	return r;
}

/* Parts of a sum that is split are added as exactly as the sum: not in the narrower output type. */
static int plan_preference(cublasLtMatmulPreference_t want, struct cvb_err *err)
{
	const size_t workspace = WORKSPACE_BYTES;
	const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
	int r = BLAS(err, cublasLtMatmulPreferenceSetAttribute, want,
		     CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof(workspace));

	return r < 0 ? r
		     : BLAS(err, cublasLtMatmulPreferenceSetAttribute, want,
			    CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof(schemes));
}

static int plan_search(struct cuda_plan *p, const struct cuda_context *c, struct cvb_err *err)
{
	cublasLtMatmulPreference_t want = NULL;
	int found = 0, r = BLAS(err, cublasLtMatmulPreferenceCreate, &want);

	if (r == 0)
		r = plan_preference(want, err);
	if (r == 0)
		r = BLAS(err, cublasLtMatmulAlgoGetHeuristic, c->blas, p->desc, p->a, p->b, p->c,
			 p->d, want, 1, &p->best, &found);
	if (want)
		cvb_ignore((int)blas.cublasLtMatmulPreferenceDestroy(want));
	/* of a result that is none only the state is valid */
	if (r == 0 && (!found || p->best.state != CUBLAS_STATUS_SUCCESS))
		r = cvb_err_set(err, -EOPNOTSUPP,
				"cublasLtMatmulAlgoGetHeuristic: cuBLASLt %zu has no algorithm for "
				"%s %u x %u x %u on this GPU",
				blas.cublasLtGetVersion(), cvb_gpu_type_text(p->type), p->m, p->n,
				p->k);
	return r;
}

static uint32_t padded(uint32_t n)
{
	return (n + BYTE_MULTIPLE - 1) / BYTE_MULTIPLE * BYTE_MULTIPLE;
}

static int plan_new(struct cuda_stream *s, const struct cvb_gpu_gemm *g, struct cuda_plan **ret,
		    struct cvb_err *err)
{
	struct cuda_plan *p = calloc(1, sizeof(*p));
	bool bytes = cvb_gpu_type_bytes(g->type) == 1;
	int r;

	if (!p)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (bytes && cvb_max(cvb_max(g->m, g->n), g->k) > UINT32_MAX - BYTE_MULTIPLE) {
		free(p);
		return cvb_err_set(err, -EINVAL, "gemm: a dimension is too large");
	}
	p->type = g->type;
	p->m = g->m;
	p->n = g->n;
	p->k = g->k;
	p->packed = bytes;
	p->pm = bytes ? padded(g->m) : g->m;
	p->pn = bytes ? padded(g->n) : g->n;
	p->pk = bytes ? padded(g->k) : g->k;
	p->wide = g->type == CVB_GPU_FP8;
	r = plan_layouts(p, err);
	if (r == 0)
		r = plan_search(p, s->context, err);
	if (r < 0) {
		plan_free(p);
		return r;
	}
	LIST_INSERT_HEAD(&s->plans, p, link);
	*ret = p;
	return 0;
}

static struct cuda_plan *plan_find(const struct cuda_stream *s, const struct cvb_gpu_gemm *g)
{
	struct cuda_plan *p;

	LIST_FOREACH (p, &s->plans, link)
		if (p->type == g->type && p->m == g->m && p->n == g->n && p->k == g->k)
			return p;
	return NULL;
}

/* ---- room ---- */

static int room_grow(struct cuda_stream *s, struct cuda_room *room, size_t bytes,
		     struct cvb_err *err)
{
	int r;

	if (room->bytes >= bytes)
		return 0;
	r = CU(err, stream_sync, s->stream);
	if (r < 0)
		return r;
	if (room->bytes)
		CU_DROP(mem_free, room->ptr);
	room->bytes = 0;
	r = CU(err, mem_alloc, &room->ptr, bytes);
	if (r == 0)
		room->bytes = bytes;
	return r;
}

static int room_for(struct cuda_stream *s, const struct cuda_plan *p, struct cvb_err *err)
{
	size_t pm = p->pm, pn = p->pn, pk = p->pk;
	int r = room_grow(s, &s->workspace, WORKSPACE_BYTES, err);

	if (r == 0 && p->packed)
		r = room_grow(s, &s->b_turned, pn * pk, err);
	if (r == 0 && p->packed && (p->m != p->pm || p->k != p->pk))
		r = room_grow(s, &s->a_padded, pm * pk, err);
	if (r == 0 && p->packed && (p->m != p->pm || p->n != p->pn))
		r = room_grow(s, &s->c_padded, pm * pn, err);
	if (r == 0 && p->wide)
		r = room_grow(s, &s->c_wide, 2 * pm * pn, err);
	return r;
}

/* With the stream's lock held, or the stream not shared. */
int cuda_gemm_prepare(struct cuda_stream *s, const struct cvb_gpu_gemm *g, struct cvb_err *err)
{
	struct cuda_plan *p;
	int r = blas_handle(s->context, err);

	if (r < 0)
		return r;
	p = plan_find(s, g);
	r = p ? 0 : plan_new(s, g, &p, err);
	return r < 0 ? r : room_for(s, p, err);
}

void cuda_gemm_done(struct cuda_stream *s)
{
	struct cuda_room *rooms[] = {&s->workspace, &s->b_turned, &s->a_padded, &s->c_padded,
				     &s->c_wide};

	while (!LIST_EMPTY(&s->plans)) {
		struct cuda_plan *p = LIST_FIRST(&s->plans);

		LIST_REMOVE(p, link);
		plan_free(p);
	}
	for (size_t i = 0; i < CVB_ARRAY_LEN(rooms); i++) {
		if (rooms[i]->bytes)
			CU_DROP(mem_free, rooms[i]->ptr);
		*rooms[i] = (struct cuda_room){0};
	}
}

/* ---- one product ---- */

/* Rows of `width` bytes from one pitch to another. */
static int copy_rows(struct cuda_stream *s, CUdeviceptr dst, size_t dst_pitch, CUdeviceptr src,
		     size_t src_pitch, size_t width, size_t rows, struct cvb_err *err)
{
	const CUDA_MEMCPY2D c = {
		.srcMemoryType = CU_MEMORYTYPE_DEVICE,
		.srcDevice = src,
		.srcPitch = src_pitch,
		.dstMemoryType = CU_MEMORYTYPE_DEVICE,
		.dstDevice = dst,
		.dstPitch = dst_pitch,
		.WidthInBytes = width,
		.Height = rows,
	};

	return CU(err, copy_2d, &c, s->stream);
}

/* `rows` x `cols` bytes in a room for `prows` x `pcols`, zero around them. */
static int pad(struct cuda_stream *s, const struct cuda_room *room, size_t prows, size_t pcols,
	       CUdeviceptr src, size_t rows, size_t cols, struct cvb_err *err)
{
	int r = cuda_stream_set(s, room->ptr, 0, prows * pcols, err);

	return r < 0 ? r : copy_rows(s, room->ptr, pcols, src, cols, cols, rows, err);
}

/* B, k x n, as n rows of k. */
static int turn_b(struct cuda_stream *s, const struct cuda_plan *p, CUdeviceptr b,
		  struct cvb_err *err)
{
	size_t rows = p->k, cols = p->n, pitch = p->pk;
	void *args[] = {&b, &s->b_turned.ptr, &rows, &cols, &pitch};
	int r = 0;

	if (p->k != p->pk || p->n != p->pn)
		r = cuda_stream_set(s, s->b_turned.ptr, 0, (size_t)p->pn * p->pk, err);
	return r < 0 ? r : cuda_run(s, CUDA_TRANSPOSE, rows * cols / 4, args, err);
}

/* C as bf16. */
static int widen_c(struct cuda_stream *s, const struct cuda_plan *p, CUdeviceptr c,
		   struct cvb_err *err)
{
	size_t rows = p->m, cols = p->n, pitch = p->pn;
	void *args[] = {&c, &s->c_wide.ptr, &rows, &cols, &pitch};
	int r = 0;

	if (p->m != p->pm || p->n != p->pn)
		r = cuda_stream_set(s, s->c_wide.ptr, 0, 2 * (size_t)p->pm * p->pn, err);
	return r < 0 ? r : cuda_run(s, CUDA_FP8_TO_BF16, rows * cols, args, err);
}

struct operands {
	CUdeviceptr a, b, c, d; /* ours: D = A B + C */
};

static int pack(struct cuda_stream *s, const struct cuda_plan *p, const struct cvb_gpu_gemm *g,
		struct operands *o, struct cvb_err *err)
{
	bool padded_a = p->m != p->pm || p->k != p->pk, padded_c = p->m != p->pm || p->n != p->pn;
	int r = turn_b(s, p, o->b, err);

	o->b = s->b_turned.ptr;
	if (r == 0 && padded_a)
		r = pad(s, &s->a_padded, p->pm, p->pk, o->a, p->m, p->k, err);
	if (padded_a)
		o->a = s->a_padded.ptr;
	if (r == 0 && p->wide && g->beta != 0)
		r = widen_c(s, p, o->c, err);
	else if (r == 0 && padded_c && g->beta != 0)
		r = pad(s, &s->c_padded, p->pm, p->pn, o->c, p->m, p->n, err);
	if (padded_c)
		o->c = o->d = s->c_padded.ptr;
	if (p->wide)
		o->c = s->c_wide.ptr;
	return r;
}

static int multiply(struct cuda_stream *s, const struct cuda_plan *p, const struct cvb_gpu_gemm *g,
		    const struct operands *o, struct cvb_err *err)
{
	const float single[] = {(float)g->alpha, (float)g->beta};
	const double both[] = {g->alpha, g->beta};
	bool full = types[p->type].scale == CUDA_R_64F;
	const void *alpha = full ? (const void *)&both[0] : &single[0];
	const void *beta = full ? (const void *)&both[1] : &single[1];

	return BLAS(err, cublasLtMatmul, s->context->blas, p->desc, alpha, (void *)o->b, p->a,
		    (void *)o->a, p->b, beta, (void *)o->c, p->c, (void *)o->d, p->d, &p->best.algo,
		    (void *)s->workspace.ptr, WORKSPACE_BYTES, s->stream);
}

int cuda_stream_gemm(struct cuda_stream *s, const struct cvb_gpu_gemm *g, struct cvb_err *err)
{
	const struct cuda_plan *p = plan_find(s, g);
	struct operands o = {cuda_ptr(g->a, 0), cuda_ptr(g->b, 0), cuda_ptr(g->c, 0),
			     cuda_ptr(g->c, 0)};
	int r = p->packed ? pack(s, p, g, &o, err) : 0;

	if (r == 0)
		r = multiply(s, p, g, &o, err);
	if (r == 0 && o.d != cuda_ptr(g->c, 0))
		r = copy_rows(s, cuda_ptr(g->c, 0), p->n, o.d, p->pn, p->n, p->m, err);
	return r;
}

int cuda_gemm_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_gemm *gemm,
		    struct cvb_err *err)
{
	const struct cvb_gpu_op op = {.kind = CVB_GPU_OP_GEMM, .gemm = *gemm};

	if (cuda_is_proc(stream->context))
		return cuda_proc_work(stream, &op, err);
	struct cuda_stream *s = stream->priv;
	int r = cuda_use(s->context, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&s->lock);
	r = cuda_gemm_prepare(s, gemm, err);
	if (r == 0)
		r = cuda_stream_gemm(s, gemm, err);
	pthread_mutex_unlock(&s->lock);
	return r;
}
