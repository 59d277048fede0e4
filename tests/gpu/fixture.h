/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the GPU tests share: a device and a stream for each test, and the specs they run on.
 */
#ifndef CVB_TESTS_GPU_FIXTURE_H
#define CVB_TESTS_GPU_FIXTURE_H

#include "core/util.h"
#include "gpu/emu.h"
#include "gpu/gpu.h"

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

struct fixture {
	struct cvb_gpu *gpu;
	struct cvb_gpu_stream *stream;
	struct cvb_err err;
};

static inline int open_spec(void **state, const char *spec)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f || cvb_gpu_open(spec, &f->gpu, &f->err) < 0 ||
	    cvb_gpu_stream_new(f->gpu, &f->stream, &f->err) < 0)
		return -1;
	*state = f;
	return 0;
}

static inline int setup_off(void **state)
{
	return open_spec(state, "emu:h100-tdx,cc=off,clock=wall");
}

static inline int setup_on(void **state)
{
	return open_spec(state, "emu:h100-tdx,cc=on");
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

/* One row for each spec. */
#define ON_ALL(fn)                                                                                 \
	{#fn " cc=off", fn, setup_off, teardown, NULL},                                            \
	{                                                                                          \
#fn " cc=on", fn, setup_on, teardown, NULL                                         \
	}

#endif
