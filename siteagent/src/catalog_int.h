/*
 * siteagent/src/catalog_int.h - catalog.db (pure index of the store) and state.db (what is not in
 * it).
 *
 * catalog.db: SQLite, WAL, synchronous=FULL: points, point_volumes, layers. It may be lost at any
 * time: sa_catalog_rebuild() makes the identical one, sa_catalog_dump() prints the text that proves
 * it (I6). state.db: verified and booted marks, events. Thread: any (internal mutex).
 */
#ifndef SITEAGENT_CATALOG_INT_H
#define SITEAGENT_CATALOG_INT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/id.h"
#include "replicator/store.h"

struct lb_err;
struct sa_catalog;

int sa_catalog_open(struct sa_catalog **out, const char *state_dir, struct lb_err *err);
void sa_catalog_close(struct sa_catalog *c);
/* Index one visible point (idempotent). @m: its decoded manifest. */
int sa_catalog_add_point(struct sa_catalog *c, const struct rep_point *p,
			 const struct rep_manifest *m, struct lb_err *err);
/* Bring the index in step with the store: add what is missing, drop what is gone. */
int sa_catalog_sync(struct sa_catalog *c, struct rep_store *s, struct lb_err *err);
int sa_catalog_rebuild(struct sa_catalog *c, struct rep_store *s, struct lb_err *err);
/* Canonical, sorted text of the whole index; equal for equal stores. */
int sa_catalog_dump(struct sa_catalog *c, FILE *out, struct lb_err *err);

enum sa_mark {
	SA_MARK_VERIFIED = 1,
	SA_MARK_DEEP_VERIFIED = 2,
	SA_MARK_BOOTED = 3,
	SA_MARK_BAD = 4,
};
/* BAD takes VERIFIED and DEEP_VERIFIED back, DEEP_VERIFIED takes BAD back. */
int sa_catalog_mark(struct sa_catalog *c, const struct lb_hash *point, enum sa_mark mark,
		    uint64_t wall_ns, const char *note, struct lb_err *err);
/* Bit set (1u << mark) of @point. */
int sa_catalog_marks(struct sa_catalog *c, const struct lb_hash *point, unsigned *out,
		     struct lb_err *err);

struct sa_event {
	uint64_t n; /* from 1 */
	uint64_t wall_ns;
	char level[8], comp[24], ev[48];
	char line[1024]; /* the log line */
};
typedef int (*sa_event_fn)(void *arg, const struct sa_event *e);
/* Keeps the newest 10,000. */
int sa_catalog_event_add(struct sa_catalog *c, const struct sa_event *e, struct lb_err *err);
int sa_catalog_events(struct sa_catalog *c, uint64_t after, unsigned max, sa_event_fn fn, void *arg,
		      struct lb_err *err);

#endif
