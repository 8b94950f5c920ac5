/*
 * replicator/journal.h - what the journal plugin keeps: a mirror of a running disk that can be cut.
 *
 * QEMU mirrors every write of the guest into it (synchronous block copy to our nbdkit plugin). At a
 * cut the mirror's content is frozen: the first write to a block after the mark moves the old bytes
 * aside before it overwrites them, so the cut can be read for as long as it takes while the guest
 * writes on.
 *
 *   mirror  device: the newest content          side  device: old bytes of blocks overwritten since
 * the mark dirty   bitmap: written since the last mark frozen  bitmap: what `dirty` was at the mark
 *   moved   bitmap: blocks whose cut content is in `side`
 *
 *          write                       hold               mark              resume
 *   LIVE ---------> LIVE        LIVE --------> HELD -----------> HELD+CUT ----------> CUT
 *                                HELD --limit passed--> LIVE                           |
 *   LIVE <------- release kept: frozen forgotten; abandoned: dirty |= frozen ----------+
 *
 * Invariant: (J1) a write that was completed before the mark is in the cut; one that waited is not.
 *            (J2) a write never waits longer than the limit of a hold, nor for the reader of a cut.
 *            (J3) what `frozen` does not name is equal in this cut and in the last one released as
 * kept. (J4) after a write that did not reach the mirror, or a loss of the writer, no mark succeeds
 *                 ever again: the agent arms a new mirror.
 * Nothing here survives the process, on purpose: after a crash everything counts as changed and is
 * compared by digests. So nothing is synced either; durable is a point once the peer has it.
 *
 * Thread: any, all functions; one lock inside.
 */
#ifndef REPLICATOR_JOURNAL_H
#define REPLICATOR_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct img_dev;
struct img_extent;
struct lb_err;
struct rep_journal;
struct rep_jctl;

enum {
	REP_JOURNAL_BLOCK_BYTES = 4096
};

struct rep_journal_cfg {
	struct img_dev *mirror; /* borrowed, writable, zero all over */
	struct img_dev *side;   /* borrowed, writable, at least as large */
	/* More moved bytes than this break the cut, never the guest's write. */
	uint64_t side_max_bytes;
};

/* Errors: LB_EINVAL (a device that is read-only or too small), LB_ENOMEM. */
int rep_journal_create(struct rep_journal **out, const struct rep_journal_cfg *cfg,
		       struct lb_err *err);
void rep_journal_destroy(struct rep_journal *j); /* wakes no one: stop the callers first */

/* The disk itself. Writes wait while the journal is held. Errors: the mirror's; after one, (J4). */
int rep_journal_read(struct rep_journal *j, void *buf, uint64_t len, uint64_t off,
		     struct lb_err *err);
int rep_journal_write(struct rep_journal *j, const void *buf, uint64_t len, uint64_t off,
		      struct lb_err *err);
int rep_journal_zero(struct rep_journal *j, uint64_t len, uint64_t off, struct lb_err *err);
int rep_journal_extent(struct rep_journal *j, struct img_extent *out, uint64_t off,
		       struct lb_err *err);
/* The connection that wrote is gone. (J4) */
void rep_journal_writer_lost(struct rep_journal *j);

/* Let writes wait, at most for @limit_ns. Errors: LB_EBUSY (held already). */
int rep_journal_hold(struct rep_journal *j, uint64_t limit_ns, struct lb_err *err);
/* Errors: LB_ETIMEDOUT (the hold is over), LB_EBUSY (a cut is open), LB_ECLOSED (J4: lost or broken
 * mirror). */
int rep_journal_mark(struct rep_journal *j, uint64_t *dirty_blocks, struct lb_err *err);
void rep_journal_resume(struct rep_journal *j); /* not held: nothing */
void rep_journal_release(struct rep_journal *j, bool kept);

/* The open cut. Errors: LB_ECLOSED (none is open), LB_ECHANGED (it broke: no room aside). */
int rep_journal_cut_read(struct rep_journal *j, void *buf, uint64_t len, uint64_t off,
			 struct lb_err *err);
int rep_journal_cut_extent(struct rep_journal *j, struct img_extent *out, uint64_t off,
			   struct lb_err *err);
/* Copy of `frozen`, one bit per 4 KiB block, LSB first. */
uint64_t rep_journal_bitmap_bytes(const struct rep_journal *j);
int rep_journal_cut_bitmap(struct rep_journal *j, uint8_t *out, struct lb_err *err);

struct rep_journal_status {
	uint64_t size_bytes;
	uint64_t dirty_blocks; /* since the last mark */
	uint64_t side_bytes;
	uint64_t writes; /* since creation, zeroes included */
	bool held, cut_open, cut_broken, lost;
	int lost_code; /* why: LB_ECLOSED for the writer, else what the first failed write gave */
};
void rep_journal_status(struct rep_journal *j, struct rep_journal_status *out);

/* ---- the control socket between plugin and agent ---- */

/*
 * Line protocol over a unix stream socket, one request at a time:
 *   hold MS | mark | resume | release kept | release abandoned | bitmap | status
 *   -> "ok ..." or "err LB_NAME message"; after "ok BYTES" of bitmap follow that many raw bytes.
 * The client is trusted as far as this disk goes (socket in a 0700 directory); lines are bounded to
 * 128 bytes. When it hangs up, a hold is resumed and a cut abandoned: the agent died.
 *
 * Serve one connected client until it hangs up; closes @fd.
 */
void rep_jctl_serve(struct rep_journal *j, int fd);

/* Agent's end. @path at most 107 bytes. Every call waits at most @timeout_ns for the plugin.
 * Errors of all: LB_ECLOSED (plugin gone or silent: close, its answer may still come), LB_EPROTO,
 * else what the plugin answered.
 */
int rep_jctl_connect(struct rep_jctl **out, const char *path, uint64_t timeout_ns,
		     struct lb_err *err);
void rep_jctl_close(struct rep_jctl *c); /* NULL is allowed */
int rep_jctl_hold(struct rep_jctl *c, uint64_t limit_ns, struct lb_err *err);
int rep_jctl_mark(struct rep_jctl *c, uint64_t *dirty_blocks, struct lb_err *err);
int rep_jctl_resume(struct rep_jctl *c, struct lb_err *err);
int rep_jctl_release(struct rep_jctl *c, bool kept, struct lb_err *err);
/* *out is the caller's: free(). At most @max_bytes. */
int rep_jctl_bitmap(struct rep_jctl *c, uint8_t **out, uint64_t *bytes, uint64_t max_bytes,
		    struct lb_err *err);
int rep_jctl_status(struct rep_jctl *c, struct rep_journal_status *out, struct lb_err *err);

#endif
