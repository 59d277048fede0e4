/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Judgements into the verdicts document.
 */
#include "campaign/verdict_part.h"
#include "core/util.h"

#include <math.h>
#include <string.h>

json_t *cvb_verdict_number(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

/* "vm: tcg" for each side of the gate that has labels, "both: emulated" where they are the same. */
static json_t *gate_labels(const struct cvb_model *m, const struct cvb_gate *g)
{
	const char *const names[] = {g->arm, g->base};
	char labels[2][160] = {"", ""};
	json_t *list = json_array();

	for (size_t i = 0; i < 2; i++) {
		int a = cvb_model_arm(m, names[i]);

		if (a >= 0)
			cvb_model_labels(&m->arms[a], labels[i], sizeof(labels[i]));
	}
	bool same = !strcmp(labels[0], labels[1]);

	for (size_t i = 0; i < (same ? 1 : 2); i++) {
		_cleanup_free_ char *text = cvb_strf("%s: %s", same ? "both" : names[i], labels[i]);

		if (labels[i][0])
			json_array_append_new(list, json_string(text ? text : labels[i]));
	}
	return list;
}

static json_t *gate_json(const struct cvb_model *m, const struct cvb_gate *g,
			 const struct cvb_judgement *j)
{
	const struct cvb_ratio *r = j->has_ratio ? &j->ratio : NULL;
	bool report = g->kind == CVB_GATE_REPORT;
	json_t *params = j->series ? j->series->params : NULL;
	json_t *o = json_pack("{s:s, s:s, s:O?, s:s, s:s, s:s}", "id", g->id, "metric", g->metric,
			      "params", params, "arm", g->arm, "base", g->base, "kind",
			      cvb_gate_kind_names[g->kind]);

	if (!report)
		json_object_set_new(o, "margin", cvb_verdict_number(cvb_verdict_margin(g)));
	if (g->kind == CVB_GATE_ABSOLUTE)
		json_object_set_new(o, "limit", json_real(g->limit));
	json_object_set_new(o, "ratio", cvb_verdict_number(r ? r->ratio : NAN));
	json_object_set_new(o, "lower", cvb_verdict_number(r ? r->lower : NAN));
	json_object_set_new(o, "upper", cvb_verdict_number(r ? r->upper : NAN));
	json_object_set_new(o, "confidence", json_real(1 - (r ? j->alpha : CVB_GATE_ALPHA)));
	json_object_set_new(o, "estimator", json_string(cvb_ratio_estimator_names[g->estimator]));
	json_object_set_new(o, "method", json_string(cvb_ratio_method_names[r ? r->method : 0]));
	json_object_set_new(o, "sessions", json_integer(r ? r->sessions : 0));
	json_object_set_new(o, "rounds", json_integer(r ? r->rounds : 0));
	json_object_set_new(o, "rounds_voided", json_integer(j->voided));
	json_object_set_new(o, "pairing",
			    json_string(cvb_pairing_names[r ? j->pairing : CVB_PAIRING_NONE]));
	json_object_set_new(o, "no_steady_state", json_boolean(j->no_steady_state));
	json_object_set_new(o, "series", json_integer(j->matched));
	json_object_set_new(o, "labels", gate_labels(m, g));
	if (!report)
		json_object_set_new(o, "verdict", json_string(cvb_verdict_names[j->verdict]));
	json_object_set_new(o, "reason", json_string(j->reason));
	json_object_set_new(o, "sessions_needed",
			    j->sessions_needed ? json_integer(j->sessions_needed) : json_null());
	json_object_set_new(o, "next_look",
			    j->open && j->next_look ? json_integer(j->next_look) : json_null());
	return o;
}

/* A "report" row does not judge: its reason keeps only what explains missing numbers. */
static void strip_report(struct cvb_judgement *j)
{
	if (!j->has_ratio)
		return;
	free(j->reason);
	j->reason = j->matched > 1 ? cvb_strf("lowest of %u series is {%s}", j->matched,
					      j->series->params_key)
				   : strdup("");
	j->sessions_needed = 0;
}

static enum cvb_verdict overall_of(const struct cvb_gate *gates, const struct cvb_judgement *j,
				   size_t n)
{
	enum cvb_verdict worst = CVB_VERDICT_PASS;
	bool any = false;

	for (size_t i = 0; i < n; i++) {
		if (gates[i].kind == CVB_GATE_REPORT)
			continue;
		any = true;
		worst = cvb_max(worst, j[i].verdict);
	}
	return any ? worst : CVB_VERDICT_INCONCLUSIVE;
}

int cvb_verdict_document(const struct cvb_judging *c, const struct cvb_gate *gates,
			 struct cvb_judgement *j, size_t n, json_t *doc, struct cvb_err *err)
{
	const struct cvb_model *m = c->m;
	json_t *why = json_array(), *rows = json_array(), *reported = json_array(),
	       *aa = json_array(), *failures = json_array();
	enum cvb_verdict overall = overall_of(gates, j, n);
	int e = cvb_verdict_why_not(m, gates, j, n, why, err);

	for (size_t i = 0; i < n; i++) {
		bool report = gates[i].kind == CVB_GATE_REPORT;

		if (report)
			strip_report(&j[i]);
		json_array_append_new(report ? reported : rows, gate_json(m, &gates[i], &j[i]));
	}
	if (e == 0)
		e = cvb_verdict_failures(c, gates, j, n, failures, err);
	if (e == 0)
		e = cvb_verdict_aa(m, c->aa_alpha, aa, err);
	json_object_set_new(doc, "schema", json_string("cvmbench.verdict/1"));
	json_object_set_new(doc, "profile", json_string(m->profile));
	json_object_set_new(doc, "overall", json_string(cvb_verdict_names[overall]));
	json_object_set_new(doc, "certifiable", json_boolean(json_array_size(why) == 0));
	json_object_set_new(doc, "why_not", why);
	json_object_set_new(doc, "gates", rows);
	json_object_set_new(doc, "reported", reported);
	json_object_set_new(doc, "failures", failures);
	json_object_set_new(doc, "aa", aa);
	return e;
}

enum cvb_exit cvb_verdict_exit(const json_t *verdicts)
{
	const char *overall = json_string_value(json_object_get(verdicts, "overall"));

	for (int i = 0; overall && cvb_verdict_names[i]; i++)
		if (!strcmp(overall, cvb_verdict_names[i]))
			return cvb_verdict_code((enum cvb_verdict)i);
	return CVB_EXIT_INVALID;
}
