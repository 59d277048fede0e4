/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/paths.h"

#include "core/util.h"

#include <errno.h>

#define SEED 1 /* of the data */

const char *const cvb_path_mems[] = {"pinned", "pageable", NULL};

static enum cvb_gpu_mem host_kind(enum cvb_path_mem mem)
{
	return mem == CVB_PATH_PINNED ? CVB_GPU_HOST_PINNED : CVB_GPU_HOST_PAGEABLE;
}

int cvb_paths_init(struct cvb_paths *p, struct cvb_run *run, size_t max_bytes, size_t base_bytes,
		   struct cvb_err *err)
{
	int r = 0;

	*p = (struct cvb_paths){.bytes = cvb_dev_windows_bytes(run->gpu, max_bytes), .run = run};
	for (unsigned i = 0; r == 0 && i < CVB_ARRAY_LEN(p->dev); i++)
		r = cvb_dev_init(&p->dev[i], run->gpu, NULL, p->bytes, base_bytes, SEED, err);
	return r;
}

void cvb_paths_done(struct cvb_paths *p)
{
	for (unsigned dir = 0; dir < CVB_ARRAY_LEN(p->dev); dir++) {
		cvb_dev_done(&p->dev[dir]);
		for (unsigned mem = 0; mem < CVB_PATH_MEMS; mem++)
			p->path[dir][mem].dst = cvb_gpu_free(p->path[dir][mem].dst);
	}
	for (unsigned mem = 0; mem < CVB_PATH_MEMS; mem++)
		p->host_src[mem] = cvb_gpu_free(p->host_src[mem]);
	p->device_src = cvb_gpu_free(p->device_src);
}

/* A buffer that holds the data; once for all paths that read it. */
static int make_source(struct cvb_paths *p, enum cvb_gpu_mem kind, struct cvb_gpu_buf **ret,
		       struct cvb_err *err)
{
	struct cvb_dev *d = &p->dev[CVB_GPU_H2D];
	int r;

	if (*ret)
		return 0;
	r = cvb_dev_alloc(d, kind, p->bytes, ret, err);
	if (r == 0) /* its content is undefined */
		r = cvb_dev_clear(d, *ret, p->bytes, err);
	if (r == 0)
		r = cvb_dev_fill(d, *ret, p->bytes, err);
	if (r < 0) /* the next one to ask is told the same */
		*ret = cvb_gpu_free(*ret);
	return r;
}

int cvb_paths_make(struct cvb_paths *p, enum cvb_gpu_dir dir, enum cvb_path_mem mem,
		   struct cvb_err *err)
{
	struct cvb_path *path = &p->path[dir][mem];
	bool in = dir == CVB_GPU_H2D;
	struct cvb_gpu_buf **src = in ? &p->host_src[mem] : &p->device_src;
	int r;

	if (path->dst)
		return 0;
	r = make_source(p, in ? host_kind(mem) : CVB_GPU_DEVICE, src, err);
	if (r == 0)
		r = cvb_dev_alloc(&p->dev[dir], in ? CVB_GPU_DEVICE : host_kind(mem), p->bytes,
				  &path->dst, err);
	path->src = *src;
	if (r == 0)
		r = cvb_dev_clear(&p->dev[dir], path->dst, p->bytes, err);
	if (r < 0)
		path->dst = cvb_gpu_free(path->dst);
	return r;
}

struct fit {
	struct cvb_paths *p;
	struct cvb_run *run;
	size_t base_bytes;
	unsigned paths;
};

static int make_all(void *arg, size_t max_bytes, struct cvb_err *err)
{
	const struct fit *f = arg;
	int r = cvb_paths_init(f->p, f->run, max_bytes, f->base_bytes, err);

	for (unsigned dir = 0; dir < CVB_ARRAY_LEN(f->p->dev); dir++) {
		for (unsigned mem = 0; r == 0 && mem < CVB_PATH_MEMS; mem++) {
			struct cvb_err why = {0};

			if (f->paths & CVB_PATH_BIT(dir, mem))
				r = cvb_paths_make(f->p, (enum cvb_gpu_dir)dir,
						   (enum cvb_path_mem)mem, &why);
			if (r == -EOPNOTSUPP)
				r = 0;
			if (r < 0 && err)
				*err = why;
		}
	}
	return r;
}

static void unmake_all(void *arg)
{
	const struct fit *f = arg;

	cvb_paths_done(f->p);
}

int cvb_paths_fit(struct cvb_paths *p, struct cvb_run *run, struct cvb_dev_sizes *sizes,
		  unsigned paths, struct cvb_err *err)
{
	struct fit f = {p, run, sizes->bytes[0], paths};

	return cvb_dev_fit(run, sizes, make_all, unmake_all, &f, err);
}

int cvb_paths_issue(struct cvb_paths *p, enum cvb_gpu_dir dir, enum cvb_path_mem mem, uint64_t i,
		    size_t bytes, struct cvb_gpu_buf *host, struct cvb_err *err)
{
	struct cvb_path *path = &p->path[dir][mem];
	struct cvb_gpu_stream *stream = p->dev[dir].stream;
	size_t at = (size_t)i * bytes;

	if (host && dir == CVB_GPU_D2H)
		return cvb_gpu_copy_async(stream, host, 0, path->src, at, bytes, err);
	path->done_bytes = cvb_max(path->done_bytes, at + bytes);
	return host ? cvb_gpu_copy_async(stream, path->dst, at, host, 0, bytes, err)
		    : cvb_gpu_copy_async(stream, path->dst, at, path->src, at, bytes, err);
}

int cvb_paths_copies(struct cvb_paths *p, enum cvb_gpu_dir dir, enum cvb_path_mem mem, size_t bytes,
		     uint64_t iters, struct cvb_err *err)
{
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < iters; i++) {
		r = cvb_paths_issue(p, dir, mem, i, bytes, NULL, err);
		/* also after a failure: nothing may be in flight on return */
		int synced = cvb_gpu_sync(p->dev[dir].stream, r < 0 ? NULL : err);

		r = r < 0 ? r : synced;
	}
	return r;
}

static int check(struct cvb_paths *p, struct cvb_err *err)
{
	int r = 0;

	for (unsigned dir = 0; dir < CVB_ARRAY_LEN(p->dev); dir++) {
		for (unsigned mem = 0; r == 0 && mem < CVB_PATH_MEMS; mem++) {
			struct cvb_path *path = &p->path[dir][mem];
			size_t bytes = path->done_bytes;
			char what[64];

			if (!bytes)
				continue;
			path->done_bytes = 0;
			snprintf(what, sizeof(what), "%s %s %s", p->run->bench->name,
				 cvb_gpu_dir_text((enum cvb_gpu_dir)dir), cvb_path_mems[mem]);
			r = cvb_dev_after(&p->dev[dir], path->dst, bytes, p->trial, what, err);
		}
	}
	return r;
}

void cvb_paths_look(struct cvb_paths *p)
{
	struct cvb_err err = {0};

	if (p->bad.r == 0)
		cvb_dev_keep(&p->bad, check(p, &err), &err);
	p->trial = p->run->trial;
}

int cvb_paths_verify(struct cvb_paths *p, struct cvb_err *err)
{
	int r = cvb_dev_kept(&p->bad, err);

	return r < 0 ? r : check(p, err);
}

static void forget(struct cvb_paths *p)
{
	for (unsigned dir = 0; dir < CVB_ARRAY_LEN(p->dev); dir++)
		for (unsigned mem = 0; mem < CVB_PATH_MEMS; mem++)
			p->path[dir][mem].done_bytes = 0;
}

int cvb_paths_tried(struct cvb_paths *p, struct cvb_run *run, int r, const struct cvb_err *why,
		    json_t *params, struct cvb_err *err)
{
	char text[CVB_ERR_MSG_BYTES];

	if (r == 0)
		cvb_paths_look(p);
	forget(p);
	if (r == -EOPNOTSUPP) {
		if (!p->first_reason.n)
			p->first_reason = *why;
		cvb_err_text(why, text, sizeof(text));
		cvb_run_leave_out(run, params, "%s", text);
		return 1;
	}
	json_decref(params);
	if (r < 0 && err)
		*err = *why;
	return r;
}

int cvb_paths_any(const struct cvb_paths *p, const struct cvb_run *run, struct cvb_err *err)
{
	if (run->n_cases || !p->first_reason.n)
		return 0; /* the runner tells of a benchmark without cases */
	if (err)
		*err = p->first_reason;
	return -EOPNOTSUPP;
}
