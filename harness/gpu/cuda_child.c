/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of a context with a process of its own: see cuda_proc.h.  What is asked for is
 * done through gpu.h.
 */
#include "core/util.h"
#include "gpu/cuda_proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Longer than a copy's own wake-up, shorter than anything else that a caller could do meanwhile. */
#define SPIN_NS 50000U

/* ---- packets ---- */

static ssize_t receive(int fd, struct msghdr *m)
{
	uint64_t end = cvb_now_ns() + SPIN_NS;
	ssize_t n;

	do
		n = recvmsg(fd, m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && (errno == EINTR || (errno == EAGAIN && cvb_now_ns() < end)));
	while (n < 0 && (errno == EAGAIN || errno == EINTR))
		n = recvmsg(fd, m, MSG_CMSG_CLOEXEC);
	return n;
}

bool cuda_packet_take(int fd, void *p, size_t bytes, int *ret_fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec part = {.iov_base = p, .iov_len = bytes};
	struct msghdr m = {.msg_iov = &part,
			   .msg_iovlen = 1,
			   .msg_control = ret_fd ? &control : NULL,
			   .msg_controllen = ret_fd ? sizeof(control) : 0};
	ssize_t n = receive(fd, &m);
	const struct cmsghdr *c = ret_fd && n >= 0 ? CMSG_FIRSTHDR(&m) : NULL;

	if (ret_fd)
		*ret_fd = -1;
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(c), sizeof(*ret_fd));
	return n == (ssize_t)bytes;
}

bool cuda_packet_send(int fd, const void *p, size_t bytes, int pass_fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)),
			      .cmsg_level = SOL_SOCKET,
			      .cmsg_type = SCM_RIGHTS}};
	struct iovec part = {.iov_base = (void *)(uintptr_t)p, .iov_len = bytes};
	struct msghdr m = {.msg_iov = &part,
			   .msg_iovlen = 1,
			   .msg_control = pass_fd >= 0 ? &control : NULL,
			   .msg_controllen = pass_fd >= 0 ? sizeof(control) : 0};
	ssize_t n;

	if (pass_fd >= 0)
		memcpy(CMSG_DATA(&control.head), &pass_fd, sizeof(pass_fd));
	do
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)bytes;
}

/* ---- requests ---- */

struct child_stream {
	struct cvb_gpu_stream *stream;
	struct cuda_answer first; /* failure since the last sync; r 0: none */
};

static uint64_t handle_of(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

static void *of_handle(uint64_t handle)
{
	return (void *)(uintptr_t)handle;
}

static void set_answer(struct cuda_answer *a, int r, const struct cvb_err *err)
{
	a->r = r;
	if (r < 0)
		cvb_err_text(err, a->text, sizeof(a->text));
}

static int stream_new(struct cvb_gpu *gpu, uint64_t *ret, struct cvb_err *err)
{
	struct child_stream *s = calloc(1, sizeof(*s));
	int r = s ? cvb_gpu_stream_new(gpu, &s->stream, err)
		  : cvb_err_set(err, -ENOMEM, "out of memory");

	if (r < 0)
		free(s);
	else
		*ret = handle_of(s);
	return r;
}

static int alloc(struct cvb_gpu *gpu, const struct cuda_ask *ask, int fd,
		 struct cuda_answer *answer, struct cvb_err *err)
{
	struct cuda_device *d = cuda_device_of(gpu);
	struct cvb_gpu_buf *buf = NULL;
	int r;

	d->shared_fd = fd;
	r = cvb_gpu_alloc(gpu, ask->mem, ask->bytes, &buf, err);
	d->shared_fd = -1;
	answer->handle = handle_of(buf);
	answer->has_view = r == 0 && ((const struct cuda_buf *)buf->priv)->view;
	return r;
}

/* The newer of a buffer and its view into the older. */
static void copy_view(const struct cuda_ask *ask)
{
	const struct cvb_gpu_buf *buf = of_handle(ask->buf[0]);
	const struct cuda_buf *b = buf->priv;

	if (ask->kind == CUDA_ASK_GIVE)
		memcpy(b->view, buf->host, buf->bytes);
	else
		memcpy(buf->host, b->view, buf->bytes);
}

static int work(struct cvb_gpu_stream *s, const struct cuda_ask *ask, struct cvb_err *err)
{
	struct cvb_gpu_buf *b[3];
	struct cvb_gpu_launch l;
	struct cvb_gpu_gemm g;

	for (size_t i = 0; i < CVB_ARRAY_LEN(b); i++)
		b[i] = of_handle(ask->buf[i]);
	switch (ask->kind) {
	case CUDA_ASK_COPY:
		return cvb_gpu_copy_async(s, b[0], ask->offset[0], b[1], ask->offset[1], ask->bytes,
					  err);
	case CUDA_ASK_SET:
		return cvb_gpu_memset_async(s, b[0], ask->offset[0], ask->value, ask->bytes, err);
	case CUDA_ASK_LAUNCH:
		l = ask->launch;
		l.a = b[0];
		l.b = b[1];
		l.c = b[2];
		return cvb_gpu_launch_async(s, &l, err);
	default:
		g = ask->gemm;
		g.a = b[0];
		g.b = b[1];
		g.c = b[2];
		return cvb_gpu_gemm_async(s, &g, err);
	}
}

/* Work, and the waiting for it.  true: an answer is wanted. */
static bool do_stream(const struct cuda_ask *ask, struct cuda_answer *answer)
{
	struct child_stream *s = of_handle(ask->stream);
	struct cvb_err err = {0};
	int r;

	if (ask->kind != CUDA_ASK_SYNC) {
		r = work(s->stream, ask, &err);
		if (r < 0 && s->first.r == 0)
			set_answer(&s->first, r, &err);
		return false;
	}
	r = cvb_gpu_sync(s->stream, &err);
	set_answer(answer, r, &err);
	if (s->first.r < 0)
		*answer = s->first;
	s->first.r = 0;
	return true;
}

static bool do_ask(struct cvb_gpu *gpu, const struct cuda_ask *ask, int fd,
		   struct cuda_answer *answer)
{
	struct child_stream *s = of_handle(ask->stream);
	struct cvb_err err = {0};

	switch (ask->kind) {
	case CUDA_ASK_ALLOC:
		set_answer(answer, alloc(gpu, ask, fd, answer, &err), &err);
		return true;
	case CUDA_ASK_FREE:
		cvb_gpu_free(of_handle(ask->buf[0]));
		return true;
	case CUDA_ASK_GIVE:
		copy_view(ask);
		return true;
	case CUDA_ASK_TAKE:
		copy_view(ask);
		return false;
	case CUDA_ASK_STREAM:
		set_answer(answer, stream_new(gpu, &answer->handle, &err), &err);
		return true;
	case CUDA_ASK_STREAM_FREE:
		cvb_gpu_stream_free(s->stream);
		free(s);
		return true;
	default:
		return do_stream(ask, answer);
	}
}

static void serve(int fd, const char *args)
{
	_cleanup_free_ char *spec = cvb_strf("cuda%s%s", *args ? ":" : "", args);
	struct cvb_gpu *gpu = NULL;
	struct cuda_answer answer = {0};
	struct cvb_err err = {0};
	struct cuda_ask ask;
	int r = spec ? cvb_gpu_open(spec, &gpu, &err) : -ENOMEM, passed = -1;
	bool go_on = r == 0;

	set_answer(&answer, r, &err);
	go_on = cuda_packet_send(fd, &answer, sizeof(answer), -1) && go_on;
	while (go_on && cuda_packet_take(fd, &ask, sizeof(ask), &passed)) {
		answer = (struct cuda_answer){0};
		if (do_ask(gpu, &ask, passed, &answer))
			go_on = cuda_packet_send(fd, &answer, sizeof(answer), -1);
		if (passed >= 0)
			close(passed);
	}
	cvb_gpu_close(gpu);
}

static struct {
	int fd;
	pid_t parent;
} watched;

/*
 * serve() sees the end of the socket only where the driver lets it: what hangs there would spin on,
 * beside later measurements, once nobody is left who could kill us.  A parent that lives gives us
 * CUDA_GRACE_S and kills; a moment is enough where it was killed itself.
 */
static void *watch(void *arg)
{
	struct pollfd end = {.fd = watched.fd}; /* only of its end */

	(void)arg;
	while (poll(&end, 1, -1) < 0 && errno == EINTR)
		;
	for (int s = 0; s < CUDA_GRACE_S && getppid() == watched.parent; s++)
		sleep(1);
	sleep(1);
	_exit(CVB_EXIT_INTERNAL);
}

/* Programs that the driver starts are none of our parent's: they hold nothing, and serve nobody. */
static void begin(int fd)
{
	pthread_t id;

	watched.fd = fd;
	watched.parent = getppid();
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || unsetenv(CUDA_CHILD_ENV) < 0 ||
	    pthread_create(&id, NULL, watch, NULL))
		_exit(CVB_EXIT_INTERNAL);
	pthread_detach(id);
}

/*
 * Before main, so that every program with this backend can be the process, test programs too: none
 * of them needs a word on its command line for it.
 */
__attribute__((constructor)) static void be_child(void)
{
	const char *env = getenv(CUDA_CHILD_ENV);
	int fd, node, at = 0;

	if (!env)
		return;
	if (sscanf(env, "%d %d %n", &fd, &node, &at) != 2 || !at || fd < 0)
		_exit(CVB_EXIT_USAGE);
	_cleanup_free_ char *args = cvb_strf("%s", env + at);

	if (!args)
		_exit(CVB_EXIT_INTERNAL);
	begin(fd);
	cuda_child_node(node);
	serve(fd, args);
	exit(CVB_EXIT_OK);
}
