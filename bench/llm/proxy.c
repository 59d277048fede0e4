/* SPDX-License-Identifier: Apache-2.0 */
#include "llm/proxy.h"

#include "core/util.h"
#include "gpu/matrix.h"
#include "gpu/probe.h"
#include "measure/memory.h"

#include <errno.h>
#include <inttypes.h>

/* Device memory: one layer of a model that one GPU has in use, and its output layer, are less. */
#define MAX_BYTES (8.0 * CVB_GIB)
/* The same of an emulator with the wall clock, and at most half of the machine's memory. */
#define SLOW_MAX_BYTES (4.0 * CVB_GIB)
/* Launches of a step: the largest published models have some 130 layers of some 15. */
#define MAX_KERNELS 8192.0
/* Fresh buffers that stock steps may leave until they are freed. */
#define MAX_POOL_BYTES (256 * CVB_MIB)

/* ---- the model ---- */

int llm_proxy_load(struct llm_proxy *p, const struct llm_conf *conf, struct cvb_err *err)
{
	int r = llm_model_load(conf->model, &p->m, err);

	if (r < 0)
		return r;
	p->m->layers = conf->layers ? conf->layers : p->m->layers;
	if (conf->tensor_parallel)
		p->m->tensor_parallel = conf->tensor_parallel;
	return llm_model_shard(p->m, err);
}

bool llm_proxy_is_slow(const struct cvb_gpu *gpu)
{
	return cvb_gpu_is_emulated(gpu) && !cvb_gpu_is_deterministic(gpu);
}

static double memory_limit(const struct cvb_gpu *gpu)
{
	uint64_t total;

	if (!llm_proxy_is_slow(gpu))
		return MAX_BYTES;
	if (cvb_meminfo_bytes("MemTotal", &total) < 0)
		return SLOW_MAX_BYTES;
	return cvb_min(SLOW_MAX_BYTES, (double)total / 2);
}

/* What all ranks have to do: an emulator's share one machine. */
static double work_of(const struct llm_proxy *p, const struct llm_need *need, uint64_t layers)
{
	return (double)p->m->tensor_parallel *
	       ((double)layers * need->layer_work + need->last_work);
}

static int check_need(const struct llm_proxy *p, const struct cvb_gpu *gpu,
		      const struct llm_need *need, struct cvb_err *err)
{
	const struct llm_model *m = p->m;
	double ranks = (double)m->tensor_parallel, most = memory_limit(gpu);
	double bytes = need->bytes * (llm_proxy_is_slow(gpu) ? ranks : 1);
	double kernels = (double)m->layers * (need->kernels + (double)m->small_kernels);

	if (bytes > most)
		return cvb_err_set(err, -EINVAL,
				   "%s needs %.3g GB of device memory, at most %.3g GB are taken "
				   "here: lower %s, or take a smaller model",
				   m->name, bytes / 1e9, most / 1e9, need->lower);
	if (kernels > MAX_KERNELS)
		return cvb_err_set(err, -EINVAL,
				   "%s has %.0f kernels a step, at most %.0f are taken: lower "
				   "layers or small_kernels",
				   m->name, kernels, MAX_KERNELS);
	if (llm_proxy_is_slow(gpu) && work_of(p, need, m->layers) > need->max_work)
		return cvb_err_set(err, -EINVAL,
				   "a step of %s is %.3g %s, an emulated GPU with the wall clock "
				   "takes at most %.3g: lower layers, %s",
				   m->name, work_of(p, need, m->layers), need->work_unit,
				   need->max_work, need->lower);
	return 0;
}

/* As many layers as make a short step, but one at least. */
static void choose_layers(struct llm_proxy *p, struct cvb_run *run, const struct llm_need *need)
{
	const struct llm_conf *conf = run->conf;
	uint64_t n = p->m->layers;

	if (conf->layers || !llm_proxy_is_slow(run->gpu))
		return;
	while (n > 1 && work_of(p, need, n) > need->default_work)
		n--;
	if (n < p->m->layers)
		cvb_run_note(run,
			     "%" PRIu64 " of the %" PRIu64 " layers of %s: a step of all would "
			     "take long here (layers=%" PRIu64 " wants them all)",
			     n, p->m->layers, p->m->name, p->m->layers);
	p->m->layers = n;
}

int llm_proxy_begin(struct llm_proxy *p, struct cvb_run *run, const struct llm_need *need,
		    struct cvb_err *err)
{
	choose_layers(p, run, need);
	int r = check_need(p, run->gpu, need, err);

	if (r == 0 && p->m->tensor_parallel > 1)
		r = cvb_gpu_peer_open(run->gpu, &p->peer, err);
	return r;
}

/* ---- cases ---- */

static int run_step(struct llm_proxy *p, enum llm_policy policy, struct cvb_err *err)
{
	p->unchecked = true;
	return llm_step_run(&p->step, policy, err);
}

static int try_policy(struct cvb_run *run, uint64_t user, struct cvb_err *err)
{
	struct llm_proxy *p = run->state;
	int r = user == LLM_NAIVE ? 0 : llm_step_record(&p->step, err);

	return r < 0 ? r : run_step(p, (enum llm_policy)user, err);
}

/* A batch of stock steps leaves its buffers to the pool. */
static uint64_t max_iters(const struct llm_proxy *p, enum llm_policy policy)
{
	size_t bytes = p->step.ranks * p->step.input_bytes + p->step.result_bytes;
	size_t fit = (size_t)MAX_POOL_BYTES / bytes;

	if (policy != LLM_STOCK)
		return 0;
	return cvb_max(cvb_min(fit, (size_t)LLM_STOCK_STEPS), (size_t)1);
}

static json_t *case_params(const struct llm_proxy *p, enum llm_policy policy, json_t *own)
{
	json_t *all = json_pack("{s:s,s:s,s:I,s:I}", "model", p->m->name, "policy",
				llm_policy_words[policy], "layers", (json_int_t)p->m->layers,
				"tensor_parallel", (json_int_t)p->m->tensor_parallel);

	if (all)
		json_object_update(all, own);
	return all;
}

int llm_proxy_add_cases(struct llm_proxy *p, struct cvb_run *run, const struct cvb_case *like,
			json_t *params, struct cvb_err *err)
{
	const struct llm_conf *conf = run->conf;
	int r = 0;

	for (int i = 0; r == 0 && i < LLM_POLICIES; i++) {
		struct cvb_case c = *like;

		if (conf->policy != LLM_POLICIES && conf->policy != i)
			continue;
		c.user = (uint64_t)i;
		c.max_iters = max_iters(p, (enum llm_policy)i);
		c.params = case_params(p, (enum llm_policy)i, params);
		r = cvb_probe_case(run, &c, try_policy, &p->bad, err);
	}
	json_decref(params);
	return r;
}

/* ---- hooks ---- */

static int check(struct llm_proxy *p, struct cvb_err *err)
{
	int r = llm_step_check(&p->step, err);

	if (r == 0)
		r = p->check(p, err);
	p->unchecked = false;
	p->done = p->done || r == 0;
	return r;
}

/* Not timed: check what the batch before left, and free what its engine would keep. */
int llm_proxy_prepare(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct llm_proxy *p = worker->run->state;
	struct cvb_err err = {0};

	(void)c;
	(void)iters;
	llm_step_drop(&p->step);
	if (p->unchecked && p->bad.r == 0)
		cvb_dev_keep(&p->bad, check(p, &err), &err);
	return 0;
}

int llm_proxy_step(struct cvb_worker *worker, const struct cvb_case *c, uint64_t iters)
{
	struct llm_proxy *p = worker->run->state;
	struct cvb_err err = {0};

	for (uint64_t i = 0; i < iters; i++) {
		int r = run_step(p, (enum llm_policy)c->user, &err);

		cvb_dev_keep(&p->bad, r == -EBADMSG ? r : 0, &err);
		if (r < 0 && r != -EBADMSG)
			return cvb_dev_failed(worker->run, r, &err);
	}
	return 0;
}

int llm_proxy_after(struct cvb_run *run, size_t c, uint64_t iters, uint64_t ns, struct cvb_err *err)
{
	const struct llm_proxy *p = run->state;

	(void)err;
	cvb_run_report(run, c, p->latency_metric, (double)ns / (double)iters);
	return 0;
}

int llm_proxy_verify(struct cvb_run *run, struct cvb_err *err)
{
	struct llm_proxy *p = run->state;
	int r = cvb_dev_kept(&p->bad, err);

	if (r == 0 && (p->unchecked || !p->done))
		r = check(p, err);
	return r;
}

void llm_proxy_done(struct llm_proxy *p)
{
	llm_step_done(&p->step);
	p->peer = cvb_gpu_close(p->peer);
	p->m = llm_model_free(p->m);
}
