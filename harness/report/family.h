/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Series grouped the way a reader looks at them.
 *
 * A metric that was swept over a number (four values of it or more) is a family of its own, drawn
 * as curves.  What else a benchmark measured in one unit is drawn side by side as one family.
 */
#ifndef CVB_REPORT_FAMILY_H
#define CVB_REPORT_FAMILY_H

#include "campaign/model.h"
#include "core/err.h"
#include "stats/ratio.h"

struct cvb_family {
	unsigned bench;
	char *title;	  /* "gpu.copy/bandwidth" or "mem.stream" */
	const char *unit; /* borrowed from the model */
	char *sweep;	  /* the parameter that was swept, or NULL */
	size_t *series;	  /* indices into model->series */
	size_t n_series;
	uint32_t arm_mask; /* arms with values in it */
};

struct cvb_families {
	struct cvb_family *v;
	size_t n;
};

/* Group all series that have values.  Free with cvb_families_done. */
CVB_MUST_CHECK int cvb_families_make(const struct cvb_model *m, struct cvb_families *ret,
				     struct cvb_err *err);
void cvb_families_done(struct cvb_families *f);

/* All rounds of one arm in one series; values that are not finite are left out. */
struct cvb_summary {
	double median;
	double low;  /* smallest round */
	double high; /* largest round */
	unsigned sessions;
	unsigned rounds; /* 0: nothing to show, the numbers are NaN */
};

CVB_MUST_CHECK int cvb_summarise(const struct cvb_model_points *p, struct cvb_summary *ret,
				 struct cvb_err *err);

/*
 * The arm that `arm` is compared with in this series: the one it measures again (A/A), else the
 * first arm of the campaign that has values and is no A/A arm.  -1 if that is `arm` itself or none.
 */
int cvb_family_base(const struct cvb_model *m, const struct cvb_model_series *s, int arm);

/* Ratio of an arm to its base with 95 % bounds; false if there is none. */
bool cvb_family_ratio(const struct cvb_model_series *s, int base, int arm, struct cvb_ratio *ret);

/*
 * What tells one series from the next, for people: "h2d pinned 4 KiB", "randread 4 KiB depth 1".
 * `skip` names a parameter to leave out (the swept one); NULL for none.  Fresh memory.
 */
char *cvb_params_label(const json_t *params, const char *skip);

/* Value of a numeric parameter; NaN if absent or not a number. */
double cvb_param_number(const struct cvb_model_series *s, const char *name);

/* How an axis shows a unit: the divisor for values near `largest`, and its text ("GB/s", "ns"). */
double cvb_axis_unit(const char *unit, double largest, const char **ret_text);

#endif
