/* SPDX-License-Identifier: Apache-2.0 */
#include "core/util.h"

#include "core/stop.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

char *cvb_strf(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	return s;
}

const char *cvb_bytes_text(uint64_t bytes, char *buf, size_t buf_bytes)
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	unsigned u = 0;

	while (bytes >= 1024 && bytes % 1024 == 0 && u + 1 < CVB_ARRAY_LEN(unit)) {
		bytes /= 1024;
		u++;
	}
	snprintf(buf, buf_bytes, "%" PRIu64 " %s", bytes, unit[u]);
	return buf;
}

const char *cvb_ratio_cell(double x, char *buf, size_t buf_bytes)
{
	if (isnan(x))
		snprintf(buf, buf_bytes, "-");
	else if (x >= 99999.5 || (x > 0 && x < 0.00095))
		snprintf(buf, buf_bytes, "%.0e", x);
	else
		snprintf(buf, buf_bytes, "%.*f",
			 x >= 99.995   ? 0
			 : x >= 9.9995 ? 2
			 : x >= 0.0995 ? 3
			 : x > 0       ? 4
				       : 3,
			 x);
	return buf;
}

/* Print with three significant digits and an SI prefix in front of the unit word. */
static void si_text(double v, const char *unit, char *buf, size_t buf_bytes)
{
	static const struct {
		double scale;
		const char *prefix;
	} si[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}};
	double a = fabs(v);
	unsigned i = 0;

	while (i + 1 < CVB_ARRAY_LEN(si) && a < si[i].scale)
		i++;
	double scaled = v / si[i].scale;
	int digits = fabs(scaled) < 9.995 ? 2 : fabs(scaled) < 99.95 ? 1 : 0;

	snprintf(buf, buf_bytes, "%.*f %s%s", digits, scaled, si[i].prefix, unit);
}

static void ns_text(double v, char *buf, size_t buf_bytes)
{
	static const struct {
		double scale;
		const char *unit;
	} t[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}, {1, "ns"}};
	double a = fabs(v);
	unsigned i = 0;

	while (i + 1 < CVB_ARRAY_LEN(t) && a < t[i].scale)
		i++;
	double scaled = v / t[i].scale;
	int digits = fabs(scaled) < 9.995 ? 2 : fabs(scaled) < 99.95 ? 1 : 0;

	snprintf(buf, buf_bytes, "%.*f %s", digits, scaled, t[i].unit);
}

const char *cvb_value_text(double value, const char *unit, char *buf, size_t buf_bytes)
{
	if (!isfinite(value))
		snprintf(buf, buf_bytes, "n/a");
	else if (!strcmp(unit, "bytes_per_s"))
		si_text(value, "B/s", buf, buf_bytes);
	else if (!strcmp(unit, "ops_per_s"))
		si_text(value, "op/s", buf, buf_bytes);
	else if (!strcmp(unit, "flops_per_s"))
		si_text(value, "FLOP/s", buf, buf_bytes);
	else if (!strcmp(unit, "bits_per_s"))
		si_text(value, "bit/s", buf, buf_bytes);
	else if (!strcmp(unit, "ns"))
		ns_text(value, buf, buf_bytes);
	else if (!strcmp(unit, "ratio") || !strcmp(unit, "count"))
		snprintf(buf, buf_bytes, "%.4g", value); /* the metric's name says of what */
	else
		snprintf(buf, buf_bytes, "%.4g %s", value, unit);
	return buf;
}

void cvb_sleep_ms(unsigned ms)
{
	struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000L};

	while (nanosleep(&left, &left) < 0 && errno == EINTR && !cvb_stop_requested())
		;
}
