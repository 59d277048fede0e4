/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A place for disk I/O: a file of ours in a folder, or a scratch block device, filled with random
 * data so that reads come from real blocks.
 *
 * Nothing is written to a device that may carry someone's data (see scratch.h), and never to one
 * that is in use.  The file is locked, and removed by cvb_place_done.
 */
#ifndef CVB_BENCH_DISK_PLACE_H
#define CVB_BENCH_DISK_PLACE_H

#include "measure/bench.h"

struct cvb_place {
	char *path;	/* what is read and written */
	int fd;		/* open on path to hold it: a lock on our file, O_EXCL on a device; or -1 */
	bool made_file; /* path is our file: done removes it */
	uint64_t offset; /* where in path our region starts */
	uint64_t bytes;	 /* its length */
};

struct cvb_place_want {
	uint64_t bytes; /* on a device: at most, as far as it has room */
	bool direct;	/* a file system without O_DIRECT is refused */
	const char
		*device_confirm; /* the device's path once more: overwrite what is on it; or NULL */
};

/*
 * Open run->disk and fill the region.  What a reader must know goes to run's notes.
 * -EOPNOTSUPP: no disk, no O_DIRECT.  -EINVAL: not a place of ours, or no room, with the reason.
 * On failure, cvb_place_done releases what was opened.
 */
CVB_MUST_CHECK int cvb_place_open(struct cvb_place *p, struct cvb_run *run,
				  const struct cvb_place_want *want, struct cvb_err *err);

/* Look at a few blocks chosen by `seed`: -EBADMSG if one holds no data. */
CVB_MUST_CHECK int cvb_place_verify(const struct cvb_place *p, uint64_t seed, struct cvb_err *err);

/* Accepts a half-open one whose fd is -1 or open. */
void cvb_place_done(struct cvb_place *p);

#endif
