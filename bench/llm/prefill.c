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
#include "llm/proxy.h"

#include <errno.h>
#include <inttypes.h>

enum {
	METRIC_TTFT,
	METRIC_RATE,
	SCORES = LLM_MATRICES, /* queries times keys, after the matrices */
	VALUES,		       /* scores times values */
	PRODUCTS,
	SEED_A = 7,
	SEED_B = 8,
	WIDEN_FLOPS = 128, /* what an emulator needs to widen an element of a narrow type */
	SLOW_PROMPT = 64,  /* tokens, on an emulator with the wall clock unless asked for */
};

/* Operations of a step with one layer, there and unless asked for. */
#define SLOW_MAX_FLOPS 3e10

struct prefill_conf {
	struct llm_conf llm;
	uint64_t prompt;
};

_Static_assert(offsetof(struct prefill_conf, llm) == 0, "rows of LLM_OPTS begin there");

#define OPT(field) .offset = offsetof(struct prefill_conf, field)

static const struct cvb_opt prefill_opts[] = {
	LLM_OPTS,
	{.name = "prompt",
	 .type = CVB_OPT_U64,
	 OPT(prompt),
	 .max = 131072,
	 .def = "0",
	 .help = "tokens of the prompt; 0: the workload's, on an emulator with the wall clock at "
		 "most 64"},
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

/* What one rank multiplies. */
struct part {
	struct cvb_gpu_buf *a, *b;	    /* of every product, which takes their first elements */
	struct cvb_gpu_gemm gemm[PRODUCTS]; /* each with its own result */
	struct cvb_gpu_buf *scratch;
};

struct prefill_state {
	struct llm_proxy llm;
	struct part part[LLM_MAX_RANKS];
};

_Static_assert(offsetof(struct prefill_state, llm) == 0, "the proxy's hooks find it there");

/* ---- products ---- */

static void shape_of(const struct llm_model *m, int i, struct cvb_gpu_gemm *ret)
{
	uint64_t q = m->heads * m->head_dim, rows, columns;

	ret->type = llm_model_type(m);
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

static int layer(void *arg, unsigned rank, struct cvb_gpu_stream *stream, uint64_t number,
		 enum llm_part part, struct cvb_err *err)
{
	static const int attention[] = {LLM_QKV, SCORES, VALUES, LLM_OUT};
	static const int feed_forward[] = {LLM_UP, LLM_DOWN};
	const int *order = part == LLM_ATTENTION ? attention : feed_forward;
	size_t n = part == LLM_ATTENTION ? CVB_ARRAY_LEN(attention) : CVB_ARRAY_LEN(feed_forward);
	struct prefill_state *s = arg;
	const struct cvb_gpu_gemm *gemm = s->part[rank].gemm;
	int r = 0;

	if (number == s->llm.m->layers)
		return cvb_gpu_gemm_async(stream, &gemm[LLM_HEAD], err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = cvb_gpu_gemm_async(stream, &gemm[order[i]], err);
	return r;
}

/* ---- setup ---- */

/* Elements of A, B and all results, for the largest product each. */
struct room {
	size_t a, b, c;
};

static struct room room_of(const struct llm_model *m)
{
	struct room room = {0};

	for (int i = 0; i < PRODUCTS; i++) {
		struct cvb_gpu_gemm g;

		shape_of(m, i, &g);
		room.a = cvb_max(room.a, (size_t)g.m * g.k);
		room.b = cvb_max(room.b, (size_t)g.k * g.n);
		room.c += (size_t)g.m * g.n;
	}
	return room;
}

static struct llm_shape step_shape(const struct llm_model *m)
{
	/* token and position of each; the first token comes back */
	return (struct llm_shape){.rows = m->prompt, .inputs = m->prompt * 16, .results = 8};
}

static struct llm_need need_of(const struct llm_model *m)
{
	const struct llm_shape shape = step_shape(m);
	const struct room room = room_of(m);
	struct llm_need need = {
		.kernels = PRODUCTS - 1,
		.work_unit = "floating-point operations",
		.default_work = 12e9,
		.max_work = 2e11,
		.lower = "prompt",
	};

	for (int i = 0; i < PRODUCTS; i++) {
		struct cvb_gpu_gemm g;

		shape_of(m, i, &g);
		double flops = 2.0 * g.m * g.n * g.k;

		if (cvb_gpu_type_bytes(g.type) < sizeof(float))
			flops += (double)WIDEN_FLOPS * g.k * ((double)g.m + (double)g.n);
		*(i == LLM_HEAD ? &need.last_work : &need.layer_work) += flops;
	}
	need.bytes = ((double)room.a + (double)room.b + (double)room.c) *
			     (double)cvb_gpu_type_bytes(llm_model_type(m)) +
		     llm_step_bytes(m, &shape);
	return need;
}

static int make_product(struct prefill_state *s, unsigned rank, int i, struct cvb_err *err)
{
	struct part *part = &s->part[rank];
	struct cvb_gpu_gemm *g = &part->gemm[i];
	struct llm_rank *k = &s->llm.step.rank[rank];

	shape_of(s->llm.m, i, g);
	size_t count = (size_t)g->m * g->n;
	int r = cvb_gpu_alloc(k->gpu, CVB_GPU_DEVICE, count * cvb_gpu_type_bytes(g->type), &g->c,
			      err);

	g->a = part->a;
	g->b = part->b;
	g->alpha = cvb_matrix_alpha(g->type, g->k);
	return r < 0 ? r : cvb_matrix_poison(k->stream, g->c, g->type, count, err);
}

static int make_part(struct prefill_state *s, unsigned rank, struct cvb_err *err)
{
	enum cvb_gpu_type type = llm_model_type(s->llm.m);
	const struct room room = room_of(s->llm.m);
	size_t elem = cvb_gpu_type_bytes(type);
	struct part *part = &s->part[rank];
	struct llm_rank *k = &s->llm.step.rank[rank];
	struct cvb_dev_bad *bad = &s->llm.bad;
	int r = cvb_gpu_alloc(k->gpu, CVB_GPU_DEVICE, room.a * elem, &part->a, err);

	if (r == 0)
		r = cvb_gpu_alloc(k->gpu, CVB_GPU_DEVICE, room.b * elem, &part->b, err);
	if (r == 0)
		r = cvb_matrix_fill(k->gpu, k->stream, part->a, type, room.a, SEED_A, bad, err);
	if (r == 0)
		r = cvb_matrix_fill(k->gpu, k->stream, part->b, type, room.b, SEED_B, bad, err);
	if (r == 0)
		r = cvb_gpu_alloc(k->gpu, cvb_matrix_host(k->gpu), CVB_MATRIX_SAMPLES * 8,
				  &part->scratch, err);
	for (int i = 0; r == 0 && i < PRODUCTS; i++)
		r = make_product(s, rank, i, err);
	return r;
}

static int check_part(struct prefill_state *s, unsigned rank, struct cvb_err *err)
{
	struct cvb_gpu_stream *stream = s->llm.step.rank[rank].stream;
	const struct part *part = &s->part[rank];
	int r = 0;

	for (int i = 0; r == 0 && i < PRODUCTS; i++) {
		const struct cvb_gpu_gemm *g = &part->gemm[i];

		r = cvb_matrix_check(stream, part->scratch, g, SEED_A, SEED_B, "llm.prefill", err);
		if (r == 0)
			r = cvb_matrix_poison(stream, g->c, g->type, (size_t)g->m * g->n, err);
	}
	return r;
}

static int check(void *state, struct cvb_err *err)
{
	struct prefill_state *s = state;
	int r = 0;

	for (unsigned rank = 0; r == 0 && rank < s->llm.step.ranks; rank++)
		r = check_part(s, rank, err);
	return r;
}

static void choose_prompt(struct llm_model *m, struct cvb_run *run)
{
	const struct prefill_conf *conf = run->conf;

	if (conf->prompt) {
		m->prompt = conf->prompt;
	} else if (llm_proxy_is_slow(run->gpu) && m->prompt > SLOW_PROMPT) {
		cvb_run_note(run,
			     "%d of the %" PRIu64 " tokens of %s's prompt: all of them would take "
			     "long here (prompt=%" PRIu64 " wants them all)",
			     SLOW_PROMPT, m->prompt, m->name, m->prompt);
		m->prompt = SLOW_PROMPT;
	}
}

/* The output layer cannot be made less: is that alone too long for somebody who asked for nothing?
 */
static int check_slow(struct cvb_run *run, const struct llm_model *m, const struct llm_need *need,
		      struct cvb_err *err)
{
	const struct prefill_conf *conf = run->conf;
	double flops = (double)m->tensor_parallel * (need->layer_work + need->last_work);

	if (!llm_proxy_is_slow(run->gpu) || conf->prompt || conf->llm.layers ||
	    flops <= SLOW_MAX_FLOPS)
		return 0;
	return cvb_err_set(err, -EOPNOTSUPP,
			   "one layer and the output layer of %s are %.3g operations, minutes on "
			   "an emulated GPU with the wall clock: take clock=virtual or a smaller "
			   "model, or layers=1 to have it all the same",
			   m->name, flops);
}

static int begin(struct prefill_state *s, struct cvb_run *run, struct cvb_err *err)
{
	const struct prefill_conf *conf = run->conf;
	int r = llm_proxy_load(&s->llm, &conf->llm, err);

	if (r < 0)
		return r;
	struct llm_model *m = s->llm.m;

	choose_prompt(m, run);
	if (!(cvb_gpu_caps(run->gpu)->gemm_types >> llm_model_type(m) & 1))
		return cvb_err_set(err, -EOPNOTSUPP,
				   "this GPU has no %s products, or their rate is not known",
				   cvb_gpu_type_text(llm_model_type(m)));
	const struct llm_need need = need_of(m);
	const struct llm_shape shape = step_shape(m);

	r = check_slow(run, m, &need, err);
	if (r == 0)
		r = llm_proxy_begin(&s->llm, run, &need, err);
	return r < 0 ? r
		     : llm_step_init(&s->llm.step, run->gpu, s->llm.peer, m, &shape, layer, s, err);
}

static int prefill_setup(struct cvb_run *run, struct cvb_err *err)
{
	struct prefill_state *s = calloc(1, sizeof(*s));
	struct cvb_case like = {.metrics = 1U << METRIC_TTFT | 1U << METRIC_RATE};
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	s->llm.latency_metric = METRIC_TTFT;
	s->llm.check = check;
	r = begin(s, run, err);
	for (unsigned rank = 0; r == 0 && rank < s->llm.step.ranks; rank++)
		r = make_part(s, rank, err);
	if (r < 0)
		return r;
	like.ops = (double)s->llm.m->prompt;
	return llm_proxy_add_cases(&s->llm, run, &like,
				   json_pack("{s:I}", "prompt", (json_int_t)s->llm.m->prompt), err);
}

static void prefill_done(struct cvb_run *run)
{
	struct prefill_state *s = run->state;

	if (!s)
		return;
	for (unsigned rank = 0; rank < LLM_MAX_RANKS; rank++) {
		struct part *part = &s->part[rank];

		for (int i = 0; i < PRODUCTS; i++)
			cvb_gpu_free(part->gemm[i].c);
		cvb_gpu_free(part->a);
		cvb_gpu_free(part->b);
		cvb_gpu_free(part->scratch);
	}
	llm_proxy_done(&s->llm);
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
	.params = (const char *const[]){"model", "policy", "prompt", "layers", "tensor_parallel",
					NULL},
	.setup = prefill_setup,
	.prepare = llm_proxy_prepare,
	.step = llm_proxy_step,
	.after_batch = llm_proxy_after,
	.verify = llm_proxy_verify,
	.done = prefill_done,
};

CVB_BENCH(llm_prefill);
