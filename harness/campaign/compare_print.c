/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A comparison as text.  Nothing is cut: what does not fit goes on in the next line.
 */
#include "campaign/compare.h"
#include "campaign/model.h"
#include "core/util.h"
#include "report/text.h"

#include <math.h>
#include <string.h>

#define LINE_COLUMNS 100
#define TEXT_CHARS   600
#define INDENT	     13

static const char *colour_of(const char *verdict, bool colour)
{
	if (!colour)
		return "";
	if (!strcmp(verdict, "PASS"))
		return "\033[1;32m";
	if (!strcmp(verdict, "FAIL") || !strcmp(verdict, "INVALID") ||
	    !strcmp(verdict, CVB_COMPARE_ERROR))
		return "\033[1;31m";
	return "\033[1;33m";
}

/* Words in lines, each after `indent` blanks; the first begins with `head` instead, NULL: with
 * what was printed before. */
static void print_text(FILE *out, const char *head, size_t indent, const char *s)
{
	_cleanup_free_ char *plain = cvb_text_plain(s, TEXT_CHARS);
	size_t column = LINE_COLUMNS;
	char *rest = plain, *word;

	if (head)
		fprintf(out, "%-*s", (int)indent, head);
	while ((word = strsep(&rest, " ")) != NULL) {
		size_t n = cvb_text_columns(word);

		if (column == LINE_COLUMNS)
			column = indent;
		else if (column + 1 + n > LINE_COLUMNS)
			column = (size_t)fprintf(out, "\n%*s", (int)indent, "") - 1;
		else
			column += (size_t)fprintf(out, " ");
		fputs(word, out);
		column = cvb_min(column + n, (size_t)LINE_COLUMNS - 1);
	}
	fputc('\n', out);
}

/* "arm mem.stream/copy{…} [tcg]" */
static char *what_text(const json_t *row)
{
	const json_t *labels = json_object_get(row, "labels"), *v;
	const char *arm = cvb_json_text(row, "arm"), *metric = cvb_json_text(row, "metric");
	const char *bench = cvb_json_text(row, "bench");
	const char *what = *metric ? metric : bench;
	_cleanup_free_ char *params = cvb_model_params_key(json_object_get(row, "params"));
	bool some = params && *params;
	char *text = cvb_strf("%s%s%s%s%s%s", arm, *arm && *what ? " " : "", what, some ? "{" : "",
			      some ? params : "", some ? "}" : "");
	size_t i;

	json_array_foreach (labels, i, v) {
		_cleanup_free_ char *before = text;

		text = cvb_strf("%s%s%s%s", before ? before : "?", i ? ", " : " [",
				json_string_value(v), i + 1 == json_array_size(labels) ? "]" : "");
	}
	return text;
}

static void print_metric(FILE *out, const json_t *m, bool colour)
{
	char ratio[24], lower[24], upper[24], bounds[64] = "-", base[64], current[64];
	const char *verdict = cvb_json_text(m, "verdict");
	_cleanup_free_ char *unit = cvb_text_plain(cvb_json_text(m, "unit"), 16);
	_cleanup_free_ char *what = what_text(m), *head = NULL;

	cvb_ratio_cell(cvb_json_number(m, "ratio"), ratio, sizeof(ratio));
	cvb_ratio_cell(cvb_json_number(m, "lower"), lower, sizeof(lower));
	cvb_ratio_cell(cvb_json_number(m, "upper"), upper, sizeof(upper));
	if (json_is_number(json_object_get(m, "lower")))
		snprintf(bounds, sizeof(bounds), "[%s, %s]", lower, upper);
	cvb_value_text(cvb_json_number(m, "base_value"), unit ? unit : "", base, sizeof(base));
	cvb_value_text(cvb_json_number(m, "current_value"), unit ? unit : "", current,
		       sizeof(current));
	fprintf(out, "%s%-12s%s %-6s %-16s ", colour_of(verdict, colour), verdict,
		colour ? "\033[0m" : "", ratio, bounds);
	head = cvb_strf("%-12s %-12s", base, current);
	/* the metric in the same line if there is room for it */
	if (what && strlen(what) + 64 <= LINE_COLUMNS && head && strlen(head) <= 25) {
		_cleanup_free_ char *plain = cvb_text_plain(what, TEXT_CHARS);

		fprintf(out, "%s  %s\n", head, plain ? plain : "?");
		return;
	}
	fprintf(out, "%s\n", head ? head : "?");
	print_text(out, "", INDENT, what ? what : "?");
}

/* Rows in a row that share a reason get it once, below. */
static void print_metrics(FILE *out, const json_t *metrics, bool colour)
{
	const json_t *m;
	size_t i;

	if (json_array_size(metrics))
		fprintf(out, "%-12s %-6s %-16s %-12s %-12s  %s\n", "VERDICT", "RATIO",
			"95 % BOUNDS", "BASE", "CURRENT", "METRIC");
	json_array_foreach (metrics, i, m) {
		const char *reason = cvb_json_text(m, "reason");

		print_metric(out, m, colour);
		if (strcmp(cvb_json_text(m, "verdict"), "PASS") != 0 &&
		    strcmp(reason, cvb_json_text(json_array_get(metrics, i + 1), "reason")) != 0)
			print_text(out, "", INDENT, reason);
	}
}

static void print_errors(FILE *out, const json_t *errors, bool colour)
{
	const json_t *e;
	size_t i;

	json_array_foreach (errors, i, e) {
		_cleanup_free_ char *what = what_text(e);
		_cleanup_free_ char *line =
			cvb_strf("%s%s%s", what ? what : "", what && *what ? ": " : "",
				 cvb_json_text(e, "reason"));

		fprintf(out, "%s%-12s%s ", colour ? "\033[1;31m" : "", "ERROR",
			colour ? "\033[0m" : "");
		print_text(out, NULL, INDENT, line ? line : "?");
	}
}

static void print_rest(FILE *out, const json_t *doc)
{
	const json_t *notes = json_object_get(doc, "notes"), *v;
	const json_t *differences = json_object_get(doc, "differences");
	size_t i;

	json_array_foreach (differences, i, v) {
		const json_t *b = json_object_get(v, "base"), *c = json_object_get(v, "current");
		const char *arm = cvb_json_text(v, "arm");
		_cleanup_free_ char *line =
			cvb_strf("%s%s%s: %s -> %s", arm, *arm ? " " : "", cvb_json_text(v, "what"),
				 json_is_string(b) ? json_string_value(b) : "(not there)",
				 json_is_string(c) ? json_string_value(c) : "(not there)");

		if (i == 0)
			fputs("\nWhat else differs:\n", out);
		print_text(out, "  -", 4, line ? line : "?");
	}
	json_array_foreach (notes, i, v) {
		if (i == 0)
			fputs("\nNotes:\n", out);
		print_text(out, "  -", 4, json_string_value(v));
	}
}

static void print_summary(FILE *out, const json_t *doc, bool colour)
{
	const json_t *metrics = json_object_get(doc, "metrics"), *m;
	const char *overall = cvb_json_text(doc, "overall");
	size_t n[8] = {0}, i, errors = json_array_size(json_object_get(doc, "errors"));
	char invalid[40] = "";

	json_array_foreach (metrics, i, m)
		for (size_t v = 0; cvb_verdict_names[v] && v < CVB_ARRAY_LEN(n); v++)
			n[v] += !strcmp(cvb_json_text(m, "verdict"), cvb_verdict_names[v]);
	if (n[CVB_VERDICT_INVALID])
		snprintf(invalid, sizeof(invalid), ", %zu INVALID", n[CVB_VERDICT_INVALID]);
	fprintf(out,
		"\noverall: %s%s%s   %zu FAIL%s, %zu INCONCLUSIVE, %zu PASS, %zu error%s; %s, "
		"margin %.6g\n",
		colour_of(overall, colour), overall, colour ? "\033[0m" : "", n[CVB_VERDICT_FAIL],
		invalid, n[CVB_VERDICT_INCONCLUSIVE], n[CVB_VERDICT_PASS], errors,
		errors == 1 ? "" : "s", cvb_json_text(doc, "kind"), cvb_json_number(doc, "margin"));
	if (!strcmp(overall, CVB_COMPARE_ERROR))
		print_text(out, NULL, 0,
			   "ERROR: not everything could be compared, so the comparison as a whole "
			   "has no verdict (exit 2); verdicts above are those of single metrics.");
	else if (!strcmp(overall, cvb_verdict_names[CVB_VERDICT_INVALID]))
		print_text(out, NULL, 0,
			   "INVALID: some of it was measured but cannot be believed (exit 5); "
			   "verdicts above are those of single metrics.");
}

void cvb_compare_print(FILE *out, const json_t *doc, bool colour)
{
	static const char *const sides[] = {"base", "current"};
	_cleanup_free_ char *per = cvb_text_plain(cvb_json_text(doc, "per"), TEXT_CHARS);

	for (int i = 0; i < 2; i++) {
		const json_t *s = json_object_get(doc, sides[i]);
		double n = cvb_json_number(s, "sessions");

		fprintf(out, "%-8s %s (%s, %.0f session%s)\n", sides[i], cvb_json_text(s, "path"),
			cvb_json_text(s, "kind"), n, n > 1 ? "s" : "");
	}
	if (per && *per)
		fprintf(out, "%-8s values are relative to arm %s in the same round\n", "", per);
	if (json_array_size(json_object_get(doc, "metrics")) ||
	    json_array_size(json_object_get(doc, "errors")))
		fputc('\n', out);
	print_metrics(out, json_object_get(doc, "metrics"), colour);
	print_errors(out, json_object_get(doc, "errors"), colour);
	print_rest(out, doc);
	print_summary(out, doc, colour);
}
