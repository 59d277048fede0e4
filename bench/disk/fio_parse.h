/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading fio's --output-format=json+.
 *
 * fio prints warnings and errors of its jobs on the same stream, before the document; it also exits
 * with 0 after many of them.  So the document alone decides, and the lines before it explain.
 * Everything is checked for presence and type: the text may come from a guest.
 */
#ifndef CVB_BENCH_DISK_FIO_PARSE_H
#define CVB_BENCH_DISK_FIO_PARSE_H

#include "core/err.h"

#include <stddef.h>
#include <stdint.h>

/* What to look for, in any order: one entry a direction of a job. */
struct cvb_fio_want {
	const char *job; /* fio's job name */
	bool write;	 /* take the "write" part of the job, else the "read" part */
	bool fsync;	 /* it also syncs: take those latencies */
	uint64_t block_bytes;
	uint64_t depth; /* transfers under way at a time */
};

struct cvb_fio_latency {
	double mean_ns;
	double p50_ns;
	double p99_ns;
	double p999_ns;
};

struct cvb_fio_result {
	double iops;
	double bandwidth_bytes_per_s;
	struct cvb_fio_latency clat;
	struct cvb_fio_latency fsync; /* zero unless wanted */
	double cpu_ratio;	      /* of the whole job: user and system time / run time */
	uint64_t total_ios;
	uint64_t io_bytes;
};

/*
 * Read `text` (all that fio printed on stdout) and fill ret[0..n) in the order of want[0..n).
 * `messages` is what fio printed on stderr, for error texts; may be NULL.
 *
 * -EBADMSG: no document, a truncated one, a missing or mistyped field (named), a job that is not
 *           there or there twice, or figures that contradict each other.
 * -EIO:     a job ended with an error; the message carries fio's own text.
 */
CVB_MUST_CHECK int cvb_fio_parse(const char *text, const char *messages,
				 const struct cvb_fio_want *want, size_t n,
				 struct cvb_fio_result *ret, struct cvb_err *err);

/*
 * The line in which fio says what went wrong ("… error=Invalid argument"), from up to two texts,
 * control characters replaced.  Returns buf; "" if there is none.
 */
const char *cvb_fio_complaint(const char *messages, const char *text, char *buf, size_t buf_bytes);

#endif
