/* SPDX-License-Identifier: Apache-2.0 */
/* The driver API; see fake.h.  Names are the symbols that the backend asks for. */
#include "fake.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Which the header makes another name's alias. */
#undef cuEventElapsedTime
CUresult cuEventElapsedTime(float *ret_ms, CUevent from, CUevent to);

#define CALL(name) FAKE_CALL(name, CUresult)

#define MEMORY_BYTES ((size_t)1 << 34)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool held;
static atomic_long live;

FAKE_API void fake_hold(bool on)
{
	pthread_mutex_lock(&lock);
	held = on;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

FAKE_API long fake_live(void)
{
	return atomic_load(&live);
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
	int code = 0;

	if (!equals || strncmp(plan, name, (size_t)(equals - plan)) != 0 ||
	    strlen(name) != (size_t)(equals - plan))
		return 0;
	pthread_mutex_lock(&lock);
	if (strcmp(known, plan) != 0) {
		snprintf(known, sizeof(known), "%s", plan);
		calls = 0;
	}
	const char *colon = strchr(equals, ':');

	if (++calls == (int)strtoul(equals + 1, NULL, 10))
		code = colon ? (int)strtoul(colon + 1, NULL, 10) : CUDA_ERROR_UNKNOWN;
	pthread_mutex_unlock(&lock);
	return code;
}

static void *make(size_t bytes)
{
	void *p = calloc(1, bytes);

	if (p)
		fake_count(1);
	return p;
}

static void unmake(void *p)
{
	if (p)
		fake_count(-1);
	free(p);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* What frees does so also when it is to fail, as the driver does. */

/* ---- devices and contexts ---- */

struct ctx {
	int device;
	int refs; /* of a primary one */
	struct stream *streams;
};

static struct ctx primary[16];
static __thread struct ctx *current;

static int devices(void)
{
	const char *n = getenv("FAKE_CUDA_DEVICES");

	return n ? (int)strtoul(n, NULL, 10) : 2;
}

FAKE_API CUresult cuGetErrorName(CUresult code, const char **ret)
{
	static const struct {
		CUresult code;
		const char *name;
	} names[] = {
		{CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
		{CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
		{CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
		{CUDA_ERROR_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
		{CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
		{CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"},
		{CUDA_ERROR_SYSTEM_NOT_READY, "CUDA_ERROR_SYSTEM_NOT_READY"},
		{CUDA_ERROR_UNKNOWN, "CUDA_ERROR_UNKNOWN"},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (names[i].code == code) {
			*ret = names[i].name;
			return CUDA_SUCCESS;
		}
	}
	return CUDA_ERROR_INVALID_VALUE;
}

FAKE_API CUresult cuInit(unsigned flags)
{
	CALL("cuInit");
	if (!devices())
		return CUDA_ERROR_NO_DEVICE;
	return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

FAKE_API CUresult cuDriverGetVersion(int *ret)
{
	*ret = 13000;
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceGetCount(int *ret)
{
	CALL("cuDeviceGetCount");
	*ret = devices();
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceGet(CUdevice *ret, int ordinal)
{
	CALL("cuDeviceGet");
	*ret = ordinal;
	return ordinal < devices() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

FAKE_API CUresult cuDeviceGetName(char *ret, int bytes, CUdevice device)
{
	CALL("cuDeviceGetName");
	snprintf(ret, (size_t)bytes, "Fake H100 %d", device);
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceGetPCIBusId(char *ret, int bytes, CUdevice device)
{
	CALL("cuDeviceGetPCIBusId");
	snprintf(ret, (size_t)bytes, "FFFF:%02X:00.0", device + 0xa0);
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceTotalMem_v2(size_t *ret, CUdevice device)
{
	(void)device;
	CALL("cuDeviceTotalMem_v2");
	*ret = MEMORY_BYTES;
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceGetAttribute(int *ret, CUdevice_attribute which, CUdevice device)
{
	(void)device;
	switch (which) {
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
		*ret = 132;
		return CUDA_SUCCESS;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
		*ret = 9;
		return CUDA_SUCCESS;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
		*ret = 0;
		return CUDA_SUCCESS;
	case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY:
	case CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED:
		*ret = 1;
		return CUDA_SUCCESS;
	case CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED:
		*ret = !fake_is_confidential();
		return CUDA_SUCCESS;
	default: /* the multicast attribute among them: an older driver */
		return CUDA_ERROR_INVALID_VALUE;
	}
}

FAKE_API CUresult cuDeviceCanAccessPeer(int *ret, CUdevice a, CUdevice b)
{
	CALL("cuDeviceCanAccessPeer");
	*ret = a != b;
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuDevicePrimaryCtxRetain(CUcontext *ret, CUdevice device)
{
	CALL("cuDevicePrimaryCtxRetain");
	primary[device].device = device;
	primary[device].refs++;
	fake_count(1);
	*ret = (CUcontext)&primary[device];
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
	if (!primary[device].refs)
		return CUDA_ERROR_INVALID_CONTEXT;
	primary[device].refs--;
	fake_count(-1);
	CALL("cuDevicePrimaryCtxRelease_v2");
	return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v2(CUcontext *ret, unsigned flags,
			CUdevice device); /* the header has v4 only */
FAKE_API CUresult cuCtxCreate_v2(CUcontext *ret, unsigned flags, CUdevice device)
{
	(void)flags;
	CALL("cuCtxCreate_v2");
	struct ctx *c = make(sizeof(*c));

	c->device = device;
	current = c;
	*ret = (CUcontext)c;
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxDestroy_v2(CUcontext ctx)
{
	if (current == (struct ctx *)ctx)
		current = NULL;
	unmake(ctx);
	CALL("cuCtxDestroy_v2");
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxSetCurrent(CUcontext ctx)
{
	CALL("cuCtxSetCurrent");
	current = (struct ctx *)ctx;
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags)
{
	static bool seen;

	(void)flags;
	CALL("cuCtxEnablePeerAccess");
	if (!peer || peer == (CUcontext)current)
		return CUDA_ERROR_INVALID_CONTEXT;
	seen = !seen; /* both answers are usual */
	return seen ? CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED : CUDA_SUCCESS;
}

/* ---- memory ---- */

struct buffer {
	struct buffer *next;
	char *p;
	size_t bytes;
	bool host;
};

static struct buffer *buffers;

static CUresult buffer_new(void **ret, size_t bytes, bool host)
{
	struct buffer *b;

	if (!current)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!bytes || bytes > MEMORY_BYTES)
		return bytes ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
	b = make(sizeof(*b));
	b->bytes = bytes;
	b->host = host;
	b->p = aligned_alloc(256, (bytes + 255) / 256 * 256);
	if (!b->p) {
		unmake(b);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	pthread_mutex_lock(&lock);
	b->next = buffers;
	buffers = b;
	pthread_mutex_unlock(&lock);
	*ret = b->p;
	return CUDA_SUCCESS;
}

static CUresult buffer_free(void *p)
{
	struct buffer **at, *found;

	pthread_mutex_lock(&lock);
	for (at = &buffers; *at && (*at)->p != p; at = &(*at)->next)
		;
	found = *at;
	if (found)
		*at = found->next;
	pthread_mutex_unlock(&lock);
	if (!found)
		return CUDA_ERROR_INVALID_VALUE;
	free(found->p);
	unmake(found);
	return CUDA_SUCCESS;
}

/* The buffer that holds a range; NULL for none. */
static const struct buffer *buffer_of(const void *p, size_t bytes)
{
	const char *from = p;
	const struct buffer *b;

	pthread_mutex_lock(&lock);
	for (b = buffers; b; b = b->next)
		if (from >= b->p && from + bytes <= b->p + b->bytes)
			break;
	pthread_mutex_unlock(&lock);
	return b;
}

bool fake_is_device(const void *p, size_t bytes)
{
	const struct buffer *b = buffer_of(p, bytes);

	return b && !b->host;
}

FAKE_API CUresult cuMemAlloc_v2(CUdeviceptr *ret, size_t bytes)
{
	CALL("cuMemAlloc_v2");
	return buffer_new((void **)ret, bytes, false);
}

FAKE_API CUresult cuMemFree_v2(CUdeviceptr p)
{
	CUresult r = buffer_free((void *)p);

	CALL("cuMemFree_v2");
	return r;
}

FAKE_API CUresult cuMemAllocManaged(CUdeviceptr *ret, size_t bytes, unsigned flags)
{
	CALL("cuMemAllocManaged");
	return flags == CU_MEM_ATTACH_GLOBAL ? buffer_new((void **)ret, bytes, false)
					     : CUDA_ERROR_INVALID_VALUE;
}

FAKE_API CUresult cuMemHostAlloc(void **ret, size_t bytes, unsigned flags)
{
	(void)flags;
	CALL("cuMemHostAlloc");
	return buffer_new(ret, bytes, true);
}

FAKE_API CUresult cuMemFreeHost(void *p)
{
	CUresult r = buffer_free(p);

	CALL("cuMemFreeHost");
	return r;
}

/* ---- streams ---- */

struct task {
	struct task *next;
	void (*fn)(void *arg);
	size_t bytes;
	_Alignas(16) char arg[];
};

struct stream {
	struct stream *next; /* of its context */
	struct ctx *ctx;
	pthread_t thread;
	struct task *first, **last;
	bool busy, ended;
	struct graph *capture;
};

struct graph {
	struct task *first, **last;
};

static void *stream_main(void *arg)
{
	struct stream *s = arg;

	pthread_mutex_lock(&lock);
	for (;;) {
		struct task *t = s->first;

		if (!t && s->ended)
			break;
		if (!t) {
			pthread_cond_wait(&changed, &lock);
			continue;
		}
		s->first = t->next;
		if (!s->first)
			s->last = &s->first;
		s->busy = true;
		pthread_mutex_unlock(&lock);
		t->fn(t->arg);
		free(t);
		pthread_mutex_lock(&lock);
		s->busy = false;
		pthread_cond_broadcast(&changed);
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

static struct task *task_new(void (*fn)(void *), const void *arg, size_t bytes)
{
	struct task *t = calloc(1, sizeof(*t) + bytes);

	t->fn = fn;
	t->bytes = bytes;
	if (bytes)
		memcpy(t->arg, arg, bytes);
	return t;
}

CUresult fake_push(CUstream stream, void (*fn)(void *arg), const void *arg, size_t bytes)
{
	struct stream *s = (struct stream *)stream;
	struct task *t = task_new(fn, arg, bytes), ***last;

	if (s->ctx != current) {
		free(t);
		return CUDA_ERROR_INVALID_CONTEXT;
	}
	pthread_mutex_lock(&lock);
	last = s->capture ? &s->capture->last : &s->last;
	**last = t;
	*last = &t->next;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

static void drain(struct stream *s)
{
	pthread_mutex_lock(&lock);
	while (s->first || s->busy)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

FAKE_API CUresult cuStreamCreate(CUstream *ret, unsigned flags)
{
	(void)flags;
	CALL("cuStreamCreate");
	if (!current)
		return CUDA_ERROR_INVALID_CONTEXT;
	struct stream *s = make(sizeof(*s));

	s->ctx = current;
	s->last = &s->first;
	pthread_mutex_lock(&lock);
	s->next = current->streams;
	current->streams = s;
	pthread_mutex_unlock(&lock);
	pthread_create(&s->thread, NULL, stream_main, s);
	*ret = (CUstream)s;
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuStreamDestroy_v2(CUstream stream)
{
	struct stream *s = (struct stream *)stream, **at;

	pthread_mutex_lock(&lock);
	s->ended = true;
	pthread_cond_broadcast(&changed);
	for (at = &s->ctx->streams; *at != s; at = &(*at)->next)
		;
	*at = s->next;
	pthread_mutex_unlock(&lock);
	pthread_join(s->thread, NULL);
	unmake(s);
	CALL("cuStreamDestroy_v2");
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuStreamSynchronize(CUstream stream)
{
	CALL("cuStreamSynchronize");
	drain((struct stream *)stream);
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxSynchronize(void)
{
	struct stream *s;

	CALL("cuCtxSynchronize");
	pthread_mutex_lock(&lock);
	do {
		for (s = current ? current->streams : NULL; s && !s->first && !s->busy; s = s->next)
			;
		if (s)
			pthread_cond_wait(&changed, &lock);
	} while (s);
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

/* ---- copies ---- */

struct copy {
	char *dst;
	const char *src;
	size_t bytes;
};

static void copy_run(void *arg)
{
	const struct copy *c = arg;

	memcpy(c->dst, c->src, c->bytes);
}

/* Blocks where the driver does: pageable memory, and any host memory of a confidential GPU. */
static CUresult copy(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream)
{
	const struct copy c = {(char *)dst, (const char *)src, bytes};
	const struct buffer *to = buffer_of(c.dst, bytes), *from = buffer_of(c.src, bytes);
	bool host = !to || !from || to->host || from->host;
	CUresult r;

	if (!to && !from)
		return CUDA_ERROR_INVALID_VALUE;
	r = fake_push(stream, copy_run, &c, sizeof(c));
	if (r == CUDA_SUCCESS && (!to || !from || (host && fake_is_confidential())))
		drain((struct stream *)stream);
	return r;
}

FAKE_API CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream)
{
	CALL("cuMemcpyAsync");
	return copy(dst, src, bytes, stream);
}

FAKE_API CUresult cuMemcpyPeerAsync(CUdeviceptr dst, CUcontext to, CUdeviceptr src, CUcontext from,
				    size_t bytes, CUstream stream)
{
	CALL("cuMemcpyPeerAsync");
	if (!to || !from || to == from)
		return CUDA_ERROR_INVALID_CONTEXT;
	return copy(dst, src, bytes, stream);
}

static void copy_2d_run(void *arg)
{
	const CUDA_MEMCPY2D *c = arg;

	for (size_t i = 0; i < c->Height; i++)
		memcpy((char *)c->dstDevice + i * c->dstPitch,
		       (const char *)c->srcDevice + i * c->srcPitch, c->WidthInBytes);
}

FAKE_API CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *c, CUstream stream)
{
	CALL("cuMemcpy2DAsync_v2");
	if (c->WidthInBytes > c->dstPitch || c->WidthInBytes > c->srcPitch ||
	    !fake_is_device((void *)c->dstDevice, (c->Height - 1) * c->dstPitch + c->WidthInBytes))
		return CUDA_ERROR_INVALID_VALUE;
	return fake_push(stream, copy_2d_run, c, sizeof(*c));
}

struct set {
	char *dst;
	size_t bytes;
	int value;
};

static void set_run(void *arg)
{
	const struct set *s = arg;

	memset(s->dst, s->value, s->bytes);
}

FAKE_API CUresult cuMemsetD8Async(CUdeviceptr dst, unsigned char value, size_t bytes,
				  CUstream stream)
{
	const struct set s = {(char *)dst, bytes, value};

	CALL("cuMemsetD8Async");
	if (!fake_is_device(s.dst, bytes))
		return CUDA_ERROR_ILLEGAL_ADDRESS;
	return fake_push(stream, set_run, &s, sizeof(s));
}

/* ---- events ---- */

struct event {
	int refs;
	struct ctx *ctx;
	long issued, done;
	uint64_t time_ns;
};

struct mark {
	struct event *event;
	long record;
};

static void event_drop(struct event *e) /* with the lock held */
{
	if (--e->refs == 0)
		free(e);
}

static void record_run(void *arg)
{
	const struct mark *m = arg;

	pthread_mutex_lock(&lock);
	m->event->done = m->record;
	m->event->time_ns = now_ns();
	pthread_cond_broadcast(&changed);
	event_drop(m->event);
	pthread_mutex_unlock(&lock);
}

static void wait_run(void *arg)
{
	const struct mark *m = arg;

	pthread_mutex_lock(&lock);
	while (m->event->done < m->record)
		pthread_cond_wait(&changed, &lock);
	event_drop(m->event);
	pthread_mutex_unlock(&lock);
}

FAKE_API CUresult cuEventCreate(CUevent *ret, unsigned flags)
{
	(void)flags;
	CALL("cuEventCreate");
	struct event *e = calloc(1, sizeof(*e));

	fake_count(1);
	e->refs = 1;
	e->ctx = current;
	*ret = (CUevent)e;
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuEventDestroy_v2(CUevent event)
{
	pthread_mutex_lock(&lock);
	event_drop((struct event *)event);
	pthread_mutex_unlock(&lock);
	fake_count(-1);
	CALL("cuEventDestroy_v2");
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuEventRecord(CUevent event, CUstream stream)
{
	struct event *e = (struct event *)event;

	CALL("cuEventRecord");
	if (e->ctx != ((struct stream *)stream)->ctx)
		return CUDA_ERROR_INVALID_HANDLE;
	pthread_mutex_lock(&lock);
	const struct mark m = {e, ++e->issued};

	e->refs++;
	pthread_mutex_unlock(&lock);
	return fake_push(stream, record_run, &m, sizeof(m));
}

FAKE_API CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags)
{
	struct event *e = (struct event *)event;

	(void)flags;
	CALL("cuStreamWaitEvent");
	pthread_mutex_lock(&lock);
	const struct mark m = {e, e->issued};

	e->refs++;
	pthread_mutex_unlock(&lock);
	return fake_push(stream, wait_run, &m, sizeof(m));
}

FAKE_API CUresult cuEventQuery(CUevent event)
{
	struct event *e = (struct event *)event;

	CALL("cuEventQuery");
	pthread_mutex_lock(&lock);
	bool done = e->done == e->issued;

	pthread_mutex_unlock(&lock);
	return done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

FAKE_API CUresult cuEventSynchronize(CUevent event)
{
	struct event *e = (struct event *)event;

	CALL("cuEventSynchronize");
	pthread_mutex_lock(&lock);
	while (e->done < e->issued)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuEventElapsedTime(float *ret_ms, CUevent from, CUevent to)
{
	const struct event *a = (struct event *)from, *b = (struct event *)to;

	CALL("cuEventElapsedTime");
	*ret_ms = (float)((double)(int64_t)(b->time_ns - a->time_ns) / 1e6);
	return CUDA_SUCCESS;
}

/* ---- graphs ---- */

FAKE_API CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
	(void)mode;
	CALL("cuStreamBeginCapture_v2");
	struct graph *g = make(sizeof(*g));

	g->last = &g->first;
	((struct stream *)stream)->capture = g;
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuStreamEndCapture(CUstream stream, CUgraph *ret)
{
	struct stream *s = (struct stream *)stream;

	*ret = (CUgraph)s->capture;
	s->capture = NULL;
	CALL("cuStreamEndCapture");
	return CUDA_SUCCESS;
}

#ifndef FAKE_OLD
FAKE_API CUresult cuGraphInstantiateWithFlags(CUgraphExec *ret, CUgraph graph,
					      unsigned long long flags)
{
	(void)flags;
	CALL("cuGraphInstantiateWithFlags");
	struct graph *g = make(sizeof(*g));

	g->last = &g->first;
	for (struct task *t = ((struct graph *)graph)->first; t; t = t->next) {
		*g->last = task_new(t->fn, t->arg, t->bytes);
		g->last = &(*g->last)->next;
	}
	*ret = (CUgraphExec)g;
	return CUDA_SUCCESS;
}
#endif

static CUresult graph_free(struct graph *g)
{
	while (g->first) {
		struct task *t = g->first;

		g->first = t->next;
		free(t);
	}
	unmake(g);
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuGraphDestroy(CUgraph graph)
{
	return graph_free((struct graph *)graph);
}

FAKE_API CUresult cuGraphExecDestroy(CUgraphExec exec)
{
	return graph_free((struct graph *)exec);
}

FAKE_API CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
	CUresult r = CUDA_SUCCESS;

	CALL("cuGraphLaunch");
	for (struct task *t = ((struct graph *)exec)->first; t && r == CUDA_SUCCESS; t = t->next)
		r = fake_push(stream, t->fn, t->arg, t->bytes);
	return r;
}

/* ---- kernels ---- */

union arg {
	uint64_t n;
	double f;
	uint64_t *words;
	double *doubles;
	uint8_t *bytes;
	uint16_t *halves;
};

#define MOST_ARGS 5

struct launch {
	void (*fn)(const union arg *a);
	union arg arg[MOST_ARGS];
};

static uint64_t pattern(uint64_t seed, uint64_t i)
{
	uint64_t z = seed + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void k_empty(const union arg *a)
{
	(void)a;
}

static void k_spin(const union arg *a)
{
	uint64_t end = now_ns() + a[0].n;

	pthread_mutex_lock(&lock);
	while (held)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	while (now_ns() < end)
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

static void k_fill(const union arg *a)
{
	for (uint64_t i = 0; i < a[1].n; i++)
		a[0].words[i] = pattern(a[2].n, i);
}

static void k_verify(const union arg *a)
{
	for (uint64_t i = 0; i < a[2].n; i++)
		*a[1].words += a[0].words[i] != pattern(a[3].n, i);
}

static void k_read(const union arg *a)
{
	for (uint64_t i = 0; i < a[2].n; i++)
		*a[1].words += a[0].words[i];
}

static void k_copy(const union arg *a)
{
	memcpy(a[0].words, a[1].words, a[2].n * 8);
}

static void k_triad(const union arg *a)
{
	for (uint64_t i = 0; i < a[3].n; i++)
		a[0].doubles[i] = a[1].doubles[i] + a[4].f * a[2].doubles[i];
}

static void k_add(const union arg *a)
{
	for (uint64_t i = 0; i < a[2].n; i++)
		a[0].doubles[i] += a[1].doubles[i];
}

static void k_transpose(const union arg *a)
{
	for (uint64_t row = 0; row < a[2].n; row++)
		for (uint64_t col = 0; col < a[3].n; col++)
			a[1].bytes[col * a[4].n + row] = a[0].bytes[row * a[3].n + col];
}

/* By the format's definition, not by the kernel's trick. */
static uint16_t bf16_of_fp8(uint8_t code)
{
	int exponent = code >> 3 & 15, mantissa = code & 7;
	float f = exponent ? (float)(8 + mantissa) / 8 : (float)mantissa / 8;
	uint32_t bits;

	for (int e = exponent ? exponent : 1; e < 7; e++)
		f /= 2;
	for (int e = exponent; e > 7; e--)
		f *= 2;
	memcpy(&bits, &f, sizeof(bits));
	if ((code & 0x7f) == 0x7f)
		bits = 0x7fc00000;
	return (uint16_t)(bits >> 16 | (code & 0x80U) << 8);
}

static void k_fp8_to_bf16(const union arg *a)
{
	for (uint64_t row = 0; row < a[2].n; row++)
		for (uint64_t col = 0; col < a[3].n; col++)
			a[1].halves[row * a[4].n + col] =
				bf16_of_fp8(a[0].bytes[row * a[3].n + col]);
}

static const struct kernel {
	const char *name;
	void (*fn)(const union arg *a);
	unsigned args;
} kernels[] = {
	{"cvb_empty", k_empty, 0},	   {"cvb_spin", k_spin, 1},
	{"cvb_fill", k_fill, 3},	   {"cvb_verify", k_verify, 4},
	{"cvb_read", k_read, 3},	   {"cvb_copy", k_copy, 3},
	{"cvb_triad", k_triad, 5},	   {"cvb_add", k_add, 3},
	{"cvb_transpose", k_transpose, 5}, {"cvb_fp8_to_bf16", k_fp8_to_bf16, 5},
};

FAKE_API CUresult cuModuleLoadData(CUmodule *ret, const void *image)
{
	const uint32_t magic = 0xba55ed50; /* of a fat binary */

	CALL("cuModuleLoadData");
	if (memcmp(image, &magic, sizeof(magic)) != 0)
		return CUDA_ERROR_INVALID_IMAGE;
	*ret = make(1);
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuModuleUnload(CUmodule module)
{
	unmake(module);
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuModuleGetFunction(CUfunction *ret, CUmodule module, const char *name)
{
	(void)module;
	CALL("cuModuleGetFunction");
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		if (!strcmp(kernels[i].name, name)) {
			*ret = (CUfunction)(uintptr_t)&kernels[i];
			return CUDA_SUCCESS;
		}
	}
	return CUDA_ERROR_NOT_FOUND;
}

static void launch_run(void *arg)
{
	const struct launch *l = arg;

	l->fn(l->arg);
}

FAKE_API CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
				 unsigned by, unsigned bz, unsigned shared, CUstream stream,
				 void **args, void **extra)
{
	const struct kernel *k = (const struct kernel *)f;
	struct launch l = {.fn = k->fn};

	(void)extra;
	CALL("cuLaunchKernel");
	if (!gx || gy != 1 || gz != 1 || !bx || bx > 1024 || by != 1 || bz != 1 || shared)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned i = 0; i < k->args; i++)
		memcpy(&l.arg[i], args[i], sizeof(l.arg[i]));
	return fake_push(stream, launch_run, &l, sizeof(l));
}
