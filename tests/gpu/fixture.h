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
#include <dlfcn.h>
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
	const char *nvml; /* the CUDA backend on the fake driver (fake/fake.h), whose NVML answers
			   * are in this file of tests/fixtures/nvml */
	bool hardware;	  /* a real GPU: only when CVB_TEST_GPU names it, and then nothing else */
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
#if CVB_CUDA && CVB_CUDA_KERNELS
	{"cuda", .cc = false, .nvml = "h100-cc-off.txt"},
	{"cuda:1", .cc = true, .nvml = "h100-cc-on.txt"},
#endif
};

static inline bool is_virtual(const struct row *row)
{
	return strstr(row->spec, "clock=virtual") != NULL;
}

/* ---- the fake driver ---- */

/*
 * Libraries are searched where LD_LIBRARY_PATH said when the program started: start it again with
 * the folder of the fake ones.  glibc hands constructors the arguments of main.
 */
__attribute__((constructor)) static void find_fake_driver(int argc, char **argv)
{
	char exe[2048], path[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	const char *before = getenv("LD_LIBRARY_PATH");

	(void)argc;
	if (n <= 0 || getenv("CVB_TEST_GPU") || getenv("CVB_TEST_FAKE"))
		return;
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';
	snprintf(path, sizeof(path), "%s/fake%s%s", exe, before ? ":" : "", before ? before : "");
	setenv("LD_LIBRARY_PATH", path, 1);
	setenv("CVB_TEST_FAKE", "1", 1);
	execv("/proc/self/exe", argv);
}

/* A function of the fake driver that is not the driver's; NULL while it is not loaded. */
static inline void *fake_function(const char *name)
{
	void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
	void *p = lib ? dlsym(lib, name) : NULL;

	if (lib)
		dlclose(lib);
	return p;
}

/* Spin kernels of the fake driver last until they are let go. */
static inline void fake_set_held(bool held)
{
	void (*hold)(bool) = (void (*)(bool))fake_function("fake_hold");

	assert_non_null(hold);
	hold(held);
}

/* What the driver has given out and not got back; 0 without the fake driver. */
static inline long fake_left(void)
{
	long (*live)(void) = (long (*)(void))fake_function("fake_live");

	return live ? live() : 0;
}

static inline void fake_set_nvml(const char *name)
{
	const char *dir = getenv("CVMBENCH_DATADIR");
	char *path = cvb_strf("%s/tests/fixtures/nvml/%s", dir ? dir : ".", name);

	setenv("FAKE_NVML", path, 1);
	free(path);
}

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
	if (f->row->nvml)
		fake_set_nvml(f->row->nvml);
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

	const struct row *row = f->row;

	if (row->nvml)
		fake_set_held(false); /* where a test failed while it held it */
	f->gpu = cvb_gpu_close(f->gpu);
	free(f);
	if (row->nvml && fake_left() != 0) {
		print_error("%ld objects of the driver are left\n", fake_left());
		return -1;
	}
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

static inline int run_rows(const struct conformance *table, size_t n, const struct row *first,
			   size_t n_rows)
{
	size_t total = n * n_rows;
	struct CMUnitTest *tests = calloc(total, sizeof(*tests));
	int r;

	if (!tests)
		return 1;
	for (size_t i = 0; i < total; i++) {
		const struct conformance *t = &table[i % n];
		const struct row *row = &first[i / n];

		tests[i] = (struct CMUnitTest)ON(t->fn, row);
		tests[i].name = cvb_strf("%s %s", t->name, row->spec);
	}
	r = _cmocka_run_group_tests("conformance", tests, total, NULL, NULL);
	for (size_t i = 0; i < total; i++)
		free((char *)tests[i].name);
	free(tests);
	return r;
}

/* Every test on every row, or on the real GPU alone that CVB_TEST_GPU names ("cuda:0", with
 * CVB_TEST_CC=1 if it is confidential); the result of main. */
static inline int run_on_all(const struct conformance *table, size_t n)
{
	const struct row real = {.spec = getenv("CVB_TEST_GPU"),
				 .cc = getenv("CVB_TEST_CC") != NULL,
				 .hardware = true};

	return real.spec ? run_rows(table, n, &real, 1)
			 : run_rows(table, n, rows, CVB_ARRAY_LEN(rows));
}

#endif
