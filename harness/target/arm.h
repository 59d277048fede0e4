/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An arm: a target plus its knobs.  One option table serves profiles ([arm NAME] sections) and the
 * command line (-t qemu,key=value).
 */
#ifndef CVB_TARGET_ARM_H
#define CVB_TARGET_ARM_H

#include "core/err.h"
#include "core/opt.h"

#include <stdbool.h>
#include <stdint.h>

enum cvb_accel {
	CVB_ACCEL_AUTO, /* kvm where it truly works, else tcg, said aloud */
	CVB_ACCEL_KVM,
	CVB_ACCEL_TCG,
};

enum cvb_tee {
	CVB_TEE_NONE,
	CVB_TEE_TDX,
	CVB_TEE_SNP,
};

struct cvb_arm {
	char *name;
	/* from the option table: */
	char *target;  /* "local" or "qemu" */
	char *like;    /* another arm whose keys are the defaults of this one */
	char *aa_of;   /* this arm is that one measured again (A/A) */
	char *gpu;     /* GPU spec; the arm then runs the GPU benchmarks and no others */
	int accel;     /* enum cvb_accel */
	int tee;       /* enum cvb_tee */
	uint64_t cpus; /* 0: as many as the host has */
	uint64_t memory_bytes;
	uint64_t disk_bytes;
	bool bounce;		/* force the swiotlb path of a normal VM */
	uint64_t swiotlb_slabs; /* pool size in 2 KiB slots; 0: the kernel's default */
	char *qemu;		/* program */
	char *guest;		/* folder of the guest image; NULL: beside the program */
	char *firmware;		/* OVMF image for a TD or SNP guest */
	char *append;		/* more kernel command line */
	uint64_t boot_timeout_s;
};

extern const struct cvb_opt cvb_arm_opts[];

/* Check what single keys cannot say (tee without qemu, bounce with a TEE, …). */
CVB_MUST_CHECK int cvb_arm_check(const struct cvb_arm *arm, struct cvb_err *err);

/* "local" or "qemu[,key=value]…" from the command line.  On success cvb_arm_done frees. */
CVB_MUST_CHECK int cvb_arm_parse(struct cvb_arm *arm, const char *spec, struct cvb_err *err);

void cvb_arm_done(struct cvb_arm *arm);

extern const char *const cvb_accel_names[];
extern const char *const cvb_tee_names[];

#endif
