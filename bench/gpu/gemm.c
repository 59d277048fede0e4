/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.gemm: rate of square matrix products in device memory.
 *
 * All the products of a batch are submitted, then one sync: the queue is never empty, so that
 * submission is hidden as long as a product takes longer than that.
 *
 * The operands repeat a tile of random numbers that the host has, too; verify fetches sampled
 * elements of the result and computes them again.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/gpu.h"
#include "measure/bench.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum {
	BOTH = 2, /* index of "both" in the choices below */
	SAMPLES = 64,
	TILE = 262139, /* numbers; a prime, so that the rows of a matrix differ */
};

struct gemm_conf {
	uint64_t n;
	int type;
};

static const enum cvb_gpu_type types[] = {CVB_GPU_FP32, CVB_GPU_FP64};
static const char *const type_words[] = {"fp32", "fp64", "both", NULL};

#define OPT(field) .offset = offsetof(struct gemm_conf, field)

static const struct cvb_opt gemm_opts[] = {
	{.name = "n",
	 .type = CVB_OPT_U64,
	 OPT(n),
	 .min = 1,
	 .max = 65536,
	 .def = "1024",
	 .help = "rows and columns of the three matrices"},
	{.name = "type",
	 .type = CVB_OPT_CHOICE,
	 OPT(type),
	 .def = "both",
	 .choices = type_words,
	 .help = "number format"},
	CVB_OPT_END,
};

static const struct cvb_metric gemm_metrics[] = {
	{"rate", CVB_FLOPS_PER_S, CVB_HIGHER_IS_BETTER, NULL, "2 n^3 / time of one product"},
	{.name = NULL},
};

/* One number format: its matrices in device memory, and the host's tiles and samples of them. */
struct side {
	struct cvb_gpu_gemm gemm;
	struct cvb_gpu_buf *host_a, *host_b, *host_c;
	size_t tile; /* numbers of a and b that repeat */
	bool used;
	bool unchecked; /* there are products that no check has seen */
	bool checked;	/* one has been right */
};

struct gemm_state {
	struct cvb_gpu_stream *stream;
	struct side side[CVB_ARRAY_LEN(types)];
	int bad; /* first negative errno of a check between batches */
	struct cvb_err bad_err;
};

static uint64_t next_random(uint64_t *seed)
{
	uint64_t x = (*seed += UINT64_C(0x9e3779b97f4a7c15)); /* splitmix64 */

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* Uniform in [-1, 1). */
static double next_value(uint64_t *seed)
{
	return (double)(int64_t)next_random(seed) * 0x1p-63;
}

static void fill(struct cvb_gpu_buf *buf, enum cvb_gpu_type type, size_t n, uint64_t seed)
{
	float *f = cvb_gpu_buf_host(buf);
	double *d = cvb_gpu_buf_host(buf);

	for (size_t i = 0; i < n; i++) {
		if (type == CVB_GPU_FP32)
			f[i] = (float)next_value(&seed);
		else
			d[i] = next_value(&seed);
	}
}

static double element(const struct cvb_gpu_buf *buf, enum cvb_gpu_type type, size_t i)
{
	const float *f = cvb_gpu_buf_host(buf);
	const double *d = cvb_gpu_buf_host(buf);

	return type == CVB_GPU_FP32 ? (double)f[i] : d[i];
}

/* Every byte 0xff is a NaN, which no product leaves behind. */
static int poison_c(struct gemm_state *s, struct side *side, struct cvb_err *err)
{
	int r = cvb_gpu_memset_async(s->stream, side->gemm.c, 0, 0xff,
				     cvb_gpu_buf_bytes(side->gemm.c), err);

	return r < 0 ? r : cvb_gpu_sync(s->stream, err);
}

/* The tile into device memory, over and over. */
static int repeat(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst, struct cvb_gpu_buf *tile,
		  struct cvb_err *err)
{
	size_t have = cvb_gpu_buf_bytes(tile), want = cvb_gpu_buf_bytes(dst);
	int r = cvb_gpu_copy_async(stream, dst, 0, tile, 0, have, err);

	while (r == 0 && have < want) {
		size_t n = cvb_min(have, want - have);

		r = cvb_gpu_copy_async(stream, dst, have, dst, 0, n, err);
		have += n;
	}
	return r;
}

static int side_setup(struct cvb_run *run, struct side *side, enum cvb_gpu_type type,
		      struct cvb_err *err)
{
	const struct gemm_conf *conf = run->conf;
	struct gemm_state *s = run->state;
	size_t n = conf->n, elem = cvb_gpu_type_bytes(type), bytes = n * n * elem;
	enum cvb_gpu_mem kind = cvb_gpu_caps(run->gpu)->flags & CVB_GPU_CAP_PINNED
					? CVB_GPU_HOST_PINNED
					: CVB_GPU_HOST_PAGEABLE;
	struct cvb_gpu_gemm *g = &side->gemm;
	struct cvb_gpu_buf **device[] = {&g->a, &g->b, &g->c};
	struct cvb_gpu_buf **host[] = {&side->host_a, &side->host_b, &side->host_c};
	int r = 0;

	side->tile = cvb_min(n * n, (size_t)TILE);
	side->used = true;
	g->type = type;
	g->m = g->n = g->k = (uint32_t)n;
	g->alpha = 1;
	for (size_t i = 0; r == 0 && i < CVB_ARRAY_LEN(device); i++) {
		r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, bytes, device[i], err);
		if (r == 0)
			r = cvb_gpu_alloc(run->gpu, kind, (i < 2 ? side->tile : SAMPLES) * elem,
					  host[i], err);
	}
	for (size_t i = 0; r == 0 && i < 2; i++) {
		fill(*host[i], type, side->tile, /* seed= */ i + 1);
		r = repeat(s->stream, *device[i], *host[i], err);
	}
	if (r == 0)
		r = poison_c(s, side, err);
	/* once, untimed: loads the library, or says that there is none */
	if (r == 0)
		r = cvb_gpu_gemm_async(s->stream, g, err);
	if (r == 0)
		r = cvb_gpu_sync(s->stream, err);
	return r < 0 ? r : poison_c(s, side, err);
}

static int gemm_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct gemm_conf *conf = run->conf;
	struct gemm_state *s = calloc(1, sizeof(*s));

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	int r = cvb_gpu_stream_new(run->gpu, &s->stream, err);

	for (size_t i = 0; r >= 0 && i < CVB_ARRAY_LEN(types); i++) {
		if (conf->type != BOTH && (size_t)conf->type != i)
			continue;
		r = side_setup(run, &s->side[i], types[i], err);
		if (r < 0)
			break;
		struct cvb_case c = {
			.metrics = 1,
			.params = json_pack("{s:I,s:s}", "n", (json_int_t)conf->n, "type",
					    type_words[i]),
			.ops = 1,
			.flops = 2.0 * (double)conf->n * (double)conf->n * (double)conf->n,
			.user = i,
		};

		r = cvb_run_add_case(run, &c, err);
	}
	return r < 0 ? r : 0;
}

/*
 * One element against its dot product in long double.  The classic bound of a sum of n products in
 * any order is n u / (1 - n u) times the sum of their magnitudes, u = eps / 2; n eps is twice that.
 */
static int verify_element(const struct side *side, size_t row, size_t col, double got,
			  struct cvb_err *err)
{
	enum cvb_gpu_type type = side->gemm.type;
	size_t n = side->gemm.n;
	double eps = type == CVB_GPU_FP32 ? (double)FLT_EPSILON : DBL_EPSILON;
	long double want = 0, magnitude = 0;

	for (size_t i = 0; i < n; i++) {
		long double p =
			(long double)element(side->host_a, type, (row * n + i) % side->tile) *
			(long double)element(side->host_b, type, (i * n + col) % side->tile);

		want += p;
		magnitude += fabsl(p);
	}
	double error = (double)fabsl((long double)got - want);
	double bound = (double)n * eps * (double)magnitude;

	if (error <= bound) /* false for a NaN */
		return 0;
	return cvb_err_set(
		err, -EBADMSG,
		"gpu.gemm %s: element (%zu, %zu) is %.17g instead of %.17g; the bound is "
		"%.3g",
		cvb_gpu_type_text(type), row, col, got, (double)want, bound);
}

static int verify_side(struct gemm_state *s, struct side *side, struct cvb_err *err)
{
	enum cvb_gpu_type type = side->gemm.type;
	size_t n = side->gemm.n, elem = cvb_gpu_type_bytes(type), at[SAMPLES];
	uint64_t seed = 42;
	int r = 0;

	side->unchecked = false;

	for (size_t i = 0; r == 0 && i < SAMPLES; i++) {
		/* the last element too: a product that stops early misses it */
		at[i] = i ? next_random(&seed) % (n * n) : n * n - 1;
		r = cvb_gpu_copy_async(s->stream, side->host_c, i * elem, side->gemm.c,
				       at[i] * elem, elem, err);
	}
	/* also after an error: nothing may be in flight when verify returns */
	int synced = cvb_gpu_sync(s->stream, r < 0 ? NULL : err);

	r = r < 0 ? r : synced;
	for (size_t i = 0; r == 0 && i < SAMPLES; i++)
		r = verify_element(side, at[i] / n, at[i] % n, element(side->host_c, type, i), err);
	if (r == 0)
		side->checked = true;
	return r < 0 ? r : poison_c(s, side, err);
}

/*
 * Not timed: check what the batch before left.  A later product would hide that this one was wrong.
 * What failed comes out of verify, which is the one to call a result untrusted.
 */
static int gemm_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct gemm_state *s = worker->run->state;

	(void)c;
	(void)iters;
	for (size_t i = 0; i < CVB_ARRAY_LEN(s->side) && s->bad == 0; i++)
		if (s->side[i].unchecked)
			s->bad = verify_side(s, &s->side[i], &s->bad_err);
	return 0;
}

static int gemm_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct gemm_state *s = worker->run->state;
	struct cvb_err err = {0};
	int r = 0;

	s->side[c->user].unchecked = true;
	for (uint64_t i = 0; r == 0 && i < iters; i++)
		r = cvb_gpu_gemm_async(s->stream, &s->side[c->user].gemm, &err);
	/* also after an error: nothing may be in flight when step returns */
	int synced = cvb_gpu_sync(s->stream, r < 0 ? NULL : &err);

	r = r < 0 ? r : synced;
	if (r < 0) {
		/* step hands up a bare errno: the reason goes with the result */
		char text[CVB_ERR_MSG_BYTES];

		cvb_err_text(&err, text, sizeof(text));
		cvb_run_note(worker->run, "%s", text);
	}
	return r;
}

static int gemm_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct gemm_state *s = run->state;
	int r = s->bad;

	if (r < 0 && err)
		*err = s->bad_err;
	for (size_t i = 0; i < CVB_ARRAY_LEN(s->side) && r == 0; i++) {
		struct side *side = &s->side[i];

		/* a side without any product is looked at too, and found to be NaN */
		if (side->used && (side->unchecked || !side->checked))
			r = verify_side(s, side, err);
	}
	return r;
}

static void gemm_done(struct cvb_run *run)
{
	struct gemm_state *s = run->state;

	if (!s)
		return;
	cvb_gpu_stream_free(s->stream);
	for (size_t i = 0; i < CVB_ARRAY_LEN(s->side); i++) {
		struct side *side = &s->side[i];

		cvb_gpu_free(side->gemm.a);
		cvb_gpu_free(side->gemm.b);
		cvb_gpu_free(side->gemm.c);
		cvb_gpu_free(side->host_a);
		cvb_gpu_free(side->host_b);
		cvb_gpu_free(side->host_c);
	}
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_gemm = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.gemm",
	.summary = "square matrix products in device memory",
	.doc = "gpu.gemm.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = gemm_opts,
	.conf_size = sizeof(struct gemm_conf),
	.metrics = gemm_metrics,
	.setup = gemm_setup,
	.prepare = gemm_prepare,
	.step = gemm_step,
	.verify = gemm_verify,
	.done = gemm_done,
};

CVB_BENCH(gpu_gemm);
