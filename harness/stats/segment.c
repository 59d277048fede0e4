/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/segment.h"

#include "core/util.h"

#include <errno.h>
#include <math.h>

int cvb_segmenter_init(struct cvb_segmenter *s, const double *y, size_t n, struct cvb_err *err)
{
	size_t m = n + 1;

	*s = (struct cvb_segmenter){.n = n, .y = y};
	s->memory = calloc(m, 6 * sizeof(double));
	s->last = calloc(m, sizeof(*s->last));
	s->live = calloc(m, sizeof(*s->live));
	s->segment = calloc(m, sizeof(*s->segment));
	if (!s->memory || !s->last || !s->live || !s->segment) {
		cvb_segmenter_done(s);
		return cvb_err_set(err, -ENOMEM, "out of memory for %zu points", n);
	}
	s->sum = s->memory;
	s->sum_sq = s->sum + m;
	s->sum_iy = s->sum_sq + m;
	s->inv_n = s->sum_iy + m;
	s->inv_sxx = s->inv_n + m;
	s->cost = s->inv_sxx + m;
	for (size_t i = 0; i < n; i++) {
		double k = (double)(i + 1);

		s->sum[i + 1] = s->sum[i] + y[i];
		s->sum_sq[i + 1] = s->sum_sq[i] + y[i] * y[i];
		s->sum_iy[i + 1] = s->sum_iy[i] + (double)i * y[i];
		s->inv_n[i + 1] = 1 / k;
		s->inv_sxx[i + 1] = i ? 12 / (k * (k * k - 1)) : 0;
	}
	return 0;
}

void cvb_segmenter_done(struct cvb_segmenter *s)
{
	free(s->memory);
	free(s->last);
	free(s->live);
	free(s->segment);
	*s = (struct cvb_segmenter){0};
}

/* Squared residuals of y[a..b) about its mean; *ret_line: what a line takes off them. */
static inline double residuals(const struct cvb_segmenter *s, size_t a, size_t b, double *ret_line)
{
	double d = s->sum[b] - s->sum[a];
	double sxy = s->sum_iy[b] - s->sum_iy[a] - 0.5 * (double)(a + b - 1) * d;
	double level = s->sum_sq[b] - s->sum_sq[a] - d * d * s->inv_n[b - a];

	*ret_line = sxy * sxy * s->inv_sxx[b - a];
	/* fmax() would be a call, and this is the innermost loop */
	return level > 0 ? level : 0;
}

void cvb_segment_fit(const struct cvb_segmenter *s, size_t start, size_t end, bool line,
		     struct cvb_segment *ret)
{
	double d = s->sum[end] - s->sum[start];
	double sxy = s->sum_iy[end] - s->sum_iy[start] - 0.5 * (double)(start + end - 1) * d;

	*ret = (struct cvb_segment){.start = start,
				    .end = end,
				    .line = line,
				    .mean = d * s->inv_n[end - start],
				    .slope = line ? sxy * s->inv_sxx[end - start] : 0};
}

/* The cost of y[a..b) as one segment, in units of v, with the price of a line if it is one. */
static inline double segment_cost(const struct cvb_segmenter *s, size_t a, size_t b, double inv_v,
				  double penalty, size_t min_line)
{
	double gain, level = residuals(s, a, b, &gain);

	gain = b - a >= min_line ? gain * inv_v - penalty : 0;
	return level * inv_v - (gain > 0 ? gain : 0);
}

static void backtrack(struct cvb_segmenter *s, double v, double penalty, size_t min_line)
{
	size_t n = 0;

	for (size_t t = s->n; t > 0; t = s->last[t])
		n++;
	s->n_segments = n;
	for (size_t t = s->n; t > 0; t = s->last[t]) {
		size_t a = s->last[t];
		double gain;
		bool line;

		residuals(s, a, t, &gain);
		line = t - a >= min_line && gain > penalty * v;
		cvb_segment_fit(s, a, t, line, &s->segment[--n]);
	}
}

/*
 * Forget starts that can never again be best (Killick et al.).  Cutting a segment in two at q may
 * cost one penalty more where one line becomes two, so a start has to be behind by that much; and
 * both parts must be long enough to be lines, hence q = t - min_line.
 */
static size_t prune(struct cvb_segmenter *s, size_t n_live, size_t t, double inv_v, double penalty,
		    size_t min_line)
{
	size_t kept = 0, q;

	if (t < 2 * min_line)
		return n_live;
	q = t - min_line;
	for (size_t k = 0; k < n_live; k++) {
		size_t a = s->live[k];

		if (a + min_line > q ||
		    s->cost[a] + segment_cost(s, a, q, inv_v, penalty, min_line) <=
			    s->cost[q] + penalty)
			s->live[kept++] = a;
	}
	return kept;
}

void cvb_segmenter_run(struct cvb_segmenter *s, double v, double penalty, size_t min_len,
		       size_t min_line)
{
	double inv_v = 1 / v;
	size_t n_live = 0;

	s->cost[0] = -penalty;
	for (size_t t = 1; t <= s->n; t++) {
		s->cost[t] = INFINITY;
		s->last[t] = 0;
	}
	for (size_t t = cvb_min(min_len, s->n); t <= s->n; t++) {
		double best = INFINITY;
		size_t from = 0;

		if (t == s->n && t < min_len)
			break;
		/* a start is live once a whole segment fits between it and t */
		if (isfinite(s->cost[t - min_len]))
			s->live[n_live++] = t - min_len;
		for (size_t k = 0; k < n_live; k++) {
			double c = s->cost[s->live[k]] +
				   segment_cost(s, s->live[k], t, inv_v, penalty, min_line);

			if (c < best) {
				best = c;
				from = s->live[k];
			}
		}
		s->cost[t] = best + penalty;
		s->last[t] = from;
		if (t % 8 == 0)
			n_live = prune(s, n_live, t, inv_v, penalty, min_line);
	}
	backtrack(s, v, penalty, min_line);
}
