/*
 * receiver_int.h - the receiver core's parts: receiver.c (connections, sessions, heartbeats, the
 * age of cuts), receiver_group.c (offers, records, points of a group).
 */
#ifndef REPLICATOR_RECEIVER_INT_H
#define REPLICATOR_RECEIVER_INT_H

#include <sys/queue.h>

#include "base/assert.h"
#include "base/buf.h"
#include "replicator/receiver.h"
#include "test_bugs.h"

#define NEVER                   UINT64_MAX
#define RECEIVER_PROBES         8u
#define RECEIVER_MAX_SITES      256u
#define RECEIVER_MAX_PENDING    8192u /* store ops of one connection */
#define RECEIVER_CREDIT_QUANTUM (128u << 10)

struct rprobe {
	uint64_t sent_ns, peer_ns;
};
/* A peer site, remembered across its sessions. */
struct rsite {
	TAILQ_ENTRY(rsite) link;
	struct lb_id id;
	struct lb_id session;
	uint64_t control;  /* connection 0 of the session; 0: no session */
	struct lb_id boot; /* of the probes */
	struct rprobe probe[RECEIVER_PROBES];
	unsigned probes, probe_next;
};
TAILQ_HEAD(rsite_list, rsite);

struct rconn {
	uint64_t id; /* 0: slot is free */
	struct lb_id peer;
	struct rsite *site; /* NULL before HELLO */
	unsigned number;
	uint64_t deadline_ns, ping_ns;
	uint64_t asked[RECEIVER_PROBES]; /* sending times of PINGs not yet answered */
	unsigned ask_next;
	uint64_t taken_bytes, credited_bytes; /* records stored; told in CREDIT */
	uint64_t unstored_bytes;              /* of records whose turn has not come */
	unsigned pending;
	bool doomed; /* closed at the end of the step */
	struct lb_err why;
};

/* A store op that is out, in order; or a record that is dropped in its turn (kind DROP). */
#define ROP_DROP 0
struct rpending {
	TAILQ_ENTRY(rpending) link;
	int type; /* enum rep_store_op_type, or ROP_DROP */
	uint64_t cookie, conn;
	uint64_t bytes;
	struct lb_id group, layer;
	bool offered;              /* QUERY for an OFFER, not for a STATUS_REQ */
	uint64_t epoch, seq;       /* COMMIT */
	uint64_t capture_boot_ns;  /* COMMIT */
	struct lb_id boot, writer; /* COMMIT */
};
TAILQ_HEAD(rpending_list, rpending);

struct rgroup {
	TAILQ_ENTRY(rgroup) link;
	struct lb_id id;
	struct lb_id session;    /* that offered last */
	struct rep_offer *asked; /* offered, its QUERY is out */
	uint64_t cookie;         /* of that QUERY */
	struct rep_offer *offer; /* admitted last; its drafts are in the store */
	bool open;               /* records of `offer` are taken */
};
TAILQ_HEAD(rgroup_list, rgroup);

struct rep_receiver {
	struct rep_receiver_cfg cfg;
	uint64_t now_ns, cookie;
	struct rconn *conn; /* cfg.max_connections slots */
	struct rsite_list sites;
	unsigned site_count;
	struct rgroup_list groups;
	unsigned group_count;
	struct rpending_list pending;
	bool suspect;
	struct rep_target_stats stats;
	struct rep_receiver_action *act; /* ring */
	unsigned act_cap, act_first, act_count;
};

/* receiver.c */
struct rep_receiver_action *receiver_push(struct rep_receiver *r,
					  enum rep_receiver_action_type type);
void receiver_send(struct rep_receiver *r, struct rconn *k, const struct rep_frame *f);
void receiver_doom(struct rconn *k, enum lb_code code, const char *what);
struct rconn *rconn_find(struct rep_receiver *r, uint64_t id);
bool rconn_is_control(const struct rconn *k);
/* Bytes of a record are stored, or dropped in their turn. */
void rconn_take(struct rep_receiver *r, struct rconn *k, uint64_t bytes);

/* receiver_group.c */
void rgroup_on_status_req(struct rep_receiver *r, struct rconn *k, const struct lb_id *group);
void rgroup_on_offer(struct rep_receiver *r, struct rconn *k, const struct rep_offer *o);
void rgroup_on_record(struct rep_receiver *r, struct rconn *k, const struct rep_record_frame *f,
		      const struct rep_receiver_event *e);
void rgroup_on_point(struct rep_receiver *r, struct rconn *k, const struct rep_point_frame *f);
void rgroup_on_key(struct rep_receiver *r, struct rconn *k, const struct rep_key_frame *f);
void rgroup_on_answer(struct rep_receiver *r, const struct rep_store_answer *a);
void rgroup_on_raised(struct rep_receiver *r, const struct lb_id *group, uint64_t epoch);
void rgroup_free(struct rep_receiver *r, struct rgroup *g);

#endif
