/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counting the kernel's complaints about a full pool: a packet pipe stands for /dev/kmsg, since it
 * too gives one record a read.
 */
#include "fixture.h"

#include "machine/swiotlb.h"

#include <fcntl.h>

static const char *const records[] = {
	/* the kernel's, with a tag line */
	"4,1201,99000001,-;virtio_blk virtio1: swiotlb buffer is full (sz: 262144 bytes), total "
	"32768 (slots), used 32760 (slots)\n SUBSYSTEM=virtio\n DEVICE=+virtio:virtio1\n",
	"4,1202,99000002,-;nvme 0000:00:04.0: swiotlb buffer is full (sz: 4096 bytes), total 32768 "
	"(slots), used 32767 (slots)\n",
};

static const char *const others[] = {
	/* a program's: facility 1 */
	"12,1203,99000003,-;swiotlb buffer is full, says a program\n",
	"6,1204,99000004,-;software IO TLB: mapped [mem 0x7b000000-0x7f000000] (64MB)\n",
	"6,1205,99000005,-;swiotlb: full\n", /* counted: see below */
	/* the words only in the tags */
	"6,1206,99000006,-;something else\n SUBSYSTEM=swiotlb full\n",
	"no record at all: swiotlb full\n",
	"4294967300,1,1,-;swiotlb buffer is full\n",
	"-4,1,1,-;swiotlb buffer is full\n",
	"4;swiotlb buffer is full\n",
	"",
};

static int pipe_with(const char *const *lines, size_t n, int *ret_in)
{
	int fd[2];

	assert_int_equal(pipe2(fd, O_CLOEXEC | O_NONBLOCK | O_DIRECT), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(write(fd[1], lines[i], strlen(lines[i])), strlen(lines[i]));
	*ret_in = fd[1];
	return fd[0];
}

static void test_counts(void **state)
{
	_cleanup_close_ int in = -1, out = -1;

	(void)state;
	out = pipe_with(records, CVB_ARRAY_LEN(records), &in);
	assert_int_equal(cvb_swiotlb_count_full(out), 2);
	/* what was read is not counted again, and an empty log does not make it wait */
	assert_int_equal(cvb_swiotlb_count_full(out), 0);
}

static void test_other_records(void **state)
{
	_cleanup_close_ int in = -1, out = -1;

	(void)state;
	out = pipe_with(others, CVB_ARRAY_LEN(others) - 1, &in);
	assert_int_equal(cvb_swiotlb_count_full(out), 1);
}

static void test_no_log(void **state)
{
	(void)state;
	assert_int_equal(cvb_swiotlb_count_full(-1), 0);
}

/* Both ends on this machine, whatever it has: never a crash, never a negative number. */
static void test_watch(void **state)
{
	struct cvb_swiotlb_watch w;
	const char *key;
	json_t *v;

	(void)state;
	cvb_swiotlb_watch_start(&w);

	_cleanup_json_ json_t *seen = cvb_swiotlb_watch_end(&w, "/dev/null");

	assert_int_equal(w.kmsg_fd, -1);
	assert_true(json_is_null(seen) || json_is_object(seen));
	assert_null(json_object_get(seen, "max_sectors_kb")); /* /dev/null is no block device */
	json_object_foreach (seen, key, v)
		assert_true(json_is_integer(v) && json_integer_value(v) >= 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_other_records),
		cmocka_unit_test(test_no_log),
		cmocka_unit_test(test_watch),
	};

	return cmocka_run_group_tests_name("disk: swiotlb telemetry", tests, NULL, NULL);
}
