/*
 * replicator/target.h - the target engine: stages 6 to 8 (accept, store, point) for all peers of a
 * backup site.
 *
 * The shell around the pure receiver core (receiver.h): TLS listener, one thread per connection
 * that checks and hashes, one store thread (appends, group commit). The backup receives without
 * transforming: it checks and appends. Thread: calls and callbacks on the loop's thread, unless
 * noted.
 */
#ifndef REPLICATOR_TARGET_H
#define REPLICATOR_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "replicator/frame.h"
#include "replicator/store.h"

struct lb_env;
struct lb_loop;
struct lb_signer;
struct rep_target;
struct rep_tls;

/* The role record of a group at this site, as siteagent keeps it (design 02). */
struct rep_group_role {
	uint64_t epoch;      /* highest heard of; 0: group unknown */
	bool writable;       /* role BACKUP: takes deltas. false: failed over, fenced, unpaired */
	struct lb_id writer; /* the only site that may write it; zero: whoever comes first (then
				recorded) */
};

struct rep_target_point { /* with on_point */
	const struct rep_point *point;
	uint64_t age_bound_ns; /* UINT64_MAX: not known yet; age of the cut at receive_boot_ns,
				  upper bound (clock rule in docs/protocol.md) */
	uint64_t receive_boot_ns;
};

struct rep_target_cfg {
	struct lb_env *env;
	struct lb_loop *loop;
	struct rep_store *store; /* borrowed; only the target's store thread writes now */
	struct rep_tls *tls;     /* server side, borrowed */
	const char *listen_host;
	uint16_t listen_port; /* 0: any; see rep_target_port() */
	struct lb_id deployment, site, boot_id;
	const struct lb_signer *signer;
	unsigned max_connections; /* default 64 */
	uint64_t commit_delay_ns; /* gather points for one commit at most so long; default 0 */
	/* Public manifest key of an enrolled site. LB_ENOTFOUND: unknown, refused. On the store's
	 * thread: the answer must not change under it. */
	int (*key_of)(void *arg, const struct lb_id *site, struct lb_pubkey *out);
	/* Is it deny-listed or foreign? Called once a connection with the site id of its
	 * certificate. */
	bool (*peer_allowed)(void *arg, const struct lb_id *site);
	/* Role of a group. Called often; must be quick. */
	void (*role_of)(void *arg, const struct lb_id *group, struct rep_group_role *out);
	/* First OFFER of an unknown group by @site: record it durably (epoch, BACKUP, writer), or
	 * refuse. */
	int (*adopt)(void *arg, const struct lb_id *group, const char *name, uint64_t epoch,
		     const struct lb_id *site, struct lb_err *err);
	/* A peer offers a higher epoch than recorded: record durably before it is used (I10), or
	 * refuse. */
	int (*raise_epoch)(void *arg, const struct lb_id *group, uint64_t epoch,
			   const struct lb_id *site, struct lb_err *err);
	int (*store_key)(void *arg, const struct rep_key_frame *key, struct lb_err *err);
	void (*on_point)(void *arg, const struct rep_target_point *p);
	void (*on_peer)(void *arg, const struct lb_id *site, bool up, const struct lb_err *err);
	void (*on_alarm)(void *arg, const char *ev,
			 const struct lb_err *err); /* "store_suspect", "part_corrupt",
						       "peer_rejected" (TLS), ... */
	void *arg;
};

struct rep_target_stats {
	uint64_t records, bytes, points, duplicates; /* duplicates: parts that were already held */
	uint64_t corrupt, refused;
	unsigned connections;
	bool suspect;
};

int rep_target_create(struct rep_target **out, const struct rep_target_cfg *cfg,
		      struct lb_err *err);
void rep_target_destroy(struct rep_target *t);
uint16_t rep_target_port(const struct rep_target *t);
void rep_target_stats(struct rep_target *t, struct rep_target_stats *out);
/* Tell every connected peer that @group has @epoch now (failover): lower ones are fenced at once.
 */
void rep_target_fence(struct rep_target *t, const struct lb_id *group, uint64_t epoch);
/* Close every connection of @site, which peer_allowed() lets in no more. */
void rep_target_drop(struct rep_target *t, const struct lb_id *site, const struct lb_err *why);
/* Run @fn on the store thread (what writes to the store; reading and scrubs need not be there),
 * then @done on the loop. When the target (or the loop) goes first, @drop runs there instead of
 * @done, whether or not @fn ran: exactly one of the two. */
void rep_target_on_store(struct rep_target *t, void (*fn)(void *arg, struct rep_store *s),
			 void (*done)(void *arg), void (*drop)(void *arg), void *arg);
/* From a function run by rep_target_on_store() only. Before a failover chooses its point: commit
 * what a failed commit left undecided, so that no newer point can appear after the choice. Errors:
 * as rep_store_commit(); the newest point is undecided then. */
int rep_target_settle(struct rep_target *t, struct lb_err *err);

#endif
