/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A place for disk I/O: a file of ours in a folder, or a scratch block device, filled with random
 * data so that reads come from real blocks; or, for reads alone, a device or file as it is.
 *
 * Nothing is written to a device that may carry someone's data (see scratch.h), never to one that
 * is in use, and never to a file that we did not make.  Until a device has passed, only a
 * descriptor that cannot write is open on it.  Our file has no name once it is open: it is gone
 * with us, however we end.
 */
#ifndef CVB_BENCH_DISK_PLACE_H
#define CVB_BENCH_DISK_PLACE_H

#include "measure/bench.h"

#include <sys/types.h>

struct cvb_place {
	char *path;	 /* what a message calls it */
	int fd;		 /* open on what is read and written, or -1 */
	int hold_fd;	 /* open with O_EXCL on a device, read only; or -1 */
	bool read_only;	 /* as it is: fd cannot write, and nothing may */
	bool marked;	 /* a device that carries our marker */
	dev_t device;	 /* of a device */
	uint64_t offset; /* where our region starts */
	uint64_t bytes;	 /* its length */
};

#define CVB_PLACE_NONE                                                                             \
	(struct cvb_place)                                                                         \
	{                                                                                          \
		.fd = -1, .hold_fd = -1                                                            \
	}

struct cvb_place_want {
	const char *path;    /* folder, block device, or plain file to be read only */
	uint64_t bytes;	     /* on a device or a plain file: at most, as far as it has room */
	bool direct;	     /* a file system without O_DIRECT is refused */
	bool writes;	     /* else the place may be one that must not be written to */
	const char *confirm; /* the device's path once more: overwrite what is on it; or NULL */
};

/*
 * Open want->path and fill the region.  What a reader must know goes to run's notes.  `p` is
 * CVB_PLACE_NONE before.
 * -EOPNOTSUPP: no place, no O_DIRECT.  -EINVAL: not a place of ours, or no room, with the reason.
 * On failure, cvb_place_done releases what was opened.
 */
CVB_MUST_CHECK int cvb_place_open(struct cvb_place *p, struct cvb_run *run,
				  const struct cvb_place_want *want, struct cvb_err *err);

/* Right before something writes: is it still the device that passed, with nothing new on it? */
CVB_MUST_CHECK int cvb_place_recheck(const struct cvb_place *p, struct cvb_err *err);

/* Look at a few blocks chosen by `seed`: -EBADMSG if one holds no data.  A place that is read as
 * it is may hold zeros, and is not looked at. */
CVB_MUST_CHECK int cvb_place_verify(const struct cvb_place *p, uint64_t seed, struct cvb_err *err);

/* Accepts a half-open one. */
void cvb_place_done(struct cvb_place *p);

#endif
