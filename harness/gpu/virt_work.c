/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams, kernels, graphs, products and events on the virtual clock.
 *
 * What work does to memory is done when it is submitted: that is one of the orders which streams
 * and events allow.  When it is done in virtual time is computed then, too, and never changes.
 */
#include "core/util.h"
#include "gpu/virt.h"

#include <errno.h>

static int no_memory(struct cvb_err *err)
{
	return cvb_err_set(err, -ENOMEM, "out of memory");
}

/* ---- streams ---- */

int virt_stream_new(struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	stream->priv = calloc(1, sizeof(struct virt_stream));
	return stream->priv ? 0 : no_memory(err);
}

/* Wait for the stream; what it had last decides how its end is learnt. */
static int wait_stream(struct virt_lane *lane, struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	struct virt_gpu *g = virt_gpu_of(stream->gpu);
	struct virt_stream *s = virt_stream_of(stream);
	uint64_t idle = 0, wait = 0;
	int r = 0;

	if (s->last == VIRT_LAUNCHED)
		r = virt_param_ps(g, CVB_SKU_WAIT, &wait, err);
	if (r == 0 && s->last != VIRT_COPIED)
		r = virt_param_ps(g, CVB_SKU_SYNC_IDLE, &idle, err);
	if (r < 0)
		return r;
	/* the toll of a copy is from call to end, its sync included */
	lane->now = cvb_max(lane->now + virt_noise(g->world, idle),
			    s->end + virt_noise(g->world, wait));
	s->last = VIRT_NOTHING;
	return 0;
}

int virt_sync(struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	struct virt_world *w = virt_gpu_of(stream->gpu)->world;
	struct virt_lane *lane = virt_enter(w);
	int r = wait_stream(lane, stream, err);

	virt_leave(w);
	return r;
}

void virt_stream_free(struct cvb_gpu_stream *stream)
{
	struct virt_world *w = virt_gpu_of(stream->gpu)->world;
	struct virt_lane *lane = virt_enter(w);

	lane->now = cvb_max(lane->now, virt_stream_of(stream)->end);
	virt_leave(w);
	free(stream->priv);
}

/* ---- kernels ---- */

struct kernel {
	uint64_t ps;	/* on the device */
	bool exclusive; /* keeps its memory or its units from others */
};

/* Reads and writes of all the operands, in lengths of a. */
static unsigned traffic(enum cvb_gpu_kernel k)
{
	switch (k) {
	case CVB_GPU_KERNEL_FILL:
	case CVB_GPU_KERNEL_VERIFY:
	case CVB_GPU_KERNEL_READ:
		return 1;
	case CVB_GPU_KERNEL_COPY:
		return 2;
	case CVB_GPU_KERNEL_TRIAD:
	case CVB_GPU_KERNEL_ADD:
		return 3;
	case CVB_GPU_KERNEL_EMPTY:
	case CVB_GPU_KERNEL_SPIN:
	case CVB_GPU_KERNELS:
		break;
	}
	return 0;
}

static int migrate_operands(const struct cvb_gpu_launch *l, uint64_t *ps, struct cvb_err *err)
{
	bool word = l->kernel == CVB_GPU_KERNEL_VERIFY || l->kernel == CVB_GPU_KERNEL_READ;
	unsigned n = traffic(l->kernel);
	int r = 0;

	if (n)
		r = virt_to_device(l->a, 0, l->bytes, ps, err);
	if (r == 0 && (n > 1 || word))
		r = virt_to_device(l->b, 0, word ? 8 : l->bytes, ps, err);
	if (r == 0 && l->kernel == CVB_GPU_KERNEL_TRIAD)
		r = virt_to_device(l->c, 0, l->bytes, ps, err);
	return r;
}

static int kernel_cost(const struct virt_gpu *g, const struct cvb_gpu_launch *l, struct kernel *ret,
		       struct cvb_err *err)
{
	uint64_t bytes = traffic(l->kernel) * (uint64_t)l->bytes, move = 0;
	int r = virt_param_ps(g, CVB_SKU_KERNEL_FLOOR, &ret->ps, err);

	if (l->kernel == CVB_GPU_KERNEL_SPIN && l->ns > VIRT_MAX_NS)
		return cvb_err_set(err, -EINVAL, "launch: a kernel of more than %llu ns",
				   (unsigned long long)VIRT_MAX_NS);
	ret->exclusive = bytes > 0;
	if (r == 0 && bytes)
		r = virt_memory_ps(g, bytes, &move, err);
	if (r == 0 && l->kernel == CVB_GPU_KERNEL_SPIN)
		ret->ps = cvb_max(ret->ps, l->ns * VIRT_PS_PER_NS);
	if (r == 0)
		ret->ps = virt_noise(g->world, ret->ps + move);
	return r == 0 ? migrate_operands(l, &ret->ps, err) : r;
}

/* What the kernel does to memory. */
static int kernel_do(const struct cvb_gpu_launch *l, struct cvb_err *err)
{
	struct virt_content **a = l->a ? &virt_buf_of(l->a)->content : NULL;
	struct virt_content **b = l->b ? &virt_buf_of(l->b)->content : NULL;
	struct virt_content **c = l->c ? &virt_buf_of(l->c)->content : NULL;
	uint64_t word;
	int r = 0;

	switch (l->kernel) {
	case CVB_GPU_KERNEL_FILL:
		r = virt_content_fill(a, l->bytes, l->seed);
		break;
	case CVB_GPU_KERNEL_VERIFY:
	case CVB_GPU_KERNEL_READ:
		word = l->kernel == CVB_GPU_KERNEL_READ
			       ? virt_content_sum(*a, l->bytes)
			       : virt_content_verify(*a, l->bytes, l->seed);
		r = virt_content_write(b, 0, &word, sizeof(word));
		break;
	case CVB_GPU_KERNEL_COPY:
		r = virt_content_copy(a, 0, *b, 0, l->bytes);
		break;
	case CVB_GPU_KERNEL_TRIAD:
		r = virt_content_triad(a, *b, *c, l->bytes, l->scalar);
		break;
	case CVB_GPU_KERNEL_ADD:
		r = virt_content_triad(a, *a, *b, l->bytes, 1.0);
		break;
	case CVB_GPU_KERNEL_EMPTY:
	case CVB_GPU_KERNEL_SPIN:
	case CVB_GPU_KERNELS:
		break;
	}
	return r < 0 ? no_memory(err) : 0;
}

static int gemm_cost(const struct virt_gpu *g, const struct cvb_gpu_gemm *gemm, struct kernel *ret,
		     struct cvb_err *err)
{
	unsigned __int128 flops = (unsigned __int128)2 * gemm->m * gemm->n * gemm->k;
	double per_s, floor_ns;
	int r = virt_param(g, (enum cvb_sku_param)(CVB_SKU_GEMM + (unsigned)gemm->type), &per_s,
			   err);

	if (r == 0)
		r = virt_param(g, CVB_SKU_KERNEL_FLOOR, &floor_ns, err);
	if (r < 0)
		return r;
	/* in ns first where 128 bits would not hold it in ps */
	unsigned __int128 ps = flops >> 80 ? flops / (uint64_t)per_s * UINT64_C(1000000000000)
					   : flops * UINT64_C(1000000000000) / (uint64_t)per_s;

	if (ps > VIRT_MAX_NS * VIRT_PS_PER_NS)
		return cvb_err_set(err, -EINVAL, "gemm: it would take more than %llu ns",
				   (unsigned long long)VIRT_MAX_NS);
	ret->ps = virt_noise(g->world,
			     cvb_max((uint64_t)ps, (uint64_t)(floor_ns * (double)VIRT_PS_PER_NS)));
	ret->exclusive = true;
	return 0;
}

static int gemm_do(const struct cvb_gpu_gemm *gemm, struct cvb_err *err)
{
	int r = virt_content_gemm(&virt_buf_of(gemm->c)->content, virt_buf_of(gemm->a)->content,
				  virt_buf_of(gemm->b)->content, gemm);

	return r < 0 ? no_memory(err) : 0;
}

/* The caller's part of a submission; more where the stream will not be idle by the end of it. */
static int launch_ps(const struct virt_lane *lane, const struct cvb_gpu_stream *stream,
		     uint64_t *ret, struct cvb_err *err)
{
	const struct virt_gpu *g = virt_gpu_of(stream->gpu);
	int r = virt_param_ps(g, CVB_SKU_LAUNCH, ret, err);

	if (r == 0 && virt_stream_of(stream)->end > lane->now + *ret)
		r = virt_param_ps(g, CVB_SKU_LAUNCH_BUSY, ret, err);
	return r;
}

/*
 * Submit one piece of work of kernels: the caller's part, then the device's.  `extra` comes before
 * it on the device.
 */
static int submit(struct virt_lane *lane, struct cvb_gpu_stream *stream, const struct kernel *k,
		  uint64_t extra, struct cvb_err *err)
{
	struct virt_gpu *g = virt_gpu_of(stream->gpu);
	struct virt_stream *s = virt_stream_of(stream);
	uint64_t launch, delay, gap, start;
	int r = launch_ps(lane, stream, &launch, err);

	if (r == 0)
		r = virt_param_ps(g, CVB_SKU_QUEUE_DELAY, &delay, err);
	if (r == 0)
		r = virt_param_ps(g, CVB_SKU_QUEUE_GAP, &gap, err);
	if (r < 0)
		return r;
	lane->now += virt_noise(g->world, launch);
	start = lane->now + virt_noise(g->world, delay);
	start = cvb_max(start, s->end + (s->last == VIRT_LAUNCHED ? virt_noise(g->world, gap) : 0));
	start += extra;
	if (k->exclusive)
		r = virt_reserve(&g->compute, lane->now, start, k->ps, &start, err);
	if (r == 0) {
		s->end = start + k->ps;
		s->last = VIRT_LAUNCHED;
	}
	return r;
}

static void use_operands(const struct cvb_gpu_launch *l, uint64_t end)
{
	struct cvb_gpu_buf *const bufs[] = {l->a, l->b, l->c};

	for (size_t i = 0; i < CVB_ARRAY_LEN(bufs); i++)
		if (bufs[i])
			virt_buf_use(bufs[i], end);
}

int virt_launch_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_launch *launch,
		      struct cvb_err *err)
{
	struct virt_gpu *g = virt_gpu_of(stream->gpu);
	struct virt_lane *lane = virt_enter(g->world);
	struct kernel k;
	int r = kernel_cost(g, launch, &k, err);

	if (r == 0)
		r = submit(lane, stream, &k, 0, err);
	if (r == 0)
		r = kernel_do(launch, err);
	if (r == 0 && traffic(launch->kernel))
		use_operands(launch, virt_stream_of(stream)->end);
	virt_leave(g->world);
	return r;
}

int virt_gemm_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_gemm *gemm,
		    struct cvb_err *err)
{
	struct virt_gpu *g = virt_gpu_of(stream->gpu);
	struct virt_lane *lane = virt_enter(g->world);
	struct kernel k;
	int r = gemm_cost(g, gemm, &k, err);

	if (r == 0)
		r = submit(lane, stream, &k, 0, err);
	if (r == 0)
		r = gemm_do(gemm, err);
	if (r == 0) {
		const struct cvb_gpu_launch bufs = {.a = gemm->a, .b = gemm->b, .c = gemm->c};

		use_operands(&bufs, virt_stream_of(stream)->end);
	}
	virt_leave(g->world);
	return r;
}

/* ---- graphs ---- */

/* One operation: its time is added to k, and it is done. */
static int run_op(const struct virt_gpu *g, const struct cvb_gpu_op *op, struct kernel *k,
		  struct cvb_err *err)
{
	struct kernel one = {.exclusive = true};
	int r;

	switch (op->kind) {
	case CVB_GPU_OP_LAUNCH:
		r = kernel_cost(g, &op->launch, &one, err);
		r = r < 0 ? r : kernel_do(&op->launch, err);
		break;
	case CVB_GPU_OP_GEMM:
		r = gemm_cost(g, &op->gemm, &one, err);
		r = r < 0 ? r : gemm_do(&op->gemm, err);
		break;
	case CVB_GPU_OP_MEMSET:
		r = virt_d2d_ps(g, op->set.bytes, /* is_copy= */ false, &one.ps, err);
		r = r < 0 ? r
			  : virt_set_do(op->set.dst, op->set.offset_bytes, op->set.bytes,
					op->set.value, &one.ps, err);
		break;
	default:
		r = virt_d2d_ps(g, op->copy.bytes, /* is_copy= */ true, &one.ps, err);
		r = r < 0 ? r : virt_d2d_do(&op->copy, &one.ps, err);
		break;
	}
	k->ps += one.ps;
	k->exclusive = k->exclusive || one.exclusive;
	return r;
}

static void use_op(const struct cvb_gpu_op *op, uint64_t end)
{
	struct cvb_gpu_launch bufs = {0};

	if (op->kind == CVB_GPU_OP_LAUNCH && traffic(op->launch.kernel))
		bufs = op->launch;
	else if (op->kind == CVB_GPU_OP_GEMM)
		bufs = (struct cvb_gpu_launch){.a = op->gemm.a, .b = op->gemm.b, .c = op->gemm.c};
	else if (op->kind == CVB_GPU_OP_MEMSET)
		bufs.a = op->set.dst;
	else if (op->kind == CVB_GPU_OP_COPY)
		bufs = (struct cvb_gpu_launch){.a = op->copy.dst, .b = op->copy.src};
	use_operands(&bufs, end);
}

int virt_graph_launch(struct cvb_gpu_graph *graph, struct cvb_gpu_stream *stream,
		      struct cvb_err *err)
{
	struct virt_gpu *g = virt_gpu_of(stream->gpu);
	struct virt_lane *lane = virt_enter(g->world);
	struct kernel k = {0};
	uint64_t extra, node;
	int r = virt_param_ps(g, CVB_SKU_GRAPH, &extra, err);

	if (r == 0)
		r = virt_param_ps(g, CVB_SKU_GRAPH_NODE, &node, err);
	if (r == 0)
		extra += graph->n * node;
	for (size_t i = 0; r == 0 && i < graph->n; i++)
		r = run_op(g, &graph->ops[i], &k, err);
	if (r == 0)
		r = submit(lane, stream, &k, virt_noise(g->world, extra), err);
	for (size_t i = 0; r == 0 && i < graph->n; i++)
		use_op(&graph->ops[i], virt_stream_of(stream)->end);
	virt_leave(g->world);
	return r;
}

/* ---- events ---- */

struct virt_event {
	bool recorded;
	uint64_t at;			   /* ps: of the last record */
	const struct cvb_gpu_stream *last; /* where it was made; only compared */
	enum virt_last how;		   /* what it waits for */
};

int virt_event_new(struct cvb_gpu_event *event, struct cvb_err *err)
{
	event->priv = calloc(1, sizeof(struct virt_event));
	return event->priv ? 0 : no_memory(err);
}

void virt_event_free(struct cvb_gpu_event *event)
{
	free(event->priv);
}

int virt_event_record(struct cvb_gpu_event *event, struct cvb_gpu_stream *stream,
		      struct cvb_err *err)
{
	struct virt_world *w = virt_gpu_of(stream->gpu)->world;
	struct virt_stream *s = virt_stream_of(stream);
	struct virt_lane *lane = virt_enter(w);
	struct virt_event *e = event->priv;
	int r = 0;

	if (e->recorded && e->at > lane->now && e->last != stream)
		r = cvb_err_set(err, -EBUSY,
				"event_record: its record on another stream is still pending");
	else
		*e = (struct virt_event){true, cvb_max(s->end, lane->now), stream, s->last};
	if (r == 0)
		s->end = e->at;
	virt_leave(w);
	return r;
}

int virt_event_wait(struct cvb_gpu_stream *stream, struct cvb_gpu_event *event, struct cvb_err *err)
{
	struct virt_world *w = virt_gpu_of(stream->gpu)->world;
	struct virt_stream *s = virt_stream_of(stream);
	const struct virt_event *e = event->priv;

	(void)err;
	cvb_ignore(virt_enter(w) != NULL);
	if (e->recorded)
		s->end = cvb_max(s->end, e->at);
	virt_leave(w);
	return 0;
}

int virt_event_sync(struct cvb_gpu_event *event, struct cvb_err *err)
{
	struct virt_gpu *g = virt_gpu_of(event->gpu);
	struct virt_lane *lane = virt_enter(g->world);
	const struct virt_event *e = event->priv;
	uint64_t wait = 0;
	int r = 0;

	if (!e->recorded)
		r = cvb_err_set(err, -EINVAL, "event_sync: the event was never recorded");
	else if (e->how == VIRT_LAUNCHED && e->at > lane->now)
		r = virt_param_ps(g, CVB_SKU_WAIT, &wait, err);
	if (r == 0 && e->at > lane->now)
		lane->now = e->at + virt_noise(g->world, wait);
	virt_leave(g->world);
	return r;
}

/* The record's time, if it is done by now. */
static int record_time(const struct virt_lane *lane, const struct cvb_gpu_event *event,
		       const char *which, uint64_t *ret, struct cvb_err *err)
{
	const struct virt_event *e = event->priv;

	if (!e->recorded)
		return cvb_err_set(err, -EINVAL,
				   "event_elapsed_ns: the %s event was never recorded", which);
	if (e->at > lane->now)
		return cvb_err_set(err, -EAGAIN, "event_elapsed_ns: the %s event is still pending",
				   which);
	*ret = e->at;
	return 0;
}

int virt_event_elapsed_ns(const struct cvb_gpu_event *from, const struct cvb_gpu_event *to,
			  int64_t *ret_ns, struct cvb_err *err)
{
	struct virt_world *w = virt_gpu_of(from->gpu)->world;
	const struct virt_lane *lane = virt_enter(w);
	uint64_t a, b;
	int r = record_time(lane, from, "first", &a, err);

	if (r == 0)
		r = record_time(lane, to, "second", &b, err);
	if (r == 0)
		*ret_ns = (int64_t)(b / VIRT_PS_PER_NS) - (int64_t)(a / VIRT_PS_PER_NS);
	virt_leave(w);
	return r;
}
