/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.lifecycle: what it costs to make and to end contexts and memory.
 *
 * One iteration makes or ends one thing of a kind.  Where a batch makes things, they are ended
 * before the next one, untimed, and the other way round.  Before they end, each is used once.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/device.h"
#include "gpu/matrix.h"
#include "gpu/probe.h"
#include "measure/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum kind {
	KIND_CONTEXT,
	KIND_PROCESS,
	KIND_DEVICE,
	KIND_PINNED,
	KIND_MANAGED,
	KINDS,
};

enum {
	METRIC_CREATE,
	METRIC_DESTROY,
	MAX_THINGS = 64,
	PATTERN_BYTES = 4096,
};

#define EMULATED_BYTES (4 * CVB_GIB)

struct lifecycle_conf {
	uint64_t size_bytes, contexts, things;
};

static const char *const kind_words[] = {"context", "process_context", "device", "pinned",
					 "managed"};

#define OPT(field) .offset = offsetof(struct lifecycle_conf, field)

static const struct cvb_opt lifecycle_opts[] = {
	{.name = "size",
	 .type = CVB_OPT_SIZE,
	 OPT(size_bytes),
	 .min = PATTERN_BYTES,
	 .max = 0x1p32,
	 .def = "1MiB",
	 .unit = "bytes",
	 .help = "length of each piece of memory"},
	{.name = "contexts",
	 .type = CVB_OPT_U64,
	 OPT(contexts),
	 .min = 1,
	 .max = MAX_THINGS,
	 .def = "2",
	 .help = "contexts made, then ended, in a batch"},
	{.name = "things",
	 .type = CVB_OPT_U64,
	 OPT(things),
	 .min = 1,
	 .max = MAX_THINGS,
	 .def = "32",
	 .help = "pieces of memory made, then freed, in a batch"},
	CVB_OPT_END,
};

static const struct cvb_metric lifecycle_metrics[] = {
	[METRIC_CREATE] = {"create", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			   "time to make one (explains slow start-up and autoscaling: "
			   "5 to 7 times as long under CC)"},
	[METRIC_DESTROY] = {"destroy", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			    "time to end one (explains the same, and programs that free "
			    "for each request: 6 times as long under CC)"},
	{.name = NULL},
};

struct lifecycle_state {
	struct cvb_gpu_stream *stream;
	struct cvb_gpu_buf *device, *host; /* to use memory with */
	struct cvb_gpu_context *context[MAX_THINGS];
	struct cvb_gpu_buf *buf[MAX_THINGS];
	enum kind kind; /* of the things that are there */
	uint64_t n;	/* how many */
	bool unchecked;
	bool done[KINDS];
	uint64_t seed;
	struct cvb_dev_bad bad;
};

static bool is_context(enum kind k)
{
	return k == KIND_CONTEXT || k == KIND_PROCESS;
}

/* ---- one thing ---- */

static int make_one(struct cvb_run *run, enum kind k, struct cvb_err *err)
{
	const struct lifecycle_conf *conf = run->conf;
	struct lifecycle_state *s = run->state;
	static const enum cvb_gpu_mem mem[KINDS] = {[KIND_DEVICE] = CVB_GPU_DEVICE,
						    [KIND_PINNED] = CVB_GPU_HOST_PINNED,
						    [KIND_MANAGED] = CVB_GPU_MANAGED};
	int r;

	if (is_context(k))
		r = cvb_gpu_context_new(run->gpu,
					k == KIND_CONTEXT ? CVB_GPU_CONTEXT_THREAD
							  : CVB_GPU_CONTEXT_PROCESS,
					&s->context[s->n], err);
	else
		r = cvb_gpu_alloc(run->gpu, mem[k], conf->size_bytes, &s->buf[s->n], err);
	if (r == 0) {
		s->kind = k;
		s->n++;
	}
	return r;
}

static void end_one(struct lifecycle_state *s)
{
	uint64_t i = --s->n;

	s->context[i] = cvb_gpu_context_free(s->context[i]);
	s->buf[i] = cvb_gpu_free(s->buf[i]);
}

/* ---- its use ---- */

/* A pattern goes there, and back from there, through `stream`; 0 if it is the same. */
static int round_trip(struct lifecycle_state *s, struct cvb_gpu_stream *stream,
		      struct cvb_gpu_buf *device, struct cvb_gpu_buf *host, struct cvb_err *err)
{
	uint8_t *p = cvb_gpu_buf_host(host);
	int r;

	cvb_dev_pattern(++s->seed, p, 0, PATTERN_BYTES);
	r = cvb_gpu_copy_async(stream, device, 0, host, 0, PATTERN_BYTES, err);
	if (r == 0)
		r = cvb_gpu_sync(stream, err);
	memset(cvb_gpu_buf_host(host), 0, PATTERN_BYTES);
	if (r == 0)
		r = cvb_gpu_copy_async(stream, host, 0, device, 0, PATTERN_BYTES, err);
	int synced = cvb_gpu_sync(stream, r < 0 ? NULL : err);

	r = r < 0 ? r : synced;
	p = cvb_gpu_buf_host(host);
	if (r == 0 && cvb_dev_differs(s->seed, p, 0, PATTERN_BYTES) < PATTERN_BYTES)
		r = cvb_err_set(err, -EBADMSG, "gpu.lifecycle %s: data came out different",
				kind_words[s->kind]);
	return r;
}

static int use_context(struct cvb_run *run, struct cvb_gpu_context *context, struct cvb_err *err)
{
	struct lifecycle_state *s = run->state;
	struct cvb_gpu_stream *stream = NULL;
	struct cvb_gpu_buf *device = NULL, *host = NULL;
	int r = cvb_gpu_stream_new_in(context, &stream, err);

	if (r == 0)
		r = cvb_gpu_alloc_in(context, CVB_GPU_DEVICE, PATTERN_BYTES, &device, err);
	if (r == 0)
		r = cvb_gpu_alloc_in(context, cvb_matrix_host(run->gpu), PATTERN_BYTES, &host, err);
	if (r == 0)
		r = round_trip(s, stream, device, host, err);
	cvb_gpu_stream_free(stream);
	cvb_gpu_free(device);
	cvb_gpu_free(host);
	return r;
}

static int use_memory(struct lifecycle_state *s, struct cvb_gpu_buf *buf, struct cvb_err *err)
{
	struct cvb_gpu_buf *device = s->kind == KIND_DEVICE ? buf : s->device;

	if (s->kind != KIND_MANAGED)
		return round_trip(s, s->stream, device, s->kind == KIND_PINNED ? buf : s->host,
				  err);
	/* filled by the device, looked at by the host */
	const struct cvb_gpu_launch fill = {
		.kernel = CVB_GPU_KERNEL_FILL, .a = buf, .bytes = PATTERN_BYTES, .seed = ++s->seed};
	const uint64_t *p = cvb_gpu_buf_host(buf);
	int r = cvb_gpu_launch_async(s->stream, &fill, err);

	if (r == 0)
		r = cvb_gpu_sync(s->stream, err);
	if (r == 0)
		r = cvb_gpu_managed_touch(buf, 0, PATTERN_BYTES, err);
	for (size_t i = 0; r == 0 && i < PATTERN_BYTES / sizeof(*p); i++)
		if (p[i] != cvb_gpu_pattern(s->seed, i))
			r = cvb_err_set(err, -EBADMSG,
					"gpu.lifecycle managed: data came out different");
	return r;
}

/* Everything that is there must work. */
static int use_all(struct cvb_run *run, struct cvb_err *err)
{
	struct lifecycle_state *s = run->state;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < s->n; i++) {
		r = is_context(s->kind) ? use_context(run, s->context[i], err)
					: use_memory(s, s->buf[i], err);
	}
	s->unchecked = false;
	if (s->n)
		s->done[s->kind] = s->done[s->kind] || r == 0;
	return r;
}

/* ---- the hooks ---- */

/*
 * How many of a kind there may be at a time, at least 1: of contexts as many as can be made now, as
 * a device's limit may not be known, and others may have some of them.
 */
static uint64_t room_for(struct cvb_run *run, enum kind k)
{
	const struct lifecycle_conf *conf = run->conf;
	struct lifecycle_state *s = run->state;
	uint64_t n;

	if (!is_context(k))
		return conf->things;
	while (s->n < conf->contexts && make_one(run, k, NULL) == 0)
		;
	n = s->n;
	while (s->n)
		end_one(s);
	return cvb_max(n, UINT64_C(1));
}

static int try_kind(struct cvb_run *run, uint64_t user, struct cvb_err *err)
{
	struct lifecycle_state *s = run->state;
	int r = make_one(run, (enum kind)(user / 2), err);

	if (r == 0)
		r = use_all(run, err);
	if (s->n)
		end_one(s);
	/* no room for one beside the primary one: the message names the limit */
	return r == -ENOSPC ? -EOPNOTSUPP : r;
}

static int add_kind(struct cvb_run *run, enum kind k, struct cvb_err *err)
{
	const struct lifecycle_conf *conf = run->conf;
	struct lifecycle_state *s = run->state;
	uint64_t room = room_for(run, k);
	int r = 0;

	for (unsigned m = METRIC_CREATE; r == 0 && m <= METRIC_DESTROY; m++) {
		struct cvb_case c = {
			.metrics = 1U << m,
			.ops = 1,
			.max_iters = room,
			.user = 2 * (uint64_t)k + m,
		};

		c.params = is_context(k) ? json_pack("{s:s}", "kind", kind_words[k])
					 : json_pack("{s:s,s:I}", "kind", kind_words[k],
						     "size_bytes", (json_int_t)conf->size_bytes);
		r = cvb_probe_case(run, &c, try_kind, &s->bad, err);
	}
	return r;
}

/* What the wall clock's emulator makes it also fills; tens of GiB would be minutes without a word.
 */
static int check_total(const struct cvb_run *run, struct cvb_err *err)
{
	const struct lifecycle_conf *conf = run->conf;

	if (!cvb_gpu_is_emulated(run->gpu) || cvb_gpu_is_deterministic(run->gpu) ||
	    conf->size_bytes <= EMULATED_BYTES / conf->things)
		return 0;
	return cvb_err_set(err, -EINVAL,
			   "size=%" PRIu64 " things=%" PRIu64 ": an emulated GPU makes at most "
			   "%u GiB in a batch; take fewer or smaller things, or clock=virtual",
			   conf->size_bytes, conf->things, (unsigned)(EMULATED_BYTES / CVB_GIB));
}

static int lifecycle_setup(struct cvb_run *run, struct cvb_err *err)
{
	struct lifecycle_state *s;
	int r = check_total(run, err);

	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	r = cvb_gpu_stream_new(run->gpu, &s->stream, err);
	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, PATTERN_BYTES, &s->device, err);
	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, cvb_matrix_host(run->gpu), PATTERN_BYTES, &s->host,
				  err);
	for (int k = 0; r == 0 && k < KINDS; k++)
		r = add_kind(run, (enum kind)k, err);
	return r;
}

/* Not timed: use what the batch before made, then have as many as this one begins with. */
static int lifecycle_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct cvb_run *run = worker->run;
	struct lifecycle_state *s = run->state;
	enum kind k = (enum kind)(c->user / 2);
	struct cvb_err err = {0};
	int r = 0;

	if (s->unchecked && s->bad.r == 0)
		cvb_dev_keep(&s->bad, use_all(run, &err), &err);
	while (s->n)
		end_one(s);
	if (c->user % 2 == METRIC_CREATE)
		return 0;
	while (r == 0 && s->n < iters)
		r = make_one(run, k, &err);
	if (r == 0 && s->bad.r == 0)
		cvb_dev_keep(&s->bad, use_all(run, &err), &err);
	return r < 0 ? cvb_dev_failed(run, r, &err) : 0;
}

static int lifecycle_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct lifecycle_state *s = worker->run->state;
	struct cvb_err err = {0};
	int r = 0;

	if (c->user % 2 == METRIC_DESTROY) {
		for (uint64_t i = 0; i < iters; i++)
			end_one(s);
		return 0;
	}
	s->unchecked = true;
	for (uint64_t i = 0; r == 0 && i < iters; i++)
		r = make_one(worker->run, (enum kind)(c->user / 2), &err);
	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int lifecycle_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct lifecycle_state *s = run->state;
	int r = cvb_dev_kept(&s->bad, err);

	if (r == 0 && s->unchecked)
		r = use_all(run, err);
	for (size_t i = 0; r == 0 && i < run->n_cases; i++)
		if (!s->done[run->cases[i].user / 2])
			r = cvb_err_set(err, -EBADMSG, "gpu.lifecycle %s: never made",
					kind_words[run->cases[i].user / 2]);
	return r;
}

static void lifecycle_done(struct cvb_run *run)
{
	struct lifecycle_state *s = run->state;

	if (!s)
		return;
	while (s->n)
		end_one(s);
	cvb_gpu_stream_free(s->stream);
	cvb_gpu_free(s->device);
	cvb_gpu_free(s->host);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_lifecycle = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.lifecycle",
	.summary = "making and ending contexts and memory",
	.doc = "gpu.lifecycle.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = lifecycle_opts,
	.conf_size = sizeof(struct lifecycle_conf),
	.metrics = lifecycle_metrics,
	.params = (const char *const[]){"kind", "size_bytes", NULL},
	.setup = lifecycle_setup,
	.prepare = lifecycle_prepare,
	.step = lifecycle_step,
	.verify = lifecycle_verify,
	.done = lifecycle_done,
};

CVB_BENCH(gpu_lifecycle);
