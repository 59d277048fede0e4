/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A campaign: sessions of fresh arms, rounds in balanced random order, everything into the journal.
 */
#ifndef CVB_CAMPAIGN_CAMPAIGN_H
#define CVB_CAMPAIGN_CAMPAIGN_H

#include "campaign/profile.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Run (or resume) a campaign into the folder `bundle`:
 *
 *   profile.ini     the recipe, as it was
 *   manifest.json   tool, host, seed
 *   journal.jsonl   what happened
 *   console/        serial console of each guest's start
 *
 * `seed` is not looked at when resuming: the journal has it.  The folder must not hold a campaign
 * unless `resume`.  0 when all sessions are complete; else the first error, after the journal was
 * closed with an "abort" line and everything started was ended.  *ret_measured tells whether it
 * came to measuring at all: before that the folder is as it was.
 */
CVB_MUST_CHECK int cvb_campaign_run(const struct cvb_profile *profile, const char *bundle,
				    uint64_t seed, bool resume, bool *ret_measured,
				    struct cvb_err *err);

#endif
