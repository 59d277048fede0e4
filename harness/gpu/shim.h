/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shims: backends that stand before another device, see its calls, and may change what comes of
 * them.  shim.c hands every call on to the inner device; a shim is a pair of functions around that.
 *
 *   NAME[:KEY=VALUE[,KEY=VALUE…]]:SPEC     the shim's own keys, then the inner device
 *
 * Clock, capabilities, emulated and deterministic are the inner device's.
 */
#ifndef CVB_GPU_SHIM_H
#define CVB_GPU_SHIM_H

#include "gpu/backend.h"

#include <stdatomic.h>

/* What a shim may want to tell apart. */
enum shim_kind {
	SHIM_OTHER, /* only traced */
	SHIM_ALLOC,
	SHIM_CONTEXT,
	SHIM_STREAM,
	SHIM_COPY,
	SHIM_MEMSET,
	SHIM_GEMM,
	SHIM_LAUNCH,
	SHIM_GRAPH, /* graph_launch */
	SHIM_PEER,
	SHIM_TOUCH,
	SHIM_RECORD, /* event_record */
	SHIM_SYNC,
	SHIM_KINDS, /* how many there are */
};

extern const char *const shim_kind_names[SHIM_KINDS];

/* A call in flight.  Handles are the outer device's. */
struct shim_call {
	enum shim_kind kind;
	const char *name;
	struct cvb_gpu_stream *stream; /* NULL: of none */
	struct cvb_gpu_op op;	       /* of COPY to LAUNCH, and PEER (as a copy) */
	struct cvb_gpu_graph *graph;   /* of GRAPH */
	struct cvb_gpu_buf *buf;       /* of TOUCH, with offset and bytes */
	size_t offset_bytes, bytes;
	char args[200]; /* as text */

	/* the shim's own */
	uint64_t start_ns;
	uint64_t number; /* of a call that is to be corrupted */
};

struct shim;

struct shim_ops {
	/* `keys` is what the spec has for the shim, NULL for nothing */
	int (*check)(const char *keys, struct cvb_err *err);
	int (*open)(struct shim *s, const char *keys, struct cvb_err *err);
	void (*close)(struct shim *s);
	int (*describe)(const struct shim *s, json_t *into); /* its keys; may be NULL */
	/* Before the inner call; a negative errno, and there is none.  May change call->op. */
	int (*begin)(struct shim *s, struct shim_call *call, struct cvb_err *err);
	/* After it, with its result; returns the call's result. */
	int (*end)(struct shim *s, struct shim_call *call, int r, struct cvb_err *err);
};

struct shim {
	const struct shim_ops *ops;
	struct cvb_gpu *inner;
	struct shim *of;  /* a peer's: the shim that opened it, whose priv it shares */
	atomic_uint *ids; /* handles made so far; of the first shim */
	atomic_uint own_ids;
	void *priv;
};

/* priv of every outer handle. */
struct shim_handle {
	unsigned id;
	void *inner;
};

static inline struct shim *shim_of(const struct cvb_gpu *gpu)
{
	return gpu->priv;
}

/* The inner handle of an outer one, NULL of NULL. */
#define SHIM_INNER(outer) ((outer) ? ((struct shim_handle *)(outer)->priv)->inner : NULL)
/* Its number in a trace, 0 of NULL. */
#define SHIM_ID(outer) ((outer) ? ((struct shim_handle *)(outer)->priv)->id : 0)

/* The hooks, for a backend's table. */
int shim_spec_check(const struct shim_ops *ops, const char *args, struct cvb_err *err);
int shim_open(const struct shim_ops *ops, struct cvb_gpu *gpu, const char *args,
	      struct cvb_err *err);

/* What all shims have in common; the backend adds abi, name, spec_check and open. */
#define SHIM_HOOKS                                                                                 \
	.close = shim_close, .describe = shim_describe, .cc_state = shim_cc_state,                 \
	.health = shim_health, .context_new = shim_context_new, .context_free = shim_context_free, \
	.parallel = shim_parallel, .host_work = shim_host_work, .peer_open = shim_peer_open,       \
	.peer_copy_async = shim_peer_copy_async, .alloc = shim_alloc, .free = shim_free,           \
	.host_touch = shim_host_touch, .stream_new = shim_stream_new,                              \
	.stream_free = shim_stream_free, .copy_async = shim_copy_async,                            \
	.memset_async = shim_memset_async, .gemm_async = shim_gemm_async,                          \
	.launch_async = shim_launch_async, .managed_touch = shim_managed_touch,                    \
	.graph_new = shim_graph_new, .graph_free = shim_graph_free,                                \
	.graph_launch = shim_graph_launch, .sync = shim_sync, .event_new = shim_event_new,         \
	.event_free = shim_event_free, .event_record = shim_event_record,                          \
	.event_wait = shim_event_wait, .event_sync = shim_event_sync,                              \
	.event_elapsed_ns = shim_event_elapsed_ns

void shim_close(struct cvb_gpu *gpu);
int shim_describe(const struct cvb_gpu *gpu, json_t *into);
int shim_cc_state(struct cvb_gpu *gpu, struct cvb_gpu_cc *ret, struct cvb_err *err);
void shim_health(struct cvb_gpu *gpu, struct cvb_gpu_health *ret);
int shim_context_new(struct cvb_gpu_context *context, struct cvb_err *err);
void shim_context_free(struct cvb_gpu_context *context);
int shim_parallel(struct cvb_gpu *gpu, unsigned lanes, cvb_gpu_lane_fn *fn, void *arg,
		  struct cvb_err *err);
void shim_host_work(struct cvb_gpu *gpu, uint64_t ns);
int shim_peer_open(struct cvb_gpu *gpu, struct cvb_gpu *peer, struct cvb_err *err);
int shim_peer_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
			 struct cvb_err *err);
int shim_alloc(struct cvb_gpu_buf *buf, struct cvb_err *err);
void shim_free(struct cvb_gpu_buf *buf);
void shim_host_touch(const struct cvb_gpu_buf *buf);
int shim_stream_new(struct cvb_gpu_stream *stream, struct cvb_err *err);
void shim_stream_free(struct cvb_gpu_stream *stream);
int shim_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
		    struct cvb_err *err);
int shim_memset_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst, size_t offset_bytes,
		      int value, size_t bytes, struct cvb_err *err);
int shim_gemm_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_gemm *gemm,
		    struct cvb_err *err);
int shim_launch_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_launch *launch,
		      struct cvb_err *err);
int shim_managed_touch(struct cvb_gpu_buf *buf, size_t offset_bytes, size_t bytes,
		       struct cvb_err *err);
int shim_graph_new(struct cvb_gpu_graph *graph, struct cvb_err *err);
void shim_graph_free(struct cvb_gpu_graph *graph);
int shim_graph_launch(struct cvb_gpu_graph *graph, struct cvb_gpu_stream *stream,
		      struct cvb_err *err);
int shim_sync(struct cvb_gpu_stream *stream, struct cvb_err *err);
int shim_event_new(struct cvb_gpu_event *event, struct cvb_err *err);
void shim_event_free(struct cvb_gpu_event *event);
int shim_event_record(struct cvb_gpu_event *event, struct cvb_gpu_stream *stream,
		      struct cvb_err *err);
int shim_event_wait(struct cvb_gpu_stream *stream, struct cvb_gpu_event *event,
		    struct cvb_err *err);
int shim_event_sync(struct cvb_gpu_event *event, struct cvb_err *err);
int shim_event_elapsed_ns(const struct cvb_gpu_event *from, const struct cvb_gpu_event *to,
			  int64_t *ret_ns, struct cvb_err *err);

/* For tests: the device behind all shims. */
struct cvb_gpu *shim_innermost(struct cvb_gpu *gpu);

#endif
