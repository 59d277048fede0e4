/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels, graphs, contexts, managed memory, peers and host threads: what every GPU backend must
 * do, on every spec that can be opened here.
 */
#include "fixture.h"

#include <limits.h>

static const size_t word_counts[] = {1, 2, 3, 7, 512, 513, 100003};
/* of a real GPU: more than all its threads take in a few steps, so that kernels loop */
#define HARDWARE_WORDS ((size_t)5000003)

static void launch(struct fixture *f, const struct cvb_gpu_launch *l)
{
	assert_int_equal(cvb_gpu_launch_async(f->stream, l, &f->err), 0);
}

/* Device memory as the host finds it after a copy. */
static void *fetch(struct fixture *f, struct cvb_gpu_buf *host, struct cvb_gpu_buf *device)
{
	copy(f, host, 0, device, 0, cvb_gpu_buf_bytes(device));
	sync_stream(f);
	return cvb_gpu_buf_host(host);
}

/* ---- kernels ---- */

static void one_fill(struct fixture *f, size_t words)
{
	size_t bytes = words * 8;
	struct cvb_gpu_buf *a = alloc(f, CVB_GPU_DEVICE, bytes + 8);
	struct cvb_gpu_buf *b = alloc(f, CVB_GPU_DEVICE, 16);
	struct cvb_gpu_buf *host = alloc(f, CVB_GPU_HOST_PAGEABLE, bytes + 8);
	struct cvb_gpu_launch l = {CVB_GPU_KERNEL_FILL, .a = a, .bytes = bytes, .seed = words};
	uint64_t *p, sum = 0;

	assert_int_equal(cvb_gpu_memset_async(f->stream, a, 0, 0x5a, bytes + 8, &f->err), 0);
	assert_int_equal(cvb_gpu_memset_async(f->stream, b, 0, 0x5a, 16, &f->err), 0);
	launch(f, &l);
	p = fetch(f, host, a);
	for (size_t i = 0; i < words; i++) {
		assert_int_equal(p[i], cvb_gpu_pattern(words, i));
		sum += p[i];
	}
	assert_true(all_bytes((uint8_t *)(p + words), 8, 0x5a)); /* not a byte more */

	l = (struct cvb_gpu_launch){CVB_GPU_KERNEL_READ, .a = a, .b = b, .bytes = bytes};
	launch(f, &l);
	copy(f, host, 0, b, 0, 8);
	sync_stream(f);
	assert_int_equal(p[0], sum);

	/* as many wrong words as were made wrong */
	l.kernel = CVB_GPU_KERNEL_VERIFY;
	l.seed = words;
	for (size_t wrong = 0; wrong <= cvb_min(words, 3); wrong++) {
		if (wrong)
			assert_int_equal(cvb_gpu_memset_async(f->stream, a, (words - wrong) * 8, 0,
							      8, &f->err),
					 0);
		launch(f, &l);
		p = fetch(f, host, b);
		assert_int_equal(p[0], wrong);
	}
	assert_true(all_bytes((uint8_t *)(p + 1), 8, 0x5a)); /* b is one word */
	cvb_gpu_free(a);
	cvb_gpu_free(b);
	cvb_gpu_free(host);
}

static void test_fill_verify_read(void **state)
{
	for (size_t i = 0; i < CVB_ARRAY_LEN(word_counts); i++)
		one_fill(*state, word_counts[i]);
	if (((const struct fixture *)*state)->row->hardware)
		one_fill(*state, HARDWARE_WORDS);
}

/* COPY, TRIAD and ADD against the same operations here, exactly. */
static void one_stream_kernel(struct fixture *f, size_t n)
{
	size_t bytes = n * 8;
	struct cvb_gpu_buf *device[3], *host[3], *got;
	double *x[3];

	for (size_t i = 0; i < 3; i++) {
		device[i] = alloc(f, CVB_GPU_DEVICE, bytes);
		host[i] = alloc(f, CVB_GPU_HOST_PINNED, bytes);
		x[i] = cvb_gpu_buf_host(host[i]);
		for (size_t j = 0; j < n; j++)
			x[i][j] = (double)(int64_t)cvb_gpu_pattern(i, j) * 0x1p-63;
		copy(f, device[i], 0, host[i], 0, bytes);
	}
	got = alloc(f, CVB_GPU_HOST_PINNED, bytes);

	launch(f, &(struct cvb_gpu_launch){CVB_GPU_KERNEL_ADD, device[0], device[1], NULL, bytes, 0,
					   0, 0});
	const double *g = fetch(f, got, device[0]);

	for (size_t j = 0; j < n; j++)
		assert_true(g[j] == x[0][j] + x[1][j]);

	launch(f, &(struct cvb_gpu_launch){CVB_GPU_KERNEL_TRIAD, device[0], device[1], device[2],
					   bytes, 0, 0, 3.5});
	fetch(f, got, device[0]);
	for (size_t j = 0; j < n; j++) {
		volatile double product = 3.5 * x[2][j]; /* rounded by itself: not fused */

		assert_true(g[j] == x[1][j] + product);
	}

	launch(f, &(struct cvb_gpu_launch){CVB_GPU_KERNEL_COPY, device[0], device[2], NULL, bytes,
					   0, 0, 0});
	fetch(f, got, device[0]);
	assert_memory_equal(g, x[2], bytes);
	for (size_t i = 0; i < 3; i++) {
		cvb_gpu_free(device[i]);
		cvb_gpu_free(host[i]);
	}
	cvb_gpu_free(got);
}

static void test_stream_kernels(void **state)
{
	for (size_t i = 0; i < CVB_ARRAY_LEN(word_counts); i++)
		one_stream_kernel(*state, word_counts[i]);
	if (((const struct fixture *)*state)->row->hardware)
		one_stream_kernel(*state, HARDWARE_WORDS);
}

/* A kernel that keeps the device busy takes at least that long on the device's clock. */
static void test_spin(void **state)
{
	struct fixture *f = *state;
	struct cvb_gpu_launch l = {.kernel = CVB_GPU_KERNEL_SPIN, .ns = 3000000};
	const struct cvb_clock *clock = cvb_gpu_clock(f->gpu);
	uint64_t start;
	struct cvb_gpu_event *from, *to;
	int64_t ns;

	assert_int_equal(cvb_gpu_event_new(f->gpu, &from, &f->err), 0);
	assert_int_equal(cvb_gpu_event_new(f->gpu, &to, &f->err), 0);
	sync_stream(f);
	start = clock->now_ns(clock->ctx);
	assert_int_equal(cvb_gpu_event_record(from, f->stream, &f->err), 0);
	launch(f, &l);
	assert_int_equal(cvb_gpu_event_record(to, f->stream, &f->err), 0);
	sync_stream(f);
	assert_true(clock->now_ns(clock->ctx) - start >= l.ns);
	assert_int_equal(cvb_gpu_event_elapsed_ns(from, to, &ns, &f->err), 0);
	assert_true(ns >= (int64_t)l.ns);
	launch(f, &(struct cvb_gpu_launch){.kernel = CVB_GPU_KERNEL_EMPTY});
	sync_stream(f);
	start = clock->now_ns(clock->ctx);
	cvb_gpu_host_work(f->gpu, 1000000);
	assert_true(clock->now_ns(clock->ctx) - start >= 1000000);
}

static void test_bad_launches(void **state)
{
	struct fixture *f = *state;
	struct cvb_gpu_buf *a = alloc(f, CVB_GPU_DEVICE, 64), *b = alloc(f, CVB_GPU_DEVICE, 64);
	struct cvb_gpu_buf *host = alloc(f, CVB_GPU_HOST_PINNED, 64);
	const struct cvb_gpu_launch bad[] = {
		{.kernel = CVB_GPU_KERNELS},
		{.kernel = CVB_GPU_KERNEL_FILL, .a = a, .bytes = 0},
		{.kernel = CVB_GPU_KERNEL_FILL, .a = a, .bytes = 63},
		{.kernel = CVB_GPU_KERNEL_FILL, .a = a, .bytes = 72},
		{.kernel = CVB_GPU_KERNEL_FILL, .bytes = 64},
		{.kernel = CVB_GPU_KERNEL_FILL, .a = host, .bytes = 64},
		{.kernel = CVB_GPU_KERNEL_COPY, .a = a, .bytes = 64},
		{.kernel = CVB_GPU_KERNEL_COPY, .a = a, .b = a, .bytes = 64},
		{.kernel = CVB_GPU_KERNEL_TRIAD, .a = a, .b = b, .bytes = 64},
		{.kernel = CVB_GPU_KERNEL_READ, .a = a, .b = host, .bytes = 64},
	};

	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++)
		assert_int_equal(cvb_gpu_launch_async(f->stream, &bad[i], &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_launch_async(f->stream, NULL, &f->err), -EINVAL);
	/* what a kernel does not use is not looked at */
	launch(f,
	       &(struct cvb_gpu_launch){
		       .kernel = CVB_GPU_KERNEL_FILL, .a = a, .b = host, .c = host, .bytes = 64});
	sync_stream(f);
}

/* ---- graphs ---- */

static void test_graph(void **state)
{
	struct fixture *f = *state;
	enum {
		N = 1000,
		RUNS = 3
	};
	struct cvb_gpu_buf *a = alloc(f, CVB_GPU_DEVICE, N * 8);
	struct cvb_gpu_buf *b = alloc(f, CVB_GPU_DEVICE, N * 8);
	struct cvb_gpu_buf *c = alloc(f, CVB_GPU_DEVICE, N * 8);
	struct cvb_gpu_buf *host = alloc(f, CVB_GPU_HOST_PINNED, N * 8);
	double *p = cvb_gpu_buf_host(host);
	struct cvb_gpu_graph *g = NULL;
	const struct cvb_gpu_launch add = {
		.kernel = CVB_GPU_KERNEL_ADD, .a = a, .b = b, .bytes = N * 8};
	const struct cvb_gpu_gemm gemm = {CVB_GPU_FP64, 1, 1, N, 1, 0, a, b, c};

	for (size_t i = 0; i < N; i++)
		p[i] = (double)i;
	copy(f, b, 0, host, 0, N * 8);
	assert_int_equal(cvb_gpu_memset_async(f->stream, a, 0, 0, N * 8, &f->err), 0);
	sync_stream(f);

	assert_int_equal(cvb_gpu_capture_begin(f->stream, &f->err), 0);
	for (int i = 0; i < 40; i++)
		launch(f, &add);
	assert_int_equal(cvb_gpu_gemm_async(f->stream, &gemm, &f->err), 0);
	assert_int_equal(cvb_gpu_memset_async(f->stream, c, 8, 0x3f, 8, &f->err), 0);
	copy(f, c, 16, a, 0, 16);
	/* what cannot be recorded */
	assert_int_equal(cvb_gpu_copy_async(f->stream, host, 0, a, 0, 8, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_sync(f->stream, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_capture_begin(f->stream, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_capture_end(f->stream, &g, &f->err), 0);
	assert_int_equal(cvb_gpu_capture_end(f->stream, &g, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_graph_size(g), 43);

	/* nothing of it has run */
	fetch(f, host, a);
	assert_true(all_bytes((uint8_t *)p, N * 8, 0));
	for (int i = 0; i < RUNS; i++)
		assert_int_equal(cvb_gpu_graph_launch(g, f->stream, &f->err), 0);
	fetch(f, host, a);
	double dot = 0;

	for (size_t i = 0; i < N; i++) {
		assert_true(p[i] == 40.0 * RUNS * (double)i);
		dot += p[i] * (double)i; /* whole numbers below 2^53: exact */
	}
	fetch(f, host, c);
	assert_true(p[0] == dot);
	assert_true(all_bytes((uint8_t *)(p + 1), 8, 0x3f));
	assert_true(p[2] == 0 && p[3] == 40.0 * RUNS);

	/* freed with launches in flight: they are waited for */
	for (int i = 0; i < RUNS; i++)
		assert_int_equal(cvb_gpu_graph_launch(g, f->stream, &f->err), 0);
	assert_null(cvb_gpu_graph_free(g));
	fetch(f, host, a);
	assert_true(p[1] == 40.0 * 2 * RUNS);
}

static void test_empty_graph(void **state)
{
	struct fixture *f = *state;
	struct cvb_gpu_graph *g = NULL;

	assert_int_equal(cvb_gpu_capture_begin(f->stream, &f->err), 0);
	assert_int_equal(cvb_gpu_capture_end(f->stream, &g, &f->err), 0);
	assert_int_equal(cvb_gpu_graph_size(g), 0);
	assert_int_equal(cvb_gpu_graph_launch(g, f->stream, &f->err), 0);
	sync_stream(f);
	assert_int_equal(cvb_gpu_graph_launch(g, NULL, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_graph_launch(NULL, f->stream, &f->err), -EINVAL);
	/* left to the device, as is a capture that never ends */
	assert_int_equal(cvb_gpu_capture_begin(f->stream, &f->err), 0);
	launch(f, &(struct cvb_gpu_launch){.kernel = CVB_GPU_KERNEL_EMPTY});
}

/* ---- contexts ---- */

static void test_contexts(void **state)
{
	struct fixture *f = *state;
	struct cvb_gpu_context *c[2];
	struct cvb_gpu_stream *stream[2];
	struct cvb_gpu_buf *host[2], *device[2], *primary = alloc(f, CVB_GPU_DEVICE, 64);
	struct cvb_gpu_graph *g;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			cvb_gpu_context_new(f->gpu, CVB_GPU_CONTEXT_THREAD, &c[i], &f->err), 0);
		assert_int_equal(cvb_gpu_stream_new_in(c[i], &stream[i], &f->err), 0);
		assert_int_equal(
			cvb_gpu_alloc_in(c[i], CVB_GPU_HOST_PINNED, CHUNK + 1, &host[i], &f->err),
			0);
		assert_int_equal(
			cvb_gpu_alloc_in(c[i], CVB_GPU_DEVICE, CHUNK + 1, &device[i], &f->err), 0);
		memset(cvb_gpu_buf_host(host[i]), i + 1, CHUNK + 1);
		assert_int_equal(
			cvb_gpu_copy_async(stream[i], device[i], 0, host[i], 0, CHUNK + 1, &f->err),
			0);
	}
	/* each has its own */
	assert_int_equal(cvb_gpu_copy_async(stream[0], device[0], 0, device[1], 0, 8, &f->err),
			 -EINVAL);
	assert_int_equal(cvb_gpu_copy_async(f->stream, primary, 0, device[1], 0, 8, &f->err),
			 -EINVAL);
	assert_int_equal(cvb_gpu_memset_async(stream[1], primary, 0, 0, 8, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_capture_begin(stream[0], &f->err), 0);
	assert_int_equal(cvb_gpu_memset_async(stream[0], device[0], 0, 9, 8, &f->err), 0);
	assert_int_equal(cvb_gpu_capture_end(stream[0], &g, &f->err), 0);
	assert_int_equal(cvb_gpu_graph_launch(g, stream[1], &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_graph_launch(g, stream[0], &f->err), 0);
	assert_int_equal(cvb_gpu_sync(stream[1], &f->err), 0);
	/* one goes with all that it has, in use or not; the other stays */
	assert_null(cvb_gpu_context_free(c[0]));
	memset(cvb_gpu_buf_host(host[1]), 0, CHUNK + 1);
	assert_int_equal(
		cvb_gpu_copy_async(stream[1], host[1], 0, device[1], 0, CHUNK + 1, &f->err), 0);
	assert_int_equal(cvb_gpu_sync(stream[1], &f->err), 0);
	assert_true(all_bytes(cvb_gpu_buf_host(host[1]), CHUNK + 1, 2));
	assert_null(cvb_gpu_context_free(NULL));
}

/* As many as the device says, and not one more. */
static void test_context_limit(void **state)
{
	struct fixture *f = *state;
	unsigned limit = cvb_gpu_caps(f->gpu)->context_limit;
	struct cvb_gpu_context *c = NULL, *last = NULL;

	if (!f->row->wall && !limit)
		skip(); /* no limit is published */
	assert_true(limit > 1);
	for (unsigned i = 1; i < limit; i++)
		assert_int_equal(
			cvb_gpu_context_new(f->gpu, CVB_GPU_CONTEXT_THREAD, &last, &f->err), 0);
	assert_int_equal(cvb_gpu_context_new(f->gpu, CVB_GPU_CONTEXT_THREAD, &c, &f->err), -ENOSPC);
	assert_null(c);
	cvb_gpu_context_free(last);
	assert_int_equal(cvb_gpu_context_new(f->gpu, CVB_GPU_CONTEXT_THREAD, &c, &f->err), 0);
	if (!(cvb_gpu_caps(f->gpu)->flags & CVB_GPU_CAP_PROCESSES))
		assert_int_equal(cvb_gpu_context_new(f->gpu, CVB_GPU_CONTEXT_PROCESS, &c, &f->err),
				 -EOPNOTSUPP);
}

/* ---- host threads ---- */

struct lanes {
	struct fixture *f;
	atomic_uint ran;
	unsigned bad; /* the first lane that fails */
	bool contexts;
};

/* Its own context or the primary one: copies there and back must come out as they went in. */
static int lane(void *arg, unsigned number, struct cvb_err *err)
{
	struct lanes *l = arg;
	const size_t bytes = 2 * CHUNK + 77;
	struct cvb_gpu_context *c = NULL;
	struct cvb_gpu_stream *stream = NULL;
	struct cvb_gpu_buf *host = NULL, *device = NULL;
	int r = 0;

	atomic_fetch_add(&l->ran, 1);
	if (number >= l->bad)
		return cvb_err_set(err, -EIO, "lane %u", number);
	if (l->contexts)
		r = cvb_gpu_context_new(l->f->gpu, CVB_GPU_CONTEXT_THREAD, &c, err);
	if (r == 0)
		r = c ? cvb_gpu_stream_new_in(c, &stream, err)
		      : cvb_gpu_stream_new(l->f->gpu, &stream, err);
	if (r == 0)
		r = c ? cvb_gpu_alloc_in(c, CVB_GPU_HOST_PINNED, bytes, &host, err)
		      : cvb_gpu_alloc(l->f->gpu, CVB_GPU_HOST_PINNED, bytes, &host, err);
	if (r == 0)
		r = c ? cvb_gpu_alloc_in(c, CVB_GPU_DEVICE, bytes, &device, err)
		      : cvb_gpu_alloc(l->f->gpu, CVB_GPU_DEVICE, bytes, &device, err);
	for (int i = 0; r == 0 && i < 5; i++) {
		memset(cvb_gpu_buf_host(host), (int)number + i, bytes);
		r = cvb_gpu_copy_async(stream, device, 0, host, 0, bytes, err);
		if (r == 0) /* before the source changes */
			r = cvb_gpu_sync(stream, err);
		memset(cvb_gpu_buf_host(host), 0xee, bytes);
		if (r == 0)
			r = cvb_gpu_copy_async(stream, host, 0, device, 0, bytes, err);
		if (r == 0)
			r = cvb_gpu_sync(stream, err);
		if (r == 0 && !all_bytes(cvb_gpu_buf_host(host), bytes, (uint8_t)((int)number + i)))
			r = cvb_err_set(err, -EBADMSG, "lane %u: a byte is wrong", number);
	}
	cvb_gpu_stream_free(stream);
	cvb_gpu_free(host);
	cvb_gpu_free(device);
	cvb_gpu_context_free(c);
	return r;
}

static void test_lanes(void **state)
{
	struct fixture *f = *state;
	struct lanes l = {.f = f, .bad = UINT_MAX};
	char text[256];
	/* how contexts share is not published for the modelled GPU; virt_test.c has those that are
	 */
	int kinds = !is_virtual(f->row) || !f->row->cc ? 2 : 1;

	for (int contexts = 0; contexts < kinds; contexts++) {
		l.contexts = contexts;
		atomic_store(&l.ran, 0);
		assert_int_equal(cvb_gpu_parallel(f->gpu, 5, lane, &l, &f->err), 0);
		assert_int_equal(atomic_load(&l.ran), 5);
	}
	assert_int_equal(cvb_gpu_parallel(f->gpu, 1, lane, &l, &f->err), 0);
	/* of several failures the first by number, and all have run */
	l.bad = 2;
	atomic_store(&l.ran, 0);
	assert_int_equal(cvb_gpu_parallel(f->gpu, 5, lane, &l, &f->err), -EIO);
	cvb_err_text(&f->err, text, sizeof(text));
	assert_non_null(strstr(text, "lane 2"));
	assert_int_equal(atomic_load(&l.ran), 5);
	assert_int_equal(cvb_gpu_parallel(f->gpu, 0, lane, &l, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_parallel(f->gpu, 100000, lane, &l, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_parallel(f->gpu, 1, NULL, &l, &f->err), -EINVAL);
}

/* ---- managed memory ---- */

static void one_managed(struct fixture *f, size_t words)
{
	size_t bytes = words * 8;
	struct cvb_gpu_buf *m = alloc(f, CVB_GPU_MANAGED, bytes);
	struct cvb_gpu_buf *wrong = alloc(f, CVB_GPU_MANAGED, 8);
	struct cvb_gpu_buf *host = alloc(f, CVB_GPU_HOST_PINNED, bytes);
	uint64_t *p = cvb_gpu_buf_host(m), *w = cvb_gpu_buf_host(wrong);
	struct cvb_gpu_launch l = {CVB_GPU_KERNEL_FILL, .a = m, .bytes = bytes, .seed = 1};

	/* written there, read here */
	launch(f, &l);
	assert_int_equal(cvb_gpu_managed_touch(m, 0, bytes, &f->err), 0);
	for (size_t i = 0; i < words; i++)
		assert_int_equal(p[i], cvb_gpu_pattern(1, i));
	/* written here, read there */
	for (size_t i = 0; i < words; i++)
		p[i] = cvb_gpu_pattern(2, i);
	l = (struct cvb_gpu_launch){CVB_GPU_KERNEL_VERIFY, .a = m, .b = wrong, .bytes = bytes,
				    .seed = 2};
	launch(f, &l);
	assert_int_equal(cvb_gpu_managed_touch(wrong, 0, 8, &f->err), 0);
	assert_int_equal(w[0], 0);
	/* pages of both sides: one word is changed here, the rest stays there */
	assert_int_equal(cvb_gpu_managed_touch(m, (words - 1) * 8, 8, &f->err), 0);
	p[words - 1] ^= 1;
	launch(f, &l);
	assert_int_equal(cvb_gpu_managed_touch(wrong, 0, 8, &f->err), 0);
	assert_int_equal(w[0], 1);
	/* copies and memset find it where it is */
	assert_int_equal(cvb_gpu_managed_touch(m, 0, bytes, &f->err), 0);
	p[0] = 42;
	copy(f, host, 0, m, 0, bytes);
	sync_stream(f);
	assert_int_equal(*(uint64_t *)cvb_gpu_buf_host(host), 42);
	assert_int_equal(cvb_gpu_memset_async(f->stream, m, 0, 0x77, bytes, &f->err), 0);
	assert_int_equal(cvb_gpu_managed_touch(m, 0, bytes, &f->err), 0);
	assert_true(all_bytes((uint8_t *)p, bytes, 0x77));
	memset(cvb_gpu_buf_host(host), 0x12, bytes);
	copy(f, m, 0, host, 0, bytes);
	sync_stream(f);
	assert_int_equal(cvb_gpu_managed_touch(m, 0, bytes, &f->err), 0);
	assert_true(all_bytes((uint8_t *)p, bytes, 0x12));
	cvb_gpu_free(m);
	cvb_gpu_free(wrong);
	cvb_gpu_free(host);
}

static void test_managed(void **state)
{
	/* a page is 512 words, a block of pages 2 MiB */
	static const size_t words[] = {1, 511, 512, 513, 262144, 262145, 600001};
	struct fixture *f = *state;
	struct cvb_gpu_buf *device = alloc(f, CVB_GPU_DEVICE, 64);
	struct cvb_gpu_buf *m = alloc(f, CVB_GPU_MANAGED, 64);

	for (size_t i = 0; i < CVB_ARRAY_LEN(words); i++)
		one_managed(f, words[i]);
	assert_int_equal(cvb_gpu_managed_touch(device, 0, 64, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_managed_touch(m, 1, 64, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_managed_touch(NULL, 0, 1, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_managed_touch(m, 64, 0, &f->err), 0);
}

/* ---- peers ---- */

static void test_peer(void **state)
{
	struct fixture *f = *state;
	static const size_t lengths[] = {1, 4097, CHUNK, 3 * CHUNK + 11};
	const size_t room = 4 * CHUNK;
	struct fixture other = {.row = f->row};
	struct cvb_gpu_buf *host, *ours, *theirs, *back;

	if (!f->row->wall && !(cvb_gpu_caps(f->gpu)->flags & CVB_GPU_CAP_PEER)) {
		assert_int_equal(cvb_gpu_peer_open(f->gpu, &other.gpu, &f->err), -EOPNOTSUPP);
		skip(); /* no link of the modelled GPU is published; virt_test.c has one that is.
			 * Or the machine has one GPU. */
	}
	assert_int_equal(cvb_gpu_peer_open(f->gpu, &other.gpu, &f->err), 0);
	assert_int_equal(cvb_gpu_stream_new(other.gpu, &other.stream, &f->err), 0);
	host = alloc(f, CVB_GPU_HOST_PINNED, room);
	ours = alloc(f, CVB_GPU_DEVICE, room);
	theirs = alloc(&other, CVB_GPU_DEVICE, room);
	back = alloc(&other, CVB_GPU_HOST_PINNED, room);
	for (size_t i = 0; i < CVB_ARRAY_LEN(lengths); i++) {
		size_t n = lengths[i];
		const uint8_t *got = cvb_gpu_buf_host(back);

		fill(cvb_gpu_buf_host(host), room, n);
		copy(f, ours, 0, host, 0, room);
		assert_int_equal(cvb_gpu_memset_async(other.stream, theirs, 0, 0x66, room, &f->err),
				 0);
		sync_stream(&other);
		/* by the sender's stream, and back by the receiver's own */
		assert_int_equal(cvb_gpu_peer_copy_async(f->stream, theirs, 5, ours, 3, n, &f->err),
				 0);
		sync_stream(f);
		copy(&other, back, 0, theirs, 0, room);
		sync_stream(&other);
		assert_memory_equal(got + 5, (uint8_t *)cvb_gpu_buf_host(host) + 3, n);
		assert_true(all_bytes(got, 5, 0x66) && got[5 + n] == 0x66);
		assert_int_equal(
			cvb_gpu_peer_copy_async(f->stream, ours, 100, theirs, 5, n, &f->err), 0);
		fetch(f, host, ours);
		assert_memory_equal((uint8_t *)cvb_gpu_buf_host(host) + 100, got + 5, n);
	}
	assert_int_equal(cvb_gpu_peer_copy_async(f->stream, ours, 0, ours, 8, 8, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_peer_copy_async(f->stream, theirs, 0, theirs, 8, 8, &f->err),
			 -EINVAL);
	assert_int_equal(cvb_gpu_peer_copy_async(f->stream, theirs, 0, host, 0, 8, &f->err),
			 -EINVAL);
	assert_int_equal(cvb_gpu_peer_copy_async(f->stream, theirs, 0, ours, 1, room, &f->err),
			 -EINVAL);
	assert_int_equal(cvb_gpu_copy_async(f->stream, theirs, 0, ours, 0, 8, &f->err), -EINVAL);
	struct cvb_gpu *second = NULL;

	assert_int_equal(cvb_gpu_peer_open(f->gpu, &second, &f->err), -EINVAL);
	/* closed with a copy in flight, and opened again */
	assert_int_equal(cvb_gpu_peer_copy_async(f->stream, theirs, 0, ours, 0, room, &f->err), 0);
	assert_null(cvb_gpu_close(other.gpu));
	sync_stream(f);
	assert_int_equal(cvb_gpu_peer_open(f->gpu, &other.gpu, &f->err), 0);
	theirs = alloc(&other, CVB_GPU_DEVICE, room);
	assert_int_equal(cvb_gpu_peer_copy_async(f->stream, theirs, 0, ours, 0, room, &f->err), 0);
	/* teardown closes both */
}

int main(void)
{
	static const struct conformance table[] = {
		EACH(test_fill_verify_read), EACH(test_stream_kernels), EACH(test_spin),
		EACH(test_bad_launches),     EACH(test_graph),		EACH(test_empty_graph),
		EACH(test_contexts),	     EACH(test_context_limit),	EACH(test_lanes),
		EACH(test_managed),	     EACH(test_peer),
	};

	return run_on_all(table, CVB_ARRAY_LEN(table));
}
