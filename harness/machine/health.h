/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What disturbs a measurement without being part of it, as counters: CPU time that the host took,
 * and thermal throttling.  Read before and after a sample; the difference belongs to the sample.
 */
#ifndef CVB_MACHINE_HEALTH_H
#define CVB_MACHINE_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

struct cvb_health {
	double cpu_s;	      /* time of all CPUs together, idle included */
	double steal_s;	      /* of it, taken by the host (the steal column of /proc/stat) */
	bool cpu_known;	      /* the two above were read */
	uint64_t throttles;   /* sum of all CPUs' and packages' thermal_throttle counters */
	bool throttles_known; /* guests and many machines have no such counters */
};

/* Read all counters; what cannot be read is not known.  The counters' files stay open. */
void cvb_health_read(struct cvb_health *ret);

struct cvb_health_change {
	double steal_ratio; /* stolen / elapsed CPU time; < 0: unknown */
	uint64_t steal_ns;  /* stolen, all CPUs together; counted in scheduler ticks */
	int64_t throttles;  /* throttle events; < 0: unknown */
};

void cvb_health_diff(const struct cvb_health *before, const struct cvb_health *after,
		     struct cvb_health_change *ret);

#endif
