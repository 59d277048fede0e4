/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What does disk I/O end up on?  The file system, the driver of the block device under it, and the
 * settings of its queue.  Only told: nothing here decides anything.
 */
#ifndef CVB_BENCH_DISK_BACKEND_H
#define CVB_BENCH_DISK_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * One line for a reader: "file on ext4 on vda (virtio-blk): scheduler none, rotational 1, …".
 * `fd` is open on the file or block device; its file system is named if it is a file.  `sys` is
 * where sysfs is mounted.  What cannot be read is "unknown".  Returns buf.
 */
const char *cvb_backend_text(int fd, const char *sys, char *buf, size_t buf_bytes);

/* The same for a device number alone, without the file system: "vda (virtio-blk): …". */
const char *cvb_backend_device_text(dev_t dev, const char *sys, char *buf, size_t buf_bytes);

#endif
