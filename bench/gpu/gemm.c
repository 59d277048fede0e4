/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.gemm: rate of matrix products in device memory, by number format and shape.
 *
 * All the products of a batch are submitted, then one sync: the queue is never empty, so that
 * submission is hidden as long as a product takes longer than that.  Each has a C of its own, as
 * the next one would hide that it was wrong; a batch has no more products than there are of them.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/device.h"
#include "gpu/matrix.h"
#include "gpu/probe.h"
#include "measure/bench.h"

#include <errno.h>
#include <string.h>

enum {
	TYPE_BOTH, /* indices into type_words */
	TYPE_ALL,
	TYPE_FIRST,
	SHAPE_SQUARE = 0,
	SHAPE_TRANSFORMER,
	SHAPE_ALL,
	MAX_SHAPES = 4,
	MAX_RESULTS = 1024,
	SEED_A = 1,
	SEED_B = 2,
};

/* Memory for results: 2 ms of work on a GPU of today from n = 256 on; on a virtual clock, where it
 * costs nothing, a queue's length of 8192 x 8192. */
#define RESULTS_BYTES	       (256 * CVB_MIB)
#define EMULATED_RESULTS_BYTES (64 * CVB_MIB)
#define VIRTUAL_RESULTS_BYTES  (32 * CVB_GIB)

struct gemm_conf {
	uint64_t n, tokens, hidden, ffn;
	int type, shape;
};

static const char *const type_words[] = {"both", "all",	 "fp64", "fp32", "tf32",
					 "bf16", "fp16", "fp8",	 "int8", NULL};
static const char *const shape_words[] = {"square", "transformer", "all", NULL};

#define OPT(field) .offset = offsetof(struct gemm_conf, field)

static const struct cvb_opt gemm_opts[] = {
	{.name = "n",
	 .type = CVB_OPT_U64,
	 OPT(n),
	 .min = 1,
	 .max = 65536,
	 .def = "1024",
	 .help = "rows and columns of the three square matrices"},
	{.name = "type",
	 .type = CVB_OPT_CHOICE,
	 OPT(type),
	 .def = "all",
	 .choices = type_words,
	 .help = "number format; both: fp32 and fp64; all: every one that the device has"},
	{.name = "shape",
	 .type = CVB_OPT_CHOICE,
	 OPT(shape),
	 .def = "square",
	 .choices = shape_words,
	 .help = "square, or the products of one transformer layer"},
	{.name = "tokens",
	 .type = CVB_OPT_U64,
	 OPT(tokens),
	 .min = 1,
	 .max = 65536,
	 .def = "512",
	 .help = "rows of the transformer's products"},
	{.name = "hidden",
	 .type = CVB_OPT_U64,
	 OPT(hidden),
	 .min = 1,
	 .max = 65536,
	 .def = "4096",
	 .help = "width of the transformer's layer"},
	{.name = "ffn",
	 .type = CVB_OPT_U64,
	 OPT(ffn),
	 .min = 1,
	 .max = 131072,
	 .def = "14336",
	 .help = "width of its feed-forward network"},
	CVB_OPT_END,
};

static const struct cvb_metric gemm_metrics[] = {
	{"rate", CVB_FLOPS_PER_S, CVB_HIGHER_IS_BETTER, NULL,
	 "2 m n k / time of one product (the control: explains no "
	 "loss, as kernels keep 0.98 to 1.00 under CC)"},
	{.name = NULL},
};

struct shape {
	const char *name; /* NULL: square */
	uint32_t m, n, k;
};

/* One number format: its matrices in device memory, large enough for every shape. */
struct side {
	enum cvb_gpu_type type;
	struct cvb_gpu_buf *a, *b;
	bool used, checked;
};

struct gemm_state {
	struct cvb_gpu_stream *stream;
	struct cvb_gpu_buf *scratch;
	struct shape shape[MAX_SHAPES];
	size_t n_shapes;
	struct side side[CVB_GPU_TYPES];
	struct cvb_gpu_buf *result[MAX_RESULTS]; /* the products' C, of any type */
	size_t n_results;
	/* of the batch under way; written by the worker */
	struct side *last;
	size_t last_shape, unchecked; /* products that no check has seen */
	bool trial;
	struct cvb_dev_bad bad;
};

/* Product number i of a batch. */
static struct cvb_gpu_gemm product(const struct gemm_state *s, const struct side *side,
				   size_t shape_index, size_t i)
{
	const struct shape *shape = &s->shape[shape_index];

	return (struct cvb_gpu_gemm){
		.type = side->type,
		.m = shape->m,
		.n = shape->n,
		.k = shape->k,
		.alpha = cvb_matrix_alpha(side->type, shape->k),
		.a = side->a,
		.b = side->b,
		.c = s->result[i],
	};
}

static void choose_shapes(const struct gemm_conf *conf, struct gemm_state *s)
{
	uint32_t n = (uint32_t)conf->n, tokens = (uint32_t)conf->tokens;
	uint32_t hidden = (uint32_t)conf->hidden, ffn = (uint32_t)conf->ffn;

	if (conf->shape != SHAPE_TRANSFORMER)
		s->shape[s->n_shapes++] = (struct shape){NULL, n, n, n};
	if (conf->shape != SHAPE_SQUARE) {
		s->shape[s->n_shapes++] = (struct shape){"attention", tokens, hidden, hidden};
		s->shape[s->n_shapes++] = (struct shape){"up", tokens, ffn, hidden};
		s->shape[s->n_shapes++] = (struct shape){"down", tokens, hidden, ffn};
	}
}

static bool wanted(const struct gemm_conf *conf, enum cvb_gpu_type type)
{
	if (conf->type == TYPE_BOTH)
		return type == CVB_GPU_FP64 || type == CVB_GPU_FP32;
	return conf->type == TYPE_ALL || !strcmp(type_words[conf->type], cvb_gpu_type_text(type));
}

static int alloc_side(struct cvb_run *run, struct side *side, struct cvb_err *err)
{
	struct gemm_state *s = run->state;
	size_t elem = cvb_gpu_type_bytes(side->type), a = 0, b = 0;
	int r;

	for (size_t i = 0; i < s->n_shapes; i++) {
		const struct shape *sh = &s->shape[i];

		a = cvb_max(a, (size_t)sh->m * sh->k);
		b = cvb_max(b, (size_t)sh->k * sh->n);
	}
	r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, a * elem, &side->a, err);
	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, b * elem, &side->b, err);
	if (r == 0)
		r = cvb_matrix_fill(run->gpu, s->stream, side->a, side->type, a, SEED_A, &s->bad,
				    err);
	return r < 0 ? r
		     : cvb_matrix_fill(run->gpu, s->stream, side->b, side->type, b, SEED_B, &s->bad,
				       err);
}

static size_t results_bytes(const struct cvb_gpu *gpu)
{
	return cvb_gpu_is_deterministic(gpu) ? VIRTUAL_RESULTS_BYTES
	       : cvb_gpu_is_emulated(gpu)    ? EMULATED_RESULTS_BYTES
					     : RESULTS_BYTES;
}

/* As many as there is memory set aside for, of the largest shape and number. */
static int alloc_results(struct cvb_run *run, struct cvb_err *err)
{
	struct gemm_state *s = run->state;
	size_t bytes = 0, n;
	int r = 0;

	for (size_t i = 0; i < s->n_shapes; i++)
		bytes = cvb_max(bytes, (size_t)s->shape[i].m * s->shape[i].n * sizeof(double));
	n = cvb_min(cvb_max(results_bytes(run->gpu) / bytes, (size_t)1),
		    cvb_gpu_is_deterministic(run->gpu) ? (size_t)cvb_probe_depth(run->gpu)
						       : (size_t)MAX_RESULTS);
	while (r == 0 && s->n_results < n) {
		r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, bytes, &s->result[s->n_results], err);
		if (r == 0)
			r = cvb_matrix_poison(s->stream, s->result[s->n_results++], CVB_GPU_INT8,
					      bytes, err);
	}
	return r;
}

/* Products in one iteration. */
static size_t depth(const struct cvb_run *run)
{
	const struct gemm_state *s = run->state;

	return cvb_min((size_t)cvb_probe_depth(run->gpu), s->n_results);
}

static int add_case(struct cvb_run *run, const struct side *side, size_t shape, struct cvb_err *err)
{
	struct gemm_state *s = run->state;
	const struct shape *sh = &s->shape[shape];
	const char *type = cvb_gpu_type_text(side->type);
	struct cvb_case c = {
		.metrics = 1,
		.params = sh->name ? json_pack("{s:s,s:I,s:I,s:I,s:s}", "shape", sh->name, "m",
					       (json_int_t)sh->m, "n", (json_int_t)sh->n, "k",
					       (json_int_t)sh->k, "type", type)
				   : json_pack("{s:I,s:s}", "n", (json_int_t)sh->n, "type", type),
		.ops = (double)depth(run),
		.flops = (double)depth(run) * 2.0 * sh->m * sh->n * sh->k,
		.max_iters = s->n_results / depth(run),
		.user = side->type * MAX_SHAPES + shape,
	};

	return cvb_run_add_case(run, &c, err);
}

static int check_product(struct gemm_state *s, size_t i, struct cvb_err *err)
{
	struct cvb_gpu_gemm g = product(s, s->last, s->last_shape, i);
	/* one element tells of a wrong product, unless so few bits round it to the right one */
	size_t some = cvb_gpu_type_bytes(g.type) == 1 ? 8 : 1;
	size_t most = i + 1 < s->unchecked ? some : CVB_MATRIX_SAMPLES;
	int r = s->trial ? 0
			 : cvb_matrix_check_some(s->stream, s->scratch, &g, SEED_A, SEED_B, most,
						 "gpu.gemm", err);

	return r < 0 ? r : cvb_matrix_poison(s->stream, g.c, g.type, (size_t)g.m * g.n, err);
}

/* What the batch before left; of a trial nothing is looked at. */
static int check(struct gemm_state *s, struct cvb_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->unchecked; i++)
		r = check_product(s, i, err);
	if (s->unchecked && r == 0 && !s->trial)
		s->last->checked = true;
	s->unchecked = 0;
	return r;
}

static int multiply(struct gemm_state *s, struct side *side, size_t shape, uint64_t count,
		    struct cvb_err *err)
{
	int r = 0;

	s->last = side;
	s->last_shape = shape;
	s->unchecked = (size_t)count;
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct cvb_gpu_gemm g = product(s, side, shape, i);

		r = cvb_gpu_gemm_async(s->stream, &g, err);
	}
	/* also after an error: nothing may be in flight on return */
	int synced = cvb_gpu_sync(s->stream, r < 0 ? NULL : err);

	return r < 0 ? r : synced;
}

/* Allocate, fill, and one product untimed: it loads the library, or says that there is none. */
static int side_setup(struct cvb_run *run, struct side *side, struct cvb_err *err)
{
	struct gemm_state *s = run->state;
	struct cvb_err why = {0};
	int r = alloc_side(run, side, err);

	if (r == 0)
		r = multiply(s, side, 0, 1, err);
	if (r < 0)
		return r;
	side->used = true;
	cvb_dev_keep(&s->bad, check(s, &why), &why);
	for (size_t i = 0; r >= 0 && i < s->n_shapes; i++)
		r = add_case(run, side, i, err);
	return r;
}

static int add_type(struct cvb_run *run, enum cvb_gpu_type type, struct cvb_err *err)
{
	const struct gemm_conf *conf = run->conf;
	struct gemm_state *s = run->state;
	const char *name = cvb_gpu_type_text(type);
	bool launch = cvb_gpu_caps(run->gpu)->flags & CVB_GPU_CAP_LAUNCH;
	char what[32], parameter[32];
	struct cvb_err why = {0};

	if (!wanted(conf, type))
		return 0;
	if (cvb_gpu_caps(run->gpu)->gemm_types >> type & 1) {
		s->side[type].type = type;
		return side_setup(run, &s->side[type], err);
	}
	snprintf(what, sizeof(what), "%s products", name);
	snprintf(parameter, sizeof(parameter), "gemm_%s", name);
	int r = cvb_probe_lacks(run, what, launch ? parameter : "launch", &why);

	if (conf->type < TYPE_FIRST) {
		cvb_run_leave_out(run, json_pack("{s:s}", "type", name), "%s", why.frame[0].msg);
		return 0;
	}
	if (err)
		*err = why;
	return r;
}

static int gemm_setup(struct cvb_run *run, struct cvb_err *err)
{
	struct gemm_state *s = calloc(1, sizeof(*s));

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	choose_shapes(run->conf, s);
	int r = cvb_gpu_stream_new(run->gpu, &s->stream, err);

	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, cvb_matrix_host(run->gpu), CVB_MATRIX_SAMPLES * 8,
				  &s->scratch, err);
	if (r == 0)
		r = alloc_results(run, err);
	for (unsigned t = 0; r >= 0 && t < CVB_GPU_TYPES; t++)
		r = add_type(run, (enum cvb_gpu_type)t, err);
	return r < 0 ? r : 0;
}

/* Not timed: check what the batch before left. */
static int gemm_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct gemm_state *s = worker->run->state;
	struct cvb_err err = {0};

	(void)c;
	(void)iters;
	if (s->bad.r == 0)
		cvb_dev_keep(&s->bad, check(s, &err), &err);
	s->trial = worker->run->trial;
	return 0;
}

static int gemm_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct gemm_state *s = worker->run->state;
	struct cvb_err err = {0};
	int r = multiply(s, &s->side[c->user / MAX_SHAPES], c->user % MAX_SHAPES,
			 iters * depth(worker->run), &err);

	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int gemm_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct gemm_state *s = run->state;
	int r = cvb_dev_kept(&s->bad, err);

	if (r == 0)
		r = check(s, err);
	for (size_t i = 0; i < CVB_GPU_TYPES && r == 0; i++)
		if (s->side[i].used && !s->side[i].checked)
			r = cvb_err_set(err, -EBADMSG, "gpu.gemm %s: no product was checked",
					cvb_gpu_type_text(s->side[i].type));
	return r;
}

static void gemm_done(struct cvb_run *run)
{
	struct gemm_state *s = run->state;

	if (!s)
		return;
	cvb_gpu_stream_free(s->stream);
	for (size_t i = 0; i < CVB_GPU_TYPES; i++) {
		cvb_gpu_free(s->side[i].a);
		cvb_gpu_free(s->side[i].b);
	}
	for (size_t i = 0; i < s->n_results; i++)
		cvb_gpu_free(s->result[i]);
	cvb_gpu_free(s->scratch);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_gemm = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.gemm",
	.summary = "matrix products in device memory, by number format and shape",
	.doc = "gpu.gemm.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = gemm_opts,
	.conf_size = sizeof(struct gemm_conf),
	.metrics = gemm_metrics,
	.params = (const char *const[]){"shape", "m", "n", "k", "type", NULL},
	.setup = gemm_setup,
	.prepare = gemm_prepare,
	.step = gemm_step,
	.verify = gemm_verify,
	.done = gemm_done,
};

CVB_BENCH(gpu_gemm);
