/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workload of a language model: its architecture and how it is served, from a file
 * profiles/workload/NAME.ini with the sections [model] and [serving].
 */
#ifndef CVB_BENCH_LLM_MODEL_H
#define CVB_BENCH_LLM_MODEL_H

#include "core/err.h"
#include "gpu/gpu.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct llm_model {
	/* [model] */
	char *name, *summary, *source;
	uint64_t layers, hidden, heads, kv_heads, head_dim, ffn, vocab;
	bool gated; /* the feed-forward network has a third matrix */
	int type;   /* index into llm_types: of weights and activations */

	/* [serving] */
	uint64_t batch;		  /* sequences that decode together */
	uint64_t context;	  /* tokens of each in the key-value cache */
	uint64_t prompt;	  /* tokens of a prefill */
	uint64_t small_kernels;	  /* of a layer: norms, rotary embedding, activation, residuals */
	uint64_t tensor_parallel; /* GPUs that share every matrix */
};

/*
 * Load a workload: the name of one in profiles/workload/, or the path of a file (with a slash).
 * Every key must be there once.  -EINVAL names file, line and key; -ENOENT lists nothing.  Caller
 * frees.
 */
CVB_MUST_CHECK int llm_model_load(const char *name, struct llm_model **ret, struct cvb_err *err);

/* The same from a text; `path` is what messages call it. */
CVB_MUST_CHECK int llm_model_parse(const char *text, const char *path, struct llm_model **ret,
				   struct cvb_err *err);

/* Accepts NULL; returns NULL. */
struct llm_model *llm_model_free(struct llm_model *m);

/*
 * Turn the model into what one of its m->tensor_parallel GPUs has: heads, the width of the
 * feed-forward network and the vocabulary are divided, the last one rounded up.  -EINVAL names what
 * cannot be.
 */
CVB_MUST_CHECK int llm_model_shard(struct llm_model *m, struct cvb_err *err);

enum cvb_gpu_type llm_model_type(const struct llm_model *m);

/* The weight matrices of a layer, and the last one, the output layer's: rows (inputs) x columns. */
enum llm_matrix {
	LLM_QKV,
	LLM_OUT,
	LLM_UP, /* with the gate's, where there is one */
	LLM_DOWN,
	LLM_HEAD, /* once a step, not in each layer */
	LLM_MATRICES,
};

void llm_matrix_shape(const struct llm_model *m, enum llm_matrix x, uint64_t *ret_rows,
		      uint64_t *ret_columns);

/* Bytes of keys and values that one layer reads to decode one token of every sequence. */
uint64_t llm_kv_bytes(const struct llm_model *m);

/* Weights in all. */
uint64_t llm_parameters(const struct llm_model *m);

#endif
