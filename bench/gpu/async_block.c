/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.async_block: for how much of an asynchronous copy the call keeps its caller.
 *
 * The runner times whole iterations.  What part of one is the call only the device's clock can tell
 * from inside: it is read between the call and the wait.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/paths.h"

#include <errno.h>
#include <inttypes.h>

#define MAX_BYTES	   (16 * CVB_MIB)
#define EMULATED_MAX_BYTES (256 * UINT64_C(1024))

enum {
	METRIC_SHARE,
	METRIC_BLOCKED,
};

enum stream_state {
	STREAM_IDLE,
	STREAM_BUSY,
	STREAM_STATES,
};

struct block_conf {
	uint64_t min_bytes, max_bytes, step, busy_us;
};

static const char *const streams[] = {"idle", "busy"};

#define OPT(field) .offset = offsetof(struct block_conf, field)

static const struct cvb_opt block_opts[] = {
	{.name = "min_size",
	 .type = CVB_OPT_SIZE,
	 OPT(min_bytes),
	 .min = 1,
	 .max = 0x1p40,
	 .def = "4KiB",
	 .unit = "bytes",
	 .help = "smallest copy"},
	{.name = "max_size",
	 .type = CVB_OPT_SIZE,
	 OPT(max_bytes),
	 .min = 0,
	 .max = 0x1p40,
	 .def = "0",
	 .unit = "bytes",
	 .help = "largest copy; 0 means 16 MiB, and 256 KiB on the wall clock of an emulated GPU"},
	{.name = "step",
	 .type = CVB_OPT_U64,
	 OPT(step),
	 .min = 2,
	 .max = 0x1p20,
	 .def = "64",
	 .help = "each size is the one before times this power of two"},
	{.name = "busy",
	 .type = CVB_OPT_U64,
	 OPT(busy_us),
	 .min = 1,
	 .max = 1e6,
	 .def = "500",
	 .unit = "us",
	 .help = "work in the stream before the copy, where it is busy"},
	CVB_OPT_END,
};

static const struct cvb_metric block_metrics[] = {
	[METRIC_SHARE] = {"share", CVB_REPORTED, CVB_LOWER_IS_BETTER, "ratio",
			  "time inside the call / time from call to completion "
			  "(explains the decode throughput that stock engines lose "
			  "under CC, 13 to 39 %)"},
	[METRIC_BLOCKED] = {"blocked", CVB_REPORTED, CVB_LOWER_IS_BETTER, "ns",
			    "time inside the call (explains the same loss as a time: so "
			    "long the thread that schedules stands still for each copy)"},
	{.name = NULL},
};

struct block_state {
	struct cvb_paths paths;
	struct cvb_dev_sizes sizes;
	/* of the batch under way; written by the worker */
	uint64_t blocked_ns, total_ns;
};

static uint64_t key_of(enum cvb_gpu_dir dir, unsigned mem, enum stream_state state)
{
	return (uint64_t)dir << 16 | (uint64_t)mem << 8 | state;
}

/* Copy number i of a batch; its times are added up. */
static int one_copy(struct cvb_run *run, uint64_t key, uint64_t i, size_t bytes,
		    struct cvb_err *err)
{
	const struct block_conf *conf = run->conf;
	struct block_state *s = run->state;
	enum cvb_gpu_dir dir = (enum cvb_gpu_dir)(key >> 16);
	struct cvb_gpu_stream *stream = s->paths.dev[dir].stream;
	const struct cvb_gpu_launch spin = {.kernel = CVB_GPU_KERNEL_SPIN,
					    .ns = conf->busy_us * 1000};
	int r = (key & 0xff) == STREAM_BUSY ? cvb_gpu_launch_async(stream, &spin, err) : 0;
	uint64_t start_ns = cvb_dev_now_ns(run->gpu);

	if (r == 0)
		r = cvb_paths_issue(&s->paths, dir, (enum cvb_path_mem)(key >> 8 & 0xff), i, bytes,
				    NULL, err);
	uint64_t returned_ns = cvb_dev_now_ns(run->gpu);
	/* also after a failure: nothing may be in flight on return */
	int synced = cvb_gpu_sync(stream, r < 0 ? NULL : err);

	s->blocked_ns += returned_ns - start_ns;
	s->total_ns += cvb_dev_now_ns(run->gpu) - start_ns;
	return r < 0 ? r : synced;
}

/* --- set up ----------------------------------------------------------------------------------- */

static int add_sizes(struct cvb_run *run, uint64_t key, struct cvb_err *err)
{
	const struct block_state *s = run->state;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < s->sizes.n; i++) {
		uint64_t size = s->sizes.bytes[i];
		struct cvb_case c = {
			.metrics = 1U << METRIC_SHARE | 1U << METRIC_BLOCKED,
			.params = json_pack("{s:I,s:s,s:s,s:s}", "size_bytes", (json_int_t)size,
					    "dir", cvb_gpu_dir_text((enum cvb_gpu_dir)(key >> 16)),
					    "mem", cvb_path_mems[key >> 8 & 0xff], "stream",
					    streams[key & 0xff]),
			.bytes = (double)size,
			.ops = 1,
			.max_iters = cvb_dev_windows(run->gpu, size),
			.user = key,
		};

		r = cvb_run_add_case(run, &c, err);
	}
	return r < 0 ? r : 0;
}

static int add_path(struct cvb_run *run, enum cvb_gpu_dir dir, enum cvb_path_mem mem,
		    enum stream_state state, struct cvb_err *err)
{
	const struct block_conf *conf = run->conf;
	struct block_state *s = run->state;
	uint64_t key = key_of(dir, mem, state);
	struct cvb_err why = {0};
	int r = cvb_paths_make(&s->paths, dir, mem, &why);

	/* once, untimed: a device may find out only now that it cannot */
	if (r == 0)
		r = one_copy(run, key, 0, conf->min_bytes, &why);
	r = cvb_paths_tried(&s->paths, run, r, &why,
			    json_pack("{s:s,s:s,s:s}", "dir", cvb_gpu_dir_text(dir), "mem",
				      cvb_path_mems[mem], "stream", streams[state]),
			    err);
	return r == 0 ? add_sizes(run, key, err) : r < 0 ? r : 0;
}

static int block_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct block_conf *conf = run->conf;
	bool slow = cvb_gpu_is_emulated(run->gpu) && !cvb_gpu_is_deterministic(run->gpu);
	struct block_state *s = calloc(1, sizeof(*s));
	uint64_t max_bytes = conf->max_bytes;
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	if (!max_bytes)
		max_bytes = slow ? EMULATED_MAX_BYTES : MAX_BYTES;
	r = cvb_dev_sizes(&s->sizes, conf->min_bytes, max_bytes, conf->step, conf->step, err);
	if (r == 0)
		r = cvb_paths_fit(&s->paths, run, &s->sizes, CVB_PATHS_ALL, err);
	for (unsigned dir = 0; r == 0 && dir < 2; dir++)
		for (unsigned mem = 0; r == 0 && mem < CVB_PATH_MEMS; mem++)
			for (unsigned state = 0; r == 0 && state < STREAM_STATES; state++)
				r = add_path(run, (enum cvb_gpu_dir)dir, (enum cvb_path_mem)mem,
					     (enum stream_state)state, err);
	return r < 0 ? r : cvb_paths_any(&s->paths, run, err);
}

/* --- measuring -------------------------------------------------------------------------------- */

static int block_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct block_state *s = worker->run->state;

	(void)c;
	(void)iters;
	cvb_paths_look(&s->paths);
	s->blocked_ns = s->total_ns = 0;
	return 0;
}

static int block_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct cvb_err err = {0};
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < iters; i++)
		r = one_copy(worker->run, c->user, i, (size_t)c->bytes, &err);
	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int block_after_batch(struct cvb_run *run, size_t case_index, uint64_t iters, uint64_t ns,
			     struct cvb_err *err)
{
	const struct block_state *s = run->state;

	(void)ns;
	(void)err;
	/* a total of 0 is a clock that stands still: NaN, and untrusted */
	cvb_run_report(run, case_index, METRIC_SHARE, (double)s->blocked_ns / (double)s->total_ns);
	cvb_run_report(run, case_index, METRIC_BLOCKED, (double)s->blocked_ns / (double)iters);
	return 0;
}

static int block_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct block_state *s = run->state;

	return cvb_paths_verify(&s->paths, err);
}

static void block_done(struct cvb_run *run)
{
	struct block_state *s = run->state;

	if (!s)
		return;
	cvb_paths_done(&s->paths);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_async_block = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.async_block",
	.summary = "how much of an asynchronous copy's time its call blocks the host",
	.doc = "gpu.async_block.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = block_opts,
	.conf_size = sizeof(struct block_conf),
	.metrics = block_metrics,
	.params = (const char *const[]){"size_bytes", "dir", "mem", "stream", NULL},
	.setup = block_setup,
	.prepare = block_prepare,
	.step = block_step,
	.after_batch = block_after_batch,
	.verify = block_verify,
	.done = block_done,
};

CVB_BENCH(gpu_async_block);
