/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all shims do: hand every call on to the inner device, with its handles.
 */
#include "gpu/shim.h"

#include "core/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

const char *const shim_kind_names[SHIM_KINDS] = {
	"other",  "alloc", "context", "stream", "copy",	  "memset", "gemm",
	"launch", "graph", "peer",    "touch",	"record", "sync",
};

/* ---- around a call ---- */

#define CALL(k, n, ...) struct shim_call call = {.kind = (k), .name = (n), __VA_ARGS__}
#define ARGS(...)	snprintf(call.args, sizeof(call.args), __VA_ARGS__)

static int begin(const struct cvb_gpu *gpu, struct shim_call *call, struct cvb_err *err)
{
	struct shim *s = shim_of(gpu);

	return s->ops->begin(s, call, err);
}

static int end(const struct cvb_gpu *gpu, struct shim_call *call, int r, struct cvb_err *err)
{
	struct shim *s = shim_of(gpu);

	return s->ops->end(s, call, r, err);
}

/* `inner` is evaluated only if the shim lets the call pass. */
#define AROUND(gpu, inner)                                                                         \
	({                                                                                         \
		int r_ = begin(gpu, &call, err);                                                   \
		if (r_ == 0)                                                                       \
			r_ = (inner);                                                              \
		end(gpu, &call, r_, err);                                                          \
	})

static int handle_new(const struct cvb_gpu *gpu, void **ret_priv, struct cvb_err *err)
{
	struct shim_handle *h = calloc(1, sizeof(*h));

	if (!h)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	h->id = 1 + atomic_fetch_add(shim_of(gpu)->ids, 1);
	*ret_priv = h;
	return 0;
}

/* After a *_new hook: without the inner object there is no handle either. */
static int handle_keep(void **priv, void *inner, int r)
{
	struct shim_handle *h = *priv;

	if (r < 0) {
		free(h);
		*priv = NULL;
	} else {
		h->inner = inner;
	}
	return r;
}

/* ---- spec and device ---- */

/* The shim's own keys are what stands before the first colon, if there is a '=' in it. */
static char *split_args(const char *args, const char **ret_inner)
{
	const char *colon = args ? strchr(args, ':') : NULL;
	const char *equals = args ? strchr(args, '=') : NULL;

	*ret_inner = args;
	if (!colon || !equals || equals > colon)
		return NULL;
	*ret_inner = colon + 1;
	return strndup(args, (size_t)(colon - args));
}

int shim_spec_check(const struct shim_ops *ops, const char *args, struct cvb_err *err)
{
	const char *inner;
	_cleanup_free_ char *keys = split_args(args, &inner);
	int r;

	if (!inner || !*inner)
		return cvb_err_set(err, -EINVAL,
				   "GPU spec: a shim stands before a device, as in "
				   "trace:emu:h100-tdx");
	r = ops->check(keys, err);
	return r < 0 ? r : cvb_gpu_spec_check(inner, err);
}

/* The outer device says what the inner one is. */
static void take_facts(struct cvb_gpu *gpu, struct shim *s)
{
	gpu->priv = s;
	gpu->clock = s->inner->clock;
	gpu->emulated = s->inner->emulated;
	gpu->deterministic = s->inner->deterministic;
	gpu->caps = s->inner->caps;
}

int shim_open(const struct shim_ops *ops, struct cvb_gpu *gpu, const char *args,
	      struct cvb_err *err)
{
	const char *inner;
	_cleanup_free_ char *keys = split_args(args, &inner);
	struct shim *s = calloc(1, sizeof(*s));

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	s->ops = ops;
	s->ids = &s->own_ids;
	int r = ops->open(s, keys, err);

	if (r < 0) {
		free(s);
		return r;
	}
	r = cvb_gpu_open(inner, &s->inner, err);
	if (r < 0) {
		ops->close(s);
		free(s);
		return r;
	}
	take_facts(gpu, s);
	return 0;
}

int shim_peer_open(struct cvb_gpu *gpu, struct cvb_gpu *peer, struct cvb_err *err)
{
	struct shim *of = shim_of(gpu), *s = calloc(1, sizeof(*s));

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	*s = (struct shim){.ops = of->ops, .of = of, .ids = of->ids, .priv = of->priv};
	CALL(SHIM_OTHER, "peer_open");
	int r = AROUND(gpu, cvb_gpu_peer_open(of->inner, &s->inner, err));

	if (r < 0)
		free(s);
	else
		take_facts(peer, s);
	return r;
}

void shim_close(struct cvb_gpu *gpu)
{
	struct shim *s = shim_of(gpu);

	cvb_gpu_close(s->inner);
	if (!s->of)
		s->ops->close(s);
	free(s);
}

struct cvb_gpu *shim_innermost(struct cvb_gpu *gpu)
{
	while (gpu->backend->close == shim_close)
		gpu = shim_of(gpu)->inner;
	return gpu;
}

int shim_describe(const struct cvb_gpu *gpu, json_t *into)
{
	const struct shim *s = shim_of(gpu);
	_cleanup_json_ json_t *inner = cvb_gpu_describe(s->inner);
	json_t *shim = json_pack("{s:s}", "name", gpu->backend->name);
	int r = inner && shim ? 0 : -ENOMEM;

	if (r == 0 && s->ops->describe)
		r = s->ops->describe(s, shim);
	/* a shim before a shim: the outer one's key stays */
	r |= json_object_update_missing(into, inner);
	r |= json_object_set(into, "shim", shim);
	json_decref(shim);
	return r ? -ENOMEM : 0;
}

int shim_cc_state(struct cvb_gpu *gpu, struct cvb_gpu_cc *ret, struct cvb_err *err)
{
	return cvb_gpu_cc_state(shim_of(gpu)->inner, ret, err);
}

void shim_health(struct cvb_gpu *gpu, struct cvb_gpu_health *ret)
{
	cvb_gpu_health_read(shim_of(gpu)->inner, ret);
}

/* ---- contexts, host threads ---- */

int shim_context_new(struct cvb_gpu_context *context, struct cvb_err *err)
{
	struct cvb_gpu *gpu = context->gpu;
	struct cvb_gpu_context *inner = &shim_of(gpu)->inner->primary;
	int r = handle_new(gpu, &context->priv, err);

	if (r < 0 || context->primary)
		return handle_keep(&context->priv, inner, r);
	CALL(SHIM_CONTEXT, "context_new");
	ARGS("context=%u, kind=%s", SHIM_ID(context),
	     context->kind == CVB_GPU_CONTEXT_PROCESS ? "process" : "thread");
	r = AROUND(gpu, cvb_gpu_context_new(shim_of(gpu)->inner, context->kind, &inner, err));
	return handle_keep(&context->priv, inner, r);
}

void shim_context_free(struct cvb_gpu_context *context)
{
	struct cvb_err *err = NULL;

	if (!context->primary) {
		CALL(SHIM_OTHER, "context_free");
		ARGS("context=%u", SHIM_ID(context));
		cvb_ignore(AROUND(context->gpu, (cvb_gpu_context_free(SHIM_INNER(context)), 0)));
	}
	free(context->priv);
}

int shim_parallel(struct cvb_gpu *gpu, unsigned lanes, cvb_gpu_lane_fn *fn, void *arg,
		  struct cvb_err *err)
{
	CALL(SHIM_OTHER, "parallel");
	ARGS("lanes=%u", lanes);
	return AROUND(gpu, cvb_gpu_parallel(shim_of(gpu)->inner, lanes, fn, arg, err));
}

void shim_host_work(struct cvb_gpu *gpu, uint64_t ns)
{
	struct cvb_err *err = NULL;

	CALL(SHIM_OTHER, "host_work");
	ARGS("ns=%" PRIu64, ns);
	cvb_ignore(AROUND(gpu, (cvb_gpu_host_work(shim_of(gpu)->inner, ns), 0)));
}

/* ---- buffers and streams ---- */

int shim_alloc(struct cvb_gpu_buf *buf, struct cvb_err *err)
{
	struct cvb_gpu_buf *inner = NULL;
	int r = handle_new(buf->gpu, &buf->priv, err);

	if (r < 0)
		return r;
	CALL(SHIM_ALLOC, "alloc");
	ARGS("buf=%u, context=%u, mem=%s, bytes=%zu", SHIM_ID(buf), SHIM_ID(buf->context),
	     cvb_gpu_mem_text(buf->kind), buf->bytes);
	r = AROUND(buf->gpu,
		   cvb_gpu_alloc_in(SHIM_INNER(buf->context), buf->kind, buf->bytes, &inner, err));
	if (r == 0)
		buf->host = inner->host;
	return handle_keep(&buf->priv, inner, r);
}

void shim_free(struct cvb_gpu_buf *buf)
{
	struct cvb_err *err = NULL;

	CALL(SHIM_OTHER, "free");
	ARGS("buf=%u", SHIM_ID(buf));
	cvb_ignore(AROUND(buf->gpu, (cvb_gpu_free(SHIM_INNER(buf)), 0)));
	free(buf->priv);
}

void shim_host_touch(const struct cvb_gpu_buf *buf)
{
	cvb_ignore(cvb_gpu_buf_host(SHIM_INNER(buf)) != NULL);
}

int shim_stream_new(struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	struct cvb_gpu_stream *inner = NULL;
	int r = handle_new(stream->gpu, &stream->priv, err);

	if (r < 0)
		return r;
	CALL(SHIM_STREAM, "stream_new");
	ARGS("stream=%u, context=%u", SHIM_ID(stream), SHIM_ID(stream->context));
	r = AROUND(stream->gpu, cvb_gpu_stream_new_in(SHIM_INNER(stream->context), &inner, err));
	return handle_keep(&stream->priv, inner, r);
}

void shim_stream_free(struct cvb_gpu_stream *stream)
{
	struct cvb_err *err = NULL;

	CALL(SHIM_OTHER, "stream_free");
	ARGS("stream=%u", SHIM_ID(stream));
	cvb_ignore(AROUND(stream->gpu, (cvb_gpu_stream_free(SHIM_INNER(stream)), 0)));
	free(stream->priv);
}

int shim_managed_touch(struct cvb_gpu_buf *buf, size_t offset_bytes, size_t bytes,
		       struct cvb_err *err)
{
	CALL(SHIM_TOUCH, "managed_touch", .buf = buf, .offset_bytes = offset_bytes, .bytes = bytes);
	ARGS("buf=%u+%zu, bytes=%zu", SHIM_ID(buf), offset_bytes, bytes);
	return AROUND(buf->gpu, cvb_gpu_managed_touch(SHIM_INNER(buf), offset_bytes, bytes, err));
}

int shim_sync(struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	CALL(SHIM_SYNC, "sync", .stream = stream);
	ARGS("stream=%u", SHIM_ID(stream));
	return AROUND(stream->gpu, cvb_gpu_sync(SHIM_INNER(stream), err));
}

/* ---- work ---- */

/* Submit an operation of the outer device to a stream of the inner one. */
static int submit(struct cvb_gpu_stream *inner, const struct cvb_gpu_op *op, struct cvb_err *err)
{
	struct cvb_gpu_launch l;
	struct cvb_gpu_gemm g;

	switch (op->kind) {
	case CVB_GPU_OP_LAUNCH:
		l = op->launch;
		l.a = SHIM_INNER(l.a);
		l.b = SHIM_INNER(l.b);
		l.c = SHIM_INNER(l.c);
		return cvb_gpu_launch_async(inner, &l, err);
	case CVB_GPU_OP_GEMM:
		g = op->gemm;
		g.a = SHIM_INNER(g.a);
		g.b = SHIM_INNER(g.b);
		g.c = SHIM_INNER(g.c);
		return cvb_gpu_gemm_async(inner, &g, err);
	case CVB_GPU_OP_MEMSET:
		return cvb_gpu_memset_async(inner, SHIM_INNER(op->set.dst), op->set.offset_bytes,
					    op->set.value, op->set.bytes, err);
	case CVB_GPU_OP_COPY:
		return cvb_gpu_copy_async(inner, SHIM_INNER(op->copy.dst),
					  op->copy.dst_offset_bytes, SHIM_INNER(op->copy.src),
					  op->copy.src_offset_bytes, op->copy.bytes, err);
	}
	return 0;
}

static int run_op(struct shim_call *c, struct cvb_err *err)
{
	struct shim_call call = *c;
	struct cvb_gpu *gpu = call.stream->gpu;

	return AROUND(gpu, submit(SHIM_INNER(call.stream), &call.op, err));
}

int shim_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
		    struct cvb_err *err)
{
	CALL(SHIM_COPY, "copy_async", .stream = stream,
	     .op = {.kind = CVB_GPU_OP_COPY, .copy = *copy});
	ARGS("stream=%u, dst=%u+%zu, src=%u+%zu, bytes=%zu, dir=%s", SHIM_ID(stream),
	     SHIM_ID(copy->dst), copy->dst_offset_bytes, SHIM_ID(copy->src), copy->src_offset_bytes,
	     copy->bytes, cvb_gpu_dir_text(copy->dir));
	return run_op(&call, err);
}

int shim_peer_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
			 struct cvb_err *err)
{
	CALL(SHIM_PEER, "peer_copy_async", .stream = stream,
	     .op = {.kind = CVB_GPU_OP_COPY, .copy = *copy});
	ARGS("stream=%u, dst=%u+%zu, src=%u+%zu, bytes=%zu", SHIM_ID(stream), SHIM_ID(copy->dst),
	     copy->dst_offset_bytes, SHIM_ID(copy->src), copy->src_offset_bytes, copy->bytes);
	return AROUND(stream->gpu,
		      cvb_gpu_peer_copy_async(SHIM_INNER(stream), SHIM_INNER(copy->dst),
					      copy->dst_offset_bytes, SHIM_INNER(copy->src),
					      copy->src_offset_bytes, copy->bytes, err));
}

int shim_memset_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst, size_t offset_bytes,
		      int value, size_t bytes, struct cvb_err *err)
{
	CALL(SHIM_MEMSET, "memset_async", .stream = stream,
	     .op = {.kind = CVB_GPU_OP_MEMSET,
		    .set = {.dst = dst,
			    .offset_bytes = offset_bytes,
			    .bytes = bytes,
			    .value = value}});
	ARGS("stream=%u, dst=%u+%zu, value=%d, bytes=%zu", SHIM_ID(stream), SHIM_ID(dst),
	     offset_bytes, value, bytes);
	return run_op(&call, err);
}

int shim_gemm_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_gemm *g,
		    struct cvb_err *err)
{
	CALL(SHIM_GEMM, "gemm_async", .stream = stream,
	     .op = {.kind = CVB_GPU_OP_GEMM, .gemm = *g});
	ARGS("stream=%u, type=%s, m=%u, n=%u, k=%u, a=%u, b=%u, c=%u", SHIM_ID(stream),
	     cvb_gpu_type_text(g->type), g->m, g->n, g->k, SHIM_ID(g->a), SHIM_ID(g->b),
	     SHIM_ID(g->c));
	return run_op(&call, err);
}

int shim_launch_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_launch *l,
		      struct cvb_err *err)
{
	static const char *const names[CVB_GPU_KERNELS] = {
		"empty", "spin", "fill", "verify", "read", "copy", "triad", "add",
	};

	CALL(SHIM_LAUNCH, "launch_async", .stream = stream,
	     .op = {.kind = CVB_GPU_OP_LAUNCH, .launch = *l});
	ARGS("stream=%u, kernel=%s, a=%u, b=%u, c=%u, bytes=%zu", SHIM_ID(stream), names[l->kernel],
	     SHIM_ID(l->a), SHIM_ID(l->b), SHIM_ID(l->c), l->bytes);
	return run_op(&call, err);
}

/* ---- graphs: captured anew on the inner device ---- */

static int capture_inner(const struct cvb_gpu_graph *graph, struct cvb_gpu_graph **ret,
			 struct cvb_err *err)
{
	struct cvb_gpu_stream *stream;
	int r = cvb_gpu_stream_new_in(SHIM_INNER(graph->context), &stream, err);

	if (r < 0)
		return r;
	r = cvb_gpu_capture_begin(stream, err);
	for (size_t i = 0; i < graph->n && r == 0; i++)
		r = submit(stream, &graph->ops[i], err);
	if (r == 0)
		r = cvb_gpu_capture_end(stream, ret, err);
	cvb_gpu_stream_free(stream);
	return r;
}

int shim_graph_new(struct cvb_gpu_graph *graph, struct cvb_err *err)
{
	struct cvb_gpu_graph *inner = NULL;
	int r = handle_new(graph->gpu, &graph->priv, err);

	if (r < 0)
		return r;
	CALL(SHIM_OTHER, "graph_new");
	ARGS("graph=%u, operations=%zu", SHIM_ID(graph), graph->n);
	r = AROUND(graph->gpu, capture_inner(graph, &inner, err));
	return handle_keep(&graph->priv, inner, r);
}

void shim_graph_free(struct cvb_gpu_graph *graph)
{
	struct cvb_err *err = NULL;

	CALL(SHIM_OTHER, "graph_free");
	ARGS("graph=%u", SHIM_ID(graph));
	cvb_ignore(AROUND(graph->gpu, (cvb_gpu_graph_free(SHIM_INNER(graph)), 0)));
	free(graph->priv);
}

int shim_graph_launch(struct cvb_gpu_graph *graph, struct cvb_gpu_stream *stream,
		      struct cvb_err *err)
{
	CALL(SHIM_GRAPH, "graph_launch", .stream = stream, .graph = graph);
	ARGS("graph=%u, stream=%u", SHIM_ID(graph), SHIM_ID(stream));
	return AROUND(graph->gpu, cvb_gpu_graph_launch(SHIM_INNER(graph), SHIM_INNER(stream), err));
}

/* ---- events ---- */

int shim_event_new(struct cvb_gpu_event *event, struct cvb_err *err)
{
	struct cvb_gpu_event *inner = NULL;
	int r = handle_new(event->gpu, &event->priv, err);

	if (r < 0)
		return r;
	CALL(SHIM_OTHER, "event_new");
	ARGS("event=%u", SHIM_ID(event));
	r = AROUND(event->gpu, cvb_gpu_event_new(shim_of(event->gpu)->inner, &inner, err));
	return handle_keep(&event->priv, inner, r);
}

void shim_event_free(struct cvb_gpu_event *event)
{
	struct cvb_err *err = NULL;

	CALL(SHIM_OTHER, "event_free");
	ARGS("event=%u", SHIM_ID(event));
	cvb_ignore(AROUND(event->gpu, (cvb_gpu_event_free(SHIM_INNER(event)), 0)));
	free(event->priv);
}

int shim_event_record(struct cvb_gpu_event *event, struct cvb_gpu_stream *stream,
		      struct cvb_err *err)
{
	CALL(SHIM_RECORD, "event_record", .stream = stream);
	ARGS("event=%u, stream=%u", SHIM_ID(event), SHIM_ID(stream));
	return AROUND(event->gpu, cvb_gpu_event_record(SHIM_INNER(event), SHIM_INNER(stream), err));
}

int shim_event_wait(struct cvb_gpu_stream *stream, struct cvb_gpu_event *event, struct cvb_err *err)
{
	CALL(SHIM_OTHER, "event_wait", .stream = stream);
	ARGS("stream=%u, event=%u", SHIM_ID(stream), SHIM_ID(event));
	return AROUND(stream->gpu, cvb_gpu_event_wait(SHIM_INNER(stream), SHIM_INNER(event), err));
}

int shim_event_sync(struct cvb_gpu_event *event, struct cvb_err *err)
{
	CALL(SHIM_OTHER, "event_sync");
	ARGS("event=%u", SHIM_ID(event));
	return AROUND(event->gpu, cvb_gpu_event_sync(SHIM_INNER(event), err));
}

int shim_event_elapsed_ns(const struct cvb_gpu_event *from, const struct cvb_gpu_event *to,
			  int64_t *ret_ns, struct cvb_err *err)
{
	CALL(SHIM_OTHER, "event_elapsed_ns");
	ARGS("from=%u, to=%u", SHIM_ID(from), SHIM_ID(to));
	return AROUND(from->gpu,
		      cvb_gpu_event_elapsed_ns(SHIM_INNER(from), SHIM_INNER(to), ret_ns, err));
}
