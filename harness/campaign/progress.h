/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Progress on stderr: a bar with the time left on a terminal, a plain line now and then elsewhere.
 */
#ifndef CVB_CAMPAIGN_PROGRESS_H
#define CVB_CAMPAIGN_PROGRESS_H

#include <stddef.h>
#include <stdint.h>

/* Begin; `total` steps of `n_kinds` kinds, count[kind] of each.  With --quiet nothing is shown. */
void cvb_progress_begin(size_t n_kinds, const uint64_t *count);
void cvb_progress_end(void);

/* A step begins: what is shown ("session 2/3 mem.stream round 1/4 vm"). */
void cvb_progress_step(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A step of a kind is done and took this long; steps not taken (unsupported) are done in 0 ns. */
void cvb_progress_done(size_t kind, uint64_t duration_ns);

#endif
