/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.tcp: TCP throughput in both directions; iperf3 keeps the time.
 */
#include "core/proc.h"
#include "core/util.h"
#include "measure/bench.h"
#include "net/iperf3_parse.h"
#include "net/netpeer.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define MAX_OUTPUT_BYTES (4 * CVB_MIB)
#define TRIES		 10
#define RETRY_MS	 200
#define BLOCK_BYTES	 131072 /* what iperf3 sends at a time */

enum metric {
	M_BANDWIDTH,
	M_RETRANSMITS,
	M_CPU_LOCAL,
};

static const struct cvb_metric metrics[] = {
	[M_BANDWIDTH] = {.name = "bandwidth",
			 .kind = CVB_REPORTED,
			 .better = CVB_HIGHER_IS_BETTER,
			 .unit = "bytes_per_s",
			 .help = "payload that arrived, as the receiver counts it"},
	[M_RETRANSMITS] = {.name = "retransmits",
			   .kind = CVB_REPORTED,
			   .better = CVB_LOWER_IS_BETTER,
			   .unit = "count",
			   .help = "segments sent again during one run"},
	[M_CPU_LOCAL] = {.name = "cpu_local",
			 .kind = CVB_REPORTED,
			 .better = CVB_LOWER_IS_BETTER,
			 .unit = "ratio",
			 .help = "CPU time of this side's iperf3 / elapsed time, 1 = one CPU"},
	{.name = NULL},
};

/* Cases, in the order of their declaration. */
enum direction {
	DIR_SEND,
	DIR_RECEIVE,
	N_DIRS,
};

static const char *const dir_names[N_DIRS] = {"send", "receive"};

struct tcp_conf {
	uint64_t streams;
	uint64_t duration_ms;
	uint64_t window_bytes;
};

static const struct cvb_opt opts[] = {
	{.name = "streams",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct tcp_conf, streams),
	 .min = 1,
	 .max = 128,
	 .def = "1",
	 .help = "connections at the same time"},
	{.name = "duration_ms",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct tcp_conf, duration_ms),
	 .min = 100,
	 .max = 3600000,
	 .def = "1000",
	 .unit = "ms",
	 .help = "length of a run in each direction; iperf3 counts in seconds, so any other "
		 "length is had by sending what the first run's speed needs for it"},
	{.name = "window",
	 .type = CVB_OPT_SIZE,
	 .offset = offsetof(struct tcp_conf, window_bytes),
	 .min = 0,
	 .max = 512 << 20,
	 .def = "0",
	 .unit = "bytes",
	 .help = "size of the socket buffers; 0 leaves it to the kernel"},
	CVB_OPT_END,
};

struct tcp_state {
	char *iperf3; /* the program */
	struct cvb_netpeer peer;
	uint64_t send_bytes[N_DIRS]; /* of a run, 0 while the speed is not known */
};

static int tcp_supported(const struct cvb_run *run, struct cvb_err *err)
{
	_cleanup_free_ char *iperf3 = cvb_program_find("iperf3", "iperf3", err);

	(void)run;
	return iperf3 ? 0 : -EOPNOTSUPP;
}

static int add_cases(struct cvb_run *run, struct cvb_err *err)
{
	const struct tcp_conf *conf = run->conf;

	for (size_t d = 0; d < N_DIRS; d++) {
		struct cvb_case c = {
			/* the other side's retransmits are not ours to judge */
			.metrics = 1U << M_BANDWIDTH | 1U << M_CPU_LOCAL |
				   (d == DIR_SEND ? 1U << M_RETRANSMITS : 0),
			.params = json_pack("{s:s, s:I}", "dir", dir_names[d], "streams",
					    (json_int_t)conf->streams),
		};
		int r = cvb_run_add_case(run, &c, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int tcp_setup(struct cvb_run *run, struct cvb_err *err)
{
	struct tcp_state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	s->iperf3 = cvb_program_find("iperf3", "iperf3", err);
	if (!s->iperf3)
		return -EOPNOTSUPP;
	if (!run->peer)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "no peer: nobody runs an iperf3 server for this");
	r = cvb_netpeer_parse(&s->peer, run->peer, err);
	if (r == 0 && !strncmp(s->peer.host, "127.", 4))
		cvb_run_note(run,
			     "both ends run on this machine, over the loopback device, and share "
			     "its CPUs");
	return r < 0 ? r : add_cases(run, err);
}

static int build_argv(const struct cvb_run *run, enum direction dir, struct cvb_argv *a,
		      struct cvb_err *err)
{
	const struct tcp_conf *conf = run->conf;
	const struct tcp_state *s = run->state;

	cvb_argv_add(a, s->iperf3);
	cvb_argv_add(a, "-c");
	cvb_argv_add(a, s->peer.host);
	cvb_argv_add(a, "-p");
	cvb_argv_addf(a, "%u", s->peer.port);
	cvb_argv_add(a, "-J");
	cvb_argv_add(a, "-i");
	cvb_argv_add(a, "0");
	cvb_argv_add(a, "--connect-timeout");
	cvb_argv_add(a, "10000");
	cvb_argv_add(a, "-P");
	cvb_argv_addf(a, "%" PRIu64, conf->streams);
	/* iperf3 reads "-t 0.5" as 0, and 0 as for ever */
	if (s->send_bytes[dir]) {
		cvb_argv_add(a, "-n");
		cvb_argv_addf(a, "%" PRIu64, s->send_bytes[dir]);
	} else {
		cvb_argv_add(a, "-t");
		cvb_argv_addf(a, "%" PRIu64, (conf->duration_ms + 999) / 1000);
	}
	if (conf->window_bytes) {
		cvb_argv_add(a, "-w");
		cvb_argv_addf(a, "%" PRIu64, conf->window_bytes);
	}
	if (dir == DIR_RECEIVE)
		cvb_argv_add(a, "-R");
	return cvb_argv_check(a, err);
}

static int run_once(const struct cvb_run *run, enum direction dir, struct cvb_iperf3_result *res,
		    struct cvb_err *err)
{
	const struct tcp_conf *conf = run->conf;
	_cleanup_free_ char *text = NULL, *messages = NULL;
	uint64_t planned_ms = (conf->duration_ms + 999) / 1000 * 1000;
	struct cvb_argv a = {0};
	char status_text[64];
	int r, status = 0;

	r = build_argv(run, dir, &a, err);
	if (r == 0)
		r = cvb_proc_run((const char *const *)a.v, (unsigned)(10 * planned_ms + 30000),
				 MAX_OUTPUT_BYTES, &text, &messages, &status, err);
	cvb_argv_done(&a);
	if (r < 0)
		return r;
	r = cvb_iperf3_parse(text, res, err);
	if (r == -EBADMSG && status)
		return cvb_err_wrap(err, r, "iperf3 ended with %s%s%.*s",
				    cvb_proc_status_text(status, status_text, sizeof(status_text)),
				    *messages ? ": " : "", (int)strcspn(messages, "\r\n"),
				    messages);
	return r;
}

/* A server that has just ended a test may still call itself busy. */
static int run_direction(const struct cvb_run *run, enum direction dir,
			 struct cvb_iperf3_result *res, struct cvb_err *err)
{
	const struct tcp_state *s = run->state;
	int r = -EBUSY;

	for (unsigned i = 0; i < TRIES && r == -EBUSY; i++) {
		if (i)
			cvb_sleep_ms(RETRY_MS);
		r = run_once(run, dir, res, err);
	}
	return r < 0 ? cvb_err_wrap(err, r, "%s with %s port %u", dir_names[dir], s->peer.host,
				    s->peer.port)
		     : 0;
}

/* How much data a run of the wanted length moves, by the speed of one of whole seconds. */
static int find_speed(struct cvb_run *run, enum direction dir, struct cvb_err *err)
{
	const struct tcp_conf *conf = run->conf;
	struct tcp_state *s = run->state;
	struct cvb_iperf3_result res;
	int r = run_direction(run, dir, &res, err);

	if (r < 0)
		return r;
	s->send_bytes[dir] = (uint64_t)fmax(
		res.bandwidth_bytes_per_s * (double)conf->duration_ms / 1000, BLOCK_BYTES);
	return 0;
}

static int tcp_measure(struct cvb_run *run, struct cvb_err *err)
{
	const struct tcp_conf *conf = run->conf;
	struct tcp_state *s = run->state;

	for (unsigned d = 0; d < N_DIRS; d++) {
		struct cvb_iperf3_result res;
		int r = 0;

		if (conf->duration_ms % 1000 && !s->send_bytes[d])
			r = find_speed(run, (enum direction)d, err);
		if (r == 0)
			r = run_direction(run, (enum direction)d, &res, err);
		if (r < 0)
			return r;
		if (d == DIR_SEND && res.retransmits < 0)
			return cvb_err_set(err, -EBADMSG,
					   "iperf3: end.sum_sent.retransmits is missing");
		cvb_run_report(run, d, M_BANDWIDTH, res.bandwidth_bytes_per_s);
		cvb_run_report(run, d, M_CPU_LOCAL, res.cpu_local_ratio);
		if (d == DIR_SEND)
			cvb_run_report(run, d, M_RETRANSMITS, (double)res.retransmits);
	}
	return 0;
}

static void tcp_done(struct cvb_run *run)
{
	struct tcp_state *s = run->state;

	if (!s)
		return;
	cvb_netpeer_done(&s->peer);
	free(s->iperf3);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench net_tcp = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "net.tcp",
	.summary = "TCP throughput through iperf3, sending and receiving",
	.doc = "net.tcp.md",
	.flags = CVB_BENCH_NEEDS_PEER,
	.mode = CVB_MODE_SELF_TIMED,
	.opts = opts,
	.conf_size = sizeof(struct tcp_conf),
	.metrics = metrics,
	.supported = tcp_supported,
	.setup = tcp_setup,
	.measure = tcp_measure,
	.done = tcp_done,
};
CVB_BENCH(net_tcp);
