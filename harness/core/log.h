/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: stderr only; stdout carries results.
 *
 * Library code logs at debug level by component ("qemu", "agent", "gpu", …), shown when --trace
 * names the component.  Info and warnings come from the command line layer and the campaign loop.
 * Threading: every call may be made from any thread; a line is written whole.
 */
#ifndef CVB_CORE_LOG_H
#define CVB_CORE_LOG_H

#include "core/err.h"

/* Choose the traced components: "all", "gpu,qemu", "all,-gpu"; NULL or "" for none.
 * -EINVAL for an empty name in the list. */
int cvb_log_trace(const char *list, struct cvb_err *err);

/* --quiet: drop info lines (warnings and errors stay). */
void cvb_log_quiet(bool quiet);
bool cvb_log_is_quiet(void);

/* True if a debug line of this component would be written. */
bool cvb_log_traced(const char *component);

void cvb_debug(const char *component, const char *fmt, ...) CVB_PRINTF(2, 3);
void cvb_info(const char *fmt, ...) CVB_PRINTF(1, 2);
void cvb_warn(const char *fmt, ...) CVB_PRINTF(1, 2);

/* "cvmbench: error: a: b: cause" once, for the whole chain. */
void cvb_log_err(const struct cvb_err *err);

/* Called before a line is written, so that a progress bar can get out of the way; may be NULL. */
void cvb_log_set_before_line(void (*hook)(void));

#endif
