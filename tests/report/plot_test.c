/* SPDX-License-Identifier: Apache-2.0 */
/* gnuplot's SVG made fit for a page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/util.h"
#include "report/plot.h"

#include <errno.h>
#include <string.h>

#define PROLOG                                                                                     \
	"<?xml version=\"1.0\"?>\n<svg viewBox=\"0 0 8 3\"\n xmlns=\"http://www.w3.org/2000/svg\">"

static void ids_and_colours(void **state)
{
	struct cvb_err err = {0};
	_cleanup_free_ char *a = NULL, *b = NULL;
	const char *raw = PROLOG "<title>Gnuplot</title><desc>Produced by</desc>"
				 "<defs><circle id='gpDot' r='1'/></defs>"
				 "<use xlink:href='#gpDot' color=\"black\" fill=\"black\"/>"
				 "<g filter=\"url(#textbox)\" id=\"x\" stroke='black'/></svg>";

	(void)state;
	assert_int_equal(cvb_svg_inline(raw, 1, "A <b>", &a, &err), 0);
	assert_int_equal(cvb_svg_inline(raw, 2, "B", &b, &err), 0);
	assert_memory_equal(a, "<svg role=\"img\" aria-label=\"A &lt;b&gt;\" viewBox", 47);
	assert_non_null(strstr(a, "<circle id='p1-gpDot'"));
	assert_non_null(strstr(a, "xlink:href='#p1-gpDot'"));
	assert_non_null(strstr(a, "url(#p1-textbox)"));
	assert_non_null(strstr(b, "id=\"p2-x\""));
	assert_null(strstr(a, "title"));
	assert_null(strstr(a, "Produced"));
	assert_null(strstr(a, "\"black\""));
	assert_null(strstr(a, "'black'"));
	assert_null(strstr(a, "<?xml"));
}

static void active_content_is_refused(void **state)
{
	static const char *const inner[] = {
		"<script>x</script>",
		"<SCRIPT/>",
		"<foreignObject/>",
		"<g onclick=\"x\"/>",
		"<a xlink:href=\"http://x/\"/>",
		"<use href='data:x'/>",
		"<style>x</style>",
		"<image/>",
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(inner); i++) {
		_cleanup_free_ char *raw = cvb_strf("%s%s</svg>", PROLOG, inner[i]);
		_cleanup_free_ char *out = NULL;

		if (cvb_svg_inline(raw, 1, "", &out, NULL) != -EBADMSG)
			fail_msg("accepted %s", inner[i]);
	}
}

static void not_an_svg(void **state)
{
	char *out = NULL;

	(void)state;
	assert_int_equal(cvb_svg_inline("", 1, "", &out, NULL), -EBADMSG);
	assert_int_equal(cvb_svg_inline(PROLOG "<g>", 1, "", &out, NULL), -EBADMSG); /* cut off */
	assert_null(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_and_colours),
		cmocka_unit_test(active_content_is_refused),
		cmocka_unit_test(not_an_svg),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
