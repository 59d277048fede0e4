/* SPDX-License-Identifier: Apache-2.0 */
#include "measure/memory.h"

#include "core/file.h"
#include "core/opt.h"
#include "core/util.h"

#include <errno.h>
#include <inttypes.h>
#include <numa.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES (2 * CVB_MIB)

const char *const cvb_pages_names[] = {"4k", "thp", "2m", "1g", NULL};
const char *const cvb_pages_choices[] = {"4k", "thp", "2m", "1g", "all", NULL};

int cvb_meminfo_bytes(const char *name, uint64_t *ret_bytes)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/meminfo", "re");
	size_t n = strlen(name);
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, n) && line[n] == ':' &&
		    sscanf(line + n + 1, "%" SCNu64, ret_bytes) == 1) {
			*ret_bytes *= CVB_KIB;
			return 0;
		}
	return -ENOENT;
}

uint64_t cvb_mem_available_bytes(void)
{
	uint64_t bytes;

	return cvb_meminfo_bytes("MemAvailable", &bytes) == 0 ? bytes : 0;
}

/* --- page sizes ------------------------------------------------------------------------------ */

size_t cvb_pages_bytes(enum cvb_pages pages)
{
	if (pages == CVB_PAGES_1G)
		return CVB_GIB;
	return pages == CVB_PAGES_4K ? 4096 : HUGE_BYTES;
}

static bool is_hugetlb(enum cvb_pages pages)
{
	return pages == CVB_PAGES_2M || pages == CVB_PAGES_1G;
}

int cvb_pages_check(enum cvb_pages pages, uint64_t bytes, struct cvb_err *err)
{
	size_t page = cvb_pages_bytes(pages);
	uint64_t wanted = (bytes + page - 1) / page, have = 0;
	char path[128], text[128];

	if (pages == CVB_PAGES_THP &&
	    (cvb_file_read_line("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text)) <
		     0 ||
	     strstr(text, "[never]")))
		return cvb_err_set(err, -EOPNOTSUPP,
				   "this kernel gives no transparent huge pages "
				   "(/sys/kernel/mm/transparent_hugepage/enabled)");
	if (!is_hugetlb(pages))
		return 0;
	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%zukB/free_hugepages",
		 page / CVB_KIB);
	if (cvb_file_read_u64(path, &have) < 0)
		return cvb_err_set(err, -EOPNOTSUPP, "this kernel or CPU has no pages of %zu MiB",
				   page / CVB_MIB);
	if (have < wanted)
		return cvb_err_set(
			err, -EOPNOTSUPP,
			"%" PRIu64 " huge pages of %zu MiB are free, %" PRIu64 " are wanted (%s)",
			have, page / CVB_MIB, wanted,
			pages == CVB_PAGES_2M ? "vm.nr_hugepages"
					      : "hugepagesz=1G hugepages=N when the kernel boots");
	return 0;
}

/* --- mapping --------------------------------------------------------------------------------- */

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
	/* reserved huge pages are not part of what is available */
	if (available && bytes > available && !is_hugetlb(pages))
		return cvb_err_set(err, -ENOMEM,
				   "a buffer of %zu MiB does not fit: %" PRIu64
				   " MiB of memory are available",
				   bytes >> 20, available >> 20);
	if (is_hugetlb(pages)) {
		size_t page = cvb_pages_bytes(pages);
		int r = cvb_pages_check(pages, bytes, err);

		if (r < 0)
			return r;
		flags |= MAP_HUGETLB | (__builtin_ctzl(page) << MAP_HUGE_SHIFT);
		bytes = (bytes + page - 1) & ~(page - 1);
		flags &= ~MAP_NORESERVE; /* fail here, not by SIGBUS at first touch */
	} else {
		bytes = (bytes + 4095) & ~(size_t)4095;
		slack = bytes >= HUGE_BYTES ? HUGE_BYTES : 0;
	}
	char *p = mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (p == MAP_FAILED && is_hugetlb(pages))
		return cvb_err_set(err, -EOPNOTSUPP, "no %zu MiB in %s pages: %s", bytes >> 20,
				   cvb_pages_names[pages], strerror(errno));
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
	if (!is_hugetlb(pages))
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

/* --- what was got ---------------------------------------------------------------------------- */

double cvb_mem_huge_ratio(const struct cvb_mem *m)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/smaps", "re");
	uintptr_t low = (uintptr_t)m->p, high = low + m->bytes, from, to;
	double resident = 0, huge = 0;
	bool ours = false;
	char line[512];
	uint64_t kib;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
			ours = from < high && to > low;
		else if (ours && sscanf(line, "Rss: %" SCNu64, &kib) == 1)
			resident += (double)kib;
		else if (ours && sscanf(line, "AnonHugePages: %" SCNu64, &kib) == 1)
			huge += (double)kib;
	}
	return resident > 0 ? huge / resident : -1;
}

double cvb_mem_node_ratio(const struct cvb_mem *m, int numa_node)
{
	enum {
		LOOKS = 256
	};
	void *page[LOOKS];
	int status[LOOKS], seen = 0, there = 0;
	size_t pages = m->bytes / 4096, n = cvb_min((size_t)LOOKS, pages);

	if (!n || numa_available() < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		page[i] = (char *)m->p + pages * i / n * 4096;
	if (numa_move_pages(/* pid= */ 0, n, page, /* nodes= */ NULL, status, /* flags= */ 0) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		seen += status[i] >= 0; /* not touched: -ENOENT */
		there += status[i] == numa_node;
	}
	return seen ? (double)there / seen : -1;
}

/* --- NUMA nodes ------------------------------------------------------------------------------ */

static void one_node(struct cvb_nodes *n, const cpu_set_t *allowed)
{
	*n = (struct cvb_nodes){.n_cpu = 1, .n_mem = 1, .cpus = {(unsigned)CPU_COUNT(allowed)}};
	while (n->first_cpu[0] < CPU_SETSIZE - 1 && !CPU_ISSET((size_t)n->first_cpu[0], allowed))
		n->first_cpu[0]++;
}

static void add_cpu(struct cvb_nodes *n, int node, int cpu)
{
	for (unsigned i = 0; i < n->n_cpu; i++)
		if (n->cpu[i] == node) {
			n->cpus[i]++;
			return;
		}
	if (n->n_cpu == CVB_MAX_NODES)
		return;
	n->cpu[n->n_cpu] = node;
	n->first_cpu[n->n_cpu] = cpu;
	n->cpus[n->n_cpu++] = 1;
}

void cvb_nodes_read(struct cvb_nodes *ret)
{
	cpu_set_t allowed;

	*ret = (struct cvb_nodes){0};
	CPU_ZERO(&allowed);
	/* of the process, not of the calling thread: a worker is pinned */
	if (sched_getaffinity(getpid(), sizeof(allowed), &allowed) < 0)
		CPU_SET(0, &allowed);
	if (numa_available() < 0) {
		one_node(ret, &allowed);
		return;
	}
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET((size_t)cpu, &allowed) && numa_node_of_cpu(cpu) >= 0)
			add_cpu(ret, numa_node_of_cpu(cpu), cpu);
	for (int node = 0; node <= numa_max_node() && ret->n_mem < CVB_MAX_NODES; node++)
		if (numa_bitmask_isbitset(numa_all_nodes_ptr, (unsigned)node))
			ret->mem[ret->n_mem++] = node;
	if (!ret->n_cpu || !ret->n_mem)
		one_node(ret, &allowed);
}

int cvb_run_on_cpu(int cpu)
{
	cpu_set_t set;

	if (cpu < 0 || cpu >= CPU_SETSIZE)
		return -EINVAL;
	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

/* --- caches ---------------------------------------------------------------------------------- */

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

/* Each is counted at the first of its CPUs. */
uint64_t cvb_all_last_caches_bytes(void)
{
	uint64_t total = 0, size, level;

	for (unsigned cpu = 0; cpu < 4096; cpu++) {
		char path[128], text[64];
		uint64_t last = 0, first = 0;

		for (unsigned i = 0;; i++) {
			const char *dir = "/sys/devices/system/cpu";

			snprintf(path, sizeof(path), "%s/cpu%u/cache/index%u/level", dir, cpu, i);
			if (cvb_file_read_u64(path, &level) < 0)
				break;
			snprintf(path, sizeof(path), "%s/cpu%u/cache/index%u/size", dir, cpu, i);
			if (cvb_file_read_line(path, text, sizeof(text)) < 0 ||
			    cvb_parse_size(text, &size) < 0 || size <= last)
				continue;
			snprintf(path, sizeof(path), "%s/cpu%u/cache/index%u/shared_cpu_list", dir,
				 cpu, i);
			if (cvb_file_read_line(path, text, sizeof(text)) < 0)
				continue;
			last = size;
			first = strtoull(text, NULL, 10);
		}
		if (last && first == cpu)
			total += last;
	}
	return total;
}
