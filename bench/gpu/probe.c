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

int cvb_probe_any(const struct cvb_run *run, struct cvb_err *err)
{
	const json_t *first = json_array_get(run->left_out, 0);

	if (run->n_cases || !first)
		return 0; /* the runner tells of a benchmark without cases */
	return cvb_err_set(err, -EOPNOTSUPP, "%s",
			   json_string_value(json_object_get(first, "reason")));
}

int cvb_probe_lacks(const struct cvb_run *run, const char *what, const char *parameter,
		    struct cvb_err *err)
{
	const char *gpu = cvb_gpu_spec(run->gpu);

	if (cvb_gpu_is_deterministic(run->gpu))
		return cvb_err_set(err, -EOPNOTSUPP,
				   "GPU %s: %s is unknown, nothing is published; what needs it "
				   "cannot run",
				   gpu, parameter);
	return cvb_err_set(err, -EOPNOTSUPP, "GPU %s has no %s", gpu, what);
}

unsigned cvb_probe_depth(const struct cvb_gpu *gpu)
{
	return cvb_gpu_is_deterministic(gpu) ? 64 : 1;
}
