/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.latency: load-to-use time of a chain of dependent loads, by working set size.
 */
#include "core/file.h"
#include "core/util.h"
#include "measure/bench.h"
#include "measure/memory.h"
#include "mem/chase.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Loads of one iteration; long enough that the loop around them does not count. */
#define ITER_LOADS 256

#define MAX_SIZES 64

/* Where the system does not tell: larger than the last cache of most machines. */
#define ASSUMED_CACHE_BYTES (64 * CVB_MIB)

#define CHASE_SEED UINT64_C(0x63766d6368617365)

static const struct cvb_metric metrics[] = {
	{.name = "latency",
	 .kind = CVB_NS_PER_OP,
	 .better = CVB_LOWER_IS_BETTER,
	 .help = "time from one load to the next that depends on it"},
	{.name = NULL},
};

struct latency_conf {
	uint64_t min_size_bytes;
	uint64_t max_size_bytes;
	uint64_t step;
	int pages;
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
	 .help = "largest working set; 0 means 4 times the last cache, at most a quarter of "
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
	 .choices = cvb_pages_names,
	 .help = "page size; with 4k, misses of the TLB are part of the number"},
	CVB_OPT_END,
};

struct chain {
	struct cvb_mem mem;
	size_t n;
	const struct cvb_chase_line *at; /* where the next batch goes on */
};

struct latency_state {
	struct chain chain[MAX_SIZES];
	size_t n;
};

/* The largest working set, and a word to the reader where it does not leave the caches. */
static int largest_size(struct cvb_run *run, uint64_t *ret_bytes, struct cvb_err *err)
{
	const struct latency_conf *conf = run->conf;
	uint64_t cache = cvb_last_cache_bytes(), available = cvb_mem_available_bytes();
	uint64_t max = conf->max_size_bytes;

	if (!cache)
		cvb_run_note(run, "the size of the last cache is not known here; 64 MiB assumed");
	if (!cache)
		cache = ASSUMED_CACHE_BYTES;
	if (!max) {
		max = 4 * cache;
		if (available)
			max = cvb_min(max, available / 4);
		max = cvb_max(max, conf->min_size_bytes);
	}
	if (max < conf->min_size_bytes)
		return cvb_err_set(err, -EINVAL,
				   "max_size = %" PRIu64 " is below min_size = %" PRIu64, max,
				   conf->min_size_bytes);
	/* all working sets exist at the same time: at most twice the largest */
	if (available && max > available / 2)
		return cvb_err_set(err, -EINVAL,
				   "max_size = %" PRIu64
				   " MiB needs twice that in all, and %" PRIu64
				   " MiB are available",
				   max / CVB_MIB, available / CVB_MIB);
	if (max < 2 * cache)
		cvb_run_note(run,
			     "the largest working set (%" PRIu64
			     " KiB) is below twice the last cache (%" PRIu64
			     " KiB): memory itself is not measured",
			     max / CVB_KIB, cache / CVB_KIB);
	*ret_bytes = max;
	return 0;
}

static void note_pages(struct cvb_run *run)
{
	const struct latency_conf *conf = run->conf;
	char text[128];

	if (conf->pages == CVB_PAGES_THP &&
	    (cvb_file_read_line("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text)) <
		     0 ||
	     strstr(text, "[never]")))
		cvb_run_note(run, "pages=thp, but this kernel gives none: 4 KiB pages were used");
}

static int latency_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct latency_conf *conf = run->conf;
	struct latency_state *s = calloc(1, sizeof(*s));
	uint64_t max = 0;
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	r = largest_size(run, &max, err);
	if (r < 0)
		return r;
	note_pages(run);
	for (uint64_t bytes = conf->min_size_bytes; bytes <= max; bytes *= conf->step) {
		struct chain *ch = &s->chain[s->n];

		CVB_BUG_ON(s->n == MAX_SIZES);
		ch->n = bytes / CVB_CHASE_LINE_BYTES;
		r = cvb_mem_map(&ch->mem, bytes, (enum cvb_pages)conf->pages, /* numa_node= */ -1,
				err);
		if (r < 0)
			return cvb_err_wrap(err, r, "working set of %" PRIu64 " bytes", bytes);
		struct cvb_case c = {
			.metrics = 1,
			.params = json_pack("{s:I}", "size_bytes", (json_int_t)bytes),
			.ops = ITER_LOADS,
			.user = s->n,
		};
		s->n++;
		r = cvb_run_add_case(run, &c, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int latency_worker_setup(struct cvb_worker *worker, struct cvb_err *err)
{
	struct latency_state *s = worker->run->state;

	(void)err;
	for (size_t i = 0; i < s->n; i++) {
		cvb_chase_build(s->chain[i].mem.p, s->chain[i].n, CHASE_SEED);
		s->chain[i].at = s->chain[i].mem.p;
	}
	return 0;
}

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

static int latency_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct latency_state *s = worker->run->state;
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

static int latency_verify(struct cvb_run *run, struct cvb_err *err)
{
	const struct latency_state *s = run->state;

	for (size_t i = 0; i < s->n; i++) {
		const struct chain *ch = &s->chain[i];
		int r = cvb_chase_check(ch->mem.p, ch->n, err);

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
	for (size_t i = 0; i < CVB_ARRAY_LEN(s->chain); i++)
		cvb_mem_unmap(&s->chain[i].mem);
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
	.setup = latency_setup,
	.worker_setup = latency_worker_setup,
	.step = latency_step,
	.verify = latency_verify,
	.done = latency_done,
};
CVB_BENCH(mem_latency);
