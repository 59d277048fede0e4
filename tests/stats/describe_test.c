/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptive statistics: by hand, and where naive sums lose their digits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/util.h"
#include "stats/describe.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static void assert_near(double got, double want, double relative)
{
	if (!(fabs(got - want) <= relative * fabs(want)))
		fail_msg("got %.17g, want %.17g", got, want);
}

static void by_hand(void **state)
{
	static const double x[] = {2, 4, 4, 4, 5, 5, 7, 9};
	struct cvb_describe d;

	(void)state;
	assert_int_equal(cvb_describe(x, CVB_ARRAY_LEN(x), &d, NULL), 0);
	assert_int_equal(d.n, 8);
	assert_near(d.mean, 5, 1e-15);
	assert_near(d.sd, sqrt(32.0 / 7), 1e-15); /* squares of -3 -1 -1 -1 0 0 2 4: 32 */
	assert_near(d.median, 4.5, 1e-15);
	assert_near(d.mad, 0.5, 1e-15); /* distances 2.5 .5 .5 .5 .5 .5 2.5 4.5 */
	/* products 3 1 1 0 0 0 8 = 13 over 32 */
	assert_near(d.lag1, 13.0 / 32, 1e-14);
	assert_true(d.min == 2 && d.max == 9);
}

/*
 * Data in the manner of NIST StRD NumAcc4: 10000000.2, then 10000000.1 and 10000000.3 in turn, 1001
 * values.  Certified there: mean 10000000.2, sd 0.1, lag-1 autocorrelation -0.999.
 */
static void large_offset(void **state)
{
	double x[1001];
	struct cvb_describe d;

	(void)state;
	x[0] = 10000000.2;
	for (size_t i = 1; i < CVB_ARRAY_LEN(x); i++)
		x[i] = i % 2 ? 10000000.1 : 10000000.3;
	assert_int_equal(cvb_describe(x, CVB_ARRAY_LEN(x), &d, NULL), 0);
	assert_near(d.mean, 10000000.2, 1e-15);
	assert_near(d.sd, 0.1, 1e-8); /* the values themselves hold no more */
	assert_near(d.lag1, -0.999, 1e-8);
}

static void one_and_constant(void **state)
{
	static const double one[] = {3}, same[] = {7, 7, 7};
	struct cvb_describe d;

	(void)state;
	assert_int_equal(cvb_describe(one, 1, &d, NULL), 0);
	assert_true(d.mean == 3 && d.median == 3 && d.mad == 0 && isnan(d.sd) && isnan(d.lag1));
	assert_int_equal(cvb_describe(same, 3, &d, NULL), 0);
	assert_true(d.sd == 0 && isnan(d.lag1));
}

static void refuses(void **state)
{
	static const double bad[] = {1, 2, INFINITY};
	struct cvb_describe d;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_describe(bad, 3, &d, &err), -EINVAL);
	assert_non_null(strstr(err.frame[0].msg, "value 3 of 3"));
	assert_int_equal(cvb_describe(bad, 0, &d, &err), -EINVAL);
}

static void median_does_not_overflow(void **state)
{
	static const double huge[] = {1.7e308, 1.7e308};

	(void)state;
	assert_true(cvb_median_sorted(huge, 2) == 1.7e308);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_hand),
		cmocka_unit_test(large_offset),
		cmocka_unit_test(one_and_constant),
		cmocka_unit_test(refuses),
		cmocka_unit_test(median_does_not_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
