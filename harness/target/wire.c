/* SPDX-License-Identifier: Apache-2.0 */
#include "target/wire.h"

#include "core/clock.h"
#include "core/stop.h"
#include "core/util.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define LOOK_MS	   100
#define HANG_UP_MS 1000

void cvb_wire_init(struct cvb_wire *w, int rfd, int wfd)
{
	*w = (struct cvb_wire){.rfd = rfd, .wfd = wfd};
}

void cvb_wire_done(struct cvb_wire *w)
{
	if (w->rfd >= 0)
		close(w->rfd);
	if (w->wfd >= 0 && w->wfd != w->rfd)
		close(w->wfd);
	free(w->buf);
	*w = (struct cvb_wire){.rfd = -1, .wfd = -1};
}

void cvb_wire_sanitise(char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

/* Wait until fd is ready, in steps short enough to notice a stop request or a death. */
static int wait_ready(struct cvb_wire *w, int fd, short events, uint64_t deadline_ns,
		      struct cvb_err *err)
{
	for (;;) {
		uint64_t now_ns = cvb_now_ns();
		struct pollfd p = {.fd = fd, .events = events};
		int r;

		if (cvb_stop_requested())
			return cvb_err_set(err, -EINTR, "interrupted");
		if (now_ns >= deadline_ns)
			return cvb_err_set(err, -ETIMEDOUT, "no answer in time");
		r = poll(&p, 1,
			 (int)cvb_min((deadline_ns - now_ns) / CVB_NS_PER_MS + 1,
				      (uint64_t)LOOK_MS));
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return cvb_err_set(err, -errno, "poll: %s", strerror(errno));
		r = w->alive ? w->alive(w->alive_ctx, err) : 0;
		if (r < 0)
			return r;
	}
}

static uint64_t deadline_after(unsigned timeout_ms)
{
	return timeout_ms == CVB_WIRE_FOREVER ? UINT64_MAX
					      : cvb_now_ns() + timeout_ms * CVB_NS_PER_MS;
}

/* The stream ended.  Whoever watches the process behind it learns of its death a moment later than
 * we do of the closed stream, and can tell why: give it that moment. */
static int hung_up(struct cvb_wire *w, int code, struct cvb_err *err)
{
	for (unsigned waited_ms = 0; w->alive && waited_ms < HANG_UP_MS; waited_ms += 10) {
		int r = w->alive(w->alive_ctx, err);

		if (r < 0)
			return r;
		cvb_sleep_ms(10);
	}
	return cvb_err_set(err, code, "the other side closed the connection");
}

int cvb_wire_send(struct cvb_wire *w, const json_t *obj, unsigned timeout_ms, struct cvb_err *err)
{
	_cleanup_free_ char *text = json_dumps(obj, JSON_COMPACT | JSON_REAL_PRECISION(15));
	uint64_t deadline_ns = deadline_after(timeout_ms);
	size_t at = 0, len;

	if (!text)
		return cvb_err_set(err, -ENOMEM, "cannot encode a message");
	len = strlen(text);
	text[len++] = '\n'; /* in place of the terminator: what is sent has a known length */
	while (at < len) {
		int r = wait_ready(w, w->wfd, POLLOUT, deadline_ns, err);

		if (r < 0)
			return r;
		/* not to block on a peer that stopped reading in the middle of a line */
		ssize_t n = send(w->wfd, text + at, len - at, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == ENOTSOCK)
			n = write(w->wfd, text + at, len - at);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return hung_up(w, -EPIPE, err);
		if (n < 0)
			return cvb_err_set(err, -errno, "cannot send: %s", strerror(errno));
		at += (size_t)n;
	}
	return 0;
}

/* Hand out the first complete line of the buffer; 1 if there was one. */
static int take_line(struct cvb_wire *w, json_t **ret, struct cvb_err *err)
{
	char *nl = memchr(w->buf + w->scanned, '\n', w->used - w->scanned);
	json_error_t why;
	size_t len;

	w->scanned = w->used;
	if (!nl)
		return 0;
	len = (size_t)(nl - w->buf);
	*ret = json_loadb(w->buf, len, JSON_REJECT_DUPLICATES, &why);
	if (*ret && !json_is_object(*ret)) {
		json_decref(*ret);
		*ret = NULL;
		snprintf(why.text, sizeof(why.text), "not an object");
	}
	if (!*ret) {
		char shown[61];

		snprintf(shown, sizeof(shown), "%.*s", (int)cvb_min(len, (size_t)60), w->buf);
		cvb_wire_sanitise(shown);
		cvb_wire_sanitise(why.text);
		return cvb_err_set(err, -EBADMSG, "not a JSON object (%s): \"%s\"", why.text,
				   shown);
	}
	w->used -= len + 1;
	memmove(w->buf, nl + 1, w->used);
	w->scanned = 0;
	return 1;
}

static int fill(struct cvb_wire *w, struct cvb_err *err)
{
	if (w->used == w->room) {
		size_t want = w->room ? w->room * 2 : 65536;
		char *bigger;

		if (w->used >= CVB_WIRE_MAX_LINE)
			return cvb_err_set(err, -EBADMSG, "a line is longer than %u bytes",
					   CVB_WIRE_MAX_LINE);
		bigger = realloc(w->buf, want);
		if (!bigger)
			return cvb_err_set(err, -ENOMEM, "out of memory");
		w->buf = bigger;
		w->room = want;
	}
	ssize_t n = read(w->rfd, w->buf + w->used, w->room - w->used);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return hung_up(w, -EPIPE, err);
	if (n < 0)
		return cvb_err_set(err, -errno, "cannot receive: %s", strerror(errno));
	w->used += (size_t)n;
	return 0;
}

int cvb_wire_recv(struct cvb_wire *w, unsigned timeout_ms, json_t **ret, struct cvb_err *err)
{
	uint64_t deadline_ns = deadline_after(timeout_ms);

	*ret = NULL;
	for (;;) {
		int r = w->used > w->scanned ? take_line(w, ret, err) : 0;

		if (r < 0)
			return r;
		if (r > 0)
			return 0;
		r = wait_ready(w, w->rfd, POLLIN, deadline_ns, err);
		if (r == 0)
			r = fill(w, err);
		if (r < 0)
			return r;
	}
}
