/* SPDX-License-Identifier: Apache-2.0 */
#include "campaign/progress.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

#define PLAIN_EVERY_NS (10 * CVB_NS_PER_S)

/* One campaign a process, one terminal: the state is the program's. */
static struct {
	bool on, terminal, shown;
	size_t n_kinds;
	uint64_t *left, *done, *spent_ns; /* by kind */
	uint64_t total_left, total_done;
	uint64_t start_ns, plain_ns;
	char text[160];
} p;

static void clear_line(void)
{
	if (p.shown) {
		fputs("\r\033[K", stderr);
		p.shown = false;
	}
}

void cvb_progress_begin(size_t n_kinds, const uint64_t *count)
{
	if (cvb_log_is_quiet())
		return;
	p.left = calloc(n_kinds * 3, sizeof(uint64_t));
	if (!p.left)
		return; /* no bar: the campaign matters more */
	p.done = p.left + n_kinds;
	p.spent_ns = p.done + n_kinds;
	p.n_kinds = n_kinds;
	for (size_t i = 0; i < n_kinds; i++) {
		p.left[i] = count[i];
		p.total_left += count[i];
	}
	p.on = true;
	p.terminal = isatty(STDERR_FILENO);
	p.start_ns = p.plain_ns = cvb_now_ns();
	cvb_log_set_before_line(clear_line);
}

void cvb_progress_end(void)
{
	clear_line();
	cvb_log_set_before_line(NULL);
	free(p.left);
	memset(&p, 0, sizeof(p));
}

/* Time left: each kind at its own mean so far; kinds not seen yet at the mean of all. */
static uint64_t left_ns(void)
{
	uint64_t spent = 0, done = 0;
	double left = 0;

	for (size_t i = 0; i < p.n_kinds; i++) {
		spent += p.spent_ns[i];
		done += p.done[i];
	}
	if (!done)
		return 0;
	for (size_t i = 0; i < p.n_kinds; i++)
		left += (double)p.left[i] * (p.done[i] ? (double)p.spent_ns[i] / (double)p.done[i]
						       : (double)spent / (double)done);
	/* what is not a step (set-up of benchmarks, verification) goes along in proportion */
	return (uint64_t)(left * (double)(cvb_now_ns() - p.start_ns) / (double)spent);
}

static unsigned columns(void)
{
	struct winsize w;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 80;
}

static void show(void)
{
	uint64_t total = p.total_left + p.total_done, left_s = left_ns() / CVB_NS_PER_S;
	unsigned percent = total ? (unsigned)(p.total_done * 100 / total) : 0;
	char left[40] = "";

	if (percent >= 10) /* before, too few kinds of steps were seen */
		snprintf(left, sizeof(left), "%llu:%02llu left", (unsigned long long)(left_s / 60),
			 (unsigned long long)(left_s % 60));
	if (p.terminal) {
		char line[512], bar[21];

		for (unsigned i = 0; i < 20; i++)
			bar[i] = i < percent / 5 ? '#' : '-';
		bar[20] = '\0';
		snprintf(line, sizeof(line), "[%s] %3u %%  %s  %s", bar, percent,
			 *left ? left : "estimating", p.text);
		fprintf(stderr, "\r\033[K%.*s", (int)columns() - 1, line);
		fflush(stderr);
		p.shown = true;
		return;
	}
	uint64_t now_ns = cvb_now_ns();

	if (now_ns - p.plain_ns >= PLAIN_EVERY_NS) {
		p.plain_ns = now_ns;
		cvb_info("%u %% done, %s: %s", percent, *left ? left : "estimating", p.text);
	}
}

void cvb_progress_step(const char *fmt, ...)
{
	va_list ap;

	if (!p.on)
		return;
	va_start(ap, fmt);
	vsnprintf(p.text, sizeof(p.text), fmt, ap);
	va_end(ap);
	show();
}

void cvb_progress_done(size_t kind, uint64_t duration_ns)
{
	if (!p.on || kind >= p.n_kinds || !p.left[kind])
		return;
	p.left[kind]--;
	p.total_left--;
	p.total_done++;
	if (duration_ns) {
		p.done[kind]++;
		p.spent_ns[kind] += duration_ns;
	}
}
