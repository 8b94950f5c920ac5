/*
 * replicator/sender.h - stage 5 of 8: the pure core of shipping. One peer site, any number of
 * groups. No I/O, no threads, no clock of its own: step(state, event, now), then drain the actions.
 *
 *   session:  DOWN -CONNECT 0-> hello 0 -> UP -CONNECT 1..n-1-> more connections as they come
 *             (conn 0 carries control; losing it ends the session; losing another one does not)
 *   group:    SYNC (STATUS_REQ) -> READY -CUT-> OFFER -> ADMIT/SCAN -PARTs, CREDITs-> CUT_SEALED
 *             -> all credited -> POINT -> RECEIPT -> ACKED -> READY ...
 *             a lost session goes back to SYNC and, when the peer's head is still the cut's prev,
 *             offers the same layers again: what the peer holds is not sent again.
 *
 * The shell (source.c, or the simulator) calls rep_sender_step() with one event, then
 * rep_sender_next() until it returns false and carries each action out, then sleeps until
 * rep_sender_deadline() or the next event. Buffers in actions are references handed over: the shell
 * unrefs them. Other pointers in actions are borrowed until the next step.
 *
 * Connections are numbered 0..connections-1. After CONNECT n the shell reports UP n or DOWN n
 * (could not connect). After CLOSE n, or after having reported DOWN n, it reports nothing more of n
 * until the next CONNECT n: late callbacks of the old link are dropped by the shell.
 *
 * Invariants: (S1) POINT leaves only after every part of the cut was credited. (S2) a group that
 * saw a higher epoch never sends again. (S3) ACKED only for a verified receipt of exactly (group,
 * epoch, seq, manifest), or for a STATUS whose head is exactly that manifest. (S4) at most
 * window_bytes of parts are kept. Thread: one (the shell's loop).
 */
#ifndef REPLICATOR_SENDER_H
#define REPLICATOR_SENDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "base/seal.h"
#include "replicator/frame.h"
#include "replicator/manifest.h"
#include "replicator/record.h"

struct lb_env;
struct lb_buf;
struct rep_sender;

#define REP_SENDER_MAX_CONNECTIONS 16u
#define REP_SENDER_MAX_GROUPS      1024u
#define REP_SENDER_MAX_PARTS       4096u /* parts kept without credit, whatever their size */

struct rep_sender_cfg {
	struct lb_env *env; /* randomness only: session ids, jitter */
	struct lb_id deployment, site, boot_id, peer_site;
	struct lb_pubkey peer_key; /* verifies receipts */
	unsigned connections;      /* 1..REP_SENDER_MAX_CONNECTIONS */
	uint64_t window_bytes;     /* parts without credit, over all connections */
	uint64_t ping_ns, dead_ns; /* heartbeat on conn 0, and silence that means dead */
	uint64_t hello_ns;         /* TLS is up but no HELLO came: dead */
	uint64_t reply_ns;         /* no answer to STATUS_REQ, OFFER, POINT: the session is ended */
	uint64_t reconnect_min_ns, reconnect_max_ns; /* doubling, with jitter */
	uint64_t refused_min_ns, refused_max_ns;     /* after SPACE, BUSY, SUSPECT; doubling */
	/* Asked while stepping, about the peer's head: do the sealed redo logs (digest.h) of all
	 * volumes of @group lead to @manifest, some perhaps applied already? Then its receipt was
	 * lost, and ACKED follows. Quick, no blocking I/O. NULL: never. */
	bool (*leads_to)(void *arg, const struct lb_id *group, const struct lb_hash *manifest);
	void *arg;
};
#define REP_SENDER_CFG_DEFAULTS                                                                    \
	{                                                                                          \
		.connections = 2, .window_bytes = 8u << 20, .ping_ns = UINT64_C(2000000000),       \
		.dead_ns = UINT64_C(10000000000), .hello_ns = UINT64_C(10000000000),               \
		.reply_ns = UINT64_C(120000000000), .reconnect_min_ns = UINT64_C(200000000),       \
		.reconnect_max_ns = UINT64_C(30000000000), .refused_min_ns = UINT64_C(1000000000), \
		.refused_max_ns = UINT64_C(60000000000),                                           \
	}

/* What the durable state at the source says of a group (digest stores; all volumes agree). */
struct rep_sender_group {
	struct lb_id group;
	char name[REP_NAME_MAX + 1];
	uint64_t epoch;
	struct lb_hash described; /* manifest every volume's digests describe; zero: none */
};

/* Numbers of the next cut, as READY gave them; CUT must bring the same ones back. */
struct rep_sender_place {
	uint64_t epoch, seq;
	struct lb_hash prev; /* zero: first point ever */
	struct lb_hash base; /* what the digests describe; zero: every layer must be full */
};

enum rep_sender_event_type {
	REP_SENDER_TICK,       /* time passed */
	REP_SENDER_UP,         /* conn, peer: connected and authenticated */
	REP_SENDER_DOWN,       /* conn, err (may be NULL): lost, or could not connect */
	REP_SENDER_FRAME,      /* conn, frame: one frame came in */
	REP_SENDER_GROUP_ADD,  /* add. LB_EEXIST, LB_ENOMEM */
	REP_SENDER_GROUP_GONE, /* group: forget it, with its cut */
	REP_SENDER_CUT,  /* group, cut: a cut was made. LB_EAGAIN: place is not what READY said last
			    (or one is running): end the cut, wait for READY */
	REP_SENDER_PART, /* part. LB_EAGAIN: no room, try again after ROOM; LB_ENOTFOUND: that cut
			    is over, drop it. References are taken on success only */
	REP_SENDER_CUT_SEALED,  /* group, sealed: all parts are given, the redo logs are durable
				   under  this manifest's hash. LB_ENOTFOUND as PART */
	REP_SENDER_CUT_DROPPED, /* group: the shell gave the cut up (source changed, read error);
				   not after CUT_SEALED. READY follows when it fits */
	REP_SENDER_KEY, /* key: custody hot; offered again in each session until the peer stored
			   it; no OFFER of its group leaves before. LB_ENOMEM */
};

struct rep_sender_event {
	enum rep_sender_event_type type;
	unsigned conn;
	struct lb_id group; /* GROUP_GONE, CUT, CUT_SEALED, CUT_DROPPED */
	union {
		struct lb_id peer; /* UP: site of the verified certificate */
		const struct lb_err *err;
		struct {
			enum rep_frame_type type;
			const void *payload; /* borrowed */
			uint32_t bytes;
		} frame;
		const struct rep_sender_group *add;
		struct {
			struct rep_sender_place place;
			const struct rep_offer_layer *layer; /* copied */
			uint32_t layers;
		} cut;
		struct {
			struct lb_id group, layer;
			enum rep_record_kind kind;
			uint32_t number;
			uint32_t bytes;      /* of the record's body: what CREDIT counts */
			struct lb_buf *head; /* the encoded RECORD frame, or its first piece */
			struct lb_buf *body; /* second piece (rep_link_send2), or NULL */
		} part;
		struct {
			struct lb_buf *manifest; /* encoded and signed; a reference is taken */
			uint64_t capture_boot_ns;
		} sealed;
		const struct rep_key_frame *key; /* copied, wiped after KEY_OK */
	};
};

enum rep_sender_action_type {
	REP_SENDER_CONNECT, /* conn */
	REP_SENDER_CLOSE,   /* conn, err (code 0: no reason to tell the peer) */
	REP_SENDER_SEND,    /* conn, head, body (may be NULL): references handed over */
	REP_SENDER_LINK_UP,
	REP_SENDER_LINK_DOWN, /* err; reconnects by itself */
	REP_SENDER_READY,     /* group, place: a cut may be made, now or later */
	REP_SENDER_RESYNC, /* group, err: peer's head is not what the digests describe; READY with a
			      zero base follows. An alarm: everything is sent again */
	REP_SENDER_SCAN,   /* group, admit: the offer is admitted, read and give PARTs. Once a cut.
			      What the peer holds (of an earlier attempt at a layer) need not be given
			    */
	REP_SENDER_ROOM,   /* the window has room again (only after PART gave LB_EAGAIN) */
	REP_SENDER_ACKED,  /* group, place, manifest, receipt (NULL: learned from STATUS). Apply the
			      redo logs of this manifest, end the cut. READY follows */
	REP_SENDER_ABANDONED, /* group, err, alarm: end the cut, drop its redo logs; the next one
				 has new layer ids. READY follows when it fits */
	REP_SENDER_REFUSED,   /* group, err: the peer cannot take it now; tried again by itself */
	REP_SENDER_FENCED,  /* group, epoch, err: a higher epoch exists; stopped for good. A running
			       cut is over (no ABANDONED) */
	REP_SENDER_STOPPED, /* group, err: the peer may not be written by us; likewise over */
};

struct rep_sender_action {
	enum rep_sender_action_type type;
	unsigned conn;
	struct lb_id group;
	struct lb_buf *head, *body;
	struct rep_sender_place place;
	struct lb_hash manifest;
	const struct rep_receipt *receipt; /* decoded, verified; borrowed until the next step */
	const uint8_t *receipt_bytes;      /* REP_RECEIPT_BYTES, as the peer signed it */
	const struct rep_admit *admit;     /* SCAN: borrowed until the next step */
	uint64_t epoch;
	bool alarm;
	struct lb_err err;
};

struct rep_sender_stats {
	uint64_t sessions;          /* opened since create */
	uint64_t parts_sent;        /* RECORD frames, resent ones included */
	uint64_t bytes_sent;        /* their bodies */
	uint64_t parts_resent;      /* sent in an earlier session or on a lost connection already */
	uint64_t parts_skipped;     /* not sent again because the peer held them */
	uint64_t parts_resent_held; /* sent again though ADMIT said held: more extras than fit */
	uint64_t unacked_bytes;     /* given by PART, not yet credited */
	uint64_t rtt_ns;            /* of the newest PONG; 0: none */
	bool up;
};

/* *@out is the caller's: rep_sender_destroy(). Connects at the first step. LB_EINVAL, LB_ENOMEM. */
int rep_sender_create(struct rep_sender **out, const struct rep_sender_cfg *cfg,
		      struct lb_err *err);
void rep_sender_destroy(struct rep_sender *s); /* drops all references; NULL is allowed */
/* Feed one event. An error concerns the event only (see the list above) and leaves the state good;
 * what the peer did wrong comes out as CLOSE, never as an error. @now_ns never goes backwards. */
int rep_sender_step(struct rep_sender *s, const struct rep_sender_event *e, uint64_t now_ns,
		    struct lb_err *err);
/* Next action; false: none left. Must be drained after every step. */
bool rep_sender_next(struct rep_sender *s, struct rep_sender_action *out);
/* When TICK is due if nothing else happens; UINT64_MAX: never. */
uint64_t rep_sender_deadline(const struct rep_sender *s);
/* Bytes PART would take now (0: wait for ROOM, which is then promised). */
uint64_t rep_sender_room(struct rep_sender *s);
void rep_sender_stats(const struct rep_sender *s, struct rep_sender_stats *out);

#endif
