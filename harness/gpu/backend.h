/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a GPU backend implements.  Only backends and shims include this; users include gpu.h.
 *
 * A backend is a file of this folder that ends with a `const struct cvb_gpu_backend` and
 * CVB_GPU_BACKEND(it).  The functions of gpu.h are wrappers that check handles, ranges, kinds and
 * capabilities once and refuse a NULL hook with -EOPNOTSUPP, so that a hook may trust its
 * arguments.
 *
 * Every hook returns 0 or a negative errno and says why in `err`.  The handles are allocated and
 * freed by the core; a hook keeps what it needs in `priv`.  A *_free hook is called exactly once
 * for each handle that its *_new hook made, and the core frees all of a device's graphs,
 * events, streams, buffers and contexts, in this order, before it calls close.
 *
 * A shim (fault, trace) is a backend too: it opens the rest of its spec as an inner device and
 * keeps the inner handles in `priv`.
 */
#ifndef CVB_GPU_BACKEND_H
#define CVB_GPU_BACKEND_H

#include "gpu/gpu.h"
#include "measure/bench.h" /* CVB_SECTION_PTR */

#include <pthread.h>
#include <sys/queue.h>

#define CVB_GPU_BACKEND_ABI 3

struct cvb_gpu_event {
	struct cvb_gpu *gpu;
	void *priv;
	LIST_ENTRY(cvb_gpu_event) link;
};

struct cvb_gpu_context {
	struct cvb_gpu *gpu;
	enum cvb_gpu_context_kind kind;
	bool primary;
	void *priv;
	LIST_ENTRY(cvb_gpu_context) link;
};

struct cvb_gpu_stream {
	struct cvb_gpu *gpu;
	struct cvb_gpu_context *context;
	void *priv;
	struct cvb_gpu_graph *capture; /* being recorded; NULL: none.  Under gpu->lock */
	LIST_ENTRY(cvb_gpu_stream) link;
};

struct cvb_gpu_buf {
	struct cvb_gpu *gpu;
	struct cvb_gpu_context *context;
	enum cvb_gpu_mem kind;
	size_t bytes;
	void *host; /* set by the alloc hook for memory that the host may touch */
	void *priv;
	LIST_ENTRY(cvb_gpu_buf) link;
};

/* A checked copy: ranges fit, bytes > 0, no overlap. */
struct cvb_gpu_copy {
	enum cvb_gpu_dir dir;
	struct cvb_gpu_buf *dst, *src;
	size_t dst_offset_bytes, src_offset_bytes;
	size_t bytes;
};

/* One operation of a graph, checked like any other. */
struct cvb_gpu_op {
	enum cvb_gpu_op_kind {
		CVB_GPU_OP_LAUNCH,
		CVB_GPU_OP_GEMM,
		CVB_GPU_OP_MEMSET,
		CVB_GPU_OP_COPY,
	} kind;
	union {
		struct cvb_gpu_launch launch;
		struct cvb_gpu_gemm gemm;
		struct {
			struct cvb_gpu_buf *dst;
			size_t offset_bytes, bytes;
			int value;
		} set;
		struct cvb_gpu_copy copy;
	};
};

struct cvb_gpu_graph {
	struct cvb_gpu *gpu;
	struct cvb_gpu_context *context;
	struct cvb_gpu_op *ops;
	size_t n, room;
	void *priv; /* the backend's own form of it */
	LIST_ENTRY(cvb_gpu_graph) link;
};

struct cvb_gpu {
	/* an open hook may put another backend of its own in place of the one that was named */
	const struct cvb_gpu_backend *backend;
	char *spec;
	void *priv;

	/* facts, set by the open hook */
	const struct cvb_clock *clock;
	bool emulated;
	bool deterministic;
	struct cvb_gpu_caps caps;

	/* the core's */
	struct cvb_gpu *peer_of; /* the device whose peer this is; NULL: it was opened by itself */
	struct cvb_gpu *peer;	 /* that was opened from it; NULL */
	struct cvb_gpu_context primary;
	pthread_mutex_t lock;		       /* guards the lists */
	LIST_HEAD(, cvb_gpu_context) contexts; /* but the primary one */
	LIST_HEAD(, cvb_gpu_graph) graphs;
	LIST_HEAD(, cvb_gpu_event) events;
	LIST_HEAD(, cvb_gpu_stream) streams;
	LIST_HEAD(, cvb_gpu_buf) bufs;
};

struct cvb_gpu_backend {
	uint32_t abi;	      /* CVB_GPU_BACKEND_ABI */
	uint32_t struct_size; /* sizeof(struct cvb_gpu_backend) */
	const char *name;     /* the spec's first word */

	/* `args` is the spec after "NAME:", NULL when there is no colon. */
	int (*spec_check)(const char *args, struct cvb_err *err);		 /* required */
	int (*open)(struct cvb_gpu *gpu, const char *args, struct cvb_err *err); /* required */
	void (*close)(struct cvb_gpu *gpu);					 /* required */
	int (*describe)(const struct cvb_gpu *gpu, json_t *into); /* adds keys; may be NULL */
	int (*cc_state)(struct cvb_gpu *gpu, struct cvb_gpu_cc *ret, struct cvb_err *err);
	/* fill what it knows; the rest is -1 before.  NULL: it knows nothing */
	void (*health)(struct cvb_gpu *gpu, struct cvb_gpu_health *ret);

	/* also called for the primary context, right after open and right before close */
	int (*context_new)(struct cvb_gpu_context *context, struct cvb_err *err);
	void (*context_free)(struct cvb_gpu_context *context);
	/* NULL: threads */
	int (*parallel)(struct cvb_gpu *gpu, unsigned lanes, cvb_gpu_lane_fn *fn, void *arg,
			struct cvb_err *err);
	void (*host_work)(struct cvb_gpu *gpu, uint64_t ns); /* NULL: spins */
	/* fill `peer`, like open */
	int (*peer_open)(struct cvb_gpu *gpu, struct cvb_gpu *peer, struct cvb_err *err);
	/* copy->dir is D2D, one of the buffers is another device's */
	int (*peer_copy_async)(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
			       struct cvb_err *err);

	int (*alloc)(struct cvb_gpu_buf *buf, struct cvb_err *err);
	void (*free)(struct cvb_gpu_buf *buf);
	/* the host is about to use the buffer's memory, if it has any; NULL: nothing to do */
	void (*host_touch)(const struct cvb_gpu_buf *buf);

	int (*stream_new)(struct cvb_gpu_stream *stream, struct cvb_err *err);
	void (*stream_free)(struct cvb_gpu_stream *stream);
	int (*copy_async)(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
			  struct cvb_err *err);
	int (*memset_async)(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst,
			    size_t offset_bytes, int value, size_t bytes, struct cvb_err *err);
	int (*gemm_async)(struct cvb_gpu_stream *stream, const struct cvb_gpu_gemm *gemm,
			  struct cvb_err *err);
	int (*launch_async)(struct cvb_gpu_stream *stream, const struct cvb_gpu_launch *launch,
			    struct cvb_err *err);
	int (*managed_touch)(struct cvb_gpu_buf *buf, size_t offset_bytes, size_t bytes,
			     struct cvb_err *err);
	int (*graph_new)(struct cvb_gpu_graph *graph, struct cvb_err *err); /* may be NULL */
	/* waits for its launches in flight; NULL: none can be, launches copy what they need */
	void (*graph_free)(struct cvb_gpu_graph *graph);
	int (*graph_launch)(struct cvb_gpu_graph *graph, struct cvb_gpu_stream *stream,
			    struct cvb_err *err);
	int (*sync)(struct cvb_gpu_stream *stream, struct cvb_err *err);

	int (*event_new)(struct cvb_gpu_event *event, struct cvb_err *err);
	void (*event_free)(struct cvb_gpu_event *event);
	int (*event_record)(struct cvb_gpu_event *event, struct cvb_gpu_stream *stream,
			    struct cvb_err *err);
	int (*event_wait)(struct cvb_gpu_stream *stream, struct cvb_gpu_event *event,
			  struct cvb_err *err);
	int (*event_sync)(struct cvb_gpu_event *event, struct cvb_err *err);
	int (*event_elapsed_ns)(const struct cvb_gpu_event *from, const struct cvb_gpu_event *to,
				int64_t *ret_ns, struct cvb_err *err);
};

#define CVB_GPU_BACKEND(b)                                                                         \
	static const struct cvb_gpu_backend *const cvb_gpu_backend_ptr_##b CVB_SECTION_PTR(        \
		"cvb_gpu_backend") = &(b)

#endif
