/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.p2p: copies between two GPUs, and an all-reduce made of them: a ring of peer copies and
 * kernels that combine two vectors.
 *
 * All-reduce of DEVICES vectors of `size_bytes`, each in DEVICES parts.  DEVICES - 1 times every
 * device copies a part from the one before it in the ring and combines it with its own; then
 * DEVICES - 1 times it copies a finished part.  The host waits for all devices after each of these
 * steps.
 *
 * Parts are combined as own - 2 received, which moves as many bytes as a sum.  Where all devices
 * have the same already that only changes the sign: however many all-reduces follow one another,
 * numbers stay as large as they were and exact, and what one of them did wrong is never rounded
 * away.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/device.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define DEVICES		  2 /* as many as a device and its peer are */
#define WALL_MAX_BYTES	  (16 * CVB_MIB)
#define VIRTUAL_MAX_BYTES (1024 * CVB_MIB)
/* A vector is checked element by element. */
#define REDUCE_MAX_BYTES (16 * CVB_MIB)

enum {
	METRIC_BANDWIDTH,
	METRIC_LATENCY,
	METRIC_REDUCE_BANDWIDTH,
	METRIC_REDUCE_LATENCY,
};

enum kind {
	KIND_OUT, /* from the first device to its peer */
	KIND_IN,
	KIND_REDUCE,
};

struct p2p_conf {
	uint64_t min_bytes, max_bytes, step;
};

static const char *const dirs[] = {"out", "in", NULL}; /* KIND_REDUCE has none */

#define OPT(field) .offset = offsetof(struct p2p_conf, field)

static const struct cvb_opt p2p_opts[] = {
	{.name = "min_size",
	 .type = CVB_OPT_SIZE,
	 OPT(min_bytes),
	 .min = 8,
	 .max = 0x1p40,
	 .def = "8",
	 .unit = "bytes",
	 .help = "smallest copy"},
	{.name = "max_size",
	 .type = CVB_OPT_SIZE,
	 OPT(max_bytes),
	 .min = 0,
	 .max = 0x1p40,
	 .def = "0",
	 .unit = "bytes",
	 .help = "largest copy; 0 means 16 MiB, and 1 GiB on a virtual clock; an all-reduce has at "
		 "most 16 MiB"},
	{.name = "step",
	 .type = CVB_OPT_U64,
	 OPT(step),
	 .min = 0,
	 .max = 0x1p20,
	 .def = "0",
	 .help = "each size is the one before times this power of two; 0 means 128, and 8 on a "
		 "virtual clock"},
	CVB_OPT_END,
};

static const struct cvb_metric p2p_metrics[] = {
	[METRIC_BANDWIDTH] = {"bandwidth", CVB_BYTES_PER_S, CVB_HIGHER_IS_BETTER, NULL,
			      "bytes copied to or from the other GPU / time (explains "
			      "tensor parallel serving and training: 0.82 to 0.94 is left "
			      "under CC)"},
	[METRIC_LATENCY] = {"latency", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			    "time from issue to completion of one such copy (explains "
			    "10 to 32 % of a training step that CC costs, with 9 to 15 "
			    "us more for each small transfer)"},
	[METRIC_REDUCE_BANDWIDTH] = {"allreduce_bandwidth", CVB_BYTES_PER_S, CVB_HIGHER_IS_BETTER,
				     NULL,
				     "bus bandwidth: 2 (n-1) / n of the vector's bytes / time "
				     "(explains the loss of gradient exchange in training)"},
	[METRIC_REDUCE_LATENCY] = {"allreduce_latency", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
				   "time of one all-reduce over n GPUs (explains the loss of "
				   "every layer of tensor parallel serving)"},
	{.name = NULL},
};

/* One GPU's part in an all-reduce. */
struct member {
	struct cvb_gpu_buf *part[DEVICES];
	struct cvb_gpu_buf *received;
	struct cvb_gpu_buf *spare; /* takes what is combined, then the place of the part */
	struct cvb_gpu_buf *host;  /* one part, to set and to check it */
};

struct p2p_state {
	struct cvb_gpu *peer;
	struct cvb_dev dev[DEVICES];	     /* this GPU, its peer */
	struct cvb_gpu_buf *src[2], *dst[2]; /* of KIND_OUT and KIND_IN */
	size_t done_bytes[2];		     /* copied since dst was zeroed */
	struct member member[DEVICES];
	struct cvb_dev_sizes sizes;
	size_t reduce_bytes; /* longest vector of an all-reduce; 0: there is none */
	size_t bytes;	     /* length of the copies' buffers, with windows as in device.h */
	bool trial;	     /* the batch under way is one */
	/* of the batch under way */
	size_t part_bytes; /* 0: the parts are not set */
	uint64_t reduced;  /* all-reduces since they were */
	struct cvb_dev_bad bad;
};

/* --- copies ----------------------------------------------------------------------------------- */

static int peer_copies(struct p2p_state *s, enum kind kind, size_t bytes, uint64_t iters,
		       struct cvb_err *err)
{
	struct cvb_gpu_stream *stream = s->dev[0].stream;
	int r = 0;

	s->done_bytes[kind] = (size_t)iters * bytes;
	for (uint64_t i = 0; r == 0 && i < iters; i++) {
		size_t at = (size_t)i * bytes;

		r = cvb_gpu_peer_copy_async(stream, s->dst[kind], at, s->src[kind], at, bytes, err);
		/* also after a failure: nothing may be in flight on return */
		int synced = cvb_gpu_sync(stream, r < 0 ? NULL : err);

		r = r < 0 ? r : synced;
	}
	return r;
}

static int check_copies(struct p2p_state *s, struct cvb_err *err)
{
	int r = 0;

	for (unsigned kind = KIND_OUT; r == 0 && kind <= KIND_IN; kind++) {
		size_t bytes = s->done_bytes[kind];
		char what[32];

		if (!bytes)
			continue;
		s->done_bytes[kind] = 0;
		snprintf(what, sizeof(what), "gpu.p2p %s", dirs[kind]);
		r = cvb_dev_after(&s->dev[kind == KIND_OUT], s->dst[kind], bytes, s->trial, what,
				  err);
	}
	return r;
}

/* --- all-reduce ------------------------------------------------------------------------------- */

static int sync_all(struct p2p_state *s, int r, struct cvb_err *err)
{
	for (unsigned d = 0; d < DEVICES; d++) {
		int synced = cvb_gpu_sync(s->dev[d].stream, r < 0 ? NULL : err);

		r = r < 0 ? r : synced;
	}
	return r;
}

/* Device `d` gets part `c` from the one before it in the ring: to combine it, or in its place. */
static int take(struct p2p_state *s, unsigned d, unsigned c, bool add, struct cvb_err *err)
{
	struct member *m = &s->member[d];
	struct cvb_gpu_buf *from = s->member[(d + DEVICES - 1) % DEVICES].part[c];
	const struct cvb_gpu_launch launch = {.kernel = CVB_GPU_KERNEL_TRIAD,
					      .a = m->spare,
					      .b = m->part[c],
					      .c = m->received,
					      .bytes = s->part_bytes,
					      .scalar = -2};
	int r = cvb_gpu_peer_copy_async(s->dev[d].stream, add ? m->received : m->part[c], 0, from,
					0, s->part_bytes, err);

	if (r < 0 || !add)
		return r;
	r = cvb_gpu_launch_async(s->dev[d].stream, &launch, err);
	m->spare = launch.b;
	m->part[c] = launch.a;
	return r;
}

/* The part that device `d` gets in a step: it has gone on by one device in each. */
static unsigned part_of(unsigned d, unsigned step, bool add)
{
	return (d + (add ? DEVICES - 1 : 0) + DEVICES - step) % DEVICES;
}

static int all_reduce(struct p2p_state *s, struct cvb_err *err)
{
	int r = 0;

	s->reduced++;
	for (unsigned phase = 0; phase < 2; phase++) {
		bool add = phase == 0;

		for (unsigned step = 0; r == 0 && step < DEVICES - 1; step++) {
			for (unsigned d = 0; r == 0 && d < DEVICES; d++)
				r = take(s, d, part_of(d, step, add), add, err);
			r = sync_all(s, r, err);
		}
	}
	return r;
}

/* Element i of part c of device d: small whole numbers, so that results are exact. */
static double value(unsigned d, unsigned c, size_t i)
{
	return (double)(cvb_gpu_pattern(1 + d * DEVICES + c, i) >> 44) + 1;
}

static int set_parts(struct p2p_state *s, size_t part_bytes, struct cvb_err *err)
{
	int r = 0;

	s->part_bytes = part_bytes;
	s->reduced = 0;
	for (unsigned d = 0; d < DEVICES; d++) {
		double *p = cvb_gpu_buf_host(s->member[d].host);

		for (unsigned c = 0; r == 0 && c < DEVICES; c++) {
			for (size_t i = 0; i < part_bytes / sizeof(double); i++)
				p[i] = value(d, c, i);
			r = cvb_dev_copy(&s->dev[d], s->member[d].part[c], 0, s->member[d].host, 0,
					 part_bytes, err);
		}
	}
	return r;
}

/* What all devices have after a number of all-reduces.  The first to combine part c is the device
 * that gets it in the first step; then the sign changes with each. */
static double reduced_value(unsigned c, size_t i, uint64_t count)
{
	unsigned own = (c + 1) % DEVICES;

	_Static_assert(DEVICES == 2, "more would be a longer chain");
	double first = value(own, c, i) - 2 * value(c, c, i);

	return count % 2 ? first : -first;
}

static int check_part(struct p2p_state *s, unsigned d, unsigned c, struct cvb_err *err)
{
	double *p = cvb_gpu_buf_host(s->member[d].host);
	int r;

	memset(p, 0, s->part_bytes);
	r = cvb_dev_copy(&s->dev[d], s->member[d].host, 0, s->member[d].part[c], 0, s->part_bytes,
			 err);
	for (size_t i = 0; r == 0 && i < s->part_bytes / sizeof(double); i++) {
		double want = reduced_value(c, i, s->reduced);

		if (!(p[i] >= want && p[i] <= want))
			return cvb_err_set(
				err, -EBADMSG,
				"gpu.p2p all-reduce: element %zu of part %u on GPU %u is "
				"%.17g instead of %.17g",
				i, c, d, p[i], want);
	}
	return r;
}

static int check_reduced(struct p2p_state *s, struct cvb_err *err)
{
	int r = 0;

	for (unsigned d = 0; s->reduced && !s->trial && d < DEVICES; d++)
		for (unsigned c = 0; r == 0 && c < DEVICES; c++)
			r = check_part(s, d, c, err);
	s->reduced = 0;
	return r;
}

/* --- set up ----------------------------------------------------------------------------------- */

static int add_case(struct cvb_run *run, enum kind kind, uint64_t size, struct cvb_err *err)
{
	bool reduce = kind == KIND_REDUCE;
	struct cvb_case c = {
		.metrics = reduce ? 1U << METRIC_REDUCE_BANDWIDTH | 1U << METRIC_REDUCE_LATENCY
				  : 1U << METRIC_BANDWIDTH | 1U << METRIC_LATENCY,
		.params = reduce ? json_pack("{s:I,s:i}", "size_bytes", (json_int_t)size, "devices",
					     DEVICES)
				 : json_pack("{s:I,s:s}", "size_bytes", (json_int_t)size, "dir",
					     dirs[kind]),
		.bytes = reduce ? 2.0 * (DEVICES - 1) / DEVICES * (double)size : (double)size,
		.ops = 1,
		.max_iters = reduce ? cvb_dev_max_iters(run->gpu, 1, 0)
				    : cvb_dev_windows(run->gpu, size),
		.user = (uint64_t)size << 2 | kind,
	};
	int r = cvb_run_add_case(run, &c, err);

	return r < 0 ? r : 0;
}

static int make_copies(struct p2p_state *s, enum kind kind, struct cvb_err *err)
{
	unsigned to = kind == KIND_OUT, from = !to;
	int r = cvb_dev_alloc(&s->dev[from], CVB_GPU_DEVICE, s->bytes, &s->src[kind], err);

	if (r == 0)
		r = cvb_dev_alloc(&s->dev[to], CVB_GPU_DEVICE, s->bytes, &s->dst[kind], err);
	if (r == 0)
		r = cvb_dev_clear(&s->dev[from], s->src[kind], s->bytes, err);
	if (r == 0)
		r = cvb_dev_fill(&s->dev[from], s->src[kind], s->bytes, err);
	return r < 0 ? r : cvb_dev_clear(&s->dev[to], s->dst[kind], s->bytes, err);
}

static int add_copies(struct cvb_run *run, enum kind kind, struct cvb_err *err)
{
	struct p2p_state *s = run->state;
	struct cvb_err why = {0};
	/* once, untimed: a device may find out only now that it cannot */
	int r = peer_copies(s, kind, s->sizes.bytes[0], 1, err);

	if (r == 0)
		cvb_dev_keep(&s->bad, check_copies(s, &why), &why);
	for (size_t i = 0; r == 0 && i < s->sizes.n; i++)
		r = add_case(run, kind, s->sizes.bytes[i], err);
	return r;
}

static int make_member(struct p2p_state *s, unsigned d, struct cvb_err *err)
{
	struct member *m = &s->member[d];
	size_t bytes = s->reduce_bytes / DEVICES;
	int r = cvb_dev_alloc(&s->dev[d], CVB_GPU_DEVICE, bytes, &m->received, err);

	if (r == 0)
		r = cvb_dev_alloc(&s->dev[d], CVB_GPU_DEVICE, bytes, &m->spare, err);
	for (unsigned c = 0; r == 0 && c < DEVICES; c++)
		r = cvb_dev_alloc(&s->dev[d], CVB_GPU_DEVICE, bytes, &m->part[c], err);
	return r < 0 ? r : cvb_dev_alloc(&s->dev[d], CVB_GPU_HOST_PINNED, bytes, &m->host, err);
}

/* A vector of whole doubles in each part. */
static bool divides(uint64_t size)
{
	return size % (DEVICES * sizeof(double)) == 0;
}

static int add_reduces(struct cvb_run *run, struct cvb_err *err)
{
	struct p2p_state *s = run->state;
	struct cvb_err why = {0};
	int r;

	if (!(cvb_gpu_caps(run->gpu)->flags & CVB_GPU_CAP_LAUNCH)) {
		cvb_run_leave_out(run, json_pack("{s:i}", "devices", DEVICES),
				  "GPU %s cannot launch kernels: no all-reduce",
				  cvb_gpu_spec(run->gpu));
		return 0;
	}
	if (!s->reduce_bytes)
		return 0;
	r = set_parts(s, sizeof(double), err);
	if (r == 0)
		r = all_reduce(s, err);
	if (r == 0)
		cvb_dev_keep(&s->bad, check_reduced(s, &why), &why);
	for (size_t i = 0; r == 0 && i < s->sizes.n && s->sizes.bytes[i] <= s->reduce_bytes; i++)
		if (divides(s->sizes.bytes[i]))
			r = add_case(run, KIND_REDUCE, s->sizes.bytes[i], err);
	return r;
}

static int make_buffers(void *arg, size_t max_bytes, struct cvb_err *err)
{
	struct cvb_run *run = arg;
	struct p2p_state *s = run->state;
	size_t reduce_bytes = cvb_min(max_bytes, (size_t)REDUCE_MAX_BYTES);
	int r = 0;

	s->bytes = cvb_dev_windows_bytes(run->gpu, max_bytes);
	for (unsigned d = 0; r == 0 && d < DEVICES; d++)
		r = cvb_dev_init(&s->dev[d], d ? s->peer : run->gpu, NULL, s->bytes,
				 s->sizes.bytes[0], /* seed= */ 1, err);
	for (unsigned kind = KIND_OUT; r == 0 && kind <= KIND_IN; kind++)
		r = make_copies(s, (enum kind)kind, err);
	if (!(cvb_gpu_caps(run->gpu)->flags & CVB_GPU_CAP_LAUNCH) ||
	    reduce_bytes < DEVICES * sizeof(double))
		return r;
	s->reduce_bytes = reduce_bytes;
	for (unsigned d = 0; r == 0 && d < DEVICES; d++)
		r = make_member(s, d, err);
	return r;
}

static void free_buffers(void *arg)
{
	const struct cvb_run *run = arg;
	struct p2p_state *s = run->state;

	for (unsigned d = 0; d < DEVICES; d++) {
		struct member *m = &s->member[d];

		cvb_gpu_free(m->received);
		cvb_gpu_free(m->spare);
		cvb_gpu_free(m->host);
		for (unsigned c = 0; c < DEVICES; c++)
			cvb_gpu_free(m->part[c]);
		*m = (struct member){0};
		cvb_dev_done(&s->dev[d]);
	}
	for (unsigned kind = KIND_OUT; kind <= KIND_IN; kind++) {
		s->src[kind] = cvb_gpu_free(s->src[kind]);
		s->dst[kind] = cvb_gpu_free(s->dst[kind]);
	}
	s->reduce_bytes = 0;
}

static int p2p_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct p2p_conf *conf = run->conf;
	bool virt = cvb_gpu_is_deterministic(run->gpu);
	struct p2p_state *s = calloc(1, sizeof(*s));
	uint64_t max_bytes = conf->max_bytes, step = conf->step ? conf->step : virt ? 8 : 128;
	int r = 0;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	if (!max_bytes)
		max_bytes = virt ? VIRTUAL_MAX_BYTES : WALL_MAX_BYTES;
	r = cvb_dev_sizes(&s->sizes, conf->min_bytes, max_bytes, step, step, err);
	if (r == 0)
		r = cvb_gpu_peer_open(run->gpu, &s->peer, err);
	if (r == 0)
		r = cvb_dev_fit(run, &s->sizes, make_buffers, free_buffers, run, err);
	for (unsigned kind = KIND_OUT; r == 0 && kind <= KIND_IN; kind++)
		r = add_copies(run, (enum kind)kind, err);
	return r < 0 ? r : add_reduces(run, err);
}

/* --- measuring -------------------------------------------------------------------------------- */

/* Not timed: check what the batch before left, and begin anew. */
static int p2p_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct p2p_state *s = worker->run->state;
	struct cvb_err err = {0};

	(void)iters;
	if (s->bad.r == 0)
		cvb_dev_keep(&s->bad, check_copies(s, &err), &err);
	if (s->bad.r == 0)
		cvb_dev_keep(&s->bad, check_reduced(s, &err), &err);
	s->trial = worker->run->trial;
	if ((c->user & 3) != KIND_REDUCE)
		return 0;
	int r = set_parts(s, (size_t)(c->user >> 2) / DEVICES, &err);

	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int p2p_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct p2p_state *s = worker->run->state;
	enum kind kind = (enum kind)(c->user & 3);
	struct cvb_err err = {0};
	int r = 0;

	if (kind != KIND_REDUCE)
		r = peer_copies(s, kind, (size_t)(c->user >> 2), iters, &err);
	else
		for (uint64_t i = 0; r == 0 && i < iters; i++)
			r = all_reduce(s, &err);
	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int p2p_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct p2p_state *s = run->state;
	int r = cvb_dev_kept(&s->bad, err);

	if (r == 0)
		r = check_copies(s, err);
	return r < 0 ? r : check_reduced(s, err);
}

static void p2p_done(struct cvb_run *run)
{
	struct p2p_state *s = run->state;

	if (!s)
		return;
	free_buffers(run);
	cvb_gpu_close(s->peer);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_p2p = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.p2p",
	.summary = "copies between two GPUs, and an all-reduce made of them",
	.doc = "gpu.p2p.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = p2p_opts,
	.conf_size = sizeof(struct p2p_conf),
	.metrics = p2p_metrics,
	.params = (const char *const[]){"size_bytes", "devices", "dir", NULL},
	.setup = p2p_setup,
	.prepare = p2p_prepare,
	.step = p2p_step,
	.verify = p2p_verify,
	.done = p2p_done,
};

CVB_BENCH(gpu_p2p);
