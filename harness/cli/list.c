/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/profile.h"
#include "cli/verb.h"
#include "core/file.h"
#include "core/util.h"
#include "gpu/gpu.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

struct conf {
	struct cvb_common common;
	bool json;
};

static const struct cvb_opt opts[] = {
	{.name = "json",
	 .type = CVB_OPT_FLAG,
	 .offset = offsetof(struct conf, json),
	 .help = "print a JSON document"},
	CVB_COMMON_OPTS,
	CVB_OPT_END,
};

/* Why a benchmark cannot run here with its defaults, into text; "" if it can. */
static void why_unsupported(const struct cvb_bench *b, char *text, size_t text_bytes)
{
	_cleanup_free_ void *conf = calloc(1, b->conf_size ? b->conf_size : 1);
	struct cvb_run run = {.bench = b, .conf = conf, .workers = 1};
	struct cvb_err err = {0};
	int r;

	text[0] = '\0';
	if (!conf)
		return;
	r = cvb_opts_defaults(b->opts, conf, &err);
	if (r == 0 && b->supported)
		r = b->supported(&run, &err);
	if (r < 0)
		cvb_err_text(&err, text, text_bytes);
	cvb_opts_done(b->opts, conf);
}

static json_t *bench_json(const struct cvb_bench *b)
{
	json_t *metrics = json_array(), *params = json_array();
	char why[1024];

	why_unsupported(b, why, sizeof(why));
	for (const struct cvb_metric *m = b->metrics; m->name; m++)
		json_array_append_new(metrics,
				      json_pack("{s:s++, s:s, s:s, s:s}", "name", b->name, "/",
						m->name, "unit", cvb_metric_unit(m), "better",
						cvb_better_text(m->better), "help", m->help));
	for (const char *const *p = b->params; p && *p; p++)
		json_array_append_new(params, json_string(*p));
	return json_pack("{s:s, s:s, s:b, s:s?, s:b, s:b, s:o, s:o, s:o}", "name", b->name,
			 "summary", b->summary, "supported", !*why, "reason", *why ? why : NULL,
			 "needs_gpu", (b->flags & CVB_BENCH_NEEDS_GPU) != 0, "fake",
			 (b->flags & CVB_BENCH_FAKE) != 0, "metrics", metrics, "params", params,
			 "options", cvb_opts_describe(b->opts));
}

static void print_bench(const struct cvb_bench *b)
{
	char why[1024];

	printf("%-14s %s\n", b->name, b->summary);
	for (const struct cvb_metric *m = b->metrics; m->name; m++)
		printf("    %-12s %-12s %s is better; %s\n", m->name, cvb_metric_unit(m),
		       cvb_better_text(m->better), m->help);
	for (const char *const *p = b->params; p && *p; p++)
		printf("%s%s", p == b->params ? "    params of its series: " : ", ", *p);
	if (b->params)
		putchar('\n');
	if (b->opts && b->opts->name) {
		printf("    options (-s key=value):\n");
		cvb_opts_help(stdout, b->opts, false);
	}
	if (b->flags & CVB_BENCH_NEEDS_GPU)
		printf("    needs a GPU: -g cuda, or -g emu:h100-tdx for the emulated one\n");
	why_unsupported(b, why, sizeof(why));
	if (*why)
		printf("    UNSUPPORTED here: %s\n", why);
	putchar('\n');
}

static json_t *list_benches(bool json)
{
	size_t n;
	const struct cvb_bench *const *all = cvb_bench_all(&n);
	json_t *list = json ? json_array() : NULL;

	for (size_t i = 0; i < n; i++) {
		if (json)
			json_array_append_new(list, bench_json(all[i]));
		else
			print_bench(all[i]);
	}
	return list;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static json_t *profile_json(const char *path)
{
	struct cvb_profile *p = NULL;
	struct cvb_err err = {0};
	json_t *row;

	if (cvb_profile_load(&p, path, &err) < 0) {
		char why[1024];
		const char *slash = strrchr(path, '/');

		cvb_err_text(&err, why, sizeof(why));
		return json_pack("{s:s, s:s, s:s}", "name", slash ? slash + 1 : path, "path", path,
				 "error", why);
	}
	row = json_pack("{s:s, s:s, s:s?, s:i, s:i, s:i, s:i}", "name", p->name, "path", path,
			"summary", p->summary, "sessions", (int)p->sessions, "arms", (int)p->n_arms,
			"benches", (int)p->n_benches, "gates", (int)p->n_gates);
	cvb_profile_free(p);
	return row;
}

static json_t *list_profiles(void)
{
	_cleanup_free_ char *dir = cvb_data_path("profiles", NULL);
	DIR *d = dir ? opendir(dir) : NULL;
	json_t *list = json_array();
	char *paths[256];
	size_t n = 0;
	struct dirent *e;

	while (d && n < CVB_ARRAY_LEN(paths) && (e = readdir(d))) {
		size_t len = strlen(e->d_name);

		if (len > 4 && !strcmp(e->d_name + len - 4, ".ini"))
			paths[n++] = cvb_strf("%s/%s", dir, e->d_name);
	}
	if (d)
		closedir(d);
	qsort(paths, n, sizeof(paths[0]), by_text);
	for (size_t i = 0; i < n; i++) {
		json_array_append_new(list, profile_json(paths[i]));
		free(paths[i]);
	}
	return list;
}

static void print_rows(const json_t *list)
{
	size_t i;
	json_t *row;

	json_array_foreach (list, i, row) {
		const char *text = json_string_value(json_object_get(row, "summary"));
		const char *bad = json_string_value(json_object_get(row, "error"));

		printf("%-18s %s%s\n", json_string_value(json_object_get(row, "name")),
		       bad ? "BROKEN: " : "",
		       bad    ? bad
		       : text ? text
			      : "");
	}
}

static int run(const void *conf, int argc, char **argv, struct cvb_err *err)
{
	const struct conf *c = conf;
	const char *what = argc ? argv[0] : "benches";
	_cleanup_json_ json_t *list = NULL, *doc = NULL;

	if (argc > 1)
		return cvb_err_set(err, -EINVAL, "list: unexpected \"%s\"", argv[1]);
	if (!strcmp(what, "keys") && !c->json) {
		cvb_profile_keys(stdout);
		return 0;
	}
	if (!strcmp(what, "benches"))
		list = list_benches(c->json);
	else if (!strcmp(what, "profiles"))
		list = list_profiles();
	else if (!strcmp(what, "skus"))
		list = cvb_gpu_list_skus();
	else
		return cvb_err_set(err, -EINVAL,
				   "list: unknown \"%s\": expected benches, profiles, skus or keys",
				   what);
	if (!c->json) {
		if (list)
			print_rows(list);
		return 0;
	}
	doc = json_pack("{s:O}", what, list);
	return cvb_json_output("-", doc, err);
}

static const struct cvb_verb verb = {
	.name = "list",
	.usage = "[benches|profiles|skus|keys] [OPTION]…",
	.summary = "show benchmarks with units and options, profiles and their keys, GPU models",
	.order = 10,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.run = run,
};
CVB_VERB(verb);
