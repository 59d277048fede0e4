/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/changepoint.h"

#include "core/util.h"
#include "stats/describe.h"
#include "stats/dist.h"
#include "stats/segment.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum {
	MIN_LEN = 4,	    /* points of a segment */
	MIN_LINE = 20,	    /* points of a trend */
	HAMPEL_HALF = 3,    /* neighbours on each side */
	EXCURSION_MAX = 10, /* points until it is back */
	EFFECT_MAX = 30,    /* points on each side of a change that tell its size */
	MAX_ROUNDS = 6,
};

/* 1 / Phi^-1(3/4): a median absolute deviation as a Gaussian standard deviation. */
static const double mad_to_sd = 1.482602218505602;

/*
 * How much of a penalty each proof of a weak boundary has to reach, and the length of history at
 * which the penalty is beta ln n.  Chosen by simulation: docs/statistics.md says which.
 */
static const double ar_share = 0.5, welch_share = 0.8, typical_n = 90;

/* What one search works on: n points in units of `scale`, relative to `centre`. */
struct work {
	size_t n;     /* without outliers */
	double *y;    /* n */
	double *tmp;  /* scratch */
	size_t *at;   /* n + 1: which point of the series each is */
	double scale; /* of y in units of the values */
	double noise; /* of neighbouring points, from their differences */
	bool coarse;  /* most neighbours are equal */
	double phi;
	double sd;
	double v;
	double penalty;
	struct cvb_segmenter seg;
};

const char *cvb_changepoint_label_name(enum cvb_changepoint_label label)
{
	static const char *const names[] = {"step", "excursion", "trend"};

	return names[label];
}

void cvb_changepoints_done(struct cvb_changepoints *c)
{
	free(c->cp);
	free(c->spike);
	*c = (struct cvb_changepoints){0};
}

static double median_of(double *x, size_t n)
{
	cvb_sort_doubles(x, n);
	return cvb_median_sorted(x, n);
}

/* The smallest distance of two values beyond `tiny`: the resolution of a coarse counter. */
static double resolution(struct work *w, double tiny)
{
	double q = 0;

	memcpy(w->tmp, w->y, w->n * sizeof(*w->tmp));
	cvb_sort_doubles(w->tmp, w->n);
	for (size_t i = 1; i < w->n; i++) {
		double d = w->tmp[i] - w->tmp[i - 1];

		if (d > tiny && (q == 0 || d < q))
			q = d;
	}
	return q;
}

/*
 * The noise of one point from differences of neighbours, which a few steps do not touch.  Where
 * more than half of the differences are 0, but for the rounding of doubles, the values are coarse:
 * rounding to steps of q has a standard deviation of q / sqrt(12).
 */
static double neighbour_noise(struct work *w, double centre)
{
	double tiny, m;

	for (size_t i = 0; i < w->n; i++)
		w->tmp[i] = fabs(w->y[i]);
	tiny = 1e-14 * fmax(fabs(centre), median_of(w->tmp, w->n));
	for (size_t i = 1; i < w->n; i++)
		w->tmp[i - 1] = fabs(w->y[i] - w->y[i - 1]);
	m = mad_to_sd * median_of(w->tmp, w->n - 1) / M_SQRT2;
	w->coarse = m <= tiny;
	return w->coarse ? resolution(w, tiny) / sqrt(12) : m;
}

/* Set isolated outliers aside: x without them into y, which point each was into at, n at the end.
 */
static void hampel(const double *x, struct work *w, struct cvb_changepoints *c)
{
	const size_t width = 2 * HAMPEL_HALF + 1, n = w->n;

	w->n = 0;
	for (size_t i = 0; i < n; i++) {
		double near[2 * HAMPEL_HALF + 1], m, spread;
		size_t from = i > HAMPEL_HALF ? i - HAMPEL_HALF : 0;

		from = cvb_min(from, n - width);
		memcpy(near, x + from, sizeof(near));
		m = median_of(near, width);
		for (size_t k = 0; k < width; k++)
			near[k] = fabs(near[k] - m);
		spread = fmax(mad_to_sd * median_of(near, width), w->noise);
		if (fabs(x[i] - m) > 4 * spread) {
			c->spike[c->n_spikes++] = i;
		} else {
			w->at[w->n] = i;
			w->y[w->n++] = x[i];
		}
	}
	w->at[w->n] = n;
}

/* Residuals of all segments: their spread and lag-1 autocorrelation. */
static void noise_model(struct work *w)
{
	const struct cvb_segmenter *s = &w->seg;
	double squares = 0, products = 0, n = (double)w->n, used = 0;

	for (size_t k = 0; k < s->n_segments; k++) {
		const struct cvb_segment *g = &s->segment[k];
		double before = 0;

		used += g->line ? 2 : 1;
		for (size_t i = g->start; i < g->end; i++) {
			double e = w->y[i] - cvb_segment_at(g, (double)i);

			squares += e * e;
			products += e * before;
			before = e;
		}
	}
	if (squares < 1e-18 * n) /* the rounding of doubles, in units of the noise */
		squares = 0;

	double phi = squares > 0 ? products / squares + (1 + used) / n : 0;

	w->phi = fmin(fmax(phi, 0), 0.8);
	w->sd = sqrt(squares / fmax(n - used, 1));
	w->v = fmax(w->noise * w->noise / 2, w->sd * w->sd * (1 + w->phi) / (1 - w->phi));
}

/* A fingerprint of the segmentation, to see it repeat. */
static size_t boundaries_hash(const struct cvb_segmenter *s)
{
	size_t h = s->n_segments;

	for (size_t k = 0; k < s->n_segments; k++)
		h = h * 1000003 + 2 * s->segment[k].end + s->segment[k].line;
	return h;
}

static void segment_series(struct work *w)
{
	size_t before = 0;

	w->v = w->noise * w->noise;
	for (unsigned round = 0; round < MAX_ROUNDS; round++) {
		cvb_segmenter_run(&w->seg, w->v, w->penalty, MIN_LEN, MIN_LINE);
		noise_model(w);

		size_t h = boundaries_hash(&w->seg);

		if (h == before)
			break;
		before = h;
	}
}

/* Sums for a first-order autoregression of what is left when `a` and `b` model the points. */
struct ar_sums {
	double n, x, y, xx, yy, xy;
};

static void ar_add(struct ar_sums *s, const double *y, const struct cvb_segment *g, bool centred,
		   size_t from)
{
	for (size_t i = cvb_max(from, g->start + (centred ? 1 : 0)); i < g->end; i++) {
		double m = centred ? g->mean : 0, a, b;

		if (!i)
			continue;
		a = y[i - 1] - m;
		b = y[i] - m;
		s->n++;
		s->x += a;
		s->y += b;
		s->xx += a * a;
		s->yy += b * b;
		s->xy += a * b;
	}
}

/*
 * 2 ln of the likelihood ratio of "two levels, AR(1) noise" to "one level, AR(1) noise", given the
 * first point of each segment.  Under one level the autoregression may explain the step itself:
 * that is what wandering noise does.
 */
static double ar_evidence(const struct work *w, const struct cvb_segment *a,
			  const struct cvb_segment *b)
{
	struct ar_sums one = {0}, two = {0};

	ar_add(&one, w->y, a, false, a->start + 1);
	ar_add(&one, w->y, b, false, b->start);
	ar_add(&two, w->y, a, true, 0);
	ar_add(&two, w->y, b, true, 0);

	double sxx = one.xx - one.x * one.x / one.n, syy = one.yy - one.y * one.y / one.n;
	double sxy = one.xy - one.x * one.y / one.n;
	double floor = 1e-3 * w->noise * w->noise;
	double rss_one = syy - (sxx > 0 ? sxy * sxy / sxx : 0);
	double rss_two = two.yy - (two.xx > 0 ? two.xy * two.xy / two.xx : 0);

	return two.n * log((fmax(rss_one, 0) / one.n + floor) / (fmax(rss_two, 0) / two.n + floor));
}

/* Squared residuals of points from … to of a segment. */
static double squares(const struct work *w, const struct cvb_segment *g, size_t from, size_t to)
{
	double sum = 0;

	for (size_t i = from; i < to; i++) {
		double e = w->y[i] - cvb_segment_at(g, (double)i);

		sum += e * e;
	}
	return sum;
}

/*
 * Variances of the points within 30 of where two segments meet, each drawn towards what both have
 * in common while points are few: a quiet or noisy stretch is judged by its own noise.
 */
static void variances(const struct work *w, const struct cvb_segment *a,
		      const struct cvb_segment *b, double *ret_a, double *ret_b)
{
	const double prior = 8, least = w->noise * w->noise / 4;
	size_t na = cvb_min(a->end - a->start, (size_t)EFFECT_MAX);
	size_t nb = cvb_min(b->end - b->start, (size_t)EFFECT_MAX);
	double sa = squares(w, a, a->end - na, a->end), sb = squares(w, b, b->start, b->start + nb);
	double common = (sa + sb) / fmax((double)(na + nb) - 2, 1);

	*ret_a = fmax((sa + prior * common) / ((double)na - 1 + prior), least);
	*ret_b = fmax((sb + prior * common) / ((double)nb - 1 + prior), least);
}

/* Squared Welch statistic of two levels, each with its own spread and n (1-phi)/(1+phi) points. */
static double welch_evidence(const struct work *w, const struct cvb_segment *a,
			     const struct cvb_segment *b)
{
	double shrink = (1 - w->phi) / (1 + w->phi), d = b->mean - a->mean;
	double na = (double)(a->end - a->start), nb = (double)(b->end - b->start), va, vb;

	variances(w, a, b, &va, &vb);
	return d * d / (va / (na * shrink) + vb / (nb * shrink));
}

/* Evidence for the boundary of two levels, in penalties: below 1 it is not kept. */
static double strength(const struct work *w, size_t k)
{
	const struct cvb_segment *a = &w->seg.segment[k], *b = a + 1;

	if (a->line || b->line)
		return INFINITY;
	return fmin(ar_evidence(w, a, b) / ar_share, welch_evidence(w, a, b) / welch_share) /
	       w->penalty;
}

/* Merge the weakest pair of levels until every boundary stands. */
static void prune_weak(struct work *w)
{
	struct cvb_segmenter *s = &w->seg;

	while (s->n_segments > 1) {
		double least = 1;
		size_t weakest = s->n_segments;

		for (size_t k = 0; k + 1 < s->n_segments; k++) {
			double e = strength(w, k);

			if (e < least) {
				least = e;
				weakest = k;
			}
		}
		if (weakest == s->n_segments)
			break;
		cvb_segment_fit(s, s->segment[weakest].start, s->segment[weakest + 1].end, false,
				&s->segment[weakest]);
		s->n_segments--;
		memmove(&s->segment[weakest + 1], &s->segment[weakest + 2],
			(s->n_segments - weakest - 1) * sizeof(*s->segment));
		noise_model(w);
	}
}

/* Where in x[lo..hi) the level changes, by least absolute deviations. */
static size_t place(const double *x, size_t lo, size_t hi, size_t mid, double old_level,
		    double new_level)
{
	double sum = 0, best = 0;
	size_t at = lo;

	for (size_t i = lo; i < hi; i++) {
		sum += fabs(x[i] - old_level) - fabs(x[i] - new_level);
		if (sum < best) {
			best = sum;
			at = i + 1;
		}
	}
	return at > lo || best < 0 ? at : mid;
}

/*
 * A level shorter than MIN_LEN was cut with a few points too many: the first point of the new level
 * is where it should be.
 */
static void settle(struct work *w)
{
	struct cvb_segmenter *s = &w->seg;

	for (size_t k = 0; k + 1 < s->n_segments; k++) {
		struct cvb_segment *a = &s->segment[k], *b = a + 1;
		size_t end = b->end, lo = cvb_max(a->start + 1, b->start - (MIN_LEN - 1));
		size_t hi = cvb_min(b->start + MIN_LEN - 1, end - 1), at;

		if (a->line || b->line || cvb_min(a->end - a->start, b->end - b->start) > MIN_LEN)
			continue;
		at = place(w->y, lo, hi, b->start, a->mean, b->mean);
		cvb_segment_fit(s, a->start, at, false, a);
		cvb_segment_fit(s, at, end, false, b);
	}
}

/*
 * Size of the jump from segment a to b: median of all differences between up to 30 points on each
 * side, lines levelled at the boundary, or the difference of levels where most values are equal;
 * and its Welch interval.
 */
static int jump(const struct work *w, const struct cvb_segment *a, const struct cvb_segment *b,
		struct cvb_changepoint *ret, struct cvb_err *err)
{
	size_t na = cvb_min(a->end - a->start, (size_t)EFFECT_MAX);
	size_t nb = cvb_min(b->end - b->start, (size_t)EFFECT_MAX), n = 0;
	_cleanup_free_ double *d = calloc(na * nb, sizeof(*d));

	if (!d)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (size_t i = a->end - na; i < a->end; i++)
		for (size_t j = b->start; j < b->start + nb; j++)
			d[n++] = (w->y[j] - b->slope * (double)(j - b->start)) -
				 (w->y[i] + a->slope * (double)(b->start - i));

	double shift = median_of(d, n);

	if (w->coarse && !a->line && !b->line)
		shift = b->mean - a->mean;

	double shrink = (1 - w->phi) / (1 + w->phi);
	double ea = fmax((double)na * shrink, 2), eb = fmax((double)nb * shrink, 2);
	double va, vb;

	/* the end of a fitted line is four times as uncertain as a level */
	variances(w, a, b, &va, &vb);
	va *= (a->line ? 4 : 1) / ea;
	vb *= (b->line ? 4 : 1) / eb;

	double df = (va + vb) * (va + vb) / (va * va / (ea - 1) + vb * vb / (eb - 1));
	double half = cvb_t_quantile(0.975, fmax(df, 1)) * sqrt(va + vb);

	ret->effect = shift * w->scale;
	ret->lower = (shift - half) * w->scale;
	ret->upper = (shift + half) * w->scale;
	return 0;
}

/* The rise of a line from its first to its last point. */
static void rise(const struct work *w, const struct cvb_segment *g, struct cvb_changepoint *ret)
{
	double n = (double)(g->end - g->start);
	double own = fmax(squares(w, g, g->start, g->end) / (n - 2), w->noise * w->noise / 4);
	double inflated = own * (1 + w->phi) / (1 - w->phi);
	double se = sqrt(inflated * 12 / (n * (n * n - 1))) * (n - 1);
	double df = fmax(n * (1 - w->phi) / (1 + w->phi) - 2, 1);
	double half = cvb_t_quantile(0.975, df) * se, total = g->slope * (n - 1);

	ret->effect = total * w->scale;
	ret->lower = (total - half) * w->scale;
	ret->upper = (total + half) * w->scale;
}

/* Does the series jump where segments a and b, at least one of them a line, meet? */
static bool line_jumps(const struct work *w, const struct cvb_segment *a,
		       const struct cvb_segment *b)
{
	double at = (double)b->start - 0.5, d = cvb_segment_at(b, at) - cvb_segment_at(a, at);
	double inflate = (1 + w->phi) / (1 - w->phi);
	double va, vb;

	variances(w, a, b, &va, &vb);
	va *= (a->line ? 4 : 1) / (double)(a->end - a->start);
	vb *= (b->line ? 4 : 1) / (double)(b->end - b->start);
	return d * d > w->penalty * inflate * (va + vb);
}

/* Segments to change points.  A line begins a trend, unless a larger jump leads into it. */
static int report(const struct work *w, struct cvb_changepoints *c, struct cvb_err *err)
{
	const struct cvb_segmenter *s = &w->seg;

	for (size_t k = 0; k < s->n_segments; k++) {
		const struct cvb_segment *b = &s->segment[k], *a = k ? b - 1 : NULL;
		struct cvb_changepoint trend = {
			.index = b->start, .end = b->end, .label = CVB_CHANGEPOINT_TREND};
		struct cvb_changepoint step = {
			.index = b->start, .end = b->end, .label = CVB_CHANGEPOINT_STEP};
		bool jumps = a && ((!a->line && !b->line) || line_jumps(w, a, b));

		if (b->line)
			rise(w, b, &trend);
		if (jumps) {
			int r = jump(w, a, b, &step, err);

			if (r < 0)
				return r;
		}
		if (b->line && (!jumps || fabs(trend.effect) > fabs(step.effect)))
			c->cp[c->n_cp++] = trend;
		else if (jumps)
			c->cp[c->n_cp++] = step;
	}
	return 0;
}

/* Label what came back soon, and see whether the level flips between two states. */
static void label_returns(const struct work *w, struct cvb_changepoints *c)
{
	const struct cvb_segmenter *s = &w->seg;
	size_t returns = 0;

	for (size_t k = 1; k + 1 < s->n_segments; k++) {
		const struct cvb_segment *a = &s->segment[k - 1], *b = a + 1, *d = a + 2;
		double out = b->mean - a->mean;

		if (a->line || b->line || d->line || fabs(d->mean - a->mean) > fabs(out) / 2)
			continue;
		returns++;
		if (b->end - b->start > EXCURSION_MAX)
			continue;
		for (size_t i = 0; i < c->n_cp; i++)
			if (c->cp[i].index == b->start || c->cp[i].index == b->end)
				c->cp[i].label = CVB_CHANGEPOINT_EXCURSION;
	}
	c->two_state = returns >= 3 && returns + 3 >= s->n_segments;
}

/* A power of two near the largest magnitude: dividing by it is exact and nothing overflows. */
static double magnitude(const double *x, size_t n)
{
	double top = 0;
	int e;

	for (size_t i = 0; i < n; i++)
		top = fmax(top, fabs(x[i]));
	frexp(top, &e);
	return ldexp(1, e < -1020 ? -1020 : (e > 1023 ? 1023 : e));
}

/* Segment what is left in w.y, and report in terms of the whole series. */
static int segment_and_report(struct work *w, struct cvb_changepoints *c, struct cvb_err *err)
{
	int r = cvb_segmenter_init(&w->seg, w->y, w->n, err);

	if (r < 0)
		return r;
	segment_series(w);
	prune_weak(w);
	settle(w);
	c->sd = w->sd * w->scale;
	c->phi = w->phi;
	r = report(w, c, err);
	label_returns(w, c);
	for (size_t i = 0; i < c->n_cp; i++) {
		c->cp[i].index = c->cp[i].index ? w->at[c->cp[i].index] : 0;
		c->cp[i].end = w->at[c->cp[i].end];
	}
	cvb_segmenter_done(&w->seg);
	return r;
}

/* Search n points that are all segmented; c->cp and c->spike have room. */
static int search(const double *x, size_t n, double beta, struct cvb_changepoints *c,
		  struct cvb_err *err)
{
	_cleanup_free_ double *memory = calloc(n, 3 * sizeof(*memory));
	_cleanup_free_ size_t *at = calloc(n + 1, sizeof(*at));
	struct work w = {.n = n, .at = at, .scale = magnitude(x, n)};
	double centre, *z;

	if (!memory || !at)
		return cvb_err_set(err, -ENOMEM, "out of memory for %zu points", n);
	w.y = memory;
	w.tmp = memory + n;
	z = memory + 2 * n;
	for (size_t i = 0; i < n; i++)
		w.tmp[i] = x[i] / w.scale;
	centre = median_of(w.tmp, n);
	for (size_t i = 0; i < n; i++)
		w.y[i] = z[i] = x[i] / w.scale - centre;
	w.noise = n > 1 ? neighbour_noise(&w, centre) : 0;
	if (w.noise == 0) {
		c->sd = n > 1 ? 0 : NAN;
		return 0;
	}
	if (n < CVB_CHANGEPOINT_MIN_N) {
		cvb_mean_sd(x, n, &centre, &c->sd);
		return 0;
	}
	/* from here on in units of the noise: squares neither vanish nor overflow */
	w.scale *= w.noise;
	for (size_t i = 0; i < n; i++)
		z[i] /= w.noise;
	w.noise = 1;
	hampel(z, &w, c);
	w.penalty = beta * log(sqrt((double)w.n * typical_n));
	return segment_and_report(&w, c, err);
}

/* Block medians for a series too long to be segmented point by point. */
static int search_blocks(const double *x, size_t n, double beta, struct cvb_changepoints *c,
			 struct cvb_err *err)
{
	size_t block = c->block, nb = n / block;
	_cleanup_free_ double *m = calloc(nb, sizeof(*m));
	_cleanup_free_ double *tmp = calloc(3 * block, sizeof(*tmp));
	int r;

	if (!m || !tmp)
		return cvb_err_set(err, -ENOMEM, "out of memory for %zu points", n);
	for (size_t b = 0; b < nb; b++) {
		size_t len = b + 1 < nb ? block : n - b * block;

		len = cvb_min(len, 3 * block);
		memcpy(tmp, x + b * block, len * sizeof(*tmp));
		m[b] = median_of(tmp, len);
	}
	r = search(m, nb, beta, c, err);
	for (size_t k = 0; r == 0 && k < c->n_cp; k++) {
		size_t b = c->cp[k].index;

		c->cp[k].index = b * block;
		c->cp[k].end = c->cp[k].end < nb ? c->cp[k].end * block : n;
		if (c->cp[k].label != CVB_CHANGEPOINT_TREND && b >= 2 && b + 2 < nb)
			c->cp[k].index = place(x, (b - 1) * block, (b + 1) * block, b * block,
					       m[b - 2], m[b + 1]);
	}
	return r;
}

int cvb_changepoints_find(const double *x, size_t n, double beta, struct cvb_changepoints *ret,
			  struct cvb_err *err)
{
	struct cvb_changepoints c = {.n = n, .block = 1};
	int r;

	if (!n)
		return cvb_err_set(err, -EINVAL, "there are no values to search for changes");
	if (!(beta > 0) || isinf(beta))
		return cvb_err_set(err, -EINVAL, "beta is %g, it must be positive", beta);
	for (size_t i = 0; i < n; i++)
		if (!isfinite(x[i]))
			return cvb_err_set(err, -EINVAL, "value %zu of %zu is not finite (%g)",
					   i + 1, n, x[i]);
	c.cp = calloc(n, sizeof(*c.cp));
	c.spike = calloc(n, sizeof(*c.spike));
	if (!c.cp || !c.spike) {
		cvb_changepoints_done(&c);
		return cvb_err_set(err, -ENOMEM, "out of memory for %zu points", n);
	}
	if (n > CVB_CHANGEPOINT_EXACT) {
		c.block = (n + CVB_CHANGEPOINT_EXACT - 1) / CVB_CHANGEPOINT_EXACT;
		r = search_blocks(x, n, beta, &c, err);
	} else {
		r = search(x, n, beta, &c, err);
	}
	if (r < 0) {
		cvb_changepoints_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}
