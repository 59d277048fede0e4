/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arms: what each was, and the environment it measured in.
 */
#include "core/util.h"
#include "report/html_part.h"
#include "report/text.h"
#include "stats/describe.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define ROWS_MAX  200
#define DEPTH_MAX 6

/* One row of the table: a name, and each arm's text (NULL: says nothing). */
struct env_row {
	char *name;
	char *value[CVB_MODEL_MAX_ARMS];
};

struct env_table {
	struct env_row *rows;
	size_t n;
	bool oom;
};

static void env_set(struct env_table *t, const char *name, size_t arm, char *value)
{
	struct env_row *row = NULL;

	if (!value)
		t->oom = true;
	for (size_t i = 0; i < t->n && !row; i++)
		if (!strcmp(t->rows[i].name, name))
			row = &t->rows[i];
	if (!row && t->n < ROWS_MAX) {
		char *copy = strdup(name);
		struct env_row *bigger = reallocarray(t->rows, t->n + 1, sizeof(*bigger));

		if (bigger)
			t->rows = bigger;
		if (copy && bigger) {
			row = &t->rows[t->n++];
			*row = (struct env_row){.name = copy};
		} else {
			free(copy);
			t->oom = true;
		}
	}
	if (!row) {
		free(value);
		return;
	}
	free(row->value[arm]);
	row->value[arm] = value;
}

static void env_done(struct env_table *t)
{
	for (size_t i = 0; i < t->n; i++) {
		free(t->rows[i].name);
		for (size_t a = 0; a < CVB_MODEL_MAX_ARMS; a++)
			free(t->rows[i].value[a]);
	}
	free(t->rows);
}

static char *scalar_text(const char *name, const json_t *v)
{
	char size[40];

	if (json_is_string(v))
		return strdup(json_string_value(v));
	if (json_is_integer(v) && json_integer_value(v) >= 0 && strstr(name, "bytes"))
		return strdup(cvb_bytes_text((uint64_t)json_integer_value(v), size, sizeof(size)));
	if (json_is_integer(v))
		return cvb_strf("%" JSON_INTEGER_FORMAT, json_integer_value(v));
	if (json_is_real(v))
		return cvb_strf("%.6g", json_real_value(v));
	return strdup(json_is_true(v) ? "yes" : json_is_false(v) ? "no" : "-");
}

/* A list of scalars as one text. */
static char *list_text(const char *name, const json_t *list)
{
	char *text = NULL;
	size_t bytes = 0, i;
	const json_t *v;
	FILE *f = open_memstream(&text, &bytes);

	if (!f)
		return NULL;
	json_array_foreach (list, i, v) {
		_cleanup_free_ char *one = json_is_object(v) || json_is_array(v)
						   ? json_dumps(v, JSON_COMPACT)
						   : scalar_text(name, v);

		fprintf(f, "%s%s", i ? " " : "", one ? one : "?");
	}
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* An environment record as rows: {"cpu":{"model":…}} becomes "cpu model". */
static void flatten(struct env_table *t, size_t arm, const char *prefix, const json_t *obj,
		    unsigned depth)
{
	const char *key;
	const json_t *v;

	json_object_foreach ((json_t *)(uintptr_t)obj, key, v) {
		_cleanup_free_ char *name = cvb_strf("%s%s%s", prefix, *prefix ? " " : "", key);

		if (!name)
			t->oom = true;
		else if (json_is_object(v) && depth < DEPTH_MAX)
			flatten(t, arm, name, v, depth + 1);
		else if (json_is_object(v))
			env_set(t, name, arm, json_dumps(v, JSON_COMPACT));
		else if (json_is_array(v))
			env_set(t, name, arm, list_text(name, v));
		else if (!json_is_null(v) &&
			 !cvb_ends_with(name, "mhz_now")) /* differs at each look, says nothing */
			env_set(t, name, arm, scalar_text(name, v));
	}
}

/* Share of the pool's 2 KiB slots that was in use at most. */
static char *swiotlb_text(const struct cvb_model_arm *a)
{
	char pool[40], used[40], full[80] = "";

	if (!a->swiotlb_slabs)
		return strdup("-");
	if (a->swiotlb_full)
		snprintf(full, sizeof(full), "; full at least %" PRIu64 " times", a->swiotlb_full);
	return cvb_strf("%s of %s%s",
			cvb_bytes_text(a->swiotlb_used_slabs * 2 * CVB_KIB, used, sizeof(used)),
			cvb_bytes_text(a->swiotlb_slabs * 2 * CVB_KIB, pool, sizeof(pool)), full);
}

static char *boot_text(const struct cvb_model_arm *a)
{
	struct cvb_describe d;
	char median[40], low[40], high[40];

	if (!a->n_boots || cvb_describe(a->boot_ns, a->n_boots, &d, NULL) < 0)
		return strdup("-");
	if (a->n_boots == 1)
		return strdup(cvb_value_text(d.median, "ns", median, sizeof(median)));
	return cvb_strf("median %s (%s to %s, %zu times)",
			cvb_value_text(d.median, "ns", median, sizeof(median)),
			cvb_value_text(d.min, "ns", low, sizeof(low)),
			cvb_value_text(d.max, "ns", high, sizeof(high)), a->n_boots);
}

/* Mean steal of all samples of an arm, over the benchmarks that know it. */
static char *steal_text(const struct cvb_model *m, size_t arm)
{
	double worst = NAN;

	for (size_t b = 0; b < m->n_benches; b++)
		worst = fmax(worst, m->benches[b].cells[arm].steal_ratio);
	return isnan(worst) ? strdup("-") : cvb_strf("%.2f %% (benchmark with most)", 100 * worst);
}

static void arm_rows(struct env_table *t, const struct cvb_model *m, size_t i)
{
	const struct cvb_model_arm *a = &m->arms[i];
	char labels[160];

	cvb_model_labels(a, labels, sizeof(labels));
	env_set(t, "labels", i, strdup(*labels ? labels : "-"));
	env_set(t, "target", i, strdup(a->target ? a->target : "-"));
	env_set(t, "accel", i, strdup(a->accel ? a->accel : "-"));
	env_set(t, "confidential (TEE)", i, strdup(a->tee ? a->tee : "none"));
	env_set(t, "GPU", i, strdup(a->gpu ? a->gpu : "-"));
	env_set(t, "measured again for A/A", i, strdup(a->aa_of ? a->aa_of : "-"));
	env_set(t, "start until ready", i, boot_text(a));
	env_set(t, "bounce buffers, most used", i, swiotlb_text(a));
	env_set(t, "steal", i, steal_text(m, i));
	if (a->environment)
		flatten(t, i, "", a->environment, 0);
}

/* An arm that measured nothing has no environment; the list above the table says why. */
static bool has_column(const struct cvb_model_arm *a)
{
	return a->state == CVB_MODEL_ARM_READY;
}

static void print_env_row(struct cvb_page *p, const struct env_row *row)
{
	const struct cvb_model *m = p->m;

	const char *value[CVB_MODEL_MAX_ARMS];
	size_t n = 0;

	for (size_t a = 0; a < m->n_arms; a++)
		if (has_column(&m->arms[a]))
			value[n++] = row->value[a] ? row->value[a] : "";
	cvb_page_raw(p, "<tr>");
	cvb_page_element(p, "th", row->name);
	/* neighbours with the same value share a cell: differences stand out */
	for (size_t i = 0; i < n;) {
		size_t span = 1;

		while (i + span < n && !strcmp(value[i], value[i + span]))
			span++;
		fprintf(p->f, "<td%s colspan=%zu>", span == n ? " class=same" : "", span);
		_cleanup_free_ char *shown = cvb_text_plain(value[i], CVB_PAGE_CELL_CHARS);

		cvb_page_text(p, shown ? shown : "?");
		cvb_page_raw(p, "</td>");
		i += span;
	}
	cvb_page_raw(p, "</tr>\n");
}

int cvb_page_arms(struct cvb_page *p, struct cvb_err *err)
{
	const struct cvb_model *m = p->m;
	struct env_table t = {0};
	bool any_reason = false;

	cvb_page_raw(p, "<h2 id=environment>The arms and their environment</h2>\n");
	for (size_t a = 0; a < m->n_arms; a++) {
		const struct cvb_model_arm *arm = &m->arms[a];
		bool unsupported = arm->state == CVB_MODEL_ARM_UNSUPPORTED;
		char title[300];

		if (has_column(arm))
			continue;
		cvb_page_raw(p, any_reason ? "<li><b>" : "<ul>\n<li><b>");
		cvb_page_text(p, cvb_model_arm_title(arm, title, sizeof(title)));
		cvb_page_raw(p, unsupported ? " is unsupported</b>: " : " was not reached</b>. ");
		cvb_page_text(p, unsupported ? arm->reason : m->abort ? m->abort : "");
		cvb_page_raw(p, "</li>\n");
		any_reason = true;
	}
	if (any_reason)
		cvb_page_raw(p, "</ul>\n");
	for (size_t a = 0; a < m->n_arms; a++)
		if (has_column(&m->arms[a]))
			arm_rows(&t, m, a);
	cvb_page_raw(p, "<div class=wide><table class=env><thead><tr><th></th>");
	for (size_t a = 0; a < m->n_arms; a++) {
		char title[300];

		if (!has_column(&m->arms[a]))
			continue;
		cvb_page_element(p, "th", cvb_model_arm_title(&m->arms[a], title, sizeof(title)));
	}
	cvb_page_raw(p, "</tr></thead>\n<tbody>\n");
	for (size_t i = 0; i < t.n; i++)
		print_env_row(p, &t.rows[i]);
	cvb_page_raw(p, "</tbody></table></div>\n");

	bool oom = t.oom;

	env_done(&t);
	return oom ? cvb_err_set(err, -ENOMEM, "out of memory") : 0;
}
