/*
 * replicator/source.h - the source engine: stages 1 to 5 (cut, capture, delta, pack, seal, ship) of
 * one peer.
 *
 * The shell around the pure sender core (sender.h): TLS connections (link.h), worker threads that
 * scan and pack, digest stores on @state. One object per backup site; it carries any number of
 * groups.
 *
 *   cut (driver, blocking, on a worker) -> OFFER -> ADMIT -> scan with digests (or the driver's
 * changed map)
 *   -> packs -> RECORD frames, bounded by the window -> all credited -> digest redo sealed -> POINT
 * -> RECEIPT
 *   -> digests applied -> next cut
 *
 * At most one cut of a group is in flight; when the link is slow, cuts get rarer (back-pressure),
 * never the guest. After a loss the same frozen cut is resumed with the same layer ids; parts the
 * target holds are not sent again. A seed is gone on with even when the process was killed: the
 * next one makes a new cut and keeps what stands at the target already (drafts/). Thread: all calls
 * on the loop's thread; driver callbacks run on worker threads (blocking allowed); events on the
 * loop.
 */
#ifndef REPLICATOR_SOURCE_H
#define REPLICATOR_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "replicator/manifest.h"

struct lb_env;
struct lb_fs;
struct lb_loop;
struct lb_key;
struct lb_signer;
struct img_dev;
struct img_extmap;
struct rep_source;
struct rep_tls; /* link.h */

/* One volume of a group, as configured. */
struct rep_source_volume {
	struct lb_id machine, volume;
	char machine_name[REP_NAME_MAX + 1], volume_name[REP_NAME_MAX + 1];
	enum rep_volume_kind kind;
	/* RAM: bytes of page copies kept as the base of patches (what is beyond goes as data); 0:
	 * the volume's size and an eighth more; less than a block: none. */
	uint64_t shadow_bytes;
};

/* What a driver hands over for one cut. All borrowed until end(). */
struct rep_cut_volume {
	struct img_dev *dev; /* reads the volume as of the cut */
	const struct img_extmap
		*changed; /* 4 KiB block runs that may differ from the last ACKED cut (a superset);
			     NULL: unknown, scan everything with digests */
	/* The point that `changed` counts from, as end() named it, also to an earlier process; when
	 * the other site holds another one, `changed` is not used, and that is an alarm. Zeros: a
	 * cut that was ended as acked in this process. */
	struct lb_hash since;
};
/* The state of a machine's virtual devices and processors at the cut, in the driver's own format.
 * Of 1 to REP_ATTACHMENT_MAX bytes; all attachments and names of a point fit in REP_RECORD_MAX. A
 * driver with more puts it into a further volume of kind RAM and says so in here. */
struct rep_cut_state {
	struct lb_id machine;
	const void *p;
	uint32_t bytes;
};
/*
 * With RAM volumes: RAM and disks are of the same instant, `dev` of a RAM volume reads staged
 * memory, and every machine that has a RAM volume has a state. Consistency MEMORY is for groups of
 * which every machine has RAM. LB_EINPUT, and the cut is given up, when that does not hold.
 */
struct rep_cut {
	struct rep_cut_volume *volume; /* as many as the group has, same order */
	const struct rep_cut_state *state;
	uint32_t states;
	struct lb_id barrier; /* the driver's name of the instant; zero: a random one is made */
	uint64_t capture_boot_ns, capture_wall_ns;
	enum rep_consistency consistency;
	const char *machine_json; /* description of all machines of the group, or NULL; goes into
				     the manifest, sealed with the first volume's machine's key */
	void *driver;             /* the driver's own */
	struct lb_hash point;     /* set for end(): what was acked */
};
struct rep_cut_ops {
	/* Make a cut of all volumes at one instant. Blocking. LB_EAGAIN/LB_ECHANGED: try again
	 * later. */
	int (*begin)(void *arg, struct rep_cut *out, struct lb_err *err);
	/* After everything was read: was it really frozen? LB_ECHANGED abandons the cut. */
	int (*check)(void *arg, struct rep_cut *cut, struct lb_err *err);
	/* Done with it; @acked: cut->point is durable at the peer: `changed` counts from it now. */
	void (*end)(void *arg, struct rep_cut *cut, bool acked);
};

struct rep_source_group {
	struct lb_id group;
	char name[REP_NAME_MAX + 1];
	uint64_t epoch;
	uint64_t interval_ns; /* a cut each; default 1 s */
	uint32_t volumes;
	const struct rep_source_volume *volume; /* copied */
	const struct rep_cut_ops *ops;
	void *arg;
	bool keyless; /* custody sealed: the peer is not given the machines' keys */
};

enum rep_source_event_type {
	REP_SOURCE_LINK_UP,
	REP_SOURCE_LINK_DOWN, /* err says why; reconnects by itself with back-off. Also without
				 LINK_UP before: no session came about, for a new reason */
	REP_SOURCE_CUT,       /* a cut was taken: seq */
	REP_SOURCE_PROGRESS,  /* bytes_done of bytes_all scanned; at most 4 a second a group */
	REP_SOURCE_ACKED,     /* point is durable at the peer: seq, manifest, receipt */
	REP_SOURCE_ABANDONED, /* cut given up: err; tried again by itself */
	REP_SOURCE_RESYNC,    /* peer's head is not what the digests, or the driver's changes,
				 describe: err says what will be sent or compared. An alarm. */
	REP_SOURCE_FENCED,    /* a higher epoch exists: epoch. The group is stopped for good. */
	REP_SOURCE_REFUSED,   /* peer refused: err */
};
struct rep_source_event {
	enum rep_source_event_type type;
	struct lb_id group; /* zero for LINK_* */
	uint64_t epoch, seq;
	struct lb_hash manifest;
	const struct rep_receipt *receipt;
	uint64_t bytes_done, bytes_all;
	const struct lb_err *err;
};

struct rep_source_stats { /* of one group */
	uint64_t points_acked;
	uint64_t last_acked_seq;
	uint64_t last_acked_capture_boot_ns;               /* 0: none yet */
	uint64_t bytes_read, bytes_changed, bytes_shipped; /* since start; shipped = wire payload */
	uint64_t blocks_data, blocks_zero, blocks_ref, blocks_patch; /* of bytes_changed */
	uint64_t blocks_kept; /* of blocks_data: at the peer since before a restart, not sent */
	uint64_t parts_sent,
		parts_resent_held; /* resent_held: sent again though the peer held them */
	uint64_t rate_bytes_per_s; /* shipped, smoothed */
	uint64_t scan_done_bytes, scan_all_bytes; /* of the running cut */
	bool link_up, busy, fenced;
};

struct rep_source_cfg {
	struct lb_env *env;
	struct lb_loop *loop;
	struct lb_fs *state; /* digest stores and redo logs: "digests/<volume id>"; journals of
				seeds that are being made: "drafts/<volume id>" */
	struct rep_tls *tls; /* client side, borrowed */
	const char *host;
	uint16_t port;
	struct lb_id deployment, site, boot_id;
	struct lb_id peer_site; /* must be in the peer's certificate */
	const struct lb_signer *signer;
	struct lb_pubkey peer_key;     /* verifies receipts */
	unsigned connections, workers; /* default 2, 2 */
	uint64_t window_bytes;         /* in flight over all connections; default 8 MiB */
	uint32_t seed_pack_bytes, delta_pack_bytes; /* default 256 KiB, 64 KiB */
	/* The data key of a machine; makes it when new. On a worker thread, one call at a time. */
	int (*dek_of)(void *arg, const struct lb_id *machine, struct lb_key *out);
	void (*on_event)(void *arg, const struct rep_source_event *e);
	void *arg;
};

int rep_source_create(struct rep_source **out, const struct rep_source_cfg *cfg,
		      struct lb_err *err);
void rep_source_destroy(struct rep_source *s); /* stops workers, ends cuts, closes links */
int rep_source_group_add(struct rep_source *s, const struct rep_source_group *g,
			 struct lb_err *err);
/* Stops the group: waits for the driver call that runs, ends the cut. Nothing of @group's driver is
 * called after it returns. The digest stores stay. */
void rep_source_group_remove(struct rep_source *s, const struct lb_id *group);
/* Take a cut as soon as possible instead of waiting for the interval. */
void rep_source_cut_now(struct rep_source *s, const struct lb_id *group);
bool rep_source_stats(struct rep_source *s, const struct lb_id *group,
		      struct rep_source_stats *out);

#endif
