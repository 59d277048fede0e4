/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to cuda_proc.c and cuda_child.c: how a context that a process of its own has is spoken
 * with.
 *
 * The process is this program, started again with CVB_CUDA_CHILD in its environment.  It opens the
 * device by itself, as any other program would, and does what it is asked to over a socket pair:
 * one packet a request.  TAKE and work on a stream are not answered; the first failure of that work
 * comes with the answer to the next SYNC of its stream.  Everything else is answered once.  Both
 * sides are of one build: structures go over as they lie in memory.
 *
 * Host memory is a memory file that both map; the process registers it with its driver where it is
 * to be pinned.  Where a driver registers nothing (a confidential GPU's), the process has pinned
 * memory of its own, and the file is a view of it: the newer of both is either here or there.  It
 * is brought here (GIVE) when the host asks for the address, and there (TAKE) before the next copy,
 * so that copies which the host does not look at cost nothing more.
 */
#ifndef CVB_GPU_CUDA_PROC_H
#define CVB_GPU_CUDA_PROC_H

#if CVB_CUDA

#include "gpu/cuda.h"

/* "FD NODE DEVICE": the socket, the NUMA node of host memory (-1: any), the spec's arguments */
#define CUDA_CHILD_ENV "CVB_CUDA_CHILD"
#define CUDA_GRACE_S   10 /* for the process to end by itself */

enum cuda_ask_kind {
	CUDA_ASK_ALLOC, /* mem, bytes; the file comes along for host memory */
	CUDA_ASK_FREE,	/* buf[0] */
	CUDA_ASK_GIVE,	/* buf[0]: its memory into the view */
	CUDA_ASK_TAKE,	/* buf[0]: the view into its memory */
	CUDA_ASK_STREAM,
	CUDA_ASK_STREAM_FREE, /* stream */
	CUDA_ASK_COPY,	      /* stream, buf[0] to, buf[1] from, offset[], bytes */
	CUDA_ASK_SET,	      /* stream, buf[0], offset[0], bytes, value */
	CUDA_ASK_LAUNCH,      /* stream, launch, buf[] are its a, b, c */
	CUDA_ASK_GEMM,	      /* stream, gemm, buf[] are its a, b, c */
	CUDA_ASK_SYNC,	      /* stream */
};

struct cuda_ask {
	enum cuda_ask_kind kind;
	enum cvb_gpu_mem mem;
	uint64_t stream, buf[3]; /* the process's own handles; 0: none */
	uint64_t offset[2], bytes;
	int value;
	union {
		struct cvb_gpu_launch launch;
		struct cvb_gpu_gemm gemm;
	};
};

struct cuda_answer {
	int r;
	uint64_t handle;
	bool has_view;
	char text[2 * CVB_ERR_MSG_BYTES]; /* why r < 0 */
};

/* Wait for a packet of `bytes`, at first without giving the CPU up.  false: the other side is gone,
 * or the packet has another length.  `ret_fd`: what came along, -1 for nothing; NULL where nothing
 * may. */
CVB_MUST_CHECK bool cuda_packet_take(int fd, void *p, size_t bytes, int *ret_fd);
/* `pass_fd` goes along, -1: nothing.  false: the other side is gone. */
CVB_MUST_CHECK bool cuda_packet_send(int fd, const void *p, size_t bytes, int pass_fd);

#endif
#endif
