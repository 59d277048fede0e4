/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a stream runs and a graph holds: one operation, and the buffers that it keeps in use.
 */
#include "core/util.h"
#include "gpu/emu.h"

#include <errno.h>
#include <string.h>

#define OP_BUFS 3

/* The buffers of an operation; unused places are NULL. */
static void op_bufs(const struct cvb_gpu_op *op, struct cvb_gpu_buf *ret[OP_BUFS])
{
	memset(ret, 0, OP_BUFS * sizeof(*ret));
	switch (op->kind) {
	case CVB_GPU_OP_LAUNCH:
		ret[0] = op->launch.a;
		ret[1] = op->launch.b;
		ret[2] = op->launch.c;
		break;
	case CVB_GPU_OP_GEMM:
		ret[0] = op->gemm.a;
		ret[1] = op->gemm.b;
		ret[2] = op->gemm.c;
		break;
	case CVB_GPU_OP_MEMSET:
		ret[0] = op->set.dst;
		break;
	case CVB_GPU_OP_COPY:
		ret[0] = op->copy.dst;
		ret[1] = op->copy.src;
		break;
	}
}

void emu_op_hold(const struct cvb_gpu_op *op)
{
	struct cvb_gpu_buf *buf[OP_BUFS];

	op_bufs(op, buf);
	for (size_t i = 0; i < OP_BUFS; i++)
		if (buf[i])
			emu_buf_hold(buf[i]);
}

void emu_op_drop(const struct cvb_gpu_op *op)
{
	struct cvb_gpu_buf *buf[OP_BUFS];

	op_bufs(op, buf);
	for (size_t i = 0; i < OP_BUFS; i++)
		if (buf[i])
			emu_buf_drop(buf[i]);
}

/* ---- running ---- */

/* Host memory is where the copy engine finds it; managed memory comes to the device first. */
static uint8_t *copy_end(struct cvb_gpu_buf *buf, size_t offset, size_t bytes, int *r,
			 struct cvb_err *err)
{
	if (*r == 0)
		*r = emu_to_device(buf, offset, bytes, err);
	return emu_buf_ptr(buf, offset);
}

static int run_copy(const struct cvb_gpu_copy *c, struct cvb_err *err)
{
	struct emu_context *context = c->dst->context->priv;
	/* one engine for each direction; a copy within the device needs none of them */
	struct emu_engine *e = c->dir == CVB_GPU_D2D ? NULL : &context->engine[c->dir];
	int r = 0;
	uint8_t *dst = copy_end(c->dst, c->dst_offset_bytes, c->bytes, &r, err);
	uint8_t *src = copy_end(c->src, c->src_offset_bytes, c->bytes, &r, err);

	if (r < 0)
		return r;
	if (e)
		pthread_mutex_lock(&e->busy);
	memcpy(dst, src, c->bytes);
	if (e)
		pthread_mutex_unlock(&e->busy);
	return 0;
}

static int run_memset(const struct cvb_gpu_op *op, struct cvb_err *err)
{
	int r = emu_to_device(op->set.dst, op->set.offset_bytes, op->set.bytes, err);

	if (r == 0)
		memset(emu_buf_ptr(op->set.dst, op->set.offset_bytes), op->set.value,
		       op->set.bytes);
	return r;
}

static int run_launch(const struct cvb_gpu_launch *l, struct cvb_err *err)
{
	bool b_is_word = l->kernel == CVB_GPU_KERNEL_VERIFY || l->kernel == CVB_GPU_KERNEL_READ;
	int r = emu_to_device(l->a, 0, l->bytes, err);

	if (r == 0)
		r = emu_to_device(l->b, 0, b_is_word ? sizeof(uint64_t) : l->bytes, err);
	if (r == 0)
		r = emu_to_device(l->c, 0, l->bytes, err);
	if (r == 0)
		emu_kernel_run(l);
	return r;
}

static int run_gemm(const struct cvb_gpu_gemm *g, struct cvb_err *err)
{
	struct emu_device *d = emu_device_of(g->c->gpu);

	pthread_mutex_lock(&d->compute);
	int r = emu_blas_gemm(d, g, err);

	pthread_mutex_unlock(&d->compute);
	return r;
}

int emu_op_run(const struct cvb_gpu_op *op, struct cvb_err *err)
{
	switch (op->kind) {
	case CVB_GPU_OP_LAUNCH:
		return run_launch(&op->launch, err);
	case CVB_GPU_OP_GEMM:
		return run_gemm(&op->gemm, err);
	case CVB_GPU_OP_MEMSET:
		return run_memset(op, err);
	case CVB_GPU_OP_COPY:
		return run_copy(&op->copy, err);
	}
	return 0;
}

/* ---- graphs ---- */

struct emu_graph {
	struct emu_signal signal;
	atomic_uint launches; /* in flight */
	size_t n;
	struct cvb_gpu_buf *buf[]; /* each once: a launch holds these and not every operation's */
};

static int by_address(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t) * (struct cvb_gpu_buf *const *)a;
	uintptr_t y = (uintptr_t) * (struct cvb_gpu_buf *const *)b;

	return (x > y) - (x < y);
}

int emu_graph_new(struct cvb_gpu_graph *graph, struct cvb_err *err)
{
	struct emu_graph *g =
		calloc(1, sizeof(*g) + OP_BUFS * graph->n * sizeof(struct cvb_gpu_buf *));
	size_t n = 0;
	int r = 0;

	if (!g)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < graph->n && r == 0; i++)
		if (graph->ops[i].kind == CVB_GPU_OP_GEMM)
			r = emu_blas_check(emu_device_of(graph->gpu), &graph->ops[i].gemm, err);
	if (r < 0) {
		free(g);
		return r;
	}
	for (size_t i = 0; i < graph->n; i++) {
		struct cvb_gpu_buf *buf[OP_BUFS];

		op_bufs(&graph->ops[i], buf);
		for (size_t k = 0; k < OP_BUFS; k++)
			if (buf[k])
				g->buf[n++] = buf[k];
	}
	if (n)
		qsort(g->buf, n, sizeof(struct cvb_gpu_buf *), by_address);
	for (size_t i = 0; i < n; i++)
		if (!i || g->buf[i] != g->buf[i - 1])
			g->buf[g->n++] = g->buf[i];
	emu_signal_init(&g->signal);
	graph->priv = g;
	return 0;
}

void emu_graph_hold(struct cvb_gpu_graph *graph)
{
	struct emu_graph *g = graph->priv;

	atomic_fetch_add(&g->launches, 1);
	for (size_t i = 0; i < g->n; i++)
		emu_buf_hold(g->buf[i]);
}

void emu_graph_drop(struct cvb_gpu_graph *graph)
{
	struct emu_graph *g = graph->priv;

	for (size_t i = 0; i < g->n; i++)
		emu_buf_drop(g->buf[i]);
	/* under the lock: whoever waits frees the graph as soon as it sees the last launch gone */
	pthread_mutex_lock(&g->signal.lock);
	atomic_fetch_sub(&g->launches, 1);
	pthread_cond_broadcast(&g->signal.cond);
	pthread_mutex_unlock(&g->signal.lock);
}

int emu_graph_run(const struct cvb_gpu_graph *graph, struct cvb_err *err)
{
	int r = 0;

	for (size_t i = 0; i < graph->n && r == 0; i++)
		r = emu_op_run(&graph->ops[i], err);
	return r;
}

void emu_graph_free(struct cvb_gpu_graph *graph)
{
	struct emu_graph *g = graph->priv;

	pthread_mutex_lock(&g->signal.lock);
	while (atomic_load(&g->launches))
		pthread_cond_wait(&g->signal.cond, &g->signal.lock);
	pthread_mutex_unlock(&g->signal.lock);
	emu_signal_done(&g->signal);
	free(g);
}
