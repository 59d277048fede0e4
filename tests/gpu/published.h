/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests against published measurements share: a device of the virtual clock, and a table
 * with a row for each figure: published, emulated, error, and how large that may be.
 */
#ifndef CVB_TESTS_GPU_PUBLISHED_H
#define CVB_TESTS_GPU_PUBLISHED_H

#include "fixture.h"

#include "gpu/virt.h"

#define GB 1e9

struct device {
	struct cvb_gpu *gpu;
	struct cvb_gpu_stream *stream;
};

static inline struct device open_device(const char *sku, bool cc)
{
	_cleanup_free_ char *spec = cvb_strf("emu:%s,cc=%s,clock=virtual", sku, cc ? "on" : "off");
	struct device d = {0};

	assert_int_equal(cvb_gpu_open(spec, &d.gpu, NULL), 0);
	assert_int_equal(cvb_gpu_stream_new(d.gpu, &d.stream, NULL), 0);
	return d;
}

static inline double now_ns(const struct device *d)
{
	const struct cvb_clock *c = cvb_gpu_clock(d->gpu);

	return (double)c->now_ns(c->ctx);
}

static inline struct cvb_gpu_buf *buf(const struct device *d, enum cvb_gpu_mem kind, size_t bytes)
{
	struct cvb_gpu_buf *b = NULL;

	assert_int_equal(cvb_gpu_alloc(d->gpu, kind, bytes, &b, NULL), 0);
	return b;
}

static inline void wait_for(struct cvb_gpu_stream *s)
{
	assert_int_equal(cvb_gpu_sync(s, NULL), 0);
}

/* ---- the table ---- */

static unsigned failures, compared; /* rows */

static inline void row(const char *source, const char *what, double published, double emulated,
		       const char *unit, double limit)
{
	double error = emulated / published - 1;
	bool ok = fabs(error) <= limit;

	compared++;
	failures += !ok;
	print_message("%-4s %-58s %10.4g %10.4g %-5s %+6.1f %% (%2.0f %%)%s\n", source, what,
		      published, emulated, unit, 100 * error, 100 * limit, ok ? "" : "  FAILED");
}

static inline void begin_table(void)
{
	failures = compared = 0;
	print_message("%-4s %-58s %10s %10s\n", "from", "", "published", "emulated");
}

static inline void end_table(unsigned rows_expected)
{
	assert_int_equal(compared, rows_expected);
	assert_int_equal(failures, 0);
}

#endif
