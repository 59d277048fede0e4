/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the profile*.c files.
 *
 *   profile.c        the keys of each section, load and free
 *   profile_read.c   text into a profile, line by line
 *   profile_check.c  what only the whole can tell: arms that exist, metrics that are measured
 */
#ifndef CVB_CAMPAIGN_PROFILE_PART_H
#define CVB_CAMPAIGN_PROFILE_PART_H

#include "campaign/profile.h"

extern const struct cvb_opt cvb_profile_opts[];
extern const struct cvb_opt cvb_profile_bench_opts[];
extern const struct cvb_opt cvb_profile_gate_opts[];

/* Letters, digits, '.', '_' and '-', at most 63; begins with a letter or digit. */
bool cvb_profile_good_name(const char *name);

/* p->text into p; messages with file and line. */
CVB_MUST_CHECK int cvb_profile_parse(struct cvb_profile *p, struct cvb_err *err);

/* Everything that one line cannot tell.  Fills in arm masks, looks and defaulted bases. */
CVB_MUST_CHECK int cvb_profile_check(struct cvb_profile *p, struct cvb_err *err);

/* What no campaign is to plan any more, though older ones could: not for a bundle's copy. */
CVB_MUST_CHECK int cvb_profile_check_plan(const struct cvb_profile *p, struct cvb_err *err);

/* Names in gates' params that their benchmark cannot have.  Not for a bundle's copy: what was
 * measured there is in its journal, by the names of its day. */
CVB_MUST_CHECK int cvb_profile_check_params(const struct cvb_profile *p, struct cvb_err *err);

#endif
