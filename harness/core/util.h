/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small things everyone needs: scope-bound clean-up, ownership transfer, array length, text
 * helpers.
 */
#ifndef CVB_CORE_UTIL_H
#define CVB_CORE_UTIL_H

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CVB_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CVB_KIB		 UINT64_C(1024)
#define CVB_MIB		 (UINT64_C(1024) * CVB_KIB)
#define CVB_GIB		 (UINT64_C(1024) * CVB_MIB)
#define CVB_NS_PER_S	 UINT64_C(1000000000)
#define CVB_NS_PER_MS	 UINT64_C(1000000)

#define cvb_min(a, b) ((a) < (b) ? (a) : (b))
#define cvb_max(a, b) ((a) > (b) ? (a) : (b))

/* Give a pointer away: yields it and leaves NULL, so that a _cleanup_ does not free it. */
#define CVB_TAKE(p)                                                                                \
	({                                                                                         \
		__typeof__(p) taken_ = (p);                                                        \
		(p) = NULL;                                                                        \
		taken_;                                                                            \
	})

/* The same for a file descriptor. */
#define CVB_TAKE_FD(fd)                                                                            \
	({                                                                                         \
		int taken_ = (fd);                                                                 \
		(fd) = -1;                                                                         \
		taken_;                                                                            \
	})

static inline void cvb_cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cvb_cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cvb_cleanup_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void cvb_cleanup_json(json_t **j)
{
	json_decref(*j);
}

#define _cleanup_free_	 __attribute__((cleanup(cvb_cleanup_free)))
#define _cleanup_close_	 __attribute__((cleanup(cvb_cleanup_close)))
#define _cleanup_fclose_ __attribute__((cleanup(cvb_cleanup_fclose)))
#define _cleanup_json_	 __attribute__((cleanup(cvb_cleanup_json)))

/* A key's text, "" where it has none; borrowed. */
static inline const char *cvb_json_text(const json_t *obj, const char *key)
{
	const char *s = json_string_value(json_object_get(obj, key));

	return s ? s : "";
}

/* A key's number, NAN where it has none. */
static inline double cvb_json_number(const json_t *obj, const char *key)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_number(v) ? json_number_value(v) : NAN;
}

static inline bool cvb_ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);

	return n >= k && !strcmp(s + n - k, end);
}

/* printf into fresh memory; NULL when memory is out.  Caller frees. */
char *cvb_strf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "67108864" -> "64 MiB", "4096" -> "4 KiB", "100" -> "100 B"; exact powers only, else bytes.
 * Returns buf. */
const char *cvb_bytes_text(uint64_t bytes, char *buf, size_t buf_bytes);

/*
 * A value with its contract unit ("bytes_per_s", "ns", "ops_per_s", "flops_per_s", "ratio", …) for
 * people: "12.3 GB/s" (10^9), "85.1 ns", "1.20 us", "45.2 kop/s", "98.7 GFLOP/s".  Returns buf.
 */
const char *cvb_value_text(double value, const char *unit, char *buf, size_t buf_bytes);

/* A ratio >= 0 in at most 6 characters, for a column of a table: "0.0123", "0.982", "12.35",
 * "3e-04", "1e+09"; "-" for NaN.  Returns buf. */
const char *cvb_ratio_cell(double x, char *buf, size_t buf_bytes);

/* Sleep on the monotonic clock; returns early only if a stop was requested (see core/stop.h). */
void cvb_sleep_ms(unsigned ms);

#endif
