/* SPDX-License-Identifier: Apache-2.0 */
#include "report/bundle.h"

#include "campaign/profile.h"
#include "campaign/verdict.h"
#include "core/file.h"
#include "core/util.h"
#include "report/text.h"

#include <errno.h>
#include <limits.h>

char *cvb_bundle_path(const char *bundle_dir, const char *name)
{
	return cvb_strf("%s/%s", bundle_dir, name);
}

void cvb_bundle_print_page(FILE *out, const char *bundle_dir)
{
	_cleanup_free_ char *page = cvb_bundle_path(bundle_dir, CVB_BUNDLE_HTML);
	_cleanup_free_ char *plain = page ? cvb_text_plain(page, PATH_MAX) : NULL;

	fprintf(out, "\nReport: %s\n", plain ? plain : "?");
}

int cvb_bundle_judge(const char *bundle_dir, json_t **ret_verdicts, struct cvb_model **ret_model,
		     struct cvb_err *err)
{
	_cleanup_free_ char *journal = cvb_bundle_path(bundle_dir, CVB_BUNDLE_JOURNAL);
	_cleanup_free_ char *ini = cvb_bundle_path(bundle_dir, CVB_BUNDLE_PROFILE);
	_cleanup_free_ char *out = cvb_bundle_path(bundle_dir, CVB_BUNDLE_VERDICTS);
	_cleanup_json_ json_t *verdicts = NULL;
	struct cvb_profile *profile = NULL;
	struct cvb_model *model = NULL;
	int r;

	if (!journal || !ini || !out)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cvb_profile_load_copy(&profile, ini, err);
	if (r == 0)
		r = cvb_model_load(&model, journal, err);
	if (r == 0)
		r = cvb_verdict_judge(model, profile->gates, profile->n_gates, &verdicts, err);
	if (r == 0)
		r = cvb_json_write(out, verdicts, err);
	profile = cvb_profile_free(profile);
	if (r < 0) {
		cvb_model_free(model);
		return cvb_err_wrap(err, r, "judging bundle %s", bundle_dir);
	}
	if (ret_model)
		*ret_model = CVB_TAKE(model);
	cvb_model_free(model);
	if (ret_verdicts)
		*ret_verdicts = CVB_TAKE(verdicts);
	return 0;
}
