/* SPDX-License-Identifier: Apache-2.0 */
#include "llm/model.h"

#include "core/file.h"
#include "core/ini.h"
#include "core/opt.h"
#include "core/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define MAX_NAME   60
#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

static const char *const type_words[] = {"fp32", "bf16", "fp16", "fp8", NULL};
static const enum cvb_gpu_type types[] = {CVB_GPU_FP32, CVB_GPU_BF16, CVB_GPU_FP16, CVB_GPU_FP8};

#define TEXT(field, what)                                                                          \
	{                                                                                          \
		.name = #field, .type = CVB_OPT_STR, .offset = offsetof(struct llm_model, field),  \
		.help = what                                                                       \
	}
#define COUNT(field, most, what)                                                                   \
	{                                                                                          \
		.name = #field, .type = CVB_OPT_U64, .offset = offsetof(struct llm_model, field),  \
		.min = 1, .max = most, .help = what                                                \
	}

static const struct cvb_opt model_keys[] = {
	TEXT(name, "its name"),
	TEXT(summary, "one line"),
	TEXT(source, "where the numbers are published"),
	COUNT(layers, 1024, "transformer layers"),
	COUNT(hidden, 65536, "width of a layer"),
	COUNT(heads, 1024, "attention heads"),
	COUNT(kv_heads, 1024, "heads of keys and values"),
	COUNT(head_dim, 4096, "width of a head"),
	COUNT(ffn, 1048576, "width of the feed-forward network"),
	COUNT(vocab, 4194304, "tokens of the vocabulary"),
	{.name = "gated",
	 .type = CVB_OPT_FLAG,
	 .offset = offsetof(struct llm_model, gated),
	 .help = "has the feed-forward network a gate?"},
	{.name = "type",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct llm_model, type),
	 .choices = type_words,
	 .help = "number format"},
	CVB_OPT_END,
};

static const struct cvb_opt serving_keys[] = {
	COUNT(batch, 4096, "sequences that decode together"),
	COUNT(context, 1048576, "tokens of each in the cache"),
	COUNT(prompt, 131072, "tokens of a prefill"),
	COUNT(small_kernels, 64, "kernels of a layer besides products and attention"),
	COUNT(tensor_parallel, 2, "GPUs that share every matrix"),
	CVB_OPT_END,
};

/* ---- reading ---- */

struct section {
	const char *name;
	const struct cvb_opt *keys;
	uint32_t seen; /* bit i: keys[i] */
};

struct reader {
	unsigned line;
	struct section section[2];
	struct section *in;
	struct llm_model *m;
	struct cvb_err *err;
};

static int begin_section(void *ctx, const char *name, unsigned line, struct cvb_err *err)
{
	struct reader *rd = ctx;
	const char *names[CVB_ARRAY_LEN(rd->section) + 1] = {NULL};

	rd->line = line;
	for (size_t i = 0; i < CVB_ARRAY_LEN(rd->section); i++) {
		names[i] = rd->section[i].name;
		if (!strcmp(names[i], name)) {
			rd->in = &rd->section[i];
			return 0;
		}
	}
	return cvb_ini_unknown("section", name, names, err);
}

static int set_key(void *ctx, const char *key, const char *value, unsigned line,
		   struct cvb_err *err)
{
	struct reader *rd = ctx;
	const struct cvb_opt *row = cvb_opt_find(rd->in->keys, key);

	rd->line = line;
	if (row) {
		rd->in->seen |= 1U << (row - rd->in->keys);
		if (row->type == CVB_OPT_STR && !*value)
			return cvb_err_set(err, -EINVAL, "%s is empty", key);
	}
	return cvb_opt_set(rd->in->keys, rd->m, key, value, err);
}

/* Every key must be there, and fit the others. */
static int finish(const struct reader *rd)
{
	const struct llm_model *m = rd->m;

	for (size_t i = 0; i < CVB_ARRAY_LEN(rd->section); i++) {
		const struct section *s = &rd->section[i];

		for (size_t k = 0; s->keys[k].name; k++)
			if (!(s->seen >> k & 1))
				return cvb_err_set(rd->err, -EINVAL, "[%s]: %s is missing", s->name,
						   s->keys[k].name);
	}
	/* it becomes a parameter of every series */
	if (strlen(m->name) > MAX_NAME || m->name[strspn(m->name, NAME_CHARS)])
		return cvb_err_set(rd->err, -EINVAL,
				   "[model]: name: expected letters, digits, '_', '.' and '-', at "
				   "most %d of them",
				   MAX_NAME);
	if (m->heads % m->kv_heads)
		return cvb_err_set(rd->err, -EINVAL,
				   "[model]: heads must be a multiple of kv_heads");
	return 0;
}

int llm_model_parse(const char *text, const char *path, struct llm_model **ret, struct cvb_err *err)
{
	static const struct cvb_ini_ops ops = {.section = begin_section, .key = set_key};
	struct reader rd = {
		.line = 1,
		.section = {{"model", model_keys, 0}, {"serving", serving_keys, 0}},
		.err = err,
	};
	int r;

	rd.m = calloc(1, sizeof(*rd.m));
	if (!rd.m)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cvb_ini_parse(text, path, &ops, &rd, err);
	if (r == 0) {
		r = finish(&rd);
		if (r < 0)
			cvb_err_wrap(err, r, "%s:%u", path, rd.line);
	}
	if (r < 0) {
		llm_model_free(rd.m);
		return r;
	}
	*ret = rd.m;
	return 0;
}

int llm_model_load(const char *name, struct llm_model **ret, struct cvb_err *err)
{
	bool is_path = strchr(name, '/');
	_cleanup_free_ char *file =
		is_path ? cvb_strf("%s", name) : cvb_strf("profiles/workload/%s.ini", name);
	_cleanup_free_ char *path = file && !is_path ? cvb_data_path(file, err) : NULL;
	_cleanup_free_ char *text = NULL;
	int r;

	if (!file)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (!is_path && !path)
		return cvb_err_set(err, -EINVAL,
				   "model=%s: there is no profiles/workload/%s.ini; gpt2, "
				   "qwen2.5-0.5b and llama-3.1-8b are there, or give a path",
				   name, name);
	r = cvb_ini_read(is_path ? file : path, /* follow= */ true, &text, err);
	if (r < 0)
		return cvb_err_wrap(err, r, "model=%s", name);
	return llm_model_parse(text, is_path ? file : path, ret, err);
}

struct llm_model *llm_model_free(struct llm_model *m)
{
	if (m) {
		free(m->name);
		free(m->summary);
		free(m->source);
		free(m);
	}
	return NULL;
}

/* ---- numbers ---- */

int llm_model_shard(struct llm_model *m, struct cvb_err *err)
{
	uint64_t n = m->tensor_parallel;
	const struct {
		const char *name;
		uint64_t *count;
	} divided[] = {{"heads", &m->heads}, {"kv_heads", &m->kv_heads}, {"ffn", &m->ffn}};

	for (size_t i = 0; i < CVB_ARRAY_LEN(divided); i++)
		if (*divided[i].count % n)
			return cvb_err_set(err, -EINVAL,
					   "%s: %s = %" PRIu64 " is no multiple of tensor_parallel "
					   "= %" PRIu64,
					   m->name, divided[i].name, *divided[i].count, n);
	for (size_t i = 0; i < CVB_ARRAY_LEN(divided); i++)
		*divided[i].count /= n;
	m->vocab = (m->vocab + n - 1) / n;
	return 0;
}

enum cvb_gpu_type llm_model_type(const struct llm_model *m)
{
	return types[m->type];
}

void llm_matrix_shape(const struct llm_model *m, enum llm_matrix x, uint64_t *ret_rows,
		      uint64_t *ret_columns)
{
	uint64_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
	const uint64_t rows[] = {m->hidden, q, m->hidden, m->ffn, m->hidden};
	const uint64_t columns[] = {q + 2 * kv, m->hidden, (m->gated ? 2 : 1) * m->ffn, m->hidden,
				    m->vocab};

	*ret_rows = rows[x];
	*ret_columns = columns[x];
}

uint64_t llm_kv_bytes(const struct llm_model *m)
{
	return 2 * m->batch * m->context * m->kv_heads * m->head_dim *
	       cvb_gpu_type_bytes(llm_model_type(m));
}

uint64_t llm_parameters(const struct llm_model *m)
{
	uint64_t sum = 0, rows, columns;

	for (int x = LLM_QKV; x < LLM_MATRICES; x++) {
		llm_matrix_shape(m, (enum llm_matrix)x, &rows, &columns);
		sum += rows * columns * (x == LLM_HEAD ? 1 : m->layers);
	}
	return sum;
}
