/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.tcp: TCP throughput, one stream and several, each direction and both; iperf3 keeps the time.
 */
#include "core/util.h"
#include "net/iperf3.h"

#include <errno.h>

enum metric {
	M_BANDWIDTH,
	M_RETRANSMITS,
	M_CPU_LOCAL,
	M_CPU_REMOTE,
};

static const struct cvb_metric metrics[] = {
	[M_BANDWIDTH] = {.name = "bandwidth",
			 .kind = CVB_REPORTED,
			 .better = CVB_HIGHER_IS_BETTER,
			 .unit = "bytes_per_s",
			 .help = "payload that arrived, as the receiver counts it; the sum of both "
				 "directions for bidir"},
	[M_RETRANSMITS] = {.name = "retransmits",
			   .kind = CVB_REPORTED,
			   .better = CVB_LOWER_IS_BETTER,
			   .unit = "count",
			   .help = "segments that the sender sent again during one run"},
	CVB_IPERF3_CPU_METRICS(M_CPU_LOCAL, M_CPU_REMOTE),
	{.name = NULL},
};

struct tcp_conf {
	struct cvb_iperf3_conf both;
	uint64_t duration_ms;
};

_Static_assert(offsetof(struct tcp_conf, both) == 0, "CVB_IPERF3_OPTS counts from the start");

static const struct cvb_opt opts[] = {
	CVB_IPERF3_OPTS("connections", "send, receive, bidir (both at the same time)"),
	{.name = "duration_ms",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct tcp_conf, duration_ms),
	 .min = 100,
	 .max = 3600000,
	 .def = "1000",
	 .unit = "ms",
	 .help = "length of each run; iperf3 counts in seconds, so any other length is had by "
		 "sending what the first run's speed needs for it"},
	CVB_OPT_END,
};

static int add_cases(struct cvb_run *run, struct cvb_err *err)
{
	const struct tcp_conf *conf = run->conf;
	struct cvb_list streams, dirs;
	int r = cvb_iperf3_lists(&conf->both, cvb_iperf3_dir_names, &streams, &dirs, err);

	for (size_t i = 0; r == 0 && i < streams.n; i++) {
		for (size_t d = 0; r == 0 && d < dirs.n; d++) {
			const struct cvb_iperf3_test test = {
				.dir = (enum cvb_iperf3_dir)dirs.v[d],
				.streams = streams.v[i],
				.duration_ms = conf->duration_ms,
				.window_bytes = conf->both.window_bytes,
			};

			r = cvb_iperf3_add(run, &test,
					   json_pack("{s:s, s:I}", "dir",
						     cvb_iperf3_dir_names[test.dir], "streams",
						     (json_int_t)test.streams),
					   err);
		}
	}
	return r;
}

static int tcp_setup(struct cvb_run *run, struct cvb_err *err)
{
	int r = cvb_iperf3_new(run, err);

	if (r == 0)
		r = add_cases(run, err);
	return r < 0 ? r : cvb_iperf3_open(run, err);
}

static int tcp_measure(struct cvb_run *run, struct cvb_err *err)
{
	struct cvb_iperf3 *p = run->state;

	for (size_t c = 0; c < run->n_cases; c++) {
		struct cvb_iperf3_result res;
		int r = cvb_iperf3_run(p, &p->tests[c], &res, err);

		if (r < 0)
			return r;
		if (res.retransmits < 0)
			return cvb_err_set(err, -EBADMSG,
					   "iperf3: end.sum_sent.retransmits is missing: the "
					   "sending system does not count them");
		cvb_run_report(run, c, M_BANDWIDTH, res.bandwidth_bytes_per_s);
		cvb_run_report(run, c, M_RETRANSMITS, (double)res.retransmits);
		cvb_run_report(run, c, M_CPU_LOCAL, res.cpu_local_ratio);
		cvb_run_report(run, c, M_CPU_REMOTE, res.cpu_remote_ratio);
	}
	return 0;
}

static const struct cvb_bench net_tcp = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "net.tcp",
	.summary = "TCP throughput through iperf3: one stream and several, both directions",
	.doc = "net.tcp.md",
	.flags = CVB_BENCH_NEEDS_PEER,
	.mode = CVB_MODE_SELF_TIMED,
	.opts = opts,
	.conf_size = sizeof(struct tcp_conf),
	.metrics = metrics,
	.params = (const char *const[]){"dir", "streams", NULL},
	.supported = cvb_iperf3_supported,
	.setup = tcp_setup,
	.measure = tcp_measure,
	.done = cvb_iperf3_done,
};
CVB_BENCH(net_tcp);
