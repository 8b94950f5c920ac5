/*
 * tests/sim/sim.h - a source site, a target site and all that can go wrong between them, in one
 * process on virtual time, from one 64-bit seed.
 *
 *   both sites run product code: sender, receiver, ingest, store, digest store, formats, keys.
 *   The shells around it (sim_source.c, sim_target.c) are the simulator's; disks are lb_memfs.
 *   sim_world.c is time and the network; sim_fault.c does harm; sim_oracle.c knows what is true.
 *
 * A block's content follows from (volume, block, version), so what a cut held is a table of
 * versions. One seed gives one run: nothing else is read, no clock, no address.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/seal.h"
#include "draft_int.h"
#include "replicator/digest.h"
#include "replicator/ingest.h"
#include "replicator/receiver.h"
#include "replicator/sender.h"
#include "replicator/store.h"

#define SIM_VOLUMES     2u /* a disk, and RAM */
#define SIM_RAM         1u
#define SIM_MAX_BLOCKS  192u
#define SIM_MAX_CONNS   64u /* alive at once, closing ones included */
#define SIM_CONNECTIONS 2u
#define SIM_MAX_PACKS   (8u * SIM_MAX_BLOCKS) /* numbers of attempts that were broken off, too */
#define SIM_MAX_PARTS   (SIM_MAX_PACKS + 16u)
#define SIM_MAX_OPS     4096u
#define SIM_STATE_BYTES 16u
#define MS              UINT64_C(1000000)
#define SEC             UINT64_C(1000000000)

#define SIM_FAULTS(X)                                                              \
	X(PARTITION)    /* nothing passes for a while, then everything does */     \
	X(RESET_ALL)    /* every connection breaks */                              \
	X(RESET_ONE)    /* one does */                                             \
	X(HALF_OPEN)    /* one side only is told that a connection broke */        \
	X(STALL_ONE)    /* one connection passes nothing for a while */            \
	X(SECOND)       /* somebody opens a second session as the same site */     \
	X(REPLAY)       /* an old receipt comes again, in answer to a POINT */     \
	X(SOURCE_KILL)  /* process dies, its files are as they were */             \
	X(SOURCE_POWER) /* machine dies, what was not synced may be lost */        \
	X(SOURCE_DISK)  /* an operation on its disk fails, or the power with it */ \
	X(SOURCE_BLANK) /* process dies, its digest stores are lost */             \
	X(TARGET_KILL)                                                             \
	X(TARGET_POWER)                                                            \
	X(TARGET_CUT)  /* power fails inside an operation or a sync */             \
	X(TARGET_FAIL) /* an operation on its disk fails */                        \
	X(TARGET_FULL) /* no space for a while */                                  \
	X(TARGET_SLOW) /* its disk takes long */                                   \
	X(WALL_JUMP)   /* wall clocks step */                                      \
	X(FAILOVER)    /* the target raises the epoch, later gives the role back */
#define SIM_FAULT_ENUM(name) FAULT_##name,
enum sim_fault {
	SIM_FAULTS(SIM_FAULT_ENUM) FAULT_COUNT
};
#undef SIM_FAULT_ENUM
struct sim;

/* Clocks and randomness of one site. */
struct sim_env {
	struct lb_env env;
	struct sim *sim;
	uint64_t rnd;
	uint64_t boot_at; /* virtual time of this boot */
	int64_t drift_ppm;
	int64_t wall_off;
	struct lb_id boot_id;
};

enum sim_event_type {
	EV_CONNECT,   /* at the target: conn */
	EV_CONNECTED, /* at the source */
	EV_FRAME,
	EV_CLOSED,
	EV_SOURCE_TICK,
	EV_TARGET_TICK,
	EV_CUT,
	EV_GIVE,
	EV_STORE,
	EV_SOURCE_START,
	EV_TARGET_START,
	EV_FAULT,
	EV_SPACE_BACK,
	EV_FAST_AGAIN,
	EV_FAILOVER,
	EV_GIVE_BACK,
	EV_GHOST_GONE,
};
struct sim_event {
	uint64_t at, order;
	enum sim_event_type type;
	uint64_t gen; /* of the process it is for; else 0 */
	uint64_t conn;
	uint64_t turn; /* in its connection and direction, from 1; 0: out of turn */
	unsigned dir;  /* 0: to the target, 1: to the source */
	bool refused;
	struct lb_buf *buf;
};

struct sim_conn {
	uint64_t id; /* 0: free */
	unsigned number;
	bool ghost;                /* of the second session: no sender behind it */
	bool open[2];              /* [0] at the target, [1] at the source */
	uint64_t at[2];            /* nothing is delivered before, per direction */
	uint64_t sent[2], done[2]; /* turns */
	uint64_t stalled_until;
	struct lb_id session; /* its HELLO was answered */
	bool silent;          /* a loss is not told to the other side */
};

struct sim_part {
	unsigned layer;
	enum rep_record_kind kind;
	uint32_t number;
	struct lb_buf *body;
	bool fill; /* a pack in the place of one that never arrived */
	struct lb_hash leaf;
	uint32_t blocks; /* of a pack, as the draft's journal wants them */
	uint64_t block[8];
	struct lb_digest digest[8];
};
struct sim_place { /* of a data block; layer zero: none */
	struct lb_id layer;
	uint32_t pack, pos;
};
struct sim_versions {
	uint32_t of[SIM_VOLUMES][SIM_MAX_BLOCKS];
	struct sim_place ram[SIM_MAX_BLOCKS]; /* reached by a visible point: oracle's */
};
struct sim_cut {
	bool active, sealed, waits_room;
	struct rep_sender_place place;
	struct sim_versions frozen;
	struct lb_id layer[SIM_VOLUMES];
	uint64_t captured_at, capture_boot_ns;
	struct sim_part part[SIM_MAX_PARTS];
	unsigned parts, given;
	struct rep_manifest *m;
	uint8_t state[SIM_STATE_BYTES]; /* sealed device state */
	struct lb_hash hash;
};

struct sim_source {
	struct sim_env env;
	struct lb_fs *fs;
	uint64_t gen; /* counts processes; events of an older one are void */
	bool up, ready, fenced;
	bool voided;      /* a full cut was begun and not acknowledged yet */
	bool disk_failed; /* a write failed, half done perhaps */
	struct rep_sender *sender;
	struct rep_digest *digest[SIM_VOLUMES];
	struct rep_shadow *shadow; /* of the RAM; its process's */
	struct rep_draft *draft;   /* of the disk's layer in the running cut; NULL: none */
	struct lb_id run;          /* of its process, in the draft's journal */
	struct lb_hash described;  /* by the digests */
	struct rep_sender_place place;
	struct sim_cut cut;
	struct sim_versions disk;
	uint32_t next_version;
	uint64_t epoch;
	uint64_t conn[SIM_CONNECTIONS]; /* network's id of our connection n */
	uint64_t tick_at;
	struct lb_id last_layer[SIM_VOLUMES];
};

struct sim_target {
	struct sim_env env;
	struct lb_fs *fs;
	uint64_t gen;
	bool up, suspect, ack_stopped;
	struct rep_receiver *receiver;
	struct rep_ingest *ingest;
	struct rep_store *store;
	struct rep_store_op op[SIM_MAX_OPS]; /* ring */
	unsigned op_first, op_count;
	bool busy;
	struct rep_group_role role; /* durable the moment it is set: roles have their own tests */
	uint64_t slow_ns, tick_at;
	bool failing_over;
	uint64_t lost_at, error_at; /* its power failed; an operation of its store failed */
	struct lb_id draft[SIM_VOLUMES], gone[SIM_VOLUMES]; /* admitted last; before that */
	/* harm that waits in its disk; put off while the oracle reads */
	uint64_t fail_op, cut_op, cut_sync;
	int fail_code;
};

struct sim_truth {
	struct lb_hash manifest, prev, base;
	uint64_t epoch, seq;
	uint64_t captured_at;
	struct sim_versions v;
	bool visible, acked;
};
struct sim_oracle {
	struct sim_truth *t;
	unsigned n, cap;
	struct lb_hash head;   /* newest visible */
	uint64_t fenced_below; /* no point of a lower epoch becomes visible */
	uint64_t last_acked_capture;
	unsigned acked, checked_images;
};

struct sim_counts {
	uint64_t fault[FAULT_COUNT], faults;
	uint64_t cuts, acked, acked_by_status, abandoned, resyncs, refused, fenced, sessions;
	uint64_t events, points, receipts, duplicates, parts, resent, skipped, resent_held;
	uint64_t suspects, digests_lost, images, virtual_ns, ages, age_unknown, age_error_max_ns,
		ram_data, ram_twice, ram_full, refs, patches, seeds, seed_kills, drafts,
		drafts_dropped, kept, filled, seed_blocks;
};

struct sim {
	uint64_t seed, rnd, now, order;
	struct sim_event *heap;
	unsigned events, event_cap;
	struct sim_conn conn[SIM_MAX_CONNS];
	uint64_t next_conn, partition_until;
	uint8_t old_receipt[REP_RECEIPT_BYTES];
	bool has_receipt, replay;
	uint64_t latency_ns, jitter_ns, ns_per_byte;
	struct sim_source src;
	struct sim_target tgt;
	struct sim_oracle oracle;
	struct sim_counts count;
	/* identities */
	struct lb_id deployment, group, site[2], machine, volume[SIM_VOLUMES];
	uint32_t blocks[SIM_VOLUMES], pack_blocks;
	struct lb_signer *signer[2]; /* [0] target's, [1] source's */
	struct lb_pubkey pub[2];
	struct lb_key dek;
	uint64_t window_bytes;
	bool calm; /* no more faults */
	bool verbose;
	unsigned want_cuts, want_faults;
	char violation[512]; /* "": none yet */
};

struct sim_opts {
	uint64_t seed;
	unsigned cuts, faults;
	bool verbose;
};
/* 0: all invariants held. 1: out->violation says which did not. */
struct sim_result {
	struct sim_counts count;
	char violation[512];
};
int sim_run(struct sim_result *out, const struct sim_opts *o);

/* sim_world.c */
void sim_violate(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sim_log(const struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t sim_below(struct sim *s, uint64_t n);
bool sim_chance(struct sim *s, unsigned pct);
struct lb_id sim_id(struct sim *s);
void sim_at(struct sim *s, uint64_t delay_ns, struct sim_event e);
bool sim_next(struct sim *s, struct sim_event *out);
void sim_env_init(struct sim_env *e, struct sim *s, uint64_t seed);
void sim_env_boot(struct sim_env *e);
struct sim_conn *net_find(struct sim *s, uint64_t id);
uint64_t net_connect(struct sim *s, unsigned number, bool ghost);
void net_send(struct sim *s, uint64_t id, unsigned dir, struct lb_buf *head, struct lb_buf *body);
void net_close(struct sim *s, uint64_t id, unsigned side);
/* The process at @side is gone; @told: its kernel says so to the peer. */
void net_process_gone(struct sim *s, unsigned side, bool told);
void net_reset(struct sim *s, struct sim_conn *c);
void net_half_open(struct sim *s, struct sim_conn *c, unsigned told_side);
void net_event(struct sim *s, struct sim_event *e);

/* sim_layer.h has its own; sim_source.c, sim_target.c */
void source_start(struct sim *s);
void source_stop(struct sim *s, bool power);
void source_blank(struct sim *s); /* likewise, and its digest stores are lost */
void source_event(struct sim *s, struct sim_event *e);
void source_step(struct sim *s, const struct rep_sender_event *e);
void target_start(struct sim *s);
void target_stop(struct sim *s, bool power);
void target_event(struct sim *s, struct sim_event *e);
void target_step(struct sim *s, const struct rep_receiver_event *e);

/* sim_fault.c */
void fault_event(struct sim *s, struct sim_event *e);
void fault_calm(struct sim *s);
/* Let the oracle read the target's disk in peace. */
void fault_hold(struct sim *s, uint64_t ops_syncs[2]);
void fault_hold_fail(struct sim *s, uint64_t ops_syncs[2]); /* failures only */
void fault_release(struct sim *s, const uint64_t ops_syncs[2]);

/* sim_oracle.c */
void oracle_cut(struct sim *s, const struct sim_cut *c);
void oracle_point(struct sim *s, const struct rep_receiver_action *a);
void oracle_receipt(struct sim *s, const uint8_t *receipt);
void oracle_acked(struct sim *s, const struct rep_sender_action *a);
/* The cut was given up: was there cause? */
void oracle_abandoned(struct sim *s, const struct rep_sender_action *a);
void oracle_admit(struct sim *s, const struct rep_admit *a);
void oracle_look(struct sim *s); /* what became visible */
void oracle_reopened(struct sim *s);
void oracle_end(struct sim *s);
struct sim_truth *oracle_find(struct sim *s, const struct lb_hash *manifest);

#endif
