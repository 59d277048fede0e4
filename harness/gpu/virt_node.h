/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node: how to make the bytes of an extent of device memory (virt.h, "content").
 *
 * True bytes lie in mappings whose pages get memory when they are touched.  What comes from the
 * host is a snapshot of the pages that the program touched there (/proc/self/pagemap tells which;
 * those that hold zeroes only are left out too), so that a copy of 4 GiB costs its touched pages.
 *
 * Private to virt_mem.c and virt_node.c.  Nodes are counted; one that others hold never changes.
 */
#ifndef CVB_GPU_VIRT_NODE_H
#define CVB_GPU_VIRT_NODE_H

#include "gpu/virt.h"

#define VIRT_NODE_WORDS 512 /* of a buffer on the stack */

enum virt_node_kind {
	VIRT_NODE_BYTE,
	VIRT_NODE_PATTERN,
	VIRT_NODE_BYTES,
	VIRT_NODE_TRIAD,
	VIRT_NODE_GEMM,
};

struct virt_node {
	unsigned refs;
	unsigned depth; /* 0: no operation */
	enum virt_node_kind kind;
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

/* With one hold, of the caller; NULL without memory. */
struct virt_node *virt_node_new(enum virt_node_kind kind, unsigned depth);
/* A copy of the bytes, or room for them where p is NULL. */
struct virt_node *virt_node_heap(const void *p, size_t bytes);
/* Untouched pages that begin as far into a page as the address `host` does. */
struct virt_node *virt_node_map(uintptr_t host, size_t bytes);
/* Give back one hold. */
void virt_node_drop(struct virt_node *n);

/* Is it one of virt_node_map(host, bytes) that nobody else holds? */
bool virt_node_is_map(const struct virt_node *n, const uint8_t *host, size_t bytes);
/* All of a map's pages hold bytes from now on. */
void virt_node_all_touched(struct virt_node *n);
/* The host's bytes into a map for as many, whatever it held before; pagemap: a file, or -1. */
void virt_node_take_host(struct virt_node *n, const uint8_t *p, size_t bytes, int pagemap);

void virt_node_read(const struct virt_node *n, size_t offset, size_t bytes, uint8_t *out);
/* The same into host memory of virt_map; untouched pages lose their memory. */
void virt_node_to_host(const struct virt_node *n, size_t offset, uint8_t *p, size_t bytes);

#endif
