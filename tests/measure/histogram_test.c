/* SPDX-License-Identifier: Apache-2.0 */
/* The histogram's percentiles against the sorted values themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/util.h"
#include "measure/histogram.h"

#include <math.h>

#define N 20000

static const double levels[] = {0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1};

static struct cvb_histogram *histogram(void)
{
	struct cvb_histogram *h = NULL;

	assert_int_equal(cvb_histogram_new(&h, NULL), 0);
	return h;
}

/* xorshift64: the same values in every run */
static uint64_t next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Nearest rank in a sorted array. */
static double exact(const uint64_t *v, size_t n, double p)
{
	double rank = ceil(p * (double)n);

	return (double)v[rank < 1 ? 0 : (size_t)rank - 1];
}

static void check(const struct cvb_histogram *h, uint64_t *v, size_t n)
{
	double sum = 0;

	qsort(v, n, sizeof(*v), by_value);
	for (size_t i = 0; i < n; i++)
		sum += (double)v[i];
	for (size_t i = 0; i < CVB_ARRAY_LEN(levels); i++) {
		double want = exact(v, n, levels[i]), got = cvb_histogram_percentile(h, levels[i]);
		double allowed = want < 2048 ? 0 : want / 2048;

		if (!(fabs(got - want) <= allowed))
			fail_msg("n = %zu, p = %g: %.17g, sorted values say %.17g", n, levels[i],
				 got, want);
	}
	assert_int_equal(cvb_histogram_count(h), n);
	assert_true(cvb_histogram_min(h) == v[0] && cvb_histogram_max(h) == v[n - 1]);
	assert_true(fabs(cvb_histogram_mean(h) - sum / (double)n) <= 1e-9 * sum / (double)n);
}

/* Flat below 2048 and just around it, and over many powers of two. */
static void percentiles_are_those_of_the_values(void **state)
{
	static const unsigned bits[] = {1, 8, 11, 12, 20, 43};
	static const size_t lengths[] = {1, 2, 3, 10, 999, 1000, 1001, N};
	_cleanup_free_ uint64_t *v = calloc(N, sizeof(*v));
	struct cvb_histogram *h = histogram();
	uint64_t seed = 7;

	(void)state;
	for (size_t b = 0; b < CVB_ARRAY_LEN(bits); b++) {
		for (size_t l = 0; l < CVB_ARRAY_LEN(lengths); l++) {
			cvb_histogram_reset(h);
			for (size_t i = 0; i < lengths[l]; i++) {
				/* a random number of bits each: a long tail */
				v[i] = next(&seed) >> (64 - 1 - next(&seed) % bits[b]);
				cvb_histogram_add(h, v[i]);
			}
			check(h, v, lengths[l]);
		}
	}
	cvb_histogram_free(h);
}

/* Each edge of a bucket, from 1 to the end: off by at most 1/2048. */
static void every_power_of_two_is_kept(void **state)
{
	struct cvb_histogram *h = histogram();

	(void)state;
	for (unsigned b = 0; b < 44; b++) {
		for (int d = -1; d <= 1; d++) {
			uint64_t value = (UINT64_C(1) << b) + (uint64_t)(int64_t)d;
			double got;

			cvb_histogram_reset(h);
			/* neighbours far away, so that min and max do not mend the bucket's value
			 */
			cvb_histogram_add(h, 0);
			cvb_histogram_add(h, value);
			cvb_histogram_add(h, UINT64_C(1) << 45);
			got = cvb_histogram_percentile(h, 0.5);
			if (!(fabs(got - (double)value) <=
			      (value < 2048 ? 0 : (double)value / 2048)))
				fail_msg("%llu comes back as %.17g", (unsigned long long)value,
					 got);
		}
	}
	cvb_histogram_free(h);
}

static void merging_is_adding_both(void **state)
{
	_cleanup_free_ uint64_t *v = calloc(N, sizeof(*v));
	struct cvb_histogram *a = histogram(), *b = histogram();
	uint64_t seed = 11;

	(void)state;
	for (size_t i = 0; i < N; i++) {
		v[i] = i % 3 ? next(&seed) % 5000 : 1000000 + next(&seed) % 1000;
		cvb_histogram_add(i % 3 ? a : b, v[i]);
	}
	cvb_histogram_merge(a, b);
	check(a, v, N);
	/* nothing to add changes nothing */
	cvb_histogram_reset(b);
	cvb_histogram_merge(a, b);
	check(a, v, N);
	cvb_histogram_free(a);
	cvb_histogram_free(b);
}

static void empty_and_huge(void **state)
{
	struct cvb_histogram *h = histogram();

	(void)state;
	assert_true(isnan(cvb_histogram_percentile(h, 0.5)));
	assert_true(isnan(cvb_histogram_mean(h)));
	assert_int_equal(cvb_histogram_min(h), 0);
	assert_int_equal(cvb_histogram_max(h), 0);
	cvb_histogram_add(h, UINT64_MAX);
	cvb_histogram_add(h, 5);
	assert_true(cvb_histogram_max(h) == UINT64_MAX);
	assert_true(cvb_histogram_percentile(h, 0.5) == 5);
	assert_true(cvb_histogram_percentile(h, 1) == (double)UINT64_MAX);
	assert_null(cvb_histogram_free(NULL));
	cvb_histogram_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(percentiles_are_those_of_the_values),
		cmocka_unit_test(every_power_of_two_is_kept),
		cmocka_unit_test(merging_is_adding_both),
		cmocka_unit_test(empty_and_huge),
	};

	return cmocka_run_group_tests_name("histogram against sorted values", tests, NULL, NULL);
}
