/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/place.h"

#include "core/stop.h"
#include "core/util.h"
#include "disk/backend.h"
#include "disk/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#define FILE_NAME    "cvmbench-fio-XXXXXX"
#define LEAST_BYTES  (8 * CVB_MIB)
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

/* Does the file system under our file do what `direct` asks for?  A tmpfs may say yes and still
 * have no disk to go to. */
static int check_direct(struct cvb_run *run, const struct cvb_place *p,
			const struct cvb_place_want *want, struct cvb_err *err)
{
	_cleanup_free_ char *self = cvb_strf("/proc/self/fd/%d", p->fd);
	struct statfs fs;
	bool memory =
		fstatfs(p->fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);

	if (!self)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (memory && want->direct)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "%s lies in memory (tmpfs): name a folder on a disk with path=, "
				   "or set direct=off",
				   want->path);
	if (memory)
		cvb_run_note(run, "%s lies in memory (tmpfs): no disk is measured", want->path);
	if (!want->direct)
		return 0;
	_cleanup_close_ int fd = open(self, O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (fd < 0)
		return cvb_err_set(
			err, -EOPNOTSUPP,
			"the file system of %s refuses O_DIRECT (%s): name another folder with "
			"path=, or set direct=off",
			want->path, strerror(errno));
	return 0;
}

static void note_backend(struct cvb_run *run, const struct cvb_place *p)
{
	char text[480];

	cvb_run_note(run, "backend: %s", cvb_backend_text(p->fd, "/sys", text, sizeof(text)));
}

/* A new file, and its name gone at once: nothing is left behind even if we are killed. */
static int open_folder(struct cvb_run *run, struct cvb_place *p, const struct cvb_place_want *want,
		       struct cvb_err *err)
{
	_cleanup_free_ char *name = cvb_strf("%s/%s", want->path, FILE_NAME);
	int r;

	if (!name)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	p->bytes = want->bytes;
	p->fd = mkostemp(name, O_CLOEXEC);
	if (p->fd < 0)
		return cvb_err_set(err, -EINVAL, "cannot make a file in %s: %s", want->path,
				   strerror(errno));
	if (unlink(name) < 0)
		return cvb_err_set(err, -errno, "cannot unlink %s: %s", name, strerror(errno));
	p->path = CVB_TAKE(name);
	r = check_room(p, want->path, err);
	if (r == 0)
		r = check_direct(run, p, want, err);
	if (r == 0)
		r = lay_out(p, 0, p->bytes, err);
	if (r == 0)
		note_backend(run, p);
	return r;
}

/* The part of something that is read as it is, whole MiB of it. */
static int take_as_it_is(struct cvb_run *run, struct cvb_place *p,
			 const struct cvb_place_want *want, uint64_t size_bytes,
			 struct cvb_err *err)
{
	p->read_only = true;
	p->bytes = cvb_min(want->bytes, size_bytes);
	p->bytes -= p->bytes % CVB_MIB;
	if (p->bytes < LEAST_BYTES)
		return cvb_err_set(err, -EINVAL, "%s is smaller than %d MiB", want->path,
				   (int)(LEAST_BYTES / CVB_MIB));
	if (p->bytes < want->bytes)
		cvb_run_note(run, "size: %s has %" PRIu64 " MiB only", want->path,
			     p->bytes / CVB_MIB);
	cvb_run_note(run, "%s is read as it is%s", want->path,
		     p->hold_fd < 0 ? ""
				    : ": blocks that were never written may be answered without "
				      "the disk");
	note_backend(run, p);
	return 0;
}

static int open_plain_file(struct cvb_run *run, struct cvb_place *p,
			   const struct cvb_place_want *want, struct cvb_err *err)
{
	struct stat st;
	int r;

	if (want->writes)
		return cvb_err_set(err, -EINVAL,
				   "%s is a file that is not ours: only jobs that read may use it "
				   "(such as jobs=randread-4k-1)",
				   want->path);
	p->path = strdup(want->path);
	if (!p->path)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	p->fd = open(want->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (p->fd < 0 || fstat(p->fd, &st) < 0)
		return cvb_err_set(err, -EINVAL, "cannot read %s: %s", want->path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return cvb_err_set(err, -EINVAL, "%s is no longer a plain file", want->path);
	/* a hole, and on most file systems what was only reserved, is read without the disk */
	off_t hole = lseek(p->fd, 0, SEEK_HOLE);

	if (hole >= 0 && hole < st.st_size)
		return cvb_err_set(err, -EINVAL,
				   "%s has a hole at byte %jd: reading it would not use the disk",
				   want->path, (intmax_t)hole);
	r = check_direct(run, p, want, err);
	return r < 0 ? r : take_as_it_is(run, p, want, (uint64_t)st.st_size, err);
}

/* The device, held so that nobody can mount it or make it part of a volume, and not writable. */
static int hold_device(struct cvb_place *p, const char *path, uint64_t *ret_bytes,
		       struct cvb_err *err)
{
	struct stat st;

	p->path = strdup(path);
	if (!p->path)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	p->hold_fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (p->hold_fd < 0 && errno == EBUSY)
		return cvb_err_set(err, -EINVAL,
				   "%s is in use (mounted, swap, part of a volume, or measured by "
				   "another)",
				   path);
	if (p->hold_fd < 0)
		return cvb_err_set(err, -EINVAL, "cannot open %s: %s", path, strerror(errno));
	if (fstat(p->hold_fd, &st) < 0 || !S_ISBLK(st.st_mode))
		return cvb_err_set(err, -EINVAL, "%s is no longer a block device", path);
	p->device = st.st_rdev;
	if (ioctl(p->hold_fd, BLKGETSIZE64, ret_bytes) < 0)
		return cvb_err_set(err, -errno, "cannot ask for the size of %s: %s", path,
				   strerror(errno));
	return 0;
}

/* A second descriptor on the very device that is held, whatever its path names by now. */
static int open_again(struct cvb_place *p, int flags, struct cvb_err *err)
{
	_cleanup_free_ char *self = cvb_strf("/proc/self/fd/%d", p->hold_fd);

	if (!self)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	p->fd = open(self, flags | O_CLOEXEC);
	if (p->fd < 0)
		return cvb_err_set(err, -EINVAL, "cannot open %s%s: %s", p->path,
				   flags == O_RDONLY ? "" : " for writing", strerror(errno));
	return 0;
}

/* Fill what is not filled yet.  Marked first: what follows is no longer blank. */
static int fill_device(struct cvb_place *p, uint64_t laid_out, bool confirmed, struct cvb_err *err)
{
	int r = 0;

	p->marked = true;
	if (laid_out >= p->bytes)
		return 0;
	if (!confirmed)
		r = cvb_scratch_blank(p->hold_fd, p->offset + laid_out, p->offset + p->bytes, err);
	if (r < 0)
		return cvb_err_wrap(err, r, "not writing to %s", p->path);
	r = cvb_scratch_mark(p->fd, laid_out, err);
	if (r == 0)
		r = lay_out(p, laid_out, p->bytes, err);
	if (r == 0)
		r = cvb_scratch_mark(p->fd, p->bytes, err);
	return r;
}

static int use_scratch(struct cvb_run *run, struct cvb_place *p, const struct cvb_place_want *want,
		       uint64_t size_bytes, uint64_t laid_out, struct cvb_err *err)
{
	int r;

	if (size_bytes < 2 * CVB_SCRATCH_EDGE_BYTES + LEAST_BYTES)
		return cvb_err_set(err, -EINVAL, "%s is smaller than 10 MiB", p->path);
	p->offset = CVB_SCRATCH_EDGE_BYTES;
	p->bytes = cvb_min(want->bytes, size_bytes - 2 * CVB_SCRATCH_EDGE_BYTES);
	p->bytes -= p->bytes % CVB_MIB;
	r = open_again(p, O_RDWR, err);
	if (r == 0)
		r = fill_device(p, laid_out, want->confirm != NULL, err);
	if (r < 0)
		return r;
	if (p->bytes < want->bytes)
		cvb_run_note(run, "size: %s has room for %" PRIu64 " MiB only", p->path,
			     p->bytes / CVB_MIB);
	note_backend(run, p);
	return 0;
}

static int open_device(struct cvb_run *run, struct cvb_place *p, const struct cvb_place_want *want,
		       struct cvb_err *err)
{
	uint64_t size_bytes = 0, laid_out = 0;
	struct cvb_err why = {0};
	int r = hold_device(p, want->path, &size_bytes, err);

	if (r < 0)
		return r;
	/* no confirmation is asked for what is only read, and none makes it writable */
	if (want->writes && want->confirm)
		return use_scratch(run, p, want, size_bytes, 0, err);
	r = cvb_scratch_check(p->hold_fd, size_bytes, &laid_out, &why);
	if (r == 0)
		return use_scratch(run, p, want, size_bytes, laid_out, err);
	if (want->writes) {
		if (err)
			*err = why;
		return cvb_err_wrap(err, r,
				    "not writing to %s (device_confirm=%s would destroy what is on "
				    "it)",
				    p->path, p->path);
	}
	r = open_again(p, O_RDONLY, err);
	return r < 0 ? r : take_as_it_is(run, p, want, size_bytes, err);
}

int cvb_place_open(struct cvb_place *p, struct cvb_run *run, const struct cvb_place_want *want,
		   struct cvb_err *err)
{
	struct stat st;

	if (!want->path)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "no disk was given: disk.fio needs a folder or a block device");
	if (want->confirm && strcmp(want->confirm, want->path) != 0)
		return cvb_err_set(err, -EINVAL, "device_confirm = %s, but the disk is %s",
				   want->confirm, want->path);
	if (stat(want->path, &st) < 0)
		return cvb_err_set(err, -EINVAL, "disk %s: %s", want->path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return open_folder(run, p, want, err);
	if (S_ISBLK(st.st_mode))
		return open_device(run, p, want, err);
	if (S_ISREG(st.st_mode))
		return open_plain_file(run, p, want, err);
	return cvb_err_set(err, -EINVAL, "disk %s is neither a folder, a block device nor a file",
			   want->path);
}

int cvb_place_recheck(const struct cvb_place *p, struct cvb_err *err)
{
	struct stat st;
	int r;

	if (!p->marked)
		return 0;
	if (fstat(p->fd, &st) < 0 || !S_ISBLK(st.st_mode) || st.st_rdev != p->device)
		return cvb_err_set(err, -EINVAL, "%s became another device meanwhile", p->path);
	r = cvb_scratch_still_marked(p->hold_fd, err);
	return r < 0 ? cvb_err_wrap(err, r, "not writing to %s any more", p->path) : 0;
}

/* A hole reads as zero, without the disk. */
int cvb_place_verify(const struct cvb_place *p, uint64_t seed, struct cvb_err *err)
{
	unsigned char buf[CHECK_BYTES];

	for (unsigned i = 0; i < CHECKS && !p->read_only; i++) {
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
	if (p->fd >= 0)
		close(p->fd);
	if (p->hold_fd >= 0)
		close(p->hold_fd);
	free(p->path);
	*p = CVB_PLACE_NONE;
}
