/*
 * siteagent/src/statedb_int.h - state.db: what people and drills found out about points, and the
 * event log. It is nowhere else: a damaged one is set aside as state.db.bad, never deleted.
 *
 * Marks are durable when the call returns. Events are for people: the newest may be lost in a power
 * cut (never the order, never the file). Thread: any.
 */
#ifndef SITEAGENT_STATEDB_INT_H
#define SITEAGENT_STATEDB_INT_H

#include "catalog_int.h"

struct sa_statedb;

#define SA_EVENTS_MAX 10000u

int sa_statedb_open(struct sa_statedb **out, const char *path, struct lb_err *err);
void sa_statedb_close(struct sa_statedb *s);
int sa_statedb_mark(struct sa_statedb *s, const struct lb_hash *point, enum sa_mark mark,
		    uint64_t wall_ns, const char *note, struct lb_err *err);
int sa_statedb_marks(struct sa_statedb *s, const struct lb_hash *point, unsigned *out,
		     struct lb_err *err);
int sa_statedb_event_add(struct sa_statedb *s, const struct sa_event *e, struct lb_err *err);
int sa_statedb_events(struct sa_statedb *s, uint64_t after, unsigned max, sa_event_fn fn, void *arg,
		      struct lb_err *err);

#endif
