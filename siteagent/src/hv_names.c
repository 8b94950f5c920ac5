/* What a booted machine's files and taps are called. */
#include <inttypes.h>
#include <stdio.h>

#include "base/err.h"
#include "hv_int.h"

int sa_hv_path(const struct sa_hv_machine *m, const char *file, char *out, struct lb_err *err)
{
	int n = snprintf(out, PATH_MAX, "%s/%s", m->dir, file);

	if (n < 0 || n >= PATH_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "path too long: %.200s/%s", m->dir, file);
	return 0;
}

int sa_hv_overlay(const struct sa_hv_machine *m, size_t disk, char *out, struct lb_err *err)
{
	char file[SA_HV_NAME_BYTES + 8];

	(void)snprintf(file, sizeof(file), "%s.qcow2", m->disk[disk]);
	return sa_hv_path(m, file, out, err);
}

void sa_hv_tap(const struct sa_hv_machine *m, size_t n, char out[SA_HV_TAP_BYTES])
{
	uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a: a name for people, not a secret */

	for (const char *p = m->name; *p != '\0'; p++)
		h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
	(void)snprintf(out, SA_HV_TAP_BYTES, "lb%010" PRIx64 "n%u", h & UINT64_C(0xffffffffff),
		       (unsigned)n & 0xf);
}
