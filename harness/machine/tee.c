/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/tee.h"

#include "core/util.h"
#include "machine/fingerprint.h"

#include <cpuid.h>
#include <string.h>

static void leaf_text(char out[13], unsigned a, unsigned b, unsigned c)
{
	memcpy(out, &a, 4);
	memcpy(out + 4, &b, 4);
	memcpy(out + 8, &c, 4);
	out[12] = '\0';
}

static bool in_guest(void)
{
	unsigned a, b, c = 0, d;

	return __get_cpuid(1, &a, &b, &c, &d) && c >> 31;
}

const char *cvb_hypervisor(char *buf, size_t buf_bytes)
{
	unsigned a, b, c, d;
	char text[13];

	snprintf(buf, buf_bytes, "none");
	if (!in_guest())
		return buf;
	__cpuid(0x40000000, a, b, c, d);
	leaf_text(text, b, c, d);
	for (char *p = text; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '\0';
	snprintf(buf, buf_bytes, "%s", *text ? text : "unnamed");
	return buf;
}

static bool leaf_says_tdx(void)
{
	unsigned a, b, c, d;
	char text[13];

	if (__get_cpuid_max(0, NULL) < 0x21)
		return false;
	__cpuid_count(0x21, 0, a, b, c, d);
	leaf_text(text, b, d, c);
	return !strcmp(text, "IntelTDX    ");
}

json_t *cvb_tee_json(void)
{
	json_t *evidence = json_array();
	const char *kind = "none";

	if (!in_guest()) {
		json_array_append_new(evidence, json_string("CPUID: not a guest"));
		return json_pack("{s:s, s:o}", "kind", kind, "evidence", evidence);
	}
	if (cvb_cpu_has_flag("sev_snp") || access("/dev/sev-guest", F_OK) == 0) {
		kind = "snp";
		json_array_append_new(evidence, json_string("sev_snp flag or /dev/sev-guest"));
	}
	if (leaf_says_tdx()) {
		kind = "tdx";
		json_array_append_new(evidence, json_string("CPUID leaf 0x21: IntelTDX"));
	}
	if (access("/dev/tdx_guest", F_OK) == 0)
		json_array_append_new(evidence, json_string("/dev/tdx_guest"));
	return json_pack("{s:s, s:o}", "kind", kind, "evidence", evidence);
}
