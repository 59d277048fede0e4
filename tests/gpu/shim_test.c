/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shims: fault makes the calls fail or go wrong that it was told to, and no others; trace
 * writes down every call.
 */
#include "fixture.h"

#include <stdio.h>
#include <unistd.h>

/* ---- fault ---- */

struct bench {
	struct fixture f;
	struct cvb_gpu_buf *host, *back, *device, *other, *sum;
};

#define BYTES ((size_t)4096)

static struct bench bench_new(const char *spec)
{
	struct bench b = {0};
	struct row row = {.spec = spec};
	void *state = &row;

	assert_int_equal(setup(&state), 0);
	b.f = *(struct fixture *)state;
	free(state);
	b.host = alloc(&b.f, CVB_GPU_HOST_PINNED, BYTES);
	b.back = alloc(&b.f, CVB_GPU_HOST_PINNED, BYTES);
	b.device = alloc(&b.f, CVB_GPU_DEVICE, BYTES);
	b.other = alloc(&b.f, CVB_GPU_DEVICE, BYTES);
	b.sum = alloc(&b.f, CVB_GPU_DEVICE, 8);
	fill(cvb_gpu_buf_host(b.host), BYTES, 1);
	return b;
}

static void bench_done(struct bench *b)
{
	cvb_gpu_close(b->f.gpu);
}

/* There and back: what came, of what was sent. */
static size_t wrong_bytes(struct bench *b)
{
	const uint8_t *sent = cvb_gpu_buf_host(b->host), *got = cvb_gpu_buf_host(b->back);
	size_t n = 0;

	memset(cvb_gpu_buf_host(b->back), 0, BYTES);
	copy(&b->f, b->device, 0, b->host, 0, BYTES);
	copy(&b->f, b->back, 0, b->device, 0, BYTES);
	sync_stream(&b->f);
	for (size_t i = 0; i < BYTES; i++)
		n += sent[i] != got[i];
	return n;
}

static void test_the_third_copy_fails(void **state)
{
	struct bench b = bench_new("fault:copy=3/fail:emu:h100-tdx");
	char text[256];

	(void)state;
	assert_int_equal(wrong_bytes(&b), 0);
	assert_int_equal(cvb_gpu_copy_async(b.f.stream, b.device, 0, b.host, 0, 8, &b.f.err), -EIO);
	cvb_err_text(&b.f.err, text, sizeof(text));
	assert_non_null(strstr(text, "injected fault: copy_async number 3"));
	assert_int_equal(wrong_bytes(&b), 0);
	bench_done(&b);
}

static void test_copies_are_corrupted(void **state)
{
	static const char *const specs[] = {"emu:h100-tdx", "emu:h100-tdx,cc=on"};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(specs); i++) {
		_cleanup_free_ char *one = cvb_strf("fault:copy=2/corrupt:%s", specs[i]);
		_cleanup_free_ char *many = cvb_strf("fault:copy=2+/corrupt:%s", specs[i]);
		struct bench b = bench_new(one);

		/* the way back, and only once */
		assert_int_equal(wrong_bytes(&b), 1);
		assert_int_equal(wrong_bytes(&b), 0);
		bench_done(&b);
		b = bench_new(many);
		assert_int_equal(wrong_bytes(&b), 1);
		for (int k = 0; k < 8; k++) /* the way back does not undo the way there */
			assert_int_equal(wrong_bytes(&b), 2);
		bench_done(&b);
	}
}

/* Every call of a kind that leaves data, once alone: what it leaves is wrong. */
struct kind {
	const char *keys;
	void (*run)(struct bench *b); /* ends with what was left in b->back */
};

static void fetch(struct bench *b, struct cvb_gpu_buf *device)
{
	copy(&b->f, b->back, 0, device, 0, cvb_gpu_buf_bytes(device));
	sync_stream(&b->f);
}

static void run_memset(struct bench *b)
{
	assert_int_equal(cvb_gpu_memset_async(b->f.stream, b->device, 0, 3, BYTES, &b->f.err), 0);
	fetch(b, b->device);
}

static void run_gemm(struct bench *b)
{
	const struct cvb_gpu_gemm g = {CVB_GPU_FP64, 8, 8, 8, 1, 0, b->device, b->other, b->sum};
	struct cvb_gpu_gemm here = g;

	here.c = alloc(&b->f, CVB_GPU_DEVICE, BYTES);
	for (int i = 0; i < 2; i++) /* small whole numbers of a kind: no NaN */
		assert_int_equal(
			cvb_gpu_memset_async(b->f.stream, i ? g.a : g.b, 0, 0x3f, BYTES, &b->f.err),
			0);
	assert_int_equal(cvb_gpu_memset_async(b->f.stream, here.c, 0, 0, BYTES, &b->f.err), 0);
	assert_int_equal(cvb_gpu_gemm_async(b->f.stream, &here, &b->f.err), 0);
	fetch(b, here.c);
}

static void run_launch(struct bench *b)
{
	const struct cvb_gpu_launch l = {
		.kernel = CVB_GPU_KERNEL_FILL, .a = b->device, .bytes = BYTES, .seed = 5};

	assert_int_equal(cvb_gpu_launch_async(b->f.stream, &l, &b->f.err), 0);
	fetch(b, b->device);
}

static void run_graph(struct bench *b)
{
	struct cvb_gpu_graph *g = NULL;

	assert_int_equal(cvb_gpu_capture_begin(b->f.stream, &b->f.err), 0);
	const struct cvb_gpu_launch l = {
		.kernel = CVB_GPU_KERNEL_FILL, .a = b->device, .bytes = BYTES, .seed = 5};

	assert_int_equal(cvb_gpu_launch_async(b->f.stream, &l, &b->f.err), 0);
	assert_int_equal(cvb_gpu_capture_end(b->f.stream, &g, &b->f.err), 0);
	assert_int_equal(cvb_gpu_graph_launch(g, b->f.stream, &b->f.err), 0);
	fetch(b, b->device);
}

static void run_peer(struct bench *b)
{
	struct cvb_gpu *peer = NULL;
	struct cvb_gpu_buf *theirs = NULL;
	struct cvb_gpu_stream *s = b->f.stream;

	assert_int_equal(cvb_gpu_peer_open(b->f.gpu, &peer, &b->f.err), 0);
	assert_int_equal(cvb_gpu_alloc(peer, CVB_GPU_DEVICE, BYTES, &theirs, &b->f.err), 0);
	assert_int_equal(cvb_gpu_memset_async(s, b->device, 0, 7, BYTES, &b->f.err), 0);
	assert_int_equal(cvb_gpu_peer_copy_async(s, theirs, 0, b->device, 0, BYTES, &b->f.err), 0);
	assert_int_equal(cvb_gpu_sync(s, &b->f.err), 0);
	assert_int_equal(cvb_gpu_stream_new(peer, &s, &b->f.err), 0);
	struct cvb_gpu_buf *host = NULL;

	assert_int_equal(cvb_gpu_alloc(peer, CVB_GPU_HOST_PINNED, BYTES, &host, &b->f.err), 0);
	assert_int_equal(cvb_gpu_copy_async(s, host, 0, theirs, 0, BYTES, &b->f.err), 0);
	assert_int_equal(cvb_gpu_sync(s, &b->f.err), 0);
	memcpy(cvb_gpu_buf_host(b->back), cvb_gpu_buf_host(host), BYTES);
}

static void run_touch(struct bench *b)
{
	struct cvb_gpu_buf *m = alloc(&b->f, CVB_GPU_MANAGED, BYTES);

	assert_int_equal(cvb_gpu_memset_async(b->f.stream, m, 0, 9, BYTES, &b->f.err), 0);
	assert_int_equal(cvb_gpu_managed_touch(m, 0, BYTES, &b->f.err), 0);
	memcpy(cvb_gpu_buf_host(b->back), cvb_gpu_buf_host(m), BYTES);
}

static void test_each_kind_is_corrupted(void **state)
{
	static const struct kind kinds[] = {
		{"memset=all", run_memset}, {"gemm=all", run_gemm}, {"launch=all", run_launch},
		{"graph=all", run_graph},   {"peer=all", run_peer}, {"touch=all", run_touch},
	};
	static const char *const cc[] = {"off", "on"};

	(void)state;
	for (size_t i = 0; i < 2 * CVB_ARRAY_LEN(kinds); i++) {
		const struct kind *kind = &kinds[i / 2];
		_cleanup_free_ char *good = cvb_strf("emu:h100-tdx,cc=%s", cc[i % 2]);
		_cleanup_free_ char *bad = cvb_strf("fault:%s/corrupt:%s", kind->keys, good);
		_cleanup_free_ char *unused =
			cvb_strf("fault:%s/corrupt,sync=9/fail:%s", "record=all/fail,copy=9", good);
		uint8_t want[BYTES];
		struct bench b = bench_new(good);

		kind->run(&b);
		memcpy(want, cvb_gpu_buf_host(b.back), BYTES);
		bench_done(&b);
		b = bench_new(bad);
		kind->run(&b);
		assert_memory_not_equal(cvb_gpu_buf_host(b.back), want, BYTES);
		bench_done(&b);
		b = bench_new(unused);
		kind->run(&b);
		assert_memory_equal(cvb_gpu_buf_host(b.back), want, BYTES);
		bench_done(&b);
	}
}

/* What fails leaves no handle behind, and what follows works. */
static void test_calls_fail(void **state)
{
	static const char spec[] =
		"fault:alloc=6/fail,context=1/fail,stream=2/fail,record=1/fail,sync=1/fail,"
		"graph=1/fail,gemm=1/fail,launch=1/fail,memset=1/fail,touch=1/fail,peer=1/fail:"
		"emu:h100-tdx";
	struct bench b = bench_new(spec);
	struct cvb_gpu_buf *buf = NULL;
	struct cvb_gpu_stream *stream = NULL, *s = b.f.stream;
	struct cvb_gpu_context *context = NULL;
	struct cvb_gpu_event *event = NULL;
	struct cvb_gpu_graph *g = NULL;
	const struct cvb_gpu_launch empty = {.kernel = CVB_GPU_KERNEL_EMPTY};
	struct cvb_err *e = &b.f.err;

	(void)state;
	for (int r = -EIO, i = 0; i < 2; i++, r = 0) {
		assert_int_equal(cvb_gpu_alloc(b.f.gpu, CVB_GPU_MANAGED, BYTES, &buf, e), r);
		assert_int_equal(cvb_gpu_context_new(b.f.gpu, CVB_GPU_CONTEXT_THREAD, &context, e),
				 r);
		assert_int_equal(cvb_gpu_stream_new(b.f.gpu, &stream, e), r);
		if (!event)
			assert_int_equal(cvb_gpu_event_new(b.f.gpu, &event, e), 0);
		assert_int_equal(cvb_gpu_event_record(event, s, e), r);
		assert_int_equal(cvb_gpu_launch_async(s, &empty, e), r);
		assert_int_equal(cvb_gpu_memset_async(s, b.device, 0, 0, 8, e), r);
		assert_int_equal(cvb_gpu_sync(s, e), r);
		if (r == 0)
			assert_int_equal(cvb_gpu_managed_touch(buf, 0, 8, e), -EIO);
		assert_int_equal(cvb_gpu_capture_begin(s, e), 0);
		assert_int_equal(cvb_gpu_launch_async(s, &empty, e), 0);
		assert_int_equal(cvb_gpu_capture_end(s, &g, e), 0);
		assert_int_equal(cvb_gpu_graph_launch(g, s, e), r);
		assert_true((buf && context && stream) == (r == 0));
	}
	assert_int_equal(cvb_gpu_managed_touch(buf, 0, 8, e), 0);
	bench_done(&b);
}

static void test_bad_specs(void **state)
{
	static const struct {
		const char *spec, *says;
	} table[] = {
		{"fault", "before a device"},
		{"fault:", "before a device"},
		{"trace:nothing", "unknown backend \"nothing\""},
		{"fault:emu:a100", "SKU"},
		{"fault:copy=1:emu:h100-tdx", "KIND=WHICH/ACTION"},
		{"fault:copy=0/fail:emu:h100-tdx", "copy=0"},
		{"fault:copy=-1/fail:emu:h100-tdx", "3, 3+ or all"},
		{"fault:copy=1x/fail:emu:h100-tdx", "3, 3+ or all"},
		{"fault:copy=99999999999999999999/fail:emu:h100-tdx", "3, 3+ or all"},
		{"fault:copi=1/fail:emu:h100-tdx", "\"copi\" cannot fail"},
		{"fault:other=1/fail:emu:h100-tdx", "\"other\" cannot fail"},
		{"fault:sync=1/corrupt:emu:h100-tdx", "fail is right"},
		{"fault:copy=1/break:emu:h100-tdx", "fail or corrupt is right"},
		{"fault:copy=1/fail,copy=2/fail:emu:h100-tdx", "twice"},
		{"fault:copy=1/fail,:emu:h100-tdx", "KIND=WHICH/ACTION"},
		{"trace:fil=x:emu:h100-tdx", "trace:file=PATH"},
		{"trace:file=:emu:h100-tdx", "trace:file=PATH"},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(table); i++) {
		struct cvb_err err = {0};
		char text[1024];

		assert_int_equal(cvb_gpu_spec_check(table[i].spec, &err), -EINVAL);
		cvb_err_text(&err, text, sizeof(text));
		if (!strstr(text, table[i].says))
			fail_msg("%s: \"%s\" does not say \"%s\"", table[i].spec, text,
				 table[i].says);
	}
}

/* ---- trace ---- */

static void test_trace(void **state)
{
	char path[] = "/tmp/cvmbench-trace-XXXXXX", text[8192] = "";
	int fd = mkstemp(path);
	_cleanup_free_ char *spec =
		cvb_strf("trace:file=%s:fault:copy=2/fail:emu:h100-tdx,cc=on", path);
	static const char *const lines[] = {
		"gpu stream_new(stream=2, context=1) = 0 time_ns=",
		"gpu alloc(buf=3, context=1, mem=pinned, bytes=4096) = 0 time_ns=",
		"gpu alloc(buf=5, context=1, mem=device, bytes=4096) = 0 time_ns=",
		"gpu copy_async(stream=2, dst=5+0, src=3+0, bytes=4096, dir=h2d) = 0 time_ns=",
		"gpu copy_async(stream=2, dst=4+8, src=5+16, bytes=32, dir=d2h) = -EIO \"injected",
		" fault: copy_async number 2\" time_ns=",
		"gpu sync(stream=2) = 0 time_ns=",
		"gpu stream_free(stream=2) = 0 time_ns=",
		"gpu free(buf=3) = 0 time_ns=",
	};
	struct bench b = bench_new(spec);
	const char *at = text;

	(void)state;
	copy(&b.f, b.device, 0, b.host, 0, BYTES);
	assert_int_equal(cvb_gpu_copy_async(b.f.stream, b.back, 8, b.device, 16, 32, &b.f.err),
			 -EIO);
	sync_stream(&b.f);
	bench_done(&b);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	for (size_t i = 0; i < CVB_ARRAY_LEN(lines); i++) {
		at = strstr(at, lines[i]);
		if (!at)
			fail_msg("no line \"%s\" after the one before in:\n%s", lines[i], text);
		at += strlen(lines[i]);
	}
	close(fd);
	unlink(path);
	/* a file that cannot be opened is an error and not silence */
	struct cvb_gpu *gpu = NULL;

	assert_int_equal(cvb_gpu_open("trace:file=/no/such/folder/x:emu:h100-tdx", &gpu, NULL),
			 -ENOENT);
}

static void test_description(void **state)
{
	struct cvb_gpu *gpu = NULL;
	const char *shim = NULL, *sku = NULL, *spec = NULL, *copy = NULL;

	(void)state;
	assert_int_equal(cvb_gpu_open("fault:copy=2/corrupt:emu:h100-tdx", &gpu, NULL), 0);
	_cleanup_json_ json_t *doc = cvb_gpu_describe(gpu);

	assert_int_equal(json_unpack(doc, "{s:s,s:s,s:{s:s,s:s}}", "spec", &spec, "sku", &sku,
				     "shim", "name", &shim, "copy", &copy),
			 0);
	assert_string_equal(spec, "fault:copy=2/corrupt:emu:h100-tdx");
	assert_string_equal(sku, "h100-tdx");
	assert_string_equal(shim, "fault");
	assert_string_equal(copy, "corrupt");
	assert_true(cvb_gpu_is_emulated(gpu));
	cvb_gpu_close(gpu);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_third_copy_fails),
		cmocka_unit_test(test_copies_are_corrupted),
		cmocka_unit_test(test_each_kind_is_corrupted),
		cmocka_unit_test(test_calls_fail),
		cmocka_unit_test(test_bad_specs),
		cmocka_unit_test(test_trace),
		cmocka_unit_test(test_description),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
