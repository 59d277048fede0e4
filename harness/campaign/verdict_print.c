/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verdict table for a terminal.  Cells wrap, they are never cut: a label must reach the reader.
 */
#include "campaign/verdict.h"
#include "core/util.h"
#include "report/text.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#define COLUMNS	     7
#define LINE_COLUMNS 100
#define TEXT_CHARS   600

enum {
	COL_VERDICT,
	COL_RATIO,
	COL_BOUNDS,
	COL_MARGIN,
	COL_GATE,
	COL_ARMS,
	COL_LABELS,
};

/* With one blank between them these make 100. */
static const size_t width[COLUMNS] = {12, 6, 16, 6, 20, 18, 16};

static const char *colour_of(const char *verdict, bool colour)
{
	if (!colour)
		return "";
	if (!strcmp(verdict, "PASS"))
		return "\033[1;32m";
	if (!strcmp(verdict, "FAIL") || !strcmp(verdict, "INVALID"))
		return "\033[1;31m";
	return "\033[1;33m";
}

/* Bytes of s that fit into `columns`, broken after a blank or comma, else after a slash or dash,
 * where there is one. */
static size_t fit(const char *s, size_t columns)
{
	size_t bytes = 0, chars = 0, good = 0, fair = 0;

	while (s[bytes]) {
		size_t next = bytes + 1;

		while (((unsigned char)s[next] & 0xc0) == 0x80)
			next++;
		if (s[bytes] == ' ')
			good = bytes;
		if (chars == columns)
			return good ? good : fair ? fair : bytes;
		if (s[bytes] == ',')
			good = next;
		if (strchr("/-", s[bytes]))
			fair = next;
		bytes = next;
		chars++;
	}
	return bytes;
}

/* Print one row of cells, as many lines as the longest cell needs. */
static void print_row(FILE *out, const char *const cell[COLUMNS], const char *on, const char *off)
{
	const char *rest[COLUMNS];
	bool more = true;

	memcpy(rest, cell, sizeof(rest));
	for (bool first = true; more; first = false) {
		size_t pending = 0; /* blanks owed before the next text */

		more = false;
		for (size_t c = 0; c < COLUMNS; c++) {
			size_t n = fit(rest[c], width[c]);
			_cleanup_free_ char *part = strndup(rest[c], n);
			size_t columns = part ? cvb_text_columns(part) : 0;
			bool paint = first && c == COL_VERDICT && n;

			if (n)
				fprintf(out, "%*s%s%s%s", (int)pending, "", paint ? on : "",
					part ? part : "", paint ? off : "");
			pending = (n ? 0 : pending) + width[c] - columns + 1;
			rest[c] += n;
			rest[c] += strspn(rest[c], " ");
			more = more || *rest[c];
		}
		fputc('\n', out);
	}
}

/* A paragraph, wrapped, every line after `indent` blanks; the first begins with `head` instead. */
static void print_text(FILE *out, const char *head, size_t indent, const char *s)
{
	_cleanup_free_ char *plain = cvb_text_plain(s, TEXT_CHARS);
	const char *rest = plain ? plain : "";
	bool first = true;

	while (*rest) {
		size_t n = fit(rest, LINE_COLUMNS - indent);

		fprintf(out, "%-*s%.*s\n", (int)indent, first ? head : "", (int)n, rest);
		rest += n;
		rest += strspn(rest, " ");
		first = false;
	}
}

static void ratio_text(const json_t *v, char *buf, size_t buf_bytes)
{
	cvb_ratio_cell(json_is_number(v) ? json_number_value(v) : NAN, buf, buf_bytes);
}

static void print_gate(FILE *out, const json_t *g, bool colour, bool report)
{
	char ratio[24], lower[24], upper[24], bounds[64], margin[32];
	const char *verdict = report ? "(report)" : cvb_json_text(g, "verdict");
	const json_t *labels = json_object_get(g, "labels");
	_cleanup_free_ char *joined = NULL, *arms = NULL, *id = NULL;
	_cleanup_free_ char *pair =
		cvb_strf("%s / %s", cvb_json_text(g, "arm"), cvb_json_text(g, "base"));

	ratio_text(json_object_get(g, "ratio"), ratio, sizeof(ratio));
	ratio_text(json_object_get(g, "lower"), lower, sizeof(lower));
	ratio_text(json_object_get(g, "upper"), upper, sizeof(upper));
	ratio_text(json_object_get(g, "margin"), margin, sizeof(margin));
	if (json_is_number(json_object_get(g, "lower")))
		snprintf(bounds, sizeof(bounds), "[%s, %s]", lower, upper);
	else
		snprintf(bounds, sizeof(bounds), "-");
	for (size_t i = 0; i < json_array_size(labels); i++) {
		const char *label = json_string_value(json_array_get(labels, i));
		_cleanup_free_ char *before = CVB_TAKE(joined);

		joined = cvb_strf("%s%s%s", before ? before : "", before ? "; " : "",
				  label ? label : "");
	}
	_cleanup_free_ char *shown = cvb_text_plain(joined, TEXT_CHARS);

	id = cvb_text_plain(cvb_json_text(g, "id"), TEXT_CHARS);
	arms = cvb_text_plain(pair, TEXT_CHARS);

	const char *const cell[COLUMNS] = {verdict,
					   ratio,
					   bounds,
					   report ? "-" : margin,
					   id ? id : "",
					   arms ? arms : "",
					   shown ? shown : ""};

	print_row(out, cell, colour_of(verdict, colour && !report), colour ? "\033[0m" : "");

	/* of several series the reason itself names the one that counts */
	const json_t *series = json_object_get(g, "series");
	const json_t *of_one = json_integer_value(series) > 1 ? NULL : json_object_get(g, "params");
	_cleanup_free_ char *params = cvb_model_params_key(of_one);
	const char *reason = cvb_json_text(g, "reason");
	bool some = params && *params;
	_cleanup_free_ char *line =
		cvb_strf("%s%s%s%s%s%s", cvb_json_text(g, "metric"), some ? "{" : "",
			 some ? params : "", some ? "}" : "", *reason ? ": " : "", reason);

	print_text(out, "", 13, line);
}

const char *cvb_verdict_bounds_title(const json_t *gates, char *buf, size_t buf_bytes)
{
	double confidence = NAN;

	for (size_t i = 0; i < json_array_size(gates); i++) {
		double c =
			json_number_value(json_object_get(json_array_get(gates, i), "confidence"));

		if (!isnan(confidence) && c != confidence)
			return "bounds";
		confidence = c;
	}
	if (!(confidence > 0 && confidence < 1))
		return "bounds";
	snprintf(buf, buf_bytes, "%.4g %% bounds", 100 * confidence);
	return buf;
}

void cvb_verdict_print(FILE *out, const json_t *verdicts, bool colour)
{
	const json_t *gates = json_object_get(verdicts, "gates");
	const json_t *reported = json_object_get(verdicts, "reported");
	char title[40], bounds[40];

	snprintf(title, sizeof(title), "%s",
		 cvb_verdict_bounds_title(json_array_size(gates) ? gates : reported, bounds,
					  sizeof(bounds)));
	for (char *c = title; *c; c++)
		*c = (char)toupper((unsigned char)*c);

	const char *const head[COLUMNS] = {"VERDICT", "RATIO",	    title,   "MARGIN",
					   "GATE",    "ARM / BASE", "LABELS"};
	const json_t *why = json_object_get(verdicts, "why_not"), *v;
	const char *overall = cvb_json_text(verdicts, "overall");
	const char *off = colour ? "\033[0m" : "";
	size_t i;

	if (json_array_size(gates) + json_array_size(reported))
		print_row(out, head, "", "");
	json_array_foreach (gates, i, v) {
		print_gate(out, v, colour, false);
	}
	json_array_foreach (reported, i, v) {
		print_gate(out, v, colour, true);
	}
	fprintf(out, "\noverall: %s%s%s", colour_of(overall, colour), overall, off);
	if (json_is_true(json_object_get(verdicts, "certifiable"))) {
		fputs("   (the measurement meets the rules for a certificate)\n", out);
		return;
	}
	fputs("   not certifiable:\n", out);
	json_array_foreach (why, i, v) {
		print_text(out, "  -", 4, json_string_value(v));
	}
}
