/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workloads of language models: what is read from their files, what is refused, and what the
 * benchmarks that use them say of an engine on the virtual clock.
 */
#include "gpu_run.h"

#include "llm/model.h"
#include "llm/step.h"

#define ON  "emu:h100-tdx,cc=on,clock=virtual"
#define OFF "emu:h100-tdx,cc=off,clock=virtual"

static const char good[] = "[model]\n"
			   "name = tiny\n"
			   "summary = for tests\n"
			   "source = made up\n"
			   "layers = 2\n"
			   "hidden = 64\n"
			   "heads = 4\n"
			   "kv_heads = 2\n"
			   "head_dim = 16\n"
			   "ffn = 128\n"
			   "gated = on\n"
			   "vocab = 100\n"
			   "type = bf16\n"
			   "[serving]\n"
			   "batch = 3\n"
			   "context = 32\n"
			   "prompt = 8\n"
			   "small_kernels = 5\n"
			   "tensor_parallel = 1\n";

/* ---- files ---- */

static void a_workload_is_read(void **state)
{
	struct llm_model *m = NULL;
	uint64_t rows, columns;

	(void)state;
	assert_int_equal(llm_model_parse(good, "x.ini", &m, NULL), 0);
	assert_string_equal(m->name, "tiny");
	assert_int_equal(llm_model_type(m), CVB_GPU_BF16);
	llm_matrix_shape(m, LLM_QKV, &rows, &columns);
	assert_int_equal(rows, 64);
	assert_int_equal(columns, 4 * 16 + 2 * 2 * 16);
	llm_matrix_shape(m, LLM_UP, &rows, &columns);
	assert_int_equal(columns, 2 * 128);
	/* keys and values, 3 sequences, 32 tokens, 2 heads of 16, 2 bytes */
	assert_int_equal(llm_kv_bytes(m), 2 * 3 * 32 * 2 * 16 * 2);
	llm_model_free(m);
}

/* Parameters in all are what the models are called by. */
static void the_workloads_have_their_published_size(void **state)
{
	static const struct {
		const char *name;
		double parameters; /* without norms, biases and the input's embedding */
	} known[] = {{"gpt2", 123.5e6}, {"qwen2.5-0.5b", 494e6}, {"llama-3.1-8b", 7.505e9}};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(known); i++) {
		struct llm_model *m = NULL;
		struct cvb_err err = {0};

		if (llm_model_load(known[i].name, &m, &err) < 0)
			fail_msg("%s: %s", known[i].name, err.frame[0].msg);
		double ratio = (double)llm_parameters(m) / known[i].parameters;

		if (!(ratio > 0.99 && ratio < 1.01))
			fail_msg("%s has %.4g parameters", known[i].name,
				 (double)llm_parameters(m));
		assert_true(strstr(m->source, "arXiv") || strstr(m->source, "huggingface"));
		llm_model_free(m);
	}
}

static void a_bad_workload_is_one_clear_error(void **state)
{
	static const struct {
		const char *from, *to; /* in the good one */
		const char *says;
	} bad[] = {
		{"layers = 2", "layres = 2", "x.ini:5: [model]: unknown option layres"},
		{"layers = 2", "layers = 0", "x.ini:5: [model]: layers"},
		{"layers = 2", "layers = many", "x.ini:5: [model]: layers"},
		{"layers = 2", "layers = 2\nlayers = 3", "layers is there twice"},
		{"layers = 2\n", "", "layers is missing"},
		{"kv_heads = 2", "kv_heads = 3", "multiple of kv_heads"},
		{"name = tiny", "name =", "name is empty"},
		{"type = bf16", "type = int4", "x.ini:13: [model]: type"},
		{"[model]", "[modle]", "expected [model] or [serving]"},
		{"[model]\n", "", "stands before any [section]"},
		{"[serving]\n", "hello\n[serving]\n", "expected [section], key = value"},
		{"batch = 3", "prompt = 9999999999", "x.ini:15: [serving]: prompt"},
		{"small_kernels = 5\n", "", "[serving]: small_kernels is missing"},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
		_cleanup_free_ char *text = spoil(good, "", bad[i].from, bad[i].to);
		struct llm_model *m = NULL;
		struct cvb_err err = {0};
		char said[2048];

		assert_int_equal(llm_model_parse(text, "x.ini", &m, &err), -EINVAL);
		assert_null(m);
		cvb_err_text(&err, said, sizeof(said));
		if (!strstr(said, bad[i].says))
			fail_msg("\"%s\" does not say \"%s\"", said, bad[i].says);
	}
}

static void hostile_bytes_are_refused(void **state)
{
	uint64_t seed = 0;

	(void)state;
	for (int round = 0; round < 2000; round++) {
		_cleanup_free_ char *text = strdup(good);
		struct llm_model *m = NULL;

		for (int i = 0; i < 3; i++) {
			uint64_t x = cvb_gpu_pattern(7, seed++);

			text[x % (sizeof(good) - 1)] = (char)(x >> 32 | 1);
		}
		int r = llm_model_parse(text, "x.ini", &m, NULL);

		assert_true(r == 0 || r == -EINVAL);
		llm_model_free(m);
	}
}

static void an_unknown_model_names_those_that_are_there(void **state)
{
	_cleanup_run_ struct gpu_result res = gpu_run("llm.decode", OFF, "model=gpt5");
	_cleanup_run_ struct gpu_result path = gpu_run("llm.decode", OFF, "model=/no/such.ini");

	(void)state;
	assert_int_equal(res.r, -EINVAL);
	assert_says(&res.err, "llama-3.1-8b");
	assert_int_equal(path.r, -EINVAL);
	assert_says(&path.err, "/no/such.ini");
}

/* ---- steps ---- */

static double latency(const char *gpu, const char *options, const char *policy)
{
	_cleanup_run_ struct gpu_result res = gpu_run("llm.decode", gpu, options);
	char params[64];

	snprintf(params, sizeof(params), "{'policy':'%s'}", policy);
	gpu_assert_ran(&res);
	return gpu_get(&res, "inter_token_latency", params);
}

/* The published pattern: a stock engine loses much, one that knows little, small models most. */
static void an_aware_engine_loses_little(void **state)
{
	double naive = latency(ON, "model=llama-3.1-8b", "naive") /
		       latency(OFF, "model=llama-3.1-8b", "naive");
	double aware = latency(ON, "model=llama-3.1-8b", "aware") /
		       latency(OFF, "model=llama-3.1-8b", "aware");
	double small = latency(ON, "model=qwen2.5-0.5b", "naive") /
		       latency(OFF, "model=qwen2.5-0.5b", "naive");

	(void)state;
	if (!(aware > 1 && aware < 1.08))
		fail_msg("aware takes %g times as long", aware);
	if (!(naive > 1.13 && small > naive))
		fail_msg("naive takes %g, of a small model %g times as long", naive, small);
}

static void a_step_takes_what_its_memory_takes(void **state)
{
	/* 15.0 GB of weights and 2.1 GB of cache at 2865 GB/s, and little else */
	double ns = latency(OFF, "model=llama-3.1-8b", "aware");

	(void)state;
	if (!(ns > 5.6e6 && ns < 6.2e6))
		fail_msg("%g ns", ns);
}

static void a_long_prompt_loses_little(void **state)
{
	_cleanup_run_ struct gpu_result off = gpu_run("llm.prefill", OFF, "model=qwen2.5-0.5b");
	_cleanup_run_ struct gpu_result on = gpu_run("llm.prefill", ON, "model=qwen2.5-0.5b");

	(void)state;
	gpu_assert_ran(&off);
	gpu_assert_ran(&on);
	double aware = gpu_get(&on, "time_to_first_token", "{'policy':'aware'}") /
		       gpu_get(&off, "time_to_first_token", "{'policy':'aware'}");
	double naive = gpu_get(&on, "time_to_first_token", "{'policy':'naive'}") /
		       gpu_get(&off, "time_to_first_token", "{'policy':'naive'}");

	if (!(aware > 1 && aware < 1.2 && naive > aware))
		fail_msg("aware takes %g, naive %g times as long", aware, naive);
}

static void a_wrong_step_is_untrusted(void **state)
{
	static const char *const faults[] = {
		"fault:copy=all/corrupt:" ON, "fault:copy=40+/corrupt:" ON,
		"fault:launch=20+/corrupt:" ON, "fault:graph=all/corrupt:" ON,
		"fault:copy=40+/corrupt:emu:h100-tdx"};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(faults); i++) {
		_cleanup_run_ struct gpu_result decode =
			gpu_run("llm.decode", faults[i], "context=16");
		_cleanup_run_ struct gpu_result prefill =
			gpu_run("llm.prefill", faults[i], "prompt=16");

		if (decode.r != -EBADMSG || prefill.r != -EBADMSG)
			fail_msg("%s: decode %d, prefill %d", faults[i], decode.r, prefill.r);
	}
	_cleanup_run_ struct gpu_result product =
		gpu_run("llm.prefill", "fault:gemm=all/corrupt:" ON, "prompt=16 policy=naive");

	assert_int_equal(product.r, -EBADMSG);
}

/* One kernel of many that is not run must not go unnoticed: the step's data pass through it. */
static int no_kernels(void *arg, unsigned rank, struct cvb_gpu_stream *stream, uint64_t layer,
		      enum llm_part part, struct cvb_err *err)
{
	(void)arg;
	(void)rank;
	(void)stream;
	(void)layer;
	(void)part;
	(void)err;
	return 0;
}

static void a_stale_result_is_seen(void **state)
{
	static const struct llm_shape shape = {.rows = 3, .inputs = 100, .results = 24};
	struct llm_model *m = NULL;
	struct llm_step s;
	struct cvb_gpu *gpu = NULL;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(llm_model_parse(good, "x.ini", &m, NULL), 0);
	assert_int_equal(cvb_gpu_open(ON, &gpu, NULL), 0);
	assert_int_equal(llm_step_init(&s, gpu, NULL, m, &shape, no_kernels, NULL, NULL), 0);
	assert_int_equal(llm_step_run(&s, LLM_NAIVE, NULL), 0);
	assert_int_equal(llm_step_check(&s, NULL), 0);
	s.steps++; /* the device has the step's before */
	assert_int_equal(llm_step_check(&s, &err), -EBADMSG);
	assert_says(&err, "not every kernel ran");
	llm_step_done(&s);
	cvb_gpu_close(gpu);
	llm_model_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_workload_is_read),
		cmocka_unit_test(the_workloads_have_their_published_size),
		cmocka_unit_test(a_bad_workload_is_one_clear_error),
		cmocka_unit_test(hostile_bytes_are_refused),
		cmocka_unit_test(an_unknown_model_names_those_that_are_there),
		cmocka_unit_test(an_aware_engine_loses_little),
		cmocka_unit_test(a_step_takes_what_its_memory_takes),
		cmocka_unit_test(a_long_prompt_loses_little),
		cmocka_unit_test(a_wrong_step_is_untrusted),
		cmocka_unit_test(a_stale_result_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
