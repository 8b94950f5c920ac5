/*
 * replicator/receiver.h - stage 6 of 8: the pure core of accepting. All peers of a backup site. No
 * I/O, no threads, no clock of its own: step(state, event, now), then drain the actions.
 *
 *   connection:  UP -> HELLO (site must be the certificate's) -> part of a session (site, session
 * id) conn 0 opens the session and ends the older one of the same site; others join it group: OFFER
 * -> QUERY (store) -> ADMIT -> RECORD.. APPEND (store) .. CREDIT -> POINT
 *                -> COMMIT (store) -> RECEIPT
 *
 * Store actions (QUERY APPEND COMMIT ABANDON) are carried out in order, one at a time, by
 * rep_ingest_run() (ingest.h) on the store's thread, and come back as the STORE event, in the same
 * order. That order is what makes an ADMIT after a lost session exact: records of the old session
 * are appended before the new one's QUERY looks.
 *
 * The shell calls rep_receiver_step() with one event, then rep_receiver_next() until it returns
 * false. Buffers in actions are references handed over. Connections are named by the shell with
 * numbers that are never used again; after CLOSE or DOWN of one the shell reports nothing more of
 * it.
 *
 * Invariants: I1 I2 I3 I4 I7 I9 I10 I14 I17 (design 02). Thread: one (the shell's loop), ops
 * included.
 */
#ifndef REPLICATOR_RECEIVER_H
#define REPLICATOR_RECEIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "base/seal.h"
#include "replicator/frame.h"
#include "replicator/store.h"
#include "replicator/target.h"

struct lb_env;
struct lb_buf;
struct rep_receiver;

#define REP_RECEIVER_MAX_GROUPS 1024u

/* As in rep_target_cfg; asked while stepping. adopt and raise_epoch are durable when they return 0.
 */
struct rep_receiver_ops {
	bool (*peer_allowed)(void *arg, const struct lb_id *site);
	void (*role_of)(void *arg, const struct lb_id *group, struct rep_group_role *out);
	int (*adopt)(void *arg, const struct lb_id *group, const char *name, uint64_t epoch,
		     const struct lb_id *site, struct lb_err *err);
	int (*raise_epoch)(void *arg, const struct lb_id *group, uint64_t epoch,
			   const struct lb_id *site, struct lb_err *err);
	int (*store_key)(void *arg, const struct rep_key_frame *key, struct lb_err *err);
};

struct rep_receiver_cfg {
	struct lb_id deployment, site, boot_id;
	const struct rep_receiver_ops *ops;
	void *ops_arg;
	unsigned max_connections;    /* of all peers */
	uint64_t max_unstored_bytes; /* per connection, given to APPEND; more breaks the protocol */
	uint64_t ping_ns, dead_ns, hello_ns;
};
#define REP_RECEIVER_CFG_DEFAULTS                                                  \
	{                                                                          \
		.max_connections = 64, .max_unstored_bytes = 64u << 20,            \
		.ping_ns = UINT64_C(2000000000), .dead_ns = UINT64_C(30000000000), \
		.hello_ns = UINT64_C(10000000000),                                 \
	}

/* ---- store actions and their answers: see ingest.h ---- */

enum rep_store_op_type {
	REP_STORE_QUERY = 1,   /* head of a group; with layers: what is held of each */
	REP_STORE_APPEND = 2,  /* one part */
	REP_STORE_COMMIT = 3,  /* check a manifest and its layers, commit, sign the receipt */
	REP_STORE_ABANDON = 4, /* forget a draft layer */
};
struct rep_store_op {
	enum rep_store_op_type type;
	uint64_t cookie; /* the core's own; comes back */
	struct lb_id group;
	struct rep_offer *offer; /* QUERY with layers, COMMIT: owned by the op (free) */
	struct lb_buf *buf;      /* APPEND: frame payload; COMMIT: encoded manifest. Owned */
	enum rep_record_kind kind;
	struct lb_id layer; /* APPEND, ABANDON */
	uint32_t number;
	const uint8_t *body; /* APPEND: inside buf */
	uint32_t bytes;
	bool has_leaf;
	struct lb_hash leaf;
	struct lb_id writer; /* COMMIT: the peer that must have signed it */
};
struct rep_store_answer {
	enum rep_store_op_type type;
	uint64_t cookie;
	struct lb_err err;       /* code 0: done. APPEND: LB_EEXIST is told as done + duplicate */
	bool duplicate;          /* APPEND: was held already */
	uint32_t bytes;          /* APPEND: as asked */
	bool has_head;           /* QUERY */
	struct rep_point head;   /* QUERY; COMMIT: the point that is visible now */
	struct rep_admit *admit; /* QUERY with layers: layers and extras filled in. Owned (free) */
	bool again;              /* COMMIT: was visible before; the stored receipt is repeated */
	uint8_t receipt[REP_RECEIPT_BYTES]; /* COMMIT */
	uint64_t receive_boot_ns;           /* COMMIT */
};
void rep_store_op_fini(struct rep_store_op *op);        /* frees what it owns */
void rep_store_answer_fini(struct rep_store_answer *a); /* frees what it owns */

/* ---- events and actions ---- */

enum rep_receiver_event_type {
	REP_RECEIVER_TICK,
	REP_RECEIVER_UP,    /* conn, peer */
	REP_RECEIVER_DOWN,  /* conn, err (may be NULL) */
	REP_RECEIVER_FRAME, /* conn, frame; a reference to payload is taken where needed */
	REP_RECEIVER_STORE, /* answer; what it owns is left to the shell: rep_store_answer_fini() */
	REP_RECEIVER_RAISED, /* group, epoch: this site raised it (failover): fence whoever is lower
			      */
};
struct rep_receiver_event {
	enum rep_receiver_event_type type;
	uint64_t conn;
	union {
		struct lb_id peer;
		const struct lb_err *err;
		struct {
			enum rep_frame_type type;
			struct lb_buf *payload;
			const struct lb_hash *leaf; /* NULL: not computed (only for kinds that
						       have none) */
		} frame;
		const struct rep_store_answer *answer;
		struct {
			struct lb_id group;
			uint64_t epoch;
		} raised;
	};
};

enum rep_receiver_action_type {
	REP_RECEIVER_SEND,  /* conn, buf: reference handed over */
	REP_RECEIVER_CLOSE, /* conn, err (code 0: nothing to tell) */
	REP_RECEIVER_RUN,   /* op: queue it for the store's thread; rep_store_op_fini() after it ran
			     */
	REP_RECEIVER_POINT, /* point, age_known, age_ns, receive_boot_ns: visible and acknowledged
			     */
	REP_RECEIVER_PEER,  /* site, up, err: first connection 0 up, or session over */
	REP_RECEIVER_ALARM, /* ev, err: "store_suspect", "part_corrupt", "point_refused" */
};
struct rep_receiver_action {
	enum rep_receiver_action_type type;
	uint64_t conn;
	struct lb_buf *buf;
	struct rep_store_op op;
	struct rep_point point;
	bool again; /* POINT: was told before, or became visible without its receipt */
	bool age_known;
	uint64_t age_ns; /* upper bound of the cut's age at receive_boot_ns */
	uint64_t receive_boot_ns;
	struct lb_id site;
	bool up;
	const char *ev;
	struct lb_err err;
};

/* *@out is the caller's: rep_receiver_destroy(). Errors: LB_EINVAL, LB_ENOMEM. */
int rep_receiver_create(struct rep_receiver **out, const struct rep_receiver_cfg *cfg,
			struct lb_err *err);
void rep_receiver_destroy(struct rep_receiver *r); /* NULL is allowed */
/* Feed one event. Never fails: what a peer did wrong, or memory that is not there, closes its
 * connection. @now_ns (CLOCK_BOOTTIME) never goes backwards. */
void rep_receiver_step(struct rep_receiver *r, const struct rep_receiver_event *e, uint64_t now_ns);
bool rep_receiver_next(struct rep_receiver *r, struct rep_receiver_action *out);
uint64_t rep_receiver_deadline(const struct rep_receiver *r);
void rep_receiver_stats(const struct rep_receiver *r, struct rep_target_stats *out);
/*
 * Upper bound of the age, at @now_ns of this site's clock, of something @site captured when its
 * clock in boot @boot_id read @capture_boot_ns (I17). False: unknown, no probe of that boot yet.
 *
 *   a PING left at t0 and its PONG says the peer's clock read S, at some instant not before t0.
 *   So at T the peer's clock reads at most S + (T - t0), and the age is at most
 *   (T - t0) + (S - capture), plus 500 ppm of (T - t0) and of the sum: clocks differ in rate.
 *
 * The probe with the smallest bound of the newest few is used; its error is its round trip.
 */
bool rep_receiver_age_bound(const struct rep_receiver *r, const struct lb_id *site,
			    const struct lb_id *boot_id, uint64_t capture_boot_ns, uint64_t now_ns,
			    uint64_t *age_ns);

#endif
