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
};

/* The words of enum cvb_pages for option tables, NULL-terminated. */
extern const char *const cvb_pages_names[];

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

/* Accepts an unmapped or zeroed one. */
void cvb_mem_unmap(struct cvb_mem *m);

/* MemAvailable of /proc/meminfo in bytes, 0 if unknown. */
uint64_t cvb_mem_available_bytes(void);

/* Size in bytes of the largest data cache that CPU 0 sees (sysfs), and of its L1 and L2; 0 if
 * unknown. */
uint64_t cvb_cache_bytes(unsigned level);
uint64_t cvb_last_cache_bytes(void);

#endif
