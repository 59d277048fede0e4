/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long the engine takes: a benchmark, not a test, so that nothing fails here.
 */
#include "core/clock.h"
#include "sim/sim.h"
#include "stats/changepoint.h"
#include "stats/gate.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define SERIES	10000
#define POINTS	400
#define LONGEST 6400

static atomic_uint next_series;

/* Quiet noise, and in every second series a step. */
static void make_series(double *x, size_t n, unsigned number)
{
	struct rng r = {number * UINT64_C(0x9e3779b97f4a7c15)};
	double step = number % 2 ? 3 * rng_gauss(&r) : 0;

	for (size_t i = 0; i < n; i++)
		x[i] = rng_gauss(&r) + (i > n / 2 ? step : 0);
}

static bool segment(const double *x, size_t n)
{
	struct cvb_changepoints c;

	if (cvb_changepoints_find(x, n, CVB_CHANGEPOINT_ALERT, &c, NULL) < 0)
		return false;
	cvb_changepoints_done(&c);
	return true;
}

static void *work(void *arg)
{
	bool *ok = arg;
	unsigned i;

	while ((i = atomic_fetch_add(&next_series, 1)) < SERIES) {
		double x[POINTS];

		make_series(x, POINTS, i);
		if (!segment(x, POINTS))
			*ok = false;
	}
	return NULL;
}

static double seconds_since(uint64_t start_ns)
{
	return (double)(cvb_now_ns() - start_ns) / 1e9;
}

static bool many_series(unsigned threads)
{
	pthread_t t[64];
	bool ok[64];
	unsigned started = 0;
	uint64_t start_ns = cvb_now_ns();
	bool all = true;

	atomic_store(&next_series, 0);
	for (; started < threads && started < 64; started++) {
		ok[started] = true;
		if (pthread_create(&t[started], NULL, work, &ok[started]) != 0)
			break;
	}
	for (unsigned i = 0; i < started; i++) {
		pthread_join(t[i], NULL);
		all = all && ok[i];
	}
	if (started)
		printf("%d series of %d points segmented on %u threads: %.1f s\n", SERIES, POINTS,
		       started, seconds_since(start_ns));
	return all && started;
}

static bool long_series(void)
{
	double *x = calloc(LONGEST, sizeof(*x));
	bool ok = x != NULL;

	for (size_t n = POINTS; ok && n <= LONGEST; n *= 2) {
		uint64_t start_ns;

		make_series(x, n, 1);
		start_ns = cvb_now_ns();
		for (int i = 0; i < 5; i++)
			ok = ok && segment(x, n);
		printf("one series of %zu points: %.2f ms\n", n, 200 * seconds_since(start_ns));
	}
	free(x);
	return ok;
}

static bool one_verdict(void)
{
	const struct cvb_gate_plan plan = {.rule = CVB_RULE_NON_INFERIORITY, .margin = 0.99};
	struct rng r = {7};
	struct cvb_pair p[24 * 24];
	uint64_t start_ns = cvb_now_ns();
	size_t n = sim_campaign(GAUSS_1, 24, 24, 0, 0.003, p, &r);
	bool ok = true;

	for (int i = 0; i < 100 && ok; i++) {
		struct cvb_sessions s = {0};
		struct cvb_gate_answer a;

		ok = cvb_sessions_make(&s, p, n, false, CVB_RATIO_LOCATION, CVB_PAIRING_PAIR,
				       NULL) == 0 &&
		     cvb_gate_judge(&s, &plan, &a, NULL) == 0;
		cvb_sessions_done(&s);
	}
	printf("one verdict on 24 sessions of 24 rounds: %.3f ms\n", 10 * seconds_since(start_ns));
	return ok;
}

bool sim_speed(unsigned threads)
{
	bool ok = one_verdict();

	ok = many_series(threads) && ok;
	return long_series() && ok;
}
