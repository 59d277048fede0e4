/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peer devices: a second emulated device in the same process.
 *
 * A peer copy is work of its stream and needs nothing from the calling thread.  With cc=on the two
 * ends of the link seal and open what crosses it, as encrypted NVLink does: the stream's thread
 * produces and a thread of the link consumes.
 */
#include "core/util.h"
#include "gpu/emu.h"

#include <errno.h>
#include <string.h>

static int link_new(struct emu_device *d, struct cvb_err *err)
{
	struct emu_engine *link = aligned_alloc(_Alignof(struct emu_engine), sizeof(*link));

	if (!link)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	memset(link, 0, sizeof(*link));
	int r = emu_engine_init(link, CVB_GPU_D2D, /* cc= */ true, &d->cpus, &d->probe, err);

	if (r < 0)
		free(link);
	else
		d->link = link;
	return r;
}

int emu_peer_open(struct cvb_gpu *gpu, struct cvb_gpu *peer, struct cvb_err *err)
{
	struct emu_device *d = emu_device_of(gpu);
	/* once made it stays until the device is closed: a peer may come again */
	int r = d->cc && !d->link ? link_new(d, err) : 0;

	return r < 0 ? r : emu_device_new(peer, d->sku, d->cc, err);
}

/*
 * Unlike other work, a peer copy runs on a thread that outlives one of its two devices: that one
 * must not go while the thread still tells it that a buffer is unused.
 */
void emu_peer_hold(const struct cvb_gpu_copy *c)
{
	emu_buf_hold(c->dst);
	emu_buf_hold(c->src);
	atomic_fetch_add(&emu_device_of(c->dst->gpu)->peer_copies, 1);
	atomic_fetch_add(&emu_device_of(c->src->gpu)->peer_copies, 1);
}

void emu_peer_drop(const struct cvb_gpu_copy *c)
{
	struct emu_device *to = emu_device_of(c->dst->gpu), *from = emu_device_of(c->src->gpu);

	emu_buf_drop(c->dst);
	emu_buf_drop(c->src);
	atomic_fetch_sub(&to->peer_copies, 1);
	atomic_fetch_sub(&from->peer_copies, 1);
}

int emu_peer_run(const struct cvb_gpu_copy *c, struct cvb_err *err)
{
	/* of the two, the one that opened the other */
	struct cvb_gpu *first = c->dst->gpu->peer_of ? c->src->gpu : c->dst->gpu;
	struct emu_device *d = emu_device_of(first);
	uint8_t *dst = emu_buf_ptr(c->dst, c->dst_offset_bytes);
	uint8_t *src = emu_buf_ptr(c->src, c->src_offset_bytes);

	if (d->link)
		return emu_engine_staged(d->link, dst, src, c->bytes, EMU_CHUNK_BYTES, err);
	memcpy(dst, src, c->bytes);
	return 0;
}
