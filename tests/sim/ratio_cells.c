/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounds, verdicts and power of the location gate, sequential looks included.
 *
 * The estimand is the Hodges-Lehmann location of a round's log-ratio: the median of the mean of two
 * rounds, whatever the number of rounds.  Where both arms have the same noise it is the ratio put
 * in; with spikes in the VM arm alone it is found from 1.2 million simulated rounds.  There the
 * rows "of E[z]" tell the miss against another estimand, the expectation of one session's estimate
 * from 12 rounds.
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

static double spikes_location, spikes_mean_z;
static pthread_once_t estimand_once = PTHREAD_ONCE_INIT;

static void find_estimands(void)
{
	_cleanup_free_ double *all = calloc((size_t)ESTIMAND_SESSIONS * ROUNDS, sizeof(*all));
	struct rng r = {20250607};
	struct cvb_pair p[ROUNDS];
	double sum = 0;
	size_t n = 0;

	if (!all)
		abort();
	for (unsigned i = 0; i < ESTIMAND_SESSIONS; i++) {
		double y[ROUNDS];

		sim_campaign(SPIKES_VM, 1, ROUNDS, 0, 0, p, &r);
		for (unsigned k = 0; k < ROUNDS; k++)
			all[n++] = y[k] = log(p[k].test / p[k].base);
		sum += cvb_hodges_lehmann(y, ROUNDS);
	}
	spikes_mean_z = sum / ESTIMAND_SESSIONS;
	spikes_location = cvb_hodges_lehmann(all, n);
}

/* What is estimated when the arms' true ratio is 1. */
static double estimand(enum sim_noise noise)
{
	if (noise != SPIKES_VM && noise != SPIKES_VM_EZ)
		return 0;
	pthread_once(&estimand_once, find_estimands);
	return noise == SPIKES_VM ? spikes_location : spikes_mean_z;
}

static int sessions_of(const struct sim_cell *c, unsigned sessions, double ln_ratio, struct rng *r,
		       struct cvb_sessions *ret)
{
	struct cvb_pair p[MAX_SESSIONS * ROUNDS];
	enum sim_noise noise = (enum sim_noise)c->noise;
	size_t n = sim_campaign(noise, sessions, ROUNDS, ln_ratio - estimand(noise), c->b, p, r);

	return cvb_sessions_make(ret, p, n, false, CVB_RATIO_LOCATION, CVB_PAIRING_PAIR, NULL);
}

/* The 95 % lower bound of n sessions lies above the truth. */
static unsigned miss(const struct sim_cell *c, struct rng *r)
{
	const struct cvb_bounds_of of = {.alpha = 0.05};
	struct cvb_sessions s;
	struct cvb_ratio ratio;
	unsigned out = 1000;

	if (sessions_of(c, (unsigned)c->n, 0, r, &s) < 0)
		return out;
	if (cvb_sessions_ratio(&s, s.n, &of, &ratio, NULL) == 0)
		out = ratio.lower > 1;
	cvb_sessions_done(&s);
	return out;
}

static const unsigned four_looks[] = {6, 10, 16, 24};
static const unsigned eight_looks[] = {6, 8, 10, 12, 14, 16, 20, 24};

/* The verdict of a campaign at ratio a against margin .99, with m looks (0: one, at the end). */
static enum cvb_verdict verdict(const struct sim_cell *c, struct rng *r)
{
	struct cvb_gate_plan plan = {.rule = CVB_RULE_NON_INFERIORITY, .margin = 0.99};
	enum cvb_verdict out = CVB_VERDICT_INVALID;
	struct cvb_gate_answer answer;
	struct cvb_sessions s;

	plan.n_looks = (unsigned)c->m;
	for (unsigned i = 0; i < plan.n_looks; i++)
		plan.looks[i] = c->m == CVB_ARRAY_LEN(four_looks) ? four_looks[i] : eight_looks[i];
	if (sessions_of(c, (unsigned)c->n, log(c->a), r, &s) < 0)
		return out;
	if (cvb_gate_judge(&s, &plan, &answer, NULL) == 0)
		out = answer.verdict;
	cvb_sessions_done(&s);
	return out;
}

static unsigned passes(const struct sim_cell *c, struct rng *r)
{
	return verdict(c, r) == CVB_VERDICT_PASS;
}

static unsigned fails(const struct sim_cell *c, struct rng *r)
{
	return verdict(c, r) == CVB_VERDICT_FAIL;
}

#define MISS_OF(text, kind, sessions, sd, at_least, at_most)                                       \
	{                                                                                          \
		.group = "95 % bound misses", .name = text, .repeat = miss, .least = at_least,     \
		.most = at_most, .noise = kind, .b = sd, .n = sessions                             \
	}
#define MISS(text, kind, sessions, sd) MISS_OF(text, kind, sessions, sd, 0.03, 0.06)
#define MISSES(text, kind, sd)                                                                     \
	MISS(text ", S=6", kind, 6, sd), MISS(text ", S=10", kind, 10, sd),                        \
		MISS(text ", S=16", kind, 16, sd)
#define LOOKING_AT(title, text, fn, looks, kind, sd)                                               \
	{                                                                                          \
		.group = title, .name = text, .repeat = fn, .least = NAN, .most = 0.06,            \
		.noise = kind, .a = 0.99, .b = sd, .n = 24, .m = looks                             \
	}
#define LOOKING(text, kind, sd)                                                                    \
	LOOKING_AT("false PASS, 4 looks", text, passes, 4, kind, sd),                              \
		LOOKING_AT("false FAIL, 4 looks", text, fails, 4, kind, sd),                       \
		LOOKING_AT("false PASS, 8 looks", text, passes, 8, kind, sd),                      \
		LOOKING_AT("false FAIL, 8 looks", text, fails, 8, kind, sd)
#define POWER(title, text, fn, ratio, sessions, looks, limit)                                      \
	{                                                                                          \
		.group = title, .name = text, .repeat = fn, .least = limit, .most = NAN,           \
		.noise = GAUSS_1, .a = ratio, .b = 0.003, .n = sessions, .m = looks                \
	}

static const struct sim_cell cells[] = {
	MISSES("gauss 1 %", GAUSS_1, 0.002),
	MISSES("AR(.9) 2 %", AR_9, 0.002),
	MISSES("bimodal, independent", MODES, 0.002),
	MISSES("bimodal, sticky", STICKY, 0.002),
	MISSES("spikes in both arms", SPIKES, 0.002),
	MISSES("spikes in the VM arm", SPIKES_VM, 0.002),
	MISS_OF("spikes in the VM arm, of E[z], S=6", SPIKES_VM_EZ, 6, 0.002, NAN, NAN),
	MISS_OF("spikes in the VM arm, of E[z], S=10", SPIKES_VM_EZ, 10, 0.002, NAN, NAN),
	MISS_OF("spikes in the VM arm, of E[z], S=16", SPIKES_VM_EZ, 16, 0.002, NAN, NAN),
	MISSES("drift 5 %", DRIFT, 0.002),
	MISSES("session effect .5 %", GAUSS_1, 0.005),
	MISSES("session effect .7 %", GAUSS_1, 0.007),
	LOOKING("gauss 1 %", GAUSS_1, 0.002),
	LOOKING("AR(.9) 2 %", AR_9, 0.002),
	LOOKING("bimodal, independent", MODES, 0.002),
	LOOKING("bimodal, sticky", STICKY, 0.002),
	LOOKING("spikes in both arms", SPIKES, 0.002),
	LOOKING("spikes in the VM arm", SPIKES_VM, 0.002),
	LOOKING("drift 5 %", DRIFT, 0.002),
	LOOKING("session effect .5 %", GAUSS_1, 0.005),
	LOOKING("session effect .7 %", GAUSS_1, 0.007),
	POWER("power to PASS at 1.00", "one look, S=6", passes, 1.0, 6, 0, 0.95),
	POWER("power to PASS at 1.00", "4 looks, S up to 24", passes, 1.0, 24, 4, 0.95),
	POWER("power to PASS at 1.00", "8 looks, S up to 24", passes, 1.0, 24, 8, 0.95),
	POWER("power to FAIL", "1 % below, one look, S=10", fails, 0.98, 10, 0, NAN),
	POWER("power to FAIL", "2 % below, one look, S=10", fails, 0.97, 10, 0, NAN),
	POWER("power to FAIL", "5 % below, one look, S=10", fails, 0.94, 10, 0, 0.9995),
	POWER("power to FAIL", "1 % below, 4 looks, S up to 24", fails, 0.98, 24, 4, NAN),
};

struct sim_cells sim_ratio_cells(void)
{
	return (struct sim_cells){cells, CVB_ARRAY_LEN(cells)};
}
