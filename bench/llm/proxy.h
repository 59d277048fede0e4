/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What llm.decode and llm.prefill share as benchmarks: options, limits, one case for each policy,
 * and the hooks that run and check steps.
 */
#ifndef CVB_BENCH_LLM_PROXY_H
#define CVB_BENCH_LLM_PROXY_H

#include "llm/step.h"
#include "measure/bench.h"

/* The first member of a benchmark's options. */
struct llm_conf {
	char *model;
	uint64_t layers, tensor_parallel;
	int policy;
};

/* The rows for it. */
/* clang-format off */
#define LLM_OPTS                                                                                   \
	{.name = "model",                                                                          \
	 .type = CVB_OPT_STR,                                                                      \
	 .offset = offsetof(struct llm_conf, model),                                               \
	 .def = "gpt2",                                                                            \
	 .help = "a workload of profiles/workload: gpt2, qwen2.5-0.5b, llama-3.1-8b; or a path"},  \
	{.name = "policy",                                                                         \
	 .type = CVB_OPT_CHOICE,                                                                   \
	 .offset = offsetof(struct llm_conf, policy),                                              \
	 .def = "all",                                                                             \
	 .choices = llm_policy_words,                                                              \
	 .help = "the engine: single launches, fresh buffers; graphs, fresh buffers; graphs, "     \
		 "packed copies"},                                                                 \
	{.name = "layers",                                                                         \
	 .type = CVB_OPT_U64,                                                                      \
	 .offset = offsetof(struct llm_conf, layers),                                              \
	 .max = 1024,                                                                              \
	 .def = "0",                                                                               \
	 .help = "of the model; 0: the workload's, on an emulator with the wall clock as many as " \
		 "make a short step"},                                                             \
	{.name = "tensor_parallel",                                                                \
	 .type = CVB_OPT_U64,                                                                      \
	 .offset = offsetof(struct llm_conf, tensor_parallel),                                     \
	 .max = LLM_MAX_RANKS,                                                                     \
	 .def = "0",                                                                               \
	 .help = "GPUs that share every matrix, with two all-reduces a layer; 0: the workload's"}
/* clang-format on */

/* What one GPU has to hold and to do for a step. */
struct llm_need {
	double bytes;	       /* of device memory */
	double layer_work;     /* of each layer: bytes read, or floating-point operations */
	double last_work;      /* of the output layer */
	double kernels;	       /* of a layer, besides the small ones */
	const char *work_unit; /* "bytes" or "flops": how messages call it */
	double default_work;   /* of a step on an emulator with the wall clock, unless asked for */
	double max_work;       /* there in any case */
	const char *lower;     /* options that make it smaller: "batch, context" */
};

typedef int llm_check_fn(void *state, struct cvb_err *err);

/* The first member of a benchmark's state. */
struct llm_proxy {
	struct llm_model *m;	 /* one rank's part */
	struct cvb_gpu *peer;	 /* of a second rank; NULL without */
	struct llm_step step;	 /* its rank[].gpu are run->gpu and peer */
	unsigned latency_metric; /* reported: time of a step in ns */
	llm_check_fn *check;	 /* what the kernels left, besides the step's own data */
	bool unchecked, done;	 /* steps since the last check; was there a good one? */
	struct cvb_dev_bad bad;
};

/* Load the workload, with the options in place of its own numbers.  The caller puts its own in too,
 * then calls llm_proxy_begin.  -EINVAL. */
CVB_MUST_CHECK int llm_proxy_load(struct llm_proxy *p, const struct llm_conf *conf,
				  struct cvb_err *err);

/* Is the clock a wall clock, and no hardware does the work?  Steps are kept short there. */
bool llm_proxy_is_slow(const struct cvb_gpu *gpu);

/*
 * Refuse what is too much (-EINVAL, with what to lower), choose the number of layers where the
 * options leave it open (a note says so), and open the peer.  Then memory may be allocated.
 */
CVB_MUST_CHECK int llm_proxy_begin(struct llm_proxy *p, struct cvb_run *run,
				   const struct llm_need *need, struct cvb_err *err);

/*
 * A case for each policy that the options want and the GPU can run: `like` with the params of all
 * and `params` (taken over).  -EOPNOTSUPP where it can run none.
 */
CVB_MUST_CHECK int llm_proxy_add_cases(struct llm_proxy *p, struct cvb_run *run,
				       const struct cvb_case *like, json_t *params,
				       struct cvb_err *err);

/* Hooks; p->check is called with run->state. */
int llm_proxy_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters);
int llm_proxy_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters);
int llm_proxy_after(struct cvb_run *run, size_t c, uint64_t iters, uint64_t ns,
		    struct cvb_err *err);
int llm_proxy_verify(struct cvb_run *run, struct cvb_err *err);

/* Free all of it; the benchmark's own buffers must be gone before.  Accepts a zeroed one. */
void llm_proxy_done(struct llm_proxy *p);

#endif
