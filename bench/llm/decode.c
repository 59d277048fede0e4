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
#include "llm/proxy.h"

#include <errno.h>

enum {
	METRIC_RATE,
	METRIC_LATENCY,
	KV = LLM_MATRICES, /* the key-value cache, after the matrices */
	REGIONS,
	BLOCK_TOKENS = 16, /* of the cache's block table */
};

struct decode_conf {
	struct llm_conf llm;
	uint64_t batch, context;
};

_Static_assert(offsetof(struct decode_conf, llm) == 0, "rows of LLM_OPTS begin there");

#define OPT(field) .offset = offsetof(struct decode_conf, field)

static const struct cvb_opt decode_opts[] = {
	LLM_OPTS,
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

/* What one rank reads. */
struct part {
	struct cvb_gpu_buf *region[REGIONS], *sum[REGIONS];
};

struct decode_state {
	struct llm_proxy llm;
	struct part part[LLM_MAX_RANKS];
	uint64_t want[REGIONS]; /* the sums, the same of all ranks */
};

_Static_assert(offsetof(struct decode_state, llm) == 0, "the proxy's hooks find it there");

/* ---- kernels ---- */

static int read_region(const struct part *part, struct cvb_gpu_stream *stream, int i,
		       struct cvb_err *err)
{
	const struct cvb_gpu_launch l = {.kernel = CVB_GPU_KERNEL_READ,
					 .a = part->region[i],
					 .b = part->sum[i],
					 .bytes = cvb_gpu_buf_bytes(part->region[i])};

	return cvb_gpu_launch_async(stream, &l, err);
}

static int layer(void *arg, unsigned rank, struct cvb_gpu_stream *stream, uint64_t number,
		 enum llm_part part, struct cvb_err *err)
{
	static const int attention[] = {LLM_QKV, KV, LLM_OUT}, feed_forward[] = {LLM_UP, LLM_DOWN};
	const int *order = part == LLM_ATTENTION ? attention : feed_forward;
	size_t n = part == LLM_ATTENTION ? CVB_ARRAY_LEN(attention) : CVB_ARRAY_LEN(feed_forward);
	struct decode_state *s = arg;
	int r = 0;

	if (number == s->llm.m->layers)
		return read_region(&s->part[rank], stream, LLM_HEAD, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = read_region(&s->part[rank], stream, order[i], err);
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

static struct llm_shape shape_of(const struct llm_model *m)
{
	/* token, position and slot of each sequence, and its part of the block table */
	return (struct llm_shape){
		.rows = m->batch,
		.inputs = m->batch * (3 * 8 + 4 * (m->context / BLOCK_TOKENS)),
		.results = 8 * m->batch,
	};
}

static struct llm_need need_of(const struct llm_model *m)
{
	const struct llm_shape shape = shape_of(m);
	struct llm_need need = {
		.last_work = (double)region_bytes(m, LLM_HEAD),
		.kernels = REGIONS - 1,
		.work_unit = "bytes",
		.default_work = 2.0 * CVB_GIB,
		.max_work = 32.0 * CVB_GIB,
		.lower = "batch or context",
	};

	for (int i = 0; i < REGIONS; i++)
		if (i != LLM_HEAD)
			need.layer_work += (double)region_bytes(m, i);
	need.bytes = need.layer_work + need.last_work + llm_step_bytes(m, &shape);
	return need;
}

static int make_region(struct decode_state *s, unsigned rank, int i, struct cvb_err *err)
{
	struct cvb_gpu *gpu = s->llm.step.rank[rank].gpu;
	struct cvb_gpu_stream *stream = s->llm.step.rank[rank].stream;
	struct part *part = &s->part[rank];
	size_t bytes = region_bytes(s->llm.m, i);
	struct cvb_gpu_launch fill = {
		.kernel = CVB_GPU_KERNEL_FILL, .bytes = bytes, .seed = (uint64_t)i + 1};
	int r = cvb_gpu_alloc(gpu, CVB_GPU_DEVICE, bytes, &part->region[i], err);

	if (r == 0)
		r = cvb_gpu_alloc(gpu, CVB_GPU_DEVICE, sizeof(uint64_t), &part->sum[i], err);
	fill.a = part->region[i];
	if (r == 0)
		r = cvb_gpu_launch_async(stream, &fill, err);
	return r < 0 ? r : cvb_gpu_sync(stream, err);
}

static int make_regions(struct decode_state *s, struct cvb_err *err)
{
	int r = 0;

	for (unsigned rank = 0; r == 0 && rank < s->llm.step.ranks; rank++)
		for (int i = 0; r == 0 && i < REGIONS; i++)
			r = make_region(s, rank, i, err);
	for (int i = 0; r == 0 && i < REGIONS; i++) {
		size_t words = region_bytes(s->llm.m, i) / sizeof(uint64_t);

		for (size_t w = 0; w < words; w++)
			s->want[i] += cvb_gpu_pattern((uint64_t)i + 1, w);
	}
	return r;
}

static int check_sums(struct decode_state *s, unsigned rank, struct cvb_err *err)
{
	struct cvb_gpu *gpu = s->llm.step.rank[rank].gpu;
	struct cvb_gpu_stream *stream = s->llm.step.rank[rank].stream;
	struct part *part = &s->part[rank];
	struct cvb_gpu_buf *host = NULL;
	int r = cvb_gpu_alloc(gpu, cvb_matrix_host(gpu), REGIONS * 8, &host, err);

	for (int i = 0; r == 0 && i < REGIONS; i++)
		r = cvb_gpu_copy_async(stream, host, 8 * (size_t)i, part->sum[i], 0, 8, err);
	int synced = cvb_gpu_sync(stream, r < 0 ? NULL : err);

	r = r < 0 ? r : synced;
	for (int i = 0; r == 0 && i < REGIONS; i++)
		if (((const uint64_t *)cvb_gpu_buf_host(host))[i] != s->want[i])
			r = cvb_err_set(err, -EBADMSG,
					"llm.decode: the sum of what a kernel read is wrong (%d)",
					i);
	/* the next batch must read them again */
	for (int i = 0; r == 0 && i < REGIONS; i++)
		r = cvb_gpu_memset_async(stream, part->sum[i], 0, 0xff, 8, err);
	if (r == 0)
		r = cvb_gpu_sync(stream, err);
	cvb_gpu_free(host);
	return r;
}

static int check(void *state, struct cvb_err *err)
{
	struct decode_state *s = state;
	int r = 0;

	for (unsigned rank = 0; r == 0 && rank < s->llm.step.ranks; rank++)
		r = check_sums(s, rank, err);
	return r;
}

static int begin(struct decode_state *s, struct cvb_run *run, struct cvb_err *err)
{
	const struct decode_conf *conf = run->conf;
	int r = llm_proxy_load(&s->llm, &conf->llm, err);

	if (r < 0)
		return r;
	struct llm_model *m = s->llm.m;

	m->batch = conf->batch ? conf->batch : m->batch;
	m->context = conf->context ? conf->context : m->context;
	if (!(cvb_gpu_caps(run->gpu)->flags & CVB_GPU_CAP_LAUNCH))
		return cvb_err_set(err, -EOPNOTSUPP,
				   "this GPU has no kernels, or what a launch costs is not known");
	const struct llm_need need = need_of(m);
	const struct llm_shape shape = shape_of(m);

	r = llm_proxy_begin(&s->llm, run, &need, err);
	return r < 0 ? r
		     : llm_step_init(&s->llm.step, run->gpu, s->llm.peer, m, &shape, layer, s, err);
}

static int decode_setup(struct cvb_run *run, struct cvb_err *err)
{
	struct decode_state *s = calloc(1, sizeof(*s));
	struct cvb_case like = {.metrics = 1U << METRIC_RATE | 1U << METRIC_LATENCY};
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	s->llm.latency_metric = METRIC_LATENCY;
	s->llm.check = check;
	r = begin(s, run, err);
	if (r == 0)
		r = make_regions(s, err);
	if (r < 0)
		return r;
	like.ops = (double)s->llm.m->batch;
	return llm_proxy_add_cases(&s->llm, run, &like,
				   json_pack("{s:I,s:I}", "batch", (json_int_t)s->llm.m->batch,
					     "context", (json_int_t)s->llm.m->context),
				   err);
}

static void decode_done(struct cvb_run *run)
{
	struct decode_state *s = run->state;

	if (!s)
		return;
	for (unsigned rank = 0; rank < LLM_MAX_RANKS; rank++) {
		for (int i = 0; i < REGIONS; i++) {
			cvb_gpu_free(s->part[rank].region[i]);
			cvb_gpu_free(s->part[rank].sum[i]);
		}
	}
	llm_proxy_done(&s->llm);
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
	.params = (const char *const[]){"model", "policy", "batch", "context", "layers",
					"tensor_parallel", NULL},
	.setup = decode_setup,
	.prepare = llm_proxy_prepare,
	.step = llm_proxy_step,
	.after_batch = llm_proxy_after,
	.verify = llm_proxy_verify,
	.done = decode_done,
};

CVB_BENCH(llm_decode);
