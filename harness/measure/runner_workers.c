/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A runner's threads: parked between batches, together in one.
 */
#include "measure/runner_part.h"

#include "core/util.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

/* A spinning barrier gives the CPU up after this many looks, so that it also ends where two workers
 * share one CPU. */
#define SPINS_BEFORE_YIELD 2000

static void barrier_wait(struct cvb_runner *r)
{
	unsigned spins = 0;

	atomic_fetch_add(&r->arrived, 1);
	while (atomic_load(&r->arrived) < r->parties) {
		__builtin_ia32_pause();
		if (++spins % SPINS_BEFORE_YIELD == 0)
			sched_yield();
	}
}

static void do_setup(struct cvb_runner_thread *t)
{
	const struct cvb_bench *b = t->runner->run.bench;
	int r = cvb_pin_self(t->runner->pins, t->worker.index, &t->worker.cpu,
			     &t->worker.numa_node);

	if (r < 0)
		t->worker.cpu = -1;
	t->set_up = true;
	t->r = b->worker_setup ? b->worker_setup(&t->worker, &t->err) : 0;
}

static bool takes_part(const struct cvb_runner_thread *t)
{
	const struct cvb_runner *r = t->runner;

	return !r->run.bench->takes_part || r->run.bench->takes_part(&t->worker, r->order_case);
}

static void do_step(struct cvb_runner_thread *t)
{
	struct cvb_runner *r = t->runner;
	const struct cvb_bench *b = r->run.bench;
	const struct cvb_clock *clock = r->clock;

	t->start_ns = t->end_ns = 0;
	if (!takes_part(t))
		return;

	int prepared = b->prepare ? b->prepare(&t->worker, r->order_case, r->order_iters) : 0;

	/* also after a failure: the others wait here */
	barrier_wait(r);
	if (prepared < 0) {
		t->r = prepared;
		return;
	}
	t->start_ns = clock->now_ns(clock->ctx);
	t->r = r->run.bench->step(&t->worker, r->order_case, r->order_iters);
	t->end_ns = clock->now_ns(clock->ctx);
}

static void do_order(struct cvb_runner_thread *t, enum cvb_runner_order order)
{
	t->r = 0;
	cvb_err_clear(&t->err);
	switch (order) {
	case CVB_ORDER_SETUP:
		do_setup(t);
		break;
	case CVB_ORDER_STEP:
		do_step(t);
		break;
	case CVB_ORDER_DONE:
		if (t->set_up && t->runner->run.bench->worker_done)
			t->runner->run.bench->worker_done(&t->worker);
		t->set_up = false;
		break;
	case CVB_ORDER_NONE:
	case CVB_ORDER_EXIT:
		break;
	}
}

static void *thread_main(void *arg)
{
	struct cvb_runner_thread *t = arg;
	struct cvb_runner *r = t->runner;
	uint64_t seen = 0;
	enum cvb_runner_order order;

	do {
		pthread_mutex_lock(&r->lock);
		while (r->generation == seen)
			pthread_cond_wait(&r->wake, &r->lock);
		seen = r->generation;
		order = r->order;
		pthread_mutex_unlock(&r->lock);

		do_order(t, order);

		pthread_mutex_lock(&r->lock);
		if (--r->pending == 0)
			pthread_cond_signal(&r->finished);
		pthread_mutex_unlock(&r->lock);
	} while (order != CVB_ORDER_EXIT);
	return NULL;
}

/* Give all started workers an order and wait until they are through. */
static void command(struct cvb_runner *r, enum cvb_runner_order order)
{
	pthread_mutex_lock(&r->lock);
	r->order = order;
	r->pending = r->n_started;
	atomic_store(&r->arrived, 0);
	r->generation++;
	pthread_cond_broadcast(&r->wake);
	while (r->pending)
		pthread_cond_wait(&r->finished, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

/* The first worker's failure, if any. */
static int worker_failure(struct cvb_runner *r, struct cvb_err *err)
{
	for (unsigned i = 0; i < r->n_started; i++) {
		if (r->threads[i].r >= 0)
			continue;
		if (err && r->threads[i].err.n)
			*err = r->threads[i].err;
		else
			cvb_err_set(err, r->threads[i].r, "%s", strerror(-r->threads[i].r));
		return cvb_err_wrap(err, r->threads[i].r, "%s, worker %u", r->run.bench->name, i);
	}
	return 0;
}

int cvb_runner_start(struct cvb_runner *r, struct cvb_err *err)
{
	r->threads = calloc(r->run.workers, sizeof(*r->threads));
	if (!r->threads)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < r->run.workers; i++) {
		struct cvb_runner_thread *t = &r->threads[i];

		t->runner = r;
		t->worker =
			(struct cvb_worker){.run = &r->run, .index = i, .cpu = -1, .numa_node = -1};
		int code = pthread_create(&t->id, NULL, thread_main, t);

		if (code)
			return cvb_err_set(err, -code, "cannot start worker thread %u: %s", i,
					   strerror(code));
		t->started = true;
		r->n_started++;
	}
	command(r, CVB_ORDER_SETUP);
	return worker_failure(r, err);
}

void cvb_runner_stop(struct cvb_runner *r)
{
	if (!r->n_started)
		return;
	command(r, CVB_ORDER_DONE);
	command(r, CVB_ORDER_EXIT);
	for (unsigned i = 0; i < r->n_started; i++)
		pthread_join(r->threads[i].id, NULL);
}

int cvb_runner_batch(struct cvb_runner *r, const struct cvb_case *c, uint64_t iters,
		     uint64_t *ret_ns, struct cvb_err *err)
{
	uint64_t first = UINT64_MAX, last = 0;
	int ret;

	r->order_case = c;
	r->order_iters = iters;
	r->parties = 0;
	for (unsigned i = 0; i < r->n_started; i++)
		r->parties += takes_part(&r->threads[i]);
	CVB_BUG_ON(!r->parties);
	command(r, CVB_ORDER_STEP);
	ret = worker_failure(r, err);
	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < r->n_started; i++) {
		if (!r->threads[i].end_ns)
			continue;
		first = cvb_min(first, r->threads[i].start_ns);
		last = cvb_max(last, r->threads[i].end_ns);
	}
	*ret_ns = last > first ? last - first : 0;
	return r->run.bench->after_batch
		       ? r->run.bench->after_batch(&r->run, (size_t)(c - r->run.cases), iters,
						   *ret_ns, err)
		       : 0;
}
