/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/dist.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>

#define HALF_LN_2PI 0.91893853320467274178

/* DLMF 5.11.1; the first term left out is 2e-16 at z = 16. */
double cvb_stirling_rest(double z)
{
	int sign;

	if (z < 16)
		return z == 0 ? 0 : lgamma_r(z + 1, &sign) - (z + 0.5) * log(z) + z - HALF_LN_2PI;

	double r = 1 / (z * z);

	return (1.0 / 12 - r * (1.0 / 360 - r * (1.0 / 1260 - r * (1.0 / 1680 - r / 1188)))) / z;
}

double cvb_deviance(double x, double m)
{
	double v = (x - m) / (x + m), sum, term;

	if (fabs(x - m) >= 0.1 * (x + m))
		return x * log(x / m) + m - x;
	sum = (x - m) * v;
	term = 2 * x * v;
	for (double k = 3; k < 200; k += 2) {
		double next;

		term *= v * v;
		next = sum + term / k;
		if (next == sum)
			break;
		sum = next;
	}
	return sum;
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

	/*
	 * x^a y^b / B(a, b) in saddle-point form: powers and gamma functions of large arguments are
	 * never formed, so that no digits go with them
	 */
	double n = a + b;
	double ln = cvb_stirling_rest(n) - cvb_stirling_rest(a) - cvb_stirling_rest(b) -
		    cvb_deviance(a, n * x) - cvb_deviance(b, n * y);
	double front = exp(ln - HALF_LN_2PI) * sqrt(a / n * b);

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
