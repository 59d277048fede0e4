/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.overlap: how much of a copy's time is hidden behind compute.
 *
 * One iteration moves `size` in and out again in pieces, each with a kernel between: piece p goes
 * through stream p modulo the number of streams.  With one stream nothing can overlap, which is
 * what the others are held against; the copies alone and the kernels alone, on as many streams, say
 * what could.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/device.h"
#include "gpu/probe.h"
#include "measure/bench.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum {
	MAX_STREAMS = 32,
	WHAT_COPY = 1 << 8, /* case key: streams, and what is done */
	WHAT_KERNEL = 1 << 9,
	STREAMS_MASK = 0xff,
};

enum {
	METRIC_TIME,
	METRIC_HIDDEN,
	METRIC_GAIN,
};

struct overlap_conf {
	uint64_t size_bytes, pieces, kernel_us, max_streams;
};

#define OPT(field) .offset = offsetof(struct overlap_conf, field)

static const struct cvb_opt overlap_opts[] = {
	{.name = "size",
	 .type = CVB_OPT_SIZE,
	 OPT(size_bytes),
	 .min = 4096,
	 .max = 0x1p36,
	 .def = "32MiB",
	 .unit = "bytes",
	 .help = "bytes that go in, and out again"},
	{.name = "pieces",
	 .type = CVB_OPT_U64,
	 OPT(pieces),
	 .min = 1,
	 .max = 4096,
	 .def = "32",
	 .help = "copies in each direction, and kernels"},
	{.name = "kernel_us",
	 .type = CVB_OPT_U64,
	 OPT(kernel_us),
	 .min = 1,
	 .max = 1000000,
	 .def = "100",
	 .unit = "us",
	 .help = "how long each kernel keeps the device busy"},
	{.name = "max_streams",
	 .type = CVB_OPT_U64,
	 OPT(max_streams),
	 .min = 2,
	 .max = MAX_STREAMS,
	 .def = "4",
	 .help = "1, 2, 4, … streams up to this"},
	CVB_OPT_END,
};

static const struct cvb_metric overlap_metrics[] = {
	[METRIC_TIME] = {"time", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			 "time of all copies and kernels (explains, copies or "
			 "kernels alone against both, what a pipeline waits for)"},
	[METRIC_HIDDEN] = {"hidden", CVB_REPORTED, CVB_HIGHER_IS_BETTER, "ratio",
			   "(time with one stream - time) / (that - the longer of "
			   "copies and kernels alone): 1 is all that could be hidden "
			   "(explains the loss of pipelined training input, of which "
			   "CC leaves 0)"},
	[METRIC_GAIN] = {"gain", CVB_REPORTED, CVB_HIGHER_IS_BETTER, "ratio",
			 "time with one stream / time with these (explains the same "
			 "loss: 1.5 was published, and 1.0 under CC)"},
	{.name = NULL},
};

struct overlap_state {
	struct cvb_dev dev;
	struct cvb_gpu_stream *stream[MAX_STREAMS];
	struct cvb_gpu_buf *in, *device, *out;
	size_t unchecked; /* bytes that came back since the last check */
	uint64_t windows; /* passes in a batch, each with its own part of the buffers */
	bool done, trial;
	double copy_ns, kernel_ns, one_ns; /* of this sample; the first two with as many streams */
	struct cvb_dev_bad bad;
};

/* Piece `p` of pass `i` through its stream. */
static int submit_piece(const struct cvb_run *run, uint64_t key, uint64_t i, uint64_t p,
			struct cvb_err *err)
{
	const struct overlap_conf *conf = run->conf;
	struct overlap_state *s = run->state;
	struct cvb_gpu_stream *stream = s->stream[p % (key & STREAMS_MASK)];
	const struct cvb_gpu_launch spin = {.kernel = CVB_GPU_KERNEL_SPIN,
					    .ns = conf->kernel_us * 1000};
	size_t first = (size_t)(conf->size_bytes * p / conf->pieces);
	size_t bytes = (size_t)(conf->size_bytes * (p + 1) / conf->pieces) - first;
	size_t at = (size_t)(i * conf->size_bytes) + first;
	int r = 0;

	if (key & WHAT_COPY)
		r = cvb_gpu_copy_async(stream, s->device, at, s->in, at, bytes, err);
	if (r == 0 && key & WHAT_KERNEL)
		r = cvb_gpu_launch_async(stream, &spin, err);
	if (r == 0 && key & WHAT_COPY)
		r = cvb_gpu_copy_async(stream, s->out, at, s->device, at, bytes, err);
	return r;
}

static int pass(struct cvb_run *run, uint64_t key, uint64_t number, struct cvb_err *err)
{
	const struct overlap_conf *conf = run->conf;
	struct overlap_state *s = run->state;
	int r = 0;

	for (uint64_t p = 0; r == 0 && p < conf->pieces; p++)
		r = submit_piece(run, key, number, p, err);
	for (uint64_t i = 0; i < (key & STREAMS_MASK); i++) {
		int synced = cvb_gpu_sync(s->stream[i], r < 0 ? NULL : err);

		r = r < 0 ? r : synced;
	}
	if (key & WHAT_COPY)
		s->unchecked = (size_t)((number + 1) * conf->size_bytes);
	return r;
}

static int try_case(struct cvb_run *run, uint64_t key, struct cvb_err *err)
{
	return pass(run, key, 0, err);
}

static int check(struct overlap_state *s, struct cvb_err *err)
{
	size_t bytes = s->unchecked;
	int r = cvb_dev_after(&s->dev, s->out, bytes, s->trial, "gpu.overlap", err);

	s->unchecked = 0;
	s->done = s->done || (r == 0 && !s->trial);
	return r < 0 ? r : cvb_dev_clear(&s->dev, s->device, bytes, err);
}

static int make_buffers(struct cvb_run *run, struct cvb_err *err)
{
	const struct overlap_conf *conf = run->conf;
	struct overlap_state *s = run->state;
	size_t bytes = (size_t)(s->windows * conf->size_bytes);
	int r = cvb_dev_init(&s->dev, run->gpu, NULL, bytes, bytes, /* seed= */ 12, err);

	for (uint64_t i = 0; r == 0 && i < conf->max_streams; i++)
		r = cvb_gpu_stream_new(run->gpu, &s->stream[i], err);
	if (r == 0)
		r = cvb_dev_alloc(&s->dev, CVB_GPU_HOST_PINNED, bytes, &s->in, err);
	if (r == 0)
		r = cvb_dev_alloc(&s->dev, CVB_GPU_HOST_PINNED, bytes, &s->out, err);
	if (r == 0)
		r = cvb_dev_alloc(&s->dev, CVB_GPU_DEVICE, bytes, &s->device, err);
	if (r == 0)
		r = cvb_dev_clear(&s->dev, s->in, bytes, err);
	if (r == 0)
		r = cvb_dev_fill(&s->dev, s->in, bytes, err);
	if (r == 0)
		r = cvb_dev_clear(&s->dev, s->out, bytes, err);
	return r < 0 ? r : cvb_dev_clear(&s->dev, s->device, bytes, err);
}

static int add_case(struct cvb_run *run, const char *work, uint64_t key, struct cvb_err *err)
{
	const struct overlap_conf *conf = run->conf;
	struct overlap_state *s = run->state;
	bool held = key & WHAT_COPY && key & WHAT_KERNEL && (key & STREAMS_MASK) > 1;
	struct cvb_case c = {
		.metrics = held ? 1U << METRIC_TIME | 1U << METRIC_HIDDEN | 1U << METRIC_GAIN
				: 1U << METRIC_TIME,
		.params =
			json_pack("{s:s,s:I,s:I,s:I,s:I}", "work", work, "streams",
				  (json_int_t)(key & STREAMS_MASK), "size_bytes",
				  (json_int_t)conf->size_bytes, "pieces", (json_int_t)conf->pieces,
				  "kernel_us", (json_int_t)conf->kernel_us),
		.ops = 1,
		.max_iters = key & WHAT_COPY ? s->windows : 0,
		.user = key,
	};

	return cvb_probe_case(run, &c, try_case, &s->bad, err);
}

static int overlap_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct overlap_conf *conf = run->conf;
	struct overlap_state *s = calloc(1, sizeof(*s));

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	if (conf->pieces > conf->size_bytes)
		return cvb_err_set(err, -EINVAL, "more pieces than bytes");
	if (!(cvb_gpu_caps(run->gpu)->flags & CVB_GPU_CAP_LAUNCH))
		return cvb_probe_lacks(run, "kernels", "launch", err);
	s->windows = cvb_dev_windows(run->gpu, (size_t)conf->size_bytes);
	int r = make_buffers(run, err);

	/* the parts first: both together are held against them */
	for (uint64_t n = 1; r == 0 && n <= conf->max_streams; n *= 2) {
		r = add_case(run, "copy", n | WHAT_COPY, err);
		if (r == 0)
			r = add_case(run, "kernel", n | WHAT_KERNEL, err);
		if (r == 0)
			r = add_case(run, "both", n | WHAT_COPY | WHAT_KERNEL, err);
	}
	return r;
}

/* Not timed: check what the batch before left. */
static int overlap_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct overlap_state *s = worker->run->state;
	struct cvb_err err = {0};

	(void)c;
	(void)iters;
	if (s->unchecked && s->bad.r == 0)
		cvb_dev_keep(&s->bad, check(s, &err), &err);
	s->trial = worker->run->trial;
	return 0;
}

static int overlap_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct cvb_err err = {0};
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < iters; i++)
		r = pass(worker->run, c->user, i, &err);
	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int overlap_after(struct cvb_run *run, size_t c, uint64_t iters, uint64_t ns,
			 struct cvb_err *err)
{
	struct overlap_state *s = run->state;
	uint64_t key = run->cases[c].user;
	double each = (double)ns / (double)iters;

	(void)err;
	if (!(key & WHAT_KERNEL)) {
		s->copy_ns = each;
		return 0;
	}
	if (!(key & WHAT_COPY)) {
		s->kernel_ns = each;
		return 0;
	}
	if ((key & STREAMS_MASK) == 1) {
		s->one_ns = each;
		return 0;
	}
	double could = s->one_ns - fmax(s->copy_ns, s->kernel_ns);

	cvb_run_report(run, c, METRIC_GAIN, s->one_ns / each);
	cvb_run_report(run, c, METRIC_HIDDEN, could > 0 ? (s->one_ns - each) / could : 0);
	return 0;
}

static int overlap_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct overlap_state *s = run->state;
	int r = cvb_dev_kept(&s->bad, err);

	if (r == 0 && s->unchecked)
		r = check(s, err);
	if (r == 0 && !s->done)
		r = cvb_err_set(err, -EBADMSG, "gpu.overlap: nothing was copied");
	return r;
}

static void overlap_done(struct cvb_run *run)
{
	struct overlap_state *s = run->state;

	if (!s)
		return;
	for (size_t i = 0; i < MAX_STREAMS; i++)
		cvb_gpu_stream_free(s->stream[i]);
	cvb_gpu_free(s->in);
	cvb_gpu_free(s->device);
	cvb_gpu_free(s->out);
	cvb_dev_done(&s->dev);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_overlap = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.overlap",
	.summary = "copies beside compute: what of their time is hidden, by number of streams",
	.doc = "gpu.overlap.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = overlap_opts,
	.conf_size = sizeof(struct overlap_conf),
	.metrics = overlap_metrics,
	.params =
		(const char *const[]){"work", "streams", "size_bytes", "pieces", "kernel_us", NULL},
	.setup = overlap_setup,
	.prepare = overlap_prepare,
	.step = overlap_step,
	.after_batch = overlap_after,
	.verify = overlap_verify,
	.done = overlap_done,
};

CVB_BENCH(gpu_overlap);
