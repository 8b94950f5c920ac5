/*
 * sender_int.h - the sender core's parts: sender.c (session and connections), sender_group.c (one
 * group's points), sender_part.c (the window: parts given, sent, credited, sent again).
 *
 * A part is in exactly one list: given -> queue -> a connection's flight -> credited (gone).
 * What was in flight on a lost connection is in limbo until the next ADMIT says whether the peer
 * holds it. A credit is always true, also after a refusal: the peer closes a connection rather than
 * crediting what it did not keep.
 */
#ifndef REPLICATOR_SENDER_INT_H
#define REPLICATOR_SENDER_INT_H

#include <sys/queue.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/env.h"
#include "replicator/sender.h"
#include "test_bugs.h"

#define NEVER UINT64_MAX

struct sgroup;

struct spart {
	TAILQ_ENTRY(spart) link;
	struct sgroup *group; /* NULL: its cut is over, only its credit is awaited */
	unsigned layer;       /* position in the offer */
	enum rep_record_kind kind;
	uint32_t number, bytes;
	struct lb_buf *head, *body;
	bool sent;    /* at least once */
	uint64_t end; /* bytes of the connection up to and with this part */
};
TAILQ_HEAD(spart_list, spart);

enum sconn_state {
	SCONN_IDLE, /* waits for retry_ns, or for conn 0 */
	SCONN_CONNECTING,
	SCONN_HELLO, /* ours is sent */
	SCONN_UP,
};
struct sconn {
	enum sconn_state state;
	uint64_t retry_ns, backoff_ns;
	uint64_t deadline_ns; /* HELLO: give up; UP: dead when nothing is heard until */
	uint64_t ping_ns;     /* next PING */
	uint64_t sent_bytes, credited_bytes;
	struct spart_list flight;
};

enum ssync {
	SSYNC_NO,    /* peer's head unknown */
	SSYNC_ASKED, /* STATUS_REQ is out */
	SSYNC_YES,
};
enum scut {
	SCUT_NONE,
	SCUT_WAIT,    /* made, to be offered */
	SCUT_OFFERED, /* ADMIT or REFUSE is awaited */
	SCUT_OPEN,    /* admitted: parts flow */
	SCUT_POINTED, /* RECEIPT or REFUSE is awaited */
};
struct slayer {
	uint64_t packs_credited, others_credited; /* others: digests, index, leaves, footer */
	bool header_credited;
};
struct sgroup {
	TAILQ_ENTRY(sgroup) link;
	struct rep_sender_group id;
	bool over; /* fenced or stopped */
	enum ssync sync;
	uint64_t reply_ns;             /* STATUS_REQ, OFFER: answer is due; else NEVER */
	uint64_t again_ns, backoff_ns; /* refused: not before; 0: not refused */
	bool ready, resync_told;
	struct rep_sender_place place;

	enum scut cut;
	struct rep_sender_place at; /* of the running cut */
	struct rep_offer_layer *offer;
	struct slayer *layer;
	uint32_t layers;
	bool scan_told, base_refused;
	struct lb_id admitter; /* peer's boot when the cut was first admitted */
	struct lb_buf *manifest;
	struct lb_hash hash;
	uint64_t capture_boot_ns;
	uint64_t parts, limbo; /* not yet credited in all; of these, waiting for ADMIT */
	unsigned keys;         /* not yet stored by the peer */
};
TAILQ_HEAD(sgroup_list, sgroup);

struct skey {
	TAILQ_ENTRY(skey) link;
	struct rep_key_frame key;
};
TAILQ_HEAD(skey_list, skey);

struct rep_sender {
	struct rep_sender_cfg cfg;
	uint64_t now_ns;
	struct lb_id session, peer_boot;
	struct sconn conn[REP_SENDER_MAX_CONNECTIONS];
	struct sgroup_list groups;
	unsigned group_count;
	struct skey_list keys;
	unsigned key_count;
	struct spart_list queue, limbo;
	unsigned parts;
	bool want_room, broken;
	struct lb_err broken_why;
	struct rep_sender_stats stats;
	struct rep_sender_action *act; /* ring */
	unsigned act_cap, act_first, act_count;
	struct rep_admit admit;     /* what a SCAN in the ring points to */
	struct rep_receipt receipt; /* an ACKED likewise */
	uint8_t receipt_bytes[REP_RECEIPT_BYTES];
};

/* sender.c */
struct rep_sender_action *sender_push(struct rep_sender *s, enum rep_sender_action_type type);
void sender_send(struct rep_sender *s, unsigned conn, const struct rep_frame *f);
bool sender_is_up(const struct rep_sender *s);
/* End the whole session at the end of this step. */
void sender_break(struct rep_sender *s, enum lb_code code, const char *what);

/* sender_group.c */
struct sgroup *sgroup_find(struct rep_sender *s, const struct lb_id *id);
int sgroup_add(struct rep_sender *s, const struct rep_sender_group *g, struct lb_err *err);
void sgroup_gone(struct rep_sender *s, const struct lb_id *id);
void sgroup_free(struct rep_sender *s, struct sgroup *g);
void sgroup_session_up(struct rep_sender *s, struct sgroup *g);
void sgroup_session_down(struct sgroup *g);
void sgroup_tick(struct rep_sender *s, struct sgroup *g);
uint64_t sgroup_deadline(const struct rep_sender *s, const struct sgroup *g);
int sgroup_cut(struct rep_sender *s, const struct rep_sender_event *e, struct lb_err *err);
int sgroup_sealed(struct rep_sender *s, const struct rep_sender_event *e, struct lb_err *err);
void sgroup_dropped(struct rep_sender *s, const struct lb_id *id);
/* Whatever became possible: sync, offer, point. */
void sgroup_advance(struct rep_sender *s, struct sgroup *g);
void sgroup_on_status(struct rep_sender *s, const struct rep_status *st);
void sgroup_on_admit(struct rep_sender *s, const struct rep_admit *a);
void sgroup_on_refuse(struct rep_sender *s, const struct rep_refuse *r);
void sgroup_on_receipt(struct rep_sender *s, const uint8_t *p, uint32_t len);
void sgroup_on_fence(struct rep_sender *s, const struct rep_fence *f);

/* sender_part.c */
int spart_give(struct rep_sender *s, const struct rep_sender_event *e, struct lb_err *err);
bool spart_next(struct rep_sender *s, struct rep_sender_action *out);
/* CREDIT came. False: more than was sent. */
bool spart_credit(struct rep_sender *s, unsigned conn, uint64_t total);
void spart_conn_lost(struct rep_sender *s, unsigned conn);
/* The cut of @g is over: release what it has. */
void spart_forget(struct rep_sender *s, struct sgroup *g);
/* Before anything was given: what the peer holds counts as credited. */
void spart_held_before(struct sgroup *g, const struct rep_admit *a);
/* What is in limbo is dropped or queued again. False: the peer lost what it had credited. */
bool spart_reconcile(struct rep_sender *s, struct sgroup *g, const struct rep_admit *a);

#endif
