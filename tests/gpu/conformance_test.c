/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every GPU backend must do, on every spec that can be opened here.  Nothing depends on how
 * long anything takes: where work must still be pending, the test holds the emulator's compute
 * unit.
 */
#include "fixture.h"

/* ---- copies ---- */

static const size_t sizes[] = {
	1,	   15,	     16,   17,	      95,
	4095,	   4096,     4097, CHUNK - 1, CHUNK,
	CHUNK + 1, RING - 1, RING, RING + 1,  5 * 1024 * 1024 + 3,
};

/* There through one kind of host memory, across the device, and back into another. */
static void round_trip(struct fixture *f, enum cvb_gpu_mem kind, size_t bytes, size_t offset)
{
	const size_t guard = 64;
	size_t total = offset + bytes + guard;
	struct cvb_gpu_buf *in = alloc(f, kind, total), *out = alloc(f, kind, total);
	struct cvb_gpu_buf *a = alloc(f, CVB_GPU_DEVICE, total);
	struct cvb_gpu_buf *b = alloc(f, CVB_GPU_DEVICE, total);
	const uint8_t *sent = cvb_gpu_buf_host(in);
	uint8_t *got = cvb_gpu_buf_host(out);

	fill(cvb_gpu_buf_host(in), total, bytes);
	memset(got, 0xee, total);
	assert_int_equal(cvb_gpu_memset_async(f->stream, a, 0, 0x11, total, &f->err), 0);
	assert_int_equal(cvb_gpu_memset_async(f->stream, b, 0, 0x22, total, &f->err), 0);
	copy(f, a, offset, in, offset, bytes);
	copy(f, b, 0, a, offset, bytes);
	copy(f, out, offset, b, 0, bytes);
	sync_stream(f);
	assert_memory_equal(got + offset, sent + offset, bytes);
	assert_true(all_bytes(got, offset, 0xee));
	assert_true(all_bytes(got + offset + bytes, guard, 0xee));

	/* the device's bytes beside the copy are as they were */
	copy(f, out, 0, a, 0, total);
	sync_stream(f);
	assert_true(all_bytes(got, offset, 0x11));
	assert_memory_equal(got + offset, sent + offset, bytes);
	assert_true(all_bytes(got + offset + bytes, guard, 0x11));
	cvb_gpu_free(in);
	cvb_gpu_free(out);
	cvb_gpu_free(a);
	cvb_gpu_free(b);
}

static void test_copies_are_exact(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < CVB_ARRAY_LEN(sizes); i++) {
		round_trip(f, CVB_GPU_HOST_PINNED, sizes[i], 0);
		round_trip(f, CVB_GPU_HOST_PAGEABLE, sizes[i], 0);
		round_trip(f, CVB_GPU_HOST_PINNED, sizes[i], 13);
		round_trip(f, CVB_GPU_HOST_PAGEABLE, sizes[i], 4096 + 7);
	}
}

static void test_copy_of_nothing(void **state)
{
	struct fixture *f = *state;
	struct cvb_gpu_buf *host = alloc(f, CVB_GPU_HOST_PINNED, 16);
	struct cvb_gpu_buf *device = alloc(f, CVB_GPU_DEVICE, 16);

	memset(cvb_gpu_buf_host(host), 0x33, 16);
	assert_int_equal(cvb_gpu_memset_async(f->stream, device, 0, 0x44, 16, &f->err), 0);
	copy(f, device, 16, host, 16, 0); /* at the very end: inside */
	copy(f, host, 3, device, 3, 0);
	assert_int_equal(cvb_gpu_memset_async(f->stream, device, 16, 0x55, 0, &f->err), 0);
	sync_stream(f);
	assert_true(all_bytes(cvb_gpu_buf_host(host), 16, 0x33));
	copy(f, host, 0, device, 0, 16);
	sync_stream(f);
	assert_true(all_bytes(cvb_gpu_buf_host(host), 16, 0x44));
}

static void test_copy_within_a_buffer(void **state)
{
	struct fixture *f = *state;
	struct cvb_gpu_buf *host = alloc(f, CVB_GPU_HOST_PAGEABLE, 2000);
	struct cvb_gpu_buf *device = alloc(f, CVB_GPU_DEVICE, 2000);
	uint8_t *p = cvb_gpu_buf_host(host);
	uint8_t sent[1000];

	fill(p, 2000, 1);
	memcpy(sent, p, sizeof(sent));
	copy(f, device, 0, host, 0, 2000);
	copy(f, device, 1000, device, 0, 1000); /* halves that touch do not overlap */
	copy(f, host, 0, device, 0, 2000);
	sync_stream(f);
	assert_memory_equal(p, sent, 1000);
	assert_memory_equal(p + 1000, sent, 1000);
	assert_int_equal(cvb_gpu_copy_async(f->stream, device, 999, device, 0, 1000, &f->err),
			 -EINVAL);
}

/* ---- order ---- */

/*
 * Work that stays pending until the gate is opened: of the wall-clock emulator a product, while the
 * test holds the compute unit; of the fake driver a kernel that the test holds.  Elsewhere a kernel
 * that is busy for long on the device's own clock; of a real GPU long enough for what is submitted
 * behind it.
 */
struct gate {
	struct emu_device *device; /* NULL: a kernel */
	bool held;		   /* by the fake driver */
	struct cvb_gpu_gemm gemm;
};

#define GATE_NS	     (10 * CVB_NS_PER_S)
#define REAL_GATE_NS (500 * CVB_NS_PER_MS)

static void gate_close(struct gate *g, struct fixture *f, struct cvb_gpu_stream *stream)
{
	struct cvb_gpu_launch spin = {.kernel = CVB_GPU_KERNEL_SPIN, .ns = GATE_NS};

	*g = (struct gate){.held = f->row->nvml != NULL};
	if (f->row->hardware)
		spin.ns = REAL_GATE_NS;
	if (g->held) {
		fake_set_held(true);
		spin.ns = 0;
	}
	if (!f->row->wall) {
		assert_int_equal(cvb_gpu_launch_async(stream, &spin, &f->err), 0);
		return;
	}
	g->device = emu_device_of(shim_innermost(f->gpu));
	g->gemm = (struct cvb_gpu_gemm){
		.type = CVB_GPU_FP32,
		.m = 1,
		.n = 1,
		.k = 1,
		.alpha = 1,
		.a = alloc(f, CVB_GPU_DEVICE, 4),
		.b = alloc(f, CVB_GPU_DEVICE, 4),
		.c = alloc(f, CVB_GPU_DEVICE, 4),
	};
	pthread_mutex_lock(&g->device->compute);
	assert_int_equal(cvb_gpu_gemm_async(stream, &g->gemm, &f->err), 0);
}

static void gate_open(struct gate *g)
{
	if (g->device)
		pthread_mutex_unlock(&g->device->compute);
	if (g->held)
		fake_set_held(false);
}

struct submitter {
	struct fixture *f;
	struct cvb_gpu_buf *cell, *row;
	size_t n, width;
	atomic_size_t submitted;
	bool ok;
};

static void *submitter_main(void *arg)
{
	struct submitter *s = arg;

	s->ok = true;
	for (size_t i = 0; i < s->n; i++) {
		int value = (int)(i * 7 % 251);

		s->ok = s->ok &&
			!cvb_gpu_memset_async(s->f->stream, s->cell, 0, value, s->width, NULL) &&
			!cvb_gpu_copy_async(s->f->stream, s->row, i * s->width, s->cell, 0,
					    s->width, NULL);
		atomic_fetch_add(&s->submitted, 2);
	}
	return NULL;
}

/*
 * More tasks than a stream's queue holds, each of which sees what the one before left.  The stream
 * is held until the queue is full, so that the submitter has to wait for room.
 */
static void test_stream_is_fifo(void **state)
{
	struct fixture *f = *state;
	const size_t n = 2 * EMU_TASKS, width = 64;
	struct submitter s = {
		.f = f,
		.cell = alloc(f, CVB_GPU_DEVICE, width),
		.row = alloc(f, CVB_GPU_DEVICE, n * width),
		.n = n,
		.width = width,
	};
	struct cvb_gpu_buf *host = alloc(f, CVB_GPU_HOST_PINNED, n * width);
	const uint8_t *got = cvb_gpu_buf_host(host);
	struct gate gate;
	pthread_t thread;

	gate_close(&gate, f, f->stream);
	assert_int_equal(pthread_create(&thread, NULL, submitter_main, &s), 0);
	while (atomic_load(&s.submitted) < EMU_TASKS - 2)
		cvb_sleep_ms(1);
	cvb_sleep_ms(20); /* for a queue that does not stop here to run over */
	gate_open(&gate);
	pthread_join(thread, NULL);
	assert_true(s.ok);
	copy(f, host, 0, s.row, 0, n * width);
	sync_stream(f);
	for (size_t i = 0; i < n; i++)
		assert_true(all_bytes(got + i * width, width, (uint8_t)(i * 7 % 251)));
}

static void test_two_streams(void **state)
{
	struct fixture *f = *state;
	struct cvb_gpu_stream *other;
	struct cvb_gpu_event *made, *used;
	struct cvb_gpu_buf *a = alloc(f, CVB_GPU_DEVICE, 4096);
	struct cvb_gpu_buf *b = alloc(f, CVB_GPU_DEVICE, 4096);
	struct cvb_gpu_buf *host = alloc(f, CVB_GPU_HOST_PINNED, 4096);
	struct gate gate;
	int64_t ns;

	assert_int_equal(cvb_gpu_stream_new(f->gpu, &other, &f->err), 0);
	assert_int_equal(cvb_gpu_event_new(f->gpu, &made, &f->err), 0);
	assert_int_equal(cvb_gpu_event_new(f->gpu, &used, &f->err), 0);
	assert_int_equal(cvb_gpu_memset_async(f->stream, a, 0, 1, 4096, &f->err), 0);
	sync_stream(f);

	gate_close(&gate, f, f->stream);
	assert_int_equal(cvb_gpu_memset_async(f->stream, a, 0, 2, 4096, &f->err), 0);
	assert_int_equal(cvb_gpu_event_record(made, f->stream, &f->err), 0);

	/* the other stream is not held up … */
	assert_int_equal(cvb_gpu_memset_async(other, b, 0, 9, 4096, &f->err), 0);
	assert_int_equal(cvb_gpu_sync(other, &f->err), 0);
	/* … until it waits for the event */
	assert_int_equal(cvb_gpu_event_wait(other, made, &f->err), 0);
	assert_int_equal(cvb_gpu_copy_async(other, b, 0, a, 0, 4096, &f->err), 0);
	assert_int_equal(cvb_gpu_event_record(used, other, &f->err), 0);
	assert_int_equal(cvb_gpu_event_elapsed_ns(made, used, &ns, &f->err), -EAGAIN);
	/* looked at for a while, so that a stream that does not wait is caught doing it */
	for (int i = 0; i < 20; i++) {
		assert_int_equal(cvb_gpu_event_elapsed_ns(used, used, &ns, &f->err), -EAGAIN);
		cvb_sleep_ms(1);
	}
	assert_int_equal(cvb_gpu_event_record(made, other, &f->err), -EBUSY);
	gate_open(&gate);

	assert_int_equal(cvb_gpu_event_sync(used, &f->err), 0);
	assert_int_equal(cvb_gpu_event_elapsed_ns(made, used, &ns, &f->err), 0);
	assert_true(ns >= 0);
	assert_int_equal(cvb_gpu_event_elapsed_ns(used, made, &ns, &f->err), 0);
	assert_true(ns <= 0);
	assert_int_equal(cvb_gpu_copy_async(other, host, 0, b, 0, 4096, &f->err), 0);
	assert_int_equal(cvb_gpu_sync(other, &f->err), 0);
	assert_true(all_bytes(cvb_gpu_buf_host(host), 4096, 2));
	/* done now, so another stream may record it */
	assert_int_equal(cvb_gpu_event_record(made, other, &f->err), 0);
	assert_int_equal(cvb_gpu_event_sync(made, &f->err), 0);
	assert_null(cvb_gpu_stream_free(other));
}

/* Work of a device waits for an event of its peer. */
static void test_two_devices(void **state)
{
	struct fixture *f = *state;
	struct cvb_gpu *peer = NULL;
	struct cvb_gpu_stream *other;
	struct cvb_gpu_event *made, *used;
	struct cvb_gpu_buf *a = alloc(f, CVB_GPU_DEVICE, 4096), *b, *host;
	struct gate gate;
	int64_t ns;

	if (!(cvb_gpu_caps(f->gpu)->flags & CVB_GPU_CAP_PEER)) {
		assert_int_equal(cvb_gpu_peer_open(f->gpu, &peer, &f->err), -EOPNOTSUPP);
		return;
	}
	assert_int_equal(cvb_gpu_peer_open(f->gpu, &peer, &f->err), 0);
	assert_int_equal(cvb_gpu_alloc(peer, CVB_GPU_DEVICE, 4096, &b, &f->err), 0);
	assert_int_equal(cvb_gpu_alloc(peer, CVB_GPU_HOST_PINNED, 4096, &host, &f->err), 0);
	assert_int_equal(cvb_gpu_stream_new(peer, &other, &f->err), 0);
	assert_int_equal(cvb_gpu_event_new(f->gpu, &made, &f->err), 0);
	assert_int_equal(cvb_gpu_event_new(peer, &used, &f->err), 0);
	assert_int_equal(cvb_gpu_memset_async(f->stream, a, 0, 1, 4096, &f->err), 0);
	sync_stream(f);

	gate_close(&gate, f, f->stream);
	assert_int_equal(cvb_gpu_memset_async(f->stream, a, 0, 2, 4096, &f->err), 0);
	assert_int_equal(cvb_gpu_event_record(made, f->stream, &f->err), 0);
	assert_int_equal(cvb_gpu_event_record(made, other, &f->err), -EINVAL);
	/* the peer is not held up … */
	assert_int_equal(cvb_gpu_memset_async(other, b, 0, 9, 4096, &f->err), 0);
	assert_int_equal(cvb_gpu_sync(other, &f->err), 0);
	/* … until it waits for the event */
	assert_int_equal(cvb_gpu_event_wait(other, made, &f->err), 0);
	assert_int_equal(cvb_gpu_peer_copy_async(other, b, 0, a, 0, 4096, &f->err), 0);
	assert_int_equal(cvb_gpu_event_record(used, other, &f->err), 0);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(cvb_gpu_event_elapsed_ns(used, used, &ns, &f->err), -EAGAIN);
		cvb_sleep_ms(1);
	}
	/* and the other way: what comes next here does not change what is copied */
	assert_int_equal(cvb_gpu_event_wait(f->stream, used, &f->err), 0);
	assert_int_equal(cvb_gpu_memset_async(f->stream, a, 0, 3, 4096, &f->err), 0);
	gate_open(&gate);
	sync_stream(f);
	assert_int_equal(cvb_gpu_event_elapsed_ns(used, used, &ns, &f->err), 0);
	assert_int_equal(cvb_gpu_copy_async(other, host, 0, b, 0, 4096, &f->err), 0);
	assert_int_equal(cvb_gpu_sync(other, &f->err), 0);
	assert_true(all_bytes(cvb_gpu_buf_host(host), 4096, 2));
	assert_null(cvb_gpu_close(peer));
}

static void test_events(void **state)
{
	struct fixture *f = *state;
	struct cvb_gpu_event *first, *last, *never;
	struct cvb_gpu_buf *a = alloc(f, CVB_GPU_DEVICE, 1 << 20);
	int64_t ns = -1;

	assert_int_equal(cvb_gpu_event_new(f->gpu, &first, &f->err), 0);
	assert_int_equal(cvb_gpu_event_new(f->gpu, &last, &f->err), 0);
	assert_int_equal(cvb_gpu_event_new(f->gpu, &never, &f->err), 0);
	/* recorded often, in one stream, without waiting: the last one counts */
	for (int i = 0; i < 100; i++)
		assert_int_equal(cvb_gpu_event_record(first, f->stream, &f->err), 0);
	assert_int_equal(cvb_gpu_memset_async(f->stream, a, 0, 1, 1 << 20, &f->err), 0);
	assert_int_equal(cvb_gpu_event_record(last, f->stream, &f->err), 0);
	assert_int_equal(cvb_gpu_event_sync(last, &f->err), 0);
	assert_int_equal(cvb_gpu_event_elapsed_ns(first, last, &ns, &f->err), 0);
	assert_true(ns > 0); /* a mebibyte was written in between */

	assert_int_equal(cvb_gpu_event_elapsed_ns(first, never, &ns, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_event_elapsed_ns(never, last, &ns, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_event_sync(never, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_event_wait(f->stream, never, &f->err),
			 0); /* nothing to wait for */
	sync_stream(f);
	/* freed while tasks still hold it */
	assert_int_equal(cvb_gpu_event_record(never, f->stream, &f->err), 0);
	assert_null(cvb_gpu_event_free(never));
	sync_stream(f);
}

struct late_copy {
	struct fixture *f;
	struct cvb_gpu_buf *dst, *src;
	int r;
};

static void *late_copy_main(void *arg)
{
	struct late_copy *c = arg;

	c->r = cvb_gpu_copy_async(c->f->stream, c->dst, 0, c->src, 0, 4096, &c->f->err);
	return NULL;
}

/* A copy comes after what its stream had before, whether it blocks its caller or not. */
static void test_copy_waits_for_its_stream(void **state)
{
	struct fixture *f = *state;
	const enum cvb_gpu_mem kinds[] = {CVB_GPU_HOST_PINNED, CVB_GPU_HOST_PAGEABLE};

	for (size_t i = 0; i < CVB_ARRAY_LEN(kinds); i++) {
		struct late_copy c = {
			.f = f,
			.dst = alloc(f, CVB_GPU_DEVICE, 4096),
			.src = alloc(f, kinds[i], 4096),
			.r = 1,
		};
		struct gate gate;
		pthread_t thread;

		memset(cvb_gpu_buf_host(c.src), 7, 4096);
		gate_close(&gate, f, f->stream);
		assert_int_equal(cvb_gpu_memset_async(f->stream, c.dst, 0, 1, 4096, &f->err), 0);
		if (kinds[i] == CVB_GPU_HOST_PINNED &&
		    (cvb_gpu_caps(f->gpu)->flags & CVB_GPU_CAP_ASYNC_COPY)) {
			/* would never return if it waited */
			late_copy_main(&c);
			gate_open(&gate);
		} else {
			assert_int_equal(pthread_create(&thread, NULL, late_copy_main, &c), 0);
			gate_open(&gate);
			pthread_join(thread, NULL);
		}
		assert_int_equal(c.r, 0);
		sync_stream(f);
		memset(cvb_gpu_buf_host(c.src), 0, 4096);
		copy(f, c.src, 0, c.dst, 0, 4096);
		sync_stream(f);
		assert_true(all_bytes(cvb_gpu_buf_host(c.src), 4096, 7));
	}
}

/* Copies of several threads, one stream each, in both directions at once. */
struct traffic {
	struct fixture *f;
	uint64_t seed;
	bool ok;
};

static void *traffic_main(void *arg)
{
	struct traffic *t = arg;
	const size_t bytes = 3 * CHUNK + 5;
	struct cvb_gpu_stream *stream = NULL;
	struct cvb_gpu_buf *host = NULL, *back = NULL, *device = NULL;
	enum cvb_gpu_mem kind = t->seed % 2 ? CVB_GPU_HOST_PINNED : CVB_GPU_HOST_PAGEABLE;

	t->ok = cvb_gpu_stream_new(t->f->gpu, &stream, NULL) == 0 &&
		cvb_gpu_alloc(t->f->gpu, kind, bytes, &host, NULL) == 0 &&
		cvb_gpu_alloc(t->f->gpu, kind, bytes, &back, NULL) == 0 &&
		cvb_gpu_alloc(t->f->gpu, CVB_GPU_DEVICE, bytes, &device, NULL) == 0;
	for (uint64_t i = 0; t->ok && i < 20; i++) {
		fill(cvb_gpu_buf_host(host), bytes, t->seed * 1000 + i);
		t->ok = cvb_gpu_copy_async(stream, device, 0, host, 0, bytes, NULL) == 0 &&
			cvb_gpu_copy_async(stream, back, 0, device, 0, bytes, NULL) == 0 &&
			cvb_gpu_sync(stream, NULL) == 0 &&
			!memcmp(cvb_gpu_buf_host(host), cvb_gpu_buf_host(back), bytes);
	}
	cvb_gpu_stream_free(stream);
	cvb_gpu_free(host);
	cvb_gpu_free(back);
	cvb_gpu_free(device);
	return NULL;
}

static void test_many_threads(void **state)
{
	struct traffic traffic[4];
	pthread_t thread[CVB_ARRAY_LEN(traffic)];

	for (size_t i = 0; i < CVB_ARRAY_LEN(traffic); i++) {
		traffic[i] = (struct traffic){.f = *state, .seed = i + 1};
		assert_int_equal(pthread_create(&thread[i], NULL, traffic_main, &traffic[i]), 0);
	}
	for (size_t i = 0; i < CVB_ARRAY_LEN(traffic); i++) {
		pthread_join(thread[i], NULL);
		assert_true(traffic[i].ok);
	}
}

/* What is freed while it is in use, is first waited for. */
static void test_free_waits_for_work(void **state)
{
	struct fixture *f = *state;
	const size_t bytes = 1 << 20;
	struct cvb_gpu_buf *a = alloc(f, CVB_GPU_DEVICE, bytes);
	struct cvb_gpu_buf *b = alloc(f, CVB_GPU_DEVICE, bytes);
	struct cvb_gpu_buf *c = alloc(f, CVB_GPU_DEVICE, bytes);
	struct cvb_gpu_stream *other;

	assert_int_equal(cvb_gpu_stream_new(f->gpu, &other, &f->err), 0);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(cvb_gpu_memset_async(f->stream, a, 0, i, bytes, &f->err), 0);
		assert_int_equal(cvb_gpu_copy_async(other, b, 0, c, 0, bytes, &f->err), 0);
	}
	assert_null(cvb_gpu_free(a));
	assert_null(cvb_gpu_stream_free(other));
	for (int i = 0; i < 50; i++)
		assert_int_equal(cvb_gpu_memset_async(f->stream, b, 0, i, bytes, &f->err), 0);
	/* teardown closes the device with this in flight */
}

/* ---- gemm ---- */

/* A small format, told anew here so that the backend's own conversion is not its own judge. */
struct format {
	int exponent, mantissa, bias; /* bits, bits */
};

static const struct format formats[CVB_GPU_TYPES] = {
	[CVB_GPU_BF16] = {8, 7, 127},
	[CVB_GPU_FP16] = {5, 10, 15},
	[CVB_GPU_FP8] = {4, 3, 7},
};

static double small_float(const struct format *t, unsigned code)
{
	int exponent = (int)(code >> t->mantissa) & ((1 << t->exponent) - 1);
	int mantissa = (int)(code & ((1U << t->mantissa) - 1));
	double v = exponent ? ldexp(1 + ldexp(mantissa, -t->mantissa), exponent - t->bias)
			    : ldexp(mantissa, 1 - t->bias - t->mantissa);

	return code >> (t->exponent + t->mantissa) & 1 ? -v : v;
}

/* Element i as it is stored. */
static double value_at(const void *p, enum cvb_gpu_type type, size_t i)
{
	switch (type) {
	case CVB_GPU_FP64:
		return ((const double *)p)[i];
	case CVB_GPU_FP32:
	case CVB_GPU_TF32:
		return (double)((const float *)p)[i];
	case CVB_GPU_INT8:
		return ((const int8_t *)p)[i];
	case CVB_GPU_FP8:
		return small_float(&formats[type], ((const uint8_t *)p)[i]);
	default:
		return small_float(&formats[type], ((const uint16_t *)p)[i]);
	}
}

/* Element i of an operand as the product sees it. */
static double operand_at(const void *p, enum cvb_gpu_type type, size_t i)
{
	double v = value_at(p, type, i);
	int exponent;

	if (type != CVB_GPU_TF32)
		return v;
	v = frexp(v, &exponent); /* 11 significant bits, halves to even */
	return ldexp(rint(ldexp(v, 11)), exponent - 11);
}

/* Random numbers of at most 1; of the small formats all codes of such, the subnormal ones too. */
static void fill_matrix(void *p, enum cvb_gpu_type type, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t bits = cvb_gpu_pattern(seed, i);
		double v = (double)(int64_t)bits * 0x1p-63;

		switch (type) {
		case CVB_GPU_FP64:
			((double *)p)[i] = v;
			break;
		case CVB_GPU_FP32:
		case CVB_GPU_TF32:
			((float *)p)[i] = (float)v;
			break;
		case CVB_GPU_INT8:
			((int8_t *)p)[i] = (int8_t)bits;
			break;
		case CVB_GPU_FP8: /* the exponent's highest bit off */
			((uint8_t *)p)[i] = (uint8_t)(bits & 0xbf);
			break;
		default:
			((uint16_t *)p)[i] = (uint16_t)(bits & 0xbfff);
		}
	}
}

/*
 * How far a result may be from the exact one.  The sum, in any order and with u of the accumulator
 * (float's but for fp64 and int8, whose sums are exact), and then one rounding to the type.
 */
static long double gemm_bound(enum cvb_gpu_type type, uint32_t k, long double want,
			      long double magnitude)
{
	long double eps = type == CVB_GPU_FP64 || type == CVB_GPU_INT8 ? DBL_EPSILON : FLT_EPSILON;

	if (getenv("CVB_TEST_GPU") && (type == CVB_GPU_TF32 || type == CVB_GPU_FP8))
		magnitude *= 1 + ldexpl(1, 23 - 10) / (k + 2); /* cut, not rounded; short sums */
	long double sum = (k + 2) * eps * magnitude;
	const struct format *t = &formats[type];

	if (type == CVB_GPU_INT8)
		return 0.5L + sum;
	if (!t->mantissa)
		return sum;
	return sum + (fabsl(want) + sum) * ldexpl(1, -t->mantissa - 1) +
	       ldexpl(1, -t->bias - t->mantissa);
}

struct product {
	enum cvb_gpu_type type;
	uint32_t m, n, k;
	double alpha, beta;
	const void *a, *b, *c; /* before */
};

static void assert_element(const struct product *p, size_t i, double got)
{
	long double want = p->beta != 0 ? (long double)p->beta * value_at(p->c, p->type, i) : 0;
	long double magnitude = fabsl(want);

	for (size_t j = 0; j < p->k; j++) {
		long double x = (long double)p->alpha *
				operand_at(p->a, p->type, i / p->n * p->k + j) *
				operand_at(p->b, p->type, j * p->n + i % p->n);

		want += x;
		magnitude += fabsl(x);
	}
	if (p->type == CVB_GPU_INT8)
		want = fminl(fmaxl(want, INT8_MIN), INT8_MAX);
	long double bound = gemm_bound(p->type, p->k, want, magnitude);

	if (!(fabsl(got - want) <= bound))
		fail_msg("%s %u x %u x %u: element %zu is %.17g, not %.17Lg within %.3Lg",
			 cvb_gpu_type_text(p->type), p->m, p->n, p->k, i, got, want, bound);
}

static void one_gemm(struct fixture *f, enum cvb_gpu_type type, const uint32_t shape[3],
		     double beta)
{
	struct product p = {type, shape[0], shape[1], shape[2], 1.5, beta, NULL, NULL, NULL};
	size_t elem = cvb_gpu_type_bytes(type);
	const size_t count[3] = {(size_t)p.m * p.k, (size_t)p.k * p.n, (size_t)p.m * p.n};
	struct cvb_gpu_buf *device[3], *host[3], *back;

	if (type == CVB_GPU_INT8)
		p.alpha = 1 / 1024.0; /* some results are too large for the type, most are not */
	for (size_t i = 0; i < 3; i++) {
		device[i] = alloc(f, CVB_GPU_DEVICE, count[i] * elem);
		host[i] = alloc(f, CVB_GPU_HOST_PAGEABLE, count[i] * elem);
		fill_matrix(cvb_gpu_buf_host(host[i]), type, count[i], i + 1);
		copy(f, device[i], 0, host[i], 0, count[i] * elem);
	}
	p.a = cvb_gpu_buf_host(host[0]);
	p.b = cvb_gpu_buf_host(host[1]);
	p.c = cvb_gpu_buf_host(host[2]);
	if (beta == 0) /* what is there is not looked at */
		assert_int_equal(cvb_gpu_memset_async(f->stream, device[2], 0, 0xff,
						      count[2] * elem, &f->err),
				 0);
	struct cvb_gpu_gemm g = {type,	 p.m,	    p.n,       p.k,	 p.alpha,
				 p.beta, device[0], device[1], device[2]};

	assert_int_equal(cvb_gpu_gemm_async(f->stream, &g, &f->err), 0);
	back = alloc(f, CVB_GPU_HOST_PINNED, count[2] * elem);
	copy(f, back, 0, device[2], 0, count[2] * elem);
	sync_stream(f);
	for (size_t i = 0; i < count[2]; i++)
		assert_element(&p, i, value_at(cvb_gpu_buf_host(back), type, i));
	for (size_t i = 0; i < 3; i++) {
		cvb_gpu_free(device[i]);
		cvb_gpu_free(host[i]);
	}
	cvb_gpu_free(back);
}

static void test_gemm(void **state)
{
	struct fixture *f = *state;
	const uint32_t shape[][3] = {
		{1, 1, 1}, {3, 5, 7}, {64, 64, 64}, {33, 70, 129}, {200, 1, 9}};
	unsigned tested = 0;

	for (unsigned type = 0; type < CVB_GPU_TYPES; type++) {
		if (!(cvb_gpu_caps(f->gpu)->gemm_types & (1U << type)))
			continue;
		for (size_t i = 0; i < CVB_ARRAY_LEN(shape); i++)
			one_gemm(f, (enum cvb_gpu_type)type, shape[i], i % 2 ? -0.5 : 0);
		tested++;
	}
	assert_true(tested > 0);
}

/* A result beyond the largest number, and what is no number: by what each format has for it. */
static void test_gemm_extremes(void **state)
{
	static const struct {
		enum cvb_gpu_type type;
		unsigned a, b, want; /* codes; b is 1 x 1, alpha 1 */
	} table[] = {
		{CVB_GPU_FP16, 0x7bff, 0x7bff, 0x7c00}, /* infinite */
		{CVB_GPU_FP16, 0x0001, 0x3c00, 0x0001}, /* the smallest, times one */
		{CVB_GPU_FP16, 0x0001, 0x3800, 0x0000}, /* half of it: to even */
		{CVB_GPU_FP16, 0x0003, 0x3800, 0x0002}, {CVB_GPU_FP16, 0x8001, 0x3c00, 0x8001},
		{CVB_GPU_FP16, 0x7c00, 0xbc00, 0xfc00}, {CVB_GPU_BF16, 0x7f7f, 0x7f7f, 0x7f80},
		{CVB_GPU_BF16, 0x3f81, 0x3f81, 0x3f82}, /* 1.0078125 squared */
		{CVB_GPU_FP8, 0x7e, 0x7e, 0x7e},	/* 448, the largest: saturates */
		{CVB_GPU_FP8, 0xfe, 0x7e, 0xfe},	{CVB_GPU_FP8, 0x01, 0x38, 0x01},
		{CVB_GPU_FP8, 0x39, 0x39, 0x3a}, /* 1.125 squared is 1.265625 */
		{CVB_GPU_INT8, 127, 127, 127},		{CVB_GPU_INT8, 0x80, 127, 0x80},
		{CVB_GPU_INT8, 0xff, 5, 0xfb},
	};
	struct fixture *f = *state;
	struct cvb_gpu_buf *host = alloc(f, CVB_GPU_HOST_PAGEABLE, 2), *d[3];
	uint8_t *p = cvb_gpu_buf_host(host);

	for (size_t i = 0; i < 3; i++)
		d[i] = alloc(f, CVB_GPU_DEVICE, 2);
	for (size_t i = 0; i < CVB_ARRAY_LEN(table); i++) {
		struct cvb_gpu_gemm g = {table[i].type, 1, 1, 1, 1, 0, d[0], d[1], d[2]};
		size_t elem = cvb_gpu_type_bytes(g.type);
		const unsigned code[2] = {table[i].a, table[i].b};

		if (!(cvb_gpu_caps(f->gpu)->gemm_types & (1U << g.type)))
			continue;
		for (size_t j = 0; j < 2; j++) {
			p[0] = (uint8_t)code[j];
			p[1] = (uint8_t)(code[j] >> 8);
			copy(f, d[j], 0, host, 0, elem);
			sync_stream(f);
		}
		assert_int_equal(cvb_gpu_gemm_async(f->stream, &g, &f->err), 0);
		p[1] = 0;
		copy(f, host, 0, d[2], 0, elem);
		sync_stream(f);
		assert_int_equal(p[0] | p[1] << 8, table[i].want);
	}
}

int main(void)
{
	static const struct conformance table[] = {
		EACH(test_copies_are_exact),
		EACH(test_copy_of_nothing),
		EACH(test_copy_within_a_buffer),
		EACH(test_stream_is_fifo),
		EACH(test_two_streams),
		EACH(test_two_devices),
		EACH(test_events),
		EACH(test_copy_waits_for_its_stream),
		EACH(test_many_threads),
		EACH(test_free_waits_for_work),
		EACH(test_gemm),
		EACH(test_gemm_extremes),
	};

	/* models that know what peer copies cost */
	static const struct conformance peers[] = {EACH(test_two_devices)};
	static const struct row pairs[] = {
		{"emu:h200-tdx,cc=off,clock=virtual", .wall = false, .cc = false},
		{"trace:file=/dev/null:emu:h200-tdx,cc=on,clock=virtual", .wall = false,
		 .cc = true},
	};
	int failed = run_on_all(table, CVB_ARRAY_LEN(table));

	if (!getenv("CVB_TEST_GPU"))
		failed += run_rows(peers, CVB_ARRAY_LEN(peers), pairs, CVB_ARRAY_LEN(pairs));
	return failed;
}
