/*
 * replicator/export.h - write a view of a recovery point to a raw image file.
 *
 * The file is sparse where the view is zero. It is written beside its name as "<path>.part",
 * synced, and renamed, so a file of the given name is complete; an existing one is refused. Thread:
 * blocking, any worker.
 */
#ifndef REPLICATOR_EXPORT_H
#define REPLICATOR_EXPORT_H

#include <stdint.h>

struct img_dev;
struct lb_err;

/* @progress (may be NULL): bytes done and in all, holes included. Errors: LB_EEXIST, LB_ENOSPC,
 * LB_EIO, LB_ECORRUPT (from the view: the point is damaged there); the partial file is removed. */
int rep_export_raw(struct img_dev *view, const char *path,
		   void (*progress)(void *arg, uint64_t done, uint64_t all), void *arg,
		   struct lb_err *err);

#endif
