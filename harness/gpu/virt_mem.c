/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in device memory, without having it all in memory: lists of extents, and the operations
 * on them.  See virt.h; virt_node.h has what an extent is made of.
 */
#include "core/util.h"
#include "gpu/virt_node.h"

#include <errno.h>
#include <string.h>

enum {
	SMALL = 64 * 1024, /* bytes that are copied at once, touched or not */
	MAX_DEPTH = 16,	   /* of operations on operations; deeper ones are computed */
};

struct extent {
	size_t at, bytes;
	struct virt_node *node;
	size_t offset; /* in the node */
};

struct virt_content {
	unsigned refs;
	size_t bytes, n, room;
	struct extent *ext; /* ascending, without gaps */
	size_t sum_bytes;   /* 0: `sum` is not known */
	uint64_t sum;
};

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
	struct virt_node *zero = c ? virt_node_new(VIRT_NODE_BYTE, 0) : NULL;

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
		virt_node_drop(c->ext[i].node);
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
static int place(struct virt_content **p, size_t at, size_t bytes, struct virt_node *node,
		 size_t offset)
{
	int r = node ? make_own(p) : -ENOMEM;

	if (r < 0) {
		if (node)
			virt_node_drop(node);
		return r;
	}
	struct virt_content *c = *p;
	size_t first = split(c, at), last = split(c, at + bytes);

	for (size_t i = first; i < last; i++)
		virt_node_drop(c->ext[i].node);
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

		virt_node_read(e->node, e->offset + skip, take, p);
		at += take;
		p += take;
		bytes -= take;
	}
}

int virt_content_set(struct virt_content **c, size_t at, size_t bytes, int value)
{
	struct virt_node *n = virt_node_new(VIRT_NODE_BYTE, 0);

	if (n)
		n->value = value & 0xff;
	return place(c, at, bytes, n, 0);
}

int virt_content_fill(struct virt_content **c, size_t bytes, uint64_t seed)
{
	struct virt_node *n = virt_node_new(VIRT_NODE_PATTERN, 0);

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

int virt_content_write(struct virt_content **c, size_t at, const void *p, size_t bytes)
{
	return place(c, at, bytes, virt_node_heap(p, bytes), 0);
}

int virt_content_from_host(struct virt_content **c, size_t at, const uint8_t *p, size_t bytes,
			   int pagemap)
{
	if (bytes <= SMALL)
		return virt_content_write(c, at, p, bytes);
	/* the same copy again: into the pages of the one before, which nobody else holds */
	struct extent *e = &(*c)->ext[find(*c, at)];

	if ((*c)->refs == 1 && e->at == at && e->bytes == bytes && !e->offset &&
	    virt_node_is_map(e->node, p, bytes)) {
		virt_node_take_host(e->node, p, bytes, pagemap);
		(*c)->sum_bytes = 0;
		return 0;
	}
	struct virt_node *n = virt_node_map((uintptr_t)p, bytes);

	if (n)
		virt_node_take_host(n, p, bytes, pagemap);
	return place(c, at, bytes, n, 0);
}

void virt_content_to_host(const struct virt_content *c, size_t at, uint8_t *p, size_t bytes)
{
	for (size_t i = find(c, at); bytes; i++) {
		const struct extent *e = &c->ext[i];
		size_t skip = at - e->at, take = cvb_min(e->bytes - skip, bytes);

		virt_node_to_host(e->node, e->offset + skip, p, take);
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
		struct virt_node *n = virt_node_map(0, e.bytes);

		if (n) {
			virt_node_read(e.node, e.offset, e.bytes, n->mem.p);
			virt_node_all_touched(n);
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
	struct virt_node *n = virt_node_new(VIRT_NODE_TRIAD, 0);

	if (!n)
		return -ENOMEM;
	n->triad.scalar = scalar;
	n->triad.x = operand(x, MAX_DEPTH);
	n->triad.y = operand(y, MAX_DEPTH);
	if (!n->triad.x || !n->triad.y) {
		virt_node_drop(n);
		return -ENOMEM;
	}
	n->depth = 1 + cvb_max(depth_of(n->triad.x), depth_of(n->triad.y));
	return place(a, 0, bytes, n, 0);
}

int virt_content_gemm(struct virt_content **c, struct virt_content *a, struct virt_content *b,
		      const struct cvb_gpu_gemm *gemm)
{
	struct virt_node *n = virt_node_new(VIRT_NODE_GEMM, 1);

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
		virt_node_drop(n);
		return -ENOMEM;
	}
	return place(c, 0, (size_t)gemm->m * gemm->n * cvb_gpu_type_bytes(gemm->type), n, 0);
}

/* ---- whole words ---- */

uint64_t virt_content_verify(const struct virt_content *c, size_t bytes, uint64_t seed)
{
	uint64_t wrong = 0, got[VIRT_NODE_WORDS];

	for (size_t at = 0; at < bytes;) {
		const struct extent *e = &c->ext[find(c, at)];

		if (e->node->kind == VIRT_NODE_PATTERN && e->node->seed == seed &&
		    e->offset == e->at && at % 8 == 0 && e->bytes % 8 == 0) {
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
	uint64_t got[VIRT_NODE_WORDS], sum = 0;

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
