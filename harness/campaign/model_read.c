/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Journal lines into a model.  What an attempt said is collected in slots, one for each (session,
 * benchmark); when the journal ends, the attempt that counts is still in its slot and is merged.
 */
#include "campaign/journal.h"
#include "campaign/model.h"
#include "campaign/model_slot.h"
#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#define BOOTS_MAX 100000

/* ---- the campaign line ----------------------------------------------------------------------- */

static int add_arm(struct cvb_model_reader *r, const json_t *arm)
{
	struct cvb_model *m = r->m;
	struct cvb_model_arm *a = &m->arms[m->n_arms];
	int e;

	if (m->n_arms >= CVB_MODEL_MAX_ARMS)
		return cvb_model_bad(r, "arms", "more than %d arms", CVB_MODEL_MAX_ARMS);
	if (!json_is_object(arm))
		return cvb_model_bad(r, "arms", "an arm is not an object");
	m->n_arms++; /* from here on cvb_model_free frees it */
	e = cvb_model_get_text(r, arm, "name", CVB_MODEL_NAME_BYTES, true, &a->name);
	if (e < 0) {
		m->n_arms--;
		return e;
	}
	for (size_t i = 0; i + 1 < m->n_arms; i++)
		if (!strcmp(m->arms[i].name, a->name))
			return cvb_model_bad(r, "arms", "two arms have the same name");
	e = cvb_model_get_text(r, arm, "target", CVB_MODEL_NAME_BYTES, false, &a->target);
	if (e == 0)
		e = cvb_model_get_text(r, arm, "aa_of", CVB_MODEL_NAME_BYTES, false, &a->aa_of);
	if (e == 0)
		e = cvb_model_get_text(r, arm, "gpu", CVB_MODEL_REASON_BYTES, false, &a->gpu);
	if (e == 0)
		e = cvb_model_get_text(r, arm, "tee", CVB_MODEL_NAME_BYTES, false, &a->tee);
	if (e == 0)
		e = cvb_model_get_bool(r, arm, "bounce", &a->bounce);
	/* the GPU spec itself says it, so that an arm that never came up is labelled too */
	if (e == 0 && a->gpu && strstr(a->gpu, "emu:"))
		a->emulated = true;
	return e;
}

static int add_bench(struct cvb_model_reader *r, const json_t *bench)
{
	struct cvb_model *m = r->m;
	struct cvb_model_bench *b = &m->benches[m->n_benches];
	const json_t *arms = json_object_get(bench, "arms"), *v;
	size_t i;
	int e;

	if (m->n_benches >= CVB_MODEL_MAX_BENCHES)
		return cvb_model_bad(r, "benches", "more than %d benchmarks",
				     CVB_MODEL_MAX_BENCHES);
	if (!json_is_object(bench) || !json_is_array(arms))
		return cvb_model_bad(r, "benches", "objects with a list \"arms\" are wanted");
	e = cvb_model_get_count(r, bench, "rounds", CVB_MODEL_MAX_ROUNDS, &b->rounds);
	if (e == 0)
		e = cvb_model_get_text(r, bench, "name", CVB_MODEL_NAME_BYTES, true, &b->name);
	if (e < 0)
		return e;
	if (cvb_model_bench(m, b->name) >= 0) {
		free(b->name);
		b->name = NULL;
		return cvb_model_bad(r, "benches", "two benchmarks have the same name");
	}
	m->n_benches++;
	json_array_foreach (arms, i, v) {
		int a = json_is_string(v) ? cvb_model_arm(m, json_string_value(v)) : -1;

		if (a < 0)
			return cvb_model_bad(r, "benches", "\"arms\" names what is not an arm");
		b->arm_mask |= UINT32_C(1) << a;
	}
	return 0;
}

static int get_seed_and_tool(struct cvb_model_reader *r)
{
	struct cvb_model *m = r->m;
	const json_t *seed = json_object_get(r->line, "seed");
	const json_t *tool = json_object_get(r->line, "tool");

	if (json_is_integer(seed))
		m->seed = cvb_strf("%" JSON_INTEGER_FORMAT, json_integer_value(seed));
	else if (json_is_string(seed) && json_string_length(seed) <= CVB_MODEL_NAME_BYTES)
		m->seed = strdup(json_string_value(seed));
	else
		return cvb_model_bad(r, "seed", "a number is wanted");
	if (tool && !json_is_object(tool))
		return cvb_model_bad(r, "tool", "an object is wanted");

	const char *name = json_string_value(json_object_get(tool, "name"));
	const char *version = json_string_value(json_object_get(tool, "version"));
	const char *git = json_string_value(json_object_get(tool, "git"));
	const char *compiler = json_string_value(json_object_get(tool, "compiler"));

	m->tool = cvb_strf("%.60s %.60s%s%.60s%s%.60s", name ? name : "cvmbench",
			   version ? version : "?", git ? ", git " : "", git ? git : "",
			   compiler ? ", " : "", compiler ? compiler : "");
	m->tool_json = json_deep_copy(tool);
	return m->seed && m->tool ? 0 : cvb_model_no_memory(r);
}

static int on_campaign(struct cvb_model_reader *r)
{
	struct cvb_model *m = r->m;
	const char *schema = json_string_value(json_object_get(r->line, "schema"));
	const json_t *arms = json_object_get(r->line, "arms"), *v;
	const json_t *benches = json_object_get(r->line, "benches");
	size_t i;
	int e;

	if (!schema || strcmp(schema, "cvmbench.journal/1") != 0)
		return cvb_model_bad(r, "schema", "\"cvmbench.journal/1\" is wanted");
	e = cvb_model_get_text(r, r->line, "profile", CVB_MODEL_REASON_BYTES, true, &m->profile);
	if (e == 0)
		e = cvb_model_get_text(r, r->line, "started", CVB_MODEL_NAME_BYTES, false,
				       &m->started);
	if (e == 0)
		e = cvb_model_get_count(r, r->line, "sessions", CVB_MODEL_MAX_SESSIONS,
					&m->sessions);
	if (e == 0)
		e = cvb_model_get_count(r, r->line, "rounds", CVB_MODEL_MAX_ROUNDS, &m->rounds);
	if (e == 0)
		e = get_seed_and_tool(r);
	if (e < 0)
		return e;
	if (!json_is_array(arms) || !json_is_array(benches))
		return cvb_model_bad(r, json_is_array(arms) ? "benches" : "arms",
				     "a list is wanted");
	json_array_foreach (arms, i, v) {
		e = add_arm(r, v);
		if (e < 0)
			return e;
	}
	json_array_foreach (benches, i, v) {
		e = add_bench(r, v);
		if (e < 0)
			return e;
	}
	m->session = calloc(m->sessions, sizeof(*m->session));
	r->slots.v = calloc((size_t)m->sessions * m->n_benches + 1, sizeof(struct cvb_slot *));
	r->begun = true;
	return m->session && r->slots.v ? 0 : cvb_model_no_memory(r);
}

/* ---- the other lines ------------------------------------------------------------------------- */

static int on_session(struct cvb_model_reader *r)
{
	unsigned session, attempt;
	int e = cvb_model_get_session(r, &session, &attempt);

	if (e < 0)
		return e;
	if (attempt <= r->m->session[session - 1].attempts)
		return cvb_model_bad(r, "attempt", "attempt %u of session %u was there before",
				     attempt, session);
	r->m->session[session - 1].attempts = attempt;
	return 0;
}

static int note_labels(struct cvb_model_reader *r, struct cvb_model_arm *a)
{
	const json_t *labels = json_object_get(r->line, "labels");
	_cleanup_free_ char *accel = NULL;
	bool bounce = false, emulated = false;
	int e;

	if (!json_is_object(labels))
		return cvb_model_bad(r, "labels", "an object is wanted");
	e = cvb_model_get_text(r, labels, "accel", CVB_MODEL_NAME_BYTES, false, &accel);
	if (e == 0)
		e = cvb_model_get_text(r, labels, "target", CVB_MODEL_NAME_BYTES, false,
				       &a->target);
	if (e == 0)
		e = cvb_model_get_text(r, labels, "tee", CVB_MODEL_NAME_BYTES, false, &a->tee);
	if (e == 0)
		e = cvb_model_get_bool(r, labels, "bounce", &bounce);
	if (e == 0)
		e = cvb_model_get_bool(r, labels, "emulated", &emulated);
	if (e < 0)
		return e;
	if (accel && strcmp(accel, "kvm") != 0 && strcmp(accel, "tcg") != 0)
		return cvb_model_bad(r, "accel", "\"kvm\", \"tcg\" or null is wanted");
	/* a label once true stays: the weaker sessions count for the whole arm */
	a->bounce = a->bounce || bounce;
	a->emulated = a->emulated || emulated;
	if (accel && a->accel && strcmp(accel, a->accel) != 0)
		a->accel_changed = true;
	if (accel && (!a->accel || !strcmp(accel, "tcg"))) {
		free(a->accel);
		a->accel = CVB_TAKE(accel);
	}
	return 0;
}

static int on_arm_ready(struct cvb_model_reader *r, unsigned arm, unsigned session)
{
	struct cvb_model_arm *a = &r->m->arms[arm];
	const json_t *env = json_object_get(r->line, "environment");
	const json_t *boot = json_object_get(r->line, "boot_ns");
	int e = note_labels(r, a);

	if (e < 0)
		return e;
	if (env && !json_is_object(env) && !json_is_null(env))
		return cvb_model_bad(r, "environment", "an object is wanted");
	if (boot && !json_is_number(boot) && !json_is_null(boot))
		return cvb_model_bad(r, "boot_ns", "a number is wanted");
	if (json_is_object(env)) {
		json_decref(a->environment);
		a->environment = json_incref((json_t *)(uintptr_t)env);
	}
	if (json_is_number(boot) && json_number_value(boot) > 0 && a->n_boots < BOOTS_MAX) {
		double *bigger = reallocarray(a->boot_ns, a->n_boots + 1, sizeof(*bigger));

		if (!bigger)
			return cvb_model_no_memory(r);
		a->boot_ns = bigger;
		a->boot_ns[a->n_boots++] = json_number_value(boot);
	}
	a->state = CVB_MODEL_ARM_READY;
	/* another attempt at the session, after what was missing came */
	if (r->last_unsupported[arm] == session) {
		r->last_unsupported[arm] = 0;
		a->sessions_unsupported--;
	}
	if (r->last_ready[arm] != session) {
		r->last_ready[arm] = session;
		a->sessions++;
	}
	return 0;
}

static int on_arm(struct cvb_model_reader *r)
{
	const char *state = json_string_value(json_object_get(r->line, "state"));
	unsigned arm, session, attempt;
	int e = cvb_model_get_arm(r, &arm);

	if (e == 0)
		e = cvb_model_get_session(r, &session, &attempt);
	if (e < 0)
		return e;
	if (state && !strcmp(state, "ready"))
		return on_arm_ready(r, arm, session);
	if (!state || strcmp(state, "unsupported") != 0)
		return cvb_model_bad(r, "state", "\"ready\" or \"unsupported\" is wanted");

	struct cvb_model_arm *a = &r->m->arms[arm];

	if (a->state != CVB_MODEL_ARM_READY)
		a->state = CVB_MODEL_ARM_UNSUPPORTED;
	if (r->last_unsupported[arm] != session) {
		r->last_unsupported[arm] = session;
		a->sessions_unsupported++;
	}
	return cvb_model_get_text(r, r->line, "reason", CVB_MODEL_REASON_BYTES, true, &a->reason);
}

static int on_session_end(struct cvb_model_reader *r)
{
	unsigned session, attempt;
	int e = cvb_model_get_session(r, &session, &attempt);

	if (e == 0 && !r->m->session[session - 1].complete) {
		r->m->session[session - 1].complete = true;
		r->m->sessions_complete++;
	}
	return e;
}

static int on_abort(struct cvb_model_reader *r)
{
	return cvb_model_get_text(r, r->line, "message", CVB_MODEL_REASON_BYTES, true,
				  &r->m->abort);
}

static int on_campaign_end(struct cvb_model_reader *r)
{
	const json_t *stopped = json_object_get(r->line, "stopped_after");

	r->m->complete = true;
	if (!stopped || json_is_null(stopped))
		return 0;
	return cvb_model_get_count(r, r->line, "stopped_after", r->m->sessions,
				   &r->m->stopped_after);
}

static int on_line(const json_t *line, size_t number, void *ctx, struct cvb_err *err)
{
	static const struct {
		const char *type;
		int (*fn)(struct cvb_model_reader *r);
	} handlers[] = {{"session", on_session},
			{"arm", on_arm},
			{"bench", cvb_model_on_bench},
			{"sample", cvb_model_on_sample},
			{"round", cvb_model_on_round},
			{"bench_end", cvb_model_on_bench_end},
			{"arm_end", cvb_model_on_arm_end},
			{"session_end", on_session_end},
			{"abort", on_abort},
			{"campaign_end", on_campaign_end}};
	struct cvb_model_reader *r = ctx;
	const char *type = json_string_value(json_object_get(line, "type"));

	r->line = line;
	r->number = number;
	r->err = err;
	if (!type)
		return cvb_model_bad(r, "type", "a text is wanted");
	if (!strcmp(type, "campaign")) {
		if (r->begun)
			return cvb_model_bad(r, "type", "a second campaign line");
		return on_campaign(r);
	}
	if (!r->begun)
		return cvb_model_bad(r, "type", "the first line must be of type \"campaign\"");
	for (size_t i = 0; i < CVB_ARRAY_LEN(handlers); i++) {
		if (strcmp(type, handlers[i].type) != 0)
			continue;
		/* whatever follows an abort means that the campaign went on */
		free(CVB_TAKE(r->m->abort));
		return handlers[i].fn(r);
	}
	return cvb_model_bad(r, "type", "\"%.60s\" is not a known type of line", type);
}

int cvb_model_load(struct cvb_model **ret, const char *journal_path, struct cvb_err *err)
{
	struct cvb_model_reader r = {.err = err};
	struct cvb_model *m = calloc(1, sizeof(*m));
	int e = -ENOMEM;

	r.m = m;
	r.series_index = json_object();
	r.series_line = calloc(CVB_MODEL_MAX_SERIES, sizeof(*r.series_line));
	if (m) {
		m->path = strdup(journal_path);
		m->benches = calloc(CVB_MODEL_MAX_BENCHES, sizeof(*m->benches));
	}
	if (!m || !m->path || !m->benches || !r.series_index || !r.series_line)
		cvb_err_set(err, e, "out of memory reading %s", journal_path);
	else
		e = cvb_journal_read(journal_path, on_line, &r, err);
	if (e == 0 && !r.begun)
		e = cvb_err_set(err, -EBADMSG, "%s: the journal is empty", journal_path);
	if (e == 0)
		e = cvb_model_merge(m, &r.slots, err);
	cvb_slots_done(&r.slots, m && r.begun ? (size_t)m->sessions * m->n_benches : 0);
	json_decref(r.series_index);
	free(r.series_line);
	if (e < 0) {
		cvb_model_free(m);
		return e;
	}
	*ret = m;
	return 0;
}
