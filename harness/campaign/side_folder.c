/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file or the folder that result documents come from.
 */
#include "campaign/side.h"
#include "core/file.h"
#include "core/util.h"
#include "report/text.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define RESULT_SCHEMA "cvmbench.result/1"

/* Parse a file; what is JSON, but no result document, is left out if `may_skip`. */
static int read_file(struct cvb_side *side, const char *path, bool may_skip, struct cvb_err *err)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *shown = cvb_text_plain(!strcmp(path, "-")	? "stdin"
						    : may_skip && slash ? slash + 1
									: path,
						    120);
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ json_t *doc = NULL;
	const char *schema;
	json_error_t why;
	size_t bytes;
	int e;

	if (!shown)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	e = (may_skip ? cvb_file_read : cvb_file_read_input)(path, CVB_SIDE_MAX_FILE_BYTES, &text,
							     &bytes, err);
	if (e < 0)
		return e == -EFBIG ? -EBADMSG : e;
	doc = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
	if (!doc) {
		size_t n = strlen(path);
		bool journal = n > 6 && !strcmp(path + n - 6, ".jsonl");
		_cleanup_free_ char *plain = cvb_text_plain(why.text, 120);

		return cvb_err_set(err, -EBADMSG, "%s:%d:%d: not JSON: %s%s", shown, why.line,
				   why.column, plain ? plain : "?",
				   journal ? " (for a campaign name the bundle's folder)" : "");
	}
	schema = json_string_value(json_object_get(doc, "schema"));
	if (!schema || strcmp(schema, RESULT_SCHEMA) != 0) {
		_cleanup_free_ char *plain = cvb_text_plain(schema ? schema : "none", 60);

		if (may_skip) {
			cvb_side_note(side, "%s is no result document (schema: %s) and left out",
				      shown, plain);
			return 0;
		}
		return cvb_err_set(err, -EBADMSG,
				   "%s: schema: expected \"" RESULT_SCHEMA
				   "\", as `cvmbench run -o FILE` writes it, not %s",
				   shown, plain);
	}
	return cvb_side_read_document(side, doc, shown, err);
}

static int is_document(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return n > 5 && d->d_name[0] != '.' && !strcmp(d->d_name + n - 5, ".json");
}

static int read_folder(struct cvb_side *side, struct cvb_err *err)
{
	struct dirent **list = NULL;
	int n = scandir(side->path, &list, is_document, alphasort), e = 0;

	if (n < 0)
		return cvb_err_set(err, -errno, "cannot read %s: %s", side->path, strerror(errno));
	if (n > CVB_SIDE_MAX_DOCUMENTS)
		e = cvb_err_set(err, -EBADMSG, "%s holds more than %d documents", side->path,
				CVB_SIDE_MAX_DOCUMENTS);
	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *path = cvb_strf("%s/%s", side->path, list[i]->d_name);
		struct stat st;

		/* what is no file would not end */
		if (e == 0 && path && stat(path, &st) == 0 && S_ISREG(st.st_mode))
			e = read_file(side, path, true, err);
		free(list[i]);
	}
	free(list);
	if (e == 0 && !side->sessions)
		e = cvb_err_set(err, -EBADMSG,
				"%s is no bundle (it has no journal.jsonl) and holds no result "
				"document (*.json with schema \"" RESULT_SCHEMA "\")",
				side->path);
	return e < 0 ? cvb_err_wrap(err, e, "reading %s", side->path) : 0;
}

/* Whatever only some sessions have would be compared with less than the side seems to have. */
static void check_whole(struct cvb_side *side, struct cvb_side_arm *arm)
{
	for (size_t i = 0; i < arm->benches.n; i++) {
		struct cvb_side_bench *b = arm->benches.v[i];

		b->partly = b->sessions < side->sessions;
		if (b->fault == CVB_SIDE_UNSUPPORTED && b->sessions)
			cvb_side_spoil(b, CVB_SIDE_BAD,
				       "it ran in some sessions and was unsupported in others");
		for (size_t k = 0; k < b->series.n; k++) {
			struct cvb_side_series *s = b->series.v[k];

			s->partly = s->sessions < b->sessions;
		}
	}
}

int cvb_side_load_results(struct cvb_side *s, struct cvb_err *err)
{
	int r = s->kind == CVB_SIDE_RESULTS ? read_folder(s, err)
					    : read_file(s, s->path, false, err);

	if (r == 0)
		check_whole(s, s->arms.v[0]);
	return r;
}
