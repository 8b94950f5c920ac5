/*
 * siteagent/src/db_int.h - a SQLite file of the agent: WAL, synchronous=FULL, one connection.
 *
 * Thread: one at a time; the owner has a mutex. Errors: LB_ECORRUPT (not a database of ours, or
 * damaged), LB_EVERSION (of a newer program), LB_ENOSPC, LB_EIO, LB_EBUSY, LB_ENOMEM.
 */
#ifndef SITEAGENT_DB_INT_H
#define SITEAGENT_DB_INT_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

struct lb_err;

struct sa_db {
	sqlite3 *h;
	char path[512];
};

/* Open @path, make it with @schema when it is new, check it (quick_check and @version, kept in
 * user_version). db->h is NULL after a failure. */
int sa_db_open(struct sa_db *db, const char *path, const char *schema, int version,
	       struct lb_err *err);
void sa_db_close(struct sa_db *db); /* closed already is allowed */
/* The file and what SQLite keeps beside it: remove, or rename with ".bad" at the end. */
void sa_db_remove(const char *path);
int sa_db_set_aside(const char *path, struct lb_err *err);

int sa_db_exec(struct sa_db *db, const char *sql, struct lb_err *err);
int sa_db_prepare(struct sa_db *db, sqlite3_stmt **out, const char *sql, struct lb_err *err);
/* Step to the end, whatever rows come; resets and clears the bindings. */
int sa_db_run(struct sa_db *db, sqlite3_stmt *s, struct lb_err *err);
/* One step: *row is false at the end. */
int sa_db_step(struct sa_db *db, sqlite3_stmt *s, int *row, struct lb_err *err);

static inline void sa_db_bind_u64(sqlite3_stmt *s, int i, uint64_t v)
{
	(void)sqlite3_bind_int64(s, i, (sqlite3_int64)v);
}

/* @p stays valid until the statement was run. */
static inline void sa_db_bind_bytes(sqlite3_stmt *s, int i, const void *p, size_t len)
{
	(void)sqlite3_bind_blob(s, i, p, (int)len, SQLITE_STATIC);
}

static inline void sa_db_bind_text(sqlite3_stmt *s, int i, const char *text)
{
	(void)sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
}

#endif
