/* SPDX-License-Identifier: Apache-2.0 */
/* AES-GCM against published vectors, spoilt messages, and whole runs that are spoilt on the way. */
#include "fixture.h"

#include "crypto/aes_gcm.h"
#include "measure/runner.h"

/* --- the cipher ------------------------------------------------------------------------------ */

static const uint8_t zeros[CVB_GCM_MAX_KEY];

static struct cvb_gcm *cipher(unsigned bits)
{
	struct cvb_gcm *g = NULL;

	assert_int_equal(cvb_gcm_new(&g, bits, zeros, NULL), 0);
	return g;
}

/* Test cases 2 and 14 of the GCM submission to NIST: key, IV and one block of zeros. */
static void published_vectors(void **state)
{
	static const struct {
		unsigned bits;
		uint8_t sealed[16], tag[16];
	} v[] = {
		{128,
		 {0x03, 0x88, 0xda, 0xce, 0x60, 0xb6, 0xa3, 0x92, 0xf3, 0x28, 0xc2, 0xb9, 0x71,
		  0xb2, 0xfe, 0x78},
		 {0xab, 0x6e, 0x47, 0xd4, 0x2c, 0xec, 0x13, 0xbd, 0xf5, 0x3a, 0x67, 0xb2, 0x12,
		  0x57, 0xbd, 0xdf}},
		{256,
		 {0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e, 0xc5, 0xd3, 0xba,
		  0xf3, 0x9d, 0x18},
		 {0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0, 0x26, 0x5b, 0x98, 0xb5, 0xd4,
		  0x8a, 0xb9, 0x19}},
	};
	struct cvb_err err = {0};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(v); i++) {
		struct cvb_gcm *g = cipher(v[i].bits);
		uint8_t out[16], tag[16];

		assert_int_equal(cvb_gcm_seal(g, zeros, zeros, out, 16, tag), 0);
		assert_memory_equal(out, v[i].sealed, 16);
		assert_memory_equal(tag, v[i].tag, 16);
		assert_int_equal(cvb_gcm_open(g, zeros, v[i].sealed, out, 16, v[i].tag), 0);
		assert_memory_equal(out, zeros, 16);
		cvb_gcm_free(g);
	}
	assert_int_equal(cvb_gcm_self_test(&err), 0);
}

/* One bit of the tag, of the text or of the IV: nobody may take the message. */
static void spoilt_messages_are_refused(void **state)
{
	static uint8_t plain[1000], sealed[1000], out[1000];
	uint8_t iv[CVB_GCM_IV_BYTES] = {7}, tag[CVB_GCM_TAG_BYTES];
	struct cvb_gcm *g = cipher(256);

	(void)state;
	memset(plain, 0x5a, sizeof(plain));
	assert_int_equal(cvb_gcm_seal(g, iv, plain, sealed, sizeof(plain), tag), 0);
	tag[15] ^= 1;
	assert_int_equal(cvb_gcm_open(g, iv, sealed, out, sizeof(out), tag), -EBADMSG);
	tag[15] ^= 1;
	sealed[999] ^= 0x80;
	assert_int_equal(cvb_gcm_open(g, iv, sealed, out, sizeof(out), tag), -EBADMSG);
	sealed[999] ^= 0x80;
	iv[11] ^= 1;
	assert_int_equal(cvb_gcm_open(g, iv, sealed, out, sizeof(out), tag), -EBADMSG);
	iv[11] ^= 1;
	assert_int_equal(cvb_gcm_open(g, iv, sealed, out, sizeof(out), tag), 0);
	assert_memory_equal(out, plain, sizeof(out));
	cvb_gcm_free(g);
}

/* --- whole runs ------------------------------------------------------------------------------ */

struct result {
	double value[64];
	size_t n, n_left_out;
	int verified;
	struct cvb_err err;
};

/* Open, calibrate, one sample, verify.  Returns what open said. */
static int run_bench(const struct cvb_bench *bench, json_t *options, unsigned threads,
		     struct result *res)
{
	_cleanup_json_ json_t *owned = options;
	const struct cvb_runner_opts o = {
		.options = owned, .threads = threads, .sample_ns = CVB_NS_PER_MS};
	struct cvb_runner *r;
	uint64_t iters[64], ns[64];
	struct cvb_sample sample = {.value = res->value, .ns = ns};
	int code;

	res->err = (struct cvb_err){0};
	code = cvb_runner_open(&r, bench, &o, &res->err);
	if (code < 0)
		return code;
	cvb_runner_series(r, &res->n);
	assert_true(res->n <= 64);
	res->n_left_out = json_array_size(cvb_runner_left_out(r));
	assert_int_equal(cvb_runner_calibrate(r, iters, &res->err), 0);
	assert_int_equal(cvb_runner_sample(r, iters, &sample, &res->err), 0);
	res->verified = cvb_runner_verify(r, &res->err);
	cvb_runner_close(r);
	return 0;
}

static const struct cvb_bench *aes_gcm(void)
{
	return cvb_bench_find("crypto.aes_gcm", NULL);
}

static json_t *options(const char *dir, const char *max_size)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "dir", dir, "min_size", "64", "max_size", max_size,
			 "bits", "both");
}

static void runs(void **state)
{
	struct result res = {0};

	(void)state;
	assert_int_equal(run_bench(aes_gcm(), options("both", "4KiB"), 2, &res), 0);
	assert_int_equal(res.verified, 0);
	/* 64, 256, 1024, 4096 bytes, 2 key lengths, 2 directions, 1 and 2 threads, 2 metrics */
	assert_int_equal(res.n, 64);
	for (size_t i = 0; i < res.n; i += 2) {
		/* bandwidth, then time */
		assert_true(res.value[i] > 1e4 && res.value[i] < 1e13);
		assert_true(res.value[i + 1] > 1 && res.value[i + 1] < 1e9);
	}
	/* on one thread, one is the other's inverse */
	assert_true(res.value[0] * res.value[1] > 63e9 && res.value[0] * res.value[1] < 65e9);
	assert_int_equal(run_bench(aes_gcm(), options("encrypt", "64"), 1, &res), 0);
	assert_int_equal(res.n, 4);
	assert_int_equal(res.n_left_out, 0);
}

static void sizes_are_refused(void **state)
{
	struct result res = {0};

	(void)state;
	assert_int_equal(run_bench(aes_gcm(), options("both", "32"), 1, &res), -EINVAL);
	assert_says(&res.err, "below min_size");
	assert_int_equal(run_bench(aes_gcm(), options("both", "1GiB"), 1000, &res), -EINVAL);
	assert_says(&res.err, "1000 workers");
	assert_int_equal(run_bench(aes_gcm(), options("both", "2GiB"), 1, &res), -EINVAL);
}

/* --- runs that are spoilt --------------------------------------------------------------------- */

enum spoil {
	SPOIL_TAG,
	SPOIL_SEALED,
	SPOIL_OUT,
};

static enum spoil to_spoil;
static unsigned spoilt;

static int spoiling_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct cvb_gcm_worker *w = worker->state;
	int r = aes_gcm()->prepare(worker, c, iters);

	/* once, in the middle of the calibration: later batches are right */
	if (r < 0 || to_spoil == SPOIL_OUT || spoilt++ != 1)
		return r;
	if (to_spoil == SPOIL_TAG)
		w->message[0].tag[0] ^= 1;
	else
		((uint8_t *)w->sealed.p)[5] ^= 1;
	return 0;
}

static int spoiling_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct cvb_gcm_worker *w = worker->state;
	int r = aes_gcm()->step(worker, c, iters);

	if (to_spoil == SPOIL_OUT && spoilt++ == 1)
		((uint8_t *)w->out.p)[63] ^= 1;
	return r;
}

static void spoilt_runs_are_untrusted(void **state)
{
	static const struct {
		enum spoil what;
		const char *dir;
	} tries[] = {
		{SPOIL_TAG, "decrypt"},
		{SPOIL_SEALED, "decrypt"},
		{SPOIL_OUT, "decrypt"},
		{SPOIL_OUT, "encrypt"},
	};
	struct cvb_bench spoiling = *aes_gcm();

	(void)state;
	spoiling.prepare = spoiling_prepare;
	spoiling.step = spoiling_step;
	for (size_t i = 0; i < CVB_ARRAY_LEN(tries); i++) {
		struct result res = {0};

		to_spoil = tries[i].what;
		spoilt = 0;
		assert_int_equal(run_bench(&spoiling, options(tries[i].dir, "64"), 1, &res), 0);
		assert_true(spoilt > 2);
		if (res.verified != -EBADMSG)
			fail_msg("try %zu went through", i);
		assert_says(&res.err, "worker 0");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(published_vectors),
		cmocka_unit_test(spoilt_messages_are_refused),
		cmocka_unit_test(runs),
		cmocka_unit_test(sizes_are_refused),
		cmocka_unit_test(spoilt_runs_are_untrusted),
	};

	return cmocka_run_group_tests_name("crypto: AES-GCM", tests, NULL, NULL);
}
