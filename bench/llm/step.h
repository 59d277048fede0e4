/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What llm.decode and llm.prefill share: one step of an inference engine around kernels that each
 * of them submits.
 *
 * A step sends its inputs to the device, runs its kernels, and reads its results back:
 *
 *   naive  an engine that knows nothing of confidential computing: four inputs, each through a
 * fresh pinned buffer, every kernel a launch of its own, results into a fresh pinned buffer aware
 * inputs packed into one copy from a buffer that stays, all kernels one graph, results into a
 * buffer that stays
 *
 * A step begins with its inputs as the first activations.  Each small kernel copies the activations
 * from one of two buffers to the other, so that the results are the inputs of this step only if
 * every one of them ran, and nothing changed on the way.
 */
#ifndef CVB_BENCH_LLM_STEP_H
#define CVB_BENCH_LLM_STEP_H

#include "gpu/device.h"
#include "llm/model.h"

enum llm_policy {
	LLM_NAIVE,
	LLM_AWARE,
	LLM_POLICIES,
};

extern const char *const llm_policy_words[]; /* ends with "both" and NULL */

struct llm_step;

/* Submit the large kernels of layer `layer` (m->layers: what comes after the last). */
typedef int llm_layer_fn(void *arg, struct cvb_gpu_stream *stream, uint64_t layer,
			 struct cvb_err *err);

struct llm_step {
	struct cvb_gpu *gpu; /* borrowed */
	const struct llm_model *m;
	struct cvb_gpu_stream *stream;
	struct cvb_gpu_graph *graph; /* of the aware policy */
	llm_layer_fn *layer;
	void *arg;

	struct cvb_gpu_buf *input;	    /* on the device */
	struct cvb_gpu_buf *activations[2]; /* on the device */
	struct cvb_gpu_buf *staged, *got;   /* that stay, on the host: inputs, results */
	size_t input_bytes, activation_bytes, result_bytes;
	uint64_t steps; /* so far */
};

/*
 * `rows` vectors of activations, `inputs` bytes of input, of which the first `results` bytes come
 * back.  On failure call llm_step_done all the same.
 */
CVB_MUST_CHECK int llm_step_init(struct llm_step *s, struct cvb_gpu *gpu, const struct llm_model *m,
				 uint64_t rows, size_t inputs, size_t results, llm_layer_fn *layer,
				 void *arg, struct cvb_err *err);
void llm_step_done(struct llm_step *s);

/* Record the graph; -EOPNOTSUPP where there are none.  Needed before an aware step. */
CVB_MUST_CHECK int llm_step_record(struct llm_step *s, struct cvb_err *err);

/* One step; -EBADMSG when its results are not those of all kernels so far. */
CVB_MUST_CHECK int llm_step_run(struct llm_step *s, enum llm_policy policy, struct cvb_err *err);

/* Are all activations and the last inputs as they should be?  -EBADMSG. */
CVB_MUST_CHECK int llm_step_check(struct llm_step *s, struct cvb_err *err);

#endif
