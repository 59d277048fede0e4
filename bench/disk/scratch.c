/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/scratch.h"

#include "core/stop.h"
#include "core/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define MARKER_TEXT  "cvmbench scratch device, overwritten without asking\n"
#define MARKER_BYTES 4096
#define SPOT_BYTES   4096
#define SPOTS	     64
#define BLANK_CHUNK  CVB_MIB
#define WINDOW_BYTES (128 * CVB_KIB) /* every signature's offset lies within */

struct signature {
	size_t offset;
	const char *magic;
	size_t magic_bytes;
	const char *name;
};

#define SIG(off, text, what)                                                                       \
	{                                                                                          \
		off, text, sizeof(text) - 1, what                                                  \
	}

/* The more telling first: a file system's boot sector also ends with 55 AA. */
static const struct signature signatures[] = {
	SIG(512, "EFI PART", "a GPT partition table"),
	SIG(4096, "EFI PART", "a GPT partition table (4 KiB sectors)"),
	SIG(1080, "\x53\xef", "an ext2/3/4 file system"),
	SIG(0, "XFSB", "an XFS file system"),
	SIG(0x10040, "_BHRfS_M", "a btrfs file system"),
	SIG(0, "LUKS\xba\xbe", "a LUKS volume"),
	SIG(0x4000, "SKUL\xba\xbe", "the second header of a LUKS volume"),
	SIG(3, "-FVE-FS-", "a BitLocker volume"),
	/* LVM's label may stand in any of the first four sectors */
	SIG(512, "LABELONE", "an LVM physical volume"),
	SIG(0, "LABELONE", "an LVM physical volume"),
	SIG(1024, "LABELONE", "an LVM physical volume"),
	SIG(1536, "LABELONE", "an LVM physical volume"),
	SIG(4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca", "a bcache device"),
	SIG(0, "bluestore block device", "a Ceph volume"),
	SIG(4086, "SWAPSPACE2", "swap space"),
	SIG(4086, "SWAP-SPACE", "swap space"),
	SIG(65526, "SWAPSPACE2", "swap space"),
	SIG(4096, "\xfc\x4e\x2b\xa9", "a member of a Linux RAID"),
	SIG(0, "\xfc\x4e\x2b\xa9", "a member of a Linux RAID"),
	SIG(3, "NTFS    ", "an NTFS file system"),
	SIG(3, "EXFAT   ", "an exFAT file system"),
	SIG(54, "FAT1", "a FAT file system"),
	SIG(82, "FAT32", "a FAT file system"),
	SIG(1024, "\x10\x20\xf5\xf2", "an F2FS file system"),
	SIG(0x10034, "ReIsEr", "a ReiserFS file system"),
	SIG(0x8000, "JFS1", "a JFS file system"),
	SIG(0x10000, "\x01\x16\x19\x70", "a GFS2 file system"),
	SIG(0x2000, "OCFSV2", "an OCFS2 file system"),
	SIG(0x8001, "CD001", "an ISO 9660 file system"),
	SIG(0, "hsqs", "a squashfs file system"),
	SIG(0x400, "\xe2\xe1\xf5\xe0", "an EROFS file system"),
	SIG(510, "\x55\xaa", "an MBR partition table or boot sector"),
};

const char *cvb_scratch_signature(const unsigned char *head, size_t head_bytes)
{
	for (size_t i = 0; i < CVB_ARRAY_LEN(signatures); i++) {
		const struct signature *s = &signatures[i];

		if (s->offset + s->magic_bytes <= head_bytes &&
		    !memcmp(head + s->offset, s->magic, s->magic_bytes))
			return s->name;
	}
	return NULL;
}

/* Like that, but sure enough for random data: a magic of two bytes stands there by chance too
 * often. */
static const char *sure_signature(const unsigned char *head, size_t head_bytes)
{
	for (size_t i = 0; i < CVB_ARRAY_LEN(signatures); i++) {
		const struct signature *s = &signatures[i];

		if (s->magic_bytes >= 4 && s->offset + s->magic_bytes <= head_bytes &&
		    !memcmp(head + s->offset, s->magic, s->magic_bytes))
			return s->name;
	}
	/* ext: its magic, a block size of at most 64 KiB and a state of known bits */
	if (head_bytes > 1084 && head[1080] == 0x53 && head[1081] == 0xef && head[1048] <= 6 &&
	    !head[1049] && !head[1050] && !head[1051] && head[1082] <= 7 && !head[1083])
		return "an ext2/3/4 file system";
	return NULL;
}

/* What lies at the end of a device: `edge` is its last MiB. */
static const char *tail_signature(const unsigned char *edge, uint64_t size_bytes)
{
	const unsigned char *end = edge + CVB_SCRATCH_EDGE_BYTES;
	/* version 1.0 lies 8 KiB before the end, 0.90 in the last whole 64 KiB but one */
	size_t from_end_10 = 8192 + (size_t)(size_bytes % 4096);
	size_t from_end_090 = 65536 + (size_t)(size_bytes % 65536);

	if (!memcmp(end - 512, "EFI PART", 8) || !memcmp(end - 4096, "EFI PART", 8))
		return "the copy of a GPT partition table";
	if (!memcmp(end - from_end_10, "\xfc\x4e\x2b\xa9", 4) ||
	    !memcmp(end - from_end_090, "\xfc\x4e\x2b\xa9", 4))
		return "a member of a Linux RAID";
	return NULL;
}

static int read_at(int fd, uint64_t offset, unsigned char *buf, size_t bytes, struct cvb_err *err)
{
	for (size_t got = 0; got < bytes;) {
		ssize_t n = pread(fd, buf + got, bytes - got, (off_t)(offset + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return cvb_err_set(err, -errno, "cannot read at byte %" PRIu64 ": %s",
					   offset + got, strerror(errno));
		if (n == 0)
			return cvb_err_set(err, -EINVAL,
					   "ends at byte %" PRIu64 ", before its stated size",
					   offset + got);
		got += (size_t)n;
	}
	return 0;
}

static int must_be_zero(const unsigned char *buf, size_t from, size_t bytes, uint64_t offset,
			struct cvb_err *err)
{
	for (size_t i = from; i < bytes; i++)
		if (buf[i])
			return cvb_err_set(err, -EINVAL,
					   "holds data of unknown kind (first at byte %" PRIu64 ")",
					   offset + i);
	return 0;
}

/* Is the first block our marker, whole and unaltered?  What it says was laid out. */
static bool read_marker(const unsigned char *head, uint64_t *ret_laid_out)
{
	static const char key[] = "laid_out_bytes=";
	const char *text = (const char *)head + sizeof(MARKER_TEXT) - 1;
	char *end;

	if (memcmp(head, MARKER_TEXT, sizeof(MARKER_TEXT) - 1) != 0 ||
	    memcmp(text, key, sizeof(key) - 1) != 0 || !memchr(text, '\n', 64))
		return false;
	text += sizeof(key) - 1;
	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*ret_laid_out = strtoull(text, &end, 10);
	if (errno || *end != '\n')
		return false;
	for (const unsigned char *p = (const unsigned char *)end + 1; p < head + MARKER_BYTES; p++)
		if (*p)
			return false;
	return true;
}

/* A device whose ends are blank may still carry data without a label: look at places between. */
static int check_spots(int fd, uint64_t from, uint64_t size_bytes, struct cvb_err *err)
{
	unsigned char buf[SPOT_BYTES];
	uint64_t end = size_bytes - CVB_SCRATCH_EDGE_BYTES - SPOT_BYTES;

	for (unsigned i = 0; i < SPOTS && from < end; i++) {
		uint64_t at = from + (end - from) / SPOTS * i / SPOT_BYTES * SPOT_BYTES;
		int r = read_at(fd, at, buf, sizeof(buf), err);

		if (r == 0)
			r = must_be_zero(buf, 0, sizeof(buf), at, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A marked device may have got a file system since, behind the marker (a mapping or partition that
 * starts later): look where one may start in what should be our random data. */
static int check_laid_out(int fd, uint64_t laid_out, struct cvb_err *err)
{
	_cleanup_free_ unsigned char *head = malloc(WINDOW_BYTES);

	if (!head)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (uint64_t at = 0; at + WINDOW_BYTES <= laid_out; at += CVB_MIB) {
		const char *found;
		int r = read_at(fd, CVB_SCRATCH_EDGE_BYTES + at, head, WINDOW_BYTES, err);

		if (r < 0)
			return r;
		found = sure_signature(head, WINDOW_BYTES);
		if (found)
			return cvb_err_set(err, -EINVAL, "carries %s at byte %" PRIu64, found,
					   CVB_SCRATCH_EDGE_BYTES + at);
	}
	return 0;
}

/* RAID superblocks and the copy of a GPT lie at the end.  `edge` is room for one MiB. */
static int check_tail(int fd, uint64_t size_bytes, unsigned char *edge, struct cvb_err *err)
{
	const char *found;
	int r = read_at(fd, size_bytes - CVB_SCRATCH_EDGE_BYTES, edge, CVB_SCRATCH_EDGE_BYTES, err);

	if (r < 0)
		return r;
	found = tail_signature(edge, size_bytes);
	if (found)
		return cvb_err_set(err, -EINVAL, "carries %s at its end", found);
	return must_be_zero(edge, 0, CVB_SCRATCH_EDGE_BYTES, size_bytes - CVB_SCRATCH_EDGE_BYTES,
			    err);
}

int cvb_scratch_check(int fd, uint64_t size_bytes, uint64_t *ret_laid_out, struct cvb_err *err)
{
	_cleanup_free_ unsigned char *edge = NULL;
	uint64_t laid_out = 0;
	size_t from = 0;
	int r;

	if (size_bytes < 4 * CVB_SCRATCH_EDGE_BYTES)
		return cvb_err_set(err, -EINVAL, "is smaller than 4 MiB");
	edge = malloc(CVB_SCRATCH_EDGE_BYTES);
	if (!edge)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = read_at(fd, 0, edge, CVB_SCRATCH_EDGE_BYTES, err);
	if (r < 0)
		return r;

	const char *found = cvb_scratch_signature(edge, CVB_SCRATCH_EDGE_BYTES);

	if (found)
		return cvb_err_set(err, -EINVAL, "carries %s", found);
	if (read_marker(edge, &laid_out))
		from = MARKER_BYTES;
	r = must_be_zero(edge, from, CVB_SCRATCH_EDGE_BYTES, 0, err);
	if (r < 0)
		return r;
	r = check_tail(fd, size_bytes, edge, err);
	laid_out = cvb_min(laid_out, size_bytes - 2 * CVB_SCRATCH_EDGE_BYTES);
	if (r == 0)
		r = check_laid_out(fd, laid_out, err);
	/* the region is filled from its start, so what follows must still be blank; a fill that was
	 * cut off is told as unknown data, which is safe */
	if (r == 0)
		r = check_spots(fd, CVB_SCRATCH_EDGE_BYTES + laid_out, size_bytes, err);
	if (r < 0)
		return r;
	*ret_laid_out = laid_out;
	return 0;
}

int cvb_scratch_blank(int fd, uint64_t from, uint64_t to, struct cvb_err *err)
{
	_cleanup_free_ unsigned char *buf = malloc(BLANK_CHUNK);

	if (!buf)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	while (from < to) {
		size_t bytes = (size_t)cvb_min(BLANK_CHUNK, to - from);
		int r;

		if (cvb_stop_requested())
			return cvb_err_set(err, -EINTR, "interrupted while looking for data");
		r = read_at(fd, from, buf, bytes, err);
		if (r == 0)
			r = must_be_zero(buf, 0, bytes, from, err);
		if (r < 0)
			return r;
		from += bytes;
	}
	return 0;
}

int cvb_scratch_still_marked(int fd, struct cvb_err *err)
{
	_cleanup_free_ unsigned char *edge = malloc(CVB_SCRATCH_EDGE_BYTES);
	uint64_t laid_out;
	int r;

	if (!edge)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = read_at(fd, 0, edge, CVB_SCRATCH_EDGE_BYTES, err);
	if (r < 0)
		return r;
	if (!read_marker(edge, &laid_out))
		return cvb_err_set(err, -EINVAL, "no longer carries our marker");
	return must_be_zero(edge, MARKER_BYTES, CVB_SCRATCH_EDGE_BYTES, 0, err);
}

int cvb_scratch_mark(int fd, uint64_t laid_out_bytes, struct cvb_err *err)
{
	_cleanup_free_ char *edge = calloc(1, CVB_SCRATCH_EDGE_BYTES);

	if (!edge)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	snprintf(edge, MARKER_BYTES, "%slaid_out_bytes=%" PRIu64 "\n", MARKER_TEXT, laid_out_bytes);
	for (size_t done = 0; done < CVB_SCRATCH_EDGE_BYTES;) {
		ssize_t n = pwrite(fd, edge + done, CVB_SCRATCH_EDGE_BYTES - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return cvb_err_set(err, n < 0 ? -errno : -ENOSPC,
					   "cannot write the marker: %s", strerror(errno));
		done += (size_t)n;
	}
	if (fdatasync(fd) < 0)
		return cvb_err_set(err, -errno, "cannot write the marker: %s", strerror(errno));
	return 0;
}
