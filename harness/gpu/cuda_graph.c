/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Graphs of an NVIDIA GPU: the recorded operations are submitted once to a stream of the graph's
 * own, which the driver captures.
 */
#include "core/util.h"
#include "gpu/cuda.h"

#include <errno.h>

struct cuda_graph {
	struct cuda_stream stream; /* with the room that its products use */
	CUgraph graph;
	CUgraphExec exec;
};

static int submit(struct cuda_stream *s, const struct cvb_gpu_op *op, struct cvb_err *err)
{
	switch (op->kind) {
	case CVB_GPU_OP_LAUNCH:
		return cuda_stream_launch(s, &op->launch, err);
	case CVB_GPU_OP_GEMM:
		return cuda_stream_gemm(s, &op->gemm, err);
	case CVB_GPU_OP_MEMSET:
		return cuda_stream_set(s, cuda_ptr(op->set.dst, op->set.offset_bytes),
				       op->set.value, op->set.bytes, err);
	case CVB_GPU_OP_COPY:
		return cuda_stream_copy(s, &op->copy, err);
	}
	return cvb_err_set(err, -EINVAL, "graph: unknown operation");
}

/* Nothing may be allocated while a stream is captured. */
static int prepare(struct cuda_stream *s, const struct cvb_gpu_graph *graph, struct cvb_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < graph->n; i++)
		if (graph->ops[i].kind == CVB_GPU_OP_GEMM)
			r = cuda_gemm_prepare(s, &graph->ops[i].gemm, err);
	return r < 0 ? r : CU(err, stream_sync, s->stream);
}

static int capture(struct cuda_graph *g, const struct cvb_gpu_graph *graph, struct cvb_err *err)
{
	int r = CU(err, capture_begin, g->stream.stream, CU_STREAM_CAPTURE_MODE_RELAXED);
	int ended;

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < graph->n; i++)
		r = submit(&g->stream, &graph->ops[i], err);
	/* also after a failure: a stream in capture takes no other work */
	ended = CU(r < 0 ? NULL : err, capture_end, g->stream.stream, &g->graph);
	return r < 0 ? r : ended;
}

static void graph_done(struct cuda_graph *g)
{
	if (g->exec)
		CU_DROP(graph_exec_destroy, g->exec);
	if (g->graph)
		CU_DROP(graph_destroy, g->graph);
	cuda_stream_done(&g->stream);
	free(g);
}

int cuda_graph_new(struct cvb_gpu_graph *graph, struct cvb_err *err)
{
	struct cuda_graph *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (cuda_is_proc(graph->context)) {
		free(g);
		return cuda_proc_cannot("graphs", err);
	}
	r = cuda_stream_init(&g->stream, graph->gpu, graph->context->priv, err);
	if (r < 0) {
		free(g);
		return r;
	}
	r = prepare(&g->stream, graph, err);
	if (r == 0)
		r = capture(g, graph, err);
	if (r == 0)
		r = CU(err, graph_instantiate, &g->exec, g->graph, 0);
	if (r < 0)
		graph_done(g);
	else
		graph->priv = g;
	return r;
}

void cuda_graph_free(struct cvb_gpu_graph *graph)
{
	/* its launches may be in flight on any stream of the context */
	if (cuda_use(graph->context->priv, /* err= */ NULL) == 0)
		CU_DROP(ctx_sync);
	graph_done(graph->priv);
}

int cuda_graph_launch(struct cvb_gpu_graph *graph, struct cvb_gpu_stream *stream,
		      struct cvb_err *err)
{
	const struct cuda_graph *g = graph->priv;
	const struct cuda_stream *s = stream->priv;
	int r = cuda_use(s->context, err);

	return r < 0 ? r : CU(err, graph_launch, g->exec, s->stream);
}
