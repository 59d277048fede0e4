/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network peer on this host's loopback that every arm talks to: an iperf3 server, and an echo
 * server of our own.
 */
#ifndef CVB_TARGET_PEER_H
#define CVB_TARGET_PEER_H

#include "core/proc.h"
#include "target/echo.h"

struct cvb_peer {
	struct cvb_proc server;
	struct cvb_echo echo;
	unsigned port; /* of iperf3; 0: not running */
};

/* Start both and wait until they listen.  -EOPNOTSUPP without iperf3: the echo server runs all the
 * same.  After any other failure nothing runs.  Ended by cvb_peer_stop. */
CVB_MUST_CHECK int cvb_peer_start(struct cvb_peer *peer, struct cvb_err *err);
void cvb_peer_stop(struct cvb_peer *peer);

/* What a benchmark is told (struct cvb_run): "HOST:PORT,echo=PORT", a port of 0 for none.  Fresh
 * memory; NULL when there is neither server. */
char *cvb_peer_text(const char *host, unsigned iperf3_port, unsigned echo_port);

#endif
