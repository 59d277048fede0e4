/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulated GPU, from inside.  Included by its own files and by its tests.
 *
 * What is emulated, and nothing else (docs/gpu-confidential.md tells it to users):
 *
 *   context      a pair of copy engines with keys of their own (emu_engine.c): copies of one
 *                direction in one context run one after the other, those of two contexts at once
 *   stream       a worker thread that runs a FIFO of tasks (emu_stream.c).  With cc=on each task
 *                crosses to it sealed, in shared memory, and is run from what was opened there
 *   copy engine  one for each direction: a thread, a ring of slots and a lock
 *   pinned copy  cc=off: the stream's thread takes the engine and copies, one memcpy
 *   staged copy  pageable memory, or any with cc=on: the calling thread and the copy engine work on
 *                the two ends of the ring, chunk by chunk; the call blocks
 *   the ring     cc=off: pinned staging memory, plain chunks.  cc=on: a bounce buffer in shared
 *                memory that holds AES-256-GCM ciphertext and tags only.  The caller encrypts into
 *                private memory and then copies the ciphertext into the slot, or copies it out of
 *                the slot and then decrypts: one after the other, as a confidential GPU's driver
 *                does; the engine does its side at the same time
 *   kernels      loops over real memory on the stream's thread (emu_kernel.c)
 *   gemm         OpenBLAS on all CPUs (emu_blas.c), one product at a time; formats that it lacks
 *                are widened and the result is rounded (emu_types.c)
 *   pinned pool  half of this machine's memory at most, for all contexts of a device together
 *   managed      memory on both sides and a state for each page of 4 KiB (emu_managed.c)
 *   peer         a second device of this process; cc=on: its link is encrypted (emu_peer.c)
 *
 * Nothing here sleeps to look slow: times are those of the work on this machine.  The one thing
 * that takes the time it is told to is the kernel made for that, CVB_GPU_KERNEL_SPIN.
 */
#ifndef CVB_GPU_EMU_H
#define CVB_GPU_EMU_H

#include "gpu/backend.h"
#include "measure/memory.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

/*
 * Together 16 MiB, much more than a core's own cache, so that the copy into or out of the shared
 * slots runs at about the rate of a large memcpy.  It would be several times as fast in a ring that
 * stays in the cache, which the staging memory of a driver (64 MiB and more) does not.  Smaller
 * chunks pay more for their IV and tag, larger ones fill the pipeline later.
 */
#define EMU_CHUNK_BYTES ((size_t)256 * 1024)
#define EMU_SLOTS	64
#define EMU_PAGE_BYTES	((size_t)4096) /* of managed memory: each is a message of its own */
#define EMU_SLOT_TAGS	(EMU_CHUNK_BYTES / EMU_PAGE_BYTES)
#define EMU_TASKS	1024 /* a stream's queue; a full one blocks its submitter */
/*
 * Contexts of a device at a time, the primary one included: the limit that NVIDIA's R550 release
 * notes state for confidential mode.  With cc=off too, so that both arms of a comparison go equally
 * far.  Each holds two rings.
 */
#define EMU_CONTEXTS 18
/* What a submission seals: as long as the arguments and the descriptor of a launch. */
#define EMU_DESCRIPTOR_BYTES 480
#define EMU_TAG_BYTES	     16
#define EMU_KEY_BYTES	     32
#define EMU_IV_BYTES	     12

/* ---- waiting ---- */

/*
 * A condition to wait for: spins for part of a millisecond, because the other side usually answers
 * within one chunk, then sleeps.  The state itself lives in atomics that `ready` looks at; whoever
 * changes them calls emu_wake afterwards.
 */
struct emu_signal {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	atomic_uint sleepers;
};

void emu_signal_init(struct emu_signal *s);
void emu_signal_done(struct emu_signal *s);
void emu_wake(struct emu_signal *s);
void emu_wait(struct emu_signal *s, bool (*ready)(void *arg), void *arg);

/* Start a thread that may run on every CPU of `cpus`, wherever its creator is pinned. */
CVB_MUST_CHECK int emu_thread_start(pthread_t *ret, const cpu_set_t *cpus, void *(*run)(void *),
				    void *arg, struct cvb_err *err);

/* ---- AES-256-GCM of one direction ---- */

/* One key, used from both ends; the IV of a chunk is its number, never used twice. */
struct emu_crypt;

CVB_MUST_CHECK int emu_crypt_new(struct emu_crypt **ret, struct cvb_err *err);
struct emu_crypt *emu_crypt_free(struct emu_crypt *c);

/*
 * Encrypt and sign chunk `number` / check and decrypt it.  One thread may seal while another opens.
 * -EIO when OpenSSL fails; emu_open also -EBADMSG, and `dst` is then zeroed.
 */
CVB_MUST_CHECK int emu_seal(struct emu_crypt *c, uint64_t number, uint8_t *dst, uint8_t *tag,
			    const uint8_t *src, size_t bytes);
CVB_MUST_CHECK int emu_open(struct emu_crypt *c, uint64_t number, uint8_t *dst, const uint8_t *tag,
			    const uint8_t *src, size_t bytes);

/* ---- copy engine ---- */

/* A slot of the ring, in memory that the host may read and change at any time. */
struct emu_slot {
	uint8_t data[EMU_CHUNK_BYTES];
	uint8_t tag[EMU_SLOT_TAGS][EMU_TAG_BYTES]; /* of each message; most copies use one */
	uint8_t pad[4096 - EMU_SLOT_TAGS * EMU_TAG_BYTES]; /* keeps data page-aligned */
};

/* A submission, in memory that the host may read and change at any time. */
struct emu_descriptor {
	uint8_t data[EMU_DESCRIPTOR_BYTES];
	uint8_t tag[EMU_TAG_BYTES];
	uint8_t pad[512 - EMU_DESCRIPTOR_BYTES - EMU_TAG_BYTES];
};

/*
 * Tests look into the bounce buffer through this: called by the sealing thread when a chunk lies
 * encrypted in its slot and before the other side may take it.
 */
struct emu_probe {
	void (*sealed)(void *arg, enum cvb_gpu_dir dir, struct emu_slot *slot, size_t bytes);
	/* the same for a task that is being submitted; `plain` is what was sealed */
	void (*submitted)(void *arg, struct emu_descriptor *descriptor, const uint8_t *plain);
	void *arg;
};

/* What is being moved through the ring, by two threads. */
struct emu_job {
	uint8_t *device, *host;
	size_t bytes, chunks;
	size_t message_bytes; /* of what is sealed at once: a chunk or less */
	bool encrypted;
	uint64_t first_number; /* of its messages */
};

struct emu_engine {
	enum cvb_gpu_dir dir;
	const char *what;     /* "h2d", "d2h", "peer": for messages */
	pthread_mutex_t busy; /* held during a whole copy */
	struct emu_signal signal;
	pthread_t thread;
	bool started;
	cpu_set_t cpus; /* that the thread may run on */
	int kept_off;	/* of these, the one it leaves to the caller; -1 for none */

	struct emu_slot *ring;	 /* EMU_SLOTS of it, private memory */
	struct emu_slot *bounce; /* the same in shared memory; only with cc=on */
	struct emu_slot *stage;	 /* the caller's ciphertext, private; NULL: none is used */
	struct emu_crypt *crypt; /* only with cc=on */
	const struct emu_probe *probe;
	uint64_t next_number;
	struct emu_job job;

	/* the sides write these; apart, so that one's progress does not slow the other's */
	_Alignas(64) atomic_size_t produced;
	_Alignas(64) atomic_size_t consumed;
	_Alignas(64) atomic_int failed; /* first negative errno of this job */
	atomic_size_t failed_chunk;
	atomic_uint submitted, finished; /* jobs */
	atomic_bool quit;
};

/* `dir` D2D is a link between devices: nobody stages, and host means the sending device. */
CVB_MUST_CHECK int emu_engine_init(struct emu_engine *e, enum cvb_gpu_dir dir, bool cc,
				   const cpu_set_t *cpus, const struct emu_probe *probe,
				   struct cvb_err *err);
void emu_engine_done(struct emu_engine *e);

/*
 * Move through the ring; the calling thread does the host's side and returns when all is done.
 * `message_bytes` divides EMU_CHUNK_BYTES: how much is sealed under one IV and tag.
 */
CVB_MUST_CHECK int emu_engine_staged(struct emu_engine *e, uint8_t *device, uint8_t *host,
				     size_t bytes, size_t message_bytes, struct cvb_err *err);

/* ---- device, context, buffer ---- */

struct emu_context {
	struct emu_engine engine[2]; /* CVB_GPU_H2D, CVB_GPU_D2H */
};

struct emu_device {
	const char *sku;
	bool cc;
	cpu_set_t cpus;		       /* where its threads may run */
	struct emu_signal signal;      /* a buffer's last use ended */
	pthread_mutex_t compute;       /* one gemm at a time */
	struct cvb_mem scratch;	       /* its widened matrices */
	uint64_t pinned_limit_bytes;   /* of the pool of pinned memory */
	_Atomic uint64_t pinned_bytes; /* of it in use */
	struct emu_engine *link; /* to its peer, only with cc=on; of the device that opened it */
	atomic_uint peer_copies; /* in flight that use its buffers */
	struct emu_probe probe;
};

/* Where a page of managed memory is: in one place, never in two. */
enum emu_place {
	EMU_ON_HOST,
	EMU_ON_DEVICE,
};

struct emu_buf {
	struct cvb_mem mem;    /* what its host address or, without one, the device sees */
	struct cvb_mem device; /* MANAGED: the device's own memory for it */
	uint8_t *place;	       /* MANAGED: enum emu_place of each page */
	pthread_mutex_t lock;  /* MANAGED: guards place */
	atomic_uint uses;      /* tasks in flight */
};

static inline struct emu_device *emu_device_of(const struct cvb_gpu *gpu)
{
	return gpu->priv;
}

static inline struct emu_buf *emu_buf_of(const struct cvb_gpu_buf *buf)
{
	return buf->priv;
}

/* Where work on the device finds it. */
static inline uint8_t *emu_buf_ptr(const struct cvb_gpu_buf *buf, size_t offset)
{
	const struct emu_buf *b = emu_buf_of(buf);

	return (uint8_t *)(buf->kind == CVB_GPU_MANAGED ? b->device.p : b->mem.p) + offset;
}

void emu_buf_hold(struct cvb_gpu_buf *buf);
void emu_buf_drop(struct cvb_gpu_buf *buf);
void emu_buf_wait_unused(struct cvb_gpu_buf *buf);

/* An emulated device without a context, for `gpu` and for its peer. */
CVB_MUST_CHECK int emu_device_new(struct cvb_gpu *gpu, const char *sku, bool cc,
				  struct cvb_err *err);

/* For tests: the bounce buffer of a direction of the primary context; NULL with cc=off or for
 * another backend's device. */
const void *emu_bounce(const struct cvb_gpu *gpu, enum cvb_gpu_dir dir, size_t *ret_bytes);

/* For tests: what to call for what was sealed.  Only while nothing is in flight. */
void emu_set_probe(struct cvb_gpu *gpu, const struct emu_probe *probe);

/* ---- emu_managed.c ---- */

CVB_MUST_CHECK int emu_managed_alloc(struct cvb_gpu_buf *buf, struct cvb_err *err);
void emu_managed_free(struct cvb_gpu_buf *buf);
int emu_managed_touch(struct cvb_gpu_buf *buf, size_t offset_bytes, size_t bytes,
		      struct cvb_err *err);

/* Bring a range of any buffer to where the device finds it: moves pages of MANAGED memory. */
CVB_MUST_CHECK int emu_to_device(struct cvb_gpu_buf *buf, size_t offset, size_t bytes,
				 struct cvb_err *err);

/* ---- emu_op.c: the operations that a stream or a graph holds ---- */

void emu_op_hold(const struct cvb_gpu_op *op);
void emu_op_drop(const struct cvb_gpu_op *op);

/* Do it, on the calling thread. */
CVB_MUST_CHECK int emu_op_run(const struct cvb_gpu_op *op, struct cvb_err *err);

struct emu_graph; /* its buffers, and how many launches are in flight */

int emu_graph_new(struct cvb_gpu_graph *graph, struct cvb_err *err);
void emu_graph_free(struct cvb_gpu_graph *graph);
void emu_graph_hold(struct cvb_gpu_graph *graph);
void emu_graph_drop(struct cvb_gpu_graph *graph);
CVB_MUST_CHECK int emu_graph_run(const struct cvb_gpu_graph *graph, struct cvb_err *err);

/* ---- emu_kernel.c ---- */

/* Run a checked kernel on the calling thread; its buffers are on the device. */
void emu_kernel_run(const struct cvb_gpu_launch *launch);

/* ---- emu_peer.c ---- */

int emu_peer_open(struct cvb_gpu *gpu, struct cvb_gpu *peer, struct cvb_err *err);
void emu_peer_hold(const struct cvb_gpu_copy *copy);
void emu_peer_drop(const struct cvb_gpu_copy *copy);
/* The copy itself, on a stream's thread. */
CVB_MUST_CHECK int emu_peer_run(const struct cvb_gpu_copy *copy, struct cvb_err *err);

/* ---- hooks of emu_stream.c ---- */

int emu_stream_new(struct cvb_gpu_stream *stream, struct cvb_err *err);
void emu_stream_free(struct cvb_gpu_stream *stream);
int emu_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
		   struct cvb_err *err);
int emu_memset_async(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *dst, size_t offset_bytes,
		     int value, size_t bytes, struct cvb_err *err);
int emu_gemm_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_gemm *gemm,
		   struct cvb_err *err);
int emu_launch_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_launch *launch,
		     struct cvb_err *err);
int emu_graph_launch(struct cvb_gpu_graph *graph, struct cvb_gpu_stream *stream,
		     struct cvb_err *err);
int emu_peer_copy_async(struct cvb_gpu_stream *stream, const struct cvb_gpu_copy *copy,
			struct cvb_err *err);
int emu_sync(struct cvb_gpu_stream *stream, struct cvb_err *err);

/* ---- hooks of emu_event.c ---- */

struct emu_event;

int emu_event_new(struct cvb_gpu_event *event, struct cvb_err *err);
void emu_event_free(struct cvb_gpu_event *event);
int emu_event_record(struct cvb_gpu_event *event, struct cvb_gpu_stream *stream,
		     struct cvb_err *err);
int emu_event_wait(struct cvb_gpu_stream *stream, struct cvb_gpu_event *event, struct cvb_err *err);
int emu_event_sync(struct cvb_gpu_event *event, struct cvb_err *err);
int emu_event_elapsed_ns(const struct cvb_gpu_event *from, const struct cvb_gpu_event *to,
			 int64_t *ret_ns, struct cvb_err *err);

/* A stream's task about an event: holds a reference that the run_* call drops. */
void emu_event_run_record(struct emu_event *e, uint64_t record);
void emu_event_run_wait(struct emu_event *e, uint64_t record);

/* Queue such a task. */
CVB_MUST_CHECK int emu_stream_push_event(struct cvb_gpu_stream *stream, struct emu_event *e,
					 bool is_record, uint64_t record, struct cvb_err *err);

/* ---- emu_blas.c ---- */

/*
 * Load OpenBLAS, once for the program.  -EOPNOTSUPP names the Debian package.  `cpus`: where its
 * threads may run, which the library decides while it loads.
 */
CVB_MUST_CHECK int emu_blas_load(const cpu_set_t *cpus, struct cvb_err *err);

/* May the product be submitted?  Loads the library. */
CVB_MUST_CHECK int emu_blas_check(const struct emu_device *d, const struct cvb_gpu_gemm *gemm,
				  struct cvb_err *err);

/* The configuration text of the loaded library, NULL if it was not loaded. */
const char *emu_blas_config(void);

/*
 * The product, now, on this thread and the library's, under d->compute.  Loaded before; checked
 * arguments.  Types that the library lacks are widened first and the result is rounded to them;
 * -ENOMEM when there is no room for that.
 */
CVB_MUST_CHECK int emu_blas_gemm(struct emu_device *d, const struct cvb_gpu_gemm *gemm,
				 struct cvb_err *err);

/* ---- emu_types.c ---- */

/* TF32, BF16, FP16 and FP8; a TF32 matrix is rounded as it is loaded and stored as it is. */
void emu_type_load(enum cvb_gpu_type type, float *dst, const void *src, size_t n);
void emu_type_store(enum cvb_gpu_type type, void *dst, const float *src, size_t n);
void emu_int8_load(double *dst, const int8_t *src, size_t n);
void emu_int8_store(int8_t *dst, const double *src, size_t n);

/* ---- sku.c ---- */

/* The label in static memory, or NULL with -EINVAL and the nearest name in `err`. */
const char *emu_sku_find(const char *name, struct cvb_err *err);

#endif
