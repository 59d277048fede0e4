/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `cuda[:N]`: NVIDIA GPUs.  Its spec is well formed on every machine, so that a profile which names
 * it can be checked anywhere; what is missing to open it is said then: no emulator ever takes its
 * place.
 */
#include "gpu/cuda.h"
#include "core/log.h"
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

#if CVB_CUDA

#include <hwloc.h>

#if !CVB_CUDA_KERNELS
#define CVB_CUDA_ARCHS "none"
#endif

/* ---- device ---- */

/* The NUMA node of the memory next to a PCI device, -1 if hwloc does not know. */
static int node_of(const char *bus_id)
{
	hwloc_topology_t topology;
	int node = -1;

	if (hwloc_topology_init(&topology) < 0)
		return -1;
	hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
	if (hwloc_topology_load(topology) == 0) {
		hwloc_obj_t obj = hwloc_get_pcidev_by_busidstring(topology, bus_id);

		obj = obj ? hwloc_get_non_io_ancestor_obj(topology, obj) : NULL;
		if (obj && obj->nodeset)
			node = hwloc_bitmap_first(obj->nodeset);
	}
	hwloc_topology_destroy(topology);
	return node;
}

static int attribute(const struct cuda_device *d, CUdevice_attribute which)
{
	int value = 0;

	/* a driver that does not know an attribute has not what it tells */
	return cuda.device_attribute(&value, which, d->dev) == CUDA_SUCCESS ? value : 0;
}

static enum cvb_gpu_tri tri(const struct cuda_device *d, CUdevice_attribute which)
{
	int value = 0;

	if (cuda.device_attribute(&value, which, d->dev) != CUDA_SUCCESS)
		return CVB_GPU_UNKNOWN;
	return value ? CVB_GPU_ON : CVB_GPU_OFF;
}

static int read_facts(struct cuda_device *d, struct cvb_err *err)
{
	int n, r = CU(err, device_count, &n);

	if (r == 0 && d->ordinal >= n)
		r = cvb_err_set(err, -EOPNOTSUPP,
				"there is no CUDA device %d: the driver has %d; nvidia-smi -L "
				"lists them",
				d->ordinal, n);
	if (r == 0)
		r = CU(err, device_get, &d->dev, d->ordinal);
	if (r == 0)
		r = CU(err, device_name, d->name, sizeof(d->name), d->dev);
	if (r == 0)
		r = CU(err, device_bus_id, d->bus_id, sizeof(d->bus_id), d->dev);
	if (r == 0)
		r = CU(err, device_memory, &d->memory_bytes, d->dev);
	return r;
}

/* Is there another device that reaches this one's memory, and is reached? */
static int find_peer(const struct cuda_device *d, int *ret_can, struct cvb_err *err)
{
	int n = 0, r = CU(err, device_count, &n);

	*ret_can = 0;
	for (int i = 0; r == 0 && i < n && !*ret_can; i++) {
		int there = 0, back = 0;
		CUdevice other;

		if (i == d->ordinal)
			continue;
		r = CU(err, device_get, &other, i);
		if (r == 0)
			r = CU(err, peer_can, &there, d->dev, other);
		if (r == 0)
			r = CU(err, peer_can, &back, other, d->dev);
		*ret_can = there && back;
	}
	return r;
}

static void fill_caps(const struct cuda_device *d, enum cvb_gpu_tri cc, bool has_peer,
		      struct cvb_gpu_caps *caps)
{
	*caps = (struct cvb_gpu_caps){
		.flags = CVB_GPU_CAP_EVENTS | CVB_GPU_CAP_PINNED | CVB_GPU_CAP_GRAPHS |
			 CVB_GPU_CAP_CONTEXTS | CVB_GPU_CAP_PROCESSES,
		.gemm_types = cuda_gemm_types(d->major, d->minor),
		.host_register = tri(d, CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED),
		.gpudirect_rdma = tri(d, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED),
		.multicast = tri(d, CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED),
		/* the device's timer is beyond the guest's reach, and not attested */
		.trusted_events = cc == CVB_GPU_UNKNOWN ? CVB_GPU_UNKNOWN
				  : cc == CVB_GPU_ON	? CVB_GPU_OFF
							: CVB_GPU_ON,
	};
	if (cc != CVB_GPU_ON)
		caps->flags |= CVB_GPU_CAP_ASYNC_COPY;
	if (attribute(d, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY))
		caps->flags |= CVB_GPU_CAP_MANAGED;
	if (cuda_has_kernels())
		caps->flags |= CVB_GPU_CAP_LAUNCH;
	if (has_peer)
		caps->flags |= CVB_GPU_CAP_PEER;
}

/* This process serves a context of another one, which knows these already. */
static struct {
	bool is;
	int numa_node;
} child;

void cuda_child_node(int numa_node)
{
	child.is = true;
	child.numa_node = numa_node;
}

static void ask_nvml(struct cuda_device *d, struct cvb_gpu_cc *ret)
{
	*ret = (struct cvb_gpu_cc){0};
	if (child.is)
		return;
	cuda_nvml_open(&d->nvml, d->bus_id);
	cuda_nvml_cc(&d->nvml, ret);
	if (ret->devtools == CVB_GPU_ON)
		cvb_warn("GPU %d is in devtools mode: nothing on it is confidential, and its times "
			 "show no parity",
			 d->ordinal);
}

int cuda_device_new(struct cvb_gpu *gpu, int ordinal, struct cvb_err *err)
{
	struct cuda_device *d = calloc(1, sizeof(*d));
	struct cvb_gpu_cc cc;
	int has_peer = 0, r;

	if (!d)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	d->ordinal = ordinal;
	d->shared_fd = -1;
	r = read_facts(d, err);
	if (r == 0 && !child.is)
		r = find_peer(d, &has_peer, err);
	if (r < 0) {
		free(d);
		return r;
	}
	d->sms = cvb_max(attribute(d, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), 1);
	d->major = attribute(d, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
	d->minor = attribute(d, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
	d->concurrent_managed = attribute(d, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS) != 0;
	d->numa_node = child.is ? child.numa_node : node_of(d->bus_id);
	ask_nvml(d, &cc);
	gpu->priv = d;
	gpu->clock = &cvb_clock_host;
	gpu->emulated = false;
	gpu->deterministic = false;
	fill_caps(d, cc.feature, has_peer != 0, &gpu->caps);
	return 0;
}

static int cuda_open(struct cvb_gpu *gpu, const char *args, struct cvb_err *err)
{
	int r = cuda_load(err);

	return r < 0 ? r : cuda_device_new(gpu, args ? (int)strtoul(args, NULL, 10) : 0, err);
}

static void cuda_close(struct cvb_gpu *gpu)
{
	struct cuda_device *d = cuda_device_of(gpu);

	cuda_nvml_close(&d->nvml);
	free(d);
}

static int cuda_cc_state(struct cvb_gpu *gpu, struct cvb_gpu_cc *ret, struct cvb_err *err)
{
	(void)err;
	cuda_nvml_cc(&cuda_device_of(gpu)->nvml, ret);
	return 0;
}

static void cuda_health(struct cvb_gpu *gpu, struct cvb_gpu_health *ret)
{
	cuda_nvml_health(&cuda_device_of(gpu)->nvml, ret);
}

/* ---- description ---- */

/* Sizes of the base address registers, from sysfs: [{"index","bytes"}]. */
static json_t *describe_bars(const struct cuda_device *d)
{
	_cleanup_fclose_ FILE *f = NULL;
	char path[96], id[sizeof(d->bus_id)];
	json_t *list = json_array();
	unsigned long long first, last, flags;
	size_t i = 0;

	for (; d->bus_id[i]; i++)
		id[i] = (char)(d->bus_id[i] >= 'A' && d->bus_id[i] <= 'F' ? d->bus_id[i] | 0x20
									  : d->bus_id[i]);
	id[i] = '\0';
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", id);
	f = fopen(path, "re");
	for (int bar = 0; f && bar < 6 && fscanf(f, "%llx %llx %llx", &first, &last, &flags) == 3;
	     bar++)
		if (last > first)
			json_array_append_new(list, json_pack("{s:i,s:I}", "index", bar, "bytes",
							      (json_int_t)(last - first + 1)));
	return list;
}

static json_t *describe_device(const struct cuda_device *d)
{
	json_t *doc = json_pack("{s:s,s:s,s:i,s:I,s:s,s:o}", "name", d->name, "pci", d->bus_id,
				"sms", d->sms, "memory_bytes", (json_int_t)d->memory_bytes,
				"kernels", CVB_CUDA_ARCHS, "bars", describe_bars(d));
	char capability[24];

	snprintf(capability, sizeof(capability), "%d.%d", d->major, d->minor);
	json_object_set_new(doc, "compute_capability", json_string(capability));
	if (d->numa_node >= 0)
		json_object_set_new(doc, "numa_node", json_integer(d->numa_node));
	return doc;
}

static int cuda_describe(const struct cvb_gpu *gpu, json_t *into)
{
	const struct cuda_device *d = cuda_device_of(gpu);
	enum cvb_gpu_tri trusted = gpu->caps.trusted_events;
	size_t blas = cuda_blas_version();
	int version = 0, r;

	cvb_ignore((int)cuda.driver_version(&version));
	r = json_object_set_new(into, "sku", json_string(d->name));
	r |= json_object_set_new(into, "device", describe_device(d));
	r |= json_object_set_new(into, "libraries",
				 json_pack("{s:i,s:o*}", "cuda_driver", version, "cublaslt",
					   blas ? json_integer((json_int_t)blas) : NULL));
	/* how times come about; nothing of it waits for a word that the host writes */
	r |= json_object_set_new(into, "timing",
				 json_pack("{s:s,s:s,s:s}", "reported", "host clock", "events",
					   trusted == CVB_GPU_ON    ? "trusted"
					   : trusted == CVB_GPU_OFF ? "not trusted: confidential"
								    : "unknown",
					   "spin", "kernel, device timer"));
	/* one-byte operands are turned and padded before every product, within its time */
	r |= json_object_set_new(
		into, "gemm_packed",
		gpu->caps.gemm_types & (1U << CVB_GPU_FP8)    ? json_pack("[s,s]", "fp8", "int8")
		: gpu->caps.gemm_types & (1U << CVB_GPU_INT8) ? json_pack("[s]", "int8")
							      : json_array());
	return r ? -ENOMEM : cuda_nvml_describe(&d->nvml, into);
}

#else

static int cuda_open(struct cvb_gpu *gpu, const char *args, struct cvb_err *err)
{
	(void)gpu;
	(void)args;
	return cvb_err_set(err, -EOPNOTSUPP,
			   "this build has no CUDA backend: it was made without the CUDA toolkit's "
			   "headers (cudaTypedefs.h, cublasLt.h); emu:SKU names an emulated GPU");
}

static void cuda_close(struct cvb_gpu *gpu)
{
	(void)gpu;
}

#endif

static const struct cvb_gpu_backend cuda_backend = {
	.abi = CVB_GPU_BACKEND_ABI,
	.struct_size = sizeof(struct cvb_gpu_backend),
	.name = "cuda",
	.spec_check = cuda_spec_check,
	.open = cuda_open,
	.close = cuda_close,
#if CVB_CUDA
	.describe = cuda_describe,
	.cc_state = cuda_cc_state,
	.health = cuda_health,
	.context_new = cuda_context_new,
	.context_free = cuda_context_free,
	.peer_open = cuda_peer_open,
	.peer_copy_async = cuda_peer_copy_async,
	.alloc = cuda_alloc,
	.free = cuda_free,
	.host_touch = cuda_host_touch,
	.stream_new = cuda_stream_new,
	.stream_free = cuda_stream_free,
	.copy_async = cuda_copy_async,
	.memset_async = cuda_memset_async,
	.gemm_async = cuda_gemm_async,
	.launch_async = cuda_launch_async,
	.managed_touch = cuda_managed_touch,
	.graph_new = cuda_graph_new,
	.graph_free = cuda_graph_free,
	.graph_launch = cuda_graph_launch,
	.sync = cuda_sync,
	.event_new = cuda_event_new,
	.event_free = cuda_event_free,
	.event_record = cuda_event_record,
	.event_wait = cuda_event_wait,
	.event_sync = cuda_event_sync,
	.event_elapsed_ns = cuda_event_elapsed_ns,
#endif
};

CVB_GPU_BACKEND(cuda_backend);
