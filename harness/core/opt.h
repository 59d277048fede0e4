/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Option tables: one row gives parsing, default, range check, help text and JSON.
 *
 * A table describes the fields of one configuration struct, by offset.  The same tables serve
 * command line options (--name VALUE), benchmark options (-s key=value and profile keys) and arm
 * keys. Text values are copied into the struct and owned by it; cvb_opts_done frees them.
 */
#ifndef CVB_CORE_OPT_H
#define CVB_CORE_OPT_H

#include "core/err.h"

#include <stddef.h>
#include <stdint.h>

enum cvb_opt_type {
	CVB_OPT_FLAG,	/* bool; on the command line takes no value, elsewhere on|off|yes|no|1|0 */
	CVB_OPT_U64,	/* uint64_t, decimal */
	CVB_OPT_SIZE,	/* uint64_t bytes: 4096, 64KiB, 1MiB, 2GiB (powers of 1024) */
	CVB_OPT_DOUBLE, /* double, finite */
	CVB_OPT_STR,	/* char *, NULL when no default */
	CVB_OPT_CHOICE, /* int, index into choices */
	CVB_OPT_LIST,	/* char **, NULL-terminated: each use on the command line adds one */
};

struct cvb_opt {
	const char *name; /* long name or key: "size", "max-size" */
	char letter;	  /* short option, 0 for none */
	enum cvb_opt_type type;
	size_t offset; /* offsetof the field in the configuration struct */
	double min,
		max; /* range of numbers, both 0: no limit; sizes and counts are exact to 2^53 */
	const char *def;	    /* default as text, parsed like user input; NULL: zero / none */
	const char *unit;	    /* "bytes", "ms", …; NULL if none */
	const char *arg;	    /* placeholder in help: "FILE"; NULL: by type */
	const char *const *choices; /* NULL-terminated, for CVB_OPT_CHOICE */
	const char *help;
};

/* The end of a table. */
#define CVB_OPT_END                                                                                \
	{                                                                                          \
		.name = NULL                                                                       \
	}

/* Fill every field with its default.  The struct must be zeroed.  Fails only for a bad table
 * (a bug) or lack of memory. */
CVB_MUST_CHECK int cvb_opts_defaults(const struct cvb_opt *table, void *conf, struct cvb_err *err);

/* Set one key from text.  -EINVAL says what would be right, near misses included. */
CVB_MUST_CHECK int cvb_opt_set(const struct cvb_opt *table, void *conf, const char *key,
			       const char *value, struct cvb_err *err);

/* The row of a key, or NULL. */
const struct cvb_opt *cvb_opt_find(const struct cvb_opt *table, const char *key);

/*
 * Parse argv[0..argc) (without the program's or verb's name): --name VALUE, --name=VALUE, -x VALUE,
 * -xVALUE, "--" ends options.  What is not an option is put, in order, into positional[] (room for
 * argc entries, pointers into argv) and counted.  `stop_at_first` ends parsing at the first
 * positional (for a verb followed by its own options).
 */
CVB_MUST_CHECK int cvb_opts_parse(const struct cvb_opt *table, void *conf, int argc, char **argv,
				  bool stop_at_first, char **positional, int *ret_positionals,
				  struct cvb_err *err);

/* Free what the struct owns and zero those fields. */
void cvb_opts_done(const struct cvb_opt *table, void *conf);

/* The values as a JSON object (key → number, text, bool or null).  Caller owns it. */
json_t *cvb_opts_to_json(const struct cvb_opt *table, const void *conf);

/* The table itself as JSON, for `list --json`: name, type, default, min, max, unit, choices, help.
 */
json_t *cvb_opts_describe(const struct cvb_opt *table);

/* The OPTIONS part of a help text.  `dashes`: command line form, else key form. */
void cvb_opts_help(FILE *out, const struct cvb_opt *table, bool dashes);

/* Size with suffix, as CVB_OPT_SIZE reads it.  -EINVAL without a chain. */
int cvb_parse_size(const char *text, uint64_t *ret_bytes);

/* Closest of `names` (NULL-terminated) to a misspelt word, or NULL if none is near. */
const char *cvb_nearest(const char *word, const char *const *names);

#endif
