/* SPDX-License-Identifier: Apache-2.0 */
/* Steady state: slow starts of several shapes, none at all, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/util.h"
#include "sim/sim.h"
#include "stats/steady.h"

#include <errno.h>
#include <string.h>

static double t[200];

/* 1 ms with .3 % noise. */
static void flat(uint64_t seed)
{
	struct rng r = {seed};

	for (size_t i = 0; i < 200; i++)
		t[i] = 1e6 * exp(0.003 * rng_gauss(&r));
}

static struct cvb_steady find(size_t n)
{
	struct cvb_steady s;

	assert_int_equal(cvb_steady_find(t, n, CVB_STEADY_TOLERANCE, &s, NULL), 0);
	return s;
}

static void steady_at_once(void **state)
{
	struct cvb_steady s;

	(void)state;
	flat(1);
	s = find(200);
	assert_int_equal(s.state, CVB_STEADY_REACHED);
	assert_int_equal(s.first, 0);
	/* a change below the tolerance is not a warm-up */
	for (size_t i = 0; i < 30; i++)
		t[i] *= 1.006;
	assert_int_equal(find(200).first, 0);
}

static void slow_start(void **state)
{
	struct cvb_steady s;

	(void)state;
	flat(2);
	for (size_t i = 0; i < 25; i++)
		t[i] *= i < 10 ? 1.5 : 1.1;
	s = find(200);
	assert_int_equal(s.state, CVB_STEADY_REACHED);
	assert_int_equal(s.first, 25);
	assert_true(fabs(s.warmup_ratio - 1.5) < 0.02);
	/* one slow iteration, too short to be a level */
	flat(3);
	t[0] *= 3;
	t[1] *= 2;
	assert_int_equal(find(200).first, 2);
}

static void decaying_start(void **state)
{
	struct cvb_steady s;

	(void)state;
	flat(4);
	for (size_t i = 0; i < 200; i++)
		t[i] *= 1 + 0.5 * exp(-(double)i / 10);
	s = find(200);
	assert_int_equal(s.state, CVB_STEADY_REACHED);
	assert_in_range(s.first, 15, 70);
}

static void never_steady(void **state)
{
	struct cvb_steady s;

	(void)state;
	flat(5);
	for (size_t i = 0; i < 200; i++)
		t[i] *= 1 + 0.002 * (double)i;
	s = find(200);
	assert_int_equal(s.state, CVB_STEADY_NONE);
	assert_int_equal(s.first, 200);
	assert_string_equal(cvb_steady_name(s.state), "no-steady-state");
	flat(6);
	for (size_t i = 0; i < 150; i++)
		t[i] *= 1.2;
	assert_int_equal(find(200).state, CVB_STEADY_NONE);
}

static void few_and_bad(void **state)
{
	struct cvb_err err = {0};
	struct cvb_steady s;

	(void)state;
	flat(7);
	for (size_t n = 1; n < 8; n++)
		assert_int_equal(find(n).state, CVB_STEADY_TOO_FEW);
	for (size_t n = 8; n < 30; n++)
		assert_int_equal(find(n).state, CVB_STEADY_REACHED);
	t[3] = 0;
	assert_int_equal(cvb_steady_find(t, 20, 0.01, &s, &err), -EINVAL);
	assert_non_null(strstr(err.frame[0].msg, "time 4 of 20"));
	assert_int_equal(cvb_steady_find(t, 0, 0.01, &s, NULL), -EINVAL);
	assert_int_equal(cvb_steady_find(t, 3, 1, &s, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(steady_at_once), cmocka_unit_test(slow_start),
		cmocka_unit_test(decaying_start), cmocka_unit_test(never_steady),
		cmocka_unit_test(few_and_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
