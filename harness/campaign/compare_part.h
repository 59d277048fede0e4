/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the compare_*.c files: what is compared with what, and what came of it.
 *
 *   compare.c        arms, errors and notes, the document
 *   compare_match.c  which benchmarks and metrics are the same work
 *   compare_judge.c  ratios, intervals, verdicts
 *   compare_print.c  the document as text
 */
#ifndef CVB_CAMPAIGN_COMPARE_PART_H
#define CVB_CAMPAIGN_COMPARE_PART_H

#include "campaign/compare.h"

/* A metric that both sides have. */
struct cvb_compared {
	const struct cvb_side_arm *arm; /* of base; current's has the same name */
	const struct cvb_side_bench *bench[2];
	const struct cvb_side_series *series[2];
	struct cvb_ratio ratio;
	double p_fail; /* p value against "within the margin" */
	double p_adjusted;
	enum cvb_verdict verdict;
	char reason[640];
};

extern const char *const cvb_side_names[]; /* "base", "current" */

/* A comparison under way. */
struct cvb_matcher {
	const struct cvb_side *side[2];
	const struct cvb_compare_plan *plan;
	struct cvb_compared *rows;
	size_t n;
	size_t room;
	json_t *errors;
	json_t *notes;
	json_t *differences;
	unsigned unsupported; /* things that are so on both sides */
	bool no_memory;
};

/* Where in the sides something is; what is not known is NULL. */
struct cvb_place {
	const struct cvb_side_arm *arm;
	const struct cvb_side_bench *bench;
	const struct cvb_side_series *series;
};

/* "vm:mem.stream/triad{…}" as far as it is known; fresh memory. */
char *cvb_place_text(const struct cvb_place *p);

/* Texts are made safe to print. */
void cvb_match_note(struct cvb_matcher *m, const char *fmt, ...) CVB_PRINTF(2, 3);
void cvb_match_error(struct cvb_matcher *m, const struct cvb_place *at, bool invalid,
		     const char *fmt, ...) CVB_PRINTF(4, 5);
/* What side `i` has and the other one has not; why may be NULL. */
void cvb_match_one_side(struct cvb_matcher *m, const struct cvb_place *at, int i, const char *why);

/* The benchmarks of an arm that both sides have: rows, errors and notes. */
void cvb_match_benches(struct cvb_matcher *m, const struct cvb_side_arm *base,
		       const struct cvb_side_arm *current);

/* Is there anything by this name, on either side? */
bool cvb_match_known(const struct cvb_matcher *m, const char *metric);

/* All metrics at once: the number of them counts.  -ENOMEM. */
CVB_MUST_CHECK int cvb_compare_judge(struct cvb_compared *rows, size_t n,
				     const struct cvb_compare_plan *plan, struct cvb_err *err);

json_t *cvb_compared_json(const struct cvb_compared *row, const struct cvb_compare_plan *plan);

/* Do all sessions of the benchmark carry the label? */
bool cvb_compare_labelled(const struct cvb_side_bench *b, enum cvb_side_label label);

#endif
