/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the driver, copies of it; see fake.h. */
#include "fake_part.h"

#include <stdlib.h>
#include <string.h>

#define CALL(name) FAKE_CALL(name, CUresult)

static struct fake_buffer *buffers;

static CUresult buffer_new(void **ret, size_t bytes, bool host)
{
	struct fake_buffer *b;

	if (!fake_current)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!bytes || bytes > MEMORY_BYTES)
		return bytes ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
	b = fake_make(sizeof(*b));
	b->bytes = bytes;
	b->host = host;
	b->p = aligned_alloc(256, (bytes + 255) / 256 * 256);
	if (!b->p) {
		fake_unmake(b);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	pthread_mutex_lock(&fake_lock);
	b->next = buffers;
	buffers = b;
	pthread_mutex_unlock(&fake_lock);
	*ret = b->p;
	return CUDA_SUCCESS;
}

static CUresult buffer_free(void *p, bool registered)
{
	struct fake_buffer **at, *found;

	pthread_mutex_lock(&fake_lock);
	for (at = &buffers; *at && ((*at)->p != p || (*at)->registered != registered);
	     at = &(*at)->next)
		;
	found = *at;
	if (found)
		*at = found->next;
	pthread_mutex_unlock(&fake_lock);
	if (!found)
		return CUDA_ERROR_INVALID_VALUE;
	if (!registered)
		free(found->p);
	fake_unmake(found);
	return CUDA_SUCCESS;
}

/* The buffer that holds a range; NULL for none. */
const struct fake_buffer *fake_buffer_of(const void *p, size_t bytes)
{
	const char *from = p;
	const struct fake_buffer *b;

	pthread_mutex_lock(&fake_lock);
	for (b = buffers; b; b = b->next)
		if (from >= b->p && from + bytes <= b->p + b->bytes)
			break;
	pthread_mutex_unlock(&fake_lock);
	return b;
}

bool fake_is_device(const void *p, size_t bytes)
{
	const struct fake_buffer *b = fake_buffer_of(p, bytes);

	return b && !b->host;
}

FAKE_API CUresult cuMemAlloc_v2(CUdeviceptr *ret, size_t bytes)
{
	CALL("cuMemAlloc_v2");
	return buffer_new((void **)ret, bytes, false);
}

FAKE_API CUresult cuMemFree_v2(CUdeviceptr p)
{
	CUresult r = buffer_free((void *)p, false);

	CALL("cuMemFree_v2");
	return r;
}

FAKE_API CUresult cuMemAllocManaged(CUdeviceptr *ret, size_t bytes, unsigned flags)
{
	CALL("cuMemAllocManaged");
	return flags == CU_MEM_ATTACH_GLOBAL ? buffer_new((void **)ret, bytes, false)
					     : CUDA_ERROR_INVALID_VALUE;
}

FAKE_API CUresult cuMemHostAlloc(void **ret, size_t bytes, unsigned flags)
{
	(void)flags;
	CALL("cuMemHostAlloc");
	return buffer_new(ret, bytes, true);
}

/* The header has this name only as an alias of the newer one. */
FAKE_API CUresult cuMemHostRegister_v2(void *p, size_t bytes, unsigned flags)
{
	struct fake_buffer *b;

	CALL("cuMemHostRegister_v2");
	if (fake_is_confidential())
		return CUDA_ERROR_NOT_SUPPORTED;
	if (!fake_current || !p || !bytes || flags != CU_MEMHOSTREGISTER_PORTABLE ||
	    fake_buffer_of(p, 1))
		return CUDA_ERROR_INVALID_VALUE;
	b = fake_make(sizeof(*b));
	*b = (struct fake_buffer){.p = p, .bytes = bytes, .host = true, .registered = true};
	pthread_mutex_lock(&fake_lock);
	b->next = buffers;
	buffers = b;
	pthread_mutex_unlock(&fake_lock);
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemHostUnregister(void *p)
{
	CUresult r = buffer_free(p, /* registered= */ true);

	CALL("cuMemHostUnregister");
	return r;
}

FAKE_API CUresult cuMemFreeHost(void *p)
{
	CUresult r = buffer_free(p, false);

	CALL("cuMemFreeHost");
	return r;
}

/* ---- copies ---- */

struct copy {
	char *dst;
	const char *src;
	size_t bytes;
};

static void copy_run(void *arg)
{
	const struct copy *c = arg;

	memcpy(c->dst, c->src, c->bytes);
}

/* Blocks where the driver does: pageable memory, and any host memory of a confidential GPU. */
static CUresult copy(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream)
{
	const struct copy c = {(char *)dst, (const char *)src, bytes};
	const struct fake_buffer *to = fake_buffer_of(c.dst, bytes),
				 *from = fake_buffer_of(c.src, bytes);
	bool host = !to || !from || to->host || from->host;
	CUresult r;

	if (!to && !from)
		return CUDA_ERROR_INVALID_VALUE;
	r = fake_push(stream, copy_run, &c, sizeof(c));
	if (r == CUDA_SUCCESS && (!to || !from || (host && fake_is_confidential())))
		fake_drain((struct fake_stream *)stream);
	return r;
}

FAKE_API CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream)
{
	CALL("cuMemcpyAsync");
	return copy(dst, src, bytes, stream);
}

FAKE_API CUresult cuMemcpyPeerAsync(CUdeviceptr dst, CUcontext to, CUdeviceptr src, CUcontext from,
				    size_t bytes, CUstream stream)
{
	CALL("cuMemcpyPeerAsync");
	if (!to || !from || to == from)
		return CUDA_ERROR_INVALID_CONTEXT;
	return copy(dst, src, bytes, stream);
}

static void copy_2d_run(void *arg)
{
	const CUDA_MEMCPY2D *c = arg;

	for (size_t i = 0; i < c->Height; i++)
		memcpy((char *)c->dstDevice + i * c->dstPitch,
		       (const char *)c->srcDevice + i * c->srcPitch, c->WidthInBytes);
}

FAKE_API CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *c, CUstream stream)
{
	CALL("cuMemcpy2DAsync_v2");
	if (c->WidthInBytes > c->dstPitch || c->WidthInBytes > c->srcPitch ||
	    !fake_is_device((void *)c->dstDevice, (c->Height - 1) * c->dstPitch + c->WidthInBytes))
		return CUDA_ERROR_INVALID_VALUE;
	return fake_push(stream, copy_2d_run, c, sizeof(*c));
}

struct set {
	char *dst;
	size_t bytes;
	int value;
};

static void set_run(void *arg)
{
	const struct set *s = arg;

	memset(s->dst, s->value, s->bytes);
}

FAKE_API CUresult cuMemsetD8Async(CUdeviceptr dst, unsigned char value, size_t bytes,
				  CUstream stream)
{
	const struct set s = {(char *)dst, bytes, value};

	CALL("cuMemsetD8Async");
	if (!fake_is_device(s.dst, bytes))
		return CUDA_ERROR_ILLEGAL_ADDRESS;
	return fake_push(stream, set_run, &s, sizeof(s));
}
