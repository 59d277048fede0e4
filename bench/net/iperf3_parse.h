/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the JSON that `iperf3 -c … -J` prints.
 *
 * iperf3 reports failures inside the document, as "error", and may exit with 0 all the same.  The
 * text partly comes from the other side: everything is checked for presence, type and range.
 */
#ifndef CVB_BENCH_NET_IPERF3_PARSE_H
#define CVB_BENCH_NET_IPERF3_PARSE_H

#include "core/err.h"

#include <stdint.h>

/* What was asked of iperf3, and so is to be in the document. */
struct cvb_iperf3_shape {
	bool bidir;		/* TCP in both directions at the same time; the figures are sums */
	uint64_t payload_bytes; /* of a datagram; 0: TCP */
};

struct cvb_iperf3_result {
	double bandwidth_bytes_per_s; /* as the receiver counted it */
	double duration_s;	      /* of the receiver */
	uint64_t bytes;		      /* received */
	int64_t retransmits;	      /* TCP; -1: the sender does not count them */
	double cpu_local_ratio;	      /* CPU time of the client / elapsed time, 1 = one whole CPU */
	double cpu_remote_ratio;      /* of the server */

	/* UDP */
	double offered_bytes_per_s; /* as the sender counted it */
	uint64_t packets_sent;
	double packets_received; /* received bytes / payload */
	double jitter_ns;	 /* RFC 1889; mean over streams */
};

/*
 * -EBUSY:   the server is serving another test; worth another try.
 * -ECONNREFUSED: it does not listen, as for a moment after each test.
 * -EIO:     iperf3 reports another error; the message carries its text.
 * -EBADMSG: no document, a truncated one, a missing or mistyped field (named), or figures that
 *           contradict each other.
 */
CVB_MUST_CHECK int cvb_iperf3_parse(const char *text, const struct cvb_iperf3_shape *shape,
				    struct cvb_iperf3_result *ret, struct cvb_err *err);

#endif
