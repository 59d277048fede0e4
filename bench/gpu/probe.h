/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases that a device may not be able to run: each is tried once, untimed, before it is declared.
 */
#ifndef CVB_BENCH_GPU_PROBE_H
#define CVB_BENCH_GPU_PROBE_H

#include "gpu/device.h"

/* Do one iteration of the case that `user` means; 0 or -errno. */
typedef int cvb_probe_fn(struct cvb_run *run, uint64_t user, struct cvb_err *err);

/*
 * Try `c` with fn and declare it.  What is -EOPNOTSUPP (an unknown parameter of a model, a missing
 * capability) is left out with the reason; -EBADMSG is kept in `bad`, for verify.  Takes c->params
 * over.  0 or -errno.
 */
CVB_MUST_CHECK int cvb_probe_case(struct cvb_run *run, const struct cvb_case *c, cvb_probe_fn *fn,
				  struct cvb_dev_bad *bad, struct cvb_err *err);

/* At the end of setup: -EOPNOTSUPP with the first reason if everything was left out. */
CVB_MUST_CHECK int cvb_probe_any(const struct cvb_run *run, struct cvb_err *err);

/* -EOPNOTSUPP: the GPU has no `what`; on a virtual clock, its model does not know `parameter`. */
int cvb_probe_lacks(const struct cvb_run *run, const char *what, const char *parameter,
		    struct cvb_err *err);

/*
 * How many operations one iteration submits before its wait.  Batches on a virtual clock are short,
 * as longer ones would say the same, except of a queue that is kept full: there the wait at the end
 * of a batch would count.
 */
unsigned cvb_probe_depth(const struct cvb_gpu *gpu);

#endif
