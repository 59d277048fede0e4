/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two measurements of the same work against each other: before and after a change.
 *
 * The sides were measured apart (pairing "none"): each session of a side gives one value, and
 * Welch's t compares the sides' session values (stats/ratio.h).  One session on a side gives a
 * ratio without interval: how runs differ from one another cannot be seen within one of them.
 *
 *   PASS          the 95 % lower bound of current / base is at least the margin
 *   FAIL          the 95 % upper bound is below it, and that survives the number of metrics: its p
 *                 value, adjusted by Benjamini and Hochberg over all compared metrics, is at most
 *                 .05.  So among the metrics that are called FAIL at most one in twenty is expected
 *                 to be a false alarm, however many are compared.
 *   INCONCLUSIVE  neither, or no interval; or the verdict would be another with the samples that
 *                 steal or throttling voided
 *   INVALID       bundles: an arm that measures this one again (or, with `per`, that one) differs
 *                 from it, or is too noisy, by the rules of a campaign's gates (verdict_aa.c); the
 *                 A/A intervals of all of a bundle's series hold together
 *
 * Kind equivalence: bounds inside or outside [margin, 1 / margin].
 *
 * Values of a virtual clock are exact: their interval is CVB_COMPARE_RESOLUTION on each side of the
 * ratio, from one session on, and they are no part of the family of tests.  Sides with the very
 * same samples are one measurement, not two: no interval, unless exact.
 *
 * The document ("cvmbench.compare/1"):
 *
 *   schema, base {path, kind, sessions}, current {the same}, kind, margin, per,
 *   overall  the worst verdict: FAIL, INVALID, INCONCLUSIVE, PASS; ERROR if there is any input
 *            error, else INVALID if any measurement has no ratio for being so; UNSUPPORTED if
 *            neither side supports anything
 *   metrics [{id, metric, arm, base, params, unit, better, base_value, current_value, kind, margin,
 *             ratio, lower, upper, confidence, alpha, method, sessions, sessions_base,
 *             sessions_current, rounds, pairing, p_fail, p_adjusted, verdict, reason, emulated,
 *             deterministic, labels}]
 *   errors [{metric, params, arm, bench, class, reason}]   what has no ratio; class is "input" or
 *            "invalid" (measured, but not to be believed)
 *   notes [texts], differences [{what, arm, base, current}] of the machines and programs
 *
 * Sessions is the smaller of the two numbers, rounds are the samples of both sides together.
 * Numbers that do not exist are null.  arm is null for result documents.
 */
#ifndef CVB_CAMPAIGN_COMPARE_H
#define CVB_CAMPAIGN_COMPARE_H

#include "campaign/side.h"
#include "stats/gate.h"

#define CVB_COMPARE_ERROR      "ERROR" /* overall, beside the names of verdicts */
#define CVB_COMPARE_RESOLUTION 1e-9
#define CVB_COMPARE_FDR	       0.05 /* expected share of false alarms among the FAILs */

struct cvb_compare_plan {
	enum cvb_gate_rule rule; /* non-inferiority or equivalence */
	double margin;
	bool common;	 /* what is on one side only is a note, not an error */
	bool mix;	 /* emulated against measured, and the like, with a label */
	const char *per; /* arm that the values are relative to, or NULL */
	char **metrics;	 /* names to compare, NULL-terminated; NULL: all */
};

/* Compare.  -EINVAL for a plan that makes no sense; -ENOMEM.  New reference in *ret. */
CVB_MUST_CHECK int cvb_compare(const struct cvb_side *base, const struct cvb_side *current,
			       const struct cvb_compare_plan *plan, json_t **ret,
			       struct cvb_err *err);

/* What the overall verdict says: 2 for ERROR, 5 for INVALID, …; 6 for a document without one. */
enum cvb_exit cvb_compare_exit(const json_t *doc);

/* The tables for a terminal; texts are made safe.  `colour`: ANSI colours. */
void cvb_compare_print(FILE *out, const json_t *doc, bool colour);

#endif
