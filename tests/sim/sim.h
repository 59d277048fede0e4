/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the simulations of the statistics share: random numbers that depend on the cell and the
 * repetition only (never on the thread), and the description of a cell of the table.
 */
#ifndef CVB_TESTS_SIM_H
#define CVB_TESTS_SIM_H

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

/* One row of the table: the mean of an integer that each repetition yields. */
struct sim_cell {
	const char *group;
	const char *name;
	/* one repetition; events to be averaged */
	unsigned (*repeat)(const struct sim_cell *c, struct rng *r);
	double least, most; /* accepted; NaN: no such limit, and without both the row is a report */
	int noise;
	double a, b; /* what the repetition makes of them */
	int n;
};

struct sim_cells {
	const struct sim_cell *cell;
	size_t n;
};

struct sim_cells sim_ratio_cells(void);
struct sim_cells sim_changepoint_cells(void);

#endif
