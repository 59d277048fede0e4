/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is told about the device under disk I/O: small sysfs trees stand for machines.
 */
#include "fixture.h"

#include "disk/backend.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static char root[64];

static void put(const char *name, const char *text)
{
	_cleanup_free_ char *path = cvb_strf("%s/%s", root, name);
	_cleanup_free_ char *folder = strdup(path);
	struct cvb_err err = {0};

	*strrchr(folder, '/') = '\0';
	assert_int_equal(cvb_mkdir_all(folder, &err), 0);

	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void put_link(const char *name, const char *target)
{
	_cleanup_free_ char *path = cvb_strf("%s/%s", root, name);
	_cleanup_free_ char *folder = strdup(path);
	struct cvb_err err = {0};

	*strrchr(folder, '/') = '\0';
	assert_int_equal(cvb_mkdir_all(folder, &err), 0);
	assert_int_equal(symlink(target, path), 0);
}

static int make_root(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "/tmp/cvb-backend-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int drop_root(void **state)
{
	(void)state;
	return cvb_remove_tree(root);
}

static const char *text_of(unsigned major_number, unsigned minor_number)
{
	static char buf[512];

	return cvb_backend_device_text(makedev(major_number, minor_number), root, buf, sizeof(buf));
}

static void has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" does not say \"%s\"", text, part);
}

/* As a guest with virtio-blk and one partition looks. */
static void test_virtio_blk(void **state)
{
	const char *disk = "devices/pci0/virtio2/block/vda";
	_cleanup_free_ char *q = cvb_strf("%s/queue/scheduler", disk);
	_cleanup_free_ char *s = cvb_strf("%s/queue/max_sectors_kb", disk);
	_cleanup_free_ char *g = cvb_strf("%s/queue/max_segment_size", disk);
	_cleanup_free_ char *c = cvb_strf("%s/queue/write_cache", disk);
	_cleanup_free_ char *d = cvb_strf("%s/device", disk);
	_cleanup_free_ char *p = cvb_strf("%s/vda1/partition", disk);

	(void)state;
	put(q, "none [mq-deadline] kyber \n");
	put(s, "1280\n");
	put(g, "262144\n");
	put(c, "write back\n");
	put(p, "1\n");
	put_link(d, "../..");
	put_link("devices/pci0/virtio2/driver", "../../../bus/virtio_blk");
	put("bus/virtio_blk/x", "");
	put_link("dev/block/254:0", "../../devices/pci0/virtio2/block/vda");
	put_link("dev/block/254:1", "../../devices/pci0/virtio2/block/vda/vda1");
	has(text_of(254, 0), "vda (virtio-blk): scheduler mq-deadline, rotational unknown, ");
	has(text_of(254, 0), "max_sectors_kb 1280, max_segment_size 262144");
	has(text_of(254, 0), "write cache \"write back\"");
	/* the queue is the disk's */
	has(text_of(254, 1), "vda1 (virtio-blk): scheduler mq-deadline");
}

static void test_kinds(void **state)
{
	static const struct {
		const char *link, *target, *driver, *says;
	} rows[] = {
		{"dev/block/7:3", "devices/virtual/block/loop3", NULL, "loop3 (loop): "},
		{"dev/block/252:0", "devices/virtual/block/nullb0", NULL, "nullb0 (null_blk): "},
		{"dev/block/259:0", "devices/pci1/nvme/nvme0/nvme0n1", NULL, "nvme0n1 (nvme): "},
		{"dev/block/253:0", "devices/virtual/block/dm-0", NULL, "dm-0 (device mapper): "},
		{"dev/block/8:0", "devices/pci2/virtio3/host0/target/sda", "sd",
		 "sda (virtio-scsi): "},
		{"dev/block/8:16", "devices/pci2/ata1/host1/target/sdb", "sd", "sdb (driver sd): "},
		{"dev/block/8:32", "devices/pci2/ata1/host1/target/odd", NULL,
		 "odd (driver unknown): "},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(rows); i++) {
		_cleanup_free_ char *queue = cvb_strf("%s/queue/rotational", rows[i].target);
		_cleanup_free_ char *to = cvb_strf("../../%s", rows[i].target);
		unsigned major_number, minor_number;

		put(queue, "0\n");
		put_link(rows[i].link, to);
		if (rows[i].driver) {
			_cleanup_free_ char *unit = cvb_strf("%s/device/x", rows[i].target);
			_cleanup_free_ char *link = cvb_strf("%s/device/driver", rows[i].target);
			_cleanup_free_ char *bus = cvb_strf("bus/%s/x", rows[i].driver);
			_cleanup_free_ char *driver = cvb_strf("%s/bus/%s", root, rows[i].driver);

			put(unit, "");
			put(bus, "");
			put_link(link, driver);
		}
		assert_int_equal(
			sscanf(rows[i].link, "dev/block/%u:%u", &major_number, &minor_number), 2);
		has(text_of(major_number, minor_number), rows[i].says);
		has(text_of(major_number, minor_number), "rotational 0");
	}
	has(text_of(99, 99), "no block device of its own");
}

static void test_file(void **state)
{
	char buf[512];
	_cleanup_close_ int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int shm = open("/dev/shm", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

	(void)state;
	assert_true(fd >= 0);
	has(cvb_backend_text(fd, root, buf, sizeof(buf)),
	    "file on file system 0x9fa0 on no block device");
	if (shm < 0)
		skip();
	has(cvb_backend_text(shm, root, buf, sizeof(buf)), "file on tmpfs on no block device");
}

/* A buffer too small cuts the text and no more. */
static void test_small_buffer(void **state)
{
	char buf[10];

	(void)state;
	put("devices/virtual/block/loop3/queue/rotational", "0\n");
	put_link("dev/block/7:3", "../../devices/virtual/block/loop3");
	cvb_backend_device_text(makedev(7, 3), root, buf, sizeof(buf));
	assert_string_equal(buf, "loop3 (lo");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_virtio_blk, make_root, drop_root),
		cmocka_unit_test_setup_teardown(test_kinds, make_root, drop_root),
		cmocka_unit_test_setup_teardown(test_file, make_root, drop_root),
		cmocka_unit_test_setup_teardown(test_small_buffer, make_root, drop_root),
	};

	return cmocka_run_group_tests_name("disk: backend", tests, NULL, NULL);
}
