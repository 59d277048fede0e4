/* SPDX-License-Identifier: Apache-2.0 */
#include "llm/reduce.h"

#include "core/util.h"
#include "gpu/matrix.h"

#include <errno.h>

/* Elements after which a vector repeats: a prime, so that no power of two is a period of it. */
#define TILE ((size_t)8191)
/* Tiles that are looked at in one piece. */
#define PIECE (64 * TILE * sizeof(double))

/* Element i of a GPU's own vector: a small whole number, so that sums are exact. */
static double value(unsigned rank, size_t i)
{
	return (double)(cvb_gpu_pattern(1 + rank, i % TILE) >> 44) + 1;
}

static double sum_of(size_t i)
{
	return value(0, i) + value(1, i);
}

static int wait_all(struct llm_reduce *d, int r, struct cvb_err *err)
{
	for (unsigned k = 0; k < LLM_MAX_RANKS; k++) {
		int synced = cvb_gpu_sync(d->rank[k].stream, r < 0 ? NULL : err);

		r = r < 0 ? r : synced;
	}
	return r;
}

/* One tile from the host, then what there is, doubled. */
static int fill(struct llm_reduce *d, unsigned k, struct cvb_err *err)
{
	struct cvb_gpu_stream *stream = d->rank[k].stream;
	struct cvb_gpu_buf *own = d->rank[k].own;
	size_t done = cvb_min(d->bytes, TILE * sizeof(double));
	double *p = cvb_gpu_buf_host(d->rank[k].host);
	int r;

	for (size_t i = 0; i < done / sizeof(double); i++)
		p[i] = value(k, i);
	r = cvb_gpu_copy_async(stream, own, 0, d->rank[k].host, 0, done, err);
	for (size_t n; r == 0 && done < d->bytes; done += n) {
		n = cvb_min(done, d->bytes - done);
		r = cvb_gpu_copy_async(stream, own, done, own, 0, n, err);
	}
	if (r == 0)
		r = cvb_gpu_memset_async(stream, d->rank[k].residual, 0, 0, d->bytes, err);
	return wait_all(d, r, err);
}

static int make_rank(struct llm_reduce *d, unsigned k, struct cvb_err *err)
{
	struct cvb_gpu *gpu = d->rank[k].gpu;
	int r = cvb_gpu_event_new(gpu, &d->rank[k].ready, err);

	if (r == 0)
		r = cvb_gpu_alloc(gpu, CVB_GPU_DEVICE, d->bytes, &d->rank[k].own, err);
	if (r == 0)
		r = cvb_gpu_alloc(gpu, CVB_GPU_DEVICE, d->bytes, &d->rank[k].sum, err);
	if (r == 0)
		r = cvb_gpu_alloc(gpu, CVB_GPU_DEVICE, d->bytes, &d->rank[k].residual, err);
	if (r == 0)
		r = cvb_gpu_alloc(gpu, cvb_matrix_host(gpu), cvb_min(d->bytes, PIECE),
				  &d->rank[k].host, err);
	return r < 0 ? r : fill(d, k, err);
}

int llm_reduce_init(struct llm_reduce *d, struct cvb_gpu *const gpu[LLM_MAX_RANKS],
		    struct cvb_gpu_stream *const stream[LLM_MAX_RANKS], size_t bytes,
		    struct cvb_err *err)
{
	int r = 0;

	*d = (struct llm_reduce){.bytes = bytes};
	for (unsigned k = 0; k < LLM_MAX_RANKS; k++) {
		d->rank[k].gpu = gpu[k];
		d->rank[k].stream = stream[k];
	}
	for (unsigned k = 0; r == 0 && k < LLM_MAX_RANKS; k++)
		r = make_rank(d, k, err);
	if (r == 0)
		r = llm_reduce_run(d, err);
	/* also after a failure: nothing may be in flight on return */
	r = d->rank[LLM_MAX_RANKS - 1].host ? wait_all(d, r, err) : r;
	return r < 0 ? r : llm_reduce_check(d, err);
}

void llm_reduce_done(struct llm_reduce *d)
{
	for (unsigned k = 0; k < LLM_MAX_RANKS; k++) {
		d->rank[k].ready = cvb_gpu_event_free(d->rank[k].ready);
		d->rank[k].own = cvb_gpu_free(d->rank[k].own);
		d->rank[k].sum = cvb_gpu_free(d->rank[k].sum);
		d->rank[k].residual = cvb_gpu_free(d->rank[k].residual);
		d->rank[k].host = cvb_gpu_free(d->rank[k].host);
	}
}

/* ---- one all-reduce ---- */

static int add(struct llm_reduce *d, unsigned k, struct cvb_gpu_buf *to, struct cvb_gpu_buf *what,
	       struct cvb_err *err)
{
	const struct cvb_gpu_launch l = {
		.kernel = CVB_GPU_KERNEL_ADD, .a = to, .b = what, .bytes = d->bytes};

	return cvb_gpu_launch_async(d->rank[k].stream, &l, err);
}

/* What each stream gets from now on runs after what the other has now. */
static int order(struct llm_reduce *d, struct cvb_err *err)
{
	int r = 0;

	for (unsigned k = 0; r == 0 && k < LLM_MAX_RANKS; k++)
		r = cvb_gpu_event_record(d->rank[k].ready, d->rank[k].stream, err);
	for (unsigned k = 0; r == 0 && k < LLM_MAX_RANKS; k++)
		r = cvb_gpu_event_wait(d->rank[k].stream, d->rank[LLM_MAX_RANKS - 1 - k].ready,
				       err);
	return r;
}

int llm_reduce_run(struct llm_reduce *d, struct cvb_err *err)
{
	int r = order(d, err);

	d->done++;
	for (unsigned k = 0; r == 0 && k < LLM_MAX_RANKS; k++) {
		struct cvb_gpu_buf *from = d->rank[LLM_MAX_RANKS - 1 - k].own;

		r = cvb_gpu_peer_copy_async(d->rank[k].stream, d->rank[k].sum, 0, from, 0, d->bytes,
					    err);
		if (r == 0)
			r = add(d, k, d->rank[k].sum, d->rank[k].own, err);
		if (r == 0)
			r = add(d, k, d->rank[k].residual, d->rank[k].sum, err);
	}
	return r;
}

/* ---- check ---- */

static int check_vector(struct llm_reduce *d, unsigned k, struct cvb_gpu_buf *buf, double times,
			struct cvb_err *err)
{
	const double *p = cvb_gpu_buf_host(d->rank[k].host);
	int r = 0;

	for (size_t at = 0, n; r == 0 && at < d->bytes; at += n) {
		n = cvb_min(PIECE, d->bytes - at);
		r = cvb_gpu_copy_async(d->rank[k].stream, d->rank[k].host, 0, buf, at, n, err);
		r = wait_all(d, r, err);
		for (size_t i = 0; r == 0 && i < n / sizeof(*p); i++) {
			double want = times * sum_of(i + at / sizeof(*p));

			if (!(p[i] >= want && p[i] <= want))
				r = cvb_err_set(err, -EBADMSG,
						"all-reduce: element %zu on GPU %u is %.17g "
						"instead of %.17g",
						i + at / sizeof(*p), k, p[i], want);
		}
	}
	return r;
}

int llm_reduce_check(struct llm_reduce *d, struct cvb_err *err)
{
	int r = 0;

	for (unsigned k = 0; r == 0 && k < LLM_MAX_RANKS && d->done; k++) {
		r = check_vector(d, k, d->rank[k].sum, 1, err);
		if (r == 0)
			r = check_vector(d, k, d->rank[k].residual, (double)d->done, err);
		/* the next batch must write them again */
		if (r == 0)
			r = cvb_gpu_memset_async(d->rank[k].stream, d->rank[k].residual, 0, 0,
						 d->bytes, err);
		if (r == 0)
			r = cvb_gpu_memset_async(d->rank[k].stream, d->rank[k].sum, 0, 0xff,
						 d->bytes, err);
		r = wait_all(d, r, err);
	}
	d->done = 0;
	return r;
}
