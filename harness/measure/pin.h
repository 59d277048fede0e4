/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which CPU each worker gets, through hwloc.
 */
#ifndef CVB_MEASURE_PIN_H
#define CVB_MEASURE_PIN_H

#include "core/err.h"

struct cvb_pin_map;

/*
 * The CPUs this process may run on, in the order workers should take them: one hardware thread of
 * every core first, then the second ones.  Caller frees with cvb_pin_map_free.
 */
CVB_MUST_CHECK int cvb_pin_map_new(struct cvb_pin_map **ret, struct cvb_err *err);
struct cvb_pin_map *cvb_pin_map_free(struct cvb_pin_map *map); /* NULL in, NULL out */

unsigned cvb_pin_map_cpus(const struct cvb_pin_map *map);

/* Pin the calling thread to the map's `index`-th CPU (modulo their number).  The CPU's OS index and
 * NUMA node (-1 if unknown).  -errno if the system refuses. */
int cvb_pin_self(const struct cvb_pin_map *map, unsigned index, int *ret_cpu, int *ret_node);

#endif
