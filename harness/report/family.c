/* SPDX-License-Identifier: Apache-2.0 */
#include "report/family.h"

#include "campaign/verdict_part.h"
#include "core/util.h"
#include "stats/describe.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define SWEEP_LEAST_VALUES 4

static bool has_values(const struct cvb_model *m, const struct cvb_model_series *s)
{
	for (size_t a = 0; a < m->n_arms; a++)
		if (s->points[a].n)
			return true;
	return false;
}

double cvb_param_number(const struct cvb_model_series *s, const char *name)
{
	const json_t *v = json_object_get(s->params, name);

	return json_is_number(v) ? json_number_value(v) : NAN;
}

/* How many different values a parameter takes in the series of one metric; capped. */
static unsigned distinct_values(const struct cvb_model *m, const char *metric, const char *param)
{
	double seen[64];
	unsigned n = 0;

	for (size_t i = 0; i < m->n_series && n < CVB_ARRAY_LEN(seen); i++) {
		double v = cvb_param_number(m->series[i], param);
		bool known = isnan(v) || strcmp(m->series[i]->name, metric) != 0;

		for (unsigned k = 0; k < n && !known; k++)
			known = seen[k] == v;
		if (!known)
			seen[n++] = v;
	}
	return n;
}

/* The parameter with the most values, if they are enough for a curve. */
static const char *sweep_of(const struct cvb_model *m, const struct cvb_model_series *s)
{
	const char *name, *best = NULL;
	unsigned most = SWEEP_LEAST_VALUES - 1;
	const json_t *v;

	if (!s->params)
		return NULL;
	json_object_foreach (s->params, name, v) {
		unsigned n = json_is_number(v) && json_number_value(v) > 0
				     ? distinct_values(m, s->name, name)
				     : 0;

		if (n > most) {
			most = n;
			best = name;
		}
	}
	return best;
}

static int add_to(struct cvb_family *f, const struct cvb_model *m, size_t i)
{
	size_t *bigger = reallocarray(f->series, f->n_series + 1, sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	f->series = bigger;
	f->series[f->n_series++] = i;
	for (size_t a = 0; a < m->n_arms; a++)
		if (m->series[i]->points[a].n)
			f->arm_mask |= UINT32_C(1) << a;
	return 0;
}

static struct cvb_family *find_family(struct cvb_families *all, const struct cvb_model *m,
				      const struct cvb_model_series *s, const char *sweep)
{
	for (size_t i = 0; i < all->n; i++) {
		struct cvb_family *f = &all->v[i];
		const struct cvb_model_series *first = m->series[f->series[0]];

		if (f->bench != s->bench || strcmp(f->unit, s->unit) != 0)
			continue;
		if (sweep ? f->sweep && !strcmp(first->name, s->name) : !f->sweep)
			return f;
	}
	return NULL;
}

static struct cvb_family *new_family(struct cvb_families *all, const struct cvb_model *m,
				     const struct cvb_model_series *s, const char *sweep)
{
	struct cvb_family *bigger = reallocarray(all->v, all->n + 1, sizeof(*bigger)), *f;

	if (!bigger)
		return NULL;
	all->v = bigger;
	f = &all->v[all->n++];
	*f = (struct cvb_family){.bench = s->bench, .unit = s->unit};
	f->title = strdup(sweep ? s->name : m->benches[s->bench].name);
	f->sweep = sweep ? strdup(sweep) : NULL;
	return f->title && (f->sweep || !sweep) ? f : NULL;
}

int cvb_families_make(const struct cvb_model *m, struct cvb_families *ret, struct cvb_err *err)
{
	struct cvb_families all = {0};

	for (size_t i = 0; i < m->n_series; i++) {
		const struct cvb_model_series *s = m->series[i];
		const char *sweep;
		struct cvb_family *f;

		if (!has_values(m, s))
			continue;
		sweep = sweep_of(m, s);
		f = find_family(&all, m, s, sweep);
		if (!f)
			f = new_family(&all, m, s, sweep);
		if (!f || add_to(f, m, i) < 0) {
			cvb_families_done(&all);
			return cvb_err_set(err, -ENOMEM, "out of memory grouping series");
		}
	}
	*ret = all;
	return 0;
}

void cvb_families_done(struct cvb_families *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->v[i].title);
		free(f->v[i].sweep);
		free(f->v[i].series);
	}
	free(f->v);
	*f = (struct cvb_families){0};
}

int cvb_summarise(const struct cvb_model_points *p, struct cvb_summary *ret, struct cvb_err *err)
{
	_cleanup_free_ double *x = calloc(p->n + 1, sizeof(*x));
	struct cvb_summary s = {.median = NAN, .low = NAN, .high = NAN};
	unsigned last = 0;

	if (!x)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < p->n; i++) {
		if (!isfinite(p->v[i].value))
			continue;
		x[s.rounds++] = p->v[i].value;
		s.sessions += p->v[i].session != last;
		last = p->v[i].session;
	}
	if (s.rounds) {
		cvb_sort_doubles(x, s.rounds);
		s.median = cvb_median_sorted(x, s.rounds);
		s.low = x[0];
		s.high = x[s.rounds - 1];
	}
	*ret = s;
	return 0;
}

int cvb_family_base(const struct cvb_model *m, const struct cvb_model_series *s, int arm)
{
	const char *aa_of = m->arms[arm].aa_of;
	int base = aa_of ? cvb_model_arm(m, aa_of) : -1;

	if (base >= 0)
		return base != arm && s->points[base].n ? base : -1;
	for (size_t a = 0; a < m->n_arms; a++)
		if (!m->arms[a].aa_of && s->points[a].n)
			return (int)a == arm ? -1 : (int)a;
	return -1;
}

bool cvb_family_ratio(const struct cvb_model_series *s, int base, int arm, struct cvb_ratio *ret)
{
	return cvb_verdict_ratio(s, base, arm, CVB_GATE_ALPHA, ret);
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);

	return n >= k && !strcmp(s + n - k, end);
}

char *cvb_params_label(const json_t *params, const char *skip)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *f = open_memstream(&text, &bytes);
	const char *name, *sep = "";
	const json_t *v;

	if (!f)
		return NULL;
	json_object_foreach ((json_t *)(uintptr_t)params, name, v) {
		char size[40];

		if (skip && !strcmp(name, skip))
			continue;
		if (json_is_string(v))
			fprintf(f, "%s%s", sep, json_string_value(v));
		else if (json_is_integer(v) && json_integer_value(v) >= 0 &&
			 ends_with(name, "_bytes"))
			fprintf(f, "%s%s", sep,
				cvb_bytes_text((uint64_t)json_integer_value(v), size,
					       sizeof(size)));
		else if (json_is_integer(v))
			fprintf(f, "%s%s %" JSON_INTEGER_FORMAT, sep, name, json_integer_value(v));
		else if (json_is_real(v))
			fprintf(f, "%s%s %g", sep, name, json_real_value(v));
		else
			fprintf(f, "%s%s %s", sep, name, json_is_true(v) ? "on" : "off");
		sep = " ";
	}
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

double cvb_axis_unit(const char *unit, double largest, const char **ret_text)
{
	static const struct {
		const char *unit;
		double divisor;
		const char *text;
	} rows[] = {
		{"bytes_per_s", 1e9, "GB/s"},
		{"bytes_per_s", 1e6, "MB/s"},
		{"bytes_per_s", 1e3, "kB/s"},
		{"bytes_per_s", 1, "B/s"},
		{"bits_per_s", 1e9, "Gbit/s"},
		{"bits_per_s", 1e6, "Mbit/s"},
		{"bits_per_s", 1, "bit/s"},
		{"flops_per_s", 1e12, "TFLOP/s"},
		{"flops_per_s", 1e9, "GFLOP/s"},
		{"flops_per_s", 1e6, "MFLOP/s"},
		{"flops_per_s", 1, "FLOP/s"},
		{"ops_per_s", 1e6, "million op/s"},
		{"ops_per_s", 1e3, "thousand op/s"},
		{"ops_per_s", 1, "op/s"},
		{"ns", 1e9, "s"},
		{"ns", 1e6, "ms"},
		{"ns", 1e3, "us"},
		{"ns", 1, "ns"},
	};
	const char *last = NULL;
	double divisor = 1;

	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++) {
		if (strcmp(rows[i].unit, unit) != 0)
			continue;
		last = rows[i].text;
		divisor = rows[i].divisor;
		if (largest >= divisor)
			break;
	}
	*ret_text = last ? last : unit;
	return last ? divisor : 1;
}
