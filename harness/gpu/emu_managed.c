/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Managed memory: a buffer has memory on both sides, and each page of 4 KiB is in one of them.
 *
 * Work on the device brings the pages that it uses, cvb_gpu_managed_touch brings them back; both
 * move runs of pages within a block of 2 MiB, the unit in which a driver handles faults.  With
 * cc=on they cross the bounce buffer like any copy, but each page under its own IV and tag.
 *
 * Nothing else moves a page: the emulator does not catch accesses of the program, which has to
 * touch before it reads or writes.
 */
#include "core/util.h"
#include "gpu/emu.h"

#include <errno.h>
#include <string.h>

#define BLOCK_PAGES ((size_t)2 * CVB_MIB / EMU_PAGE_BYTES)

int emu_managed_alloc(struct cvb_gpu_buf *buf, struct cvb_err *err)
{
	struct emu_buf *b = buf->priv;
	int r = cvb_mem_map(&b->device, buf->bytes, CVB_PAGES_THP, /* numa_node= */ -1, err);

	if (r < 0)
		return r;
	b->place = calloc((buf->bytes + EMU_PAGE_BYTES - 1) / EMU_PAGE_BYTES, sizeof(*b->place));
	if (!b->place) {
		cvb_mem_unmap(&b->device);
		return cvb_err_set(err, -ENOMEM, "out of memory");
	}
	cvb_mem_touch(&b->device, 0, b->device.bytes);
	pthread_mutex_init(&b->lock, /* attr= */ NULL);
	return 0;
}

void emu_managed_free(struct cvb_gpu_buf *buf)
{
	struct emu_buf *b = buf->priv;

	pthread_mutex_destroy(&b->lock);
	free(b->place);
	cvb_mem_unmap(&b->device);
}

static int move_run(struct cvb_gpu_buf *buf, size_t page, size_t pages, enum emu_place to,
		    struct cvb_err *err)
{
	struct emu_buf *b = emu_buf_of(buf);
	struct emu_context *c = buf->context->priv;
	struct emu_engine *e = &c->engine[to == EMU_ON_DEVICE ? CVB_GPU_H2D : CVB_GPU_D2H];
	uint8_t *device = (uint8_t *)b->device.p + page * EMU_PAGE_BYTES;
	uint8_t *host = (uint8_t *)b->mem.p + page * EMU_PAGE_BYTES;
	size_t bytes = pages * EMU_PAGE_BYTES;

	if (emu_device_of(buf->gpu)->cc)
		return emu_engine_staged(e, device, host, bytes, EMU_PAGE_BYTES, err);
	pthread_mutex_lock(&e->busy);
	memcpy(to == EMU_ON_DEVICE ? device : host, to == EMU_ON_DEVICE ? host : device, bytes);
	pthread_mutex_unlock(&e->busy);
	return 0;
}

/* How many pages from `page` on are elsewhere than `to`, within its block and before `end`. */
static size_t run_length(const struct emu_buf *b, size_t page, size_t end, enum emu_place to)
{
	size_t limit = cvb_min(end, (page / BLOCK_PAGES + 1) * BLOCK_PAGES), n = 0;

	while (page + n < limit && b->place[page + n] != to)
		n++;
	return n;
}

static int move(struct cvb_gpu_buf *buf, size_t offset, size_t bytes, enum emu_place to,
		struct cvb_err *err)
{
	struct emu_buf *b = emu_buf_of(buf);
	size_t end = (offset + bytes + EMU_PAGE_BYTES - 1) / EMU_PAGE_BYTES;
	int r = 0;

	pthread_mutex_lock(&b->lock);
	for (size_t page = offset / EMU_PAGE_BYTES, n; page < end && r == 0;
	     page += cvb_max(n, 1)) {
		n = run_length(b, page, end, to);
		if (!n)
			continue;
		r = move_run(buf, page, n, to, err);
		if (r == 0)
			memset(b->place + page, (int)to, n);
	}
	pthread_mutex_unlock(&b->lock);
	return r < 0 ? cvb_err_wrap(err, r, "moving managed memory") : 0;
}

int emu_to_device(struct cvb_gpu_buf *buf, size_t offset, size_t bytes, struct cvb_err *err)
{
	if (!buf || buf->kind != CVB_GPU_MANAGED || !bytes)
		return 0;
	return move(buf, offset, bytes, EMU_ON_DEVICE, err);
}

int emu_managed_touch(struct cvb_gpu_buf *buf, size_t offset_bytes, size_t bytes,
		      struct cvb_err *err)
{
	emu_buf_wait_unused(buf);
	return move(buf, offset_bytes, bytes, EMU_ON_HOST, err);
}
