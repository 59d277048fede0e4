/* SPDX-License-Identifier: Apache-2.0 */
#include "mem/sweep.h"

#include "core/util.h"

#include <errno.h>

/* Of the looked-at pages; the kernel may move a few for reasons of its own. */
#define NODE_RATIO 0.99

/* The ends of a buffer need not fill a huge page. */
#define HUGE_RATIO 0.95

const char *const cvb_sweep_numa_names[] = {"local", "matrix", "auto", NULL};

void cvb_sweep_pages(struct cvb_run *run, int choice, uint64_t bytes, enum cvb_pages *ret,
		     size_t *ret_n)
{
	bool sweep = choice == CVB_PAGES_ALL;

	*ret_n = 0;
	for (int pages = 0; pages < CVB_PAGES_ALL; pages++) {
		struct cvb_err why = {0};

		if (!sweep && pages != choice)
			continue;
		int r = cvb_pages_check((enum cvb_pages)pages, bytes, &why);

		if (r < 0 && sweep) {
			cvb_run_leave_out(run, json_pack("{s:s}", "pages", cvb_pages_names[pages]),
					  "pages=%s: %s", cvb_pages_names[pages], why.frame[0].msg);
			continue;
		}
		if (r < 0 && pages == CVB_PAGES_THP)
			cvb_run_note(run, "%s: 4 KiB pages were used", why.frame[0].msg);
		ret[(*ret_n)++] = (enum cvb_pages)pages;
	}
}

int cvb_sweep_matrix(struct cvb_run *run, int choice, const struct cvb_nodes *nodes,
		     struct cvb_err *err)
{
	if (choice == CVB_NUMA_LOCAL)
		return 0;
	if (nodes->n_mem >= 2)
		return 1;
	if (choice == CVB_NUMA_MATRIX)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "numa = matrix: this machine has one NUMA node with memory");
	cvb_run_note(run, "the NUMA matrix: this machine has one NUMA node with memory");
	return 0;
}

void cvb_sweep_note_huge(struct cvb_run *run, const struct cvb_mem *m, enum cvb_pages pages)
{
	double ratio = pages == CVB_PAGES_THP ? cvb_mem_huge_ratio(m) : -1;

	if (ratio >= 0 && ratio < HUGE_RATIO)
		cvb_run_note(run,
			     "pages=thp: %.0f %% of %zu KiB came in huge pages, the rest in 4 KiB",
			     100 * ratio, m->bytes / CVB_KIB);
}

int cvb_sweep_check_node(const struct cvb_mem *m, int mem_node, struct cvb_err *err)
{
	double there = mem_node < 0 ? 1 : cvb_mem_node_ratio(m, mem_node);

	if (there < NODE_RATIO)
		return cvb_err_set(err, -EBADMSG, "%.0f %% of the memory lies on NUMA node %d",
				   100 * cvb_max(there, 0.0), mem_node);
	return 0;
}
