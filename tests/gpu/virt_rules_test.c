/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must hold of every model in profiles/gpu, whatever its figures: time does not fall with
 * size, nothing is faster than the link, and confidential computing makes nothing faster.
 *
 * Pinned allocations are not here: measured ones cost less with confidential computing
 * (published_program_test.c).
 */
#include "fixture.h"

#include "gpu/sku.h"
#include "gpu/virt.h"

#define MAX_BYTES CVB_GIB
#define CLOCK_NS  1 /* the clock counts whole ns */

struct device {
	struct cvb_gpu *gpu;
	struct cvb_gpu_stream *stream;
	struct cvb_gpu_buf *host[2], *device[2]; /* pinned, pageable; two on the device */
	double link[2];				 /* bytes/s without confidential computing */
};

static struct device open_device(const char *sku, bool cc)
{
	_cleanup_free_ char *spec = cvb_strf("emu:%s,cc=%s,clock=virtual", sku, cc ? "on" : "off");
	struct device d = {0};
	struct cvb_sku *model = NULL;

	assert_int_equal(cvb_sku_load(sku, &model, NULL), 0);
	for (int dir = 0; dir < 2; dir++)
		d.link[dir] = model->v[0][CVB_SKU_PCIE + dir].value;
	cvb_sku_free(model);
	assert_int_equal(cvb_gpu_open(spec, &d.gpu, NULL), 0);
	assert_int_equal(cvb_gpu_stream_new(d.gpu, &d.stream, NULL), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(cvb_gpu_alloc(d.gpu,
					       i ? CVB_GPU_HOST_PAGEABLE : CVB_GPU_HOST_PINNED,
					       MAX_BYTES, &d.host[i], NULL),
				 0);
		assert_int_equal(
			cvb_gpu_alloc(d.gpu, CVB_GPU_DEVICE, MAX_BYTES, &d.device[i], NULL), 0);
	}
	return d;
}

static double now_ns(const struct device *d)
{
	const struct cvb_clock *c = cvb_gpu_clock(d->gpu);

	return (double)c->now_ns(c->ctx);
}

/* ---- one piece of work ---- */

enum work {
	PINNED_H2D,
	PINNED_D2H,
	PAGEABLE_H2D,
	PAGEABLE_D2H,
	LOCAL,
	MEMSET,
	TRIAD,
	SPIN,  /* `size` ns */
	EAGER, /* `size` launches of 1 us, then 5, 10 and 50 us */
	GRAPH, /* the same as a graph */
	WORKS,
};

static const char *const work_text[] = {"pinned h2d", "pinned d2h", "pageable h2d", "pageable d2h",
					"copy",	      "memset",	    "triad",	    "spin",
					"launches",   "graph"};

static int spin(struct device *d, uint64_t ns, struct cvb_err *err)
{
	const struct cvb_gpu_launch l = {.kernel = CVB_GPU_KERNEL_SPIN, .ns = ns};

	return cvb_gpu_launch_async(d->stream, &l, err);
}

static int launches(struct device *d, size_t n, struct cvb_err *err)
{
	static const uint64_t ns[] = {1000, 5000, 10000, 50000};
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = spin(d, ns[i * 4 / n], err);
	return r;
}

static int graph(struct device *d, size_t n, struct cvb_err *err)
{
	struct cvb_gpu_graph *g = NULL;
	int r = cvb_gpu_capture_begin(d->stream, err);

	if (r < 0)
		return r;
	r = launches(d, n, err);
	int ended = cvb_gpu_capture_end(d->stream, &g, r < 0 ? NULL : err);

	r = r < 0 ? r : ended;
	if (r == 0)
		r = cvb_gpu_graph_launch(g, d->stream, err);
	return r;
}

static int begin(struct device *d, enum work work, size_t size, struct cvb_err *err)
{
	struct cvb_gpu_buf *host = d->host[work >= PAGEABLE_H2D];
	bool in = work == PINNED_H2D || work == PAGEABLE_H2D;
	const struct cvb_gpu_launch triad = {.kernel = CVB_GPU_KERNEL_TRIAD,
					     .a = d->device[0],
					     .b = d->device[1],
					     .c = d->device[1],
					     .bytes = size};

	switch (work) {
	case LOCAL:
		return cvb_gpu_copy_async(d->stream, d->device[0], 0, d->device[1], 0, size, err);
	case MEMSET:
		return cvb_gpu_memset_async(d->stream, d->device[0], 0, 0, size, err);
	case TRIAD:
		return cvb_gpu_launch_async(d->stream, &triad, err);
	case SPIN:
		return spin(d, size, err);
	case EAGER:
		return launches(d, size, err);
	case GRAPH:
		return graph(d, size, err);
	default:
		return cvb_gpu_copy_async(d->stream, in ? d->device[0] : host, 0,
					  in ? host : d->device[0], 0, size, err);
	}
}

/* ns of `n` of it and the wait for all; NAN: the model does not say */
static double work_ns(struct device *d, enum work work, size_t size, int n)
{
	struct cvb_err err = {0};
	double start = now_ns(d);
	int r = 0;

	for (int i = 0; r == 0 && i < n; i++)
		r = begin(d, work, size, &err);
	assert_true(r == 0 || r == -EOPNOTSUPP);
	if (r == 0)
		r = cvb_gpu_sync(d->stream, &err);
	return r < 0 ? NAN : now_ns(d) - start;
}

/* Every power of two, what is around it, and between; words only. */
static size_t size_of(unsigned i)
{
	static const double parts[] = {-8, 0, 8, 1.3, 1.7};
	double part = parts[i % 5];
	double power = (double)((size_t)64 << i / 5);

	return (size_t)(part > 0 && part < 8 ? power * part : power + part) / 8 * 8;
}

static size_t count_of(enum work work, unsigned i)
{
	return work >= EAGER ? 4 * (i + 1) : size_of(i);
}

static void check_work(const char *sku, struct device d[2], enum work work, int n, unsigned *known)
{
	double before[2] = {0, 0};

	for (unsigned i = 0; i < (work >= EAGER ? 40 : 5 * 24); i++) {
		size_t size = count_of(work, i);
		double ns[2];

		for (int cc = 0; cc < 2; cc++) {
			ns[cc] = work_ns(&d[cc], work, size, n);
			if (isnan(ns[cc]))
				continue;
			if (ns[cc] < before[cc] - CLOCK_NS)
				fail_msg("%s cc=%d: %d x %s of %zu in %.0f ns, less in %.0f", sku,
					 cc, n, work_text[work], size, ns[cc], before[cc]);
			before[cc] = ns[cc];
			if (work < LOCAL)
				assert_true((double)size * n / ns[cc] * 1e9 <=
					    d[cc].link[work % 2]);
			++*known;
		}
		if (ns[1] < ns[0] - CLOCK_NS)
			fail_msg("%s: %d x %s of %zu: %.0f ns with cc=on, %.0f ns with cc=off", sku,
				 n, work_text[work], size, ns[1], ns[0]);
	}
}

static void test_time_and_size(void **state)
{
	const char *const *names = cvb_sku_names();

	(void)state;
	for (size_t i = 0; names[i]; i++) {
		struct device d[2] = {open_device(names[i], false), open_device(names[i], true)};

		for (unsigned work = 0; work < WORKS; work++) {
			unsigned known = 0;

			for (int n = 1; n <= 16; n *= 4)
				check_work(names[i], d, (enum work)work, n, &known);
			print_message("%-16s %-13s %u times\n", names[i], work_text[work], known);
			/* each model has these */
			assert_true(known > 0 || work >= PAGEABLE_H2D);
		}
		cvb_gpu_close(d[0].gpu);
		cvb_gpu_close(d[1].gpu);
	}
}

/* ---- contexts ---- */

struct lanes {
	struct cvb_gpu *gpu;
	struct cvb_gpu_stream *stream[32];
	struct cvb_gpu_buf *host[32], *device[32];
	enum cvb_gpu_dir dir;
	size_t bytes;
};

static int lane_copy(void *arg, unsigned lane, struct cvb_err *err)
{
	struct lanes *l = arg;
	bool in = l->dir == CVB_GPU_H2D;

	return cvb_gpu_copy_async(l->stream[lane], in ? l->device[lane] : l->host[lane], 0,
				  in ? l->host[lane] : l->device[lane], 0, l->bytes, err);
}

static int new_lane(struct lanes *l, unsigned i, enum cvb_gpu_context_kind kind)
{
	struct cvb_gpu_context *c = NULL;
	int r = cvb_gpu_context_new(l->gpu, kind, &c, NULL);

	if (r < 0)
		return r;
	assert_int_equal(cvb_gpu_stream_new_in(c, &l->stream[i], NULL), 0);
	assert_int_equal(cvb_gpu_alloc_in(c, CVB_GPU_HOST_PINNED, l->bytes, &l->host[i], NULL), 0);
	assert_int_equal(cvb_gpu_alloc_in(c, CVB_GPU_DEVICE, l->bytes, &l->device[i], NULL), 0);
	return 0;
}

/* More contexts are together no slower, each of them no faster, and all no faster than the link. */
static void check_contexts(const char *sku, enum cvb_gpu_context_kind kind, enum cvb_gpu_dir dir)
{
	struct device d = open_device(sku, true);
	struct lanes l = {.gpu = d.gpu, .dir = dir, .bytes = 64 * CVB_MIB};
	double before = 0, each_before = INFINITY;

	for (unsigned n = 1; n <= 32; n++) {
		struct cvb_err err = {0};

		if (new_lane(&l, n - 1, kind) < 0)
			break; /* no more of them */
		double start = now_ns(&d);
		int r = cvb_gpu_parallel(d.gpu, n, lane_copy, &l, &err);

		assert_true(r == 0 || r == -EOPNOTSUPP);
		if (r < 0)
			break;
		double per_s = (double)l.bytes * n / (now_ns(&d) - start) * 1e9;

		assert_true(per_s >= before && per_s <= d.link[dir]);
		assert_true(per_s / n <= each_before * 1.0001);
		before = per_s;
		each_before = per_s / n;
	}
	assert_true(before > 0);
	cvb_gpu_close(d.gpu);
}

static void test_contexts(void **state)
{
	const char *const *names = cvb_sku_names();

	(void)state;
	for (size_t i = 0; names[i]; i++)
		for (int dir = 0; dir < 2; dir++) {
			check_contexts(names[i], CVB_GPU_CONTEXT_THREAD, (enum cvb_gpu_dir)dir);
			check_contexts(names[i], CVB_GPU_CONTEXT_PROCESS, (enum cvb_gpu_dir)dir);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_time_and_size),
		cmocka_unit_test(test_contexts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
