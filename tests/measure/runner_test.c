/* SPDX-License-Identifier: Apache-2.0 */
/* The runner against a benchmark that keeps a record of how it was called. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "measure/runner.h"

#include "core/util.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 3

static struct record {
	unsigned prepared[WORKERS], stepped[WORKERS];
	uint64_t iters;
	bool out_of_order;
	int fail_prepare; /* of worker 1 */
	useconds_t prepare_us, step_us;
	uint64_t max_iters;
} seen;

static const struct cvb_metric metrics[] = {
	{.name = "time", .kind = CVB_NS_PER_OP, .better = CVB_LOWER_IS_BETTER, .help = "time"},
	{.name = "count",
	 .kind = CVB_REPORTED,
	 .better = CVB_HIGHER_IS_BETTER,
	 .unit = "ops_per_s",
	 .help = "reported"},
	{.name = NULL},
};

/* Case 0 is for all workers, case 1 for the first only. */
static int setup(struct cvb_run *run, struct cvb_err *err)
{
	for (uint64_t i = 0; i < 2; i++) {
		const struct cvb_case c = {
			.metrics = 3, .ops = 1, .user = i, .max_iters = seen.max_iters};
		int r = cvb_run_add_case(run, &c, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static bool takes_part(const struct cvb_worker *w, const struct cvb_case *c)
{
	return c->user == 0 || w->index == 0;
}

static int prepare(struct cvb_worker *w, const struct cvb_case *c, uint64_t iters)
{
	(void)c;
	(void)iters;
	if (seen.prepare_us)
		usleep(seen.prepare_us);
	seen.prepared[w->index]++;
	return w->index == 1 ? seen.fail_prepare : 0;
}

static int step(struct cvb_worker *w, const struct cvb_case *c, uint64_t iters)
{
	(void)c;
	seen.stepped[w->index]++;
	if (seen.stepped[w->index] != seen.prepared[w->index])
		seen.out_of_order = true;
	for (uint64_t i = 0; i < iters; i++)
		__asm__ volatile("" : : : "memory");
	if (seen.step_us)
		usleep(seen.step_us);
	return 0;
}

static int after_batch(struct cvb_run *run, size_t case_index, uint64_t iters, uint64_t ns,
		       struct cvb_err *err)
{
	(void)err;
	seen.iters = iters;
	cvb_run_report(run, case_index, 1, ns ? (double)(case_index + 7) : NAN);
	return 0;
}

static const struct cvb_bench bench = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "test.record",
	.summary = "keeps a record",
	.mode = CVB_MODE_BATCH,
	.metrics = metrics,
	.setup = setup,
	.takes_part = takes_part,
	.prepare = prepare,
	.step = step,
	.after_batch = after_batch,
};

static struct cvb_runner *open_runner_of(uint64_t max_iters)
{
	const struct cvb_runner_opts opts = {.threads = WORKERS, .sample_ns = 1000000};
	struct cvb_runner *r = NULL;
	struct cvb_err err = {0};

	seen = (struct record){.max_iters = max_iters};
	assert_int_equal(cvb_runner_open(&r, &bench, &opts, &err), 0);
	return r;
}

static struct cvb_runner *open_runner(void)
{
	return open_runner_of(0);
}

static void only_those_that_take_part_are_called(void **state)
{
	struct cvb_runner *r = open_runner();
	struct cvb_sample s = {.value = (double[4]){0}, .ns = (uint64_t[2]){0}};
	const uint64_t iters[2] = {100000, 100000};
	struct cvb_err err = {0};

	(void)state;
	seen.step_us = 2000; /* long enough to be kept */
	assert_int_equal(cvb_runner_sample(r, iters, &s, &err), 0);
	assert_int_equal(seen.stepped[0], 2);
	assert_int_equal(seen.stepped[1], 1);
	assert_int_equal(seen.stepped[2], 1);
	assert_false(seen.out_of_order);
	assert_true(s.ns[0] > 0 && s.ns[1] > 0);
	assert_int_equal(seen.iters, 100000);
	/* what after_batch reports is the metric's value */
	assert_true(s.value[1] == 7 && s.value[3] == 8);
	assert_true(s.value[0] > 0 && s.value[2] > 0);
	cvb_runner_close(r);
}

/* 20 ms of preparation are not in a sample of an empty loop. */
static void preparation_is_not_timed(void **state)
{
	struct cvb_runner *r = open_runner();
	struct cvb_sample s = {.value = (double[4]){0}, .ns = (uint64_t[2]){0}};
	const uint64_t iters[2] = {1, 1};
	uint64_t shortest = UINT64_MAX;
	struct cvb_err err = {0};

	(void)state;
	seen.prepare_us = 20000;
	seen.step_us = 2000;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(cvb_runner_sample(r, iters, &s, &err), 0);
		shortest = cvb_min(shortest, s.ns[1]);
	}
	assert_true(shortest < 15000000);
	cvb_runner_close(r);
}

/* Counts that came from a slower arm, or from before the machine became faster. */
static void a_batch_that_is_too_short_is_taken_again_longer(void **state)
{
	struct cvb_runner *r = open_runner();
	struct cvb_sample s = {.value = (double[4]){0}, .ns = (uint64_t[2]){0}};
	const uint64_t iters[2] = {1, 1};
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_runner_sample(r, iters, &s, &err), 0);
	assert_true(s.shortest_ns >= 1000000);
	/* and the value is of what was run: case 1 came last, so its count is the last one seen */
	assert_true(fabs(s.value[2] * (double)seen.iters / (double)s.ns[1] - 1) < 1e-9);
	cvb_runner_close(r);

	/* a case that can do no more is left as it is */
	r = open_runner_of(5);
	assert_int_equal(cvb_runner_sample(r, iters, &s, &err), 0);
	assert_true(seen.iters <= 5);
	cvb_runner_close(r);
}

static void a_worker_that_cannot_prepare_ends_the_sample(void **state)
{
	struct cvb_runner *r = open_runner();
	struct cvb_sample s = {.value = (double[4]){0}, .ns = (uint64_t[2]){0}};
	const uint64_t iters[2] = {1, 1};
	struct cvb_err err = {0};

	(void)state;
	seen.fail_prepare = -ENOSPC;
	assert_int_equal(cvb_runner_sample(r, iters, &s, &err), -ENOSPC);
	assert_int_equal(seen.stepped[1], 0);
	cvb_runner_close(r);
}

static void warm_up_knows_every_case(void **state)
{
	struct cvb_runner *r = open_runner();
	struct cvb_warmup w[2] = {0};
	struct cvb_err err = {0};
	uint64_t iters[2];

	(void)state;
	assert_true(cvb_runner_warms_up(r));
	assert_int_equal(cvb_runner_calibrate(r, iters, &err), 0);
	assert_int_equal(cvb_runner_warm_up(r, iters, 1, w, &err), 0);
	/* a budget that is spent at once still leaves three batches, too few to tell */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(w[i].batches, 3);
		assert_int_equal(w[i].state, CVB_STEADY_TOO_FEW);
		assert_true(isnan(w[i].ratio));
	}
	/* a long one is spent until a speed is found, and never beyond its limit by much */
	assert_int_equal(cvb_runner_warm_up(r, iters, UINT64_C(10000000000), w, &err), 0);
	for (int i = 0; i < 2; i++) {
		assert_true(w[i].batches >= 24 && w[i].ns > 0);
		assert_int_not_equal(w[i].state, CVB_STEADY_TOO_FEW);
	}
	cvb_runner_close(r);
}

/* In a child, since it ends there: 0 if a case with this parameter is taken, else the signal. */
static int signal_of_case_with(const char *name, bool left_out)
{
	static const char *const names[] = {"size_bytes", "dir", NULL};
	static const struct cvb_bench listed = {.metrics = metrics, .params = names};
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		struct cvb_run run = {
			.bench = &listed, .notes = json_array(), .left_out = json_array()};
		json_t *params = json_pack("{s:i}", name, 1);
		const struct cvb_case c = {.params = params};

		cvb_ignore(dup2(open("/dev/null", O_WRONLY), STDERR_FILENO));
		if (left_out)
			cvb_run_leave_out(&run, params, "not here");
		else
			cvb_ignore(cvb_run_add_case(&run, &c, NULL));
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* A profile is checked against the list, so a benchmark must keep to it. */
static void params_that_are_not_listed_are_a_bug(void **state)
{
	(void)state;
	assert_int_equal(signal_of_case_with("dir", false), 0);
	assert_int_equal(signal_of_case_with("dirs", false), SIGABRT);
	assert_int_equal(signal_of_case_with("size_bytes", true), 0);
	assert_int_equal(signal_of_case_with("size", true), SIGABRT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(params_that_are_not_listed_are_a_bug),
		cmocka_unit_test(only_those_that_take_part_are_called),
		cmocka_unit_test(preparation_is_not_timed),
		cmocka_unit_test(a_batch_that_is_too_short_is_taken_again_longer),
		cmocka_unit_test(a_worker_that_cannot_prepare_ends_the_sample),
		cmocka_unit_test(warm_up_knows_every_case),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
