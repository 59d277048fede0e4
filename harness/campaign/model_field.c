/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/model_slot.h"
#include "core/util.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

/* More in one sample is no count (client.c lets no more through). */
#define SWIOTLB_FULL_MAX 1000000

int cvb_model_bad(const struct cvb_model_reader *r, const char *field, const char *fmt, ...)
{
	char what[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return cvb_err_set(r->err, -EBADMSG, "%s:%zu: field \"%s\": %s", r->m->path, r->number,
			   field, what);
}

int cvb_model_no_memory(const struct cvb_model_reader *r)
{
	return cvb_err_set(r->err, -ENOMEM, "out of memory reading %s", r->m->path);
}

/* A text of obj into fresh memory; absent or null is an error if `required`, else leaves NULL. */
int cvb_model_get_text(const struct cvb_model_reader *r, const json_t *obj, const char *field,
		       size_t max_bytes, bool required, char **ret)
{
	const json_t *v = json_object_get(obj, field);

	if (!required && (!v || json_is_null(v)))
		return 0;
	if (!json_is_string(v))
		return cvb_model_bad(r, field, "a text is wanted");
	if (required && !json_string_length(v))
		return cvb_model_bad(r, field, "the text is empty");

	const char *s = json_string_value(v);
	size_t n = json_string_length(v);

	if (n > max_bytes) {
		if (max_bytes <= CVB_MODEL_NAME_BYTES)
			return cvb_model_bad(r, field, "the text is longer than %zu bytes",
					     max_bytes);
		/* a long reason is cut, at a character's start */
		n = max_bytes;
		while (n && ((unsigned char)s[n] & 0xc0) == 0x80)
			n--;
	}
	char *copy = strndup(s, n);

	if (!copy)
		return cvb_model_no_memory(r);
	free(*ret);
	*ret = copy;
	return 0;
}

int cvb_model_get_count(const struct cvb_model_reader *r, const json_t *obj, const char *field,
			unsigned max, unsigned *ret)
{
	const json_t *v = json_object_get(obj, field);

	if (!json_is_integer(v) || json_integer_value(v) < 1 ||
	    json_integer_value(v) > (json_int_t)max)
		return cvb_model_bad(r, field, "a whole number from 1 to %u is wanted", max);
	*ret = (unsigned)json_integer_value(v);
	return 0;
}

/* A bool that may be absent or null (false). */
int cvb_model_get_bool(const struct cvb_model_reader *r, const json_t *obj, const char *field,
		       bool *ret)
{
	const json_t *v = json_object_get(obj, field);

	*ret = json_is_true(v);
	if (v && !json_is_boolean(v) && !json_is_null(v))
		return cvb_model_bad(r, field, "true or false is wanted");
	return 0;
}

int cvb_model_get_u64(const struct cvb_model_reader *r, const json_t *obj, const char *field,
		      uint64_t *ret)
{
	const json_t *v = json_object_get(obj, field);

	*ret = 0;
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return cvb_model_bad(r, field, "a whole number from 0 on is wanted");
	*ret = (uint64_t)json_integer_value(v);
	return 0;
}

int cvb_model_get_real(const struct cvb_model_reader *r, const json_t *obj, const char *field,
		       double *ret)
{
	const json_t *v = json_object_get(obj, field);

	*ret = NAN;
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_number(v))
		return cvb_model_bad(r, field, "a number or null is wanted");
	*ret = json_number_value(v);
	return 0;
}

int cvb_model_get_arm(const struct cvb_model_reader *r, unsigned *ret)
{
	const char *name = json_string_value(json_object_get(r->line, "arm"));
	int i = name ? cvb_model_arm(r->m, name) : -1;

	if (i < 0)
		return cvb_model_bad(r, "arm", "not one of the campaign's arms");
	*ret = (unsigned)i;
	return 0;
}

int cvb_model_get_bench(const struct cvb_model_reader *r, unsigned *ret)
{
	const char *name = json_string_value(json_object_get(r->line, "bench"));
	int i = name ? cvb_model_bench(r->m, name) : -1;

	if (i < 0)
		return cvb_model_bad(r, "bench", "not one of the campaign's benchmarks");
	*ret = (unsigned)i;
	return 0;
}

/* Room for one more element of a growing array. */
bool cvb_model_grow(void *array, size_t n, size_t *room, size_t element_bytes)
{
	void **p = array;

	if (n < *room)
		return true;

	size_t want = *room ? *room * 2 : 8;
	void *bigger = reallocarray(*p, want, element_bytes);

	if (!bigger)
		return false;
	*p = bigger;
	*room = want;
	return true;
}

int cvb_model_get_session(const struct cvb_model_reader *r, unsigned *ret_session,
			  unsigned *ret_attempt)
{
	int e = cvb_model_get_count(r, r->line, "session", r->m->sessions, ret_session);

	if (e == 0)
		e = cvb_model_get_count(r, r->line, "attempt", CVB_MODEL_MAX_ATTEMPTS, ret_attempt);
	return e;
}

/* {nslabs, used, used_hiwater, full, …} of a line, or null: keep the highest, and the sum of full.
 */
int cvb_model_note_swiotlb(const struct cvb_model_reader *r, struct cvb_model_arm *a)
{
	const json_t *v = json_object_get(r->line, "swiotlb");
	const json_t *slabs = json_object_get(v, "nslabs");
	const json_t *used = json_object_get(v, "used_hiwater");
	const json_t *full = json_object_get(v, "full");

	if (v && !json_is_null(v) && !json_is_object(v))
		return cvb_model_bad(r, "swiotlb", "an object or null is wanted");
	if (json_is_integer(slabs) && json_integer_value(slabs) > 0)
		a->swiotlb_slabs = cvb_max(a->swiotlb_slabs, (uint64_t)json_integer_value(slabs));
	if (json_is_integer(used) && json_integer_value(used) > 0)
		a->swiotlb_used_slabs =
			cvb_max(a->swiotlb_used_slabs, (uint64_t)json_integer_value(used));
	if (json_is_integer(full) && json_integer_value(full) > 0 &&
	    json_integer_value(full) <= SWIOTLB_FULL_MAX)
		a->swiotlb_full += (uint64_t)json_integer_value(full);
	return 0;
}
