/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/verdict.h"

#include "campaign/verdict_part.h"
#include "core/opt.h"
#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

int cvb_verdict_decide(struct cvb_judgement *j, enum cvb_verdict verdict, const char *fmt, ...)
{
	va_list ap;

	free(j->reason);
	va_start(ap, fmt);
	if (vasprintf(&j->reason, fmt, ap) < 0)
		j->reason = NULL;
	va_end(ap);
	j->verdict = verdict;
	return j->reason ? 0 : -ENOMEM;
}

int cvb_verdict_also(struct cvb_judgement *j, const char *fmt, ...)
{
	_cleanup_free_ char *before = CVB_TAKE(j->reason);
	_cleanup_free_ char *more = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&more, fmt, ap) < 0)
		more = NULL;
	va_end(ap);
	return more ? cvb_verdict_decide(j, j->verdict, "%s; %s", before, more) : -ENOMEM;
}

/* Is `a` worse news than `b`? */
static bool worse(const struct cvb_judgement *a, const struct cvb_judgement *b)
{
	if (a->verdict != b->verdict)
		return a->verdict > b->verdict;
	if (!a->has_ratio || !b->has_ratio)
		return b->has_ratio;
	if (a->ratio.has_interval && b->ratio.has_interval && a->ratio.lower != b->ratio.lower)
		return a->ratio.lower < b->ratio.lower;
	return a->ratio.ratio < b->ratio.ratio;
}

/* The metric name nearest to what the gate asks, or what there is, into buf. */
static const char *near_names(const struct cvb_model *m, const char *metric, char *buf,
			      size_t buf_bytes)
{
	_cleanup_free_ const char **names = calloc(m->n_series + 1, sizeof(*names));
	size_t n = 0, used;
	const char *near;

	buf[0] = '\0';
	for (size_t i = 0; names && i < m->n_series; i++)
		if (!n || strcmp(names[n - 1], m->series[i]->name) != 0)
			names[n++] = m->series[i]->name;
	if (!n)
		return buf;
	near = cvb_nearest(metric, names);
	if (near) {
		snprintf(buf, buf_bytes, "; did you mean %.150s?", near);
		return buf;
	}
	used = (size_t)snprintf(buf, buf_bytes, "; there are");
	for (size_t i = 0; i < n && i < 6 && used < buf_bytes; i++)
		used += (size_t)snprintf(buf + used, buf_bytes - used, "%s %.100s", i ? "," : "",
					 names[i]);
	return buf;
}

/* The benchmark of "mem.stream/triad", or -1. */
static int bench_of_metric(const struct cvb_model *m, const char *metric)
{
	const char *slash = strrchr(metric, '/');

	for (size_t i = 0; slash && i < m->n_benches; i++) {
		const char *name = m->benches[i].name;

		if (strlen(name) == (size_t)(slash - metric) &&
		    !strncmp(name, metric, (size_t)(slash - metric)))
			return (int)i;
	}
	return -1;
}

static int judge_no_series(const struct cvb_model *m, const struct cvb_gate *g,
			   struct cvb_judgement *j)
{
	const char *const arms[] = {g->arm, g->base};

	for (size_t i = 0; i < CVB_ARRAY_LEN(arms); i++) {
		const char *why =
			cvb_verdict_left_out(m, arms[i], bench_of_metric(m, g->metric), g->params);

		if (why)
			return cvb_verdict_decide(j, CVB_VERDICT_UNSUPPORTED, "%s on arm %s: %s",
						  g->metric, arms[i], why);
	}

	char near[800];
	const struct cvb_model_series *other = NULL;

	for (size_t i = 0; i < m->n_series && !other; i++)
		if (!strcmp(m->series[i]->name, g->metric))
			other = m->series[i];
	if (other)
		return cvb_verdict_decide(
			j, CVB_VERDICT_INVALID,
			"no series of %s has the params \"%s\"; one there is has \"%s\"", g->metric,
			g->params ? g->params : "", other->params_key);
	return cvb_verdict_decide(j, CVB_VERDICT_INVALID,
				  "no benchmark of this campaign measured %s%s", g->metric,
				  near_names(m, g->metric, near, sizeof(near)));
}

/* Keep the p value of a judged series for the family. */
static int add_p(struct cvb_judging *c, struct cvb_judgement *j)
{
	double *bigger = reallocarray(c->p, c->n_p + 1, sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	c->p = bigger;
	j->p_index = c->n_p;
	c->p[c->n_p++] = j->p_fail;
	return 0;
}

static int judge_matching(struct cvb_judging *c, const struct cvb_gate *g,
			  struct cvb_judgement *worst, struct cvb_err *err)
{
	const struct cvb_model *m = c->m;
	unsigned count[CVB_VERDICT_FAIL + 1] = {0}, matched = 0;
	bool aa_excludes_one = false, aa_missing = false, no_steady_state = false;
	double least = INFINITY; /* p value of the series that fails most surely */
	size_t least_index = 0;
	int e = 0;

	for (size_t i = 0; i < m->n_series; i++) {
		struct cvb_judgement j;

		if (strcmp(m->series[i]->name, g->metric) != 0 ||
		    !cvb_model_params_match(m->series[i], g->params))
			continue;
		e = cvb_verdict_series(c, m->series[i], g, &j, err);
		if (e == 0 && g->kind != CVB_GATE_REPORT && j.has_ratio)
			e = add_p(c, &j);
		if (j.verdict == CVB_VERDICT_FAIL && !(j.p_fail >= least))
			least = j.p_fail, least_index = j.p_index;
		if (e < 0) {
			free(j.reason);
			return e;
		}
		count[j.verdict]++;
		aa_excludes_one = aa_excludes_one || j.aa_excludes_one;
		aa_missing = aa_missing || j.aa_missing;
		no_steady_state = no_steady_state || j.no_steady_state;
		if (!matched++ || worse(&j, worst)) {
			free(worst->reason);
			*worst = j;
		} else {
			free(j.reason);
		}
	}
	if (!matched)
		return judge_no_series(m, g, worst);
	worst->matched = matched;
	worst->aa_excludes_one = aa_excludes_one;
	worst->aa_missing = aa_missing;
	worst->no_steady_state = no_steady_state;
	if (worst->verdict == CVB_VERDICT_FAIL)
		worst->p_index = least_index;
	if (matched == 1)
		return 0;

	_cleanup_free_ char *why = CVB_TAKE(worst->reason);
	char tally[120];
	size_t used = 0;

	for (int v = CVB_VERDICT_FAIL; v >= 0; v--)
		if (count[v])
			used += (size_t)snprintf(tally + used, sizeof(tally) - used, "%s%u %s",
						 used ? ", " : "", count[v], cvb_verdict_names[v]);
	return cvb_verdict_decide(worst, worst->verdict, "worst of %u series (%s) is {%s}: %s",
				  matched, tally, worst->series->params_key, why);
}

/* Judge; numbers of a measurement that is not trusted are shown, but decide nothing. */
static int judge_measured(struct cvb_judging *c, const struct cvb_gate *g, int bench,
			  struct cvb_judgement *j, struct cvb_err *err)
{
	const struct cvb_model *m = c->m;
	struct cvb_judgement distrust = {0};
	int trusted = cvb_verdict_side_trusted(m, g->arm, bench, &distrust), e;

	if (trusted == 1)
		trusted = cvb_verdict_side_trusted(m, g->base, bench, &distrust);
	if (trusted == 1)
		trusted = cvb_verdict_sides_alike(m, g, bench, &distrust);
	e = trusted < 0 ? trusted : judge_matching(c, g, j, err);
	if (e == 0 && trusted == 0) {
		free(j->reason);
		j->reason = CVB_TAKE(distrust.reason);
		j->verdict = distrust.verdict;
		j->sessions_needed = 0;
		j->open = false;
	}
	free(distrust.reason);
	return e;
}

static int judge_gate(struct cvb_judging *c, const struct cvb_gate *g, struct cvb_judgement *j,
		      struct cvb_err *err)
{
	const struct cvb_model *m = c->m;
	int bench = bench_of_metric(m, g->metric);
	int e = cvb_verdict_side_measured(m, g->arm, bench, j);

	if (e == 1)
		e = cvb_verdict_side_measured(m, g->base, bench, j);
	if (e == 1)
		e = judge_measured(c, g, bench, j, err);
	if (e == -ENOMEM)
		return cvb_err_set(err, e, "out of memory judging gate %s", g->id);
	return e;
}

int cvb_verdict_judge(const struct cvb_model *m, const struct cvb_gate *gates, size_t n_gates,
		      json_t **ret, struct cvb_err *err)
{
	struct cvb_judgement *j = calloc(n_gates + 1, sizeof(*j));
	struct cvb_judging c = {.m = m};
	json_t *doc = json_object();
	int e = j && doc ? 0 : cvb_err_set(err, -ENOMEM, "out of memory judging %s", m->path);

	if (e == 0)
		e = cvb_verdict_aa_alpha(m, gates, n_gates, &c.aa_alpha, err);
	for (size_t i = 0; e == 0 && i < n_gates; i++)
		e = judge_gate(&c, &gates[i], &j[i], err);
	if (e == 0)
		e = cvb_verdict_document(&c, gates, j, n_gates, doc, err);
	for (size_t i = 0; j && i < n_gates; i++)
		free(j[i].reason);
	free(j);
	free(c.p);
	if (e < 0) {
		json_decref(doc);
		return e;
	}
	*ret = doc;
	return 0;
}
