/* SPDX-License-Identifier: Apache-2.0 */
/* False change points in quiet histories, and steps that are found. */
#include "core/util.h"
#include "sim/sim.h"
#include "stats/changepoint.h"

#include <stdlib.h>

enum nightly {
	GAUSS,
	AR5,	    /* AR(1), phi .5, unit sd */
	BIMODAL,    /* 70 % at 0, 30 % at 3; sd .5 about each */
	SPIKES,	    /* 5 % of the nights are off by 5 to 15 sd */
	STICKY,	    /* two states 3 apart, left with probability .05; sd .5 about each */
	DRIFT,	    /* rises by 10 sd: 5 % where the nightly sd is .5 % */
	HEAVY,	    /* Student t, 3 degrees of freedom */
	COARSE,	    /* rounded to whole sds */
	TWO_SPREAD, /* the second half three times as noisy */
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
		case GAUSS:
			break;
		case AR5:
			x[i] = state = 0.5 * state + sqrt(0.75) * g;
			break;
		case BIMODAL:
			x[i] = 0.5 * g + (u < 0.3 ? 3 : 0);
			break;
		case SPIKES:
			x[i] += u < 0.05 ? 5 + 10 * v : 0;
			break;
		case STICKY:
			slow ^= u < 0.05;
			x[i] = 0.5 * g + (slow ? 3 : 0);
			break;
		case DRIFT:
			x[i] += 10.0 * (double)i / (double)n;
			break;
		case HEAVY: {
			double a = rng_gauss(r), b = rng_gauss(r), c = rng_gauss(r);

			x[i] = g / sqrt((a * a + b * b + c * c) / 3);
			break;
		}
		case COARSE:
			x[i] = round(g);
			break;
		case TWO_SPREAD:
			x[i] *= 2 * i > n ? 3 : 1;
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

#define QUIET(text, kind, beta, nights, limit)                                                     \
	{                                                                                          \
		.group = "false change points", .name = text, .repeat = quiet, .least = NAN,       \
		.most = limit, .noise = kind, .a = beta, .n = nights                               \
	}
#define STEP(text, kind, beta, sds, limit)                                                         \
	{                                                                                          \
		.group = "step found +-4", .name = text, .repeat = step, .least = limit,           \
		.most = NAN, .noise = kind, .a = beta, .b = sds, .n = 90                           \
	}

static const struct sim_cell cells[] = {
	QUIET("alert: gauss, 90 nights", GAUSS, 4, 90, 0.05),
	QUIET("alert: AR(.5), 90 nights", AR5, 4, 90, 0.1),
	QUIET("alert: bimodal, 90 nights", BIMODAL, 4, 90, 0.1),
	QUIET("alert: spikes, 90 nights", SPIKES, 4, 90, 0.1),
	QUIET("alert: sticky states, 90 nights", STICKY, 4, 90, NAN),
	QUIET("alert: Student t(3), 90 nights", HEAVY, 4, 90, NAN),
	QUIET("alert: rounded, 90 nights", COARSE, 4, 90, 0.05),
	QUIET("alert: two spreads, 90 nights", TWO_SPREAD, 4, 90, NAN),
	{.group = "false change points",
	 .name = "alert: drift 5 %, trends apart",
	 .repeat = quiet,
	 .least = NAN,
	 .most = NAN,
	 .noise = DRIFT,
	 .a = 4,
	 .b = 1,
	 .n = 90},
	{.group = "drift is one trend",
	 .name = "alert: drift 5 %, 90 nights",
	 .repeat = is_trend,
	 .least = 0.9,
	 .most = NAN,
	 .noise = DRIFT,
	 .a = 4,
	 .n = 90},
	QUIET("alert: gauss, 12 nights", GAUSS, 4, 12, NAN),
	QUIET("alert: gauss, 24 nights", GAUSS, 4, 24, NAN),
	QUIET("alert: gauss, 400 nights", GAUSS, 4, 400, NAN),
	QUIET("alert: AR(.5), 400 nights", AR5, 4, 400, NAN),
	QUIET("explore: gauss, 90 nights", GAUSS, 3, 90, NAN),
	QUIET("explore: AR(.5), 90 nights", AR5, 3, 90, NAN),
	QUIET("explore: bimodal, 90 nights", BIMODAL, 3, 90, NAN),
	QUIET("explore: spikes, 90 nights", SPIKES, 3, 90, NAN),
	STEP("alert: 1 sd, gauss", GAUSS, 4, 1, 0.35),
	STEP("alert: 2 sd, gauss", GAUSS, 4, 2, 0.75),
	STEP("alert: 3 sd, gauss", GAUSS, 4, 3, 0.95),
	STEP("alert: 5 sd, gauss", GAUSS, 4, 5, 0.9995),
	STEP("alert: 1 sd, AR(.5)", AR5, 4, 1, NAN),
	STEP("alert: 2 sd, AR(.5)", AR5, 4, 2, NAN),
	STEP("alert: 3 sd, AR(.5)", AR5, 4, 3, NAN),
	STEP("alert: 5 sd, AR(.5)", AR5, 4, 5, NAN),
	STEP("alert: 2 sd, spikes", SPIKES, 4, 2, NAN),
	STEP("alert: 3 sd, bimodal", BIMODAL, 4, 3, NAN),
	STEP("explore: 1 sd, gauss", GAUSS, 3, 1, NAN),
	STEP("explore: 2 sd, gauss", GAUSS, 3, 2, NAN),
	STEP("explore: 2 sd, AR(.5)", AR5, 3, 2, NAN),
};

struct sim_cells sim_changepoint_cells(void)
{
	return (struct sim_cells){cells, CVB_ARRAY_LEN(cells)};
}
