/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/probe.h"

#include <errno.h>

int cvb_probe_case(struct cvb_run *run, const struct cvb_case *c, cvb_probe_fn *fn,
		   struct cvb_dev_bad *bad, struct cvb_err *err)
{
	struct cvb_err why = {0};
	int r = fn(run, c->user, &why);

	if (r == -EBADMSG)
		cvb_dev_keep(bad, r, &why);
	if (r == 0 || r == -EBADMSG) {
		r = cvb_run_add_case(run, c, err);
		return r < 0 ? r : 0;
	}
	if (r == -EOPNOTSUPP) {
		cvb_run_leave_out(run, c->params, "%s", why.frame[0].msg);
		return 0;
	}
	json_decref(c->params);
	if (err)
		*err = why;
	return r;
}

unsigned cvb_probe_depth(const struct cvb_gpu *gpu)
{
	return cvb_gpu_is_deterministic(gpu) ? 64 : 1;
}
