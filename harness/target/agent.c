/* SPDX-License-Identifier: Apache-2.0 */
#include "target/agent.h"

#include "core/clock.h"
#include "core/file.h"
#include "core/proc.h"
#include "core/util.h"
#include "machine/fingerprint.h"
#include "machine/swiotlb.h"
#include "measure/runner.h"
#include "target/wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/wait.h>

#define REPLY_TIMEOUT_MS 60000
#define EXEC_TIMEOUT_MS	 3600000u
#define EXEC_MAX_BYTES	 (1u << 20)

struct agent {
	struct cvb_wire wire;
	struct cvb_runner *runner; /* the open benchmark or NULL */
	json_t *setup_args;	   /* kept: the runner borrows texts from it */
	uint64_t swiotlb_full;	   /* of all samples since setup */
	bool ending;
};

typedef int agent_op(struct agent *a, const json_t *args, json_t **ret, struct cvb_err *err);

static const char *text_arg(const json_t *args, const char *key)
{
	return json_string_value(json_object_get(args, key));
}

static uint64_t count_arg(const json_t *args, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(args, key));

	return v > 0 ? (uint64_t)v : 0;
}

static int need_runner(const struct agent *a, struct cvb_err *err)
{
	return a->runner ? 0 : cvb_err_set(err, -EINVAL, "no benchmark is set up");
}

static void drop_runner(struct agent *a)
{
	a->runner = cvb_runner_close(a->runner);
	json_decref(a->setup_args);
	a->setup_args = NULL;
	a->swiotlb_full = 0;
}

/* JSON must be UTF-8; what a program prints, or a path, need not be. */
static json_t *lossy_text(char *text)
{
	json_t *j = json_string(text);

	if (j)
		return j;
	for (char *p = text; *p; p++)
		if (*p & 0x80)
			*p = '?';
	return json_string(text);
}

static int op_fingerprint(struct agent *a, const json_t *args, json_t **ret, struct cvb_err *err)
{
	(void)a;
	(void)args;
	(void)err;
	*ret = cvb_fingerprint();
	return 0;
}

static json_t *series_json(const struct cvb_runner *r, const struct cvb_bench *bench)
{
	size_t n;
	const struct cvb_series *s = cvb_runner_series(r, &n);
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_pack("{s:s+++, s:O?}", "metric", bench->name, "/",
						      s[i].metric->name, "", "params",
						      (json_t *)(uintptr_t)s[i].params));
	return list;
}

static int op_setup(struct agent *a, const json_t *args, json_t **ret, struct cvb_err *err)
{
	const char *name = text_arg(args, "bench");
	const struct cvb_bench *bench;
	int r;

	drop_runner(a);
	bench = cvb_bench_find(name ? name : "", err);
	if (!bench)
		return -EINVAL;
	a->setup_args = json_deep_copy(args);

	struct cvb_runner_opts opts = {.options = json_object_get(a->setup_args, "options"),
				       .gpu = text_arg(a->setup_args, "gpu"),
				       .peer = text_arg(a->setup_args, "peer"),
				       .disk = text_arg(a->setup_args, "disk"),
				       .threads = (unsigned)count_arg(args, "threads"),
				       .sample_ns = count_arg(args, "sample_ns")};

	r = cvb_runner_open(&a->runner, bench, &opts, err);
	if (r < 0)
		return r;
	*ret = json_pack("{s:o, s:I, s:i, s:I, s:o, s:b, s:b, s:O, s:O, s:o*}", "series",
			 series_json(a->runner, bench), "cases",
			 (json_int_t)cvb_runner_cases(a->runner), "workers",
			 (int)cvb_runner_workers(a->runner), "timer_ns",
			 (json_int_t)cvb_runner_timer_ns(a->runner), "options",
			 cvb_runner_options(a->runner), "emulated", cvb_runner_emulated(a->runner),
			 "deterministic", cvb_runner_deterministic(a->runner), "notes",
			 (json_t *)(uintptr_t)cvb_runner_notes(a->runner), "left_out",
			 (json_t *)(uintptr_t)cvb_runner_left_out(a->runner), "gpu",
			 cvb_runner_gpu(a->runner));
	return 0;
}

static int op_calibrate(struct agent *a, const json_t *args, json_t **ret, struct cvb_err *err)
{
	_cleanup_free_ uint64_t *iters = NULL;
	json_t *list;
	size_t n;
	int r = need_runner(a, err);

	(void)args;
	if (r < 0)
		return r;
	n = cvb_runner_cases(a->runner);
	iters = calloc(n, sizeof(*iters));
	if (!iters)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cvb_runner_calibrate(a->runner, iters, err);
	if (r < 0)
		return r;
	list = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_integer((json_int_t)iters[i]));
	*ret = json_pack("{s:o}", "iters", list);
	return 0;
}

/* The iteration counts of a request into fresh memory of one entry a case. */
static int take_iters(const struct agent *a, const json_t *args, uint64_t **ret,
		      struct cvb_err *err)
{
	const json_t *list = json_object_get(args, "iters");
	size_t cases = cvb_runner_cases(a->runner);
	_cleanup_free_ uint64_t *iters = NULL;

	if (json_array_size(list) != cases)
		return cvb_err_set(err, -EINVAL, "expected %zu iteration counts", cases);
	iters = calloc(cases, sizeof(*iters));
	if (!iters)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < cases; i++) {
		json_int_t v = json_integer_value(json_array_get(list, i));

		if (v < 1)
			return cvb_err_set(err, -EINVAL, "iteration count %zu is not positive", i);
		iters[i] = (uint64_t)v;
	}
	*ret = CVB_TAKE(iters);
	return 0;
}

/* Warm up and tell each series how its case took it; null where nothing is to be warmed up. */
static int op_warm_up(struct agent *a, const json_t *args, json_t **ret, struct cvb_err *err)
{
	_cleanup_free_ struct cvb_warmup *w = NULL;
	_cleanup_free_ uint64_t *iters = NULL;
	const struct cvb_series *series;
	json_t *steady;
	uint64_t ns = 0;
	size_t n;
	int r = need_runner(a, err);

	if (r < 0)
		return r;
	if (!cvb_runner_warms_up(a->runner)) {
		*ret = json_pack("{s:n, s:I}", "steady", "warmup_ns", (json_int_t)0);
		return 0;
	}
	r = take_iters(a, args, &iters, err);
	if (r < 0)
		return r;
	w = calloc(cvb_runner_cases(a->runner), sizeof(*w));
	if (!w)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cvb_runner_warm_up(a->runner, iters, count_arg(args, "budget_ns"), w, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < cvb_runner_cases(a->runner); i++)
		ns += w[i].ns;
	steady = json_array();
	series = cvb_runner_series(a->runner, &n);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(steady,
				      json_string(cvb_steady_name(w[series[i].case_index].state)));
	*ret = json_pack("{s:o, s:I}", "steady", steady, "warmup_ns", (json_int_t)ns);
	return 0;
}

/* This side's clock, for the host to hold against its own. */
static int op_clock(struct agent *a, const json_t *args, json_t **ret, struct cvb_err *err)
{
	(void)a;
	(void)args;
	(void)err;
	*ret = json_pack("{s:I}", "now_ns", (json_int_t)cvb_now_ns());
	return 0;
}

static json_t *finite_or_null(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

/* The runner's notes, and ours about a pool that ran out.  New reference. */
static json_t *notes_with_full(struct agent *a, const json_t *swiotlb)
{
	json_int_t full = json_integer_value(json_object_get(swiotlb, "full"));
	json_t *notes = json_copy((json_t *)(uintptr_t)cvb_runner_notes(a->runner));

	a->swiotlb_full += full > 0 ? (uint64_t)full : 0;
	if (notes && a->swiotlb_full)
		json_array_append_new(
			notes, json_sprintf("the kernel said at least %" PRIu64
					    " times that the swiotlb buffer is full: transfers "
					    "waited for room",
					    a->swiotlb_full));
	return notes ? notes : json_array();
}

static int op_sample(struct agent *a, const json_t *args, json_t **ret, struct cvb_err *err)
{
	_cleanup_free_ uint64_t *iters = NULL;
	struct cvb_swiotlb_watch watch;
	struct cvb_sample s = {0};
	size_t n;
	int r = need_runner(a, err);

	if (r == 0)
		r = take_iters(a, args, &iters, err);
	if (r < 0)
		return r;
	cvb_runner_series(a->runner, &n);
	s.value = calloc(n, sizeof(*s.value));
	s.ns = calloc(cvb_runner_cases(a->runner), sizeof(*s.ns));
	if (!s.value || !s.ns)
		r = cvb_err_set(err, -ENOMEM, "out of memory");
	cvb_swiotlb_watch_start(&watch);

	uint64_t start_ns = cvb_now_ns();

	if (r == 0)
		r = cvb_runner_sample(a->runner, iters, &s, err);

	uint64_t duration_ns = cvb_now_ns() - start_ns;
	_cleanup_json_ json_t *swiotlb = cvb_swiotlb_watch_end(&watch, cvb_runner_disk(a->runner));

	if (r == 0) {
		json_t *values = json_array();

		for (size_t i = 0; i < n; i++)
			json_array_append_new(values, finite_or_null(s.value[i]));
		*ret = json_pack(
			"{s:o, s:I, s:I, s:o, s:I, s:o, s:O, s:o, s:o}", "values", values,
			"duration_ns", (json_int_t)duration_ns, "shortest_ns",
			(json_int_t)s.shortest_ns, "steal_ratio",
			s.health.steal_ratio < 0 ? json_null() : json_real(s.health.steal_ratio),
			"steal_ns", (json_int_t)s.health.steal_ns, "throttles",
			s.health.throttles < 0 ? json_null() : json_integer(s.health.throttles),
			"swiotlb", swiotlb, "notes", notes_with_full(a, swiotlb), "gpu",
			cvb_gpu_health_json(&s.gpu_before, &s.gpu_after));
	}
	free(s.value);
	free(s.ns);
	return r;
}

static int op_verify(struct agent *a, const json_t *args, json_t **ret, struct cvb_err *err)
{
	int r = need_runner(a, err);

	(void)args;
	if (r == 0)
		r = cvb_runner_verify(a->runner, err);
	if (r == 0)
		*ret = json_object();
	return r;
}

static int op_teardown(struct agent *a, const json_t *args, json_t **ret, struct cvb_err *err)
{
	(void)args;
	(void)err;
	drop_runner(a);
	*ret = json_object();
	return 0;
}

static int op_swiotlb(struct agent *a, const json_t *args, json_t **ret, struct cvb_err *err)
{
	(void)a;
	(void)args;
	(void)err;
	*ret = json_pack("{s:o}", "swiotlb", cvb_swiotlb());
	return 0;
}

/* Run a program here, for `vm run`: an argv, never a shell; output cut at EXEC_MAX_BYTES. */
static int op_exec(struct agent *a, const json_t *args, json_t **ret, struct cvb_err *err)
{
	const json_t *words = json_object_get(args, "argv");
	size_t n = json_array_size(words);
	_cleanup_free_ const char **argv = calloc(n + 1, sizeof(*argv));
	_cleanup_free_ char *out = NULL, *errors = NULL;
	int status, r;

	(void)a;
	if (!argv)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		argv[i] = json_string_value(json_array_get(words, i));
		if (!argv[i])
			return cvb_err_set(err, -EINVAL, "exec: argv[%zu] is not a text", i);
	}
	if (!n)
		return cvb_err_set(err, -EINVAL, "exec: empty argv");
	r = cvb_proc_run(argv, EXEC_TIMEOUT_MS, EXEC_MAX_BYTES, &out, &errors, &status, err);
	if (r < 0)
		return r;
	*ret = json_pack("{s:o, s:o, s:i}", "stdout", lossy_text(out), "stderr", lossy_text(errors),
			 "status",
			 WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return 0;
}

static int op_exit(struct agent *a, const json_t *args, json_t **ret, struct cvb_err *err)
{
	(void)args;
	(void)err;
	a->ending = true;
	*ret = json_object();
	return 0;
}

static const struct {
	const char *name;
	agent_op *fn;
} ops[] = {
	{"fingerprint", op_fingerprint},
	{"setup", op_setup},
	{"calibrate", op_calibrate},
	{"warm_up", op_warm_up},
	{"clock", op_clock},
	{"sample", op_sample},
	{"verify", op_verify},
	{"teardown", op_teardown},
	{"swiotlb", op_swiotlb},
	{"exec", op_exec},
	{"exit", op_exit},
};

static int dispatch(struct agent *a, const json_t *request, json_t **ret, struct cvb_err *err)
{
	const char *op = text_arg(request, "op");

	for (size_t i = 0; op && i < CVB_ARRAY_LEN(ops); i++)
		if (!strcmp(ops[i].name, op))
			return ops[i].fn(a, json_object_get(request, "args"), ret, err);
	return cvb_err_set(err, -EINVAL, "unknown request \"%.40s\"", op ? op : "");
}

static int answer(struct agent *a, const json_t *request, struct cvb_err *err)
{
	json_t *id = json_object_get(request, "id"), *result = NULL;
	_cleanup_json_ json_t *reply = NULL;
	struct cvb_err why = {0};
	char text[CVB_ERR_FRAMES * CVB_ERR_MSG_BYTES];
	int r = dispatch(a, request, &result, &why);

	if (r < 0) {
		cvb_err_text(&why, text, sizeof(text));
		reply = json_pack("{s:O?, s:b, s:{s:s, s:s}}", "id", id, "ok", 0, "error", "errno",
				  cvb_errno_name(r), "text", text);
	} else {
		reply = json_pack("{s:O?, s:b, s:o}", "id", id, "ok", 1, "result", result);
	}
	if (!reply)
		return cvb_err_set(err, -ENOMEM, "cannot build a reply");
	return cvb_wire_send(&a->wire, reply, REPLY_TIMEOUT_MS, err);
}

int cvb_agent_serve(int rfd, int wfd, struct cvb_err *err)
{
	struct agent a = {0};
	_cleanup_json_ json_t *ready = json_pack("{s:b, s:i, s:o}", "ready", 1, "protocol",
						 CVB_AGENT_PROTOCOL, "tool", cvb_tool_json());
	int r;

	cvb_wire_init(&a.wire, rfd, wfd);
	r = cvb_wire_send(&a.wire, ready, REPLY_TIMEOUT_MS, err);
	while (r == 0 && !a.ending) {
		json_t *request;

		r = cvb_wire_recv(&a.wire, CVB_WIRE_FOREVER, &request, err);
		if (r < 0)
			break;
		r = answer(&a, request, err);
		json_decref(request);
	}
	drop_runner(&a);
	cvb_wire_done(&a.wire);
	if (r == -EPIPE || r == -EINTR) {
		/* the host is done with us: the ordinary end */
		cvb_err_clear(err);
		r = 0;
	}
	return r;
}

int cvb_agent_open_port(const char *name, int *ret_fd, struct cvb_err *err)
{
	const char *dir = "/sys/class/virtio-ports";
	DIR *d = opendir(dir);
	struct dirent *e;
	int fd = -1;

	while (d && fd < 0 && (e = readdir(d))) {
		char path[512], text[128];

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s/name", dir, e->d_name);
		if (cvb_file_read_line(path, text, sizeof(text)) < 0 || strcmp(text, name) != 0)
			continue;
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			int r = -errno;

			closedir(d);
			return cvb_err_set(err, r, "cannot open %s: %s", path, strerror(-r));
		}
	}
	if (d)
		closedir(d);
	if (fd < 0)
		return cvb_err_set(err, -ENODEV, "no virtio-serial port named %s in %s", name, dir);
	*ret_fd = fd;
	return 0;
}
