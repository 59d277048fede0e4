/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "net/iperf3_parse.h"
#include "net/netpeer.h"

static const struct cvb_iperf3_shape tcp = {0}, bidir = {.bidir = true};
static const struct cvb_iperf3_shape udp_1460 = {.payload_bytes = 1460},
				     udp_64 = {.payload_bytes = 64};

static void refuses_in(const char *fixture, const struct cvb_iperf3_shape *shape, const char *after,
		       const char *from, const char *to, int code, const char *says)
{
	_cleanup_free_ char *good = fixture_read(fixture);
	_cleanup_free_ char *bad = spoil(good, after, from, to);
	struct cvb_iperf3_result ret;
	struct cvb_err err = {0};

	int r = cvb_iperf3_parse(bad, shape, &ret, &err);

	if (r != code)
		fail_msg("%s after %s made %s: %d instead of %d", from, after, to, r, code);
	assert_says(&err, says);
}

static void refuses(const char *after, const char *from, const char *to, int code, const char *says)
{
	refuses_in("iperf3-send.json", &tcp, after, from, to, code, says);
}

/* The figures are those that jq reads from the same file. */
static void test_real_send(void **state)
{
	_cleanup_free_ char *text = fixture_read("iperf3-send.json");
	struct cvb_iperf3_result ret;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_iperf3_parse(text, &tcp, &ret, &err), 0);
	assert_float_equal(ret.bandwidth_bytes_per_s, 20711652505.29681 / 8, 1e-3);
	assert_float_equal(ret.duration_s, 1.003434, 1e-9);
	assert_int_equal(ret.bytes, 2597847040);
	assert_int_equal(ret.retransmits, 9);
	assert_float_equal(ret.cpu_local_ratio, 26.390019687508087 / 100, 1e-9);
	assert_float_equal(ret.cpu_remote_ratio, 70.30968314157727 / 100, 1e-9);
}

static void test_real_receive(void **state)
{
	_cleanup_free_ char *text = fixture_read("iperf3-receive.json");
	struct cvb_iperf3_result ret;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_iperf3_parse(text, &tcp, &ret, &err), 0);
	assert_float_equal(ret.bandwidth_bytes_per_s, 23092694270.845306 / 8, 1e-3);
	assert_int_equal(ret.bytes, 2888171520);
}

static void test_real_streams(void **state)
{
	_cleanup_free_ char *text = fixture_read("iperf3-streams.json");
	struct cvb_iperf3_result ret;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_iperf3_parse(text, &tcp, &ret, &err), 0);
	assert_float_equal(ret.bandwidth_bytes_per_s, 15743175468.327122 / 8, 1e-3);
	assert_int_equal(ret.bytes, 1968308224);
	assert_int_equal(ret.retransmits, 18);
}

/* Both directions together; read as one direction it is only half. */
static void test_real_bidir(void **state)
{
	_cleanup_free_ char *text = fixture_read("iperf3-bidir.json");
	struct cvb_iperf3_result ret;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_iperf3_parse(text, &bidir, &ret, &err), 0);
	assert_float_equal(ret.bandwidth_bytes_per_s, (7725900026.0111065 + 7506767391.205068) / 8,
			   1e-3);
	assert_int_equal(ret.bytes, 972750689 + 945160192);
	assert_int_equal(ret.retransmits, 4 + 2);
	assert_int_equal(cvb_iperf3_parse(text, &tcp, &ret, &err), 0);
	assert_int_equal(ret.bytes, 972750689);
	refuses_in("iperf3-send.json", &bidir, "{", "\"end\"", "\"end\"", -EBADMSG,
		   "sum_received_bidir_reverse is missing");
	refuses_in("iperf3-bidir.json", &bidir, "sum_sent_bidir_reverse", "\"retransmits\":\t2",
		   "\"retransmits\":\t99999999999", -EBADMSG, "retransmits is out of range");
}

static void test_real_udp(void **state)
{
	_cleanup_free_ char *sent = fixture_read("iperf3-udp-send.json");
	_cleanup_free_ char *received = fixture_read("iperf3-udp-receive.json");
	struct cvb_iperf3_result ret;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_iperf3_parse(sent, &udp_1460, &ret, &err), 0);
	assert_float_equal(ret.bandwidth_bytes_per_s, 504855034.97783536 / 8, 1e-3);
	assert_float_equal(ret.offered_bytes_per_s, 1455662759.439922 / 8, 1e-3);
	assert_int_equal(ret.packets_sent, 125270);
	assert_float_equal(ret.packets_received, 125270 - 81821, 1e-6);
	assert_float_equal(ret.jitter_ns, 103451.77694900214, 1e-6);
	assert_int_equal(ret.retransmits, -1);

	assert_int_equal(cvb_iperf3_parse(received, &udp_64, &ret, &err), 0);
	/* of those sent, 171 never had a successor that would have shown their loss */
	assert_int_equal(ret.packets_sent, 121140);
	assert_float_equal(ret.packets_received, 120969 - 53729, 1e-6);
	assert_float_equal(ret.bandwidth_bytes_per_s, 34426673.43995936 / 8, 1e-3);
}

static void refuses_udp(const char *after, const char *from, const char *to, const char *says)
{
	refuses_in("iperf3-udp-send.json", &udp_1460, after, from, to, -EBADMSG, says);
}

static void test_hostile_udp(void **state)
{
	(void)state;
	refuses_udp("sum_received", "\"jitter_ms\":\t", "\"jitter_ms\":\t-", "jitter_ms = -0.1");
	refuses_udp("sum_received", "\"jitter_ms\":\t", "\"jitter_ms\":\t1e300,\"x\":\t",
		    "jitter_ms = 1e+300 is out of range");
	refuses_udp("sum_received", "\"jitter_ms\":\t", "\"jitter_ms\":\tnull,\"x\":\t",
		    "jitter_ms is not a number");
	refuses_udp("sum_received", "\"lost_packets\":\t", "\"lost_packets\":\t9",
		    "lost_packets exceeds packets");
	refuses_udp("sum_received", "\"lost_packets\":\t", "\"lost_packets\":\t-",
		    "lost_packets is not a count");
	refuses_udp("sum_received", "\"lost_packets\":\t81821", "\"lost_packets\":\t0",
		    "contradicts the 43449 datagrams");
	refuses_udp("sum_sent", "\"packets\":\t125270", "\"packets\":\t1000",
		    "43449 datagrams arrived of 1000");
	refuses_udp("sum_sent", "\"packets\":\t", "\"packets\":\t1e5,\"x\":\t",
		    "packets is not a count");
	refuses_udp("sum_received", "\"bytes\":\t63435540", "\"bytes\":\t0", "no data arrived");
	refuses_udp("cpu_utilization_percent", "\"remote_total\":\t",
		    "\"remote_total\":\t1e300,\"x\":\t", "remote_total = 1e+300 is out of range");
	/* a document of TCP where UDP was asked for */
	refuses_in("iperf3-send.json", &udp_1460, "{", "\"end\"", "\"end\"", -EBADMSG,
		   "packets is missing");
}

/* Both came with exit status 0. */
static void test_errors_inside(void **state)
{
	_cleanup_free_ char *busy = fixture_read("iperf3-busy.json");
	_cleanup_free_ char *refused = fixture_read("iperf3-refused.json");
	struct cvb_iperf3_result ret;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_iperf3_parse(busy, &tcp, &ret, &err), -EBUSY);
	assert_says(&err, "server is busy");
	assert_int_equal(cvb_iperf3_parse(refused, &tcp, &ret, &err), -ECONNREFUSED);
	assert_says(&err, "Connection refused");
	assert_int_equal(cvb_iperf3_parse("{\"error\":\"a\\u001b[2Jb\"}", &tcp, &ret, &err), -EIO);
	assert_says(&err, "a?[2Jb");
	assert_int_equal(cvb_iperf3_parse("{\"error\":1}", &tcp, &ret, &err), -EBADMSG);
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

		assert_int_equal(cvb_iperf3_parse(cut, &tcp, &ret, &err), -EBADMSG);
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
	assert_int_equal(cvb_iperf3_parse(text, &tcp, &ret, &err), 0);
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
					  "h: 1",
					  "h:1,echo=",
					  "h:1,echo=x",
					  "h:1,echo=65536",
					  "h:1,echo=1,echo=2",
					  "h:0,echo=0",
					  ",echo=1",
					  "h:1,other=2"};
	struct cvb_netpeer p = {0};
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_netpeer_parse(&p, "10.0.2.2:5201", &err), 0);
	assert_string_equal(p.host, "10.0.2.2");
	assert_int_equal(p.port, 5201);
	assert_int_equal(p.echo_port, 0);
	cvb_netpeer_done(&p);
	assert_int_equal(cvb_netpeer_parse(&p, "h:0,echo=7007", &err), 0);
	assert_int_equal(p.port, 0);
	assert_int_equal(p.echo_port, 7007);
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
		cmocka_unit_test(test_real_send),    cmocka_unit_test(test_real_receive),
		cmocka_unit_test(test_real_streams), cmocka_unit_test(test_real_bidir),
		cmocka_unit_test(test_real_udp),     cmocka_unit_test(test_errors_inside),
		cmocka_unit_test(test_truncated),    cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_hostile_udp),  cmocka_unit_test(test_no_retransmits),
		cmocka_unit_test(test_peer_text),
	};

	return cmocka_run_group_tests_name("net: iperf3 JSON and peers", tests, NULL, NULL);
}
