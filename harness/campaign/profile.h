/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A profile: the INI recipe of a campaign.
 *
 *   [profile]            name, summary, sessions, rounds, sample_ms, …
 *   [arm NAME]           keys of target/arm.h; `like = OTHER` copies another arm's keys first
 *   [bench NAME]         `arms = a, b` (default: all that fit), `rounds = N`, `sample_ms`, and the
 *                        benchmark's own options
 *   [gate ID]            metric, params, arm, base, kind, estimator, margin, limit
 *
 * Every message about a profile names file, line and key.
 */
#ifndef CVB_CAMPAIGN_PROFILE_H
#define CVB_CAMPAIGN_PROFILE_H

#include "measure/bench.h"
#include "stats/gate.h"
#include "target/arm.h"

#include <jansson.h>

#define CVB_PROFILE_MAX_ARMS	32
#define CVB_PROFILE_MAX_BENCHES 64
#define CVB_PROFILE_MAX_GATES	256

struct cvb_profile_bench {
	const struct cvb_bench *bench;
	json_t *options;    /* option → text, checked against the benchmark's table */
	char *arms;	    /* as written, or NULL */
	uint32_t arm_mask;  /* bit i: runs on profile->arms[i] */
	uint64_t rounds;    /* 0: the profile's */
	uint64_t sample_ms; /* 0: the profile's */
	uint64_t threads;   /* 0: one a CPU */
	uint64_t timeout_s; /* 0: the profile\'s */
	unsigned line;
};

enum cvb_gate_kind {
	CVB_GATE_NON_INFERIORITY, /* PASS when the lower bound of arm/base is at least the margin */
	CVB_GATE_EQUIVALENCE,	  /* PASS when both bounds lie in [margin, 1 / margin] */
	CVB_GATE_ABSOLUTE,	  /* the arm's own value held against `limit` */
	CVB_GATE_REPORT,	  /* ratio and interval only; never decides the overall verdict */
};

extern const char *const
	cvb_gate_kind_names[]; /* by enum cvb_gate_kind; the first three as enum cvb_gate_rule */

struct cvb_gate {
	char *id;
	char *metric; /* "mem.stream/triad" */
	char *params; /* "size_bytes=67108864,dir=h2d": what the series' params must contain; or
			 NULL */
	char *arm;
	char *base;
	int kind;      /* enum cvb_gate_kind */
	double margin; /* smallest acceptable performance ratio arm / base (0.95: 5 % loss allowed);
			  performance is the value, or its inverse where lower is better */
	int estimator; /* enum cvb_ratio_estimator */
	double limit;  /* absolute: worst acceptable value, in the metric's unit */
	unsigned looks[CVB_GATE_MAX_LOOKS]; /* the profile's looks, in sessions */
	unsigned n_looks;		    /* 0: one look, at the end */
	bool margin_given;
	unsigned line;
};

struct cvb_profile {
	char *path; /* as opened */
	char *text; /* the file itself, kept for the bundle */
	char *name;
	char *summary;
	uint64_t sessions;
	char *looks; /* "6,10,16,24" or NULL: one look, when all sessions are done */
	uint64_t rounds;
	uint64_t sample_ms;
	uint64_t timeout_s; /* limit of one set-up, calibration or sample */
	struct cvb_arm arms[CVB_PROFILE_MAX_ARMS];
	size_t n_arms;
	struct cvb_profile_bench benches[CVB_PROFILE_MAX_BENCHES];
	size_t n_benches;
	struct cvb_gate gates[CVB_PROFILE_MAX_GATES];
	size_t n_gates;
};

/*
 * Load and check a profile.  `name` is a path, or the bare name of one in profiles/ ("quick").
 * -EINVAL with file, line and key; fresh memory, freed by cvb_profile_free.
 */
CVB_MUST_CHECK int cvb_profile_load(struct cvb_profile **ret, const char *name,
				    struct cvb_err *err);
/* The same for a bundle's copy, which may come from a stranger: `path` is read as it is, and only
 * if it is a regular file. */
CVB_MUST_CHECK int cvb_profile_load_copy(struct cvb_profile **ret, const char *path,
					 struct cvb_err *err);
struct cvb_profile *cvb_profile_free(struct cvb_profile *p);

/* Print every section and key of a profile with its default; benchmarks' own options are left to
 * `list benches`. */
void cvb_profile_keys(FILE *out);

/* Index of an arm by name, or -1. */
int cvb_profile_arm(const struct cvb_profile *p, const char *name);

/* Rounds of benchmark `b` in each session. */
uint64_t cvb_profile_rounds(const struct cvb_profile *p, size_t b);

/* Limit in ms of one request (set-up, calibration, sample) for benchmark `b`. */
unsigned cvb_profile_timeout_ms(const struct cvb_profile *p, size_t b);

#endif
