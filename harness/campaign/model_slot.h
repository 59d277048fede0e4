/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the model_*.c files: the reader, and what the attempts of a journal said before it is
 * known which of them count.
 *
 *   model_read.c    the campaign, its sessions and arms; dispatch
 *   model_field.c   typed fields of a line
 *   model_sample.c  benchmarks, samples, rounds, into slots
 *   model_merge.c   slots into cells and points
 */
#ifndef CVB_CAMPAIGN_MODEL_SLOT_H
#define CVB_CAMPAIGN_MODEL_SLOT_H

#include "campaign/model.h"

struct cvb_slot_row {
	unsigned round;
	double steal_ratio; /* NaN: unknown */
	uint64_t start_ns;
	enum cvb_disturbance disturbed;
	double *values; /* cvb_slot_arm.n_series of them */
};

struct cvb_slot_arm {
	struct cvb_slot_arm *next; /* of the slot; in no order */
	unsigned arm;
	enum cvb_model_outcome outcome;
	char *reason;
	bool emulated;
	bool deterministic;
	bool devtools; /* its GPU was in devtools mode */
	json_t *options;
	json_t *notes;
	json_t *iters;
	json_t *left_out;
	unsigned workers;
	size_t *series; /* indices into model->series, in the order of sample values */
	size_t n_series;
	int *steady; /* enum cvb_steady_state of each series, or -1; NULL: not told */
	uint64_t timer_ns, shortest_ns;
	double clock_error_ratio;  /* as in struct cvb_model_cell */
	struct cvb_slot_row *rows; /* by rising round */
	size_t n_rows;
	size_t rows_room;
};

/* What the attempt that counts so far did with one benchmark in one session. */
struct cvb_slot {
	unsigned attempt;
	bool finished;	  /* bench_end: no other attempt counts any more */
	unsigned *rounds; /* complete ones, rising */
	size_t n_rounds;
	size_t rounds_room;
	struct cvb_slot_arm *arms; /* those that any line spoke of */
};

/* An arm_end line with a reason: that arm's samples of that attempt are void. */
struct cvb_void_mark {
	unsigned session;
	unsigned attempt;
	unsigned arm;
	char *reason;
};

struct cvb_slots {
	struct cvb_slot **v; /* [(session - 1) * n_benches + bench]; NULL: nothing said */
	struct cvb_void_mark *voids;
	size_t n_voids;
	size_t voids_room;
};

struct cvb_model_reader {
	struct cvb_model *m;
	size_t number;	    /* of the line */
	const json_t *line; /* borrowed */
	struct cvb_err *err;
	bool begun; /* the campaign line was read */
	struct cvb_slots slots;
	json_t *series_index; /* series key -> index */
	size_t series_room;
	size_t *series_line; /* number of the line that named a series last; MAX_SERIES of them */
	unsigned last_ready[CVB_MODEL_MAX_ARMS];       /* session last counted in arms[].sessions */
	unsigned last_unsupported[CVB_MODEL_MAX_ARMS]; /* the same, sessions_unsupported; 0: none */
};

#define CVB_MODEL_NAME_BYTES   128
#define CVB_MODEL_REASON_BYTES 4096

/* -EBADMSG with file, line and field. */
int cvb_model_bad(const struct cvb_model_reader *r, const char *field, const char *fmt, ...)
	CVB_PRINTF(3, 4);
int cvb_model_no_memory(const struct cvb_model_reader *r);

/* A text of obj into fresh memory, in place of what *ret held.  Absent or null: an error if
 * `required`, else *ret stays.  Names that are too long are an error; reasons are cut. */
int cvb_model_get_text(const struct cvb_model_reader *r, const json_t *obj, const char *field,
		       size_t max_bytes, bool required, char **ret);
/* A whole number from 1 to max. */
int cvb_model_get_count(const struct cvb_model_reader *r, const json_t *obj, const char *field,
			unsigned max, unsigned *ret);
/* A bool; absent or null is false. */
int cvb_model_get_bool(const struct cvb_model_reader *r, const json_t *obj, const char *field,
		       bool *ret);
/* A whole number of ns (or of anything) that is not negative; absent or null is 0. */
int cvb_model_get_u64(const struct cvb_model_reader *r, const json_t *obj, const char *field,
		      uint64_t *ret);
/* A number; absent or null is NaN. */
int cvb_model_get_real(const struct cvb_model_reader *r, const json_t *obj, const char *field,
		       double *ret);
/* "arm", "bench", "session" and "attempt" of the line. */
int cvb_model_get_arm(const struct cvb_model_reader *r, unsigned *ret);
int cvb_model_get_bench(const struct cvb_model_reader *r, unsigned *ret);
int cvb_model_get_session(const struct cvb_model_reader *r, unsigned *ret_session,
			  unsigned *ret_attempt);
/* {nslabs, used, used_hiwater} of the line, or null: the highest stays in the arm. */
int cvb_model_note_swiotlb(const struct cvb_model_reader *r, struct cvb_model_arm *a);
/* Room for one more element of a growing array of `n`. */
bool cvb_model_grow(void *array, size_t n, size_t *room, size_t element_bytes);

/* Handlers of model_sample.c. */
int cvb_model_on_bench(struct cvb_model_reader *r);
int cvb_model_on_sample(struct cvb_model_reader *r);
int cvb_model_on_round(struct cvb_model_reader *r);
int cvb_model_on_bench_end(struct cvb_model_reader *r);
int cvb_model_on_arm_end(struct cvb_model_reader *r);
void cvb_slots_done(struct cvb_slots *slots, size_t n);

/* What the slot knows of an arm, or NULL. */
struct cvb_slot_arm *cvb_slot_arm(const struct cvb_slot *slot, unsigned arm);

/* Fill cells and points from the slots that are left.  -ENOMEM. */
CVB_MUST_CHECK int cvb_model_merge(struct cvb_model *m, const struct cvb_slots *slots,
				   struct cvb_err *err);

#endif
