/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One session of a campaign: every arm started afresh, every benchmark's rounds, every arm ended.
 */
#ifndef CVB_CAMPAIGN_SESSION_H
#define CVB_CAMPAIGN_SESSION_H

#include "campaign/announced.h"
#include "campaign/journal.h"
#include "campaign/profile.h"
#include "target/peer.h"

struct cvb_session {
	const struct cvb_profile *profile;
	const char *bundle;
	struct cvb_journal *journal;
	struct cvb_announced *announced; /* by all sessions so far */
	uint64_t seed;
	uint64_t number;     /* from 1 */
	uint64_t attempt;    /* from 1 */
	uint64_t bench_done; /* bit b: benchmark b was completed by an earlier attempt */
	unsigned peer_port;  /* 0: none */
	unsigned echo_port;  /* 0: none */
};

/* Run it.  Targets are ended whatever happens.  What one benchmark cannot do on one arm is
 * journalled and the session goes on; a lost target, a full disk or a requested stop ends it with
 * an error. */
CVB_MUST_CHECK int cvb_session_run(const struct cvb_session *s, struct cvb_err *err);

/* Progress kinds (campaign/progress.h): one for each benchmark × arm, then one for each arm's
 * start. */
size_t cvb_session_kinds(const struct cvb_profile *p);
/* Add the steps of one session with `bench_done` left out to count[kind]. */
void cvb_session_count(const struct cvb_profile *p, uint64_t bench_done, uint64_t *count);

/* Does arm `a` take part in round `round` (from 0) of benchmark `b`?  An A/A arm: every third. */
bool cvb_session_in_round(const struct cvb_profile *p, size_t b, size_t a, uint64_t round);

#endif
