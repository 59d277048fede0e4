/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ratio of two arms' performance, estimated so that a verdict can be built on it.
 *
 * The unit of inference is the session (a fresh boot of every arm), because runs differ from one
 * another by more than the samples within a run do.  With performance = value, or 1/value where
 * lower is better, every estimator first makes one number z_i of each session:
 *
 *   location    y_ij = ln(perf_test / perf_base) in round j, both arms measured in that round;
 *               z_i = Hodges-Lehmann of y_i1 … y_im: the median of all (y_a + y_b) / 2, a <= b
 *   throughput  z_i = ln(sum of base times / sum of test times), equal work in each round: rare
 *               stalls that a median hides cost what they cost
 *   tail        z_i = ln(p99 base time / p99 test time), each the order statistic ceil(.99 m): with
 *               fewer than 100 rounds that is the slowest one
 *   mean        perf averaged in each session; the ratio of the averages by Fieller
 *
 * and then the bounds across sessions, on the log scale, exponentiated last:
 *
 *   t            mean(z) -+ t(1 - alpha, S - 1) sd(z) / sqrt(S)
 *   signed rank  k-th smallest and largest Walsh average of the z_i (stats/exact.h)
 *   used         lower = the lower of the two, upper = the higher; t alone where the signed-rank
 *                bound does not exist (alpha .05: S < 5; .0175: S < 6)
 *
 * Each bound is a one-sided (1 - alpha) bound; together they are a two-sided (1 - 2 alpha)
 * interval.
 *
 * No spread.  When all z_i agree to CVB_RATIO_NO_SPREAD, the instrument is coarser than the spread
 * between sessions (or the numbers are copies), and a width of zero would be made up.  Then the
 * bounds are the value -+ `resolution` if the caller states one, else there is no interval.
 *
 * Arms that were not measured in the same sessions (pairing "none") are compared by Welch's t with
 * Satterthwaite's degrees of freedom on each arm's session values.
 *
 * Sources: Hodges & Lehmann 1963, Ann. Math. Statist. 34(2); sessions as the unit: Kalibera &
 * Jones, "Quantifying performance changes with effect size confidence intervals", arXiv:2007.10899;
 * Welch 1947, Biometrika 34; Satterthwaite 1946, Biometrics Bulletin 2; Fieller 1954, J. Royal
 * Statist. Soc. B 16; spikes: Hampel 1974, J. Am. Statist. Assoc. 69.
 */
#ifndef CVB_STATS_RATIO_H
#define CVB_STATS_RATIO_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CVB_RATIO_NO_SPREAD 1e-12 /* on the log scale: some thousand roundings of a double */

/* Both arms' values of one round.  `session` is any number that tells sessions apart. */
struct cvb_pair {
	unsigned session;
	unsigned round;
	double base;
	double test;
};

enum cvb_ratio_estimator {
	CVB_RATIO_LOCATION,
	CVB_RATIO_THROUGHPUT,
	CVB_RATIO_TAIL,
	CVB_RATIO_MEAN,
};
extern const char *const cvb_ratio_estimator_names[]; /* "location", …, NULL */

/* How the arms' samples belong together. */
enum cvb_pairing {
	CVB_PAIRING_PAIR,  /* rounds alternate within a session, seconds apart */
	CVB_PAIRING_BLOCK, /* same session, but not round by round: z_i is the difference of the
			    * arms' own Hodges-Lehmann locations */
	CVB_PAIRING_NONE,  /* different hosts, days or boots */
};
extern const char *const cvb_pairing_names[]; /* "pair", "block", "none", NULL */

/* Which rule gave the bounds. */
enum cvb_ratio_method {
	CVB_METHOD_NONE,  /* no interval */
	CVB_METHOD_T,	  /* t alone: too few sessions for the signed-rank bound */
	CVB_METHOD_T_HL,  /* the wider of t and signed rank */
	CVB_METHOD_WELCH, /* unpaired */
	CVB_METHOD_FIELLER,
	CVB_METHOD_RESOLUTION, /* no spread: the stated resolution */
};
extern const char *const cvb_ratio_method_names[]; /* "none", "t", "t+signed-rank", … */

/* Why there is no interval. */
enum cvb_no_interval {
	CVB_INTERVAL_OK,
	CVB_INTERVAL_ONE_SESSION,
	CVB_INTERVAL_NO_SPREAD, /* all sessions agree exactly */
	CVB_INTERVAL_UNBOUNDED, /* Fieller: the base may as well be 0 */
};

struct cvb_ratio {
	double ratio;	   /* exp(mean(z)): test / base, > 1 means test is faster */
	double lower;	   /* one-sided (1 - alpha) lower bound; NaN when there is no interval */
	double upper;	   /* one-sided (1 - alpha) upper bound; NaN when there is no interval */
	double log_mean;   /* mean of the z_i */
	double log_sd;	   /* their standard deviation; NaN for one session */
	unsigned sessions; /* S; unpaired: of the arm that has fewer */
	unsigned rounds;   /* pairs of all sessions together */
	bool has_interval;
	enum cvb_ratio_method method;
	enum cvb_no_interval why; /* there is no interval */
	double df;		  /* degrees of freedom of the t part; NaN without one */
	double p_below; /* p value against "the ratio is at least `margin`": small speaks for FAIL
			 */
	double p_above; /* p value against "the ratio is at most `margin`": small speaks for PASS */
	/* The same of the t part alone.  The signed-rank test's cannot be below 2^-S, so that a
	 * family of many tests could never reject anything with it. */
	double p_below_t, p_above_t;
};

/* What each session says, in rising order of session number; owned by the caller. */
struct cvb_sessions {
	enum cvb_ratio_estimator estimator;
	enum cvb_pairing pairing;
	unsigned n;
	double *z;	  /* ln(perf_test / perf_base) by the estimator */
	double *base;	  /* ln perf of each arm by the estimator; for `mean` perf itself, scaled */
	double *test;	  /* to about 1 so that no sum overflows */
	unsigned *rounds; /* rounds in each session */
};

/*
 * Sum the pairs up into sessions.  They may come in any order; sessions may have unequal numbers of
 * rounds.  -EINVAL for no pairs or a value that is not a positive finite number (the message names
 * session, round and value); -ENOMEM.
 */
CVB_MUST_CHECK int cvb_sessions_make(struct cvb_sessions *ret, const struct cvb_pair *pairs,
				     size_t n, bool lower_is_better,
				     enum cvb_ratio_estimator estimator, enum cvb_pairing pairing,
				     struct cvb_err *err);
void cvb_sessions_done(struct cvb_sessions *s);

/* What bounds are wanted. */
struct cvb_bounds_of {
	double alpha;	   /* of each bound; in (0, .5) */
	double margin;	   /* for the p values; 0: 1 */
	double resolution; /* smallest relative step that the instrument can show; 0: not known */
};

/* Estimate and bounds from the first `n` sessions, n in [1, s->n].  -ENOMEM; -EINVAL for alpha. */
CVB_MUST_CHECK int cvb_sessions_ratio(const struct cvb_sessions *s, unsigned n,
				      const struct cvb_bounds_of *of, struct cvb_ratio *ret,
				      struct cvb_err *err);

/* Location, paired, all sessions: cvb_sessions_make and cvb_sessions_ratio in one. */
CVB_MUST_CHECK int cvb_ratio_paired(const struct cvb_pair *pairs, size_t n, bool lower_is_better,
				    double alpha, struct cvb_ratio *ret, struct cvb_err *err);

/* From session values z (log ratios) that the caller has: t and signed rank, as above. */
CVB_MUST_CHECK int cvb_ratio_of_logs(const double *z, unsigned n, const struct cvb_bounds_of *of,
				     struct cvb_ratio *ret, struct cvb_err *err);

/* Welch on two independent sets of session values (log performance); at least one value each. */
CVB_MUST_CHECK int cvb_ratio_welch(const double *log_base, unsigned n_base, const double *log_test,
				   unsigned n_test, const struct cvb_bounds_of *of,
				   struct cvb_ratio *ret, struct cvb_err *err);

/*
 * Fieller's bounds of mean(test) / mean(base) of n pairs of positive session values (raw scale).
 * Unbounded (has_interval false, why UNBOUNDED) when mean(base) does not differ from 0.
 */
CVB_MUST_CHECK int cvb_ratio_fieller(const double *base, const double *test, unsigned n,
				     const struct cvb_bounds_of *of, struct cvb_ratio *ret,
				     struct cvb_err *err);

/*
 * How many sessions would probably decide between "at least margin" and "below it", if the observed
 * mean and spread persist: the least S whose half-width t(1 - alpha, S - 1) sd / sqrt(S) is no
 * wider than the distance of the estimate from the margin.  0 when it cannot be told (one session)
 * or when more than `max` would be needed.
 */
unsigned cvb_ratio_sessions_needed(const struct cvb_ratio *r, double margin, double alpha,
				   unsigned max);

/*
 * Hodges-Lehmann location of n >= 1 finite values: the exact median of the n (n + 1) / 2 Walsh
 * averages, in O(n log n) time and no extra memory.  Sorts `x` in place.
 */
double cvb_hodges_lehmann(double *x, size_t n);

/* --- spikes and stalls ------------------------------------------------------------------------ */

struct cvb_spikes {
	uint64_t base; /* slow outliers of each arm, of `rounds` */
	uint64_t test;
	uint64_t rounds;
	double p; /* one-sided exact p value of "test has the higher rate" (Fisher) */
	double rate_lower, rate_upper; /* Clopper-Pearson bounds of test's rate, alpha each */
};

/*
 * Count Hampel spikes on the slow side: more than 4 robust standard deviations (1.4826 MAD) off the
 * median of up to seven neighbours in the session (three to each side).  Nothing is removed.
 */
CVB_MUST_CHECK int cvb_spikes_count(const struct cvb_pair *pairs, size_t n, bool lower_is_better,
				    double alpha, struct cvb_spikes *ret, struct cvb_err *err);

#endif
