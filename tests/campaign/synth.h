/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Synthetic journals for tests: arms native, aa (native again) and vm, benchmark mem.stream with
 * metrics copy and triad, values by formula.
 */
#ifndef CVB_TESTS_SYNTH_H
#define CVB_TESTS_SYNTH_H

#include "core/util.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct synth {
	unsigned sessions;
	unsigned rounds;
	double vm_ratio;       /* vm / native of triad; copy is always at 1 */
	double vm_wobble;      /* sessions differ by plus and minus this, in turn (log) */
	double vm_late_wobble; /* from session 7 on, instead; 0: none */
	double aa_ratio;       /* aa / native */
	double aa_wobble;
	unsigned aa_from;	    /* it holds from this session on, 1 before */
	double steal_ratio;	    /* of every vm sample */
	unsigned stolen_rounds;	    /* of each session's first rounds: the host took 5 % from vm */
	double stolen_factor;	    /* vm's values in these rounds times this; 0: 1 */
	unsigned stolen_session;    /* it holds in this session only; 0: all */
	unsigned throttled_rounds;  /* and a throttle counter of native moved in so many */
	bool throttled_gpu;	    /* its GPU's, and not its CPU's */
	bool devtools;		    /* vm's GPU is in devtools mode */
	double late_factor;	    /* vm's value in the round of late_s times this; 0: 1 */
	double late_s;		    /* vm's clock counts so much more than the host's; < 0: less */
	double gap_s;		    /* vm begins its sample so long after native; 0: 1 s */
	double round_s;		    /* from round to round; 0: 10 s */
	const char *vm_steady;	    /* warm-up of vm's triad; NULL: "steady" */
	unsigned unsteady_sessions; /* vm_steady holds for so many sessions; 0: all */
	double vm_clock_error;	    /* of vm's clock, known to 1e-5 */
	const char *vm_left_out;    /* reason for which vm leaves kind=fancy out; NULL: nothing */
	double vm_timer_ns;	    /* 0: 50; the shortest batch takes 2 ms */
	const char *accel;	    /* of vm; NULL: "kvm" */
	const char *vm_unsupported; /* reason; the arm does not run ... */
	unsigned unsupported_from;  /* ... from this session on; 0: ever */
	const char *vm_outcome;	    /* a bench line of this outcome follows the samples */
	const char *vm_arm_end;	    /* reason */
	const char *text;      /* hostile text: vm's kernel, a note and a parameter; JSON-escaped */
	unsigned stop_session; /* the journal stops in this session, after round 1; 0: never */
	const char *better;    /* "higher" by default */
	unsigned bad_session;  /* 0: 1 */
	unsigned aa_sessions;  /* aa has samples in so many sessions; 0: all */
	unsigned aa_workers;
	unsigned bad_round; /* session 1: triad of vm in this round is `bad_value`; 0: none */
	const char *bad_value;
	unsigned vm_workers;	    /* 2 by default, like the others */
	unsigned vm_change_session; /* from this session on vm has ... */
	unsigned vm_change_workers; /* so many threads, and these options; 0, NULL: as before */
	const char *vm_change_options;
	bool deterministic; /* a virtual clock timed all arms */
};

#define SYNTH_SERIES                                                                               \
	"\"series\":[{\"metric\":\"mem.stream/copy\",\"unit\":\"bytes_per_s\",\"better\":\"%s\","  \
	"\"params\":null},{\"metric\":\"mem.stream/triad\",\"unit\":\"bytes_per_s\","              \
	"\"better\":\"%s\",\"params\":{\"threads\":2,\"kind\":\"%s\"}}]"

static inline void synth_campaign(FILE *f, const struct synth *c)
{
	fprintf(f,
		"{\"type\":\"campaign\",\"schema\":\"cvmbench.journal/1\",\"profile\":\"synth\","
		"\"seed\":7,\"sessions\":%u,\"rounds\":%u,\"started\":\"2026-01-31T12:00:00Z\","
		"\"tool\":{\"name\":\"cvmbench\",\"version\":\"0\",\"compiler\":\"gcc\"},"
		"\"arms\":[{\"name\":\"native\",\"target\":\"local\",\"aa_of\":null,\"gpu\":null,"
		"\"bounce\":false,\"tee\":\"none\"},{\"name\":\"aa\",\"target\":\"local\","
		"\"aa_of\":\"native\"},{\"name\":\"vm\",\"target\":\"qemu\"}],"
		"\"benches\":[{\"name\":\"mem.stream\",\"arms\":[\"native\",\"aa\",\"vm\"],"
		"\"rounds\":%u}]}\n",
		c->sessions, c->rounds, c->rounds);
}

static inline bool synth_vm_runs(const struct synth *c, unsigned session)
{
	return !c->vm_unsupported || session < c->unsupported_from;
}

static inline void synth_arms(FILE *f, const struct synth *c, unsigned session)
{
	static const char *const names[] = {"native", "aa", "vm"};

	for (int a = 0; a < 3; a++) {
		fprintf(f, "{\"type\":\"arm\",\"session\":%u,\"attempt\":1,\"arm\":\"%s\",",
			session, names[a]);
		if (a == 2 && !synth_vm_runs(c, session)) {
			fprintf(f, "\"state\":\"unsupported\",\"reason\":\"%s\"}\n",
				c->vm_unsupported);
			continue;
		}
		fprintf(f,
			"\"state\":\"ready\",\"labels\":{\"target\":\"%s\",\"accel\":%s%s%s,"
			"\"tee\":\"none\",\"bounce\":false,\"emulated\":false},"
			"\"environment\":{\"kernel\":\"%s\",\"cpu\":{\"model\":\"Z80\"}},"
			"\"boot_ns\":%d}\n",
			a == 2 ? "qemu" : "local", a == 2 ? "\"" : "",
			a == 2 ? (c->accel ? c->accel : "kvm") : "null", a == 2 ? "\"" : "",
			a == 2 && c->text ? c->text : "6.1", a == 2 ? 1000000 : 0);
	}
}

static inline void synth_rounds(FILE *f, const struct synth *c, unsigned session)
{
	static const char *const names[] = {"native", "aa", "vm"};
	double sign = session % 2 ? 1 : -1;

	for (unsigned r = 1; r <= c->rounds; r++) {
		double base = 1e10 * (1 + 0.1 * r); /* drift that pairing takes out */
		bool stolen = r <= c->stolen_rounds &&
			      (!c->stolen_session || session == c->stolen_session);
		const double factor[] = {
			1, (session < c->aa_from ? 1 : c->aa_ratio) * exp(sign * c->aa_wobble),
			c->vm_ratio *
				exp(sign * (session > 6 && c->vm_late_wobble > 0 ? c->vm_late_wobble
										 : c->vm_wobble)) *
				(stolen && c->stolen_factor > 0 ? c->stolen_factor : 1) *
				(r == 1 && c->late_factor > 0 ? c->late_factor : 1)};

		for (int a = 0; a < (synth_vm_runs(c, session) ? 3 : 2); a++) {
			char triad[40];

			if (a == 1 && c->aa_sessions && session > c->aa_sessions)
				continue;

			snprintf(triad, sizeof(triad), "%.17g", base * factor[a]);
			if (a == 2 && session == (c->bad_session ? c->bad_session : 1) &&
			    r == c->bad_round)
				snprintf(triad, sizeof(triad), "%s", c->bad_value);
			fprintf(f,
				"{\"type\":\"sample\",\"session\":%u,\"attempt\":1,\"arm\":\"%s\","
				"\"bench\":\"mem.stream\",\"round\":%u,\"position\":%d,"
				"\"start_ns\":%.0f,\"host_ns\":5000000000,\"duration_ns\":%.0f,\"values\":[%.17g,%s],"
				"\"shortest_ns\":2000000,\"steal_ratio\":%g,\"steal_ns\":%u,"
				"\"throttles\":%s,\"swiotlb\":null,\"gpu\":%s}\n",
				session, names[a], r, a + 1,
				1e13 * session + 1e9 * r * (c->round_s > 0 ? c->round_s : 10) +
					1e9 * a * (c->gap_s > 0 ? c->gap_s : 1),
				4.9e9 + (a == 2 && r == 1 ? 1e9 * c->late_s : 0),
				base * (1 + (a ? sign * 1e-11 : 0)), triad,
				a != 2	 ? 0
				: stolen ? 0.05
					 : c->steal_ratio,
				a == 2 && stolen ? 30000000 : 0,
				a						? "null"
				: r <= c->throttled_rounds && !c->throttled_gpu ? "3"
										: "0",
				a || !c->throttled_gpu ? "null"
				: r <= c->throttled_rounds
					? "{\"slow\":[\"heat\"],\"throttled\":true}"
					: "{\"slow\":[\"power\"],"
					  "\"throttled\":false}");
		}
		fprintf(f,
			"{\"type\":\"round\",\"session\":%u,\"attempt\":1,\"bench\":\"mem.stream\","
			"\"round\":%u}\n",
			session, r);
		if (session == c->stop_session)
			return;
	}
}

static inline void synth_session(FILE *f, const struct synth *c, unsigned session)
{
	static const char *const names[] = {"native", "aa", "vm"};
	const char *better = c->better ? c->better : "higher";

	fprintf(f, "{\"type\":\"session\",\"session\":%u,\"attempt\":1}\n", session);
	synth_arms(f, c, session);
	for (int a = 0; a < (synth_vm_runs(c, session) ? 3 : 2); a++) {
		bool changed = a == 2 && c->vm_change_session && session >= c->vm_change_session;

		fprintf(f,
			"{\"type\":\"bench\",\"session\":%u,\"attempt\":1,\"arm\":\"%s\","
			"\"bench\":\"mem.stream\",\"outcome\":\"ok\",\"reason\":null," SYNTH_SERIES
			","
			"\"iters\":[1,2],\"options\":{%s},\"notes\":[\"%s\"],\"workers\":%u,"
			"\"emulated\":false,\"deterministic\":%s,\"timer_ns\":%.0f,"
			"\"steady\":[\"too-few\",\"%s\"],\"warmup_ns\":5,"
			"\"clock\":{\"window_ns\":2000000000,\"error_ratio\":%g,"
			"\"uncertainty_ratio\":1e-5},\"left_out\":[%s%s%s],"
			"\"gpu\":%s}\n",
			session, names[a], better, better, c->text ? c->text : "plain",
			changed && c->vm_change_options ? c->vm_change_options : "",
			c->text ? c->text : "fine",
			changed && c->vm_change_workers ? c->vm_change_workers
			: a == 1 && c->aa_workers	? c->aa_workers
			: a == 2 && c->vm_workers	? c->vm_workers
							: 2,
			c->deterministic ? "true" : "false",
			a == 2 && c->vm_timer_ns > 0 ? c->vm_timer_ns : 50,
			a == 2 && c->vm_steady &&
					(!c->unsteady_sessions || session <= c->unsteady_sessions)
				? c->vm_steady
				: "steady",
			a == 2 ? c->vm_clock_error : 0,
			a == 2 && c->vm_left_out ? "{\"params\":{\"kind\":\"fancy\"},\"reason\":\""
						 : "",
			a == 2 && c->vm_left_out ? c->vm_left_out : "",
			a == 2 && c->vm_left_out ? "\"}" : "",
			a == 2 && c->devtools ? "{\"cc\":{\"devtools\":\"on\"}}"
					      : "{\"cc\":{\"devtools\":\"off\"}}");
	}
	synth_rounds(f, c, session);
	if (session == c->stop_session)
		return;
	if (c->vm_outcome)
		fprintf(f,
			"{\"type\":\"bench\",\"session\":%u,\"attempt\":1,\"arm\":\"vm\","
			"\"bench\":\"mem.stream\",\"outcome\":\"%s\",\"reason\":\"sums differ\"}\n",
			session, c->vm_outcome);
	fprintf(f,
		"{\"type\":\"bench_end\",\"session\":%u,\"attempt\":1,\"bench\":\"mem.stream\"}\n",
		session);
	if (c->vm_arm_end)
		fprintf(f,
			"{\"type\":\"arm_end\",\"session\":%u,\"attempt\":1,\"arm\":\"vm\","
			"\"swiotlb\":null,\"reason\":\"%s\"}\n",
			session, c->vm_arm_end);
	fprintf(f, "{\"type\":\"session_end\",\"session\":%u,\"attempt\":1}\n", session);
}

/* Write a whole journal.  Zero fields of `c` mean: 6 sessions, 2 rounds, ratios 1. */
static inline void synth_write(const char *path, struct synth c)
{
	FILE *f = fopen(path, "we");

	c.sessions = c.sessions ? c.sessions : 6;
	c.rounds = c.rounds ? c.rounds : 2;
	c.vm_ratio = c.vm_ratio > 0 ? c.vm_ratio : 1;
	c.aa_ratio = c.aa_ratio > 0 ? c.aa_ratio : 1;
	/* no machine repeats itself to the last bit */
	c.vm_wobble = c.vm_wobble > 0 ? c.vm_wobble : 1e-11;
	c.aa_wobble = c.aa_wobble > 0 ? c.aa_wobble : 1e-11;
	if (!f)
		return;
	synth_campaign(f, &c);
	for (unsigned s = 1; s <= c.sessions; s++) {
		synth_session(f, &c, s);
		if (s == c.stop_session) {
			fprintf(f,
				"{\"type\":\"abort\",\"session\":%u,\"attempt\":1,"
				"\"message\":\"guest was killed\"}\n",
				s);
			break;
		}
	}
	if (!c.stop_session)
		fprintf(f, "{\"type\":\"campaign_end\",\"session\":%u,\"attempt\":1}\n",
			c.sessions);
	fclose(f);
}

#endif
