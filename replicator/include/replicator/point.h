/*
 * replicator/point.h - what a recovery point holds beside its volumes, opened.
 *
 * A point of class memory names, for each machine, its disks and its RAM (volumes, view.h) and the
 * state of its virtual devices and processors, sealed with the machine's key: a boot driver
 * restores a machine from these three, all of one cut.
 *
 * Thread: any, also while the store's thread appends.
 */
#ifndef REPLICATOR_POINT_H
#define REPLICATOR_POINT_H

#include "base/id.h"
#include "replicator/manifest.h"

struct lb_buf;
struct lb_err;
struct rep_store;
struct rep_view_cfg;

/* The attachment @kind of @machine in point @manifest, in the clear; *out is the caller's. Of @cfg
 * only dek_of and arg are used. Errors: LB_ENOTFOUND (the point, such an attachment, or the key at
 * this site), LB_ECORRUPT, LB_EIO, LB_ENOMEM. */
int rep_point_attachment(struct lb_buf **out, struct rep_store *s, const struct lb_hash *manifest,
			 const struct lb_id *machine, enum rep_attachment_kind kind,
			 const struct rep_view_cfg *cfg, struct lb_err *err);
/* What the source driver handed over as the machine's rep_cut_state. */
int rep_point_device_state(struct lb_buf **out, struct rep_store *s, const struct lb_hash *manifest,
			   const struct lb_id *machine, const struct rep_view_cfg *cfg,
			   struct lb_err *err);

#endif
