/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: a worker thread each, fed through a ring of tasks.
 *
 * Submitters hold `submit`, so that the ring has one writer; only the worker moves `tail`.  A
 * staged copy is done by its caller, who holds `submit` from the moment the queue is empty until
 * the copy is done: what others submit meanwhile comes after it, as in any FIFO.
 *
 * With cc=on a task crosses sealed: the submitter seals it, padded to a launch's descriptor, and
 * copies that into shared memory; the worker copies it out, opens it and runs what it found.  The
 * ring's own entry then only remembers which buffers are in use.
 */
#include "core/util.h"
#include "gpu/emu.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>

enum task_kind {
	TASK_OP,
	TASK_GRAPH,
	TASK_PEER,
	TASK_RECORD,
	TASK_WAIT,
};

struct task {
	enum task_kind kind;
	union {
		struct cvb_gpu_op op;
		struct cvb_gpu_graph *graph;
		struct cvb_gpu_copy peer;
		struct {
			struct emu_event *event;
			uint64_t record;
		} event;
	};
};

_Static_assert(sizeof(struct task) <= EMU_DESCRIPTOR_BYTES, "a task fits into a descriptor");

struct emu_stream {
	struct emu_device *device;
	struct emu_context *context;
	pthread_t thread;
	struct emu_signal signal;
	pthread_mutex_t submit;

	/* only with cc=on */
	struct emu_crypt *crypt;	/* of submissions; the worker opens, the others seal */
	struct emu_descriptor *channel; /* EMU_TASKS of them, shared memory */

	pthread_mutex_t error_lock;
	int failed;	    /* first negative errno that no sync has fetched */
	struct cvb_err err; /* its reason */

	_Alignas(64) atomic_size_t head; /* tasks submitted */
	_Alignas(64) atomic_size_t tail; /* tasks done */
	atomic_bool quit;
	struct task task[EMU_TASKS];
};

#define CHANNEL_BYTES (EMU_TASKS * sizeof(struct emu_descriptor))

/* ---- the worker ---- */

static void keep_error(struct emu_stream *s, int code, const struct cvb_err *err)
{
	pthread_mutex_lock(&s->error_lock);
	if (!s->failed) {
		s->failed = code;
		s->err = *err;
	}
	pthread_mutex_unlock(&s->error_lock);
}

static void hold(const struct task *t)
{
	switch (t->kind) {
	case TASK_OP:
		emu_op_hold(&t->op);
		break;
	case TASK_GRAPH:
		emu_graph_hold(t->graph);
		break;
	case TASK_PEER:
		emu_peer_hold(&t->peer);
		break;
	case TASK_RECORD:
	case TASK_WAIT:
		break; /* emu_event.c counts its own references */
	}
}

static void drop(const struct task *t)
{
	switch (t->kind) {
	case TASK_OP:
		emu_op_drop(&t->op);
		break;
	case TASK_GRAPH:
		emu_graph_drop(t->graph);
		break;
	case TASK_PEER:
		emu_peer_drop(&t->peer);
		break;
	case TASK_RECORD:
	case TASK_WAIT:
		break;
	}
}

static int run_task(const struct task *t, struct cvb_err *err)
{
	switch (t->kind) {
	case TASK_OP:
		return emu_op_run(&t->op, err);
	case TASK_GRAPH:
		return emu_graph_run(t->graph, err);
	case TASK_PEER:
		return emu_peer_run(&t->peer, err);
	case TASK_RECORD:
		emu_event_run_record(t->event.event, t->event.record);
		return 0;
	case TASK_WAIT:
		emu_event_run_wait(t->event.event, t->event.record);
		return 0;
	}
	return 0;
}

/* What the device was told to do, from shared memory. */
static int open_task(struct emu_stream *s, size_t number, struct task *ret, struct cvb_err *err)
{
	struct emu_descriptor d = s->channel[number % EMU_TASKS];
	uint8_t plain[EMU_DESCRIPTOR_BYTES];
	int r = emu_open(s->crypt, number, plain, d.tag, d.data, sizeof(plain));

	if (r < 0)
		return cvb_err_set(err, r, "tag check failed in a submission to a stream");
	memcpy(ret, plain, sizeof(*ret));
	return 0;
}

static void do_task(struct emu_stream *s, size_t number)
{
	const struct task *own = &s->task[number % EMU_TASKS];
	struct cvb_err err = {0};
	struct task opened = *own;
	int r = s->crypt ? open_task(s, number, &opened, &err) : 0;

	if (r == 0)
		r = run_task(&opened, &err);
	else if (own->kind == TASK_RECORD || own->kind == TASK_WAIT)
		cvb_ignore(run_task(own, NULL)); /* or whoever waits for it would never wake up */
	drop(own);
	if (r < 0)
		keep_error(s, r, &err);
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
		do_task(s, tail);
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

/* Seal a task in private memory, and put what came out where the device reads it. */
static int seal_task(struct emu_stream *s, size_t number, const struct task *t, struct cvb_err *err)
{
	struct emu_descriptor d = {0}, *shared = &s->channel[number % EMU_TASKS];
	uint8_t plain[EMU_DESCRIPTOR_BYTES] = {0};
	int r;

	memcpy(plain, t, sizeof(*t));
	r = emu_seal(s->crypt, number, d.data, d.tag, plain, sizeof(plain));
	if (r < 0)
		return cvb_err_set(err, r, "OpenSSL failed to seal a submission");
	*shared = d;
	if (s->device->probe.submitted)
		s->device->probe.submitted(s->device->probe.arg, shared, plain);
	return 0;
}

static int push(struct cvb_gpu_stream *stream, const struct task *t, struct cvb_err *err)
{
	struct emu_stream *s = stream->priv;
	int r = 0;

	pthread_mutex_lock(&s->submit);
	emu_wait(&s->signal, has_room, s);
	size_t head = atomic_load(&s->head);

	/* a number whose sealing failed comes again, but nothing was sealed under it */
	if (s->crypt)
		r = seal_task(s, head, t, err);
	if (r == 0) {
		hold(t);
		s->task[head % EMU_TASKS] = *t;
		atomic_store(&s->head, head + 1);
		emu_wake(&s->signal);
	}
	pthread_mutex_unlock(&s->submit);
	return r;
}

int emu_stream_push_event(struct cvb_gpu_stream *stream, struct emu_event *e, bool is_record,
			  uint64_t record, struct cvb_err *err)
{
	struct task t = {
		.kind = is_record ? TASK_RECORD : TASK_WAIT,
		.event = {.event = e, .record = record},
	};

	return push(stream, &t, err);
}

static int push_op(struct cvb_gpu_stream *stream, const struct cvb_gpu_op *op, struct cvb_err *err)
{
	struct task t = {.kind = TASK_OP, .op = *op};

	return push(stream, &t, err);
}

static int copy_staged(struct emu_stream *s, const struct cvb_gpu_copy *c, struct cvb_err *err)
{
	bool in = c->dir == CVB_GPU_H2D;
	struct cvb_gpu_buf *device = in ? c->dst : c->src;
	size_t offset = in ? c->dst_offset_bytes : c->src_offset_bytes;

	pthread_mutex_lock(&s->submit);
	struct until drained = {s, atomic_load(&s->head)};

	emu_wait(&s->signal, is_done, &drained);
	int r = emu_to_device(device, offset, c->bytes, err);

	if (r == 0) {
		uint8_t *dst = emu_buf_ptr(c->dst, c->dst_offset_bytes);
		uint8_t *src = emu_buf_ptr(c->src, c->src_offset_bytes);

		r = emu_engine_staged(&s->context->engine[c->dir], in ? dst : src, in ? src : dst,
				      c->bytes, EMU_CHUNK_BYTES, err);
	}
	pthread_mutex_unlock(&s->submit);
	return r;
}

int emu_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
		   struct cvb_err *err)
{
	struct emu_stream *s = stream->priv;
	const struct cvb_gpu_op op = {.kind = CVB_GPU_OP_COPY, .copy = *copy};
	bool pageable = copy->dst->kind == CVB_GPU_HOST_PAGEABLE ||
			copy->src->kind == CVB_GPU_HOST_PAGEABLE;

	if (copy->dir != CVB_GPU_D2D && (pageable || s->device->cc))
		return copy_staged(s, copy, err);
	return push_op(stream, &op, err);
}

int emu_memset_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst, size_t offset_bytes,
		     int value, size_t bytes, struct cvb_err *err)
{
	const struct cvb_gpu_op op = {
		.kind = CVB_GPU_OP_MEMSET,
		.set = {.dst = dst, .offset_bytes = offset_bytes, .bytes = bytes, .value = value},
	};

	return push_op(stream, &op, err);
}

int emu_gemm_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_gemm *gemm,
		   struct cvb_err *err)
{
	const struct cvb_gpu_op op = {.kind = CVB_GPU_OP_GEMM, .gemm = *gemm};
	int r = emu_blas_check(emu_device_of(stream->gpu), gemm, err);

	return r < 0 ? r : push_op(stream, &op, err);
}

int emu_launch_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_launch *launch,
		     struct cvb_err *err)
{
	const struct cvb_gpu_op op = {.kind = CVB_GPU_OP_LAUNCH, .launch = *launch};

	return push_op(stream, &op, err);
}

int emu_graph_launch(struct cvb_gpu_graph *graph, struct cvb_gpu_stream *stream,
		     struct cvb_err *err)
{
	const struct task t = {.kind = TASK_GRAPH, .graph = graph};

	return push(stream, &t, err);
}

int emu_peer_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
			struct cvb_err *err)
{
	const struct task t = {.kind = TASK_PEER, .peer = *copy};

	return push(stream, &t, err);
}

int emu_sync(struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	struct emu_stream *s = stream->priv;
	struct until u = {s, atomic_load(&s->head)};

	emu_wait(&s->signal, is_done, &u);
	pthread_mutex_lock(&s->error_lock);
	int r = s->failed;

	s->failed = 0;

	if (r < 0 && err)
		*err = s->err;
	pthread_mutex_unlock(&s->error_lock);
	return r;
}

/* ---- life ---- */

/* Keys and shared memory for what is submitted. */
static int open_channel(struct emu_stream *s, struct cvb_err *err)
{
	void *p = mmap(NULL, CHANNEL_BYTES, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		return cvb_err_set(err, -errno, "cannot map a stream's channel: %s",
				   strerror(errno));
	s->channel = p;
	return emu_crypt_new(&s->crypt, err);
}

static void stream_drop(struct emu_stream *s)
{
	s->crypt = emu_crypt_free(s->crypt);
	if (s->channel)
		munmap(s->channel, CHANNEL_BYTES);
	pthread_mutex_destroy(&s->error_lock);
	pthread_mutex_destroy(&s->submit);
	emu_signal_done(&s->signal);
	free(s);
}

int emu_stream_new(struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	struct emu_stream *s = aligned_alloc(64, sizeof(*s));
	int r = 0;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	memset(s, 0, sizeof(*s));
	s->device = emu_device_of(stream->gpu);
	s->context = stream->context->priv;
	emu_signal_init(&s->signal);
	pthread_mutex_init(&s->submit, /* attr= */ NULL);
	pthread_mutex_init(&s->error_lock, /* attr= */ NULL);
	if (s->device->cc)
		r = open_channel(s, err);
	if (r == 0)
		r = emu_thread_start(&s->thread, &s->device->cpus, stream_main, s, err);
	if (r < 0)
		stream_drop(s);
	else
		stream->priv = s;
	return r;
}

void emu_stream_free(struct cvb_gpu_stream *stream)
{
	struct emu_stream *s = stream->priv;

	atomic_store(&s->quit, true);
	emu_wake(&s->signal);
	pthread_join(s->thread, NULL);
	stream_drop(s);
}
