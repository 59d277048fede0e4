/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The iperf3 client and server that the harness runs, with programs in iperf3's place that are
 * busy, print nonsense, die or are not there.
 */
#include "fixture.h"

#include "core/proc.h"
#include "measure/runner.h"
#include "net/iperf3.h"
#include "net/nic.h"
#include "target/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

static char dir[] = "/tmp/cvmbench-net-XXXXXX";
static char *old_path;

static int make_dir(void **state)
{
	(void)state;
	old_path = strdup(getenv("PATH"));
	return mkdtemp(dir) && old_path ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	setenv("PATH", old_path, 1);
	free(old_path);
	return cvb_remove_tree(dir);
}

/* A shell script in the place of iperf3; $D is its folder. */
static void fake(const char *body)
{
	_cleanup_free_ char *path = cvb_strf("%s/iperf3", dir);
	_cleanup_free_ char *text = cvb_strf("#!/bin/sh\nD=%s\n%s\n", dir, body);
	_cleanup_free_ char *search = cvb_strf("%s:%s", dir, old_path);

	assert_int_equal(cvb_file_write(path, text, strlen(text), NULL), 0);
	assert_int_equal(chmod(path, 0755), 0);
	setenv("PATH", search, 1);
}

static void real(void)
{
	setenv("PATH", old_path, 1);
}

static void nothing(void)
{
	setenv("PATH", "/nonexistent", 1);
}

/* What a script prints: a fixture under the name `as` beside it. */
static void put(const char *fixture, const char *as)
{
	_cleanup_free_ char *text = fixture_read(fixture);
	_cleanup_free_ char *path = cvb_strf("%s/%s", dir, as);

	assert_int_equal(cvb_file_write(path, text, strlen(text), NULL), 0);
}

static int run_tcp(struct cvb_iperf3_result *ret, struct cvb_err *err)
{
	_cleanup_free_ char *program = cvb_strf("%s/iperf3", dir);
	static char host[] = "127.0.0.1";
	const struct cvb_iperf3 p = {.program = program, .peer = {.host = host, .port = 5201}};
	struct cvb_iperf3_test test = {.streams = 1, .duration_ms = 1000};

	return cvb_iperf3_run(&p, &test, ret, err);
}

static void test_busy_is_asked_again(void **state)
{
	struct cvb_iperf3_result res;
	struct cvb_err err = {0};

	(void)state;
	put("iperf3-busy.json", "busy");
	put("iperf3-send.json", "send");
	fake("echo x >>$D/count\n[ $(wc -l <$D/count) -lt 3 ] && exec cat $D/busy\ncat $D/send");
	assert_int_equal(run_tcp(&res, &err), 0);
	assert_int_equal(res.bytes, 2597847040);
	/* between two tests nobody listens */
	put("iperf3-refused.json", "refused");
	fake("rm $D/refused && exec cat $D/saved; cat $D/send");
	put("iperf3-refused.json", "saved");
	assert_int_equal(run_tcp(&res, &err), 0);
	fake("cat $D/busy");
	assert_int_equal(run_tcp(&res, &err), -EBUSY);
	assert_says(&err, "the server serves someone else, also after 25 tries");
	assert_says(&err, "tcp send with 127.0.0.1 port 5201");
}

static void test_client_failures(void **state)
{
	struct cvb_iperf3_result res;
	struct cvb_err err = {0};

	(void)state;
	fake("echo '{\"end\": garb'");
	assert_int_equal(run_tcp(&res, &err), -EBADMSG);
	assert_says(&err, "iperf3's JSON, line 1");
	fake("echo 'no JSON here'; echo 'iperf3: bad option' >&2; exit 1");
	assert_int_equal(run_tcp(&res, &err), -EBADMSG);
	assert_says(&err, "exit status 1: iperf3: bad option");
	fake("kill -9 $$");
	assert_int_equal(run_tcp(&res, &err), -EBADMSG);
	assert_says(&err, "signal 9");
	put("iperf3-refused.json", "refused");
	fake("cat $D/refused");
	assert_int_equal(run_tcp(&res, &err), -EIO);
	assert_says(&err, "Connection refused");
	assert_says(&err, "the server is gone, also after 25 tries");
	/* more than it may print is not kept */
	fake("head -c 5000000 /dev/zero | tr '\\0' '{'");
	assert_true(run_tcp(&res, &err) < 0);
}

static void argv_is(const struct cvb_iperf3_test *test, const char *want)
{
	static char host[] = "h", program[] = "iperf3";
	const struct cvb_iperf3 p = {.program = program, .peer = {.host = host, .port = 7}};
	_cleanup_free_ char *line = NULL;
	struct cvb_argv a = {0};

	cvb_iperf3_argv(&p, test, &a);
	line = cvb_argv_quoted(&a);
	cvb_argv_done(&a);
	assert_string_equal(line, want);
}

#define HEAD "iperf3 -c h -p 7 -J -i 0 --connect-timeout 10000 "

static void test_argv(void **state)
{
	(void)state;
	argv_is(&(struct cvb_iperf3_test){.streams = 1, .duration_ms = 1000}, HEAD "-P 1 -t 1");
	/* never a fraction: iperf3 would take 0.5 for ever */
	argv_is(&(struct cvb_iperf3_test){.streams = 4,
					  .duration_ms = 1500,
					  .window_bytes = 65536,
					  .dir = CVB_IPERF3_RECEIVE},
		HEAD "-P 4 -t 2 -w 65536 -R");
	argv_is(&(struct cvb_iperf3_test){.streams = 1,
					  .duration_ms = 100,
					  .send_bytes = 12345,
					  .dir = CVB_IPERF3_BIDIR},
		HEAD "-P 1 -n 12345 --bidir");
	argv_is(&(struct cvb_iperf3_test){.streams = 1, .duration_ms = 1000, .payload_bytes = 64},
		HEAD "-P 1 -t 1 -u -l 64 -b 0");
	argv_is(&(struct cvb_iperf3_test){.streams = 1,
					  .duration_ms = 1000,
					  .payload_bytes = 64,
					  .rate_bytes_per_s = 1000},
		HEAD "-P 1 -t 1 -u -l 64 -b 8000");
	/* all streams together, and never 0 by division */
	argv_is(&(struct cvb_iperf3_test){.streams = 4,
					  .duration_ms = 1000,
					  .payload_bytes = 64,
					  .rate_bytes_per_s = 1000},
		HEAD "-P 4 -t 1 -u -l 64 -b 2000");
	argv_is(&(struct cvb_iperf3_test){.streams = 128,
					  .duration_ms = 1000,
					  .payload_bytes = 64,
					  .rate_bytes_per_s = 1},
		HEAD "-P 128 -t 1 -u -l 64 -b 1");
}

/* --- the server ------------------------------------------------------------------------------- */

static void test_peer(void **state)
{
	struct cvb_peer peer;
	struct cvb_err err = {0};

	(void)state;
	real();
	assert_int_equal(cvb_peer_start(&peer, &err), 0);
	assert_true(peer.port && peer.echo.port);
	cvb_peer_stop(&peer);
	assert_int_equal(peer.port, 0);
	assert_int_equal(peer.echo.port, 0);
}

static void test_peer_without_iperf3(void **state)
{
	struct cvb_peer peer;
	struct cvb_err err = {0};

	(void)state;
	nothing();
	assert_int_equal(cvb_peer_start(&peer, &err), -EOPNOTSUPP);
	assert_says(&err, "Debian package iperf3");
	assert_int_equal(peer.port, 0);
	assert_true(peer.echo.port);
	assert_int_equal(kill(peer.echo.server.pid, 0), 0);
	cvb_peer_stop(&peer);
}

/* A server that ends at once is tried on other ports, then told; nothing stays. */
static void test_peer_that_ends(void **state)
{
	_cleanup_free_ char *path = cvb_strf("%s/ports", dir);
	_cleanup_free_ char *ports = NULL;
	struct cvb_peer peer;
	struct cvb_err err = {0};
	unsigned lines = 0;

	(void)state;
	fake("echo $5 >>$D/ports; exit 3");
	assert_int_equal(cvb_peer_start(&peer, &err), -EADDRINUSE);
	assert_says(&err, "ended at once: exit status 3");
	assert_int_equal(peer.echo.server.pid, 0);
	assert_int_equal(cvb_file_read(path, 4096, &ports, NULL, &err), 0);
	for (const char *p = ports; *p; p++)
		lines += *p == '\n';
	assert_int_equal(lines, 5);
}

/* Someone else's socket on the wanted port is not our server. */
static void test_port_taken_by_another(void **state)
{
	struct cvb_peer peer;
	struct cvb_err err = {0};

	(void)state;
	/* a child listens, the server itself does not: it runs, but is not who answers */
	fake("[ \"$1\" = -s ] || exit 1\n"
	     "setsid perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(Listen => 1, "
	     "LocalAddr => \"127.0.0.1\", LocalPort => shift); sleep 1' \"$5\" &\n"
	     "sleep 1; exit 1");
	assert_int_equal(cvb_peer_start(&peer, &err), -EADDRINUSE);
	assert_int_equal(peer.port, 0);
}

static void test_peer_text_forms(void **state)
{
	_cleanup_free_ char *both = cvb_peer_text("10.0.2.2", 5201, 7007);
	_cleanup_free_ char *echo = cvb_peer_text("h", 0, 7007);
	struct cvb_netpeer p = {0};

	(void)state;
	assert_string_equal(both, "10.0.2.2:5201,echo=7007");
	assert_null(cvb_peer_text("h", 0, 0));
	assert_int_equal(cvb_netpeer_parse(&p, echo, NULL), 0);
	assert_int_equal(p.port, 0);
	assert_int_equal(p.echo_port, 7007);
	cvb_netpeer_done(&p);
}

/* --- benchmarks: what they say where they cannot run ------------------------------------------ */

static void refuses(const char *bench, const char *peer, const char *option, const char *value,
		    int code, const char *says)
{
	const struct cvb_bench *b = cvb_bench_find(bench, NULL);
	_cleanup_json_ json_t *options = json_object();
	const struct cvb_runner_opts opts = {.options = options, .peer = peer};
	struct cvb_runner *r;
	struct cvb_err err = {0};

	assert_non_null(b);
	if (option)
		json_object_set_new(options, option, json_string(value));
	assert_int_equal(cvb_runner_open(&r, b, &opts, &err), code);
	assert_says(&err, says);
}

static void test_unsupported(void **state)
{
	static const char *const benches[] = {"net.tcp", "net.udp"};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(benches); i++) {
		refuses(benches[i], "h:1", "streams", "0", -EINVAL, "from 1 to 128");
		refuses(benches[i], "h:1", "streams", "129", -EINVAL, "from 1 to 128");
		nothing();
		refuses(benches[i], "h:1", NULL, NULL, -EOPNOTSUPP, "Debian package iperf3");
		real();
		refuses(benches[i], NULL, NULL, NULL, -EOPNOTSUPP, "nobody runs an iperf3 server");
		refuses(benches[i], "127.0.0.1:0,echo=7", NULL, NULL, -EOPNOTSUPP,
			"the host has no program \"iperf3\"");
		refuses(benches[i], "127.0.0.1", NULL, NULL, -EINVAL, "HOST:PORT");
		refuses(benches[i], "h:1", "dir", "receive,sned", -EINVAL, "did you mean send?");
	}
	refuses("net.udp", "h:1", "dir", "bidir", -EINVAL, "there is no \"bidir\"");
	refuses("net.udp", "h:1", "payload_bytes", "15", -EINVAL, "from 16 to 65507");
}

/* --- what lies between ------------------------------------------------------------------------ */

static void test_nic(void **state)
{
	struct cvb_nic nic;
	struct cvb_err err = {0};
	char text[256];

	(void)state;
	assert_int_equal(cvb_nic_towards("127.0.0.1", &nic, &err), 0);
	assert_true(nic.loopback);
	assert_string_equal(nic.name, "lo");
	assert_true(nic.mtu >= 1500);
	assert_int_equal(cvb_nic_towards("no-such-host.invalid", &nic, &err), -EIO);
	nic = (struct cvb_nic){.name = "eth0",
			       .driver = "virtio_net",
			       .mtu = 1500,
			       .offload = {1, 0, 1, -1, 1, 0}};
	assert_string_equal(
		cvb_nic_text(&nic, text, sizeof(text)),
		"interface eth0: driver virtio_net, mtu 1500, speed unknown, "
		"tx checksum on, rx checksum off, tso on, gso unknown, gro on, lro off");
	nic.speed_mbps = 10000;
	assert_non_null(strstr(cvb_nic_text(&nic, text, sizeof(text)), "speed 10000 Mbit/s"));
	assert_int_equal(strlen(cvb_nic_text(&nic, text, 20)), 19);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_busy_is_asked_again),
		cmocka_unit_test(test_client_failures),
		cmocka_unit_test(test_argv),
		cmocka_unit_test(test_peer),
		cmocka_unit_test(test_peer_without_iperf3),
		cmocka_unit_test(test_peer_that_ends),
		cmocka_unit_test(test_port_taken_by_another),
		cmocka_unit_test(test_peer_text_forms),
		cmocka_unit_test(test_unsupported),
		cmocka_unit_test(test_nic),
	};

	return cmocka_run_group_tests_name("net: iperf3's client and server", tests, make_dir,
					   remove_dir);
}
