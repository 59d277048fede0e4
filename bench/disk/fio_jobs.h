/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which jobs one invocation of fio runs: the table of jobs, crossed with the engines and with
 * direct and buffered I/O that the options ask for.
 */
#ifndef CVB_BENCH_DISK_FIO_JOBS_H
#define CVB_BENCH_DISK_FIO_JOBS_H

#include "measure/bench.h"

#define CVB_FIO_MAX_CELLS 64

struct cvb_fio_job {
	const char *name; /* the word of option `jobs` */
	const char *rw;	  /* fio's word for the pattern */
	uint64_t block_bytes;
	unsigned depth;
	bool reads, writes;
	bool fsync;   /* after every write */
	bool unasked; /* runs when option `jobs` is not given */
};

/* How transfers reach the kernel; order of cvb_fio_engine_names. */
enum cvb_fio_engine {
	CVB_FIO_LIBAIO,
	CVB_FIO_IO_URING,
	CVB_FIO_PSYNC,
	CVB_FIO_ENGINES,
};

extern const char *const cvb_fio_engine_names[CVB_FIO_ENGINES + 1];

/* Order of cvb_fio_direct_names. */
enum cvb_fio_direct {
	CVB_FIO_DIRECT_ON,
	CVB_FIO_DIRECT_OFF,
	CVB_FIO_DIRECT_BOTH,
};

extern const char *const cvb_fio_direct_names[];

/* One job as fio runs it. */
struct cvb_fio_cell {
	const struct cvb_fio_job *job;
	enum cvb_fio_engine engine;
	bool direct;
	char name[64]; /* fio's job name; tells it from every other cell */
};

struct cvb_fio_plan {
	struct cvb_fio_cell cell[CVB_FIO_MAX_CELLS];
	size_t n;
	bool writes; /* some job does */
	bool direct; /* some job bypasses the page cache */
};

struct cvb_fio_choice {
	const char *jobs;    /* "NAME,…"; NULL: those that run unasked */
	const char *engines; /* "NAME,…", or "all": libaio and io_uring, as far as both run here */
	int direct;	     /* enum cvb_fio_direct */
};

/*
 * Make the plan.  What is left out unasked goes to run's notes with the reason.
 * -EINVAL: an unknown or doubled word, or nothing to run.  -EOPNOTSUPP: an engine that was named
 * does not run here.  `fio` is the program.
 */
CVB_MUST_CHECK int cvb_fio_plan(struct cvb_fio_plan *plan, struct cvb_run *run,
				const struct cvb_fio_choice *choice, const char *fio,
				struct cvb_err *err);

#endif
