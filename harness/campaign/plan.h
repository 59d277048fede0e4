/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of measurement: balanced and random, and a pure function of the campaign's seed, so
 * that a resumed campaign goes on exactly where it was.
 *
 * Rounds come in pairs, the second in the reverse order of the first: each arm is before each other
 * arm once, so that a drift within a round cancels in every ratio.  Two arms: ABBA or BAAB by coin
 * flip.  More: the pairs' first rounds are the rows of a randomly permuted cyclic Latin square, so
 * that over 2 n rounds each arm also stands in each position twice.
 */
#ifndef CVB_CAMPAIGN_PLAN_H
#define CVB_CAMPAIGN_PLAN_H

#include <stddef.h>
#include <stdint.h>

/*
 * Order of n arms in a round: order[position] = arm index in [0, n).  `session`, `bench` and
 * `round` from 0.  Ask for all arms of a benchmark and leave out those that rest in a round (A/A):
 * leaving out keeps the others' order, and so the balance of every pair.
 */
void cvb_plan_round(uint64_t seed, uint64_t session, uint64_t bench, uint64_t round, size_t n,
		    size_t *order);

/* Order of the n benchmarks in a session. */
void cvb_plan_benches(uint64_t seed, uint64_t session, size_t n, size_t *order);

/* A seed from the system's random source, below 2^53 so that JSON keeps it exactly. */
uint64_t cvb_plan_new_seed(void);

#endif
