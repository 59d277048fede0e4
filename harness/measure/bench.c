/* SPDX-License-Identifier: Apache-2.0 */
#include "measure/bench.h"

#include "core/util.h"

#include <errno.h>
#include <string.h>

/* Set by the linker around the section that CVB_BENCH fills. */
extern const struct cvb_bench *const __start_cvb_bench[];
extern const struct cvb_bench *const __stop_cvb_bench[];

#define MAX_BENCHES 256
#define MAX_CASES   4096

static void check(const struct cvb_bench *b)
{
	CVB_BUG_ON(b->abi != CVB_BENCH_ABI || b->struct_size != sizeof(*b));
	CVB_BUG_ON(!b->name || !b->summary || !b->metrics || !b->setup);
	CVB_BUG_ON(b->mode == CVB_MODE_BATCH ? !b->step : !b->measure);
	CVB_BUG_ON(b->opts && !b->conf_size);
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct cvb_bench *const *)a)->name,
		      (*(const struct cvb_bench *const *)b)->name);
}

const struct cvb_bench *const *cvb_bench_all(size_t *ret_n)
{
	static const struct cvb_bench *sorted[MAX_BENCHES];
	static size_t n;

	if (!n) {
		size_t count = (size_t)(__stop_cvb_bench - __start_cvb_bench);

		CVB_BUG_ON(count > MAX_BENCHES);
		for (size_t i = 0; i < count; i++) {
			check(__start_cvb_bench[i]);
			sorted[i] = __start_cvb_bench[i];
		}
		qsort(sorted, count, sizeof(sorted[0]), by_name);
		n = count;
	}
	*ret_n = n;
	return sorted;
}

const struct cvb_bench *cvb_bench_find(const char *name, struct cvb_err *err)
{
	size_t n;
	const struct cvb_bench *const *all = cvb_bench_all(&n);
	const char *names[MAX_BENCHES + 1];

	for (size_t i = 0; i < n; i++) {
		if (!strcmp(all[i]->name, name))
			return all[i];
		names[i] = all[i]->name;
	}
	names[n] = NULL;
	const char *near = cvb_nearest(name, names);

	if (near)
		cvb_err_set(err, -EINVAL, "unknown benchmark \"%s\"; did you mean %s?", name, near);
	else
		cvb_err_set(err, -EINVAL,
			    "unknown benchmark \"%s\"; `cvmbench list benches` names them", name);
	return NULL;
}

bool cvb_bench_has_param(const struct cvb_bench *b, const char *name)
{
	for (const char *const *p = b->params; p && *p; p++)
		if (!strcmp(*p, name))
			return true;
	return false;
}

/* A profile is checked against the list before anything is measured. */
static void check_listed(const struct cvb_bench *b, const json_t *params)
{
	const char *name;
	json_t *v;

	json_object_foreach ((json_t *)(uintptr_t)params, name, v)
		CVB_BUG_ON(!cvb_bench_has_param(b, name));
}

int cvb_run_add_case(struct cvb_run *run, const struct cvb_case *c, struct cvb_err *err)
{
	struct cvb_case *bigger = NULL;

	check_listed(run->bench, c->params);
	if (run->n_cases < MAX_CASES)
		bigger = realloc(run->cases, (run->n_cases + 1) * sizeof(*bigger));
	if (!bigger) {
		json_decref(c->params);
		return run->n_cases < MAX_CASES ? cvb_err_set(err, -ENOMEM, "out of memory")
						: cvb_err_set(err, -E2BIG, "%s: more than %d cases",
							      run->bench->name, MAX_CASES);
	}
	run->cases = bigger;
	run->cases[run->n_cases] = *c;
	return (int)run->n_cases++;
}

void cvb_run_report(struct cvb_run *run, size_t c, unsigned metric, double value)
{
	size_t n_metrics = 0;

	while (run->bench->metrics[n_metrics].name)
		n_metrics++;
	CVB_BUG_ON(c >= run->n_cases || metric >= n_metrics || !run->values);
	run->values[c * n_metrics + metric] = value;
}

void cvb_run_note(struct cvb_run *run, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0) {
		text = NULL;
		return;
	}
	for (size_t i = 0; i < json_array_size(run->notes); i++)
		if (!strcmp(json_string_value(json_array_get(run->notes, i)), text))
			return;
	json_array_append_new(run->notes, json_string(text));
}

void cvb_run_leave_out(struct cvb_run *run, json_t *params, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;
	int n;

	check_listed(run->bench, params);
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		text = NULL;
	if (text)
		cvb_run_note(run, "left out: %s", text);
	json_array_append_new(run->left_out,
			      json_pack("{s:o, s:s}", "params", params ? params : json_object(),
					"reason", text ? text : "out of memory"));
}

const char *cvb_metric_unit(const struct cvb_metric *m)
{
	switch (m->kind) {
	case CVB_BYTES_PER_S:
		return "bytes_per_s";
	case CVB_OPS_PER_S:
		return "ops_per_s";
	case CVB_FLOPS_PER_S:
		return "flops_per_s";
	case CVB_NS_PER_OP:
		return "ns";
	case CVB_REPORTED:
		return m->unit;
	}
	return "?";
}

const char *cvb_better_text(enum cvb_better better)
{
	return better == CVB_HIGHER_IS_BETTER ? "higher" : "lower";
}
