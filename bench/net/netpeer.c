/* SPDX-License-Identifier: Apache-2.0 */
#include "net/netpeer.h"

#include "core/file.h"
#include "core/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define STARTS	      5
#define LISTEN_MS     10000 /* an emulated CPU needs a second or two to load the program */
#define LISTEN_NAP_MS 5
#define PROC_BYTES    (4 * CVB_MIB)

int cvb_netpeer_parse(struct cvb_netpeer *p, const char *text, struct cvb_err *err)
{
	const char *colon = strrchr(text, ':'), *host = text;
	size_t host_bytes = colon ? (size_t)(colon - text) : 0;
	unsigned long port;
	char *end;

	if (host_bytes >= 2 && host[0] == '[' && host[host_bytes - 1] == ']') {
		host++;
		host_bytes -= 2;
	} else if (colon && memchr(text, ':', host_bytes)) {
		host_bytes = 0; /* an IPv6 address must be in brackets */
	}
	/* a host that starts with '-' would be an option of iperf3 */
	if (!host_bytes || host[0] == '-' || colon[1] < '0' || colon[1] > '9')
		goto bad;
	errno = 0;
	port = strtoul(colon + 1, &end, 10);
	if (errno || *end || port < 1 || port > UINT16_MAX)
		goto bad;
	p->host = strndup(host, host_bytes);
	if (!p->host)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	p->port = (uint16_t)port;
	return 0;
bad:
	return cvb_err_set(
		err, -EINVAL,
		"peer \"%s\": HOST:PORT is expected, such as 10.0.2.2:5201 or [::1]:5201", text);
}

bool cvb_netpeer_listens(const char *proc_net_tcp, uint16_t port)
{
	for (const char *line = proc_net_tcp; line && *line; line = strchr(line, '\n')) {
		unsigned local_port, state;

		line += *line == '\n';
		if (sscanf(line, " %*u: %*x:%x %*x:%*x %x", &local_port, &state) == 2 &&
		    local_port == port && state == 0x0a)
			return true;
	}
	return false;
}

/* A port that was free a moment ago. */
static int free_port(uint16_t *ret, struct cvb_err *err)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t a_bytes = sizeof(a);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &a_bytes) < 0)
		return cvb_err_set(err, -errno, "no free port on 127.0.0.1: %s", strerror(errno));
	*ret = ntohs(a.sin_port);
	return 0;
}

/* 1 once it listens, 0 if it ended instead (the port was taken meanwhile). */
static int wait_listening(struct cvb_netpeer *p, struct cvb_err *err)
{
	for (unsigned waited_ms = 0; waited_ms < LISTEN_MS; waited_ms += LISTEN_NAP_MS) {
		_cleanup_free_ char *text = NULL;
		int r = cvb_file_read("/proc/net/tcp", PROC_BYTES, &text, NULL, err);

		if (r < 0)
			return r;
		if (cvb_netpeer_listens(text, p->port))
			return 1;
		r = cvb_proc_wait(&p->server, LISTEN_NAP_MS);
		if (r < 0)
			return cvb_err_set(err, r, "interrupted while iperf3 -s was starting");
		if (r == 1)
			return 0;
	}
	return cvb_err_set(err, -ETIMEDOUT, "iperf3 -s did not listen on port %u within %d s",
			   p->port, LISTEN_MS / 1000);
}

int cvb_netpeer_start(struct cvb_netpeer *p, const char *iperf3, struct cvb_err *err)
{
	const struct cvb_proc_opts nowhere = {.stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};

	p->host = strdup("127.0.0.1");
	if (!p->host)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < STARTS; i++) {
		struct cvb_argv a = {0};
		int r = free_port(&p->port, err);

		if (r < 0)
			return r;
		cvb_argv_add(&a, iperf3);
		cvb_argv_add(&a, "-s");
		cvb_argv_add(&a, "-B");
		cvb_argv_add(&a, p->host);
		cvb_argv_add(&a, "-p");
		cvb_argv_addf(&a, "%u", p->port);
		r = cvb_argv_check(&a, err);
		if (r == 0)
			r = cvb_proc_start(&p->server, (const char *const *)a.v, &nowhere, err);
		cvb_argv_done(&a);
		if (r < 0)
			return r;
		r = wait_listening(p, err);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return cvb_err_set(err, -EIO, "iperf3 -s ended at once, %d times", STARTS);
}

void cvb_netpeer_done(struct cvb_netpeer *p)
{
	cvb_proc_end(&p->server, /* grace_ms= */ 500);
	free(p->host);
	*p = (struct cvb_netpeer){0};
}
