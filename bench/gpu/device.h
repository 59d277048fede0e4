/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the GPU benchmarks share: a stream with known data, checks of that data, reasons of
 * failures.
 *
 * Data.  Byte i of a buffer has a value that its place gives it, never 0, so that a copy that did
 * not happen, stopped early or went to another place is seen.  On a wall clock every byte has it
 * (dense).  On a virtual clock, where pages that nobody touched cost neither time nor memory, only
 * some pages have it (sparse): the first 64 KiB, the ends of every size, eight pages between a
 * power of two and the next; all others are zero.  A check looks at every page that has memory
 * behind it: a byte that changed anywhere is found in both.
 *
 * Windows.  A later copy to the same place would hide that an earlier one was wrong.  So each copy
 * of a batch has a window of its own: copy number i moves bytes i * size to (i + 1) * size of the
 * source to the same bytes of the destination, and a batch has no more copies than there are
 * windows.  What a batch copied is one run of data that a check reads from end to end.
 *
 * Threads: one struct cvb_dev belongs to one thread at a time.
 */
#ifndef CVB_BENCH_GPU_DEVICE_H
#define CVB_BENCH_GPU_DEVICE_H

#include "gpu/gpu.h"
#include "measure/bench.h"

/* ---- failures ---- */

/*
 * The first failure of a check between batches.  `prepare` and `after_batch` keep it and go on;
 * what they kept comes out of verify, which is the one to call a result untrusted.
 */
struct cvb_dev_bad {
	int r; /* 0: none yet */
	struct cvb_err err;
};

/* Keep a failure (r < 0) unless there is one already. */
void cvb_dev_keep(struct cvb_dev_bad *bad, int r, const struct cvb_err *err);
/* What was kept; 0 for nothing. */
CVB_MUST_CHECK int cvb_dev_kept(const struct cvb_dev_bad *bad, struct cvb_err *err);

/* step and prepare hand up a bare errno: note the reason with the result.  Returns r. */
int cvb_dev_failed(struct cvb_run *run, int r, const struct cvb_err *err);

/* ---- time ---- */

/* The device's clock in ns, for what only a part of an iteration can tell.  From the calling
 * thread's view: inside a lane of cvb_gpu_parallel it is the lane's time. */
uint64_t cvb_dev_now_ns(const struct cvb_gpu *gpu);

/*
 * Upper limit of a batch (struct cvb_case max_iters).  On a virtual clock `virtual_iters`, where
 * every iteration takes the same time, more of them cost host time and tell nothing; else `most`
 * (0: none).
 */
uint64_t cvb_dev_max_iters(const struct cvb_gpu *gpu, uint64_t virtual_iters, uint64_t most);

/* How many copies of `bytes` a batch may have, each with a window of its own; at least 1.  On a
 * virtual clock it is 1: more would take the same time and cost more to check. */
uint64_t cvb_dev_windows(const struct cvb_gpu *gpu, size_t bytes);
/* How long a buffer must be for the windows of copies of up to max_bytes. */
size_t cvb_dev_windows_bytes(const struct cvb_gpu *gpu, size_t max_bytes);

/* ---- options ---- */

#define CVB_DEV_SIZES 41 /* from 1 byte to 1 TiB by powers of two */

/* The sizes of a sweep, ascending. */
struct cvb_dev_sizes {
	uint64_t bytes[CVB_DEV_SIZES];
	size_t n;
};

/*
 * From min_bytes on, each `step` times the one before, from 1 GiB on large_step times (powers of
 * two), up to max_bytes (at most 1 TiB).  -EINVAL names what is wrong.
 */
CVB_MUST_CHECK int cvb_dev_sizes(struct cvb_dev_sizes *ret, uint64_t min_bytes, uint64_t max_bytes,
				 uint64_t step, uint64_t large_step, struct cvb_err *err);

/* Make the buffers for sizes of up to max_bytes, or free what an earlier call has made of them. */
typedef int cvb_dev_make_fn(void *arg, size_t max_bytes, struct cvb_err *err);
typedef void cvb_dev_unmake_fn(void *arg);

/*
 * Make the buffers for all sizes.  While there is not so much memory (-ENOMEM) the largest size is
 * left out, with the reason; `sizes` has those that fit afterwards.  -EOPNOTSUPP if none does.
 */
CVB_MUST_CHECK int cvb_dev_fit(struct cvb_run *run, struct cvb_dev_sizes *sizes,
			       cvb_dev_make_fn *make, cvb_dev_unmake_fn *unmake, void *arg,
			       struct cvb_err *err);

/* ---- a stream and its data ---- */

#define CVB_DEV_PLACES 512

struct cvb_dev {
	struct cvb_gpu *gpu;		 /* borrowed */
	struct cvb_gpu_context *context; /* borrowed; NULL: the primary one */
	struct cvb_gpu_stream *stream;
	struct cvb_gpu_buf *scratch; /* what is read back for a check */
	uint64_t seed;		     /* of the data */
	bool sparse;
	size_t places[CVB_DEV_PLACES]; /* sparse: numbers of the pages with data, ascending */
	size_t n_places;
};

/*
 * Make a stream in `context` (NULL: the primary one) and what checks need for buffers of up to
 * max_bytes.  `base_bytes`: copies will have base_bytes times a power of two.  On failure call
 * cvb_dev_done all the same.
 */
CVB_MUST_CHECK int cvb_dev_init(struct cvb_dev *d, struct cvb_gpu *gpu,
				struct cvb_gpu_context *context, size_t max_bytes,
				size_t base_bytes, uint64_t seed, struct cvb_err *err);
/* Accepts a zeroed and a half-built one. */
void cvb_dev_done(struct cvb_dev *d);

/* Allocate in the struct's context; the caller frees (cvb_gpu_free). */
CVB_MUST_CHECK int cvb_dev_alloc(const struct cvb_dev *d, enum cvb_gpu_mem kind, size_t bytes,
				 struct cvb_gpu_buf **ret, struct cvb_err *err);

/* One copy and the wait for it. */
CVB_MUST_CHECK int cvb_dev_copy(const struct cvb_dev *d, struct cvb_gpu_buf *dst, size_t dst_at,
				struct cvb_gpu_buf *src, size_t src_at, size_t bytes,
				struct cvb_err *err);

/* The first `bytes` of a host or device buffer hold the data; a sparse one must be zero before. */
CVB_MUST_CHECK int cvb_dev_fill(struct cvb_dev *d, struct cvb_gpu_buf *buf, size_t bytes,
				struct cvb_err *err);
/* The first `bytes` become zero. */
CVB_MUST_CHECK int cvb_dev_clear(struct cvb_dev *d, struct cvb_gpu_buf *buf, size_t bytes,
				 struct cvb_err *err);
/* Do they hold the data?  -EBADMSG: "`what`: byte N came out different". */
CVB_MUST_CHECK int cvb_dev_check(struct cvb_dev *d, struct cvb_gpu_buf *buf, size_t bytes,
				 const char *what, struct cvb_err *err);
/* Check, then clear, so that the next batch cannot live on what this one left. */
CVB_MUST_CHECK int cvb_dev_check_clear(struct cvb_dev *d, struct cvb_gpu_buf *buf, size_t bytes,
				       const char *what, struct cvb_err *err);
/* After a batch: the same, but only clear what a trial (struct cvb_run) left, as no number comes of
 * it. */
CVB_MUST_CHECK int cvb_dev_after(struct cvb_dev *d, struct cvb_gpu_buf *buf, size_t bytes,
				 bool trial, const char *what, struct cvb_err *err);

/* The data's bytes from `first` (a multiple of 8) on, in plain memory. */
void cvb_dev_pattern(uint64_t seed, void *p, size_t first, size_t bytes);
/* Offset of the first byte of `p` that is not the data's; `bytes` for none. */
size_t cvb_dev_differs(uint64_t seed, const void *p, size_t first, size_t bytes);

#endif
