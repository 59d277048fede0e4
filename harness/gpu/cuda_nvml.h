/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the NVIDIA management library (libnvidia-ml.so.1) says about a device.  Loaded when first
 * used; its interface is declared in cuda_nvml.c.  What it does not say stays unknown.
 */
#ifndef CVB_GPU_CUDA_NVML_H
#define CVB_GPU_CUDA_NVML_H

#include "gpu/gpu.h"

struct cuda_nvml {
	void *device;	     /* NVML's handle; NULL: not found */
	bool started;	     /* nvmlInit counts its callers */
	const char *missing; /* why there is none; static text */
};

/* Find the device by its PCI bus id.  Never fails: what is missing is said in `missing`. */
void cuda_nvml_open(struct cuda_nvml *n, const char *bus_id);
void cuda_nvml_close(struct cuda_nvml *n);

/* Confidential computing; what NVML does not tell is CVB_GPU_UNKNOWN. */
void cuda_nvml_cc(const struct cuda_nvml *n, struct cvb_gpu_cc *ret);

/* Clocks, power, temperature, throttle reasons and counters of now; the rest stays as it is. */
void cuda_nvml_health(const struct cuda_nvml *n, struct cvb_gpu_health *ret);

/*
 * Keys that NVML has values for: driver, vbios, pcie, bar1_bytes, ecc, remapped_rows, state
 * (clocks, power, temperature, throttle reasons), conf_compute, and warnings.  -ENOMEM.
 */
CVB_MUST_CHECK int cuda_nvml_describe(const struct cuda_nvml *n, json_t *into);

#endif
