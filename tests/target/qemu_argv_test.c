/* SPDX-License-Identifier: Apache-2.0 */
/* The QEMU command line of each kind of arm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/util.h"
#include "target/qemu_argv.h"

#include <errno.h>
#include <string.h>

static char *line_of(const char *spec, enum cvb_accel accel, unsigned major, const char *disk)
{
	struct cvb_err err = {0};
	struct cvb_argv argv = {0};
	struct cvb_arm arm;
	char *text = NULL;

	assert_int_equal(cvb_arm_parse(&arm, spec, &err), 0);

	struct cvb_qemu_plan plan = {.arm = &arm,
				     .accel = accel,
				     .qemu_major = major,
				     .cpus = 2,
				     .kernel = "K",
				     .initrd = "I",
				     .disk = disk,
				     .console = "C",
				     .qmp_socket = "Q",
				     .agent_socket = "A"};

	if (cvb_qemu_argv(&plan, &argv, &err) == 0)
		text = cvb_argv_quoted(&argv);
	cvb_argv_done(&argv);
	cvb_arm_done(&arm);
	return text;
}

static void must(const char *line, const char *word)
{
	if (!strstr(line, word))
		fail_msg("\"%s\" is not in: %s", word, line);
}

static void must_not(const char *line, const char *word)
{
	if (strstr(line, word))
		fail_msg("\"%s\" is in: %s", word, line);
}

static void tcg_avoids_the_known_traps(void **state)
{
	_cleanup_free_ char *old = line_of("qemu", CVB_ACCEL_TCG, 7, "D");
	_cleanup_free_ char *new = line_of("qemu", CVB_ACCEL_TCG, 10, "D");

	(void)state;
	must(old, "-cpu max,cx16=off");
	must(old, "-accel tcg,thread=single");
	must(new, "-cpu max ");
	must(old, "-no-reboot"); /* with panic=-1: a panic ends QEMU */
	must(old, "panic=-1");
}

static void plain_vm_does_not_bounce(void **state)
{
	_cleanup_free_ char *line = line_of("qemu,memory=2GiB", CVB_ACCEL_KVM, 10, "D");

	(void)state;
	must(line, "-cpu host,pmu=off");
	must(line, "-m 2048M");
	must_not(line, "iommu_platform");
	must_not(line, "swiotlb");
	must_not(line, "confidential");
}

static void bounce_needs_both_halves_on_every_device(void **state)
{
	_cleanup_free_ char *line =
		line_of("qemu,bounce=on,swiotlb_slabs=65536", CVB_ACCEL_KVM, 10, "D");
	static const char *const devices[] = {"virtio-serial-pci", "virtio-blk-pci",
					      "virtio-net-pci"};

	(void)state;
	must(line, "swiotlb=65536,force");
	for (size_t i = 0; i < CVB_ARRAY_LEN(devices); i++) {
		char word[512];
		const char *at = strstr(line, devices[i]);

		assert_non_null(at);
		snprintf(word, sizeof(word), "%.*s", (int)strcspn(at, " "), at);
		must(word, "iommu_platform=on,disable-legacy=on");
	}
	must_not(line, "confidential");
}

/* The TD differs from its twin by the confidential parts only. */
static void td_and_snp(void **state)
{
	_cleanup_free_ char *td = line_of("qemu,tee=tdx", CVB_ACCEL_KVM, 10, "D");
	_cleanup_free_ char *snp = line_of("qemu,tee=snp", CVB_ACCEL_KVM, 10, "D");

	(void)state;
	must(td, "'{\"qom-type\":\"tdx-guest\",\"id\":\"tdx\"}'");
	must(td, "kernel_irqchip=split");
	must(td, "confidential-guest-support=tdx");
	must(td, "-bios /usr/share/ovmf/OVMF.fd");
	must_not(td, "pflash");
	must_not(td, "force");
	must(snp, "sev-snp-guest,id=snp");
	must(snp, "confidential-guest-support=snp");
}

static void comma_in_a_path_is_refused(void **state)
{
	_cleanup_free_ char *line = line_of("qemu", CVB_ACCEL_TCG, 7, "a,readonly=on");

	(void)state;
	assert_null(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tcg_avoids_the_known_traps),
		cmocka_unit_test(plain_vm_does_not_bounce),
		cmocka_unit_test(bounce_needs_both_halves_on_every_device),
		cmocka_unit_test(td_and_snp),
		cmocka_unit_test(comma_in_a_path_is_refused),
	};

	return cmocka_run_group_tests_name("target/qemu_argv", tests, NULL, NULL);
}
