/* SPDX-License-Identifier: Apache-2.0 */
/* Change points: exactness of the segmentation, what is found, labelled, refused, and how fast. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/util.h"
#include "sim/sim.h"
#include "stats/changepoint.h"
#include "stats/segment.h"

#include <errno.h>
#include <string.h>

static struct rng rng;

static void gauss_series(double *x, size_t n, uint64_t seed)
{
	rng.state = seed;
	for (size_t i = 0; i < n; i++)
		x[i] = rng_gauss(&rng);
}

static struct cvb_changepoints find(const double *x, size_t n)
{
	struct cvb_changepoints c;

	assert_int_equal(cvb_changepoints_find(x, n, CVB_CHANGEPOINT_ALERT, &c, NULL), 0);
	return c;
}

/* --- the segmentation against plain dynamic programming --------------------------------------- */

static double fit_cost(const double *y, size_t a, size_t b, double v, double penalty,
		       size_t min_line)
{
	double n = (double)(b - a), m = 0, mid = ((double)a + (double)b - 1) / 2;
	double ss = 0, sxy = 0, sxx = 0;

	for (size_t i = a; i < b; i++)
		m += y[i] / n;
	for (size_t i = a; i < b; i++) {
		double dx = (double)i - mid;

		ss += (y[i] - m) * (y[i] - m);
		sxy += dx * (y[i] - m);
		sxx += dx * dx;
	}
	if (b - a < min_line)
		return ss / v;
	return fmin(ss / v, (ss - sxy * sxy / sxx) / v + penalty);
}

static double brute_force(const double *y, size_t n, double v, double penalty, size_t min_len,
			  size_t min_line)
{
	double f[200];

	f[0] = -penalty;
	for (size_t t = 1; t <= n; t++) {
		f[t] = INFINITY;
		for (size_t a = 0; a + min_len <= t; a++)
			f[t] = fmin(f[t], f[a] + penalty + fit_cost(y, a, t, v, penalty, min_line));
	}
	return f[n];
}

static void segmentation_is_exact(void **state)
{
	double y[120];

	(void)state;
	for (unsigned trial = 0; trial < 60; trial++) {
		size_t n = 30 + trial + trial / 2;
		double penalty = 2 + trial % 7, got = -penalty;
		struct cvb_segmenter s;

		gauss_series(y, n, 100 + trial);
		for (size_t i = 0; i < n; i++)
			y[i] += 2.0 * (double)(i / 23 % 2) + (i > n / 2 ? 0.1 * (double)i : 0);
		assert_int_equal(cvb_segmenter_init(&s, y, n, NULL), 0);
		cvb_segmenter_run(&s, 1.3, penalty, 4, 12);
		for (size_t k = 0; k < s.n_segments; k++) {
			const struct cvb_segment *g = &s.segment[k];

			assert_int_equal(g->start, k ? s.segment[k - 1].end : 0);
			assert_true(g->end - g->start >= 4);
			got += penalty + fit_cost(y, g->start, g->end, 1.3, penalty, 12);
		}
		assert_int_equal(s.segment[s.n_segments - 1].end, n);
		assert_true(fabs(got - brute_force(y, n, 1.3, penalty, 4, 12)) < 1e-8);
		cvb_segmenter_done(&s);
	}
}

/* --- what is found ---------------------------------------------------------------------------- */

static void finds_steps_up_and_down(void **state)
{
	struct cvb_changepoints c;
	double x[200];

	(void)state;
	gauss_series(x, 200, 1);
	for (size_t i = 60; i < 130; i++)
		x[i] += 6;
	x[20] += 40; /* an outlier is neither a change nor in the way of one */
	c = find(x, 200);
	assert_int_equal(c.n_cp, 2);
	assert_int_equal(c.cp[0].index, 60);
	assert_int_equal(c.cp[0].end, 130);
	assert_int_equal(c.cp[1].index, 130);
	assert_int_equal(c.cp[0].label, CVB_CHANGEPOINT_STEP);
	assert_true(c.cp[0].lower < 6 && 6 < c.cp[0].upper);
	assert_true(c.cp[1].lower < -6 && -6 < c.cp[1].upper);
	assert_true(fabs(c.sd - 1) < 0.15 && c.phi < 0.3 && c.block == 1 && !c.two_state);
	assert_true(c.n_spikes >= 1 && c.spike[0] == 20);
	cvb_changepoints_done(&c);
}

static void labels_excursion_and_trend(void **state)
{
	struct cvb_changepoints c;
	double x[120];

	(void)state;
	gauss_series(x, 120, 2);
	for (size_t i = 70; i < 78; i++)
		x[i] += 8;
	c = find(x, 120);
	assert_int_equal(c.n_cp, 2);
	assert_int_equal(c.cp[0].index, 70);
	assert_int_equal(c.cp[1].index, 78);
	assert_string_equal(cvb_changepoint_label_name(c.cp[0].label), "excursion");
	assert_string_equal(cvb_changepoint_label_name(c.cp[1].label), "excursion");
	cvb_changepoints_done(&c);

	gauss_series(x, 120, 3);
	for (size_t i = 60; i < 120; i++)
		x[i] += 0.25 * (double)(i - 59);
	c = find(x, 120);
	assert_int_equal(c.n_cp, 1);
	assert_string_equal(cvb_changepoint_label_name(c.cp[0].label), "trend");
	assert_in_range(c.cp[0].index, 54, 68);
	assert_true(c.cp[0].lower < 15 && 15 < c.cp[0].upper + 1);
	cvb_changepoints_done(&c);
}

static void sees_two_states(void **state)
{
	struct cvb_changepoints c;
	double x[200];

	(void)state;
	gauss_series(x, 200, 4);
	for (size_t i = 0; i < 200; i++)
		x[i] = 0.3 * x[i] + (i / 20 % 2 ? 5 : 0);
	c = find(x, 200);
	assert_true(c.two_state);
	cvb_changepoints_done(&c);
}

/* Another unit or zero point changes neither what is found nor, but for the unit, its size. */
static void scale_and_shift_do_not_matter(void **state)
{
	static const double scale[] = {1e-300, 1e-9, 0.37, 1, 3, 1e9, 1e300};
	static const double shift[] = {0, 1e4, -1e4, 0, 1e6, 0, 0}; /* in units of the scale */
	struct cvb_changepoints want, c;
	double x[150], z[150];

	(void)state;
	for (unsigned seed = 0; seed < 20; seed++) {
		gauss_series(x, 150, 500 + seed);
		for (size_t i = 0; i < 150; i++)
			x[i] += (i >= 50 ? 3 : 0) - (i >= 100 ? 0.1 * (double)(i - 100) : 0);
		want = find(x, 150);
		assert_true(want.n_cp >= 1);
		for (size_t k = 0; k < CVB_ARRAY_LEN(scale); k++) {
			for (size_t i = 0; i < 150; i++)
				z[i] = (x[i] + shift[k]) * scale[k];
			c = find(z, 150);
			assert_int_equal(c.n_cp, want.n_cp);
			assert_int_equal(c.n_spikes, want.n_spikes);
			for (size_t i = 0; i < c.n_cp; i++) {
				assert_int_equal(c.cp[i].index, want.cp[i].index);
				assert_int_equal(c.cp[i].label, want.cp[i].label);
				assert_true(fabs(c.cp[i].upper / scale[k] - want.cp[i].upper) <
					    1e-6);
			}
			cvb_changepoints_done(&c);
		}
		cvb_changepoints_done(&want);
	}
}

static void constant_tied_and_huge(void **state)
{
	struct cvb_changepoints c;
	double x[100];

	(void)state;
	for (size_t n = 1; n <= 100; n++) {
		for (size_t i = 0; i < n; i++)
			x[i] = 0.1;
		c = find(x, n);
		assert_int_equal(c.n_cp, 0);
		assert_true(n == 1 ? isnan(c.sd) : c.sd == 0);
		cvb_changepoints_done(&c);
	}
	/* constant but for one point; then two constants: no noise to be measured in either */
	x[40] = 5;
	c = find(x, 100);
	assert_int_equal(c.n_cp, 0);
	cvb_changepoints_done(&c);
	for (size_t i = 40; i < 100; i++)
		x[i] = 0.2;
	c = find(x, 100);
	assert_int_equal(c.n_cp, 1);
	assert_int_equal(c.cp[0].index, 40);
	assert_true(fabs(c.cp[0].effect - 0.1) < 1e-12);
	cvb_changepoints_done(&c);
	/* the whole range of a double */
	for (size_t i = 0; i < 100; i++)
		x[i] = i < 50 ? -1.7e308 : 1.7e308;
	c = find(x, 100);
	assert_int_equal(c.n_cp, 1);
	assert_int_equal(c.cp[0].index, 50);
	cvb_changepoints_done(&c);
}

/* Without noise a level is found from four points on, at its first one; three may be found. */
static void jumps_of_constants(void **state)
{
	static const size_t len[] = {8, 20, 100, 1000};
	struct cvb_changepoints last;
	double x[1000];

	(void)state;
	for (size_t i = 0; i < 20; i++)
		x[i] = i < 17 ? 1 : 2;
	last = find(x, 20);
	assert_true(last.n_cp == 0 || (last.n_cp == 1 && last.cp[0].index == 17));
	cvb_changepoints_done(&last);
	for (size_t k = 0; k < CVB_ARRAY_LEN(len); k++) {
		for (size_t at = 4; at + 4 <= len[k]; at += cvb_max(len[k] / 8, (size_t)1)) {
			struct cvb_changepoints c;

			for (size_t i = 0; i < len[k]; i++)
				x[i] = i < at ? 1 : 2;
			c = find(x, len[k]);
			assert_int_equal(c.n_cp, 1);
			assert_int_equal(c.cp[0].index, at);
			assert_true(c.cp[0].lower > 0.5 && fabs(c.cp[0].effect - 1) < 1e-9);
			assert_true(c.phi == 0 && c.sd == 0);
			cvb_changepoints_done(&c);
		}
	}
}

/* Sums of tenths that differ in their last bit are no noise and no change. */
static void rounding_of_doubles(void **state)
{
	struct cvb_changepoints c;
	double x[60];

	(void)state;
	for (size_t i = 0; i < 60; i++)
		x[i] = i < 30 ? 0.1 + 0.2 : 0.3;
	c = find(x, 60);
	assert_int_equal(c.n_cp, 0);
	cvb_changepoints_done(&c);
	for (size_t i = 0; i < 60; i++)
		x[i] = (i % 3 ? 0.3 : 0.1 + 0.2) + (i < 40 ? 0 : 0.01);
	c = find(x, 60);
	assert_int_equal(c.n_cp, 1);
	assert_int_equal(c.cp[0].index, 40);
	cvb_changepoints_done(&c);
}

/* A counter that rounds most of a change away: neighbours are equal, but the share of ones rises.
 */
static void effect_of_coarse_values(void **state)
{
	struct cvb_changepoints c;
	double x[200];

	(void)state;
	for (size_t i = 0; i < 200; i++)
		x[i] = 7 + (i < 100 ? i % 20 == 0 : i % 3 == 0);
	c = find(x, 200);
	assert_int_equal(c.n_cp, 1);
	assert_in_range(c.cp[0].index, 95, 105);
	assert_true(c.cp[0].lower > 0 && fabs(c.cp[0].effect - 0.283) < 0.05);
	cvb_changepoints_done(&c);
}

/* Outliers are no data: not at the ends, and not as the seed of a level. */
static void outliers_at_the_ends(void **state)
{
	static const size_t where[] = {0, 1, 58, 59};

	(void)state;
	for (unsigned seed = 0; seed < 40; seed++) {
		struct cvb_changepoints c;
		double x[60];

		for (size_t k = 0; k < CVB_ARRAY_LEN(where); k++) {
			gauss_series(x, 60, 900 + seed);
			for (size_t i = 30; i < 60; i++)
				x[i] += 8;
			x[where[k]] += 1e6;
			c = find(x, 60);
			assert_int_equal(c.n_cp, 1);
			assert_int_equal(c.cp[0].index, 30);
			assert_int_equal(c.cp[0].end, 60);
			assert_true(fabs(c.cp[0].effect - 8) < 1);
			cvb_changepoints_done(&c);
		}
		gauss_series(x, 60, 900 + seed);
		for (size_t i = 57; i < 60; i++)
			x[i] += 50;
		c = find(x, 60);
		assert_int_equal(c.n_cp, 0);
		assert_true(c.n_spikes >= 3);
		cvb_changepoints_done(&c);
	}
}

/* The last level is found although it has few points, and noise may differ between levels. */
static void late_and_uneven(void **state)
{
	unsigned late = 0, uneven = 0, exact = 0;

	(void)state;
	for (unsigned seed = 0; seed < 100; seed++) {
		struct cvb_changepoints c;
		double x[100];

		gauss_series(x, 60, 3000 + seed);
		for (size_t i = 54; i < 60; i++)
			x[i] += 6;
		c = find(x, 60);
		late += c.n_cp == 1 && c.cp[0].index == 54;
		cvb_changepoints_done(&c);
		gauss_series(x, 100, 4000 + seed);
		for (size_t i = 0; i < 100; i++)
			x[i] = x[i] * (i < 50 ? 0.5 : 2) + (i < 50 ? 0 : 5);
		c = find(x, 100);
		uneven += c.n_cp == 1;
		exact += c.n_cp == 1 && c.cp[0].index + 2 >= 50 && c.cp[0].index <= 52;
		cvb_changepoints_done(&c);
	}
	assert_true(late >= 90);
	assert_true(uneven >= 90 && exact >= 80);
}

static void short_series(void **state)
{
	struct cvb_changepoints c;
	double x[24];

	(void)state;
	for (size_t n = 1; n <= 24; n++) {
		gauss_series(x, n, n);
		c = find(x, n);
		cvb_changepoints_done(&c);
		for (size_t i = n / 2; i < n; i++)
			x[i] += 30;
		c = find(x, n);
		assert_int_equal(c.n_cp, n >= CVB_CHANGEPOINT_MIN_N);
		if (c.n_cp)
			assert_int_equal(c.cp[0].index, n / 2);
		cvb_changepoints_done(&c);
	}
}

static void long_series(void **state)
{
	const size_t n = 1000000, at = 612345;
	_cleanup_free_ double *x = calloc(n, sizeof(*x));
	struct cvb_changepoints c;

	(void)state;
	assert_non_null(x);
	gauss_series(x, n, 9);
	for (size_t i = at; i < n; i++)
		x[i] += 3;
	c = find(x, n);
	assert_int_equal(c.block, 50);
	assert_int_equal(c.n_cp, 1);
	assert_in_range(c.cp[0].index, at - 5, at + 5);
	assert_int_equal(c.cp[0].end, n);
	cvb_changepoints_done(&c);
}

static void refuses_bad_input(void **state)
{
	static const double bad[] = {NAN, INFINITY, -INFINITY};
	struct cvb_changepoints c;
	struct cvb_err err = {0};
	double x[10] = {0};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
		x[6] = bad[i];
		assert_int_equal(cvb_changepoints_find(x, 10, 4, &c, &err), -EINVAL);
		assert_non_null(strstr(err.frame[0].msg, "value 7 of 10"));
	}
	assert_int_equal(cvb_changepoints_find(x, 0, 4, &c, NULL), -EINVAL);
	assert_int_equal(cvb_changepoints_find(x, 5, 0, &c, NULL), -EINVAL);
	assert_int_equal(cvb_changepoints_find(x, 5, NAN, &c, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segmentation_is_exact),
		cmocka_unit_test(finds_steps_up_and_down),
		cmocka_unit_test(labels_excursion_and_trend),
		cmocka_unit_test(sees_two_states),
		cmocka_unit_test(scale_and_shift_do_not_matter),
		cmocka_unit_test(constant_tied_and_huge),
		cmocka_unit_test(jumps_of_constants),
		cmocka_unit_test(rounding_of_doubles),
		cmocka_unit_test(effect_of_coarse_values),
		cmocka_unit_test(outliers_at_the_ends),
		cmocka_unit_test(late_and_uneven),
		cmocka_unit_test(short_series),
		cmocka_unit_test(long_series),
		cmocka_unit_test(refuses_bad_input),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
