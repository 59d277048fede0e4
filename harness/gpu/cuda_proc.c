/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts that a process of its own has, as seen from here: see cuda_proc.h.  What a process does
 * costs one exchange of packets for each wait (a few microseconds), beside the work itself.
 */
#include "gpu/cuda_proc.h"
#include "core/log.h"
#include "core/proc.h"
#include "core/util.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_FD 3

extern char **environ;

struct cuda_child {
	pid_t pid;
	int fd;
	pthread_mutex_t lock; /* of one question and its answer */
};

/* In place of struct cuda_buf and cuda_stream. */
struct proc_buf {
	uint64_t handle;
	bool has_view;	  /* the file's memory is a view of the process's own */
	atomic_bool here; /* the view is the newer one */
};
struct proc_stream {
	uint64_t handle;
};

/* ---- questions ---- */

static struct cuda_child *child_of(const struct cvb_gpu_context *context)
{
	return ((const struct cuda_context *)context->priv)->child;
}

static int gone(struct cvb_err *err)
{
	return cvb_err_set(err, -EIO,
			   "the process of a GPU context ended; dmesg tells of a kill or a crash");
}

static int take_answer(const struct cuda_child *c, struct cuda_answer *ret, struct cvb_err *err)
{
	if (!cuda_packet_take(c->fd, ret, sizeof(*ret), NULL))
		return gone(err);
	ret->text[sizeof(ret->text) - 1] = '\0';
	return ret->r < 0 ? cvb_err_set(err, ret->r, "in a process of its own: %s", ret->text) : 0;
}

/* With an answer; `fd` goes along. */
static int ask(const struct cvb_gpu_context *context, const struct cuda_ask *a, int fd,
	       struct cuda_answer *ret, struct cvb_err *err)
{
	struct cuda_child *c = child_of(context);
	int r;

	pthread_mutex_lock(&c->lock);
	r = cuda_packet_send(c->fd, a, sizeof(*a), fd) ? take_answer(c, ret, err) : gone(err);
	pthread_mutex_unlock(&c->lock);
	return r;
}

/* Work: without one. */
static int tell(const struct cvb_gpu_context *context, const struct cuda_ask *a,
		struct cvb_err *err)
{
	struct cuda_child *c = child_of(context);

	pthread_mutex_lock(&c->lock);
	bool sent = cuda_packet_send(c->fd, a, sizeof(*a), -1);

	pthread_mutex_unlock(&c->lock);
	return sent ? 0 : gone(err);
}

/* What could not be freed there ends with the process. */
static void ask_drop(const struct cvb_gpu_context *context, const struct cuda_ask *a)
{
	struct cuda_answer answer;
	struct cvb_err err = {0};

	if (ask(context, a, -1, &answer, &err) < 0)
		cvb_debug("gpu", "%s, ignored", err.frame[0].msg);
}

/* ---- the process ---- */

/* Our environment with the child's variable in place of any of that name.  Caller frees. */
static char **child_environment(const char *mine)
{
	size_t n = 0, kept = 0;
	char **env;

	while (environ[n])
		n++;
	env = calloc(n + 2, sizeof(*env));
	for (size_t i = 0; env && i < n; i++)
		if (strncmp(environ[i], CUDA_CHILD_ENV "=", sizeof(CUDA_CHILD_ENV)) != 0)
			env[kept++] = environ[i];
	if (env)
		env[kept] = (char *)(uintptr_t)mine;
	return env;
}

/* Its own group, so that a terminal's ^C reaches it through our end only. */
static int spawn(struct cuda_child *c, int theirs, char *const *env)
{
	char *const argv[] = {(char *)(uintptr_t) "cvmbench-gpu-context", NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, pipe_only;
	int code = posix_spawn_file_actions_init(&files);

	if (code)
		return -code;
	code = posix_spawnattr_init(&attr);
	if (code) {
		posix_spawn_file_actions_destroy(&files);
		return -code;
	}
	sigemptyset(&none);
	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &pipe_only);
	code = posix_spawn_file_actions_adddup2(&files, theirs, CHILD_FD);
	if (!code)
		code = posix_spawn_file_actions_addclosefrom_np(&files, CHILD_FD + 1);
	if (!code)
		code = posix_spawn(&c->pid, "/proc/self/exe", &files, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -code;
}

static int start(struct cuda_child *c, const struct cuda_device *d, struct cvb_err *err)
{
	_cleanup_free_ char *mine =
		cvb_strf("%s=%d %d %d", CUDA_CHILD_ENV, CHILD_FD, d->numa_node, d->ordinal);
	_cleanup_free_ char **env = mine ? child_environment(mine) : NULL;
	int pair[2], r;

	if (!env)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return cvb_err_set(err, -errno, "cannot make a socket pair: %s", strerror(errno));
	r = spawn(c, pair[1], env);
	close(pair[1]);
	if (r < 0) {
		close(pair[0]);
		return cvb_err_set(err, r, "cannot start this program again: %s", strerror(-r));
	}
	c->fd = pair[0];
	return 0;
}

/* It ends when it sees the end of its socket; one that does not is killed. */
static void end(const struct cuda_child *c)
{
	uint64_t limit_ns = cvb_now_ns() + CUDA_GRACE_S * CVB_NS_PER_S;
	char text[64];
	int status;
	pid_t r;

	close(c->fd);
	for (;;) {
		r = waitpid(c->pid, &status, WNOHANG);
		if (r > 0 || (r < 0 && errno != EINTR))
			break;
		if (cvb_now_ns() > limit_ns) {
			kill(c->pid, SIGKILL);
			while ((r = waitpid(c->pid, &status, 0)) < 0 && errno == EINTR)
				;
			break;
		}
		usleep(200);
	}
	if (r > 0 && status)
		cvb_warn("the process of a GPU context ended with %s",
			 cvb_proc_status_text(status, text, sizeof(text)));
}

int cuda_proc_new(struct cvb_gpu_context *context, struct cvb_err *err)
{
	struct cuda_context *x = calloc(1, sizeof(*x));
	struct cuda_child *c = calloc(1, sizeof(*c));
	struct cuda_answer answer = {0};
	int r = x && c ? start(c, cuda_device_of(context->gpu), err)
		       : cvb_err_set(err, -ENOMEM, "out of memory");

	if (r == 0) {
		r = take_answer(c, &answer, err);
		if (r < 0)
			end(c);
	}
	if (r < 0) {
		free(c);
		free(x);
		return r;
	}
	pthread_mutex_init(&c->lock, /* attr= */ NULL);
	x->child = c;
	context->priv = x;
	return 0;
}

void cuda_proc_free(struct cvb_gpu_context *context)
{
	struct cuda_context *x = CVB_TAKE(context->priv);

	end(x->child);
	pthread_mutex_destroy(&x->child->lock);
	free(x->child);
	free(x);
}

/* ---- memory ---- */

static int share(struct cvb_gpu_buf *buf, int *ret_fd, struct cvb_err *err)
{
	_cleanup_close_ int fd = memfd_create("cvmbench-gpu", MFD_CLOEXEC);
	void *p;

	if (fd < 0 || ftruncate(fd, (off_t)buf->bytes) < 0)
		return cvb_err_set(err, -errno, "cannot make a memory file of %zu bytes: %s",
				   buf->bytes, strerror(errno));
	p = mmap(NULL, buf->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return cvb_err_set(err, -errno, "cannot map %zu bytes: %s", buf->bytes,
				   strerror(errno));
	buf->host = p;
	*ret_fd = CVB_TAKE_FD(fd);
	return 0;
}

int cuda_proc_alloc(struct cvb_gpu_buf *buf, struct cvb_err *err)
{
	const struct cuda_ask a = {.kind = CUDA_ASK_ALLOC, .mem = buf->kind, .bytes = buf->bytes};
	struct proc_buf *b = calloc(1, sizeof(*b));
	struct cuda_answer answer;
	int fd = -1, r = b ? 0 : cvb_err_set(err, -ENOMEM, "out of memory");

	if (r == 0 && buf->kind == CVB_GPU_MANAGED)
		r = cvb_err_set(err, -EOPNOTSUPP,
				"managed memory cannot be shared with a context's own process");
	if (r == 0 && buf->kind != CVB_GPU_DEVICE)
		r = share(buf, &fd, err);
	if (r == 0)
		r = ask(buf->context, &a, fd, &answer, err);
	if (fd >= 0)
		close(fd);
	if (r < 0) {
		if (buf->host)
			munmap(buf->host, buf->bytes);
		buf->host = NULL;
		free(b);
		return r;
	}
	b->handle = answer.handle;
	b->has_view = answer.has_view;
	buf->priv = b;
	return 0;
}

/* The memory may be written from here on. */
void cuda_proc_host_touch(const struct cvb_gpu_buf *buf)
{
	struct proc_buf *b = buf->priv;
	const struct cuda_ask a = {.kind = CUDA_ASK_GIVE, .buf = {b->handle}};

	if (b->has_view && !atomic_exchange(&b->here, true))
		ask_drop(buf->context, &a);
}

/* The process is about to use it. */
static int hand_over(const struct cvb_gpu_buf *buf, struct cvb_err *err)
{
	struct proc_buf *b = buf->priv;
	const struct cuda_ask a = {.kind = CUDA_ASK_TAKE, .buf = {b->handle}};

	return b->has_view && atomic_exchange(&b->here, false) ? tell(buf->context, &a, err) : 0;
}

static uint64_t buf_handle(const struct cvb_gpu_buf *buf)
{
	return buf ? ((const struct proc_buf *)buf->priv)->handle : 0;
}

void cuda_proc_buf_free(struct cvb_gpu_buf *buf)
{
	const struct cuda_ask a = {.kind = CUDA_ASK_FREE, .buf = {buf_handle(buf)}};

	ask_drop(buf->context, &a);
	if (buf->host)
		munmap(buf->host, buf->bytes);
	free(buf->priv);
}

/* ---- streams ---- */

int cuda_proc_stream_new(struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	const struct cuda_ask a = {.kind = CUDA_ASK_STREAM};
	struct proc_stream *s = calloc(1, sizeof(*s));
	struct cuda_answer answer;
	int r = s ? ask(stream->context, &a, -1, &answer, err)
		  : cvb_err_set(err, -ENOMEM, "out of memory");

	if (r < 0) {
		free(s);
		return r;
	}
	s->handle = answer.handle;
	stream->priv = s;
	return 0;
}

static uint64_t stream_handle(const struct cvb_gpu_stream *stream)
{
	return ((const struct proc_stream *)stream->priv)->handle;
}

void cuda_proc_stream_free(struct cvb_gpu_stream *stream)
{
	const struct cuda_ask a = {.kind = CUDA_ASK_STREAM_FREE, .stream = stream_handle(stream)};

	ask_drop(stream->context, &a);
	free(stream->priv);
}

int cuda_proc_sync(const struct cvb_gpu_stream *stream, struct cvb_err *err)
{
	const struct cuda_ask a = {.kind = CUDA_ASK_SYNC, .stream = stream_handle(stream)};
	struct cuda_answer answer;

	return ask(stream->context, &a, -1, &answer, err);
}

int cuda_proc_work(const struct cvb_gpu_stream *stream, const struct cvb_gpu_op *op,
		   struct cvb_err *err)
{
	struct cuda_ask a = {.stream = stream_handle(stream)};
	int r = 0;

	switch (op->kind) {
	case CVB_GPU_OP_COPY:
		a.kind = CUDA_ASK_COPY;
		a.buf[0] = buf_handle(op->copy.dst);
		a.buf[1] = buf_handle(op->copy.src);
		a.offset[0] = op->copy.dst_offset_bytes;
		a.offset[1] = op->copy.src_offset_bytes;
		a.bytes = op->copy.bytes;
		r = hand_over(op->copy.dst, err);
		if (r == 0)
			r = hand_over(op->copy.src, err);
		break;
	case CVB_GPU_OP_MEMSET:
		a.kind = CUDA_ASK_SET;
		a.buf[0] = buf_handle(op->set.dst);
		a.offset[0] = op->set.offset_bytes;
		a.bytes = op->set.bytes;
		a.value = op->set.value;
		break;
	case CVB_GPU_OP_LAUNCH:
		a.kind = CUDA_ASK_LAUNCH;
		a.launch = op->launch;
		a.buf[0] = buf_handle(op->launch.a);
		a.buf[1] = buf_handle(op->launch.b);
		a.buf[2] = buf_handle(op->launch.c);
		break;
	case CVB_GPU_OP_GEMM:
		a.kind = CUDA_ASK_GEMM;
		a.gemm = op->gemm;
		a.buf[0] = buf_handle(op->gemm.a);
		a.buf[1] = buf_handle(op->gemm.b);
		a.buf[2] = buf_handle(op->gemm.c);
		break;
	}
	return r < 0 ? r : tell(stream->context, &a, err);
}

int cuda_proc_cannot(const char *what, struct cvb_err *err)
{
	return cvb_err_set(err, -EOPNOTSUPP, "%s: not with a context that has a process of its own",
			   what);
}
