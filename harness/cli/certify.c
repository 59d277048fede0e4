/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/campaign.h"
#include "campaign/plan.h"
#include "campaign/verdict.h"
#include "cli/verb.h"
#include "core/file.h"
#include "core/log.h"
#include "core/util.h"
#include "report/bundle.h"
#include "report/html.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct conf {
	struct cvb_common common;
	char *output;
	char *seed;
	bool resume;
	bool json;
};

#define AT(f) offsetof(struct conf, f)

static const struct cvb_opt opts[] = {
	{.name = "output",
	 .letter = 'o',
	 .type = CVB_OPT_STR,
	 .offset = AT(output),
	 .arg = "BUNDLE",
	 .help = "folder to leave everything in [results/PROFILE-TIME]"},
	{.name = "resume",
	 .type = CVB_OPT_FLAG,
	 .offset = AT(resume),
	 .help = "go on with the campaign in BUNDLE (given by -o or as the argument)"},
	{.name = "seed",
	 .type = CVB_OPT_STR,
	 .offset = AT(seed),
	 .arg = "N",
	 .help = "seed of the random order of measurement; recorded [random]"},
	{.name = "json",
	 .type = CVB_OPT_FLAG,
	 .offset = AT(json),
	 .help = "print verdicts.json instead of the table"},
	CVB_COMMON_OPTS,
	CVB_OPT_END,
};

static char *default_bundle(const struct cvb_profile *p)
{
	time_t now = time(NULL);
	struct tm tm;
	char text[32];

	gmtime_r(&now, &tm);
	strftime(text, sizeof(text), "%Y%m%d-%H%M%S", &tm);
	return cvb_strf("results/%s-%s", p->name, text);
}

static bool is_folder(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int parse_seed(const char *text, uint64_t *ret, struct cvb_err *err)
{
	char *end;

	if (!text) {
		*ret = cvb_plan_new_seed();
		return 0;
	}
	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || *ret >> 53)
		return cvb_err_set(err, -EINVAL, "--seed %s: expected a whole number below 2^53",
				   text);
	return 0;
}

/* Which profile and which folder: `certify PROFILE [-o BUNDLE] [--resume]` or
 * `certify --resume BUNDLE`, whose profile is the copy in it. */
static int locate(const struct conf *c, const char *arg, struct cvb_profile **profile,
		  char **bundle, struct cvb_err *err)
{
	bool from_bundle = c->resume && is_folder(arg);
	_cleanup_free_ char *inside = NULL;
	int r;

	if (from_bundle && c->output)
		return cvb_err_set(
			err, -EINVAL,
			"certify: BUNDLE is given twice (-o %s and %s): give the profile, "
			"or leave -o out",
			c->output, arg);
	if (c->resume && !from_bundle && !c->output)
		return cvb_err_set(
			err, -EINVAL,
			"certify --resume: %s is not a folder; name the bundle to go on with", arg);
	if (c->resume) {
		/* the recipe that was begun with, even if the file has changed since */
		inside = cvb_bundle_path(from_bundle ? arg : c->output, CVB_BUNDLE_PROFILE);
		if (!inside)
			return cvb_err_set(err, -ENOMEM, "out of memory");
	}
	r = inside ? cvb_profile_load_copy(profile, inside, err)
		   : cvb_profile_load(profile, arg, err);
	if (r < 0)
		return r;
	*bundle = from_bundle ? strdup(arg)
		  : c->output ? strdup(c->output)
			      : default_bundle(*profile);
	return *bundle ? 0 : cvb_err_set(err, -ENOMEM, "out of memory");
}

/* Is there anything that a resumed campaign would keep? */
static bool has_samples(const char *bundle)
{
	_cleanup_free_ char *journal = cvb_bundle_path(bundle, CVB_BUNDLE_JOURNAL);
	_cleanup_fclose_ FILE *f = journal ? fopen(journal, "re") : NULL;
	_cleanup_free_ char *line = NULL;
	size_t room = 0;

	while (f && getline(&line, &room, f) > 0)
		if (strstr(line, "\"type\":\"sample\""))
			return true;
	return false;
}

static int judge(const char *bundle, bool json, struct cvb_err *err)
{
	_cleanup_json_ json_t *verdicts = NULL;
	int r = cvb_report_html(bundle, &verdicts, err);

	if (r < 0)
		return r;
	if (json) {
		r = cvb_json_output("-", verdicts, err);
		if (r < 0)
			return r;
	} else {
		cvb_verdict_print(stdout, verdicts, isatty(STDOUT_FILENO) && !getenv("NO_COLOR"));
		cvb_bundle_print_page(stdout, bundle);
	}
	return (int)cvb_verdict_exit(verdicts);
}

static int run(const void *conf, int argc, char **argv, struct cvb_err *err)
{
	const struct conf *c = conf;
	struct cvb_profile *profile = NULL;
	_cleanup_free_ char *bundle = NULL;
	bool measured = false;
	uint64_t seed = 0;
	int r;

	if (argc != 1)
		return cvb_err_set(
			err, -EINVAL,
			"certify: expected one profile (`cvmbench list profiles` shows them)");
	r = parse_seed(c->seed, &seed, err);
	if (r == 0)
		r = locate(c, argv[0], &profile, &bundle, err);
	if (r == 0) {
		cvb_info("certify %s into %s", profile->name, bundle);
		if (!profile->n_gates)
			cvb_warn("profile %s has no gate: everything is measured, nothing judged",
				 profile->name);
		r = cvb_campaign_run(profile, bundle, seed, c->resume, &measured, err);
		if (r < 0 && measured && has_samples(bundle))
			cvb_warn("the campaign is not complete; what was measured is kept: "
				 "cvmbench certify --resume %s",
				 bundle);
	}
	if (r == 0)
		r = judge(bundle, c->json, err);
	cvb_profile_free(profile);
	return r;
}

static const struct cvb_verb verb = {
	.name = "certify",
	.usage = "PROFILE [-o BUNDLE] [OPTION]…",
	.summary = "the campaign: measure every arm in random rounds, judge, report",
	.details =
		"PROFILE is a file, or the name of one in profiles/.  Leaves a bundle: the journal,\n"
		"verdicts.json, report.html, the guests' consoles.  The exit code is the overall\n"
		"verdict: 0 PASS, 1 FAIL, 3 INCONCLUSIVE, 4 UNSUPPORTED, 5 INVALID.\n",
	.order = 30,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.run = run,
};
CVB_VERB(verb);
