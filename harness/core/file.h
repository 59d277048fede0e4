/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files: bounded reads, whole-or-nothing writes, and where the installed data lies.
 */
#ifndef CVB_CORE_FILE_H
#define CVB_CORE_FILE_H

#include "core/err.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Read a whole file of at most `max_bytes` into fresh, NUL-terminated memory (caller frees).
 * `ret_bytes` may be NULL.  -EFBIG if larger, -EINVAL for what is not a regular file (a pipe would
 * be waited for, a device may never end), else the errno of open or read.
 * Works for /proc and /sys, whose sizes are not known beforehand.
 */
CVB_MUST_CHECK int cvb_file_read(const char *path, size_t max_bytes, char **ret_text,
				 size_t *ret_bytes, struct cvb_err *err);

/* The same for what may come from a stranger, such as a file of a bundle: a link is -EINVAL too. */
CVB_MUST_CHECK int cvb_file_read_regular(const char *path, size_t max_bytes, char **ret_text,
					 size_t *ret_bytes, struct cvb_err *err);

/* The same as cvb_file_read, and what the caller's shell gave us: "-" and /dev/stdin are standard
 * input, /dev/fd/N is that descriptor (`<(program)`), and these may be pipes. */
CVB_MUST_CHECK int cvb_file_read_input(const char *path, size_t max_bytes, char **ret_text,
				       size_t *ret_bytes, struct cvb_err *err);

/* Read the first line of a small file without its newline; -errno quietly (no chain) if absent. */
int cvb_file_read_line(const char *path, char *buf, size_t buf_bytes);

/* Read one unsigned decimal number from a small file; -errno quietly if absent or malformed. */
int cvb_file_read_u64(const char *path, uint64_t *ret);

/*
 * Replace `path` by `bytes` of `data`: temporary name beside it, fsync, rename, fsync of the
 * folder. After a failure the old file is untouched and no temporary file is left.  A link is
 * replaced, not followed; what else is there and is no regular file is -EINVAL: the folder may
 * come from a stranger, such as a bundle.
 */
CVB_MUST_CHECK int cvb_file_write(const char *path, const void *data, size_t bytes,
				  struct cvb_err *err);

/* The same for a JSON document, indented, keys in insertion order, with a final newline. */
CVB_MUST_CHECK int cvb_json_write(const char *path, const json_t *doc, struct cvb_err *err);

/* The same for a path that the user named: "-", and what leads to stdout or stderr (/dev/stdout),
 * is written there; another character device or a pipe, also behind a link, is written to as it is.
 */
CVB_MUST_CHECK int cvb_json_output(const char *path, const json_t *doc, struct cvb_err *err);

/* Make an empty file that was not there before: a file or link of that name is removed, never
 * followed.  Its descriptor, for writing, into *ret_fd; caller closes. */
CVB_MUST_CHECK int cvb_file_fresh(const char *path, mode_t mode, int *ret_fd, struct cvb_err *err);

/* Make a folder in one that is there.  One that exists will do, but a link to one is -EINVAL: the
 * folder around it may come from a stranger, such as a bundle. */
CVB_MUST_CHECK int cvb_mkdir_own(const char *path, struct cvb_err *err);

/* mkdir -p. */
CVB_MUST_CHECK int cvb_mkdir_all(const char *path, struct cvb_err *err);

/* Remove a folder and what is in it, without following links.  Best effort; 0 or the first errno.
 */
int cvb_remove_tree(const char *path);

/*
 * Where a data file of the project lies ("profiles/quick.ini", "plots/bars.gp"): $CVMBENCH_DATADIR,
 * then the source tree that the running program was built in, then PREFIX/share/cvmbench.
 * Fresh memory; NULL with -ENOENT in `err` when none has it.
 */
char *cvb_data_path(const char *name, struct cvb_err *err);

/* The folder of the running program; fresh memory or NULL. */
char *cvb_exe_dir(void);

#endif
