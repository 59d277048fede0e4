/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's library: its functions by name, its errors as ours.
 */
#include "core/log.h"
#include "core/util.h"
#include "gpu/cuda.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#define LIBRARY "libcuda.so.1"

struct cuda_api cuda;

static const struct {
	const char *symbol;
	size_t offset;
} symbols[] = {
#define CUDA_ROW(field, symbol, type) {#symbol, offsetof(struct cuda_api, field)},
	CUDA_SYMBOLS(CUDA_ROW)
#undef CUDA_ROW
};

const char *cuda_call_name(size_t offset)
{
	return symbols[offset / sizeof(void *)].symbol;
}

static int find_symbols(void *lib, struct cvb_err *err)
{
	for (size_t i = 0; i < CVB_ARRAY_LEN(symbols); i++) {
		void *p = dlsym(lib, symbols[i].symbol);

		if (!p)
			return cvb_err_set(err, -EOPNOTSUPP,
					   LIBRARY " has no %s: the NVIDIA driver is older than "
						   "11.4; a newer one is needed",
					   symbols[i].symbol);
		memcpy((char *)&cuda + symbols[i].offset, &p, sizeof(p));
	}
	return 0;
}

int cuda_load(struct cvb_err *err)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static void *lib; /* stays: the driver has threads and handlers at exit */
	int r = 0;

	pthread_mutex_lock(&lock);
	if (!lib) {
		void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

		r = handle ? find_symbols(handle, err)
			   : cvb_err_set(err, -EOPNOTSUPP,
					 "the CUDA backend needs the NVIDIA driver's " LIBRARY
					 " (%s)",
					 dlerror());
		if (r == 0)
			lib = handle;
		else if (handle)
			dlclose(handle);
	}
	pthread_mutex_unlock(&lock);
	return r < 0 ? r : CU(err, init, 0);
}

/* ---- errors ---- */

static const struct {
	CUresult code;
	int error;
	const char *advice;
} meanings[] = {
	{CUDA_ERROR_OUT_OF_MEMORY, -ENOMEM,
	 "end other programs on the GPU (nvidia-smi lists them) or take smaller sizes"},
	{CUDA_ERROR_NO_DEVICE, -EOPNOTSUPP,
	 "see whether nvidia-smi lists a GPU, and whether CUDA_VISIBLE_DEVICES hides it"},
	{CUDA_ERROR_INVALID_DEVICE, -EOPNOTSUPP, "nvidia-smi -L lists the GPUs from 0 on"},
	{CUDA_ERROR_STUB_LIBRARY, -EOPNOTSUPP,
	 "the toolkit's stub was found instead of the driver: take it out of LD_LIBRARY_PATH"},
	{CUDA_ERROR_NOT_SUPPORTED, -EOPNOTSUPP, "this GPU, driver or mode cannot do it"},
	{CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, -EOPNOTSUPP,
	 "the kernel module is of another version than the library: reboot after an update"},
	{CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE, -EOPNOTSUPP,
	 "take the toolkit's compat folder out of LD_LIBRARY_PATH"},
	{CUDA_ERROR_SYSTEM_NOT_READY, -EOPNOTSUPP,
	 "start nvidia-fabricmanager where the GPUs have NVSwitch; a confidential GPU accepts "
	 "work after attestation and nvidia-smi conf-compute -srs 1"},
	{CUDA_ERROR_NO_BINARY_FOR_GPU, -EOPNOTSUPP,
	 "the kernels need compute capability 8.0 or newer"},
	{CUDA_ERROR_UNSUPPORTED_PTX_VERSION, -EOPNOTSUPP,
	 "the driver is older than the nvcc of this build: update the driver"},
	{CUDA_ERROR_NOT_PERMITTED, -EOPNOTSUPP, "see the rights on /dev/nvidia*"},
	{CUDA_ERROR_DEVICE_UNAVAILABLE, -EOPNOTSUPP,
	 "another program has the GPU in exclusive mode: nvidia-smi -c DEFAULT"},
	{CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, -EOPNOTSUPP,
	 "nvidia-smi topo -p2p r shows which GPUs reach each other"},
	{CUDA_ERROR_ECC_UNCORRECTABLE, -EIO,
	 "the GPU's memory failed: nvidia-smi -q -d ECC,ROW_REMAPPER, then reset it"},
	{CUDA_ERROR_ILLEGAL_ADDRESS, -EIO, "run under compute-sanitizer to find the access"},
	{CUDA_ERROR_LAUNCH_FAILED, -EIO, "dmesg | grep Xid tells what the GPU reported"},
	{CUDA_ERROR_UNKNOWN, -EIO, "dmesg | grep -i nvrm tells what the kernel module reported"},
};

int cuda_result(CUresult code, const char *call, struct cvb_err *err)
{
	const char *name = NULL, *advice = NULL;
	const char *version = strstr(call, "_v"); /* of the interface: no part of the name */
	int error = -EIO;

	if (code == CUDA_SUCCESS)
		return 0;
	if (cuda.get_error_name(code, &name) != CUDA_SUCCESS || !name)
		name = "an error that the driver has no name for";
	for (size_t i = 0; i < CVB_ARRAY_LEN(meanings); i++) {
		if (meanings[i].code == code) {
			error = meanings[i].error;
			advice = meanings[i].advice;
		}
	}
	int length = version ? (int)(version - call) : (int)strlen(call);

	return cvb_err_set(err, error, "%.*s: %s (%d); %s", length, call, name, (int)code,
			   advice ? advice : "dmesg | grep -i nvidia may tell more");
}

void cuda_drop(CUresult code, const char *call)
{
	struct cvb_err err = {0};

	if (cuda_result(code, call, &err) < 0)
		cvb_debug("gpu", "%s, ignored", err.frame[0].msg);
}

int cuda_use(const struct cuda_context *c, struct cvb_err *err)
{
	return CU(err, ctx_set, c->ctx);
}
