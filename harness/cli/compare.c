/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/compare.h"
#include "cli/verb.h"
#include "core/file.h"
#include "core/util.h"

#include <errno.h>
#include <string.h>

struct conf {
	struct cvb_common common;
	double margin;
	int kind;
	char **metrics;
	char *per;
	bool only_common;
	bool mix;
	bool json;
};

static const char *const kind_names[] = {"non-inferiority", "equivalence", NULL};

#define AT(f) offsetof(struct conf, f)

static const struct cvb_opt opts[] = {
	{.name = "margin",
	 .letter = 'm',
	 .type = CVB_OPT_DOUBLE,
	 .offset = AT(margin),
	 .min = 1e-6,
	 .max = 1000,
	 .def = "0.99",
	 .help = "smallest acceptable performance ratio current / base"},
	{.name = "kind",
	 .type = CVB_OPT_CHOICE,
	 .offset = AT(kind),
	 .choices = kind_names,
	 .def = "non-inferiority",
	 .help = "equivalence judges changes in either direction: from margin to 1 / margin is "
		 "equal"},
	{.name = "metric",
	 .type = CVB_OPT_LIST,
	 .offset = AT(metrics),
	 .arg = "NAME",
	 .help = "compare this metric only, such as mem.stream/triad (repeatable)"},
	{.name = "per",
	 .type = CVB_OPT_STR,
	 .offset = AT(per),
	 .arg = "ARM",
	 .help = "bundles: take each arm's values relative to those of ARM in the same round, which "
		 "takes the machine's state out"},
	{.name = "common",
	 .type = CVB_OPT_FLAG,
	 .offset = AT(only_common),
	 .help = "what is on one side only, or in some sessions only, is a note and no error"},
	{.name = "mix",
	 .type = CVB_OPT_FLAG,
	 .offset = AT(mix),
	 .help = "compare emulated with measured, deterministic with measured, tcg with kvm; the "
		 "labels say so"},
	{.name = "json",
	 .type = CVB_OPT_FLAG,
	 .offset = AT(json),
	 .help = "print the comparison as JSON instead of the table"},
	CVB_COMMON_OPTS,
	CVB_OPT_END,
};

static int load_both(const struct conf *c, char **argv, struct cvb_side *side[2],
		     struct cvb_err *err)
{
	int r = 0;

	if (!strcmp(argv[0], "-") && !strcmp(argv[1], "-"))
		return cvb_err_set(err, -EINVAL, "only one of BASE and CURRENT can be stdin");
	for (int i = 0; r == 0 && i < 2; i++) {
		r = cvb_side_load(&side[i], argv[i], c->per, err);
		if (r < 0)
			cvb_err_wrap(err, r, "%s", i ? "CURRENT" : "BASE");
	}
	return r;
}

static int run(const void *conf, int argc, char **argv, struct cvb_err *err)
{
	const struct conf *c = conf;
	struct cvb_compare_plan plan = {.rule = c->kind ? CVB_RULE_EQUIVALENCE
							: CVB_RULE_NON_INFERIORITY,
					.margin = c->margin,
					.common = c->only_common,
					.mix = c->mix,
					.per = c->per,
					.metrics = c->metrics};
	struct cvb_side *side[2] = {NULL};
	_cleanup_json_ json_t *doc = NULL;
	int r;

	if (argc != 2)
		return cvb_err_set(err, -EINVAL,
				   "compare: expected two of them, BASE and CURRENT: result "
				   "documents, folders of them, or bundles");
	r = load_both(c, argv, side, err);
	if (r == 0)
		r = cvb_compare(side[0], side[1], &plan, &doc, err);
	if (r == 0 && c->json)
		r = cvb_json_output("-", doc, err);
	else if (r == 0)
		cvb_compare_print(stdout, doc, isatty(STDOUT_FILENO) && !getenv("NO_COLOR"));
	cvb_side_free(side[0]);
	cvb_side_free(side[1]);
	return r < 0 ? r : (int)cvb_compare_exit(doc);
}

static const struct cvb_verb verb = {
	.name = "compare",
	.usage = "BASE CURRENT [OPTION]…",
	.summary =
		"judge two measurements of the same work: ratio, interval and verdict per metric",
	.details =
		"BASE and CURRENT are each a result document of `run -o` (- is stdin), a folder of\n"
		"them (each document is one session), or a bundle of `certify`.  The ratio is the\n"
		"performance of CURRENT / BASE: above 1 is faster, for rates and latencies alike.\n"
		"\n"
		"  PASS          the 95 % lower bound is at least the margin\n"
		"  FAIL          the 95 % upper bound is below the margin, and the metric's p value,\n"
		"                adjusted by Benjamini and Hochberg for the number of metrics, is at\n"
		"                most .05: of all FAILs at most 5 % are expected to be false alarms\n"
		"  INCONCLUSIVE  neither.  One run on a side has no interval: what differs from run\n"
		"                to run cannot be seen within one.  Several documents can decide\n"
		"  INVALID       a bundle's A/A arm says that the numbers cannot be believed\n"
		"\n"
		"What cannot be compared is an error, never a number: a metric on one side only,\n"
		"other units or options, emulated against measured, a benchmark that was not ok.\n"
		"\n"
		"Overall: ERROR (exit 2) for any error, INVALID (5) if all errors are measurements\n"
		"that cannot be believed, else FAIL (1), INVALID (5), INCONCLUSIVE (3) or PASS (0),\n"
		"the worst of the metrics; UNSUPPORTED (4) if all is unsupported on both sides.\n"
		"\n"
		"  mkdir before after\n"
		"  for i in 1 2 3 4 5 6; do cvmbench run mem.stream -o before/$i.json; done\n"
		"  # … change something, measure again into after/ …\n"
		"  cvmbench compare before after --margin 0.97\n",
	.order = 35,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.run = run,
};
CVB_VERB(verb);
