/* SPDX-License-Identifier: Apache-2.0 */
#include "llm/step.h"

#include "core/util.h"
#include "gpu/matrix.h"

#include <errno.h>
#include <string.h>

const char *const llm_policy_words[] = {"naive", "aware", "both", NULL};

enum {
	INPUTS = 4, /* tokens, positions, block table, slots: copies of the naive policy */
};

static int wait_for(struct llm_step *s, int r, struct cvb_err *err)
{
	int synced = cvb_gpu_sync(s->stream, r < 0 ? NULL : err);

	return r < 0 ? r : synced;
}

/* What every activation is after the steps so far. */
static double expected(const struct llm_step *s)
{
	return (double)(s->steps * s->m->layers * s->m->small_kernels);
}

/* ---- setup ---- */

static int set_doubles(struct llm_step *s, struct cvb_gpu_buf *buf, double v, struct cvb_err *err)
{
	size_t n = cvb_gpu_buf_bytes(buf) / sizeof(double);
	struct cvb_gpu_buf *host = NULL;
	int r = cvb_gpu_alloc(s->gpu, cvb_matrix_host(s->gpu), n * sizeof(double), &host, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		((double *)cvb_gpu_buf_host(host))[i] = v;
	r = wait_for(s, cvb_gpu_copy_async(s->stream, buf, 0, host, 0, n * sizeof(double), err),
		     err);
	cvb_gpu_free(host);
	return r;
}

int llm_step_init(struct llm_step *s, struct cvb_gpu *gpu, const struct llm_model *m, uint64_t rows,
		  size_t inputs, size_t results, llm_layer_fn *layer, void *arg,
		  struct cvb_err *err)
{
	size_t activations = rows * m->hidden * sizeof(double);
	int r;

	*s = (struct llm_step){.gpu = gpu,
			       .m = m,
			       .layer = layer,
			       .arg = arg,
			       /* in words, so that the parts of the naive policy are whole */
			       .input_bytes = (inputs + 8 * INPUTS - 1) / (8 * INPUTS) * 8 * INPUTS,
			       .result_bytes = results * sizeof(double)};
	r = cvb_gpu_stream_new(gpu, &s->stream, err);
	if (r == 0)
		r = cvb_gpu_alloc(gpu, CVB_GPU_DEVICE, s->input_bytes, &s->input, err);
	if (r == 0)
		r = cvb_gpu_alloc(gpu, CVB_GPU_DEVICE, activations, &s->activations, err);
	if (r == 0)
		r = cvb_gpu_alloc(gpu, CVB_GPU_DEVICE, activations, &s->ones, err);
	if (r == 0)
		r = cvb_gpu_alloc(gpu, cvb_matrix_host(gpu), s->input_bytes, &s->staged, err);
	if (r == 0)
		r = cvb_gpu_alloc(gpu, cvb_matrix_host(gpu), s->result_bytes, &s->got, err);
	if (r == 0)
		r = set_doubles(s, s->ones, 1, err);
	return r < 0 ? r : set_doubles(s, s->activations, 0, err);
}

void llm_step_done(struct llm_step *s)
{
	s->graph = cvb_gpu_graph_free(s->graph);
	s->stream = cvb_gpu_stream_free(s->stream);
	s->input = cvb_gpu_free(s->input);
	s->activations = cvb_gpu_free(s->activations);
	s->ones = cvb_gpu_free(s->ones);
	s->staged = cvb_gpu_free(s->staged);
	s->got = cvb_gpu_free(s->got);
}

/* ---- kernels ---- */

static int submit_kernels(struct llm_step *s, struct cvb_err *err)
{
	const struct cvb_gpu_launch add = {.kernel = CVB_GPU_KERNEL_ADD,
					   .a = s->activations,
					   .b = s->ones,
					   .bytes = cvb_gpu_buf_bytes(s->activations)};
	int r = 0;

	for (uint64_t layer = 0; r == 0 && layer < s->m->layers; layer++) {
		r = s->layer(s->arg, s->stream, layer, err);
		for (uint64_t i = 0; r == 0 && i < s->m->small_kernels; i++)
			r = cvb_gpu_launch_async(s->stream, &add, err);
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
		r = cvb_gpu_copy_async(s->stream, s->got, 0, s->activations, 0, s->result_bytes,
				       err);
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
		r = cvb_gpu_copy_async(s->stream, result, 0, s->activations, 0, s->result_bytes,
				       err);
	r = wait_for(s, r, err);
	if (r == 0)
		memcpy(cvb_gpu_buf_host(s->got), cvb_gpu_buf_host(result), s->result_bytes);
	for (size_t i = 0; i < INPUTS; i++)
		cvb_gpu_free(fresh[i]);
	cvb_gpu_free(result);
	return r;
}

static int check_doubles(const struct llm_step *s, const double *p, size_t n, const char *what,
			 struct cvb_err *err)
{
	double want = expected(s);

	for (size_t i = 0; i < n; i++)
		if (p[i] != want)
			return cvb_err_set(err, -EBADMSG,
					   "%s: %s %zu is %.17g instead of %.17g: not every kernel "
					   "ran, or its data changed",
					   s->m->name, what, i, p[i], want);
	return 0;
}

int llm_step_run(struct llm_step *s, enum llm_policy policy, struct cvb_err *err)
{
	int r;

	s->steps++;
	memset(cvb_gpu_buf_host(s->got), 0xff, s->result_bytes);
	r = policy == LLM_AWARE ? run_aware(s, err) : run_naive(s, err);
	if (r < 0)
		return r;
	return check_doubles(s, cvb_gpu_buf_host(s->got), s->result_bytes / sizeof(double),
			     "result", err);
}

int llm_step_check(struct llm_step *s, struct cvb_err *err)
{
	size_t bytes = cvb_max(cvb_gpu_buf_bytes(s->activations), s->input_bytes);
	struct cvb_gpu_buf *host = NULL;
	int r = cvb_gpu_alloc(s->gpu, cvb_matrix_host(s->gpu), bytes, &host, err);

	if (r < 0)
		return r;
	r = wait_for(s,
		     cvb_gpu_copy_async(s->stream, host, 0, s->activations, 0,
					cvb_gpu_buf_bytes(s->activations), err),
		     err);
	if (r == 0)
		r = check_doubles(s, cvb_gpu_buf_host(host),
				  cvb_gpu_buf_bytes(s->activations) / sizeof(double), "activation",
				  err);
	if (r == 0)
		r = wait_for(
			s, cvb_gpu_copy_async(s->stream, host, 0, s->input, 0, s->input_bytes, err),
			err);
	if (r == 0 &&
	    cvb_dev_differs(s->steps, cvb_gpu_buf_host(host), 0, s->input_bytes) < s->input_bytes)
		r = cvb_err_set(err, -EBADMSG, "%s: inputs came out different", s->m->name);
	cvb_gpu_free(host);
	return r;
}
