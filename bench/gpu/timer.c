/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.timer: may event times be believed?  The device's events against the host's clock.
 *
 * A kernel of a known length is timed by both.  The host's time has the submission and the wait in
 * it, which are the same for a long kernel and for a short one: the difference of the two is what
 * is compared.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/device.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

#define SHORT_SHARE 8 /* the short kernel is so many times shorter */
#define MAX_PAIRS   33
/* Kernels for the resolution, each 1 ns longer than the one before. */
#define STEPS	     64
#define STEP_BASE_NS 20000

enum {
	METRIC_DISAGREEMENT,
	METRIC_RESOLUTION,
};

struct timer_conf {
	uint64_t min_us, max_us, step;
};

#define OPT(field) .offset = offsetof(struct timer_conf, field)

static const struct cvb_opt timer_opts[] = {
	{.name = "min_span",
	 .type = CVB_OPT_U64,
	 OPT(min_us),
	 .min = 10,
	 .max = 1e7,
	 .def = "100",
	 .unit = "us",
	 .help = "shortest time that is measured by both"},
	{.name = "max_span",
	 .type = CVB_OPT_U64,
	 OPT(max_us),
	 .min = 10,
	 .max = 1e7,
	 .def = "10000",
	 .unit = "us",
	 .help = "longest one"},
	{.name = "step",
	 .type = CVB_OPT_U64,
	 OPT(step),
	 .min = 2,
	 .max = 1e6,
	 .def = "10",
	 .help = "each span is so many times the one before"},
	CVB_OPT_END,
};

static const struct cvb_metric timer_metrics[] = {
	[METRIC_DISAGREEMENT] = {"disagreement", CVB_REPORTED, CVB_LOWER_IS_BETTER, "ratio",
				 "|time by events / time by the host's clock - 1| (explains "
				 "losses and gains that are none: numbers taken by events "
				 "that cannot be believed)"},
	[METRIC_RESOLUTION] = {"resolution", CVB_REPORTED, CVB_LOWER_IS_BETTER, "ns",
			       "smallest step between two different event times (explains "
			       "the same for short spans)"},
	{.name = NULL},
};

/* One kernel, timed by both. */
struct pair {
	double host_ns, event_ns;
};

struct timer_state {
	struct cvb_gpu_stream *stream;
	struct cvb_gpu_event *from, *to;
	/* of the batch under way; written by the worker */
	struct pair longer[MAX_PAIRS], shorter[MAX_PAIRS];
	double steps[STEPS];
	size_t n_pairs;
	struct cvb_dev_bad bad;
};

static int time_kernel(struct cvb_run *run, uint64_t ns, struct pair *ret, struct cvb_err *err)
{
	struct timer_state *s = run->state;
	const struct cvb_gpu_launch spin = {.kernel = CVB_GPU_KERNEL_SPIN, .ns = ns};
	uint64_t start_ns = cvb_dev_now_ns(run->gpu);
	int64_t event_ns = 0;
	int r = cvb_gpu_event_record(s->from, s->stream, err);

	if (r == 0)
		r = cvb_gpu_launch_async(s->stream, &spin, err);
	if (r == 0)
		r = cvb_gpu_event_record(s->to, s->stream, err);
	/* also after a failure: nothing may be in flight on return */
	int synced = cvb_gpu_sync(s->stream, r < 0 ? NULL : err);

	r = r < 0 ? r : synced;
	*ret = (struct pair){.host_ns = (double)(cvb_dev_now_ns(run->gpu) - start_ns)};
	if (r == 0)
		r = cvb_gpu_event_elapsed_ns(s->from, s->to, &event_ns, err);
	ret->event_ns = (double)event_ns;
	return r;
}

static int step_span(struct cvb_run *run, uint64_t span_ns, uint64_t iters, struct cvb_err *err)
{
	struct timer_state *s = run->state;
	int r = 0;

	s->n_pairs = 0;
	for (uint64_t i = 0; r == 0 && i < iters && i < MAX_PAIRS; i++) {
		r = time_kernel(run, span_ns, &s->longer[i], err);
		if (r == 0)
			r = time_kernel(run, span_ns / SHORT_SHARE, &s->shorter[i], err);
		s->n_pairs = i + 1;
	}
	return r;
}

static int step_resolution(struct cvb_run *run, struct cvb_err *err)
{
	struct timer_state *s = run->state;
	int r = 0;

	for (size_t i = 0; r == 0 && i < STEPS; i++) {
		struct pair p;

		r = time_kernel(run, STEP_BASE_NS + i, &p, err);
		s->steps[i] = p.event_ns;
	}
	return r;
}

/* c->user: the span in ns; 0 for the resolution. */
static int timer_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct cvb_err err = {0};
	int r = c->user ? step_span(worker->run, c->user, iters, &err)
			: step_resolution(worker->run, &err);

	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* A kernel that ended before its time was none: no clock was compared with anything. */
static void check_spans(struct timer_state *s, uint64_t span_ns)
{
	struct cvb_err err = {0};

	for (size_t i = 0; i < s->n_pairs; i++)
		if (s->longer[i].host_ns < (double)span_ns)
			cvb_dev_keep(&s->bad,
				     cvb_err_set(&err, -EBADMSG,
						 "gpu.timer: a kernel of %" PRIu64
						 " ns was over in %.0f ns",
						 span_ns, s->longer[i].host_ns),
				     &err);
}

static double disagreement(const struct timer_state *s)
{
	double host[MAX_PAIRS], event[MAX_PAIRS];

	for (size_t i = 0; i < s->n_pairs; i++) {
		host[i] = s->longer[i].host_ns - s->shorter[i].host_ns;
		event[i] = s->longer[i].event_ns - s->shorter[i].event_ns;
	}
	return fabs(median(event, s->n_pairs) / median(host, s->n_pairs) - 1);
}

/* Smallest step up in the times; their size where all are the same: it is no finer than that. */
static double resolution(struct timer_state *s)
{
	double best = INFINITY;

	qsort(s->steps, STEPS, sizeof(s->steps[0]), by_value);
	for (size_t i = 1; i < STEPS; i++)
		if (s->steps[i] > s->steps[i - 1])
			best = fmin(best, s->steps[i] - s->steps[i - 1]);
	return isfinite(best) ? best : s->steps[0];
}

static int timer_after_batch(struct cvb_run *run, size_t case_index, uint64_t iters, uint64_t ns,
			     struct cvb_err *err)
{
	struct timer_state *s = run->state;
	uint64_t span_ns = run->cases[case_index].user;

	(void)iters;
	(void)ns;
	(void)err;
	if (span_ns) {
		check_spans(s, span_ns);
		cvb_run_report(run, case_index, METRIC_DISAGREEMENT, disagreement(s));
	} else {
		cvb_run_report(run, case_index, METRIC_RESOLUTION, resolution(s));
	}
	return 0;
}

/* --- set up ----------------------------------------------------------------------------------- */

static int add_cases(struct cvb_run *run, struct cvb_err *err)
{
	const struct timer_conf *conf = run->conf;
	const struct cvb_case resolution_case = {
		.metrics = 1U << METRIC_RESOLUTION, .ops = STEPS, .max_iters = 1};
	int r = cvb_run_add_case(run, &resolution_case, err);

	for (uint64_t us = conf->min_us; r >= 0 && us <= conf->max_us; us *= conf->step) {
		const struct cvb_case c = {
			.metrics = 1U << METRIC_DISAGREEMENT,
			.params = json_pack("{s:I}", "span_us", (json_int_t)us),
			.ops = 1,
			.max_iters = cvb_dev_max_iters(run->gpu, 1, MAX_PAIRS),
			.user = us * 1000,
		};

		r = cvb_run_add_case(run, &c, err);
	}
	return r < 0 ? r : 0;
}

static int timer_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct timer_conf *conf = run->conf;
	struct timer_state *s;
	struct pair pair;
	int r;

	if (conf->min_us > conf->max_us)
		return cvb_err_set(err, -EINVAL,
				   "min_span (%" PRIu64 " us) is longer than max_span (%" PRIu64
				   " us)",
				   conf->min_us, conf->max_us);
	s = calloc(1, sizeof(*s));
	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	r = cvb_gpu_stream_new(run->gpu, &s->stream, err);
	if (r == 0)
		r = cvb_gpu_event_new(run->gpu, &s->from, err);
	if (r == 0)
		r = cvb_gpu_event_new(run->gpu, &s->to, err);
	/* once, untimed: a device may find out only now that it cannot */
	if (r == 0)
		r = time_kernel(run, STEP_BASE_NS, &pair, err);
	if (r == 0 && cvb_gpu_is_deterministic(run->gpu))
		cvb_run_note(run,
			     "event times and the host's clock are the same virtual clock: they "
			     "agree by construction, which tells nothing of a GPU");
	if (r == 0 && cvb_gpu_caps(run->gpu)->trusted_events == CVB_GPU_OFF)
		cvb_run_note(run, "the device says that its event times are not to be believed");
	return r < 0 ? r : add_cases(run, err);
}

static int timer_verify(struct cvb_run *run, struct cvb_err *err)
{
	const struct timer_state *s = run->state;

	return cvb_dev_kept(&s->bad, err);
}

static void timer_done(struct cvb_run *run)
{
	struct timer_state *s = run->state;

	if (!s)
		return;
	cvb_gpu_event_free(s->from);
	cvb_gpu_event_free(s->to);
	cvb_gpu_stream_free(s->stream);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_timer = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.timer",
	.summary = "event times of the device against the host's clock",
	.doc = "gpu.timer.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = timer_opts,
	.conf_size = sizeof(struct timer_conf),
	.metrics = timer_metrics,
	.params = (const char *const[]){"span_us", NULL},
	.setup = timer_setup,
	.step = timer_step,
	.after_batch = timer_after_batch,
	.verify = timer_verify,
	.done = timer_done,
};

CVB_BENCH(gpu_timer);
