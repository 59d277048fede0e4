/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/session.h"

#include "campaign/plan.h"
#include "campaign/progress.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "core/util.h"
#include "target/target.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define FINGERPRINT_MS 60000

/* An arm within the running session. */
struct arm_run {
	const struct cvb_arm *arm;
	struct cvb_target *target; /* NULL: not supported here */
	char label[96];		   /* "vm-s1a1" */
	char *scratch;
	struct cvb_remote remote; /* the benchmark under way */
	bool measuring;		  /* remote is set up and good */
	int64_t hiwater;	  /* most swiotlb slots seen in use, -1 unknown */
};

struct live {
	const struct cvb_session *s;
	struct arm_run arms[CVB_PROFILE_MAX_ARMS];
	size_t n_arms;
	char *console_dir;
};

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
static int note(const struct cvb_session *s, const char *type, json_t *more, struct cvb_err *err)
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

/* --- arms ---------------------------------------------------------------------------------------
 */

static bool is_unsupported(int r)
{
	return r == -EOPNOTSUPP || r == -ENODEV;
}

static int start_arm(struct live *l, struct arm_run *a, struct cvb_err *err)
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
	r = cvb_mkdir_all(a->scratch, err);
	if (r < 0)
		return r;

	struct cvb_target_env env = {.label = a->label,
				     .console_dir = l->console_dir,
				     .scratch_dir = a->scratch,
				     .peer_port = s->peer_port};

	r = cvb_target_start(&a->target, a->arm, &env, &why);
	if (r == 0)
		r = cvb_client_fingerprint(&a->target->client, FINGERPRINT_MS, &environment, &why);
	if (r == 0)
		r = cvb_target_pause(a->target, &why);
	if (is_unsupported(r)) {
		a->target = cvb_target_stop(a->target);
		cvb_err_text(&why, text, sizeof(text));
		if (s->number == 1)
			cvb_warn("arm %s is UNSUPPORTED: %s", a->arm->name, text);
		return note(s, "arm",
			    json_pack("{s:s, s:s, s:s}", "arm", a->arm->name, "state",
				      "unsupported", "reason", text),
			    err);
	}
	if (r < 0) {
		if (err)
			*err = why;
		return r;
	}
	return note(s, "arm",
		    json_pack("{s:s, s:s, s:n, s:o, s:O, s:I}", "arm", a->arm->name, "state",
			      "ready", "reason", "labels", cvb_target_labels(a->target),
			      "environment", environment, "boot_ns",
			      (json_int_t)a->target->boot_ns),
		    err);
}

/* Why an arm's samples must not be believed, from what was seen of its bounce buffer; NULL if fine.
 */
static const char *bounce_fault(const struct arm_run *a)
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

static int end_arm(struct live *l, struct arm_run *a, struct cvb_err *err)
{
	_cleanup_json_ json_t *result = NULL;
	struct cvb_err ignored = {0};
	json_t *swiotlb = NULL;
	const char *fault;
	int r;

	if (!a->target)
		return 0;
	r = cvb_target_resume(a->target, &ignored);
	if (r == 0)
		r = cvb_client_call(&a->target->client, "swiotlb", NULL, FINGERPRINT_MS, &result,
				    &ignored);
	if (r == 0) {
		json_t *top = json_object_get(json_object_get(result, "swiotlb"), "used_hiwater");

		swiotlb = json_object_get(result, "swiotlb");
		if (json_is_integer(top))
			a->hiwater = cvb_max(a->hiwater, (int64_t)json_integer_value(top));
	}
	fault = bounce_fault(a);
	if (fault)
		cvb_warn("arm %s: %s", a->arm->name, fault);
	return note(l->s, "arm_end",
		    json_pack("{s:s, s:O, s:s?}", "arm", a->arm->name, "swiotlb",
			      json_is_object(swiotlb) ? swiotlb : json_null(), "reason", fault),
		    err);
}

/* --- one benchmark on all its arms ------------------------------------------------------------ */

static int note_outcome(struct live *l, struct arm_run *a, const struct cvb_bench *bench, int code,
			const struct cvb_err *why, struct cvb_err *err)
{
	const char *outcome = is_unsupported(code) ? "unsupported"
			      : code == -EBADMSG   ? "untrusted"
						   : "failed";
	char text[1024];

	cvb_err_text(why, text, sizeof(text));
	a->measuring = false;
	if (!is_unsupported(code) || l->s->number == 1)
		cvb_warn("%s on arm %s: %s: %s", bench->name, a->arm->name,
			 is_unsupported(code) ? "UNSUPPORTED"
			 : code == -EBADMSG   ? "UNTRUSTED"
					      : "FAILED",
			 text);
	return note(l->s, "bench",
		    json_pack("{s:s, s:s, s:s, s:s}", "arm", a->arm->name, "bench", bench->name,
			      "outcome", outcome, "reason", text),
		    err);
}

static bool is_local(const struct arm_run *a)
{
	return !strcmp(a->arm->target, "local");
}

/*
 * Same counts in all arms, so that the arms' samples are of the same work: the first arm's that was
 * set up.  Local arms are set up first, so that a guest never decides how the host is measured
 * unless there is no host arm.
 */
static json_t *shared_iters(const struct live *l, const struct arm_run *self)
{
	for (int local = 1; local >= 0; local--) {
		for (size_t i = 0; i < l->n_arms; i++) {
			const struct arm_run *a = &l->arms[i];

			if (is_local(a) == (local != 0) && a != self && a->measuring &&
			    a->remote.iters && a->remote.n_cases == self->remote.n_cases)
				return a->remote.iters;
		}
	}
	return NULL;
}

/* Does an earlier arm have another number of cases, so that counts could not be shared? */
static bool other_cases(const struct live *l, const struct arm_run *self)
{
	for (size_t i = 0; i < l->n_arms; i++)
		if (&l->arms[i] != self && l->arms[i].measuring &&
		    l->arms[i].remote.n_cases != self->remote.n_cases)
			return true;
	return false;
}

static int calibrate(struct live *l, struct arm_run *a, unsigned timeout_ms, struct cvb_err *err)
{
	struct cvb_remote *remote = &a->remote;
	json_t *shared = shared_iters(l, a), *row = NULL;
	int r;

	if (!shared || remote->bench->mode == CVB_MODE_SELF_TIMED)
		return cvb_remote_calibrate(&a->target->client, remote, timeout_ms, err);
	remote->iters = json_incref(shared);
	/* one discarded sample: the warm-up that calibration is for the first arm */
	r = cvb_remote_sample(&a->target->client, remote, shared, timeout_ms, &row, err);
	json_decref(row);
	return r;
}

static int setup_there(struct live *l, struct arm_run *a, size_t b, struct cvb_err *err)
{
	const struct cvb_profile *p = l->s->profile;
	const struct cvb_profile_bench *pb = &p->benches[b];
	struct cvb_setup setup = {.bench = pb->bench,
				  .options = pb->options,
				  .gpu = a->arm->gpu,
				  .peer = a->target->peer,
				  .disk = a->target->disk,
				  .threads = (unsigned)pb->threads,
				  .sample_ns = (pb->sample_ms ? pb->sample_ms : p->sample_ms) *
					       CVB_NS_PER_MS,
				  .timeout_ms = cvb_profile_timeout_ms(p, b)};
	int r = cvb_remote_setup(&a->target->client, &setup, &a->remote, err);

	if (r == 0)
		r = calibrate(l, a, setup.timeout_ms, err);
	return r;
}

static int setup_on(struct live *l, struct arm_run *a, size_t b, struct cvb_err *err)
{
	const struct cvb_profile_bench *pb = &l->s->profile->benches[b];
	struct cvb_err why = {0};
	const struct cvb_remote *m = &a->remote;
	int r;

	a->measuring = false;
	cvb_progress_step("session %" PRIu64 "/%" PRIu64 "  %s  set-up  %s", l->s->number,
			  l->s->profile->sessions, pb->bench->name, a->arm->name);
	r = cvb_target_resume(a->target, err);
	if (r < 0)
		return r;
	r = setup_there(l, a, b, &why);
	if (r == 0 && other_cases(l, a))
		json_array_append_new(a->remote.notes,
				      json_string("this arm has other cases than the first one: "
						  "iteration counts are its own"));
	if (cvb_client_lost(r)) {
		if (err)
			*err = why;
		return cvb_err_wrap(err, r, "%s on arm %s", pb->bench->name, a->arm->name);
	}
	if (r < 0) {
		cvb_remote_teardown(&a->target->client, &a->remote);
		r = note_outcome(l, a, pb->bench, r, &why, err);
	} else {
		a->measuring = true;
		r = note(l->s, "bench",
			 json_pack("{s:s, s:s, s:s, s:n, s:O, s:O, s:O, s:O, s:i, s:b, s:b}", "arm",
				   a->arm->name, "bench", pb->bench->name, "outcome", "ok",
				   "reason", "series", m->series, "iters", m->iters, "options",
				   m->options, "notes", m->notes, "workers", (int)m->workers,
				   "emulated", m->emulated, "deterministic", m->deterministic),
			 err);
	}
	if (r == 0)
		r = cvb_target_pause(a->target, err);
	return r;
}

static void watch_swiotlb(struct arm_run *a, const json_t *sample)
{
	static const char *const keys[] = {"used", "used_hiwater"};
	const json_t *s = json_object_get(sample, "swiotlb");

	for (size_t i = 0; i < CVB_ARRAY_LEN(keys); i++)
		if (json_is_integer(json_object_get(s, keys[i])))
			a->hiwater =
				cvb_max(a->hiwater,
					(int64_t)json_integer_value(json_object_get(s, keys[i])));
}

static int sample_on(struct live *l, struct arm_run *a, size_t b, uint64_t round, size_t position,
		     struct cvb_err *err)
{
	const struct cvb_profile *p = l->s->profile;
	const struct cvb_bench *bench = p->benches[b].bench;
	struct cvb_err why = {0};
	uint64_t start_ns = cvb_now_ns();
	json_t *sample = NULL;
	int r = cvb_target_resume(a->target, err);

	if (r < 0)
		return r;
	r = cvb_remote_sample(&a->target->client, &a->remote, a->remote.iters,
			      cvb_profile_timeout_ms(p, b), &sample, &why);
	if (r == 0) {
		watch_swiotlb(a, sample);
		json_object_update_new(
			sample, json_pack("{s:s, s:s, s:I, s:i, s:I}", "arm", a->arm->name, "bench",
					  bench->name, "round", (json_int_t)round + 1, "position",
					  (int)position + 1, "start_ns", (json_int_t)start_ns));
		r = note(l->s, "sample", sample, err);
	} else if (cvb_client_lost(r)) {
		if (err)
			*err = why;
		return cvb_err_wrap(err, r, "%s on arm %s, session %" PRIu64 ", round %" PRIu64,
				    bench->name, a->arm->name, l->s->number, round + 1);
	} else {
		/* its threads and buffers must not stand beside the other arms' samples */
		cvb_remote_teardown(&a->target->client, &a->remote);
		r = note_outcome(l, a, bench, r, &why, err);
	}
	if (r == 0)
		r = cvb_target_pause(a->target, err);
	return r;
}

static int run_round(struct live *l, size_t b, uint64_t round, struct cvb_err *err)
{
	const struct cvb_profile *p = l->s->profile;
	const struct cvb_bench *bench = p->benches[b].bench;
	size_t order[CVB_PROFILE_MAX_ARMS], who[CVB_PROFILE_MAX_ARMS], n = 0, position = 0;
	int r;

	for (size_t a = 0; a < l->n_arms; a++)
		if (p->benches[b].arm_mask >> a & 1)
			who[n++] = a;
	cvb_plan_round(l->s->seed, l->s->number - 1, b, round, n, order);
	for (size_t i = 0; i < n; i++) {
		struct arm_run *a = &l->arms[who[order[i]]];
		uint64_t start_ns = cvb_now_ns();

		if (!cvb_session_in_round(p, b, who[order[i]], round))
			continue;
		if (a->measuring) {
			cvb_progress_step("session %" PRIu64 "/%" PRIu64 "  %s  round %" PRIu64
					  "/%" PRIu64 "  %s",
					  l->s->number, p->sessions, bench->name, round + 1,
					  cvb_profile_rounds(p, b), a->arm->name);
			r = sample_on(l, a, b, round, position++, err);
			if (r < 0)
				return r;
		}
		cvb_progress_done(b * p->n_arms + who[order[i]],
				  a->measuring ? cvb_now_ns() - start_ns : 0);
	}
	r = note(l->s, "round",
		 json_pack("{s:s, s:I}", "bench", bench->name, "round", (json_int_t)round + 1),
		 err);
	return r < 0 ? r : cvb_journal_sync(l->s->journal, err);
}

static int finish_on(struct live *l, struct arm_run *a, size_t b, struct cvb_err *err)
{
	const struct cvb_bench *bench = l->s->profile->benches[b].bench;
	const char *fault = bounce_fault(a);
	struct cvb_err why = {0};
	int r;

	if (!a->measuring)
		return 0;
	r = cvb_target_resume(a->target, err);
	if (r < 0)
		return r;
	r = cvb_remote_verify(&a->target->client, &a->remote,
			      cvb_profile_timeout_ms(l->s->profile, b), &why);
	/* here, not only at the session's end: a benchmark that is kept by a later attempt must
	 * carry the finding of the attempt that measured it */
	if (r == 0 && fault)
		r = cvb_err_set(&why, -EBADMSG, "%s", fault);
	if (cvb_client_lost(r)) {
		if (err)
			*err = why;
		return cvb_err_wrap(err, r, "%s on arm %s", bench->name, a->arm->name);
	}
	if (r < 0)
		r = note_outcome(l, a, bench, r, &why, err);
	cvb_remote_teardown(&a->target->client, &a->remote);
	a->measuring = false;
	return r < 0 ? r : cvb_target_pause(a->target, err);
}

static int run_bench(struct live *l, size_t b, struct cvb_err *err)
{
	const struct cvb_profile_bench *pb = &l->s->profile->benches[b];
	int r = 0;

	for (size_t a = 0; a < l->n_arms; a++)
		l->arms[a].measuring = false;
	for (int local = 1; local >= 0; local--)
		for (size_t a = 0; a < l->n_arms && r == 0; a++)
			if (is_local(&l->arms[a]) == (local != 0) && pb->arm_mask >> a & 1 &&
			    l->arms[a].target)
				r = setup_on(l, &l->arms[a], b, err);
	for (uint64_t round = 0; round < cvb_profile_rounds(l->s->profile, b) && r == 0; round++)
		r = run_round(l, b, round, err);
	for (size_t a = 0; a < l->n_arms && r == 0; a++)
		r = finish_on(l, &l->arms[a], b, err);
	if (r == 0)
		r = note(l->s, "bench_end", json_pack("{s:s}", "bench", pb->bench->name), err);
	return r < 0 ? r : cvb_journal_sync(l->s->journal, err);
}

/* --- the session
 * ---------------------------------------------------------------------------------- */

static int run_arms(struct live *l, struct cvb_err *err)
{
	const struct cvb_profile *p = l->s->profile;
	size_t order[CVB_PROFILE_MAX_BENCHES];
	int r = note(l->s, "session", json_object(), err);

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
			r = run_bench(l, order[i], err);
	for (size_t a = 0; a < l->n_arms && r == 0; a++)
		r = end_arm(l, &l->arms[a], err);
	if (r == 0)
		r = note(l->s, "session_end", json_object(), err);
	return r < 0 ? r : cvb_journal_sync(l->s->journal, err);
}

int cvb_session_run(const struct cvb_session *s, struct cvb_err *err)
{
	struct live *l = calloc(1, sizeof(*l));
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
	r = l->console_dir ? cvb_mkdir_all(l->console_dir, err)
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
