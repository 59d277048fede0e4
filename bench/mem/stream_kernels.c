/* SPDX-License-Identifier: Apache-2.0 */
#include "mem/stream_kernels.h"

#include <immintrin.h>

/*
 * Written with vectors so that -O2 of either compiler gives the same loop, four cache lines a turn.
 * Multiplication and addition stay apart (no FMA), so that every variant gives the same bits.
 *
 * Variants with non-temporal stores prefetch what they read: stores that go around the caches
 * leave so much of the memory's time free that the CPU's own prefetcher comes late (10 % of a copy
 * on a Zen 4 core).
 */

#define PREFETCH_BYTES 1024 /* 512 to 4096 are alike */

const char *const cvb_stream_isa_names[] = {"sse2", "avx2", "avx512"};

/* The compiler must not see that a copy is one, or it calls memcpy, which picks its own stores; nor
 * that a sum follows a product, or it makes an FMA of them. */
#define HIDE(v) __asm__("" : "+x"(v))

#define NO_PREFETCH(p) (void)0
#define PREFETCH(p)    _mm_prefetch((const char *)(p) + PREFETCH_BYTES, _MM_HINT_NTA)
#define NO_FENCE       (void)0

#define AT(array, e) (*(const vec *)((array) + (e)))

/* What the vector at element e becomes, and what to prefetch; `m` is a product that HIDE sees. */
#define COPY(e)	 AT(a, e)
#define SCALE(e) (AT(c, e) * s)
#define ADD(e)	 (AT(a, e) + AT(b, e))
#define TRIAD(e)                                                                                   \
	({                                                                                         \
		m = AT(c, e) * s;                                                                  \
		HIDE(m);                                                                           \
		AT(b, e) + m;                                                                      \
	})
#define WRITE(e) fill

#define AHEAD_COPY(ahead, e)  ahead(a + (e))
#define AHEAD_SCALE(ahead, e) ahead(c + (e))
#define AHEAD_ADD(ahead, e)   ahead(a + (e)), ahead(b + (e))
#define AHEAD_TRIAD(ahead, e) ahead(b + (e)), ahead(c + (e))
#define AHEAD_WRITE(ahead, e) (void)0

/* One line: 8 elements, in vectors of 2, 4 or 8. */
#define ONE(e, store, expr)                                                                        \
	do {                                                                                       \
		v = expr(e);                                                                       \
		HIDE(v);                                                                           \
		store(o + (e), v);                                                                 \
	} while (0)
#define LINE_2(e, store, expr)                                                                     \
	ONE(e, store, expr);                                                                       \
	ONE((e) + 2, store, expr);                                                                 \
	ONE((e) + 4, store, expr);                                                                 \
	ONE((e) + 6, store, expr)
#define LINE_4(e, store, expr)                                                                     \
	ONE(e, store, expr);                                                                       \
	ONE((e) + 4, store, expr)
#define LINE_8(e, store, expr) ONE(e, store, expr)

#define LINE(e, width, store, ahead, expr)                                                         \
	do {                                                                                       \
		AHEAD_##expr(ahead, e);                                                            \
		LINE_##width(e, store, expr);                                                      \
	} while (0)

#define ONE_KERNEL(fn, attr, vector, width, store, fence, ahead, out, expr)                        \
	attr static uint64_t fn(double *a, double *b, double *c, double s, size_t n)               \
	{                                                                                          \
		typedef vector vec;                                                                \
		vec m, v, fill = (vec){0} + s;                                                     \
		double *o = (out);                                                                 \
                                                                                                   \
		(void)a, (void)b, (void)c, (void)m, (void)fill;                                    \
		for (size_t i = 0; i < n; i += 32) {                                               \
			LINE(i, width, store, ahead, expr);                                        \
			LINE(i + 8, width, store, ahead, expr);                                    \
			LINE(i + 16, width, store, ahead, expr);                                   \
			LINE(i + 24, width, store, ahead, expr);                                   \
		}                                                                                  \
		fence;                                                                             \
		return 0;                                                                          \
	}

#define KERNEL_SET(tag, attr, vec, width, store, fence, ahead)                                     \
	ONE_KERNEL(copy_##tag, attr, vec, width, store, fence, ahead, c, COPY)                     \
	ONE_KERNEL(scale_##tag, attr, vec, width, store, fence, ahead, b, SCALE)                   \
	ONE_KERNEL(add_##tag, attr, vec, width, store, fence, ahead, c, ADD)                       \
	ONE_KERNEL(triad_##tag, attr, vec, width, store, fence, ahead, a, TRIAD)                   \
	ONE_KERNEL(write_##tag, attr, vec, width, store, fence, ahead, c, WRITE)

/* Four sums, so that adding does not wait for the addition before. */
#define READ_KERNEL(tag, attr, ivec)                                                               \
	attr static uint64_t read_##tag(double *a, double *b, double *c, double s, size_t n)       \
	{                                                                                          \
		const ivec *v = (const ivec *)c;                                                   \
		ivec t0 = {0}, t1 = {0}, t2 = {0}, t3 = {0};                                       \
		uint64_t sum = 0;                                                                  \
                                                                                                   \
		(void)a, (void)b, (void)s;                                                         \
		for (size_t i = 0; i < n / 8 * 64 / sizeof(ivec); i += 4) {                        \
			t0 += v[i];                                                                \
			t1 += v[i + 1];                                                            \
			t2 += v[i + 2];                                                            \
			t3 += v[i + 3];                                                            \
		}                                                                                  \
		t0 += t1 + t2 + t3;                                                                \
		for (size_t i = 0; i < sizeof(ivec) / 8; i++)                                      \
			sum += t0[i];                                                              \
		return sum;                                                                        \
	}

typedef uint64_t u64x2 __attribute__((vector_size(16), may_alias));
typedef uint64_t u64x4 __attribute__((vector_size(32), may_alias));
typedef uint64_t u64x8 __attribute__((vector_size(64), may_alias));

#define PLAIN
#define AVX2   __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f")))
#define SFENCE _mm_sfence()

KERNEL_SET(sse2, PLAIN, __m128d, 2, _mm_store_pd, NO_FENCE, NO_PREFETCH)
KERNEL_SET(sse2_nt, PLAIN, __m128d, 2, _mm_stream_pd, SFENCE, PREFETCH)
READ_KERNEL(sse2, PLAIN, u64x2)
KERNEL_SET(avx2, AVX2, __m256d, 4, _mm256_store_pd, NO_FENCE, NO_PREFETCH)
KERNEL_SET(avx2_nt, AVX2, __m256d, 4, _mm256_stream_pd, SFENCE, PREFETCH)
READ_KERNEL(avx2, AVX2, u64x4)
KERNEL_SET(avx512, AVX512, __m512d, 8, _mm512_store_pd, NO_FENCE, NO_PREFETCH)
KERNEL_SET(avx512_nt, AVX512, __m512d, 8, _mm512_stream_pd, SFENCE, PREFETCH)
READ_KERNEL(avx512, AVX512, u64x8)

#define SET(store, load)                                                                           \
	{                                                                                          \
		copy_##store, scale_##store, add_##store, triad_##store, write_##store,            \
			read_##load                                                                \
	}

static cvb_stream_fn *const kernels[CVB_STREAM_ISAS][2][CVB_STREAM_KERNELS] = {
	{SET(sse2, sse2), SET(sse2_nt, sse2)},
	{SET(avx2, avx2), SET(avx2_nt, avx2)},
	{SET(avx512, avx512), SET(avx512_nt, avx512)},
};

static bool cpu_has(enum cvb_stream_isa isa)
{
	switch (isa) {
	case CVB_STREAM_SSE2:
		return true;
	case CVB_STREAM_AVX2:
		return __builtin_cpu_supports("avx2");
	case CVB_STREAM_AVX512:
		return __builtin_cpu_supports("avx512f");
	case CVB_STREAM_ISAS:
		break;
	}
	return false;
}

cvb_stream_fn *cvb_stream_pick(enum cvb_stream_isa isa, enum cvb_stream_kernel kernel,
			       bool nontemporal)
{
	return cpu_has(isa) ? kernels[isa][nontemporal][kernel] : NULL;
}

enum cvb_stream_isa cvb_stream_best_isa(void)
{
	enum cvb_stream_isa isa = CVB_STREAM_AVX512;

	while (isa > CVB_STREAM_SSE2 && !cpu_has(isa))
		isa--;
	return isa;
}
