/* SPDX-License-Identifier: Apache-2.0 */
#include "target/agent.h"
#include "cli/verb.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct conf {
	struct cvb_common common;
	char *virtio_port;
};

static const struct cvb_opt opts[] = {
	{.name = "virtio-port",
	 .type = CVB_OPT_STR,
	 .offset = offsetof(struct conf, virtio_port),
	 .arg = "NAME",
	 .help = "serve on the virtio-serial port of this name, not stdin and stdout"},
	CVB_COMMON_OPTS,
	CVB_OPT_END,
};

/* Keep the protocol's descriptors to ourselves: whatever else prints must not get in between. */
static int take_stdio(int *ret_rfd, int *ret_wfd, struct cvb_err *err)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	*ret_rfd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	*ret_wfd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (null_fd < 0 || *ret_rfd < 0 || *ret_wfd < 0)
		return cvb_err_set(err, -errno, "cannot take stdin and stdout: %s",
				   strerror(errno));
	dup2(null_fd, STDIN_FILENO);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	close(null_fd);
	return 0;
}

static int run(const void *conf, int argc, char **argv, struct cvb_err *err)
{
	const struct conf *c = conf;
	int rfd = -1, wfd = -1, r;

	if (argc)
		return cvb_err_set(err, -EINVAL, "agent: unexpected \"%s\"", argv[0]);
	if (c->virtio_port) {
		r = cvb_agent_open_port(c->virtio_port, &rfd, err);
		wfd = rfd;
	} else {
		r = take_stdio(&rfd, &wfd, err);
	}
	return r < 0 ? r : cvb_agent_serve(rfd, wfd, err);
}

static const struct cvb_verb verb = {
	.name = "agent",
	.usage = "[OPTION]…",
	.summary = "serve measurements over the line protocol",
	.details =
		"Reads one JSON request a line and writes one JSON reply a line, on stdin and\n"
		"stdout or on a virtio-serial port.  The other verbs start it where it is needed.\n",
	.order = 90,
	.opts = opts,
	.conf_size = sizeof(struct conf),
	.run = run,
};
CVB_VERB(verb);
