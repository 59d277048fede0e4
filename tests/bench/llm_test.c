/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workloads of language models: what is read from their files, what is refused, and what the
 * benchmarks that use them say of an engine on the virtual clock.
 */
#include "gpu_run.h"

#include "llm/model.h"
#include "llm/step.h"

#include <unistd.h>

#define ON  "emu:h100-tdx,cc=on,clock=virtual"
#define OFF "emu:h100-tdx,cc=off,clock=virtual"
/* of a model that knows what peer copies cost */
#define PAIR_ON	 "emu:h200-tdx,cc=on,clock=virtual"
#define PAIR_OFF "emu:h200-tdx,cc=off,clock=virtual"

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
		{"name = tiny", "name = a b", "name: expected letters"},
		{"type = bf16", "type = int4", "x.ini:13: [model]: type"},
		{"[model]", "[modle]", "x.ini:1: unknown section [modle]; did you mean [model]?"},
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

static void a_shard_is_a_part_of_the_model(void **state)
{
	struct llm_model *m = NULL;
	struct cvb_err err = {0};
	uint64_t rows, columns;

	(void)state;
	assert_int_equal(llm_model_parse(good, "x.ini", &m, NULL), 0);
	m->tensor_parallel = 2;
	m->vocab = 101;
	assert_int_equal(llm_model_shard(m, NULL), 0);
	llm_matrix_shape(m, LLM_QKV, &rows, &columns);
	assert_int_equal(rows, 64);
	assert_int_equal(columns, (4 * 16 + 2 * 2 * 16) / 2);
	llm_matrix_shape(m, LLM_OUT, &rows, &columns);
	assert_int_equal(rows, 4 * 16 / 2);
	assert_int_equal(columns, 64);
	llm_matrix_shape(m, LLM_DOWN, &rows, &columns);
	assert_int_equal(rows, 128 / 2);
	llm_matrix_shape(m, LLM_HEAD, &rows, &columns);
	assert_int_equal(columns, 51);
	assert_int_equal(llm_kv_bytes(m), 3 * 32 * 2 * 16 * 2);
	assert_int_equal(llm_model_shard(m, &err), -EINVAL); /* one kv head is left */
	assert_says(&err, "kv_heads = 1 is no multiple of tensor_parallel = 2");
	llm_model_free(m);
}

/* ---- limits ---- */

struct change {
	const char *from, *to;
};

/* A file with the good workload, changed; caller removes it and frees its name. */
static char *write_workload(const struct change *change, size_t n)
{
	_cleanup_free_ char *text = strdup(good);
	char *path = strdup("/tmp/cvb-llm-XXXXXX");
	int fd = mkstemp(path);

	for (size_t i = 0; i < n; i++) {
		char *next = spoil(text, "", change[i].from, change[i].to);

		free(text);
		text = next;
	}
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	return path;
}

static void assert_refused(const char *bench, const char *gpu, const char *from, const char *to,
			   const char *options, const char *says)
{
	const struct change change = {from, to};
	_cleanup_free_ char *path = write_workload(&change, 1);
	_cleanup_free_ char *all = cvb_strf("model=%s %s", path, options);
	_cleanup_run_ struct gpu_result res = gpu_run(bench, gpu, all);

	unlink(path);
	if (res.r != -EINVAL)
		fail_msg("%s with %s on %s gives %d", bench, to, gpu, res.r);
	assert_says(&res.err, says);
}

static void too_much_is_refused_at_once(void **state)
{
	static const char heads[] = "heads = 4\nkv_heads = 2\nhead_dim = 16\n";
	static const char many[] = "heads = 1024\nkv_heads = 1024\nhead_dim = 4096\n";
	static const char *const gpus[] = {ON, "emu:h100-tdx"};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(gpus); i++) {
		assert_refused("llm.decode", gpus[i], heads, many, "context=65536",
			       "lower batch or context");
		assert_refused("llm.prefill", gpus[i], heads, many, "prompt=4096", "lower prompt");
		assert_refused("llm.decode", gpus[i], "layers = 2", "layers = 1024", "layers=1024",
			       "kernels a step, at most");
		assert_refused("llm.prefill", gpus[i], "layers = 2", "layers = 1024", "layers=1024",
			       "kernels a step, at most");
	}
	/* memory is enough, time is not */
	assert_refused("llm.decode", gpus[1], "kv_heads = 2", "kv_heads = 4",
		       "batch=512 context=8192 layers=64", "bytes, an emulated GPU");
	assert_refused("llm.prefill", gpus[1], "hidden = 64", "hidden = 4096",
		       "prompt=4096 layers=64", "operations, an emulated GPU");
}

/* An emulator with the wall clock takes fewer layers unless it is told, and says how many. */
static void a_step_on_the_wall_clock_is_short_and_says_so(void **state)
{
	static const struct change change = {"layers = 2", "layers = 40"};
	_cleanup_free_ char *path = write_workload(&change, 1);
	_cleanup_free_ char *some = cvb_strf("model=%s policy=aware batch=64 context=16384", path);
	_cleanup_free_ char *all = cvb_strf("model=%s policy=aware layers=39", path);
	_cleanup_run_ struct gpu_result slow = gpu_run("llm.decode", "emu:h100-tdx", some);
	_cleanup_run_ struct gpu_result told = gpu_run("llm.decode", "emu:h100-tdx", all);
	_cleanup_run_ struct gpu_result fast = gpu_run("llm.decode", OFF, some);

	(void)state;
	unlink(path);
	gpu_assert_ran(&slow);
	gpu_assert_ran(&told);
	gpu_assert_ran(&fast);
	/* 134 MB of keys and values in each: 16 layers are 2 GiB, with the weights 15 */
	gpu_get(&slow, "inter_token_latency", "{'layers':15}");
	gpu_get(&told, "inter_token_latency", "{'layers':39}");
	gpu_get(&fast, "inter_token_latency", "{'layers':40}");
}

static void so_is_a_prompt(void **state)
{
	static const struct change change[] = {{"hidden = 64", "hidden = 8192"},
					       {"layers = 2", "layers = 40"},
					       {"prompt = 8", "prompt = 300"}};
	_cleanup_free_ char *path = write_workload(change, CVB_ARRAY_LEN(change));
	_cleanup_free_ char *some = cvb_strf("model=%s policy=aware", path);
	_cleanup_free_ char *all = cvb_strf("model=%s policy=aware prompt=65 layers=3", path);
	_cleanup_run_ struct gpu_result slow = gpu_run("llm.prefill", "emu:h100-tdx", some);
	_cleanup_run_ struct gpu_result told = gpu_run("llm.prefill", "emu:h100-tdx", all);
	_cleanup_run_ struct gpu_result fast = gpu_run("llm.prefill", OFF, some);

	(void)state;
	unlink(path);
	gpu_assert_ran(&slow);
	gpu_assert_ran(&told);
	gpu_assert_ran(&fast);
	/* 4.7 million weights, each of 2 x 64 operations and widened for 128: 1.3e9 a layer */
	gpu_get(&slow, "time_to_first_token", "{'prompt':64,'layers':8}");
	gpu_get(&told, "time_to_first_token", "{'prompt':65,'layers':3}");
	gpu_get(&fast, "time_to_first_token", "{'prompt':300,'layers':40}");
}

/* What cannot be made short is refused, unless it is asked for. */
static void a_model_too_large_for_the_wall_clock_is_refused(void **state)
{
	_cleanup_run_ struct gpu_result slow =
		gpu_run("llm.prefill", "emu:h100-tdx", "model=llama-3.1-8b");

	(void)state;
	assert_int_equal(slow.r, -EOPNOTSUPP);
	assert_says(&slow.err, "or layers=1 to have it all the same");
}

/* ---- steps ---- */

/* As many bytes and kernels a step as llama-3.1-8b, in twice the layers: less memory to set up. */
static char *write_large(void)
{
	static const struct change change[] = {
		{"layers = 2", "layers = 60"},	     {"hidden = 64", "hidden = 4096"},
		{"heads = 4", "heads = 32"},	     {"kv_heads = 2", "kv_heads = 8"},
		{"head_dim = 16", "head_dim = 128"}, {"ffn = 128", "ffn = 7168"},
		{"batch = 3", "batch = 8"},	     {"context = 32", "context = 1024"},
		{"kernels = 5", "kernels = 1"},
	};

	return write_workload(change, CVB_ARRAY_LEN(change));
}

static double latency(const char *gpu, const char *options, const char *policy)
{
	_cleanup_run_ struct gpu_result res = gpu_run("llm.decode", gpu, options);
	char params[64];

	snprintf(params, sizeof(params), "{'policy':'%s'}", policy);
	gpu_assert_ran(&res);
	return gpu_get(&res, "inter_token_latency", params);
}

/* Of one policy with the large workload. */
static double large_latency(const char *gpu, const char *policy, const char *more)
{
	_cleanup_free_ char *path = write_large();
	_cleanup_free_ char *options = cvb_strf("model=%s policy=%s %s", path, policy, more);
	double ns = latency(gpu, options, policy);

	unlink(path);
	return ns;
}

/* How much longer each policy takes with cc=on, with the large workload. */
static void large_ratios(double ret[LLM_POLICIES])
{
	_cleanup_free_ char *path = write_large();
	_cleanup_free_ char *options = cvb_strf("model=%s", path);
	_cleanup_run_ struct gpu_result on = gpu_run("llm.decode", ON, options);
	_cleanup_run_ struct gpu_result off = gpu_run("llm.decode", OFF, options);

	unlink(path);
	gpu_assert_ran(&on);
	gpu_assert_ran(&off);
	for (int p = 0; p < LLM_POLICIES; p++) {
		char params[64];

		snprintf(params, sizeof(params), "{'policy':'%s'}", llm_policy_words[p]);
		ret[p] = gpu_get(&on, "inter_token_latency", params) /
			 gpu_get(&off, "inter_token_latency", params);
	}
}

/* The published pattern: a stock engine loses much, one that knows little, small models most. */
static void an_aware_engine_loses_little(void **state)
{
	double ratio[LLM_POLICIES];

	large_ratios(ratio);
	double naive = ratio[LLM_NAIVE], aware = ratio[LLM_AWARE];
	double small = latency(ON, "model=qwen2.5-0.5b policy=naive", "naive") /
		       latency(OFF, "model=qwen2.5-0.5b policy=naive", "naive");

	(void)state;
	if (!(aware > 1 && aware < 1.08))
		fail_msg("aware takes %g times as long", aware);
	if (!(naive > 1.05 && naive > aware && small > naive))
		fail_msg("naive takes %g, of a small model %g times as long", naive, small);
}

/* What cc=on adds to a stock step, and what of the rate that costs. */
static double stock_loss(const char *sku, const char *more, double *ret_added_ns)
{
	_cleanup_free_ char *on = cvb_strf("emu:%s,cc=on,clock=virtual", sku);
	_cleanup_free_ char *off = cvb_strf("emu:%s,cc=off,clock=virtual", sku);
	double slow = large_latency(on, "stock", more), fast = large_latency(off, "stock", more);

	*ret_added_ns = slow - fast;
	return 1 - fast / slow;
}

/* Stock engines: 13 to 39 % less, about 1.3 to 1.5 ms a step whatever the batch (SGLang PR 15188),
 * so that the loss falls as the batch grows. */
static void a_stock_engine_loses_as_published(void **state)
{
	static const char *const skus[] = {"h100nvl-snp", "h200-tdx", "b200-tdx", "b300-tdx"};
	double added, many, one, few;

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(skus); i++) {
		double loss = stock_loss(skus[i], "", &added);

		if (!(loss > 0.13 && loss < 0.39))
			fail_msg("a stock engine on a %s loses %g", skus[i], loss);
	}
	one = stock_loss("h200-tdx", "batch=1 context=128", &added);
	if (!(added > 1.2e6 && added < 1.8e6))
		fail_msg("cc=on adds %g ns to a step", added);
	few = added;
	many = stock_loss("h200-tdx", "batch=64 context=2048", &added);
	if (!(many < one * 0.7 && added < few * 1.2))
		fail_msg("a batch of 64 loses %g, adds %g ns; one sequence %g and %g", many, added,
			 one, few);
}

static void fresh_buffers_are_what_stock_pays_for(void **state)
{
	_cleanup_run_ struct gpu_result on = gpu_run("llm.decode", ON, "model=qwen2.5-0.5b");

	(void)state;
	gpu_assert_ran(&on);
	double naive = gpu_get(&on, "inter_token_latency", "{'policy':'naive'}");
	double stock = gpu_get(&on, "inter_token_latency", "{'policy':'stock'}");
	double aware = gpu_get(&on, "inter_token_latency", "{'policy':'aware'}");

	/* five allocations of 141 us and three more copies of 22 us; nothing is freed meanwhile */
	if (!(stock - aware > 600e3 && stock - aware < 900e3 && naive > stock * 2))
		fail_msg("naive %g, stock %g, aware %g ns", naive, stock, aware);
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
	_cleanup_free_ char *path = write_workload(NULL, 0);
	_cleanup_free_ char *options = cvb_strf("model=%s", path);
	_cleanup_free_ char *naive = cvb_strf("model=%s policy=naive", path);

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(faults); i++) {
		_cleanup_run_ struct gpu_result decode = gpu_run("llm.decode", faults[i], options);
		_cleanup_run_ struct gpu_result prefill =
			gpu_run("llm.prefill", faults[i], options);

		if (decode.r != -EBADMSG || prefill.r != -EBADMSG)
			fail_msg("%s: decode %d, prefill %d", faults[i], decode.r, prefill.r);
	}
	_cleanup_run_ struct gpu_result product =
		gpu_run("llm.prefill", "fault:gemm=all/corrupt:" ON, naive);

	unlink(path);
	assert_int_equal(product.r, -EBADMSG);
}

/* ---- tensor parallelism ---- */

static void two_gpus_share_the_work(void **state)
{
	static const char *const gpus[] = {PAIR_OFF, PAIR_ON, "emu:h200-tdx", "emu:h200-tdx,cc=on"};
	_cleanup_free_ char *path = write_workload(NULL, 0);
	_cleanup_free_ char *options = cvb_strf("model=%s tensor_parallel=2", path);

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(gpus); i++) {
		_cleanup_run_ struct gpu_result decode = gpu_run("llm.decode", gpus[i], options);
		_cleanup_run_ struct gpu_result prefill = gpu_run("llm.prefill", gpus[i], options);

		gpu_assert_ran(&decode);
		gpu_assert_ran(&prefill);
		for (int p = 0; p < LLM_POLICIES; p++) {
			char params[64];

			snprintf(params, sizeof(params), "{'policy':'%s','tensor_parallel':2}",
				 llm_policy_words[p]);
			gpu_get(&decode, "rate", params);
			gpu_get(&prefill, "rate", params);
		}
	}
	unlink(path);
}

/* Half of the bytes, and two all-reduces a layer: a long context gains, one of nothing loses. */
static void two_gpus_are_worth_it_where_there_is_much_to_read(void **state)
{
	double ratio = large_latency(PAIR_OFF, "aware",
				     "layers=4 batch=64 context=4096 "
				     "tensor_parallel=2") /
		       large_latency(PAIR_OFF, "aware", "layers=4 batch=64 context=4096");
	double off = latency(PAIR_OFF, "policy=aware tensor_parallel=2", "aware") -
		     latency(PAIR_OFF, "policy=aware", "aware");
	double on = latency(PAIR_ON, "policy=aware tensor_parallel=2", "aware") -
		    latency(PAIR_ON, "policy=aware", "aware");

	(void)state;
	if (!(ratio > 0.5 && ratio < 0.9))
		fail_msg("two GPUs take %g of the time of one", ratio);
	/* 24 all-reduces, each at least the latency of a peer copy: 3.7 and 14.7 us */
	if (!(on > 24 * 14.7e3 && on > off + 24 * 11e3))
		fail_msg("24 all-reduces add %g ns, with cc=on %g ns", off, on);
	/* the host waits for none of them: it would be 39 us each */
	if (!(off < 24 * 30e3))
		fail_msg("24 all-reduces add %g ns", off);
}

static void a_gpu_without_a_peer_cannot_share(void **state)
{
	_cleanup_run_ struct gpu_result decode = gpu_run("llm.decode", ON, "tensor_parallel=2");
	_cleanup_run_ struct gpu_result prefill = gpu_run("llm.prefill", ON, "tensor_parallel=2");

	(void)state;
	assert_int_equal(decode.r, -EOPNOTSUPP);
	assert_says(&decode.err, "has no peer");
	assert_int_equal(prefill.r, -EOPNOTSUPP);
	assert_says(&prefill.err, "has no peer");
}

static void a_wrong_all_reduce_is_untrusted(void **state)
{
	static const char *const faults[] = {
		"fault:peer=all/corrupt:" PAIR_ON, "fault:peer=20/corrupt:" PAIR_ON,
		"fault:peer=20/corrupt:emu:h200-tdx,cc=on", "fault:launch=90+/corrupt:" PAIR_ON};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(faults); i++) {
		_cleanup_run_ struct gpu_result res =
			gpu_run("llm.decode", faults[i], "context=16 layers=2 tensor_parallel=2");

		if (res.r != -EBADMSG)
			fail_msg("%s: %d", faults[i], res.r);
	}
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

struct stand {
	struct llm_model *m;
	struct cvb_gpu *gpu, *peer;
	struct llm_step step;
};

static void stand_up(struct stand *s, uint64_t ranks)
{
	/* 3 rows of 64 elements of 2 bytes */
	static const struct llm_shape shape = {.rows = 3, .inputs = 100, .results = 24};

	*s = (struct stand){0};
	assert_int_equal(llm_model_parse(good, "x.ini", &s->m, NULL), 0);
	assert_int_equal(cvb_gpu_open(PAIR_ON, &s->gpu, NULL), 0);
	s->m->tensor_parallel = ranks;
	if (ranks > 1)
		assert_int_equal(cvb_gpu_peer_open(s->gpu, &s->peer, NULL), 0);
	assert_int_equal(
		llm_step_init(&s->step, s->gpu, s->peer, s->m, &shape, no_kernels, NULL, NULL), 0);
	assert_int_equal(llm_step_record(&s->step, NULL), 0);
}

static void tear_down(struct stand *s)
{
	llm_step_done(&s->step);
	cvb_gpu_close(s->peer);
	cvb_gpu_close(s->gpu);
	llm_model_free(s->m);
}

static void a_stale_result_is_seen(void **state)
{
	(void)state;
	for (int p = 0; p < LLM_POLICIES; p++) {
		struct cvb_err err = {0};
		struct stand s;

		stand_up(&s, 1);
		assert_int_equal(llm_step_run(&s.step, (enum llm_policy)p, NULL), 0);
		assert_int_equal(llm_step_check(&s.step, NULL), 0);
		s.step.steps++; /* the device has the step's before */
		assert_int_equal(llm_step_check(&s.step, &err), -EBADMSG);
		assert_says(&err, "not every kernel ran");
		tear_down(&s);
	}
}

/* The pool grows by the fresh buffers of a step, never beyond its room, and naive has none. */
static void a_pool_keeps_what_stock_steps_allocate(void **state)
{
	struct stand s;

	(void)state;
	stand_up(&s, 1);
	assert_int_equal(llm_step_run(&s.step, LLM_STOCK, NULL), 0);
	assert_int_equal(s.step.pool_n, 5);
	assert_int_equal(llm_step_run(&s.step, LLM_STOCK, NULL), 0);
	assert_int_equal(s.step.pool_n, 10);
	llm_step_drop(&s.step);
	assert_int_equal(s.step.pool_n, 0);
	for (int i = 0; i < 3 * LLM_STOCK_STEPS; i++) {
		assert_int_equal(llm_step_run(&s.step, LLM_STOCK, NULL), 0);
		assert_true(s.step.pool_n <= s.step.pool_room);
	}
	assert_int_equal(llm_step_run(&s.step, LLM_NAIVE, NULL), 0);
	assert_int_equal(s.step.pool_n, 0);
	tear_down(&s);
}

static void each_layer_has_two_all_reduces_of_its_size(void **state)
{
	(void)state;
	for (int p = 0; p < LLM_POLICIES; p++) {
		struct cvb_err err = {0};
		struct stand s;

		stand_up(&s, 2);
		assert_int_equal(s.step.reduce.bytes, 3 * 64 * 2);
		assert_int_equal(llm_step_run(&s.step, (enum llm_policy)p, NULL), 0);
		assert_int_equal(s.step.reduce.done, 2 * 2);
		s.step.reduce.done++; /* as if one had not run */
		assert_int_equal(llm_step_check(&s.step, &err), -EBADMSG);
		assert_says(&err, "all-reduce: element 0");
		tear_down(&s);
	}
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
		cmocka_unit_test(a_shard_is_a_part_of_the_model),
		cmocka_unit_test(too_much_is_refused_at_once),
		cmocka_unit_test(a_step_on_the_wall_clock_is_short_and_says_so),
		cmocka_unit_test(so_is_a_prompt),
		cmocka_unit_test(a_model_too_large_for_the_wall_clock_is_refused),
		cmocka_unit_test(a_stock_engine_loses_as_published),
		cmocka_unit_test(fresh_buffers_are_what_stock_pays_for),
		cmocka_unit_test(two_gpus_share_the_work),
		cmocka_unit_test(two_gpus_are_worth_it_where_there_is_much_to_read),
		cmocka_unit_test(a_gpu_without_a_peer_cannot_share),
		cmocka_unit_test(a_wrong_all_reduce_is_untrusted),
		cmocka_unit_test(a_pool_keeps_what_stock_steps_allocate),
		cmocka_unit_test(each_layer_has_two_all_reduces_of_its_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
