/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/side.h"

#include "campaign/model.h"
#include "core/util.h"
#include "report/bundle.h"
#include "report/text.h"
#include "stats/ratio.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

const char *const cvb_side_kind_names[] = {"result", "results", "bundle", NULL};
const char cvb_side_devtools[] =
	"devtools: the GPU was in devtools mode, in which nothing on it is "
	"confidential; its times show no parity";
const char *const cvb_side_label_names[] = {"emulated", "deterministic", "tcg", NULL};

/* --- containers ------------------------------------------------------------------------------- */

void *cvb_table_find(const struct cvb_table *t, const char *name)
{
	const json_t *place = json_object_get(t->index, name);

	return place ? t->v[json_integer_value(place)] : NULL;
}

int cvb_table_add(struct cvb_table *t, const char *name, void *item)
{
	if (!t->index)
		t->index = json_object();
	if (t->n == t->room) {
		size_t room = t->room ? 2 * t->room : 8;
		void *more = reallocarray(t->v, room, sizeof(*t->v));

		if (!more)
			return -ENOMEM;
		t->v = more;
		t->room = room;
	}
	if (json_object_set_new(t->index, name, json_integer((json_int_t)t->n)) < 0)
		return -ENOMEM;
	t->v[t->n++] = item;
	return 0;
}

static void table_done(struct cvb_table *t, void (*item_free)(void *))
{
	for (size_t i = 0; i < t->n; i++)
		item_free(t->v[i]);
	free(t->v);
	json_decref(t->index);
}

static void series_free(void *item)
{
	struct cvb_side_series *s = item;

	if (!s)
		return;
	for (size_t i = 0; i < s->n_again; i++) {
		free(s->again[i].base);
		free(s->again[i].aa);
	}
	free(s->again);
	series_free(s->with);
	free(s->key);
	free(s->metric);
	free(s->title);
	free(s->unit);
	free(s->v);
	free(s->bad);
	json_decref(s->params);
	free(s);
}

static void bench_free(void *item)
{
	struct cvb_side_bench *b = item;

	if (!b)
		return;
	free(b->name);
	free(b->bad);
	json_decref(b->options);
	table_done(&b->series, series_free);
	free(b);
}

static void arm_free(void *item)
{
	struct cvb_side_arm *a = item;

	if (!a)
		return;
	free(a->name);
	free(a->unsupported);
	json_decref(a->environment);
	table_done(&a->benches, bench_free);
	free(a);
}

struct cvb_side *cvb_side_free(struct cvb_side *s)
{
	if (!s)
		return NULL;
	free(s->path);
	json_decref(s->tool);
	json_decref(s->notes);
	table_done(&s->arms, arm_free);
	table_done(&s->session, free);
	free(s);
	return NULL;
}

struct cvb_side_arm *cvb_side_arm(struct cvb_side *s, const char *name)
{
	struct cvb_side_arm *a = cvb_table_find(&s->arms, name);

	if (a)
		return a;
	a = calloc(1, sizeof(*a));
	if (a)
		a->name = strdup(name);
	if (!a || !a->name || cvb_table_add(&s->arms, name, a) < 0) {
		arm_free(a);
		return NULL;
	}
	return a;
}

struct cvb_side_bench *cvb_side_bench(struct cvb_side_arm *a, const char *name)
{
	struct cvb_side_bench *b = cvb_table_find(&a->benches, name);

	if (b)
		return b;
	b = calloc(1, sizeof(*b));
	if (b)
		b->name = strdup(name);
	if (!b || !b->name || cvb_table_add(&a->benches, name, b) < 0) {
		bench_free(b);
		return NULL;
	}
	return b;
}

struct cvb_side_series *cvb_side_series(struct cvb_side_bench *b, const char *metric,
					const json_t *params, const char *unit,
					enum cvb_better better)
{
	bool any = json_object_size(params) > 0;
	_cleanup_free_ char *text = any ? json_dumps(params, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	_cleanup_free_ char *shown = any ? cvb_model_params_key(params) : NULL;
	/* the shown text of odd parameters may be ambiguous, JSON is not */
	_cleanup_free_ char *key = cvb_strf("%s%s", metric, text ? text : "");
	struct cvb_side_series *s = key ? cvb_table_find(&b->series, key) : NULL;

	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s || !key || (any && (!text || !shown))) {
		series_free(s);
		return NULL;
	}
	s->metric = strdup(metric);
	s->unit = strdup(unit);
	s->title = any ? cvb_strf("%s{%s}", metric, shown) : strdup(metric);
	s->params = any ? json_deep_copy(params) : NULL;
	s->better = better;
	s->key = CVB_TAKE(key);
	if (!s->metric || !s->unit || !s->title || cvb_table_add(&b->series, s->key, s) < 0) {
		series_free(s);
		return NULL;
	}
	return s;
}

/* --- reasons ---------------------------------------------------------------------------------- */

static char *CVB_PRINTF(1, 0) format(const char *fmt, va_list ap)
{
	char *text = NULL, *plain;

	if (vasprintf(&text, fmt, ap) < 0)
		return NULL;
	plain = cvb_text_plain(text, CVB_SIDE_REASON_BYTES);
	free(text);
	return plain;
}

void cvb_side_spoil(struct cvb_side_bench *b, enum cvb_side_fault fault, const char *fmt, ...)
{
	va_list ap;

	if (fault <= b->fault)
		return;
	b->fault = fault;
	free(b->bad);
	va_start(ap, fmt);
	b->bad = format(fmt, ap);
	va_end(ap);
}

void cvb_side_spoil_series(struct cvb_side_series *s, const char *fmt, ...)
{
	va_list ap;

	if (s->bad)
		return;
	va_start(ap, fmt);
	s->bad = format(fmt, ap);
	va_end(ap);
}

void cvb_side_note(struct cvb_side *s, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	if (!s->notes)
		s->notes = json_array();
	if (json_array_size(s->notes) >= CVB_SIDE_MAX_NOTES)
		return;
	va_start(ap, fmt);
	text = format(fmt, ap);
	va_end(ap);
	json_array_append_new(s->notes, json_string(text ? text : "?"));
}

/* --- values ----------------------------------------------------------------------------------- */

uint64_t cvb_side_hash(uint64_t hash, const void *data, size_t bytes)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < bytes; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash;
}

int cvb_side_add_value(struct cvb_side_series *s, double log_perf, uint64_t hash)
{
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 8;
		void *more = reallocarray(s->v, room, sizeof(*s->v));

		if (!more)
			return -ENOMEM;
		s->v = more;
		s->room = room;
	}
	s->v[s->n++] = (struct cvb_side_value){log_perf, hash};
	return 0;
}

int cvb_side_add_session(struct cvb_side_series *s, double *values, size_t n, const char *where)
{
	uint64_t hash = cvb_side_hash(CVB_SIDE_HASH_START, values, n * sizeof(*values));
	bool fit = true;

	s->samples += n;
	for (size_t i = 0; i < n; i++) {
		double v = values[i];

		if (v >= 0 && v <= 0)
			s->zeros++;
		if (isfinite(v) && v > 0) {
			values[i] = s->better == CVB_LOWER_IS_BETTER ? -log(v) : log(v);
			continue;
		}
		fit = false;
		if (isnan(v))
			cvb_side_spoil_series(s, "%s: sample %zu is not a number", where, i + 1);
		else
			cvb_side_spoil_series(
				s, "%s: sample %zu is %g, but a ratio needs positive finite values",
				where, i + 1, v);
	}
	return fit ? cvb_side_add_value(s, cvb_hodges_lehmann(values, n), hash) : 0;
}

struct cvb_side_series *cvb_side_with(struct cvb_side_series *s)
{
	if (!s->with)
		s->with = calloc(1, sizeof(*s->with));
	if (s->with)
		s->with->better = s->better;
	return s->with;
}

int cvb_side_add_again(struct cvb_side_series *s, const struct cvb_side_again *a)
{
	struct cvb_side_again *more = reallocarray(s->again, s->n_again + 1, sizeof(*more)), *own;

	if (!more)
		return -ENOMEM;
	s->again = more;
	own = &more[s->n_again++];
	*own = *a;
	own->base = strdup(a->base);
	own->aa = strdup(a->aa);
	return own->base && own->aa ? 0 : -ENOMEM;
}

/* --- environments ----------------------------------------------------------------------------- */

static json_t *short_value(const json_t *v)
{
	_cleanup_free_ char *text = NULL, *plain = NULL;

	if (!v || json_is_null(v))
		return json_null();
	text = json_is_string(v) ? strdup(json_string_value(v))
				 : json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
	plain = cvb_text_plain(text, 160);
	return plain ? json_string(plain) : json_null();
}

static bool changes_by_itself(const char *key)
{
	static const char *const keys[] = {"boot_ns", "mhz_now", "used", "used_hiwater",
					   "available_bytes"};

	for (size_t i = 0; i < CVB_ARRAY_LEN(keys); i++)
		if (!strcmp(key, keys[i]))
			return true;
	return false;
}

static void diff(json_t *rows, const char *what, const json_t *base, const json_t *current,
		 size_t max, int depth)
{
	json_t *side[] = {(json_t *)(uintptr_t)base, (json_t *)(uintptr_t)current}; /* only read */

	if (json_array_size(rows) >= max || (!base && !current) ||
	    (base && current && json_equal(base, current)))
		return;
	if (!json_is_object(base) || !json_is_object(current) || !depth) {
		_cleanup_free_ char *plain = cvb_text_plain(what, 200);

		json_array_append_new(rows, json_pack("{s:s, s:o, s:o}", "what", plain ? plain : "",
						      "base", short_value(base), "current",
						      short_value(current)));
		return;
	}
	for (int i = 0; i < 2; i++) {
		for (void *it = json_object_iter(side[i]); it;
		     it = json_object_iter_next(side[i], it)) {
			const char *key = json_object_iter_key(it);
			_cleanup_free_ char *path = cvb_strf("%s.%s", what, key);

			if (path && !changes_by_itself(key) && (!i || !json_object_get(base, key)))
				diff(rows, path, json_object_get(base, key),
				     json_object_get(current, key), max, depth - 1);
		}
	}
}

void cvb_side_diff(json_t *rows, const char *what, const json_t *base, const json_t *current,
		   size_t max)
{
	diff(rows, what, base, current, max, 4);
}

/* --- where from ------------------------------------------------------------------------------- */

int cvb_side_load(struct cvb_side **ret, const char *path, const char *per, struct cvb_err *err)
{
	_cleanup_free_ char *journal = cvb_bundle_path(path, CVB_BUNDLE_JOURNAL);
	struct cvb_side *s = calloc(1, sizeof(*s));
	struct stat st;
	int r = 0;

	if (s)
		s->path = strdup(path);
	if (!journal || !s || !s->path) {
		cvb_side_free(s);
		return cvb_err_set(err, -ENOMEM, "out of memory");
	}
	if (strcmp(path, "-") != 0 && stat(path, &st) < 0)
		r = cvb_err_set(err, errno == ENOENT || errno == ENOTDIR ? -EINVAL : -errno,
				"cannot open %s: %s: expected a result document, a folder of them "
				"or a bundle",
				path, strerror(errno));
	else if (strcmp(path, "-") != 0 && S_ISDIR(st.st_mode))
		s->kind = access(journal, F_OK) == 0 ? CVB_SIDE_BUNDLE : CVB_SIDE_RESULTS;
	if (r == 0 && per && s->kind != CVB_SIDE_BUNDLE)
		r = cvb_err_set(err, -EINVAL,
				"--per %s: %s has no arms: it is no bundle of a campaign", per,
				path);
	if (r == 0)
		r = s->kind == CVB_SIDE_BUNDLE ? cvb_side_load_bundle(s, per, err)
					       : cvb_side_load_results(s, err);
	if (r < 0) {
		cvb_side_free(s);
		return r;
	}
	*ret = s;
	return 0;
}
