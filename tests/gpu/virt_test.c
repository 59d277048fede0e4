/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual clock: the same times on every machine and in every run, the rules of streams, events
 * and lanes, and true bytes however little of them is in memory.
 */
#include "fixture.h"

#include "gpu/virt.h"

#include <sys/resource.h>

struct device {
	struct cvb_gpu *gpu;
	struct cvb_gpu_stream *stream;
};

static struct device open_device(const char *spec)
{
	struct device d = {0};
	struct cvb_err err = {0};

	if (cvb_gpu_open(spec, &d.gpu, &err) < 0) {
		char text[1024];

		cvb_err_text(&err, text, sizeof(text));
		fail_msg("%s: %s", spec, text);
	}
	assert_int_equal(cvb_gpu_stream_new(d.gpu, &d.stream, NULL), 0);
	return d;
}

static uint64_t now(const struct device *d)
{
	const struct cvb_clock *c = cvb_gpu_clock(d->gpu);

	return c->now_ns(c->ctx);
}

static struct cvb_gpu_buf *buf(const struct device *d, enum cvb_gpu_mem kind, size_t bytes)
{
	struct cvb_gpu_buf *b = NULL;

	assert_int_equal(cvb_gpu_alloc(d->gpu, kind, bytes, &b, NULL), 0);
	return b;
}

static void moved(struct cvb_gpu_stream *s, struct cvb_gpu_buf *dst, struct cvb_gpu_buf *src,
		  size_t bytes)
{
	assert_int_equal(cvb_gpu_copy_async(s, dst, 0, src, 0, bytes, NULL), 0);
}

static void run_kernel(struct cvb_gpu_stream *s, struct cvb_gpu_launch l)
{
	assert_int_equal(cvb_gpu_launch_async(s, &l, NULL), 0);
}

static void wait_for(struct cvb_gpu_stream *s)
{
	assert_int_equal(cvb_gpu_sync(s, NULL), 0);
}

/* ---- determinism ---- */

struct lanes {
	struct device d;
	enum cvb_gpu_context_kind kind;
	struct cvb_gpu_stream *stream[64];
	struct cvb_gpu_buf *host[64], *device[64];
	unsigned n;
	bool one_context;
	bool odd_out, even_out; /* lanes that copy to the host */
	size_t bytes;
	unsigned copies;
	uint64_t end[64];
};

/* Keeps both processors busy while lanes run, so that threads are scheduled otherwise. */
struct load {
	pthread_t thread[3];
	atomic_bool stop;
};

static void *load_main(void *arg)
{
	struct load *l = arg;

	while (!atomic_load(&l->stop))
		sched_yield();
	return NULL;
}

static void load_start(struct load *l)
{
	atomic_init(&l->stop, false);
	for (size_t i = 0; i < CVB_ARRAY_LEN(l->thread); i++)
		assert_int_equal(pthread_create(&l->thread[i], NULL, load_main, l), 0);
}

static void load_stop(struct load *l)
{
	atomic_store(&l->stop, true);
	for (size_t i = 0; i < CVB_ARRAY_LEN(l->thread); i++)
		pthread_join(l->thread[i], NULL);
}

static int lane_copies(void *arg, unsigned lane, struct cvb_err *err)
{
	struct lanes *l = arg;
	bool out = lane % 2 ? l->odd_out : l->even_out;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < l->copies; i++) {
		r = cvb_gpu_copy_async(l->stream[lane], out ? l->host[lane] : l->device[lane], 0,
				       out ? l->device[lane] : l->host[lane], 0, l->bytes, err);
		cvb_gpu_host_work(l->d.gpu, 1000 * (lane + 1));
	}
	if (r == 0)
		r = cvb_gpu_sync(l->stream[lane], err);
	l->end[lane] = now(&l->d);
	return r;
}

/* `n` lanes that copy; the time they take together, or a negative errno. */
static int64_t copy_in_lanes(struct lanes *l, const char *spec, struct cvb_err *err)
{
	l->d = open_device(spec);
	for (unsigned i = 0; i < l->n; i++) {
		struct cvb_gpu_context *c = NULL;

		if (!l->one_context) {
			assert_int_equal(cvb_gpu_context_new(l->d.gpu, l->kind, &c, NULL), 0);
			assert_int_equal(cvb_gpu_stream_new_in(c, &l->stream[i], NULL), 0);
			assert_int_equal(cvb_gpu_alloc_in(c, CVB_GPU_HOST_PINNED, l->bytes,
							  &l->host[i], NULL),
					 0);
			assert_int_equal(
				cvb_gpu_alloc_in(c, CVB_GPU_DEVICE, l->bytes, &l->device[i], NULL),
				0);
			continue;
		}
		assert_int_equal(cvb_gpu_stream_new(l->d.gpu, &l->stream[i], NULL), 0);
		l->host[i] = buf(&l->d, CVB_GPU_HOST_PINNED, l->bytes);
		l->device[i] = buf(&l->d, CVB_GPU_DEVICE, l->bytes);
	}
	uint64_t start = now(&l->d);
	int r = cvb_gpu_parallel(l->d.gpu, l->n, lane_copies, l, err);
	int64_t ns = (int64_t)(now(&l->d) - start);

	for (unsigned i = 0; i < l->n; i++)
		l->end[i] -= start;
	l->d.gpu = cvb_gpu_close(l->d.gpu);
	return r < 0 ? r : ns;
}

static void test_lanes_are_deterministic(void **state)
{
	static const char *const specs[] = {
		"emu:b300-tdx,cc=on,clock=virtual",
		"emu:b300-tdx,cc=off,clock=virtual",
		"emu:b300-tdx,cc=on,clock=virtual,noise=5,seed=7",
		"emu:rtxpro6000-tdx,cc=on,clock=virtual",
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(specs); i++) {
		struct lanes a = {.n = 16, .bytes = 1 << 20, .copies = 5}, b = a;
		struct load load;

		assert_true(copy_in_lanes(&a, specs[i], NULL) > 0);
		load_start(&load);
		for (int again = 0; again < 5; again++) {
			assert_true(copy_in_lanes(&b, specs[i], NULL) > 0);
			assert_memory_equal(a.end, b.end, sizeof(a.end));
		}
		load_stop(&load);
	}
}

static uint64_t some_work(const char *spec)
{
	struct device d = open_device(spec);
	struct cvb_gpu_buf *host = buf(&d, CVB_GPU_HOST_PINNED, 1 << 20);
	struct cvb_gpu_buf *device = buf(&d, CVB_GPU_DEVICE, 1 << 20);

	for (int i = 0; i < 10; i++) {
		moved(d.stream, device, host, 1 << 20);
		run_kernel(d.stream,
			   (struct cvb_gpu_launch){.kernel = CVB_GPU_KERNEL_SPIN, .ns = 100000});
		wait_for(d.stream);
	}
	uint64_t ns = now(&d);

	cvb_gpu_close(d.gpu);
	return ns;
}

/* The model and nothing else; these numbers hold on every machine. */
static void test_known_times(void **state)
{
	struct device d = open_device("emu:h100-tdx,cc=on,clock=virtual");
	struct cvb_gpu_buf *host = buf(&d, CVB_GPU_HOST_PINNED, 1 << 20);
	struct cvb_gpu_buf *device = buf(&d, CVB_GPU_DEVICE, 1 << 20);
	uint64_t start = now(&d);

	(void)state;
	moved(d.stream, device, host, 1 << 20);
	/* 22214 + 65536 * 0.4776 + 983040 / 3.36 + 983040 / 22.593277962 */
	assert_in_range(now(&d) - start, 389595, 389597);
	start = now(&d);
	wait_for(d.stream); /* the copy's end is known */
	assert_int_equal(now(&d), start);
	wait_for(d.stream); /* nothing to wait for: sync_idle */
	assert_int_equal(now(&d) - start, 1670);
	cvb_gpu_close(d.gpu);
}

static void test_noise(void **state)
{
	uint64_t none = some_work("emu:h100-tdx,clock=virtual");
	uint64_t one = some_work("emu:h100-tdx,clock=virtual,noise=2,seed=1");

	(void)state;
	assert_int_equal(none, some_work("emu:h100-tdx,clock=virtual"));
	assert_int_equal(none, some_work("emu:h100-tdx,clock=virtual,seed=3"));
	assert_int_equal(one, some_work("emu:h100-tdx,clock=virtual,noise=2"));
	assert_int_not_equal(one, none);
	assert_int_not_equal(one, some_work("emu:h100-tdx,clock=virtual,noise=2,seed=2"));
	assert_in_range(one, none - none / 50, none + none / 50);
}

/* ---- streams ---- */

#define MS CVB_NS_PER_MS

static const struct cvb_gpu_launch spin_10ms = {.kernel = CVB_GPU_KERNEL_SPIN, .ns = 10 * MS};

static void test_async_copies(void **state)
{
	static const struct {
		const char *spec;
		enum cvb_gpu_mem mem;
		bool blocks;
	} table[] = {
		{"emu:h100-tdx,cc=off,clock=virtual", CVB_GPU_HOST_PINNED, false},
		{"emu:h100-tdx,cc=off,clock=virtual", CVB_GPU_HOST_PAGEABLE, true},
		{"emu:h100-tdx,cc=on,clock=virtual", CVB_GPU_HOST_PINNED, true},
		{"emu:h100-tdx,cc=on,clock=virtual", CVB_GPU_HOST_PAGEABLE, true},
		{"emu:b300-tdx,cc=on,clock=virtual", CVB_GPU_HOST_PINNED, true},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(table); i++) {
		struct device d = open_device(table[i].spec);
		struct cvb_gpu_buf *host = buf(&d, table[i].mem, 4096);
		struct cvb_gpu_buf *device = buf(&d, CVB_GPU_DEVICE, 4096);
		struct cvb_gpu_stream *other;

		assert_int_equal(cvb_gpu_stream_new(d.gpu, &other, NULL), 0);
		run_kernel(d.stream, spin_10ms);
		uint64_t start = now(&d);

		/* another stream's copy does not wait for the kernel */
		moved(other, device, host, 4096);
		assert_true(now(&d) - start < MS);
		/* its own does: at the call, or at the sync */
		moved(d.stream, device, host, 4096);
		assert_true((now(&d) - start > 9 * MS) == table[i].blocks);
		assert_true(!!(cvb_gpu_caps(d.gpu)->flags & CVB_GPU_CAP_ASYNC_COPY) ==
			    !strstr(table[i].spec, "cc=on"));
		wait_for(d.stream);
		assert_in_range(now(&d) - start, 9 * MS, 11 * MS);
		cvb_gpu_close(d.gpu);
	}
}

static void test_events_and_streams(void **state)
{
	struct device d = open_device("emu:h100-tdx,cc=on,clock=virtual");
	struct cvb_gpu_stream *other;
	struct cvb_gpu_event *first, *last;
	int64_t ns;

	(void)state;
	assert_int_equal(cvb_gpu_stream_new(d.gpu, &other, NULL), 0);
	assert_int_equal(cvb_gpu_event_new(d.gpu, &first, NULL), 0);
	assert_int_equal(cvb_gpu_event_new(d.gpu, &last, NULL), 0);
	uint64_t start = now(&d);

	assert_int_equal(cvb_gpu_event_record(first, d.stream, NULL), 0);
	run_kernel(d.stream, spin_10ms);
	run_kernel(other, spin_10ms); /* kernels that use no memory run side by side */
	assert_int_equal(cvb_gpu_event_record(last, d.stream, NULL), 0);
	assert_int_equal(cvb_gpu_event_elapsed_ns(first, last, &ns, NULL), -EAGAIN);
	assert_int_equal(cvb_gpu_event_record(last, other, NULL), -EBUSY);
	assert_int_equal(cvb_gpu_event_wait(other, last, NULL), 0);
	run_kernel(other, spin_10ms); /* after both */
	wait_for(other);
	assert_in_range(now(&d) - start, 20 * MS, 21 * MS);
	assert_int_equal(cvb_gpu_event_elapsed_ns(first, last, &ns, NULL), 0);
	assert_in_range(ns, 10 * MS, 10 * MS + 50000);
	start = now(&d);
	assert_int_equal(cvb_gpu_event_sync(last, NULL), 0);
	assert_int_equal(now(&d), start); /* long past */
	cvb_gpu_close(d.gpu);
}

/* cc=off: copies of two directions at the same time, of one direction one after the other. */
static void test_engines(void **state)
{
	const size_t bytes = 64 << 20;
	uint64_t alone = 0;

	(void)state;
	for (int mode = 0; mode < 3; mode++) {
		struct device d = open_device("emu:h100-tdx,clock=virtual");
		struct cvb_gpu_stream *other;
		struct cvb_gpu_buf *host = buf(&d, CVB_GPU_HOST_PINNED, bytes);
		struct cvb_gpu_buf *device = buf(&d, CVB_GPU_DEVICE, bytes);

		assert_int_equal(cvb_gpu_stream_new(d.gpu, &other, NULL), 0);
		uint64_t start = now(&d);

		moved(d.stream, device, host, bytes);
		if (mode)
			moved(other, mode == 1 ? device : host, mode == 1 ? host : device, bytes);
		wait_for(d.stream);
		wait_for(other);
		uint64_t ns = now(&d) - start;

		alone = mode ? alone : ns;
		if (mode == 1)
			assert_in_range(ns, alone * 19 / 10, alone * 21 / 10);
		if (mode == 2)
			assert_in_range(ns, alone, alone * 12 / 10);
		cvb_gpu_close(d.gpu);
	}
}

/* ---- lanes and contexts ---- */

/* Several host threads of one context: their copies are one after the other. */
static void test_streams_of_one_context(void **state)
{
	struct lanes one = {.n = 1, .bytes = 16 << 20, .copies = 4, .one_context = true};
	struct lanes many = one;

	(void)state;
	many.n = 8;
	int64_t a = copy_in_lanes(&one, "emu:b300-tdx,cc=on,clock=virtual", NULL);
	int64_t b = copy_in_lanes(&many, "emu:b300-tdx,cc=on,clock=virtual", NULL);

	assert_in_range(b, 8 * a * 98 / 100, 8 * a * 102 / 100);
}

/* Contexts share by max N / (N + half), whatever the order of their starts. */
static void test_contexts_share(void **state)
{
	static const unsigned counts[] = {1, 2, 8, 24};
	const double max = 37498671524.0, half = 2.33;

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(counts); i++) {
		struct lanes l = {.kind = CVB_GPU_CONTEXT_PROCESS,
				  .n = counts[i],
				  .bytes = 256 << 20,
				  .copies = 2};
		int64_t ns = copy_in_lanes(&l, "emu:b300-tdx,cc=on,clock=virtual", NULL);
		double got = (double)l.bytes * l.copies * l.n / ((double)ns / 1e9);
		double want = max * counts[i] / (counts[i] + half);

		assert_true(fabs(got / want - 1) < 0.02);
	}
}

/* Also copies that share have noise: each its own, and no more than was asked for. */
static void test_shared_copies_have_noise(void **state)
{
	static const char *const specs[] = {"emu:b300-tdx,cc=on,clock=virtual",
					    "emu:b300-tdx,cc=on,clock=virtual,noise=5",
					    "emu:b300-tdx,cc=on,clock=virtual,noise=5,seed=2"};
	int64_t ns[3];

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(specs); i++) {
		struct lanes l = {
			.kind = CVB_GPU_CONTEXT_PROCESS, .n = 2, .bytes = 256 << 20, .copies = 1};

		ns[i] = copy_in_lanes(&l, specs[i], NULL);
		assert_true(ns[i] > 0);
	}
	for (size_t i = 1; i < CVB_ARRAY_LEN(specs); i++) {
		double off = fabs((double)ns[i] / (double)ns[0] - 1);

		/* the toll is 1 % of it, and has noise, too */
		assert_true(off > 0.002 && off < 0.05);
	}
	assert_int_not_equal(ns[1], ns[2]);
}

/* 32 contexts each way would take 76.0 GB/s; 74.16 GB/s are known to go. */
static void test_duplex_is_capped(void **state)
{
	struct lanes both = {.kind = CVB_GPU_CONTEXT_PROCESS,
			     .n = 64,
			     .bytes = 64 << 20,
			     .copies = 4,
			     .odd_out = true};
	struct lanes out = both;

	(void)state;
	out.n = 32;
	out.even_out = true;
	assert_true(copy_in_lanes(&both, "emu:b300-tdx,cc=on,clock=virtual", NULL) > 0);
	assert_true(copy_in_lanes(&out, "emu:b300-tdx,cc=on,clock=virtual", NULL) > 0);
	double slower = (double)both.end[1] / (double)out.end[1];

	assert_true(slower > 1.015 && slower < 1.035);
}

/* Calls take effect in the order of virtual time, not of the lanes' numbers. */
static int late_first_lane(void *arg, unsigned lane, struct cvb_err *err)
{
	struct lanes *l = arg;

	cvb_gpu_host_work(l->d.gpu, 100000 - 10000 * lane);
	return cvb_gpu_memset_async(l->stream[lane], l->device[0], 0, (int)lane + 1, 64, err);
}

static void test_lanes_take_turns(void **state)
{
	struct lanes l = {.d = open_device("emu:h100-tdx,clock=virtual"), .n = 4};
	struct cvb_gpu_buf *host = buf(&l.d, CVB_GPU_HOST_PINNED, 64);

	(void)state;
	l.device[0] = buf(&l.d, CVB_GPU_DEVICE, 64);
	for (unsigned i = 0; i < l.n; i++)
		assert_int_equal(cvb_gpu_stream_new(l.d.gpu, &l.stream[i], NULL), 0);
	assert_int_equal(cvb_gpu_parallel(l.d.gpu, l.n, late_first_lane, &l, NULL), 0);
	moved(l.d.stream, host, l.device[0], 64);
	wait_for(l.d.stream);
	assert_true(all_bytes(cvb_gpu_buf_host(host), 64, 1));
	cvb_gpu_close(l.d.gpu);
}

/* What is not published cannot be told. */
static void test_unknown_is_unsupported(void **state)
{
	struct lanes l = {.kind = CVB_GPU_CONTEXT_THREAD, .n = 2, .bytes = 1 << 20, .copies = 2};
	struct cvb_err err = {0};
	struct device d = open_device("emu:rtxpro6000-tdx,cc=on,clock=virtual");
	struct cvb_gpu_buf *a = buf(&d, CVB_GPU_DEVICE, 64);
	const struct cvb_gpu_launch empty = {.kernel = CVB_GPU_KERNEL_EMPTY};

	(void)state;
	assert_int_equal(copy_in_lanes(&l, "emu:h100-tdx,cc=on,clock=virtual", &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.frame[0].msg, "thread_contexts_h2d_max"));
	assert_non_null(strstr(err.frame[0].msg, "h100-tdx"));
	assert_int_equal(cvb_gpu_launch_async(d.stream, &empty, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.frame[0].msg, "launch"));
	assert_int_equal(cvb_gpu_memset_async(d.stream, a, 0, 0, 64, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.frame[0].msg, "d2d_fixed"));
	assert_non_null(strstr(err.frame[0].msg, "rtxpro6000-tdx"));
	cvb_gpu_close(d.gpu);
}

static int fail_in_lane(void *arg, unsigned lane, struct cvb_err *err)
{
	struct device *d = arg;

	cvb_gpu_host_work(d->gpu, 1000 * (100 - lane));
	return lane >= 3 ? cvb_err_set(err, -EIO, "lane %u", lane) : 0;
}

static int nest_in_lane(void *arg, unsigned lane, struct cvb_err *err)
{
	struct device *d = arg;

	(void)lane;
	return cvb_gpu_parallel(d->gpu, 2, fail_in_lane, d, err);
}

static void test_lanes_end(void **state)
{
	struct device d = open_device("emu:h100-tdx,clock=virtual");
	struct cvb_err err = {0};
	uint64_t start = now(&d);

	(void)state;
	assert_int_equal(cvb_gpu_parallel(d.gpu, 8, fail_in_lane, &d, &err), -EIO);
	assert_string_equal(err.frame[0].msg, "lane 3");
	assert_int_equal(now(&d) - start, 100000); /* the longest: lane 0 */
	assert_int_equal(cvb_gpu_parallel(d.gpu, 3, nest_in_lane, &d, &err), -EINVAL);
	assert_int_equal(cvb_gpu_parallel(d.gpu, 3, fail_in_lane, &d, &err), 0);
	cvb_gpu_close(d.gpu);
}

/* ---- life cycle ---- */

static void test_lifecycle(void **state)
{
	struct device d = open_device("emu:h100-tdx,cc=on,clock=virtual");
	struct cvb_gpu_context *c[17], *more;
	struct cvb_err err = {0};
	uint64_t start = now(&d);

	(void)state;
	assert_int_equal(start, 1114 * MS); /* the primary context */
	for (size_t i = 0; i < CVB_ARRAY_LEN(c); i++)
		assert_int_equal(cvb_gpu_context_new(d.gpu, CVB_GPU_CONTEXT_THREAD, &c[i], NULL),
				 0);
	assert_int_equal(now(&d) - start, 17 * 1114 * MS);
	assert_int_equal(cvb_gpu_context_new(d.gpu, CVB_GPU_CONTEXT_THREAD, &more, &err), -ENOSPC);
	start = now(&d);
	cvb_gpu_context_free(c[0]);
	assert_int_equal(now(&d) - start, 490 * MS);

	start = now(&d);
	struct cvb_gpu_buf *pinned = buf(&d, CVB_GPU_HOST_PINNED, 16 << 20);
	uint64_t pinned_ns = now(&d) - start;

	/* 16 MiB of pinned memory took 3.90 ms (GRAMSCHM) */
	assert_in_range(pinned_ns, 3600000, 4200000);
	start = now(&d);
	struct cvb_gpu_buf *device = buf(&d, CVB_GPU_DEVICE, 1 << 20);

	assert_int_equal(now(&d) - start, 72300);
	run_kernel(d.stream, (struct cvb_gpu_launch){
				     .kernel = CVB_GPU_KERNEL_FILL, .a = device, .bytes = 1 << 20});
	run_kernel(d.stream, spin_10ms);
	start = now(&d);
	cvb_gpu_free(device); /* its own work only, which is over soon */
	assert_in_range(now(&d) - start, 162000, 162000 + 20000);
	start = now(&d);
	cvb_gpu_free(pinned);
	assert_int_equal(now(&d) - start, 860107); /* 85000 + 16 MiB * 0.0462 */
	start = now(&d);
	cvb_gpu_free(buf(&d, CVB_GPU_HOST_PAGEABLE, 1 << 20));
	assert_int_equal(now(&d), start); /* not the driver's */
	assert_int_equal(cvb_gpu_alloc(d.gpu, CVB_GPU_DEVICE, (size_t)90 << 30, &device, &err),
			 -ENOMEM);
	cvb_gpu_close(d.gpu);
}

/* ---- kernels, graphs, managed memory, peers ---- */

static void test_graph_is_one_launch(void **state)
{
	struct device d = open_device("emu:h100-tdx,cc=off,clock=virtual");
	const struct cvb_gpu_launch spin = {.kernel = CVB_GPU_KERNEL_SPIN, .ns = 2000};
	struct cvb_gpu_graph *graph;
	uint64_t start = now(&d);

	(void)state;
	for (int i = 0; i < 100; i++)
		run_kernel(d.stream, spin);
	wait_for(d.stream);
	/* bound by the caller: 100 launches of 4.9 us, then the last kernel's way */
	assert_in_range(now(&d) - start, 490000, 500000);
	assert_int_equal(cvb_gpu_capture_begin(d.stream, NULL), 0);
	for (int i = 0; i < 100; i++)
		run_kernel(d.stream, spin);
	assert_int_equal(cvb_gpu_capture_end(d.stream, &graph, NULL), 0);
	start = now(&d);
	assert_int_equal(cvb_gpu_graph_launch(graph, d.stream, NULL), 0);
	assert_int_equal(now(&d) - start, 4900);
	wait_for(d.stream);
	/* launch + queue_delay + 100 * 2 us + wait */
	assert_int_equal(now(&d) - start, 4900 + 1600 + 200000 + 4000);
	cvb_gpu_close(d.gpu);
}

/* A launch costs more where its stream still works when it is through; kernels then queue. */
static void test_launch_behind_a_kernel(void **state)
{
	struct device d = open_device("emu:b200-tdx,cc=on,clock=virtual");
	struct cvb_gpu_stream *other;
	uint64_t start = now(&d);

	(void)state;
	assert_int_equal(cvb_gpu_stream_new(d.gpu, &other, NULL), 0);
	for (int i = 0; i < 10; i++)
		run_kernel(d.stream, (struct cvb_gpu_launch){.kernel = CVB_GPU_KERNEL_EMPTY});
	assert_int_equal(now(&d) - start, 10 * 15700);
	wait_for(d.stream);
	start = now(&d);
	run_kernel(d.stream, spin_10ms);
	assert_int_equal(now(&d) - start, 15700);
	run_kernel(other, spin_10ms); /* the stream counts, not the device */
	assert_int_equal(now(&d) - start, 2 * 15700);
	run_kernel(d.stream, spin_10ms);
	assert_int_equal(now(&d) - start, 2 * 15700 + 35000);
	wait_for(d.stream);
	/* launch, queue_delay, kernel, queue_gap, kernel, wait */
	assert_int_equal(now(&d) - start, 15700 + 7500 + 10 * MS + 1050 + 10 * MS + 20500);
	cvb_gpu_close(d.gpu);
}

static uint64_t managed_kernel_ns(const char *spec)
{
	const size_t bytes = (8 << 20) + 8;
	struct device d = open_device(spec);
	struct cvb_gpu_buf *m = buf(&d, CVB_GPU_MANAGED, bytes);
	uint64_t *word = cvb_gpu_buf_host(m), ns[2];

	for (size_t i = 0; i < bytes / 8; i++)
		word[i] = i;
	for (int again = 0; again < 2; again++) {
		const struct cvb_gpu_launch add = {
			.kernel = CVB_GPU_KERNEL_FILL, .a = m, .bytes = 4 << 20, .seed = 9};
		uint64_t start = now(&d);

		run_kernel(d.stream, add);
		wait_for(d.stream);
		ns[again] = now(&d) - start;
	}
	assert_true(ns[1] * 2 < ns[0]); /* it is there already */
	uint64_t start = now(&d);

	assert_int_equal(cvb_gpu_managed_touch(m, 0, bytes, NULL), 0);
	assert_true(now(&d) > start);
	start = now(&d);
	assert_int_equal(cvb_gpu_managed_touch(m, 0, bytes, NULL), 0);
	assert_int_equal(now(&d), start);
	for (size_t i = 0; i < bytes / 8; i++)
		assert_true(word[i] == (i < (4 << 20) / 8 ? cvb_gpu_pattern(9, i) : i));
	cvb_gpu_close(d.gpu);
	return ns[0];
}

static void test_managed(void **state)
{
	uint64_t off = managed_kernel_ns("emu:h100-tdx,cc=off,clock=virtual");
	uint64_t on = managed_kernel_ns("emu:h100-tdx,cc=on,clock=virtual");

	(void)state;
	assert_in_range(on, 25 * off, 36 * off); /* 35.7 times its migration */
}

static void test_peer(void **state)
{
	struct device d = open_device("emu:b300-tdx,cc=on,clock=virtual");
	const size_t bytes = (size_t)1 << 30;
	struct cvb_gpu *peer;
	struct cvb_gpu_buf *here = buf(&d, CVB_GPU_DEVICE, bytes), *there;
	struct cvb_gpu_buf *host = buf(&d, CVB_GPU_HOST_PINNED, 4096);

	(void)state;
	assert_int_equal(cvb_gpu_peer_open(d.gpu, &peer, NULL), 0);
	assert_int_equal(cvb_gpu_alloc(peer, CVB_GPU_DEVICE, bytes, &there, NULL), 0);
	run_kernel(d.stream,
		   (struct cvb_gpu_launch){
			   .kernel = CVB_GPU_KERNEL_FILL, .a = here, .bytes = bytes, .seed = 5});
	wait_for(d.stream);
	uint64_t start = now(&d);

	assert_int_equal(cvb_gpu_peer_copy_async(d.stream, there, 0, here, 0, bytes, NULL), 0);
	wait_for(d.stream);
	double per_s = (double)bytes / ((double)(now(&d) - start) / 1e9);

	assert_true(fabs(per_s / 510.4e9 - 1) < 0.02);
	assert_int_equal(cvb_gpu_memset_async(d.stream, here, 0, 0, bytes, NULL), 0);
	assert_int_equal(cvb_gpu_peer_copy_async(d.stream, here, 0, there, 0, bytes, NULL), 0);
	assert_int_equal(cvb_gpu_copy_async(d.stream, host, 0, here, 8 * 1000, 4096, NULL), 0);
	wait_for(d.stream);
	for (size_t i = 0; i < 512; i++)
		assert_true(((uint64_t *)cvb_gpu_buf_host(host))[i] ==
			    cvb_gpu_pattern(5, 1000 + i));
	cvb_gpu_close(d.gpu);
}

/* ---- bytes ---- */

static long resident_kib(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
	return u.ru_maxrss;
}

/* A copy of 4 GiB is true in every byte, and costs the pages that somebody touched. */
static void test_large_copies(void **state)
{
	const size_t bytes = (size_t)4 << 30;
	struct device d = open_device("emu:h100-tdx,cc=on,clock=virtual");
	struct cvb_gpu_buf *in = buf(&d, CVB_GPU_HOST_PINNED, bytes);
	struct cvb_gpu_buf *out = buf(&d, CVB_GPU_HOST_PAGEABLE, bytes);
	struct cvb_gpu_buf *device = buf(&d, CVB_GPU_DEVICE, bytes);
	uint8_t *sent = cvb_gpu_buf_host(in), *got = cvb_gpu_buf_host(out);
	long before = resident_kib();

	(void)state;
	for (size_t at = 0; at < bytes; at += 5 * CVB_MIB + 4093)
		sent[at] = (uint8_t)(1 + at % 251);
	got[0] = 77;
	got[4093] = 77; /* zeroes come over, too: of a page with data, and of one without */
	memset(got + 3 * 4096, 77, 3 * 4096);
	for (int again = 0; again < 2; again++) {
		moved(d.stream, device, in, bytes);
		moved(d.stream, out, device, bytes);
		wait_for(d.stream);
		for (size_t at = 0; at < bytes; at += 5 * CVB_MIB + 4093) {
			assert_int_equal(got[at], sent[at]);
			assert_int_equal(got[at + 1], 0);
		}
		assert_int_equal(got[4093], 0);
		assert_true(all_bytes(got + 3 * 4096, 3 * 4096, 0));
		/* again with other bytes, some gone */
		for (size_t at = 0; at < bytes; at += 5 * CVB_MIB + 4093)
			sent[at] = (uint8_t)(at % 3);
	}
	assert_in_range(resident_kib() - before, 0, 64 * 1024);
	cvb_gpu_close(d.gpu);
}

static double decode(enum cvb_gpu_type type, const void *p)
{
	double d = *(const double *)p;
	float f = *(const float *)p;

	if (type == CVB_GPU_FP64)
		return d;
	if (type == CVB_GPU_INT8)
		emu_int8_load(&d, p, 1);
	else if (type != CVB_GPU_FP32)
		emu_type_load(type, &f, p, 1);
	return type == CVB_GPU_INT8 ? d : (double)f;
}

/* Element i of p. */
static void encode(enum cvb_gpu_type type, void *p, size_t i, double v)
{
	uint8_t *at = (uint8_t *)p + i * cvb_gpu_type_bytes(type);
	float f = (float)v;

	if (type == CVB_GPU_FP64)
		memcpy(at, &v, sizeof(v));
	else if (type == CVB_GPU_INT8)
		emu_int8_store((int8_t *)at, &v, 1);
	else if (type == CVB_GPU_FP32)
		memcpy(at, &f, sizeof(f));
	else
		emu_type_store(type, at, &f, 1);
}

static double element_of(struct device *d, struct cvb_gpu_buf *host, struct cvb_gpu_buf *m,
			 enum cvb_gpu_type type, size_t i)
{
	size_t elem = cvb_gpu_type_bytes(type);

	assert_int_equal(cvb_gpu_copy_async(d->stream, host, 0, m, i * elem, elem, NULL), 0);
	wait_for(d->stream);
	return decode(type, cvb_gpu_buf_host(host));
}

/* A matrix of small whole numbers, repeated from a tile by copies within the device. */
static void tile(struct device *d, struct cvb_gpu_buf *host, struct cvb_gpu_buf *m,
		 enum cvb_gpu_type type, size_t elements, size_t period)
{
	size_t elem = cvb_gpu_type_bytes(type);

	for (size_t i = 0; i < period; i++)
		encode(type, cvb_gpu_buf_host(host), i, (double)(i % 7) - 3);
	moved(d->stream, m, host, period * elem);
	for (size_t have = period; have < elements;) {
		size_t n = cvb_min(have, elements - have);

		assert_int_equal(
			cvb_gpu_copy_async(d->stream, m, have * elem, m, 0, n * elem, NULL), 0);
		have += n;
	}
}

/* Large products: their time, and elements that are right, in every type. */
static void test_gemm_is_sampled(void **state)
{
	const size_t n = 8192, period = 1021;
	struct device d = open_device("emu:b200-tdx,cc=on,clock=virtual");
	struct cvb_gpu_buf *host = buf(&d, CVB_GPU_HOST_PINNED, 8192);

	(void)state;
	for (unsigned type = 0; type < CVB_GPU_TYPES; type++) {
		size_t bytes = n * n * cvb_gpu_type_bytes(type);
		double scale = type == CVB_GPU_INT8 || type == CVB_GPU_FP8 ? 1.0 / 256 : 1;
		struct cvb_gpu_gemm g = {.type = type,
					 .m = (uint32_t)n,
					 .n = (uint32_t)n,
					 .k = (uint32_t)n,
					 .alpha = scale,
					 .a = buf(&d, CVB_GPU_DEVICE, bytes),
					 .b = buf(&d, CVB_GPU_DEVICE, bytes),
					 .c = buf(&d, CVB_GPU_DEVICE, bytes)};

		tile(&d, host, g.a, type, n * n, period);
		tile(&d, host, g.b, type, n * n, period);
		wait_for(d.stream);
		assert_int_equal(cvb_gpu_gemm_async(d.stream, &g, NULL), 0);
		/* what it was made of may change afterwards */
		assert_int_equal(cvb_gpu_memset_async(d.stream, g.a, 0, 0, bytes, NULL), 0);
		cvb_gpu_free(g.b);
		for (size_t i = 0; i < 8; i++) {
			size_t at = i ? i * UINT64_C(0x9e3779b97f4a7c15) % (n * n) : n * n - 1;
			double want = 0, exact, got = element_of(&d, host, g.c, type, at);
			uint64_t code = 0;

			for (size_t k = 0; k < n; k++)
				want += ((double)((at / n * n + k) % period % 7) - 3) *
					((double)((k * n + at % n) % period % 7) - 3);
			/* whole numbers, summed without error; then rounded to the type */
			exact = want * scale;
			encode(type, &code, 0, exact);
			assert_true(got == decode(type, &code));
			assert_true(type == CVB_GPU_FP8 || type == CVB_GPU_INT8 ||
				    fabs(got - exact) <= fabs(exact) / 128);
		}
		cvb_gpu_free(g.a);
		cvb_gpu_free(g.c);
	}
	cvb_gpu_close(d.gpu);
}

/* Operations on operations, deeper than what is kept uncomputed. */
static void test_chains_of_kernels(void **state)
{
	const size_t words = 5000;
	struct device d = open_device("emu:h100-tdx,clock=virtual");
	struct cvb_gpu_buf *host = buf(&d, CVB_GPU_HOST_PINNED, words * 8);
	struct cvb_gpu_buf *a = buf(&d, CVB_GPU_DEVICE, words * 8);
	struct cvb_gpu_buf *b = buf(&d, CVB_GPU_DEVICE, words * 8);
	struct cvb_gpu_buf *sum = buf(&d, CVB_GPU_DEVICE, 8);
	double *x = cvb_gpu_buf_host(host);
	struct cvb_gpu_launch l = {.a = a, .b = b, .c = b, .bytes = words * 8, .scalar = 0.5};

	(void)state;
	for (size_t i = 0; i < words; i++)
		x[i] = (double)i;
	moved(d.stream, b, host, words * 8);
	l.kernel = CVB_GPU_KERNEL_TRIAD; /* a = 1.5 i */
	run_kernel(d.stream, l);
	l.kernel = CVB_GPU_KERNEL_ADD;
	for (int i = 0; i < 100; i++)
		run_kernel(d.stream, l);
	moved(d.stream, host, a, words * 8);
	wait_for(d.stream);
	for (size_t i = 0; i < words; i++)
		assert_true(x[i] == 101.5 * (double)i);

	l.kernel = CVB_GPU_KERNEL_FILL;
	l.seed = 3;
	run_kernel(d.stream, l);
	l.kernel = CVB_GPU_KERNEL_VERIFY;
	l.b = sum;
	run_kernel(d.stream, l);
	assert_int_equal(cvb_gpu_copy_async(d.stream, host, 0, sum, 0, 8, NULL), 0);
	assert_int_equal(*(uint64_t *)cvb_gpu_buf_host(host), 0);
	/* three bytes of two words */
	assert_int_equal(cvb_gpu_memset_async(d.stream, a, 30, 0x5a, 3, NULL), 0);
	run_kernel(d.stream, l);
	assert_int_equal(cvb_gpu_copy_async(d.stream, host, 0, sum, 0, 8, NULL), 0);
	assert_int_equal(*(uint64_t *)cvb_gpu_buf_host(host), 2);
	cvb_gpu_close(d.gpu);
}

static void test_description(void **state)
{
	struct device d = open_device("emu:h100-tdx,cc=on,clock=virtual,noise=1.5,seed=4");
	_cleanup_json_ json_t *doc = cvb_gpu_describe(d.gpu);
	const char *clock = NULL, *sku = NULL;
	int deterministic = 0;
	double noise = 0;

	(void)state;
	assert_int_equal(json_unpack(doc, "{s:s,s:s,s:b,s:F}", "clock", &clock, "sku", &sku,
				     "deterministic", &deterministic, "noise_ratio", &noise),
			 0);
	assert_string_equal(clock, "virtual");
	assert_string_equal(sku, "h100-tdx");
	assert_true(deterministic && noise == 0.015);
	assert_true(cvb_gpu_is_emulated(d.gpu) && cvb_gpu_is_deterministic(d.gpu));
	cvb_gpu_close(d.gpu);
}

static void test_specs(void **state)
{
	static const char *const bad[] = {
		"emu:h100-tdx,seed=1",
		"emu:h100-tdx,clock=wall,noise=1",
		"emu:h100-tdx,clock=virtual,noise=-1",
		"emu:h100-tdx,clock=virtual,noise=nan",
		"emu:h100-tdx,clock=virtual,noise=51",
		"emu:h100-tdx,clock=virtual,noise=1,noise=1",
		"emu:h100-tdx,clock=virtual,seed=",
		"emu:h100-tdx,clock=virtual,seed=-1",
		"emu:h100-tdx,clock=virtual,seed=99999999999999999999999",
		"emu:h100-tdx,clock=virtual,seed=1,seed=2",
		"emu:h100-tdx,clock=virtual,sede=1",
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
		struct cvb_err err = {0};

		assert_int_equal(cvb_gpu_spec_check(bad[i], &err), -EINVAL);
		assert_true(err.n > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_times),
		cmocka_unit_test(test_lanes_are_deterministic),
		cmocka_unit_test(test_noise),
		cmocka_unit_test(test_async_copies),
		cmocka_unit_test(test_events_and_streams),
		cmocka_unit_test(test_engines),
		cmocka_unit_test(test_streams_of_one_context),
		cmocka_unit_test(test_contexts_share),
		cmocka_unit_test(test_shared_copies_have_noise),
		cmocka_unit_test(test_duplex_is_capped),
		cmocka_unit_test(test_lanes_take_turns),
		cmocka_unit_test(test_unknown_is_unsupported),
		cmocka_unit_test(test_lanes_end),
		cmocka_unit_test(test_lifecycle),
		cmocka_unit_test(test_graph_is_one_launch),
		cmocka_unit_test(test_launch_behind_a_kernel),
		cmocka_unit_test(test_managed),
		cmocka_unit_test(test_peer),
		cmocka_unit_test(test_large_copies),
		cmocka_unit_test(test_gemm_is_sampled),
		cmocka_unit_test(test_chains_of_kernels),
		cmocka_unit_test(test_description),
		cmocka_unit_test(test_specs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
