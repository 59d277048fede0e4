/* SPDX-License-Identifier: Apache-2.0 */
/* Student t and the incomplete beta function against exact values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/util.h"
#include "stats/dist.h"

#include <math.h>

static void assert_near(double got, double want, double relative)
{
	if (!(fabs(got - want) <= relative * fabs(want)))
		fail_msg("got %.17g, want %.17g", got, want);
}

/* The usual table of percentage points, to 20 digits by mpmath (50-digit arithmetic). */
static void quantiles_of_the_table(void **state)
{
	static const struct {
		double p, df, t;
	} rows[] = {
		{0.95, 1, 6.313751514675043099},     {0.95, 2, 2.919985580353725687},
		{0.95, 3, 2.3533634348018238777},    {0.95, 5, 2.0150483733330242378},
		{0.9, 7, 1.4149239276505084776},     {0.995, 2, 9.9248432009182931147},
		{0.995, 5, 4.0321429835552280784},   {0.995, 9, 3.2498355415921262756},
		{0.975, 10, 2.2281388519862747484},  {0.99, 30, 2.4572615424005913725},
		{0.975, 120, 1.9799304050824408467}, {0.95, 1000, 1.6463788172854647156},
		{0.975, 2.5, 3.5746548420036832185}, {0.9999, 4, 13.033671720896456198},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++) {
		assert_near(cvb_t_quantile(rows[i].p, rows[i].df), rows[i].t, 1e-12);
		assert_near(cvb_t_cdf(rows[i].t, rows[i].df), rows[i].p, 1e-13);
		/* the lower tail is the mirror; 1 - p itself is rounded, hence the looser bound */
		assert_near(cvb_t_quantile(1 - rows[i].p, rows[i].df), -rows[i].t, 1e-11);
	}
}

/* Where the quantile has a closed form. */
static void closed_forms(void **state)
{
	(void)state;
	for (double p = 0.55; p < 1; p += 0.0449) {
		double a = 4 * p * (1 - p);

		assert_near(cvb_t_quantile(p, 1), tan(M_PI * (p - 0.5)), 1e-11);
		assert_near(cvb_t_quantile(p, 2), (2 * p - 1) / sqrt(2 * p * (1 - p)), 1e-11);
		assert_near(cvb_t_quantile(p, 4), 2 * sqrt(cos(acos(sqrt(a)) / 3) / sqrt(a) - 1),
			    1e-11);
	}
}

static void tails_keep_their_digits(void **state)
{
	static const struct {
		double t, df, sf;
	} rows[] = {
		{1, 3, 0.19550110947788532096},	       {2.5, 12, 0.013957699785662626574},
		{-1.5, 7, 0.91135075650501498342},     {6, 20, 3.6218499652082854007e-6},
		{40, 3, 0.000017190340394579264142},   {0.001, 5, 0.49962039338609882531},
		{10, 1000, 8.3353514793000331545e-23}, {3, 100000, 0.001350230442032359595},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++)
		assert_near(cvb_t_sf(rows[i].t, rows[i].df), rows[i].sf, 1e-11);
}

static void round_trip(void **state)
{
	static const double dfs[] = {1, 1.5, 2, 5, 9, 23, 100, 5000, 1e6};
	static const double ps[] = {1e-6, 0.005, 0.05, 0.3, 0.5, 0.7, 0.95, 0.995};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(dfs); i++)
		for (size_t k = 0; k < CVB_ARRAY_LEN(ps); k++)
			assert_near(cvb_t_cdf(cvb_t_quantile(ps[k], dfs[i]), dfs[i]), ps[k], 1e-11);
}

/* I_x(1, b) = 1 - (1 - x)^b, I_x(a, b) = 1 - I_(1-x)(b, a) */
static void beta_identities(void **state)
{
	(void)state;
	for (double x = 0.01; x < 1; x += 0.07) {
		assert_near(cvb_beta_inc(1, 3.5, x, 1 - x), 1 - pow(1 - x, 3.5), 1e-13);
		assert_near(cvb_beta_inc(4, 2.25, x, 1 - x) + cvb_beta_inc(2.25, 4, 1 - x, x), 1,
			    1e-14);
	}
	assert_true(cvb_beta_inc(2, 3, 0, 1) == 0);
	assert_true(cvb_beta_inc(2, 3, 1, 0) == 1);
}

static void edges(void **state)
{
	(void)state;
	assert_true(cvb_t_quantile(0.5, 3) == 0);
	assert_true(cvb_t_quantile(1, 3) == INFINITY);
	assert_true(cvb_t_quantile(0, 3) == -INFINITY);
	assert_true(isnan(cvb_t_quantile(-0.1, 3)));
	assert_true(isnan(cvb_t_quantile(NAN, 3)));
	assert_true(isnan(cvb_t_quantile(0.9, 0)));
	assert_true(isnan(cvb_t_quantile(0.9, NAN)));
	assert_true(isnan(cvb_t_cdf(NAN, 3)));
	assert_true(isnan(cvb_t_cdf(1, -1)));
	assert_true(cvb_t_cdf(INFINITY, 3) == 1);
	assert_true(cvb_t_sf(INFINITY, 3) == 0);
	assert_true(isnan(cvb_beta_inc(-1, 1, 0.5, 0.5)));
	assert_true(cvb_t_sf(1e200, 2) < 1e-300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quantiles_of_the_table),  cmocka_unit_test(closed_forms),
		cmocka_unit_test(tails_keep_their_digits), cmocka_unit_test(round_trip),
		cmocka_unit_test(beta_identities),	   cmocka_unit_test(edges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
