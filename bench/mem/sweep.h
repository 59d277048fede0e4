/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the memory benchmarks sweep alike: page sizes and pairs of NUMA nodes.  What a sweep cannot
 * have here is left out and noted; asked for by name it is -EOPNOTSUPP.
 */
#ifndef CVB_BENCH_MEM_SWEEP_H
#define CVB_BENCH_MEM_SWEEP_H

#include "measure/bench.h"
#include "measure/memory.h"

enum cvb_sweep_numa {
	CVB_NUMA_LOCAL,
	CVB_NUMA_MATRIX,
	CVB_NUMA_AUTO
};
extern const char *const cvb_sweep_numa_names[]; /* for option tables */

/* The page sizes that option `choice` (of cvb_pages_choices) stands for; ret has room for
 * CVB_PAGES_ALL.  `bytes` is what one of them will need.  Huge pages by name are checked when they
 * are mapped. */
void cvb_sweep_pages(struct cvb_run *run, int choice, uint64_t bytes, enum cvb_pages *ret,
		     size_t *ret_n);

/* Is the matrix of NUMA nodes to be measured?  1; 0, for `auto` with a note; -EOPNOTSUPP. */
CVB_MUST_CHECK int cvb_sweep_matrix(struct cvb_run *run, int choice, const struct cvb_nodes *nodes,
				    struct cvb_err *err);

/* Once the memory is touched: a note if transparent huge pages were wanted and did not all come. */
void cvb_sweep_note_huge(struct cvb_run *run, const struct cvb_mem *m, enum cvb_pages pages);

/* Does it lie where it should?  -EBADMSG.  `mem_node` -1: anywhere. */
CVB_MUST_CHECK int cvb_sweep_check_node(const struct cvb_mem *m, int mem_node, struct cvb_err *err);

#endif
