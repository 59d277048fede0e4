/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events of an NVIDIA GPU.  The driver's events belong to a context, ours to the device: the
 * driver's side is made when an event is first recorded in a context, and anew in another one.
 */
#include "core/util.h"
#include "gpu/cuda.h"

#include <errno.h>
#include <math.h>

struct cuda_event {
	pthread_mutex_t lock;
	CUevent event;			   /* NULL: never recorded */
	const struct cuda_context *in;	   /* where it lies */
	const struct cvb_gpu_stream *last; /* where it was last recorded; only compared */
};

int cuda_event_new(struct cvb_gpu_event *event, struct cvb_err *err)
{
	struct cuda_event *e = calloc(1, sizeof(*e));

	if (!e)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&e->lock, /* attr= */ NULL);
	event->priv = e;
	return 0;
}

/* With the lock held.  Work that waits for it goes on: the driver keeps what is pending. */
static void drop(struct cuda_event *e)
{
	if (e->event && cuda_use(e->in, /* err= */ NULL) == 0)
		CU_DROP(event_destroy, e->event);
	e->event = NULL;
	e->in = NULL;
}

void cuda_event_free(struct cvb_gpu_event *event)
{
	struct cuda_event *e = event->priv;

	drop(e);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

void cuda_events_leave(struct cvb_gpu *gpu, const struct cuda_context *c)
{
	struct cvb_gpu_event *event;

	pthread_mutex_lock(&gpu->lock);
	LIST_FOREACH (event, &gpu->events, link) {
		struct cuda_event *e = event->priv;

		pthread_mutex_lock(&e->lock);
		if (e->in == c)
			drop(e);
		pthread_mutex_unlock(&e->lock);
	}
	pthread_mutex_unlock(&gpu->lock);
}

/* 1: its last record is pending; 0: done, or there is none. */
static int is_pending(const struct cuda_event *e, struct cvb_err *err)
{
	CUresult code;

	if (!e->event)
		return 0;
	code = cuda.event_query(e->event);
	return code == CUDA_ERROR_NOT_READY ? 1 : cuda_result(code, "cuEventQuery", err);
}

static int record(struct cuda_event *e, struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	const struct cuda_stream *s = stream->priv;
	int r = e->last == stream ? 0 : is_pending(e, err);

	if (r != 0)
		return r < 0 ? r
			     : cvb_err_set(err, -EBUSY,
					   "event_record: its record on another stream is still "
					   "pending");
	if (e->event && e->in != s->context) {
		drop(e);
		r = cuda_use(s->context, err);
	}
	if (r == 0 && !e->event) {
		r = CU(err, event_create, &e->event, CU_EVENT_DEFAULT);
		e->in = s->context;
	}
	if (r == 0)
		r = CU(err, event_record, e->event, s->stream);
	if (r == 0)
		e->last = stream;
	return r;
}

int cuda_event_record(struct cvb_gpu_event *event, struct cvb_gpu_stream *stream,
		      struct cvb_err *err)
{
	struct cuda_event *e = event->priv;

	if (cuda_is_proc(stream->context))
		return cuda_proc_cannot("event_record", err);
	int r = cuda_use(((const struct cuda_stream *)stream->priv)->context, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&e->lock);
	r = record(e, stream, err);
	pthread_mutex_unlock(&e->lock);
	return r;
}

int cuda_event_wait(struct cvb_gpu_stream *stream, struct cvb_gpu_event *event, struct cvb_err *err)
{
	if (cuda_is_proc(stream->context))
		return cuda_proc_cannot("event_wait", err);
	const struct cuda_stream *s = stream->priv;
	struct cuda_event *e = event->priv;
	int r = cuda_use(s->context, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&e->lock);
	if (e->event)
		r = CU(err, stream_wait, s->stream, e->event, 0);
	pthread_mutex_unlock(&e->lock);
	return r;
}

int cuda_event_sync(struct cvb_gpu_event *event, struct cvb_err *err)
{
	struct cuda_event *e = event->priv;

	/* not under the lock: it may take long, and others may look at the event meanwhile */
	pthread_mutex_lock(&e->lock);
	CUevent it = e->event;
	int r = it ? cuda_use(e->in, err)
		   : cvb_err_set(err, -EINVAL, "event_sync: the event was never recorded");

	pthread_mutex_unlock(&e->lock);
	return r < 0 ? r : CU(err, event_sync, it);
}

static int elapsed(struct cuda_event *const both[2], int64_t *ret_ns, struct cvb_err *err)
{
	float ms;
	int r = 0;

	for (size_t i = 0; r == 0 && i < 2; i++) {
		if (!both[i]->event)
			return cvb_err_set(err, -EINVAL,
					   "event_elapsed_ns: the %s event was never recorded",
					   i ? "second" : "first");
		r = cuda_use(both[i]->in, err);
		if (r == 0)
			r = is_pending(both[i], err);
		if (r > 0)
			return cvb_err_set(err, -EAGAIN,
					   "event_elapsed_ns: the %s event is still pending",
					   i ? "second" : "first");
	}
	if (r == 0 && both[0]->in != both[1]->in)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "event_elapsed_ns: the driver compares events of one context "
				   "only");
	if (r == 0)
		r = CU(err, event_elapsed, &ms, both[0]->event, both[1]->event);
	if (r == 0)
		*ret_ns = llround((double)ms * 1e6);
	return r;
}

int cuda_event_elapsed_ns(const struct cvb_gpu_event *from, const struct cvb_gpu_event *to,
			  int64_t *ret_ns, struct cvb_err *err)
{
	struct cuda_event *both[] = {from->priv, to->priv};
	/* in the order of their addresses, and once if they are one */
	size_t first = (uintptr_t)both[0] > (uintptr_t)both[1];
	int r;

	pthread_mutex_lock(&both[first]->lock);
	if (both[0] != both[1])
		pthread_mutex_lock(&both[!first]->lock);
	r = elapsed(both, ret_ns, err);
	if (both[0] != both[1])
		pthread_mutex_unlock(&both[!first]->lock);
	pthread_mutex_unlock(&both[first]->lock);
	return r;
}
