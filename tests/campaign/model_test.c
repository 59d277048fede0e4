/* SPDX-License-Identifier: Apache-2.0 */
/* The journal as a model: which attempts and rounds count, and what hostile input meets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "campaign/model.h"
#include "campaign/synth.h"
#include "core/file.h"

#include <errno.h>

static char dir[] = "/tmp/cvb-model-XXXXXX";
static char path[sizeof(dir) + 8];

#define CAMPAIGN                                                                                   \
	"{\"type\":\"campaign\",\"schema\":\"cvmbench.journal/1\",\"profile\":\"p\",\"seed\":1,"   \
	"\"sessions\":2,\"rounds\":3,\"arms\":[{\"name\":\"a\",\"target\":\"local\"},"             \
	"{\"name\":\"b\",\"target\":\"qemu\"}],"                                                   \
	"\"benches\":[{\"name\":\"x\",\"arms\":[\"a\",\"b\"],\"rounds\":3}]}\n"
#define AT(s, t) "\"session\":" s ",\"attempt\":" t
#define BENCH_OK(s, t, arm)                                                                         \
	"{\"type\":\"bench\"," AT(                                                                  \
		s,                                                                                  \
		t) ",\"arm\":\"" arm "\",\"bench\":\"x\",\"outcome\":\"ok\","                       \
		   "\"series\":[{\"metric\":\"m\",\"unit\":\"ns\",\"better\":\"lower\",\"params\":" \
		   "{\"size_bytes\":4096,\"dir\":\"h2d\"}}]}\n"
#define SAMPLE(s, t, arm, round, v)                                                                \
	"{\"type\":\"sample\"," AT(s, t) ",\"arm\":\"" arm "\",\"bench\":\"x\",\"round\":" round   \
					 ",\"values\":[" v "]}\n"
#define ROUND(s, t, round) "{\"type\":\"round\"," AT(s, t) ",\"bench\":\"x\",\"round\":" round "}\n"
#define BENCH_END(s, t)	   "{\"type\":\"bench_end\"," AT(s, t) ",\"bench\":\"x\"}\n"

static struct cvb_model *load(const char *text)
{
	struct cvb_model *m = NULL;
	struct cvb_err err = {0};

	assert_int_equal(cvb_file_write(path, text, strlen(text), &err), 0);
	if (cvb_model_load(&m, path, &err) < 0)
		fail_msg("%s", err.frame[0].msg);
	return m;
}

static void whole_journal(void **state)
{
	struct cvb_model *m = NULL;
	char buf[100];

	(void)state;
	synth_write(path, (struct synth){.vm_ratio = 0.5, .accel = "tcg"});
	assert_int_equal(cvb_model_load(&m, path, NULL), 0);
	assert_int_equal(m->n_arms, 3);
	assert_int_equal(m->sessions_complete, 6);
	assert_true(m->complete);
	assert_null(m->abort);
	assert_int_equal(m->n_series, 2);
	assert_string_equal(m->series[0]->key, "mem.stream/copy");
	assert_string_equal(m->series[1]->key, "mem.stream/triad{kind=plain,threads=2}");
	assert_int_equal(m->series[1]->points[2].n, 12);
	assert_int_equal(m->series[1]->points[2].v[3].session, 2);
	assert_int_equal(m->series[1]->points[2].v[3].round, 2);
	assert_true(fabs(m->series[1]->points[2].v[3].value - 0.6e10) < 1);
	assert_int_equal(m->benches[0].rounds_done, 12);
	assert_int_equal(m->benches[0].sessions_done, 6);
	assert_int_equal(m->arms[2].n_boots, 6);
	assert_int_equal(m->arms[2].sessions, 6);
	assert_string_equal(cvb_model_arm_title(&m->arms[2], buf, sizeof(buf)), "vm (tcg)");
	assert_string_equal(cvb_model_arm_title(&m->arms[0], buf, sizeof(buf)), "native");
	cvb_model_free(m);
}

/* Attempt 1 died after round 2, attempt 2 finished: attempt 2 counts, and a later one does not. */
static void finished_attempt_counts(void **state)
{
	struct cvb_model *m = load(
		CAMPAIGN BENCH_OK("1", "1", "a") SAMPLE("1", "1", "a", "1", "10")
			ROUND("1", "1", "1") SAMPLE("1", "1", "a", "2", "11") ROUND("1", "1", "2")
				BENCH_OK("1", "2", "a") SAMPLE("1", "2", "a", "1", "20") ROUND(
					"1", "2", "1") BENCH_END("1", "2") BENCH_OK("1", "3", "a")
					SAMPLE("1", "3", "a", "1", "30") ROUND("1", "3", "1")
						BENCH_END("1", "3"));

	(void)state;
	assert_int_equal(m->series[0]->points[0].n, 1);
	assert_true(m->series[0]->points[0].v[0].value == 20);
	assert_int_equal(m->session[0].benches_done, 1);
	assert_int_equal(m->benches[0].rounds_done, 1);
	cvb_model_free(m);
}

/* No attempt finished: the latest counts; rounds without their "round" line do not. */
static void latest_attempt_and_whole_rounds(void **state)
{
	struct cvb_model *m =
		load(CAMPAIGN BENCH_OK("1", "1", "a") SAMPLE("1", "1", "a", "1", "10")
			     ROUND("1", "1", "1") BENCH_OK("1", "2", "a")
				     SAMPLE("1", "2", "a", "1", "20") ROUND("1", "2", "1")
					     SAMPLE("1", "2", "a", "2", "21"));

	(void)state;
	assert_int_equal(m->series[0]->points[0].n, 1);
	assert_true(m->series[0]->points[0].v[0].value == 20);
	assert_int_equal(m->session[0].benches_done, 0);
	assert_false(m->complete);
	cvb_model_free(m);
}

static void outcomes_merge(void **state)
{
	struct cvb_model *m = load(
		CAMPAIGN BENCH_OK("1", "1", "a") SAMPLE("1", "1", "a", "1", "10")
			ROUND("1", "1", "1") BENCH_END("1", "1") "{\"type\":\"bench\"," AT(
				"2",
				"1") ",\"arm\":\"a\",\"bench\":\"x\","
				     "\"outcome\":\"unsupported\",\"reason\":\"no fio\"}\n"
				     "{\"type\":\"bench\"," AT(
					     "2",
					     "1") ",\"arm\":\"b\",\"bench\":\"x\","
						  "\"outcome\":\"failed\",\"reason\":\"it burnt\"}\n"
						  "{\"type\":\"abort\"," AT(
							  "2", "1") ",\"message\":\"stopped\"}\n");

	(void)state;
	assert_int_equal(m->benches[0].cells[0].outcome, CVB_MODEL_FAILED);
	assert_non_null(strstr(m->benches[0].cells[0].reason, "no fio"));
	assert_int_equal(m->benches[0].cells[1].outcome, CVB_MODEL_FAILED);
	assert_string_equal(m->benches[0].cells[1].reason, "session 2: it burnt");
	assert_string_equal(m->abort, "stopped");
	cvb_model_free(m);
}

static void nulls_are_kept_as_nan(void **state)
{
	struct cvb_model *m = load(CAMPAIGN BENCH_OK("1", "1", "a")
					   SAMPLE("1", "1", "a", "1", "null") ROUND("1", "1", "1"));

	(void)state;
	assert_int_equal(m->series[0]->points[0].n, 1);
	assert_true(isnan(m->series[0]->points[0].v[0].value));
	cvb_model_free(m);
}

static void params_match(void **state)
{
	struct cvb_model *m = load(CAMPAIGN BENCH_OK("1", "1", "a"));
	const struct cvb_model_series *s = m->series[0];

	(void)state;
	assert_true(cvb_model_params_match(s, NULL));
	assert_true(cvb_model_params_match(s, ""));
	assert_true(cvb_model_params_match(s, "dir=h2d"));
	assert_true(cvb_model_params_match(s, " size_bytes = 4KiB , dir=h2d"));
	assert_true(cvb_model_params_match(s, "size_bytes=4096"));
	assert_false(cvb_model_params_match(s, "size_bytes=4097"));
	assert_false(cvb_model_params_match(s, "dir=d2h"));
	assert_false(cvb_model_params_match(s, "mem=pinned"));
	assert_false(cvb_model_params_match(s, "dir"));
	cvb_model_free(m);
}

/* What an arm last said in a session counts: attempt 2 found what attempt 1 missed. */
static void sessions_without_an_arm_are_counted(void **state)
{
#define ARM_B_NOT(s, t, why)                                                                       \
	"{\"type\":\"arm\"," AT(s, t) ",\"arm\":\"b\",\"state\":\"unsupported\",\"reason\":\"" why \
				      "\"}\n"
#define ARM_B_AT(s, t)                                                                             \
	"{\"type\":\"arm\"," AT(s, t) ",\"arm\":\"b\",\"state\":\"ready\",\"labels\":{}}\n"
	struct cvb_model *m =
		load(CAMPAIGN ARM_B_NOT("1", "1", "no qemu") ARM_B_AT("1", "2") ARM_B_AT("2", "1")
			     ARM_B_NOT("2", "2", "no disk") ARM_B_NOT("2", "3", "no space"));

	(void)state;
	assert_int_equal(m->arms[1].state, CVB_MODEL_ARM_READY);
	assert_int_equal(m->arms[1].sessions_unsupported, 1);
	assert_string_equal(m->arms[1].reason, "no space");
	assert_int_equal(m->arms[0].sessions_unsupported, 0);
	cvb_model_free(m);
	m = load(CAMPAIGN ARM_B_NOT("1", "1", "no qemu") ARM_B_AT("1", "2"));
	assert_int_equal(m->arms[1].sessions_unsupported, 0);
	cvb_model_free(m);
}

static void accel_that_changes_is_seen(void **state)
{
#define ARM_B(s, accel)                                                                            \
	"{\"type\":\"arm\"," AT(s, "1") ",\"arm\":\"b\",\"state\":\"ready\",\"labels\":"           \
					"{\"target\":\"qemu\",\"accel\":\"" accel                  \
					"\"},\"boot_ns\":5}\n"
	struct cvb_model *m = load(CAMPAIGN ARM_B("1", "tcg") ARM_B("2", "kvm"));

	(void)state;
	assert_true(m->arms[1].accel_changed);
	assert_string_equal(m->arms[1].accel, "tcg");
	assert_int_equal(m->arms[1].sessions, 2);
	cvb_model_free(m);
}

static void torn_journal_loads(void **state)
{
	struct cvb_model *m = load(CAMPAIGN BENCH_OK("1", "1", "a") SAMPLE("1", "1", "a", "1", "10")
					   ROUND("1", "1", "1") "{\"type\":\"sample\",\"sess");

	(void)state;
	assert_int_equal(m->series[0]->points[0].n, 1);
	cvb_model_free(m);
}

/* Every line that must be refused, and a word its message must hold. */
static const struct {
	const char *text;
	const char *why;
} hostile[] = {
	{"", "empty"},
	{"{\"type\":\"session\",\"session\":1,\"attempt\":1}\n", "first line"},
	{"{\"type\":\"campaign\",\"schema\":\"other/1\"}\n", "schema"},
	{CAMPAIGN CAMPAIGN, "second campaign"},
	{CAMPAIGN "{\"session\":1}\n", "type"},
	{CAMPAIGN "{\"type\":\"party\"}\n", "party"},
	{CAMPAIGN "{\"type\":7}\n", "type"},
	{CAMPAIGN "{\"type\":\"session\",\"session\":3,\"attempt\":1}\n", "session"},
	{CAMPAIGN "{\"type\":\"session\",\"session\":0,\"attempt\":1}\n", "session"},
	{CAMPAIGN "{\"type\":\"session\",\"session\":\"1\",\"attempt\":1}\n", "session"},
	{CAMPAIGN "{\"type\":\"session\",\"session\":1,\"attempt\":-1}\n", "attempt"},
	{CAMPAIGN "{\"type\":\"arm\"," AT("1", "1") ",\"arm\":\"z\",\"state\":\"ready\"}\n",
	 "\"arm\""},
	{CAMPAIGN "{\"type\":\"arm\"," AT("1", "1") ",\"arm\":\"a\",\"state\":\"happy\"}\n",
	 "state"},
	{CAMPAIGN "{\"type\":\"arm\"," AT("1", "1") ",\"arm\":\"a\",\"state\":\"ready\"}\n",
	 "labels"},
	{CAMPAIGN "{\"type\":\"arm\"," AT("1", "1") ",\"arm\":\"a\",\"state\":\"ready\","
						    "\"labels\":{\"accel\":\"xen\"}}\n",
	 "accel"},
	{CAMPAIGN "{\"type\":\"arm\"," AT("1", "1") ",\"arm\":\"a\",\"state\":\"ready\","
						    "\"labels\":{\"bounce\":\"yes\"}}\n",
	 "bounce"},
	{CAMPAIGN "{\"type\":\"arm\"," AT("1", "1") ",\"arm\":\"a\",\"state\":\"ready\","
						    "\"labels\":{},\"environment\":[]}\n",
	 "environment"},
	{CAMPAIGN "{\"type\":\"arm\"," AT("1", "1") ",\"arm\":\"a\",\"state\":\"unsupported\"}\n",
	 "reason"},
	{CAMPAIGN SAMPLE("1", "1", "a", "1", "10"), "before"},
	{CAMPAIGN BENCH_OK("1", "1", "a") SAMPLE("1", "1", "b", "1", "10"), "before"},
	{CAMPAIGN BENCH_OK("1", "1", "a") SAMPLE("1", "1", "a", "4", "10"), "round"},
	{CAMPAIGN BENCH_OK("1", "1", "a") SAMPLE("1", "1", "a", "1", "10,11"), "values"},
	{CAMPAIGN BENCH_OK("1", "1", "a") SAMPLE("1", "1", "a", "1", ""), "values"},
	{CAMPAIGN BENCH_OK("1", "1", "a") SAMPLE("1", "1", "a", "1", "\"10\""), "values"},
	{CAMPAIGN BENCH_OK("1", "1", "a") SAMPLE("1", "1", "a", "2", "1")
		 SAMPLE("1", "1", "a", "2", "1"),
	 "round 2 came after round 2"},
	{CAMPAIGN BENCH_OK("1", "2", "a") SAMPLE("1", "1", "a", "1", "1"),
	 "attempt 1 came after attempt 2"},
	{CAMPAIGN BENCH_OK("1", "1", "a") BENCH_OK("1", "1", "a"), "again"},
	{CAMPAIGN "{\"type\":\"bench\"," AT("1", "1") ",\"arm\":\"a\",\"bench\":\"x\","
						      "\"outcome\":\"great\"}\n",
	 "outcome"},
	{CAMPAIGN "{\"type\":\"bench\"," AT("1", "1") ",\"arm\":\"a\",\"bench\":\"y\","
						      "\"outcome\":\"ok\"}\n",
	 "bench"},
	{CAMPAIGN "{\"type\":\"bench\"," AT("1", "1") ",\"arm\":\"a\",\"bench\":\"x\","
						      "\"outcome\":\"ok\",\"series\":{}}\n",
	 "series"},
	{CAMPAIGN "{\"type\":\"bench\"," AT(
		 "1",
		 "1") ",\"arm\":\"a\",\"bench\":\"x\",\"outcome\":\"ok\",\"series\":[{\"metric\":\"m\","
		      "\"unit\":\"ns\",\"better\":\"sideways\"}]}\n",
	 "better"},
	{CAMPAIGN "{\"type\":\"bench\"," AT(
		 "1",
		 "1") ",\"arm\":\"a\",\"bench\":\"x\",\"outcome\":\"ok\",\"series\":[{\"metric\":\"m\","
		      "\"unit\":\"ns\",\"better\":\"lower\",\"params\":{\"a\":[1]}}]}\n",
	 "params"},
	{CAMPAIGN BENCH_OK("1", "1", "a") "{\"type\":\"bench\"," AT(
		 "1",
		 "1") ",\"arm\":\"b\",\"bench\":\"x\",\"outcome\":\"ok\",\"series\":[{\"metric\":\"x/m\","
		      "\"unit\":\"bytes_per_s\",\"better\":\"lower\",\"params\":"
		      "{\"size_bytes\":4096,\"dir\":\"h2d\"}}]}\n",
	 "another unit"},
	{CAMPAIGN ROUND("1", "1", "9"), "round"},
	{CAMPAIGN "{\"type\":\"abort\"}\n", "message"},
};

static void hostile_lines(void **state)
{
	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(hostile); i++) {
		struct cvb_model *m = NULL;
		struct cvb_err err = {0};

		assert_int_equal(
			cvb_file_write(path, hostile[i].text, strlen(hostile[i].text), NULL), 0);
		assert_int_equal(cvb_model_load(&m, path, &err), -EBADMSG);
		assert_null(m);
		assert_non_null(strstr(err.frame[0].msg, path));
		if (!strstr(err.frame[0].msg, hostile[i].why))
			fail_msg("row %zu: \"%s\" does not say \"%s\"", i, err.frame[0].msg,
				 hostile[i].why);
	}
}

/* Cut a good journal at every byte, and flip bytes of it: a model or an error, never a crash. */
static void damaged_journals(void **state)
{
	_cleanup_free_ char *text = NULL;
	struct cvb_model *m = NULL;
	size_t bytes;

	(void)state;
	synth_write(path, (struct synth){.sessions = 2});
	assert_int_equal(cvb_file_read(path, CVB_MIB, &text, &bytes, NULL), 0);
	for (size_t i = 0; i < bytes; i += 17) {
		char was = text[i];

		assert_int_equal(cvb_file_write(path, text, i, NULL), 0);
		if (cvb_model_load(&m, path, NULL) == 0)
			m = cvb_model_free(m);
		text[i] = (char)(was ^ (i % 3 ? 0x01 : 0x12));
		assert_int_equal(cvb_file_write(path, text, bytes, NULL), 0);
		if (cvb_model_load(&m, path, NULL) == 0)
			m = cvb_model_free(m);
		text[i] = was;
	}
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/j", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return cvb_remove_tree(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_journal),
		cmocka_unit_test(finished_attempt_counts),
		cmocka_unit_test(latest_attempt_and_whole_rounds),
		cmocka_unit_test(outcomes_merge),
		cmocka_unit_test(nulls_are_kept_as_nan),
		cmocka_unit_test(params_match),
		cmocka_unit_test(sessions_without_an_arm_are_counted),
		cmocka_unit_test(accel_that_changes_is_seen),
		cmocka_unit_test(torn_journal_loads),
		cmocka_unit_test(hostile_lines),
		cmocka_unit_test(damaged_journals),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
