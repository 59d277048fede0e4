/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a model may not say: values that are in their ranges and impossible together.
 */
#include "gpu/sku.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define PATHS 4
/* Of any path: what the ranges of sku.c allow a rate; a byte takes no less. */
#define MIN_NS_PER_BYTE 1e-5

static bool known(const struct cvb_sku *s, int mode, int p)
{
	return s->v[mode][p].grade != CVB_SKU_UNKNOWN;
}

static double value(const struct cvb_sku *s, int mode, int p)
{
	return s->v[mode][p].value;
}

/* ns of a byte at the path's own rate; NAN: not known. */
static double rate_cost(const struct cvb_sku *s, int mode, int path)
{
	int dir = path % 2, pcie = CVB_SKU_PCIE + dir, stage = CVB_SKU_STAGE + dir;

	if (path >= 2)
		return known(s, mode, CVB_SKU_PAGEABLE + dir)
			       ? 1e9 / value(s, mode, CVB_SKU_PAGEABLE + dir)
			       : NAN;
	if (!known(s, 0, pcie) || (mode && (!known(s, 1, CVB_SKU_GCM) || !known(s, 1, stage))))
		return NAN;
	double link = 1e9 / value(s, 0, pcie);

	return mode ? fmax(link, 1e9 / value(s, 1, CVB_SKU_GCM) + 1e9 / value(s, 1, stage)) : link;
}

/* The bytes behind the tail: a negative cost may not make them free. */
static int check_tail(const struct cvb_sku *s, int mode, int path, struct cvb_err *err)
{
	int tail = CVB_SKU_TAIL + path, knee = CVB_SKU_KNEE + path;
	int cost = CVB_SKU_TAIL_COST + path, first = CVB_SKU_KNEE_COST + path;
	double least = rate_cost(s, mode, path);

	if (!known(s, mode, cost))
		return 0;
	if (known(s, mode, knee) && known(s, mode, first) && known(s, mode, tail) &&
	    value(s, mode, knee) > value(s, mode, tail))
		least = fmin(least, value(s, mode, first)); /* NAN: the other */
	if (isnan(least) || least + value(s, mode, cost) >= MIN_NS_PER_BYTE)
		return 0;
	return cvb_err_set(err, -EINVAL,
			   "cc=%s: a byte behind the tail would take %g ns, at a rate of %g ns",
			   mode ? "on" : "off", least + value(s, mode, cost), least);
}

/* The caller's part of a copy is part of it. */
static int check_submit(const struct cvb_sku *s, int path, struct cvb_err *err)
{
	int toll = CVB_SKU_TOLL + path;

	if (path >= 2 || !known(s, 0, toll) || !known(s, 0, CVB_SKU_COPY_SUBMIT) ||
	    value(s, 0, toll) >= value(s, 0, CVB_SKU_COPY_SUBMIT))
		return 0;
	return cvb_err_set(err, -EINVAL, "off = %g is less than copy_submit, which is part of it",
			   value(s, 0, toll));
}

/* Contexts are shared with by two values, and never faster than the link. */
static int check_shared(const struct cvb_sku *s, int max, int half, int dir, struct cvb_err *err)
{
	if (known(s, 1, max) != known(s, 1, half))
		return cvb_err_set(
			err, -EINVAL, "known without %s",
			cvb_sku_param_name((enum cvb_sku_param)(known(s, 1, max) ? half : max)));
	if (known(s, 1, max) && known(s, 0, CVB_SKU_PCIE + dir) &&
	    value(s, 1, max) > value(s, 0, CVB_SKU_PCIE + dir))
		return cvb_err_set(err, -EINVAL, "on = %g is more than %s", value(s, 1, max),
				   cvb_sku_param_name((enum cvb_sku_param)(CVB_SKU_PCIE + dir)));
	return 0;
}

static int check_whole(const struct cvb_sku *s, int p, struct cvb_err *err)
{
	for (int mode = 0; mode < 2; mode++)
		if (floor(value(s, mode, p)) != ceil(value(s, mode, p)))
			return cvb_err_set(err, -EINVAL, "%s = %.9g: a whole number is right",
					   mode ? "on" : "off", value(s, mode, p));
	return 0;
}

static int check_path(const struct cvb_sku *s, int path, int *ret_param, struct cvb_err *err)
{
	const int whole[] = {CVB_SKU_KNEE + path, CVB_SKU_TAIL + path};
	int r = 0;

	for (int mode = 0; r == 0 && mode < 2; mode++) {
		*ret_param = CVB_SKU_TAIL_COST + path;
		r = check_tail(s, mode, path, err);
	}
	for (int i = 0; r == 0 && i < 2; i++) {
		*ret_param = whole[i];
		r = check_whole(s, whole[i], err);
	}
	if (r < 0)
		return r;
	*ret_param = CVB_SKU_TOLL + path;
	return check_submit(s, path, err);
}

int cvb_sku_check(const struct cvb_sku *s, int *ret_param, struct cvb_err *err)
{
	static const int shared[][2] = {{CVB_SKU_THREADS_MAX, CVB_SKU_THREADS_HALF},
					{CVB_SKU_PROCESSES_MAX, CVB_SKU_PROCESSES_HALF}};
	static const int whole[] = {CVB_SKU_L2_BYTES, CVB_SKU_CONTEXT_LIMIT};
	int r = 0;

	for (int path = 0; r == 0 && path < PATHS; path++)
		r = check_path(s, path, ret_param, err);
	for (int i = 0; r == 0 && i < 4; i++) {
		int dir = i % 2;

		*ret_param = shared[i / 2][0] + dir;
		r = check_shared(s, *ret_param, shared[i / 2][1] + dir, dir, err);
	}
	for (int i = 0; r == 0 && i < 2; i++) {
		*ret_param = whole[i];
		r = check_whole(s, whole[i], err);
	}
	return r;
}
