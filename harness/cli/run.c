/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/progress.h"
#include "cli/verb.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "core/util.h"
#include "machine/fingerprint.h"
#include "measure/runner.h"
#include "stats/describe.h"
#include "stats/steady.h"
#include "target/peer.h"
#include "target/target.h"

#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

struct conf {
	struct cvb_common common;
	char *target;
	char *gpu;
	char **set;
	char *output;
	bool json;
	uint64_t samples;
	uint64_t sample_ms;
	uint64_t threads;
	uint64_t timeout_s;
};

#define AT(f) offsetof(struct conf, f)

static const struct cvb_opt opts[] = {
	{.name = "target",
	 .letter = 't',
	 .type = CVB_OPT_STR,
	 .offset = AT(target),
	 .def = "local",
	 .arg = "TARGET",
	 .help = "where to run: local, or qemu[,key=value]… for a guest started for this run (keys "
		 "are those of a profile's arm, such as memory=1GiB,bounce=on)"},
	{.name = "gpu",
	 .letter = 'g',
	 .type = CVB_OPT_STR,
	 .offset = AT(gpu),
	 .arg = "GPU",
	 .help = "GPU for the gpu.* and llm.* benchmarks: cuda[:N] or "
		 "emu:SKU[,cc=on|off][,clock=wall|virtual] (`list skus` names them); trace: or "
		 "fault[:KIND=WHICH/ACTION]: before it"},
	{.name = "set",
	 .letter = 's',
	 .type = CVB_OPT_LIST,
	 .offset = AT(set),
	 .arg = "KEY=VALUE",
	 .help = "set an option of every chosen benchmark that has it; BENCH.KEY=VALUE sets one "
		 "benchmark's only (repeatable)"},
	{.name = "output",
	 .letter = 'o',
	 .type = CVB_OPT_STR,
	 .offset = AT(output),
	 .arg = "FILE",
	 .help = "write the result document here"},
	{.name = "json",
	 .type = CVB_OPT_FLAG,
	 .offset = AT(json),
	 .help = "print the result document instead of the table"},
	{.name = "samples",
	 .letter = 'n',
	 .type = CVB_OPT_U64,
	 .offset = AT(samples),
	 .def = "0",
	 .min = 0,
	 .max = 100000,
	 .help = "samples to take; 0 means 5, or 1 where a program such as fio keeps the time"},
	{.name = "sample-ms",
	 .type = CVB_OPT_U64,
	 .offset = AT(sample_ms),
	 .def = "20",
	 .min = 1,
	 .max = 60000,
	 .unit = "ms",
	 .help = "wanted length of a sample"},
	{.name = "threads",
	 .type = CVB_OPT_U64,
	 .offset = AT(threads),
	 .def = "0",
	 .min = 0,
	 .max = 1024,
	 .help = "worker threads; 0 means one for each CPU"},
	{.name = "timeout",
	 .type = CVB_OPT_U64,
	 .offset = AT(timeout_s),
	 .def = "600",
	 .min = 1,
	 .max = 86400,
	 .unit = "s",
	 .help = "give up on a sample after this time"},
	CVB_COMMON_OPTS,
	CVB_OPT_END,
};

#define MAX_BENCHES 64

struct job {
	const struct conf *conf;
	struct cvb_target *target;
	struct cvb_arm arm; /* what -t and -g ask for */
	const struct cvb_bench *bench[MAX_BENCHES];
	json_t *options[MAX_BENCHES];
	size_t n, current; /* index of the one that runs */
	json_t *results;
	bool any_ok, any_failed, any_untrusted;
};

/* Before anything is measured: what could not be written would be lost.  "-", links, devices and
 * pipes are left to cvb_json_output. */
static int check_output(const char *path, struct cvb_err *err)
{
	_cleanup_free_ char *copy = strdup(path);
	struct stat st;

	if (!copy)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (lstat(path, &st) == 0)
		return S_ISDIR(st.st_mode)
			       ? cvb_err_set(err, -EINVAL, "cannot write %s: it is a folder", path)
			       : 0;
	if (strcmp(path, "-") && access(dirname(copy), W_OK) < 0)
		return cvb_err_set(err, -errno, "cannot write %s: %s", path, strerror(errno));
	return 0;
}

/* --- command line ----------------------------------------------------------------------------- */

static int choose(struct job *job, const char *list, struct cvb_err *err)
{
	_cleanup_free_ char *copy = strdup(list);
	char *save = NULL;

	for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		const struct cvb_bench *b = cvb_bench_find(w, err);

		if (!b)
			return -EINVAL;
		if (job->n == MAX_BENCHES)
			return cvb_err_set(err, -EINVAL, "more than %d benchmarks", MAX_BENCHES);
		job->options[job->n] = json_object();
		job->bench[job->n++] = b;
	}
	return job->n ? 0 : cvb_err_set(err, -EINVAL, "no benchmark named");
}

/* Check a value against the benchmark's table now, before anything boots. */
static int check_option(const struct cvb_bench *b, const char *key, const char *value,
			struct cvb_err *err)
{
	_cleanup_free_ void *conf = calloc(1, b->conf_size ? b->conf_size : 1);
	int r;

	if (!conf)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cvb_opt_set(b->opts, conf, key, value, err);
	cvb_opts_done(b->opts, conf);
	return r < 0 ? cvb_err_wrap(err, r, "%s", b->name) : 0;
}

static int apply_set(struct job *job, const char *setting, struct cvb_err *err)
{
	_cleanup_free_ char *key = strdup(setting);
	char *eq = key ? strchr(key, '=') : NULL, *dot;
	const char *option = key;
	bool used = false;

	if (!eq || eq == key)
		return cvb_err_set(err, -EINVAL, "-s %s: expected KEY=VALUE", setting);
	*eq = '\0';
	dot = strrchr(key, '.');
	if (dot)
		option = dot + 1;
	for (size_t i = 0; i < job->n; i++) {
		const struct cvb_bench *b = job->bench[i];

		if (dot && (strlen(b->name) != (size_t)(dot - key) ||
			    strncmp(b->name, key, (size_t)(dot - key)) != 0))
			continue;
		/* with several benchmarks a key may belong to some of them only */
		if (!dot && job->n > 1 && !cvb_opt_find(b->opts, option))
			continue;
		int r = check_option(b, option, eq + 1, err);

		if (r < 0)
			return r;
		json_object_set_new(job->options[i], option, json_string(eq + 1));
		used = true;
	}
	return used ? 0
		    : cvb_err_set(err, -EINVAL,
				  "-s %s: none of the chosen benchmarks has this option", setting);
}

/* --- one benchmark ---------------------------------------------------------------------------- */

/* The GPU's state around each sample, one entry a sample; NULL where nothing is known of any. */
static json_t *gpu_samples(const json_t *rows)
{
	json_t *list = json_array(), *row;
	bool known = false;
	size_t i;

	json_array_foreach (rows, i, row) {
		json_t *g = json_object_get(row, "gpu");

		known |= json_is_object(g);
		json_array_append(list, g);
	}
	if (known)
		return list;
	json_decref(list);
	return NULL;
}

/* A reader of the numbers alone must not miss it.  The notes with it, new reference. */
static json_t *notes_with_throttled(const json_t *notes, const json_t *gpu)
{
	json_t *all = notes ? json_copy((json_t *)(uintptr_t)notes) : NULL;
	size_t n = json_array_size(gpu), throttled = 0;

	for (size_t i = 0; i < n; i++)
		throttled += json_is_true(json_object_get(json_array_get(gpu, i), "throttled"));
	if (all && throttled)
		json_array_append_new(
			all, json_sprintf("%zu of %zu samples were taken while the GPU was "
					  "throttled (gpu_samples tells which): they are too slow",
					  throttled, n));
	return all;
}

static void add_result(struct job *job, size_t i, const struct cvb_remote *remote,
		       const char *outcome, const char *reason, json_t *metrics, const json_t *rows)
{
	_cleanup_json_ json_t *gpu = gpu_samples(rows);
	_cleanup_json_ json_t *notes = notes_with_throttled(remote ? remote->notes : NULL, gpu);
	/* not set up: what was asked for is all there is to tell */
	json_t *options = remote ? remote->options : job->options[i];
	bool emulated = remote ? remote->emulated
			       : job->bench[i]->flags & CVB_BENCH_NEEDS_GPU && job->arm.gpu &&
					 !strncmp(job->arm.gpu, "emu", 3);
	json_t *row = json_pack(
		"{s:s, s:O*, s:s, s:s?, s:b, s:b, s:o, s:O*, s:O*, s:O*, s:O*, s:O*}", "name",
		job->bench[i]->name, "options", options, "outcome", outcome, "reason", reason,
		"emulated", emulated, "deterministic", remote && remote->deterministic, "metrics",
		metrics, "notes", notes, "iterations", remote ? remote->iters : NULL, "left_out",
		remote ? remote->left_out : NULL, "gpu", remote ? remote->gpu : NULL, "gpu_samples",
		gpu);

	json_array_append_new(job->results, row);
}

static double median_of(const json_t *samples)
{
	size_t n = json_array_size(samples), finite = 0;
	_cleanup_free_ double *v = calloc(n ? n : 1, sizeof(*v));
	struct cvb_describe d;

	for (size_t i = 0; v && i < n; i++)
		if (json_is_number(json_array_get(samples, i)))
			v[finite++] = json_number_value(json_array_get(samples, i));
	if (!finite || cvb_describe(v, finite, &d, NULL) < 0)
		return NAN;
	return d.median;
}

/* Turn sample rows into the contract's metrics: value (median), samples, params. */
static json_t *metrics_json(const struct cvb_remote *remote, const json_t *steady,
			    const json_t *rows)
{
	json_t *metrics = json_array();

	for (size_t s = 0; s < remote->n_series; s++) {
		const json_t *series = json_array_get(remote->series, s);
		json_t *samples = json_array(), *m;
		size_t i;
		json_t *row;

		json_array_foreach (rows, i, row)
			json_array_append(samples,
					  json_array_get(json_object_get(row, "values"), s));
		double median = median_of(samples);

		m = json_pack(
			"{s:O, s:O, s:O, s:o, s:o}", "name", json_object_get(series, "metric"),
			"unit", json_object_get(series, "unit"), "better",
			json_object_get(series, "better"), "value",
			isfinite(median) ? json_real(median) : json_null(), "samples", samples);
		if (json_is_object(json_object_get(series, "params")))
			json_object_set(m, "params", json_object_get(series, "params"));
		if (json_is_array(steady))
			json_object_set(m, "warm_up", json_array_get(steady, s));
		json_array_append_new(metrics, m);
	}
	return metrics;
}

/* One sample without a value is one too many: which of the others could be believed? */
static bool any_value_missing(const json_t *rows)
{
	for (size_t i = 0; i < json_array_size(rows); i++) {
		const json_t *values = json_object_get(json_array_get(rows, i), "values");

		for (size_t v = 0; v < json_array_size(values); v++)
			if (!json_is_number(json_array_get(values, v)))
				return true;
	}
	return false;
}

/* A bounce arm whose pool was not seen in use did not measure what its label says. */
static bool bounce_unseen(const struct job *job, const json_t *rows)
{
	static const char *const keys[] = {"used", "used_hiwater"};

	if (!job->arm.bounce)
		return false;
	for (size_t i = 0; i < json_array_size(rows); i++)
		for (size_t k = 0; k < CVB_ARRAY_LEN(keys); k++)
			if (json_integer_value(json_object_get(
				    json_object_get(json_array_get(rows, i), "swiotlb"), keys[k])) >
			    0)
				return false;
	return true;
}

static uint64_t sample_count(const struct job *job, size_t i)
{
	bool batch = job->bench[i]->mode == CVB_MODE_BATCH;

	return job->conf->samples ? job->conf->samples : batch ? 5 : 1;
}

/* `ret_steady`: see cvb_remote_warm_up; NULL stays where it failed before. */
static int take_samples(struct job *job, struct cvb_remote *remote, json_t **ret_steady,
			json_t *rows, struct cvb_err *err)
{
	struct cvb_client *client = &job->target->client;
	unsigned timeout_ms = (unsigned)job->conf->timeout_s * 1000;
	uint64_t n = sample_count(job, job->current);
	int r;

	uint64_t budget_ns = cvb_max(n / 2, UINT64_C(4)) * job->conf->sample_ms * CVB_NS_PER_MS,
		 spent_ns;

	r = cvb_remote_calibrate(client, remote, timeout_ms, err);
	if (r == 0)
		r = cvb_remote_warm_up(client, remote, budget_ns, timeout_ms, ret_steady, &spent_ns,
				       err);
	for (uint64_t i = 0; r == 0 && i < n; i++) {
		json_t *row = NULL;
		uint64_t start_ns = cvb_now_ns();

		cvb_progress_step("%s  sample %" PRIu64 "/%" PRIu64, remote->bench->name, i + 1, n);
		r = cvb_remote_sample(client, remote, remote->iters, timeout_ms, &row, err);
		cvb_progress_done(job->current, cvb_now_ns() - start_ns);
		if (r == 0)
			json_array_append_new(rows, row);
	}
	return r;
}

enum outcome {
	OUTCOME_OK,
	OUTCOME_UNTRUSTED,
	OUTCOME_UNSUPPORTED,
	OUTCOME_FAILED,
};

/* Are the values of a run that ended well to be believed?  -EBADMSG: why not. */
static int check_rows(const struct job *job, const json_t *rows, struct cvb_err *err)
{
	if (any_value_missing(rows))
		return cvb_err_set(err, -EBADMSG, "a value is missing or not finite");
	if (bounce_unseen(job, rows))
		return cvb_err_set(err, -EBADMSG,
				   "the guest's swiotlb pool was not seen in use, so its I/O was "
				   "not bounced");
	return 0;
}

/* What came of a benchmark, into the document.  `remote`: NULL where it was not set up. */
static void add_outcome(struct job *job, size_t i, const struct cvb_remote *remote,
			enum outcome outcome, const char *why, const json_t *steady,
			const json_t *rows)
{
	static const char *const names[] = {"ok", "untrusted", "unsupported", "failed"};
	bool ok = outcome == OUTCOME_OK;

	job->any_ok |= ok;
	job->any_untrusted |= outcome == OUTCOME_UNTRUSTED;
	job->any_failed |= outcome == OUTCOME_FAILED;
	/* a wrong result never comes out as a number */
	add_result(job, i, remote, names[outcome], ok ? NULL : why,
		   ok ? metrics_json(remote, steady, rows) : json_array(), rows);
}

static int run_one(struct job *job, size_t i, struct cvb_err *err)
{
	struct cvb_client *client = &job->target->client;
	_cleanup_json_ json_t *rows = json_array();
	_cleanup_json_ json_t *steady = NULL;
	struct cvb_remote remote = {0};
	enum outcome outcome = OUTCOME_FAILED;
	struct cvb_err why = {0};
	char text[1024] = "";
	struct cvb_setup setup = {.bench = job->bench[i],
				  .options = job->options[i],
				  .gpu = job->arm.gpu,
				  .peer = job->target->peer,
				  .disk = job->target->disk,
				  .threads = (unsigned)job->conf->threads,
				  .sample_ns = job->conf->sample_ms * CVB_NS_PER_MS,
				  .timeout_ms = (unsigned)job->conf->timeout_s * 1000};

	cvb_progress_step("%s  set-up", setup.bench->name);
	int r = cvb_remote_setup(client, &setup, &remote, &why);
	bool set_up = r == 0;

	if (r == 0)
		r = take_samples(job, &remote, &steady, rows, &why);
	if (r == 0) {
		r = cvb_remote_verify(client, &remote, setup.timeout_ms, &why);
		if (r == 0)
			r = check_rows(job, rows, &why);
		outcome = r == 0 ? OUTCOME_OK : r == -EBADMSG ? OUTCOME_UNTRUSTED : OUTCOME_FAILED;
	}
	if (cvb_client_lost(r) || r == -EINVAL) {
		*err = why;
		cvb_remote_done(&remote);
		return r;
	}
	if (r == -EOPNOTSUPP || r == -ENODEV)
		outcome = OUTCOME_UNSUPPORTED;
	cvb_err_text(&why, text, sizeof(text));
	add_outcome(job, i, set_up ? &remote : NULL, outcome, text, steady, rows);
	if (set_up)
		cvb_remote_teardown(client, &remote);
	else
		cvb_remote_done(&remote);
	return 0;
}

/* --- output ----------------------------------------------------------------------------------- */

static void params_text(const json_t *params, char *buf, size_t buf_bytes)
{
	size_t used = 0;
	const char *key;
	json_t *v;

	buf[0] = '\0';
	json_object_foreach ((json_t *)(uintptr_t)params, key, v) {
		char value[64], size[32];
		size_t len = strlen(key);

		if (json_is_string(v))
			snprintf(value, sizeof(value), "%s", json_string_value(v));
		else if (len > 6 && !strcmp(key + len - 6, "_bytes") && json_is_integer(v))
			snprintf(value, sizeof(value), "%s",
				 cvb_bytes_text((uint64_t)json_integer_value(v), size,
						sizeof(size)));
		else
			snprintf(value, sizeof(value), "%s=%.6g", key, json_number_value(v));
		int n = snprintf(buf + used, buf_bytes - used, "%s%s", used ? " " : "", value);

		used = cvb_min(used + (size_t)cvb_max(n, 0), buf_bytes - 1);
	}
}

/* "mem.latency/latency      64 KiB" */
static const char *head_text(const json_t *m, char *buf, size_t buf_bytes)
{
	char params[160];

	params_text(json_object_get(m, "params"), params, sizeof(params));
	snprintf(buf, buf_bytes, "%-24s %s", json_string_value(json_object_get(m, "name")), params);
	return buf;
}

/* Of the longest head, so that the values of a benchmark stand below one another. */
static int head_columns(const json_t *metrics)
{
	size_t widest = 55, i;
	json_t *m;
	char head[256];

	json_array_foreach (metrics, i, m)
		widest = cvb_max(widest, strlen(head_text(m, head, sizeof(head))));
	return (int)widest;
}

/* In tenths, without the sign of a zero. */
static double percent_off(double x, double value)
{
	return round((x / value - 1) * 1000) / 10 + 0.0;
}

static void print_metric(const json_t *m, int columns)
{
	const json_t *samples = json_object_get(m, "samples");
	size_t n = json_array_size(samples);
	double lo = INFINITY, hi = -INFINITY,
	       value = json_number_value(json_object_get(m, "value"));
	const char *unit = json_string_value(json_object_get(m, "unit"));
	char head[256], text[40];

	for (size_t i = 0; i < n; i++) {
		double v = json_number_value(json_array_get(samples, i));

		lo = fmin(lo, v);
		hi = fmax(hi, v);
	}
	printf("  %-*s %12s", columns, head_text(m, head, sizeof(head)),
	       cvb_value_text(value, unit, text, sizeof(text)));
	if (n > 1 && fabs(value) > 0)
		printf("   %+.1f %% … %+.1f %% of %zu samples", percent_off(lo, value),
		       percent_off(hi, value), n);
	const char *warm_up = json_string_value(json_object_get(m, "warm_up"));

	if (warm_up && cvb_steady_of_name(warm_up) == CVB_STEADY_NONE)
		printf("   %s", warm_up);
	putchar('\n');
}

static void print_table(const struct job *job, const json_t *doc)
{
	const json_t *env = json_object_get(doc, "environment");
	const json_t *labels = json_object_get(env, "labels");
	const char *accel = json_string_value(json_object_get(labels, "accel"));
	const char *tee = json_string_value(json_object_get(labels, "tee"));
	size_t i, j;
	json_t *b, *m;

	printf("target %s%s%s%s%s%s%s\n", json_string_value(json_object_get(labels, "target")),
	       accel ? ", accel " : "", accel ? accel : "",
	       accel && !strcmp(accel, "tcg") ? " (software emulation: says nothing about speed)"
					      : "",
	       json_is_true(json_object_get(labels, "bounce"))
		       ? ", bounce (a normal VM forced through bounce buffers)"
		       : "",
	       tee && strcmp(tee, "none") != 0 ? ", tee " : "",
	       tee && strcmp(tee, "none") != 0 ? tee : "");
	json_array_foreach (job->results, i, b) {
		const char *outcome = json_string_value(json_object_get(b, "outcome"));
		const char *reason = json_string_value(json_object_get(b, "reason"));

		printf("%s%s%s\n", json_string_value(json_object_get(b, "name")),
		       json_is_true(json_object_get(b, "emulated")) ? " (emulated GPU)" : "",
		       json_is_true(json_object_get(b, "deterministic")) ? " (virtual clock)" : "");
		if (strcmp(outcome, "ok") != 0)
			printf("  %s: %s\n",
			       !strcmp(outcome, "unsupported") ? "UNSUPPORTED"
			       : !strcmp(outcome, "untrusted") ? "UNTRUSTED"
							       : "FAILED",
			       reason ? reason : "");
		int columns = head_columns(json_object_get(b, "metrics"));

		json_array_foreach (json_object_get(b, "metrics"), j, m)
			print_metric(m, columns);
		json_array_foreach (json_object_get(b, "notes"), j, m)
			printf("  note: %s\n", json_string_value(m));
	}
}

static json_t *document(struct job *job, json_t *env)
{
	json_object_set_new(env, "labels", cvb_target_labels(job->target));
	json_object_set_new(env, "boot_ns", json_integer((json_int_t)job->target->boot_ns));
	if (job->target->client.tool)
		json_object_set(env, "agent", job->target->client.tool);
	return json_pack("{s:s, s:o, s:O, s:O}", "schema", "cvmbench.result/1", "tool",
			 cvb_tool_json(), "environment", env, "benches", job->results);
}

/* For who watches: a script that reads stderr too gets nothing but warnings and errors. */
static void begin_progress(const struct job *job)
{
	uint64_t count[MAX_BENCHES];

	if (!isatty(STDERR_FILENO))
		return;
	for (size_t i = 0; i < job->n; i++)
		count[i] = sample_count(job, i);
	cvb_progress_begin(job->n, count);
}

static int measure(struct job *job, struct cvb_err *err)
{
	_cleanup_json_ json_t *env = NULL, *doc = NULL;
	int r = cvb_client_fingerprint(&job->target->client, 30000, &env, err);

	begin_progress(job);
	for (size_t i = 0; r == 0 && i < job->n; i++) {
		job->current = i;
		r = run_one(job, i, err);
		for (uint64_t n = sample_count(job, i); n; n--)
			cvb_progress_done(i, 0); /* those that were not taken */
	}
	cvb_progress_end();
	if (r < 0)
		return r;
	doc = document(job, env);
	if (job->conf->output)
		r = cvb_json_output(job->conf->output, doc, err);
	if (r == 0 && job->conf->json)
		r = cvb_json_output("-", doc, err);
	else if (r == 0)
		print_table(job, doc);
	return r;
}

/* What the whole says: wrong results first, then failures, then whether anything ran at all. */
static int exit_code(const struct job *job)
{
	if (job->any_untrusted)
		return CVB_EXIT_INVALID;
	if (job->any_failed)
		return CVB_EXIT_INTERNAL;
	return job->any_ok ? CVB_EXIT_OK : CVB_EXIT_UNSUPPORTED;
}

/* Benchmarks without their peer say so themselves: no iperf3 here is UNSUPPORTED, not an error. */
static int start_peer(const struct job *job, struct cvb_peer *peer, struct cvb_err *err)
{
	struct cvb_err why = {0};
	int r = 0;

	for (size_t i = 0; i < job->n; i++) {
		if (!(job->bench[i]->flags & CVB_BENCH_NEEDS_PEER))
			continue;
		r = cvb_peer_start(peer, &why);
		break;
	}
	if (r < 0 && r != -EOPNOTSUPP) {
		*err = why;
		return r;
	}
	return 0;
}

/* Disk benchmarks need a place, and a guest's disk image does if it has a disk benchmark. */
static bool needs_scratch(const struct job *job)
{
	for (size_t i = 0; i < job->n; i++)
		if (job->bench[i]->flags & CVB_BENCH_NEEDS_DISK)
			return true;
	return false;
}

/* In the current folder, not in /tmp: that is often memory, and this is for disk I/O. */
static int make_scratch(char **ret, struct cvb_err *err)
{
	char name[] = "cvmbench-scratch-XXXXXX";

	if (!mkdtemp(name))
		return cvb_err_set(err, -errno,
				   "cannot make a folder for disk I/O in the current folder: %s",
				   strerror(errno));
	*ret = realpath(name, NULL);
	return *ret ? 0 : cvb_err_set(err, -errno, "%s: %s", name, strerror(errno));
}

static int run_on_target(struct job *job, struct cvb_err *err)
{
	_cleanup_free_ char *scratch = NULL;
	struct cvb_target_env env = {.label = "run"};
	struct cvb_peer peer = {0};
	int r = cvb_arm_parse(&job->arm, job->conf->target, err);

	if (r == 0 && job->conf->gpu)
		r = cvb_opt_set(cvb_arm_opts, &job->arm, "gpu", job->conf->gpu, err);
	if (r < 0)
		return r;
	if (needs_scratch(job)) {
		r = make_scratch(&scratch, err);
		env.scratch_dir = scratch;
	}
	if (r == 0)
		r = start_peer(job, &peer, err);
	env.peer_port = peer.port;
	env.echo_port = peer.echo.port;
	if (r == 0)
		r = cvb_target_start(&job->target, &job->arm, &env, err);
	if (r == 0)
		r = measure(job, err);
	job->target = cvb_target_stop(job->target);
	cvb_peer_stop(&peer);
	if (scratch)
		cvb_remove_tree(scratch);
	cvb_arm_done(&job->arm);
	return r;
}

static int run(const void *conf, int argc, char **argv, struct cvb_err *err)
{
	struct job job = {.conf = conf, .results = json_array()};
	int r = 0;

	if (argc != 1)
		r = cvb_err_set(err, -EINVAL,
				argc ? "run: unexpected \"%s\": benchmarks are separated by commas"
				     : "run: name a benchmark (`cvmbench list` shows them)%s",
				argc ? argv[1] : "");
	if (r == 0)
		r = choose(&job, argv[0], err);
	if (r == 0 && job.conf->output)
		r = check_output(job.conf->output, err);
	for (char **s = job.conf->set; r == 0 && s && *s; s++)
		r = apply_set(&job, *s, err);
	if (r == 0)
		r = run_on_target(&job, err);
	if (r == 0)
		r = exit_code(&job);
	for (size_t i = 0; i < job.n; i++)
		json_decref(job.options[i]);
	json_decref(job.results);
	return r;
}

static const struct cvb_verb verb = {
	.name = "run",
	.usage = "BENCH[,BENCH…] [OPTION]…",
	.summary = "measure once, print a table, write a result document",
	.details =
		"Takes a few samples of each benchmark on one target.  For a judgement against a\n"
		"baseline use certify: samples of one run say little about the next run.\n",
	.order = 20,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.run = run,
};
CVB_VERB(verb);
