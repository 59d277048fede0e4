/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rounds that two arms have in common, and how closely they belong together.
 */
#include "campaign/verdict_part.h"
#include "core/util.h"

#include <errno.h>
#include <limits.h>

static bool before(const struct cvb_model_point *x, const struct cvb_model_point *y)
{
	return x->session < y->session || (x->session == y->session && x->round < y->round);
}

/* While the rounds of one session are matched in order. */
struct order {
	unsigned session;
	uint64_t last_ns; /* latest start of the round before */
	bool paired;
};

/* Rounds of a pair alternate: both samples of one are begun before either of the next. */
static void watch_order(struct order *o, const struct cvb_model_point *x,
			const struct cvb_model_point *y)
{
	uint64_t first = cvb_min(x->start_ns, y->start_ns);
	uint64_t last = cvb_max(x->start_ns, y->start_ns);

	if (x->session != o->session)
		o->last_ns = 0;
	o->session = x->session;
	if (!first || last - first > CVB_PAIR_GAP_NS || first < o->last_ns)
		o->paired = false;
	o->last_ns = last;
}

bool cvb_verdict_usable(enum cvb_disturbance disturbed, enum cvb_match which)
{
	/* a clock that is wrong makes the value meaningless, not just disturbed */
	return !disturbed || (which == CVB_MATCH_DISTURBED && disturbed != CVB_DISTURBED_CLOCK);
}

int cvb_verdict_match(const struct cvb_model_series *s, int base, int test, unsigned last_session,
		      enum cvb_match which, struct cvb_matched *ret, struct cvb_err *err)
{
	const struct cvb_model_points *b = &s->points[base], *t = &s->points[test];
	struct order order = {.paired = true};

	*ret = (struct cvb_matched){.v = calloc(cvb_min(b->n, t->n) + 1, sizeof(*ret->v)),
				    .pairing = CVB_PAIRING_NONE};
	if (!ret->v)
		return cvb_err_set(err, -ENOMEM, "out of memory judging %s", s->key);
	for (size_t i = 0, k = 0; i < b->n && k < t->n;) {
		const struct cvb_model_point *x = &b->v[i], *y = &t->v[k];
		/* a wrong clock is the worse news of two: it comes last in the enum */
		enum cvb_disturbance disturbed = cvb_max(x->disturbed, y->disturbed);

		if (cvb_max(x->session, y->session) > last_session)
			break;
		if (before(x, y)) {
			i++;
			continue;
		}
		if (before(y, x)) {
			k++;
			continue;
		}
		/* an absolute gate's arm is its own base */
		if (base != test)
			watch_order(&order, x, y);
		ret->by[disturbed]++;
		ret->voided += disturbed != CVB_UNDISTURBED;
		if (cvb_verdict_usable(disturbed, which))
			ret->v[ret->n++] = (struct cvb_pair){.session = x->session,
							     .round = x->round,
							     .base = x->value,
							     .test = y->value};
		i++;
		k++;
	}
	if (ret->n)
		ret->pairing = order.paired ? CVB_PAIRING_PAIR : CVB_PAIRING_BLOCK;
	return 0;
}

void cvb_matched_done(struct cvb_matched *m)
{
	free(m->v);
	*m = (struct cvb_matched){0};
}

bool cvb_verdict_ratio(const struct cvb_model_series *s, int base, int test, double alpha,
		       struct cvb_ratio *ret)
{
	struct cvb_matched pairs;
	struct cvb_err ignored;
	bool ok;

	if (cvb_verdict_match(s, base, test, UINT_MAX, CVB_MATCH_UNDISTURBED, &pairs, &ignored) < 0)
		return false;
	ok = pairs.n > 0 && cvb_ratio_paired(pairs.v, pairs.n, s->better == CVB_LOWER_IS_BETTER,
					     alpha, ret, &ignored) == 0;
	cvb_matched_done(&pairs);
	return ok;
}
