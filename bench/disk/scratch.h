/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May this block device be overwritten?
 *
 * A device is taken as scratch only when nothing on it can be anyone's data: it carries our marker
 * and nothing else in its first and last MiB, or it is all zero there and wherever we look between.
 * A blank device gets the marker before the first write, so that our own random data is recognised
 * later.  Measuring happens between the two reserved MiB, so the marker is never overwritten.
 *
 * cvb_scratch_check looks at samples of what lies between; before our data goes there,
 * cvb_scratch_blank reads every byte that it will overwrite.
 */
#ifndef CVB_BENCH_DISK_SCRATCH_H
#define CVB_BENCH_DISK_SCRATCH_H

#include "core/err.h"

#include <stdint.h>

/* Kept free at either end of a device. */
#define CVB_SCRATCH_EDGE_BYTES (UINT64_C(1) << 20)

/*
 * 0 if `fd` (readable, `size_bytes` long; a device or a file that stands for one) is blank or
 * marked. `ret_laid_out` receives how many bytes after the first MiB an earlier run filled with
 * data. -EINVAL names what was found ("an ext2/3/4 file system"), or says that the device is too
 * small.
 */
CVB_MUST_CHECK int cvb_scratch_check(int fd, uint64_t size_bytes, uint64_t *ret_laid_out,
				     struct cvb_err *err);

/* Is every byte of [from, to) zero?  -EINVAL names the first that is not; -EINTR on a stop. */
CVB_MUST_CHECK int cvb_scratch_blank(int fd, uint64_t from, uint64_t to, struct cvb_err *err);

/* Is the marker still what it was, and the rest of the first MiB zero?  For a look right before
 * each use.  -EINVAL if something else has been written there. */
CVB_MUST_CHECK int cvb_scratch_still_marked(int fd, struct cvb_err *err);

/* Write the marker to the first block of `fd`; whatever else is in the first MiB becomes zero. */
CVB_MUST_CHECK int cvb_scratch_mark(int fd, uint64_t laid_out_bytes, struct cvb_err *err);

/* What a partition table, file system or volume manager left in the first MiB; NULL if none is
 * recognised. */
const char *cvb_scratch_signature(const unsigned char *head, size_t head_bytes);

#endif
