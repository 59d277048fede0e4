/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What machine is this: the environment record that goes with every result.
 *
 * Only reads files and CPUID; needs no privileges.  What cannot be read is left out or "unknown",
 * never guessed.
 */
#ifndef CVB_MACHINE_FINGERPRINT_H
#define CVB_MACHINE_FINGERPRINT_H

#include <jansson.h>
#include <stdbool.h>

/*
 * {"os","kernel","arch","cmdline","cpu":{model,vendor,logical,flags…,cache_bytes,governor},
 *  "memory":{total_bytes,thp,huge_2m_pages},"hypervisor","tee":{kind,evidence},"swiotlb":…,
 *  "numa_nodes"}.  New reference.
 */
json_t *cvb_fingerprint(void);

/* {"version","git","compiler"}: the program itself.  New reference. */
json_t *cvb_tool_json(void);

/* True where the CPU itself can run hardware-assisted guests (vmx or svm flag). */
bool cvb_cpu_has_virt(void);

/* Words of /proc/cpuinfo's flags line: is `flag` among them? */
bool cvb_cpu_has_flag(const char *flag);

#endif
