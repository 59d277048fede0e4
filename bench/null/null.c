/* SPDX-License-Identifier: Apache-2.0 */
/*
 * null.nop: nothing, at known cost.  What it reports is the harness itself.
 */
#include "measure/bench.h"

static const struct cvb_metric metrics[] = {
	{.name = "cost",
	 .kind = CVB_NS_PER_OP,
	 .better = CVB_LOWER_IS_BETTER,
	 .help = "time of one empty iteration, barrier and clock included"},
	{.name = NULL},
};

static int nop_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct cvb_case c = {.metrics = 1, .ops = 1};
	int r = cvb_run_add_case(run, &c, err);

	return r < 0 ? r : 0;
}

static int nop_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	(void)c;
	/* the empty statement may not be moved or merged, so that the loop stays a loop */
	for (uint64_t i = 0; i < iters; i++)
		__asm__ volatile("" : : : "memory");
	worker->sink += iters;
	return 0;
}

static const struct cvb_bench null_nop = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "null.nop",
	.summary = "an empty loop: what the harness itself costs",
	.doc = "null.nop.md",
	.flags = CVB_BENCH_FAKE,
	.mode = CVB_MODE_BATCH,
	.metrics = metrics,
	.setup = nop_setup,
	.step = nop_step,
};
CVB_BENCH(null_nop);
