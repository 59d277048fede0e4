/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks over a whole profile.
 */
#include "campaign/profile_part.h"
#include "campaign/verdict.h"
#include "core/util.h"
#include "gpu/gpu.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static int unknown_arm(const struct cvb_profile *p, const char *name, struct cvb_err *err)
{
	const char *names[CVB_PROFILE_MAX_ARMS + 1] = {0};
	const char *near;

	for (size_t i = 0; i < p->n_arms; i++)
		names[i] = p->arms[i].name;
	near = cvb_nearest(name, names);
	return cvb_err_set(err, -EINVAL, "unknown arm \"%s\"%s%s%s", name,
			   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

/* An A/A arm is its base arm again: in everything but its name. */
static int check_aa(const struct cvb_profile *p, const struct cvb_arm *a, struct cvb_err *err)
{
	int base = cvb_profile_arm(p, a->aa_of);
	_cleanup_json_ json_t *ours = NULL, *theirs = NULL;
	const char *key;
	json_t *v;

	if (base < 0)
		return unknown_arm(p, a->aa_of, err);
	if (&p->arms[base] == a)
		return cvb_err_set(err, -EINVAL, "aa_of = %s: an arm cannot be its own A/A arm",
				   a->aa_of);
	ours = cvb_opts_to_json(cvb_arm_opts, a);
	theirs = cvb_opts_to_json(cvb_arm_opts, &p->arms[base]);
	json_object_foreach (ours, key, v) {
		if (strcmp(key, "aa_of") != 0 && strcmp(key, "like") != 0 &&
		    !json_equal(v, json_object_get(theirs, key)))
			return cvb_err_set(err, -EINVAL,
					   "aa_of = %s: but %s differs from that arm's (start the "
					   "section with like = %s)",
					   a->aa_of, key, a->aa_of);
	}
	return 0;
}

static int check_arms(const struct cvb_profile *p, struct cvb_err *err)
{
	if (!p->n_arms)
		return cvb_err_set(err, -EINVAL, "no [arm NAME] section");
	for (size_t i = 0; i < p->n_arms; i++) {
		const struct cvb_arm *a = &p->arms[i];
		int r = cvb_arm_check(a, err);

		if (r == 0 && a->aa_of)
			r = check_aa(p, a, err);
		if (r == 0 && a->gpu)
			r = cvb_gpu_spec_check(a->gpu, err);
		if (r < 0)
			return cvb_err_wrap(err, r, "[arm %s]", a->name);
	}
	return 0;
}

/* An arm with a GPU runs the GPU benchmarks, one without runs the others. */
static bool arm_fits(const struct cvb_arm *a, const struct cvb_bench *b)
{
	return (a->gpu != NULL) == ((b->flags & CVB_BENCH_NEEDS_GPU) != 0);
}

static int bench_arms(struct cvb_profile *p, struct cvb_profile_bench *b, struct cvb_err *err)
{
	_cleanup_free_ char *copy = b->arms ? strdup(b->arms) : NULL;
	char *save = NULL;

	if (!b->arms) {
		for (size_t i = 0; i < p->n_arms; i++)
			if (arm_fits(&p->arms[i], b->bench))
				b->arm_mask |= UINT32_C(1) << i;
	} else {
		for (char *w = strtok_r(copy, ", ", &save); w; w = strtok_r(NULL, ", ", &save)) {
			int i = cvb_profile_arm(p, w);

			if (i < 0)
				return unknown_arm(p, w, err);
			b->arm_mask |= UINT32_C(1) << i;
		}
	}
	if (!b->arm_mask)
		return cvb_err_set(err, -EINVAL, "no arm of this profile can run it%s",
				   b->bench->flags & CVB_BENCH_NEEDS_GPU ? ": give an arm a gpu = …"
									 : "");
	return 0;
}

static int check_benches(struct cvb_profile *p, struct cvb_err *err)
{
	if (!p->n_benches)
		return cvb_err_set(err, -EINVAL, "no [bench NAME] section");
	for (size_t i = 0; i < p->n_benches; i++) {
		int r = bench_arms(p, &p->benches[i], err);

		if (r < 0)
			return cvb_err_wrap(err, r, "[bench %s]", p->benches[i].bench->name);
	}
	return 0;
}

/* The benchmark and metric of "mem.stream/triad" must exist and be measured on the gate's arms. */
static int check_gate_metric(const struct cvb_profile *p, const struct cvb_gate *g,
			     struct cvb_err *err)
{
	const char *slash = strchr(g->metric, '/');
	const char *names[33] = {0};

	for (size_t i = 0; slash && i < p->n_benches; i++) {
		const struct cvb_profile_bench *b = &p->benches[i];

		if (strlen(b->bench->name) != (size_t)(slash - g->metric) ||
		    strncmp(b->bench->name, g->metric, (size_t)(slash - g->metric)) != 0)
			continue;
		for (size_t m = 0; m < 32 && b->bench->metrics[m].name; m++)
			names[m] = b->bench->metrics[m].name;
		for (size_t m = 0; names[m]; m++) {
			if (strcmp(names[m], slash + 1) != 0)
				continue;
			const char *const arms[] = {g->arm, g->base};

			for (size_t a = 0; a < 2; a++)
				if (!(b->arm_mask >> cvb_profile_arm(p, arms[a]) & 1))
					return cvb_err_set(err, -EINVAL,
							   "arm %s does not run benchmark %s",
							   arms[a], b->bench->name);
			return 0;
		}
		const char *near = cvb_nearest(slash + 1, names);

		return cvb_err_set(err, -EINVAL, "benchmark %s has no metric \"%s\"%s%s%s",
				   b->bench->name, slash + 1, near ? "; did you mean " : "",
				   near ? near : "", near ? "?" : "");
	}
	return cvb_err_set(err, -EINVAL,
			   "metric = %s: expected BENCH/METRIC of a benchmark in this profile",
			   g->metric);
}

/* Looks of the whole profile into each gate; the last must be the campaign's end. */
static int check_looks(struct cvb_profile *p, struct cvb_err *err)
{
	unsigned looks[CVB_GATE_MAX_LOOKS] = {0}, n = 0;
	int r = p->looks ? cvb_gate_parse_looks(p->looks, looks, &n, err) : 0;

	if (r == 0 && n && looks[n - 1] != p->sessions)
		r = cvb_err_set(err, -EINVAL, "looks = %s: the last must be sessions = %" PRIu64,
				p->looks, p->sessions);
	for (size_t i = 0; r == 0 && i < p->n_gates; i++) {
		memcpy(p->gates[i].looks, looks, sizeof(looks));
		p->gates[i].n_looks = n;
	}
	return r < 0 ? cvb_err_wrap(err, r, "%s: [profile]", p->path) : 0;
}

/* An absolute gate has a limit and needs no base: it is then its own. */
static int check_kind(struct cvb_gate *g, struct cvb_err *err)
{
	if ((g->kind == CVB_GATE_ABSOLUTE) != (g->limit > 0))
		return cvb_err_set(err, -EINVAL,
				   "kind = absolute and a limit above 0 belong together");
	if (g->kind == CVB_GATE_EQUIVALENCE && g->margin == 1)
		return cvb_err_set(err, -EINVAL, "margin = 1 leaves no room to be equivalent");
	if (g->kind == CVB_GATE_ABSOLUTE && !g->base && g->arm) {
		g->base = strdup(g->arm);
		if (!g->base)
			return cvb_err_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

static int check_gates(struct cvb_profile *p, struct cvb_err *err)
{
	for (size_t i = 0; i < p->n_gates; i++) {
		struct cvb_gate *g = &p->gates[i];
		int r = check_kind(g, err);

		if (r == 0 && (!g->metric || !g->arm || !g->base))
			r = cvb_err_set(err, -EINVAL, "%s = … is missing",
					!g->metric ? "metric"
					: !g->arm  ? "arm"
						   : "base");
		else if (r == 0 && cvb_profile_arm(p, g->arm) < 0)
			r = unknown_arm(p, g->arm, err);
		else if (r == 0 && cvb_profile_arm(p, g->base) < 0)
			r = unknown_arm(p, g->base, err);
		else if (r == 0 && g->kind != CVB_GATE_ABSOLUTE && !strcmp(g->arm, g->base))
			r = cvb_err_set(err, -EINVAL, "arm and base are both %s", g->arm);
		else if (r == 0)
			r = check_gate_metric(p, g, err);
		if (r < 0)
			return cvb_err_wrap(err, r, "%s:%u: [gate %s]", p->path, g->line, g->id);
	}
	return 0;
}

/* The benchmark of "mem.stream/triad", which is known to be there. */
static const struct cvb_bench *bench_of(const struct cvb_profile *p, const struct cvb_gate *g)
{
	size_t n = strcspn(g->metric, "/");

	for (size_t i = 0; i < p->n_benches; i++) {
		const struct cvb_bench *b = p->benches[i].bench;

		if (strlen(b->name) == n && !strncmp(b->name, g->metric, n))
			return b;
	}
	return NULL;
}

/* One "NAME=VALUE" of a gate's params. */
static int check_param(const struct cvb_bench *b, const char *item, size_t bytes,
		       struct cvb_err *err)
{
	static const char *const none[] = {NULL};
	size_t n = strcspn(item, "=,");
	_cleanup_free_ char *name = NULL;

	if (n >= bytes)
		return cvb_err_set(err, -EINVAL, "params: \"%.*s\": expected NAME=VALUE",
				   (int)cvb_min(bytes, (size_t)60), item);
	while (n && strchr(" \t", item[n - 1]))
		n--;
	name = strndup(item, n);
	if (!name)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (cvb_bench_has_param(b, name))
		return 0;

	const char *near = cvb_nearest(name, b->params ? b->params : none);

	return cvb_err_set(err, -EINVAL,
			   "params: no series of %s has \"%.60s\"%s%s%s (`list benches` shows what "
			   "they have)",
			   b->name, name, near ? "; did you mean " : "", near ? near : "",
			   near ? "?" : "");
}

int cvb_profile_check_params(const struct cvb_profile *p, struct cvb_err *err)
{
	for (size_t i = 0; i < p->n_gates; i++) {
		const struct cvb_gate *g = &p->gates[i];
		const char *s = g->params ? g->params : "";
		int r = 0;

		/* empty items are none, as the judge sees them */
		for (s += strspn(s, " \t,"); *s && r == 0; s += strspn(s, " \t,")) {
			size_t bytes = strcspn(s, ",");

			r = check_param(bench_of(p, g), s, bytes, err);
			s += bytes;
		}
		if (r < 0)
			return cvb_err_wrap(err, r, "%s:%u: [gate %s]", p->path, g->line, g->id);
	}
	return 0;
}

/* A campaign ends at the first look that decides every gate, and must be certifiable there. */
static int check_first_look(const struct cvb_profile *p, struct cvb_err *err)
{
	unsigned looks[CVB_GATE_MAX_LOOKS] = {0}, n = 0;
	int r = p->looks ? cvb_gate_parse_looks(p->looks, looks, &n, err) : 0;

	if (r == 0 && n > 1 && looks[0] < CVB_CERTIFY_SESSIONS)
		r = cvb_err_set(
			err, -EINVAL,
			"looks = %s: a campaign that ends at %u sessions cannot certify: the "
			"first look must be at %d sessions or later",
			p->looks, looks[0], CVB_CERTIFY_SESSIONS);
	return r < 0 ? cvb_err_wrap(err, r, "%s: [profile]", p->path) : 0;
}

int cvb_profile_check_plan(const struct cvb_profile *p, struct cvb_err *err)
{
	for (size_t i = 0; i < p->n_gates; i++) {
		const struct cvb_gate *g = &p->gates[i];

		if (g->kind != CVB_GATE_ABSOLUTE || !g->margin_given)
			continue;
		cvb_err_set(err, -EINVAL,
			    "margin has no meaning for kind = absolute: the value is held against "
			    "limit as it is");
		return cvb_err_wrap(err, -EINVAL, "%s:%u: [gate %s]", p->path, g->line, g->id);
	}
	return check_first_look(p, err);
}

int cvb_profile_check(struct cvb_profile *p, struct cvb_err *err)
{
	int r = check_arms(p, err);

	if (r == 0)
		r = check_benches(p, err);
	if (r < 0)
		return cvb_err_wrap(err, r, "%s", p->path);
	r = check_looks(p, err);
	return r < 0 ? r : check_gates(p, err);
}
