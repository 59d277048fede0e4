/* SPDX-License-Identifier: Apache-2.0 */
/* The ratio estimator: an example by hand, its coverage, and what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/util.h"
#include "stats/describe.h"
#include "stats/ratio.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static void assert_near(double got, double want, double absolute)
{
	if (!(fabs(got - want) <= absolute))
		fail_msg("got %.17g, want %.17g", got, want);
}

/* splitmix64 (Vigna, public domain) and Box-Muller: the same numbers on every machine. */
static uint64_t rng_state;

static double uniform(void)
{
	uint64_t z = rng_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return ((double)((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static double gauss(void)
{
	double r = sqrt(-2 * log(uniform()));

	return r * cos(2 * M_PI * uniform());
}

/*
 * Session 1 has log-ratios .01 .02 .06; their Walsh averages .01 .015 .02 .035 .04 .06 have the
 * median .0275.  Session 2 has .0125 alone.  Mean .02, sd .015/sqrt(2), t(.95, 1) = 6.3137515:
 * half-width 6.3137515 x .0075 = .0473531.
 */
static const double by_hand_y[] = {0.01, 0.02, 0.06, 0.0125};
static const unsigned by_hand_session[] = {1, 1, 1, 2};

static size_t by_hand_pairs(struct cvb_pair *p, bool lower)
{
	for (size_t i = 0; i < 4; i++) {
		double factor = exp(lower ? -by_hand_y[i] : by_hand_y[i]);

		/* the machine drifts from round to round: pairing takes it out */
		p[i] = (struct cvb_pair){.session = by_hand_session[i],
					 .round = (unsigned)i + 1,
					 .base = 100.0 + 40.0 * (double)i};
		p[i].test = p[i].base * factor;
	}
	return 4;
}

static void by_hand(void **state)
{
	struct cvb_pair p[4];
	struct cvb_ratio r;

	(void)state;
	for (int lower = 0; lower < 2; lower++) {
		size_t n = by_hand_pairs(p, lower);

		assert_int_equal(cvb_ratio_paired(p, n, lower, 0.05, &r, NULL), 0);
		assert_near(r.log_mean, 0.02, 1e-12);
		assert_near(r.log_sd, 0.015 / M_SQRT2, 1e-12);
		assert_near(r.ratio, exp(0.02), 1e-12);
		assert_near(r.lower, exp(0.02 - 0.04735313636006282), 1e-12);
		assert_near(r.upper, exp(0.02 + 0.04735313636006282), 1e-12);
		assert_int_equal(r.sessions, 2);
		assert_int_equal(r.rounds, 4);
	}
}

static void order_does_not_matter(void **state)
{
	struct cvb_pair p[4], q[4];
	struct cvb_ratio r, s;

	(void)state;
	by_hand_pairs(p, false);
	for (size_t i = 0; i < 4; i++)
		q[i] = p[3 - i];
	assert_int_equal(cvb_ratio_paired(p, 4, false, 0.05, &r, NULL), 0);
	assert_int_equal(cvb_ratio_paired(q, 4, false, 0.05, &s, NULL), 0);
	assert_memory_equal(&r.ratio, &s.ratio, sizeof(r.ratio));
	assert_memory_equal(&r.upper, &s.upper, sizeof(r.upper));
}

static void one_session_has_no_interval(void **state)
{
	struct cvb_pair p[4];
	struct cvb_ratio r;

	(void)state;
	by_hand_pairs(p, false);
	assert_int_equal(cvb_ratio_paired(p, 3, false, 0.05, &r, NULL), 0);
	assert_near(r.ratio, exp(0.0275), 1e-12);
	assert_false(r.has_interval);
	assert_true(isnan(r.lower) && isnan(r.upper) && isnan(r.log_sd));
	assert_int_equal(cvb_ratio_sessions_needed(&r, 0.95, 0.05, 1000), 0);
}

static void refuses_impossible_values(void **state)
{
	static const double bad[] = {0, -1, NAN, INFINITY};
	struct cvb_pair p[4];
	struct cvb_ratio r;

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
		struct cvb_err err = {0};

		by_hand_pairs(p, false);
		p[2].test = bad[i];
		assert_int_equal(cvb_ratio_paired(p, 4, false, 0.05, &r, &err), -EINVAL);
		assert_non_null(strstr(err.frame[0].msg, "session 1 round 3"));
		assert_non_null(strstr(err.frame[0].msg, "test"));
		p[2].test = 1;
		p[1].base = bad[i];
		assert_int_equal(cvb_ratio_paired(p, 4, false, 0.05, &r, &err), -EINVAL);
		assert_non_null(strstr(err.frame[0].msg, "base"));
	}
	assert_int_equal(cvb_ratio_paired(p, 0, false, 0.05, &r, NULL), -EINVAL);
	assert_int_equal(cvb_ratio_paired(p, 1, false, 0.5, &r, NULL), -EINVAL);
	assert_int_equal(cvb_ratio_paired(p, 1, false, NAN, &r, NULL), -EINVAL);
}

static void extreme_values_do_not_overflow(void **state)
{
	const struct cvb_pair p[] = {{1, 1, 1e-300, 1e300}, {2, 1, 1e-300, 1e300}};
	struct cvb_ratio r;

	(void)state;
	assert_int_equal(cvb_ratio_paired(p, 2, false, 0.05, &r, NULL), 0);
	assert_near(r.log_mean, 600 * M_LN10, 1e-9);
	/* sessions that agree exactly show the instrument's resolution, not certainty */
	assert_true(!r.has_interval && r.log_sd == 0 && isnan(r.lower) && isnan(r.upper));
	assert_int_equal(r.why, CVB_INTERVAL_NO_SPREAD);
}

/* Hodges-Lehmann against the definition, on many small and tied samples. */
static void hodges_lehmann_is_exact(void **state)
{
	double x[12], walsh[78];

	(void)state;
	rng_state = 11;
	for (unsigned trial = 0; trial < 2000; trial++) {
		size_t n = 1 + trial % 12, k = 0;

		for (size_t i = 0; i < n; i++)
			x[i] = trial % 3 ? gauss() : floor(4 * uniform()) - 2;
		for (size_t a = 0; a < n; a++)
			for (size_t b = a; b < n; b++)
				walsh[k++] = x[a] / 2 + x[b] / 2;
		cvb_sort_doubles(walsh, k);
		assert_near(cvb_hodges_lehmann(x, n), cvb_median_sorted(walsh, k), 1e-15);
	}
}

static void hodges_lehmann_of_many(void **state)
{
	const size_t n = 200000;
	_cleanup_free_ double *x = calloc(n, sizeof(*x));

	(void)state;
	assert_non_null(x);
	rng_state = 12;
	for (size_t i = 0; i < n; i++)
		x[i] = 5 + gauss();
	assert_near(cvb_hodges_lehmann(x, n), 5, 0.02);
}

static void sessions_needed(void **state)
{
	/* sd .02, .01 from the margin: t(.95, S-1) x .02 / sqrt(S) <= .01 first holds at S = 13
	 * (t(.95, 12) = 1.78229: .009886; t(.95, 11) = 1.79588: .010368) */
	struct cvb_ratio r = {
		.log_mean = log(0.95) + 0.01, .log_sd = 0.02, .sessions = 3, .has_interval = true};

	(void)state;
	assert_int_equal(cvb_ratio_sessions_needed(&r, 0.95, 0.05, 1000), 13);
	r.log_mean = log(0.95); /* on the margin: never */
	assert_int_equal(cvb_ratio_sessions_needed(&r, 0.95, 0.05, 1000), 0);
}

/*
 * Coverage: sessions differ by .7 %, rounds within a session by 1 %.  A one-sided 95 % bound must
 * miss the truth about one time in twenty; treating rounds as independent would miss 20 %.
 */
static void bounds_cover(void **state)
{
	enum {
		REPS = 4000,
		SESSIONS = 6,
		ROUNDS = 4
	};
	unsigned below = 0, above = 0;

	(void)state;
	rng_state = 20250131;
	for (unsigned rep = 0; rep < REPS; rep++) {
		struct cvb_pair p[SESSIONS * ROUNDS];
		struct cvb_ratio r;
		size_t n = 0;

		for (unsigned s = 1; s <= SESSIONS; s++) {
			double effect = log(0.97) + 0.007 * gauss();

			for (unsigned k = 1; k <= ROUNDS; k++, n++) {
				p[n] = (struct cvb_pair){
					.session = s, .round = k, .base = exp(0.02 * gauss())};
				p[n].test = p[n].base * exp(effect + 0.01 * gauss());
			}
		}
		assert_int_equal(cvb_ratio_paired(p, n, false, 0.05, &r, NULL), 0);
		below += r.upper < 0.97;
		above += r.lower > 0.97;
	}
	print_message("missed: lower bound %.2f %%, upper bound %.2f %%\n", 100.0 * above / REPS,
		      100.0 * below / REPS);
	assert_in_range(above, REPS * 3 / 100, REPS * 7 / 100);
	assert_in_range(below, REPS * 3 / 100, REPS * 7 / 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_hand),
		cmocka_unit_test(order_does_not_matter),
		cmocka_unit_test(one_session_has_no_interval),
		cmocka_unit_test(refuses_impossible_values),
		cmocka_unit_test(extreme_values_do_not_overflow),
		cmocka_unit_test(hodges_lehmann_is_exact),
		cmocka_unit_test(hodges_lehmann_of_many),
		cmocka_unit_test(sessions_needed),
		cmocka_unit_test(bounds_cover),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
