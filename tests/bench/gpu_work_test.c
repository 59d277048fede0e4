/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GPU benchmarks of compute, memory and life cycle on the emulated device: what a user reads off
 * them on the virtual clock, what is left out and why, and that wrong work never becomes a number.
 */
#include "gpu_run.h"

#include "core/file.h"
#include "gpu/matrix.h"

#define ON  "emu:h100-tdx,cc=on,clock=virtual"
#define OFF "emu:h100-tdx,cc=off,clock=virtual"

/* cc=off / cc=on of one value */
static double slower(const struct gpu_result *off, const struct gpu_result *on, const char *metric,
		     const char *params)
{
	return gpu_get(on, metric, params) / gpu_get(off, metric, params);
}

/* ---- numbers ---- */

static void numbers_are_exact_in_their_format(void **state)
{
	(void)state;
	for (int t = 0; t < CVB_GPU_TYPES; t++) {
		enum cvb_gpu_type type = (enum cvb_gpu_type)t;
		uint8_t mem[64 * 8];
		double largest = 0;

		for (size_t i = 0; i < 64; i++) {
			double v = cvb_matrix_value(type, 1, i);

			cvb_matrix_store(type, mem, i, v);
			if (cvb_matrix_load(type, mem, i) != v)
				fail_msg("%s: %.17g became %.17g", cvb_gpu_type_text(type), v,
					 cvb_matrix_load(type, mem, i));
			largest = fmax(largest, fabs(v));
		}
		gpu_assert_between(largest, 0.5, type == CVB_GPU_INT8 ? 15 : 1);
	}
}

static void formats_have_published_codes(void **state)
{
	uint16_t half, bfloat;
	uint8_t e4m3;

	(void)state;
	cvb_matrix_store(CVB_GPU_FP16, &half, 0, -1.5);
	cvb_matrix_store(CVB_GPU_BF16, &bfloat, 0, 0.75);
	cvb_matrix_store(CVB_GPU_FP8, &e4m3, 0, 1);
	assert_int_equal(half, 0xbe00);
	assert_int_equal(bfloat, 0x3f40);
	assert_int_equal(e4m3, 0x38);
	half = 1; /* smallest subnormal */
	e4m3 = 0x7e;
	assert_true(cvb_matrix_load(CVB_GPU_FP16, &half, 0) == 0x1p-24);
	assert_true(cvb_matrix_load(CVB_GPU_FP8, &e4m3, 0) == 448);
	e4m3 = 0xff;
	assert_true(isnan(cvb_matrix_load(CVB_GPU_FP8, &e4m3, 0)));
}

/* ---- gpu.gemm ---- */

static void large_products_run_at_the_models_rate(void **state)
{
	_cleanup_run_ struct gpu_result off = gpu_run("gpu.gemm", OFF, "n=8192 type=both");
	_cleanup_run_ struct gpu_result on = gpu_run("gpu.gemm", ON, "n=8192 type=both");

	(void)state;
	gpu_assert_ran(&off);
	gpu_assert_ran(&on);
	gpu_assert_between(gpu_get(&off, "rate", "{'n':8192,'type':'fp32'}"), 0.99 * 60e12, 60e12);
	gpu_assert_between(slower(&off, &on, "rate", "{'type':'fp64'}"), 0.99, 1.0);
	assert_int_equal(json_array_size(off.rows), 2);
}

static void every_format_and_shape_is_right(void **state)
{
	_cleanup_run_ struct gpu_result res =
		gpu_run("gpu.gemm", ON, "n=96 shape=all tokens=33 hidden=64 ffn=200");

	(void)state;
	gpu_assert_ran(&res);
	assert_int_equal(json_array_size(res.rows), 4 * CVB_GPU_TYPES);
	assert_true(gpu_get(&res, "rate", "{'shape':'down','m':33,'n':64,'k':200,'type':'fp8'}") >
		    0);
}

static void a_wrong_product_is_seen_in_every_format(void **state)
{
	(void)state;
	for (int t = 0; t < CVB_GPU_TYPES; t++) {
		char options[64];

		snprintf(options, sizeof(options), "n=256 type=%s",
			 cvb_gpu_type_text((enum cvb_gpu_type)t));
		gpu_assert_untrusted("gpu.gemm", "fault:gemm=all/corrupt:" ON, options);
		gpu_assert_untrusted("gpu.gemm", "fault:gemm=all/corrupt:emu:h100-tdx", options);
	}
}

static void a_format_that_is_not_there_is_named(void **state)
{
	_cleanup_run_ struct gpu_result all =
		gpu_run("gpu.gemm", "emu:b300-tdx,clock=virtual", "n=64");
	_cleanup_run_ struct gpu_result asked =
		gpu_run("gpu.gemm", "emu:b300-tdx,clock=virtual", "n=64 type=int8");

	(void)state;
	gpu_assert_ran(&all);
	gpu_assert_left_out(&all, "type", "int8", "int8");
	assert_int_equal(asked.r, -EOPNOTSUPP);
	assert_says(&asked.err, "int8");
}

/* ---- gpu.hbm ---- */

static void memory_keeps_its_bandwidth(void **state)
{
	_cleanup_run_ struct gpu_result off = gpu_run("gpu.hbm", OFF, "size=128MiB op=triad");
	_cleanup_run_ struct gpu_result on = gpu_run("gpu.hbm", ON, "size=128MiB op=triad");

	(void)state;
	gpu_assert_ran(&off);
	gpu_assert_ran(&on);
	/* three vectors move, not two: a third less would be seen */
	gpu_assert_between(gpu_get(&off, "bandwidth", "{'op':'triad'}"), 0.95 * 2865e9, 2865e9);
	gpu_assert_between(slower(&off, &on, "bandwidth", "{}"), 0.90, 1.0);
}

/* Bytes are counted as the operations move them: all reach nine tenths of the same rate. */
static void every_operation_counts_its_bytes(void **state)
{
	_cleanup_run_ struct gpu_result off = gpu_run("gpu.hbm", OFF, "size=512MiB");
	static const char *const ops[] = {"copy", "triad", "read", "d2d"};

	(void)state;
	gpu_assert_ran(&off);
	for (size_t i = 0; i < CVB_ARRAY_LEN(ops); i++) {
		_cleanup_free_ char *params = cvb_strf("{'op':'%s'}", ops[i]);

		gpu_assert_between(gpu_get(&off, "bandwidth", params), 0.9 * 2865e9, 2865e9);
	}
}

static void wrong_memory_is_untrusted(void **state)
{
	(void)state;
	gpu_assert_untrusted("gpu.hbm", "fault:launch=all/corrupt:" ON, "size=1MiB op=copy");
	gpu_assert_untrusted("gpu.hbm", "fault:launch=all/corrupt:" ON, "size=1MiB op=triad");
	gpu_assert_untrusted("gpu.hbm", "fault:launch=all/corrupt:" ON, "size=1MiB op=read");
	gpu_assert_untrusted("gpu.hbm", "fault:copy=all/corrupt:" ON, "size=1MiB op=d2d");
	/* a wrong word of an operand, although no product of it is looked at */
	gpu_assert_untrusted("gpu.hbm", "fault:copy=1/corrupt:" ON, "size=1MiB op=triad");
}

/* ---- gpu.managed ---- */

static void managed_memory_pays_for_each_page(void **state)
{
	_cleanup_run_ struct gpu_result off = gpu_run("gpu.managed", OFF, "size=8MiB");
	_cleanup_run_ struct gpu_result on = gpu_run("gpu.managed", ON, "size=8MiB");

	(void)state;
	gpu_assert_ran(&off);
	gpu_assert_ran(&on);
	gpu_assert_between(slower(&off, &on, "time", "{'dir':'h2d'}"), 20, 36);
	gpu_assert_between(slower(&off, &on, "time", "{'dir':'d2h'}"), 20, 36);
	gpu_assert_between(slower(&off, &on, "time", "{'dir':'resident'}"), 1, 4);
	gpu_assert_bytes(&on, "bandwidth", "time", "{'size_bytes':8388608,'dir':'h2d'}", 0x1p23);
}

static void wrong_managed_memory_is_untrusted(void **state)
{
	(void)state;
	gpu_assert_untrusted("gpu.managed", "fault:touch=all/corrupt:" ON, "size=1MiB");
	gpu_assert_untrusted("gpu.managed", "fault:launch=all/corrupt:" ON, "size=1MiB");
	gpu_assert_untrusted("gpu.managed", "fault:touch=all/corrupt:emu:h100-tdx", "size=1MiB");
}

/* ---- gpu.kv_restore ---- */

static void packing_blocks_pays_only_when_confidential(void **state)
{
	_cleanup_run_ struct gpu_result off = gpu_run("gpu.kv_restore", OFF, NULL);
	_cleanup_run_ struct gpu_result on = gpu_run("gpu.kv_restore", ON, NULL);

	(void)state;
	gpu_assert_ran(&off);
	gpu_assert_ran(&on);
	assert_true(gpu_get(&on, "time", "{'dir':'h2d','mode':'batched'}") <
		    gpu_get(&on, "time", "{'dir':'h2d','mode':'blocks'}"));
	assert_true(gpu_get(&off, "time", "{'dir':'h2d','mode':'batched'}") >
		    gpu_get(&off, "time", "{'dir':'h2d','mode':'blocks'}"));
	/* 512 blocks one after the other */
	gpu_assert_between(gpu_get(&on, "time", "{'dir':'d2h','mode':'blocks'}") /
				   gpu_get(&on, "block_latency", "{'dir':'d2h','mode':'blocks'}"),
			   511.9, 512.1);
}

/* A block by itself costs what a copy of its size and direction does, and one is slower. */
static void blocks_cost_what_copies_cost(void **state)
{
	_cleanup_run_ struct gpu_result kv = gpu_run("gpu.kv_restore", ON, NULL);
	_cleanup_run_ struct gpu_result copy =
		gpu_run("gpu.copy", ON, "min_size=64KiB max_size=64KiB mem=pinned");
	static const char *const dirs[] = {"h2d", "d2h"};

	(void)state;
	gpu_assert_ran(&kv);
	gpu_assert_ran(&copy);
	for (size_t i = 0; i < CVB_ARRAY_LEN(dirs); i++) {
		_cleanup_free_ char *blocks = cvb_strf("{'dir':'%s','mode':'blocks'}", dirs[i]);
		_cleanup_free_ char *dir = cvb_strf("{'dir':'%s'}", dirs[i]);

		gpu_assert_between(gpu_get(&kv, "block_latency", blocks) /
					   gpu_get(&copy, "latency", dir),
				   0.95, 1.05);
		gpu_assert_bytes(&kv, "bandwidth", "time", blocks, 512 * 65536.0);
	}
	assert_true(gpu_get(&copy, "latency", "{'dir':'h2d'}") >
		    1.1 * gpu_get(&copy, "latency", "{'dir':'d2h'}"));
}

static void one_wrong_block_is_untrusted(void **state)
{
	(void)state;
	/* the last of a pass of 64 copies, on the way in and back */
	gpu_assert_untrusted("gpu.kv_restore", "fault:copy=200+/corrupt:" ON, "blocks=64");
	gpu_assert_untrusted("gpu.kv_restore", "fault:copy=200+/corrupt:emu:h100-tdx", "blocks=64");
}

/* ---- gpu.overlap ---- */

static void streams_hide_copies_only_without_confidential_mode(void **state)
{
	_cleanup_run_ struct gpu_result off = gpu_run("gpu.overlap", OFF, NULL);
	_cleanup_run_ struct gpu_result on = gpu_run("gpu.overlap", ON, NULL);

	(void)state;
	gpu_assert_ran(&off);
	gpu_assert_ran(&on);
	assert_true(gpu_get(&off, "gain", "{'streams':4}") > 1.5);
	assert_true(gpu_get(&off, "hidden", "{'streams':4}") > 0.5);
	/* by its formula, from the times of the same sample */
	double one = gpu_get(&off, "time", "{'work':'both','streams':1}");
	double four = gpu_get(&off, "time", "{'work':'both','streams':4}");
	double longer = fmax(gpu_get(&off, "time", "{'work':'copy','streams':4}"),
			     gpu_get(&off, "time", "{'work':'kernel','streams':4}"));

	gpu_assert_between(gpu_get(&off, "hidden", "{'streams':4}"),
			   0.999 * (one - four) / (one - longer),
			   1.001 * (one - four) / (one - longer));
	gpu_assert_between(gpu_get(&on, "gain", "{'streams':4}"), 0.999, 1.001);
	gpu_assert_between(gpu_get(&on, "hidden", "{'streams':4}"), -0.001, 0.001);
	gpu_assert_untrusted("gpu.overlap", "fault:copy=40+/corrupt:" ON, "size=1MiB pieces=8");
}

/* ---- gpu.load ---- */

static void contexts_load_a_model_faster(void **state)
{
	_cleanup_run_ struct gpu_result res =
		gpu_run("gpu.load", "emu:rtxpro6000-tdx,cc=on,clock=virtual", NULL);

	(void)state;
	gpu_assert_ran(&res);
	assert_true(gpu_get(&res, "time", "{'loader':'pinned'}") >
		    2 * gpu_get(&res, "time", "{'loader':'processes','contexts':8}"));
	gpu_assert_left_out(&res, "loader", "default", "pageable_h2d_toll is unknown");
}

static void an_unpublished_loader_is_left_out(void **state)
{
	_cleanup_run_ struct gpu_result res = gpu_run("gpu.load", ON, NULL);

	(void)state;
	gpu_assert_ran(&res);
	gpu_assert_left_out(&res, "loader", "parallel", "thread_contexts_h2d_max is unknown");
	gpu_assert_between(gpu_get(&res, "bandwidth", "{'loader':'default'}"), 2.0e9, 3.2e9);
	/* two layers of Qwen2.5 0.5B in 16 bits: 2 (2 h h + 2 h kv + 3 h ffn + 2 h) 2 */
	gpu_assert_bytes(&res, "bandwidth", "time", "{'loader':'pinned','size_bytes':59644928}",
			 2 * 2 * 896.0 * (2 * 896 + 2 * 128 + 3 * 4864 + 2));
	gpu_assert_untrusted("gpu.load", "fault:copy=40+/corrupt:emu:h100-tdx,cc=on", NULL);
}

static void more_contexts_than_the_limit_are_left_out(void **state)
{
	_cleanup_run_ struct gpu_result res = gpu_run("gpu.load", ON, "layers=3 contexts=24");

	(void)state;
	gpu_assert_ran(&res);
	gpu_assert_left_out(&res, "loader", "parallel", "18");
}

/* ---- gpu.lifecycle ---- */

static void contexts_and_frees_cost_more_when_confidential(void **state)
{
	_cleanup_run_ struct gpu_result off = gpu_run("gpu.lifecycle", OFF, NULL);
	_cleanup_run_ struct gpu_result on = gpu_run("gpu.lifecycle", ON, NULL);

	(void)state;
	gpu_assert_ran(&off);
	gpu_assert_ran(&on);
	gpu_assert_between(slower(&off, &on, "create", "{'kind':'context'}"), 5, 7);
	gpu_assert_between(slower(&off, &on, "destroy", "{'kind':'device'}"), 1.2, 2);
	gpu_assert_between(slower(&off, &on, "destroy", "{'kind':'pinned'}"), 2, 3);
	gpu_assert_between(gpu_get(&on, "create", "{'kind':'context'}"), 0.8e9, 1.16e9);
}

/* A folder of data with one model, whose GPU takes `limit` contexts; freed by the caller. */
static char *model_with_contexts(unsigned limit)
{
	_cleanup_free_ char *from = cvb_data_path("profiles/gpu/h100-tdx.ini", NULL);
	char *dir = strdup("/tmp/cvb-gpu-XXXXXX"), *text = NULL;
	size_t bytes;

	assert_non_null(from);
	assert_non_null(dir);
	assert_non_null(mkdtemp(dir));
	_cleanup_free_ char *folder = cvb_strf("%s/profiles/gpu", dir);
	_cleanup_free_ char *to = cvb_strf("%s/h100-tdx.ini", folder);

	assert_int_equal(cvb_file_read(from, 1 << 20, &text, &bytes, NULL), 0);
	char *section = strstr(text, "[context_limit]");
	char *value = section ? strstr(section, "on = ") : NULL;

	assert_non_null(value);
	size_t digits = strspn(value + 5, "0123456789");
	_cleanup_free_ char *changed =
		cvb_strf("%.*s%u%s", (int)(value + 5 - text), text, limit, value + 5 + digits);

	free(text);
	assert_int_equal(cvb_mkdir_all(folder, NULL), 0);
	assert_int_equal(cvb_file_write(to, changed, strlen(changed), NULL), 0);
	return dir;
}

static void where_one_context_is_all_the_rest_is_measured(void **state)
{
	const char *before = getenv("CVMBENCH_DATADIR");
	_cleanup_free_ char *data = before ? strdup(before) : NULL;
	_cleanup_free_ char *dir = model_with_contexts(1);

	(void)state;
	setenv("CVMBENCH_DATADIR", dir, 1);
	_cleanup_run_ struct gpu_result one = gpu_run("gpu.lifecycle", ON, NULL);
	_cleanup_run_ struct gpu_result load = gpu_run("gpu.load", ON, NULL);

	if (data)
		setenv("CVMBENCH_DATADIR", data, 1);
	else
		unsetenv("CVMBENCH_DATADIR");
	cvb_ignore(cvb_remove_tree(dir));
	gpu_assert_ran(&one);
	gpu_assert_ran(&load);
	gpu_assert_left_out(&one, "kind", "context", "takes 1 contexts");
	gpu_assert_left_out(&one, "kind", "process_context", "takes 1 contexts");
	gpu_assert_left_out(&load, "loader", "parallel", "takes 1 contexts");
	assert_true(gpu_get(&one, "create", "{'kind':'pinned'}") > 0);
	assert_true(gpu_get(&one, "destroy", "{'kind':'device'}") > 0);
}

static void what_was_made_must_work(void **state)
{
	(void)state;
	gpu_assert_untrusted("gpu.lifecycle", "fault:copy=30+/corrupt:" ON, NULL);
	gpu_assert_untrusted("gpu.lifecycle", "fault:touch=all/corrupt:" ON, NULL);
}

/* ---- gpu.repeat ---- */

static void spread_tells_noise(void **state)
{
	_cleanup_run_ struct gpu_result still = gpu_run("gpu.repeat", ON, NULL);
	_cleanup_run_ struct gpu_result noisy = gpu_run("gpu.repeat", ON ",noise=20,seed=3", NULL);

	(void)state;
	gpu_assert_ran(&still);
	gpu_assert_ran(&noisy);
	gpu_assert_between(gpu_get(&still, "spread", "{'op':'copy'}"), 1, 1.0001);
	/* uniform up to 20 % either way has a standard deviation of 11.5 % */
	gpu_assert_between(gpu_get(&noisy, "spread", "{'op':'copy'}"), 1.03, 1.2);
	gpu_assert_between(gpu_get(&noisy, "worst", "{'op':'copy'}"), 1.03, 1.25);
	gpu_assert_untrusted("gpu.repeat", "fault:launch=all/corrupt:" ON, NULL);
	gpu_assert_untrusted("gpu.repeat", "fault:gemm=all/corrupt:" ON, NULL);
}

/* ---- all of them ---- */

static const char *const names[] = {"gpu.gemm",	   "gpu.hbm",	 "gpu.managed",	  "gpu.kv_restore",
				    "gpu.overlap", "gpu.load",	 "gpu.lifecycle", "gpu.repeat",
				    "llm.decode",  "llm.prefill"};
static const char *const small[] = {"n=64",	  "size=1MiB", "size=1MiB", "blocks=16",
				    "size=1MiB",  "layers=1",  "things=4",  "n=32",
				    "context=16", "prompt=16"};

static void the_virtual_clock_gives_the_same_numbers_again(void **state)
{
	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(names); i++) {
		_cleanup_run_ struct gpu_result one = gpu_run(names[i], ON, small[i]);
		_cleanup_run_ struct gpu_result two = gpu_run(names[i], ON, small[i]);

		gpu_assert_ran(&one);
		if (!json_equal(one.rows, two.rows))
			fail_msg("%s differs from run to run", names[i]);
	}
}

static void all_run_on_the_wall_clock(void **state)
{
	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(names); i++) {
		_cleanup_run_ struct gpu_result off = gpu_run(names[i], "emu:h100-tdx", small[i]);
		_cleanup_run_ struct gpu_result on =
			gpu_run(names[i], "emu:h100-tdx,cc=on", small[i]);

		gpu_assert_ran(&off);
		gpu_assert_ran(&on);
		assert_true(json_array_size(off.rows) > 0);
	}
}

static void no_model_is_too_unknown_for_a_reason(void **state)
{
	static const char *const skus[] = {"h200-tdx", "b200-tdx", "b300-tdx", "rtxpro6000-tdx",
					   "h100nvl-snp"};

	(void)state;
	for (size_t k = 0; k < CVB_ARRAY_LEN(skus); k++) {
		_cleanup_free_ char *gpu = cvb_strf("emu:%s,cc=on,clock=virtual", skus[k]);

		for (size_t i = 0; i < CVB_ARRAY_LEN(names); i++) {
			_cleanup_run_ struct gpu_result res = gpu_run(names[i], gpu, small[i]);

			if (res.r != 0 && (res.r != -EOPNOTSUPP || !res.err.n))
				fail_msg("%s on %s: %d", names[i], gpu, res.r);
		}
	}
}

/* What a model does not know is named, with the model. */
static void reasons_name_model_and_parameter(void **state)
{
	static const struct {
		const char *name, *gpu, *options, *says;
	} all[] = {
		{"gpu.gemm", "emu:b300-tdx,cc=on,clock=virtual", "type=int8",
		 "emu:b300-tdx,cc=on,clock=virtual: gemm_int8 is unknown"},
		{"gpu.overlap", "emu:rtxpro6000-tdx,cc=on,clock=virtual", NULL,
		 "emu:rtxpro6000-tdx,cc=on,clock=virtual: launch is unknown"},
		{"gpu.managed", "emu:b300-tdx,cc=on,clock=virtual", NULL, "emu:b300-tdx,cc="},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(all); i++) {
		struct gpu_result res = gpu_run(all[i].name, all[i].gpu, all[i].options);

		assert_int_equal(res.r, -EOPNOTSUPP);
		assert_says(&res.err, all[i].says);
		assert_says(&res.err, " is unknown");
		gpu_done(&res);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_exact_in_their_format),
		cmocka_unit_test(formats_have_published_codes),
		cmocka_unit_test(large_products_run_at_the_models_rate),
		cmocka_unit_test(every_format_and_shape_is_right),
		cmocka_unit_test(a_wrong_product_is_seen_in_every_format),
		cmocka_unit_test(a_format_that_is_not_there_is_named),
		cmocka_unit_test(memory_keeps_its_bandwidth),
		cmocka_unit_test(every_operation_counts_its_bytes),
		cmocka_unit_test(wrong_memory_is_untrusted),
		cmocka_unit_test(managed_memory_pays_for_each_page),
		cmocka_unit_test(wrong_managed_memory_is_untrusted),
		cmocka_unit_test(packing_blocks_pays_only_when_confidential),
		cmocka_unit_test(blocks_cost_what_copies_cost),
		cmocka_unit_test(one_wrong_block_is_untrusted),
		cmocka_unit_test(streams_hide_copies_only_without_confidential_mode),
		cmocka_unit_test(contexts_load_a_model_faster),
		cmocka_unit_test(an_unpublished_loader_is_left_out),
		cmocka_unit_test(more_contexts_than_the_limit_are_left_out),
		cmocka_unit_test(contexts_and_frees_cost_more_when_confidential),
		cmocka_unit_test(where_one_context_is_all_the_rest_is_measured),
		cmocka_unit_test(what_was_made_must_work),
		cmocka_unit_test(spread_tells_noise),
		cmocka_unit_test(the_virtual_clock_gives_the_same_numbers_again),
		cmocka_unit_test(all_run_on_the_wall_clock),
		cmocka_unit_test(no_model_is_too_unknown_for_a_reason),
		cmocka_unit_test(reasons_name_model_and_parameter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
