/*
 * replicator/ingest.h - stage 7 of 8: what the store's thread does for the receiver core: the one
 * place where a point is checked and becomes visible.
 *
 *   COMMIT: manifest signed by its writer -> ids, epoch, seq, prev, base as offered -> prev and
 * base are the head -> every layer checked (I1) -> manifest appended -> commit (I2, I7) -> receipt
 *   signed and appended (durable with the next commit) -> answer
 *
 * Several COMMITs of one batch share one rep_store_commit(). A point that is visible already is
 * answered with its receipt again (I3). Thread: the store's, one at a time.
 */
#ifndef REPLICATOR_INGEST_H
#define REPLICATOR_INGEST_H

#include <stdint.h>

#include "replicator/receiver.h"

struct lb_env;
struct lb_signer;
struct rep_ingest;

#define REP_INGEST_MAX_BATCH 64u

struct rep_ingest_cfg {
	struct lb_env *env;      /* clocks of the receipt */
	struct rep_store *store; /* borrowed */
	struct lb_id deployment, site;
	const struct lb_signer *signer;
	/* Public manifest key of a site; LB_ENOTFOUND: refused. Called on the store's thread. */
	int (*key_of)(void *arg, const struct lb_id *site, struct lb_pubkey *out);
	void *arg;
};

int rep_ingest_create(struct rep_ingest **out, const struct rep_ingest_cfg *cfg,
		      struct lb_err *err);
void rep_ingest_destroy(struct rep_ingest *x); /* NULL is allowed */
/* Carry out @n ops (1..REP_INGEST_MAX_BATCH) in order; answer[i] belongs to op[i]. The ops stay the
 * caller's (rep_store_op_fini), the answers become the caller's (rep_store_answer_fini). */
void rep_ingest_run(struct rep_ingest *x, const struct rep_store_op *op,
		    struct rep_store_answer *answer, unsigned n);

/* Before a failover chooses its point: a commit that failed (no space, failed sync) left points
 * that are appended but undecided, and a later commit, or opening the store again, may still make
 * them visible. This commits them. Errors: as rep_store_commit(); then the newest point is
 * undecided: wait for space, or open the store again, or go on knowing that. */
int rep_ingest_settle(struct rep_ingest *x, struct lb_err *err);

#endif
