/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a verb of the command line is.  One file per verb; like a benchmark, it registers itself by
 * being there.
 */
#ifndef CVB_CLI_VERB_H
#define CVB_CLI_VERB_H

#include "core/err.h"
#include "core/opt.h"
#include "measure/bench.h" /* CVB_SECTION_PTR */

/* Options that every verb has; first member of each verb's configuration. */
struct cvb_common {
	bool help;
	bool quiet;
	char *trace;
};

#define CVB_COMMON_OPTS                                                                            \
	{.name = "quiet",                                                                          \
	 .letter = 'q',                                                                            \
	 .type = CVB_OPT_FLAG,                                                                     \
	 .offset = offsetof(struct cvb_common, quiet),                                             \
	 .help = "print results, warnings and errors only"},                                       \
		{.name = "trace",                                                                  \
		 .type = CVB_OPT_STR,                                                              \
		 .offset = offsetof(struct cvb_common, trace),                                     \
		 .arg = "LIST",                                                                    \
		 .help = "log these components on stderr: all, or names such as "                  \
			 "agent,campaign,gpu,proc,qemu,qmp; -name leaves one out"},                \
	{                                                                                          \
		.name = "help", .letter = 'h', .type = CVB_OPT_FLAG,                               \
		.offset = offsetof(struct cvb_common, help), .help = "show this help"              \
	}

struct cvb_verb {
	const char *name;
	const char *usage;   /* "BENCH[,BENCH…] [OPTION]…" */
	const char *summary; /* one line */
	const char *details; /* more for --help; may be NULL */
	int order;	     /* place in the list of verbs */
	const struct cvb_opt *opts;
	size_t conf_size;
	bool own_options_end; /* the first positional ends options (vm run … -- CMD) */
	/* Returns an exit code (enum cvb_exit) or a negative errno with the chain in err. */
	int (*run)(const void *conf, int argc, char **argv, struct cvb_err *err);
};

#define CVB_VERB(v)                                                                                \
	static const struct cvb_verb *const cvb_verb_ptr_##v CVB_SECTION_PTR("cvb_verb") = &(v)

#endif
