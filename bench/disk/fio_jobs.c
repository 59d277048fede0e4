/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/fio_jobs.h"

#include "core/proc.h"
#include "core/util.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/syscall.h>

#define PROBE_MS    60000u
#define PROBE_BYTES (256 * CVB_KIB)

const char *const cvb_fio_engine_names[] = {"libaio", "io_uring", "psync", NULL};
const char *const cvb_fio_direct_names[] = {"on", "off", "both", NULL};

#define JOB(job, pattern, block, queue, ...)                                                       \
	{                                                                                          \
		.name = job, .rw = pattern, .block_bytes = block, .depth = queue, __VA_ARGS__      \
	}

static const struct cvb_fio_job job_table[] = {
	JOB("randread-4k-1", "randread", 4096, 1, .reads = true, .unasked = true),
	JOB("randread-4k-32", "randread", 4096, 32, .reads = true, .unasked = true),
	JOB("randwrite-4k-1", "randwrite", 4096, 1, .writes = true, .unasked = true),
	JOB("randwrite-4k-32", "randwrite", 4096, 32, .writes = true, .unasked = true),
	JOB("read-128k-32", "read", 131072, 32, .reads = true),
	JOB("read-128k-128", "read", 131072, 128, .reads = true, .unasked = true),
	JOB("write-128k-32", "write", 131072, 32, .writes = true),
	JOB("write-128k-128", "write", 131072, 128, .writes = true, .unasked = true),
	JOB("mixed-4k-32", "randrw", 4096, 32, .reads = true, .writes = true, .unasked = true),
	JOB("fsync-4k-1", "write", 4096, 1, .writes = true, .fsync = true, .unasked = true),
};

#define N_JOBS CVB_ARRAY_LEN(job_table)

/* Words of an option, checked against what there is. */
struct chosen {
	size_t index[N_JOBS];
	size_t n;
};

_Static_assert(N_JOBS >= CVB_FIO_ENGINES, "struct chosen holds engines too");
_Static_assert(N_JOBS *CVB_FIO_ENGINES * 2 <= CVB_FIO_MAX_CELLS, "every cell has room");

static int choose_word(struct chosen *c, const char *option, const char *word,
		       const char *const *names, struct cvb_err *err)
{
	const char *near;

	for (size_t i = 0; names[i]; i++) {
		if (strcmp(word, names[i]) != 0)
			continue;
		for (size_t k = 0; k < c->n; k++)
			if (c->index[k] == i)
				return cvb_err_set(err, -EINVAL, "%s: %s is named twice", option,
						   word);
		c->index[c->n++] = i;
		return 0;
	}
	near = cvb_nearest(word, names);
	return cvb_err_set(err, -EINVAL, "%s: there is no \"%s\"; did you mean %s?", option, word,
			   near ? near : names[0]);
}

static int choose_words(struct chosen *c, const char *option, const char *text,
			const char *const *names, struct cvb_err *err)
{
	_cleanup_free_ char *list = strdup(text);
	int r = 0;

	if (!list)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (char *rest = list, *word; r == 0 && (word = strsep(&rest, ","));)
		r = choose_word(c, option, word, names, err);
	return r;
}

static int choose_jobs(struct chosen *c, const char *text, struct cvb_err *err)
{
	const char *names[N_JOBS + 1] = {NULL};

	for (size_t i = 0; i < N_JOBS; i++) {
		names[i] = job_table[i].name;
		if (!text && job_table[i].unasked)
			c->index[c->n++] = i;
	}
	return text ? choose_words(c, "jobs", text, names, err) : 0;
}

/* Does the kernel let us?  Containers and hardened systems often forbid one of them. */
static int probe_kernel(enum cvb_fio_engine e)
{
	struct io_uring_params params = {0};
	aio_context_t aio = 0;
	long r = 0;

	if (e == CVB_FIO_LIBAIO) {
		r = syscall(SYS_io_setup, 1, &aio);
		if (r == 0)
			syscall(SYS_io_destroy, aio);
	} else if (e == CVB_FIO_IO_URING) {
		r = syscall(SYS_io_uring_setup, 1, &params);
		if (r >= 0)
			close((int)r);
	}
	return r < 0 ? -errno : 0;
}

/* 0, or -EOPNOTSUPP with the reason why an engine does not run here. */
static int probe_engine(enum cvb_fio_engine e, const char *fio, struct cvb_err *err)
{
	const char *name = cvb_fio_engine_names[e];
	_cleanup_free_ char *option = cvb_strf("--enghelp=%s", name), *out = NULL, *errors = NULL;
	const char *const argv[] = {fio, option, NULL};
	int status, r;

	r = probe_kernel(e);
	if (r < 0)
		return cvb_err_set(err, -EOPNOTSUPP, "the kernel refuses %s: %s", name,
				   strerror(-r));
	if (!option)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	r = cvb_proc_run(argv, PROBE_MS, PROBE_BYTES, &out, &errors, &status, err);
	if (r < 0)
		return r;
	/* fio ends with status 0 all the same */
	if (strstr(out, "not found") || strstr(errors, "not found") || strstr(errors, "loadable"))
		return cvb_err_set(err, -EOPNOTSUPP, "%s was built without the engine %s", fio,
				   name);
	return 0;
}

static int choose_engines(struct chosen *c, struct cvb_run *run,
			  const struct cvb_fio_choice *choice, const char *fio, struct cvb_err *err)
{
	bool all = !strcmp(choice->engines, "all");
	struct chosen usable = {0};
	char text[256];
	int r = 0;

	if (all)
		*c = (struct chosen){.index = {CVB_FIO_LIBAIO, CVB_FIO_IO_URING}, .n = 2};
	else
		r = choose_words(c, "ioengine", choice->engines, cvb_fio_engine_names, err);
	for (size_t i = 0; i < c->n && r == 0; i++) {
		struct cvb_err why = {0};

		r = probe_engine((enum cvb_fio_engine)c->index[i], fio, &why);
		if (r == 0) {
			usable.index[usable.n++] = c->index[i];
		} else if (r == -EOPNOTSUPP && all) {
			cvb_err_text(&why, text, sizeof(text));
			cvb_run_leave_out(
				run,
				json_pack("{s:s}", "engine", cvb_fio_engine_names[c->index[i]]),
				"engine=%s: %s", cvb_fio_engine_names[c->index[i]], text);
			r = 0;
		} else if (err) {
			*err = why;
		}
	}
	if (r == 0 && !usable.n)
		r = cvb_err_set(err, -EOPNOTSUPP, "neither libaio nor io_uring runs here");
	*c = usable;
	return r;
}

static void add_cell(struct cvb_fio_plan *plan, const struct cvb_fio_job *job,
		     enum cvb_fio_engine engine, bool direct)
{
	struct cvb_fio_cell *c = &plan->cell[plan->n++];

	*c = (struct cvb_fio_cell){.job = job, .engine = engine, .direct = direct};
	snprintf(c->name, sizeof(c->name), "%s-%s-%s", job->name, cvb_fio_engine_names[engine],
		 direct ? "direct" : "buffered");
	plan->writes |= job->writes;
	plan->direct |= direct;
}

/* All cells of one engine and cache mode; how many jobs it cannot run. */
static unsigned add_cells(struct cvb_fio_plan *plan, const struct chosen *jobs,
			  enum cvb_fio_engine engine, bool direct)
{
	unsigned too_deep = 0;

	for (size_t i = 0; i < jobs->n; i++) {
		const struct cvb_fio_job *j = &job_table[jobs->index[i]];

		/* a synchronous engine has one transfer in flight, whatever depth says */
		if (engine == CVB_FIO_PSYNC && j->depth > 1)
			too_deep++;
		else
			add_cell(plan, j, engine, direct);
	}
	return too_deep;
}

int cvb_fio_plan(struct cvb_fio_plan *plan, struct cvb_run *run,
		 const struct cvb_fio_choice *choice, const char *fio, struct cvb_err *err)
{
	struct chosen jobs = {0}, engines = {0};
	unsigned too_deep = 0;
	int r = choose_jobs(&jobs, choice->jobs, err);

	if (r == 0)
		r = choose_engines(&engines, run, choice, fio, err);
	if (r < 0)
		return r;
	for (size_t e = 0; e < engines.n; e++) {
		if (choice->direct != CVB_FIO_DIRECT_OFF)
			too_deep =
				add_cells(plan, &jobs, (enum cvb_fio_engine)engines.index[e], true);
		if (choice->direct != CVB_FIO_DIRECT_ON)
			too_deep = add_cells(plan, &jobs, (enum cvb_fio_engine)engines.index[e],
					     false);
		if (too_deep && choice->jobs)
			return cvb_err_set(err, -EINVAL,
					   "jobs: ioengine=psync has a depth of 1, and %u of the "
					   "jobs need more",
					   too_deep);
		if (too_deep)
			cvb_run_note(run,
				     "ioengine psync has a depth of 1: the %u deeper jobs were not "
				     "run",
				     too_deep);
	}
	if (choice->direct != CVB_FIO_DIRECT_ON)
		cvb_run_note(run, "buffered jobs measure the page cache together with the disk");
	return 0;
}
