/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pictures: gnuplot run by argv, its SVG made fit to stand inside a page.
 */
#ifndef CVB_REPORT_PLOT_H
#define CVB_REPORT_PLOT_H

#include "core/err.h"

#define CVB_GNUPLOT_PACKAGE "gnuplot-nox"

#define CVB_PLOT_TIMEOUT_MS 30000 /* one picture takes a quarter of a second */

/*
 * Run `gnuplot -d -c plots/SCRIPT ARGS…` and return its SVG, made inline by cvb_svg_inline, in
 * fresh memory.  `args` ends with NULL, at most 9 of them.  -EOPNOTSUPP without gnuplot; -EIO with
 * what it printed when it failed; -ETIMEDOUT after `timeout_ms`.
 */
CVB_MUST_CHECK int cvb_plot_run(const char *script, const char *const args[], unsigned number,
				const char *alt, unsigned timeout_ms, char **ret_svg,
				struct cvb_err *err);

/*
 * Make gnuplot's SVG fit to be one of many in a page: no XML prolog, titles or descriptions (they
 * would pop up as tool tips), every id prefixed by "p<number>-" (gnuplot uses the same ones in each
 * picture), black drawn in the page's own text colour (dark pages), `alt` as its label.
 * -EBADMSG if it is not an SVG or holds anything active (script, foreignObject, event handlers,
 * references outside of itself).
 */
CVB_MUST_CHECK int cvb_svg_inline(const char *raw, unsigned number, const char *alt, char **ret_svg,
				  struct cvb_err *err);

#endif
