/*
 * cutlog.h - the cut device's record, on disk, of the regions written since the last kept cut.
 *
 *   header A | header B | bitmap 0 | bitmap 1           docs/formats/cutlog.md
 *
 * The newest valid header names a generation G. What changed since its cut was kept is the union of
 * bitmap[G & 1]'s sectors of generation G and bitmap[(G + 1) & 1]'s of generation G + 1: writes
 * that began before the open cut's mark are noted in G, those after it in G + 1. So a mark writes
 * nothing, keeping the cut writes one sector (a header with G + 1), and giving it up writes
 * nothing: G + 1 then names too much.
 *
 * A bit goes from 0 to 1 only within a generation and every sector has its own generation and
 * checksum, so a sector is atomic as far as disks promise it, and stale sectors need no clearing.
 *
 * Thread: note: any; the others: one at a time, beside notes.
 */
#ifndef IMAGING_CUTLOG_H
#define IMAGING_CUTLOG_H

#include <pthread.h>
#include <stdatomic.h>

#include "imaging/cut.h"

struct cutlog {
	struct img_dev *dev; /* borrowed */
	uint64_t disk_bytes, region_bytes, regions;
	uint32_t sectors; /* of one bitmap */
	pthread_mutex_t lock;
	_Atomic int state;           /* enum img_cut_log_state */
	_Atomic uint64_t generation; /* G; of a log that is not in use: where it would go on */
	_Atomic bool doubtful;       /* G + 1 may be on disk though its write failed */
	bool poisoned;               /* wrong on disk, and could not be made invalid */
	struct lb_hash base;
	_Atomic uint64_t *bits[2]; /* durable, by generation & 1; .regions bits, whole sectors */
	_Atomic uint64_t writes;
};

uint64_t cutlog_region_default(uint64_t region_bytes);
uint64_t cutlog_words(const struct cutlog *l); /* of a bitmap of regions, in whole sectors */
/* Read what is there; its state is the result's. Errors: LB_EINPUT (size), LB_EIO, LB_ENOMEM. */
int cutlog_init(struct cutlog *l, struct img_dev *dev, uint64_t disk_bytes, uint64_t region_bytes,
		struct lb_err *err);
void cutlog_fini(struct cutlog *l);
bool cutlog_has(const struct cutlog *l, uint64_t region); /* in either generation */
/* Make the regions [first, last] durable in generation @gen (G or G + 1) before they are written.
 * @also (may be NULL): a bitmap, in whole sectors, of regions that will probably follow. Errors:
 * the log's, when it could not even be made invalid: the write must not be done. */
int cutlog_note(struct cutlog *l, uint64_t gen, uint64_t first, uint64_t last, const uint64_t *also,
		struct lb_err *err);
/* The open cut is kept, and the disk flushed: G becomes G + 1. Fails without harm. */
int cutlog_advance(struct cutlog *l, const struct lb_hash *base, struct lb_err *err);
/* The same for a log that is not in use: it is written anew with the regions that @snapshot sets in
 * a bitmap; it is called when notes already wait. */
int cutlog_begin(struct cutlog *l, const struct lb_hash *base,
		 void (*snapshot)(void *arg, uint64_t *regions), void *arg, struct lb_err *err);

#endif
