/* SPDX-License-Identifier: Apache-2.0 */
#include "measure/runner.h"

#include "core/log.h"
#include "core/util.h"
#include "gpu/gpu.h"
#include "machine/health.h"
#include "measure/pin.h"
#include "stats/changepoint.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#define DEFAULT_SAMPLE_NS (20 * CVB_NS_PER_MS)
/* No sample may be shorter than 1 ms, 1000 clock ticks or 1000 readings; calibration aims at twice
 * that, since a machine may later run faster than when it was calibrated. */
#define MIN_SAMPLE_NS	  (2 * CVB_NS_PER_MS)
#define MIN_SAMPLE_TICKS  2000
#define VIRTUAL_SAMPLE_NS UINT64_C(200000) /* its clock has steps of 1 ns and no jitter */
/* A spinning barrier gives the CPU up after this many looks, so that it also ends where two workers
 * share one CPU. */
#define SPINS_BEFORE_YIELD 2000
#define MAX_WORKERS	   1024
#define MAX_ITERS	   (UINT64_C(1) << 40)
/* Warm-up batches are this much shorter than a sample, so that enough of them fit to see a level.
 */
#define WARMUP_SHARE	     8
#define WARMUP_LEAST_BATCHES 3
#define WARMUP_BATCHES	     24 /* before the first look */
#define WARMUP_MAX_BATCHES   1000

enum order {
	ORDER_NONE,
	ORDER_SETUP,
	ORDER_STEP,
	ORDER_DONE,
	ORDER_EXIT,
};

struct thread {
	struct cvb_runner *runner;
	struct cvb_worker worker;
	pthread_t id;
	bool started, set_up;
	uint64_t start_ns, end_ns;
	int r;
	struct cvb_err err;
};

struct cvb_runner {
	struct cvb_run run;
	void *conf;
	struct cvb_pin_map *pins;
	const struct cvb_clock *clock;
	struct cvb_series *series;
	size_t n_series, n_metrics;

	struct thread *threads;
	unsigned n_started;
	pthread_mutex_t lock;
	pthread_cond_t wake, finished;
	uint64_t generation; /* under lock: grows with each order */
	unsigned pending;    /* under lock: workers that have not finished the order */
	enum order order;
	const struct cvb_case *order_case;
	uint64_t order_iters;
	atomic_uint arrived; /* spinning barrier before the timed part */
	unsigned parties;    /* workers that take part in order_case */
};

/* --- workers --------------------------------------------------------------------------------- */

static void barrier_wait(struct cvb_runner *r)
{
	unsigned spins = 0;

	atomic_fetch_add(&r->arrived, 1);
	while (atomic_load(&r->arrived) < r->parties) {
		__builtin_ia32_pause();
		if (++spins % SPINS_BEFORE_YIELD == 0)
			sched_yield();
	}
}

static void do_setup(struct thread *t)
{
	const struct cvb_bench *b = t->runner->run.bench;
	int r = cvb_pin_self(t->runner->pins, t->worker.index, &t->worker.cpu,
			     &t->worker.numa_node);

	if (r < 0)
		t->worker.cpu = -1;
	t->set_up = true;
	t->r = b->worker_setup ? b->worker_setup(&t->worker, &t->err) : 0;
}

static bool takes_part(const struct thread *t)
{
	const struct cvb_runner *r = t->runner;

	return !r->run.bench->takes_part || r->run.bench->takes_part(&t->worker, r->order_case);
}

static void do_step(struct thread *t)
{
	struct cvb_runner *r = t->runner;
	const struct cvb_bench *b = r->run.bench;
	const struct cvb_clock *clock = r->clock;

	t->start_ns = t->end_ns = 0;
	if (!takes_part(t))
		return;

	int prepared = b->prepare ? b->prepare(&t->worker, r->order_case, r->order_iters) : 0;

	/* also after a failure: the others wait here */
	barrier_wait(r);
	if (prepared < 0) {
		t->r = prepared;
		return;
	}
	t->start_ns = clock->now_ns(clock->ctx);
	t->r = r->run.bench->step(&t->worker, r->order_case, r->order_iters);
	t->end_ns = clock->now_ns(clock->ctx);
}

static void do_order(struct thread *t, enum order order)
{
	t->r = 0;
	cvb_err_clear(&t->err);
	switch (order) {
	case ORDER_SETUP:
		do_setup(t);
		break;
	case ORDER_STEP:
		do_step(t);
		break;
	case ORDER_DONE:
		if (t->set_up && t->runner->run.bench->worker_done)
			t->runner->run.bench->worker_done(&t->worker);
		t->set_up = false;
		break;
	case ORDER_NONE:
	case ORDER_EXIT:
		break;
	}
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	struct cvb_runner *r = t->runner;
	uint64_t seen = 0;
	enum order order;

	do {
		pthread_mutex_lock(&r->lock);
		while (r->generation == seen)
			pthread_cond_wait(&r->wake, &r->lock);
		seen = r->generation;
		order = r->order;
		pthread_mutex_unlock(&r->lock);

		do_order(t, order);

		pthread_mutex_lock(&r->lock);
		if (--r->pending == 0)
			pthread_cond_signal(&r->finished);
		pthread_mutex_unlock(&r->lock);
	} while (order != ORDER_EXIT);
	return NULL;
}

/* Give all started workers an order and wait until they are through. */
static void command(struct cvb_runner *r, enum order order)
{
	pthread_mutex_lock(&r->lock);
	r->order = order;
	r->pending = r->n_started;
	atomic_store(&r->arrived, 0);
	r->generation++;
	pthread_cond_broadcast(&r->wake);
	while (r->pending)
		pthread_cond_wait(&r->finished, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

/* The first worker's failure, if any. */
static int worker_failure(struct cvb_runner *r, struct cvb_err *err)
{
	for (unsigned i = 0; i < r->n_started; i++) {
		if (r->threads[i].r >= 0)
			continue;
		if (err && r->threads[i].err.n)
			*err = r->threads[i].err;
		else
			cvb_err_set(err, r->threads[i].r, "%s", strerror(-r->threads[i].r));
		return cvb_err_wrap(err, r->threads[i].r, "%s, worker %u", r->run.bench->name, i);
	}
	return 0;
}

static int start_workers(struct cvb_runner *r, struct cvb_err *err)
{
	r->threads = calloc(r->run.workers, sizeof(*r->threads));
	if (!r->threads)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < r->run.workers; i++) {
		struct thread *t = &r->threads[i];

		t->runner = r;
		t->worker =
			(struct cvb_worker){.run = &r->run, .index = i, .cpu = -1, .numa_node = -1};
		int code = pthread_create(&t->id, NULL, thread_main, t);

		if (code)
			return cvb_err_set(err, -code, "cannot start worker thread %u: %s", i,
					   strerror(code));
		t->started = true;
		r->n_started++;
	}
	command(r, ORDER_SETUP);
	return worker_failure(r, err);
}

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
	if (!r->series || !r->run.values)
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
	return b->mode == CVB_MODE_BATCH ? start_workers(r, err) : 0;
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
		r->run.sample_ns = cvb_min(r->run.sample_ns, VIRTUAL_SAMPLE_NS);
	*ret = r;
	return 0;
}

struct cvb_runner *cvb_runner_close(struct cvb_runner *r)
{
	if (!r)
		return NULL;
	if (r->n_started) {
		command(r, ORDER_DONE);
		command(r, ORDER_EXIT);
		for (unsigned i = 0; i < r->n_started; i++)
			pthread_join(r->threads[i].id, NULL);
	}
	if (r->run.bench->done)
		r->run.bench->done(&r->run);
	for (size_t i = 0; i < r->run.n_cases; i++)
		json_decref(r->run.cases[i].params);
	free(r->run.cases);
	free(r->run.values);
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

/* --- measuring ------------------------------------------------------------------------------- */

/* Run one batch on all workers; its length in ns. */
static int batch(struct cvb_runner *r, const struct cvb_case *c, uint64_t iters, uint64_t *ret_ns,
		 struct cvb_err *err)
{
	uint64_t first = UINT64_MAX, last = 0;
	int ret;

	r->order_case = c;
	r->order_iters = iters;
	r->parties = 0;
	for (unsigned i = 0; i < r->n_started; i++)
		r->parties += takes_part(&r->threads[i]);
	CVB_BUG_ON(!r->parties);
	command(r, ORDER_STEP);
	ret = worker_failure(r, err);
	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < r->n_started; i++) {
		if (!r->threads[i].end_ns)
			continue;
		first = cvb_min(first, r->threads[i].start_ns);
		last = cvb_max(last, r->threads[i].end_ns);
	}
	*ret_ns = last > first ? last - first : 0;
	return r->run.bench->after_batch
		       ? r->run.bench->after_batch(&r->run, (size_t)(c - r->run.cases), iters,
						   *ret_ns, err)
		       : 0;
}

static int calibrate_case(struct cvb_runner *r, const struct cvb_case *c, uint64_t target_ns,
			  uint64_t *ret_iters, struct cvb_err *err)
{
	uint64_t limit = c->max_iters ? c->max_iters : MAX_ITERS, iters = 1, ns;
	unsigned crossed = 0;

	/* nothing to find out, and nothing that has to be warm */
	if (limit == 1 && cvb_runner_deterministic(r)) {
		*ret_iters = 1;
		return 0;
	}
	while (crossed < 2) {
		int ret = batch(r, c, iters, &ns, err);

		if (ret < 0)
			return ret;
		if (ns >= target_ns || iters >= limit) {
			crossed++;
			continue;
		}
		crossed = 0;
		/* aim a tenth above the target; grow at most tenfold on one, noisy reading */
		double factor = ns ? 1.1 * (double)target_ns / (double)ns : 10.0;

		factor = cvb_min(cvb_max(factor, 1.1), 10.0);
		iters = cvb_min((uint64_t)ceil((double)iters * factor), limit);
	}
	*ret_iters = iters;
	return 0;
}

uint64_t cvb_runner_timer_ns(const struct cvb_runner *r)
{
	return (uint64_t)ceil(2 * cvb_clock_cost_ns(r->clock));
}

/* Long enough that neither the clock's step nor reading it is more than a thousandth of it. */
static uint64_t shortest_batch_ns(const struct cvb_runner *r)
{
	if (cvb_runner_deterministic(r))
		return VIRTUAL_SAMPLE_NS;

	uint64_t ticks_ns = MIN_SAMPLE_TICKS * cvb_clock_tick_ns(r->clock);
	uint64_t timer_ns = MIN_SAMPLE_TICKS * cvb_runner_timer_ns(r);

	return cvb_max((uint64_t)MIN_SAMPLE_NS, cvb_max(ticks_ns, timer_ns));
}

int cvb_runner_calibrate(struct cvb_runner *r, uint64_t *iters, struct cvb_err *err)
{
	uint64_t target_ns = cvb_max(r->run.sample_ns, shortest_batch_ns(r));
	int ret;

	if (r->run.bench->mode == CVB_MODE_SELF_TIMED) {
		for (size_t i = 0; i < r->run.n_cases; i++)
			iters[i] = 1;
		return 0;
	}
	r->run.trial = true;
	for (size_t i = 0; i < r->run.n_cases; i++) {
		ret = calibrate_case(r, &r->run.cases[i], target_ns, &iters[i], err);
		if (ret < 0)
			return cvb_err_wrap(err, ret, "calibrating %s", r->run.bench->name);
	}
	return 0;
}

/* Batches of one case until its steady speed is found or the budget is spent. */
static int warm_up_case(struct cvb_runner *r, const struct cvb_case *c, uint64_t iters,
			uint64_t budget_ns, double *times, struct cvb_warmup *ret,
			struct cvb_err *err)
{
	struct cvb_steady steady = {.state = CVB_STEADY_TOO_FEW, .warmup_ratio = NAN};
	size_t n = 0, next = WARMUP_BATCHES;

	*ret = (struct cvb_warmup){.ratio = NAN};
	while (n < WARMUP_MAX_BATCHES && (n < WARMUP_LEAST_BATCHES || ret->ns < budget_ns)) {
		uint64_t ns;
		int e = batch(r, c, iters, &ns, err);

		if (e < 0)
			return e;
		ret->ns += ns;
		times[n++] = (double)cvb_max(ns, UINT64_C(1));
		if (n < next)
			continue;
		e = cvb_steady_find(times, n, CVB_STEADY_TOLERANCE, &steady, err);
		if (e < 0)
			return e;
		if (steady.state == CVB_STEADY_REACHED)
			break;
		next = 2 * n;
	}
	if (n >= CVB_CHANGEPOINT_MIN_N && steady.state != CVB_STEADY_REACHED) {
		int e = cvb_steady_find(times, n, CVB_STEADY_TOLERANCE, &steady, err);

		if (e < 0)
			return e;
	}
	ret->state = steady.state;
	ret->batches = n;
	ret->ratio = steady.warmup_ratio;
	return 0;
}

bool cvb_runner_warms_up(const struct cvb_runner *r)
{
	return r->run.bench->mode == CVB_MODE_BATCH && !(r->run.bench->flags & CVB_BENCH_COLD) &&
	       !cvb_runner_deterministic(r);
}

int cvb_runner_warm_up(struct cvb_runner *r, const uint64_t *iters, uint64_t budget_ns,
		       struct cvb_warmup *ret, struct cvb_err *err)
{
	_cleanup_free_ double *times = calloc(WARMUP_MAX_BATCHES, sizeof(*times));
	uint64_t target_ns = cvb_max(r->run.sample_ns / WARMUP_SHARE, shortest_batch_ns(r));
	double share = (double)target_ns / (double)cvb_max(r->run.sample_ns, target_ns);

	if (!times)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (!cvb_runner_warms_up(r))
		return cvb_err_set(err, -EINVAL, "%s does not warm up", r->run.bench->name);
	r->run.trial = true;
	for (size_t i = 0; i < r->run.n_cases; i++) {
		uint64_t n = (uint64_t)((double)iters[i] * share);
		int e = warm_up_case(r, &r->run.cases[i], cvb_max(n, UINT64_C(1)), budget_ns, times,
				     &ret[i], err);

		if (e < 0)
			return cvb_err_wrap(err, e, "warming up %s", r->run.bench->name);
	}
	return 0;
}

static double metric_value(const struct cvb_metric *m, const struct cvb_case *c, uint64_t iters,
			   uint64_t ns)
{
	double t_s = (double)ns / 1e9, n = (double)iters;

	if (!ns)
		return NAN;
	switch (m->kind) {
	case CVB_BYTES_PER_S:
		return c->bytes * n / t_s;
	case CVB_OPS_PER_S:
		return c->ops * n / t_s;
	case CVB_FLOPS_PER_S:
		return c->flops * n / t_s;
	case CVB_NS_PER_OP:
		return c->ops > 0 ? (double)ns / (c->ops * n) : NAN;
	case CVB_REPORTED:
		break;
	}
	return NAN;
}

/* null.nop times empty batches on purpose. */
static bool keeps_lengths(const struct cvb_bench *b)
{
	return b->mode == CVB_MODE_BATCH && !(b->flags & CVB_BENCH_FAKE);
}

int cvb_runner_sample(struct cvb_runner *r, const uint64_t *iters, struct cvb_sample *sample,
		      struct cvb_err *err)
{
	struct cvb_health before, after;
	int ret = 0;

	cvb_health_read(&before);
	r->run.trial = false;
	for (size_t i = 0; i < r->run.n_cases * r->n_metrics; i++)
		r->run.values[i] = NAN;
	if (r->run.bench->mode == CVB_MODE_SELF_TIMED) {
		for (size_t i = 0; i < r->run.n_cases; i++)
			sample->ns[i] = 0;
		ret = r->run.bench->measure(&r->run, err);
	} else {
		for (size_t i = 0; i < r->run.n_cases && ret == 0; i++)
			ret = batch(r, &r->run.cases[i], iters[i], &sample->ns[i], err);
	}
	if (ret < 0)
		return cvb_err_wrap(err, ret, "measuring %s", r->run.bench->name);
	cvb_health_read(&after);
	cvb_health_diff(&before, &after, &sample->health);
	sample->shortest_ns = 0;
	for (size_t i = 0; i < r->run.n_cases && keeps_lengths(r->run.bench); i++)
		sample->shortest_ns =
			i ? cvb_min(sample->shortest_ns, sample->ns[i]) : sample->ns[i];
	for (size_t i = 0; i < r->n_series; i++) {
		const struct cvb_series *s = &r->series[i];

		sample->value[i] =
			s->metric->kind == CVB_REPORTED
				? r->run.values[s->case_index * r->n_metrics + s->metric_index]
				: metric_value(s->metric, &r->run.cases[s->case_index],
					       iters[s->case_index], sample->ns[s->case_index]);
	}
	return 0;
}

int cvb_runner_verify(struct cvb_runner *r, struct cvb_err *err)
{
	int ret = r->run.bench->verify ? r->run.bench->verify(&r->run, err) : 0;

	return ret < 0 ? cvb_err_wrap(err, ret, "verifying %s", r->run.bench->name) : 0;
}
