/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace[:file=PATH]:SPEC: one line for each call of the inner device, on stderr or at the end of a
 * file:
 *
 *   gpu copy_async(stream=2, dst=4+0, src=3+0, bytes=4096, dir=h2d) = 0 time_ns=5312
 *   gpu sync(stream=2) = -EBADMSG "tag check failed in chunk 0 of 1 …" time_ns=901
 *
 * Handles are numbered from 1 in the order in which they are made, whatever their kind.  time_ns is
 * the time that the call took its caller, on the device's clock; what it submitted may still run.
 */
#include "core/util.h"
#include "gpu/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

struct trace {
	int fd;
	char *path; /* NULL: stderr */
};

#define LINE_BYTES 640

static int trace_check(const char *keys, struct cvb_err *err)
{
	if (!keys)
		return 0;
	if (strncmp(keys, "file=", 5) || !keys[5])
		return cvb_err_set(err, -EINVAL,
				   "GPU spec: \"%s\"; trace:file=PATH:SPEC or trace:SPEC is right",
				   keys);
	return 0;
}

static int trace_open(struct shim *s, const char *keys, struct cvb_err *err)
{
	struct trace *t = calloc(1, sizeof(*t));

	if (!t)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	t->fd = STDERR_FILENO;
	if (keys) {
		t->path = strdup(keys + strlen("file="));
		t->fd = t->path ? open(t->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)
				: -1;
	}
	if (t->fd < 0) {
		int r = cvb_err_set(err, -errno, "cannot open trace file %s: %s",
				    t->path ? t->path : "", strerror(errno));

		free(t->path);
		free(t);
		return r;
	}
	s->priv = t;
	return 0;
}

static void trace_close(struct shim *s)
{
	struct trace *t = s->priv;

	if (t->path)
		close(t->fd);
	free(t->path);
	free(t);
}

static int trace_describe(const struct shim *s, json_t *into)
{
	const struct trace *t = s->priv;

	return json_object_set_new(into, "file", json_string(t->path ? t->path : "stderr"));
}

static uint64_t now_ns(const struct shim *s)
{
	const struct cvb_clock *c = s->inner->clock;

	return c->now_ns(c->ctx);
}

static int trace_begin(struct shim *s, struct shim_call *call, struct cvb_err *err)
{
	(void)err;
	call->start_ns = now_ns(s);
	return 0;
}

static int trace_end(struct shim *s, struct shim_call *call, int r, struct cvb_err *err)
{
	const struct trace *t = s->priv;
	uint64_t time_ns = now_ns(s) - call->start_ns;
	char line[LINE_BYTES], reason[CVB_ERR_MSG_BYTES] = "", result[16 + sizeof(reason)] = "0";

	if (r < 0 && err && err->n)
		cvb_err_text(err, reason, sizeof(reason));
	if (r < 0)
		snprintf(result, sizeof(result), "-%s%s%s%s", cvb_errno_name(r),
			 *reason ? " \"" : "", reason, *reason ? "\"" : "");
	int n = snprintf(line, sizeof(line), "gpu %s(%s) = %s time_ns=%" PRIu64 "\n", call->name,
			 call->args, result, time_ns);

	/* one write for each line, so that lines of several threads do not mix; a trace that cannot
	 * be written must not stop what is traced */
	if (n > 0 && write(t->fd, line, cvb_min((size_t)n, sizeof(line) - 1)) < 0)
		return r;
	return r;
}

static const struct shim_ops trace_ops = {
	.check = trace_check,
	.open = trace_open,
	.close = trace_close,
	.describe = trace_describe,
	.begin = trace_begin,
	.end = trace_end,
};

static int trace_spec_check(const char *args, struct cvb_err *err)
{
	return shim_spec_check(&trace_ops, args, err);
}

static int trace_device_open(struct cvb_gpu *gpu, const char *args, struct cvb_err *err)
{
	return shim_open(&trace_ops, gpu, args, err);
}

static const struct cvb_gpu_backend trace_backend = {
	.abi = CVB_GPU_BACKEND_ABI,
	.struct_size = sizeof(struct cvb_gpu_backend),
	.name = "trace",
	.spec_check = trace_spec_check,
	.open = trace_device_open,
	SHIM_HOOKS,
};

CVB_GPU_BACKEND(trace_backend);
