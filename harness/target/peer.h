/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network peer: one iperf3 server on this host's loopback that every arm talks to.
 */
#ifndef CVB_TARGET_PEER_H
#define CVB_TARGET_PEER_H

#include "core/proc.h"

struct cvb_peer {
	struct cvb_proc server;
	unsigned port; /* 0: not running */
};

/* Start and wait until it listens.  -EOPNOTSUPP without iperf3.  Ended by cvb_peer_stop. */
CVB_MUST_CHECK int cvb_peer_start(struct cvb_peer *peer, struct cvb_err *err);
void cvb_peer_stop(struct cvb_peer *peer);

#endif
