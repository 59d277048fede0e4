/* SPDX-License-Identifier: Apache-2.0 */
/* Option tables: what a user types, what a program gets, what the message says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/opt.h"

#include <errno.h>
#include <string.h>

struct conf {
	bool flag;
	uint64_t count, size;
	double ratio;
	char *text;
	int word;
	char **list;
};

static const char *const words[] = {"red", "green", NULL};

static const struct cvb_opt table[] = {
	{.name = "flag",
	 .letter = 'f',
	 .type = CVB_OPT_FLAG,
	 .offset = offsetof(struct conf, flag),
	 .help = "a flag"},
	{.name = "count",
	 .letter = 'c',
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct conf, count),
	 .def = "3",
	 .min = 1,
	 .max = 10,
	 .help = "a count"},
	{.name = "size",
	 .type = CVB_OPT_SIZE,
	 .offset = offsetof(struct conf, size),
	 .def = "64KiB",
	 .min = 1,
	 .max = 1024.0 * 1024,
	 .help = "a size"},
	{.name = "ratio",
	 .type = CVB_OPT_DOUBLE,
	 .offset = offsetof(struct conf, ratio),
	 .def = "0.5",
	 .min = 0.25,
	 .max = 1,
	 .help = "a ratio"},
	{.name = "text",
	 .type = CVB_OPT_STR,
	 .offset = offsetof(struct conf, text),
	 .help = "text"},
	{.name = "word",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct conf, word),
	 .def = "green",
	 .choices = words,
	 .help = "a word"},
	{.name = "list",
	 .letter = 'l',
	 .type = CVB_OPT_LIST,
	 .offset = offsetof(struct conf, list),
	 .help = "a list"},
	CVB_OPT_END,
};

static int parse(struct conf *c, int *n, struct cvb_err *err, int argc, const char *const *argv)
{
	char *pos[16];
	int r;

	memset(c, 0, sizeof(*c));
	r = cvb_opts_defaults(table, c, err);
	assert_int_equal(r, 0);
	return cvb_opts_parse(table, c, argc, (char **)(uintptr_t)argv, false, pos, n, err);
}

static void all_forms_are_read(void **state)
{
	const char *const argv[] = {"a",       "--count=7", "-f",	"--size", "1MiB",
				    "--ratio", "0.75",	    "--word",	"red",	  "-lone",
				    "-l",      "two",	    "--text=x", "--",	  "--no-option"};
	struct cvb_err err = {0};
	struct conf c;
	int n;

	(void)state;
	assert_int_equal(parse(&c, &n, &err, 15, argv), 0);
	assert_int_equal(n, 2); /* "a" and what follows "--" */
	assert_true(c.flag);
	assert_int_equal(c.count, 7);
	assert_int_equal(c.size, 1 << 20);
	assert_true(c.ratio > 0.74 && c.ratio < 0.76);
	assert_int_equal(c.word, 0);
	assert_string_equal(c.list[0], "one");
	assert_string_equal(c.list[1], "two");
	assert_null(c.list[2]);
	assert_string_equal(c.text, "x");
	cvb_opts_done(table, &c);
}

static void defaults_hold(void **state)
{
	struct cvb_err err = {0};
	struct conf c;
	int n;

	(void)state;
	assert_int_equal(parse(&c, &n, &err, 0, NULL), 0);
	assert_int_equal(c.count, 3);
	assert_int_equal(c.size, 65536);
	assert_int_equal(c.word, 1);
	assert_null(c.text);
	cvb_opts_done(table, &c);
}

/* Each bad input, and a word that the message must have. */
static void bad_input_is_told(void **state)
{
	static const struct {
		const char *arg, *says;
	} bad[] = {
		{"--cuont=3", "did you mean --count"},
		{"--nothinglike", "unknown option"},
		{"--count=11", "1 to 10"},
		{"--count=-1", "whole number"},
		{"--count=3x", "whole number"},
		{"--count=99999999999999999999999", "whole number"},
		{"--size=12 parsecs", "size such as"},
		{"--size=2MiB", "1 B to 1 MiB"},
		{"--size=99999999999TiB", "size such as"},
		{"--ratio=nan", "number"},
		{"--ratio=inf", "number"},
		{"--ratio=0.1", "0.25 to 1"},
		{"--word=blue", "red, green"},
		{"--flag=maybe", "on or off"},
		{"--count", "needs a value"},
		{"-z", "unknown option -z"},
		{"-fx", "takes no value"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *const argv[] = {bad[i].arg};
		struct cvb_err err = {0};
		char text[1024];
		struct conf c;
		int n;

		assert_int_equal(parse(&c, &n, &err, 1, argv), -EINVAL);
		cvb_err_text(&err, text, sizeof(text));
		if (!strstr(text, bad[i].says))
			fail_msg("%s: \"%s\" does not say \"%s\"", bad[i].arg, text, bad[i].says);
		assert_int_equal(cvb_err_exit(err.code), CVB_EXIT_USAGE);
		cvb_opts_done(table, &c);
	}
}

static void json_has_every_value(void **state)
{
	struct cvb_err err = {0};
	struct conf c;
	json_t *j;
	int n;

	(void)state;
	assert_int_equal(parse(&c, &n, &err, 0, NULL), 0);
	j = cvb_opts_to_json(table, &c);
	assert_int_equal(json_integer_value(json_object_get(j, "size")), 65536);
	assert_string_equal(json_string_value(json_object_get(j, "word")), "green");
	assert_true(json_is_null(json_object_get(j, "text")));
	json_decref(j);
	cvb_opts_done(table, &c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_forms_are_read),
		cmocka_unit_test(defaults_hold),
		cmocka_unit_test(bad_input_is_told),
		cmocka_unit_test(json_has_every_value),
	};

	return cmocka_run_group_tests_name("core/opt", tests, NULL, NULL);
}
