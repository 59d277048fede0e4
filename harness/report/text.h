/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts from guests, profiles and journals made safe to show.
 *
 * Such text may try to be markup, terminal escapes, plot commands or invisible direction changes.
 * Everything a report prints goes through one of these.
 */
#ifndef CVB_REPORT_TEXT_H
#define CVB_REPORT_TEXT_H

#include <stddef.h>
#include <stdio.h>

/*
 * For a terminal or a plain file: control characters (C0, DEL, C1), line breaks, bidirectional and
 * other invisible format characters and bytes that are not UTF-8 become '?' (white space becomes a
 * space); at most `max_chars` characters, then "...".  Fresh memory; NULL when memory is out.
 */
char *cvb_text_plain(const char *s, size_t max_chars);

/* The same, with & < > " ' as entities, written to `f`.  NULL is written as nothing. */
void cvb_text_html(FILE *f, const char *s);

/*
 * One field of a gnuplot data file, in double quotes: only printable ASCII without quote, backslash
 * and the characters gnuplot could take for markup.  At most `max_chars`.
 */
void cvb_text_gnuplot(FILE *f, const char *s, size_t max_chars);

/* How many columns a text made by cvb_text_plain takes, one per character. */
size_t cvb_text_columns(const char *s);

#endif
