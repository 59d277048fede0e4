/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SKU models: all that are shipped are whole, and a model with a mistake gives one message that
 * names file, line and key.
 */
#include "core/file.h"
#include "core/util.h"
#include "gpu/gpu.h"
#include "gpu/sku.h"

/* cmocka.h needs these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <string.h>

static const char *const skus[] = {"b200-tdx",	  "b300-tdx", "h100-tdx",
				   "h100nvl-snp", "h200-tdx", "rtxpro6000-tdx"};

static void test_shipped_models(void **state)
{
	const char *const *names = cvb_sku_names();

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(skus); i++) {
		struct cvb_sku *sku = NULL;
		unsigned known = 0;

		assert_string_equal(names[i], skus[i]);
		assert_int_equal(cvb_sku_load(skus[i], &sku, NULL), 0);
		for (int mode = 0; mode < 2; mode++) {
			for (int p = 0; p < CVB_SKU_PARAMS; p++) {
				const struct cvb_sku_value *v = &sku->v[mode][p];

				known += v->grade != CVB_SKU_UNKNOWN;
				/* no figure without its source */
				assert_true(v->grade == CVB_SKU_UNKNOWN || v->source);
				assert_true(isfinite(v->value));
			}
		}
		assert_true(known > 40);
		sku = cvb_sku_free(sku);
	}
	assert_null(names[CVB_ARRAY_LEN(skus)]);
}

static void test_list(void **state)
{
	_cleanup_json_ json_t *list = cvb_gpu_list_skus();
	size_t i, j;
	json_t *sku, *param;

	(void)state;
	assert_int_equal(json_array_size(list), CVB_ARRAY_LEN(skus));
	json_array_foreach (list, i, sku) {
		json_t *params = json_object_get(sku, "parameters");

		assert_string_equal(json_string_value(json_object_get(sku, "name")), skus[i]);
		assert_null(json_object_get(sku, "error"));
		assert_int_equal(json_array_size(params), CVB_SKU_PARAMS);
		json_array_foreach (params, j, param) {
			static const char *const modes[] = {"off", "on"};
			bool any = false;

			assert_true(json_is_string(json_object_get(param, "name")));
			assert_true(json_is_string(json_object_get(param, "unit")));
			for (size_t m = 0; m < 2; m++) {
				json_t *v = json_object_get(param, modes[m]);

				if (!v)
					continue;
				any = true;
				assert_non_null(json_object_get(v, "value"));
				assert_true(json_is_string(json_object_get(v, "grade")));
				assert_true(json_is_string(json_object_get(v, "source")) ||
					    json_is_null(json_object_get(v, "value")));
			}
			assert_true(any);
		}
	}
}

/* The text with the first `from` replaced; caller frees. */
static char *replaced(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);

	assert_non_null(at);
	char *out = cvb_strf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));

	assert_non_null(out);
	return out;
}

#define TOLL "[pinned_h2d_toll]\nunit = ns\noff = 2014\non = 22214\ngrade = derived\nsource = "

static void assert_refused(const char *text, const char *says)
{
	struct cvb_sku *sku = NULL;
	struct cvb_err err = {0};
	char got[2048];

	assert_int_equal(cvb_sku_parse(text, "bad.ini", &sku, &err), -EINVAL);
	assert_null(sku);
	cvb_err_text(&err, got, sizeof(got));
	if (!strstr(got, says) || !strstr(got, "bad.ini:"))
		fail_msg("\"%s\" does not say \"%s\"", got, says);
}

static void test_hostile_models(void **state)
{
	static const struct {
		const char *from, *to, *says;
	} table[] = {
		{"off = 2014", "off = nan", "off = nan is no number"},
		{"off = 2014", "off = inf", "off = inf is no number"},
		{"off = 2014", "off = 0x10", "off = 0x10 is no number"},
		{"off = 2014", "off = 1e999", "0 to 1e+09 ns is right"},
		{"off = 2014", "off = 99999999999999999999999999", "0 to 1e+09 ns is right"},
		{"off = 2014", "off = -1", "0 to 1e+09 ns is right"},
		{"off = 2014", "off = 2014us", "is no number"},
		{"off = 2014", "off =", "is no number"},
		{"off = 2014\n", "", "[pinned_h2d_toll]: off is missing"},
		{"off = 2014\n", "off = 2014\noff = 2015\n", "off is there twice"},
		{"off = 2014\n", "off = unknown\noff = 2015\n", "off is there twice"},
		{"unit = ns\n", "", "[pinned_h2d_toll]: unit is missing"},
		{"unit = ns\n", "unit = us\n", "unit = us: ns is right"},
		{"unit = ns\n", "unit = ns\nunit = ns\n", "unit is there twice"},
		{"grade = derived\n", "", "has no grade"},
		{"grade = derived\n", "grade = guessed\n", "measured, second-hand, derived"},
		{"grade = derived\n", "grade = derived\ngrade = derived\n", "grade is there twice"},
		{"source = ", "sauce = ", "did you mean source?"},
		{"source = Yang et al., ISPASS 2025, raw data fig. 4: fit to all 25 sizes, 64 B to 1 "
		 "GiB\n",
		 "", "has no source"},
		{TOLL, "[pinned_h2d_tol]\n", "did you mean [pinned_h2d_toll]?"},
		{"[pinned_d2h_toll]", "[pinned_h2d_toll]", "[pinned_h2d_toll] is there twice"},
		{"[trusted_events]", "; [trusted_events]", "twice"},
		{"hbm_bytes = 94000000000", "hbm_bytes = 80", "1GiB to 1024GiB is right"},
		{"hbm_bytes = 94000000000", "hbm_bytes = 94000000000\nhbm_bytes = 94000000000",
		 "twice"},
		{"hbm_bytes = 94000000000\n", "", "hbm_bytes is missing"},
		{"tee = TDX\n", "", "tee is missing"},
		{"tee = TDX", "tea = TDX", "unknown key tea"},
		{"[sku]", "name = x\n[sku]", "before any [section]"},
		{"[sku]\n", "[sku]\nnonsense\n", "expected [section], key = value"},
		{"host_register]\nunit = off_or_on\noff = on",
		 "host_register]\nunit = off_or_on\noff = 2", "off, on or unknown is right"},
		{"pcie_h2d_bandwidth]\nunit = bytes_per_s\n",
		 "pcie_h2d_bandwidth]\nunit = bytes_per_s\non = 5e9\n", "has no value for cc=on"},
		{"managed_multiplier]\nunit = ratio\non = 35.7",
		 "managed_multiplier]\nunit = ratio\non = 0", "1 to 1000 ratio is right"},
	};
	_cleanup_free_ char *path = cvb_data_path("profiles/gpu/h100-tdx.ini", NULL);
	_cleanup_free_ char *good = NULL;

	(void)state;
	assert_int_equal(cvb_file_read(path, 1 << 20, &good, NULL, NULL), 0);
	for (size_t i = 0; i < CVB_ARRAY_LEN(table); i++) {
		_cleanup_free_ char *bad = replaced(good, table[i].from, table[i].to);

		assert_refused(bad, table[i].says);
	}
}

#define TAIL(path) "[" path "_tail_cost]\nunit = ns_per_byte\n"

/* Values that are in their ranges, and impossible together. */
static void test_impossible_models(void **state)
{
	static const struct {
		const char *from, *to, *says;
	} table[] = {
		{TAIL("pinned_d2h") "off = 0.001", TAIL("pinned_d2h") "off = -0.5",
		 "[pinned_d2h_tail_cost]: cc=off: a byte behind the tail would take -0.47"},
		{TAIL("pinned_d2h") "off = 0.001", TAIL("pinned_d2h") "off = -0.0247",
		 "would take"},
		{TAIL("pageable_h2d") "off = 0.01466", TAIL("pageable_h2d") "off = -0.1",
		 "[pageable_h2d_tail_cost]: cc=off"},
		{"on = 0.05115", "on = -0.5", "[pinned_h2d_tail_cost]: cc=on"},
		{"off = 131072\n", "off = 131072.5\n", "off = 131072.5: a whole number is right"},
		{"on = 18\n", "on = 18.5\n", "[context_limit]: on = 18.5: a whole number"},
		{"off = 1800\n", "off = 1900\n",
		 "[pinned_d2h_toll]: off = 1854 is less than copy_submit"},
		{"[thread_contexts_h2d_max]\nunit = bytes_per_s\non = unknown",
		 "[thread_contexts_h2d_max]\nunit = bytes_per_s\non = 4e10\ngrade = derived\n"
		 "source = none",
		 "[thread_contexts_h2d_max]: known without thread_contexts_h2d_half"},
		{"[process_contexts_d2h_half]\nunit = contexts\non = unknown",
		 "[process_contexts_d2h_half]\nunit = contexts\non = 2\ngrade = derived\n"
		 "source = none",
		 "known without process_contexts_d2h_max"},
	};
	_cleanup_free_ char *path = cvb_data_path("profiles/gpu/h100-tdx.ini", NULL);
	_cleanup_free_ char *good = NULL;

	(void)state;
	assert_int_equal(cvb_file_read(path, 1 << 20, &good, NULL, NULL), 0);
	for (size_t i = 0; i < CVB_ARRAY_LEN(table); i++) {
		_cleanup_free_ char *bad = replaced(good, table[i].from, table[i].to);

		assert_refused(bad, table[i].says);
	}
	_cleanup_free_ char *b300 = cvb_data_path("profiles/gpu/b300-tdx.ini", NULL);
	_cleanup_free_ char *text = NULL;

	assert_int_equal(cvb_file_read(b300, 1 << 20, &text, NULL, NULL), 0);
	_cleanup_free_ char *fast = replaced(text, "on = 37498671524", "on = 56e9");

	assert_refused(fast, "on = 5.6e+10 is more than pcie_h2d_bandwidth");
}

/* No number of any parameter may be endless, no number, or out of what is sensible. */
static void test_hostile_numbers(void **state)
{
	static const char *const bad[] = {"nan", "-inf", "1e400", "-1e9", "1e20", "-0x1p9"};
	_cleanup_free_ char *path = cvb_data_path("profiles/gpu/b300-tdx.ini", NULL);
	_cleanup_free_ char *good = NULL;
	unsigned tried = 0;

	(void)state;
	assert_int_equal(cvb_file_read(path, 1 << 20, &good, NULL, NULL), 0);
	for (const char *at = good; (at = strchr(at, '\n'));) {
		const char *line = ++at, *end = line + strcspn(line, "\n");
		size_t key = !strncmp(line, "off = ", 6) ? 6 : !strncmp(line, "on = ", 5) ? 5 : 0;

		if (!key || !strchr("-0123456789", line[key]))
			continue;
		for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
			_cleanup_free_ char *text =
				cvb_strf("%.*s%s%s", (int)(line + key - good), good, bad[i], end);

			assert_refused(text, "");
			tried++;
		}
	}
	assert_true(tried > 6 * 100);
}

/* A file cut off anywhere is an error, or whole; lines too long, bytes that are no text. */
static void test_broken_files(void **state)
{
	_cleanup_free_ char *path = cvb_data_path("profiles/gpu/b300-tdx.ini", NULL);
	_cleanup_free_ char *good = NULL, *longer = calloc(1, 100001);
	size_t bytes;
	struct cvb_sku *sku = NULL;

	(void)state;
	assert_int_equal(cvb_file_read(path, 1 << 20, &good, &bytes, NULL), 0);
	for (size_t cut = 0; cut < bytes - 200; cut += 97) {
		_cleanup_free_ char *part = strndup(good, cut);

		assert_int_equal(cvb_sku_parse(part, "cut.ini", &sku, NULL), -EINVAL);
	}
	for (size_t i = 0; i < bytes; i += 31) {
		_cleanup_free_ char *noise = strdup(good);

		noise[i] = (char)(128 + i % 100);
		if (cvb_sku_parse(noise, "noise.ini", &sku, NULL) == 0)
			sku = cvb_sku_free(sku); /* in a comment or a source */
	}
	memset(longer, 'x', 100000);
	assert_int_equal(cvb_sku_parse(longer, "long.ini", &sku, NULL), -EINVAL);
	longer[0] = '[';
	assert_int_equal(cvb_sku_parse(longer, "long.ini", &sku, NULL), -EINVAL);
	assert_int_equal(cvb_sku_load("no-such-sku", &sku, NULL), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shipped_models),	cmocka_unit_test(test_list),
		cmocka_unit_test(test_hostile_models),	cmocka_unit_test(test_impossible_models),
		cmocka_unit_test(test_hostile_numbers), cmocka_unit_test(test_broken_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
