/*
 * imaging/cut.h - a running machine's disk that can be cut: the disk as of one instant, readable
 * for as long as it takes while the guest writes on, and a record of what changed that survives a
 * crash.
 *
 *   guest ─► cut device ─► lower (the disk)          mark ─► [open: first writes move the old block
 *              │ ├─ side: old blocks of the open cut          aside] ─► release(kept | abandoned)
 *              │ └─ log: regions written since the last kept cut
 *              └ view of the open cut, read-only
 *
 * Invariant: (U1) a write that had begun before mark is whole in the cut, and not a byte of one
 * that began later: the cut is read only when the former have ended. (U2) a guest's write never
 * fails and never waits for the reader because of a cut: when the old block cannot be moved aside
 * (the side is full or fails) the cut is given up, and its reads say LB_ECHANGED. (U3) what
 * changed() does not name is equal in this cut and in the last KEPT one; across a crash or a power
 * cut too, in whole regions, or changed() says that it does not know. (U4) a region's bit is
 * durable in the log before the first write to it since the last kept cut reaches the disk, and it
 * is cleared only after the cut is kept and the disk was flushed.
 *
 * The log is never believed silently: img_cut_log() says what was found. A blank, foreign or
 * damaged one means "everything changed" until the next kept cut begins it anew.
 * docs/formats/cutlog.md
 *
 * Thread: the device and the view: as any device. mark, changed, check, release and the rest: one
 * controlling thread at a time, beside any I/O.
 */
#ifndef IMAGING_CUT_H
#define IMAGING_CUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"

struct img_dev;
struct img_extmap;
struct lb_err;

enum {
	IMG_CUT_BLOCK_BYTES = 4096
};

struct img_cut_cfg {
	struct img_dev *lower; /* borrowed, writable */
	/* Borrowed, writable; its size bounds the old blocks of a cut. Its content means nothing
	 * when no cut is open. */
	struct img_dev *side;
	/* Borrowed, writable, at least img_cut_log_bytes() of the disk; blank (zeros) when new.
	 * NULL: after a restart everything has changed. */
	struct img_dev *log;
	uint64_t region_bytes; /* of a log's bit; power of two >= 4096; 0: 4 MiB */
};
uint64_t img_cut_log_bytes(uint64_t disk_bytes, uint64_t region_bytes);

/* *out is the caller's: img_dev_destroy(); no I/O may be under way then. Errors: LB_EDENIED
 * (something is read-only), LB_EINPUT (the log device is too small, a region size), LB_EIO (the log
 * cannot be read), LB_ENOMEM. */
int img_cut_create(struct img_dev **out, const struct img_cut_cfg *cfg, struct lb_err *err);

enum img_cut_log_state {
	IMG_CUT_LOG_NONE,    /* there is none */
	IMG_CUT_LOG_NEW,     /* blank: nothing was ever kept */
	IMG_CUT_LOG_KEPT,    /* in use */
	IMG_CUT_LOG_MISFIT,  /* of another disk size, region size or version */
	IMG_CUT_LOG_DAMAGED, /* a checksum or a generation is wrong */
	IMG_CUT_LOG_FAILED, /* could not be written; made invalid, so that no restart believes it */
};
const char *img_cut_log_state_name(enum img_cut_log_state s); /* "none", "new", "kept", ... */
/* @base (may be NULL) is what the last kept cut's release() named; zeros: none. The caller compares
 * it with the head of the other site: another one means that changed() counts from elsewhere. */
enum img_cut_log_state img_cut_log(const struct img_dev *d, struct lb_hash *base);

/* Open a cut, now, without I/O. Errors: LB_EBUSY (one is open). */
int img_cut_mark(struct img_dev *d, struct lb_err *err);
/* The disk as of the open cut; borrowed until release. LB_ECLOSED: none is open. */
int img_cut_view(struct img_dev *d, struct img_dev **out, struct lb_err *err);
/* Runs of 4 KiB blocks (values unused) that may differ from the last kept cut; borrowed until
 * release. *out = NULL: not known, compare all. Errors: LB_ECLOSED (no cut), LB_ENOMEM. */
int img_cut_changed(struct img_dev *d, const struct img_extmap **out, struct lb_err *err);
/* Is the open cut still whole? LB_ECHANGED: it was given up (says why). LB_ECLOSED. */
int img_cut_check(struct img_dev *d, struct lb_err *err);
/* End the open cut (none: nothing). Kept: changes count from it, and @base (may be NULL) names it
 * in the log. Only for a cut of which img_cut_check() said that it is whole after all was read:
 * that it is given up later, when the guest writes on, does no harm. Abandoned: its changes are
 * folded into the next one's. When the disk cannot be flushed or the log not be written, the log
 * goes on counting from the older cut: more than needed, never less. */
void img_cut_release(struct img_dev *d, bool kept, const struct lb_hash *base);

struct img_cut_stats {
	bool open, given_up;
	uint64_t changed_blocks; /* since the last kept cut */
	uint64_t side_blocks;    /* moved aside for the open cut */
	uint64_t log_writes;     /* since create: each made one guest write wait for the log */
};
void img_cut_stats(struct img_dev *d, struct img_cut_stats *out);

#endif
