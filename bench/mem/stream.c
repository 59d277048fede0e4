/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.stream: sustained memory bandwidth with STREAM's four kernels, a read and a write, and
 * STREAM's way to count bytes; by kind of store, threads, page size and NUMA node.
 */
#include "core/util.h"
#include "measure/bench.h"
#include "measure/memory.h"
#include "mem/stream_kernels.h"
#include "mem/stream_slice.h"
#include "mem/sweep.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define ARRAYS		3
#define SLICE_ELEMENTS	512 /* slices of the first array start at whole 4 KiB */
#define MIN_ARRAY_BYTES (64 * CVB_MIB)
/* Where the system does not tell: larger than the last cache of most machines. */
#define ASSUMED_CACHE_BYTES (64 * CVB_MIB)

/* Arrays start at different offsets in their pages: a load just behind a store to another page at
 * the same offset would wait for it. */
#define SKEW_ELEMENTS 168

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
	[CVB_STREAM_WRITE] = {.name = "write",
			      .kind = CVB_BYTES_PER_S,
			      .better = CVB_HIGHER_IS_BETTER,
			      .help = "c = s, 8 bytes an element"},
	[CVB_STREAM_READ] = {.name = "read",
			     .kind = CVB_BYTES_PER_S,
			     .better = CVB_HIGHER_IS_BETTER,
			     .help = "sum of c, 8 bytes an element"},
	{.name = NULL},
};

static const unsigned bytes_per_element[] = {16, 16, 24, 24, 8, 8};

enum stores {
	REGULAR,
	NONTEMPORAL,
	BOTH_STORES
};
static const char *const store_names[] = {"regular", "nontemporal", "both", NULL};

enum threads {
	ALL_THREADS,
	ONE_THREAD,
	BOTH_THREADS
};
static const char *const threads_names[] = {"all", "one", "both", NULL};

/* after those of enum cvb_stream_isa */
enum {
	ISA_AUTO = CVB_STREAM_ISAS,
	ISA_ALL
};
static const char *const isa_names[] = {"sse2", "avx2", "avx512", "auto", "all", NULL};

struct stream_conf {
	uint64_t size_bytes;
	int pages;
	int stores;
	int isa;
	int threads;
	int numa;
};

static const struct cvb_opt opts[] = {
	{.name = "size",
	 .type = CVB_OPT_SIZE,
	 .offset = offsetof(struct stream_conf, size_bytes),
	 .min = 0,
	 .max = 1LL << 50,
	 .def = "0",
	 .unit = "bytes",
	 .help = "size of each of the three arrays; 0 means 4 times the last-level caches that "
		 "its threads have, at least 64 MiB, at most a sixth of the available memory"},
	{.name = "stores",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct stream_conf, stores),
	 .def = "both",
	 .choices = store_names,
	 .help = "nontemporal stores go around the caches and do not read the line first"},
	{.name = "threads",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct stream_conf, threads),
	 .def = "all",
	 .choices = threads_names,
	 .help = "all worker threads at once, one alone, or both in turn"},
	{.name = "isa",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct stream_conf, isa),
	 .def = "auto",
	 .choices = isa_names,
	 .help = "instructions of the kernels; auto is the widest that the CPU has"},
	{.name = "pages",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct stream_conf, pages),
	 .def = "thp",
	 .choices = cvb_pages_choices,
	 .help = "page size of the arrays"},
	{.name = "numa",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct stream_conf, numa),
	 .def = "local",
	 .choices = cvb_sweep_numa_names,
	 .help = "local: memory next to each thread; matrix: from every CPU node to every memory "
		 "node; auto: the matrix where there are several nodes"},
	CVB_OPT_END,
};

/* Three arrays and the workers that share them. */
struct field {
	struct cvb_mem mem;
	enum cvb_pages pages;
	int cpu_node, mem_node; /* -1: any */
	bool one;		/* worker 0 alone */
	bool looked;		/* at the pages that came */
	unsigned parties;
	size_t elements; /* of each array */
	struct cvb_stream_slice *slices;
};

struct stream_state {
	struct field *fields;
	size_t n_fields;
	double scalar[2];
	int *node; /* of each worker */
};

/* What a case's `user` holds. */
struct key {
	uint32_t field;
	uint8_t isa, nontemporal, kernel;
};

static uint64_t pack(struct key k)
{
	return (uint64_t)k.field << 24 | (uint64_t)k.isa << 16 | (uint64_t)k.nontemporal << 8 |
	       k.kernel;
}

static struct key unpack(uint64_t user)
{
	return (struct key){.field = (uint32_t)(user >> 24),
			    .isa = (uint8_t)(user >> 16),
			    .nontemporal = (uint8_t)(user >> 8),
			    .kernel = (uint8_t)user};
}

/* --- fields: what is swept -------------------------------------------------------------------- */

static int add_field(struct cvb_run *run, struct field f, struct cvb_err *err)
{
	struct stream_state *s = run->state;
	struct field *grown = reallocarray(s->fields, s->n_fields + 1, sizeof(*grown));

	if (!grown)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	s->fields = grown;
	s->fields[s->n_fields++] = f;
	return 0;
}

static int add_matrix(struct cvb_run *run, const struct cvb_nodes *n, enum cvb_pages pages,
		      struct cvb_err *err)
{
	for (unsigned i = 0; i < n->n_cpu; i++) {
		for (unsigned k = 0; k < n->n_mem; k++) {
			const struct field f = {.pages = pages,
						.cpu_node = n->cpu[i],
						.mem_node = n->mem[k],
						.parties = n->cpus[i]};
			int r = add_field(run, f, err);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* All workers of a node take part: as many as it has CPUs. */
static int check_workers(const struct cvb_run *run, const struct cvb_nodes *n, struct cvb_err *err)
{
	unsigned cpus = 0;

	for (unsigned i = 0; i < n->n_cpu; i++)
		cpus += n->cpus[i];
	if (cpus != run->workers)
		return cvb_err_set(
			err, -EINVAL,
			"the NUMA matrix needs one thread for each of the %u CPUs, not %u", cpus,
			run->workers);
	return 0;
}

static int add_fields_of(struct cvb_run *run, const struct cvb_nodes *n, bool matrix,
			 enum cvb_pages pages, struct cvb_err *err)
{
	const struct stream_conf *conf = run->conf;
	bool all = conf->threads != ONE_THREAD;
	/* with one worker `all` is it */
	bool one =
		conf->threads == ONE_THREAD || (conf->threads == BOTH_THREADS && run->workers > 1);
	struct field f = {.pages = pages, .cpu_node = -1, .mem_node = -1};
	int r = 0;

	if (matrix)
		return add_matrix(run, n, pages, err);
	if (all) {
		f.parties = run->workers;
		r = add_field(run, f, err);
	}
	if (one && r == 0) {
		f.parties = 1;
		f.one = true;
		r = add_field(run, f, err);
	}
	return r;
}

/* --- sizes ------------------------------------------------------------------------------------ */

/* The last-level caches that the field's workers have. */
static uint64_t caches_bytes(const struct field *f, const struct cvb_nodes *n)
{
	uint64_t all = cvb_all_last_caches_bytes();

	if (f->one)
		return cvb_last_cache_bytes();
	return f->cpu_node >= 0 ? all / n->n_cpu : all;
}

/* How large each array is, and a word to the reader if the caches can hold much of them. */
static int choose_size(struct cvb_run *run, const struct field *f, const struct cvb_nodes *n,
		       size_t n_fields, uint64_t *ret_bytes, struct cvb_err *err)
{
	const struct stream_conf *conf = run->conf;
	uint64_t cache = caches_bytes(f, n), available = cvb_mem_available_bytes();
	uint64_t bytes = conf->size_bytes;

	if (!cache) {
		cvb_run_note(run, "the size of the last cache is not known here; 64 MiB assumed");
		cache = ASSUMED_CACHE_BYTES;
	}
	if (!bytes) {
		bytes = cvb_max(4 * cache, MIN_ARRAY_BYTES);
		if (available)
			bytes = cvb_min(bytes, available / (2 * ARRAYS * n_fields));
	}
	bytes -= bytes % (SLICE_ELEMENTS * sizeof(double));
	if (bytes / sizeof(double) / SLICE_ELEMENTS < f->parties)
		return cvb_err_set(err, -EINVAL,
				   "size = %" PRIu64 " bytes: %u workers need 4 KiB each at least",
				   bytes, f->parties);
	if (available && bytes > available / (ARRAYS * n_fields))
		return cvb_err_set(err, -EINVAL,
				   "size = %" PRIu64 " MiB: %zu arrays do not fit into the %" PRIu64
				   " MiB of memory that are available",
				   bytes / CVB_MIB, ARRAYS * n_fields, available / CVB_MIB);
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

static int map_field(struct cvb_run *run, struct field *f, const struct cvb_nodes *n,
		     size_t n_fields, struct cvb_err *err)
{
	uint64_t bytes = 0;
	int r = choose_size(run, f, n, n_fields, &bytes, err);

	if (r < 0)
		return r;
	f->elements = bytes / sizeof(double);
	f->slices =
		aligned_alloc(_Alignof(struct cvb_stream_slice), run->workers * sizeof(*f->slices));
	if (!f->slices)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	memset(f->slices, 0, run->workers * sizeof(*f->slices));
	r = cvb_mem_map(&f->mem, ARRAYS * (bytes + SKEW_ELEMENTS * sizeof(double)), f->pages,
			f->mem_node, err);
	return r < 0 ? cvb_err_wrap(err, r, "three arrays of %" PRIu64 " MiB", bytes / CVB_MIB) : 0;
}

/* --- cases ------------------------------------------------------------------------------------ */

/* What tells a series from another: always threads and stores, and what this run sweeps. */
static json_t *params_of(const struct cvb_run *run, const struct field *f, struct key k)
{
	const struct stream_conf *conf = run->conf;
	json_t *p = json_pack("{s:i}", "threads", (int)f->parties);

	if (k.kernel != CVB_STREAM_READ)
		json_object_set_new(p, "stores", json_string(store_names[k.nontemporal]));
	if (conf->isa == ISA_ALL)
		json_object_set_new(p, "isa", json_string(isa_names[k.isa]));
	if (conf->pages == CVB_PAGES_ALL)
		json_object_set_new(p, "pages", json_string(cvb_pages_names[f->pages]));
	if (f->cpu_node >= 0) {
		json_object_set_new(p, "cpu_node", json_integer(f->cpu_node));
		json_object_set_new(p, "mem_node", json_integer(f->mem_node));
	}
	return p;
}

static int add_case(struct cvb_run *run, size_t field, enum cvb_stream_isa isa,
		    enum cvb_stream_kernel kernel, bool nontemporal, struct cvb_err *err)
{
	struct stream_state *s = run->state;
	const struct field *f = &s->fields[field];
	const struct key k = {.field = (uint32_t)field,
			      .isa = (uint8_t)isa,
			      .nontemporal = nontemporal,
			      .kernel = (uint8_t)kernel};
	const struct cvb_case c = {
		.metrics = 1U << kernel,
		.params = params_of(run, f, k),
		.bytes = (double)bytes_per_element[kernel] * (double)f->elements,
		.user = pack(k),
	};

	return cvb_run_add_case(run, &c, err);
}

/*
 * The order is part of the check: read comes behind a write, and must find what that left; the last
 * write stays to the end.
 */
static int add_cases_of(struct cvb_run *run, size_t field, enum cvb_stream_isa isa,
			struct cvb_err *err)
{
	const struct stream_conf *conf = run->conf;
	bool regular = conf->stores != NONTEMPORAL, nontemporal = conf->stores != REGULAR;
	int r = 0;

	for (int nt = !regular; nt <= (int)nontemporal; nt++)
		for (unsigned k = CVB_STREAM_COPY; k <= CVB_STREAM_TRIAD && r >= 0; k++)
			r = add_case(run, field, isa, (enum cvb_stream_kernel)k, nt, err);
	if (r >= 0)
		r = add_case(run, field, isa, CVB_STREAM_WRITE, !regular, err);
	if (r >= 0)
		r = add_case(run, field, isa, CVB_STREAM_READ, false, err);
	if (r >= 0 && regular && nontemporal)
		r = add_case(run, field, isa, CVB_STREAM_WRITE, true, err);
	return r < 0 ? r : 0;
}

static int add_cases(struct cvb_run *run, struct cvb_err *err)
{
	const struct stream_conf *conf = run->conf;
	const struct stream_state *s = run->state;
	enum cvb_stream_isa best = cvb_stream_best_isa();
	unsigned from = CVB_STREAM_SSE2, to = CVB_STREAM_AVX512;

	if (conf->isa != ISA_ALL)
		from = to = conf->isa == ISA_AUTO ? best : (unsigned)conf->isa;
	if (conf->isa < ISA_AUTO && !cvb_stream_pick(from, CVB_STREAM_COPY, false))
		return cvb_err_set(err, -EOPNOTSUPP, "isa = %s: this CPU does not have it",
				   isa_names[from]);
	if (conf->isa != ISA_ALL)
		cvb_run_note(run, "kernels: %s", isa_names[from]);
	for (unsigned isa = from; isa <= to; isa++) {
		if (!cvb_stream_pick(isa, CVB_STREAM_COPY, false)) {
			cvb_run_leave_out(run, json_pack("{s:s}", "isa", isa_names[isa]),
					  "isa=%s: this CPU does not have it", isa_names[isa]);
			continue;
		}
		for (size_t i = 0; i < s->n_fields; i++) {
			int r = add_cases_of(run, i, isa, err);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* --- hooks ------------------------------------------------------------------------------------ */

static int add_fields(struct cvb_run *run, const struct cvb_nodes *n, struct cvb_err *err)
{
	const struct stream_conf *conf = run->conf;
	enum cvb_pages pages[CVB_PAGES_ALL];
	size_t n_pages;
	int matrix = cvb_sweep_matrix(run, conf->numa, n, err);
	int r = matrix > 0 ? check_workers(run, n, err) : matrix;

	cvb_sweep_pages(run, conf->pages,
			ARRAYS * (conf->size_bytes ? conf->size_bytes : MIN_ARRAY_BYTES), pages,
			&n_pages);
	for (size_t i = 0; i < n_pages && r >= 0; i++)
		r = add_fields_of(run, n, matrix > 0, pages[i], err);
	return r;
}

static int stream_setup(struct cvb_run *run, struct cvb_err *err)
{
	struct stream_state *s = calloc(1, sizeof(*s));
	struct cvb_nodes nodes;
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	s->node = calloc(run->workers, sizeof(*s->node));
	if (!s->node)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	/*
	 * One round of the four kernels takes a to s + t + s t times itself, s and t the scalars of
	 * scale and triad: 1 for s = t = sqrt(2) - 1.  Two scalars around it, in turn from pass to
	 * pass and from batch to batch, keep a where it is and still change every value, so that a
	 * batch or the end of one left out shows.
	 */
	s->scalar[0] = (sqrt(2) - 1) * 1.01;
	s->scalar[1] = 2 / (1 + s->scalar[0]) - 1;
	cvb_nodes_read(&nodes);
	r = add_fields(run, &nodes, err);
	for (size_t i = 0; i < s->n_fields && r >= 0; i++)
		r = map_field(run, &s->fields[i], &nodes, s->n_fields, err);
	return r < 0 ? r : add_cases(run, err);
}

static int stream_worker_setup(struct cvb_worker *worker, struct cvb_err *err)
{
	struct stream_state *s = worker->run->state;

	(void)err;
	s->node[worker->index] = worker->numa_node;
	return 0;
}

static bool is_in(const struct field *f, unsigned index, int node)
{
	return f->one ? index == 0 : f->cpu_node < 0 || f->cpu_node == node;
}

static bool stream_takes_part(const struct cvb_worker *worker, const struct cvb_case *c)
{
	const struct stream_state *s = worker->run->state;

	return is_in(&s->fields[unpack(c->user).field], worker->index, worker->numa_node);
}

/* First touch: the pages of a slice come from the memory next to its worker, or from the field's
 * node. */
static void fill_slice(const struct cvb_worker *worker, const struct field *f,
		       struct cvb_stream_slice *sl)
{
	const struct stream_state *s = worker->run->state;
	size_t units = f->elements / SLICE_ELEMENTS, from, to;
	unsigned rank = 0;

	for (unsigned i = 0; i < worker->index; i++)
		rank += is_in(f, i, s->node[i]);
	from = units * rank / f->parties * SLICE_ELEMENTS;
	to = units * (rank + 1) / f->parties * SLICE_ELEMENTS;
	sl->first = from;
	sl->n = to - from;
	sl->a = (double *)f->mem.p + from;
	sl->b = sl->a + f->elements + SKEW_ELEMENTS;
	sl->c = sl->b + f->elements + SKEW_ELEMENTS;
	cvb_stream_slice_fill(sl);
}

/* A slice is made by its first batch, when all workers are pinned and known. */
static int stream_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct stream_state *s = worker->run->state;
	const struct field *f = &s->fields[unpack(c->user).field];
	struct cvb_stream_slice *sl = &f->slices[worker->index];

	(void)iters;
	if (!sl->n)
		fill_slice(worker, f, sl);
	return 0;
}

static int stream_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	const struct stream_state *s = worker->run->state;
	const struct key k = unpack(c->user);

	cvb_stream_slice_step(&s->fields[k.field].slices[worker->index], k.kernel,
			      cvb_stream_pick(k.isa, k.kernel, k.nontemporal), s->scalar, iters);
	return 0;
}

/* The first batch has touched it all. */
static int stream_after_batch(struct cvb_run *run, size_t case_index, uint64_t iters, uint64_t ns,
			      struct cvb_err *err)
{
	const struct stream_state *s = run->state;
	struct field *f = &s->fields[unpack(run->cases[case_index].user).field];

	(void)iters, (void)ns, (void)err;
	if (!f->looked)
		cvb_sweep_note_huge(run, &f->mem, f->pages);
	f->looked = true;
	return 0;
}

/* --- verification ----------------------------------------------------------------------------- */

static int check_field(const struct cvb_run *run, const struct field *f, struct cvb_err *err)
{
	size_t end = 0;

	for (unsigned i = 0; i < run->workers; i++) {
		const struct cvb_stream_slice *sl = &f->slices[i];

		if (!sl->n)
			continue;
		int r = cvb_stream_slice_check(sl, err);

		if (r < 0)
			return cvb_err_wrap(err, r, "worker %u", i);
		if (sl->first != end)
			return cvb_err_set(err, -EBADMSG,
					   "worker %u starts at element %zu, not %zu", i, sl->first,
					   end);
		end += sl->n;
	}
	if (end != f->elements)
		return cvb_err_set(err, -EBADMSG, "%zu of %zu elements have a worker", end,
				   f->elements);
	return cvb_sweep_check_node(&f->mem, f->mem_node, err);
}

static int stream_verify(struct cvb_run *run, struct cvb_err *err)
{
	const struct stream_state *s = run->state;

	for (size_t i = 0; i < s->n_fields; i++) {
		int r = check_field(run, &s->fields[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

static void stream_done(struct cvb_run *run)
{
	struct stream_state *s = run->state;

	if (!s)
		return;
	for (size_t i = 0; i < s->n_fields; i++) {
		cvb_mem_unmap(&s->fields[i].mem);
		free(s->fields[i].slices);
	}
	free(s->fields);
	free(s->node);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench mem_stream = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "mem.stream",
	.summary = "memory bandwidth: STREAM's copy, scale, add and triad, read and write",
	.doc = "mem.stream.md",
	.mode = CVB_MODE_BATCH,
	.opts = opts,
	.conf_size = sizeof(struct stream_conf),
	.metrics = metrics,
	.params = (const char *const[]){"threads", "stores", "isa", "pages", "cpu_node", "mem_node",
					NULL},
	.setup = stream_setup,
	.worker_setup = stream_worker_setup,
	.takes_part = stream_takes_part,
	.prepare = stream_prepare,
	.step = stream_step,
	.after_batch = stream_after_batch,
	.verify = stream_verify,
	.done = stream_done,
};
CVB_BENCH(mem_stream);
