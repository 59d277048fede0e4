/* SPDX-License-Identifier: Apache-2.0 */
/* Verdicts from session values, worked by hand; estimators; adjusted p values; speed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/util.h"
#include "stats/gate.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

static void assert_near(double got, double want, double absolute)
{
	if (!(fabs(got - want) <= absolute))
		fail_msg("got %.17g, want %.17g", got, want);
}

/* n sessions of the log ratio centre -+ wobble, in turn. */
static struct cvb_gate_answer judge(double centre, double wobble, unsigned n,
				    struct cvb_gate_plan plan)
{
	unsigned rounds[64];
	double z[64];
	struct cvb_sessions s = {.n = n, .z = z, .rounds = rounds};
	struct cvb_gate_answer a;

	for (unsigned i = 0; i < n; i++) {
		z[i] = centre + (i % 2 ? wobble : -wobble);
		rounds[i] = 3;
	}
	plan.margin = plan.margin > 0 ? plan.margin : 0.99;
	assert_int_equal(cvb_gate_judge(&s, &plan, &a, NULL), 0);
	return a;
}

static const struct cvb_gate_plan looks = {.looks = {6, 10, 16, 24}, .n_looks = 4};

static void three_answers(void **state)
{
	struct cvb_gate_plan p = {0}, tost = {.rule = CVB_RULE_EQUIVALENCE};

	(void)state;
	assert_int_equal(judge(0, 0.002, 6, p).verdict, CVB_VERDICT_PASS);
	assert_int_equal(judge(-0.02, 0.002, 6, p).verdict, CVB_VERDICT_FAIL);
	assert_int_equal(judge(-0.01, 0.002, 6, p).verdict, CVB_VERDICT_INCONCLUSIVE);
	assert_int_equal(judge(0, 0.002, 6, tost).verdict, CVB_VERDICT_PASS);
	assert_int_equal(judge(0.02, 0.002, 6, p).verdict, CVB_VERDICT_PASS);
	assert_int_equal(judge(0.02, 0.002, 6, tost).verdict, CVB_VERDICT_FAIL);
	assert_int_equal(judge(0.01, 0.002, 6, tost).verdict, CVB_VERDICT_INCONCLUSIVE);
	assert_int_equal(cvb_gate_decide(0, NAN, NAN, 0.99), CVB_VERDICT_INCONCLUSIVE);
}

/* Exact agreement shows the instrument, not certainty; a stated resolution gives a width. */
static void no_spread_is_no_evidence(void **state)
{
	struct cvb_gate_plan p = {0};
	struct cvb_gate_answer a = judge(0, 0, 6, p);

	(void)state;
	assert_int_equal(a.verdict, CVB_VERDICT_INCONCLUSIVE);
	assert_true(isnan(a.ratio.lower) && !a.sessions_needed);
	assert_non_null(strstr(a.reason, "resolution"));
	p.resolution = 0.001;
	a = judge(0, 0, 6, p);
	assert_int_equal(a.verdict, CVB_VERDICT_PASS);
	assert_near(a.ratio.lower, 1 / 1.001, 1e-15);
	p.resolution = 0.1;
	assert_int_equal(judge(0, 0, 6, p).verdict, CVB_VERDICT_INCONCLUSIVE);
	assert_non_null(strstr(judge(0, 0.1, 1, (struct cvb_gate_plan){0}).reason, "one session"));
}

/* At alpha' = .0175 the bounds of six sessions are wider; the first look that decides stands. */
static void looks_are_taken_in_order(void **state)
{
	struct cvb_gate_answer a = judge(0, 0.002, 24, looks);

	(void)state;
	assert_near(a.alpha, 0.0175, 0);
	assert_true(a.look == 1 && a.ratio.sessions == 6 && a.ratio.method == CVB_METHOD_T_HL);
	/* seven sessions: six were looked at, the seventh waits for the tenth */
	a = judge(0, 0.012, 7, looks);
	assert_int_equal(a.verdict, CVB_VERDICT_INCONCLUSIVE);
	assert_true(a.look == 0 && a.next_look == 10 && a.sessions_needed >= 10);
	/* .009: t(.9825, 5) .00986 / sqrt(6) = .0116 is too wide, .0074 at ten sessions is not */
	a = judge(0, 0.009, 24, looks);
	assert_true(a.verdict == CVB_VERDICT_PASS && a.look == 2 && a.ratio.sessions == 10);
	a = judge(0, 0.002, 5, looks);
	assert_true(a.verdict == CVB_VERDICT_INCONCLUSIVE && a.next_look == 6);
}

/* Where no more sessions come, the look that cannot be reached is held at what there is. */
static void a_final_look_takes_what_there_is(void **state)
{
	struct cvb_gate_plan p = looks;
	struct cvb_gate_answer a;

	(void)state;
	p.final = true;
	a = judge(0, 0.009, 9, p);
	assert_true(a.verdict == CVB_VERDICT_PASS && a.look == 2 && a.ratio.sessions == 9);
	assert_near(a.alpha, 0.0175, 0);
	/* nothing new since the first look: it is not held twice */
	a = judge(0, 0.009, 6, p);
	assert_true(a.verdict == CVB_VERDICT_INCONCLUSIVE && !a.next_look);
	assert_non_null(strstr(a.reason, "no planned look is left"));
}

/* The reason never says that an interval contains a margin which it does not contain. */
static void reasons_of_open_looks_are_true(void **state)
{
	struct cvb_gate_plan p = looks;
	struct cvb_gate_answer a = judge(0, 0.009, 9, p);

	(void)state;
	assert_true(a.ratio.lower > p.margin);
	assert_non_null(strstr(a.reason, "the next planned look is at 10"));
	p.n_looks = 1;
	p.alpha = 0.0175;
	a = judge(0, 0.009, 9, p);
	assert_int_equal(a.verdict, CVB_VERDICT_INCONCLUSIVE);
	assert_non_null(strstr(a.reason, "undecided at the last planned look, after 6 sessions"));
	assert_non_null(strstr(a.reason, "would say PASS"));
}

static void plans_that_make_no_sense(void **state)
{
	static const char *const bad[] = {
		"",	 "6,", "6,6", "1,2", "a", "6;7", "-6", "1,2,3,4,5,6", "2,3,4,5,6,7,8,9,10",
		"6,1001"};
	unsigned got[CVB_GATE_MAX_LOOKS], n = 0;

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++)
		assert_int_equal(cvb_gate_parse_looks(bad[i], got, &n, NULL), -EINVAL);
	assert_int_equal(cvb_gate_parse_looks("6, 10,16,24", got, &n, NULL), 0);
	assert_true(n == 4 && got[0] == 6 && got[3] == 24);
}

/* Two sessions of two rounds, times: one stall in test that the median does not see fully. */
static void estimators_by_hand(void **state)
{
	const struct cvb_pair p[] = {{1, 1, 1, 1}, {1, 2, 1, 1}, {1, 3, 1, 4},
				     {2, 1, 2, 2}, {2, 2, 2, 2}, {2, 3, 2, 5}};
	static const double want[][2] = {{0, 0}, /* Walsh: 0 0 0 ln4/2 ln4/2 ln4: median below */
					 {3.0 / 6, 6.0 / 9},
					 {1.0 / 4, 2.0 / 5},
					 {2.25 / 3, 1.2 / 1.5}};
	struct cvb_sessions s;

	(void)state;
	for (int e = CVB_RATIO_THROUGHPUT; e <= CVB_RATIO_MEAN; e++) {
		assert_int_equal(cvb_sessions_make(&s, p, 6, true, (enum cvb_ratio_estimator)e,
						   CVB_PAIRING_PAIR, NULL),
				 0);
		assert_near(exp(s.z[0]), want[e][0], 1e-12);
		assert_near(exp(s.z[1]), want[e][1], 1e-12);
		cvb_sessions_done(&s);
	}
	assert_int_equal(
		cvb_sessions_make(&s, p, 6, true, CVB_RATIO_LOCATION, CVB_PAIRING_PAIR, NULL), 0);
	assert_near(s.z[0], -log(4) / 4, 1e-12);
	cvb_sessions_done(&s);
}

/* Without rounds that belong together each arm has its own location: 1, 2, 6 and 4, 1, 1. */
static void blocks_have_a_location_per_arm(void **state)
{
	const struct cvb_pair p[] = {
		{1, 1, exp(1), exp(4)}, {1, 2, exp(2), exp(1)}, {1, 3, exp(6), exp(1)}};
	struct cvb_sessions s;

	(void)state;
	assert_int_equal(
		cvb_sessions_make(&s, p, 3, false, CVB_RATIO_LOCATION, CVB_PAIRING_BLOCK, NULL), 0);
	/* Walsh: 1 1.5 2 3.5 4 6 and 1 1 1 2.5 2.5 4 */
	assert_near(s.z[0], 1.75 - 2.75, 1e-12);
	cvb_sessions_done(&s);
	assert_int_equal(
		cvb_sessions_make(&s, p, 3, false, CVB_RATIO_LOCATION, CVB_PAIRING_PAIR, NULL), 0);
	/* of 3 -1 -5: -5 -3 -1 -1 1 3 */
	assert_near(s.z[0], -1, 1e-12);
	cvb_sessions_done(&s);
}

/* Welch: var 1 and 4, n 4 and 4 gives df = (1/4 + 4/4)^2 / ((1/16 + 1) / 3) = 4.41176… */
static void welch_by_hand(void **state)
{
	const double a = sqrt(0.75);
	const double base[] = {-a, a, -a, a}, test[] = {-2 * a, 2 * a, -2 * a, 2 * a};
	struct cvb_bounds_of of = {.alpha = 0.05};
	struct cvb_ratio r;

	(void)state;
	assert_int_equal(cvb_ratio_welch(base, 4, test, 4, &of, &r, NULL), 0);
	assert_near(r.df, 1.5625 / (1.0625 / 3), 1e-12);
	assert_near(r.ratio, 1, 1e-15);
	assert_near(r.lower * r.upper, 1, 1e-12);
	assert_int_equal(cvb_ratio_welch(base, 1, test, 4, &of, &r, NULL), 0);
	assert_false(r.has_interval);
}

static void fieller_by_hand(void **state)
{
	/* constant base 2: the bounds are those of the mean of test, halved; t(.95, 2) = 2.91998558
	 */
	const double base[] = {2, 2, 2}, test[] = {3, 4, 5}, wild[] = {1e-6, 10, 1e-6};
	struct cvb_bounds_of of = {.alpha = 0.05};
	struct cvb_ratio r;

	(void)state;
	assert_int_equal(cvb_ratio_fieller(base, test, 3, &of, &r, NULL), 0);
	assert_near(r.ratio, 2, 1e-14);
	assert_near(r.lower, (4 - 2.919985580355516 / sqrt(3)) / 2, 1e-11);
	assert_near(r.upper, (4 + 2.919985580355516 / sqrt(3)) / 2, 1e-11);
	assert_int_equal(cvb_ratio_fieller(wild, test, 3, &of, &r, NULL), 0);
	assert_true(!r.has_interval && r.why == CVB_INTERVAL_UNBOUNDED && isnan(r.lower));
}

static void adjusted_p_values(void **state)
{
	const double p[] = {0.01, 0.04, NAN, 0.03, 0.005};
	static const double holm[] = {0.03, 0.06, 0, 0.06, 0.02};
	static const double bh[] = {0.02, 0.04, 0, 0.04, 0.02};
	double got[5];

	(void)state;
	assert_int_equal(cvb_holm(p, 5, got), 0);
	for (size_t i = 0; i < 5; i++)
		assert_true(i == 2 ? isnan(got[i]) : fabs(got[i] - holm[i]) < 1e-15);
	assert_int_equal(cvb_benjamini_hochberg(p, 5, got), 0);
	for (size_t i = 0; i < 5; i++)
		assert_true(i == 2 ? isnan(got[i]) : fabs(got[i] - bh[i]) < 1e-15);
}

static void spikes_are_counted(void **state)
{
	struct cvb_pair p[20];
	struct cvb_spikes s;

	(void)state;
	for (unsigned i = 0; i < 20; i++)
		p[i] = (struct cvb_pair){1, i, 100 + i % 3, 100 + (i + 1) % 3};
	p[7].test = p[13].test = 50; /* rates: a spike is slow, so low */
	p[4].base = 200;	     /* fast: not counted */
	assert_int_equal(cvb_spikes_count(p, 20, false, 0.05, &s, NULL), 0);
	assert_true(s.base == 0 && s.test == 2 && s.rounds == 20);
	assert_near(s.p, 20.0 * 19 / (40 * 39), 1e-12);
}

static void verdict_of_24_by_24_is_quick(void **state)
{
	struct cvb_pair p[24 * 24];
	struct timespec t0, t1;

	(void)state;
	for (unsigned i = 0; i < 24 * 24; i++)
		p[i] = (struct cvb_pair){i / 24, i % 24, 100 + (i * 37) % 11, 100 + (i * 53) % 13};
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t0);
	for (unsigned k = 0; k < 20; k++) {
		struct cvb_sessions s;
		struct cvb_gate_plan plan = looks;
		struct cvb_gate_answer a;

		plan.margin = 0.99;
		assert_int_equal(cvb_sessions_make(&s, p, 24 * 24, false, CVB_RATIO_LOCATION,
						   CVB_PAIRING_PAIR, NULL),
				 0);
		assert_int_equal(cvb_gate_judge(&s, &plan, &a, NULL), 0);
		cvb_sessions_done(&s);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t1);

	double ms =
		((double)(t1.tv_sec - t0.tv_sec) * 1e3 + (double)(t1.tv_nsec - t0.tv_nsec) / 1e6) /
		20;

	print_message("one verdict on 24 x 24: %.3f ms\n", ms);
	assert_true(ms < 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(three_answers),
		cmocka_unit_test(no_spread_is_no_evidence),
		cmocka_unit_test(looks_are_taken_in_order),
		cmocka_unit_test(a_final_look_takes_what_there_is),
		cmocka_unit_test(reasons_of_open_looks_are_true),
		cmocka_unit_test(plans_that_make_no_sense),
		cmocka_unit_test(estimators_by_hand),
		cmocka_unit_test(blocks_have_a_location_per_arm),
		cmocka_unit_test(welch_by_hand),
		cmocka_unit_test(fieller_by_hand),
		cmocka_unit_test(adjusted_p_values),
		cmocka_unit_test(spikes_are_counted),
		cmocka_unit_test(verdict_of_24_by_24_is_quick),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
