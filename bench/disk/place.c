/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/place.h"

#include "core/file.h"
#include "core/stop.h"
#include "core/util.h"
#include "disk/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#define FILE_NAME    "cvmbench-fio.dat"
#define LAYOUT_CHUNK CVB_MIB
#define CHECK_BYTES  4096
#define CHECKS	     16

static uint64_t next_random(uint64_t *state)
{
	/* splitmix64: fast, and no device's compression or deduplication sees through it */
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* Fill [from, to) of the region with random data, so that reads later come from real blocks. */
static int lay_out(const struct cvb_place *p, uint64_t from, uint64_t to, struct cvb_err *err)
{
	_cleanup_free_ uint64_t *buf = malloc(LAYOUT_CHUNK);
	uint64_t rng = UINT64_C(0x63766d62656e6368) + from;

	if (!buf)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	while (from < to) {
		size_t bytes = (size_t)cvb_min(LAYOUT_CHUNK, to - from);

		if (cvb_stop_requested())
			return cvb_err_set(err, -EINTR, "interrupted while filling %s", p->path);
		for (size_t i = 0; i < LAYOUT_CHUNK / sizeof(*buf); i++)
			buf[i] = next_random(&rng);
		ssize_t n = pwrite(p->fd, buf, bytes, (off_t)(p->offset + from));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int code = n < 0 ? errno : ENOSPC;

			return cvb_err_set(err, -code, "cannot fill %s at byte %" PRIu64 ": %s",
					   p->path, p->offset + from, strerror(code));
		}
		from += (uint64_t)n;
	}
	if (fsync(p->fd) < 0)
		return cvb_err_set(err, -errno, "cannot write %s to the disk: %s", p->path,
				   strerror(errno));
	posix_fadvise(p->fd, 0, 0, POSIX_FADV_DONTNEED);
	return 0;
}

static int check_room(const struct cvb_place *p, const char *folder, struct cvb_err *err)
{
	struct statvfs v;

	if (fstatvfs(p->fd, &v) < 0)
		return cvb_err_set(err, -errno, "cannot ask for the room in %s: %s", folder,
				   strerror(errno));
	uint64_t free_bytes = (uint64_t)v.f_bavail * v.f_frsize;

	if (free_bytes < p->bytes)
		return cvb_err_set(err, -EINVAL,
				   "size = %" PRIu64 " MiB, and %s has %" PRIu64 " MiB free",
				   p->bytes / CVB_MIB, folder, free_bytes / CVB_MIB);
	return 0;
}

/* Does the file system under our file do what `direct` asks for? */
static int check_direct(struct cvb_run *run, const struct cvb_place *p, bool direct,
			struct cvb_err *err)
{
	struct statfs fs;

	if (fstatfs(p->fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC))
		cvb_run_note(run, "%s lies in memory (tmpfs): no disk is measured", run->disk);
	if (!direct)
		return 0;
	_cleanup_close_ int fd = open(p->path, O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (fd < 0 && errno == EINVAL)
		return cvb_err_set(
			err, -EOPNOTSUPP,
			"the file system of %s refuses O_DIRECT: name another folder, or "
			"set direct=off",
			run->disk);
	return 0;
}

static int open_file(struct cvb_run *run, struct cvb_place *p, const struct cvb_place_want *want,
		     struct cvb_err *err)
{
	struct stat st;
	int r;

	p->path = cvb_strf("%s/%s", run->disk, FILE_NAME);
	if (!p->path)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	p->bytes = want->bytes;
	p->fd = open(p->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (p->fd < 0)
		return cvb_err_set(err, -EINVAL, "cannot create %s: %s", p->path, strerror(errno));
	/* before the file is truncated: another run may be measuring in it */
	if (flock(p->fd, LOCK_EX | LOCK_NB) < 0)
		return cvb_err_set(err, -EINVAL, "%s is in use by another cvmbench", p->path);
	if (fstat(p->fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1)
		return cvb_err_set(err, -EINVAL, "%s is not a plain file of ours", p->path);
	p->made_file = true;
	if (ftruncate(p->fd, 0) < 0)
		return cvb_err_set(err, -errno, "cannot truncate %s: %s", p->path, strerror(errno));
	r = check_room(p, run->disk, err);
	if (r == 0)
		r = check_direct(run, p, want->direct, err);
	if (r == 0)
		r = lay_out(p, 0, p->bytes, err);
	if (r < 0)
		return r;
	cvb_run_note(run, "disk: file in folder %s", run->disk);
	return 0;
}

/* One setting of a device's queue, "unknown" where the system does not tell.  Returns buf. */
static const char *queue_setting(dev_t dev, const char *name, char *buf, size_t buf_bytes)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/queue/%s", major(dev), minor(dev), name);
	if (cvb_file_read_line(path, buf, buf_bytes) < 0)
		snprintf(buf, buf_bytes, "unknown");
	for (size_t n = strlen(buf); n && buf[n - 1] == ' '; n--)
		buf[n - 1] = '\0';
	return buf;
}

/* With a bounce buffer, the largest segment is what one mapping may have: 256 KiB. */
static void note_device(struct cvb_run *run, dev_t dev)
{
	char sectors[32], segment[32], scheduler[64];

	cvb_run_note(run,
		     "disk: block device %s, max_sectors_kb %s, max_segment_size %s, scheduler %s",
		     run->disk, queue_setting(dev, "max_sectors_kb", sectors, sizeof(sectors)),
		     queue_setting(dev, "max_segment_size", segment, sizeof(segment)),
		     queue_setting(dev, "scheduler", scheduler, sizeof(scheduler)));
}

static int open_device(struct cvb_run *run, struct cvb_place *p, const struct cvb_place_want *want,
		       dev_t dev, struct cvb_err *err)
{
	uint64_t size_bytes = 0, laid_out = 0;
	struct stat st;
	int r = 0;

	p->path = strdup(run->disk);
	if (!p->path)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	/* O_EXCL: the kernel refuses a device that is mounted, swapped to or part of a volume, and
	 * nobody can mount it while we hold it; no confirmation overrides that */
	p->fd = open(p->path, O_RDWR | O_EXCL | O_CLOEXEC);
	if (p->fd < 0 && errno == EBUSY)
		return cvb_err_set(err, -EINVAL, "%s is in use (mounted, swap or part of a volume)",
				   p->path);
	if (p->fd < 0)
		return cvb_err_set(err, -EINVAL, "cannot open %s for writing: %s", p->path,
				   strerror(errno));
	if (fstat(p->fd, &st) < 0 || !S_ISBLK(st.st_mode) || st.st_rdev != dev)
		return cvb_err_set(err, -EINVAL, "%s became another device meanwhile", p->path);
	if (ioctl(p->fd, BLKGETSIZE64, &size_bytes) < 0)
		return cvb_err_set(err, -errno, "cannot ask for the size of %s: %s", p->path,
				   strerror(errno));
	if (!want->device_confirm)
		r = cvb_scratch_check(p->fd, size_bytes, &laid_out, err);
	if (r < 0)
		return cvb_err_wrap(err, r,
				    "not writing to %s (device_confirm=%s would destroy what is on "
				    "it)",
				    p->path, p->path);
	if (size_bytes < 2 * CVB_SCRATCH_EDGE_BYTES + (8 * CVB_MIB))
		return cvb_err_set(err, -EINVAL, "%s is smaller than 10 MiB", p->path);
	p->offset = CVB_SCRATCH_EDGE_BYTES;
	p->bytes = cvb_min(want->bytes, size_bytes - 2 * CVB_SCRATCH_EDGE_BYTES);
	p->bytes -= p->bytes % CVB_MIB;
	if (laid_out < p->bytes) {
		/* marked first: what follows is no longer blank */
		r = cvb_scratch_mark(p->fd, laid_out, err);
		if (r == 0)
			r = lay_out(p, laid_out, p->bytes, err);
		if (r == 0)
			r = cvb_scratch_mark(p->fd, p->bytes, err);
	}
	if (r < 0)
		return r;
	if (p->bytes < want->bytes)
		cvb_run_note(run, "size: %s has room for %" PRIu64 " MiB only", p->path,
			     p->bytes / CVB_MIB);
	note_device(run, dev);
	return 0;
}

int cvb_place_open(struct cvb_place *p, struct cvb_run *run, const struct cvb_place_want *want,
		   struct cvb_err *err)
{
	struct stat st;

	if (!run->disk)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "no disk was given: disk.fio needs a folder or a block device");
	if (want->device_confirm && strcmp(want->device_confirm, run->disk) != 0)
		return cvb_err_set(err, -EINVAL, "device_confirm = %s, but the disk is %s",
				   want->device_confirm, run->disk);
	if (stat(run->disk, &st) < 0)
		return cvb_err_set(err, -EINVAL, "disk %s: %s", run->disk, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return open_file(run, p, want, err);
	if (S_ISBLK(st.st_mode))
		return open_device(run, p, want, st.st_rdev, err);
	return cvb_err_set(err, -EINVAL, "disk %s is neither a folder nor a block device",
			   run->disk);
}

/* A hole reads as zero, without the disk. */
int cvb_place_verify(const struct cvb_place *p, uint64_t seed, struct cvb_err *err)
{
	unsigned char buf[CHECK_BYTES];

	for (unsigned i = 0; i < CHECKS; i++) {
		uint64_t at =
			p->offset + next_random(&seed) % (p->bytes / CHECK_BYTES) * CHECK_BYTES;
		unsigned char any = 0;

		if (pread(p->fd, buf, sizeof(buf), (off_t)at) != (ssize_t)sizeof(buf))
			return cvb_err_set(err, -EBADMSG, "cannot read %s at byte %" PRIu64,
					   p->path, at);
		for (size_t k = 0; k < sizeof(buf); k++)
			any |= buf[k];
		if (!any)
			return cvb_err_set(err, -EBADMSG,
					   "%s holds no data at byte %" PRIu64
					   ": reads did not come from real blocks",
					   p->path, at);
	}
	return 0;
}

void cvb_place_done(struct cvb_place *p)
{
	if (p->made_file)
		unlink(p->path);
	if (p->fd >= 0)
		close(p->fd);
	free(p->path);
	*p = (struct cvb_place){.fd = -1};
}
