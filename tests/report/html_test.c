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
#include "report/html_part.h"

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

/* A stand-in for gnuplot in front of the PATH, in a folder of its own. */
static void put_stand_in(char *bin, const char *script, char *runs, size_t runs_bytes)
{
	_cleanup_free_ char *name = NULL, *path = NULL;

	assert_non_null(mkdtemp(bin));
	name = cvb_strf("%s/gnuplot", bin);
	path = cvb_strf("%s:%s", bin, getenv("PATH") ? getenv("PATH") : "");
	assert_int_equal(cvb_file_write(name, script, strlen(script), NULL), 0);
	assert_int_equal(chmod(name, 0700), 0);
	assert_int_equal(setenv("PATH", path, 1), 0);
	snprintf(runs, runs_bytes, "%s/runs", bin);
}

/* Each picture is a run of gnuplot, here a stand-in that counts: a page has so many, and says so
 * once.  What is left out of the pictures is still in the tables. */
static void pictures_are_limited(void **state)
{
	static const char stand_in[] =
		"#!/bin/sh\necho run >>\"${0%/*}/runs\"\necho '<svg></svg>'\n";
	_cleanup_free_ char *old_path = strdup(getenv("PATH") ? getenv("PATH") : "");
	char bin[] = "/tmp/cvb-html-bin-XXXXXX", name[64];

	(void)state;
	if (!have_pictures())
		skip();
	put_stand_in(bin, stand_in, name, sizeof(name));
	make_swept_bundle(230);

	_cleanup_free_ char *html = render(), *runs = NULL;

	assert_int_equal(setenv("PATH", old_path, 1), 0);
	assert_int_equal(cvb_file_read(name, 100000, &runs, NULL, NULL), 0);
	assert_int_equal(count(runs, "run\n"), 200);
	assert_int_equal(count(html, "<svg role=\"img\""), 200);
	assert_int_equal(count(html, "picture left out"), 0);
	assert_int_equal(count(html, "a page has at most 200 pictures"), 1);
	assert_non_null(strstr(html, "m229"));
	assert_int_equal(cvb_remove_tree(bin), 0);
}

/* Pictures on a page with so much left for them; what the page says, and how often gnuplot ran. */
static char *draw(unsigned n, struct cvb_page page, const char *script, unsigned *ret_runs)
{
	_cleanup_free_ char *old_path = strdup(getenv("PATH") ? getenv("PATH") : "");
	_cleanup_free_ char *said = NULL;
	char bin[] = "/tmp/cvb-html-bin-XXXXXX", runs[64], *html = NULL;
	size_t bytes;

	put_stand_in(bin, script, runs, sizeof(runs));
	page.f = open_memstream(&html, &bytes);
	page.tmp_dir = bin;
	assert_non_null(page.f);
	for (unsigned i = 0; i < n; i++) {
		const char *args[] = {NULL, NULL};

		assert_int_equal(cvb_page_picture(&page, "dots.gp", args, "1\n", NULL, "", NULL),
				 0);
	}
	fclose(page.f);
	assert_int_equal(setenv("PATH", old_path, 1), 0);
	*ret_runs = 0;
	if (cvb_file_read(runs, 100000, &said, NULL, NULL) == 0)
		*ret_runs = count(said, "run\n");
	assert_int_equal(cvb_remove_tree(bin), 0);
	return html;
}

/* All pictures together have a time and a size, whatever gnuplot does with its own. */
static void pictures_have_a_total(void **state)
{
	static const char slow[] = "#!/bin/sh\necho run >>\"${0%/*}/runs\"\nexec sleep 60\n";
	static const char fast[] = "#!/bin/sh\necho run >>\"${0%/*}/runs\"\necho '<svg></svg>'\n";
	unsigned runs;

	(void)state;
	if (!have_pictures())
		skip();

	_cleanup_free_ char *late =
		draw(3, (struct cvb_page){.pictures_ns = 300 * CVB_NS_PER_MS}, slow, &runs);

	assert_int_equal(runs, 1);
	assert_int_equal(count(late, "did not end within 300 ms"), 1);
	assert_int_equal(count(late, "gnuplot has taken all the time"), 1);

	_cleanup_free_ char *large =
		draw(3,
		     (struct cvb_page){.pictures_ns = CVB_PAGE_PICTURES_NS,
				       .pictures_bytes = CVB_PAGE_PICTURES_BYTES - 1},
		     fast, &runs);

	assert_int_equal(runs, 1);
	assert_int_equal(count(large, "<svg role"), 1);
	assert_int_equal(count(large, "have at most 32 MiB"), 1);
}

/* `metrics` metrics on native and on 30 arms that measure it again, of which the last one differs
 * in the last metric. */
static void make_wide_bundle(unsigned metrics)
{
	_cleanup_free_ char *journal = cvb_bundle_path(dir, CVB_BUNDLE_JOURNAL);
	_cleanup_free_ char *profile = cvb_bundle_path(dir, CVB_BUNDLE_PROFILE);
	FILE *f = fopen(journal, "we");

	assert_non_null(f);
	fputs("{\"type\":\"campaign\",\"schema\":\"cvmbench.journal/1\",\"profile\":\"p\",\"seed\":7,"
	      "\"sessions\":6,\"rounds\":1,\"arms\":[{\"name\":\"a0\"}",
	      f);
	for (unsigned a = 1; a <= 30; a++)
		fprintf(f, ",{\"name\":\"a%u\",\"aa_of\":\"a0\"}", a);
	fputs("],\"benches\":[{\"name\":\"mem.stream\",\"arms\":[\"a0\"", f);
	for (unsigned a = 1; a <= 30; a++)
		fprintf(f, ",\"a%u\"", a);
	fputs("],\"rounds\":1}]}\n", f);
	for (unsigned s = 1; s <= 6; s++) {
		fprintf(f, "{\"type\":\"session\",\"session\":%u,\"attempt\":1}\n", s);
		for (unsigned a = 0; a <= 30; a++) {
			fprintf(f,
				"{\"type\":\"bench\",\"session\":%u,\"attempt\":1,\"arm\":\"a%u\","
				"\"bench\":\"mem.stream\",\"outcome\":\"ok\",\"options\":{},"
				"\"notes\":[],\"series\":[",
				s, a);
			for (unsigned i = 0; i < metrics; i++)
				fprintf(f,
					"%s{\"metric\":\"m%u\",\"unit\":\"ns\",\"better\":\"lower\"}",
					i ? "," : "", i);
			fprintf(f,
				"]}\n{\"type\":\"sample\",\"session\":%u,\"attempt\":1,\"arm\":\"a%u\","
				"\"bench\":\"mem.stream\",\"round\":1,\"start_ns\":%u,"
				"\"duration_ns\":1,\"values\":[",
				s, a, a + 1);
			for (unsigned i = 0; i < metrics; i++)
				fprintf(f, "%s%.9g", i ? "," : "",
					(1 + (s % 2 ? 1e-6 : -1e-6) * a) *
						(a == 30 && i + 1 == metrics ? 1.5 : 1));
			fputs("]}\n", f);
		}
		fprintf(f,
			"{\"type\":\"round\",\"session\":%u,\"attempt\":1,\"bench\":\"mem.stream\","
			"\"round\":1}\n",
			s);
	}
	fclose(f);
	assert_int_equal(cvb_file_write(profile, PROFILE, strlen(PROFILE), NULL), 0);
}

/* No more rows than anyone reads, and a word about the rest; of A/A rows those that matter first.
 */
static void rows_are_limited(void **state)
{
	_cleanup_free_ char *old_path = strdup(getenv("PATH") ? getenv("PATH") : "");

	(void)state;
	make_wide_bundle(400);
	assert_int_equal(setenv("PATH", "/nonexistent", 1), 0); /* no pictures: not the point */

	_cleanup_free_ char *html = render();

	assert_int_equal(setenv("PATH", old_path, 1), 0);
	unsigned rows = count(html, "<tr");

	if (rows > CVB_PAGE_ROWS + CVB_PAGE_AA_ROWS + 200)
		fail_msg("%u rows", rows);
	assert_true(rows > CVB_PAGE_ROWS + CVB_PAGE_AA_ROWS);
	assert_non_null(strstr(html, "11000 of 12000 rows left out, those that exclude 1 last"));
	assert_non_null(
		strstr(html, "77 series left out: the tables of a page have at most 10000"));
	assert_int_equal(count(html, "excludes 1</td>"), 1);
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
		cmocka_unit_test(pictures_have_a_total),
		cmocka_unit_test(rows_are_limited),
		cmocka_unit_test(partial_campaigns),
		cmocka_unit_test(nothing_is_left_behind),
		cmocka_unit_test(verdicts_are_written_and_handed_out),
		cmocka_unit_test(bad_journal),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
