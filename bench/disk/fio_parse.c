/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/fio_parse.h"

#include "core/util.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* A run with more jobs than this is not one of ours. */
#define MAX_JOBS  64
#define MAX_WANTS (2 * MAX_JOBS)

/* iops × block size and bandwidth are the same quantity, counted by fio over the same time in ms;
 * short transfers at the end of a run make the small difference. */
#define MAX_MISMATCH 0.02

/* fio's document starts with a brace alone on a line; a warning may carry one inside a line. */
static const char *find_document(const char *text)
{
	for (const char *p = text; (p = strchr(p, '{')); p++)
		if ((p == text || p[-1] == '\n') && (p[1] == '\n' || p[1] == '\r'))
			return p;
	return NULL;
}

/* Copy one line without what would let a guest write to our terminal. */
static void copy_line(const char *line, size_t bytes, char *buf, size_t buf_bytes)
{
	size_t n = cvb_min(bytes, buf_bytes - 1);

	for (size_t i = 0; i < n; i++)
		buf[i] = line[i] < 0x20 || line[i] == 0x7f ? '?' : line[i];
	buf[n] = '\0';
}

/* The first line holding `word`; the document itself is not searched. */
static bool line_with(const char *text, const char *word, char *buf, size_t buf_bytes)
{
	const char *end = text ? find_document(text) : NULL;
	const char *hit = text ? strstr(text, word) : NULL;

	if (!hit || (end && hit > end))
		return false;
	while (hit > text && hit[-1] != '\n')
		hit--;
	copy_line(hit, strcspn(hit, "\r\n"), buf, buf_bytes);
	return true;
}

const char *cvb_fio_complaint(const char *messages, const char *text, char *buf, size_t buf_bytes)
{
	/* from the most to the least telling */
	static const char *const words[] = {"error=", "support", "unrecognized", "failed", "fio:"};

	for (size_t i = 0; i < CVB_ARRAY_LEN(words); i++)
		if (line_with(messages, words[i], buf, buf_bytes) ||
		    line_with(text, words[i], buf, buf_bytes))
			return buf;
	buf[0] = '\0';
	return buf;
}

/* A number that a rate or a latency can be.  `where` is the path of `obj` in the document. */
static int get_number(const json_t *obj, const char *where, const char *key, double *ret,
		      struct cvb_err *err)
{
	const json_t *v = json_object_get(obj, key);

	if (!v)
		return cvb_err_set(err, -EBADMSG, "fio: %s.%s is missing", where, key);
	if (!json_is_number(v))
		return cvb_err_set(err, -EBADMSG, "fio: %s.%s is not a number", where, key);
	*ret = json_number_value(v);
	if (!isfinite(*ret) || *ret < 0)
		return cvb_err_set(err, -EBADMSG, "fio: %s.%s = %g is out of range", where, key,
				   *ret);
	return 0;
}

static int get_count(const json_t *obj, const char *where, const char *key, uint64_t *ret,
		     struct cvb_err *err)
{
	const json_t *v = json_object_get(obj, key);

	if (!v)
		return cvb_err_set(err, -EBADMSG, "fio: %s.%s is missing", where, key);
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return cvb_err_set(err, -EBADMSG, "fio: %s.%s is not a count", where, key);
	*ret = (uint64_t)json_integer_value(v);
	return 0;
}

static int get_object(const json_t *obj, const char *where, const char *key, const json_t **ret,
		      struct cvb_err *err)
{
	*ret = json_object_get(obj, key);
	if (!*ret)
		return cvb_err_set(err, -EBADMSG, "fio: %s.%s is missing", where, key);
	if (!json_is_object(*ret))
		return cvb_err_set(err, -EBADMSG, "fio: %s.%s is not an object", where, key);
	return 0;
}

/* The mean and percentiles of one distribution: member `key` of `part`. */
static int parse_latency(const json_t *part, const char *where, const char *key,
			 struct cvb_fio_latency *ret, struct cvb_err *err)
{
	const json_t *lat, *percentile;
	char path[160];
	const struct {
		const char *key;
		double *value;
	} rows[] = {{"50.000000", &ret->p50_ns},
		    {"99.000000", &ret->p99_ns},
		    {"99.900000", &ret->p999_ns}};
	int r;

	r = get_object(part, where, key, &lat, err);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s.%s", where, key);
	r = get_number(lat, path, "mean", &ret->mean_ns, err);
	if (r < 0)
		return r;
	r = get_object(lat, path, "percentile", &percentile, err);
	snprintf(path, sizeof(path), "%s.%s.percentile", where, key);
	for (size_t i = 0; i < CVB_ARRAY_LEN(rows) && r == 0; i++) {
		r = get_number(percentile, path, rows[i].key, rows[i].value, err);
		if (r == 0 && i && *rows[i - 1].value > *rows[i].value)
			r = cvb_err_set(err, -EBADMSG, "fio: %s: %.5s is above %.5s", path,
					rows[i - 1].key, rows[i].key);
	}
	return r;
}

/* What belongs to the job and not to one direction. */
static int parse_whole(const json_t *job, const struct cvb_fio_want *want,
		       struct cvb_fio_result *res, struct cvb_err *err)
{
	const json_t *sync;
	uint64_t syncs;
	double user, system;
	char where[96];
	int r;

	snprintf(where, sizeof(where), "job %.60s", want->job);
	r = get_number(job, where, "usr_cpu", &user, err);
	if (r == 0)
		r = get_number(job, where, "sys_cpu", &system, err);
	if (r < 0)
		return r;
	res->cpu_ratio = (user + system) / 100; /* fio tells percent */
	if (!want->fsync)
		return 0;
	r = get_object(job, where, "sync", &sync, err);
	snprintf(where, sizeof(where), "job %.60s: sync", want->job);
	if (r == 0)
		r = get_count(sync, where, "total_ios", &syncs, err);
	if (r == 0 && !syncs)
		r = cvb_err_set(err, -EBADMSG,
				"fio: %s: not one was completed: a longer runtime_ms may be needed",
				where);
	return r < 0 ? r : parse_latency(sync, where, "lat_ns", &res->fsync, err);
}

static int parse_part(const json_t *job, const struct cvb_fio_want *want,
		      struct cvb_fio_result *res, const char *complaint, struct cvb_err *err)
{
	const char *dir = want->write ? "write" : "read";
	const json_t *part;
	char where[96];
	int r;

	snprintf(where, sizeof(where), "job %.60s", want->job);
	r = get_object(job, where, dir, &part, err);
	if (r < 0)
		return r;
	snprintf(where, sizeof(where), "job %.60s: %s", want->job, dir);
	r = get_number(part, where, "iops", &res->iops, err);
	if (r < 0)
		return r;
	r = get_number(part, where, "bw_bytes", &res->bandwidth_bytes_per_s, err);
	if (r < 0)
		return r;
	r = get_count(part, where, "total_ios", &res->total_ios, err);
	if (r < 0)
		return r;
	r = get_count(part, where, "io_bytes", &res->io_bytes, err);
	if (r < 0)
		return r;
	if (!res->total_ios || !res->io_bytes || res->iops <= 0)
		return cvb_err_set(err, -EBADMSG, "fio: %s: not one transfer was completed: %s",
				   where,
				   *complaint ? complaint : "a longer runtime_ms may be needed");

	double by_iops = res->iops * (double)want->block_bytes;

	/* transfers under way when the ramp ends are in one count and not in the other */
	double allowed = MAX_MISMATCH + 2.0 * (double)want->depth / (double)res->total_ios;

	if (fabs(by_iops - res->bandwidth_bytes_per_s) > allowed * by_iops)
		return cvb_err_set(err, -EBADMSG,
				   "fio: %s: iops %g of %" PRIu64 " bytes contradict bw_bytes %g",
				   where, res->iops, want->block_bytes, res->bandwidth_bytes_per_s);
	r = parse_latency(part, where, "clat_ns", &res->clat, err);
	return r < 0 ? r : parse_whole(job, want, res, err);
}

static int check_error(const json_t *job, const char *name, const char *complaint,
		       struct cvb_err *err)
{
	char where[96];
	uint64_t error;
	int r;

	snprintf(where, sizeof(where), "job %.60s", name);
	r = get_count(job, where, "error", &error, err);
	if (r == 0 && error)
		r = cvb_err_set(err, -EIO, "fio: job %s failed with error %" PRIu64 "%s%s", name,
				error, *complaint ? ": " : "", complaint);
	return r;
}

/* One entry of "jobs": the figures of each direction that we want of it. */
static int parse_job(const json_t *job, size_t index, const struct cvb_fio_want *want, size_t n,
		     bool *seen, struct cvb_fio_result *ret, const char *complaint,
		     struct cvb_err *err)
{
	const char *name = json_string_value(json_object_get(job, "jobname"));

	if (!name)
		return cvb_err_set(err, -EBADMSG, "fio: jobs[%zu].jobname is missing or no text",
				   index);
	for (size_t i = 0; i < n; i++) {
		int r;

		if (strcmp(name, want[i].job) != 0)
			continue;
		if (seen[i])
			return cvb_err_set(err, -EBADMSG, "fio: job %s is there twice", name);
		seen[i] = true;
		r = check_error(job, want[i].job, complaint, err);
		if (r == 0)
			r = parse_part(job, &want[i], &ret[i], complaint, err);
		if (r < 0)
			return r;
	}
	return 0; /* or a job we did not ask about */
}

int cvb_fio_parse(const char *text, const char *messages, const struct cvb_fio_want *want, size_t n,
		  struct cvb_fio_result *ret, struct cvb_err *err)
{
	const char *start = find_document(text);
	bool seen[MAX_WANTS] = {false};
	char complaint[200];
	json_error_t why;
	json_t *job;
	size_t i;

	CVB_BUG_ON(n > MAX_WANTS);
	cvb_fio_complaint(messages, text, complaint, sizeof(complaint));
	if (!start)
		return cvb_err_set(err, -EBADMSG, "fio printed no JSON document%s%s",
				   *complaint ? ": " : "", complaint);
	/* fio may also print after the document, so the end is not demanded here */
	_cleanup_json_ json_t *doc = json_loads(start, JSON_DISABLE_EOF_CHECK, &why);

	if (!doc)
		return cvb_err_set(err, -EBADMSG, "fio's JSON, line %d column %d: %s", why.line,
				   why.column, why.text);

	const json_t *jobs = json_object_get(doc, "jobs");

	if (!json_is_array(jobs))
		return cvb_err_set(err, -EBADMSG, "fio: jobs is missing or not an array");
	if (json_array_size(jobs) > MAX_JOBS)
		return cvb_err_set(err, -EBADMSG, "fio: %zu jobs, at most %d are expected",
				   json_array_size(jobs), MAX_JOBS);
	json_array_foreach (jobs, i, job) {
		int r = parse_job(job, i, want, n, seen, ret, complaint, err);

		if (r < 0)
			return r;
	}
	for (i = 0; i < n; i++)
		if (!seen[i])
			return cvb_err_set(err, -EBADMSG, "fio: job %s is missing%s%s", want[i].job,
					   *complaint ? ": " : "", complaint);
	return 0;
}
