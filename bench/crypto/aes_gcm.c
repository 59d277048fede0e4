/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crypto.aes_gcm: AES-GCM by libcrypto, by message size.  A confidential GPU's driver encrypts what
 * it copies with the guest's libcrypto, on the CPU: this is the ceiling of such copies.
 */
#include "crypto/aes_gcm.h"

#include "core/util.h"
#include "machine/fingerprint.h"
#include "measure/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <string.h>

#define DEFAULT_MAX_BYTES (16 * CVB_MIB)
#define BUFFERS		  3 /* of the largest size, for each worker */
#define MAX_CASES	  512

enum {
	METRIC_BANDWIDTH,
	METRIC_TIME,
};

static const struct cvb_metric metrics[] = {
	[METRIC_BANDWIDTH] = {.name = "bandwidth",
			      .kind = CVB_BYTES_PER_S,
			      .better = CVB_HIGHER_IS_BETTER,
			      .help = "plain text encrypted or decrypted, all threads together"},
	[METRIC_TIME] = {.name = "time",
			 .kind = CVB_NS_PER_OP,
			 .better = CVB_LOWER_IS_BETTER,
			 .help = "time of one message on one thread: IV, data and tag"},
	{.name = NULL},
};

enum bits {
	BITS_256,
	BITS_128,
	BITS_BOTH,
};

enum dirs {
	DIRS_BOTH,
	DIRS_ENCRYPT,
	DIRS_DECRYPT,
};

struct aes_conf {
	uint64_t min_size_bytes;
	uint64_t max_size_bytes;
	uint64_t step;
	int bits;
	int dir;
};

static const struct cvb_opt opts[] = {
	{.name = "min_size",
	 .type = CVB_OPT_SIZE,
	 .offset = offsetof(struct aes_conf, min_size_bytes),
	 .min = 16,
	 .max = CVB_GCM_MAX_MESSAGE,
	 .def = "64",
	 .unit = "bytes",
	 .help = "smallest message"},
	{.name = "max_size",
	 .type = CVB_OPT_SIZE,
	 .offset = offsetof(struct aes_conf, max_size_bytes),
	 .min = 0,
	 .max = CVB_GCM_MAX_MESSAGE,
	 .def = "0",
	 .unit = "bytes",
	 .help = "largest message; 0 means 16 MiB, or what fits into half of the available "
		 "memory"},
	{.name = "step",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct aes_conf, step),
	 .min = 2,
	 .max = 1024,
	 .def = "4",
	 .help = "each size is this many times the one before"},
	{.name = "bits",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct aes_conf, bits),
	 .def = "256",
	 .choices = (const char *const[]){"256", "128", "both", NULL},
	 .help = "key length"},
	{.name = "dir",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct aes_conf, dir),
	 .def = "both",
	 .choices = (const char *const[]){"both", "encrypt", "decrypt", NULL},
	 .help = "direction"},
	CVB_OPT_END,
};

static const char *const dir_names[CVB_GCM_DIRS] = {"encrypt", "decrypt"};

struct aes_state {
	struct cvb_gcm_case cases[MAX_CASES];
	size_t n;
	size_t buffer_bytes;
	struct cvb_gcm_worker **workers; /* for verify, which runs on another thread */
};

/* --- setup ----------------------------------------------------------------------------------- */

/* Which of the instructions that a fast AES-GCM is made of are seen from in here. */
static void note_machine(struct cvb_run *run)
{
	static const char *const flags[] = {"aes",	  "pclmulqdq", "avx",	  "vaes",
					    "vpclmulqdq", "avx512f",   "avx512bw"};
	char has[128] = "", lacks[128] = "";
	const char *mask = getenv("OPENSSL_ia32cap");

	for (size_t i = 0; i < CVB_ARRAY_LEN(flags); i++) {
		char *to = cvb_cpu_has_flag(flags[i]) ? has : lacks;
		size_t len = strlen(to);

		snprintf(to + len, sizeof(has) - len, " %s", flags[i]);
	}
	cvb_run_note(run, "%s; CPU flags seen:%s; missing:%s", OpenSSL_version(OPENSSL_VERSION),
		     has[0] ? has : " none", lacks[0] ? lacks : " none");
	if (mask)
		cvb_run_note(run, "OPENSSL_ia32cap=%s hides CPU features from libcrypto", mask);
}

/* The largest message whose buffers fit for every worker. */
static int largest_size(struct cvb_run *run, uint64_t *ret_bytes, struct cvb_err *err)
{
	const struct aes_conf *conf = run->conf;
	uint64_t available = cvb_mem_available_bytes();
	uint64_t fits = available ? available / 2 / BUFFERS / run->workers : UINT64_MAX;
	uint64_t max = conf->max_size_bytes;

	if (!max)
		max = cvb_max(DEFAULT_MAX_BYTES, conf->min_size_bytes);
	if (max < conf->min_size_bytes)
		return cvb_err_set(err, -EINVAL,
				   "max_size = %" PRIu64 " is below min_size = %" PRIu64, max,
				   conf->min_size_bytes);
	if (fits < cvb_max(conf->max_size_bytes, conf->min_size_bytes))
		return cvb_err_set(err, -EINVAL,
				   "messages of %" PRIu64 " bytes: %d buffers for each of %u "
				   "workers do not fit into half of the %" PRIu64
				   " MiB that are available",
				   max, BUFFERS, run->workers, available / CVB_MIB);
	*ret_bytes = max;
	return 0;
}

static int add_case(struct cvb_run *run, unsigned bits, enum cvb_gcm_dir dir, uint64_t bytes,
		    unsigned threads, struct cvb_err *err)
{
	struct aes_state *s = run->state;
	json_t *params =
		json_pack("{s:i, s:I, s:s, s:i}", "bits", (int)bits, "size_bytes",
			  (json_int_t)bytes, "dir", dir_names[dir], "threads", (int)threads);
	struct cvb_case c = {
		.metrics = 1 << METRIC_BANDWIDTH | 1 << METRIC_TIME,
		.params = params,
		.bytes = (double)bytes * threads,
		.ops = 1, /* of each thread: they work side by side */
		.user = s->n,
	};

	CVB_BUG_ON(s->n == MAX_CASES);
	s->cases[s->n++] = (struct cvb_gcm_case){
		.bits = bits,
		.dir = dir,
		.size_bytes = bytes,
		.threads = threads,
		.ring = (unsigned)cvb_min(cvb_max(CVB_GCM_RING_BYTES / bytes, UINT64_C(1)),
					  (uint64_t)CVB_GCM_RING),
	};
	return cvb_run_add_case(run, &c, err);
}

/* One size: both key lengths and directions, on one thread and on all. */
static int add_size(struct cvb_run *run, uint64_t bytes, struct cvb_err *err)
{
	const struct aes_conf *conf = run->conf;
	int r = 0;

	for (unsigned b = 0; b < 2; b++) {
		if (conf->bits != BITS_BOTH && conf->bits != (b ? BITS_128 : BITS_256))
			continue;
		for (unsigned d = 0; d < CVB_GCM_DIRS; d++) {
			if (conf->dir != DIRS_BOTH &&
			    conf->dir != (d == CVB_GCM_ENCRYPT ? DIRS_ENCRYPT : DIRS_DECRYPT))
				continue;
			r = add_case(run, b ? 128 : 256, (enum cvb_gcm_dir)d, bytes, 1, err);
			if (r >= 0 && run->workers > 1)
				r = add_case(run, b ? 128 : 256, (enum cvb_gcm_dir)d, bytes,
					     run->workers, err);
			if (r < 0)
				return r;
		}
	}
	return r;
}

static int aes_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct aes_conf *conf = run->conf;
	struct aes_state *s = calloc(1, sizeof(*s));
	uint64_t max = 0, fits = cvb_mem_available_bytes() / 2 / BUFFERS / run->workers;
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	s->workers = calloc(run->workers, sizeof(struct cvb_gcm_worker *));
	if (!s->workers)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cvb_gcm_self_test(err);
	if (r < 0)
		return r;
	note_machine(run);
	r = largest_size(run, &max, err);
	if (r < 0)
		return r;
	for (uint64_t bytes = conf->min_size_bytes; bytes <= max; bytes *= conf->step) {
		if (fits && bytes > fits) {
			cvb_run_leave_out(run, json_pack("{s:I}", "size_bytes", (json_int_t)bytes),
					  "messages of %" PRIu64 " bytes do not fit into half of "
					  "the available memory for %u workers",
					  bytes, run->workers);
			continue;
		}
		r = add_size(run, bytes, err);
		if (r < 0)
			return r;
		s->buffer_bytes = bytes;
	}
	s->buffer_bytes = cvb_max(s->buffer_bytes, (size_t)CVB_GCM_RING_BYTES);
	return 0;
}

/* --- workers --------------------------------------------------------------------------------- */

static int make_keys(struct cvb_gcm_worker *w, struct cvb_err *err)
{
	uint8_t key[CVB_GCM_MAX_KEY];
	int r = 0;

	for (unsigned i = 0; i < 2 && r == 0; i++) {
		if (RAND_bytes(key, sizeof(key)) != 1)
			r = cvb_err_set(err, -EIO, "OpenSSL has no random numbers");
		else
			r = cvb_gcm_new(&w->gcm[i], i ? 256 : 128, key, err);
	}
	OPENSSL_cleanse(key, sizeof(key));
	return r;
}

static int aes_worker_setup(struct cvb_worker *worker, struct cvb_err *err)
{
	struct aes_state *s = worker->run->state;
	struct cvb_gcm_worker *w = calloc(1, sizeof(*w));
	struct cvb_mem *mem[BUFFERS];
	int r;

	if (!w)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	worker->state = w;
	s->workers[worker->index] = w;
	r = make_keys(w, err);
	mem[0] = &w->plain;
	mem[1] = &w->sealed;
	mem[2] = &w->out;
	for (size_t i = 0; i < BUFFERS && r == 0; i++) {
		r = cvb_mem_map(mem[i], s->buffer_bytes, CVB_PAGES_THP, /* numa_node= */ -1, err);
		if (r == 0)
			cvb_mem_touch(mem[i], 0, s->buffer_bytes);
	}
	if (r == 0 && RAND_bytes(w->plain.p, (int)s->buffer_bytes) != 1)
		r = cvb_err_set(err, -EIO, "OpenSSL has no random numbers");
	return r;
}

static bool aes_takes_part(const struct cvb_worker *worker, const struct cvb_case *c)
{
	const struct aes_state *s = worker->run->state;

	return worker->index < s->cases[c->user].threads;
}

/* Each message has its own IV: the number of the message, which never repeats under a key. */
static void next_iv(struct cvb_gcm_worker *w, uint8_t iv[CVB_GCM_IV_BYTES])
{
	uint64_t n = ++w->sent;

	memset(iv, 0, CVB_GCM_IV_BYTES - sizeof(n));
	for (size_t i = 0; i < sizeof(n); i++)
		iv[CVB_GCM_IV_BYTES - 1 - i] = (uint8_t)(n >> (8 * i));
}

static struct cvb_gcm *cipher_of(struct cvb_gcm_worker *w, const struct cvb_gcm_case *gc)
{
	return w->gcm[gc->bits == 256];
}

/*
 * Is what the last message of the worker's last batch left in `out` right?  An encrypted message is
 * opened, with the tag that was computed; a decrypted one must be the plain text.
 */
static void check_last(struct cvb_gcm_worker *w)
{
	const struct cvb_gcm_case *gc = w->unchecked;
	const uint8_t *got = w->out.p, *want = w->plain.p;

	w->unchecked = NULL;
	if (!gc)
		return;
	if (gc->dir == CVB_GCM_ENCRYPT) {
		const struct cvb_gcm_message *m = &w->message[0];

		if (cvb_gcm_open(cipher_of(w, gc), m->iv, w->out.p, w->sealed.p, gc->size_bytes,
				 m->tag) < 0)
			w->bad = true;
		got = w->sealed.p;
	} else {
		want += (w->opened - 1) % gc->ring * gc->size_bytes;
	}
	if (memcmp(got, want, gc->size_bytes) != 0)
		w->bad = true;
}

/* Not timed: check the batch before, and for decryption seal the messages that will be opened. */
static int aes_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct aes_state *s = worker->run->state;
	const struct cvb_gcm_case *gc = &s->cases[c->user];
	struct cvb_gcm_worker *w = worker->state;

	(void)iters;
	check_last(w);
	if (gc->dir == CVB_GCM_ENCRYPT)
		return 0;
	w->opened = 0;
	/* what is there already would pass the next check */
	memset(w->out.p, 0, gc->size_bytes);
	for (unsigned i = 0; i < gc->ring; i++) {
		struct cvb_gcm_message *m = &w->message[i];
		size_t at = i * gc->size_bytes;
		int r;

		next_iv(w, m->iv);
		r = cvb_gcm_seal(cipher_of(w, gc), m->iv, (const uint8_t *)w->plain.p + at,
				 (uint8_t *)w->sealed.p + at, gc->size_bytes, m->tag);
		if (r < 0)
			return r;
	}
	return 0;
}

static int encrypt(struct cvb_gcm_worker *w, const struct cvb_gcm_case *gc, uint64_t iters)
{
	struct cvb_gcm *g = cipher_of(w, gc);
	struct cvb_gcm_message *m = &w->message[0];

	for (uint64_t i = 0; i < iters; i++) {
		int r;

		next_iv(w, m->iv);
		r = cvb_gcm_seal(g, m->iv, w->plain.p, w->out.p, gc->size_bytes, m->tag);
		if (r < 0)
			return r;
	}
	return 0;
}

static int decrypt(struct cvb_gcm_worker *w, const struct cvb_gcm_case *gc, uint64_t iters)
{
	struct cvb_gcm *g = cipher_of(w, gc);

	for (uint64_t i = 0; i < iters; i++) {
		unsigned k = (unsigned)(w->opened++ % gc->ring);
		int r = cvb_gcm_open(g, w->message[k].iv,
				     (const uint8_t *)w->sealed.p + k * gc->size_bytes, w->out.p,
				     gc->size_bytes, w->message[k].tag);

		if (r == -EBADMSG)
			w->bad = true; /* the sample goes on; verify refuses the numbers */
		else if (r < 0)
			return r;
	}
	return 0;
}

static int aes_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct aes_state *s = worker->run->state;
	const struct cvb_gcm_case *gc = &s->cases[c->user];
	struct cvb_gcm_worker *w = worker->state;

	w->unchecked = gc;
	return gc->dir == CVB_GCM_ENCRYPT ? encrypt(w, gc, iters) : decrypt(w, gc, iters);
}

/* --- verification and end -------------------------------------------------------------------- */

static int aes_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct aes_state *s = run->state;

	for (unsigned i = 0; i < run->workers; i++) {
		check_last(s->workers[i]);
		if (s->workers[i]->bad)
			return cvb_err_set(err, -EBADMSG,
					   "a message of worker %u did not come back as it was, "
					   "or its tag did not match",
					   i);
	}
	return 0;
}

static void aes_worker_done(struct cvb_worker *worker)
{
	struct aes_state *s = worker->run->state;
	struct cvb_gcm_worker *w = worker->state;

	if (!w)
		return;
	s->workers[worker->index] = NULL;
	for (size_t i = 0; i < CVB_ARRAY_LEN(w->gcm); i++)
		cvb_gcm_free(w->gcm[i]);
	cvb_mem_unmap(&w->plain);
	cvb_mem_unmap(&w->sealed);
	cvb_mem_unmap(&w->out);
	free(w);
	worker->state = NULL;
}

static void aes_done(struct cvb_run *run)
{
	struct aes_state *s = run->state;

	if (!s)
		return;
	free(s->workers);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench crypto_aes_gcm = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "crypto.aes_gcm",
	.summary = "AES-GCM by libcrypto, by message size: the ceiling of confidential copies",
	.doc = "crypto.aes_gcm.md",
	.mode = CVB_MODE_BATCH,
	.opts = opts,
	.conf_size = sizeof(struct aes_conf),
	.metrics = metrics,
	.params = (const char *const[]){"bits", "size_bytes", "dir", "threads", NULL},
	.setup = aes_setup,
	.worker_setup = aes_worker_setup,
	.takes_part = aes_takes_part,
	.prepare = aes_prepare,
	.step = aes_step,
	.verify = aes_verify,
	.worker_done = aes_worker_done,
	.done = aes_done,
};
CVB_BENCH(crypto_aes_gcm);
