/* SPDX-License-Identifier: Apache-2.0 */
/* Each verdict from a small journal, what blocks a certificate, and the terminal table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "campaign/synth.h"
#include "campaign/verdict.h"
#include "core/file.h"
#include "stats/dist.h"

#include <errno.h>

static char dir[] = "/tmp/cvb-verdict-XXXXXX";
static char path[sizeof(dir) + 8];

#define TEXT(s) ((char *)(uintptr_t)(s))

static struct cvb_gate gate(const char *id, const char *metric, const char *arm, const char *base)
{
	return (struct cvb_gate){.id = TEXT(id),
				 .metric = TEXT(metric),
				 .arm = TEXT(arm),
				 .base = TEXT(base),
				 .margin = 0.95};
}

static struct cvb_gate triad(const char *id)
{
	return gate(id, "mem.stream/triad", "vm", "native");
}

static json_t *judge_gates(struct synth c, const struct cvb_gate *gates, size_t n)
{
	struct cvb_model *m = NULL;
	struct cvb_err err = {0};
	json_t *v = NULL;

	synth_write(path, c);
	if (cvb_model_load(&m, path, &err) < 0)
		fail_msg("%s", err.frame[0].msg);
	assert_int_equal(cvb_verdict_judge(m, gates, n, &v, &err), 0);
	cvb_model_free(m);
	return v;
}

static json_t *judge(struct synth c)
{
	const struct cvb_gate g = triad("g");

	return judge_gates(c, &g, 1);
}

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "(none)";
}

static const json_t *first(const json_t *v)
{
	return json_array_get(json_object_get(v, "gates"), 0);
}

static double number(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return json_is_number(v) ? json_number_value(v) : NAN;
}

/* Does a text of "why_not" hold the word? */
static bool why_not_has(const json_t *v, const char *word)
{
	const json_t *s;
	size_t i;

	json_array_foreach (json_object_get(v, "why_not"), i, s) {
		if (strstr(json_string_value(s), word))
			return true;
	}
	return false;
}

static void expect(json_t *v, const char *verdict, int exit_code, const char *reason)
{
	const json_t *g = first(v);

	if (strcmp(text(g, "verdict"), verdict) != 0)
		fail_msg("verdict %s, want %s: %s", text(g, "verdict"), verdict, text(g, "reason"));
	assert_string_equal(text(v, "overall"), verdict);
	assert_int_equal(cvb_verdict_exit(v), exit_code);
	if (!strstr(text(g, "reason"), reason))
		fail_msg("\"%s\" does not say \"%s\"", text(g, "reason"), reason);
	json_decref(v);
}

/*
 * Six sessions of ratio .98 exp(+-.01): mean ln .98, sd .01 sqrt(6/5), t(.95, 5) = 2.01504837: a
 * half width of .009011.  The signed-rank bound is the third smallest Walsh average (P(W <= 2) =
 * 3/64),
 * -.01, since six of them are; it is the wider one and counts.
 */
static void pass_with_the_right_numbers(void **state)
{
	double half = 0.01;
	json_t *v = judge((struct synth){.vm_ratio = 0.98, .vm_wobble = 0.01});
	const json_t *g = first(v);

	(void)state;
	assert_string_equal(text(v, "schema"), "cvmbench.verdict/1");
	assert_string_equal(text(v, "profile"), "synth");
	assert_true(fabs(number(g, "ratio") - 0.98) < 1e-12);
	assert_true(fabs(number(g, "lower") - 0.98 * exp(-half)) < 1e-12);
	assert_true(fabs(number(g, "upper") - 0.98 * exp(half)) < 1e-12);
	assert_true(number(g, "sessions") == 6 && number(g, "rounds") == 12);
	assert_string_equal(text(g, "pairing"), "pair");
	assert_string_equal(text(g, "kind"), "non-inferiority");
	assert_true(json_is_true(json_object_get(v, "certifiable")));
	assert_int_equal(json_array_size(json_object_get(v, "why_not")), 0);
	expect(v, "PASS", 0, "lower bound");
}

static void fail_below_the_margin(void **state)
{
	(void)state;
	expect(judge((struct synth){.vm_ratio = 0.9, .vm_wobble = 0.01}), "FAIL", 1, "upper bound");
}

/* The same numbers where lower is better: the arm with the smaller value is the faster one. */
static void direction_counts(void **state)
{
	json_t *v = judge((struct synth){.vm_ratio = 0.9, .vm_wobble = 0.01, .better = "lower"});

	(void)state;
	assert_true(fabs(number(first(v), "ratio") - 1 / 0.9) < 1e-12);
	expect(v, "PASS", 0, "lower bound");
}

static void inconclusive_says_how_many(void **state)
{
	json_t *v = judge((struct synth){.vm_ratio = 0.955, .vm_wobble = 0.02});

	(void)state;
	/* sd .021909, distance ln(.955/.95) = .0052493; t(.95, S-1) .021909 / sqrt(S) is
	 * .0052495 at 49 (t 1.67722) and .0051946 at 50 */
	assert_true(number(first(v), "sessions_needed") == 50);
	expect(v, "INCONCLUSIVE", 3, "50 sessions");
}

static void one_session_is_inconclusive(void **state)
{
	json_t *v = judge((struct synth){.sessions = 1, .vm_ratio = 0.5});

	(void)state;
	assert_true(json_is_null(json_object_get(first(v), "lower")));
	assert_true(why_not_has(v, "plans 1 session;"));
	expect(v, "INCONCLUSIVE", 3, "one session");
}

static void aa_that_excludes_one_is_invalid(void **state)
{
	json_t *v = judge((struct synth){
		.vm_ratio = 0.98, .vm_wobble = 0.001, .aa_ratio = 1.02, .aa_wobble = 0.002});
	const json_t *aa = json_array_get(json_object_get(v, "aa"), 1);

	(void)state;
	assert_string_equal(text(aa, "metric"), "mem.stream/triad");
	assert_true(json_is_true(json_object_get(aa, "excludes_one")));
	assert_true(why_not_has(v, "measured again differs from itself"));
	expect(v, "INVALID", 5, "excludes 1");
}

/* Two sessions: the 99 % interval (t = 63.7) contains everything, the point estimate decides. */
static void aa_point_counts_with_few_sessions(void **state)
{
	struct synth c = {.sessions = 2,
			  .vm_ratio = 0.97,
			  .vm_wobble = 0.001,
			  .aa_ratio = 0.92,
			  .aa_wobble = 0.01};

	(void)state;
	expect(judge(c), "INVALID", 5, "off by");
	/* a loss that no such deviation explains stays a FAIL */
	c.vm_ratio = 0.3;
	expect(judge(c), "FAIL", 1, "stands even with");
	/* with enough sessions only the interval counts */
	c.vm_ratio = 0.98;
	c.sessions = 6;
	c.aa_ratio = 0.999;
	expect(judge(c), "PASS", 0, "");
}

static void distrusted_measurements_are_invalid(void **state)
{
	json_t *v = judge((struct synth){.vm_outcome = "untrusted", .vm_ratio = 0.5});

	(void)state;
	/* the numbers are shown all the same */
	assert_true(fabs(number(first(v), "ratio") - 0.5) < 1e-9);
	expect(v, "INVALID", 5, "sums differ");
	expect(judge((struct synth){.vm_outcome = "failed"}), "INVALID", 5, "sums differ");
	expect(judge((struct synth){.vm_arm_end = "the pool was never used"}), "INVALID", 5,
	       "never used");
	expect(judge((struct synth){.steal_ratio = 0.03}), "INVALID", 5, "steal");
	expect(judge((struct synth){.steal_ratio = 0.009}), "PASS", 0, "");
	expect(judge((struct synth){.devtools = true}), "INVALID", 5,
	       "devtools: the GPU of arm vm");
	/* computed times do not feel what the host does */
	expect(judge((struct synth){.steal_ratio = 0.03, .deterministic = true}), "PASS", 0, "");
	expect(judge((struct synth){.throttled_rounds = 3, .deterministic = true}), "PASS", 0, "");
	expect(judge((struct synth){.vm_workers = 16}), "INVALID", 5, "16 threads on arm vm");
	expect(judge((struct synth){.bad_round = 2, .bad_value = "0"}), "INVALID", 5,
	       "session 1 round 2");
	expect(judge((struct synth){.bad_round = 1, .bad_value = "null"}), "INVALID", 5, "nan");
	expect(judge((struct synth){.bad_round = 1, .bad_value = "-3"}), "INVALID", 5, "-3");
}

/* Rounds that something else disturbed are left out, not judged; too many of them void the gate. */
static void disturbed_rounds_are_voided(void **state)
{
	json_t *v = judge((struct synth){.rounds = 10, .stolen_rounds = 1, .throttled_rounds = 2});

	(void)state;
	assert_string_equal(text(first(v), "verdict"), "PASS");
	assert_int_equal(number(first(v), "rounds_voided"), 12); /* 2 of 10 in 6 sessions */
	assert_int_equal(number(first(v), "rounds"), 48);
	json_decref(v);
	expect(judge((struct synth){.rounds = 10, .stolen_rounds = 3}), "INVALID", 5,
	       "18 of 60 rounds are void (the host took CPU time in 18");
	expect(judge((struct synth){.throttled_rounds = 2}), "INVALID", 5, "throttled in 12");
	expect(judge((struct synth){.throttled_rounds = 2, .throttled_gpu = true}), "INVALID", 5,
	       "throttled in 12");
}

/* A sample that the guest's clock makes longer than it was, or that lost time: 1 round in 10. */
static void samples_across_a_clock_step_are_voided(void **state)
{
	static const struct {
		double late_s;
		unsigned voided;
	} cases[] = {{0, 0}, {0.102, 0}, {0.103, 6}, {-0.1, 0}, {-0.102, 0}, {-0.103, 6}, {-4, 6}};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(cases); i++) {
		json_t *v = judge((struct synth){.rounds = 10, .late_s = cases[i].late_s});

		assert_int_equal(number(first(v), "rounds_voided"), cases[i].voided);
		json_decref(v);
	}
	expect(judge((struct synth){.rounds = 4, .late_s = -1}), "INVALID", 5,
	       "clocks disagree on the length of 6");
}

static void clocks_that_are_wrong_or_slow_are_invalid(void **state)
{
	(void)state;
	expect(judge((struct synth){.vm_clock_error = -0.002}), "INVALID", 5,
	       "the clock of arm vm was off by at least 0.2 %");
	/* less than what the reading may be off by, or than the limit */
	expect(judge((struct synth){.vm_clock_error = 0.000505}), "PASS", 0, "");
	expect(judge((struct synth){.vm_clock_error = 0.00052}), "INVALID", 5, "");
	expect(judge((struct synth){.vm_timer_ns = 2001}), "INVALID", 5, "reading the clock");
	expect(judge((struct synth){.vm_timer_ns = 1999}), "PASS", 0, "");
}

static void no_steady_state_decides_nothing(void **state)
{
	(void)state;
	expect(judge((struct synth){.vm_steady = "no-steady-state"}), "INCONCLUSIVE", 3,
	       "no-steady-state: mem.stream/triad");
	expect(judge((struct synth){.vm_steady = "no-steady-state", .unsteady_sessions = 3}),
	       "PASS", 0, "");
	expect(judge((struct synth){.vm_steady = "too-few"}), "PASS", 0, "");
}

/* The pairing class is what the journal's times show. */
static void pairing_is_what_was_achieved(void **state)
{
	static const struct {
		double gap_s, round_s;
		const char *pairing;
	} cases[] = {{1, 10, "pair"},
		     {4, 10, "pair"},
		     {6, 10, "block"}, /* vm, the third arm, ends after the next round began */
		     {29, 100, "pair"},
		     {31, 100, "block"}}; /* 62 s apart */

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(cases); i++) {
		json_t *v =
			judge((struct synth){.gap_s = cases[i].gap_s, .round_s = cases[i].round_s});

		assert_string_equal(text(first(v), "pairing"), cases[i].pairing);
		json_decref(v);
	}
}

/* An undecided gate says when it is judged again; the campaign stops when none does. */
static void open_gates_name_the_next_look(void **state)
{
	struct cvb_gate g = triad("g");
	static const struct {
		double vm_ratio, vm_wobble, aa_wobble;
		const char *verdict;
		unsigned next_look;
	} cases[] = {{0.98, 0.001, 0, "PASS", 0},
		     {0.5, 0.001, 0, "FAIL", 0},
		     {0.95, 0.01, 0, "INCONCLUSIVE", 10},
		     /* not even native itself could pass: more sessions may help */
		     {0.95, 0.01, 0.06, "INVALID", 10},
		     {0.98, 0.001, 0.06, "PASS", 0},
		     {0.98, 0.001, 0.2, "INVALID", 10},
		     {0.5, 0.001, 0.2, "FAIL", 0}};

	(void)state;
	g.n_looks = 2;
	g.looks[0] = 6;
	g.looks[1] = 10;
	for (size_t i = 0; i < CVB_ARRAY_LEN(cases); i++) {
		json_t *v = judge_gates((struct synth){.sessions = 10,
						       .stop_session = 7,
						       .vm_ratio = cases[i].vm_ratio,
						       .vm_wobble = cases[i].vm_wobble,
						       .aa_wobble = cases[i].aa_wobble},
					&g, 1);
		const json_t *next = json_object_get(first(v), "next_look");

		assert_string_equal(text(first(v), "verdict"), cases[i].verdict);
		assert_int_equal(json_integer_value(next), cases[i].next_look);
		assert_int_equal(json_is_null(next), !cases[i].next_look);
		json_decref(v);
	}
	/* a measurement that is not believed is not cured by more of it */
	json_t *v = judge_gates((struct synth){.sessions = 10,
					       .stop_session = 7,
					       .vm_ratio = 0.95,
					       .vm_wobble = 0.01,
					       .vm_clock_error = 0.1},
				&g, 1);

	assert_true(json_is_null(json_object_get(first(v), "next_look")));
	json_decref(v);
}

static void unsupported_blocks_a_pass(void **state)
{
	const struct cvb_gate gates[] = {
		gate("td", "mem.stream/triad", "vm", "native"),
		gate("self", "mem.stream/triad", "aa", "native"),
	};
	json_t *v = judge_gates((struct synth){.vm_unsupported = "no TDX module"}, gates, 2);

	(void)state;
	assert_string_equal(text(json_array_get(json_object_get(v, "gates"), 1), "verdict"),
			    "PASS");
	assert_true(why_not_has(v, "used by gate td, cannot run here: no TDX module."));
	assert_false(json_is_true(json_object_get(v, "certifiable")));
	expect(v, "UNSUPPORTED", 4, "no TDX module");
}

/* The sessions in which the arm ran decide, but they are not all that was asked for. */
static void an_arm_missing_in_some_sessions_blocks_a_certificate(void **state)
{
	json_t *v = judge((struct synth){
		.sessions = 8, .vm_unsupported = "no TDX module", .unsupported_from = 7});

	(void)state;
	assert_true(why_not_has(v, "used by gate g, could not run in 2 sessions: no TDX module."));
	assert_false(why_not_has(v, "cannot run here"));
	assert_false(json_is_true(json_object_get(v, "certifiable")));
	expect(v, "PASS", 0, "");
	v = judge((struct synth){.sessions = 8});
	assert_false(why_not_has(v, "could not run"));
	assert_true(json_is_true(json_object_get(v, "certifiable")));
	json_decref(v);
}

static void fail_wins_overall(void **state)
{
	const struct cvb_gate gates[] = {
		gate("typo", "mem.stream/tirad", "vm", "native"),
		triad("slow"),
		gate("good", "mem.stream/copy", "vm", "native"),
	};
	json_t *v = judge_gates((struct synth){.vm_ratio = 0.5}, gates, 3);
	const json_t *list = json_object_get(v, "gates");

	(void)state;
	assert_string_equal(text(json_array_get(list, 0), "verdict"), "INVALID");
	assert_non_null(strstr(text(json_array_get(list, 0), "reason"), "mem.stream/triad?"));
	assert_string_equal(text(json_array_get(list, 1), "verdict"), "FAIL");
	assert_string_equal(text(json_array_get(list, 2), "verdict"), "PASS");
	assert_string_equal(text(v, "overall"), "FAIL");
	assert_int_equal(cvb_verdict_exit(v), 1);
	json_decref(v);
}

/* The gate of the smallest p value counts three times, since three were judged. */
static void failures_are_adjusted(void **state)
{
	const struct cvb_gate gates[] = {
		triad("slow"),
		gate("self", "mem.stream/triad", "aa", "native"),
		gate("copy", "mem.stream/copy", "vm", "native"),
	};
	json_t *v = judge_gates((struct synth){.vm_ratio = 0.9, .vm_wobble = 0.01}, gates, 3);
	const json_t *list = json_object_get(v, "failures"), *f = json_array_get(list, 0);
	double p;

	(void)state;
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(text(f, "id"), "slow");
	/* of t alone: mean ln .9, sd .01 sqrt(6/5), against ln .95 */
	p = cvb_t_cdf((log(0.9) - log(0.95)) / (0.01 * sqrt(6.0 / 5) / sqrt(6)), 5);
	assert_true(fabs(number(f, "p_value") / p - 1) < 1e-9);
	assert_true(fabs(number(f, "p_holm") / (3 * p) - 1) < 1e-9);
	assert_true(json_is_true(json_object_get(f, "significant")));
	json_decref(v);
}

/* One that fails at one of several looks is held against .05 like the others. */
static void failures_count_the_looks(void **state)
{
	struct cvb_gate gates[] = {triad("once"), triad("looks"), triad("same")};
	const json_t *list;
	double once;
	json_t *v;

	(void)state;
	gates[1].n_looks = 2;
	gates[1].looks[0] = 6;
	gates[1].looks[1] = 10;
	gates[2].kind = CVB_GATE_EQUIVALENCE;
	v = judge_gates((struct synth){.vm_ratio = 0.9, .vm_wobble = 0.01}, gates, 3);
	list = json_object_get(v, "failures");
	assert_int_equal(json_array_size(list), 3);
	once = number(json_array_get(list, 0), "p_value");
	assert_true(fabs(number(json_array_get(list, 1), "p_value") - once * 0.05 / 0.0175) <
		    1e-12);
	assert_true(fabs(number(json_array_get(list, 2), "p_value") - once) < 1e-12);
	json_decref(v);
}

static void other_kinds_of_gate(void **state)
{
	struct cvb_gate gates[] = {triad("same"), triad("limit"), triad("looks")};
	const json_t *list;
	json_t *v;

	(void)state;
	gates[0].kind = CVB_GATE_EQUIVALENCE;
	gates[1].kind = CVB_GATE_ABSOLUTE;
	gates[1].limit = 1.5e10; /* the rounds have 1.1e10 and 1.2e10 times the ratio */
	gates[2].n_looks = 2;
	gates[2].looks[0] = 6;
	gates[2].looks[1] = 10;
	v = judge_gates((struct synth){.vm_ratio = 1.1, .vm_wobble = 0.001}, gates, 3);
	list = json_object_get(v, "gates");
	assert_string_equal(text(json_array_get(list, 0), "verdict"), "FAIL");
	/* too fast to be equivalent: its p value is against that side */
	assert_string_equal(text(json_array_get(json_object_get(v, "failures"), 0), "id"), "same");
	assert_true(number(json_array_get(json_object_get(v, "failures"), 0), "p_value") < 0.02);
	assert_string_equal(text(json_array_get(list, 1), "verdict"), "FAIL");
	assert_string_equal(text(json_array_get(list, 1), "kind"), "absolute");
	assert_string_equal(text(json_array_get(list, 2), "verdict"), "PASS");
	assert_true(fabs(number(json_array_get(list, 2), "confidence") - 0.9825) < 1e-12);
	json_decref(v);
}

/*
 * The margin .95 tolerates .0513; six sessions that wobble by w have a half-width of w.  A decided
 * gate stands up to twice the tolerance, an undecided one up to once.
 */
static void noisy_aa_is_invalid(void **state)
{
	(void)state;
	expect(judge((struct synth){.vm_ratio = 0.98, .aa_wobble = 0.101}), "PASS", 0, "");
	expect(judge((struct synth){.vm_ratio = 0.98, .aa_wobble = 0.104}), "INVALID", 5,
	       "too noisy");
	expect(judge((struct synth){.vm_ratio = 0.95, .vm_wobble = 0.01, .aa_wobble = 0.05}),
	       "INCONCLUSIVE", 3, "");
	expect(judge((struct synth){.vm_ratio = 0.95, .vm_wobble = 0.01, .aa_wobble = 0.052}),
	       "INVALID", 5, "too noisy");
}

/* One of many A/A intervals is bound to exclude 1: they hold together. */
static void aa_intervals_are_simultaneous(void **state)
{
	const struct cvb_gate gates[] = {
		triad("g"), gate("copy", "mem.stream/copy", "vm", "native"), triad("again")};
	/* t of the A/A is 4.5: beyond t(.995, 5) = 4.03, within t(.9975, 5) = 4.77 */
	struct synth c = {.vm_ratio = 0.98,
			  .vm_wobble = 0.001,
			  .aa_ratio = exp(4.5 * 0.002 / sqrt(5)),
			  .aa_wobble = 0.002};
	json_t *one = judge_gates(c, gates, 1), *two = judge_gates(c, gates, 3);

	(void)state;
	assert_true(number(json_array_get(json_object_get(one, "aa"), 1), "confidence") == 0.99);
	/* two series, though three gates */
	assert_true(number(json_array_get(json_object_get(two, "aa"), 1), "confidence") == 0.995);
	expect(one, "INVALID", 5, "excludes 1");
	expect(two, "PASS", 0, "");
}

/* An A/A arm that says nothing, or hardly anything, is none. */
static void aa_must_have_been_measured(void **state)
{
	struct synth c = {.vm_ratio = 0.98, .vm_wobble = 0.001, .aa_sessions = 1};
	json_t *v = judge(c);

	(void)state;
	assert_true(why_not_has(v, "No A/A arm measured arm native again for gate g"));
	expect(v, "PASS", 0, "");
	c.aa_sessions = 5;
	v = judge(c);
	assert_true(json_is_true(json_object_get(v, "certifiable")));
	json_decref(v);
	c.aa_sessions = 0;
	c.aa_workers = 4;
	v = judge(c);
	assert_true(why_not_has(v, "No A/A arm measured arm native again for gate g"));
	json_decref(v);
}

/* The same deviation in every session has no interval, but is no agreement either. */
static void aa_off_by_a_constant(void **state)
{
	struct synth c = {
		.vm_ratio = 0.98, .vm_wobble = 0.001, .aa_ratio = 0.9, .aa_wobble = 1e-14};

	(void)state;
	expect(judge(c), "INVALID", 5, "off by 11 % in every session");
	c.vm_ratio = 1.2;
	expect(judge(c), "PASS", 0, "stands even with");
}

/* What is surely there, but far below what the gate can mind. */
static void aa_off_by_next_to_nothing(void **state)
{
	struct synth c = {
		.vm_ratio = 0.98, .vm_wobble = 0.001, .aa_ratio = 1.004, .aa_wobble = 1e-5};

	(void)state;
	expect(judge(c), "PASS", 0, "");
	c.aa_ratio = 1.006; /* a tenth of -ln .95 is .0051 */
	expect(judge(c), "INVALID", 5, "excludes 1");
}

/* A verdict rests on the sessions of its look: what came later for other gates changes nothing. */
static void later_sessions_do_not_void_a_look(void **state)
{
	struct synth c = {.sessions = 10,
			  .vm_ratio = 0.98,
			  .vm_wobble = 0.001,
			  .aa_wobble = 0.002,
			  .aa_ratio = 3,
			  .aa_from = 7};
	struct cvb_gate g = triad("g");
	json_t *v;

	(void)state;
	g.n_looks = 2;
	g.looks[0] = 6;
	g.looks[1] = 10;
	expect(judge_gates(c, &g, 1), "PASS", 0, "");
	c.aa_from = 0;
	expect(judge_gates(c, &g, 1), "INVALID", 5, "excludes 1");
	/* nor does a value that has no ratio, in a session that came after */
	c = (struct synth){.sessions = 10,
			   .vm_ratio = 0.98,
			   .vm_wobble = 0.001,
			   .bad_session = 8,
			   .bad_round = 1,
			   .bad_value = "null"};
	expect(judge_gates(c, &g, 1), "PASS", 0, "");
	c.bad_session = 6;
	expect(judge_gates(c, &g, 1), "INVALID", 5, "session 6 round 1");
	/* nor do their voided rounds count: 2 of 10 in sessions 1 to 6 would be 20 % */
	c = (struct synth){.sessions = 10,
			   .rounds = 4,
			   .vm_ratio = 0.98,
			   .vm_wobble = 0.001,
			   .stolen_rounds = 4,
			   .stolen_session = 9};
	v = judge_gates(c, &g, 1);
	assert_int_equal(number(first(v), "rounds_voided"), 0);
	expect(v, "PASS", 0, "");
}

/* Session 3 has no usable round: the look at ten sessions is held at nine, for no more will come.
 */
static void a_lost_session_does_not_lose_the_last_look(void **state)
{
	struct synth c = {.sessions = 10,
			  .vm_ratio = 0.97,
			  .vm_wobble = 0.02,
			  .stolen_rounds = 2,
			  .stolen_session = 3};
	struct cvb_gate g = triad("g");
	json_t *v;

	(void)state;
	g.n_looks = 2;
	g.looks[0] = 6;
	g.looks[1] = 10;
	v = judge_gates(c, &g, 1);
	assert_int_equal(number(first(v), "sessions"), 9);
	assert_true(json_is_null(json_object_get(first(v), "next_look")));
	expect(v, "PASS", 0, "2 of 20 rounds are left out");
	/* as long as sessions are to come it waits */
	c.stop_session = 10;
	v = judge_gates(c, &g, 1);
	assert_int_equal(number(first(v), "next_look"), 10);
	expect(v, "INCONCLUSIVE", 3, "next planned look is at 10");
}

/* Whoever is slow just when its CPU is taken away must not pass by having that left out. */
static void voided_rounds_must_not_make_the_verdict(void **state)
{
	struct cvb_gate g = triad("g");
	struct synth c = {.rounds = 10,
			  .vm_ratio = 0.98,
			  .vm_wobble = 0.001,
			  .stolen_rounds = 2,
			  .stolen_factor = 0.5};
	json_t *v;

	(void)state;
	g.estimator = CVB_RATIO_THROUGHPUT;
	expect(judge_gates(c, &g, 1), "INCONCLUSIVE", 3,
	       "PASS without the rounds left out (the host took CPU time in 12), but FAIL with");
	c.stolen_factor = 0.99;
	expect(judge_gates(c, &g, 1), "PASS", 0, "12 of 60 rounds are left out");
	/* bad luck at one look leaves the gate to the next, which has more to go by */
	c.stolen_factor = 0.5;
	c.sessions = 10;
	c.stop_session = 7;
	c.rounds = 4;
	c.stolen_rounds = 1;
	c.stolen_session = 2;
	c.vm_ratio = 0.953;
	g.n_looks = 2;
	g.looks[0] = 6;
	g.looks[1] = 10;
	v = judge_gates(c, &g, 1);
	assert_int_equal(number(first(v), "next_look"), 10);
	expect(v, "INCONCLUSIVE", 3, "PASS without the rounds left out");
	/*
	 * The next look is undecided too: what the first one was not allowed to decide is not
	 * decided afterwards, when so many rounds dilute what was left out.
	 */
	c.stop_session = 0;
	c.sessions = 14;
	c.vm_late_wobble = 0.05;
	v = judge_gates(c, &g, 1);
	assert_int_equal(number(first(v), "sessions"), 14);
	expect(v, "INCONCLUSIVE", 3, "no planned look is left");
	g.n_looks = 0;
	c = (struct synth){.rounds = 10,
			   .vm_ratio = 0.98,
			   .vm_wobble = 0.001,
			   .stolen_rounds = 2,
			   .stolen_factor = 0.99};
	/* a wrong clock's values are never put back, even if steal voided the round as well */
	c.late_s = -4;
	c.late_factor = 0.1;
	expect(judge_gates(c, &g, 1), "PASS", 0, "clocks disagree on the length of 6");
}

static void sessions_must_do_the_same_work(void **state)
{
	(void)state;
	expect(judge((struct synth){.vm_change_session = 2, .vm_change_workers = 4}), "INVALID", 5,
	       "4 threads in session 2, 2 before");
	expect(judge((struct synth){.vm_change_session = 6,
				    .vm_change_options = "\"size\":\"1GiB\""}),
	       "INVALID", 5, "other options in session 6");
	expect(judge((struct synth){.vm_change_session = 1,
				    .vm_change_options = "\"size\":\"1GiB\""}),
	       "INVALID", 5, "with other options on arm vm than on arm native");
}

/* Computed numbers fail for certain: no p value, and no weight in the family. */
static void exact_failures_have_no_p_value(void **state)
{
	json_t *v =
		judge((struct synth){.vm_ratio = 0.9, .vm_wobble = 1e-14, .deterministic = true});
	const json_t *f = json_array_get(json_object_get(v, "failures"), 0);

	(void)state;
	assert_string_equal(text(f, "id"), "g");
	assert_true(json_is_null(json_object_get(f, "p_value")));
	assert_true(json_is_null(json_object_get(f, "p_holm")));
	assert_true(json_is_true(json_object_get(f, "significant")));
	expect(v, "FAIL", 1, "upper bound");
}

static void gates_that_match_nothing(void **state)
{
	struct cvb_gate gates[] = {
		triad("g"),
		gate("g", "mem.stream/triad", "nobody", "native"),
		gate("g", "disk.fio/iops", "vm", "native"),
	};
	const json_t *list;
	json_t *v;

	(void)state;
	gates[0].params = TEXT("kind=fancy");
	v = judge_gates((struct synth){0}, gates, 3);
	list = json_object_get(v, "gates");
	for (size_t i = 0; i < 3; i++)
		assert_string_equal(text(json_array_get(list, i), "verdict"), "INVALID");
	assert_non_null(strstr(text(json_array_get(list, 0), "reason"), "kind=plain"));
	assert_non_null(strstr(text(json_array_get(list, 1), "reason"), "nobody"));
	json_decref(v);
}

/* What a benchmark says it cannot measure here is UNSUPPORTED, not a typo of the gate. */
static void left_out_parts_are_unsupported(void **state)
{
	static const struct {
		const char *params, *verdict;
	} cases[] = {{"kind=fancy", "UNSUPPORTED"},
		     {"kind=fancy,threads=2", "UNSUPPORTED"},
		     {"kind=other", "INVALID"},
		     {"threads=7", "INVALID"}};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(cases); i++) {
		struct cvb_gate g = triad("g");
		json_t *v;

		g.params = TEXT(cases[i].params);
		v = judge_gates((struct synth){.vm_left_out = "no huge pages are reserved"}, &g, 1);
		assert_string_equal(text(first(v), "verdict"), cases[i].verdict);
		if (!strcmp(cases[i].verdict, "UNSUPPORTED"))
			assert_string_equal(
				text(first(v), "reason"),
				"mem.stream/triad on arm vm: no huge pages are reserved");
		json_decref(v);
	}
}

static void report_rows_decide_nothing(void **state)
{
	struct cvb_gate gates[] = {
		triad("seen"),
		gate("judged", "mem.stream/copy", "vm", "native"),
	};
	const json_t *row;
	json_t *v;

	(void)state;
	gates[0].kind = CVB_GATE_REPORT;
	v = judge_gates((struct synth){.vm_ratio = 0.5}, gates, 2);
	row = json_array_get(json_object_get(v, "reported"), 0);
	assert_int_equal(json_array_size(json_object_get(v, "gates")), 1);
	assert_string_equal(text(row, "id"), "seen");
	assert_true(fabs(number(row, "ratio") - 0.5) < 1e-9);
	assert_null(json_object_get(row, "verdict"));
	assert_string_equal(text(v, "overall"), "PASS");
	json_decref(v);
	v = judge_gates((struct synth){0}, gates, 1);
	assert_string_equal(text(v, "overall"), "INCONCLUSIVE");
	assert_true(why_not_has(v, "no gate"));
	json_decref(v);
}

static void what_blocks_a_certificate(void **state)
{
	json_t *v = judge((struct synth){.accel = "tcg", .sessions = 4});

	(void)state;
	assert_true(why_not_has(v, "Arm vm, used by gate g, ran under tcg"));
	assert_true(why_not_has(v, "plans 4 sessions"));
	expect(v, "PASS", 0, "");
	v = judge((struct synth){.stop_session = 3});
	assert_true(why_not_has(v, "Only 2 of 6 sessions were completed; session 3 stopped with: "
				   "guest was killed."));
	/* the round that was complete in session 3 counts */
	assert_true(number(first(v), "sessions") == 3 && number(first(v), "rounds") == 5);
	assert_false(json_is_true(json_object_get(v, "certifiable")));
	json_decref(v);
}

static char *printed(const json_t *v, bool colour)
{
	char *out = NULL;
	size_t bytes;
	FILE *f = open_memstream(&out, &bytes);

	assert_non_null(f);
	cvb_verdict_print(f, v, colour);
	fclose(f);
	return out;
}

static void table_keeps_labels_and_width(void **state)
{
	const struct cvb_gate gates[] = {
		triad("a-gate-with-a-name-much-longer-than-its-column-is-wide"),
		gate("b", "mem.stream/triad", "vm", "aa"),
	};
	json_t *v = judge_gates((struct synth){.vm_ratio = 0.5, .accel = "tcg"}, gates, 2);
	_cleanup_free_ char *out = printed(v, false), *in_colour = printed(v, true);
	unsigned labels = 0;

	(void)state;
	for (const char *s = out; (s = strstr(s, "vm: tcg")) != NULL; s++)
		labels++;
	assert_int_equal(labels, 2);
	for (const char *s = out; *s; s += strcspn(s, "\n") + 1)
		assert_true(strcspn(s, "\n") <= 100);
	assert_null(strchr(out, '\033'));
	assert_non_null(strstr(in_colour, "\033[1;31mFAIL\033[0m"));
	assert_non_null(strstr(out, "overall: FAIL"));
	assert_non_null(strstr(out, "not certifiable"));
	json_decref(v);
}

/* A guest's text must not reach the terminal as an escape sequence. */
static void table_is_safe(void **state)
{
	json_t *v = judge((struct synth){.vm_unsupported = "\\u001b[2J\\u009b1m evil\\u202e"});
	_cleanup_free_ char *out = printed(v, false);

	(void)state;
	assert_non_null(strstr(out, "evil"));
	for (const char *s = out; *s; s++)
		assert_true(*s == '\n' || (unsigned char)*s >= 0x20);
	assert_null(strstr(out, "\xc2\x9b"));
	assert_null(strstr(out, "\xe2\x80\xae"));
	json_decref(v);
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/j", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return cvb_remove_tree(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pass_with_the_right_numbers),
		cmocka_unit_test(fail_below_the_margin),
		cmocka_unit_test(direction_counts),
		cmocka_unit_test(inconclusive_says_how_many),
		cmocka_unit_test(one_session_is_inconclusive),
		cmocka_unit_test(aa_that_excludes_one_is_invalid),
		cmocka_unit_test(aa_point_counts_with_few_sessions),
		cmocka_unit_test(distrusted_measurements_are_invalid),
		cmocka_unit_test(disturbed_rounds_are_voided),
		cmocka_unit_test(samples_across_a_clock_step_are_voided),
		cmocka_unit_test(clocks_that_are_wrong_or_slow_are_invalid),
		cmocka_unit_test(no_steady_state_decides_nothing),
		cmocka_unit_test(pairing_is_what_was_achieved),
		cmocka_unit_test(open_gates_name_the_next_look),
		cmocka_unit_test(unsupported_blocks_a_pass),
		cmocka_unit_test(an_arm_missing_in_some_sessions_blocks_a_certificate),
		cmocka_unit_test(fail_wins_overall),
		cmocka_unit_test(failures_are_adjusted),
		cmocka_unit_test(failures_count_the_looks),
		cmocka_unit_test(other_kinds_of_gate),
		cmocka_unit_test(noisy_aa_is_invalid),
		cmocka_unit_test(aa_intervals_are_simultaneous),
		cmocka_unit_test(aa_must_have_been_measured),
		cmocka_unit_test(aa_off_by_a_constant),
		cmocka_unit_test(aa_off_by_next_to_nothing),
		cmocka_unit_test(later_sessions_do_not_void_a_look),
		cmocka_unit_test(a_lost_session_does_not_lose_the_last_look),
		cmocka_unit_test(voided_rounds_must_not_make_the_verdict),
		cmocka_unit_test(sessions_must_do_the_same_work),
		cmocka_unit_test(exact_failures_have_no_p_value),
		cmocka_unit_test(gates_that_match_nothing),
		cmocka_unit_test(left_out_parts_are_unsupported),
		cmocka_unit_test(report_rows_decide_nothing),
		cmocka_unit_test(what_blocks_a_certificate),
		cmocka_unit_test(table_keeps_labels_and_width),
		cmocka_unit_test(table_is_safe),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
