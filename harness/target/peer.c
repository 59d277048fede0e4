/* SPDX-License-Identifier: Apache-2.0 */
#include "target/peer.h"

#include "core/util.h"

#include <arpa/inet.h>
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

static bool listening(unsigned port)
{
	char want[32];
	FILE *f = fopen("/proc/net/tcp", "re");
	char line[256];
	bool found = false;

	/* not by connecting: iperf3 would take the probe for a client */
	snprintf(want, sizeof(want), "0100007F:%04X 00000000:0000 0A", port);
	while (f && !found && fgets(line, sizeof(line), f))
		found = strstr(line, want) != NULL;
	if (f)
		fclose(f);
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
		if (listening(port)) {
			peer->port = port;
			return 0;
		}
		cvb_sleep_ms(5);
	}
	cvb_peer_stop(peer);
	return cvb_err_set(err, -ETIMEDOUT, "the iperf3 server does not listen on port %u", port);
}

int cvb_peer_start(struct cvb_peer *peer, struct cvb_err *err)
{
	_cleanup_free_ char *program = cvb_program_find("iperf3", "iperf3", err);
	int r = -EADDRINUSE;

	*peer = (struct cvb_peer){0};
	if (!program)
		return -EOPNOTSUPP;
	for (int i = 0; i < ATTEMPTS && r == -EADDRINUSE; i++) {
		unsigned port = 0;

		r = free_port(&port, err);
		if (r == 0)
			r = start_on(peer, program, port, err);
	}
	return r;
}

void cvb_peer_stop(struct cvb_peer *peer)
{
	cvb_proc_end(&peer->server, 1000);
	peer->port = 0;
}
