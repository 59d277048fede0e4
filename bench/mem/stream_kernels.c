/* SPDX-License-Identifier: Apache-2.0 */
#include "mem/stream_kernels.h"

#include "core/util.h"

#include <immintrin.h>

/*
 * Written with vectors so that -O2 of either compiler gives the same loop, 64 bytes a turn.
 * Multiplication and addition stay apart (no FMA), so that every variant gives the same bits.
 */

/* The compiler must not see that a copy is one, or it calls memcpy, which picks its own stores. */
#define HIDE(v) __asm__("" : "+x"(v))

#define ONE_KERNEL(fn, attr, vec, width, store, fence, out, expr, hide)                            \
	attr static void fn(double *a, double *b, double *c, double s, size_t n)                   \
	{                                                                                          \
		const vec *va = (const vec *)a, *vb = (const vec *)b, *vc = (const vec *)c;        \
		double *o = (out);                                                                 \
                                                                                                   \
		(void)va, (void)vb, (void)vc, (void)s;                                             \
		for (size_t i = 0; i < n / (width); i += 8 / (width))                              \
			for (size_t k = 0; k < 8 / (width); k++) {                                 \
				vec v = (expr);                                                    \
                                                                                                   \
				hide(v);                                                           \
				store(o + (i + k) * (width), v);                                   \
			}                                                                          \
		fence;                                                                             \
	}

#define NO_HIDE(v) (void)0

#define KERNEL_SET(tag, text, attr, vec, width, store, fence)                                      \
	ONE_KERNEL(copy_##tag, attr, vec, width, store, fence, c, va[i + k], HIDE)                 \
	ONE_KERNEL(scale_##tag, attr, vec, width, store, fence, b, vc[i + k] * s, NO_HIDE)         \
	ONE_KERNEL(add_##tag, attr, vec, width, store, fence, c, va[i + k] + vb[i + k], NO_HIDE)   \
	ONE_KERNEL(triad_##tag, attr, vec, width, store, fence, a, vb[i + k] + vc[i + k] * s,      \
		   NO_HIDE)                                                                        \
	static const struct cvb_stream_set set_##tag = {                                           \
		.name = text,                                                                      \
		.kernel = {copy_##tag, scale_##tag, add_##tag, triad_##tag},                       \
	};

#define PLAIN
#define AVX __attribute__((target("avx2")))

KERNEL_SET(sse2, "sse2, regular stores", PLAIN, __m128d, 2, _mm_store_pd, (void)0)
KERNEL_SET(sse2_nt, "sse2, non-temporal stores", PLAIN, __m128d, 2, _mm_stream_pd, _mm_sfence())
KERNEL_SET(avx2, "avx2, regular stores", AVX, __m256d, 4, _mm256_store_pd, (void)0)
KERNEL_SET(avx2_nt, "avx2, non-temporal stores", AVX, __m256d, 4, _mm256_stream_pd, _mm_sfence())

static const struct cvb_stream_set *const sets[] = {&set_sse2, &set_sse2_nt, &set_avx2,
						    &set_avx2_nt};

const struct cvb_stream_set *cvb_stream_set_at(size_t index, bool *ret_usable)
{
	if (index >= CVB_ARRAY_LEN(sets))
		return NULL;
	*ret_usable = index < 2 || __builtin_cpu_supports("avx2");
	return sets[index];
}

const struct cvb_stream_set *cvb_stream_pick(bool nontemporal)
{
	if (__builtin_cpu_supports("avx2"))
		return nontemporal ? &set_avx2_nt : &set_avx2;
	return nontemporal ? &set_sse2_nt : &set_sse2;
}
