/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `cuda[:N]`: NVIDIA GPUs.  This version knows the spec, so that a profile which names it is well
 * formed on every machine, and refuses to open: no emulator ever takes its place.
 */
#include "core/util.h"
#include "gpu/backend.h"

#include <errno.h>
#include <string.h>

static int cuda_spec_check(const char *args, struct cvb_err *err)
{
	if (!args)
		return 0;
	if (!*args || strspn(args, "0123456789") != strlen(args) || strlen(args) > 3)
		return cvb_err_set(err, -EINVAL,
				   "GPU spec: \"%s\" is no CUDA device number; cuda or cuda:0 is "
				   "right",
				   args);
	return 0;
}

static int cuda_open(struct cvb_gpu *gpu, const char *args, struct cvb_err *err)
{
	(void)gpu;
	(void)args;
	return cvb_err_set(err, -EOPNOTSUPP,
			   "this build has no CUDA backend; emu:SKU names an emulated GPU");
}

static void cuda_close(struct cvb_gpu *gpu)
{
	(void)gpu;
}

static const struct cvb_gpu_backend cuda_backend = {
	.abi = CVB_GPU_BACKEND_ABI,
	.struct_size = sizeof(struct cvb_gpu_backend),
	.name = "cuda",
	.spec_check = cuda_spec_check,
	.open = cuda_open,
	.close = cuda_close,
};

CVB_GPU_BACKEND(cuda_backend);
