/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One benchmark on all its arms: set-up, rounds, verification.
 */
#include "campaign/plan.h"
#include "campaign/progress.h"
#include "campaign/session_part.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static int note_outcome(struct cvb_live *l, struct cvb_arm_run *a, const struct cvb_bench *bench,
			int code, const struct cvb_err *why, struct cvb_err *err)
{
	const char *outcome = cvb_session_unsupported(code) ? "unsupported"
			      : code == -EBADMSG	    ? "untrusted"
							    : "failed";
	char text[1024];

	cvb_err_text(why, text, sizeof(text));
	a->measuring = false;
	if (!cvb_session_unsupported(code) || l->s->number == 1)
		cvb_warn("%s on arm %s: %s: %s", bench->name, a->arm->name,
			 cvb_session_unsupported(code) ? "UNSUPPORTED"
			 : code == -EBADMSG	       ? "UNTRUSTED"
						       : "FAILED",
			 text);
	return cvb_session_note(l->s, "bench",
				json_pack("{s:s, s:s, s:s, s:s}", "arm", a->arm->name, "bench",
					  bench->name, "outcome", outcome, "reason", text),
				err);
}

static bool is_local(const struct cvb_arm_run *a)
{
	return !strcmp(a->arm->target, "local");
}

static uint64_t sample_ns_of(const struct cvb_profile *p, size_t b)
{
	const struct cvb_profile_bench *pb = &p->benches[b];

	return (pb->sample_ms ? pb->sample_ms : p->sample_ms) * CVB_NS_PER_MS;
}

/* Warming up may take half of what measuring the case takes, but always the first look's worth. */
static uint64_t warmup_budget_ns(const struct cvb_profile *p, size_t b)
{
	uint64_t n = cvb_max(cvb_profile_rounds(p, b) / 2, UINT64_C(4));

	return n * sample_ns_of(p, b);
}

/* {window_ns, error_ratio, uncertainty_ratio} of the arm's clock since `from`. */
static int clock_json(struct cvb_arm_run *a, const struct cvb_clock_mark *from, unsigned timeout_ms,
		      json_t **ret, struct cvb_err *err)
{
	struct cvb_clock_mark to;
	double error, uncertainty;
	int r = cvb_client_clock(&a->target->client, timeout_ms, &to, err);

	if (r < 0)
		return r;
	cvb_clock_rate(from, &to, &error, &uncertainty);
	*ret = json_pack("{s:I, s:o, s:o}", "window_ns", (json_int_t)(to.host_ns - from->host_ns),
			 "error_ratio", isfinite(error) ? json_real(error) : json_null(),
			 "uncertainty_ratio",
			 isfinite(uncertainty) ? json_real(uncertainty) : json_null());
	return *ret ? 0 : cvb_err_set(err, -ENOMEM, "out of memory");
}

/* Calibrate, warm up, and calibrate again at the speed that it then has. */
static int warm_up(struct cvb_arm_run *a, uint64_t budget_ns, unsigned timeout_ms,
		   struct cvb_err *err)
{
	struct cvb_client *client = &a->target->client;
	int r = cvb_remote_calibrate(client, &a->remote, timeout_ms, err);

	if (r == 0)
		r = cvb_remote_warm_up(client, &a->remote, budget_ns, timeout_ms, &a->before.steady,
				       &a->before.warmup_ns, err);
	if (r == 0 && json_is_array(a->before.steady))
		r = cvb_remote_calibrate(client, &a->remote, timeout_ms, err);
	return r;
}

static int setup_there(struct cvb_live *l, struct cvb_arm_run *a, size_t b, struct cvb_err *err)
{
	const struct cvb_profile *p = l->s->profile;
	const struct cvb_profile_bench *pb = &p->benches[b];
	struct cvb_setup setup = {.bench = pb->bench,
				  .options = pb->options,
				  .gpu = a->arm->gpu,
				  .peer = a->target->peer,
				  .disk = a->target->disk,
				  .threads = (unsigned)pb->threads,
				  .sample_ns = sample_ns_of(p, b),
				  .timeout_ms = cvb_profile_timeout_ms(p, b)};
	struct cvb_clock_mark from = {0};
	int r = cvb_client_clock(&a->target->client, setup.timeout_ms, &from, err);

	if (r == 0)
		r = cvb_remote_setup(&a->target->client, &setup, &a->remote, err);
	if (r == 0)
		r = cvb_announced_add(l->s->announced, pb->bench->name, a->remote.series, err);
	if (r == 0)
		r = warm_up(a, warmup_budget_ns(p, b), setup.timeout_ms, err);
	if (r == 0) /* the arm has run since `from` without a pause */
		r = clock_json(a, &from, setup.timeout_ms, &a->before.clock, err);
	return r;
}

static void forget_before(struct cvb_arm_run *a)
{
	json_decref(a->before.steady);
	json_decref(a->before.clock);
	a->before.steady = a->before.clock = NULL;
	a->before.warmup_ns = 0;
}

static int setup_on(struct cvb_live *l, struct cvb_arm_run *a, size_t b, struct cvb_err *err)
{
	const struct cvb_profile_bench *pb = &l->s->profile->benches[b];
	struct cvb_err why = {0};
	int r;

	forget_before(a);
	cvb_progress_step("session %" PRIu64 "/%" PRIu64 "  %s  set-up  %s", l->s->number,
			  l->s->profile->sessions, pb->bench->name, a->arm->name);
	r = cvb_target_resume(a->target, err);
	if (r < 0)
		return r;
	r = setup_there(l, a, b, &why);
	if (cvb_client_lost(r)) {
		if (err)
			*err = why;
		return cvb_err_wrap(err, r, "%s on arm %s", pb->bench->name, a->arm->name);
	}
	a->measuring = r == 0;
	if (r < 0) {
		cvb_remote_teardown(&a->target->client, &a->remote);
		r = note_outcome(l, a, pb->bench, r, &why, err);
	}
	return r < 0 ? r : cvb_target_pause(a->target, err);
}

/*
 * The same counts in all arms, so that their samples are of the same work: the highest that any
 * local arm needs, so that no local arm's sample is too short.  Guests count only where there is no
 * local arm: a guest never decides how long the host is measured.  NULL: arms have different
 * cases, each keeps its own counts.
 */
static json_t *shared_iters(const struct cvb_live *l)
{
	json_t *shared = NULL;

	for (int local = 1; local >= 0 && !shared; local--) {
		for (size_t i = 0; i < l->n_arms; i++) {
			const struct cvb_arm_run *a = &l->arms[i];

			if (!a->measuring || is_local(a) != (local != 0))
				continue;
			if (!shared)
				shared = json_copy(a->remote.iters);
			for (size_t c = 0; c < json_array_size(shared); c++) {
				json_t *mine = json_array_get(a->remote.iters, c);

				if (json_integer_value(mine) >
				    json_integer_value(json_array_get(shared, c)))
					json_array_set(shared, c, mine);
			}
		}
	}
	return shared;
}

static int note_ready(struct cvb_live *l, struct cvb_arm_run *a, const struct cvb_bench *bench,
		      struct cvb_err *err)
{
	const struct cvb_remote *m = &a->remote;

	return cvb_session_note(
		l->s, "bench",
		json_pack("{s:s, s:s, s:s, s:n, s:O, s:O, s:O, s:O, s:i, s:b, s:b, s:I, s:O, s:I, "
			  "s:O, s:O, s:O?}",
			  "arm", a->arm->name, "bench", bench->name, "outcome", "ok", "reason",
			  "series", m->series, "iters", m->iters, "options", m->options, "notes",
			  m->notes, "workers", (int)m->workers, "emulated", m->emulated,
			  "deterministic", m->deterministic, "timer_ns", (json_int_t)m->timer_ns,
			  "steady", a->before.steady, "warmup_ns", (json_int_t)a->before.warmup_ns,
			  "clock", a->before.clock, "left_out", m->left_out, "gpu", m->gpu),
		err);
}

/* Every arm that can is set up: agree on the counts, and say so in the journal. */
static int agree(struct cvb_live *l, const struct cvb_bench *bench, struct cvb_err *err)
{
	_cleanup_json_ json_t *shared = shared_iters(l);
	int r = 0;

	for (size_t i = 0; i < l->n_arms && r == 0; i++) {
		struct cvb_arm_run *a = &l->arms[i];

		if (!a->measuring)
			continue;
		if (json_array_size(shared) == a->remote.n_cases) {
			json_decref(a->remote.iters);
			a->remote.iters = json_incref(shared);
		} else {
			json_array_append_new(a->remote.notes,
					      json_string("this arm has other cases than the "
							  "first one: iteration counts are its "
							  "own"));
		}
		r = note_ready(l, a, bench, err);
	}
	return r;
}

static void watch_swiotlb(struct cvb_arm_run *a, const json_t *sample)
{
	static const char *const keys[] = {"used", "used_hiwater"};
	const json_t *s = json_object_get(sample, "swiotlb");

	for (size_t i = 0; i < CVB_ARRAY_LEN(keys); i++)
		if (json_is_integer(json_object_get(s, keys[i])))
			a->hiwater =
				cvb_max(a->hiwater,
					(int64_t)json_integer_value(json_object_get(s, keys[i])));
}

static int sample_on(struct cvb_live *l, struct cvb_arm_run *a, size_t b, uint64_t round,
		     size_t position, struct cvb_err *err)
{
	const struct cvb_profile *p = l->s->profile;
	const struct cvb_bench *bench = p->benches[b].bench;
	struct cvb_err why = {0};
	uint64_t start_ns = cvb_now_ns();
	json_t *sample = NULL;
	int r = cvb_target_resume(a->target, err);

	if (r < 0)
		return r;

	uint64_t asked_ns = cvb_now_ns();

	r = cvb_remote_sample(&a->target->client, &a->remote, a->remote.iters,
			      cvb_profile_timeout_ms(p, b), &sample, &why);
	if (r == 0) {
		watch_swiotlb(a, sample);
		json_object_update_new(sample, json_pack("{s:s, s:s, s:I, s:i, s:I, s:I}", "arm",
							 a->arm->name, "bench", bench->name,
							 "round", (json_int_t)round + 1, "position",
							 (int)position + 1, "start_ns",
							 (json_int_t)start_ns, "host_ns",
							 (json_int_t)(cvb_now_ns() - asked_ns)));
		r = cvb_session_note(l->s, "sample", sample, err);
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

static int run_round(struct cvb_live *l, size_t b, uint64_t round, struct cvb_err *err)
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
		struct cvb_arm_run *a = &l->arms[who[order[i]]];
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
	r = cvb_session_note(
		l->s, "round",
		json_pack("{s:s, s:I}", "bench", bench->name, "round", (json_int_t)round + 1), err);
	return r < 0 ? r : cvb_journal_sync(l->s->journal, err);
}

static int finish_on(struct cvb_live *l, struct cvb_arm_run *a, size_t b, struct cvb_err *err)
{
	const struct cvb_bench *bench = l->s->profile->benches[b].bench;
	const char *fault = cvb_session_bounce_fault(a);
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

int cvb_session_bench(struct cvb_live *l, size_t b, struct cvb_err *err)
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
	if (r == 0)
		r = agree(l, pb->bench, err);
	for (uint64_t round = 0; round < cvb_profile_rounds(l->s->profile, b) && r == 0; round++)
		r = run_round(l, b, round, err);
	for (size_t a = 0; a < l->n_arms && r == 0; a++)
		r = finish_on(l, &l->arms[a], b, err);
	for (size_t a = 0; a < l->n_arms; a++)
		forget_before(&l->arms[a]);
	if (r == 0)
		r = cvb_session_note(l->s, "bench_end",
				     json_pack("{s:s}", "bench", pb->bench->name), err);
	return r < 0 ? r : cvb_journal_sync(l->s->journal, err);
}
