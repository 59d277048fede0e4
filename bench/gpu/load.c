/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.load: the weights of a model from host memory to the device, tensor by tensor.
 *
 *   default    one thread copies from pageable memory, as torch.load or a mapped file has it
 *   pinned     one thread, pinned memory
 *   parallel   as many threads as contexts, each with its own share of the tensors, pinned memory;
 *              contexts of this process, or as of processes of their own
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/device.h"
#include "gpu/probe.h"
#include "measure/bench.h"

#include <errno.h>
#include <string.h>

enum loader {
	LOADER_DEFAULT,
	LOADER_PINNED,
	LOADER_PARALLEL,
	LOADER_PROCESSES,
	LOADERS,
};

enum {
	METRIC_BANDWIDTH,
	METRIC_TIME,
	MAX_LANES = 64,
	MAX_LAYERS = 256,
	PER_LAYER = 9, /* tensors */
};

struct load_conf {
	uint64_t layers, hidden, kv, ffn, contexts;
};

static const char *const loader_words[] = {"default", "pinned", "parallel", "processes"};

#define OPT(field) .offset = offsetof(struct load_conf, field)

static const struct cvb_opt load_opts[] = {
	{.name = "layers",
	 .type = CVB_OPT_U64,
	 OPT(layers),
	 .min = 1,
	 .max = MAX_LAYERS,
	 .def = "2",
	 .help = "layers of the model, nine tensors each; the defaults are of Qwen2.5 0.5B"},
	{.name = "hidden",
	 .type = CVB_OPT_U64,
	 OPT(hidden),
	 .min = 64,
	 .max = 65536,
	 .def = "896",
	 .help = "width of a layer"},
	{.name = "kv",
	 .type = CVB_OPT_U64,
	 OPT(kv),
	 .min = 16,
	 .max = 65536,
	 .def = "128",
	 .help = "width of its keys and values"},
	{.name = "ffn",
	 .type = CVB_OPT_U64,
	 OPT(ffn),
	 .min = 64,
	 .max = 262144,
	 .def = "4864",
	 .help = "width of its feed-forward network"},
	{.name = "contexts",
	 .type = CVB_OPT_U64,
	 OPT(contexts),
	 .min = 2,
	 .max = MAX_LANES,
	 .def = "8",
	 .help = "contexts of the parallel loaders"},
	CVB_OPT_END,
};

static const struct cvb_metric load_metrics[] = {
	[METRIC_BANDWIDTH] = {"bandwidth", CVB_BYTES_PER_S, CVB_HIGHER_IS_BETTER, NULL,
			      "bytes of all tensors / time (explains cold starts, 1.2 to "
			      "34 times as long under CC, by the loader)"},
	[METRIC_TIME] = {"time", CVB_NS_PER_OP, CVB_LOWER_IS_BETTER, NULL,
			 "time to load all tensors (explains the same: this much of "
			 "a cold start is copies)"},
	{.name = NULL},
};

/* One thread's share: its tensors lie one after the other in a window of its buffers, and each load
 * of a batch has another window. */
struct lane {
	struct cvb_gpu_context *context; /* NULL: the primary one */
	struct cvb_dev dev;
	struct cvb_gpu_buf *src, *dst;
	size_t bytes;
};

/* A loader has its lanes, made when it is tried. */
struct way {
	struct lane lane[MAX_LANES];
	unsigned lanes;
	uint8_t owner[MAX_LAYERS * PER_LAYER]; /* lane of each tensor */
	uint64_t unchecked;		       /* loads since the last check */
	bool done;
};

struct load_state {
	struct way way[LOADERS];
	bool trial; /* the batch under way is one */
	struct cvb_dev_bad bad;
};

struct pass_arg {
	const struct load_conf *conf;
	struct way *way;
	uint64_t window;
};

/* ---- tensors ---- */

static uint64_t tensors(const struct load_conf *conf)
{
	return conf->layers * PER_LAYER;
}

/* q, k, v, o, gate, up, down and two norms of 16-bit numbers. */
static size_t tensor_bytes(const struct load_conf *conf, uint64_t i)
{
	const size_t elems[PER_LAYER] = {
		conf->hidden * conf->hidden,
		conf->hidden * conf->kv,
		conf->hidden * conf->kv,
		conf->hidden * conf->hidden,
		conf->hidden * conf->ffn,
		conf->hidden * conf->ffn,
		conf->hidden * conf->ffn,
		conf->hidden,
		conf->hidden,
	};

	return 2 * elems[i % PER_LAYER];
}

static size_t all_bytes(const struct load_conf *conf)
{
	size_t sum = 0;

	for (uint64_t i = 0; i < tensors(conf); i++)
		sum += tensor_bytes(conf, i);
	return sum;
}

/* Each tensor to the lane that has the fewest bytes so far. */
static void share_out(const struct load_conf *conf, struct way *w)
{
	for (uint64_t i = 0; i < tensors(conf); i++) {
		unsigned least = 0;

		for (unsigned l = 1; l < w->lanes; l++)
			if (w->lane[l].bytes < w->lane[least].bytes)
				least = l;
		w->owner[i] = (uint8_t)least;
		w->lane[least].bytes += tensor_bytes(conf, i);
	}
}

/* ---- loading ---- */

static int load_share(void *arg, unsigned lane, struct cvb_err *err)
{
	const struct pass_arg *a = arg;
	struct lane *l = &a->way->lane[lane];
	size_t at = (size_t)a->window * l->bytes;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < tensors(a->conf); i++) {
		size_t bytes = tensor_bytes(a->conf, i);

		if (a->way->owner[i] != lane)
			continue;
		r = cvb_gpu_copy_async(l->dev.stream, l->dst, at, l->src, at, bytes, err);
		at += bytes;
	}
	int synced = cvb_gpu_sync(l->dev.stream, r < 0 ? NULL : err);

	return r < 0 ? r : synced;
}

static int pass(struct cvb_run *run, enum loader loader, uint64_t i, struct cvb_err *err)
{
	struct load_state *s = run->state;
	struct way *w = &s->way[loader];
	struct pass_arg arg = {run->conf, w, i};

	w->unchecked = i + 1;
	return w->lanes > 1 ? cvb_gpu_parallel(run->gpu, w->lanes, load_share, &arg, err)
			    : load_share(&arg, 0, err);
}

static int check(struct way *w, bool trial, struct cvb_err *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < w->lanes; i++)
		r = cvb_dev_after(&w->lane[i].dev, w->lane[i].dst, w->unchecked * w->lane[i].bytes,
				  trial, "gpu.load", err);
	w->unchecked = 0;
	w->done = w->done || (r == 0 && !trial);
	return r;
}

/* ---- setup ---- */

static int make_lane(struct cvb_run *run, enum loader loader, unsigned i, struct cvb_err *err)
{
	struct load_state *s = run->state;
	struct way *w = &s->way[loader];
	struct lane *l = &w->lane[i];
	size_t bytes = l->bytes * cvb_dev_windows(run->gpu, all_bytes(run->conf));
	int r = 0;

	if (loader >= LOADER_PARALLEL)
		r = cvb_gpu_context_new(run->gpu,
					loader == LOADER_PARALLEL ? CVB_GPU_CONTEXT_THREAD
								  : CVB_GPU_CONTEXT_PROCESS,
					&l->context, err);
	if (r == 0)
		r = cvb_dev_init(&l->dev, run->gpu, l->context, bytes, l->bytes,
				 /* seed= */ 100 * (uint64_t)loader + i, err);
	if (r == 0)
		r = cvb_dev_alloc(&l->dev,
				  loader == LOADER_DEFAULT ? CVB_GPU_HOST_PAGEABLE
							   : CVB_GPU_HOST_PINNED,
				  bytes, &l->src, err);
	if (r == 0)
		r = cvb_dev_alloc(&l->dev, CVB_GPU_DEVICE, bytes, &l->dst, err);
	if (r == 0)
		r = cvb_dev_clear(&l->dev, l->src, bytes, err);
	if (r == 0)
		r = cvb_dev_fill(&l->dev, l->src, bytes, err);
	return r < 0 ? r : cvb_dev_clear(&l->dev, l->dst, bytes, err);
}

static void free_way(struct way *w)
{
	for (unsigned i = 0; i < w->lanes; i++) {
		struct lane *l = &w->lane[i];

		l->src = cvb_gpu_free(l->src);
		l->dst = cvb_gpu_free(l->dst);
		cvb_dev_done(&l->dev);
		l->context = cvb_gpu_context_free(l->context);
	}
	w->lanes = 0;
}

static unsigned lanes_of(const struct cvb_run *run, enum loader loader)
{
	const struct load_conf *conf = run->conf;

	return loader >= LOADER_PARALLEL ? (unsigned)cvb_min(conf->contexts, tensors(conf)) : 1;
}

/* Make the loader's lanes and load once; what cannot leaves no contexts behind. */
static int try_loader(struct cvb_run *run, uint64_t user, struct cvb_err *err)
{
	struct load_state *s = run->state;
	struct way *w = &s->way[user];
	int r = 0;

	w->lanes = lanes_of(run, (enum loader)user);
	share_out(run->conf, w);
	for (unsigned i = 0; r == 0 && i < w->lanes; i++)
		r = make_lane(run, (enum loader)user, i, err);
	if (r == 0)
		r = pass(run, (enum loader)user, 0, err);
	if (r == 0)
		return 0;
	free_way(w);
	/* more than this GPU's limit of contexts: the message names it */
	return r == -ENOSPC ? -EOPNOTSUPP : r;
}

static int load_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct load_conf *conf = run->conf;
	struct load_state *s = calloc(1, sizeof(*s));
	double bytes = (double)all_bytes(conf);
	int r = 0;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	run->state = s;
	for (int loader = 0; r == 0 && loader < LOADERS; loader++) {
		struct cvb_case c = {
			.metrics = 1U << METRIC_BANDWIDTH | 1U << METRIC_TIME,
			.params = json_pack(
				"{s:s,s:I,s:I,s:I}", "loader", loader_words[loader], "contexts",
				(json_int_t)lanes_of(run, (enum loader)loader), "size_bytes",
				(json_int_t)bytes, "tensors", (json_int_t)tensors(conf)),
			.bytes = bytes,
			.ops = 1,
			.max_iters = cvb_dev_windows(run->gpu, (size_t)bytes),
			.user = (uint64_t)loader,
		};

		r = cvb_probe_case(run, &c, try_loader, &s->bad, err);
	}
	return r;
}

/* ---- the other hooks ---- */

/* Not timed: check what the batch before left. */
static int load_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct load_state *s = worker->run->state;
	struct cvb_err err = {0};

	(void)c;
	(void)iters;
	for (int i = 0; i < LOADERS && s->bad.r == 0; i++)
		if (s->way[i].unchecked)
			cvb_dev_keep(&s->bad, check(&s->way[i], s->trial, &err), &err);
	s->trial = worker->run->trial;
	return 0;
}

static int load_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct cvb_err err = {0};
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < iters; i++)
		r = pass(worker->run, (enum loader)c->user, i, &err);
	return r < 0 ? cvb_dev_failed(worker->run, r, &err) : 0;
}

static int load_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct load_state *s = run->state;
	int r = cvb_dev_kept(&s->bad, err);

	for (int i = 0; r == 0 && i < LOADERS; i++)
		if (s->way[i].unchecked)
			r = check(&s->way[i], s->trial, err);
	for (size_t i = 0; r == 0 && i < run->n_cases; i++)
		if (!s->way[run->cases[i].user].done)
			r = cvb_err_set(err, -EBADMSG, "gpu.load %s: never done",
					loader_words[run->cases[i].user]);
	return r;
}

static void load_done(struct cvb_run *run)
{
	struct load_state *s = run->state;

	if (!s)
		return;
	for (int i = 0; i < LOADERS; i++)
		free_way(&s->way[i]);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench gpu_load = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "gpu.load",
	.summary = "a model's tensors to the device: pageable, pinned, several contexts",
	.doc = "gpu.load.md",
	.flags = CVB_BENCH_NEEDS_GPU | CVB_BENCH_ONE_WORKER,
	.mode = CVB_MODE_BATCH,
	.opts = load_opts,
	.conf_size = sizeof(struct load_conf),
	.metrics = load_metrics,
	.params = (const char *const[]){"loader", "contexts", "size_bytes", "tensors", NULL},
	.setup = load_setup,
	.prepare = load_prepare,
	.step = load_step,
	.verify = load_verify,
	.done = load_done,
};

CVB_BENCH(gpu_load);
