/*
 * siteagent/src/roles_int.h - the durable role and epoch record of each protection group at this
 * site.
 *
 * <state_dir>/roles/<group id>: two slots of 4096 bytes, written in turn, each {magic "LBROLE01",
 * generation, fields, CRC32C}; the newest valid slot holds. A record is durable before it is acted
 * on (I10). Transitions are those of roles.def, any other is LB_EINVAL. Epochs never go down.
 * Thread: any (internal mutex).
 *
 *   UNPAIRED -> BACKUP(e) -> ACQUIRING(e+1) -> PRIMARY(e+1)     failover
 *   UNPAIRED -> PRIMARY(1)                                      protecting begins
 *   PRIMARY(e) -> FENCED(e') when e' > e is heard of            the old primary stops
 *   FENCED -> REPROTECTING -> BACKUP                            failback (later)
 */
#ifndef SITEAGENT_ROLES_INT_H
#define SITEAGENT_ROLES_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "config_int.h"

struct lb_env;
struct lb_err;
struct lb_fs;
struct sa_roles;

enum sa_role { /* numbers are stored: never reused */
	SA_ROLE_UNPAIRED = 0,
	SA_ROLE_BACKUP = 1,
	SA_ROLE_ACQUIRING = 2,
	SA_ROLE_PRIMARY = 3,
	SA_ROLE_QUIESCING = 4,
	SA_ROLE_FENCED = 5,
	SA_ROLE_REPROTECTING = 6,
};
const char *sa_role_name(enum sa_role r); /* "BACKUP" */

struct sa_role_record {
	struct lb_id group;
	char name[SA_NAME_BYTES];
	enum sa_role role;
	uint64_t epoch;
	uint64_t lineage;       /* epoch the replica's data belongs to */
	struct lb_id writer;    /* BACKUP: the only site whose deltas are taken */
	struct lb_hash applied; /* PRIMARY after failover: the point it was booted from */
	struct lb_hash acked;   /* PRIMARY: newest manifest with a receipt */
	uint64_t acked_seq;
	uint64_t changed_wall_ns;
	char why[161]; /* of the last change: who and what */
};

int sa_roles_open(struct sa_roles **out, struct lb_env *env, struct lb_fs *fs, struct lb_err *err);
void sa_roles_close(struct sa_roles *r);
bool sa_role_get(struct sa_roles *r, const struct lb_id *group, struct sa_role_record *out);
bool sa_role_by_name(struct sa_roles *r, const char *name, struct sa_role_record *out);
size_t sa_roles_count(struct sa_roles *r);
bool sa_roles_at(struct sa_roles *r, size_t i, struct sa_role_record *out);
/* Make @rec the group's record, durably. Errors: LB_EINVAL (transition not in roles.def),
 * LB_EFENCED (lower epoch), LB_EIO, LB_ENOSPC. */
int sa_role_set(struct sa_roles *r, const struct sa_role_record *rec, struct lb_err *err);

#endif
