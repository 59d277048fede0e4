/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/verdict.h"
#include "cli/verb.h"
#include "core/file.h"
#include "core/util.h"
#include "report/bundle.h"
#include "report/html.h"

#include <errno.h>

struct conf {
	struct cvb_common common;
	bool json;
};

static const struct cvb_opt opts[] = {
	{.name = "json",
	 .type = CVB_OPT_FLAG,
	 .offset = offsetof(struct conf, json),
	 .help = "print verdicts.json instead of the table"},
	CVB_COMMON_OPTS,
	CVB_OPT_END,
};

static int run(const void *conf, int argc, char **argv, struct cvb_err *err)
{
	const struct conf *c = conf;
	_cleanup_json_ json_t *verdicts = NULL;
	int r;

	if (argc != 1)
		return cvb_err_set(err, -EINVAL, "report: expected one bundle folder");
	r = cvb_report_html(argv[0], &verdicts, err);
	if (r < 0)
		return r;
	if (c->json)
		return cvb_json_output("-", verdicts, err);
	cvb_verdict_print(stdout, verdicts, isatty(STDOUT_FILENO) && !getenv("NO_COLOR"));
	cvb_bundle_print_page(stdout, argv[0]);
	return 0;
}

static const struct cvb_verb verb = {
	.name = "report",
	.usage = "BUNDLE [OPTION]…",
	.summary = "judge and render a bundle again, from its journal",
	.order = 40,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.run = run,
};
CVB_VERB(verb);
