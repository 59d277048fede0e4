/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual clock against published measurements of GPUs in confidential VMs: one row each, with
 * what was published, what the emulator says, and how far apart they may be.
 *
 * Sources: "IS" Yang et al., ISPASS 2025, raw data; "SB" Yin and Wang, The Serialized Bridge, arXiv
 * 2606.23969v1; "TF" Tinfoil, How does NVIDIA CC impact inference and training?, 2026-06-23; "B2"
 * Asad and Grunseid, arXiv 2608.26575v2, read in digests.  Where a parameter was fitted to a row,
 * the row checks the fit; published_program_test.c has programs that nothing was fitted to.
 */
#include "ispass25.h"
#include "published.h"

/* ---- copies, one at a time ---- */

enum {
	TOGETHER = 20,
};

/* ns of one of `n` copies that are submitted together, then waited for. */
static double copy_ns(const char *sku, bool cc, enum cvb_gpu_dir dir, enum cvb_gpu_mem mem,
		      size_t bytes, int n)
{
	struct device d = open_device(sku, cc);
	struct cvb_gpu_buf *host = buf(&d, mem, bytes), *device = buf(&d, CVB_GPU_DEVICE, bytes);
	bool in = dir == CVB_GPU_H2D;
	double start = now_ns(&d);

	for (int i = 0; i < n; i++)
		assert_int_equal(cvb_gpu_copy_async(d.stream, in ? device : host, 0,
						    in ? host : device, 0, bytes, NULL),
				 0);
	wait_for(d.stream);
	double ns = (now_ns(&d) - start) / n;

	cvb_gpu_close(d.gpu);
	return ns;
}

/* Every size, as cuda-samples does it (many at once), and with a wait after each. */
static void test_h100_sizes(void **state)
{
	(void)state;
	begin_table();
	for (unsigned path = 0; path < 4; path++) {
		enum cvb_gpu_dir dir = path % 2 ? CVB_GPU_D2H : CVB_GPU_H2D;
		enum cvb_gpu_mem mem = path < 2 ? CVB_GPU_HOST_PINNED : CVB_GPU_HOST_PAGEABLE;

		for (unsigned i = 0; i < 2 * ISPASS25_SIZES; i++) {
			size_t bytes = (size_t)64 << i / 2;
			bool cc = i % 2;
			double us = (double)bytes / ispass25_gb_per_s[path][cc][i / 2] / 1e3;

			for (int n = 1; n <= TOGETHER; n += TOGETHER - 1) {
				_cleanup_free_ char *what =
					cvb_strf("h100-tdx %zu B %s %s cc=%s%s", bytes,
						 cvb_gpu_mem_text(mem), cvb_gpu_dir_text(dir),
						 cc ? "on" : "off", n > 1 ? " queued" : "");

				row("IS", what, us,
				    copy_ns("h100-tdx", cc, dir, mem, bytes, n) / 1e3, "us", 0.10);
			}
		}
	}
	end_table(4 * 2 * ISPASS25_SIZES * 2);
}

static double bandwidth(const char *sku, bool cc, enum cvb_gpu_dir dir, enum cvb_gpu_mem mem,
			size_t bytes)
{
	return (double)bytes / copy_ns(sku, cc, dir, mem, bytes, 1) * 1e9 / GB;
}

static void test_single_context_bandwidth(void **state)
{
	static const struct {
		const char *source, *sku;
		bool cc;
		enum cvb_gpu_dir dir;
		enum cvb_gpu_mem mem;
		size_t bytes;
		double gb_per_s;
	} table[] = {
		{"SB", "b300-tdx", false, CVB_GPU_H2D, CVB_GPU_HOST_PINNED, CVB_GIB, 55.48},
		{"SB", "b300-tdx", true, CVB_GPU_H2D, CVB_GPU_HOST_PINNED, CVB_GIB, 11.26},
		{"SB", "b300-tdx", false, CVB_GPU_D2H, CVB_GPU_HOST_PINNED, CVB_GIB, 57.38},
		{"SB", "b300-tdx", true, CVB_GPU_D2H, CVB_GPU_HOST_PINNED, CVB_GIB, 12.08},
		{"TF", "b300-tdx", false, CVB_GPU_H2D, CVB_GPU_HOST_PINNED, CVB_GIB, 55.7},
		{"TF", "b300-tdx", false, CVB_GPU_H2D, CVB_GPU_HOST_PAGEABLE, CVB_GIB, 19.2},
		{"TF", "b300-tdx", true, CVB_GPU_H2D, CVB_GPU_HOST_PAGEABLE, CVB_GIB, 15.0},
		{"SB", "rtxpro6000-tdx", false, CVB_GPU_H2D, CVB_GPU_HOST_PINNED, CVB_GIB, 56.6},
		{"SB", "rtxpro6000-tdx", true, CVB_GPU_H2D, CVB_GPU_HOST_PINNED, CVB_GIB, 11.6},
		{"SB", "h200-tdx", false, CVB_GPU_H2D, CVB_GPU_HOST_PINNED, CVB_GIB, 55.32},
		{"SB", "h200-tdx", true, CVB_GPU_H2D, CVB_GPU_HOST_PINNED, CVB_GIB, 10.03},
		{"SB", "h200-tdx", false, CVB_GPU_D2H, CVB_GPU_HOST_PINNED, CVB_GIB, 55.14},
		{"SB", "h200-tdx", true, CVB_GPU_D2H, CVB_GPU_HOST_PINNED, CVB_GIB, 10.35},
		{"B2", "b200-tdx", false, CVB_GPU_H2D, CVB_GPU_HOST_PINNED, CVB_GIB, 51.6},
		{"B2", "b200-tdx", true, CVB_GPU_H2D, CVB_GPU_HOST_PINNED, 1000000, 7.21},
		{"B2", "b200-tdx", true, CVB_GPU_H2D, CVB_GPU_HOST_PINNED, 16 * CVB_MIB, 9.4},
		{"B2", "b200-tdx", true, CVB_GPU_H2D, CVB_GPU_HOST_PINNED, 64 * CVB_MIB, 9.6},
	};

	(void)state;
	begin_table();
	for (size_t i = 0; i < CVB_ARRAY_LEN(table); i++) {
		_cleanup_free_ char *what =
			cvb_strf("%s %zu B %s %s cc=%s", table[i].sku, table[i].bytes,
				 cvb_gpu_mem_text(table[i].mem), cvb_gpu_dir_text(table[i].dir),
				 table[i].cc ? "on" : "off");

		row(table[i].source, what, table[i].gb_per_s,
		    bandwidth(table[i].sku, table[i].cc, table[i].dir, table[i].mem,
			      table[i].bytes),
		    "GB/s", 0.05);
	}
	/* "a fixed cost of 3 us to 6 us up to 64 KB": the smallest copies take no more */
	for (size_t bytes = 64; bytes <= 16384; bytes *= 16) {
		_cleanup_free_ char *what = cvb_strf("b200-tdx %zu B pinned h2d cc=on", bytes);

		row("B2", what, 4.5,
		    copy_ns("b200-tdx", true, CVB_GPU_H2D, CVB_GPU_HOST_PINNED, bytes, 1) / 1e3,
		    "us", 1.5 / 4.5);
	}
	end_table(CVB_ARRAY_LEN(table) + 3);
}

/* ---- streams and contexts ---- */

enum shape {
	ONE_CONTEXT, /* a stream for each lane */
	THREADS,     /* a context for each lane */
	PROCESSES,
};

struct lanes {
	struct device d;
	struct cvb_gpu_stream *stream[32];
	struct cvb_gpu_buf *host[32], *device[32];
	enum cvb_gpu_dir dir;
	size_t bytes;
	int copies;
};

static int lane_copies(void *arg, unsigned lane, struct cvb_err *err)
{
	struct lanes *l = arg;
	bool in = l->dir == CVB_GPU_H2D;
	int r = 0;

	for (int i = 0; r == 0 && i < l->copies; i++)
		r = cvb_gpu_copy_async(l->stream[lane], in ? l->device[lane] : l->host[lane], 0,
				       in ? l->host[lane] : l->device[lane], 0, l->bytes, err);
	return r < 0 ? r : cvb_gpu_sync(l->stream[lane], err);
}

static void new_lane(struct lanes *l, unsigned i, enum shape shape)
{
	struct cvb_gpu_context *c = NULL;

	if (shape == ONE_CONTEXT) {
		assert_int_equal(cvb_gpu_stream_new(l->d.gpu, &l->stream[i], NULL), 0);
		l->host[i] = buf(&l->d, CVB_GPU_HOST_PINNED, l->bytes);
		l->device[i] = buf(&l->d, CVB_GPU_DEVICE, l->bytes);
		return;
	}
	assert_int_equal(cvb_gpu_context_new(l->d.gpu,
					     shape == THREADS ? CVB_GPU_CONTEXT_THREAD
							      : CVB_GPU_CONTEXT_PROCESS,
					     &c, NULL),
			 0);
	assert_int_equal(cvb_gpu_stream_new_in(c, &l->stream[i], NULL), 0);
	assert_int_equal(cvb_gpu_alloc_in(c, CVB_GPU_HOST_PINNED, l->bytes, &l->host[i], NULL), 0);
	assert_int_equal(cvb_gpu_alloc_in(c, CVB_GPU_DEVICE, l->bytes, &l->device[i], NULL), 0);
}

/* ns that n host threads take for `copies` copies each. */
static double lanes_ns(const char *sku, enum shape shape, enum cvb_gpu_dir dir, unsigned n,
		       size_t bytes, int copies)
{
	struct lanes l = {
		.d = open_device(sku, true), .dir = dir, .bytes = bytes, .copies = copies};

	for (unsigned i = 0; i < n; i++)
		new_lane(&l, i, shape);
	double start = now_ns(&l.d);

	assert_int_equal(cvb_gpu_parallel(l.d.gpu, n, lane_copies, &l, NULL), 0);
	double ns = now_ns(&l.d) - start;

	cvb_gpu_close(l.d.gpu);
	return ns;
}

static double lanes_gb_per_s(const char *sku, enum shape shape, enum cvb_gpu_dir dir, unsigned n)
{
	return n * 4.0 * 256 * (double)CVB_MIB / lanes_ns(sku, shape, dir, n, 256 * CVB_MIB, 4) *
	       1e9 / GB;
}

static void test_streams_and_contexts(void **state)
{
	static const struct {
		const char *source, *sku;
		enum shape shape;
		enum cvb_gpu_dir dir;
		unsigned n;
		double gb_per_s;
	} table[] = {
		{"SB", "rtxpro6000-tdx", THREADS, CVB_GPU_H2D, 1, 5},
		{"SB", "rtxpro6000-tdx", THREADS, CVB_GPU_H2D, 24, 35},
		{"SB", "rtxpro6000-tdx", PROCESSES, CVB_GPU_H2D, 1, 10},
		{"SB", "rtxpro6000-tdx", PROCESSES, CVB_GPU_H2D, 24, 35},
		{"SB", "b300-tdx", PROCESSES, CVB_GPU_H2D, 1, 11.26},
		{"SB", "b300-tdx", PROCESSES, CVB_GPU_H2D, 24, 34.18},
		{"SB", "b300-tdx", PROCESSES, CVB_GPU_D2H, 1, 12.08},
		{"SB", "b300-tdx", PROCESSES, CVB_GPU_D2H, 24, 39.98},
	};

	(void)state;
	begin_table();
	for (size_t i = 0; i < CVB_ARRAY_LEN(table); i++) {
		_cleanup_free_ char *what =
			cvb_strf("%s %u %s %s", table[i].sku, table[i].n,
				 table[i].shape == THREADS ? "contexts of a process" : "processes",
				 cvb_gpu_dir_text(table[i].dir));

		row(table[i].source, what, table[i].gb_per_s,
		    lanes_gb_per_s(table[i].sku, table[i].shape, table[i].dir, table[i].n), "GB/s",
		    0.05);
	}
	/* streams of one context do not help */
	for (unsigned n = 1; n <= 16; n *= 2) {
		_cleanup_free_ char *what = cvb_strf("rtxpro6000-tdx %u streams h2d", n);

		row("SB", what, 4.95, lanes_gb_per_s("rtxpro6000-tdx", ONE_CONTEXT, CVB_GPU_H2D, n),
		    "GB/s", 0.05);
	}
	row("SB", "rtxpro6000-tdx 32 B d2h, 1 stream, each", 40,
	    lanes_ns("rtxpro6000-tdx", ONE_CONTEXT, CVB_GPU_D2H, 1, 32, 64) / 64e3, "us", 0.05);
	row("SB", "rtxpro6000-tdx 32 B d2h, 16 streams, each", 39,
	    lanes_ns("rtxpro6000-tdx", ONE_CONTEXT, CVB_GPU_D2H, 16, 32, 4) / 64e3, "us", 0.05);
	row("SB", "h200-tdx 32 B d2h, 1 stream, each", 35,
	    lanes_ns("h200-tdx", ONE_CONTEXT, CVB_GPU_D2H, 1, 32, 64) / 64e3, "us", 0.05);
	row("SB", "h200-tdx 32 B d2h, 16 streams, each", 34,
	    lanes_ns("h200-tdx", ONE_CONTEXT, CVB_GPU_D2H, 16, 32, 4) / 64e3, "us", 0.05);
	end_table(CVB_ARRAY_LEN(table) + 9);
}

/* Round after round over the streams, all from one thread; cc=off. */
static void test_small_copies_of_many_streams(void **state)
{
	struct device d = open_device("rtxpro6000-tdx", false);
	struct cvb_gpu_buf *host = buf(&d, CVB_GPU_HOST_PINNED, 32 * 16);
	struct cvb_gpu_buf *device = buf(&d, CVB_GPU_DEVICE, 32 * 16);
	struct cvb_gpu_stream *stream[16];
	double start;

	(void)state;
	begin_table();
	row("SB", "rtxpro6000-tdx 32 B d2h cc=off, 1 stream, each", 17,
	    copy_ns("rtxpro6000-tdx", false, CVB_GPU_D2H, CVB_GPU_HOST_PINNED, 32, 1) / 1e3, "us",
	    0.05);
	for (size_t i = 0; i < 16; i++)
		assert_int_equal(cvb_gpu_stream_new(d.gpu, &stream[i], NULL), 0);
	start = now_ns(&d);
	for (size_t i = 0; i < 160; i++)
		assert_int_equal(cvb_gpu_copy_async(stream[i % 16], host, i % 16 * 32, device,
						    i % 16 * 32, 32, NULL),
				 0);
	for (size_t i = 0; i < 16; i++)
		wait_for(stream[i]);
	row("SB", "rtxpro6000-tdx 32 B d2h cc=off, 16 streams, each", 13,
	    (now_ns(&d) - start) / 160e3, "us", 0.05);
	cvb_gpu_close(d.gpu);
	end_table(2);
}

/* ---- launches and graphs ---- */

static void launch(const struct device *d, enum cvb_gpu_kernel kernel, double us)
{
	const struct cvb_gpu_launch l = {.kernel = kernel, .ns = (uint64_t)(us * 1e3)};

	assert_int_equal(cvb_gpu_launch_async(d->stream, &l, NULL), 0);
}

/* us of one launch call */
static double call_us(const char *sku, bool cc)
{
	struct device d = open_device(sku, cc);
	double start = now_ns(&d);

	launch(&d, CVB_GPU_KERNEL_EMPTY, 0);
	double us = (now_ns(&d) - start) / 1e3;

	cvb_gpu_close(d.gpu);
	return us;
}

/* us of each of 500 launches that are submitted together */
static double pipelined_us(const char *sku, bool cc)
{
	struct device d = open_device(sku, cc);
	double start = now_ns(&d);

	for (int i = 0; i < 500; i++)
		launch(&d, CVB_GPU_KERNEL_EMPTY, 0);
	wait_for(d.stream);
	double us = (now_ns(&d) - start) / 500e3;

	cvb_gpu_close(d.gpu);
	return us;
}

static double launch_and_wait_us(const char *sku, bool cc)
{
	struct device d = open_device(sku, cc);
	double start = now_ns(&d);

	for (int i = 0; i < 10; i++) {
		launch(&d, CVB_GPU_KERNEL_EMPTY, 0);
		wait_for(d.stream);
	}
	double us = (now_ns(&d) - start) / 10e3;

	cvb_gpu_close(d.gpu);
	return us;
}

static double idle_sync_us(const char *sku, bool cc)
{
	struct device d = open_device(sku, cc);
	double start = now_ns(&d);

	wait_for(d.stream);
	double us = (now_ns(&d) - start) / 1e3;

	cvb_gpu_close(d.gpu);
	return us;
}

static void test_launches(void **state)
{
	(void)state;
	begin_table();
	row("IS", "h100-tdx launch cc=off", 4.90, call_us("h100-tdx", false), "us", 0.10);
	row("IS", "h100-tdx launch cc=on", 9.88, call_us("h100-tdx", true), "us", 0.10);
	row("IS", "h100-tdx launch queued cc=off", 4.90, pipelined_us("h100-tdx", false), "us",
	    0.10);
	row("IS", "h100-tdx launch queued cc=on", 9.88, pipelined_us("h100-tdx", true), "us", 0.10);
	row("B2", "b200-tdx launch cc=off", 3.45, call_us("b200-tdx", false), "us", 0.10);
	row("B2", "b200-tdx launch cc=on", 15.7, call_us("b200-tdx", true), "us", 0.10);
	row("B2", "b200-tdx launch queued cc=off", 3.45, pipelined_us("b200-tdx", false), "us",
	    0.10);
	row("B2", "b200-tdx launch queued cc=on", 15.7, pipelined_us("b200-tdx", true), "us", 0.10);
	row("B2", "b200-tdx sync alone cc=off", 1.62, idle_sync_us("b200-tdx", false), "us", 0.10);
	row("B2", "b200-tdx sync alone cc=on", 1.67, idle_sync_us("b200-tdx", true), "us", 0.10);
	row("TF", "b300-tdx launch queued cc=off", 7.4, pipelined_us("b300-tdx", false), "us",
	    0.10);
	row("TF", "b300-tdx launch queued cc=on", 26, pipelined_us("b300-tdx", true), "us", 0.10);
	row("TF", "b300-tdx launch and wait cc=off", 14, launch_and_wait_us("b300-tdx", false),
	    "us", 0.10);
	row("TF", "b300-tdx launch and wait cc=on", 55, launch_and_wait_us("b300-tdx", true), "us",
	    0.10);
	row("TF", "h200-tdx launch queued, on over off", 2.0,
	    pipelined_us("h200-tdx", true) / pipelined_us("h200-tdx", false), "", 0.10);
	row("TF", "h200-tdx launch and wait, on over off", 2.6,
	    launch_and_wait_us("h200-tdx", true) / launch_and_wait_us("h200-tdx", false), "", 0.10);
	end_table(16);
}

/* us of the caller for each launch behind a kernel of 0.1 s; us between two of its kernels */
static void behind_a_kernel(bool cc, double *ret_call, double *ret_gap)
{
	struct device d = open_device("h100-tdx", cc);
	struct cvb_gpu_event *event[2];
	int64_t ns;

	for (size_t i = 0; i < 2; i++)
		assert_int_equal(cvb_gpu_event_new(d.gpu, &event[i], NULL), 0);
	launch(&d, CVB_GPU_KERNEL_SPIN, 1e5);
	assert_int_equal(cvb_gpu_event_record(event[0], d.stream, NULL), 0);
	double start = now_ns(&d);

	for (int i = 0; i < 10; i++)
		launch(&d, CVB_GPU_KERNEL_SPIN, 1e5);
	*ret_call = (now_ns(&d) - start) / 10e3;
	assert_int_equal(cvb_gpu_event_record(event[1], d.stream, NULL), 0);
	wait_for(d.stream);
	assert_int_equal(cvb_gpu_event_elapsed_ns(event[0], event[1], &ns, NULL), 0);
	*ret_gap = ((double)ns / 1e3 - 10e5) / 10;
	cvb_gpu_close(d.gpu);
}

static void test_launches_behind_a_kernel(void **state)
{
	double call[2], gap[2];

	(void)state;
	for (int cc = 0; cc < 2; cc++)
		behind_a_kernel(cc, &call[cc], &gap[cc]);
	begin_table();
	row("IS", "h100-tdx launch behind a kernel cc=off", 4.9, call[0], "us", 0.10);
	row("IS", "h100-tdx launch behind a kernel cc=on", 9.87, call[1], "us", 0.10);
	row("IS", "h100-tdx from kernel to kernel cc=off", 1.09, gap[0], "us", 0.10);
	row("IS", "h100-tdx from kernel to kernel cc=on", 1.34, gap[1], "us", 0.10);
	end_table(4);
}

/* ms of 96 000 products of about 73.2 us as one graph */
static double chain_ms(bool cc)
{
	struct device d = open_device("b300-tdx", cc);
	struct cvb_gpu_graph *graph;

	assert_int_equal(cvb_gpu_capture_begin(d.stream, NULL), 0);
	for (int i = 0; i < 96000; i++)
		launch(&d, CVB_GPU_KERNEL_SPIN, 7029490.0 / 96000);
	assert_int_equal(cvb_gpu_capture_end(d.stream, &graph, NULL), 0);
	double start = now_ns(&d);

	assert_int_equal(cvb_gpu_graph_launch(graph, d.stream, NULL), 0);
	wait_for(d.stream);
	double ms = (now_ns(&d) - start) / 1e6;

	cvb_gpu_close(d.gpu);
	return ms;
}

static void test_long_graph(void **state)
{
	double off = chain_ms(false), on = chain_ms(true);

	(void)state;
	begin_table();
	row("SB", "b300-tdx graph of 96000 products cc=off", 7029.49, off, "ms", 0.001);
	row("SB", "b300-tdx graph of 96000 products cc=on", 7037.80, on, "ms", 0.001);
	row("SB", "b300-tdx graph of 96000 products, on less off", 8.31, on - off, "ms", 0.05);
	end_table(3);
}

/* A decode step of 181 kernels; as one graph, or each by itself. */
static double step_us(bool cc, bool as_graph)
{
	/* so long that the graph takes 2500 us without confidential computing */
	const double kernel_us = (2500 - 3.45 - 1.6 - 4.0) / 181;
	struct device d = open_device("b200-tdx", cc);
	struct cvb_gpu_graph *graph = NULL;

	if (as_graph)
		assert_int_equal(cvb_gpu_capture_begin(d.stream, NULL), 0);
	double start = now_ns(&d);

	for (int i = 0; i < 181; i++)
		launch(&d, CVB_GPU_KERNEL_SPIN, kernel_us);
	if (as_graph) {
		assert_int_equal(cvb_gpu_capture_end(d.stream, &graph, NULL), 0);
		assert_int_equal(cvb_gpu_graph_launch(graph, d.stream, NULL), 0);
	}
	wait_for(d.stream);
	double us = (now_ns(&d) - start) / 1e3;

	cvb_gpu_close(d.gpu);
	return us;
}

static void test_decode_step(void **state)
{
	(void)state;
	begin_table();
	row("B2", "b200-tdx 181 kernels cc=off", 2644, step_us(false, false), "us", 0.10);
	row("B2", "b200-tdx 181 kernels cc=on", 6358, step_us(true, false), "us", 0.10);
	row("B2", "b200-tdx 181 kernels, on over off", 2.41,
	    step_us(true, false) / step_us(false, false), "", 0.10);
	row("B2", "b200-tdx graph of 181 kernels cc=off", 2500, step_us(false, true), "us", 0.02);
	row("B2", "b200-tdx graph of 181 kernels cc=on", 2589, step_us(true, true), "us", 0.02);
	row("B2", "b200-tdx graph of 181 kernels, on over off", 1.04,
	    step_us(true, true) / step_us(false, true), "", 0.02);
	end_table(6);
}

/* ---- life cycle ---- */

static void test_lifecycle(void **state)
{
	struct cvb_gpu_context *c[8];
	struct device d = open_device("b300-tdx", true);
	double start = now_ns(&d);

	(void)state;
	begin_table();
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(cvb_gpu_context_new(d.gpu, CVB_GPU_CONTEXT_THREAD, &c[i], NULL),
				 0);
	row("SB", "b300-tdx 8 contexts, make", 5.20, (now_ns(&d) - start) / 1e9, "s", 0.05);
	start = now_ns(&d);
	for (size_t i = 0; i < 8; i++)
		cvb_gpu_context_free(c[i]);
	row("SB", "b300-tdx 8 contexts, free", 3.90, (now_ns(&d) - start) / 1e9, "s", 0.05);
	cvb_gpu_close(d.gpu);

	d = open_device("b300-tdx", false);
	start = now_ns(&d);
	struct cvb_gpu_buf *device = buf(&d, CVB_GPU_DEVICE, 64);
	double before = now_ns(&d) - start;
	struct cvb_gpu_buf *host = buf(&d, CVB_GPU_HOST_PINNED, 64);

	assert_int_equal(cvb_gpu_copy_async(d.stream, device, 0, host, 0, 64, NULL), 0);
	wait_for(d.stream);
	row("SB", "b300-tdx copy from fresh pinned memory cc=off", 31.7,
	    (now_ns(&d) - start - before) / 1e3, "us", 0.05);
	cvb_gpu_close(d.gpu);
	for (int cc = 0; cc < 2; cc++) {
		row("SB",
		    cc ? "b300-tdx copy from old memory cc=on"
		       : "b300-tdx copy from old memory cc=off",
		    cc ? 31.0 : 25.1,
		    copy_ns("b300-tdx", cc, CVB_GPU_H2D, CVB_GPU_HOST_PINNED, 64, 1) / 1e3, "us",
		    0.05);
	}
	end_table(5);
}

/* ---- on the device ---- */

/* Copies within the device, queued: GB/s of reads and writes. */
static double local_copy(bool cc, size_t bytes)
{
	struct device d = open_device("h100-tdx", cc);
	struct cvb_gpu_buf *a = buf(&d, CVB_GPU_DEVICE, bytes), *b = buf(&d, CVB_GPU_DEVICE, bytes);
	double start = now_ns(&d);

	for (int i = 0; i < 100; i++)
		assert_int_equal(cvb_gpu_copy_async(d.stream, a, 0, b, 0, bytes, NULL), 0);
	wait_for(d.stream);
	double ns = (now_ns(&d) - start) / 100;

	cvb_gpu_close(d.gpu);
	return 2 * (double)bytes / ns * 1e9 / GB;
}

static void test_local_copies(void **state)
{
	(void)state;
	begin_table();
	for (unsigned i = 0; i < 2 * ISPASS25_SIZES; i++) {
		size_t bytes = (size_t)64 << i / 2;
		bool cc = i % 2;
		_cleanup_free_ char *what =
			cvb_strf("h100-tdx %zu B d2d cc=%s", bytes, cc ? "on" : "off");
		double gb_per_s = ispass25_gb_per_s[4][cc][i / 2];

		row("IS", what, 2 * (double)bytes / gb_per_s / 1e3,
		    2 * (double)bytes / local_copy(cc, bytes) / 1e3, "us", 0.10);
	}
	end_table(2 * ISPASS25_SIZES);
}

static double gemm_tf(bool cc)
{
	const size_t n = 8192;
	struct device d = open_device("b300-tdx", cc);
	struct cvb_gpu_gemm g = {.type = CVB_GPU_BF16,
				 .m = (uint32_t)n,
				 .n = (uint32_t)n,
				 .k = (uint32_t)n,
				 .alpha = 1,
				 .a = buf(&d, CVB_GPU_DEVICE, n * n * 2),
				 .b = buf(&d, CVB_GPU_DEVICE, n * n * 2),
				 .c = buf(&d, CVB_GPU_DEVICE, n * n * 2)};
	double start = now_ns(&d);

	for (int i = 0; i < 20; i++)
		assert_int_equal(cvb_gpu_gemm_async(d.stream, &g, NULL), 0);
	wait_for(d.stream);
	double ns = (now_ns(&d) - start) / 20;

	cvb_gpu_close(d.gpu);
	return 2.0 * (double)n * (double)n * (double)n / ns * 1e9 / 1e12;
}

static double hbm(bool cc)
{
	struct device d = open_device("b300-tdx", cc);
	struct cvb_gpu_buf *a = buf(&d, CVB_GPU_DEVICE, CVB_GIB),
			   *b = buf(&d, CVB_GPU_DEVICE, CVB_GIB);
	const struct cvb_gpu_launch l = {
		.kernel = CVB_GPU_KERNEL_COPY, .a = a, .b = b, .bytes = CVB_GIB};
	double start = now_ns(&d);

	for (int i = 0; i < 20; i++)
		assert_int_equal(cvb_gpu_launch_async(d.stream, &l, NULL), 0);
	wait_for(d.stream);
	double ns = (now_ns(&d) - start) / 20;

	cvb_gpu_close(d.gpu);
	return 2 * (double)CVB_GIB / ns * 1e9 / GB;
}

static double peer_ns(const char *sku, bool cc, size_t bytes)
{
	struct device d = open_device(sku, cc);
	struct cvb_gpu_buf *here = buf(&d, CVB_GPU_DEVICE, bytes), *there;
	struct cvb_gpu *peer;

	assert_int_equal(cvb_gpu_peer_open(d.gpu, &peer, NULL), 0);
	assert_int_equal(cvb_gpu_alloc(peer, CVB_GPU_DEVICE, bytes, &there, NULL), 0);
	double start = now_ns(&d);

	assert_int_equal(cvb_gpu_peer_copy_async(d.stream, there, 0, here, 0, bytes, NULL), 0);
	wait_for(d.stream);
	double ns = now_ns(&d) - start;

	cvb_gpu_close(d.gpu);
	return ns;
}

static void test_compute_and_peers(void **state)
{
	(void)state;
	begin_table();
	row("SB", "b300-tdx BF16 8192 x 8192 x 8192 cc=off", 1573.7, gemm_tf(false), "TF/s", 0.05);
	row("SB", "b300-tdx BF16 8192 x 8192 x 8192 cc=on", 1569.8, gemm_tf(true), "TF/s", 0.05);
	row("SB", "b300-tdx memory cc=off", 3156, hbm(false), "GB/s", 0.05);
	row("SB", "b300-tdx memory cc=on", 2879, hbm(true), "GB/s", 0.05);
	row("SB", "b300-tdx copy to a peer cc=on", 510.4,
	    (double)CVB_GIB / peer_ns("b300-tdx", true, CVB_GIB) * 1e9 / GB, "GB/s", 0.05);
	row("TF", "b300-tdx copy to a peer, on over off", 0.89,
	    peer_ns("b300-tdx", false, CVB_GIB) / peer_ns("b300-tdx", true, CVB_GIB), "", 0.05);
	row("TF", "h200-tdx copy to a peer, on over off", 0.94,
	    peer_ns("h200-tdx", false, CVB_GIB) / peer_ns("h200-tdx", true, CVB_GIB), "", 0.05);
	/* 12 pairs of 4 GPUs had 9170 and 8070 GB/s */
	for (int cc = 0; cc < 2; cc++)
		row("B2", cc ? "b200-tdx copy to a peer cc=on" : "b200-tdx copy to a peer cc=off",
		    (cc ? 8070.0 : 9170.0) / 12,
		    (double)CVB_GIB / peer_ns("b200-tdx", cc, CVB_GIB) * 1e9 / GB, "GB/s", 0.05);
	/* "10 to 15 us", "9 to 13 us" for each small collective */
	row("TF", "b300-tdx short copy to a peer, on less off", 12.5,
	    (peer_ns("b300-tdx", true, 8) - peer_ns("b300-tdx", false, 8)) / 1e3, "us", 0.05);
	row("TF", "h200-tdx short copy to a peer, on less off", 11,
	    (peer_ns("h200-tdx", true, 8) - peer_ns("h200-tdx", false, 8)) / 1e3, "us", 0.05);
	row("B2", "b200-tdx short copy to a peer cc=off", 3.7, peer_ns("b200-tdx", false, 8) / 1e3,
	    "us", 0.10);
	row("B2", "b200-tdx short copy to a peer cc=on", 14.5, peer_ns("b200-tdx", true, 8) / 1e3,
	    "us", 0.10);
	end_table(13);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_h100_sizes),
		cmocka_unit_test(test_single_context_bandwidth),
		cmocka_unit_test(test_streams_and_contexts),
		cmocka_unit_test(test_small_copies_of_many_streams),
		cmocka_unit_test(test_launches),
		cmocka_unit_test(test_launches_behind_a_kernel),
		cmocka_unit_test(test_decode_step),
		cmocka_unit_test(test_long_graph),
		cmocka_unit_test(test_lifecycle),
		cmocka_unit_test(test_local_copies),
		cmocka_unit_test(test_compute_and_peers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
