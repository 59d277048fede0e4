/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options that are lists: "1,4" and "send,receive".
 */
#ifndef CVB_BENCH_NET_WORDLIST_H
#define CVB_BENCH_NET_WORDLIST_H

#include "core/err.h"

#include <stdint.h>

#define CVB_LIST_MAX 16

struct cvb_list {
	uint64_t v[CVB_LIST_MAX];
	size_t n;
};

/* Decimal numbers within [min, max], in the order given.  -EINVAL names the option `what` for an
 * empty list, a bad or repeated entry, or more than CVB_LIST_MAX. */
CVB_MUST_CHECK int cvb_list_numbers(struct cvb_list *ret, const char *what, const char *text,
				    uint64_t min, uint64_t max, struct cvb_err *err);

/* Words of `names` (NULL-terminated) as their indices. */
CVB_MUST_CHECK int cvb_list_words(struct cvb_list *ret, const char *what, const char *text,
				  const char *const *names, struct cvb_err *err);

#endif
