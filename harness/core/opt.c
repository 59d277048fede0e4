/* SPDX-License-Identifier: Apache-2.0 */
#include "core/opt.h"

#include "core/util.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <strings.h>

static void *field(void *conf, const struct cvb_opt *o)
{
	return (char *)conf + o->offset;
}

static const void *cfield(const void *conf, const struct cvb_opt *o)
{
	return (const char *)conf + o->offset;
}

int cvb_parse_size(const char *text, uint64_t *ret_bytes)
{
	static const struct {
		const char *suffix;
		unsigned shift;
	} suffixes[] = {{"", 0},     {"B", 0},	{"K", 10},   {"KiB", 10}, {"M", 20},
			{"MiB", 20}, {"G", 30}, {"GiB", 30}, {"T", 40},	  {"TiB", 40}};
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);

	if (errno)
		return -EINVAL;
	while (*end == ' ')
		end++;
	for (size_t i = 0; i < CVB_ARRAY_LEN(suffixes); i++) {
		if (strcasecmp(end, suffixes[i].suffix) != 0)
			continue;
		if (v > (UINT64_MAX >> suffixes[i].shift))
			return -EINVAL;
		*ret_bytes = (uint64_t)v << suffixes[i].shift;
		return 0;
	}
	return -EINVAL;
}

static int parse_bool(const char *text, bool *ret)
{
	static const char *const yes[] = {"on", "yes", "true", "1"};
	static const char *const no[] = {"off", "no", "false", "0"};

	for (size_t i = 0; i < CVB_ARRAY_LEN(yes); i++) {
		if (!strcasecmp(text, yes[i])) {
			*ret = true;
			return 0;
		}
		if (!strcasecmp(text, no[i])) {
			*ret = false;
			return 0;
		}
	}
	return -EINVAL;
}

static bool has_range(const struct cvb_opt *o)
{
	return o->min < 0 || o->min > 0 || o->max < 0 || o->max > 0;
}

static int check_range(const struct cvb_opt *o, const char *key, const char *text, double v,
		       struct cvb_err *err)
{
	char lo[32], hi[32];

	if (!has_range(o) || (v >= o->min && v <= o->max))
		return 0;
	if (o->type == CVB_OPT_SIZE) {
		cvb_bytes_text((uint64_t)o->min, lo, sizeof(lo));
		cvb_bytes_text((uint64_t)o->max, hi, sizeof(hi));
	} else {
		snprintf(lo, sizeof(lo), "%.15g", o->min);
		snprintf(hi, sizeof(hi), "%.15g", o->max);
	}
	bool unit = o->unit && o->type != CVB_OPT_SIZE;

	return cvb_err_set(err, -EINVAL, "%s = %s is out of range: expected %s to %s%s%s", key,
			   text, lo, hi, unit ? " " : "", unit ? o->unit : "");
}

static int set_choice(const struct cvb_opt *o, int *ret, const char *key, const char *value,
		      struct cvb_err *err)
{
	char list[256] = "";
	size_t used = 0;

	for (int i = 0; o->choices[i]; i++) {
		if (!strcmp(o->choices[i], value)) {
			*ret = i;
			return 0;
		}
		int n = snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "",
				 o->choices[i]);

		used = cvb_min(used + (size_t)cvb_max(n, 0), sizeof(list) - 1);
	}
	return cvb_err_set(err, -EINVAL, "%s = %s: expected one of %s", key, value, list);
}

static int list_add(char ***list, const char *value)
{
	size_t n = 0;

	while (*list && (*list)[n])
		n++;
	char **bigger = realloc(*list, (n + 2) * sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	*list = bigger;
	bigger[n] = strdup(value);
	if (!bigger[n])
		return -ENOMEM;
	bigger[n + 1] = NULL;
	return 0;
}

static int set_u64(const struct cvb_opt *o, uint64_t *ret, const char *key, const char *value,
		   struct cvb_err *err)
{
	uint64_t v = 0;

	if (o->type == CVB_OPT_SIZE) {
		if (cvb_parse_size(value, &v) < 0)
			return cvb_err_set(err, -EINVAL,
					   "%s = %s: expected a size such as 4096, 64KiB or 1GiB",
					   key, value);
	} else {
		char *end;

		errno = 0;
		v = strtoull(value, &end, 10);
		if (errno || !isdigit((unsigned char)*value) || *end)
			return cvb_err_set(err, -EINVAL, "%s = %s: expected a whole number%s%s%s",
					   key, value, o->unit ? " (" : "", o->unit ? o->unit : "",
					   o->unit ? ")" : "");
	}
	int r = check_range(o, key, value, (double)v, err);

	if (r == 0)
		*ret = v;
	return r;
}

static int set_double(const struct cvb_opt *o, double *ret, const char *key, const char *value,
		      struct cvb_err *err)
{
	char *end;
	double v = strtod(value, &end);

	if (end == value || *end || !isfinite(v) || strpbrk(value, "xX"))
		return cvb_err_set(err, -EINVAL, "%s = %s: expected a number", key, value);
	int r = check_range(o, key, value, v, err);

	if (r == 0)
		*ret = v;
	return r;
}

static int set_value(const struct cvb_opt *o, void *conf, const char *key, const char *value,
		     struct cvb_err *err)
{
	void *f = field(conf, o);
	char *copy;

	switch (o->type) {
	case CVB_OPT_FLAG:
		if (parse_bool(value, f) < 0)
			return cvb_err_set(err, -EINVAL, "%s = %s: expected on or off", key, value);
		return 0;
	case CVB_OPT_U64:
	case CVB_OPT_SIZE:
		return set_u64(o, f, key, value, err);
	case CVB_OPT_DOUBLE:
		return set_double(o, f, key, value, err);
	case CVB_OPT_STR:
		copy = strdup(value);
		if (!copy)
			return cvb_err_set(err, -ENOMEM, "out of memory");
		free(*(char **)f);
		*(char **)f = copy;
		return 0;
	case CVB_OPT_CHOICE:
		return set_choice(o, f, key, value, err);
	case CVB_OPT_LIST:
		if (list_add(f, value) < 0)
			return cvb_err_set(err, -ENOMEM, "out of memory");
		return 0;
	}
	CVB_BUG_ON(true);
	return -EINVAL;
}

int cvb_opts_defaults(const struct cvb_opt *table, void *conf, struct cvb_err *err)
{
	for (const struct cvb_opt *o = table; o && o->name; o++) {
		int r = o->def ? set_value(o, conf, o->name, o->def, err) : 0;

		if (r < 0)
			return cvb_err_wrap(err, r, "in the default of option %s", o->name);
	}
	return 0;
}

const struct cvb_opt *cvb_opt_find(const struct cvb_opt *table, const char *key)
{
	for (const struct cvb_opt *o = table; o && o->name; o++)
		if (!strcmp(o->name, key))
			return o;
	return NULL;
}

/* Levenshtein distance, for words of up to 63 letters. */
static unsigned distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	unsigned row[64];

	if (la > 63 || lb > 63)
		return 99;
	for (unsigned j = 0; j <= lb; j++)
		row[j] = j;
	for (size_t i = 1; i <= la; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned cost = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = cvb_min(cost, cvb_min(row[j], row[j - 1]) + 1);
		}
	}
	return row[lb];
}

const char *cvb_nearest(const char *word, const char *const *names)
{
	const char *best = NULL;
	unsigned best_distance = 3; /* more than two edits away is another word */

	for (size_t i = 0; names[i]; i++) {
		unsigned d = distance(word, names[i]);

		if (d < best_distance && d < strlen(names[i])) {
			best_distance = d;
			best = names[i];
		}
	}
	return best;
}

static int unknown(const struct cvb_opt *table, const char *key, const char *dashes,
		   struct cvb_err *err)
{
	const char *names[64];
	char list[256] = "";
	size_t n = 0, used = 0;

	for (const struct cvb_opt *o = table; o && o->name && n + 1 < CVB_ARRAY_LEN(names); o++) {
		names[n++] = o->name;
		int w = snprintf(list + used, sizeof(list) - used, "%s%s", n > 1 ? ", " : "",
				 o->name);

		used = cvb_min(used + (size_t)cvb_max(w, 0), sizeof(list) - 1);
	}
	names[n] = NULL;
	const char *near = cvb_nearest(key, names);

	if (near)
		return cvb_err_set(err, -EINVAL, "unknown option %s%s; did you mean %s%s?", dashes,
				   key, dashes, near);
	return cvb_err_set(err, -EINVAL, "unknown option %s%s; there %s %s", dashes, key,
			   n == 1 ? "is" : "are", n ? list : "none");
}

int cvb_opt_set(const struct cvb_opt *table, void *conf, const char *key, const char *value,
		struct cvb_err *err)
{
	const struct cvb_opt *o = cvb_opt_find(table, key);

	if (!o)
		return unknown(table, key, "", err);
	return set_value(o, conf, key, value, err);
}

static const struct cvb_opt *find_letter(const struct cvb_opt *table, char letter)
{
	for (const struct cvb_opt *o = table; o && o->name; o++)
		if (o->letter && o->letter == letter)
			return o;
	return NULL;
}

struct parse {
	const struct cvb_opt *table;
	void *conf;
	int argc;
	char **argv;
	int at;
};

static int apply(struct parse *p, const struct cvb_opt *o, const char *shown, const char *value,
		 struct cvb_err *err)
{
	if (o->type == CVB_OPT_FLAG)
		return set_value(o, p->conf, shown, value ? value : "on", err);
	if (!value) {
		if (p->at + 1 >= p->argc)
			return cvb_err_set(err, -EINVAL, "option %s needs a value%s%s", shown,
					   o->arg ? ": " : "", o->arg ? o->arg : "");
		value = p->argv[++p->at];
	}
	return set_value(o, p->conf, shown, value, err);
}

static int parse_long(struct parse *p, const char *arg, struct cvb_err *err)
{
	const char *eq = strchr(arg, '=');
	char name[64], shown[68];
	size_t len = eq ? (size_t)(eq - arg) : strlen(arg);

	snprintf(name, sizeof(name), "%.*s", (int)cvb_min(len, sizeof(name) - 1), arg);
	snprintf(shown, sizeof(shown), "--%s", name);
	const struct cvb_opt *o = cvb_opt_find(p->table, name);

	if (!o)
		return unknown(p->table, name, "--", err);
	return apply(p, o, shown, eq ? eq + 1 : NULL, err);
}

static int parse_short(struct parse *p, const char *arg, struct cvb_err *err)
{
	char shown[3] = {'-', arg[0], '\0'};
	const struct cvb_opt *o = find_letter(p->table, arg[0]);

	if (!o)
		return cvb_err_set(err, -EINVAL, "unknown option -%c; see --help", arg[0]);
	if (o->type == CVB_OPT_FLAG && arg[1])
		return cvb_err_set(err, -EINVAL, "option %s takes no value", shown);
	return apply(p, o, shown, arg[1] ? arg + 1 : NULL, err);
}

int cvb_opts_parse(const struct cvb_opt *table, void *conf, int argc, char **argv,
		   bool stop_at_first, char **positional, int *ret_positionals, struct cvb_err *err)
{
	struct parse p = {.table = table, .conf = conf, .argc = argc, .argv = argv};
	bool only_positional = false;
	int n = 0, r;

	for (; p.at < argc; p.at++) {
		char *arg = argv[p.at];

		if (only_positional || arg[0] != '-' || !arg[1]) {
			positional[n++] = arg;
			if (stop_at_first)
				only_positional = true;
			continue;
		}
		if (!strcmp(arg, "--")) {
			only_positional = true;
			continue;
		}
		r = arg[1] == '-' ? parse_long(&p, arg + 2, err) : parse_short(&p, arg + 1, err);
		if (r < 0)
			return r;
	}
	*ret_positionals = n;
	return 0;
}

void cvb_opts_done(const struct cvb_opt *table, void *conf)
{
	for (const struct cvb_opt *o = table; o && o->name; o++) {
		void *f = field(conf, o);

		if (o->type == CVB_OPT_STR) {
			free(*(char **)f);
			*(char **)f = NULL;
		} else if (o->type == CVB_OPT_LIST) {
			char **list = *(char ***)f;

			for (size_t i = 0; list && list[i]; i++)
				free(list[i]);
			free(list);
			*(char ***)f = NULL;
		}
	}
}

static json_t *value_json(const struct cvb_opt *o, const void *conf)
{
	const void *f = cfield(conf, o);
	json_t *list;

	switch (o->type) {
	case CVB_OPT_FLAG:
		return json_boolean(*(const bool *)f);
	case CVB_OPT_U64:
	case CVB_OPT_SIZE:
		return json_integer((json_int_t) * (const uint64_t *)f);
	case CVB_OPT_DOUBLE:
		return json_real(*(const double *)f);
	case CVB_OPT_STR:
		return *(char *const *)f ? json_string(*(char *const *)f) : json_null();
	case CVB_OPT_CHOICE:
		return json_string(o->choices[*(const int *)f]);
	case CVB_OPT_LIST:
		list = json_array();
		for (char *const *s = *(char **const *)f; s && *s; s++)
			json_array_append_new(list, json_string(*s));
		return list;
	}
	return json_null();
}

json_t *cvb_opts_to_json(const struct cvb_opt *table, const void *conf)
{
	json_t *obj = json_object();

	for (const struct cvb_opt *o = table; o && o->name; o++)
		json_object_set_new(obj, o->name, value_json(o, conf));
	return obj;
}

static const char *type_name(enum cvb_opt_type type)
{
	switch (type) {
	case CVB_OPT_FLAG:
		return "on|off";
	case CVB_OPT_U64:
		return "count";
	case CVB_OPT_SIZE:
		return "size";
	case CVB_OPT_DOUBLE:
		return "number";
	case CVB_OPT_STR:
		return "text";
	case CVB_OPT_CHOICE:
		return "choice";
	case CVB_OPT_LIST:
		return "list";
	}
	return "?";
}

json_t *cvb_opts_describe(const struct cvb_opt *table)
{
	json_t *list = json_array();

	for (const struct cvb_opt *o = table; o && o->name; o++) {
		json_t *row = json_pack("{s:s, s:s, s:s?, s:s?, s:s}", "name", o->name, "type",
					type_name(o->type), "default", o->def, "unit", o->unit,
					"help", o->help);

		if (has_range(o)) {
			json_object_set_new(row, "min", json_real(o->min));
			json_object_set_new(row, "max", json_real(o->max));
		}
		if (o->choices) {
			json_t *choices = json_array();

			for (size_t i = 0; o->choices[i]; i++)
				json_array_append_new(choices, json_string(o->choices[i]));
			json_object_set_new(row, "choices", choices);
		}
		json_array_append_new(list, row);
	}
	return list;
}

static const char *placeholder(const struct cvb_opt *o)
{
	if (o->arg)
		return o->arg;
	switch (o->type) {
	case CVB_OPT_SIZE:
		return "SIZE";
	case CVB_OPT_U64:
	case CVB_OPT_DOUBLE:
		return "N";
	case CVB_OPT_CHOICE:
		return "WORD";
	default:
		return "TEXT";
	}
}

/* Columns of UTF-8 text without wide or combining characters. */
static int columns_of(const char *text, size_t bytes)
{
	int n = 0;

	for (size_t i = 0; i < bytes; i++)
		n += ((unsigned char)text[i] & 0xc0) != 0x80;
	return n;
}

/* Help text wrapped to 79 columns at `indent`. */
static void wrap(FILE *out, const char *text, int indent)
{
	int col = indent;

	while (*text) {
		int len = (int)strcspn(text, " "), columns = columns_of(text, (size_t)len);

		if (col > indent && col + 1 + columns > 79) {
			fprintf(out, "\n%*s", indent, "");
			col = indent;
		}
		if (col > indent) {
			fputc(' ', out);
			col++;
		}
		fprintf(out, "%.*s", len, text);
		col += columns;
		text += len;
		while (*text == ' ')
			text++;
	}
	fputc('\n', out);
}

void cvb_opts_help(FILE *out, const struct cvb_opt *table, bool dashes)
{
	for (const struct cvb_opt *o = table; o && o->name; o++) {
		char left[80], right[512];
		size_t used;

		if (!dashes)
			snprintf(left, sizeof(left), "  %s=%s", o->name, placeholder(o));
		else if (o->letter)
			snprintf(left, sizeof(left), "  -%c, --%s%s%s", o->letter, o->name,
				 o->type == CVB_OPT_FLAG ? "" : " ",
				 o->type == CVB_OPT_FLAG ? "" : placeholder(o));
		else
			snprintf(left, sizeof(left), "      --%s%s%s", o->name,
				 o->type == CVB_OPT_FLAG ? "" : " ",
				 o->type == CVB_OPT_FLAG ? "" : placeholder(o));
		used = (size_t)snprintf(right, sizeof(right), "%s", o->help);
		used = cvb_min(used, sizeof(right) - 1);
		if (o->choices) {
			for (size_t i = 0; o->choices[i] && used < sizeof(right); i++)
				used += (size_t)snprintf(right + used, sizeof(right) - used, "%s%s",
							 i ? "|" : "; ", o->choices[i]);
			used = cvb_min(used, sizeof(right) - 1);
		}
		if (o->def && *o->def && !(o->type == CVB_OPT_FLAG && dashes))
			snprintf(right + used, sizeof(right) - used, " [%s%s%s]", o->def,
				 o->unit && o->type != CVB_OPT_SIZE ? " " : "",
				 o->unit && o->type != CVB_OPT_SIZE ? o->unit : "");
		int columns = columns_of(left, strlen(left));

		if (columns > 25)
			fprintf(out, "%s\n%28s", left, "");
		else
			fprintf(out, "%s%*s", left, 28 - columns, "");
		wrap(out, right, 28);
	}
}
