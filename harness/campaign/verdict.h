/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verdicts: a profile's gates judged on what the journal says.
 *
 * The verdicts document ("cvmbench.verdict/1") is part of the contract with users:
 *
 *   schema, profile, overall, certifiable, why_not [texts],
 *   gates [{id, metric, params, arm, base, kind, margin, ratio, lower, upper, confidence, sessions,
 *           rounds, pairing, series, labels, verdict, reason, sessions_needed}]
 *   reported [the same without margin and verdict]    gates of kind "report": never decide anything
 *   aa [{arm, base, metric, params, series, ratio, lower, upper, confidence, sessions, rounds,
 *        excludes_one}]                               one per metric: the worst of its series
 *
 * Numbers that do not exist are null.  A gate whose metric and params match several series judges
 * all of them and shows the worst one; the reason names it.
 *
 *   PASS          the 95 % lower bound of arm / base is at least the margin
 *   FAIL          the 95 % upper bound is below the margin
 *   INCONCLUSIVE  neither; the reason says how many sessions would probably decide
 *   INVALID       the measurement must not be believed: an A/A arm that differs from itself, an
 *                 untrusted or failed benchmark, a voided arm, steal time, impossible values
 *   UNSUPPORTED   an arm or benchmark cannot run here; the reason is passed on
 *
 * Overall: FAIL if any gate fails, else INVALID, INCONCLUSIVE, UNSUPPORTED if any gate is that,
 * else PASS.  Without a gate: INCONCLUSIVE.
 */
#ifndef CVB_CAMPAIGN_VERDICT_H
#define CVB_CAMPAIGN_VERDICT_H

#include "campaign/model.h"
#include "campaign/profile.h"
#include "core/err.h"

#define CVB_GATE_ALPHA	      0.05  /* each bound of a gate, one-sided */
#define CVB_AA_ALPHA	      0.005 /* each bound of an A/A interval: 99 % two-sided */
#define CVB_STEAL_LIMIT_RATIO 0.01  /* mean steal above this makes a gate INVALID */
#define CVB_CERTIFY_SESSIONS  5	    /* fewer cannot certify */
#define CVB_AA_FEW_SESSIONS   5	    /* below this the A/A point estimate counts as well */

enum cvb_verdict {
	CVB_VERDICT_PASS,
	CVB_VERDICT_UNSUPPORTED,
	CVB_VERDICT_INCONCLUSIVE,
	CVB_VERDICT_INVALID,
	CVB_VERDICT_FAIL, /* in rising order of what wins the overall verdict */
};

extern const char *const cvb_verdict_names[]; /* by enum cvb_verdict */

/* Judge `n_gates` gates.  New reference in *ret. */
CVB_MUST_CHECK int cvb_verdict_judge(const struct cvb_model *m, const struct cvb_gate *gates,
				     size_t n_gates, json_t **ret, struct cvb_err *err);

/* The exit code that a verdicts document's overall verdict asks for; 5 if it has none. */
enum cvb_exit cvb_verdict_exit(const json_t *verdicts);

/* The table for a terminal, at most 100 columns; texts are made safe.  `colour`: ANSI colours. */
void cvb_verdict_print(FILE *out, const json_t *verdicts, bool colour);

#endif
