/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One step of an inference engine, around kernels that llm.decode or llm.prefill submits.
 *
 * A step sends its inputs to the device, runs its kernels, and reads its results back:
 *
 *   naive  an engine without graphs and without pools: four inputs, each through a fresh pinned
 *          buffer, every kernel a launch of its own, results into a fresh pinned buffer; all fresh
 *          buffers are freed
 *   stock  what engines do by default: the same fresh buffers, which go to a pool that gives no
 *          memory back while the engine works; kernels are graphs
 *   aware  an engine that knows of confidential computing: inputs packed into one copy from a
 *          buffer that stays, kernels are graphs, results into a buffer that stays
 *
 * Without tensor parallelism the graph is one.  With it (two ranks, each with a GPU and a part of
 * every matrix) there is an all-reduce after the attention and after the feed-forward network of
 * each layer, and a graph for what lies between two of them.
 *
 * A step begins with its inputs as the first activations.  Each small kernel copies the activations
 * from one of two buffers to the other, so that the results are the inputs of this step only if
 * every one of them ran, and nothing changed on the way.
 */
#ifndef CVB_BENCH_LLM_STEP_H
#define CVB_BENCH_LLM_STEP_H

#include "gpu/device.h"
#include "llm/model.h"
#include "llm/reduce.h"

enum llm_policy {
	LLM_NAIVE,
	LLM_STOCK,
	LLM_AWARE,
	LLM_POLICIES,
};

extern const char *const llm_policy_words[]; /* ends with "all" and NULL */

/* Most stock steps in a row before llm_step_drop. */
#define LLM_STOCK_STEPS 64

enum llm_part {
	LLM_ATTENTION,
	LLM_FEED_FORWARD,
	LLM_PARTS,
};

/*
 * Submit the large kernels of one part of layer `layer` of rank `rank` to its stream.  Layer
 * m->layers has one part, LLM_ATTENTION: what comes after the last layer.
 */
typedef int llm_layer_fn(void *arg, unsigned rank, struct cvb_gpu_stream *stream, uint64_t layer,
			 enum llm_part part, struct cvb_err *err);

struct llm_rank {
	struct cvb_gpu *gpu; /* borrowed; rank 1's is the peer of rank 0's */
	struct cvb_gpu_stream *stream;
	struct cvb_gpu_graph **graph;		    /* one for each piece; NULL: not recorded */
	struct cvb_gpu_buf *input, *activations[2]; /* on the device */
	struct cvb_gpu_buf *staged;		    /* that stays, on the host: the inputs */
};

struct llm_step {
	const struct llm_model *m; /* a rank's part of the model */
	unsigned ranks;
	struct llm_rank rank[LLM_MAX_RANKS];
	struct llm_reduce reduce; /* with more than one rank */
	llm_layer_fn *layer;
	void *arg;

	struct cvb_gpu_buf *got;   /* that stays, on the host: rank 0's results */
	struct cvb_gpu_buf **pool; /* fresh buffers of stock steps */
	size_t pool_n, pool_room;
	size_t input_bytes, activation_bytes, result_bytes;
	uint64_t steps; /* so far */
};

struct llm_shape {
	uint64_t rows;		/* vectors of activations, m->hidden wide */
	size_t inputs, results; /* bytes; the first `results` bytes of the inputs come back */
};

/* Device memory of a step, on each GPU. */
double llm_step_bytes(const struct llm_model *m, const struct llm_shape *shape);

/*
 * `peer` is NULL, or the GPU of a second rank.  -EOPNOTSUPP where it cannot have all-reduces.  On
 * failure call llm_step_done all the same.
 */
CVB_MUST_CHECK int llm_step_init(struct llm_step *s, struct cvb_gpu *gpu, struct cvb_gpu *peer,
				 const struct llm_model *m, const struct llm_shape *shape,
				 llm_layer_fn *layer, void *arg, struct cvb_err *err);
void llm_step_done(struct llm_step *s);

/* Record the graphs; -EOPNOTSUPP where there are none.  Needed before a stock or aware step. */
CVB_MUST_CHECK int llm_step_record(struct llm_step *s, struct cvb_err *err);

/* One step; -EBADMSG when its results are not those of all kernels so far. */
CVB_MUST_CHECK int llm_step_run(struct llm_step *s, enum llm_policy policy, struct cvb_err *err);

/* Free what stock steps left in the pool. */
void llm_step_drop(struct llm_step *s);

/* Are all activations, the last inputs and all-reduces as they should be?  -EBADMSG. */
CVB_MUST_CHECK int llm_step_check(struct llm_step *s, struct cvb_err *err);

#endif
