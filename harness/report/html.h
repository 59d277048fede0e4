/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.html: one self-contained page of a bundle.  No script, nothing fetched from elsewhere.
 */
#ifndef CVB_REPORT_HTML_H
#define CVB_REPORT_HTML_H

#include "core/err.h"

#include <jansson.h>

/*
 * Judge the bundle (verdicts.json is written too) and render BUNDLE/report.html, whole or not at
 * all. Without gnuplot the page has its tables and says which package is missing.  *ret_verdicts,
 * unless ret_verdicts is NULL, is what verdicts.json holds; a new reference.
 */
CVB_MUST_CHECK int cvb_report_html(const char *bundle_dir, json_t **ret_verdicts,
				   struct cvb_err *err);

#endif
