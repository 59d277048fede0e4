/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/device.h"

#include "core/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE	      ((size_t)4096)
#define DENSE_PAGES   ((size_t)16)	/* at the start of a sparse buffer */
#define CHUNK_BYTES   ((size_t)CVB_MIB) /* of a dense buffer, at a time */
#define LOOK_PAGES    ((size_t)1 << 16) /* of a sparse one */
#define PER_OCTAVE    8			/* places between a power of two and the next */
#define MAX_SIZE_BITS 48
#define LARGE_BYTES   CVB_GIB /* of a sweep: from here on curves are flat and checks take long */
/*
 * Memory for the windows of a batch: 2 ms of copies at 64 GB/s, faster than any link of today; and
 * at 8 GB/s where the CPU is the device, and checks are as slow as copies.
 */
#define MAX_WINDOWS	       UINT64_C(4096)
#define WINDOWS_BYTES	       ((size_t)128 * CVB_MIB)
#define EMULATED_WINDOWS_BYTES ((size_t)16 * CVB_MIB)

/* ---- failures ---- */

void cvb_dev_keep(struct cvb_dev_bad *bad, int r, const struct cvb_err *err)
{
	if (r >= 0 || bad->r < 0)
		return;
	bad->r = r;
	bad->err = *err;
}

int cvb_dev_kept(const struct cvb_dev_bad *bad, struct cvb_err *err)
{
	if (bad->r < 0 && err)
		*err = bad->err;
	return bad->r;
}

int cvb_dev_failed(struct cvb_run *run, int r, const struct cvb_err *err)
{
	char text[CVB_ERR_MSG_BYTES];

	cvb_err_text(err, text, sizeof(text));
	cvb_run_note(run, "%s", text);
	return r;
}

/* ---- time ---- */

uint64_t cvb_dev_now_ns(const struct cvb_gpu *gpu)
{
	const struct cvb_clock *clock = cvb_gpu_clock(gpu);

	return clock->now_ns(clock->ctx);
}

uint64_t cvb_dev_max_iters(const struct cvb_gpu *gpu, uint64_t virtual_iters, uint64_t most)
{
	if (!cvb_gpu_is_deterministic(gpu))
		return most;
	return most ? cvb_min(most, virtual_iters) : virtual_iters;
}

uint64_t cvb_dev_windows(const struct cvb_gpu *gpu, size_t bytes)
{
	size_t all = cvb_gpu_is_emulated(gpu) ? EMULATED_WINDOWS_BYTES : WINDOWS_BYTES;

	if (cvb_gpu_is_deterministic(gpu))
		return 1;
	return cvb_min(cvb_max((uint64_t)(all / bytes), UINT64_C(1)), MAX_WINDOWS);
}

size_t cvb_dev_windows_bytes(const struct cvb_gpu *gpu, size_t max_bytes)
{
	size_t all = cvb_gpu_is_emulated(gpu) ? EMULATED_WINDOWS_BYTES : WINDOWS_BYTES;

	if (cvb_gpu_is_deterministic(gpu))
		return max_bytes;
	return cvb_max(max_bytes, cvb_min(all, (size_t)MAX_WINDOWS * max_bytes));
}

/* ---- options ---- */

int cvb_dev_sizes(struct cvb_dev_sizes *ret, uint64_t min_bytes, uint64_t max_bytes, uint64_t step,
		  uint64_t large_step, struct cvb_err *err)
{
	*ret = (struct cvb_dev_sizes){0};
	if (step < 2 || step & (step - 1))
		return cvb_err_set(err, -EINVAL, "step=%" PRIu64 " is no power of two", step);
	if (min_bytes > max_bytes)
		return cvb_err_set(err, -EINVAL,
				   "min_size (%" PRIu64 " bytes) is larger than max_size (%" PRIu64
				   " bytes)",
				   min_bytes, max_bytes);
	for (uint64_t size = min_bytes; size <= max_bytes && ret->n < CVB_DEV_SIZES;
	     size *= size >= LARGE_BYTES ? large_step : step)
		ret->bytes[ret->n++] = size;
	return 0;
}

int cvb_dev_fit(struct cvb_run *run, struct cvb_dev_sizes *sizes, cvb_dev_make_fn *make,
		cvb_dev_unmake_fn *unmake, void *arg, struct cvb_err *err)
{
	struct cvb_err why = {0};

	while (sizes->n) {
		uint64_t size = sizes->bytes[sizes->n - 1];
		char text[CVB_ERR_MSG_BYTES];
		int r;

		why = (struct cvb_err){0};
		r = make(arg, size, &why);
		if (r < 0 && r != -ENOMEM && err)
			*err = why;
		if (r != -ENOMEM)
			return r;
		unmake(arg);
		sizes->n--;
		cvb_err_text(&why, text, sizeof(text));
		cvb_run_leave_out(run, json_pack("{s:I}", "size_bytes", (json_int_t)size), "%s",
				  text);
	}
	if (err)
		*err = why;
	return -EOPNOTSUPP;
}

/* ---- pattern ---- */

/* Different from its neighbours at every distance that matters; cheap, as checks are many. */
static inline uint64_t pattern_word(uint64_t seed, uint64_t i)
{
	uint64_t x = (i + 1 + (seed << 40)) * UINT64_C(0x9e3779b97f4a7c15);

	x ^= x >> 32;
	x *= UINT64_C(0xd6e8feb86659fd93);
	return (x ^ x >> 29) | UINT64_C(0x0101010101010101);
}

void cvb_dev_pattern(uint64_t seed, void *p, size_t first, size_t bytes)
{
	uint8_t *out = p;

	for (size_t i = 0; i < bytes; i += sizeof(uint64_t)) {
		uint64_t w = pattern_word(seed, (first + i) / sizeof(uint64_t));

		memcpy(out + i, &w, cvb_min(sizeof(w), bytes - i));
	}
}

static size_t first_difference(const uint8_t *p, const uint8_t *q, size_t bytes)
{
	size_t i = 0;

	while (i < bytes && p[i] == q[i])
		i++;
	return i;
}

size_t cvb_dev_differs(uint64_t seed, const void *p, size_t first, size_t bytes)
{
	const uint8_t *in = p;

	for (size_t i = 0; i < bytes; i += sizeof(uint64_t)) {
		uint64_t want = pattern_word(seed, (first + i) / sizeof(want)), got = want;
		size_t n = cvb_min(sizeof(want), bytes - i);

		if (n == sizeof(want))
			memcpy(&got, in + i, sizeof(got)); /* inline, unlike a memcmp */
		else
			memcpy(&got, in + i, n);
		if (got != want)
			return i + first_difference(in + i, (const uint8_t *)&want, n);
	}
	return bytes;
}

/* Offset of the first byte that is not zero; `bytes` for none. */
static size_t not_zero(const uint8_t *p, size_t bytes)
{
	size_t i = 0;

	while (i < bytes && !p[i])
		i++;
	return i;
}

/* ---- places of a sparse buffer ---- */

static int by_number(const void *a, const void *b)
{
	size_t x = *(const size_t *)a, y = *(const size_t *)b;

	return (x > y) - (x < y);
}

static void add_place(struct cvb_dev *d, size_t page, size_t pages)
{
	if (page < pages && d->n_places < CVB_DEV_PLACES)
		d->places[d->n_places++] = page;
}

static void find_places(struct cvb_dev *d, size_t max_bytes, size_t base_bytes)
{
	size_t pages = (max_bytes + PAGE - 1) / PAGE, n = 0;

	for (size_t i = 0; i < DENSE_PAGES; i++)
		add_place(d, i, pages);
	for (size_t octave = DENSE_PAGES; octave < pages; octave *= 2)
		for (size_t i = 0; i < PER_OCTAVE; i++)
			add_place(d, octave + i * (octave / PER_OCTAVE), pages);
	for (size_t bits = 0; base_bytes && bits < MAX_SIZE_BITS; bits++) {
		size_t end = base_bytes << bits;

		if (end >> bits != base_bytes || end > max_bytes)
			break;
		add_place(d, (end - 1) / PAGE, pages);
	}
	add_place(d, pages - 1, pages);
	qsort(d->places, d->n_places, sizeof(d->places[0]), by_number);
	for (size_t i = 0; i < d->n_places; i++)
		if (!i || d->places[i] != d->places[n - 1])
			d->places[n++] = d->places[i];
	d->n_places = n;
}

/* Index of the first place that is not before `page`. */
static size_t place_from(const struct cvb_dev *d, size_t page)
{
	size_t i = 0;

	while (i < d->n_places && d->places[i] < page)
		i++;
	return i;
}

/* ---- a stream ---- */

int cvb_dev_alloc(const struct cvb_dev *d, enum cvb_gpu_mem kind, size_t bytes,
		  struct cvb_gpu_buf **ret, struct cvb_err *err)
{
	return d->context ? cvb_gpu_alloc_in(d->context, kind, bytes, ret, err)
			  : cvb_gpu_alloc(d->gpu, kind, bytes, ret, err);
}

int cvb_dev_init(struct cvb_dev *d, struct cvb_gpu *gpu, struct cvb_gpu_context *context,
		 size_t max_bytes, size_t base_bytes, uint64_t seed, struct cvb_err *err)
{
	int r;

	*d = (struct cvb_dev){.gpu = gpu,
			      .context = context,
			      .seed = seed,
			      .sparse = cvb_gpu_is_deterministic(gpu)};
	if (d->sparse)
		find_places(d, max_bytes, base_bytes);
	r = context ? cvb_gpu_stream_new_in(context, &d->stream, err)
		    : cvb_gpu_stream_new(gpu, &d->stream, err);
	/* pinned: the rate of pageable copies is unknown of some models */
	if (r == 0)
		r = cvb_dev_alloc(
			d,
			cvb_gpu_caps(gpu)->flags & CVB_GPU_CAP_PINNED ? CVB_GPU_HOST_PINNED
								      : CVB_GPU_HOST_PAGEABLE,
			d->sparse ? max_bytes : cvb_min(max_bytes, CHUNK_BYTES), &d->scratch, err);
	return r;
}

void cvb_dev_done(struct cvb_dev *d)
{
	d->stream = cvb_gpu_stream_free(d->stream);
	d->scratch = cvb_gpu_free(d->scratch);
}

int cvb_dev_copy(const struct cvb_dev *d, struct cvb_gpu_buf *dst, size_t dst_at,
		 struct cvb_gpu_buf *src, size_t src_at, size_t bytes, struct cvb_err *err)
{
	int r = cvb_gpu_copy_async(d->stream, dst, dst_at, src, src_at, bytes, err);
	/* also after a failure: nothing may be in flight on return */
	int synced = cvb_gpu_sync(d->stream, r < 0 ? NULL : err);

	return r < 0 ? r : synced;
}

/* ---- data in a buffer ---- */

/* The places of the first `bytes`, one after the other: length of the piece, 0 after the last. */
static size_t piece(const struct cvb_dev *d, size_t bytes, size_t i, size_t *ret_at)
{
	size_t at = d->sparse ? (i < d->n_places ? d->places[i] * PAGE : bytes) : i * CHUNK_BYTES;

	*ret_at = at;
	return at < bytes ? cvb_min(d->sparse ? PAGE : CHUNK_BYTES, bytes - at) : 0;
}

int cvb_dev_fill(struct cvb_dev *d, struct cvb_gpu_buf *buf, size_t bytes, struct cvb_err *err)
{
	uint8_t *host = cvb_gpu_buf_host(buf);
	size_t at, n;
	int r = 0;

	for (size_t i = 0; r == 0 && (n = piece(d, bytes, i, &at)) > 0; i++) {
		cvb_dev_pattern(d->seed, host ? host + at : cvb_gpu_buf_host(d->scratch), at, n);
		if (!host)
			r = cvb_dev_copy(d, buf, at, d->scratch, 0, n, err);
	}
	memset(cvb_gpu_buf_host(d->scratch), 0,
	       cvb_min(cvb_gpu_buf_bytes(d->scratch), d->sparse ? PAGE : CHUNK_BYTES));
	return r;
}

/* Pages of host memory that have memory behind them: 1 in `ret`.  What cannot be told is one. */
static void look(uint8_t *p, size_t pages, unsigned char *ret)
{
	if (mincore(p, pages * PAGE, ret) < 0) {
		memset(ret, 1, pages);
		return;
	}
	for (size_t i = 0; i < pages; i++)
		ret[i] &= 1;
}

/* What is done with each page of a sparse buffer that has memory: `n` bytes from `at` on; `place`:
 * it holds data.  The offset of a wrong byte, or n. */
typedef size_t page_fn(struct cvb_dev *d, uint8_t *p, size_t at, size_t n, bool place);

static size_t page_zero(struct cvb_dev *d, uint8_t *p, size_t at, size_t n, bool place)
{
	(void)d;
	(void)at;
	(void)place;
	memset(p, 0, n);
	return n;
}

static size_t page_check(struct cvb_dev *d, uint8_t *p, size_t at, size_t n, bool place)
{
	return place ? cvb_dev_differs(d->seed, p, at, n) : not_zero(p, n);
}

/* Both in one pass: looking for pages is what takes the time. */
static size_t page_check_zero(struct cvb_dev *d, uint8_t *p, size_t at, size_t n, bool place)
{
	size_t wrong = page_check(d, p, at, n, place);

	return wrong < n ? wrong : page_zero(d, p, at, n, place);
}

/*
 * Go through the pages that have memory, and those that should have.  Offset of the first wrong
 * byte, or `bytes`.
 */
static size_t each_page(struct cvb_dev *d, uint8_t *host, size_t bytes, page_fn *fn)
{
	size_t pages = (bytes + PAGE - 1) / PAGE, next = 0;
	unsigned char seen[LOOK_PAGES];

	for (size_t first = 0; first < pages; first += LOOK_PAGES) {
		size_t count = cvb_min(LOOK_PAGES, pages - first);

		look(host + first * PAGE, count, seen);
		for (size_t i = place_from(d, first);
		     i < d->n_places && d->places[i] < first + count; i++)
			seen[d->places[i] - first] = 1;
		for (const unsigned char *s = seen; (s = memchr(s, 1, count - (size_t)(s - seen)));
		     s++) {
			size_t page = first + (size_t)(s - seen), at = page * PAGE;
			size_t n = cvb_min(PAGE, bytes - at);

			while (next < d->n_places && d->places[next] < page)
				next++;
			size_t wrong = fn(d, host + at, at, n,
					  next < d->n_places && d->places[next] == page);

			if (wrong < n)
				return at + wrong;
		}
	}
	return bytes;
}

/* By copies of the scratch, where a device cannot set memory. */
static int copy_zeroes(struct cvb_dev *d, struct cvb_gpu_buf *buf, size_t bytes,
		       struct cvb_err *err)
{
	size_t most = cvb_gpu_buf_bytes(d->scratch);
	int r = 0;

	if (!d->sparse) /* a sparse one is zero whenever no check is under way */
		memset(cvb_gpu_buf_host(d->scratch), 0, cvb_min(most, bytes));
	for (size_t at = 0; r == 0 && at < bytes; at += most)
		r = cvb_dev_copy(d, buf, at, d->scratch, 0, cvb_min(most, bytes - at), err);
	return r;
}

int cvb_dev_clear(struct cvb_dev *d, struct cvb_gpu_buf *buf, size_t bytes, struct cvb_err *err)
{
	uint8_t *host = cvb_gpu_buf_host(buf);
	struct cvb_err why = {0};
	int r;

	if (host && d->sparse) {
		cvb_ignore((int)each_page(d, host, bytes, page_zero));
		return 0;
	}
	if (host) {
		memset(host, 0, bytes);
		return 0;
	}
	r = cvb_gpu_memset_async(d->stream, buf, 0, 0, bytes, &why);
	if (r == -EOPNOTSUPP)
		return copy_zeroes(d, buf, bytes, err);
	if (r == 0)
		return cvb_gpu_sync(d->stream, err);
	if (err)
		*err = why;
	return r;
}

static int differs(const char *what, size_t at, struct cvb_err *err)
{
	return cvb_err_set(err, -EBADMSG, "%s: byte %zu came out different", what, at);
}

static int check_sparse(struct cvb_dev *d, struct cvb_gpu_buf *buf, size_t bytes, bool clear,
			const char *what, struct cvb_err *err)
{
	uint8_t *host = cvb_gpu_buf_host(buf);

	/* the scratch is zero: a copy back that does not happen is seen */
	int r = host ? 0 : cvb_dev_copy(d, d->scratch, 0, buf, 0, bytes, err);

	if (r < 0)
		return r;
	size_t wrong = each_page(d, host ? host : cvb_gpu_buf_host(d->scratch), bytes,
				 host && !clear ? page_check : page_check_zero);

	if (wrong < bytes)
		return differs(what, wrong, err);
	return !host && clear ? cvb_dev_clear(d, buf, bytes, err) : 0;
}

static int check_dense(struct cvb_dev *d, struct cvb_gpu_buf *buf, size_t bytes, const char *what,
		       struct cvb_err *err)
{
	const uint8_t *host = cvb_gpu_buf_host(buf);
	size_t at, n;

	for (size_t i = 0; (n = piece(d, bytes, i, &at)) > 0; i++) {
		if (!host) {
			memset(cvb_gpu_buf_host(d->scratch), 0, n);
			int r = cvb_dev_copy(d, d->scratch, 0, buf, at, n, err);

			if (r < 0)
				return r;
		}
		size_t wrong = cvb_dev_differs(
			d->seed, host ? host + at : cvb_gpu_buf_host(d->scratch), at, n);

		if (wrong < n)
			return differs(what, at + wrong, err);
	}
	return 0;
}

int cvb_dev_check(struct cvb_dev *d, struct cvb_gpu_buf *buf, size_t bytes, const char *what,
		  struct cvb_err *err)
{
	return d->sparse ? check_sparse(d, buf, bytes, /* clear= */ false, what, err)
			 : check_dense(d, buf, bytes, what, err);
}

int cvb_dev_check_clear(struct cvb_dev *d, struct cvb_gpu_buf *buf, size_t bytes, const char *what,
			struct cvb_err *err)
{
	if (d->sparse)
		return check_sparse(d, buf, bytes, /* clear= */ true, what, err);
	int r = check_dense(d, buf, bytes, what, err);

	return r < 0 ? r : cvb_dev_clear(d, buf, bytes, err);
}

int cvb_dev_after(struct cvb_dev *d, struct cvb_gpu_buf *buf, size_t bytes, bool trial,
		  const char *what, struct cvb_err *err)
{
	return trial ? cvb_dev_clear(d, buf, bytes, err)
		     : cvb_dev_check_clear(d, buf, bytes, what, err);
}
