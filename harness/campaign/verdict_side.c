/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the two sides of a gate may be compared at all: measured, believable, alike.
 */
#include "campaign/verdict_part.h"

#include <errno.h>
#include <math.h>
#include <string.h>

int cvb_verdict_side_measured(const struct cvb_model *m, const char *name, int bench,
			      struct cvb_judgement *j)
{
	int i = cvb_model_arm(m, name);
	const struct cvb_model_arm *arm = i < 0 ? NULL : &m->arms[i];

	if (!arm)
		return cvb_verdict_decide(j, CVB_VERDICT_INVALID, "this campaign has no arm %s",
					  name);
	if (arm->state == CVB_MODEL_ARM_UNSUPPORTED)
		return cvb_verdict_decide(j, CVB_VERDICT_UNSUPPORTED, "arm %s: %s", name,
					  arm->reason);
	if (arm->state == CVB_MODEL_ARM_UNSEEN)
		return cvb_verdict_decide(j, CVB_VERDICT_INCONCLUSIVE, "arm %s was not reached%s%s",
					  name, m->abort ? ": " : "", m->abort ? m->abort : "");
	if (bench < 0)
		return 1;

	const struct cvb_model_bench *b = &m->benches[bench];
	const struct cvb_model_cell *cell = &b->cells[i];

	if (cell->outcome == CVB_MODEL_UNSUPPORTED)
		return cvb_verdict_decide(j, CVB_VERDICT_UNSUPPORTED, "%s on arm %s: %s", b->name,
					  name, cell->reason);
	if (cell->outcome != CVB_MODEL_NONE)
		return 1;
	if (b->arm_mask & (UINT32_C(1) << i))
		return cvb_verdict_decide(j, CVB_VERDICT_INCONCLUSIVE,
					  "%s was not reached on arm %s", b->name, name);
	return cvb_verdict_decide(j, CVB_VERDICT_INVALID, "%s is not planned on arm %s", b->name,
				  name);
}

int cvb_verdict_side_trusted(const struct cvb_model *m, const char *name, int bench,
			     struct cvb_judgement *j)
{
	int i = cvb_model_arm(m, name);

	if (m->arms[i].accel_changed)
		return cvb_verdict_decide(
			j, CVB_VERDICT_INVALID,
			"arm %s ran under kvm in some sessions and under tcg in others", name);
	if (bench < 0)
		return 1;

	const struct cvb_model_bench *b = &m->benches[bench];
	const struct cvb_model_cell *cell = &b->cells[i];

	if (cell->outcome == CVB_MODEL_FAILED || cell->outcome == CVB_MODEL_UNTRUSTED)
		return cvb_verdict_decide(
			j, CVB_VERDICT_INVALID, "%s on arm %s %s: %s", b->name, name,
			cell->outcome == CVB_MODEL_FAILED ? "failed" : "is untrusted",
			cell->reason);
	if (cell->invalid)
		return cvb_verdict_decide(j, CVB_VERDICT_INVALID, "arm %s: %s", name,
					  cell->invalid);
	if (cell->changed)
		return cvb_verdict_decide(j, CVB_VERDICT_INVALID,
					  "%s on arm %s did not do the same in all sessions: %s",
					  b->name, name, cell->changed);
	if (cell->devtools)
		return cvb_verdict_decide(
			j, CVB_VERDICT_INVALID,
			"devtools: the GPU of arm %s was in devtools mode, in which "
			"nothing on it is confidential; its times show no parity",
			name);
	if (cell->deterministic)
		return 1; /* nothing that the host does, or its clocks, is in computed times */
	if (cell->steal_ratio > CVB_STEAL_LIMIT_RATIO)
		return cvb_verdict_decide(
			j, CVB_VERDICT_INVALID,
			"the host took %.2g %% of the CPU time of %s on arm %s (steal; the "
			"limit is %g %%)",
			100 * cell->steal_ratio, b->name, name, 100 * CVB_STEAL_LIMIT_RATIO);
	if (cell->clock_error_ratio > CVB_CLOCK_LIMIT_RATIO)
		return cvb_verdict_decide(
			j, CVB_VERDICT_INVALID,
			"the clock of arm %s was off by at least %.2g %% while %s was set up (the "
			"limit is %g %%): its times cannot be compared",
			name, 100 * cell->clock_error_ratio, b->name, 100 * CVB_CLOCK_LIMIT_RATIO);
	if (cell->shortest_ns &&
	    (double)cell->timer_ns > CVB_TIMER_LIMIT_RATIO * (double)cell->shortest_ns)
		return cvb_verdict_decide(
			j, CVB_VERDICT_INVALID,
			"samples of %s on arm %s are as short as %.3g us: reading the clock takes "
			"%.2g us there, more than %g %% of them",
			b->name, name, (double)cell->shortest_ns / 1e3,
			(double)cell->timer_ns / 1e3, 100 * CVB_TIMER_LIMIT_RATIO);
	return 1;
}

/* A side that told no options says nothing. */
static bool differ(json_t *x, json_t *y)
{
	return json_is_object(x) && json_is_object(y) && !json_equal(x, y);
}

/* Did both sides run with the same options and number of threads?  A guest with fewer CPUs than its
 * host does other work than the host. */
int cvb_verdict_sides_alike(const struct cvb_model *m, const struct cvb_gate *g, int bench,
			    struct cvb_judgement *j)
{
	const struct cvb_model_bench *b = bench >= 0 ? &m->benches[bench] : NULL;
	unsigned arm = b ? b->cells[cvb_model_arm(m, g->arm)].workers : 0;
	unsigned base = b ? b->cells[cvb_model_arm(m, g->base)].workers : 0;

	if (b && differ(b->cells[cvb_model_arm(m, g->arm)].options,
			b->cells[cvb_model_arm(m, g->base)].options))
		return cvb_verdict_decide(j, CVB_VERDICT_INVALID,
					  "%s ran with other options on arm %s than on arm %s",
					  b->name, g->arm, g->base);
	if (arm == base)
		return 1;
	return cvb_verdict_decide(
		j, CVB_VERDICT_INVALID,
		"%s ran with %u threads on arm %s and %u on arm %s: set threads = in "
		"[bench %s]",
		b->name, arm, g->arm, base, g->base, b->name);
}
