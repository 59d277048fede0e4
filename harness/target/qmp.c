/* SPDX-License-Identifier: Apache-2.0 */
#include "target/qmp.h"

#include "core/log.h"
#include "core/util.h"

#include <errno.h>
#include <string.h>

/* QEMU answers at once unless its main loop is stuck in I/O. */
#define ANSWER_MS  15000
#define MAX_EVENTS 1000

static void note_event(struct cvb_qmp *q, const json_t *line)
{
	const char *event = json_string_value(json_object_get(line, "event"));

	if (!event)
		return;
	cvb_debug("qmp", "event %s", event);
	if (!strcmp(event, "GUEST_PANICKED"))
		q->panicked = true;
}

int cvb_qmp_open(struct cvb_qmp *q, int fd, struct cvb_err *err)
{
	_cleanup_json_ json_t *greeting = NULL;
	int r;

	*q = (struct cvb_qmp){0};
	cvb_wire_init(&q->wire, fd, fd);
	r = cvb_wire_recv(&q->wire, ANSWER_MS, &greeting, err);
	if (r == 0 && !json_object_get(greeting, "QMP"))
		r = cvb_err_set(err, -EPROTO, "no QMP greeting");
	if (r == 0)
		r = cvb_qmp_command(q, "qmp_capabilities", NULL, err);
	if (r < 0) {
		cvb_qmp_close(q);
		return cvb_err_wrap(err, r, "opening QMP");
	}
	return 0;
}

void cvb_qmp_close(struct cvb_qmp *q)
{
	cvb_wire_done(&q->wire);
}

int cvb_qmp_command(struct cvb_qmp *q, const char *name, json_t **ret, struct cvb_err *err)
{
	_cleanup_json_ json_t *request = json_pack("{s:s}", "execute", name);
	int r;

	cvb_debug("qmp", "%s", name);
	r = cvb_wire_send(&q->wire, request, ANSWER_MS, err);
	for (int i = 0; r == 0 && i < MAX_EVENTS; i++) {
		_cleanup_json_ json_t *line = NULL;
		json_t *value;

		r = cvb_wire_recv(&q->wire, ANSWER_MS, &line, err);
		if (r < 0)
			break;
		if ((value = json_object_get(line, "return"))) {
			if (ret)
				*ret = json_incref(value);
			return 0;
		}
		if ((value = json_object_get(line, "error"))) {
			const char *desc = json_string_value(json_object_get(value, "desc"));

			return cvb_err_set(err, -EREMOTEIO, "QEMU refused %s: %s", name,
					   desc ? desc : "no reason");
		}
		note_event(q, line);
	}
	if (r == 0)
		r = cvb_err_set(err, -EPROTO, "QEMU does not answer, only sends events");
	return cvb_err_wrap(err, r, "QMP %s", name);
}

int cvb_qmp_status(struct cvb_qmp *q, char *buf, size_t buf_bytes, struct cvb_err *err)
{
	_cleanup_json_ json_t *ret = NULL;
	const char *status;
	int r = cvb_qmp_command(q, "query-status", &ret, err);

	if (r < 0)
		return r;
	status = json_string_value(json_object_get(ret, "status"));
	snprintf(buf, buf_bytes, "%s", status ? status : "unknown");
	return 0;
}
