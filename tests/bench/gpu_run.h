/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One sample of a benchmark on a GPU, for tests: what it gave, by metric and parameters.
 */
#ifndef CVB_TESTS_BENCH_GPU_RUN_H
#define CVB_TESTS_BENCH_GPU_RUN_H

#include "fixture.h"

#include "measure/runner.h"

#include <math.h>

struct gpu_result {
	int r; /* of the first thing that failed */
	struct cvb_err err;
	json_t *rows;	  /* [{"metric","params","value"}] */
	json_t *left_out; /* [{"params","reason"}] */
};

static inline void gpu_done(struct gpu_result *res)
{
	json_decref(res->rows);
	json_decref(res->left_out);
	*res = (struct gpu_result){0};
}

#define _cleanup_run_ __attribute__((cleanup(gpu_done)))

/*
 * One sample, of `n` iterations of each case (0: as many as calibration finds), and the check after
 * it.  `rows` gets what it gave; NULL: nobody wants it.
 */
static inline int gpu_sample_of(struct cvb_runner *runner, uint64_t n, json_t *rows,
				struct cvb_err *err)
{
	size_t n_series, n_cases = cvb_runner_cases(runner);
	const struct cvb_series *series = cvb_runner_series(runner, &n_series);
	_cleanup_free_ uint64_t *iters = calloc(n_cases, sizeof(*iters));
	_cleanup_free_ uint64_t *ns = calloc(n_cases, sizeof(*ns));
	_cleanup_free_ double *value = calloc(n_series, sizeof(*value));
	struct cvb_sample s = {.value = value, .ns = ns};
	int r = n ? 0 : cvb_runner_calibrate(runner, iters, err);

	for (size_t i = 0; n && i < n_cases; i++)
		iters[i] = n;
	if (r == 0)
		r = cvb_runner_sample(runner, iters, &s, err);
	if (r == 0)
		r = cvb_runner_verify(runner, err);
	for (size_t i = 0; r == 0 && rows && i < n_series; i++) {
		if (!isfinite(value[i]))
			fail_msg("%s has no value", series[i].metric->name);
		json_array_append_new(rows,
				      json_pack("{s:s,s:O*,s:f}", "metric", series[i].metric->name,
						"params", series[i].params, "value", value[i]));
	}
	return r;
}

/* "key=value key=value", or NULL, as an object. */
static inline json_t *gpu_options(const char *options)
{
	_cleanup_free_ char *copy = strdup(options ? options : "");
	json_t *set = json_object();
	char *rest = copy;

	for (char *word; (word = strsep(&rest, " "));) {
		char *value = strchr(word, '=');

		if (!value)
			continue;
		*value++ = '\0';
		json_object_set_new(set, word, json_string(value));
	}
	return set;
}

/* `options`: "key=value key=value", or NULL. */
static inline struct gpu_result gpu_run(const char *name, const char *gpu, const char *options)
{
	struct gpu_result res = {.rows = json_array()};
	const struct cvb_bench *bench = cvb_bench_find(name, &res.err);
	_cleanup_json_ json_t *set = gpu_options(options);
	struct cvb_runner *runner = NULL;

	assert_non_null(bench);
	const struct cvb_runner_opts opts = {
		.options = set, .gpu = gpu, .threads = 1, .sample_ns = CVB_NS_PER_MS};

	res.r = cvb_runner_open(&runner, bench, &opts, &res.err);
	if (res.r == 0) {
		res.r = gpu_sample_of(runner, 0, res.rows, &res.err);
		res.left_out = json_deep_copy(cvb_runner_left_out(runner));
	}
	cvb_runner_close(runner);
	return res;
}

static inline void gpu_assert_ran(const struct gpu_result *res)
{
	char text[2048];

	if (res->r == 0)
		return;
	cvb_err_text(&res->err, text, sizeof(text));
	fail_msg("%d: %s", res->r, text);
}

static inline void gpu_assert_between(double v, double low, double high)
{
	if (!(v >= low && v <= high))
		fail_msg("%.9g is not from %.9g to %.9g", v, low, high);
}

/* Its data came out wrong, and the run says so. */
static inline void gpu_assert_untrusted(const char *bench, const char *gpu, const char *options)
{
	_cleanup_run_ struct gpu_result res = gpu_run(bench, gpu, options);

	if (res.r != -EBADMSG)
		fail_msg("%s on %s with %s: %d, not untrusted", bench, gpu, options ? options : "",
			 res.r);
}

/* How many values a metric has whose parameters have these ("{…}" as JSON with ' for "), and the
 * last of them. */
static inline size_t gpu_find(const struct gpu_result *res, const char *metric, const char *params,
			      double *ret)
{
	_cleanup_free_ char *text = strdup(params);
	size_t i, n = 0;
	json_t *row, *want_value;
	const char *key;

	for (char *p = text; (p = strchr(p, '\''));)
		*p = '"';
	_cleanup_json_ json_t *want = json_loads(text, 0, NULL);

	assert_non_null(want);
	json_array_foreach (res->rows, i, row) {
		bool same = !strcmp(json_string_value(json_object_get(row, "metric")), metric);

		json_object_foreach (want, key, want_value)
			same = same &&
			       json_equal(json_object_get(json_object_get(row, "params"), key),
					  want_value);
		if (same) {
			*ret = json_number_value(json_object_get(row, "value"));
			n++;
		}
	}
	return n;
}

static inline size_t gpu_count(const struct gpu_result *res, const char *metric, const char *params)
{
	double value;

	return gpu_find(res, metric, params, &value);
}

/* The one value with these parameters. */
static inline double gpu_get(const struct gpu_result *res, const char *metric, const char *params)
{
	double value = NAN;
	size_t n = gpu_find(res, metric, params, &value);

	if (n != 1)
		fail_msg("%s %s names %zu values", metric, params, n);
	return value;
}

/* A rate of `bytes` in the time that `time` has in ns: two metrics of the same samples. */
static inline void gpu_assert_bytes(const struct gpu_result *res, const char *rate,
				    const char *time, const char *params, double bytes)
{
	gpu_assert_between(gpu_get(res, rate, params) * gpu_get(res, time, params) / 1e9,
			   bytes * (1 - 1e-6), bytes * (1 + 1e-6));
}

/* Something with this text in its params was left out, with `part` in the reason. */
static inline void gpu_assert_left_out(const struct gpu_result *res, const char *key,
				       const char *word, const char *part)
{
	size_t i;
	json_t *row;

	json_array_foreach (res->left_out, i, row) {
		const char *have =
			json_string_value(json_object_get(json_object_get(row, "params"), key));
		const char *reason = json_string_value(json_object_get(row, "reason"));

		if (have && !strcmp(have, word) && strstr(reason, part))
			return;
	}
	fail_msg("%s=%s was not left out for \"%s\"", key, word, part);
}

#endif
