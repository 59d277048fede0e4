/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of the line protocol: asks an agent to measure, and checks everything it says.
 *
 * The agent may sit in a hostile guest.  Every reply is checked for shape, size and type; metric
 * names and units come from our own registry, never from the reply; error texts are cleaned.
 */
#ifndef CVB_TARGET_CLIENT_H
#define CVB_TARGET_CLIENT_H

#include "measure/bench.h"
#include "target/wire.h"

struct cvb_client {
	struct cvb_wire wire;
	uint64_t next_id;
	json_t *tool; /* what the agent said of itself */
};

/* Takes the descriptors over.  Nothing is sent yet. */
void cvb_client_init(struct cvb_client *c, int rfd, int wfd);
void cvb_client_done(struct cvb_client *c);

/* Wait for the agent's "ready" line.  -EPROTO if it speaks another protocol. */
CVB_MUST_CHECK int cvb_client_wait_ready(struct cvb_client *c, unsigned timeout_ms,
					 struct cvb_err *err);

/* One request and its reply's "result" (new reference, an object). */
CVB_MUST_CHECK int cvb_client_call(struct cvb_client *c, const char *op, json_t *args,
				   unsigned timeout_ms, json_t **ret, struct cvb_err *err);

/* The other side's environment record, cleaned and cut to what is plain and small.  New reference.
 */
CVB_MUST_CHECK int cvb_client_fingerprint(struct cvb_client *c, unsigned timeout_ms, json_t **ret,
					  struct cvb_err *err);

/* The other side's swiotlb pool: an object of whole numbers {nslabs, used, used_hiwater, …}, of
 * those keys that it knows, or JSON null; new reference. */
CVB_MUST_CHECK int cvb_client_swiotlb(struct cvb_client *c, unsigned timeout_ms, json_t **ret,
				      struct cvb_err *err);

/* The other side's clock beside ours. */
struct cvb_clock_mark {
	uint64_t host_ns;  /* ours, in the middle of the fastest of a few requests */
	uint64_t there_ns; /* theirs */
	uint64_t error_ns; /* host_ns is right within this: half of that request's time */
};

CVB_MUST_CHECK int cvb_client_clock(struct cvb_client *c, unsigned timeout_ms,
				    struct cvb_clock_mark *ret, struct cvb_err *err);

/*
 * How much faster the other side's clock ran between two marks: 0.001 is one in a thousand; and
 * what of it the marks themselves may be off by.  NaN for marks out of order.
 */
void cvb_clock_rate(const struct cvb_clock_mark *from, const struct cvb_clock_mark *to,
		    double *ret_error_ratio, double *ret_uncertainty_ratio);

/* Does this error of a call mean that the target itself is lost (or that we were told to stop), so
 * that nothing more can be measured there?  Other errors are the agent's own, told over a good
 * line. */
bool cvb_client_lost(int code);

/* A benchmark set up at the other side. */
struct cvb_remote {
	const struct cvb_bench *bench;
	json_t *series; /* [{metric, unit, better, params}], checked */
	size_t n_series, n_cases;
	json_t *iters;	  /* [n_cases], after calibrate */
	json_t *options;  /* as in use there */
	json_t *notes;	  /* texts */
	json_t *left_out; /* [{params, reason}]: parts of a sweep that cannot be measured there */
	json_t *gpu;	  /* what the GPU is (cvb_gpu_describe); NULL without one */
	unsigned workers;
	uint64_t timer_ns; /* what reading the clock adds to a batch there */
	bool emulated, deterministic;
};

struct cvb_setup {
	const struct cvb_bench *bench;
	json_t *options;  /* borrowed; NULL: defaults */
	const char *gpu;  /* NULL: none */
	const char *peer; /* NULL: none */
	const char *disk; /* NULL: none */
	unsigned threads;
	uint64_t sample_ns;
	unsigned timeout_ms; /* for this and each following request of the benchmark */
};

CVB_MUST_CHECK int cvb_remote_setup(struct cvb_client *c, const struct cvb_setup *setup,
				    struct cvb_remote *ret, struct cvb_err *err);

/* Calibrate there; fills remote->iters.  SELF_TIMED benchmarks have nothing to calibrate: all ones.
 */
CVB_MUST_CHECK int cvb_remote_calibrate(struct cvb_client *c, struct cvb_remote *remote,
					unsigned timeout_ms, struct cvb_err *err);

/*
 * Warm up there with remote->iters, at most about `budget_ns` a case.  *ret_steady: an array of one
 * word a series ("steady", "no-steady-state", "too-few"), or JSON null where nothing is to be
 * warmed up; new reference.
 */
CVB_MUST_CHECK int cvb_remote_warm_up(struct cvb_client *c, struct cvb_remote *remote,
				      uint64_t budget_ns, unsigned timeout_ms, json_t **ret_steady,
				      uint64_t *ret_ns, struct cvb_err *err);

/* One sample with the given iteration counts (an array of n_cases).  Result object (new reference):
 * {values [n_series], duration_ns, shortest_ns, steal_ratio, steal_ns, throttles, swiotlb, gpu
 * (cvb_gpu_health_json)}.  What is not known is null (steal_ns, shortest_ns: 0), and so is what
 * cannot be true; a time below 0 and a wrong number of values are -EPROTO. */
CVB_MUST_CHECK int cvb_remote_sample(struct cvb_client *c, struct cvb_remote *remote, json_t *iters,
				     unsigned timeout_ms, json_t **ret, struct cvb_err *err);

/* -EBADMSG: the work was not done right; the numbers must not be believed. */
CVB_MUST_CHECK int cvb_remote_verify(struct cvb_client *c, const struct cvb_remote *remote,
				     unsigned timeout_ms, struct cvb_err *err);

/* Release at the other side (errors are of no interest there any more) and here. */
void cvb_remote_teardown(struct cvb_client *c, struct cvb_remote *remote);
/* Release here only: when the other side is gone. */
void cvb_remote_done(struct cvb_remote *remote);

#endif
