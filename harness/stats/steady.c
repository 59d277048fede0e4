/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/steady.h"

#include "core/util.h"
#include "stats/changepoint.h"
#include "stats/describe.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static const char *const names[] = {"steady", "no-steady-state", "too-few"};

const char *cvb_steady_name(enum cvb_steady_state state)
{
	return names[state];
}

int cvb_steady_of_name(const char *name)
{
	for (size_t i = 0; i < CVB_ARRAY_LEN(names); i++)
		if (!strcmp(names[i], name))
			return (int)i;
	return -1;
}

static double median4(const double *x)
{
	double v[4];

	memcpy(v, x, sizeof(v));
	cvb_sort_doubles(v, 4);
	return cvb_median_sorted(v, 4);
}

/* The last change that matters decides; an excursion near the end is a disturbance like others. */
static void judge(const struct cvb_changepoints *c, double tolerance, struct cvb_steady *s)
{
	for (size_t i = c->n_cp; i-- > 0;) {
		const struct cvb_changepoint *p = &c->cp[i];

		if (!(fabs(expm1(p->effect)) > tolerance) || p->label == CVB_CHANGEPOINT_EXCURSION)
			continue;
		/* a drift is over where the next segment begins; one that is still on is not */
		s->first = p->label == CVB_CHANGEPOINT_TREND ? p->end : p->index;
		break;
	}
	/* a slow start too short to be a level of its own: the first one to three iterations */
	for (size_t i = 0; i < c->n_spikes && c->block == 1; i++)
		s->first += c->spike[i] == s->first && s->first < 3;
	if (s->first > c->n / 2) {
		s->state = CVB_STEADY_NONE;
		s->first = c->n;
	}
}

int cvb_steady_find(const double *times, size_t n, double tolerance, struct cvb_steady *ret,
		    struct cvb_err *err)
{
	_cleanup_free_ double *ln = calloc(n ? n : 1, sizeof(*ln));
	struct cvb_steady s = {.state = CVB_STEADY_REACHED, .warmup_ratio = NAN};
	struct cvb_changepoints c;
	int r;

	if (!ln)
		return cvb_err_set(err, -ENOMEM, "out of memory for %zu times", n);
	if (!n)
		return cvb_err_set(err, -EINVAL, "there are no iteration times");
	if (!(tolerance > 0 && tolerance < 1))
		return cvb_err_set(err, -EINVAL, "tolerance is %g, it must lie between 0 and 1",
				   tolerance);
	for (size_t i = 0; i < n; i++) {
		if (!isfinite(times[i]) || times[i] <= 0)
			return cvb_err_set(err, -EINVAL,
					   "time %zu of %zu is %g, but it must be positive and "
					   "finite",
					   i + 1, n, times[i]);
		ln[i] = log(times[i]);
	}
	if (n < CVB_CHANGEPOINT_MIN_N) {
		s.state = CVB_STEADY_TOO_FEW;
		s.first = n;
		*ret = s;
		return 0;
	}
	r = cvb_changepoints_find(ln, n, CVB_CHANGEPOINT_ALERT, &c, err);
	if (r < 0)
		return cvb_err_wrap(err, r, "while looking for the end of the warm-up");
	judge(&c, tolerance, &s);
	cvb_changepoints_done(&c);
	if (s.state == CVB_STEADY_REACHED)
		s.warmup_ratio = exp(median4(ln) - median4(ln + n - 4));
	*ret = s;
	return 0;
}
