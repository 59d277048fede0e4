/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "disk/fio_parse.h"

static const struct cvb_fio_want two[] = {
	{.job = "write-128k-32", .write = true, .block_bytes = 131072, .depth = 32},
	{.job = "randread-4k-1", .write = false, .block_bytes = 4096, .depth = 1},
};

static const struct cvb_fio_want one[] = {
	{.job = "randread-4k-1", .write = false, .block_bytes = 4096, .depth = 1},
};

/* What the parser says about a spoilt copy of the good document. */
static void refuses(const char *after, const char *from, const char *to, int code, const char *says)
{
	_cleanup_free_ char *good = fixture_read("fio-two-jobs.json");
	_cleanup_free_ char *bad = spoil(good, after, from, to);
	struct cvb_fio_result ret[2];
	struct cvb_err err = {0};

	int r = cvb_fio_parse(bad, NULL, two, 2, ret, &err);

	if (r != code)
		fail_msg("%s after %s made %s: %d instead of %d", from, after, to, r, code);
	assert_says(&err, says);
}

/* The figures are those that jq reads from the same file. */
static void test_real_document(void **state)
{
	_cleanup_free_ char *text = fixture_read("fio-two-jobs.json");
	struct cvb_fio_result ret[2] = {0};
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_fio_parse(text, "", two, 2, ret, &err), 0);
	assert_float_equal(ret[1].iops, 12823.529412, 1e-6);
	assert_float_equal(ret[1].bandwidth_bytes_per_s, 52525176, 1e-6);
	assert_float_equal(ret[1].clat.mean_ns, 60691.025994, 1e-6);
	assert_float_equal(ret[1].clat.p50_ns, 35072, 1e-6);
	assert_float_equal(ret[1].clat.p99_ns, 124416, 1e-6);
	assert_float_equal(ret[1].clat.p999_ns, 4112384, 1e-6);
	assert_float_equal(ret[1].cpu_ratio, 0.26, 1e-9);
	assert_float_equal(ret[1].fsync.p50_ns, 0, 0);
	assert_int_equal(ret[1].total_ios, 654);
	assert_float_equal(ret[0].iops, 15673.076923, 1e-6);
	assert_float_equal(ret[0].bandwidth_bytes_per_s, 2054301538, 1e-6);
	assert_float_equal(ret[0].clat.p999_ns, 3620864, 1e-6);
	assert_float_equal(ret[0].cpu_ratio, 0.31372549, 1e-9);
	assert_int_equal(ret[0].io_bytes, 106823680);
}

static const struct cvb_fio_want mixed_and_fsync[] = {
	{.job = "mixed-4k-32", .write = false, .block_bytes = 4096, .depth = 32},
	{.job = "mixed-4k-32", .write = true, .block_bytes = 4096, .depth = 32},
	{.job = "fsync-4k-1", .write = true, .fsync = true, .block_bytes = 4096, .depth = 1},
};

/* Both directions of one job, and the latencies of its syncs. */
static void test_mixed_and_fsync(void **state)
{
	_cleanup_free_ char *text = fixture_read("fio-mixed-fsync.json");
	struct cvb_fio_result ret[3] = {0};
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_fio_parse(text, "", mixed_and_fsync, 3, ret, &err), 0);
	assert_float_equal(ret[0].iops, 33000, 1e-6);
	assert_float_equal(ret[0].clat.p99_ns, 4423680, 1e-6);
	assert_float_equal(ret[1].iops, 14431.372549, 1e-6);
	assert_float_equal(ret[1].clat.p999_ns, 4554752, 1e-6);
	assert_float_equal(ret[1].cpu_ratio, 0.32, 1e-9);
	assert_float_equal(ret[2].iops, 313.72549, 1e-6);
	assert_float_equal(ret[2].fsync.mean_ns, 3120564.5, 1e-6);
	assert_float_equal(ret[2].fsync.p50_ns, 3391488, 1e-6);
	assert_float_equal(ret[2].fsync.p99_ns, 8093696, 1e-6);
	assert_float_equal(ret[2].fsync.p999_ns, 8093696, 1e-6);
}

/* Syncs that did not happen, or whose latencies fio did not tell. */
static void test_hostile_fsync(void **state)
{
	static const struct {
		const char *from, *to, *says;
	} rows[] = {{"\"sync\" : {", "\"synced\" : {", "sync is missing"},
		    {"\"sync\" : {", "\"sync\" : 1, \"x\" : {", "sync is not an object"},
		    {"\"total_ios\" : 16", "\"total_ios\" : 0", "sync: not one was completed"},
		    {"\"lat_ns\"", "\"lat\"", "sync.lat_ns is missing"},
		    {"\"percentile\"", "\"p\"", "sync.lat_ns.percentile is missing"}};
	_cleanup_free_ char *good = fixture_read("fio-mixed-fsync.json");
	/* the last "sync" of the document is that of the job that syncs */
	const char *last = strstr(good, "\"sync\"");

	(void)state;
	for (const char *p = last; (p = strstr(p + 1, "\"sync\""));)
		last = p;

	_cleanup_free_ char *head = strndup(good, (size_t)(last - good));

	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++) {
		_cleanup_free_ char *tail = spoil(last, "\"sync\"", rows[i].from, rows[i].to);
		_cleanup_free_ char *bad = cvb_strf("%s%s", head, tail);
		struct cvb_fio_result ret[3];
		struct cvb_err err = {0};

		assert_int_equal(cvb_fio_parse(bad, NULL, mixed_and_fsync, 3, ret, &err), -EBADMSG);
		assert_says(&err, rows[i].says);
	}
}

static void test_text_before_the_document(void **state)
{
	static const struct cvb_fio_want want = {
		.job = "randread-4k-32", .write = false, .block_bytes = 4096, .depth = 32};
	_cleanup_free_ char *text = fixture_read("fio-warning.json");
	struct cvb_fio_result ret;
	struct cvb_err err = {0};

	(void)state;
	assert_memory_equal(text, "note: ", 6);
	assert_int_equal(cvb_fio_parse(text, NULL, &want, 1, &ret, &err), 0);
	assert_true(ret.iops > 0);

	/* a warning with a brace of its own, and text behind the document */
	_cleanup_free_ char *more = cvb_strf("{odd} file\n%s\nfio: done\n", text);

	assert_int_equal(cvb_fio_parse(more, NULL, &want, 1, &ret, &err), 0);
}

static void test_failed_job(void **state)
{
	_cleanup_free_ char *text = fixture_read("fio-job-error.json");
	_cleanup_free_ char *messages = fixture_read("fio-job-error.stderr");
	struct cvb_fio_result ret[1];
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_fio_parse(text, messages, one, 1, ret, &err), -EIO);
	assert_says(&err, "randread-4k-1 failed with error 22");
	assert_says(&err, "error=Invalid argument");
}

static void test_no_transfer(void **state)
{
	_cleanup_free_ char *text = fixture_read("fio-no-io.json");
	_cleanup_free_ char *messages = fixture_read("fio-no-io.stderr");
	struct cvb_fio_result ret[1];
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_fio_parse(text, messages, one, 1, ret, &err), -EBADMSG);
	assert_says(&err, "file creation disallowed");
}

static void test_no_document(void **state)
{
	struct cvb_fio_result ret[1];
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_fio_parse("", NULL, one, 1, ret, &err), -EBADMSG);
	assert_int_equal(cvb_fio_parse("", "fio: engine x not loadable\n", one, 1, ret, &err),
			 -EBADMSG);
	assert_says(&err, "engine x not loadable");
	assert_int_equal(cvb_fio_parse("{\n}\n", NULL, one, 1, ret, &err), -EBADMSG);
	assert_says(&err, "jobs is missing");
	assert_int_equal(cvb_fio_parse("{\n\"jobs\":{}}\n", NULL, one, 1, ret, &err), -EBADMSG);
	assert_int_equal(cvb_fio_parse("{\n\"jobs\":[]}\n", NULL, one, 1, ret, &err), -EBADMSG);
	assert_says(&err, "job randread-4k-1 is missing");
	assert_int_equal(cvb_fio_parse("{\n\"jobs\":[7]}\n", NULL, one, 1, ret, &err), -EBADMSG);
	assert_says(&err, "jobs[0].jobname");
}

/* Cut anywhere, it is refused: no prefix of a document is a document. */
static void test_truncated(void **state)
{
	_cleanup_free_ char *text = fixture_read("fio-two-jobs.json");
	size_t end = (size_t)(strrchr(text, '}') - text);
	struct cvb_fio_result ret[2];
	struct cvb_err err = {0};

	(void)state;
	for (size_t n = 0; n <= end; n += n < 64 || n > end - 64 ? 1 : 37) {
		_cleanup_free_ char *cut = strndup(text, n);

		assert_int_equal(cvb_fio_parse(cut, NULL, two, 2, ret, &err), -EBADMSG);
	}
}

static void test_hostile(void **state)
{
	(void)state;
	refuses("\"read\"", "\"iops\" : ", "\"iops\" : -", -EBADMSG, "read.iops");
	refuses("\"read\"", "\"iops\" : ", "\"iops\" : 1e400,\"x\" : ", -EBADMSG, "");
	refuses("\"read\"", "\"iops\" : ", "\"iops\" : \"9\", \"x\" : ", -EBADMSG,
		"read.iops is not a number");
	refuses("\"read\"", "\"iops\" : ", "\"iopsx\" : ", -EBADMSG, "read.iops is missing");
	refuses("\"read\"", "\"bw_bytes\" : ", "\"bw_bytes\" : 9", -EBADMSG, "contradict");
	refuses("\"read\"", "\"total_ios\" : ", "\"total_ios\" : 0, \"x\" : ", -EBADMSG,
		"not one transfer");
	refuses("\"read\"", "\"total_ios\" : ", "\"total_ios\" : -", -EBADMSG,
		"total_ios is not a count");
	refuses("\"read\"", "\"total_ios\" : ", "\"total_ios\" : 1.5, \"x\" : ", -EBADMSG,
		"total_ios is not a count");
	refuses("\"read\"", "\"clat_ns\" : {", "\"clat_ns\" : [], \"x\" : {", -EBADMSG,
		"read.clat_ns is not an object");
	refuses("\"clat_ns\"", "\"mean\" : ", "\"mean\" : null, \"x\" : ", -EBADMSG,
		"clat_ns.mean is not a number");
	refuses("\"clat_ns\"", "\"percentile\"", "\"percentiles\"", -EBADMSG,
		"clat_ns.percentile is missing");
	refuses("\"clat_ns\"", "\"99.000000\" : ", "\"99.000000\" : 1, \"x\" : ", -EBADMSG,
		"50.00 is above 99.00");
	refuses("\"clat_ns\"", "\"99.900000\"", "\"99.99\"", -EBADMSG, "99.900000 is missing");
	refuses("\"clat_ns\"", "\"99.900000\" : ", "\"99.900000\" : 1, \"x\" : ", -EBADMSG,
		"99.00 is above 99.90");
	refuses("\"jobs\"", "\"usr_cpu\" : ", "\"usr_cpu\" : null, \"x\" : ", -EBADMSG,
		"usr_cpu is not a number");
	refuses("\"jobs\"", "\"sys_cpu\" : ", "\"sys_cpu\" : -", -EBADMSG, "sys_cpu");
	refuses("\"jobs\"", "\"sys_cpu\"", "\"cpu\"", -EBADMSG, "sys_cpu is missing");
	refuses("\"jobs\"", "\"read\" :", "\"reads\" :", -EBADMSG, "randread-4k-1.read is missing");
	refuses("\"jobs\"", "write-128k-32", "randread-4k-1", -EBADMSG, "there twice");
	refuses("\"jobs\"", "randread-4k-1", "other", -EBADMSG, "randread-4k-1 is missing");
	refuses("\"jobs\"", "\"error\" : 0", "\"error\" : true", -EBADMSG, "error is not a count");
	refuses("\"jobs\"", "\"error\" : 0", "\"error\" : 5", -EIO, "failed with error 5");
}

static void test_many_jobs(void **state)
{
	char text[2048] = "{\n\"jobs\":[";
	struct cvb_fio_result ret[1];
	struct cvb_err err = {0};
	size_t n = strlen(text);

	(void)state;
	for (unsigned i = 0; i < 200; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "{},");
	snprintf(text + n - 1, sizeof(text) - n, "]}\n");
	assert_int_equal(cvb_fio_parse(text, NULL, one, 1, ret, &err), -EBADMSG);
	assert_says(&err, "200 jobs");
}

/* An error text may come from a guest: it must not reach a terminal as it is. */
static void test_complaint_is_clean(void **state)
{
	char buf[32];

	(void)state;
	cvb_fio_complaint("x\nfio: \x1b[2Jerror=bad\ry\n", NULL, buf, sizeof(buf));
	assert_string_equal(buf, "fio: ?[2Jerror=bad");
	cvb_fio_complaint("fio: a long line that does not fit the buffer\n", NULL, buf,
			  sizeof(buf));
	assert_int_equal(strlen(buf), sizeof(buf) - 1);
	assert_string_equal(cvb_fio_complaint("all well\n", NULL, buf, sizeof(buf)), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real_document),
		cmocka_unit_test(test_mixed_and_fsync),
		cmocka_unit_test(test_hostile_fsync),
		cmocka_unit_test(test_text_before_the_document),
		cmocka_unit_test(test_failed_job),
		cmocka_unit_test(test_no_transfer),
		cmocka_unit_test(test_no_document),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_many_jobs),
		cmocka_unit_test(test_complaint_is_clean),
	};

	return cmocka_run_group_tests_name("disk: fio json+", tests, NULL, NULL);
}
