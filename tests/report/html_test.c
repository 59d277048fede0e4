/* SPDX-License-Identifier: Apache-2.0 */
/* The page of a bundle: whole, self-contained, and safe with hostile text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "campaign/synth.h"
#include "core/file.h"
#include "core/proc.h"
#include "report/bundle.h"
#include "report/html.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#define PROFILE                                                                                    \
	"[profile]\nsummary = <script>alert(1)</script>\nsessions = 6\nrounds = 2\n"               \
	"[arm native]\n[arm aa]\naa_of = native\n[arm vm]\ntarget = qemu\n[bench mem.stream]\n"    \
	"[gate vm-triad]\nmetric = mem.stream/triad\narm = vm\nbase = native\nmargin = 0.9\n"

static char dir[] = "/tmp/cvb-html-XXXXXX";

static void make_bundle(struct synth c)
{
	_cleanup_free_ char *journal = cvb_bundle_path(dir, CVB_BUNDLE_JOURNAL);
	_cleanup_free_ char *profile = cvb_bundle_path(dir, CVB_BUNDLE_PROFILE);

	synth_write(journal, c);
	assert_int_equal(cvb_file_write(profile, PROFILE, strlen(PROFILE), NULL), 0);
}

static char *render(void)
{
	_cleanup_free_ char *path = cvb_bundle_path(dir, CVB_BUNDLE_HTML);
	struct cvb_err err = {0};
	char text[1000], *html = NULL;

	unlink(path);
	if (cvb_report_html(dir, NULL, &err) < 0) {
		cvb_err_text(&err, text, sizeof(text));
		fail_msg("%s", text);
	}
	assert_int_equal(cvb_file_read(path, 64 * CVB_MIB, &html, NULL, NULL), 0);
	return html;
}

static unsigned count(const char *text, const char *word)
{
	unsigned n = 0;

	for (const char *s = text; (s = strstr(s, word)) != NULL; s++)
		n++;
	return n;
}

/* Only these may follow a '<' or '</' anywhere in the page: nothing active, nothing fetched. */
static void assert_only_known_tags(const char *html)
{
	static const char *const known[] = {
		"!DOCTYPE",   "html",	     "head",	"meta", "link",	  "title", "style",
		"body",	      "nav",	     "a",	"h1",	"h2",	  "h3",	   "h4",
		"p",	      "ul",	     "li",	"b",	"strong", "span",  "div",
		"table",      "thead",	     "tbody",	"tr",	"th",	  "td",	   "figure",
		"figcaption", "details",     "summary", "pre",	"svg",	  "g",	   "path",
		"circle",     "rect",	     "use",	"text", "tspan",  "defs",  "filter",
		"feFlood",    "feComposite", "polygon", "line",
	};

	for (const char *s = html; (s = strchr(s, '<')) != NULL;) {
		size_t n;
		bool ok = false;

		s += 1 + (s[1] == '/');
		n = strcspn(s, " \n\t>/");
		for (size_t i = 0; i < CVB_ARRAY_LEN(known) && !ok; i++)
			ok = strlen(known[i]) == n && !strncmp(known[i], s, n);
		if (!ok)
			fail_msg("unknown tag <%.*s>", (int)(n < 30 ? n : 30), s);
	}
}

static bool have_pictures(void)
{
	_cleanup_free_ char *gnuplot = cvb_program_find("gnuplot", "gnuplot-nox", NULL);
	_cleanup_free_ char *plot = cvb_data_path("plots/gates.gp", NULL);

	return gnuplot && plot;
}

static void whole_page(void **state)
{
	make_bundle((struct synth){.vm_ratio = 0.5, .vm_wobble = 0.01, .accel = "tcg"});

	_cleanup_free_ char *html = render();

	(void)state;
	assert_only_known_tags(html);
	assert_non_null(strstr(html, "class=\"overall FAIL\""));
	assert_non_null(strstr(html, "not certifiable"));
	assert_non_null(strstr(html, "ran under tcg"));
	assert_non_null(strstr(html, "vm (tcg)"));
	assert_non_null(strstr(html, "mem.stream/triad"));
	assert_non_null(strstr(html, "How to read a verdict"));
	assert_non_null(strstr(html, "seed 7"));
	assert_non_null(strstr(html, "GB/s"));
	/* the name space of SVG is the only address in it */
	assert_int_equal(count(html, "http"),
			 count(html, "http://www.w3.org/") + count(html, "http-equiv"));
	if (have_pictures())
		assert_int_equal(count(html, "<svg role=\"img\""), 2);
}

/* The same journal gives the same bytes. */
static void same_again(void **state)
{
	make_bundle((struct synth){.vm_ratio = 0.97, .vm_wobble = 0.01});

	_cleanup_free_ char *a = render(), *b = render();

	(void)state;
	assert_string_equal(a, b);
}

static void hostile_text(void **state)
{
	make_bundle((struct synth){
		.vm_ratio = 0.5,
		.text = "<script>alert(1)</script><img src=x onerror=alert(2)>\\\" '&amp; "
			"\\u001b[31m \\u202e `reboot` {/Symbol a} ${x} @y",
		.accel = "tcg",
	});

	_cleanup_free_ char *html = render();

	(void)state;
	assert_only_known_tags(html);
	assert_null(strstr(html, "<script"));
	assert_null(strstr(html, "<img"));
	assert_null(strchr(html, '\033'));
	assert_null(strstr(html, "\xe2\x80\xae"));
	assert_non_null(strstr(html, "&lt;script&gt;alert(1)"));
}

static void without_gnuplot(void **state)
{
	_cleanup_free_ char *path = strdup(getenv("PATH") ? getenv("PATH") : "");

	(void)state;
	make_bundle((struct synth){.vm_ratio = 0.5});
	assert_int_equal(setenv("PATH", "/nonexistent", 1), 0);

	_cleanup_free_ char *html = render();

	assert_int_equal(setenv("PATH", path, 1), 0);
	assert_non_null(strstr(html, "pictures left out: gnuplot not found (Debian package "
				     "gnuplot-nox)"));
	assert_null(strstr(html, "<svg"));
	assert_non_null(strstr(html, "<table"));
}

/* An unsupported arm, an arm that was never reached, a session cut short. */
static void partial_campaigns(void **state)
{
	(void)state;
	make_bundle((struct synth){.vm_unsupported = "no TDX module <here>"});

	_cleanup_free_ char *a = render();

	assert_non_null(strstr(a, "class=\"overall UNSUPPORTED\""));
	assert_non_null(strstr(a, "no TDX module &lt;here&gt;"));
	make_bundle((struct synth){.stop_session = 1});

	_cleanup_free_ char *b = render();

	assert_only_known_tags(b);
	assert_non_null(strstr(b, "guest was killed"));
}

static void nothing_is_left_behind(void **state)
{
	struct dirent *e;
	unsigned n = 0;

	make_bundle((struct synth){0});

	_cleanup_free_ char *html = render();
	DIR *d = opendir(dir);

	(void)state;
	assert_non_null(html);
	assert_non_null(d);
	while ((e = readdir(d)) != NULL)
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	closedir(d);
	assert_int_equal(n, 4); /* journal, profile, verdicts, report */
}

/* A journal with `metrics` swept metrics, each of which is a family with a picture. */
static void make_swept_bundle(unsigned metrics)
{
	_cleanup_free_ char *journal = cvb_bundle_path(dir, CVB_BUNDLE_JOURNAL);
	_cleanup_free_ char *profile = cvb_bundle_path(dir, CVB_BUNDLE_PROFILE);
	FILE *f = fopen(journal, "we");

	assert_non_null(f);
	fputs("{\"type\":\"campaign\",\"schema\":\"cvmbench.journal/1\",\"profile\":\"p\",\"seed\":7,"
	      "\"sessions\":1,\"rounds\":1,\"arms\":[{\"name\":\"native\"}],\"benches\":[{\"name\":"
	      "\"mem.stream\",\"arms\":[\"native\"],\"rounds\":1}]}\n"
	      "{\"type\":\"session\",\"session\":1,\"attempt\":1}\n"
	      "{\"type\":\"bench\",\"session\":1,\"attempt\":1,\"arm\":\"native\",\"bench\":"
	      "\"mem.stream\",\"outcome\":\"ok\",\"options\":{},\"notes\":[],\"series\":[",
	      f);
	for (unsigned i = 0; i < 4 * metrics; i++)
		fprintf(f,
			"%s{\"metric\":\"m%u\",\"unit\":\"ns\",\"better\":\"lower\",\"params\":"
			"{\"depth\":%u}}",
			i ? "," : "", i / 4, 1 + i % 4);
	fputs("]}\n{\"type\":\"sample\",\"session\":1,\"attempt\":1,\"arm\":\"native\",\"bench\":"
	      "\"mem.stream\",\"round\":1,\"start_ns\":1,\"duration_ns\":1,\"values\":[",
	      f);
	for (unsigned i = 0; i < 4 * metrics; i++)
		fprintf(f, "%s%u", i ? "," : "", 1 + i % 4);
	fputs("]}\n{\"type\":\"round\",\"session\":1,\"attempt\":1,\"bench\":\"mem.stream\","
	      "\"round\":1}\n",
	      f);
	fclose(f);
	assert_int_equal(cvb_file_write(profile, PROFILE, strlen(PROFILE), NULL), 0);
}

/* Each picture is a run of gnuplot, here a stand-in that counts: a page has so many, and says so
 * once.  What is left out of the pictures is still in the tables. */
static void pictures_are_limited(void **state)
{
	static const char stand_in[] =
		"#!/bin/sh\necho run >>\"${0%/*}/runs\"\necho '<svg></svg>'\n";
	_cleanup_free_ char *old_path = strdup(getenv("PATH") ? getenv("PATH") : "");
	char bin[] = "/tmp/cvb-html-bin-XXXXXX";
	char name[64], path[5000];

	(void)state;
	if (!have_pictures())
		skip();
	assert_non_null(mkdtemp(bin));
	snprintf(name, sizeof(name), "%s/gnuplot", bin);
	assert_int_equal(cvb_file_write(name, stand_in, strlen(stand_in), NULL), 0);
	assert_int_equal(chmod(name, 0700), 0);
	snprintf(path, sizeof(path), "%s:%s", bin, old_path);
	assert_int_equal(setenv("PATH", path, 1), 0);
	make_swept_bundle(230);

	_cleanup_free_ char *html = render(), *runs = NULL;

	assert_int_equal(setenv("PATH", old_path, 1), 0);
	snprintf(name, sizeof(name), "%s/runs", bin);
	assert_int_equal(cvb_file_read(name, 100000, &runs, NULL, NULL), 0);
	assert_int_equal(count(runs, "run\n"), 200);
	assert_int_equal(count(html, "<svg role=\"img\""), 200);
	assert_int_equal(count(html, "picture left out"), 0);
	assert_int_equal(count(html, "a page has at most 200 pictures"), 1);
	assert_non_null(strstr(html, "m229"));
	assert_int_equal(cvb_remove_tree(bin), 0);
}

/* What the caller is given, what the file holds and what the page shows are one judgement. */
static void verdicts_are_written_and_handed_out(void **state)
{
	_cleanup_free_ char *path = cvb_bundle_path(dir, CVB_BUNDLE_VERDICTS);
	_cleanup_json_ json_t *v = NULL, *file = NULL;

	(void)state;
	make_bundle((struct synth){.vm_ratio = 0.5});
	assert_int_equal(cvb_report_html(dir, &v, NULL), 0);
	file = json_load_file(path, 0, NULL);
	assert_non_null(file);
	assert_string_equal(json_string_value(json_object_get(file, "overall")), "FAIL");
	assert_string_equal(json_string_value(json_object_get(v, "overall")), "FAIL");
	/* 15 digits in the file: compare what a reader would */
	assert_int_equal(json_array_size(json_object_get(file, "gates")), 1);
	assert_int_equal(json_array_size(json_object_get(v, "gates")), 1);
}

/* A bad journal: one message, exit code for bad input, and the old report untouched. */
static void bad_journal(void **state)
{
	_cleanup_free_ char *journal = cvb_bundle_path(dir, CVB_BUNDLE_JOURNAL);
	_cleanup_free_ char *report = cvb_bundle_path(dir, CVB_BUNDLE_HTML);
	struct cvb_err err = {0};
	int r;

	(void)state;
	make_bundle((struct synth){0});

	_cleanup_free_ char *before = render(), *after = NULL;

	assert_int_equal(cvb_file_write(journal, "{}\n", 3, NULL), 0);
	r = cvb_report_html(dir, NULL, &err);
	assert_int_equal(r, -EBADMSG);
	assert_int_equal(cvb_err_exit(r), CVB_EXIT_USAGE);
	assert_non_null(strstr(err.frame[0].msg, "journal.jsonl:1"));
	assert_int_equal(cvb_file_read(report, 64 * CVB_MIB, &after, NULL, NULL), 0);
	assert_string_equal(before, after);
	assert_int_not_equal(cvb_report_html("/nonexistent", NULL, NULL), 0);
}

static int setup(void **state)
{
	(void)state;
	/* run from the top of the tree, as the build does; elsewhere pictures are not looked at */
	if (access("plots/gates.gp", R_OK) == 0) {
		_cleanup_free_ char *top = realpath(".", NULL);

		if (!top || setenv("CVMBENCH_DATADIR", top, 1) != 0)
			return -1;
	}
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return cvb_remove_tree(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_page),
		cmocka_unit_test(same_again),
		cmocka_unit_test(hostile_text),
		cmocka_unit_test(without_gnuplot),
		cmocka_unit_test(pictures_are_limited),
		cmocka_unit_test(partial_campaigns),
		cmocka_unit_test(nothing_is_left_behind),
		cmocka_unit_test(verdicts_are_written_and_handed_out),
		cmocka_unit_test(bad_journal),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
