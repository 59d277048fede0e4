/* SPDX-License-Identifier: Apache-2.0 */
#include "mem/chase.h"

#include <errno.h>

_Static_assert(sizeof(struct cvb_chase_line) == CVB_CHASE_LINE_BYTES, "one line a node");

static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state; /* xorshift64*, state never 0 */

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * UINT64_C(2685821657736338717);
}

/* Evenly in [0, limit): the high half of a 64 × 64 bit product; its bias is below limit / 2^64. */
static size_t below(uint64_t *state, size_t limit)
{
	return (size_t)((unsigned __int128)next_random(state) * limit >> 64);
}

void cvb_chase_build(struct cvb_chase_line *lines, size_t n, uint64_t seed)
{
	uint64_t state = seed ? seed : 1;

	for (size_t i = 0; i < n; i++)
		lines[i].next = &lines[i];
	/* never with itself: that is what makes one cycle out of all of them */
	for (size_t i = n - 1; i > 0; i--) {
		size_t j = below(&state, i);
		struct cvb_chase_line *t = lines[i].next;

		lines[i].next = lines[j].next;
		lines[j].next = t;
	}
}

int cvb_chase_check(const struct cvb_chase_line *lines, size_t n, struct cvb_err *err)
{
	const struct cvb_chase_line *p = lines;

	/* coming back to the start for the first time after n steps means n different lines */
	for (size_t steps = 1; steps <= n; steps++) {
		uintptr_t offset = (uintptr_t)p->next - (uintptr_t)lines;

		if (offset >= n * sizeof(*lines) || offset % sizeof(*lines))
			return cvb_err_set(err, -EBADMSG,
					   "line %zu of the chain points outside the buffer",
					   (size_t)(p - lines));
		p = p->next;
		if (p == lines && steps < n)
			return cvb_err_set(err, -EBADMSG,
					   "the chain visits %zu of %zu lines and comes back",
					   steps, n);
	}
	if (p != lines)
		return cvb_err_set(err, -EBADMSG, "the chain does not come back after %zu lines",
				   n);
	return 0;
}
