/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/health.h"

#include "core/util.h"

#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THROTTLE_FILES "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count"

/* Opened once: a glob over hundreds of CPUs takes longer than a sample. */
static int *throttle_fd;
static size_t n_throttle;
static pthread_once_t throttle_once = PTHREAD_ONCE_INIT;

static void open_throttle(void)
{
	glob_t g;

	if (glob(THROTTLE_FILES, 0, NULL, &g) != 0)
		return;
	throttle_fd = calloc(g.gl_pathc, sizeof(*throttle_fd));
	for (size_t i = 0; throttle_fd && i < g.gl_pathc; i++) {
		int fd = open(g.gl_pathv[i], O_RDONLY | O_CLOEXEC);

		if (fd >= 0)
			throttle_fd[n_throttle++] = fd;
	}
	globfree(&g);
}

static void read_throttle(struct cvb_health *h)
{
	pthread_once(&throttle_once, open_throttle);
	h->throttles_known = n_throttle > 0;
	for (size_t i = 0; i < n_throttle; i++) {
		char text[32];
		ssize_t n = pread(throttle_fd[i], text, sizeof(text) - 1, 0);

		if (n <= 0) {
			h->throttles_known = false;
			return;
		}
		text[n] = '\0';
		h->throttles += strtoull(text, NULL, 10);
	}
}

static void read_cpu_times(struct cvb_health *h)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/stat", "re");
	long ticks_per_s = sysconf(_SC_CLK_TCK);
	double v[8] = {0};

	if (!f || ticks_per_s <= 0)
		return;
	if (fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &v[0], &v[1], &v[2], &v[3], &v[4],
		   &v[5], &v[6], &v[7]) != 8)
		return;
	for (size_t i = 0; i < CVB_ARRAY_LEN(v); i++)
		h->cpu_s += v[i] / (double)ticks_per_s;
	h->steal_s = v[7] / (double)ticks_per_s;
	h->cpu_known = true;
}

void cvb_health_read(struct cvb_health *ret)
{
	*ret = (struct cvb_health){0};
	read_cpu_times(ret);
	read_throttle(ret);
}

void cvb_health_diff(const struct cvb_health *before, const struct cvb_health *after,
		     struct cvb_health_change *ret)
{
	*ret = (struct cvb_health_change){.steal_ratio = -1, .throttles = -1};
	if (before->cpu_known && after->cpu_known && after->cpu_s > before->cpu_s) {
		double stolen = cvb_max(after->steal_s - before->steal_s, 0.0);

		ret->steal_ratio = stolen / (after->cpu_s - before->cpu_s);
		ret->steal_ns = (uint64_t)(stolen * 1e9);
	}
	if (before->throttles_known && after->throttles_known &&
	    after->throttles >= before->throttles)
		ret->throttles = (int64_t)(after->throttles - before->throttles);
}
