/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One side of a comparison: what each arm's benchmarks measured, one value for each session.
 *
 *   side.c         the containers, and where a side comes from
 *   side_folder.c  the file or folder of result documents
 *   side_result.c  result documents: each is one session of one arm without a name
 *   side_bundle.c  the bundle of a campaign: its arms; those that measure one again are held
 *                  against its series
 *
 * Documents and journals are hostile input.  What cannot be read at all (types, counts, texts that
 * are too long) is -EBADMSG with file and field.  A number that has no logarithm, an outcome that
 * is not ok, options that change from session to session spoil only the metric or benchmark that
 * they belong to: `bad` tells why it has no value.
 */
#ifndef CVB_CAMPAIGN_SIDE_H
#define CVB_CAMPAIGN_SIDE_H

#include "core/err.h"
#include "measure/bench.h"
#include "stats/ratio.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define CVB_SIDE_MAX_FILE_BYTES ((size_t)64 << 20)
#define CVB_SIDE_MAX_DOCUMENTS	1000
#define CVB_SIDE_MAX_BENCHES	64
#define CVB_SIDE_MAX_SERIES	16384 /* of one benchmark */
#define CVB_SIDE_MAX_PARAMS	16
#define CVB_SIDE_NAME_BYTES	128
#define CVB_SIDE_REASON_BYTES	4096
#define CVB_SIDE_MAX_NOTES	20

/* Things by name, in order of first sight. */
struct cvb_table {
	void **v;
	size_t n;
	size_t room;
	json_t *index; /* name -> place */
};

/* Why something has no value. */
enum cvb_side_fault {
	CVB_SIDE_GOOD,
	CVB_SIDE_UNSUPPORTED, /* it cannot run there */
	CVB_SIDE_BAD,	      /* failed, or contradicts itself */
	CVB_SIDE_INVALID,     /* measured, but not to be believed */
};

struct cvb_side_value {
	double log_perf; /* Hodges-Lehmann of ln performance within the session */
	uint64_t hash;	 /* of the session's samples, to the last bit */
};

/* What an arm that measures another one again says about a series: see verdict_aa.c. */
struct cvb_side_again {
	char *base, *aa;
	struct cvb_ratio wide, narrow;
	double alpha;
};

struct cvb_side_series {
	char *key;    /* unique within the benchmark */
	char *metric; /* "gpu.copy/bandwidth" */
	char *title;  /* "gpu.copy/bandwidth{dir=h2d,mem=pinned,size_bytes=4096}" */
	json_t *params;
	char *unit;
	enum cvb_better better;
	struct cvb_side_value *v;
	unsigned n; /* sessions with a value */
	size_t room;
	uint64_t samples;  /* of all sessions together */
	uint64_t zeros;	   /* how many of them are 0 */
	unsigned sessions; /* that have it, with a value or not */
	unsigned seen;	   /* the loader's mark: the latest of them */
	bool partly;	   /* not all sessions of the benchmark have it */
	char *bad;	   /* NULL: all is well */
	/* the same with the samples that steal or throttling voided; NULL: there are none */
	struct cvb_side_series *with;
	size_t voided; /* of the samples; not in `samples` */
	struct cvb_side_again *again;
	size_t n_again;
};

/* What changes the meaning of a number; a reader must never miss it. */
enum cvb_side_label {
	CVB_SIDE_EMULATED,
	CVB_SIDE_DETERMINISTIC,
	CVB_SIDE_TCG,
	CVB_SIDE_LABELS,
};
extern const char *const cvb_side_label_names[]; /* "emulated", "deterministic", "tcg" */

/* Why what a GPU in devtools mode did is CVB_SIDE_INVALID. */
extern const char cvb_side_devtools[];

struct cvb_side_bench {
	char *name;
	json_t *options;
	unsigned workers;		    /* 0: not said */
	unsigned sessions;		    /* in which its outcome was ok */
	unsigned seen;			    /* the loader's mark: the latest session with it */
	bool partly;			    /* not all sessions of the side have it */
	unsigned labelled[CVB_SIDE_LABELS]; /* sessions with that label */
	enum cvb_side_fault fault;
	char *bad;		 /* why, unless good */
	struct cvb_table series; /* struct cvb_side_series, by key */
};

struct cvb_side_arm {
	char *name; /* "" for result documents */
	json_t *environment;
	char *unsupported;	  /* why it never came up; NULL if it did */
	struct cvb_table benches; /* struct cvb_side_bench, by name */
};

enum cvb_side_kind {
	CVB_SIDE_RESULT,
	CVB_SIDE_RESULTS,
	CVB_SIDE_BUNDLE,
};
extern const char *const cvb_side_kind_names[]; /* "result", "results", "bundle" */

struct cvb_side {
	char *path;
	enum cvb_side_kind kind;
	unsigned sessions;
	json_t *tool;		  /* the program that measured; NULL if not said */
	json_t *notes;		  /* texts a reader should know */
	struct cvb_table arms;	  /* struct cvb_side_arm, by name */
	struct cvb_table session; /* file names of sessions, by the numbers in them */
};

/*
 * Read a result document ("-": stdin), a folder of them, or a bundle.  `per` (bundles only; NULL:
 * none): values relative to those of that arm in the same session and round.
 */
CVB_MUST_CHECK int cvb_side_load(struct cvb_side **ret, const char *path, const char *per,
				 struct cvb_err *err);
struct cvb_side *cvb_side_free(struct cvb_side *s); /* NULL in, NULL out */

/* --- for the loaders -------------------------------------------------------------------------- */

void *cvb_table_find(const struct cvb_table *t, const char *name);
/* Add what is not there yet.  -ENOMEM. */
CVB_MUST_CHECK int cvb_table_add(struct cvb_table *t, const char *name, void *item);

/* Find or add; NULL when memory is out. */
struct cvb_side_arm *cvb_side_arm(struct cvb_side *s, const char *name);
struct cvb_side_bench *cvb_side_bench(struct cvb_side_arm *a, const char *name);
struct cvb_side_series *cvb_side_series(struct cvb_side_bench *b, const char *metric,
					const json_t *params, const char *unit,
					enum cvb_better better);

/* Say once why something has no value; the first reason stays, a worse fault replaces it. */
void cvb_side_spoil(struct cvb_side_bench *b, enum cvb_side_fault fault, const char *fmt, ...)
	CVB_PRINTF(3, 4);
void cvb_side_spoil_series(struct cvb_side_series *s, const char *fmt, ...) CVB_PRINTF(2, 3);
void cvb_side_note(struct cvb_side *s, const char *fmt, ...) CVB_PRINTF(2, 3);

/*
 * One more session of n >= 1 samples; `values` is overwritten.  A value without a logarithm spoils
 * the series.  `where` names the session.  -ENOMEM.
 */
CVB_MUST_CHECK int cvb_side_add_session(struct cvb_side_series *s, double *values, size_t n,
					const char *where);
/* The same from a value that the caller estimated. */
CVB_MUST_CHECK int cvb_side_add_value(struct cvb_side_series *s, double log_perf, uint64_t hash);
/* s->with, made when it is first asked for; NULL when memory is out. */
struct cvb_side_series *cvb_side_with(struct cvb_side_series *s);
/* Add to s->again; texts are copied.  -ENOMEM. */
CVB_MUST_CHECK int cvb_side_add_again(struct cvb_side_series *s, const struct cvb_side_again *a);

#define CVB_SIDE_HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t cvb_side_hash(uint64_t hash, const void *data, size_t bytes); /* FNV-1a */

/* One document more; `file` names it in messages and must be safe to print. */
CVB_MUST_CHECK int cvb_side_read_document(struct cvb_side *s, const json_t *doc, const char *file,
					  struct cvb_err *err);
CVB_MUST_CHECK int cvb_side_load_results(struct cvb_side *s, struct cvb_err *err);
CVB_MUST_CHECK int cvb_side_load_bundle(struct cvb_side *s, const char *per, struct cvb_err *err);

/*
 * What differs between two environments, as rows {"what","base","current"} appended to `rows`, at
 * most `max` of them in all; what changes all the time by itself is left out.
 */
void cvb_side_diff(json_t *rows, const char *what, const json_t *base, const json_t *current,
		   size_t max);

#endif
