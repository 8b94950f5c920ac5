/*
 * siteagent/src/export_int.h - a volume of a recovery point as a qcow2 file.
 *
 * nbdkit serves the view on a socket below <state_dir>/exports, `qemu-img convert` reads it: no raw
 * copy in between. The file is written as "<path>.part", synced and renamed. Thread: blocking, a
 * job's.
 */
#ifndef SITEAGENT_EXPORT_INT_H
#define SITEAGENT_EXPORT_INT_H

#include <stdint.h>

struct lb_err;
struct lb_hash;
struct lb_id;
struct sa_agent;
struct sa_job;

/* Errors: LB_EEXIST, LB_ENOTFOUND (no qemu-img), LB_ECANCELED, LB_ENOSPC and LB_EIO (what qemu-img
 * said). */
int sa_export_qcow2(struct sa_agent *a, struct sa_job *job, const struct lb_hash *point,
		    const struct lb_id *volume, const char *path, uint64_t *size_bytes,
		    struct lb_err *err);
/* End and remove what exports of a killed agent left. */
void sa_export_clean(struct sa_agent *a);

#endif
