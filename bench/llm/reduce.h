/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All-reduce of the GPUs of a tensor parallel model, made of peer copies and additions.
 *
 * Every GPU has a vector of its own that stays (its part of a layer's result).  An all-reduce
 * copies the other GPU's vector here, adds the own one, and adds the sum to a third vector (the
 * residual connection), on both GPUs at the same time.  Each GPU reads all of the other's vector:
 * with two GPUs as many bytes cross as in a ring, in one step instead of two.
 *
 * The vectors hold small whole numbers, as doubles, so that the third one is exactly the number of
 * all-reduces times the sum: one that did not run, moved other bytes or was added twice is seen.
 */
#ifndef CVB_BENCH_LLM_REDUCE_H
#define CVB_BENCH_LLM_REDUCE_H

#include "gpu/gpu.h"

#include <stddef.h>
#include <stdint.h>

#define LLM_MAX_RANKS 2 /* a device and its peer */

struct llm_reduce {
	struct {
		struct cvb_gpu *gpu;	       /* borrowed */
		struct cvb_gpu_stream *stream; /* borrowed */
		struct cvb_gpu_event *ready;   /* its own vector is */
		struct cvb_gpu_buf *own;       /* stays */
		struct cvb_gpu_buf *sum;       /* the other's, then the sum */
		struct cvb_gpu_buf *residual;  /* all sums so far */
		struct cvb_gpu_buf *host;      /* a piece of one, to set and to check it */
	} rank[LLM_MAX_RANKS];
	size_t bytes;  /* of a vector */
	uint64_t done; /* all-reduces since the last check */
};

/*
 * Vectors of `bytes` (a multiple of 8) on two GPUs, each with the stream of its work; one
 * all-reduce is run and checked.  -EOPNOTSUPP where peer copies are not possible or what they cost
 * is not known.  On failure call llm_reduce_done all the same.
 */
CVB_MUST_CHECK int llm_reduce_init(struct llm_reduce *d, struct cvb_gpu *const gpu[LLM_MAX_RANKS],
				   struct cvb_gpu_stream *const stream[LLM_MAX_RANKS], size_t bytes,
				   struct cvb_err *err);
/* Accepts a zeroed and a half-built one. */
void llm_reduce_done(struct llm_reduce *d);

/*
 * Submit one all-reduce to both streams: each waits for what the other has been given so far (what
 * it computes is what is summed).  The host waits for nothing.  Nothing holds a stream's later work
 * until the other has read its vector: an engine has two, and uses them in turn.
 */
CVB_MUST_CHECK int llm_reduce_run(struct llm_reduce *d, struct cvb_err *err);

/* Compare all vectors, and begin anew.  -EBADMSG. */
CVB_MUST_CHECK int llm_reduce_check(struct llm_reduce *d, struct cvb_err *err);

#endif
