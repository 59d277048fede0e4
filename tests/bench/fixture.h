/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the benchmark tests share: captured output of real programs, and spoilt copies of it.
 */
#ifndef CVB_TESTS_BENCH_FIXTURE_H
#define CVB_TESTS_BENCH_FIXTURE_H

#include "core/file.h"
#include "core/util.h"

/* cmocka.h needs these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

/* The text of tests/fixtures/NAME; caller frees. */
static __attribute__((noinline, unused)) char *fixture_read(const char *name)
{
	_cleanup_free_ char *rel = cvb_strf("tests/fixtures/%s", name);
	struct cvb_err err = {0};
	char *text = NULL;

	assert_non_null(rel);
	_cleanup_free_ char *path = cvb_data_path(rel, &err);

	if (!path || cvb_file_read(path, CVB_MIB, &text, NULL, &err) < 0)
		fail_msg("fixture %s: %s", name, err.frame[0].msg);
	return text;
}

/* A copy of `text` with the first `from` after the first `after` replaced by `to`; caller frees. */
static inline char *spoil(const char *text, const char *after, const char *from, const char *to)
{
	const char *start = strstr(text, after);
	const char *hit = start ? strstr(start, from) : NULL;

	if (!hit)
		fail_msg("the fixture has no \"%s\" after \"%s\"", from, after);
	return cvb_strf("%.*s%s%s", (int)(hit - text), text, to, hit + strlen(from));
}

/* The error must say this, so that a person finds the place. */
static inline void assert_says(const struct cvb_err *err, const char *part)
{
	char text[2048];

	cvb_err_text(err, text, sizeof(text));
	if (!strstr(text, part))
		fail_msg("\"%s\" does not say \"%s\"", text, part);
}

#endif
