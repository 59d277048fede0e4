/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of an NVIDIA GPU, their copies, and copies between two GPUs.
 */
#include "core/util.h"
#include "gpu/cuda.h"

#include <errno.h>

/* ---- streams ---- */

int cuda_stream_init(struct cuda_stream *s, struct cvb_gpu *gpu, struct cuda_context *c,
		     struct cvb_err *err)
{
	int r = cuda_use(c, err);

	if (r == 0)
		r = CU(err, stream_create, &s->stream, CU_STREAM_NON_BLOCKING);
	if (r < 0)
		return r;
	s->gpu = gpu;
	s->context = c;
	LIST_INIT(&s->plans);
	pthread_mutex_init(&s->lock, /* attr= */ NULL);
	return 0;
}

void cuda_stream_done(struct cuda_stream *s)
{
	if (cuda_use(s->context, /* err= */ NULL) == 0) {
		CU_DROP(stream_sync, s->stream);
		cuda_gemm_done(s);
		CU_DROP(stream_destroy, s->stream);
	}
	pthread_mutex_destroy(&s->lock);
}

int cuda_stream_new(struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	if (cuda_is_proc(stream->context))
		return cuda_proc_stream_new(stream, err);
	struct cuda_stream *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cuda_stream_init(s, stream->gpu, stream->context->priv, err);
	if (r < 0)
		free(s);
	else
		stream->priv = s;
	return r;
}

void cuda_stream_free(struct cvb_gpu_stream *stream)
{
	if (cuda_is_proc(stream->context)) {
		cuda_proc_stream_free(stream);
		return;
	}
	cuda_stream_done(stream->priv);
	free(stream->priv);
}

int cuda_sync(struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	if (cuda_is_proc(stream->context))
		return cuda_proc_sync(stream, err);
	struct cuda_stream *s = stream->priv;
	int r = cuda_use(s->context, err);

	return r < 0 ? r : CU(err, stream_sync, s->stream);
}

/* ---- copies ---- */

int cuda_stream_copy(struct cuda_stream *s, const struct cvb_gpu_copy *c, struct cvb_err *err)
{
	/* the driver knows from the addresses what kind of memory each side is */
	return CU(err, copy, cuda_ptr(c->dst, c->dst_offset_bytes),
		  cuda_ptr(c->src, c->src_offset_bytes), c->bytes, s->stream);
}

int cuda_stream_set(struct cuda_stream *s, CUdeviceptr dst, int value, size_t bytes,
		    struct cvb_err *err)
{
	return CU(err, set, dst, (unsigned char)value, bytes, s->stream);
}

int cuda_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
		    struct cvb_err *err)
{
	const struct cvb_gpu_op op = {.kind = CVB_GPU_OP_COPY, .copy = *copy};

	if (cuda_is_proc(stream->context))
		return cuda_proc_work(stream, &op, err);
	struct cuda_stream *s = stream->priv;
	int r = cuda_use(s->context, err);

	return r < 0 ? r : cuda_stream_copy(s, copy, err);
}

int cuda_memset_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst, size_t offset_bytes,
		      int value, size_t bytes, struct cvb_err *err)
{
	const struct cvb_gpu_op op = {
		.kind = CVB_GPU_OP_MEMSET,
		.set = {.dst = dst, .offset_bytes = offset_bytes, .bytes = bytes, .value = value}};

	if (cuda_is_proc(stream->context))
		return cuda_proc_work(stream, &op, err);
	struct cuda_stream *s = stream->priv;
	int r = cuda_use(s->context, err);

	return r < 0 ? r : cuda_stream_set(s, cuda_ptr(dst, offset_bytes), value, bytes, err);
}

/* ---- peers ---- */

int cuda_peer_open(struct cvb_gpu *gpu, struct cvb_gpu *peer, struct cvb_err *err)
{
	const struct cuda_device *d = cuda_device_of(gpu);
	int n, r = CU(err, device_count, &n);

	for (int i = 0; r == 0 && i < n; i++) {
		int there = 0, back = 0;
		CUdevice other;

		if (i == d->ordinal)
			continue;
		r = CU(err, device_get, &other, i);
		if (r == 0)
			r = CU(err, peer_can, &there, d->dev, other);
		if (r == 0)
			r = CU(err, peer_can, &back, other, d->dev);
		if (r == 0 && there && back)
			return cuda_device_new(peer, i, err);
	}
	return r < 0 ? r
		     : cvb_err_set(err, -EOPNOTSUPP,
				   "of %d GPUs none other reaches the memory of GPU %d "
				   "(cuDeviceCanAccessPeer); nvidia-smi topo -p2p r shows who does",
				   n, d->ordinal);
}

int cuda_peer_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *c,
			 struct cvb_err *err)
{
	if (cuda_is_proc(c->dst->context) || cuda_is_proc(c->src->context))
		return cuda_proc_cannot("peer_copy", err);
	const struct cuda_context *to = c->dst->context->priv, *from = c->src->context->priv;
	struct cuda_stream *s = stream->priv;
	int r = 0;

	/* without it the copy would go through the host, unseen; primary contexts have it */
	if (!c->dst->context->primary || !c->src->context->primary) {
		r = cuda_peer_enable(to, from, err);
		if (r == 0)
			r = cuda_peer_enable(from, to, err);
	}
	if (r == 0)
		r = cuda_use(s->context, err);
	return r < 0 ? r
		     : CU(err, peer_copy, cuda_ptr(c->dst, c->dst_offset_bytes), to->ctx,
			  cuda_ptr(c->src, c->src_offset_bytes), from->ctx, c->bytes, s->stream);
}
