/* SPDX-License-Identifier: Apache-2.0 */
#include "core/stop.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t stop_flag;

static void on_signal(int sig)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};

	stop_flag = 1;
	sigaction(sig, &dfl, NULL);
}

void cvb_stop_install(void)
{
	static const int sigs[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction sa = {.sa_handler = on_signal};

	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		sigaction(sigs[i], &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

bool cvb_stop_requested(void)
{
	return stop_flag != 0;
}
