/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/exit_ops.h"

#include "core/clock.h"
#include "core/util.h"

#include <cpuid.h>
#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

unsigned cvb_exit_threads(enum cvb_exit_op op)
{
	return op == CVB_EXIT_IPI || op == CVB_EXIT_HANDOVER || op == CVB_EXIT_HLT_WAKE ? 2 : 1;
}

/* --- threads that wake each other ------------------------------------------------------------ */

static void wait_for_turn(atomic_uint *turn, unsigned want)
{
	unsigned now;

	while ((now = atomic_load_explicit(turn, memory_order_acquire)) != want)
		syscall(SYS_futex, turn, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
}

static void give_turn(atomic_uint *turn, unsigned value)
{
	atomic_store_explicit(turn, value, memory_order_release);
	syscall(SYS_futex, turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void record(struct cvb_exit_worker *w, uint64_t from_ns, uint64_t to_ns)
{
	if (to_ns < from_ns)
		w->backwards = true;
	else
		cvb_histogram_add(w->times, to_ns - from_ns);
}

/* There and back n times; odd turns are the partner's.  `each`: the one who wakes up records how
 * long ago it was called. */
static void handover(struct cvb_exit_worker *w, uint64_t n, bool each)
{
	struct cvb_exit_shared *s = w->shared;

	for (unsigned i = 0; i < n; i++) {
		for (unsigned half = 0; half < 2; half++) {
			if (half == w->index) {
				if (each)
					s->sent_ns = cvb_now_ns();
				give_turn(&s->turn, 2 * i + half + 1);
			} else {
				wait_for_turn(&s->turn, 2 * i + half + 1);
				if (each)
					record(w, s->sent_ns, cvb_now_ns());
			}
		}
	}
}

/* The partner sleeps until its CPU has long been idle, and is woken. */
static void hlt_wake(struct cvb_exit_worker *w, uint64_t n)
{
	struct cvb_exit_shared *s = w->shared;
	const struct timespec idle = {.tv_sec = (time_t)(s->idle_ns / CVB_NS_PER_S),
				      .tv_nsec = (long)(s->idle_ns % CVB_NS_PER_S)};

	for (unsigned i = 1; i <= n; i++) {
		if (w->index) {
			wait_for_turn(&s->turn, i);
			record(w, s->sent_ns, cvb_now_ns());
			give_turn(&s->seen, i);
		} else {
			clock_nanosleep(CLOCK_MONOTONIC, 0, &idle, NULL);
			s->sent_ns = cvb_now_ns();
			give_turn(&s->turn, i);
			/* so that the next idle time starts after this wake-up */
			wait_for_turn(&s->seen, i);
		}
	}
}

/* --- interrupts between CPUs ------------------------------------------------------------------ */

int cvb_exit_ipi_register(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0
		       ? 0
		       : -EOPNOTSUPP;
}

/* An expedited barrier interrupts every other CPU that runs a thread of this process, and waits
 * until all have answered. */
static int barrier_once(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0 ? 0 : -errno;
}

/*
 * Spin so that neither a hypervisor sees a loop of PAUSE and leaves the guest (the instruction
 * counts only if two are closer than some 128 cycles), nor an emulator that runs all CPUs on one
 * thread waits for the end of a time slice (it goes on with the next CPU at a PAUSE).
 */
static void breathe(unsigned turn)
{
	if (turn % 256 == 0)
		__builtin_ia32_pause();
}

/* Only a partner that runs is interrupted: each call waits for its next sign of life. */
static int ipi(struct cvb_exit_worker *w, uint64_t n)
{
	struct cvb_exit_shared *s = w->shared;
	unsigned beat = 0;
	int r = 0;

	if (w->index) {
		while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
			atomic_store_explicit(&s->beat, ++beat, memory_order_relaxed);
			breathe(beat);
		}
		return 0;
	}
	for (uint64_t i = 0; i < n && r == 0; i++) {
		uint64_t start_ns;

		beat = atomic_load_explicit(&s->beat, memory_order_relaxed);
		for (unsigned k = 1; atomic_load_explicit(&s->beat, memory_order_relaxed) == beat;
		     k++)
			breathe(k);
		start_ns = cvb_now_ns();
		r = barrier_once();
		record(w, start_ns, cvb_now_ns());
	}
	atomic_store(&s->stop, 1);
	atomic_fetch_add(&s->barriers, n);
	return r;
}

/* --- the others ------------------------------------------------------------------------------- */

/* How late each of n timers is, by the clock that they are set on. */
static void timer(struct cvb_exit_worker *w, uint64_t n)
{
	uint64_t interval_ns = w->shared->interval_ns, now_ns, target_ns;
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now_ns = (uint64_t)ts.tv_sec * CVB_NS_PER_S + (uint64_t)ts.tv_nsec;
	for (uint64_t i = 0; i < n; i++) {
		target_ns = now_ns + interval_ns;
		ts = (struct timespec){.tv_sec = (time_t)(target_ns / CVB_NS_PER_S),
				       .tv_nsec = (long)(target_ns % CVB_NS_PER_S)};
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
		clock_gettime(CLOCK_MONOTONIC, &ts);
		now_ns = (uint64_t)ts.tv_sec * CVB_NS_PER_S + (uint64_t)ts.tv_nsec;
		record(w, target_ns, now_ns);
	}
}

static inline __attribute__((always_inline)) void one(struct cvb_exit_worker *w,
						      enum cvb_exit_op op, uint32_t leaf)
{
	uint32_t a = 0, b = 0, c = 0, d = 0;
	volatile char *page;

	switch (op) {
	case CVB_EXIT_CPUID:
		__cpuid_count(leaf, 0, a, b, c, d);
		w->sink += a;
		break;
	case CVB_EXIT_SYSCALL:
		w->sink += (uint64_t)syscall(SYS_getpid);
		break;
	case CVB_EXIT_PAGE_FAULT:
		page = (volatile char *)w->shared->pages.p + w->next_page++ * CVB_EXIT_PAGE_BYTES;
		*page = 1;
		break;
	case CVB_EXIT_RDTSC:
		w->sink += __builtin_ia32_rdtsc();
		break;
	case CVB_EXIT_CLOCK:
		w->sink += cvb_now_ns();
		break;
	default:
		break;
	}
}

/* One loop for each operation: no choice is made inside. */
static inline __attribute__((always_inline)) void
loop(struct cvb_exit_worker *w, enum cvb_exit_op op, uint32_t leaf, uint64_t n, bool each)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t start_ns = each ? cvb_now_ns() : 0;

		one(w, op, leaf);
		if (each)
			record(w, start_ns, cvb_now_ns());
	}
}

/* The answers of n equal calls have to be n times one answer. */
static void expect(struct cvb_exit_worker *w, uint64_t before, uint64_t n, uint64_t answer)
{
	if (w->sink - before != n * answer)
		w->bad = true;
}

static inline __attribute__((always_inline)) void
alone(struct cvb_exit_worker *w, enum cvb_exit_op op, uint32_t leaf, uint64_t n, bool each)
{
	uint64_t before = w->sink;
	uint32_t a, b, c, d;

	switch (op) {
	case CVB_EXIT_CPUID:
		loop(w, CVB_EXIT_CPUID, leaf, n, each);
		__cpuid_count(leaf, 0, a, b, c, d);
		expect(w, before, n, a);
		break;
	case CVB_EXIT_SYSCALL:
		loop(w, CVB_EXIT_SYSCALL, leaf, n, each);
		expect(w, before, n, (uint64_t)getpid());
		break;
	case CVB_EXIT_PAGE_FAULT:
		CVB_BUG_ON((w->next_page + n) * CVB_EXIT_PAGE_BYTES > w->shared->pages.bytes);
		loop(w, CVB_EXIT_PAGE_FAULT, leaf, n, each);
		atomic_fetch_add(&w->shared->faults, n);
		break;
	case CVB_EXIT_RDTSC:
		loop(w, CVB_EXIT_RDTSC, leaf, n, each);
		break;
	default:
		loop(w, CVB_EXIT_CLOCK, leaf, n, each);
		break;
	}
}

int cvb_exit_prepare(struct cvb_exit_worker *w, enum cvb_exit_op op)
{
	struct cvb_exit_shared *s = w->shared;

	cvb_histogram_reset(w->times);
	if (w->index)
		return 0;
	atomic_store(&s->turn, 0);
	atomic_store(&s->seen, 0);
	atomic_store(&s->stop, 0);
	w->next_page = 0;
	if (op == CVB_EXIT_PAGE_FAULT && madvise(s->pages.p, s->pages.bytes, MADV_DONTNEED) < 0)
		return -errno;
	return 0;
}

void cvb_exit_batch(struct cvb_exit_worker *w, enum cvb_exit_op op, uint32_t leaf, uint64_t n)
{
	if (op == CVB_EXIT_HANDOVER)
		handover(w, n, false);
	else
		alone(w, op, leaf, n, false);
}

int cvb_exit_each(struct cvb_exit_worker *w, enum cvb_exit_op op, uint32_t leaf, uint64_t n)
{
	if (op == CVB_EXIT_IPI)
		return ipi(w, n);
	if (op == CVB_EXIT_HANDOVER)
		handover(w, n, true);
	else if (op == CVB_EXIT_HLT_WAKE)
		hlt_wake(w, n);
	else if (op == CVB_EXIT_TIMER)
		timer(w, n);
	else
		alone(w, op, leaf, n, true);
	return 0;
}
