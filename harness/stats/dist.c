/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/dist.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>

/* ln Gamma(z) minus the leading part of Stirling's series, DLMF 5.11.1; good to 1e-15 for z >= 20.
 */
static double stirling_rest(double z)
{
	double r = 1 / (z * z);

	return (1.0 / 12 - r * (1.0 / 360 - r * (1.0 / 1260 - r / 1680))) / z;
}

/*
 * ln(Gamma(a + b) / Gamma(a)).  For large a the two logarithms are huge and nearly equal, so that
 * their difference would lose up to half the digits: take the difference of Stirling's series term
 * by term instead.
 */
static double ln_gamma_step(double a, double b)
{
	int sign;

	if (a < 20)
		return lgamma_r(a + b, &sign) - lgamma_r(a, &sign);
	return (a - 0.5) * log1p(b / a) + b * log(a + b) - b + stirling_rest(a + b) -
	       stirling_rest(a);
}

static double ln_beta(double a, double b)
{
	int sign;
	double big = fmax(a, b), small = fmin(a, b);

	return lgamma_r(small, &sign) - ln_gamma_step(big, small);
}

/*
 * The continued fraction of DLMF 8.17.22, evaluated front to back by Lentz's method (W. J. Lentz,
 * Applied Optics 15, 1976, as modified by Thompson and Barnett 1986).  Converges fast for
 * x < (a + 1) / (a + b + 2).
 */
static double beta_fraction(double a, double b, double x)
{
	const double tiny = DBL_MIN * 1e16;
	/* terms needed grow as sqrt(max(a, b)); the limit is far above that */
	double limit = 500 + 20 * sqrt(fmax(a, b));
	double c = 1, d = 1 - (a + b) * x / (a + 1), h;

	d = 1 / (fabs(d) < tiny ? tiny : d);
	h = d;
	for (double m = 1; m < limit; m++) {
		double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
		double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
		double step;

		d = 1 + even * d;
		c = 1 + even / c;
		d = 1 / (fabs(d) < tiny ? tiny : d);
		c = fabs(c) < tiny ? tiny : c;
		h *= d * c;
		d = 1 + odd * d;
		c = 1 + odd / c;
		d = 1 / (fabs(d) < tiny ? tiny : d);
		c = fabs(c) < tiny ? tiny : c;
		step = d * c;
		h *= step;
		if (fabs(step - 1) < DBL_EPSILON)
			break;
	}
	return h;
}

double cvb_beta_inc(double a, double b, double x, double y)
{
	if (!(a > 0) || !(b > 0) || !(x >= 0) || !(y >= 0) || isinf(a) || isinf(b))
		return NAN;
	if (x == 0 || y == 0)
		return x == 0 ? 0 : 1;

	/* of x and 1 - x the smaller one has all its digits: take logarithms through it */
	double ln_x = x < 0.5 ? log(x) : log1p(-y), ln_y = y < 0.5 ? log(y) : log1p(-x);
	double front = exp(a * ln_x + b * ln_y - ln_beta(a, b));

	if (x < (a + 1) / (a + b + 2))
		return front * beta_fraction(a, b, x) / a;
	return 1 - front * beta_fraction(b, a, y) / b;
}

/* P(T > t) for t >= 0: half of I_x(df / 2, 1 / 2) at x = df / (df + t^2), DLMF 8.17 and 26.5 of
 * Abramowitz & Stegun (26.7.1). */
static double upper_tail(double t, double df)
{
	double t2 = t * t;

	if (isinf(t2))
		return 0.5 * cvb_beta_inc(df / 2, 0.5, (df / t) / t, 1);
	return 0.5 * cvb_beta_inc(df / 2, 0.5, df / (df + t2), t2 / (df + t2));
}

double cvb_t_sf(double t, double df)
{
	if (!(df > 0) || isinf(df) || isnan(t))
		return NAN;
	if (isinf(t))
		return t > 0 ? 0 : 1;
	return t >= 0 ? upper_tail(t, df) : 1 - upper_tail(-t, df);
}

double cvb_t_cdf(double t, double df)
{
	return cvb_t_sf(-t, df);
}

double cvb_t_quantile(double p, double df)
{
	if (!(df > 0) || isinf(df) || !(p >= 0 && p <= 1))
		return NAN;
	if (p == 0 || p == 1)
		return p == 0 ? -INFINITY : INFINITY;
	if (p == 0.5)
		return 0;

	bool upper = p > 0.5;
	double tail = upper ? 1 - p : p; /* P(T > answer) */
	double lo = 0, hi = 1;

	while (upper_tail(hi, df) > tail && hi < DBL_MAX / 4) {
		lo = hi;
		hi *= 2;
	}
	/* plain bisection to the last bit: some 60 steps, and no case it can fail on */
	for (int i = 0; i < 1100; i++) {
		double mid = lo + (hi - lo) / 2;

		if (mid <= lo || mid >= hi)
			break;
		if (upper_tail(mid, df) > tail)
			lo = mid;
		else
			hi = mid;
	}
	return upper ? hi : -hi;
}
