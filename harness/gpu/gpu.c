/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core of the GPU layer: finds the backend, opens and describes devices.
 */
#include "gpu/gpu.h"

#include "core/util.h"
#include "gpu/backend.h"

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

	cvb_err_set(err, -EINVAL,
		    "GPU spec \"%s\": unknown backend \"%s\"; %s%s emu:SKU[,cc=on|off] or cuda[:N] "
		    "is right",
		    spec, word, near ? "did you mean " : "", near ? near : "");
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

int cvb_gpu_open(const char *spec, struct cvb_gpu **ret, struct cvb_err *err)
{
	const char *args;
	const struct cvb_gpu_backend *b = backend_of(spec, &args, err);
	int r = b ? b->spec_check(args, err) : -EINVAL;

	if (r < 0)
		return r;
	struct cvb_gpu *gpu = calloc(1, sizeof(*gpu));

	if (!gpu)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&gpu->lock, /* attr= */ NULL);
	gpu->backend = b;
	gpu->spec = strdup(spec);
	gpu->clock = &cvb_clock_host;
	r = gpu->spec ? b->open(gpu, args, err) : cvb_err_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		gpu_free(gpu);
		return r;
	}
	*ret = gpu;
	return 0;
}

struct cvb_gpu *cvb_gpu_close(struct cvb_gpu *gpu)
{
	if (!gpu)
		return NULL;
	/* events first: a stream still drains work that holds its own reference to them */
	while (!LIST_EMPTY(&gpu->events))
		cvb_gpu_event_free(LIST_FIRST(&gpu->events));
	while (!LIST_EMPTY(&gpu->streams))
		cvb_gpu_stream_free(LIST_FIRST(&gpu->streams));
	while (!LIST_EMPTY(&gpu->bufs))
		cvb_gpu_free(LIST_FIRST(&gpu->bufs));
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
	return json_pack("{s:b,s:b,s:b,s:b,s:o}", "async_copy",
			 !!(caps->flags & CVB_GPU_CAP_ASYNC_COPY), "events",
			 !!(caps->flags & CVB_GPU_CAP_EVENTS), "pinned",
			 !!(caps->flags & CVB_GPU_CAP_PINNED), "managed",
			 !!(caps->flags & CVB_GPU_CAP_MANAGED), "gemm", gemm);
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
