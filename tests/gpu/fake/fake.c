/* SPDX-License-Identifier: Apache-2.0 */
/* What all parts of the fake driver share: its state, the failures asked for; see fake.h. */
#include "fake_part.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t fake_changed = PTHREAD_COND_INITIALIZER;
bool fake_held;
static atomic_long live;

FAKE_API void fake_hold(bool on)
{
	pthread_mutex_lock(&fake_lock);
	fake_held = on;
	pthread_cond_broadcast(&fake_changed);
	pthread_mutex_unlock(&fake_lock);
}

FAKE_API long fake_live(void)
{
	return atomic_load(&live);
}

__attribute__((destructor)) static void tell_left(void)
{
	const char *path = getenv("FAKE_CUDA_LEFT");
	FILE *f = path ? fopen(path, "we") : NULL;

	if (!f)
		return;
	fprintf(f, "%ld\n", fake_live());
	fclose(f);
}

void fake_count(long n)
{
	atomic_fetch_add(&live, n);
}

int fake_fails(const char *name)
{
	static char known[128];
	static int calls;
	const char *plan = getenv("FAKE_CUDA_FAIL");
	const char *equals = plan ? strchr(plan, '=') : NULL;
	bool hangs = false;
	int code = 0;

	if (!equals || strncmp(plan, name, (size_t)(equals - plan)) != 0 ||
	    strlen(name) != (size_t)(equals - plan))
		return 0;
	pthread_mutex_lock(&fake_lock);
	if (strcmp(known, plan) != 0) {
		snprintf(known, sizeof(known), "%s", plan);
		calls = 0;
	}
	const char *colon = strchr(equals, ':');

	if (++calls == (int)strtoul(equals + 1, NULL, 10)) {
		code = colon ? (int)strtoul(colon + 1, NULL, 10) : CUDA_ERROR_UNKNOWN;
		hangs = colon && !strcmp(colon + 1, "hang");
	}
	pthread_mutex_unlock(&fake_lock);
	while (hangs)
		pause();
	return code;
}

void *fake_make(size_t bytes)
{
	void *p = calloc(1, bytes);

	if (p)
		fake_count(1);
	return p;
}

void fake_unmake(void *p)
{
	if (p)
		fake_count(-1);
	free(p);
}

uint64_t fake_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}
