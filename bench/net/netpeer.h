/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end of the network benchmarks: the servers that the harness runs, as a text that
 * target/peer.c makes.
 */
#ifndef CVB_BENCH_NET_NETPEER_H
#define CVB_BENCH_NET_NETPEER_H

#include "measure/bench.h"

struct cvb_netpeer {
	char *host;
	uint16_t port;	    /* of the iperf3 server; 0: there is none */
	uint16_t echo_port; /* of the echo server; 0: there is none */
};

/* "HOST:PORT[,echo=PORT]", "[v6::address]:PORT".  -EINVAL says what would be right. */
CVB_MUST_CHECK int cvb_netpeer_parse(struct cvb_netpeer *p, const char *text, struct cvb_err *err);

/* Accepts a zeroed one. */
void cvb_netpeer_done(struct cvb_netpeer *p);

/* Do both ends run on this machine, without a network between them? */
bool cvb_netpeer_is_local(const struct cvb_netpeer *p);

/* Note with the result what lies between: the interface of the route to the peer with its driver,
 * MTU, speed and offloads, and that the loopback is no network. */
void cvb_netpeer_note(struct cvb_run *run, const struct cvb_netpeer *p);

#endif
