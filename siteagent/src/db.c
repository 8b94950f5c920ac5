#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "db_int.h"

/* What SQLite keeps beside a database in WAL mode. */
static const char *const companions[] = {"", "-wal", "-shm", "-journal"};

static enum lb_code code_of(int sqlite_code)
{
	switch (sqlite_code & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return LB_ECORRUPT;
	case SQLITE_FULL:
		return LB_ENOSPC;
	case SQLITE_NOMEM:
		return LB_ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return LB_EBUSY;
	default:
		return LB_EIO;
	}
}

/* What the last call on @db says, as one of our codes. */
static int db_err(struct sa_db *db, const char *what, struct lb_err *err)
{
	int code = db->h != NULL ? sqlite3_extended_errcode(db->h) : SQLITE_NOMEM;

	return lb_err_set(err, code_of(code), 0, "%s: %s: %s", db->path, what,
			  db->h != NULL ? sqlite3_errmsg(db->h) : "out of memory");
}

int sa_db_exec(struct sa_db *db, const char *sql, struct lb_err *err)
{
	if (sqlite3_exec(db->h, sql, NULL, NULL, NULL) != SQLITE_OK)
		return db_err(db, "run", err);
	return 0;
}

int sa_db_prepare(struct sa_db *db, sqlite3_stmt **out, const char *sql, struct lb_err *err)
{
	if (sqlite3_prepare_v2(db->h, sql, -1, out, NULL) != SQLITE_OK)
		return db_err(db, "prepare", err);
	return 0;
}

int sa_db_step(struct sa_db *db, sqlite3_stmt *s, int *row, struct lb_err *err)
{
	int rc = sqlite3_step(s);

	*row = rc == SQLITE_ROW;
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : db_err(db, "run", err);
}

int sa_db_run(struct sa_db *db, sqlite3_stmt *s, struct lb_err *err)
{
	int row = 1, rc = 0;

	while (rc == 0 && row)
		rc = sa_db_step(db, s, &row, err);
	(void)sqlite3_reset(s);
	(void)sqlite3_clear_bindings(s);
	return rc;
}

/* The single value of a pragma as text; LB_ECORRUPT when there is none. */
static int ask(struct sa_db *db, const char *sql, char *out, size_t out_bytes, struct lb_err *err)
{
	sqlite3_stmt *s = NULL;
	int row = 0;
	int rc = sa_db_prepare(db, &s, sql, err);

	if (rc == 0)
		rc = sa_db_step(db, s, &row, err);
	if (rc == 0 && row && sqlite3_column_text(s, 0) != NULL)
		(void)snprintf(out, out_bytes, "%s", (const char *)sqlite3_column_text(s, 0));
	else if (rc == 0)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "%s: no answer to %s", db->path, sql);
	(void)sqlite3_finalize(s);
	return rc;
}

static int check(struct sa_db *db, const char *schema, int version, struct lb_err *err)
{
	char have[32] = "", want[32], answer[200] = "", set[64];
	int rc = ask(db, "PRAGMA quick_check(1)", answer, sizeof(answer), err);

	if (rc == 0 && strcmp(answer, "ok") != 0)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "%s: %.150s", db->path, answer);
	if (rc == 0)
		rc = ask(db, "PRAGMA user_version", have, sizeof(have), err);
	(void)snprintf(want, sizeof(want), "%d", version);
	if (rc != 0 || strcmp(have, want) == 0)
		return rc;
	if (strcmp(have, "0") != 0)
		return lb_err_set(err, LB_EVERSION, 0, "%s: version %s, this program knows %s",
				  db->path, have, want);
	/* New, or a crash before the first commit: schema and version are one transaction. */
	(void)snprintf(set, sizeof(set), "PRAGMA user_version = %d", version);
	rc = sa_db_exec(db, "BEGIN IMMEDIATE", err);
	if (rc == 0)
		rc = sa_db_exec(db, schema, err);
	if (rc == 0)
		rc = sa_db_exec(db, set, err);
	return rc == 0 ? sa_db_exec(db, "COMMIT", err) : rc;
}

int sa_db_open(struct sa_db *db, const char *path, const char *schema, int version,
	       struct lb_err *err)
{
	const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
			  SQLITE_OPEN_NOFOLLOW;
	int rc = 0;

	db->h = NULL;
	(void)snprintf(db->path, sizeof(db->path), "%s", path);
	if (sqlite3_open_v2(path, &db->h, flags, NULL) != SQLITE_OK)
		rc = db_err(db, "open", err);
	if (rc == 0) {
		(void)sqlite3_extended_result_codes(db->h, 1);
		(void)sqlite3_db_config(db->h, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
		/* exclusive: one agent per state directory (its lock file), and no shared memory */
		rc = sa_db_exec(db,
				"PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL;"
				"PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF;"
				"PRAGMA cell_size_check=ON",
				err);
	}
	if (rc == 0)
		rc = check(db, schema, version, err);
	if (rc != 0)
		sa_db_close(db);
	return rc;
}

void sa_db_close(struct sa_db *db)
{
	(void)sqlite3_close(db->h);
	db->h = NULL;
}

void sa_db_remove(const char *path)
{
	char file[600];

	for (size_t i = 0; i < sizeof(companions) / sizeof(companions[0]); i++) {
		(void)snprintf(file, sizeof(file), "%s%s", path, companions[i]);
		(void)unlink(file);
	}
}

int sa_db_set_aside(const char *path, struct lb_err *err)
{
	char from[600], to[600];

	for (size_t i = 0; i < sizeof(companions) / sizeof(companions[0]); i++) {
		(void)snprintf(from, sizeof(from), "%s%s", path, companions[i]);
		(void)snprintf(to, sizeof(to), "%s.bad%s", path, companions[i]);
		if (rename(from, to) != 0 && errno != ENOENT)
			return lb_err_errno(err, errno, "rename %s to %s", from, to);
	}
	return 0;
}
