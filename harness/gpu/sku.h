/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models of GPUs in confidential VMs: what the virtual clock of the emulator counts with.
 *
 * A model is a file profiles/gpu/NAME.ini: one section [sku] that says what it stands for, and one
 * section for each parameter with its value for cc=off and cc=on, a grade and a source:
 *
 *   measured     the source measured it on this GPU
 *   second-hand  the same, but read in a digest of the source
 *   derived      computed from measurements; the source says how
 *   assumed      taken from another GPU or a data sheet; the source says which
 *
 * A value may be "unknown": nothing is published.  There are no defaults: what needs an unknown
 * value is -EOPNOTSUPP and names the parameter.
 */
#ifndef CVB_GPU_SKU_H
#define CVB_GPU_SKU_H

#include "core/err.h"

#include <stdbool.h>
#include <stdint.h>

enum cvb_sku_grade {
	CVB_SKU_UNKNOWN,
	CVB_SKU_MEASURED,
	CVB_SKU_SECOND_HAND,
	CVB_SKU_DERIVED,
	CVB_SKU_ASSUMED,
};

/* In the order of the table in sku.c.  Four of each of the path parameters: pinned h2d, pinned d2h,
 * pageable h2d, pageable d2h. */
enum cvb_sku_param {
	CVB_SKU_TOLL,				  /* of a copy of no bytes, call to end */
	CVB_SKU_KNEE = CVB_SKU_TOLL + 4,	  /* bytes that have a cost of their own */
	CVB_SKU_KNEE_COST = CVB_SKU_KNEE + 4,	  /* of these, for each */
	CVB_SKU_TAIL = CVB_SKU_KNEE_COST + 4,	  /* bytes after which one costs more */
	CVB_SKU_TAIL_COST = CVB_SKU_TAIL + 4,	  /* that much more */
	CVB_SKU_PAGEABLE = CVB_SKU_TAIL_COST + 4, /* bandwidth: h2d, d2h */
	CVB_SKU_PCIE = CVB_SKU_PAGEABLE + 2,	  /* cc=off: h2d, d2h */
	CVB_SKU_STAGE = CVB_SKU_PCIE + 2,	  /* cc=on: h2d, d2h */
	CVB_SKU_THREADS_MAX = CVB_SKU_STAGE + 2,  /* cc=on: h2d, d2h */
	CVB_SKU_THREADS_HALF = CVB_SKU_THREADS_MAX + 2,
	CVB_SKU_PROCESSES_MAX = CVB_SKU_THREADS_HALF + 2,
	CVB_SKU_PROCESSES_HALF = CVB_SKU_PROCESSES_MAX + 2,
	CVB_SKU_GCM = CVB_SKU_PROCESSES_HALF + 2,
	CVB_SKU_DUPLEX,
	CVB_SKU_COPY_SUBMIT, /* part of the toll: the caller's */
	CVB_SKU_PINNED_ALLOC,
	CVB_SKU_PINNED_ALLOC_COST, /* and for each byte */
	CVB_SKU_DEVICE_ALLOC,
	CVB_SKU_FREE, /* of device and managed memory */
	CVB_SKU_PINNED_FREE,
	CVB_SKU_PINNED_FREE_COST, /* and for each byte */
	CVB_SKU_D2D_SUBMIT,
	CVB_SKU_D2D_FIXED,
	CVB_SKU_HBM,
	CVB_SKU_L2_BYTES,
	CVB_SKU_L2,
	CVB_SKU_LAUNCH,
	CVB_SKU_LAUNCH_BUSY, /* while its stream works */
	CVB_SKU_QUEUE_DELAY,
	CVB_SKU_QUEUE_GAP,
	CVB_SKU_KERNEL_FLOOR,
	CVB_SKU_GRAPH,
	CVB_SKU_GRAPH_NODE, /* and for each piece of work in it */
	CVB_SKU_WAIT,
	CVB_SKU_SYNC_IDLE,
	CVB_SKU_CONTEXT_CREATE,
	CVB_SKU_CONTEXT_DESTROY,
	CVB_SKU_CONTEXT_LIMIT,
	CVB_SKU_PEER,
	CVB_SKU_PEER_LATENCY,
	CVB_SKU_MANAGED_FAULT,
	CVB_SKU_MANAGED_MULTIPLIER,
	CVB_SKU_GEMM,				  /* one for each enum cvb_gpu_type */
	CVB_SKU_HOST_REGISTER = CVB_SKU_GEMM + 7, /* these four: 0 is off, 1 is on */
	CVB_SKU_GPUDIRECT,
	CVB_SKU_MULTICAST,
	CVB_SKU_TRUSTED_EVENTS,
	CVB_SKU_PARAMS, /* how many there are */
};

struct cvb_sku_value {
	double value; /* in the parameter's unit; 0 while unknown */
	enum cvb_sku_grade grade;
	char *source; /* NULL: none was given, for an unknown value only */
};

struct cvb_sku {
	char *name, *gpu, *tee, *cpu, *driver, *summary;
	uint64_t hbm_bytes;
	struct cvb_sku_value v[2][CVB_SKU_PARAMS]; /* cc=off, cc=on */
};

/* Read a model by its name.  -EINVAL names file, line and key of a mistake; caller frees. */
CVB_MUST_CHECK int cvb_sku_load(const char *name, struct cvb_sku **ret, struct cvb_err *err);

/* The same from a text; `path` is what messages call it. */
CVB_MUST_CHECK int cvb_sku_parse(const char *text, const char *path, struct cvb_sku **ret,
				 struct cvb_err *err);

/*
 * Are the values possible together?  -EINVAL says why not, and *ret_param which parameter (an enum
 * cvb_sku_param) is wrong: rates that are none behind a tail, contexts faster than the link, half
 * of a pair, parts of a byte.  The readers above call it.
 */
CVB_MUST_CHECK int cvb_sku_check(const struct cvb_sku *sku, int *ret_param, struct cvb_err *err);

/* Accepts NULL; returns NULL. */
struct cvb_sku *cvb_sku_free(struct cvb_sku *sku);

const char *cvb_sku_param_name(enum cvb_sku_param p);

/* One model as JSON: its header and "parameters"; caller owns it, NULL without memory. */
json_t *cvb_sku_to_json(const struct cvb_sku *sku);

/* The names of the models that are there, sorted and ending with NULL; static. */
const char *const *cvb_sku_names(void);

#endif
