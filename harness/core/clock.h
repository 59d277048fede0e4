/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clocks.  The runner and the campaign loop read them; benchmarks do where the clock itself is what
 * they measure, and a GPU's own for what is only a part of an iteration (bench/gpu/device.h).
 */
#ifndef CVB_CORE_CLOCK_H
#define CVB_CORE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC_RAW in ns: not slewed by NTP, so that two arms see the same second. */
static inline uint64_t cvb_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/*
 * A source of time that a benchmark is timed with: the host's clock, or the virtual clock of an
 * emulated device.  `now_ns` must be callable from any thread.
 */
struct cvb_clock {
	const char *name; /* "monotonic_raw" or "virtual" */
	uint64_t (*now_ns)(void *ctx);
	void *ctx;
};

extern const struct cvb_clock cvb_clock_host;

/* Smallest step seen between two different readings, in ns: the clock's tick.  Takes < 1 ms. */
uint64_t cvb_clock_tick_ns(const struct cvb_clock *clock);

/* Cost of one reading in ns: the lowest mean of several runs of readings, since what interrupts one
 * only adds.  Takes a few thousand readings. */
double cvb_clock_cost_ns(const struct cvb_clock *clock);

/* UTC wall time as "2026-01-31T12:00:00Z"; buf of at least 21 bytes.  Returns buf. */
const char *cvb_utc_text(char *buf, unsigned long buf_bytes);

#endif
