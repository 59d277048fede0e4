/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.copy: bandwidth and latency of copies between host and device, one at a time in each
 * direction.
 *
 * Every path (direction and kind of host memory) has its own destination, filled with zeroes before
 * and never zero afterwards, so that a check sees a path whose copies did not happen; every copy of
 * a batch has its own window of it, so that a check sees each.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/paths.h"

#include <errno.h>
#include <inttypes.h>

#define WALL_MAX_BYTES	   (16 * CVB_MIB)
#define EMULATED_MAX_BYTES (4 * CVB_MIB)
#define VIRTUAL_MAX_BYTES  (4096 * CVB_MIB)
#define LARGE_STEP	   4

enum {
	METRIC_BANDWIDTH,
	METRIC_LATENCY,
};

enum dir {
	DIR_H2D,
	DIR_D2H,
	DIR_BOTH,
	DIR_DUPLEX,
	DIR_ALL,
	DIR_AUTO,
};

struct copy_conf {
	uint64_t min_bytes, max_bytes, step;
	int dir, mem;
};

static const char *const dirs[] = {"h2d", "d2h", "both", "duplex", "all", "auto", NULL};
static const char *const mems[] = {"pinned", "pageable", "both", NULL}; /* cvb_path_mem */

#define MEM_BOTH CVB_PATH_MEMS

#define OPT(field) .offset = offsetof(struct copy_conf, field)

static const struct cvb_opt copy_opts[] = {
	{.name = "min_size",
	 .type = CVB_OPT_SIZE,
	 OPT(min_bytes),
	 .min = 1,
	 .max = 0x1p40,
	 .def = "64",
	 .unit = "bytes",
	 .help = "smallest copy"},
	{.name = "max_size",
	 .type = CVB_OPT_SIZE,
	 OPT(max_bytes),
	 .min = 0,
	 .max = 0x1p40,
	 .def = "0",
	 .unit = "bytes",
	 .help = "largest copy; 0 means 16 MiB, 4 MiB on an emulated GPU, and 4 GiB on a virtual "
		 "clock"},
	{.name = "step",
	 .type = CVB_OPT_U64,
	 OPT(step),
	 .min = 0,
	 .max = 0x1p20,
	 .def = "0",
	 .help = "each size is the one before times this power of two; 0 means 8, 16 on an "
		 "emulated GPU, and on a virtual clock 2 up to 1 GiB"},
	{.name = "dir",
	 .type = CVB_OPT_CHOICE,
	 OPT(dir),
	 .def = "auto",
	 .choices = dirs,
	 .help = "host to device, device to host, both one after the other, duplex (both at the "
		 "same time), or all three; auto means both, and all on a virtual clock"},
	{.name = "mem",
	 .type = CVB_OPT_CHOICE,
	 OPT(mem),
	 .def = "both",
	 .choices = mems,
	 .help = "kind of host memory"},
	CVB_OPT_END,
};

static const struct cvb_metric copy_metrics[] = {
	[METRIC_BANDWIDTH] = {"bandwidth", CVB_BYTES_PER_S, CVB_HIGHER_IS_BETTER, NULL,
			      "bytes copied / time from issue to completion (explains the "
			      "loss of model load, prefill and KV restore: 0.06 to 0.78 "
			      "of the bandwidth is left under CC)"},
	[METRIC_LATENCY] = {"latency", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			    "time from issue to completion of one copy, of two for "
			    "duplex (explains the toll of transfers for each token)"},
	{.name = NULL},
};

struct copy_state {
	struct cvb_paths paths;
	struct cvb_dev_sizes sizes;
};

/* A case's key: what it copies. */
static uint64_t key_of(enum dir dir, unsigned mem)
{
	return (uint64_t)dir << 8 | mem;
}

static enum dir dir_of(const struct cvb_case *c)
{
	return (enum dir)(c->user >> 8);
}

static unsigned mem_of(const struct cvb_case *c)
{
	return (unsigned)(c->user & 0xff);
}

/* --- copies ------------------------------------------------------------------------------------
 */

struct lanes {
	struct cvb_paths *paths;
	unsigned mem;
	size_t bytes;
	uint64_t iters;
};

/* `lane` is the direction. */
static int copy_lane(void *arg, unsigned lane, struct cvb_err *err)
{
	const struct lanes *l = arg;

	return cvb_paths_copies(l->paths, (enum cvb_gpu_dir)lane, (enum cvb_path_mem)l->mem,
				l->bytes, l->iters, err);
}

static int copies(struct cvb_run *run, enum dir dir, unsigned mem, size_t bytes, uint64_t iters,
		  struct cvb_err *err)
{
	struct copy_state *s = run->state;
	struct lanes lanes = {&s->paths, mem, bytes, iters};

	return dir == DIR_DUPLEX ? cvb_gpu_parallel(run->gpu, 2, copy_lane, &lanes, err)
				 : copy_lane(&lanes, (unsigned)dir, err);
}

/* --- set up ------------------------------------------------------------------------------------
 */

static int add_sizes(struct cvb_run *run, enum dir dir, unsigned mem, struct cvb_err *err)
{
	const struct copy_state *s = run->state;
	unsigned copies_of_one = dir == DIR_DUPLEX ? 2 : 1;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < s->sizes.n; i++) {
		uint64_t size = s->sizes.bytes[i];
		struct cvb_case c = {
			.metrics = 1U << METRIC_BANDWIDTH | 1U << METRIC_LATENCY,
			.params = json_pack("{s:I,s:s,s:s}", "size_bytes", (json_int_t)size, "dir",
					    dirs[dir], "mem", mems[mem]),
			.bytes = (double)size * copies_of_one,
			.ops = 1,
			.max_iters = cvb_dev_windows(run->gpu, size), /* each one checked */
			.user = key_of(dir, mem),
		};

		r = cvb_run_add_case(run, &c, err);
	}
	return r < 0 ? r : 0;
}

/* One direction, or both at once, of one kind of memory; left out where the device lacks it. */
static int add_path(struct cvb_run *run, enum dir dir, unsigned mem, struct cvb_err *err)
{
	const struct copy_conf *conf = run->conf;
	struct copy_state *s = run->state;
	struct cvb_err why = {0};
	int r = 0;

	for (unsigned one = 0; r == 0 && one < 2; one++)
		if (dir == DIR_DUPLEX || (unsigned)dir == one)
			r = cvb_paths_make(&s->paths, (enum cvb_gpu_dir)one, (enum cvb_path_mem)mem,
					   &why);
	/* once, untimed: a device may find out only now that it cannot */
	if (r == 0)
		r = copies(run, dir, mem, conf->min_bytes, 1, &why);
	r = cvb_paths_tried(&s->paths, run, r, &why,
			    json_pack("{s:s,s:s}", "dir", dirs[dir], "mem", mems[mem]), err);
	return r == 0 ? add_sizes(run, dir, mem, err) : r < 0 ? r : 0;
}

static bool wanted(const struct cvb_run *run, enum dir dir, unsigned mem)
{
	const struct copy_conf *conf = run->conf;
	int want = conf->dir;

	if (conf->mem != MEM_BOTH && conf->mem != (int)mem)
		return false;
	if (want == DIR_AUTO)
		want = cvb_gpu_is_deterministic(run->gpu) ? DIR_ALL : DIR_BOTH;
	return want == DIR_ALL || want == (int)dir || (want == DIR_BOTH && dir != DIR_DUPLEX);
}

static int find_sizes(struct cvb_run *run, struct cvb_dev_sizes *ret, struct cvb_err *err)
{
	const struct copy_conf *conf = run->conf;
	bool virt = cvb_gpu_is_deterministic(run->gpu), emu = cvb_gpu_is_emulated(run->gpu);
	uint64_t max_bytes = conf->max_bytes ? conf->max_bytes
			     : virt	     ? VIRTUAL_MAX_BYTES
			     : emu	     ? EMULATED_MAX_BYTES
					     : WALL_MAX_BYTES;
	uint64_t step = conf->step ? conf->step : virt ? 2 : emu ? 16 : 8;

	return cvb_dev_sizes(ret, conf->min_bytes, max_bytes, step, conf->step ? step : LARGE_STEP,
			     err);
}

/* The paths that the wanted copies go. */
static unsigned wanted_paths(const struct cvb_run *run)
{
	unsigned paths = 0;

	for (unsigned mem = 0; mem < CVB_PATH_MEMS; mem++) {
		bool duplex = wanted(run, DIR_DUPLEX, mem);

		if (duplex || wanted(run, DIR_H2D, mem))
			paths |= CVB_PATH_BIT(CVB_GPU_H2D, mem);
		if (duplex || wanted(run, DIR_D2H, mem))
			paths |= CVB_PATH_BIT(CVB_GPU_D2H, mem);
	}
	return paths;
}

static int copy_setup(struct cvb_run *run, struct cvb_err *err)
{
	static const enum dir each_dir[] = {DIR_H2D, DIR_D2H, DIR_DUPLEX};
	struct copy_state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	r = find_sizes(run, &s->sizes, err);
	if (r == 0)
		r = cvb_paths_fit(&s->paths, run, &s->sizes, wanted_paths(run), err);
	for (size_t i = 0; r == 0 && i < CVB_ARRAY_LEN(each_dir); i++)
		for (unsigned mem = 0; r == 0 && mem < CVB_PATH_MEMS; mem++)
			if (wanted(run, each_dir[i], mem))
				r = add_path(run, each_dir[i], mem, err);
	return r < 0 ? r : cvb_paths_any(&s->paths, run, err);
}

/* --- measuring ---------------------------------------------------------------------------------
 */

/* Not timed: check what the batch before left. */
static int copy_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct copy_state *s = worker->run->state;

	(void)c;
	(void)iters;
	cvb_paths_look(&s->paths);
	return 0;
}

static int copy_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	enum dir dir = dir_of(c);
	struct cvb_err err = {0};
	size_t bytes = (size_t)(dir == DIR_DUPLEX ? c->bytes / 2 : c->bytes);
	int r = copies(worker->run, dir, mem_of(c), bytes, iters, &err);

	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int copy_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct copy_state *s = run->state;

	return cvb_paths_verify(&s->paths, err);
}

static void copy_done(struct cvb_run *run)
{
	struct copy_state *s = run->state;

	if (!s)
		return;
	cvb_paths_done(&s->paths);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_copy = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.copy",
	.summary = "copies between host and device memory, by size, direction and kind of memory",
	.doc = "gpu.copy.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = copy_opts,
	.conf_size = sizeof(struct copy_conf),
	.metrics = copy_metrics,
	.params = (const char *const[]){"size_bytes", "dir", "mem", NULL},
	.setup = copy_setup,
	.prepare = copy_prepare,
	.step = copy_step,
	.verify = copy_verify,
	.done = copy_done,
};

CVB_BENCH(gpu_copy);
