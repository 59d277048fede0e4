/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/session.h"

#include "campaign/plan.h"
#include "campaign/progress.h"
#include "campaign/session_part.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "core/util.h"
#include "target/target.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define FINGERPRINT_MS 60000

/* --- plan arithmetic -------------------------------------------------------------------------- */

bool cvb_session_in_round(const struct cvb_profile *p, size_t b, size_t a, uint64_t round)
{
	if (!(p->benches[b].arm_mask >> a & 1))
		return false;
	return !p->arms[a].aa_of || round % 3 == 0;
}

size_t cvb_session_kinds(const struct cvb_profile *p)
{
	return p->n_benches * p->n_arms + p->n_arms;
}

void cvb_session_count(const struct cvb_profile *p, uint64_t bench_done, uint64_t *count)
{
	for (size_t a = 0; a < p->n_arms; a++)
		count[p->n_benches * p->n_arms + a]++;
	for (size_t b = 0; b < p->n_benches; b++) {
		if (bench_done >> b & 1)
			continue;
		for (uint64_t r = 0; r < cvb_profile_rounds(p, b); r++)
			for (size_t a = 0; a < p->n_arms; a++)
				if (cvb_session_in_round(p, b, a, r))
					count[b * p->n_arms + a]++;
	}
}

/* --- journal ---------------------------------------------------------------------------------- */

/* Append {type, session, attempt} plus the members of `more`, which is taken over; NULL means that
 * building it failed. */
int cvb_session_note(const struct cvb_session *s, const char *type, json_t *more,
		     struct cvb_err *err)
{
	json_t *line = json_pack("{s:s, s:I, s:I}", "type", type, "session", (json_int_t)s->number,
				 "attempt", (json_int_t)s->attempt);

	if (!line || !more || json_object_update(line, more) < 0) {
		json_decref(line);
		json_decref(more);
		return cvb_err_set(err, -ENOMEM, "cannot build a journal line");
	}
	json_decref(more);
	return cvb_journal_add(s->journal, line, err);
}

/* --- arms ------------------------------------------------------------------------------------- */

bool cvb_session_unsupported(int r)
{
	return r == -EOPNOTSUPP || r == -ENODEV;
}

static int start_arm(struct cvb_live *l, struct cvb_arm_run *a, struct cvb_err *err)
{
	const struct cvb_session *s = l->s;
	_cleanup_json_ json_t *environment = NULL;
	struct cvb_err why = {0};
	char text[1024];
	int r;

	snprintf(a->label, sizeof(a->label), "%s-s%" PRIu64 "a%" PRIu64, a->arm->name, s->number,
		 s->attempt);
	a->scratch = cvb_strf("%s/scratch/%s", s->bundle, a->arm->name);
	if (!a->scratch)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cvb_mkdir_own(a->scratch, err);
	if (r < 0)
		return r;

	struct cvb_target_env env = {.label = a->label,
				     .console_dir = l->console_dir,
				     .scratch_dir = a->scratch,
				     .peer_port = s->peer_port,
				     .echo_port = s->echo_port};

	r = cvb_target_start(&a->target, a->arm, &env, &why);
	if (r == 0)
		r = cvb_client_fingerprint(&a->target->client, FINGERPRINT_MS, &environment, &why);
	if (r == 0)
		r = cvb_target_pause(a->target, &why);
	if (cvb_session_unsupported(r)) {
		a->target = cvb_target_stop(a->target);
		cvb_err_text(&why, text, sizeof(text));
		if (s->number == 1)
			cvb_warn("arm %s is UNSUPPORTED: %s", a->arm->name, text);
		return cvb_session_note(s, "arm",
					json_pack("{s:s, s:s, s:s}", "arm", a->arm->name, "state",
						  "unsupported", "reason", text),
					err);
	}
	if (r < 0) {
		if (err)
			*err = why;
		return r;
	}
	return cvb_session_note(s, "arm",
				json_pack("{s:s, s:s, s:n, s:o, s:O, s:I}", "arm", a->arm->name,
					  "state", "ready", "reason", "labels",
					  cvb_target_labels(a->target), "environment", environment,
					  "boot_ns", (json_int_t)a->target->boot_ns),
				err);
}

/* Why an arm's samples must not be believed, from what was seen of its bounce buffer; NULL if fine.
 */
const char *cvb_session_bounce_fault(const struct cvb_arm_run *a)
{
	if (!a->arm->bounce)
		return NULL;
	if (a->hiwater < 0)
		return "the swiotlb pool's state could not be read in the guest, so it is not known "
		       "whether its I/O was bounced";
	if (a->hiwater == 0)
		return "the swiotlb pool was never used: the guest's I/O was not bounced";
	return NULL;
}

static int end_arm(struct cvb_live *l, struct cvb_arm_run *a, struct cvb_err *err)
{
	_cleanup_json_ json_t *swiotlb = NULL;
	struct cvb_err ignored = {0};
	const char *fault;
	int r;

	if (!a->target)
		return 0;
	r = cvb_target_resume(a->target, &ignored);
	if (r == 0)
		r = cvb_client_swiotlb(&a->target->client, FINGERPRINT_MS, &swiotlb, &ignored);
	if (r == 0) {
		json_t *top = json_object_get(swiotlb, "used_hiwater");

		if (json_is_integer(top))
			a->hiwater = cvb_max(a->hiwater, (int64_t)json_integer_value(top));
	}
	fault = cvb_session_bounce_fault(a);
	if (fault)
		cvb_warn("arm %s: %s", a->arm->name, fault);
	return cvb_session_note(l->s, "arm_end",
				json_pack("{s:s, s:O, s:s?}", "arm", a->arm->name, "swiotlb",
					  swiotlb ? swiotlb : json_null(), "reason", fault),
				err);
}

/* --- the session ------------------------------------------------------------------------------ */

static int run_arms(struct cvb_live *l, struct cvb_err *err)
{
	const struct cvb_profile *p = l->s->profile;
	size_t order[CVB_PROFILE_MAX_BENCHES];
	int r = cvb_session_note(l->s, "session", json_object(), err);

	for (size_t a = 0; a < l->n_arms && r == 0; a++) {
		uint64_t start_ns = cvb_now_ns();

		cvb_progress_step("session %" PRIu64 "/%" PRIu64 "  starting %s", l->s->number,
				  p->sessions, l->arms[a].arm->name);
		r = start_arm(l, &l->arms[a], err);
		cvb_progress_done(p->n_benches * p->n_arms + a, cvb_now_ns() - start_ns);
	}
	cvb_plan_benches(l->s->seed, l->s->number - 1, p->n_benches, order);
	for (size_t i = 0; i < p->n_benches && r == 0; i++)
		if (!(l->s->bench_done >> order[i] & 1))
			r = cvb_session_bench(l, order[i], err);
	for (size_t a = 0; a < l->n_arms && r == 0; a++)
		r = end_arm(l, &l->arms[a], err);
	if (r == 0)
		r = cvb_session_note(l->s, "session_end", json_object(), err);
	return r < 0 ? r : cvb_journal_sync(l->s->journal, err);
}

int cvb_session_run(const struct cvb_session *s, struct cvb_err *err)
{
	struct cvb_live *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	l->s = s;
	l->n_arms = s->profile->n_arms;
	for (size_t a = 0; a < l->n_arms; a++) {
		l->arms[a].arm = &s->profile->arms[a];
		l->arms[a].hiwater = -1;
	}
	l->console_dir = cvb_strf("%s/console", s->bundle);
	r = l->console_dir ? cvb_mkdir_own(l->console_dir, err)
			   : cvb_err_set(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = run_arms(l, err);
	for (size_t a = 0; a < l->n_arms; a++) {
		cvb_remote_done(&l->arms[a].remote);
		cvb_target_stop(l->arms[a].target);
		free(l->arms[a].scratch);
	}
	free(l->console_dir);
	free(l);
	return r;
}
