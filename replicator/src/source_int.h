/*
 * source_int.h - the source engine's parts: source.c (sender core, links, parts on their way),
 * source_group.c (the life of one group), source_cut.c (what runs on worker threads).
 *
 * A group does one job at a time on the pool: OPEN (digest stores), BEGIN (driver's cut), SCAN
 * (layers, check, manifest, redo logs), END (commit of the logs, driver's end). Between jobs its
 * fields belong to the loop's thread; a job touches those marked (job), under no lock, because
 * nobody else does while it runs. Workers hand parts over through one bounded queue; when it is
 * full they wait, and so does the scan: that is the back-pressure of a slow link.
 */
#ifndef REPLICATOR_SOURCE_INT_H
#define REPLICATOR_SOURCE_INT_H

#include <pthread.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/loop.h"
#include "base/seal.h"
#include "draft_int.h"
#include "replicator/digest.h"
#include "replicator/link.h"
#include "replicator/sender.h"
#include "replicator/source.h"

enum source_job_kind {
	JOB_OPEN,
	JOB_BEGIN,
	JOB_SCAN,
	JOB_END
};

enum source_phase {
	PHASE_NONE,    /* no cut */
	PHASE_OFFERED, /* the core has the cut, SCAN is awaited */
	PHASE_SCANNED, /* every part is in the queue; CUT_SEALED follows the last */
	PHASE_SEALED,  /* the core has the manifest, ACKED is awaited */
};

struct source_job {
	TAILQ_ENTRY(source_job) link; /* in s->orphans, when g is NULL */
	struct rep_source *s;
	struct source_group *g; /* NULL: removed meanwhile */
	enum source_job_kind kind;
	bool commit;    /* END: apply the logs that lead to manifest */
	bool cut_acked; /* END: the running cut is the one the peer has */
	struct lb_hash manifest;
	bool started, finished; /* under s->lock; g too until started */
	int rc;
	struct lb_err err;
};

struct source_group {
	TAILQ_ENTRY(source_group) link;
	struct rep_source *s;
	struct rep_source_group cfg; /* volume: own copy */
	struct lb_timer *timer;
	struct source_job *job; /* NULL: none runs */

	bool in_core;                  /* GROUP_ADD was given */
	bool stopped;                  /* fenced or refused for good */
	bool ready, now;               /* the core awaits a cut; one is wanted at once */
	struct rep_sender_place place; /* of that cut */
	uint64_t due_ns, retry_ns;     /* next cut not before; grows with failures */
	bool over;                     /* the core gave the running cut up */
	bool acked; /* acked_manifest is durable at the peer, logs not applied yet */
	struct lb_hash acked_manifest;
	struct rep_sender_place acked_place;
	enum source_phase phase;
	struct lb_buf *manifest; /* (job) */

	bool canceled;         /* atomic: the scan is to stop */
	unsigned parts_queued; /* under s->lock */
	uint64_t scan_done_bytes, scan_all_bytes, progress_ns, bytes_read; /* atomic */
	uint64_t blocks_data, blocks_zero, blocks_ref, blocks_patch;       /* atomic */
	uint64_t blocks_kept;                                              /* atomic */

	pthread_mutex_t digest_lock; /* guards the two below against leads_to */
	struct rep_digest **digest;  /* (job) one a volume; NULL: not open */
	bool digest_bad;             /* (job) open them again */
	bool drafts_gone;            /* (job) no journal of a volume is on the disk */
	bool drafts_off;             /* (job) one could not be removed: go on with none */
	struct rep_draft **draft;    /* (job) one a volume; NULL: none of the running cut */
	struct rep_admit *admit;     /* (job) of the running cut */
	struct rep_shadow **shadow;  /* (job) one a volume; NULL: of a disk, or none */
	struct lb_hash described;    /* (job) by OPEN */
	struct lb_key *dek;          /* (job) one a volume, by the first OPEN */
	struct lb_id *key_id;        /* (job) */
	bool have_keys;              /* (job) */
	struct rep_cut cut;          /* (job) */
	bool have_cut;               /* (job) */
	struct lb_hash before; /* (job) what the digests described before their newest commit */
	struct lb_err strayed; /* (job) changes that count from elsewhere: told after it */
	struct rep_sender_place at;    /* (job) of the running cut */
	struct rep_offer_layer *layer; /* (job) of the running cut, one a volume */

	struct rep_source_stats stats;
	uint64_t rate_from_ns, rate_bytes;
};

/* A part between a worker and the core. */
struct source_part {
	TAILQ_ENTRY(source_part) link;
	struct source_group *g;
	struct lb_id group, layer;
	enum rep_record_kind kind;
	uint32_t number;
	struct lb_buf *head, *body;
};

struct source_conn {
	struct rep_source *s;
	unsigned n;
	struct rep_link *link; /* NULL: none */
};

/* A link the core closed; it says its reason to the peer and goes. */
struct source_gone {
	TAILQ_ENTRY(source_gone) link;
	struct rep_link *l;
};

struct source_token;
struct rep_source {
	struct rep_source_cfg cfg;
	struct source_token *token;
	char *host;
	struct lb_id run; /* of this object: names it in drafts' journals */
	struct rep_sender *sender;
	struct lb_timer *timer;
	struct lb_pool *pool;
	struct source_conn conn[REP_SENDER_MAX_CONNECTIONS];
	TAILQ_HEAD(, source_gone) gone;
	TAILQ_HEAD(, source_group) groups;
	TAILQ_HEAD(, source_job) orphans;
	bool link_up;
	struct lb_err trouble; /* why there is no session, as told last */
	bool no_room;          /* the core said LB_EAGAIN to the part at the queue's head */

	pthread_mutex_t keys_lock; /* dek_of is asked by one at a time */
	pthread_mutex_t lock;      /* guards from here, and what names it above */
	pthread_cond_t room, job_done;
	TAILQ_HEAD(, source_part) parts;
	uint64_t part_bytes;
	bool poked, stopping;
};

uint64_t source_now(struct rep_source *s);
/* What a post holds instead of the source: source_of() is NULL when it is gone. Ref: any thread
 * while the source lives; the others: the loop's. */
struct source_token *source_token_ref(struct rep_source *s);
void source_token_unref(void *token);
struct rep_source *source_of(struct source_token *t);
/* Feed the core and carry out what it wants. */
int source_step(struct rep_source *s, const struct rep_sender_event *e, struct lb_err *err);
void source_event(struct rep_source *s, struct rep_source_event *e);

/* Drop the parts of @g that wait. */
void source_parts_drop(struct source_group *g);

/* source_group.c, loop's thread */
struct source_group *source_group_find(struct rep_source *s, const struct lb_id *id);
void source_group_free(struct source_group *g);
/* Do whatever comes next for @g. */
void source_group_advance(struct source_group *g);
void source_group_action(struct source_group *g, const struct rep_sender_action *a);
/* The part was taken by the core, or dropped. */
void source_group_part_done(struct source_group *g, uint32_t bytes, bool taken);
bool source_group_leads_to(struct source_group *g, const struct lb_hash *manifest);

/* Volume @i is RAM beside disks: when nothing is known of it any more (another boot of the host, a
 * damaged store) it goes in full, on the base that the disks have. */
bool source_group_fleeting(const struct source_group *g, uint32_t i);
/* Does volume @i lead to @manifest, or may it begin anew there? */
bool source_volume_leads(const struct source_group *g, uint32_t i, const struct lb_hash *manifest);

/* source_cut.c, worker threads */
void source_job_run(struct source_job *j);
/* Wait for room and queue a part: rep_delta's emit. */
int source_part_put(struct source_group *g, const struct source_part *proto, struct lb_buf *body,
		    struct lb_err *err);

#endif
