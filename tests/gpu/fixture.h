/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the GPU tests share: a device and a stream for each test, and the specs they run on.
 */
#ifndef CVB_TESTS_GPU_FIXTURE_H
#define CVB_TESTS_GPU_FIXTURE_H

#include "core/util.h"
#include "gpu/emu.h"
#include "gpu/gpu.h"
#include "gpu/shim.h"

/* cmocka.h needs these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

#define CHUNK EMU_CHUNK_BYTES
#define RING  (EMU_SLOTS * EMU_CHUNK_BYTES)

/*
 * The devices that every conformance test runs on: one row each, and nothing else has to know it.
 */
struct row {
	const char *spec;
	bool wall; /* the wall-clock emulator, perhaps behind shims: a test can hold its compute
		    * unit, so that work stays pending */
	bool cc;
};

static const struct row rows[] = {
	{"emu:h100-tdx,cc=off,clock=wall", .wall = true, .cc = false},
	{"emu:h100-tdx,cc=on", .wall = true, .cc = true},
	{"emu:h100-tdx,cc=off,clock=virtual", .wall = false, .cc = false},
	{"emu:h100-tdx,cc=on,clock=virtual", .wall = false, .cc = true},
	/* shims that change nothing */
	{"trace:file=/dev/null:emu:h100-tdx", .wall = true, .cc = false},
	{"fault:copy=1000000000/fail:trace:file=/dev/null:emu:h100-tdx,cc=on", .wall = true,
	 .cc = true},
};

#define NO_CC (&rows[0])
#define CC    (&rows[1])

struct fixture {
	const struct row *row;
	struct cvb_gpu *gpu;
	struct cvb_gpu_stream *stream;
	struct cvb_err err;
};

/* *state is the row; a fixture takes its place. */
static inline int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	f->row = *state;
	if (cvb_gpu_open(f->row->spec, &f->gpu, &f->err) < 0 ||
	    cvb_gpu_stream_new(f->gpu, &f->stream, &f->err) < 0) {
		cvb_gpu_close(f->gpu);
		free(f);
		return -1;
	}
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	f->gpu = cvb_gpu_close(f->gpu);
	free(f);
	return 0;
}

static inline struct cvb_gpu_buf *alloc(struct fixture *f, enum cvb_gpu_mem kind, size_t bytes)
{
	struct cvb_gpu_buf *buf = NULL;

	assert_int_equal(cvb_gpu_alloc(f->gpu, kind, bytes, &buf, &f->err), 0);
	assert_non_null(buf);
	assert_int_equal(cvb_gpu_buf_bytes(buf), bytes);
	assert_int_equal(cvb_gpu_buf_mem(buf), kind);
	assert_true((cvb_gpu_buf_host(buf) == NULL) == (kind == CVB_GPU_DEVICE));
	return buf;
}

static inline void copy(struct fixture *f, struct cvb_gpu_buf *dst, size_t dst_offset,
			struct cvb_gpu_buf *src, size_t src_offset, size_t bytes)
{
	assert_int_equal(
		cvb_gpu_copy_async(f->stream, dst, dst_offset, src, src_offset, bytes, &f->err), 0);
}

static inline void sync_stream(struct fixture *f)
{
	assert_int_equal(cvb_gpu_sync(f->stream, &f->err), 0);
}

static inline void fill(void *p, size_t bytes, uint64_t seed)
{
	uint8_t *b = p;

	for (size_t i = 0; i < bytes; i++) {
		seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		b[i] = (uint8_t)(seed >> 56);
	}
}

/* Every byte of p has this value. */
static inline bool all_bytes(const uint8_t *p, size_t bytes, uint8_t value)
{
	for (size_t i = 0; i < bytes; i++)
		if (p[i] != value)
			return false;
	return true;
}

/* A test on one device. */
#define ON(fn, row_)                                                                               \
	{                                                                                          \
		.name = #fn, .test_func = (fn), .setup_func = setup, .teardown_func = teardown,    \
		.initial_state = (void *)(row_)                                                    \
	}

/* A test of a table that runs on all of them. */
struct conformance {
	const char *name;
	CMUnitTestFunction fn;
};

#define EACH(fn_)                                                                                  \
	{                                                                                          \
#fn_, fn_                                                                          \
	}

/* Every test on every row; the result of main. */
static inline int run_on_all(const struct conformance *table, size_t n)
{
	size_t total = n * CVB_ARRAY_LEN(rows);
	struct CMUnitTest *tests = calloc(total, sizeof(*tests));
	int r;

	if (!tests)
		return 1;
	for (size_t i = 0; i < total; i++) {
		const struct conformance *t = &table[i % n];
		const struct row *row = &rows[i / n];

		tests[i] = (struct CMUnitTest)ON(t->fn, row);
		tests[i].name = cvb_strf("%s %s", t->name, row->spec);
	}
	r = _cmocka_run_group_tests("conformance", tests, total, NULL, NULL);
	for (size_t i = 0; i < total; i++)
		free((char *)tests[i].name);
	free(tests);
	return r;
}

#endif
