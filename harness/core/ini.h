/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INI text, as profiles, models of GPUs and workloads are written: [section], key = value (or
 * key: value), and comments that begin with ';' or '#', or with " ;" behind a value.
 *
 * inih takes the lines apart; this adds what it leaves out: numbers of lines, sections without
 * keys, names of any length, and a refusal of what it would take silently: a section or a key
 * that is there twice, a key before any section, text behind a section's ']', a line that it
 * would cut, and bytes that are no UTF-8 text.  An indented line is a line of its own.
 *
 * What the sections and keys are is the caller's: two callbacks, which see them in the order of the
 * text.  Every message begins with "path:line: ", one about a key goes on with "[section]: ".
 */
#ifndef CVB_CORE_INI_H
#define CVB_CORE_INI_H

#include "core/err.h"

#include <stdbool.h>

#define CVB_INI_MAX_BYTES (1U << 20)

/* All texts are borrowed: they are the reader's until the callback returns.  A negative errno ends
 * the reading, with a message in `err` that tells neither place nor section. */
struct cvb_ini_ops {
	int (*section)(void *ctx, const char *name, unsigned line, struct cvb_err *err);
	int (*key)(void *ctx, const char *key, const char *value, unsigned line,
		   struct cvb_err *err);
};

/* Hand every section and key of `text` to `ops`; `path` is what messages call it. */
CVB_MUST_CHECK int cvb_ini_parse(const char *text, const char *path, const struct cvb_ini_ops *ops,
				 void *ctx, struct cvb_err *err);

/*
 * The text of an INI file, for cvb_ini_parse; caller frees.  -EINVAL for all that is the fault of
 * who named the file: it is not there, no regular file, empty, larger than CVB_INI_MAX_BYTES or
 * holds a NUL.  `follow`: the path may be a link.
 */
CVB_MUST_CHECK int cvb_ini_read(const char *path, bool follow, char **ret_text,
				struct cvb_err *err);

/* -EINVAL for a `word` that is none of `names` (NULL-terminated): tells the nearest of them, or
 * all when none is near.  `what` is "key" or "section". */
int cvb_ini_unknown(const char *what, const char *word, const char *const *names,
		    struct cvb_err *err);

#endif
