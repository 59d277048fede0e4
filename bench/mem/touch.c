/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.touch: what a page costs when it is first touched, touched again, and given back and touched
 * anew; by page size.
 */
#include "core/util.h"
#include "measure/bench.h"
#include "measure/memory.h"
#include "mem/sweep.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

/* Every page size is touched at the same places, so that a huge page that did not come costs what
 * it costs. */
#define STRIDE 4096

/* Pages that are there are touched at this place: it is zero again in a page that is new. */
#define AGAIN_OFFSET 64

#define DEFAULT_BYTES (256 * CVB_MIB)

enum {
	METRIC_FIRST_PASS,
	METRIC_FIRST,
	METRIC_FIRST_BANDWIDTH,
	METRIC_AGAIN,
	METRIC_RECYCLE,
	METRIC_RECYCLE_BANDWIDTH,
};

static const struct cvb_metric metrics[] = {
	[METRIC_FIRST_PASS] = {.name = "first_pass",
			       .kind = CVB_REPORTED,
			       .better = CVB_LOWER_IS_BETTER,
			       .unit = "ns",
			       .help = "time a page of the very first pass of a run, one value a "
				       "run: the memory may never have been touched since boot"},
	[METRIC_FIRST] = {.name = "first_touch",
			  .kind = CVB_NS_PER_OP,
			  .better = CVB_LOWER_IS_BETTER,
			  .help = "time a page of the first touch of a new mapping"},
	[METRIC_FIRST_BANDWIDTH] =
		{.name = "first_touch_bandwidth",
		 .kind = CVB_BYTES_PER_S,
		 .better = CVB_HIGHER_IS_BETTER,
		 .help = "the same as bytes of memory got, all threads together"},
	[METRIC_AGAIN] = {.name = "touch_again",
			  .kind = CVB_NS_PER_OP,
			  .better = CVB_LOWER_IS_BETTER,
			  .help = "time a page of touching memory that is there"},
	[METRIC_RECYCLE] = {.name = "recycle",
			    .kind = CVB_NS_PER_OP,
			    .better = CVB_LOWER_IS_BETTER,
			    .help = "time a page of giving it back to the kernel "
				    "(MADV_DONTNEED) and touching it anew"},
	[METRIC_RECYCLE_BANDWIDTH] = {.name = "recycle_bandwidth",
				      .kind = CVB_BYTES_PER_S,
				      .better = CVB_HIGHER_IS_BETTER,
				      .help = "the same as bytes of memory, all threads together"},
	{.name = NULL},
};

enum threads {
	ONE_THREAD,
	ALL_THREADS,
	BOTH_THREADS
};
static const char *const threads_names[] = {"one", "all", "both", NULL};

struct touch_conf {
	uint64_t size_bytes;
	int pages;
	int threads;
};

static const struct cvb_opt opts[] = {
	{.name = "size",
	 .type = CVB_OPT_SIZE,
	 .offset = offsetof(struct touch_conf, size_bytes),
	 .min = 0,
	 .max = 1LL << 50,
	 .def = "0",
	 .unit = "bytes",
	 .help = "memory touched in one pass, all threads together; 0 means 256 MiB, less where an "
		 "eighth of the available memory is less"},
	{.name = "pages",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct touch_conf, pages),
	 .def = "all",
	 .choices = cvb_pages_choices,
	 .help = "page size"},
	{.name = "threads",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct touch_conf, threads),
	 .def = "one",
	 .choices = threads_names,
	 .help = "one thread alone, all worker threads at once, or both in turn"},
	CVB_OPT_END,
};

/* One page size touched by one thread or by all. */
struct field {
	enum cvb_pages pages;
	bool one; /* worker 0 alone */
	unsigned parties;
	size_t part_bytes;   /* of each party */
	struct cvb_mem *mem; /* one a worker */
	unsigned char tag;   /* what the last pass wrote; main thread between batches */
	double first_ns;     /* a page, of the very first pass; 0: not yet */
};

struct touch_state {
	struct field *fields;
	size_t n;
	long faults; /* of the process, before the batch */
	uint64_t unaccepted_bytes;
	bool unaccepted_known;
	char wrong[256]; /* what after_batch found, for verify */
};

enum kind {
	FIRST,
	AGAIN,
	RECYCLE
};

static uint64_t pack(size_t field, enum kind kind)
{
	return (uint64_t)field << 8 | kind;
}

static struct field *field_of(const struct cvb_run *run, const struct cvb_case *c)
{
	const struct touch_state *s = run->state;

	return &s->fields[c->user >> 8];
}

static enum kind kind_of(const struct cvb_case *c)
{
	return (enum kind)(c->user & 0xff);
}

/* --- set up ----------------------------------------------------------------------------------- */

static int add_cases_of(struct cvb_run *run, size_t index, struct cvb_err *err)
{
	static const uint32_t yields[] = {
		[FIRST] =
			1U << METRIC_FIRST_PASS | 1U << METRIC_FIRST | 1U << METRIC_FIRST_BANDWIDTH,
		[AGAIN] = 1U << METRIC_AGAIN,
		[RECYCLE] = 1U << METRIC_RECYCLE | 1U << METRIC_RECYCLE_BANDWIDTH,
	};
	const struct touch_state *s = run->state;
	const struct field *f = &s->fields[index];

	for (unsigned kind = FIRST; kind <= RECYCLE; kind++) {
		const struct cvb_case c = {
			.metrics = yields[kind],
			.params = json_pack("{s:s, s:i}", "pages", cvb_pages_names[f->pages],
					    "threads", (int)f->parties),
			.bytes = (double)f->part_bytes * f->parties,
			/* a thread's own: that is how long it waits for a page */
			.ops = (double)f->part_bytes / (double)cvb_pages_bytes(f->pages),
			/* what is touched is there until it is put back, untimed */
			.max_iters = kind == FIRST ? 1 : 0,
			.user = pack(index, (enum kind)kind),
		};
		int r = cvb_run_add_case(run, &c, err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* What each party touches: whole pages. */
static int part_bytes(struct cvb_run *run, enum cvb_pages pages, unsigned parties, size_t sets,
		      size_t *ret, struct cvb_err *err)
{
	const struct touch_conf *conf = run->conf;
	uint64_t available = cvb_mem_available_bytes(), bytes = conf->size_bytes;
	size_t page = cvb_pages_bytes(pages);

	if (!bytes) {
		bytes = DEFAULT_BYTES;
		if (available)
			bytes = cvb_min(bytes, available / 8);
		bytes = cvb_max(bytes, (uint64_t)page * parties);
	}
	*ret = bytes / parties / page * page;
	if (!*ret)
		return cvb_err_set(err, -EINVAL,
				   "size = %" PRIu64 " KiB: %u threads need a page of %zu KiB each",
				   bytes / CVB_KIB, parties, page / CVB_KIB);
	/* reserved huge pages are not part of what is available */
	if (available && pages <= CVB_PAGES_THP && bytes > available / (2 * sets))
		return cvb_err_set(err, -EINVAL,
				   "size = %" PRIu64
				   " MiB: %zu times that is more than half of the "
				   "%" PRIu64 " MiB of memory that are available",
				   bytes / CVB_MIB, sets, available / CVB_MIB);
	return 0;
}

static int add_field(struct cvb_run *run, enum cvb_pages pages, bool one, size_t sets,
		     struct cvb_err *err)
{
	struct touch_state *s = run->state;
	struct field *f = &s->fields[s->n];
	int r;

	*f = (struct field){.pages = pages, .one = one, .parties = one ? 1 : run->workers};
	r = part_bytes(run, pages, f->parties, sets, &f->part_bytes, err);
	if (r == 0)
		r = cvb_pages_check(pages, f->part_bytes * f->parties, err);
	if (r == -EOPNOTSUPP && pages == CVB_PAGES_THP)
		r = 0; /* noted: it is still what this machine does when asked for them */
	if (r < 0)
		return r;
	f->mem = calloc(run->workers, sizeof(*f->mem));
	if (!f->mem)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	s->n++;
	return add_cases_of(run, s->n - 1, err);
}

static int touch_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct touch_conf *conf = run->conf;
	bool one = conf->threads != ALL_THREADS || run->workers == 1;
	bool all = conf->threads != ONE_THREAD && run->workers > 1;
	struct touch_state *s = calloc(1, sizeof(*s));
	enum cvb_pages pages[CVB_PAGES_ALL];
	size_t n_pages, sets;
	int r = 0;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	s->fields = calloc(2 * CVB_PAGES_ALL, sizeof(*s->fields));
	if (!s->fields)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	cvb_sweep_pages(run, conf->pages, conf->size_bytes ? conf->size_bytes : DEFAULT_BYTES,
			pages, &n_pages);
	sets = n_pages * ((size_t)one + all);
	for (size_t i = 0; i < n_pages && r == 0; i++) {
		if (one)
			r = add_field(run, pages[i], true, sets, err);
		if (all && r == 0)
			r = add_field(run, pages[i], false, sets, err);
	}
	return r;
}

static bool touch_takes_part(const struct cvb_worker *worker, const struct cvb_case *c)
{
	return worker->index == 0 || !field_of(worker->run, c)->one;
}

/* --- one batch -------------------------------------------------------------------------------- */

static long faults_now(void)
{
	struct rusage u;

	return getrusage(RUSAGE_SELF, &u) == 0 ? u.ru_minflt : 0;
}

/* A new mapping for a first touch; the last one stays until then, so that other page sizes' first
 * passes get other memory. */
static int touch_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct touch_state *s = worker->run->state;
	struct field *f = field_of(worker->run, c);
	struct cvb_mem *m = &f->mem[worker->index];
	int r = 0;

	(void)iters;
	if (kind_of(c) == FIRST) {
		cvb_mem_unmap(m);
		r = cvb_mem_map(m, f->part_bytes, f->pages, /* numa_node= */ -1, NULL);
	}
	if (worker->index == 0) {
		s->unaccepted_known = cvb_meminfo_bytes("Unaccepted", &s->unaccepted_bytes) == 0;
		s->faults = faults_now();
	}
	return r;
}

static void touch(const struct cvb_mem *m, size_t offset, unsigned char tag)
{
	volatile unsigned char *p = m->p;

	for (size_t i = offset; i < m->bytes; i += STRIDE)
		p[i] = tag;
}

/* Never 0, and another one in each pass. */
static unsigned char tag_of(const struct field *f, uint64_t iter)
{
	return (unsigned char)((f->tag + iter) % 255 + 1);
}

static int touch_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	const struct field *f = field_of(worker->run, c);
	const struct cvb_mem *m = &f->mem[worker->index];

	for (uint64_t i = 0; i < iters; i++) {
		if (kind_of(c) == RECYCLE && madvise(m->p, m->bytes, MADV_DONTNEED) < 0)
			return -errno;
		touch(m, kind_of(c) == AGAIN ? AGAIN_OFFSET : 0, tag_of(f, i));
	}
	return 0;
}

/* --- after it --------------------------------------------------------------------------------- */

/* Every place has what was written, and, in memory that is new, nothing of what was there. */
static bool holds(const struct cvb_mem *m, enum kind kind, unsigned char tag)
{
	const unsigned char *p = m->p;

	for (size_t i = 0; i < m->bytes; i += STRIDE)
		if (kind == AGAIN ? p[i + AGAIN_OFFSET] != tag
				  : p[i] != tag || p[i + AGAIN_OFFSET] != 0)
			return false;
	return true;
}

static void check_batch(struct cvb_run *run, const struct cvb_case *c, uint64_t iters, long faults)
{
	struct touch_state *s = run->state;
	const struct field *f = field_of(run, c);
	uint64_t pages = f->part_bytes / cvb_pages_bytes(f->pages) * f->parties;

	for (unsigned i = 0; i < f->parties; i++)
		if (!holds(&f->mem[i], kind_of(c), f->tag))
			snprintf(s->wrong, sizeof(s->wrong),
				 "pages=%s: the memory of worker %u is not as %s leaves it",
				 cvb_pages_names[f->pages], i,
				 kind_of(c) == AGAIN ? "touching it again" : "a first touch");
	if (kind_of(c) != AGAIN && (uint64_t)faults < pages * iters)
		snprintf(s->wrong, sizeof(s->wrong),
			 "pages=%s: %ld page faults for %" PRIu64 " pages that were not there",
			 cvb_pages_names[f->pages], faults, pages * iters);
}

/* What the first pass of all cost, and whether the kernel had memory accepted for it. */
static void keep_first_pass(struct cvb_run *run, const struct cvb_case *c, struct field *f,
			    uint64_t ns)
{
	struct touch_state *s = run->state;
	uint64_t left;

	f->first_ns = (double)cvb_max(ns, UINT64_C(1)) / c->ops;
	for (unsigned i = 0; i < f->parties; i++)
		cvb_sweep_note_huge(run, &f->mem[i], f->pages);
	if (!s->unaccepted_known || cvb_meminfo_bytes("Unaccepted", &left) < 0)
		return;
	cvb_run_note(run,
		     "pages=%s, first pass over %.0f MiB: memory never accepted fell from %" PRIu64
		     " to %" PRIu64 " MiB",
		     cvb_pages_names[f->pages], c->bytes / (double)CVB_MIB,
		     s->unaccepted_bytes / CVB_MIB, left / CVB_MIB);
}

static int touch_after_batch(struct cvb_run *run, size_t case_index, uint64_t iters, uint64_t ns,
			     struct cvb_err *err)
{
	const struct cvb_case *c = &run->cases[case_index];
	struct touch_state *s = run->state;
	struct field *f = field_of(run, c);
	long faults = faults_now() - s->faults;

	(void)err;
	f->tag = tag_of(f, iters - 1);
	check_batch(run, c, iters, faults);
	if (kind_of(c) != FIRST)
		return 0;
	if (f->first_ns <= 0)
		keep_first_pass(run, c, f, ns);
	cvb_run_report(run, case_index, METRIC_FIRST_PASS, f->first_ns);
	return 0;
}

static int touch_verify(struct cvb_run *run, struct cvb_err *err)
{
	const struct touch_state *s = run->state;

	return *s->wrong ? cvb_err_set(err, -EBADMSG, "%s", s->wrong) : 0;
}

static void touch_done(struct cvb_run *run)
{
	struct touch_state *s = run->state;

	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++) {
		for (unsigned k = 0; k < run->workers; k++)
			cvb_mem_unmap(&s->fields[i].mem[k]);
		free(s->fields[i].mem);
	}
	free(s->fields);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench mem_touch = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "mem.touch",
	.summary = "cost of a page: first touch, touch again, give back and touch anew",
	.doc = "mem.touch.md",
	.flags = CVB_BENCH_COLD,
	.mode = CVB_MODE_BATCH,
	.opts = opts,
	.conf_size = sizeof(struct touch_conf),
	.metrics = metrics,
	.params = (const char *const[]){"pages", "threads", NULL},
	.setup = touch_setup,
	.takes_part = touch_takes_part,
	.prepare = touch_prepare,
	.step = touch_step,
	.after_batch = touch_after_batch,
	.verify = touch_verify,
	.done = touch_done,
};
CVB_BENCH(mem_touch);
