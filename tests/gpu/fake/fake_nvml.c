/* SPDX-License-Identifier: Apache-2.0 */
/* NVML, replayed from a file; see fake.h. */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	OK = 0,
	BAD_ARGUMENT = 2,
	NOT_FOUND = 13,
	BAD_VERSION = 25,
};

/* The values of a function's line into `ret`; its return code. */
static int look_up(const char *name, char *ret, size_t bytes)
{
	const char *path = getenv("FAKE_NVML");
	FILE *f = path ? fopen(path, "re") : NULL;
	size_t length = strlen(name);
	char line[256], *rest;
	int code = NOT_FOUND;

	ret[0] = '\0';
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, name, length) != 0 || line[length] != ' ')
			continue;
		code = (int)strtoul(line + length, &rest, 10);
		rest += strspn(rest, " ");
		rest[strcspn(rest, "\n")] = '\0';
		snprintf(ret, bytes, "%s", rest);
		break;
	}
	if (f)
		fclose(f);
	return code;
}

static int numbers(const char *name, unsigned *const *ret, size_t n)
{
	char text[256], *p = text;
	int code = look_up(name, text, sizeof(text));

	for (size_t i = 0; code == OK && i < n; i++)
		*ret[i] = (unsigned)strtoul(p, &p, 0);
	return code;
}

static int longs(const char *name, unsigned long long *const *ret, size_t n)
{
	char text[256], *p = text;
	int code = look_up(name, text, sizeof(text));

	for (size_t i = 0; code == OK && i < n; i++)
		*ret[i] = strtoull(p, &p, 0);
	return code;
}

#define NUMBERS(name, ...)                                                                         \
	numbers(name, (unsigned *const[]){__VA_ARGS__},                                            \
		sizeof((unsigned *[]){__VA_ARGS__}) / sizeof(unsigned *))
#define LONGS(name, ...)                                                                           \
	longs(name, (unsigned long long *const[]){__VA_ARGS__},                                    \
	      sizeof((unsigned long long *[]){__VA_ARGS__}) / sizeof(unsigned long long *))

bool fake_is_confidential(void)
{
	unsigned environment = 0, feature = 0, devtools = 0, multi = 0;

	if (NUMBERS("nvmlSystemGetConfComputeSettings", &environment, &feature, &devtools,
		    &multi) == OK)
		return feature || multi;
	return NUMBERS("nvmlSystemGetConfComputeState", &environment, &feature) == OK && feature;
}

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **ret);

FAKE_API int nvmlInit_v2(void)
{
	char text[8];

	if (!getenv("FAKE_NVML") || look_up("nvmlInit_v2", text, sizeof(text)) != OK)
		return 9; /* the driver is not loaded */
	fake_count(1);
	return OK;
}

FAKE_API int nvmlShutdown(void)
{
	fake_count(-1);
	return OK;
}

FAKE_API int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **ret)
{
	*ret = (void *)1;
	return strncmp(id, "FFFF:A", 6) == 0 ? OK : BAD_ARGUMENT;
}

#define TEXT(name)                                                                                 \
	int name(char *ret, unsigned bytes);                                                       \
	FAKE_API int name(char *ret, unsigned bytes)                                               \
	{                                                                                          \
		return look_up(#name, ret, bytes);                                                 \
	}

TEXT(nvmlSystemGetDriverVersion)
TEXT(nvmlSystemGetNVMLVersion)
FAKE_API int nvmlDeviceGetVbiosVersion(void *device, char *ret, unsigned bytes);
FAKE_API int nvmlDeviceGetVbiosVersion(void *device, char *ret, unsigned bytes)
{
	(void)device;
	return look_up("nvmlDeviceGetVbiosVersion", ret, bytes);
}

/* A function of a device (and perhaps a kind) with one number. */
#define NUMBER(name)                                                                               \
	int name(void *device, unsigned *ret);                                                     \
	FAKE_API int name(void *device, unsigned *ret)                                             \
	{                                                                                          \
		(void)device;                                                                      \
		return NUMBERS(#name, ret);                                                        \
	}
#define NUMBER_OF(name)                                                                            \
	int name(void *device, int kind, unsigned *ret);                                           \
	FAKE_API int name(void *device, int kind, unsigned *ret)                                   \
	{                                                                                          \
		(void)device;                                                                      \
		char of[64];                                                                       \
		snprintf(of, sizeof(of), "%s.%d", #name, kind);                                    \
		return NUMBERS(of, ret);                                                           \
	}
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth)
NUMBER(nvmlDeviceGetPowerUsage)
NUMBER_OF(nvmlDeviceGetClockInfo)
NUMBER_OF(nvmlDeviceGetMaxClockInfo)
NUMBER_OF(nvmlDeviceGetTemperature)

#define GROUP(name, params, result)                                                                \
	int name params;                                                                           \
	FAKE_API int name params                                                                   \
	{                                                                                          \
		return result;                                                                     \
	}

/* Layouts by the documentation of NVML, told anew: the backend's own are not their judge. */
#ifndef FAKE_OLD
GROUP(nvmlSystemGetConfComputeSettings, (unsigned v[5]),
      v[0] != 0x1000014 ? BAD_VERSION
			: NUMBERS("nvmlSystemGetConfComputeSettings", v + 1, v + 2, v + 3, v + 4))
#endif
GROUP(nvmlSystemGetConfComputeState, (unsigned v[3]),
      NUMBERS("nvmlSystemGetConfComputeState", v, v + 1, v + 2))
GROUP(nvmlSystemGetConfComputeCapabilities, (unsigned v[2]),
      NUMBERS("nvmlSystemGetConfComputeCapabilities", v, v + 1))
GROUP(nvmlSystemGetConfComputeGpusReadyState, (unsigned *v),
      NUMBERS("nvmlSystemGetConfComputeGpusReadyState", v))
GROUP(nvmlSystemGetConfComputeKeyRotationThresholdInfo, (unsigned long long v[2]),
      (unsigned)v[0] != 0x1000010
	      ? BAD_VERSION
	      : LONGS("nvmlSystemGetConfComputeKeyRotationThresholdInfo", v + 1))
GROUP(nvmlDeviceGetConfComputeMemSizeInfo, (void *device, unsigned long long v[2]),
      device ? LONGS("nvmlDeviceGetConfComputeMemSizeInfo", v, v + 1) : BAD_ARGUMENT)
GROUP(nvmlDeviceGetBAR1MemoryInfo, (void *device, unsigned long long v[3]),
      device ? LONGS("nvmlDeviceGetBAR1MemoryInfo", v, v + 1, v + 2) : BAD_ARGUMENT)
GROUP(nvmlDeviceGetEccMode, (void *device, unsigned *now, unsigned *next),
      device ? NUMBERS("nvmlDeviceGetEccMode", now, next) : BAD_ARGUMENT)
GROUP(nvmlDeviceGetRemappedRows, (void *device, unsigned *a, unsigned *b, unsigned *c, unsigned *d),
      device ? NUMBERS("nvmlDeviceGetRemappedRows", a, b, c, d) : BAD_ARGUMENT)
#ifndef FAKE_OLD
GROUP(nvmlDeviceGetCurrentClocksEventReasons, (void *device, unsigned long long *v),
      device ? LONGS("nvmlDeviceGetCurrentClocksEventReasons", v) : BAD_ARGUMENT)
#endif
GROUP(nvmlDeviceGetViolationStatus, (void *device, int policy, unsigned long long v[2]),
      device && (policy == 0 || policy == 1) ? LONGS(policy ? "nvmlDeviceGetViolationStatus.thermal"
							    : "nvmlDeviceGetViolationStatus.power",
						     v, v + 1)
					     : BAD_ARGUMENT)
GROUP(nvmlDeviceGetCurrentClocksThrottleReasons, (void *device, unsigned long long *v),
      device ? LONGS("nvmlDeviceGetCurrentClocksThrottleReasons", v) : BAD_ARGUMENT)
