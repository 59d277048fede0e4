/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA backend on the fake driver: what it makes of the driver's errors and of NVML's answers.
 * What every backend must do is in the conformance tests.
 */
#include "fixture.h"

#include "gpu/cuda_nvml.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#if CVB_CUDA && CVB_CUDA_KERNELS

static struct cvb_gpu *open_with(const char *nvml, struct cvb_err *err)
{
	struct cvb_gpu *gpu = NULL;

	if (nvml)
		fake_set_nvml(nvml);
	else
		unsetenv("FAKE_NVML");
	return cvb_gpu_open("cuda", &gpu, err) < 0 ? NULL : gpu;
}

/* ---- errors ---- */

/* Some of everything; the first failure is the result, and all is freed in any case. */
static int use_everything(struct cvb_err *err)
{
	struct cvb_gpu *gpu = NULL, *peer = NULL;
	struct cvb_gpu_context *context;
	struct cvb_gpu_stream *s, *other;
	struct cvb_gpu_buf *b[4], *managed, *theirs;
	struct cvb_gpu_event *e[2];
	struct cvb_gpu_graph *g;
	int64_t ns;
	int r;

	fake_set_nvml("h100-cc-off.txt");
	r = cvb_gpu_open("cuda", &gpu, err);
#define THEN(call)                                                                                 \
	if (r == 0)                                                                                \
		r = (call);
	THEN(cvb_gpu_stream_new(gpu, &s, err))
	for (int i = 0; i < 3; i++)
		THEN(cvb_gpu_alloc(gpu, CVB_GPU_DEVICE, 4096, &b[i], err))
	THEN(cvb_gpu_alloc(gpu, CVB_GPU_HOST_PINNED, 4096, &b[3], err))
	THEN(cvb_gpu_alloc(gpu, CVB_GPU_MANAGED, 4096, &managed, err))
	for (int i = 0; i < 2; i++)
		THEN(cvb_gpu_event_new(gpu, &e[i], err))
	THEN(cvb_gpu_event_record(e[0], s, err))
	THEN(cvb_gpu_copy_async(s, b[0], 0, b[3], 0, 4096, err))
	THEN(cvb_gpu_memset_async(s, b[1], 0, 0, 4096, err))
	struct cvb_gpu_gemm gemm = {CVB_GPU_FP8, 20, 20, 20, 1, 0.5, NULL, NULL, NULL};
	struct cvb_gpu_launch add = {.kernel = CVB_GPU_KERNEL_ADD, .bytes = 4096};

	if (r == 0) {
		gemm.a = add.a = b[0];
		gemm.b = add.b = b[1];
		gemm.c = b[2];
	}
	THEN(cvb_gpu_gemm_async(s, &gemm, err))
	THEN(cvb_gpu_launch_async(s, &add, err))
	THEN(cvb_gpu_event_record(e[1], s, err))
	THEN(cvb_gpu_event_wait(s, e[0], err))
	THEN(cvb_gpu_event_sync(e[1], err))
	THEN(cvb_gpu_event_elapsed_ns(e[0], e[1], &ns, err))
	THEN(cvb_gpu_managed_touch(managed, 0, 4096, err))
	THEN(cvb_gpu_capture_begin(s, err))
	THEN(cvb_gpu_launch_async(s, &add, err))
	THEN(cvb_gpu_gemm_async(s, &gemm, err))
	THEN(cvb_gpu_capture_end(s, &g, err))
	THEN(cvb_gpu_graph_launch(g, s, err))
	THEN(cvb_gpu_sync(s, err))
	THEN(cvb_gpu_context_new(gpu, CVB_GPU_CONTEXT_THREAD, &context, err))
	THEN(cvb_gpu_stream_new_in(context, &other, err))
	THEN(cvb_gpu_peer_open(gpu, &peer, err))
	THEN(cvb_gpu_alloc(peer, CVB_GPU_DEVICE, 4096, &theirs, err))
	THEN(cvb_gpu_peer_copy_async(s, theirs, 0, b[0], 0, 4096, err))
	THEN(cvb_gpu_sync(s, err))
#undef THEN
	cvb_gpu_close(gpu);
	return r;
}

/*
 * Every call of every function fails once: there is an error with the call's name and the driver's
 * name for it, no crash, and nothing of the driver's is left.
 */
static void fail_each(const char *symbol, const char *shown)
{
	int calls = 1;

	for (;; calls++) {
		struct cvb_err err = {0};
		char text[2048], *plan = cvb_strf("%s=%d", symbol, calls);

		setenv("FAKE_CUDA_FAIL", plan, 1);
		free(plan);
		int r = use_everything(&err);

		unsetenv("FAKE_CUDA_FAIL");
		if (fake_left() != 0)
			fail_msg("%s, call %d: %ld objects of the driver are left", symbol, calls,
				 fake_left());
		if (r == 0)
			break;
		cvb_err_text(&err, text, sizeof(text));
		if (!strstr(text, shown) ||
		    (!strncmp(shown, "cublas", 6) ? !strstr(text, "CUBLAS_STATUS_")
						  : !strstr(text, "CUDA_ERROR_UNKNOWN (999)")))
			fail_msg("%s, call %d: \"%s\"", symbol, calls, text);
		assert_int_equal(r, -EIO);
	}
	if (calls < 2)
		fail_msg("%s is never called", symbol);
}

static void test_every_call_fails_once(void **state)
{
	static const char *const symbols[][2] = {
		{"cuInit", "cuInit"},
		{"cuDeviceGet", "cuDeviceGet"},
		{"cuDeviceGetName", "cuDeviceGetName"},
		{"cuDeviceGetCount", "cuDeviceGetCount"},
		{"cuDeviceCanAccessPeer", "cuDeviceCanAccessPeer"},
		{"cuEventQuery", "cuEventQuery"},
		{"cuStreamSynchronize", "cuStreamSynchronize"},
		{"cuDeviceGetPCIBusId", "cuDeviceGetPCIBusId"},
		{"cuDeviceTotalMem_v2", "cuDeviceTotalMem:"},
		{"cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRetain"},
		{"cuCtxCreate_v2", "cuCtxCreate:"},
		{"cuCtxEnablePeerAccess", "cuCtxEnablePeerAccess"},
		{"cuMemcpyPeerAsync", "cuMemcpyPeerAsync"},
		{"cuModuleLoadData", "cuModuleLoadData"},
		{"cuModuleGetFunction", "cuModuleGetFunction"},
		{"cuMemAlloc_v2", "cuMemAlloc:"},
		{"cuMemHostAlloc", "cuMemHostAlloc"},
		{"cuMemAllocManaged", "cuMemAllocManaged"},
		{"cuMemcpyAsync", "cuMemcpyAsync"},
		{"cuMemcpy2DAsync_v2", "cuMemcpy2DAsync:"},
		{"cuMemsetD8Async", "cuMemsetD8Async"},
		{"cuStreamCreate", "cuStreamCreate"},
		{"cuStreamWaitEvent", "cuStreamWaitEvent"},
		{"cuEventCreate", "cuEventCreate"},
		{"cuEventRecord", "cuEventRecord"},
		{"cuEventSynchronize", "cuEventSynchronize"},
		{"cuEventElapsedTime", "cuEventElapsedTime"},
		{"cuLaunchKernel", "cuLaunchKernel"},
		{"cuStreamBeginCapture_v2", "cuStreamBeginCapture:"},
		{"cuStreamEndCapture", "cuStreamEndCapture"},
		{"cuGraphInstantiateWithFlags", "cuGraphInstantiateWithFlags"},
		{"cuGraphLaunch", "cuGraphLaunch"},
		{"cublasLtCreate", "cublasLtCreate"},
		{"cublasLtMatmulDescCreate", "cublasLtMatmulDescCreate"},
		{"cublasLtMatmulDescSetAttribute", "cublasLtMatmulDescSetAttribute"},
		{"cublasLtMatrixLayoutCreate", "cublasLtMatrixLayoutCreate"},
		{"cublasLtMatmulPreferenceCreate", "cublasLtMatmulPreferenceCreate"},
		{"cublasLtMatmulPreferenceSetAttribute", "cublasLtMatmulPreferenceSetAttribute"},
		{"cublasLtMatmulAlgoGetHeuristic", "cublasLtMatmulAlgoGetHeuristic"},
		{"cublasLtMatmul", "cublasLtMatmul"},
	};
	struct cvb_err err = {0};

	(void)state;
	assert_int_equal(use_everything(&err), 0);
	for (size_t i = 0; i < CVB_ARRAY_LEN(symbols); i++)
		fail_each(symbols[i][0], symbols[i][1]);
}

/* What an error means for us, and what the user is told to try. */
static void test_meanings(void **state)
{
	static const struct {
		const char *plan, *says;
		int code;
	} table[] = {
		{"cuMemAlloc_v2=1:2", "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (2); end other",
		 -ENOMEM},
		{"cuModuleLoadData=1:209", "CUDA_ERROR_NO_BINARY_FOR_GPU (209); the kernels need",
		 -EOPNOTSUPP},
		{"cuInit=1:100", "CUDA_ERROR_NO_DEVICE (100); see whether nvidia-smi", -EOPNOTSUPP},
		{"cuInit=1:802", "CUDA_ERROR_SYSTEM_NOT_READY (802); start nvidia-fabricmanager",
		 -EOPNOTSUPP},
		{"cuMemcpyAsync=1:700", "CUDA_ERROR_ILLEGAL_ADDRESS (700); run under", -EIO},
		{"cuGraphLaunch=1:12345", "an error that the driver has no name for (12345)", -EIO},
		{"cublasLtMatmulAlgoGetHeuristic=1:15", "CUBLAS_STATUS_NOT_SUPPORTED", -EOPNOTSUPP},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(table); i++) {
		struct cvb_err err = {0};
		char text[2048];

		setenv("FAKE_CUDA_FAIL", table[i].plan, 1);
		assert_int_equal(use_everything(&err), table[i].code);
		unsetenv("FAKE_CUDA_FAIL");
		cvb_err_text(&err, text, sizeof(text));
		if (!strstr(text, table[i].says))
			fail_msg("%s: \"%s\"", table[i].plan, text);
		assert_int_equal(fake_left(), 0);
	}
}

/* cuBLASLt has two ways to say that it has no algorithm. */
static void test_no_algorithm(void **state)
{
	static const char *const ways[] = {"found", "state"};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(ways); i++) {
		struct cvb_err err = {0};
		char text[2048];

		setenv("FAKE_BLAS_NONE", ways[i], 1);
		assert_int_equal(use_everything(&err), -EOPNOTSUPP);
		unsetenv("FAKE_BLAS_NONE");
		cvb_err_text(&err, text, sizeof(text));
		assert_non_null(strstr(text, "has no algorithm for fp8 20 x 20 x 20"));
		assert_int_equal(fake_left(), 0);
	}
}

/* An error of work that runs later, or of freeing, ends nothing. */
static void test_late_errors(void **state)
{
	static const char *const symbols[] = {"cuStreamSynchronize", "cuCtxSynchronize",
					      "cuMemFree_v2",	     "cuMemFreeHost",
					      "cuStreamDestroy_v2",  "cuEventDestroy_v2"};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(symbols); i++) {
		struct cvb_err err = {0};
		char *plan = cvb_strf("%s=1", symbols[i]);

		setenv("FAKE_CUDA_FAIL", plan, 1);
		free(plan);
		int r = use_everything(&err);

		unsetenv("FAKE_CUDA_FAIL");
		assert_true(r == 0 || r == -EIO);
		assert_int_equal(fake_left(), 0);
	}
}

static void test_no_such_device(void **state)
{
	struct cvb_err err = {0};
	struct cvb_gpu *gpu = NULL;
	char text[512];

	(void)state;
	assert_int_equal(cvb_gpu_open("cuda:7", &gpu, &err), -EOPNOTSUPP);
	cvb_err_text(&err, text, sizeof(text));
	assert_non_null(strstr(text, "no CUDA device 7: the driver has 2"));
	setenv("FAKE_CUDA_DEVICES", "1", 1);
	gpu = open_with("h100-cc-off.txt", &err);
	assert_non_null(gpu);
	assert_false(cvb_gpu_caps(gpu)->flags & CVB_GPU_CAP_PEER);
	struct cvb_gpu *peer = NULL;

	assert_int_equal(cvb_gpu_peer_open(gpu, &peer, &err), -EOPNOTSUPP);
	cvb_gpu_close(gpu);
	unsetenv("FAKE_CUDA_DEVICES");
}

/* ---- NVML ---- */

/* Answers written after NVML's documentation, not taken from machines. */
static void test_confidential_state(void **state)
{
	static const struct {
		const char *nvml;
		struct cvb_gpu_cc want;
	} table[] = {
		{"h100-cc-off.txt",
		 {CVB_GPU_OFF, CVB_GPU_ON, CVB_GPU_OFF, CVB_GPU_OFF, CVB_GPU_ON, 0,
		  UINT64_C(83427328) << 10, "nvml ConfComputeSettings"}},
		{"h100-cc-on.txt",
		 {CVB_GPU_ON, CVB_GPU_ON, CVB_GPU_OFF, CVB_GPU_OFF, CVB_GPU_ON,
		  UINT64_C(83423232) << 10, 4096 << 10, "nvml ConfComputeSettings"}},
		{"h100-devtools.txt",
		 {CVB_GPU_ON, CVB_GPU_ON, CVB_GPU_ON, CVB_GPU_OFF, CVB_GPU_OFF, 0, 0,
		  "nvml ConfComputeSettings"}},
		/* the feature reads as off, and is not */
		{"protected-pcie.txt",
		 {CVB_GPU_ON, CVB_GPU_ON, CVB_GPU_OFF, CVB_GPU_ON, CVB_GPU_ON, 0, 0,
		  "nvml ConfComputeSettings"}},
		{"no-feature.txt",
		 {CVB_GPU_OFF, CVB_GPU_UNKNOWN, CVB_GPU_OFF, CVB_GPU_OFF, CVB_GPU_UNKNOWN, 0, 0,
		  "nvml ConfComputeCapabilities"}},
		{"old-driver.txt",
		 {CVB_GPU_ON, CVB_GPU_ON, CVB_GPU_OFF, CVB_GPU_UNKNOWN, CVB_GPU_ON, 0, 0,
		  "nvml ConfComputeState"}},
		{"none", /* no file: NVML does not start */
		 {.source = "nvmlInit failed; nvidia-smi tells why"}},
	};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(table); i++) {
		struct cvb_err err = {0};
		struct cvb_gpu *gpu = open_with(table[i].nvml, &err);
		const struct cvb_gpu_cc *want = &table[i].want;
		struct cvb_gpu_cc cc;

		assert_non_null(gpu);
		assert_int_equal(cvb_gpu_cc_state(gpu, &cc, &err), 0);
		assert_int_equal(cc.feature, want->feature);
		assert_int_equal(cc.production, want->production);
		assert_int_equal(cc.devtools, want->devtools);
		assert_int_equal(cc.multi_gpu, want->multi_gpu);
		assert_int_equal(cc.ready, want->ready);
		assert_int_equal(cc.protected_bytes, want->protected_bytes);
		assert_int_equal(cc.unprotected_bytes, want->unprotected_bytes);
		assert_string_equal(cc.source, want->source);
		/* events are believed only where the GPU is known not to be confidential */
		assert_int_equal(cvb_gpu_caps(gpu)->trusted_events,
				 want->feature == CVB_GPU_ON	? CVB_GPU_OFF
				 : want->feature == CVB_GPU_OFF ? CVB_GPU_ON
								: CVB_GPU_UNKNOWN);
		cvb_gpu_close(gpu);
		assert_int_equal(fake_left(), 0);
	}
}

/* NVML's answers of a file with other reasons for slow clocks; the path is the caller's to unlink.
 */
static void set_reasons(const char *from, unsigned reasons, char path[64])
{
	char line[256];
	FILE *in, *out;

	fake_set_nvml(from);
	snprintf(path, 64, "/tmp/cvb-cuda-nvml-%d", (int)getpid());
	in = fopen(getenv("FAKE_NVML"), "re");
	out = fopen(path, "we");
	assert_non_null(in);
	assert_non_null(out);
	while (fgets(line, sizeof(line), in))
		if (!strstr(line, "Reasons "))
			fputs(line, out);
	fprintf(out, "nvmlDeviceGetCurrentClocksEventReasons 0 %u\n", reasons);
	fclose(in);
	fclose(out);
	setenv("FAKE_NVML", path, 1);
}

static json_t *describe(const char *nvml)
{
	struct cvb_err err = {0};
	struct cvb_gpu *gpu = open_with(nvml, &err);
	json_t *doc;

	assert_non_null(gpu);
	doc = cvb_gpu_describe(gpu);
	assert_non_null(doc);
	cvb_gpu_close(gpu);
	return doc;
}

static bool warns(const json_t *doc, const char *text)
{
	size_t i;
	json_t *w;

	json_array_foreach (json_object_get(doc, "warnings"), i, w)
		if (strstr(json_string_value(w), text))
			return true;
	return false;
}

static void test_description(void **state)
{
	_cleanup_json_ json_t *on = describe("h100-cc-on.txt"), *none = describe("none");
	_cleanup_json_ json_t *devtools = describe("h100-devtools.txt");
	_cleanup_json_ json_t *ppcie = describe("protected-pcie.txt");
	const char *driver, *vbios, *mode, *events, *multicast, *host_register;
	json_int_t gen, width, width_max, bar1, pending = -1, power, keys, throttle, uncorrectable;
	int ecc, async, events_cap, is_pending;

	(void)state;
	(void)pending;
	assert_int_equal(json_unpack(on, "{s:{s:s,s:s},s:{s:I,s:I,s:I},s:I,s:{s:b},s:{s:I,s:b}}",
				     "driver", "nvidia", &driver, "vbios", &vbios, "pcie",
				     "generation", &gen, "width", &width, "width_max", &width_max,
				     "bar1_bytes", &bar1, "ecc", "on", &ecc, "remapped_rows",
				     "uncorrectable", &uncorrectable, "pending", &is_pending),
			 0);
	assert_string_equal(driver, "580.82.07");
	assert_string_equal(vbios, "96.00.9F.00.01");
	assert_true(gen == 5 && width == 8 && width_max == 16 && bar1 == INT64_C(137438953472));
	assert_true(ecc && uncorrectable == 2 && !is_pending);
	assert_int_equal(json_unpack(on, "{s:{s:I,s:I},s:{s:s,s:I},s:{s:s},s:{s:b,s:b,s:s,s:s}}",
				     "state", "power_mw", &power, "throttle_reasons", &throttle,
				     "conf_compute", "multi_gpu_mode", &mode,
				     "key_rotation_attacker_advantage", &keys, "timing", "events",
				     &events, "caps", "async_copy", &async, "events", &events_cap,
				     "multicast", &multicast, "host_register", &host_register),
			 0);
	assert_true(power == 71000 && throttle == 1 && keys == INT64_C(1) << 62);
	assert_string_equal(mode, "none");
	assert_non_null(strstr(events, "not trusted"));
	assert_true(!async && events_cap);
	assert_string_equal(multicast, "unknown");
	assert_string_equal(host_register, "off");
	assert_int_equal(json_array_size(json_object_get(on, "warnings")), 0);

	/* what nobody said is absent */
	assert_null(json_object_get(none, "pcie"));
	assert_true(warns(none, "nvmlInit"));
	assert_true(warns(devtools, "no parity") && warns(devtools, "do not accept work"));
	assert_int_equal(json_unpack(ppcie, "{s:{s:s}}", "conf_compute", "multi_gpu_mode", &mode),
			 0);
	assert_string_equal(mode, "protected_pcie");
}

/* ---- contexts with a process of their own ---- */

/* The process ends when its context does; nothing of it is left, in either process. */
static void expect_ended(const char *left_path)
{
	char text[32] = "";
	FILE *f = fopen(left_path, "re");

	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	assert_string_equal(text, "0\n");
	assert_int_equal(fake_left(), 0);
}

static void left_path(char path[64])
{
	snprintf(path, 64, "/tmp/cvb-cuda-left-%d", (int)getpid());
	unlink(path);
	setenv("FAKE_CUDA_LEFT", path, 1);
}

struct own {
	struct cvb_gpu *gpu;
	struct cvb_gpu_context *context;
	struct cvb_gpu_stream *stream;
	struct cvb_err err;
	char left[64];
};

static void own_start(struct own *o, const char *nvml)
{
	*o = (struct own){0};
	left_path(o->left);
	o->gpu = open_with(nvml, &o->err);
	assert_non_null(o->gpu);
	assert_int_equal(cvb_gpu_context_new(o->gpu, CVB_GPU_CONTEXT_PROCESS, &o->context, &o->err),
			 0);
	assert_int_equal(cvb_gpu_stream_new_in(o->context, &o->stream, &o->err), 0);
}

/* The only child of this process. */
static pid_t child_pid(void)
{
	char path[64], text[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	f = fopen(path, "re");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	return (pid_t)strtoul(text, NULL, 10);
}

/* Mappings of memory files in a process. */
static unsigned mapped_files(pid_t pid)
{
	char path[64], line[512];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "memfd:cvmbench-gpu") != NULL;
	fclose(f);
	return n;
}

static void own_end(struct own *o)
{
	cvb_gpu_close(o->gpu);
	expect_ended(o->left);
	unlink(o->left);
	unsetenv("FAKE_CUDA_LEFT");
}

static struct cvb_gpu_buf *own_alloc(struct own *o, enum cvb_gpu_mem kind, size_t bytes)
{
	struct cvb_gpu_buf *buf = NULL;

	assert_int_equal(cvb_gpu_alloc_in(o->context, kind, bytes, &buf, &o->err), 0);
	return buf;
}

#define OWN_BYTES ((size_t)1 << 20)

/* There and back, each time with other data, through memory of every kind. */
static void own_copies(struct own *o, enum cvb_gpu_mem kind)
{
	struct cvb_gpu_buf *device = own_alloc(o, CVB_GPU_DEVICE, OWN_BYTES);
	struct cvb_gpu_buf *host = own_alloc(o, kind, OWN_BYTES);
	uint8_t *want = malloc(OWN_BYTES);

	assert_non_null(want);
	for (uint64_t seed = 1; seed < 4; seed++) {
		fill(want, OWN_BYTES, seed);
		memcpy(cvb_gpu_buf_host(host), want, OWN_BYTES);
		assert_int_equal(
			cvb_gpu_copy_async(o->stream, device, 0, host, 0, OWN_BYTES, &o->err), 0);
		assert_int_equal(cvb_gpu_sync(o->stream, &o->err), 0);
		memset(cvb_gpu_buf_host(host), 0, OWN_BYTES);
		assert_int_equal(cvb_gpu_copy_async(o->stream, host, 64, device, 32, OWN_BYTES - 64,
						    &o->err),
				 0);
		assert_int_equal(cvb_gpu_sync(o->stream, &o->err), 0);
		const uint8_t *got = cvb_gpu_buf_host(host);

		assert_true(all_bytes(got, 64, 0));
		assert_memory_equal(got + 64, want + 32, OWN_BYTES - 64);
	}
	free(want);
	cvb_gpu_free(host);
	cvb_gpu_free(device);
}

static void own_kernels(struct own *o)
{
	struct cvb_gpu_buf *a = own_alloc(o, CVB_GPU_DEVICE, 4096);
	struct cvb_gpu_buf *b = own_alloc(o, CVB_GPU_DEVICE, 4096);
	struct cvb_gpu_buf *c = own_alloc(o, CVB_GPU_DEVICE, 4096);
	struct cvb_gpu_buf *host = own_alloc(o, CVB_GPU_HOST_PINNED, 4096);
	const struct cvb_gpu_launch fill_a = {
		.kernel = CVB_GPU_KERNEL_FILL, .a = a, .bytes = 4096, .seed = 5};
	const struct cvb_gpu_gemm product = {CVB_GPU_FP32, 4, 4, 4, 1, 0, b, b, c};

	assert_int_equal(cvb_gpu_launch_async(o->stream, &fill_a, &o->err), 0);
	assert_int_equal(cvb_gpu_copy_async(o->stream, host, 0, a, 0, 4096, &o->err), 0);
	assert_int_equal(cvb_gpu_sync(o->stream, &o->err), 0);
	assert_true(((const uint64_t *)cvb_gpu_buf_host(host))[7] == cvb_gpu_pattern(5, 7));
	/* 4 x 4 of 2.5e-29, the sum of four squares */
	assert_int_equal(cvb_gpu_memset_async(o->stream, b, 0, 0x10, 4096, &o->err), 0);
	assert_int_equal(cvb_gpu_memset_async(o->stream, c, 0, 0xff, 4096, &o->err), 0);
	assert_int_equal(cvb_gpu_gemm_async(o->stream, &product, &o->err), 0);
	assert_int_equal(cvb_gpu_copy_async(o->stream, host, 0, c, 0, 4096, &o->err), 0);
	assert_int_equal(cvb_gpu_sync(o->stream, &o->err), 0);
	const float *got = cvb_gpu_buf_host(host);
	uint32_t bits = 0x10101010;
	float x;

	memcpy(&x, &bits, sizeof(x));
	assert_true(fabsf(got[15] - 4 * x * x) <= 1e-6F * 4 * x * x);
	assert_true(isnan(got[16]));
}

static void test_own_process(void **state)
{
	static const char *const nvml[] = {"h100-cc-off.txt", "h100-cc-on.txt"};

	(void)state;
	for (size_t i = 0; i < CVB_ARRAY_LEN(nvml); i++) {
		struct own o;

		own_start(&o, nvml[i]);
		own_copies(&o, CVB_GPU_HOST_PINNED);
		own_copies(&o, CVB_GPU_HOST_PAGEABLE);
		struct cvb_gpu_buf *b = own_alloc(&o, CVB_GPU_HOST_PINNED, 64);

		assert_int_equal(mapped_files(getpid()), 1);
		assert_int_equal(mapped_files(child_pid()), 1);
		cvb_gpu_free(b);
		assert_int_equal(mapped_files(getpid()), 0);
		assert_int_equal(mapped_files(child_pid()), 0);
		own_kernels(&o);
		own_end(&o);
	}
}

static void test_own_process_cannot(void **state)
{
	struct cvb_gpu_event *event;
	struct cvb_gpu_graph *graph;
	struct cvb_gpu_buf *buf;
	struct own o;

	(void)state;
	own_start(&o, "h100-cc-off.txt");
	assert_int_equal(cvb_gpu_event_new(o.gpu, &event, &o.err), 0);
	assert_int_equal(cvb_gpu_event_record(event, o.stream, &o.err), -EOPNOTSUPP);
	assert_int_equal(cvb_gpu_event_wait(o.stream, event, &o.err), -EOPNOTSUPP);
	assert_int_equal(cvb_gpu_alloc_in(o.context, CVB_GPU_MANAGED, 64, &buf, &o.err),
			 -EOPNOTSUPP);
	const struct cvb_gpu_launch empty = {.kernel = CVB_GPU_KERNEL_EMPTY};

	assert_int_equal(cvb_gpu_capture_begin(o.stream, &o.err), 0);
	assert_int_equal(cvb_gpu_launch_async(o.stream, &empty, &o.err), 0);
	assert_int_equal(cvb_gpu_capture_end(o.stream, &graph, &o.err), -EOPNOTSUPP);
	own_end(&o);
}

static void expect_text(const struct cvb_err *err, const char *a, const char *b)
{
	char text[2048];

	cvb_err_text(err, text, sizeof(text));
	if (!strstr(text, a) || !strstr(text, b))
		fail_msg("\"%s\" does not say \"%s\" and \"%s\"", text, a, b);
}

/* What fails there is told here: at once where there is an answer, else by the next sync. */
static void test_own_process_errors(void **state)
{
	struct cvb_gpu_context *context;
	struct cvb_gpu_buf *device, *host, *more;
	struct own o;

	(void)state;
	own_start(&o, "h100-cc-off.txt");
	host = own_alloc(&o, CVB_GPU_HOST_PINNED, 64);
	device = own_alloc(&o, CVB_GPU_DEVICE, 64);
	assert_int_equal(
		cvb_gpu_alloc_in(o.context, CVB_GPU_DEVICE, (size_t)1 << 40, &more, &o.err),
		-ENOMEM);
	expect_text(&o.err, "in a process of its own", "CUDA_ERROR_OUT_OF_MEMORY (2)");
	/* the next process has this in its environment, the one that is there has not */
	setenv("FAKE_CUDA_FAIL", "cuDevicePrimaryCtxRetain=1", 1);
	assert_int_equal(cvb_gpu_context_new(o.gpu, CVB_GPU_CONTEXT_PROCESS, &context, &o.err),
			 -EIO);
	expect_text(&o.err, "in a process of its own", "cuDevicePrimaryCtxRetain: CUDA_ERROR");
	setenv("FAKE_CUDA_FAIL", "cuMemcpyAsync=2", 1);
	struct own failing;

	own_start(&failing, "h100-cc-off.txt");
	unsetenv("FAKE_CUDA_FAIL");
	host = own_alloc(&failing, CVB_GPU_HOST_PINNED, 64);
	device = own_alloc(&failing, CVB_GPU_DEVICE, 64);
	for (int i = 0; i < 3; i++)
		assert_int_equal(
			cvb_gpu_copy_async(failing.stream, device, 0, host, 0, 64, &failing.err),
			0);
	assert_int_equal(cvb_gpu_sync(failing.stream, &failing.err), -EIO);
	expect_text(&failing.err, "in a process of its own", "cuMemcpyAsync: CUDA_ERROR_UNKNOWN");
	assert_int_equal(cvb_gpu_sync(failing.stream, &failing.err), 0);
	cvb_gpu_close(failing.gpu);
	own_end(&o);
}

static void test_own_process_that_dies(void **state)
{
	struct cvb_gpu_buf *buf;
	struct own o;

	(void)state;
	own_start(&o, "h100-cc-off.txt");
	buf = own_alloc(&o, CVB_GPU_HOST_PINNED, 64);
	assert_int_equal(kill(child_pid(), SIGKILL), 0);
	assert_int_equal(cvb_gpu_sync(o.stream, &o.err), -EIO);
	expect_text(&o.err, "the process of a GPU context ended", "dmesg");
	assert_int_equal(cvb_gpu_alloc_in(o.context, CVB_GPU_DEVICE, 64, &buf, &o.err), -EIO);
	cvb_gpu_close(o.gpu);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(fake_left(), 0);
	unlink(o.left);
	unsetenv("FAKE_CUDA_LEFT");
}

/* The flags of the process's socket in figures (octal), as the kernel tells them. */
static unsigned long socket_flags(pid_t pid)
{
	char path[64], line[128];
	unsigned long flags = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/3", (int)pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, "flags:", 6))
			flags = strtoul(line + 6, NULL, 8);
	fclose(f);
	return flags;
}

/* A program that the driver starts must not keep the socket open behind the process's back. */
static void test_own_process_keeps_its_socket(void **state)
{
	struct own o;

	(void)state;
	own_start(&o, "h100-cc-off.txt");
	assert_true(socket_flags(child_pid()) & O_CLOEXEC);
	own_end(&o);
}

/* In a program of its own: a context whose driver hangs.  Tells its process, and waits. */
static void hang_in_driver(int fd)
{
	struct cvb_gpu_buf *device, *host;
	struct own o;
	pid_t pid;

	setenv("FAKE_CUDA_FAIL", "cuMemcpyAsync=1:hang", 1);
	own_start(&o, "h100-cc-off.txt");
	host = own_alloc(&o, CVB_GPU_HOST_PINNED, 64);
	device = own_alloc(&o, CVB_GPU_DEVICE, 64);
	assert_int_equal(cvb_gpu_copy_async(o.stream, device, 0, host, 0, 64, &o.err), 0);
	pid = child_pid();
	assert_int_equal(write(fd, &pid, sizeof(pid)), sizeof(pid));
	for (;;)
		pause();
}

/* 10 ms apart, and not for ever. */
static bool ends(pid_t pid)
{
	for (int i = 0; i < 3000; i++) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return true;
		usleep(10000);
	}
	return false;
}

/* A program that is killed takes its contexts' processes along, also those whose driver hangs. */
static void test_own_process_of_a_killed_program(void **state)
{
	int fd[2];
	pid_t program, own;

	(void)state;
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	program = fork();
	assert_true(program >= 0);
	if (program == 0)
		hang_in_driver(fd[1]);
	assert_int_equal(read(fd[0], &own, sizeof(own)), sizeof(own));
	kill(program, SIGKILL);
	assert_int_equal(waitpid(program, NULL, 0), program);
	if (!ends(own)) {
		kill(own, SIGKILL);
		fail_msg("the process %d of a context outlives the program", (int)own);
	}
	close(fd[0]);
	close(fd[1]);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

/* ---- health ---- */

/* What two readings around work say, with NVML's answers of two files. */
static json_t *health_between(const char *before, const char *after)
{
	struct cvb_err err = {0};
	struct cvb_gpu *gpu = open_with(before, &err);
	struct cvb_gpu_health h[2];
	json_t *doc;

	assert_non_null(gpu);
	cvb_gpu_health_read(gpu, &h[0]);
	fake_set_nvml(after);
	cvb_gpu_health_read(gpu, &h[1]);
	cvb_gpu_close(gpu);
	doc = cvb_gpu_health_json(&h[0], &h[1]);
	assert_non_null(doc);
	return doc;
}

static void expect_health(const char *before, const char *after, const char *want)
{
	_cleanup_json_ json_t *doc = health_between(before, after);
	_cleanup_free_ char *text = json_dumps(doc, JSON_COMPACT | JSON_ENCODE_ANY);

	assert_string_equal(text, want);
}

static void test_health(void **state)
{
#define CALM "h100-cc-off.txt"
	(void)state;
	expect_health(CALM, CALM,
		      "{\"sm_clock_mhz\":[1980,1980],\"memory_clock_mhz\":[2619,2619],"
		      "\"power_mw\":[71000,71000],\"temperature_c\":[34,34],\"heat_ns\":0,"
		      "\"power_ns\":0,\"slow\":[],\"throttled\":false}");
	/* at the power limit, as under any full load */
	expect_health(CALM, "h100-load.txt",
		      "{\"sm_clock_mhz\":[1980,1755],\"memory_clock_mhz\":[2619,2619],"
		      "\"power_mw\":[71000,698000],\"temperature_c\":[34,61],\"heat_ns\":0,"
		      "\"power_ns\":80000000,\"slow\":[\"power\"],\"throttled\":false}");
	expect_health(CALM, "h100-hot.txt",
		      "{\"sm_clock_mhz\":[1980,1110],\"memory_clock_mhz\":[2619,2619],"
		      "\"power_mw\":[71000,412000],\"temperature_c\":[34,89],"
		      "\"heat_ns\":93000000,\"power_ns\":0,\"slow\":[\"heat\",\"hardware\"],"
		      "\"throttled\":true}");
	/* hot before is hot; a counter that went back says nothing */
	expect_health("h100-hot.txt", CALM,
		      "{\"sm_clock_mhz\":[1110,1980],\"memory_clock_mhz\":[2619,2619],"
		      "\"power_mw\":[412000,71000],\"temperature_c\":[89,34],\"power_ns\":0,"
		      "\"slow\":[\"heat\",\"hardware\"],\"throttled\":true}");
	/* each of NVML's bits; those of idle clocks, of clocks that were set and of a group are
	 * none */
	static const int64_t slow[] = {0,
				       0,
				       CVB_GPU_SLOW_POWER,
				       CVB_GPU_SLOW_HARDWARE,
				       0,
				       CVB_GPU_SLOW_HEAT,
				       CVB_GPU_SLOW_HEAT,
				       CVB_GPU_SLOW_HARDWARE,
				       0};
	struct cvb_gpu *gpu = open_with(CALM, NULL);
	struct cvb_gpu_health h;
	char path[64];

	assert_non_null(gpu);
	for (unsigned bit = 0; bit < CVB_ARRAY_LEN(slow); bit++) {
		set_reasons(CALM, 1U << bit, path);
		cvb_gpu_health_read(gpu, &h);
		assert_int_equal(h.slow, slow[bit]);
	}
	unlink(path);
	cvb_gpu_close(gpu);
	expect_health("old-driver.txt", "old-driver.txt", "null");
	expect_health("none", "none", "null");
#undef CALM
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_process),
		cmocka_unit_test(test_own_process_cannot),
		cmocka_unit_test(test_own_process_errors),
		cmocka_unit_test(test_own_process_that_dies),
		cmocka_unit_test(test_own_process_keeps_its_socket),
		cmocka_unit_test(test_own_process_of_a_killed_program),
		cmocka_unit_test(test_health),
		cmocka_unit_test(test_every_call_fails_once),
		cmocka_unit_test(test_meanings),
		cmocka_unit_test(test_no_algorithm),
		cmocka_unit_test(test_late_errors),
		cmocka_unit_test(test_no_such_device),
		cmocka_unit_test(test_confidential_state),
		cmocka_unit_test(test_description),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void test_left_out(void **state)
{
	struct cvb_err err = {0};
	struct cvb_gpu *gpu = NULL;
	char text[512];

	(void)state;
	assert_int_equal(cvb_gpu_open("cuda", &gpu, &err), CVB_CUDA ? 0 : -EOPNOTSUPP);
	if (!CVB_CUDA) {
		cvb_err_text(&err, text, sizeof(text));
		assert_non_null(strstr(text, "this build has no CUDA backend"));
		return;
	}
	/* without nvcc there are no kernels, and all else */
	struct fixture f = {.gpu = gpu};

	assert_int_equal(cvb_gpu_stream_new(gpu, &f.stream, &f.err), 0);
	assert_false(cvb_gpu_caps(gpu)->flags & CVB_GPU_CAP_LAUNCH);
	copy(&f, alloc(&f, CVB_GPU_DEVICE, 64), 0, alloc(&f, CVB_GPU_HOST_PINNED, 64), 0, 64);
	const struct cvb_gpu_launch empty = {.kernel = CVB_GPU_KERNEL_EMPTY};
	struct cvb_gpu_gemm g = {CVB_GPU_BF16,
				 4,
				 4,
				 4,
				 1,
				 0,
				 alloc(&f, CVB_GPU_DEVICE, 64),
				 alloc(&f, CVB_GPU_DEVICE, 64),
				 alloc(&f, CVB_GPU_DEVICE, 64)};

	assert_int_equal(cvb_gpu_gemm_async(f.stream, &g, &f.err), 0);
	sync_stream(&f);
	g.type = CVB_GPU_INT8;
	assert_int_equal(cvb_gpu_gemm_async(f.stream, &g, &f.err), -EOPNOTSUPP);
	assert_int_equal(cvb_gpu_launch_async(f.stream, &empty, &f.err), -EOPNOTSUPP);
	cvb_err_text(&f.err, text, sizeof(text));
	assert_non_null(strstr(text, "there was no nvcc"));
	cvb_gpu_close(gpu);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
