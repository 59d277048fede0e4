/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies on the virtual clock: what they cost and what they move.  See virt.h for the model.
 */
#include "core/util.h"
#include "gpu/virt.h"

#include <errno.h>
#include <math.h>

static int no_memory(struct cvb_err *err)
{
	return cvb_err_set(err, -ENOMEM, "out of memory");
}

/* ---- cost between host and device ---- */

/* ns_per_byte as 10^-18 s; it may be negative. */
static __int128 cost_of(double ns_per_byte, uint64_t bytes)
{
	return (__int128)llround(ns_per_byte * 1e9) * bytes / 1000000;
}

/* Time of `bytes` at the path's own rate, without knee and tail. */
static int rate_ps(const struct virt_gpu *g, enum cvb_gpu_dir dir, bool pinned, uint64_t bytes,
		   uint64_t *ret, struct cvb_err *err)
{
	enum cvb_sku_param d = (enum cvb_sku_param)dir;
	double link;
	int r;

	*ret = 0;
	if (!pinned)
		return virt_add_rate(g, CVB_SKU_PAGEABLE + d, bytes, ret, err);
	r = virt_param_mode(g, CVB_SKU_PCIE + d, /* cc= */ false, &link, err);
	if (r == 0 && g->cc) {
		/* the same thread encrypts and stages, one after the other */
		r = virt_add_rate(g, CVB_SKU_GCM, bytes, ret, err);
		if (r == 0)
			r = virt_add_rate(g, CVB_SKU_STAGE + d, bytes, ret, err);
	}
	if (r == 0)
		*ret = cvb_max(*ret, virt_rate_ps(bytes, (uint64_t)llround(link)));
	return r;
}

/* How many of the `bytes` from `at` on lie behind the first `tail` of their buffer. */
static uint64_t behind(uint64_t at, uint64_t bytes, uint64_t tail)
{
	return at >= tail ? bytes : bytes - cvb_min(bytes, tail - at);
}

struct path_cost {
	bool pinned;
	uint64_t toll, data; /* ps, with noise */
	uint32_t noise_ppm;  /* in data */
};

/* `at`: where the bytes begin in the host's buffer. */
static int path_ps(const struct virt_gpu *g, enum cvb_gpu_dir dir, bool pinned, uint64_t at,
		   uint64_t bytes, struct path_cost *ret, struct cvb_err *err)
{
	enum cvb_sku_param path = (enum cvb_sku_param)dir + (pinned ? 0 : 2);
	double knee, knee_cost, tail, tail_cost;
	int r = virt_param_ps(g, CVB_SKU_TOLL + path, &ret->toll, err);

	if (r == 0)
		r = virt_param(g, CVB_SKU_KNEE + path, &knee, err);
	if (r == 0)
		r = virt_param(g, CVB_SKU_KNEE_COST + path, &knee_cost, err);
	if (r == 0)
		r = virt_param(g, CVB_SKU_TAIL + path, &tail, err);
	if (r == 0)
		r = virt_param(g, CVB_SKU_TAIL_COST + path, &tail_cost, err);
	if (r < 0)
		return r;
	uint64_t first = cvb_min(bytes, (uint64_t)knee);
	uint64_t last = behind(at, bytes, (uint64_t)tail);

	r = rate_ps(g, dir, pinned, bytes - first, &ret->data, err);
	if (r == 0)
		r = virt_sum_ps(g, ret->data + cost_of(knee_cost, first) + cost_of(tail_cost, last),
				&ret->data, err);
	if (r < 0)
		return r;
	ret->pinned = pinned;
	ret->toll = virt_noise(g->world, ret->toll);
	ret->noise_ppm = virt_draw_noise(g->world);
	ret->data = virt_with_noise(ret->data, ret->noise_ppm);
	return 0;
}

int virt_shared_ps(const struct virt_xfer *x, unsigned n, uint64_t *ret, struct cvb_err *err)
{
	const struct virt_gpu *g = virt_gpu_of(x->context->gpu);
	bool process = x->context->kind == CVB_GPU_CONTEXT_PROCESS && !x->context->primary;
	enum cvb_sku_param dir = (enum cvb_sku_param)x->dir;
	enum cvb_sku_param max = dir + (process ? CVB_SKU_PROCESSES_MAX : CVB_SKU_THREADS_MAX);
	enum cvb_sku_param half = dir + (process ? CVB_SKU_PROCESSES_HALF : CVB_SKU_THREADS_HALF);
	bool in_program = x->lane || !x->context->primary; /* that the formula was measured with */
	double per_s, contexts;

	if (n == 1 && (!x->pinned || !in_program || !virt_param_known(g, max))) {
		*ret = x->alone;
		return 0;
	}
	int r = virt_param(g, max, &per_s, err);

	if (r == 0)
		r = virt_param(g, half, &contexts, err);
	if (r < 0)
		return r;
	/* each gets max / (n + half) */
	uint64_t micro = (uint64_t)llround(contexts * 1e6) + n * UINT64_C(1000000);

	*ret = virt_with_noise((uint64_t)((unsigned __int128)x->bytes * micro * 1000000 /
					  (uint64_t)llround(per_s)),
			       x->noise_ppm);
	return 0;
}

/* ---- managed memory ---- */

/* What `blocks` with `bytes` cost that migrate. */
static int migration_ps(const struct virt_gpu *g, enum cvb_gpu_dir dir, uint64_t blocks,
			uint64_t bytes, uint64_t *ret, struct cvb_err *err)
{
	double fault, link, times = 1;
	int r = virt_param_mode(g, CVB_SKU_MANAGED_FAULT, /* cc= */ false, &fault, err);

	if (r == 0)
		r = virt_param_mode(g, CVB_SKU_PCIE + (enum cvb_sku_param)dir, /* cc= */ false,
				    &link, err);
	if (r == 0 && g->cc)
		r = virt_param(g, CVB_SKU_MANAGED_MULTIPLIER, &times, err);
	if (r < 0)
		return r;
	__int128 ps = (__int128)blocks * llround(fault * (double)VIRT_PS_PER_NS) +
		      virt_rate_ps(bytes, (uint64_t)llround(link));

	return virt_sum_ps(g, ps * llround(times * 1e6) / 1000000, ret, err);
}

static size_t block_bytes(const struct cvb_gpu_buf *buf, size_t block)
{
	return cvb_min(VIRT_BLOCK, buf->bytes - block * VIRT_BLOCK);
}

/* Move what of the range is on the other side; *ps grows. */
static int migrate(struct cvb_gpu_buf *buf, size_t at, size_t bytes, bool to_device, uint64_t *ps,
		   struct cvb_err *err)
{
	const struct virt_gpu *g = virt_gpu_of(buf->gpu);
	struct virt_buf *b = virt_buf_of(buf);
	size_t first = at / VIRT_BLOCK, last = (at + bytes - 1) / VIRT_BLOCK;
	uint64_t blocks = 0, moved = 0, cost;
	int r;

	for (size_t i = first; i <= last; i++) {
		blocks += b->on_device[i] != to_device;
		moved += b->on_device[i] != to_device ? block_bytes(buf, i) : 0;
	}
	if (!blocks)
		return 0;
	r = migration_ps(g, to_device ? CVB_GPU_H2D : CVB_GPU_D2H, blocks, moved, &cost, err);
	for (size_t i = first; r == 0 && i <= last; i++) {
		uint8_t *host = (uint8_t *)buf->host + i * VIRT_BLOCK;

		if (b->on_device[i] == to_device)
			continue;
		if (!to_device)
			virt_content_to_host(b->content, i * VIRT_BLOCK, host, block_bytes(buf, i));
		else if (virt_content_from_host(&b->content, i * VIRT_BLOCK, host,
						block_bytes(buf, i), g->world->pagemap) < 0)
			r = no_memory(err);
		if (r == 0)
			b->on_device[i] = to_device;
	}
	if (r == 0)
		*ps += virt_noise(g->world, cost);
	return r;
}

int virt_to_device(struct cvb_gpu_buf *buf, size_t at, size_t bytes, uint64_t *ps,
		   struct cvb_err *err)
{
	return buf->kind == CVB_GPU_MANAGED && bytes
		       ? migrate(buf, at, bytes, /* to_device= */ true, ps, err)
		       : 0;
}

int virt_managed_touch(struct cvb_gpu_buf *buf, size_t offset_bytes, size_t bytes,
		       struct cvb_err *err)
{
	struct virt_world *w = virt_gpu_of(buf->gpu)->world;
	struct virt_lane *lane = virt_enter(w);
	uint64_t ps = 0;
	int r = migrate(buf, offset_bytes, bytes, /* to_device= */ false, &ps, err);

	if (r == 0)
		lane->now = cvb_max(lane->now, virt_buf_of(buf)->busy) + ps;
	virt_leave(w);
	return r;
}

/* ---- copies between host and device ---- */

static void used(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy, uint64_t end)
{
	struct virt_stream *s = virt_stream_of(stream);

	s->end = end;
	s->last = VIRT_COPIED;
	virt_buf_use(copy->dst, end);
	virt_buf_use(copy->src, end);
}

/* The bytes; *ps grows where managed memory migrates first. */
static int move_bytes(const struct cvb_gpu_copy *c, uint64_t *ps, struct cvb_err *err)
{
	bool in = c->dir == CVB_GPU_H2D;
	struct cvb_gpu_buf *device = in ? c->dst : c->src;
	size_t at = in ? c->dst_offset_bytes : c->src_offset_bytes;
	struct virt_buf *b = virt_buf_of(device);
	int r = virt_to_device(device, at, c->bytes, ps, err);

	if (r < 0)
		return r;
	if (!in) {
		virt_content_to_host(b->content, at, (uint8_t *)c->dst->host + c->dst_offset_bytes,
				     c->bytes);
		return 0;
	}
	r = virt_content_from_host(&b->content, at, (uint8_t *)c->src->host + c->src_offset_bytes,
				   c->bytes, virt_gpu_of(device->gpu)->world->pagemap);
	return r < 0 ? no_memory(err) : 0;
}

/* cc=on: the caller is busy with it. */
static int copy_encrypted(struct virt_lane *lane, struct cvb_gpu_stream *stream,
			  const struct cvb_gpu_copy *copy, const struct path_cost *cost,
			  struct cvb_err *err)
{
	struct virt_xfer x = {
		.context = stream->context,
		.dir = copy->dir,
		.pinned = cost->pinned,
		.bytes = copy->bytes,
		.stream_end = virt_stream_of(stream)->end,
		.toll = cost->toll,
		.alone = cost->data,
		.noise_ppm = cost->noise_ppm,
	};
	int r = virt_block(lane, &x, err);

	/* others may have come to this stream meanwhile */
	used(stream, copy, cvb_max(lane->now, virt_stream_of(stream)->end));
	return r;
}

/* cc=off: a copy engine does it; pageable memory keeps the caller all the same. */
static int copy_plain(struct virt_lane *lane, struct cvb_gpu_stream *stream,
		      const struct cvb_gpu_copy *copy, const struct path_cost *cost,
		      struct cvb_err *err)
{
	struct virt_gpu *g = virt_gpu_of(stream->gpu);
	uint64_t begin = cvb_max(lane->now, virt_stream_of(stream)->end) + cost->toll;
	uint64_t submit = 0, start;
	int r = cost->pinned ? virt_param_ps(g, CVB_SKU_COPY_SUBMIT, &submit, err) : 0;

	if (r == 0)
		r = virt_reserve(&g->engine[copy->dir], lane->now, begin, cost->data, &start, err);
	if (r < 0)
		return r;
	used(stream, copy, start + cost->data);
	lane->now = cost->pinned ? lane->now + virt_noise(g->world, submit) : start + cost->data;
	return 0;
}

static int copy_host(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
		     struct cvb_err *err)
{
	struct virt_gpu *g = virt_gpu_of(stream->gpu);
	bool in = copy->dir == CVB_GPU_H2D;
	const struct cvb_gpu_buf *host = in ? copy->src : copy->dst;
	size_t at = in ? copy->src_offset_bytes : copy->dst_offset_bytes;
	bool pinned = host->kind == CVB_GPU_HOST_PINNED;
	struct virt_lane *lane = virt_enter(g->world);
	struct path_cost cost;
	int r = path_ps(g, copy->dir, pinned, at, copy->bytes, &cost, err);

	if (r == 0)
		r = move_bytes(copy, &cost.toll, err);
	if (r == 0)
		r = g->cc ? copy_encrypted(lane, stream, copy, &cost, err)
			  : copy_plain(lane, stream, copy, &cost, err);
	virt_leave(g->world);
	return r;
}

/* ---- within the device ---- */

int virt_memory_ps(const struct virt_gpu *g, uint64_t bytes, uint64_t *ret, struct cvb_err *err)
{
	double l2;
	int r = virt_param(g, CVB_SKU_L2_BYTES, &l2, err);

	*ret = 0;
	if (r < 0)
		return r;
	return virt_add_rate(g, bytes <= (uint64_t)l2 ? CVB_SKU_L2 : CVB_SKU_HBM, bytes, ret, err);
}

int virt_d2d_ps(const struct virt_gpu *g, size_t bytes, bool is_copy, uint64_t *ret,
		struct cvb_err *err)
{
	uint64_t fixed;
	int r = virt_param_ps(g, CVB_SKU_D2D_FIXED, &fixed, err);

	/* a copy reads and writes */
	if (r == 0)
		r = virt_memory_ps(g, is_copy ? 2 * bytes : bytes, ret, err);
	if (r == 0)
		*ret = virt_noise(g->world, *ret + fixed);
	return r;
}

int virt_d2d_do(const struct cvb_gpu_copy *c, uint64_t *ps, struct cvb_err *err)
{
	int r = virt_to_device(c->src, c->src_offset_bytes, c->bytes, ps, err);

	if (r == 0)
		r = virt_to_device(c->dst, c->dst_offset_bytes, c->bytes, ps, err);
	if (r < 0)
		return r;
	r = virt_content_copy(&virt_buf_of(c->dst)->content, c->dst_offset_bytes,
			      virt_buf_of(c->src)->content, c->src_offset_bytes, c->bytes);
	return r < 0 ? no_memory(err) : 0;
}

int virt_set_do(struct cvb_gpu_buf *dst, size_t at, size_t bytes, int value, uint64_t *ps,
		struct cvb_err *err)
{
	int r = virt_to_device(dst, at, bytes, ps, err);

	if (r < 0)
		return r;
	r = virt_content_set(&virt_buf_of(dst)->content, at, bytes, value);
	return r < 0 ? no_memory(err) : 0;
}

/* The time of one that takes `ps`, after its submission. */
static int submit_d2d(struct virt_lane *lane, struct cvb_gpu_stream *stream, uint64_t ps,
		      uint64_t *ret_end, struct cvb_err *err)
{
	struct virt_gpu *g = virt_gpu_of(stream->gpu);
	struct virt_stream *s = virt_stream_of(stream);
	uint64_t submit, start;
	int r = virt_param_ps(g, CVB_SKU_D2D_SUBMIT, &submit, err);

	if (r < 0)
		return r;
	lane->now += virt_noise(g->world, submit);
	r = virt_reserve(&g->compute, lane->now, cvb_max(lane->now, s->end), ps, &start, err);
	if (r == 0) {
		*ret_end = s->end = start + ps;
		s->last = VIRT_COPIED;
	}
	return r;
}

int virt_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
		    struct cvb_err *err)
{
	struct virt_gpu *g = virt_gpu_of(stream->gpu);
	uint64_t ps, end;

	if (copy->dir != CVB_GPU_D2D)
		return copy_host(stream, copy, err);
	struct virt_lane *lane = virt_enter(g->world);
	int r = virt_d2d_ps(g, copy->bytes, /* is_copy= */ true, &ps, err);

	if (r == 0)
		r = virt_d2d_do(copy, &ps, err);
	if (r == 0)
		r = submit_d2d(lane, stream, ps, &end, err);
	if (r == 0)
		used(stream, copy, end);
	virt_leave(g->world);
	return r;
}

int virt_memset_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst, size_t offset_bytes,
		      int value, size_t bytes, struct cvb_err *err)
{
	struct virt_gpu *g = virt_gpu_of(stream->gpu);
	struct virt_lane *lane = virt_enter(g->world);
	uint64_t ps, end;
	int r = virt_d2d_ps(g, bytes, /* is_copy= */ false, &ps, err);

	if (r == 0)
		r = virt_set_do(dst, offset_bytes, bytes, value, &ps, err);
	if (r == 0)
		r = submit_d2d(lane, stream, ps, &end, err);
	if (r == 0)
		virt_buf_use(dst, end);
	virt_leave(g->world);
	return r;
}

int virt_peer_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
			 struct cvb_err *err)
{
	/* the link of the device that the bytes leave */
	struct virt_gpu *g = virt_gpu_of(copy->src->gpu);
	struct virt_stream *s = virt_stream_of(stream);
	struct virt_lane *lane = virt_enter(g->world);
	uint64_t latency, submit, ps = 0, start, none = 0;
	int r = virt_param_ps(g, CVB_SKU_PEER_LATENCY, &latency, err);

	if (r == 0)
		r = virt_param_ps(g, CVB_SKU_D2D_SUBMIT, &submit, err);
	if (r == 0)
		r = virt_add_rate(g, CVB_SKU_PEER, copy->bytes, &ps, err);
	if (r == 0)
		r = virt_d2d_do(copy, &none, err);
	if (r == 0) {
		ps = virt_noise(g->world, ps);
		latency = virt_noise(g->world, latency);
		r = virt_reserve(&g->link, lane->now, cvb_max(lane->now, s->end) + latency, ps,
				 &start, err);
	}
	if (r == 0) {
		used(stream, copy, start + ps);
		/* the latency is from call to end: the caller's part is in it */
		lane->now += cvb_min(submit, latency);
	}
	virt_leave(g->world);
	return r;
}
