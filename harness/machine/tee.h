/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is this a guest, and a confidential one?  By CPUID and what the kernel shows.
 */
#ifndef CVB_MACHINE_TEE_H
#define CVB_MACHINE_TEE_H

#include <jansson.h>
#include <stddef.h>

/* The hypervisor's CPUID signature ("KVMKVMKVM", "TCGTCGTCGTCG", "Microsoft Hv"), or "none".
 * Returns buf (at least 13 bytes). */
const char *cvb_hypervisor(char *buf, size_t buf_bytes);

/*
 * {"kind": "none"|"tdx"|"snp"|"sev"|"unknown", "evidence": […]}: what confidential guest this is
 * and which checks said so.  New reference.
 *
 * TDX: CPUID leaf 0x21 (checked against the maximum of leaf 0) reads "IntelTDX    ".
 * SEV-SNP: /dev/sev-guest, or the sev_snp CPU flag in a guest.
 */
json_t *cvb_tee_json(void);

#endif
