/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/profile.h"

#include "core/file.h"
#include "core/util.h"
#include "gpu/gpu.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <string.h>

#define MAX_PROFILE_BYTES (1 << 20)

const char *const cvb_gate_kind_names[] = {"non-inferiority", "equivalence", "absolute", "report",
					   NULL};

#define P(field) offsetof(struct cvb_profile, field)
static const struct cvb_opt profile_opts[] = {
	{.name = "name", .type = CVB_OPT_STR, .offset = P(name), .help = "name of the profile"},
	{.name = "summary", .type = CVB_OPT_STR, .offset = P(summary), .help = "what it is for"},
	{.name = "sessions",
	 .type = CVB_OPT_U64,
	 .offset = P(sessions),
	 .def = "6",
	 .min = 1,
	 .max = 1000,
	 .help = "fresh boots of every arm; the unit of inference"},
	{.name = "looks",
	 .type = CVB_OPT_STR,
	 .offset = P(looks),
	 .arg = "S,S,…",
	 .help = "sessions after which the gates are looked at, such as 6,10,16,24; the last is "
		 "`sessions`; default: once, at the end"},
	{.name = "rounds",
	 .type = CVB_OPT_U64,
	 .offset = P(rounds),
	 .def = "12",
	 .min = 1,
	 .max = 10000,
	 .help = "rounds of each benchmark in a session"},
	{.name = "timeout_s",
	 .type = CVB_OPT_U64,
	 .offset = P(timeout_s),
	 .def = "600",
	 .min = 1,
	 .max = 86400,
	 .unit = "s",
	 .help = "limit of one set-up, calibration or sample"},
	{.name = "sample_ms",
	 .type = CVB_OPT_U64,
	 .offset = P(sample_ms),
	 .def = "20",
	 .min = 1,
	 .max = 60000,
	 .unit = "ms",
	 .help = "wanted length of a sample"},
	CVB_OPT_END,
};

#define B(field) offsetof(struct cvb_profile_bench, field)
static const struct cvb_opt bench_opts[] = {
	{.name = "arms",
	 .type = CVB_OPT_STR,
	 .offset = B(arms),
	 .arg = "ARM,…",
	 .help = "arms that run it; default: all that fit"},
	{.name = "rounds",
	 .type = CVB_OPT_U64,
	 .offset = B(rounds),
	 .def = "0",
	 .min = 0,
	 .max = 10000,
	 .help = "rounds in a session; 0 means the profile's"},
	{.name = "timeout_s",
	 .type = CVB_OPT_U64,
	 .offset = B(timeout_s),
	 .def = "0",
	 .min = 0,
	 .max = 86400,
	 .unit = "s",
	 .help = "limit of one set-up, calibration or sample; 0 means the profile's"},
	{.name = "sample_ms",
	 .type = CVB_OPT_U64,
	 .offset = B(sample_ms),
	 .def = "0",
	 .min = 0,
	 .max = 60000,
	 .unit = "ms",
	 .help = "wanted length of a sample; 0 means the profile's"},
	{.name = "threads",
	 .type = CVB_OPT_U64,
	 .offset = B(threads),
	 .def = "0",
	 .min = 0,
	 .max = 1024,
	 .help = "worker threads; 0 means one for each CPU"},
	CVB_OPT_END,
};

#define G(field) offsetof(struct cvb_gate, field)
static const struct cvb_opt gate_opts[] = {
	{.name = "metric",
	 .type = CVB_OPT_STR,
	 .offset = G(metric),
	 .arg = "BENCH/METRIC",
	 .help = "what is judged"},
	{.name = "params",
	 .type = CVB_OPT_STR,
	 .offset = G(params),
	 .arg = "KEY=VALUE,…",
	 .help = "which of a swept metric's series; default: all, the worst counts"},
	{.name = "arm", .type = CVB_OPT_STR, .offset = G(arm), .help = "the arm that is judged"},
	{.name = "base",
	 .type = CVB_OPT_STR,
	 .offset = G(base),
	 .help = "the arm it is held against"},
	{.name = "kind",
	 .type = CVB_OPT_CHOICE,
	 .offset = G(kind),
	 .def = "non-inferiority",
	 .choices = cvb_gate_kind_names,
	 .help = "kind of judgement"},
	{.name = "margin",
	 .type = CVB_OPT_DOUBLE,
	 .offset = G(margin),
	 .def = "0.95",
	 .min = 1e-6,
	 .max = 1000,
	 .help = "smallest acceptable performance ratio arm / base"},
	{.name = "estimator",
	 .type = CVB_OPT_CHOICE,
	 .offset = G(estimator),
	 .def = "location",
	 .choices = cvb_ratio_estimator_names,
	 .help = "what is compared: location, throughput (total times), tail (p99) or mean"},
	{.name = "limit",
	 .type = CVB_OPT_DOUBLE,
	 .offset = G(limit),
	 .help = "kind = absolute: worst acceptable value, in the metric's unit"},
	CVB_OPT_END,
};

/* --- reading --------------------------------------------------------------------------------- */

enum section {
	SECTION_NONE,
	SECTION_PROFILE,
	SECTION_ARM,
	SECTION_BENCH,
	SECTION_GATE,
};

struct reader {
	struct cvb_profile *p;
	const char *at; /* rest of the text */
	unsigned line;	/* number of the line handed out last */
	enum section section;
	size_t index;	  /* of the arm, bench or gate that the section fills */
	char header[128]; /* current section's name */
	int r;
	struct cvb_err *err;
};

static bool good_name(const char *name)
{
	if (!isalnum((unsigned char)*name) || strlen(name) > 63)
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("._-", *name))
			return false;
	return true;
}

static int begin_arm(struct reader *rd, const char *name)
{
	struct cvb_profile *p = rd->p;

	if (p->n_arms == CVB_PROFILE_MAX_ARMS)
		return cvb_err_set(rd->err, -EINVAL, "more than %d arms", CVB_PROFILE_MAX_ARMS);
	if (cvb_profile_arm(p, name) >= 0)
		return cvb_err_set(rd->err, -EINVAL, "arm %s is there twice", name);
	struct cvb_arm *arm = &p->arms[p->n_arms];

	rd->index = p->n_arms++;
	arm->name = strdup(name);
	if (!arm->name)
		return cvb_err_set(rd->err, -ENOMEM, "out of memory");
	return cvb_opts_defaults(cvb_arm_opts, arm, rd->err);
}

static int begin_bench(struct reader *rd, const char *name)
{
	struct cvb_profile *p = rd->p;
	struct cvb_profile_bench *b = &p->benches[p->n_benches];
	const struct cvb_bench *bench;

	if (p->n_benches == CVB_PROFILE_MAX_BENCHES)
		return cvb_err_set(rd->err, -EINVAL, "more than %d benchmarks",
				   CVB_PROFILE_MAX_BENCHES);
	bench = cvb_bench_find(name, rd->err);
	if (!bench)
		return -EINVAL;
	for (size_t i = 0; i < p->n_benches; i++)
		if (p->benches[i].bench == bench)
			return cvb_err_set(rd->err, -EINVAL, "benchmark %s is there twice", name);
	rd->index = p->n_benches++;
	b->bench = bench;
	b->line = rd->line;
	b->options = json_object();
	return cvb_opts_defaults(bench_opts, b, rd->err);
}

static int begin_gate(struct reader *rd, const char *id)
{
	struct cvb_profile *p = rd->p;
	struct cvb_gate *g = &p->gates[p->n_gates];

	if (p->n_gates == CVB_PROFILE_MAX_GATES)
		return cvb_err_set(rd->err, -EINVAL, "more than %d gates", CVB_PROFILE_MAX_GATES);
	for (size_t i = 0; i < p->n_gates; i++)
		if (!strcmp(p->gates[i].id, id))
			return cvb_err_set(rd->err, -EINVAL, "gate %s is there twice", id);
	rd->index = p->n_gates++;
	g->line = rd->line;
	g->id = strdup(id);
	if (!g->id)
		return cvb_err_set(rd->err, -ENOMEM, "out of memory");
	return cvb_opts_defaults(gate_opts, g, rd->err);
}

static int begin_section(struct reader *rd, const char *header)
{
	static const struct {
		const char *word;
		enum section section;
		int (*begin)(struct reader *, const char *);
	} kinds[] = {{"arm", SECTION_ARM, begin_arm},
		     {"bench", SECTION_BENCH, begin_bench},
		     {"gate", SECTION_GATE, begin_gate}};
	const char *name = strchr(header, ' ');

	snprintf(rd->header, sizeof(rd->header), "%s", header);
	rd->section = SECTION_NONE;
	if (!strcmp(header, "profile")) {
		rd->section = SECTION_PROFILE;
		return 0;
	}
	for (size_t i = 0; name && i < CVB_ARRAY_LEN(kinds); i++) {
		if (strlen(kinds[i].word) != (size_t)(name - header) ||
		    strncmp(header, kinds[i].word, (size_t)(name - header)) != 0)
			continue;
		if (!good_name(name + 1))
			return cvb_err_set(rd->err, -EINVAL,
					   "[%s]: a name is letters, digits, '.', '_' and '-', "
					   "and at most 63 of them",
					   header);
		int r = kinds[i].begin(rd, name + 1);

		if (r == 0)
			rd->section = kinds[i].section;
		return r;
	}
	return cvb_err_set(rd->err, -EINVAL,
			   "unknown section [%s]: expected [profile], [arm NAME], [bench NAME] or "
			   "[gate ID]",
			   header);
}

/* `like` copies the other arm's keys at once, so it must be the section's first key. */
static int arm_like(struct reader *rd, const char *other)
{
	struct cvb_profile *p = rd->p;
	struct cvb_arm *arm = &p->arms[rd->index];
	int from = cvb_profile_arm(p, other);

	if (from < 0 || (size_t)from == rd->index)
		return cvb_err_set(rd->err, -EINVAL, "like = %s: no arm of that name above", other);
	for (const struct cvb_opt *o = cvb_arm_opts; o->name; o++) {
		const char *field = (const char *)&p->arms[from] + o->offset;
		int r = 0;

		if (!strcmp(o->name, "like") || !strcmp(o->name, "aa_of"))
			continue;
		if (o->type == CVB_OPT_STR) {
			if (*(char *const *)field)
				r = cvb_opt_set(cvb_arm_opts, arm, o->name, *(char *const *)field,
						rd->err);
		} else {
			size_t bytes = o->type == CVB_OPT_FLAG	   ? sizeof(bool)
				       : o->type == CVB_OPT_CHOICE ? sizeof(int)
								   : sizeof(uint64_t);

			memcpy((char *)arm + o->offset, field, bytes);
		}
		if (r < 0)
			return r;
	}
	return cvb_opt_set(cvb_arm_opts, arm, "like", other, rd->err);
}

static int set_bench_key(struct reader *rd, const char *key, const char *value)
{
	struct cvb_profile_bench *b = &rd->p->benches[rd->index];
	int r;

	if (cvb_opt_find(bench_opts, key))
		return cvb_opt_set(bench_opts, b, key, value, rd->err);
	if (json_object_get(b->options, key))
		return cvb_err_set(rd->err, -EINVAL, "%s is there twice", key);

	/* parse it now, so that a mistake is told with its line and before anything boots */
	void *conf = calloc(1, b->bench->conf_size ? b->bench->conf_size : 1);

	if (!conf)
		return cvb_err_set(rd->err, -ENOMEM, "out of memory");
	r = cvb_opt_set(b->bench->opts, conf, key, value, rd->err);
	cvb_opts_done(b->bench->opts, conf);
	free(conf);
	if (r == 0)
		json_object_set_new(b->options, key, json_string(value));
	return r;
}

static int set_key(struct reader *rd, const char *key, const char *value)
{
	struct cvb_profile *p = rd->p;

	switch (rd->section) {
	case SECTION_PROFILE:
		return cvb_opt_set(profile_opts, p, key, value, rd->err);
	case SECTION_ARM:
		if (!strcmp(key, "like"))
			return arm_like(rd, value);
		return cvb_opt_set(cvb_arm_opts, &p->arms[rd->index], key, value, rd->err);
	case SECTION_BENCH:
		return set_bench_key(rd, key, value);
	case SECTION_GATE:
		return cvb_opt_set(gate_opts, &p->gates[rd->index], key, value, rd->err);
	case SECTION_NONE:
		break;
	}
	return cvb_err_set(rd->err, -EINVAL, "%s stands before any [section]", key);
}

/*
 * fgets for inih that counts lines, so that a handler knows where it is.  It also opens sections
 * itself: inih says nothing of one without keys and cuts long names.  Leading blanks are dropped,
 * so that an indented line is never taken as the continuation of the value above.
 */
static char *next_line(char *buf, int room, void *ctx)
{
	struct reader *rd = ctx;
	size_t len;

	if (!*rd->at || rd->r < 0)
		return NULL;
	rd->line++;
	rd->at += strspn(rd->at, " \t");
	len = strcspn(rd->at, "\n");
	if (rd->at[len] == '\n')
		len++;
	if (len >= (size_t)room) { /* inih would take the rest as another line */
		rd->r = cvb_err_set(rd->err, -EINVAL, "the line is longer than %d characters",
				    room - 1);
		return NULL;
	}
	memcpy(buf, rd->at, len);
	buf[len] = '\0';
	rd->at += len;

	const char *close = buf[0] == '[' ? strchr(buf, ']') : NULL;

	if (close) {
		char header[128];

		snprintf(header, sizeof(header), "%.*s", (int)(close - buf - 1), buf + 1);
		rd->r = begin_section(rd, header);
		if (rd->r < 0)
			return NULL;
	}
	return buf;
}

static int on_entry(void *ctx, const char *section, const char *key, const char *value)
{
	struct reader *rd = ctx;

	(void)section; /* cut to 50 characters by inih; rd->header is whole */
	if (rd->r < 0 || !key)
		return 1;
	rd->r = set_key(rd, key, value ? value : "");
	if (rd->r < 0)
		cvb_err_wrap(rd->err, rd->r, "[%s]", rd->header);
	return 1;
}

/* --- checks over the whole -------------------------------------------------------------------- */

int cvb_profile_arm(const struct cvb_profile *p, const char *name)
{
	for (size_t i = 0; i < p->n_arms; i++)
		if (!strcmp(p->arms[i].name, name))
			return (int)i;
	return -1;
}

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

static int check(struct cvb_profile *p, struct cvb_err *err)
{
	int r = check_arms(p, err);

	if (r == 0)
		r = check_benches(p, err);
	if (r < 0)
		return cvb_err_wrap(err, r, "%s", p->path);
	r = check_looks(p, err);
	return r < 0 ? r : check_gates(p, err);
}

/* --- load and free ---------------------------------------------------------------------------- */

static char *find_profile(const char *name, struct cvb_err *err)
{
	_cleanup_free_ char *in_tree = cvb_strf("profiles/%s.ini", name);
	size_t len = strlen(name);

	if (strchr(name, '/') || (len > 4 && !strcmp(name + len - 4, ".ini")))
		return strdup(name);
	if (!in_tree)
		return NULL;
	char *path = cvb_data_path(in_tree, err);

	if (!path)
		cvb_err_wrap(err, -EINVAL, "unknown profile \"%s\"", name);
	return path;
}

static int parse(struct cvb_profile *p, struct cvb_err *err)
{
	struct reader rd = {.p = p, .at = p->text, .err = err};
	int bad_line = ini_parse_stream(next_line, &rd, on_entry, &rd);

	if (rd.r < 0)
		return cvb_err_wrap(err, rd.r, "%s:%u", p->path, rd.line);
	if (bad_line > 0)
		return cvb_err_set(err, -EINVAL,
				   "%s:%d: expected [section], key = value or a comment", p->path,
				   bad_line);
	return bad_line < 0 ? cvb_err_set(err, -ENOMEM, "out of memory reading %s", p->path) : 0;
}

int cvb_profile_load(struct cvb_profile **ret, const char *name, struct cvb_err *err)
{
	struct cvb_profile *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cvb_opts_defaults(profile_opts, p, err);
	if (r == 0) {
		p->path = find_profile(name, err);
		r = p->path ? 0 : -EINVAL;
	}
	if (r == 0 && cvb_file_read(p->path, MAX_PROFILE_BYTES, &p->text, NULL, err) < 0)
		r = -EINVAL;
	if (r == 0 && strlen(p->text) == 0)
		r = cvb_err_set(err, -EINVAL, "%s is empty", p->path);
	if (r == 0)
		r = parse(p, err);
	if (r == 0)
		r = check(p, err);
	if (r == 0 && !p->name) {
		const char *slash = strrchr(p->path, '/');
		const char *base = slash ? slash + 1 : p->path;

		p->name = strndup(base, strcspn(base, "."));
		if (!p->name)
			r = cvb_err_set(err, -ENOMEM, "out of memory");
	}
	/* it names the bundle's folder */
	if (r == 0 && !good_name(p->name))
		r = cvb_err_set(
			err, -EINVAL,
			"%s: [profile] name = %s: a name is letters, digits, '.', '_' and '-', "
			"and at most 63 of them",
			p->path, p->name);
	if (r < 0) {
		cvb_profile_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

struct cvb_profile *cvb_profile_free(struct cvb_profile *p)
{
	if (!p)
		return NULL;
	for (size_t i = 0; i < p->n_arms; i++)
		cvb_arm_done(&p->arms[i]);
	for (size_t i = 0; i < p->n_benches; i++) {
		json_decref(p->benches[i].options);
		cvb_opts_done(bench_opts, &p->benches[i]);
	}
	for (size_t i = 0; i < p->n_gates; i++) {
		free(p->gates[i].id);
		cvb_opts_done(gate_opts, &p->gates[i]);
	}
	cvb_opts_done(profile_opts, p);
	free(p->path);
	free(p->text);
	free(p);
	return NULL;
}

void cvb_profile_keys(FILE *out)
{
	static const struct {
		const char *header;
		const struct cvb_opt *opts;
	} sections[] = {{"[profile]", profile_opts},
			{"[arm NAME]", cvb_arm_opts},
			{"[bench BENCHMARK]  (and the benchmark's own options: `list benches`)",
			 bench_opts},
			{"[gate ID]", gate_opts}};

	for (size_t i = 0; i < CVB_ARRAY_LEN(sections); i++) {
		fprintf(out, "%s%s\n", i ? "\n" : "", sections[i].header);
		cvb_opts_help(out, sections[i].opts, false);
	}
}

uint64_t cvb_profile_rounds(const struct cvb_profile *p, size_t b)
{
	return p->benches[b].rounds ? p->benches[b].rounds : p->rounds;
}

unsigned cvb_profile_timeout_ms(const struct cvb_profile *p, size_t b)
{
	uint64_t s = p->benches[b].timeout_s ? p->benches[b].timeout_s : p->timeout_s;

	return (unsigned)s * 1000;
}
