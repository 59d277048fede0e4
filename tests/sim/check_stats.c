/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_stats: simulate what the statistics engine claims and print one table of measured error
 * rates.  Fixed seeds: the same numbers on every run, whatever the number of threads.
 *
 *   check_stats [--fast] [--reps N] [--threads N] [--only TEXT]
 *   check_stats --picture NAME
 *   check_stats --speed
 *
 * --picture: print the data of one picture of docs/statistics.md (tests/sim/pictures.c).
 * --speed: how long the engine takes on two threads, nothing else.
 * --fast: 200 repetitions a cell and limits widened by three standard errors.
 * Exit code 1 if a row with a limit misses it.
 */
#include "core/util.h"
#include "sim/sim.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum {
	REPS = 8000,
	FAST_REPS = 200,
	MAX_THREADS = 64,
	BATCH = 50,
};

struct job {
	const struct sim_cell *cell;
	uint64_t seed;
	unsigned reps;
	atomic_uint next;
	atomic_ullong count, sum, squares;
};

static void *work(void *arg)
{
	struct job *j = arg;
	unsigned from;

	while ((from = atomic_fetch_add(&j->next, BATCH)) < j->reps) {
		for (unsigned i = from; i < from + BATCH && i < j->reps; i++) {
			struct rng r = {j->seed + UINT64_C(0xd1342543de82ef95) * (i + 1)};
			unsigned long long v;

			/* stir, so that neighbouring repetitions share no stretch of the stream */
			r.state = rng_next(&r) ^ (rng_next(&r) << 1);
			v = j->cell->repeat(j->cell, &r);
			if (v == SIM_LEFT_OUT)
				continue;
			atomic_fetch_add(&j->count, 1);
			atomic_fetch_add(&j->sum, v);
			atomic_fetch_add(&j->squares, v * v);
		}
	}
	return NULL;
}

/* FNV-1a of the row's text: a new row does not change the others' numbers. */
static uint64_t seed_of(const struct sim_cell *c)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (const char *p = c->group; *p; p++)
		h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
	for (const char *p = c->name; *p; p++)
		h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
	return h;
}

/* The mean over the repetitions and its standard error. */
static double run_cell(const struct sim_cell *c, unsigned reps, unsigned threads, double *ret_se)
{
	struct job j = {.cell = c, .seed = seed_of(c), .reps = reps};
	pthread_t t[MAX_THREADS];
	unsigned started = 0;
	double mean, n;

	while (started + 1 < threads && pthread_create(&t[started], NULL, work, &j) == 0)
		started++;
	work(&j);
	while (started)
		pthread_join(t[--started], NULL);
	n = fmax((double)j.count, 1);
	mean = (double)j.sum / n;
	*ret_se = sqrt(fmax((double)j.squares / n - mean * mean, 0.25 / n) / n);
	return mean;
}

/* One row; 0 passed, 1 missed, -1 reported only. */
static int print_row(const struct sim_cell *c, unsigned reps, unsigned threads, bool fast)
{
	double se, m = run_cell(c, reps, threads, &se), slack = fast ? 3 * se : 0;
	char limit[32] = "report";
	int miss = -1;

	if (!isnan(c->least) && !isnan(c->most))
		snprintf(limit, sizeof(limit), "%.3f .. %.3f", c->least, c->most);
	else if (!isnan(c->least))
		snprintf(limit, sizeof(limit), ">= %.4g", c->least);
	else if (!isnan(c->most))
		snprintf(limit, sizeof(limit), "<= %.4g", c->most);
	if (!isnan(c->least) || !isnan(c->most))
		miss = (!isnan(c->least) && m < c->least - slack) ||
		       (!isnan(c->most) && m > c->most + slack);
	printf("%-22s %-42s %8.4f  %-14s %s\n", c->group, c->name, m, limit,
	       miss < 0 ? "-" : (miss ? "MISS" : "ok"));
	fflush(stdout);
	return miss;
}

static unsigned number(const char *text, unsigned most)
{
	char *end;
	unsigned long long v = text ? strtoull(text, &end, 10) : 0;

	if (!text || *end || v < 1 || v > most) {
		fprintf(stderr, "check_stats: expected a number from 1 to %u\n", most);
		exit(2);
	}
	return (unsigned)v;
}

int main(int argc, char **argv)
{
	const struct sim_cells all[] = {sim_ratio_cells(), sim_estimator_cells(),
					sim_campaign_cells(), sim_changepoint_cells()};
	unsigned reps = REPS, threads = 2, passed = 0, failed = 0;
	const char *only = NULL;
	bool fast = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--fast") == 0) {
			fast = true;
			reps = FAST_REPS;
		} else if (strcmp(argv[i], "--reps") == 0) {
			reps = number(argv[++i], 10000000);
		} else if (strcmp(argv[i], "--threads") == 0) {
			threads = number(argv[++i], MAX_THREADS);
		} else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
			only = argv[++i];
		} else if (argc == 3 && strcmp(argv[1], "--picture") == 0 && sim_picture(argv[2])) {
			return 0;
		} else if (argc == 2 && strcmp(argv[1], "--speed") == 0) {
			return !sim_speed(2);
		} else {
			fprintf(stderr,
				"usage: check_stats [--fast] [--reps N] [--threads N] "
				"[--only TEXT] | --picture sessions|verdicts|planning | --speed\n");
			return 2;
		}
	}
	printf("%u repetitions a row%s\n", reps,
	       fast ? "; limits widened by 3 standard errors" : "");
	printf("%-22s %-42s %8s  %-14s\n", "property", "case", "measured", "limit");
	for (size_t k = 0; k < CVB_ARRAY_LEN(all); k++) {
		for (size_t i = 0; i < all[k].n; i++) {
			const struct sim_cell *c = &all[k].cell[i];
			int miss;

			if (only && !strstr(c->group, only) && !strstr(c->name, only))
				continue;
			miss = print_row(c, reps, threads, fast);
			passed += miss == 0;
			failed += miss > 0;
		}
	}
	if (!fast && !only) {
		printf("\n");
		if (!sim_speed(threads))
			failed++;
	}
	printf("\n%u passed, %u failed\n", passed, failed);
	return failed > 0;
}
