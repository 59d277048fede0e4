/* SPDX-License-Identifier: Apache-2.0 */
#include "llm/step.h"

#include "core/util.h"
#include "gpu/matrix.h"

#include <errno.h>
#include <string.h>

const char *const llm_policy_words[] = {"naive", "aware", "both", NULL};

enum {
	SEED_REST = 99,
	INPUTS = 4, /* tokens, positions, block table, slots: copies of the naive policy */
};

static int wait_for(struct llm_step *s, int r, struct cvb_err *err)
{
	int synced = cvb_gpu_sync(s->stream, r < 0 ? NULL : err);

	return r < 0 ? r : synced;
}

/* ---- setup ---- */

/* Up to a whole number of parts of 8 bytes each. */
static size_t whole(size_t bytes, size_t parts)
{
	return (bytes + 8 * parts - 1) / (8 * parts) * 8 * parts;
}

/* What is in the activations besides the inputs. */
static int fill_activations(struct llm_step *s, struct cvb_err *err)
{
	struct cvb_gpu_launch fill = {
		.kernel = CVB_GPU_KERNEL_FILL, .bytes = s->activation_bytes, .seed = SEED_REST};
	int r = 0;

	for (int i = 0; r == 0 && i < 2; i++) {
		fill.a = s->activations[i];
		r = cvb_gpu_launch_async(s->stream, &fill, err);
	}
	return wait_for(s, r, err);
}

int llm_step_init(struct llm_step *s, struct cvb_gpu *gpu, const struct llm_model *m, uint64_t rows,
		  size_t inputs, size_t results, llm_layer_fn *layer, void *arg,
		  struct cvb_err *err)
{
	size_t elem = cvb_gpu_type_bytes(llm_model_type(m));
	int r;

	*s = (struct llm_step){.gpu = gpu,
			       .m = m,
			       .layer = layer,
			       .arg = arg,
			       .input_bytes = whole(inputs, INPUTS),
			       .result_bytes = whole(results, 1)};
	s->activation_bytes = cvb_max(whole(rows * m->hidden * elem, 1), s->input_bytes);
	r = cvb_gpu_stream_new(gpu, &s->stream, err);
	if (r == 0)
		r = cvb_gpu_alloc(gpu, CVB_GPU_DEVICE, s->input_bytes, &s->input, err);
	for (int i = 0; r == 0 && i < 2; i++)
		r = cvb_gpu_alloc(gpu, CVB_GPU_DEVICE, s->activation_bytes, &s->activations[i],
				  err);
	if (r == 0)
		r = cvb_gpu_alloc(gpu, cvb_matrix_host(gpu), s->input_bytes, &s->staged, err);
	if (r == 0)
		r = cvb_gpu_alloc(gpu, cvb_matrix_host(gpu), s->result_bytes, &s->got, err);
	return r < 0 ? r : fill_activations(s, err);
}

void llm_step_done(struct llm_step *s)
{
	s->graph = cvb_gpu_graph_free(s->graph);
	s->stream = cvb_gpu_stream_free(s->stream);
	s->input = cvb_gpu_free(s->input);
	s->activations[0] = cvb_gpu_free(s->activations[0]);
	s->activations[1] = cvb_gpu_free(s->activations[1]);
	s->staged = cvb_gpu_free(s->staged);
	s->got = cvb_gpu_free(s->got);
}

/* ---- kernels ---- */

/* The buffer with the activations after the last small kernel. */
static struct cvb_gpu_buf *last_activations(const struct llm_step *s)
{
	return s->activations[s->m->layers * s->m->small_kernels % 2];
}

static int submit_kernels(struct llm_step *s, struct cvb_err *err)
{
	struct cvb_gpu_launch small = {.kernel = CVB_GPU_KERNEL_COPY, .bytes = s->activation_bytes};
	uint64_t n = 0;
	int r = cvb_gpu_copy_async(s->stream, s->activations[0], 0, s->input, 0, s->input_bytes,
				   err);

	for (uint64_t layer = 0; r == 0 && layer < s->m->layers; layer++) {
		r = s->layer(s->arg, s->stream, layer, err);
		for (uint64_t i = 0; r == 0 && i < s->m->small_kernels; i++, n++) {
			small.a = s->activations[(n + 1) % 2];
			small.b = s->activations[n % 2];
			r = cvb_gpu_launch_async(s->stream, &small, err);
		}
	}
	return r < 0 ? r : s->layer(s->arg, s->stream, s->m->layers, err);
}

int llm_step_record(struct llm_step *s, struct cvb_err *err)
{
	int r;

	if (!(cvb_gpu_caps(s->gpu)->flags & CVB_GPU_CAP_GRAPHS))
		return cvb_err_set(err, -EOPNOTSUPP,
				   "this GPU has no graphs, or their cost is not known");
	r = cvb_gpu_capture_begin(s->stream, err);
	if (r < 0)
		return r;
	r = submit_kernels(s, err);
	/* also after a failure: the stream must not stay in capture */
	int ended = cvb_gpu_capture_end(s->stream, &s->graph, r < 0 ? NULL : err);

	return r < 0 ? r : ended;
}

/* ---- a step ---- */

/* New inputs for every step. */
static void next_inputs(const struct llm_step *s, void *p, size_t at, size_t bytes)
{
	cvb_dev_pattern(s->steps, p, at, bytes);
}

static int run_aware(struct llm_step *s, struct cvb_err *err)
{
	int r;

	next_inputs(s, cvb_gpu_buf_host(s->staged), 0, s->input_bytes);
	r = cvb_gpu_copy_async(s->stream, s->input, 0, s->staged, 0, s->input_bytes, err);
	if (r == 0)
		r = cvb_gpu_graph_launch(s->graph, s->stream, err);
	if (r == 0)
		r = cvb_gpu_copy_async(s->stream, s->got, 0, last_activations(s), 0,
				       s->result_bytes, err);
	return wait_for(s, r, err);
}

static int run_naive(struct llm_step *s, struct cvb_err *err)
{
	struct cvb_gpu_buf *fresh[INPUTS] = {NULL}, *result = NULL;
	size_t part = s->input_bytes / INPUTS;
	int r = 0;

	for (size_t i = 0; r == 0 && i < INPUTS; i++) {
		r = cvb_gpu_alloc(s->gpu, cvb_matrix_host(s->gpu), part, &fresh[i], err);
		if (r < 0)
			break;
		next_inputs(s, cvb_gpu_buf_host(fresh[i]), i * part, part);
		r = cvb_gpu_copy_async(s->stream, s->input, i * part, fresh[i], 0, part, err);
	}
	if (r == 0)
		r = submit_kernels(s, err);
	if (r == 0)
		r = cvb_gpu_alloc(s->gpu, cvb_matrix_host(s->gpu), s->result_bytes, &result, err);
	if (r == 0)
		r = cvb_gpu_copy_async(s->stream, result, 0, last_activations(s), 0,
				       s->result_bytes, err);
	r = wait_for(s, r, err);
	if (r == 0)
		memcpy(cvb_gpu_buf_host(s->got), cvb_gpu_buf_host(result), s->result_bytes);
	for (size_t i = 0; i < INPUTS; i++)
		cvb_gpu_free(fresh[i]);
	cvb_gpu_free(result);
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
	r = policy == LLM_AWARE ? run_aware(s, err) : run_naive(s, err);
	if (r < 0)
		return r;
	size_t wrong = cvb_dev_differs(s->steps, cvb_gpu_buf_host(s->got), 0, s->result_bytes);

	return wrong < s->result_bytes ? differ(s, "results", wrong, err) : 0;
}

int llm_step_check(struct llm_step *s, struct cvb_err *err)
{
	size_t bytes = s->activation_bytes, inputs = s->input_bytes;
	struct cvb_gpu_buf *host = NULL;
	int r = cvb_gpu_alloc(s->gpu, cvb_matrix_host(s->gpu), bytes, &host, err);

	if (r < 0)
		return r;
	const uint64_t *p = cvb_gpu_buf_host(host);

	r = cvb_gpu_copy_async(s->stream, host, 0, last_activations(s), 0, bytes, err);
	r = wait_for(s, r, err);
	if (r == 0) {
		size_t wrong = cvb_dev_differs(s->steps, p, 0, inputs);

		r = wrong < inputs ? differ(s, "activations", wrong, err) : 0;
	}
	for (size_t i = inputs / sizeof(*p); r == 0 && i < bytes / sizeof(*p); i++)
		if (p[i] != cvb_gpu_pattern(SEED_REST, i))
			r = differ(s, "activations", i * sizeof(*p), err);
	cvb_gpu_free(host);
	return r;
}
