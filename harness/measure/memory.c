/* SPDX-License-Identifier: Apache-2.0 */
#include "measure/memory.h"

#include "core/file.h"
#include "core/opt.h"
#include "core/util.h"

#include <errno.h>
#include <inttypes.h>
#include <numa.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES (2 * CVB_MIB)

const char *const cvb_pages_names[] = {"4k", "thp", "2m", NULL};

uint64_t cvb_mem_available_bytes(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/meminfo", "re");
	char line[256];
	uint64_t kib;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1)
			return kib * CVB_KIB;
	return 0;
}

static int place(const struct cvb_mem *m, int numa_node, struct cvb_err *err)
{
	if (numa_node < 0)
		return 0;
	if (numa_available() < 0 || numa_node > numa_max_node())
		return cvb_err_set(err, -EOPNOTSUPP, "this machine has no NUMA node %d", numa_node);
	numa_tonode_memory(m->p, m->bytes, numa_node);
	return 0;
}

int cvb_mem_map(struct cvb_mem *m, size_t bytes, enum cvb_pages pages, int numa_node,
		struct cvb_err *err)
{
	uint64_t available = cvb_mem_available_bytes();
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	size_t slack = 0;

	*m = (struct cvb_mem){0};
	if (available && bytes > available)
		return cvb_err_set(err, -ENOMEM,
				   "a buffer of %zu MiB does not fit: %" PRIu64
				   " MiB of memory are available",
				   bytes >> 20, available >> 20);
	if (pages == CVB_PAGES_2M) {
		flags |= MAP_HUGETLB | (21 << MAP_HUGE_SHIFT);
		bytes = (bytes + HUGE_BYTES - 1) & ~(size_t)(HUGE_BYTES - 1);
		flags &= ~MAP_NORESERVE; /* fail here, not by SIGBUS at first touch */
	} else {
		bytes = (bytes + 4095) & ~(size_t)4095;
		slack = bytes >= HUGE_BYTES ? HUGE_BYTES : 0;
	}
	char *p = mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (p == MAP_FAILED && pages == CVB_PAGES_2M)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "no %zu MiB of 2 MiB pages reserved (vm.nr_hugepages)",
				   bytes >> 20);
	if (p == MAP_FAILED)
		return cvb_err_set(err, -errno, "cannot map %zu MiB: %s", bytes >> 20,
				   strerror(errno));
	if (slack) {
		/* trim to a 2 MiB boundary, so that transparent huge pages can start at once */
		size_t head = (HUGE_BYTES - ((uintptr_t)p & (HUGE_BYTES - 1))) & (HUGE_BYTES - 1);

		if (head)
			munmap(p, head);
		if (slack - head)
			munmap(p + head + bytes, slack - head);
		p += head;
	}
	m->p = p;
	m->bytes = bytes;
	/* refused only by kernels without transparent huge pages, where there is nothing to advise
	 */
	if (pages != CVB_PAGES_2M)
		madvise(p, bytes, pages == CVB_PAGES_THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);

	int r = place(m, numa_node, err);

	if (r < 0)
		cvb_mem_unmap(m);
	return r;
}

void cvb_mem_touch(const struct cvb_mem *m, size_t offset, size_t bytes)
{
	volatile char *p = m->p;

	for (size_t i = offset; i < offset + bytes && i < m->bytes; i += 4096)
		p[i] = 0;
}

void cvb_mem_unmap(struct cvb_mem *m)
{
	if (m->p)
		munmap(m->p, m->bytes);
	*m = (struct cvb_mem){0};
}

/* Size of the data or unified cache at index `i` of CPU 0; its level in ret_level. */
static int cache_index(unsigned i, unsigned *ret_level, uint64_t *ret_bytes)
{
	char path[128], text[64];
	uint64_t level;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%u/level", i);
	if (cvb_file_read_u64(path, &level) < 0)
		return -ENOENT;
	*ret_level = (unsigned)level;
	*ret_bytes = 0;
	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%u/type", i);
	if (cvb_file_read_line(path, text, sizeof(text)) < 0 || !strcmp(text, "Instruction"))
		return 0;
	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%u/size", i);
	if (cvb_file_read_line(path, text, sizeof(text)) == 0)
		cvb_ignore(cvb_parse_size(text, ret_bytes)); /* stays 0 */
	return 0;
}

uint64_t cvb_cache_bytes(unsigned level)
{
	unsigned l;
	uint64_t bytes;

	for (unsigned i = 0; cache_index(i, &l, &bytes) == 0; i++)
		if (l == level && bytes)
			return bytes;
	return 0;
}

uint64_t cvb_last_cache_bytes(void)
{
	uint64_t last = 0, bytes;
	unsigned l;

	for (unsigned i = 0; cache_index(i, &l, &bytes) == 0; i++)
		last = cvb_max(last, bytes);
	return last;
}
