/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Result documents ("cvmbench.result/1") into a side of a comparison.
 */
#include "campaign/side.h"
#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

/* One document being read, and where in it. */
struct reader {
	struct cvb_side *side;
	const char *file; /* as shown: safe to print */
	size_t bench;
	size_t metric;
	bool in_metric;
	uint64_t hash;	 /* of all samples of the document */
	size_t distinct; /* samples in it that differ from the one before */
	struct cvb_err *err;
};

/* -EBADMSG: FILE: benches[2].metrics[0].unit: … */
static int CVB_PRINTF(3, 4) bad(const struct reader *r, const char *field, const char *fmt, ...)
{
	char what[240], metric[40] = "";
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (r->in_metric)
		snprintf(metric, sizeof(metric), "metrics[%zu]%s", r->metric, *field ? "." : "");
	return cvb_err_set(r->err, -EBADMSG, "%s: benches[%zu]%s%s%s: %s", r->file, r->bench,
			   *metric || *field ? "." : "", metric, field, what);
}

static int no_memory(const struct reader *r)
{
	return cvb_err_set(r->err, -ENOMEM, "out of memory reading %s", r->file);
}

static int get_text(const struct reader *r, const json_t *obj, const char *field, const char **ret)
{
	const json_t *v = json_object_get(obj, field);

	if (!json_is_string(v) || !json_string_length(v))
		return bad(r, field, "expected a text%s", v ? "" : ", but it is missing");
	if (json_string_length(v) > CVB_SIDE_NAME_BYTES)
		return bad(r, field, "longer than %d bytes", CVB_SIDE_NAME_BYTES);
	*ret = json_string_value(v);
	return 0;
}

static int get_bool(const struct reader *r, const json_t *obj, const char *field, bool *ret)
{
	const json_t *v = json_object_get(obj, field);

	if (v && !json_is_boolean(v) && !json_is_null(v))
		return bad(r, field, "expected true or false");
	*ret = json_is_true(v);
	return 0;
}

/* --- a metric --------------------------------------------------------------------------------- */

static int check_params(const struct reader *r, const json_t *params)
{
	json_t *own = (json_t *)(uintptr_t)params; /* only read */
	const char *key;
	json_t *v;

	if (!params || json_is_null(params))
		return 0;
	if (!json_is_object(params) || json_object_size(params) > CVB_SIDE_MAX_PARAMS)
		return bad(r, "params", "expected an object of at most %d texts and numbers",
			   CVB_SIDE_MAX_PARAMS);
	json_object_foreach (own, key, v)
		if (json_is_object(v) || json_is_array(v) || strlen(key) > CVB_SIDE_NAME_BYTES ||
		    (json_is_string(v) && json_string_length(v) > CVB_SIDE_NAME_BYTES))
			return bad(r, "params", "expected short texts and numbers only");
	return 0;
}

/* The samples, or the value if there are none, as they are; null is NaN. */
static int get_values(const struct reader *r, const json_t *metric, double **ret, size_t *ret_n)
{
	const json_t *samples = json_object_get(metric, "samples"), *v;
	const json_t *value = json_object_get(metric, "value");
	size_t n = json_array_size(samples);
	double *x;

	if (samples && !json_is_array(samples))
		return bad(r, "samples", "expected a list of numbers");
	if (value && !json_is_number(value) && !json_is_null(value))
		return bad(r, "value", "expected a number");
	if (!n && !value)
		return bad(r, "value", "there are neither samples nor a value");
	x = calloc(n ? n : 1, sizeof(*x));
	if (!x)
		return no_memory(r);
	x[0] = json_is_number(value) ? json_number_value(value) : NAN;
	for (size_t i = 0; i < n; i++) {
		v = json_array_get(samples, i);
		if (!json_is_number(v) && !json_is_null(v)) {
			free(x);
			return bad(r, "samples", "sample %zu is not a number", i + 1);
		}
		x[i] = json_is_null(v) ? NAN : json_number_value(v);
	}
	*ret = x;
	*ret_n = n ? n : 1;
	return 0;
}

static int read_metric(struct reader *r, const json_t *metric, struct cvb_side_bench *b,
		       bool deterministic)
{
	const char *name, *unit, *better;
	_cleanup_free_ double *values = NULL;
	struct cvb_side_series *s;
	size_t n = 0;
	int e;

	if (!json_is_object(metric))
		return bad(r, "", "expected an object");
	e = get_text(r, metric, "name", &name);
	if (e == 0)
		e = get_text(r, metric, "unit", &unit);
	if (e == 0)
		e = get_text(r, metric, "better", &better);
	if (e == 0 && strcmp(better, "higher") != 0 && strcmp(better, "lower") != 0)
		e = bad(r, "better", "expected \"higher\" or \"lower\"");
	if (e == 0)
		e = check_params(r, json_object_get(metric, "params"));
	if (e == 0)
		e = get_values(r, metric, &values, &n);
	if (e < 0)
		return e;
	if (b->series.n >= CVB_SIDE_MAX_SERIES)
		return bad(r, "", "more than %d metrics", CVB_SIDE_MAX_SERIES);

	enum cvb_better way =
		!strcmp(better, "higher") ? CVB_HIGHER_IS_BETTER : CVB_LOWER_IS_BETTER;

	s = cvb_side_series(b, name, json_object_get(metric, "params"), unit, way);
	if (!s)
		return no_memory(r);
	if (s->seen == b->sessions)
		return bad(r, "name", "this metric with these params is there twice");
	s->seen = b->sessions;
	s->sessions++;
	if (strcmp(s->unit, unit) != 0)
		cvb_side_spoil_series(s, "%s: unit %s, but %s in another document of this side",
				      r->file, unit, s->unit);
	if (s->better != way)
		cvb_side_spoil_series(s, "%s: better: %s, but not in another document of this side",
				      r->file, better);
	r->hash = cvb_side_hash(r->hash, values, n * sizeof(*values));
	for (size_t i = 1; i < n && !deterministic; i++)
		r->distinct += memcmp(&values[i], &values[i - 1], sizeof(*values)) != 0;
	return cvb_side_add_session(s, values, n, r->file) < 0 ? no_memory(r) : 0;
}

/* --- a benchmark ------------------------------------------------------------------------------ */

static int read_outcome(struct reader *r, const json_t *row, struct cvb_side_bench *b, bool *ret_ok)
{
	static const struct {
		const char *word;
		enum cvb_side_fault fault;
	} outcomes[] = {{"ok", CVB_SIDE_GOOD},
			{"unsupported", CVB_SIDE_UNSUPPORTED},
			{"failed", CVB_SIDE_BAD},
			{"untrusted", CVB_SIDE_INVALID}};
	const char *word, *reason = json_string_value(json_object_get(row, "reason"));
	size_t i = 0;
	int e = get_text(r, row, "outcome", &word);

	if (e < 0)
		return e;
	while (i < CVB_ARRAY_LEN(outcomes) && strcmp(word, outcomes[i].word) != 0)
		i++;
	if (i == CVB_ARRAY_LEN(outcomes))
		return bad(r, "outcome", "expected ok, unsupported, failed or untrusted");
	*ret_ok = i == 0;
	if (i)
		cvb_side_spoil(b, outcomes[i].fault, "%s: %s: %s", r->file, word,
			       reason ? reason : "no reason was given");
	return 0;
}

static int read_options(struct reader *r, const json_t *row, struct cvb_side_bench *b)
{
	json_t *options = json_object_get(row, "options");

	if (options && !json_is_object(options) && !json_is_null(options))
		return bad(r, "options", "expected an object");
	if (!json_is_object(options))
		return 0;
	if (!b->options)
		b->options = json_incref(options);
	else if (!json_equal(b->options, options))
		cvb_side_spoil(b, CVB_SIDE_BAD,
			       "%s: options differ from those in another document of this side",
			       r->file);
	return 0;
}

static bool is_devtools(const json_t *row)
{
	const json_t *cc = json_object_get(json_object_get(row, "gpu"), "cc");
	const char *devtools = json_string_value(json_object_get(cc, "devtools"));

	return devtools && !strcmp(devtools, "on");
}

static int read_bench(struct reader *r, const json_t *row, struct cvb_side_arm *arm, bool tcg)
{
	const json_t *metrics = json_object_get(row, "metrics"), *m;
	bool ok = false, label[CVB_SIDE_LABELS] = {[CVB_SIDE_TCG] = tcg};
	struct cvb_side_bench *b;
	const char *name;
	int e;

	if (!json_is_object(row))
		return bad(r, "", "expected an object");
	e = get_text(r, row, "name", &name);
	if (e == 0)
		e = get_bool(r, row, "emulated", &label[CVB_SIDE_EMULATED]);
	if (e == 0)
		e = get_bool(r, row, "deterministic", &label[CVB_SIDE_DETERMINISTIC]);
	if (e < 0)
		return e;
	if (metrics && !json_is_array(metrics))
		return bad(r, "metrics", "expected a list");
	b = cvb_side_bench(arm, name);
	if (!b)
		return no_memory(r);
	if (b->seen == r->side->sessions)
		return bad(r, "name", "this benchmark is there twice");
	b->seen = r->side->sessions;
	e = read_outcome(r, row, b, &ok);
	if (e < 0 || !ok)
		return e;
	if (is_devtools(row))
		cvb_side_spoil(b, CVB_SIDE_INVALID, "%s: %s", r->file, cvb_side_devtools);
	b->sessions++;
	for (size_t l = 0; l < CVB_SIDE_LABELS; l++)
		b->labelled[l] += label[l];
	e = read_options(r, row, b);
	r->in_metric = true;
	for (r->metric = 0; e == 0 && r->metric < json_array_size(metrics); r->metric++) {
		m = json_array_get(metrics, r->metric);
		e = read_metric(r, m, b, label[CVB_SIDE_DETERMINISTIC]);
	}
	r->in_metric = false;
	return e;
}

/* --- a document ------------------------------------------------------------------------------- */

/* The first document's environment stands for the side; others that differ are noted. */
static void keep_environment(struct reader *r, struct cvb_side_arm *arm, const json_t *doc)
{
	json_t *env = json_object_get(doc, "environment"), *tool = json_object_get(doc, "tool");
	_cleanup_json_ json_t *rows = json_array();
	const char *what;

	if (r->side->sessions == 1) {
		arm->environment = json_is_object(env) ? json_incref(env) : NULL;
		r->side->tool = json_is_object(tool) ? json_incref(tool) : NULL;
		return;
	}
	cvb_side_diff(rows, "environment", arm->environment, json_is_object(env) ? env : NULL, 1);
	cvb_side_diff(rows, "tool", r->side->tool, json_is_object(tool) ? tool : NULL, 1);
	what = json_string_value(json_object_get(json_array_get(rows, 0), "what"));
	if (what)
		cvb_side_note(r->side, "%s: %s differs from that in another document of this side",
			      r->file, what);
}

/* A copy that counts as a session of its own would make the interval too narrow. */
static int note_copies(struct reader *r)
{
	char key[24];
	const char *other;
	char *own;

	snprintf(key, sizeof(key), "%016llx", (unsigned long long)r->hash);
	other = cvb_table_find(&r->side->session, key);
	if (other && r->distinct)
		cvb_side_note(r->side,
			      "%s and %s hold the same samples to the last bit; if one is a copy, "
			      "the interval is too narrow",
			      other, r->file);
	if (other)
		return 0;
	own = strdup(r->file);
	if (!own || cvb_table_add(&r->side->session, key, own) < 0) {
		free(own);
		return no_memory(r);
	}
	return 0;
}

int cvb_side_read_document(struct cvb_side *side, const json_t *doc, const char *file,
			   struct cvb_err *err)
{
	struct reader r = {.side = side, .file = file, .hash = CVB_SIDE_HASH_START, .err = err};
	const json_t *benches = json_object_get(doc, "benches");
	const json_t *labels = json_object_get(json_object_get(doc, "environment"), "labels");
	const char *accel = json_string_value(json_object_get(labels, "accel"));
	struct cvb_side_arm *arm = cvb_side_arm(side, "");
	int e = 0;

	if (!arm)
		return no_memory(&r);
	if (!json_is_array(benches) || json_array_size(benches) > CVB_SIDE_MAX_BENCHES)
		return cvb_err_set(err, -EBADMSG,
				   "%s: benches: expected a list of at most %d benchmarks", file,
				   CVB_SIDE_MAX_BENCHES);
	side->sessions++;
	keep_environment(&r, arm, doc);
	for (; e == 0 && r.bench < json_array_size(benches); r.bench++)
		e = read_bench(&r, json_array_get(benches, r.bench), arm,
			       accel && !strcmp(accel, "tcg"));
	if (e == 0 && arm->benches.n > CVB_SIDE_MAX_BENCHES)
		e = cvb_err_set(err, -EBADMSG, "%s: more than %d benchmarks with those before it",
				file, CVB_SIDE_MAX_BENCHES);
	return e < 0 ? e : note_copies(&r);
}
