/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pointer chain's promise, STREAM's kernels element by element, and whole runs of the memory
 * benchmarks on small arrays.
 */
#include "fixture.h"

#include "measure/runner.h"
#include "mem/chase.h"
#include "mem/stream_kernels.h"

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
		else
			x->a[i] = x->b[i] + s * x->c[i];
	}
}

static void test_kernels(void **state)
{
	const struct cvb_stream_set *set;
	bool usable;
	size_t n = 0;

	(void)state;
	for (; (set = cvb_stream_set_at(n, &usable)); n++) {
		for (unsigned k = 0; usable && k < CVB_STREAM_KERNELS; k++) {
			static struct arrays got, want;

			fill(&got);
			fill(&want);
			plain(&want, (enum cvb_stream_kernel)k, 0.75);
			set->kernel[k](got.a, got.b, got.c, 0.75, N);
			/* nothing beyond the end is written either */
			if (memcmp(&got, &want, sizeof(got)) != 0)
				fail_msg("%s, kernel %u", set->name, k);
		}
	}
	assert_int_equal(n, 4);
	assert_non_null(cvb_stream_pick(true));
	assert_ptr_not_equal(cvb_stream_pick(true), cvb_stream_pick(false));
}

/* --- whole runs ------------------------------------------------------------------------------ */

struct result {
	double value[64];
	size_t n;
	int verified;
	struct cvb_err err;
};

/* Open, calibrate, take `samples`, verify.  Returns what open said. */
static int run_bench(const char *name, json_t *options, unsigned threads, unsigned samples,
		     struct result *res)
{
	const struct cvb_bench *bench = cvb_bench_find(name, &res->err);
	_cleanup_json_ json_t *owned = options;
	const struct cvb_runner_opts o = {
		.options = owned, .threads = threads, .sample_ns = CVB_NS_PER_MS};
	struct cvb_runner *r;
	uint64_t iters[64], ns[64];
	struct cvb_sample sample = {.value = res->value, .ns = ns};
	int code;

	assert_non_null(bench);
	code = cvb_runner_open(&r, bench, &o, &res->err);
	if (code < 0)
		return code;
	cvb_runner_series(r, &res->n);
	assert_true(res->n <= 64 && cvb_runner_cases(r) <= 64);
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
	static const char *const stores[] = {"regular", "nontemporal"};
	struct result res = {.n = 0};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		json_t *o = json_pack("{s:s, s:s}", "size", "256KiB", "stores", stores[i]);

		assert_int_equal(run_bench("mem.stream", o, 3, 40, &res), 0);
		assert_int_equal(res.verified, 0);
		assert_int_equal(res.n, 4);
		for (size_t k = 0; k < res.n; k++)
			assert_true(res.value[k] > 1e6 && res.value[k] < 1e14);
	}
}

static void test_latency_runs(void **state)
{
	json_t *o =
		json_pack("{s:s, s:s, s:s}", "min_size", "4KiB", "max_size", "64KiB", "step", "4");
	struct result res = {.n = 0};

	(void)state;
	assert_int_equal(run_bench("mem.latency", o, 0, 2, &res), 0);
	assert_int_equal(res.verified, 0);
	assert_int_equal(res.n, 3); /* 4, 16 and 64 KiB */
	for (size_t k = 0; k < res.n; k++)
		assert_true(res.value[k] > 0.1 && res.value[k] < 1e4);
}

static void test_nop_runs(void **state)
{
	struct result res = {.n = 0};

	(void)state;
	assert_int_equal(run_bench("null.nop", NULL, 2, 2, &res), 0);
	assert_int_equal(res.n, 1);
	assert_true(res.value[0] > 0.01 && res.value[0] < 1e3);
}

static void test_sizes_refused(void **state)
{
	struct result res = {.n = 0};

	(void)state;
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
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_cycle),    cmocka_unit_test(test_random_order),
		cmocka_unit_test(test_broken_chain), cmocka_unit_test(test_kernels),
		cmocka_unit_test(test_stream_runs),  cmocka_unit_test(test_latency_runs),
		cmocka_unit_test(test_nop_runs),     cmocka_unit_test(test_sizes_refused),
	};

	return cmocka_run_group_tests_name("mem: chain, kernels, runs", tests, NULL, NULL);
}
