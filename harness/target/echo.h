/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The echo server: sends back what it gets, over TCP and UDP, on one port of this host's loopback.
 *
 * A process of its own, forked and not a thread: a guest can talk to it, and the harness's memory
 * and files are none of a guest's business.  It dies with us.
 */
#ifndef CVB_TARGET_ECHO_H
#define CVB_TARGET_ECHO_H

#include "core/proc.h"

/* More TCP connections at the same time are closed at once.  Each arm of a campaign keeps one for
 * as long as its benchmark goes on, most of that time silently, so that there is no limit to the
 * silence: a guest that takes all the others makes the benchmark of other arms fail, no more. */
#define CVB_ECHO_MAX_CONNECTIONS 64
/* Longer datagrams are dropped. */
#define CVB_ECHO_MAX_DATAGRAM_BYTES 16384

struct cvb_echo {
	struct cvb_proc server;
	unsigned port; /* the same for TCP and UDP; 0: not running */
};

/* Listens when this returns.  Ended by cvb_echo_stop. */
CVB_MUST_CHECK int cvb_echo_start(struct cvb_echo *echo, struct cvb_err *err);
/* Accepts a zeroed one. */
void cvb_echo_stop(struct cvb_echo *echo);

#endif
