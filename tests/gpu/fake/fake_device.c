/* SPDX-License-Identifier: Apache-2.0 */
/* Devices and contexts of the driver; see fake.h. */
#include "fake_part.h"

#include <stdio.h>
#include <stdlib.h>

#define CALL(name) FAKE_CALL(name, CUresult)

static struct fake_ctx primary[16];
__thread struct fake_ctx *fake_current;

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
		{CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED"},
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
	struct fake_ctx *c = fake_make(sizeof(*c));

	c->device = device;
	fake_current = c;
	*ret = (CUcontext)c;
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxDestroy_v2(CUcontext ctx)
{
	if (fake_current == (struct fake_ctx *)ctx)
		fake_current = NULL;
	fake_unmake(ctx);
	CALL("cuCtxDestroy_v2");
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxSetCurrent(CUcontext ctx)
{
	CALL("cuCtxSetCurrent");
	fake_current = (struct fake_ctx *)ctx;
	return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags)
{
	static bool seen;

	(void)flags;
	CALL("cuCtxEnablePeerAccess");
	if (!peer || peer == (CUcontext)fake_current)
		return CUDA_ERROR_INVALID_CONTEXT;
	seen = !seen; /* both answers are usual */
	return seen ? CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED : CUDA_SUCCESS;
}
