/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.loaded: latency of dependent loads on one CPU while the others use the memory, from hardly to
 * as much as they can; and the bandwidth they get meanwhile.
 */
#include "core/util.h"
#include "measure/bench.h"
#include "measure/memory.h"
#include "mem/chase.h"
#include "mem/sweep.h"

#include <emmintrin.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#define ITER_LOADS 256

/* What a background worker reads between two delays; long enough for a few loads at a time, short
 * enough that the load is even over microseconds. */
#define BURST_BYTES 1024
#define BURST_WORDS (BURST_BYTES / 8)

/* As mem.latency. */
#define CACHE_MULTIPLE	    8
#define ASSUMED_CACHE_BYTES (64 * CVB_MIB)
#define MIN_BUFFER_BYTES    (16 * CVB_MIB)

#define CHASE_SEED UINT64_C(0x6c6f61646564)

enum {
	METRIC_IDLE,
	METRIC_LATENCY,
	METRIC_BANDWIDTH
};

static const struct cvb_metric metrics[] = {
	[METRIC_IDLE] = {.name = "idle_latency",
			 .kind = CVB_NS_PER_OP,
			 .better = CVB_LOWER_IS_BETTER,
			 .help = "time from one load to the next that depends on it, nothing else "
				 "using the memory"},
	[METRIC_LATENCY] = {.name = "latency",
			    .kind = CVB_NS_PER_OP,
			    .better = CVB_LOWER_IS_BETTER,
			    .help = "the same while the other workers use the memory"},
	[METRIC_BANDWIDTH] = {.name = "bandwidth",
			      .kind = CVB_REPORTED,
			      .better = CVB_HIGHER_IS_BETTER,
			      .unit = "bytes_per_s",
			      .help = "what the other workers moved meanwhile, all together"},
	{.name = NULL},
};

enum traffic {
	READ,
	COPY
};
static const char *const traffic_names[] = {"read", "copy", NULL};

struct loaded_conf {
	uint64_t size_bytes;
	uint64_t buffer_bytes;
	uint64_t min_delay;
	uint64_t max_delay;
	uint64_t step;
	int traffic;
	int pages;
};

static const struct cvb_opt opts[] = {
	{.name = "size",
	 .type = CVB_OPT_SIZE,
	 .offset = offsetof(struct loaded_conf, size_bytes),
	 .min = 0,
	 .max = 1LL << 50,
	 .def = "0",
	 .unit = "bytes",
	 .help = "working set of the dependent loads; 0 means 8 times the last cache, at most an "
		 "eighth of the available memory"},
	{.name = "buffer",
	 .type = CVB_OPT_SIZE,
	 .offset = offsetof(struct loaded_conf, buffer_bytes),
	 .min = 0,
	 .max = 1LL << 50,
	 .def = "0",
	 .unit = "bytes",
	 .help = "memory of each background worker; 0 means twice the last cache, at least "
		 "16 MiB, at most a quarter of the available memory for all of them"},
	{.name = "traffic",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct loaded_conf, traffic),
	 .def = "read",
	 .choices = traffic_names,
	 .help = "what the background does; copy stores with regular stores"},
	{.name = "min_delay",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct loaded_conf, min_delay),
	 .min = 8,
	 .max = 1 << 24,
	 .def = "128",
	 .unit = "cycles",
	 .help = "shortest delay between two bursts of 1 KiB, besides none"},
	{.name = "max_delay",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct loaded_conf, max_delay),
	 .min = 0,
	 .max = 1 << 24,
	 .def = "8192",
	 .unit = "cycles",
	 .help = "longest delay; 0 for a load without delay only"},
	{.name = "step",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct loaded_conf, step),
	 .min = 2,
	 .max = 16,
	 .def = "2",
	 .help = "each delay is this many times the one before"},
	{.name = "pages",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct loaded_conf, pages),
	 .def = "thp",
	 .choices = cvb_pages_names,
	 .help = "page size of all memory used"},
	CVB_OPT_END,
};

/* What one background worker has and has done. */
struct background {
	_Alignas(128) struct cvb_mem mem;
	size_t bursts_each;  /* in one pass over what it reads */
	uint64_t done;	     /* bursts since the start */
	uint64_t batch_done; /* of the batch under way */
	uint64_t sum;	     /* of all words read, traffic=read */
};

struct loaded_state {
	struct cvb_mem mem;
	size_t lines;
	const struct cvb_chase_line *at;
	struct background *others; /* one a worker; the first, which chases, has none */
	size_t buffer_bytes;
	_Alignas(128) atomic_bool over; /* the chase of this batch has ended */
};

/* What a case's `user` holds: the delay, or that there is no background. */
#define IDLE UINT64_MAX

/* --- set up ----------------------------------------------------------------------------------- */

static int check_cpus(const struct cvb_run *run, struct cvb_err *err)
{
	struct cvb_nodes nodes;
	unsigned cpus = 0;

	cvb_nodes_read(&nodes);
	for (unsigned i = 0; i < nodes.n_cpu; i++)
		cpus += nodes.cpus[i];
	if (cpus < 2)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "a load besides the measured CPU needs a second one");
	if (run->workers < 2 || run->workers > cpus)
		return cvb_err_set(err, -EINVAL,
				   "threads = %u: one measures, the others are the load, each on "
				   "one of %u CPUs: 2 to %u",
				   run->workers, cpus, cpus);
	return 0;
}

static int choose_sizes(struct cvb_run *run, uint64_t *ret_chase, struct cvb_err *err)
{
	const struct loaded_conf *conf = run->conf;
	struct loaded_state *s = run->state;
	uint64_t cache = cvb_last_cache_bytes(), available = cvb_mem_available_bytes();
	uint64_t chase = conf->size_bytes, buffer = conf->buffer_bytes;
	unsigned others = run->workers - 1;

	if (!cache) {
		cvb_run_note(run, "the size of the last cache is not known here; 64 MiB assumed");
		cache = ASSUMED_CACHE_BYTES;
	}
	if (!chase)
		chase = available ? cvb_min(CACHE_MULTIPLE * cache, available / 8)
				  : CACHE_MULTIPLE * cache;
	if (!buffer) {
		buffer = cvb_max(2 * cache, MIN_BUFFER_BYTES);
		if (available)
			buffer = cvb_min(buffer, available / (4 * others));
	}
	chase -= chase % CVB_CHASE_LINE_BYTES;
	buffer -= buffer % (2 * BURST_BYTES); /* two halves for a copy */
	if (!chase || !buffer)
		return cvb_err_set(err, -EINVAL, "size and buffer: at least 2 KiB each");
	if (available && (chase > available || buffer > (available - chase) / others))
		return cvb_err_set(err, -EINVAL,
				   "%" PRIu64 " MiB and %u times %" PRIu64
				   " MiB do not fit into the %" PRIu64
				   " MiB of memory that are available",
				   chase / CVB_MIB, others, buffer / CVB_MIB, available / CVB_MIB);
	if (chase < 2 * cache)
		cvb_run_note(run,
			     "the working set (%" PRIu64
			     " KiB) is below twice the last cache (%" PRIu64
			     " KiB): memory itself is not measured",
			     chase / CVB_KIB, cache / CVB_KIB);
	s->buffer_bytes = buffer;
	*ret_chase = chase;
	return 0;
}

static int add_cases(struct cvb_run *run, struct cvb_err *err)
{
	const struct loaded_conf *conf = run->conf;
	struct cvb_case c = {.metrics = 1U << METRIC_IDLE, .ops = ITER_LOADS, .user = IDLE};
	int r = cvb_run_add_case(run, &c, err);

	c.metrics = 1U << METRIC_LATENCY | 1U << METRIC_BANDWIDTH;
	/* from hardly any load to all of it, as a curve is read */
	uint64_t delay = conf->min_delay;

	while (delay <= conf->max_delay / conf->step)
		delay *= conf->step;
	for (; r >= 0; delay /= conf->step) {
		bool none = delay < conf->min_delay || delay > conf->max_delay;

		c.user = none ? 0 : delay;
		c.params = json_pack("{s:s, s:I}", "traffic", traffic_names[conf->traffic],
				     "delay_cycles", (json_int_t)c.user);
		r = cvb_run_add_case(run, &c, err);
		if (none)
			break;
	}
	return r < 0 ? r : 0;
}

static int loaded_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct loaded_conf *conf = run->conf;
	struct loaded_state *s;
	uint64_t chase = 0;
	int r = check_cpus(run, err);

	if (r < 0)
		return r;
	s = aligned_alloc(_Alignof(struct loaded_state), sizeof(*s));
	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	memset(s, 0, sizeof(*s));
	run->state = s;
	s->others = aligned_alloc(_Alignof(struct background), run->workers * sizeof(*s->others));
	if (!s->others)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	memset(s->others, 0, run->workers * sizeof(*s->others));
	r = choose_sizes(run, &chase, err);
	if (r < 0)
		return r;
	s->lines = chase / CVB_CHASE_LINE_BYTES;
	r = cvb_mem_map(&s->mem, chase, (enum cvb_pages)conf->pages, /* numa_node= */ -1, err);
	for (unsigned i = 1; i < run->workers && r == 0; i++)
		r = cvb_mem_map(&s->others[i].mem, s->buffer_bytes, (enum cvb_pages)conf->pages,
				/* numa_node= */ -1, err);
	return r < 0 ? r : add_cases(run, err);
}

/* Words tell their index; a copy goes from the first half to the second, which starts as zeros. */
static int loaded_worker_setup(struct cvb_worker *worker, struct cvb_err *err)
{
	struct loaded_state *s = worker->run->state;
	const struct loaded_conf *conf = worker->run->conf;
	struct background *b = &s->others[worker->index];
	uint64_t *word = b->mem.p;

	(void)err;
	if (worker->index == 0) {
		cvb_chase_build(s->mem.p, s->lines, CHASE_SEED);
		s->at = s->mem.p;
		return 0;
	}
	b->bursts_each = s->buffer_bytes / BURST_BYTES / (conf->traffic == COPY ? 2 : 1);
	for (size_t i = 0; i < s->buffer_bytes / 8; i++)
		word[i] = i < b->bursts_each * BURST_WORDS ? i : 0;
	return 0;
}

static bool loaded_takes_part(const struct cvb_worker *worker, const struct cvb_case *c)
{
	return worker->index == 0 || c->user != IDLE;
}

/* All workers prepare before any of them starts. */
static int loaded_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct loaded_state *s = worker->run->state;

	(void)c, (void)iters;
	if (worker->index == 0)
		atomic_store(&s->over, false);
	s->others[worker->index].batch_done = 0;
	return 0;
}

/* --- the timed part --------------------------------------------------------------------------- */

static void chase(struct loaded_state *s, uint64_t iters)
{
	const struct cvb_chase_line *p = s->at;

	for (uint64_t i = 0; i < iters; i++)
		for (unsigned k = 0; k < ITER_LOADS / 8; k++) {
			p = p->next->next->next->next;
			p = p->next->next->next->next;
		}
	s->at = p;
	atomic_store_explicit(&s->over, true, memory_order_release);
}

static uint64_t read_burst(const __m128i *from)
{
	__m128i t0 = _mm_setzero_si128(), t1 = t0;

	for (unsigned i = 0; i < BURST_BYTES / 16; i += 2) {
		t0 = _mm_add_epi64(t0, _mm_load_si128(from + i));
		t1 = _mm_add_epi64(t1, _mm_load_si128(from + i + 1));
	}
	t0 = _mm_add_epi64(t0, t1);
	return (uint64_t)_mm_cvtsi128_si64(t0) +
	       (uint64_t)_mm_cvtsi128_si64(_mm_unpackhi_epi64(t0, t0));
}

static void copy_burst(__m128i *to, const __m128i *from)
{
	for (unsigned i = 0; i < BURST_BYTES / 16; i++) {
		__m128i v = _mm_load_si128(from + i);

		__asm__("" : "+x"(v)); /* or it becomes a call of memcpy */
		_mm_store_si128(to + i, v);
	}
}

/* Additions that wait for one another, a cycle each, and for the loads before them. */
static void wait_cycles(uint64_t cycles)
{
	uint64_t sum = 0, one = 1;

	_mm_lfence();
	for (uint64_t i = 0; i < cycles; i += 8)
		__asm__ volatile("add %1, %0\n\tadd %1, %0\n\tadd %1, %0\n\tadd %1, %0\n\t"
				 "add %1, %0\n\tadd %1, %0\n\tadd %1, %0\n\tadd %1, %0\n\t"
				 : "+r"(sum)
				 : "r"(one)
				 : "cc");
	_mm_lfence();
}

static void load_memory(struct loaded_state *s, struct background *b, enum traffic traffic,
			uint64_t delay)
{
	size_t at = b->done % b->bursts_each, vectors = BURST_BYTES / 16;
	__m128i *from = b->mem.p, *to = from + b->bursts_each * vectors;
	uint64_t n = 0, sum = 0;

	do {
		if (traffic == COPY)
			copy_burst(to + at * vectors, from + at * vectors);
		else
			sum += read_burst(from + at * vectors);
		n++;
		at = at + 1 < b->bursts_each ? at + 1 : 0;
		if (delay)
			wait_cycles(delay);
	} while (!atomic_load_explicit(&s->over, memory_order_acquire));
	b->batch_done = n;
	b->done += n;
	b->sum += sum;
}

static int loaded_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	const struct loaded_conf *conf = worker->run->conf;
	struct loaded_state *s = worker->run->state;

	if (worker->index == 0)
		chase(s, iters);
	else
		load_memory(s, &s->others[worker->index], (enum traffic)conf->traffic, c->user);
	return 0;
}

/* --- after it --------------------------------------------------------------------------------- */

static int loaded_after_batch(struct cvb_run *run, size_t case_index, uint64_t iters, uint64_t ns,
			      struct cvb_err *err)
{
	const struct loaded_conf *conf = run->conf;
	const struct loaded_state *s = run->state;
	uint64_t bursts = 0;

	(void)iters, (void)err;
	if (run->cases[case_index].user == IDLE)
		return 0;
	for (unsigned i = 1; i < run->workers; i++)
		bursts += s->others[i].batch_done;
	cvb_run_report(run, case_index, METRIC_BANDWIDTH,
		       (double)bursts * BURST_BYTES * (conf->traffic == COPY ? 2 : 1) * 1e9 /
			       (double)cvb_max(ns, UINT64_C(1)));
	return 0;
}

/* Sum of the words of bursts 0 … n-1, which are 0, 1, 2, … */
static uint64_t sum_of(uint64_t n)
{
	unsigned __int128 words = (unsigned __int128)n * BURST_WORDS;

	return (uint64_t)(words * (words - (words > 0)) / 2);
}

static int check_sum(const struct background *b, struct cvb_err *err)
{
	uint64_t wanted = b->done / b->bursts_each * sum_of(b->bursts_each) +
			  sum_of(b->done % b->bursts_each);

	if (b->sum != wanted)
		return cvb_err_set(err, -EBADMSG,
				   "%" PRIu64 " bursts summed up to %#" PRIx64
				   ", and what was there gives %#" PRIx64,
				   b->done, b->sum, wanted);
	return 0;
}

static int check_copy(const struct background *b, struct cvb_err *err)
{
	size_t words = b->bursts_each * BURST_WORDS;
	size_t copied = cvb_min(b->done, (uint64_t)b->bursts_each) * BURST_WORDS;
	const uint64_t *from = b->mem.p, *to = from + words;

	for (size_t i = 0; i < words; i++)
		if (from[i] != i || to[i] != (i < copied ? i : 0))
			return cvb_err_set(err, -EBADMSG,
					   "word %zu is %" PRIu64 " and its copy %" PRIu64
					   " after %" PRIu64 " bursts",
					   i, from[i], to[i], b->done);
	return 0;
}

static int loaded_verify(struct cvb_run *run, struct cvb_err *err)
{
	const struct loaded_conf *conf = run->conf;
	const struct loaded_state *s = run->state;
	int r = cvb_chase_check(s->mem.p, s->lines, err);

	for (unsigned i = 1; i < run->workers && r == 0; i++) {
		const struct background *b = &s->others[i];

		if (!b->done)
			return cvb_err_set(err, -EBADMSG, "worker %u put no load on the memory", i);
		r = conf->traffic == COPY ? check_copy(b, err) : check_sum(b, err);
		if (r < 0)
			return cvb_err_wrap(err, r, "worker %u", i);
	}
	return r;
}

static void loaded_done(struct cvb_run *run)
{
	struct loaded_state *s = run->state;

	if (!s)
		return;
	cvb_mem_unmap(&s->mem);
	for (unsigned i = 0; s->others && i < run->workers; i++)
		cvb_mem_unmap(&s->others[i].mem);
	free(s->others);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench mem_loaded = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "mem.loaded",
	.summary = "latency of dependent loads while the other CPUs use the memory",
	.doc = "mem.loaded.md",
	.mode = CVB_MODE_BATCH,
	.opts = opts,
	.conf_size = sizeof(struct loaded_conf),
	.metrics = metrics,
	.params = (const char *const[]){"traffic", "delay_cycles", NULL},
	.setup = loaded_setup,
	.worker_setup = loaded_worker_setup,
	.takes_part = loaded_takes_part,
	.prepare = loaded_prepare,
	.step = loaded_step,
	.after_batch = loaded_after_batch,
	.verify = loaded_verify,
	.done = loaded_done,
};
CVB_BENCH(mem_loaded);
