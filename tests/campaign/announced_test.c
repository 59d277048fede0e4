/* SPDX-License-Identifier: Apache-2.0 */
/* What arms announce stays within what a report can read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "campaign/announced.h"
#include "campaign/model.h"
#include "core/util.h"

#include <errno.h>
#include <string.h>

/* n series of one metric, with the parameters from, from + 1, … */
static int announce(struct cvb_announced *a, const char *bench, unsigned from, unsigned n,
		    struct cvb_err *err)
{
	_cleanup_json_ json_t *list = json_array();

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(list, json_pack("{s:s++, s:{s:i}}", "metric", bench, "/", "m",
						      "params", "size", (int)(from + i)));
	return cvb_announced_add(a, bench, list, err);
}

static void other_series_in_every_session_come_to_an_end(void **state)
{
	struct cvb_announced a = {.most = 1000};
	struct cvb_err err = {0};

	(void)state;
	for (int turn = 0; turn < 3; turn++) /* the same ones again are nothing new */
		assert_int_equal(announce(&a, "one", 0, 600, &err), 0);
	assert_int_equal(announce(&a, "one", 300, 700, &err), 0); /* 400 of them are new */
	assert_int_equal(announce(&a, "one", 999, 2, &err), -E2BIG);
	assert_non_null(strstr(err.frame[0].msg, "2 series, 1 of them new"));
	/* nothing of it is kept, and what is known may go on */
	assert_int_equal(announce(&a, "one", 0, 1000, &err), 0);
	assert_int_equal(announce(&a, "one", 1000, 1, &err), -E2BIG);
	/* a journal of before may have more, which are known all the same */
	a.most = 10;
	assert_int_equal(announce(&a, "one", 0, 1000, &err), 0);
	a.most = 1000;
	/* another benchmark has its own */
	assert_int_equal(announce(&a, "two", 0, 1000, &err), 0);
	cvb_announced_done(&a);
}

/* All shares together are what a journal's reader takes. */
static void shares_fit_the_model(void **state)
{
	(void)state;
	for (size_t n = 1; n <= CVB_MODEL_MAX_BENCHES; n++) {
		size_t share = cvb_announced_share(n);

		assert_true(share * n <= CVB_MODEL_MAX_SERIES);
		assert_true((share + 1) * n > CVB_MODEL_MAX_SERIES);
	}
	assert_true(cvb_announced_share(32) >= 512);
}

static void without_parameters_too(void **state)
{
	struct cvb_announced a = {.most = 2};
	_cleanup_json_ json_t *list =
		json_pack("[{s:s, s:n}, {s:s}, {s:s, s:{s:i}}]", "metric", "b/m", "params",
			  "metric", "b/m", "metric", "b/m", "params", "x", 1);
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_announced_add(&a, "b", list, &err), 0); /* two different ones */
	json_array_append_new(list,
			      json_pack("{s:s, s:{s:s}}", "metric", "b/m", "params", "x", "1"));
	assert_int_equal(cvb_announced_add(&a, "b", list, &err), -E2BIG);
	cvb_announced_done(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_series_in_every_session_come_to_an_end),
		cmocka_unit_test(shares_fit_the_model),
		cmocka_unit_test(without_parameters_too),
	};

	return cmocka_run_group_tests_name("campaign/announced", tests, NULL, NULL);
}
