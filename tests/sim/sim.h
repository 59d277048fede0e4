/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the simulations of the statistics share: random numbers that depend on the cell and the
 * repetition only (never on the thread), and the description of a cell of the table.
 */
#ifndef CVB_TESTS_SIM_H
#define CVB_TESTS_SIM_H

#include "stats/ratio.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* splitmix64 (Vigna, public domain) */
struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *r)
{
	uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static inline double rng_uniform(struct rng *r)
{
	return ((double)(rng_next(r) >> 11) + 0.5) / 9007199254740992.0;
}

/* Box-Muller */
static inline double rng_gauss(struct rng *r)
{
	double radius = sqrt(-2 * log(rng_uniform(r)));

	return radius * cos(2 * M_PI * rng_uniform(r));
}

/* What disturbs the measurements of a simulated machine. */
enum sim_noise {
	GAUSS_1,      /* 1 % a measurement */
	AR_9,	      /* machine state AR(.9) with sd 2 %, seen by both arms in turn, and .5 % */
	MODES,	      /* each measurement 3 % slower with probability .3; .3 % about each mode */
	STICKY,	      /* the machine is 3 % slower or not, and changes with probability .05; .3 % */
	SPIKES,	      /* 5 % of the measurements 10 to 40 % slower; .5 % */
	SPIKES_VM,    /* the same in the test arm only */
	SPIKES_VM_EZ, /* the same, judged against E[z] */
	DRIFT,	      /* 5 % over the campaign; .5 % */
};

/*
 * Measure a campaign into p[sessions * rounds]: performance of both arms, ABBA or BAAB by coin
 * flip; the test arm is worth exp(ln_ratio + session_sd * gauss) in each session.  Returns the
 * number of pairs.
 */
size_t sim_campaign(enum sim_noise noise, unsigned sessions, unsigned rounds, double ln_ratio,
		    double session_sd, struct cvb_pair *p, struct rng *r);

#define SIM_LEFT_OUT UINT32_MAX /* a repetition that says nothing */

/* One row of the table: the mean of an integer that each repetition yields. */
struct sim_cell {
	const char *group;
	const char *name;
	/* one repetition; events to be averaged */
	unsigned (*repeat)(const struct sim_cell *c, struct rng *r);
	double least, most; /* accepted; NaN: no such limit, and without both the row is a report */
	int noise;
	double a, b; /* what the repetition makes of them */
	int n, m;
};

struct sim_cells {
	const struct sim_cell *cell;
	size_t n;
};

/* Print the data of a picture: "sessions", "verdicts" or "planning".  False for another name. */
bool sim_picture(const char *name);

/* Print how long the engine takes, on so many threads.  False if it fails. */
bool sim_speed(unsigned threads);

struct sim_cells sim_ratio_cells(void);
struct sim_cells sim_estimator_cells(void);
struct sim_cells sim_campaign_cells(void);
struct sim_cells sim_changepoint_cells(void);

#endif
