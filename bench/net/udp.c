/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.udp: datagrams through iperf3, as many as the sender can: what arrives, what is lost, and how
 * evenly it comes.
 */
#include "core/util.h"
#include "net/iperf3.h"

#include <errno.h>
#include <math.h>

#define LEAST_PAYLOAD_BYTES 16 /* iperf3's own header of a datagram, with 64-bit numbers */
#define MOST_PAYLOAD_BYTES  65507

enum metric {
	M_BANDWIDTH,
	M_OFFERED,
	M_PACKETS,
	M_LOSS,
	M_JITTER,
	M_CPU_LOCAL,
	M_CPU_REMOTE,
};

static const struct cvb_metric metrics[] = {
	[M_BANDWIDTH] = {.name = "bandwidth",
			 .kind = CVB_REPORTED,
			 .better = CVB_HIGHER_IS_BETTER,
			 .unit = "bytes_per_s",
			 .help = "payload that arrived, as the receiver counts it"},
	[M_OFFERED] = {.name = "offered",
		       .kind = CVB_REPORTED,
		       .better = CVB_HIGHER_IS_BETTER,
		       .unit = "bytes_per_s",
		       .help = "payload that the sender handed to its system"},
	[M_PACKETS] = {.name = "packets",
		       .kind = CVB_REPORTED,
		       .better = CVB_HIGHER_IS_BETTER,
		       .unit = "ops_per_s",
		       .help = "datagrams that arrived a second"},
	[M_LOSS] = {.name = "loss",
		    .kind = CVB_REPORTED,
		    .better = CVB_LOWER_IS_BETTER,
		    .unit = "ratio",
		    .help = "datagrams that did not arrive / datagrams sent"},
	[M_JITTER] = {.name = "jitter",
		      .kind = CVB_REPORTED,
		      .better = CVB_LOWER_IS_BETTER,
		      .unit = "ns",
		      .help = "smoothed change of the transit time from one datagram to the next "
			      "(RFC 1889)"},
	CVB_IPERF3_CPU_METRICS(M_CPU_LOCAL, M_CPU_REMOTE),
	{.name = NULL},
};

static const char *const dir_names[] = {"send", "receive", NULL}; /* enum cvb_iperf3_dir */

struct udp_conf {
	struct cvb_iperf3_conf both;
	char *payloads;
	uint64_t rate_bytes_per_s;
	uint64_t duration_s;
};

_Static_assert(offsetof(struct udp_conf, both) == 0, "CVB_IPERF3_OPTS counts from the start");

static const struct cvb_opt opts[] = {
	{.name = "payload_bytes",
	 .type = CVB_OPT_STR,
	 .offset = offsetof(struct udp_conf, payloads),
	 .arg = "N[,N…]",
	 .def = "64,1460",
	 .unit = "bytes",
	 .help = "payload of a datagram, 16 to 65507; each number is a series of its own"},
	CVB_IPERF3_OPTS("sockets", "send, receive"),
	{.name = "rate_bytes_per_s",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct udp_conf, rate_bytes_per_s),
	 .min = 0,
	 .max = 1e12,
	 .def = "0",
	 .unit = "bytes_per_s",
	 .help = "payload that all streams together offer; 0: as much as the sender's CPU can, so "
		 "that loss is expected"},
	/* not in ms: "-n BYTES -R" never ends where some of the bytes are lost */
	{.name = "duration_s",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct udp_conf, duration_s),
	 .min = 1,
	 .max = 3600,
	 .def = "1",
	 .unit = "s",
	 .help = "length of each run; iperf3 counts in seconds"},
	CVB_OPT_END,
};

static int add_case(struct cvb_run *run, const struct cvb_iperf3_test *test, struct cvb_err *err)
{
	json_t *params =
		json_pack("{s:s, s:I, s:I}", "dir", dir_names[test->dir], "payload_bytes",
			  (json_int_t)test->payload_bytes, "streams", (json_int_t)test->streams);

	if (test->rate_bytes_per_s)
		json_object_set_new(params, "rate_bytes_per_s",
				    json_integer((json_int_t)test->rate_bytes_per_s));
	return cvb_iperf3_add(run, test, params, err);
}

/* One payload and number of streams, each direction. */
static int add_dirs(struct cvb_run *run, struct cvb_iperf3_test *test, const struct cvb_list *dirs,
		    struct cvb_err *err)
{
	int r = 0;

	for (size_t d = 0; r == 0 && d < dirs->n; d++) {
		test->dir = (enum cvb_iperf3_dir)dirs->v[d];
		r = add_case(run, test, err);
	}
	return r;
}

static int add_cases(struct cvb_run *run, struct cvb_err *err)
{
	const struct udp_conf *conf = run->conf;
	struct cvb_iperf3_test test = {.duration_ms = conf->duration_s * 1000,
				       .window_bytes = conf->both.window_bytes,
				       .rate_bytes_per_s = conf->rate_bytes_per_s};
	struct cvb_list payloads, streams, dirs;
	int r = cvb_list_numbers(&payloads, "payload_bytes", conf->payloads, LEAST_PAYLOAD_BYTES,
				 MOST_PAYLOAD_BYTES, err);

	if (r == 0)
		r = cvb_iperf3_lists(&conf->both, dir_names, &streams, &dirs, err);
	for (size_t p = 0; r == 0 && p < payloads.n; p++) {
		for (size_t s = 0; r == 0 && s < streams.n; s++) {
			test.payload_bytes = payloads.v[p];
			test.streams = streams.v[s];
			r = add_dirs(run, &test, &dirs, err);
		}
	}
	return r;
}

static int udp_setup(struct cvb_run *run, struct cvb_err *err)
{
	int r = cvb_iperf3_new(run, err);

	if (r == 0)
		r = add_cases(run, err);
	return r < 0 ? r : cvb_iperf3_open(run, err);
}

static void report(struct cvb_run *run, size_t c, const struct cvb_iperf3_result *res)
{
	/* not iperf3's own figure: it misses what was lost after the last one that came */
	double arrived = res->packets_received / (double)cvb_max(res->packets_sent, UINT64_C(1));

	cvb_run_report(run, c, M_BANDWIDTH, res->bandwidth_bytes_per_s);
	cvb_run_report(run, c, M_OFFERED, res->offered_bytes_per_s);
	cvb_run_report(run, c, M_PACKETS, res->packets_received / res->duration_s);
	cvb_run_report(run, c, M_LOSS, fmax(1 - arrived, 0));
	cvb_run_report(run, c, M_JITTER, res->jitter_ns);
	cvb_run_report(run, c, M_CPU_LOCAL, res->cpu_local_ratio);
	cvb_run_report(run, c, M_CPU_REMOTE, res->cpu_remote_ratio);
}

static int udp_measure(struct cvb_run *run, struct cvb_err *err)
{
	struct cvb_iperf3 *p = run->state;

	for (size_t c = 0; c < run->n_cases; c++) {
		struct cvb_iperf3_result res;
		int r = cvb_iperf3_run(p, &p->tests[c], &res, err);

		if (r < 0)
			return r;
		report(run, c, &res);
	}
	return 0;
}

static const struct cvb_bench net_udp = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "net.udp",
	.summary = "UDP through iperf3: bandwidth, packets per second, loss and jitter",
	.doc = "net.udp.md",
	.flags = CVB_BENCH_NEEDS_PEER,
	.mode = CVB_MODE_SELF_TIMED,
	.opts = opts,
	.conf_size = sizeof(struct udp_conf),
	.metrics = metrics,
	.params =
		(const char *const[]){"dir", "payload_bytes", "streams", "rate_bytes_per_s", NULL},
	.supported = cvb_iperf3_supported,
	.setup = udp_setup,
	.measure = udp_measure,
	.done = cvb_iperf3_done,
};
CVB_BENCH(net_udp);
