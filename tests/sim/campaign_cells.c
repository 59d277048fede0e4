/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Error rates of whole campaigns: what `cvmbench certify` says, with its A/A arm, voided rounds and
 * many series, of machines that are known.
 *
 * Arms native, aa (native again, in a third of the rounds) and vm; each measurement has noise, each
 * arm but native its own luck in each session.
 */
#include "campaign/verdict.h"
#include "core/util.h"
#include "sim/sim.h"

#include <string.h>

enum {
	ROUNDS = 12,
	SESSIONS = 6,
	AA_EVERY = 3,
	MAX_SERIES = 20,
	ARMS = 3
};

static char bench_name[] = "sim", metric_name[] = "sim/speed", id[] = "g", unit[] = "ops_per_s";
static char params_key[] = "", key[] = "sim/speed", path[] = "sim", profile[] = "sim";
static char arm_names[ARMS][8] = {"native", "aa", "vm"};

struct machine {
	double ln_ratio;   /* of vm */
	double session_sd; /* of vm and aa */
	double noise;	   /* of each measurement */
	double stolen;	   /* share of vm's rounds that the host disturbs */
	double stolen_ln;  /* what that costs */
};

struct campaign {
	struct cvb_model m;
	struct cvb_model_bench bench;
	struct cvb_model_series series[MAX_SERIES];
	struct cvb_model_series *list[MAX_SERIES];
	struct cvb_model_point points[MAX_SERIES][ARMS][SESSIONS * ROUNDS];
};

static void add_point(struct cvb_model_points *p, unsigned session, unsigned round, int arm,
		      double value, bool stolen)
{
	p->v[p->n++] = (struct cvb_model_point){
		.session = session,
		.round = round,
		.value = value,
		.start_ns = UINT64_C(1000000000) * (1000 * session + 10 * round + (unsigned)arm),
		.disturbed = stolen ? CVB_DISTURBED_STEAL : CVB_UNDISTURBED};
}

static void measure_series(struct cvb_model_series *s, const struct machine *is, struct rng *r)
{
	for (unsigned session = 1; session <= SESSIONS; session++) {
		double luck[ARMS] = {0, is->session_sd * rng_gauss(r),
				     is->ln_ratio + is->session_sd * rng_gauss(r)};

		for (unsigned round = 1; round <= ROUNDS; round++)
			for (int a = 0; a < ARMS; a++) {
				double ln = luck[a] + is->noise * rng_gauss(r);
				bool stolen = a == 2 && rng_uniform(r) < is->stolen;

				if (a == 1 && round % AA_EVERY)
					continue;
				add_point(&s->points[a], session, round, a,
					  exp(ln + (stolen ? is->stolen_ln : 0)), stolen);
			}
	}
}

/* A campaign of so many series. */
static void measure(struct campaign *c, unsigned n, const struct machine *is, struct rng *r)
{
	memset(c, 0, sizeof(*c));
	c->m = (struct cvb_model){.path = path,
				  .profile = profile,
				  .sessions = SESSIONS,
				  .sessions_complete = SESSIONS,
				  .complete = true,
				  .n_arms = ARMS,
				  .benches = &c->bench,
				  .n_benches = 1,
				  .series = c->list,
				  .n_series = n};
	c->bench = (struct cvb_model_bench){
		.name = bench_name, .arm_mask = 7, .rounds = ROUNDS, .sessions_done = SESSIONS};
	for (int a = 0; a < ARMS; a++) {
		c->m.arms[a].name = arm_names[a];
		c->m.arms[a].state = CVB_MODEL_ARM_READY;
		c->bench.cells[a].outcome = CVB_MODEL_OK;
		c->bench.cells[a].steal_ratio = NAN;
	}
	c->m.arms[1].aa_of = arm_names[0];
	for (unsigned i = 0; i < n; i++) {
		c->list[i] = &c->series[i];
		c->series[i] = (struct cvb_model_series){.name = metric_name,
							 .params_key = params_key,
							 .key = key,
							 .unit = unit,
							 .better = CVB_HIGHER_IS_BETTER};
		for (int a = 0; a < ARMS; a++)
			c->series[i].points[a].v = c->points[i][a];
		measure_series(&c->series[i], is, r);
	}
}

static enum cvb_verdict certify(const struct sim_cell *cell, const struct machine *is,
				struct rng *r)
{
	const struct cvb_gate gate = {.id = id,
				      .metric = metric_name,
				      .arm = arm_names[2],
				      .base = arm_names[0],
				      .margin = 0.99};
	static _Thread_local struct campaign c;
	static _Thread_local struct cvb_model_session sessions[SESSIONS];
	_cleanup_json_ json_t *v = NULL;
	const char *overall;

	for (unsigned s = 0; s < SESSIONS; s++)
		sessions[s].complete = true;
	measure(&c, (unsigned)cvb_max(cell->n, 1), is, r);
	c.m.session = sessions;
	if (cvb_verdict_judge(&c.m, &gate, 1, &v, NULL) < 0)
		return CVB_VERDICT_UNSUPPORTED;
	overall = json_string_value(json_object_get(v, "overall"));
	for (int i = 0; cvb_verdict_names[i]; i++)
		if (!strcmp(overall, cvb_verdict_names[i]))
			return (enum cvb_verdict)i;
	return CVB_VERDICT_UNSUPPORTED;
}

/* a: ratio, b: session sd, n: series, m: the verdict to count, noise: of struct noises */
static const struct {
	double noise, stolen, stolen_ln;
} noises[] = {{0.01, 0, 0}, {0.05, 0, 0}, {0.01, 0.1, -0.1}};
enum {
	CALM,
	NOISY,
	STOLEN
};

static unsigned says(const struct sim_cell *c, struct rng *r)
{
	const struct machine is = {.ln_ratio = log(c->a),
				   .session_sd = c->b,
				   .noise = noises[c->noise].noise,
				   .stolen = noises[c->noise].stolen,
				   .stolen_ln = noises[c->noise].stolen_ln};

	return certify(c, &is, r) == (enum cvb_verdict)c->m;
}

#define ROW(title, text, lo, hi, kind, ratio, sd, series, verdict)                                 \
	{                                                                                          \
		.group = title, .name = text, .repeat = says, .least = lo, .most = hi,             \
		.noise = kind, .a = ratio, .b = sd, .n = series, .m = verdict                      \
	}

static const struct sim_cell cells[] = {
	ROW("campaign, PASS", "parity, session sd .3 %, A/A arm, S=6", 0.95, NAN, CALM, 1, 0.003, 1,
	    CVB_VERDICT_PASS),
	ROW("campaign, PASS", "at the margin", NAN, 0.06, CALM, 0.99, 0.003, 1, CVB_VERDICT_PASS),
	ROW("campaign, FAIL", "at the margin", NAN, 0.06, CALM, 0.99, 0.003, 1, CVB_VERDICT_FAIL),
	ROW("campaign, FAIL", "ratio .98", 0.9, NAN, CALM, 0.98, 0.003, 1, CVB_VERDICT_FAIL),
	ROW("campaign, INVALID", "parity, one series", NAN, 0.02, CALM, 1, 0.003, 1,
	    CVB_VERDICT_INVALID),
	ROW("campaign, INVALID", "parity, 20 series", NAN, 0.05, CALM, 1, 0.003, 20,
	    CVB_VERDICT_INVALID),
	ROW("campaign, INVALID", "noise 5 %, margin .99", NAN, NAN, NOISY, 1, 0.003, 1,
	    CVB_VERDICT_INVALID),
	ROW("campaign, INCONCLUSIVE", "noise 5 %, margin .99", NAN, NAN, NOISY, 1, 0.003, 1,
	    CVB_VERDICT_INCONCLUSIVE),
	ROW("campaign, PASS", "noise 5 %, at the margin", NAN, 0.06, NOISY, 0.99, 0.003, 1,
	    CVB_VERDICT_PASS),
	ROW("campaign, PASS", "10 % of vm's rounds stolen, at the margin", NAN, 0.06, STOLEN, 0.99,
	    0.003, 1, CVB_VERDICT_PASS),
	ROW("campaign, FAIL", "10 % of vm's rounds stolen, at the margin", NAN, 0.06, STOLEN, 0.99,
	    0.003, 1, CVB_VERDICT_FAIL),
	ROW("campaign, PASS", "10 % of vm's rounds stolen, parity", NAN, NAN, STOLEN, 1, 0.003, 1,
	    CVB_VERDICT_PASS),
	ROW("campaign, INVALID", "10 % of vm's rounds stolen, parity", NAN, NAN, STOLEN, 1, 0.003,
	    1, CVB_VERDICT_INVALID),
};

struct sim_cells sim_campaign_cells(void)
{
	return (struct sim_cells){cells, CVB_ARRAY_LEN(cells)};
}
