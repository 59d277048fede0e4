/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptive statistics: by hand, certified by NIST, and where naive sums lose their digits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/util.h"
#include "stats/describe.h"
#include "stats/nist.h"

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

/* Correct decimal digits: log relative error, as in the reports that use the reference data sets.
 */
static double lre(double got, double want)
{
	return got == want ? 17 : -log10(fabs(got - want) / fabs(want));
}

static void assert_digits(const char *set, const char *what, double got, double want, double least)
{
	if (!(lre(got, want) >= least))
		fail_msg("%s: %s %.17g, want %.17g: %.2f digits, want %.2f", set, what, got, want,
			 lre(got, want), least);
}

static void assert_described(const char *set, const double *x, size_t n,
			     const struct cvb_describe *want, double least)
{
	struct cvb_describe d;

	assert_int_equal(cvb_describe(x, n, &d, NULL), 0);
	assert_int_equal(d.n, n);
	assert_digits(set, "mean", d.mean, want->mean, least);
	assert_digits(set, "sd", d.sd, want->sd, least);
	assert_digits(set, "lag1", d.lag1, want->lag1, least);
}

/* The certified values have 15 digits; the binary form of 2.0018 and the like costs up to two. */
static void nist_measured_sets(void **state)
{
	double pi[CVB_ARRAY_LEN(nist_pi_digits) - 1];

	(void)state;
#define ASSERT_NIST(set, ...)                                                                      \
	assert_described(#set, set, CVB_ARRAY_LEN(set), &(struct cvb_describe){__VA_ARGS__}, 13)
	ASSERT_NIST(nist_lew, .mean = -177.435, .sd = 277.332168044316, .lag1 = -0.307304800605679);
	ASSERT_NIST(nist_lottery, .mean = 518.958715596330, .sd = 291.699727470969,
		    .lag1 = -0.120948622967393);
	ASSERT_NIST(nist_mavro, .mean = 2.001856, .sd = 0.000429123454003053,
		    .lag1 = 0.937989183438248);
	ASSERT_NIST(nist_michelso, .mean = 299.8524, .sd = 0.0790105478190518,
		    .lag1 = 0.535199668621283);
	assert_int_equal(CVB_ARRAY_LEN(pi), 5000);
	for (size_t i = 0; i < CVB_ARRAY_LEN(pi); i++)
		pi[i] = nist_pi_digits[i] - '0';
	ASSERT_NIST(pi, .mean = 4.5348, .sd = 2.86733906028871, .lag1 = -0.00355099287237972);
#undef ASSERT_NIST
}

/*
 * NumAcc1 to NumAcc4: an offset that leaves ever fewer digits for the spread.  Certified for the
 * decimal numbers: mean offset + .2, sd .1, lag-1 -.999, each exact.  In binary the data of NumAcc4
 * are off by 1e-9, so that 8.25 digits of its certified sd are all that any method can find; the
 * moments of the numbers as stored, by rational arithmetic, show that the method itself loses none.
 */
static void nist_offset_sets(void **state)
{
	static const double acc1[] = {10000001, 10000003, 10000002};
	static const struct {
		const char *name;
		double first, odd, even;
		double certified_digits;
		struct cvb_describe stored;
	} sets[] = {
		{"NumAcc2", 1.2, 1.1, 1.3, 15, {.mean = 1.2, .sd = 0.1, .lag1 = -0.999}},
		{"NumAcc3",
		 1000000.2,
		 1000000.1,
		 1000000.3,
		 9,
		 {.mean = 1000000.2,
		  .sd = 0.100000000034924596548,
		  .lag1 = -0.998999999999418504886}},
		{"NumAcc4",
		 10000000.2,
		 10000000.1,
		 10000000.3,
		 8,
		 {.mean = 10000000.2,
		  .sd = 0.100000000558793544774,
		  .lag1 = -0.998999999990696078141}},
	};

	(void)state;
	assert_described("NumAcc1", acc1, CVB_ARRAY_LEN(acc1),
			 &(struct cvb_describe){.mean = 10000002, .sd = 1, .lag1 = -0.5}, 15);
	for (size_t s = 0; s < CVB_ARRAY_LEN(sets); s++) {
		const struct cvb_describe certified = {
			.mean = sets[s].first, .sd = 0.1, .lag1 = -0.999};
		double x[1001];

		x[0] = sets[s].first;
		for (size_t i = 1; i < CVB_ARRAY_LEN(x); i++)
			x[i] = i % 2 ? sets[s].odd : sets[s].even;
		assert_described(sets[s].name, x, CVB_ARRAY_LEN(x), &certified,
				 sets[s].certified_digits);
		assert_described(sets[s].name, x, CVB_ARRAY_LEN(x), &sets[s].stored, 14);
	}
}

/* Steps of one unit in the last place: the mean lies between two numbers, the distances from it
 * (-1/3, 2/3, -1/3 steps) must not. */
static void spread_below_the_rounding_of_the_mean(void **state)
{
	double x[] = {1e9, 0, 1e9}, step;
	struct cvb_describe d;

	(void)state;
	x[1] = nextafter(1e9, INFINITY);
	step = x[1] - x[0];
	assert_int_equal(cvb_describe(x, CVB_ARRAY_LEN(x), &d, NULL), 0);
	assert_near(d.sd, step / sqrt(3), 1e-15);
	assert_near(d.lag1, -2.0 / 3, 1e-15);
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

/* Squares of the first set overflow, those of the second vanish; halves of the third do too. */
static void any_magnitude(void **state)
{
	static const double scales[] = {1e300, 1e-300, 5e-324};
	struct cvb_describe d;

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(scales); i++) {
		double x[5], sd = i < 2 ? sqrt(2.5) * scales[i] : 2 * scales[i];

		for (int k = 0; k < 5; k++)
			x[k] = (k + 1) * scales[i];
		assert_int_equal(cvb_describe(x, 5, &d, NULL), 0);
		assert_near(d.mean, 3 * scales[i], 1e-14);
		assert_near(d.sd, sd, 1e-14); /* the third: rounded to the next multiple */
		assert_near(d.lag1, 0.4, 1e-12);
		assert_near(d.median, 3 * scales[i], 1e-14);
		assert_near(d.mad, scales[i], 1e-14);
		assert_near(cvb_median_sorted(x + 2, 1), 3 * scales[i], 1e-14);
	}

	static const double least[] = {5e-324, 5e-324}, huge[] = {1.7e308, 1.6e308, 1.5e308};

	assert_true(cvb_median_sorted(least, 2) == 5e-324);
	assert_int_equal(cvb_describe(huge, 3, &d, NULL), 0);
	assert_near(d.mean, 1.6e308, 1e-14);
	assert_near(d.sd, 1e307, 1e-12);
}

static void spread_that_no_number_holds(void **state)
{
	static const double wide[] = {-1.7e308, 1.7e308};
	struct cvb_describe d;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_describe(wide, 2, &d, &err), -EINVAL);
	assert_non_null(strstr(err.frame[0].msg, "spread"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_hand),
		cmocka_unit_test(nist_measured_sets),
		cmocka_unit_test(nist_offset_sets),
		cmocka_unit_test(spread_below_the_rounding_of_the_mean),
		cmocka_unit_test(one_and_constant),
		cmocka_unit_test(refuses),
		cmocka_unit_test(median_does_not_overflow),
		cmocka_unit_test(any_magnitude),
		cmocka_unit_test(spread_that_no_number_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
