/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in device memory, without having it all in memory: see virt.h.
 *
 * True bytes lie in mappings whose pages get memory when they are touched.  What comes from the
 * host is a snapshot of the pages that the program touched there (/proc/self/pagemap tells which;
 * those that hold zeroes only are left out too), so that a copy of 4 GiB costs its touched pages.
 */
#include "gpu/virt.h"

#include "core/util.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum {
	PAGE = 4096,
	WORDS = 512, /* of a buffer on the stack */
	SMALL = 16 * PAGE,
	MAX_DEPTH = 16, /* of operations on operations; deeper ones are computed */
};

enum node_kind {
	NODE_BYTE,
	NODE_PATTERN,
	NODE_BYTES,
	NODE_TRIAD,
	NODE_GEMM,
};

struct node {
	unsigned refs;
	unsigned depth; /* 0: no operation */
	enum node_kind kind;
	union {
		int value;
		uint64_t seed;
		struct {
			uint8_t *p;	   /* of byte 0: `skew` into the mapping or the heap */
			size_t skew;	   /* place of byte 0 in its page */
			size_t map_bytes;  /* 0: on the heap, all touched */
			uint64_t *touched; /* a bit for each page; NULL: all */
		} mem;
		struct {
			struct virt_content *x, *y;
			double scalar;
		} triad;
		struct virt_gemm gemm;
	};
};

struct extent {
	size_t at, bytes;
	struct node *node;
	size_t offset; /* in the node */
};

struct virt_content {
	unsigned refs;
	size_t bytes, n, room;
	struct extent *ext; /* ascending, without gaps */
	size_t sum_bytes;   /* 0: `sum` is not known */
	uint64_t sum;
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

static struct node *node_new(enum node_kind kind, unsigned depth)
{
	struct node *n = calloc(1, sizeof(*n));

	if (n) {
		n->refs = 1;
		n->kind = kind;
		n->depth = depth;
	}
	return n;
}

static void node_drop(struct node *n)
{
	if (--n->refs)
		return;
	switch (n->kind) {
	case NODE_BYTES:
		if (n->mem.map_bytes)
			munmap(n->mem.p - n->mem.skew, n->mem.map_bytes);
		else
			free(n->mem.p);
		free(n->mem.touched);
		break;
	case NODE_TRIAD:
		virt_content_drop(n->triad.x);
		virt_content_drop(n->triad.y);
		break;
	case NODE_GEMM:
		virt_content_drop(n->gemm.a);
		virt_content_drop(n->gemm.b);
		virt_content_drop(n->gemm.c);
		break;
	case NODE_BYTE:
	case NODE_PATTERN:
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
static size_t mem_run(const struct node *n, size_t offset, size_t bytes, bool *ret_touched)
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

static void mem_read(const struct node *n, size_t offset, size_t bytes, uint8_t *out)
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
static void words_read(const struct node *n, size_t first, size_t count, uint64_t *out)
{
	if (n->kind == NODE_PATTERN) {
		for (size_t i = 0; i < count; i++)
			out[i] = cvb_gpu_pattern(n->seed, first + i);
		return;
	}
	double x[WORDS], y[WORDS];

	virt_content_read(n->triad.x, first * 8, count * 8, x);
	virt_content_read(n->triad.y, first * 8, count * 8, y);
	for (size_t i = 0; i < count; i++)
		x[i] += n->triad.scalar * y[i];
	memcpy(out, x, count * 8);
}

/* The same by bytes that need not begin or end with an element. */
static void elements_read(const struct node *n, size_t offset, size_t bytes, uint8_t *out)
{
	size_t elem = n->kind == NODE_GEMM ? cvb_gpu_type_bytes(n->gemm.type) : 8;
	uint64_t buf[WORDS];

	while (bytes) {
		size_t first = offset / elem, skip = offset % elem;
		size_t count = cvb_min((skip + bytes + elem - 1) / elem, sizeof(buf) / elem);
		size_t take = cvb_min(count * elem - skip, bytes);

		if (n->kind == NODE_GEMM)
			virt_gemm_read(&n->gemm, first, count, buf);
		else
			words_read(n, first, count, buf);
		memcpy(out, (uint8_t *)buf + skip, take);
		offset += take;
		out += take;
		bytes -= take;
	}
}

static void node_read(const struct node *n, size_t offset, size_t bytes, uint8_t *out)
{
	if (n->kind == NODE_BYTE)
		memset(out, n->value, bytes);
	else if (n->kind == NODE_BYTES)
		mem_read(n, offset, bytes, out);
	else
		elements_read(n, offset, bytes, out);
}

/* ---- the list ---- */

/* Index of the extent with byte `at`. */
static size_t find(const struct virt_content *c, size_t at)
{
	size_t low = 0, high = c->n;

	while (high - low > 1) {
		size_t mid = low + (high - low) / 2;

		if (c->ext[mid].at <= at)
			low = mid;
		else
			high = mid;
	}
	return low;
}

static struct virt_content *content_alloc(size_t bytes, size_t room)
{
	struct virt_content *c = calloc(1, sizeof(*c));

	if (c) {
		c->refs = 1;
		c->bytes = bytes;
		c->room = room;
		c->ext = calloc(room, sizeof(*c->ext));
		if (!c->ext) {
			free(c);
			return NULL;
		}
	}
	return c;
}

struct virt_content *virt_content_new(size_t bytes)
{
	struct virt_content *c = content_alloc(bytes, 4);
	struct node *zero = c ? node_new(NODE_BYTE, 0) : NULL;

	if (!zero)
		return virt_content_drop(c);
	c->ext[0] = (struct extent){.bytes = bytes, .node = zero};
	c->n = 1;
	return c;
}

struct virt_content *virt_content_hold(struct virt_content *c)
{
	c->refs++;
	return c;
}

struct virt_content *virt_content_drop(struct virt_content *c)
{
	if (!c || --c->refs)
		return NULL;
	for (size_t i = 0; i < c->n; i++)
		node_drop(c->ext[i].node);
	free(c->ext);
	free(c);
	return NULL;
}

static unsigned depth_of(const struct virt_content *c)
{
	unsigned depth = 0;

	for (size_t i = 0; i < c->n; i++)
		depth = cvb_max(depth, c->ext[i].node->depth);
	return depth;
}

/* One that nobody else holds, with room for two more extents. */
static int make_own(struct virt_content **p)
{
	struct virt_content *c = *p;

	c->sum_bytes = 0;
	if (c->refs == 1 && c->n + 2 <= c->room)
		return 0;
	size_t room = 2 * c->n + 4;

	if (c->refs == 1) {
		struct extent *bigger = reallocarray(c->ext, room, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		c->ext = bigger;
		c->room = room;
		return 0;
	}
	struct virt_content *own = content_alloc(c->bytes, room);

	if (!own)
		return -ENOMEM;
	memcpy(own->ext, c->ext, c->n * sizeof(*c->ext));
	own->n = c->n;
	for (size_t i = 0; i < own->n; i++)
		own->ext[i].node->refs++;
	c->refs--;
	*p = own;
	return 0;
}

/* Make `at` the beginning of an extent; its index.  There is room. */
static size_t split(struct virt_content *c, size_t at)
{
	if (at >= c->bytes)
		return c->n;
	size_t i = find(c, at);
	struct extent *e = &c->ext[i];
	size_t head = at - e->at;

	if (!head)
		return i;
	memmove(e + 2, e + 1, (c->n - i - 1) * sizeof(*e));
	e[1] = (struct extent){at, e->bytes - head, e->node, e->offset + head};
	e->node->refs++;
	e->bytes = head;
	c->n++;
	return i + 1;
}

/* Put a node in place of a range; takes it over, also on failure. */
static int place(struct virt_content **p, size_t at, size_t bytes, struct node *node, size_t offset)
{
	int r = node ? make_own(p) : -ENOMEM;

	if (r < 0) {
		if (node)
			node_drop(node);
		return r;
	}
	struct virt_content *c = *p;
	size_t first = split(c, at), last = split(c, at + bytes);

	for (size_t i = first; i < last; i++)
		node_drop(c->ext[i].node);
	memmove(c->ext + first + 1, c->ext + last, (c->n - last) * sizeof(*c->ext));
	c->ext[first] = (struct extent){at, bytes, node, offset};
	c->n = c->n - (last - first) + 1;
	return 0;
}

void virt_content_read(const struct virt_content *c, size_t at, size_t bytes, void *out)
{
	uint8_t *p = out;

	for (size_t i = find(c, at); bytes; i++) {
		const struct extent *e = &c->ext[i];
		size_t skip = at - e->at, take = cvb_min(e->bytes - skip, bytes);

		node_read(e->node, e->offset + skip, take, p);
		at += take;
		p += take;
		bytes -= take;
	}
}

int virt_content_set(struct virt_content **c, size_t at, size_t bytes, int value)
{
	struct node *n = node_new(NODE_BYTE, 0);

	if (n)
		n->value = value & 0xff;
	return place(c, at, bytes, n, 0);
}

int virt_content_fill(struct virt_content **c, size_t bytes, uint64_t seed)
{
	struct node *n = node_new(NODE_PATTERN, 0);

	if (n)
		n->seed = seed;
	return place(c, 0, bytes, n, 0);
}

int virt_content_copy(struct virt_content **dst, size_t dst_at, struct virt_content *src,
		      size_t src_at, size_t bytes)
{
	int r = 0;

	virt_content_hold(src); /* it may be *dst */
	for (size_t i = find(src, src_at); r == 0 && bytes; i++) {
		const struct extent *e = &src->ext[i];
		size_t skip = src_at - e->at, take = cvb_min(e->bytes - skip, bytes);

		e->node->refs++;
		r = place(dst, dst_at, take, e->node, e->offset + skip);
		src_at += take;
		dst_at += take;
		bytes -= take;
	}
	virt_content_drop(src);
	return r;
}

/* ---- true bytes ---- */

static struct node *heap_node(const void *p, size_t bytes)
{
	struct node *n = node_new(NODE_BYTES, 0);

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

int virt_content_write(struct virt_content **c, size_t at, const void *p, size_t bytes)
{
	return place(c, at, bytes, heap_node(p, bytes), 0);
}

static size_t pages_of(const struct node *n, size_t bytes)
{
	return (n->mem.skew + bytes + PAGE - 1) / PAGE;
}

static struct node *map_node(size_t skew, size_t bytes)
{
	struct node *n = node_new(NODE_BYTES, 0);

	if (!n)
		return NULL;
	n->mem.skew = skew;
	n->mem.map_bytes = pages_of(n, bytes) * PAGE;
	n->mem.touched = calloc(n->mem.map_bytes / PAGE / 64 + 1, sizeof(uint64_t));
	uint8_t *p = n->mem.touched ? virt_map(n->mem.map_bytes) : NULL;

	if (!p) {
		free(n->mem.touched);
		free(n);
		return NULL;
	}
	n->mem.p = p + skew;
	return n;
}

/* One page's part of the range into the node; a page of zeroes stays untouched. */
static void take_page(struct node *n, const uint8_t *p, size_t offset, size_t bytes)
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

/* The host's bytes into a node that holds as many, whatever it held before. */
static void take_host(struct node *n, const uint8_t *p, size_t bytes, int pagemap)
{
	uint64_t entry[WORDS];
	size_t pages = pages_of(n, bytes);
	const uint8_t *base = p - n->mem.skew;

	for (size_t done = 0; done < pages; done += WORDS) {
		size_t count = cvb_min((size_t)WORDS, pages - done);
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

int virt_content_from_host(struct virt_content **c, size_t at, const uint8_t *p, size_t bytes,
			   int pagemap)
{
	size_t skew = (uintptr_t)p % PAGE;

	if (bytes <= SMALL)
		return virt_content_write(c, at, p, bytes);
	/* the same copy again: into the pages of the one before, which nobody else holds */
	struct extent *e = &(*c)->ext[find(*c, at)];

	if ((*c)->refs == 1 && e->at == at && e->bytes == bytes && !e->offset &&
	    e->node->kind == NODE_BYTES && e->node->refs == 1 && e->node->mem.touched &&
	    e->node->mem.skew == skew &&
	    pages_of(e->node, bytes) * PAGE == e->node->mem.map_bytes) {
		take_host(e->node, p, bytes, pagemap);
		(*c)->sum_bytes = 0;
		return 0;
	}
	struct node *n = map_node(skew, bytes);

	if (n)
		take_host(n, p, bytes, pagemap);
	return place(c, at, bytes, n, 0);
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

static void node_to_host(const struct node *n, size_t offset, uint8_t *p, size_t bytes)
{
	while (bytes) {
		bool touched = true;
		size_t run = bytes;

		if (n->kind == NODE_BYTES)
			run = mem_run(n, offset, bytes, &touched);
		else if (n->kind == NODE_BYTE)
			touched = n->value != 0;
		if (touched)
			node_read(n, offset, run, p);
		else
			zero_host(p, run);
		offset += run;
		p += run;
		bytes -= run;
	}
}

void virt_content_to_host(const struct virt_content *c, size_t at, uint8_t *p, size_t bytes)
{
	for (size_t i = find(c, at); bytes; i++) {
		const struct extent *e = &c->ext[i];
		size_t skip = at - e->at, take = cvb_min(e->bytes - skip, bytes);

		node_to_host(e->node, e->offset + skip, p, take);
		at += take;
		p += take;
		bytes -= take;
	}
}

/* ---- operations ---- */

/* Compute what is an operation, for good. */
static int compute(struct virt_content **c)
{
	for (size_t i = 0; i < (*c)->n; i++) {
		struct extent e = (*c)->ext[i];

		if (!e.node->depth)
			continue;
		struct node *n = map_node(0, e.bytes);

		if (n) {
			node_read(e.node, e.offset, e.bytes, n->mem.p);
			free(n->mem.touched);
			n->mem.touched = NULL;
		}
		int r = place(c, e.at, e.bytes, n, 0);

		if (r < 0)
			return r;
	}
	return 0;
}

/* A hold on an operand that is no deeper than `max`; NULL without memory. */
static struct virt_content *operand(struct virt_content *c, unsigned max)
{
	virt_content_hold(c);
	if (depth_of(c) > max && compute(&c) < 0)
		return virt_content_drop(c);
	return c;
}

int virt_content_triad(struct virt_content **a, struct virt_content *x, struct virt_content *y,
		       size_t bytes, double scalar)
{
	struct node *n = node_new(NODE_TRIAD, 0);

	if (!n)
		return -ENOMEM;
	n->triad.scalar = scalar;
	n->triad.x = operand(x, MAX_DEPTH);
	n->triad.y = operand(y, MAX_DEPTH);
	if (!n->triad.x || !n->triad.y) {
		node_drop(n);
		return -ENOMEM;
	}
	n->depth = 1 + cvb_max(depth_of(n->triad.x), depth_of(n->triad.y));
	return place(a, 0, bytes, n, 0);
}

int virt_content_gemm(struct virt_content **c, struct virt_content *a, struct virt_content *b,
		      const struct cvb_gpu_gemm *gemm)
{
	struct node *n = node_new(NODE_GEMM, 1);

	if (!n)
		return -ENOMEM;
	n->gemm = (struct virt_gemm){
		.type = gemm->type,
		.m = gemm->m,
		.n = gemm->n,
		.k = gemm->k,
		.alpha = gemm->alpha,
		.beta = gemm->beta,
		/* each element is read n or m times: operations are computed first */
		.a = operand(a, 0),
		.b = operand(b, 0),
		.c = gemm->beta != 0 ? operand(*c, 0) : NULL,
	};
	if (!n->gemm.a || !n->gemm.b || (gemm->beta != 0 && !n->gemm.c)) {
		node_drop(n);
		return -ENOMEM;
	}
	return place(c, 0, (size_t)gemm->m * gemm->n * cvb_gpu_type_bytes(gemm->type), n, 0);
}

/* ---- whole words ---- */

uint64_t virt_content_verify(const struct virt_content *c, size_t bytes, uint64_t seed)
{
	uint64_t wrong = 0, got[WORDS];

	for (size_t at = 0; at < bytes;) {
		const struct extent *e = &c->ext[find(c, at)];

		if (e->node->kind == NODE_PATTERN && e->node->seed == seed && e->offset == e->at &&
		    at % 8 == 0 && e->bytes % 8 == 0) {
			at = e->at + e->bytes; /* the pattern at its own place */
			continue;
		}
		size_t take = cvb_min(sizeof(got), bytes - at);

		virt_content_read(c, at, take, got);
		for (size_t i = 0; i < take / 8; i++)
			wrong += got[i] != cvb_gpu_pattern(seed, at / 8 + i);
		at += take;
	}
	return wrong;
}

uint64_t virt_content_sum(struct virt_content *c, size_t bytes)
{
	uint64_t got[WORDS], sum = 0;

	if (c->sum_bytes == bytes)
		return c->sum;
	for (size_t at = 0; at < bytes;) {
		size_t take = cvb_min(sizeof(got), bytes - at);

		virt_content_read(c, at, take, got);
		for (size_t i = 0; i < take / 8; i++)
			sum += got[i];
		at += take;
	}
	c->sum_bytes = bytes;
	c->sum = sum;
	return sum;
}
