/* SPDX-License-Identifier: Apache-2.0 */
/* The line protocol against a peer that is slow, dead, or hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/util.h"
#include "target/agent.h"
#include "target/client.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

struct pair {
	struct cvb_client client;
	int peer; /* the agent's end */
};

static void open_pair(struct pair *p)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	cvb_client_init(&p->client, sv[0], sv[0]);
	p->peer = sv[1];
}

static void close_pair(struct pair *p)
{
	cvb_client_done(&p->client);
	if (p->peer >= 0)
		close(p->peer);
}

static void say(struct pair *p, const char *text)
{
	assert_int_equal(write(p->peer, text, strlen(text)), (ssize_t)strlen(text));
}

static const struct cvb_bench *nop(void)
{
	const struct cvb_bench *b = cvb_bench_find("null.nop", NULL);

	assert_non_null(b);
	return b;
}

static void lines_may_come_in_pieces_or_together(void **state)
{
	struct cvb_err err = {0};
	struct pair p;
	json_t *j;

	(void)state;
	open_pair(&p);
	say(&p, "{\"a\":1}\n{\"b\"");
	assert_int_equal(cvb_wire_recv(&p.client.wire, 1000, &j, &err), 0);
	assert_int_equal(json_integer_value(json_object_get(j, "a")), 1);
	json_decref(j);
	say(&p, ":2}\r\n");
	assert_int_equal(cvb_wire_recv(&p.client.wire, 1000, &j, &err), 0);
	assert_int_equal(json_integer_value(json_object_get(j, "b")), 2);
	json_decref(j);
	close_pair(&p);
}

static void silence_and_death_end_the_wait(void **state)
{
	struct cvb_err err = {0};
	struct pair p;
	json_t *j;

	(void)state;
	open_pair(&p);
	assert_int_equal(cvb_wire_recv(&p.client.wire, 30, &j, &err), -ETIMEDOUT);
	close(p.peer);
	p.peer = -1;
	assert_int_equal(cvb_wire_recv(&p.client.wire, 1000, &j, &err), -EPIPE);
	close_pair(&p);
}

static void *flood(void *arg)
{
	char *block = malloc(1 << 16);
	int fd = *(int *)arg;

	assert_non_null(block);
	memset(block, 'x', 1 << 16);
	while (send(fd, block, 1 << 16, MSG_NOSIGNAL) > 0)
		;
	free(block);
	return NULL;
}

static void endless_line_is_cut_off(void **state)
{
	struct cvb_err err = {0};
	struct pair p;
	pthread_t t;
	json_t *j;

	(void)state;
	open_pair(&p);
	assert_int_equal(pthread_create(&t, NULL, flood, &p.peer), 0);
	assert_int_equal(cvb_wire_recv(&p.client.wire, 20000, &j, &err), -EBADMSG);
	assert_true(p.client.wire.room <= 2 * CVB_WIRE_MAX_LINE);
	cvb_client_done(&p.client);
	pthread_join(t, NULL);
	close(p.peer);
}

static void nonsense_is_refused_and_shown_clean(void **state)
{
	static const char *const bad[] = {
		"hello\n",    "[1,2]\n",       "{\"a\":1,\"a\":2}\n",	"{\"a\":\n",
		"\"text\"\n", "\x1b[2J\x07\n", "{\"a\":\"\xff\xfe\"}\n"};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
		struct cvb_err err = {0};
		char text[1024];
		struct pair p;
		json_t *j;

		open_pair(&p);
		say(&p, bad[i]);
		assert_int_equal(cvb_wire_recv(&p.client.wire, 1000, &j, &err), -EBADMSG);
		cvb_err_text(&err, text, sizeof(text));
		for (char *c = text; *c; c++)
			assert_true(*c >= ' ' && *c <= '~'); /* nothing for the terminal to obey */
		close_pair(&p);
	}
}

static void deep_nesting_does_not_exhaust_the_stack(void **state)
{
	_cleanup_free_ char *deep = malloc(200001);
	struct cvb_err err = {0};
	struct pair p;
	pthread_t t;
	json_t *j;

	(void)state;
	(void)t;
	assert_non_null(deep);
	memset(deep, '[', 100000);
	deep[100000] = '\n';
	deep[100001] = '\0';
	open_pair(&p);
	say(&p, deep);
	assert_int_equal(cvb_wire_recv(&p.client.wire, 5000, &j, &err), -EBADMSG);
	close_pair(&p);
}

/* An environment record is cut to what is plain and small. */
static void environment_is_cleaned(void **state)
{
	struct cvb_err err = {0};
	char deep[5000] =
		"{\"id\":1,\"ok\":true,\"result\":{\"a b\":1,\"os\":\"x\\u001by\",\"n\":3,"
		"\"deep\":";
	struct pair p;
	json_t *env;

	(void)state;
	for (int i = 0; i < 1000; i++)
		strncat(deep, "[", sizeof(deep) - strlen(deep) - 1);
	for (int i = 0; i < 1000; i++)
		strncat(deep, "]", sizeof(deep) - strlen(deep) - 1);
	strncat(deep, "}}\n", sizeof(deep) - strlen(deep) - 1);
	open_pair(&p);
	say(&p, deep);
	assert_int_equal(cvb_client_fingerprint(&p.client, 2000, &env, &err), 0);
	assert_null(json_object_get(env, "a b"));
	assert_string_equal(json_string_value(json_object_get(env, "os")), "x?y");
	assert_int_equal(json_integer_value(json_object_get(env, "n")), 3);
	char *text = json_dumps(env, JSON_COMPACT);

	assert_true(strlen(text) < 100);
	free(text);
	json_decref(env);
	close_pair(&p);
}

/* Each reply to "setup" that a hostile agent may think of must end in an error. */
static void lying_setup_is_refused(void **state)
{
#define OK2(result) "{\"id\":2,\"ok\":true,\"result\":" result "}\n"
#define OK(result)  "{\"id\":1,\"ok\":true,\"result\":" result "}\n"
	static const char *const bad[] = {
		"{\"id\":2,\"ok\":true,\"result\":{}}\n",
		"{\"id\":\"1\",\"ok\":true,\"result\":{}}\n",
		"{\"id\":1,\"ok\":true}\n",
		"{\"id\":1,\"ok\":1,\"result\":{}}\n",
		OK("[]"),
		OK("{}"),
		OK("{\"series\":[],\"cases\":0}"),
		OK("{\"series\":[{\"metric\":\"null.nop/cost\"}],\"cases\":2}"),
		OK("{\"series\":[{\"metric\":\"null.nop/cost\"}],\"cases\":-1}"),
		OK("{\"series\":[{\"metric\":\"null.nop/<script>\"}],\"cases\":1}"),
		OK("{\"series\":[{\"metric\":\"mem.stream/triad\"}],\"cases\":1}"),
		OK("{\"series\":[{\"metric\":7}],\"cases\":1}"),
		OK("{\"series\":[{\"metric\":\"null.nop/cost\"},{\"metric\":\"null.nop/cost\"}],"
		   "\"cases\":2}"),
		OK("{\"series\":[{\"metric\":\"null.nop/cost\",\"params\":[1]}],\"cases\":1}"),
		OK("{\"series\":[{\"metric\":\"null.nop/cost\",\"params\":{\"a b\":1}}],\"cases\":1}"),
		OK("{\"series\":[{\"metric\":\"null.nop/cost\",\"params\":{\"a\":{\"b\":1}}}],\"cases\":1}"),
		OK("{\"series\":[{\"metric\":\"null.nop/cost\",\"params\":{\"a\":\"<b>\"}}],\"cases\":1}"),
	};
	struct cvb_setup setup = {.bench = nop(), .timeout_ms = 2000};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
		struct cvb_remote remote;
		struct cvb_err err = {0};
		struct pair p;

		open_pair(&p);
		say(&p, bad[i]);
		if (cvb_remote_setup(&p.client, &setup, &remote, &err) == 0)
			fail_msg("accepted: %s", bad[i]);
		close_pair(&p);
	}
}

/* Names of parameters are our own, as names of metrics are. */
static void params_have_names_that_the_benchmark_lists(void **state)
{
#define LATENCY(name)                                                                              \
	"{\"series\":[{\"metric\":\"mem.latency/latency\",\"params\":{\"" name "\":1}}],\"cases\":1"
	static const struct {
		const char *reply;
		int code;
	} cases[] = {
		{OK(LATENCY("size_bytes") "}"), 0},
		{OK(LATENCY("size") "}"), -EPROTO},
		{OK(LATENCY("") "}"), -EPROTO},
		{OK(LATENCY("size_bytes") ",\"left_out\":[{\"params\":{\"pages\":\"1gib\"}}]}"), 0},
		{OK(LATENCY("size_bytes") ",\"left_out\":[{\"params\":{\"page\":\"1gib\"}}]}"),
		 -EPROTO},
	};
	struct cvb_setup setup = {.bench = cvb_bench_find("mem.latency", NULL), .timeout_ms = 2000};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(cases); i++) {
		struct cvb_remote remote;
		struct cvb_err err = {0};
		struct pair p;

		open_pair(&p);
		say(&p, cases[i].reply);
		if (cvb_remote_setup(&p.client, &setup, &remote, &err) != cases[i].code)
			fail_msg("wrong answer to: %s", cases[i].reply);
		cvb_remote_done(&remote);
		close_pair(&p);
	}
}

/* A benchmark that is set up: null.nop with its one series. */
static void open_bench(struct pair *p, struct cvb_remote *remote)
{
	struct cvb_setup setup = {.bench = nop(), .timeout_ms = 2000};
	struct cvb_err err = {0};

	open_pair(p);
	say(p, OK("{\"series\":[{\"metric\":\"null.nop/cost\"}],\"cases\":1}"));
	assert_int_equal(cvb_remote_setup(&p->client, &setup, remote, &err), 0);
}

static void close_bench(struct pair *p, struct cvb_remote *remote)
{
	cvb_remote_done(remote);
	close_pair(p);
}

static void lying_samples_are_refused(void **state)
{
	static const char *const bad[] = {
		"{\"id\":2,\"ok\":true,\"result\":{\"values\":[],\"duration_ns\":1}}\n",
		"{\"id\":2,\"ok\":true,\"result\":{\"values\":[1,2],\"duration_ns\":1}}\n",
		"{\"id\":2,\"ok\":true,\"result\":{\"values\":[\"1\"],\"duration_ns\":1}}\n",
		"{\"id\":2,\"ok\":true,\"result\":{\"values\":[1.0]}}\n",
		OK2("{\"values\":[1.0],\"duration_ns\":-1}"),
		OK2("{\"values\":[1.0],\"duration_ns\":1.5}"),
		OK2("{\"values\":{\"0\":1.0},\"duration_ns\":1}"),
		OK2("{\"values\":[true],\"duration_ns\":1}"),
		OK2("{\"values\":[[1.0]],\"duration_ns\":1}"),
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
		struct cvb_remote remote;
		struct cvb_err err = {0};
		_cleanup_json_ json_t *iters = json_pack("[i]", 1);
		struct pair p;
		json_t *row = NULL;

		open_bench(&p, &remote);
		say(&p, bad[i]);
		assert_int_equal(cvb_remote_sample(&p.client, &remote, iters, 2000, &row, &err),
				 -EPROTO);
		assert_null(row);
		close_bench(&p, &remote);
	}
}

/* Nothing of a sample reaches the journal but numbers that can be true: the reader of the journal
 * refuses others, and with them the whole campaign. */
static void samples_are_cut_to_what_can_be_true(void **state)
{
#define SAMPLE(more) OK2("{\"values\":[1.5],\"duration_ns\":7" more "}")
#define ROW(shortest, ratio, ns, throttles, swiotlb)                                               \
	ROW_GPU(shortest, ratio, ns, throttles, swiotlb, "null")
#define ROW_GPU(shortest, ratio, ns, throttles, swiotlb, gpu)                                      \
	"{\"values\":[1.5],\"duration_ns\":7,\"shortest_ns\":" shortest ",\"steal_ratio\":" ratio  \
	",\"steal_ns\":" ns ",\"throttles\":" throttles ",\"swiotlb\":" swiotlb ",\"gpu\":" gpu    \
	"}"
	static const struct {
		const char *reply, *row;
	} cases[] = {
		{SAMPLE(""), ROW("0", "null", "0", "null", "null")},
		{SAMPLE(",\"shortest_ns\":3,\"steal_ratio\":0.25,\"steal_ns\":4,\"throttles\":0"),
		 ROW("3", "0.25", "4", "0", "null")},
		{SAMPLE(",\"shortest_ns\":-3,\"steal_ratio\":-0.25,\"steal_ns\":-4,\"throttles\":-1"),
		 ROW("0", "null", "0", "null", "null")},
		{SAMPLE(",\"steal_ratio\":1e300"), ROW("0", "1.0", "0", "null", "null")},
		{SAMPLE(",\"shortest_ns\":\"3\",\"steal_ratio\":\"<b>\",\"steal_ns\":[4],"
			"\"throttles\":{\"a\":1},\"swiotlb\":[1],\"extra\":\"<script>\""),
		 ROW("0", "null", "0", "null", "null")},
		{SAMPLE(",\"throttles\":0.5,\"swiotlb\":\"full\""),
		 ROW("0", "null", "0", "null", "null")},
		{SAMPLE(",\"swiotlb\":{}"), ROW("0", "null", "0", "null", "{}")},
		{SAMPLE(",\"swiotlb\":{\"nslabs\":32768,\"used\":5,\"used_hiwater\":9,\"full\":2,"
			"\"max_sectors_kb\":256,\"max_segment_size_bytes\":4096}"),
		 ROW("0", "null", "0", "null",
		     "{\"nslabs\":32768,\"used\":5,\"used_hiwater\":9,\"full\":2,"
		     "\"max_sectors_kb\":256,\"max_segment_size_bytes\":4096}")},
		{SAMPLE(",\"swiotlb\":{\"nslabs\":-1,\"used\":1.5,\"used_hiwater\":1099511627777,"
			"\"full\":1000001,\"max_sectors_kb\":4294967296,\"<b>\":1,"
			"\"max_segment_size_bytes\":{\"a\":[[[[1]]]]}}"),
		 ROW("0", "null", "0", "null", "{}")},
		{SAMPLE(",\"gpu\":{\"sm_clock_mhz\":[1980,1755],\"power_mw\":[71000,702000],"
			"\"heat_ns\":5,\"slow\":[\"heat\",\"power\",\"heat\"],\"throttled\":false}"),
		 ROW_GPU("0", "null", "0", "null", "null",
			 "{\"sm_clock_mhz\":[1980,1755],\"power_mw\":[71000,702000],\"heat_ns\":5,"
			 "\"slow\":[\"power\",\"heat\"],\"throttled\":true}")},
		{SAMPLE(",\"gpu\":{\"sm_clock_mhz\":[1,2,3],\"power_mw\":[1,-1],\"temperature_c\":"
			"[1,\"2\"],\"power_ns\":-1,\"<b>\":1,\"slow\":[\"<b>\",\"power\",1],"
			"\"throttled\":true}"),
		 ROW_GPU("0", "null", "0", "null", "null",
			 "{\"slow\":[\"power\"],\"throttled\":false}")},
		{SAMPLE(",\"gpu\":[\"heat\"]"), ROW("0", "null", "0", "null", "null")},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(cases); i++) {
		_cleanup_json_ json_t *iters = json_pack("[i]", 1), *row = NULL;
		_cleanup_free_ char *text = NULL;
		struct cvb_remote remote;
		struct cvb_err err = {0};
		struct pair p;

		open_bench(&p, &remote);
		say(&p, cases[i].reply);
		assert_int_equal(cvb_remote_sample(&p.client, &remote, iters, 2000, &row, &err), 0);
		text = json_dumps(row, JSON_COMPACT);
		assert_string_equal(text, cases[i].row);
		close_bench(&p, &remote);
	}
}

/* What counts of a benchmark's set-up besides its series. */
static void set_up_is_cut_to_what_can_be_true(void **state)
{
	static const struct {
		const char *more;
		unsigned workers;
		uint64_t timer_ns;
	} cases[] = {
		{OK("{\"series\":[{\"metric\":\"null.nop/cost\"}],\"cases\":1,\"workers\":3,"
		    "\"timer_ns\":20}"),
		 3, 20},
		{OK("{\"series\":[{\"metric\":\"null.nop/cost\"}],\"cases\":1,\"workers\":-1,"
		    "\"timer_ns\":-20}"),
		 0, 0},
		{OK("{\"series\":[{\"metric\":\"null.nop/cost\"}],\"cases\":1,"
		    "\"workers\":4294967297,\"timer_ns\":\"20\",\"options\":{\"x\":1},"
		    "\"notes\":[\"\\u001b[2J\"]}"),
		 999999, 0},
	};
	struct cvb_setup setup = {.bench = nop(), .timeout_ms = 2000};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(cases); i++) {
		struct cvb_remote remote;
		struct cvb_err err = {0};
		struct pair p;

		open_pair(&p);
		say(&p, cases[i].more);
		assert_int_equal(cvb_remote_setup(&p.client, &setup, &remote, &err), 0);
		assert_int_equal(remote.workers, cases[i].workers);
		assert_int_equal(remote.timer_ns, cases[i].timer_ns);
		assert_int_equal(json_object_size(remote.options), 0);
		if (json_array_size(remote.notes))
			assert_string_equal(json_string_value(json_array_get(remote.notes, 0)),
					    "?[2J");
		cvb_remote_done(&remote);
		close_pair(&p);
	}
}

static void iteration_counts_are_bounded(void **state)
{
	static const char *const bad[] = {
		OK2("{}"),
		OK2("{\"iters\":[]}"),
		OK2("{\"iters\":[1,1]}"),
		OK2("{\"iters\":[0]}"),
		OK2("{\"iters\":[-1]}"),
		OK2("{\"iters\":[1.5]}"),
		OK2("{\"iters\":[\"1\"]}"),
		OK2("{\"iters\":[1099511627777]}"),
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
		struct cvb_remote remote;
		struct cvb_err err = {0};
		struct pair p;

		open_bench(&p, &remote);
		say(&p, bad[i]);
		if (cvb_remote_calibrate(&p.client, &remote, 2000, &err) != -EPROTO)
			fail_msg("wrong answer to: %s", bad[i]);
		assert_null(remote.iters);
		close_bench(&p, &remote);
	}
}

/* Asked about alone, at a session's end, the pool is cut in the same way. */
static void pool_state_is_cut_to_what_can_be_true(void **state)
{
	static const struct {
		const char *reply, *pool;
	} cases[] = {
		{OK("{\"swiotlb\":{\"nslabs\":7,\"used_hiwater\":3,\"deep\":[[[[[[[[1]]]]]]]]}}"),
		 "{\"nslabs\":7,\"used_hiwater\":3}"},
		{OK("{\"swiotlb\":{\"nslabs\":-7,\"used_hiwater\":\"3\"}}"), "{}"},
		{OK("{\"swiotlb\":[1]}"), "null"},
		{OK("{}"), "null"},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(cases); i++) {
		_cleanup_json_ json_t *pool = NULL;
		_cleanup_free_ char *text = NULL;
		struct cvb_err err = {0};
		struct pair p;

		open_pair(&p);
		say(&p, cases[i].reply);
		assert_int_equal(cvb_client_swiotlb(&p.client, 2000, &pool, &err), 0);
		text = json_dumps(pool, JSON_COMPACT | JSON_ENCODE_ANY);
		assert_string_equal(text, cases[i].pool);
		close_pair(&p);
	}
}

static void lying_clocks_are_refused(void **state)
{
	static const char *const bad[] = {
		OK("{}"), OK("{\"now_ns\":-1}"), OK("{\"now_ns\":1.5}"), OK("{\"now_ns\":\"1\"}"),
		"{\"id\":1,\"ok\":true,\"result\":{\"now_ns\":9223372036854775808}}\n",
		/* one good answer does not make up for the next */
		OK("{\"now_ns\":5}") OK2("{\"now_ns\":null}")};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
		struct cvb_clock_mark mark;
		struct cvb_err err = {0};
		struct pair p;
		int r;

		open_pair(&p);
		say(&p, bad[i]);
		r = cvb_client_clock(&p.client, 2000, &mark, &err);
		if (r != -EPROTO && r != -EBADMSG)
			fail_msg("%d to: %s", r, bad[i]);
		close_pair(&p);
	}
}

static void lying_warm_ups_are_refused(void **state)
{
	static const struct {
		const char *result;
		int code;
	} cases[] = {
		{OK2("{\"steady\":[\"steady\"],\"warmup_ns\":7}"), 0},
		{OK2("{\"steady\":null,\"warmup_ns\":0}"), 0},
		{OK2("{\"steady\":[\"steady\",\"steady\"],\"warmup_ns\":7}"), -EPROTO},
		{OK2("{\"steady\":[\"\\u001b[2J\"],\"warmup_ns\":7}"), -EPROTO},
		{OK2("{\"steady\":[1],\"warmup_ns\":7}"), -EPROTO},
		{OK2("{\"steady\":{},\"warmup_ns\":7}"), -EPROTO},
		{OK2("{\"steady\":[\"steady\"],\"warmup_ns\":-7}"), -EPROTO},
		{OK2("{}"), -EPROTO},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(cases); i++) {
		struct cvb_remote remote;
		struct cvb_err err = {0};
		json_t *steady = NULL;
		uint64_t spent_ns;
		struct pair p;

		open_bench(&p, &remote);
		remote.iters = json_pack("[i]", 1);
		say(&p, cases[i].result);
		if (cvb_remote_warm_up(&p.client, &remote, 1000, 2000, &steady, &spent_ns, &err) !=
		    cases[i].code)
			fail_msg("wrong answer to: %s", cases[i].result);
		assert_int_equal(steady != NULL, cases[i].code == 0);
		json_decref(steady);
		close_bench(&p, &remote);
	}
}

/* A clock that runs 0.2 % fast is seen, and how surely. */
static void clock_rates_come_with_their_uncertainty(void **state)
{
	const struct cvb_clock_mark from = {1000000000, 77, 1000};
	const struct cvb_clock_mark to = {3000000000, 2004000077, 3000};
	double error, uncertainty;

	(void)state;
	cvb_clock_rate(&from, &to, &error, &uncertainty);
	assert_true(fabs(error - 0.002) < 1e-12);
	assert_true(fabs(uncertainty - 2e-6) < 1e-12);
	cvb_clock_rate(&to, &from, &error, &uncertainty);
	assert_true(isnan(error) && isnan(uncertainty));
}

/* An agent's error keeps its meaning, but cannot pose as a lost connection or send escapes. */
static void remote_errors_are_cleaned(void **state)
{
	struct cvb_err err = {0};
	char text[1024];
	struct pair p;
	json_t *ret;

	(void)state;
	open_pair(&p);
	say(&p,
	    "{\"id\":1,\"ok\":false,\"error\":{\"errno\":\"EOPNOTSUPP\",\"text\":\"no\\u001b[2J\"}}\n"
	    "{\"id\":2,\"ok\":false,\"error\":{\"errno\":\"EPIPE\",\"text\":\"x\"}}\n"
	    "{\"id\":3,\"ok\":false,\"error\":{\"errno\":\"ETIMEDOUT\",\"text\":\"x\"}}\n");
	assert_int_equal(cvb_client_call(&p.client, "x", NULL, 2000, &ret, &err), -EOPNOTSUPP);
	cvb_err_text(&err, text, sizeof(text));
	assert_string_equal(text, "no?[2J");
	assert_int_equal(cvb_client_call(&p.client, "x", NULL, 2000, &ret, &err), -EREMOTEIO);
	assert_int_equal(cvb_client_call(&p.client, "x", NULL, 2000, &ret, &err), -EREMOTEIO);
	close_pair(&p);
}

static void *serve(void *arg)
{
	struct cvb_err err = {0};
	int fd = *(int *)arg;

	return (void *)(intptr_t)cvb_agent_serve(fd, fd, &err);
}

/* The real agent and the real client, through a whole benchmark. */
static void agent_and_client_understand_each_other(void **state)
{
	struct cvb_setup setup = {.bench = nop(), .sample_ns = 1000000, .timeout_ms = 20000};
	_cleanup_json_ json_t *row = NULL, *env = NULL, *steady = NULL;
	struct cvb_clock_mark mark;
	uint64_t spent_ns = 0;
	struct cvb_remote remote;
	struct cvb_err err = {0};
	struct pair p;
	pthread_t t;
	void *ended;

	(void)state;
	open_pair(&p);
	assert_int_equal(pthread_create(&t, NULL, serve, &p.peer), 0);
	assert_int_equal(cvb_client_wait_ready(&p.client, 5000, &err), 0);
	assert_int_equal(cvb_client_call(&p.client, "fingerprint", NULL, 5000, &env, &err), 0);
	assert_non_null(json_object_get(env, "kernel"));
	assert_int_equal(cvb_remote_setup(&p.client, &setup, &remote, &err), 0);
	assert_int_equal(cvb_remote_calibrate(&p.client, &remote, 20000, &err), 0);
	assert_true(remote.timer_ns > 0);
	assert_int_equal(
		cvb_remote_warm_up(&p.client, &remote, 1000000, 20000, &steady, &spent_ns, &err),
		0);
	assert_int_equal(json_array_size(steady), remote.n_series);
	assert_true(spent_ns > 0);
	assert_int_equal(cvb_client_clock(&p.client, 5000, &mark, &err), 0);
	/* the agent is a thread of this program: the same clock */
	assert_true(mark.there_ns + mark.error_ns >= mark.host_ns &&
		    mark.there_ns <= mark.host_ns + mark.error_ns);
	assert_int_equal(cvb_remote_sample(&p.client, &remote, remote.iters, 20000, &row, &err), 0);
	assert_true(json_integer_value(json_object_get(row, "duration_ns")) >= 1000000);
	assert_true(json_number_value(json_array_get(json_object_get(row, "values"), 0)) > 0);
	assert_int_equal(cvb_remote_verify(&p.client, &remote, 5000, &err), 0);
	cvb_remote_teardown(&p.client, &remote);
	cvb_client_done(&p.client); /* end of input is the agent's end */
	pthread_join(t, &ended);
	assert_null(ended);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_may_come_in_pieces_or_together),
		cmocka_unit_test(silence_and_death_end_the_wait),
		cmocka_unit_test(endless_line_is_cut_off),
		cmocka_unit_test(nonsense_is_refused_and_shown_clean),
		cmocka_unit_test(deep_nesting_does_not_exhaust_the_stack),
		cmocka_unit_test(environment_is_cleaned),
		cmocka_unit_test(lying_setup_is_refused),
		cmocka_unit_test(params_have_names_that_the_benchmark_lists),
		cmocka_unit_test(lying_samples_are_refused),
		cmocka_unit_test(samples_are_cut_to_what_can_be_true),
		cmocka_unit_test(set_up_is_cut_to_what_can_be_true),
		cmocka_unit_test(iteration_counts_are_bounded),
		cmocka_unit_test(pool_state_is_cut_to_what_can_be_true),
		cmocka_unit_test(lying_clocks_are_refused),
		cmocka_unit_test(lying_warm_ups_are_refused),
		cmocka_unit_test(clock_rates_come_with_their_uncertainty),
		cmocka_unit_test(remote_errors_are_cleaned),
		cmocka_unit_test(agent_and_client_understand_each_other),
	};

	return cmocka_run_group_tests_name("target/wire", tests, NULL, NULL);
}
