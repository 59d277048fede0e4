/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One side of a ping-pong: a request of a size, and the same bytes back.
 *
 * A request carries its number, so that a reply of an earlier one, given up as lost, is told from
 * the one that is waited for, and every reply is compared byte for byte.
 */
#ifndef CVB_BENCH_NET_RR_CONN_H
#define CVB_BENCH_NET_RR_CONN_H

#include "core/err.h"
#include "net/netpeer.h"

#include <stdbool.h>
#include <stdint.h>

#define CVB_RR_MAX_BYTES 8192

enum cvb_rr_proto {
	CVB_RR_TCP,
	CVB_RR_UDP,
};

enum cvb_rr_wait {
	CVB_RR_EPOLL, /* sleep in epoll_wait, then recv: what servers do */
	CVB_RR_BLOCK, /* sleep in recv */
	CVB_RR_POLL,  /* recv again and again: the CPU stays awake */
};

struct cvb_rr_conn {
	enum cvb_rr_proto proto;
	int fd;		     /* -1: not open */
	int epoll_fd;	     /* watches fd; -1: not open */
	unsigned timeout_ms; /* of one transaction */
	uint64_t number;     /* of the request under way */
	uint64_t late;	     /* replies to requests that had been given up */
	uint64_t corrupt;    /* replies that differ from their request */
	uint8_t request[CVB_RR_MAX_BYTES];
	uint8_t reply[CVB_RR_MAX_BYTES];
};

/* Connect (TCP_NODELAY).  A UDP reply that takes longer than `timeout_ms` is lost; so is a TCP
 * connection after the longer of that and ten seconds.  -EIO with the reason. */
CVB_MUST_CHECK int cvb_rr_open(struct cvb_rr_conn *c, const struct cvb_netpeer *peer,
			       enum cvb_rr_proto proto, unsigned timeout_ms, struct cvb_err *err);
/* Accepts one that was never opened, if its descriptors are -1. */
void cvb_rr_close(struct cvb_rr_conn *c);

/*
 * Send one request of `bytes` (1 … CVB_RR_MAX_BYTES) and wait for its reply.  0 also for a corrupt
 * reply, which is counted.  -ETIMEDOUT: none came, at most replies to other requests; a UDP
 * connection may be used again.  Anything else is its end: -ECONNRESET closed by the other side,
 * -ECONNREFUSED nobody there, -EINTR a stop was requested, or the system's errno.
 */
CVB_MUST_CHECK int cvb_rr_transact(struct cvb_rr_conn *c, size_t bytes, enum cvb_rr_wait wait);

#endif
