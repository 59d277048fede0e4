/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the attempts that count said, all sessions together.
 */
#include "campaign/model_slot.h"
#include "core/util.h"
#include "stats/steady.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* Sums while one cell is merged. */
struct steal {
	double sum;
	double max;
	unsigned n;
};

/* "session 2: reason"; with one planned session the number says nothing. */
static char *session_text(const struct cvb_model *m, unsigned session, const char *reason)
{
	return m->sessions > 1 ? cvb_strf("session %u: %s", session, reason) : strdup(reason);
}

static int set_reason(const struct cvb_model *m, char **at, unsigned session, const char *reason)
{
	char *text = session_text(m, session, reason ? reason : "no reason was given");

	if (!text)
		return -ENOMEM;
	free(*at);
	*at = text;
	return 0;
}

/*
 * The worst outcome counts.  A benchmark that ran in some sessions and was unsupported in others is
 * "failed": its sessions cannot be compared as if nothing had changed.
 */
static int merge_outcome(const struct cvb_model *m, struct cvb_model_cell *cell,
			 const struct cvb_slot_arm *a, unsigned session)
{
	enum cvb_model_outcome o = a->outcome, was = cell->outcome;

	if (o == CVB_MODEL_NONE)
		return 0;
	if ((was == CVB_MODEL_OK && o == CVB_MODEL_UNSUPPORTED) ||
	    (was == CVB_MODEL_UNSUPPORTED && o == CVB_MODEL_OK)) {
		_cleanup_free_ char *why =
			cvb_strf("it ran in some sessions and was unsupported in others (%s)",
				 o == CVB_MODEL_OK ? cell->reason : a->reason);

		cell->outcome = CVB_MODEL_FAILED;
		return why ? set_reason(m, &cell->reason, session, why) : -ENOMEM;
	}
	if (o <= was)
		return 0;
	cell->outcome = o;
	return o == CVB_MODEL_OK ? 0 : set_reason(m, &cell->reason, session, a->reason);
}

static bool round_done(const struct cvb_slot *slot, unsigned round)
{
	size_t lo = 0, hi = slot->n_rounds;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (slot->rounds[mid] < round)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < slot->n_rounds && slot->rounds[lo] == round;
}

static bool any_done(const struct cvb_slot_arm *a, const struct cvb_slot *slot)
{
	for (size_t k = 0; k < a->n_rows; k++)
		if (round_done(slot, a->rows[k].round))
			return true;
	return false;
}

static int add_points(struct cvb_model *m, const struct cvb_slot_arm *a,
		      const struct cvb_slot *slot, unsigned arm, unsigned session)
{
	for (size_t i = 0; i < a->n_series; i++) {
		struct cvb_model_points *p = &m->series[a->series[i]]->points[arm];
		struct cvb_model_point *bigger =
			reallocarray(p->v, p->n + a->n_rows + 1, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		p->v = bigger;
		p->sessions_steady += a->steady && a->steady[i] == CVB_STEADY_REACHED;
		p->sessions_unsteady += a->steady && a->steady[i] == CVB_STEADY_NONE;
		p->sessions += any_done(a, slot);
		for (size_t k = 0; k < a->n_rows; k++) {
			const struct cvb_slot_row *row = &a->rows[k];

			if (!round_done(slot, row->round))
				continue;
			p->v[p->n++] = (struct cvb_model_point){.session = session,
								.round = row->round,
								.value = row->values[i],
								.start_ns = row->start_ns,
								.disturbed = row->disturbed};
		}
	}
	return 0;
}

static void add_steal(struct steal *st, const struct cvb_slot_arm *a, const struct cvb_slot *slot)
{
	for (size_t k = 0; k < a->n_rows; k++) {
		double s = a->rows[k].steal_ratio;

		/* rounds that are void for their steal do not count twice */
		if (isnan(s) || a->rows[k].disturbed || !round_done(slot, a->rows[k].round))
			continue;
		st->sum += s;
		st->max = st->n ? fmax(st->max, s) : s;
		st->n++;
	}
}

/* Threads and options are those of the first session, or the sessions did not do the same work. */
static int watch_change(struct cvb_model_cell *cell, const struct cvb_slot_arm *a, unsigned session)
{
	bool workers = cell->workers && a->workers != cell->workers;

	if (cell->changed || !cell->options || (!workers && json_equal(cell->options, a->options)))
		return 0;
	cell->changed = workers ? cvb_strf("%u threads in session %u, %u before", a->workers,
					   session, cell->workers)
				: cvb_strf("other options in session %u than before", session);
	return cell->changed ? 0 : -ENOMEM;
}

static void keep_meta(struct cvb_model_cell *cell, const struct cvb_slot_arm *a)
{
	cell->emulated = cell->emulated || a->emulated;
	cell->deterministic = cell->deterministic || a->deterministic;
	cell->devtools = cell->devtools || a->devtools;
	if (a->outcome != CVB_MODEL_OK && a->outcome != CVB_MODEL_UNTRUSTED)
		return;
	json_decref(cell->options);
	json_decref(cell->notes);
	json_decref(cell->iters);
	json_decref(cell->left_out);
	cell->options = json_incref(a->options);
	cell->notes = json_incref(a->notes);
	cell->iters = json_incref(a->iters);
	cell->left_out = json_incref(a->left_out);
	cell->workers = a->workers;
	cell->timer_ns = cvb_max(cell->timer_ns, a->timer_ns);
	cell->clock_error_ratio = fmax(cell->clock_error_ratio, a->clock_error_ratio);
	if (a->shortest_ns && (!cell->shortest_ns || a->shortest_ns < cell->shortest_ns))
		cell->shortest_ns = a->shortest_ns;
}

static int apply_voids(const struct cvb_model *m, struct cvb_model_cell *cell,
		       const struct cvb_slots *slots, const struct cvb_slot *slot, unsigned arm,
		       unsigned session)
{
	for (size_t i = 0; i < slots->n_voids && !cell->invalid; i++) {
		const struct cvb_void_mark *v = &slots->voids[i];

		if (v->arm == arm && v->session == session && v->attempt == slot->attempt &&
		    set_reason(m, &cell->invalid, session, v->reason) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int merge_cell(struct cvb_model *m, const struct cvb_slots *slots, unsigned bench,
		      unsigned arm)
{
	struct cvb_model_cell *cell = &m->benches[bench].cells[arm];
	struct steal st = {0};

	for (unsigned session = 1; session <= m->sessions; session++) {
		const struct cvb_slot *slot =
			slots->v[(size_t)(session - 1) * m->n_benches + bench];
		const struct cvb_slot_arm *a = slot ? cvb_slot_arm(slot, arm) : NULL;

		if (!a || a->outcome == CVB_MODEL_NONE)
			continue;
		if (a->options && watch_change(cell, a, session) < 0)
			return -ENOMEM;
		keep_meta(cell, a);
		if (merge_outcome(m, cell, a, session) < 0)
			return -ENOMEM;
		/* untrusted values are shown, marked as such; failed ones stopped half-way */
		if (a->outcome != CVB_MODEL_OK && a->outcome != CVB_MODEL_UNTRUSTED)
			continue;
		add_steal(&st, a, slot);
		if (add_points(m, a, slot, arm, session) < 0 ||
		    apply_voids(m, cell, slots, slot, arm, session) < 0)
			return -ENOMEM;
	}
	cell->steal_ratio = st.n ? st.sum / st.n : NAN;
	cell->steal_max_ratio = st.n ? st.max : NAN;
	m->arms[arm].emulated = m->arms[arm].emulated || cell->emulated;
	m->arms[arm].deterministic = m->arms[arm].deterministic || cell->deterministic;
	return 0;
}

int cvb_model_merge(struct cvb_model *m, const struct cvb_slots *slots, struct cvb_err *err)
{
	for (unsigned b = 0; b < m->n_benches; b++) {
		struct cvb_model_bench *bench = &m->benches[b];

		for (unsigned a = 0; a < m->n_arms; a++)
			if (merge_cell(m, slots, b, a) < 0)
				return cvb_err_set(err, -ENOMEM, "out of memory reading %s",
						   m->path);
		for (unsigned s = 0; s < m->sessions; s++) {
			const struct cvb_slot *slot = slots->v[(size_t)s * m->n_benches + b];

			bench->rounds_done += slot ? (unsigned)slot->n_rounds : 0;
			bench->sessions_done += slot && slot->finished;
		}
	}
	return 0;
}
