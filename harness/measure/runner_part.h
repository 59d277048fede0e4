/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the runner*.c files.
 *
 *   runner.c          opens a benchmark, answers what it is, closes it
 *   runner_workers.c  its threads, and one timed batch on them
 *   runner_sample.c   how long a batch must be, warming up, samples
 */
#ifndef CVB_MEASURE_RUNNER_PART_H
#define CVB_MEASURE_RUNNER_PART_H

#include "measure/pin.h"
#include "measure/runner.h"

#include <pthread.h>
#include <stdatomic.h>

#define CVB_VIRTUAL_SAMPLE_NS UINT64_C(200000) /* its clock has steps of 1 ns and no jitter */

enum cvb_runner_order {
	CVB_ORDER_NONE,
	CVB_ORDER_SETUP,
	CVB_ORDER_STEP,
	CVB_ORDER_DONE,
	CVB_ORDER_EXIT,
};

struct cvb_runner_thread {
	struct cvb_runner *runner;
	struct cvb_worker worker;
	pthread_t id;
	bool started, set_up;
	uint64_t start_ns, end_ns;
	int r;
	struct cvb_err err;
};

struct cvb_runner {
	struct cvb_run run;
	void *conf;
	bool exact; /* see struct cvb_runner_opts */
	struct cvb_pin_map *pins;
	const struct cvb_clock *clock;
	struct cvb_series *series;
	size_t n_series, n_metrics;
	uint64_t *sample_iters; /* of each case, in the sample at hand */

	struct cvb_runner_thread *threads;
	unsigned n_started;
	pthread_mutex_t lock;
	pthread_cond_t wake, finished;
	uint64_t generation; /* under lock: grows with each order */
	unsigned pending;    /* under lock: workers that have not finished the order */
	enum cvb_runner_order order;
	const struct cvb_case *order_case;
	uint64_t order_iters;
	atomic_uint arrived; /* spinning barrier before the timed part */
	unsigned parties;    /* workers that take part in order_case */
};

/* Start run.workers threads, pin them and let them set up.  After a failure some may run. */
CVB_MUST_CHECK int cvb_runner_start(struct cvb_runner *r, struct cvb_err *err);

/* Let those that were started clean up, and end them. */
void cvb_runner_stop(struct cvb_runner *r);

/* One batch of a case on all workers that take part; its length in ns. */
CVB_MUST_CHECK int cvb_runner_batch(struct cvb_runner *r, const struct cvb_case *c, uint64_t iters,
				    uint64_t *ret_ns, struct cvb_err *err);

#endif
