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
	unsigned matched; /* series that metric and params match */
	unsigned sessions_needed;
	unsigned next_look; /* sessions at which the next look is due; 0: none */
	bool open;	    /* more sessions may still decide it */
	bool retry;	    /* what kept it from deciding may be gone at the next look */
	bool no_steady_state;
	double p_fail;	/* p value against "the gate holds", as if there were one look; NaN */
	size_t p_index; /* of it in struct cvb_judging, for judged gates with a ratio */
	unsigned last_session; /* the verdict rests on sessions up to this number */
	unsigned voided;       /* rounds left out of them, see struct cvb_matched */
	enum cvb_pairing pairing;
	bool aa_excludes_one;
	bool aa_missing; /* no A/A arm measured this series */
	char *reason;	 /* owned */
};

/* What is judged, and what all its gates share. */
struct cvb_judging {
	const struct cvb_model *m;
	double aa_alpha; /* each bound of an A/A interval, so that all of them hold together */
	double *p;	 /* p_fail of every series that a gate judged: the family of `failures` */
	size_t n_p;
};

/* Set verdict and reason.  0 or -ENOMEM. */
CVB_MUST_CHECK int cvb_verdict_decide(struct cvb_judgement *j, enum cvb_verdict verdict,
				      const char *fmt, ...) CVB_PRINTF(3, 4);
/* Add to the reason that is there.  0 or -ENOMEM. */
CVB_MUST_CHECK int cvb_verdict_also(struct cvb_judgement *j, const char *fmt, ...) CVB_PRINTF(2, 3);

/* ---- verdict_pair.c -------------------------------------------------------------------------- */

/* The rounds of a series that two arms have in common. */
struct cvb_matched {
	struct cvb_pair *v; /* by session, then round; owned */
	size_t n;
	unsigned voided; /* rounds left out because either arm's sample was disturbed */
	unsigned by[CVB_DISTURBANCES]; /* of them, by what */
	/* What was achieved: PAIR where in every session each round's two samples were begun within
	 * CVB_PAIR_GAP_NS and before the next round's; BLOCK where they only share the session;
	 * NONE without a common round. */
	enum cvb_pairing pairing;
};

enum cvb_match {
	CVB_MATCH_UNDISTURBED,
	CVB_MATCH_DISTURBED, /* also the rounds that steal or throttling voided */
};

/* May this round be used? */
bool cvb_verdict_usable(enum cvb_disturbance disturbed, enum cvb_match which);

/* Match the rounds of the sessions up to number `last_session`. */
CVB_MUST_CHECK int cvb_verdict_match(const struct cvb_model_series *s, int base, int test,
				     unsigned last_session, enum cvb_match which,
				     struct cvb_matched *ret, struct cvb_err *err);
void cvb_matched_done(struct cvb_matched *m);

/* Ratio by location of the rounds in common; false where there is none. */
bool cvb_verdict_ratio(const struct cvb_model_series *s, int base, int test, double alpha,
		       struct cvb_ratio *ret);

/* ---- verdict_series.c ------------------------------------------------------------------------ */

/* Judge one series by a gate into *j, which the caller frees (j->reason) even after an error. */
CVB_MUST_CHECK int cvb_verdict_series(const struct cvb_judging *c, const struct cvb_model_series *s,
				      const struct cvb_gate *g, struct cvb_judgement *j,
				      struct cvb_err *err);
/* Why an arm left out the series with these params, or NULL. */
const char *cvb_verdict_left_out(const struct cvb_model *m, const char *arm, int bench,
				 const char *params);
/* The margin that the gate's rule uses: an absolute gate's is 1. */
double cvb_verdict_margin(const struct cvb_gate *g);
enum cvb_gate_rule cvb_verdict_rule(const struct cvb_gate *g);

/* ---- verdict_aa.c ---------------------------------------------------------------------------- */

/* CVB_AA_ALPHA shared among the series whose A/A arm the gates are held against. */
CVB_MUST_CHECK int cvb_verdict_aa_alpha(const struct cvb_model *m, const struct cvb_gate *gates,
					size_t n, double *ret, struct cvb_err *err);

/* An arm that was measured twice under two names: what that came to. */
struct cvb_again {
	const char *base, *aa;	       /* the arm and its A/A arm; the model's, or the caller's */
	struct cvb_ratio wide, narrow; /* aa / base, bounds at `alpha` and at CVB_GATE_ALPHA */
	double alpha;		       /* each bound's, so that those of all series hold together */
};
struct cvb_again_of {
	const struct cvb_model_series *series;
	int base, aa;
	enum cvb_ratio_estimator estimator;
	unsigned last_session;
	double alpha;
};
/* Does arm `a` measure `base` again in this series? */
bool cvb_verdict_measures_again(const struct cvb_model *m, const struct cvb_model_series *s,
				size_t a, int base);
/* 1; 0 where the A/A arm tells nothing, *ret_distrust (caller frees) says why unless it was hardly
 * measured; -EINVAL: its values have no ratio, `err` says why; -ENOMEM. */
CVB_MUST_CHECK int cvb_verdict_again(const struct cvb_model *m, const struct cvb_again_of *of,
				     struct cvb_again *ret, char **ret_distrust,
				     struct cvb_err *err);
/* What an arm measured again says against a verdict with a ratio.  0 or -ENOMEM. */
CVB_MUST_CHECK int cvb_verdict_hold(struct cvb_judgement *j, enum cvb_gate_rule rule, double margin,
				    const struct cvb_again *again);

/* Hold a verdict against the A/A arm, in the sessions that it rests on. */
CVB_MUST_CHECK int cvb_verdict_check_aa(const struct cvb_judging *c, struct cvb_judgement *j,
					int base, const struct cvb_gate *g, struct cvb_err *err);
/* "aa" of the document: one object per metric and A/A arm. */
CVB_MUST_CHECK int cvb_verdict_aa(const struct cvb_model *m, double alpha, json_t *list,
				  struct cvb_err *err);

/* ---- verdict_side.c -------------------------------------------------------------------------- */

/* Was this side of the gate measured at all?  1: yes; 0: no, and `j` says why; -ENOMEM. */
CVB_MUST_CHECK int cvb_verdict_side_measured(const struct cvb_model *m, const char *name, int bench,
					     struct cvb_judgement *j);
/* May what this side measured be believed?  1: yes; 0: no, and `j` says why; -ENOMEM. */
CVB_MUST_CHECK int cvb_verdict_side_trusted(const struct cvb_model *m, const char *name, int bench,
					    struct cvb_judgement *j);
/* Did both sides do the same work?  As above. */
CVB_MUST_CHECK int cvb_verdict_sides_alike(const struct cvb_model *m, const struct cvb_gate *g,
					   int bench, struct cvb_judgement *j);

/* ---- verdict_json.c, verdict_why.c ----------------------------------------------------------- */

/* Fill the document. */
CVB_MUST_CHECK int cvb_verdict_document(const struct cvb_judging *c, const struct cvb_gate *gates,
					struct cvb_judgement *j, size_t n, json_t *doc,
					struct cvb_err *err);

/* "failures" of the document: the gates that failed, with p values adjusted by Holm. */
CVB_MUST_CHECK int cvb_verdict_failures(const struct cvb_judging *c, const struct cvb_gate *gates,
					const struct cvb_judgement *j, size_t n, json_t *list,
					struct cvb_err *err);

/* "why_not" of the document: what keeps the campaign from certifying, a full sentence each. */
CVB_MUST_CHECK int cvb_verdict_why_not(const struct cvb_model *m, const struct cvb_gate *gates,
				       const struct cvb_judgement *j, size_t n, json_t *list,
				       struct cvb_err *err);

/* A number for JSON: null when not finite.  New reference. */
json_t *cvb_verdict_number(double v);

#endif
