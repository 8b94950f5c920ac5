#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "base/text.h"

const char *lb_human_bytes(char *out, uint64_t n)
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)n;
	unsigned u = 0;

	while (v >= 1024 && u < 6) {
		v /= 1024;
		u++;
	}
	(void)snprintf(out, LB_HUMAN_BYTES, u == 0 || v >= 100 ? "%.0f %s" : "%.1f %s", v, unit[u]);
	return out;
}

const char *lb_human_duration(char *out, uint64_t ns)
{
	uint64_t s = ns / 1000000000u;

	if (ns < 1000000000u)
		(void)snprintf(out, LB_HUMAN_BYTES, "%" PRIu64 " ms", ns / 1000000u);
	else if (s < 60)
		(void)snprintf(out, LB_HUMAN_BYTES, "%.1f s", (double)ns / 1e9);
	else if (s < 3600)
		(void)snprintf(out, LB_HUMAN_BYTES, "%" PRIu64 " m %02" PRIu64 " s", s / 60,
			       s % 60);
	else if (s < 86400)
		(void)snprintf(out, LB_HUMAN_BYTES, "%" PRIu64 " h %02" PRIu64 " m", s / 3600,
			       s % 3600 / 60);
	else
		(void)snprintf(out, LB_HUMAN_BYTES, "%" PRIu64 " d %02" PRIu64 " h", s / 86400,
			       s % 86400 / 3600);
	return out;
}

/* Local time; false: not known, and @out says so. */
static bool local(struct tm *tm, char *out, uint64_t wall_ns)
{
	time_t t = (time_t)(wall_ns / 1000000000u);

	(void)snprintf(out, LB_HUMAN_BYTES, "-");
	return wall_ns != 0 && localtime_r(&t, tm) != NULL;
}

const char *lb_human_wall(char *out, uint64_t wall_ns)
{
	struct tm tm;

	if (local(&tm, out, wall_ns))
		(void)strftime(out, LB_HUMAN_BYTES, "%Y-%m-%d %H:%M:%S", &tm);
	return out;
}

const char *lb_human_clock(char *out, uint64_t wall_ns)
{
	struct tm tm;

	if (local(&tm, out, wall_ns))
		(void)strftime(out, LB_HUMAN_BYTES, "%H:%M:%S", &tm);
	return out;
}
