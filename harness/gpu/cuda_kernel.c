/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels of an NVIDIA GPU: the fat binary that nvcc made of cuda_kernels.cu, and its launches.
 */
#include "core/util.h"
#include "gpu/cuda.h"

#include <errno.h>

#define BLOCK	      256U
#define BLOCKS_PER_SM 8U
#define STREAM_BLOCKS 4U /* of READ, COPY, TRIAD: they say so to the compiler */

#if CVB_CUDA_KERNELS
/* CVB_CUDA_FATBIN is the file's path, from the Makefile */
__asm__(".section .rodata\n"
	".balign 16\n"
	".hidden cvb_cuda_fatbin\n"
	".global cvb_cuda_fatbin\n"
	"cvb_cuda_fatbin:\n"
	".incbin \"" CVB_CUDA_FATBIN "\"\n"
	".byte 0\n"
	".previous\n");
extern const unsigned char cvb_cuda_fatbin[];
#endif

bool cuda_has_kernels(void)
{
	return CVB_CUDA_KERNELS;
}

int cuda_module_load(struct cuda_context *c, struct cvb_err *err)
{
#if CVB_CUDA_KERNELS
	static const char *const names[CUDA_FUNCTIONS] = {
		[CUDA_EMPTY] = "cvb_empty",	    [CUDA_SPIN] = "cvb_spin",
		[CUDA_FILL] = "cvb_fill",	    [CUDA_VERIFY] = "cvb_verify",
		[CUDA_READ] = "cvb_read",	    [CUDA_COPY] = "cvb_copy",
		[CUDA_TRIAD] = "cvb_triad",	    [CUDA_ADD] = "cvb_add",
		[CUDA_TRANSPOSE] = "cvb_transpose", [CUDA_FP8_TO_BF16] = "cvb_fp8_to_bf16",
	};
	int r = CU(err, module_load, &c->module, cvb_cuda_fatbin);

	if (r < 0)
		c->module = NULL;
	for (size_t i = 0; r == 0 && i < CUDA_FUNCTIONS; i++) {
		r = CU(err, module_function, &c->function[i], c->module, names[i]);
		if (r < 0)
			cvb_err_wrap(err, r, "kernel %s", names[i]);
	}
	return r;
#else
	(void)c;
	(void)err;
	return 0;
#endif
}

int cuda_run(struct cuda_stream *s, enum cuda_function f, size_t items, void **args,
	     struct cvb_err *err)
{
	const struct cuda_device *d = cuda_device_of(s->gpu);
	bool streams = f == CUDA_READ || f == CUDA_COPY || f == CUDA_TRIAD;
	size_t most = (streams ? STREAM_BLOCKS : BLOCKS_PER_SM) * (size_t)d->sms;
	size_t blocks = (items + BLOCK - 1) / BLOCK;
	bool single = f == CUDA_EMPTY || f == CUDA_SPIN;

	if (!s->context->module)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "this build has no kernels: there was no nvcc; copies and "
				   "products of fp64 to fp16 do without, launches, HBM rates and "
				   "products of fp8 and int8 do not");
	blocks = cvb_min(cvb_max(blocks, 1), most);
	return CU(err, launch, s->context->function[f], single ? 1 : (unsigned)blocks, 1, 1,
		  single ? 1 : BLOCK, 1, 1, /* shared bytes= */ 0, s->stream, args, NULL);
}

/* READ and VERIFY add to b, which is zero before. */
static int run_sum(struct cuda_stream *s, const struct cvb_gpu_launch *l, CUdeviceptr a,
		   CUdeviceptr b, size_t words, struct cvb_err *err)
{
	void *verify[] = {&a, &b, &words, (void *)&l->seed};
	int r = cuda_stream_set(s, b, 0, sizeof(uint64_t), err);

	if (r < 0)
		return r;
	return l->kernel == CVB_GPU_KERNEL_VERIFY ? cuda_run(s, CUDA_VERIFY, words, verify, err)
						  : cuda_run(s, CUDA_READ, words / 2, verify, err);
}

int cuda_stream_launch(struct cuda_stream *s, const struct cvb_gpu_launch *l, struct cvb_err *err)
{
	CUdeviceptr a = l->a ? cuda_ptr(l->a, 0) : 0, b = l->b ? cuda_ptr(l->b, 0) : 0;
	CUdeviceptr c = l->c ? cuda_ptr(l->c, 0) : 0;
	size_t words = l->bytes / sizeof(uint64_t);
	void *spin[] = {(void *)&l->ns}, *fill[] = {&a, &words, (void *)&l->seed};
	void *two[] = {&a, &b, &words}, *three[] = {&a, &b, &c, &words, (void *)&l->scalar};

	switch (l->kernel) {
	case CVB_GPU_KERNEL_EMPTY:
		return cuda_run(s, CUDA_EMPTY, 1, NULL, err);
	case CVB_GPU_KERNEL_SPIN:
		return cuda_run(s, CUDA_SPIN, 1, spin, err);
	case CVB_GPU_KERNEL_FILL:
		return cuda_run(s, CUDA_FILL, words, fill, err);
	case CVB_GPU_KERNEL_COPY:
		return cuda_run(s, CUDA_COPY, words / 2, two, err);
	case CVB_GPU_KERNEL_TRIAD:
		return cuda_run(s, CUDA_TRIAD, words / 2, three, err);
	case CVB_GPU_KERNEL_ADD:
		return cuda_run(s, CUDA_ADD, words, two, err);
	default:
		return run_sum(s, l, a, b, words, err);
	}
}

int cuda_launch_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_launch *launch,
		      struct cvb_err *err)
{
	const struct cvb_gpu_op op = {.kind = CVB_GPU_OP_LAUNCH, .launch = *launch};

	if (cuda_is_proc(stream->context))
		return cuda_proc_work(stream, &op, err);
	struct cuda_stream *s = stream->priv;
	int r = cuda_use(s->context, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&s->lock);
	r = cuda_stream_launch(s, launch, err);
	pthread_mutex_unlock(&s->lock);
	return r;
}
