/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Orderly stop: SIGINT, SIGTERM and SIGHUP set a flag; long waits look at it and unwind, so that
 * guests and programs we started are ended and the journal is whole.
 */
#ifndef CVB_CORE_STOP_H
#define CVB_CORE_STOP_H

#include <stdbool.h>

/* Install the handlers (no SA_RESTART, so that blocking calls return) and ignore SIGPIPE.
 * A second signal of the same kind ends the program at once. */
void cvb_stop_install(void);

bool cvb_stop_requested(void);

#endif
