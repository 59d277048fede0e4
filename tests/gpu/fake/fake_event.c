/* SPDX-License-Identifier: Apache-2.0 */
/* Events of the driver; see fake.h. */
#include "fake_part.h"

#include <stdlib.h>

/* Which the header makes another name's alias. */
#undef cuEventElapsedTime
CUresult cuEventElapsedTime(float *ret_ms, CUevent from, CUevent to);

#define CALL(name) FAKE_CALL(name, CUresult)

struct event {
	int refs;
	struct fake_ctx *ctx;
	long issued, done;
	uint64_t time_ns;
};

struct mark {
	struct event *event;
	long record;
};

static void event_drop(struct event *e) /* with the lock held */
{
	if (--e->refs == 0)
		free(e);
}

static void record_run(void *arg)
{
	const struct mark *m = arg;

	pthread_mutex_lock(&fake_lock);
	m->event->done = m->record;
	m->event->time_ns = fake_now_ns();
	pthread_cond_broadcast(&fake_changed);
	event_drop(m->event);
	pthread_mutex_unlock(&fake_lock);
}

static void wait_run(void *arg)
{
	const struct mark *m = arg;

	pthread_mutex_lock(&fake_lock);
	while (m->event->done < m->record)
		pthread_cond_wait(&fake_changed, &fake_lock);
	event_drop(m->event);
	pthread_mutex_unlock(&fake_lock);
}

FAKE_API CUresult cuEventCreate(CUevent *ret, unsigned flags)
{
	(void)flags;
	CALL("cuEventCreate");
	struct event *e = calloc(1, sizeof(*e));

	fake_count(1);
	e->refs = 1;
	e->ctx = fake_current;
	*ret = (CUevent)e;
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuEventDestroy_v2(CUevent event)
{
	pthread_mutex_lock(&fake_lock);
	event_drop((struct event *)event);
	pthread_mutex_unlock(&fake_lock);
	fake_count(-1);
	CALL("cuEventDestroy_v2");
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuEventRecord(CUevent event, CUstream stream)
{
	struct event *e = (struct event *)event;

	CALL("cuEventRecord");
	if (e->ctx != ((struct fake_stream *)stream)->ctx)
		return CUDA_ERROR_INVALID_HANDLE;
	pthread_mutex_lock(&fake_lock);
	const struct mark m = {e, ++e->issued};

	e->refs++;
	pthread_mutex_unlock(&fake_lock);
	return fake_push(stream, record_run, &m, sizeof(m));
}

FAKE_API CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags)
{
	struct event *e = (struct event *)event;

	(void)flags;
	CALL("cuStreamWaitEvent");
	pthread_mutex_lock(&fake_lock);
	const struct mark m = {e, e->issued};

	e->refs++;
	pthread_mutex_unlock(&fake_lock);
	return fake_push(stream, wait_run, &m, sizeof(m));
}

FAKE_API CUresult cuEventQuery(CUevent event)
{
	struct event *e = (struct event *)event;

	CALL("cuEventQuery");
	pthread_mutex_lock(&fake_lock);
	bool done = e->done == e->issued;

	pthread_mutex_unlock(&fake_lock);
	return done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

FAKE_API CUresult cuEventSynchronize(CUevent event)
{
	struct event *e = (struct event *)event;

	CALL("cuEventSynchronize");
	pthread_mutex_lock(&fake_lock);
	while (e->done < e->issued)
		pthread_cond_wait(&fake_changed, &fake_lock);
	pthread_mutex_unlock(&fake_lock);
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuEventElapsedTime(float *ret_ms, CUevent from, CUevent to)
{
	const struct event *a = (struct event *)from, *b = (struct event *)to;

	CALL("cuEventElapsedTime");
	*ret_ms = (float)((double)(int64_t)(b->time_ns - a->time_ns) / 1e6);
	return CUDA_SUCCESS;
}
