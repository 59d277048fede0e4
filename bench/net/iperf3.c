/* SPDX-License-Identifier: Apache-2.0 */
#include "net/iperf3.h"

#include "core/proc.h"
#include "core/stop.h"
#include "core/util.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define MAX_OUTPUT_BYTES (4 * CVB_MIB)
#define CONNECT_MS	 10000
#define BUSY_TRIES	 25
#define BUSY_NAP_MS	 200
#define BLOCK_BYTES	 131072 /* what iperf3 sends at a time over TCP */

const char *const cvb_iperf3_dir_names[] = {
	[CVB_IPERF3_SEND] = "send",
	[CVB_IPERF3_RECEIVE] = "receive",
	[CVB_IPERF3_BIDIR] = "bidir",
	NULL,
};

int cvb_iperf3_supported(const struct cvb_run *run, struct cvb_err *err)
{
	_cleanup_free_ char *program = cvb_program_find("iperf3", "iperf3", err);

	(void)run;
	return program ? 0 : -EOPNOTSUPP;
}

int cvb_iperf3_new(struct cvb_run *run, struct cvb_err *err)
{
	run->state = calloc(1, sizeof(struct cvb_iperf3));
	return run->state ? 0 : cvb_err_set(err, -ENOMEM, "out of memory");
}

int cvb_iperf3_lists(const struct cvb_iperf3_conf *conf, const char *const *dir_names,
		     struct cvb_list *ret_streams, struct cvb_list *ret_dirs, struct cvb_err *err)
{
	int r = cvb_list_numbers(ret_streams, "streams", conf->streams, 1, CVB_IPERF3_MAX_STREAMS,
				 err);

	return r < 0 ? r : cvb_list_words(ret_dirs, "dir", conf->dirs, dir_names, err);
}

static uint32_t all_metrics(const struct cvb_bench *b)
{
	uint32_t mask = 0;

	for (unsigned i = 0; b->metrics[i].name; i++)
		mask |= UINT32_C(1) << i;
	return mask;
}

int cvb_iperf3_add(struct cvb_run *run, const struct cvb_iperf3_test *test, json_t *params,
		   struct cvb_err *err)
{
	struct cvb_case c = {.metrics = all_metrics(run->bench), .params = params};
	struct cvb_iperf3 *p = run->state;
	int r = cvb_run_add_case(run, &c, err);

	if (r < 0)
		return r;
	CVB_BUG_ON((size_t)r >= CVB_ARRAY_LEN(p->tests));
	p->tests[r] = *test;
	return 0;
}

int cvb_iperf3_open(struct cvb_run *run, struct cvb_err *err)
{
	struct cvb_iperf3 *p = run->state;
	int r;

	p->program = cvb_program_find("iperf3", "iperf3", err);
	if (!p->program)
		return -EOPNOTSUPP;
	if (!run->peer)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "no peer: nobody runs an iperf3 server for this");
	r = cvb_netpeer_parse(&p->peer, run->peer, err);
	if (r < 0)
		return r;
	if (!p->peer.port)
		return cvb_err_set(err, -EOPNOTSUPP,
				   "no iperf3 server: the host has no program \"iperf3\" (Debian "
				   "package iperf3)");
	cvb_netpeer_note(run, &p->peer);
	return 0;
}

void cvb_iperf3_done(struct cvb_run *run)
{
	struct cvb_iperf3 *p = run->state;

	if (!p)
		return;
	cvb_netpeer_done(&p->peer);
	free(p->program);
	free(p);
	run->state = NULL;
}

static void add_number(struct cvb_argv *a, const char *option, uint64_t value)
{
	cvb_argv_add(a, option);
	cvb_argv_addf(a, "%" PRIu64, value);
}

static uint64_t whole_seconds(const struct cvb_iperf3_test *test)
{
	return (test->duration_ms + 999) / 1000;
}

void cvb_iperf3_argv(const struct cvb_iperf3 *p, const struct cvb_iperf3_test *test,
		     struct cvb_argv *a)
{
	cvb_argv_add(a, p->program);
	cvb_argv_add(a, "-c");
	cvb_argv_add(a, p->peer.host);
	add_number(a, "-p", p->peer.port);
	cvb_argv_add(a, "-J");
	add_number(a, "-i", 0);
	add_number(a, "--connect-timeout", CONNECT_MS);
	add_number(a, "-P", test->streams);
	/* iperf3 reads "-t 0.5" as 0, and 0 as for ever */
	if (test->send_bytes)
		add_number(a, "-n", test->send_bytes);
	else
		add_number(a, "-t", whole_seconds(test));
	if (test->window_bytes)
		add_number(a, "-w", test->window_bytes);
	if (test->payload_bytes) {
		cvb_argv_add(a, "-u");
		add_number(a, "-l", test->payload_bytes);
		/* bits; each stream has its own rate, and 0 would be no limit */
		add_number(
			a, "-b",
			test->rate_bytes_per_s
				? cvb_max(test->rate_bytes_per_s * 8 / test->streams, UINT64_C(1))
				: 0);
	}
	if (test->dir == CVB_IPERF3_RECEIVE)
		cvb_argv_add(a, "-R");
	if (test->dir == CVB_IPERF3_BIDIR)
		cvb_argv_add(a, "--bidir");
}

static int run_once(const struct cvb_iperf3 *p, const struct cvb_iperf3_test *test,
		    struct cvb_iperf3_result *ret, struct cvb_err *err)
{
	const struct cvb_iperf3_shape shape = {.bidir = test->dir == CVB_IPERF3_BIDIR,
					       .payload_bytes = test->payload_bytes};
	_cleanup_free_ char *text = NULL, *messages = NULL;
	uint64_t limit_ms = 10000 * whole_seconds(test) + 3 * CONNECT_MS;
	struct cvb_argv a = {0};
	char status_text[64];
	int r, status = 0;

	cvb_iperf3_argv(p, test, &a);
	r = cvb_argv_check(&a, err);
	if (r == 0)
		r = cvb_proc_run((const char *const *)a.v,
				 (unsigned)cvb_min(limit_ms, (uint64_t)UINT32_MAX / 2),
				 MAX_OUTPUT_BYTES, &text, &messages, &status, err);
	cvb_argv_done(&a);
	if (r == -ETIMEDOUT)
		return cvb_err_wrap(err, r,
				    "iperf3 did not come to an end: its server is gone, or "
				    "someone else holds it");
	if (r < 0)
		return r;
	r = cvb_iperf3_parse(text, &shape, ret, err);
	if (r == -EBADMSG && status)
		return cvb_err_wrap(err, r, "iperf3 ended with %s%s%.*s",
				    cvb_proc_status_text(status, status_text, sizeof(status_text)),
				    *messages ? ": " : "", (int)strcspn(messages, "\r\n"),
				    messages);
	return r;
}

/* iperf3 serves one client at a time, and after each it is busy, or does not listen, for a moment.
 */
static bool may_pass(int r)
{
	return r == -EBUSY || r == -ECONNREFUSED;
}

static int run_patiently(const struct cvb_iperf3 *p, const struct cvb_iperf3_test *test,
			 struct cvb_iperf3_result *ret, struct cvb_err *err)
{
	int r = run_once(p, test, ret, err);

	for (unsigned i = 1; i < BUSY_TRIES && may_pass(r) && !cvb_stop_requested(); i++) {
		cvb_sleep_ms(BUSY_NAP_MS);
		r = run_once(p, test, ret, err);
	}
	if (r == -EBUSY)
		r = cvb_err_wrap(err, r, "the server serves someone else, also after %d tries",
				 BUSY_TRIES);
	if (r == -ECONNREFUSED)
		r = cvb_err_wrap(err, -EIO, "the server is gone, also after %d tries", BUSY_TRIES);
	return r < 0 ? cvb_err_wrap(err, r, "%s %s with %s port %u",
				    test->payload_bytes ? "udp" : "tcp",
				    cvb_iperf3_dir_names[test->dir], p->peer.host, p->peer.port)
		     : 0;
}

/* How much data a run of the wanted length moves, by the speed of one of whole seconds. */
static int find_speed(const struct cvb_iperf3 *p, struct cvb_iperf3_test *test, struct cvb_err *err)
{
	struct cvb_iperf3_result res;
	int r = run_patiently(p, test, &res, err);
	double per_s;

	if (r < 0)
		return r;
	per_s = res.bandwidth_bytes_per_s;
	/* iperf3 counts what one direction moves */
	if (test->dir == CVB_IPERF3_BIDIR)
		per_s /= 2;
	test->send_bytes = (uint64_t)fmax(per_s * (double)test->duration_ms / 1000, BLOCK_BYTES);
	return 0;
}

int cvb_iperf3_run(const struct cvb_iperf3 *p, struct cvb_iperf3_test *test,
		   struct cvb_iperf3_result *ret, struct cvb_err *err)
{
	int r = 0;

	/* a UDP receiver would wait for ever for bytes that were lost */
	CVB_BUG_ON(test->payload_bytes && test->duration_ms % 1000);
	if (test->duration_ms % 1000 && !test->send_bytes)
		r = find_speed(p, test, err);
	return r < 0 ? r : run_patiently(p, test, ret, err);
}
