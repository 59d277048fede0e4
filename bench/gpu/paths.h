/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways between host and device: a direction and a kind of host memory, with a source that holds
 * data (device.h) and a destination of its own, zero before a batch, that is checked after it. Each
 * copy of a batch has its own window.
 *
 * The two directions have a stream each, so that two host threads may use them at the same time.
 */
#ifndef CVB_BENCH_GPU_PATHS_H
#define CVB_BENCH_GPU_PATHS_H

#include "gpu/device.h"

enum cvb_path_mem {
	CVB_PATH_PINNED,
	CVB_PATH_PAGEABLE,
	CVB_PATH_MEMS,
};

/* "pinned", "pageable" */
extern const char *const cvb_path_mems[];

struct cvb_path {
	struct cvb_gpu_buf *src; /* borrowed from struct cvb_paths */
	struct cvb_gpu_buf *dst; /* NULL: not made */
	size_t done_bytes;	 /* end of the last window copied to since dst was zeroed */
};

struct cvb_paths {
	struct cvb_dev dev[2]; /* by direction: CVB_GPU_H2D, CVB_GPU_D2H */
	struct cvb_gpu_buf *host_src[CVB_PATH_MEMS];
	struct cvb_gpu_buf *device_src;
	struct cvb_path path[2][CVB_PATH_MEMS];
	size_t bytes; /* length of every buffer */
	const struct cvb_run *run;
	bool trial; /* the batch since the last look is one */
	struct cvb_dev_bad bad;
	struct cvb_err first_reason; /* why something was left out */
};

/* For copies of up to max_bytes, of base_bytes times a power of two.  On failure call
 * cvb_paths_done all the same. */
CVB_MUST_CHECK int cvb_paths_init(struct cvb_paths *p, struct cvb_run *run, size_t max_bytes,
				  size_t base_bytes, struct cvb_err *err);
/* Accepts a zeroed and a half-built one. */
void cvb_paths_done(struct cvb_paths *p);

/* Make the buffers of a path, unless it has them. */
CVB_MUST_CHECK int cvb_paths_make(struct cvb_paths *p, enum cvb_gpu_dir dir, enum cvb_path_mem mem,
				  struct cvb_err *err);

#define CVB_PATH_BIT(dir, mem) (1U << ((unsigned)(dir)*CVB_PATH_MEMS + (unsigned)(mem)))
#define CVB_PATHS_ALL	       (CVB_PATH_BIT(2, 0) - 1)

/*
 * cvb_paths_init for the largest of `sizes`, and the buffers of the paths whose bits are set, but
 * for those that the device cannot have (cvb_paths_make says so again).  Sizes for which memory
 * does not suffice are left out (cvb_dev_fit).
 */
CVB_MUST_CHECK int cvb_paths_fit(struct cvb_paths *p, struct cvb_run *run,
				 struct cvb_dev_sizes *sizes, unsigned paths, struct cvb_err *err);

/*
 * Copy number i (below cvb_dev_windows) of a batch whose copies have `bytes`, without a wait.
 * `host`: a buffer of the caller's instead of the path's host memory, used from its first byte;
 * data that go into it are the caller's to check.  NULL: the path's.
 */
CVB_MUST_CHECK int cvb_paths_issue(struct cvb_paths *p, enum cvb_gpu_dir dir, enum cvb_path_mem mem,
				   uint64_t i, size_t bytes, struct cvb_gpu_buf *host,
				   struct cvb_err *err);

/* A batch: `iters` copies, each with its wait. */
CVB_MUST_CHECK int cvb_paths_copies(struct cvb_paths *p, enum cvb_gpu_dir dir,
				    enum cvb_path_mem mem, size_t bytes, uint64_t iters,
				    struct cvb_err *err);

/* From `prepare`: check every destination that the batch before copied to (not after a trial), and
 * clear it; what is wrong is kept for verify. */
void cvb_paths_look(struct cvb_paths *p);
/* The same at the end: what was kept, or what is wrong now. */
CVB_MUST_CHECK int cvb_paths_verify(struct cvb_paths *p, struct cvb_err *err);

/*
 * After an untimed try of what `params` describe: 0 where it worked, 1 where the device cannot
 * (-EOPNOTSUPP: left out, with the reason), else the error.  Data that came out wrong are kept for
 * verify and count as worked: that is a finding.  Takes params over.
 */
CVB_MUST_CHECK int cvb_paths_tried(struct cvb_paths *p, struct cvb_run *run, int r,
				   const struct cvb_err *why, json_t *params, struct cvb_err *err);

/* At the end of setup: -EOPNOTSUPP with the first reason if everything was left out. */
CVB_MUST_CHECK int cvb_paths_any(const struct cvb_paths *p, const struct cvb_run *run,
				 struct cvb_err *err);

#endif
