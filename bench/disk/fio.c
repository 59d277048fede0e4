/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk.fio: fio keeps the time; this file runs all jobs in one invocation and reads the figures
 * back.  Where fio may write is decided in disk/place.c.
 */
#include "core/proc.h"
#include "core/util.h"
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
};

#define ALL_METRICS ((1U << (M_CLAT_P99 + 1)) - 1)

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
	[M_CLAT_MEAN] = {.name = "clat_mean",
			 .kind = CVB_REPORTED,
			 .better = CVB_LOWER_IS_BETTER,
			 .unit = "ns",
			 .help = "mean time from submission to completion"},
	[M_CLAT_P50] = {.name = "clat_p50",
			.kind = CVB_REPORTED,
			.better = CVB_LOWER_IS_BETTER,
			.unit = "ns",
			.help = "median time from submission to completion"},
	[M_CLAT_P99] = {.name = "clat_p99",
			.kind = CVB_REPORTED,
			.better = CVB_LOWER_IS_BETTER,
			.unit = "ns",
			.help = "99th percentile of the time from submission to completion"},
	{.name = NULL},
};

struct fio_job {
	const char *name; /* the word of option `jobs`, and fio's job name */
	const char *rw;
	bool write;
	uint64_t block_bytes;
	unsigned depth;
};

static const struct fio_job job_table[] = {
	{"randread-4k-1", "randread", false, 4096, 1},
	{"randread-4k-32", "randread", false, 4096, 32},
	{"randwrite-4k-1", "randwrite", true, 4096, 1},
	{"randwrite-4k-32", "randwrite", true, 4096, 32},
	{"read-128k-32", "read", false, 131072, 32},
	{"write-128k-32", "write", true, 131072, 32},
};

#define N_JOBS CVB_ARRAY_LEN(job_table)

enum engine {
	ENGINE_LIBAIO,
	ENGINE_IO_URING,
	ENGINE_PSYNC,
};

static const char *const engine_names[] = {"libaio", "io_uring", "psync", NULL};

struct fio_conf {
	uint64_t size_bytes;
	uint64_t runtime_ms;
	uint64_t ramp_ms;
	int engine; /* enum engine */
	bool direct;
	char *jobs;
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
	 .def = "1000",
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
	 .type = CVB_OPT_CHOICE,
	 .offset = offsetof(struct fio_conf, engine),
	 .def = "libaio",
	 .choices = engine_names,
	 .help = "how fio submits; psync runs the jobs of depth 1 only"},
	{.name = "direct",
	 .type = CVB_OPT_FLAG,
	 .offset = offsetof(struct fio_conf, direct),
	 .def = "on",
	 .help = "O_DIRECT; off measures the page cache too"},
	{.name = "jobs",
	 .type = CVB_OPT_STR,
	 .offset = offsetof(struct fio_conf, jobs),
	 .arg = "NAME[,NAME…]",
	 .help = "which jobs, in this order; default all: randread-4k-1 randread-4k-32 "
		 "randwrite-4k-1 randwrite-4k-32 read-128k-32 write-128k-32"},
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
	const struct fio_job *jobs[N_JOBS];
	struct cvb_fio_want want[N_JOBS];
	size_t n_jobs;
};

/* --- which jobs ------------------------------------------------------------------------------ */

static int add_job(struct fio_state *s, const struct fio_job *j, struct cvb_err *err)
{
	for (size_t i = 0; i < s->n_jobs; i++)
		if (s->jobs[i] == j)
			return cvb_err_set(err, -EINVAL, "jobs: %s is named twice", j->name);
	s->want[s->n_jobs] = (struct cvb_fio_want){.job = j->name,
						   .write = j->write,
						   .block_bytes = j->block_bytes,
						   .depth = j->depth};
	s->jobs[s->n_jobs++] = j;
	return 0;
}

static const struct fio_job *find_job(const char *name, struct cvb_err *err)
{
	const char *names[N_JOBS + 1] = {NULL};
	const char *near;

	for (size_t i = 0; i < N_JOBS; i++) {
		if (!strcmp(name, job_table[i].name))
			return &job_table[i];
		names[i] = job_table[i].name;
	}
	near = cvb_nearest(name, names);
	cvb_err_set(err, -EINVAL, "jobs: there is no job \"%s\"; did you mean %s?", name,
		    near ? near : job_table[0].name);
	return NULL;
}

static int choose_jobs(struct cvb_run *run, struct fio_state *s, struct cvb_err *err)
{
	const struct fio_conf *conf = run->conf;
	_cleanup_free_ char *list = conf->jobs ? strdup(conf->jobs) : NULL;
	unsigned dropped = 0;

	if (conf->jobs && !list)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < N_JOBS && !conf->jobs; i++) {
		/* a synchronous engine has one transfer in flight, whatever depth says */
		if (conf->engine == ENGINE_PSYNC && job_table[i].depth > 1)
			dropped++;
		else
			cvb_ignore(add_job(s, &job_table[i], NULL)); /* no double can occur */
	}
	for (char *rest = list, *word; (word = strsep(&rest, ","));) {
		const struct fio_job *j = find_job(word, err);

		if (!j)
			return -EINVAL;
		if (conf->engine == ENGINE_PSYNC && j->depth > 1)
			return cvb_err_set(err, -EINVAL,
					   "jobs: %s needs a depth of %u, and ioengine=psync has 1",
					   j->name, j->depth);
		int r = add_job(s, j, err);

		if (r < 0)
			return r;
	}
	if (dropped)
		cvb_run_note(run,
			     "ioengine=psync has a depth of 1: the %u deeper jobs were not run",
			     dropped);
	if (!conf->direct)
		cvb_run_note(run, "direct=off: the page cache is measured together with the disk");
	return 0;
}

static int add_cases(struct cvb_run *run, const struct fio_state *s, struct cvb_err *err)
{
	for (size_t i = 0; i < s->n_jobs; i++) {
		const struct fio_job *j = s->jobs[i];
		struct cvb_case c = {
			.metrics = ALL_METRICS,
			.params = json_pack("{s:s, s:I, s:i}", "rw", j->rw, "block_bytes",
					    (json_int_t)j->block_bytes, "depth", (int)j->depth),
		};
		int r = cvb_run_add_case(run, &c, err);

		if (r < 0)
			return r;
	}
	return 0;
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
	const struct cvb_place_want want = {.bytes = conf->size_bytes,
					    .direct = conf->direct,
					    .device_confirm = conf->device_confirm};
	struct fio_state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	s->place.fd = -1;
	run->state = s;
	s->fio = cvb_program_find("fio", "fio", err);
	if (!s->fio)
		return -EOPNOTSUPP;
	r = choose_jobs(run, s, err);
	if (r == 0)
		r = cvb_place_open(&s->place, run, &want, err);
	if (r == 0)
		r = add_cases(run, s, err);
	return r;
}

static int build_argv(const struct cvb_run *run, const struct fio_state *s, struct cvb_argv *a,
		      struct cvb_err *err)
{
	const struct fio_conf *conf = run->conf;

	cvb_argv_add(a, s->fio);
	cvb_argv_add(a, "--output-format=json+");
	cvb_argv_add(a, "--eta=never");
	/* threads share fio's tables; processes would be forked with them */
	cvb_argv_add(a, "--thread=1");
	cvb_argv_add(a, "--exitall_on_error=1");
	cvb_argv_add(a, "--percentile_list=50:99");
	/* not by name: what was checked and is held is this file or device, whatever its path names
	 * by now */
	cvb_argv_addf(a, "--filename=/proc/%d/fd/%d", (int)getpid(), s->place.fd);
	cvb_argv_add(a, "--allow_file_create=0");
	cvb_argv_addf(a, "--offset=%" PRIu64, s->place.offset);
	cvb_argv_addf(a, "--size=%" PRIu64, s->place.bytes);
	cvb_argv_addf(a, "--ioengine=%s", engine_names[conf->engine]);
	cvb_argv_addf(a, "--direct=%d", conf->direct);
	cvb_argv_add(a, "--norandommap=1");
	/* the same blocks in every arm, others in every sample */
	cvb_argv_addf(a, "--randseed=%u", 1000 + s->runs);
	cvb_argv_add(a, "--time_based=1");
	cvb_argv_addf(a, "--runtime=%" PRIu64 "ms", conf->runtime_ms);
	if (conf->ramp_ms)
		cvb_argv_addf(a, "--ramp_time=%" PRIu64 "ms", conf->ramp_ms);
	for (size_t i = 0; i < s->n_jobs; i++) {
		cvb_argv_addf(a, "--name=%s", s->jobs[i]->name);
		cvb_argv_add(a, "--stonewall");
		cvb_argv_addf(a, "--rw=%s", s->jobs[i]->rw);
		cvb_argv_addf(a, "--bs=%" PRIu64, s->jobs[i]->block_bytes);
		cvb_argv_addf(a, "--iodepth=%u", s->jobs[i]->depth);
	}
	return cvb_argv_check(a, err);
}

static int run_fio(const struct cvb_run *run, const struct fio_state *s,
		   struct cvb_fio_result *results, struct cvb_err *err)
{
	const struct fio_conf *conf = run->conf;
	_cleanup_free_ char *text = NULL, *messages = NULL;
	/* generous: an emulated CPU is twenty times slower, and a lost fio must still end */
	uint64_t planned_ms = s->n_jobs * (conf->runtime_ms + conf->ramp_ms);
	struct cvb_argv a = {0};
	char status_text[64], complaint[200];
	int r, status = 0;

	r = build_argv(run, s, &a, err);
	if (r == 0)
		r = cvb_proc_run((const char *const *)a.v, (unsigned)(10 * planned_ms + 30000),
				 MAX_OUTPUT_BYTES, &text, &messages, &status, err);
	cvb_argv_done(&a);
	if (r < 0)
		return r;
	r = cvb_fio_parse(text, messages, s->want, s->n_jobs, results, err);
	if (r == 0 && status) {
		cvb_fio_complaint(messages, text, complaint, sizeof(complaint));
		r = cvb_err_set(err, -EIO, "fio ended with %s%s%s",
				cvb_proc_status_text(status, status_text, sizeof(status_text)),
				*complaint ? ": " : "", complaint);
	}
	return r;
}

static int fio_measure(struct cvb_run *run, struct cvb_err *err)
{
	struct fio_state *s = run->state;
	struct cvb_fio_result results[N_JOBS];
	int r = run_fio(run, s, results, err);

	if (r < 0)
		return r;
	s->runs++;
	for (size_t i = 0; i < s->n_jobs; i++) {
		cvb_run_report(run, i, M_IOPS, results[i].iops);
		cvb_run_report(run, i, M_BANDWIDTH, results[i].bandwidth_bytes_per_s);
		cvb_run_report(run, i, M_CLAT_MEAN, results[i].clat_mean_ns);
		cvb_run_report(run, i, M_CLAT_P50, results[i].clat_p50_ns);
		cvb_run_report(run, i, M_CLAT_P99, results[i].clat_p99_ns);
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
	.summary = "disk I/O through fio: 4 KiB random and 128 KiB sequential, rates and latency",
	.doc = "disk.fio.md",
	.flags = CVB_BENCH_NEEDS_DISK,
	.mode = CVB_MODE_SELF_TIMED,
	.opts = opts,
	.conf_size = sizeof(struct fio_conf),
	.metrics = metrics,
	.supported = fio_supported,
	.setup = fio_setup,
	.measure = fio_measure,
	.verify = fio_verify,
	.done = fio_done,
};
CVB_BENCH(disk_fio);
