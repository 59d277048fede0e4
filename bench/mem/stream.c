/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.stream: sustained memory bandwidth of all workers together, with STREAM's four kernels and
 * STREAM's way to count bytes.
 */
#include "core/file.h"
#include "core/util.h"
#include "measure/bench.h"
#include "measure/memory.h"
#include "mem/stream_kernels.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define ARRAYS		3
#define SLICE_ELEMENTS	512 /* slices start at whole 4 KiB, so that no page has two owners */
#define MIN_ARRAY_BYTES (64 * CVB_MIB)
/* Where the system does not tell: larger than the last cache of most machines. */
#define ASSUMED_CACHE_BYTES (64 * CVB_MIB)

/* Arrays start at different offsets in their pages: a load just behind a store to another page at
 * the same offset would wait for it. */
#define SKEW_ELEMENTS 168

/* Elements start at a value that tells their index, or one slice could pass for another. */
#define PATTERN 1021

/* Replay and kernels do the same operations; only the order of magnitude of their rounding is
 * at stake. */
#define TOLERANCE 1e-9

static const struct cvb_metric metrics[] = {
	[CVB_STREAM_COPY] = {.name = "copy",
			     .kind = CVB_BYTES_PER_S,
			     .better = CVB_HIGHER_IS_BETTER,
			     .help = "c = a, 16 bytes an element"},
	[CVB_STREAM_SCALE] = {.name = "scale",
			      .kind = CVB_BYTES_PER_S,
			      .better = CVB_HIGHER_IS_BETTER,
			      .help = "b = s * c, 16 bytes an element"},
	[CVB_STREAM_ADD] = {.name = "add",
			    .kind = CVB_BYTES_PER_S,
			    .better = CVB_HIGHER_IS_BETTER,
			    .help = "c = a + b, 24 bytes an element"},
	[CVB_STREAM_TRIAD] = {.name = "triad",
			      .kind = CVB_BYTES_PER_S,
			      .better = CVB_HIGHER_IS_BETTER,
			      .help = "a = b + s * c, 24 bytes an element"},
	{.name = NULL},
};

static const unsigned bytes_per_element[] = {16, 16, 24, 24};

static const char *const store_names[] = {"regular", "nontemporal", NULL};

struct stream_conf {
	uint64_t size_bytes;
	int pages;
	int stores; /* index into store_names */
};

static const struct cvb_opt opts[] = {
	{.name = "size",
	 .type = CVB_OPT_SIZE,
	 .offset = offsetof(struct stream_conf, size_bytes),
	 .min = 0,
	 .max = 1LL << 50,
	 .def = "0",
	 .unit = "bytes",
	 .help = "size of each of the three arrays; 0 means 4 times all last-level caches, at "
		 "least 64 MiB, at most a sixth of the available memory"},
	{.name = "pages",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct stream_conf, pages),
	 .def = "thp",
	 .choices = cvb_pages_names,
	 .help = "page size of the arrays"},
	{.name = "stores",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct stream_conf, stores),
	 .def = "regular",
	 .choices = store_names,
	 .help = "nontemporal stores go around the caches and do not read the line first"},
	CVB_OPT_END,
};

/* A worker's part, and what every element of it must be, relative to its first value. */
struct slice {
	_Alignas(128) double *a; /* no line is shared with another worker's */
	double *b, *c;
	size_t first, n;
	unsigned calls[CVB_STREAM_KERNELS];
	double expect_a, expect_b, expect_c;
};

struct stream_state {
	struct cvb_mem mem[ARRAYS];
	const struct cvb_stream_set *set;
	size_t elements; /* of each array */
	double scalar[2];
	struct slice *slices; /* one for each worker */
};

/* --- sizes -------------------------------------------------------------------------------------
 */

/* All last-level caches of the machine together: each is counted at the first of its CPUs. */
static uint64_t all_last_caches_bytes(void)
{
	uint64_t total = 0, size, level;

	for (unsigned cpu = 0; cpu < 4096; cpu++) {
		char path[128], text[64];
		uint64_t last = 0, first = 0;

		for (unsigned i = 0;; i++) {
			const char *dir = "/sys/devices/system/cpu";

			snprintf(path, sizeof(path), "%s/cpu%u/cache/index%u/level", dir, cpu, i);
			if (cvb_file_read_u64(path, &level) < 0)
				break;
			snprintf(path, sizeof(path), "%s/cpu%u/cache/index%u/size", dir, cpu, i);
			if (cvb_file_read_line(path, text, sizeof(text)) < 0 ||
			    cvb_parse_size(text, &size) < 0 || size <= last)
				continue;
			snprintf(path, sizeof(path), "%s/cpu%u/cache/index%u/shared_cpu_list", dir,
				 cpu, i);
			if (cvb_file_read_line(path, text, sizeof(text)) < 0)
				continue;
			last = size;
			first = strtoull(text, NULL, 10);
		}
		if (last && first == cpu)
			total += last;
	}
	return total;
}

/* How large each array is, and a word to the reader if the caches can hold much of them. */
static int choose_size(struct cvb_run *run, uint64_t *ret_bytes, struct cvb_err *err)
{
	const struct stream_conf *conf = run->conf;
	uint64_t cache = all_last_caches_bytes(), available = cvb_mem_available_bytes();
	uint64_t bytes = conf->size_bytes;

	if (!cache) {
		cvb_run_note(run, "the size of the last cache is not known here; 64 MiB assumed");
		cache = ASSUMED_CACHE_BYTES;
	}
	if (!bytes) {
		bytes = cvb_max(4 * cache, MIN_ARRAY_BYTES);
		if (available)
			bytes = cvb_min(bytes, available / (2 * ARRAYS));
	}
	bytes -= bytes % (SLICE_ELEMENTS * sizeof(double));
	if (bytes / sizeof(double) / SLICE_ELEMENTS < run->workers)
		return cvb_err_set(err, -EINVAL,
				   "size = %" PRIu64 " bytes: %u workers need 4 KiB each at least",
				   bytes, run->workers);
	if (available && bytes > available / ARRAYS)
		return cvb_err_set(err, -EINVAL,
				   "size = %" PRIu64
				   " MiB: three arrays do not fit into the %" PRIu64
				   " MiB of memory that are available",
				   bytes / CVB_MIB, available / CVB_MIB);
	if (bytes < 4 * cache)
		cvb_run_note(run,
			     "arrays of %" PRIu64 " MiB are %s than the %" PRIu64
			     " MiB of last-level caches; STREAM asks for 4 times as much",
			     bytes / CVB_MIB,
			     ARRAYS * bytes > cache ? "less than 4 times larger" : "smaller",
			     cache / CVB_MIB);
	*ret_bytes = bytes;
	return 0;
}

static void note_variant(struct cvb_run *run, const struct stream_state *s)
{
	const struct stream_conf *conf = run->conf;
	char text[128];

	cvb_run_note(run, "kernels: %s", s->set->name);
	if (conf->pages == CVB_PAGES_THP &&
	    (cvb_file_read_line("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text)) <
		     0 ||
	     strstr(text, "[never]")))
		cvb_run_note(run, "pages=thp, but this kernel gives none: 4 KiB pages were used");
}

/* --- hooks -------------------------------------------------------------------------------------
 */

static int stream_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct stream_conf *conf = run->conf;
	struct stream_state *s = calloc(1, sizeof(*s));
	uint64_t bytes = 0;
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	s->set = cvb_stream_pick(conf->stores == 1);
	/*
	 * One round of the four kernels takes a to s + t + s t times itself, s and t the scalars of
	 * scale and triad: 1 for s = t = sqrt(2) - 1.  Two scalars around it, in turn from pass to
	 * pass and from batch to batch, keep a where it is and still change every value, so that a
	 * batch or the end of one left out shows.
	 */
	s->scalar[0] = (sqrt(2) - 1) * 1.01;
	s->scalar[1] = 2 / (1 + s->scalar[0]) - 1;
	r = choose_size(run, &bytes, err);
	if (r < 0)
		return r;
	s->elements = bytes / sizeof(double);
	s->slices = aligned_alloc(_Alignof(struct slice), run->workers * sizeof(*s->slices));
	if (!s->slices)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	memset(s->slices, 0, run->workers * sizeof(*s->slices));
	for (size_t i = 0; i < ARRAYS; i++) {
		r = cvb_mem_map(&s->mem[i], bytes + ARRAYS * SKEW_ELEMENTS * sizeof(double),
				(enum cvb_pages)conf->pages, /* numa_node= */ -1, err);
		if (r < 0)
			return cvb_err_wrap(err, r, "array %zu of %d", i + 1, ARRAYS);
	}
	note_variant(run, s);
	for (unsigned k = 0; k < CVB_STREAM_KERNELS; k++) {
		const struct cvb_case c = {
			.metrics = 1U << k,
			.bytes = (double)bytes_per_element[k] * (double)s->elements,
			.user = k,
		};

		r = cvb_run_add_case(run, &c, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static double first_value(size_t index)
{
	return 1.0 + (double)(index % PATTERN) / PATTERN;
}

/* First touch: the pages of a slice come from the memory next to its worker. */
static int stream_worker_setup(struct cvb_worker *worker, struct cvb_err *err)
{
	const struct cvb_run *run = worker->run;
	struct stream_state *s = run->state;
	struct slice *sl = &s->slices[worker->index];
	size_t units = s->elements / SLICE_ELEMENTS;
	size_t from = units * worker->index / run->workers * SLICE_ELEMENTS;
	size_t to = units * (worker->index + 1) / run->workers * SLICE_ELEMENTS;

	(void)err;
	worker->state = sl;
	sl->first = from;
	sl->n = to - from;
	sl->a = (double *)s->mem[0].p + from;
	sl->b = (double *)s->mem[1].p + from + SKEW_ELEMENTS;
	sl->c = (double *)s->mem[2].p + from + 2 * SKEW_ELEMENTS;
	for (size_t i = 0; i < sl->n; i++) {
		sl->a[i] = first_value(from + i);
		sl->b[i] = 2 * sl->a[i];
		sl->c[i] = 0;
	}
	sl->expect_a = 1;
	sl->expect_b = 2;
	return 0;
}

/* What the last of a batch of passes leaves: each overwrites what the one before wrote. */
static void replay(struct slice *sl, enum cvb_stream_kernel k, double s)
{
	switch (k) {
	case CVB_STREAM_COPY:
		sl->expect_c = sl->expect_a;
		break;
	case CVB_STREAM_SCALE:
		sl->expect_b = s * sl->expect_c;
		break;
	case CVB_STREAM_ADD:
		sl->expect_c = sl->expect_a + sl->expect_b;
		break;
	case CVB_STREAM_TRIAD:
		sl->expect_a = sl->expect_b + s * sl->expect_c;
		break;
	case CVB_STREAM_KERNELS:
		break;
	}
}

static int stream_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	const struct stream_state *s = worker->run->state;
	struct slice *sl = worker->state;
	enum cvb_stream_kernel k = (enum cvb_stream_kernel)c->user;
	uint64_t turn = sl->calls[k]++;

	for (uint64_t i = 0; i < iters; i++) {
		s->set->kernel[k](sl->a, sl->b, sl->c, s->scalar[(i ^ turn) & 1], sl->n);
		__asm__ volatile("" : : : "memory"); /* each pass is a pass */
	}
	if (iters)
		replay(sl, k, s->scalar[((iters - 1) ^ turn) & 1]);
	return 0;
}

static bool near(double value, double expected)
{
	return fabs(value - expected) <= TOLERANCE * fabs(expected);
}

static int check_slice(const struct slice *sl, struct cvb_err *err)
{
	for (size_t i = 0; i < sl->n; i++) {
		double x = first_value(sl->first + i);

		if (near(sl->a[i], x * sl->expect_a) && near(sl->b[i], x * sl->expect_b) &&
		    near(sl->c[i], x * sl->expect_c))
			continue;
		return cvb_err_set(
			err, -EBADMSG,
			"element %zu is a=%.17g b=%.17g c=%.17g, and the passes made give "
			"a=%.17g b=%.17g c=%.17g",
			sl->first + i, sl->a[i], sl->b[i], sl->c[i], x * sl->expect_a,
			x * sl->expect_b, x * sl->expect_c);
	}
	return 0;
}

static int stream_verify(struct cvb_run *run, struct cvb_err *err)
{
	const struct stream_state *s = run->state;
	size_t end = 0;

	for (unsigned i = 0; i < run->workers; i++) {
		int r = check_slice(&s->slices[i], err);

		if (r < 0)
			return cvb_err_wrap(err, r, "worker %u", i);
		if (s->slices[i].first != end)
			return cvb_err_set(err, -EBADMSG,
					   "worker %u starts at element %zu, not %zu", i,
					   s->slices[i].first, end);
		end += s->slices[i].n;
	}
	if (end != s->elements)
		return cvb_err_set(err, -EBADMSG, "%zu of %zu elements have a worker", end,
				   s->elements);
	return 0;
}

static void stream_done(struct cvb_run *run)
{
	struct stream_state *s = run->state;

	if (!s)
		return;
	for (size_t i = 0; i < ARRAYS; i++)
		cvb_mem_unmap(&s->mem[i]);
	free(s->slices);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench mem_stream = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "mem.stream",
	.summary = "memory bandwidth of all workers: STREAM's copy, scale, add and triad",
	.doc = "mem.stream.md",
	.mode = CVB_MODE_BATCH,
	.opts = opts,
	.conf_size = sizeof(struct stream_conf),
	.metrics = metrics,
	.setup = stream_setup,
	.worker_setup = stream_worker_setup,
	.step = stream_step,
	.verify = stream_verify,
	.done = stream_done,
};
CVB_BENCH(mem_stream);
