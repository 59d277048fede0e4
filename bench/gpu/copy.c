/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.copy: bandwidth and latency of copies between host and device, one at a time in each
 * direction.
 *
 * Every path (direction and kind of host memory) has its own destination, filled with zeroes before
 * and never zero afterwards, so that a check sees a path whose copies did not happen.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/device.h"

#include <errno.h>
#include <inttypes.h>

#define WALL_MAX_BYTES	  (16 * CVB_MIB)
#define VIRTUAL_MAX_BYTES (4096 * CVB_MIB)
#define LARGE_BYTES	  (1024 * CVB_MIB)
#define LARGE_STEP	  4

enum {
	METRIC_BANDWIDTH,
	METRIC_LATENCY,
};

enum {
	MEM_PINNED,
	MEM_PAGEABLE,
	MEMS,
	MEM_BOTH = MEMS,
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
static const char *const mems[] = {"pinned", "pageable", "both", NULL};

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
	 .help = "largest copy; 0 means 16 MiB, and 4 GiB on a virtual clock"},
	{.name = "step",
	 .type = CVB_OPT_U64,
	 OPT(step),
	 .min = 0,
	 .max = 0x1p20,
	 .def = "0",
	 .help = "each size is the one before times this power of two; 0 means 4, and on a "
		 "virtual clock 2 up to 1 GiB"},
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
			      "bytes copied / time from issue to completion (explains model load, "
			      "prefill, KV restore)"},
	[METRIC_LATENCY] = {"latency", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			    "time from issue to completion of one copy, of two for duplex"},
	{.name = NULL},
};

/* One direction of one kind of host memory. */
struct path {
	struct cvb_gpu_buf *src; /* borrowed from copy_state */
	struct cvb_gpu_buf *dst;
	/* of the batch under way; written by the worker, which also looks at them */
	size_t done_bytes; /* the largest copy done since dst was zeroed */
};

struct copy_state {
	struct cvb_dev dev[2]; /* one for each direction: h2d, d2h */
	struct cvb_gpu_buf *host_src[MEMS];
	struct cvb_gpu_buf *device_src;
	struct path path[2][MEMS];
	size_t max_bytes, step;
	struct cvb_dev_bad bad;
	struct cvb_err first_reason; /* why a path was left out */
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

static bool uses(enum dir dir, unsigned one)
{
	return dir == DIR_DUPLEX || (unsigned)dir == one;
}

static enum cvb_gpu_mem host_kind(unsigned mem)
{
	return mem == MEM_PINNED ? CVB_GPU_HOST_PINNED : CVB_GPU_HOST_PAGEABLE;
}

/* --- copies ------------------------------------------------------------------------------------
 */

struct lanes {
	struct copy_state *s;
	unsigned mem;
	size_t bytes;
	uint64_t iters;
};

static int copy_path(struct copy_state *s, unsigned dir, unsigned mem, size_t bytes, uint64_t iters,
		     struct cvb_err *err)
{
	struct path *p = &s->path[dir][mem];

	p->done_bytes = cvb_max(p->done_bytes, bytes);
	for (uint64_t i = 0; i < iters; i++) {
		int r = cvb_dev_copy(&s->dev[dir], p->dst, 0, p->src, 0, bytes, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int copy_lane(void *arg, unsigned lane, struct cvb_err *err)
{
	const struct lanes *l = arg;

	return copy_path(l->s, lane, l->mem, l->bytes, l->iters, err);
}

static int copies(struct cvb_run *run, enum dir dir, unsigned mem, size_t bytes, uint64_t iters,
		  struct cvb_err *err)
{
	struct copy_state *s = run->state;
	struct lanes lanes = {s, mem, bytes, iters};

	return dir == DIR_DUPLEX ? cvb_gpu_parallel(run->gpu, 2, copy_lane, &lanes, err)
				 : copy_path(s, (unsigned)dir, mem, bytes, iters, err);
}

/* Check and clear what was copied since the last look. */
static int check_paths(struct copy_state *s, struct cvb_err *err)
{
	int r = 0;

	for (unsigned dir = 0; dir < 2; dir++) {
		for (unsigned mem = 0; r == 0 && mem < MEMS; mem++) {
			struct path *p = &s->path[dir][mem];
			size_t bytes = p->done_bytes;
			char what[64];

			if (!bytes)
				continue;
			p->done_bytes = 0;
			snprintf(what, sizeof(what), "gpu.copy %s %s", dirs[dir], mems[mem]);
			r = cvb_dev_check_clear(&s->dev[dir], p->dst, bytes, what, err);
		}
	}
	return r;
}

/* --- set up ------------------------------------------------------------------------------------
 */

/* A buffer that holds the data; once for all paths that read it. */
static int make_source(struct copy_state *s, enum cvb_gpu_mem kind, struct cvb_gpu_buf **ret,
		       struct cvb_err *err)
{
	struct cvb_dev *d = &s->dev[0];
	int r;

	if (*ret)
		return 0;
	r = cvb_dev_alloc(d, kind, s->max_bytes, ret, err);
	if (r == 0 && kind == CVB_GPU_DEVICE) /* its content is undefined */
		r = cvb_dev_clear(d, *ret, s->max_bytes, err);
	return r < 0 ? r : cvb_dev_fill(d, *ret, s->max_bytes, err);
}

static int make_path(struct copy_state *s, unsigned dir, unsigned mem, struct cvb_err *err)
{
	struct path *p = &s->path[dir][mem];
	bool in = dir == DIR_H2D;
	struct cvb_gpu_buf **src = in ? &s->host_src[mem] : &s->device_src;
	int r;

	if (p->dst)
		return 0;
	r = make_source(s, in ? host_kind(mem) : CVB_GPU_DEVICE, src, err);
	if (r == 0)
		r = cvb_dev_alloc(&s->dev[dir], in ? CVB_GPU_DEVICE : host_kind(mem), s->max_bytes,
				  &p->dst, err);
	p->src = *src;
	return r < 0 ? r : cvb_dev_clear(&s->dev[dir], p->dst, s->max_bytes, err);
}

/* By itself the step is wider where curves are flat and checks take long. */
static uint64_t next_size(const struct copy_conf *conf, const struct copy_state *s, uint64_t size)
{
	return size * (!conf->step && size >= LARGE_BYTES ? LARGE_STEP : s->step);
}

static int add_sizes(struct cvb_run *run, enum dir dir, unsigned mem, struct cvb_err *err)
{
	const struct copy_conf *conf = run->conf;
	const struct copy_state *s = run->state;
	unsigned copies_of_one = dir == DIR_DUPLEX ? 2 : 1;
	int r = 0;

	for (uint64_t size = conf->min_bytes; r >= 0 && size <= s->max_bytes;
	     size = next_size(conf, s, size)) {
		struct cvb_case c = {
			.metrics = 1U << METRIC_BANDWIDTH | 1U << METRIC_LATENCY,
			.params = json_pack("{s:I,s:s,s:s}", "size_bytes", (json_int_t)size, "dir",
					    dirs[dir], "mem", mems[mem]),
			.bytes = (double)size * copies_of_one,
			.ops = 1,
			.max_iters = cvb_dev_max_iters(run->gpu, 1, 0), /* each one checked */
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
	char text[CVB_ERR_MSG_BYTES];
	int r = 0;

	for (unsigned one = 0; r == 0 && one < 2; one++)
		if (uses(dir, one))
			r = make_path(s, one, mem, &why);
	/* once, untimed: a device may find out only now that it cannot */
	if (r == 0)
		r = copies(run, dir, mem, cvb_min(conf->min_bytes, s->max_bytes), 1, &why);
	if (r == 0)
		r = check_paths(s, &why);
	if (r == 0)
		return add_sizes(run, dir, mem, err);
	if (r == -EBADMSG) { /* a finding, not a failure to set up */
		cvb_dev_keep(&s->bad, r, &why);
		return add_sizes(run, dir, mem, err);
	}
	for (unsigned one = 0; one < 2; one++)
		s->path[one][mem].done_bytes = 0;
	if (r == -EOPNOTSUPP) {
		if (!s->first_reason.n)
			s->first_reason = why;
		cvb_err_text(&why, text, sizeof(text));
		cvb_run_leave_out(run, json_pack("{s:s,s:s}", "dir", dirs[dir], "mem", mems[mem]),
				  "%s", text);
		return 0;
	}
	if (err)
		*err = why;
	return r;
}

static bool wanted(const struct cvb_run *run, enum dir dir)
{
	const struct copy_conf *conf = run->conf;
	int want = conf->dir;

	if (want == DIR_AUTO)
		want = cvb_gpu_is_deterministic(run->gpu) ? DIR_ALL : DIR_BOTH;
	return want == DIR_ALL || want == (int)dir || (want == DIR_BOTH && dir != DIR_DUPLEX);
}

static int find_sizes(struct cvb_run *run, struct copy_state *s, struct cvb_err *err)
{
	const struct copy_conf *conf = run->conf;
	bool virt = cvb_gpu_is_deterministic(run->gpu);

	s->max_bytes = conf->max_bytes ? conf->max_bytes
		       : virt	       ? VIRTUAL_MAX_BYTES
				       : WALL_MAX_BYTES;
	s->step = conf->step ? conf->step : virt ? 2 : 4;
	if (s->step < 2 || s->step & (s->step - 1))
		return cvb_err_set(err, -EINVAL, "step=%" PRIu64 " is no power of two", conf->step);
	if (conf->min_bytes > s->max_bytes)
		return cvb_err_set(err, -EINVAL,
				   "min_size (%" PRIu64 " bytes) is larger than max_size (%zu "
				   "bytes)",
				   conf->min_bytes, s->max_bytes);
	return 0;
}

static int copy_setup(struct cvb_run *run, struct cvb_err *err)
{
	static const enum dir each_dir[] = {DIR_H2D, DIR_D2H, DIR_DUPLEX};
	const struct copy_conf *conf = run->conf;
	struct copy_state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	r = find_sizes(run, s, err);
	for (unsigned i = 0; r == 0 && i < 2; i++)
		r = cvb_dev_init(&s->dev[i], run->gpu, NULL, s->max_bytes, conf->min_bytes,
				 /* seed= */ 1, err);
	for (size_t i = 0; r == 0 && i < CVB_ARRAY_LEN(each_dir); i++)
		for (unsigned mem = 0; r == 0 && mem < MEMS; mem++)
			if (wanted(run, each_dir[i]) &&
			    (conf->mem == MEM_BOTH || conf->mem == (int)mem))
				r = add_path(run, each_dir[i], mem, err);
	if (r == 0 && !run->n_cases) {
		if (err)
			*err = s->first_reason;
		return -EOPNOTSUPP;
	}
	return r;
}

/* --- measuring ---------------------------------------------------------------------------------
 */

/* Not timed: check what the batch before left.  A later copy would hide that this one was wrong. */
static int copy_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct copy_state *s = worker->run->state;
	struct cvb_err err = {0};

	(void)c;
	(void)iters;
	cvb_dev_keep(&s->bad, check_paths(s, &err), &err);
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
	int r = cvb_dev_kept(&s->bad, err);

	return r < 0 ? r : check_paths(s, err);
}

static void copy_done(struct cvb_run *run)
{
	struct copy_state *s = run->state;

	if (!s)
		return;
	for (unsigned i = 0; i < 2; i++) {
		cvb_dev_done(&s->dev[i]);
		for (unsigned mem = 0; mem < MEMS; mem++)
			cvb_gpu_free(s->path[i][mem].dst);
	}
	for (unsigned mem = 0; mem < MEMS; mem++)
		cvb_gpu_free(s->host_src[mem]);
	cvb_gpu_free(s->device_src);
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
	.setup = copy_setup,
	.prepare = copy_prepare,
	.step = copy_step,
	.verify = copy_verify,
	.done = copy_done,
};

CVB_BENCH(gpu_copy);
