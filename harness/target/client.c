/* SPDX-License-Identifier: Apache-2.0 */
#include "target/client.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "gpu/gpu.h"
#include "stats/steady.h"
#include "target/agent.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define MAX_SERIES   1024
#define MAX_ITERS    (INT64_C(1) << 40)
#define MAX_NOTES    64
#define TEARDOWN_MS  30000
#define MAX_TEXT     512
#define MAX_PARAMS   16
#define MAX_LEFT_OUT 64
#define MAX_WORKERS  999999
#define CLOCK_TRIES  4

/* Characters of parameter names and words, and of keys. */
#define PLAIN_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

void cvb_client_init(struct cvb_client *c, int rfd, int wfd)
{
	*c = (struct cvb_client){.next_id = 1};
	cvb_wire_init(&c->wire, rfd, wfd);
}

void cvb_client_done(struct cvb_client *c)
{
	cvb_wire_done(&c->wire);
	json_decref(c->tool);
	c->tool = NULL;
}

/* A copy of text from the other side, cut and cleaned. */
static json_t *clean_text(const json_t *text)
{
	char buf[MAX_TEXT];

	snprintf(buf, sizeof(buf), "%s", json_string_value(text) ? json_string_value(text) : "");
	cvb_wire_sanitise(buf);
	return json_string(buf);
}

int cvb_client_wait_ready(struct cvb_client *c, unsigned timeout_ms, struct cvb_err *err)
{
	_cleanup_json_ json_t *line = NULL;
	int r = cvb_wire_recv(&c->wire, timeout_ms, &line, err);

	if (r < 0)
		return cvb_err_wrap(err, r, "waiting for the agent");
	if (!json_is_true(json_object_get(line, "ready")))
		return cvb_err_set(err, -EPROTO, "the agent's first line does not say \"ready\"");
	if (json_integer_value(json_object_get(line, "protocol")) != CVB_AGENT_PROTOCOL)
		return cvb_err_set(
			err, -EPROTO,
			"the agent does not speak protocol %d: build the guest image again "
			"(scripts/guest)",
			CVB_AGENT_PROTOCOL);
	json_decref(c->tool);
	c->tool =
		json_pack("{s:o, s:o}", "version",
			  clean_text(json_object_get(json_object_get(line, "tool"), "version")),
			  "git", clean_text(json_object_get(json_object_get(line, "tool"), "git")));
	return 0;
}

bool cvb_client_lost(int code)
{
	return code == -EPIPE || code == -EPROTO || code == -ETIMEDOUT || code == -EINTR ||
	       code == -ENOMEM;
}

/* The errno that an agent's error names; anything it may not claim becomes -EREMOTEIO: no code that
 * cvb_client_lost takes for a lost target. */
static int remote_code(const char *name)
{
	static const int known[] = {EOPNOTSUPP, ENODEV, EINVAL, EBADMSG, E2BIG,
				    ENOSPC,	EACCES, EPERM,	EIO};

	for (size_t i = 0; name && i < CVB_ARRAY_LEN(known); i++)
		if (!strcmp(name, cvb_errno_name(known[i])))
			return -known[i];
	return -EREMOTEIO;
}

static int remote_error(const json_t *reply, struct cvb_err *err)
{
	const json_t *e = json_object_get(reply, "error");
	const char *text = json_string_value(json_object_get(e, "text"));
	char buf[CVB_ERR_MSG_BYTES];

	snprintf(buf, sizeof(buf), "%s", text && *text ? text : "the agent gave no reason");
	cvb_wire_sanitise(buf);
	return cvb_err_set(err, remote_code(json_string_value(json_object_get(e, "errno"))), "%s",
			   buf);
}

int cvb_client_call(struct cvb_client *c, const char *op, json_t *args, unsigned timeout_ms,
		    json_t **ret, struct cvb_err *err)
{
	json_int_t id = (json_int_t)c->next_id++;
	_cleanup_json_ json_t *request = NULL;
	_cleanup_json_ json_t *reply = NULL;
	json_t *result;
	int r;

	request = json_pack("{s:I, s:s, s:o}", "id", id, "op", op, "args",
			    args ? args : json_object());
	if (!request)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	cvb_debug("agent", "request %" PRIu64 " %s", (uint64_t)id, op);
	r = cvb_wire_send(&c->wire, request, timeout_ms, err);
	if (r == 0)
		r = cvb_wire_recv(&c->wire, timeout_ms, &reply, err);
	if (r == -ETIMEDOUT)
		return cvb_err_set(err, r, "the agent did not answer \"%s\" within %u s", op,
				   timeout_ms / 1000);
	if (r < 0)
		return cvb_err_wrap(err, r, "asking the agent to %s", op);
	if (!json_is_integer(json_object_get(reply, "id")) ||
	    json_integer_value(json_object_get(reply, "id")) != id)
		return cvb_err_set(err, -EPROTO, "the agent answered something else than \"%s\"",
				   op);
	if (!json_is_true(json_object_get(reply, "ok")))
		return remote_error(reply, err);
	result = json_object_get(reply, "result");
	if (!json_is_object(result))
		return cvb_err_set(err, -EPROTO, "the agent's answer to \"%s\" has no result", op);
	*ret = json_incref(result);
	return 0;
}

/* --- the environment record ------------------------------------------------------------------ */

#define ENVIRONMENT_DEPTH 4
#define ENVIRONMENT_NODES 512

/* A copy of what is plain and small: flat texts, numbers, words; deeper or longer parts are left
 * out. */
static json_t *take_plain(const json_t *v, unsigned depth, unsigned *left)
{
	const char *key;
	json_t *taken, *child;
	size_t i;

	if (!*left)
		return NULL;
	--*left;
	if (json_is_string(v))
		return clean_text(v);
	if (json_is_number(v) || json_is_boolean(v) || json_is_null(v))
		return json_incref((json_t *)(uintptr_t)v);
	if (!depth)
		return NULL;
	if (json_is_array(v)) {
		taken = json_array();
		json_array_foreach (v, i, child)
			json_array_append_new(taken, take_plain(child, depth - 1, left));
		return taken;
	}
	taken = json_object();
	json_object_foreach ((json_t *)(uintptr_t)v, key, child)
		if (strlen(key) <= 40 && key[strspn(key, PLAIN_CHARS)] == '\0')
			json_object_set_new(taken, key, take_plain(child, depth - 1, left));
	return taken;
}

int cvb_client_fingerprint(struct cvb_client *c, unsigned timeout_ms, json_t **ret,
			   struct cvb_err *err)
{
	_cleanup_json_ json_t *result = NULL;
	unsigned left = ENVIRONMENT_NODES;
	int r = cvb_client_call(c, "fingerprint", NULL, timeout_ms, &result, err);

	if (r < 0)
		return r;
	*ret = take_plain(result, ENVIRONMENT_DEPTH, &left);
	return *ret ? 0 : cvb_err_set(err, -ENOMEM, "out of memory");
}

/* --- its clock -------------------------------------------------------------------------------- */

int cvb_client_clock(struct cvb_client *c, unsigned timeout_ms, struct cvb_clock_mark *ret,
		     struct cvb_err *err)
{
	ret->error_ns = UINT64_MAX;
	for (int i = 0; i < CLOCK_TRIES; i++) {
		_cleanup_json_ json_t *result = NULL;
		uint64_t before_ns = cvb_now_ns(), took_ns;
		int r = cvb_client_call(c, "clock", NULL, timeout_ms, &result, err);
		json_t *now = json_object_get(result, "now_ns");

		took_ns = cvb_now_ns() - before_ns;
		if (r < 0)
			return r;
		if (!json_is_integer(now) || json_integer_value(now) < 0)
			return cvb_err_set(err, -EPROTO, "the agent sent a time that is no number");
		if (took_ns / 2 < ret->error_ns)
			*ret = (struct cvb_clock_mark){.host_ns = before_ns + took_ns / 2,
						       .there_ns =
							       (uint64_t)json_integer_value(now),
						       .error_ns = took_ns - took_ns / 2};
	}
	return 0;
}

void cvb_clock_rate(const struct cvb_clock_mark *from, const struct cvb_clock_mark *to,
		    double *ret_error_ratio, double *ret_uncertainty_ratio)
{
	double here_ns = (double)to->host_ns - (double)from->host_ns;
	double there_ns = (double)to->there_ns - (double)from->there_ns;

	*ret_error_ratio = here_ns > 0 ? there_ns / here_ns - 1 : NAN;
	*ret_uncertainty_ratio =
		here_ns > 0 ? ((double)from->error_ns + (double)to->error_ns) / here_ns : NAN;
}

static bool is_count(const json_t *v, json_int_t max)
{
	return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= max;
}

/* The swiotlb pool: only the known keys, only whole numbers that they can have. */
static json_t *take_swiotlb(const json_t *s)
{
	static const struct {
		const char *key;
		json_int_t max;
	} rows[] = {{"nslabs", (json_int_t)1 << 40},	   {"used", (json_int_t)1 << 40},
		    {"used_hiwater", (json_int_t)1 << 40}, {"full", 1000000},
		    {"max_sectors_kb", UINT32_MAX},	   {"max_segment_size_bytes", UINT32_MAX}};
	json_t *taken;

	if (!json_is_object(s))
		return json_null();
	taken = json_object();
	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++) {
		json_t *v = json_object_get(s, rows[i].key);

		if (is_count(v, rows[i].max))
			json_object_set(taken, rows[i].key, v);
	}
	return taken;
}

int cvb_client_swiotlb(struct cvb_client *c, unsigned timeout_ms, json_t **ret, struct cvb_err *err)
{
	_cleanup_json_ json_t *result = NULL;
	int r = cvb_client_call(c, "swiotlb", NULL, timeout_ms, &result, err);

	if (r < 0)
		return r;
	*ret = take_swiotlb(json_object_get(result, "swiotlb"));
	return *ret ? 0 : cvb_err_set(err, -ENOMEM, "out of memory");
}

/* --- checked benchmark calls ------------------------------------------------------------------ */

/* Parameters may only be a flat object of numbers and plain, short words, by names of our own. */
static int check_params(const struct cvb_bench *bench, const json_t *params, struct cvb_err *err)
{
	const char *key;
	json_t *v;

	if (!params || json_is_null(params))
		return 0;
	if (!json_is_object(params) || json_object_size(params) > MAX_PARAMS)
		return cvb_err_set(err, -EPROTO,
				   "the agent sent series parameters of a wrong shape");
	json_object_foreach ((json_t *)(uintptr_t)params, key, v) {
		const char *text = json_string_value(v);

		if (!cvb_bench_has_param(bench, key))
			return cvb_err_set(err, -EPROTO,
					   "the agent sent a series parameter that %s does not "
					   "have",
					   bench->name);
		if ((text && (strlen(text) > 60 || text[strspn(text, PLAIN_CHARS)])) ||
		    (!text && !json_is_number(v) && !json_is_boolean(v)))
			return cvb_err_set(err, -EPROTO,
					   "the agent sent a series parameter that is "
					   "neither a number nor a plain word");
	}
	return 0;
}

static const struct cvb_metric *known_metric(const struct cvb_bench *bench, const char *full)
{
	size_t len = strlen(bench->name);

	if (!full || strncmp(full, bench->name, len) != 0 || full[len] != '/')
		return NULL;
	for (const struct cvb_metric *m = bench->metrics; m->name; m++)
		if (!strcmp(m->name, full + len + 1))
			return m;
	return NULL;
}

/* A series that is announced twice could not be told apart later. */
static int check_new(json_t *seen, const struct cvb_metric *m, const json_t *params,
		     struct cvb_err *err)
{
	_cleanup_free_ char *key = json_is_object(params)
					   ? json_dumps(params, JSON_COMPACT | JSON_SORT_KEYS)
					   : strdup("");
	_cleanup_free_ char *whole = key ? cvb_strf("%s%s", m->name, key) : NULL;

	if (!whole)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (json_object_get(seen, whole))
		return cvb_err_set(err, -EPROTO, "the agent announced a series twice");
	json_object_set_new(seen, whole, json_true());
	return 0;
}

static int take_series(struct cvb_remote *remote, const json_t *list, struct cvb_err *err)
{
	_cleanup_json_ json_t *seen = NULL;
	size_t n = json_array_size(list);

	if (!n || n > MAX_SERIES)
		return cvb_err_set(err, -EPROTO, "the agent announced %zu series", n);
	remote->series = json_array();
	seen = json_object();
	for (size_t i = 0; i < n; i++) {
		const json_t *s = json_array_get(list, i);
		json_t *params = json_object_get(s, "params");
		const struct cvb_metric *m = known_metric(
			remote->bench, json_string_value(json_object_get(s, "metric")));
		int r;

		if (!m)
			return cvb_err_set(err, -EPROTO,
					   "the agent announced a metric that %s does not have",
					   remote->bench->name);
		r = check_params(remote->bench, params, err);
		if (r == 0)
			r = check_new(seen, m, params, err);
		if (r < 0)
			return r;
		json_array_append_new(
			remote->series,
			json_pack("{s:s++, s:s, s:s, s:O}", "metric", remote->bench->name, "/",
				  m->name, "unit", cvb_metric_unit(m), "better",
				  cvb_better_text(m->better), "params",
				  params && !json_is_null(params) ? params : json_null()));
	}
	remote->n_series = n;
	return 0;
}

/* A whole number that is not negative; 0 for anything else. */
static json_int_t count_of(const json_t *obj, const char *key)
{
	return cvb_max(json_integer_value(json_object_get(obj, key)), (json_int_t)0);
}

static json_t *take_notes(const json_t *list)
{
	json_t *notes = json_array();
	size_t n = cvb_min(json_array_size(list), (size_t)MAX_NOTES);

	for (size_t i = 0; i < n; i++)
		json_array_append_new(notes, clean_text(json_array_get(list, i)));
	return notes;
}

static int take_left_out(struct cvb_remote *remote, const json_t *list, struct cvb_err *err)
{
	size_t n = cvb_min(json_array_size(list), (size_t)MAX_LEFT_OUT);

	remote->left_out = json_array();
	for (size_t i = 0; i < n; i++) {
		const json_t *row = json_array_get(list, i);
		json_t *params = json_object_get(row, "params");
		int r = check_params(remote->bench, params, err);

		if (r < 0)
			return r;
		json_array_append_new(remote->left_out,
				      json_pack("{s:O, s:o}", "params",
						json_is_object(params) ? params : json_null(),
						"reason",
						clean_text(json_object_get(row, "reason"))));
	}
	return 0;
}

/* Our own option names only, and plain values. */
static json_t *take_options(const struct cvb_bench *bench, const json_t *options)
{
	json_t *taken = json_object();
	const char *key;
	json_t *v;

	json_object_foreach ((json_t *)(uintptr_t)options, key, v) {
		if (!cvb_opt_find(bench->opts, key))
			continue;
		if (json_is_string(v))
			json_object_set_new(taken, key, clean_text(v));
		else if (json_is_number(v) || json_is_boolean(v) || json_is_null(v))
			json_object_set(taken, key, v);
	}
	return taken;
}

int cvb_remote_setup(struct cvb_client *c, const struct cvb_setup *setup, struct cvb_remote *ret,
		     struct cvb_err *err)
{
	_cleanup_json_ json_t *result = NULL;
	unsigned left = ENVIRONMENT_NODES;
	json_int_t cases;
	json_t *args;
	int r;

	*ret = (struct cvb_remote){.bench = setup->bench};
	args = json_pack("{s:s, s:O*, s:s*, s:s*, s:s*, s:i, s:I}", "bench", setup->bench->name,
			 "options", setup->options, "gpu", setup->gpu, "peer", setup->peer, "disk",
			 setup->disk, "threads", (int)setup->threads, "sample_ns",
			 (json_int_t)setup->sample_ns);
	r = cvb_client_call(c, "setup", args, setup->timeout_ms, &result, err);
	if (r < 0)
		return r;
	cases = json_integer_value(json_object_get(result, "cases"));
	r = take_series(ret, json_object_get(result, "series"), err);
	if (r == 0)
		r = take_left_out(ret, json_object_get(result, "left_out"), err);
	if (r == 0 && (cases < 1 || (size_t)cases > ret->n_series))
		r = cvb_err_set(err, -EPROTO, "the agent announced a wrong number of cases");
	if (r < 0) {
		cvb_remote_done(ret);
		return r;
	}
	ret->n_cases = (size_t)cases;
	ret->workers = (unsigned)cvb_min(count_of(result, "workers"), (json_int_t)MAX_WORKERS);
	ret->timer_ns = (uint64_t)count_of(result, "timer_ns");
	ret->options = take_options(setup->bench, json_object_get(result, "options"));
	ret->notes = take_notes(json_object_get(result, "notes"));
	if (json_is_object(json_object_get(result, "gpu")))
		ret->gpu = take_plain(json_object_get(result, "gpu"), ENVIRONMENT_DEPTH, &left);
	ret->emulated = json_is_true(json_object_get(result, "emulated"));
	ret->deterministic = json_is_true(json_object_get(result, "deterministic"));
	return 0;
}

int cvb_remote_calibrate(struct cvb_client *c, struct cvb_remote *remote, unsigned timeout_ms,
			 struct cvb_err *err)
{
	_cleanup_json_ json_t *result = NULL;
	json_t *iters;
	int r = cvb_client_call(c, "calibrate", NULL, timeout_ms, &result, err);

	if (r < 0)
		return r;
	iters = json_object_get(result, "iters");
	if (json_array_size(iters) != remote->n_cases)
		return cvb_err_set(err, -EPROTO,
				   "the agent sent a wrong number of iteration counts");
	for (size_t i = 0; i < remote->n_cases; i++)
		if (json_integer_value(json_array_get(iters, i)) < 1 ||
		    json_integer_value(json_array_get(iters, i)) > MAX_ITERS)
			return cvb_err_set(err, -EPROTO,
					   "the agent sent an iteration count out of range");
	json_decref(remote->iters);
	remote->iters = json_incref(iters);
	return 0;
}

int cvb_remote_warm_up(struct cvb_client *c, struct cvb_remote *remote, uint64_t budget_ns,
		       unsigned timeout_ms, json_t **ret_steady, uint64_t *ret_ns,
		       struct cvb_err *err)
{
	_cleanup_json_ json_t *result = NULL;
	json_t *steady, *spent;
	int r = cvb_client_call(
		c, "warm_up",
		json_pack("{s:O, s:I}", "iters", remote->iters, "budget_ns", (json_int_t)budget_ns),
		timeout_ms, &result, err);

	if (r < 0)
		return r;
	steady = json_object_get(result, "steady");
	spent = json_object_get(result, "warmup_ns");
	if (!json_is_integer(spent) || json_integer_value(spent) < 0 ||
	    (!json_is_null(steady) && json_array_size(steady) != remote->n_series))
		return cvb_err_set(err, -EPROTO, "the agent sent a warm-up of a wrong shape");
	for (size_t i = 0; i < json_array_size(steady); i++) {
		const char *word = json_string_value(json_array_get(steady, i));

		if (!word || cvb_steady_of_name(word) < 0)
			return cvb_err_set(err, -EPROTO,
					   "the agent sent a warm-up that is no known word");
	}
	*ret_steady = json_incref(steady);
	*ret_ns = (uint64_t)json_integer_value(spent);
	return 0;
}

/* A part of a whole; null (not known) for anything that cannot be one.  A guest's counters of CPU
 * time do not always add up: more than all is all. */
static json_t *take_ratio(const json_t *v)
{
	double x = json_number_value(v);

	return json_is_number(v) && x >= 0 ? json_real(cvb_min(x, 1.0)) : json_null();
}

static bool has_word(const json_t *list, const char *word)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *w = json_string_value(json_array_get(list, i));

		if (w && !strcmp(w, word))
			return true;
	}
	return false;
}

static void take_slow(json_t *taken, const json_t *list)
{
	json_t *slow = json_array();
	uint32_t bits = 0;
	const char *name;

	for (unsigned bit = 0; (name = cvb_gpu_slow_text(bit)); bit++) {
		if (!has_word(list, name))
			continue;
		bits |= 1U << bit;
		json_array_append_new(slow, json_string(name));
	}
	json_object_set_new(taken, "slow", slow);
	/* what the reasons mean is for us to say */
	json_object_set_new(taken, "throttled", json_boolean((bits & CVB_GPU_THROTTLES) != 0));
}

/* Two readings of the GPU around a sample (cvb_gpu_health_json), of those keys that it knows. */
static json_t *take_gpu(const json_t *g)
{
	static const char *const pairs[] = {"sm_clock_mhz", "memory_clock_mhz", "power_mw",
					    "temperature_c"};
	static const char *const counters[] = {"heat_ns", "power_ns"};
	json_t *taken, *v;

	if (!json_is_object(g))
		return json_null();
	taken = json_object();
	for (size_t i = 0; i < CVB_ARRAY_LEN(pairs); i++) {
		v = json_object_get(g, pairs[i]);
		if (json_array_size(v) == 2 && is_count(json_array_get(v, 0), UINT32_MAX) &&
		    is_count(json_array_get(v, 1), UINT32_MAX))
			json_object_set(taken, pairs[i], v);
	}
	for (size_t i = 0; i < CVB_ARRAY_LEN(counters); i++) {
		v = json_object_get(g, counters[i]);
		if (is_count(v, INT64_MAX))
			json_object_set(taken, counters[i], v);
	}
	if (json_is_array(json_object_get(g, "slow")))
		take_slow(taken, json_object_get(g, "slow"));
	return taken;
}

int cvb_remote_sample(struct cvb_client *c, struct cvb_remote *remote, json_t *iters,
		      unsigned timeout_ms, json_t **ret, struct cvb_err *err)
{
	_cleanup_json_ json_t *result = NULL;
	json_t *values, *duration, *throttles;
	int r;

	r = cvb_client_call(c, "sample", json_pack("{s:O}", "iters", iters), timeout_ms, &result,
			    err);
	if (r < 0)
		return r;
	values = json_object_get(result, "values");
	duration = json_object_get(result, "duration_ns");
	throttles = json_object_get(result, "throttles");
	if (json_array_size(values) != remote->n_series || !json_is_integer(duration) ||
	    json_integer_value(duration) < 0)
		return cvb_err_set(err, -EPROTO, "the agent sent a sample of a wrong shape");
	for (size_t i = 0; i < remote->n_series; i++) {
		const json_t *v = json_array_get(values, i);

		if (!json_is_number(v) && !json_is_null(v))
			return cvb_err_set(err, -EPROTO,
					   "the agent sent a value that is no number");
	}
	json_decref(remote->notes);
	remote->notes = take_notes(json_object_get(result, "notes"));
	*ret = json_pack("{s:O, s:O, s:I, s:o, s:I, s:O, s:o, s:o}", "values", values,
			 "duration_ns", duration, "shortest_ns", count_of(result, "shortest_ns"),
			 "steal_ratio", take_ratio(json_object_get(result, "steal_ratio")),
			 "steal_ns", count_of(result, "steal_ns"), "throttles",
			 json_integer_value(throttles) >= 0 && json_is_integer(throttles)
				 ? throttles
				 : json_null(),
			 "swiotlb", take_swiotlb(json_object_get(result, "swiotlb")), "gpu",
			 take_gpu(json_object_get(result, "gpu")));
	return *ret ? 0 : cvb_err_set(err, -ENOMEM, "out of memory");
}

int cvb_remote_verify(struct cvb_client *c, const struct cvb_remote *remote, unsigned timeout_ms,
		      struct cvb_err *err)
{
	_cleanup_json_ json_t *result = NULL;

	(void)remote;
	return cvb_client_call(c, "verify", NULL, timeout_ms, &result, err);
}

void cvb_remote_done(struct cvb_remote *remote)
{
	json_decref(remote->series);
	json_decref(remote->iters);
	json_decref(remote->options);
	json_decref(remote->notes);
	json_decref(remote->left_out);
	json_decref(remote->gpu);
	*remote = (struct cvb_remote){0};
}

void cvb_remote_teardown(struct cvb_client *c, struct cvb_remote *remote)
{
	_cleanup_json_ json_t *result = NULL;

	if (remote->bench)
		cvb_ignore(cvb_client_call(c, "teardown", NULL, TEARDOWN_MS, &result, NULL));
	cvb_remote_done(remote);
}
