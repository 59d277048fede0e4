/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The address of a network benchmark's other end: the iperf3 server that the harness runs.
 */
#ifndef CVB_BENCH_NET_NETPEER_H
#define CVB_BENCH_NET_NETPEER_H

#include "core/err.h"

#include <stdint.h>

struct cvb_netpeer {
	char *host;
	uint16_t port;
};

/* "HOST:PORT", "[v6::address]:PORT".  -EINVAL says what would be right. */
CVB_MUST_CHECK int cvb_netpeer_parse(struct cvb_netpeer *p, const char *text, struct cvb_err *err);

/* Accepts a zeroed one. */
void cvb_netpeer_done(struct cvb_netpeer *p);

#endif
