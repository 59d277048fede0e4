/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What disturbs a device: readings of it, and what two of them say of the work between.
 */
#include "core/util.h"
#include "gpu/backend.h"

static const char *const slow_names[] = {"power", "heat", "hardware"};

const char *cvb_gpu_slow_text(unsigned bit)
{
	return bit < CVB_ARRAY_LEN(slow_names) ? slow_names[bit] : NULL;
}

void cvb_gpu_health_read(struct cvb_gpu *gpu, struct cvb_gpu_health *ret)
{
	*ret = (struct cvb_gpu_health){-1, -1, -1, -1, -1, -1, -1};
	if (gpu && gpu->backend->health)
		gpu->backend->health(gpu, ret);
}

/* The calls below return 0 or -1, as jansson does. */

static int put_pair(json_t *doc, const char *key, int64_t before, int64_t after)
{
	if (before < 0 || after < 0)
		return 0;
	return json_object_set_new(doc, key,
				   json_pack("[I,I]", (json_int_t)before, (json_int_t)after));
}

/* How far a counter went on; -1: not known. */
static int64_t moved(int64_t before, int64_t after)
{
	return before < 0 || after < before ? -1 : after - before;
}

static int put_moved(json_t *doc, const char *key, int64_t ns)
{
	return ns < 0 ? 0 : json_object_set_new(doc, key, json_integer((json_int_t)ns));
}

static int put_slow(json_t *doc, uint32_t slow)
{
	json_t *list = json_array();
	int r = list ? 0 : -1;

	for (unsigned i = 0; i < CVB_ARRAY_LEN(slow_names); i++)
		if (slow & (1U << i))
			r |= json_array_append_new(list, json_string(slow_names[i]));
	r |= json_object_set_new(doc, "slow", list);
	return r |
	       json_object_set_new(doc, "throttled", json_boolean((slow & CVB_GPU_THROTTLES) != 0));
}

json_t *cvb_gpu_health_json(const struct cvb_gpu_health *before, const struct cvb_gpu_health *after)
{
	int64_t heat_ns = moved(before->heat_ns, after->heat_ns);
	int64_t power_ns = moved(before->power_ns, after->power_ns);
	uint32_t slow = (heat_ns > 0 ? CVB_GPU_SLOW_HEAT : 0U) |
			(power_ns > 0 ? CVB_GPU_SLOW_POWER : 0U) |
			(before->slow >= 0 ? (uint32_t)before->slow : 0U) |
			(after->slow >= 0 ? (uint32_t)after->slow : 0U);
	json_t *doc = json_object();
	int r = doc ? 0 : -1;

	r |= put_pair(doc, "sm_clock_mhz", before->sm_clock_mhz, after->sm_clock_mhz);
	r |= put_pair(doc, "memory_clock_mhz", before->memory_clock_mhz, after->memory_clock_mhz);
	r |= put_pair(doc, "power_mw", before->power_mw, after->power_mw);
	r |= put_pair(doc, "temperature_c", before->temperature_c, after->temperature_c);
	r |= put_moved(doc, "heat_ns", heat_ns);
	r |= put_moved(doc, "power_ns", power_ns);
	if (after->slow >= 0 || heat_ns >= 0)
		r |= put_slow(doc, slow);
	if (r == 0 && json_object_size(doc))
		return doc;
	json_decref(doc);
	return r ? NULL : json_null();
}
