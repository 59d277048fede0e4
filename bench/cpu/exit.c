/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu.exit: what it costs to do the things that make a guest leave its CPU to the host.
 */
#include "core/file.h"
#include "core/util.h"
#include "cpu/exit_ops.h"
#include "machine/tee.h"
#include "measure/bench.h"
#include "measure/pin.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* One iteration of an operation that is timed one by one: enough for its highest percentile. */
#define EACH_OPS  1000
#define WAKE_OPS  200 /* up to p99: idle times make them long */
#define PAGES_MIN (8 * CVB_MIB)
#define PAGES_MAX (64 * CVB_MIB)

enum {
	METRIC_COST,
	METRIC_P50,
	METRIC_P99,
	METRIC_P999,
};

#define COST	  (1U << METRIC_COST)
#define UP_TO_P99 (1U << METRIC_P50 | 1U << METRIC_P99)
#define EACH	  (UP_TO_P99 | 1U << METRIC_P999)

static const struct cvb_metric metrics[] = {
	[METRIC_COST] = {.name = "cost",
			 .kind = CVB_NS_PER_OP,
			 .better = CVB_LOWER_IS_BETTER,
			 .help = "mean time of one, in a loop without a clock"},
	[METRIC_P50] = {.name = "p50",
			.kind = CVB_REPORTED,
			.better = CVB_LOWER_IS_BETTER,
			.unit = "ns",
			.help = "half of all, timed one by one, took at most this"},
	[METRIC_P99] = {.name = "p99",
			.kind = CVB_REPORTED,
			.better = CVB_LOWER_IS_BETTER,
			.unit = "ns",
			.help = "99 % of all, timed one by one, took at most this"},
	[METRIC_P999] = {.name = "p999",
			 .kind = CVB_REPORTED,
			 .better = CVB_LOWER_IS_BETTER,
			 .unit = "ns",
			 .help = "99.9 % of all, timed one by one, took at most this"},
	{.name = NULL},
};

struct exit_conf {
	int op;
	uint64_t idle_us;
	uint64_t interval_us;
};

static const char *const op_names[] = {
	[CVB_EXIT_CPUID] = "cpuid",
	[CVB_EXIT_SYSCALL] = "syscall",
	[CVB_EXIT_PAGE_FAULT] = "page_fault",
	[CVB_EXIT_RDTSC] = "rdtsc",
	[CVB_EXIT_CLOCK] = "clock",
	[CVB_EXIT_IPI] = "ipi",
	[CVB_EXIT_HANDOVER] = "handover",
	[CVB_EXIT_HLT_WAKE] = "hlt_wake",
	[CVB_EXIT_TIMER] = "timer",
	[CVB_EXIT_OPS] = "all",
	NULL,
};

static const struct cvb_opt opts[] = {
	{.name = "op",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct exit_conf, op),
	 .def = "all",
	 .choices = op_names,
	 .help = "what to do"},
	{.name = "idle_us",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct exit_conf, idle_us),
	 .min = 10,
	 .max = 100000,
	 .def = "500",
	 .unit = "us",
	 .help = "hlt_wake: how long the CPU is idle before it is woken; above the host's "
		 "halt_poll_ns (200 us by default) its thread is off the host's CPU"},
	{.name = "interval_us",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct exit_conf, interval_us),
	 .min = 10,
	 .max = 100000,
	 .def = "100",
	 .unit = "us",
	 .help = "timer: time until each expiry"},
	CVB_OPT_END,
};

/* The leaves: docs/bench/cpu.exit.md tells who answers each of them where. */
#define LEAF_BASIC	0x0
#define LEAF_FEATURES	0x1
#define LEAF_HYPERVISOR 0x40000000

static const struct exit_case {
	enum cvb_exit_op op;
	uint32_t leaf;
	uint32_t metrics;
	unsigned ops; /* of one iteration */
} all_cases[] = {
	{CVB_EXIT_CPUID, LEAF_BASIC, COST, 1},
	{CVB_EXIT_CPUID, LEAF_BASIC, EACH, EACH_OPS},
	{CVB_EXIT_CPUID, LEAF_FEATURES, COST, 1},
	{CVB_EXIT_CPUID, LEAF_FEATURES, EACH, EACH_OPS},
	{CVB_EXIT_CPUID, LEAF_HYPERVISOR, COST, 1},
	{CVB_EXIT_CPUID, LEAF_HYPERVISOR, EACH, EACH_OPS},
	{CVB_EXIT_SYSCALL, 0, COST, 1},
	{CVB_EXIT_PAGE_FAULT, 0, COST, 1},
	{CVB_EXIT_PAGE_FAULT, 0, EACH, EACH_OPS},
	{CVB_EXIT_RDTSC, 0, COST, 1},
	{CVB_EXIT_CLOCK, 0, COST, 1},
	{CVB_EXIT_IPI, 0, EACH, EACH_OPS},
	{CVB_EXIT_HANDOVER, 0, COST, 1},
	{CVB_EXIT_HANDOVER, 0, EACH, EACH_OPS},
	{CVB_EXIT_HLT_WAKE, 0, UP_TO_P99, WAKE_OPS},
	{CVB_EXIT_TIMER, 0, EACH, EACH_OPS},
};

struct exit_state {
	struct cvb_exit_shared shared;
	struct cvb_exit_worker worker[2]; /* the ones that ever work */
	bool two;			  /* some case takes both */
	long faults_before;
	uint64_t calls_before; /* function-call interrupts; UINT64_MAX: not to be read */
};

/* --- counters of the kernel ------------------------------------------------------------------ */

/* Function-call interrupts of all CPUs so far: the CAL row of /proc/interrupts. */
static uint64_t call_interrupts(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/interrupts", "re");
	_cleanup_free_ char *line = NULL;
	uint64_t sum = 0;
	size_t size = 0;

	while (f && getline(&line, &size, f) > 0) {
		char *p = line + strspn(line, " "), *end;

		if (strncmp(p, "CAL:", 4) != 0)
			continue;
		for (p += 4;; p = end) {
			uint64_t v = strtoull(p, &end, 10);

			if (end == p)
				return sum;
			sum += v;
		}
	}
	return UINT64_MAX;
}

static long faults_so_far(void)
{
	struct rusage u = {0};

	getrusage(RUSAGE_SELF, &u);
	return u.ru_minflt;
}

static void read_setting(const char *path, char *buf, size_t buf_bytes)
{
	if (cvb_file_read_line(path, buf, buf_bytes) < 0)
		snprintf(buf, buf_bytes, "unknown");
}

/* What decides these numbers more than the machine does. */
static void note_machine(struct cvb_run *run)
{
	char hv[16], clock[64], idle[64], governor[64];

	read_setting("/sys/devices/system/clocksource/clocksource0/current_clocksource", clock,
		     sizeof(clock));
	read_setting("/sys/devices/system/cpu/cpuidle/current_driver", idle, sizeof(idle));
	read_setting("/sys/devices/system/cpu/cpuidle/current_governor", governor,
		     sizeof(governor));
	cvb_run_note(run, "hypervisor %s, clock source %s, idle driver %s, idle governor %s",
		     cvb_hypervisor(hv, sizeof(hv)), clock, idle, governor);
}

/* --- setup ----------------------------------------------------------------------------------- */

/* Why an operation cannot be measured here; NULL: it can. */
static const char *missing_for(struct cvb_run *run, enum cvb_exit_op op, unsigned cpus)
{
	struct exit_state *s = run->state;

	if (cvb_exit_threads(op) > cpus)
		return "needs two CPUs, and this process may use only one";
	if (cvb_exit_threads(op) > run->workers)
		return "needs two workers, and one was asked for (--threads)";
	if (op == CVB_EXIT_IPI && cvb_exit_ipi_register() < 0)
		return "this kernel has no expedited membarrier(2), which sends the interrupts";
	if (op == CVB_EXIT_PAGE_FAULT && !s->shared.pages.p)
		return "needs 64 MiB of available memory";
	return NULL;
}

static json_t *params_of(const struct exit_case *ec)
{
	char leaf[16];

	if (ec->op != CVB_EXIT_CPUID)
		return json_pack("{s:s}", "op", op_names[ec->op]);
	snprintf(leaf, sizeof(leaf), "0x%" PRIx32, ec->leaf);
	return json_pack("{s:s, s:s}", "op", op_names[ec->op], "leaf", leaf);
}

static int add_case(struct cvb_run *run, size_t index, unsigned cpus, struct cvb_err *err)
{
	const struct exit_conf *conf = run->conf;
	const struct exit_case *ec = &all_cases[index];
	struct exit_state *s = run->state;
	const char *why = missing_for(run, ec->op, cpus);
	uint64_t pages = s->shared.pages.bytes / CVB_EXIT_PAGE_BYTES;

	if (why && conf->op != CVB_EXIT_OPS)
		return cvb_err_set(err, -EOPNOTSUPP, "op = %s %s", op_names[ec->op], why);
	if (why) {
		/* an operation's cases are neighbours */
		if (!index || all_cases[index - 1].op != ec->op)
			cvb_run_leave_out(run, params_of(ec), "%s %s", op_names[ec->op], why);
		return 0;
	}
	struct cvb_case c = {
		.metrics = ec->metrics,
		.params = params_of(ec),
		/* a handover is half of an iteration, there and back */
		.ops = (ec->op == CVB_EXIT_HANDOVER ? 2.0 : 1.0) * ec->ops,
		.max_iters = ec->op == CVB_EXIT_PAGE_FAULT ? pages / ec->ops : UINT32_MAX / 4,
		.user = index,
	};

	s->two = s->two || cvb_exit_threads(ec->op) > 1;
	return cvb_run_add_case(run, &c, err);
}

/* Memory for page faults; none where little is left, which is not an error. */
static int map_pages(struct exit_state *s, struct cvb_err *err)
{
	uint64_t available = cvb_mem_available_bytes(), bytes = PAGES_MAX;

	if (available)
		bytes = cvb_min(bytes, available / 8);
	return bytes < PAGES_MIN ? 0
				 : cvb_mem_map(&s->shared.pages, bytes, CVB_PAGES_4K,
					       /* numa_node= */ -1, err);
}

static int exit_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct exit_conf *conf = run->conf;
	struct exit_state *s = aligned_alloc(_Alignof(struct exit_state), sizeof(*s));
	struct cvb_pin_map *pins = NULL;
	unsigned cpus;
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	memset(s, 0, sizeof(*s));
	run->state = s;
	s->shared.idle_ns = conf->idle_us * 1000;
	s->shared.interval_ns = conf->interval_us * 1000;
	r = cvb_pin_map_new(&pins, err);
	if (r < 0)
		return r;
	cpus = cvb_pin_map_cpus(pins);
	cvb_pin_map_free(pins);
	r = map_pages(s, err);
	for (size_t i = 0; i < CVB_ARRAY_LEN(all_cases) && r >= 0; i++)
		if (conf->op == CVB_EXIT_OPS || conf->op == (int)all_cases[i].op)
			r = add_case(run, i, cpus, err);
	if (r < 0)
		return r;
	s->faults_before = faults_so_far();
	s->calls_before = call_interrupts();
	note_machine(run);
	return 0;
}

static int exit_worker_setup(struct cvb_worker *worker, struct cvb_err *err)
{
	struct exit_state *s = worker->run->state;
	struct cvb_exit_worker *w;

	if (worker->index >= CVB_ARRAY_LEN(s->worker))
		return 0;
	w = &s->worker[worker->index];
	worker->state = w;
	w->shared = &s->shared;
	w->index = worker->index;
	if (worker->index == 1 && s->two) /* the only worker that writes a note */
		cvb_run_note(worker->run,
			     "ipi, handover, hlt_wake: the partner is on CPU %d, NUMA node %d",
			     worker->cpu, worker->numa_node);
	/* else the kernel may let every timer be 50 us late, to have them expire together */
	if (prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0) < 0)
		return cvb_err_set(err, -errno, "cannot set the timer slack: %s", strerror(errno));
	return cvb_histogram_new(&w->times, err);
}

/* --- measuring ------------------------------------------------------------------------------- */

static bool exit_takes_part(const struct cvb_worker *worker, const struct cvb_case *c)
{
	return worker->index < cvb_exit_threads(all_cases[c->user].op);
}

static int exit_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	(void)iters;
	return cvb_exit_prepare(worker->state, all_cases[c->user].op);
}

static int exit_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	const struct exit_case *ec = &all_cases[c->user];

	if (!(ec->metrics & COST))
		return cvb_exit_each(worker->state, ec->op, ec->leaf, iters * ec->ops);
	cvb_exit_batch(worker->state, ec->op, ec->leaf, iters * ec->ops);
	return 0;
}

static int exit_after_batch(struct cvb_run *run, size_t case_index, uint64_t iters, uint64_t ns,
			    struct cvb_err *err)
{
	static const double level[] = {
		[METRIC_P50] = 0.5, [METRIC_P99] = 0.99, [METRIC_P999] = 0.999};
	const struct exit_case *ec = &all_cases[run->cases[case_index].user];
	struct exit_state *s = run->state;

	(void)iters;
	(void)ns;
	(void)err;
	if (ec->metrics & COST)
		return 0;
	if (cvb_exit_threads(ec->op) > 1)
		cvb_histogram_merge(s->worker[0].times, s->worker[1].times);
	for (unsigned m = METRIC_P50; m <= METRIC_P999; m++)
		if (ec->metrics >> m & 1)
			cvb_run_report(run, case_index, m,
				       cvb_histogram_percentile(s->worker[0].times, level[m]));
	return 0;
}

/* --- verification and end -------------------------------------------------------------------- */

/* Did the interrupts and faults that were paid for happen? */
static int check_counters(struct cvb_run *run, struct cvb_err *err)
{
	struct exit_state *s = run->state;
	uint64_t barriers = atomic_load(&s->shared.barriers), calls = call_interrupts();
	uint64_t touched = atomic_load(&s->shared.faults);
	long faults = faults_so_far() - s->faults_before;

	if (faults < 0 || (uint64_t)faults < touched)
		return cvb_err_set(err, -EBADMSG,
				   "%" PRIu64 " fresh pages were touched and the kernel counted "
				   "%ld page faults",
				   touched, faults);
	if (!barriers || s->calls_before == UINT64_MAX || calls == UINT64_MAX)
		return 0;
	calls -= s->calls_before;
	/* none is sent when the partner is taken off its CPU just before the call */
	if (calls < barriers / 100 * 95)
		return cvb_err_set(err, -EBADMSG,
				   "%" PRIu64 " interrupts were asked for and the kernel counted "
				   "%" PRIu64 ": the partner was not running",
				   barriers, calls);
	return 0;
}

static int exit_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct exit_state *s = run->state;

	for (size_t i = 0; i < CVB_ARRAY_LEN(s->worker); i++) {
		if (s->worker[i].bad)
			return cvb_err_set(err, -EBADMSG,
					   "an instruction or call gave another answer than "
					   "before");
		if (s->worker[i].backwards)
			return cvb_err_set(err, -EBADMSG,
					   "an event ended before it began: the clocks of the "
					   "CPUs disagree");
	}
	return check_counters(run, err);
}

static void exit_worker_done(struct cvb_worker *worker)
{
	struct cvb_exit_worker *w = worker->state;

	if (!w)
		return;
	w->times = cvb_histogram_free(w->times);
	worker->sink += w->sink;
	worker->state = NULL;
}

static void exit_done(struct cvb_run *run)
{
	struct exit_state *s = run->state;

	if (!s)
		return;
	cvb_mem_unmap(&s->shared.pages);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench cpu_exit = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "cpu.exit",
	.summary = "CPUID, interrupts, wake-ups, timers, faults: what makes a guest leave its CPU",
	.doc = "cpu.exit.md",
	.mode = CVB_MODE_BATCH,
	.opts = opts,
	.conf_size = sizeof(struct exit_conf),
	.metrics = metrics,
	.params = (const char *const[]){"op", "leaf", NULL},
	.setup = exit_setup,
	.worker_setup = exit_worker_setup,
	.takes_part = exit_takes_part,
	.prepare = exit_prepare,
	.step = exit_step,
	.after_batch = exit_after_batch,
	.verify = exit_verify,
	.worker_done = exit_worker_done,
	.done = exit_done,
};
CVB_BENCH(cpu_exit);
