/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chain of pointers that visits every line of a buffer once, in random order, and comes back.
 */
#ifndef CVB_BENCH_MEM_CHASE_H
#define CVB_BENCH_MEM_CHASE_H

#include "core/err.h"

#include <stddef.h>
#include <stdint.h>

#define CVB_CHASE_LINE_BYTES 64

/* One cache line; what follows the pointer is never read. */
struct cvb_chase_line {
	_Alignas(CVB_CHASE_LINE_BYTES) struct cvb_chase_line *next;
};

/* Link `n` >= 1 lines into one random cycle (Sattolo's algorithm).  The calling thread touches
 * them. */
void cvb_chase_build(struct cvb_chase_line *lines, size_t n, uint64_t seed);

/* 0 if the links are one cycle over all `n` lines, -EBADMSG with what is wrong otherwise. */
CVB_MUST_CHECK int cvb_chase_check(const struct cvb_chase_line *lines, size_t n,
				   struct cvb_err *err);

#endif
