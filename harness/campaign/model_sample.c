/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal lines that carry measurements: bench, sample, round, bench_end, arm_end.
 */
#include "campaign/model_slot.h"
#include "core/util.h"
#include "stats/steady.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define PARAMS_MAX 16

/* ---- slots ----------------------------------------------------------------------------------- */

static void slot_arm_free(struct cvb_slot_arm *a)
{
	free(a->reason);
	json_decref(a->options);
	json_decref(a->notes);
	json_decref(a->iters);
	json_decref(a->left_out);
	free(a->series);
	free(a->steady);
	for (size_t i = 0; i < a->n_rows; i++)
		free(a->rows[i].values);
	free(a->rows);
	free(a);
}

static void slot_clear(struct cvb_slot *s)
{
	while (s->arms) {
		struct cvb_slot_arm *a = s->arms;

		s->arms = a->next;
		slot_arm_free(a);
	}
	free(s->rounds);
	*s = (struct cvb_slot){0};
}

struct cvb_slot_arm *cvb_slot_arm(const struct cvb_slot *slot, unsigned arm)
{
	struct cvb_slot_arm *a = slot->arms;

	while (a && a->arm != arm)
		a = a->next;
	return a;
}

/* The same; it is added when new, NULL when memory is out. */
static struct cvb_slot_arm *get_slot_arm(struct cvb_slot *slot, unsigned arm)
{
	struct cvb_slot_arm *a = cvb_slot_arm(slot, arm);

	if (a)
		return a;
	a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->arm = arm;
	a->next = slot->arms;
	slot->arms = a;
	return a;
}

/*
 * The slot that this line belongs to.  *ret NULL: another attempt has already finished this
 * benchmark in this session, so that the line does not count.
 */
static int get_slot(const struct cvb_model_reader *r, unsigned bench, struct cvb_slot **ret)
{
	unsigned session, attempt;
	int e = cvb_model_get_count(r, r->line, "session", r->m->sessions, &session);

	if (e == 0)
		e = cvb_model_get_count(r, r->line, "attempt", CVB_MODEL_MAX_ATTEMPTS, &attempt);
	if (e < 0)
		return e;

	struct cvb_slot **at = &r->slots.v[(session - 1) * r->m->n_benches + bench];

	if (!*at)
		*at = calloc(1, sizeof(**at));
	if (!*at)
		return cvb_model_no_memory(r);

	struct cvb_slot *s = *at;

	*ret = NULL;
	if (s->finished && attempt != s->attempt)
		return 0;
	if (attempt < s->attempt)
		return cvb_model_bad(r, "attempt", "attempt %u came after attempt %u", attempt,
				     s->attempt);
	if (attempt > s->attempt) {
		slot_clear(s);
		s->attempt = attempt;
	}
	*ret = s;
	return 0;
}

static int check_params(const struct cvb_model_reader *r, const json_t *params)
{
	const char *name;
	const json_t *v;

	if (!params || json_is_null(params))
		return 0;
	if (!json_is_object(params) || json_object_size(params) > PARAMS_MAX)
		return cvb_model_bad(r, "params", "an object of at most %d values is wanted",
				     PARAMS_MAX);
	json_object_foreach ((json_t *)(uintptr_t)params, name, v) {
		if (strlen(name) > CVB_MODEL_NAME_BYTES || json_is_array(v) || json_is_object(v) ||
		    json_is_null(v) || json_string_length(v) > CVB_MODEL_NAME_BYTES)
			return cvb_model_bad(r, "params",
					     "short names with numbers or texts are wanted");
	}
	return 0;
}

/* A series of a bench line: find it by key, or add it. */
static int find_series(struct cvb_model_reader *r, unsigned bench, const json_t *line, size_t *ret)
{
	struct cvb_model *m = r->m;
	const char *bench_name = m->benches[bench].name;
	const char *better = json_string_value(json_object_get(line, "better"));
	const json_t *params = json_object_get(line, "params"), *known;
	_cleanup_free_ char *metric = NULL, *unit = NULL, *name = NULL, *pkey = NULL, *key = NULL;
	size_t len = strlen(bench_name);
	int e = cvb_model_get_text(r, line, "metric", CVB_MODEL_NAME_BYTES, true, &metric);

	if (e == 0)
		e = cvb_model_get_text(r, line, "unit", CVB_MODEL_NAME_BYTES, true, &unit);
	if (e == 0)
		e = check_params(r, params);
	if (e < 0)
		return e;
	if (!better || (strcmp(better, "higher") != 0 && strcmp(better, "lower") != 0))
		return cvb_model_bad(r, "better", "\"higher\" or \"lower\" is wanted");

	enum cvb_better dir = !strcmp(better, "lower") ? CVB_LOWER_IS_BETTER : CVB_HIGHER_IS_BETTER;

	/* "mem.stream/triad" and "triad" both name the metric */
	bool full = !strncmp(metric, bench_name, len) && metric[len] == '/';

	name = full ? strdup(metric) : cvb_strf("%s/%s", bench_name, metric);
	pkey = cvb_model_params_key(json_is_object(params) ? params : NULL);
	if (name && pkey)
		key = *pkey ? cvb_strf("%s{%s}", name, pkey) : strdup(name);
	if (!key)
		return cvb_model_no_memory(r);
	known = json_object_get(r->series_index, key);
	if (known) {
		*ret = (size_t)json_integer_value(known);
		if (strcmp(m->series[*ret]->unit, unit) != 0 || m->series[*ret]->better != dir)
			return cvb_model_bad(r, "series",
					     "%s has another unit or direction than before", key);
		return 0;
	}
	if (m->n_series >= CVB_MODEL_MAX_SERIES)
		return cvb_model_bad(r, "series", "more than %d series", CVB_MODEL_MAX_SERIES);

	struct cvb_model_series *s = calloc(1, sizeof(*s));

	if (!s || !cvb_model_grow(&m->series, m->n_series, &r->series_room, sizeof(*m->series)) ||
	    json_object_set_new(r->series_index, key, json_integer((json_int_t)m->n_series)) < 0) {
		free(s);
		return cvb_model_no_memory(r);
	}
	*s = (struct cvb_model_series){.bench = bench,
				       .better = dir,
				       .name = CVB_TAKE(name),
				       .params_key = CVB_TAKE(pkey),
				       .key = CVB_TAKE(key),
				       .unit = CVB_TAKE(unit)};
	if (json_is_object(params))
		s->params = json_incref((json_t *)(uintptr_t)params);
	*ret = m->n_series;
	m->series[m->n_series++] = s;
	return 0;
}

/* The series of an "ok" bench line into the slot. */
static int set_series(struct cvb_model_reader *r, unsigned bench, struct cvb_slot_arm *a)
{
	const json_t *list = json_object_get(r->line, "series"), *v;
	size_t n = json_array_size(list), i;
	size_t *series;

	if (!json_is_array(list) || n > CVB_MODEL_MAX_SERIES)
		return cvb_model_bad(r, "series", "a list of at most %d is wanted",
				     CVB_MODEL_MAX_SERIES);
	series = calloc(n + 1, sizeof(*series));
	if (!series)
		return cvb_model_no_memory(r);
	free(a->series);
	a->series = series;
	a->n_series = 0;
	json_array_foreach (list, i, v) {
		int e = find_series(r, bench, v, &series[i]);

		if (e == 0 && r->series_line[series[i]] == r->number)
			e = cvb_model_bad(r, "series", "%s is there twice",
					  r->m->series[series[i]]->key);
		if (e < 0)
			return e;
		r->series_line[series[i]] = r->number;
		a->n_series = i + 1;
	}
	return 0;
}

static int set_left_out(const struct cvb_model_reader *r, struct cvb_slot_arm *a)
{
	const json_t *list = json_object_get(r->line, "left_out"), *v;
	size_t i;

	if (!list || json_is_null(list))
		return 0;
	if (!json_is_array(list))
		return cvb_model_bad(r, "left_out", "a list is wanted");
	json_array_foreach (list, i, v) {
		int e = check_params(r, json_object_get(v, "params"));

		if (e < 0)
			return e;
		if (!json_is_string(json_object_get(v, "reason")))
			return cvb_model_bad(r, "left_out", "number %zu has no reason", i + 1);
	}
	json_decref(a->left_out);
	a->left_out = json_incref((json_t *)(uintptr_t)list);
	return 0;
}

static int set_meta(struct cvb_model_reader *r, struct cvb_slot_arm *a)
{
	const json_t *options = json_object_get(r->line, "options");
	const json_t *notes = json_object_get(r->line, "notes");
	const json_t *iters = json_object_get(r->line, "iters");
	const json_t *workers = json_object_get(r->line, "workers");
	const json_t *cc = json_object_get(json_object_get(r->line, "gpu"), "cc");
	const char *devtools = json_string_value(json_object_get(cc, "devtools"));
	int e = cvb_model_get_bool(r, r->line, "emulated", &a->emulated);

	a->devtools = devtools && !strcmp(devtools, "on");

	if (e == 0)
		e = cvb_model_get_bool(r, r->line, "deterministic", &a->deterministic);
	if (e < 0)
		return e;
	if (options && !json_is_object(options) && !json_is_null(options))
		return cvb_model_bad(r, "options", "an object is wanted");
	if (notes && !json_is_array(notes) && !json_is_null(notes))
		return cvb_model_bad(r, "notes", "a list is wanted");
	if (iters && !json_is_array(iters) && !json_is_null(iters))
		return cvb_model_bad(r, "iters", "a list is wanted");
	json_decref(a->options);
	json_decref(a->notes);
	json_decref(a->iters);
	a->options = json_incref((json_t *)(uintptr_t)options);
	a->notes = json_incref((json_t *)(uintptr_t)notes);
	a->iters = json_incref((json_t *)(uintptr_t)iters);
	if (json_is_integer(workers) && json_integer_value(workers) > 0 &&
	    json_integer_value(workers) < 1000000)
		a->workers = (unsigned)json_integer_value(workers);
	return 0;
}

/* "steady" of an "ok" bench line: a word for each series, or null. */
static int set_steady(const struct cvb_model_reader *r, struct cvb_slot_arm *a)
{
	const json_t *list = json_object_get(r->line, "steady"), *v;
	size_t i;

	free(CVB_TAKE(a->steady));
	if (!list || json_is_null(list))
		return 0;
	if (json_array_size(list) != a->n_series)
		return cvb_model_bad(r, "steady",
				     "null or a list of %zu, one for each series, "
				     "is wanted",
				     a->n_series);
	a->steady = calloc(a->n_series + 1, sizeof(*a->steady));
	if (!a->steady)
		return cvb_model_no_memory(r);
	json_array_foreach (list, i, v) {
		const char *word = json_string_value(v);

		a->steady[i] = word ? cvb_steady_of_name(word) : -1;
		if (a->steady[i] < 0)
			return cvb_model_bad(r, "steady", "number %zu is no known word", i + 1);
	}
	return 0;
}

/* "timer_ns" and "clock" of an "ok" bench line. */
static int set_clock(const struct cvb_model_reader *r, struct cvb_slot_arm *a)
{
	const json_t *clock = json_object_get(r->line, "clock");
	double error, uncertainty;
	int e = cvb_model_get_u64(r, r->line, "timer_ns", &a->timer_ns);

	a->clock_error_ratio = 0;
	if (e < 0 || !clock || json_is_null(clock))
		return e;
	if (!json_is_object(clock))
		return cvb_model_bad(r, "clock", "an object or null is wanted");
	e = cvb_model_get_real(r, clock, "error_ratio", &error);
	if (e == 0)
		e = cvb_model_get_real(r, clock, "uncertainty_ratio", &uncertainty);
	if (e == 0 && isfinite(error) && isfinite(uncertainty))
		a->clock_error_ratio = fmax(fabs(error) - fabs(uncertainty), 0);
	return e;
}

int cvb_model_on_bench(struct cvb_model_reader *r)
{
	const char *outcome = json_string_value(json_object_get(r->line, "outcome"));
	enum cvb_model_outcome o = CVB_MODEL_NONE;
	struct cvb_slot *slot = NULL;
	unsigned arm, bench;
	int e = cvb_model_get_arm(r, &arm);

	if (e == 0)
		e = cvb_model_get_bench(r, &bench);
	if (e == 0)
		e = get_slot(r, bench, &slot);
	if (e < 0)
		return e;
	for (int i = CVB_MODEL_OK; outcome && cvb_model_outcome_names[i]; i++)
		if (!strcmp(outcome, cvb_model_outcome_names[i]))
			o = (enum cvb_model_outcome)i;
	if (o == CVB_MODEL_NONE)
		return cvb_model_bad(
			r, "outcome",
			"\"ok\", \"unsupported\", \"failed\" or \"untrusted\" is wanted");
	if (!slot)
		return 0;

	struct cvb_slot_arm *a = get_slot_arm(slot, arm);

	if (!a)
		return cvb_model_no_memory(r);
	if (o != CVB_MODEL_OK) {
		e = cvb_model_get_text(r, r->line, "reason", CVB_MODEL_REASON_BYTES, true,
				       &a->reason);
		a->outcome = o;
		return e;
	}
	if (a->outcome != CVB_MODEL_NONE)
		return cvb_model_bad(r, "outcome",
				     "\"ok\" again for the same arm and benchmark in one attempt");
	a->outcome = o;
	e = set_series(r, bench, a);
	if (e == 0)
		e = set_steady(r, a);
	if (e == 0)
		e = set_clock(r, a);
	if (e == 0)
		e = set_left_out(r, a);
	return e < 0 ? e : set_meta(r, a);
}

static int read_values(const struct cvb_model_reader *r, const struct cvb_slot_arm *a,
		       double *values)
{
	const json_t *list = json_object_get(r->line, "values"), *v;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) != a->n_series)
		return cvb_model_bad(r, "values", "a list of %zu, one for each series, is wanted",
				     a->n_series);
	json_array_foreach (list, i, v) {
		if (!json_is_number(v) && !json_is_null(v))
			return cvb_model_bad(r, "values", "number %zu is neither number nor null",
					     i + 1);
		values[i] = json_is_null(v) ? NAN : json_number_value(v);
	}
	return 0;
}

/* `here`: as the host saw it, asking included; 0: not known. */
static bool clocks_disagree(uint64_t there_ns, uint64_t here_ns)
{
	double there = (double)there_ns, here = (double)here_ns;
	double tolerance = CVB_CLOCK_LIMIT_RATIO * here;

	return here_ns &&
	       (there > here + tolerance || there < here - tolerance - (double)CVB_ASKING_NS);
}

/* What a sample line says of the sample itself, its values aside. */
static int read_row(const struct cvb_model_reader *r, struct cvb_slot_arm *a,
		    struct cvb_slot_row *row)
{
	uint64_t steal_ns, shortest_ns, throttles, duration_ns, host_ns;
	double steal;
	int e = cvb_model_get_real(r, r->line, "steal_ratio", &steal);

	if (e == 0)
		e = cvb_model_get_u64(r, r->line, "steal_ns", &steal_ns);
	if (e == 0)
		e = cvb_model_get_u64(r, r->line, "shortest_ns", &shortest_ns);
	if (e == 0)
		e = cvb_model_get_u64(r, r->line, "throttles", &throttles);
	if (e == 0)
		e = cvb_model_get_u64(r, r->line, "start_ns", &row->start_ns);
	if (e == 0)
		e = cvb_model_get_u64(r, r->line, "duration_ns", &duration_ns);
	if (e == 0)
		e = cvb_model_get_u64(r, r->line, "host_ns", &host_ns);
	if (e < 0)
		return e;
	/* below 0 the runner says that it does not know */
	row->steal_ratio = steal >= 0 ? steal : NAN;
	if (a->deterministic)
		row->disturbed = CVB_UNDISTURBED; /* a virtual clock does not feel the host */
	else if (clocks_disagree(duration_ns, host_ns))
		row->disturbed = CVB_DISTURBED_CLOCK;
	else if (throttles ||
		 json_is_true(json_object_get(json_object_get(r->line, "gpu"), "throttled")))
		row->disturbed = CVB_DISTURBED_THROTTLE;
	else if (steal > CVB_STEAL_LIMIT_RATIO && steal_ns >= CVB_STEAL_LEAST_NS)
		row->disturbed = CVB_DISTURBED_STEAL;
	if (shortest_ns && (!a->shortest_ns || shortest_ns < a->shortest_ns))
		a->shortest_ns = shortest_ns;
	return 0;
}

int cvb_model_on_sample(struct cvb_model_reader *r)
{
	struct cvb_slot_row row = {0};
	struct cvb_slot *slot = NULL;
	unsigned arm, bench;
	int e = cvb_model_get_arm(r, &arm);

	if (e == 0)
		e = cvb_model_get_bench(r, &bench);
	if (e == 0)
		e = cvb_model_get_count(r, r->line, "round", r->m->benches[bench].rounds,
					&row.round);
	if (e == 0)
		e = get_slot(r, bench, &slot);
	if (e == 0)
		e = cvb_model_note_swiotlb(r, &r->m->arms[arm]);
	if (e < 0)
		return e;

	struct cvb_slot_arm unused = {0}, *a = slot ? cvb_slot_arm(slot, arm) : NULL;

	e = read_row(r, a ? a : &unused, &row);
	if (e < 0 || !slot)
		return e;
	if (!a || !a->series)
		return cvb_model_bad(r, "bench", "a sample before the benchmark's \"ok\" line");
	if (a->n_rows && row.round <= a->rows[a->n_rows - 1].round)
		return cvb_model_bad(r, "round", "round %u came after round %u", row.round,
				     a->rows[a->n_rows - 1].round);
	row.values = calloc(a->n_series + 1, sizeof(*row.values));
	if (!row.values || !cvb_model_grow(&a->rows, a->n_rows, &a->rows_room, sizeof(*a->rows))) {
		free(row.values);
		return cvb_model_no_memory(r);
	}
	a->rows[a->n_rows++] = row;
	return read_values(r, a, row.values);
}

int cvb_model_on_round(struct cvb_model_reader *r)
{
	struct cvb_slot *slot = NULL;
	unsigned bench, round;
	int e = cvb_model_get_bench(r, &bench);

	if (e == 0)
		e = cvb_model_get_count(r, r->line, "round", r->m->benches[bench].rounds, &round);
	if (e == 0)
		e = get_slot(r, bench, &slot);
	if (e < 0 || !slot)
		return e;
	if (slot->n_rounds && round <= slot->rounds[slot->n_rounds - 1])
		return cvb_model_bad(r, "round", "round %u came after round %u", round,
				     slot->rounds[slot->n_rounds - 1]);
	if (!cvb_model_grow(&slot->rounds, slot->n_rounds, &slot->rounds_room,
			    sizeof(*slot->rounds)))
		return cvb_model_no_memory(r);
	slot->rounds[slot->n_rounds++] = round;
	return 0;
}

int cvb_model_on_bench_end(struct cvb_model_reader *r)
{
	struct cvb_slot *slot = NULL;
	unsigned bench, session, attempt;
	int e = cvb_model_get_bench(r, &bench);

	if (e == 0)
		e = cvb_model_get_session(r, &session, &attempt);
	if (e == 0)
		e = get_slot(r, bench, &slot);
	if (e < 0 || !slot)
		return e;
	slot->finished = true;
	r->m->session[session - 1].benches_done |= UINT64_C(1) << bench;
	return 0;
}

int cvb_model_on_arm_end(struct cvb_model_reader *r)
{
	struct cvb_void_mark mark = {0};
	int e = cvb_model_get_arm(r, &mark.arm);

	if (e == 0)
		e = cvb_model_get_session(r, &mark.session, &mark.attempt);
	if (e == 0)
		e = cvb_model_note_swiotlb(r, &r->m->arms[mark.arm]);
	if (e == 0)
		e = cvb_model_get_text(r, r->line, "reason", CVB_MODEL_REASON_BYTES, false,
				       &mark.reason);
	if (e < 0 || !mark.reason)
		return e;
	if (!cvb_model_grow(&r->slots.voids, r->slots.n_voids, &r->slots.voids_room,
			    sizeof(*r->slots.voids))) {
		free(mark.reason);
		return cvb_model_no_memory(r);
	}
	r->slots.voids[r->slots.n_voids++] = mark;
	return 0;
}

void cvb_slots_done(struct cvb_slots *slots, size_t n)
{
	for (size_t i = 0; slots->v && i < n; i++) {
		if (slots->v[i])
			slot_clear(slots->v[i]);
		free(slots->v[i]);
	}
	for (size_t i = 0; i < slots->n_voids; i++)
		free(slots->voids[i].reason);
	free(slots->v);
	free(slots->voids);
}
