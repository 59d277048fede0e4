/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of the GPU and confidential VM pairs that the emulator may be labelled as.  On the wall
 * clock a label changes no number: the work is done at this machine's speed.
 */
#include "core/opt.h"
#include "core/util.h"
#include "gpu/emu.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *name, *gpu, *tee;
} skus[] = {
	{"h100-tdx", "NVIDIA H100", "TDX"},
	{"h100nvl-snp", "NVIDIA H100 NVL", "SEV-SNP"},
	{"h200-tdx", "NVIDIA H200", "TDX"},
	{"b200-tdx", "NVIDIA B200", "TDX"},
	{"b300-tdx", "NVIDIA B300", "TDX"},
	{"rtxpro6000-tdx", "NVIDIA RTX PRO 6000 Blackwell Server Edition", "TDX"},
};

const char *emu_sku_find(const char *name, struct cvb_err *err)
{
	const char *names[CVB_ARRAY_LEN(skus) + 1];
	char list[256] = "";
	size_t used = 0;

	for (size_t i = 0; i < CVB_ARRAY_LEN(skus); i++) {
		names[i] = skus[i].name;
		if (!strcmp(names[i], name))
			return names[i];
		int w = snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", names[i]);

		used = cvb_min(used + (size_t)cvb_max(w, 0), sizeof(list) - 1);
	}
	names[CVB_ARRAY_LEN(skus)] = NULL;
	const char *near = cvb_nearest(name, names);

	if (near)
		cvb_err_set(err, -EINVAL, "unknown GPU SKU \"%s\"; did you mean %s?", name, near);
	else
		cvb_err_set(err, -EINVAL, "unknown GPU SKU \"%s\"; there are %s", name, list);
	return NULL;
}

json_t *cvb_gpu_list_skus(void)
{
	_cleanup_json_ json_t *list = json_array();

	for (size_t i = 0; i < CVB_ARRAY_LEN(skus); i++)
		if (json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "name", skus[i].name,
							  "gpu", skus[i].gpu, "tee", skus[i].tee)) <
		    0)
			return NULL;
	return CVB_TAKE(list);
}
