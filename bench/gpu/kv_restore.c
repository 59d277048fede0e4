/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.kv_restore: the key-value cache of one conversation between host and device.
 *
 * The cache is many blocks of middle size, in a pool on either side.  Block by block, every block
 * is a copy of its own, as an engine does whose pools are scattered; batched, one copy moves all
 * blocks through a staging buffer on the device, and copies within the device put them where they
 * belong.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/device.h"
#include "gpu/probe.h"
#include "measure/bench.h"

#include <errno.h>
#include <string.h>

enum {
	DIRS = 2, /* enum cvb_gpu_dir, h2d and d2h */
	MODE_BLOCKS = 0,
	MODE_BATCHED,
	MODES,
};

/*
 * A pass is a copy for each block, of tens of microseconds on a confidential GPU, and a run has
 * some forty passes at least: so many blocks take half a minute.  More would say the same of each,
 * as they queue up one after the other.
 */
#define MAX_BLOCKS 8192

enum {
	METRIC_TIME,
	METRIC_BANDWIDTH,
	METRIC_BLOCK,
};

struct kv_conf {
	uint64_t block_bytes, blocks;
	int mem;
};

static const char *const mode_words[] = {"blocks", "batched"};
static const char *const mem_words[] = {"pinned", "pageable", NULL};

#define OPT(field) .offset = offsetof(struct kv_conf, field)

static const struct cvb_opt kv_opts[] = {
	{.name = "block",
	 .type = CVB_OPT_SIZE,
	 OPT(block_bytes),
	 .min = 4096,
	 .max = 0x1p30,
	 .def = "64KiB",
	 .unit = "bytes",
	 .help = "one block: 16 tokens of one layer with 8 heads of 128, 16 bits, keys and values"},
	{.name = "blocks",
	 .type = CVB_OPT_U64,
	 OPT(blocks),
	 .min = 1,
	 .max = MAX_BLOCKS,
	 .def = "512",
	 .help = "blocks of the context"},
	{.name = "mem",
	 .type = CVB_OPT_CHOICE,
	 OPT(mem),
	 .def = "pinned",
	 .choices = mem_words,
	 .help = "kind of the host's pool"},
	CVB_OPT_END,
};

static const struct cvb_metric kv_metrics[] = {
	[METRIC_TIME] =
		{"time", CVB_REPORTED, CVB_LOWER_IS_BETTER, "ns",
		 "time to move all blocks of a context, alone (explains a part of what a "
		 "request with a restored cache waits longer for its first token under CC)"},
	[METRIC_BANDWIDTH] =
		{"bandwidth", CVB_BYTES_PER_S, CVB_HIGHER_IS_BETTER, NULL,
		 "bytes of the context / time (the same loss as a rate: next to that of "
		 "gpu.copy it says what the blocks cost)"},
	[METRIC_BLOCK] = {"block_latency", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			  "time / blocks (explains why small blocks restore slowly: the toll of a "
			  "copy is paid for each)"},
	{.name = NULL},
};

struct kv_state {
	struct cvb_dev dev;
	struct cvb_gpu_buf *src[DIRS], *dst[DIRS]; /* pools: [h2d] host to device */
	struct cvb_gpu_buf *stage;		   /* on the device */
	size_t bytes;				   /* of a context */
	uint64_t windows;			   /* contexts in each pool, one for each pass */
	size_t unchecked[DIRS];			   /* bytes moved since the last check */
	bool done[DIRS], trial;
	struct cvb_dev_bad bad;
};

static uint64_t case_key(enum cvb_gpu_dir dir, int mode)
{
	return (uint64_t)dir * MODES + (uint64_t)mode;
}

/* A block of the pool, far from the one before as a pool in use has them. */
static size_t block_at(const struct kv_conf *conf, uint64_t i)
{
	uint64_t stride = 7;

	while (conf->blocks % stride == 0)
		stride += 2;
	return (size_t)(i * stride % conf->blocks * conf->block_bytes);
}

/* `dst_at`, `src_at`: where the context begins. */
static int move_blocks(struct kv_state *s, const struct kv_conf *conf, struct cvb_gpu_buf *dst,
		       size_t dst_at, struct cvb_gpu_buf *src, size_t src_at, struct cvb_err *err)
{
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < conf->blocks; i++) {
		size_t at = block_at(conf, i);

		r = cvb_gpu_copy_async(s->dev.stream, dst, dst_at + at, src, src_at + at,
				       conf->block_bytes, err);
	}
	return r;
}

/* What a wrong copy leaves in the staging buffer goes on to the destination, and is seen there. */
static int move_batched(struct kv_state *s, const struct kv_conf *conf, enum cvb_gpu_dir dir,
			size_t at, struct cvb_err *err)
{
	bool in = dir == CVB_GPU_H2D;
	int r;

	if (in) {
		r = cvb_gpu_copy_async(s->dev.stream, s->stage, 0, s->src[dir], at, s->bytes, err);
		return r < 0 ? r : move_blocks(s, conf, s->dst[dir], at, s->stage, 0, err);
	}
	r = move_blocks(s, conf, s->stage, 0, s->src[dir], at, err);
	return r < 0 ? r
		     : cvb_gpu_copy_async(s->dev.stream, s->dst[dir], at, s->stage, 0, s->bytes,
					  err);
}

/* Pass number i of a batch. */
static int move_context(struct cvb_run *run, uint64_t key, uint64_t i, struct cvb_err *err)
{
	const struct kv_conf *conf = run->conf;
	struct kv_state *s = run->state;
	enum cvb_gpu_dir dir = (enum cvb_gpu_dir)(key / MODES);
	size_t at = (size_t)i * s->bytes;
	int r = key % MODES == MODE_BLOCKS
			? move_blocks(s, conf, s->dst[dir], at, s->src[dir], at, err)
			: move_batched(s, conf, dir, at, err);
	int synced = cvb_gpu_sync(s->dev.stream, r < 0 ? NULL : err);

	s->unchecked[dir] = at + s->bytes;
	return r < 0 ? r : synced;
}

static int try_case(struct cvb_run *run, uint64_t key, struct cvb_err *err)
{
	return move_context(run, key, 0, err);
}

static int check(struct kv_state *s, enum cvb_gpu_dir dir, struct cvb_err *err)
{
	int r = cvb_dev_after(&s->dev, s->dst[dir], s->unchecked[dir], s->trial,
			      dir == CVB_GPU_H2D ? "gpu.kv_restore h2d" : "gpu.kv_restore d2h",
			      err);

	s->unchecked[dir] = 0;
	s->done[dir] = s->done[dir] || (r == 0 && !s->trial);
	/* nor may a batched one live on what an earlier one left on its way */
	return r < 0 ? r : cvb_dev_clear(&s->dev, s->stage, s->bytes, err);
}

static int make_pools(struct cvb_run *run, struct cvb_err *err)
{
	const struct kv_conf *conf = run->conf;
	struct kv_state *s = run->state;
	enum cvb_gpu_mem host = conf->mem ? CVB_GPU_HOST_PAGEABLE : CVB_GPU_HOST_PINNED;
	size_t bytes;
	int r;

	s->bytes = conf->blocks * conf->block_bytes;
	s->windows = cvb_dev_windows(run->gpu, s->bytes);
	bytes = s->windows * s->bytes;
	r = cvb_dev_init(&s->dev, run->gpu, NULL, bytes, conf->block_bytes, /* seed= */ 11, err);
	if (r == 0)
		r = cvb_dev_alloc(&s->dev, CVB_GPU_DEVICE, s->bytes, &s->stage, err);
	for (int dir = CVB_GPU_H2D; r == 0 && dir < DIRS; dir++) {
		bool in = dir == CVB_GPU_H2D;

		r = cvb_dev_alloc(&s->dev, in ? host : CVB_GPU_DEVICE, bytes, &s->src[dir], err);
		if (r == 0)
			r = cvb_dev_alloc(&s->dev, in ? CVB_GPU_DEVICE : host, bytes, &s->dst[dir],
					  err);
		if (r == 0)
			r = cvb_dev_clear(&s->dev, s->src[dir], bytes, err);
		if (r == 0)
			r = cvb_dev_fill(&s->dev, s->src[dir], bytes, err);
		if (r == 0)
			r = cvb_dev_clear(&s->dev, s->dst[dir], bytes, err);
	}
	return r;
}

static int kv_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct kv_conf *conf = run->conf;
	struct kv_state *s = calloc(1, sizeof(*s));

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	int r = make_pools(run, err);

	for (int dir = CVB_GPU_H2D; r == 0 && dir < DIRS; dir++) {
		for (int mode = 0; r == 0 && mode < MODES; mode++) {
			struct cvb_case c = {
				.metrics = 1U << METRIC_TIME | 1U << METRIC_BANDWIDTH |
					   1U << METRIC_BLOCK,
				.params = json_pack("{s:s,s:s,s:s,s:I,s:I}", "dir",
						    cvb_gpu_dir_text((enum cvb_gpu_dir)dir), "mode",
						    mode_words[mode], "mem", mem_words[conf->mem],
						    "block_bytes", (json_int_t)conf->block_bytes,
						    "blocks", (json_int_t)conf->blocks),
				.bytes = (double)(conf->blocks * conf->block_bytes),
				.ops = (double)conf->blocks,
				.max_iters = s->windows,
				.user = case_key((enum cvb_gpu_dir)dir, mode),
			};

			r = cvb_probe_case(run, &c, try_case, &s->bad, err);
		}
	}
	return r;
}

/* Not timed: check what the batch before left. */
static int kv_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct kv_state *s = worker->run->state;
	struct cvb_err err = {0};

	(void)c;
	(void)iters;
	for (int dir = CVB_GPU_H2D; dir < DIRS && s->bad.r == 0; dir++)
		if (s->unchecked[dir])
			cvb_dev_keep(&s->bad, check(s, (enum cvb_gpu_dir)dir, &err), &err);
	s->trial = worker->run->trial;
	return 0;
}

static int kv_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct cvb_err err = {0};
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < iters; i++)
		r = move_context(worker->run, c->user, i, &err);
	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int kv_after(struct cvb_run *run, size_t c, uint64_t iters, uint64_t ns, struct cvb_err *err)
{
	(void)err;
	cvb_run_report(run, c, METRIC_TIME, (double)ns / (double)iters);
	return 0;
}

static int kv_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct kv_state *s = run->state;
	int r = cvb_dev_kept(&s->bad, err);

	for (int dir = CVB_GPU_H2D; r == 0 && dir < DIRS; dir++)
		if (s->unchecked[dir])
			r = check(s, (enum cvb_gpu_dir)dir, err);
	for (size_t i = 0; r == 0 && i < run->n_cases; i++)
		if (!s->done[run->cases[i].user / MODES])
			r = cvb_err_set(err, -EBADMSG, "gpu.kv_restore: never done");
	return r;
}

static void kv_done(struct cvb_run *run)
{
	struct kv_state *s = run->state;

	if (!s)
		return;
	for (int dir = CVB_GPU_H2D; dir < DIRS; dir++) {
		cvb_gpu_free(s->src[dir]);
		cvb_gpu_free(s->dst[dir]);
	}
	cvb_gpu_free(s->stage);
	cvb_dev_done(&s->dev);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_kv_restore = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.kv_restore",
	.summary = "blocks of a key-value cache between host and device, one by one and batched",
	.doc = "gpu.kv_restore.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = kv_opts,
	.conf_size = sizeof(struct kv_conf),
	.metrics = kv_metrics,
	.params = (const char *const[]){"dir", "mode", "mem", "block_bytes", "blocks", NULL},
	.setup = kv_setup,
	.prepare = kv_prepare,
	.step = kv_step,
	.after_batch = kv_after,
	.verify = kv_verify,
	.done = kv_done,
};

CVB_BENCH(gpu_kv_restore);
