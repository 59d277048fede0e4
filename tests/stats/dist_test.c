/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Student t and the incomplete beta function against exact values: closed sums, and numbers from
 * mpmath 1.3.0 (40 digits and more), of which R 4.2.2 (pt, qt, pbeta) gives the same to 1e-13.
 */
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

/*
 * P(|T| <= t) for whole df: the finite sums of Abramowitz & Stegun 26.7.3 (odd) and 26.7.4 (even)
 * in theta = atan(t / sqrt(df)).  All terms are positive.
 */
static long double two_sided(long double t, unsigned df)
{
	long double theta = atanl(t / sqrtl(df)), c = cosl(theta), s = sinl(theta);
	long double term = df % 2 ? c : 1, sum = 0;

	for (unsigned k = df % 2 ? 3 : 2; k <= df; k += 2) {
		sum += term;
		term *= c * c * (k - 1) / k;
	}
	return df % 2 ? 2 / acosl(-1) * (theta + s * sum) : s * sum;
}

/* Absolute 1e-13; relative 1e-10 where the sum still has that many digits in the tail. */
static void agrees_with_finite_sums(void **state)
{
	(void)state;
	for (unsigned df = 1; df <= 200; df++)
		for (double t = 1.0 / 1024; t < 60; t *= 1.25) {
			long double in = two_sided(t, df), tail = (1 - in) / 2;

			if (!(fabsl(cvb_t_sf(t, df) - tail) <= 1e-13L))
				fail_msg("df %u, t %g: tail %.17g, want %.17Lg", df, t,
					 cvb_t_sf(t, df), tail);
			assert_near(cvb_t_cdf(t, df), (double)((1 + in) / 2), 1e-13);
			if (tail > 1e-8L)
				assert_near(cvb_t_cdf(-t, df), (double)tail, 1e-10);
		}
}

/* The quantile put back into the finite sum. */
static void quantiles_invert_finite_sums(void **state)
{
	static const double tails[] = {0.4,    0.25, 0.1,   0.05, 0.025,
				       0.0175, 0.01, 0.005, 1e-3, 1e-5};

	(void)state;
	for (unsigned df = 1; df <= 200; df++)
		for (size_t i = 0; i < CVB_ARRAY_LEN(tails); i++) {
			double t = -cvb_t_quantile(tails[i], df);

			assert_near((double)((1 - two_sided(t, df)) / 2), tails[i], 1e-10);
		}
}

static void far_quantiles(void **state)
{
	static const struct {
		double tail, df, t;
	} rows[] = {
		{1e-12, 1, 318309886183.79067794},     {1e-12, 2, 707106.78118548687134},
		{1e-12, 3, 10331.108244292486204},     {1e-12, 5, 393.95695957760377025},
		{1e-12, 10, 40.532096178662596601},    {1e-12, 23, 13.511485162673800947},
		{1e-12, 100, 8.0258255944932530634},   {1e-12, 1000, 7.1242289253144091385},
		{1e-12, 1e6, 7.034572608411256618},    {2.5e-06, 1, 127323.95447089826432},
		{2.5e-06, 2, 447.21191844722786498},   {2.5e-06, 3, 76.104491653002509291},
		{2.5e-06, 5, 20.591326995414558584},   {2.5e-06, 10, 8.8121848763591301454},
		{2.5e-06, 23, 5.9129372457248806227},  {2.5e-06, 100, 4.8263527697235423232},
		{2.5e-06, 1000, 4.589828025727752324}, {2.5e-06, 1e6, 4.5648126510450751238},
		{0.005, 1, 63.65674116287157967},      {0.005, 2, 9.9248432009182930099},
		{0.005, 3, 5.8409093097333572173},     {0.005, 5, 4.0321429835552280573},
		{0.005, 10, 3.1692726726169512223},    {0.005, 23, 2.8073356837699989939},
		{0.005, 100, 2.625890521438017923},    {0.005, 1000, 2.5807546980659510721},
		{0.005, 1e6, 2.5758342201053341471},   {0.025, 1, 12.706204736174703938},
		{0.025, 2, 4.3026527297494637234},     {0.025, 3, 3.1824463052837095204},
		{0.025, 5, 2.570581835636315469},      {0.025, 10, 2.2281388519862747157},
		{0.025, 23, 2.0686576104190486243},    {0.025, 100, 1.9839715185235522621},
		{0.025, 1000, 1.9623390808264084612},  {0.025, 1e6, 1.9599663568141070115},
		{0.3, 1, 0.72654252800536093919},      {0.3, 2, 0.61721339984836768183},
		{0.3, 3, 0.58438972743981870658},      {0.3, 5, 0.55942964446936078524},
		{0.3, 10, 0.54152803875501569144},     {0.3, 23, 0.53174729931541319208},
		{0.3, 100, 0.52607627060034633238},    {0.3, 1000, 0.52456770730922693249},
		{0.3, 1e6, 0.52440067986020892095},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++)
		assert_near(-cvb_t_quantile(rows[i].tail, rows[i].df), rows[i].t, 1e-11);
}

static void far_tails(void **state)
{
	static const struct {
		double t, df, sf;
	} rows[] = {
		{0.5, 1, 0.35241638234956672582},	{7, 1, 0.045167235300866548351},
		{1000000, 1, 3.1830988618368456824e-7}, {1e+100, 3, 1.1026577908435840464e-300},
		{12.5, 4, 0.0001178080234463498953},	{3, 7.5, 0.0091954693041022551285},
		{25, 23, 1.7753947420689300995e-18},	{0.001, 1e6, 0.49960105788582454491},
		{2, 1e6, 0.022750266925659604211},	{7, 1e6, 1.2806120556870394286e-12},
		{38, 200, 9.7845415261941202838e-94},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++)
		assert_near(cvb_t_sf(rows[i].t, rows[i].df), rows[i].sf, 1e-10);
}

/* All x are binary fractions, so that x and 1 - x are exact. */
static void beta_table(void **state)
{
	static const struct {
		double a, b, x, want;
	} rows[] = {
		{2, 3, 0.25, 0.26171875},
		{0.5, 0.5, 0.125, 0.23005345616261588521},
		{30, 0.5, 0.9375, 0.050033043651457448828},
		{15.5, 17.25, 0.5, 0.62164409786752797087},
		{300, 700, 0.3125, 0.80646836956797501344},
		{5000, 6000, 0.4375, 0.00016017815179422991785},
		{500000, 500000, 0.5, 0.5},
		{500000.5, 400000, 0.5546875, 0.048697400259109800852},
		{0.001, 2, 0.5, 0.99980674653694774818},
		{2, 1000000, 9.5367431640625e-07, 0.24720543221806812179},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++)
		assert_near(cvb_beta_inc(rows[i].a, rows[i].b, rows[i].x, 1 - rows[i].x),
			    rows[i].want, 1e-12);
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
		cmocka_unit_test(quantiles_of_the_table),
		cmocka_unit_test(agrees_with_finite_sums),
		cmocka_unit_test(quantiles_invert_finite_sums),
		cmocka_unit_test(far_quantiles),
		cmocka_unit_test(far_tails),
		cmocka_unit_test(beta_table),
		cmocka_unit_test(closed_forms),
		cmocka_unit_test(tails_keep_their_digits),
		cmocka_unit_test(round_trip),
		cmocka_unit_test(beta_identities),
		cmocka_unit_test(edges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
