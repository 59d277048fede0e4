/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: a worker thread each, fed through a ring of tasks.
 *
 * Submitters hold `submit`, so that the ring has one writer; only the worker moves `tail`.  A
 * staged copy is done by its caller, who holds `submit` from the moment the queue is empty until
 * the copy is done: what others submit meanwhile comes after it, as in any FIFO.
 */
#include "core/util.h"
#include "gpu/emu.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

enum task_kind {
	TASK_COPY,
	TASK_MEMSET,
	TASK_GEMM,
	TASK_RECORD,
	TASK_WAIT,
};

struct task {
	enum task_kind kind;
	union {
		struct cvb_gpu_copy copy;
		struct {
			struct cvb_gpu_buf *dst;
			size_t offset_bytes, bytes;
			int value;
		} set;
		struct cvb_gpu_gemm gemm;
		struct {
			struct emu_event *event;
			uint64_t record;
		} event;
	};
};

struct emu_stream {
	struct emu_device *device;
	pthread_t thread;
	struct emu_signal signal;
	pthread_mutex_t submit;
	_Alignas(64) atomic_size_t head; /* tasks submitted */
	_Alignas(64) atomic_size_t tail; /* tasks done */
	atomic_bool quit;
	struct task task[EMU_TASKS];
};

/* ---- the worker ---- */

static void run_copy(struct emu_device *d, const struct cvb_gpu_copy *c)
{
	/* one engine for each direction; a copy within the device needs none of them */
	struct emu_engine *e = c->dir == CVB_GPU_D2D ? NULL : &d->engine[c->dir];

	if (e)
		pthread_mutex_lock(&e->busy);
	memcpy(emu_buf_ptr(c->dst, c->dst_offset_bytes), emu_buf_ptr(c->src, c->src_offset_bytes),
	       c->bytes);
	if (e)
		pthread_mutex_unlock(&e->busy);
	emu_buf_drop(d, c->dst);
	emu_buf_drop(d, c->src);
}

static void run_gemm(struct emu_device *d, const struct cvb_gpu_gemm *g)
{
	pthread_mutex_lock(&d->compute);
	emu_blas_gemm(g);
	pthread_mutex_unlock(&d->compute);
	emu_buf_drop(d, g->a);
	emu_buf_drop(d, g->b);
	emu_buf_drop(d, g->c);
}

static void run_task(struct emu_device *d, const struct task *t)
{
	switch (t->kind) {
	case TASK_COPY:
		run_copy(d, &t->copy);
		break;
	case TASK_MEMSET:
		memset(emu_buf_ptr(t->set.dst, t->set.offset_bytes), t->set.value, t->set.bytes);
		emu_buf_drop(d, t->set.dst);
		break;
	case TASK_GEMM:
		run_gemm(d, &t->gemm);
		break;
	case TASK_RECORD:
		emu_event_run_record(t->event.event, t->event.record);
		break;
	case TASK_WAIT:
		emu_event_run_wait(t->event.event, t->event.record);
		break;
	}
}

static bool has_task(void *arg)
{
	struct emu_stream *s = arg;

	return atomic_load(&s->tail) != atomic_load(&s->head) || atomic_load(&s->quit);
}

static void *stream_main(void *arg)
{
	struct emu_stream *s = arg;

	for (;;) {
		emu_wait(&s->signal, has_task, s);
		size_t tail = atomic_load(&s->tail);

		if (tail == atomic_load(&s->head))
			return NULL; /* nothing left: it was `quit` */
		run_task(s->device, &s->task[tail % EMU_TASKS]);
		atomic_store(&s->tail, tail + 1);
		emu_wake(&s->signal);
	}
}

/* ---- submitting ---- */

struct until {
	struct emu_stream *stream;
	size_t tail;
};

static bool is_done(void *arg)
{
	struct until *u = arg;

	return atomic_load(&u->stream->tail) >= u->tail;
}

static bool has_room(void *arg)
{
	struct emu_stream *s = arg;

	return atomic_load(&s->head) - atomic_load(&s->tail) < EMU_TASKS;
}

static void push(struct cvb_gpu_stream *stream, const struct task *t)
{
	struct emu_stream *s = stream->priv;

	pthread_mutex_lock(&s->submit);
	emu_wait(&s->signal, has_room, s);
	size_t head = atomic_load(&s->head);

	s->task[head % EMU_TASKS] = *t;
	atomic_store(&s->head, head + 1);
	emu_wake(&s->signal);
	pthread_mutex_unlock(&s->submit);
}

void emu_stream_push_event(struct cvb_gpu_stream *stream, struct emu_event *e, bool is_record,
			   uint64_t record)
{
	struct task t = {
		.kind = is_record ? TASK_RECORD : TASK_WAIT,
		.event = {.event = e, .record = record},
	};

	push(stream, &t);
}

static int copy_staged(struct emu_stream *s, const struct cvb_gpu_copy *c, struct cvb_err *err)
{
	uint8_t *dst = emu_buf_ptr(c->dst, c->dst_offset_bytes);
	uint8_t *src = emu_buf_ptr(c->src, c->src_offset_bytes);
	bool in = c->dir == CVB_GPU_H2D;

	pthread_mutex_lock(&s->submit);
	struct until drained = {s, atomic_load(&s->head)};

	emu_wait(&s->signal, is_done, &drained);
	int r = emu_engine_staged(&s->device->engine[c->dir], in ? dst : src, in ? src : dst,
				  c->bytes, err);

	pthread_mutex_unlock(&s->submit);
	return r;
}

int emu_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
		   struct cvb_err *err)
{
	struct emu_stream *s = stream->priv;
	struct task t = {.kind = TASK_COPY, .copy = *copy};
	bool pageable = copy->dst->kind == CVB_GPU_HOST_PAGEABLE ||
			copy->src->kind == CVB_GPU_HOST_PAGEABLE;

	if (copy->dir != CVB_GPU_D2D && (pageable || s->device->cc))
		return copy_staged(s, copy, err);
	emu_buf_hold(copy->dst);
	emu_buf_hold(copy->src);
	push(stream, &t);
	return 0;
}

int emu_memset_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst, size_t offset_bytes,
		     int value, size_t bytes, struct cvb_err *err)
{
	struct task t = {
		.kind = TASK_MEMSET,
		.set = {.dst = dst, .offset_bytes = offset_bytes, .bytes = bytes, .value = value},
	};

	(void)err;
	emu_buf_hold(dst);
	push(stream, &t);
	return 0;
}

int emu_gemm_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_gemm *gemm,
		   struct cvb_err *err)
{
	struct emu_stream *s = stream->priv;
	struct task t = {.kind = TASK_GEMM, .gemm = *gemm};

	if (gemm->m > INT_MAX || gemm->n > INT_MAX || gemm->k > INT_MAX)
		return cvb_err_set(err, -EINVAL, "gemm: a dimension is larger than %d", INT_MAX);
	int r = emu_blas_load(&s->device->cpus, err);

	if (r < 0)
		return r;
	emu_buf_hold(gemm->a);
	emu_buf_hold(gemm->b);
	emu_buf_hold(gemm->c);
	push(stream, &t);
	return 0;
}

int emu_sync(struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	struct emu_stream *s = stream->priv;
	struct until u = {s, atomic_load(&s->head)};

	(void)err; /* no task of the emulator fails; staged copies report to their caller */
	emu_wait(&s->signal, is_done, &u);
	return 0;
}

/* ---- life ---- */

int emu_stream_new(struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	struct emu_stream *s = aligned_alloc(64, sizeof(*s));

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	memset(s, 0, sizeof(*s));
	s->device = emu_device_of(stream->gpu);
	emu_signal_init(&s->signal);
	pthread_mutex_init(&s->submit, /* attr= */ NULL);
	int r = emu_thread_start(&s->thread, &s->device->cpus, stream_main, s, err);

	if (r < 0) {
		pthread_mutex_destroy(&s->submit);
		emu_signal_done(&s->signal);
		free(s);
		return r;
	}
	stream->priv = s;
	return 0;
}

void emu_stream_free(struct cvb_gpu_stream *stream)
{
	struct emu_stream *s = stream->priv;

	atomic_store(&s->quit, true);
	emu_wake(&s->signal);
	pthread_join(s->thread, NULL);
	pthread_mutex_destroy(&s->submit);
	emu_signal_done(&s->signal);
	free(s);
}
