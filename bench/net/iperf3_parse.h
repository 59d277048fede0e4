/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the JSON that `iperf3 -c … -J` prints.
 *
 * iperf3 reports failures inside the document, as "error", and may exit with 0 all the same.  The
 * text partly comes from the other side: everything is checked for presence and type.
 */
#ifndef CVB_BENCH_NET_IPERF3_PARSE_H
#define CVB_BENCH_NET_IPERF3_PARSE_H

#include "core/err.h"

#include <stdint.h>

struct cvb_iperf3_result {
	double bandwidth_bytes_per_s; /* as the receiver counted it */
	double duration_s;
	uint64_t bytes;
	int64_t retransmits;	/* -1: the sender does not count them */
	double cpu_local_ratio; /* CPU time of the client / elapsed time, 1 = one whole CPU */
};

/*
 * -EBUSY:   the server is serving another test; worth another try.
 * -EIO:     iperf3 reports another error; the message carries its text.
 * -EBADMSG: no document, a truncated one, a missing or mistyped field (named), or figures that
 *           contradict each other.
 */
CVB_MUST_CHECK int cvb_iperf3_parse(const char *text, struct cvb_iperf3_result *ret,
				    struct cvb_err *err);

#endif
