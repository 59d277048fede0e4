/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy engines: a ring of slots with a producer at one end and a consumer at the other.
 *
 * Host to device, the calling thread produces and the engine's thread consumes; device to host, the
 * reverse.  The ring fits into the last cache, so that a chunk crosses memory once on each side.
 */
#include "core/util.h"
#include "gpu/emu.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#define RING_BYTES (EMU_SLOTS * sizeof(struct emu_slot))

_Static_assert(sizeof(struct emu_slot) % 4096 == 0, "slots begin on a page");

/* ---- waiting ---- */

#define SPINS 1500 /* about 20 to 50 us */

void emu_signal_init(struct emu_signal *s)
{
	pthread_mutex_init(&s->lock, /* attr= */ NULL);
	pthread_cond_init(&s->cond, /* attr= */ NULL);
	atomic_init(&s->sleepers, 0);
}

void emu_signal_done(struct emu_signal *s)
{
	pthread_cond_destroy(&s->cond);
	pthread_mutex_destroy(&s->lock);
}

/*
 * The sleeper counts itself and then looks at the state; the waker changes the state and then looks
 * at the count.  All of it is sequentially consistent, so one of the two sees the other.
 */
void emu_wake(struct emu_signal *s)
{
	if (!atomic_load(&s->sleepers))
		return;
	pthread_mutex_lock(&s->lock);
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

static inline void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory");
#endif
}

void emu_wait(struct emu_signal *s, bool (*ready)(void *arg), void *arg)
{
	for (int i = 0; i < SPINS; i++) {
		if (ready(arg))
			return;
		relax();
	}
	pthread_mutex_lock(&s->lock);
	atomic_fetch_add(&s->sleepers, 1);
	while (!ready(arg))
		pthread_cond_wait(&s->cond, &s->lock);
	atomic_fetch_sub(&s->sleepers, 1);
	pthread_mutex_unlock(&s->lock);
}

int emu_thread_start(pthread_t *ret, const cpu_set_t *cpus, void *(*run)(void *), void *arg,
		     struct cvb_err *err)
{
	pthread_attr_t attr;
	int r = pthread_attr_init(&attr);

	if (r == 0) {
		r = pthread_attr_setaffinity_np(&attr, sizeof(*cpus), cpus);
		if (r == 0)
			r = pthread_create(ret, &attr, run, arg);
		pthread_attr_destroy(&attr);
	}
	return r ? cvb_err_set(err, -r, "cannot start a thread: %s", strerror(r)) : 0;
}

/* ---- the two ends of the ring ---- */

static struct emu_slot *slot_of(const struct emu_engine *e, size_t chunk)
{
	return (e->job.encrypted ? e->bounce : e->ring) + chunk % EMU_SLOTS;
}

static size_t chunk_bytes(const struct emu_job *j, size_t chunk)
{
	return cvb_min(EMU_CHUNK_BYTES, j->bytes - chunk * EMU_CHUNK_BYTES);
}

static void fail(struct emu_engine *e, size_t chunk, int code)
{
	int none = 0;

	if (atomic_compare_exchange_strong(&e->failed, &none, code))
		atomic_store(&e->failed_chunk, chunk);
	emu_wake(&e->signal);
}

static bool slot_is_free(void *arg)
{
	struct emu_engine *e = arg;

	return atomic_load(&e->produced) - atomic_load(&e->consumed) < EMU_SLOTS ||
	       atomic_load(&e->failed);
}

static bool slot_is_full(void *arg)
{
	struct emu_engine *e = arg;

	return atomic_load(&e->produced) != atomic_load(&e->consumed) || atomic_load(&e->failed);
}

static void produce(struct emu_engine *e, const uint8_t *src)
{
	const struct emu_job *j = &e->job;

	for (size_t i = 0; i < j->chunks; i++) {
		struct emu_slot *slot = slot_of(e, i);
		size_t n = chunk_bytes(j, i);
		int r = 0;

		emu_wait(&e->signal, slot_is_free, e);
		if (atomic_load(&e->failed))
			return;
		if (j->encrypted)
			r = emu_seal(e->crypt, j->first_number + i, slot->data, slot->tag,
				     src + i * EMU_CHUNK_BYTES, n);
		else
			memcpy(slot->data, src + i * EMU_CHUNK_BYTES, n);
		if (r < 0) {
			fail(e, i, r);
			return;
		}
		if (j->encrypted && e->probe->sealed)
			e->probe->sealed(e->probe->arg, e->dir, slot, n);
		atomic_store(&e->produced, i + 1);
		emu_wake(&e->signal);
	}
}

static void consume(struct emu_engine *e, uint8_t *dst)
{
	const struct emu_job *j = &e->job;

	for (size_t i = 0; i < j->chunks; i++) {
		struct emu_slot *slot = slot_of(e, i);
		size_t n = chunk_bytes(j, i);
		int r = 0;

		emu_wait(&e->signal, slot_is_full, e);
		if (atomic_load(&e->failed))
			return;
		if (j->encrypted)
			r = emu_open(e->crypt, j->first_number + i, dst + i * EMU_CHUNK_BYTES,
				     slot->tag, slot->data, n);
		else
			memcpy(dst + i * EMU_CHUNK_BYTES, slot->data, n);
		if (r < 0) {
			fail(e, i, r);
			return;
		}
		atomic_store(&e->consumed, i + 1);
		emu_wake(&e->signal);
	}
}

/* ---- the engine's thread ---- */

static bool has_job(void *arg)
{
	struct emu_engine *e = arg;

	return atomic_load(&e->submitted) != atomic_load(&e->finished) || atomic_load(&e->quit);
}

static bool job_is_done(void *arg)
{
	struct emu_engine *e = arg;

	return atomic_load(&e->submitted) == atomic_load(&e->finished);
}

static void *engine_main(void *arg)
{
	struct emu_engine *e = arg;

	for (;;) {
		emu_wait(&e->signal, has_job, e);
		if (job_is_done(e))
			return NULL; /* nothing left: it was `quit` */
		if (e->dir == CVB_GPU_H2D)
			consume(e, e->job.device);
		else
			produce(e, e->job.device);
		atomic_fetch_add(&e->finished, 1);
		emu_wake(&e->signal);
	}
}

/*
 * A device's copy engine takes no time from the caller's CPU: keep its thread off it.  Left alone,
 * the scheduler now and then lets the two sides share a CPU for a whole run, at half the speed.
 */
static void keep_off_caller(struct emu_engine *e)
{
	int cpu = sched_getcpu();
	cpu_set_t others = e->cpus;

	if (cpu < 0 || cpu == e->kept_off || cpu >= CPU_SETSIZE)
		return;
	e->kept_off = cpu;
	CPU_CLR((size_t)cpu, &others);
	if (CPU_COUNT(&others) > 0) /* refused or alone: they share, as before */
		(void)pthread_setaffinity_np(e->thread, sizeof(others), &others);
}

int emu_engine_staged(struct emu_engine *e, uint8_t *device, uint8_t *host, size_t bytes,
		      struct cvb_err *err)
{
	size_t chunks = (bytes + EMU_CHUNK_BYTES - 1) / EMU_CHUNK_BYTES;

	pthread_mutex_lock(&e->busy);
	keep_off_caller(e);
	e->job = (struct emu_job){
		.device = device,
		.host = host,
		.bytes = bytes,
		.chunks = chunks,
		.encrypted = e->crypt != NULL,
		.first_number = e->next_number,
	};
	/* also after a failure: a number that might have been used is never used again */
	e->next_number += chunks;
	atomic_store(&e->produced, 0);
	atomic_store(&e->consumed, 0);
	atomic_store(&e->failed, 0);
	atomic_fetch_add(&e->submitted, 1);
	emu_wake(&e->signal);
	if (e->dir == CVB_GPU_H2D)
		produce(e, host);
	else
		consume(e, host);
	emu_wait(&e->signal, job_is_done, e);

	int r = atomic_load(&e->failed);
	size_t chunk = atomic_load(&e->failed_chunk);

	pthread_mutex_unlock(&e->busy);
	if (r == -EBADMSG)
		return cvb_err_set(err, r, "tag check failed in chunk %zu of %zu of a copy %s",
				   chunk, chunks, cvb_gpu_dir_text(e->dir));
	if (r < 0)
		return cvb_err_set(err, r, "OpenSSL failed in chunk %zu of %zu of a copy %s", chunk,
				   chunks, cvb_gpu_dir_text(e->dir));
	return 0;
}

/* ---- life ---- */

static struct emu_slot *map_ring(int flags, struct cvb_err *err)
{
	void *p = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE,
		       flags | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED) {
		cvb_err_set(err, -errno, "cannot map %zu KiB of staging memory: %s",
			    RING_BYTES / 1024, strerror(errno));
		return NULL;
	}
	return p;
}

int emu_engine_init(struct emu_engine *e, enum cvb_gpu_dir dir, bool cc, const cpu_set_t *cpus,
		    const struct emu_probe *probe, struct cvb_err *err)
{
	int r;

	e->dir = dir;
	e->probe = probe;
	e->cpus = *cpus;
	e->kept_off = -1;
	pthread_mutex_init(&e->busy, /* attr= */ NULL);
	emu_signal_init(&e->signal);
	/* with cc=on there is no private staging memory: nothing could cross in clear */
	if (cc)
		e->bounce = map_ring(MAP_SHARED, err);
	else
		e->ring = map_ring(MAP_PRIVATE, err);
	r = e->bounce || e->ring ? 0 : -ENOMEM;
	if (r == 0 && cc)
		r = emu_crypt_new(&e->crypt, err);
	if (r == 0)
		r = emu_thread_start(&e->thread, cpus, engine_main, e, err);
	e->started = r == 0;
	if (r < 0)
		emu_engine_done(e);
	return r;
}

void emu_engine_done(struct emu_engine *e)
{
	if (e->started) {
		atomic_store(&e->quit, true);
		emu_wake(&e->signal);
		pthread_join(e->thread, NULL);
	}
	e->crypt = emu_crypt_free(e->crypt);
	if (e->ring)
		munmap(e->ring, RING_BYTES);
	if (e->bounce)
		munmap(e->bounce, RING_BYTES);
	emu_signal_done(&e->signal);
	pthread_mutex_destroy(&e->busy);
}
