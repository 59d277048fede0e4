/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GPU benchmarks on the emulated device: what a user reads off them on the virtual clock, that
 * a corrupted transfer never becomes a number, and that they run on the wall clock.
 */
#include "gpu_run.h"

#include "gpu/paths.h"

#define H100_ON	 "emu:h100-tdx,cc=on,clock=virtual"
#define H100_OFF "emu:h100-tdx,cc=off,clock=virtual"

/* --- what a user reads off them --------------------------------------------------------------- */

/* With confidential computing a call lasts as long as its copy and all before it. */
static void test_async_block(void **state)
{
	struct gpu_result on = gpu_run("gpu.async_block", H100_ON, NULL);
	struct gpu_result off = gpu_run("gpu.async_block", H100_OFF, NULL);
	static const char *const pinned =
		"{'size_bytes':262144,'dir':'d2h','mem':'pinned','stream':'busy'}";
	size_t i;
	json_t *row;

	(void)state;
	gpu_assert_ran(&on);
	gpu_assert_ran(&off);
	json_array_foreach (on.rows, i, row)
		if (!strcmp(json_string_value(json_object_get(row, "metric")), "share"))
			gpu_assert_between(json_number_value(json_object_get(row, "value")), 0.999,
					   1);
	gpu_assert_between(gpu_get(&off, "share", pinned), 0, 0.01);
	gpu_assert_between(
		gpu_get(&off, "share",
			"{'size_bytes':262144,'dir':'d2h','mem':'pageable','stream':'busy'}"),
		0.999, 1);
	/* 500 us of work before it */
	assert_true(gpu_get(&on, "blocked", pinned) > 500e3);
	assert_true(gpu_get(&off, "blocked", pinned) < 10e3);
	gpu_done(&on);
	gpu_done(&off);
}

/* Launches cost twice as much on this model; one graph hides that. */
static void test_submit(void **state)
{
	struct gpu_result on = gpu_run("gpu.submit", H100_ON, NULL);
	struct gpu_result off = gpu_run("gpu.submit", H100_OFF, NULL);

	(void)state;
	gpu_assert_ran(&on);
	gpu_assert_ran(&off);
	gpu_assert_between(gpu_get(&on, "launch", "{}") / gpu_get(&off, "launch", "{}"), 1.9, 2.1);
	/* published: 4.9 us */
	gpu_assert_between(gpu_get(&off, "launch", "{}"), 4.85e3, 4.95e3);
	gpu_assert_between(gpu_get(&off, "launch_wait", "{}"), 9e3, 14e3);
	gpu_assert_between(gpu_get(&on, "launch_wait", "{}") / gpu_get(&off, "launch_wait", "{}"),
			   2.4, 2.8);
	gpu_assert_between(gpu_get(&on, "sync_idle", "{}") / gpu_get(&off, "sync_idle", "{}"), 1,
			   1.05);
	double eager = gpu_get(&on, "eager", "{'launches':256}") /
		       gpu_get(&off, "eager", "{'launches':256}");
	double graph = gpu_get(&on, "graph", "{'launches':256}") /
		       gpu_get(&off, "graph", "{'launches':256}");

	gpu_assert_between(eager, 1.9, 2.1);
	assert_true(graph < eager);
	assert_true(gpu_get(&on, "graph", "{'launches':256}") <
		    gpu_get(&on, "eager", "{'launches':256}") / 4);
	gpu_done(&on);
	gpu_done(&off);
}

/* The toll of a copy, and the far larger one of a host buffer that is new. */
static void test_small_copy(void **state)
{
	struct gpu_result on = gpu_run("gpu.small_copy", H100_ON, NULL);
	struct gpu_result off = gpu_run("gpu.small_copy", H100_OFF, NULL);
	static const char *const reused =
		"{'size_bytes':4096,'dir':'h2d','mem':'pinned','buffer':'reused'}";
	static const char *const fresh =
		"{'size_bytes':4096,'dir':'h2d','mem':'pinned','buffer':'fresh'}";

	(void)state;
	gpu_assert_ran(&on);
	gpu_assert_ran(&off);
	gpu_assert_between(gpu_get(&on, "latency", reused), 20e3, 60e3);
	/* 8 B, 16 B, … 64 KiB, each once, of two directions, kinds of memory and of buffers */
	assert_int_equal(json_array_size(on.rows), 14 * 2 * 2 * 2);
	gpu_assert_between(gpu_get(&on, "latency", reused) / gpu_get(&off, "latency", reused), 10,
			   12);
	/* the model's allocation: 141 us, and 13 us without */
	gpu_assert_between(gpu_get(&on, "latency", fresh) - gpu_get(&on, "latency", reused), 141e3,
			   144e3);
	gpu_assert_between(gpu_get(&off, "latency", fresh) - gpu_get(&off, "latency", reused),
			   12.9e3, 16e3);
	gpu_done(&on);
	gpu_done(&off);
}

/* The whole curve, in both directions and both at once, and close to what was published. */
static void test_copy_sweep(void **state)
{
	struct gpu_result on = gpu_run("gpu.copy", H100_ON, NULL);
	struct gpu_result off = gpu_run("gpu.copy", H100_OFF, NULL);
	static const char *const dirs[] = {"h2d", "d2h", "duplex"};

	(void)state;
	gpu_assert_ran(&on);
	gpu_assert_ran(&off);
	for (size_t d = 0; d < CVB_ARRAY_LEN(dirs); d++) {
		for (uint64_t size = 64; size <= UINT64_C(4) << 30; size *= 2) {
			_cleanup_free_ char *params =
				cvb_strf("{'size_bytes':%llu,'dir':'%s','mem':'pageable'}",
					 (unsigned long long)size, dirs[d]);

			if (size == UINT64_C(2) << 30)
				continue;
			assert_true(gpu_get(&on, "bandwidth", params) <
				    gpu_get(&off, "bandwidth", params));
			assert_true(gpu_get(&on, "latency", params) > 0);
		}
	}
	static const char *const gib = "{'size_bytes':1073741824,'dir':'h2d','mem':'pinned'}";

	gpu_assert_between(gpu_get(&on, "bandwidth", gib) / gpu_get(&off, "bandwidth", gib), 0.055,
			   0.064);
	gpu_assert_between(gpu_get(&on, "latency", gib), 0.93 * 422815e3, 1.07 * 422815e3);
	gpu_assert_bytes(&on, "bandwidth", "latency", gib, 0x1p30);
	gpu_assert_bytes(&on, "bandwidth", "latency",
			 "{'size_bytes':64,'dir':'duplex','mem':'pinned'}", 2 * 64);
	gpu_done(&on);
	gpu_done(&off);
}

/* Streams do not help, contexts do. */
static void test_scaling(void **state)
{
	struct gpu_result on =
		gpu_run("gpu.scaling", "emu:rtxpro6000-tdx,cc=on,clock=virtual", "dir=h2d");
	struct gpu_result unknown = gpu_run("gpu.scaling", H100_ON, "dir=h2d");
	struct gpu_result b300 =
		gpu_run("gpu.scaling", "emu:b300-tdx,cc=on,clock=virtual", "dir=h2d");

	(void)state;
	gpu_assert_ran(&b300);
	gpu_assert_between(gpu_get(&b300, "growth", "{'over':'processes','n':32}"), 3, 3.5);
	gpu_assert_between(gpu_get(&b300, "bandwidth", "{'over':'processes','n':1}"), 11.1e9,
			   11.4e9);
	gpu_done(&b300);
	gpu_assert_ran(&on);
	gpu_assert_between(gpu_get(&on, "growth", "{'over':'streams','n':8}"), 0.99, 1.01);
	gpu_assert_between(gpu_get(&on, "growth", "{'over':'contexts','n':8}"), 4, 8);
	gpu_assert_between(gpu_get(&on, "growth", "{'over':'processes','n':8}"), 2.8, 3);
	gpu_assert_between(gpu_get(&on, "growth", "{'over':'processes','n':32}"), 3.5, 4);
	double before = 0;

	for (int n = 1; n <= 8; n *= 2) {
		_cleanup_free_ char *params = cvb_strf("{'over':'contexts','n':%d}", n);
		double v = gpu_get(&on, "bandwidth", params);

		assert_true(v > before);
		before = v;
	}
	/* nothing is published of this model */
	gpu_assert_ran(&unknown);
	assert_int_equal(gpu_count(&unknown, "bandwidth", "{'over':'contexts','n':2}"), 0);
	gpu_assert_left_out(&unknown, "over", "contexts", "thread_contexts_h2d_max");
	gpu_done(&on);
	gpu_done(&unknown);
}

static void test_scaling_limit(void **state)
{
	struct gpu_result on = gpu_run("gpu.scaling", H100_ON, "dir=h2d max=32 over=contexts");

	(void)state;
	gpu_assert_ran(&on);
	gpu_assert_left_out(&on, "over", "contexts", "18 contexts");
	gpu_done(&on);
}

static void test_p2p(void **state)
{
	struct gpu_result on = gpu_run("gpu.p2p", "emu:b300-tdx,cc=on,clock=virtual", NULL);
	struct gpu_result off = gpu_run("gpu.p2p", "emu:b300-tdx,cc=off,clock=virtual", NULL);
	struct gpu_result none = gpu_run("gpu.p2p", H100_ON, NULL);
	static const char *const gib = "{'size_bytes':1073741824,'dir':'out'}";

	(void)state;
	gpu_assert_ran(&on);
	gpu_assert_ran(&off);
	gpu_assert_between(gpu_get(&on, "bandwidth", gib), 500e9, 511e9);
	gpu_assert_between(gpu_get(&on, "bandwidth", gib) / gpu_get(&off, "bandwidth", gib), 0.86,
			   0.90);
	gpu_assert_between(gpu_get(&on, "latency", "{'size_bytes':8,'dir':'in'}") -
				   gpu_get(&off, "latency", "{'size_bytes':8,'dir':'in'}"),
			   10e3, 15e3);
	assert_true(gpu_get(&on, "allreduce_latency", "{'size_bytes':4096,'devices':2}") >
		    gpu_get(&off, "allreduce_latency", "{'size_bytes':4096,'devices':2}"));
	/* two devices: 2 (n-1)/n is 1 */
	gpu_assert_bytes(&on, "allreduce_bandwidth", "allreduce_latency",
			 "{'size_bytes':4096,'devices':2}", 4096);
	assert_int_equal(none.r, -EOPNOTSUPP);
	assert_says(&none.err, "no peer");
	gpu_done(&on);
	gpu_done(&off);
	gpu_done(&none);
}

static void test_timer(void **state)
{
	struct gpu_result on = gpu_run("gpu.timer", H100_ON, NULL);

	(void)state;
	gpu_assert_ran(&on);
	gpu_assert_between(gpu_get(&on, "disagreement", "{'span_us':100}"), 0, 1e-9);
	gpu_assert_between(gpu_get(&on, "disagreement", "{'span_us':10000}"), 0, 1e-9);
	gpu_assert_between(gpu_get(&on, "resolution", "{}"), 1, 1);
	gpu_done(&on);
}

static void test_capability(void **state)
{
	struct gpu_result on = gpu_run("gpu.capability", H100_ON, NULL);
	struct gpu_result off = gpu_run("gpu.capability", H100_OFF, NULL);

	(void)state;
	gpu_assert_ran(&on);
	gpu_assert_ran(&off);
	gpu_assert_between(gpu_get(&on, "works", "{'capability':'async_copy'}"), 0, 0);
	gpu_assert_between(gpu_get(&off, "works", "{'capability':'async_copy'}"), 1, 1);
	gpu_assert_between(gpu_get(&on, "works", "{'capability':'peer'}"), 0, 0);
	gpu_assert_between(gpu_get(&on, "works", "{'capability':'graphs'}"), 1, 1);
	gpu_assert_between(gpu_get(&on, "stated", "{'capability':'host_register'}"), 0, 0);
	gpu_assert_between(gpu_get(&off, "stated", "{'capability':'host_register'}"), 1, 1);
	gpu_assert_between(gpu_get(&on, "stated", "{'capability':'cc'}"), 1, 1);
	gpu_assert_between(gpu_get(&on, "count", "{}"), 15, 15);
	gpu_assert_between(gpu_get(&off, "count", "{}"), 16, 16);
	gpu_assert_between(gpu_get(&on, "mismatches", "{}"), 0, 0);
	gpu_assert_left_out(&off, "capability", "gpudirect_rdma", "the device does not say");
	gpu_done(&on);
	gpu_done(&off);
}

static const char *const benches[] = {"gpu.async_block", "gpu.capability", "gpu.copy",
				      "gpu.scaling",	 "gpu.small_copy", "gpu.submit",
				      "gpu.timer"};

/* Two runs give the same numbers, to the last bit. */
static void test_deterministic(void **state)
{
	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(benches); i++) {
		struct gpu_result a = gpu_run(benches[i], H100_ON, NULL);
		struct gpu_result b = gpu_run(benches[i], H100_ON, NULL);

		gpu_assert_ran(&a);
		gpu_assert_ran(&b);
		assert_true(json_equal(a.rows, b.rows));
		gpu_done(&a);
		gpu_done(&b);
	}
}

/* --- memory -----------------------------------------------------------------------------------
 */

/* More than any GPU has. */
#define TOO_MUCH "max_size=1TiB step=1048576"

static size_t left_out_size(const struct gpu_result *res, json_int_t bytes, const char *reason)
{
	size_t i, n = 0;
	json_t *row;

	json_array_foreach (res->left_out, i, row) {
		const json_t *size = json_object_get(json_object_get(row, "params"), "size_bytes");

		n += json_integer_value(size) == bytes &&
		     strstr(json_string_value(json_object_get(row, "reason")), reason);
	}
	return n;
}

/* Sizes without memory for them are left out, the others are measured. */
static void test_too_large(void **state)
{
	static const struct {
		const char *name, *gpu, *sizes, *none, *metric, *params;
	} all[] = {
		{"gpu.copy", H100_ON, "min_size=1MiB mem=pinned dir=all " TOO_MUCH,
		 "min_size=1TiB " TOO_MUCH, "bandwidth", "{'dir':'duplex','size_bytes':1048576}"},
		{"gpu.async_block", H100_ON, "min_size=1MiB " TOO_MUCH, "min_size=1TiB " TOO_MUCH,
		 "share", "{'dir':'h2d','mem':'pinned','stream':'busy','size_bytes':1048576}"},
		{"gpu.p2p", "emu:b300-tdx,cc=on,clock=virtual", "min_size=1MiB " TOO_MUCH,
		 "min_size=1TiB " TOO_MUCH, "allreduce_bandwidth",
		 "{'devices':2,'size_bytes':1048576}"},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(all); i++) {
		struct gpu_result res = gpu_run(all[i].name, all[i].gpu, all[i].sizes);

		gpu_assert_ran(&res);
		assert_true(gpu_get(&res, all[i].metric, all[i].params) > 0);
		assert_int_equal(left_out_size(&res, (json_int_t)1 << 40, "1099511627776 bytes"),
				 1);
		gpu_done(&res);
		res = gpu_run(all[i].name, all[i].gpu, all[i].none);
		assert_int_equal(res.r, -EOPNOTSUPP);
		assert_says(&res.err, "1099511627776 bytes");
		gpu_done(&res);
	}
}

/* --- faults: never a number ------------------------------------------------------------------- */

/* One call of many comes out wrong, somewhere in the run. */
static void test_one_corrupted(void **state)
{
	static const char *const few = "max_size=256KiB step=64";

	(void)state;
	for (unsigned n = 7; n < 70; n += 13) {
		_cleanup_free_ char *gpu = cvb_strf("fault:copy=%u/corrupt:" H100_ON, n);

		gpu_assert_untrusted("gpu.copy", gpu, few);
		gpu_assert_untrusted("gpu.async_block", gpu, few);
	}
	gpu_assert_untrusted("gpu.copy", "fault:copy=150/corrupt:" H100_OFF,
			     "dir=duplex min_size=1GiB");
	gpu_assert_untrusted("gpu.submit", "fault:launch=100/corrupt:" H100_ON, NULL);
	gpu_assert_untrusted("gpu.submit", "fault:graph=3/corrupt:" H100_ON, NULL);
	gpu_assert_untrusted("gpu.capability", "fault:gemm=1/corrupt:" H100_ON, NULL);
	gpu_assert_untrusted("gpu.capability", "fault:touch=1/corrupt:" H100_ON, NULL);
}

static void test_all_corrupted(void **state)
{
	(void)state;
	gpu_assert_untrusted("gpu.small_copy", "fault:copy=all/corrupt:" H100_ON, NULL);
	gpu_assert_untrusted("gpu.scaling", "fault:copy=all/corrupt:" H100_OFF, NULL);
	gpu_assert_untrusted("gpu.p2p", "fault:peer=all/corrupt:emu:h100-tdx", "max_size=64KiB");
	gpu_assert_untrusted("gpu.p2p", "fault:launch=all/corrupt:emu:h100-tdx", "max_size=64KiB");
	gpu_assert_untrusted("gpu.copy", "fault:emu:h100-tdx,cc=on", "max_size=64KiB");
}

/* --- data ------------------------------------------------------------------------------------- */

/* A byte that changed is found wherever it is, in a sparse buffer and in a dense one. */
static void check_data(const char *spec, size_t bytes)
{
	static const double places[] = {0, 0.001, 0.3, 0.5, 0.77, 0.999999};
	struct cvb_gpu_buf *host, *device;
	struct cvb_gpu *gpu = NULL;
	struct cvb_dev d = {0};
	struct cvb_err err = {0};

	assert_int_equal(cvb_gpu_open(spec, &gpu, &err), 0);
	assert_int_equal(cvb_dev_init(&d, gpu, NULL, bytes, 64, 1, &err), 0);
	assert_int_equal(cvb_dev_alloc(&d, CVB_GPU_HOST_PINNED, bytes, &host, &err), 0);
	assert_int_equal(cvb_dev_alloc(&d, CVB_GPU_DEVICE, bytes, &device, &err), 0);
	for (size_t i = 0; i < CVB_ARRAY_LEN(places); i++) {
		uint8_t *p = cvb_gpu_buf_host(host);
		size_t at = (size_t)(places[i] * (double)(bytes - 1));

		assert_int_equal(cvb_dev_clear(&d, host, bytes, &err), 0);
		assert_int_equal(cvb_dev_clear(&d, device, bytes, &err), 0);
		assert_int_equal(cvb_dev_check(&d, device, bytes, "device", &err), -EBADMSG);
		assert_int_equal(cvb_dev_fill(&d, host, bytes, &err), 0);
		assert_int_equal(cvb_dev_check(&d, host, bytes, "host", &err), 0);
		p[at] ^= 0x10;
		assert_int_equal(cvb_dev_check(&d, host, bytes, "host", &err), -EBADMSG);
		assert_int_equal(cvb_dev_copy(&d, device, 0, host, 0, bytes, &err), 0);
		assert_int_equal(cvb_dev_check(&d, device, bytes, "device", &err), -EBADMSG);
		p[at] ^= 0x10;
		assert_int_equal(cvb_dev_copy(&d, device, at, host, at, 1, &err), 0);
		assert_int_equal(cvb_dev_check(&d, device, bytes, "device", &err), 0);
	}
	/* one byte short of the whole */
	assert_int_equal(cvb_dev_clear(&d, device, bytes, &err), 0);
	assert_int_equal(cvb_dev_copy(&d, device, 0, host, 0, bytes - 1, &err), 0);
	assert_int_equal(cvb_dev_check_clear(&d, device, bytes, "device", &err), -EBADMSG);
	cvb_gpu_free(host);
	cvb_gpu_free(device);
	cvb_dev_done(&d);
	cvb_gpu_close(gpu);
}

static void test_data(void **state)
{
	(void)state;
	check_data("emu:h100-tdx", CVB_MIB + 4099);
	check_data(H100_ON, (size_t)64 * CVB_MIB);
	check_data(H100_OFF, CVB_MIB + 4099);
}

/* --- the wall clock --------------------------------------------------------------------------- */

static void test_wall(void **state)
{
	static const struct {
		const char *name, *options;
	} all[] = {
		{"gpu.async_block", "max_size=64KiB step=16 busy=10"},
		{"gpu.capability", NULL},
		{"gpu.copy", "min_size=64KiB max_size=64KiB dir=all"},
		{"gpu.p2p", "min_size=4KiB max_size=4KiB"},
		{"gpu.scaling", "size=64KiB max=2"},
		{"gpu.small_copy", "min_size=4KiB max_size=4KiB"},
		{"gpu.submit", "max_launches=16"},
		{"gpu.timer", "max_span=100"},
	};
	static const char *const specs[] = {"emu:h100-tdx,cc=on", "emu:h100-tdx,cc=off"};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(all); i++) {
		for (size_t k = 0; k < CVB_ARRAY_LEN(specs); k++) {
			struct gpu_result res = gpu_run(all[i].name, specs[k], all[i].options);

			gpu_assert_ran(&res);
			assert_true(json_array_size(res.rows) > 0);
			for (size_t v = 0; v < json_array_size(res.rows); v++)
				assert_true(json_number_value(json_object_get(
						    json_array_get(res.rows, v), "value")) >= 0);
			gpu_done(&res);
		}
	}
}

static void test_bad_options(void **state)
{
	static const char *const bad[][3] = {
		{"gpu.copy", "step=3", "no power of two"},
		{"gpu.copy", "min_size=2MiB max_size=1MiB", "is larger than max_size"},
		{"gpu.async_block", "step=12", "no power of two"},
		{"gpu.small_copy", "step=1", "would not grow"},
		{"gpu.submit", "min_launches=64 max_launches=16", "is more than max_launches"},
		{"gpu.timer", "min_span=1000 max_span=100", "is longer than max_span"},
		{"gpu.p2p", "step=3", "no power of two"},
		{"gpu.scaling", "max=33", "max"},
		{"gpu.async_block", "min_size=2MiB max_size=1MiB", "is larger than max_size"},
		{"gpu.p2p", "min_size=2MiB max_size=1MiB", "is larger than max_size"},
		{"gpu.small_copy", "min_size=2KiB max_size=1KiB", "is larger than max_size"},
		{"gpu.kv_restore", "blocks=65536", "1 to 8192"},
		{"gpu.managed", "size=64GiB", "out of range"},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
		struct gpu_result res = gpu_run(bad[i][0], H100_OFF, bad[i][1]);

		assert_int_equal(res.r, -EINVAL);
		assert_says(&res.err, bad[i][2]);
		gpu_done(&res);
	}
	/* memory that is really filled, 32 times */
	struct gpu_result res = gpu_run("gpu.lifecycle", "emu:h100-tdx", "size=4GiB");

	assert_int_equal(res.r, -EINVAL);
	assert_says(&res.err, "at most 4 GiB");
	gpu_done(&res);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_async_block),   cmocka_unit_test(test_submit),
		cmocka_unit_test(test_small_copy),    cmocka_unit_test(test_copy_sweep),
		cmocka_unit_test(test_scaling),	      cmocka_unit_test(test_scaling_limit),
		cmocka_unit_test(test_p2p),	      cmocka_unit_test(test_timer),
		cmocka_unit_test(test_capability),    cmocka_unit_test(test_deterministic),
		cmocka_unit_test(test_one_corrupted), cmocka_unit_test(test_all_corrupted),
		cmocka_unit_test(test_too_large),     cmocka_unit_test(test_data),
		cmocka_unit_test(test_wall),	      cmocka_unit_test(test_bad_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
