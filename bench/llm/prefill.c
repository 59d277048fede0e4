/* SPDX-License-Identifier: Apache-2.0 */
/*
 * llm.prefill: a prompt through all layers up to its first token.
 *
 * Prefill multiplies the activations of all tokens of the prompt with every weight: it is bound by
 * compute.  Each matrix is a product of its true shape, attention two more.  All layers use the
 * same memory.
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
	METRIC_TTFT,
	METRIC_RATE,
	SCORES = LLM_MATRICES, /* queries times keys, after the matrices */
	VALUES,		       /* scores times values */
	PRODUCTS,
	SEED_A = 7,
	SEED_B = 8,
};

struct prefill_conf {
	char *model;
	uint64_t prompt;
	int policy;
};

#define OPT(field) .offset = offsetof(struct prefill_conf, field)

static const struct cvb_opt prefill_opts[] = {
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
	{.name = "prompt",
	 .type = CVB_OPT_U64,
	 OPT(prompt),
	 .max = 131072,
	 .def = "0",
	 .help = "tokens of the prompt; 0: the workload's"},
	CVB_OPT_END,
};

static const struct cvb_metric prefill_metrics[] = {
	[METRIC_TTFT] = {"time_to_first_token", CVB_REPORTED, CVB_LOWER_IS_BETTER, "ns",
			 "time from the prompt on the host to the first token there; explains what "
			 "is left of the loss when a prompt is long"},
	[METRIC_RATE] = {"rate", CVB_OPS_PER_S, CVB_HIGHER_IS_BETTER, NULL,
			 "tokens of the prompt / time"},
	{.name = NULL},
};

struct prefill_state {
	struct llm_model *m;
	struct llm_step step;
	struct cvb_gpu_buf *a, *b;	    /* of every product, which takes their first elements */
	struct cvb_gpu_gemm gemm[PRODUCTS]; /* each with its own result */
	struct cvb_gpu_buf *scratch;
	bool unchecked, done;
	struct cvb_dev_bad bad;
};

/* ---- products ---- */

static void shape_of(const struct llm_model *m, int i, struct cvb_gpu_gemm *ret)
{
	uint64_t q = m->heads * m->head_dim, rows, columns;

	ret->m = (uint32_t)m->prompt;
	if (i == SCORES || i == VALUES) {
		/* all heads as one product: as many operations */
		ret->n = (uint32_t)(i == SCORES ? m->prompt : q);
		ret->k = (uint32_t)(i == SCORES ? q : m->prompt);
		return;
	}
	llm_matrix_shape(m, (enum llm_matrix)i, &rows, &columns);
	ret->k = (uint32_t)rows;
	ret->n = (uint32_t)columns;
	if (i == LLM_HEAD)
		ret->m = 1; /* only the last token's are wanted */
}

static int layer(void *arg, struct cvb_gpu_stream *stream, uint64_t number, struct cvb_err *err)
{
	static const int order[] = {LLM_QKV, SCORES, VALUES, LLM_OUT, LLM_UP, LLM_DOWN};
	struct prefill_state *s = arg;
	int r = 0;

	if (number == s->m->layers)
		return cvb_gpu_gemm_async(stream, &s->gemm[LLM_HEAD], err);
	for (size_t i = 0; r == 0 && i < CVB_ARRAY_LEN(order); i++)
		r = cvb_gpu_gemm_async(stream, &s->gemm[order[i]], err);
	return r;
}

/* ---- setup ---- */

static int make_product(struct cvb_run *run, int i, struct cvb_err *err)
{
	struct prefill_state *s = run->state;
	struct cvb_gpu_gemm *g = &s->gemm[i];
	size_t count = (size_t)g->m * g->n;
	int r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, count * cvb_gpu_type_bytes(g->type), &g->c,
			      err);

	g->a = s->a;
	g->b = s->b;
	g->alpha = cvb_matrix_alpha(g->type, g->k);
	return r < 0 ? r : cvb_matrix_poison(s->step.stream, g->c, g->type, count, err);
}

static int make_products(struct cvb_run *run, struct cvb_err *err)
{
	struct prefill_state *s = run->state;
	enum cvb_gpu_type type = llm_model_type(s->m);
	size_t elem = cvb_gpu_type_bytes(type), a = 0, b = 0;
	int r;

	for (int i = 0; i < PRODUCTS; i++) {
		struct cvb_gpu_gemm *g = &s->gemm[i];

		g->type = type;
		shape_of(s->m, i, g);
		a = cvb_max(a, (size_t)g->m * g->k);
		b = cvb_max(b, (size_t)g->k * g->n);
	}
	r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, a * elem, &s->a, err);
	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, b * elem, &s->b, err);
	if (r == 0)
		r = cvb_matrix_fill(run->gpu, s->step.stream, s->a, type, a, SEED_A, &s->bad, err);
	if (r == 0)
		r = cvb_matrix_fill(run->gpu, s->step.stream, s->b, type, b, SEED_B, &s->bad, err);
	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, cvb_matrix_host(run->gpu), CVB_MATRIX_SAMPLES * 8,
				  &s->scratch, err);
	for (int i = 0; r == 0 && i < PRODUCTS; i++)
		r = make_product(run, i, err);
	return r;
}

static int run_step(struct prefill_state *s, enum llm_policy policy, struct cvb_err *err)
{
	s->unchecked = true;
	return llm_step_run(&s->step, policy, err);
}

static int try_policy(struct cvb_run *run, uint64_t user, struct cvb_err *err)
{
	struct prefill_state *s = run->state;
	int r = user == LLM_AWARE ? llm_step_record(&s->step, err) : 0;

	return r < 0 ? r : run_step(s, (enum llm_policy)user, err);
}

static int add_cases(struct cvb_run *run, struct cvb_err *err)
{
	const struct prefill_conf *conf = run->conf;
	struct prefill_state *s = run->state;
	int r = 0;

	for (int p = 0; r == 0 && p < LLM_POLICIES; p++) {
		struct cvb_case c = {
			.metrics = 1U << METRIC_TTFT | 1U << METRIC_RATE,
			.ops = (double)s->m->prompt,
			.user = (uint64_t)p,
		};

		if (conf->policy != LLM_POLICIES && conf->policy != p)
			continue;
		c.params = json_pack("{s:s,s:s,s:I}", "model", s->m->name, "policy",
				     llm_policy_words[p], "prompt", (json_int_t)s->m->prompt);
		r = cvb_probe_case(run, &c, try_policy, &s->bad, err);
	}
	return r;
}

static int prefill_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct prefill_conf *conf = run->conf;
	struct prefill_state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	r = llm_model_load(conf->model, &s->m, err);
	if (r < 0)
		return r;
	s->m->prompt = conf->prompt ? conf->prompt : s->m->prompt;
	if (!(cvb_gpu_caps(run->gpu)->gemm_types >> llm_model_type(s->m) & 1))
		return cvb_err_set(err, -EOPNOTSUPP,
				   "this GPU has no %s products, or their rate is not known",
				   cvb_gpu_type_text(llm_model_type(s->m)));
	/* token and position of each; the first token comes back */
	r = llm_step_init(&s->step, run->gpu, s->m, s->m->prompt, s->m->prompt * 16, 8, layer, s,
			  err);
	if (r == 0)
		r = make_products(run, err);
	return r < 0 ? r : add_cases(run, err);
}

/* ---- the other hooks ---- */

static int check(struct prefill_state *s, struct cvb_err *err)
{
	int r = llm_step_check(&s->step, err);

	for (int i = 0; r == 0 && i < PRODUCTS; i++) {
		const struct cvb_gpu_gemm *g = &s->gemm[i];

		r = cvb_matrix_check(s->step.stream, s->scratch, g, SEED_A, SEED_B, "llm.prefill",
				     err);
		if (r == 0)
			r = cvb_matrix_poison(s->step.stream, g->c, g->type, (size_t)g->m * g->n,
					      err);
	}
	s->unchecked = false;
	s->done = s->done || r == 0;
	return r;
}

/* Not timed: check what the batch before left. */
static int prefill_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct prefill_state *s = worker->run->state;
	struct cvb_err err = {0};

	(void)c;
	(void)iters;
	if (s->unchecked && s->bad.r == 0)
		cvb_dev_keep(&s->bad, check(s, &err), &err);
	return 0;
}

static int prefill_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct prefill_state *s = worker->run->state;
	struct cvb_err err = {0};

	for (uint64_t i = 0; i < iters; i++) {
		int r = run_step(s, (enum llm_policy)c->user, &err);

		cvb_dev_keep(&s->bad, r == -EBADMSG ? r : 0, &err);
		if (r < 0 && r != -EBADMSG)
			return cvb_dev_failed(worker->run, r, &err);
	}
	return 0;
}

static int prefill_after(struct cvb_run *run, size_t c, uint64_t iters, uint64_t ns,
			 struct cvb_err *err)
{
	(void)err;
	cvb_run_report(run, c, METRIC_TTFT, (double)ns / (double)iters);
	return 0;
}

static int prefill_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct prefill_state *s = run->state;
	int r = cvb_dev_kept(&s->bad, err);

	if (r == 0 && (s->unchecked || !s->done))
		r = check(s, err);
	return r;
}

static void prefill_done(struct cvb_run *run)
{
	struct prefill_state *s = run->state;

	if (!s)
		return;
	llm_step_done(&s->step);
	for (int i = 0; i < PRODUCTS; i++)
		cvb_gpu_free(s->gemm[i].c);
	cvb_gpu_free(s->a);
	cvb_gpu_free(s->b);
	cvb_gpu_free(s->scratch);
	llm_model_free(s->m);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench llm_prefill = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "llm.prefill",
	.summary = "prefill of a language model: products of its shapes, launches, small copies",
	.doc = "llm.prefill.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = prefill_opts,
	.conf_size = sizeof(struct prefill_conf),
	.metrics = prefill_metrics,
	.params = (const char *const[]){"model", "policy", "prompt", NULL},
	.setup = prefill_setup,
	.prepare = prefill_prepare,
	.step = prefill_step,
	.after_batch = prefill_after,
	.verify = prefill_verify,
	.done = prefill_done,
};

CVB_BENCH(llm_prefill);
