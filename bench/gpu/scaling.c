/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.scaling: what copies of several host threads reach together, each with a stream, a context or
 * a process of its own.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/paths.h"

#include <errno.h>
#include <inttypes.h>

#define MAX_LANES      32
#define WALL_MAX_LANES 8 /* more than most guests have CPUs */
#define WALL_BYTES     (4 * CVB_MIB)
#define VIRTUAL_BYTES  (64 * CVB_MIB)

enum {
	METRIC_BANDWIDTH,
	METRIC_GROWTH,
};

enum over {
	OVER_STREAMS,
	OVER_CONTEXTS,
	OVER_PROCESSES,
	OVERS,
	OVER_ALL = OVERS,
};

struct scaling_conf {
	uint64_t size_bytes, max;
	int over, dir;
};

static const char *const overs[] = {"streams", "contexts", "processes", "all", NULL};
static const char *const dirs[] = {"h2d", "d2h", "both", NULL};

#define OPT(field) .offset = offsetof(struct scaling_conf, field)

static const struct cvb_opt scaling_opts[] = {
	{.name = "size",
	 .type = CVB_OPT_SIZE,
	 OPT(size_bytes),
	 .min = 0,
	 .max = 0x1p40,
	 .def = "0",
	 .unit = "bytes",
	 .help = "one copy; 0: 4 MiB, and 64 MiB on a virtual clock"},
	{.name = "max",
	 .type = CVB_OPT_U64,
	 OPT(max),
	 .min = 0,
	 .max = MAX_LANES,
	 .def = "0",
	 .help = "most host threads at a time; 1, 2, 4, … up to it are measured; 0: 8, and 32 on a "
		 "virtual clock"},
	{.name = "over",
	 .type = CVB_OPT_CHOICE,
	 OPT(over),
	 .def = "all",
	 .choices = overs,
	 .help = "what each thread has for itself"},
	{.name = "dir",
	 .type = CVB_OPT_CHOICE,
	 OPT(dir),
	 .def = "both",
	 .choices = dirs,
	 .help = "host to device, device to host, or both one after the other"},
	CVB_OPT_END,
};

static const struct cvb_metric scaling_metrics[] = {
	[METRIC_BANDWIDTH] = {"bandwidth", CVB_REPORTED, CVB_HIGHER_IS_BETTER, "bytes_per_s",
			      "bytes copied by all threads / time (explains parallel loaders and "
			      "several engines on one GPU)"},
	[METRIC_GROWTH] = {"growth", CVB_REPORTED, CVB_HIGHER_IS_BETTER, "ratio",
			   "that bandwidth / that of one thread in the same sample (explains how "
			   "much of the loss of copies and model load under CC, 0.06 to 0.78 left, "
			   "is won back: 2.7 to 2.9 times with 8 processes)"},
	{.name = NULL},
};

/* What a host thread has: a stream and its buffers, pinned on the host. */
struct lane {
	struct cvb_gpu_context *context; /* owned; NULL: the primary one */
	struct cvb_dev dev;
	struct cvb_gpu_buf *host[2], *device[2]; /* by direction: source and destination */
	/* written by its thread */
	size_t done_bytes[2]; /* copied since the last check */
	uint64_t start_ns, end_ns;
};

struct scaling_state {
	size_t bytes;	  /* of one copy */
	unsigned max;	  /* threads */
	uint64_t windows; /* that each thread has in each of its buffers, see device.h */
	bool trial;	  /* the batch since the last check is one */
	struct lane lane[OVERS][MAX_LANES];
	unsigned n_lanes[OVERS];
	bool has_alone[OVERS][2];  /* one thread can be measured */
	double alone_ns[OVERS][2]; /* one iteration of one thread, of the sample under way */
	struct cvb_dev_bad bad;
	struct cvb_err first_reason;
};

struct job {
	struct lane *lane;
	enum cvb_gpu_dir dir;
	size_t bytes;
	uint64_t iters;
};

static uint64_t key_of(enum over over, enum cvb_gpu_dir dir, unsigned n)
{
	return (uint64_t)over << 16 | (uint64_t)dir << 8 | n;
}

static enum over over_of(uint64_t key)
{
	return (enum over)(key >> 16);
}

static enum cvb_gpu_dir dir_of(uint64_t key)
{
	return (enum cvb_gpu_dir)(key >> 8 & 0xff);
}

static unsigned n_of(uint64_t key)
{
	return key & 0xff;
}

/* --- copies ------------------------------------------------------------------------------------
 */

static int copy_lane(void *arg, unsigned number, struct cvb_err *err)
{
	const struct job *job = arg;
	struct lane *l = &job->lane[number];
	bool in = job->dir == CVB_GPU_H2D;
	struct cvb_gpu_buf *dst = in ? l->device[job->dir] : l->host[job->dir];
	struct cvb_gpu_buf *src = in ? l->host[job->dir] : l->device[job->dir];
	int r = 0;

	l->done_bytes[job->dir] = (size_t)job->iters * job->bytes;
	l->start_ns = cvb_dev_now_ns(l->dev.gpu);
	for (uint64_t i = 0; r == 0 && i < job->iters; i++) {
		size_t at = (size_t)i * job->bytes;

		r = cvb_dev_copy(&l->dev, dst, at, src, at, job->bytes, err);
	}
	l->end_ns = cvb_dev_now_ns(l->dev.gpu);
	return r;
}

static int copies(struct cvb_run *run, uint64_t key, uint64_t iters, struct cvb_err *err)
{
	struct scaling_state *s = run->state;
	struct job job = {s->lane[over_of(key)], dir_of(key), s->bytes, iters};

	return cvb_gpu_parallel(run->gpu, n_of(key), copy_lane, &job, err);
}

static int check_lane(struct lane *l, bool trial, enum over over, unsigned number,
		      struct cvb_err *err)
{
	int r = 0;

	for (unsigned dir = 0; r == 0 && dir < 2; dir++) {
		size_t bytes = l->done_bytes[dir];
		char what[80];

		if (!bytes)
			continue;
		l->done_bytes[dir] = 0;
		snprintf(what, sizeof(what), "gpu.scaling %s %s thread %u",
			 cvb_gpu_dir_text((enum cvb_gpu_dir)dir), overs[over], number);
		r = cvb_dev_after(&l->dev, dir == CVB_GPU_H2D ? l->device[dir] : l->host[dir],
				  bytes, trial, what, err);
	}
	return r;
}

static int check(struct cvb_run *run, struct cvb_err *err)
{
	struct scaling_state *s = run->state;
	int r = 0;

	for (unsigned over = 0; over < OVERS; over++)
		for (unsigned i = 0; r == 0 && i < s->n_lanes[over]; i++)
			r = check_lane(&s->lane[over][i], s->trial, (enum over)over, i, err);
	return r;
}

/* --- set up ------------------------------------------------------------------------------------
 */

/* Each thread has data of its own: a byte that went to another's memory is seen. */
static int make_buffers(struct lane *l, enum cvb_gpu_dir dir, size_t bytes, struct cvb_err *err)
{
	bool in = dir == CVB_GPU_H2D;
	int r = cvb_dev_alloc(&l->dev, CVB_GPU_HOST_PINNED, bytes, &l->host[dir], err);

	if (r == 0)
		r = cvb_dev_alloc(&l->dev, CVB_GPU_DEVICE, bytes, &l->device[dir], err);
	if (r == 0)
		r = cvb_dev_clear(&l->dev, l->host[dir], bytes, err);
	if (r == 0)
		r = cvb_dev_clear(&l->dev, l->device[dir], bytes, err);
	return r < 0 ? r : cvb_dev_fill(&l->dev, in ? l->host[dir] : l->device[dir], bytes, err);
}

static int make_lane(struct cvb_run *run, enum over over, struct cvb_err *err)
{
	struct scaling_state *s = run->state;
	struct lane *l = &s->lane[over][s->n_lanes[over]];
	uint64_t seed = 1 + (uint64_t)over * MAX_LANES + s->n_lanes[over];
	size_t bytes = (size_t)s->windows * s->bytes;
	int r = 0;

	s->n_lanes[over]++; /* half built, done frees it as well */
	if (over != OVER_STREAMS)
		r = cvb_gpu_context_new(run->gpu,
					over == OVER_CONTEXTS ? CVB_GPU_CONTEXT_THREAD
							      : CVB_GPU_CONTEXT_PROCESS,
					&l->context, err);
	if (r == 0)
		r = cvb_dev_init(&l->dev, run->gpu, l->context, bytes, s->bytes, seed, err);
	for (unsigned dir = 0; r == 0 && dir < 2; dir++)
		r = make_buffers(l, (enum cvb_gpu_dir)dir, bytes, err);
	return r;
}

static void free_lane(struct lane *l)
{
	cvb_dev_done(&l->dev);
	for (unsigned dir = 0; dir < 2; dir++) {
		cvb_gpu_free(l->host[dir]);
		cvb_gpu_free(l->device[dir]);
	}
	cvb_gpu_context_free(l->context);
	*l = (struct lane){0};
}

/* What a device has no room for, or cannot do, is left out. */
static bool is_limit(int r)
{
	return r == -EOPNOTSUPP || r == -ENOSPC || r == -ENOMEM;
}

static json_t *params_of(uint64_t key)
{
	return json_pack("{s:s,s:s,s:i}", "over", overs[over_of(key)], "dir",
			 cvb_gpu_dir_text(dir_of(key)), "n", (int)n_of(key));
}

/* One point, tried once, untimed: a device may find out only now that it cannot. */
static int add_point(struct cvb_run *run, uint64_t key, int made, const struct cvb_err *made_err,
		     struct cvb_err *err)
{
	struct scaling_state *s = run->state;
	struct cvb_err why = made < 0 ? *made_err : (struct cvb_err){0};
	int r = made < 0 ? made : copies(run, key, 1, &why);

	bool *alone = &s->has_alone[over_of(key)][dir_of(key)];

	if (r == 0) {
		*alone = *alone || n_of(key) == 1;
		struct cvb_case c = {
			.metrics = 1U << METRIC_BANDWIDTH | (unsigned)*alone << METRIC_GROWTH,
			.params = params_of(key),
			.bytes = (double)s->bytes * n_of(key),
			.ops = n_of(key),
			.max_iters = s->windows,
			.user = key,
		};

		cvb_dev_keep(&s->bad, check(run, &why), &why);
		r = cvb_run_add_case(run, &c, err);
		return r < 0 ? r : 0;
	}
	for (unsigned i = 0; i < s->n_lanes[over_of(key)]; i++)
		s->lane[over_of(key)][i].done_bytes[dir_of(key)] = 0;
	if (is_limit(r)) {
		char text[CVB_ERR_MSG_BYTES];

		if (!s->first_reason.n)
			s->first_reason = why;
		cvb_err_text(&why, text, sizeof(text));
		cvb_run_leave_out(run, params_of(key), "%s", text);
		return 0;
	}
	if (err)
		*err = why;
	return r;
}

static int add_over(struct cvb_run *run, enum over over, struct cvb_err *err)
{
	const struct scaling_conf *conf = run->conf;
	struct scaling_state *s = run->state;
	struct cvb_err why = {0};
	int made = 0, r = 0;

	for (unsigned n = 1; r == 0 && n <= s->max; n *= 2) {
		while (made == 0 && s->n_lanes[over] < n)
			made = make_lane(run, over, &why);
		if (made < 0 && !is_limit(made)) {
			if (err)
				*err = why;
			return made;
		}
		for (unsigned dir = 0; r == 0 && dir < 2; dir++)
			if (conf->dir == 2 || conf->dir == (int)dir)
				r = add_point(run, key_of(over, (enum cvb_gpu_dir)dir, n), made,
					      &why, err);
	}
	return r;
}

static int scaling_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct scaling_conf *conf = run->conf;
	struct scaling_state *s = calloc(1, sizeof(*s));
	bool virt = cvb_gpu_is_deterministic(run->gpu);
	int r = 0;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	s->bytes = conf->size_bytes ? conf->size_bytes : virt ? VIRTUAL_BYTES : WALL_BYTES;
	s->max = conf->max ? (unsigned)conf->max : virt ? MAX_LANES : WALL_MAX_LANES;
	/* all threads together have as much memory as another benchmark alone */
	s->windows = cvb_dev_windows(run->gpu, s->bytes * s->max);
	for (unsigned over = 0; r == 0 && over < OVERS; over++)
		if (conf->over == OVER_ALL || conf->over == (int)over)
			r = add_over(run, (enum over)over, err);
	if (r < 0 || run->n_cases)
		return r;
	if (err)
		*err = s->first_reason;
	return -EOPNOTSUPP;
}

/* --- measuring ---------------------------------------------------------------------------------
 */

/* Not timed: check what the batch before left. */
static int scaling_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct scaling_state *s = worker->run->state;
	struct cvb_err err = {0};

	(void)c;
	(void)iters;
	if (s->bad.r == 0)
		cvb_dev_keep(&s->bad, check(worker->run, &err), &err);
	s->trial = worker->run->trial;
	return 0;
}

static int scaling_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct cvb_err err = {0};
	int r = copies(worker->run, c->user, iters, &err);

	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

/* From the first thread's first copy to the last one's end: batches are short, and threads take
 * their time to start. */
static uint64_t took_ns(const struct lane *lane, unsigned n)
{
	uint64_t start_ns = lane[0].start_ns, end_ns = lane[0].end_ns;

	for (unsigned i = 1; i < n; i++) {
		start_ns = cvb_min(start_ns, lane[i].start_ns);
		end_ns = cvb_max(end_ns, lane[i].end_ns);
	}
	return end_ns - start_ns;
}

/* One thread is measured before the others, in each sample. */
static int scaling_after_batch(struct cvb_run *run, size_t case_index, uint64_t iters, uint64_t ns,
			       struct cvb_err *err)
{
	struct scaling_state *s = run->state;
	uint64_t key = run->cases[case_index].user;
	double one_ns = (double)took_ns(s->lane[over_of(key)], n_of(key)) / (double)iters;
	double *alone_ns = &s->alone_ns[over_of(key)][dir_of(key)];

	(void)ns;
	(void)err;
	/* a time of 0 is a clock that stands still: not finite, and untrusted */
	cvb_run_report(run, case_index, METRIC_BANDWIDTH,
		       (double)s->bytes * n_of(key) * 1e9 / one_ns);
	if (n_of(key) == 1)
		*alone_ns = one_ns;
	if (s->has_alone[over_of(key)][dir_of(key)])
		cvb_run_report(run, case_index, METRIC_GROWTH, n_of(key) * *alone_ns / one_ns);
	return 0;
}

static int scaling_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct scaling_state *s = run->state;
	int r = cvb_dev_kept(&s->bad, err);

	return r < 0 ? r : check(run, err);
}

static void scaling_done(struct cvb_run *run)
{
	struct scaling_state *s = run->state;

	if (!s)
		return;
	for (unsigned over = 0; over < OVERS; over++)
		for (unsigned i = 0; i < s->n_lanes[over]; i++)
			free_lane(&s->lane[over][i]);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_scaling = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.scaling",
	.summary = "copies over several streams, contexts and processes at the same time",
	.doc = "gpu.scaling.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = scaling_opts,
	.conf_size = sizeof(struct scaling_conf),
	.metrics = scaling_metrics,
	.params = (const char *const[]){"over", "dir", "n", NULL},
	.setup = scaling_setup,
	.prepare = scaling_prepare,
	.step = scaling_step,
	.after_batch = scaling_after_batch,
	.verify = scaling_verify,
	.done = scaling_done,
};

CVB_BENCH(gpu_scaling);
