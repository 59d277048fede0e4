/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/plan.h"

#include "core/clock.h"
#include "core/err.h"
#include "core/util.h"

#include <sys/random.h>

/* splitmix64 (Steele, Lea, Flood 2014): a stream for each (seed, session, bench, block). */
static uint64_t next(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t stream(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t s = seed;

	s ^= next(&(uint64_t){a + 1});
	s = next(&s) ^ next(&(uint64_t){(b + 1) << 20});
	s = next(&s) ^ next(&(uint64_t){(c + 1) << 40});
	return s;
}

/* Unbiased number in [0, n). */
static uint64_t below(uint64_t *state, uint64_t n)
{
	uint64_t limit = UINT64_MAX - UINT64_MAX % n, v;

	do
		v = next(state);
	while (v >= limit);
	return v % n;
}

static void shuffle(uint64_t *state, size_t n, size_t *v)
{
	for (size_t i = 0; i < n; i++)
		v[i] = i;
	for (size_t i = n; i > 1; i--) {
		size_t j = (size_t)below(state, i), t = v[i - 1];

		v[i - 1] = v[j];
		v[j] = t;
	}
}

void cvb_plan_round(uint64_t seed, uint64_t session, uint64_t bench, uint64_t round, size_t n,
		    size_t *order)
{
	/* two arms need no square: each pair of rounds is a coin flip of its own */
	size_t block = n > 2 ? n : 1;
	uint64_t pair = round / 2, state = stream(seed, session, bench, pair / block);
	size_t arms[64], rows[64];

	CVB_BUG_ON(n > CVB_ARRAY_LEN(arms));
	shuffle(&state, n, arms);
	shuffle(&state, block, rows);
	/* row r of the cyclic square is the arms turned by r; the odd round is its mirror image */
	for (size_t i = 0; i < n; i++)
		order[round % 2 ? n - 1 - i : i] = arms[(i + rows[pair % block]) % n];
}

void cvb_plan_benches(uint64_t seed, uint64_t session, size_t n, size_t *order)
{
	uint64_t state = stream(seed, session, UINT64_C(0xffffffff), 0);

	shuffle(&state, n, order);
}

uint64_t cvb_plan_new_seed(void)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		seed = cvb_now_ns();
	return seed >> 11;
}
