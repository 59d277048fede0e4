/* SPDX-License-Identifier: Apache-2.0 */
#include "target/echo.h"

#include "core/util.h"
#include "measure/pin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define ATTEMPTS 20
#define BACKLOG	 4
/* A benchmark's thread is on the first CPU: see cvb_pin_self. */
#define SERVER_CPU_INDEX 1

/* What nothing of the harness stays open but; see keep_only. */
enum server_fd {
	FD_TCP = 3, /* listens */
	FD_UDP,
	FD_EPOLL,
};

struct server {
	unsigned n_connections;
	in_port_t port; /* network byte order */
	char buf[CVB_ECHO_MAX_DATAGRAM_BYTES];
};

/* --- in the child ----------------------------------------------------------------------------- */

static int watch(int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(FD_EPOLL, EPOLL_CTL_ADD, fd, &e);
}

static void take_connection(struct server *s)
{
	int fd = accept4(FD_TCP, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;

	if (fd < 0)
		return;
	cvb_ignore(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
	if (s->n_connections < CVB_ECHO_MAX_CONNECTIONS && watch(fd) == 0)
		s->n_connections++;
	else
		close(fd);
}

/* One that does not take its own bytes back is dropped: nothing is ever kept for anyone. */
static void echo_stream(struct server *s, int fd)
{
	ssize_t n = recv(fd, s->buf, sizeof(s->buf), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && send(fd, s->buf, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) == n)
		return;
	close(fd); /* which also ends the watch: there is no other descriptor of it */
	s->n_connections--;
}

static void echo_datagram(struct server *s)
{
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	ssize_t n = recvfrom(FD_UDP, s->buf, sizeof(s->buf), MSG_DONTWAIT | MSG_TRUNC,
			     (struct sockaddr *)&from, &len);

	if (n < 0 || (size_t)n > sizeof(s->buf))
		return;
	/* one that claims to come from ourselves would go round for ever */
	if (len != sizeof(from) || from.sin_port == s->port)
		return;
	cvb_ignore((int)sendto(FD_UDP, s->buf, (size_t)n, MSG_DONTWAIT, (struct sockaddr *)&from,
			       len));
}

static _Noreturn void serve(struct server *s)
{
	for (;;) {
		struct epoll_event e;
		/* one at a time, in turns: epoll puts what is still ready behind the others */
		int n = epoll_wait(FD_EPOLL, &e, 1, -1);

		if (n < 0 && errno != EINTR)
			_exit(1);
		if (n <= 0)
			continue;
		if (e.data.fd == FD_TCP)
			take_connection(s);
		else if (e.data.fd == FD_UDP)
			echo_datagram(s);
		else
			echo_stream(s, e.data.fd);
	}
}

/* Put each descriptor in its place, and close all others. */
static int keep_only(int tcp, int udp)
{
	int t = fcntl(tcp, F_DUPFD, FD_EPOLL), u = fcntl(udp, F_DUPFD, FD_EPOLL);
	int null_fd = open("/dev/null", O_RDWR);

	if (t < 0 || u < 0 || null_fd < 0)
		return -errno;
	for (int fd = 0; fd < FD_TCP; fd++)
		if (dup2(null_fd, fd) < 0)
			return -errno;
	if (dup2(t, FD_TCP) < 0 || dup2(u, FD_UDP) < 0 || close_range(FD_EPOLL, ~0U, 0) < 0)
		return -errno;
	/* the lowest number that is free */
	return epoll_create1(0) == FD_EPOLL ? 0 : -EBADF;
}

/* Beside the benchmark's CPU, always the same one: where the system puts a server by itself differs
 * from run to run, and the same CPU or another is a factor of three in latency. */
static void pin(void)
{
	struct cvb_pin_map *map;
	int cpu, node;

	if (cvb_pin_map_new(&map, NULL) < 0)
		return;
	cvb_ignore(cvb_pin_self(map, SERVER_CPU_INDEX, &cpu, &node));
	cvb_pin_map_free(map);
}

static _Noreturn void child(int tcp, int udp, unsigned port, pid_t parent)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
	static struct server s;
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before the line above */
		_exit(127);
	setpgid(0, 0);
	for (size_t i = 0; i < CVB_ARRAY_LEN(ends); i++)
		signal(ends[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_NAME, "cvmbench-echo");
	if (keep_only(tcp, udp) < 0 || watch(FD_TCP) < 0 || watch(FD_UDP) < 0)
		_exit(126);
	pin();
	s.port = htons((in_port_t)port);
	serve(&s);
}

/* --- in the harness --------------------------------------------------------------------------- */

/* A port that is free for both: the system chooses one for TCP, and UDP asks for the same. */
static int open_sockets(int *ret_tcp, int *ret_udp, unsigned *ret_port, struct cvb_err *err)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	_cleanup_close_ int tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	_cleanup_close_ int udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(a);

	if (tcp < 0 || udp < 0 || bind(tcp, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    getsockname(tcp, (struct sockaddr *)&a, &len) < 0 || listen(tcp, BACKLOG) < 0 ||
	    bind(udp, (struct sockaddr *)&a, sizeof(a)) < 0)
		return cvb_err_set(err, -errno, "no port for the echo server on the loopback: %s",
				   strerror(errno));
	*ret_port = ntohs(a.sin_port);
	*ret_tcp = CVB_TAKE_FD(tcp);
	*ret_udp = CVB_TAKE_FD(udp);
	return 0;
}

int cvb_echo_start(struct cvb_echo *echo, struct cvb_err *err)
{
	_cleanup_close_ int tcp = -1;
	_cleanup_close_ int udp = -1;
	pid_t parent = getpid(), pid;
	unsigned port = 0;
	int r = -EADDRINUSE;

	*echo = (struct cvb_echo){0};
	for (int i = 0; i < ATTEMPTS && r == -EADDRINUSE; i++)
		r = open_sockets(&tcp, &udp, &port, err);
	if (r < 0)
		return r;
	pid = fork();
	if (pid < 0)
		return cvb_err_set(err, -errno, "cannot fork for the echo server: %s",
				   strerror(errno));
	if (pid == 0)
		child(tcp, udp, port, parent);
	setpgid(pid, pid);
	echo->server.pid = pid;
	echo->port = port;
	return 0;
}

void cvb_echo_stop(struct cvb_echo *echo)
{
	cvb_proc_end(&echo->server, 1000);
	echo->port = 0;
}
