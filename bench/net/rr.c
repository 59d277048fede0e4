/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.rr: request and response, one at a time: the latency of a round trip and its tail.
 *
 * A percentile needs the time of every transaction, so that, unlike other benchmarks, step reads
 * the clock: once a transaction, where one ends and the next begins.
 */
#include "core/clock.h"
#include "core/util.h"
#include "measure/bench.h"
#include "measure/histogram.h"
#include "net/rr_conn.h"
#include "net/wordlist.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>

#define MAX_LOST_IN_A_ROW 10
#define N_PROTOS	  2

enum metric {
	M_TRANSACTIONS,
	M_MIN,
	M_MEAN,
	M_P50,
	M_P90,
	M_P99,
	M_P999,
	M_LOST,
};

#define TCP_METRICS ((1U << M_LOST) - 1)
#define UDP_METRICS (TCP_METRICS | 1U << M_LOST)

static const struct cvb_metric metrics[] = {
	[M_TRANSACTIONS] = {.name = "transactions",
			    .kind = CVB_OPS_PER_S,
			    .better = CVB_HIGHER_IS_BETTER,
			    .help = "answered requests a second, one under way at a time"},
	[M_MIN] = {.name = "latency_min",
		   .kind = CVB_REPORTED,
		   .better = CVB_LOWER_IS_BETTER,
		   .unit = "ns",
		   .help = "shortest round trip of a sample"},
	[M_MEAN] = {.name = "latency_mean",
		    .kind = CVB_REPORTED,
		    .better = CVB_LOWER_IS_BETTER,
		    .unit = "ns",
		    .help = "mean round trip"},
	[M_P50] = {.name = "latency_p50",
		   .kind = CVB_REPORTED,
		   .better = CVB_LOWER_IS_BETTER,
		   .unit = "ns",
		   .help = "median round trip"},
	[M_P90] = {.name = "latency_p90",
		   .kind = CVB_REPORTED,
		   .better = CVB_LOWER_IS_BETTER,
		   .unit = "ns",
		   .help = "90th percentile of the round trips of a sample"},
	[M_P99] = {.name = "latency_p99",
		   .kind = CVB_REPORTED,
		   .better = CVB_LOWER_IS_BETTER,
		   .unit = "ns",
		   .help = "99th percentile of the round trips of a sample"},
	[M_P999] = {.name = "latency_p999",
		    .kind = CVB_REPORTED,
		    .better = CVB_LOWER_IS_BETTER,
		    .unit = "ns",
		    .help = "99.9th percentile of the round trips of a sample"},
	[M_LOST] = {.name = "lost",
		    .kind = CVB_REPORTED,
		    .better = CVB_LOWER_IS_BETTER,
		    .unit = "ratio",
		    .help = "UDP requests that were not answered in time / requests"},
	{.name = NULL},
};

static const char *const proto_names[] = {
	[CVB_RR_TCP] = "tcp",
	[CVB_RR_UDP] = "udp",
	NULL,
};

static const char *const wait_names[] = {
	[CVB_RR_EPOLL] = "epoll",
	[CVB_RR_BLOCK] = "block",
	[CVB_RR_POLL] = "poll",
	NULL,
};

struct rr_conf {
	char *payloads;
	char *protos;
	char *waits;
	uint64_t transactions;
	uint64_t timeout_ms;
};

static const struct cvb_opt opts[] = {
	{.name = "payload_bytes",
	 .type = CVB_OPT_STR,
	 .offset = offsetof(struct rr_conf, payloads),
	 .arg = "N[,N…]",
	 .def = "1,64,1400",
	 .unit = "bytes",
	 .help = "size of a request and of its reply, 1 to 8192; each is a series of its own"},
	{.name = "proto",
	 .type = CVB_OPT_STR,
	 .offset = offsetof(struct rr_conf, protos),
	 .arg = "PROTO[,PROTO…]",
	 .def = "tcp,udp",
	 .help = "tcp (with TCP_NODELAY), udp"},
	{.name = "wait",
	 .type = CVB_OPT_STR,
	 .offset = offsetof(struct rr_conf, waits),
	 .arg = "WAIT[,WAIT…]",
	 .def = "epoll",
	 .help = "how this side waits for a reply: epoll, block (sleep in recv), poll (spin)"},
	{.name = "transactions",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct rr_conf, transactions),
	 .min = 10,
	 .max = 10000000,
	 .def = "1000",
	 .help = "fewest transactions of a sample, and its step; a percentile p wants more than "
		 "1 / (1 - p)"},
	{.name = "timeout_ms",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct rr_conf, timeout_ms),
	 .min = 1,
	 .max = 60000,
	 .def = "200",
	 .unit = "ms",
	 .help = "a UDP reply that takes longer is counted as lost"},
	CVB_OPT_END,
};

struct rr_state {
	struct cvb_netpeer peer;
	struct cvb_list payloads, protos, waits;
	struct cvb_rr_conn *conns[N_PROTOS]; /* by protocol; NULL where not used */
	struct cvb_histogram *times;	     /* of the batch under way */
	uint64_t lost;			     /* in it */
	int failure; /* that ended it: step has no place for a reason, after_batch has */
};

/* What a case is, packed into its `user`. */
struct rr_case {
	uint32_t bytes;
	uint16_t proto; /* enum cvb_rr_proto */
	uint16_t wait;	/* enum cvb_rr_wait */
};

static uint64_t pack_case(struct rr_case k)
{
	return (uint64_t)k.bytes << 32 | (uint64_t)k.proto << 16 | k.wait;
}

static struct rr_case case_of(const struct cvb_case *c)
{
	return (struct rr_case){.bytes = (uint32_t)(c->user >> 32),
				.proto = (uint16_t)(c->user >> 16),
				.wait = (uint16_t)c->user};
}

static int parse_lists(struct rr_state *s, const struct rr_conf *conf, struct cvb_err *err)
{
	int r = cvb_list_numbers(&s->payloads, "payload_bytes", conf->payloads, 1, CVB_RR_MAX_BYTES,
				 err);

	if (r == 0)
		r = cvb_list_words(&s->protos, "proto", conf->protos, proto_names, err);
	if (r == 0)
		r = cvb_list_words(&s->waits, "wait", conf->waits, wait_names, err);
	return r;
}

static int add_case(struct cvb_run *run, struct rr_case k, struct cvb_err *err)
{
	const struct rr_conf *conf = run->conf;
	struct cvb_case c = {
		.metrics = k.proto == CVB_RR_UDP ? UDP_METRICS : TCP_METRICS,
		.params =
			json_pack("{s:s, s:I, s:s}", "proto", proto_names[k.proto], "payload_bytes",
				  (json_int_t)k.bytes, "wait", wait_names[k.wait]),
		.ops = (double)conf->transactions,
		.user = pack_case(k),
	};
	int r = cvb_run_add_case(run, &c, err);

	return r < 0 ? r : 0;
}

static int add_cases(struct cvb_run *run, struct cvb_err *err)
{
	const struct rr_state *s = run->state;
	int r = 0;

	for (size_t p = 0; p < s->protos.n; p++)
		for (size_t b = 0; b < s->payloads.n; b++)
			for (size_t w = 0; w < s->waits.n && r == 0; w++)
				r = add_case(run,
					     (struct rr_case){.bytes = (uint32_t)s->payloads.v[b],
							      .proto = (uint16_t)s->protos.v[p],
							      .wait = (uint16_t)s->waits.v[w]},
					     err);
	return r;
}

/* A side that spins leaves the other one, on the same machine, no CPU to answer with. */
static int check_cpus(const struct rr_state *s, struct cvb_err *err)
{
	cpu_set_t cpus;

	for (size_t w = 0; w < s->waits.n; w++) {
		if (s->waits.v[w] != CVB_RR_POLL || !cvb_netpeer_is_local(&s->peer))
			continue;
		if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) < 2)
			return cvb_err_set(err, -EOPNOTSUPP,
					   "wait=poll needs a second CPU: the peer runs on this "
					   "machine too");
	}
	return 0;
}

static int rr_setup(struct cvb_run *run, struct cvb_err *err)
{
	struct rr_state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	r = parse_lists(s, run->conf, err);
	if (r < 0)
		return r;
	if (!run->peer)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "no peer: nobody runs an echo server for this");
	r = cvb_netpeer_parse(&s->peer, run->peer, err);
	if (r < 0)
		return r;
	if (!s->peer.echo_port)
		return cvb_err_set(err, -EOPNOTSUPP, "the peer %s runs no echo server", run->peer);
	r = check_cpus(s, err);
	if (r == 0)
		r = cvb_histogram_new(&s->times, err);
	if (r < 0)
		return r;
	cvb_netpeer_note(run, &s->peer);
	return add_cases(run, err);
}

static int rr_worker_setup(struct cvb_worker *worker, struct cvb_err *err)
{
	const struct rr_conf *conf = worker->run->conf;
	struct rr_state *s = worker->run->state;
	int r = 0;

	for (size_t i = 0; i < s->protos.n && r == 0; i++) {
		struct cvb_rr_conn *c = calloc(1, sizeof(*c));

		if (!c)
			return cvb_err_set(err, -ENOMEM, "out of memory");
		c->fd = c->epoll_fd = -1;
		s->conns[s->protos.v[i]] = c;
		r = cvb_rr_open(c, &s->peer, (enum cvb_rr_proto)s->protos.v[i],
				(unsigned)conf->timeout_ms, err);
	}
	return r;
}

static int rr_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct rr_state *s = worker->run->state;

	(void)c;
	(void)iters;
	cvb_histogram_reset(s->times);
	s->lost = 0;
	s->failure = 0;
	return 0;
}

static int rr_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	const struct rr_conf *conf = worker->run->conf;
	struct rr_state *s = worker->run->state;
	struct rr_case k = case_of(c);
	struct cvb_rr_conn *conn = s->conns[k.proto];
	uint64_t left = iters * conf->transactions, start_ns = cvb_now_ns(), now_ns;
	unsigned lost_in_a_row = 0;

	while (left) {
		int r = cvb_rr_transact(conn, k.bytes, (enum cvb_rr_wait)k.wait);

		now_ns = cvb_now_ns();
		if (r == 0) {
			cvb_histogram_add(s->times, now_ns - start_ns);
			lost_in_a_row = 0;
			left--;
		} else if (r == -ETIMEDOUT && k.proto == CVB_RR_UDP &&
			   ++lost_in_a_row < MAX_LOST_IN_A_ROW) {
			s->lost++;
		} else {
			s->failure = r;
			break;
		}
		start_ns = now_ns;
	}
	return 0;
}

static int tell_failure(const struct rr_state *s, struct rr_case k, struct cvb_err *err)
{
	const char *proto = proto_names[k.proto];

	switch (s->failure) {
	case -ETIMEDOUT:
		if (k.proto == CVB_RR_UDP)
			return cvb_err_set(err, -EIO,
					   "udp, %u bytes: %d requests in a row were not answered "
					   "within %u ms",
					   k.bytes, MAX_LOST_IN_A_ROW,
					   s->conns[k.proto]->timeout_ms);
		return cvb_err_set(err, -EIO, "tcp, %u bytes: no whole answer within %u ms",
				   k.bytes, s->conns[k.proto]->timeout_ms);
	case -ECONNRESET:
		return cvb_err_set(err, -EIO, "%s, %u bytes: the echo server closed the connection",
				   proto, k.bytes);
	case -EINTR:
		return cvb_err_set(err, -EINTR, "a stop was requested");
	default:
		return cvb_err_set(err, -EIO, "%s, %u bytes: %s", proto, k.bytes,
				   strerror(-s->failure));
	}
}

static int rr_after_batch(struct cvb_run *run, size_t c, uint64_t iters, uint64_t ns,
			  struct cvb_err *err)
{
	const struct rr_state *s = run->state;
	struct rr_case k = case_of(&run->cases[c]);
	double requests;

	(void)iters;
	(void)ns;
	if (s->failure)
		return tell_failure(s, k, err);
	cvb_run_report(run, c, M_MIN, (double)cvb_histogram_min(s->times));
	cvb_run_report(run, c, M_MEAN, cvb_histogram_mean(s->times));
	cvb_run_report(run, c, M_P50, cvb_histogram_percentile(s->times, 0.5));
	cvb_run_report(run, c, M_P90, cvb_histogram_percentile(s->times, 0.9));
	cvb_run_report(run, c, M_P99, cvb_histogram_percentile(s->times, 0.99));
	cvb_run_report(run, c, M_P999, cvb_histogram_percentile(s->times, 0.999));
	requests = (double)(cvb_histogram_count(s->times) + s->lost);
	if (k.proto == CVB_RR_UDP)
		cvb_run_report(run, c, M_LOST, (double)s->lost / requests);
	return 0;
}

static int rr_verify(struct cvb_run *run, struct cvb_err *err)
{
	const struct rr_state *s = run->state;

	for (size_t p = 0; p < N_PROTOS; p++)
		if (s->conns[p] && s->conns[p]->corrupt)
			return cvb_err_set(err, -EBADMSG,
					   "%s: %" PRIu64 " replies differ from their requests",
					   proto_names[p], s->conns[p]->corrupt);
	return 0;
}

static void rr_worker_done(struct cvb_worker *worker)
{
	struct rr_state *s = worker->run->state;

	for (size_t p = 0; s && p < N_PROTOS; p++) {
		if (s->conns[p])
			cvb_rr_close(s->conns[p]);
		free(s->conns[p]);
		s->conns[p] = NULL;
	}
}

static void rr_done(struct cvb_run *run)
{
	struct rr_state *s = run->state;

	if (!s)
		return;
	cvb_histogram_free(s->times);
	cvb_netpeer_done(&s->peer);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench net_rr = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "net.rr",
	.summary = "network round trips, one at a time: latency percentiles over TCP and UDP",
	.doc = "net.rr.md",
	.flags = CVB_BENCH_NEEDS_PEER | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = opts,
	.conf_size = sizeof(struct rr_conf),
	.metrics = metrics,
	.params = (const char *const[]){"proto", "payload_bytes", "wait", NULL},
	.setup = rr_setup,
	.worker_setup = rr_worker_setup,
	.prepare = rr_prepare,
	.step = rr_step,
	.after_batch = rr_after_batch,
	.verify = rr_verify,
	.worker_done = rr_worker_done,
	.done = rr_done,
};
CVB_BENCH(net_rr);
