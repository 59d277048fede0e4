/* SPDX-License-Identifier: Apache-2.0 */
/* Whole runs of the CPU benchmarks: what is measured, what one CPU leaves out, what is refused. */
#include "fixture.h"

#include "cpu/exit_ops.h"
#include "measure/pin.h"
#include "measure/runner.h"

#include <math.h>
#include <sched.h>

#define MAX_SERIES 64

struct result {
	double value[MAX_SERIES];
	char name[MAX_SERIES][64]; /* "p99 cpuid 0x1" */
	size_t n;
	json_t *left_out; /* [{params, reason}] */
	int verified;
	struct cvb_err err;
};

static void result_done(struct result *res)
{
	json_decref(res->left_out);
}

#define _cleanup_result_ __attribute__((cleanup(result_done)))

/* Open, calibrate, one sample, verify.  Returns what open said. */
static int run_bench(const struct cvb_bench *bench, json_t *options, unsigned threads,
		     struct result *res)
{
	_cleanup_json_ json_t *owned = options;
	const struct cvb_runner_opts o = {
		.options = owned, .threads = threads, .sample_ns = CVB_NS_PER_MS};
	struct cvb_runner *r;
	uint64_t iters[MAX_SERIES], ns[MAX_SERIES];
	struct cvb_sample sample = {.value = res->value, .ns = ns};
	const struct cvb_series *series;
	int code = cvb_runner_open(&r, bench, &o, &res->err);

	if (code < 0)
		return code;
	series = cvb_runner_series(r, &res->n);
	assert_true(res->n <= MAX_SERIES);
	for (size_t i = 0; i < res->n; i++) {
		const char *op = "", *leaf = "";

		cvb_ignore(json_unpack((json_t *)(uintptr_t)series[i].params, "{s?s, s?s}", "op",
				       &op, "leaf", &leaf));
		snprintf(res->name[i], sizeof(res->name[i]), "%s %s%s%s", series[i].metric->name,
			 op, *leaf ? " " : "", leaf);
	}
	res->left_out = json_deep_copy(cvb_runner_left_out(r));
	assert_int_equal(cvb_runner_calibrate(r, iters, &res->err), 0);
	assert_int_equal(cvb_runner_sample(r, iters, &sample, &res->err), 0);
	res->verified = cvb_runner_verify(r, &res->err);
	cvb_runner_close(r);
	return 0;
}

static int run_exit(const char *op, unsigned threads, struct result *res)
{
	/* short waits: this is no measurement */
	json_t *o = json_pack("{s:s, s:s, s:s}", "op", op, "idle_us", "50", "interval_us", "20");

	return run_bench(cvb_bench_find("cpu.exit", NULL), o, threads, res);
}

static double value_of(const struct result *res, const char *name)
{
	for (size_t i = 0; i < res->n; i++)
		if (!strcmp(res->name[i], name))
			return res->value[i];
	fail_msg("no series \"%s\"", name);
	return 0;
}

static unsigned cpus(void)
{
	struct cvb_pin_map *map = NULL;
	unsigned n;

	assert_int_equal(cvb_pin_map_new(&map, NULL), 0);
	n = cvb_pin_map_cpus(map);
	cvb_pin_map_free(map);
	return n;
}

/* --- cpu.exit -------------------------------------------------------------------------------- */

static const char *const alone[] = {"cpuid 0x0", "cpuid 0x1",  "cpuid 0x40000000",
				    "syscall",	 "page_fault", "rdtsc",
				    "clock",	 "timer"};
static const char *const together[] = {"ipi", "handover", "hlt_wake"};

/* Percentiles of one operation are there or not, and rise. */
static void check_op(const struct result *res, const char *op, bool cost, bool each, bool p999)
{
	char name[64];
	double p50, p99;

	if (cost) {
		snprintf(name, sizeof(name), "cost %s", op);
		assert_true(value_of(res, name) > 0.1 && value_of(res, name) < 1e9);
	}
	if (!each)
		return;
	snprintf(name, sizeof(name), "p50 %s", op);
	p50 = value_of(res, name);
	snprintf(name, sizeof(name), "p99 %s", op);
	p99 = value_of(res, name);
	assert_true(p50 >= 1 && p50 <= p99 && p99 < 10e9);
	if (!p999)
		return;
	snprintf(name, sizeof(name), "p999 %s", op);
	assert_true(value_of(res, name) >= p99);
}

static void check_alone(const struct result *res)
{
	for (size_t i = 0; i < CVB_ARRAY_LEN(alone); i++) {
		bool timer = !strcmp(alone[i], "timer");
		bool each =
			timer || !strncmp(alone[i], "cpuid", 5) || !strcmp(alone[i], "page_fault");

		check_op(res, alone[i], !timer, each, true);
	}
	/* a reading of the clock is in each of these */
	assert_true(value_of(res, "cost cpuid 0x0") > 10);
	assert_true(value_of(res, "cost page_fault") > value_of(res, "cost rdtsc"));
}

static void every_operation_is_measured(void **state)
{
	_cleanup_result_ struct result res = {0};

	(void)state;
	if (cpus() < 2)
		skip();
	assert_int_equal(run_exit("all", 2, &res), 0);
	if (res.verified < 0)
		fail_msg("%s", res.err.frame[0].msg);
	check_alone(&res);
	check_op(&res, "ipi", false, true, true);
	check_op(&res, "handover", true, true, true);
	check_op(&res, "hlt_wake", false, true, false);
	assert_int_equal(json_array_size(res.left_out), 0);
	assert_int_equal(res.n, 7 + 4 * 3 + 3 + 1 + 3 + 2 + 3);
}

/* Restrict this thread, and those that it starts, to the first of its CPUs. */
static cpu_set_t keep_one_cpu(void)
{
	cpu_set_t all, one;

	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	CPU_ZERO(&one);
	for (size_t i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &all))
			continue;
		CPU_SET(i, &one);
		break;
	}
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	return all;
}

static void assert_left_out(const struct result *res, const char *reason)
{
	assert_int_equal(json_array_size(res->left_out), CVB_ARRAY_LEN(together));
	for (size_t i = 0; i < CVB_ARRAY_LEN(together); i++) {
		const char *op = "", *why = "";

		assert_int_equal(json_unpack(json_array_get(res->left_out, i), "{s:{s:s}, s:s}",
					     "params", "op", &op, "reason", &why),
				 0);
		assert_string_equal(op, together[i]);
		if (!strstr(why, reason))
			fail_msg("\"%s\" does not say \"%s\"", why, reason);
	}
}

static void one_cpu_leaves_two_out(void **state)
{
	_cleanup_result_ struct result res = {0}, asked = {0};
	cpu_set_t all = keep_one_cpu();

	(void)state;
	/* two workers do not help: they would share the CPU */
	assert_int_equal(run_exit("all", 2, &res), 0);
	assert_int_equal(run_exit("ipi", 2, &asked), -EOPNOTSUPP);
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
	assert_says(&asked.err, "two CPUs");
	assert_int_equal(res.verified, 0);
	check_alone(&res);
	assert_left_out(&res, "two CPUs");
}

static void one_worker_leaves_two_out(void **state)
{
	_cleanup_result_ struct result res = {0}, asked = {0};

	(void)state;
	if (cpus() < 2)
		skip();
	assert_int_equal(run_exit("all", 1, &res), 0);
	assert_left_out(&res, "two workers");
	assert_int_equal(run_exit("hlt_wake", 1, &asked), -EOPNOTSUPP);
}

/* A timer that is set 2 ms ahead must not come early, nor be taken for 2 ms late, each time: a busy
 * system may keep the thread that wakes up waiting as long for its CPU, but not in every run. */
static void waiting_is_not_lateness(void **state)
{
	double least_ns = INFINITY;

	(void)state;
	for (int i = 0; i < 5 && least_ns >= 2e6; i++) {
		_cleanup_result_ struct result res = {0};
		json_t *o = json_pack("{s:s, s:s}", "op", "timer", "interval_us", "2000");

		assert_int_equal(run_bench(cvb_bench_find("cpu.exit", NULL), o, 1, &res), 0);
		assert_int_equal(res.verified, 0);
		least_ns = fmin(least_ns, value_of(&res, "p50 timer"));
	}
	assert_true(least_ns < 2e6);
}

static enum {
	SPOIL_FAULTS,
	SPOIL_INTERRUPTS,
	SPOIL_CLOCK,
	SPOIL_ANSWER,
} to_spoil;

/* Claim more than happened. */
static int spoiling_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct cvb_exit_worker *w = worker->state;
	int r = cvb_bench_find("cpu.exit", NULL)->step(worker, c, iters);

	if (to_spoil == SPOIL_FAULTS)
		atomic_fetch_add(&w->shared->faults, UINT64_C(1) << 40);
	else if (to_spoil == SPOIL_INTERRUPTS)
		atomic_fetch_add(&w->shared->barriers, UINT64_C(1) << 40);
	else if (to_spoil == SPOIL_CLOCK)
		w->backwards = true;
	else
		w->bad = true;
	return r;
}

static void claims_are_checked(void **state)
{
	static const char *const says[] = {
		[SPOIL_FAULTS] = "page faults",
		[SPOIL_INTERRUPTS] = "interrupts were asked for",
		[SPOIL_CLOCK] = "clocks of the CPUs disagree",
		[SPOIL_ANSWER] = "another answer",
	};
	struct cvb_bench spoiling = *cvb_bench_find("cpu.exit", NULL);

	(void)state;
	spoiling.step = spoiling_step;
	for (to_spoil = SPOIL_FAULTS; to_spoil <= SPOIL_ANSWER; to_spoil++) {
		_cleanup_result_ struct result res = {0};
		json_t *o = json_pack("{s:s}", "op", "syscall");

		assert_int_equal(run_bench(&spoiling, o, 1, &res), 0);
		assert_int_equal(res.verified, -EBADMSG);
		assert_says(&res.err, says[to_spoil]);
	}
}

/* --- cpu.steal ------------------------------------------------------------------------------- */

static int run_steal(unsigned threads, const char *gap_us, struct result *res)
{
	json_t *o = json_pack("{s:s, s:s}", "length_ms", "100", "gap_us", gap_us);

	return run_bench(cvb_bench_find("cpu.steal", NULL), o, threads, res);
}

static void gaps_are_found(void **state)
{
	_cleanup_result_ struct result res = {0};

	(void)state;
	assert_int_equal(run_steal(1, "10", &res), 0);
	assert_int_equal(res.verified, 0);
	assert_true(value_of(&res, "lost ") >= 0 && value_of(&res, "lost ") < 1);
	assert_true(value_of(&res, "lost_outside ") <= value_of(&res, "lost "));
	assert_true(value_of(&res, "longest ") > 1 && value_of(&res, "longest ") < 60e9);
	assert_true(value_of(&res, "gaps ") >= 0 && value_of(&res, "preemptions ") >= 0);
}

/* Two that spin on one CPU: each loses at least half, and to a thread of this system. */
static void a_shared_cpu_is_half_lost(void **state)
{
	_cleanup_result_ struct result res = {0};
	cpu_set_t all = keep_one_cpu();
	int r = run_steal(2, "10", &res);

	(void)state;
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
	assert_int_equal(r, 0);
	assert_int_equal(res.verified, 0);
	/* one of them ends alone */
	assert_true(value_of(&res, "lost ") > 0.3);
	assert_true(value_of(&res, "lost_outside ") < 0.5 * value_of(&res, "lost "));
	assert_true(value_of(&res, "preemptions ") > 1);
	assert_true(value_of(&res, "longest ") > 1e5);
}

/* Gaps shorter than asked for do not count. */
static void short_gaps_do_not_count(void **state)
{
	_cleanup_result_ struct result res = {0};

	(void)state;
	assert_int_equal(run_steal(1, "100000", &res), 0);
	if (value_of(&res, "longest ") < 100e6) {
		assert_true(value_of(&res, "lost ") == 0);
		assert_true(value_of(&res, "gaps ") == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_operation_is_measured),
		cmocka_unit_test(one_cpu_leaves_two_out),
		cmocka_unit_test(one_worker_leaves_two_out),
		cmocka_unit_test(waiting_is_not_lateness),
		cmocka_unit_test(claims_are_checked),
		cmocka_unit_test(gaps_are_found),
		cmocka_unit_test(a_shared_cpu_is_half_lost),
		cmocka_unit_test(short_gaps_do_not_count),
	};

	return cmocka_run_group_tests_name("cpu: exits and gaps", tests, NULL, NULL);
}
