/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy engines: a ring of slots with a producer at one end and a consumer at the other.
 *
 * Host to device, the calling thread produces and the engine's thread consumes; device to host, the
 * reverse.
 *
 * With cc=on the caller never computes on shared memory: it seals into the private `stage` and
 * copies that into the slot, or copies the slot into `stage` and opens that.  So its two steps add
 * up, and a host that changes a slot while it is in use gains nothing: what was checked is what is
 * used.
 */
#include "core/util.h"
#include "gpu/emu.h"
#include "measure/memory.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#define RING_BYTES (EMU_SLOTS * sizeof(struct emu_slot))

_Static_assert(sizeof(struct emu_slot) % 4096 == 0, "slots begin on a page");

/* ---- waiting ---- */

/*
 * Longer than either end takes for a chunk, also at 1 GB/s: to be woken up costs a guest as much as
 * the chunk itself.
 */
#define SPIN_NS	   300000
#define SPIN_CHECK 32 /* looks at the state for one look at the clock */

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

static atomic_bool may_spin; /* on one CPU the other side could not run meanwhile */

/* Wait awake for a while. */
static bool spin(bool (*ready)(void *arg), void *arg)
{
	if (ready(arg))
		return true;
	for (uint64_t end = cvb_now_ns() + SPIN_NS; atomic_load(&may_spin) && cvb_now_ns() < end;) {
		for (int i = 0; i < SPIN_CHECK; i++) {
			if (ready(arg))
				return true;
			relax();
		}
	}
	return false;
}

void emu_wait(struct emu_signal *s, bool (*ready)(void *arg), void *arg)
{
	if (spin(ready, arg))
		return;
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

	atomic_store(&may_spin, CPU_COUNT(cpus) > 1);
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

/* Seal or open a chunk message by message. */
static int crypt_chunk(struct emu_engine *e, size_t chunk, struct emu_slot *slot, uint8_t *plain,
		       bool seal)
{
	const struct emu_job *j = &e->job;
	size_t n = chunk_bytes(j, chunk), each = j->message_bytes;
	uint64_t number = j->first_number + chunk * (EMU_CHUNK_BYTES / each);
	int r = 0;

	for (size_t at = 0, i = 0; at < n && r == 0; at += each, i++) {
		size_t bytes = cvb_min(each, n - at);

		r = seal ? emu_seal(e->crypt, number + i, slot->data + at, slot->tag[i], plain + at,
				    bytes)
			 : emu_open(e->crypt, number + i, plain + at, slot->tag[i], slot->data + at,
				    bytes);
	}
	return r;
}

/* Ciphertext and tags, between private and shared memory. */
static void copy_slot(const struct emu_engine *e, struct emu_slot *dst, const struct emu_slot *src,
		      size_t bytes)
{
	size_t messages = (bytes + e->job.message_bytes - 1) / e->job.message_bytes;

	memcpy(dst->data, src->data, bytes);
	memcpy(dst->tag, src->tag, messages * EMU_TAG_BYTES);
}

/* The side that the thread which asked for the copy is on; only that one stages. */
static bool caller_produces(const struct emu_engine *e)
{
	return e->dir != CVB_GPU_D2H;
}

static void produce(struct emu_engine *e, uint8_t *src, struct emu_slot *stage)
{
	const struct emu_job *j = &e->job;

	for (size_t i = 0; i < j->chunks; i++) {
		struct emu_slot *slot = slot_of(e, i);
		uint8_t *from = src + i * EMU_CHUNK_BYTES;
		size_t n = chunk_bytes(j, i);
		int r = 0;

		if (stage)
			r = crypt_chunk(e, i, stage, from, /* seal= */ true);
		emu_wait(&e->signal, slot_is_free, e);
		if (atomic_load(&e->failed))
			return;
		if (!j->encrypted)
			memcpy(slot->data, from, n);
		else if (!stage)
			r = crypt_chunk(e, i, slot, from, /* seal= */ true);
		else if (r == 0)
			copy_slot(e, slot, stage, n);
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

/* The slot is read: the other side may fill it again. */
static void release(struct emu_engine *e, size_t chunk)
{
	atomic_store(&e->consumed, chunk + 1);
	emu_wake(&e->signal);
}

static void consume(struct emu_engine *e, uint8_t *dst, struct emu_slot *stage)
{
	const struct emu_job *j = &e->job;

	for (size_t i = 0; i < j->chunks; i++) {
		struct emu_slot *slot = slot_of(e, i);
		uint8_t *to = dst + i * EMU_CHUNK_BYTES;
		size_t n = chunk_bytes(j, i);
		int r = 0;

		emu_wait(&e->signal, slot_is_full, e);
		if (atomic_load(&e->failed))
			return;
		if (!j->encrypted)
			memcpy(to, slot->data, n);
		else if (!stage)
			r = crypt_chunk(e, i, slot, to, /* seal= */ false);
		else
			copy_slot(e, stage, slot, n);
		if (stage) {
			release(e, i);
			r = crypt_chunk(e, i, stage, to, /* seal= */ false);
		}
		if (r < 0) {
			fail(e, i, r);
			return;
		}
		if (!stage)
			release(e, i);
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
		if (caller_produces(e))
			consume(e, e->job.device, NULL);
		else
			produce(e, e->job.device, NULL);
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
		      size_t message_bytes, struct cvb_err *err)
{
	size_t chunks = (bytes + EMU_CHUNK_BYTES - 1) / EMU_CHUNK_BYTES;

	pthread_mutex_lock(&e->busy);
	keep_off_caller(e);
	e->job = (struct emu_job){
		.device = device,
		.host = host,
		.bytes = bytes,
		.chunks = chunks,
		.message_bytes = message_bytes,
		.encrypted = e->crypt != NULL,
		.first_number = e->next_number,
	};
	/* also after a failure: a number that might have been used is never used again */
	e->next_number += chunks * (EMU_CHUNK_BYTES / message_bytes);
	atomic_store(&e->produced, 0);
	atomic_store(&e->consumed, 0);
	atomic_store(&e->failed, 0);
	atomic_fetch_add(&e->submitted, 1);
	emu_wake(&e->signal);
	if (caller_produces(e))
		produce(e, host, e->stage);
	else
		consume(e, host, e->stage);
	emu_wait(&e->signal, job_is_done, e);

	int r = atomic_load(&e->failed);
	size_t chunk = atomic_load(&e->failed_chunk);

	pthread_mutex_unlock(&e->busy);
	if (r == -EBADMSG)
		return cvb_err_set(err, r, "tag check failed in chunk %zu of %zu of a copy %s",
				   chunk, chunks, e->what);
	if (r < 0)
		return cvb_err_set(err, r, "OpenSSL failed in chunk %zu of %zu of a copy %s", chunk,
				   chunks, e->what);
	return 0;
}

/* ---- life ---- */

static struct emu_slot *map_slots(size_t bytes, int flags, struct cvb_err *err)
{
	uint64_t available = cvb_mem_available_bytes();
	void *p = MAP_FAILED;

	if (available &&
	    available < bytes) /* asked first: populating would summon the OOM killer */
		errno = ENOMEM;
	else
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_POPULATE,
			 -1, 0);
	if (p == MAP_FAILED) {
		cvb_err_set(err, -errno, "cannot map %zu KiB of staging memory: %s", bytes / 1024,
			    strerror(errno));
		return NULL;
	}
	return p;
}

static int map_memory(struct emu_engine *e, bool cc, struct cvb_err *err)
{
	bool is_link = e->dir == CVB_GPU_D2D;

	/* with cc=on there is no private ring: nothing could cross in clear */
	if (cc)
		e->bounce = map_slots(RING_BYTES, MAP_SHARED, err);
	else
		e->ring = map_slots(RING_BYTES, MAP_PRIVATE, err);
	if (!e->bounce && !e->ring)
		return -ENOMEM;
	if (cc && !is_link)
		e->stage = map_slots(sizeof(*e->stage), MAP_PRIVATE, err);
	return cc && !is_link && !e->stage ? -ENOMEM : 0;
}

int emu_engine_init(struct emu_engine *e, enum cvb_gpu_dir dir, bool cc, const cpu_set_t *cpus,
		    const struct emu_probe *probe, struct cvb_err *err)
{
	int r;

	e->dir = dir;
	e->what = dir == CVB_GPU_D2D ? "to a peer" : cvb_gpu_dir_text(dir);
	e->probe = probe;
	e->cpus = *cpus;
	e->kept_off = -1;
	pthread_mutex_init(&e->busy, /* attr= */ NULL);
	emu_signal_init(&e->signal);
	r = map_memory(e, cc, err);
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
	if (e->stage)
		munmap(e->stage, sizeof(*e->stage));
	emu_signal_done(&e->signal);
	pthread_mutex_destroy(&e->busy);
}
