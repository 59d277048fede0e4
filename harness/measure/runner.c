/* SPDX-License-Identifier: Apache-2.0 */
#include "measure/runner_part.h"

#include "core/util.h"
#include "gpu/gpu.h"

#include <errno.h>

#define DEFAULT_SAMPLE_NS (20 * CVB_NS_PER_MS)
#define MAX_WORKERS	  1024

/* --- open and close -------------------------------------------------------------------------- */

static int parse_options(struct cvb_runner *r, const json_t *options, struct cvb_err *err)
{
	const struct cvb_bench *b = r->run.bench;
	const char *key;
	json_t *value;
	int ret;

	r->conf = calloc(1, b->conf_size ? b->conf_size : 1);
	if (!r->conf)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r->run.conf = r->conf;
	ret = cvb_opts_defaults(b->opts, r->conf, err);
	if (ret < 0)
		return ret;
	json_object_foreach ((json_t *)(uintptr_t)options, key, value) {
		if (!json_is_string(value))
			return cvb_err_set(err, -EINVAL, "%s: option %s is not a text", b->name,
					   key);
		ret = cvb_opt_set(b->opts, r->conf, key, json_string_value(value), err);
		if (ret < 0)
			return cvb_err_wrap(err, ret, "%s", b->name);
	}
	return 0;
}

/* What speaks against the device's numbers goes with them. */
static void note_warnings(struct cvb_runner *r)
{
	_cleanup_json_ json_t *gpu = cvb_gpu_describe(r->run.gpu);
	size_t i;
	json_t *w;

	json_array_foreach (json_object_get(gpu, "warnings"), i, w)
		cvb_run_note(&r->run, "GPU %s: %s", cvb_gpu_spec(r->run.gpu), json_string_value(w));
}

static int open_gpu(struct cvb_runner *r, const char *spec, struct cvb_err *err)
{
	int ret;

	if (!(r->run.bench->flags & CVB_BENCH_NEEDS_GPU))
		return 0;
	if (!spec)
		return cvb_err_set(
			err, -EOPNOTSUPP,
			"%s needs a GPU: name one with -g (cuda, or emu:h100-tdx for the "
			"emulated one)",
			r->run.bench->name);
	ret = cvb_gpu_open(spec, &r->run.gpu, err);
	if (ret < 0)
		return cvb_err_wrap(err, ret, "opening GPU %s", spec);
	r->clock = cvb_gpu_clock(r->run.gpu);
	note_warnings(r);
	return 0;
}

static int build_series(struct cvb_runner *r, struct cvb_err *err)
{
	const struct cvb_bench *b = r->run.bench;
	size_t n = 0;

	while (b->metrics[r->n_metrics].name)
		r->n_metrics++;
	if (!r->run.n_cases)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "%s: nothing to measure with these options on this machine",
				   b->name);
	r->series = calloc(r->run.n_cases * r->n_metrics, sizeof(*r->series));
	r->run.values = calloc(r->run.n_cases * r->n_metrics, sizeof(double));
	r->sample_iters = calloc(r->run.n_cases, sizeof(*r->sample_iters));
	if (!r->series || !r->run.values || !r->sample_iters)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (size_t c = 0; c < r->run.n_cases; c++) {
		for (unsigned m = 0; m < r->n_metrics; m++) {
			if (!(r->run.cases[c].metrics >> m & 1))
				continue;
			r->series[n++] = (struct cvb_series){.case_index = c,
							     .metric_index = m,
							     .metric = &b->metrics[m],
							     .params = r->run.cases[c].params};
		}
	}
	r->n_series = n;
	return 0;
}

static int open_parts(struct cvb_runner *r, const struct cvb_runner_opts *o, struct cvb_err *err)
{
	const struct cvb_bench *b = r->run.bench;
	int ret;

	ret = parse_options(r, o->options, err);
	if (ret < 0)
		return ret;
	if (b->supported) {
		ret = b->supported(&r->run, err);
		if (ret < 0)
			return ret;
	}
	ret = open_gpu(r, o->gpu, err);
	if (ret < 0)
		return ret;
	ret = cvb_pin_map_new(&r->pins, err);
	if (ret < 0)
		return ret;
	r->run.workers = o->threads ? o->threads : cvb_pin_map_cpus(r->pins);
	if (b->flags & CVB_BENCH_ONE_WORKER || b->mode == CVB_MODE_SELF_TIMED)
		r->run.workers = 1;
	if (r->run.workers > MAX_WORKERS)
		return cvb_err_set(err, -EINVAL, "threads = %u: at most %d", r->run.workers,
				   MAX_WORKERS);
	ret = b->setup(&r->run, err);
	if (ret < 0)
		return cvb_err_wrap(err, ret, "setting up %s", b->name);
	ret = build_series(r, err);
	if (ret < 0)
		return ret;
	return b->mode == CVB_MODE_BATCH ? cvb_runner_start(r, err) : 0;
}

int cvb_runner_open(struct cvb_runner **ret, const struct cvb_bench *bench,
		    const struct cvb_runner_opts *opts, struct cvb_err *err)
{
	struct cvb_runner *r = calloc(1, sizeof(*r));
	int code;

	if (!r)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->wake, NULL);
	pthread_cond_init(&r->finished, NULL);
	r->clock = &cvb_clock_host;
	r->exact = opts->exact;
	r->run =
		(struct cvb_run){.bench = bench,
				 .peer = opts->peer,
				 .disk = opts->disk,
				 .sample_ns = opts->sample_ns ? opts->sample_ns : DEFAULT_SAMPLE_NS,
				 .workers = 1,
				 .notes = json_array(),
				 .left_out = json_array()};
	code = open_parts(r, opts, err);
	if (code < 0) {
		cvb_runner_close(r);
		return code;
	}
	/* a longer one would say the same, later */
	if (cvb_runner_deterministic(r))
		r->run.sample_ns = cvb_min(r->run.sample_ns, CVB_VIRTUAL_SAMPLE_NS);
	*ret = r;
	return 0;
}

struct cvb_runner *cvb_runner_close(struct cvb_runner *r)
{
	if (!r)
		return NULL;
	cvb_runner_stop(r);
	if (r->run.bench->done)
		r->run.bench->done(&r->run);
	for (size_t i = 0; i < r->run.n_cases; i++)
		json_decref(r->run.cases[i].params);
	free(r->run.cases);
	free(r->run.values);
	free(r->sample_iters);
	free(r->series);
	free(r->threads);
	json_decref(r->run.notes);
	json_decref(r->run.left_out);
	cvb_gpu_close(r->run.gpu);
	cvb_pin_map_free(r->pins);
	if (r->conf)
		cvb_opts_done(r->run.bench->opts, r->conf);
	free(r->conf);
	pthread_cond_destroy(&r->finished);
	pthread_cond_destroy(&r->wake);
	pthread_mutex_destroy(&r->lock);
	free(r);
	return NULL;
}

/* --- questions ------------------------------------------------------------------------------- */

size_t cvb_runner_cases(const struct cvb_runner *r)
{
	return r->run.n_cases;
}

const char *cvb_runner_disk(const struct cvb_runner *r)
{
	return r->run.bench->flags & CVB_BENCH_NEEDS_DISK ? r->run.disk : NULL;
}

const struct cvb_series *cvb_runner_series(const struct cvb_runner *r, size_t *ret_n)
{
	*ret_n = r->n_series;
	return r->series;
}

json_t *cvb_runner_options(const struct cvb_runner *r)
{
	return cvb_opts_to_json(r->run.bench->opts, r->conf);
}

const json_t *cvb_runner_notes(const struct cvb_runner *r)
{
	return r->run.notes;
}

const json_t *cvb_runner_left_out(const struct cvb_runner *r)
{
	return r->run.left_out;
}

unsigned cvb_runner_workers(const struct cvb_runner *r)
{
	return r->run.workers;
}

json_t *cvb_runner_gpu(const struct cvb_runner *r)
{
	return r->run.gpu ? cvb_gpu_describe(r->run.gpu) : NULL;
}

bool cvb_runner_emulated(const struct cvb_runner *r)
{
	return r->run.gpu && cvb_gpu_is_emulated(r->run.gpu);
}

bool cvb_runner_deterministic(const struct cvb_runner *r)
{
	return r->run.gpu && cvb_gpu_is_deterministic(r->run.gpu);
}
