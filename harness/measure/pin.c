/* SPDX-License-Identifier: Apache-2.0 */
#include "measure/pin.h"

#include "core/util.h"

#include <errno.h>
#include <hwloc.h>

struct cvb_pin_map {
	hwloc_topology_t topology;
	hwloc_obj_t *pu; /* in worker order; objects belong to the topology */
	unsigned n;
};

/* How many earlier PUs share this one's core: 0 for the first hardware thread of a core. */
static unsigned rank_in_core(hwloc_obj_t pu)
{
	return pu->sibling_rank;
}

int cvb_pin_map_new(struct cvb_pin_map **ret, struct cvb_err *err)
{
	struct cvb_pin_map *map = calloc(1, sizeof(*map));
	hwloc_cpuset_t allowed;
	unsigned max_rank = 0, total;

	if (!map)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (hwloc_topology_init(&map->topology) < 0) {
		free(map);
		return cvb_err_set(err, -ENOMEM, "hwloc cannot start");
	}
	if (hwloc_topology_load(map->topology) < 0) {
		cvb_pin_map_free(map);
		return cvb_err_set(err, -EIO, "hwloc cannot read this machine's topology");
	}
	total = (unsigned)hwloc_get_nbobjs_by_type(map->topology, HWLOC_OBJ_PU);
	map->pu = calloc(total ? total : 1, sizeof(hwloc_obj_t));
	allowed = hwloc_bitmap_alloc();
	if (!map->pu || !allowed || hwloc_get_cpubind(map->topology, allowed, 0) < 0) {
		hwloc_bitmap_free(allowed);
		cvb_pin_map_free(map);
		return cvb_err_set(err, -EIO, "hwloc cannot tell which CPUs we may run on");
	}
	for (unsigned i = 0; i < total; i++)
		max_rank = cvb_max(max_rank, rank_in_core(hwloc_get_obj_by_type(map->topology,
										HWLOC_OBJ_PU, i)));
	for (unsigned rank = 0; rank <= max_rank; rank++) {
		for (unsigned i = 0; i < total; i++) {
			hwloc_obj_t pu = hwloc_get_obj_by_type(map->topology, HWLOC_OBJ_PU, i);

			if (rank_in_core(pu) == rank && hwloc_bitmap_isset(allowed, pu->os_index))
				map->pu[map->n++] = pu;
		}
	}
	hwloc_bitmap_free(allowed);
	if (!map->n) {
		cvb_pin_map_free(map);
		return cvb_err_set(err, -EIO, "no CPU to run on");
	}
	*ret = map;
	return 0;
}

struct cvb_pin_map *cvb_pin_map_free(struct cvb_pin_map *map)
{
	if (!map)
		return NULL;
	hwloc_topology_destroy(map->topology);
	free((void *)map->pu);
	free(map);
	return NULL;
}

unsigned cvb_pin_map_cpus(const struct cvb_pin_map *map)
{
	return map->n;
}

int cvb_pin_self(const struct cvb_pin_map *map, unsigned index, int *ret_cpu, int *ret_node)
{
	hwloc_obj_t pu = map->pu[index % map->n];

	*ret_cpu = (int)pu->os_index;
	*ret_node = -1;
	if (pu->nodeset) {
		int node = hwloc_bitmap_first(pu->nodeset);

		*ret_node = node;
	}
	if (hwloc_set_cpubind(map->topology, pu->cpuset, HWLOC_CPUBIND_THREAD) < 0)
		return -errno;
	return 0;
}
