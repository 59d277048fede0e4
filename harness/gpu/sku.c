/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the models of GPUs (profiles/gpu) and lists them.
 */
#include "gpu/sku.h"

#include "core/file.h"
#include "core/ini.h"
#include "core/opt.h"
#include "core/util.h"
#include "gpu/emu.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

enum {
	IN_OFF = 1,
	IN_ON = 2,
	IN_BOTH = IN_OFF | IN_ON,
	MAX_SKUS = 64,
};

struct row {
	const char *name, *unit;
	int modes;
	double min, max;
};

#define PATHS(p, text, unit, min, max)                                                             \
	[(p)] = {"pinned_h2d_" text, unit, IN_BOTH, min, max},                                     \
	[(p) + 1] = {"pinned_d2h_" text, unit, IN_BOTH, min, max},                                 \
	[(p) + 2] = {"pageable_h2d_" text, unit, IN_BOTH, min, max},                               \
	[(p) + 3] = {"pageable_d2h_" text, unit, IN_BOTH, min, max}
#define DIRS(p, before, after, unit, modes, min, max)                                              \
	[(p)] = {before "_h2d_" after, unit, modes, min, max},                                     \
	[(p) + 1] = {before "_d2h_" after, unit, modes, min, max}

#define NS     "ns", IN_BOTH, 0, 1e10
#define RATE   "bytes_per_s", IN_BOTH, 1e8, 1e14
#define FLOPS  "flops_per_s", IN_BOTH, 1e9, 1e17
#define SWITCH "off_or_on", IN_BOTH, 0, 1

static const struct row rows[CVB_SKU_PARAMS] = {
	PATHS(CVB_SKU_TOLL, "toll", "ns", 0, 1e9),
	PATHS(CVB_SKU_KNEE, "knee", "bytes", 0, 0x1p40),
	PATHS(CVB_SKU_KNEE_COST, "knee_cost", "ns_per_byte", 0, 100),
	PATHS(CVB_SKU_TAIL, "tail", "bytes", 0, 0x1p40),
	PATHS(CVB_SKU_TAIL_COST, "tail_cost", "ns_per_byte", -1, 100),
	DIRS(CVB_SKU_PAGEABLE, "pageable", "bandwidth", "bytes_per_s", IN_BOTH, 1e8, 1e14),
	DIRS(CVB_SKU_PCIE, "pcie", "bandwidth", "bytes_per_s", IN_OFF, 1e8, 1e14),
	DIRS(CVB_SKU_STAGE, "stage", "bandwidth", "bytes_per_s", IN_ON, 1e8, 1e14),
	DIRS(CVB_SKU_THREADS_MAX, "thread_contexts", "max", "bytes_per_s", IN_ON, 1e8, 1e14),
	DIRS(CVB_SKU_THREADS_HALF, "thread_contexts", "half", "contexts", IN_ON, 0, 100),
	DIRS(CVB_SKU_PROCESSES_MAX, "process_contexts", "max", "bytes_per_s", IN_ON, 1e8, 1e14),
	DIRS(CVB_SKU_PROCESSES_HALF, "process_contexts", "half", "contexts", IN_ON, 0, 100),
	[CVB_SKU_GCM] = {"gcm_bandwidth", "bytes_per_s", IN_ON, 1e8, 1e14},
	[CVB_SKU_DUPLEX] = {"duplex_bandwidth", "bytes_per_s", IN_ON, 1e8, 1e14},
	[CVB_SKU_COPY_SUBMIT] = {"copy_submit", "ns", IN_OFF, 0, 1e9},
	[CVB_SKU_PINNED_ALLOC] = {"pinned_alloc", NS},
	[CVB_SKU_PINNED_ALLOC_COST] = {"pinned_alloc_cost", "ns_per_byte", IN_BOTH, 0, 100},
	[CVB_SKU_DEVICE_ALLOC] = {"device_alloc", NS},
	[CVB_SKU_FREE] = {"free", NS},
	[CVB_SKU_PINNED_FREE] = {"pinned_free", NS},
	[CVB_SKU_PINNED_FREE_COST] = {"pinned_free_cost", "ns_per_byte", IN_BOTH, 0, 100},
	[CVB_SKU_D2D_SUBMIT] = {"d2d_submit", NS},
	[CVB_SKU_D2D_FIXED] = {"d2d_fixed", NS},
	[CVB_SKU_HBM] = {"hbm_bandwidth", RATE},
	[CVB_SKU_L2_BYTES] = {"l2_bytes", "bytes", IN_BOTH, 0, 0x1p40},
	[CVB_SKU_L2] = {"l2_bandwidth", RATE},
	[CVB_SKU_LAUNCH] = {"launch", NS},
	[CVB_SKU_LAUNCH_BUSY] = {"launch_busy", NS},
	[CVB_SKU_QUEUE_DELAY] = {"queue_delay", NS},
	[CVB_SKU_QUEUE_GAP] = {"queue_gap", NS},
	[CVB_SKU_KERNEL_FLOOR] = {"kernel_floor", NS},
	[CVB_SKU_GRAPH] = {"graph", NS},
	[CVB_SKU_GRAPH_NODE] = {"graph_node", "ns", IN_BOTH, 0, 1e6},
	[CVB_SKU_WAIT] = {"wait", NS},
	[CVB_SKU_SYNC_IDLE] = {"sync_idle", NS},
	[CVB_SKU_CONTEXT_CREATE] = {"context_create", NS},
	[CVB_SKU_CONTEXT_DESTROY] = {"context_destroy", NS},
	[CVB_SKU_CONTEXT_LIMIT] = {"context_limit", "contexts", IN_BOTH, 1, 1e3},
	[CVB_SKU_PEER] = {"peer_bandwidth", RATE},
	[CVB_SKU_PEER_LATENCY] = {"peer_latency", NS},
	[CVB_SKU_MANAGED_FAULT] = {"managed_fault", "ns", IN_OFF, 0, 1e7},
	[CVB_SKU_MANAGED_MULTIPLIER] = {"managed_multiplier", "ratio", IN_ON, 1, 1e3},
	[CVB_SKU_GEMM + CVB_GPU_FP64] = {"gemm_fp64", FLOPS},
	[CVB_SKU_GEMM + CVB_GPU_FP32] = {"gemm_fp32", FLOPS},
	[CVB_SKU_GEMM + CVB_GPU_TF32] = {"gemm_tf32", FLOPS},
	[CVB_SKU_GEMM + CVB_GPU_BF16] = {"gemm_bf16", FLOPS},
	[CVB_SKU_GEMM + CVB_GPU_FP16] = {"gemm_fp16", FLOPS},
	[CVB_SKU_GEMM + CVB_GPU_FP8] = {"gemm_fp8", FLOPS},
	[CVB_SKU_GEMM + CVB_GPU_INT8] = {"gemm_int8", FLOPS},
	[CVB_SKU_HOST_REGISTER] = {"host_register", SWITCH},
	[CVB_SKU_GPUDIRECT] = {"gpudirect_rdma", SWITCH},
	[CVB_SKU_MULTICAST] = {"multicast", SWITCH},
	[CVB_SKU_TRUSTED_EVENTS] = {"trusted_events", SWITCH},
};

_Static_assert(CVB_GPU_TYPES == 7, "CVB_SKU_GEMM has room for seven types");

static const char *const grades[] = {"unknown", "measured", "second-hand",
				     "derived", "assumed",  NULL};

const char *cvb_sku_param_name(enum cvb_sku_param p)
{
	return rows[p].name;
}

/* ---- one file ---- */

#define HEADER CVB_SKU_PARAMS /* the section [sku] */

/* What a section gave; grade and source may be meant for both modes. */
struct seen {
	bool section, unit;
	bool value[2];
	int grade[3]; /* of off, of on, of both; -1: not given */
	char *source[3];
	unsigned line;
};

struct reader {
	struct cvb_sku *sku;
	unsigned line;
	int section; /* enum cvb_sku_param or HEADER */
	bool has_hbm;
	struct seen seen[CVB_SKU_PARAMS + 1];
	struct cvb_err *err;
};

static const char *section_name(int i)
{
	return i == HEADER ? "sku" : rows[i].name;
}

static int begin_section(void *ctx, const char *header, unsigned line, struct cvb_err *err)
{
	struct reader *rd = ctx;
	const char *names[CVB_SKU_PARAMS + 2] = {NULL};

	rd->line = line;
	for (int i = 0; i <= CVB_SKU_PARAMS; i++) {
		names[i] = section_name(i);
		if (strcmp(names[i], header) != 0)
			continue;
		rd->seen[i] = (struct seen){.section = true, .grade = {-1, -1, -1}};
		rd->seen[i].line = line;
		rd->section = i;
		return 0;
	}
	return cvb_ini_unknown("section", header, names, err);
}

static int set_text(struct reader *rd, char **field, const char *key, const char *value)
{
	if (!*value)
		return cvb_err_set(rd->err, -EINVAL, "%s is empty", key);
	*field = strdup(value);
	return *field ? 0 : cvb_err_set(rd->err, -ENOMEM, "out of memory");
}

static int set_header(struct reader *rd, const char *key, const char *value)
{
	static const char *const keys[] = {"name",   "gpu",	  "tee",     "cpu",
					   "driver", "hbm_bytes", "summary", NULL};
	struct cvb_sku *s = rd->sku;
	const struct {
		const char *key;
		char **field;
	} texts[] = {{"name", &s->name}, {"gpu", &s->gpu},	 {"tee", &s->tee},
		     {"cpu", &s->cpu},	 {"driver", &s->driver}, {"summary", &s->summary}};

	for (size_t i = 0; i < CVB_ARRAY_LEN(texts); i++)
		if (!strcmp(texts[i].key, key))
			return set_text(rd, texts[i].field, key, value);
	if (strcmp(key, "hbm_bytes") != 0)
		return cvb_ini_unknown("key", key, keys, rd->err);
	rd->has_hbm = true;
	if (cvb_parse_size(value, &s->hbm_bytes) < 0 || s->hbm_bytes < CVB_GIB ||
	    s->hbm_bytes > 1024 * CVB_GIB)
		return cvb_err_set(rd->err, -EINVAL, "hbm_bytes = %s: 1GiB to 1024GiB is right",
				   value);
	return 0;
}

static int set_value(struct reader *rd, const struct row *row, int mode, const char *key,
		     const char *value)
{
	struct cvb_sku_value *v = &rd->sku->v[mode][rd->section];
	bool is_switch = !strcmp(row->unit, "off_or_on");
	char *end;

	if (!(row->modes & (mode ? IN_ON : IN_OFF)))
		return cvb_err_set(rd->err, -EINVAL, "%s has no value for cc=%s", row->name, key);
	rd->seen[rd->section].value[mode] = true;
	if (!strcmp(value, "unknown"))
		return 0;
	v->grade = CVB_SKU_ASSUMED; /* known; the grade itself is set at the end */
	if (is_switch) {
		v->value = !strcmp(value, "on");
		return v->value > 0 || !strcmp(value, "off")
			       ? 0
			       : cvb_err_set(rd->err, -EINVAL,
					     "%s = %s: off, on or unknown is right", key, value);
	}
	v->value = strtod(value, &end);
	/* not a hexadecimal number, inf or nan, which strtod takes too */
	if (end == value || *end || strspn(value, "0123456789.eE+-") != strlen(value))
		return cvb_err_set(rd->err, -EINVAL, "%s = %s is no number and not unknown", key,
				   value);
	if (!(v->value >= row->min && v->value <= row->max))
		return cvb_err_set(rd->err, -EINVAL, "%s = %s: %g to %g %s is right", key, value,
				   row->min, row->max, row->unit);
	return 0;
}

static int set_grade(struct reader *rd, int which, const char *key, const char *value)
{
	struct seen *s = &rd->seen[rd->section];

	for (int i = CVB_SKU_MEASURED; grades[i]; i++) {
		if (!strcmp(grades[i], value)) {
			s->grade[which] = i;
			return 0;
		}
	}
	return cvb_err_set(rd->err, -EINVAL,
			   "%s = %s: measured, second-hand, derived or assumed is right", key,
			   value);
}

static int set_param(struct reader *rd, const char *key, const char *value)
{
	static const char *const keys[] = {"unit",	"off",	    "on",     "grade",
					   "off_grade", "on_grade", "source", "off_source",
					   "on_source", NULL};
	const struct row *row = &rows[rd->section];
	struct seen *s = &rd->seen[rd->section];

	if (!strcmp(key, "unit")) {
		s->unit = true;
		return strcmp(value, row->unit) == 0
			       ? 0
			       : cvb_err_set(rd->err, -EINVAL, "unit = %s: %s is right", value,
					     row->unit);
	}
	if (!strcmp(key, "off") || !strcmp(key, "on"))
		return set_value(rd, row, key[1] == 'n', key, value);

	const char *word = strchr(key, '_');
	int which = !word ? 2 : !strncmp(key, "off_", 4) ? 0 : !strncmp(key, "on_", 3) ? 1 : -1;

	word = word ? word + 1 : key;
	if (which >= 0 && !strcmp(word, "grade"))
		return set_grade(rd, which, key, value);
	if (which >= 0 && !strcmp(word, "source"))
		return set_text(rd, &s->source[which], key, value);
	return cvb_ini_unknown("key", key, keys, rd->err);
}

static int set_key(void *ctx, const char *key, const char *value, unsigned line,
		   struct cvb_err *err)
{
	struct reader *rd = ctx;

	(void)err; /* the reader has it too */
	rd->line = line;
	return rd->section == HEADER ? set_header(rd, key, value) : set_param(rd, key, value);
}

/* Grade and source of one value, once its section is whole. */
static int finish_value(struct reader *rd, int p, int mode)
{
	static const char *const words[] = {"off", "on"};
	struct seen *s = &rd->seen[p];
	struct cvb_sku_value *v = &rd->sku->v[mode][p];
	int grade = s->grade[mode] >= 0 ? s->grade[mode] : s->grade[2];
	const char *source = s->source[mode] ? s->source[mode] : s->source[2];

	rd->line = s->line;
	if (!(rows[p].modes & (mode ? IN_ON : IN_OFF)))
		return 0;
	if (!s->value[mode])
		return cvb_err_set(rd->err, -EINVAL, "[%s]: %s is missing", rows[p].name,
				   words[mode]);
	if (v->grade != CVB_SKU_UNKNOWN && (grade < 0 || !source))
		return cvb_err_set(rd->err, -EINVAL, "[%s]: %s has no %s", rows[p].name,
				   words[mode], grade < 0 ? "grade" : "source");
	if (v->grade != CVB_SKU_UNKNOWN)
		v->grade = (enum cvb_sku_grade)grade;
	if (source) {
		v->source = strdup(source);
		if (!v->source)
			return cvb_err_set(rd->err, -ENOMEM, "out of memory");
	}
	return 0;
}

static int finish(struct reader *rd)
{
	const struct cvb_sku *s = rd->sku;
	const struct {
		const char *key;
		bool there;
	} header[] = {{"name", s->name},	 {"gpu", s->gpu},	{"tee", s->tee},
		      {"cpu", s->cpu},		 {"driver", s->driver}, {"summary", s->summary},
		      {"hbm_bytes", rd->has_hbm}};

	for (int p = 0; p < CVB_SKU_PARAMS; p++) {
		if (!rd->seen[p].section)
			return cvb_err_set(rd->err, -EINVAL, "[%s] is missing", rows[p].name);
		rd->line = rd->seen[p].line;
		if (!rd->seen[p].unit)
			return cvb_err_set(rd->err, -EINVAL, "[%s]: unit is missing", rows[p].name);
		for (int mode = 0; mode < 2; mode++) {
			int r = finish_value(rd, p, mode);

			if (r < 0)
				return r;
		}
	}
	rd->line = cvb_max(rd->seen[HEADER].line, 1U);
	for (size_t i = 0; i < CVB_ARRAY_LEN(header); i++)
		if (!header[i].there)
			return cvb_err_set(rd->err, -EINVAL, "[sku]: %s is missing", header[i].key);
	int p = 0, r = cvb_sku_check(s, &p, rd->err);

	rd->line = r < 0 ? rd->seen[p].line : rd->line;
	return r < 0 ? cvb_err_wrap(rd->err, r, "[%s]", rows[p].name) : 0;
}

int cvb_sku_parse(const char *text, const char *path, struct cvb_sku **ret, struct cvb_err *err)
{
	static const struct cvb_ini_ops ops = {.section = begin_section, .key = set_key};
	struct reader rd = {.line = 1, .err = err};
	int r;

	rd.sku = calloc(1, sizeof(*rd.sku));
	if (!rd.sku)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cvb_ini_parse(text, path, &ops, &rd, err);
	if (r == 0) {
		r = finish(&rd);
		if (r < 0)
			cvb_err_wrap(err, r, "%s:%u", path, rd.line);
	}
	for (int i = 0; i < CVB_SKU_PARAMS; i++)
		for (int j = 0; j < 3; j++)
			free(rd.seen[i].source[j]);
	if (r < 0) {
		cvb_sku_free(rd.sku);
		return r;
	}
	*ret = rd.sku;
	return 0;
}

int cvb_sku_load(const char *name, struct cvb_sku **ret, struct cvb_err *err)
{
	_cleanup_free_ char *file = cvb_strf("profiles/gpu/%s.ini", name);
	_cleanup_free_ char *path = file ? cvb_data_path(file, err) : NULL;
	_cleanup_free_ char *text = NULL;
	int r;

	if (!path)
		return -ENOENT;
	r = cvb_ini_read(path, /* follow= */ true, &text, err);
	if (r < 0)
		return r;
	r = cvb_sku_parse(text, path, ret, err);
	if (r == 0 && strcmp((*ret)->name, name) != 0) {
		r = cvb_err_set(err, -EINVAL, "%s: [sku]: name = %s is not the file's name", path,
				(*ret)->name);
		*ret = cvb_sku_free(*ret);
	}
	return r;
}

struct cvb_sku *cvb_sku_free(struct cvb_sku *sku)
{
	if (!sku)
		return NULL;
	for (int mode = 0; mode < 2; mode++)
		for (int p = 0; p < CVB_SKU_PARAMS; p++)
			free(sku->v[mode][p].source);
	free(sku->name);
	free(sku->gpu);
	free(sku->tee);
	free(sku->cpu);
	free(sku->driver);
	free(sku->summary);
	free(sku);
	return NULL;
}

/* ---- the folder ---- */

static pthread_once_t names_once = PTHREAD_ONCE_INIT;
static char name_text[MAX_SKUS][64];
static const char *names[MAX_SKUS + 1];

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void read_names(void)
{
	_cleanup_free_ char *path = cvb_data_path("profiles/gpu", /* err= */ NULL);
	DIR *dir = path ? opendir(path) : NULL;
	struct dirent *e;
	size_t n = 0;

	while (dir && n < MAX_SKUS && (e = readdir(dir))) {
		size_t len = strlen(e->d_name);

		if (!isalnum((unsigned char)e->d_name[0]) || len <= 4 ||
		    len - 4 >= sizeof(name_text[0]) || strcmp(e->d_name + len - 4, ".ini") != 0)
			continue;
		snprintf(name_text[n], sizeof(name_text[n]), "%.*s", (int)(len - 4), e->d_name);
		names[n] = name_text[n];
		n++;
	}
	if (dir)
		closedir(dir);
	qsort(names, n, sizeof(names[0]), by_text);
}

const char *const *cvb_sku_names(void)
{
	pthread_once(&names_once, read_names);
	return names;
}

const char *emu_sku_find(const char *name, struct cvb_err *err)
{
	const char *const *all = cvb_sku_names();
	char list[256] = "";
	size_t used = 0;

	for (size_t i = 0; all[i]; i++) {
		if (!strcmp(all[i], name))
			return all[i];
		int w = snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", all[i]);

		used = cvb_min(used + (size_t)cvb_max(w, 0), sizeof(list) - 1);
	}
	if (!all[0]) {
		cvb_err_set(err, -EINVAL,
			    "unknown GPU SKU \"%s\": no folder profiles/gpu with models of GPUs "
			    "(set CVMBENCH_DATADIR)",
			    name);
		return NULL;
	}
	const char *near = cvb_nearest(name, all);

	if (near)
		cvb_err_set(err, -EINVAL, "unknown GPU SKU \"%s\"; did you mean %s?", name, near);
	else
		cvb_err_set(err, -EINVAL, "unknown GPU SKU \"%s\"; there are %s", name, list);
	return NULL;
}

/* ---- JSON ---- */

static json_t *value_json(const struct row *row, const struct cvb_sku_value *v)
{
	bool is_switch = !strcmp(row->unit, "off_or_on");
	json_t *value = v->grade == CVB_SKU_UNKNOWN ? json_null()
			: is_switch		    ? json_boolean(v->value > 0)
						    : json_real(v->value);

	return json_pack("{s:o,s:s,s:s?}", "value", value, "grade", grades[v->grade], "source",
			 v->source);
}

json_t *cvb_sku_to_json(const struct cvb_sku *sku)
{
	_cleanup_json_ json_t *params = json_array();
	json_t *doc;

	for (int p = 0; p < CVB_SKU_PARAMS; p++) {
		json_t *row = json_pack("{s:s,s:s}", "name", rows[p].name, "unit", rows[p].unit);

		for (int mode = 0; mode < 2; mode++)
			if (rows[p].modes & (mode ? IN_ON : IN_OFF))
				json_object_set_new(row, mode ? "on" : "off",
						    value_json(&rows[p], &sku->v[mode][p]));
		if (json_array_append_new(params, row) < 0)
			return NULL;
	}
	doc = json_pack("{s:s,s:s,s:s,s:s,s:s,s:I,s:s,s:O}", "name", sku->name, "gpu", sku->gpu,
			"tee", sku->tee, "cpu", sku->cpu, "driver", sku->driver, "hbm_bytes",
			(json_int_t)sku->hbm_bytes, "summary", sku->summary, "parameters", params);
	return doc;
}

json_t *cvb_gpu_list_skus(void)
{
	_cleanup_json_ json_t *list = json_array();
	const char *const *all = cvb_sku_names();

	for (size_t i = 0; all[i]; i++) {
		struct cvb_sku *sku = NULL;
		struct cvb_err err = {0};
		json_t *row;

		if (cvb_sku_load(all[i], &sku, &err) < 0) {
			char why[1024];

			cvb_err_text(&err, why, sizeof(why));
			row = json_pack("{s:s,s:s}", "name", all[i], "error", why);
		} else {
			row = cvb_sku_to_json(sku);
			cvb_sku_free(sku);
		}
		if (json_array_append_new(list, row) < 0)
			return NULL;
	}
	return CVB_TAKE(list);
}
