/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels of the CUDA backend, compiled by nvcc into a fat binary that is part of the program.
 * Names and arguments: cuda_kernel.c.  `n` counts 64-bit words; every loop strides over the grid.
 */
typedef unsigned long long word;

#define EACH(i, n)                                                                                 \
	(word i = blockIdx.x * (word)blockDim.x + threadIdx.x, stride = gridDim.x * (word)blockDim.x; \
	 i < (n); i += stride)

/* cvb_gpu_pattern of gpu.h */
static __device__ word pattern(word seed, word i)
{
	word z = seed + (i + 1) * 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* One atomic operation a block: b is zero before. */
static __device__ void add_up(word *b, word mine)
{
	__shared__ word part[32];

	for (int lane = 16; lane; lane /= 2)
		mine += __shfl_down_sync(~0u, mine, lane);
	if (threadIdx.x % 32 == 0)
		part[threadIdx.x / 32] = mine;
	__syncthreads();
	if (threadIdx.x < 32) {
		mine = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0;
		for (int lane = 16; lane; lane /= 2)
			mine += __shfl_down_sync(~0u, mine, lane);
		if (threadIdx.x == 0 && mine)
			atomicAdd(b, mine);
	}
}

extern "C" {

__global__ void cvb_empty(void)
{
}

/* Busy by the device's own timer: no word from the host ends it. */
__global__ void cvb_spin(word ns)
{
	word start, now;

	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
	do
		asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
	while (now - start < ns);
}

__global__ void cvb_fill(word *a, word n, word seed)
{
	for EACH (i, n)
		a[i] = pattern(seed, i);
}

__global__ void cvb_verify(const word *a, word *b, word n, word seed)
{
	word wrong = 0;

	for EACH (i, n)
		wrong += a[i] != pattern(seed, i);
	add_up(b, wrong);
}

/*
 * The next three move 16 bytes a thread and load; buffers begin at 256-byte boundaries.  Each
 * thread has four loads of each operand under way before it uses the first: with 1024 threads on a
 * multiprocessor that is 64 KiB in flight there, what memory of 8 TB/s needs at a latency of a
 * microsecond.  They are a whole grid apart, so that a warp's loads stay together.  The bounds are
 * those of the launch (cuda_kernel.c): every block has its place at once, none comes after the
 * others.
 */
#define UNROLL 4

__global__ void __launch_bounds__(256, 4) cvb_read(const word *a, word *b, word n)
{
	const ulonglong2 *pairs = (const ulonglong2 *)a;
	word stride = gridDim.x * (word)blockDim.x, i = blockIdx.x * (word)blockDim.x + threadIdx.x;
	word sum = 0;

#pragma unroll 1
	for (; i + (UNROLL - 1) * stride < n / 2; i += UNROLL * stride) {
		ulonglong2 p[UNROLL];

#pragma unroll
		for (int k = 0; k < UNROLL; k++)
			p[k] = pairs[i + k * stride];
#pragma unroll
		for (int k = 0; k < UNROLL; k++)
			sum += p[k].x + p[k].y;
	}
	for (; i < n / 2; i += stride)
		sum += pairs[i].x + pairs[i].y;
	if (n % 2 && blockIdx.x == 0 && threadIdx.x == 0)
		sum += a[n - 1];
	add_up(b, sum);
}

__global__ void __launch_bounds__(256, 4) cvb_copy(word *a, const word *b, word n)
{
	const ulonglong2 *from = (const ulonglong2 *)b;
	ulonglong2 *to = (ulonglong2 *)a;
	word stride = gridDim.x * (word)blockDim.x, i = blockIdx.x * (word)blockDim.x + threadIdx.x;

#pragma unroll 1
	for (; i + (UNROLL - 1) * stride < n / 2; i += UNROLL * stride) {
		ulonglong2 p[UNROLL];

#pragma unroll
		for (int k = 0; k < UNROLL; k++)
			p[k] = from[i + k * stride];
#pragma unroll
		for (int k = 0; k < UNROLL; k++)
			to[i + k * stride] = p[k];
	}
	for (; i < n / 2; i += stride)
		to[i] = from[i];
	if (n % 2 && blockIdx.x == 0 && threadIdx.x == 0)
		a[n - 1] = b[n - 1];
}

/* Rounded twice, as the host does that checks the result: never one fused operation. */
static __device__ double triad(double x, double y, double scalar)
{
	return __dadd_rn(x, __dmul_rn(scalar, y));
}

static __device__ double2 triad(double2 x, double2 y, double scalar)
{
	return make_double2(triad(x.x, y.x, scalar), triad(x.y, y.y, scalar));
}

__global__ void __launch_bounds__(256, 4)
	cvb_triad(double *a, const double *b, const double *c, word n, double scalar)
{
	const double2 *x = (const double2 *)b, *y = (const double2 *)c;
	double2 *to = (double2 *)a;
	word stride = gridDim.x * (word)blockDim.x, i = blockIdx.x * (word)blockDim.x + threadIdx.x;

#pragma unroll 1
	for (; i + (UNROLL - 1) * stride < n / 2; i += UNROLL * stride) {
		double2 p[UNROLL], q[UNROLL];

#pragma unroll
		for (int k = 0; k < UNROLL; k++) {
			p[k] = x[i + k * stride];
			q[k] = y[i + k * stride];
		}
#pragma unroll
		for (int k = 0; k < UNROLL; k++)
			to[i + k * stride] = triad(p[k], q[k], scalar);
	}
	for (; i < n / 2; i += stride)
		to[i] = triad(x[i], y[i], scalar);
	if (n % 2 && blockIdx.x == 0 && threadIdx.x == 0)
		a[n - 1] = triad(b[n - 1], c[n - 1], scalar);
}

__global__ void cvb_add(double *a, const double *b, word n)
{
	for EACH (i, n)
		a[i] += b[i];
}

/* Bytes: out has a row of `pitch` for each of the `cols` columns of `in`, which has `rows` rows. */
__global__ void cvb_transpose(const unsigned char *in, unsigned char *out, word rows, word cols,
			      word pitch)
{
	__shared__ unsigned char tile[32][33];
	word across = (cols + 31) / 32, tiles = across * ((rows + 31) / 32);

	for (word t = blockIdx.x; t < tiles; t += gridDim.x) {
		word row = t / across * 32, col = t % across * 32;

		for (unsigned i = threadIdx.x; i < 32 * 32; i += blockDim.x)
			if (row + i / 32 < rows && col + i % 32 < cols)
				tile[i / 32][i % 32] = in[(row + i / 32) * cols + col + i % 32];
		__syncthreads();
		for (unsigned i = threadIdx.x; i < 32 * 32; i += blockDim.x)
			if (col + i / 32 < cols && row + i % 32 < rows)
				out[(col + i / 32) * pitch + row + i % 32] = tile[i % 32][i / 32];
		__syncthreads();
	}
}

/* E4M3 to bf16, exactly: rows of `cols` to rows of `pitch` elements. */
__global__ void cvb_fp8_to_bf16(const unsigned char *in, unsigned short *out, word rows, word cols,
				word pitch)
{
	for EACH (i, rows * cols) {
		unsigned code = in[i], magnitude = code & 0x7f;
		/* as a float's bits the exponent is too small by 120, also of subnormal numbers */
		float f = __uint_as_float(magnitude << 20) * __uint_as_float((120u + 127) << 23);
		unsigned bits = magnitude == 0x7f ? 0x7fc00000u : __float_as_uint(f);

		out[i / cols * pitch + i % cols] = (unsigned short)(bits >> 16 | (code & 0x80) << 8);
	}
}
}
