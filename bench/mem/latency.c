/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.latency: load-to-use time of a chain of dependent loads, by working set size, page size and
 * NUMA node; and the CPU's clock, to read it in cycles.
 */
#include "core/util.h"
#include "measure/bench.h"
#include "measure/memory.h"
#include "mem/chase.h"
#include "mem/sweep.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Loads of one iteration; long enough that the loop around them does not count. */
#define ITER_LOADS 256

/* Additions of one iteration of the clock's case. */
#define ITER_ADDS 1024

/* By default the largest working set is this many times the last cache: one load in eight still
 * hits it. */
#define CACHE_MULTIPLE 8

/* Calibration and warm-up make at least five batches of each case: what comes behind them is the
 * first sample. */
#define BATCHES_BEFORE_NOTE 5

/* Where the system does not tell: larger than the last cache of most machines. */
#define ASSUMED_CACHE_BYTES (64 * CVB_MIB)

#define CHASE_SEED UINT64_C(0x63766d6368617365)

enum {
	METRIC_LATENCY,
	METRIC_CYCLE
};

static const struct cvb_metric metrics[] = {
	[METRIC_LATENCY] = {.name = "latency",
			    .kind = CVB_NS_PER_OP,
			    .better = CVB_LOWER_IS_BETTER,
			    .help = "time from one load to the next that depends on it"},
	[METRIC_CYCLE] = {.name = "cycle",
			  .kind = CVB_NS_PER_OP,
			  .better = CVB_LOWER_IS_BETTER,
			  .help = "time of one addition that depends on the one before: one cycle "
				  "of the CPU's clock"},
	{.name = NULL},
};

struct latency_conf {
	uint64_t min_size_bytes;
	uint64_t max_size_bytes;
	uint64_t step;
	int pages;
	int numa;
};

static const struct cvb_opt opts[] = {
	{.name = "min_size",
	 .type = CVB_OPT_SIZE,
	 .offset = offsetof(struct latency_conf, min_size_bytes),
	 .min = 4096,
	 .max = 1LL << 50,
	 .def = "16KiB",
	 .unit = "bytes",
	 .help = "smallest working set"},
	{.name = "max_size",
	 .type = CVB_OPT_SIZE,
	 .offset = offsetof(struct latency_conf, max_size_bytes),
	 .min = 0,
	 .max = 1LL << 50,
	 .def = "0",
	 .unit = "bytes",
	 .help = "largest working set; 0 means 8 times the last cache, at most a quarter of "
		 "the available memory"},
	{.name = "step",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct latency_conf, step),
	 .min = 2,
	 .max = 16,
	 .def = "2",
	 .help = "each working set is this many times the one before"},
	{.name = "pages",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct latency_conf, pages),
	 .def = "thp",
	 .choices = cvb_pages_choices,
	 .help = "page size; with 4k, misses of the TLB are part of the number"},
	{.name = "numa",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct latency_conf, numa),
	 .def = "local",
	 .choices = cvb_sweep_numa_names,
	 .help = "local: memory next to the thread; matrix: from every CPU node to every memory "
		 "node; auto: the matrix where there are several nodes"},
	CVB_OPT_END,
};

struct chain {
	struct cvb_mem mem;
	size_t n;
	enum cvb_pages pages;
	int cpu, mem_node; /* -1: the worker's own, any */
	bool built;
	const struct cvb_chase_line *at; /* where the next batch goes on */
};

/* Shortest seen, of the smallest working set and of one addition. */
struct fastest {
	unsigned batches;
	double ns;
};

struct latency_state {
	struct chain *chain;
	size_t n;
	int cpu; /* where the worker is */
	struct fastest load, cycle;
	bool warm, noted;
};

/* The clock's case has no chain. */
#define NO_CHAIN UINT64_MAX

/* The largest working set, and a word to the reader where it does not leave the caches. */
static int largest_size(struct cvb_run *run, size_t sets, uint64_t *ret_bytes, struct cvb_err *err)
{
	const struct latency_conf *conf = run->conf;
	uint64_t cache = cvb_last_cache_bytes(), available = cvb_mem_available_bytes();
	uint64_t max = conf->max_size_bytes;

	if (!cache)
		cvb_run_note(run, "the size of the last cache is not known here; 64 MiB assumed");
	if (!cache)
		cache = ASSUMED_CACHE_BYTES;
	if (!max) {
		max = CACHE_MULTIPLE * cache;
		if (available)
			max = cvb_min(max, available / (4 * sets));
		max = cvb_max(max, conf->min_size_bytes);
	}
	if (max < conf->min_size_bytes)
		return cvb_err_set(err, -EINVAL,
				   "max_size = %" PRIu64 " is below min_size = %" PRIu64, max,
				   conf->min_size_bytes);
	/* all working sets exist at the same time: at most twice the largest, for each of `sets` */
	if (available && max > available / (2 * sets))
		return cvb_err_set(err, -EINVAL,
				   "max_size = %" PRIu64
				   " MiB needs %zu times that in all, and %" PRIu64
				   " MiB are available",
				   max / CVB_MIB, 2 * sets, available / CVB_MIB);
	if (max < 2 * cache)
		cvb_run_note(run,
			     "the largest working set (%" PRIu64
			     " KiB) is below twice the last cache (%" PRIu64
			     " KiB): memory itself is not measured",
			     max / CVB_KIB, cache / CVB_KIB);
	*ret_bytes = max;
	return 0;
}

/* --- chains ----------------------------------------------------------------------------------- */

struct place {
	enum cvb_pages pages;
	int cpu_node, cpu, mem_node; /* -1: not swept */
};

/* What tells a series from another: always the size, and what this run sweeps. */
static json_t *params_of(const struct cvb_run *run, const struct place *at, uint64_t bytes)
{
	const struct latency_conf *conf = run->conf;
	json_t *p = json_pack("{s:I}", "size_bytes", (json_int_t)bytes);

	if (conf->pages == CVB_PAGES_ALL)
		json_object_set_new(p, "pages", json_string(cvb_pages_names[at->pages]));
	if (at->cpu_node >= 0) {
		json_object_set_new(p, "cpu_node", json_integer(at->cpu_node));
		json_object_set_new(p, "mem_node", json_integer(at->mem_node));
	}
	return p;
}

static int add_chain(struct cvb_run *run, const struct place *at, uint64_t bytes,
		     struct cvb_err *err)
{
	struct latency_state *s = run->state;
	struct chain *grown = reallocarray(s->chain, s->n + 1, sizeof(*grown));
	int r;

	if (!grown)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	s->chain = grown;
	struct chain *ch = &grown[s->n];

	*ch = (struct chain){.n = bytes / CVB_CHASE_LINE_BYTES,
			     .pages = at->pages,
			     .cpu = at->cpu,
			     .mem_node = at->mem_node};
	r = cvb_mem_map(&ch->mem, bytes, at->pages, at->mem_node, err);
	if (r < 0)
		return cvb_err_wrap(err, r, "working set of %" PRIu64 " bytes", bytes);
	const struct cvb_case c = {
		.metrics = 1U << METRIC_LATENCY,
		.params = params_of(run, at, bytes),
		.ops = ITER_LOADS,
		.user = s->n++,
	};

	r = cvb_run_add_case(run, &c, err);
	return r < 0 ? r : 0;
}

static int add_chains(struct cvb_run *run, const struct place *at, uint64_t max,
		      struct cvb_err *err)
{
	const struct latency_conf *conf = run->conf;
	int r = 0;

	for (uint64_t bytes = conf->min_size_bytes; bytes <= max && r == 0; bytes *= conf->step)
		r = add_chain(run, at, bytes, err);
	return r;
}

static int add_clock(struct cvb_run *run, struct cvb_err *err)
{
	const struct cvb_case c = {
		.metrics = 1U << METRIC_CYCLE, .ops = ITER_ADDS, .user = NO_CHAIN};
	int r = cvb_run_add_case(run, &c, err);

	return r < 0 ? r : 0;
}

static int add_matrix(struct cvb_run *run, const struct cvb_nodes *n, enum cvb_pages pages,
		      uint64_t max, struct cvb_err *err)
{
	int r = 0;

	for (unsigned i = 0; i < n->n_cpu; i++) {
		for (unsigned k = 0; k < n->n_mem && r == 0; k++) {
			const struct place at = {.pages = pages,
						 .cpu_node = n->cpu[i],
						 .cpu = n->first_cpu[i],
						 .mem_node = n->mem[k]};

			r = add_chains(run, &at, max, err);
		}
	}
	return r;
}

static int latency_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct latency_conf *conf = run->conf;
	struct latency_state *s = calloc(1, sizeof(*s));
	enum cvb_pages pages[CVB_PAGES_ALL];
	struct cvb_nodes nodes;
	size_t n_pages, sets;
	uint64_t max = 0;
	int r, matrix;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	s->cpu = -1;
	cvb_nodes_read(&nodes);
	matrix = cvb_sweep_matrix(run, conf->numa, &nodes, err);
	if (matrix < 0)
		return matrix;
	cvb_sweep_pages(run, conf->pages, cvb_max(conf->max_size_bytes, conf->min_size_bytes),
			pages, &n_pages);
	sets = n_pages * (matrix ? nodes.n_cpu * nodes.n_mem : 1);
	r = largest_size(run, sets, &max, err);
	if (r == 0)
		r = add_clock(run, err);
	for (size_t i = 0; i < n_pages && r == 0; i++) {
		const struct place at = {
			.pages = pages[i], .cpu_node = -1, .cpu = -1, .mem_node = -1};

		r = matrix ? add_matrix(run, &nodes, pages[i], max, err)
			   : add_chains(run, &at, max, err);
	}
	return r;
}

/* The worker goes where the case measures from; the chain is built there, before its first batch.
 */
static int latency_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct latency_state *s = worker->run->state;
	struct chain *ch = c->user == NO_CHAIN ? NULL : &s->chain[c->user];
	int cpu = ch && ch->cpu >= 0 ? ch->cpu : worker->cpu;

	(void)iters;
	if (s->cpu < 0)
		s->cpu = worker->cpu;
	if (cpu != s->cpu) {
		int r = cvb_run_on_cpu(cpu);

		if (r < 0)
			return r;
		s->cpu = cpu;
	}
	if (ch && !ch->built) {
		cvb_chase_build(ch->mem.p, ch->n, CHASE_SEED);
		ch->at = ch->mem.p;
	}
	return 0;
}

/* --- the timed part --------------------------------------------------------------------------- */

#define LOAD_4                                                                                     \
	p = p->next;                                                                               \
	p = p->next;                                                                               \
	p = p->next;                                                                               \
	p = p->next
#define LOAD_16                                                                                    \
	LOAD_4;                                                                                    \
	LOAD_4;                                                                                    \
	LOAD_4;                                                                                    \
	LOAD_4

/* Register to register: additions of a constant are folded away by some CPUs. */
#define ADD_4 "add %1, %0\n\tadd %1, %0\n\tadd %1, %0\n\tadd %1, %0\n\t"

static uint64_t count_cycles(uint64_t iters, uint64_t one)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < iters; i++)
		for (unsigned k = 0; k < ITER_ADDS / 16; k++)
			__asm__ volatile(ADD_4 ADD_4 ADD_4 ADD_4 : "+r"(sum) : "r"(one) : "cc");
	return sum;
}

static int latency_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct latency_state *s = worker->run->state;

	if (c->user == NO_CHAIN) {
		worker->sink += count_cycles(iters, 1);
		return 0;
	}
	const struct cvb_chase_line *p = s->chain[c->user].at;

	for (uint64_t i = 0; i < iters; i++)
		for (unsigned k = 0; k < ITER_LOADS / 16; k++) {
			LOAD_16;
		}
	/* the next batch starts where this one ended, so that each load is needed */
	s->chain[c->user].at = p;
	worker->sink += (uintptr_t)p;
	return 0;
}

/* --- after it --------------------------------------------------------------------------------- */

static void keep_fastest(struct fastest *f, double ns)
{
	f->ns = f->batches++ ? cvb_min(f->ns, ns) : ns;
}

/* The smallest working set in cycles: what a vendor's manual can be held against. */
static void note_cycles(struct cvb_run *run)
{
	struct latency_state *s = run->state;

	if (s->noted || !s->warm || s->load.ns <= 0 || s->cycle.ns <= 0)
		return;
	s->noted = true;
	cvb_run_note(run, "%zu KiB: %.2f cycles (%.3g ns at a clock of %.2f GHz)",
		     s->chain[0].n * CVB_CHASE_LINE_BYTES / CVB_KIB, s->load.ns / s->cycle.ns,
		     s->load.ns, 1 / s->cycle.ns);
}

static int latency_after_batch(struct cvb_run *run, size_t case_index, uint64_t iters, uint64_t ns,
			       struct cvb_err *err)
{
	const struct cvb_case *c = &run->cases[case_index];
	struct latency_state *s = run->state;
	double each = (double)ns / ((double)iters * c->ops);

	(void)err;
	if (c->user == NO_CHAIN) {
		keep_fastest(&s->cycle, each);
		s->warm = s->load.batches >= BATCHES_BEFORE_NOTE;
	} else {
		struct chain *ch = &s->chain[c->user];

		if (!ch->built && ch->mem.bytes >= 2 * CVB_MIB)
			cvb_sweep_note_huge(run, &ch->mem, ch->pages);
		ch->built = true;
		if (c->user == 0)
			keep_fastest(&s->load, each);
		note_cycles(run);
	}
	return 0;
}

static int latency_verify(struct cvb_run *run, struct cvb_err *err)
{
	const struct latency_state *s = run->state;

	for (size_t i = 0; i < s->n; i++) {
		const struct chain *ch = &s->chain[i];
		int r = cvb_chase_check(ch->mem.p, ch->n, err);

		if (r == 0)
			r = cvb_sweep_check_node(&ch->mem, ch->mem_node, err);
		if (r < 0)
			return cvb_err_wrap(err, r, "working set of %zu bytes",
					    ch->n * CVB_CHASE_LINE_BYTES);
	}
	return 0;
}

static void latency_done(struct cvb_run *run)
{
	struct latency_state *s = run->state;

	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++)
		cvb_mem_unmap(&s->chain[i].mem);
	free(s->chain);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench mem_latency = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "mem.latency",
	.summary = "latency of dependent loads, by working set size from the caches to memory",
	.doc = "mem.latency.md",
	.flags = CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = opts,
	.conf_size = sizeof(struct latency_conf),
	.metrics = metrics,
	.params = (const char *const[]){"size_bytes", "pages", "cpu_node", "mem_node", NULL},
	.setup = latency_setup,
	.prepare = latency_prepare,
	.step = latency_step,
	.after_batch = latency_after_batch,
	.verify = latency_verify,
	.done = latency_done,
};
CVB_BENCH(mem_latency);
