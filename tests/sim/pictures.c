/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers behind the pictures of docs/statistics.md; scripts/docs-pictures draws them. */
#include "core/util.h"
#include "sim/sim.h"
#include "stats/gate.h"

#include <stdio.h>
#include <string.h>

enum {
	ROUNDS = 12,
	MOST_ROUNDS = 48,
	MOST_SESSIONS = 24,
	CAMPAIGNS = 4000,
	POWER_CAMPAIGNS = 1000,
};

static struct rng rng_of(uint64_t seed)
{
	struct rng r = {seed * UINT64_C(0xd1342543de82ef95)};

	rng_next(&r);
	return r;
}

/* 90 % interval of all rounds as if each were on its own, and of the sessions. */
static void both_ways(const struct cvb_pair *p, size_t n, struct cvb_ratio *pooled,
		      struct cvb_ratio *by_session)
{
	const struct cvb_bounds_of of = {.alpha = 0.05};
	double y[MOST_SESSIONS * ROUNDS];

	for (size_t i = 0; i < n; i++)
		y[i] = log(p[i].test / p[i].base);
	if (cvb_ratio_of_logs(y, (unsigned)n, &of, pooled, NULL) < 0 ||
	    cvb_ratio_paired(p, n, false, of.alpha, by_session, NULL) < 0)
		abort();
}

static bool misses(const struct cvb_ratio *r)
{
	return r->lower > 1 || r->upper < 1;
}

/*
 * Rounds of six sessions, whose luck is .7 %, of two arms alike: the first campaign of which the
 * pooled interval excludes 1 and the other does not; and how often each does.
 */
static void sessions(void)
{
	struct cvb_pair p[6 * ROUNDS], shown[6 * ROUNDS] = {0};
	unsigned pooled_misses = 0, session_misses = 0;
	struct cvb_ratio a, b, pooled = {0}, by_session = {0};

	for (unsigned i = 0; i < CAMPAIGNS; i++) {
		struct rng r = rng_of(i + 1);
		size_t n = sim_campaign(GAUSS_1, 6, ROUNDS, 0, 0.007, p, &r);

		both_ways(p, n, &a, &b);
		pooled_misses += misses(&a);
		session_misses += misses(&b);
		if (misses(&a) && !misses(&b) && !pooled.has_interval) {
			memcpy(shown, p, sizeof(p));
			pooled = a;
			by_session = b;
		}
	}
	for (unsigned i = 0; i < CVB_ARRAY_LEN(shown); i++)
		printf("%u %u %.6f\n", i + 1, shown[i].session, shown[i].test / shown[i].base);
	printf("\n\n");
	for (unsigned s = 0; s < 6; s++) {
		double y[ROUNDS];

		for (unsigned k = 0; k < ROUNDS; k++)
			y[k] = log(shown[s * ROUNDS + k].test / shown[s * ROUNDS + k].base);
		printf("%u %.6f\n", s * ROUNDS + 1, exp(cvb_hodges_lehmann(y, ROUNDS)));
	}
	printf("\n\n%.6f %.6f %.6f %.1f\n\n\n", pooled.ratio, pooled.lower, pooled.upper,
	       100.0 * pooled_misses / CAMPAIGNS);
	printf("%.6f %.6f %.6f %.1f\n", by_session.ratio, by_session.lower, by_session.upper,
	       100.0 * session_misses / CAMPAIGNS);
}

/* One campaign whose verdict at margin .99 is `want`: the first of that ratio and session sd. */
static void one_verdict(enum cvb_verdict want, double ratio, double session_sd)
{
	const struct cvb_gate_plan plan = {.rule = CVB_RULE_NON_INFERIORITY, .margin = 0.99};
	struct cvb_pair p[6 * ROUNDS];

	for (unsigned i = 0; i < CAMPAIGNS; i++) {
		struct rng r = rng_of(i + 77);
		size_t n = sim_campaign(GAUSS_1, 6, ROUNDS, log(ratio), session_sd, p, &r);
		struct cvb_gate_answer answer;
		struct cvb_sessions s;

		if (cvb_sessions_make(&s, p, n, false, CVB_RATIO_LOCATION, CVB_PAIRING_PAIR, NULL) <
			    0 ||
		    cvb_gate_judge(&s, &plan, &answer, NULL) < 0)
			abort();
		cvb_sessions_done(&s);
		if (answer.verdict != want)
			continue;
		printf("%s %.6f %.6f %.6f\n", cvb_verdict_names[want], answer.ratio.ratio,
		       answer.ratio.lower, answer.ratio.upper);
		return;
	}
	abort();
}

/* Three verdicts, then a good one that an A/A arm spoils (99 % interval excludes 1). */
static void verdicts(void)
{
	const struct cvb_bounds_of of = {.alpha = 0.005};
	struct cvb_pair p[6 * ROUNDS];
	struct cvb_ratio same;
	struct rng r = rng_of(3);
	struct cvb_sessions s;
	size_t n;

	one_verdict(CVB_VERDICT_PASS, 0.998, 0.003);
	one_verdict(CVB_VERDICT_FAIL, 0.980, 0.003);
	one_verdict(CVB_VERDICT_INCONCLUSIVE, 0.990, 0.007);
	one_verdict(CVB_VERDICT_PASS, 1.001, 0.003);
	n = sim_campaign(GAUSS_1, 6, ROUNDS, log(1.025), 0.003, p, &r);
	if (cvb_sessions_make(&s, p, n, false, CVB_RATIO_LOCATION, CVB_PAIRING_PAIR, NULL) < 0 ||
	    cvb_sessions_ratio(&s, s.n, &of, &same, NULL) < 0)
		abort();
	cvb_sessions_done(&s);
	printf("\n\nA/A %.6f %.6f %.6f\n", same.ratio, same.lower, same.upper);
}

/* Percent of campaigns of two arms alike that pass a margin of .99. */
static double power(double session_sd, unsigned rounds, unsigned sessions_n)
{
	const struct cvb_gate_plan plan = {.rule = CVB_RULE_NON_INFERIORITY, .margin = 0.99};
	static struct cvb_pair p[MOST_SESSIONS * MOST_ROUNDS];
	unsigned passed = 0;

	for (unsigned i = 0; i < POWER_CAMPAIGNS; i++) {
		struct rng r = rng_of(i + 1);
		size_t n = sim_campaign(GAUSS_1, sessions_n, rounds, 0, session_sd, p, &r);
		struct cvb_gate_answer answer;
		struct cvb_sessions s;

		if (cvb_sessions_make(&s, p, n, false, CVB_RATIO_LOCATION, CVB_PAIRING_PAIR, NULL) <
			    0 ||
		    cvb_gate_judge(&s, &plan, &answer, NULL) < 0)
			abort();
		cvb_sessions_done(&s);
		passed += answer.verdict == CVB_VERDICT_PASS;
	}
	return 100.0 * passed / POWER_CAMPAIGNS;
}

static void planning(void)
{
	static const struct {
		double session_sd;
		unsigned rounds;
	} curve[] = {{0.003, 12}, {0.005, 12}, {0.007, 12}, {0.01, 12}, {0.007, 3}, {0.007, 48}};

	for (size_t k = 0; k < CVB_ARRAY_LEN(curve); k++) {
		for (unsigned s = 5; s <= MOST_SESSIONS; s += s < 10 ? 1 : 2)
			printf("%u %.2f\n", s, power(curve[k].session_sd, curve[k].rounds, s));
		printf("\n\n");
	}
}

bool sim_picture(const char *name)
{
	if (strcmp(name, "sessions") == 0)
		sessions();
	else if (strcmp(name, "verdicts") == 0)
		verdicts();
	else if (strcmp(name, "planning") == 0)
		planning();
	else
		return false;
	return true;
}
