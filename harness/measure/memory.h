/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers for benchmarks: page size and NUMA placement asked for, and told what was got.
 */
#ifndef CVB_MEASURE_MEMORY_H
#define CVB_MEASURE_MEMORY_H

#include "core/err.h"

#include <stddef.h>
#include <stdint.h>

enum cvb_pages {
	CVB_PAGES_4K,  /* MADV_NOHUGEPAGE */
	CVB_PAGES_THP, /* MADV_HUGEPAGE: the kernel may or may not */
	CVB_PAGES_2M,  /* MAP_HUGETLB: -EOPNOTSUPP when none are reserved */
	CVB_PAGES_1G,
	CVB_PAGES_ALL, /* in cvb_pages_choices: a sweep over those above */
};

/* The words of enum cvb_pages for option tables, NULL-terminated; choices also has "all". */
extern const char *const cvb_pages_names[];
extern const char *const cvb_pages_choices[];

size_t cvb_pages_bytes(enum cvb_pages pages); /* size of one; 2 MiB for thp */

/* Can `bytes` be had in such pages now?  0, or -EOPNOTSUPP with the reason: no transparent huge
 * pages in this kernel, not enough huge pages reserved. */
CVB_MUST_CHECK int cvb_pages_check(enum cvb_pages pages, uint64_t bytes, struct cvb_err *err);

struct cvb_mem {
	void *p;
	size_t bytes; /* as mapped: rounded up to the page size */
};

/*
 * Map `bytes` of anonymous memory, aligned to at least 2 MiB when bytes allows.  `numa_node` >= 0
 * prefers that node (libnuma); -1 leaves it to first touch.  Not touched yet: the worker that uses
 * it does that.  -EOPNOTSUPP for huge pages or a node that are not there, -ENOMEM when it cannot
 * fit in MemAvailable (checked first: an OOM kill of the host is not a benchmark result).
 */
CVB_MUST_CHECK int cvb_mem_map(struct cvb_mem *m, size_t bytes, enum cvb_pages pages, int numa_node,
			       struct cvb_err *err);

/* Write one byte to each 4 KiB of [offset, offset + bytes) from the calling thread. */
void cvb_mem_touch(const struct cvb_mem *m, size_t offset, size_t bytes);

/* Which part of what was touched came in transparent huge pages; -1 if unknown. */
double cvb_mem_huge_ratio(const struct cvb_mem *m);

/* Which part of it, by a look at up to 256 of its touched pages, lies on the NUMA node; -1 if the
 * kernel does not tell. */
double cvb_mem_node_ratio(const struct cvb_mem *m, int numa_node);

/* Accepts an unmapped or zeroed one. */
void cvb_mem_unmap(struct cvb_mem *m);

#define CVB_MAX_NODES 64

/* The NUMA nodes that have CPUs we may run on, and those that have memory we may use, in ascending
 * order; without NUMA one node, 0. */
struct cvb_nodes {
	int cpu[CVB_MAX_NODES], mem[CVB_MAX_NODES];
	int first_cpu[CVB_MAX_NODES]; /* OS index of the first CPU we may use of cpu[i] */
	unsigned cpus[CVB_MAX_NODES]; /* how many we may use of cpu[i] */
	unsigned n_cpu, n_mem;
};
void cvb_nodes_read(struct cvb_nodes *ret);

/* Move the calling thread to a CPU.  For a benchmark's `prepare`, where one worker measures from
 * several nodes in turn. -errno if the system refuses. */
int cvb_run_on_cpu(int cpu);

/* MemAvailable of /proc/meminfo in bytes, 0 if unknown. */
uint64_t cvb_mem_available_bytes(void);

/* A line of /proc/meminfo in bytes ("Unaccepted"), -ENOENT if there is none. */
CVB_MUST_CHECK int cvb_meminfo_bytes(const char *name, uint64_t *ret_bytes);

/* Size in bytes of the largest data cache that CPU 0 sees (sysfs), and of its L1 and L2; 0 if
 * unknown. */
uint64_t cvb_cache_bytes(unsigned level);
uint64_t cvb_last_cache_bytes(void);

/* All last-level caches of the machine together, 0 if unknown. */
uint64_t cvb_all_last_caches_bytes(void);

#endif
