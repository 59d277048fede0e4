/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/model.h"

#include "core/opt.h"
#include "core/util.h"

#include <inttypes.h>
#include <string.h>

const char *const cvb_model_outcome_names[] = {"not run", "ok",	       "unsupported",
					       "failed",  "untrusted", NULL};

static void arm_done(struct cvb_model_arm *a)
{
	free(a->name);
	free(a->target);
	free(a->aa_of);
	free(a->gpu);
	free(a->tee);
	free(a->accel);
	free(a->reason);
	free(a->boot_ns);
	json_decref(a->environment);
}

static void bench_done(struct cvb_model_bench *b)
{
	free(b->name);
	for (size_t a = 0; a < CVB_MODEL_MAX_ARMS; a++) {
		struct cvb_model_cell *c = &b->cells[a];

		free(c->reason);
		free(c->invalid);
		free(c->changed);
		json_decref(c->options);
		json_decref(c->notes);
		json_decref(c->iters);
		json_decref(c->left_out);
	}
}

static void series_free(struct cvb_model_series *s)
{
	if (!s)
		return;
	free(s->name);
	free(s->params_key);
	free(s->key);
	free(s->unit);
	json_decref(s->params);
	for (size_t a = 0; a < CVB_MODEL_MAX_ARMS; a++)
		free(s->points[a].v);
	free(s);
}

struct cvb_model *cvb_model_free(struct cvb_model *m)
{
	if (!m)
		return NULL;
	for (size_t i = 0; i < m->n_arms; i++)
		arm_done(&m->arms[i]);
	for (size_t i = 0; i < m->n_benches; i++)
		bench_done(&m->benches[i]);
	for (size_t i = 0; i < m->n_series; i++)
		series_free(m->series[i]);
	free(m->benches);
	free(m->series);
	free(m->session);
	free(m->path);
	free(m->profile);
	free(m->seed);
	free(m->started);
	free(m->tool);
	free(m->abort);
	json_decref(m->tool_json);
	free(m);
	return NULL;
}

int cvb_model_arm(const struct cvb_model *m, const char *name)
{
	for (size_t i = 0; i < m->n_arms; i++)
		if (!strcmp(m->arms[i].name, name))
			return (int)i;
	return -1;
}

int cvb_model_bench(const struct cvb_model *m, const char *name)
{
	for (size_t i = 0; i < m->n_benches; i++)
		if (!strcmp(m->benches[i].name, name))
			return (int)i;
	return -1;
}

const char *cvb_model_labels(const struct cvb_model_arm *arm, char *buf, size_t buf_bytes)
{
	const char *word[5];
	size_t n = 0, used = 0;

	if (arm->accel && strcmp(arm->accel, "kvm") != 0)
		word[n++] = arm->accel;
	if (arm->emulated)
		word[n++] = "emulated";
	if (arm->bounce)
		word[n++] = "bounce";
	if (arm->tee && strcmp(arm->tee, "none") != 0)
		word[n++] = arm->tee;
	if (arm->deterministic)
		word[n++] = "deterministic";
	buf[0] = '\0';
	for (size_t i = 0; i < n && used < buf_bytes; i++)
		used += (size_t)snprintf(buf + used, buf_bytes - used, "%s%s", i ? ", " : "",
					 word[i]);
	return buf;
}

const char *cvb_model_arm_title(const struct cvb_model_arm *arm, char *buf, size_t buf_bytes)
{
	char labels[160];

	cvb_model_labels(arm, labels, sizeof(labels));
	if (labels[0])
		snprintf(buf, buf_bytes, "%.100s (%s)", arm->name, labels);
	else
		snprintf(buf, buf_bytes, "%.100s", arm->name);
	return buf;
}

static char *param_text(const json_t *value)
{
	if (json_is_string(value))
		return strdup(json_string_value(value));
	if (json_is_integer(value))
		return cvb_strf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
	if (json_is_real(value))
		return cvb_strf("%.10g", json_real_value(value));
	return strdup(json_is_true(value) ? "true" : json_is_false(value) ? "false" : "null");
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void put_params(FILE *f, const json_t *params, const char **names, size_t n)
{
	json_t *own = (json_t *)(uintptr_t)params; /* iterators want it so; it is only read */
	size_t i = 0;

	for (void *it = json_object_iter(own); it && i < n; it = json_object_iter_next(own, it))
		names[i++] = json_object_iter_key(it);
	qsort(names, n, sizeof(*names), compare_keys);
	for (i = 0; i < n; i++) {
		_cleanup_free_ char *v = param_text(json_object_get(params, names[i]));

		fprintf(f, "%s%s=%s", i ? "," : "", names[i], v ? v : "?");
	}
}

char *cvb_model_params_key(const json_t *params)
{
	size_t n = params ? json_object_size(params) : 0, bytes = 0;
	const char **names = calloc(n + 1, sizeof(*names));
	char *text = NULL;
	FILE *f = names ? open_memstream(&text, &bytes) : NULL;

	if (f && n)
		put_params(f, params, names, n);
	free(names);
	if (f && fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return f ? text : NULL;
}

static bool param_matches(const json_t *params, const char *name, const char *wanted)
{
	const json_t *value = json_object_get(params, name);
	_cleanup_free_ char *have = value ? param_text(value) : NULL;
	uint64_t bytes;

	if (!have)
		return false;
	if (!strcmp(have, wanted))
		return true;
	return json_is_integer(value) && cvb_parse_size(wanted, &bytes) == 0 &&
	       json_integer_value(value) >= 0 && (uint64_t)json_integer_value(value) == bytes;
}

static char *trim(char *s)
{
	size_t n;

	s += strspn(s, " \t");
	n = strlen(s);
	while (n && (s[n - 1] == ' ' || s[n - 1] == '\t'))
		s[--n] = '\0';
	return s;
}

/* How many of the wanted values agree with the params, and how many do not: absent ones count as
 * neither where `absent_ok`.  False for a malformed wish. */
static bool compare_params(const json_t *params, const char *wanted, bool absent_ok,
			   unsigned *ret_agree, unsigned *ret_differ)
{
	_cleanup_free_ char *copy = strdup(wanted ? wanted : "");
	char *rest = copy, *item;

	*ret_agree = *ret_differ = 0;
	if (!copy)
		return false;
	while ((item = strsep(&rest, ",")) != NULL) {
		char *value = strchr(item, '='), *name;

		if (!*trim(item))
			continue;
		if (!value)
			return false;
		*value++ = '\0';
		name = trim(item);
		if (absent_ok && !json_object_get(params, name))
			continue;
		if (param_matches(params, name, trim(value)))
			++*ret_agree;
		else
			++*ret_differ;
	}
	return true;
}

bool cvb_model_params_match(const struct cvb_model_series *s, const char *wanted)
{
	unsigned agree, differ;

	return compare_params(s->params, wanted, false, &agree, &differ) && !differ;
}

bool cvb_model_left_out_match(const json_t *params, const char *wanted)
{
	unsigned agree, differ;

	return compare_params(params, wanted, true, &agree, &differ) && agree && !differ;
}
