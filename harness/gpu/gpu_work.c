/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers and streams: the wrappers that check arguments once and call the backend.
 */
#include "core/util.h"
#include "gpu/gpu_check.h"

int cvb_gpu_check_range(const struct cvb_gpu *gpu, const char *call, const struct cvb_gpu_buf *buf,
			size_t offset, size_t bytes, struct cvb_err *err)
{
	if (!buf)
		return cvb_gpu_no_handle(call, "buffer", err);
	if (buf->gpu != gpu)
		return cvb_err_set(err, -EINVAL, "%s: the buffer is another device's", call);
	if (offset > buf->bytes || bytes > buf->bytes - offset)
		return cvb_err_set(err, -EINVAL,
				   "%s: %zu bytes from %zu on do not fit in a buffer of %zu bytes",
				   call, bytes, offset, buf->bytes);
	return 0;
}

int cvb_gpu_check_use(const struct cvb_gpu_stream *stream, const char *call,
		      const struct cvb_gpu_buf *buf, size_t offset, size_t bytes,
		      struct cvb_err *err)
{
	int r = cvb_gpu_check_range(stream->gpu, call, buf, offset, bytes, err);

	if (r == 0 && buf->context != stream->context)
		r = cvb_err_set(err, -EINVAL, "%s: the buffer is another context's", call);
	return r;
}

/* ---- buffers ---- */

int cvb_gpu_alloc(struct cvb_gpu *gpu, enum cvb_gpu_mem kind, size_t bytes,
		  struct cvb_gpu_buf **ret, struct cvb_err *err)
{
	if (!gpu)
		return cvb_gpu_no_handle("alloc", "device", err);
	return cvb_gpu_alloc_in(&gpu->primary, kind, bytes, ret, err);
}

int cvb_gpu_alloc_in(struct cvb_gpu_context *context, enum cvb_gpu_mem kind, size_t bytes,
		     struct cvb_gpu_buf **ret, struct cvb_err *err)
{
	if (!context)
		return cvb_gpu_no_handle("alloc", "context", err);
	struct cvb_gpu *gpu = context->gpu;

	if ((unsigned)kind > CVB_GPU_MANAGED || !bytes)
		return cvb_err_set(err, -EINVAL, "alloc: %s",
				   bytes ? "unknown kind of memory" : "0 bytes");
	if (!gpu->backend->alloc || !gpu->backend->free)
		return cvb_gpu_no_hook(gpu, "alloc", err);
	if ((kind == CVB_GPU_MANAGED && !(gpu->caps.flags & CVB_GPU_CAP_MANAGED)) ||
	    (kind == CVB_GPU_HOST_PINNED && !(gpu->caps.flags & CVB_GPU_CAP_PINNED)))
		return cvb_err_set(err, -EOPNOTSUPP, "GPU backend %s has no %s memory",
				   gpu->backend->name, cvb_gpu_mem_text(kind));
	struct cvb_gpu_buf *buf = calloc(1, sizeof(*buf));

	if (!buf)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	buf->gpu = gpu;
	buf->context = context;
	buf->kind = kind;
	buf->bytes = bytes;
	int r = gpu->backend->alloc(buf, err);

	if (r < 0) {
		free(buf);
		return cvb_err_wrap(err, r, "allocating %zu bytes of %s memory", bytes,
				    cvb_gpu_mem_text(kind));
	}
	pthread_mutex_lock(&gpu->lock);
	LIST_INSERT_HEAD(&gpu->bufs, buf, link);
	pthread_mutex_unlock(&gpu->lock);
	*ret = buf;
	return 0;
}

struct cvb_gpu_buf *cvb_gpu_free(struct cvb_gpu_buf *buf)
{
	if (!buf)
		return NULL;
	pthread_mutex_lock(&buf->gpu->lock);
	LIST_REMOVE(buf, link);
	pthread_mutex_unlock(&buf->gpu->lock);
	buf->gpu->backend->free(buf);
	free(buf);
	return NULL;
}

int cvb_gpu_managed_touch(struct cvb_gpu_buf *buf, size_t offset_bytes, size_t bytes,
			  struct cvb_err *err)
{
	if (!buf)
		return cvb_gpu_no_handle("managed_touch", "buffer", err);
	int r = cvb_gpu_check_range(buf->gpu, "managed_touch", buf, offset_bytes, bytes, err);

	if (r < 0)
		return r;
	if (buf->kind != CVB_GPU_MANAGED)
		return cvb_err_set(err, -EINVAL, "managed_touch: the buffer is %s memory",
				   cvb_gpu_mem_text(buf->kind));
	if (!buf->gpu->backend->managed_touch)
		return cvb_gpu_no_hook(buf->gpu, "managed_touch", err);
	return bytes ? buf->gpu->backend->managed_touch(buf, offset_bytes, bytes, err) : 0;
}

void *cvb_gpu_buf_host(const struct cvb_gpu_buf *buf)
{
	if (buf->gpu->backend->host_touch)
		buf->gpu->backend->host_touch(buf);
	return buf->host;
}

size_t cvb_gpu_buf_bytes(const struct cvb_gpu_buf *buf)
{
	return buf->bytes;
}

enum cvb_gpu_mem cvb_gpu_buf_mem(const struct cvb_gpu_buf *buf)
{
	return buf->kind;
}

/* ---- streams ---- */

int cvb_gpu_stream_new(struct cvb_gpu *gpu, struct cvb_gpu_stream **ret, struct cvb_err *err)
{
	if (!gpu)
		return cvb_gpu_no_handle("stream_new", "device", err);
	return cvb_gpu_stream_new_in(&gpu->primary, ret, err);
}

int cvb_gpu_stream_new_in(struct cvb_gpu_context *context, struct cvb_gpu_stream **ret,
			  struct cvb_err *err)
{
	if (!context)
		return cvb_gpu_no_handle("stream_new", "context", err);
	struct cvb_gpu *gpu = context->gpu;

	if (!gpu->backend->stream_new || !gpu->backend->stream_free)
		return cvb_gpu_no_hook(gpu, "stream_new", err);
	struct cvb_gpu_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	stream->gpu = gpu;
	stream->context = context;
	int r = gpu->backend->stream_new(stream, err);

	if (r < 0) {
		free(stream);
		return cvb_err_wrap(err, r, "making a stream");
	}
	pthread_mutex_lock(&gpu->lock);
	LIST_INSERT_HEAD(&gpu->streams, stream, link);
	pthread_mutex_unlock(&gpu->lock);
	*ret = stream;
	return 0;
}

struct cvb_gpu_stream *cvb_gpu_stream_free(struct cvb_gpu_stream *stream)
{
	if (!stream)
		return NULL;
	pthread_mutex_lock(&stream->gpu->lock);
	LIST_REMOVE(stream, link);
	struct cvb_gpu_graph *unfinished = CVB_TAKE(stream->capture);

	pthread_mutex_unlock(&stream->gpu->lock);
	if (unfinished) {
		free(unfinished->ops);
		free(unfinished);
	}
	stream->gpu->backend->stream_free(stream);
	free(stream);
	return NULL;
}

/* Managed memory counts as the device's: a copy is what migrates it. */
static bool is_host(const struct cvb_gpu_buf *buf)
{
	return buf->kind == CVB_GPU_HOST_PAGEABLE || buf->kind == CVB_GPU_HOST_PINNED;
}

int cvb_gpu_copy_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst,
		       size_t dst_offset_bytes, struct cvb_gpu_buf *src, size_t src_offset_bytes,
		       size_t bytes, struct cvb_err *err)
{
	if (!stream)
		return cvb_gpu_no_handle("copy", "stream", err);
	struct cvb_gpu *gpu = stream->gpu;

	if (!gpu->backend->copy_async)
		return cvb_gpu_no_hook(gpu, "copy_async", err);
	int r = cvb_gpu_check_use(stream, "copy", dst, dst_offset_bytes, bytes, err);

	if (r == 0)
		r = cvb_gpu_check_use(stream, "copy", src, src_offset_bytes, bytes, err);
	if (r < 0)
		return r;
	if (is_host(dst) && is_host(src))
		return cvb_err_set(err, -EINVAL, "copy: both buffers are host memory");
	if (!bytes)
		return 0;
	if (dst == src && dst_offset_bytes < src_offset_bytes + bytes &&
	    src_offset_bytes < dst_offset_bytes + bytes)
		return cvb_err_set(err, -EINVAL, "copy: source and destination overlap");

	struct cvb_gpu_copy copy = {
		.dir = is_host(src)   ? CVB_GPU_H2D
		       : is_host(dst) ? CVB_GPU_D2H
				      : CVB_GPU_D2D,
		.dst = dst,
		.src = src,
		.dst_offset_bytes = dst_offset_bytes,
		.src_offset_bytes = src_offset_bytes,
		.bytes = bytes,
	};

	if (copy.dir == CVB_GPU_D2D) {
		const struct cvb_gpu_op op = {.kind = CVB_GPU_OP_COPY, .copy = copy};

		r = cvb_gpu_record(stream, &op, err);
		if (r != 0)
			return cvb_min(r, 0);
	} else {
		r = cvb_gpu_not_captured(stream, "copy between host and device", err);
		if (r < 0)
			return r;
	}
	return gpu->backend->copy_async(stream, &copy, err);
}

int cvb_gpu_memset_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst,
			 size_t offset_bytes, int value, size_t bytes, struct cvb_err *err)
{
	if (!stream)
		return cvb_gpu_no_handle("memset", "stream", err);
	if (!stream->gpu->backend->memset_async)
		return cvb_gpu_no_hook(stream->gpu, "memset_async", err);
	int r = cvb_gpu_check_use(stream, "memset", dst, offset_bytes, bytes, err);

	if (r < 0)
		return r;
	if (is_host(dst))
		return cvb_err_set(err, -EINVAL, "memset: the buffer is host memory");
	if (!bytes)
		return 0;
	const struct cvb_gpu_op op = {
		.kind = CVB_GPU_OP_MEMSET,
		.set = {.dst = dst, .offset_bytes = offset_bytes, .bytes = bytes, .value = value}};

	r = cvb_gpu_record(stream, &op, err);
	if (r != 0)
		return cvb_min(r, 0);
	return stream->gpu->backend->memset_async(stream, dst, offset_bytes, value, bytes, err);
}

static int check_gemm(const struct cvb_gpu_stream *stream, const struct cvb_gpu_gemm *g,
		      struct cvb_err *err)
{
	const struct cvb_gpu *gpu = stream->gpu;
	size_t elem = cvb_gpu_type_bytes(g->type);
	const struct {
		const struct cvb_gpu_buf *buf;
		size_t rows, cols;
	} operand[] = {{g->a, g->m, g->k}, {g->b, g->k, g->n}, {g->c, g->m, g->n}};

	if (!elem || !(gpu->caps.gemm_types & (1U << g->type)))
		return cvb_err_set(err, elem ? -EOPNOTSUPP : -EINVAL,
				   "GPU backend %s has no gemm of type %s", gpu->backend->name,
				   cvb_gpu_type_text(g->type));
	if (!g->m || !g->n || !g->k)
		return cvb_err_set(err, -EINVAL, "gemm: a dimension is 0");
	for (size_t i = 0; i < CVB_ARRAY_LEN(operand); i++) {
		/* 2^32 * 2^32 fits in 64 bits, times the element size it may not */
		size_t bytes = operand[i].rows * operand[i].cols;

		if (__builtin_mul_overflow(bytes, elem, &bytes))
			return cvb_err_set(err, -EINVAL, "gemm: %u x %u x %u is too large", g->m,
					   g->n, g->k);
		int r = cvb_gpu_check_use(stream, "gemm", operand[i].buf, 0, bytes, err);

		if (r < 0)
			return r;
		if (operand[i].buf->kind != CVB_GPU_DEVICE)
			return cvb_err_set(err, -EINVAL, "gemm: a matrix is not in device memory");
	}
	if (g->c == g->a || g->c == g->b)
		return cvb_err_set(err, -EINVAL, "gemm: the result overwrites an operand");
	return 0;
}

int cvb_gpu_gemm_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_gemm *gemm,
		       struct cvb_err *err)
{
	if (!stream || !gemm)
		return cvb_gpu_no_handle("gemm", stream ? "description" : "stream", err);
	if (!stream->gpu->backend->gemm_async)
		return cvb_gpu_no_hook(stream->gpu, "gemm_async", err);
	int r = check_gemm(stream, gemm, err);

	if (r < 0)
		return r;
	const struct cvb_gpu_op op = {.kind = CVB_GPU_OP_GEMM, .gemm = *gemm};

	r = cvb_gpu_record(stream, &op, err);
	return r != 0 ? cvb_min(r, 0) : stream->gpu->backend->gemm_async(stream, gemm, err);
}

int cvb_gpu_sync(struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	if (!stream)
		return cvb_gpu_no_handle("sync", "stream", err);
	if (!stream->gpu->backend->sync)
		return cvb_gpu_no_hook(stream->gpu, "sync", err);
	int r = cvb_gpu_not_captured(stream, "sync", err);

	if (r < 0)
		return r;
	return stream->gpu->backend->sync(stream, err);
}
