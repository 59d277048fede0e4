/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels and graphs.  Capture is done here, once for all backends: a graph is a list of checked
 * operations, of which a backend may make a form of its own.
 */
#include "core/util.h"
#include "gpu/gpu_check.h"

/* ---- launches ---- */

enum {
	USES_A = 1,
	USES_B = 2,
	USES_C = 4,
	B_IS_WORD = 8, /* b is one word, whatever `bytes` is */
};

static const unsigned kernel_uses[CVB_GPU_KERNELS] = {
	[CVB_GPU_KERNEL_FILL] = USES_A,
	[CVB_GPU_KERNEL_VERIFY] = USES_A | USES_B | B_IS_WORD,
	[CVB_GPU_KERNEL_READ] = USES_A | USES_B | B_IS_WORD,
	[CVB_GPU_KERNEL_COPY] = USES_A | USES_B,
	[CVB_GPU_KERNEL_TRIAD] = USES_A | USES_B | USES_C,
	[CVB_GPU_KERNEL_ADD] = USES_A | USES_B,
};

static int check_operand(const struct cvb_gpu_stream *stream, const struct cvb_gpu_buf *buf,
			 size_t bytes, struct cvb_err *err)
{
	int r = cvb_gpu_check_use(stream, "launch", buf, 0, bytes, err);

	if (r == 0 && !cvb_gpu_is_device(buf))
		r = cvb_err_set(err, -EINVAL, "launch: a buffer is %s memory",
				cvb_gpu_mem_text(buf->kind));
	return r;
}

static int check_launch(const struct cvb_gpu_stream *stream, const struct cvb_gpu_launch *l,
			struct cvb_err *err)
{
	unsigned uses;
	int r = 0;

	if ((unsigned)l->kernel >= CVB_GPU_KERNELS)
		return cvb_err_set(err, -EINVAL, "launch: unknown kernel");
	uses = kernel_uses[l->kernel];
	if (uses && (!l->bytes || l->bytes % 8))
		return cvb_err_set(err, -EINVAL, "launch: %zu bytes are no whole number of words",
				   l->bytes);
	if (uses & USES_A)
		r = check_operand(stream, l->a, l->bytes, err);
	if (r == 0 && uses & USES_B)
		r = check_operand(stream, l->b, uses & B_IS_WORD ? 8 : l->bytes, err);
	if (r == 0 && uses & USES_C)
		r = check_operand(stream, l->c, l->bytes, err);
	if (r == 0 && uses & USES_B && l->a == l->b)
		r = cvb_err_set(err, -EINVAL, "launch: a and b are one buffer");
	return r;
}

/* What a kernel does not use was not checked: no backend gets to see it. */
static void drop_unused(struct cvb_gpu_launch *l)
{
	unsigned uses = kernel_uses[l->kernel];

	if (!(uses & USES_A))
		l->a = NULL;
	if (!(uses & USES_B))
		l->b = NULL;
	if (!(uses & USES_C))
		l->c = NULL;
}

int cvb_gpu_launch_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_launch *launch,
			 struct cvb_err *err)
{
	if (!stream || !launch)
		return cvb_gpu_no_handle("launch", stream ? "description" : "stream", err);
	if (!stream->gpu->backend->launch_async)
		return cvb_gpu_no_hook(stream->gpu, "launch_async", err);
	int r = check_launch(stream, launch, err);

	if (r < 0)
		return r;
	struct cvb_gpu_op op = {.kind = CVB_GPU_OP_LAUNCH, .launch = *launch};

	drop_unused(&op.launch);
	r = cvb_gpu_record(stream, &op, err);
	return r != 0 ? cvb_min(r, 0) : stream->gpu->backend->launch_async(stream, &op.launch, err);
}

/* ---- capture ---- */

static void graph_drop(struct cvb_gpu_graph *g)
{
	free(g->ops);
	free(g);
}

int cvb_gpu_not_captured(const struct cvb_gpu_stream *stream, const char *call, struct cvb_err *err)
{
	return stream->capture ? cvb_err_set(err, -EINVAL, "%s: the stream is being captured", call)
			       : 0;
}

int cvb_gpu_record(struct cvb_gpu_stream *stream, const struct cvb_gpu_op *op, struct cvb_err *err)
{
	struct cvb_gpu_graph *g = stream->capture;

	if (!g)
		return 0;
	if (g->n == g->room) {
		size_t room = g->room ? 2 * g->room : 16;
		struct cvb_gpu_op *bigger = reallocarray(g->ops, room, sizeof(*bigger));

		if (!bigger)
			return cvb_err_set(err, -ENOMEM, "out of memory");
		g->ops = bigger;
		g->room = room;
	}
	g->ops[g->n++] = *op;
	return 1;
}

int cvb_gpu_capture_begin(struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	if (!stream)
		return cvb_gpu_no_handle("capture_begin", "stream", err);
	if (!stream->gpu->backend->graph_launch)
		return cvb_gpu_no_hook(stream->gpu, "graph_launch", err);
	int r = cvb_gpu_not_captured(stream, "capture_begin", err);

	if (r < 0)
		return r;
	struct cvb_gpu_graph *g = calloc(1, sizeof(*g));

	if (!g)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	g->gpu = stream->gpu;
	g->context = stream->context;
	stream->capture = g;
	return 0;
}

int cvb_gpu_capture_end(struct cvb_gpu_stream *stream, struct cvb_gpu_graph **ret,
			struct cvb_err *err)
{
	if (!stream)
		return cvb_gpu_no_handle("capture_end", "stream", err);
	struct cvb_gpu_graph *g = CVB_TAKE(stream->capture);
	int r;

	if (!g)
		return cvb_err_set(err, -EINVAL, "capture_end: the stream is not being captured");
	r = g->gpu->backend->graph_new ? g->gpu->backend->graph_new(g, err) : 0;
	if (r < 0) {
		graph_drop(g);
		return cvb_err_wrap(err, r, "making a graph");
	}
	pthread_mutex_lock(&g->gpu->lock);
	LIST_INSERT_HEAD(&g->gpu->graphs, g, link);
	pthread_mutex_unlock(&g->gpu->lock);
	*ret = g;
	return 0;
}

/* ---- graphs ---- */

int cvb_gpu_graph_launch(struct cvb_gpu_graph *graph, struct cvb_gpu_stream *stream,
			 struct cvb_err *err)
{
	if (!graph || !stream)
		return cvb_gpu_no_handle("graph_launch", graph ? "stream" : "graph", err);
	if (graph->context != stream->context)
		return cvb_err_set(err, -EINVAL, "graph_launch: the graph is another context's");
	int r = cvb_gpu_not_captured(stream, "graph_launch", err);

	if (r < 0)
		return r;
	return graph->gpu->backend->graph_launch(graph, stream, err);
}

size_t cvb_gpu_graph_size(const struct cvb_gpu_graph *graph)
{
	return graph->n;
}

struct cvb_gpu_graph *cvb_gpu_graph_free(struct cvb_gpu_graph *graph)
{
	if (!graph)
		return NULL;
	pthread_mutex_lock(&graph->gpu->lock);
	LIST_REMOVE(graph, link);
	pthread_mutex_unlock(&graph->gpu->lock);
	if (graph->gpu->backend->graph_free)
		graph->gpu->backend->graph_free(graph);
	graph_drop(graph);
	return NULL;
}
