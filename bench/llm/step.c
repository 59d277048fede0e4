/* SPDX-License-Identifier: Apache-2.0 */
#include "llm/step.h"

#include "core/util.h"
#include "gpu/matrix.h"

#include <errno.h>
#include <string.h>

const char *const llm_policy_words[] = {"naive", "stock", "aware", "all", NULL};

enum {
	SEED_REST = 99,
	INPUTS = 4, /* tokens, positions, block table, slots: copies with fresh buffers */
	FRESH_MAX = LLM_MAX_RANKS * INPUTS + 1, /* and the results, of one step */
};

/* Activations that are looked at in one piece. */
#define PIECE_BYTES ((size_t)64 * CVB_MIB)

static int wait_all(struct llm_step *s, int r, struct cvb_err *err)
{
	for (unsigned k = 0; k < s->ranks; k++) {
		int synced = cvb_gpu_sync(s->rank[k].stream, r < 0 ? NULL : err);

		r = r < 0 ? r : synced;
	}
	return r;
}

/* ---- setup ---- */

/* Up to a whole number of parts of 8 bytes each. */
static size_t whole(size_t bytes, size_t parts)
{
	return (bytes + 8 * parts - 1) / (8 * parts) * 8 * parts;
}

static size_t vector_bytes(const struct llm_model *m, const struct llm_shape *shape)
{
	return whole(shape->rows * m->hidden * cvb_gpu_type_bytes(llm_model_type(m)), 1);
}

double llm_step_bytes(const struct llm_model *m, const struct llm_shape *shape)
{
	double vector = (double)vector_bytes(m, shape),
	       inputs = (double)whole(shape->inputs, INPUTS);

	return inputs + 2 * cvb_max(vector, inputs) + (m->tensor_parallel > 1 ? 3 * vector : 0);
}

/* What is in the activations besides the inputs. */
static int fill_activations(struct llm_step *s, struct llm_rank *k, struct cvb_err *err)
{
	struct cvb_gpu_launch fill = {
		.kernel = CVB_GPU_KERNEL_FILL, .bytes = s->activation_bytes, .seed = SEED_REST};
	int r = 0;

	for (int i = 0; r == 0 && i < 2; i++) {
		fill.a = k->activations[i];
		r = cvb_gpu_launch_async(k->stream, &fill, err);
	}
	int synced = cvb_gpu_sync(k->stream, r < 0 ? NULL : err);

	return r < 0 ? r : synced;
}

static int make_rank(struct llm_step *s, struct llm_rank *k, struct cvb_err *err)
{
	int r = cvb_gpu_stream_new(k->gpu, &k->stream, err);

	if (r == 0)
		r = cvb_gpu_alloc(k->gpu, CVB_GPU_DEVICE, s->input_bytes, &k->input, err);
	for (int i = 0; r == 0 && i < 2; i++)
		r = cvb_gpu_alloc(k->gpu, CVB_GPU_DEVICE, s->activation_bytes, &k->activations[i],
				  err);
	if (r == 0)
		r = cvb_gpu_alloc(k->gpu, cvb_matrix_host(k->gpu), s->input_bytes, &k->staged, err);
	return r < 0 ? r : fill_activations(s, k, err);
}

static int make_reduce(struct llm_step *s, size_t bytes, struct cvb_err *err)
{
	struct cvb_gpu *gpu[LLM_MAX_RANKS];
	struct cvb_gpu_stream *stream[LLM_MAX_RANKS];

	for (unsigned k = 0; k < s->ranks; k++) {
		gpu[k] = s->rank[k].gpu;
		stream[k] = s->rank[k].stream;
	}
	return llm_reduce_init(&s->reduce, gpu, stream, bytes, err);
}

int llm_step_init(struct llm_step *s, struct cvb_gpu *gpu, struct cvb_gpu *peer,
		  const struct llm_model *m, const struct llm_shape *shape, llm_layer_fn *layer,
		  void *arg, struct cvb_err *err)
{
	size_t vector = vector_bytes(m, shape);
	int r = 0;

	*s = (struct llm_step){.m = m,
			       .ranks = peer ? 2 : 1,
			       .rank = {{.gpu = gpu}, {.gpu = peer}},
			       .layer = layer,
			       .arg = arg,
			       .pool_room = LLM_STOCK_STEPS * FRESH_MAX,
			       .input_bytes = whole(shape->inputs, INPUTS),
			       .result_bytes = whole(shape->results, 1)};
	s->activation_bytes = cvb_max(vector, s->input_bytes);
	s->pool = calloc(s->pool_room, sizeof(struct cvb_gpu_buf *));
	if (!s->pool)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (unsigned k = 0; r == 0 && k < s->ranks; k++)
		r = make_rank(s, &s->rank[k], err);
	if (r == 0)
		r = cvb_gpu_alloc(gpu, cvb_matrix_host(gpu), s->result_bytes, &s->got, err);
	return r < 0 || !peer ? r : make_reduce(s, vector, err);
}

/* ---- pieces ---- */

/* Parts of all layers, and what comes after the last one. */
static uint64_t parts(const struct llm_step *s)
{
	return s->m->layers * LLM_PARTS + 1;
}

/* What runs without an all-reduce in between. */
static uint64_t pieces(const struct llm_step *s)
{
	return s->ranks > 1 ? parts(s) : 1;
}

void llm_step_done(struct llm_step *s)
{
	llm_step_drop(s);
	free(s->pool);
	s->pool = NULL;
	llm_reduce_done(&s->reduce);
	for (unsigned i = 0; i < s->ranks; i++) {
		struct llm_rank *k = &s->rank[i];

		for (uint64_t p = 0; k->graph && p < pieces(s); p++)
			cvb_gpu_graph_free(k->graph[p]);
		free(k->graph);
		k->graph = NULL;
		k->stream = cvb_gpu_stream_free(k->stream);
		k->input = cvb_gpu_free(k->input);
		k->activations[0] = cvb_gpu_free(k->activations[0]);
		k->activations[1] = cvb_gpu_free(k->activations[1]);
		k->staged = cvb_gpu_free(k->staged);
	}
	s->got = cvb_gpu_free(s->got);
}

/* The buffer with a rank's activations after the last small kernel. */
static struct cvb_gpu_buf *last_activations(const struct llm_step *s, unsigned rank)
{
	return s->rank[rank].activations[s->m->layers * s->m->small_kernels % 2];
}

static int submit_part(struct llm_step *s, unsigned rank, uint64_t part, struct cvb_err *err)
{
	struct cvb_gpu_launch small = {.kernel = CVB_GPU_KERNEL_COPY, .bytes = s->activation_bytes};
	struct llm_rank *k = &s->rank[rank];
	uint64_t layer = part / LLM_PARTS, n = layer * s->m->small_kernels;
	enum llm_part which = part % LLM_PARTS ? LLM_FEED_FORWARD : LLM_ATTENTION;
	int r = 0;

	if (part == 0)
		r = cvb_gpu_copy_async(k->stream, k->activations[0], 0, k->input, 0, s->input_bytes,
				       err);
	if (r == 0)
		r = s->layer(s->arg, rank, k->stream, layer, which, err);
	for (uint64_t i = 0; r == 0 && which == LLM_FEED_FORWARD && i < s->m->small_kernels;
	     i++, n++) {
		small.a = k->activations[(n + 1) % 2];
		small.b = k->activations[n % 2];
		r = cvb_gpu_launch_async(k->stream, &small, err);
	}
	return r;
}

static int submit_piece(struct llm_step *s, unsigned rank, uint64_t piece, struct cvb_err *err)
{
	uint64_t end = s->ranks > 1 ? piece + 1 : parts(s);
	int r = 0;

	for (uint64_t p = piece; r == 0 && p < end; p++)
		r = submit_part(s, rank, p, err);
	return r;
}

static int record_piece(struct llm_step *s, unsigned rank, uint64_t piece, struct cvb_err *err)
{
	struct llm_rank *k = &s->rank[rank];
	int r = cvb_gpu_capture_begin(k->stream, err);

	if (r < 0)
		return r;
	r = submit_piece(s, rank, piece, err);
	/* also after a failure: the stream must not stay in capture */
	int ended = cvb_gpu_capture_end(k->stream, &k->graph[piece], r < 0 ? NULL : err);

	return r < 0 ? r : ended;
}

int llm_step_record(struct llm_step *s, struct cvb_err *err)
{
	int r = 0;

	if (!(cvb_gpu_caps(s->rank[0].gpu)->flags & CVB_GPU_CAP_GRAPHS))
		return cvb_err_set(err, -EOPNOTSUPP,
				   "this GPU has no graphs, or their cost is not known");
	for (unsigned rank = 0; r == 0 && rank < s->ranks; rank++) {
		struct llm_rank *k = &s->rank[rank];

		if (k->graph)
			continue;
		k->graph = calloc(pieces(s), sizeof(struct cvb_gpu_graph *));
		if (!k->graph)
			return cvb_err_set(err, -ENOMEM, "out of memory");
		for (uint64_t p = 0; r == 0 && p < pieces(s); p++)
			r = record_piece(s, rank, p, err);
	}
	return r;
}

static int run_pieces(struct llm_step *s, bool graphs, struct cvb_err *err)
{
	int r = 0;

	for (uint64_t p = 0; r == 0 && p < pieces(s); p++) {
		for (unsigned k = 0; r == 0 && k < s->ranks; k++)
			r = graphs ? cvb_gpu_graph_launch(s->rank[k].graph[p], s->rank[k].stream,
							  err)
				   : submit_piece(s, k, p, err);
		if (r == 0 && p + 1 < pieces(s))
			r = llm_reduce_run(&s->reduce, err);
	}
	return r;
}

/* ---- a step ---- */

/* New inputs for every step. */
static void next_inputs(const struct llm_step *s, void *p, size_t at, size_t bytes)
{
	cvb_dev_pattern(s->steps, p, at, bytes);
}

static int run_packed(struct llm_step *s, struct cvb_err *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < s->ranks; i++) {
		struct llm_rank *k = &s->rank[i];

		next_inputs(s, cvb_gpu_buf_host(k->staged), 0, s->input_bytes);
		r = cvb_gpu_copy_async(k->stream, k->input, 0, k->staged, 0, s->input_bytes, err);
	}
	if (r == 0)
		r = run_pieces(s, /* graphs= */ true, err);
	if (r == 0)
		r = cvb_gpu_copy_async(s->rank[0].stream, s->got, 0, last_activations(s, 0), 0,
				       s->result_bytes, err);
	return wait_all(s, r, err);
}

void llm_step_drop(struct llm_step *s)
{
	while (s->pool_n)
		cvb_gpu_free(s->pool[--s->pool_n]);
}

/* A fresh pinned buffer; the pool has it. */
static int fresh(struct llm_step *s, unsigned rank, size_t bytes, struct cvb_gpu_buf **ret,
		 struct cvb_err *err)
{
	struct cvb_gpu *gpu = s->rank[rank].gpu;
	int r = cvb_gpu_alloc(gpu, cvb_matrix_host(gpu), bytes, ret, err);

	if (r == 0)
		s->pool[s->pool_n++] = *ret;
	return r;
}

static int send_fresh(struct llm_step *s, unsigned rank, struct cvb_err *err)
{
	size_t part = s->input_bytes / INPUTS;
	struct cvb_gpu_buf *buf;
	int r = 0;

	for (size_t i = 0; r == 0 && i < INPUTS; i++) {
		r = fresh(s, rank, part, &buf, err);
		if (r < 0)
			break;
		next_inputs(s, cvb_gpu_buf_host(buf), i * part, part);
		r = cvb_gpu_copy_async(s->rank[rank].stream, s->rank[rank].input, i * part, buf, 0,
				       part, err);
	}
	return r;
}

static int run_fresh(struct llm_step *s, bool graphs, struct cvb_err *err)
{
	struct cvb_gpu_buf *result = NULL;
	int r = 0;

	if (s->pool_room - s->pool_n < FRESH_MAX)
		llm_step_drop(s);
	for (unsigned k = 0; r == 0 && k < s->ranks; k++)
		r = send_fresh(s, k, err);
	if (r == 0)
		r = run_pieces(s, graphs, err);
	if (r == 0)
		r = fresh(s, 0, s->result_bytes, &result, err);
	if (r == 0)
		r = cvb_gpu_copy_async(s->rank[0].stream, result, 0, last_activations(s, 0), 0,
				       s->result_bytes, err);
	r = wait_all(s, r, err);
	if (r == 0)
		memcpy(cvb_gpu_buf_host(s->got), cvb_gpu_buf_host(result), s->result_bytes);
	return r;
}

static int run_naive(struct llm_step *s, struct cvb_err *err)
{
	int r = run_fresh(s, /* graphs= */ false, err);

	llm_step_drop(s);
	return r;
}

static int differ(const struct llm_step *s, const char *what, size_t at, struct cvb_err *err)
{
	return cvb_err_set(err, -EBADMSG,
			   "%s: byte %zu of the %s is wrong: not every kernel ran, or data changed",
			   s->m->name, at, what);
}

int llm_step_run(struct llm_step *s, enum llm_policy policy, struct cvb_err *err)
{
	int r;

	s->steps++;
	memset(cvb_gpu_buf_host(s->got), 0, s->result_bytes);
	if (policy == LLM_AWARE)
		r = run_packed(s, err);
	else
		r = policy == LLM_STOCK ? run_fresh(s, /* graphs= */ true, err) : run_naive(s, err);
	if (r < 0)
		return r;
	size_t wrong = cvb_dev_differs(s->steps, cvb_gpu_buf_host(s->got), 0, s->result_bytes);

	return wrong < s->result_bytes ? differ(s, "results", wrong, err) : 0;
}

/* ---- check ---- */

/* `bytes` of the activations from `at` on, in plain memory: the inputs, then the rest. */
static int check_piece(const struct llm_step *s, const uint64_t *p, size_t at, size_t bytes,
		       struct cvb_err *err)
{
	size_t inputs = s->input_bytes > at ? cvb_min(bytes, s->input_bytes - at) : 0;
	size_t wrong = cvb_dev_differs(s->steps, p, at, inputs);

	if (wrong < inputs)
		return differ(s, "activations", at + wrong, err);
	for (size_t i = inputs / sizeof(*p); i < bytes / sizeof(*p); i++)
		if (p[i] != cvb_gpu_pattern(SEED_REST, at / sizeof(*p) + i))
			return differ(s, "activations", at + i * sizeof(*p), err);
	return 0;
}

static int check_activations(struct llm_step *s, unsigned rank, struct cvb_gpu_buf *host,
			     struct cvb_err *err)
{
	size_t bytes = s->activation_bytes;
	int r = 0;

	for (size_t at = 0, n; r == 0 && at < bytes; at += n) {
		n = cvb_min(cvb_gpu_buf_bytes(host), bytes - at);
		r = cvb_gpu_copy_async(s->rank[rank].stream, host, 0, last_activations(s, rank), at,
				       n, err);
		r = wait_all(s, r, err);
		if (r == 0)
			r = check_piece(s, cvb_gpu_buf_host(host), at, n, err);
	}
	return r;
}

int llm_step_check(struct llm_step *s, struct cvb_err *err)
{
	int r = s->ranks > 1 ? llm_reduce_check(&s->reduce, err) : 0;

	for (unsigned k = 0; r == 0 && k < s->ranks; k++) {
		struct cvb_gpu_buf *host = NULL;

		r = cvb_gpu_alloc(s->rank[k].gpu, cvb_matrix_host(s->rank[k].gpu),
				  cvb_min(s->activation_bytes, PIECE_BYTES), &host, err);
		if (r == 0)
			r = check_activations(s, k, host, err);
		cvb_gpu_free(host);
	}
	return r;
}
