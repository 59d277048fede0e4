/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "net/iperf3_parse.h"
#include "net/netpeer.h"

static void refuses(const char *after, const char *from, const char *to, int code, const char *says)
{
	_cleanup_free_ char *good = fixture_read("iperf3-send.json");
	_cleanup_free_ char *bad = spoil(good, after, from, to);
	struct cvb_iperf3_result ret;
	struct cvb_err err = {0};

	int r = cvb_iperf3_parse(bad, &ret, &err);

	if (r != code)
		fail_msg("%s after %s made %s: %d instead of %d", from, after, to, r, code);
	assert_says(&err, says);
}

/* The figures are those that jq reads from the same file. */
static void test_real_send(void **state)
{
	_cleanup_free_ char *text = fixture_read("iperf3-send.json");
	struct cvb_iperf3_result ret;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_iperf3_parse(text, &ret, &err), 0);
	assert_float_equal(ret.bandwidth_bytes_per_s, 20711652505.29681 / 8, 1e-3);
	assert_float_equal(ret.duration_s, 1.003434, 1e-9);
	assert_int_equal(ret.bytes, 2597847040);
	assert_int_equal(ret.retransmits, 9);
	assert_float_equal(ret.cpu_local_ratio, 26.390019687508087 / 100, 1e-9);
}

static void test_real_receive(void **state)
{
	_cleanup_free_ char *text = fixture_read("iperf3-receive.json");
	struct cvb_iperf3_result ret;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_iperf3_parse(text, &ret, &err), 0);
	assert_float_equal(ret.bandwidth_bytes_per_s, 23092694270.845306 / 8, 1e-3);
	assert_int_equal(ret.bytes, 2888171520);
}

/* Both came with exit status 0. */
static void test_errors_inside(void **state)
{
	_cleanup_free_ char *busy = fixture_read("iperf3-busy.json");
	_cleanup_free_ char *refused = fixture_read("iperf3-refused.json");
	struct cvb_iperf3_result ret;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_iperf3_parse(busy, &ret, &err), -EBUSY);
	assert_says(&err, "server is busy");
	assert_int_equal(cvb_iperf3_parse(refused, &ret, &err), -EIO);
	assert_says(&err, "Connection refused");
	assert_int_equal(cvb_iperf3_parse("{\"error\":\"a\\u001b[2Jb\"}", &ret, &err), -EIO);
	assert_says(&err, "a?[2Jb");
	assert_int_equal(cvb_iperf3_parse("{\"error\":1}", &ret, &err), -EBADMSG);
}

static void test_truncated(void **state)
{
	_cleanup_free_ char *text = fixture_read("iperf3-send.json");
	size_t end = (size_t)(strrchr(text, '}') - text);
	struct cvb_iperf3_result ret;
	struct cvb_err err = {0};

	(void)state;
	for (size_t n = 0; n <= end; n++) {
		_cleanup_free_ char *cut = strndup(text, n);

		assert_int_equal(cvb_iperf3_parse(cut, &ret, &err), -EBADMSG);
	}
}

static void test_hostile(void **state)
{
	(void)state;
	refuses("\"end\"", "sum_received", "sum_receivex", -EBADMSG, "end.sum_received is missing");
	refuses("\"sum_received\"", "bits_per_second\":\t", "bits_per_second\":\t-", -EBADMSG,
		"bits_per_second = -");
	refuses("\"sum_received\"", "bits_per_second\":\t", "bits_per_second\":\t9", -EBADMSG,
		"contradicts");
	refuses("\"sum_received\"", "bits_per_second\":\t", "bits_per_second\":\t{},\"x\":\t",
		-EBADMSG, "bits_per_second is not a number");
	refuses("\"sum_received\"", "\"seconds\":\t", "\"seconds\":\t0,\"x\":\t", -EBADMSG,
		"no data arrived");
	refuses("\"sum_received\"", "\"bytes\":\t", "\"bytes\":\t\"1\",\"x\":\t", -EBADMSG,
		"bytes is not a count");
	refuses("\"sum_sent\"", "\"retransmits\":\t", "\"retransmits\":\t-3,\"x\":\t", -EBADMSG,
		"retransmits is not a count");
	refuses("\"end\"", "\"sum_sent\":\t{", "\"sum_sent\":\t3,\"x\":\t{", -EBADMSG,
		"end.sum_sent is not an object");
	refuses("\"end\"", "host_total", "host_totax", -EBADMSG, "host_total is missing");
	refuses("{", "\"end\":\t{", "\"endx\":\t{", -EBADMSG, "end is missing");
}

/* A sender that does not count them is told from one that had none. */
static void test_no_retransmits(void **state)
{
	_cleanup_free_ char *good = fixture_read("iperf3-send.json");
	_cleanup_free_ char *text = spoil(good, "\"sum_sent\"", "retransmits", "retransmitx");
	struct cvb_iperf3_result ret;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_iperf3_parse(text, &ret, &err), 0);
	assert_int_equal(ret.retransmits, -1);
}

static void test_peer_text(void **state)
{
	static const char *const bad[] = {"",
					  "host",
					  "host:",
					  ":5201",
					  "host:0",
					  "h:x1",
					  "h:1x",
					  "h:65536",
					  "h:-1",
					  "::1:5201",
					  "-s:1",
					  "[]:1",
					  "h:99999999999999999999",
					  "h: 1"};
	struct cvb_netpeer p = {0};
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_netpeer_parse(&p, "10.0.2.2:5201", &err), 0);
	assert_string_equal(p.host, "10.0.2.2");
	assert_int_equal(p.port, 5201);
	cvb_netpeer_done(&p);
	assert_int_equal(cvb_netpeer_parse(&p, "[fe80::1]:65535", &err), 0);
	assert_string_equal(p.host, "fe80::1");
	cvb_netpeer_done(&p);
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
		if (cvb_netpeer_parse(&p, bad[i], &err) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_null(p.host);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real_send),     cmocka_unit_test(test_real_receive),
		cmocka_unit_test(test_errors_inside), cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_hostile),	      cmocka_unit_test(test_no_retransmits),
		cmocka_unit_test(test_peer_text),
	};

	return cmocka_run_group_tests_name("net: iperf3 JSON and peers", tests, NULL, NULL);
}
