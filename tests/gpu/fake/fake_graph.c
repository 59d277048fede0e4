/* SPDX-License-Identifier: Apache-2.0 */
/* Graphs of the driver; see fake.h. */
#include "fake_part.h"

#include <stdlib.h>

#define CALL(name) FAKE_CALL(name, CUresult)

FAKE_API CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
	(void)mode;
	CALL("cuStreamBeginCapture_v2");
	struct fake_graph *g = fake_make(sizeof(*g));

	g->last = &g->first;
	((struct fake_stream *)stream)->capture = g;
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuStreamEndCapture(CUstream stream, CUgraph *ret)
{
	struct fake_stream *s = (struct fake_stream *)stream;

	*ret = (CUgraph)s->capture;
	s->capture = NULL;
	CALL("cuStreamEndCapture");
	return CUDA_SUCCESS;
}

#ifndef FAKE_OLD
FAKE_API CUresult cuGraphInstantiateWithFlags(CUgraphExec *ret, CUgraph graph,
					      unsigned long long flags)
{
	(void)flags;
	CALL("cuGraphInstantiateWithFlags");
	struct fake_graph *g = fake_make(sizeof(*g));

	g->last = &g->first;
	for (struct fake_task *t = ((struct fake_graph *)graph)->first; t; t = t->next) {
		*g->last = fake_task_new(t->fn, t->arg, t->bytes);
		g->last = &(*g->last)->next;
	}
	*ret = (CUgraphExec)g;
	return CUDA_SUCCESS;
}
#endif

static CUresult graph_free(struct fake_graph *g)
{
	while (g->first) {
		struct fake_task *t = g->first;

		g->first = t->next;
		free(t);
	}
	fake_unmake(g);
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuGraphDestroy(CUgraph graph)
{
	return graph_free((struct fake_graph *)graph);
}

FAKE_API CUresult cuGraphExecDestroy(CUgraphExec exec)
{
	return graph_free((struct fake_graph *)exec);
}

FAKE_API CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
	CUresult r = CUDA_SUCCESS;

	CALL("cuGraphLaunch");
	for (struct fake_task *t = ((struct fake_graph *)exec)->first; t && r == CUDA_SUCCESS;
	     t = t->next)
		r = fake_push(stream, t->fn, t->arg, t->bytes);
	return r;
}
