/* SPDX-License-Identifier: Apache-2.0 */
#include "target/peer.h"

#include "core/util.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define LISTEN_MS 5000
#define ATTEMPTS  5

/* A port that is free now; another program may still take it, so the caller tries again. */
static int free_port(unsigned *ret, struct cvb_err *err)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		return cvb_err_set(err, -errno, "no free port on the loopback: %s",
				   strerror(errno));
	*ret = ntohs(a.sin_port);
	return 0;
}

/* The inode of the socket that listens on this port of the loopback, 0 for none. */
static unsigned long listening_inode(unsigned port)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/net/tcp", "re");
	unsigned long inode = 0;
	char want[32], line[256];

	/* not by connecting: iperf3 would take the probe for a client */
	snprintf(want, sizeof(want), "0100007F:%04X 00000000:0000 0A", port);
	while (f && !inode && fgets(line, sizeof(line), f)) {
		const char *hit = strstr(line, want);

		/* after it: queues, timer, retransmits, uid, timeout, inode */
		if (hit && sscanf(hit + strlen(want), "%*s %*s %*s %*s %*s %lu", &inode) != 1)
			inode = 0;
	}
	return inode;
}

/* Another program may have taken the port between our look and the server's start. */
static bool listening(pid_t pid, unsigned port)
{
	unsigned long inode = listening_inode(port);
	char path[64], want[64], target[64];
	bool found = false;
	struct dirent *e;
	DIR *d;

	if (!inode)
		return false;
	snprintf(want, sizeof(want), "socket:[%lu]", inode);
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	d = opendir(path);
	while (d && !found && (e = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1);

		target[cvb_max(n, (ssize_t)0)] = '\0';
		found = !strcmp(target, want);
	}
	if (d)
		closedir(d);
	return found;
}

static int start_on(struct cvb_peer *peer, const char *program, unsigned port, struct cvb_err *err)
{
	struct cvb_proc_opts opts = {.stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
	char text[16], status[64];
	const char *const argv[] = {program, "-s", "-B", "127.0.0.1", "-p", text, NULL};
	int r;

	snprintf(text, sizeof(text), "%u", port);
	r = cvb_proc_start(&peer->server, argv, &opts, err);
	if (r < 0)
		return r;
	for (unsigned waited_ms = 0; waited_ms < LISTEN_MS; waited_ms += 5) {
		if (cvb_proc_poll(&peer->server))
			return cvb_err_set(
				err, -EADDRINUSE, "the iperf3 server ended at once: %s",
				cvb_proc_status_text(peer->server.status, status, sizeof(status)));
		if (listening(peer->server.pid, port)) {
			peer->port = port;
			return 0;
		}
		cvb_sleep_ms(5);
	}
	cvb_proc_end(&peer->server, 1000);
	return cvb_err_set(err, -ETIMEDOUT, "the iperf3 server does not listen on port %u", port);
}

int cvb_peer_start(struct cvb_peer *peer, struct cvb_err *err)
{
	_cleanup_free_ char *program = NULL;
	int r;

	*peer = (struct cvb_peer){0};
	r = cvb_echo_start(&peer->echo, err);
	if (r < 0)
		return r;
	program = cvb_program_find("iperf3", "iperf3", err);
	if (!program)
		return -EOPNOTSUPP;
	r = -EADDRINUSE;
	for (int i = 0; i < ATTEMPTS && r == -EADDRINUSE; i++) {
		unsigned port = 0;

		r = free_port(&port, err);
		if (r == 0)
			r = start_on(peer, program, port, err);
	}
	if (r < 0)
		cvb_peer_stop(peer);
	return r;
}

void cvb_peer_stop(struct cvb_peer *peer)
{
	cvb_echo_stop(&peer->echo);
	cvb_proc_end(&peer->server, 1000);
	peer->port = 0;
}

char *cvb_peer_text(const char *host, unsigned iperf3_port, unsigned echo_port)
{
	if (!iperf3_port && !echo_port)
		return NULL;
	return cvb_strf("%s:%u,echo=%u", host, iperf3_port, echo_port);
}
