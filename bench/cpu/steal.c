/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu.steal: how much of the CPU's time does not reach a program that never stops.
 *
 * Every worker reads the clock in a loop.  Two readings that lie further apart than the loop takes
 * are a gap: something else ran.  The kernel's own counters say how much of it they know of.
 */
#include "core/clock.h"
#include "core/util.h"
#include "machine/health.h"
#include "machine/tee.h"
#include "measure/bench.h"

#include <cpuid.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/resource.h>

/* A gap must be this many readings of the clock long, or the clock is what is measured. */
#define GAP_READINGS 4

/* CPUID of KVM's paravirtual features, and the bit that says the host counts stolen time. */
#define KVM_LEAF_FEATURES      0x40000001
#define KVM_FEATURE_STEAL_TIME (1U << 5)

enum {
	METRIC_LOST,
	METRIC_OUTSIDE,
	METRIC_LONGEST,
	METRIC_GAPS,
	METRIC_SWITCHES,
	METRIC_STOLEN,
};

static const struct cvb_metric metrics[] = {
	[METRIC_LOST] = {.name = "lost",
			 .kind = CVB_REPORTED,
			 .better = CVB_LOWER_IS_BETTER,
			 .unit = "ratio",
			 .help = "time in gaps / time, mean of the CPUs"},
	[METRIC_OUTSIDE] =
		{.name = "lost_outside",
		 .kind = CVB_REPORTED,
		 .better = CVB_LOWER_IS_BETTER,
		 .unit = "ratio",
		 .help = "of lost: gaps in which this system's kernel ran no other thread; "
			 "the host, firmware or an interrupt took them"},
	[METRIC_LONGEST] = {.name = "longest",
			    .kind = CVB_REPORTED,
			    .better = CVB_LOWER_IS_BETTER,
			    .unit = "ns",
			    .help = "longest time between two readings of the clock on any CPU"},
	[METRIC_GAPS] = {.name = "gaps",
			 .kind = CVB_REPORTED,
			 .better = CVB_LOWER_IS_BETTER,
			 .unit = "ops_per_s",
			 .help = "gaps in a second, mean of the CPUs"},
	[METRIC_SWITCHES] = {.name = "preemptions",
			     .kind = CVB_REPORTED,
			     .better = CVB_LOWER_IS_BETTER,
			     .unit = "ops_per_s",
			     .help = "of the gaps: times in a second that the kernel in here gave "
				     "the CPU to another thread, mean of the CPUs"},
	[METRIC_STOLEN] = {.name = "stolen",
			   .kind = CVB_REPORTED,
			   .better = CVB_LOWER_IS_BETTER,
			   .unit = "ratio",
			   .help = "time that the host says it took (/proc/stat) / time, all CPUs "
				   "of the machine"},
	{.name = NULL},
};

struct steal_conf {
	uint64_t gap_us;
	uint64_t length_ms;
};

static const struct cvb_opt opts[] = {
	{.name = "gap_us",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct steal_conf, gap_us),
	 .min = 1,
	 .max = 100000,
	 .def = "10",
	 .unit = "us",
	 .help = "two readings of the clock further apart than this are a gap"},
	{.name = "length_ms",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct steal_conf, length_ms),
	 .min = 10,
	 .max = 60000,
	 .def = "200",
	 .unit = "ms",
	 .help = "shortest time to look; stolen time is counted in ticks of 10 ms"},
	CVB_OPT_END,
};

/* What one worker saw in one batch. */
struct seen {
	_Alignas(64) uint64_t ns, lost_ns, outside_ns, longest_ns, gaps;
	uint64_t switches;
	bool backwards; /* ever */
};

struct steal_state {
	uint64_t gap_ns, length_ns;
	struct cvb_health before;
	struct seen worker[];
};

/* Does the host of this guest count what it steals?  Without one nothing is stolen. */
static bool host_counts(void)
{
	uint32_t a, b, c, d;
	char hv[16];

	cvb_hypervisor(hv, sizeof(hv));
	if (!strncmp(hv, "TCG", 3))
		return false;
	if (strcmp(hv, "KVMKVMKVM") != 0)
		return true;
	__cpuid(KVM_LEAF_FEATURES, a, b, c, d);
	return a & KVM_FEATURE_STEAL_TIME;
}

static int steal_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct steal_conf *conf = run->conf;
	double cost_ns = cvb_clock_cost_ns(&cvb_clock_host);
	struct cvb_case c = {
		.metrics = 1U << METRIC_LOST | 1U << METRIC_OUTSIDE | 1U << METRIC_LONGEST |
			   1U << METRIC_GAPS | 1U << METRIC_SWITCHES,
		.ops = 1,
	};
	size_t bytes = sizeof(struct steal_state) + run->workers * sizeof(struct seen);
	struct steal_state *s = aligned_alloc(64, bytes);
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	memset(s, 0, bytes);
	run->state = s;
	s->gap_ns = conf->gap_us * 1000;
	s->length_ns = conf->length_ms * CVB_NS_PER_MS;
	if ((double)s->gap_ns < GAP_READINGS * cost_ns)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "one reading of the clock takes %.0f ns here: gaps of %" PRIu64
				   " us cannot be told from it; gap_us = %.0f could",
				   cost_ns, conf->gap_us, ceil(GAP_READINGS * cost_ns / 1000));
	cvb_health_read(&s->before);
	if (!s->before.cpu_known)
		cvb_run_note(run, "stolen: /proc/stat cannot be read");
	else if (!host_counts())
		cvb_run_note(run, "stolen: this hypervisor does not tell its guests what it takes");
	else
		c.metrics |= 1U << METRIC_STOLEN;
	r = cvb_run_add_case(run, &c, err);
	return r < 0 ? r : 0;
}

/* Times that the kernel took the CPU from the calling thread. */
static uint64_t switches_so_far(void)
{
	struct rusage u = {0};

	getrusage(RUSAGE_THREAD, &u);
	return (uint64_t)u.ru_nivcsw;
}

static int steal_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct steal_state *s = worker->run->state;

	(void)c;
	(void)iters;
	if (worker->index == 0)
		cvb_health_read(&s->before);
	return 0;
}

static void add_gap(struct seen *seen, uint64_t gap_ns, uint64_t *last_switches)
{
	uint64_t switches = switches_so_far();

	seen->gaps++;
	seen->lost_ns += gap_ns;
	if (switches == *last_switches)
		seen->outside_ns += gap_ns;
	seen->switches += switches - *last_switches;
	*last_switches = switches;
}

static int steal_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct steal_state *s = worker->run->state;
	struct seen *out = &s->worker[worker->index];
	struct seen seen = {.backwards = out->backwards};
	uint64_t switches = switches_so_far(), start_ns = cvb_now_ns(), last_ns = start_ns;

	(void)c;
	while (last_ns - start_ns < iters * s->length_ns) {
		uint64_t now_ns = cvb_now_ns(), gap_ns = now_ns - last_ns;

		if (now_ns < last_ns) {
			seen.backwards = true;
			break;
		}
		seen.longest_ns = cvb_max(seen.longest_ns, gap_ns);
		if (gap_ns > s->gap_ns)
			add_gap(&seen, gap_ns, &switches);
		last_ns = now_ns;
	}
	seen.ns = last_ns - start_ns;
	*out = seen;
	return 0;
}

static int steal_after_batch(struct cvb_run *run, size_t case_index, uint64_t iters, uint64_t ns,
			     struct cvb_err *err)
{
	struct steal_state *s = run->state;
	double lost = 0, outside = 0, gaps = 0, switches = 0, longest = 0, n = run->workers;
	struct cvb_health after;
	struct cvb_health_change change;

	(void)iters;
	(void)ns;
	(void)err;
	cvb_health_read(&after);
	cvb_health_diff(&s->before, &after, &change);
	for (unsigned i = 0; i < run->workers; i++) {
		const struct seen *w = &s->worker[i];
		double t_ns = (double)w->ns;

		lost += (double)w->lost_ns / t_ns;
		outside += (double)w->outside_ns / t_ns;
		gaps += (double)w->gaps / t_ns * 1e9;
		switches += (double)w->switches / t_ns * 1e9;
		longest = fmax(longest, (double)w->longest_ns);
	}
	cvb_run_report(run, case_index, METRIC_LOST, lost / n);
	cvb_run_report(run, case_index, METRIC_OUTSIDE, outside / n);
	cvb_run_report(run, case_index, METRIC_GAPS, gaps / n);
	cvb_run_report(run, case_index, METRIC_SWITCHES, switches / n);
	cvb_run_report(run, case_index, METRIC_LONGEST, longest);
	if (run->cases[case_index].metrics >> METRIC_STOLEN & 1)
		cvb_run_report(run, case_index, METRIC_STOLEN,
			       change.steal_ratio < 0 ? NAN : change.steal_ratio);
	return 0;
}

static int steal_verify(struct cvb_run *run, struct cvb_err *err)
{
	const struct steal_state *s = run->state;

	for (unsigned i = 0; i < run->workers; i++)
		if (s->worker[i].backwards)
			return cvb_err_set(err, -EBADMSG, "the clock of worker %u ran backwards",
					   i);
	return 0;
}

static void steal_done(struct cvb_run *run)
{
	free(run->state);
	run->state = NULL;
}

static const struct cvb_bench cpu_steal = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "cpu.steal",
	.summary = "CPU time that does not reach a program: stolen by the host, or lost in gaps",
	.doc = "cpu.steal.md",
	.mode = CVB_MODE_BATCH,
	.opts = opts,
	.conf_size = sizeof(struct steal_conf),
	.metrics = metrics,
	.setup = steal_setup,
	.prepare = steal_prepare,
	.step = steal_step,
	.after_batch = steal_after_batch,
	.verify = steal_verify,
	.done = steal_done,
};
CVB_BENCH(cpu_steal);
