/* SPDX-License-Identifier: Apache-2.0 */
#include "net/rr_conn.h"

#include "core/clock.h"
#include "core/stop.h"
#include "core/util.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define CONNECT_MS	10000
#define TCP_TIMEOUT_MS	10000
#define LOOKS_PER_CLOCK 256
#define PATTERN_STEP	37 /* odd, so that all byte values come */

static int connect_in_time(int fd, const struct addrinfo *to)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	socklen_t len = sizeof(int);
	int code = 0;

	if (connect(fd, to->ai_addr, to->ai_addrlen) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	code = poll(&p, 1, CONNECT_MS);
	if (code <= 0)
		return code < 0 ? -errno : -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0)
		return -errno;
	return -code;
}

static int prepare_socket(const struct cvb_rr_conn *c, int fd)
{
	struct timeval limit = {.tv_sec = c->timeout_ms / 1000,
				.tv_usec = (suseconds_t)(c->timeout_ms % 1000) * 1000};
	int flags = fcntl(fd, F_GETFL), on = 1;

	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
		return -errno;
	if (c->proto == CVB_RR_TCP && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		return -errno;
	return 0;
}

/* One that watches this socket. */
static int open_epoll(int fd)
{
	struct epoll_event e = {.events = EPOLLIN};
	_cleanup_close_ int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0)
		return -errno;
	return CVB_TAKE_FD(epoll_fd);
}

int cvb_rr_open(struct cvb_rr_conn *c, const struct cvb_netpeer *peer, enum cvb_rr_proto proto,
		unsigned timeout_ms, struct cvb_err *err)
{
	const struct addrinfo hints = {.ai_socktype =
					       proto == CVB_RR_TCP ? SOCK_STREAM : SOCK_DGRAM};
	struct addrinfo *to = NULL;
	char port[16];
	int r;

	*c = (struct cvb_rr_conn){.proto = proto, .fd = -1, .epoll_fd = -1};
	c->timeout_ms =
		proto == CVB_RR_TCP ? cvb_max(timeout_ms, (unsigned)TCP_TIMEOUT_MS) : timeout_ms;
	for (size_t i = 0; i < sizeof(c->request); i++)
		c->request[i] = (uint8_t)(i * PATTERN_STEP);
	snprintf(port, sizeof(port), "%u", peer->echo_port);
	r = getaddrinfo(peer->host, port, &hints, &to);
	if (r)
		return cvb_err_set(err, -EIO, "host %s: %s", peer->host, gai_strerror(r));

	_cleanup_close_ int fd =
		socket(to->ai_family, to->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	r = fd < 0 ? -errno : connect_in_time(fd, to);
	freeaddrinfo(to);
	if (r == 0)
		r = prepare_socket(c, fd);
	if (r == 0)
		r = open_epoll(fd);
	if (r < 0)
		return cvb_err_set(err, -EIO, "cannot connect to the echo server %s port %u: %s",
				   peer->host, peer->echo_port, strerror(-r));
	c->epoll_fd = r;
	c->fd = CVB_TAKE_FD(fd);
	return 0;
}

void cvb_rr_close(struct cvb_rr_conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	if (c->epoll_fd >= 0)
		close(c->epoll_fd);
	c->fd = c->epoll_fd = -1;
}

/* --- one transaction, timed: no more instructions than needed --------------------------------- */

/* The limit of what is not over at its first look.  `deadline_ns` is 0 at first, so that what is
 * needs no clock. */
static bool out_of_time(const struct cvb_rr_conn *c, uint64_t *deadline_ns)
{
	uint64_t now_ns = cvb_now_ns();

	if (!*deadline_ns)
		*deadline_ns = now_ns + c->timeout_ms * CVB_NS_PER_MS;
	return now_ns > *deadline_ns;
}

/* recv that spins; the clock is not looked at each time. */
static ssize_t recv_polling(struct cvb_rr_conn *c, void *buf, size_t bytes)
{
	uint64_t deadline_ns = 0;
	ssize_t n;

	for (unsigned looks = 1;; looks++) {
		n = recv(c->fd, buf, bytes, MSG_DONTWAIT);
		if (n >= 0 || errno != EAGAIN)
			return n;
		if (looks % LOOKS_PER_CLOCK == 0 && out_of_time(c, &deadline_ns))
			return -1; /* EAGAIN */
	}
}

static ssize_t recv_after_epoll(struct cvb_rr_conn *c, void *buf, size_t bytes)
{
	struct epoll_event e;
	int n = epoll_wait(c->epoll_fd, &e, 1, (int)c->timeout_ms);

	if (n == 0)
		errno = EAGAIN; /* as of a blocking socket with a limit */
	return n > 0 ? recv(c->fd, buf, bytes, MSG_DONTWAIT) : -1;
}

static ssize_t receive(struct cvb_rr_conn *c, void *buf, size_t bytes, enum cvb_rr_wait wait)
{
	for (;;) {
		ssize_t n = wait == CVB_RR_EPOLL  ? recv_after_epoll(c, buf, bytes)
			    : wait == CVB_RR_POLL ? recv_polling(c, buf, bytes)
						  : recv(c->fd, buf, bytes, 0);

		if (n >= 0)
			return n;
		if (errno == EAGAIN)
			return -ETIMEDOUT;
		if (errno != EINTR || cvb_stop_requested())
			return -errno;
	}
}

static int receive_stream(struct cvb_rr_conn *c, size_t bytes, enum cvb_rr_wait wait)
{
	uint64_t deadline_ns = 0;

	for (size_t got = 0; got < bytes;) {
		ssize_t n = receive(c, c->reply + got, bytes - got, wait);

		if (n <= 0)
			return n < 0 ? (int)n : -ECONNRESET;
		got += (size_t)n;
		if (got < bytes && out_of_time(c, &deadline_ns))
			return -ETIMEDOUT;
	}
	if (memcmp(c->reply, c->request, bytes) != 0)
		c->corrupt++;
	return 0;
}

static int receive_datagram(struct cvb_rr_conn *c, size_t bytes, enum cvb_rr_wait wait)
{
	size_t number_bytes = cvb_min(bytes, sizeof(c->number));
	uint64_t deadline_ns = 0;

	for (;;) {
		ssize_t n = receive(c, c->reply, sizeof(c->reply), wait);

		if (n < 0)
			return (int)n;
		/* the reply to an earlier request may have another size too */
		if ((size_t)n >= number_bytes && !memcmp(c->reply, c->request, number_bytes)) {
			if ((size_t)n != bytes || memcmp(c->reply, c->request, bytes) != 0)
				c->corrupt++;
			return 0;
		}
		c->late++;
		if (out_of_time(c, &deadline_ns))
			return -ETIMEDOUT;
	}
}

int cvb_rr_transact(struct cvb_rr_conn *c, size_t bytes, enum cvb_rr_wait wait)
{
	ssize_t sent;

	c->number++;
	/* little endian: also the first byte alone tells 256 requests apart */
	memcpy(c->request, &c->number, sizeof(c->number));
	do
		sent = send(c->fd, c->request, bytes, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR && !cvb_stop_requested());
	if (sent < 0)
		return errno == EPIPE ? -ECONNRESET : -errno;
	if ((size_t)sent != bytes)
		return -EIO;
	return c->proto == CVB_RR_TCP ? receive_stream(c, bytes, wait)
				      : receive_datagram(c, bytes, wait);
}
