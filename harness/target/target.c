/* SPDX-License-Identifier: Apache-2.0 */
#include "target/target.h"

#include "core/clock.h"
#include "core/util.h"

#include <errno.h>
#include <string.h>

static const struct cvb_target_ops *const kinds[] = {&cvb_target_local, &cvb_target_qemu};

static const struct cvb_target_ops *find(const struct cvb_arm *arm)
{
	for (size_t i = 0; i < CVB_ARRAY_LEN(kinds); i++)
		if (!strcmp(kinds[i]->name, arm->target))
			return kinds[i];
	return NULL;
}

int cvb_target_supported(const struct cvb_arm *arm, struct cvb_err *err)
{
	const struct cvb_target_ops *ops = find(arm);

	if (!ops)
		return cvb_err_set(err, -EINVAL, "unknown target %s", arm->target);
	return ops->supported(arm, err);
}

int cvb_target_start(struct cvb_target **ret, const struct cvb_arm *arm,
		     const struct cvb_target_env *env, struct cvb_err *err)
{
	struct cvb_target *t;
	uint64_t start_ns = cvb_now_ns();
	int r = cvb_target_supported(arm, err);

	if (r < 0)
		return r;
	t = calloc(1, sizeof(*t));
	if (!t)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	t->ops = find(arm);
	t->arm = arm;
	t->env = *env;
	cvb_client_init(&t->client, -1, -1);
	r = t->ops->start(t, err);
	if (r < 0) {
		cvb_target_stop(t);
		return cvb_err_wrap(err, r, "starting arm %s", arm->name);
	}
	t->boot_ns = cvb_now_ns() - start_ns;
	*ret = t;
	return 0;
}

int cvb_target_pause(struct cvb_target *t, struct cvb_err *err)
{
	int r = t->ops->pause ? t->ops->pause(t, err) : 0;

	return r < 0 ? cvb_err_wrap(err, r, "pausing arm %s", t->arm->name) : 0;
}

int cvb_target_resume(struct cvb_target *t, struct cvb_err *err)
{
	int r = t->ops->resume ? t->ops->resume(t, err) : 0;

	return r < 0 ? cvb_err_wrap(err, r, "resuming arm %s", t->arm->name) : 0;
}

struct cvb_target *cvb_target_stop(struct cvb_target *t)
{
	if (!t)
		return NULL;
	t->ops->stop(t);
	cvb_client_done(&t->client);
	free(t->peer);
	free(t->disk);
	free(t);
	return NULL;
}

json_t *cvb_target_labels(const struct cvb_target *t)
{
	bool qemu = t->ops == &cvb_target_qemu;

	return json_pack("{s:s, s:s?, s:s, s:b, s:b}", "target", t->ops->name, "accel",
			 qemu ? cvb_accel_names[t->accel] : NULL, "tee", cvb_tee_names[t->arm->tee],
			 "bounce", t->arm->bounce, "emulated",
			 t->arm->gpu && !strncmp(t->arm->gpu, "emu", 3));
}
