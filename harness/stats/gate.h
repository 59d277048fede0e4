/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From bounds to a verdict: pure functions, no I/O.
 *
 *   non-inferiority  PASS: lower >= margin.  FAIL: upper < margin.
 *   equivalence      both one-sided tests (TOST) at alpha against [margin, 1 / margin] (a margin
 *                    above 1 means the same as its inverse): PASS inside, FAIL disjoint.
 *   absolute         non-inferiority of the arm's own value against a limit: ratio value / limit
 *                    (limit / value where lower is better), margin 1.
 *   else INCONCLUSIVE, with the number of sessions that would probably decide.
 *
 * Not being significant is never a PASS.
 *
 * Looks.  With one planned look each bound has alpha .05.  With several (6, 10, 16, 24 sessions)
 * each look uses the same smaller alpha' = .0175 for PASS and FAIL (a constant boundary: Pocock
 * 1977, Biometrika 64), so that the chance of a wrong decision at any of them stays below 5 %.
 * The first look that decides is the verdict, whatever comes later; sessions between two looks do
 * not count until the next one is reached.  Where no session is to come any more (`final`: one was
 * lost, or the campaign planned fewer), the look that cannot be reached is held at what there is.
 * TOST: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15.
 */
#ifndef CVB_STATS_GATE_H
#define CVB_STATS_GATE_H

#include "stats/ratio.h"

#define CVB_GATE_ALPHA	       0.05   /* each bound, one look */
#define CVB_GATE_LOOK_ALPHA    0.0175 /* each bound at each of 2 to 4 looks */
#define CVB_GATE_MANY_ALPHA    0.012  /* each bound at each of 5 to 8 looks */
#define CVB_GATE_MAX_LOOKS     8
#define CVB_GATE_MOST_SESSIONS 1000 /* "would decide" is not told beyond */

enum cvb_verdict {
	CVB_VERDICT_PASS,
	CVB_VERDICT_UNSUPPORTED,
	CVB_VERDICT_INCONCLUSIVE,
	CVB_VERDICT_INVALID,
	CVB_VERDICT_FAIL, /* in rising order of what wins an overall verdict */
};
extern const char *const cvb_verdict_names[]; /* by enum cvb_verdict, then NULL */

/* The exit code that a verdict asks for. */
enum cvb_exit cvb_verdict_code(enum cvb_verdict v);

enum cvb_gate_rule {
	CVB_RULE_NON_INFERIORITY,
	CVB_RULE_EQUIVALENCE,
	CVB_RULE_ABSOLUTE, /* ratio is value / limit, in terms of performance; margin is 1 */
};
extern const char *const cvb_gate_rule_names[]; /* "non-inferiority", …, NULL */

struct cvb_gate_plan {
	enum cvb_gate_rule rule;
	double margin;
	double resolution;		    /* see struct cvb_bounds_of */
	double alpha;			    /* 0: by the number of looks, as above */
	unsigned looks[CVB_GATE_MAX_LOOKS]; /* rising; none: one look, at what there is */
	unsigned n_looks;
	bool final; /* no more sessions will come */
};

struct cvb_gate_answer {
	enum cvb_verdict verdict; /* PASS, FAIL or INCONCLUSIVE */
	struct cvb_ratio ratio;	  /* at the look that decided, else of all sessions */
	double alpha;		  /* of its bounds */
	unsigned look;		  /* which look decided, from 1; 0: none did */
	unsigned next_look;	  /* sessions at which the next look is due; 0: none left */
	unsigned sessions_needed; /* that would probably decide; 0: decided, or cannot be told */
	double p_fail;		  /* p value against "the gate holds": small speaks for FAIL */
	double p_pass;		  /* p value against "it does not": small speaks for PASS */
	double p_fail_family;	  /* see cvb_gate_judge */
	char reason[256];
};

/*
 * Judge.  -EINVAL for a margin, alpha or looks that make no sense; -ENOMEM.
 *
 * Equivalence is two tests: it fails by the better of them, and passes by the worse (Schuirmann).
 * p_fail_family is meant for a list of many that is adjusted afterwards: of the t part alone, which
 * has no least value, and times .05 / alpha, so that it is at most .05 wherever the gate fails at a
 * look of several.  NaN where nothing was left to chance.
 */
CVB_MUST_CHECK int cvb_gate_judge(const struct cvb_sessions *s, const struct cvb_gate_plan *plan,
				  struct cvb_gate_answer *ret, struct cvb_err *err);

/* What bounds say against a margin.  NaN bounds: INCONCLUSIVE. */
enum cvb_verdict cvb_gate_decide(enum cvb_gate_rule rule, double lower, double upper,
				 double margin);

/* The alpha of each bound at each look of a plan. */
double cvb_gate_alpha(const struct cvb_gate_plan *plan);

/* "6,10,16,24" into looks: rising, each from 2 to 1000.  -EINVAL says what is wrong. */
CVB_MUST_CHECK int cvb_gate_parse_looks(const char *text, unsigned looks[CVB_GATE_MAX_LOOKS],
					unsigned *ret_n, struct cvb_err *err);

/* --- many tests at once ----------------------------------------------------------------------- */

/*
 * Adjusted p values, into adjusted[n]; reject where adjusted <= alpha.  NaN p values are not part
 * of the family and stay NaN.  -ENOMEM.
 *
 * Holm 1979 (Scand. J. Statist. 6): the chance of any false rejection is at most alpha.
 * Benjamini & Hochberg 1995 (J. Royal Statist. Soc. B 57): the expected share of false ones is.
 */
CVB_MUST_CHECK int cvb_holm(const double *p, size_t n, double *adjusted);
CVB_MUST_CHECK int cvb_benjamini_hochberg(const double *p, size_t n, double *adjusted);

#endif
