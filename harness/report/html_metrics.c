/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was measured: per benchmark the arms side by side, pictures and tables.
 */
#include "core/util.h"
#include "report/family.h"
#include "report/html_part.h"
#include "report/text.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define OPEN_TABLE_ROWS	 16 /* a longer table is folded */
#define WIDE_SCALE_RATIO 8  /* values further apart than this want a logarithmic axis */
#define PANELS_MAX	 12
#define NOTES_MAX	 8 /* of one arm; the journal has them all */
#define LABEL_CHARS	 60

/*
 * The arms of a family as numbers for gnuplot: "0 2 3".  An arm's number, and with it its colour,
 * is the same in every picture; arms with and without a GPU are counted apart, since they run
 * different benchmarks and the first colours are the easiest to tell apart.
 */
static void arms_text(const struct cvb_model *m, uint32_t mask, char *buf, size_t buf_bytes)
{
	size_t used = 0, number[2] = {0, 0};

	buf[0] = '\0';
	for (size_t a = 0; a < m->n_arms && used < buf_bytes; a++) {
		size_t n = number[m->arms[a].gpu != NULL]++;

		if (mask & (UINT32_C(1) << a))
			used += (size_t)snprintf(buf + used, buf_bytes - used, "%s%zu",
						 used ? " " : "", n);
	}
}

/* Smallest and largest value of a family; false if it has no value above 0. */
static int range_of(const struct cvb_model *m, const struct cvb_family *fam, double *low,
		    double *high, struct cvb_err *err)
{
	*low = INFINITY;
	*high = 0;
	for (size_t i = 0; i < fam->n_series; i++) {
		for (size_t a = 0; a < m->n_arms; a++) {
			struct cvb_summary s;
			int r = cvb_summarise(&m->series[fam->series[i]]->points[a], &s, err);

			if (r < 0)
				return r;
			if (!s.rounds || !(s.low > 0))
				continue;
			*low = fmin(*low, s.low);
			*high = fmax(*high, s.high);
		}
	}
	return *high > 0;
}

/* How an axis of this family is drawn. */
struct axis {
	bool log;
	double divisor;
	char low[32];
	char high[32];
	char title[120];
};

static void make_axis(const struct cvb_family *fam, const char *quantity, double low, double high,
		      enum cvb_better better, struct axis *ret)
{
	const char *unit;

	ret->log = high / low > WIDE_SCALE_RATIO;
	ret->divisor = cvb_axis_unit(fam->unit, high, &unit);
	low = ret->log ? low / 1.25 : 0;
	high = ret->log ? high * 1.25 : high * 1.06;
	snprintf(ret->low, sizeof(ret->low), "%.6g", low / ret->divisor);
	snprintf(ret->high, sizeof(ret->high), "%.6g", high / ret->divisor);

	_cleanup_free_ char *title = cvb_strf("%.50s, %.30s (%s is better)", quantity, unit,
					      better == CVB_LOWER_IS_BETTER ? "lower" : "higher");
	_cleanup_free_ char *safe = cvb_text_plain(title, sizeof(ret->title) - 4);

	snprintf(ret->title, sizeof(ret->title), "%s", safe ? safe : "");
}

/* A block's head: the arm with its labels, as the key shows it. */
static void put_arm_title(FILE *f, const struct cvb_model *m, size_t a)
{
	char title[300];

	cvb_text_gnuplot(f, cvb_model_arm_title(&m->arms[a], title, sizeof(title)), LABEL_CHARS);
	fputc('\n', f);
}

/* "bandwidth" of "gpu.copy/bandwidth". */
static const char *metric_word(const struct cvb_model_series *s)
{
	const char *slash = strrchr(s->name, '/');

	return slash ? slash + 1 : s->name;
}

/* ---- side by side ------------------------------------------------------------------------------
 */

static int dots_data(const struct cvb_model *m, const struct cvb_family *fam, const struct axis *ax,
		     FILE *f, struct cvb_err *err)
{
	unsigned arms = (unsigned)__builtin_popcount(fam->arm_mask), k = 0;

	for (size_t a = 0; a < m->n_arms; a++) {
		if (!(fam->arm_mask & (UINT32_C(1) << a)))
			continue;
		put_arm_title(f, m, a);
		/* a block without a point would shift gnuplot's count of blocks */
		fputs("NaN NaN NaN NaN\n", f);
		for (size_t i = 0; i < fam->n_series; i++) {
			struct cvb_summary s;
			int r = cvb_summarise(&m->series[fam->series[i]]->points[a], &s, err);

			if (r < 0)
				return r;
			if (s.rounds && s.low > 0)
				fprintf(f, "%.10g %.4f %.10g %.10g\n", s.median / ax->divisor,
					(double)i + 0.7 * ((k + 0.5) / arms - 0.5),
					s.low / ax->divisor, s.high / ax->divisor);
		}
		fputs("\n\n", f);
		k++;
	}
	return 0;
}

static void dots_labels(const struct cvb_model *m, const struct cvb_family *fam, FILE *f)
{
	for (size_t i = 0; i < fam->n_series; i++) {
		const struct cvb_model_series *s = m->series[fam->series[i]];
		_cleanup_free_ char *params = cvb_params_label(s->params, NULL);
		_cleanup_free_ char *label =
			cvb_strf("%s %s", metric_word(s), params ? params : "");

		fprintf(f, "%zu ", i);
		cvb_text_gnuplot(f, label, LABEL_CHARS);
		fputc('\n', f);
	}
}

/* The quantity an axis shows: the metric where there is one, else by unit. */
static const char *quantity_of(const struct cvb_model *m, const struct cvb_family *fam)
{
	const struct cvb_model_series *first = m->series[fam->series[0]];

	for (size_t i = 1; i < fam->n_series; i++)
		if (strcmp(m->series[fam->series[i]]->name, first->name) != 0)
			return strcmp(fam->unit, "ns") != 0 ? "rate" : "time";
	return metric_word(first);
}

static int dots_picture(struct cvb_page *p, const struct cvb_family *fam, double low, double high,
			struct cvb_err *err)
{
	const struct cvb_model *m = p->m;
	_cleanup_free_ char *data = NULL, *labels = NULL;
	size_t data_bytes, labels_bytes;
	char rows[16], arms[160];
	struct axis ax;
	FILE *f = open_memstream(&data, &data_bytes);
	FILE *l = open_memstream(&labels, &labels_bytes);
	int r = f && l ? 0 : cvb_err_set(err, -ENOMEM, "out of memory");

	make_axis(fam, quantity_of(m, fam), low, high, m->series[fam->series[0]]->better, &ax);
	if (r == 0) {
		r = dots_data(m, fam, &ax, f, err);
		dots_labels(m, fam, l);
	}
	if (f && fclose(f) != 0 && r == 0)
		r = cvb_err_set(err, -ENOMEM, "out of memory");
	if (l && fclose(l) != 0 && r == 0)
		r = cvb_err_set(err, -ENOMEM, "out of memory");
	if (r < 0)
		return r;
	snprintf(rows, sizeof(rows), "%zu", fam->n_series);
	arms_text(m, fam->arm_mask, arms, sizeof(arms));

	const char *args[] = {NULL,	NULL,	rows,	 arms, ax.log ? "log" : "linear",
			      ax.title, ax.low, ax.high, NULL};

	cvb_page_raw(p, "<figure>");
	r = cvb_page_picture(p, "dots.gp", args, data, labels, fam->title, err);
	cvb_page_raw(p, "<figcaption>Mark: median of all rounds. Line: smallest to largest round."
			"</figcaption></figure>\n");
	return r;
}

/* ---- curves ------------------------------------------------------------------------------------
 */

static int compare_x(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* One arm's curve of a panel: rows of {x, median, low, high}, by rising x. */
static int curve_data(const struct cvb_model *m, const struct cvb_family *fam, const char *panel,
		      size_t a, const struct axis *ax, FILE *f, struct cvb_err *err)
{
	double(*row)[4] = calloc(fam->n_series + 1, sizeof(*row));
	size_t n = 0;
	int r = row ? 0 : cvb_err_set(err, -ENOMEM, "out of memory");

	for (size_t i = 0; r == 0 && i < fam->n_series; i++) {
		const struct cvb_model_series *s = m->series[fam->series[i]];
		_cleanup_free_ char *label = cvb_params_label(s->params, fam->sweep);
		double x = cvb_param_number(s, fam->sweep);
		struct cvb_summary sum;

		if (!label || strcmp(label, panel) != 0)
			continue;
		r = cvb_summarise(&s->points[a], &sum, err);
		if (r < 0 || !sum.rounds || !(sum.low > 0) || !(x > 0))
			continue;
		row[n][0] = x;
		row[n][1] = sum.median / ax->divisor;
		row[n][2] = sum.low / ax->divisor;
		row[n][3] = sum.high / ax->divisor;
		n++;
	}
	if (r == 0) {
		qsort(row, n, sizeof(*row), compare_x);
		put_arm_title(f, m, a);
		if (!n)
			fputs("NaN NaN NaN NaN\n", f);
		for (size_t i = 0; i < n; i++)
			fprintf(f, "%.10g %.10g %.10g %.10g\n", row[i][0], row[i][1], row[i][2],
				row[i][3]);
		fputs("\n\n", f);
	}
	free(row);
	return r;
}

static int curve_picture(struct cvb_page *p, const struct cvb_family *fam, const char *panel,
			 const struct axis *ax, bool alone, struct cvb_err *err)
{
	const struct cvb_model *m = p->m;
	_cleanup_free_ char *data = NULL;
	size_t bytes;
	char arms[160];
	bool is_bytes =
		strlen(fam->sweep) > 6 && !strcmp(fam->sweep + strlen(fam->sweep) - 6, "_bytes");
	_cleanup_free_ char *x_title = cvb_text_plain(is_bytes ? "size" : fam->sweep, LABEL_CHARS);
	FILE *f = open_memstream(&data, &bytes);
	int r = 0;

	if (!f || !x_title)
		r = cvb_err_set(err, -ENOMEM, "out of memory");
	for (size_t a = 0; r == 0 && a < m->n_arms; a++)
		if (fam->arm_mask & (UINT32_C(1) << a))
			r = curve_data(m, fam, panel, a, ax, f, err);
	if (f && fclose(f) != 0 && r == 0)
		r = cvb_err_set(err, -ENOMEM, "out of memory");
	if (r < 0)
		return r;
	arms_text(m, fam->arm_mask, arms, sizeof(arms));

	const char *args[] = {NULL,
			      arms,
			      is_bytes ? "bytes" : "log",
			      x_title,
			      ax->log ? "log" : "linear",
			      ax->title,
			      ax->low,
			      ax->high,
			      alone ? "820" : "470",
			      NULL};

	cvb_page_raw(p, "<figure>");
	if (*panel) {
		cvb_page_raw(p, "<figcaption>");
		cvb_page_text(p, panel);
		cvb_page_raw(p, "</figcaption>");
	}
	r = cvb_page_picture(p, "curves.gp", args, data, NULL, fam->title, err);
	cvb_page_raw(p, "</figure>\n");
	return r;
}

/* One panel for each combination of the parameters that were not swept. */
static int curves(struct cvb_page *p, const struct cvb_family *fam, double low, double high,
		  struct cvb_err *err)
{
	const struct cvb_model *m = p->m;
	char *panels[PANELS_MAX];
	size_t n = 0;
	struct axis ax;
	int r = 0;

	for (size_t i = 0; i < fam->n_series && n < PANELS_MAX; i++) {
		char *label = cvb_params_label(m->series[fam->series[i]]->params, fam->sweep);
		bool known = !label;

		for (size_t k = 0; k < n && !known; k++)
			known = !strcmp(panels[k], label);
		if (known)
			free(label);
		else
			panels[n++] = label;
	}
	make_axis(fam, metric_word(m->series[fam->series[0]]), low, high,
		  m->series[fam->series[0]]->better, &ax);
	cvb_page_raw(p, n > 1 ? "<div class=panels>\n" : "<div>\n");
	for (size_t i = 0; i < n; i++) {
		if (r == 0)
			r = curve_picture(p, fam, panels[i], &ax, n == 1, err);
		free(panels[i]);
	}
	cvb_page_raw(p,
		     "</div>\n<p class=dim>Mark: median of all rounds. Line: smallest to largest "
		     "round.");
	cvb_page_raw(p, n > 1 ? " All panels share the same scale.</p>\n" : "</p>\n");
	return r;
}

/* ---- tables ------------------------------------------------------------------------------------
 */

static int table_row(struct cvb_page *p, const struct cvb_model_series *s, size_t a, bool first,
		     const char *label, struct cvb_err *err)
{
	const struct cvb_model *m = p->m;
	int base = cvb_family_base(m, s, (int)a);
	char title[300], v[64], low[64], high[64], x[32], y[32], z[32];
	struct cvb_summary sum;
	struct cvb_ratio ratio;
	int r = cvb_summarise(&s->points[a], &sum, err);

	if (r < 0)
		return r;
	cvb_page_raw(p, first ? "<tr class=first><td>" : "<tr><td>");
	cvb_page_text(p, first ? label : "");
	cvb_page_raw(p, "</td>");
	cvb_page_element(p, "td class=arm", cvb_model_arm_title(&m->arms[a], title, sizeof(title)));
	cvb_page_element(p, "td class=n", cvb_value_text(sum.median, s->unit, v, sizeof(v)));
	cvb_page_raw(p, "<td class=n>");
	cvb_page_textf(p, "%s to %s", cvb_value_text(sum.low, s->unit, low, sizeof(low)),
		       cvb_value_text(sum.high, s->unit, high, sizeof(high)));
	cvb_page_raw(p, "</td>");
	if (base >= 0 && cvb_family_ratio(s, base, (int)a, &ratio)) {
		cvb_page_element(p, "td class=n", cvb_ratio_text(ratio.ratio, x, sizeof(x)));
		cvb_page_raw(p, "<td class=n>");
		if (ratio.has_interval)
			cvb_page_textf(p, "%s to %s", cvb_ratio_text(ratio.lower, y, sizeof(y)),
				       cvb_ratio_text(ratio.upper, z, sizeof(z)));
		cvb_page_raw(p, "</td>");
		cvb_page_element(p, "td", m->arms[base].name);
	} else {
		cvb_page_raw(p, base < 0 ? "<td class=n>1</td><td></td><td class=dim>base</td>"
					 : "<td class=n>-</td><td></td><td></td>");
	}
	cvb_page_raw(p, "<td class=n>");
	cvb_page_textf(p, "%u / %u", sum.sessions, sum.rounds);
	cvb_page_raw(p, "</td></tr>\n");
	return 0;
}

static int family_table(struct cvb_page *p, const struct cvb_family *fam, struct cvb_err *err)
{
	const struct cvb_model *m = p->m;
	unsigned rows = (unsigned)fam->n_series * (unsigned)__builtin_popcount(fam->arm_mask);
	bool fold = rows > OPEN_TABLE_ROWS;
	size_t left_out = 0;
	int r = 0;

	if (fold)
		fprintf(p->f, "<details><summary>Table of %u rows</summary>\n", rows);
	cvb_page_raw(p, "<div class=wide><table><thead><tr><th>Series<th>Arm<th class=n>Median"
			"<th class=n>Smallest to largest round<th class=n>Ratio"
			"<th class=n>95 % bounds<th>to base<th class=n>Sessions / rounds"
			"</tr></thead>\n<tbody class=group>\n");
	for (size_t i = 0; i < fam->n_series && r == 0; i++) {
		const struct cvb_model_series *s = m->series[fam->series[i]];
		_cleanup_free_ char *params = cvb_params_label(s->params, NULL);
		_cleanup_free_ char *label =
			cvb_strf("%s %s", metric_word(s), params ? params : "");
		bool first = true;

		if (p->rows >= CVB_PAGE_ROWS) {
			left_out = fam->n_series - i;
			break;
		}

		for (size_t a = 0; a < m->n_arms && r == 0; a++) {
			if (!s->points[a].n)
				continue;
			r = table_row(p, s, a, first, label ? label : "", err);
			first = false;
			p->rows++;
		}
	}
	cvb_page_raw(p, "</tbody></table></div>\n");
	if (left_out) {
		cvb_page_raw(p, "<p class=note>");
		cvb_page_textf(p,
			       "%zu series left out: the tables of a page have at most %d rows; "
			       "journal.jsonl has them all",
			       left_out, CVB_PAGE_ROWS);
		cvb_page_raw(p, "</p>\n");
	}
	if (fold)
		cvb_page_raw(p, "</details>\n");
	return r;
}

/* ---- benchmarks --------------------------------------------------------------------------------
 */

static bool has_note(const struct cvb_model_cell *c, const char *text)
{
	const json_t *note;
	size_t k;

	json_array_foreach (c->notes, k, note) {
		if (json_is_string(note) && !strcmp(json_string_value(note), text))
			return true;
	}
	return false;
}

/* The notes of arm `a` that no arm before it has, each with all the arms that have it. */
static void put_notes(struct cvb_page *p, const struct cvb_model_bench *b, size_t a)
{
	const json_t *note;
	size_t k;

	json_array_foreach (b->cells[a].notes, k, note) {
		const char *text = json_string_value(note), *sep = "";
		bool known = !text || k >= NOTES_MAX;

		for (size_t i = 0; i < a && !known; i++)
			known = has_note(&b->cells[i], text);
		if (known)
			continue;
		cvb_page_raw(p, "<li>");
		for (size_t i = a; i < p->m->n_arms; i++) {
			if (!has_note(&b->cells[i], text))
				continue;
			cvb_page_textf(p, "%s%s", sep, p->m->arms[i].name);
			sep = ", ";
		}
		cvb_page_textf(p, ": %s", text);
		cvb_page_raw(p, "</li>\n");
	}
}

/* What a reader must know before believing the numbers: outcomes that are not "ok", and notes. */
static void bench_remarks(struct cvb_page *p, const struct cvb_model_bench *b)
{
	bool any = false;

	for (size_t a = 0; a < p->m->n_arms; a++) {
		const struct cvb_model_cell *c = &b->cells[a];

		any = any || c->outcome > CVB_MODEL_OK || c->invalid || json_array_size(c->notes);
	}
	if (!any)
		return;
	cvb_page_raw(p, "<ul>\n");
	for (size_t a = 0; a < p->m->n_arms; a++) {
		const struct cvb_model_cell *c = &b->cells[a];
		const char *name = p->m->arms[a].name;

		if (c->outcome > CVB_MODEL_OK) {
			cvb_page_raw(p, "<li><b>");
			cvb_page_textf(p, "%s: %s", name, cvb_model_outcome_names[c->outcome]);
			cvb_page_raw(p, "</b>: ");
			cvb_page_text(p, c->reason);
			cvb_page_raw(p, "</li>\n");
		}
		if (c->invalid) {
			cvb_page_raw(p, "<li class=bad>");
			cvb_page_textf(p, "%s: samples void: %s", name, c->invalid);
			cvb_page_raw(p, "</li>\n");
		}
		put_notes(p, b, a);
	}
	cvb_page_raw(p, "</ul>\n");
}

static int family_section(struct cvb_page *p, const struct cvb_family *fam, struct cvb_err *err)
{
	double low, high;
	int r = range_of(p->m, fam, &low, &high, err);

	if (r < 0)
		return r;
	if (fam->sweep) {
		cvb_page_raw(p, "<h4>");
		cvb_page_text(p, fam->title);
		cvb_page_raw(p, "</h4>\n");
	}
	if (r == 1 && !p->no_pictures) {
		r = fam->sweep ? curves(p, fam, low, high, err)
			       : dots_picture(p, fam, low, high, err);
		if (r < 0)
			return r;
	}
	return family_table(p, fam, err);
}

int cvb_page_metrics(struct cvb_page *p, struct cvb_err *err)
{
	const struct cvb_model *m = p->m;
	const struct cvb_bench *const *all;
	struct cvb_families fams;
	size_t n_all;
	int r = cvb_families_make(m, &fams, err);

	if (r < 0)
		return r;
	all = cvb_bench_all(&n_all);
	cvb_page_raw(p, "<h2 id=metrics>What was measured</h2>\n");
	for (size_t b = 0; b < m->n_benches && r == 0; b++) {
		cvb_page_element(p, "h3", m->benches[b].name);
		for (size_t i = 0; i < n_all; i++)
			if (!strcmp(all[i]->name, m->benches[b].name))
				cvb_page_element(p, "p class=dim", all[i]->summary);
		bench_remarks(p, &m->benches[b]);
		for (size_t i = 0; i < fams.n && r == 0; i++)
			if (fams.v[i].bench == b)
				r = family_section(p, &fams.v[i], err);
	}
	cvb_families_done(&fams);
	return r;
}
