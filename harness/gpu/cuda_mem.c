/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts and buffers of an NVIDIA GPU.
 */
#include "core/log.h"
#include "core/util.h"
#include "gpu/cuda.h"

#include <errno.h>
#include <numaif.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES ((size_t)4096)

/* ---- contexts ---- */

/* A device and its peer see each other's memory; asked for again it is there already. */
int cuda_peer_enable(const struct cuda_context *from, const struct cuda_context *to,
		     struct cvb_err *err)
{
	int r = cuda_use(from, err);
	CUresult code = r < 0 ? CUDA_SUCCESS : cuda.peer_enable(to->ctx, 0);

	if (r < 0 || code == CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED)
		return r;
	return cuda_result(code, "cuCtxEnablePeerAccess", err);
}

static int join_peer(const struct cvb_gpu_context *context, struct cvb_err *err)
{
	const struct cvb_gpu *other = context->gpu->peer_of;
	int r;

	if (!context->primary || !other)
		return 0;
	r = cuda_peer_enable(context->priv, other->primary.priv, err);
	return r < 0 ? r : cuda_peer_enable(other->primary.priv, context->priv, err);
}

static void ctx_free(const struct cvb_gpu_context *context, CUcontext ctx)
{
	if (context->primary)
		CU_DROP(primary_release, cuda_device_of(context->gpu)->dev);
	else
		CU_DROP(ctx_destroy, ctx);
}

static int own_context_new(struct cvb_gpu_context *context, struct cvb_err *err)
{
	struct cuda_device *d = cuda_device_of(context->gpu);
	struct cuda_context *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = context->primary ? CU(err, primary_retain, &c->ctx, d->dev)
			     : CU(err, ctx_create, &c->ctx, CU_CTX_SCHED_AUTO, d->dev);
	if (r < 0) {
		free(c);
		return r;
	}
	pthread_mutex_init(&c->lock, /* attr= */ NULL);
	context->priv = c;
	r = cuda_use(c, err);
	if (r == 0)
		r = cuda_module_load(c, err);
	if (r == 0)
		r = join_peer(context, err);
	if (r < 0)
		cuda_context_free(context);
	return r;
}

int cuda_context_new(struct cvb_gpu_context *context, struct cvb_err *err)
{
	return context->kind == CVB_GPU_CONTEXT_PROCESS && !context->primary
		       ? cuda_proc_new(context, err)
		       : own_context_new(context, err);
}

void cuda_context_free(struct cvb_gpu_context *context)
{
	if (cuda_is_proc(context)) {
		cuda_proc_free(context);
		return;
	}
	struct cuda_context *c = CVB_TAKE(context->priv);

	if (cuda_use(c, /* err= */ NULL) == 0) {
		cuda_events_leave(context->gpu, c);
		cuda_blas_free(c);
		if (c->module)
			CU_DROP(module_unload, c->module);
	}
	ctx_free(context, c->ctx);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* ---- buffers ---- */

/* Pages come from where the calling thread's policy says. */
void cuda_near_set(struct cuda_near *n, int numa_node)
{
	const unsigned long bits = 8 * sizeof(n->nodes), word = 8 * sizeof(n->nodes[0]);
	unsigned long near[CVB_ARRAY_LEN(n->nodes)] = {0};

	*n = (struct cuda_near){0};
	if (numa_node < 0 || (unsigned long)numa_node >= bits ||
	    get_mempolicy(&n->mode, n->nodes, bits, NULL, 0) < 0)
		return;
	near[(unsigned long)numa_node / word] |= 1UL << ((unsigned long)numa_node % word);
	n->set = set_mempolicy(MPOL_PREFERRED, near, bits) == 0;
}

void cuda_near_restore(const struct cuda_near *n)
{
	if (n->set && set_mempolicy(n->mode, n->nodes, 8 * sizeof(n->nodes)) < 0)
		cvb_debug("gpu", "set_mempolicy: %s, ignored", strerror(errno));
}

static int alloc_pinned(const struct cuda_device *d, void **ret, size_t bytes, struct cvb_err *err)
{
	struct cuda_near near;
	int r;

	cuda_near_set(&near, d->numa_node);
	r = CU(err, host_alloc, ret, bytes, CU_MEMHOSTALLOC_PORTABLE);
	cuda_near_restore(&near);
	return r;
}

/*
 * Pin the memory of a file.  A confidential GPU's driver registers no memory that is there already:
 * the buffer then is memory of the driver's own, and the file a view that is copied to and from it
 * (cuda_child.c) when the other process uses it.
 */
static int pin_shared(const struct cuda_device *d, struct cvb_gpu_buf *buf, struct cuda_buf *b,
		      void *p, struct cvb_err *err)
{
	int can = 0, r;

	if (cuda.device_attribute(&can, CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, d->dev) !=
		    CUDA_SUCCESS ||
	    can) {
		r = CU(err, host_register, p, buf->bytes, CU_MEMHOSTREGISTER_PORTABLE);
		buf->host = p;
		return r;
	}
	r = alloc_pinned(d, &buf->host, buf->bytes, err);
	b->view = p;
	return r;
}

/* Memory of a file that another process maps too. */
static int alloc_shared(const struct cuda_device *d, struct cvb_gpu_buf *buf, struct cuda_buf *b,
			struct cvb_err *err)
{
	struct cuda_near near;
	void *p;
	int r = 0;

	cuda_near_set(&near, d->numa_node);
	p = mmap(NULL, buf->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, d->shared_fd,
		 0);
	cuda_near_restore(&near);
	if (p == MAP_FAILED)
		return cvb_err_set(err, -errno, "cannot map %zu shared bytes: %s", buf->bytes,
				   strerror(errno));
	b->shared = true;
	if (buf->kind == CVB_GPU_HOST_PINNED)
		r = pin_shared(d, buf, b, p, err);
	else
		buf->host = p;
	if (r < 0)
		munmap(p, buf->bytes);
	return r;
}

static bool is_host(enum cvb_gpu_mem kind)
{
	return kind == CVB_GPU_HOST_PINNED || kind == CVB_GPU_HOST_PAGEABLE;
}

static int alloc_kind(struct cvb_gpu_buf *buf, struct cuda_buf *b, struct cvb_err *err)
{
	const struct cuda_device *d = cuda_device_of(buf->gpu);
	int r;

	if (d->shared_fd >= 0 && is_host(buf->kind)) {
		r = alloc_shared(d, buf, b, err);
		b->ptr = (CUdeviceptr)(uintptr_t)buf->host;
		return r;
	}
	switch (buf->kind) {
	case CVB_GPU_DEVICE:
		return CU(err, mem_alloc, &b->ptr, buf->bytes);
	case CVB_GPU_MANAGED:
		r = CU(err, managed_alloc, &b->ptr, buf->bytes, CU_MEM_ATTACH_GLOBAL);
		if (r == 0)
			buf->host = (void *)(uintptr_t)b->ptr;
		return r;
	case CVB_GPU_HOST_PINNED:
		r = alloc_pinned(d, &buf->host, buf->bytes, err);
		break;
	default: /* what a program mallocs: small pages */
		r = cvb_mem_map(&b->mem, buf->bytes, CVB_PAGES_4K, d->numa_node, err);
		buf->host = b->mem.p;
	}
	b->ptr = (CUdeviceptr)(uintptr_t)buf->host;
	return r;
}

int cuda_alloc(struct cvb_gpu_buf *buf, struct cvb_err *err)
{
	if (cuda_is_proc(buf->context))
		return cuda_proc_alloc(buf, err);
	struct cuda_buf *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cuda_use(buf->context->priv, err);
	if (r == 0)
		r = alloc_kind(buf, b, err);
	if (r < 0) {
		free(b);
		return r;
	}
	buf->priv = b;
	return 0;
}

static void wait_context(const struct cuda_context *c)
{
	if (cuda_use(c, /* err= */ NULL) == 0)
		CU_DROP(ctx_sync);
}

/* Of all contexts of a device that are this process's. */
static void wait_device(struct cvb_gpu *gpu)
{
	struct cvb_gpu_context *c;

	wait_context(gpu->primary.priv);
	pthread_mutex_lock(&gpu->lock);
	LIST_FOREACH (c, &gpu->contexts, link)
		if (c->priv && !cuda_is_proc(c))
			wait_context(c->priv);
	pthread_mutex_unlock(&gpu->lock);
}

/* All work that may use the buffer; a peer's copies are work of the peer's streams. */
static void wait_users(const struct cvb_gpu_buf *buf)
{
	struct cvb_gpu *peer = buf->gpu->peer_of ? buf->gpu->peer_of : buf->gpu->peer;

	if (peer)
		wait_device(peer);
	wait_context(buf->context->priv);
}

static void free_shared(const struct cvb_gpu_buf *buf, const struct cuda_buf *b)
{
	if (b->view)
		CU_DROP(host_free, buf->host);
	else if (buf->kind == CVB_GPU_HOST_PINNED)
		CU_DROP(host_unregister, buf->host);
	munmap(b->view ? b->view : buf->host, buf->bytes);
}

static void free_kind(const struct cvb_gpu_buf *buf, struct cuda_buf *b)
{
	switch (buf->kind) {
	case CVB_GPU_DEVICE:
	case CVB_GPU_MANAGED:
		CU_DROP(mem_free, b->ptr);
		break;
	case CVB_GPU_HOST_PINNED:
		CU_DROP(host_free, buf->host);
		break;
	case CVB_GPU_HOST_PAGEABLE:
		cvb_mem_unmap(&b->mem);
		break;
	}
}

void cuda_free(struct cvb_gpu_buf *buf)
{
	struct cuda_buf *b = buf->priv;

	if (cuda_is_proc(buf->context)) {
		cuda_proc_buf_free(buf);
		return;
	}
	wait_users(buf);
	if (b->shared)
		free_shared(buf, b);
	else
		free_kind(buf, b);
	free(b);
}

void cuda_host_touch(const struct cvb_gpu_buf *buf)
{
	if (buf->host && cuda_is_proc(buf->context))
		cuda_proc_host_touch(buf);
}

/*
 * Where host and device may not use managed memory at the same time, the host may use none while
 * any kernel of the process runs; else only what the buffer's own context does counts.
 */
static int wait_managed(const struct cvb_gpu_buf *buf, struct cvb_err *err)
{
	if (!cuda_device_of(buf->gpu)->concurrent_managed)
		wait_device(buf->gpu);

	int r = cuda_use(buf->context->priv, err);

	return r < 0 ? r : CU(err, ctx_sync);
}

int cuda_managed_touch(struct cvb_gpu_buf *buf, size_t offset_bytes, size_t bytes,
		       struct cvb_err *err)
{
	volatile uint8_t *p = buf->host;
	int r = wait_managed(buf, err);

	/* a write, which moves the page also where the driver lets both sides read one */
	for (size_t at = offset_bytes; r == 0 && at < offset_bytes + bytes;
	     at += PAGE_BYTES - at % PAGE_BYTES)
		p[at] = p[at];
	return r;
}
