/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.small_copy: the toll of a small copy, with a host buffer that is used again and with one that
 * is allocated for it.
 *
 * Copies with reused memory are those of gpu.copy.  Fresh buffers take the place of the path's host
 * memory; they are kept, checked and freed after the batch, untimed, so that a batch has no more
 * than FRESH_MAX.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/paths.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define FRESH_MAX 256

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
	 "time of one copy and the wait for it; fresh: with the "
	 "allocation (explains the toll on every token, 2.4 to 11 "
	 "times under CC, and of an allocation with each copy, 44 "
	 "times)"},
	{.name = NULL},
};

struct small_state {
	struct cvb_paths paths;
	/* of the batch under way; written by the worker */
	struct cvb_gpu_buf *fresh[FRESH_MAX];
	uint64_t key;
	size_t bytes;
	uint64_t n_fresh; /* read into and not looked at */
	bool trial;
};

static uint64_t key_of(enum cvb_gpu_dir dir, unsigned mem, enum buffer buffer)
{
	return (uint64_t)dir << 16 | (uint64_t)mem << 8 | buffer;
}

static enum cvb_gpu_dir dir_of(uint64_t key)
{
	return (enum cvb_gpu_dir)(key >> 16);
}

static enum cvb_path_mem mem_of(uint64_t key)
{
	return (enum cvb_path_mem)(key >> 8 & 0xff);
}

static enum buffer buffer_of(uint64_t key)
{
	return (enum buffer)(key & 0xff);
}

/* The data of copy number i, in host memory. */
static const uint8_t *data_of(const struct small_state *s, uint64_t i)
{
	const uint8_t *p = cvb_gpu_buf_host(s->paths.host_src[mem_of(s->key)]);

	return p + i * s->bytes;
}

/* --- copies ----------------------------------------------------------------------------------- */

/* A buffer for copy number i, and the copy.  One that is to be read gets its data here: a program
 * writes it, too. */
static int fresh_copy(struct small_state *s, uint64_t i, struct cvb_err *err)
{
	enum cvb_gpu_dir dir = dir_of(s->key);
	enum cvb_gpu_mem kind =
		mem_of(s->key) == CVB_PATH_PINNED ? CVB_GPU_HOST_PINNED : CVB_GPU_HOST_PAGEABLE;
	int r = cvb_dev_alloc(&s->paths.dev[dir], kind, s->bytes, &s->fresh[i], err);

	if (r < 0)
		return r;
	if (dir == CVB_GPU_H2D)
		memcpy(cvb_gpu_buf_host(s->fresh[i]), data_of(s, i), s->bytes);
	r = cvb_paths_issue(&s->paths, dir, mem_of(s->key), i, s->bytes, s->fresh[i], err);
	/* also after a failure: nothing may be in flight on return */
	int synced = cvb_gpu_sync(s->paths.dev[dir].stream, r < 0 ? NULL : err);

	r = r < 0 ? r : synced;
	if (r == 0 && dir == CVB_GPU_D2H)
		s->n_fresh = i + 1;
	return r;
}

static int copies(struct small_state *s, uint64_t iters, struct cvb_err *err)
{
	int r = 0;

	if (buffer_of(s->key) == BUFFER_REUSED)
		return cvb_paths_copies(&s->paths, dir_of(s->key), mem_of(s->key), s->bytes, iters,
					err);
	for (uint64_t i = 0; r == 0 && i < iters; i++)
		r = fresh_copy(s, i, err);
	return r;
}

/* --- before and after a batch ----------------------------------------------------------------- */

/* What was read into fresh buffers; none is left afterwards. */
static int check_fresh(struct small_state *s, struct cvb_err *err)
{
	int r = 0;

	for (uint64_t i = 0; r == 0 && !s->trial && i < s->n_fresh; i++)
		if (memcmp(cvb_gpu_buf_host(s->fresh[i]), data_of(s, i), s->bytes) != 0)
			r = cvb_err_set(err, -EBADMSG,
					"gpu.small_copy d2h %s fresh: copy %" PRIu64
					" came out different",
					cvb_path_mems[mem_of(s->key)], i);
	s->n_fresh = 0;
	for (size_t i = 0; i < FRESH_MAX; i++)
		s->fresh[i] = cvb_gpu_free(s->fresh[i]);
	return r;
}

/* Look at what the batch before left, and at nothing of it later. */
static void look(struct small_state *s)
{
	struct cvb_err err = {0};

	cvb_dev_keep(&s->paths.bad, check_fresh(s, &err), &err);
	cvb_paths_look(&s->paths);
	s->trial = s->paths.trial;
}

static int small_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct small_state *s = worker->run->state;

	(void)iters;
	look(s);
	s->key = c->user;
	s->bytes = (size_t)c->bytes;
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

	look(s);
	return cvb_paths_verify(&s->paths, err);
}

/* --- set up ----------------------------------------------------------------------------------- */

static int add_size(struct cvb_run *run, uint64_t key, uint64_t size, struct cvb_err *err)
{
	uint64_t windows = cvb_dev_windows(run->gpu, size);
	const struct cvb_case c = {
		.metrics = 1,
		.params = json_pack("{s:I,s:s,s:s,s:s}", "size_bytes", (json_int_t)size, "dir",
				    cvb_gpu_dir_text(dir_of(key)), "mem",
				    cvb_path_mems[mem_of(key)], "buffer", buffers[buffer_of(key)]),
		.bytes = (double)size,
		.ops = 1,
		.max_iters = buffer_of(key) == BUFFER_FRESH ? cvb_min(windows, (uint64_t)FRESH_MAX)
							    : windows,
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
	struct cvb_err why = {0}, wrong = {0};
	int r = cvb_paths_make(&s->paths, dir_of(key), mem_of(key), &why);

	/* the data are looked up there */
	if (r == 0)
		r = cvb_paths_make(&s->paths, CVB_GPU_H2D, mem_of(key), &why);
	s->key = key;
	s->bytes = conf->min_bytes;
	if (r == 0)
		r = copies(s, 1, &why);
	cvb_dev_keep(&s->paths.bad, check_fresh(s, &wrong), &wrong);
	r = cvb_paths_tried(&s->paths, run, r, &why,
			    json_pack("{s:s,s:s,s:s}", "dir", cvb_gpu_dir_text(dir_of(key)), "mem",
				      cvb_path_mems[mem_of(key)], "buffer",
				      buffers[buffer_of(key)]),
			    err);
	return r == 0 ? add_sizes(run, key, err) : r < 0 ? r : 0;
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
	r = cvb_paths_init(&s->paths, run, conf->max_bytes, conf->min_bytes, err);
	for (unsigned dir = 0; r == 0 && dir < 2; dir++)
		for (unsigned mem = 0; r == 0 && mem < CVB_PATH_MEMS; mem++)
			for (unsigned buffer = 0; r == 0 && buffer < BUFFERS; buffer++)
				r = add_kind(
					run,
					key_of((enum cvb_gpu_dir)dir, mem, (enum buffer)buffer),
					err);
	return r < 0 ? r : cvb_paths_any(&s->paths, run, err);
}

static void small_done(struct cvb_run *run)
{
	struct small_state *s = run->state;

	if (!s)
		return;
	cvb_ignore(check_fresh(s, NULL));
	cvb_paths_done(&s->paths);
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
	.params = (const char *const[]){"size_bytes", "dir", "mem", "buffer", NULL},
	.setup = small_setup,
	.prepare = small_prepare,
	.step = small_step,
	.verify = small_verify,
	.done = small_done,
};

CVB_BENCH(gpu_small_copy);
