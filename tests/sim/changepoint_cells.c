/* SPDX-License-Identifier: Apache-2.0 */
/* False change points in quiet histories, and steps that are found. */
#include "core/util.h"
#include "sim/sim.h"
#include "stats/changepoint.h"

#include <stdlib.h>

enum nightly {
	N_GAUSS,
	N_AR5,	      /* AR(1), phi .5, unit sd */
	N_BIMODAL,    /* 70 % at 0, 30 % at 3; sd .5 about each */
	N_SPIKES,     /* 5 % of the nights are off by 5 to 15 sd */
	N_STICKY,     /* two states 3 apart, left with probability .05; sd .5 about each */
	N_DRIFT,      /* rises by 10 sd: 5 % where the nightly sd is .5 % */
	N_HEAVY,      /* Student t, 3 degrees of freedom */
	N_COARSE,     /* rounded to whole sds */
	N_TWO_SPREAD, /* the second half three times as noisy */
	N_GROWING,    /* the sd grows from 1 to 4 */
};

enum {
	MAX_N = 400
};

static void nightly_noise(enum nightly kind, size_t n, double *x, struct rng *r)
{
	double state = rng_gauss(r);
	bool slow = rng_uniform(r) < 0.5;

	for (size_t i = 0; i < n; i++) {
		double g = rng_gauss(r), u = rng_uniform(r), v = rng_uniform(r);

		x[i] = g;
		switch (kind) {
		case N_GAUSS:
			break;
		case N_AR5:
			x[i] = state = 0.5 * state + sqrt(0.75) * g;
			break;
		case N_BIMODAL:
			x[i] = 0.5 * g + (u < 0.3 ? 3 : 0);
			break;
		case N_SPIKES:
			x[i] += u < 0.05 ? 5 + 10 * v : 0;
			break;
		case N_STICKY:
			slow ^= u < 0.05;
			x[i] = 0.5 * g + (slow ? 3 : 0);
			break;
		case N_DRIFT:
			x[i] += 10.0 * (double)i / (double)n;
			break;
		case N_HEAVY: {
			double a = rng_gauss(r), b = rng_gauss(r), c = rng_gauss(r);

			x[i] = g / sqrt((a * a + b * b + c * c) / 3);
			break;
		}
		case N_COARSE:
			x[i] = round(g);
			break;
		case N_TWO_SPREAD:
			x[i] *= 2 * i > n ? 3 : 1;
			break;
		case N_GROWING:
			x[i] *= 1 + 3.0 * (double)i / (double)n;
			break;
		}
	}
}

/* False change points in n quiet nights; beta is a.  With b, a trend over all is not counted. */
static unsigned quiet(const struct sim_cell *c, struct rng *r)
{
	struct cvb_changepoints found;
	double x[MAX_N];
	unsigned count = 0;

	nightly_noise((enum nightly)c->noise, (size_t)c->n, x, r);
	if (cvb_changepoints_find(x, (size_t)c->n, c->a, &found, NULL) < 0)
		return 1000;
	for (size_t i = 0; i < found.n_cp; i++)
		count += !(c->b > 0 && found.cp[i].label == CVB_CHANGEPOINT_TREND);
	cvb_changepoints_done(&found);
	return count;
}

/* A drift is said to be one: exactly one change, a trend. */
static unsigned is_trend(const struct sim_cell *c, struct rng *r)
{
	struct cvb_changepoints found;
	double x[MAX_N];
	bool yes;

	nightly_noise((enum nightly)c->noise, (size_t)c->n, x, r);
	if (cvb_changepoints_find(x, (size_t)c->n, c->a, &found, NULL) < 0)
		return 1000;
	yes = found.n_cp == 1 && found.cp[0].label == CVB_CHANGEPOINT_TREND;
	cvb_changepoints_done(&found);
	return yes;
}

/* A step of b sd at two thirds of n nights, found within 4 nights. */
static unsigned step(const struct sim_cell *c, struct rng *r)
{
	struct cvb_changepoints found;
	double x[MAX_N];
	size_t n = (size_t)c->n, at = n * 2 / 3;
	unsigned hit = 0;

	nightly_noise((enum nightly)c->noise, n, x, r);
	for (size_t i = at; i < n; i++)
		x[i] += c->b;
	if (cvb_changepoints_find(x, n, c->a, &found, NULL) < 0)
		return 1000;
	for (size_t i = 0; i < found.n_cp; i++)
		hit |= found.cp[i].index + 4 >= at && found.cp[i].index <= at + 4;
	cvb_changepoints_done(&found);
	return hit;
}

/* Of the steps of b sd that were found within 4 nights: how many lie outside lower … upper. */
static unsigned effect_misses(const struct sim_cell *c, struct rng *r)
{
	struct cvb_changepoints found;
	unsigned out = SIM_LEFT_OUT;
	double x[MAX_N];
	size_t n = (size_t)c->n, at = n * 2 / 3;

	nightly_noise((enum nightly)c->noise, n, x, r);
	for (size_t i = at; i < n; i++)
		x[i] += c->b;
	if (cvb_changepoints_find(x, n, c->a, &found, NULL) < 0)
		return 1000;
	for (size_t i = 0; i < found.n_cp; i++) {
		const struct cvb_changepoint *p = &found.cp[i];

		if (p->index + 4 >= at && p->index <= at + 4 && p->label == CVB_CHANGEPOINT_STEP)
			out = p->lower > c->b || p->upper < c->b;
	}
	cvb_changepoints_done(&found);
	return out;
}

#define ROW(title, text, fn, kind, beta, sds, nights, at_least, at_most)                           \
	{                                                                                          \
		.group = title, .name = text, .repeat = fn, .least = at_least, .most = at_most,    \
		.noise = kind, .a = beta, .b = sds, .n = nights                                    \
	}
#define ALERT	CVB_CHANGEPOINT_ALERT
#define EXPLORE CVB_CHANGEPOINT_EXPLORE
#define QUIET(text, kind, beta, nights, limit)                                                     \
	ROW("false change points", text, quiet, kind, beta, 0, nights, NAN, limit)
#define STEP(text, kind, beta, sds, limit)                                                         \
	ROW("step found +-4", text, step, kind, beta, sds, 90, limit, NAN)
#define EFFECT(text, kind, sds)                                                                    \
	ROW("95 % interval of step", text, effect_misses, kind, ALERT, sds, 90, NAN, NAN)

static const struct sim_cell cells[] = {
	QUIET("alert: gauss, 90 nights", N_GAUSS, ALERT, 90, 0.05),
	QUIET("alert: AR(.5), 90 nights", N_AR5, ALERT, 90, 0.1),
	QUIET("alert: bimodal, 90 nights", N_BIMODAL, ALERT, 90, 0.1),
	QUIET("alert: spikes, 90 nights", N_SPIKES, ALERT, 90, 0.1),
	QUIET("alert: sticky states, 90 nights", N_STICKY, ALERT, 90, NAN),
	QUIET("alert: Student t(3), 90 nights", N_HEAVY, ALERT, 90, NAN),
	QUIET("alert: rounded, 90 nights", N_COARSE, ALERT, 90, 0.05),
	QUIET("alert: two spreads, 90 nights", N_TWO_SPREAD, ALERT, 90, NAN),
	QUIET("alert: growing spread, 90 nights", N_GROWING, ALERT, 90, NAN),
	ROW("false change points", "alert: drift 5 %, trends apart", quiet, N_DRIFT, ALERT, 1, 90,
	    NAN, NAN),
	ROW("drift is one trend", "alert: drift 5 %, 90 nights", is_trend, N_DRIFT, ALERT, 0, 90,
	    0.9, NAN),
	QUIET("alert: gauss, 12 nights", N_GAUSS, ALERT, 12, NAN),
	QUIET("alert: gauss, 24 nights", N_GAUSS, ALERT, 24, NAN),
	QUIET("alert: gauss, 400 nights", N_GAUSS, ALERT, 400, NAN),
	QUIET("alert: AR(.5), 24 nights", N_AR5, ALERT, 24, NAN),
	QUIET("alert: AR(.5), 45 nights", N_AR5, ALERT, 45, NAN),
	QUIET("alert: AR(.5), 400 nights", N_AR5, ALERT, 400, NAN),
	QUIET("explore: gauss, 90 nights", N_GAUSS, EXPLORE, 90, NAN),
	QUIET("explore: AR(.5), 90 nights", N_AR5, EXPLORE, 90, NAN),
	QUIET("explore: bimodal, 90 nights", N_BIMODAL, EXPLORE, 90, NAN),
	QUIET("explore: spikes, 90 nights", N_SPIKES, EXPLORE, 90, NAN),
	STEP("alert: 1 sd, gauss", N_GAUSS, ALERT, 1, 0.35),
	STEP("alert: 2 sd, gauss", N_GAUSS, ALERT, 2, 0.75),
	STEP("alert: 3 sd, gauss", N_GAUSS, ALERT, 3, 0.95),
	STEP("alert: 5 sd, gauss", N_GAUSS, ALERT, 5, 0.9995),
	STEP("alert: 1 sd, AR(.5)", N_AR5, ALERT, 1, NAN),
	STEP("alert: 2 sd, AR(.5)", N_AR5, ALERT, 2, 0.78),
	STEP("alert: 3 sd, AR(.5)", N_AR5, ALERT, 3, NAN),
	STEP("alert: 5 sd, AR(.5)", N_AR5, ALERT, 5, NAN),
	STEP("alert: 2 sd, spikes", N_SPIKES, ALERT, 2, NAN),
	STEP("alert: 3 sd, bimodal", N_BIMODAL, ALERT, 3, NAN),
	STEP("alert: 2 sd, Student t(3)", N_HEAVY, ALERT, 2, NAN),
	STEP("alert: 2 sd, rounded", N_COARSE, ALERT, 2, NAN),
	STEP("explore: 1 sd, gauss", N_GAUSS, EXPLORE, 1, NAN),
	STEP("explore: 2 sd, gauss", N_GAUSS, EXPLORE, 2, NAN),
	STEP("explore: 2 sd, AR(.5)", N_AR5, EXPLORE, 2, NAN),
	EFFECT("2 sd, gauss", N_GAUSS, 2),
	EFFECT("3 sd, gauss", N_GAUSS, 3),
	EFFECT("5 sd, gauss", N_GAUSS, 5),
	EFFECT("2 sd, AR(.5)", N_AR5, 2),
	EFFECT("3 sd, AR(.5)", N_AR5, 3),
	EFFECT("5 sd, AR(.5)", N_AR5, 5),
	EFFECT("5 sd, Student t(3)", N_HEAVY, 5),
};

struct sim_cells sim_changepoint_cells(void)
{
	return (struct sim_cells){cells, CVB_ARRAY_LEN(cells)};
}
