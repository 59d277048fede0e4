/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers, streams and events: the wrappers that check arguments once and call the backend.
 */
#include "core/util.h"
#include "gpu/backend.h"

#include <errno.h>

/* ---- checks shared by the wrappers ---- */

static int no_hook(const struct cvb_gpu *gpu, const char *call, struct cvb_err *err)
{
	return cvb_err_set(err, -EOPNOTSUPP, "GPU backend %s has no %s", gpu->backend->name, call);
}

static int no_handle(const char *call, const char *what, struct cvb_err *err)
{
	return cvb_err_set(err, -EINVAL, "%s: no %s", call, what);
}

/* A range of a buffer that must be one of `gpu`. */
static int check_range(const struct cvb_gpu *gpu, const char *call, const struct cvb_gpu_buf *buf,
		       size_t offset, size_t bytes, struct cvb_err *err)
{
	if (!buf)
		return no_handle(call, "buffer", err);
	if (buf->gpu != gpu)
		return cvb_err_set(err, -EINVAL, "%s: the buffer is another device's", call);
	if (offset > buf->bytes || bytes > buf->bytes - offset)
		return cvb_err_set(err, -EINVAL,
				   "%s: %zu bytes from %zu on do not fit in a buffer of %zu bytes",
				   call, bytes, offset, buf->bytes);
	return 0;
}

/* ---- buffers ---- */

int cvb_gpu_alloc(struct cvb_gpu *gpu, enum cvb_gpu_mem kind, size_t bytes,
		  struct cvb_gpu_buf **ret, struct cvb_err *err)
{
	if (!gpu)
		return no_handle("alloc", "device", err);
	if ((unsigned)kind > CVB_GPU_MANAGED || !bytes)
		return cvb_err_set(err, -EINVAL, "alloc: %s",
				   bytes ? "unknown kind of memory" : "0 bytes");
	if (!gpu->backend->alloc || !gpu->backend->free)
		return no_hook(gpu, "alloc", err);
	if ((kind == CVB_GPU_MANAGED && !(gpu->caps.flags & CVB_GPU_CAP_MANAGED)) ||
	    (kind == CVB_GPU_HOST_PINNED && !(gpu->caps.flags & CVB_GPU_CAP_PINNED)))
		return cvb_err_set(err, -EOPNOTSUPP, "GPU backend %s has no %s memory",
				   gpu->backend->name, cvb_gpu_mem_text(kind));
	struct cvb_gpu_buf *buf = calloc(1, sizeof(*buf));

	if (!buf)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	buf->gpu = gpu;
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

void *cvb_gpu_buf_host(const struct cvb_gpu_buf *buf)
{
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
		return no_handle("stream_new", "device", err);
	if (!gpu->backend->stream_new || !gpu->backend->stream_free)
		return no_hook(gpu, "stream_new", err);
	struct cvb_gpu_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	stream->gpu = gpu;
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
	pthread_mutex_unlock(&stream->gpu->lock);
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
		return no_handle("copy", "stream", err);
	struct cvb_gpu *gpu = stream->gpu;

	if (!gpu->backend->copy_async)
		return no_hook(gpu, "copy_async", err);
	int r = check_range(gpu, "copy", dst, dst_offset_bytes, bytes, err);

	if (r == 0)
		r = check_range(gpu, "copy", src, src_offset_bytes, bytes, err);
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

	return gpu->backend->copy_async(stream, &copy, err);
}

int cvb_gpu_memset_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst,
			 size_t offset_bytes, int value, size_t bytes, struct cvb_err *err)
{
	if (!stream)
		return no_handle("memset", "stream", err);
	if (!stream->gpu->backend->memset_async)
		return no_hook(stream->gpu, "memset_async", err);
	int r = check_range(stream->gpu, "memset", dst, offset_bytes, bytes, err);

	if (r < 0)
		return r;
	if (is_host(dst))
		return cvb_err_set(err, -EINVAL, "memset: the buffer is host memory");
	if (!bytes)
		return 0;
	return stream->gpu->backend->memset_async(stream, dst, offset_bytes, value, bytes, err);
}

static int check_gemm(const struct cvb_gpu *gpu, const struct cvb_gpu_gemm *g, struct cvb_err *err)
{
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
		int r = check_range(gpu, "gemm", operand[i].buf, 0, bytes, err);

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
		return no_handle("gemm", stream ? "description" : "stream", err);
	if (!stream->gpu->backend->gemm_async)
		return no_hook(stream->gpu, "gemm_async", err);
	int r = check_gemm(stream->gpu, gemm, err);

	return r < 0 ? r : stream->gpu->backend->gemm_async(stream, gemm, err);
}

int cvb_gpu_sync(struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	if (!stream)
		return no_handle("sync", "stream", err);
	if (!stream->gpu->backend->sync)
		return no_hook(stream->gpu, "sync", err);
	return stream->gpu->backend->sync(stream, err);
}

/* ---- events ---- */

int cvb_gpu_event_new(struct cvb_gpu *gpu, struct cvb_gpu_event **ret, struct cvb_err *err)
{
	if (!gpu)
		return no_handle("event_new", "device", err);
	if (!gpu->backend->event_new || !gpu->backend->event_free)
		return no_hook(gpu, "event_new", err);
	struct cvb_gpu_event *event = calloc(1, sizeof(*event));

	if (!event)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	event->gpu = gpu;
	int r = gpu->backend->event_new(event, err);

	if (r < 0) {
		free(event);
		return cvb_err_wrap(err, r, "making an event");
	}
	pthread_mutex_lock(&gpu->lock);
	LIST_INSERT_HEAD(&gpu->events, event, link);
	pthread_mutex_unlock(&gpu->lock);
	*ret = event;
	return 0;
}

struct cvb_gpu_event *cvb_gpu_event_free(struct cvb_gpu_event *event)
{
	if (!event)
		return NULL;
	pthread_mutex_lock(&event->gpu->lock);
	LIST_REMOVE(event, link);
	pthread_mutex_unlock(&event->gpu->lock);
	event->gpu->backend->event_free(event);
	free(event);
	return NULL;
}

/* An event and a stream of one device. */
static int check_event(const char *call, const struct cvb_gpu_event *event,
		       const struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	if (!event || !stream)
		return no_handle(call, event ? "stream" : "event", err);
	if (event->gpu != stream->gpu)
		return cvb_err_set(err, -EINVAL, "%s: the event is another device's", call);
	return 0;
}

int cvb_gpu_event_record(struct cvb_gpu_event *event, struct cvb_gpu_stream *stream,
			 struct cvb_err *err)
{
	int r = check_event("event_record", event, stream, err);

	if (r < 0)
		return r;
	if (!stream->gpu->backend->event_record)
		return no_hook(stream->gpu, "event_record", err);
	return stream->gpu->backend->event_record(event, stream, err);
}

int cvb_gpu_event_wait(struct cvb_gpu_stream *stream, struct cvb_gpu_event *event,
		       struct cvb_err *err)
{
	int r = check_event("event_wait", event, stream, err);

	if (r < 0)
		return r;
	if (!stream->gpu->backend->event_wait)
		return no_hook(stream->gpu, "event_wait", err);
	return stream->gpu->backend->event_wait(stream, event, err);
}

int cvb_gpu_event_sync(struct cvb_gpu_event *event, struct cvb_err *err)
{
	if (!event)
		return no_handle("event_sync", "event", err);
	if (!event->gpu->backend->event_sync)
		return no_hook(event->gpu, "event_sync", err);
	return event->gpu->backend->event_sync(event, err);
}

int cvb_gpu_event_elapsed_ns(const struct cvb_gpu_event *from, const struct cvb_gpu_event *to,
			     int64_t *ret_ns, struct cvb_err *err)
{
	if (!from || !to)
		return no_handle("event_elapsed_ns", "event", err);
	if (from->gpu != to->gpu)
		return cvb_err_set(err, -EINVAL, "event_elapsed_ns: events of two devices");
	if (!from->gpu->backend->event_elapsed_ns)
		return no_hook(from->gpu, "event_elapsed_ns", err);
	return from->gpu->backend->event_elapsed_ns(from, to, ret_ns, err);
}
