/* SPDX-License-Identifier: Apache-2.0 */
#include "core/clock.h"

#include "core/util.h"

static uint64_t host_now_ns(void *ctx)
{
	(void)ctx;
	return cvb_now_ns();
}

const struct cvb_clock cvb_clock_host = {.name = "monotonic_raw", .now_ns = host_now_ns};

uint64_t cvb_clock_tick_ns(const struct cvb_clock *clock)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 200; i++) {
		uint64_t a = clock->now_ns(clock->ctx), b = a;

		for (int j = 0; j < 1000 && b == a; j++)
			b = clock->now_ns(clock->ctx);
		if (b > a && b - a < best)
			best = b - a;
	}
	return best == UINT64_MAX ? 1 : best;
}

double cvb_clock_cost_ns(const struct cvb_clock *clock)
{
	const int runs = 64, readings = 64;
	uint64_t best = UINT64_MAX;

	/* a thread that lost its CPU for 10 ms among a few thousand would find 40 times the cost */
	for (int i = 0; i < runs; i++) {
		uint64_t start = clock->now_ns(clock->ctx), now = start;

		for (int j = 0; j < readings; j++)
			now = clock->now_ns(clock->ctx);
		best = cvb_min(best, now - start);
	}
	return (double)best / readings;
}

const char *cvb_utc_text(char *buf, unsigned long buf_bytes)
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(buf, buf_bytes, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return buf;
}
