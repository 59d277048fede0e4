/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/fio_parse.h"

#include "core/util.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* A run with more jobs than this is not one of ours. */
#define MAX_JOBS 64

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

static int parse_latency(const json_t *part, const char *where, struct cvb_fio_result *res,
			 struct cvb_err *err)
{
	const json_t *clat, *percentile;
	char path[160];
	int r;

	r = get_object(part, where, "clat_ns", &clat, err);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s.clat_ns", where);
	r = get_number(clat, path, "mean", &res->clat_mean_ns, err);
	if (r < 0)
		return r;
	r = get_object(clat, path, "percentile", &percentile, err);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s.clat_ns.percentile", where);
	r = get_number(percentile, path, "50.000000", &res->clat_p50_ns, err);
	if (r < 0)
		return r;
	r = get_number(percentile, path, "99.000000", &res->clat_p99_ns, err);
	if (r < 0)
		return r;
	if (res->clat_p50_ns > res->clat_p99_ns)
		return cvb_err_set(err, -EBADMSG, "fio: %s: the 50th is above the 99th", path);
	return 0;
}

static int parse_part(const json_t *job, const struct cvb_fio_want *want,
		      struct cvb_fio_result *res, const char *complaint, struct cvb_err *err)
{
	const char *dir = want->write ? "write" : "read";
	const json_t *part;
	char where[96];
	int r;

	snprintf(where, sizeof(where), "job %.40s", want->job);
	r = get_object(job, where, dir, &part, err);
	if (r < 0)
		return r;
	snprintf(where, sizeof(where), "job %.40s: %s", want->job, dir);
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
	return parse_latency(part, where, res, err);
}

/* One entry of "jobs": which of ours it is, and its figures. */
static int parse_job(const json_t *job, size_t index, const struct cvb_fio_want *want, size_t n,
		     bool *seen, struct cvb_fio_result *ret, const char *complaint,
		     struct cvb_err *err)
{
	const char *name = json_string_value(json_object_get(job, "jobname"));
	char where[64];
	uint64_t error;
	int r;

	if (!name)
		return cvb_err_set(err, -EBADMSG, "fio: jobs[%zu].jobname is missing or no text",
				   index);
	for (size_t i = 0; i < n; i++) {
		if (strcmp(name, want[i].job) != 0)
			continue;
		if (seen[i])
			return cvb_err_set(err, -EBADMSG, "fio: job %s is there twice", name);
		seen[i] = true;
		snprintf(where, sizeof(where), "job %.40s", name);
		r = get_count(job, where, "error", &error, err);
		if (r < 0)
			return r;
		if (error)
			return cvb_err_set(err, -EIO,
					   "fio: job %s failed with error %" PRIu64 "%s%s", name,
					   error, *complaint ? ": " : "", complaint);
		return parse_part(job, &want[i], &ret[i], complaint, err);
	}
	return 0; /* a job we did not ask about */
}

int cvb_fio_parse(const char *text, const char *messages, const struct cvb_fio_want *want, size_t n,
		  struct cvb_fio_result *ret, struct cvb_err *err)
{
	const char *start = find_document(text);
	bool seen[MAX_JOBS] = {false};
	char complaint[200];
	json_error_t why;
	json_t *job;
	size_t i;

	CVB_BUG_ON(n > MAX_JOBS);
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
