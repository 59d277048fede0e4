/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtual time: lanes that pass a baton, copies that share bandwidth, resources.  See virt.h.
 */
#include "gpu/virt.h"

#include "core/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static _Thread_local struct virt_lane *this_lane; /* NULL: no lane */

/* ---- world ---- */

static struct virt_lane *lane_of(struct virt_world *w)
{
	return this_lane && this_lane->world == w ? this_lane : &w->main;
}

static uint64_t clock_now_ns(void *ctx)
{
	struct virt_world *w = ctx;
	struct virt_lane *lane = lane_of(w);

	if (lane != &w->main)
		return lane->now / VIRT_PS_PER_NS; /* this thread's own */
	pthread_mutex_lock(&w->lock);
	uint64_t now = lane->now;

	pthread_mutex_unlock(&w->lock);
	return now / VIRT_PS_PER_NS;
}

struct virt_world *virt_world_new(const struct cvb_virt_spec *spec)
{
	struct virt_world *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	pthread_mutex_init(&w->lock, /* attr= */ NULL);
	pthread_cond_init(&w->main.turn, /* attr= */ NULL);
	w->main.world = w;
	w->running = &w->main;
	w->devices = 1;
	w->noise = *spec;
	w->clock = (struct cvb_clock){.name = "virtual", .now_ns = clock_now_ns, .ctx = w};
	TAILQ_INIT(&w->xfers);
	w->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	return w;
}

void virt_world_drop(struct virt_world *w)
{
	if (--w->devices)
		return;
	if (w->pagemap >= 0)
		close(w->pagemap);
	pthread_cond_destroy(&w->main.turn);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

uint32_t virt_draw_noise(struct virt_world *w)
{
	uint32_t ppm = w->noise.noise_ppm;

	if (!ppm)
		return 1000000;
	return 1000000 - ppm +
	       (uint32_t)(cvb_gpu_pattern(w->noise.seed, w->noises++) % (2 * ppm + 1));
}

uint64_t virt_with_noise(uint64_t ps, uint32_t ppm)
{
	return (uint64_t)((unsigned __int128)ps * ppm / 1000000);
}

uint64_t virt_noise(struct virt_world *w, uint64_t ps)
{
	return virt_with_noise(ps, virt_draw_noise(w));
}

/* ---- copies that share ---- */

/* Of the direction, with bytes on their way. */
static unsigned count_active(const struct virt_world *w, const struct cvb_gpu *gpu,
			     enum cvb_gpu_dir dir)
{
	const struct virt_xfer *x;
	unsigned n = 0;

	TAILQ_FOREACH (x, &w->xfers, link)
		n += x->state == VIRT_XFER_DATA && x->context->gpu == gpu && x->dir == dir;
	return n;
}

/* Count the time up to `t` off what is left. */
static void share_until(struct virt_world *w, uint64_t t)
{
	struct virt_xfer *x;

	TAILQ_FOREACH (x, &w->xfers, link)
		if (x->state == VIRT_XFER_DATA)
			x->left -= cvb_min(x->left, t - w->shared_at);
	w->shared_at = t;
}

/*
 * Both directions together, in bytes a second: what they would take of the duplex bandwidth.  Each
 * copy's total is stretched by the same factor where that is too much.
 */
static void cap_duplex(struct virt_world *w, struct cvb_gpu *gpu)
{
	const struct virt_gpu *g = virt_gpu_of(gpu);
	unsigned __int128 sum = 0;
	struct virt_xfer *x;
	double limit;

	if (!virt_param_known(g, CVB_SKU_DUPLEX) || !count_active(w, gpu, CVB_GPU_H2D) ||
	    !count_active(w, gpu, CVB_GPU_D2H))
		return;
	if (virt_param(g, CVB_SKU_DUPLEX, &limit, /* err= */ NULL) < 0)
		return;
	TAILQ_FOREACH (x, &w->xfers, link)
		if (x->state == VIRT_XFER_DATA && x->context->gpu == gpu && x->total)
			sum += (unsigned __int128)x->bytes * UINT64_C(1000000000000) / x->total;
	if (sum <= (uint64_t)limit)
		return;
	TAILQ_FOREACH (x, &w->xfers, link) {
		if (x->state != VIRT_XFER_DATA || x->context->gpu != gpu)
			continue;
		x->total = (uint64_t)(x->total * sum / (uint64_t)limit);
		x->left = (uint64_t)(x->left * sum / (uint64_t)limit);
	}
}

/* The copies of a device have become more or fewer: new rates for what is left of each. */
static void share_again(struct virt_world *w, struct cvb_gpu *gpu)
{
	struct virt_xfer *x;

	TAILQ_FOREACH (x, &w->xfers, link) {
		uint64_t total;

		if (x->state != VIRT_XFER_DATA || x->context->gpu != gpu || x->r < 0)
			continue;
		x->r = virt_shared_ps(x, count_active(w, gpu, x->dir), &total, &x->err);
		if (x->r < 0) {
			x->left = 0; /* ends now, with its error */
			continue;
		}
		if (x->total)
			x->left = (uint64_t)((unsigned __int128)x->left * total / x->total);
		x->total = total;
	}
	cap_duplex(w, gpu);
}

static void begin_toll(struct virt_xfer *x, uint64_t now)
{
	x->state = VIRT_XFER_TOLL;
	x->at = cvb_max(now, x->stream_end) + x->toll;
}

static void begin_data(struct virt_world *w, struct virt_xfer *x)
{
	share_until(w, x->at);
	x->state = VIRT_XFER_DATA;
	x->total = x->left = x->alone;
	share_again(w, x->context->gpu);
}

static bool same_channel(const struct virt_xfer *a, const struct virt_xfer *b)
{
	return a->context == b->context && a->dir == b->dir;
}

static void end_data(struct virt_world *w, struct virt_xfer *x, uint64_t t)
{
	struct virt_xfer *next;

	share_until(w, t);
	TAILQ_REMOVE(&w->xfers, x, link);
	x->lane->now = t;
	x->lane->state = VIRT_READY;
	share_again(w, x->context->gpu);
	TAILQ_FOREACH (next, &w->xfers, link) {
		if (next->state == VIRT_XFER_QUEUED && same_channel(next, x)) {
			begin_toll(next, t);
			return;
		}
	}
}

/* The copy whose state changes next; NULL for none. */
static struct virt_xfer *next_xfer(const struct virt_world *w, uint64_t *ret_at)
{
	struct virt_xfer *x, *first = NULL;

	TAILQ_FOREACH (x, &w->xfers, link) {
		uint64_t at = x->state == VIRT_XFER_TOLL ? x->at : w->shared_at + x->left;

		if (x->state == VIRT_XFER_QUEUED || (first && at >= *ret_at))
			continue;
		first = x;
		*ret_at = at;
	}
	return first;
}

/* ---- lanes ---- */

static struct virt_lane *next_ready(struct virt_world *w)
{
	struct virt_lane *first = NULL;

	for (unsigned i = 0; i < w->n_lanes; i++) {
		struct virt_lane *l = &w->lanes[i];

		if (l->state == VIRT_READY && (!first || l->now < first->now))
			first = l;
	}
	return first;
}

/* The lane whose turn it is, once the copies have come as far; &main when all are done. */
static struct virt_lane *next_lane(struct virt_world *w)
{
	for (;;) {
		struct virt_lane *lane = next_ready(w);
		uint64_t at = 0;
		struct virt_xfer *x = next_xfer(w, &at);

		if (!x || (lane && lane->now < at))
			return lane ? lane : &w->main;
		if (x->state == VIRT_XFER_TOLL)
			begin_data(w, x);
		else
			end_data(w, x, at);
	}
}

/* Hand the baton to whose turn it is. */
static void pass_baton(struct virt_world *w)
{
	w->running = next_lane(w);
	pthread_cond_signal(&w->running->turn);
}

static void await_baton(struct virt_lane *lane)
{
	while (lane->world->running != lane)
		pthread_cond_wait(&lane->turn, &lane->world->lock);
}

struct virt_lane *virt_enter(struct virt_world *w)
{
	struct virt_lane *lane = lane_of(w);

	pthread_mutex_lock(&w->lock);
	if (lane != &w->main) {
		pass_baton(w);
		await_baton(lane);
	}
	return lane;
}

void virt_leave(struct virt_world *w)
{
	pthread_mutex_unlock(&w->lock);
}

/* No other copy can come while the only host thread waits for this one. */
static int block_alone(struct virt_lane *lane, struct virt_xfer *x, struct cvb_err *err)
{
	uint64_t ps;
	int r = virt_shared_ps(x, 1, &ps, err);

	if (r == 0)
		lane->now = cvb_max(lane->now, x->stream_end) + x->toll + ps;
	return r;
}

int virt_block(struct virt_lane *lane, struct virt_xfer *x, struct cvb_err *err)
{
	struct virt_world *w = lane->world;
	struct virt_xfer *other;
	bool queued = false;

	if (lane == &w->main)
		return block_alone(lane, x, err);
	x->lane = lane;
	x->r = 0;
	x->err = (struct cvb_err){0};
	TAILQ_FOREACH (other, &w->xfers, link)
		queued = queued || same_channel(other, x);
	if (TAILQ_EMPTY(&w->xfers))
		w->shared_at = lane->now;
	x->state = VIRT_XFER_QUEUED;
	if (!queued)
		begin_toll(x, lane->now);
	TAILQ_INSERT_TAIL(&w->xfers, x, link);
	lane->state = VIRT_BLOCKED;
	pass_baton(w);
	await_baton(lane);
	if (x->r < 0 && err)
		*err = x->err;
	return x->r;
}

static void *lane_main(void *arg)
{
	struct virt_lane *lane = arg;
	struct virt_world *w = lane->world;

	this_lane = lane;
	pthread_mutex_lock(&w->lock);
	await_baton(lane);
	pthread_mutex_unlock(&w->lock);
	lane->r = lane->fn(lane->arg, lane->number, &lane->err);
	pthread_mutex_lock(&w->lock);
	/* its own turn first: it may be ahead of the others */
	lane->state = VIRT_DONE;
	pass_baton(w);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* Start the threads; each waits for the baton.  The number that was started. */
static unsigned start_lanes(struct virt_world *w, unsigned lanes, cvb_gpu_lane_fn *fn, void *arg,
			    int *ret, struct cvb_err *err)
{
	for (unsigned i = 0; i < lanes; i++) {
		struct virt_lane *l = &w->lanes[i];

		*l = (struct virt_lane){
			.world = w, .number = i, .now = w->main.now, .fn = fn, .arg = arg};
		pthread_cond_init(&l->turn, /* attr= */ NULL);
		*ret = -pthread_create(&l->thread, NULL, lane_main, l);
		if (*ret < 0) {
			cvb_err_set(err, *ret, "cannot start host thread %u: %s", i,
				    strerror(-*ret));
			pthread_cond_destroy(&l->turn);
			return i;
		}
	}
	*ret = 0;
	return lanes;
}

int virt_parallel(struct cvb_gpu *gpu, unsigned lanes, cvb_gpu_lane_fn *fn, void *arg,
		  struct cvb_err *err)
{
	struct virt_world *w = virt_gpu_of(gpu)->world;
	uint64_t last = 0;
	int r;

	pthread_mutex_lock(&w->lock);
	if (this_lane || w->lanes) {
		pthread_mutex_unlock(&w->lock);
		return cvb_err_set(err, -EINVAL, "parallel: host threads are running already");
	}
	w->lanes = calloc(lanes, sizeof(*w->lanes));
	if (!w->lanes) {
		pthread_mutex_unlock(&w->lock);
		return cvb_err_set(err, -ENOMEM, "out of memory");
	}
	w->n_lanes = start_lanes(w, lanes, fn, arg, &r, err);
	pass_baton(w);
	await_baton(&w->main);
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->n_lanes; i++) {
		struct virt_lane *l = &w->lanes[i];

		pthread_join(l->thread, NULL);
		pthread_cond_destroy(&l->turn);
		last = cvb_max(last, l->now);
		if (r == 0 && l->r < 0) {
			r = l->r;
			if (err)
				*err = l->err;
		}
	}
	pthread_mutex_lock(&w->lock);
	w->main.now = cvb_max(w->main.now, last);
	free(w->lanes);
	w->lanes = NULL;
	w->n_lanes = 0;
	pthread_mutex_unlock(&w->lock);
	return r;
}

void virt_host_work(struct cvb_gpu *gpu, uint64_t ns)
{
	struct virt_world *w = virt_gpu_of(gpu)->world;
	struct virt_lane *lane = virt_enter(w);

	lane->now += virt_noise(w, cvb_min(ns, VIRT_MAX_NS) * VIRT_PS_PER_NS);
	virt_leave(w);
}

/* ---- resources ---- */

/* Forget what ended before `now`, one at least; room for one more. */
static int make_room(struct virt_resource *res, uint64_t now, struct cvb_err *err)
{
	size_t gone = 0;

	if (res->n < res->room)
		return 0;
	while (gone < res->n && res->busy[gone].to < now)
		gone++;
	if (gone) {
		res->n -= gone;
		memmove(res->busy, res->busy + gone, res->n * sizeof(*res->busy));
		return 0;
	}
	size_t room = res->room ? 2 * res->room : 16;
	struct virt_busy *bigger = reallocarray(res->busy, room, sizeof(*bigger));

	if (!bigger)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	res->busy = bigger;
	res->room = room;
	return 0;
}

int virt_reserve(struct virt_resource *res, uint64_t now, uint64_t earliest, uint64_t ps,
		 uint64_t *ret_start, struct cvb_err *err)
{
	int r = make_room(res, now, err);
	uint64_t start = earliest;
	size_t i = res->n;

	if (r < 0)
		return r;
	/* from the end, where the free time mostly is: the last one that ends before this begins */
	while (i > 0 && res->busy[i - 1].to > earliest)
		i--;
	while (i < res->n && res->busy[i].from < start + ps) {
		start = cvb_max(start, res->busy[i].to);
		i++;
	}
	*ret_start = start;
	if (i > 0 && res->busy[i - 1].to == start) {
		res->busy[i - 1].to += ps;
		return 0;
	}
	memmove(res->busy + i + 1, res->busy + i, (res->n - i) * sizeof(*res->busy));
	res->busy[i] = (struct virt_busy){start, start + ps};
	res->n++;
	return 0;
}
