/* SPDX-License-Identifier: Apache-2.0 */
#include "net/iperf3_parse.h"

#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* bits_per_second is bytes × 8 / seconds, all three in the document. */
#define MAX_MISMATCH 0.01

static int get_object(const json_t *obj, const char *where, const char *key, const json_t **ret,
		      struct cvb_err *err)
{
	*ret = json_object_get(obj, key);
	if (!*ret)
		return cvb_err_set(err, -EBADMSG, "iperf3: %s%s is missing", where, key);
	if (!json_is_object(*ret))
		return cvb_err_set(err, -EBADMSG, "iperf3: %s%s is not an object", where, key);
	return 0;
}

static int get_number(const json_t *obj, const char *where, const char *key, double *ret,
		      struct cvb_err *err)
{
	const json_t *v = json_object_get(obj, key);

	if (!v)
		return cvb_err_set(err, -EBADMSG, "iperf3: %s%s is missing", where, key);
	if (!json_is_number(v))
		return cvb_err_set(err, -EBADMSG, "iperf3: %s%s is not a number", where, key);
	*ret = json_number_value(v);
	if (!isfinite(*ret) || *ret < 0)
		return cvb_err_set(err, -EBADMSG, "iperf3: %s%s = %g is out of range", where, key,
				   *ret);
	return 0;
}

static int get_count(const json_t *obj, const char *where, const char *key, int64_t *ret,
		     struct cvb_err *err)
{
	const json_t *v = json_object_get(obj, key);

	if (!v)
		return cvb_err_set(err, -EBADMSG, "iperf3: %s%s is missing", where, key);
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return cvb_err_set(err, -EBADMSG, "iperf3: %s%s is not a count", where, key);
	*ret = (int64_t)json_integer_value(v);
	return 0;
}

/* iperf3's own words, without what would let the other side write to our terminal. */
static int own_error(const json_t *doc, struct cvb_err *err)
{
	const json_t *v = json_object_get(doc, "error");
	char text[200];
	size_t n = 0;

	if (!v)
		return 0;
	if (!json_is_string(v))
		return cvb_err_set(err, -EBADMSG, "iperf3: error is not a text");
	for (const char *p = json_string_value(v); *p && n < sizeof(text) - 1; p++)
		text[n++] = (*p >= 0 && *p < 0x20) || *p == 0x7f ? '?' : *p;
	text[n] = '\0';
	return cvb_err_set(err, strstr(text, "server is busy") ? -EBUSY : -EIO, "iperf3: %s", text);
}

static int parse_end(const json_t *end, struct cvb_iperf3_result *ret, struct cvb_err *err)
{
	const json_t *received, *sent, *cpu;
	double bits_per_s, bytes, percent;
	int64_t count;
	int r;

	r = get_object(end, "end.", "sum_received", &received, err);
	if (r == 0)
		r = get_number(received, "end.sum_received.", "bits_per_second", &bits_per_s, err);
	if (r == 0)
		r = get_number(received, "end.sum_received.", "seconds", &ret->duration_s, err);
	if (r == 0)
		r = get_count(received, "end.sum_received.", "bytes", &count, err);
	if (r < 0)
		return r;
	if (!count || ret->duration_s <= 0)
		return cvb_err_set(err, -EBADMSG, "iperf3: no data arrived (end.sum_received)");
	ret->bytes = (uint64_t)count;
	bytes = (double)count;
	if (fabs(bits_per_s * ret->duration_s / 8 - bytes) > MAX_MISMATCH * bytes)
		return cvb_err_set(err, -EBADMSG,
				   "iperf3: end.sum_received.bits_per_second = %g contradicts %g "
				   "bytes in %g s",
				   bits_per_s, bytes, ret->duration_s);
	ret->bandwidth_bytes_per_s = bits_per_s / 8;

	r = get_object(end, "end.", "sum_sent", &sent, err);
	if (r < 0)
		return r;
	ret->retransmits = -1;
	if (json_object_get(sent, "retransmits"))
		r = get_count(sent, "end.sum_sent.", "retransmits", &ret->retransmits, err);
	if (r == 0)
		r = get_object(end, "end.", "cpu_utilization_percent", &cpu, err);
	if (r == 0)
		r = get_number(cpu, "end.cpu_utilization_percent.", "host_total", &percent, err);
	if (r < 0)
		return r;
	ret->cpu_local_ratio = percent / 100;
	return 0;
}

int cvb_iperf3_parse(const char *text, struct cvb_iperf3_result *ret, struct cvb_err *err)
{
	const char *start = strchr(text, '{');
	const json_t *end;
	json_error_t why;
	int r;

	if (!start)
		return cvb_err_set(err, -EBADMSG, "iperf3 printed no JSON document");
	_cleanup_json_ json_t *doc = json_loads(start, 0, &why);

	if (!doc)
		return cvb_err_set(err, -EBADMSG, "iperf3's JSON, line %d column %d: %s", why.line,
				   why.column, why.text);
	r = own_error(doc, err);
	if (r < 0)
		return r;
	r = get_object(doc, "", "end", &end, err);
	if (r < 0)
		return r;
	return parse_end(end, ret, err);
}
