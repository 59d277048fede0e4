/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be overwritten: small files stand for devices.
 */
#include "fixture.h"

#include "disk/scratch.h"

#include <fcntl.h>
#include <sys/mman.h>

#define SIZE_BYTES (8 * CVB_MIB)

/* An all-zero "device". */
static int blank(void)
{
	int fd = memfd_create("device", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE_BYTES), 0);
	return fd;
}

static void put(int fd, const void *data, size_t bytes, uint64_t offset)
{
	assert_int_equal(pwrite(fd, data, bytes, (off_t)offset), (ssize_t)bytes);
}

struct sign {
	const char *says;
	uint64_t offset;
	const char *magic;
	size_t bytes;
};

#define SIGN(says, offset, magic)                                                                  \
	{                                                                                          \
		says, offset, magic, sizeof(magic) - 1                                             \
	}

/* Offsets and magic numbers as the formats define them, not as the code under test has them. */
static const struct sign signs[] = {
	SIGN("MBR", 0x1fe, "\x55\xaa"),
	SIGN("GPT", 512, "EFI PART"),
	SIGN("GPT", 4096, "EFI PART"),
	SIGN("ext", 1024 + 0x38, "\x53\xef"),
	SIGN("XFS", 0, "XFSB"),
	SIGN("btrfs", 65536 + 64, "_BHRfS_M"),
	SIGN("LVM", 512, "LABELONE"),
	SIGN("LUKS", 0, "LUKS\xba\xbe"),
	SIGN("swap", 4096 - 10, "SWAPSPACE2"),
	SIGN("ISO", 32769, "CD001"),
	SIGN("NTFS", 3, "NTFS    "),
	SIGN("LVM", 1536, "LABELONE"),
	SIGN("LUKS", 0x4000, "SKUL\xba\xbe"),
	SIGN("BitLocker", 3, "-FVE-FS-"),
	SIGN("bcache", 0x1018, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
	SIGN("Ceph", 0, "bluestore block device"),
	SIGN("ReiserFS", 65536 + 52, "ReIsEr2Fs"),
	SIGN("JFS", 32768, "JFS1"),
	SIGN("GFS2", 65536, "\x01\x16\x19\x70"),
	SIGN("OCFS2", 8192, "OCFSV2"),
	SIGN("copy of a GPT", SIZE_BYTES - 512, "EFI PART"),
	SIGN("RAID", SIZE_BYTES - 8192, "\xfc\x4e\x2b\xa9"),
	SIGN("RAID", SIZE_BYTES - 65536, "\xfc\x4e\x2b\xa9"),
	SIGN("RAID", 4096, "\xfc\x4e\x2b\xa9"),
};

static void test_signatures(void **state)
{
	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(signs); i++) {
		_cleanup_close_ int fd = blank();
		struct cvb_err err = {0};
		uint64_t laid_out = 0;

		put(fd, signs[i].magic, signs[i].bytes, signs[i].offset);
		assert_int_equal(cvb_scratch_check(fd, SIZE_BYTES, &laid_out, &err), -EINVAL);
		assert_says(&err, signs[i].says);
	}
}

/* A file system's boot sector ends with 55 AA too: the message must name the file system. */
static void test_more_telling_first(void **state)
{
	_cleanup_close_ int fd = blank();
	struct cvb_err err = {0};
	uint64_t laid_out;

	(void)state;
	put(fd, "\x55\xaa", 2, 510);
	put(fd, "EXFAT   ", 8, 3);
	assert_int_equal(cvb_scratch_check(fd, SIZE_BYTES, &laid_out, &err), -EINVAL);
	assert_says(&err, "exFAT");
}

/* One byte that nobody knows, anywhere we promise to look. */
static void test_unknown_data(void **state)
{
	static const uint64_t places[] = {0, 700, CVB_MIB - 1, SIZE_BYTES - CVB_MIB,
					  SIZE_BYTES - 1};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(places); i++) {
		_cleanup_close_ int fd = blank();
		struct cvb_err err = {0};
		char where[32];
		uint64_t laid_out;

		put(fd, "x", 1, places[i]);
		assert_int_equal(cvb_scratch_check(fd, SIZE_BYTES, &laid_out, &err), -EINVAL);
		snprintf(where, sizeof(where), "byte %llu)", (unsigned long long)places[i]);
		assert_says(&err, where);
	}
}

/* Blank at both ends, data between: an unlabelled data disk. */
static void test_data_in_the_middle(void **state)
{
	_cleanup_close_ int fd = blank();
	_cleanup_free_ char *data = malloc(CVB_MIB);
	struct cvb_err err = {0};
	uint64_t laid_out;

	(void)state;
	assert_non_null(data);
	memset(data, 'd', CVB_MIB);
	put(fd, data, CVB_MIB, 4 * CVB_MIB);
	assert_int_equal(cvb_scratch_check(fd, SIZE_BYTES, &laid_out, &err), -EINVAL);
	assert_says(&err, "data of unknown kind");
}

/* Between the places that are looked at, one byte in the region to be overwritten. */
static void test_every_byte_of_the_region(void **state)
{
	_cleanup_close_ int fd = blank();
	struct cvb_err err = {0};
	uint64_t laid_out = 0;

	(void)state;
	put(fd, "x", 1, 5 * CVB_MIB + 77777);
	assert_int_equal(cvb_scratch_check(fd, SIZE_BYTES, &laid_out, &err), 0);
	assert_int_equal(cvb_scratch_blank(fd, CVB_MIB, 5 * CVB_MIB + 77777, &err), 0);
	assert_int_equal(cvb_scratch_blank(fd, CVB_MIB, 7 * CVB_MIB, &err), -EINVAL);
	assert_says(&err, "byte 5320657)");
}

/* What a look right before each use sees. */
static void test_still_marked(void **state)
{
	_cleanup_close_ int fd = blank();
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(cvb_scratch_still_marked(fd, &err), -EINVAL);
	assert_int_equal(cvb_scratch_mark(fd, 3 * CVB_MIB, &err), 0);
	assert_int_equal(cvb_scratch_still_marked(fd, &err), 0);
	put(fd, "\x53\xef", 2, 65536 + 1080);
	assert_int_equal(cvb_scratch_still_marked(fd, &err), -EINVAL);
	assert_int_equal(cvb_scratch_mark(fd, 3 * CVB_MIB, &err), 0);
	put(fd, "XFSB", 4, 0);
	assert_int_equal(cvb_scratch_still_marked(fd, &err), -EINVAL);
	assert_says(&err, "no longer carries our marker");
}

static void test_blank_then_marked(void **state)
{
	_cleanup_close_ int fd = blank();
	struct cvb_err err = {0};
	uint64_t laid_out = 7;

	(void)state;
	assert_int_equal(cvb_scratch_check(fd, SIZE_BYTES, &laid_out, &err), 0);
	assert_int_equal(laid_out, 0);
	assert_int_equal(cvb_scratch_mark(fd, 3 * CVB_MIB, &err), 0);
	put(fd, "our random data", 15, CVB_MIB);
	put(fd, "our random data", 15, 3 * CVB_MIB);
	assert_int_equal(cvb_scratch_check(fd, SIZE_BYTES, &laid_out, &err), 0);
	assert_int_equal(laid_out, 3 * CVB_MIB);

	/* the marker excuses nothing outside the measured region */
	put(fd, "x", 1, SIZE_BYTES - 1);
	assert_int_equal(cvb_scratch_check(fd, SIZE_BYTES, &laid_out, &err), -EINVAL);
}

/* A marker that something wrote into is no marker. */
static void test_spoilt_marker(void **state)
{
	static const struct {
		uint64_t offset;
		const char *text;
	} spoilt[] = {{0, "C"},
		      {20, "-"},
		      {53, "x"},
		      {67, "-1\n"},
		      {67, "9999999999999999999999\n"},
		      {1000, "x"},
		      {4095, "x"},
		      {4096, "x"}};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(spoilt); i++) {
		_cleanup_close_ int fd = blank();
		struct cvb_err err = {0};
		uint64_t laid_out;

		assert_int_equal(cvb_scratch_mark(fd, 0, &err), 0);
		put(fd, spoilt[i].text, strlen(spoilt[i].text), spoilt[i].offset);
		if (cvb_scratch_check(fd, SIZE_BYTES, &laid_out, &err) != -EINVAL)
			fail_msg("marker with \"%s\" at %llu was taken", spoilt[i].text,
				 (unsigned long long)spoilt[i].offset);
	}
}

/* A marker may claim more than the device has. */
static void test_marker_claims_too_much(void **state)
{
	_cleanup_close_ int fd = blank();
	struct cvb_err err = {0};
	uint64_t laid_out;

	(void)state;
	assert_int_equal(cvb_scratch_mark(fd, UINT64_MAX, &err), 0);
	assert_int_equal(cvb_scratch_check(fd, SIZE_BYTES, &laid_out, &err), 0);
	assert_int_equal(laid_out, SIZE_BYTES - 2 * CVB_MIB);
}

static void test_small_or_short(void **state)
{
	_cleanup_close_ int fd = blank();
	struct cvb_err err = {0};
	uint64_t laid_out;

	(void)state;
	assert_int_equal(cvb_scratch_check(fd, 3 * CVB_MIB, &laid_out, &err), -EINVAL);
	assert_says(&err, "smaller than");
	assert_int_equal(cvb_scratch_check(fd, SIZE_BYTES + CVB_MIB, &laid_out, &err), -EINVAL);
	assert_says(&err, "before its stated size");
}

/* Marking makes a device ours whatever was on it; that is what device_confirm is for. */
static void test_mark_clears_the_first_mib(void **state)
{
	_cleanup_close_ int fd = blank();
	struct cvb_err err = {0};
	uint64_t laid_out;

	(void)state;
	put(fd, "\x53\xef", 2, 1080);
	put(fd, "_BHRfS_M", 8, 65536 + 64);
	assert_int_equal(cvb_scratch_mark(fd, 0, &err), 0);
	assert_int_equal(cvb_scratch_check(fd, SIZE_BYTES, &laid_out, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signatures),
		cmocka_unit_test(test_more_telling_first),
		cmocka_unit_test(test_unknown_data),
		cmocka_unit_test(test_data_in_the_middle),
		cmocka_unit_test(test_every_byte_of_the_region),
		cmocka_unit_test(test_still_marked),
		cmocka_unit_test(test_blank_then_marked),
		cmocka_unit_test(test_spoilt_marker),
		cmocka_unit_test(test_marker_claims_too_much),
		cmocka_unit_test(test_small_or_short),
		cmocka_unit_test(test_mark_clears_the_first_mib),
	};

	return cmocka_run_group_tests_name("disk: scratch devices", tests, NULL, NULL);
}
