/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/verb.h"
#include "core/log.h"
#include "core/stop.h"
#include "core/util.h"
#include "machine/fingerprint.h"

#include <errno.h>
#include <string.h>

/* Set by the linker around the section that CVB_VERB fills. */
extern const struct cvb_verb *const __start_cvb_verb[];
extern const struct cvb_verb *const __stop_cvb_verb[];

#define MAX_VERBS 32

static size_t n_verbs(void)
{
	size_t n = (size_t)(__stop_cvb_verb - __start_cvb_verb);

	CVB_BUG_ON(n > MAX_VERBS);
	return n;
}

static void print_help(FILE *out)
{
	size_t n = n_verbs();

	fprintf(out,
		"Usage: cvmbench VERB [ARGUMENT]… [OPTION]…\n"
		"\n"
		"Measure memory, disk, network and GPU copies on the bare host, in VMs and in\n"
		"confidential VMs; judge them against a baseline; report.\n"
		"\n"
		"Verbs:\n");
	for (int order = 0; order < 100; order++)
		for (size_t i = 0; i < n; i++)
			if (__start_cvb_verb[i]->order == order)
				fprintf(out, "  %-10s %s\n", __start_cvb_verb[i]->name,
					__start_cvb_verb[i]->summary);
	fprintf(out,
		"\n"
		"`cvmbench VERB --help` tells more.  Exit: 0 pass or ok, 1 a gate failed, 2 usage\n"
		"or bad input, 3 inconclusive, 4 unsupported here, 5 invalid measurement, 6 I/O or\n"
		"internal error, or interrupted.\n");
}

static void verb_help(FILE *out, const struct cvb_verb *v)
{
	fprintf(out, "Usage: cvmbench %s %s\n\n%s.\n", v->name, v->usage, v->summary);
	if (v->details)
		fprintf(out, "\n%s", v->details);
	fprintf(out, "\nOptions:\n");
	cvb_opts_help(out, v->opts, true);
}

static void print_version(void)
{
	_cleanup_json_ json_t *tool = cvb_tool_json();

	printf("cvmbench %s (%s, %s)\n", json_string_value(json_object_get(tool, "version")),
	       json_string_value(json_object_get(tool, "git")),
	       json_string_value(json_object_get(tool, "compiler")));
}

static int run_verb(const struct cvb_verb *v, int argc, char **argv, struct cvb_err *err)
{
	_cleanup_free_ void *conf = calloc(1, v->conf_size);
	_cleanup_free_ char **positional = calloc((size_t)argc + 1, sizeof(char *));
	const struct cvb_common *common = conf;
	int n = 0, r;

	if (!conf || !positional)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cvb_opts_defaults(v->opts, conf, err);
	if (r == 0)
		r = cvb_opts_parse(v->opts, conf, argc, argv, v->own_options_end, positional, &n,
				   err);
	if (r < 0)
		cvb_err_wrap(err, r, "%s", v->name);
	if (r == 0)
		r = cvb_log_trace(common->trace, err);
	if (r == 0) {
		cvb_log_quiet(common->quiet);
		if (common->help)
			verb_help(stdout, v);
		else
			r = v->run(conf, n, positional, err);
	}
	cvb_opts_done(v->opts, conf);
	return r;
}

static const struct cvb_verb *find_verb(const char *name, struct cvb_err *err)
{
	const char *names[MAX_VERBS + 1];
	size_t n = n_verbs();

	for (size_t i = 0; i < n; i++) {
		names[i] = __start_cvb_verb[i]->name;
		if (!strcmp(names[i], name))
			return __start_cvb_verb[i];
	}
	names[n] = NULL;
	const char *near = cvb_nearest(name, names);

	cvb_err_set(err, -EINVAL, "unknown verb \"%s\"%s%s%s", name, near ? "; did you mean " : "",
		    near ? near : "; cvmbench --help lists them", near ? "?" : "");
	return NULL;
}

/* A full disk behind stdout must not look like success, nor like a verdict. */
static int finish(int code)
{
	bool before = ferror(stdout), now = fflush(stdout) != 0;

	/* code 6: the chain that was printed says why */
	if ((!before && !now) || code == CVB_EXIT_INTERNAL)
		return code;
	fprintf(stderr, "cvmbench: error: cannot write to standard output: %s\n",
		now ? strerror(errno) : "an earlier write failed");
	return CVB_EXIT_INTERNAL;
}

int main(int argc, char **argv)
{
	const struct cvb_verb *verb = NULL;
	struct cvb_err err = {0};
	int r = -EINVAL;

	if (argc < 2) {
		print_help(stderr);
		return CVB_EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		if (argc > 2)
			verb = find_verb(argv[2], &err);
		if (verb)
			verb_help(stdout, verb);
		else if (argc <= 2)
			print_help(stdout);
		if (!err.n)
			return finish(CVB_EXIT_OK);
		cvb_log_err(&err);
		return CVB_EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "version")) {
		print_version();
		return finish(CVB_EXIT_OK);
	}
	if (argv[1][0] == '-') {
		cvb_err_set(&err, -EINVAL,
			    "%s before a verb: options come after it, as in "
			    "`cvmbench list --json`",
			    argv[1]);
		cvb_log_err(&err);
		return CVB_EXIT_USAGE;
	}
	cvb_stop_install();
	verb = find_verb(argv[1], &err);
	if (verb)
		r = run_verb(verb, argc - 2, argv + 2, &err);
	if (r < 0) {
		if (!err.n)
			cvb_err_set(&err, r, "%s", strerror(-r));
		cvb_log_err(&err);
		r = (int)cvb_err_exit(r);
	}
	return finish(r);
}
