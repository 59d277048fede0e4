/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.managed: migration of managed memory, to the device by a kernel that uses it and back by the
 * host's touch of its pages.
 *
 * One iteration is one migration of the whole buffer; what brings it back to where it begins is not
 * timed.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/device.h"
#include "gpu/matrix.h"
#include "gpu/probe.h"
#include "measure/bench.h"

#include <errno.h>
#include <string.h>

enum move {
	MOVE_H2D,
	MOVE_D2H,
	MOVE_NONE, /* a kernel on what the device has already: the control */
	MOVES,
};

enum {
	METRIC_BANDWIDTH,
	METRIC_TIME,
};

struct managed_conf {
	uint64_t size_bytes;
};

static const char *const move_words[] = {"h2d", "d2h", "resident"};

static const struct cvb_opt managed_opts[] = {
	{.name = "size",
	 .type = CVB_OPT_SIZE,
	 .offset = offsetof(struct managed_conf, size_bytes),
	 .min = 4096,
	 .max = 0x1p32, /* the host writes and reads every word of it */
	 .def = "64MiB",
	 .unit = "bytes",
	 .help = "length of the managed buffer"},
	CVB_OPT_END,
};

static const struct cvb_metric managed_metrics[] = {
	[METRIC_BANDWIDTH] = {"bandwidth", CVB_BYTES_PER_S, CVB_HIGHER_IS_BETTER, NULL,
			      "bytes of the buffer / time (explains programs with managed "
			      "memory, 10 to 800 times slower under CC)"},
	[METRIC_TIME] = {"time", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			 "time of the access that moves the buffer (explains the "
			 "same as a time)"},
	{.name = NULL},
};

struct managed_state {
	struct cvb_gpu_stream *stream;
	struct cvb_gpu_buf *buf, *count, *host;
	size_t bytes;
	uint64_t seed; /* of what the buffer holds */
	bool unchecked;
	enum move last; /* what it was */
	bool done[MOVES];
	struct cvb_dev_bad bad;
};

static int wait_for(struct managed_state *s, int r, struct cvb_err *err)
{
	int synced = cvb_gpu_sync(s->stream, r < 0 ? NULL : err);

	return r < 0 ? r : synced;
}

/* The kernel counts the words that are wrong. */
static int device_access(struct managed_state *s, struct cvb_err *err)
{
	const struct cvb_gpu_launch l = {.kernel = CVB_GPU_KERNEL_VERIFY,
					 .a = s->buf,
					 .b = s->count,
					 .bytes = s->bytes,
					 .seed = s->seed};

	return wait_for(s, cvb_gpu_launch_async(s->stream, &l, err), err);
}

static int move(struct managed_state *s, enum move m, struct cvb_err *err)
{
	return m == MOVE_D2H ? cvb_gpu_managed_touch(s->buf, 0, s->bytes, err)
			     : device_access(s, err);
}

/* New numbers, written by the side from which they will move; a count that is none. */
static int bring_back(struct managed_state *s, enum move m, struct cvb_err *err)
{
	struct cvb_gpu_launch fill = {
		.kernel = CVB_GPU_KERNEL_FILL, .a = s->buf, .bytes = s->bytes, .seed = ++s->seed};
	uint64_t *p = cvb_gpu_buf_host(s->buf);
	int r = cvb_gpu_memset_async(s->stream, s->count, 0, 0xff, sizeof(uint64_t), err);

	r = wait_for(s, r, err);
	if (r < 0)
		return r;
	if (m != MOVE_H2D)
		return wait_for(s, cvb_gpu_launch_async(s->stream, &fill, err), err);
	r = cvb_gpu_managed_touch(s->buf, 0, s->bytes, err);
	for (size_t i = 0; r == 0 && i < s->bytes / sizeof(*p); i++)
		p[i] = cvb_gpu_pattern(s->seed, i);
	return r;
}

static int check_device(struct managed_state *s, struct cvb_err *err)
{
	uint64_t wrong;
	int r = cvb_gpu_copy_async(s->stream, s->host, 0, s->count, 0, sizeof(wrong), err);

	r = wait_for(s, r, err);
	if (r < 0)
		return r;
	memcpy(&wrong, cvb_gpu_buf_host(s->host), sizeof(wrong));
	return wrong ? cvb_err_set(err, -EBADMSG,
				   "gpu.managed %s: words came out different on the device",
				   move_words[s->last])
		     : 0;
}

static int check(struct managed_state *s, struct cvb_err *err)
{
	const uint64_t *p = cvb_gpu_buf_host(s->buf);
	int r = 0;

	s->unchecked = false;
	if (s->last != MOVE_D2H)
		r = check_device(s, err);
	for (size_t i = 0; s->last == MOVE_D2H && r == 0 && i < s->bytes / sizeof(*p); i++)
		if (p[i] != cvb_gpu_pattern(s->seed, i))
			r = cvb_err_set(err, -EBADMSG,
					"gpu.managed d2h: word %zu came out different", i);
	s->done[s->last] = s->done[s->last] || r == 0;
	return r;
}

static int try_move(struct cvb_run *run, uint64_t user, struct cvb_err *err)
{
	struct managed_state *s = run->state;
	int r = bring_back(s, (enum move)user, err);

	return r < 0 ? r : move(s, (enum move)user, err);
}

static int add_cases(struct cvb_run *run, struct cvb_err *err)
{
	struct managed_state *s = run->state;
	int r = 0;

	for (int m = 0; r == 0 && m < MOVES; m++) {
		struct cvb_case c = {
			.metrics = 1U << METRIC_BANDWIDTH | 1U << METRIC_TIME,
			.params = json_pack("{s:I,s:s}", "size_bytes", (json_int_t)s->bytes, "dir",
					    move_words[m]),
			.bytes = (double)s->bytes,
			.ops = 1,
			.max_iters = m == MOVE_NONE ? 0 : 1,
			.user = (uint64_t)m,
		};

		r = cvb_probe_case(run, &c, try_move, &s->bad, err);
	}
	return r;
}

static int managed_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct managed_conf *conf = run->conf;
	struct managed_state *s = calloc(1, sizeof(*s));

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	s->bytes = conf->size_bytes / 8 * 8;
	if (!(cvb_gpu_caps(run->gpu)->flags & CVB_GPU_CAP_MANAGED))
		return cvb_err_set(err, -EOPNOTSUPP, "this GPU has no managed memory");
	int r = cvb_gpu_stream_new(run->gpu, &s->stream, err);

	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, CVB_GPU_MANAGED, s->bytes, &s->buf, err);
	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, sizeof(uint64_t), &s->count, err);
	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, cvb_matrix_host(run->gpu), sizeof(uint64_t), &s->host,
				  err);
	if (r == 0)
		r = add_cases(run, err);
	return r < 0 ? r : cvb_probe_any(run, err);
}

/* Not timed: check what the batch before left, then put the buffer where it begins. */
static int managed_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct managed_state *s = worker->run->state;
	struct cvb_err err = {0};

	(void)iters;
	if (s->unchecked && s->bad.r == 0)
		cvb_dev_keep(&s->bad, check(s, &err), &err);
	int r = bring_back(s, (enum move)c->user, &err);

	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int managed_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct managed_state *s = worker->run->state;
	struct cvb_err err = {0};
	int r = 0;

	s->unchecked = true;
	s->last = (enum move)c->user;
	for (uint64_t i = 0; r == 0 && i < iters; i++)
		r = move(s, s->last, &err);
	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int managed_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct managed_state *s = run->state;
	int r = cvb_dev_kept(&s->bad, err);

	if (r == 0 && s->unchecked)
		r = check(s, err);
	for (size_t i = 0; r == 0 && i < run->n_cases; i++)
		if (!s->done[run->cases[i].user])
			r = cvb_err_set(err, -EBADMSG, "gpu.managed %s: never done",
					move_words[run->cases[i].user]);
	return r;
}

static void managed_done(struct cvb_run *run)
{
	struct managed_state *s = run->state;

	if (!s)
		return;
	cvb_gpu_stream_free(s->stream);
	cvb_gpu_free(s->buf);
	cvb_gpu_free(s->count);
	cvb_gpu_free(s->host);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_managed = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.managed",
	.summary = "managed memory: migration by a kernel's and by the host's access",
	.doc = "gpu.managed.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = managed_opts,
	.conf_size = sizeof(struct managed_conf),
	.metrics = managed_metrics,
	.params = (const char *const[]){"size_bytes", "dir", NULL},
	.setup = managed_setup,
	.prepare = managed_prepare,
	.step = managed_step,
	.verify = managed_verify,
	.done = managed_done,
};

CVB_BENCH(gpu_managed);
