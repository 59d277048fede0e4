/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which benchmarks and metrics of two sides are the same work, and what keeps others from a ratio.
 */
#include "campaign/compare_part.h"

#include "core/util.h"

#include <errno.h>
#include <string.h>

/* --- series ----------------------------------------------------------------------------------- */

static bool is_called(const struct cvb_side_series *s, const char *name)
{
	return !strcmp(name, s->metric) || !strcmp(name, s->title);
}

static bool wanted(const struct cvb_matcher *m, const struct cvb_side_series *s)
{
	for (char **w = m->plan->metrics; w && *w; w++)
		if (is_called(s, *w))
			return true;
	return !m->plan->metrics;
}

/* Does the name belong to the benchmark?  One that failed has no metric to show. */
static bool covers(const struct cvb_side_bench *b, const char *name)
{
	size_t n = strlen(b->name);

	if (b->fault != CVB_SIDE_GOOD && !strncmp(name, b->name, n) && name[n] == '/')
		return true;
	for (size_t i = 0; i < b->series.n; i++)
		if (is_called(b->series.v[i], name))
			return true;
	return false;
}

bool cvb_match_known(const struct cvb_matcher *m, const char *metric)
{
	for (int i = 0; i < 2; i++) {
		for (size_t a = 0; a < m->side[i]->arms.n; a++) {
			const struct cvb_side_arm *arm = m->side[i]->arms.v[a];

			if (arm->unsupported)
				return true; /* who knows */
			for (size_t k = 0; k < arm->benches.n; k++)
				if (covers(arm->benches.v[k], metric))
					return true;
		}
	}
	return false;
}

static bool zero(const struct cvb_side_series *s)
{
	return s->samples && s->zeros == s->samples;
}

/* Does something keep the two from having a ratio?  Then it was said. */
static bool spoilt(struct cvb_matcher *m, const struct cvb_place *at,
		   const struct cvb_side_series *b, const struct cvb_side_series *c)
{
	const struct cvb_side_series *s[] = {b, c};

	if (strcmp(b->unit, c->unit) != 0) {
		cvb_match_error(m, at, false, "the unit is %s in base, %s in current", b->unit,
				c->unit);
		return true;
	}
	if (b->better != c->better) {
		cvb_match_error(m, at, false, "%s is better in base, %s in current",
				cvb_better_text(b->better), cvb_better_text(c->better));
		return true;
	}
	if (zero(b) && zero(c)) {
		_cleanup_free_ char *what = cvb_place_text(at);

		cvb_match_note(m, "%s is 0 on both sides: there is no ratio, and no difference",
			       what ? what : "?");
		return true;
	}
	for (int i = 0; i < 2; i++) {
		if (s[i]->bad || !s[i]->n) {
			cvb_match_error(m, at, false, "%s: %s", cvb_side_names[i],
					s[i]->bad ? s[i]->bad : "no session has a value");
			return true;
		}
		if (s[i]->partly && !m->plan->common) {
			cvb_match_error(
				m, at, false,
				"only %u of %u sessions of %s have it; --common compares those",
				s[i]->sessions, at->bench->sessions, cvb_side_names[i]);
			return true;
		}
	}
	return false;
}

static void match_series(struct cvb_matcher *m, const struct cvb_place *at,
			 const struct cvb_side_bench *other)
{
	const struct cvb_side_series *b = at->series, *c = cvb_table_find(&other->series, b->key);

	if (!c) {
		cvb_match_one_side(m, at, 0, NULL);
		return;
	}
	if (spoilt(m, at, b, c))
		return;
	if (m->n == m->room) {
		size_t room = m->room ? 2 * m->room : 64;
		void *more = reallocarray(m->rows, room, sizeof(*m->rows));

		if (!more) {
			m->no_memory = true;
			return;
		}
		m->rows = more;
		m->room = room;
	}
	m->rows[m->n++] = (struct cvb_compared){
		.arm = at->arm, .bench = {at->bench, other}, .series = {b, c}};
}

/* --- benchmarks ------------------------------------------------------------------------------- */

/* Before the label: none, some or all of the sessions carry it. */
static const char *share(const struct cvb_side_bench *b, enum cvb_side_label label)
{
	return !b->labelled[label] ? "not " : cvb_compare_labelled(b, label) ? "" : "partly ";
}

/* Emulated is no measure of measured. */
static bool mixed(struct cvb_matcher *m, const struct cvb_place *at,
		  const struct cvb_side_bench *other)
{
	for (enum cvb_side_label l = 0; l < CVB_SIDE_LABELS && !m->plan->mix; l++) {
		const char *b = share(at->bench, l), *c = share(other, l);

		if (!strcmp(b, c) && *b != 'p')
			continue;
		cvb_match_error(
			m, at, false,
			"base is %s%s, current is %s%s: they are not the same kind of number; "
			"--mix compares them all the same",
			b, cvb_side_label_names[l], c, cvb_side_label_names[l]);
		return true;
	}
	return false;
}

static char *value_text(const json_t *v)
{
	char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : strdup("not set");

	if (text && strlen(text) > 80)
		memcpy(text + 77, "...", 4);
	return text;
}

/* Other work is no measure either: the first option that differs. */
static bool other_work(struct cvb_matcher *m, const struct cvb_place *at,
		       const struct cvb_side_bench *other)
{
	json_t *options[] = {at->bench->options, other->options};

	for (int i = 0; i < 2; i++) {
		for (void *it = json_object_iter(options[i]); it;
		     it = json_object_iter_next(options[i], it)) {
			const char *key = json_object_iter_key(it);
			json_t *b = json_object_get(options[0], key);
			json_t *c = json_object_get(options[1], key);
			_cleanup_free_ char *tb = NULL, *tc = NULL;

			if (b && c && json_equal(b, c))
				continue;
			tb = value_text(b);
			tc = value_text(c);
			cvb_match_error(m, at, false, "option %.60s is %s in base, %s in current",
					key, tb ? tb : "?", tc ? tc : "?");
			return true;
		}
	}
	if (at->bench->workers && other->workers && at->bench->workers != other->workers) {
		cvb_match_error(m, at, false, "%u workers in base, %u in current",
				at->bench->workers, other->workers);
		return true;
	}
	return false;
}

static bool bench_spoilt(struct cvb_matcher *m, const struct cvb_place *at,
			 const struct cvb_side_bench *other)
{
	const struct cvb_side_bench *b[] = {at->bench, other};
	bool bad = false;

	if (b[0]->fault == CVB_SIDE_UNSUPPORTED && b[1]->fault == CVB_SIDE_UNSUPPORTED) {
		_cleanup_free_ char *what = cvb_place_text(at);

		m->unsupported++;
		cvb_match_note(m, "%s is unsupported on both sides: %s", what ? what : "?",
			       b[0]->bad ? b[0]->bad : "?");
		return true;
	}
	for (int i = 0; i < 2; i++) {
		if (b[i]->fault == CVB_SIDE_GOOD)
			continue;
		bad = true;
		if (b[i]->fault == CVB_SIDE_UNSUPPORTED && b[!i]->fault == CVB_SIDE_GOOD)
			cvb_match_one_side(m, at, !i, b[i]->bad);
		else
			cvb_match_error(m, at, b[i]->fault == CVB_SIDE_INVALID, "%s: %s",
					cvb_side_names[i], b[i]->bad ? b[i]->bad : "?");
	}
	for (int i = 0; i < 2 && !bad; i++) {
		if (!b[i]->partly || m->plan->common)
			continue;
		bad = true;
		cvb_match_error(m, at, false,
				"only %u of %u sessions of %s have it; --common compares those",
				b[i]->sessions, m->side[i]->sessions, cvb_side_names[i]);
	}
	return bad || mixed(m, at, other) || other_work(m, at, other);
}

/* Is there anything in it that is to be compared at all? */
static bool bench_wanted(const struct cvb_matcher *m, const struct cvb_side_bench *b)
{
	for (char **w = m->plan->metrics; w && *w; w++)
		if (covers(b, *w))
			return true;
	return !m->plan->metrics;
}

static void match_bench(struct cvb_matcher *m, struct cvb_place at,
			const struct cvb_side_arm *other_arm)
{
	const struct cvb_side_bench *b = at.bench,
				    *c = cvb_table_find(&other_arm->benches, b->name);

	if (!bench_wanted(m, b) && (!c || !bench_wanted(m, c)))
		return;
	if (!c) {
		cvb_match_one_side(m, &at, 0, NULL);
		return;
	}
	if (bench_spoilt(m, &at, c))
		return;
	for (size_t i = 0; i < b->series.n; i++) {
		at.series = b->series.v[i];
		if (wanted(m, at.series))
			match_series(m, &at, c);
	}
	for (size_t i = 0; i < c->series.n; i++) {
		at.series = c->series.v[i];
		if (wanted(m, at.series) && !cvb_table_find(&b->series, at.series->key))
			cvb_match_one_side(m, &at, 1, NULL);
	}
}

void cvb_match_benches(struct cvb_matcher *m, const struct cvb_side_arm *base,
		       const struct cvb_side_arm *current)
{
	struct cvb_place at = {.arm = base};

	for (size_t i = 0; i < base->benches.n; i++) {
		at.bench = base->benches.v[i];
		match_bench(m, at, current);
	}
	for (size_t i = 0; i < current->benches.n; i++) {
		at.bench = current->benches.v[i];
		if (!cvb_table_find(&base->benches, at.bench->name) && bench_wanted(m, at.bench))
			cvb_match_one_side(m, &at, 1, NULL);
	}
}
