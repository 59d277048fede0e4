/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a batch must be, warming up, and samples.
 */
#include "measure/runner_part.h"

#include "core/util.h"
#include "stats/changepoint.h"

#include <errno.h>
#include <math.h>

/* No sample may be shorter than 1 ms, 1000 clock ticks or 1000 readings; calibration aims at twice
 * that, since a machine may later run faster than when it was calibrated. */
#define MIN_SAMPLE_NS	 (2 * CVB_NS_PER_MS)
#define MIN_SAMPLE_TICKS 2000
#define MAX_ITERS	 (UINT64_C(1) << 40)
/* Warm-up batches are this much shorter than a sample, so that enough of them fit to see a level.
 */
#define WARMUP_SHARE	     8
#define WARMUP_LEAST_BATCHES 3
#define WARMUP_BATCHES	     24 /* before the first look */
#define WARMUP_MAX_BATCHES   1000

/* Batches that may be thrown away for being too short; calibration needs fewer from a count of 1.
 */
#define MAX_SHORT_BATCHES 20

static uint64_t most_iters(const struct cvb_case *c)
{
	return c->max_iters ? c->max_iters : MAX_ITERS;
}

/* The count to try when a batch of `iters` took `ns`: a tenth above the target, and at most tenfold
 * on one, noisy reading. */
static uint64_t more_iters(const struct cvb_case *c, uint64_t iters, uint64_t ns,
			   uint64_t target_ns)
{
	double factor = ns ? 1.1 * (double)target_ns / (double)ns : 10.0;

	factor = cvb_min(cvb_max(factor, 1.1), 10.0);
	return cvb_min((uint64_t)ceil((double)iters * factor), most_iters(c));
}

static int calibrate_case(struct cvb_runner *r, const struct cvb_case *c, uint64_t target_ns,
			  uint64_t *ret_iters, struct cvb_err *err)
{
	uint64_t limit = most_iters(c), iters = 1, ns;
	unsigned crossed = 0;

	/* nothing to find out, and nothing that has to be warm */
	if (limit == 1 && cvb_runner_deterministic(r)) {
		*ret_iters = 1;
		return 0;
	}
	while (crossed < 2) {
		int ret = cvb_runner_batch(r, c, iters, &ns, err);

		if (ret < 0)
			return ret;
		if (ns >= target_ns || iters >= limit) {
			crossed++;
			continue;
		}
		crossed = 0;
		iters = more_iters(c, iters, ns, target_ns);
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
		return CVB_VIRTUAL_SAMPLE_NS;

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
		int e = cvb_runner_batch(r, c, iters, &ns, err);

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

/*
 * A batch of a sample, at least half as long as calibration aims at.  Its count may be too low: in
 * a campaign it is another arm's, and a hand-over between CPUs that took 20 us when it was
 * calibrated takes .2 us when the partner happens to spin.  A batch that is too short is thrown
 * away, and a longer one run in its place, whatever that takes: not until a fast one comes.
 */
static int sample_batch(struct cvb_runner *r, const struct cvb_case *c, uint64_t *iters,
			uint64_t *ret_ns, struct cvb_err *err)
{
	uint64_t target_ns = shortest_batch_ns(r);
	int ret = cvb_runner_batch(r, c, *iters, ret_ns, err);

	if (r->exact || !keeps_lengths(r->run.bench) || cvb_runner_deterministic(r))
		return ret;
	for (unsigned i = 0; ret == 0 && i < MAX_SHORT_BATCHES; i++) {
		if (*ret_ns >= target_ns / 2 || *iters >= most_iters(c))
			break;
		*iters = more_iters(c, *iters, *ret_ns, target_ns);
		ret = cvb_runner_batch(r, c, *iters, ret_ns, err);
	}
	return ret;
}

int cvb_runner_sample(struct cvb_runner *r, const uint64_t *iters, struct cvb_sample *sample,
		      struct cvb_err *err)
{
	struct cvb_health before, after;
	int ret = 0;

	/* the GPU's first and last: asking NVML takes longer than reading a counter */
	cvb_gpu_health_read(r->run.gpu, &sample->gpu_before);
	cvb_health_read(&before);
	r->run.trial = false;
	for (size_t i = 0; i < r->run.n_cases * r->n_metrics; i++)
		r->run.values[i] = NAN;
	if (r->run.bench->mode == CVB_MODE_SELF_TIMED) {
		for (size_t i = 0; i < r->run.n_cases; i++)
			sample->ns[i] = 0;
		ret = r->run.bench->measure(&r->run, err);
	} else {
		for (size_t i = 0; i < r->run.n_cases && ret == 0; i++) {
			r->sample_iters[i] = iters[i];
			ret = sample_batch(r, &r->run.cases[i], &r->sample_iters[i], &sample->ns[i],
					   err);
		}
	}
	if (ret < 0)
		return cvb_err_wrap(err, ret, "measuring %s", r->run.bench->name);
	cvb_health_read(&after);
	cvb_health_diff(&before, &after, &sample->health);
	cvb_gpu_health_read(r->run.gpu, &sample->gpu_after);
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
					       r->sample_iters[s->case_index],
					       sample->ns[s->case_index]);
	}
	return 0;
}

int cvb_runner_verify(struct cvb_runner *r, struct cvb_err *err)
{
	int ret = r->run.bench->verify ? r->run.bench->verify(&r->run, err) : 0;

	return ret < 0 ? cvb_err_wrap(err, ret, "verifying %s", r->run.bench->name) : 0;
}
