/* SPDX-License-Identifier: Apache-2.0 */
/* Streams of the driver, each with a thread; see fake.h. */
#include "fake_part.h"

#include <stdlib.h>
#include <string.h>

#define CALL(name) FAKE_CALL(name, CUresult)

static void *stream_main(void *arg)
{
	struct fake_stream *s = arg;

	pthread_mutex_lock(&fake_lock);
	for (;;) {
		struct fake_task *t = s->first;

		if (!t && s->ended)
			break;
		if (!t) {
			pthread_cond_wait(&fake_changed, &fake_lock);
			continue;
		}
		s->first = t->next;
		if (!s->first)
			s->last = &s->first;
		s->busy = true;
		pthread_mutex_unlock(&fake_lock);
		t->fn(t->arg);
		free(t);
		pthread_mutex_lock(&fake_lock);
		s->busy = false;
		pthread_cond_broadcast(&fake_changed);
	}
	pthread_mutex_unlock(&fake_lock);
	return NULL;
}

struct fake_task *fake_task_new(void (*fn)(void *), const void *arg, size_t bytes)
{
	struct fake_task *t = calloc(1, sizeof(*t) + bytes);

	t->fn = fn;
	t->bytes = bytes;
	if (bytes)
		memcpy(t->arg, arg, bytes);
	return t;
}

CUresult fake_push(CUstream stream, void (*fn)(void *arg), const void *arg, size_t bytes)
{
	struct fake_stream *s = (struct fake_stream *)stream;
	struct fake_task *t = fake_task_new(fn, arg, bytes), ***last;

	if (s->ctx != fake_current) {
		free(t);
		return CUDA_ERROR_INVALID_CONTEXT;
	}
	pthread_mutex_lock(&fake_lock);
	last = s->capture ? &s->capture->last : &s->last;
	**last = t;
	*last = &t->next;
	pthread_cond_broadcast(&fake_changed);
	pthread_mutex_unlock(&fake_lock);
	return CUDA_SUCCESS;
}

void fake_drain(struct fake_stream *s)
{
	pthread_mutex_lock(&fake_lock);
	while (s->first || s->busy)
		pthread_cond_wait(&fake_changed, &fake_lock);
	pthread_mutex_unlock(&fake_lock);
}

FAKE_API CUresult cuStreamCreate(CUstream *ret, unsigned flags)
{
	(void)flags;
	CALL("cuStreamCreate");
	if (!fake_current)
		return CUDA_ERROR_INVALID_CONTEXT;
	struct fake_stream *s = fake_make(sizeof(*s));

	s->ctx = fake_current;
	s->last = &s->first;
	pthread_mutex_lock(&fake_lock);
	s->next = fake_current->streams;
	fake_current->streams = s;
	pthread_mutex_unlock(&fake_lock);
	pthread_create(&s->thread, NULL, stream_main, s);
	*ret = (CUstream)s;
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuStreamDestroy_v2(CUstream stream)
{
	struct fake_stream *s = (struct fake_stream *)stream, **at;

	pthread_mutex_lock(&fake_lock);
	s->ended = true;
	pthread_cond_broadcast(&fake_changed);
	for (at = &s->ctx->streams; *at != s; at = &(*at)->next)
		;
	*at = s->next;
	pthread_mutex_unlock(&fake_lock);
	pthread_join(s->thread, NULL);
	fake_unmake(s);
	CALL("cuStreamDestroy_v2");
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuStreamSynchronize(CUstream stream)
{
	CALL("cuStreamSynchronize");
	fake_drain((struct fake_stream *)stream);
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxSynchronize(void)
{
	struct fake_stream *s;

	CALL("cuCtxSynchronize");
	pthread_mutex_lock(&fake_lock);
	do {
		for (s = fake_current ? fake_current->streams : NULL; s && !s->first && !s->busy;
		     s = s->next)
			;
		if (s)
			pthread_cond_wait(&fake_changed, &fake_lock);
	} while (s);
	pthread_mutex_unlock(&fake_lock);
	return CUDA_SUCCESS;
}
