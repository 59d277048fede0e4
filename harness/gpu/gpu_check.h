/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the gpu*.c files: checks that the wrappers share.
 */
#ifndef CVB_GPU_GPU_CHECK_H
#define CVB_GPU_GPU_CHECK_H

#include "gpu/backend.h"

#include <errno.h>

static inline int cvb_gpu_no_hook(const struct cvb_gpu *gpu, const char *call, struct cvb_err *err)
{
	return cvb_err_set(err, -EOPNOTSUPP, "GPU backend %s has no %s", gpu->backend->name, call);
}

static inline int cvb_gpu_no_handle(const char *call, const char *what, struct cvb_err *err)
{
	return cvb_err_set(err, -EINVAL, "%s: no %s", call, what);
}

/* A range of a buffer that must be one of `gpu`. */
CVB_MUST_CHECK int cvb_gpu_check_range(const struct cvb_gpu *gpu, const char *call,
				       const struct cvb_gpu_buf *buf, size_t offset, size_t bytes,
				       struct cvb_err *err);

/* A range of a buffer that work of `stream` may use. */
CVB_MUST_CHECK int cvb_gpu_check_use(const struct cvb_gpu_stream *stream, const char *call,
				     const struct cvb_gpu_buf *buf, size_t offset, size_t bytes,
				     struct cvb_err *err);

/* Device memory, or managed memory: what kernels and copies call the device's. */
static inline bool cvb_gpu_is_device(const struct cvb_gpu_buf *buf)
{
	return buf->kind == CVB_GPU_DEVICE || buf->kind == CVB_GPU_MANAGED;
}

/* Is the stream being captured?  1: `op` was recorded; 0: run it; -ENOMEM. */
CVB_MUST_CHECK int cvb_gpu_record(struct cvb_gpu_stream *stream, const struct cvb_gpu_op *op,
				  struct cvb_err *err);

/* -EINVAL while the stream is being captured. */
CVB_MUST_CHECK int cvb_gpu_not_captured(const struct cvb_gpu_stream *stream, const char *call,
					struct cvb_err *err);

/* Free what belongs to `context`, or everything where it is NULL. */
void cvb_gpu_drop_all(struct cvb_gpu *gpu, const struct cvb_gpu_context *context);

#endif
