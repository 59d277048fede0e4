/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the verdict*.c files.
 */
#ifndef CVB_CAMPAIGN_VERDICT_PART_H
#define CVB_CAMPAIGN_VERDICT_PART_H

#include "campaign/verdict.h"
#include "stats/ratio.h"

/* One gate's answer, or one series' share of it. */
struct cvb_judgement {
	enum cvb_verdict verdict;
	const struct cvb_model_series *series; /* the one shown; NULL: none */
	struct cvb_ratio ratio;		       /* valid if has_ratio */
	bool has_ratio;
	double alpha;	  /* of each bound */
	unsigned look;	  /* which planned look decided, from 1; 0: none */
	unsigned matched; /* series that metric and params match */
	unsigned sessions_needed;
	bool aa_excludes_one;
	bool aa_missing; /* no A/A arm measured this series */
	char *reason;	 /* owned */
};

/* Pairs of two arms of a series, matched by session and round.  Fresh memory in *ret. */
CVB_MUST_CHECK int cvb_verdict_pairs(const struct cvb_model_series *s, int base, int test,
				     struct cvb_pair **ret, size_t *ret_n, struct cvb_err *err);

/* "aa" of the document: one object per metric and A/A arm. */
CVB_MUST_CHECK int cvb_verdict_aa(const struct cvb_model *m, json_t *list, struct cvb_err *err);

/* "failures" of the document: the gates that failed, with p values adjusted by Holm. */
CVB_MUST_CHECK int cvb_verdict_failures(const struct cvb_gate *gates, const struct cvb_judgement *j,
					size_t n, json_t *list, struct cvb_err *err);

/* "why_not" of the document: what keeps the campaign from certifying, a full sentence each. */
CVB_MUST_CHECK int cvb_verdict_why_not(const struct cvb_model *m, const struct cvb_gate *gates,
				       const struct cvb_judgement *j, size_t n, json_t *list,
				       struct cvb_err *err);

/* A number for JSON: null when not finite.  New reference. */
json_t *cvb_verdict_number(double v);

#endif
