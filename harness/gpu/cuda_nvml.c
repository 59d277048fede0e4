/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few functions and structures of NVML that the CUDA backend uses, declared here: its header
 * is in no package that this build needs.  Layouts and numbers are those of NVML's interface, which
 * are versioned and do not change.
 */
#include "gpu/cuda_nvml.h"

#include "core/log.h"
#include "core/util.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#define LIBRARY "libnvidia-ml.so.1"

/* ---- NVML's interface ---- */

#define NVML_SUCCESS 0

/* of versioned structures: their size, and the number of the version in the highest byte */
#define NVML_VERSION(type, n) ((unsigned)(sizeof(type) | (n) << 24U))

struct nvml_cc_settings { /* nvmlSystemConfComputeSettings_v1_t */
	unsigned version, environment, feature, devtools, multi_gpu;
};
struct nvml_cc_state { /* nvmlConfComputeSystemState_t */
	unsigned environment, feature, devtools;
};
struct nvml_cc_caps { /* nvmlConfComputeSystemCaps_t */
	unsigned cpu, gpus;
};
struct nvml_cc_memory { /* nvmlConfComputeMemSizeInfo_t */
	unsigned long long protected_kib, unprotected_kib;
};
struct nvml_key_rotation { /* nvmlConfComputeGetKeyRotationThresholdInfo_v1_t */
	unsigned version;
	unsigned long long attacker_advantage;
};
struct nvml_violation { /* nvmlViolationTime_t */
	unsigned long long reference_us, violation_ns;
};
struct nvml_bar1 { /* nvmlBAR1Memory_t */
	unsigned long long total, free, used;
};

enum {
	ENVIRONMENT_PROD = 2, /* NVML_CC_SYSTEM_ENVIRONMENT_PROD; 0 unavailable, 1 simulation */
	MULTI_GPU_NONE = 0,   /* 1 protected PCIe, 2 encrypted NVLink */
	CLOCK_SM = 1,	      /* NVML_CLOCK_SM */
	CLOCK_MEM = 2,	      /* NVML_CLOCK_MEM */
	TEMPERATURE_GPU = 0,  /* NVML_TEMPERATURE_GPU */
	POLICY_POWER = 0,     /* NVML_PERF_POLICY_POWER */
	POLICY_THERMAL = 1,   /* NVML_PERF_POLICY_THERMAL */
	TEXT_BYTES = 96,
};

/* nvmlClocksEventReason…: why clocks are low.  Idle (0x1), clocks that somebody set (0x2, 0x100)
 * and those of a group (0x10) are none that come and go by themselves. */
#define REASON_POWER_CAP   0x04U /* SwPowerCap */
#define REASON_HW_SLOWDOWN 0x08U
#define REASON_SW_THERMAL  0x20U
#define REASON_HW_THERMAL  0x40U
#define REASON_POWER_BRAKE 0x80U

typedef void *nvml_device;

#define NVML_SYMBOLS(X)                                                                            \
	X(init, nvmlInit_v2, int (*)(void))                                                        \
	X(shutdown, nvmlShutdown, int (*)(void))                                                   \
	X(by_bus_id, nvmlDeviceGetHandleByPciBusId_v2, int (*)(const char *, nvml_device *))       \
	X(driver, nvmlSystemGetDriverVersion, int (*)(char *, unsigned))                           \
	X(version, nvmlSystemGetNVMLVersion, int (*)(char *, unsigned))                            \
	X(vbios, nvmlDeviceGetVbiosVersion, int (*)(nvml_device, char *, unsigned))                \
	X(cc_settings, nvmlSystemGetConfComputeSettings, int (*)(struct nvml_cc_settings *))       \
	X(cc_state, nvmlSystemGetConfComputeState, int (*)(struct nvml_cc_state *))                \
	X(cc_caps, nvmlSystemGetConfComputeCapabilities, int (*)(struct nvml_cc_caps *))           \
	X(cc_ready, nvmlSystemGetConfComputeGpusReadyState, int (*)(unsigned *))                   \
	X(cc_memory, nvmlDeviceGetConfComputeMemSizeInfo,                                          \
	  int (*)(nvml_device, struct nvml_cc_memory *))                                           \
	X(cc_rotation, nvmlSystemGetConfComputeKeyRotationThresholdInfo,                           \
	  int (*)(struct nvml_key_rotation *))                                                     \
	X(pcie_gen, nvmlDeviceGetCurrPcieLinkGeneration, int (*)(nvml_device, unsigned *))         \
	X(pcie_width, nvmlDeviceGetCurrPcieLinkWidth, int (*)(nvml_device, unsigned *))            \
	X(pcie_gen_max, nvmlDeviceGetMaxPcieLinkGeneration, int (*)(nvml_device, unsigned *))      \
	X(pcie_width_max, nvmlDeviceGetMaxPcieLinkWidth, int (*)(nvml_device, unsigned *))         \
	X(bar1, nvmlDeviceGetBAR1MemoryInfo, int (*)(nvml_device, struct nvml_bar1 *))             \
	X(ecc, nvmlDeviceGetEccMode, int (*)(nvml_device, unsigned *, unsigned *))                 \
	X(remapped, nvmlDeviceGetRemappedRows,                                                     \
	  int (*)(nvml_device, unsigned *, unsigned *, unsigned *, unsigned *))                    \
	X(clock, nvmlDeviceGetClockInfo, int (*)(nvml_device, int, unsigned *))                    \
	X(clock_max, nvmlDeviceGetMaxClockInfo, int (*)(nvml_device, int, unsigned *))             \
	X(power, nvmlDeviceGetPowerUsage, int (*)(nvml_device, unsigned *))                        \
	X(temperature, nvmlDeviceGetTemperature, int (*)(nvml_device, int, unsigned *))            \
	X(reasons, nvmlDeviceGetCurrentClocksEventReasons,                                         \
	  int (*)(nvml_device, unsigned long long *))                                              \
	X(old_reasons, nvmlDeviceGetCurrentClocksThrottleReasons,                                  \
	  int (*)(nvml_device, unsigned long long *))                                              \
	X(violation, nvmlDeviceGetViolationStatus,                                                 \
	  int (*)(nvml_device, int, struct nvml_violation *))

static struct {
	pthread_mutex_t lock;
	void *lib; /* stays loaded */
#define NVML_FIELD(field, symbol, type) __typeof__((type)NULL) field;
	NVML_SYMBOLS(NVML_FIELD)
#undef NVML_FIELD
} nvml = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* An older library lacks functions: they stay NULL and what they tell unknown. */
#define SAYS(field, ...) (nvml.field && nvml.field(__VA_ARGS__) == NVML_SUCCESS)

static bool load(void)
{
	pthread_mutex_lock(&nvml.lock);
	if (!nvml.lib) {
		nvml.lib = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
		if (nvml.lib) {
#define NVML_FIND(field, symbol, type) nvml.field = (type)dlsym(nvml.lib, #symbol);
			NVML_SYMBOLS(NVML_FIND)
#undef NVML_FIND
		}
	}
	pthread_mutex_unlock(&nvml.lock);
	return nvml.lib && nvml.init && nvml.shutdown && nvml.by_bus_id;
}

void cuda_nvml_open(struct cuda_nvml *n, const char *bus_id)
{
	*n = (struct cuda_nvml){0};
	if (!load())
		n->missing = LIBRARY " is missing or no NVML";
	else if (nvml.init() != NVML_SUCCESS)
		n->missing = "nvmlInit failed; nvidia-smi tells why";
	else
		n->started = true;
	if (n->started && nvml.by_bus_id(bus_id, &n->device) != NVML_SUCCESS) {
		n->device = NULL;
		n->missing = "NVML does not know the device's PCI bus id";
	}
	if (n->missing)
		cvb_debug("gpu", "no NVML: %s", n->missing);
}

void cuda_nvml_close(struct cuda_nvml *n)
{
	if (n->started)
		cvb_ignore(nvml.shutdown());
	*n = (struct cuda_nvml){0};
}

/* ---- confidential computing ---- */

static enum cvb_gpu_tri tri(bool on)
{
	return on ? CVB_GPU_ON : CVB_GPU_OFF;
}

static void from_state(struct cvb_gpu_cc *ret, unsigned environment, unsigned feature,
		       unsigned devtools)
{
	ret->feature = tri(feature);
	ret->production = tri(environment == ENVIRONMENT_PROD);
	ret->devtools = tri(devtools);
}

/*
 * The newest question first.  With protected PCIe (the multi-GPU mode of Hopper) the feature reads
 * as off although what crosses PCIe is encrypted: such a GPU is confidential.
 */
static void read_state(struct cvb_gpu_cc *ret)
{
	struct nvml_cc_settings settings = {.version = NVML_VERSION(struct nvml_cc_settings, 1U)};
	struct nvml_cc_state state = {0};
	struct nvml_cc_caps caps = {0};

	if (SAYS(cc_settings, &settings)) {
		from_state(ret, settings.environment, settings.feature, settings.devtools);
		ret->multi_gpu = tri(settings.multi_gpu != MULTI_GPU_NONE);
		if (ret->multi_gpu == CVB_GPU_ON)
			ret->feature = CVB_GPU_ON;
		ret->source = "nvml ConfComputeSettings";
	} else if (SAYS(cc_state, &state)) {
		from_state(ret, state.environment, state.feature, state.devtools);
		ret->source = "nvml ConfComputeState";
	} else if (SAYS(cc_caps, &caps)) {
		/* one that could be on may be: only "cannot" is an answer */
		if (!caps.gpus)
			ret->feature = ret->devtools = ret->multi_gpu = CVB_GPU_OFF;
		ret->source = "nvml ConfComputeCapabilities";
	}
}

void cuda_nvml_cc(const struct cuda_nvml *n, struct cvb_gpu_cc *ret)
{
	struct nvml_cc_memory memory = {0};
	unsigned ready;

	*ret = (struct cvb_gpu_cc){.source = n->missing ? n->missing : "nvml does not say"};
	if (!n->started)
		return;
	read_state(ret);
	if (SAYS(cc_ready, &ready))
		ret->ready = tri(ready);
	if (n->device && SAYS(cc_memory, n->device, &memory)) {
		ret->protected_bytes = memory.protected_kib * CVB_KIB;
		ret->unprotected_bytes = memory.unprotected_kib * CVB_KIB;
	}
}

/* ---- health ---- */

/* By the name that drivers from 535 on have, or the older one. */
static bool read_reasons(const struct cuda_nvml *n, unsigned long long *ret)
{
	return SAYS(reasons, n->device, ret) || SAYS(old_reasons, n->device, ret);
}

static int64_t slow_of(unsigned long long reasons)
{
	return (reasons & REASON_POWER_CAP ? CVB_GPU_SLOW_POWER : 0) |
	       (reasons & (REASON_SW_THERMAL | REASON_HW_THERMAL) ? CVB_GPU_SLOW_HEAT : 0) |
	       (reasons & (REASON_HW_SLOWDOWN | REASON_POWER_BRAKE) ? CVB_GPU_SLOW_HARDWARE : 0);
}

void cuda_nvml_health(const struct cuda_nvml *n, struct cvb_gpu_health *ret)
{
	struct nvml_violation time;
	unsigned long long reasons;
	unsigned v;

	if (!n->device)
		return;
	if (SAYS(clock, n->device, CLOCK_SM, &v))
		ret->sm_clock_mhz = v;
	if (SAYS(clock, n->device, CLOCK_MEM, &v))
		ret->memory_clock_mhz = v;
	if (SAYS(power, n->device, &v))
		ret->power_mw = v;
	if (SAYS(temperature, n->device, TEMPERATURE_GPU, &v))
		ret->temperature_c = v;
	if (read_reasons(n, &reasons))
		ret->slow = slow_of(reasons);
	if (SAYS(violation, n->device, POLICY_THERMAL, &time))
		ret->heat_ns = (int64_t)time.violation_ns;
	if (SAYS(violation, n->device, POLICY_POWER, &time))
		ret->power_ns = (int64_t)time.violation_ns;
}

/* ---- description ---- */

/* The calls below take their value over, also when they fail; what is NULL is left out. */

static int put(json_t *into, const char *key, json_t *value)
{
	return value ? json_object_set_new(into, key, value) : 0;
}

static json_t *integer(unsigned long long n)
{
	return json_integer((json_int_t)n);
}

static json_t *describe_driver(const struct cuda_nvml *n)
{
	char text[TEXT_BYTES];
	json_t *doc = json_object();
	int r = 0;

	if (SAYS(driver, text, sizeof(text)))
		r |= put(doc, "nvidia", json_string(text));
	if (SAYS(version, text, sizeof(text)))
		r |= put(doc, "nvml", json_string(text));
	if (SAYS(vbios, n->device, text, sizeof(text)))
		r |= put(doc, "vbios", json_string(text));
	if (r == 0)
		return doc;
	json_decref(doc);
	return NULL;
}

static json_t *describe_pcie(const struct cuda_nvml *n)
{
	json_t *doc = json_object();
	unsigned v;
	int r = 0;

	if (SAYS(pcie_gen, n->device, &v))
		r |= put(doc, "generation", integer(v));
	if (SAYS(pcie_gen_max, n->device, &v))
		r |= put(doc, "generation_max", integer(v));
	if (SAYS(pcie_width, n->device, &v))
		r |= put(doc, "width", integer(v));
	if (SAYS(pcie_width_max, n->device, &v))
		r |= put(doc, "width_max", integer(v));
	if (r == 0)
		return doc;
	json_decref(doc);
	return NULL;
}

/* What is no part of a measurement, but disturbs one. */
static json_t *describe_state(const struct cuda_nvml *n)
{
	json_t *doc = json_object();
	unsigned long long reasons;
	unsigned v;
	int r = 0;

	if (SAYS(clock, n->device, CLOCK_SM, &v))
		r |= put(doc, "sm_clock_mhz", integer(v));
	if (SAYS(clock_max, n->device, CLOCK_SM, &v))
		r |= put(doc, "sm_clock_max_mhz", integer(v));
	if (SAYS(clock, n->device, CLOCK_MEM, &v))
		r |= put(doc, "memory_clock_mhz", integer(v));
	if (SAYS(power, n->device, &v))
		r |= put(doc, "power_mw", integer(v));
	if (SAYS(temperature, n->device, TEMPERATURE_GPU, &v))
		r |= put(doc, "temperature_c", integer(v));
	if (read_reasons(n, &reasons))
		r |= put(doc, "throttle_reasons", integer(reasons));
	if (r == 0)
		return doc;
	json_decref(doc);
	return NULL;
}

static int describe_memory(const struct cuda_nvml *n, json_t *into)
{
	unsigned now, next, correctable, uncorrectable, failed;
	struct nvml_bar1 bar1;
	int r = 0;

	if (SAYS(bar1, n->device, &bar1))
		r |= put(into, "bar1_bytes", integer(bar1.total));
	if (SAYS(ecc, n->device, &now, &next))
		r |= put(into, "ecc",
			 json_pack("{s:b,s:b}", "on", now != 0, "after_reboot", next != 0));
	if (SAYS(remapped, n->device, &correctable, &uncorrectable, &next, &failed))
		r |= put(into, "remapped_rows",
			 json_pack("{s:I,s:I,s:b,s:b}", "correctable", (json_int_t)correctable,
				   "uncorrectable", (json_int_t)uncorrectable, "pending", next != 0,
				   "failed", failed != 0));
	return r;
}

/* NVML's own numbers, for what enum cvb_gpu_tri has no room for. */
static json_t *describe_cc(void)
{
	struct nvml_cc_settings settings = {.version = NVML_VERSION(struct nvml_cc_settings, 1U)};
	struct nvml_key_rotation keys = {.version = NVML_VERSION(struct nvml_key_rotation, 1U)};
	static const char *const modes[] = {"none", "protected_pcie", "nvlink_encryption"};
	struct nvml_cc_caps caps;
	json_t *doc = json_object();
	int r = 0;

	if (SAYS(cc_settings, &settings))
		r |= put(doc, "multi_gpu_mode",
			 settings.multi_gpu < CVB_ARRAY_LEN(modes)
				 ? json_string(modes[settings.multi_gpu])
				 : integer(settings.multi_gpu));
	if (SAYS(cc_caps, &caps)) {
		r |= put(doc, "cpu_capability", integer(caps.cpu));
		r |= put(doc, "gpus_capable", json_boolean(caps.gpus));
	}
	if (SAYS(cc_rotation, &keys))
		r |= put(doc, "key_rotation_attacker_advantage", integer(keys.attacker_advantage));
	if (r == 0)
		return doc;
	json_decref(doc);
	return NULL;
}

static int describe_warnings(const struct cuda_nvml *n, json_t *into)
{
	struct cvb_gpu_cc cc;
	json_t *list = json_array();
	int r = list ? 0 : -1;

	cuda_nvml_cc(n, &cc);
	if (cc.devtools == CVB_GPU_ON)
		r |= json_array_append_new(
			list, json_string("devtools mode is on: the GPU may be debugged, nothing "
					  "on it is confidential, and its times show no parity"));
	if (cc.ready == CVB_GPU_OFF && cc.feature == CVB_GPU_ON)
		r |= json_array_append_new(
			list, json_string("the GPUs do not accept work: attest them, then "
					  "nvidia-smi conf-compute -srs 1"));
	if (n->missing)
		r |= json_array_append_new(list, json_string(n->missing));
	return r | put(into, "warnings", list);
}

int cuda_nvml_describe(const struct cuda_nvml *n, json_t *into)
{
	int r = describe_warnings(n, into);

	if (n->device) {
		json_t *parts[] = {describe_driver(n), describe_pcie(n), describe_state(n),
				   describe_cc()};
		static const char *const keys[] = {"driver", "pcie", "state", "conf_compute"};

		for (size_t i = 0; i < CVB_ARRAY_LEN(parts); i++)
			r |= parts[i] ? put(into, keys[i], parts[i]) : -1;
		r |= describe_memory(n, into);
	}
	return r ? -ENOMEM : 0;
}
