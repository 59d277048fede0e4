/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.html: one self-contained page of a bundle.  No script, nothing fetched from elsewhere.
 */
#ifndef CVB_REPORT_HTML_H
#define CVB_REPORT_HTML_H

#include "core/err.h"

/*
 * Judge the bundle (verdicts.json is written too) and render BUNDLE/report.html, whole or not at
 * all. Without gnuplot the page has its tables and says which package is missing.
 */
CVB_MUST_CHECK int cvb_report_html(const char *bundle_dir, struct cvb_err *err);

#endif
