/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/backend.h"

#include "core/file.h"
#include "core/util.h"

#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#define ZFS_MAGIC 0x2fc12fc1 /* not in linux/magic.h */

static const char *fs_name(int fd, char *buf, size_t buf_bytes)
{
	static const struct {
		unsigned long magic;
		const char *name;
	} known[] = {
		{EXT4_SUPER_MAGIC, "ext4"},
		{XFS_SUPER_MAGIC, "xfs"},
		{BTRFS_SUPER_MAGIC, "btrfs"},
		{TMPFS_MAGIC, "tmpfs"},
		{RAMFS_MAGIC, "ramfs"},
		{OVERLAYFS_SUPER_MAGIC, "overlayfs"},
		{NFS_SUPER_MAGIC, "nfs"},
		{F2FS_SUPER_MAGIC, "f2fs"},
		{MSDOS_SUPER_MAGIC, "vfat"},
		{FUSE_SUPER_MAGIC, "fuse"},
		{EXFAT_SUPER_MAGIC, "exfat"},
		{V9FS_MAGIC, "9p"},
		{CEPH_SUPER_MAGIC, "ceph"},
		{CIFS_SUPER_MAGIC, "cifs"},
		{REISERFS_SUPER_MAGIC, "reiserfs"},
		{ZFS_MAGIC, "zfs"},
	};
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0) {
		snprintf(buf, buf_bytes, "an unknown file system");
		return buf;
	}
	for (size_t i = 0; i < CVB_ARRAY_LEN(known); i++)
		if ((unsigned long)fs.f_type == known[i].magic)
			return known[i].name;
	snprintf(buf, buf_bytes, "file system 0x%lx", (unsigned long)fs.f_type);
	return buf;
}

/* One setting of the queue, "unknown" where the system does not tell.  Of several choices in a
 * list, the one in brackets. */
static const char *setting(const char *dir, const char *name, char *buf, size_t buf_bytes)
{
	_cleanup_free_ char *path = cvb_strf("%s/queue/%s", dir, name);
	char line[96], *open, *close;

	if (!path || cvb_file_read_line(path, line, sizeof(line)) < 0)
		snprintf(line, sizeof(line), "unknown");
	open = strchr(line, '[');
	close = open ? strchr(open, ']') : NULL;
	if (close)
		*close = '\0';
	snprintf(buf, buf_bytes, "%s", close ? open + 1 : line);
	return buf;
}

/* The last part of the path that a link resolves to, or of the path itself. */
static const char *link_name(const char *path, char *buf, size_t buf_bytes)
{
	_cleanup_free_ char *real = realpath(path, NULL);
	const char *slash = real ? strrchr(real, '/') : NULL;

	if (!slash)
		return NULL;
	snprintf(buf, buf_bytes, "%s", slash + 1);
	return buf;
}

/* What a person calls the kind of device; `dir` is its folder in sysfs. */
static const char *kind_of(const char *dir, const char *name, char *buf, size_t buf_bytes)
{
	_cleanup_free_ char *driver = cvb_strf("%s/device/driver", dir);
	_cleanup_free_ char *device = cvb_strf("%s/device", dir);
	_cleanup_free_ char *real = device ? realpath(device, NULL) : NULL;
	char word[64];

	if (!strncmp(name, "loop", 4))
		return "loop";
	if (!strncmp(name, "nullb", 5))
		return "null_blk";
	if (!strncmp(name, "nvme", 4))
		return "nvme";
	if (!strncmp(name, "dm-", 3))
		return "device mapper";
	if (!strncmp(name, "md", 2))
		return "Linux RAID";
	if (!driver || !link_name(driver, word, sizeof(word)))
		return "driver unknown";
	if (!strcmp(word, "virtio_blk"))
		return "virtio-blk";
	if (!strcmp(word, "sd") && real && strstr(real, "/virtio"))
		return "virtio-scsi";
	snprintf(buf, buf_bytes, "driver %s", word);
	return buf;
}

const char *cvb_backend_device_text(dev_t dev, const char *sys, char *buf, size_t buf_bytes)
{
	_cleanup_free_ char *link = cvb_strf("%s/dev/block/%u:%u", sys, major(dev), minor(dev));
	_cleanup_free_ char *dir = link ? realpath(link, NULL) : NULL;
	char name[64], disk[64], kind[80], v[7][96];

	if (!dir) {
		snprintf(buf, buf_bytes, "no block device of its own");
		return buf;
	}
	snprintf(name, sizeof(name), "%s", strrchr(dir, '/') + 1);
	snprintf(disk, sizeof(disk), "%s", name);

	_cleanup_free_ char *partition = cvb_strf("%s/partition", dir);

	/* a partition's queue is its disk's */
	if (partition && access(partition, F_OK) == 0) {
		*strrchr(dir, '/') = '\0';
		snprintf(disk, sizeof(disk), "%s", strrchr(dir, '/') + 1);
	}
	snprintf(buf, buf_bytes,
		 "%s (%s): scheduler %s, rotational %s, logical block %s bytes, max_sectors_kb %s, "
		 "max_segment_size %s, %s queue requests, write cache \"%s\"",
		 name, kind_of(dir, disk, kind, sizeof(kind)),
		 setting(dir, "scheduler", v[0], sizeof(v[0])),
		 setting(dir, "rotational", v[1], sizeof(v[1])),
		 setting(dir, "logical_block_size", v[2], sizeof(v[2])),
		 setting(dir, "max_sectors_kb", v[3], sizeof(v[3])),
		 setting(dir, "max_segment_size", v[4], sizeof(v[4])),
		 setting(dir, "nr_requests", v[5], sizeof(v[5])),
		 setting(dir, "write_cache", v[6], sizeof(v[6])));
	return buf;
}

const char *cvb_backend_text(int fd, const char *sys, char *buf, size_t buf_bytes)
{
	char device[400], fs[48];
	struct stat st;

	if (fstat(fd, &st) < 0) {
		snprintf(buf, buf_bytes, "unknown");
		return buf;
	}
	if (S_ISBLK(st.st_mode))
		return cvb_backend_device_text(st.st_rdev, sys, buf, buf_bytes);
	snprintf(buf, buf_bytes, "file on %s on %s", fs_name(fd, fs, sizeof(fs)),
		 cvb_backend_device_text(st.st_dev, sys, device, sizeof(device)));
	return buf;
}
