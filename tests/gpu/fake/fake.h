/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver for tests: one library that answers as libcuda.so.1, libcublasLt.so.13 and
 * libnvidia-ml.so.1 (links to one file).  Device memory is host memory, each stream has a thread,
 * kernels are known by name and run on the CPU.
 *
 *   FAKE_CUDA_FAIL=cuMemAlloc_v2=3        the third call of that name fails with 999 (unknown) …
 *   FAKE_CUDA_FAIL=cuMemAlloc_v2=1:2      … the first with 2 (out of memory); calls are counted
 *                                         anew whenever the text changes
 *   FAKE_CUDA_FAIL=cuMemAlloc_v2=1:hang   … the first never returns
 *   FAKE_NVML=file                        NVML's answers: "function return-code values…" a line;
 *                                         a function without a line is not found (13)
 *   FAKE_CUDA_DEVICES=n                   2 unless told
 *   FAKE_BLAS_NONE=found                  cuBLASLt's heuristic finds no algorithm
 *   FAKE_BLAS_NONE=state                  or one whose state says that it is none
 *   FAKE_CUDA_LEFT=file                   gets fake_live() in figures when the program ends
 *
 * Built with FAKE_OLD it lacks a function of each library, as older drivers do.
 *
 * Two exported functions are not the driver's: a test finds them by dlsym.
 */
#ifndef CVB_TESTS_GPU_FAKE_H
#define CVB_TESTS_GPU_FAKE_H

#include <cuda.h>
#include <stdbool.h>
#include <stddef.h>

#define FAKE_API __attribute__((visibility("default")))

/* While held, spin kernels do not end. */
void fake_hold(bool held);
/* Contexts, streams, events, modules, graphs, buffers, handles that are not freed yet. */
long fake_live(void);

/* ---- between the files ---- */

/* The error that this call is to fail with, 0 for none. */
int fake_fails(const char *name);
void fake_count(long n);
/* Run fn on the stream's thread with a copy of arg; in capture it becomes a node of the graph. */
CUresult fake_push(CUstream stream, void (*fn)(void *arg), const void *arg, size_t bytes);
/* Does NVML say that the GPU is confidential? */
bool fake_is_confidential(void);
/* Is [p, p + bytes) within one buffer of the device? */
bool fake_is_device(const void *p, size_t bytes);

/* At the top of every function: its injected failure. */
#define FAKE_CALL(name, type)                                                                      \
	do {                                                                                       \
		int code_ = fake_fails(name);                                                      \
		if (code_)                                                                         \
			return (type)code_;                                                        \
	} while (0)

#endif
