/* SPDX-License-Identifier: Apache-2.0 */
#include "target/arm.h"

#include "core/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define MIN_GUEST_BYTES (384 * CVB_MIB)

const char *const cvb_accel_names[] = {"auto", "kvm", "tcg", NULL};
const char *const cvb_tee_names[] = {"none", "tdx", "snp", NULL};

#define AT(field) offsetof(struct cvb_arm, field)

const struct cvb_opt cvb_arm_opts[] = {
	{.name = "target",
	 .type = CVB_OPT_STR,
	 .offset = AT(target),
	 .def = "local",
	 .help = "where the arm runs: local, or qemu for a guest started for the session"},
	{.name = "like",
	 .type = CVB_OPT_STR,
	 .offset = AT(like),
	 .arg = "ARM",
	 .help = "take the keys of another arm as defaults"},
	{.name = "aa_of",
	 .type = CVB_OPT_STR,
	 .offset = AT(aa_of),
	 .arg = "ARM",
	 .help = "this arm is that one measured again (A/A): shows the noise of the campaign"},
	{.name = "gpu",
	 .type = CVB_OPT_STR,
	 .offset = AT(gpu),
	 .arg = "GPU",
	 .help = "GPU of the arm, such as emu:h100-tdx,cc=on; it then runs the GPU benchmarks only"},
	{.name = "accel",
	 .type = CVB_OPT_CHOICE,
	 .offset = AT(accel),
	 .def = "auto",
	 .choices = cvb_accel_names,
	 .help = "QEMU accelerator; auto takes kvm where it truly works, else tcg, and says so"},
	{.name = "tee",
	 .type = CVB_OPT_CHOICE,
	 .offset = AT(tee),
	 .def = "none",
	 .choices = cvb_tee_names,
	 .help = "confidential guest kind"},
	{.name = "cpus",
	 .type = CVB_OPT_U64,
	 .offset = AT(cpus),
	 .def = "0",
	 .min = 0,
	 .max = 1024,
	 .help = "virtual CPUs; 0 means as many as the host has"},
	{.name = "memory",
	 .type = CVB_OPT_SIZE,
	 .offset = AT(memory_bytes),
	 .def = "1GiB",
	 .min = 384.0 * 1024 * 1024,
	 .max = 64.0 * 1024 * 1024 * 1024 * 1024,
	 .unit = "bytes",
	 .help = "guest memory"},
	{.name = "disk",
	 .type = CVB_OPT_SIZE,
	 .offset = AT(disk_bytes),
	 .def = "512MiB",
	 .min = 16.0 * 1024 * 1024,
	 .max = 64.0 * 1024 * 1024 * 1024 * 1024,
	 .unit = "bytes",
	 .help = "size of the guest's virtio disk"},
	{.name = "bounce",
	 .type = CVB_OPT_FLAG,
	 .offset = AT(bounce),
	 .def = "off",
	 .help = "force a normal VM's virtio devices through the swiotlb bounce buffer"},
	{.name = "swiotlb_slabs",
	 .type = CVB_OPT_U64,
	 .offset = AT(swiotlb_slabs),
	 .def = "131072",
	 .min = 0,
	 .max = 16777216,
	 .unit = "slots of 2 KiB",
	 .help = "size of the guest's bounce-buffer pool where one is used; 0 leaves it to the kernel"},
	{.name = "qemu",
	 .type = CVB_OPT_STR,
	 .offset = AT(qemu),
	 .def = "qemu-system-x86_64",
	 .arg = "PROGRAM",
	 .help = "QEMU to run"},
	{.name = "guest",
	 .type = CVB_OPT_STR,
	 .offset = AT(guest),
	 .arg = "FOLDER",
	 .help = "guest image made by scripts/guest; default: the folder guest/ beside the program"},
	{.name = "firmware",
	 .type = CVB_OPT_STR,
	 .offset = AT(firmware),
	 .def = "/usr/share/ovmf/OVMF.fd",
	 .arg = "FILE",
	 .help = "OVMF image for a confidential guest"},
	{.name = "append",
	 .type = CVB_OPT_STR,
	 .offset = AT(append),
	 .arg = "TEXT",
	 .help = "more words for the guest's kernel command line"},
	{.name = "boot_timeout_s",
	 .type = CVB_OPT_U64,
	 .offset = AT(boot_timeout_s),
	 .def = "120",
	 .min = 1,
	 .max = 3600,
	 .unit = "s",
	 .help = "how long a guest may take until its agent answers"},
	CVB_OPT_END,
};

/* Keys that a local arm has a use for. */
static bool key_of_local(const char *name)
{
	static const char *const keys[] = {"target", "like", "aa_of", "gpu"};

	for (size_t i = 0; i < CVB_ARRAY_LEN(keys); i++)
		if (!strcmp(keys[i], name))
			return true;
	return false;
}

/* A knob that has no effect must not look as if it had one. */
static int check_local(const struct cvb_arm *arm, struct cvb_err *err)
{
	struct cvb_arm plain = {0};
	_cleanup_json_ json_t *set = NULL, *unset = NULL;
	const char *key;
	json_t *v;
	int r = cvb_opts_defaults(cvb_arm_opts, &plain, err);

	if (r < 0)
		return r;
	set = cvb_opts_to_json(cvb_arm_opts, arm);
	unset = cvb_opts_to_json(cvb_arm_opts, &plain);
	cvb_arm_done(&plain);
	json_object_foreach (set, key, v) {
		if (!key_of_local(key) && !json_equal(v, json_object_get(unset, key)))
			return cvb_err_set(
				err, -EINVAL,
				"%s has no meaning for target = local: it is for target = "
				"qemu",
				key);
	}
	return 0;
}

int cvb_arm_check(const struct cvb_arm *arm, struct cvb_err *err)
{
	bool qemu = !strcmp(arm->target, "qemu");

	if (!qemu && strcmp(arm->target, "local") != 0)
		return cvb_err_set(err, -EINVAL, "target = %s: expected local or qemu",
				   arm->target);
	if (!qemu && arm->tee != CVB_TEE_NONE)
		return cvb_err_set(
			err, -EINVAL,
			"tee = %s needs target = qemu: a host cannot be made confidential",
			cvb_tee_names[arm->tee]);
	if (!qemu)
		return check_local(arm, err);
	if (arm->tee != CVB_TEE_NONE && arm->bounce)
		return cvb_err_set(
			err, -EINVAL,
			"bounce = on with tee = %s: a confidential guest bounces anyway; "
			"bounce is for normal VMs",
			cvb_tee_names[arm->tee]);
	if (arm->tee != CVB_TEE_NONE && arm->accel == CVB_ACCEL_TCG)
		return cvb_err_set(err, -EINVAL, "tee = %s cannot run under accel = tcg",
				   cvb_tee_names[arm->tee]);
	uint64_t pool = qemu && (arm->bounce || arm->tee != CVB_TEE_NONE)
				? arm->swiotlb_slabs * 2 * CVB_KIB
				: 0;

	/* below this the guest cannot even unpack its root file system */
	if (qemu && arm->memory_bytes < pool + MIN_GUEST_BYTES)
		return cvb_err_set(err, -EINVAL,
				   "memory = %" PRIu64 "MiB is too little: the guest needs %" PRIu64
				   " MiB%s",
				   arm->memory_bytes / CVB_MIB, (pool + MIN_GUEST_BYTES) / CVB_MIB,
				   pool ? ", its bounce-buffer pool included" : "");
	return 0;
}

int cvb_arm_parse(struct cvb_arm *arm, const char *spec, struct cvb_err *err)
{
	_cleanup_free_ char *copy = strdup(spec);
	char *save = NULL, *word;
	int r;

	*arm = (struct cvb_arm){0};
	r = cvb_opts_defaults(cvb_arm_opts, arm, err);
	if (r < 0 || !copy)
		return r < 0 ? r : cvb_err_set(err, -ENOMEM, "out of memory");
	word = strtok_r(copy, ",", &save);
	r = cvb_opt_set(cvb_arm_opts, arm, "target", word ? word : "", err);
	while (r == 0 && (word = strtok_r(NULL, ",", &save))) {
		char *eq = strchr(word, '=');

		if (eq)
			*eq = '\0';
		r = eq ? cvb_opt_set(cvb_arm_opts, arm, word, eq + 1, err)
		       : cvb_err_set(err, -EINVAL, "\"%s\": expected key=value", word);
	}
	if (r == 0)
		r = cvb_arm_check(arm, err);
	if (r == 0) {
		free(arm->name);
		arm->name = strdup(arm->target);
		if (!arm->name)
			r = cvb_err_set(err, -ENOMEM, "out of memory");
	}
	if (r < 0) {
		cvb_arm_done(arm);
		return cvb_err_wrap(err, r, "target %s", spec);
	}
	return 0;
}

void cvb_arm_done(struct cvb_arm *arm)
{
	free(arm->name);
	arm->name = NULL;
	cvb_opts_done(cvb_arm_opts, arm);
}
