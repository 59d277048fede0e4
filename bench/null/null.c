/* SPDX-License-Identifier: Apache-2.0 */
/*
 * null.nop: nothing, and null.spin: a known amount.  What they report is the harness itself.
 */
#include "measure/bench.h"

#include <errno.h>

/* ---- null.nop -------------------------------------------------------------------------------- */

enum {
	NOP_COST,
	NOP_BATCH,
	NOP_SHARE,
};

static const struct cvb_metric nop_metrics[] = {
	[NOP_COST] = {.name = "cost",
		      .kind = CVB_NS_PER_OP,
		      .better = CVB_LOWER_IS_BETTER,
		      .help = "time of one empty iteration"},
	[NOP_BATCH] = {.name = "batch",
		       .kind = CVB_NS_PER_OP,
		       .better = CVB_LOWER_IS_BETTER,
		       .help = "time of a batch without work: clock, barrier, the skew of workers"},
	[NOP_SHARE] = {.name = "share",
		       .kind = CVB_REPORTED,
		       .unit = "ratio",
		       .better = CVB_LOWER_IS_BETTER,
		       .help = "that time as a share of a sample of the wanted length"},
	{.name = NULL},
};

enum nop_case {
	NOP_ITERATIONS,
	NOP_EMPTY,
};

static int nop_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct cvb_case cases[] = {
		{.metrics = 1 << NOP_COST, .ops = 1, .user = NOP_ITERATIONS},
		{.metrics = 1 << NOP_BATCH | 1 << NOP_SHARE,
		 .ops = 1,
		 .user = NOP_EMPTY,
		 .max_iters = 1},
	};

	for (size_t i = 0; i < 2; i++) {
		int r = cvb_run_add_case(run, &cases[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int nop_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	if (c->user == NOP_EMPTY)
		return 0;
	/* the empty statement may not be moved or merged, so that the loop stays a loop */
	for (uint64_t i = 0; i < iters; i++)
		__asm__ volatile("" : : : "memory");
	worker->sink += iters;
	return 0;
}

static int nop_after_batch(struct cvb_run *run, size_t case_index, uint64_t iters, uint64_t ns,
			   struct cvb_err *err)
{
	(void)iters;
	(void)err;
	if (run->cases[case_index].user == NOP_EMPTY)
		cvb_run_report(run, case_index, NOP_SHARE, (double)ns / (double)run->sample_ns);
	return 0;
}

static const struct cvb_bench null_nop = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "null.nop",
	.summary = "an empty loop and an empty batch: what the harness itself costs",
	.doc = "null.nop.md",
	.flags = CVB_BENCH_FAKE,
	.mode = CVB_MODE_BATCH,
	.metrics = nop_metrics,
	.setup = nop_setup,
	.step = nop_step,
	.after_batch = nop_after_batch,
};
CVB_BENCH(null_nop);

/* ---- null.spin ------------------------------------------------------------------------------- */

#define SPIN_ADDS UINT64_C(1000) /* dependent additions of one iteration, a cycle each */

static const struct cvb_metric spin_metrics[] = {
	{.name = "rate",
	 .kind = CVB_OPS_PER_S,
	 .better = CVB_HIGHER_IS_BETTER,
	 .help = "dependent additions of each worker: one a cycle, so the clock in Hz"},
	{.name = "time",
	 .kind = CVB_NS_PER_OP,
	 .better = CVB_LOWER_IS_BETTER,
	 .help = "time of one dependent addition"},
	{.name = NULL},
};

static int spin_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct cvb_case c = {.metrics = 3, .ops = (double)SPIN_ADDS};
	int r = cvb_run_add_case(run, &c, err);

	return r < 0 ? r : 0;
}

/* Ten additions that each wait for the one before; the constant stays in a register, or some CPUs
 * would do additions of immediates while they rename. */
#define ADD	"add %1, %0\n\t"
#define TEN_ADD ADD ADD ADD ADD ADD ADD ADD ADD ADD ADD

static int spin_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	uint64_t sum = worker->sink, one = 1;

	(void)c;
	for (uint64_t i = 0; i < iters * (SPIN_ADDS / 100); i++)
		__asm__ volatile(TEN_ADD TEN_ADD TEN_ADD TEN_ADD TEN_ADD TEN_ADD TEN_ADD TEN_ADD
					 TEN_ADD TEN_ADD
				 : "+r"(sum)
				 : "r"(one));
	if (sum - worker->sink != iters * SPIN_ADDS)
		return -EBADMSG;
	worker->sink = sum;
	return 0;
}

static const struct cvb_bench null_spin = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "null.spin",
	.summary = "a known number of dependent additions: the clock that the CPU really has",
	.doc = "null.spin.md",
	.flags = CVB_BENCH_FAKE,
	.mode = CVB_MODE_BATCH,
	.metrics = spin_metrics,
	.setup = spin_setup,
	.step = spin_step,
};
CVB_BENCH(null_spin);
