/* SPDX-License-Identifier: Apache-2.0 */
/* A simulated machine, on which two arms are measured in turn. */
#include "sim/sim.h"

struct machine {
	struct rng *rng;
	enum sim_noise noise;
	double state;
	bool slow;
	double t, step; /* how much of the campaign has passed, 0 … 1 */
};

/* Log of the performance of one measurement, but for what the arm itself is worth. */
static double measure(struct machine *m, bool test)
{
	double g = rng_gauss(m->rng), h = rng_gauss(m->rng);
	double u = rng_uniform(m->rng), v = rng_uniform(m->rng);

	m->t += m->step;
	switch (m->noise) {
	case GAUSS_1:
		return 0.01 * g;
	case AR_9:
		m->state = 0.9 * m->state + 0.02 * sqrt(0.19) * h;
		return m->state + 0.005 * g;
	case MODES:
		return 0.003 * g - (u < 0.3 ? 0.03 : 0);
	case STICKY:
		m->slow ^= u < 0.05;
		return 0.003 * g - (m->slow ? 0.03 : 0);
	case SPIKES:
		return 0.005 * g - (u < 0.05 ? 0.1 + 0.3 * v : 0);
	case SPIKES_VM:
	case SPIKES_VM_EZ:
		return 0.005 * g - (test && u < 0.05 ? 0.1 + 0.3 * v : 0);
	case DRIFT:
		return 0.005 * g + 0.05 * m->t;
	}
	return 0;
}

size_t sim_campaign(enum sim_noise noise, unsigned sessions, unsigned rounds, double ln_ratio,
		    double session_sd, struct cvb_pair *p, struct rng *r)
{
	struct machine m = {.rng = r,
			    .noise = noise,
			    .state = 0.02 * rng_gauss(r),
			    .slow = rng_uniform(r) < 0.5,
			    .step = 0.5 / (sessions * rounds)};
	size_t n = 0;

	for (unsigned s = 0; s < sessions; s++) {
		double effect = ln_ratio + session_sd * rng_gauss(r);
		bool test_first = false;

		for (unsigned k = 0; k < rounds; k++, n++) {
			double first, second;

			test_first = k % 2 ? !test_first : rng_uniform(r) < 0.5;
			first = measure(&m, test_first);
			second = measure(&m, !test_first);
			p[n] = (struct cvb_pair){.session = s, .round = k};
			p[n].base = exp(test_first ? second : first);
			p[n].test = exp((test_first ? first : second) + effect);
		}
	}
	return n;
}
