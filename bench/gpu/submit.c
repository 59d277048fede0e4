/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.submit: what the submission of work to a GPU costs: single launches, a launch and the wait
 * for it, a sequence of launches one by one and as a graph, and a wait without work.
 *
 * The kernel adds 1 to eight numbers in device memory: as small as one can be, and its sum tells
 * how many launches there were.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/device.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define WORDS	   8
#define BYTES	   (WORDS * sizeof(double))
#define MAX_GRAPHS 16
/* Launches between two waits: so many that the wait does not count, and no queue is endless. */
#define QUEUE_LENGTH 1024

enum {
	METRIC_LAUNCH,
	METRIC_LAUNCH_WAIT,
	METRIC_SYNC_IDLE,
	METRIC_EAGER,
	METRIC_GRAPH,
};

struct submit_conf {
	uint64_t min_launches, max_launches, step;
};

#define OPT(field) .offset = offsetof(struct submit_conf, field)

static const struct cvb_opt submit_opts[] = {
	{.name = "min_launches",
	 .type = CVB_OPT_U64,
	 OPT(min_launches),
	 .min = 1,
	 .max = QUEUE_LENGTH,
	 .def = "16",
	 .help = "launches of the shortest sequence, one by one and as a graph"},
	{.name = "max_launches",
	 .type = CVB_OPT_U64,
	 OPT(max_launches),
	 .min = 1,
	 .max = QUEUE_LENGTH,
	 .def = "256",
	 .help = "launches of the longest one"},
	{.name = "step",
	 .type = CVB_OPT_U64,
	 OPT(step),
	 .min = 2,
	 .max = QUEUE_LENGTH,
	 .def = "4",
	 .help = "each sequence has so many times the launches of the one before"},
	CVB_OPT_END,
};

static const struct cvb_metric submit_metrics[] = {
	[METRIC_LAUNCH] = {"launch", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			   "time a launch of many without a wait (explains the loss of "
			   "eager, MoE and speculative decoding: 2.0 times under CC on "
			   "Hopper, up to 4.6 on Blackwell)"},
	[METRIC_LAUNCH_WAIT] = {"launch_wait", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
				"time of one launch and the wait for it (explains the loss "
				"of small models and control loops that wait for each "
				"kernel)"},
	[METRIC_SYNC_IDLE] = {"sync_idle", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			      "time of a wait for a stream that has no work (the control: "
			      "explains no loss, as waiting costs the same under CC)"},
	[METRIC_EAGER] = {"eager", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			  "time of `launches` launches one by one and the wait for "
			  "all (explains a decode step without graphs: 2.4 times "
			  "under CC for 181 kernels)"},
	[METRIC_GRAPH] = {"graph", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			  "time of the same launches as one graph, and the wait "
			  "(explains what graphs win back: 1.04 times under CC for "
			  "the same)"},
	{.name = NULL},
};

struct submit_state {
	struct cvb_dev dev;
	struct cvb_gpu_buf *sum, *ones;
	struct cvb_gpu_buf *host; /* to read the sum */
	struct cvb_gpu_graph *graph[MAX_GRAPHS];
	uint64_t in_graph[MAX_GRAPHS]; /* launches that it should have */
	unsigned n_graphs;
	uint64_t launches; /* since the sum was 0; written by the worker */
	struct cvb_dev_bad bad;
};

/* A case's key: its metric, and the graph or the number of launches. */
static uint64_t key_of(unsigned metric, uint64_t what)
{
	return (uint64_t)metric << 32 | what;
}

/* --- the work --------------------------------------------------------------------------------- */

static int launch(struct submit_state *s, uint64_t n, struct cvb_err *err)
{
	const struct cvb_gpu_launch add = {
		.kernel = CVB_GPU_KERNEL_ADD, .a = s->sum, .b = s->ones, .bytes = BYTES};
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < n; i++)
		r = cvb_gpu_launch_async(s->dev.stream, &add, err);
	return r;
}

/* Wait, also after a failure: nothing may be in flight when step returns. */
static int wait_for(struct submit_state *s, int r, struct cvb_err *err)
{
	int synced = cvb_gpu_sync(s->dev.stream, r < 0 ? NULL : err);

	return r < 0 ? r : synced;
}

/* `n` launches at a time, one by one. */
static int step_eager(struct submit_state *s, uint64_t n, uint64_t iters, struct cvb_err *err)
{
	int r = 0;

	s->launches += n * iters;
	for (uint64_t i = 0; r == 0 && i < iters; i++)
		r = wait_for(s, launch(s, n, err), err);
	return r;
}

static int step_graph(struct submit_state *s, uint64_t g, uint64_t iters, struct cvb_err *err)
{
	int r = 0;

	s->launches += s->in_graph[g] * iters;
	for (uint64_t i = 0; r == 0 && i < iters; i++)
		r = wait_for(s, cvb_gpu_graph_launch(s->graph[g], s->dev.stream, err), err);
	return r;
}

static int submit_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct submit_state *s = worker->run->state;
	uint64_t what = c->user & UINT32_MAX;
	struct cvb_err err = {0};
	int r = 0;

	switch (c->user >> 32) {
	case METRIC_LAUNCH:
		r = step_eager(s, QUEUE_LENGTH, iters, &err);
		break;
	case METRIC_LAUNCH_WAIT:
		r = step_eager(s, 1, iters, &err);
		break;
	case METRIC_EAGER:
		r = step_eager(s, what, iters, &err);
		break;
	case METRIC_GRAPH:
		r = step_graph(s, what, iters, &err);
		break;
	default:
		for (uint64_t i = 0; r == 0 && i < iters; i++)
			r = cvb_gpu_sync(s->dev.stream, &err);
	}
	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

/* --- checks ----------------------------------------------------------------------------------- */

static int set_numbers(struct submit_state *s, struct cvb_gpu_buf *buf, double value,
		       struct cvb_err *err)
{
	double *p = cvb_gpu_buf_host(s->host);

	for (size_t i = 0; i < WORDS; i++)
		p[i] = value;
	return cvb_dev_copy(&s->dev, buf, 0, s->host, 0, BYTES, err);
}

/* Every number is as large as there were launches; then begin at 0 again. */
static int check_sum(struct submit_state *s, struct cvb_err *err)
{
	double *p = cvb_gpu_buf_host(s->host), want = (double)s->launches;
	int r;

	if (!s->launches)
		return 0;
	for (size_t i = 0; i < WORDS; i++)
		p[i] = -1; /* a copy that does not happen is seen */
	r = cvb_dev_copy(&s->dev, s->host, 0, s->sum, 0, BYTES, err);
	for (size_t i = 0; r == 0 && i < WORDS; i++)
		if (!(p[i] >= want && p[i] <= want))
			return cvb_err_set(
				err, -EBADMSG,
				"gpu.submit: %.17g launches were done instead of %" PRIu64, p[i],
				s->launches);
	s->launches = 0;
	return r < 0 ? r : set_numbers(s, s->sum, 0, err);
}

/* Not timed: later launches would hide where one was lost. */
static int submit_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct submit_state *s = worker->run->state;
	struct cvb_err err = {0};

	(void)c;
	(void)iters;
	if (s->bad.r == 0)
		cvb_dev_keep(&s->bad, check_sum(s, &err), &err);
	return 0;
}

static int submit_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct submit_state *s = run->state;
	int r = cvb_dev_kept(&s->bad, err);

	return r < 0 ? r : check_sum(s, err);
}

/* --- set up ----------------------------------------------------------------------------------- */

/* `launches` of 0: a case without that parameter. */
static int add_case(struct cvb_run *run, unsigned metric, uint64_t what, uint64_t launches,
		    struct cvb_err *err)
{
	const struct cvb_case c = {
		.metrics = 1U << metric,
		.params = launches ? json_pack("{s:I}", "launches", (json_int_t)launches) : NULL,
		.ops = metric == METRIC_LAUNCH ? QUEUE_LENGTH : 1,
		.max_iters = cvb_dev_max_iters(run->gpu, 1, 0),
		.user = key_of(metric, what),
	};
	int r = cvb_run_add_case(run, &c, err);

	return r < 0 ? r : 0;
}

static int add_graph(struct cvb_run *run, uint64_t launches, struct cvb_err *err)
{
	struct submit_state *s = run->state;
	int r = cvb_gpu_capture_begin(s->dev.stream, err);

	if (r < 0)
		return r;
	r = launch(s, launches, err);
	int ended = cvb_gpu_capture_end(s->dev.stream, &s->graph[s->n_graphs], r < 0 ? NULL : err);

	r = r < 0 ? r : ended;
	if (r < 0)
		return r;
	s->in_graph[s->n_graphs++] = launches;
	/* once, untimed: the first launch of a graph may upload it */
	r = step_graph(s, s->n_graphs - 1, 1, err);
	return r < 0 ? r : add_case(run, METRIC_GRAPH, s->n_graphs - 1, launches, err);
}

static int add_sequences(struct cvb_run *run, struct cvb_err *err)
{
	const struct submit_conf *conf = run->conf;
	struct submit_state *s = run->state;
	bool graphs = cvb_gpu_caps(run->gpu)->flags & CVB_GPU_CAP_GRAPHS;
	int r = 0;

	for (uint64_t n = conf->min_launches;
	     r == 0 && n <= conf->max_launches && s->n_graphs < MAX_GRAPHS; n *= conf->step) {
		r = add_case(run, METRIC_EAGER, n, n, err);
		if (r == 0 && graphs)
			r = add_graph(run, n, err);
		else if (r == 0)
			cvb_run_leave_out(
				run,
				json_pack("{s:I,s:s}", "launches", (json_int_t)n, "as", "graph"),
				"GPU %s has no graphs", cvb_gpu_spec(run->gpu));
	}
	return r;
}

static int make_buffers(struct cvb_run *run, struct submit_state *s, struct cvb_err *err)
{
	int r = cvb_dev_init(&s->dev, run->gpu, NULL, BYTES, BYTES, /* seed= */ 1, err);

	if (r == 0)
		r = cvb_dev_alloc(&s->dev, CVB_GPU_DEVICE, BYTES, &s->sum, err);
	if (r == 0)
		r = cvb_dev_alloc(&s->dev, CVB_GPU_DEVICE, BYTES, &s->ones, err);
	if (r == 0)
		r = cvb_dev_alloc(&s->dev,
				  cvb_gpu_caps(run->gpu)->flags & CVB_GPU_CAP_PINNED
					  ? CVB_GPU_HOST_PINNED
					  : CVB_GPU_HOST_PAGEABLE,
				  BYTES, &s->host, err);
	if (r == 0)
		r = set_numbers(s, s->ones, 1, err);
	return r < 0 ? r : set_numbers(s, s->sum, 0, err);
}

static int submit_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct submit_conf *conf = run->conf;
	struct submit_state *s;
	int r;

	if (conf->min_launches > conf->max_launches)
		return cvb_err_set(err, -EINVAL,
				   "min_launches (%" PRIu64 ") is more than max_launches (%" PRIu64
				   ")",
				   conf->min_launches, conf->max_launches);
	s = calloc(1, sizeof(*s));
	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	r = make_buffers(run, s, err);
	/* once, untimed: a device may find out only now that it cannot */
	if (r == 0)
		r = step_eager(s, 1, 1, err);
	if (r == 0)
		r = add_case(run, METRIC_LAUNCH, 0, 0, err);
	if (r == 0)
		r = add_case(run, METRIC_LAUNCH_WAIT, 0, 0, err);
	if (r == 0)
		r = add_case(run, METRIC_SYNC_IDLE, 0, 0, err);
	return r < 0 ? r : add_sequences(run, err);
}

static void submit_done(struct cvb_run *run)
{
	struct submit_state *s = run->state;

	if (!s)
		return;
	for (unsigned i = 0; i < s->n_graphs; i++)
		cvb_gpu_graph_free(s->graph[i]);
	cvb_dev_done(&s->dev);
	cvb_gpu_free(s->sum);
	cvb_gpu_free(s->ones);
	cvb_gpu_free(s->host);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_submit = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.submit",
	.summary = "submission of work: launches, launch and wait, the same as a graph",
	.doc = "gpu.submit.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = submit_opts,
	.conf_size = sizeof(struct submit_conf),
	.metrics = submit_metrics,
	.params = (const char *const[]){"launches", NULL},
	.setup = submit_setup,
	.prepare = submit_prepare,
	.step = submit_step,
	.verify = submit_verify,
	.done = submit_done,
};

CVB_BENCH(gpu_submit);
