/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verdicts: a profile's gates judged on what the journal says.
 *
 * The verdicts document ("cvmbench.verdict/1") is part of the contract with users:
 *
 *   schema, profile, overall, certifiable, why_not [texts],
 *   gates [{id, metric, params, arm, base, kind, margin, ratio, lower, upper, confidence, sessions,
 *           rounds, rounds_voided, pairing, no_steady_state, series, labels, verdict, reason,
 *           sessions_needed, next_look}]
 *   reported [the same without margin and verdict]
 *           gates of kind "report": never decide anything
 *   failures [{id, p_value, p_holm, significant}]
 *           every gate that failed: the one-sided p value (t) of its surest series against "the
 *           gate holds", and that value adjusted by Holm over every series that a gate judged; null
 *           where a virtual clock leaves nothing to chance
 *   aa [{arm, base, metric, params, series, series_excluding_one, ratio, lower, upper, confidence,
 *        sessions, rounds, excludes_one}]
 *           one per metric: the worst of its series, by location
 *
 * Numbers that do not exist are null.  A gate whose metric and params match several series judges
 * all of them and shows the worst one; the reason names it.
 *
 * A gate also has estimator and method (how its bounds came about) and, if absolute, limit.
 * Kinds, looks and their confidence: stats/gate.h.  `pairing` is what was achieved, not what was
 * planned.  `next_look` is the number of sessions at which an undecided gate is judged again.
 *
 * PASS, FAIL and INCONCLUSIVE are said by the bounds.  INCONCLUSIVE is also a gate
 *   - of which an arm reached no steady state in most sessions
 *   - whose verdict would be another with the rounds back in that steal or throttling voided
 *
 * INVALID means that the measurement must not be believed:
 *   - an A/A arm differs from itself: its interval, 99 % for all A/A series together, excludes 1
 *     by more than what is negligible; or its noise exceeds the gate's tolerance (verdict_aa.c)
 *   - a benchmark is untrusted or failed, an arm was voided, a value is impossible
 *   - threads or options are not the same in both arms or in all sessions; an arm ran under kvm
 *     in some sessions and under tcg in others
 *   - more than CVB_VOIDED_LIMIT of the rounds were voided by steal, throttling or their clocks, or
 *     there is more than CVB_STEAL_LIMIT_RATIO steal in the others
 *   - a clock runs more than CVB_CLOCK_LIMIT_RATIO wrong or is too slow to read
 * All of this is asked of the sessions up to the look that decided, but for steal, clocks, threads
 * and steady states, which are told for an arm as a whole.
 *
 * UNSUPPORTED: an arm or benchmark cannot run here; the reason is passed on.
 *
 * Overall: FAIL if any gate fails, else INVALID, INCONCLUSIVE, UNSUPPORTED if any gate is that,
 * else PASS.  Without a gate: INCONCLUSIVE.
 */
#ifndef CVB_CAMPAIGN_VERDICT_H
#define CVB_CAMPAIGN_VERDICT_H

#include "campaign/model.h"
#include "campaign/profile.h"
#include "core/err.h"
#include "stats/gate.h"

#define CVB_AA_ALPHA	      0.005 /* each bound of A/A intervals, all together: 99 % two-sided */
#define CVB_CERTIFY_SESSIONS  5	    /* fewer cannot certify */
#define CVB_AA_FEW_SESSIONS   5	    /* below this the A/A point estimate counts as well */
#define CVB_VOIDED_LIMIT      0.20  /* a larger share of voided rounds makes a gate INVALID */
#define CVB_TIMER_LIMIT_RATIO 0.001 /* and a clock whose reading is more of a sample */
#define CVB_PAIR_GAP_NS	      UINT64_C(60000000000) /* rounds further apart are not pairs */

/* Judge `n_gates` gates.  New reference in *ret. */
CVB_MUST_CHECK int cvb_verdict_judge(const struct cvb_model *m, const struct cvb_gate *gates,
				     size_t n_gates, json_t **ret, struct cvb_err *err);

/* The exit code that a verdicts document's overall verdict asks for; 5 if it has none. */
enum cvb_exit cvb_verdict_exit(const json_t *verdicts);

/* "95 % bounds" where all the gates' bounds have the same confidence, else "bounds". */
const char *cvb_verdict_bounds_title(const json_t *gates, char *buf, size_t buf_bytes);

/* The table for a terminal, at most 100 columns; texts are made safe.  `colour`: ANSI colours. */
void cvb_verdict_print(FILE *out, const json_t *verdicts, bool colour);

#endif
