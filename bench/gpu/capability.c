/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.capability: what a device can do, found out by doing it, and what it says of itself.
 *
 * Everything that has a call is tried, and its result is checked: that is `works`.  What the device
 * says is `stated`; where nothing can be tried it is all there is.  1 is yes, 0 is no.
 */
#include "core/util.h"
#include "gpu/device.h"

#include <errno.h>
#include <string.h>

#define BYTES	    ((size_t)64 * CVB_KIB)
#define GEMM_N	    16
#define SPIN_NS	    (20 * CVB_NS_PER_MS) /* work before a copy: far longer than a call */
#define LARGE_BYTES ((size_t)16 * CVB_MIB)
#define SEED	    7

enum {
	METRIC_WORKS,
	METRIC_STATED,
	METRIC_COUNT,
	METRIC_MISMATCHES,
};

static const struct cvb_metric capability_metrics[] = {
	[METRIC_WORKS] = {"works", CVB_REPORTED, CVB_HIGHER_IS_BETTER, "ratio",
			  "1 if it was tried and did what it should, 0 if the device "
			  "cannot (explains programs that crash or fall back under "
			  "CC)"},
	[METRIC_STATED] = {"stated", CVB_REPORTED, CVB_HIGHER_IS_BETTER, "ratio",
			   "1 if the device says that it can, or that it is on; 0 if "
			   "not (explains the same where nothing can be tried)"},
	[METRIC_COUNT] = {"count", CVB_REPORTED, CVB_HIGHER_IS_BETTER, "count",
			  "capabilities that work (explains at a glance whether a "
			  "driver or a mode took some away)"},
	[METRIC_MISMATCHES] = {"mismatches", CVB_REPORTED, CVB_LOWER_IS_BETTER, "count",
			       "capabilities of which the device says something else than "
			       "the try showed (explains programs that ask first and crash "
			       "all the same)"},
	{.name = NULL},
};

/* What a try needs; made anew for each. */
struct trial {
	struct cvb_run *run;
	struct cvb_dev dev;
	struct cvb_gpu_buf *host, *device;
};

/* 0: it works; -EOPNOTSUPP or -ENOSPC: it does not; -EBADMSG: it did something wrong. */
typedef int try_fn(struct trial *t, int arg, struct cvb_err *err);

struct capability {
	const char *name;
	try_fn *try;
	int arg;
	uint32_t flag;	    /* of caps->flags */
	uint32_t gemm_type; /* bit of caps->gemm_types */
};

/* --- tries ------------------------------------------------------------------------------------ */

/* To the device and back, with host memory of a kind. */
static int round_trip(struct trial *t, enum cvb_gpu_mem kind, struct cvb_err *err)
{
	struct cvb_dev *d = &t->dev;
	int r = cvb_dev_alloc(d, kind, BYTES, &t->host, err);

	if (r == 0)
		r = cvb_dev_alloc(d, CVB_GPU_DEVICE, BYTES, &t->device, err);
	if (r == 0)
		r = cvb_dev_clear(d, t->device, BYTES, err);
	if (r < 0)
		return r;
	cvb_dev_pattern(d->seed, cvb_gpu_buf_host(t->host), 0, BYTES);
	r = cvb_dev_copy(d, t->device, 0, t->host, 0, BYTES, err);
	memset(cvb_gpu_buf_host(t->host), 0, BYTES);
	if (r == 0)
		r = cvb_dev_copy(d, t->host, 0, t->device, 0, BYTES, err);
	return r < 0 ? r : cvb_dev_check(d, t->host, BYTES, "gpu.capability", err);
}

static int try_copy(struct trial *t, int kind, struct cvb_err *err)
{
	return round_trip(t, (enum cvb_gpu_mem)kind, err);
}

/* Does a pinned copy's call return long before the copy is done? */
static int try_async_copy(struct trial *t, int arg, struct cvb_err *err)
{
	bool launch = cvb_gpu_caps(t->run->gpu)->flags & CVB_GPU_CAP_LAUNCH;
	const struct cvb_gpu_launch spin = {.kernel = CVB_GPU_KERNEL_SPIN, .ns = SPIN_NS};
	size_t bytes = launch ? BYTES : LARGE_BYTES;
	int r = cvb_dev_alloc(&t->dev, CVB_GPU_HOST_PINNED, bytes, &t->host, err);

	(void)arg;
	if (r == 0)
		r = cvb_dev_alloc(&t->dev, CVB_GPU_DEVICE, bytes, &t->device, err);
	if (r == 0)
		r = cvb_dev_clear(&t->dev, t->host, bytes, err);
	if (r == 0)
		r = cvb_dev_fill(&t->dev, t->host, bytes, err);
	if (r == 0)
		r = cvb_dev_clear(&t->dev, t->device, bytes, err);
	if (r == 0 && launch)
		r = cvb_gpu_launch_async(t->dev.stream, &spin, err);
	if (r < 0)
		return r;
	uint64_t start_ns = cvb_dev_now_ns(t->run->gpu);

	r = cvb_gpu_copy_async(t->dev.stream, t->device, 0, t->host, 0, bytes, err);
	uint64_t returned_ns = cvb_dev_now_ns(t->run->gpu);
	int synced = cvb_gpu_sync(t->dev.stream, r < 0 ? NULL : err);
	uint64_t end_ns = cvb_dev_now_ns(t->run->gpu);

	r = r < 0 ? r : synced;
	if (r == 0)
		r = cvb_dev_check(&t->dev, t->device, bytes, "gpu.capability async_copy", err);
	if (r == 0 && 2 * (returned_ns - start_ns) > end_ns - start_ns)
		return cvb_err_set(err, -EOPNOTSUPP, "the call returns only when the copy is done");
	return r;
}

static int try_events(struct trial *t, int arg, struct cvb_err *err)
{
	struct cvb_gpu_event *from = NULL, *to = NULL;
	int64_t ns = -1;
	int r = cvb_gpu_event_new(t->run->gpu, &from, err);

	(void)arg;
	if (r == 0)
		r = cvb_gpu_event_new(t->run->gpu, &to, err);
	if (r == 0)
		r = cvb_gpu_event_record(from, t->dev.stream, err);
	if (r == 0)
		r = round_trip(t, CVB_GPU_HOST_PINNED, err);
	if (r == 0)
		r = cvb_gpu_event_record(to, t->dev.stream, err);
	if (r == 0)
		r = cvb_gpu_event_sync(to, err);
	if (r == 0)
		r = cvb_gpu_event_elapsed_ns(from, to, &ns, err);
	if (r == 0 && ns <= 0)
		r = cvb_err_set(err, -EBADMSG,
				"gpu.capability: events about a copy are %lld ns apart",
				(long long)ns);
	cvb_gpu_event_free(from);
	cvb_gpu_event_free(to);
	return r;
}

static int check_fill(const uint64_t *p, struct cvb_err *err)
{
	for (size_t i = 0; i < BYTES / sizeof(*p); i++)
		if (p[i] != cvb_gpu_pattern(SEED, i))
			return cvb_err_set(err, -EBADMSG,
					   "gpu.capability: a kernel left another word %zu", i);
	return 0;
}

/* A kernel that fills memory, by itself or as a graph. */
static int try_fill(struct trial *t, int as_graph, struct cvb_err *err)
{
	struct cvb_gpu_launch fill = {.kernel = CVB_GPU_KERNEL_FILL, .bytes = BYTES, .seed = SEED};
	struct cvb_gpu_graph *graph = NULL;
	int r = round_trip(t, CVB_GPU_HOST_PINNED, err); /* makes the buffers */

	fill.a = t->device;
	if (r == 0 && as_graph)
		r = cvb_gpu_capture_begin(t->dev.stream, err);
	if (r < 0)
		return r;
	r = cvb_gpu_launch_async(t->dev.stream, &fill, err);
	if (as_graph) {
		int ended = cvb_gpu_capture_end(t->dev.stream, &graph, r < 0 ? NULL : err);

		r = r < 0 ? r : ended;
		if (r == 0)
			r = cvb_gpu_graph_launch(graph, t->dev.stream, err);
	}
	if (r == 0)
		r = cvb_dev_copy(&t->dev, t->host, 0, t->device, 0, BYTES, err);
	cvb_gpu_graph_free(graph);
	return r < 0 ? r : check_fill(cvb_gpu_buf_host(t->host), err);
}

/* The device writes managed memory, the host reads it. */
static int try_managed(struct trial *t, int arg, struct cvb_err *err)
{
	struct cvb_gpu_launch fill = {.kernel = CVB_GPU_KERNEL_FILL, .bytes = BYTES, .seed = SEED};
	int r = cvb_dev_alloc(&t->dev, CVB_GPU_MANAGED, BYTES, &t->host, err);

	(void)arg;
	fill.a = t->host;
	if (r == 0)
		r = cvb_gpu_launch_async(t->dev.stream, &fill, err);
	if (r == 0)
		r = cvb_gpu_sync(t->dev.stream, err);
	if (r == 0)
		r = cvb_gpu_managed_touch(t->host, 0, BYTES, err);
	return r < 0 ? r : check_fill(cvb_gpu_buf_host(t->host), err);
}

static void free_trial(struct trial *t)
{
	cvb_dev_done(&t->dev);
	t->host = cvb_gpu_free(t->host);
	t->device = cvb_gpu_free(t->device);
}

static int try_context(struct trial *t, int kind, struct cvb_err *err)
{
	struct trial inner = {.run = t->run};
	struct cvb_gpu_context *context;
	int r = cvb_gpu_context_new(t->run->gpu, (enum cvb_gpu_context_kind)kind, &context, err);

	if (r < 0)
		return r;
	r = cvb_dev_init(&inner.dev, t->run->gpu, context, BYTES, BYTES, SEED, err);
	if (r == 0)
		r = round_trip(&inner, CVB_GPU_HOST_PINNED, err);
	free_trial(&inner);
	cvb_gpu_context_free(context);
	return r;
}

static int try_peer(struct trial *t, int arg, struct cvb_err *err)
{
	struct cvb_gpu_buf *there = NULL;
	struct cvb_gpu *peer;
	int r = cvb_gpu_peer_open(t->run->gpu, &peer, err);

	(void)arg;
	if (r < 0)
		return r;
	r = round_trip(t, CVB_GPU_HOST_PINNED, err); /* the device's buffer has the data */
	if (r == 0)
		r = cvb_gpu_alloc(peer, CVB_GPU_DEVICE, BYTES, &there, err);
	if (r == 0)
		r = cvb_gpu_peer_copy_async(t->dev.stream, there, 0, t->device, 0, BYTES, err);
	if (r == 0)
		r = cvb_gpu_sync(t->dev.stream, err);
	if (r == 0)
		r = cvb_dev_clear(&t->dev, t->device, BYTES, err);
	if (r == 0)
		r = cvb_gpu_peer_copy_async(t->dev.stream, t->device, 0, there, 0, BYTES, err);
	int synced = cvb_gpu_sync(t->dev.stream, r < 0 ? NULL : err);

	r = r < 0 ? r : synced;
	if (r == 0)
		r = cvb_dev_check(&t->dev, t->device, BYTES, "gpu.capability peer", err);
	cvb_gpu_free(there);
	cvb_gpu_close(peer);
	return r;
}

/* 1 and GEMM_N as bits of each number format. */
static const uint64_t one_bits[CVB_GPU_TYPES] = {
	[CVB_GPU_FP64] = UINT64_C(0x3ff0000000000000),
	[CVB_GPU_FP32] = 0x3f800000,
	[CVB_GPU_TF32] = 0x3f800000,
	[CVB_GPU_BF16] = 0x3f80,
	[CVB_GPU_FP16] = 0x3c00,
	[CVB_GPU_FP8] = 0x38,
	[CVB_GPU_INT8] = 1,
};
static const uint64_t n_bits[CVB_GPU_TYPES] = {
	[CVB_GPU_FP64] = UINT64_C(0x4030000000000000),
	[CVB_GPU_FP32] = 0x41800000,
	[CVB_GPU_TF32] = 0x41800000,
	[CVB_GPU_BF16] = 0x4180,
	[CVB_GPU_FP16] = 0x4c00,
	[CVB_GPU_FP8] = 0x58,
	[CVB_GPU_INT8] = GEMM_N,
};

/* Ones times ones: every element is n.  The bits are little-endian, as the host's. */
static int try_gemm(struct trial *t, int type, struct cvb_err *err)
{
	size_t size = cvb_gpu_type_bytes((enum cvb_gpu_type)type), elements = GEMM_N * GEMM_N;
	struct cvb_gpu_gemm g = {
		.type = (enum cvb_gpu_type)type, .m = GEMM_N, .n = GEMM_N, .k = GEMM_N, .alpha = 1};
	struct cvb_gpu_buf **operand[] = {&g.a, &g.b, &g.c};
	int r = cvb_dev_alloc(&t->dev, CVB_GPU_HOST_PINNED, elements * size, &t->host, err);
	uint8_t *p = r == 0 ? cvb_gpu_buf_host(t->host) : NULL;

	for (size_t i = 0; r == 0 && i < elements; i++)
		memcpy(p + i * size, &one_bits[type], size);
	for (size_t i = 0; r == 0 && i < CVB_ARRAY_LEN(operand); i++) {
		r = cvb_dev_alloc(&t->dev, CVB_GPU_DEVICE, elements * size, operand[i], err);
		if (r == 0)
			r = cvb_dev_copy(&t->dev, *operand[i], 0, t->host, 0, elements * size, err);
	}
	if (r == 0)
		r = cvb_gpu_gemm_async(t->dev.stream, &g, err);
	if (r == 0)
		r = cvb_dev_copy(&t->dev, t->host, 0, g.c, 0, elements * size, err);
	for (size_t i = 0; r == 0 && i < elements; i++)
		if (memcmp(p + i * size, &n_bits[type], size) != 0)
			r = cvb_err_set(err, -EBADMSG,
					"gpu.capability: element %zu of a product of ones in %s is "
					"not %d",
					i, cvb_gpu_type_text((enum cvb_gpu_type)type), GEMM_N);
	for (size_t i = 0; i < CVB_ARRAY_LEN(operand); i++)
		cvb_gpu_free(*operand[i]);
	return r;
}

#define GEMM(word, type)                                                                           \
	{                                                                                          \
		.name = "gemm_" word, .try = try_gemm, .arg = type, .gemm_type = 1U << (type)      \
	}

static const struct capability capabilities[] = {
	{.name = "pageable_copy", .try = try_copy, .arg = CVB_GPU_HOST_PAGEABLE},
	{.name = "pinned_copy",
	 .try = try_copy,
	 .arg = CVB_GPU_HOST_PINNED,
	 .flag = CVB_GPU_CAP_PINNED},
	{.name = "async_copy", .try = try_async_copy, .flag = CVB_GPU_CAP_ASYNC_COPY},
	{.name = "events", .try = try_events, .flag = CVB_GPU_CAP_EVENTS},
	{.name = "managed", .try = try_managed, .flag = CVB_GPU_CAP_MANAGED},
	{.name = "launch", .try = try_fill, .arg = false, .flag = CVB_GPU_CAP_LAUNCH},
	{.name = "graphs", .try = try_fill, .arg = true, .flag = CVB_GPU_CAP_GRAPHS},
	{.name = "contexts",
	 .try = try_context,
	 .arg = CVB_GPU_CONTEXT_THREAD,
	 .flag = CVB_GPU_CAP_CONTEXTS},
	{.name = "processes",
	 .try = try_context,
	 .arg = CVB_GPU_CONTEXT_PROCESS,
	 .flag = CVB_GPU_CAP_PROCESSES},
	{.name = "peer", .try = try_peer, .flag = CVB_GPU_CAP_PEER},
	GEMM("fp64", CVB_GPU_FP64),
	GEMM("fp32", CVB_GPU_FP32),
	GEMM("tf32", CVB_GPU_TF32),
	GEMM("bf16", CVB_GPU_BF16),
	GEMM("fp16", CVB_GPU_FP16),
	GEMM("fp8", CVB_GPU_FP8),
	GEMM("int8", CVB_GPU_INT8),
};

#define N_TRIED CVB_ARRAY_LEN(capabilities)

/* --- what the device says --------------------------------------------------------------------- */

enum {
	STATED_HOST_REGISTER,
	STATED_GPUDIRECT,
	STATED_MULTICAST,
	STATED_TRUSTED_EVENTS,
	STATED_CC,
	STATED_CC_PRODUCTION,
	STATED_CC_DEVTOOLS,
	STATED_CC_MULTI_GPU,
	STATED_CC_READY,
	N_STATED,
};

static const char *const stated_names[N_STATED] = {
	[STATED_HOST_REGISTER] = "host_register",
	[STATED_GPUDIRECT] = "gpudirect_rdma",
	[STATED_MULTICAST] = "multicast",
	[STATED_TRUSTED_EVENTS] = "trusted_events",
	[STATED_CC] = "cc",
	[STATED_CC_PRODUCTION] = "cc_production",
	[STATED_CC_DEVTOOLS] = "cc_devtools",
	[STATED_CC_MULTI_GPU] = "cc_multi_gpu",
	[STATED_CC_READY] = "cc_ready",
};

static int read_stated(struct cvb_run *run, enum cvb_gpu_tri *ret, struct cvb_err *err)
{
	const struct cvb_gpu_caps *caps = cvb_gpu_caps(run->gpu);
	struct cvb_gpu_cc cc = {0};
	int r = cvb_gpu_cc_state(run->gpu, &cc, err);

	ret[STATED_HOST_REGISTER] = caps->host_register;
	ret[STATED_GPUDIRECT] = caps->gpudirect_rdma;
	ret[STATED_MULTICAST] = caps->multicast;
	ret[STATED_TRUSTED_EVENTS] = caps->trusted_events;
	ret[STATED_CC] = cc.feature;
	ret[STATED_CC_PRODUCTION] = cc.production;
	ret[STATED_CC_DEVTOOLS] = cc.devtools;
	ret[STATED_CC_MULTI_GPU] = cc.multi_gpu;
	ret[STATED_CC_READY] = cc.ready;
	return r;
}

/* --- set up and measure ----------------------------------------------------------------------- */

#define NO_CASE ((size_t)-1)

struct capability_state {
	enum cvb_gpu_tri stated[N_STATED];
	size_t stated_case[N_STATED]; /* NO_CASE: unknown, left out */
	bool noted;		      /* what does not work, and why */
	struct cvb_dev_bad bad;
};

static bool says(const struct cvb_run *run, const struct capability *c)
{
	const struct cvb_gpu_caps *caps = cvb_gpu_caps(run->gpu);

	return (caps->flags & c->flag) || (caps->gemm_types & c->gemm_type);
}

static bool has_say(const struct capability *c)
{
	return c->flag || c->gemm_type;
}

static int add_case(struct cvb_run *run, uint32_t metrics, const char *name, struct cvb_err *err)
{
	const struct cvb_case c = {
		.metrics = metrics,
		.params = name ? json_pack("{s:s}", "capability", name) : NULL,
	};

	return cvb_run_add_case(run, &c, err);
}

/* Cases: the sums, one for each try, then what is only said. */
static int capability_setup(struct cvb_run *run, struct cvb_err *err)
{
	struct capability_state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	r = read_stated(run, s->stated, err);
	if (r == 0)
		r = add_case(run, 1U << METRIC_COUNT | 1U << METRIC_MISMATCHES, NULL, err);
	for (size_t i = 0; r >= 0 && i < N_TRIED; i++)
		r = add_case(run,
			     1U << METRIC_WORKS | (unsigned)has_say(&capabilities[i])
							  << METRIC_STATED,
			     capabilities[i].name, err);
	for (size_t i = 0; r >= 0 && i < N_STATED; i++) {
		s->stated_case[i] = NO_CASE;
		if (s->stated[i] == CVB_GPU_UNKNOWN) {
			cvb_run_leave_out(run, json_pack("{s:s}", "capability", stated_names[i]),
					  "%s: the device does not say", stated_names[i]);
			continue;
		}
		r = add_case(run, 1U << METRIC_STATED, stated_names[i], err);
		s->stated_case[i] = (size_t)r;
	}
	return r < 0 ? r : 0;
}

/* 1: works, 0: does not; what is an error otherwise. */
static int try_one(struct cvb_run *run, const struct capability *c, struct cvb_err *err)
{
	struct capability_state *s = run->state;
	struct trial t = {.run = run};
	struct cvb_err why = {0};
	char text[CVB_ERR_MSG_BYTES];
	int r = cvb_dev_init(&t.dev, run->gpu, NULL, LARGE_BYTES, BYTES, SEED, &why);

	if (r == 0)
		r = c->try(&t, c->arg, &why);
	free_trial(&t);
	if (r == 0)
		return 1;
	cvb_err_text(&why, text, sizeof(text));
	if (r == -EBADMSG) {
		cvb_dev_keep(&s->bad, r, &why);
		return 0;
	}
	if (r == -EOPNOTSUPP || r == -ENOSPC) {
		if (!s->noted)
			cvb_run_note(run, "%s: %s", c->name, text);
		return 0;
	}
	if (err)
		*err = why;
	return cvb_err_wrap(err, r, "trying %s", c->name);
}

static int capability_measure(struct cvb_run *run, struct cvb_err *err)
{
	struct capability_state *s = run->state;
	unsigned count = 0, mismatches = 0;

	for (size_t i = 0; i < N_TRIED; i++) {
		const struct capability *c = &capabilities[i];
		int works = try_one(run, c, err);

		if (works < 0)
			return works;
		count += (unsigned)works;
		cvb_run_report(run, 1 + i, METRIC_WORKS, works);
		if (!has_say(c))
			continue;
		mismatches += says(run, c) != works;
		cvb_run_report(run, 1 + i, METRIC_STATED, says(run, c));
	}
	for (size_t i = 0; i < N_STATED; i++)
		if (s->stated_case[i] != NO_CASE)
			cvb_run_report(run, s->stated_case[i], METRIC_STATED,
				       s->stated[i] == CVB_GPU_ON);
	s->noted = true;
	cvb_run_report(run, 0, METRIC_COUNT, count);
	cvb_run_report(run, 0, METRIC_MISMATCHES, mismatches);
	return 0;
}

static int capability_verify(struct cvb_run *run, struct cvb_err *err)
{
	const struct capability_state *s = run->state;

	return cvb_dev_kept(&s->bad, err);
}

static void capability_done(struct cvb_run *run)
{
	free(run->state);
	run->state = NULL;
}

static const struct cvb_bench gpu_capability = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.capability",
	.summary = "what a device can do, found out by doing it, and what it says of itself",
	.doc = "gpu.capability.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_SELF_TIMED,
	.metrics = capability_metrics,
	.params = (const char *const[]){"capability", NULL},
	.setup = capability_setup,
	.measure = capability_measure,
	.verify = capability_verify,
	.done = capability_done,
};

CVB_BENCH(gpu_capability);
