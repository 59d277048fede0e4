/* SPDX-License-Identifier: Apache-2.0 */
#include "report/family.h"

#include "campaign/verdict_part.h"
#include "core/stop.h"
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

/* The different values of one parameter of one metric; no more than enough to tell are kept. */
#define VALUES_MOST 64

struct values {
	double *v;
	unsigned n;
	size_t room;
};

/* All of them, found by "metric\nparameter" in one pass over the series. */
struct sweeps {
	json_t *index;
	struct values *v;
	size_t n;
	size_t room;
};

static bool grow(void *array, size_t n, size_t *room, size_t element_bytes)
{
	size_t want = *room ? 2 * *room : 4;
	void *bigger;

	if (n < *room)
		return true;
	bigger = reallocarray(*(void **)array, want, element_bytes);
	if (!bigger)
		return false;
	*(void **)array = bigger;
	*room = want;
	return true;
}

static struct values *find_values(const struct sweeps *s, const char *metric, const char *param)
{
	_cleanup_free_ char *key = cvb_strf("%s\n%s", metric, param);
	const json_t *at = key ? json_object_get(s->index, key) : NULL;

	return at ? &s->v[json_integer_value(at)] : NULL;
}

static struct values *new_values(struct sweeps *s, const char *metric, const char *param)
{
	_cleanup_free_ char *key = cvb_strf("%s\n%s", metric, param);

	if (!key || !grow(&s->v, s->n, &s->room, sizeof(*s->v)) ||
	    json_object_set_new(s->index, key, json_integer((json_int_t)s->n)) < 0)
		return NULL;
	s->v[s->n] = (struct values){0};
	return &s->v[s->n++];
}

static int note_value(struct sweeps *s, const char *metric, const char *param, double value)
{
	struct values *v = find_values(s, metric, param);

	if (!v)
		v = new_values(s, metric, param);
	if (!v)
		return -ENOMEM;
	for (unsigned k = 0; k < v->n; k++)
		if (v->v[k] == value)
			return 0;
	if (v->n == VALUES_MOST)
		return 0;
	if (!grow(&v->v, v->n, &v->room, sizeof(*v->v)))
		return -ENOMEM;
	v->v[v->n++] = value;
	return 0;
}

static int sweeps_make(struct sweeps *ret, const struct cvb_model *m)
{
	ret->index = json_object();
	if (!ret->index)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_series; i++) {
		const char *name;
		const json_t *v;

		json_object_foreach (m->series[i]->params, name, v) {
			if (json_is_number(v) &&
			    note_value(ret, m->series[i]->name, name, json_number_value(v)) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

static void sweeps_done(struct sweeps *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i].v);
	free(s->v);
	json_decref(s->index);
}

/* The parameter with the most values, if they are enough for a curve. */
static const char *sweep_of(const struct sweeps *all, const struct cvb_model_series *s)
{
	const char *name, *best = NULL;
	unsigned most = SWEEP_LEAST_VALUES - 1;
	const json_t *v;

	if (!s->params)
		return NULL;
	json_object_foreach (s->params, name, v) {
		const struct values *values = json_is_number(v) && json_number_value(v) > 0
						      ? find_values(all, s->name, name)
						      : NULL;

		if (values && values->n > most) {
			most = values->n;
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

static int group(struct cvb_families *all, const struct sweeps *sweeps, const struct cvb_model *m)
{
	for (size_t i = 0; i < m->n_series; i++) {
		const struct cvb_model_series *s = m->series[i];
		const char *sweep;
		struct cvb_family *f;

		if (!has_values(m, s))
			continue;
		if (cvb_stop_requested())
			return -EINTR;
		sweep = sweep_of(sweeps, s);
		f = find_family(all, m, s, sweep);
		if (!f)
			f = new_family(all, m, s, sweep);
		if (!f || add_to(f, m, i) < 0)
			return -ENOMEM;
	}
	return 0;
}

int cvb_families_make(const struct cvb_model *m, struct cvb_families *ret, struct cvb_err *err)
{
	struct cvb_families all = {0};
	struct sweeps sweeps = {0};
	int r = sweeps_make(&sweeps, m);

	if (r == 0)
		r = group(&all, &sweeps, m);
	sweeps_done(&sweeps);
	if (r < 0) {
		cvb_families_done(&all);
		return cvb_err_set(err, r, "%s grouping series",
				   r == -EINTR ? "interrupted" : "out of memory");
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
			 cvb_ends_with(name, "_bytes"))
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
