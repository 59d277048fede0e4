/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runner: opens a benchmark, owns its worker threads and clock, and takes samples.
 *
 * Life: open → calibrate, warm up (once) → sample (many) → verify → close.  One runner belongs to
 * one thread.
 *
 * Threads: workers are pinned one to a CPU through hwloc (cores before hyper-threads), park on a
 * condition between samples and meet at a spinning barrier before the timed part; a sample's time
 * is the last worker's end minus the first worker's start.
 */
#ifndef CVB_MEASURE_RUNNER_H
#define CVB_MEASURE_RUNNER_H

#include "core/clock.h"
#include "gpu/gpu.h"
#include "machine/health.h"
#include "measure/bench.h"
#include "stats/steady.h"

struct cvb_runner;

struct cvb_runner_opts {
	const json_t
		*options; /* object of option → text, for the benchmark's table; NULL: defaults */
	const char *gpu;  /* GPU spec for CVB_BENCH_NEEDS_GPU ("emu:h100-tdx,cc=on") or NULL */
	const char *peer; /* see struct cvb_run */
	const char *disk;
	unsigned threads;   /* 0: one for each CPU we may run on */
	uint64_t sample_ns; /* wanted sample length; 0: 20 ms.  A virtual clock's: 0.2 ms at most */
	bool exact; /* run the counts that a sample is given, however short: to count calls */
};

/* One metric of one case: what a sample has one value for. */
struct cvb_series {
	size_t case_index;
	unsigned metric_index;
	const struct cvb_metric *metric;
	const json_t *params; /* borrowed from the case; NULL for none */
};

struct cvb_sample {
	double *value;	      /* n_series values, caller's memory */
	uint64_t *ns;	      /* n_cases timed durations (0 for SELF_TIMED), caller's memory */
	uint64_t shortest_ns; /* shortest of ns; 0 for SELF_TIMED and FAKE */
	struct cvb_health_change health;	     /* what disturbed it */
	struct cvb_gpu_health gpu_before, gpu_after; /* the open GPU's; all unknown without one */
};

/*
 * Open: option parsing (-EINVAL), supported() (-EOPNOTSUPP with the reason), setup, worker threads.
 * On failure nothing is left.  Caller closes.
 */
CVB_MUST_CHECK int cvb_runner_open(struct cvb_runner **ret, const struct cvb_bench *bench,
				   const struct cvb_runner_opts *opts, struct cvb_err *err);

size_t cvb_runner_cases(const struct cvb_runner *r);
/* Where the benchmark's disk I/O goes; NULL where it does none.  Lives as long as the runner. */
const char *cvb_runner_disk(const struct cvb_runner *r);
const struct cvb_series *cvb_runner_series(const struct cvb_runner *r, size_t *ret_n);
/* The options in use, as JSON; new reference. */
json_t *cvb_runner_options(const struct cvb_runner *r);
/* Notes of the benchmark so far; borrowed array of texts. */
const json_t *cvb_runner_notes(const struct cvb_runner *r);
/* What setup left out, [{params, reason}]; borrowed. */
const json_t *cvb_runner_left_out(const struct cvb_runner *r);
/* Threads that call step; 1 for SELF_TIMED. */
unsigned cvb_runner_workers(const struct cvb_runner *r);
/* What the open GPU is (cvb_gpu_describe); new reference, NULL without one. */
json_t *cvb_runner_gpu(const struct cvb_runner *r);
/* Is the open GPU emulated, is its clock virtual?  False without a GPU. */
bool cvb_runner_emulated(const struct cvb_runner *r);
bool cvb_runner_deterministic(const struct cvb_runner *r);

/*
 * Find, for each case, the number of iterations whose batch takes at least max(sample_ns, 2 ms,
 * 2000 clock ticks or readings of the clock), twice what a sample must last; crossed twice in a
 * row, so that one preemption does not shorten every sample. Nothing is run, and iters
 * are 1, for cases of at most one iteration on a virtual clock, and for SELF_TIMED: such a
 * benchmark warms up by itself (fio's ramp_ms).
 */
CVB_MUST_CHECK int cvb_runner_calibrate(struct cvb_runner *r, uint64_t *iters, struct cvb_err *err);

/* Two readings of the clock in ns: what timing adds to a batch. */
uint64_t cvb_runner_timer_ns(const struct cvb_runner *r);

/* What one case did before it was measured. */
struct cvb_warmup {
	enum cvb_steady_state state;
	size_t batches;
	uint64_t ns;  /* spent, all batches together */
	double ratio; /* time at the start / steady time; NaN unless a steady state was reached */
};

/* Is there something to warm up?  Not where a program or a virtual clock keeps the time, and not
 * where the first use is what is measured (CVB_BENCH_COLD). */
bool cvb_runner_warms_up(const struct cvb_runner *r);

/*
 * Run batches of each case, an eighth of a sample long (never below the limits of calibrate), until
 * stats/steady.h finds a steady speed in them: at 24 batches, 48, 96, …, as long as the case's time
 * stays below `budget_ns` (three batches at least).  ret[] has one entry a case.  Not reaching one
 * is a finding, not an error.  -EINVAL unless cvb_runner_warms_up.
 */
CVB_MUST_CHECK int cvb_runner_warm_up(struct cvb_runner *r, const uint64_t *iters,
				      uint64_t budget_ns, struct cvb_warmup *ret,
				      struct cvb_err *err);

/*
 * Take one sample: every case once, in order, `iters[i]` iterations each.  Where these last less
 * than 1 ms, 1000 clock ticks or readings, the batch is thrown away and a longer one taken, up to
 * the case's max_iters (not with `exact`); the values are of the iterations that were run.
 */
CVB_MUST_CHECK int cvb_runner_sample(struct cvb_runner *r, const uint64_t *iters,
				     struct cvb_sample *sample, struct cvb_err *err);

/* The benchmark's own check of its work; -EBADMSG: the numbers must not be believed. */
CVB_MUST_CHECK int cvb_runner_verify(struct cvb_runner *r, struct cvb_err *err);

/* Accepts NULL; returns NULL. */
struct cvb_runner *cvb_runner_close(struct cvb_runner *r);

#endif
