/* SPDX-License-Identifier: Apache-2.0 */
#include "target/qemu_argv.h"

#include "core/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define CBITPOS_MILAN_AND_LATER 51

static void add_machine(const struct cvb_qemu_plan *p, struct cvb_argv *a)
{
	const struct cvb_arm *arm = p->arm;

	cvb_argv_add(a, "-machine");
	if (p->accel == CVB_ACCEL_TCG)
		cvb_argv_add(a, "q35,hpet=off,memory-backend=mem0");
	else if (arm->tee == CVB_TEE_NONE)
		cvb_argv_add(a, "q35,kernel_irqchip=split,hpet=off,memory-backend=mem0");
	else
		cvb_argv_addf(a,
			      "q35,kernel_irqchip=split,hpet=off,memory-backend=mem0,"
			      "confidential-guest-support=%s%s",
			      arm->tee == CVB_TEE_TDX ? "tdx" : "snp",
			      arm->tee == CVB_TEE_SNP ? ",vmport=off" : "");
}

static void add_cpu(const struct cvb_qemu_plan *p, struct cvb_argv *a)
{
	cvb_argv_add(a, "-accel");
	/* one thread: with several, tcg of QEMU 7.2 now and then runs stale code while the guest's
	 * kernel patches its own text, and the guest panics */
	cvb_argv_add(a, p->accel == CVB_ACCEL_TCG ? "tcg,thread=single" : "kvm");
	cvb_argv_add(a, "-cpu");
	if (p->accel == CVB_ACCEL_KVM)
		cvb_argv_add(a, "host,pmu=off");
	else if (p->qemu_major < 10) /* tcg of QEMU 7.2 corrupts EFLAGS in CMPXCHG16B */
		cvb_argv_add(a, "max,cx16=off");
	else
		cvb_argv_add(a, "max");
	cvb_argv_add(a, "-smp");
	cvb_argv_addf(a, "%u,sockets=1", p->cpus);
	cvb_argv_add(a, "-m");
	cvb_argv_addf(a, "%" PRIu64 "M", p->arm->memory_bytes / CVB_MIB);
	cvb_argv_add(a, "-object");
	cvb_argv_addf(a, "memory-backend-ram,id=mem0,size=%" PRIu64 "M",
		      p->arm->memory_bytes / CVB_MIB);
}

static void add_tee(const struct cvb_qemu_plan *p, struct cvb_argv *a)
{
	if (p->arm->tee == CVB_TEE_TDX) {
		cvb_argv_add(a, "-object");
		cvb_argv_add(a, "{\"qom-type\":\"tdx-guest\",\"id\":\"tdx\"}");
	} else if (p->arm->tee == CVB_TEE_SNP) {
		cvb_argv_add(a, "-object");
		cvb_argv_addf(a,
			      "sev-snp-guest,id=snp,cbitpos=%d,reduced-phys-bits=1,policy=0x30000",
			      CBITPOS_MILAN_AND_LATER);
	}
	if (p->arm->tee != CVB_TEE_NONE) {
		/* only -bios: a confidential guest has no read-only private slots for pflash */
		cvb_argv_add(a, "-bios");
		cvb_argv_add(a, p->arm->firmware);
	}
}

static void add_devices(const struct cvb_qemu_plan *p, struct cvb_argv *a)
{
	/* both are needed for the DMA API, and so the bounce buffer, to be used at all */
	const char *dma = p->arm->bounce || p->arm->tee != CVB_TEE_NONE
				  ? ",iommu_platform=on,disable-legacy=on"
				  : "";

	cvb_argv_add(a, "-chardev");
	cvb_argv_addf(a, "socket,id=qmp,path=%s,server=on,wait=off", p->qmp_socket);
	cvb_argv_add(a, "-mon");
	cvb_argv_add(a, "chardev=qmp,mode=control");
	cvb_argv_add(a, "-chardev");
	cvb_argv_addf(a, "file,id=console,path=%s", p->console);
	cvb_argv_add(a, "-serial");
	cvb_argv_add(a, "chardev:console");
	cvb_argv_add(a, "-chardev");
	cvb_argv_addf(a, "socket,id=agent,path=%s,server=on,wait=off", p->agent_socket);
	cvb_argv_add(a, "-device");
	cvb_argv_addf(a, "virtio-serial-pci%s", dma);
	cvb_argv_add(a, "-device");
	cvb_argv_add(a, "virtserialport,chardev=agent,name=" CVB_AGENT_PORT);
	cvb_argv_add(a, "-object");
	cvb_argv_add(a, "iothread,id=io0");
	cvb_argv_add(a, "-blockdev");
	cvb_argv_addf(a,
		      "driver=raw,node-name=disk0,file.driver=file,file.filename=%s,"
		      "file.aio=native,file.cache.direct=on,cache.direct=on",
		      p->disk);
	cvb_argv_add(a, "-device");
	cvb_argv_addf(a, "virtio-blk-pci,drive=disk0,iothread=io0%s", dma);
	cvb_argv_add(a, "-netdev");
	/* off opens all of the host's loopback to the guest, and the network: only with a peer */
	cvb_argv_addf(a, "user,id=net0,restrict=%s", p->reach_host ? "off" : "on");
	cvb_argv_add(a, "-device");
	cvb_argv_addf(a, "virtio-net-pci,netdev=net0,romfile=%s", dma);
}

static void add_kernel(const struct cvb_qemu_plan *p, struct cvb_argv *a)
{
	const struct cvb_arm *arm = p->arm;
	char swiotlb[48] = "";

	if (arm->bounce && arm->swiotlb_slabs)
		snprintf(swiotlb, sizeof(swiotlb), " swiotlb=%" PRIu64 ",force",
			 arm->swiotlb_slabs);
	else if (arm->bounce)
		snprintf(swiotlb, sizeof(swiotlb), " swiotlb=force");
	else if (arm->tee != CVB_TEE_NONE && arm->swiotlb_slabs)
		snprintf(swiotlb, sizeof(swiotlb), " swiotlb=%" PRIu64, arm->swiotlb_slabs);
	cvb_argv_add(a, "-kernel");
	cvb_argv_add(a, p->kernel);
	cvb_argv_add(a, "-initrd");
	cvb_argv_add(a, p->initrd);
	cvb_argv_add(a, "-append");
	/* panic=-1 with -no-reboot: a panic ends QEMU at once, and we see it.  The crypto
	 * self-tests cost half a second of boot under tcg and test nothing of ours. */
	cvb_argv_addf(a, "console=ttyS0 quiet panic=-1 cryptomgr.notests%s%s%s", swiotlb,
		      arm->append ? " " : "", arm->append ? arm->append : "");
}

int cvb_qemu_argv(const struct cvb_qemu_plan *p, struct cvb_argv *a, struct cvb_err *err)
{
	const char *const paths[] = {p->disk, p->console, p->qmp_socket, p->agent_socket};

	for (size_t i = 0; i < CVB_ARRAY_LEN(paths); i++)
		if (strchr(paths[i], ','))
			return cvb_err_set(
				err, -EINVAL,
				"the path %s has a comma, which QEMU's options cannot take",
				paths[i]);
	cvb_argv_add(a, p->arm->qemu);
	cvb_argv_add(a, "-nodefaults");
	cvb_argv_add(a, "-no-user-config");
	cvb_argv_add(a, "-no-reboot");
	cvb_argv_add(a, "-display");
	cvb_argv_add(a, "none");
	add_machine(p, a);
	add_cpu(p, a);
	add_tee(p, a);
	add_devices(p, a);
	add_kernel(p, a);
	return cvb_argv_check(a, err);
}
