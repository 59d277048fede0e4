/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the session*.c files: a session while it runs.
 *
 *   session.c        arms: start, end, journal
 *   session_bench.c  one benchmark on all its arms
 */
#ifndef CVB_CAMPAIGN_SESSION_PART_H
#define CVB_CAMPAIGN_SESSION_PART_H

#include "campaign/session.h"
#include "target/target.h"

/* An arm within the running session. */
struct cvb_arm_run {
	const struct cvb_arm *arm;
	struct cvb_target *target; /* NULL: not supported here */
	char label[96];		   /* "vm-s1a1" */
	char *scratch;
	struct cvb_remote remote; /* the benchmark under way */
	bool measuring;		  /* remote is set up and good */
	struct {
		json_t *steady; /* see cvb_remote_warm_up */
		uint64_t warmup_ns;
		json_t *clock; /* {window_ns, error_ratio, uncertainty_ratio} */
	} before;	       /* what was learned of it before its first sample */
	int64_t hiwater;       /* most swiotlb slots seen in use, -1 unknown */
};

struct cvb_live {
	const struct cvb_session *s;
	struct cvb_arm_run arms[CVB_PROFILE_MAX_ARMS];
	size_t n_arms;
	char *console_dir;
};

/* Append {type, session, attempt} plus the members of `more`, which is taken over; NULL means that
 * building it failed. */
CVB_MUST_CHECK int cvb_session_note(const struct cvb_session *s, const char *type, json_t *more,
				    struct cvb_err *err);

/* Does this error mean that something cannot run here? */
bool cvb_session_unsupported(int r);

/* Why an arm's samples must not be believed, from what was seen of its bounce buffer; NULL if fine.
 */
const char *cvb_session_bounce_fault(const struct cvb_arm_run *a);

/* Benchmark `b` of the profile on all its arms: set-up, rounds, verification. */
CVB_MUST_CHECK int cvb_session_bench(struct cvb_live *l, size_t b, struct cvb_err *err);

#endif
