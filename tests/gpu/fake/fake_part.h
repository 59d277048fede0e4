/* SPDX-License-Identifier: Apache-2.0 */
/* Between the parts of the fake driver; see fake.h. */
#ifndef CVB_TESTS_GPU_FAKE_PART_H
#define CVB_TESTS_GPU_FAKE_PART_H

#include "fake.h"

#include <pthread.h>
#include <stdint.h>

#define MEMORY_BYTES ((size_t)1 << 34)

/* Guards all that the parts share; `changed` tells of every change. */
extern pthread_mutex_t fake_lock;
extern pthread_cond_t fake_changed;
extern bool fake_held;

/* Memory that is counted as given out. */
void *fake_make(size_t bytes);
void fake_unmake(void *p);
uint64_t fake_now_ns(void);

/* What frees does so also when it is to fail, as the driver does. */

struct fake_ctx {
	int device;
	int refs; /* of a primary one */
	struct fake_stream *streams;
};

extern __thread struct fake_ctx *fake_current;

struct fake_buffer {
	struct fake_buffer *next;
	char *p;
	size_t bytes;
	bool host;
	bool registered; /* the program's own memory */
};

/* The buffer that holds a range; NULL for none. */
const struct fake_buffer *fake_buffer_of(const void *p, size_t bytes);

struct fake_task {
	struct fake_task *next;
	void (*fn)(void *arg);
	size_t bytes;
	_Alignas(16) char arg[];
};

struct fake_stream {
	struct fake_stream *next; /* of its context */
	struct fake_ctx *ctx;
	pthread_t thread;
	struct fake_task *first, **last;
	bool busy, ended;
	struct fake_graph *capture;
};

struct fake_graph {
	struct fake_task *first, **last;
};

struct fake_task *fake_task_new(void (*fn)(void *), const void *arg, size_t bytes);
/* Wait for all work of the stream. */
void fake_drain(struct fake_stream *s);

#endif
