/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of cpu.exit, as loops of one batch.
 *
 * An operation is either timed as a whole batch by the runner, with no clock inside the loop, or
 * one by one into a histogram: then the cost of one reading of the clock is in each number, which
 * is measured as an operation of its own (CVB_EXIT_CLOCK).
 */
#ifndef CVB_CPU_EXIT_OPS_H
#define CVB_CPU_EXIT_OPS_H

#include "measure/histogram.h"
#include "measure/memory.h"

#include <stdatomic.h>
#include <stdbool.h>

enum cvb_exit_op {
	CVB_EXIT_CPUID,
	CVB_EXIT_SYSCALL,
	CVB_EXIT_PAGE_FAULT,
	CVB_EXIT_RDTSC,
	CVB_EXIT_CLOCK,
	CVB_EXIT_IPI,
	CVB_EXIT_HANDOVER,
	CVB_EXIT_HLT_WAKE,
	CVB_EXIT_TIMER,
	CVB_EXIT_OPS,
};

#define CVB_EXIT_PAGE_BYTES 4096

/* What two threads that wake each other share, and what an operation needs.  One for each run. */
struct cvb_exit_shared {
	_Alignas(64) atomic_uint turn; /* a futex */
	_Alignas(64) atomic_uint seen; /* the last turn that the partner saw */
	_Alignas(64) atomic_uint stop; /* ends the partner's loop */
	_Alignas(64) atomic_uint beat; /* changes while the partner runs */
	uint64_t sent_ns;	       /* written before turn, read after it */
	struct cvb_mem pages;	       /* for page faults */
	uint64_t idle_ns, interval_ns;
	atomic_uint_fast64_t barriers; /* calls of membarrier */
	atomic_uint_fast64_t faults;   /* pages touched for the first time */
};

struct cvb_exit_worker {
	struct cvb_exit_shared *shared;
	unsigned index; /* 0, or 1 for the partner of operations of two threads */
	struct cvb_histogram *times;
	size_t next_page;
	uint64_t sink;
	bool bad;	/* a result was not what it must be */
	bool backwards; /* the two CPUs' clocks disagree */
};

/* Threads that an operation takes. */
unsigned cvb_exit_threads(enum cvb_exit_op op);

/* Before each batch, on each worker that takes part; not timed. */
CVB_MUST_CHECK int cvb_exit_prepare(struct cvb_exit_worker *w, enum cvb_exit_op op);

/* n operations with no clock inside.  Not for IPI, HLT_WAKE and TIMER, which also wait. */
void cvb_exit_batch(struct cvb_exit_worker *w, enum cvb_exit_op op, uint32_t leaf, uint64_t n);

/* n operations, each timed into w->times.  Not for RDTSC and CLOCK. */
CVB_MUST_CHECK int cvb_exit_each(struct cvb_exit_worker *w, enum cvb_exit_op op, uint32_t leaf,
				 uint64_t n);

/* Ask the kernel for expedited barriers, once for each process; -EOPNOTSUPP. */
CVB_MUST_CHECK int cvb_exit_ipi_register(void);

#endif
