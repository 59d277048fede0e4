/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.copy: bandwidth and latency of copies between host and device, one at a time.
 *
 * Every path (direction and kind of host memory) has its own destination, filled with zeroes before
 * and never zero afterwards, so that verify sees a path whose copies did not happen.
 *
 * On a virtual clock time does not depend on the data, and gigabytes of it would only be waited
 * for: there the first 16 KiB are data, then one page of 16 MiB and the last one below each power
 * of two (where a copy ends).  The rest is zero and is not looked at.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/gpu.h"
#include "measure/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

enum {
	METRIC_BANDWIDTH,
	METRIC_LATENCY,
};

enum {
	MEM_PINNED,
	MEM_PAGEABLE,
	MEMS,
};

enum {
	BOTH = 2, /* index of "both" in the choices below */
};

struct copy_conf {
	uint64_t min_bytes, max_bytes, step;
	int dir, mem;
};

static const char *const dirs[] = {"h2d", "d2h", "both", NULL};
static const char *const mems[] = {"pinned", "pageable", "both", NULL};

#define OPT(field) .offset = offsetof(struct copy_conf, field)

static const struct cvb_opt copy_opts[] = {
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
	 .min = 1,
	 .max = 0x1p40,
	 .def = "64MiB",
	 .unit = "bytes",
	 .help = "largest copy"},
	{.name = "step",
	 .type = CVB_OPT_U64,
	 OPT(step),
	 .min = 2,
	 .max = 0x1p20,
	 .def = "4",
	 .help = "each size is the one before times this power of two"},
	{.name = "dir",
	 .type = CVB_OPT_CHOICE,
	 OPT(dir),
	 .def = "both",
	 .choices = dirs,
	 .help = "host to device, device to host, or both, one after the other"},
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
			      "bytes copied / time from issue to completion"},
	[METRIC_LATENCY] = {"latency", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			    "time from issue to completion of one copy"},
	{.name = NULL},
};

struct path {
	enum cvb_gpu_dir dir;
	int mem;
	struct cvb_gpu_buf *src; /* borrowed from copy_state */
	struct cvb_gpu_buf *dst;
	/* written by the worker, read by verify after the worker has stopped */
	_Atomic uint64_t done_bytes; /* the largest copy done since dst was zeroed */
};

struct copy_state {
	struct cvb_gpu_stream *stream;
	struct cvb_gpu_buf *host_src[MEMS];
	struct cvb_gpu_buf *device_src;
	struct cvb_gpu_buf *scratch; /* for device memory that verify reads */
	struct path path[2 * MEMS];
	size_t n_paths;
	int bad; /* first negative errno of a check between batches */
	struct cvb_err bad_err;
};

#define SCRATCH_BYTES ((size_t)CVB_MIB)
#define DENSE_BYTES   (16 * (size_t)CVB_KIB) /* of a virtual clock's data */
#define PAGE_BYTES    ((size_t)4096)

/* The data is a row of pieces: all of it, or some pages. */
struct piece {
	size_t at, bytes;
};

static bool is_sampled(size_t page)
{
	return page % (16 * CVB_MIB / PAGE_BYTES) == 0 || !((page + 1) & page);
}

/* Go on to the next piece below `end`; begin with a zeroed one. */
static bool next_piece(const struct cvb_run *run, struct piece *p, size_t end)
{
	bool sparse = cvb_gpu_is_deterministic(run->gpu);

	p->at += p->bytes;
	p->bytes = sparse ? DENSE_BYTES : SCRATCH_BYTES;
	if (sparse && p->at >= DENSE_BYTES) {
		while (p->at < end && !is_sampled(p->at / PAGE_BYTES))
			p->at += PAGE_BYTES;
		p->bytes = PAGE_BYTES;
	}
	if (p->at >= end)
		return false;
	p->bytes = cvb_min(p->bytes, end - p->at);
	return true;
}

/* Byte i of the data: never 0, and different from its neighbours at every distance that matters. */
static uint64_t pattern_word(uint64_t i)
{
	uint64_t x = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);

	x ^= x >> 32;
	x *= UINT64_C(0xd6e8feb86659fd93);
	return (x ^ x >> 29) | UINT64_C(0x0101010101010101);
}

/* The pattern's bytes from `first` (a multiple of 8) on. */
static void pattern_fill(uint8_t *p, size_t first, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += sizeof(uint64_t)) {
		uint64_t w = pattern_word((first + i) / sizeof(uint64_t));

		memcpy(p + i, &w, cvb_min(sizeof(w), bytes - i));
	}
}

/* Offset of the first byte of `p` that is not the pattern's from `first` (a multiple of 8) on. */
static size_t pattern_differs(const uint8_t *p, size_t first, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += sizeof(uint64_t)) {
		uint64_t w = pattern_word((first + i) / sizeof(uint64_t));

		if (memcmp(p + i, &w, cvb_min(sizeof(w), bytes - i)))
			return i;
	}
	return bytes;
}

static int copy_wait(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst, size_t dst_offset,
		     struct cvb_gpu_buf *src, size_t src_offset, size_t bytes, struct cvb_err *err)
{
	int r = cvb_gpu_copy_async(stream, dst, dst_offset, src, src_offset, bytes, err);

	return r < 0 ? r : cvb_gpu_sync(stream, err);
}

static int clear_dst(struct cvb_run *run, struct path *p, size_t bytes, struct cvb_err *err)
{
	struct copy_state *s = run->state;
	uint8_t *host = cvb_gpu_buf_host(p->dst);
	struct piece piece = {0};
	int r = 0;

	atomic_store(&p->done_bytes, 0);
	while (host && next_piece(run, &piece, bytes))
		memset(host + piece.at, 0, piece.bytes);
	if (host)
		return 0;
	r = cvb_gpu_memset_async(s->stream, p->dst, 0, 0, bytes, err);
	return r < 0 ? r : cvb_gpu_sync(s->stream, err);
}

static enum cvb_gpu_mem host_kind(int mem)
{
	return mem == MEM_PINNED ? CVB_GPU_HOST_PINNED : CVB_GPU_HOST_PAGEABLE;
}

/* A source with the pattern, unless it is there already. */
static int make_source(struct cvb_run *run, enum cvb_gpu_mem kind, struct cvb_gpu_buf **ret,
		       struct cvb_err *err)
{
	const struct copy_conf *conf = run->conf;
	struct copy_state *s = run->state;

	if (*ret)
		return 0;
	int r = cvb_gpu_alloc(run->gpu, kind, conf->max_bytes, ret, err);

	if (r < 0)
		return r;
	/* a device buffer is filled piece by piece, so that no host copy of it is needed */
	uint8_t *host = cvb_gpu_buf_host(*ret), *scratch = cvb_gpu_buf_host(s->scratch);
	struct piece piece = {0};

	while (r == 0 && next_piece(run, &piece, conf->max_bytes)) {
		pattern_fill(host ? host + piece.at : scratch, piece.at, piece.bytes);
		if (!host)
			r = copy_wait(s->stream, *ret, piece.at, s->scratch, 0, piece.bytes, err);
	}
	return r;
}

static int add_path(struct cvb_run *run, enum cvb_gpu_dir dir, int mem, struct cvb_err *err)
{
	const struct copy_conf *conf = run->conf;
	struct copy_state *s = run->state;
	struct path *p = &s->path[s->n_paths];
	bool in = dir == CVB_GPU_H2D;
	struct cvb_gpu_buf **src = in ? &s->host_src[mem] : &s->device_src;
	int r = make_source(run, in ? host_kind(mem) : CVB_GPU_DEVICE, src, err);

	if (r < 0)
		return r;
	p->dir = dir;
	p->mem = mem;
	p->src = *src;
	r = cvb_gpu_alloc(run->gpu, in ? CVB_GPU_DEVICE : host_kind(mem), conf->max_bytes, &p->dst,
			  err);
	if (r < 0)
		return r;
	/* what a model does not know it says at the first copy */
	if (cvb_gpu_is_deterministic(run->gpu))
		r = copy_wait(s->stream, p->dst, 0, p->src, 0, conf->min_bytes, err);
	if (r < 0) {
		p->dst = cvb_gpu_free(p->dst);
		return r;
	}
	s->n_paths++;
	r = clear_dst(run, p, conf->max_bytes, err);
	for (uint64_t size = conf->min_bytes; r >= 0 && size <= conf->max_bytes;
	     size *= conf->step) {
		struct cvb_case c = {
			.metrics = 1U << METRIC_BANDWIDTH | 1U << METRIC_LATENCY,
			.params = json_pack("{s:I,s:s,s:s}", "size_bytes", (json_int_t)size, "dir",
					    cvb_gpu_dir_text(dir), "mem", mems[mem]),
			.bytes = (double)size,
			.ops = 1,
			.user = s->n_paths - 1,
		};

		r = cvb_run_add_case(run, &c, err);
	}
	return r < 0 ? r : 0;
}

/* The paths that were asked for; of several, without those that the device cannot do. */
static int add_paths(struct cvb_run *run, struct cvb_err *err)
{
	const struct copy_conf *conf = run->conf;
	struct copy_state *s = run->state;
	int left_out = 0;

	for (int i = 0; i < 2 * MEMS; i++) {
		int dir = i / MEMS, mem = i % MEMS;

		if ((conf->dir != BOTH && conf->dir != dir) ||
		    (conf->mem != BOTH && conf->mem != mem))
			continue;
		struct cvb_err why = {0};
		int r = add_path(run, (enum cvb_gpu_dir)dir, mem, &why);

		if (r < 0 && err && (r != -EOPNOTSUPP || !left_out))
			*err = why;
		if (r == -EOPNOTSUPP) {
			char text[CVB_ERR_MSG_BYTES];

			left_out = r;
			cvb_err_text(&why, text, sizeof(text));
			cvb_run_leave_out(run,
					  json_pack("{s:s,s:s}", "dir",
						    cvb_gpu_dir_text((enum cvb_gpu_dir)dir), "mem",
						    mems[mem]),
					  "%s", text);
		} else if (r < 0) {
			return r;
		}
	}
	return s->n_paths ? 0 : left_out;
}

static int copy_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct copy_conf *conf = run->conf;
	bool pinned = cvb_gpu_caps(run->gpu)->flags & CVB_GPU_CAP_PINNED;
	int r = 0;

	if (conf->step & (conf->step - 1))
		return cvb_err_set(err, -EINVAL, "step=%" PRIu64 " is no power of two", conf->step);
	if (conf->min_bytes > conf->max_bytes)
		return cvb_err_set(err, -EINVAL,
				   "min_size (%" PRIu64 " bytes) is larger than max_size (%" PRIu64
				   " bytes)",
				   conf->min_bytes, conf->max_bytes);
	struct copy_state *s = calloc(1, sizeof(*s));

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	r = cvb_gpu_stream_new(run->gpu, &s->stream, err);
	if (r == 0)
		r = cvb_gpu_alloc(run->gpu, pinned ? CVB_GPU_HOST_PINNED : CVB_GPU_HOST_PAGEABLE,
				  SCRATCH_BYTES, &s->scratch, err);
	return r < 0 ? r : add_paths(run, err);
}

static int differs(const struct path *p, size_t at, struct cvb_err *err)
{
	return cvb_err_set(err, -EBADMSG, "gpu.copy %s %s: byte %zu came out different",
			   cvb_gpu_dir_text(p->dir), mems[p->mem], at);
}

static int verify_path(struct cvb_run *run, struct path *p, struct cvb_err *err)
{
	struct copy_state *s = run->state;
	size_t bytes = atomic_load(&p->done_bytes);
	const uint8_t *host = cvb_gpu_buf_host(p->dst);
	struct piece piece = {0};

	while (next_piece(run, &piece, bytes)) {
		const uint8_t *got = host ? host + piece.at : cvb_gpu_buf_host(s->scratch);

		if (!host) {
			memset(cvb_gpu_buf_host(s->scratch), 0, piece.bytes);
			int r = copy_wait(s->stream, s->scratch, 0, p->dst, piece.at, piece.bytes,
					  err);

			if (r < 0)
				return r;
		}
		size_t wrong = pattern_differs(got, piece.at, piece.bytes);

		if (wrong < piece.bytes)
			return differs(p, piece.at + wrong, err);
	}
	return clear_dst(run, p, bytes, err);
}

/*
 * Not timed: check what the batch before left.  A later copy would hide that this one was wrong.
 * What failed comes out of verify, which is the one to call a result untrusted.
 */
static int copy_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct copy_state *s = worker->run->state;

	(void)c;
	(void)iters;
	for (size_t i = 0; i < s->n_paths && s->bad == 0; i++)
		s->bad = verify_path(worker->run, &s->path[i], &s->bad_err);
	return 0;
}

static int copy_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct copy_state *s = worker->run->state;
	struct path *p = &s->path[c->user];
	size_t bytes = (size_t)c->bytes;
	struct cvb_err err = {0};

	for (uint64_t i = 0; i < iters; i++) {
		int r = copy_wait(s->stream, p->dst, 0, p->src, 0, bytes, &err);

		if (r < 0) {
			/* step hands up a bare errno: the reason goes with the result */
			char text[CVB_ERR_MSG_BYTES];

			cvb_err_text(&err, text, sizeof(text));
			cvb_run_note(worker->run, "%s", text);
			return r;
		}
	}
	if (bytes > atomic_load(&p->done_bytes))
		atomic_store(&p->done_bytes, bytes);
	return 0;
}

static int copy_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct copy_state *s = run->state;

	if (s->bad < 0) {
		if (err)
			*err = s->bad_err;
		return s->bad;
	}
	for (size_t i = 0; i < s->n_paths; i++) {
		int r = verify_path(run, &s->path[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

static void copy_done(struct cvb_run *run)
{
	struct copy_state *s = run->state;

	if (!s)
		return;
	cvb_gpu_stream_free(s->stream);
	for (size_t i = 0; i < CVB_ARRAY_LEN(s->path); i++)
		cvb_gpu_free(s->path[i].dst);
	for (int mem = 0; mem < MEMS; mem++)
		cvb_gpu_free(s->host_src[mem]);
	cvb_gpu_free(s->device_src);
	cvb_gpu_free(s->scratch);
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
