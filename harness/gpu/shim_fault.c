/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault[:KIND=WHICH/ACTION[,…]]:SPEC: calls of the inner device fail, or do the wrong thing and say
 * nothing.
 *
 *   KIND     alloc context stream copy memset gemm launch graph peer touch record sync
 *   WHICH    3: the third call of that kind; 3+: that one and all after it; all
 *   ACTION   fail: -EIO, and the device does not see the call
 *            corrupt: the call is done and what it leaves is changed; of copy, memset, gemm,
 *            launch, graph, peer and touch only
 *
 *   fault:copy=3/fail:emu:h100-tdx,cc=on
 *   fault:gemm=all/corrupt,sync=2+/fail:emu:h100-tdx
 *
 * Without keys: copy, gemm, launch, graph, peer and touch, all of them corrupt.
 *
 * Corrupt changes one byte of what was copied or set (adds one to it, at a place that differs from
 * call to call, so that the way back does not undo the way there), the sign and exponent byte of
 * one word that a kernel wrote, and every element of a product (alpha is 1/16 too large).  It waits
 * for the work first: calls that it corrupts are not asynchronous.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/shim.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum action {
	ACTION_NONE,
	ACTION_FAIL,
	ACTION_CORRUPT,
};

struct rule {
	enum action action;
	uint64_t first, last; /* calls, from 1 */
};

struct fault {
	struct rule rule[SHIM_KINDS];
	_Atomic uint64_t seen[SHIM_KINDS]; /* calls so far */
};

#define DEFAULT_KEYS                                                                               \
	"copy=all/corrupt,gemm=all/corrupt,launch=all/corrupt,graph=all/corrupt,peer=all/corrupt," \
	"touch=all/corrupt"

/* ---- keys ---- */

static bool leaves_data(enum shim_kind kind)
{
	return (kind >= SHIM_COPY && kind <= SHIM_TOUCH);
}

static int parse_which(const char *text, struct rule *rule)
{
	char *rest;

	rule->first = 1;
	rule->last = UINT64_MAX;
	if (!strcmp(text, "all"))
		return 0;
	if (*text < '1' || *text > '9')
		return -EINVAL;
	errno = 0;
	rule->first = strtoull(text, &rest, 10);
	if (!strcmp(rest, "+"))
		return -errno;
	rule->last = rule->first;
	return errno ? -errno : *rest ? -EINVAL : 0;
}

static int parse_rule(struct fault *f, char *word, struct cvb_err *err)
{
	char *which = strchr(word, '='), *action = which ? strchr(which, '/') : NULL;
	enum shim_kind kind = SHIM_ALLOC;
	struct rule rule = {0};

	if (!action)
		return cvb_err_set(err, -EINVAL,
				   "GPU spec: \"%s\"; KIND=WHICH/ACTION is right, as in "
				   "copy=3/fail",
				   word);
	*which++ = *action++ = '\0';
	while (kind < SHIM_KINDS && strcmp(word, shim_kind_names[kind]))
		kind++;
	if (kind == SHIM_KINDS)
		return cvb_err_set(err, -EINVAL,
				   "GPU spec: \"%s\" cannot fail; alloc, context, stream, copy, "
				   "memset, gemm, launch, graph, peer, touch, record and sync can",
				   word);
	if (parse_which(which, &rule) < 0)
		return cvb_err_set(err, -EINVAL, "GPU spec: %s=%s; 3, 3+ or all is right", word,
				   which);
	rule.action = !strcmp(action, "fail")	   ? ACTION_FAIL
		      : !strcmp(action, "corrupt") ? ACTION_CORRUPT
						   : ACTION_NONE;
	if (rule.action == ACTION_NONE || (rule.action == ACTION_CORRUPT && !leaves_data(kind)))
		return cvb_err_set(err, -EINVAL, "GPU spec: %s=%s/%s; %s is right", word, which,
				   action, leaves_data(kind) ? "fail or corrupt" : "fail");
	if (f->rule[kind].action)
		return cvb_err_set(err, -EINVAL, "GPU spec: %s is given twice", word);
	f->rule[kind] = rule;
	return 0;
}

static int parse_keys(struct fault *f, const char *keys, struct cvb_err *err)
{
	_cleanup_free_ char *copy = strdup(keys ? keys : DEFAULT_KEYS);
	char *rest = copy;
	int r = 0;

	if (!copy)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (char *word; r == 0 && (word = strsep(&rest, ","));)
		r = parse_rule(f, word, err);
	return r;
}

static int fault_check(const char *keys, struct cvb_err *err)
{
	struct fault f = {0};

	return parse_keys(&f, keys, err);
}

static int fault_open(struct shim *s, const char *keys, struct cvb_err *err)
{
	struct fault *f = calloc(1, sizeof(*f));
	int r = f ? parse_keys(f, keys, err) : cvb_err_set(err, -ENOMEM, "out of memory");

	if (r < 0)
		free(f);
	else
		s->priv = f;
	return r;
}

static void fault_close(struct shim *s)
{
	free(s->priv);
}

static int fault_describe(const struct shim *s, json_t *into)
{
	const struct fault *f = s->priv;
	int r = 0;

	for (unsigned kind = 0; kind < SHIM_KINDS; kind++)
		if (f->rule[kind].action)
			r |= json_object_set_new(into, shim_kind_names[kind],
						 json_string(f->rule[kind].action == ACTION_FAIL
								     ? "fail"
								     : "corrupt"));
	return r;
}

/* ---- what is done to a call ---- */

static int fault_begin(struct shim *s, struct shim_call *call, struct cvb_err *err)
{
	struct fault *f = s->priv;
	const struct rule *rule = &f->rule[call->kind];
	uint64_t n = 1 + atomic_fetch_add(&f->seen[call->kind], 1);

	if (rule->action == ACTION_NONE || n < rule->first || n > rule->last)
		return 0;
	if (rule->action == ACTION_FAIL)
		return cvb_err_set(err, -EIO, "injected fault: %s number %" PRIu64, call->name, n);
	call->number = n;
	if (call->kind == SHIM_GEMM)
		call->op.gemm.alpha *= 1 + 1.0 / 16;
	return 0;
}

/* Where the work of an operation leaves data. */
struct target {
	struct cvb_gpu_buf *buf;
	size_t offset, bytes;
	bool words; /* numbers: a changed low byte might pass as a rounding error */
};

static struct target target_of_op(const struct cvb_gpu_op *op)
{
	const struct cvb_gpu_launch *l = &op->launch;

	switch (op->kind) {
	case CVB_GPU_OP_LAUNCH:
		if (l->kernel == CVB_GPU_KERNEL_VERIFY || l->kernel == CVB_GPU_KERNEL_READ)
			return (struct target){l->b, 0, sizeof(uint64_t), true};
		return (struct target){l->a, 0, l->bytes, true};
	case CVB_GPU_OP_GEMM:
		return (struct target){
			op->gemm.c, 0,
			(size_t)op->gemm.m * op->gemm.n * cvb_gpu_type_bytes(op->gemm.type), true};
	case CVB_GPU_OP_MEMSET:
		return (struct target){op->set.dst, op->set.offset_bytes, op->set.bytes, false};
	case CVB_GPU_OP_COPY:
		return (struct target){op->copy.dst, op->copy.dst_offset_bytes, op->copy.bytes,
				       false};
	}
	return (struct target){0};
}

/* Add one to a byte of device memory, through the inner device. */
static int change_device(struct cvb_gpu_stream *stream, struct cvb_gpu_buf *buf, size_t at,
			 struct cvb_err *err)
{
	struct cvb_gpu_buf *byte;
	/* pinned: of some models nothing is known about pageable memory */
	int r = cvb_gpu_alloc_in(stream->context, CVB_GPU_HOST_PINNED, 1, &byte, err);

	if (r < 0)
		return r;
	r = cvb_gpu_copy_async(stream, byte, 0, buf, at, 1, err);
	if (r == 0)
		r = cvb_gpu_sync(stream, err);
	if (r == 0)
		r = cvb_gpu_memset_async(stream, buf, at, *(uint8_t *)byte->host + 1, 1, err);
	if (r == 0)
		r = cvb_gpu_sync(stream, err);
	cvb_gpu_free(byte);
	return r;
}

static int corrupt(struct cvb_gpu_stream *stream, const struct target *t, uint64_t number,
		   struct cvb_err *err)
{
	struct cvb_gpu_buf *buf = SHIM_INNER(t->buf);
	size_t at = t->offset;
	int r;

	if (t->words && t->bytes >= sizeof(uint64_t))
		at += cvb_gpu_pattern(0, number) % (t->bytes / sizeof(uint64_t)) *
			      sizeof(uint64_t) +
		      sizeof(uint64_t) - 1;
	else
		at += cvb_gpu_pattern(0, number) % t->bytes;
	r = cvb_gpu_sync(stream, err);
	if (r < 0)
		return r;
	if (buf->kind == CVB_GPU_DEVICE || buf->kind == CVB_GPU_MANAGED)
		return change_device(stream, buf, at, err);
	((uint8_t *)buf->host)[at]++;
	return 0;
}

static int corrupt_graph(struct cvb_gpu_stream *stream, const struct cvb_gpu_graph *graph,
			 uint64_t number, struct cvb_err *err)
{
	for (size_t i = graph->n; i-- > 0;) {
		struct target t = target_of_op(&graph->ops[i]);

		if (!t.buf)
			continue; /* a kernel that leaves nothing */
		if (graph->ops[i].kind != CVB_GPU_OP_GEMM)
			return corrupt(stream, &t, number, err);
		/* all of it, as of a single product: checks look at samples */
		return cvb_gpu_memset_async(stream, SHIM_INNER(t.buf), 0, 0x3f, t.bytes, err);
	}
	return 0;
}

/* The peer's buffer may be the other device's: the change goes through a stream of its own. */
static int corrupt_peer(const struct shim_call *call, struct cvb_err *err)
{
	struct target t = target_of_op(&call->op);
	struct cvb_gpu_stream *stream;
	int r = cvb_gpu_sync(SHIM_INNER(call->stream), err);

	if (r == 0)
		r = cvb_gpu_stream_new_in(SHIM_INNER(t.buf->context), &stream, err);
	if (r < 0)
		return r;
	r = corrupt(stream, &t, call->number, err);
	cvb_gpu_stream_free(stream);
	return r;
}

static int fault_end(struct shim *s, struct shim_call *call, int r, struct cvb_err *err)
{
	struct cvb_gpu_stream *stream = SHIM_INNER(call->stream);
	struct target t;

	(void)s;
	if (r < 0 || !call->number)
		return r;
	switch (call->kind) {
	case SHIM_COPY:
	case SHIM_MEMSET:
	case SHIM_LAUNCH:
		t = target_of_op(&call->op);
		return t.buf ? corrupt(stream, &t, call->number, err) : 0;
	case SHIM_PEER:
		return corrupt_peer(call, err);
	case SHIM_GRAPH:
		return corrupt_graph(stream, call->graph, call->number, err);
	case SHIM_TOUCH:
		((uint8_t *)call->buf->host)[call->offset_bytes +
					     cvb_gpu_pattern(0, call->number) % call->bytes]++;
		return 0;
	default:
		return 0; /* a product: its alpha was changed before */
	}
}

static const struct shim_ops fault_ops = {
	.check = fault_check,
	.open = fault_open,
	.close = fault_close,
	.describe = fault_describe,
	.begin = fault_begin,
	.end = fault_end,
};

static int fault_spec_check(const char *args, struct cvb_err *err)
{
	return shim_spec_check(&fault_ops, args, err);
}

static int fault_device_open(struct cvb_gpu *gpu, const char *args, struct cvb_err *err)
{
	return shim_open(&fault_ops, gpu, args, err);
}

static const struct cvb_gpu_backend fault_backend = {
	.abi = CVB_GPU_BACKEND_ABI,
	.struct_size = sizeof(struct cvb_gpu_backend),
	.name = "fault",
	.spec_check = fault_spec_check,
	.open = fault_device_open,
	SHIM_HOOKS,
};

CVB_GPU_BACKEND(fault_backend);
