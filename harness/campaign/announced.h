/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The different series that arms have announced in a campaign.
 *
 * A guest may announce other series in every session, and what reads the journal takes
 * CVB_MODEL_MAX_SERIES of them in all: beyond, the report and a resumed campaign would refuse the
 * whole bundle for what one guest said.  So each benchmark has an equal share of these, whatever
 * the number of arms and sessions, and an arm that asks for more than is left of it fails that
 * benchmark.  A share is 512 and more with up to 32 benchmarks; gpu.copy, which has most, has 312.
 */
#ifndef CVB_CAMPAIGN_ANNOUNCED_H
#define CVB_CAMPAIGN_ANNOUNCED_H

#include "core/err.h"

/* Zero-initialise but for `most`; done frees. */
struct cvb_announced {
	size_t most;	/* of one benchmark */
	json_t *series; /* benchmark -> {metric and parameters: true} */
};

/* The share of each of n benchmarks. */
size_t cvb_announced_share(size_t n_benches);

/* Add those of `series` (objects with "metric" and "params") that are not known yet, all or none:
 * -E2BIG when there are too many, -ENOMEM. */
CVB_MUST_CHECK int cvb_announced_add(struct cvb_announced *a, const char *bench,
				     const json_t *series, struct cvb_err *err);

void cvb_announced_done(struct cvb_announced *a);

#endif
