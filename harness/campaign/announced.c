/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/announced.h"

#include "campaign/model.h"
#include "core/util.h"

#include <errno.h>
#include <string.h>

size_t cvb_announced_share(size_t n_benches)
{
	return CVB_MODEL_MAX_SERIES / cvb_max(n_benches, (size_t)1);
}

/* The benchmark's own, made when it is first asked for; borrowed. */
static json_t *known_of(struct cvb_announced *a, const char *bench)
{
	json_t *known;

	if (!a->series)
		a->series = json_object();
	known = json_object_get(a->series, bench);
	if (known)
		return known;
	return json_object_set_new(a->series, bench, json_object()) < 0
		       ? NULL
		       : json_object_get(a->series, bench);
}

/* Those that are new into `fresh`. */
static int collect(const json_t *known, const json_t *series, json_t *fresh)
{
	const json_t *s;
	size_t i;

	json_array_foreach (series, i, s) {
		const json_t *params = json_object_get(s, "params");
		const char *metric = json_string_value(json_object_get(s, "metric"));
		_cleanup_free_ char *text =
			json_is_object(params) ? json_dumps(params, JSON_COMPACT | JSON_SORT_KEYS)
					       : strdup("");
		_cleanup_free_ char *key = metric && text ? cvb_strf("%s%s", metric, text) : NULL;

		if (!key || (!json_object_get(known, key) &&
			     json_object_set_new(fresh, key, json_true()) < 0))
			return -ENOMEM;
	}
	return 0;
}

int cvb_announced_add(struct cvb_announced *a, const char *bench, const json_t *series,
		      struct cvb_err *err)
{
	_cleanup_json_ json_t *fresh = json_object();
	json_t *known = known_of(a, bench);
	size_t n;

	if (!fresh || !known || collect(known, series, fresh) < 0)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	n = json_object_size(known) + json_object_size(fresh);
	if (json_object_size(fresh) && n > a->most)
		return cvb_err_set(err, -E2BIG,
				   "it announced %zu series, %zu of them new: a campaign of this "
				   "profile has room for %zu different ones of each benchmark, in "
				   "all arms and sessions together",
				   json_array_size(series), json_object_size(fresh), a->most);
	return json_object_update(known, fresh) < 0 ? cvb_err_set(err, -ENOMEM, "out of memory")
						    : 0;
}

void cvb_announced_done(struct cvb_announced *a)
{
	json_decref(a->series);
	*a = (struct cvb_announced){0};
}
