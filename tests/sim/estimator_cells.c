/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coverage of the estimators beside the location gate, and error rates of the other rules:
 * reported, not required.
 *
 * The truth that throughput and mean are judged against is the ratio of expected times or
 * performances; with spikes in the VM arm alone it is found from 1.2 million simulated rounds.  The
 * tail of 12 rounds is its slowest one, judged against the mean of what sessions yield.
 */
#include "core/util.h"
#include "sim/sim.h"
#include "stats/gate.h"

#include <pthread.h>

enum {
	ROUNDS = 12,
	MAX_SESSIONS = 24,
	ESTIMAND_SESSIONS = 100000,
};

static double vm_spikes_truth[CVB_RATIO_MEAN + 1];
static pthread_once_t truth_once = PTHREAD_ONCE_INIT;

static void find_truth(void)
{
	double base_time = 0, test_time = 0, base_perf = 0, test_perf = 0, tail = 0;
	struct rng r = {20250608};
	struct cvb_pair p[ROUNDS];

	for (unsigned i = 0; i < ESTIMAND_SESSIONS; i++) {
		double slowest_base = INFINITY, slowest_test = INFINITY;

		sim_campaign(SPIKES_VM, 1, ROUNDS, 0, 0, p, &r);
		for (unsigned k = 0; k < ROUNDS; k++) {
			base_time += 1 / p[k].base;
			test_time += 1 / p[k].test;
			base_perf += p[k].base;
			test_perf += p[k].test;
			slowest_base = fmin(slowest_base, p[k].base);
			slowest_test = fmin(slowest_test, p[k].test);
		}
		tail += log(slowest_test / slowest_base);
	}
	vm_spikes_truth[CVB_RATIO_THROUGHPUT] = log(base_time / test_time);
	vm_spikes_truth[CVB_RATIO_MEAN] = log(test_perf / base_perf);
	vm_spikes_truth[CVB_RATIO_TAIL] = tail / ESTIMAND_SESSIONS;
}

/* m: estimator; negative: the upper bound. */
static unsigned misses(const struct sim_cell *c, struct rng *r)
{
	enum cvb_ratio_estimator estimator = (enum cvb_ratio_estimator)abs(c->m);
	const struct cvb_bounds_of of = {.alpha = 0.05};
	struct cvb_pair p[MAX_SESSIONS * ROUNDS];
	struct cvb_ratio ratio = {.lower = INFINITY};
	struct cvb_sessions s;
	double truth = 1;
	size_t n;

	if (c->noise == SPIKES_VM) {
		pthread_once(&truth_once, find_truth);
		truth = exp(vm_spikes_truth[estimator]);
	}
	n = sim_campaign((enum sim_noise)c->noise, (unsigned)c->n, ROUNDS, 0, c->b, p, r);
	if (cvb_sessions_make(&s, p, n, false, estimator, CVB_PAIRING_PAIR, NULL) < 0)
		return 1000;
	if (cvb_sessions_ratio(&s, s.n, &of, &ratio, NULL) < 0)
		ratio.lower = INFINITY;
	cvb_sessions_done(&s);
	return c->m < 0 ? ratio.upper < truth : ratio.lower > truth;
}

/* Base and test from campaigns of their own, so that nothing is shared: pairing "none". */
static unsigned unpaired_misses(const struct sim_cell *c, struct rng *r)
{
	const struct cvb_bounds_of of = {.alpha = 0.05};
	struct cvb_pair p[MAX_SESSIONS * ROUNDS], q[MAX_SESSIONS * ROUNDS];
	struct cvb_ratio ratio = {.lower = INFINITY};
	struct cvb_sessions s;
	size_t n = sim_campaign((enum sim_noise)c->noise, (unsigned)c->n, ROUNDS, 0, c->b, p, r);

	sim_campaign((enum sim_noise)c->noise, (unsigned)c->n, ROUNDS, 0, c->b, q, r);
	for (size_t i = 0; i < n; i++)
		p[i].base = q[i].test;
	if (cvb_sessions_make(&s, p, n, false, CVB_RATIO_LOCATION, CVB_PAIRING_NONE, NULL) < 0)
		return 1000;
	if (cvb_sessions_ratio(&s, s.n, &of, &ratio, NULL) < 0)
		ratio.lower = INFINITY;
	cvb_sessions_done(&s);
	return ratio.lower > 1;
}

/* Welch on Gaussian session values: n of sd a against m of sd b. */
static unsigned welch_misses(const struct sim_cell *c, struct rng *r)
{
	const struct cvb_bounds_of of = {.alpha = 0.05};
	double base[MAX_SESSIONS], test[MAX_SESSIONS];
	struct cvb_ratio ratio;

	for (int i = 0; i < c->n; i++)
		base[i] = c->a * rng_gauss(r);
	for (int i = 0; i < c->m; i++)
		test[i] = c->b * rng_gauss(r);
	if (cvb_ratio_welch(base, (unsigned)c->n, test, (unsigned)c->m, &of, &ratio, NULL) < 0)
		return 1000;
	return ratio.lower > 1;
}

static enum cvb_verdict judge(const struct sim_cell *c, enum cvb_gate_rule rule, double margin,
			      struct rng *r)
{
	static const unsigned looks[] = {6, 10, 16, 24};
	struct cvb_gate_plan plan = {.rule = rule, .margin = margin, .n_looks = (unsigned)c->m};
	enum cvb_verdict out = CVB_VERDICT_INVALID;
	struct cvb_pair p[MAX_SESSIONS * ROUNDS];
	struct cvb_gate_answer answer;
	struct cvb_sessions s;
	size_t n = sim_campaign((enum sim_noise)c->noise, (unsigned)c->n, ROUNDS, log(c->a), c->b,
				p, r);

	for (unsigned i = 0; i < plan.n_looks; i++)
		plan.looks[i] = looks[i];
	for (size_t i = 0; rule == CVB_RULE_ABSOLUTE && i < n; i++)
		p[i].base = 1;
	if (cvb_sessions_make(&s, p, n, false, CVB_RATIO_LOCATION, CVB_PAIRING_PAIR, NULL) < 0)
		return out;
	if (cvb_gate_judge(&s, &plan, &answer, NULL) == 0)
		out = answer.verdict;
	cvb_sessions_done(&s);
	return out;
}

static unsigned equivalent(const struct sim_cell *c, struct rng *r)
{
	return judge(c, CVB_RULE_EQUIVALENCE, 0.99, r) == CVB_VERDICT_PASS;
}

static unsigned different(const struct sim_cell *c, struct rng *r)
{
	return judge(c, CVB_RULE_EQUIVALENCE, 0.99, r) == CVB_VERDICT_FAIL;
}

static unsigned absolute_passes(const struct sim_cell *c, struct rng *r)
{
	return judge(c, CVB_RULE_ABSOLUTE, 1, r) == CVB_VERDICT_PASS;
}

static unsigned absolute_fails(const struct sim_cell *c, struct rng *r)
{
	return judge(c, CVB_RULE_ABSOLUTE, 1, r) == CVB_VERDICT_FAIL;
}

/* Two arms alike, whose 99 % interval excludes 1: a campaign called INVALID for nothing. */
static unsigned same_excluded(const struct sim_cell *c, struct rng *r)
{
	const struct cvb_bounds_of of = {.alpha = 0.005};
	struct cvb_pair p[MAX_SESSIONS * ROUNDS];
	struct cvb_ratio ratio = {.lower = INFINITY};
	struct cvb_sessions s;
	size_t n = sim_campaign((enum sim_noise)c->noise, (unsigned)c->n, ROUNDS, 0, c->b, p, r);

	if (cvb_sessions_make(&s, p, n, false, CVB_RATIO_LOCATION, CVB_PAIRING_PAIR, NULL) < 0)
		return 1000;
	if (cvb_sessions_ratio(&s, s.n, &of, &ratio, NULL) < 0)
		ratio.lower = INFINITY;
	cvb_sessions_done(&s);
	return ratio.lower > 1 || ratio.upper < 1;
}

/* Spikes of both arms are alike, but the exact test at 5 % says that the test arm has more. */
static unsigned spikes_differ(const struct sim_cell *c, struct rng *r)
{
	struct cvb_pair p[MAX_SESSIONS * ROUNDS];
	struct cvb_spikes spikes;
	size_t n = sim_campaign((enum sim_noise)c->noise, (unsigned)c->n, ROUNDS, 0, c->b, p, r);

	if (cvb_spikes_count(p, n, false, 0.05, &spikes, NULL) < 0)
		return 1000;
	return spikes.p <= 0.05;
}

#define ROW(title, text, fn, kind, va, vb, vn, vm)                                                 \
	{                                                                                          \
		.group = title, .name = text, .repeat = fn, .least = NAN, .most = NAN,             \
		.noise = kind, .a = va, .b = vb, .n = vn, .m = vm                                  \
	}
#define MISSES(title, estimator)                                                                   \
	ROW(title, "gauss 1 %, S=6", misses, GAUSS_1, 0, 0.002, 6, estimator),                     \
		ROW(title, "gauss 1 %, S=10", misses, GAUSS_1, 0, 0.002, 10, estimator),           \
		ROW(title, "AR(.9) 2 %, S=10", misses, AR_9, 0, 0.002, 10, estimator),             \
		ROW(title, "bimodal, sticky, S=10", misses, STICKY, 0, 0.002, 10, estimator),      \
		ROW(title, "spikes in both arms, S=6", misses, SPIKES, 0, 0.002, 6, estimator),    \
		ROW(title, "spikes in both arms, S=10", misses, SPIKES, 0, 0.002, 10, estimator),  \
		ROW(title, "spikes in the VM arm, S=6", misses, SPIKES_VM, 0, 0.002, 6,            \
		    estimator),                                                                    \
		ROW(title, "spikes in the VM arm, S=24", misses, SPIKES_VM, 0, 0.002, 24,          \
		    estimator),                                                                    \
		ROW(title, "spikes in the VM arm, upper, S=6", misses, SPIKES_VM, 0, 0.002, 6,     \
		    -(estimator)),                                                                 \
		ROW(title, "spikes in the VM arm, upper, S=24", misses, SPIKES_VM, 0, 0.002, 24,   \
		    -(estimator)),                                                                 \
		ROW(title, "drift 5 %, S=10", misses, DRIFT, 0, 0.002, 10, estimator),             \
		ROW(title, "session effect .7 %, S=10", misses, GAUSS_1, 0, 0.007, 10, estimator)
#define UNPAIRED(text, kind, sd)                                                                   \
	ROW("unpaired misses", text ", S=6", unpaired_misses, kind, 0, sd, 6, 0),                  \
		ROW("unpaired misses", text ", S=10", unpaired_misses, kind, 0, sd, 10, 0)

static const struct sim_cell cells[] = {
	MISSES("throughput misses", CVB_RATIO_THROUGHPUT),
	MISSES("tail misses", CVB_RATIO_TAIL),
	MISSES("mean (Fieller) misses", CVB_RATIO_MEAN),
	ROW("Welch misses", "6 and 6 sessions, sd alike", welch_misses, 0, 0.005, 0.005, 6, 6),
	ROW("Welch misses", "10 and 10, sd alike", welch_misses, 0, 0.005, 0.005, 10, 10),
	ROW("Welch misses", "6 and 6, sd 1 to 4", welch_misses, 0, 0.005, 0.02, 6, 6),
	ROW("Welch misses", "6 and 16, sd 1 to 4", welch_misses, 0, 0.005, 0.02, 6, 16),
	ROW("Welch misses", "6 and 16, sd 4 to 1", welch_misses, 0, 0.02, 0.005, 6, 16),
	ROW("Welch misses", "3 and 24, sd alike", welch_misses, 0, 0.005, 0.005, 3, 24),
	UNPAIRED("gauss 1 %", GAUSS_1, 0.005),
	UNPAIRED("AR(.9) 2 %", AR_9, 0.005),
	UNPAIRED("bimodal, independent", MODES, 0.005),
	UNPAIRED("bimodal, sticky", STICKY, 0.005),
	UNPAIRED("spikes in both arms", SPIKES, 0.005),
	ROW("false EQUIVALENT", "at .99, S=6", equivalent, GAUSS_1, 0.99, 0.002, 6, 0),
	ROW("false EQUIVALENT", "at 1/.99, S=6", equivalent, GAUSS_1, 1 / 0.99, 0.002, 6, 0),
	ROW("false EQUIVALENT", "at .99, spikes, S=10", equivalent, SPIKES, 0.99, 0.002, 10, 0),
	ROW("false EQUIVALENT", "at .99, sessions .7 %, S=24", equivalent, GAUSS_1, 0.99, 0.007, 24,
	    0),
	ROW("false EQUIVALENT", "at .99, 4 looks", equivalent, GAUSS_1, 0.99, 0.002, 24, 4),
	ROW("false DIFFERENT", "at .99, S=10", different, GAUSS_1, 0.99, 0.002, 10, 0),
	ROW("false DIFFERENT", "at .99, 4 looks", different, GAUSS_1, 0.99, 0.002, 24, 4),
	ROW("power, equivalence", "at 1.00, session sd .3 %, S=6", equivalent, GAUSS_1, 1, 0.003, 6,
	    0),
	ROW("power, equivalence", "at 1.00, session sd .3 %, S=10", equivalent, GAUSS_1, 1, 0.003,
	    10, 0),
	ROW("limit, false PASS", "gauss 1 %, S=6", absolute_passes, GAUSS_1, 1, 0.002, 6, 0),
	ROW("limit, false FAIL", "gauss 1 %, S=6", absolute_fails, GAUSS_1, 1, 0.002, 6, 0),
	ROW("limit, false PASS", "session effect .7 %, S=10", absolute_passes, GAUSS_1, 1, 0.007,
	    10, 0),
	ROW("limit, false PASS", "AR(.9) 2 %, S=10", absolute_passes, AR_9, 1, 0.002, 10, 0),
	ROW("limit, false FAIL", "AR(.9) 2 %, S=10", absolute_fails, AR_9, 1, 0.002, 10, 0),
	ROW("A/A false INVALID", "gauss 1 %, S=6", same_excluded, GAUSS_1, 0, 0.002, 6, 0),
	ROW("A/A false INVALID", "gauss 1 %, S=10", same_excluded, GAUSS_1, 0, 0.002, 10, 0),
	ROW("A/A false INVALID", "spikes in both arms, S=10", same_excluded, SPIKES, 0, 0.002, 10,
	    0),
	ROW("A/A false INVALID", "AR(.9) 2 %, S=10", same_excluded, AR_9, 0, 0.002, 10, 0),
	ROW("spike rate, false", "gauss 1 %, S=10", spikes_differ, GAUSS_1, 0, 0.002, 10, 0),
	ROW("spike rate, false", "5 % spikes in both arms, S=6", spikes_differ, SPIKES, 0, 0.002, 6,
	    0),
	ROW("spike rate, false", "5 % spikes in both arms, S=24", spikes_differ, SPIKES, 0, 0.002,
	    24, 0),
	ROW("spike rate, false", "bimodal, independent, S=10", spikes_differ, MODES, 0, 0.002, 10,
	    0),
	ROW("spike rate, false", "AR(.9) 2 %, S=10", spikes_differ, AR_9, 0, 0.002, 10, 0),
	ROW("spike rate, power", "5 % spikes in the VM arm, S=6", spikes_differ, SPIKES_VM, 0,
	    0.002, 6, 0),
};

struct sim_cells sim_estimator_cells(void)
{
	return (struct sim_cells){cells, CVB_ARRAY_LEN(cells)};
}
