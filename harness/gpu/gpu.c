/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core of the GPU layer: finds the backend, opens and describes devices.
 */
#include "gpu/gpu.h"

#include "core/util.h"
#include "gpu/gpu_check.h"

#include <errno.h>
#include <string.h>

/* Set by the linker around the section that CVB_GPU_BACKEND fills. */
extern const struct cvb_gpu_backend *const __start_cvb_gpu_backend[];
extern const struct cvb_gpu_backend *const __stop_cvb_gpu_backend[];

#define MAX_BACKENDS 16

static size_t backend_count(void)
{
	size_t n = (size_t)(__stop_cvb_gpu_backend - __start_cvb_gpu_backend);

	CVB_BUG_ON(n > MAX_BACKENDS);
	for (size_t i = 0; i < n; i++) {
		const struct cvb_gpu_backend *b = __start_cvb_gpu_backend[i];

		CVB_BUG_ON(b->abi != CVB_GPU_BACKEND_ABI || b->struct_size != sizeof(*b));
		CVB_BUG_ON(!b->name || !b->spec_check || !b->open || !b->close);
	}
	return n;
}

/* The backend that a spec names; *ret_args is the text after "NAME:" or NULL. */
static const struct cvb_gpu_backend *backend_of(const char *spec, const char **ret_args,
						struct cvb_err *err)
{
	const char *names[MAX_BACKENDS + 1];
	size_t n = backend_count();
	char word[64];

	if (!spec || !*spec) {
		cvb_err_set(err, -EINVAL,
			    "empty GPU spec; emu:SKU[,cc=on|off] or cuda[:N] is right");
		return NULL;
	}
	size_t length = strcspn(spec, ":");

	snprintf(word, sizeof(word), "%.*s", (int)cvb_min(length, sizeof(word) - 1), spec);
	for (size_t i = 0; i < n; i++) {
		names[i] = __start_cvb_gpu_backend[i]->name;
		if (strlen(names[i]) == length && !strncmp(names[i], spec, length)) {
			*ret_args = spec[length] ? spec + length + 1 : NULL;
			return __start_cvb_gpu_backend[i];
		}
	}
	names[n] = NULL;
	const char *near = cvb_nearest(word, names);

	cvb_err_set(
		err, -EINVAL,
		"GPU spec \"%s\": unknown backend \"%s\"; %s%s%semu:SKU[,cc=on|off] or cuda[:N] "
		"is right",
		spec, word, near ? "did you mean " : "", near ? near : "", near ? "? " : "");
	return NULL;
}

int cvb_gpu_spec_check(const char *spec, struct cvb_err *err)
{
	const char *args;
	const struct cvb_gpu_backend *b = backend_of(spec, &args, err);

	return b ? b->spec_check(args, err) : -EINVAL;
}

/* ---- words ---- */

const char *cvb_gpu_tri_text(enum cvb_gpu_tri t)
{
	static const char *const text[] = {"unknown", "off", "on"};

	return (unsigned)t < CVB_ARRAY_LEN(text) ? text[t] : "unknown";
}

const char *cvb_gpu_dir_text(enum cvb_gpu_dir dir)
{
	static const char *const text[] = {"h2d", "d2h", "d2d"};

	return (unsigned)dir < CVB_ARRAY_LEN(text) ? text[dir] : "?";
}

const char *cvb_gpu_mem_text(enum cvb_gpu_mem kind)
{
	static const char *const text[] = {"device", "pageable", "pinned", "managed"};

	return (unsigned)kind < CVB_ARRAY_LEN(text) ? text[kind] : "?";
}

static const struct {
	const char *name;
	size_t bytes;
} types[CVB_GPU_TYPES] = {
	[CVB_GPU_FP64] = {"fp64", 8}, [CVB_GPU_FP32] = {"fp32", 4}, [CVB_GPU_TF32] = {"tf32", 4},
	[CVB_GPU_BF16] = {"bf16", 2}, [CVB_GPU_FP16] = {"fp16", 2}, [CVB_GPU_FP8] = {"fp8", 1},
	[CVB_GPU_INT8] = {"int8", 1},
};

const char *cvb_gpu_type_text(enum cvb_gpu_type type)
{
	return (unsigned)type < CVB_GPU_TYPES ? types[type].name : "?";
}

size_t cvb_gpu_type_bytes(enum cvb_gpu_type type)
{
	return (unsigned)type < CVB_GPU_TYPES ? types[type].bytes : 0;
}

/* ---- device ---- */

static void gpu_free(struct cvb_gpu *gpu)
{
	pthread_mutex_destroy(&gpu->lock);
	free(gpu->spec);
	free(gpu);
}

static struct cvb_gpu *gpu_new(const struct cvb_gpu_backend *b, const char *spec)
{
	struct cvb_gpu *gpu = calloc(1, sizeof(*gpu));

	if (!gpu)
		return NULL;
	pthread_mutex_init(&gpu->lock, /* attr= */ NULL);
	gpu->backend = b;
	gpu->spec = strdup(spec);
	gpu->clock = &cvb_clock_host;
	gpu->primary = (struct cvb_gpu_context){.gpu = gpu, .primary = true};
	if (!gpu->spec) {
		gpu_free(gpu);
		return NULL;
	}
	return gpu;
}

/* The open hook has filled it: the primary context is next.  On failure nothing is left. */
static int gpu_begin(struct cvb_gpu *gpu, struct cvb_gpu **ret, struct cvb_err *err)
{
	int r = gpu->backend->context_new ? gpu->backend->context_new(&gpu->primary, err) : 0;

	if (r < 0) {
		gpu->backend->close(gpu);
		gpu_free(gpu);
		return cvb_err_wrap(err, r, "making the primary context");
	}
	*ret = gpu;
	return 0;
}

int cvb_gpu_open(const char *spec, struct cvb_gpu **ret, struct cvb_err *err)
{
	const char *args;
	const struct cvb_gpu_backend *b = backend_of(spec, &args, err);
	int r = b ? b->spec_check(args, err) : -EINVAL;

	if (r < 0)
		return r;
	struct cvb_gpu *gpu = gpu_new(b, spec);

	r = gpu ? b->open(gpu, args, err) : cvb_err_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		if (gpu)
			gpu_free(gpu);
		return r;
	}
	return gpu_begin(gpu, ret, err);
}

int cvb_gpu_peer_open(struct cvb_gpu *gpu, struct cvb_gpu **ret, struct cvb_err *err)
{
	struct cvb_gpu *peer;
	int r;

	if (!gpu)
		return cvb_gpu_no_handle("peer_open", "device", err);
	if (gpu->peer || gpu->peer_of)
		return cvb_err_set(err, -EINVAL, "peer_open: the device has a peer already");
	if (!(gpu->caps.flags & CVB_GPU_CAP_PEER) || !gpu->backend->peer_open)
		return cvb_err_set(err, -EOPNOTSUPP, "GPU %s has no peer", gpu->spec);
	peer = gpu_new(gpu->backend, gpu->spec);
	r = peer ? gpu->backend->peer_open(gpu, peer, err)
		 : cvb_err_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		if (peer)
			gpu_free(peer);
		return cvb_err_wrap(err, r, "opening a peer of GPU %s", gpu->spec);
	}
	peer->peer_of = gpu;
	r = gpu_begin(peer, ret, err);
	if (r == 0)
		gpu->peer = peer;
	return r;
}

struct cvb_gpu *cvb_gpu_close(struct cvb_gpu *gpu)
{
	if (!gpu)
		return NULL;
	cvb_gpu_close(gpu->peer);
	if (gpu->peer_of)
		gpu->peer_of->peer = NULL;
	/* everything, before the contexts that it lies in */
	cvb_gpu_drop_all(gpu, NULL);
	while (!LIST_EMPTY(&gpu->contexts))
		cvb_gpu_context_free(LIST_FIRST(&gpu->contexts));
	if (gpu->backend->context_free)
		gpu->backend->context_free(&gpu->primary);
	gpu->backend->close(gpu);
	gpu_free(gpu);
	return NULL;
}

const struct cvb_clock *cvb_gpu_clock(const struct cvb_gpu *gpu)
{
	return gpu->clock;
}

bool cvb_gpu_is_emulated(const struct cvb_gpu *gpu)
{
	return gpu->emulated;
}

bool cvb_gpu_is_deterministic(const struct cvb_gpu *gpu)
{
	return gpu->deterministic;
}

const char *cvb_gpu_spec(const struct cvb_gpu *gpu)
{
	return gpu->spec;
}

const struct cvb_gpu_caps *cvb_gpu_caps(const struct cvb_gpu *gpu)
{
	return &gpu->caps;
}

int cvb_gpu_cc_state(struct cvb_gpu *gpu, struct cvb_gpu_cc *ret, struct cvb_err *err)
{
	if (!gpu)
		return cvb_err_set(err, -EINVAL, "cc_state: no device");
	if (!gpu->backend->cc_state)
		return cvb_err_set(err, -EOPNOTSUPP, "GPU backend %s has no cc_state",
				   gpu->backend->name);
	return gpu->backend->cc_state(gpu, ret, err);
}

static json_t *describe_cc(const struct cvb_gpu *gpu)
{
	struct cvb_gpu_cc cc = {0};

	/* the hook changes nothing that a reader could see; const is the caller's promise of that
	 */
	if (!gpu->backend->cc_state ||
	    gpu->backend->cc_state((struct cvb_gpu *)gpu, &cc, /* err= */ NULL) < 0)
		return json_null();
	json_t *doc = json_pack(
		"{s:s,s:s,s:s,s:s,s:s}", "feature", cvb_gpu_tri_text(cc.feature), "production",
		cvb_gpu_tri_text(cc.production), "devtools", cvb_gpu_tri_text(cc.devtools),
		"multi_gpu", cvb_gpu_tri_text(cc.multi_gpu), "ready", cvb_gpu_tri_text(cc.ready));

	/* a size that nobody told is absent, not 0 */
	if (cc.protected_bytes)
		json_object_set_new(doc, "protected_bytes",
				    json_integer((json_int_t)cc.protected_bytes));
	if (cc.unprotected_bytes)
		json_object_set_new(doc, "unprotected_bytes",
				    json_integer((json_int_t)cc.unprotected_bytes));
	json_object_set_new(doc, "source", json_string(cc.source ? cc.source : "none"));
	return doc;
}

static json_t *describe_caps(const struct cvb_gpu_caps *caps)
{
	json_t *gemm = json_array();

	for (unsigned i = 0; i < CVB_GPU_TYPES; i++)
		if (caps->gemm_types & (1U << i))
			json_array_append_new(gemm, json_string(types[i].name));
	static const char *const names[] = {"async_copy", "events",    "pinned",
					    "managed",	  "launch",    "graphs",
					    "contexts",	  "processes", "peer"};
	json_t *doc = json_pack("{s:o}", "gemm", gemm);

	for (unsigned i = 0; i < CVB_ARRAY_LEN(names); i++)
		json_object_set_new(doc, names[i], json_boolean(caps->flags >> i & 1));
	if (caps->context_limit)
		json_object_set_new(doc, "context_limit",
				    json_integer((json_int_t)caps->context_limit));
	json_object_set_new(doc, "host_register",
			    json_string(cvb_gpu_tri_text(caps->host_register)));
	json_object_set_new(doc, "gpudirect_rdma",
			    json_string(cvb_gpu_tri_text(caps->gpudirect_rdma)));
	json_object_set_new(doc, "multicast", json_string(cvb_gpu_tri_text(caps->multicast)));
	json_object_set_new(doc, "trusted_events",
			    json_string(cvb_gpu_tri_text(caps->trusted_events)));
	return doc;
}

json_t *cvb_gpu_describe(const struct cvb_gpu *gpu)
{
	_cleanup_json_ json_t *doc =
		json_pack("{s:s,s:s,s:b,s:b,s:s}", "spec", gpu->spec, "backend", gpu->backend->name,
			  "emulated", gpu->emulated, "deterministic", gpu->deterministic, "clock",
			  gpu->clock->name);

	if (!doc || json_object_set_new(doc, "cc", describe_cc(gpu)) < 0 ||
	    json_object_set_new(doc, "caps", describe_caps(&gpu->caps)) < 0)
		return NULL;
	if (gpu->backend->describe && gpu->backend->describe(gpu, doc) < 0)
		return NULL;
	return CVB_TAKE(doc);
}
