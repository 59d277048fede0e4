/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line protocol's framing: one JSON object a line, over any pair of file descriptors.
 *
 * The other side is not trusted: a line is at most CVB_WIRE_MAX_LINE bytes, must be one JSON object
 * in UTF-8 without duplicate keys, and waiting always has an end.  QMP speaks the same framing.
 */
#ifndef CVB_TARGET_WIRE_H
#define CVB_TARGET_WIRE_H

#include "core/err.h"

#include <jansson.h>
#include <stddef.h>

#define CVB_WIRE_MAX_LINE (4u << 20)
#define CVB_WIRE_FOREVER  (~0u)

struct cvb_wire {
	int rfd, wfd; /* may be the same; closed by cvb_wire_done */
	char *buf;    /* bytes read and not yet handed out */
	size_t used, room;
	size_t scanned; /* of buf, known to hold no newline */
	/* Asked about every 100 ms of waiting: 0 go on, <0 give up with that error.  May be NULL.
	 */
	int (*alive)(void *ctx, struct cvb_err *err);
	void *alive_ctx;
};

/* Takes the descriptors over; wfd may equal rfd. */
void cvb_wire_init(struct cvb_wire *w, int rfd, int wfd);
void cvb_wire_done(struct cvb_wire *w);

/* Send one object as one line.  -ETIMEDOUT, -EPIPE, -EINTR (stop requested) or the alive hook's. */
CVB_MUST_CHECK int cvb_wire_send(struct cvb_wire *w, const json_t *obj, unsigned timeout_ms,
				 struct cvb_err *err);

/* Receive one object (new reference).  -ETIMEDOUT, -EBADMSG (not an object, too long), -EPIPE at
 * end of stream, -EINTR, or the alive hook's. */
CVB_MUST_CHECK int cvb_wire_recv(struct cvb_wire *w, unsigned timeout_ms, json_t **ret,
				 struct cvb_err *err);

/* Replace control characters and bytes above ASCII by '?' in place: for text from the other side
 * that goes to a terminal or a log. */
void cvb_wire_sanitise(char *text);

#endif
