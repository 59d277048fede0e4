/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running iperf3's client against the harness's server: what net.tcp and net.udp share.
 */
#ifndef CVB_BENCH_NET_IPERF3_H
#define CVB_BENCH_NET_IPERF3_H

#include "measure/bench.h"
#include "net/iperf3_parse.h"
#include "net/netpeer.h"
#include "net/wordlist.h"

enum cvb_iperf3_dir {
	CVB_IPERF3_SEND,    /* from here to the peer */
	CVB_IPERF3_RECEIVE, /* iperf3 -R */
	CVB_IPERF3_BIDIR,   /* both at the same time */
};

extern const char *const cvb_iperf3_dir_names[]; /* NULL-terminated */

struct cvb_iperf3_test {
	enum cvb_iperf3_dir dir;
	uint64_t streams;
	uint64_t duration_ms;
	uint64_t window_bytes;	   /* socket buffers, 0: the kernel's choice */
	uint64_t payload_bytes;	   /* of a datagram; 0: TCP */
	uint64_t rate_bytes_per_s; /* UDP: what all streams offer, 0: as much as there is CPU for */
	/* iperf3 counts time in whole seconds, and UDP has no other.  Over TCP any other duration
	 * is had by sending what the first run's speed needs for it: kept here, 0 while not known
	 */
	uint64_t send_bytes;
};

#define CVB_IPERF3_MAX_STREAMS 128 /* iperf3's own limit */
#define CVB_IPERF3_MAX_TESTS   512

/* The state of net.tcp and of net.udp. */
struct cvb_iperf3 {
	char *program;
	struct cvb_netpeer peer;
	struct cvb_iperf3_test tests[CVB_IPERF3_MAX_TESTS]; /* one a case */
};

/* What both let choose; the first member of their configurations. */
struct cvb_iperf3_conf {
	char *streams;
	char *dirs;
	uint64_t window_bytes; /* of the socket buffers; 0: the kernel's choice */
};

/* The rows of it in their option tables: what a stream is, and which directions there are. */
#define CVB_IPERF3_OPTS(stream, dir_help)                                                          \
	{.name = "streams",                                                                        \
	 .type = CVB_OPT_STR,                                                                      \
	 .offset = offsetof(struct cvb_iperf3_conf, streams),                                      \
	 .arg = "N[,N…]",                                                                          \
	 .def = "1,4",                                                                             \
	 .help = stream " at the same time, 1 to 128; each number is a series of its own"},        \
		{.name = "dir",                                                                    \
		 .type = CVB_OPT_STR,                                                              \
		 .offset = offsetof(struct cvb_iperf3_conf, dirs),                                 \
		 .arg = "DIR[,DIR…]",                                                              \
		 .def = "send,receive",                                                            \
		 .help = dir_help},                                                                \
	{                                                                                          \
		.name = "window", .type = CVB_OPT_SIZE,                                            \
		.offset = offsetof(struct cvb_iperf3_conf, window_bytes), .min = 0,                \
		.max = 512 << 20, .def = "0", .unit = "bytes",                                     \
		.help = "size of the socket buffers; 0 leaves it to the kernel"                    \
	}

/* The rows of CPU use in their tables of metrics, by the metrics' indices. */
#define CVB_IPERF3_CPU_METRICS(local, remote)                                                      \
	[local] = {.name = "cpu_local",                                                            \
		   .kind = CVB_REPORTED,                                                           \
		   .better = CVB_LOWER_IS_BETTER,                                                  \
		   .unit = "ratio",                                                                \
		   .help = "CPU time of this side's iperf3 / elapsed time, 1 = one CPU"},          \
	[remote] = {.name = "cpu_remote",                                                          \
		    .kind = CVB_REPORTED,                                                          \
		    .better = CVB_LOWER_IS_BETTER,                                                 \
		    .unit = "ratio",                                                               \
		    .help = "CPU time of the peer's iperf3 / elapsed time, 1 = one CPU"}

/* Read the lists of `conf`; `dir_names` (NULL-terminated) are the directions that there are. */
CVB_MUST_CHECK int cvb_iperf3_lists(const struct cvb_iperf3_conf *conf,
				    const char *const *dir_names, struct cvb_list *ret_streams,
				    struct cvb_list *ret_dirs, struct cvb_err *err);

/* Hook: -EOPNOTSUPP that names the Debian package. */
CVB_MUST_CHECK int cvb_iperf3_supported(const struct cvb_run *run, struct cvb_err *err);

/* Set run->state up, without tests. */
CVB_MUST_CHECK int cvb_iperf3_new(struct cvb_run *run, struct cvb_err *err);
/* Declare the case of one more test, with all of the benchmark's metrics.  Takes over `params`. */
CVB_MUST_CHECK int cvb_iperf3_add(struct cvb_run *run, const struct cvb_iperf3_test *test,
				  json_t *params, struct cvb_err *err);
/* Find program and peer, note what lies between.  -EOPNOTSUPP: no program, or nobody serves. */
CVB_MUST_CHECK int cvb_iperf3_open(struct cvb_run *run, struct cvb_err *err);
/* Hook: accepts a half-built state. */
void cvb_iperf3_done(struct cvb_run *run);

/* One test, two for the first one of a duration that is no whole number of seconds.  A server that
 * serves someone else, or does not listen, is asked again for some seconds; then -EBUSY, -EIO. */
CVB_MUST_CHECK int cvb_iperf3_run(const struct cvb_iperf3 *p, struct cvb_iperf3_test *test,
				  struct cvb_iperf3_result *ret, struct cvb_err *err);

/* The argv of a test; for cvb_iperf3_run, and for tests of it. */
struct cvb_argv;
void cvb_iperf3_argv(const struct cvb_iperf3 *p, const struct cvb_iperf3_test *test,
		     struct cvb_argv *a);

#endif
