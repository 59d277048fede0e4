/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bundle of a campaign into a side of a comparison.
 */
#include "campaign/model.h"
#include "campaign/side.h"
#include "campaign/verdict_part.h"
#include "core/opt.h"
#include "core/util.h"
#include "report/bundle.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <string.h>

struct loader {
	struct cvb_side *side;
	const struct cvb_model *m;
	int per;	 /* index of the arm that values are relative to, or -1 */
	double *values;	 /* room for the longest series */
	double aa_alpha; /* each bound of an A/A interval, so that all of them hold together */
	struct cvb_err *err;
};

/* The session that begins at p->v[from]: its values into l->values, their number into *ret_n, and
 * how many points it has. */
static size_t session_values(struct loader *l, const struct cvb_model_points *p, size_t from,
			     enum cvb_match which, size_t *ret_n)
{
	size_t i = from, n = 0;

	for (; i < p->n && p->v[i].session == p->v[from].session; i++)
		if (cvb_verdict_usable(p->v[i].disturbed, which))
			l->values[n++] = p->v[i].value;
	*ret_n = n;
	return i - from;
}

/* The values of each session of one arm. */
static int add_sessions(struct loader *l, struct cvb_side_series *s,
			const struct cvb_model_points *p, enum cvb_match which)
{
	size_t all, n;

	for (size_t i = 0; i < p->n; i += all) {
		char where[40];

		all = session_values(l, p, i, which, &n);
		snprintf(where, sizeof(where), "session %u", p->v[i].session);
		if (n && cvb_side_add_session(s, l->values, n, where) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* What was disturbed does not count; that this does not decide is seen in s->with. */
static int add_plain(struct loader *l, struct cvb_side_series *s, const struct cvb_model_points *p)
{
	size_t usable = 0;

	for (size_t i = 0; i < p->n; i++) {
		s->voided += p->v[i].disturbed != CVB_UNDISTURBED;
		usable += cvb_verdict_usable(p->v[i].disturbed, CVB_MATCH_DISTURBED);
	}
	if (add_sessions(l, s, p, CVB_MATCH_UNDISTURBED) < 0)
		return -ENOMEM;
	if (usable == p->n - s->voided)
		return 0;
	return cvb_side_with(s) ? add_sessions(l, s->with, p, CVB_MATCH_DISTURBED) : -ENOMEM;
}

/* What each session says of the arm relative to the other: pairs, rounds seconds apart. */
static int add_pairs(struct cvb_side_series *s, const struct cvb_matched *pairs, bool lower)
{
	struct cvb_sessions z = {0};
	struct cvb_err why = {0};
	size_t at = 0;
	int r;

	s->samples = pairs->n;
	r = pairs->n ? cvb_sessions_make(&z, pairs->v, pairs->n, lower, CVB_RATIO_LOCATION,
					 pairs->pairing, &why)
		     : 0;
	if (r == -EINVAL) {
		char text[256];

		cvb_err_text(&why, text, sizeof(text));
		cvb_side_spoil_series(s, "%s", text);
		r = 0;
	}
	for (unsigned i = 0; r == 0 && i < z.n; i++) {
		uint64_t hash = CVB_SIDE_HASH_START;

		for (unsigned k = 0; k < z.rounds[i]; k++, at++)
			hash = cvb_side_hash(hash, &pairs->v[at].base, 2 * sizeof(double));
		r = cvb_side_add_value(s, z.z[i], hash);
	}
	cvb_sessions_done(&z);
	return r;
}

static int add_relative(struct loader *l, struct cvb_side_series *s,
			const struct cvb_model_series *ms, unsigned arm)
{
	bool lower = ms->better == CVB_LOWER_IS_BETTER;
	struct cvb_matched pairs, all;
	int r = cvb_verdict_match(ms, l->per, (int)arm, UINT_MAX, CVB_MATCH_UNDISTURBED, &pairs,
				  l->err);

	if (r < 0)
		return r;
	s->voided = pairs.voided;
	r = add_pairs(s, &pairs, lower);
	if (r == 0 && pairs.by[CVB_DISTURBED_STEAL] + pairs.by[CVB_DISTURBED_THROTTLE]) {
		r = cvb_verdict_match(ms, l->per, (int)arm, UINT_MAX, CVB_MATCH_DISTURBED, &all,
				      l->err);
		if (r == 0) {
			r = cvb_side_with(s) ? add_pairs(s->with, &all, lower) : -ENOMEM;
			cvb_matched_done(&all);
		}
	}
	cvb_matched_done(&pairs);
	return r;
}

/* What the campaign's A/A arms say of one arm of the series. */
static int add_again(struct loader *l, struct cvb_side_series *s, const struct cvb_model_series *ms,
		     unsigned base)
{
	struct cvb_again_of of = {.series = ms,
				  .base = (int)base,
				  .estimator = CVB_RATIO_LOCATION,
				  .last_session = UINT_MAX,
				  .alpha = l->aa_alpha};

	for (unsigned a = 0; a < l->m->n_arms; a++) {
		_cleanup_free_ char *distrust = NULL;
		struct cvb_err why = {0};
		struct cvb_again again;
		int r;

		if (!cvb_verdict_measures_again(l->m, ms, a, (int)base))
			continue;
		of.aa = (int)a;
		r = cvb_verdict_again(l->m, &of, &again, &distrust, &why);
		if (r == -EINVAL)
			cvb_side_spoil_series(s, "A/A arm %s: %s", again.aa, why.frame[0].msg);
		else if (r < 0)
			return r;
		if (r == 0 && distrust)
			cvb_side_note(l->side, "A/A arm %s tells nothing: %s", again.aa, distrust);
		if (r != 1)
			continue;
		r = cvb_side_add_again(s, &(struct cvb_side_again){
						  .base = (char *)(uintptr_t)again.base,
						  .aa = (char *)(uintptr_t)again.aa,
						  .wide = again.wide,
						  .narrow = again.narrow,
						  .alpha = again.alpha,
					  });
		if (r < 0)
			return r;
	}
	return 0;
}

/* What the surroundings of a series say about it. */
static void judge_series(struct loader *l, struct cvb_side_bench *b, struct cvb_side_series *s,
			 const struct cvb_model_series *ms, unsigned arm)
{
	const struct cvb_model_points *p = &ms->points[arm];
	const char *name = l->m->arms[arm].name;
	size_t all = s->voided + s->samples;

	if ((double)s->voided > CVB_VOIDED_LIMIT * (double)all)
		cvb_side_spoil(
			b, CVB_SIDE_INVALID,
			"%zu of %zu samples on arm %s were disturbed, by stolen CPU time, throttling or "
			"a clock step: more than %g %%",
			s->voided, all, name, 100 * CVB_VOIDED_LIMIT);
	else if (s->voided)
		cvb_side_note(
			l->side,
			"%s on arm %s: %zu of %zu samples are left out: stolen CPU time, throttling "
			"or a clock step disturbed them",
			s->title, name, s->voided, all);
	if (p->sessions_unsteady > p->sessions_steady)
		cvb_side_note(l->side, "%s on arm %s reached no steady state in %u of %u sessions",
			      s->title, name, p->sessions_unsteady,
			      p->sessions_unsteady + p->sessions_steady);
}

static int add_series(struct loader *l, struct cvb_side_bench *b, unsigned arm, unsigned bench)
{
	for (size_t i = 0; i < l->m->n_series; i++) {
		const struct cvb_model_series *ms = l->m->series[i];
		bool relative = l->per >= 0;
		struct cvb_side_series *s;
		int r;

		if (ms->bench != bench || !ms->points[arm].n)
			continue;
		s = cvb_side_series(b, ms->name, ms->params, relative ? "ratio" : ms->unit,
				    relative ? CVB_HIGHER_IS_BETTER : ms->better);
		if (!s)
			return -ENOMEM;
		r = relative ? add_relative(l, s, ms, arm) : add_plain(l, s, &ms->points[arm]);
		if (r == 0)
			r = add_again(l, s, ms, arm);
		if (r == 0 && relative)
			r = add_again(l, s, ms, (unsigned)l->per);
		if (r < 0)
			return r;
		judge_series(l, b, s, ms, arm);
		l->side->sessions = cvb_max(l->side->sessions, s->n);
	}
	return 0;
}

/* Why a benchmark on an arm has no value that could be compared. */
static int judge_cell(const struct loader *l, struct cvb_side_bench *b, unsigned arm,
		      unsigned bench)
{
	const struct cvb_model_cell *c = &l->m->benches[bench].cells[arm];
	const char *name = l->m->arms[arm].name;
	struct cvb_judgement j = {0};
	int r;

	if (c->outcome != CVB_MODEL_OK && c->outcome != CVB_MODEL_UNTRUSTED) {
		cvb_side_spoil(b,
			       c->outcome == CVB_MODEL_UNSUPPORTED ? CVB_SIDE_UNSUPPORTED
								   : CVB_SIDE_BAD,
			       "arm %s: %s%s%s", name, cvb_model_outcome_names[c->outcome],
			       c->reason ? ": " : "", c->reason ? c->reason : "");
		return 0;
	}
	/* what voids a gate of the campaign voids a comparison too */
	r = cvb_verdict_side_trusted(l->m, name, (int)bench, &j);
	if (r == 0)
		cvb_side_spoil(b, CVB_SIDE_INVALID, "%s", j.reason ? j.reason : "?");
	free(j.reason);
	return r < 0 ? r : 0;
}

static int add_options(struct cvb_side_bench *b, const json_t *options, const char *prefix)
{
	json_t *own = (json_t *)(uintptr_t)options; /* only read */

	if (!b->options)
		b->options = json_object();
	for (void *it = json_object_iter(own); it; it = json_object_iter_next(own, it)) {
		_cleanup_free_ char *key = cvb_strf("%s%s", prefix, json_object_iter_key(it));

		if (!key || json_object_set(b->options, key, json_object_iter_value(it)) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int add_bench(struct loader *l, struct cvb_side_arm *a, unsigned arm, unsigned bench)
{
	const struct cvb_model_arm *ma = &l->m->arms[arm];
	const struct cvb_model_bench *mb = &l->m->benches[bench];
	const struct cvb_model_cell *c = &mb->cells[arm];
	struct cvb_side_bench *b = cvb_side_bench(a, mb->name);
	unsigned all = cvb_max(ma->sessions, 1U);
	const unsigned both[] = {arm, (unsigned)cvb_max(l->per, 0)};

	if (!b || add_options(b, c->options, "") < 0)
		return -ENOMEM;
	b->sessions = all;
	b->workers = c->workers;
	for (unsigned i = 0; i < (l->per < 0 ? 1 : 2); i++) {
		const struct cvb_model_arm *x = &l->m->arms[both[i]];
		const struct cvb_model_cell *xc = &mb->cells[both[i]];

		if (judge_cell(l, b, both[i], bench) < 0)
			return -ENOMEM;
		if (xc->emulated)
			b->labelled[CVB_SIDE_EMULATED] = all;
		if (xc->deterministic)
			b->labelled[CVB_SIDE_DETERMINISTIC] = all;
		if (x->accel && !strcmp(x->accel, "tcg"))
			b->labelled[CVB_SIDE_TCG] = all;
	}
	/* relative to something measured, a virtual clock's value is no longer exact */
	if (l->per >= 0) {
		_cleanup_free_ char *prefix = cvb_strf("%s.", l->m->arms[l->per].name);

		if (!(c->deterministic && mb->cells[l->per].deterministic))
			b->labelled[CVB_SIDE_DETERMINISTIC] = 0;
		if (!prefix || add_options(b, mb->cells[l->per].options, prefix) < 0)
			return -ENOMEM;
	}
	return b->fault == CVB_SIDE_GOOD ? add_series(l, b, arm, bench) : 0;
}

/* What the arm was, beside what it found itself to be. */
static json_t *describe_arm(const struct cvb_model_arm *a)
{
	json_t *env = a->environment ? json_copy(a->environment) : json_object();

	json_object_set_new(env, "arm",
			    json_pack("{s:s?, s:s?, s:s?, s:s?, s:b}", "target", a->target, "gpu",
				      a->gpu, "tee", a->tee, "accel", a->accel, "bounce",
				      a->bounce));
	return env;
}

static int add_arm(struct loader *l, unsigned arm)
{
	const struct cvb_model_arm *ma = &l->m->arms[arm];
	struct cvb_side_arm *a = cvb_side_arm(l->side, ma->name);
	int r = 0;

	if (!a)
		return -ENOMEM;
	a->environment = describe_arm(ma);
	if (ma->state != CVB_MODEL_ARM_READY) {
		a->unsupported =
			strdup(ma->state == CVB_MODEL_ARM_UNSEEN ? "the campaign never came to it"
			       : ma->reason			 ? ma->reason
								 : "no reason was given");
		return a->unsupported ? 0 : -ENOMEM;
	}
	for (unsigned b = 0; r == 0 && b < l->m->n_benches; b++) {
		uint32_t mask = l->m->benches[b].arm_mask;

		if (!(mask >> arm & 1))
			continue;
		if (l->per >= 0 && !(mask >> l->per & 1))
			cvb_side_note(l->side, "%s on arm %s is left out: arm %s does not run it",
				      l->m->benches[b].name, ma->name, l->m->arms[l->per].name);
		else
			r = add_bench(l, a, arm, b);
	}
	return r;
}

static int find_per(struct loader *l, const char *per)
{
	const char *names[CVB_MODEL_MAX_ARMS + 1] = {NULL};
	const char *near;

	l->per = per ? cvb_model_arm(l->m, per) : -1;
	if (!per || l->per >= 0)
		return 0;
	for (size_t i = 0; i < l->m->n_arms; i++)
		names[i] = l->m->arms[i].name;
	near = cvb_nearest(per, names);
	return cvb_err_set(l->err, -EINVAL, "--per %s: no arm of %s%s%s%s", per, l->side->path,
			   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

/* CVB_AA_ALPHA, shared among all that measures again. */
static double aa_alpha(const struct cvb_model *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n_series; i++)
		for (size_t a = 0; a < m->n_arms; a++)
			n += m->arms[a].aa_of && m->series[i]->points[a].n;
	return CVB_AA_ALPHA / (double)cvb_max(n, (size_t)1);
}

static int add_arms(struct loader *l)
{
	size_t most = 1;
	int r = 0;

	l->aa_alpha = aa_alpha(l->m);

	for (size_t i = 0; i < l->m->n_series; i++)
		for (size_t a = 0; a < l->m->n_arms; a++)
			most = cvb_max(most, l->m->series[i]->points[a].n);
	l->values = calloc(most, sizeof(*l->values));
	if (!l->values)
		r = -ENOMEM;
	for (unsigned a = 0; r == 0 && a < l->m->n_arms; a++) {
		if (l->m->arms[a].aa_of)
			cvb_side_note(
				l->side,
				"arm %s measures %s again: it has no row, but is held against "
				"those of %s",
				l->m->arms[a].name, l->m->arms[a].aa_of, l->m->arms[a].aa_of);
		else if ((int)a != l->per)
			r = add_arm(l, a);
	}
	free(l->values);
	return r < 0 ? cvb_err_set(l->err, r, "out of memory comparing %s", l->side->path) : 0;
}

int cvb_side_load_bundle(struct cvb_side *s, const char *per, struct cvb_err *err)
{
	_cleanup_free_ char *journal = cvb_bundle_path(s->path, CVB_BUNDLE_JOURNAL);
	struct cvb_model *m = NULL;
	int r = journal ? cvb_model_load(&m, journal, err)
			: cvb_err_set(err, -ENOMEM, "out of memory");
	struct loader l = {.side = s, .m = m, .err = err};

	if (r == 0)
		r = find_per(&l, per);
	if (r == 0)
		r = add_arms(&l);
	if (r == 0) {
		s->tool = json_incref(m->tool_json);
		if (!m->complete)
			cvb_side_note(s, "the campaign was cut off: %u of %u sessions are complete",
				      m->sessions_complete, m->sessions);
	}
	cvb_model_free(m);
	return r;
}
