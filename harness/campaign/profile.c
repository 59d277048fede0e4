/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/profile_part.h"

#include "core/file.h"
#include "core/ini.h"
#include "core/util.h"

#include <errno.h>
#include <string.h>

const char *const cvb_gate_kind_names[] = {"non-inferiority", "equivalence", "absolute", "report",
					   NULL};

#define P(field) offsetof(struct cvb_profile, field)
const struct cvb_opt cvb_profile_opts[] = {
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
	 .help = "sessions after which the gates are looked at, such as 6,10,16,24, from 5 on; the "
		 "last is `sessions`; default: once, at the end"},
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
const struct cvb_opt cvb_profile_bench_opts[] = {
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
const struct cvb_opt cvb_profile_gate_opts[] = {
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
	 .help = "smallest acceptable performance ratio arm / base; not for kind = absolute"},
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

int cvb_profile_arm(const struct cvb_profile *p, const char *name)
{
	for (size_t i = 0; i < p->n_arms; i++)
		if (!strcmp(p->arms[i].name, name))
			return (int)i;
	return -1;
}

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

/* Takes `path`, which may be NULL if err says why. */
static int load(struct cvb_profile **ret, char *path, bool follow, struct cvb_err *err)
{
	struct cvb_profile *p = calloc(1, sizeof(*p));
	int r;

	if (!p) {
		free(path);
		return cvb_err_set(err, -ENOMEM, "out of memory");
	}
	p->path = path;
	r = path ? cvb_opts_defaults(cvb_profile_opts, p, err) : -EINVAL;
	if (r == 0)
		r = cvb_ini_read(p->path, follow, &p->text, err);
	if (r == 0)
		r = cvb_profile_parse(p, err);
	if (r == 0)
		r = cvb_profile_check(p, err);
	if (r == 0 && !p->name) {
		const char *slash = strrchr(p->path, '/');
		const char *base = slash ? slash + 1 : p->path;

		p->name = strndup(base, strcspn(base, "."));
		if (!p->name)
			r = cvb_err_set(err, -ENOMEM, "out of memory");
	}
	/* it names the bundle's folder */
	if (r == 0 && !cvb_profile_good_name(p->name))
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

int cvb_profile_load(struct cvb_profile **ret, const char *name, struct cvb_err *err)
{
	int r = load(ret, find_profile(name, err), /* follow= */ true, err);

	if (r < 0)
		return r;
	r = cvb_profile_check_params(*ret, err);
	if (r == 0)
		r = cvb_profile_check_plan(*ret, err);
	if (r < 0)
		*ret = cvb_profile_free(*ret);
	return r;
}

int cvb_profile_load_copy(struct cvb_profile **ret, const char *path, struct cvb_err *err)
{
	char *own = strdup(path);

	return own ? load(ret, own, /* follow= */ false, err)
		   : cvb_err_set(err, -ENOMEM, "out of memory");
}

struct cvb_profile *cvb_profile_free(struct cvb_profile *p)
{
	if (!p)
		return NULL;
	for (size_t i = 0; i < p->n_arms; i++)
		cvb_arm_done(&p->arms[i]);
	for (size_t i = 0; i < p->n_benches; i++) {
		json_decref(p->benches[i].options);
		cvb_opts_done(cvb_profile_bench_opts, &p->benches[i]);
	}
	for (size_t i = 0; i < p->n_gates; i++) {
		free(p->gates[i].id);
		cvb_opts_done(cvb_profile_gate_opts, &p->gates[i]);
	}
	cvb_opts_done(cvb_profile_opts, p);
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
	} sections[] = {{"[profile]", cvb_profile_opts},
			{"[arm NAME]", cvb_arm_opts},
			{"[bench BENCHMARK]  (and the benchmark's own options: `list benches`)",
			 cvb_profile_bench_opts},
			{"[gate ID]", cvb_profile_gate_opts}};

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
