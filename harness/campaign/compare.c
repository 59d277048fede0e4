/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/compare_part.h"

#include "campaign/model.h"
#include "core/opt.h"
#include "core/util.h"
#include "report/text.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#define MAX_DIFFERENCES 40

const char *const cvb_side_names[] = {"base", "current"};

static const char *arm_name(const struct cvb_side_arm *a)
{
	return a && *a->name ? a->name : NULL;
}

/* "vm:mem.stream/triad{…}" as far as it is known. */
char *cvb_place_text(const struct cvb_place *p)
{
	const char *arm = arm_name(p->arm);
	const char *what = p->series ? p->series->title : p->bench ? p->bench->name : "";

	return cvb_strf("%s%s%s", arm ? arm : "", arm && *what ? ":" : "", what);
}

void cvb_match_note(struct cvb_matcher *m, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL, *plain = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	plain = cvb_text_plain(text, CVB_SIDE_REASON_BYTES);
	if (!plain || json_array_append_new(m->notes, json_string(plain)) < 0)
		m->no_memory = true;
}

void cvb_match_error(struct cvb_matcher *m, const struct cvb_place *at, bool invalid,
		     const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL, *plain = NULL;
	va_list ap;
	json_t *o;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	plain = cvb_text_plain(text, CVB_SIDE_REASON_BYTES);
	o = json_pack("{s:s?, s:O?, s:s?, s:s?, s:s, s:s}", "metric",
		      at->series ? at->series->metric : NULL, "params",
		      at->series ? at->series->params : NULL, "arm", arm_name(at->arm), "bench",
		      at->bench ? at->bench->name : NULL, "class", invalid ? "invalid" : "input",
		      "reason", plain ? plain : "?");
	if (!o || json_array_append_new(m->errors, o) < 0)
		m->no_memory = true;
}

/* What side `i` has and the other one has not. */
void cvb_match_one_side(struct cvb_matcher *m, const struct cvb_place *at, int i, const char *why)
{
	_cleanup_free_ char *what = cvb_place_text(at);

	if (m->plan->common)
		cvb_match_note(m, "%s is in %s (%s) only%s%s", what ? what : "?", cvb_side_names[i],
			       m->side[i]->path, why ? ": " : "", why ? why : "");
	else
		cvb_match_error(
			m, at, false,
			"it is in %s (%s) only, not in %s (%s)%s%s; --common compares the rest",
			cvb_side_names[i], m->side[i]->path, cvb_side_names[!i], m->side[!i]->path,
			why ? ": " : "", why ? why : "");
}

/* --- arms ------------------------------------------------------------------------------------- */

static void list_differences(struct cvb_matcher *m, const char *arm, const char *what,
			     const json_t *base, const json_t *current)
{
	size_t from = json_array_size(m->differences);

	cvb_side_diff(m->differences, what, base, current, MAX_DIFFERENCES);
	for (size_t i = from; i < json_array_size(m->differences); i++)
		json_object_set_new(json_array_get(m->differences, i), "arm",
				    arm ? json_string(arm) : json_null());
}

static void match_arm(struct cvb_matcher *m, const struct cvb_side_arm *b,
		      const struct cvb_side_arm *c)
{
	struct cvb_place at = {.arm = b};

	if (b->unsupported && c->unsupported) {
		m->unsupported++;
		cvb_match_note(m, "arm %s is unsupported on both sides: %s", b->name,
			       b->unsupported);
		return;
	}
	if (b->unsupported || c->unsupported) {
		cvb_match_one_side(m, &at, b->unsupported ? 1 : 0,
				   b->unsupported ? b->unsupported : c->unsupported);
		return;
	}
	list_differences(m, arm_name(b), "environment", b->environment, c->environment);
	cvb_match_benches(m, b, c);
}

static void match_arms(struct cvb_matcher *m)
{
	for (int i = 0; i < 2; i++) {
		const struct cvb_table *own = &m->side[i]->arms, *others = &m->side[!i]->arms;

		for (size_t a = 0; a < own->n; a++) {
			struct cvb_side_arm *arm = own->v[a];
			struct cvb_side_arm *other = cvb_table_find(others, arm->name);

			if (!other)
				cvb_match_one_side(m, &(struct cvb_place){.arm = arm}, i, NULL);
			else if (i == 0)
				match_arm(m, arm, other);
		}
	}
}

/* --- the document ----------------------------------------------------------------------------- */

static bool has_note(const struct cvb_side *s, const char *text)
{
	for (size_t i = 0; i < json_array_size(s->notes); i++)
		if (!strcmp(json_string_value(json_array_get(s->notes, i)), text))
			return true;
	return false;
}

/* What the sides' loaders noted; once if it is the same. */
static void pass_notes_on(struct cvb_matcher *m)
{
	for (int i = 0; i < 2; i++) {
		for (size_t k = 0; k < json_array_size(m->side[i]->notes); k++) {
			const char *text = json_string_value(json_array_get(m->side[i]->notes, k));
			bool both = has_note(m->side[!i], text);

			if (!both || i == 0)
				cvb_match_note(m, "%s: %s", both ? "both" : cvb_side_names[i],
					       text);
		}
	}
}

/* A metric that was asked for and is nowhere is a slip of the pen. */
static void check_wanted(struct cvb_matcher *m)
{
	struct cvb_place nowhere = {0};

	for (char **w = m->plan->metrics; w && *w; w++)
		if (!cvb_match_known(m, *w))
			cvb_match_error(m, &nowhere, false,
					"--metric %s: there is no such metric in either side", *w);
}

static json_t *side_json(const struct cvb_side *s)
{
	_cleanup_free_ char *path = cvb_text_plain(s->path, 1000);

	return json_pack("{s:s, s:s, s:I}", "path", path ? path : "?", "kind",
			 cvb_side_kind_names[s->kind], "sessions", (json_int_t)s->sessions);
}

static bool all_invalid(const json_t *errors)
{
	for (size_t i = 0; i < json_array_size(errors); i++) {
		const char *class =
			json_string_value(json_object_get(json_array_get(errors, i), "class"));

		if (!class || strcmp(class, "invalid") != 0)
			return false;
	}
	return true;
}

static const char *overall(const struct cvb_matcher *m)
{
	enum cvb_verdict worst = m->n ? CVB_VERDICT_PASS : CVB_VERDICT_UNSUPPORTED;

	if (!all_invalid(m->errors))
		return CVB_COMPARE_ERROR;
	if (json_array_size(m->errors))
		return cvb_verdict_names[CVB_VERDICT_INVALID];
	for (size_t i = 0; i < m->n; i++)
		worst = cvb_max(worst, m->rows[i].verdict);
	return cvb_verdict_names[worst];
}

static json_t *document(struct cvb_matcher *m)
{
	json_t *metrics = json_array();

	for (size_t i = 0; i < m->n; i++)
		json_array_append_new(metrics, cvb_compared_json(&m->rows[i], m->plan));
	return json_pack("{s:s, s:o, s:o, s:s, s:f, s:s?, s:s, s:o, s:O, s:O, s:O}", "schema",
			 "cvmbench.compare/1", "base", side_json(m->side[0]), "current",
			 side_json(m->side[1]), "kind", cvb_gate_rule_names[m->plan->rule],
			 "margin", m->plan->margin, "per", m->plan->per, "overall", overall(m),
			 "metrics", metrics, "errors", m->errors, "notes", m->notes, "differences",
			 m->differences);
}

static int check_plan(const struct cvb_compare_plan *p, struct cvb_err *err)
{
	if (!(p->margin > 0) || isinf(p->margin))
		return cvb_err_set(err, -EINVAL, "the margin is %g, but must be a positive number",
				   p->margin);
	if (p->rule == CVB_RULE_ABSOLUTE)
		return cvb_err_set(err, -EINVAL,
				   "two measurements have no limit that --kind absolute could use");
	if (p->rule == CVB_RULE_EQUIVALENCE && !(p->margin < 1 || p->margin > 1))
		return cvb_err_set(
			err, -EINVAL,
			"a margin of 1 leaves no room to be equivalent: 0.99 accepts 0.99 "
			"to 1 / 0.99");
	return 0;
}

/* Rows whose ratio no double can hold are errors, not verdicts. */
static void drop_wild(struct cvb_matcher *m)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->n; i++) {
		struct cvb_compared *row = &m->rows[i];
		struct cvb_place at = {row->arm, row->bench[0], row->series[0]};

		if (isfinite(row->ratio.ratio) && row->ratio.ratio > 0)
			m->rows[kept++] = *row;
		else
			cvb_match_error(m, &at, false, "the values are too far apart for a ratio");
	}
	m->n = kept;
}

int cvb_compare(const struct cvb_side *base, const struct cvb_side *current,
		const struct cvb_compare_plan *plan, json_t **ret, struct cvb_err *err)
{
	_cleanup_json_ json_t *errors = json_array(), *notes = json_array(),
			      *differences = json_array(), *doc = NULL;
	struct cvb_matcher m = {.side = {base, current},
				.plan = plan,
				.errors = errors,
				.notes = notes,
				.differences = differences};
	struct cvb_place nowhere = {0};
	int r = check_plan(plan, err);

	if (r == 0 && (base->kind == CVB_SIDE_BUNDLE) != (current->kind == CVB_SIDE_BUNDLE))
		r = cvb_err_set(err, -EINVAL,
				"%s is a bundle and %s is not: a bundle is compared with a bundle, "
				"result documents with result documents",
				base->kind == CVB_SIDE_BUNDLE ? base->path : current->path,
				base->kind == CVB_SIDE_BUNDLE ? current->path : base->path);
	if (r < 0)
		return r;
	list_differences(&m, NULL, "tool", base->tool, current->tool);
	match_arms(&m);
	check_wanted(&m);
	pass_notes_on(&m);
	r = cvb_compare_judge(m.rows, m.n, plan, err);
	if (r == 0)
		drop_wild(&m);
	if (r == 0 && !m.n && !m.unsupported && !json_array_size(errors))
		cvb_match_error(&m, &nowhere, false, "no metric is on both sides");
	if (r == 0)
		doc = document(&m);
	free(m.rows);
	if (r < 0)
		return r;
	if (m.no_memory || !doc)
		return cvb_err_set(err, -ENOMEM, "out of memory comparing %s", base->path);
	*ret = CVB_TAKE(doc);
	return 0;
}

enum cvb_exit cvb_compare_exit(const json_t *doc)
{
	const char *worst = json_string_value(json_object_get(doc, "overall"));

	if (worst && !strcmp(worst, CVB_COMPARE_ERROR))
		return CVB_EXIT_USAGE;
	for (int v = 0; worst && cvb_verdict_names[v]; v++)
		if (!strcmp(worst, cvb_verdict_names[v]))
			return cvb_verdict_code((enum cvb_verdict)v);
	return CVB_EXIT_INTERNAL;
}
