/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/verdict.h"
#include "core/util.h"
#include "report/family.h"
#include "report/html_part.h"
#include "report/text.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* The verdict's word, only if it is one of ours: it becomes a class name. */
static const char *known_verdict(const char *s)
{
	for (size_t i = 0; cvb_verdict_names[i]; i++)
		if (!strcmp(s, cvb_verdict_names[i]))
			return cvb_verdict_names[i];
	return "INVALID";
}

static void arm_cell(struct cvb_page *p, const char *name)
{
	int a = cvb_model_arm(p->m, name);
	char labels[160] = "", *rest = labels, *word;

	cvb_page_text(p, name);
	if (a >= 0)
		cvb_model_labels(&p->m->arms[a], labels, sizeof(labels));
	while (*labels && (word = strsep(&rest, ",")) != NULL) {
		cvb_page_raw(p, " <span class=label>");
		cvb_page_text(p, word + strspn(word, " "));
		cvb_page_raw(p, "</span>");
	}
}

static void bounds_cell(struct cvb_page *p, const json_t *g)
{
	char lower[32], upper[32];

	cvb_page_raw(p, "<td class=n>");
	if (isnan(cvb_json_number(g, "lower")))
		cvb_page_raw(p, "no interval");
	else
		cvb_page_textf(p, "%s to %s",
			       cvb_ratio_text(cvb_json_number(g, "lower"), lower, sizeof(lower)),
			       cvb_ratio_text(cvb_json_number(g, "upper"), upper, sizeof(upper)));
	cvb_page_raw(p, "</td>");
}

static void sessions_cell(struct cvb_page *p, const json_t *g)
{
	cvb_page_raw(p, "<td class=n>");
	cvb_page_textf(p, "%.0f / %.0f", cvb_json_number(g, "sessions"),
		       cvb_json_number(g, "rounds"));
	cvb_page_raw(p, "</td>");
}

static void metric_cell(struct cvb_page *p, const json_t *g)
{
	_cleanup_free_ char *params = cvb_params_label(json_object_get(g, "params"), NULL);

	cvb_page_raw(p, "<td>");
	cvb_page_text(p, cvb_json_text(g, "metric"));
	if (params && *params) {
		cvb_page_raw(p, " <span class=dim>");
		cvb_page_text(p, params);
		cvb_page_raw(p, "</span>");
	}
	cvb_page_raw(p, "</td>");
}

static void gate_row(struct cvb_page *p, const json_t *g, bool report)
{
	const char *verdict = report ? "" : known_verdict(cvb_json_text(g, "verdict"));
	const char *reason = cvb_json_text(g, "reason");
	char buf[32];

	fprintf(p->f, "<tr%s>", *reason ? " class=has-why" : "");
	if (!report)
		fprintf(p->f, "<td class=\"verdict %s\">%s</td>", verdict, verdict);
	cvb_page_element(p, "td class=id", cvb_json_text(g, "id"));
	metric_cell(p, g);
	cvb_page_raw(p, "<td>");
	arm_cell(p, cvb_json_text(g, "arm"));
	cvb_page_raw(p, "</td><td>");
	arm_cell(p, cvb_json_text(g, "base"));
	cvb_page_raw(p, "</td>");
	cvb_page_element(p, "td class=n",
			 cvb_ratio_text(cvb_json_number(g, "ratio"), buf, sizeof(buf)));
	bounds_cell(p, g);
	if (!report)
		cvb_page_element(p, "td class=n",
				 cvb_ratio_text(cvb_json_number(g, "margin"), buf, sizeof(buf)));
	sessions_cell(p, g);
	cvb_page_raw(p, "</tr>\n");
	if (*reason) {
		fprintf(p->f, "<tr class=why><td></td><td colspan=%d>", report ? 6 : 8);
		cvb_page_text(p, reason);
		cvb_page_raw(p, "</td></tr>\n");
	}
}

static void gate_table(struct cvb_page *p, const json_t *gates, bool report)
{
	const json_t *g;
	char title[40];
	size_t i;

	cvb_page_raw(p, "<div class=wide><table><thead><tr>");
	if (!report)
		cvb_page_raw(p, "<th>Verdict");
	cvb_page_raw(p, report ? "<th>Row" : "<th>Gate");
	cvb_page_raw(p, "<th>Metric<th>Arm<th>Base<th class=n>Ratio<th class=n>");
	cvb_page_text(p, cvb_verdict_bounds_title(gates, title, sizeof(title)));
	if (!report)
		cvb_page_raw(p, "<th class=n>Margin");
	cvb_page_raw(p, "<th class=n>Sessions / rounds</tr></thead>\n<tbody>\n");
	json_array_foreach (gates, i, g) {
		gate_row(p, g, report);
	}
	cvb_page_raw(p, "</tbody></table></div>\n");
}

/* ---- the picture of all gates ------------------------------------------------------------------
 */

static unsigned verdict_colour(const char *verdict)
{
	if (!strcmp(verdict, "PASS"))
		return 0x009E73;
	if (!strcmp(verdict, "FAIL"))
		return 0xD55E00;
	return !strcmp(verdict, "INCONCLUSIVE") ? 0x0072B2 : 0x7F7F7F;
}

/* One line of data for each gate that has a ratio; the range they span. */
static unsigned gate_data(FILE *f, const json_t *gates, double *low, double *high)
{
	unsigned rows = 0;

	*low = 0.95;
	*high = 1.05;
	for (size_t i = 0; i < json_array_size(gates); i++) {
		const json_t *g = json_array_get(gates, i);
		double ratio = cvb_json_number(g, "ratio"), margin = cvb_json_number(g, "margin");
		double lower = cvb_json_number(g, "lower"), upper = cvb_json_number(g, "upper");

		if (!(ratio > 0))
			continue;
		/* a bound that is absent or absurdly far away is drawn at the dot or the edge */
		lower = isnan(lower) ? ratio : fmax(lower, ratio / 30);
		upper = isnan(upper) ? ratio : fmin(upper, ratio * 30);
		*low = fmin(*low, fmin(lower, margin));
		*high = fmax(*high, fmax(upper, margin));
		cvb_text_gnuplot(f, cvb_json_text(g, "id"), 40);
		fprintf(f, " %u %.10g %.10g %.10g %.10g %u\n", rows++, ratio, lower, upper, margin,
			verdict_colour(cvb_json_text(g, "verdict")));
	}
	*low *= 0.93;
	*high *= 1.07;
	return rows;
}

static int gates_picture(struct cvb_page *p, const json_t *gates, struct cvb_err *err)
{
	_cleanup_free_ char *data = NULL;
	char rows_text[16], low_text[32], high_text[32];
	double low, high;
	size_t bytes = 0;
	FILE *f = open_memstream(&data, &bytes);
	unsigned rows;
	int r;

	if (!f)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	rows = gate_data(f, gates, &low, &high);
	if (fclose(f) != 0)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (!rows || p->no_pictures)
		return 0;
	snprintf(rows_text, sizeof(rows_text), "%u", rows);
	snprintf(low_text, sizeof(low_text), "%.6g", low);
	snprintf(high_text, sizeof(high_text), "%.6g", high);

	const char *args[] = {NULL, rows_text, low_text, high_text, NULL};

	cvb_page_raw(p, "<figure>");
	r = cvb_page_picture(p, "gates.gp", args, data, NULL,
			     "Ratio of each gate with its bounds and margin", err);
	cvb_page_raw(
		p,
		"<figcaption>Dot and line: ratio with the bounds of the table (a dot alone has none). "
		"Upright stroke: the margin. Green passes, orange fails, blue is inconclusive, "
		"grey must not be believed.</figcaption></figure>\n");
	return r;
}

/* ---- A/A ---------------------------------------------------------------------------------------
 */

/* An A/A interval that spans more than a fifth says nothing about the machine's calm. */
#define AA_TELLING_SPAN 1.2

static void aa_row(struct cvb_page *p, const json_t *row)
{
	char buf[32];

	cvb_page_raw(p, "<tr>");
	metric_cell(p, row);
	cvb_page_raw(p, "<td>");
	arm_cell(p, cvb_json_text(row, "arm"));
	cvb_page_raw(p, "</td><td>");
	arm_cell(p, cvb_json_text(row, "base"));
	cvb_page_raw(p, "</td>");
	cvb_page_element(p, "td class=n",
			 cvb_ratio_text(cvb_json_number(row, "ratio"), buf, sizeof(buf)));
	bounds_cell(p, row);
	sessions_cell(p, row);
	if (json_is_true(json_object_get(row, "excludes_one")))
		cvb_page_raw(p, "<td class=bad>excludes 1");
	else if (isnan(cvb_json_number(row, "lower")))
		cvb_page_raw(p, "<td class=dim>one session: no interval");
	else if (cvb_json_number(row, "upper") > AA_TELLING_SPAN * cvb_json_number(row, "lower"))
		cvb_page_raw(p, "<td class=dim>too wide to tell");
	else
		cvb_page_raw(p, "<td>agrees");
	if (cvb_json_number(row, "series") > 1)
		cvb_page_textf(p, " (%.0f series, %.0f exclude 1)", cvb_json_number(row, "series"),
			       cvb_json_number(row, "series_excluding_one"));
	cvb_page_raw(p, "</td></tr>\n");
}

/* In the order of the document; where not all of them fit, those that exclude 1 come first. */
static void aa_rows(struct cvb_page *p, const json_t *aa)
{
	bool fit = json_array_size(aa) <= CVB_PAGE_AA_ROWS;
	const json_t *row;
	size_t shown = 0, i;

	for (int pass = fit; pass < 2; pass++) {
		json_array_foreach (aa, i, row) {
			bool now =
				fit || json_is_true(json_object_get(row, "excludes_one")) == !pass;

			if (now && shown < CVB_PAGE_AA_ROWS) {
				aa_row(p, row);
				shown++;
			}
		}
	}
}

static void aa_table(struct cvb_page *p, const json_t *aa)
{
	cvb_page_raw(
		p,
		"<h2 id=aa>A/A: does the machine agree with itself?</h2>\n"
		"<p>The A/A arm is its base arm measured again, in the same rounds. What "
		"differs here is noise of the machine, and no verdict can be finer than "
		"it. Shown is the worst series of each metric; all intervals together "
		"hold with 99 % confidence. With few sessions the interval is often too wide to tell; below five, a gate also fails to "
		"stand when the A/A ratio itself is off by enough to change it.</p>\n");
	if (!json_array_size(aa)) {
		cvb_page_raw(p,
			     "<p class=note>No A/A arm was measured, so the noise of the machine "
			     "is unknown.</p>\n");
		return;
	}
	cvb_page_raw(p, "<div class=wide><table><thead><tr><th>Metric<th>Arm<th>Base"
			"<th class=n>Ratio<th class=n>Interval<th class=n>Sessions / rounds"
			"<th></tr></thead>\n<tbody>\n");
	aa_rows(p, aa);
	cvb_page_raw(p, "</tbody></table></div>\n");
	if (json_array_size(aa) > CVB_PAGE_AA_ROWS) {
		cvb_page_raw(p, "<p class=note>");
		cvb_page_textf(p,
			       "%zu of %zu rows left out, those that exclude 1 last: verdicts.json "
			       "has them all",
			       json_array_size(aa) - CVB_PAGE_AA_ROWS, json_array_size(aa));
		cvb_page_raw(p, "</p>\n");
	}
}

static void overall(struct cvb_page *p)
{
	const char *verdict = known_verdict(cvb_json_text(p->verdicts, "overall"));
	const json_t *why = json_object_get(p->verdicts, "why_not"), *v;
	bool certifiable = json_is_true(json_object_get(p->verdicts, "certifiable"));
	size_t i;

	fprintf(p->f, "<div class=\"overall %s\"><b>%s</b><span>%s</span></div>\n", verdict,
		verdict,
		certifiable ? "certifiable: the measurement meets the rules for a certificate"
			    : "<strong>not certifiable</strong>: these numbers must not be used as "
			      "a certificate");
	if (certifiable)
		return;
	cvb_page_raw(p, "<h3>Why it is not certifiable</h3>\n<ul>\n");
	json_array_foreach (why, i, v) {
		cvb_page_element(p, "li", json_string_value(v));
	}
	cvb_page_raw(p, "</ul>\n");
}

int cvb_page_verdicts(struct cvb_page *p, struct cvb_err *err)
{
	const json_t *gates = json_object_get(p->verdicts, "gates");
	const json_t *reported = json_object_get(p->verdicts, "reported");
	int r = 0;

	cvb_page_raw(p, "<h2 id=verdicts>Verdicts</h2>\n");
	overall(p);
	if (json_array_size(gates)) {
		cvb_page_raw(p, "<h3>Gates</h3>\n");
		r = gates_picture(p, gates, err);
		gate_table(p, gates, false);
	}
	if (json_array_size(reported)) {
		cvb_page_raw(p, "<h3>Reported only, never part of the verdict</h3>\n");
		gate_table(p, reported, true);
	}
	aa_table(p, json_object_get(p->verdicts, "aa"));
	return r;
}
