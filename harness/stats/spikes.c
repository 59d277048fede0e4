/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slow outliers: counted, never removed.
 */
#include "core/util.h"
#include "stats/describe.h"
#include "stats/exact.h"
#include "stats/ratio.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define HALF_WINDOW  3
#define LEAST_ROUNDS 5	  /* a session with fewer has no neighbours to speak of */
#define ROBUST_SDS   4	  /* beyond this many robust standard deviations */
#define LEAST_SPIKE  0.01 /* where the neighbours agree exactly: 1 % slower */
#define MAD_TO_SD    1.4826
#define NO_SPREAD    1e-12

/* Is t[i] (ln time) a spike among t[from..to)? */
static bool is_spike(const double *t, size_t i, size_t from, size_t to)
{
	double w[2 * HALF_WINDOW + 1], median, mad;
	size_t lo = i - from > HALF_WINDOW ? i - HALF_WINDOW : from;
	size_t hi = cvb_min(i + HALF_WINDOW + 1, to), n = hi - lo;

	memcpy(w, t + lo, n * sizeof(*w));
	cvb_sort_doubles(w, n);
	median = cvb_median_sorted(w, n);
	for (size_t k = 0; k < n; k++)
		w[k] = fabs(t[lo + k] - median);
	cvb_sort_doubles(w, n);
	mad = cvb_median_sorted(w, n);
	return t[i] - median > (mad > NO_SPREAD ? ROBUST_SDS * MAD_TO_SD * mad : LEAST_SPIKE);
}

static int compare(const void *a, const void *b)
{
	const struct cvb_pair *x = a, *y = b;

	if (x->session != y->session)
		return x->session < y->session ? -1 : 1;
	return (x->round > y->round) - (x->round < y->round);
}

int cvb_spikes_count(const struct cvb_pair *pairs, size_t n, bool lower_is_better, double alpha,
		     struct cvb_spikes *ret, struct cvb_err *err)
{
	_cleanup_free_ struct cvb_pair *p = calloc(n + 1, sizeof(*p));
	_cleanup_free_ double *t = calloc(2 * n + 2, sizeof(*t));
	double sign = lower_is_better ? 1 : -1;

	if (!p || !t)
		return cvb_err_set(err, -ENOMEM, "out of memory for %zu rounds", n);
	*ret = (struct cvb_spikes){.p = NAN};
	if (n)
		memcpy(p, pairs, n * sizeof(*p));
	qsort(p, n, sizeof(*p), compare);
	for (size_t i = 0; i < n; i++) {
		t[i] = sign * log(p[i].base);
		t[n + i] = sign * log(p[i].test);
		if (!isfinite(t[i]) || !isfinite(t[n + i]))
			return cvb_err_set(err, -EINVAL,
					   "session %u round %u: spikes need positive finite "
					   "numbers",
					   p[i].session, p[i].round);
	}
	for (size_t start = 0, end; start < n; start = end) {
		for (end = start; end < n && p[end].session == p[start].session;)
			end++;
		if (end - start < LEAST_ROUNDS)
			continue;
		ret->rounds += end - start;
		for (size_t i = start; i < end; i++) {
			ret->base += is_spike(t, i, start, end);
			ret->test += is_spike(t + n, i, start, end);
		}
	}
	if (ret->rounds)
		ret->p = cvb_rates_p(ret->base, ret->rounds, ret->test, ret->rounds);
	cvb_binom_bounds(ret->test, ret->rounds, alpha, &ret->rate_lower, &ret->rate_upper);
	return 0;
}
