/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Targets: where an arm's code runs.
 *
 *   local  an agent process on this machine
 *   qemu   a guest that we boot, talk to over a virtio-serial port, pause while another arm
 *          measures, and always end
 *
 * Life: supported → start → (pause, resume)* → stop.  A target belongs to one thread.
 * Adding a target is adding a file with a `struct cvb_target_ops` and a row in target.c.
 */
#ifndef CVB_TARGET_TARGET_H
#define CVB_TARGET_TARGET_H

#include "target/arm.h"
#include "target/client.h"

struct cvb_target;

/* What a target may use on the host. */
struct cvb_target_env {
	const char *label; /* "vm-s1": names files of this start */
	const char
		*console_dir; /* where the serial console's text goes; NULL: a temporary folder */
	const char *scratch_dir; /* where disk images and disk benchmark files go */
	unsigned peer_port;	 /* port of the iperf3 server on the host's loopback; 0: none */
	unsigned echo_port;	 /* port of the echo server there; 0: none */
};

struct cvb_target_ops {
	const char *name;
	int (*supported)(const struct cvb_arm *arm, struct cvb_err *err);
	int (*start)(struct cvb_target *t, struct cvb_err *err);
	int (*pause)(struct cvb_target *t, struct cvb_err *err);  /* may be NULL: nothing to do */
	int (*resume)(struct cvb_target *t, struct cvb_err *err); /* may be NULL */
	void (*stop)(struct cvb_target *t);			  /* accepts a half-started one */
};

struct cvb_target {
	const struct cvb_target_ops *ops;
	const struct cvb_arm *arm;
	struct cvb_target_env env; /* texts are borrowed from the caller of start */
	struct cvb_client client;
	void *state;	      /* the kind's own */
	uint64_t boot_ns;     /* from start to the agent's first line */
	enum cvb_accel accel; /* in use, for qemu */
	char *peer;	      /* cvb_peer_text as seen from inside, or NULL */
	char *disk;	      /* folder or device for disk benchmarks, as seen from inside */
};

extern const struct cvb_target_ops cvb_target_local;
extern const struct cvb_target_ops cvb_target_qemu;

/* Could it run here?  Cheap; -EOPNOTSUPP with the reason.  A later start may still find out more.
 */
CVB_MUST_CHECK int cvb_target_supported(const struct cvb_arm *arm, struct cvb_err *err);

/* Start and wait for the agent.  On failure nothing is left running.  `arm` and the texts in `env`
 * must outlive the target. */
CVB_MUST_CHECK int cvb_target_start(struct cvb_target **ret, const struct cvb_arm *arm,
				    const struct cvb_target_env *env, struct cvb_err *err);

CVB_MUST_CHECK int cvb_target_pause(struct cvb_target *t, struct cvb_err *err);
CVB_MUST_CHECK int cvb_target_resume(struct cvb_target *t, struct cvb_err *err);

/* End it and what it started.  Accepts NULL; returns NULL. */
struct cvb_target *cvb_target_stop(struct cvb_target *t);

/* The honest labels: {target, accel|null, tee, bounce, emulated}.  New reference. */
json_t *cvb_target_labels(const struct cvb_target *t);

#endif
