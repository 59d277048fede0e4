/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.rr and the echo server: against each other, and against servers that lose, delay, spoil and
 * hang up.
 */
#include "fixture.h"

#include "measure/runner.h"
#include "net/rr_conn.h"
#include "target/echo.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* --- a server with a known fault -------------------------------------------------------------- */

enum fault {
	LOSE_EVERY_4TH,
	LOSE_ALL,
	REPEAT_PREVIOUS, /* the reply before last once more, then the right one */
	SPOIL_30TH,
	CLOSE_AFTER_30,
	TRICKLE, /* a byte every 50 ms; of datagrams, the wrong ones */
};

struct faulty {
	enum fault fault;
	int udp, tcp, wake[2];
	unsigned port;
	atomic_uint requests;
	pthread_t thread;
};

/* What was asked for, byte by byte, for a second. */
static void trickle(int fd, const char *buf, const struct sockaddr_in *to)
{
	for (unsigned i = 0; i < 20; i++) {
		cvb_sleep_ms(50);
		cvb_ignore((int)sendto(fd, buf, to ? 64 : 1, MSG_NOSIGNAL,
				       (const struct sockaddr *)to, to ? sizeof(*to) : 0));
	}
}

static void on_datagram(struct faulty *f)
{
	static char previous[CVB_RR_MAX_BYTES];
	static ssize_t previous_bytes;
	char buf[CVB_RR_MAX_BYTES];
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	ssize_t n = recvfrom(f->udp, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
	unsigned request = ++f->requests;

	if (n < 0 || f->fault == LOSE_ALL || (f->fault == LOSE_EVERY_4TH && request % 4 == 0))
		return;
	if (f->fault == TRICKLE) {
		buf[0] ^= 1;
		trickle(f->udp, buf, &from);
		return;
	}
	if (f->fault == SPOIL_30TH && request == 30)
		buf[n - 1] ^= 1;
	if (f->fault == REPEAT_PREVIOUS && previous_bytes > 0)
		cvb_ignore((int)sendto(f->udp, previous, (size_t)previous_bytes, 0,
				       (struct sockaddr *)&from, len));
	memcpy(previous, buf, (size_t)n);
	previous_bytes = n;
	cvb_ignore((int)sendto(f->udp, buf, (size_t)n, 0, (struct sockaddr *)&from, len));
}

static bool on_stream(struct faulty *f, int fd)
{
	char buf[CVB_RR_MAX_BYTES];
	ssize_t n = recv(fd, buf, sizeof(buf), 0);

	if (n <= 0 || (++f->requests >= 30 && f->fault == CLOSE_AFTER_30))
		return false;
	if (f->fault == SPOIL_30TH && f->requests == 30)
		buf[n - 1] ^= 1;
	if (f->fault == TRICKLE) {
		trickle(fd, buf, NULL);
		return true;
	}
	return f->fault == LOSE_ALL || send(fd, buf, (size_t)n, MSG_NOSIGNAL) == n;
}

static void *faulty_main(void *arg)
{
	struct faulty *f = arg;
	struct pollfd p[4] = {{.fd = f->wake[0], .events = POLLIN},
			      {.fd = f->udp, .events = POLLIN},
			      {.fd = f->tcp, .events = POLLIN},
			      {.fd = -1, .events = POLLIN}};

	for (;;) {
		poll(p, 4, -1);
		if (p[0].revents)
			break;
		if (p[1].revents)
			on_datagram(f);
		if (p[2].revents && p[3].fd < 0)
			p[3].fd = accept(f->tcp, NULL, NULL);
		else if (p[3].fd >= 0 && p[3].revents && !on_stream(f, p[3].fd)) {
			close(p[3].fd);
			p[3].fd = -1;
		}
	}
	if (p[3].fd >= 0)
		close(p[3].fd);
	return NULL;
}

static void faulty_start(struct faulty *f, enum fault fault)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);

	*f = (struct faulty){.fault = fault};
	for (int i = 0; i < 20; i++) {
		f->tcp = socket(AF_INET, SOCK_STREAM, 0);
		f->udp = socket(AF_INET, SOCK_DGRAM, 0);
		a.sin_port = 0;
		assert_int_equal(bind(f->tcp, (struct sockaddr *)&a, len), 0);
		assert_int_equal(getsockname(f->tcp, (struct sockaddr *)&a, &len), 0);
		if (bind(f->udp, (struct sockaddr *)&a, len) == 0)
			break;
		close(f->tcp);
		close(f->udp);
	}
	assert_int_equal(listen(f->tcp, 4), 0);
	f->port = ntohs(a.sin_port);
	assert_int_equal(pipe(f->wake), 0);
	assert_int_equal(pthread_create(&f->thread, NULL, faulty_main, f), 0);
}

static void faulty_stop(struct faulty *f)
{
	assert_int_equal(write(f->wake[1], "", 1), 1);
	pthread_join(f->thread, NULL);
	close(f->tcp);
	close(f->udp);
	close(f->wake[0]);
	close(f->wake[1]);
}

/* --- one connection --------------------------------------------------------------------------- */

static struct cvb_netpeer local_peer(unsigned port)
{
	static char host[] = "127.0.0.1";

	return (struct cvb_netpeer){.host = host, .echo_port = (uint16_t)port};
}

static struct cvb_rr_conn conn;

static void open_to(unsigned port, enum cvb_rr_proto proto, unsigned timeout_ms)
{
	struct cvb_netpeer peer = local_peer(port);
	struct cvb_err err = {0};

	if (cvb_rr_open(&conn, &peer, proto, timeout_ms, &err) < 0)
		fail_msg("%s", err.frame[0].msg);
}

static void test_echo(void **state)
{
	static const size_t sizes[] = {1, 64, 1400, CVB_RR_MAX_BYTES};
	struct cvb_echo echo;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_echo_start(&echo, &err), 0);
	for (unsigned i = 0; i < 6; i++) {
		open_to(echo.port, i / 3 ? CVB_RR_UDP : CVB_RR_TCP, 2000);
		for (size_t s = 0; s < CVB_ARRAY_LEN(sizes); s++)
			for (unsigned n = 0; n < 50; n++)
				assert_int_equal(
					cvb_rr_transact(&conn, sizes[s], (enum cvb_rr_wait)(i % 3)),
					0);
		assert_int_equal(conn.corrupt, 0);
		assert_int_equal(conn.late, 0);
		/* the reply really came back: it holds the last request's number */
		assert_memory_equal(conn.reply, &conn.number, sizeof(conn.number));
		cvb_rr_close(&conn);
	}
	cvb_echo_stop(&echo);
	assert_int_equal(echo.port, 0);
}

static int connect_plain(unsigned port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((in_port_t)port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* One more than it takes is closed, and a free place is used again. */
static void test_echo_limits(void **state)
{
	int fds[CVB_ECHO_MAX_CONNECTIONS + 1];
	struct cvb_echo echo;
	struct cvb_err err = {0};
	char c = 'x';

	(void)state;
	assert_int_equal(cvb_echo_start(&echo, &err), 0);
	for (size_t i = 0; i < CVB_ARRAY_LEN(fds); i++) {
		fds[i] = connect_plain(echo.port);
		assert_true(fds[i] >= 0);
		assert_int_equal(send(fds[i], &c, 1, MSG_NOSIGNAL), 1);
		/* one after the other: the order of acceptance is then known */
		if (i < CVB_ECHO_MAX_CONNECTIONS)
			assert_int_equal(recv(fds[i], &c, 1, 0), 1);
		else
			assert_true(recv(fds[i], &c, 1, 0) <= 0);
	}
	close(fds[0]);
	close(fds[CVB_ECHO_MAX_CONNECTIONS]);
	for (int i = 0; i < 100; i++) { /* it may see the new one before the old one's end */
		fds[0] = connect_plain(echo.port);
		cvb_ignore((int)send(fds[0], &c, 1, MSG_NOSIGNAL));
		if (recv(fds[0], &c, 1, 0) == 1)
			break;
		close(fds[0]);
		fds[0] = -1;
	}
	assert_true(fds[0] >= 0);
	for (size_t i = 0; i < CVB_ECHO_MAX_CONNECTIONS; i++)
		close(fds[i]);
	cvb_echo_stop(&echo);
	assert_int_equal(connect_plain(echo.port), -1);
}

/* One that never takes its own bytes back is dropped, and keeps nobody waiting. */
static void test_echo_slow_reader(void **state)
{
	static const char block[65536];
	struct cvb_echo echo;
	struct cvb_err err = {0};
	bool dropped = false;
	int fd;

	(void)state;
	assert_int_equal(cvb_echo_start(&echo, &err), 0);
	fd = connect_plain(echo.port);
	assert_true(fd >= 0);
	open_to(echo.port, CVB_RR_TCP, 2000);
	for (unsigned i = 0; i < 10000 && !dropped; i++) {
		if (send(fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			dropped = errno == EPIPE || errno == ECONNRESET;
		assert_int_equal(cvb_rr_transact(&conn, 64, CVB_RR_BLOCK), 0);
	}
	assert_true(dropped);
	cvb_rr_close(&conn);
	close(fd);
	cvb_echo_stop(&echo);
}

static unsigned count_fds(pid_t pid)
{
	char path[64];
	unsigned n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *d = opendir(path);

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* The server has nothing of ours, and answers no datagram that would come back for ever. */
static void test_echo_is_alone(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	struct timeval limit = {.tv_usec = 100000};
	struct cvb_echo echo;
	struct cvb_err err = {0};
	int mine = open("/dev/null", O_RDONLY), fd;
	char c = 'x';

	(void)state;
	assert_true(mine >= 0);
	assert_int_equal(cvb_echo_start(&echo, &err), 0);
	/* it has answered, so it has also closed what it was born with */
	open_to(echo.port, CVB_RR_UDP, 2000);
	assert_int_equal(cvb_rr_transact(&conn, 1, CVB_RR_BLOCK), 0);
	cvb_rr_close(&conn);
	assert_int_equal(count_fds(echo.server.pid), 6);

	fd = socket(AF_INET, SOCK_DGRAM, 0);
	a.sin_port = htons((in_port_t)echo.port);
	assert_int_equal(inet_pton(AF_INET, "127.0.0.2", &a.sin_addr), 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(sendto(fd, &c, 1, 0, (struct sockaddr *)&a, sizeof(a)), 1);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	assert_int_equal(recv(fd, &c, 1, 0), -1);
	close(fd);
	close(mine);
	cvb_echo_stop(&echo);
}

static void test_echo_dies_with_parent(void **state)
{
	struct cvb_echo echo;
	unsigned port = 0;
	int report[2];

	(void)state;
	assert_int_equal(pipe(report), 0);
	pid_t pid = fork();

	if (pid == 0) {
		if (cvb_echo_start(&echo, NULL) < 0)
			_exit(1);
		/* one that has not begun sees by itself that we are gone */
		open_to(echo.port, CVB_RR_UDP, 2000);
		if (cvb_rr_transact(&conn, 1, CVB_RR_BLOCK) < 0 ||
		    write(report[1], &echo.port, sizeof(port)) != sizeof(port))
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(read(report[0], &port, sizeof(port)), sizeof(port));
	waitpid(pid, NULL, 0);
	close(report[0]);
	close(report[1]);
	for (int i = 0; i < 200; i++) {
		int fd = connect_plain(port);

		if (fd < 0)
			return;
		close(fd);
		cvb_sleep_ms(10);
	}
	fail_msg("the echo server outlived its parent");
}

static void test_late_replies(void **state)
{
	struct faulty f;

	(void)state;
	faulty_start(&f, REPEAT_PREVIOUS);
	open_to(f.port, CVB_RR_UDP, 2000);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(cvb_rr_transact(&conn, 64, CVB_RR_BLOCK), 0);
	assert_int_equal(conn.late, 19);
	assert_int_equal(conn.corrupt, 0);
	cvb_rr_close(&conn);
	faulty_stop(&f);
}

/* A server that never falls silent, and never answers, does not keep us for longer than the limit:
 * it has more to say when we have left. */
static void test_trickle(void **state)
{
	static const enum cvb_rr_wait waits[] = {CVB_RR_EPOLL, CVB_RR_POLL};
	struct faulty f;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		faulty_start(&f, TRICKLE);
		open_to(f.port, i / 2 ? CVB_RR_UDP : CVB_RR_TCP, 200);
		conn.timeout_ms = 200; /* TCP's own would be ten seconds */
		assert_int_equal(cvb_rr_transact(&conn, 64, waits[i % 2]), -ETIMEDOUT);
		assert_true(conn.late < 20);
		if (!(i / 2)) /* nor is all of it there */
			assert_true(recv(conn.fd, conn.reply, sizeof(conn.reply), 0) > 0);
		cvb_rr_close(&conn);
		faulty_stop(&f);
	}
}

static void test_nobody_there(void **state)
{
	struct cvb_netpeer peer;
	struct cvb_err err = {0};
	struct faulty f;

	(void)state;
	faulty_start(&f, LOSE_ALL);
	faulty_stop(&f);
	peer = local_peer(f.port);
	assert_int_equal(cvb_rr_open(&conn, &peer, CVB_RR_TCP, 100, &err), -EIO);
	assert_says(&err, "Connection refused");
	open_to(f.port, CVB_RR_UDP, 100);
	assert_int_equal(cvb_rr_transact(&conn, 64, CVB_RR_BLOCK), -ECONNREFUSED);
	cvb_rr_close(&conn);
}

/* --- the benchmark ---------------------------------------------------------------------------- */

static int open_bench(struct cvb_runner **r, const char *peer, const char *proto, const char *more,
		      const char *value, struct cvb_err *err)
{
	const struct cvb_bench *bench = cvb_bench_find("net.rr", err);
	_cleanup_json_ json_t *options =
		json_pack("{s:s, s:s, s:s, s:s}", "proto", proto, "payload_bytes", "64",
			  "transactions", "40", "timeout_ms", "200");
	const struct cvb_runner_opts opts = {.options = options, .peer = peer, .sample_ns = 1};

	assert_non_null(bench);
	if (more)
		json_object_set_new(options, more, json_string(value));
	return cvb_runner_open(r, bench, &opts, err);
}

/* A value of the only case, by its metric's name. */
static double value_of(const struct cvb_runner *r, const double *values, const char *name)
{
	size_t n;
	const struct cvb_series *s = cvb_runner_series(r, &n);

	for (size_t i = 0; i < n; i++)
		if (!strcmp(s[i].metric->name, name))
			return values[i];
	fail_msg("no metric %s", name);
	return 0;
}

/* One sample of 40 transactions with a server of this fault; returns sample's code. */
static int sample_with(enum fault fault, const char *proto, double *values, struct cvb_runner **ret,
		       struct faulty *f, struct cvb_err *err)
{
	_cleanup_free_ char *peer = NULL;
	uint64_t iters = 1, ns;
	struct cvb_sample sample = {.value = values, .ns = &ns};

	faulty_start(f, fault);
	peer = cvb_strf("127.0.0.1:0,echo=%u", f->port);
	if (open_bench(ret, peer, proto, NULL, NULL, err) < 0)
		fail_msg("%s", err->frame[0].msg);
	return cvb_runner_sample(*ret, &iters, &sample, err);
}

static void test_loss_is_counted(void **state)
{
	struct cvb_runner *r;
	struct cvb_err err = {0};
	struct faulty f;
	double v[16];

	(void)state;
	assert_int_equal(sample_with(LOSE_EVERY_4TH, "udp", v, &r, &f, &err), 0);
	/* 40 answered: each fourth request was not, the last answered one is number 53 */
	assert_int_equal(f.requests, 53);
	assert_float_equal(value_of(r, v, "lost"), 13.0 / 53, 1e-12);
	/* the lost ones are no round trips: none is as long as the wait for them */
	assert_true(value_of(r, v, "latency_p50") < 200e6);
	assert_true(value_of(r, v, "latency_min") <= value_of(r, v, "latency_p50"));
	assert_true(value_of(r, v, "latency_p50") <= value_of(r, v, "latency_p99"));
	assert_true(value_of(r, v, "latency_p99") <= value_of(r, v, "latency_p999"));
	/* but they took their time: 13 × 200 ms */
	assert_true(value_of(r, v, "transactions") < 40 / (13 * 0.2));
	assert_int_equal(cvb_runner_verify(r, &err), 0);
	cvb_runner_close(r);
	faulty_stop(&f);
}

static void fails(enum fault fault, const char *proto, const char *says)
{
	struct cvb_runner *r;
	struct cvb_err err = {0};
	struct faulty f;
	double v[16];

	assert_int_equal(sample_with(fault, proto, v, &r, &f, &err), -EIO);
	assert_says(&err, says);
	cvb_runner_close(r);
	faulty_stop(&f);
}

static void test_failures(void **state)
{
	(void)state;
	fails(CLOSE_AFTER_30, "tcp", "tcp, 64 bytes: the echo server closed the connection");
	fails(LOSE_ALL, "udp", "10 requests in a row were not answered within 200 ms");
}

static void test_wrong_bytes(void **state)
{
	static const char *const protos[] = {"tcp", "udp"};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(protos); i++) {
		struct cvb_runner *r;
		struct cvb_err err = {0};
		struct faulty f;
		double v[16];

		assert_int_equal(sample_with(SPOIL_30TH, protos[i], v, &r, &f, &err), 0);
		assert_int_equal(cvb_runner_verify(r, &err), -EBADMSG);
		assert_says(&err, "1 replies differ from their requests");
		cvb_runner_close(r);
		faulty_stop(&f);
	}
}

static void refuses(const char *peer, const char *option, const char *value, int code,
		    const char *says)
{
	struct cvb_runner *r;
	struct cvb_err err = {0};

	assert_int_equal(open_bench(&r, peer, "udp", option, value, &err), code);
	assert_says(&err, says);
}

static void test_bad_options(void **state)
{
	(void)state;
	refuses("h:1,echo=1", "payload_bytes", "1,x", -EINVAL, "\"x\" is not a number from 1 to");
	refuses("h:1,echo=1", "payload_bytes", "0", -EINVAL, "from 1 to 8192");
	refuses("h:1,echo=1", "payload_bytes", "8193", -EINVAL, "from 1 to 8192");
	refuses("h:1,echo=1", "payload_bytes", "64,64", -EINVAL, "is there twice");
	refuses("h:1,echo=1", "payload_bytes", ",", -EINVAL, "the list is empty");
	refuses("h:1,echo=1", "payload_bytes", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", -EINVAL,
		"more than 16");
	refuses("h:1,echo=1", "proto", "tpc", -EINVAL, "did you mean tcp?");
	refuses("h:1,echo=1", "wait", "spin", -EINVAL, "wait: there is no \"spin\"");
	refuses(NULL, NULL, NULL, -EOPNOTSUPP, "nobody runs an echo server");
	refuses("127.0.0.1:5201", NULL, NULL, -EOPNOTSUPP, "runs no echo server");
	refuses("nonsense", NULL, NULL, -EINVAL, "HOST:PORT");
	refuses("no-such-host.invalid:1,echo=1", NULL, NULL, -EIO, "no-such-host.invalid");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo),
		cmocka_unit_test(test_echo_limits),
		cmocka_unit_test(test_echo_slow_reader),
		cmocka_unit_test(test_echo_is_alone),
		cmocka_unit_test(test_echo_dies_with_parent),
		cmocka_unit_test(test_late_replies),
		cmocka_unit_test(test_trickle),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_loss_is_counted),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_wrong_bytes),
		cmocka_unit_test(test_bad_options),
	};

	return cmocka_run_group_tests_name("net: round trips and the echo server", tests, NULL,
					   NULL);
}
