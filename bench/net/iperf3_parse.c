/* SPDX-License-Identifier: Apache-2.0 */
#include "net/iperf3_parse.h"

#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* bits_per_second is bytes × 8 / seconds, all three in the document. */
#define MAX_MISMATCH 0.01
/* Beyond what any machine can do: only nonsense is above. */
#define MAX_CPU_PERCENT 1e7
#define MAX_JITTER_MS	1e6
/* Datagrams that are still under way, or were sent twice by the network, when the ends count. */
#define MAX_EXTRA_RATIO 0.01

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
	return cvb_err_set(err,
			   strstr(text, "server is busy")	? -EBUSY
			   : strstr(text, "Connection refused") ? -ECONNREFUSED
								: -EIO,
			   "iperf3: %s", text);
}

/* One "sum_…": bytes in seconds, which give bits_per_second. */
struct sum {
	const json_t *obj;
	char where[64];
	double bytes, duration_s, bytes_per_s;
};

static int get_sum(const json_t *end, const char *key, struct sum *ret, struct cvb_err *err)
{
	double bits_per_s;
	int64_t count;
	int r;

	snprintf(ret->where, sizeof(ret->where), "end.%s.", key);
	r = get_object(end, "end.", key, &ret->obj, err);
	if (r == 0)
		r = get_number(ret->obj, ret->where, "bits_per_second", &bits_per_s, err);
	if (r == 0)
		r = get_number(ret->obj, ret->where, "seconds", &ret->duration_s, err);
	if (r == 0)
		r = get_count(ret->obj, ret->where, "bytes", &count, err);
	if (r < 0)
		return r;
	if (!count || ret->duration_s <= 0)
		return cvb_err_set(err, -EBADMSG, "iperf3: no data arrived (end.%s)", key);
	ret->bytes = (double)count;
	if (fabs(bits_per_s * ret->duration_s / 8 - ret->bytes) > MAX_MISMATCH * ret->bytes)
		return cvb_err_set(err, -EBADMSG,
				   "iperf3: end.%s.bits_per_second = %g contradicts %g bytes in "
				   "%g s",
				   key, bits_per_s, ret->bytes, ret->duration_s);
	ret->bytes_per_s = bits_per_s / 8;
	return 0;
}

static int get_percent(const json_t *cpu, const char *key, double *ret_ratio, struct cvb_err *err)
{
	double percent;
	int r = get_number(cpu, "end.cpu_utilization_percent.", key, &percent, err);

	if (r < 0)
		return r;
	if (percent > MAX_CPU_PERCENT)
		return cvb_err_set(err, -EBADMSG,
				   "iperf3: end.cpu_utilization_percent.%s = %g is out of range",
				   key, percent);
	*ret_ratio = percent / 100;
	return 0;
}

static int parse_cpu(const json_t *end, struct cvb_iperf3_result *ret, struct cvb_err *err)
{
	const json_t *cpu;
	int r = get_object(end, "end.", "cpu_utilization_percent", &cpu, err);

	if (r == 0)
		r = get_percent(cpu, "host_total", &ret->cpu_local_ratio, err);
	if (r == 0)
		r = get_percent(cpu, "remote_total", &ret->cpu_remote_ratio, err);
	return r;
}

/* Received and sent of one direction; `suffix` is "" or "_bidir_reverse". */
static int add_tcp(const json_t *end, const char *suffix, struct cvb_iperf3_result *ret,
		   struct cvb_err *err)
{
	struct sum received = {0};
	const json_t *sent;
	char key[64], where[72];
	int64_t count = -1;
	int r;

	snprintf(key, sizeof(key), "sum_received%s", suffix);
	r = get_sum(end, key, &received, err);
	if (r < 0)
		return r;
	ret->bytes += (uint64_t)received.bytes;
	ret->bandwidth_bytes_per_s += received.bytes_per_s;
	ret->duration_s = fmax(ret->duration_s, received.duration_s);

	snprintf(key, sizeof(key), "sum_sent%s", suffix);
	snprintf(where, sizeof(where), "end.%s.", key);
	r = get_object(end, "end.", key, &sent, err);
	if (r == 0 && json_object_get(sent, "retransmits"))
		r = get_count(sent, where, "retransmits", &count, err);
	if (r < 0)
		return r;
	if (count > INT32_MAX) /* so that a sum of two stays whole */
		return cvb_err_set(err, -EBADMSG, "iperf3: %sretransmits is out of range", where);
	ret->retransmits = count < 0 || ret->retransmits < 0 ? -1 : ret->retransmits + count;
	return 0;
}

static int parse_tcp(const json_t *end, bool bidir, struct cvb_iperf3_result *ret,
		     struct cvb_err *err)
{
	int r = add_tcp(end, "", ret, err);

	return r == 0 && bidir ? add_tcp(end, "_bidir_reverse", ret, err) : r;
}

/* The receiver counts what came and, by the numbers in the datagrams, what did not. */
static int check_packets(const struct sum *received, const struct cvb_iperf3_result *ret,
			 struct cvb_err *err)
{
	int64_t highest, lost;
	double allowed = MAX_EXTRA_RATIO * ret->packets_received + 16;
	int r = get_count(received->obj, received->where, "packets", &highest, err);

	if (r == 0)
		r = get_count(received->obj, received->where, "lost_packets", &lost, err);
	if (r < 0)
		return r;
	if (lost > highest)
		return cvb_err_set(err, -EBADMSG, "iperf3: %slost_packets exceeds packets",
				   received->where);
	if (fabs((double)(highest - lost) - ret->packets_received) > allowed)
		return cvb_err_set(err, -EBADMSG,
				   "iperf3: %spackets - lost_packets = %g contradicts the %g "
				   "datagrams that its bytes make",
				   received->where, (double)(highest - lost),
				   ret->packets_received);
	if (ret->packets_received > (double)ret->packets_sent * (1 + MAX_EXTRA_RATIO) + 16)
		return cvb_err_set(err, -EBADMSG,
				   "iperf3: %g datagrams arrived of %g that were sent",
				   ret->packets_received, (double)ret->packets_sent);
	return 0;
}

static int parse_udp(const json_t *end, uint64_t payload_bytes, struct cvb_iperf3_result *ret,
		     struct cvb_err *err)
{
	struct sum sent = {0}, received = {0};
	double jitter_ms;
	int64_t count;
	int r = get_sum(end, "sum_sent", &sent, err);

	if (r == 0)
		r = get_sum(end, "sum_received", &received, err);
	if (r == 0)
		r = get_count(sent.obj, sent.where, "packets", &count, err);
	if (r == 0)
		r = get_number(received.obj, received.where, "jitter_ms", &jitter_ms, err);
	if (r < 0)
		return r;
	if (jitter_ms > MAX_JITTER_MS)
		return cvb_err_set(err, -EBADMSG, "iperf3: %sjitter_ms = %g is out of range",
				   received.where, jitter_ms);
	ret->retransmits = -1;
	ret->bytes = (uint64_t)received.bytes;
	ret->duration_s = received.duration_s;
	ret->bandwidth_bytes_per_s = received.bytes_per_s;
	ret->offered_bytes_per_s = sent.bytes_per_s;
	ret->packets_sent = (uint64_t)count;
	ret->packets_received = received.bytes / (double)payload_bytes;
	ret->jitter_ns = jitter_ms * 1e6;
	return check_packets(&received, ret, err);
}

int cvb_iperf3_parse(const char *text, const struct cvb_iperf3_shape *shape,
		     struct cvb_iperf3_result *ret, struct cvb_err *err)
{
	const char *start = strchr(text, '{');
	const json_t *end;
	json_error_t why;
	int r;

	*ret = (struct cvb_iperf3_result){0};
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
	r = shape->payload_bytes ? parse_udp(end, shape->payload_bytes, ret, err)
				 : parse_tcp(end, shape->bidir, ret, err);
	return r < 0 ? r : parse_cpu(end, ret, err);
}
