/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the GPU layer refuses, and what it says about a device; on every spec.
 */
#include "fixture.h"

/* ---- errors ---- */

static void test_bad_arguments(void **state)
{
	struct fixture *f = *state;
	struct cvb_gpu_buf *host = alloc(f, CVB_GPU_HOST_PINNED, 4096);
	struct cvb_gpu_buf *page = alloc(f, CVB_GPU_HOST_PAGEABLE, 4096);
	struct cvb_gpu_buf *device = alloc(f, CVB_GPU_DEVICE, 4096);
	struct cvb_gpu_buf *buf = NULL;
	struct cvb_gpu_stream *s = f->stream, *gone;
	struct cvb_gpu_event *event;
	struct cvb_err *e = &f->err;

	assert_int_equal(cvb_gpu_stream_new(f->gpu, &gone, e), 0);
	gone = cvb_gpu_stream_free(gone);
	assert_null(gone);
	assert_int_equal(cvb_gpu_copy_async(gone, device, 0, host, 0, 1, e), -EINVAL);
	assert_int_equal(cvb_gpu_memset_async(gone, device, 0, 0, 1, e), -EINVAL);
	assert_int_equal(cvb_gpu_sync(gone, e), -EINVAL);
	assert_int_equal(cvb_gpu_event_new(f->gpu, &event, e), 0);
	assert_int_equal(cvb_gpu_event_record(event, gone, e), -EINVAL);
	assert_int_equal(cvb_gpu_event_wait(gone, event, e), -EINVAL);
	assert_int_equal(cvb_gpu_event_record(NULL, s, e), -EINVAL);

	assert_int_equal(cvb_gpu_copy_async(s, NULL, 0, host, 0, 1, e), -EINVAL);
	assert_int_equal(cvb_gpu_copy_async(s, device, 0, NULL, 0, 1, e), -EINVAL);
	assert_int_equal(cvb_gpu_copy_async(s, device, 0, host, 0, 4097, e), -EINVAL);
	assert_int_equal(cvb_gpu_copy_async(s, device, 1, host, 0, 4096, e), -EINVAL);
	assert_int_equal(cvb_gpu_copy_async(s, device, 0, host, 4097, 0, e), -EINVAL);
	assert_int_equal(cvb_gpu_copy_async(s, device, SIZE_MAX, host, 0, 2, e), -EINVAL);
	assert_int_equal(cvb_gpu_copy_async(s, host, 0, page, 0, 16, e), -EINVAL);
	assert_int_equal(cvb_gpu_memset_async(s, host, 0, 0, 16, e), -EINVAL);
	assert_int_equal(cvb_gpu_memset_async(s, device, 4096, 0, 1, e), -EINVAL);

	assert_int_equal(cvb_gpu_alloc(f->gpu, CVB_GPU_DEVICE, 0, &buf, e), -EINVAL);
	assert_int_equal(cvb_gpu_alloc(NULL, CVB_GPU_DEVICE, 1, &buf, e), -EINVAL);
	assert_int_equal(cvb_gpu_alloc(f->gpu, (enum cvb_gpu_mem)99, 1, &buf, e), -EINVAL);
	assert_int_equal(cvb_gpu_alloc(f->gpu, CVB_GPU_DEVICE, (size_t)1 << 60, &buf, e), -ENOMEM);
	if (!(cvb_gpu_caps(f->gpu)->flags & CVB_GPU_CAP_MANAGED))
		assert_int_equal(cvb_gpu_alloc(f->gpu, CVB_GPU_MANAGED, 1, &buf, e), -EOPNOTSUPP);
	assert_null(buf);
	/* nothing of this hurt the stream */
	copy(f, device, 0, host, 0, 4096);
	sync_stream(f);
}

/* A type that the device does not multiply; false if it has all. */
static bool missing_type(struct fixture *f, enum cvb_gpu_type *ret)
{
	for (unsigned type = 0; type < CVB_GPU_TYPES; type++) {
		if (cvb_gpu_caps(f->gpu)->gemm_types & (1U << type))
			continue;
		*ret = (enum cvb_gpu_type)type;
		return true;
	}
	return false;
}

static void test_bad_gemms(void **state)
{
	struct fixture *f = *state;
	struct cvb_gpu_buf *a = alloc(f, CVB_GPU_DEVICE, 64), *b = alloc(f, CVB_GPU_DEVICE, 64);
	struct cvb_gpu_buf *c = alloc(f, CVB_GPU_DEVICE, 64);
	struct cvb_gpu_buf *host = alloc(f, CVB_GPU_HOST_PINNED, 64);
	const struct cvb_gpu_gemm good = {CVB_GPU_FP32, 4, 4, 4, 1, 0, a, b, c};
	struct {
		struct cvb_gpu_gemm gemm;
		int code;
	} bad[] = {
		{good, -EINVAL}, {good, -EINVAL}, {good, -EINVAL},     {good, -EINVAL},
		{good, -EINVAL}, {good, -EINVAL}, {good, -EOPNOTSUPP}, {good, -EINVAL},
	};

	bad[0].gemm.m = 0;
	bad[1].gemm.k = 5; /* A and B are too small */
	bad[2].gemm.c = a;
	bad[3].gemm.b = host;
	bad[4].gemm.a = NULL;
	bad[5].gemm.type = CVB_GPU_TYPES;
	bad[6].code = missing_type(f, &bad[6].gemm.type) ? -EOPNOTSUPP : 0;
	bad[7].gemm.m = bad[7].gemm.k = UINT32_MAX; /* bytes overflow */
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++)
		assert_int_equal(cvb_gpu_gemm_async(f->stream, &bad[i].gemm, &f->err), bad[i].code);
	assert_int_equal(cvb_gpu_gemm_async(f->stream, NULL, &f->err), -EINVAL);
	assert_int_equal(cvb_gpu_gemm_async(f->stream, &good, &f->err), 0);
	sync_stream(f);
}

/* Pinned memory has an end, long before the machine's; what is given back can be had again. */
static void test_pinned_pool(void **state)
{
	struct fixture *f = *state;
	struct cvb_gpu_buf *buf[2] = {NULL}, *other;
	char text[512];

	if (!f->row->wall)
		skip();
	emu_device_of(shim_innermost(f->gpu))->pinned_limit_bytes = 3 << 20;
	buf[0] = alloc(f, CVB_GPU_HOST_PINNED, 2 << 20);
	assert_int_equal(
		cvb_gpu_alloc(f->gpu, CVB_GPU_HOST_PINNED, (1 << 20) + 1, &buf[1], &f->err),
		-ENOMEM);
	cvb_err_text(&f->err, text, sizeof(text));
	assert_non_null(strstr(text, "pinned memory holds 3 MiB, 2 of them"));
	assert_null(buf[1]);
	assert_int_equal(cvb_gpu_alloc(f->gpu, CVB_GPU_HOST_PINNED, SIZE_MAX, &buf[1], &f->err),
			 -ENOMEM);
	buf[1] = alloc(f, CVB_GPU_HOST_PINNED, 1 << 20);
	other = alloc(f, CVB_GPU_HOST_PAGEABLE, 4 << 20); /* no part of it */
	cvb_gpu_free(buf[0]);
	buf[0] = alloc(f, CVB_GPU_HOST_PINNED, 2 << 20);
	copy(f, buf[0], 0, alloc(f, CVB_GPU_DEVICE, 64), 0, 64);
	sync_stream(f);
	cvb_gpu_free(other);
}

static void test_devices_do_not_mix(void **state)
{
	struct fixture *f = *state, *g;
	void *second = NULL;

	second = (void *)NO_CC;
	assert_int_equal(setup(&second), 0);
	g = second;
	struct cvb_gpu_buf *ours = alloc(f, CVB_GPU_DEVICE, 64);
	struct cvb_gpu_buf *theirs = alloc(g, CVB_GPU_HOST_PINNED, 64);
	struct cvb_gpu_event *event, *own;
	int64_t ns;

	assert_int_equal(cvb_gpu_event_new(g->gpu, &event, NULL), 0);
	assert_int_equal(cvb_gpu_event_new(f->gpu, &own, NULL), 0);
	assert_int_equal(cvb_gpu_copy_async(f->stream, ours, 0, theirs, 0, 64, NULL), -EINVAL);
	assert_int_equal(cvb_gpu_event_record(event, f->stream, NULL), -EINVAL);
	assert_int_equal(cvb_gpu_event_wait(f->stream, event, NULL), -EINVAL);
	assert_int_equal(cvb_gpu_event_elapsed_ns(event, own, &ns, NULL), -EINVAL);
	teardown(&second);
}

/* ---- what is said about the device ---- */

static void test_description(void **state)
{
	struct fixture *f = *state;
	struct cvb_gpu_cc cc;
	_cleanup_json_ json_t *doc = cvb_gpu_describe(f->gpu);
	const char *feature = NULL, *openssl = NULL, *sku = NULL;
	int emulated = 0, deterministic = 1;
	bool real = f->row->nvml || f->row->hardware;

	assert_int_equal(cvb_gpu_cc_state(f->gpu, &cc, &f->err), 0);
	if (!f->row->hardware) /* whose driver may be too old to tell */
		assert_int_not_equal(cc.feature, CVB_GPU_UNKNOWN);
	assert_non_null(doc);
	assert_int_equal(json_unpack(doc, "{s:{s:s},s:b,s:b,s:s}", "cc", "feature", &feature,
				     "emulated", &emulated, "deterministic", &deterministic, "sku",
				     &sku),
			 0);
	/* only the wall-clock emulator's copies use that library */
	assert_int_equal(json_unpack(doc, "{s:{s:s}}", "libraries", "openssl", &openssl),
			 f->row->wall ? 0 : -1);
	assert_string_equal(feature, cvb_gpu_tri_text(cc.feature));
	if (!real)
		assert_string_equal(sku, "h100-tdx");
	assert_int_equal(emulated, !real);
	assert_int_equal(cvb_gpu_is_emulated(f->gpu), !real);
	assert_int_equal(deterministic, is_virtual(f->row));
	assert_int_equal(cvb_gpu_is_deterministic(f->gpu), is_virtual(f->row));
	assert_true((cvb_gpu_clock(f->gpu) == &cvb_clock_host) == !is_virtual(f->row));
	assert_string_equal(cvb_gpu_spec(f->gpu), f->row->spec);
	if (cc.feature != CVB_GPU_UNKNOWN)
		assert_int_equal(cc.feature, f->row->cc ? CVB_GPU_ON : CVB_GPU_OFF);
}

static void test_specs(void **state)
{
	static const struct {
		const char *spec;
		int check, open; /* codes */
		const char *says;
	} table[] = {
		{"emu:h100-tdx", 0, 0, NULL},
		{"emu:rtxpro6000-tdx,clock=wall,cc=on", 0, 0, NULL},
		{"emu:h100-tdx,clock=virtual", 0, 0, NULL},
		{"cuda", 0, -EOPNOTSUPP, "CUDA"},
		{"cuda:3", 0, -EOPNOTSUPP, "CUDA"},
		{"cuda:x", -EINVAL, -EINVAL, "cuda:0"},
		{"cuda:", -EINVAL, -EINVAL, "cuda:0"},
		{"emu:h100-tdxx", -EINVAL, -EINVAL, "did you mean h100-tdx"},
		{"emu:a100", -EINVAL, -EINVAL, "h100nvl-snp"},
		{"emu", -EINVAL, -EINVAL, "SKU"},
		{"emu:", -EINVAL, -EINVAL, "SKU"},
		{"emu:h100-tdx,cc=maybe", -EINVAL, -EINVAL, "cc=on"},
		{"emu:h100-tdx,cc", -EINVAL, -EINVAL, "cc="},
		{"emu:h100-tdx,cc=on,cc=on", -EINVAL, -EINVAL, "twice"},
		{"emu:h100-tdx,clok=wall", -EINVAL, -EINVAL, "clock"},
		{"emu:h100-tdx,frequency=9", -EINVAL, -EINVAL, "cc=on|off"},
		{"emu:h100-tdx,", -EINVAL, -EINVAL, "cc=on|off"},
		{"emus:h100-tdx", -EINVAL, -EINVAL, "did you mean emu"},
		{"", -EINVAL, -EINVAL, "empty"},
		{NULL, -EINVAL, -EINVAL, "empty"},
	};

	(void)state;
	setenv("FAKE_CUDA_DEVICES", "0", 1); /* the fake driver finds none */
	for (size_t i = 0; i < CVB_ARRAY_LEN(table); i++) {
		struct cvb_err err = {0};
		struct cvb_gpu *gpu = NULL;
		char text[1024] = "";

		assert_int_equal(cvb_gpu_spec_check(table[i].spec, NULL), table[i].check);
		assert_int_equal(cvb_gpu_open(table[i].spec, &gpu, &err), table[i].open);
		assert_true((gpu != NULL) == (table[i].open == 0));
		cvb_err_text(&err, text, sizeof(text));
		if (table[i].says && !strstr(text, table[i].says))
			fail_msg("%s: \"%s\" does not say \"%s\"", table[i].spec, text,
				 table[i].says);
		cvb_gpu_close(gpu);
	}
	unsetenv("FAKE_CUDA_DEVICES");
	assert_null(cvb_gpu_close(NULL));
	assert_null(cvb_gpu_free(NULL));
	assert_null(cvb_gpu_stream_free(NULL));
	assert_null(cvb_gpu_event_free(NULL));
}

static void test_skus(void **state)
{
	_cleanup_json_ json_t *list = cvb_gpu_list_skus();
	size_t i;
	json_t *sku;

	(void)state;
	assert_int_equal(json_array_size(list), 6);
	json_array_foreach (list, i, sku) {
		_cleanup_free_ char *spec =
			cvb_strf("emu:%s", json_string_value(json_object_get(sku, "name")));

		assert_int_equal(cvb_gpu_spec_check(spec, NULL), 0);
	}
}

int main(void)
{
	static const struct conformance table[] = {
		EACH(test_bad_arguments),      EACH(test_bad_gemms),   EACH(test_pinned_pool),
		EACH(test_devices_do_not_mix), EACH(test_description),
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_specs),
		cmocka_unit_test(test_skus),
	};
	int failed = run_on_all(table, CVB_ARRAY_LEN(table));

	if (getenv("CVB_TEST_GPU")) /* with a driver, "cuda" opens */
		return failed;
	return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
