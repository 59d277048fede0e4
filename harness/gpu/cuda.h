/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the cuda*.c files: the backend for NVIDIA GPUs.
 *
 *   cuda.c         spec, device, description    cuda_lib.c    the driver's functions, its errors
 *   cuda_mem.c     contexts and buffers         cuda_work.c   streams, copies, peers
 *   cuda_event.c   events                       cuda_kernel.c kernels (cuda_kernels.cu)
 *   cuda_gemm.c    products by cuBLASLt         cuda_graph.c  graphs
 *   cuda_nvml.c    what NVML says
 *   cuda_proc.c    contexts with a process of their own, cuda_child.c its other side
 *
 * Nothing links CUDA.  libcuda.so.1, libnvidia-ml.so.1 and cuBLASLt are loaded when first used and
 * stay, so that one binary runs where they are and where they are not.  The driver's interface is
 * typed by the toolkit's headers; a build without these (CVB_CUDA is 0) has the spec only.
 *
 * Threading: a driver call works on the calling thread's current context, and any thread may call:
 * every hook makes its context current first (cuda_use).  A stream's mutex keeps the parts of one
 * operation together that takes several submissions.
 */
#ifndef CVB_GPU_CUDA_H
#define CVB_GPU_CUDA_H

#if CVB_CUDA

#include "gpu/backend.h"
#include "gpu/cuda_nvml.h"
#include "measure/memory.h"

#include <cublasLt.h>
#include <cudaTypedefs.h>

/* ---- the driver ---- */

/* field, symbol, type: older drivers have these symbols too, newer ones keep them */
#define CUDA_SYMBOLS(X)                                                                            \
	X(get_error_name, cuGetErrorName, PFN_cuGetErrorName_v6000)                                \
	X(init, cuInit, PFN_cuInit_v2000)                                                          \
	X(driver_version, cuDriverGetVersion, PFN_cuDriverGetVersion_v2020)                        \
	X(device_count, cuDeviceGetCount, PFN_cuDeviceGetCount_v2000)                              \
	X(device_get, cuDeviceGet, PFN_cuDeviceGet_v2000)                                          \
	X(device_name, cuDeviceGetName, PFN_cuDeviceGetName_v2000)                                 \
	X(device_attribute, cuDeviceGetAttribute, PFN_cuDeviceGetAttribute_v2000)                  \
	X(device_bus_id, cuDeviceGetPCIBusId, PFN_cuDeviceGetPCIBusId_v4010)                       \
	X(device_memory, cuDeviceTotalMem_v2, PFN_cuDeviceTotalMem_v3020)                          \
	X(primary_retain, cuDevicePrimaryCtxRetain, PFN_cuDevicePrimaryCtxRetain_v7000)            \
	X(primary_release, cuDevicePrimaryCtxRelease_v2, PFN_cuDevicePrimaryCtxRelease_v11000)     \
	X(ctx_create, cuCtxCreate_v2, PFN_cuCtxCreate_v3020)                                       \
	X(ctx_destroy, cuCtxDestroy_v2, PFN_cuCtxDestroy_v4000)                                    \
	X(ctx_set, cuCtxSetCurrent, PFN_cuCtxSetCurrent_v4000)                                     \
	X(ctx_sync, cuCtxSynchronize, PFN_cuCtxSynchronize_v2000)                                  \
	X(peer_can, cuDeviceCanAccessPeer, PFN_cuDeviceCanAccessPeer_v4000)                        \
	X(peer_enable, cuCtxEnablePeerAccess, PFN_cuCtxEnablePeerAccess_v4000)                     \
	X(peer_copy, cuMemcpyPeerAsync, PFN_cuMemcpyPeerAsync_v4000)                               \
	X(module_load, cuModuleLoadData, PFN_cuModuleLoadData_v2000)                               \
	X(module_unload, cuModuleUnload, PFN_cuModuleUnload_v2000)                                 \
	X(module_function, cuModuleGetFunction, PFN_cuModuleGetFunction_v2000)                     \
	X(mem_alloc, cuMemAlloc_v2, PFN_cuMemAlloc_v3020)                                          \
	X(mem_free, cuMemFree_v2, PFN_cuMemFree_v3020)                                             \
	X(host_alloc, cuMemHostAlloc, PFN_cuMemHostAlloc_v2020)                                    \
	X(host_free, cuMemFreeHost, PFN_cuMemFreeHost_v2000)                                       \
	X(host_register, cuMemHostRegister_v2, PFN_cuMemHostRegister_v6050)                        \
	X(host_unregister, cuMemHostUnregister, PFN_cuMemHostUnregister_v4000)                     \
	X(managed_alloc, cuMemAllocManaged, PFN_cuMemAllocManaged_v6000)                           \
	X(copy, cuMemcpyAsync, PFN_cuMemcpyAsync_v4000)                                            \
	X(copy_2d, cuMemcpy2DAsync_v2, PFN_cuMemcpy2DAsync_v3020)                                  \
	X(set, cuMemsetD8Async, PFN_cuMemsetD8Async_v3020)                                         \
	X(stream_create, cuStreamCreate, PFN_cuStreamCreate_v2000)                                 \
	X(stream_destroy, cuStreamDestroy_v2, PFN_cuStreamDestroy_v4000)                           \
	X(stream_sync, cuStreamSynchronize, PFN_cuStreamSynchronize_v2000)                         \
	X(stream_wait, cuStreamWaitEvent, PFN_cuStreamWaitEvent_v3020)                             \
	X(event_create, cuEventCreate, PFN_cuEventCreate_v2000)                                    \
	X(event_destroy, cuEventDestroy_v2, PFN_cuEventDestroy_v4000)                              \
	X(event_record, cuEventRecord, PFN_cuEventRecord_v2000)                                    \
	X(event_query, cuEventQuery, PFN_cuEventQuery_v2000)                                       \
	X(event_sync, cuEventSynchronize, PFN_cuEventSynchronize_v2000)                            \
	X(event_elapsed, cuEventElapsedTime, PFN_cuEventElapsedTime_v2000)                         \
	X(launch, cuLaunchKernel, PFN_cuLaunchKernel_v4000)                                        \
	X(capture_begin, cuStreamBeginCapture_v2, PFN_cuStreamBeginCapture_v10010)                 \
	X(capture_end, cuStreamEndCapture, PFN_cuStreamEndCapture_v10000)                          \
	X(graph_instantiate, cuGraphInstantiateWithFlags, PFN_cuGraphInstantiateWithFlags_v11040)  \
	X(graph_launch, cuGraphLaunch, PFN_cuGraphLaunch_v10000)                                   \
	X(graph_destroy, cuGraphDestroy, PFN_cuGraphDestroy_v10000)                                \
	X(graph_exec_destroy, cuGraphExecDestroy, PFN_cuGraphExecDestroy_v10000)

struct cuda_api {
#define CUDA_FIELD(field, symbol, type) type field;
	CUDA_SYMBOLS(CUDA_FIELD)
#undef CUDA_FIELD
};

/* Filled by cuda_load, then constant. */
extern struct cuda_api cuda;

/* Load and start the driver.  -EOPNOTSUPP names the library, symbol or device that is missing. */
CVB_MUST_CHECK int cuda_load(struct cvb_err *err);

/* A driver's answer as an errno; the reason has the call, the driver's name for it and advice. */
CVB_MUST_CHECK int cuda_result(CUresult code, const char *call, struct cvb_err *err);

/* Call a function of the driver. */
#define CU(err, field, ...)                                                                        \
	cuda_result(cuda.field(__VA_ARGS__), cuda_call_name(offsetof(struct cuda_api, field)), err)
/* The same where nothing can be done about a failure: it is traced. */
#define CU_DROP(field, ...)                                                                        \
	cuda_drop(cuda.field(__VA_ARGS__), cuda_call_name(offsetof(struct cuda_api, field)))

const char *cuda_call_name(size_t offset);
void cuda_drop(CUresult code, const char *call);

/* ---- device ---- */

struct cuda_device {
	int ordinal;
	CUdevice dev;
	char name[128], bus_id[32];
	size_t memory_bytes;
	int sms, major, minor;
	bool concurrent_managed; /* host and device may use managed memory at the same time */
	int numa_node;		 /* of the host memory nearest to it; -1: unknown */
	int shared_fd; /* the next host memory is this file's, which another process maps too; -1 */
	struct cuda_nvml nvml;
};

enum cuda_function {
	CUDA_EMPTY,
	CUDA_SPIN,
	CUDA_FILL,
	CUDA_VERIFY,
	CUDA_READ,
	CUDA_COPY,
	CUDA_TRIAD,
	CUDA_ADD,
	CUDA_TRANSPOSE,
	CUDA_FP8_TO_BF16,
	CUDA_FUNCTIONS,
};

struct cuda_child;

struct cuda_context {
	struct cuda_child *child; /* it has a process of its own, and nothing of the below; NULL */
	CUcontext ctx;
	CUmodule module; /* NULL: no kernels */
	CUfunction function[CUDA_FUNCTIONS];
	cublasLtHandle_t blas; /* NULL until the first product; under lock */
	pthread_mutex_t lock;
};

struct cuda_buf {
	CUdeviceptr ptr;    /* the host address of host memory */
	struct cvb_mem mem; /* PAGEABLE */
	bool shared;	    /* host memory of a file that another process maps too */
	void *view;	    /* the file's memory where that is not the buffer's own; NULL */
};

/* Device memory that grows. */
struct cuda_room {
	CUdeviceptr ptr;
	size_t bytes;
};

struct cuda_plan;

struct cuda_stream {
	struct cvb_gpu *gpu;
	struct cuda_context *context;
	CUstream stream;
	pthread_mutex_t lock;
	/* for products: cuBLASLt's workspace, operands in the layout that it wants */
	struct cuda_room workspace, b_turned, a_padded, c_padded, c_wide;
	LIST_HEAD(, cuda_plan) plans;
};

static inline struct cuda_device *cuda_device_of(const struct cvb_gpu *gpu)
{
	return gpu->priv;
}

static inline CUdeviceptr cuda_ptr(const struct cvb_gpu_buf *buf, size_t offset)
{
	return ((const struct cuda_buf *)buf->priv)->ptr + offset;
}

/* Make a context current. */
CVB_MUST_CHECK int cuda_use(const struct cuda_context *c, struct cvb_err *err);

/* Fill the device that an open hook is to fill.  On failure nothing is left. */
CVB_MUST_CHECK int cuda_device_new(struct cvb_gpu *gpu, int ordinal, struct cvb_err *err);

/* Memory of the calling thread comes from near the device until it is put back. */
struct cuda_near {
	bool set;
	int mode;
	unsigned long nodes[16];
};
void cuda_near_set(struct cuda_near *n, int numa_node);
void cuda_near_restore(const struct cuda_near *n);

/* hooks */
int cuda_context_new(struct cvb_gpu_context *context, struct cvb_err *err);
void cuda_context_free(struct cvb_gpu_context *context);
int cuda_peer_open(struct cvb_gpu *gpu, struct cvb_gpu *peer, struct cvb_err *err);
int cuda_peer_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
			 struct cvb_err *err);
int cuda_alloc(struct cvb_gpu_buf *buf, struct cvb_err *err);
void cuda_free(struct cvb_gpu_buf *buf);
void cuda_host_touch(const struct cvb_gpu_buf *buf);
int cuda_managed_touch(struct cvb_gpu_buf *buf, size_t offset_bytes, size_t bytes,
		       struct cvb_err *err);
int cuda_stream_new(struct cvb_gpu_stream *stream, struct cvb_err *err);
void cuda_stream_free(struct cvb_gpu_stream *stream);
int cuda_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
		    struct cvb_err *err);
int cuda_memset_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst, size_t offset_bytes,
		      int value, size_t bytes, struct cvb_err *err);
int cuda_sync(struct cvb_gpu_stream *stream, struct cvb_err *err);
int cuda_gemm_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_gemm *gemm,
		    struct cvb_err *err);
int cuda_launch_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_launch *launch,
		      struct cvb_err *err);
int cuda_graph_new(struct cvb_gpu_graph *graph, struct cvb_err *err);
void cuda_graph_free(struct cvb_gpu_graph *graph);
int cuda_graph_launch(struct cvb_gpu_graph *graph, struct cvb_gpu_stream *stream,
		      struct cvb_err *err);
int cuda_event_new(struct cvb_gpu_event *event, struct cvb_err *err);
void cuda_event_free(struct cvb_gpu_event *event);
int cuda_event_record(struct cvb_gpu_event *event, struct cvb_gpu_stream *stream,
		      struct cvb_err *err);
int cuda_event_wait(struct cvb_gpu_stream *stream, struct cvb_gpu_event *event,
		    struct cvb_err *err);
int cuda_event_sync(struct cvb_gpu_event *event, struct cvb_err *err);
int cuda_event_elapsed_ns(const struct cvb_gpu_event *from, const struct cvb_gpu_event *to,
			  int64_t *ret_ns, struct cvb_err *err);

/* ---- contexts with a process of their own: hooks for them, and what they have ---- */

/* Has a context a process of its own?  Streams and buffers of it are then for these only. */
static inline bool cuda_is_proc(const struct cvb_gpu_context *context)
{
	return ((const struct cuda_context *)context->priv)->child != NULL;
}

int cuda_proc_new(struct cvb_gpu_context *context, struct cvb_err *err);
void cuda_proc_free(struct cvb_gpu_context *context);
int cuda_proc_alloc(struct cvb_gpu_buf *buf, struct cvb_err *err);
void cuda_proc_buf_free(struct cvb_gpu_buf *buf);
void cuda_proc_host_touch(const struct cvb_gpu_buf *buf);
int cuda_proc_stream_new(struct cvb_gpu_stream *stream, struct cvb_err *err);
void cuda_proc_stream_free(struct cvb_gpu_stream *stream);
/* Copies (not peers'), sets, launches, products: their errors come with the next sync. */
int cuda_proc_work(const struct cvb_gpu_stream *stream, const struct cvb_gpu_op *op,
		   struct cvb_err *err);
int cuda_proc_sync(const struct cvb_gpu_stream *stream, struct cvb_err *err);
/* -EOPNOTSUPP: what such a context does not do (events, graphs, peers). */
int cuda_proc_cannot(const char *what, struct cvb_err *err);
/* This process is one: NVML and the topology are the other's to ask. */
void cuda_child_node(int numa_node);

/* ---- between the files ---- */

/* A stream without a handle of its own (a graph's); freed by cuda_stream_done. */
CVB_MUST_CHECK int cuda_stream_init(struct cuda_stream *s, struct cvb_gpu *gpu,
				    struct cuda_context *c, struct cvb_err *err);
void cuda_stream_done(struct cuda_stream *s);
CVB_MUST_CHECK int cuda_stream_copy(struct cuda_stream *s, const struct cvb_gpu_copy *copy,
				    struct cvb_err *err);
CVB_MUST_CHECK int cuda_stream_set(struct cuda_stream *s, CUdeviceptr dst, int value, size_t bytes,
				   struct cvb_err *err);

/* What `from` does reaches the memory of `to`; it may already. */
CVB_MUST_CHECK int cuda_peer_enable(const struct cuda_context *from, const struct cuda_context *to,
				    struct cvb_err *err);

/* Events that lie in a context which is about to go: their driver side is freed. */
void cuda_events_leave(struct cvb_gpu *gpu, const struct cuda_context *c);

/* Kernels.  Loading leaves module NULL, without an error, in a build that has none. */
CVB_MUST_CHECK int cuda_module_load(struct cuda_context *c, struct cvb_err *err);
bool cuda_has_kernels(void);
CVB_MUST_CHECK int cuda_stream_launch(struct cuda_stream *s, const struct cvb_gpu_launch *launch,
				      struct cvb_err *err);
/* With `items` of work in a grid-stride loop; args as cuLaunchKernel takes them. */
CVB_MUST_CHECK int cuda_run(struct cuda_stream *s, enum cuda_function f, size_t items, void **args,
			    struct cvb_err *err);

/* Products.  Prepare makes plan and room, so that the product itself allocates nothing. */
CVB_MUST_CHECK int cuda_gemm_prepare(struct cuda_stream *s, const struct cvb_gpu_gemm *gemm,
				     struct cvb_err *err);
CVB_MUST_CHECK int cuda_stream_gemm(struct cuda_stream *s, const struct cvb_gpu_gemm *gemm,
				    struct cvb_err *err);
void cuda_gemm_done(struct cuda_stream *s);
void cuda_blas_free(struct cuda_context *c);
/* Enum bits of the types that a compute capability multiplies. */
uint32_t cuda_gemm_types(int major, int minor);
/* "130100" and the like once cuBLASLt is loaded; 0 before. */
size_t cuda_blas_version(void);

#endif
#endif
