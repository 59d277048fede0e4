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

enum noise {
	GAUSS_1,      /* 1 % a measurement */
	AR_9,	      /* machine state AR(.9) with sd 2 %, seen by both arms in turn, and .5 % */
	MODES,	      /* each measurement 3 % slower with probability .3; .3 % about each mode */
	STICKY,	      /* the machine is 3 % slower or not, and changes with probability .05; .3 % */
	SPIKES,	      /* 5 % of the measurements 10 to 40 % slower; .5 % */
	SPIKES_VM,    /* the same in the test arm only */
	SPIKES_VM_EZ, /* the same, judged against E[z] */
	DRIFT,	      /* 5 % over the campaign; .5 % */
};

enum {
	ROUNDS = 12,
	MAX_SESSIONS = 24,
	ESTIMAND_SESSIONS = 100000,
};

struct machine {
	struct rng *rng;
	enum noise noise;
	double state;
	bool slow;
	double t, step; /* how much of the campaign has passed, 0 … 1 */
};

/* Log of the performance of one measurement, but for what the arm itself is worth. */
static double measure(struct machine *m, bool test)
{
	double g = rng_gauss(m->rng), h = rng_gauss(m->rng);
	double u = rng_uniform(m->rng), v = rng_uniform(m->rng);

	m->t += m->step;
	switch (m->noise) {
	case GAUSS_1:
		return 0.01 * g;
	case AR_9:
		m->state = 0.9 * m->state + 0.02 * sqrt(0.19) * h;
		return m->state + 0.005 * g;
	case MODES:
		return 0.003 * g - (u < 0.3 ? 0.03 : 0);
	case STICKY:
		m->slow ^= u < 0.05;
		return 0.003 * g - (m->slow ? 0.03 : 0);
	case SPIKES:
		return 0.005 * g - (u < 0.05 ? 0.1 + 0.3 * v : 0);
	case SPIKES_VM:
	case SPIKES_VM_EZ:
		return 0.005 * g - (test && u < 0.05 ? 0.1 + 0.3 * v : 0);
	case DRIFT:
		return 0.005 * g + 0.05 * m->t;
	}
	return 0;
}

/* A campaign: each round both arms, ABBA or BAAB by coin flip; returns the number of pairs. */
static size_t campaign(enum noise noise, unsigned sessions, double ln_ratio, double session_sd,
		       struct cvb_pair *p, struct rng *r)
{
	struct machine m = {.rng = r,
			    .noise = noise,
			    .state = 0.02 * rng_gauss(r),
			    .slow = rng_uniform(r) < 0.5,
			    .step = 0.5 / (sessions * ROUNDS)};
	size_t n = 0;

	for (unsigned s = 0; s < sessions; s++) {
		double effect = ln_ratio + session_sd * rng_gauss(r);
		bool test_first = false;

		for (unsigned k = 0; k < ROUNDS; k++, n++) {
			double first, second;

			test_first = k % 2 ? !test_first : rng_uniform(r) < 0.5;
			first = measure(&m, test_first);
			second = measure(&m, !test_first);
			p[n] = (struct cvb_pair){.session = s, .round = k};
			p[n].base = exp(test_first ? second : first);
			p[n].test = exp((test_first ? first : second) + effect);
		}
	}
	return n;
}

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

		campaign(SPIKES_VM, 1, 0, 0, p, &r);
		for (unsigned k = 0; k < ROUNDS; k++)
			all[n++] = y[k] = log(p[k].test / p[k].base);
		sum += cvb_hodges_lehmann(y, ROUNDS);
	}
	spikes_mean_z = sum / ESTIMAND_SESSIONS;
	spikes_location = cvb_hodges_lehmann(all, n);
}

/* What is estimated when the arms' true ratio is 1. */
static double estimand(enum noise noise)
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
	size_t n = campaign((enum noise)c->noise, sessions,
			    ln_ratio - estimand((enum noise)c->noise), c->b, p, r);

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

/* The verdict of a campaign at ratio a against margin .99. */
static enum cvb_verdict verdict(const struct sim_cell *c, bool looks, struct rng *r)
{
	struct cvb_gate_plan plan = {.rule = CVB_RULE_NON_INFERIORITY, .margin = 0.99};
	enum cvb_verdict out = CVB_VERDICT_INVALID;
	struct cvb_gate_answer answer;
	struct cvb_sessions s;

	if (looks) {
		static const unsigned at[] = {6, 10, 16, 24};

		plan.n_looks = CVB_ARRAY_LEN(at);
		for (unsigned i = 0; i < plan.n_looks; i++)
			plan.looks[i] = at[i];
	}
	if (sessions_of(c, (unsigned)c->n, log(c->a), r, &s) < 0)
		return out;
	if (cvb_gate_judge(&s, &plan, &answer, NULL) == 0)
		out = answer.verdict;
	cvb_sessions_done(&s);
	return out;
}

static unsigned passes(const struct sim_cell *c, struct rng *r)
{
	return verdict(c, false, r) == CVB_VERDICT_PASS;
}

static unsigned fails(const struct sim_cell *c, struct rng *r)
{
	return verdict(c, false, r) == CVB_VERDICT_FAIL;
}

static unsigned passes_looking(const struct sim_cell *c, struct rng *r)
{
	return verdict(c, true, r) == CVB_VERDICT_PASS;
}

static unsigned fails_looking(const struct sim_cell *c, struct rng *r)
{
	return verdict(c, true, r) == CVB_VERDICT_FAIL;
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
#define LOOKING(text, kind, sd)                                                                    \
	{.group = "false PASS, 4 looks",                                                           \
	 .name = text,                                                                             \
	 .repeat = passes_looking,                                                                 \
	 .least = NAN,                                                                             \
	 .most = 0.06,                                                                             \
	 .noise = kind,                                                                            \
	 .a = 0.99,                                                                                \
	 .b = sd,                                                                                  \
	 .n = 24},                                                                                 \
	{                                                                                          \
		.group = "false FAIL, 4 looks", .name = text, .repeat = fails_looking,             \
		.least = NAN, .most = 0.06, .noise = kind, .a = 0.99, .b = sd, .n = 24             \
	}
#define POWER(title, text, fn, ratio, sessions, limit)                                             \
	{                                                                                          \
		.group = title, .name = text, .repeat = fn, .least = limit, .most = NAN,           \
		.noise = GAUSS_1, .a = ratio, .b = 0.003, .n = sessions                            \
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
	POWER("power to PASS at 1.00", "one look, S=6", passes, 1.0, 6, 0.95),
	POWER("power to PASS at 1.00", "4 looks, S up to 24", passes_looking, 1.0, 24, 0.95),
	POWER("power to FAIL", "1 % below, one look, S=10", fails, 0.98, 10, NAN),
	POWER("power to FAIL", "2 % below, one look, S=10", fails, 0.97, 10, NAN),
	POWER("power to FAIL", "5 % below, one look, S=10", fails, 0.94, 10, 0.9995),
	POWER("power to FAIL", "1 % below, 4 looks, S up to 24", fails_looking, 0.98, 24, NAN),
};

struct sim_cells sim_ratio_cells(void)
{
	return (struct sim_cells){cells, CVB_ARRAY_LEN(cells)};
}
