/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exact distributions against counting in whole numbers, and against numbers from exact rational
 * arithmetic (Python integers; 40 digits where they grow too large), of which R 4.2.2 (pbinom,
 * qbeta, phyper, qsignrank) gives the same to 1e-13.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/util.h"
#include "stats/exact.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

typedef unsigned __int128 count128;

static void assert_near(double got, double want, double absolute)
{
	if (!(fabs(got - want) <= absolute))
		fail_msg("got %.17g, want %.17g", got, want);
}

static void assert_relative(double got, double want, double relative)
{
	assert_near(got, want, relative * fabs(want));
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
	assert_true(isnan(cvb_binom_pmf(1, 2, 1.5)) && isnan(cvb_binom_cdf(1, 2, NAN)));
}

/* p = 1/4: every probability is a whole number over 4^n. */
static void binomial_of_a_quarter(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 60; n++) {
		count128 term[61] = {1}, below = 0, all = (count128)1 << (2 * n);
		double scale = ldexp(1, -2 * (int)n);

		/* row n of (3 + x)^n */
		for (unsigned i = 1; i <= n; i++)
			for (unsigned k = i + 1; k-- > 0;)
				term[k] = 3 * term[k] + (k ? term[k - 1] : 0);
		for (unsigned k = 0; k <= n; k++) {
			double sf = (double)(all - below) * scale;

			below += term[k];
			assert_relative(cvb_binom_pmf(k, n, 0.25), (double)term[k] * scale, 1e-13);
			assert_relative(cvb_binom_cdf(k, n, 0.25), (double)below * scale, 1e-12);
			assert_relative(cvb_binom_sf(k, n, 0.25), sf, 1e-12);
		}
	}
}

/* Up to a million trials; p is the binary number nearest to the decimal one. */
static void binomial_table(void **state)
{
	static const struct {
		uint64_t k, n;
		double p, pmf, cdf, sf;
	} rows[] = {
		{3, 24, 0.1, 0.22146403400218102323, 0.78573776095339022279,
		 0.43572627304879080044},
		{20, 24, 0.95, 0.023807946321957373463, 0.029782496908446114573,
		 0.99402544941351125889},
		{0, 576, 0.001, 0.56198046350228998241, 0.56198046350228998241, 1.0},
		{9, 576, 0.005, 0.0020567344678760235413, 0.99921685697756468053,
		 0.0028398774903113430156},
		{30, 576, 0.02, 1.9752481742178705171e-6, 0.99999892087339831933,
		 3.0543747758985369733e-6},
		{288, 576, 0.5, 0.033230763835659390151, 0.51661538191782969508,
		 0.51661538191782969508},
		{350, 576, 0.5, 4.8930824716402390456e-8, 0.99999991449148253589,
		 1.344393421805117848e-7},
		{7, 1000, 0.001, 0.00007193814971345094954, 0.99998996812938524361,
		 0.00008197002032820734319},
		{4900, 10000, 0.5, 0.0010798643294333557446, 0.02329276385247369439,
		 0.97778710047695966135},
		{90, 10000, 0.0125, 0.00017306641532189665462, 0.00057676079324435001805,
		 0.99959630562207754664},
		{10100, 1000000, 0.01, 0.002411735290877382726, 0.84376050314507679082,
		 0.1586512321458005919},
		{500000, 1000000, 0.5, 0.00079788436133175008909, 0.50039894218066587504,
		 0.50039894218066587504},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++) {
		uint64_t k = rows[i].k, n = rows[i].n;

		assert_relative(cvb_binom_pmf(k, n, rows[i].p), rows[i].pmf, 1e-12);
		assert_relative(cvb_binom_cdf(k, n, rows[i].p), rows[i].cdf, 1e-11);
		assert_relative(cvb_binom_sf(k, n, rows[i].p), rows[i].sf, 1e-11);
	}
}

static void clopper_pearson_table(void **state)
{
	static const struct {
		uint64_t k, n;
		double alpha, lower, upper;
	} rows[] = {
		{1, 24, 0.05, 0.002134938369701544868, 0.18289246975564637559},
		{12, 24, 0.025, 0.29124177983621195291, 0.70875822016378804709},
		{23, 24, 0.0175, 0.77486355753406949761, 0.99926464820213835403},
		{1, 576, 0.05, 0.000089046893401730406779, 0.0082091586480430004467},
		{5, 576, 0.01, 0.0022259349348031429575, 0.022598032292354325809},
		{40, 576, 0.05, 0.052833490336110257018, 0.089441819320367935126},
		{3, 10, 0.025, 0.066739511177734468518, 0.65245285005999729166},
		{2, 10000, 0.025, 0.000024221845640429847286, 0.00072228005772371593446},
	};
	double lo, hi;

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++) {
		cvb_binom_bounds(rows[i].k, rows[i].n, rows[i].alpha, &lo, &hi);
		assert_relative(lo, rows[i].lower, 1e-12);
		assert_relative(hi, rows[i].upper, 1e-12);
	}
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

static uint64_t choose(unsigned n, unsigned k)
{
	uint64_t c = 1;

	for (unsigned i = 0; i < k; i++)
		c = c * (n - i) / (i + 1);
	return k > n ? 0 : c;
}

/* Every table with both margins up to 12, by whole binomial coefficients. */
static void fisher_by_counting(void **state)
{
	(void)state;
	for (unsigned n1 = 1; n1 <= 12; n1++)
		for (unsigned n2 = 1; n2 <= 12; n2++)
			for (unsigned k1 = 0; k1 <= n1; k1++)
				for (unsigned k2 = 0; k2 <= n2; k2++) {
					unsigned k = k1 + k2;
					uint64_t sum = 0;

					for (unsigned i = k2; i <= cvb_min(k, n2); i++)
						sum += choose(n2, i) * choose(n1, k - i);
					assert_relative(cvb_rates_p(k1, n1, k2, n2),
							(double)sum / (double)choose(n1 + n2, k),
							1e-13);
				}
}

static void fisher_table(void **state)
{
	static const struct {
		uint64_t k1, n1, k2, n2;
		double p;
	} rows[] = {
		{2, 24, 9, 24, 0.018164804264416868658},
		{0, 576, 4, 576, 0.062174338128043953152},
		{3, 576, 15, 576, 0.0035493009231667658037},
		{40, 576, 44, 576, 0.36704363650090983311},
		{5, 1000, 40, 3000, 0.01746547642485204047},
		{0, 100000, 30, 100000, 9.2929885110637136415e-10},
		{250, 500, 380, 500, 8.2663335883975415109e-18},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++)
		assert_relative(cvb_rates_p(rows[i].k1, rows[i].n1, rows[i].k2, rows[i].n2),
				rows[i].p, 1e-11);
}

/* Each of the 2^n sign patterns once, in Gray's order: one sign changes per step. */
static void signed_rank_of_every_pattern(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 20; n++) {
		unsigned count[211] = {1}, sum = 0, w = 0, positive = 0;

		for (unsigned step = 1; step < 1U << n; step++) {
			unsigned rank = (unsigned)__builtin_ctz(step) + 1;

			positive ^= 1U << rank;
			w = positive >> rank & 1 ? w + rank : w - rank;
			count[w]++;
		}
		for (w = 0; w <= n * (n + 1) / 2; w++) {
			sum += count[w];
			assert_true(cvb_signed_rank_cdf(w, n) == ldexp(sum, -(int)n));
		}
		assert_true(sum == 1U << n);
	}
}

/* Subsets of 1 to n with sum w, for all w, as whole numbers: below 2^126. */
static void count_subsets(unsigned n, count128 *count)
{
	unsigned all = n * (n + 1) / 2;

	memset(count, 0, (all + 1) * sizeof(*count));
	count[0] = 1;
	for (unsigned i = 1; i <= n; i++)
		for (unsigned w = all; w >= i; w--)
			count[w] += count[w - i];
}

/* On both sides of CVB_SIGNED_RANK_EXACT_MAX there is one and the same distribution. */
static void signed_rank_in_whole_numbers(void **state)
{
	static const unsigned ns[] = {21, 40, 62, 63, 100, 101, 102, 126};
	static count128 count[126 * 127 / 2 + 1];

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(ns); i++) {
		unsigned n = ns[i];
		count128 sum = 0;

		count_subsets(n, count);
		for (unsigned w = 0; w <= n * (n + 1) / 2; w++) {
			sum += count[w];
			if (n > 63 && w % 31) /* enough of them, for time */
				continue;

			double want = ldexp((double)sum, -(int)n), got = cvb_signed_rank_cdf(w, n);

			if (n <= CVB_SIGNED_RANK_EXACT_MAX)
				assert_relative(got, want, 4e-15);
			else if (want < CVB_SIGNED_RANK_LEAST)
				assert_true(got == CVB_SIGNED_RANK_LEAST);
			else
				assert_near(got, want, 1e-14);
		}
		assert_true(sum == (count128)1 << n);
	}
	assert_true(cvb_signed_rank_cdf(20100, 200) == 1 && cvb_signed_rank_cdf(0, 0) == 1);
}

/* What is kept for one n is not another's, whoever asks first, and in whatever order. */
static void *ask_in_turn(void *arg)
{
	static const size_t ns[] = {90, 12, 505, 90, 101, 12, 500, 1500, 100, 505};
	double *sum = arg;

	for (size_t i = 0; i < CVB_ARRAY_LEN(ns); i++) {
		size_t n = ns[i], all = n * (n + 1) / 2;
		uint64_t w = 0;

		/* symmetric about the middle, where it is about 1/2, and the same on both ways */
		sum[i] = cvb_signed_rank_cdf(all / 2 - n, n);
		assert_near(sum[i] + cvb_signed_rank_cdf(all - all / 2 + n - 1, n), 1, 1e-12);
		assert_true(sum[i] > 0.1 && sum[i] < 0.5);
		assert_true(cvb_signed_rank_critical(0.05, n, &w));
		assert_true(cvb_signed_rank_cdf(w, n) <= 0.05);
		assert_true(cvb_signed_rank_cdf(w + 1, n) > 0.05);
	}
	assert_true(sum[0] == sum[3] && sum[1] == sum[5] && sum[2] == sum[9]);
	return NULL;
}

static void signed_rank_from_many_threads(void **state)
{
	double sum[8][10];
	pthread_t t[8];

	(void)state;
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&t[i], NULL, ask_in_turn, sum[i]), 0);
	for (size_t i = 0; i < 8; i++) {
		pthread_join(t[i], NULL);
		assert_memory_equal(sum[i], sum[0], sizeof(sum[0]));
	}
}

/* The largest W with P <= alpha, one-sided; -1: there is none. */
static void signed_rank_critical_values(void **state)
{
	static const double alpha[] = {0.05, 0.025, 0.01, 0.005};
	/* the second column is sequence A226330 of the OEIS */
	static const struct {
		size_t n;
		int w[4];
	} rows[] = {
		{5, {0, -1, -1, -1}},	    {6, {2, 0, -1, -1}},	{7, {3, 2, 0, -1}},
		{8, {5, 3, 1, 0}},	    {9, {8, 5, 3, 1}},		{10, {10, 8, 5, 3}},
		{11, {13, 10, 7, 5}},	    {12, {17, 13, 9, 7}},	{13, {21, 17, 12, 9}},
		{14, {25, 21, 15, 12}},	    {15, {30, 25, 19, 15}},	{16, {35, 29, 23, 19}},
		{17, {41, 34, 27, 23}},	    {18, {47, 40, 32, 27}},	{19, {53, 46, 37, 32}},
		{20, {60, 52, 43, 37}},	    {21, {67, 58, 49, 42}},	{22, {75, 65, 55, 48}},
		{23, {83, 73, 62, 54}},	    {24, {91, 81, 69, 61}},	{25, {100, 89, 76, 68}},
		{26, {110, 98, 84, 75}},    {27, {119, 107, 92, 83}},	{28, {130, 116, 101, 91}},
		{29, {140, 126, 110, 100}}, {30, {151, 137, 120, 109}}, {31, {163, 147, 130, 118}},
		{32, {175, 159, 140, 128}}, {33, {187, 170, 151, 138}}, {34, {200, 182, 162, 148}},
		{35, {213, 195, 173, 159}}, {36, {227, 208, 185, 171}}, {37, {241, 221, 198, 182}},
		{38, {256, 235, 211, 194}}, {39, {271, 249, 224, 207}}, {40, {286, 264, 238, 220}},
		{41, {302, 279, 252, 233}}, {42, {319, 294, 266, 247}}, {43, {336, 310, 281, 261}},
		{44, {353, 327, 296, 276}}, {45, {371, 343, 312, 291}}, {46, {389, 361, 328, 307}},
		{47, {407, 378, 345, 322}}, {48, {426, 396, 362, 339}}, {49, {446, 415, 379, 355}},
		{50, {466, 434, 397, 373}},
	};
	uint64_t w = 0;

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++)
		for (size_t k = 0; k < CVB_ARRAY_LEN(alpha); k++)
			if (rows[i].w[k] < 0) {
				assert_false(cvb_signed_rank_critical(alpha[k], rows[i].n, &w));
			} else {
				assert_true(cvb_signed_rank_critical(alpha[k], rows[i].n, &w));
				assert_int_equal(w, rows[i].w[k]);
			}
	assert_false(cvb_signed_rank_critical(0.05, 4, &w));
	assert_false(cvb_signed_rank_critical(0.0175, 5, &w));
	assert_true(cvb_signed_rank_critical(0.0175, 6, &w) && w == 0);
	assert_false(cvb_signed_rank_critical(1e-60, 150, &w));
}

/* Far above what is counted out, by R's count. */
static void signed_rank_of_many(void **state)
{
	static const double alpha[] = {0.05, 0.025, 0.0175, 0.01, 0.005, 0.001, 1e-6};
	static const struct {
		size_t n;
		uint64_t w[7];
	} rows[] = {
		{200, {8701, 8444, 8323, 8146, 7944, 7529, 6211}},
		{500, {57307, 56290, 55812, 55110, 54307, 52655, 47350}},
		{1000, {235222, 232346, 230992, 229004, 226730, 222046, 206952}},
	};
	uint64_t w = 0;

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++)
		for (size_t k = 0; k < CVB_ARRAY_LEN(alpha); k++) {
			assert_true(cvb_signed_rank_critical(alpha[k], rows[i].n, &w));
			assert_int_equal(w, rows[i].w[k]);
		}
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
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(binomial_of_a_fair_coin),
		cmocka_unit_test(binomial_of_a_quarter),
		cmocka_unit_test(binomial_table),
		cmocka_unit_test(clopper_pearson),
		cmocka_unit_test(clopper_pearson_table),
		cmocka_unit_test(fisher_tea),
		cmocka_unit_test(fisher_by_counting),
		cmocka_unit_test(fisher_table),
		cmocka_unit_test(signed_rank_from_many_threads),
		cmocka_unit_test(signed_rank_of_every_pattern),
		cmocka_unit_test(signed_rank_in_whole_numbers),
		cmocka_unit_test(signed_rank_critical_values),
		cmocka_unit_test(signed_rank_of_many),
		cmocka_unit_test(bounds_of_a_location),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
