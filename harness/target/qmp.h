/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP, QEMU's control protocol: as much of it as running a guest needs.
 */
#ifndef CVB_TARGET_QMP_H
#define CVB_TARGET_QMP_H

#include "target/wire.h"

struct cvb_qmp {
	struct cvb_wire wire;
	bool panicked; /* a GUEST_PANICKED event was seen */
};

/* Take a connected descriptor over; greeting and capabilities. */
CVB_MUST_CHECK int cvb_qmp_open(struct cvb_qmp *q, int fd, struct cvb_err *err);
void cvb_qmp_close(struct cvb_qmp *q);

/* Run one command without arguments.  `ret` (may be NULL): its "return", new reference.
 * Events that arrive meanwhile are noted.  -EREMOTEIO with QEMU's own words if it refuses. */
CVB_MUST_CHECK int cvb_qmp_command(struct cvb_qmp *q, const char *name, json_t **ret,
				   struct cvb_err *err);

/* The guest's run state ("running", "paused", "internal-error", …) into buf. */
CVB_MUST_CHECK int cvb_qmp_status(struct cvb_qmp *q, char *buf, size_t buf_bytes,
				  struct cvb_err *err);

#endif
