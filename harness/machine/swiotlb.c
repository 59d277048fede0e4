/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/swiotlb.h"

#include "core/file.h"
#include "core/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define RECORD_BYTES 8192 /* the longest that the kernel hands out */
/* A log that is written faster than it is read must not keep us. */
#define MAX_RECORDS 100000

static bool set_u64(json_t *obj, const char *key, const char *path)
{
	uint64_t v;

	return cvb_file_read_u64(path, &v) == 0 &&
	       json_object_set_new(obj, key, json_integer((json_int_t)v)) == 0;
}

json_t *cvb_swiotlb(void)
{
	static const struct {
		const char *key, *path;
	} files[] = {{"nslabs", "/sys/kernel/debug/swiotlb/io_tlb_nslabs"},
		     {"used", "/sys/kernel/debug/swiotlb/io_tlb_used"},
		     {"used_hiwater", "/sys/kernel/debug/swiotlb/io_tlb_used_hiwater"}};
	json_t *obj = json_object();

	for (size_t i = 0; i < CVB_ARRAY_LEN(files); i++)
		set_u64(obj, files[i].key, files[i].path);
	if (json_object_size(obj) == 0) {
		json_decref(obj);
		return json_null();
	}
	return obj;
}

/*
 * "4,1234,567890,-;virtio_blk virtio1: swiotlb buffer is full (sz: …": priority and facility come
 * first.  Only facility 0 is the kernel's; what programs write there has another.
 */
static bool is_full_record(char *record)
{
	char *text = strchr(record, ';');
	unsigned long priority;
	char *end;

	errno = 0;
	priority = strtoul(record, &end, 10);
	if (errno || end == record || *end != ',' || priority >> 3 || !text)
		return false;
	text[strcspn(text, "\n")] = '\0'; /* lines after the first are the record's tags */
	return strstr(text, "swiotlb") && strstr(text, "full");
}

uint64_t cvb_swiotlb_count_full(int kmsg_fd)
{
	char record[RECORD_BYTES + 1];
	uint64_t n = 0;

	for (unsigned i = 0; i < MAX_RECORDS; i++) {
		ssize_t bytes = read(kmsg_fd, record, RECORD_BYTES);

		/* EPIPE: records were overwritten before we came; go on with the oldest left */
		if (bytes < 0 && (errno == EPIPE || errno == EINTR))
			continue;
		if (bytes <= 0)
			break;
		record[bytes] = '\0';
		n += is_full_record(record);
	}
	return n;
}

void cvb_swiotlb_watch_start(struct cvb_swiotlb_watch *w)
{
	w->kmsg_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (w->kmsg_fd >= 0 && lseek(w->kmsg_fd, 0, SEEK_END) < 0) {
		close(w->kmsg_fd);
		w->kmsg_fd = -1;
	}
}

/* Of the block device itself, or of the one that a file or folder lies on. */
static void set_queue(json_t *obj, const char *disk)
{
	static const struct {
		const char *key, *name;
	} rows[] = {{"max_sectors_kb", "max_sectors_kb"},
		    {"max_segment_size_bytes", "max_segment_size"}};
	struct stat st;

	if (!disk || stat(disk, &st) < 0)
		return;

	dev_t device = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;

	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++) {
		/* a partition has no queue of its own: its disk's is one folder up */
		static const char *const up[] = {"", "../"};
		bool found = false;

		for (size_t k = 0; k < CVB_ARRAY_LEN(up) && !found; k++) {
			_cleanup_free_ char *path =
				cvb_strf("/sys/dev/block/%u:%u/%squeue/%s", major(device),
					 minor(device), up[k], rows[i].name);

			found = path && set_u64(obj, rows[i].key, path);
		}
	}
}

json_t *cvb_swiotlb_watch_end(struct cvb_swiotlb_watch *w, const char *disk)
{
	json_t *obj = cvb_swiotlb();

	if (json_is_object(obj) && w->kmsg_fd >= 0)
		json_object_set_new(obj, "full",
				    json_integer((json_int_t)cvb_swiotlb_count_full(w->kmsg_fd)));
	if (w->kmsg_fd >= 0)
		close(w->kmsg_fd);
	w->kmsg_fd = -1;
	if (json_is_null(obj))
		obj = json_object();
	set_queue(obj, disk);
	if (json_object_size(obj))
		return obj;
	json_decref(obj);
	return json_null();
}
