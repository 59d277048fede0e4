/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host can run: QEMU's version, KVM that truly works, TDX and SEV-SNP support.
 */
#ifndef CVB_TARGET_QEMU_PROBE_H
#define CVB_TARGET_QEMU_PROBE_H

#include "target/arm.h"

/* May this arm be tried here?  -EOPNOTSUPP with the first thing that is missing. */
CVB_MUST_CHECK int cvb_qemu_supported(const struct cvb_arm *arm, struct cvb_err *err);

/* The accelerator to use for an arm: resolves auto.  -EOPNOTSUPP when kvm is demanded and absent.
 */
CVB_MUST_CHECK int cvb_qemu_accel(const struct cvb_arm *arm, enum cvb_accel *ret,
				  struct cvb_err *err);

/* A boot showed that KVM does not run guests here: auto means tcg from now on. */
void cvb_qemu_kvm_is_broken(void);

/* Major version of a QEMU program, 0 if it does not tell.  Asked once per program. */
unsigned cvb_qemu_major(const char *program);

/* Virtual CPUs of an arm: what it asks for, else the host's. */
unsigned cvb_qemu_cpus(const struct cvb_arm *arm);

/* Folder of the arm's guest image.  Fresh memory. */
char *cvb_guest_dir(const struct cvb_arm *arm);

#endif
