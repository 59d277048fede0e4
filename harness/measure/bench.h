/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a benchmark is.
 *
 * A benchmark is one file under bench/<area>/ that ends with a `const struct cvb_bench` and
 * CVB_BENCH(it).  That is all: the linker collects the pointers, nothing else is edited.
 *
 * The work is split so that the harness owns every clock, thread and repetition:
 *
 *   supported   may this run here?  0, or -EOPNOTSUPP with the reason
 *   setup       allocate, and declare the cases (cvb_run_add_case): one case is one thing that is
 *               timed, with its parameters and the bytes, operations or flops of one iteration
 *   worker_setup  once on every worker thread, already pinned: first touch of its memory
 *   step        BATCH mode: do `iters` iterations of a case; the only timed call.  It must not
 *               allocate, log or start a thread, nor read a clock unless what it measures is single
 *               times, kept in a cvb_histogram (measure/histogram.h)
 *   takes_part  which workers run a case; the others wait (one thread, one NUMA node's)
 *   prepare     before each step, on the same worker, not timed: put back what step uses up
 *   after_batch  after each timed batch, on one thread: report metrics that the time alone does not
 *               give (percentiles, a background's bandwidth)
 *   measure     SELF_TIMED mode (fio, iperf3): run once and cvb_run_report every value
 *   verify      after samples: did the work really happen?  -EBADMSG makes the outcome "untrusted"
 *   worker_done, done   release; both accept a half-built state
 *
 * Order of calls: supported, setup, worker_setup on each worker, (prepare, step, after_batch) or
 * measure many times, verify, worker_done on each worker, done.  setup, after_batch, measure,
 * verify and done run on one thread; prepare, step and worker_* run on worker threads, at the same
 * time on all of them.
 *
 * The struct is const and shared: per-run facts live in run->state.
 */
#ifndef CVB_MEASURE_BENCH_H
#define CVB_MEASURE_BENCH_H

#include "core/err.h"
#include "core/opt.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CVB_BENCH_ABI 3

enum cvb_bench_flags {
	CVB_BENCH_NEEDS_GPU = 1 << 0,  /* run->gpu is open before setup */
	CVB_BENCH_NEEDS_PEER = 1 << 1, /* wants a network peer; see run->peer */
	CVB_BENCH_NEEDS_DISK = 1 << 2, /* wants a place to do disk I/O; see run->disk */
	CVB_BENCH_ONE_WORKER = 1 << 3, /* step runs on one thread, whatever `threads` says */
	CVB_BENCH_FAKE = 1 << 4,       /* measures the harness, not the machine */
	CVB_BENCH_COLD = 1 << 5,       /* the first use is what is measured: no warm-up */
};

enum cvb_bench_mode {
	CVB_MODE_BATCH,	     /* the harness calibrates, repeats and times step */
	CVB_MODE_SELF_TIMED, /* a program or the device keeps the time; measure reports values */
};

enum cvb_better {
	CVB_HIGHER_IS_BETTER,
	CVB_LOWER_IS_BETTER,
};

/* How a metric's value comes from the declared work W of one iteration and the time t per
 * iteration.  The unit follows from it, except for CVB_REPORTED. */
enum cvb_metric_kind {
	CVB_BYTES_PER_S, /* W.bytes / t */
	CVB_OPS_PER_S,	 /* W.ops / t */
	CVB_FLOPS_PER_S, /* W.flops / t */
	CVB_NS_PER_OP,	 /* t / W.ops, in ns */
	CVB_REPORTED,	 /* the benchmark reports it, in `unit` */
};

struct cvb_metric {
	const char *name; /* "triad": the metric's full name is BENCH/NAME */
	enum cvb_metric_kind kind;
	enum cvb_better better;
	const char *unit; /* contract unit word; for CVB_REPORTED only */
	const char *help; /* one line: what the number is */
};

struct cvb_run;
struct cvb_worker;
struct cvb_gpu;

/* One timed thing.  Filled by setup, copied by cvb_run_add_case. */
struct cvb_case {
	uint32_t metrics; /* bit i set: this case yields bench->metrics[i] */
	json_t *params;	  /* what tells this case's series from another's ({"size_bytes":4096});
			     reference is taken over; NULL for none */
	double bytes;	  /* work of one iteration, all workers together */
	double ops;
	double flops;
	uint64_t max_iters; /* upper limit of a batch, 0 for none */
	uint64_t user;	    /* the benchmark's own key */
};

struct cvb_bench {
	uint32_t abi;	      /* CVB_BENCH_ABI */
	uint32_t struct_size; /* sizeof(struct cvb_bench) */
	const char *name;     /* "mem.stream" */
	const char *summary;  /* one line for `list` */
	const char *doc;      /* page under docs/bench/, without the folder; may be NULL */
	uint32_t flags;	      /* enum cvb_bench_flags */
	enum cvb_bench_mode mode;
	const struct cvb_opt *opts; /* rows for conf; NULL for none */
	size_t conf_size;
	const struct cvb_metric *metrics; /* ends with name == NULL; at most 32 */
	const char *const *params;	  /* every name that a case's params may have, whatever the
					     options; ends with NULL; NULL: its cases have none */

	int (*supported)(const struct cvb_run *run, struct cvb_err *err); /* may be NULL */
	int (*setup)(struct cvb_run *run, struct cvb_err *err);
	int (*worker_setup)(struct cvb_worker *worker, struct cvb_err *err); /* may be NULL */
	bool (*takes_part)(const struct cvb_worker *worker,
			   const struct cvb_case *c); /* NULL: all do; at least one must */
	int (*prepare)(struct cvb_worker *worker, const struct cvb_case *c,
		       uint64_t iters); /* may be NULL */
	int (*step)(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters);
	int (*after_batch)(struct cvb_run *run, size_t case_index, uint64_t iters, uint64_t ns,
			   struct cvb_err *err); /* may be NULL; ends with cvb_run_report */
	int (*measure)(struct cvb_run *run, struct cvb_err *err);
	int (*verify)(struct cvb_run *run, struct cvb_err *err); /* may be NULL */
	void (*worker_done)(struct cvb_worker *worker);		 /* may be NULL */
	void (*done)(struct cvb_run *run);			 /* may be NULL */
};

/* What setup and the others may use.  Fields are the harness's except `state`, and `disk` where
 * setup takes another place than the one it was given. */
struct cvb_run {
	const struct cvb_bench *bench;
	const void *conf;    /* the parsed options */
	void *state;	     /* the benchmark's own; freed by its `done` */
	unsigned workers;    /* how many threads call step */
	struct cvb_gpu *gpu; /* open device for CVB_BENCH_NEEDS_GPU, else NULL */
	const char *peer;    /* servers that the campaign runs, see target/peer.h; NULL: none */
	const char *disk;    /* block device or folder for disk I/O that the target provides */
	uint64_t sample_ns;  /* wanted length of a sample; a guide for SELF_TIMED benchmarks */
	bool trial;	     /* the batch under way calibrates or warms up: no number comes of it */
	struct cvb_case *cases;
	size_t n_cases;
	double *values;	  /* n_cases × number of metrics, for cvb_run_report */
	json_t *notes;	  /* array of texts, shown with the result */
	json_t *left_out; /* [{params, reason}], see cvb_run_leave_out */
};

struct cvb_worker {
	struct cvb_run *run;
	unsigned index; /* 0 .. run->workers-1 */
	int cpu;	/* OS index of the CPU it is pinned to, -1 if pinning failed */
	int numa_node;	/* node of that CPU, -1 if unknown */
	void *state;	/* the benchmark's own; freed by worker_done */
	uint64_t sink;	/* results go here so that the optimiser keeps the work */
};

/* Declare a case; its params may only have names that bench->params lists.  Returns its index, or
 * -ENOMEM / -E2BIG (more than 4096).  Takes over c->params, also on failure. */
CVB_MUST_CHECK int cvb_run_add_case(struct cvb_run *run, const struct cvb_case *c,
				    struct cvb_err *err);

/* From measure or after_batch: the value of metric `metric` (index into bench->metrics, of kind
 * CVB_REPORTED unless SELF_TIMED) of case `c`, for the batch or sample under way.  Must be finite;
 * anything else is kept and makes the sample "untrusted". */
void cvb_run_report(struct cvb_run *run, size_t c, unsigned metric, double value);

/* Something a reader of the result must know ("direct=1 refused by tmpfs, buffered I/O used"). */
void cvb_run_note(struct cvb_run *run, const char *fmt, ...) CVB_PRINTF(2, 3);

/*
 * A part of a sweep that cannot be measured here, and why: its params, as its cases would have had
 * them (reference is taken over; the ones that tell it apart are enough).  It is noted too.  A gate
 * on such a series is UNSUPPORTED with this reason.  For what was asked for explicitly return
 * -EOPNOTSUPP from setup instead.
 */
void cvb_run_leave_out(struct cvb_run *run, json_t *params, const char *fmt, ...) CVB_PRINTF(3, 4);

/* Does the benchmark list this name of a parameter? */
bool cvb_bench_has_param(const struct cvb_bench *b, const char *name);

/* Unit word of a metric ("bytes_per_s", "ns", …). */
const char *cvb_metric_unit(const struct cvb_metric *m);
const char *cvb_better_text(enum cvb_better better); /* "higher" or "lower" */

/*
 * Registry.  Benchmarks are sorted by name.  One with a wrong abi, size or a missing hook is a bug
 * and stops the program at the first look.
 */
const struct cvb_bench *const *cvb_bench_all(size_t *ret_n);

/* By name; NULL with -EINVAL and the nearest name in `err`. */
const struct cvb_bench *cvb_bench_find(const char *name, struct cvb_err *err);

#if defined(__clang__)
#define CVB_SECTION_PTR(sec) __attribute__((section(sec), used, no_sanitize("address")))
#else
#define CVB_SECTION_PTR(sec) __attribute__((section(sec), used))
#endif

#define CVB_BENCH(b)                                                                               \
	static const struct cvb_bench *const cvb_bench_ptr_##b CVB_SECTION_PTR("cvb_bench") = &(b)

#endif
