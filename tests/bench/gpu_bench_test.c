/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GPU benchmarks on the emulated device: what a user reads off them on the virtual clock, that
 * a corrupted transfer never becomes a number, and that they run on the wall clock.
 */
#include "fixture.h"

#include "gpu/paths.h"
#include "measure/runner.h"

#include <math.h>

#define H100_ON	 "emu:h100-tdx,cc=on,clock=virtual"
#define H100_OFF "emu:h100-tdx,cc=off,clock=virtual"

/* --- one sample of a benchmark ---------------------------------------------------------------- */

struct result {
	int r; /* of the first thing that failed */
	struct cvb_err err;
	json_t *rows;	  /* [{"metric","params","value"}] */
	json_t *left_out; /* [{"params","reason"}] */
};

static int sample(struct cvb_runner *runner, struct result *res)
{
	size_t n_series, n_cases = cvb_runner_cases(runner);
	const struct cvb_series *series = cvb_runner_series(runner, &n_series);
	_cleanup_free_ uint64_t *iters = calloc(n_cases, sizeof(*iters));
	_cleanup_free_ uint64_t *ns = calloc(n_cases, sizeof(*ns));
	_cleanup_free_ double *value = calloc(n_series, sizeof(*value));
	struct cvb_sample s = {.value = value, .ns = ns};
	int r = cvb_runner_calibrate(runner, iters, &res->err);

	if (r == 0)
		r = cvb_runner_sample(runner, iters, &s, &res->err);
	if (r == 0)
		r = cvb_runner_verify(runner, &res->err);
	res->left_out = json_deep_copy(cvb_runner_left_out(runner));
	for (size_t i = 0; r == 0 && i < n_series; i++)
		json_array_append_new(res->rows,
				      json_pack("{s:s,s:O*,s:f}", "metric", series[i].metric->name,
						"params", series[i].params, "value",
						isfinite(value[i]) ? value[i] : -1.0));
	return r;
}

/* Free it by done().  `options`: "key=value key=value", or NULL. */
static struct result run(const char *name, const char *gpu, const char *options)
{
	struct result res = {.rows = json_array()};
	const struct cvb_bench *bench = cvb_bench_find(name, &res.err);
	_cleanup_json_ json_t *set = json_object();
	_cleanup_free_ char *copy = strdup(options ? options : "");
	struct cvb_runner *runner = NULL;
	char *rest = copy;

	assert_non_null(bench);
	for (char *word; (word = strsep(&rest, " "));) {
		char *value = strchr(word, '=');

		if (!value)
			continue;
		*value++ = '\0';
		json_object_set_new(set, word, json_string(value));
	}
	const struct cvb_runner_opts opts = {
		.options = set, .gpu = gpu, .threads = 1, .sample_ns = CVB_NS_PER_MS};

	res.r = cvb_runner_open(&runner, bench, &opts, &res.err);
	if (res.r == 0)
		res.r = sample(runner, &res);
	cvb_runner_close(runner);
	return res;
}

static void done(struct result *res)
{
	json_decref(res->rows);
	json_decref(res->left_out);
	*res = (struct result){0};
}

static void assert_ran(const struct result *res)
{
	char text[2048];

	if (res->r == 0)
		return;
	cvb_err_text(&res->err, text, sizeof(text));
	fail_msg("%d: %s", res->r, text);
}

/* Does an object have all that `want` has? */
static bool has_all(const json_t *params, const json_t *want)
{
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)want, key, value)
		if (!json_equal(json_object_get(params, key), value))
			return false;
	return true;
}

/* The one value of a metric with these parameters ("{…}" as JSON with ' for "); NAN: none. */
static double find(const struct result *res, const char *metric, const char *params)
{
	_cleanup_free_ char *text = strdup(params);
	double value = NAN;
	size_t i, n = 0;
	json_t *row;

	for (char *p = text; (p = strchr(p, '\''));)
		*p = '"';
	_cleanup_json_ json_t *want = json_loads(text, 0, NULL);

	assert_non_null(want);
	json_array_foreach (res->rows, i, row) {
		if (strcmp(json_string_value(json_object_get(row, "metric")), metric) != 0 ||
		    !has_all(json_object_get(row, "params"), want))
			continue;
		value = json_number_value(json_object_get(row, "value"));
		n++;
	}
	if (n > 1)
		fail_msg("%s %s names %zu values", metric, params, n);
	return value;
}

/* The same, which must be there. */
static double get(const struct result *res, const char *metric, const char *params)
{
	double v = find(res, metric, params);

	if (isnan(v))
		fail_msg("no %s %s", metric, params);
	return v;
}

static void assert_between(double v, double low, double high)
{
	if (!(v >= low && v <= high))
		fail_msg("%.9g is not from %.9g to %.9g", v, low, high);
}

static void assert_left_out(const struct result *res, const char *part)
{
	size_t i;
	json_t *row;

	json_array_foreach (res->left_out, i, row)
		if (strstr(json_string_value(json_object_get(row, "reason")), part))
			return;
	fail_msg("nothing is left out for \"%s\"", part);
}

/* --- what a user reads off them --------------------------------------------------------------- */

/* With confidential computing a call lasts as long as its copy and all before it. */
static void test_async_block(void **state)
{
	struct result on = run("gpu.async_block", H100_ON, NULL);
	struct result off = run("gpu.async_block", H100_OFF, NULL);
	static const char *const pinned =
		"{'size_bytes':262144,'dir':'d2h','mem':'pinned','stream':'busy'}";
	size_t i;
	json_t *row;

	(void)state;
	assert_ran(&on);
	assert_ran(&off);
	json_array_foreach (on.rows, i, row)
		if (!strcmp(json_string_value(json_object_get(row, "metric")), "share"))
			assert_between(json_number_value(json_object_get(row, "value")), 0.999, 1);
	assert_between(get(&off, "share", pinned), 0, 0.01);
	assert_between(get(&off, "share",
			   "{'size_bytes':262144,'dir':'d2h','mem':'pageable','stream':'busy'}"),
		       0.999, 1);
	/* 500 us of work before it */
	assert_true(get(&on, "blocked", pinned) > 500e3);
	assert_true(get(&off, "blocked", pinned) < 10e3);
	done(&on);
	done(&off);
}

/* Launches cost twice as much on this model; one graph hides that. */
static void test_submit(void **state)
{
	struct result on = run("gpu.submit", H100_ON, NULL);
	struct result off = run("gpu.submit", H100_OFF, NULL);

	(void)state;
	assert_ran(&on);
	assert_ran(&off);
	assert_between(get(&on, "launch", "{}") / get(&off, "launch", "{}"), 1.9, 2.1);
	assert_between(get(&on, "launch_wait", "{}") / get(&off, "launch_wait", "{}"), 2.4, 2.8);
	assert_between(get(&on, "sync_idle", "{}") / get(&off, "sync_idle", "{}"), 1, 1.05);
	double eager =
		get(&on, "eager", "{'launches':256}") / get(&off, "eager", "{'launches':256}");
	double graph =
		get(&on, "graph", "{'launches':256}") / get(&off, "graph", "{'launches':256}");

	assert_between(eager, 1.9, 2.1);
	assert_true(graph < eager);
	assert_true(get(&on, "graph", "{'launches':256}") <
		    get(&on, "eager", "{'launches':256}") / 4);
	done(&on);
	done(&off);
}

/* The toll of a copy, and the far larger one of a host buffer that is new. */
static void test_small_copy(void **state)
{
	struct result on = run("gpu.small_copy", H100_ON, NULL);
	struct result off = run("gpu.small_copy", H100_OFF, NULL);
	static const char *const reused =
		"{'size_bytes':4096,'dir':'h2d','mem':'pinned','buffer':'reused'}";
	static const char *const fresh =
		"{'size_bytes':4096,'dir':'h2d','mem':'pinned','buffer':'fresh'}";

	(void)state;
	assert_ran(&on);
	assert_ran(&off);
	assert_between(get(&on, "latency", reused), 20e3, 60e3);
	assert_between(get(&on, "latency", reused) / get(&off, "latency", reused), 10, 12);
	/* the model's allocation: 141 us, and 13 us without */
	assert_between(get(&on, "latency", fresh) - get(&on, "latency", reused), 141e3, 144e3);
	assert_between(get(&off, "latency", fresh) - get(&off, "latency", reused), 12.9e3, 16e3);
	done(&on);
	done(&off);
}

/* The whole curve, in both directions and both at once, and close to what was published. */
static void test_copy_sweep(void **state)
{
	struct result on = run("gpu.copy", H100_ON, NULL);
	struct result off = run("gpu.copy", H100_OFF, NULL);
	static const char *const dirs[] = {"h2d", "d2h", "duplex"};

	(void)state;
	assert_ran(&on);
	assert_ran(&off);
	for (size_t d = 0; d < CVB_ARRAY_LEN(dirs); d++) {
		for (uint64_t size = 64; size <= UINT64_C(4) << 30; size *= 2) {
			_cleanup_free_ char *params =
				cvb_strf("{'size_bytes':%llu,'dir':'%s','mem':'pageable'}",
					 (unsigned long long)size, dirs[d]);

			if (size == UINT64_C(2) << 30)
				continue;
			assert_true(get(&on, "bandwidth", params) < get(&off, "bandwidth", params));
			assert_true(get(&on, "latency", params) > 0);
		}
	}
	static const char *const gib = "{'size_bytes':1073741824,'dir':'h2d','mem':'pinned'}";

	assert_between(get(&on, "bandwidth", gib) / get(&off, "bandwidth", gib), 0.055, 0.064);
	assert_between(get(&on, "latency", gib), 0.93 * 422815e3, 1.07 * 422815e3);
	done(&on);
	done(&off);
}

/* Streams do not help, contexts do. */
static void test_scaling(void **state)
{
	struct result on = run("gpu.scaling", "emu:rtxpro6000-tdx,cc=on,clock=virtual", "dir=h2d");
	struct result unknown = run("gpu.scaling", H100_ON, "dir=h2d");
	struct result b300 = run("gpu.scaling", "emu:b300-tdx,cc=on,clock=virtual", "dir=h2d");

	(void)state;
	assert_ran(&b300);
	assert_between(get(&b300, "growth", "{'over':'processes','n':32}"), 3, 3.5);
	assert_between(get(&b300, "bandwidth", "{'over':'processes','n':1}"), 11.1e9, 11.4e9);
	done(&b300);
	assert_ran(&on);
	assert_between(get(&on, "growth", "{'over':'streams','n':8}"), 0.99, 1.01);
	assert_between(get(&on, "growth", "{'over':'contexts','n':8}"), 4, 8);
	assert_between(get(&on, "growth", "{'over':'processes','n':8}"), 2.8, 3);
	assert_between(get(&on, "growth", "{'over':'processes','n':32}"), 3.5, 4);
	double before = 0;

	for (int n = 1; n <= 8; n *= 2) {
		_cleanup_free_ char *params = cvb_strf("{'over':'contexts','n':%d}", n);
		double v = get(&on, "bandwidth", params);

		assert_true(v > before);
		before = v;
	}
	/* nothing is published of this model */
	assert_ran(&unknown);
	assert_true(isnan(find(&unknown, "bandwidth", "{'over':'contexts','n':2}")));
	assert_left_out(&unknown, "thread_contexts_h2d_max");
	done(&on);
	done(&unknown);
}

static void test_scaling_limit(void **state)
{
	struct result on = run("gpu.scaling", H100_ON, "dir=h2d max=32 over=contexts");

	(void)state;
	assert_ran(&on);
	assert_left_out(&on, "18 contexts");
	done(&on);
}

static void test_p2p(void **state)
{
	struct result on = run("gpu.p2p", "emu:b300-tdx,cc=on,clock=virtual", NULL);
	struct result off = run("gpu.p2p", "emu:b300-tdx,cc=off,clock=virtual", NULL);
	struct result none = run("gpu.p2p", H100_ON, NULL);
	static const char *const gib = "{'size_bytes':1073741824,'dir':'out'}";

	(void)state;
	assert_ran(&on);
	assert_ran(&off);
	assert_between(get(&on, "bandwidth", gib), 500e9, 511e9);
	assert_between(get(&on, "bandwidth", gib) / get(&off, "bandwidth", gib), 0.86, 0.90);
	assert_between(get(&on, "latency", "{'size_bytes':8,'dir':'in'}") -
			       get(&off, "latency", "{'size_bytes':8,'dir':'in'}"),
		       10e3, 15e3);
	assert_true(get(&on, "allreduce_latency", "{'size_bytes':4096,'devices':2}") >
		    get(&off, "allreduce_latency", "{'size_bytes':4096,'devices':2}"));
	assert_int_equal(none.r, -EOPNOTSUPP);
	assert_says(&none.err, "no peer");
	done(&on);
	done(&off);
	done(&none);
}

static void test_timer(void **state)
{
	struct result on = run("gpu.timer", H100_ON, NULL);

	(void)state;
	assert_ran(&on);
	assert_between(get(&on, "disagreement", "{'span_us':100}"), 0, 1e-9);
	assert_between(get(&on, "disagreement", "{'span_us':10000}"), 0, 1e-9);
	assert_between(get(&on, "resolution", "{}"), 1, 1);
	done(&on);
}

static void test_capability(void **state)
{
	struct result on = run("gpu.capability", H100_ON, NULL);
	struct result off = run("gpu.capability", H100_OFF, NULL);

	(void)state;
	assert_ran(&on);
	assert_ran(&off);
	assert_between(get(&on, "works", "{'capability':'async_copy'}"), 0, 0);
	assert_between(get(&off, "works", "{'capability':'async_copy'}"), 1, 1);
	assert_between(get(&on, "works", "{'capability':'peer'}"), 0, 0);
	assert_between(get(&on, "works", "{'capability':'graphs'}"), 1, 1);
	assert_between(get(&on, "stated", "{'capability':'host_register'}"), 0, 0);
	assert_between(get(&off, "stated", "{'capability':'host_register'}"), 1, 1);
	assert_between(get(&on, "stated", "{'capability':'cc'}"), 1, 1);
	assert_between(get(&on, "count", "{}"), 15, 15);
	assert_between(get(&off, "count", "{}"), 16, 16);
	assert_between(get(&on, "mismatches", "{}"), 0, 0);
	assert_left_out(&off, "gpudirect_rdma: the device does not say");
	done(&on);
	done(&off);
}

static const char *const benches[] = {"gpu.async_block", "gpu.capability", "gpu.copy",
				      "gpu.scaling",	 "gpu.small_copy", "gpu.submit",
				      "gpu.timer"};

/* Two runs give the same numbers, to the last bit. */
static void test_deterministic(void **state)
{
	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(benches); i++) {
		struct result a = run(benches[i], H100_ON, NULL);
		struct result b = run(benches[i], H100_ON, NULL);

		assert_ran(&a);
		assert_ran(&b);
		assert_true(json_equal(a.rows, b.rows));
		done(&a);
		done(&b);
	}
}

/* --- faults: never a number ------------------------------------------------------------------- */

static void assert_untrusted(const char *name, const char *gpu, const char *options)
{
	struct result res = run(name, gpu, options);

	if (res.r != -EBADMSG)
		fail_msg("%s on %s gave %d", name, gpu, res.r);
	done(&res);
}

/* One call of many comes out wrong, somewhere in the run. */
static void test_one_corrupted(void **state)
{
	static const char *const few = "max_size=256KiB step=64";

	(void)state;
	for (unsigned n = 7; n < 70; n += 13) {
		_cleanup_free_ char *gpu = cvb_strf("fault:copy=%u/corrupt:" H100_ON, n);

		assert_untrusted("gpu.copy", gpu, few);
		assert_untrusted("gpu.async_block", gpu, few);
	}
	assert_untrusted("gpu.copy", "fault:copy=150/corrupt:" H100_OFF,
			 "dir=duplex min_size=1GiB");
	assert_untrusted("gpu.submit", "fault:launch=100/corrupt:" H100_ON, NULL);
	assert_untrusted("gpu.submit", "fault:graph=3/corrupt:" H100_ON, NULL);
	assert_untrusted("gpu.capability", "fault:gemm=1/corrupt:" H100_ON, NULL);
	assert_untrusted("gpu.capability", "fault:touch=1/corrupt:" H100_ON, NULL);
}

static void test_all_corrupted(void **state)
{
	(void)state;
	assert_untrusted("gpu.small_copy", "fault:copy=all/corrupt:" H100_ON, NULL);
	assert_untrusted("gpu.scaling", "fault:copy=all/corrupt:" H100_OFF, NULL);
	assert_untrusted("gpu.p2p", "fault:peer=all/corrupt:emu:h100-tdx", "max_size=64KiB");
	assert_untrusted("gpu.p2p", "fault:launch=all/corrupt:emu:h100-tdx", "max_size=64KiB");
	assert_untrusted("gpu.copy", "fault:emu:h100-tdx,cc=on", "max_size=64KiB");
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
			struct result res = run(all[i].name, specs[k], all[i].options);

			assert_ran(&res);
			assert_true(json_array_size(res.rows) > 0);
			for (size_t v = 0; v < json_array_size(res.rows); v++)
				assert_true(json_number_value(json_object_get(
						    json_array_get(res.rows, v), "value")) >= 0);
			done(&res);
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
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
		struct result res = run(bad[i][0], H100_OFF, bad[i][1]);

		assert_int_equal(res.r, -EINVAL);
		assert_says(&res.err, bad[i][2]);
		done(&res);
	}
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
		cmocka_unit_test(test_data),	      cmocka_unit_test(test_wall),
		cmocka_unit_test(test_bad_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
