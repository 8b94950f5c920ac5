/*
 * idset.h - a set of ids that keeps the order in which they came.
 *
 * Thread: the owner's. Errors: LB_ENOMEM. Ids are random, so their first bytes are the hash; a peer
 * that makes up colliding ones makes its own checks slow.
 */
#ifndef REPLICATOR_IDSET_H
#define REPLICATOR_IDSET_H

#include <stdint.h>

#include "base/id.h"

struct lb_err;

struct rep_idset { /* zero: empty */
	struct lb_id *v;
	uint32_t n, cap;
	uint32_t *slot; /* index + 1; 0: free */
	uint32_t slots; /* a power of two, at least twice n */
};

/* *index (may be NULL): place of @id in v. */
int rep_idset_add(struct rep_idset *x, const struct lb_id *id, uint32_t *index, struct lb_err *err);
/* Place of @id in v; UINT32_MAX: not in it. */
uint32_t rep_idset_find(const struct rep_idset *x, const struct lb_id *id);
void rep_idset_fini(struct rep_idset *x); /* and makes it empty */

#endif
