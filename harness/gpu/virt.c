/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulated GPU on a virtual clock: its device, contexts and memory.  See virt.h.
 */
#include "gpu/virt.h"

#include "core/opt.h"
#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>

/* ---- spec ---- */

#define MAX_NOISE_PERCENT 50.0

static int parse_noise(struct cvb_virt_spec *spec, const char *value, struct cvb_err *err)
{
	char *end;
	double percent = strtod(value, &end);

	if (end == value || *end || strspn(value, "0123456789.") != strlen(value) ||
	    percent > MAX_NOISE_PERCENT)
		return cvb_err_set(err, -EINVAL,
				   "GPU spec: noise=%s; 0 to %.0f is right, in percent", value,
				   MAX_NOISE_PERCENT);
	spec->noise_ppm = (uint32_t)lround(percent * 10000);
	spec->has_noise = true;
	return 1;
}

int cvb_virt_key(struct cvb_virt_spec *spec, const char *key, const char *value,
		 struct cvb_err *err)
{
	bool is_seed = !strcmp(key, "seed");
	char *end;

	if (!is_seed && strcmp(key, "noise") != 0)
		return 0;
	if (is_seed ? spec->has_seed : spec->has_noise)
		return cvb_err_set(err, -EINVAL, "GPU spec: %s is given twice", key);
	if (!is_seed)
		return parse_noise(spec, value, err);
	errno = 0;
	spec->seed = strtoull(value, &end, 10);
	if (end == value || *end || errno || strspn(value, "0123456789") != strlen(value))
		return cvb_err_set(err, -EINVAL, "GPU spec: seed=%s; a whole number is right",
				   value);
	spec->has_seed = true;
	return 1;
}

/* ---- parameters ---- */

int virt_param_mode(const struct virt_gpu *g, enum cvb_sku_param p, bool cc, double *ret,
		    struct cvb_err *err)
{
	const struct cvb_sku_value *v = &g->sku->v[cc][p];

	if (v->grade == CVB_SKU_UNKNOWN)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "GPU emu:%s,cc=%s: %s is unknown, nothing is published; what "
				   "needs it cannot run",
				   g->sku->name, cc ? "on" : "off", cvb_sku_param_name(p));
	*ret = v->value;
	return 0;
}

int virt_param(const struct virt_gpu *g, enum cvb_sku_param p, double *ret, struct cvb_err *err)
{
	return virt_param_mode(g, p, g->cc, ret, err);
}

bool virt_param_known(const struct virt_gpu *g, enum cvb_sku_param p)
{
	return g->sku->v[g->cc][p].grade != CVB_SKU_UNKNOWN;
}

int virt_param_ps(const struct virt_gpu *g, enum cvb_sku_param p, uint64_t *ret,
		  struct cvb_err *err)
{
	double ns = 0;
	int r = virt_param(g, p, &ns, err);

	if (r == 0)
		*ret = (uint64_t)llround(ns * (double)VIRT_PS_PER_NS);
	return r;
}

int virt_sum_ps(const struct virt_gpu *g, __int128 ps, uint64_t *ret, struct cvb_err *err)
{
	if (ps > (__int128)(VIRT_MAX_NS * VIRT_PS_PER_NS))
		return cvb_err_set(err, -EINVAL, "GPU emu:%s: a call would take more than %llu ns",
				   g->sku->name, (unsigned long long)VIRT_MAX_NS);
	*ret = ps > 0 ? (uint64_t)ps : 0;
	return 0;
}

uint64_t virt_rate_ps(uint64_t count, uint64_t per_s)
{
	unsigned __int128 ps = (unsigned __int128)count * UINT64_C(1000000000000);

	return (uint64_t)((ps + per_s - 1) / per_s);
}

int virt_add_rate(const struct virt_gpu *g, enum cvb_sku_param p, uint64_t count, uint64_t *ps,
		  struct cvb_err *err)
{
	double per_s = 0;
	int r = virt_param(g, p, &per_s, err);

	if (r == 0)
		*ps += virt_rate_ps(count, (uint64_t)llround(per_s));
	return r;
}

/* ---- device ---- */

static const struct cvb_gpu_backend virt_backend;

static enum cvb_gpu_tri tri(const struct virt_gpu *g, enum cvb_sku_param p)
{
	if (!virt_param_known(g, p))
		return CVB_GPU_UNKNOWN;
	return g->sku->v[g->cc][p].value > 0 ? CVB_GPU_ON : CVB_GPU_OFF;
}

static void set_caps(struct cvb_gpu *gpu)
{
	const struct virt_gpu *g = virt_gpu_of(gpu);
	struct cvb_gpu_caps *caps = &gpu->caps;
	bool launch = virt_param_known(g, CVB_SKU_LAUNCH);

	caps->flags = CVB_GPU_CAP_EVENTS | CVB_GPU_CAP_PINNED | CVB_GPU_CAP_MANAGED |
		      CVB_GPU_CAP_CONTEXTS | CVB_GPU_CAP_PROCESSES;
	if (!g->cc)
		caps->flags |= CVB_GPU_CAP_ASYNC_COPY;
	if (launch)
		caps->flags |= CVB_GPU_CAP_LAUNCH;
	if (launch && virt_param_known(g, CVB_SKU_GRAPH))
		caps->flags |= CVB_GPU_CAP_GRAPHS;
	if (virt_param_known(g, CVB_SKU_PEER) && virt_param_known(g, CVB_SKU_PEER_LATENCY))
		caps->flags |= CVB_GPU_CAP_PEER;
	for (unsigned i = 0; launch && i < CVB_GPU_TYPES; i++)
		if (virt_param_known(g, (enum cvb_sku_param)(CVB_SKU_GEMM + i)))
			caps->gemm_types |= 1U << i;
	if (virt_param_known(g, CVB_SKU_CONTEXT_LIMIT))
		caps->context_limit = (unsigned)g->sku->v[g->cc][CVB_SKU_CONTEXT_LIMIT].value;
	caps->host_register = tri(g, CVB_SKU_HOST_REGISTER);
	caps->gpudirect_rdma = tri(g, CVB_SKU_GPUDIRECT);
	caps->multicast = tri(g, CVB_SKU_MULTICAST);
	caps->trusted_events = tri(g, CVB_SKU_TRUSTED_EVENTS);
}

static void device_done(struct virt_gpu *g)
{
	struct virt_resource *res[] = {&g->engine[0], &g->engine[1], &g->compute, &g->link};

	for (size_t i = 0; i < CVB_ARRAY_LEN(res); i++)
		free(res[i]->busy);
	cvb_sku_free(g->sku);
	free(g);
}

/* A device in `world`, or in a new one where it is NULL. */
static int device_new(struct cvb_gpu *gpu, struct virt_world *world, const char *sku, bool cc,
		      const struct cvb_virt_spec *spec, struct cvb_err *err)
{
	struct virt_gpu *g = calloc(1, sizeof(*g));
	int r = g ? cvb_sku_load(sku, &g->sku, err) : cvb_err_set(err, -ENOMEM, "out of memory");

	if (r < 0) {
		free(g);
		return r;
	}
	g->cc = cc;
	g->world = world ? world : virt_world_new(spec);
	if (!g->world) {
		device_done(g);
		return cvb_err_set(err, -ENOMEM, "out of memory");
	}
	if (world)
		world->devices++;
	gpu->priv = g;
	gpu->backend = &virt_backend;
	gpu->clock = &g->world->clock;
	gpu->emulated = true;
	gpu->deterministic = true;
	set_caps(gpu);
	return 0;
}

int cvb_virt_open(struct cvb_gpu *gpu, const char *sku, bool cc, const struct cvb_virt_spec *spec,
		  struct cvb_err *err)
{
	struct cvb_virt_spec s = *spec;

	if (!s.has_seed)
		s.seed = 1;
	return device_new(gpu, NULL, sku, cc, &s, err);
}

static int virt_peer_open(struct cvb_gpu *gpu, struct cvb_gpu *peer, struct cvb_err *err)
{
	struct virt_gpu *g = virt_gpu_of(gpu);

	return device_new(peer, g->world, g->sku->name, g->cc, NULL, err);
}

static void virt_close(struct cvb_gpu *gpu)
{
	struct virt_gpu *g = virt_gpu_of(gpu);

	virt_world_drop(g->world);
	device_done(g);
}

/* The core opens by the backend that was named; this one is only put in its place. */
static int virt_spec_check(const char *args, struct cvb_err *err)
{
	(void)args;
	return cvb_err_set(err, -EINVAL, "GPU spec: emu:SKU,clock=virtual is right");
}

static int virt_open(struct cvb_gpu *gpu, const char *args, struct cvb_err *err)
{
	(void)gpu;
	return virt_spec_check(args, err);
}

static int virt_describe(const struct cvb_gpu *gpu, json_t *into)
{
	const struct virt_gpu *g = virt_gpu_of(gpu);
	const struct cvb_virt_spec *noise = &g->world->noise;
	json_t *model = json_pack("{s:s,s:s,s:s,s:s}", "gpu", g->sku->gpu, "tee", g->sku->tee,
				  "cpu", g->sku->cpu, "driver", g->sku->driver);

	/* each call takes its value over, also when it fails */
	int r = json_object_set_new(into, "sku", json_string(g->sku->name));

	r |= json_object_set_new(into, "model", model);
	if (noise->noise_ppm) {
		r |= json_object_set_new(into, "noise_ratio", json_real(noise->noise_ppm / 1e6));
		r |= json_object_set_new(into, "seed", json_integer((json_int_t)noise->seed));
	}
	return r ? -ENOMEM : 0;
}

static int virt_cc_state(struct cvb_gpu *gpu, struct cvb_gpu_cc *ret, struct cvb_err *err)
{
	bool on = virt_gpu_of(gpu)->cc;

	(void)err;
	*ret = (struct cvb_gpu_cc){
		.feature = on ? CVB_GPU_ON : CVB_GPU_OFF,
		.production = CVB_GPU_OFF,
		.devtools = CVB_GPU_OFF,
		.multi_gpu = CVB_GPU_OFF,
		.ready = CVB_GPU_ON,
		.source = "emulator",
	};
	return 0;
}

/* ---- contexts ---- */

/* The calling host thread is busy with a call for so long. */
static int spend(struct cvb_gpu *gpu, enum cvb_sku_param p, struct cvb_err *err)
{
	struct virt_gpu *g = virt_gpu_of(gpu);
	uint64_t ps = 0;
	int r = virt_param_ps(g, p, &ps, err);

	if (r < 0)
		return r;
	struct virt_lane *lane = virt_enter(g->world);

	lane->now += virt_noise(g->world, ps);
	virt_leave(g->world);
	return 0;
}

static int virt_context_new(struct cvb_gpu_context *context, struct cvb_err *err)
{
	return spend(context->gpu, CVB_SKU_CONTEXT_CREATE, err);
}

static void virt_context_free(struct cvb_gpu_context *context)
{
	/* unknown: it costs nothing, as nobody could be told */
	cvb_ignore(spend(context->gpu, CVB_SKU_CONTEXT_DESTROY, /* err= */ NULL));
}

/* ---- memory ---- */

static int map_host(struct cvb_gpu_buf *buf, struct virt_buf *b, struct cvb_err *err)
{
	b->map_bytes = (buf->bytes + 4095) / 4096 * 4096;
	buf->host = virt_map(b->map_bytes);
	if (!buf->host)
		return cvb_err_set(err, -ENOMEM, "cannot map %zu bytes: %s", b->map_bytes,
				   strerror(errno));
	return 0;
}

/* `fixed`, and `each` for every byte. */
static int linear_ps(const struct virt_gpu *g, enum cvb_sku_param fixed, enum cvb_sku_param each,
		     size_t bytes, uint64_t *ret, struct cvb_err *err)
{
	double per_byte;
	int r = virt_param_ps(g, fixed, ret, err);

	if (r == 0)
		r = virt_param(g, each, &per_byte, err);
	if (r < 0)
		return r;
	return virt_sum_ps(g, *ret + (__int128)bytes * llround(per_byte * 1e9) / 1000000, ret, err);
}

/* What the calls cost their caller; pageable memory is not the driver's. */
static int alloc_ps(const struct cvb_gpu_buf *buf, uint64_t *ret, struct cvb_err *err)
{
	const struct virt_gpu *g = virt_gpu_of(buf->gpu);

	*ret = 0;
	if (buf->kind == CVB_GPU_HOST_PAGEABLE)
		return 0;
	if (buf->kind != CVB_GPU_HOST_PINNED)
		return virt_param_ps(g, CVB_SKU_DEVICE_ALLOC, ret, err);
	return linear_ps(g, CVB_SKU_PINNED_ALLOC, CVB_SKU_PINNED_ALLOC_COST, buf->bytes, ret, err);
}

static int free_ps(const struct cvb_gpu_buf *buf, uint64_t *ret, struct cvb_err *err)
{
	const struct virt_gpu *g = virt_gpu_of(buf->gpu);

	*ret = 0;
	if (buf->kind == CVB_GPU_HOST_PAGEABLE)
		return 0;
	if (buf->kind != CVB_GPU_HOST_PINNED)
		return virt_param_ps(g, CVB_SKU_FREE, ret, err);
	return linear_ps(g, CVB_SKU_PINNED_FREE, CVB_SKU_PINNED_FREE_COST, buf->bytes, ret, err);
}

static int make_buf(struct cvb_gpu_buf *buf, struct virt_buf *b, struct cvb_err *err)
{
	size_t blocks = (buf->bytes + VIRT_BLOCK - 1) / VIRT_BLOCK;
	int r = 0;

	if (buf->kind == CVB_GPU_DEVICE || buf->kind == CVB_GPU_MANAGED)
		b->content = virt_content_new(buf->bytes);
	if (buf->kind == CVB_GPU_MANAGED)
		b->on_device = calloc(blocks, 1);
	if ((buf->kind == CVB_GPU_DEVICE && !b->content) ||
	    (buf->kind == CVB_GPU_MANAGED && (!b->content || !b->on_device)))
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (buf->kind != CVB_GPU_DEVICE)
		r = map_host(buf, b, err);
	return r;
}

static void drop_buf(struct cvb_gpu_buf *buf, struct virt_buf *b)
{
	virt_content_drop(b->content);
	free(b->on_device);
	if (buf->host)
		munmap(buf->host, b->map_bytes);
	free(b);
}

/* Device memory is counted; managed memory may be more than there is. */
static int take_memory(struct virt_gpu *g, const struct cvb_gpu_buf *buf, struct cvb_err *err)
{
	if (buf->kind != CVB_GPU_DEVICE)
		return 0;
	if (buf->bytes > g->sku->hbm_bytes - g->used_bytes)
		return cvb_err_set(err, -ENOMEM,
				   "GPU %s has %llu bytes of memory, %llu of them in use",
				   g->sku->name, (unsigned long long)g->sku->hbm_bytes,
				   (unsigned long long)g->used_bytes);
	g->used_bytes += buf->bytes;
	return 0;
}

static int virt_alloc(struct cvb_gpu_buf *buf, struct cvb_err *err)
{
	struct virt_gpu *g = virt_gpu_of(buf->gpu);
	struct virt_buf *b = calloc(1, sizeof(*b));
	uint64_t ps = 0;
	int r = b ? alloc_ps(buf, &ps, err) : cvb_err_set(err, -ENOMEM, "out of memory");

	if (r == 0)
		r = make_buf(buf, b, err);
	if (r == 0) {
		struct virt_lane *lane = virt_enter(g->world);

		r = take_memory(g, buf, err);
		if (r == 0)
			lane->now += virt_noise(g->world, ps);
		virt_leave(g->world);
	}
	if (r < 0) {
		if (b)
			drop_buf(buf, b);
		buf->host = NULL;
		return r;
	}
	buf->priv = b;
	return 0;
}

static void virt_free(struct cvb_gpu_buf *buf)
{
	struct virt_gpu *g = virt_gpu_of(buf->gpu);
	struct virt_buf *b = virt_buf_of(buf);
	struct virt_lane *lane = virt_enter(g->world);
	uint64_t ps = 0;

	lane->now = cvb_max(lane->now, b->busy);
	/* unknown: it costs nothing, as nobody could be told */
	if (free_ps(buf, &ps, /* err= */ NULL) == 0 && ps)
		lane->now += virt_noise(g->world, ps);
	if (buf->kind == CVB_GPU_DEVICE)
		g->used_bytes -= buf->bytes;
	virt_leave(g->world);
	drop_buf(buf, b);
}

static const struct cvb_gpu_backend virt_backend = {
	.abi = CVB_GPU_BACKEND_ABI,
	.struct_size = sizeof(struct cvb_gpu_backend),
	.name = "emu",
	.spec_check = virt_spec_check,
	.open = virt_open,
	.close = virt_close,
	.describe = virt_describe,
	.cc_state = virt_cc_state,
	.context_new = virt_context_new,
	.context_free = virt_context_free,
	.parallel = virt_parallel,
	.host_work = virt_host_work,
	.peer_open = virt_peer_open,
	.peer_copy_async = virt_peer_copy_async,
	.alloc = virt_alloc,
	.free = virt_free,
	.stream_new = virt_stream_new,
	.stream_free = virt_stream_free,
	.copy_async = virt_copy_async,
	.memset_async = virt_memset_async,
	.gemm_async = virt_gemm_async,
	.launch_async = virt_launch_async,
	.managed_touch = virt_managed_touch,
	.graph_launch = virt_graph_launch,
	.sync = virt_sync,
	.event_new = virt_event_new,
	.event_free = virt_event_free,
	.event_record = virt_event_record,
	.event_wait = virt_event_wait,
	.event_sync = virt_event_sync,
	.event_elapsed_ns = virt_event_elapsed_ns,
};
