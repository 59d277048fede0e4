/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One wrong copy or product anywhere in a run of a GPU benchmark on the wall clock makes the result
 * untrusted, whichever of a batch it is.
 *
 * The batches have two iterations each and are not calibrated, so that all that follows the setup
 * either gives a number or checks one: no fault may go unseen.
 */
#include "gpu_run.h"

#include <stdarg.h>

enum {
	ITERS = 2,
	MOST_TRIED = 12,  /* about, of one kind: each is a device of its own */
	MOST_CALLS = 400, /* of a run: a search that does not end is a mistake of the test */
};

static _Noreturn void failed(const char *name, const char *gpu, int r, const struct cvb_err *err)
{
	char text[1024];

	cvb_err_text(err, text, sizeof(text));
	fail_msg("%s on %s: %d: %s", name, gpu, r, text);
	abort();
}

/* Set up, and take one sample if `sample`; -EBADMSG: untrusted, -EIO: failed. */
static int run_once(const char *name, const char *gpu, const char *options, bool sample)
{
	_cleanup_json_ json_t *set = gpu_options(options);
	const struct cvb_runner_opts opts = {.options = set,
					     .gpu = gpu,
					     .threads = 1,
					     .sample_ns = CVB_NS_PER_MS,
					     .exact = true};
	const struct cvb_bench *bench = cvb_bench_find(name, NULL);
	struct cvb_runner *runner = NULL;
	struct cvb_err err = {0};
	int r = cvb_runner_open(&runner, bench, &opts, &err);

	if (r == 0 && sample)
		r = gpu_sample_of(runner, ITERS, NULL, &err);
	if (r < 0 && r != -EBADMSG && r != -EIO)
		failed(name, gpu, r, &err);
	cvb_runner_close(runner);
	return r;
}

/* How many calls of a kind the setup has, up to the last that it needs; of those that fill memory
 * it is not said that all of it is used. */
static unsigned calls_of_setup(const char *name, const char *kind, const char *spec,
			       const char *options)
{
	unsigned have = 0, have_not = MOST_CALLS;

	while (have + 1 < have_not) {
		unsigned n = (have + have_not) / 2;
		_cleanup_free_ char *gpu = cvb_strf("fault:%s=%u+/fail:%s", kind, n, spec);

		if (run_once(name, gpu, options, /* sample= */ false) == -EIO)
			have = n;
		else
			have_not = n;
	}
	return have;
}

/*
 * Let the first, second, third … call of a kind after the setup be wrong, each in a run of its own,
 * until there is none of that number: all must be seen.  `at_least`: how many calls give numbers;
 * of many, every second or third is tried.
 */
static void each_is_seen(const char *name, const char *kind, const char *spec, const char *options,
			 unsigned at_least)
{
	unsigned before = calls_of_setup(name, kind, spec, options), n = before + 1;
	unsigned step = 1 + at_least / MOST_TRIED;
	int r;

	do {
		_cleanup_free_ char *gpu = cvb_strf("fault:%s=%u/corrupt:%s", kind, n, spec);

		r = run_once(name, gpu, options, /* sample= */ true);
	} while (r == -EBADMSG && (n += step) < MOST_CALLS);
	if (n - before <= at_least || n >= MOST_CALLS)
		fail_msg("%s %s on %s: wrong %s number %u was not seen; the setup has %u", name,
			 options, spec, kind, n, before);
	/* and there is indeed none */
	_cleanup_free_ char *after = cvb_strf("fault:%s=%u+/corrupt:%s", kind, n, spec);

	if (run_once(name, after, options, /* sample= */ true) != 0)
		fail_msg("%s %s on %s: wrong %s number %u was not seen, later ones were", name,
			 options, spec, kind, n);
}

/* The same of the first `count` calls only, where later ones are reads of numbers that have an
 * error bound. */
static void first_are_seen(const char *name, const char *kind, const char *spec,
			   const char *options, unsigned count)
{
	unsigned before = calls_of_setup(name, kind, spec, options);

	for (unsigned n = before + 1; n <= before + count; n++) {
		_cleanup_free_ char *gpu = cvb_strf("fault:%s=%u/corrupt:%s", kind, n, spec);

		if (run_once(name, gpu, options, /* sample= */ true) != -EBADMSG)
			fail_msg("%s %s on %s: wrong %s number %u was not seen; the setup has %u",
				 name, options, spec, kind, n, before);
	}
}

#define ON  "emu:h100-tdx,cc=on"
#define OFF "emu:h100-tdx,cc=off"

static void wrong_copies_of_one_path(void **state)
{
	(void)state;
	each_is_seen("gpu.copy", "copy", ON, "min_size=4KiB max_size=4KiB dir=h2d mem=pinned",
		     ITERS);
	each_is_seen("gpu.copy", "copy", OFF, "min_size=4KiB max_size=4KiB dir=d2h mem=pageable",
		     ITERS);
	each_is_seen("gpu.copy", "copy", OFF, "min_size=3000 max_size=3000 dir=duplex mem=pinned",
		     2 * ITERS);
}

static void wrong_small_copies(void **state)
{
	(void)state;
	/* two directions, two kinds of memory, reused and fresh */
	each_is_seen("gpu.small_copy", "copy", OFF, "min_size=24 max_size=24", 8 * ITERS);
}

static void wrong_copies_beside_others(void **state)
{
	(void)state;
	each_is_seen("gpu.async_block", "copy", OFF, "min_size=4KiB max_size=4KiB busy=1",
		     8 * ITERS);
	/* in and out again, three kinds of cases of which two copy, for one stream and two */
	each_is_seen("gpu.overlap", "copy", ON, "size=8KiB pieces=1 kernel_us=1 max_streams=2",
		     8 * ITERS);
}

static void wrong_blocks_and_tensors(void **state)
{
	(void)state;
	each_is_seen("gpu.kv_restore", "copy", ON, "block=4KiB blocks=2", (2 + 3 + 2 + 3) * ITERS);
	/* the wall clock's emulator has no contexts of other processes */
	each_is_seen("gpu.load", "copy", OFF, "layers=1 hidden=64 kv=16 ffn=64 contexts=2",
		     3 * 9 * ITERS);
}

static void wrong_copies_of_many_threads(void **state)
{
	(void)state;
	/* two directions of one thread, and of two at the same time */
	each_is_seen("gpu.scaling", "copy", OFF, "size=3000 max=2 over=contexts",
		     2 * (1 + 2) * ITERS);
}

static void wrong_peer_copies(void **state)
{
	(void)state;
	/* two directions, and an all-reduce of four */
	each_is_seen("gpu.p2p", "peer", ON, "min_size=64 max_size=64", (2 + 4) * ITERS);
	each_is_seen("gpu.p2p", "launch", OFF, "min_size=64 max_size=64", 2 * ITERS);
}

static void wrong_launches(void **state)
{
	(void)state;
	/* the last thing that is measured: no later batch looks at it */
	each_is_seen("gpu.submit", "graph", OFF, "min_launches=4 max_launches=4", ITERS);
}

/* Operations that work on what the ones before them left. */
static void wrong_steps_of_a_chain(void **state)
{
	(void)state;
	each_is_seen("gpu.hbm", "launch", OFF, "size=4KiB op=copy", ITERS);
	each_is_seen("gpu.hbm", "launch", OFF, "size=4KiB op=triad", ITERS);
	each_is_seen("gpu.hbm", "copy", OFF, "size=4KiB op=d2d", ITERS);
	each_is_seen("gpu.repeat", "launch", OFF, "copy=512 n=8", ITERS);
	/* the word is read back before */
	first_are_seen("gpu.repeat", "copy", OFF, "copy=512 n=8", 1 + ITERS);
}

static void wrong_products(void **state)
{
	(void)state;
	each_is_seen("gpu.gemm", "gemm", OFF, "n=64 type=int8", ITERS);
	each_is_seen("gpu.gemm", "gemm", OFF,
		     "shape=transformer tokens=16 hidden=32 ffn=64 type=bf16", 3 * ITERS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_copies_of_one_path),
		cmocka_unit_test(wrong_small_copies),
		cmocka_unit_test(wrong_copies_beside_others),
		cmocka_unit_test(wrong_blocks_and_tensors),
		cmocka_unit_test(wrong_copies_of_many_threads),
		cmocka_unit_test(wrong_peer_copies),
		cmocka_unit_test(wrong_launches),
		cmocka_unit_test(wrong_steps_of_a_chain),
		cmocka_unit_test(wrong_products),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
