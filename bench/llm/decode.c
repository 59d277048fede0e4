/* SPDX-License-Identifier: Apache-2.0 */
/*
 * llm.decode: one token for each sequence of a batch, as an inference engine does it.
 *
 * Decoding reads every weight and the keys and values of every sequence once a step and computes
 * little with them: it is bound by device memory.  So a weight matrix is a kernel that reads its
 * bytes, attention one that reads the cache, and small kernels stand for all others.  All layers
 * read the same memory.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/matrix.h"
#include "gpu/probe.h"
#include "llm/step.h"
#include "measure/bench.h"

#include <errno.h>
#include <string.h>

enum {
	METRIC_RATE,
	METRIC_LATENCY,
	KV = LLM_MATRICES, /* the key-value cache, after the matrices */
	REGIONS,
	BLOCK_TOKENS = 16, /* of the cache's block table */
};

struct decode_conf {
	char *model;
	uint64_t batch, context;
	int policy;
};

#define OPT(field) .offset = offsetof(struct decode_conf, field)

static const struct cvb_opt decode_opts[] = {
	{.name = "model",
	 .type = CVB_OPT_STR,
	 OPT(model),
	 .def = "gpt2",
	 .help = "a workload of profiles/workload: gpt2, qwen2.5-0.5b, llama-3.1-8b; or a path"},
	{.name = "policy",
	 .type = CVB_OPT_CHOICE,
	 OPT(policy),
	 .def = "both",
	 .choices = llm_policy_words,
	 .help = "the engine: fresh buffers and single launches, or packed copies and one graph"},
	{.name = "batch",
	 .type = CVB_OPT_U64,
	 OPT(batch),
	 .max = 4096,
	 .def = "0",
	 .help = "sequences that decode together; 0: the workload's"},
	{.name = "context",
	 .type = CVB_OPT_U64,
	 OPT(context),
	 .max = 1048576,
	 .def = "0",
	 .help = "tokens of each in the cache; 0: the workload's"},
	CVB_OPT_END,
};

static const struct cvb_metric decode_metrics[] = {
	[METRIC_RATE] = {"rate", CVB_OPS_PER_S, CVB_HIGHER_IS_BETTER, NULL,
			 "tokens / time, all sequences; explains decode losses under CC, 13 to 39 "
			 "% with stock engines, 1 to 8 % with aware ones"},
	[METRIC_LATENCY] = {"inter_token_latency", CVB_REPORTED, CVB_LOWER_IS_BETTER, "ns",
			    "time of a step, which gives every sequence one token"},
	{.name = NULL},
};

struct decode_state {
	struct llm_model *m;
	struct llm_step step;
	struct cvb_gpu_buf *region[REGIONS]; /* what is read */
	struct cvb_gpu_buf *sum[REGIONS];
	uint64_t want[REGIONS];
	bool unchecked, done;
	struct cvb_dev_bad bad;
};

/* ---- kernels ---- */

static int read_region(struct decode_state *s, struct cvb_gpu_stream *stream, int i,
		       struct cvb_err *err)
{
	const struct cvb_gpu_launch l = {.kernel = CVB_GPU_KERNEL_READ,
					 .a = s->region[i],
					 .b = s->sum[i],
					 .bytes = cvb_gpu_buf_bytes(s->region[i])};

	return cvb_gpu_launch_async(stream, &l, err);
}

static int layer(void *arg, struct cvb_gpu_stream *stream, uint64_t number, struct cvb_err *err)
{
	static const int order[] = {LLM_QKV, KV, LLM_OUT, LLM_UP, LLM_DOWN};
	struct decode_state *s = arg;
	int r = 0;

	if (number == s->m->layers)
		return read_region(s, stream, LLM_HEAD, err);
	for (size_t i = 0; r == 0 && i < CVB_ARRAY_LEN(order); i++)
		r = read_region(s, stream, order[i], err);
	return r;
}

/* ---- setup ---- */

static size_t region_bytes(const struct llm_model *m, int i)
{
	uint64_t rows, columns, bytes = llm_kv_bytes(m);

	if (i != KV) {
		llm_matrix_shape(m, (enum llm_matrix)i, &rows, &columns);
		bytes = rows * columns * cvb_gpu_type_bytes(llm_model_type(m));
	}
	return (size_t)(bytes + 7) / 8 * 8;
}

static int make_region(struct cvb_run *run, int i, struct cvb_err *err)
{
	struct decode_state *s = run->state;
	size_t bytes = region_bytes(s->m, i);
	struct cvb_gpu_launch fill = {
		.kernel = CVB_GPU_KERNEL_FILL, .bytes = bytes, .seed = (uint64_t)i + 1};
	int r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, bytes, &s->region[i], err);

	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, sizeof(uint64_t), &s->sum[i], err);
	fill.a = s->region[i];
	if (r == 0)
		r = cvb_gpu_launch_async(s->step.stream, &fill, err);
	if (r == 0)
		r = cvb_gpu_sync(s->step.stream, err);
	for (size_t w = 0; r == 0 && w < bytes / sizeof(uint64_t); w++)
		s->want[i] += cvb_gpu_pattern(fill.seed, w);
	return r;
}

static int load_model(struct decode_state *s, const struct decode_conf *conf, struct cvb_err *err)
{
	int r = llm_model_load(conf->model, &s->m, err);

	if (r < 0)
		return r;
	s->m->batch = conf->batch ? conf->batch : s->m->batch;
	s->m->context = conf->context ? conf->context : s->m->context;
	return 0;
}

static int run_step(struct decode_state *s, enum llm_policy policy, struct cvb_err *err)
{
	s->unchecked = true;
	return llm_step_run(&s->step, policy, err);
}

static int try_policy(struct cvb_run *run, uint64_t user, struct cvb_err *err)
{
	struct decode_state *s = run->state;
	int r = user == LLM_AWARE ? llm_step_record(&s->step, err) : 0;

	return r < 0 ? r : run_step(s, (enum llm_policy)user, err);
}

static int add_cases(struct cvb_run *run, struct cvb_err *err)
{
	const struct decode_conf *conf = run->conf;
	struct decode_state *s = run->state;
	int r = 0;

	for (int p = 0; r == 0 && p < LLM_POLICIES; p++) {
		struct cvb_case c = {
			.metrics = 1U << METRIC_RATE | 1U << METRIC_LATENCY,
			.ops = (double)s->m->batch,
			.user = (uint64_t)p,
		};

		if (conf->policy != LLM_POLICIES && conf->policy != p)
			continue;
		c.params = json_pack("{s:s,s:s,s:I,s:I}", "model", s->m->name, "policy",
				     llm_policy_words[p], "batch", (json_int_t)s->m->batch,
				     "context", (json_int_t)s->m->context);
		r = cvb_probe_case(run, &c, try_policy, &s->bad, err);
	}
	return r;
}

static int decode_setup(struct cvb_run *run, struct cvb_err *err)
{
	struct decode_state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	r = load_model(s, run->conf, err);
	if (r == 0 && !(cvb_gpu_caps(run->gpu)->flags & CVB_GPU_CAP_LAUNCH))
		r = cvb_err_set(err, -EOPNOTSUPP,
				"this GPU has no kernels, or what a launch costs is not known");
	/* token, position and slot of each sequence, and its part of the block table */
	if (r == 0)
		r = llm_step_init(&s->step, run->gpu, s->m, s->m->batch,
				  s->m->batch * (3 * 8 + 4 * (s->m->context / BLOCK_TOKENS)),
				  8 * s->m->batch, layer, s, err);
	for (int i = 0; r == 0 && i < REGIONS; i++)
		r = make_region(run, i, err);
	return r < 0 ? r : add_cases(run, err);
}

/* ---- the other hooks ---- */

static int check_sums(struct decode_state *s, struct cvb_err *err)
{
	struct cvb_gpu_stream *stream = s->step.stream;
	struct cvb_gpu_buf *host = NULL;
	int r = cvb_gpu_alloc(s->step.gpu, cvb_matrix_host(s->step.gpu), REGIONS * 8, &host, err);

	for (int i = 0; r == 0 && i < REGIONS; i++)
		r = cvb_gpu_copy_async(stream, host, 8 * (size_t)i, s->sum[i], 0, 8, err);
	int synced = cvb_gpu_sync(stream, r < 0 ? NULL : err);

	r = r < 0 ? r : synced;
	for (int i = 0; r == 0 && i < REGIONS; i++)
		if (((const uint64_t *)cvb_gpu_buf_host(host))[i] != s->want[i])
			r = cvb_err_set(err, -EBADMSG,
					"llm.decode: the sum of what a kernel read is wrong (%d)",
					i);
	/* the next batch must read them again */
	for (int i = 0; r == 0 && i < REGIONS; i++)
		r = cvb_gpu_memset_async(stream, s->sum[i], 0, 0xff, 8, err);
	if (r == 0)
		r = cvb_gpu_sync(stream, err);
	cvb_gpu_free(host);
	return r;
}

static int check(struct decode_state *s, struct cvb_err *err)
{
	int r = llm_step_check(&s->step, err);

	if (r == 0)
		r = check_sums(s, err);
	s->unchecked = false;
	s->done = s->done || r == 0;
	return r;
}

/* Not timed: check what the batch before left. */
static int decode_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct decode_state *s = worker->run->state;
	struct cvb_err err = {0};

	(void)c;
	(void)iters;
	if (s->unchecked && s->bad.r == 0)
		cvb_dev_keep(&s->bad, check(s, &err), &err);
	return 0;
}

static int decode_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct decode_state *s = worker->run->state;
	struct cvb_err err = {0};

	for (uint64_t i = 0; i < iters; i++) {
		int r = run_step(s, (enum llm_policy)c->user, &err);

		cvb_dev_keep(&s->bad, r == -EBADMSG ? r : 0, &err);
		if (r < 0 && r != -EBADMSG)
			return cvb_dev_failed(worker->run, r, &err);
	}
	return 0;
}

static int decode_after(struct cvb_run *run, size_t c, uint64_t iters, uint64_t ns,
			struct cvb_err *err)
{
	(void)err;
	cvb_run_report(run, c, METRIC_LATENCY, (double)ns / (double)iters);
	return 0;
}

static int decode_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct decode_state *s = run->state;
	int r = cvb_dev_kept(&s->bad, err);

	if (r == 0 && (s->unchecked || !s->done))
		r = check(s, err);
	return r;
}

static void decode_done(struct cvb_run *run)
{
	struct decode_state *s = run->state;

	if (!s)
		return;
	llm_step_done(&s->step);
	for (int i = 0; i < REGIONS; i++) {
		cvb_gpu_free(s->region[i]);
		cvb_gpu_free(s->sum[i]);
	}
	llm_model_free(s->m);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench llm_decode = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "llm.decode",
	.summary = "decode step of a language model: memory reads, launches, small copies",
	.doc = "llm.decode.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = decode_opts,
	.conf_size = sizeof(struct decode_conf),
	.metrics = decode_metrics,
	.params = (const char *const[]){"model", "policy", "batch", "context", NULL},
	.setup = decode_setup,
	.prepare = decode_prepare,
	.step = decode_step,
	.after_batch = decode_after,
	.verify = decode_verify,
	.done = decode_done,
};

CVB_BENCH(llm_decode);
