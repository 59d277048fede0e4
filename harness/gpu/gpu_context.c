/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts, host threads and peer devices.
 */
#include "core/util.h"
#include "gpu/gpu_check.h"

#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#define MAX_LANES 256

/* ---- contexts ---- */

int cvb_gpu_context_new(struct cvb_gpu *gpu, enum cvb_gpu_context_kind kind,
			struct cvb_gpu_context **ret, struct cvb_err *err)
{
	uint32_t wanted =
		kind == CVB_GPU_CONTEXT_PROCESS ? CVB_GPU_CAP_PROCESSES : CVB_GPU_CAP_CONTEXTS;
	struct cvb_gpu_context *c;
	unsigned n = 1; /* the primary one */
	int r;

	if (!gpu)
		return cvb_gpu_no_handle("context_new", "device", err);
	if (!(gpu->caps.flags & wanted) || !gpu->backend->context_new)
		return cvb_err_set(err, -EOPNOTSUPP, "GPU %s has no %s", gpu->spec,
				   kind == CVB_GPU_CONTEXT_PROCESS ? "contexts of other processes"
								   : "more than one context");
	struct cvb_gpu_context *mine = calloc(1, sizeof(*mine));

	if (!mine)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	mine->gpu = gpu;
	mine->kind = kind;
	/* counted and in the list at once, so that two callers do not both take the last one */
	pthread_mutex_lock(&gpu->lock);
	LIST_FOREACH (c, &gpu->contexts, link)
		n++;
	bool full = gpu->caps.context_limit && n >= gpu->caps.context_limit;

	if (!full)
		LIST_INSERT_HEAD(&gpu->contexts, mine, link);
	pthread_mutex_unlock(&gpu->lock);
	if (full) {
		free(mine);
		return cvb_err_set(err, -ENOSPC, "GPU %s takes %u contexts at a time", gpu->spec,
				   gpu->caps.context_limit);
	}
	r = gpu->backend->context_new(mine, err);
	if (r < 0) {
		pthread_mutex_lock(&gpu->lock);
		LIST_REMOVE(mine, link);
		pthread_mutex_unlock(&gpu->lock);
		free(mine);
		return cvb_err_wrap(err, r, "making a context");
	}
	*ret = mine;
	return 0;
}

/* The first element of a list that belongs to the context.  Others may change the list meanwhile,
 * but nobody else frees what is found: it goes with its context. */
#define FIRST_OF(ret, list, ctx)                                                                   \
	do {                                                                                       \
		pthread_mutex_lock(&gpu->lock);                                                    \
		LIST_FOREACH (ret, list, link)                                                     \
			if (!(ctx) || (ret)->context == (ctx))                                     \
				break;                                                             \
		pthread_mutex_unlock(&gpu->lock);                                                  \
	} while (0)

void cvb_gpu_drop_all(struct cvb_gpu *gpu, const struct cvb_gpu_context *context)
{
	struct cvb_gpu_graph *g;
	struct cvb_gpu_stream *s;
	struct cvb_gpu_buf *b;

	FIRST_OF(g, &gpu->graphs, context);
	while (g) {
		cvb_gpu_graph_free(g);
		FIRST_OF(g, &gpu->graphs, context);
	}
	/* events before streams: a stream still drains work that holds its own reference to them */
	while (!context && !LIST_EMPTY(&gpu->events))
		cvb_gpu_event_free(LIST_FIRST(&gpu->events));
	FIRST_OF(s, &gpu->streams, context);
	while (s) {
		cvb_gpu_stream_free(s);
		FIRST_OF(s, &gpu->streams, context);
	}
	FIRST_OF(b, &gpu->bufs, context);
	while (b) {
		cvb_gpu_free(b);
		FIRST_OF(b, &gpu->bufs, context);
	}
}

struct cvb_gpu_context *cvb_gpu_context_free(struct cvb_gpu_context *context)
{
	if (!context)
		return NULL;
	struct cvb_gpu *gpu = context->gpu;

	CVB_BUG_ON(context->primary);
	cvb_gpu_drop_all(gpu, context);
	pthread_mutex_lock(&gpu->lock);
	LIST_REMOVE(context, link);
	pthread_mutex_unlock(&gpu->lock);
	if (gpu->backend->context_free)
		gpu->backend->context_free(context);
	free(context);
	return NULL;
}

/* ---- host threads ---- */

struct lane {
	pthread_t thread;
	cvb_gpu_lane_fn *fn;
	void *arg;
	unsigned number;
	int r;
	struct cvb_err err;
};

static void *lane_main(void *arg)
{
	struct lane *l = arg;

	l->r = l->fn(l->arg, l->number, &l->err);
	return NULL;
}

/*
 * A new thread has its creator's CPUs, and a worker of the runner is pinned to one: lanes may run
 * where the program may.
 */
static int start_thread(struct lane *lane)
{
	pthread_attr_t attr;
	cpu_set_t cpus;
	int code = pthread_attr_init(&attr);

	if (code)
		return -code;
	if (sched_getaffinity(getpid(), sizeof(cpus), &cpus) == 0)
		code = pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
	if (!code)
		code = pthread_create(&lane->thread, &attr, lane_main, lane);
	pthread_attr_destroy(&attr);
	return -code;
}

static int run_threads(unsigned lanes, cvb_gpu_lane_fn *fn, void *arg, struct cvb_err *err)
{
	_cleanup_free_ struct lane *lane = calloc(lanes, sizeof(*lane));
	unsigned started = 0;
	int r = 0;

	if (!lane)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (; started < lanes && r == 0; started++) {
		lane[started] = (struct lane){.fn = fn, .arg = arg, .number = started};
		r = start_thread(&lane[started]);
		if (r < 0) {
			cvb_err_set(err, r, "cannot start host thread %u: %s", started,
				    strerror(-r));
			break;
		}
	}
	for (unsigned i = 0; i < started; i++)
		pthread_join(lane[i].thread, NULL);
	for (unsigned i = 0; i < started && r == 0; i++) {
		r = lane[i].r;
		if (r < 0 && err)
			*err = lane[i].err;
	}
	return r;
}

int cvb_gpu_parallel(struct cvb_gpu *gpu, unsigned lanes, cvb_gpu_lane_fn *fn, void *arg,
		     struct cvb_err *err)
{
	if (!gpu || !fn)
		return cvb_gpu_no_handle("parallel", gpu ? "function" : "device", err);
	if (!lanes || lanes > MAX_LANES)
		return cvb_err_set(err, -EINVAL, "parallel: %u lanes; 1 to %d are right", lanes,
				   MAX_LANES);
	return gpu->backend->parallel ? gpu->backend->parallel(gpu, lanes, fn, arg, err)
				      : run_threads(lanes, fn, arg, err);
}

void cvb_gpu_host_work(struct cvb_gpu *gpu, uint64_t ns)
{
	if (gpu->backend->host_work) {
		gpu->backend->host_work(gpu, ns);
		return;
	}
	for (uint64_t end = cvb_now_ns() + ns; cvb_now_ns() < end;)
		;
}

/* ---- peers ---- */

int cvb_gpu_peer_copy_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst,
			    size_t dst_offset_bytes, struct cvb_gpu_buf *src,
			    size_t src_offset_bytes, size_t bytes, struct cvb_err *err)
{
	if (!stream || !dst || !src)
		return cvb_gpu_no_handle("peer_copy", stream ? "buffer" : "stream", err);
	struct cvb_gpu *gpu = stream->gpu, *peer = gpu->peer_of ? gpu->peer_of : gpu->peer;

	if (!gpu->backend->peer_copy_async)
		return cvb_gpu_no_hook(gpu, "peer_copy_async", err);
	if (!peer || (dst->gpu != gpu) == (src->gpu != gpu) ||
	    (dst->gpu != peer && src->gpu != peer))
		return cvb_err_set(
			err, -EINVAL,
			"peer_copy: one buffer must be the stream's device's and one its "
			"peer's");
	int r = cvb_gpu_check_range(dst->gpu, "peer_copy", dst, dst_offset_bytes, bytes, err);

	if (r == 0)
		r = cvb_gpu_check_range(src->gpu, "peer_copy", src, src_offset_bytes, bytes, err);
	if (r == 0)
		r = cvb_gpu_not_captured(stream, "peer_copy", err);
	if (r == 0 && (dst->kind != CVB_GPU_DEVICE || src->kind != CVB_GPU_DEVICE))
		r = cvb_err_set(err, -EINVAL, "peer_copy: a buffer is not in device memory");
	if (r < 0 || !bytes)
		return r;

	const struct cvb_gpu_copy copy = {.dir = CVB_GPU_D2D,
					  .dst = dst,
					  .src = src,
					  .dst_offset_bytes = dst_offset_bytes,
					  .src_offset_bytes = src_offset_bytes,
					  .bytes = bytes};

	return gpu->backend->peer_copy_async(stream, &copy, err);
}
