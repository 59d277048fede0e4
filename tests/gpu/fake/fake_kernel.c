/* SPDX-License-Identifier: Apache-2.0 */
/* Modules and kernels: known by name, run on the CPU; see fake.h. */
#include "fake_part.h"

#include <string.h>
#include <time.h>

#define CALL(name) FAKE_CALL(name, CUresult)

union arg {
	uint64_t n;
	double f;
	uint64_t *words;
	double *doubles;
	uint8_t *bytes;
	uint16_t *halves;
};

#define MOST_ARGS 5

struct launch {
	void (*fn)(const union arg *a);
	union arg arg[MOST_ARGS];
};

static uint64_t pattern(uint64_t seed, uint64_t i)
{
	uint64_t z = seed + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void k_empty(const union arg *a)
{
	(void)a;
}

static void k_spin(const union arg *a)
{
	uint64_t end = fake_now_ns() + a[0].n;

	pthread_mutex_lock(&fake_lock);
	while (fake_held)
		pthread_cond_wait(&fake_changed, &fake_lock);
	pthread_mutex_unlock(&fake_lock);
	while (fake_now_ns() < end)
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

static void k_fill(const union arg *a)
{
	for (uint64_t i = 0; i < a[1].n; i++)
		a[0].words[i] = pattern(a[2].n, i);
}

static void k_verify(const union arg *a)
{
	for (uint64_t i = 0; i < a[2].n; i++)
		*a[1].words += a[0].words[i] != pattern(a[3].n, i);
}

static void k_read(const union arg *a)
{
	for (uint64_t i = 0; i < a[2].n; i++)
		*a[1].words += a[0].words[i];
}

static void k_copy(const union arg *a)
{
	memcpy(a[0].words, a[1].words, a[2].n * 8);
}

static void k_triad(const union arg *a)
{
	for (uint64_t i = 0; i < a[3].n; i++)
		a[0].doubles[i] = a[1].doubles[i] + a[4].f * a[2].doubles[i];
}

static void k_add(const union arg *a)
{
	for (uint64_t i = 0; i < a[2].n; i++)
		a[0].doubles[i] += a[1].doubles[i];
}

static void k_transpose(const union arg *a)
{
	for (uint64_t row = 0; row < a[2].n; row++)
		for (uint64_t col = 0; col < a[3].n; col++)
			a[1].bytes[col * a[4].n + row] = a[0].bytes[row * a[3].n + col];
}

/* By the format's definition, not by the kernel's trick. */
static uint16_t bf16_of_fp8(uint8_t code)
{
	int exponent = code >> 3 & 15, mantissa = code & 7;
	float f = exponent ? (float)(8 + mantissa) / 8 : (float)mantissa / 8;
	uint32_t bits;

	for (int e = exponent ? exponent : 1; e < 7; e++)
		f /= 2;
	for (int e = exponent; e > 7; e--)
		f *= 2;
	memcpy(&bits, &f, sizeof(bits));
	if ((code & 0x7f) == 0x7f)
		bits = 0x7fc00000;
	return (uint16_t)(bits >> 16 | (code & 0x80U) << 8);
}

static void k_fp8_to_bf16(const union arg *a)
{
	for (uint64_t row = 0; row < a[2].n; row++)
		for (uint64_t col = 0; col < a[3].n; col++)
			a[1].halves[row * a[4].n + col] =
				bf16_of_fp8(a[0].bytes[row * a[3].n + col]);
}

static const struct kernel {
	const char *name;
	void (*fn)(const union arg *a);
	unsigned args;
} kernels[] = {
	{"cvb_empty", k_empty, 0},	   {"cvb_spin", k_spin, 1},
	{"cvb_fill", k_fill, 3},	   {"cvb_verify", k_verify, 4},
	{"cvb_read", k_read, 3},	   {"cvb_copy", k_copy, 3},
	{"cvb_triad", k_triad, 5},	   {"cvb_add", k_add, 3},
	{"cvb_transpose", k_transpose, 5}, {"cvb_fp8_to_bf16", k_fp8_to_bf16, 5},
};

FAKE_API CUresult cuModuleLoadData(CUmodule *ret, const void *image)
{
	const uint32_t magic = 0xba55ed50; /* of a fat binary */

	CALL("cuModuleLoadData");
	if (memcmp(image, &magic, sizeof(magic)) != 0)
		return CUDA_ERROR_INVALID_IMAGE;
	*ret = fake_make(1);
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuModuleUnload(CUmodule module)
{
	fake_unmake(module);
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuModuleGetFunction(CUfunction *ret, CUmodule module, const char *name)
{
	(void)module;
	CALL("cuModuleGetFunction");
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		if (!strcmp(kernels[i].name, name)) {
			*ret = (CUfunction)(uintptr_t)&kernels[i];
			return CUDA_SUCCESS;
		}
	}
	return CUDA_ERROR_NOT_FOUND;
}

static void launch_run(void *arg)
{
	const struct launch *l = arg;

	l->fn(l->arg);
}

FAKE_API CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
				 unsigned by, unsigned bz, unsigned shared, CUstream stream,
				 void **args, void **extra)
{
	const struct kernel *k = (const struct kernel *)f;
	struct launch l = {.fn = k->fn};

	(void)extra;
	CALL("cuLaunchKernel");
	if (!gx || gy != 1 || gz != 1 || !bx || bx > 1024 || by != 1 || bz != 1 || shared)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned i = 0; i < k->args; i++)
		memcpy(&l.arg[i], args[i], sizeof(l.arg[i]));
	return fake_push(stream, launch_run, &l, sizeof(l));
}
