/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How to make the bytes of an extent: see virt_node.h.
 */
#include "gpu/virt_node.h"

#include "core/util.h"

#include <string.h>
#include <sys/mman.h>

enum {
	PAGE = 4096,
};

void *virt_map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	/* a large page would give memory to its untouched neighbours; a kernel without has none */
	cvb_ignore(madvise(p, bytes, MADV_NOHUGEPAGE));
	return p;
}

/* ---- nodes ---- */

struct virt_node *virt_node_new(enum virt_node_kind kind, unsigned depth)
{
	struct virt_node *n = calloc(1, sizeof(*n));

	if (n) {
		n->refs = 1;
		n->kind = kind;
		n->depth = depth;
	}
	return n;
}

void virt_node_drop(struct virt_node *n)
{
	if (--n->refs)
		return;
	switch (n->kind) {
	case VIRT_NODE_BYTES:
		if (n->mem.map_bytes)
			munmap(n->mem.p - n->mem.skew, n->mem.map_bytes);
		else
			free(n->mem.p);
		free(n->mem.touched);
		break;
	case VIRT_NODE_TRIAD:
		virt_content_drop(n->triad.x);
		virt_content_drop(n->triad.y);
		break;
	case VIRT_NODE_GEMM:
		virt_content_drop(n->gemm.a);
		virt_content_drop(n->gemm.b);
		virt_content_drop(n->gemm.c);
		break;
	case VIRT_NODE_BYTE:
	case VIRT_NODE_PATTERN:
		break;
	}
	free(n);
}

static bool bit(const uint64_t *bits, size_t i)
{
	return bits[i / 64] >> i % 64 & 1;
}

/*
 * From `offset` on, how many of `bytes` are all untouched or all touched; *ret_touched says which.
 */
static size_t mem_run(const struct virt_node *n, size_t offset, size_t bytes, bool *ret_touched)
{
	size_t at = n->mem.skew + offset, end = at + bytes, page = at / PAGE;

	*ret_touched = true;
	if (!n->mem.touched)
		return bytes;
	*ret_touched = bit(n->mem.touched, page);
	do {
		page++;
		/* a whole word of untouched pages at a time */
		while (!*ret_touched && page % 64 == 0 && page * PAGE < end &&
		       !n->mem.touched[page / 64])
			page += 64;
	} while (page * PAGE < end && bit(n->mem.touched, page) == *ret_touched);
	return cvb_min(page * PAGE, end) - at;
}

static void mem_read(const struct virt_node *n, size_t offset, size_t bytes, uint8_t *out)
{
	while (bytes) {
		bool touched;
		size_t run = mem_run(n, offset, bytes, &touched);

		if (touched)
			memcpy(out, n->mem.p + offset, run);
		else
			memset(out, 0, run);
		offset += run;
		out += run;
		bytes -= run;
	}
}

/* Words first … first + count - 1 of an operation of words. */
static void words_read(const struct virt_node *n, size_t first, size_t count, uint64_t *out)
{
	if (n->kind == VIRT_NODE_PATTERN) {
		for (size_t i = 0; i < count; i++)
			out[i] = cvb_gpu_pattern(n->seed, first + i);
		return;
	}
	double x[VIRT_NODE_WORDS], y[VIRT_NODE_WORDS];

	virt_content_read(n->triad.x, first * 8, count * 8, x);
	virt_content_read(n->triad.y, first * 8, count * 8, y);
	for (size_t i = 0; i < count; i++)
		x[i] += n->triad.scalar * y[i];
	memcpy(out, x, count * 8);
}

/* The same by bytes that need not begin or end with an element. */
static void elements_read(const struct virt_node *n, size_t offset, size_t bytes, uint8_t *out)
{
	size_t elem = n->kind == VIRT_NODE_GEMM ? cvb_gpu_type_bytes(n->gemm.type) : 8;
	uint64_t buf[VIRT_NODE_WORDS];

	while (bytes) {
		size_t first = offset / elem, skip = offset % elem;
		size_t count = cvb_min((skip + bytes + elem - 1) / elem, sizeof(buf) / elem);
		size_t take = cvb_min(count * elem - skip, bytes);

		if (n->kind == VIRT_NODE_GEMM)
			virt_gemm_read(&n->gemm, first, count, buf);
		else
			words_read(n, first, count, buf);
		memcpy(out, (uint8_t *)buf + skip, take);
		offset += take;
		out += take;
		bytes -= take;
	}
}

void virt_node_read(const struct virt_node *n, size_t offset, size_t bytes, uint8_t *out)
{
	if (n->kind == VIRT_NODE_BYTE)
		memset(out, n->value, bytes);
	else if (n->kind == VIRT_NODE_BYTES)
		mem_read(n, offset, bytes, out);
	else
		elements_read(n, offset, bytes, out);
}

/* ---- true bytes ---- */

struct virt_node *virt_node_heap(const void *p, size_t bytes)
{
	struct virt_node *n = virt_node_new(VIRT_NODE_BYTES, 0);

	if (!n)
		return NULL;
	n->mem.p = malloc(bytes);
	if (!n->mem.p) {
		free(n);
		return NULL;
	}
	if (p)
		memcpy(n->mem.p, p, bytes);
	return n;
}

static size_t pages_of(const struct virt_node *n, size_t bytes)
{
	return (n->mem.skew + bytes + PAGE - 1) / PAGE;
}

struct virt_node *virt_node_map(uintptr_t host, size_t bytes)
{
	struct virt_node *n = virt_node_new(VIRT_NODE_BYTES, 0);

	if (!n)
		return NULL;
	n->mem.skew = host % PAGE;
	n->mem.map_bytes = pages_of(n, bytes) * PAGE;
	n->mem.touched = calloc(n->mem.map_bytes / PAGE / 64 + 1, sizeof(uint64_t));
	uint8_t *p = n->mem.touched ? virt_map(n->mem.map_bytes) : NULL;

	if (!p) {
		free(n->mem.touched);
		free(n);
		return NULL;
	}
	n->mem.p = p + n->mem.skew;
	return n;
}

bool virt_node_is_map(const struct virt_node *n, const uint8_t *host, size_t bytes)
{
	return n->kind == VIRT_NODE_BYTES && n->refs == 1 && n->mem.touched &&
	       n->mem.skew == (uintptr_t)host % PAGE &&
	       pages_of(n, bytes) * PAGE == n->mem.map_bytes;
}

void virt_node_all_touched(struct virt_node *n)
{
	free(n->mem.touched);
	n->mem.touched = NULL;
}

/* One page's part of the range into the node; a page of zeroes stays untouched. */
static void take_page(struct virt_node *n, const uint8_t *p, size_t offset, size_t bytes)
{
	size_t page = (n->mem.skew + offset) / PAGE;
	bool zero = !p[0] && !memcmp(p, p + 1, bytes - 1);

	if (!zero) {
		n->mem.touched[page / 64] |= UINT64_C(1) << page % 64;
		memcpy(n->mem.p + offset, p, bytes);
	} else if (bit(n->mem.touched, page)) {
		memset(n->mem.p + offset, 0, bytes);
	}
}

/* Is there memory behind the page?  Bits 63 and 62 of its entry: present, swapped out. */
static bool is_backed(uint64_t entry)
{
	return entry >> 62;
}

void virt_node_take_host(struct virt_node *n, const uint8_t *p, size_t bytes, int pagemap)
{
	uint64_t entry[VIRT_NODE_WORDS];
	size_t pages = pages_of(n, bytes);
	const uint8_t *base = p - n->mem.skew;

	for (size_t done = 0; done < pages; done += VIRT_NODE_WORDS) {
		size_t count = cvb_min((size_t)VIRT_NODE_WORDS, pages - done);
		off_t where = (off_t)(((uintptr_t)base / PAGE + done) * sizeof(entry[0]));
		size_t want = count * sizeof(entry[0]);

		/* what cannot be told is looked at */
		if (pagemap < 0 || pread(pagemap, entry, want, where) != (ssize_t)want)
			memset(entry, 0xff, want);
		for (size_t i = 0; i < count; i++) {
			size_t from = cvb_max((done + i) * PAGE, n->mem.skew) - n->mem.skew;
			size_t to = cvb_min((done + i + 1) * PAGE - n->mem.skew, bytes);
			size_t page = done + i;

			if (is_backed(entry[i]))
				take_page(n, p + from, from, to - from);
			else if (bit(n->mem.touched, page))
				memset(n->mem.p + from, 0, to - from);
		}
	}
}

/* Host memory of virt_map becomes zero; whole pages lose their memory. */
static void zero_host(uint8_t *p, size_t bytes)
{
	size_t head = cvb_min((PAGE - (uintptr_t)p % PAGE) % PAGE, bytes);
	size_t whole = (bytes - head) / PAGE * PAGE;

	memset(p, 0, head);
	if (whole && madvise(p + head, whole, MADV_DONTNEED) < 0)
		memset(p + head, 0, whole);
	memset(p + head + whole, 0, bytes - head - whole);
}

void virt_node_to_host(const struct virt_node *n, size_t offset, uint8_t *p, size_t bytes)
{
	while (bytes) {
		bool touched = true;
		size_t run = bytes;

		if (n->kind == VIRT_NODE_BYTES)
			run = mem_run(n, offset, bytes, &touched);
		else if (n->kind == VIRT_NODE_BYTE)
			touched = n->value != 0;
		if (touched)
			virt_node_read(n, offset, run, p);
		else
			zero_host(p, run);
		offset += run;
		p += run;
		bytes -= run;
	}
}
