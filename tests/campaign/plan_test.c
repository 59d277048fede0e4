/* SPDX-License-Identifier: Apache-2.0 */
/* The order of measurement: balanced, random, and the same for the same seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "campaign/plan.h"

#include <string.h>

/* Over each block of 2 n rounds every arm stands in every position exactly twice. */
static void every_arm_stands_in_every_position(void **state)
{
	(void)state;
	for (size_t n = 3; n <= 8; n++) {
		for (uint64_t block = 0; block < 50; block++) {
			unsigned seen[8][8] = {{0}};
			size_t order[8];

			for (uint64_t r = 0; r < 2 * n; r++) {
				cvb_plan_round(42, 1, 2, block * 2 * n + r, n, order);
				for (size_t pos = 0; pos < n; pos++)
					seen[order[pos]][pos]++;
			}
			for (size_t a = 0; a < n; a++)
				for (size_t pos = 0; pos < n; pos++)
					assert_int_equal(seen[a][pos], 2);
		}
	}
}

/* Within each pair of rounds every arm is once before and once after every other, also when some
 * arms rest in one of the rounds: what is left out does not change the order of the others. */
static void every_pair_is_balanced(void **state)
{
	(void)state;
	for (size_t n = 2; n <= 8; n++) {
		for (uint64_t pair = 0; pair < 60; pair++) {
			size_t first[8], second[8];

			cvb_plan_round(3, 2, 1, 2 * pair, n, first);
			cvb_plan_round(3, 2, 1, 2 * pair + 1, n, second);
			for (size_t i = 0; i < n; i++)
				assert_int_equal(first[i], second[n - 1 - i]);
		}
	}
}

/* Two arms: ABBA and BAAB both come up, about equally often. */
static void two_arms_flip_a_coin(void **state)
{
	unsigned ab = 0;
	size_t order[2];

	(void)state;
	for (uint64_t pair = 0; pair < 1000; pair++) {
		cvb_plan_round(7, 0, 0, pair * 2, 2, order);
		ab += order[0] == 0;
	}
	/* 1000 coin flips: outside of this by chance once in 10^10 */
	assert_in_range(ab, 400, 600);
}

static void seed_session_and_bench_all_matter(void **state)
{
	size_t base[12], other[12];
	unsigned same = 0;

	(void)state;
	cvb_plan_round(1, 1, 1, 0, 12, base);
	cvb_plan_round(1, 1, 1, 0, 12, other);
	assert_memory_equal(base, other, sizeof(base));
	cvb_plan_round(2, 1, 1, 0, 12, other);
	same += !memcmp(base, other, sizeof(base));
	cvb_plan_round(1, 2, 1, 0, 12, other);
	same += !memcmp(base, other, sizeof(base));
	cvb_plan_round(1, 1, 2, 0, 12, other);
	same += !memcmp(base, other, sizeof(base));
	assert_int_equal(same, 0);
}

static void seeds_survive_json(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++)
		assert_true(cvb_plan_new_seed() < UINT64_C(1) << 53);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_arm_stands_in_every_position),
		cmocka_unit_test(every_pair_is_balanced),
		cmocka_unit_test(two_arms_flip_a_coin),
		cmocka_unit_test(seed_session_and_bench_all_matter),
		cmocka_unit_test(seeds_survive_json),
	};

	return cmocka_run_group_tests_name("campaign/plan", tests, NULL, NULL);
}
