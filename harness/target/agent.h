/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent: serves measurements over the line protocol, wherever the code has to run.
 *
 * The agent first says {"ready":true,"protocol":2,"tool":{…}}.  Then each request
 * {"id":N,"op":OP,"args":{…}} gets one reply, {"id":N,"ok":true,"result":{…}} or
 * {"id":N,"ok":false,"error":{"errno":"EOPNOTSUPP","text":"…"}}.
 *
 *   fingerprint  → environment record
 *   setup        {bench, options, gpu?, peer?, disk?, threads, sample_ns} →
 *                {series:[{metric, params}], cases, workers, timer_ns, options, emulated,
 *                deterministic, notes, left_out:[{params, reason}], gpu?}; one benchmark at a time
 *   calibrate    → {iters:[…]} one for each case
 *   warm_up      {iters:[…], budget_ns} → {steady:[…] one word for each series, or null, warmup_ns}
 *   sample       {iters:[…]} → {values:[…], duration_ns, shortest_ns, steal_ratio, steal_ns,
 *                throttles, swiotlb, notes, gpu (cvb_gpu_health_json)}
 *   verify       → {}
 *   teardown     → {}
 *   swiotlb      → {swiotlb}
 *   clock        → {now_ns} of this side's CLOCK_MONOTONIC_RAW
 *   exec         {argv:[…]} → {stdout, stderr, status}: for `vm run`
 *   exit         → {} and the agent ends
 *
 * The agent ends, too, when its input ends.
 */
#ifndef CVB_TARGET_AGENT_H
#define CVB_TARGET_AGENT_H

#include "core/err.h"

#define CVB_AGENT_PROTOCOL 2

/* Serve until exit, end of input or a stop request.  Takes the descriptors over. */
CVB_MUST_CHECK int cvb_agent_serve(int rfd, int wfd, struct cvb_err *err);

/* Open the virtio-serial port of this name: -ENODEV if there is none. */
CVB_MUST_CHECK int cvb_agent_open_port(const char *name, int *ret_fd, struct cvb_err *err);

#endif
