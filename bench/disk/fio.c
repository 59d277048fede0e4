/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk.fio: fio keeps the time; this file runs all jobs in one invocation and reads the figures
 * back.  Where fio may write is decided in disk/place.c.
 */
#include "core/proc.h"
#include "core/util.h"
#include "disk/fio_jobs.h"
#include "disk/fio_parse.h"
#include "disk/place.h"
#include "measure/bench.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define MAX_OUTPUT_BYTES (8 * CVB_MIB)

enum metric {
	M_IOPS,
	M_BANDWIDTH,
	M_CLAT_MEAN,
	M_CLAT_P50,
	M_CLAT_P99,
	M_CLAT_P999,
	M_FSYNC_MEAN,
	M_FSYNC_P50,
	M_FSYNC_P99,
	M_FSYNC_P999,
	M_CPU,
};

#define RANGE(from, to) ((1U << ((to) + 1)) - (1U << (from)))

#define LATENCY(id, text)                                                                          \
	{                                                                                          \
		.name = id, .kind = CVB_REPORTED, .better = CVB_LOWER_IS_BETTER, .unit = "ns",     \
		.help = text                                                                       \
	}

static const struct cvb_metric metrics[] = {
	[M_IOPS] = {.name = "iops",
		    .kind = CVB_REPORTED,
		    .better = CVB_HIGHER_IS_BETTER,
		    .unit = "ops_per_s",
		    .help = "completed transfers a second"},
	[M_BANDWIDTH] = {.name = "bandwidth",
			 .kind = CVB_REPORTED,
			 .better = CVB_HIGHER_IS_BETTER,
			 .unit = "bytes_per_s",
			 .help = "bytes moved a second"},
	[M_CLAT_MEAN] = LATENCY("clat_mean", "mean time from submission to completion"),
	[M_CLAT_P50] = LATENCY("clat_p50", "median time from submission to completion"),
	[M_CLAT_P99] = LATENCY("clat_p99", "99th percentile of submission to completion"),
	[M_CLAT_P999] = LATENCY("clat_p999", "99.9th percentile of submission to completion"),
	[M_FSYNC_MEAN] = LATENCY("fsync_mean", "mean time of an fsync after one write"),
	[M_FSYNC_P50] = LATENCY("fsync_p50", "median time of an fsync after one write"),
	[M_FSYNC_P99] = LATENCY("fsync_p99", "99th percentile of an fsync after one write"),
	[M_FSYNC_P999] = LATENCY("fsync_p999", "99.9th percentile of an fsync after one write"),
	[M_CPU] = {.name = "cpu",
		   .kind = CVB_REPORTED,
		   .better = CVB_LOWER_IS_BETTER,
		   .unit = "ratio",
		   .help = "user and system time of the submitting thread / run time, 1 = one CPU"},
	{.name = NULL},
};

struct fio_conf {
	uint64_t size_bytes;
	uint64_t runtime_ms;
	uint64_t ramp_ms;
	int direct; /* enum cvb_fio_direct */
	char *engines;
	char *jobs;
	char *path;
	char *device_confirm;
};

static const struct cvb_opt opts[] = {
	{.name = "size",
	 .type = CVB_OPT_SIZE,
	 .offset = offsetof(struct fio_conf, size_bytes),
	 .min = 8 << 20,
	 .max = 1LL << 50,
	 .def = "256MiB",
	 .unit = "bytes",
	 .help = "how much of the disk is used; at most what a device has"},
	{.name = "runtime_ms",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct fio_conf, runtime_ms),
	 .min = 100,
	 .max = 3600000,
	 .def = "500",
	 .unit = "ms",
	 .help = "length of each job"},
	{.name = "ramp_ms",
	 .type = CVB_OPT_U64,
	 .offset = offsetof(struct fio_conf, ramp_ms),
	 .min = 0,
	 .max = 600000,
	 .def = "100",
	 .unit = "ms",
	 .help = "run each job this long before fio counts"},
	{.name = "ioengine",
	 .type = CVB_OPT_STR,
	 .offset = offsetof(struct fio_conf, engines),
	 .def = "libaio",
	 .arg = "NAME[,NAME…]",
	 .help = "how fio submits: libaio, io_uring, psync (jobs of depth 1 only); all: libaio and "
		 "io_uring as far as they run here"},
	{.name = "direct",
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct fio_conf, direct),
	 .def = "on",
	 .choices = cvb_fio_direct_names,
	 .help = "O_DIRECT; off measures the page cache too, both runs every job either way"},
	{.name = "jobs",
	 .type = CVB_OPT_STR,
	 .offset = offsetof(struct fio_conf, jobs),
	 .arg = "NAME[,NAME…]",
	 .help = "which jobs: randread-4k-1 randread-4k-32 randwrite-4k-1 randwrite-4k-32 "
		 "read-128k-128 write-128k-128 mixed-4k-32 fsync-4k-1, which is the default, and "
		 "read-128k-32 write-128k-32"},
	{.name = "path",
	 .type = CVB_OPT_STR,
	 .offset = offsetof(struct fio_conf, path),
	 .arg = "PATH",
	 .help = "folder, block device, or plain file to be read only, instead of the target's "
		 "disk"},
	{.name = "device_confirm",
	 .type = CVB_OPT_STR,
	 .offset = offsetof(struct fio_conf, device_confirm),
	 .arg = "DEVICE",
	 .help = "the device's path once more: what is on it may be destroyed"},
	CVB_OPT_END,
};

struct fio_state {
	char *fio; /* the program */
	struct cvb_place place;
	unsigned runs; /* completed */
	struct cvb_fio_plan plan;
	struct cvb_fio_want want[2 * CVB_FIO_MAX_CELLS]; /* one a case, in order */
	size_t n_want;
};

/* --- cases ----------------------------------------------------------------------------------- */

static json_t *params_of(const struct cvb_fio_cell *c, bool write)
{
	json_t *params =
		json_pack("{s:s, s:I, s:i, s:s, s:i}", "rw", c->job->rw, "block_bytes",
			  (json_int_t)c->job->block_bytes, "depth", (int)c->job->depth, "engine",
			  cvb_fio_engine_names[c->engine], "direct", (int)c->direct);

	if (c->job->reads && c->job->writes)
		json_object_set_new(params, "dir", json_string(write ? "write" : "read"));
	if (c->job->fsync)
		json_object_set_new(params, "fsync", json_integer(1));
	return params;
}

/* A mixed job has two cases; what belongs to the job as a whole is told with its reads. */
static int add_case(struct cvb_run *run, struct fio_state *s, const struct cvb_fio_cell *c,
		    bool write, struct cvb_err *err)
{
	struct cvb_case k = {.metrics = RANGE(M_IOPS, M_CLAT_P999), .params = params_of(c, write)};

	if (!write || !c->job->reads)
		k.metrics |= 1U << M_CPU;
	if (c->job->fsync)
		k.metrics |= RANGE(M_FSYNC_MEAN, M_FSYNC_P999);
	s->want[s->n_want++] = (struct cvb_fio_want){.job = c->name,
						     .write = write,
						     .fsync = c->job->fsync,
						     .block_bytes = c->job->block_bytes,
						     .depth = c->job->depth};
	return cvb_run_add_case(run, &k, err);
}

static int add_cases(struct cvb_run *run, struct fio_state *s, struct cvb_err *err)
{
	int r = 0;

	for (size_t i = 0; i < s->plan.n && r >= 0; i++) {
		const struct cvb_fio_cell *c = &s->plan.cell[i];

		if (c->job->reads)
			r = add_case(run, s, c, false, err);
		if (c->job->writes && r >= 0)
			r = add_case(run, s, c, true, err);
	}
	return r < 0 ? r : 0;
}

/* --- hooks ----------------------------------------------------------------------------------- */

static int fio_supported(const struct cvb_run *run, struct cvb_err *err)
{
	_cleanup_free_ char *fio = cvb_program_find("fio", "fio", err);

	(void)run;
	return fio ? 0 : -EOPNOTSUPP;
}

static int fio_setup(struct cvb_run *run, struct cvb_err *err)
{
	const struct fio_conf *conf = run->conf;
	const struct cvb_fio_choice choice = {
		.jobs = conf->jobs, .engines = conf->engines, .direct = conf->direct};
	struct cvb_place_want want = {.path = conf->path ? conf->path : run->disk,
				      .bytes = conf->size_bytes,
				      .confirm = conf->device_confirm};
	struct fio_state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	s->place = CVB_PLACE_NONE;
	run->state = s;
	s->fio = cvb_program_find("fio", "fio", err);
	if (!s->fio)
		return -EOPNOTSUPP;
	r = cvb_fio_plan(&s->plan, run, &choice, s->fio, err);
	if (r < 0)
		return r;
	want.direct = s->plan.direct;
	want.writes = s->plan.writes;
	r = cvb_place_open(&s->place, run, &want, err);
	if (r < 0)
		return r;
	run->disk = s->place.path;
	return add_cases(run, s, err);
}

static void add_cell_argv(struct cvb_argv *a, const struct cvb_fio_cell *c)
{
	cvb_argv_addf(a, "--name=%s", c->name);
	cvb_argv_add(a, "--stonewall");
	cvb_argv_addf(a, "--rw=%s", c->job->rw);
	cvb_argv_addf(a, "--bs=%" PRIu64, c->job->block_bytes);
	cvb_argv_addf(a, "--iodepth=%u", c->job->depth);
	cvb_argv_addf(a, "--ioengine=%s", cvb_fio_engine_names[c->engine]);
	cvb_argv_addf(a, "--direct=%d", c->direct);
	if (c->job->reads && c->job->writes)
		cvb_argv_add(a, "--rwmixread=70");
	if (c->job->fsync)
		cvb_argv_add(a, "--fsync=1");
	else if (c->job->writes && !c->direct)
		/* else the next job would share the disk with what this one left in the cache */
		cvb_argv_add(a, "--end_fsync=1");
}

static int build_argv(const struct cvb_run *run, const struct fio_state *s, struct cvb_argv *a,
		      struct cvb_err *err)
{
	const struct fio_conf *conf = run->conf;

	cvb_argv_add(a, s->fio);
	cvb_argv_add(a, "--output-format=json+");
	cvb_argv_add(a, "--eta=never");
	if (s->place.read_only)
		cvb_argv_add(a, "--readonly");
	/* threads share fio's tables; processes would be forked with them */
	cvb_argv_add(a, "--thread=1");
	cvb_argv_add(a, "--exitall_on_error=1");
	cvb_argv_add(a, "--percentile_list=50:99:99.9");
	/* not by name: what was checked and is held is this file or device, whatever its path names
	 * by now */
	cvb_argv_addf(a, "--filename=/proc/%d/fd/%d", (int)getpid(), s->place.fd);
	cvb_argv_add(a, "--allow_file_create=0");
	cvb_argv_addf(a, "--offset=%" PRIu64, s->place.offset);
	cvb_argv_addf(a, "--size=%" PRIu64, s->place.bytes);
	/* the same blocks in every arm, others in every sample */
	cvb_argv_addf(a, "--randseed=%u", 1000 + s->runs);
	cvb_argv_add(a, "--time_based=1");
	cvb_argv_addf(a, "--runtime=%" PRIu64 "ms", conf->runtime_ms);
	if (conf->ramp_ms)
		cvb_argv_addf(a, "--ramp_time=%" PRIu64 "ms", conf->ramp_ms);
	for (size_t i = 0; i < s->plan.n; i++)
		add_cell_argv(a, &s->plan.cell[i]);
	return cvb_argv_check(a, err);
}

static int run_fio(const struct cvb_run *run, const struct fio_state *s,
		   struct cvb_fio_result *results, struct cvb_err *err)
{
	const struct fio_conf *conf = run->conf;
	_cleanup_free_ char *text = NULL, *messages = NULL;
	/* generous: an emulated CPU is twenty times slower, and a lost fio must still end */
	uint64_t planned_ms = s->plan.n * (conf->runtime_ms + conf->ramp_ms);
	struct cvb_argv a = {0};
	char status_text[64], complaint[200];
	int r, status = 0;

	r = build_argv(run, s, &a, err);
	if (r == 0)
		r = cvb_place_recheck(&s->place, err);
	if (r == 0)
		r = cvb_proc_run((const char *const *)a.v, (unsigned)(10 * planned_ms + 30000),
				 MAX_OUTPUT_BYTES, &text, &messages, &status, err);
	cvb_argv_done(&a);
	if (r < 0)
		return r;
	r = cvb_fio_parse(text, messages, s->want, s->n_want, results, err);
	if (r == 0 && status) {
		cvb_fio_complaint(messages, text, complaint, sizeof(complaint));
		r = cvb_err_set(err, -EIO, "fio ended with %s%s%s",
				cvb_proc_status_text(status, status_text, sizeof(status_text)),
				*complaint ? ": " : "", complaint);
	}
	return r;
}

static void report_latency(struct cvb_run *run, size_t c, unsigned first,
			   const struct cvb_fio_latency *l)
{
	cvb_run_report(run, c, first, l->mean_ns);
	cvb_run_report(run, c, first + 1, l->p50_ns);
	cvb_run_report(run, c, first + 2, l->p99_ns);
	cvb_run_report(run, c, first + 3, l->p999_ns);
}

static int fio_measure(struct cvb_run *run, struct cvb_err *err)
{
	struct fio_state *s = run->state;
	_cleanup_free_ struct cvb_fio_result *results = calloc(s->n_want, sizeof(*results));
	int r;

	if (!results)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = run_fio(run, s, results, err);
	if (r < 0)
		return r;
	s->runs++;
	for (size_t i = 0; i < s->n_want; i++) {
		cvb_run_report(run, i, M_IOPS, results[i].iops);
		cvb_run_report(run, i, M_BANDWIDTH, results[i].bandwidth_bytes_per_s);
		report_latency(run, i, M_CLAT_MEAN, &results[i].clat);
		if (run->cases[i].metrics & (1U << M_CPU))
			cvb_run_report(run, i, M_CPU, results[i].cpu_ratio);
		if (s->want[i].fsync)
			report_latency(run, i, M_FSYNC_MEAN, &results[i].fsync);
	}
	return 0;
}

static int fio_verify(struct cvb_run *run, struct cvb_err *err)
{
	const struct fio_state *s = run->state;

	return cvb_place_verify(&s->place, s->runs, err);
}

static void fio_done(struct cvb_run *run)
{
	struct fio_state *s = run->state;

	if (!s)
		return;
	cvb_place_done(&s->place);
	free(s->fio);
	free(s);
	run->state = NULL;
}

static const struct cvb_bench disk_fio = {
	.abi = CVB_BENCH_ABI,
	.struct_size = sizeof(struct cvb_bench),
	.name = "disk.fio",
	.summary = "disk I/O through fio: 4 KiB random, 128 KiB sequential, mixed, fsync",
	.doc = "disk.fio.md",
	.flags = CVB_BENCH_NEEDS_DISK,
	.mode = CVB_MODE_SELF_TIMED,
	.opts = opts,
	.conf_size = sizeof(struct fio_conf),
	.metrics = metrics,
	.params = (const char *const[]){"rw", "block_bytes", "depth", "engine", "direct", "dir",
					"fsync", NULL},
	.supported = fio_supported,
	.setup = fio_setup,
	.measure = fio_measure,
	.verify = fio_verify,
	.done = fio_done,
};
CVB_BENCH(disk_fio);
