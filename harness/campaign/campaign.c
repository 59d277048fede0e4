/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/campaign.h"

#include "campaign/progress.h"
#include "campaign/session.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "core/util.h"
#include "machine/fingerprint.h"
#include "report/bundle.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define MAX_SESSIONS 1000

/* What the journal already holds. */
struct done {
	bool begun, ended;
	uint64_t seed;
	uint64_t attempts[MAX_SESSIONS];
	uint64_t bench_done[MAX_SESSIONS]; /* bit b: the profile's benches[b] */
	bool session_done[MAX_SESSIONS];
};

struct campaign {
	const struct cvb_profile *profile;
	const char *bundle;
	bool resume;
	struct cvb_journal *journal;
	struct done done;
	struct cvb_announced announced;
	struct cvb_peer peer;
};

/* --- resuming --------------------------------------------------------------------------------- */

static int not_one_campaign(const struct cvb_model *m, const char *what, struct cvb_err *err)
{
	return cvb_err_set(err, -EINVAL,
			   "%s was not measured by this bundle's " CVB_BUNDLE_PROFILE
			   ": the %s differ",
			   m->path, what);
}

/* A campaign goes on by the plan that it began with: lines of another would not fit its journal. */
static int check_plan(const struct cvb_model *m, const struct cvb_profile *p, struct cvb_err *err)
{
	if (m->sessions != p->sessions)
		return not_one_campaign(m, "numbers of sessions", err);
	if (m->n_arms != p->n_arms || m->n_benches != p->n_benches)
		return not_one_campaign(m, "arms or benchmarks", err);
	for (size_t i = 0; i < p->n_arms; i++)
		if (strcmp(m->arms[i].name, p->arms[i].name) != 0)
			return not_one_campaign(m, "arms", err);
	for (size_t i = 0; i < p->n_benches; i++) {
		const struct cvb_profile_bench *b = &p->benches[i];

		if (strcmp(m->benches[i].name, b->bench->name) != 0 ||
		    m->benches[i].arm_mask != b->arm_mask)
			return not_one_campaign(m, "benchmarks", err);
		if (m->benches[i].rounds != (b->rounds ? b->rounds : p->rounds))
			return not_one_campaign(m, "numbers of rounds", err);
	}
	return 0;
}

/* What is done already, as the report would read it. */
static int take_done(const struct cvb_model *m, const struct cvb_profile *p, struct done *d,
		     struct cvb_err *err)
{
	char *end;
	int r = check_plan(m, p, err);

	if (r < 0)
		return r;
	errno = 0;
	d->seed = strtoull(m->seed, &end, 10);
	if (errno || end == m->seed || *end || *m->seed == '-')
		return cvb_err_set(err, -EBADMSG, "%s: the seed %s is no whole number", m->path,
				   m->seed);
	d->begun = true;
	d->ended = m->complete;
	for (unsigned s = 0; s < m->sessions; s++) {
		d->attempts[s] = m->session[s].attempts;
		d->bench_done[s] = m->session[s].benches_done;
		d->session_done[s] = m->session[s].complete;
	}
	return 0;
}

/* What is in the journal is known, were it more than a share: it can be read. */
static int take_announced(struct campaign *c, const struct cvb_model *m, struct cvb_err *err)
{
	size_t most = c->announced.most;
	int r = 0;

	c->announced.most = SIZE_MAX;
	for (size_t i = 0; r == 0 && i < m->n_series; i++) {
		const struct cvb_model_series *s = m->series[i];
		_cleanup_json_ json_t *list =
			json_pack("[{s:s, s:O?}]", "metric", s->name, "params", s->params);

		r = list ? cvb_announced_add(&c->announced, m->benches[s->bench].name, list, err)
			 : cvb_err_set(err, -ENOMEM, "out of memory");
	}
	c->announced.most = most;
	return r;
}

static int read_done(struct campaign *c, const char *journal, struct cvb_err *err)
{
	struct cvb_model *m = NULL;
	int r;

	if (cvb_journal_is_empty(c->journal))
		return 0;
	r = cvb_model_load(&m, journal, err);
	if (r < 0)
		return cvb_err_wrap(err, r, "reading what was done already");
	c->done.begun = true;
	r = c->resume ? take_done(m, c->profile, &c->done, err) : 0;
	if (r == 0 && c->resume)
		r = take_announced(c, m, err);
	cvb_model_free(m);
	return r;
}

/* --- the bundle ------------------------------------------------------------------------------- */

static json_t *arms_json(const struct cvb_profile *p)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->n_arms; i++) {
		const struct cvb_arm *a = &p->arms[i];

		json_array_append_new(list, json_pack("{s:s, s:s, s:s?, s:s?, s:b, s:s}", "name",
						      a->name, "target", a->target, "aa_of",
						      a->aa_of, "gpu", a->gpu, "bounce", a->bounce,
						      "tee", cvb_tee_names[a->tee]));
	}
	return list;
}

static json_t *benches_json(const struct cvb_profile *p)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->n_benches; i++) {
		const struct cvb_profile_bench *b = &p->benches[i];
		json_t *arms = json_array();

		for (size_t a = 0; a < p->n_arms; a++)
			if (b->arm_mask >> a & 1)
				json_array_append_new(arms, json_string(p->arms[a].name));
		json_array_append_new(
			list, json_pack("{s:s, s:o, s:I}", "name", b->bench->name, "arms", arms,
					"rounds", (json_int_t)(b->rounds ? b->rounds : p->rounds)));
	}
	return list;
}

static int begin(struct campaign *c, uint64_t seed, struct cvb_err *err)
{
	const struct cvb_profile *p = c->profile;
	_cleanup_free_ char *profile = cvb_bundle_path(c->bundle, CVB_BUNDLE_PROFILE);
	_cleanup_free_ char *manifest = cvb_bundle_path(c->bundle, "manifest.json");
	_cleanup_json_ json_t *doc = NULL;
	char now[32];
	int r;

	if (!profile || !manifest)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	cvb_utc_text(now, sizeof(now));
	c->done.seed = seed;
	r = cvb_file_write(profile, p->text, strlen(p->text), err);
	if (r < 0)
		return r;
	doc = json_pack("{s:s, s:s, s:I, s:s, s:o, s:o}", "schema", "cvmbench.manifest/1",
			"profile", p->name, "seed", (json_int_t)seed, "started", now, "tool",
			cvb_tool_json(), "host", cvb_fingerprint());
	r = cvb_json_write(manifest, doc, err);
	if (r < 0)
		return r;
	return cvb_journal_add(c->journal,
			       json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:s, s:o, s:o, s:o}",
					 "type", "campaign", "schema", "cvmbench.journal/1",
					 "profile", p->name, "seed", (json_int_t)seed, "sessions",
					 (json_int_t)p->sessions, "rounds", (json_int_t)p->rounds,
					 "started", now, "tool", cvb_tool_json(), "arms",
					 arms_json(p), "benches", benches_json(p)),
			       err);
}

static int check_resumable(const char *bundle, struct cvb_err *err)
{
	struct cvb_model *model = NULL;
	int r = cvb_bundle_judge(bundle, NULL, &model, err);

	cvb_model_free(model);
	return r;
}

/* A bundle's folder is ours to write and to clean up: never take over one with other things in it.
 */
static int check_fresh(const char *bundle, const char *journal, struct cvb_err *err)
{
	DIR *d = access(journal, F_OK) == 0 ? NULL : opendir(bundle);
	struct dirent *e;
	bool empty = true;

	while (d && empty && (e = readdir(d)))
		empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
	if (d)
		closedir(d);
	return empty ? 0
		     : cvb_err_set(err, -EINVAL,
				   "%s is not empty and holds no campaign: give -o a new folder",
				   bundle);
}

static int open_bundle(struct campaign *c, uint64_t seed, struct cvb_err *err)
{
	_cleanup_free_ char *journal = cvb_bundle_path(c->bundle, CVB_BUNDLE_JOURNAL);
	int r;

	if (!journal)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cvb_mkdir_all(c->bundle, err);
	/* what the report would refuse is refused now, not after hours of measuring more of it */
	if (r == 0)
		r = c->resume ? check_resumable(c->bundle, err)
			      : check_fresh(c->bundle, journal, err);
	if (r == 0) /* locks out another campaign in this bundle */
		r = cvb_journal_open(&c->journal, journal, err);
	if (r == 0)
		r = read_done(c, journal, err);
	if (r < 0)
		return r;
	if (c->done.begun && !c->resume)
		return cvb_err_set(
			err, -EINVAL,
			"%s already holds a campaign: continue it with --resume, or choose "
			"another folder with -o",
			c->bundle);
	if (!c->done.begun && c->resume)
		return cvb_err_set(err, -EINVAL, "%s holds no campaign to resume", c->bundle);
	return c->done.begun ? 0 : begin(c, seed, err);
}

/* --- the loop --------------------------------------------------------------------------------- */

static bool needs_peer(const struct cvb_profile *p)
{
	for (size_t i = 0; i < p->n_benches; i++)
		if (p->benches[i].bench->flags & CVB_BENCH_NEEDS_PEER)
			return true;
	return false;
}

static void begin_progress(const struct campaign *c)
{
	size_t kinds = cvb_session_kinds(c->profile);
	_cleanup_free_ uint64_t *count = calloc(kinds, sizeof(*count));

	if (!count)
		return;
	for (uint64_t s = 0; s < c->profile->sessions; s++)
		if (!c->done.session_done[s])
			cvb_session_count(c->profile, c->done.bench_done[s], count);
	cvb_progress_begin(kinds, count);
}

/* New servers for each session, like everything else that is measured with.  Without iperf3 there
 * is the echo server only, and what needs iperf3 says UNSUPPORTED on every arm. */
static int fresh_peer(struct campaign *c, struct cvb_err *err)
{
	struct cvb_err why = {0};
	int r;

	if (!needs_peer(c->profile))
		return 0;
	cvb_peer_stop(&c->peer);
	r = cvb_peer_start(&c->peer, &why);
	if (r < 0 && r != -EOPNOTSUPP) {
		if (err)
			*err = why;
		return r;
	}
	return 0;
}

static bool is_look(const struct cvb_profile *p, uint64_t sessions)
{
	const struct cvb_gate *g = p->n_gates ? &p->gates[0] : NULL;

	for (unsigned i = 0; g && i < g->n_looks; i++)
		if (g->looks[i] == sessions)
			return true;
	return false;
}

/* Judge what there is, as the report would.  1: no gate waits for another look; 0; negative. */
static int all_decided(const struct campaign *c, struct cvb_err *err)
{
	_cleanup_json_ json_t *verdicts = NULL;
	struct cvb_model *model = NULL;
	const json_t *gates, *gate;
	size_t i;
	int r = cvb_bundle_judge(c->bundle, &verdicts, &model, err);

	cvb_model_free(model);
	if (r < 0)
		return r;
	gates = json_object_get(verdicts, "gates");
	json_array_foreach (gates, i, gate)
		if (!json_is_null(json_object_get(gate, "next_look")))
			return 0;
	return json_array_size(gates) > 0;
}

static int end(struct campaign *c, uint64_t stopped_after, struct cvb_err *err)
{
	json_t *line = json_pack("{s:s}", "type", "campaign_end");
	int r;

	if (stopped_after)
		json_object_set_new(line, "stopped_after", json_integer((json_int_t)stopped_after));
	r = cvb_journal_add(c->journal, line, err);
	return r < 0 ? r : cvb_journal_sync(c->journal, err);
}

static int run_session(struct campaign *c, uint64_t s, struct cvb_err *err)
{
	struct cvb_session session = {.profile = c->profile,
				      .bundle = c->bundle,
				      .journal = c->journal,
				      .announced = &c->announced,
				      .seed = c->done.seed,
				      .number = s + 1,
				      .attempt = c->done.attempts[s] + 1,
				      .bench_done = c->done.bench_done[s]};
	int r = fresh_peer(c, err);

	if (r < 0)
		return r;
	session.peer_port = c->peer.port;
	session.echo_port = c->peer.echo.port;
	r = cvb_session_run(&session, err);
	return r < 0 ? cvb_err_wrap(err, r, "session %" PRIu64, s + 1) : 0;
}

/* Is there anything left to measure after `n` sessions?  1, 0 or negative. */
static int go_on(const struct campaign *c, uint64_t n, struct cvb_err *err)
{
	int r;

	/* a resumed campaign that went on after this look keeps to it */
	if (n == c->profile->sessions || !is_look(c->profile, n) || c->done.attempts[n])
		return n < c->profile->sessions;
	r = all_decided(c, err);
	if (r < 0)
		return cvb_err_wrap(err, r, "looking at the gates after session %" PRIu64, n);
	return r == 0;
}

static int run_sessions(struct campaign *c, struct cvb_err *err)
{
	uint64_t n = 0;
	int r;

	do {
		r = c->done.session_done[n] ? 0 : run_session(c, n, err);
		if (r == 0)
			r = go_on(c, ++n, err);
	} while (r > 0);
	if (r < 0)
		return r;
	if (n == c->profile->sessions)
		return end(c, 0, err);
	cvb_progress_end();
	cvb_info("no gate waits for more after %" PRIu64 " of at most %" PRIu64 " sessions", n,
		 c->profile->sessions);
	return end(c, n, err);
}

/* Say in the journal why it ends here; the disk may be what is full, so this may fail too. */
static void note_abort(struct campaign *c, const struct cvb_err *err)
{
	char text[1024];

	cvb_err_text(err, text, sizeof(text));
	if (cvb_journal_add(c->journal, json_pack("{s:s, s:s}", "type", "abort", "message", text),
			    NULL) == 0)
		cvb_ignore(cvb_journal_sync(c->journal, NULL));
}

/* Measure what is left.  What lies in the scratch folder is nobody's: a resumed bundle may come
 * from a stranger, with links in it to what a guest's disk would overwrite. */
static int measure(struct campaign *c, struct cvb_err *err)
{
	_cleanup_free_ char *scratch = cvb_bundle_path(c->bundle, "scratch");
	int r;

	if (!scratch)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	cvb_remove_tree(scratch);
	r = cvb_mkdir_own(scratch, err);
	if (r == 0)
		r = run_sessions(c, err);
	cvb_progress_end();
	cvb_peer_stop(&c->peer);
	cvb_remove_tree(scratch);
	return r;
}

int cvb_campaign_run(const struct cvb_profile *profile, const char *bundle, uint64_t seed,
		     bool resume, bool *ret_measured, struct cvb_err *err)
{
	struct campaign *c = calloc(1, sizeof(*c));
	struct cvb_err why = {0};
	int r;

	*ret_measured = false;
	if (!c)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	c->profile = profile;
	c->bundle = bundle;
	c->resume = resume;
	c->announced.most = cvb_announced_share(profile->n_benches);
	if (profile->sessions > MAX_SESSIONS)
		r = cvb_err_set(&why, -EINVAL, "more than %d sessions", MAX_SESSIONS);
	else
		r = open_bundle(c, seed, &why);
	if (r == 0 && !c->done.ended) {
		*ret_measured = true;
		begin_progress(c);
		r = measure(c, &why);
		if (r < 0)
			note_abort(c, &why);
	}
	cvb_journal_close(c->journal);
	cvb_announced_done(&c->announced);
	free(c);
	if (r < 0 && err)
		*err = why;
	return r;
}
