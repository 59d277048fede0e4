/* SPDX-License-Identifier: Apache-2.0 */
#include "report/html.h"

#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "core/proc.h"
#include "core/util.h"
#include "report/bundle.h"
#include "report/html_part.h"
#include "report/plot.h"
#include "report/text.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#define PROFILE_MAX_BYTES CVB_MIB

/* ---- pieces of a page --------------------------------------------------------------------------
 */

void cvb_page_raw(struct cvb_page *p, const char *markup)
{
	fputs(markup, p->f);
}

void cvb_page_text(struct cvb_page *p, const char *text)
{
	cvb_text_html(p->f, text);
}

void cvb_page_textf(struct cvb_page *p, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	cvb_text_html(p->f, text);
	free(text);
}

void cvb_page_element(struct cvb_page *p, const char *tag, const char *text)
{
	fprintf(p->f, "<%s>", tag);
	cvb_text_html(p->f, text);
	/* "td class=n" ends with "</td>" */
	fprintf(p->f, "</%.*s>", (int)strcspn(tag, " "), tag);
}

const char *cvb_ratio_text(double x, char *buf, size_t buf_bytes)
{
	if (!isfinite(x))
		snprintf(buf, buf_bytes, "-");
	else if (fabs(x) >= 99.95 || (fabs(x) < 0.00095 && x != 0))
		snprintf(buf, buf_bytes, "%.2g", x);
	else
		snprintf(buf, buf_bytes, "%.*f", fabs(x) < 0.0995 ? 4 : fabs(x) < 9.995 ? 3 : 1, x);
	return buf;
}

static int write_data(const char *dir, unsigned number, const char *what, const char *data,
		      char **ret_path, struct cvb_err *err)
{
	*ret_path = cvb_strf("%s/%u.%s", dir, number, what);
	if (!*ret_path || !data)
		return cvb_err_set(err, -ENOMEM, "out of memory for a picture");
	return cvb_file_write(*ret_path, data, strlen(data), err);
}

/* Room for another picture?  If not, the page says so, once. */
static bool more_pictures(struct cvb_page *p)
{
	_cleanup_free_ char *why = NULL;

	if (p->pictures_full)
		return false;
	if (p->pictures >= CVB_PAGE_PICTURES)
		why = cvb_strf("a page has at most %d pictures", CVB_PAGE_PICTURES);
	else if (p->pictures_bytes >= CVB_PAGE_PICTURES_BYTES)
		why = cvb_strf("the pictures of a page have at most %llu MiB",
			       CVB_PAGE_PICTURES_BYTES / (unsigned long long)CVB_MIB);
	else if (p->pictures_ns < CVB_NS_PER_MS)
		why = strdup("gnuplot has taken all the time that the pictures of a page may take");
	else
		return true;
	p->pictures_full = true;
	cvb_page_raw(p, "<p class=note>");
	cvb_page_textf(p, "no picture here and below: %s; the tables do not need them",
		       why ? why : "");
	cvb_page_raw(p, "</p>\n");
	return false;
}

/* gnuplot has its time for one picture, and for all of them together. */
static int run_plot(struct cvb_page *p, const char *script, const char *const args[],
		    const char *alt, char **ret_svg, struct cvb_err *err)
{
	uint64_t begin_ns = cvb_now_ns(), took_ns;
	unsigned left_ms =
		(unsigned)cvb_min(p->pictures_ns / CVB_NS_PER_MS, (uint64_t)CVB_PLOT_TIMEOUT_MS);
	int r = cvb_plot_run(script, args, p->pictures, alt, left_ms, ret_svg, err);

	took_ns = cvb_now_ns() - begin_ns;
	p->pictures_ns -= cvb_min(took_ns, p->pictures_ns);
	return r;
}

int cvb_page_picture(struct cvb_page *p, const char *script, const char *args[], const char *data,
		     const char *labels, const char *alt, struct cvb_err *err)
{
	_cleanup_free_ char *data_path = NULL, *labels_path = NULL, *svg = NULL;
	struct cvb_err why = {0};
	int r;

	if (p->no_pictures || !more_pictures(p))
		return 0;
	p->pictures++;
	r = write_data(p->tmp_dir, p->pictures, "dat", data, &data_path, err);
	if (r == 0 && labels)
		r = write_data(p->tmp_dir, p->pictures, "labels", labels, &labels_path, err);
	if (r < 0)
		return r;
	args[0] = data_path;
	if (labels)
		args[1] = labels_path;
	r = run_plot(p, script, args, alt, &svg, &why);
	if (r == -ENOMEM || r == -EINTR)
		return cvb_err_set(err, r, "cannot draw a picture: %s", why.frame[0].msg);
	if (r < 0) {
		cvb_page_raw(p, "<p class=note>picture left out: ");
		cvb_page_text(p, why.frame[0].msg);
		cvb_page_raw(p, "</p>\n");
		return 0;
	}
	p->pictures_bytes += strlen(svg);
	cvb_page_raw(p, svg);
	cvb_page_raw(p, "\n");
	return 0;
}

/* ---- the page ----------------------------------------------------------------------------------
 */

static void page_head(struct cvb_page *p)
{
	const struct cvb_model *m = p->m;

	cvb_page_raw(p, "<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
			"<meta name=viewport content=\"width=device-width, initial-scale=1\">\n"
			"<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; "
			"style-src 'unsafe-inline'; img-src data:\">\n"
			/* else a browser asks for /favicon.ico, the only thing it would fetch */
			"<link rel=icon href=\"data:,\">\n<title>");
	cvb_page_textf(p, "cvmbench: %s", m->profile);
	cvb_page_raw(p, "</title>\n<style>");
	cvb_page_raw(p, cvb_html_style);
	cvb_page_raw(p, "</style>\n</head>\n<body>\n<h1>");
	cvb_page_textf(p, "cvmbench report: %s", m->profile);
	cvb_page_raw(p, "</h1>\n<p class=dim>");
	cvb_page_textf(p, "%s%s%s%zu arms, %u of %u session%s complete, seed %s, %s",
		       m->started ? "started " : "", m->started ? m->started : "",
		       m->started ? ", " : "", m->n_arms, m->sessions_complete, m->sessions,
		       m->sessions == 1 ? "" : "s", m->seed, m->tool);
	cvb_page_raw(p, "</p>\n<nav><a href=\"#verdicts\">Verdicts</a><a href=\"#aa\">A/A</a>"
			"<a href=\"#metrics\">Metrics</a><a href=\"#environment\">Environment</a>"
			"<a href=\"#reading\">How to read a verdict</a></nav>\n");
	if (p->no_pictures) {
		cvb_page_raw(p, "<p class=note>");
		cvb_page_text(p, p->no_pictures);
		cvb_page_raw(p, "</p>\n");
	}
}

static void page_reading(struct cvb_page *p)
{
	cvb_page_raw(
		p,
		"<h2 id=reading>How to read a verdict</h2>\n"
		"<p>Performance is the value itself, or its inverse where lower is better; the "
		"ratio is that of the arm over its base, so below 1 means slower, whatever the "
		"metric. In each round every arm is measured once, in balanced random order, and "
		"rounds are compared in pairs. A session is a fresh start of every arm. Runs differ "
		"from one another by more than the samples inside a run do, so the session is what "
		"counts: the bounds come from how much sessions differ (Student t on the "
		"sessions&#39; Hodges-Lehmann log-ratios), never from the number of samples.</p>\n"
		"<ul>\n"
		"<li><b>PASS</b>: with 95 % confidence the arm has at least the margin&#39;s share "
		"of the base&#39;s performance.</li>\n"
		"<li><b>FAIL</b>: with 95 % confidence it has less.</li>\n"
		"<li><b>INCONCLUSIVE</b>: the interval contains the margin, or there is none (one "
		"session). It is not a pass; the reason says how many sessions would probably "
		"decide.</li>\n"
		"<li><b>INVALID</b>: the measurement must not be believed; the reason says why. An "
		"A/A arm (the base measured again) that differs from itself does this.</li>\n"
		"<li><b>UNSUPPORTED</b>: an arm or benchmark cannot run here.</li>\n"
		"</ul>\n"
		"<p>Labels: <span class=label>tcg</span> the guest&#39;s CPU was emulated in "
		"software; <span class=label>emulated</span> the GPU was; "
		"<span class=label>bounce</span> a normal VM forced through bounce buffers, which "
		"shows the copy&#39;s cost only and is not a confidential VM; "
		"<span class=label>deterministic</span> a virtual clock. None of these can "
		"certify.</p>\n");
}

static void page_colophon(struct cvb_page *p, const char *profile_text)
{
	cvb_page_raw(p, "<h2 id=recipe>Recipe</h2>\n<p>");
	cvb_page_textf(p,
		       "Made by %s from this bundle's journal.jsonl and profile.ini; seed %s. The "
		       "same journal gives the same page again.",
		       p->m->tool, p->m->seed);
	cvb_page_raw(p, "</p>\n");
	if (!profile_text)
		return;
	cvb_page_raw(p, "<details><summary>profile.ini</summary><pre>");
	/* by line: the escaper turns a line break inside of one text into a blank */
	for (const char *s = profile_text; *s;) {
		size_t n = strcspn(s, "\n");
		_cleanup_free_ char *line = strndup(s, n);

		cvb_page_text(p, line);
		cvb_page_raw(p, "\n");
		s += n + (s[n] == '\n');
	}
	cvb_page_raw(p, "</pre></details>\n");
}

static int page_write(struct cvb_page *p, const char *profile_text, struct cvb_err *err)
{
	int r;

	page_head(p);
	r = cvb_page_verdicts(p, err);
	if (r == 0)
		r = cvb_page_metrics(p, err);
	if (r == 0)
		r = cvb_page_arms(p, err);
	page_reading(p);
	page_colophon(p, profile_text);
	cvb_page_raw(p, "</body>\n</html>\n");
	return r;
}

/* A folder for data files, by its absolute name (a relative one could begin with '<', which gnuplot
 * takes for a command to run). */
static int make_tmp_dir(struct cvb_page *p, const char *bundle_dir, struct cvb_err *err)
{
	_cleanup_free_ char *real = realpath(bundle_dir, NULL);

	if (!real)
		return cvb_err_set(err, -errno, "cannot find bundle %s: %s", bundle_dir,
				   strerror(errno));
	p->tmp_dir = cvb_strf("%s/.plots-XXXXXX", real);
	if (!p->tmp_dir)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (!mkdtemp(p->tmp_dir)) {
		int r = -errno;

		free(CVB_TAKE(p->tmp_dir));
		return cvb_err_set(err, r, "cannot make a folder in %s: %s", bundle_dir,
				   strerror(-r));
	}
	return 0;
}

/* The page into *ret_html. */
static int render(struct cvb_page *p, const char *bundle_dir, char **ret_html, size_t *ret_bytes,
		  struct cvb_err *err)
{
	_cleanup_free_ char *ini = cvb_bundle_path(bundle_dir, CVB_BUNDLE_PROFILE);
	_cleanup_free_ char *profile_text = NULL;
	struct cvb_err ignored = {0};
	int r;

	if (!ini ||
	    cvb_file_read_regular(ini, PROFILE_MAX_BYTES, &profile_text, NULL, &ignored) < 0)
		profile_text = NULL;
	p->f = open_memstream(ret_html, ret_bytes);
	if (!p->f)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = page_write(p, profile_text, err);
	if (fclose(p->f) != 0 && r == 0)
		r = cvb_err_set(err, -ENOMEM, "out of memory for the page");
	return r;
}

int cvb_report_html(const char *bundle_dir, json_t **ret_verdicts, struct cvb_err *err)
{
	_cleanup_free_ char *out = cvb_bundle_path(bundle_dir, CVB_BUNDLE_HTML);
	_cleanup_free_ char *html = NULL;
	_cleanup_json_ json_t *verdicts = NULL;
	struct cvb_model *model = NULL;
	struct cvb_page page = {.pictures_ns = CVB_PAGE_PICTURES_NS};
	size_t bytes = 0;
	int r;

	if (!out)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cvb_bundle_judge(bundle_dir, &verdicts, &model, err);
	if (r < 0)
		return r;
	page.m = model;
	page.verdicts = verdicts;

	_cleanup_free_ char *gnuplot = cvb_program_find("gnuplot", CVB_GNUPLOT_PACKAGE, NULL);

	if (!gnuplot) {
		cvb_warn("gnuplot not found (Debian package " CVB_GNUPLOT_PACKAGE
			 "): the report has no pictures");
		page.no_pictures = strdup("pictures left out: gnuplot not found (Debian "
					  "package " CVB_GNUPLOT_PACKAGE ")");
	} else {
		r = make_tmp_dir(&page, bundle_dir, err);
	}
	if (r == 0)
		r = render(&page, bundle_dir, &html, &bytes, err);
	if (r == 0)
		r = cvb_file_write(out, html, bytes, err);
	if (page.tmp_dir)
		cvb_ignore(cvb_remove_tree(page.tmp_dir)); /* a left-over folder harms nobody */
	free(page.tmp_dir);
	free(page.no_pictures);
	cvb_model_free(model);
	if (r < 0)
		return cvb_err_wrap(err, r, "writing the report of %s", bundle_dir);
	if (ret_verdicts)
		*ret_verdicts = CVB_TAKE(verdicts);
	return 0;
}
