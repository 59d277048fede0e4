/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events: a count of records issued and a count of records done, and the time of the last.
 *
 * Records of one event run in the order of their numbers: they are on one stream, or the earlier
 * one was done before the later one was issued (-EBUSY otherwise).  A task holds a reference, so
 * that the event may be freed while it is queued.
 */
#include "core/util.h"
#include "gpu/emu.h"

#include <errno.h>

struct emu_event {
	atomic_uint refs;
	struct emu_signal signal;
	pthread_mutex_t lock; /* guards the next two; the stream's worker never takes it */
	uint64_t issued;      /* records */
	const struct cvb_gpu_stream *last; /* where the last one was issued; only compared */
	_Atomic uint64_t done;
	_Atomic uint64_t time_ns; /* of the last one done */
};

static void drop(struct emu_event *e)
{
	if (atomic_fetch_sub(&e->refs, 1) != 1)
		return;
	pthread_mutex_destroy(&e->lock);
	emu_signal_done(&e->signal);
	free(e);
}

int emu_event_new(struct cvb_gpu_event *event, struct cvb_err *err)
{
	struct emu_event *e = calloc(1, sizeof(*e));

	if (!e)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	atomic_init(&e->refs, 1);
	emu_signal_init(&e->signal);
	pthread_mutex_init(&e->lock, /* attr= */ NULL);
	event->priv = e;
	return 0;
}

void emu_event_free(struct cvb_gpu_event *event)
{
	drop(event->priv);
}

/* Number of the last record issued, 0 for none. */
static uint64_t issued(struct emu_event *e)
{
	pthread_mutex_lock(&e->lock);
	uint64_t n = e->issued;

	pthread_mutex_unlock(&e->lock);
	return n;
}

int emu_event_record(struct cvb_gpu_event *event, struct cvb_gpu_stream *stream,
		     struct cvb_err *err)
{
	struct emu_event *e = event->priv;

	pthread_mutex_lock(&e->lock);
	if (e->issued != atomic_load(&e->done) && e->last != stream) {
		pthread_mutex_unlock(&e->lock);
		return cvb_err_set(err, -EBUSY,
				   "event_record: its record on another stream is still pending");
	}
	atomic_fetch_add(&e->refs, 1);
	/* under the lock, so that the queue has the records in the order of their numbers */
	int r = emu_stream_push_event(stream, e, /* is_record= */ true, e->issued + 1, err);

	if (r == 0) {
		e->issued++;
		e->last = stream;
	}
	pthread_mutex_unlock(&e->lock);
	if (r < 0)
		drop(e);
	return r;
}

void emu_event_run_record(struct emu_event *e, uint64_t record)
{
	atomic_store(&e->time_ns, cvb_now_ns());
	atomic_store(&e->done, record);
	emu_wake(&e->signal);
	drop(e);
}

struct until {
	struct emu_event *event;
	uint64_t record;
};

static bool is_done(void *arg)
{
	struct until *u = arg;

	return atomic_load(&u->event->done) >= u->record;
}

int emu_event_wait(struct cvb_gpu_stream *stream, struct cvb_gpu_event *event, struct cvb_err *err)
{
	struct emu_event *e = event->priv;
	uint64_t record = issued(e);

	if (!record || atomic_load(&e->done) >= record)
		return 0;
	atomic_fetch_add(&e->refs, 1);
	int r = emu_stream_push_event(stream, e, /* is_record= */ false, record, err);

	if (r < 0)
		drop(e);
	return r;
}

void emu_event_run_wait(struct emu_event *e, uint64_t record)
{
	struct until u = {e, record};

	emu_wait(&e->signal, is_done, &u);
	drop(e);
}

int emu_event_sync(struct cvb_gpu_event *event, struct cvb_err *err)
{
	struct until u = {event->priv, issued(event->priv)};

	if (!u.record)
		return cvb_err_set(err, -EINVAL, "event_sync: the event was never recorded");
	emu_wait(&u.event->signal, is_done, &u);
	return 0;
}

int emu_event_elapsed_ns(const struct cvb_gpu_event *from, const struct cvb_gpu_event *to,
			 int64_t *ret_ns, struct cvb_err *err)
{
	const struct cvb_gpu_event *both[] = {from, to};
	uint64_t time_ns[2];

	for (size_t i = 0; i < CVB_ARRAY_LEN(both); i++) {
		struct emu_event *e = both[i]->priv;
		uint64_t n = issued(e);

		if (!n)
			return cvb_err_set(err, -EINVAL,
					   "event_elapsed_ns: the %s event was never recorded",
					   i ? "second" : "first");
		if (atomic_load(&e->done) < n)
			return cvb_err_set(err, -EAGAIN,
					   "event_elapsed_ns: the %s event is still pending",
					   i ? "second" : "first");
		time_ns[i] = atomic_load(&e->time_ns);
	}
	*ret_ns = (int64_t)(time_ns[1] - time_ns[0]);
	return 0;
}
