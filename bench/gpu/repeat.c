/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.repeat: how well one operation after the other takes the same time.
 *
 * A batch does the same operation up to MAX_TIMES times and notes the time of each; the spread
 * within a batch is this benchmark's number, the spread between sessions is what a campaign sees of
 * its `time`.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/device.h"
#include "gpu/matrix.h"
#include "gpu/probe.h"
#include "measure/bench.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum op {
	OP_LAUNCH,
	OP_COPY,
	OP_GEMM,
	OPS,
};

enum {
	METRIC_TIME,
	METRIC_SPREAD,
	METRIC_WORST,
	MAX_TIMES = 4096,
	SEED_A = 5,
	SEED_B = 6,
};

struct repeat_conf {
	uint64_t copy_bytes, n;
};

static const char *const op_words[] = {"launch", "copy", "gemm"};

#define OPT(field) .offset = offsetof(struct repeat_conf, field)

static const struct cvb_opt repeat_opts[] = {
	{.name = "copy",
	 .type = CVB_OPT_SIZE,
	 OPT(copy_bytes),
	 .min = 1,
	 .max = 0x1p30,
	 .def = "64KiB",
	 .unit = "bytes",
	 .help = "length of the copy from pinned memory to the device"},
	{.name = "n",
	 .type = CVB_OPT_U64,
	 OPT(n),
	 .min = 1,
	 .max = 16384,
	 .def = "256",
	 .help = "rows and columns of the product, fp32"},
	CVB_OPT_END,
};

static const struct cvb_metric repeat_metrics[] = {
	[METRIC_TIME] = {"time", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			 "time of one operation and the wait for it (explains, from "
			 "boot to boot, overhead that was left-over state of a GPU: "
			 "16 % was published)"},
	[METRIC_SPREAD] = {"spread", CVB_REPORTED, CVB_LOWER_IS_BETTER, "ratio",
			   "1 + standard deviation / mean of the operations' times "
			   "(explains differences that are noise: above 1.03 a few "
			   "percent cannot be told)"},
	[METRIC_WORST] = {"worst", CVB_REPORTED, CVB_LOWER_IS_BETTER, "ratio",
			  "longest time / mean (explains stutter that a mean hides)"},
	{.name = NULL},
};

struct repeat_state {
	struct cvb_dev dev;
	struct cvb_gpu_buf *host, *device, *word, *one, *scratch;
	struct cvb_gpu_gemm gemm;
	uint64_t ns[MAX_TIMES]; /* of the batch */
	uint64_t launches;	/* so far: what the word is, as a double */
	uint64_t windows;	/* that the copy has in its buffers, see device.h */
	uint64_t copied;	/* windows that it used since the last check */
	bool trial;
	int unchecked; /* operation; OPS: none */
	bool done[OPS];
	struct cvb_dev_bad bad;
};

/* Operation number i of a batch.  What a wrong launch left is in the word ever after. */
static int submit(struct repeat_state *s, enum op op, uint64_t i, struct cvb_err *err)
{
	const struct cvb_gpu_launch add = {
		.kernel = CVB_GPU_KERNEL_ADD, .a = s->word, .b = s->one, .bytes = sizeof(double)};
	size_t bytes = cvb_gpu_buf_bytes(s->host) / s->windows;
	size_t at = (size_t)(i % s->windows) * bytes;

	switch (op) {
	case OP_LAUNCH:
		s->launches++;
		return cvb_gpu_launch_async(s->dev.stream, &add, err);
	case OP_COPY:
		s->copied = cvb_max(s->copied, i % s->windows + 1);
		return cvb_gpu_copy_async(s->dev.stream, s->device, at, s->host, at, bytes, err);
	case OP_GEMM:
	case OPS:
		break;
	}
	return cvb_gpu_gemm_async(s->dev.stream, &s->gemm, err);
}

static int do_op(struct repeat_state *s, enum op op, uint64_t i, struct cvb_err *err)
{
	int r = submit(s, op, i, err);
	int synced = cvb_gpu_sync(s->dev.stream, r < 0 ? NULL : err);

	s->unchecked = (int)op;
	return r < 0 ? r : synced;
}

static int check_launch(struct repeat_state *s, struct cvb_err *err)
{
	double got, want = (double)s->launches; /* exact below 2^53 */
	int r = cvb_dev_copy(&s->dev, s->scratch, 0, s->word, 0, sizeof(got), err);

	if (r < 0)
		return r;
	memcpy(&got, cvb_gpu_buf_host(s->scratch), sizeof(got));
	if (!(got >= want && got <= want))
		return cvb_err_set(err, -EBADMSG,
				   "gpu.repeat launch: the word is not the kernel's");
	return 0;
}

static int check_copies(struct repeat_state *s, struct cvb_err *err)
{
	size_t bytes = cvb_gpu_buf_bytes(s->host) / s->windows * (size_t)s->copied;

	s->copied = 0;
	return cvb_dev_after(&s->dev, s->device, bytes, s->trial, "gpu.repeat copy", err);
}

static int check(struct repeat_state *s, struct cvb_err *err)
{
	enum op op = (enum op)s->unchecked;
	size_t count = (size_t)s->gemm.m * s->gemm.n;
	int r;

	s->unchecked = OPS;
	if (op == OP_LAUNCH)
		r = check_launch(s, err);
	else if (op == OP_COPY)
		r = check_copies(s, err);
	else
		r = cvb_matrix_check(s->dev.stream, s->scratch, &s->gemm, SEED_A, SEED_B,
				     "gpu.repeat", err);
	if (op == OP_GEMM && r == 0)
		r = cvb_matrix_poison(s->dev.stream, s->gemm.c, s->gemm.type, count, err);
	s->done[op] = s->done[op] || r == 0;
	return r;
}

static int try_op(struct cvb_run *run, uint64_t user, struct cvb_err *err)
{
	struct repeat_state *s = run->state;
	int r = do_op(s, (enum op)user, 0, err);

	return r < 0 ? r : check(s, err);
}

static int make_matrices(struct cvb_run *run, size_t n, struct cvb_err *err)
{
	struct repeat_state *s = run->state;
	struct cvb_gpu_gemm *g = &s->gemm;
	int r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, n * n * 4, &g->a, err);

	*g = (struct cvb_gpu_gemm){.type = CVB_GPU_FP32,
				   .m = (uint32_t)n,
				   .n = (uint32_t)n,
				   .k = (uint32_t)n,
				   .alpha = 1,
				   .a = g->a};
	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, n * n * 4, &g->b, err);
	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, n * n * 4, &g->c, err);
	if (r == 0)
		r = cvb_matrix_fill(run->gpu, s->dev.stream, g->a, g->type, n * n, SEED_A, &s->bad,
				    err);
	if (r == 0)
		r = cvb_matrix_fill(run->gpu, s->dev.stream, g->b, g->type, n * n, SEED_B, &s->bad,
				    err);
	return r < 0 ? r : cvb_matrix_poison(s->dev.stream, g->c, g->type, n * n, err);
}

/* The word that is counted up, and what is added to it. */
static int make_words(struct repeat_state *s, struct cvb_err *err)
{
	static const double value[] = {0, 1};
	struct cvb_gpu_buf **word[] = {&s->word, &s->one};
	int r = 0;

	for (size_t i = 0; r == 0 && i < CVB_ARRAY_LEN(word); i++) {
		r = cvb_dev_alloc(&s->dev, CVB_GPU_DEVICE, sizeof(value[i]), word[i], err);
		memcpy(cvb_gpu_buf_host(s->scratch), &value[i], sizeof(value[i]));
		if (r == 0)
			r = cvb_dev_copy(&s->dev, *word[i], 0, s->scratch, 0, sizeof(value[i]),
					 err);
	}
	return r;
}

static int make_all(struct cvb_run *run, struct cvb_err *err)
{
	const struct repeat_conf *conf = run->conf;
	struct repeat_state *s = run->state;
	size_t bytes = conf->copy_bytes;
	int r;

	s->windows = cvb_min(cvb_dev_windows(run->gpu, bytes), (uint64_t)MAX_TIMES);
	bytes *= (size_t)s->windows;
	r = cvb_dev_init(&s->dev, run->gpu, NULL, bytes, conf->copy_bytes, /* seed= */ 13, err);
	if (r == 0)
		r = cvb_dev_alloc(&s->dev, CVB_GPU_HOST_PINNED, bytes, &s->host, err);
	if (r == 0)
		r = cvb_dev_alloc(&s->dev, CVB_GPU_DEVICE, bytes, &s->device, err);
	if (r == 0)
		r = cvb_dev_alloc(&s->dev, cvb_matrix_host(run->gpu), CVB_MATRIX_SAMPLES * 8,
				  &s->scratch, err);
	if (r == 0)
		r = make_words(s, err);
	if (r == 0)
		r = cvb_dev_clear(&s->dev, s->host, bytes, err);
	if (r == 0)
		r = cvb_dev_fill(&s->dev, s->host, bytes, err);
	if (r == 0)
		r = cvb_dev_clear(&s->dev, s->device, bytes, err);
	return r;
}

/* The matrices, or why there is no product; 0 either way. */
static int make_gemm(struct cvb_run *run, bool *ret_there, struct cvb_err *err)
{
	const struct repeat_conf *conf = run->conf;
	struct cvb_err why = {0};
	int r = make_matrices(run, conf->n, &why);

	*ret_there = r == 0;
	if (r == -EOPNOTSUPP) {
		cvb_run_leave_out(run, json_pack("{s:s}", "op", op_words[OP_GEMM]), "%s",
				  why.frame[0].msg);
		return 0;
	}
	if (r < 0 && err)
		*err = why;
	return r;
}

static int repeat_setup(struct cvb_run *run, struct cvb_err *err)
{
	struct repeat_state *s = calloc(1, sizeof(*s));

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	s->unchecked = OPS;
	bool gemm = false;
	int r = make_all(run, err);

	if (r == 0)
		r = make_gemm(run, &gemm, err);
	for (int op = 0; r == 0 && op < (gemm ? OPS : OP_GEMM); op++) {
		struct cvb_case c = {
			.metrics = 1U << METRIC_TIME | 1U << METRIC_SPREAD | 1U << METRIC_WORST,
			.params = json_pack("{s:s}", "op", op_words[op]),
			.ops = 1,
			/* on a virtual clock copies take turns in the one window */
			.max_iters = op == OP_COPY && !cvb_gpu_is_deterministic(run->gpu)
					     ? s->windows
					     : MAX_TIMES,
			.user = (uint64_t)op,
		};

		r = cvb_probe_case(run, &c, try_op, &s->bad, err);
	}
	return r;
}

/* Not timed: check what the batch before left. */
static int repeat_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct repeat_state *s = worker->run->state;
	struct cvb_err err = {0};

	(void)c;
	(void)iters;
	if (s->unchecked != OPS && s->bad.r == 0)
		cvb_dev_keep(&s->bad, check(s, &err), &err);
	s->trial = worker->run->trial;
	return 0;
}

static int repeat_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct repeat_state *s = worker->run->state;
	uint64_t last = cvb_dev_now_ns(worker->run->gpu), now;
	struct cvb_err err = {0};
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < iters; i++) {
		r = do_op(s, (enum op)c->user, i, &err);
		now = cvb_dev_now_ns(worker->run->gpu);
		s->ns[i % MAX_TIMES] = now - last;
		last = now;
	}
	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int repeat_after(struct cvb_run *run, size_t c, uint64_t iters, uint64_t ns,
			struct cvb_err *err)
{
	struct repeat_state *s = run->state;
	size_t n = (size_t)cvb_min(iters, (uint64_t)MAX_TIMES);
	double sum = 0, squares = 0, worst = 0;

	(void)ns;
	(void)err;
	for (size_t i = 0; i < n; i++) {
		sum += (double)s->ns[i];
		worst = fmax(worst, (double)s->ns[i]);
	}
	double mean = sum / (double)n;

	for (size_t i = 0; i < n; i++)
		squares += ((double)s->ns[i] - mean) * ((double)s->ns[i] - mean);
	cvb_run_report(run, c, METRIC_SPREAD,
		       1 + sqrt(squares / (double)cvb_max(n - 1, (size_t)1)) / mean);
	cvb_run_report(run, c, METRIC_WORST, worst / mean);
	return 0;
}

static int repeat_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct repeat_state *s = run->state;
	int r = cvb_dev_kept(&s->bad, err);

	if (r == 0 && s->unchecked != OPS)
		r = check(s, err);
	for (size_t i = 0; r == 0 && i < run->n_cases; i++)
		if (!s->done[run->cases[i].user])
			r = cvb_err_set(err, -EBADMSG, "gpu.repeat %s: never done",
					op_words[run->cases[i].user]);
	return r;
}

static void repeat_done(struct cvb_run *run)
{
	struct repeat_state *s = run->state;

	if (!s)
		return;
	cvb_gpu_free(s->host);
	cvb_gpu_free(s->device);
	cvb_gpu_free(s->word);
	cvb_gpu_free(s->one);
	cvb_gpu_free(s->scratch);
	cvb_gpu_free(s->gemm.a);
	cvb_gpu_free(s->gemm.b);
	cvb_gpu_free(s->gemm.c);
	cvb_dev_done(&s->dev);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_repeat = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.repeat",
	.summary = "spread of the times of one operation repeated: launch, copy, product",
	.doc = "gpu.repeat.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = repeat_opts,
	.conf_size = sizeof(struct repeat_conf),
	.metrics = repeat_metrics,
	.params = (const char *const[]){"op", NULL},
	.setup = repeat_setup,
	.prepare = repeat_prepare,
	.step = repeat_step,
	.after_batch = repeat_after,
	.verify = repeat_verify,
	.done = repeat_done,
};

CVB_BENCH(gpu_repeat);
