/* SPDX-License-Identifier: Apache-2.0 */
/* Profiles: what is read, and the message for each way to get one wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "campaign/profile.h"
#include "core/file.h"
#include "core/util.h"

#include <errno.h>
#include <string.h>

#define HEAD "[profile]\nsessions = 2\n[arm native]\n[arm aa]\naa_of = native\n"

static char dir[] = "/tmp/cvb-profile-XXXXXX";

static int load(const char *text, struct cvb_profile **p, char *why, size_t why_bytes)
{
	_cleanup_free_ char *path = cvb_strf("%s/p.ini", dir);
	struct cvb_err err = {0};
	int r;

	assert_int_equal(cvb_file_write(path, text, strlen(text), &err), 0);
	r = cvb_profile_load(p, path, &err);
	cvb_err_text(&err, why, why_bytes);
	return r;
}

static void good_profile(void **state)
{
	struct cvb_profile *p = NULL;
	char why[1024];

	(void)state;
	assert_int_equal(load(HEAD
			      "[arm vm]\ntarget = qemu\nmemory = 1GiB\n"
			      "[arm bounce]\n  like = vm\n  bounce = on\n"
			      "[bench null.nop]\n[bench mem.latency]\nmax_size = 1MiB\n"
			      "arms = native, vm\nrounds = 9\n"
			      "[gate g]\nmetric = mem.latency/latency\narm = vm\nbase = native\n"
			      "margin = 0.9\n",
			      &p, why, sizeof(why)),
			 0);
	assert_int_equal(p->sessions, 2);
	assert_int_equal(p->n_arms, 4);
	assert_int_equal(p->arms[3].memory_bytes, CVB_GIB); /* from vm */
	assert_true(p->arms[3].bounce);
	/* a section without keys counts too */
	assert_int_equal(p->n_benches, 2);
	assert_int_equal(p->benches[0].arm_mask, 0xf);
	assert_int_equal(p->benches[1].arm_mask, 0x5);
	assert_int_equal(cvb_profile_rounds(p, 0), 12);
	assert_int_equal(cvb_profile_rounds(p, 1), 9);
	assert_int_equal(cvb_profile_timeout_ms(p, 1), 600000);
	assert_string_equal(json_string_value(json_object_get(p->benches[1].options, "max_size")),
			    "1MiB");
	cvb_profile_free(p);
}

#define GATE_ON(params)                                                                            \
	HEAD "[bench mem.latency]\nmax_size = 1MiB\n[gate g]\nmetric = mem.latency/latency\n"      \
	     "arm = aa\nbase = native\n" params "\n"

/* What a benchmark's cases can have, also where only some options give it; a bundle's copy may be
 * from a time when they had other names. */
static void params_of_gates_are_names_that_there_are(void **state)
{
	_cleanup_free_ char *path = cvb_strf("%s/p.ini", dir);
	struct cvb_profile *p = NULL;
	char why[1024];

	(void)state;
	assert_int_equal(
		load(GATE_ON("params = , size_bytes = 4KiB ,,mem_node=0,"), &p, why, sizeof(why)),
		0);
	cvb_profile_free(p);
	assert_int_equal(load(GATE_ON("params = size=4KiB"), &p, why, sizeof(why)), -EINVAL);
	assert_int_equal(cvb_profile_load_copy(&p, path, NULL), 0);
	cvb_profile_free(p);
}

/* What is judged from the fifth session on, or by a limit alone; a bundle may be older than these
 * rules. */
static void plans_that_were_once_allowed(void **state)
{
	static const char early[] =
		"[profile]\nsessions = 6\nlooks = 4,6\n[arm native]\n[bench null.nop]\n";
	static const char both[] = HEAD "[bench null.nop]\n[gate g]\nmetric = null.nop/cost\n"
					"arm = aa\nkind = absolute\nlimit = 5\nmargin = 0.95\n";
	static const char *const good[] = {
		"[profile]\nsessions = 6\nlooks = 5,6\n[arm native]\n[bench null.nop]\n",
		"[profile]\nsessions = 3\nlooks = 3\n[arm native]\n[bench null.nop]\n",
		HEAD "[bench null.nop]\n[gate g]\nmetric = null.nop/cost\narm = aa\n"
		     "kind = absolute\nlimit = 5\n"};
	static const char *const old[] = {early, both};
	_cleanup_free_ char *path = cvb_strf("%s/p.ini", dir);
	struct cvb_profile *p = NULL;
	char why[1024];

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(good); i++) {
		if (load(good[i], &p, why, sizeof(why)) != 0)
			fail_msg("%s", why);
		cvb_profile_free(p);
	}
	for (size_t i = 0; i < CVB_ARRAY_LEN(old); i++) {
		assert_int_equal(load(old[i], &p, why, sizeof(why)), -EINVAL);
		assert_int_equal(cvb_profile_load_copy(&p, path, NULL), 0);
		cvb_profile_free(p);
	}
}

static void each_mistake_is_named_with_its_line(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{HEAD "[bench mem.latencyy]\n",
		 "p.ini:6: unknown benchmark \"mem.latencyy\"; did you"},
		{HEAD "[bench mem.latency]\nmax_szie = 1MiB\n", "p.ini:7: [bench mem.latency]: "
								"unknown option max_szie; did you"},
		{HEAD "[bench mem.latency]\nmax_size = big\n", "p.ini:7"},
		{HEAD "[bench mem.latency]\nrounds = 0x\n", "p.ini:7"},
		{HEAD "[bench mem.latency]\nmax_size = 1MiB\nmax_size = 2MiB\n", "twice"},
		{HEAD "[bench mem.latency]\narms = natvie\n", "did you mean native"},
		{HEAD "[bench gpu.copy]\n", "no arm of this profile can run it"},
		{HEAD "[bench null.nop]\n[bench null.nop]\n", "there twice"},
		{HEAD "[bench null.nop]\nrounds = 3\n# again\nrounds = 3\n",
		 "p.ini:9: [bench null.nop]: rounds is there twice: first in line 7"},
		{"[profile]\nrounds = 3\n" HEAD "[profile]\nrounds = 3\n", "there twice: first"},
		{HEAD "[arm b]\ntarget = local\ntarget = qemu\n", "target is there twice"},
		{HEAD "[gate g]\nmargin = .9\nmargin = .8\n", "margin is there twice"},
		{HEAD "[arm native]\n", "p.ini:6: [arm native] is there twice: first in line 3"},
		{HEAD "[arm vm]\nmemroy = 1GiB\n", "did you mean memory"},
		{HEAD "[arm vm]\nlike = nobody\n", "p.ini:7"},
		{HEAD "[arm vm]\ntarget = ssh\n[bench null.nop]\n", "expected local or qemu"},
		{HEAD "[arm x y]\n", "a name is letters"},
		{HEAD "[arm td]\ntee = tdx\n[bench null.nop]\n", "needs target = qemu"},
		{HEAD "[arm b]\ntarget = qemu\nbounce = on\nmemory = 400MiB\n[bench null.nop]\n",
		 "too little"},
		{HEAD "[arm g]\ngpu = emu:h100-txd\n[bench null.nop]\n", "h100-tdx"},
		{HEAD
		 "[bench null.nop]\n[gate g]\nmetric = null.nop/cots\narm = aa\nbase = native\n",
		 "p.ini:7: [gate g]: benchmark null.nop has no metric \"cots\"; did you mean cost"},
		{HEAD "[bench null.nop]\n[gate g]\nmetric = null.nop/cost\narm = aa\n",
		 "base = … is missing"},
		{HEAD
		 "[bench null.nop]\n[gate g]\nmetric = null.nop/cost\narm = vm\nbase = native\n",
		 "unknown arm \"vm\""},
		{HEAD "[bench null.nop]\n[gate g]\nmetric = null.nop/cost\narm = aa\nbase = aa\n",
		 "both aa"},
		{GATE_ON("params = size_byte=4KiB"),
		 "p.ini:8: [gate g]: params: no series of mem.latency has \"size_byte\"; did you "
		 "mean size_bytes"},
		{GATE_ON("params = size_bytes=4KiB,  colour = red"),
		 "has \"colour\" (`list benches`"},
		{GATE_ON("params = size_bytes"), "params: \"size_bytes\": expected NAME=VALUE"},
		{GATE_ON("params = pages, size_bytes=4KiB"), "\"pages\": expected NAME=VALUE"},
		{GATE_ON("params = =4KiB"), "has \"\""},
		{HEAD
		 "[bench null.nop]\n[gate g]\nmetric = null.nop/cost\narm = aa\nbase = native\n"
		 "params = size_bytes=1\n",
		 "no series of null.nop has \"size_bytes\""},
		{HEAD "[arm bb]\naa_of = bb\n[bench null.nop]\n", "its own A/A arm"},
		{HEAD "[arm vm]\ntarget = qemu\n[arm bb]\naa_of = vm\n[bench null.nop]\n",
		 "but target differs"},
		{HEAD "[arm x]\nmemory = 2GiB\n[bench null.nop]\n", "memory has no meaning"},
		{HEAD "[bench null.nop]\n[gate g]\nmargin = -1\n", "out of range"},
		{"[profile]\nsessions = 6\nlooks = 4,6\n[arm native]\n[bench null.nop]\n",
		 "p.ini: [profile]: looks = 4,6: a campaign that ends at 4 sessions cannot "
		 "certify: the first look must be at 5 sessions or later"},
		{HEAD "[bench null.nop]\n[gate g]\nmetric = null.nop/cost\narm = aa\n"
		      "kind = absolute\nlimit = 5\nmargin = 0.95\n",
		 "p.ini:7: [gate g]: margin has no meaning for kind = absolute"},
		{HEAD "[banch null.nop]\n", "unknown section [banch null.nop]"},
		{HEAD "[bench null.nop]\njust words\n", "p.ini:7: expected [section], key = value"},
		{"sessions = 3\n", "before any [section]"},
		{"[profile]\n", "no [arm NAME]"},
		{HEAD, "no [bench NAME]"},
		{"", "is empty"},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(bad); i++) {
		struct cvb_profile *p = NULL;
		char why[1024];

		assert_int_equal(load(bad[i].text, &p, why, sizeof(why)), -EINVAL);
		if (!strstr(why, bad[i].says))
			fail_msg("\"%s\" does not say \"%s\"", why, bad[i].says);
	}
}

static void long_line_and_binary_are_refused(void **state)
{
	struct cvb_profile *p = NULL;
	char text[2000] = HEAD "[bench null.nop]\narms = ", why[1024];

	(void)state;
	memset(text + strlen(text), 'x', 1000);
	assert_int_equal(load(text, &p, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "p.ini:7"));
	assert_int_equal(load("\x7f\x45LF\x01\x02[[[", &p, why, sizeof(why)), -EINVAL);
}

static void unknown_name_says_so(void **state)
{
	struct cvb_profile *p = NULL;
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_profile_load(&p, "no-such-profile", &err), -EINVAL);
	assert_int_equal(cvb_profile_load(&p, "/nonexistent/x.ini", &err), -EINVAL);
}

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	return cvb_remove_tree(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_profile),
		cmocka_unit_test(params_of_gates_are_names_that_there_are),
		cmocka_unit_test(plans_that_were_once_allowed),
		cmocka_unit_test(each_mistake_is_named_with_its_line),
		cmocka_unit_test(long_line_and_binary_are_refused),
		cmocka_unit_test(unknown_name_says_so),
	};

	return cmocka_run_group_tests_name("campaign/profile", tests, make_dir, remove_dir);
}
