/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.hbm: bandwidth of device memory.
 *
 * A batch submits its kernels one after the other, then one sync.  Every word read and every word
 * written counts.
 *
 * Three vectors take turns: each operation works on what the ones before it left, so that what one
 * of them did wrong is there at the end.  A triad is x(n) = x(n-2) + s x(n-1), where all vectors
 * have the same numbers but for their sign, and s is 2 or -2 such that x(n) = -x(n-2): exact
 * whatever the numbers are.  An error of one vector never leaves both of the last two: if neither
 * x(n) nor x(n-1) had one, x(n-2) would have none either.
 *
 * On a virtual clock, where an operation is kept as a formula, the same vector is written again and
 * again: chains of formulas cost host time and memory.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/device.h"
#include "gpu/matrix.h"
#include "gpu/probe.h"
#include "measure/bench.h"

#include <errno.h>
#include <string.h>

enum op {
	OP_COPY,
	OP_TRIAD,
	OP_READ,
	OP_D2D,
	OPS,
};

enum {
	SEED = 3,
	VECTORS = 3,
};

struct hbm_conf {
	uint64_t size_bytes;
	int op;
};

static const char *const op_words[] = {"copy", "triad", "read", "d2d", "all", NULL};

/* Lengths of a that one kernel moves. */
static const unsigned traffic[OPS] = {2, 3, 1, 2};

#define OPT(field) .offset = offsetof(struct hbm_conf, field)

static const struct cvb_opt hbm_opts[] = {
	{.name = "size",
	 .type = CVB_OPT_SIZE,
	 OPT(size_bytes),
	 .min = 4096,
	 .max = 0x1p36,
	 .def = "64MiB",
	 .unit = "bytes",
	 .help = "length of each of the three vectors; choose more than the last cache"},
	{.name = "op",
	 .type = CVB_OPT_CHOICE,
	 OPT(op),
	 .def = "all",
	 .choices = op_words,
	 .help = "a = b by a kernel, a = b + s c, sum of b, or a = b by the copy engine"},
	CVB_OPT_END,
};

static const struct cvb_metric hbm_metrics[] = {
	{"bandwidth", CVB_BYTES_PER_S, CVB_HIGHER_IS_BETTER, NULL,
	 "bytes read and written / time (the control: explains no "
	 "loss, as memory keeps 0.91 to 1.00 under CC)"},
	{.name = NULL},
};

struct hbm_state {
	struct cvb_gpu_stream *stream;
	struct cvb_gpu_buf *x[VECTORS], *sum, *host;
	bool minus[VECTORS]; /* sign of a vector's numbers */
	unsigned next;	     /* vector to be written; the one before it was the last */
	bool chain;	     /* they take turns */
	uint64_t want[2];    /* sum of the words of a vector, by its sign */
	int unchecked;	     /* operation whose result no check has seen; OPS: none */
	bool done[OPS];
	struct cvb_dev_bad bad;
};

static unsigned before(unsigned vector, unsigned n)
{
	return (vector + VECTORS - n) % VECTORS;
}

static int submit(struct hbm_state *s, enum op op, struct cvb_err *err)
{
	unsigned to = s->next, last = before(to, 1), other = before(to, 2);
	size_t bytes = cvb_gpu_buf_bytes(s->x[to]);
	struct cvb_gpu_launch l = {
		.kernel = CVB_GPU_KERNEL_COPY, .a = s->x[to], .b = s->x[last], .bytes = bytes};
	int r;

	if (op == OP_READ) {
		l = (struct cvb_gpu_launch){.kernel = CVB_GPU_KERNEL_READ,
					    .a = s->x[last],
					    .b = s->sum,
					    .bytes = bytes};
		return cvb_gpu_launch_async(s->stream, &l, err);
	}
	if (op == OP_TRIAD) {
		l.kernel = CVB_GPU_KERNEL_TRIAD;
		l.b = s->x[other];
		l.c = s->x[last];
		l.scalar = s->minus[last] == s->minus[other] ? -2 : 2;
	}
	r = op == OP_D2D ? cvb_gpu_copy_async(s->stream, l.a, 0, l.b, 0, bytes, err)
			 : cvb_gpu_launch_async(s->stream, &l, err);
	if (r < 0)
		return r;
	s->minus[to] = op == OP_TRIAD ? !s->minus[other] : s->minus[last];
	s->next = s->chain ? (to + 1) % VECTORS : to;
	return 0;
}

static int wait_for(struct hbm_state *s, int r, struct cvb_err *err)
{
	int synced = cvb_gpu_sync(s->stream, r < 0 ? NULL : err);

	return r < 0 ? r : synced;
}

/* What no operation leaves behind, where the next one writes. */
static int poison(struct hbm_state *s, struct cvb_err *err)
{
	struct cvb_gpu_buf *next = s->x[s->next];
	int r = cvb_gpu_memset_async(s->stream, next, 0, 0xff, cvb_gpu_buf_bytes(next), err);

	if (r == 0)
		r = cvb_gpu_memset_async(s->stream, s->sum, 0, 0xff, sizeof(uint64_t), err);
	return wait_for(s, r, err);
}

/* The sum that an operation left, or else that of a vector. */
static int check_sum(struct hbm_state *s, enum op op, unsigned vector, struct cvb_err *err)
{
	const struct cvb_gpu_launch sum = {.kernel = CVB_GPU_KERNEL_READ,
					   .a = s->x[vector],
					   .b = s->sum,
					   .bytes = cvb_gpu_buf_bytes(s->x[vector])};
	uint64_t got;
	int r = op == OP_READ ? 0 : cvb_gpu_launch_async(s->stream, &sum, err);

	if (r == 0)
		r = cvb_gpu_copy_async(s->stream, s->host, 0, s->sum, 0, sizeof(got), err);
	r = wait_for(s, r, err);
	if (r < 0)
		return r;
	memcpy(&got, cvb_gpu_buf_host(s->host), sizeof(got));
	if (got != s->want[s->minus[vector]])
		return cvb_err_set(err, -EBADMSG, "gpu.hbm %s: the words' sum came out different",
				   op_words[op]);
	return 0;
}

static int check(struct hbm_state *s, enum op op, struct cvb_err *err)
{
	/* the last one, and the one before it, which is not read but by a triad */
	unsigned last = s->chain || op == OP_READ ? before(s->next, 1) : s->next;
	int r = check_sum(s, op, last, err);

	if (r == 0 && op == OP_TRIAD && s->chain)
		r = check_sum(s, op, before(last, 1), err);
	if (r < 0)
		return r;
	s->done[op] = true;
	s->unchecked = OPS;
	return poison(s, err);
}

/* The sums of the words of a vector. */
static void expect(struct hbm_state *s)
{
	size_t words = cvb_gpu_buf_bytes(s->x[0]) / sizeof(uint64_t);

	for (size_t i = 0; i < words; i++) {
		double plus = cvb_matrix_value(CVB_GPU_FP64, SEED, i), minus = -plus;
		uint64_t word;

		memcpy(&word, &plus, sizeof(word));
		s->want[false] += word;
		memcpy(&word, &minus, sizeof(word));
		s->want[true] += word;
	}
}

static int try_op(struct cvb_run *run, uint64_t user, struct cvb_err *err)
{
	struct hbm_state *s = run->state;
	int r = wait_for(s, submit(s, (enum op)user, err), err);

	return r < 0 ? r : poison(s, err);
}

static int make_vectors(struct cvb_run *run, size_t bytes, struct cvb_err *err)
{
	struct hbm_state *s = run->state;
	int r = cvb_gpu_stream_new(run->gpu, &s->stream, err);

	for (size_t i = 0; r == 0 && i < VECTORS; i++)
		r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, bytes, &s->x[i], err);
	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, CVB_GPU_DEVICE, sizeof(uint64_t), &s->sum, err);
	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, cvb_matrix_host(run->gpu), sizeof(uint64_t), &s->host,
				  err);
	s->next = VECTORS - 1;
	for (size_t i = 0; r == 0 && i < s->next; i++)
		r = cvb_matrix_fill(run->gpu, s->stream, s->x[i], CVB_GPU_FP64, bytes / 8, SEED,
				    &s->bad, err);
	return r < 0 ? r : poison(s, err);
}

static int hbm_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct hbm_conf *conf = run->conf;
	struct hbm_state *s = calloc(1, sizeof(*s));
	size_t bytes = conf->size_bytes / 8 * 8;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	s->unchecked = OPS;
	s->chain = !cvb_gpu_is_deterministic(run->gpu);
	int r = make_vectors(run, bytes, err);

	if (r < 0)
		return r;
	expect(s);
	for (int op = 0; r == 0 && op < OPS; op++) {
		struct cvb_case c = {
			.metrics = 1,
			.bytes = cvb_probe_depth(run->gpu) * traffic[op] * (double)bytes,
			.ops = cvb_probe_depth(run->gpu),
			.user = (uint64_t)op,
		};

		if (conf->op != OPS && conf->op != op)
			continue;
		c.params =
			json_pack("{s:s,s:I}", "op", op_words[op], "size_bytes", (json_int_t)bytes);
		r = cvb_probe_case(run, &c, try_op, &s->bad, err);
	}
	return r;
}

/* Not timed: check what the batch before left. */
static int hbm_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct hbm_state *s = worker->run->state;
	struct cvb_err err = {0};

	(void)c;
	(void)iters;
	if (s->unchecked != OPS && s->bad.r == 0)
		cvb_dev_keep(&s->bad, check(s, (enum op)s->unchecked, &err), &err);
	return 0;
}

static int hbm_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct hbm_state *s = worker->run->state;
	struct cvb_err err = {0};
	int r = 0;

	s->unchecked = (int)c->user;
	for (uint64_t i = 0; r == 0 && i < iters * cvb_probe_depth(worker->run->gpu); i++)
		r = submit(s, (enum op)c->user, &err);
	r = wait_for(s, r, &err);
	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int hbm_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct hbm_state *s = run->state;
	int r = cvb_dev_kept(&s->bad, err);

	if (r == 0 && s->unchecked != OPS)
		r = check(s, (enum op)s->unchecked, err);
	for (size_t i = 0; r == 0 && i < run->n_cases; i++)
		if (!s->done[run->cases[i].user])
			r = cvb_err_set(err, -EBADMSG, "gpu.hbm %s: never done",
					op_words[run->cases[i].user]);
	return r;
}

static void hbm_done(struct cvb_run *run)
{
	struct hbm_state *s = run->state;

	if (!s)
		return;
	cvb_gpu_stream_free(s->stream);
	for (size_t i = 0; i < VECTORS; i++)
		cvb_gpu_free(s->x[i]);
	cvb_gpu_free(s->sum);
	cvb_gpu_free(s->host);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_hbm = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.hbm",
	.summary = "bandwidth of device memory: copy, triad, read",
	.doc = "gpu.hbm.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = hbm_opts,
	.conf_size = sizeof(struct hbm_conf),
	.metrics = hbm_metrics,
	.params = (const char *const[]){"op", "size_bytes", NULL},
	.setup = hbm_setup,
	.prepare = hbm_prepare,
	.step = hbm_step,
	.verify = hbm_verify,
	.done = hbm_done,
};

CVB_BENCH(gpu_hbm);
