/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels, as loops of one thread over real memory.
 */
#include "core/util.h"
#include "gpu/emu.h"

#include <string.h>
#include <time.h>

/*
 * A busy device takes no CPU of the host's: most of the time is slept, and the last part, which is
 * longer than a late wake-up, is spun.
 */
#define SPIN_LAST_NS 200000

static void spin(uint64_t ns)
{
	uint64_t end = cvb_now_ns() + ns;

	if (ns > SPIN_LAST_NS) {
		struct timespec t = {
			.tv_sec = (time_t)((ns - SPIN_LAST_NS) / CVB_NS_PER_S),
			.tv_nsec = (long)((ns - SPIN_LAST_NS) % CVB_NS_PER_S),
		};

		/* interrupted: the loop below takes the rest */
		cvb_ignore(clock_nanosleep(CLOCK_MONOTONIC, /* flags= */ 0, &t, NULL));
	}
	while (cvb_now_ns() < end)
		;
}

static void fill(uint64_t *a, size_t words, uint64_t seed)
{
	for (size_t i = 0; i < words; i++)
		a[i] = cvb_gpu_pattern(seed, i);
}

static uint64_t verify(const uint64_t *a, size_t words, uint64_t seed)
{
	uint64_t wrong = 0;

	for (size_t i = 0; i < words; i++)
		wrong += a[i] != cvb_gpu_pattern(seed, i);
	return wrong;
}

static uint64_t sum(const uint64_t *a, size_t words)
{
	uint64_t s[4] = {0}; /* four chains, so that additions do not wait for each other */
	size_t i = 0;

	for (; i + 4 <= words; i += 4)
		for (size_t j = 0; j < 4; j++)
			s[j] += a[i + j];
	for (; i < words; i++)
		s[0] += a[i];
	return s[0] + s[1] + s[2] + s[3];
}

static void triad(double *restrict a, const double *b, const double *c, size_t n, double scalar)
{
	for (size_t i = 0; i < n; i++)
		a[i] = b[i] + scalar * c[i];
}

static void add(double *restrict a, const double *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		a[i] += b[i];
}

static void *operand(const struct cvb_gpu_buf *buf)
{
	return buf ? emu_buf_ptr(buf, 0) : NULL;
}

void emu_kernel_run(const struct cvb_gpu_launch *l)
{
	void *a = operand(l->a), *b = operand(l->b);
	size_t words = l->bytes / sizeof(uint64_t);

	switch (l->kernel) {
	case CVB_GPU_KERNEL_EMPTY:
	case CVB_GPU_KERNELS:
		break;
	case CVB_GPU_KERNEL_SPIN:
		spin(l->ns);
		break;
	case CVB_GPU_KERNEL_FILL:
		fill(a, words, l->seed);
		break;
	case CVB_GPU_KERNEL_VERIFY:
		*(uint64_t *)b = verify(a, words, l->seed);
		break;
	case CVB_GPU_KERNEL_READ:
		*(uint64_t *)b = sum(a, words);
		break;
	case CVB_GPU_KERNEL_COPY:
		memcpy(a, b, l->bytes);
		break;
	case CVB_GPU_KERNEL_TRIAD:
		triad(a, b, operand(l->c), words, l->scalar);
		break;
	case CVB_GPU_KERNEL_ADD:
		add(a, b, words);
		break;
	}
}
