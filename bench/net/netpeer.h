/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end of a network benchmark: a server that the campaign runs, or one of our own on the
 * loopback device.
 */
#ifndef CVB_BENCH_NET_NETPEER_H
#define CVB_BENCH_NET_NETPEER_H

#include "core/err.h"
#include "core/proc.h"

#include <stdbool.h>
#include <stdint.h>

struct cvb_netpeer {
	char *host;
	uint16_t port;
	struct cvb_proc server; /* our own; unused with a peer of the campaign */
};

/* "HOST:PORT", "[v6::address]:PORT".  -EINVAL says what would be right. */
CVB_MUST_CHECK int cvb_netpeer_parse(struct cvb_netpeer *p, const char *text, struct cvb_err *err);

/* Run `iperf3 -s` on a free port of 127.0.0.1 and wait until it listens. */
CVB_MUST_CHECK int cvb_netpeer_start(struct cvb_netpeer *p, const char *iperf3,
				     struct cvb_err *err);

/*
 * Does a socket listen on this TCP port, by the text of /proc/net/tcp?  Looking there does not
 * disturb the server, which takes any connection for a test.
 */
bool cvb_netpeer_listens(const char *proc_net_tcp, uint16_t port);

/* Ends the server.  Accepts a zeroed one. */
void cvb_netpeer_done(struct cvb_netpeer *p);

#endif
