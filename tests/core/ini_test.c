/* SPDX-License-Identifier: Apache-2.0 */
/* INI text: what is handed on, and the message for each way to get a line wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/file.h"
#include "core/ini.h"
#include "core/util.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* What was handed on, one line each: "1 [name]", "2 key=value"; "bad" is refused. */
struct seen {
	char text[4096];
	size_t used;
};

static void note(struct seen *s, const char *text, unsigned line)
{
	int n = snprintf(s->text + s->used, sizeof(s->text) - s->used, "%u %s\n", line, text);

	assert_true(n > 0 && s->used + (size_t)n < sizeof(s->text));
	s->used += (size_t)n;
}

static int on_section(void *ctx, const char *name, unsigned line, struct cvb_err *err)
{
	_cleanup_free_ char *text = cvb_strf("[%s]", name);

	if (!strcmp(name, "bad"))
		return cvb_err_set(err, -EINVAL, "a bad section");
	note(ctx, text, line);
	return 0;
}

static int on_key(void *ctx, const char *key, const char *value, unsigned line, struct cvb_err *err)
{
	_cleanup_free_ char *text = cvb_strf("%s=%s", key, value);

	if (!strcmp(key, "bad"))
		return cvb_err_set(err, -ERANGE, "a bad key");
	note(ctx, text, line);
	return 0;
}

static const struct cvb_ini_ops ops = {.section = on_section, .key = on_key};

static int parse(const char *text, struct seen *s, char *why, size_t why_bytes)
{
	struct cvb_err err = {0};
	int r;

	*s = (struct seen){0};
	r = cvb_ini_parse(text, "x.ini", &ops, s, &err);
	cvb_err_text(&err, why, why_bytes);
	return r;
}

#define LONG_NAME "a-name-that-is-longer-than-the-fifty-characters-that-inih-keeps-of-it"

static void sections_keys_and_lines(void **state)
{
	static const struct {
		const char *text, *seen;
	} good[] = {
		{"", ""},
		{"\n; c\n# c\n", ""},
		{"[a]", "1 [a]\n"},
		{"[a]\n[b]\n", "1 [a]\n2 [b]\n"}, /* without keys */
		{"[a]\nk=v\nk2 : v : w ; comment\nk3 =\n", "1 [a]\n2 k=v\n3 k2=v : w\n4 k3=\n"},
		{"[a]\n\n  k = v # kept;kept  \n\n\tk2 = 1\n",
		 "1 [a]\n3 k=v # kept;kept\n5 k2=1\n"},
		{"[a] ; why\nk=1\n[b]# why\nk=2\n", "1 [a]\n2 k=1\n3 [b]\n4 k=2\n"},
		{"\xef\xbb\xbf[a]\r\nk = v\r\n", "1 [a]\n2 k=v\n"},
		{"[" LONG_NAME "1]\nk=1\n[" LONG_NAME "2]\nk=2\n",
		 "1 [" LONG_NAME "1]\n2 k=1\n3 [" LONG_NAME "2]\n4 k=2\n"},
		{"[a]\nk = \xc3\xa9", "1 [a]\n2 k=\xc3\xa9\n"},
	};
	struct seen s;
	char why[1024];

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(good); i++) {
		if (parse(good[i].text, &s, why, sizeof(why)) != 0)
			fail_msg("\"%s\": %s", good[i].text, why);
		assert_string_equal(s.text, good[i].seen);
	}
}

static void each_mistake_has_its_place(void **state)
{
	static const struct {
		const char *text, *says;
		int r;
	} bad[] = {
		{"[a]\nk=1\n\nk=2\n", "x.ini:4: [a]: k is there twice: first in line 2", -EINVAL},
		{"[a]\nk=1\n[b]\nk=1\n[a]\n", "x.ini:5: [a] is there twice: first in line 1",
		 -EINVAL},
		{"; c\nk=1\n[a]\n", "x.ini:2: k stands before any [section]", -EINVAL},
		{"[a]\njust words\n", "x.ini:2: expected [section], key = value or a comment",
		 -EINVAL},
		/* the first of two */
		{"[a]\njust words\n[bad]\n", "x.ini:2: expected [section], key", -EINVAL},
		{"[a]\n[bad]\njust words\n", "x.ini:2: a bad section", -EINVAL},
		{"[a\nk=1\n", "x.ini:1: expected [section], key", -EINVAL},
		{"[a] b\n", "x.ini:1: [a]: only a comment may stand behind", -EINVAL},
		{"[a]\n\nbad = 1\n", "x.ini:3: [a]: a bad key", -ERANGE},
		{"[a]\nk = \xff\xfe\n", "x.ini:2: the line is not UTF-8 text", -EINVAL},
		{"[\xff]\n", "x.ini:1: the line is not UTF-8 text", -EINVAL},
	};
	struct seen s;
	char why[1024];

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
		int r = parse(bad[i].text, &s, why, sizeof(why));

		if (r != bad[i].r || strncmp(why, bad[i].says, strlen(bad[i].says)) != 0)
			fail_msg("%d, \"%s\" is not \"%s\"", r, why, bad[i].says);
	}
}

static void a_line_is_whole_or_refused(void **state)
{
	char text[512], why[1024];
	unsigned longest = 0;
	struct seen s;

	(void)state;
	for (unsigned n = 10; n < 400; n++) {
		int used = snprintf(text, sizeof(text), "[a]\nk = ");

		memset(text + used, 'x', n);
		text[(unsigned)used + n] = '\0';
		if (parse(text, &s, why, sizeof(why)) == 0) {
			assert_true(n == 10 || longest == n - 1);
			assert_int_equal(s.used, strlen("1 [a]\n2 k=\n") + n);
			longest = n;
		} else {
			assert_non_null(strstr(why, "x.ini:2: the line is longer than"));
		}
	}
	assert_true(longest >= 150);
}

static int read_text(const char *path, bool follow, char *why, size_t why_bytes)
{
	_cleanup_free_ char *text = NULL;
	struct cvb_err err = {0};
	int r = cvb_ini_read(path, follow, &text, &err);

	assert_true((r == 0) == (text != NULL));
	cvb_err_text(&err, why, why_bytes);
	return r;
}

static void a_file_that_cannot_be_one_is_bad_input(void **state)
{
	char dir[] = "/tmp/cvb-ini-XXXXXX", path[64], link_path[64], why[1024];
	_cleanup_free_ char *big = calloc(1, CVB_INI_MAX_BYTES + 1);

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/x.ini", dir);
	snprintf(link_path, sizeof(link_path), "%s/link.ini", dir);
	assert_int_equal(symlink(path, link_path), 0);
	memset(big, '\n', CVB_INI_MAX_BYTES + 1);
	const struct {
		const char *data;
		size_t bytes;
		const char *says; /* NULL: good */
	} files[] = {
		{"[a]\n", 4, NULL},
		{big, CVB_INI_MAX_BYTES, NULL},
		{big, CVB_INI_MAX_BYTES + 1, "x.ini is larger than 1048576 bytes"},
		{"", 0, "x.ini is empty"},
		{"[a]\n[b]\0\n[c]\n", 13, "x.ini:2: a NUL byte is no text"},
	};

	for (size_t i = 0; i < CVB_ARRAY_LEN(files); i++) {
		assert_int_equal(cvb_file_write(path, files[i].data, files[i].bytes, NULL), 0);
		assert_int_equal(read_text(path, true, why, sizeof(why)),
				 files[i].says ? -EINVAL : 0);
		if (files[i].says && !strstr(why, files[i].says))
			fail_msg("\"%s\" does not say \"%s\"", why, files[i].says);
	}
	assert_int_equal(cvb_file_write(path, "[a]\n", 4, NULL), 0);
	assert_int_equal(read_text(link_path, true, why, sizeof(why)), 0);
	assert_int_equal(read_text(link_path, false, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "is a link"));
	assert_int_equal(read_text(dir, true, why, sizeof(why)), -EINVAL);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(read_text(path, true, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "No such file"));
	assert_int_equal(cvb_remove_tree(dir), 0);
}

static void an_unknown_word_is_told_the_nearest_or_all(void **state)
{
	static const char *const few[] = {"model", "serving", NULL};
	static const struct {
		const char *what, *word, *says;
	} table[] = {
		{"section", "modle", "unknown section [modle]; did you mean [model]?"},
		{"section", "qqqqqq", "unknown section [qqqqqq]: expected [model] or [serving]"},
		{"key", "servin", "unknown key servin; did you mean serving?"},
		{"key", "qqqqqq", "unknown key qqqqqq: expected model or serving"},
	};
	const char *many[41] = {NULL};
	struct cvb_err err = {0};
	char why[1024];

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(table); i++) {
		assert_int_equal(cvb_ini_unknown(table[i].what, table[i].word, few, &err), -EINVAL);
		cvb_err_text(&err, why, sizeof(why));
		assert_string_equal(why, table[i].says);
	}
	for (size_t i = 0; i < 40; i++)
		many[i] = "a-name-of-some-length";
	assert_int_equal(cvb_ini_unknown("key", "qqqqqq", many, &err), -EINVAL);
	cvb_err_text(&err, why, sizeof(why));
	assert_string_equal(why + strlen(why) - strlen("…"), "…");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sections_keys_and_lines),
		cmocka_unit_test(each_mistake_has_its_place),
		cmocka_unit_test(a_line_is_whole_or_refused),
		cmocka_unit_test(a_file_that_cannot_be_one_is_bad_input),
		cmocka_unit_test(an_unknown_word_is_told_the_nearest_or_all),
	};

	return cmocka_run_group_tests_name("core/ini", tests, NULL, NULL);
}
