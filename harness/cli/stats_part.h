/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the files of the verb `stats`: its options, its input, and what each of its subjects
 * is called.
 */
#ifndef CVB_CLI_STATS_PART_H
#define CVB_CLI_STATS_PART_H

#include "cli/verb.h"
#include "stats/ratio.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum cvb_stats_preset {
	CVB_STATS_ALERT,   /* few false alarms: a nightly alert */
	CVB_STATS_EXPLORE, /* more sensitive: a person is looking */
};

/* Every option of `stats`; each subject uses those that concern it. */
struct cvb_stats_conf {
	struct cvb_common common;
	double margin; /* ratio: tolerated ratio; 0: not given */
	int better;    /* enum cvb_better, what a larger value means */
	int kind;      /* ratio: enum cvb_gate_rule */
	int estimator; /* ratio: enum cvb_ratio_estimator */
	int pairing;   /* ratio: enum cvb_pairing */
	char *looks;   /* ratio: "6,10,16,24": planned looks; NULL: one look, at what is there */
	double alpha;  /* one-sided error of each bound; 0: the subject's own default */
	double limit;  /* ratio --kind absolute: the limit on the test arm's value; 0: not given */
	char *id;      /* ratio: names for the gate object; NULL: none */
	char *metric;
	double resolution; /* ratio: smallest relative step the instrument can show; 0: unknown */
	int preset;	   /* changepoint: enum cvb_stats_preset */
	bool json; /* JSON where text is the default; `ratio` and `describe` always print it */
};

#define CVB_STATS_LINE_BYTES 4096

/* Numbers from a stranger, by line. */
struct cvb_stats_input {
	FILE *f;
	const char *name; /* for messages, as NAME:LINE */
	size_t line;	  /* number of the line in buf */
	char buf[CVB_STATS_LINE_BYTES];
	struct cvb_err *err;
};

/* Next line, blanks and line end cut off; *ret stays until the next call.  1, 0 at the end, or
 * negative errno: -EBADMSG names a line that is too long or holds a NUL byte. */
CVB_MUST_CHECK int cvb_stats_next_line(struct cvb_stats_input *in, char **ret);

/* The number in `text`, of the line read last; -EBADMSG names `field`. */
CVB_MUST_CHECK int cvb_stats_parse_number(const struct cvb_stats_input *in, const char *field,
					  const char *text, double *ret);

/*
 * The table of `stats ratio` to its end: CSV with the header session,round,base,test, columns in
 * any order.  Sessions are numbered from 1: by value if all their labels are whole numbers, else
 * as they come; rounds are numbered as they come.  *ret is the caller's to free, and is set on
 * success only.  -EBADMSG names line and column.
 */
CVB_MUST_CHECK int cvb_stats_table_read(struct cvb_stats_input *in, struct cvb_pair **ret,
					size_t *ret_n);

/* A decimal number, whole; NaN and infinities are numbers here, hexadecimal ones are not. */
bool cvb_stats_number(const char *text, double *ret);

/*
 * The subjects.  `in` is read to its end, the answer goes to stdout.  Exit code (enum cvb_exit), or
 * a negative errno with the chain in `err`, which is also in->err: -EINVAL or -EBADMSG for bad
 * input, naming line and field.
 */
int cvb_stats_changepoint_cli(struct cvb_stats_input *in, const struct cvb_stats_conf *conf,
			      struct cvb_err *err);

#endif
