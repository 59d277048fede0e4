/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulated GPU on a virtual clock, from inside (-g emu:SKU,clock=virtual).
 *
 * Time is computed from the model of the SKU (sku.h), never measured: two runs on two machines give
 * the same numbers.  Bytes move all the same, and a result that is read back is the true one.
 *
 *   world     the time of one device and its peers: the host threads (lanes) and the copies that
 *             block them (virt_time.c)
 *   lane      a host thread of cvb_gpu_parallel.  Lanes are threads that pass a baton: the one with
 *             the earliest time runs, so that calls come in the order of virtual time
 *   resource  what one piece of work has for itself: a copy engine, the compute units, a link
 *   content   what is in device memory: not bytes but how to make them (virt_mem.c), so that 4 GiB
 *             of untouched pages or a product of 8192 x 8192 cost what is looked at
 *
 * A copy (virt_copy.c), with n bytes:
 *
 *   cc=off, pinned   the call returns after copy_submit; the copy takes toll and n / pcie, its
 *                    bytes one copy at a time in each direction
 *   cc=on            the calling thread waits until its stream is idle, then encrypts and stages:
 *                    toll, then n at 1 / gcm + 1 / stage (never faster than the link), the first
 *                    `knee`, and those behind the first `tail` bytes of the host's buffer, at
 *                    their own cost.  Copies of one context and
 *                    direction are one after the other, whatever their streams.  N contexts share:
 *                    together they get max N / (N + half), never more than duplex for both
 *                    directions.  Copies of lanes take that formula also for N = 1, as it was
 *                    measured: with host threads that copy all the time
 *   pageable         as cc=on in that it blocks, with a toll and a bandwidth of its own
 *
 * A kernel costs its caller `launch`, or `launch_busy` where its stream still works when that is
 * over; it starts queue_delay later, or queue_gap after the kernel before it in its stream.  A
 * graph is one launch, and costs the device `graph` and n times graph_node before its work.
 *
 * Times are picoseconds in 64 bits, 213 days; products of them have 128.  No floating point but to
 * read the model, so that no compiler or library can change them.
 */
#ifndef CVB_GPU_VIRT_H
#define CVB_GPU_VIRT_H

#include "gpu/backend.h"
#include "gpu/sku.h"

#include <pthread.h>
#include <sys/queue.h>

/* ---- spec ---- */

/* Keys of a spec that only the virtual clock has. */
struct cvb_virt_spec {
	bool has_seed, has_noise;
	uint64_t seed;	    /* of the noise, 1 if not given */
	uint32_t noise_ppm; /* every duration is changed by up to so much; 0: none */
};

/* One "seed=N" or "noise=PERCENT".  1: taken; 0: no key of these; -EINVAL. */
CVB_MUST_CHECK int cvb_virt_key(struct cvb_virt_spec *spec, const char *key, const char *value,
				struct cvb_err *err);

/*
 * An open hook: makes `gpu` a device of the virtual clock and puts its backend in place.  -EINVAL
 * for a model with a mistake, -ENOMEM.
 */
CVB_MUST_CHECK int cvb_virt_open(struct cvb_gpu *gpu, const char *sku, bool cc,
				 const struct cvb_virt_spec *spec, struct cvb_err *err);

/* ---- time (virt_time.c) ---- */

#define VIRT_PS_PER_NS UINT64_C(1000)
#define VIRT_MAX_NS    UINT64_C(1000000000000000) /* that one thing may take: 11 days */

enum virt_lane_state {
	VIRT_READY,
	VIRT_BLOCKED, /* by a copy */
	VIRT_DONE,
};

struct virt_lane {
	struct virt_world *world;
	unsigned number;
	uint64_t now; /* ps */
	enum virt_lane_state state;
	pthread_cond_t turn;
	pthread_t thread;
	cvb_gpu_lane_fn *fn;
	void *arg;
	int r;
	struct cvb_err err;
};

/* A copy that blocks its lane. */
struct virt_xfer {
	struct cvb_gpu_context *context;
	enum cvb_gpu_dir dir;
	bool pinned;
	size_t bytes;
	uint64_t stream_end; /* of the work before it in its stream */
	uint64_t toll;	     /* ps */
	uint64_t alone;	     /* ps for its bytes while no other context copies */
	uint32_t noise_ppm;  /* of 1 000 000: for its bytes beside others; in `alone` already */

	/* virt_time.c's */
	struct virt_lane *lane; /* NULL: a thread that is no lane, alone */
	enum {
		VIRT_XFER_QUEUED, /* another copy of its context goes first */
		VIRT_XFER_TOLL,
		VIRT_XFER_DATA,
	} state;
	uint64_t at;	/* TOLL: when it ends */
	uint64_t total; /* DATA: ps for all of its bytes, at the rate of now */
	uint64_t left;	/* DATA: ps of that after world->shared_at */
	int r;
	struct cvb_err err;
	TAILQ_ENTRY(virt_xfer) link; /* in the order of their starts */
};

struct virt_world {
	pthread_mutex_t lock; /* guards all that the devices have; held during every hook */
	unsigned devices;
	struct virt_lane main; /* of every thread that is no lane */
	struct virt_lane *lanes;
	unsigned n_lanes;
	struct virt_lane *running; /* has the baton; &main: none */
	TAILQ_HEAD(, virt_xfer) xfers;
	uint64_t shared_at; /* up to when the copies' `left` is counted */
	int pagemap;	    /* /proc/self/pagemap; -1: cannot be read */
	struct cvb_virt_spec noise;
	uint64_t noises; /* drawn */
	struct cvb_clock clock;
};

CVB_MUST_CHECK struct virt_world *virt_world_new(const struct cvb_virt_spec *spec);
/* Drop one device's hold on it. */
void virt_world_drop(struct virt_world *w);

/* Take the lock, and the lane's turn; the calling thread's lane. */
struct virt_lane *virt_enter(struct virt_world *w);
void virt_leave(struct virt_world *w);

/* A duration with the noise that was asked for; and the two parts of that. */
uint64_t virt_noise(struct virt_world *w, uint64_t ps);
uint32_t virt_draw_noise(struct virt_world *w); /* in parts of 1 000 000 */
uint64_t virt_with_noise(uint64_t ps, uint32_t ppm);

/* Block the lane until the copy is done; it owns x until this returns. */
CVB_MUST_CHECK int virt_block(struct virt_lane *lane, struct virt_xfer *x, struct cvb_err *err);

int virt_parallel(struct cvb_gpu *gpu, unsigned lanes, cvb_gpu_lane_fn *fn, void *arg,
		  struct cvb_err *err);
void virt_host_work(struct cvb_gpu *gpu, uint64_t ns);

/* Times at which it is taken, ascending and apart. */
struct virt_resource {
	struct virt_busy {
		uint64_t from, to;
	} * busy;
	size_t n, room;
};

/* Take it for `ps` as early as it is free from `earliest` on: *ret_start.  `now` is before every
 * later call's `earliest`. */
CVB_MUST_CHECK int virt_reserve(struct virt_resource *res, uint64_t now, uint64_t earliest,
				uint64_t ps, uint64_t *ret_start, struct cvb_err *err);

/* ---- device (virt.c) ---- */

struct virt_gpu {
	struct virt_world *world;
	struct cvb_sku *sku;
	bool cc;
	struct virt_resource engine[2]; /* copies of cc=off: h2d, d2h */
	struct virt_resource compute;	/* kernels that use its memory or its units */
	struct virt_resource link;	/* to the peer, outward */
	uint64_t used_bytes;		/* of device memory */
};

static inline struct virt_gpu *virt_gpu_of(const struct cvb_gpu *gpu)
{
	return gpu->priv;
}

/* A parameter for this device's mode; -EOPNOTSUPP names an unknown one. */
CVB_MUST_CHECK int virt_param(const struct virt_gpu *g, enum cvb_sku_param p, double *ret,
			      struct cvb_err *err);
CVB_MUST_CHECK int virt_param_mode(const struct virt_gpu *g, enum cvb_sku_param p, bool cc,
				   double *ret, struct cvb_err *err);
bool virt_param_known(const struct virt_gpu *g, enum cvb_sku_param p);

/* One in ns, as ps. */
CVB_MUST_CHECK int virt_param_ps(const struct virt_gpu *g, enum cvb_sku_param p, uint64_t *ret,
				 struct cvb_err *err);

/* Time of `count` at one in count per second, added to *ps. */
CVB_MUST_CHECK int virt_add_rate(const struct virt_gpu *g, enum cvb_sku_param p, uint64_t count,
				 uint64_t *ps, struct cvb_err *err);

/* The sum of a cost, in ps: -EINVAL where it is more than VIRT_MAX_NS; less than nothing is 0. */
CVB_MUST_CHECK int virt_sum_ps(const struct virt_gpu *g, __int128 ps, uint64_t *ret,
			       struct cvb_err *err);

/* count / per_s in ps, rounded up. */
uint64_t virt_rate_ps(uint64_t count, uint64_t per_s);

struct virt_buf {
	struct virt_content *content; /* DEVICE and MANAGED memory while it is not the host's */
	size_t map_bytes;	      /* of buf->host */
	uint64_t busy;		      /* ps: end of the last work that uses it */
	uint8_t *on_device;	      /* MANAGED: for each VIRT_BLOCK */
};

#define VIRT_BLOCK ((size_t)2 << 20) /* that managed memory migrates by */

static inline struct virt_buf *virt_buf_of(const struct cvb_gpu_buf *buf)
{
	return buf->priv;
}

static inline void virt_buf_use(struct cvb_gpu_buf *buf, uint64_t end)
{
	struct virt_buf *b = virt_buf_of(buf);

	b->busy = end > b->busy ? end : b->busy;
}

/* ---- content (virt_mem.c, virt_node.c) ---- */

/*
 * The bytes of a buffer, as a list of extents that each name a node: a byte that repeats, a
 * pattern, true bytes, or an operation on contents.  Nodes are counted and never change; a content
 * that others hold is copied before it changes.
 */
struct virt_content;

/* All zero. */
struct virt_content *virt_content_new(size_t bytes);
struct virt_content *virt_content_hold(struct virt_content *c);
/* Accepts NULL; returns NULL. */
struct virt_content *virt_content_drop(struct virt_content *c);

/* The bytes, exactly. */
void virt_content_read(const struct virt_content *c, size_t at, size_t bytes, void *out);

/* What the writers below change: *c is replaced by an own copy if others hold it.  -ENOMEM. */
CVB_MUST_CHECK int virt_content_set(struct virt_content **c, size_t at, size_t bytes, int value);
CVB_MUST_CHECK int virt_content_fill(struct virt_content **c, size_t bytes, uint64_t seed);
CVB_MUST_CHECK int virt_content_copy(struct virt_content **dst, size_t dst_at,
				     struct virt_content *src, size_t src_at, size_t bytes);
CVB_MUST_CHECK int virt_content_write(struct virt_content **c, size_t at, const void *p,
				      size_t bytes);
/* From and to host memory of a mapping by virt_map; pages that nobody touched stay so. */
CVB_MUST_CHECK int virt_content_from_host(struct virt_content **c, size_t at, const uint8_t *p,
					  size_t bytes, int pagemap);
void virt_content_to_host(const struct virt_content *c, size_t at, uint8_t *p, size_t bytes);
/* a = x + scalar * y, doubles. */
CVB_MUST_CHECK int virt_content_triad(struct virt_content **a, struct virt_content *x,
				      struct virt_content *y, size_t bytes, double scalar);
CVB_MUST_CHECK int virt_content_gemm(struct virt_content **c, struct virt_content *a,
				     struct virt_content *b, const struct cvb_gpu_gemm *gemm);

/* Words that are not the pattern's. */
uint64_t virt_content_verify(const struct virt_content *c, size_t bytes, uint64_t seed);
/* Sum of the words. */
uint64_t virt_content_sum(struct virt_content *c, size_t bytes);

/* Pages without memory until they are touched; NULL without address space. */
void *virt_map(size_t bytes);

/* ---- numbers of a product (virt_gemm.c) ---- */

struct virt_gemm {
	enum cvb_gpu_type type;
	uint32_t m, n, k;
	double alpha, beta;
	struct virt_content *a, *b, *c; /* c: what it was before; NULL when beta is 0 */
};

/* Elements first … first + count - 1 of the product, each the rounded sum of its k products. */
void virt_gemm_read(const struct virt_gemm *g, size_t first, size_t count, void *out);

/* ---- streams and work ---- */

struct virt_stream {
	uint64_t end; /* ps: of all that was submitted */
	enum virt_last {
		VIRT_NOTHING, /* since the last sync */
		VIRT_COPIED,
		VIRT_LAUNCHED,
	} last;
};

static inline struct virt_stream *virt_stream_of(const struct cvb_gpu_stream *stream)
{
	return stream->priv;
}

/* virt_copy.c */
int virt_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
		    struct cvb_err *err);
int virt_peer_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
			 struct cvb_err *err);
int virt_memset_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst, size_t offset_bytes,
		      int value, size_t bytes, struct cvb_err *err);
/* Time of its bytes while `n` contexts copy in its direction. */
CVB_MUST_CHECK int virt_shared_ps(const struct virt_xfer *x, unsigned n, uint64_t *ret,
				  struct cvb_err *err);
/* Time to move `bytes` to and from device memory, reads and writes counted. */
CVB_MUST_CHECK int virt_memory_ps(const struct virt_gpu *g, uint64_t bytes, uint64_t *ret,
				  struct cvb_err *err);
/* Time of a copy within the device, or a memset, once it has begun; what it does. */
CVB_MUST_CHECK int virt_d2d_ps(const struct virt_gpu *g, size_t bytes, bool is_copy, uint64_t *ret,
			       struct cvb_err *err);
CVB_MUST_CHECK int virt_d2d_do(const struct cvb_gpu_copy *copy, uint64_t *ps, struct cvb_err *err);
CVB_MUST_CHECK int virt_set_do(struct cvb_gpu_buf *dst, size_t at, size_t bytes, int value,
			       uint64_t *ps, struct cvb_err *err);
/* Managed memory becomes the device's; *ps grows by the migration.  Nothing for device memory. */
CVB_MUST_CHECK int virt_to_device(struct cvb_gpu_buf *buf, size_t at, size_t bytes, uint64_t *ps,
				  struct cvb_err *err);
int virt_managed_touch(struct cvb_gpu_buf *buf, size_t offset_bytes, size_t bytes,
		       struct cvb_err *err);

/* virt_work.c */
int virt_stream_new(struct cvb_gpu_stream *stream, struct cvb_err *err);
void virt_stream_free(struct cvb_gpu_stream *stream);
int virt_gemm_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_gemm *gemm,
		    struct cvb_err *err);
int virt_launch_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_launch *launch,
		      struct cvb_err *err);
int virt_graph_launch(struct cvb_gpu_graph *graph, struct cvb_gpu_stream *stream,
		      struct cvb_err *err);
int virt_sync(struct cvb_gpu_stream *stream, struct cvb_err *err);
int virt_event_new(struct cvb_gpu_event *event, struct cvb_err *err);
void virt_event_free(struct cvb_gpu_event *event);
int virt_event_record(struct cvb_gpu_event *event, struct cvb_gpu_stream *stream,
		      struct cvb_err *err);
int virt_event_wait(struct cvb_gpu_stream *stream, struct cvb_gpu_event *event,
		    struct cvb_err *err);
int virt_event_sync(struct cvb_gpu_event *event, struct cvb_err *err);
int virt_event_elapsed_ns(const struct cvb_gpu_event *from, const struct cvb_gpu_event *to,
			  int64_t *ret_ns, struct cvb_err *err);

#endif
