/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.small_copy: the toll of a small copy, with a host buffer that is used again and with one that
 * is allocated for it.
 *
 * The device side has SLOTS places; copy number i of a batch uses place i modulo SLOTS.  With fresh
 * buffers a batch has no more copies than that: their host buffers are kept, checked and freed
 * after it, untimed.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/paths.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define SLOTS 64

enum buffer {
	BUFFER_REUSED,
	BUFFER_FRESH,
	BUFFERS,
};

struct small_conf {
	uint64_t min_bytes, max_bytes, step;
};

static const char *const buffers[] = {"reused", "fresh"};

#define OPT(field) .offset = offsetof(struct small_conf, field)

static const struct cvb_opt small_opts[] = {
	{.name = "min_size",
	 .type = CVB_OPT_SIZE,
	 OPT(min_bytes),
	 .min = 1,
	 .max = (double)CVB_MIB,
	 .def = "8",
	 .unit = "bytes",
	 .help = "smallest copy"},
	{.name = "max_size",
	 .type = CVB_OPT_SIZE,
	 OPT(max_bytes),
	 .min = 1,
	 .max = (double)CVB_MIB,
	 .def = "64KiB",
	 .unit = "bytes",
	 .help = "largest copy, measured in any case"},
	{.name = "step",
	 .type = CVB_OPT_U64,
	 OPT(step),
	 .min = 0,
	 .max = 0x1p20,
	 .def = "0",
	 .help = "each size is so many times the one before; 0 means 512, and 2 on a virtual "
		 "clock"},
	CVB_OPT_END,
};

static const struct cvb_metric small_metrics[] = {
	{"latency", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
	 "time of one copy and the wait for it; fresh: with the allocation (explains the toll on "
	 "every token, and of an allocation with each copy)"},
	{.name = NULL},
};

struct small_state {
	struct cvb_dev dev;
	struct cvb_gpu_buf *slots; /* SLOTS x max_bytes of device memory */
	struct cvb_gpu_buf *all;   /* as much host memory, to set and to check them */
	struct cvb_gpu_buf *reused[CVB_PATH_MEMS];
	struct cvb_gpu_buf *fresh[SLOTS];
	uint8_t *data; /* max_bytes of the pattern */
	/* of the batch under way; written by the worker */
	uint64_t key;
	size_t bytes;
	uint64_t done;
	struct cvb_dev_bad bad;
	struct cvb_err first_reason;
};

static uint64_t key_of(enum cvb_gpu_dir dir, unsigned mem, enum buffer buffer)
{
	return (uint64_t)dir << 16 | (uint64_t)mem << 8 | buffer;
}

static enum cvb_gpu_dir dir_of(uint64_t key)
{
	return (enum cvb_gpu_dir)(key >> 16);
}

static unsigned mem_of(uint64_t key)
{
	return key >> 8 & 0xff;
}

static enum buffer buffer_of(uint64_t key)
{
	return (enum buffer)(key & 0xff);
}

static enum cvb_gpu_mem kind_of(uint64_t key)
{
	return mem_of(key) == CVB_PATH_PINNED ? CVB_GPU_HOST_PINNED : CVB_GPU_HOST_PAGEABLE;
}

/* --- copies ------------------------------------------------------------------------------------
 */

/* The host buffer of copy number i.  A fresh one that is to be read gets its data here: a program
 * writes it, too. */
static int host_buffer(struct small_state *s, uint64_t i, struct cvb_gpu_buf **ret,
		       struct cvb_err *err)
{
	if (buffer_of(s->key) == BUFFER_REUSED) {
		*ret = s->reused[mem_of(s->key)];
		return 0;
	}
	int r = cvb_dev_alloc(&s->dev, kind_of(s->key), s->bytes, &s->fresh[i], err);

	if (r < 0)
		return r;
	*ret = s->fresh[i];
	if (dir_of(s->key) == CVB_GPU_H2D)
		memcpy(cvb_gpu_buf_host(*ret), s->data, s->bytes);
	return 0;
}

static int copies(struct small_state *s, uint64_t iters, struct cvb_err *err)
{
	bool in = dir_of(s->key) == CVB_GPU_H2D;

	for (uint64_t i = 0; i < iters; i++) {
		size_t at = (size_t)(i % SLOTS) * s->bytes;
		struct cvb_gpu_buf *host;
		int r = host_buffer(s, i, &host, err);

		if (r == 0)
			r = in ? cvb_dev_copy(&s->dev, s->slots, at, host, 0, s->bytes, err)
			       : cvb_dev_copy(&s->dev, host, 0, s->slots, at, s->bytes, err);
		if (r < 0)
			return r;
		s->done = i + 1;
	}
	return 0;
}

/* --- before and after a batch ------------------------------------------------------------------
 */

static void free_fresh(struct small_state *s)
{
	for (size_t i = 0; i < SLOTS; i++)
		s->fresh[i] = cvb_gpu_free(s->fresh[i]);
}

/* Device memory: the first `count` places hold the data, or zeroes. */
static int set_slots(struct small_state *s, size_t bytes, uint64_t count, bool data,
		     struct cvb_err *err)
{
	uint8_t *p = cvb_gpu_buf_host(s->all);
	size_t n = (size_t)cvb_min(count, (uint64_t)SLOTS);

	memset(p, 0, n * bytes);
	for (size_t i = 0; data && i < n; i++)
		memcpy(p + i * bytes, s->data, bytes);
	return cvb_dev_copy(&s->dev, s->slots, 0, s->all, 0, n * bytes, err);
}

static int wrong(const struct small_state *s, uint64_t i, size_t at, struct cvb_err *err)
{
	return cvb_err_set(err, -EBADMSG,
			   "gpu.small_copy %s %s %s: byte %zu of copy %" PRIu64
			   " came out different",
			   cvb_gpu_dir_text(dir_of(s->key)), cvb_path_mems[mem_of(s->key)],
			   buffers[buffer_of(s->key)], at, i);
}

static int check_data(const struct small_state *s, const void *p, uint64_t i, struct cvb_err *err)
{
	size_t at = cvb_dev_differs(s->dev.seed, p, 0, s->bytes);

	return at < s->bytes ? wrong(s, i, at, err) : 0;
}

/* What the places hold that were copied to. */
static int check_slots(struct small_state *s, struct cvb_err *err)
{
	uint64_t count = cvb_min(s->done, (uint64_t)SLOTS);
	uint8_t *p = cvb_gpu_buf_host(s->all);
	int r;

	memset(p, 0, (size_t)count * s->bytes);
	r = cvb_dev_copy(&s->dev, s->all, 0, s->slots, 0, (size_t)count * s->bytes, err);
	for (uint64_t i = 0; r == 0 && i < count; i++)
		r = check_data(s, p + i * s->bytes, i, err);
	return r;
}

static int check_host(struct small_state *s, struct cvb_err *err)
{
	int r = 0;

	if (buffer_of(s->key) == BUFFER_REUSED)
		return check_data(s, cvb_gpu_buf_host(s->reused[mem_of(s->key)]), s->done - 1, err);
	for (uint64_t i = 0; r == 0 && i < s->done; i++)
		r = check_data(s, cvb_gpu_buf_host(s->fresh[i]), i, err);
	return r;
}

/* What the batch before left; nothing is left afterwards. */
static int check(struct small_state *s, struct cvb_err *err)
{
	int r = 0;

	if (s->done)
		r = dir_of(s->key) == CVB_GPU_H2D ? check_slots(s, err) : check_host(s, err);
	s->done = 0;
	free_fresh(s);
	return r;
}

/* Data where the next batch reads, zeroes where it writes. */
static int make_ready(struct small_state *s, uint64_t key, size_t bytes, uint64_t iters,
		      struct cvb_err *err)
{
	bool in = dir_of(key) == CVB_GPU_H2D;
	uint8_t *host = cvb_gpu_buf_host(s->reused[mem_of(key)]);
	int r = set_slots(s, bytes, iters, /* data= */ !in, err);

	if (in)
		memcpy(host, s->data, bytes);
	else
		memset(host, 0, bytes);
	s->key = key;
	s->bytes = bytes;
	return r;
}

static int small_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct small_state *s = worker->run->state;
	struct cvb_err err = {0};

	cvb_dev_keep(&s->bad, check(s, &err), &err);
	cvb_dev_keep(&s->bad, make_ready(s, c->user, (size_t)c->bytes, iters, &err), &err);
	return 0;
}

static int small_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct cvb_err err = {0};
	int r = copies(worker->run->state, iters, &err);

	(void)c;
	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int small_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct small_state *s = run->state;
	int r = cvb_dev_kept(&s->bad, err);

	return r < 0 ? r : check(s, err);
}

/* --- set up ------------------------------------------------------------------------------------
 */

static int add_size(struct cvb_run *run, uint64_t key, uint64_t size, struct cvb_err *err)
{
	bool fresh = buffer_of(key) == BUFFER_FRESH;
	const struct cvb_case c = {
		.metrics = 1,
		.params = json_pack("{s:I,s:s,s:s,s:s}", "size_bytes", (json_int_t)size, "dir",
				    cvb_gpu_dir_text(dir_of(key)), "mem",
				    cvb_path_mems[mem_of(key)], "buffer", buffers[buffer_of(key)]),
		.bytes = (double)size,
		.ops = 1,
		.max_iters = cvb_dev_max_iters(run->gpu, 1, fresh ? SLOTS : 0),
		.user = key,
	};
	int r = cvb_run_add_case(run, &c, err);

	return r < 0 ? r : 0;
}

static int add_sizes(struct cvb_run *run, uint64_t key, struct cvb_err *err)
{
	const struct small_conf *conf = run->conf;
	uint64_t step = conf->step ? conf->step : cvb_gpu_is_deterministic(run->gpu) ? 2 : 512;
	int r = 0;

	for (uint64_t size = conf->min_bytes; r == 0 && size < conf->max_bytes; size *= step)
		r = add_size(run, key, size, err);
	return r < 0 ? r : add_size(run, key, conf->max_bytes, err);
}

/* One copy of a kind, untimed: a device may find out only now that it cannot. */
static int add_kind(struct cvb_run *run, uint64_t key, struct cvb_err *err)
{
	const struct small_conf *conf = run->conf;
	struct small_state *s = run->state;
	struct cvb_err why = {0};
	char text[CVB_ERR_MSG_BYTES];
	int r = make_ready(s, key, conf->min_bytes, 1, &why);

	if (r == 0)
		r = copies(s, 1, &why);
	if (r == 0)
		cvb_dev_keep(&s->bad, check(s, &why), &why);
	s->done = 0;
	free_fresh(s);
	if (r == 0)
		return add_sizes(run, key, err);
	if (r != -EOPNOTSUPP) {
		if (err)
			*err = why;
		return r;
	}
	if (!s->first_reason.n)
		s->first_reason = why;
	cvb_err_text(&why, text, sizeof(text));
	cvb_run_leave_out(run,
			  json_pack("{s:s,s:s,s:s}", "dir", cvb_gpu_dir_text(dir_of(key)), "mem",
				    cvb_path_mems[mem_of(key)], "buffer", buffers[buffer_of(key)]),
			  "%s", text);
	return 0;
}

static int make_buffers(struct cvb_run *run, struct small_state *s, struct cvb_err *err)
{
	const struct small_conf *conf = run->conf;
	size_t bytes = conf->max_bytes;
	int r = cvb_dev_init(&s->dev, run->gpu, NULL, bytes, conf->min_bytes, /* seed= */ 1, err);

	s->data = malloc(bytes);
	if (!s->data)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	cvb_dev_pattern(s->dev.seed, s->data, 0, bytes);
	if (r == 0)
		r = cvb_dev_alloc(&s->dev, CVB_GPU_DEVICE, SLOTS * bytes, &s->slots, err);
	if (r == 0)
		r = cvb_dev_alloc(&s->dev, CVB_GPU_HOST_PINNED, SLOTS * bytes, &s->all, err);
	if (r == 0)
		r = cvb_dev_alloc(&s->dev, CVB_GPU_HOST_PINNED, bytes, &s->reused[CVB_PATH_PINNED],
				  err);
	if (r == 0)
		r = cvb_dev_alloc(&s->dev, CVB_GPU_HOST_PAGEABLE, bytes,
				  &s->reused[CVB_PATH_PAGEABLE], err);
	return r;
}

static int small_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct small_conf *conf = run->conf;
	struct small_state *s;
	int r;

	if (conf->step == 1)
		return cvb_err_set(err, -EINVAL, "step=1: the sizes would not grow");
	if (conf->min_bytes > conf->max_bytes)
		return cvb_err_set(err, -EINVAL,
				   "min_size (%" PRIu64 " bytes) is larger than max_size (%" PRIu64
				   " bytes)",
				   conf->min_bytes, conf->max_bytes);
	s = calloc(1, sizeof(*s));
	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	r = make_buffers(run, s, err);
	for (unsigned dir = 0; r == 0 && dir < 2; dir++)
		for (unsigned mem = 0; r == 0 && mem < CVB_PATH_MEMS; mem++)
			for (unsigned buffer = 0; r == 0 && buffer < BUFFERS; buffer++)
				r = add_kind(
					run,
					key_of((enum cvb_gpu_dir)dir, mem, (enum buffer)buffer),
					err);
	if (r < 0 || run->n_cases)
		return r;
	if (err)
		*err = s->first_reason;
	return -EOPNOTSUPP;
}

static void small_done(struct cvb_run *run)
{
	struct small_state *s = run->state;

	if (!s)
		return;
	free_fresh(s);
	cvb_dev_done(&s->dev);
	for (unsigned mem = 0; mem < CVB_PATH_MEMS; mem++)
		cvb_gpu_free(s->reused[mem]);
	cvb_gpu_free(s->slots);
	cvb_gpu_free(s->all);
	free(s->data);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_small_copy = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.small_copy",
	.summary = "the toll of small copies, with used and with fresh host buffers",
	.doc = "gpu.small_copy.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = small_opts,
	.conf_size = sizeof(struct small_conf),
	.metrics = small_metrics,
	.setup = small_setup,
	.prepare = small_prepare,
	.step = small_step,
	.verify = small_verify,
	.done = small_done,
};

CVB_BENCH(gpu_small_copy);
