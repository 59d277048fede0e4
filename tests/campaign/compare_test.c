/* SPDX-License-Identifier: Apache-2.0 */
/* Two sides against each other: what matches, what is judged, and what hostile input meets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "campaign/compare.h"
#include "campaign/synth.h"
#include "core/file.h"

#include <errno.h>
#include <sys/stat.h>
#include <time.h>

static char dir[] = "/tmp/cvb-compare-XXXXXX";

#define DOC(benches)                                                                               \
	"{\"schema\":\"cvmbench.result/1\",\"tool\":{\"version\":\"1\"},\"environment\":"          \
	"{\"kernel\":\"6.1\"},\"benches\":[" benches "]}"
#define BENCH(more, metrics)                                                                       \
	"{\"name\":\"b\",\"options\":{\"size\":1},\"outcome\":\"ok\"," more                        \
	"\"metrics\":[" metrics "]}"
#define METRIC(name, more) "{\"name\":\"b/" name "\",\"unit\":\"ns\",\"better\":\"lower\"," more "}"
#define PLAIN(samples)	   DOC(BENCH("", METRIC("m", "\"samples\":[" samples "]")))

static char *in_dir(const char *name)
{
	return cvb_strf("%s/%s", dir, name);
}

static void put(const char *name, const char *text)
{
	_cleanup_free_ char *path = in_dir(name);

	assert_int_equal(cvb_file_write(path, text, strlen(text), NULL), 0);
}

/* Fails unless it loads or, with `message`, unless it fails with that in its message. */
static struct cvb_side *load(const char *name, const char *per, const char *message)
{
	_cleanup_free_ char *path = in_dir(name);
	struct cvb_side *s = NULL;
	struct cvb_err err = {0};
	char text[1000];
	int r = cvb_side_load(&s, path, per, &err);

	cvb_err_text(&err, text, sizeof(text));
	if (!message && r < 0)
		fail_msg("%s: %s", name, text);
	if (message && (r != -EBADMSG && r != -EINVAL))
		fail_msg("%s: %d instead of an error with \"%s\": %s", name, r, message, text);
	if (message && !strstr(text, message))
		fail_msg("\"%s\" is not in: %s", message, text);
	return s;
}

static json_t *compare_per(const char *base, const char *current, struct cvb_compare_plan plan)
{
	struct cvb_side *b = load(base, plan.per, NULL), *c = load(current, plan.per, NULL);
	struct cvb_err err = {0};
	json_t *doc = NULL;

	plan.margin = plan.margin > 0 ? plan.margin : 0.99;
	if (cvb_compare(b, c, &plan, &doc, &err) < 0)
		fail_msg("%s", err.frame[0].msg);
	cvb_side_free(b);
	cvb_side_free(c);
	return doc;
}

/* Compare two documents. */
static json_t *compare(const char *base, const char *current, struct cvb_compare_plan plan)
{
	put("b.json", base);
	put("c.json", current);
	return compare_per("b.json", "c.json", plan);
}

static const json_t *at(const json_t *doc, const char *list, size_t i)
{
	return json_array_get(json_object_get(doc, list), i);
}

static size_t count(const json_t *doc, const char *list)
{
	return json_array_size(json_object_get(doc, list));
}

static double num(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return json_is_number(v) ? json_number_value(v) : NAN;
}

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static void has(const char *s, const char *part)
{
	if (!strstr(s, part))
		fail_msg("\"%s\" is not in: %s", part, s);
}

static void near(double x, double wanted, double tolerance)
{
	if (!(fabs(x - wanted) <= tolerance))
		fail_msg("%.17g instead of %.17g", x, wanted);
}

/* One error, with these words in it, no number, and this exit code. */
static void only_error(json_t *doc, const char *reason, int code)
{
	if (count(doc, "errors") != 1)
		fail_msg("%zu errors, wanted \"%s\"", count(doc, "errors"), reason);
	has(text(at(doc, "errors", 0), "reason"), reason);
	assert_int_equal(count(doc, "metrics"), 0);
	assert_string_equal(text(doc, "overall"), code == 5 ? "INVALID" : "ERROR");
	assert_int_equal((int)cvb_compare_exit(doc), code);
	json_decref(doc);
}

/* A folder of documents; `factor` on times that differ a little from session to session. */
static void put_sessions(const char *name, unsigned n, unsigned metrics, double factor,
			 unsigned seed)
{
	_cleanup_free_ char *path = in_dir(name);

	cvb_remove_tree(path);
	assert_int_equal(mkdir(path, 0700), 0);
	for (unsigned s = 0; s < n; s++) {
		_cleanup_free_ char *file = cvb_strf("%s/%u.json", name, s);
		_cleanup_free_ char *body = NULL;
		size_t bytes;
		FILE *f = open_memstream(&body, &bytes);

		for (unsigned m = 0; m < metrics; m++) {
			/* a spread of about half a percent, repeatable */
			seed = seed * 1103515245u + 12345u;
			double v = factor * (100 + (double)(seed >> 16 & 0xff) / 256.);

			fprintf(f,
				"%s" METRIC("m", "\"samples\":[%.17g,%.17g,%.17g],"
						 "\"params\":{\"i\":%u}"),
				m ? "," : "", v, v * 1.001, v * 0.999, m);
		}
		fclose(f);

		_cleanup_free_ char *doc = cvb_strf(DOC(BENCH("", "%s")), body);

		put(file, doc);
	}
}

/* --- verdicts --------------------------------------------------------------------------------- */

static void one_run_each_has_no_interval(void **state)
{
	json_t *doc = compare(PLAIN("100,100,100"), PLAIN("50,50"), (struct cvb_compare_plan){0});
	const json_t *m = at(doc, "metrics", 0);

	(void)state;
	near(num(m, "ratio"), 2, 1e-12); /* half the time is twice the speed */
	near(num(m, "base_value"), 100, 1e-9);
	near(num(m, "current_value"), 50, 1e-9);
	assert_true(json_is_null(json_object_get(m, "lower")));
	assert_true(json_is_null(json_object_get(m, "upper")));
	assert_true(json_is_null(json_object_get(m, "p_adjusted")));
	assert_string_equal(text(m, "verdict"), "INCONCLUSIVE");
	has(text(m, "reason"), "one run on each side");
	assert_string_equal(text(m, "pairing"), "none");
	assert_int_equal(num(m, "rounds"), 5);
	assert_int_equal((int)cvb_compare_exit(doc), CVB_EXIT_INCONCLUSIVE);
	json_decref(doc);
}

static void sessions_decide(void **state)
{
	json_t *doc;
	const json_t *m;

	(void)state;
	put_sessions("base", 6, 2, 1, 1);
	put_sessions("same", 6, 2, 1, 2);
	put_sessions("slow", 5, 2, 1.05, 3);
	doc = compare_per("base", "same", (struct cvb_compare_plan){0});
	assert_string_equal(text(doc, "overall"), "PASS");
	assert_int_equal((int)cvb_compare_exit(doc), 0);
	json_decref(doc);

	doc = compare_per("base", "slow", (struct cvb_compare_plan){0});
	m = at(doc, "metrics", 1);
	assert_string_equal(text(doc, "overall"), "FAIL");
	assert_int_equal((int)cvb_compare_exit(doc), 1);
	near(num(m, "ratio"), 1 / 1.05, 0.005);
	assert_true(num(m, "lower") < num(m, "ratio") && num(m, "upper") > num(m, "ratio"));
	assert_int_equal(num(m, "sessions"), 5);
	assert_int_equal(num(m, "sessions_base"), 6);
	assert_string_equal(text(m, "method"), "welch");
	assert_true(num(m, "p_fail") < 1e-3 && num(m, "p_adjusted") >= num(m, "p_fail"));
	json_decref(doc);

	/* the other way round it is faster: fine, unless both directions count */
	doc = compare_per("slow", "base", (struct cvb_compare_plan){0});
	assert_string_equal(text(doc, "overall"), "PASS");
	json_decref(doc);
	doc = compare_per("slow", "base", (struct cvb_compare_plan){.rule = CVB_RULE_EQUIVALENCE});
	assert_string_equal(text(doc, "overall"), "FAIL");
	json_decref(doc);
	doc = compare_per("base", "same", (struct cvb_compare_plan){.rule = CVB_RULE_EQUIVALENCE});
	assert_string_equal(text(doc, "overall"), "PASS");
	json_decref(doc);
	/* a margin within the interval decides nothing */
	doc = compare_per("base", "slow", (struct cvb_compare_plan){.margin = 1 / 1.05});
	assert_string_equal(text(doc, "overall"), "INCONCLUSIVE");
	has(text(at(doc, "metrics", 0), "reason"), "would probably decide");
	json_decref(doc);
}

/* Many metrics: a bound that fails by chance among them is no alarm. */
static void many_metrics_are_adjusted(void **state)
{
	struct cvb_compare_plan plan = {.margin = 1};
	unsigned alone = 0, fails = 0;
	json_t *doc;

	(void)state;
	put_sessions("base", 4, 300, 1, 1);
	put_sessions("same", 4, 300, 1, 2);
	doc = compare_per("base", "same", plan); /* the truth lies on the margin */
	for (size_t i = 0; i < count(doc, "metrics"); i++) {
		const json_t *m = at(doc, "metrics", i);

		alone += num(m, "upper") < 1;
		fails += !strcmp(text(m, "verdict"), "FAIL");
		if (num(m, "upper") < 1 && strcmp(text(m, "verdict"), "FAIL") != 0)
			has(text(m, "reason"), "adjusted");
	}
	assert_in_range(alone, 5, 30); /* 5 % of 300, give or take */
	assert_int_equal(fails, 0);
	assert_int_equal((int)cvb_compare_exit(doc), CVB_EXIT_INCONCLUSIVE);
	json_decref(doc);
}

#define EXACT DOC(BENCH("\"deterministic\":true,", METRIC("m", "\"value\":%s")))

static void exact_values_decide_alone(void **state)
{
	_cleanup_free_ char *a = cvb_strf(EXACT, "100"), *b = cvb_strf(EXACT, "100.0001");
	json_t *doc = compare(a, a, (struct cvb_compare_plan){.margin = 1 - 1e-8});

	(void)state;
	assert_string_equal(text(doc, "overall"), "PASS");
	assert_string_equal(text(at(doc, "metrics", 0), "method"), "resolution");
	assert_true(num(at(doc, "metrics", 0), "lower") < 1);
	json_decref(doc);
	doc = compare(a, b, (struct cvb_compare_plan){.margin = 1 - 1e-8});
	assert_string_equal(text(doc, "overall"), "FAIL");
	json_decref(doc);
	doc = compare(b, a,
		      (struct cvb_compare_plan){.margin = 1 - 1e-8, .rule = CVB_RULE_EQUIVALENCE});
	assert_string_equal(text(doc, "overall"), "FAIL");
	json_decref(doc);
}

static void the_same_numbers_are_one_measurement(void **state)
{
	json_t *doc = compare(PLAIN("5,6"), PLAIN("5,6"), (struct cvb_compare_plan){0});

	(void)state;
	near(num(at(doc, "metrics", 0), "ratio"), 1, 0);
	has(text(at(doc, "metrics", 0), "reason"), "the same numbers");
	assert_int_equal((int)cvb_compare_exit(doc), CVB_EXIT_INCONCLUSIVE);
	json_decref(doc);

	/* all sessions, in another order */
	put_sessions("base", 3, 1, 1, 1);
	put_sessions("copy", 3, 1, 1, 1);
	_cleanup_free_ char *from = in_dir("copy/0.json"), *to = in_dir("copy/9.json");

	assert_int_equal(rename(from, to), 0);
	doc = compare_per("base", "copy", (struct cvb_compare_plan){.margin = 0.5});
	has(text(at(doc, "metrics", 0), "reason"), "the same numbers");
	assert_true(isnan(num(at(doc, "metrics", 0), "lower")));
	json_decref(doc);

	/* a copy within a side is noted */
	put("base/7.json", PLAIN("5,6"));
	put("base/8.json", PLAIN("5,6"));
	doc = compare_per("base", "copy", (struct cvb_compare_plan){.common = true});
	assert_string_equal(text(doc, "schema"), "cvmbench.compare/1");
	bool noted = false;

	for (size_t i = 0; i < count(doc, "notes"); i++)
		noted |=
			strstr(json_string_value(at(doc, "notes", i)), "7.json and 8.json") != NULL;
	assert_true(noted);
	json_decref(doc);
}

static void no_spread_is_no_certainty(void **state)
{
	json_t *doc;

	(void)state;
	put_sessions("base", 1, 1, 1, 1);
	put("base/0.json", PLAIN("5"));
	put("base/1.json", PLAIN("5"));
	put_sessions("same", 1, 1, 1, 1);
	put("same/0.json", PLAIN("6"));
	put("same/1.json", PLAIN("6"));
	doc = compare_per("base", "same", (struct cvb_compare_plan){0});
	has(text(at(doc, "metrics", 0), "reason"), "coarse");
	assert_int_equal((int)cvb_compare_exit(doc), CVB_EXIT_INCONCLUSIVE);
	json_decref(doc);
}

/* --- what is not the same work ---------------------------------------------------------------- */

static void differing_work_is_an_error(void **state)
{
	static const struct {
		const char *base, *current, *reason;
		int code;
	} cases[] = {
		{PLAIN("1"),
		 DOC(BENCH("", "{\"name\":\"b/m\",\"unit\":\"us\",\"better\":\"lower\","
			       "\"value\":1}")),
		 "unit is ns in base, us in current", 2},
		{PLAIN("1"),
		 DOC(BENCH("", "{\"name\":\"b/m\",\"unit\":\"ns\",\"better\":\"higher\","
			       "\"value\":1}")),
		 "lower is better in base, higher in current", 2},
		{PLAIN("1"),
		 DOC("{\"name\":\"b\",\"options\":{\"size\":2},\"outcome\":\"ok\",\"metrics\":[" METRIC(
			 "m", "\"value\":1") "]}"),
		 "option size is 1 in base, 2 in current", 2},
		{PLAIN("1"),
		 DOC("{\"name\":\"b\",\"options\":{\"size\":1,\"x\":\"y\"},\"outcome\":\"ok\","
		     "\"metrics\":[" METRIC("m", "\"value\":1") "]}"),
		 "option x is not set in base, \"y\" in current", 2},
		{PLAIN("1"), DOC(BENCH("\"emulated\":true,", METRIC("m", "\"value\":1"))),
		 "base is not emulated, current is emulated", 2},
		{DOC(BENCH("\"deterministic\":true,", METRIC("m", "\"value\":1"))), PLAIN("1"),
		 "base is deterministic, current is not deterministic", 2},
		{PLAIN("1"), DOC("{\"name\":\"b\",\"outcome\":\"failed\",\"reason\":\"burnt\"}"),
		 "failed: burnt", 2},
		{PLAIN("1"), DOC("{\"name\":\"b\",\"outcome\":\"untrusted\",\"reason\":\"no\"}"),
		 "untrusted: no", 5},
		{PLAIN("1"), DOC("{\"name\":\"b\",\"outcome\":\"unsupported\",\"reason\":\"no\"}"),
		 "is in base", 2},
		{PLAIN("1"), DOC(""), "in base", 2},
		{DOC(""), PLAIN("1"), "in current", 2},
		{DOC(""), DOC(""), "no metric is on both sides", 2},
		{PLAIN("1,0"), PLAIN("1"), "base: ", 2},
		{PLAIN("1"), PLAIN("2,0"), "sample 2 is 0", 2},
		{PLAIN("1"), PLAIN("-3"), "sample 1 is -3", 2},
		{PLAIN("1"), PLAIN("1,null"), "sample 2 is not a number", 2},
		{DOC(BENCH("", METRIC("m", "\"value\":null"))), PLAIN("1"), "is not a number", 2},
		{DOC(BENCH("", METRIC("m", "\"value\":1e308"))),
		 DOC(BENCH("", METRIC("m", "\"value\":1e-308"))), "too far apart", 2},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(cases); i++)
		only_error(compare(cases[i].base, cases[i].current, (struct cvb_compare_plan){0}),
			   cases[i].reason, cases[i].code);
}

#define ON_ACCEL                                                                                   \
	"{\"schema\":\"cvmbench.result/1\",\"environment\":{\"labels\":{\"accel\":"                \
	"\"%s\"}},\"benches\":[" BENCH("", METRIC("m", "\"value\":1")) "]}"

static void tcg_is_not_kvm(void **state)
{
	_cleanup_free_ char *kvm = cvb_strf(ON_ACCEL, "kvm"), *tcg = cvb_strf(ON_ACCEL, "tcg");
	json_t *doc;

	(void)state;
	only_error(compare(kvm, tcg, (struct cvb_compare_plan){0}), "current is tcg", 2);
	doc = compare(kvm, tcg, (struct cvb_compare_plan){.mix = true});
	assert_int_equal(count(doc, "errors"), 0);
	assert_string_equal(json_string_value(at(at(doc, "metrics", 0), "labels", 0)),
			    "current: tcg");
	json_decref(doc);
}

static void one_side_only_can_be_allowed(void **state)
{
	const char *two = DOC(BENCH("", METRIC("m", "\"value\":1") "," METRIC("n", "\"value\":1")));
	json_t *doc = compare(PLAIN("2"), two, (struct cvb_compare_plan){0});

	(void)state;
	assert_int_equal(count(doc, "metrics"), 1);
	assert_int_equal(count(doc, "errors"), 1);
	assert_string_equal(text(at(doc, "errors", 0), "metric"), "b/n");
	has(text(at(doc, "errors", 0), "reason"), "c.json");
	assert_int_equal((int)cvb_compare_exit(doc), 2);
	json_decref(doc);
	doc = compare(PLAIN("2"), two, (struct cvb_compare_plan){.common = true});
	assert_int_equal(count(doc, "errors"), 0);
	has(json_string_value(at(doc, "notes", 0)), "b/n is in current");
	json_decref(doc);

	char *names[] = {(char[]){"b/m"}, NULL};

	doc = compare(PLAIN("2"), two, (struct cvb_compare_plan){.metrics = names});
	assert_int_equal(count(doc, "errors"), 0);
	assert_int_equal(count(doc, "metrics"), 1);
	json_decref(doc);
	names[0] = (char[]){"b/q"};
	only_error(compare(PLAIN("2"), two, (struct cvb_compare_plan){.metrics = names}),
		   "no such metric", 2);

	/* zero on both sides: nothing to divide, nothing wrong */
	doc = compare(DOC(BENCH("", METRIC("m", "\"value\":1") "," METRIC("z", "\"value\":0"))),
		      DOC(BENCH("", METRIC("m", "\"value\":2") "," METRIC("z", "\"value\":0"))),
		      (struct cvb_compare_plan){0});
	assert_int_equal(count(doc, "errors"), 0);
	has(json_string_value(at(doc, "notes", 0)), "is 0 on both sides");
	json_decref(doc);

	/* unsupported on both sides: nothing to compare, nothing lost */
	const char *none =
		DOC("{\"name\":\"b\",\"outcome\":\"unsupported\",\"reason\":\"no TDX\"}");

	doc = compare(none, none, (struct cvb_compare_plan){0});
	assert_string_equal(text(doc, "overall"), "UNSUPPORTED");
	assert_int_equal((int)cvb_compare_exit(doc), CVB_EXIT_UNSUPPORTED);
	json_decref(doc);
}

static void sessions_of_a_side_agree_on_the_work(void **state)
{
	json_t *doc;

	(void)state;
	put_sessions("base", 2, 1, 1, 1);
	put_sessions("same", 1, 1, 1, 2);
	put("same/1.json", DOC("{\"name\":\"b\",\"options\":{\"size\":2},\"outcome\":\"ok\","
			       "\"metrics\":[" METRIC("m", "\"value\":1") "]}"));
	only_error(compare_per("base", "same", (struct cvb_compare_plan){0}), "1.json: options", 2);
	put("same/1.json", DOC("{\"name\":\"b\",\"outcome\":\"failed\",\"reason\":\"burnt\"}"));
	only_error(compare_per("base", "same", (struct cvb_compare_plan){0}), "1.json: failed", 2);
	put("same/1.json", DOC(""));
	only_error(compare_per("base", "same", (struct cvb_compare_plan){0}), "only 1 of 2", 2);
	put("same/1.json",
	    DOC(BENCH("\"emulated\":true,", METRIC("m", "\"value\":1,\"params\":{\"i\":0}"))));
	only_error(compare_per("base", "same", (struct cvb_compare_plan){0}), "partly emulated", 2);
	/* as partial on the other side too: still no whole */
	put("base/1.json",
	    DOC(BENCH("\"emulated\":true,", METRIC("m", "\"value\":1,\"params\":{\"i\":0}"))));
	only_error(compare_per("base", "same", (struct cvb_compare_plan){0}), "partly emulated", 2);
	put_sessions("base", 2, 1, 1, 1);
	put("same/1.json", DOC(BENCH("", "{\"name\":\"b/m\",\"unit\":\"s\",\"better\":\"lower\","
					 "\"value\":1,\"params\":{\"i\":0}}")));
	only_error(compare_per("base", "same", (struct cvb_compare_plan){0}), "unit s, but ns", 2);
	put("same/1.json", DOC(BENCH("", METRIC("n", "\"value\":1"))));
	doc = compare_per("base", "same", (struct cvb_compare_plan){0});
	assert_int_equal(count(doc, "errors"), 2); /* m in one session, n in one side */
	json_decref(doc);

	/* params that only look alike are not the same metric */
	doc = compare(DOC(BENCH("", METRIC("m", "\"value\":1,\"params\":{\"a\":\"1,b=2\"}"))),
		      DOC(BENCH("", METRIC("m", "\"value\":1,\"params\":{\"a\":1,\"b\":2}"))),
		      (struct cvb_compare_plan){0});
	assert_int_equal(count(doc, "metrics"), 0);
	assert_int_equal(count(doc, "errors"), 2);
	json_decref(doc);
}

static void params_match_in_any_order(void **state)
{
	json_t *doc =
		compare(DOC(BENCH("", METRIC("m", "\"value\":1,\"params\":{\"a\":1,\"b\":\"x\"}"))),
			DOC(BENCH("", METRIC("m", "\"value\":2,\"params\":{\"b\":\"x\",\"a\":1}"))),
			(struct cvb_compare_plan){0});

	(void)state;
	assert_int_equal(count(doc, "metrics"), 1);
	assert_string_equal(text(at(doc, "metrics", 0), "id"), "b/m{a=1,b=x}");
	json_decref(doc);
}

static void differences_are_listed(void **state)
{
	json_t *doc = compare(
		"{\"schema\":\"cvmbench.result/1\",\"tool\":{\"version\":\"1\"},\"environment\":"
		"{\"kernel\":\"6.1\\u001b[2J\",\"boot_ns\":1,\"cpu\":{\"microcode\":\"0x1\"}},"
		"\"benches\":[" BENCH("", METRIC("m", "\"value\":1")) "]}",
		PLAIN("2"), (struct cvb_compare_plan){0});

	(void)state;
	assert_int_equal(count(doc, "differences"), 2);
	assert_string_equal(text(at(doc, "differences", 0), "what"), "environment.kernel");
	assert_string_equal(text(at(doc, "differences", 0), "base"), "6.1?[2J");
	assert_string_equal(text(at(doc, "differences", 1), "what"), "environment.cpu");
	json_decref(doc);
}

/* --- input that cannot be read ---------------------------------------------------------------- */

static void malformed_documents_are_refused(void **state)
{
	static const struct {
		const char *doc, *message;
	} cases[] = {
		{"", "not JSON"},
		{"{\"schema\":", "x.json:1:"},
		{"[]", "schema"},
		{"{\"schema\":\"cvmbench.verdict/1\"}", "cvmbench.verdict/1"},
		{"{\"schema\":\"cvmbench.result/1\"}", "benches: expected a list"},
		{DOC("7"), "benches[0]: expected an object"},
		{DOC("{\"name\":\"\"}"), "benches[0].name: expected a text"},
		{DOC("{\"name\":\"b\"}"), "benches[0].outcome: expected a text, but it is missing"},
		{DOC("{\"name\":\"b\",\"outcome\":\"fine\"}"), "expected ok, unsupported"},
		{DOC("{\"name\":\"b\",\"outcome\":\"ok\",\"metrics\":1}"), "metrics: expected"},
		{DOC("{\"name\":\"b\",\"outcome\":\"ok\",\"options\":[]}"), "options: expected"},
		{DOC("{\"name\":\"b\",\"outcome\":\"ok\",\"emulated\":1}"), "emulated: expected"},
		{DOC(BENCH("", "7")), "benches[0].metrics[0]: expected an object"},
		{DOC(BENCH("", METRIC("m", "\"samples\":7"))),
		 "metrics[0].samples: expected a list"},
		{DOC(BENCH("", METRIC("m", "\"samples\":[1,\"x\"]"))), "sample 2 is not a number"},
		{DOC(BENCH("", METRIC("m", "\"value\":\"x\""))), "value: expected a number"},
		{DOC(BENCH("", METRIC("m", "\"x\":1"))), "neither samples nor a value"},
		{DOC(BENCH("", METRIC("m", "\"value\":1,\"params\":[]"))), "params: expected"},
		{DOC(BENCH("", METRIC("m", "\"value\":1,\"params\":{\"a\":[]}"))), "params: "},
		{DOC(BENCH("", METRIC("m", "\"value\":1") "," METRIC("m", "\"value\":1"))),
		 "benches[0].metrics[1].name: this metric with these params is there twice"},
		{DOC(BENCH("", "") "," BENCH("", "")), "benches[1].name: this benchmark is there"},
		{PLAIN("1e999"), "not JSON"},
		{PLAIN("NaN"), "not JSON"},
		{"{\"schema\":\"cvmbench.result/1\",\"schema\":\"x\"}", "duplicate"},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(cases); i++) {
		put("x.json", cases[i].doc);
		assert_null(load("x.json", NULL, cases[i].message));
	}
	char name[CVB_SIDE_NAME_BYTES + 2];

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	_cleanup_free_ char *longer = cvb_strf(DOC("{\"name\":\"%s\"}"), name);

	put("x.json", longer);
	assert_null(load("x.json", NULL, "longer than 128 bytes"));

	_cleanup_free_ char *deep = malloc(100001), *empty = in_dir("empty");

	memset(deep, '[', 100000);
	deep[100000] = '\0';
	put("x.json", deep);
	assert_null(load("x.json", NULL, "not JSON"));
	assert_null(load("nowhere", NULL, "nowhere"));
	put("x.json", PLAIN("1"));
	assert_null(load("x.json", "native", "--per native"));
	assert_int_equal(mkdir(empty, 0700), 0);
	assert_null(load("empty", NULL, "holds no result document"));
	put("empty/v.json", "{\"schema\":\"cvmbench.verdict/1\"}");
	assert_null(load("empty", NULL, "holds no result document"));
	put("empty/r.json", PLAIN("1"));
	struct cvb_side *s = load("empty", NULL, NULL);

	assert_int_equal(s->sessions, 1);
	has(json_string_value(json_array_get(s->notes, 0)), "v.json is no result document");
	cvb_side_free(s);
}

#define EVIL                                                                                       \
	DOC("{\"name\":\"b\\u001b[2J\",\"options\":{\"\\u001b[1m\":\"%s\"},"                       \
	    "\"outcome\":\"ok\",\"metrics\":[{\"name\":\"m\\u202e\","                              \
	    "\"unit\":\"u\\u0007\",\"better\":\"lower\",\"value\":%s,"                             \
	    "\"params\":{\"p\\u001b\":\"\\u001b]0;x\\u0007\"}}]}")

/* Escapes in names reach no terminal. */
static void printed_text_is_safe(void **state)
{
	_cleanup_free_ char *out = NULL;
	size_t bytes;

	(void)state;
	for (int i = 0; i < 3; i++) {
		_cleanup_free_ char *b = cvb_strf(EVIL, "x", "1");
		_cleanup_free_ char *c = cvb_strf(EVIL, i == 1 ? "y" : "x", i == 2 ? "-1" : "2");
		json_t *doc = compare(b, c, (struct cvb_compare_plan){0});
		FILE *f = open_memstream(&out, &bytes);

		cvb_compare_print(f, doc, false);
		fclose(f);
		for (size_t k = 0; k < bytes; k++)
			if ((unsigned char)out[k] < 0x20 && out[k] != '\n')
				fail_msg("byte %d in: %s", out[k], out);
		assert_null(strstr(out, "\xe2\x80\xae"));
		free(CVB_TAKE(out));
		json_decref(doc);
	}
}

static void many_metrics_are_quick(void **state)
{
	struct timespec from, to;
	json_t *doc;

	(void)state;
	put_sessions("base", 1, 10000, 1, 1);
	put_sessions("same", 1, 10000, 1, 2);
	clock_gettime(CLOCK_MONOTONIC, &from);
	doc = compare_per("base", "same", (struct cvb_compare_plan){0});
	clock_gettime(CLOCK_MONOTONIC, &to);
	assert_int_equal(count(doc, "metrics"), 10000);
	assert_in_range((uint64_t)(to.tv_sec - from.tv_sec), 0, 10); /* sanitizers are slow */
	json_decref(doc);
	put_sessions("base", 1, CVB_SIDE_MAX_SERIES + 1, 1, 1);
	assert_null(load("base", NULL, "more than 16384 metrics"));
}

/* --- bundles ---------------------------------------------------------------------------------- */

static void put_bundle(const char *name, struct synth c)
{
	_cleanup_free_ char *path = in_dir(name);
	_cleanup_free_ char *journal = cvb_strf("%s/journal.jsonl", path);

	cvb_remove_tree(path);
	assert_int_equal(mkdir(path, 0700), 0);
	synth_write(journal, c);
}

/* The row of an arm's metric; fails if there is none. */
static const json_t *row_of(const json_t *doc, const char *arm, const char *metric)
{
	for (size_t i = 0; i < count(doc, "metrics"); i++) {
		const json_t *m = at(doc, "metrics", i);

		if (!strcmp(text(m, "arm"), arm) && !strcmp(text(m, "metric"), metric))
			return m;
	}
	fail_msg("%s of %s was not compared", metric, arm);
	return NULL;
}

static void bundles_compare_arm_by_arm(void **state)
{
	json_t *doc;

	(void)state;
	put_bundle("one", (struct synth){.vm_ratio = 0.9, .vm_wobble = 0.001});
	put_bundle("two", (struct synth){.vm_ratio = 0.8, .vm_wobble = 0.002, .sessions = 5});
	doc = compare_per("one", "two", (struct cvb_compare_plan){0});
	assert_int_equal(count(doc, "errors"), 0);
	assert_int_equal(count(doc, "metrics"), 4); /* copy and triad of native and vm; no aa */
	const json_t *m = row_of(doc, "vm", "mem.stream/triad");

	near(num(m, "ratio"), 8. / 9, 0.001);
	assert_string_equal(text(m, "verdict"), "FAIL");
	assert_int_equal(num(m, "sessions_base"), 6);
	assert_int_equal(num(m, "sessions_current"), 5);
	/* 10^10 bytes a second and a tenth more in each round */
	near(num(m, "base_value") / 1e10, 0.9 * 1.15, 0.02);
	assert_int_equal((int)cvb_compare_exit(doc), 1);
	json_decref(doc);

	doc = compare_per("one", "two", (struct cvb_compare_plan){.per = "native"});
	assert_int_equal(count(doc, "metrics"), 2);
	m = row_of(doc, "vm", "mem.stream/triad");
	near(num(m, "ratio"), 8. / 9, 0.001);
	near(num(m, "base_value"), 0.9, 0.001);
	assert_string_equal(text(m, "unit"), "ratio");
	json_decref(doc);
	assert_null(load("one", "natve", "did you mean native?"));
}

static void bundles_that_cannot_be_compared(void **state)
{
	json_t *doc;

	(void)state;
	put_bundle("one", (struct synth){.vm_wobble = 0.001});
	put_bundle("two", (struct synth){.vm_wobble = 0.002, .accel = "tcg"});
	doc = compare_per("one", "two", (struct cvb_compare_plan){0});
	assert_int_equal(count(doc, "errors"), 1);
	assert_string_equal(text(at(doc, "errors", 0), "arm"), "vm");
	has(text(at(doc, "errors", 0), "reason"), "current is tcg");
	assert_int_equal(count(doc, "metrics"), 2);
	json_decref(doc);

	put_bundle("two", (struct synth){.vm_wobble = 0.002, .vm_workers = 4});
	doc = compare_per("one", "two", (struct cvb_compare_plan){0});
	has(text(at(doc, "errors", 0), "reason"), "2 workers in base, 4 in current");
	json_decref(doc);

	put_bundle("two", (struct synth){.vm_wobble = 0.002, .vm_clock_error = 0.01});
	doc = compare_per("one", "two", (struct cvb_compare_plan){0});
	has(text(at(doc, "errors", 0), "reason"), "the clock of arm vm");
	json_decref(doc);

	put_bundle("two", (struct synth){.vm_wobble = 0.002, .vm_outcome = "untrusted"});
	doc = compare_per("one", "two", (struct cvb_compare_plan){0});
	has(text(at(doc, "errors", 0), "reason"), "sums differ");
	assert_int_equal((int)cvb_compare_exit(doc), CVB_EXIT_INVALID);
	json_decref(doc);

	put_bundle("two", (struct synth){.vm_wobble = 0.002, .vm_arm_end = "pool never used"});
	doc = compare_per("one", "two", (struct cvb_compare_plan){0});
	has(text(at(doc, "errors", 0), "reason"), "pool never used");
	json_decref(doc);

	put_bundle("two", (struct synth){.vm_unsupported = "no TDX"});
	doc = compare_per("one", "two", (struct cvb_compare_plan){0});
	has(text(at(doc, "errors", 0), "reason"), "no TDX");
	assert_int_equal((int)cvb_compare_exit(doc), 2);
	json_decref(doc);
	doc = compare_per("two", "two", (struct cvb_compare_plan){0});
	assert_int_equal(count(doc, "errors"), 0);
	json_decref(doc);
}

static void stolen_time_in_a_bundle_is_told(void **state)
{
	json_t *doc;

	(void)state;
	put_bundle("one", (struct synth){.vm_wobble = 0.001});
	put_bundle("two", (struct synth){.vm_wobble = 0.002, .steal_ratio = 0.1});
	doc = compare_per("one", "two", (struct cvb_compare_plan){0});
	has(text(at(doc, "errors", 0), "reason"), "CPU time");
	assert_int_equal((int)cvb_compare_exit(doc), CVB_EXIT_INVALID);
	json_decref(doc);
	doc = compare_per("one", "two", (struct cvb_compare_plan){.per = "native"});
	assert_int_equal(count(doc, "metrics"), 0);
	json_decref(doc);

	/* disturbed rounds do not count; too many of them spoil the rest */
	put_bundle("two", (struct synth){.vm_wobble = 0.002, .rounds = 10, .stolen_rounds = 1});
	doc = compare_per("one", "two", (struct cvb_compare_plan){0});
	assert_int_equal(count(doc, "errors"), 0);
	assert_int_equal(num(row_of(doc, "native", "mem.stream/triad"), "rounds"), 12 + 60);
	assert_int_equal(num(row_of(doc, "vm", "mem.stream/triad"), "rounds"), 12 + 54);
	json_decref(doc);
	doc = compare_per("one", "two", (struct cvb_compare_plan){.per = "native"});
	assert_int_equal(num(row_of(doc, "vm", "mem.stream/triad"), "rounds"), 12 + 54);
	json_decref(doc);
	put_bundle("two", (struct synth){.vm_wobble = 0.002, .rounds = 10, .stolen_rounds = 3});
	doc = compare_per("one", "two", (struct cvb_compare_plan){0});
	has(text(at(doc, "errors", 0), "reason"), "18 of 60 samples on arm vm were disturbed");
	assert_int_equal((int)cvb_compare_exit(doc), CVB_EXIT_INVALID);
	json_decref(doc);
}

static void what_a_bundle_lacks_is_told(void **state)
{
	json_t *doc;

	(void)state;
	put_bundle("one", (struct synth){.vm_wobble = 0.001});
	put_bundle("two", (struct synth){.bad_round = 1, .bad_value = "-1"});
	doc = compare_per("one", "two", (struct cvb_compare_plan){0});
	assert_int_equal(count(doc, "errors"), 1);
	has(text(at(doc, "errors", 0), "reason"), "session 1: sample 1 is -1");
	json_decref(doc);
	doc = compare_per("one", "two", (struct cvb_compare_plan){.per = "native"});
	has(text(at(doc, "errors", 0), "reason"), "session 1 round 1");
	json_decref(doc);

	put_bundle("two", (struct synth){.stop_session = 3});
	doc = compare_per("one", "two", (struct cvb_compare_plan){0});
	bool noted = false;

	for (size_t i = 0; i < count(doc, "notes"); i++)
		noted |= strstr(json_string_value(at(doc, "notes", i)), "2 of 6 sessions") != NULL;
	assert_true(noted);
	json_decref(doc);
}

/* Why a metric of a bundle's arm has no verdict to believe, and what overall comes of it. */
static void not_believed(const char *per, const char *arm, const char *reason, const char *verdict,
			 enum cvb_exit code)
{
	json_t *doc = compare_per("one", "two", (struct cvb_compare_plan){.per = per});
	const json_t *m = row_of(doc, arm, "mem.stream/triad");

	assert_int_equal(count(doc, "errors"), 0);
	has(text(m, "reason"), reason);
	assert_string_equal(text(m, "verdict"), verdict);
	assert_int_equal(cvb_compare_exit(doc), code);
	json_decref(doc);
}

static void a_bundles_own_aa_arm_speaks_against_it(void **state)
{
	json_t *doc;

	(void)state;
	put_bundle("one", (struct synth){.vm_wobble = 0.0001});
	/* it differs from itself, and that by more than a tenth of the margin's tolerance */
	put_bundle("two",
		   (struct synth){.vm_wobble = 0.0002, .aa_ratio = 1.004, .aa_wobble = 1e-4});
	not_believed(NULL, "native",
		     "arm native measured again (arm aa of current) differs from itself", "INVALID",
		     CVB_EXIT_INVALID);
	not_believed("native", "vm", "native measured again (arm aa of current) differs", "INVALID",
		     CVB_EXIT_INVALID);
	/* nobody measured vm again */
	doc = compare_per("one", "two", (struct cvb_compare_plan){0});
	assert_string_equal(text(row_of(doc, "vm", "mem.stream/triad"), "verdict"), "PASS");
	/* a tolerance of 5 % is another matter */
	json_decref(doc);
	doc = compare_per("one", "two", (struct cvb_compare_plan){.margin = 0.95, .per = "native"});
	assert_string_equal(text(row_of(doc, "vm", "mem.stream/triad"), "verdict"), "PASS");
	json_decref(doc);

	put_bundle("two", (struct synth){.vm_wobble = 0.0002, .aa_wobble = 0.03});
	not_believed(NULL, "native", "too noisy to decide", "INVALID", CVB_EXIT_INVALID);
	/* few sessions: what it is off could have made the verdict */
	put_bundle("two", (struct synth){.vm_wobble = 0.0002,
					 .vm_ratio = 1.01,
					 .aa_ratio = 0.97,
					 .aa_wobble = 1e-2,
					 .sessions = 4});
	not_believed("native", "vm", "(arm aa of current) is off by", "INVALID", CVB_EXIT_INVALID);
	/* a FAIL that can be believed is worse news */
	put_bundle("two", (struct synth){.vm_ratio = 0.5, .vm_wobble = 0.0002, .aa_wobble = 0.03});
	not_believed(NULL, "native", "too noisy to decide", "INVALID", CVB_EXIT_GATE_FAILED);
}

static void voided_samples_do_not_decide(void **state)
{
	(void)state;
	put_bundle("one", (struct synth){.vm_wobble = 0.001, .rounds = 10});
	put_bundle("two", (struct synth){.vm_wobble = 0.002,
					 .rounds = 10,
					 .stolen_rounds = 2,
					 .stolen_factor = 0.5});
	not_believed(NULL, "vm", "PASS without the 12 samples that stolen CPU time", "INCONCLUSIVE",
		     CVB_EXIT_INCONCLUSIVE);
	/* a session's pairs have a typical value that two of ten do not move; a whole session does
	 */
	put_bundle("two", (struct synth){.vm_wobble = 0.002,
					 .vm_ratio = 1.005,
					 .stolen_rounds = 2,
					 .stolen_session = 3,
					 .stolen_factor = 0.5});
	not_believed("native", "vm", "PASS without the 2 samples that stolen CPU time",
		     "INCONCLUSIVE", CVB_EXIT_INCONCLUSIVE);
}

static void sides_of_different_kinds(void **state)
{
	struct cvb_side *b, *c;
	struct cvb_compare_plan plan = {.margin = 0.99};
	struct cvb_err err = {0};
	json_t *doc = NULL;

	(void)state;
	put_bundle("one", (struct synth){0});
	put("x.json", PLAIN("1"));
	b = load("one", NULL, NULL);
	c = load("x.json", NULL, NULL);
	assert_int_equal(cvb_compare(b, c, &plan, &doc, &err), -EINVAL);
	has(err.frame[0].msg, "is a bundle");
	plan = (struct cvb_compare_plan){.margin = 1, .rule = CVB_RULE_EQUIVALENCE};
	assert_int_equal(cvb_compare(c, c, &plan, &doc, NULL), -EINVAL);
	plan = (struct cvb_compare_plan){.margin = 1, .rule = CVB_RULE_ABSOLUTE};
	assert_int_equal(cvb_compare(c, c, &plan, &doc, NULL), -EINVAL);
	plan = (struct cvb_compare_plan){.margin = NAN};
	assert_int_equal(cvb_compare(c, c, &plan, &doc, NULL), -EINVAL);
	assert_null(doc);
	cvb_side_free(b);
	cvb_side_free(c);
}

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	return cvb_remove_tree(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_run_each_has_no_interval),
		cmocka_unit_test(sessions_decide),
		cmocka_unit_test(many_metrics_are_adjusted),
		cmocka_unit_test(exact_values_decide_alone),
		cmocka_unit_test(the_same_numbers_are_one_measurement),
		cmocka_unit_test(no_spread_is_no_certainty),
		cmocka_unit_test(differing_work_is_an_error),
		cmocka_unit_test(tcg_is_not_kvm),
		cmocka_unit_test(one_side_only_can_be_allowed),
		cmocka_unit_test(sessions_of_a_side_agree_on_the_work),
		cmocka_unit_test(params_match_in_any_order),
		cmocka_unit_test(differences_are_listed),
		cmocka_unit_test(malformed_documents_are_refused),
		cmocka_unit_test(printed_text_is_safe),
		cmocka_unit_test(many_metrics_are_quick),
		cmocka_unit_test(bundles_compare_arm_by_arm),
		cmocka_unit_test(bundles_that_cannot_be_compared),
		cmocka_unit_test(stolen_time_in_a_bundle_is_told),
		cmocka_unit_test(what_a_bundle_lacks_is_told),
		cmocka_unit_test(a_bundles_own_aa_arm_speaks_against_it),
		cmocka_unit_test(voided_samples_do_not_decide),
		cmocka_unit_test(sides_of_different_kinds),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
