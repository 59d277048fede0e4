/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pointer chain's promise, STREAM's kernels element by element, what memory.h tells about
 * memory that was got, and whole runs of the memory benchmarks on small buffers.
 */
#include "fixture.h"

#include "measure/memory.h"
#include "measure/runner.h"
#include "mem/chase.h"
#include "mem/stream_kernels.h"

#include <math.h>

/* --- the chain ------------------------------------------------------------------------------- */

static struct cvb_chase_line *chain(size_t n, uint64_t seed)
{
	struct cvb_chase_line *lines =
		aligned_alloc(CVB_CHASE_LINE_BYTES, n * sizeof(struct cvb_chase_line));

	assert_non_null(lines);
	cvb_chase_build(lines, n, seed);
	return lines;
}

/* One cycle over all lines, counted here without the code's own check. */
static void test_one_cycle(void **state)
{
	static const size_t sizes[] = {1, 2, 3, 7, 64, 1000, 4096};

	(void)state;
	for (size_t k = 0; k < CVB_ARRAY_LEN(sizes); k++) {
		for (uint64_t seed = 0; seed < 20; seed++) {
			size_t n = sizes[k], visited = 0;
			_cleanup_free_ struct cvb_chase_line *lines = chain(n, seed);
			_cleanup_free_ char *seen = calloc(n, 1);
			const struct cvb_chase_line *p = lines;
			struct cvb_err err = {0};

			assert_non_null(seen);
			while (!seen[p - lines]) {
				seen[p - lines] = 1;
				visited++;
				p = p->next;
			}
			assert_ptr_equal(p, lines);
			assert_int_equal(visited, n);
			assert_int_equal(cvb_chase_check(lines, n, &err), 0);
		}
	}
}

/* The order is random: a prefetcher that guesses the next line is wrong nearly always. */
static void test_random_order(void **state)
{
	_cleanup_free_ struct cvb_chase_line *a = chain(4096, 1), *b = chain(4096, 2);
	size_t neighbours = 0, same = 0;

	(void)state;
	for (size_t i = 0; i < 4096; i++) {
		ptrdiff_t step = a[i].next - &a[i];

		neighbours += step >= -2 && step <= 2;
		same += a[i].next - a == b[i].next - b;
	}
	assert_true(neighbours < 40); /* 4 expected */
	assert_true(same < 20);	      /* 1 expected: seeds differ */
}

static void test_broken_chain(void **state)
{
	_cleanup_free_ struct cvb_chase_line *lines = chain(64, 1);
	struct cvb_chase_line other;
	struct cvb_err err = {0};

	(void)state;
	/* two cycles instead of one: swapping two links splits a cycle */
	struct cvb_chase_line *t = lines[3].next;

	lines[3].next = lines[40].next;
	lines[40].next = t;
	assert_int_equal(cvb_chase_check(lines, 64, &err), -EBADMSG);
	assert_says(&err, "of 64 lines");

	/* a ring that never comes back to the start */
	for (size_t i = 0; i < 64; i++)
		lines[i].next = &lines[i + 1 < 64 ? i + 1 : 5];
	assert_int_equal(cvb_chase_check(lines, 64, &err), -EBADMSG);
	assert_says(&err, "does not come back");

	lines[7].next = &other;
	assert_int_equal(cvb_chase_check(lines, 64, &err), -EBADMSG);
	lines[7].next = (struct cvb_chase_line *)((char *)&lines[8] + 8);
	assert_int_equal(cvb_chase_check(lines, 64, &err), -EBADMSG);
	assert_says(&err, "outside");
}

/* --- STREAM's kernels ------------------------------------------------------------------------ */

#define N 512

struct arrays {
	_Alignas(64) double a[N + 8], b[N + 8], c[N + 8];
};

static void fill(struct arrays *x)
{
	for (size_t i = 0; i < N + 8; i++) {
		x->a[i] = 1 + (double)i;
		x->b[i] = 1000.5 - (double)i * 3;
		x->c[i] = 0.25 * (double)i - 7;
	}
}

/* The formula, one element at a time. */
static void plain(struct arrays *x, enum cvb_stream_kernel k, double s)
{
	for (size_t i = 0; i < N; i++) {
		if (k == CVB_STREAM_COPY)
			x->c[i] = x->a[i];
		else if (k == CVB_STREAM_SCALE)
			x->b[i] = s * x->c[i];
		else if (k == CVB_STREAM_ADD)
			x->c[i] = x->a[i] + x->b[i];
		else if (k == CVB_STREAM_TRIAD)
			x->a[i] = x->b[i] + s * x->c[i];
		else if (k == CVB_STREAM_WRITE)
			x->c[i] = s;
	}
}

static uint64_t sum_of_bits(const double *c)
{
	uint64_t sum = 0, bits;

	for (size_t i = 0; i < N; i++) {
		memcpy(&bits, &c[i], sizeof(bits));
		sum += bits;
	}
	return sum;
}

static void test_kernels(void **state)
{
	size_t tried = 0;

	(void)state;
	for (unsigned v = 0; v < CVB_STREAM_ISAS * 2 * CVB_STREAM_KERNELS; v++) {
		enum cvb_stream_kernel k = v % CVB_STREAM_KERNELS;
		enum cvb_stream_isa isa = v / CVB_STREAM_KERNELS / 2;
		bool nontemporal = v / CVB_STREAM_KERNELS % 2;
		cvb_stream_fn *kernel = cvb_stream_pick(isa, k, nontemporal);
		static struct arrays got, want;

		if (!kernel)
			continue;
		tried++;
		fill(&got);
		fill(&want);
		plain(&want, k, 0.75);
		uint64_t sum = kernel(got.a, got.b, got.c, 0.75, N);

		/* nothing beyond the end is written either */
		if (memcmp(&got, &want, sizeof(got)) != 0 ||
		    sum != (k == CVB_STREAM_READ ? sum_of_bits(want.c) : 0))
			fail_msg("%s, kernel %u, nontemporal %d", cvb_stream_isa_names[isa], k,
				 nontemporal);
	}
	/* SSE2 is part of every x86-64 CPU; the widest is one that there is */
	assert_true(tried >= 2 * CVB_STREAM_KERNELS);
	assert_non_null(cvb_stream_pick(cvb_stream_best_isa(), CVB_STREAM_COPY, true));
	assert_ptr_not_equal(cvb_stream_pick(CVB_STREAM_SSE2, CVB_STREAM_COPY, true),
			     cvb_stream_pick(CVB_STREAM_SSE2, CVB_STREAM_COPY, false));
}

/* --- memory ---------------------------------------------------------------------------------- */

static void test_memory_got(void **state)
{
	struct cvb_mem m;
	struct cvb_err err = {0};
	struct cvb_nodes n;

	(void)state;
	cvb_nodes_read(&n);
	assert_true(n.n_cpu >= 1 && n.n_mem >= 1 && n.cpus[0] >= 1);
	assert_int_equal(cvb_mem_map(&m, 4 * CVB_MIB, CVB_PAGES_4K, n.mem[0], &err), 0);
	assert_true(cvb_mem_huge_ratio(&m) <= 0); /* not touched: unknown */
	cvb_mem_touch(&m, 0, m.bytes);
	assert_true(cvb_mem_huge_ratio(&m) == 0);
	double here = cvb_mem_node_ratio(&m, n.mem[0]);

	assert_true(here == -1 || here > 0.99);
	/* what lies on one node does not lie on another */
	assert_true(cvb_mem_node_ratio(&m, n.mem[0] + 1) <= 0);
	cvb_mem_unmap(&m);
	if (cvb_pages_check(CVB_PAGES_THP, CVB_MIB, &err) < 0)
		return;
	assert_int_equal(cvb_mem_map(&m, 4 * CVB_MIB, CVB_PAGES_THP, -1, &err), 0);
	cvb_mem_touch(&m, 0, m.bytes);
	assert_true(cvb_mem_huge_ratio(&m) >= 0);
	cvb_mem_unmap(&m);
}

static void test_pages_refused(void **state)
{
	struct cvb_err err = {0};
	struct cvb_mem m;

	(void)state;
	/* more than any machine that runs this has reserved */
	assert_int_equal(cvb_pages_check(CVB_PAGES_2M, UINT64_C(1) << 50, &err), -EOPNOTSUPP);
	err = (struct cvb_err){0};
	assert_int_equal(cvb_pages_check(CVB_PAGES_1G, UINT64_C(1) << 50, &err), -EOPNOTSUPP);
	err = (struct cvb_err){0};
	assert_int_equal(cvb_mem_map(&m, (size_t)1 << 50, CVB_PAGES_2M, -1, &err), -EOPNOTSUPP);
	assert_int_equal(cvb_pages_check(CVB_PAGES_4K, UINT64_C(1) << 50, &err), 0);
}

/* --- whole runs ------------------------------------------------------------------------------ */

#define MAX_SERIES 256

struct result {
	double value[MAX_SERIES];
	char key[MAX_SERIES][128]; /* name and params of each series */
	size_t n, left_out;
	int verified;
	struct cvb_err err;
};

static void keep_keys(const struct cvb_runner *r, struct result *res)
{
	const struct cvb_series *series = cvb_runner_series(r, &res->n);

	res->left_out = json_array_size(cvb_runner_left_out(r));
	assert_true(res->n <= MAX_SERIES && cvb_runner_cases(r) <= MAX_SERIES);
	for (size_t i = 0; i < res->n; i++) {
		_cleanup_free_ char *params =
			series[i].params ? json_dumps(series[i].params, JSON_SORT_KEYS) : NULL;

		snprintf(res->key[i], sizeof(res->key[i]), "%s %s", series[i].metric->name,
			 params ? params : "");
		for (size_t k = 0; k < i; k++)
			if (!strcmp(res->key[i], res->key[k]))
				fail_msg("two series are called %s", res->key[i]);
	}
}

/* The series whose name and params start with this. */
static double value_of(const struct result *res, const char *start)
{
	for (size_t i = 0; i < res->n; i++)
		if (!strncmp(res->key[i], start, strlen(start)))
			return res->value[i];
	fail_msg("there is no series %s", start);
	return 0;
}

/* Open, calibrate, take `samples`, verify.  Returns what open said. */
static int run_bench(const char *name, json_t *options, unsigned threads, unsigned samples,
		     struct result *res)
{
	const struct cvb_bench *bench = cvb_bench_find(name, &res->err);
	_cleanup_json_ json_t *owned = options;
	const struct cvb_runner_opts o = {
		.options = owned, .threads = threads, .sample_ns = CVB_NS_PER_MS};
	struct cvb_runner *r;
	uint64_t iters[MAX_SERIES], ns[MAX_SERIES];
	struct cvb_sample sample = {.value = res->value, .ns = ns};
	int code;

	assert_non_null(bench);
	code = cvb_runner_open(&r, bench, &o, &res->err);
	if (code < 0)
		return code;
	keep_keys(r, res);
	assert_int_equal(cvb_runner_calibrate(r, iters, &res->err), 0);
	for (unsigned i = 0; i < samples; i++)
		assert_int_equal(cvb_runner_sample(r, iters, &sample, &res->err), 0);
	res->verified = cvb_runner_verify(r, &res->err);
	cvb_runner_close(r);
	return 0;
}

/* Many samples: values stay where they are, and the replay follows them. */
static void test_stream_runs(void **state)
{
	static const char *const stores[] = {"regular", "nontemporal", "both"};
	static const size_t series[] = {6, 6, 11}; /* a read is the same with both */
	static struct result res;

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(stores); i++) {
		json_t *o = json_pack("{s:s, s:s}", "size", "256KiB", "stores", stores[i]);

		res = (struct result){.n = 0};
		assert_int_equal(run_bench("mem.stream", o, 3, 40, &res), 0);
		assert_int_equal(res.verified, 0);
		assert_int_equal(res.n, series[i]);
		for (size_t k = 0; k < res.n; k++)
			assert_true(res.value[k] > 1e6 && res.value[k] < 1e14);
	}
}

/* All that can be swept, at once: every series has a name of its own and passes its check. */
static void test_stream_sweeps(void **state)
{
	static struct result res;
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s}", "size", "64KiB", "threads", "both",
			      "isa", "all", "pages", "all", "numa", "auto");

	(void)state;
	res = (struct result){.n = 0};
	assert_int_equal(run_bench("mem.stream", o, 0, 3, &res), 0);
	assert_int_equal(res.verified, 0);
	assert_true(res.n >= 2 * 11);
	value_of(&res, "triad {\"isa\": \"sse2\", \"pages\": \"4k\"");
}

static void test_stream_threads(void **state)
{
	static struct result res;
	json_t *o = json_pack("{s:s, s:s}", "size", "64KiB", "threads", "both");

	(void)state;
	res = (struct result){.n = 0};
	assert_int_equal(run_bench("mem.stream", o, 3, 2, &res), 0);
	assert_int_equal(res.verified, 0);
	assert_int_equal(res.n, 22);
	value_of(&res, "copy {\"stores\": \"regular\", \"threads\": 3}");
	value_of(&res, "read {\"threads\": 1}");
}

/* On one node the matrix is refused, or left out where it was not asked for by name. */
static void test_numa(void **state)
{
	static struct result res;
	struct cvb_nodes n;
	int stream, latency;

	(void)state;
	cvb_nodes_read(&n);
	res = (struct result){.n = 0};
	latency = run_bench("mem.latency",
			    json_pack("{s:s, s:s}", "numa", "matrix", "max_size", "16KiB"), 0, 2,
			    &res);
	if (n.n_mem > 1) {
		assert_int_equal(latency, 0);
		assert_int_equal(res.verified, 0);
		assert_int_equal(res.n, 1 + n.n_cpu * n.n_mem);
	} else {
		assert_int_equal(latency, -EOPNOTSUPP);
		assert_says(&res.err, "one NUMA node");
	}
	res = (struct result){.n = 0};
	stream = run_bench("mem.stream", json_pack("{s:s, s:s}", "numa", "matrix", "size", "1MiB"),
			   0, 2, &res);
	if (n.n_mem > 1) {
		assert_int_equal(stream, 0);
		assert_int_equal(res.verified, 0);
		assert_int_equal(res.n, 11 * n.n_cpu * n.n_mem);
	} else {
		assert_int_equal(stream, -EOPNOTSUPP);
	}
}

static void test_latency_runs(void **state)
{
	json_t *o =
		json_pack("{s:s, s:s, s:s}", "min_size", "4KiB", "max_size", "64KiB", "step", "4");
	static struct result res;

	(void)state;
	res = (struct result){.n = 0};
	assert_int_equal(run_bench("mem.latency", o, 0, 2, &res), 0);
	assert_int_equal(res.verified, 0);
	assert_int_equal(res.n, 4); /* the clock; 4, 16 and 64 KiB */
	for (size_t k = 0; k < res.n; k++)
		assert_true(res.value[k] > 0.1 && res.value[k] < 1e4);
	/* every x86-64 CPU needs more than one cycle for a load that waits for another */
	assert_true(value_of(&res, "latency {\"size_bytes\": 4096}") >
		    1.5 * value_of(&res, "cycle"));
}

static void test_latency_pages(void **state)
{
	json_t *o = json_pack("{s:s, s:s}", "max_size", "16KiB", "pages", "all");
	static struct result res;

	(void)state;
	res = (struct result){.n = 0};
	assert_int_equal(run_bench("mem.latency", o, 0, 2, &res), 0);
	assert_int_equal(res.verified, 0);
	/* what cannot be had is named */
	assert_int_equal(res.n - 1 + res.left_out, 4);
	value_of(&res, "latency {\"pages\": \"4k\"");
}

/* The load is a load: more of it without delays than with long ones. */
static void test_loaded_runs(void **state)
{
	static const char *const traffic[] = {"read", "copy"};
	static struct result res;
	struct cvb_nodes n;

	(void)state;
	cvb_nodes_read(&n);
	if (n.cpus[0] < 2)
		skip();
	for (size_t i = 0; i < 2; i++) {
		json_t *o = json_pack("{s:s, s:s, s:s, s:s}", "size", "64KiB", "buffer", "100KiB",
				      "step", "16", "traffic", traffic[i]);
		char key[64];

		res = (struct result){.n = 0};
		assert_int_equal(run_bench("mem.loaded", o, 2, 5, &res), 0);
		assert_int_equal(res.verified, 0);
		assert_int_equal(res.n, 7); /* idle; 2048, 128 and 0 cycles */
		snprintf(key, sizeof(key), "bandwidth {\"delay_cycles\": 0, \"traffic\": \"%s\"}",
			 traffic[i]);
		double most = value_of(&res, key);

		assert_true(most > 0 && value_of(&res, "bandwidth {\"delay_cycles\": 2048") > 0);
		assert_true(value_of(&res, "idle_latency") > 0.1);
	}
}

static void test_loaded_refused(void **state)
{
	static struct result res;

	(void)state;
	res = (struct result){.n = 0};
	assert_true(run_bench("mem.loaded", NULL, 1, 1, &res) < 0);
	assert_says(&res.err, "one");
	assert_true(run_bench("mem.loaded", NULL, 1000, 1, &res) < 0);
}

/* A page that is there costs less than one that must be got. */
static void test_touch_runs(void **state)
{
	static const char *const threads[] = {"one", "all", "both"};
	static const size_t series[] = {6, 6, 12};
	static struct result res;

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(threads); i++) {
		json_t *o = json_pack("{s:s, s:s, s:s}", "size", "8MiB", "pages", "4k", "threads",
				      threads[i]);

		res = (struct result){.n = 0};
		assert_int_equal(run_bench("mem.touch", o, 2, 3, &res), 0);
		assert_int_equal(res.verified, 0);
		assert_int_equal(res.n, series[i]);
		assert_true(value_of(&res, "first_touch {") > 2 * value_of(&res, "touch_again {"));
		assert_true(value_of(&res, "recycle {") > 2 * value_of(&res, "touch_again {"));
		assert_true(value_of(&res, "first_pass {") > 0);
		double ns = value_of(&res, "first_touch {"),
		       rate = value_of(&res, "first_touch_bandwidth {");
		unsigned parties = i == 1 ? 2 : 1;

		assert_true(fabs(rate * ns / (4096e9 * parties) - 1) < 1e-6);
	}
}

static void test_touch_sweep(void **state)
{
	json_t *o = json_pack("{s:s}", "size", "8MiB");
	static struct result res;

	(void)state;
	res = (struct result){.n = 0};
	assert_int_equal(run_bench("mem.touch", o, 0, 2, &res), 0);
	assert_int_equal(res.verified, 0);
	assert_int_equal(res.n / 6 + res.left_out, 4);
}

static void test_nop_runs(void **state)
{
	static struct result res;

	(void)state;
	res = (struct result){.n = 0};
	assert_int_equal(run_bench("null.nop", NULL, 2, 2, &res), 0);
	assert_int_equal(res.n, 3); /* cost, batch, share */
	assert_true(res.value[0] > 0.01 && res.value[0] < 1e3);
}

static void test_sizes_refused(void **state)
{
	static struct result res;

	(void)state;
	res = (struct result){.n = 0};
	assert_int_equal(run_bench("mem.stream", json_pack("{s:s}", "size", "4KiB"), 2, 1, &res),
			 -EINVAL);
	assert_says(&res.err, "4 KiB each");
	assert_int_equal(run_bench("mem.stream", json_pack("{s:s}", "size", "1TiB"), 1, 1, &res),
			 -EINVAL);
	assert_says(&res.err, "available");
	assert_int_equal(
		run_bench("mem.latency", json_pack("{s:s}", "max_size", "1TiB"), 1, 1, &res),
		-EINVAL);
	assert_says(&res.err, "available");
	assert_int_equal(run_bench("mem.latency",
				   json_pack("{s:s, s:s}", "max_size", "8KiB", "min_size", "16KiB"),
				   1, 1, &res),
			 -EINVAL);
	assert_says(&res.err, "below min_size");
	assert_int_equal(run_bench("mem.touch", json_pack("{s:s}", "size", "1KiB"), 1, 1, &res),
			 -EINVAL);
	assert_int_equal(run_bench("mem.touch", json_pack("{s:s}", "size", "1PiB"), 1, 1, &res),
			 -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_cycle),      cmocka_unit_test(test_random_order),
		cmocka_unit_test(test_broken_chain),   cmocka_unit_test(test_kernels),
		cmocka_unit_test(test_memory_got),     cmocka_unit_test(test_pages_refused),
		cmocka_unit_test(test_stream_runs),    cmocka_unit_test(test_stream_sweeps),
		cmocka_unit_test(test_stream_threads), cmocka_unit_test(test_numa),
		cmocka_unit_test(test_latency_runs),   cmocka_unit_test(test_latency_pages),
		cmocka_unit_test(test_loaded_runs),    cmocka_unit_test(test_loaded_refused),
		cmocka_unit_test(test_touch_runs),     cmocka_unit_test(test_touch_sweep),
		cmocka_unit_test(test_nop_runs),       cmocka_unit_test(test_sizes_refused),
	};

	return cmocka_run_group_tests_name("mem: chain, kernels, runs", tests, NULL, NULL);
}
