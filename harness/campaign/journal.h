/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal: journal.jsonl in the bundle, one JSON object a line, append-only, fsynced after each
 * round.  Everything shown later is a pure function of it and of the profile's copy in the bundle.
 *
 * Lines, by "type" (every line but the first also has "session" and "attempt", both from 1):
 *
 *   campaign     first line: schema "cvmbench.journal/1", profile, seed, sessions, rounds,
 *                started (UTC), tool {name, version, compiler}, arms [{name, target, aa_of, gpu,
 *                bounce, tee}], benches [{name, arms […], rounds}]
 *   session      a session (or another attempt at one) begins
 *   arm          arm, state ready|unsupported, reason; when ready: labels {target, accel|null,
 *                tee, bounce, emulated}, environment {…}, boot_ns
 *   bench        arm, bench, outcome ok|unsupported|failed|untrusted, reason; when ok: series
 *                [{metric, unit, better, params}], iters […], options {…}, notes […], workers,
 *                emulated, deterministic, timer_ns, steady [a word for each series]|null,
 *                warmup_ns, clock {window_ns, error_ratio, uncertainty_ratio}, left_out
 *                [{params, reason}], gpu {…} (cvb_gpu_describe)|null.  "untrusted" and
 *                "failed" may follow an "ok" of the same arm and bench in the same attempt: the
 *                last one counts for that attempt's samples
 *   sample       arm, bench, round (from 1), position (place in the round's order, from 1),
 *                start_ns, host_ns (as the host saw it, asking included), duration_ns (by
 *                the arm's own clock), values […] in the order of series (null: not finite),
 *                shortest_ns, steal_ratio|null, steal_ns, throttles|null, swiotlb {nslabs, used,
 *                used_hiwater, full (complaints of the kernel during the sample), max_sectors_kb,
 *                max_segment_size_bytes (of a disk benchmark's disk)}|null; gpu (of
 *                cvb_gpu_health_json)|null; each key where known
 *   round        bench, round: every arm has been measured in it; the fsync point
 *   bench_end    bench: all its rounds are done in this attempt
 *   arm_end      arm, swiotlb {…}|null, reason|null: a non-null reason makes the arm's samples of
 *                this attempt invalid ("bounce arm: the swiotlb pool was never used")
 *   session_end  the session is complete
 *   abort        message: the campaign stopped here; `certify --resume` goes on
 *   campaign_end all sessions are complete, or a planned look decided every gate: then
 *                "stopped_after" has the number of sessions that were measured
 *
 * For each (session, bench) the attempt that reached bench_end counts; before one did, the latest.
 * Within an attempt only rounds with a "round" line count.
 */
#ifndef CVB_CAMPAIGN_JOURNAL_H
#define CVB_CAMPAIGN_JOURNAL_H

#include "core/err.h"

#include <jansson.h>
#include <stdbool.h>

struct cvb_journal;

/* Open for appending; created when absent.  A torn last line (a crash while writing) is cut off. */
CVB_MUST_CHECK int cvb_journal_open(struct cvb_journal **ret, const char *path,
				    struct cvb_err *err);

/* Does it hold no line yet? */
bool cvb_journal_is_empty(const struct cvb_journal *j);

/* Append one line; takes the reference, also on failure.  A short write is undone (truncated). */
CVB_MUST_CHECK int cvb_journal_add(struct cvb_journal *j, json_t *line, struct cvb_err *err);

/* Make what was appended durable. */
CVB_MUST_CHECK int cvb_journal_sync(struct cvb_journal *j, struct cvb_err *err);

struct cvb_journal *cvb_journal_close(struct cvb_journal *j);

/* Called for each line, in order, with its number from 1; `line` is borrowed.  Non-zero stops. */
typedef int cvb_journal_fn(const json_t *line, size_t number, void *ctx, struct cvb_err *err);

/* Read a journal.  -EBADMSG names file and line of what is not a JSON object; a torn last line is
 * left out silently, since that is what a crash leaves. */
CVB_MUST_CHECK int cvb_journal_read(const char *path, cvb_journal_fn *fn, void *ctx,
				    struct cvb_err *err);

#endif
