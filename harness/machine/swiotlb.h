/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's bounce buffers (swiotlb): the pool, and whether it ran out while something was
 * measured.
 */
#ifndef CVB_MACHINE_SWIOTLB_H
#define CVB_MACHINE_SWIOTLB_H

#include <jansson.h>
#include <stdint.h>

/*
 * {"nslabs","used","used_hiwater"} in slots of 2 KiB from debugfs, high water since boot; or JSON
 * null where it is not to be read.  New reference.
 */
json_t *cvb_swiotlb(void);

/* From the start to the end of a sample. */
struct cvb_swiotlb_watch {
	int kmsg_fd; /* at the kernel log's end as it was at the start; -1: not to be read */
};

void cvb_swiotlb_watch_start(struct cvb_swiotlb_watch *w);

/*
 * What cvb_swiotlb tells, and
 *   full       how often the kernel has said since the start that a transfer found no room; at
 *              least, since the kernel limits how often it says so; left out where the log is not
 *              to be read
 *   max_sectors_kb, max_segment_size_bytes   the largest request and segment of the block device
 *              `disk`, or of the one that the file or folder `disk` lies on; left out for NULL and
 *              where the system does not tell
 * New reference; JSON null where nothing of all this is to be read.
 */
json_t *cvb_swiotlb_watch_end(struct cvb_swiotlb_watch *w, const char *disk);

/*
 * How many of the records that can be read from `kmsg_fd` without waiting are the kernel's own
 * complaint about a full pool.  One read gives one record, as /dev/kmsg does.
 */
uint64_t cvb_swiotlb_count_full(int kmsg_fd);

#endif
