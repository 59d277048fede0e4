/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulated GPU: its spec, device and memory.  What it is made of: see emu.h.
 */
#include "gpu/emu.h"

#include "core/opt.h"
#include "core/util.h"
#include "gpu/virt.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <string.h>

/* ---- spec ---- */

struct emu_spec {
	const char *sku;
	int cc;	   /* index of cc_words */
	int clock; /* index of clock_words */
	struct cvb_virt_spec virt;
};

static const char *const cc_words[] = {"off", "on", NULL};
static const char *const clock_words[] = {"wall", "virtual", NULL};
static const char *const keys[] = {"cc", "clock", "seed", "noise", NULL};

static int word_index(const char *key, const char *value, const char *const *words, int *ret,
		      struct cvb_err *err)
{
	if (*ret >= 0)
		return cvb_err_set(err, -EINVAL, "GPU spec: %s is given twice", key);
	for (int i = 0; words[i]; i++) {
		if (!strcmp(words[i], value)) {
			*ret = i;
			return 0;
		}
	}
	return cvb_err_set(err, -EINVAL, "GPU spec: %s=%s; %s=%s or %s=%s is right", key, value,
			   key, words[0], key, words[1]);
}

static int parse_key(struct emu_spec *spec, char *word, struct cvb_err *err)
{
	char *value = strchr(word, '=');

	if (value)
		*value++ = '\0';
	if (value && !strcmp(word, "cc"))
		return word_index(word, value, cc_words, &spec->cc, err);
	if (value && !strcmp(word, "clock"))
		return word_index(word, value, clock_words, &spec->clock, err);
	int taken = value ? cvb_virt_key(&spec->virt, word, value, err) : 0;

	if (taken)
		return cvb_min(taken, 0);
	const char *near = cvb_nearest(word, keys);

	if (near)
		return cvb_err_set(err, -EINVAL, "GPU spec: \"%s%s\"; did you mean %s=VALUE?", word,
				   value ? "=" : "", near);
	return cvb_err_set(err, -EINVAL,
			   "GPU spec: \"%s\" is unknown; cc=on|off, clock=wall|virtual, seed=N and "
			   "noise=PERCENT are right",
			   word);
}

static int parse_spec(struct emu_spec *spec, const char *args, struct cvb_err *err)
{
	_cleanup_free_ char *copy = strdup(args ? args : "");
	char *rest = copy;

	*spec = (struct emu_spec){.cc = -1, .clock = -1};
	if (!copy)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	const char *sku = strsep(&rest, ",");

	if (!*sku)
		return cvb_err_set(err, -EINVAL, "GPU spec: emu needs a SKU, as in emu:h100-tdx");
	spec->sku = emu_sku_find(sku, err);
	if (!spec->sku)
		return -EINVAL;
	for (char *word; (word = strsep(&rest, ","));) {
		int r = parse_key(spec, word, err);

		if (r < 0)
			return r;
	}
	spec->cc = cvb_max(spec->cc, 0);
	spec->clock = cvb_max(spec->clock, 0);
	if (!spec->clock && (spec->virt.has_seed || spec->virt.has_noise))
		return cvb_err_set(err, -EINVAL, "GPU spec: seed= and noise= need clock=virtual");
	return 0;
}

static int emu_spec_check(const char *args, struct cvb_err *err)
{
	struct emu_spec spec;

	return parse_spec(&spec, args, err);
}

/* ---- device ---- */

int emu_device_new(struct cvb_gpu *gpu, const char *sku, bool cc, struct cvb_err *err)
{
	struct emu_device *d = calloc(1, sizeof(*d));

	if (!d)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (sched_getaffinity(0, sizeof(d->cpus), &d->cpus) < 0) {
		free(d);
		return cvb_err_set(err, -errno, "sched_getaffinity: %s", strerror(errno));
	}
	d->sku = sku;
	d->cc = cc;
	if (cvb_meminfo_bytes("MemTotal", &d->pinned_limit_bytes) < 0)
		d->pinned_limit_bytes = UINT64_MAX;
	d->pinned_limit_bytes /= 2;
	emu_signal_init(&d->signal);
	pthread_mutex_init(&d->compute, /* attr= */ NULL);
	gpu->priv = d;
	gpu->clock = &cvb_clock_host;
	gpu->emulated = true;
	gpu->deterministic = false;
	gpu->caps = (struct cvb_gpu_caps){
		/*
		 * No CVB_GPU_CAP_PROCESSES: what sets processes apart on a real GPU is the driver's
		 * state for each, and there is no driver here.  They would measure what contexts
		 * do.
		 */
		.flags = CVB_GPU_CAP_EVENTS | CVB_GPU_CAP_PINNED | CVB_GPU_CAP_MANAGED |
			 CVB_GPU_CAP_LAUNCH | CVB_GPU_CAP_GRAPHS | CVB_GPU_CAP_CONTEXTS |
			 CVB_GPU_CAP_PEER | (cc ? 0 : CVB_GPU_CAP_ASYNC_COPY),
		.gemm_types = (1U << CVB_GPU_TYPES) - 1,
		.context_limit = EMU_CONTEXTS,
		.host_register = CVB_GPU_OFF,
		.gpudirect_rdma = CVB_GPU_OFF,
		.multicast = CVB_GPU_OFF,
		.trusted_events = CVB_GPU_ON,
	};
	return 0;
}

static int emu_device_open(struct cvb_gpu *gpu, const char *args, struct cvb_err *err)
{
	struct emu_spec spec;
	int r = parse_spec(&spec, args, err);

	if (r < 0)
		return r;
	if (spec.clock == 1)
		return cvb_virt_open(gpu, spec.sku, spec.cc == 1, &spec.virt, err);
	return emu_device_new(gpu, spec.sku, spec.cc == 1, err);
}

static void emu_device_close(struct cvb_gpu *gpu)
{
	struct emu_device *d = emu_device_of(gpu);

	while (atomic_load(&d->peer_copies)) /* the last step of one that is done */
		sched_yield();
	if (d->link)
		emu_engine_done(d->link);
	free(d->link);
	cvb_mem_unmap(&d->scratch);
	emu_signal_done(&d->signal);
	pthread_mutex_destroy(&d->compute);
	free(d);
}

/* ---- contexts ---- */

static int emu_context_new(struct cvb_gpu_context *context, struct cvb_err *err)
{
	struct emu_device *d = emu_device_of(context->gpu);
	struct emu_context *c = aligned_alloc(_Alignof(struct emu_context), sizeof(*c));
	int r;

	if (!c)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	memset(c, 0, sizeof(*c));
	r = emu_engine_init(&c->engine[0], CVB_GPU_H2D, d->cc, &d->cpus, &d->probe, err);
	if (r == 0) {
		r = emu_engine_init(&c->engine[1], CVB_GPU_D2H, d->cc, &d->cpus, &d->probe, err);
		if (r < 0)
			emu_engine_done(&c->engine[0]);
	}
	if (r < 0)
		free(c);
	else
		context->priv = c;
	return r;
}

static void emu_context_free(struct cvb_gpu_context *context)
{
	struct emu_context *c = context->priv;

	emu_engine_done(&c->engine[0]);
	emu_engine_done(&c->engine[1]);
	free(c);
}

static int emu_describe(const struct cvb_gpu *gpu, json_t *into)
{
	const struct emu_device *d = emu_device_of(gpu);

	cvb_ignore(emu_blas_load(&d->cpus, /* err= */ NULL)); /* absent: null in the record */
	const char *blas = emu_blas_config();
	json_t *libraries = json_pack("{s:s,s:s?}", "openssl", OpenSSL_version(OPENSSL_VERSION),
				      "openblas", blas);
	json_t *staging =
		json_pack("{s:s,s:I,s:I,s:I}", "memory", d->cc ? "shared" : "pinned", "chunk_bytes",
			  (json_int_t)EMU_CHUNK_BYTES, "slots", (json_int_t)EMU_SLOTS,
			  "pinned_limit_bytes", (json_int_t)d->pinned_limit_bytes);

	/* each call takes its value over, also when it fails */
	int r = json_object_set_new(into, "sku", json_string(d->sku));

	r |= json_object_set_new(into, "libraries", libraries);
	r |= json_object_set_new(into, "staging", staging);
	return r ? -ENOMEM : 0;
}

static int emu_cc_state(struct cvb_gpu *gpu, struct cvb_gpu_cc *ret, struct cvb_err *err)
{
	bool on = emu_device_of(gpu)->cc;

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

/* ---- memory ---- */

/* Take from the pool of pinned memory, or give back. */
static int pinned_take(struct emu_device *d, uint64_t bytes, struct cvb_err *err)
{
	uint64_t used = atomic_load(&d->pinned_bytes);

	do {
		if (bytes > d->pinned_limit_bytes - used)
			return cvb_err_set(err, -ENOMEM,
					   "the pool of pinned memory holds %" PRIu64
					   " MiB, %" PRIu64 " of them are in use",
					   d->pinned_limit_bytes >> 20, used >> 20);
	} while (!atomic_compare_exchange_weak(&d->pinned_bytes, &used, used + bytes));
	return 0;
}

static void pinned_give(struct emu_device *d, uint64_t bytes)
{
	atomic_fetch_sub(&d->pinned_bytes, bytes);
}

/* Map what a buffer consists of; on failure nothing is left. */
static int buf_map(struct cvb_gpu_buf *buf, struct cvb_err *err)
{
	struct emu_buf *b = buf->priv;
	/* drivers map their own memory with large pages; what a program mallocs rarely has them */
	bool pageable = buf->kind == CVB_GPU_HOST_PAGEABLE;
	int r = cvb_mem_map(&b->mem, buf->bytes, pageable ? CVB_PAGES_4K : CVB_PAGES_THP,
			    /* numa_node= */ -1, err);

	if (r < 0)
		return r;
	if (buf->kind == CVB_GPU_MANAGED)
		r = emu_managed_alloc(buf, err);
	if (r < 0) {
		cvb_mem_unmap(&b->mem);
		return r;
	}
	if (!pageable)
		cvb_mem_touch(&b->mem, 0, b->mem.bytes);
	if (buf->kind != CVB_GPU_DEVICE)
		buf->host = b->mem.p;
	return 0;
}

static int emu_alloc(struct cvb_gpu_buf *buf, struct cvb_err *err)
{
	struct emu_device *d = emu_device_of(buf->gpu);
	bool pinned = buf->kind == CVB_GPU_HOST_PINNED;
	int r = pinned ? pinned_take(d, buf->bytes, err) : 0;

	if (r < 0)
		return r;
	buf->priv = calloc(1, sizeof(struct emu_buf));
	r = buf->priv ? buf_map(buf, err) : cvb_err_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		free(buf->priv);
		if (pinned)
			pinned_give(d, buf->bytes);
	}
	return r;
}

static bool is_unused(void *arg)
{
	struct emu_buf *b = arg;

	return atomic_load(&b->uses) == 0;
}

void emu_buf_wait_unused(struct cvb_gpu_buf *buf)
{
	emu_wait(&emu_device_of(buf->gpu)->signal, is_unused, emu_buf_of(buf));
}

static void emu_free(struct cvb_gpu_buf *buf)
{
	struct emu_buf *b = emu_buf_of(buf);

	emu_buf_wait_unused(buf);
	if (buf->kind == CVB_GPU_MANAGED)
		emu_managed_free(buf);
	if (buf->kind == CVB_GPU_HOST_PINNED)
		pinned_give(emu_device_of(buf->gpu), buf->bytes);
	cvb_mem_unmap(&b->mem);
	free(b);
}

void emu_buf_hold(struct cvb_gpu_buf *buf)
{
	atomic_fetch_add(&emu_buf_of(buf)->uses, 1);
}

void emu_buf_drop(struct cvb_gpu_buf *buf)
{
	struct emu_device *d = emu_device_of(buf->gpu);

	/* after this the buffer may be gone; the device's signal is not */
	atomic_fetch_sub(&emu_buf_of(buf)->uses, 1);
	emu_wake(&d->signal);
}

static const struct cvb_gpu_backend emu_backend = {
	.abi = CVB_GPU_BACKEND_ABI,
	.struct_size = sizeof(struct cvb_gpu_backend),
	.name = "emu",
	.spec_check = emu_spec_check,
	.open = emu_device_open,
	.close = emu_device_close,
	.describe = emu_describe,
	.cc_state = emu_cc_state,
	.context_new = emu_context_new,
	.context_free = emu_context_free,
	.peer_open = emu_peer_open,
	.peer_copy_async = emu_peer_copy_async,
	.alloc = emu_alloc,
	.free = emu_free,
	.stream_new = emu_stream_new,
	.stream_free = emu_stream_free,
	.copy_async = emu_copy_async,
	.memset_async = emu_memset_async,
	.gemm_async = emu_gemm_async,
	.launch_async = emu_launch_async,
	.managed_touch = emu_managed_touch,
	.graph_new = emu_graph_new,
	.graph_free = emu_graph_free,
	.graph_launch = emu_graph_launch,
	.sync = emu_sync,
	.event_new = emu_event_new,
	.event_free = emu_event_free,
	.event_record = emu_event_record,
	.event_wait = emu_event_wait,
	.event_sync = emu_event_sync,
	.event_elapsed_ns = emu_event_elapsed_ns,
};

/* ---- for tests ---- */

const void *emu_bounce(const struct cvb_gpu *gpu, enum cvb_gpu_dir dir, size_t *ret_bytes)
{
	if (gpu->backend != &emu_backend || dir == CVB_GPU_D2D)
		return NULL;
	struct emu_context *c = gpu->primary.priv;

	*ret_bytes = EMU_SLOTS * sizeof(struct emu_slot);
	return c->engine[dir].bounce;
}

void emu_set_probe(struct cvb_gpu *gpu, const struct emu_probe *probe)
{
	CVB_BUG_ON(gpu->backend != &emu_backend);
	emu_device_of(gpu)->probe = probe ? *probe : (struct emu_probe){0};
}

CVB_GPU_BACKEND(emu_backend);
