/* SPDX-License-Identifier: Apache-2.0 */
#include "net/wordlist.h"

#include "core/opt.h"
#include "core/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct reader {
	const char *what;
	const char *const *names; /* NULL: numbers */
	uint64_t min, max;
};

static int read_number(const struct reader *rd, const char *word, uint64_t *ret,
		       struct cvb_err *err)
{
	char *end;

	errno = 0;
	*ret = strtoull(word, &end, 10);
	if (*word < '0' || *word > '9' || *end || errno || *ret < rd->min || *ret > rd->max)
		return cvb_err_set(err, -EINVAL,
				   "%s: \"%s\" is not a number from %" PRIu64 " to %" PRIu64,
				   rd->what, word, rd->min, rd->max);
	return 0;
}

static int read_name(const struct reader *rd, const char *word, uint64_t *ret, struct cvb_err *err)
{
	const char *near;

	for (*ret = 0; rd->names[*ret]; (*ret)++)
		if (!strcmp(rd->names[*ret], word))
			return 0;
	near = cvb_nearest(word, rd->names);
	return cvb_err_set(err, -EINVAL, "%s: there is no \"%s\"%s%s%s", rd->what, word,
			   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static int add(struct cvb_list *l, const struct reader *rd, const char *word, struct cvb_err *err)
{
	uint64_t v;
	int r = rd->names ? read_name(rd, word, &v, err) : read_number(rd, word, &v, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i] == v)
			return cvb_err_set(err, -EINVAL, "%s: \"%s\" is there twice", rd->what,
					   word);
	if (l->n == CVB_LIST_MAX)
		return cvb_err_set(err, -EINVAL, "%s: more than %d entries", rd->what,
				   CVB_LIST_MAX);
	l->v[l->n++] = v;
	return 0;
}

static int read_list(struct cvb_list *ret, const struct reader *rd, const char *text,
		     struct cvb_err *err)
{
	_cleanup_free_ char *copy = strdup(text ? text : "");
	char *save = NULL;
	int r = 0;

	*ret = (struct cvb_list){0};
	if (!copy)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (char *w = strtok_r(copy, ", ", &save); w && r == 0; w = strtok_r(NULL, ", ", &save))
		r = add(ret, rd, w, err);
	if (r == 0 && !ret->n)
		return cvb_err_set(err, -EINVAL, "%s: the list is empty", rd->what);
	return r;
}

int cvb_list_numbers(struct cvb_list *ret, const char *what, const char *text, uint64_t min,
		     uint64_t max, struct cvb_err *err)
{
	const struct reader rd = {.what = what, .min = min, .max = max};

	return read_list(ret, &rd, text, err);
}

int cvb_list_words(struct cvb_list *ret, const char *what, const char *text,
		   const char *const *names, struct cvb_err *err)
{
	const struct reader rd = {.what = what, .names = names};

	return read_list(ret, &rd, text, err);
}
