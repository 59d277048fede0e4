/* SPDX-License-Identifier: Apache-2.0 */
/* Hostile texts on their way to a terminal, a page and a plot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/util.h"
#include "report/text.h"

#include <string.h>

static void assert_plain(const char *in, const char *want)
{
	_cleanup_free_ char *out = cvb_text_plain(in, 40);

	assert_string_equal(out, want);
}

static void plain(void **state)
{
	(void)state;
	assert_plain("hello, world", "hello, world");
	assert_plain("", "");
	assert_plain(NULL, "");
	assert_plain("a\033[31mb", "a?[31mb");
	assert_plain("a\nb\tc\rd", "a b c d");
	assert_plain("bell\a del\x7f", "bell? del?");
	assert_plain("c1 \xc2\x9b end", "c1 ? end");	     /* U+009B, one-byte CSI */
	assert_plain("bidi \xe2\x80\xae txt", "bidi ? txt"); /* U+202E */
	assert_plain("zero\xe2\x80\x8bwidth", "zero?width"); /* U+200B */
	assert_plain("\xef\xbb\xbf"
		     "bom",
		     "?bom");					  /* U+FEFF */
	assert_plain("tag \xf3\xa0\x81\x81", "tag ?");		  /* U+E0041 */
	assert_plain("gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"); /* letters stay */
	assert_plain("what?", "what?");
}

static void broken_utf8(void **state)
{
	(void)state;
	assert_plain("\xff", "?");
	assert_plain("a\xc3", "a?"); /* cut off */
	assert_plain("\xe2\x82", "??");
	assert_plain("\xc0\xaf", "??");		  /* overlong '/' */
	assert_plain("\xed\xa0\x80", "???");	  /* surrogate */
	assert_plain("\xf4\x90\x80\x80", "????"); /* beyond U+10FFFF */
}

static void long_texts_are_cut(void **state)
{
	_cleanup_free_ char *out = cvb_text_plain("\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc", 3);

	(void)state;
	assert_string_equal(out, "\xc3\xbc\xc3\xbc\xc3\xbc...");
	assert_int_equal(cvb_text_columns(out), 6);
}

static char *through(void (*fn)(FILE *, const char *), const char *in)
{
	char *out = NULL;
	size_t bytes;
	FILE *f = open_memstream(&out, &bytes);

	assert_non_null(f);
	fn(f, in);
	fclose(f);
	return out;
}

static void html(void **state)
{
	_cleanup_free_ char *out =
		through(cvb_text_html, "<script>alert('x' & \"y\")</script>\033");

	(void)state;
	assert_string_equal(out, "&lt;script&gt;alert(&#39;x&#39; &amp; &quot;y&quot;)"
				 "&lt;/script&gt;?");
}

static void put_gnuplot(FILE *f, const char *s)
{
	cvb_text_gnuplot(f, s, 60);
}

static void gnuplot(void **state)
{
	_cleanup_free_ char *out = through(
		put_gnuplot, "a\"; system \"rm\" `id` @x $y {/Bold z}\\n a_b 50%|<cat \xc3\xbc");

	(void)state;
	assert_int_equal(out[0], '"');
	assert_int_equal(out[strlen(out) - 1], '"');
	assert_int_equal(strcspn(out + 1, "\"\\`@${}%|<\n"), strlen(out) - 2);
	for (const char *s = out; *s; s++)
		assert_in_range(*s, 0x20, 0x7e);
	assert_non_null(strstr(out, "a_b"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(broken_utf8),
		cmocka_unit_test(long_texts_are_cut),
		cmocka_unit_test(html),
		cmocka_unit_test(gnuplot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
