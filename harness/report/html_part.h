/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the html*.c files: one page being written.
 */
#ifndef CVB_REPORT_HTML_PART_H
#define CVB_REPORT_HTML_PART_H

#include "campaign/model.h"
#include "core/err.h"
#include "core/util.h"

#include <stdio.h>

struct cvb_page {
	FILE *f;
	const struct cvb_model *m;
	const json_t *verdicts;
	char *tmp_dir;	      /* absolute; data files of pictures */
	unsigned pictures;    /* numbers them */
	uint64_t pictures_ns; /* what gnuplot may still take */
	size_t pictures_bytes;
	bool pictures_full; /* there are as many as a page may have, which it has said */
	size_t rows;	    /* of tables of series, so far */
	char *no_pictures;  /* why there are none, said once at the top; NULL: there are */
};

/* What a page may hold: a hostile journal can ask for half a million rows, and no one reads more
 * than these.  What is left out is told in its place. */
#define CVB_PAGE_PICTURES	200
#define CVB_PAGE_PICTURES_NS	(300 * CVB_NS_PER_S)
#define CVB_PAGE_PICTURES_BYTES (32 * CVB_MIB)
#define CVB_PAGE_ROWS		10000 /* in all tables of series */
#define CVB_PAGE_AA_ROWS	1000
#define CVB_PAGE_CELL_CHARS	2000

extern const char cvb_html_style[]; /* the page's CSS */

/* Markup as it is (ours), and text from elsewhere (escaped). */
void cvb_page_raw(struct cvb_page *p, const char *markup);
void cvb_page_text(struct cvb_page *p, const char *text);
/* Formatted, then escaped. */
void cvb_page_textf(struct cvb_page *p, const char *fmt, ...) CVB_PRINTF(2, 3);
/* "<TAG>text</TAG>" with the text escaped. */
void cvb_page_element(struct cvb_page *p, const char *tag, const char *text);

/* Anything with three or more significant digits as people write ratios: "0.984", "12.3"; NaN "-".
 */
const char *cvb_ratio_text(double x, char *buf, size_t buf_bytes);

/*
 * A picture: `data` written to a file whose path takes the place of args[0] (and `labels`, if not
 * NULL, that of args[1]).  A failure leaves a note in the picture's place.  -errno only when memory
 * or disk is out.
 */
CVB_MUST_CHECK int cvb_page_picture(struct cvb_page *p, const char *script, const char *args[],
				    const char *data, const char *labels, const char *alt,
				    struct cvb_err *err);

CVB_MUST_CHECK int cvb_page_verdicts(struct cvb_page *p, struct cvb_err *err);
CVB_MUST_CHECK int cvb_page_metrics(struct cvb_page *p, struct cvb_err *err);
CVB_MUST_CHECK int cvb_page_arms(struct cvb_page *p, struct cvb_err *err);

#endif
