/* SPDX-License-Identifier: Apache-2.0 */
/* Exact distributions against published tables and against counting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/util.h"
#include "stats/exact.h"

#include <math.h>

static void assert_near(double got, double want, double absolute)
{
	if (!(fabs(got - want) <= absolute))
		fail_msg("got %.17g, want %.17g", got, want);
}

/* Binomial coefficients are whole numbers: P = C(n, k) / 2^n exactly. */
static void binomial_of_a_fair_coin(void **state)
{
	double choose = 1, below = 0;

	(void)state;
	for (unsigned k = 0; k <= 30; k++) {
		double want = ldexp(choose, -30);

		below += want;
		assert_near(cvb_binom_pmf(k, 30, 0.5) / want, 1, 1e-12);
		assert_near(cvb_binom_cdf(k, 30, 0.5), below, 1e-13);
		assert_near(cvb_binom_sf(k, 30, 0.5), 1 - below + want, 1e-13);
		choose = choose * (30 - k) / (k + 1);
	}
	/* a biased one: .3^3 .7^2 C(5, 3) = .1323 */
	assert_near(cvb_binom_pmf(3, 5, 0.3), 0.1323, 1e-15);
	assert_near(cvb_binom_cdf(3, 5, 0.3), 0.96922, 1e-14);
	assert_true(cvb_binom_quantile(0.96922 - 1e-9, 5, 0.3) == 3);
	assert_true(cvb_binom_quantile(0.96922 + 1e-9, 5, 0.3) == 4);
	assert_true(isnan(cvb_binom_pmf(1, 2, 1.5)) && isnan(cvb_binom_cdf(1, 2, NAN)));
}

/* At k = 0 and k = n the bounds are closed: 1 - alpha^(1/n) and alpha^(1/n). */
static void clopper_pearson(void **state)
{
	double lo, hi;

	(void)state;
	cvb_binom_bounds(0, 10, 0.05, &lo, &hi);
	assert_true(lo == 0);
	assert_near(hi, 1 - pow(0.05, 0.1), 1e-14);
	cvb_binom_bounds(10, 10, 0.05, &lo, &hi);
	assert_true(hi == 1);
	assert_near(lo, pow(0.05, 0.1), 1e-14);
	for (uint64_t k = 1; k < 10; k++) {
		cvb_binom_bounds(k, 10, 0.025, &lo, &hi);
		assert_near(cvb_binom_sf(k, 10, lo), 0.025, 1e-12);
		assert_near(cvb_binom_cdf(k, 10, hi), 0.025, 1e-12);
	}
	cvb_binom_bounds(3, 2, 0.05, &lo, &hi);
	assert_true(isnan(lo) && isnan(hi));
}

/* Fisher's tea: 4 and 4 cups, 3 right each: (16 + 1) / 70. */
static void fisher_tea(void **state)
{
	(void)state;
	assert_near(cvb_rates_p(1, 4, 3, 4), 17.0 / 70, 1e-13);
	assert_near(cvb_rates_p(0, 4, 4, 4), 1.0 / 70, 1e-14);
	assert_true(cvb_rates_p(0, 9, 0, 9) == 1);
	assert_true(isnan(cvb_rates_p(5, 4, 0, 4)));
}

/* Every sign pattern of n ranks, counted. */
static void signed_rank_is_counted(void **state)
{
	(void)state;
	for (size_t n = 1; n <= 12; n++) {
		unsigned count[80] = {0}, sum = 0;

		for (unsigned signs = 0; signs < 1U << n; signs++) {
			unsigned w = 0;

			for (unsigned i = 0; i < n; i++)
				w += signs >> i & 1 ? i + 1 : 0;
			count[w]++;
		}
		for (unsigned w = 0; w <= n * (n + 1) / 2; w++) {
			sum += count[w];
			assert_true(cvb_signed_rank_cdf(w, n) == ldexp(sum, -(int)n));
		}
	}
}

/* Largest W with P <= .05 and <= .025, one-sided: the published table (Wilcoxon & Wilcox 1964, as
 * in most textbooks). */
static void signed_rank_table(void **state)
{
	static const struct {
		size_t n;
		uint64_t at05, at025;
	} row[] = {{6, 2, 0},	   {7, 3, 2},	   {8, 5, 3},	  {9, 8, 5},	{10, 10, 8},
		   {11, 13, 10},   {12, 17, 13},   {13, 21, 17},  {14, 25, 21}, {15, 30, 25},
		   {16, 35, 29},   {17, 41, 34},   {18, 47, 40},  {19, 53, 46}, {20, 60, 52},
		   {21, 67, 58},   {22, 75, 65},   {23, 83, 73},  {24, 91, 81}, {25, 100, 89},
		   {30, 151, 137}, {40, 286, 264}, {50, 466, 434}};
	uint64_t w = 0;

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(row); i++) {
		assert_true(cvb_signed_rank_critical(0.05, row[i].n, &w));
		assert_int_equal(w, row[i].at05);
		assert_true(cvb_signed_rank_critical(0.025, row[i].n, &w));
		assert_int_equal(w, row[i].at025);
	}
	assert_false(cvb_signed_rank_critical(0.05, 4, &w));
	assert_true(cvb_signed_rank_critical(0.05, 5, &w) && w == 0);
	assert_false(cvb_signed_rank_critical(0.0175, 5, &w));
	assert_true(cvb_signed_rank_critical(0.0175, 6, &w) && w == 0);
}

/* Where counting ends the approximation goes on without a step. */
static void signed_rank_approximation(void **state)
{
	(void)state;
	for (uint64_t w = 8000; w <= 12000; w += 500) {
		double mean = 200.0 * 201 / 4, sd = sqrt(200.0 * 201 * 401 / 24);

		assert_near(cvb_signed_rank_cdf(w, 200),
			    0.5 * erfc(-((double)w + 0.5 - mean) / sd * M_SQRT1_2), 6e-4);
	}
	assert_true(cvb_signed_rank_cdf(20100, 200) == 1 && cvb_signed_rank_cdf(0, 0) == 1);
}

static void bounds_of_a_location(void **state)
{
	static const double x[] = {1, 2, 4, 8, 16, 32};
	double lo, hi;

	(void)state;
	/* k = 3: Walsh averages 1, 1.5, 2, 2.5 …; from above 32, 24, 20 */
	assert_true(cvb_walsh_bounds(x, 6, 0.05, &lo, &hi));
	assert_true(lo == 2 && hi == 20);
	assert_true(cvb_walsh_bounds(x, 6, 0.0175, &lo, &hi));
	assert_true(lo == 1 && hi == 32);
	assert_false(cvb_walsh_bounds(x, 4, 0.05, &lo, &hi));
	assert_true(isnan(lo));
	/* sign test: P(B <= 0) = 1/64 at n = 6 */
	assert_true(cvb_quantile_bounds(x, 6, 0.5, 0.05, &lo, &hi));
	assert_true(lo == 1 && hi == 32);
	assert_false(cvb_quantile_bounds(x, 4, 0.5, 0.05, &lo, &hi));
	assert_true(isinf(lo) && isinf(hi));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(binomial_of_a_fair_coin),
		cmocka_unit_test(clopper_pearson),
		cmocka_unit_test(fisher_tea),
		cmocka_unit_test(signed_rank_is_counted),
		cmocka_unit_test(signed_rank_table),
		cmocka_unit_test(signed_rank_approximation),
		cmocka_unit_test(bounds_of_a_location),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
