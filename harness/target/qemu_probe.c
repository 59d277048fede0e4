/* SPDX-License-Identifier: Apache-2.0 */
#include "target/qemu_probe.h"

#include "core/file.h"
#include "core/log.h"
#include "core/proc.h"
#include "core/util.h"
#include "machine/fingerprint.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static bool kvm_broken;

void cvb_qemu_kvm_is_broken(void)
{
	kvm_broken = true;
}

/* A /dev/kvm alone proves nothing: without the CPU's flag guests stop in the decompressor. */
static int kvm_usable(struct cvb_err *err)
{
	_cleanup_close_ int fd = -1;

	if (!cvb_cpu_has_virt())
		return cvb_err_set(
			err, -EOPNOTSUPP,
			"kvm cannot work: the CPU shows neither the vmx nor the svm flag");
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return cvb_err_set(err, -EOPNOTSUPP, "kvm cannot be used: /dev/kvm: %s",
				   strerror(errno));
	if (kvm_broken)
		return cvb_err_set(
			err, -EOPNOTSUPP,
			"kvm does not work here: a guest stopped while booting under it");
	return 0;
}

int cvb_qemu_accel(const struct cvb_arm *arm, enum cvb_accel *ret, struct cvb_err *err)
{
	struct cvb_err why = {0};
	int r;

	if (arm->accel == CVB_ACCEL_TCG) {
		*ret = CVB_ACCEL_TCG;
		return 0;
	}
	r = kvm_usable(&why);
	if (r == 0) {
		*ret = CVB_ACCEL_KVM;
		return 0;
	}
	if (arm->accel == CVB_ACCEL_KVM || arm->tee != CVB_TEE_NONE) {
		if (err)
			*err = why;
		return r;
	}
	*ret = CVB_ACCEL_TCG;
	return 0;
}

/* Major and minor version as one number, 10.1 as 1001; 0 if it does not tell. */
static unsigned qemu_version(const char *program)
{
	static char known[256];
	static unsigned version;
	_cleanup_free_ char *out = NULL;
	const char *const argv[] = {program, "--version", NULL};
	unsigned major, minor;
	const char *v;
	int status;

	if (!strcmp(known, program))
		return version;
	if (cvb_proc_run(argv, 10000, 65536, &out, NULL, &status, NULL) < 0)
		return 0;
	v = strstr(out, "version ");
	if (!v || sscanf(v, "version %u.%u", &major, &minor) != 2)
		return 0;
	version = major * 100 + minor;
	snprintf(known, sizeof(known), "%s", program);
	return version;
}

unsigned cvb_qemu_major(const char *program)
{
	return qemu_version(program) / 100;
}

unsigned cvb_qemu_cpus(const struct cvb_arm *arm)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	return arm->cpus ? (unsigned)arm->cpus : online > 0 ? (unsigned)online : 1;
}

char *cvb_guest_dir(const struct cvb_arm *arm)
{
	const char *env = getenv("CVMBENCH_GUEST_DIR");

	if (arm->guest)
		return strdup(arm->guest);
	if (env && *env)
		return strdup(env);
	/* in the source tree beside the program, installed with the data */
	_cleanup_free_ char *installed = cvb_data_path("guest", NULL);
	_cleanup_free_ char *exe = cvb_exe_dir();
	_cleanup_free_ char *beside = cvb_strf("%s/guest", exe ? exe : ".");

	if ((beside && access(beside, F_OK) == 0) || !installed)
		return CVB_TAKE(beside);
	return CVB_TAKE(installed);
}

static int no_image(const char *dir, struct cvb_err *err)
{
	_cleanup_free_ char *script = cvb_data_path("scripts/guest", NULL);

	return cvb_err_set(
		err, -EOPNOTSUPP,
		"no guest image in %s (vmlinuz, initrd.img): build one with %s --output %s", dir,
		script ? script : "scripts/guest", dir);
}

static int guest_image(const struct cvb_arm *arm, json_t **ret_manifest, struct cvb_err *err)
{
	_cleanup_free_ char *dir = cvb_guest_dir(arm);
	_cleanup_free_ char *kernel = dir ? cvb_strf("%s/vmlinuz", dir) : NULL;
	_cleanup_free_ char *initrd = dir ? cvb_strf("%s/initrd.img", dir) : NULL;
	_cleanup_free_ char *manifest = dir ? cvb_strf("%s/manifest.json", dir) : NULL;

	if (!kernel || !initrd || !manifest)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	if (access(kernel, R_OK) < 0 || access(initrd, R_OK) < 0)
		return no_image(dir, err);
	*ret_manifest = json_load_file(manifest, 0, NULL); /* absent for a hand-made image */
	return 0;
}

static int tdx_host(const struct cvb_arm *arm, struct cvb_err *err)
{
	unsigned version = qemu_version(arm->qemu);
	char text[16];

	if (cvb_file_read_line("/sys/module/kvm_intel/parameters/tdx", text, sizeof(text)) < 0)
		return cvb_err_set(
			err, -EOPNOTSUPP,
			"the host kernel has no TDX: /sys/module/kvm_intel/parameters/tdx "
			"is missing");
	if (text[0] != 'Y' && text[0] != '1')
		return cvb_err_set(
			err, -EOPNOTSUPP,
			"TDX is off in the host kernel: boot it with kvm_intel.tdx=1 and "
			"TDX enabled in the firmware");
	if (version < 1001)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "%s is version %u.%u: TDX guests need QEMU 10.1 or newer (name "
				   "one with qemu = PROGRAM)",
				   arm->qemu, version / 100, version % 100);
	return 0;
}

static int snp_host(const struct cvb_arm *arm, struct cvb_err *err)
{
	char text[16];

	if (cvb_file_read_line("/sys/module/kvm_amd/parameters/sev_snp", text, sizeof(text)) < 0 ||
	    (text[0] != 'Y' && text[0] != '1'))
		return cvb_err_set(err, -EOPNOTSUPP,
				   "the host kernel does not offer SEV-SNP: "
				   "/sys/module/kvm_amd/parameters/sev_snp is not Y");
	if (qemu_version(arm->qemu) < 901)
		return cvb_err_set(
			err, -EOPNOTSUPP,
			"%s is version %u.%u: SEV-SNP guests need QEMU 9.1 or newer (key qemu = PROGRAM)",
			arm->qemu, qemu_version(arm->qemu) / 100, qemu_version(arm->qemu) % 100);
	return 0;
}

static int tee_supported(const struct cvb_arm *arm, const json_t *manifest, struct cvb_err *err)
{
	int r = arm->tee == CVB_TEE_TDX ? tdx_host(arm, err) : snp_host(arm, err);

	if (r < 0)
		return r;
	r = kvm_usable(err);
	if (r < 0)
		return r;
	if (access(arm->firmware, R_OK) < 0)
		return cvb_err_set(
			err, -EOPNOTSUPP,
			"firmware %s not found (Debian package ovmf; TDX needs one built "
			"for it)",
			arm->firmware);
	if (arm->tee == CVB_TEE_TDX && json_is_false(json_object_get(manifest, "tdx_guest")))
		return cvb_err_set(err, -EOPNOTSUPP,
				   "the guest kernel was built without CONFIG_INTEL_TDX_GUEST");
	return 0;
}

int cvb_qemu_supported(const struct cvb_arm *arm, struct cvb_err *err)
{
	_cleanup_free_ char *program = cvb_program_find(arm->qemu, "qemu-system-x86", err);
	_cleanup_json_ json_t *manifest = NULL;
	enum cvb_accel accel;
	int r;

	if (!program)
		return -EOPNOTSUPP;
	/* what the host lacks is the better reason than an image that was not built for it */
	if (arm->tee != CVB_TEE_NONE) {
		r = tee_supported(arm, NULL, err);
		if (r < 0)
			return r;
	}
	r = guest_image(arm, &manifest, err);
	if (r < 0)
		return r;
	if (arm->tee != CVB_TEE_NONE)
		return tee_supported(arm, manifest, err);
	return cvb_qemu_accel(arm, &accel, err);
}
