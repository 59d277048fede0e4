/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bundle: the folder one campaign leaves.  Everything below is made again from journal.jsonl and
 * profile.ini alone.
 */
#ifndef CVB_REPORT_BUNDLE_H
#define CVB_REPORT_BUNDLE_H

#include "campaign/model.h"
#include "core/err.h"

#include <jansson.h>
#include <stdio.h>

#define CVB_BUNDLE_JOURNAL  "journal.jsonl"
#define CVB_BUNDLE_PROFILE  "profile.ini"
#define CVB_BUNDLE_VERDICTS "verdicts.json"
#define CVB_BUNDLE_HTML	    "report.html"

/* BUNDLE/name in fresh memory; NULL when memory is out. */
char *cvb_bundle_path(const char *bundle_dir, const char *name);

/* A line that tells where the page is; the name is made safe. */
void cvb_bundle_print_page(FILE *out, const char *bundle_dir);

/*
 * Judge a bundle: read its profile and journal, write verdicts.json.  New references in
 * *ret_verdicts and *ret_model; either may be NULL.
 */
CVB_MUST_CHECK int cvb_bundle_judge(const char *bundle_dir, json_t **ret_verdicts,
				    struct cvb_model **ret_model, struct cvb_err *err);

#endif
