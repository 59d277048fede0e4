/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What makes a campaign non-certifiable, and its list of failures.
 */
#include "campaign/verdict_part.h"
#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

static void CVB_PRINTF(2, 3) add(json_t *list, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (text)
		json_array_append_new(list, json_string(text));
	free(text);
}

static bool judges(const struct cvb_gate *g)
{
	return g->kind != CVB_GATE_REPORT;
}

static bool uses(const struct cvb_gate *g, const char *arm)
{
	return judges(g) && (!strcmp(g->arm, arm) || !strcmp(g->base, arm));
}

/* "gate a", "gates a and b", "gates a, b, c and 4 more" that use the arm; "" for none. */
static const char *gates_of(const struct cvb_gate *gates, size_t n, const char *arm, char *buf,
			    size_t buf_bytes)
{
	size_t users = 0, shown = 0, used = 0;

	for (size_t i = 0; i < n; i++)
		users += uses(&gates[i], arm);
	buf[0] = '\0';
	if (!users)
		return buf;
	used = (size_t)snprintf(buf, buf_bytes, "gate%s", users > 1 ? "s" : "");
	for (size_t i = 0; i < n && shown < 3 && used < buf_bytes; i++) {
		const char *sep = !shown ? " " : shown + 1 == users ? " and " : ", ";

		if (!uses(&gates[i], arm))
			continue;
		used += (size_t)snprintf(buf + used, buf_bytes - used, "%s%.100s", sep,
					 gates[i].id);
		shown++;
	}
	if (users > shown && used < buf_bytes)
		snprintf(buf + used, buf_bytes - used, " and %zu more", users - shown);
	return buf;
}

static void why_not_arms(const struct cvb_model *m, const struct cvb_gate *gates, size_t n,
			 json_t *list)
{
	for (size_t i = 0; i < m->n_arms; i++) {
		const struct cvb_model_arm *a = &m->arms[i];
		char users[512];

		if (!*gates_of(gates, n, a->name, users, sizeof(users)))
			continue;
		if (a->state == CVB_MODEL_ARM_UNSUPPORTED)
			add(list, "Arm %s, used by %s, cannot run here: %s.", a->name, users,
			    a->reason);
		else if (a->sessions_unsupported)
			add(list, "Arm %s, used by %s, could not run in %u session%s: %s.", a->name,
			    users, a->sessions_unsupported, a->sessions_unsupported == 1 ? "" : "s",
			    a->reason);
		if (a->state == CVB_MODEL_ARM_UNSEEN)
			add(list, "Arm %s, used by %s, was not reached.", a->name, users);
		if (a->accel_changed)
			add(list,
			    "Arm %s, used by %s, ran under kvm in some sessions and under tcg in "
			    "others.",
			    a->name, users);
		else if (a->accel && !strcmp(a->accel, "tcg"))
			add(list,
			    "Arm %s, used by %s, ran under tcg: its CPU was emulated in software, "
			    "so its times are not those of hardware.",
			    a->name, users);
		if (a->emulated)
			add(list, "Arm %s, used by %s, has an emulated GPU, not a real one.",
			    a->name, users);
		if (a->deterministic)
			add(list,
			    "Arm %s, used by %s, was timed on a virtual clock: its numbers are "
			    "computed, not measured.",
			    a->name, users);
		if (a->bounce)
			add(list,
			    "Arm %s, used by %s, is a normal VM forced through bounce buffers: it "
			    "shows the cost of the copy only and is not a confidential VM.",
			    a->name, users);
	}
}

static void why_not_sessions(const struct cvb_model *m, json_t *list)
{
	unsigned first = 0;

	if (m->sessions < CVB_CERTIFY_SESSIONS)
		add(list,
		    "The campaign plans %u session%s; a certificate needs at least %d, because only "
		    "sessions show how much one boot differs from the next.",
		    m->sessions, m->sessions == 1 ? "" : "s", CVB_CERTIFY_SESSIONS);
	unsigned wanted = m->stopped_after ? m->stopped_after : m->sessions;

	for (unsigned s = 0; s < wanted && !first; s++)
		if (!m->session[s].complete)
			first = s + 1;
	if (first)
		add(list, "Only %u of %u sessions were completed; session %u stopped%s%s.",
		    m->sessions_complete, wanted, first, m->abort ? " with: " : " before its end",
		    m->abort ? m->abort : "");
}

static void why_not_gate(const struct cvb_model *m, const struct cvb_gate *g,
			 const struct cvb_judgement *j, json_t *list)
{
	if (j->aa_excludes_one)
		add(list,
		    "Gate %s: arm %s measured again differs from itself (the A/A interval excludes "
		    "1).",
		    g->id, g->base);
	else if (j->verdict == CVB_VERDICT_INVALID)
		add(list, "Gate %s of arm %s is invalid: %s.", g->id, g->arm, j->reason);
	if (j->verdict == CVB_VERDICT_UNSUPPORTED && j->matched)
		add(list, "Gate %s: %s.", g->id, j->reason);
	if (j->has_ratio && m->sessions >= CVB_CERTIFY_SESSIONS &&
	    j->ratio.sessions < CVB_CERTIFY_SESSIONS)
		add(list, "Gate %s of arm %s rests on %u session%s; at least %d are needed.", g->id,
		    g->arm, j->ratio.sessions, j->ratio.sessions == 1 ? "" : "s",
		    CVB_CERTIFY_SESSIONS);
}

/* Gates whose base arm no A/A arm measured again, one sentence a base arm. */
static void why_not_aa(const struct cvb_model *m, const struct cvb_gate *gates,
		       const struct cvb_judgement *j, size_t n, json_t *list)
{
	for (size_t a = 0; a < m->n_arms; a++) {
		char ids[512] = "";
		size_t used = 0, count = 0;

		for (size_t i = 0; i < n; i++) {
			if (!judges(&gates[i]) || !j[i].has_ratio || !j[i].aa_missing ||
			    strcmp(gates[i].base, m->arms[a].name) != 0)
				continue;
			if (count++ < 3 && used < sizeof(ids))
				used += (size_t)snprintf(ids + used, sizeof(ids) - used, "%s%.100s",
							 count > 1 ? ", " : "", gates[i].id);
		}
		if (count > 3 && used < sizeof(ids))
			snprintf(ids + used, sizeof(ids) - used, " and %zu more", count - 3);
		if (count)
			add(list,
			    "No A/A arm measured arm %s again for gate%s %s, so that the noise of "
			    "the machine is unknown there.",
			    m->arms[a].name, count > 1 ? "s" : "", ids);
	}
}

/* A benchmark that is unsupported on an arm which itself is fine. */
static bool bench_unsupported(const struct cvb_model *m, const struct cvb_gate *g,
			      const struct cvb_judgement *j)
{
	int arm = cvb_model_arm(m, g->arm), base = cvb_model_arm(m, g->base);

	return j->verdict == CVB_VERDICT_UNSUPPORTED && arm >= 0 && base >= 0 &&
	       m->arms[arm].state == CVB_MODEL_ARM_READY &&
	       m->arms[base].state == CVB_MODEL_ARM_READY;
}

int cvb_verdict_why_not(const struct cvb_model *m, const struct cvb_gate *gates,
			const struct cvb_judgement *j, size_t n, json_t *list, struct cvb_err *err)
{
	bool any = false;

	(void)err;
	for (size_t i = 0; i < n; i++)
		any = any || judges(&gates[i]);
	if (!any)
		add(list, "The profile has no gate, so there is nothing to certify.");
	why_not_sessions(m, list);
	why_not_arms(m, gates, n, list);
	for (size_t i = 0; i < n; i++) {
		if (!judges(&gates[i]))
			continue;
		if (bench_unsupported(m, &gates[i], &j[i]))
			add(list, "Gate %s: %s.", gates[i].id, j[i].reason);
		else
			why_not_gate(m, &gates[i], &j[i], list);
	}
	why_not_aa(m, gates, j, n, list);
	return 0;
}

/* ---- failures -------------------------------------------------------------------------------- */

int cvb_verdict_failures(const struct cvb_judging *c, const struct cvb_gate *gates,
			 const struct cvb_judgement *j, size_t n, json_t *list, struct cvb_err *err)
{
	_cleanup_free_ double *holm = calloc(c->n_p + 1, sizeof(*holm));
	int r = holm ? cvb_holm(c->p, c->n_p, holm) : -ENOMEM;

	if (r < 0)
		return cvb_err_set(err, r, "out of memory judging %zu gates", n);
	for (size_t i = 0; i < n; i++) {
		double p = NAN, adjusted = NAN;
		json_t *o;

		if (!judges(&gates[i]) || j[i].verdict != CVB_VERDICT_FAIL)
			continue;
		if (j[i].has_ratio) {
			p = c->p[j[i].p_index];
			adjusted = holm[j[i].p_index];
		}
		o = json_pack("{s:s}", "id", gates[i].id);
		json_object_set_new(o, "p_value", cvb_verdict_number(p));
		json_object_set_new(o, "p_holm", cvb_verdict_number(adjusted));
		/* what was computed, not measured, fails without any chance in it */
		json_object_set_new(o, "significant",
				    json_boolean(isnan(adjusted) || adjusted <= CVB_GATE_ALPHA));
		json_array_append_new(list, o);
	}
	return 0;
}
