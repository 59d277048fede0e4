/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal read into arrays: what each arm was, what each benchmark did on it, and every value.
 *
 * A journal may hold text that came from a guest, so it is hostile input: types, counts and order
 * are checked, and what is wrong is -EBADMSG with file, line and field.  Texts are kept as they
 * came; whoever prints them makes them safe (report/text.h).
 *
 * Memory follows the journal's size, not the numbers it claims.  A model is read-only once loaded.
 */
#ifndef CVB_CAMPAIGN_MODEL_H
#define CVB_CAMPAIGN_MODEL_H

#include "core/err.h"
#include "measure/bench.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define CVB_MODEL_MAX_ARMS     32
#define CVB_MODEL_MAX_BENCHES  64
#define CVB_MODEL_MAX_SESSIONS 10000
#define CVB_MODEL_MAX_ROUNDS   100000
#define CVB_MODEL_MAX_ATTEMPTS 100000
#define CVB_MODEL_MAX_SERIES   16384 /* of all benchmarks together */

enum cvb_model_arm_state {
	CVB_MODEL_ARM_UNSEEN, /* the campaign never came to it */
	CVB_MODEL_ARM_READY,
	CVB_MODEL_ARM_UNSUPPORTED,
};

enum cvb_model_outcome {
	CVB_MODEL_NONE, /* not run on this arm */
	CVB_MODEL_OK,
	CVB_MODEL_UNSUPPORTED,
	CVB_MODEL_FAILED,
	CVB_MODEL_UNTRUSTED,
};

extern const char *const cvb_model_outcome_names[]; /* by enum cvb_model_outcome */

struct cvb_model_arm {
	char *name;
	char *target;
	char *aa_of; /* NULL: not an A/A arm */
	char *gpu;   /* NULL: none */
	char *tee;   /* "none", "tdx", "snp"; NULL: not said */
	bool bounce;
	bool emulated;	    /* its GPU is emulated: a label or a benchmark line said so */
	bool deterministic; /* a benchmark ran on a virtual clock */
	char *accel;	    /* "kvm", "tcg"; NULL: none (local) or not yet known */
	bool accel_changed; /* not the same in all sessions: accel is then "tcg" */
	enum cvb_model_arm_state state;
	char *reason;		       /* why unsupported, the last time; or NULL */
	json_t *environment;	       /* of the latest session in which it was ready; NULL */
	unsigned sessions;	       /* distinct sessions in which it was ready */
	unsigned sessions_unsupported; /* those in which its last attempt to come up failed */
	double *boot_ns;	       /* each time it came up, in journal order */
	size_t n_boots;
	uint64_t swiotlb_slabs;	     /* pool size in 2 KiB slots, 0: none or unknown */
	uint64_t swiotlb_used_slabs; /* highest use seen, in slots */
	uint64_t swiotlb_full;	     /* times its kernel said in a sample that the pool is full */
};

/* One benchmark on one arm, all counted attempts together. */
struct cvb_model_cell {
	enum cvb_model_outcome outcome; /* the worst of the counted sessions */
	char *reason;			/* of that outcome; NULL when ok */
	char *invalid; /* an arm_end reason that voids counted samples ("the pool was never used")
			*/
	bool emulated;
	bool deterministic;
	bool devtools; /* in some session its GPU was in devtools mode: nothing was confidential */
	char *changed; /* in which session it ran with other threads or options than before; NULL */
	json_t *options; /* borrowed nowhere: own references, of the latest session; NULL */
	json_t *notes;
	json_t *iters;
	json_t *left_out; /* [{params, reason}] of the latest session; NULL */
	unsigned workers;
	double steal_ratio; /* mean over the samples that know it; NaN if none does */
	double steal_max_ratio;
	uint64_t timer_ns;    /* largest seen: what reading the clock adds to a batch; 0: unknown */
	uint64_t shortest_ns; /* shortest timed batch; 0: unknown */
	double clock_error_ratio; /* the largest by which its clock surely ran wrong, as |there /
				     here - 1| less what the reading may be off by; 0: none */
};

/* A signal other than its own value that voids a sample; fixed before anything was measured.  In
 * rising order of what is told of a round that has several. */
enum cvb_disturbance {
	CVB_UNDISTURBED,
	CVB_DISTURBED_STEAL,	/* the host took more than CVB_STEAL_LIMIT_RATIO of the CPU time */
	CVB_DISTURBED_THROTTLE, /* a throttle counter moved, or the GPU was throttled */
	CVB_DISTURBED_CLOCK,	/* its own clock and the host's do not agree how long it took */
	CVB_DISTURBANCES,
};

/* An arm's clock may not count more time than the host saw pass, nor much less than that and what
 * asking takes: such a sample spans a stop of the guest, a migration or a clock step. */
#define CVB_CLOCK_LIMIT_RATIO 0.0005
#define CVB_ASKING_NS	      UINT64_C(200000000)

#define CVB_STEAL_LIMIT_RATIO 0.01
/* Steal is counted in scheduler ticks; one tick in a short sample is no finding. */
#define CVB_STEAL_LEAST_NS 20000000

struct cvb_model_point {
	unsigned session;  /* from 1 */
	unsigned round;	   /* from 1 */
	double value;	   /* NaN: the sample was not finite */
	uint64_t start_ns; /* host's clock; 0: unknown */
	enum cvb_disturbance disturbed;
};

/* All the values of one arm, by session, then round; only rounds that were completed. */
struct cvb_model_points {
	struct cvb_model_point *v;
	size_t n;
	unsigned sessions;	    /* distinct ones that have a value */
	unsigned sessions_steady;   /* sessions whose warm-up reached a steady state */
	unsigned sessions_unsteady; /* sessions whose warm-up was seen not to reach one */
};

struct cvb_model_series {
	unsigned bench;	  /* index into model->benches */
	char *name;	  /* "gpu.copy/bandwidth" */
	json_t *params;	  /* object or NULL */
	char *params_key; /* "dir=h2d,mem=pinned,size_bytes=4096": sorted by name; "" for none */
	char *key;	  /* "gpu.copy/bandwidth{dir=h2d,mem=pinned,size_bytes=4096}" */
	char *unit;
	enum cvb_better better;
	struct cvb_model_points points[CVB_MODEL_MAX_ARMS];
};

struct cvb_model_bench {
	char *name;
	uint32_t arm_mask; /* bit i: planned on arms[i] */
	unsigned rounds;   /* planned */
	struct cvb_model_cell cells[CVB_MODEL_MAX_ARMS];
	unsigned rounds_done;	/* complete rounds of all sessions together */
	unsigned sessions_done; /* sessions that reached bench_end */
};

struct cvb_model_session {
	unsigned attempts;     /* the highest attempt number; 0: never begun */
	bool complete;	       /* session_end seen */
	uint64_t benches_done; /* bit b: benches[b] reached bench_end */
};

struct cvb_model {
	char *path;
	char *profile;
	char *seed;	   /* decimal */
	char *started;	   /* UTC text */
	char *tool;	   /* "cvmbench 0.1 (gcc 12.2.0)" */
	json_t *tool_json; /* as journalled */
	unsigned sessions; /* planned */
	unsigned rounds;   /* planned, the profile's default */
	struct cvb_model_arm arms[CVB_MODEL_MAX_ARMS];
	size_t n_arms;
	struct cvb_model_bench *benches; /* CVB_MODEL_MAX_BENCHES of room */
	size_t n_benches;
	struct cvb_model_series **series; /* in order of first sight */
	size_t n_series;
	struct cvb_model_session *session; /* session[i]: number i + 1; `sessions` of them */
	unsigned sessions_complete;
	bool complete;		/* campaign_end seen */
	unsigned stopped_after; /* a planned look decided every gate after this session; 0: no */
	char *abort;		/* message of an abort that no later line followed; NULL */
};

/* Read a journal.  -EBADMSG as said above, errno of open/read, -ENOMEM. */
CVB_MUST_CHECK int cvb_model_load(struct cvb_model **ret, const char *journal_path,
				  struct cvb_err *err);
struct cvb_model *cvb_model_free(struct cvb_model *m); /* NULL in, NULL out */

/* Index by name, or -1. */
int cvb_model_arm(const struct cvb_model *m, const char *name);
int cvb_model_bench(const struct cvb_model *m, const char *name);

/*
 * The labels no reader may miss, as "tcg, bounce" into buf: accel (tcg only), emulated, bounce,
 * tee, deterministic.  Empty text if none apply.  Returns buf.
 */
const char *cvb_model_labels(const struct cvb_model_arm *arm, char *buf, size_t buf_bytes);

/* "vm (tcg)": the arm's name with its labels.  Returns buf. */
const char *cvb_model_arm_title(const struct cvb_model_arm *arm, char *buf, size_t buf_bytes);

/*
 * Do the series' params contain all of `wanted` ("size_bytes=64MiB,dir=h2d"; NULL or "" matches
 * everything)?  Sizes may be written with a suffix.
 */
bool cvb_model_params_match(const struct cvb_model_series *s, const char *wanted);

/*
 * Could a series that was left out be what is wanted?  Its params say only what tells it apart, so:
 * at least one of the wanted values agrees with them, and none contradicts them.
 */
bool cvb_model_left_out_match(const json_t *params, const char *wanted);

/* Canonical text of a params object, as in params_key.  Fresh memory; NULL when memory is out. */
char *cvb_model_params_key(const json_t *params);

#endif
