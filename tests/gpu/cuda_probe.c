/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rates that no benchmark has a metric for, for ci/check-gpu to compare with other programs':
 *
 *   cuda_probe SPEC [N [BYTES]]   products of N (8192), memory of BYTES (1 GiB)
 *
 * Each is the median of five batches by the host's clock.  What was copied is checked: a rate of
 * wrong work is an error.  Prints one JSON object.
 */
#include "core/util.h"
#include "gpu/gpu.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define BATCHES 5
#define TIMES	20

struct probe {
	struct cvb_gpu *gpu;
	struct cvb_gpu_stream *stream;
	struct cvb_gpu_buf *a, *b, *c, *word;
	size_t bytes;
	uint32_t n;
};

typedef int submit_fn(struct probe *p, struct cvb_err *err);

static int copy_kernel(struct probe *p, struct cvb_err *err)
{
	const struct cvb_gpu_launch l = {
		.kernel = CVB_GPU_KERNEL_COPY, .a = p->a, .b = p->b, .bytes = p->bytes};

	return cvb_gpu_launch_async(p->stream, &l, err);
}

static int copy_engine(struct probe *p, struct cvb_err *err)
{
	return cvb_gpu_copy_async(p->stream, p->c, 0, p->b, 0, p->bytes, err);
}

static int triad(struct probe *p, struct cvb_err *err)
{
	const struct cvb_gpu_launch l = {.kernel = CVB_GPU_KERNEL_TRIAD,
					 .a = p->a,
					 .b = p->b,
					 .c = p->c,
					 .bytes = p->bytes,
					 .scalar = 3};

	return cvb_gpu_launch_async(p->stream, &l, err);
}

static int product(struct probe *p, struct cvb_err *err)
{
	const struct cvb_gpu_gemm g = {CVB_GPU_BF16, p->n, p->n, p->n, 1, 0, p->a, p->b, p->c};

	return cvb_gpu_gemm_async(p->stream, &g, err);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Seconds of one piece of work. */
static int seconds(struct probe *p, submit_fn *submit, double *ret, struct cvb_err *err)
{
	double found[BATCHES];
	int r = submit(p, err);

	if (r == 0)
		r = cvb_gpu_sync(p->stream, err);
	for (size_t i = 0; r == 0 && i < BATCHES; i++) {
		uint64_t start = cvb_now_ns();

		for (size_t j = 0; r == 0 && j < TIMES; j++)
			r = submit(p, err);
		if (r == 0)
			r = cvb_gpu_sync(p->stream, err);
		found[i] = (double)(cvb_now_ns() - start) / 1e9 / TIMES;
	}
	if (r == 0) {
		qsort(found, BATCHES, sizeof(found[0]), by_value);
		*ret = found[BATCHES / 2];
	}
	return r;
}

static int fill(struct probe *p, struct cvb_gpu_buf *buf, uint64_t seed, struct cvb_err *err)
{
	const struct cvb_gpu_launch l = {
		.kernel = CVB_GPU_KERNEL_FILL, .a = buf, .bytes = p->bytes, .seed = seed};

	return cvb_gpu_launch_async(p->stream, &l, err);
}

/* Does the buffer hold the pattern of `seed`? */
static int check(struct probe *p, struct cvb_gpu_buf *buf, uint64_t seed, struct cvb_err *err)
{
	const struct cvb_gpu_launch l = {.kernel = CVB_GPU_KERNEL_VERIFY,
					 .a = buf,
					 .b = p->word,
					 .bytes = p->bytes,
					 .seed = seed};
	struct cvb_gpu_buf *host;
	uint64_t wrong = 1;
	int r = cvb_gpu_alloc(p->gpu, CVB_GPU_HOST_PAGEABLE, sizeof(wrong), &host, err);

	if (r < 0)
		return r;
	r = cvb_gpu_launch_async(p->stream, &l, err);
	if (r == 0)
		r = cvb_gpu_copy_async(p->stream, host, 0, p->word, 0, sizeof(wrong), err);
	if (r == 0)
		r = cvb_gpu_sync(p->stream, err);
	memcpy(&wrong, cvb_gpu_buf_host(host), sizeof(wrong));
	cvb_gpu_free(host);
	if (r == 0 && wrong)
		r = cvb_err_set(err, -EBADMSG, "%llu words came out different",
				(unsigned long long)wrong);
	return r;
}

static int setup(struct probe *p, const char *spec, struct cvb_err *err)
{
	struct cvb_gpu_buf **all[] = {&p->a, &p->b, &p->c};
	int r = cvb_gpu_open(spec, &p->gpu, err);

	if (r == 0)
		r = cvb_gpu_stream_new(p->gpu, &p->stream, err);
	for (size_t i = 0; r == 0 && i < CVB_ARRAY_LEN(all); i++)
		r = cvb_gpu_alloc(p->gpu, CVB_GPU_DEVICE, p->bytes, all[i], err);
	if (r == 0)
		r = cvb_gpu_alloc(p->gpu, CVB_GPU_DEVICE, sizeof(uint64_t), &p->word, err);
	return r;
}

/*
 * Uniform in [-0.5, 0.5), as torch's in ci/check-gpu: a GPU multiplies constants with less power,
 * and so faster, than it does numbers.
 */
static int fill_operands(struct probe *p, struct cvb_err *err)
{
	size_t n = (size_t)p->n * p->n, bytes = n * sizeof(uint16_t);
	struct cvb_gpu_buf *host = NULL;
	int r = cvb_gpu_alloc(p->gpu, CVB_GPU_HOST_PAGEABLE, bytes, &host, err);

	if (r < 0)
		return r;
	uint16_t *out = cvb_gpu_buf_host(host);

	for (size_t i = 0; i < n; i++) {
		float v = (float)(int64_t)cvb_gpu_pattern(1, i) * 0x1p-64F;
		uint32_t bits;

		memcpy(&bits, &v, sizeof(bits));
		out[i] = (uint16_t)(bits >> 16);
	}
	r = cvb_gpu_copy_async(p->stream, p->a, 0, host, 0, bytes, err);
	if (r == 0)
		r = cvb_gpu_copy_async(p->stream, p->b, 0, host, 0, bytes, err);
	if (r == 0)
		r = cvb_gpu_sync(p->stream, err);
	cvb_gpu_free(host);
	return r;
}

static int measure(struct probe *p, double s[4], struct cvb_err *err)
{
	int r = fill(p, p->b, 1, err);

	if (r == 0)
		r = seconds(p, copy_kernel, &s[0], err);
	if (r == 0)
		r = check(p, p->a, 1, err);
	if (r == 0)
		r = seconds(p, copy_engine, &s[1], err);
	if (r == 0)
		r = check(p, p->c, 1, err);
	if (r == 0)
		r = seconds(p, triad, &s[2], err);
	if (r == 0)
		r = fill_operands(p, err);
	return r == 0 ? seconds(p, product, &s[3], err) : r;
}

int main(int argc, char **argv)
{
	struct probe p = {.n = 8192, .bytes = CVB_GIB};
	struct cvb_err err = {0};
	double s[4];

	if (argc < 2 || argc > 4) {
		fprintf(stderr, "usage: cuda_probe SPEC [N [BYTES]]\n");
		return CVB_EXIT_USAGE;
	}
	if (argc > 2)
		p.n = (uint32_t)strtoul(argv[2], NULL, 10);
	if (argc > 3)
		p.bytes = strtoul(argv[3], NULL, 10);
	int r = setup(&p, argv[1], &err);

	if (r == 0)
		r = measure(&p, s, &err);
	cvb_gpu_close(p.gpu);
	if (r < 0) {
		char text[1024];

		cvb_err_text(&err, text, sizeof(text));
		fprintf(stderr, "cuda_probe: %s\n", text);
		return cvb_err_exit(r);
	}
	printf("{\"copy_kernel_bytes_per_s\": %.6g, \"copy_engine_bytes_per_s\": %.6g, "
	       "\"triad_bytes_per_s\": %.6g, \"bf16_flops_per_s\": %.6g}\n",
	       2 * (double)p.bytes / s[0], 2 * (double)p.bytes / s[1], 3 * (double)p.bytes / s[2],
	       2 * pow(p.n, 3) / s[3]);
	return 0;
}
