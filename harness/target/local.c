/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local target: an agent process of our own program over a socket pair.  A process of its own
 * for each arm, so that native and its A/A twin have separate address spaces and huge pages.
 */
#include "core/proc.h"
#include "core/util.h"
#include "target/peer.h"
#include "target/target.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>

#define READY_MS 20000

struct local {
	struct cvb_proc agent;
};

static int supported(const struct cvb_arm *arm, struct cvb_err *err)
{
	(void)arm;
	(void)err;
	return 0;
}

static int agent_alive(void *ctx, struct cvb_err *err)
{
	struct local *l = ctx;
	char text[64];

	if (!cvb_proc_poll(&l->agent))
		return 0;
	return cvb_err_set(err, -EPIPE, "the local agent ended: %s",
			   cvb_proc_status_text(l->agent.status, text, sizeof(text)));
}

static int start(struct cvb_target *t, struct cvb_err *err)
{
	struct local *l = calloc(1, sizeof(*l));
	const char *const argv[] = {"/proc/self/exe", "agent", NULL};
	int sv[2], r;

	if (!l)
		return cvb_err_set(err, -ENOMEM, "out of memory");
	t->state = l;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return cvb_err_set(err, -errno, "cannot make a socket pair: %s", strerror(errno));
	cvb_client_init(&t->client, sv[0], sv[0]);

	struct cvb_proc_opts opts = {.stdin_fd = sv[1], .stdout_fd = sv[1], .stderr_fd = -2};

	r = cvb_proc_start(&l->agent, argv, &opts, err);
	close(sv[1]);
	if (r < 0)
		return r;
	t->client.wire.alive = agent_alive;
	t->client.wire.alive_ctx = l;
	if (t->env.scratch_dir)
		t->disk = strdup(t->env.scratch_dir);
	t->peer = cvb_peer_text("127.0.0.1", t->env.peer_port, t->env.echo_port);
	return cvb_client_wait_ready(&t->client, READY_MS, err);
}

static void stop(struct cvb_target *t)
{
	struct local *l = t->state;

	if (!l)
		return;
	/* end of input is the agent's signal to clean up (it may have files to remove) and go */
	t->client.wire.alive = NULL;
	if (t->client.wire.wfd >= 0)
		shutdown(t->client.wire.wfd, SHUT_RDWR);
	for (int i = 0; i < 100 && !cvb_proc_poll(&l->agent); i++)
		cvb_sleep_ms(i < 20 ? 1 : 20);
	cvb_proc_end(&l->agent, 1000);
	free(l);
	t->state = NULL;
}

const struct cvb_target_ops cvb_target_local = {
	.name = "local",
	.supported = supported,
	.start = start,
	.stop = stop,
};
