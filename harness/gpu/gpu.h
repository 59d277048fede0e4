/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GPUs: one interface for real and emulated ones.
 *
 * Levels: a backend ("emu", "cuda") opens a device, a device has contexts, a context has buffers
 * and streams, a stream is a FIFO of work.  A device begins with its primary context, which is
 * meant wherever none is named.  A device is chosen by a spec text and by nothing else: what was
 * asked for and is not there is -EOPNOTSUPP, and no other device takes its place.
 *
 *   emu:SKU[,cc=on|off][,clock=wall|virtual]   the emulator, labelled as SKU; cc=off, clock=wall
 *     clock=virtual also takes noise=PERCENT and seed=N; its times come from the SKU's model
 *   cuda[:N]                                   CUDA device number N, 0 by default
 *
 * Invariants
 *   - A handle belongs to the device that made it; mixing devices is -EINVAL, but for copies
 * between peers and for waiting for a peer's event.
 *   - Work of one stream runs in the order of its submission.  Work of two streams is ordered only
 *     by events.
 *   - "async" means that a call MAY return before the work is done.  It need not: a confidential
 *     GPU's copies, and any GPU's pageable copies, block their caller until they are done.  The
 *     buffers must stay as they are until cvb_gpu_sync, whatever the device.
 *   - Time is the device's own (cvb_gpu_clock).  Whoever times device work uses that clock.
 *
 * Errors.  Every int is 0 or a negative errno, with the reason in `err` (which may be NULL):
 *   -EINVAL      a missing or foreign handle, a range outside its buffer, a bad word in a spec
 *   -EOPNOTSUPP  this backend, build or machine cannot do that; the message names what is missing
 *   -ENOMEM      no memory
 *   -EBADMSG     encrypted data came out changed ("tag check failed")
 *   -EIO         the device or a library failed
 * An error of work that runs later is kept by its stream and comes from the next cvb_gpu_sync of
 * that stream, once; the first one wins.  A copy that blocks reports its own error at once.
 *
 * Threading: any function may be called from any thread, also for one device or stream at a time,
 * except that nothing may be in use elsewhere while it is freed.
 */
#ifndef CVB_GPU_GPU_H
#define CVB_GPU_GPU_H

#include "core/clock.h"
#include "core/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cvb_gpu;
struct cvb_gpu_context;
struct cvb_gpu_graph;
struct cvb_gpu_buf;
struct cvb_gpu_stream;
struct cvb_gpu_event;

/* Where a buffer lies and who may touch it. */
enum cvb_gpu_mem {
	CVB_GPU_DEVICE,	       /* device memory: no host address */
	CVB_GPU_HOST_PAGEABLE, /* ordinary host memory: copies go through a staging buffer */
	CVB_GPU_HOST_PINNED,   /* host memory that the device's copy engines reach by themselves */
	CVB_GPU_MANAGED,       /* migrates between host and device on access */
};

enum cvb_gpu_dir {
	CVB_GPU_H2D,
	CVB_GPU_D2H,
	CVB_GPU_D2D,
};

enum cvb_gpu_type {
	CVB_GPU_FP64,
	CVB_GPU_FP32,
	CVB_GPU_TF32,
	CVB_GPU_BF16,
	CVB_GPU_FP16,
	CVB_GPU_FP8,
	CVB_GPU_INT8,
	CVB_GPU_TYPES, /* how many there are */
};

/* What a device can do.  A call whose bit is missing returns -EOPNOTSUPP. */
enum cvb_gpu_cap {
	CVB_GPU_CAP_ASYNC_COPY = 1 << 0, /* pinned copies return before they are done */
	CVB_GPU_CAP_EVENTS = 1 << 1,
	CVB_GPU_CAP_PINNED = 1 << 2,
	CVB_GPU_CAP_MANAGED = 1 << 3,
	CVB_GPU_CAP_LAUNCH = 1 << 4,
	CVB_GPU_CAP_GRAPHS = 1 << 5,
	CVB_GPU_CAP_CONTEXTS = 1 << 6,	/* more than the primary one */
	CVB_GPU_CAP_PROCESSES = 1 << 7, /* CVB_GPU_CONTEXT_PROCESS */
	CVB_GPU_CAP_PEER = 1 << 8,
};

/* Three values, so that "the driver did not say" is never read as "off". */
enum cvb_gpu_tri {
	CVB_GPU_UNKNOWN,
	CVB_GPU_OFF,
	CVB_GPU_ON,
};

struct cvb_gpu_caps {
	uint32_t flags;		/* enum cvb_gpu_cap */
	uint32_t gemm_types;	/* bit i set: cvb_gpu_gemm_async takes enum cvb_gpu_type i */
	unsigned context_limit; /* contexts at a time, the primary one included; 0: unknown */
	/* what programs stumble over where it is off */
	enum cvb_gpu_tri host_register;	 /* existing host memory can be pinned */
	enum cvb_gpu_tri gpudirect_rdma; /* other devices reach its memory */
	enum cvb_gpu_tri multicast;	 /* NVLink multicast for collectives */
	enum cvb_gpu_tri trusted_events; /* event times may be believed */
};

/* State of confidential computing. */
struct cvb_gpu_cc {
	enum cvb_gpu_tri feature;    /* confidential mode */
	enum cvb_gpu_tri production; /* keys and firmware of a production environment */
	enum cvb_gpu_tri devtools;   /* debugging allowed: not confidential */
	enum cvb_gpu_tri multi_gpu;  /* protected PCIe or multi-GPU passthrough */
	enum cvb_gpu_tri ready;	     /* the GPUs accept work */
	uint64_t protected_bytes;    /* 0: unknown */
	uint64_t unprotected_bytes;  /* 0: unknown */
	const char *source;	     /* who says so: "emulator", "nvml"; static text */
};

/*
 * C = alpha A B + beta C.  All three are row-major and dense in DEVICE buffers, from their first
 * byte: A has m rows of k elements, B k rows of n, C m rows of n.
 */
struct cvb_gpu_gemm {
	enum cvb_gpu_type type;
	uint32_t m, n, k;
	double alpha, beta;
	struct cvb_gpu_buf *a, *b, *c;
};

/*
 * The kernels that every backend brings.  `bytes` is the length of a (and of b and c where they are
 * used), a multiple of 8; the buffers are DEVICE or MANAGED and used from their first byte.
 */
enum cvb_gpu_kernel {
	CVB_GPU_KERNEL_EMPTY,  /* nothing */
	CVB_GPU_KERNEL_SPIN,   /* keeps the device busy for `ns` */
	CVB_GPU_KERNEL_FILL,   /* a[i] = cvb_gpu_pattern(seed, i), 64-bit words */
	CVB_GPU_KERNEL_VERIFY, /* b[0] = number of a's words that differ from that pattern */
	CVB_GPU_KERNEL_READ,   /* b[0] = sum of a's words, modulo 2^64 */
	CVB_GPU_KERNEL_COPY,   /* a = b */
	CVB_GPU_KERNEL_TRIAD,  /* a = b + scalar * c, doubles, product and sum each rounded */
	CVB_GPU_KERNEL_ADD,    /* a += b, doubles */
	CVB_GPU_KERNELS,       /* how many there are */
};

struct cvb_gpu_launch {
	enum cvb_gpu_kernel kernel;
	struct cvb_gpu_buf *a, *b, *c;
	size_t bytes;
	uint64_t seed, ns;
	double scalar;
};

/* Word i of the pattern of a seed (splitmix64). */
static inline uint64_t cvb_gpu_pattern(uint64_t seed, uint64_t i)
{
	uint64_t z = seed + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* ---- spec and registry ---- */

/*
 * Is the spec well formed?  Opens nothing, so that 0 does not promise that the device is there.
 * -EINVAL names the wrong word and what would be right.
 */
CVB_MUST_CHECK int cvb_gpu_spec_check(const char *spec, struct cvb_err *err);

/* The models of GPUs: [{"name","gpu","tee",…,"parameters":[{"name","unit","off","on"}]},…], and
 * [{"name","error"}] for one with a mistake.  Caller owns it; NULL without memory. */
json_t *cvb_gpu_list_skus(void);

/* ---- device ---- */

/*
 * Open a device.  On success the caller owns *ret and ends it by cvb_gpu_close; on failure *ret is
 * untouched.  -EINVAL for the spec, -EOPNOTSUPP for what is not here, -ENOMEM, -EIO.
 */
CVB_MUST_CHECK int cvb_gpu_open(const char *spec, struct cvb_gpu **ret, struct cvb_err *err);

/*
 * Wait for all work in flight, then free the device with every stream, event and buffer that it
 * still has: their handles are dead afterwards.  Accepts NULL; returns NULL.
 */
struct cvb_gpu *cvb_gpu_close(struct cvb_gpu *gpu);

/* The clock to time with; belongs to the device. */
const struct cvb_clock *cvb_gpu_clock(const struct cvb_gpu *gpu);

/* True when no GPU hardware does the work; goes with every number. */
bool cvb_gpu_is_emulated(const struct cvb_gpu *gpu);

/* True when two runs give the same times (a virtual clock). */
bool cvb_gpu_is_deterministic(const struct cvb_gpu *gpu);

/* The spec that opened it; belongs to the device. */
const char *cvb_gpu_spec(const struct cvb_gpu *gpu);

const struct cvb_gpu_caps *cvb_gpu_caps(const struct cvb_gpu *gpu);

/* Read the confidential state into *ret. */
CVB_MUST_CHECK int cvb_gpu_cc_state(struct cvb_gpu *gpu, struct cvb_gpu_cc *ret,
				    struct cvb_err *err);

/* "unknown", "off", "on". */
const char *cvb_gpu_tri_text(enum cvb_gpu_tri t);
/* "h2d", "d2h", "d2d". */
const char *cvb_gpu_dir_text(enum cvb_gpu_dir dir);
/* "device", "pageable", "pinned", "managed". */
const char *cvb_gpu_mem_text(enum cvb_gpu_mem kind);
/* "fp64", "fp32", …  */
const char *cvb_gpu_type_text(enum cvb_gpu_type type);
/* Size of one element; 0 for no type. */
size_t cvb_gpu_type_bytes(enum cvb_gpu_type type);

/*
 * For the environment record: {"spec","backend","emulated","deterministic","clock","cc":{…},
 * "caps":{…}} and the backend's own keys (SKU, library versions, staging sizes).  Caller owns it;
 * NULL without memory.
 */
json_t *cvb_gpu_describe(const struct cvb_gpu *gpu);

/* ---- what disturbs it ---- */

/* Why a device's clocks are lower than they could be. */
enum cvb_gpu_slow {
	CVB_GPU_SLOW_POWER = 1 << 0,	/* its power limit: usual under full load */
	CVB_GPU_SLOW_HEAT = 1 << 1,	/* thermal slowdown, by software or hardware */
	CVB_GPU_SLOW_HARDWARE = 1 << 2, /* hardware slowdown for any cause; power brake */
};

/* Those that make a sample a throttled one.  At its power limit a GPU does what it does in use. */
#define CVB_GPU_THROTTLES (CVB_GPU_SLOW_HEAT | CVB_GPU_SLOW_HARDWARE)

/* A reading; -1: not known. */
struct cvb_gpu_health {
	int64_t sm_clock_mhz, memory_clock_mhz, power_mw, temperature_c;
	int64_t slow;		   /* enum cvb_gpu_slow of the moment */
	int64_t heat_ns, power_ns; /* counters: how long clocks were low for this so far */
};

/* Read it; all unknown where the backend cannot say, or `gpu` is NULL. */
void cvb_gpu_health_read(struct cvb_gpu *gpu, struct cvb_gpu_health *ret);

/*
 * What two readings around a piece of work say: {"sm_clock_mhz":[before, after],
 * "memory_clock_mhz","power_mw","temperature_c" likewise,"heat_ns","power_ns" (between the two),
 * "slow":["power","heat","hardware"],"throttled":bool} with what is known, JSON null where nothing
 * is.  `slow` has a reason that either reading gave or whose counter moved.  Caller owns it; NULL
 * without memory.
 */
json_t *cvb_gpu_health_json(const struct cvb_gpu_health *before,
			    const struct cvb_gpu_health *after);

/* "power", "heat", "hardware" for bit 0, 1, 2; NULL beyond. */
const char *cvb_gpu_slow_text(unsigned bit);

/* ---- contexts and host threads ---- */

enum cvb_gpu_context_kind {
	CVB_GPU_CONTEXT_THREAD,	 /* one more context of this process */
	CVB_GPU_CONTEXT_PROCESS, /* as if a process of its own had it */
};

/*
 * Make another context.  -EOPNOTSUPP without the capability, -ENOSPC beyond the device's limit (the
 * message names it).
 */
CVB_MUST_CHECK int cvb_gpu_context_new(struct cvb_gpu *gpu, enum cvb_gpu_context_kind kind,
				       struct cvb_gpu_context **ret, struct cvb_err *err);

/* Free it with its streams and buffers: their handles are dead afterwards.  Accepts NULL. */
struct cvb_gpu_context *cvb_gpu_context_free(struct cvb_gpu_context *context);

/* As cvb_gpu_alloc and cvb_gpu_stream_new, in a context; work of a stream may use the buffers of
 * its own context only (-EINVAL). */
CVB_MUST_CHECK int cvb_gpu_alloc_in(struct cvb_gpu_context *context, enum cvb_gpu_mem kind,
				    size_t bytes, struct cvb_gpu_buf **ret, struct cvb_err *err);
CVB_MUST_CHECK int cvb_gpu_stream_new_in(struct cvb_gpu_context *context,
					 struct cvb_gpu_stream **ret, struct cvb_err *err);

/*
 * Run fn(arg, 0) … fn(arg, lanes - 1) as so many host threads at the same time, and wait for all.
 * The first failure by lane number is returned, with its reason.  On a virtual clock each lane has
 * its own time, and the lanes take turns by it: the same lanes give the same times.  Inside, only
 * functions of this file may wait for another lane.  Not to be nested.
 */
typedef int cvb_gpu_lane_fn(void *arg, unsigned lane, struct cvb_err *err);
CVB_MUST_CHECK int cvb_gpu_parallel(struct cvb_gpu *gpu, unsigned lanes, cvb_gpu_lane_fn *fn,
				    void *arg, struct cvb_err *err);

/* The calling host thread works for `ns` on something else (a tokenizer, a scheduler). */
void cvb_gpu_host_work(struct cvb_gpu *gpu, uint64_t ns);

/* ---- peers ---- */

/*
 * Open another device that this one exchanges data with.  It is closed before the first one.
 * -EOPNOTSUPP where there is none.
 */
CVB_MUST_CHECK int cvb_gpu_peer_open(struct cvb_gpu *gpu, struct cvb_gpu **ret,
				     struct cvb_err *err);

/* Copy between DEVICE buffers of two devices, one the stream's and one its peer's. */
CVB_MUST_CHECK int cvb_gpu_peer_copy_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst,
					   size_t dst_offset_bytes, struct cvb_gpu_buf *src,
					   size_t src_offset_bytes, size_t bytes,
					   struct cvb_err *err);

/* ---- buffers ---- */

/*
 * Allocate `bytes` (> 0) of memory.  DEVICE and PINNED memory is populated; the content is
 * undefined.  Freed by cvb_gpu_free.  -ENOMEM, -EOPNOTSUPP for a kind that the device lacks.
 */
CVB_MUST_CHECK int cvb_gpu_alloc(struct cvb_gpu *gpu, enum cvb_gpu_mem kind, size_t bytes,
				 struct cvb_gpu_buf **ret, struct cvb_err *err);

/* Wait for the work in flight that uses it, then free.  Accepts NULL; returns NULL. */
struct cvb_gpu_buf *cvb_gpu_free(struct cvb_gpu_buf *buf);

/*
 * The host address, NULL for DEVICE memory.  Host memory of a context with a process of its own may
 * be a copy of what that process has, brought up to date by this call: ask anew after each wait for
 * work that uses the buffer.
 */
void *cvb_gpu_buf_host(const struct cvb_gpu_buf *buf);
size_t cvb_gpu_buf_bytes(const struct cvb_gpu_buf *buf);
enum cvb_gpu_mem cvb_gpu_buf_mem(const struct cvb_gpu_buf *buf);

/*
 * Touch each page of a range of MANAGED memory from the host, so that it migrates here: what a
 * program's own access does.  Waits for the work in flight that uses the buffer.
 */
CVB_MUST_CHECK int cvb_gpu_managed_touch(struct cvb_gpu_buf *buf, size_t offset_bytes, size_t bytes,
					 struct cvb_err *err);

/* ---- streams ---- */

CVB_MUST_CHECK int cvb_gpu_stream_new(struct cvb_gpu *gpu, struct cvb_gpu_stream **ret,
				      struct cvb_err *err);

/* Wait for its work, then free; an error that no sync has fetched is dropped.  Accepts NULL. */
struct cvb_gpu_stream *cvb_gpu_stream_free(struct cvb_gpu_stream *stream);

/*
 * Copy `bytes` from src to dst; the direction follows from where the two lie, host to host is
 * -EINVAL, and so is an overlap.  0 bytes is a copy that does nothing.
 */
CVB_MUST_CHECK int cvb_gpu_copy_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst,
				      size_t dst_offset_bytes, struct cvb_gpu_buf *src,
				      size_t src_offset_bytes, size_t bytes, struct cvb_err *err);

/* Set `bytes` of a DEVICE buffer to the byte `value`. */
CVB_MUST_CHECK int cvb_gpu_memset_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst,
					size_t offset_bytes, int value, size_t bytes,
					struct cvb_err *err);

/* Matrix product; see struct cvb_gpu_gemm.  C must be another buffer than A and B. */
CVB_MUST_CHECK int cvb_gpu_gemm_async(struct cvb_gpu_stream *stream,
				      const struct cvb_gpu_gemm *gemm, struct cvb_err *err);

/* Run a kernel.  MANAGED buffers that it uses migrate to the device first. */
CVB_MUST_CHECK int cvb_gpu_launch_async(struct cvb_gpu_stream *stream,
					const struct cvb_gpu_launch *launch, struct cvb_err *err);

/* ---- graphs ---- */

/*
 * Between begin and end what is submitted to the stream is not run but recorded: launches, gemm,
 * memset, copies within the device.  Anything else on that stream is -EINVAL meanwhile.  The
 * buffers must live as long as the graph.
 */
CVB_MUST_CHECK int cvb_gpu_capture_begin(struct cvb_gpu_stream *stream, struct cvb_err *err);
CVB_MUST_CHECK int cvb_gpu_capture_end(struct cvb_gpu_stream *stream, struct cvb_gpu_graph **ret,
				       struct cvb_err *err);

/* Submit all that the graph holds as one piece of work.  -EINVAL for another context's stream. */
CVB_MUST_CHECK int cvb_gpu_graph_launch(struct cvb_gpu_graph *graph, struct cvb_gpu_stream *stream,
					struct cvb_err *err);

/* Operations in the graph. */
size_t cvb_gpu_graph_size(const struct cvb_gpu_graph *graph);

/* Waits for its launches in flight; an error of theirs stays with their stream.  Accepts NULL;
 * returns NULL. */
struct cvb_gpu_graph *cvb_gpu_graph_free(struct cvb_gpu_graph *graph);

/* ---- waiting ---- */

/*
 * Wait until all that was submitted to the stream before is done.  Returns, and forgets, the first
 * error that this work had.
 */
CVB_MUST_CHECK int cvb_gpu_sync(struct cvb_gpu_stream *stream, struct cvb_err *err);

/* ---- events ---- */

CVB_MUST_CHECK int cvb_gpu_event_new(struct cvb_gpu *gpu, struct cvb_gpu_event **ret,
				     struct cvb_err *err);

/* Work that still waits for it or records it goes on undisturbed.  Accepts NULL; returns NULL. */
struct cvb_gpu_event *cvb_gpu_event_free(struct cvb_gpu_event *event);

/*
 * Mark the point in the stream where all submitted before is done.  May be recorded again: the last
 * one counts.  -EBUSY while an earlier record is pending on another stream.
 */
CVB_MUST_CHECK int cvb_gpu_event_record(struct cvb_gpu_event *event, struct cvb_gpu_stream *stream,
					struct cvb_err *err);

/*
 * What is submitted to `stream` from now on runs only after the event's last record so far.  The
 * event may be the peer's: so work of two devices is ordered.  Nothing to wait for if it was never
 * recorded.  Does not block the caller.
 */
CVB_MUST_CHECK int cvb_gpu_event_wait(struct cvb_gpu_stream *stream, struct cvb_gpu_event *event,
				      struct cvb_err *err);

/* Block the caller until the event's last record is done.  -EINVAL if never recorded. */
CVB_MUST_CHECK int cvb_gpu_event_sync(struct cvb_gpu_event *event, struct cvb_err *err);

/*
 * Device time from `from` to `to` in ns, negative if `to` came first.  -EINVAL if one was never
 * recorded, -EAGAIN if one's last record is still pending.
 */
CVB_MUST_CHECK int cvb_gpu_event_elapsed_ns(const struct cvb_gpu_event *from,
					    const struct cvb_gpu_event *to, int64_t *ret_ns,
					    struct cvb_err *err);

#endif
