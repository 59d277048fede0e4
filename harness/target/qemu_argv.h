/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The QEMU command line of an arm: a pure function, so that `vm argv` shows exactly what runs.
 *
 * Sources: the QEMU and Linux documentation of TDX and SEV-SNP guests; the twin VM differs from the
 * confidential one by the confidential object only.
 */
#ifndef CVB_TARGET_QEMU_ARGV_H
#define CVB_TARGET_QEMU_ARGV_H

#include "core/proc.h"
#include "target/arm.h"

#include <stdbool.h>

struct cvb_qemu_plan {
	const struct cvb_arm *arm;
	enum cvb_accel accel; /* KVM or TCG, resolved */
	unsigned qemu_major;  /* of the program that will run */
	unsigned cpus;
	const char *kernel, *initrd;
	const char *disk;	/* raw image */
	const char *console;	/* file for the serial console */
	const char *qmp_socket; /* unix socket path */
	const char *agent_socket;
	bool reach_host; /* the guest may talk to the host's loopback: it has a network peer there
			  */
};

/* Name of the virtio-serial port that the guest's agent opens. */
#define CVB_AGENT_PORT "cvmbench.agent"

/* Fill an empty argv; the caller ends it with cvb_argv_done. */
CVB_MUST_CHECK int cvb_qemu_argv(const struct cvb_qemu_plan *plan, struct cvb_argv *argv,
				 struct cvb_err *err);

#endif
