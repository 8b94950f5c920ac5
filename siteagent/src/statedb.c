#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "db_int.h"
#include "statedb_int.h"

#define VERSION 1
#define CHUNK   64u /* events that are copied out at a time */

static const char schema[] =
	"CREATE TABLE marks (point BLOB NOT NULL, mark INTEGER NOT NULL, wall_ns INTEGER NOT NULL,"
	" note TEXT NOT NULL, PRIMARY KEY (point, mark)) WITHOUT ROWID;"
	"CREATE TABLE events (n INTEGER PRIMARY KEY AUTOINCREMENT, wall_ns INTEGER NOT NULL,"
	" level TEXT NOT NULL, comp TEXT NOT NULL, ev TEXT NOT NULL, line TEXT NOT NULL);";

struct sa_statedb {
	pthread_mutex_t lock;
	struct sa_db db;
	sqlite3_stmt *add, *prune; /* events come often */
};

static int open_or_set_aside(struct sa_statedb *s, const char *path, struct lb_err *err)
{
	struct lb_err why = {0};
	int rc = sa_db_open(&s->db, path, schema, VERSION, &why);

	if (rc != LB_ECORRUPT) {
		if (rc != 0 && err != NULL)
			*err = why;
		return rc;
	}
	rc = sa_db_set_aside(path, err);
	if (rc == 0)
		rc = sa_db_open(&s->db, path, schema, VERSION, err);
	if (rc == 0)
		lb_log(LB_LOG_ERROR, "catalog", "state_db_set_aside", "file=%s", path, "err=%s",
		       why.msg, NULL);
	return rc;
}

int sa_statedb_open(struct sa_statedb **out, const char *path, struct lb_err *err)
{
	struct sa_statedb *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL || pthread_mutex_init(&s->lock, NULL) != 0) {
		free(s);
		return lb_err_set(err, LB_ENOMEM, 0, "open %s", path);
	}
	rc = open_or_set_aside(s, path, err);
	if (rc == 0)
		rc = sa_db_prepare(&s->db, &s->add,
				   "INSERT INTO events (wall_ns, level, comp, ev, line)"
				   " VALUES (?1, ?2, ?3, ?4, ?5)",
				   err);
	if (rc == 0)
		rc = sa_db_prepare(&s->db, &s->prune, "DELETE FROM events WHERE n <= ?1", err);
	if (rc != 0) {
		sa_statedb_close(s);
		return rc;
	}
	*out = s;
	return 0;
}

void sa_statedb_close(struct sa_statedb *s)
{
	if (s == NULL)
		return;
	(void)sqlite3_finalize(s->add);
	(void)sqlite3_finalize(s->prune);
	sa_db_close(&s->db);
	(void)pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- marks ---- */

static int put_mark(struct sa_db *db, const struct lb_hash *point, enum sa_mark mark,
		    uint64_t wall_ns, const char *note, struct lb_err *err)
{
	sqlite3_stmt *s = NULL;
	int rc = sa_db_prepare(db, &s, "INSERT OR REPLACE INTO marks VALUES (?1, ?2, ?3, ?4)", err);

	if (rc != 0)
		return rc;
	sa_db_bind_bytes(s, 1, point->b, sizeof(point->b));
	sa_db_bind_u64(s, 2, (uint64_t)mark);
	sa_db_bind_u64(s, 3, wall_ns);
	sa_db_bind_text(s, 4, note != NULL ? note : "");
	rc = sa_db_run(db, s, err);
	(void)sqlite3_finalize(s);
	return rc;
}

/* The marks that @mark takes back, as bits. What was good once may be bad by now; that it is good
 * again is believed only to who looked as closely as one can. */
static unsigned taken_back(enum sa_mark mark)
{
	if (mark == SA_MARK_BAD)
		return 1u << SA_MARK_VERIFIED | 1u << SA_MARK_DEEP_VERIFIED;
	return mark == SA_MARK_DEEP_VERIFIED ? 1u << SA_MARK_BAD : 0;
}

static int take_back(struct sa_db *db, const struct lb_hash *point, unsigned marks,
		     struct lb_err *err)
{
	sqlite3_stmt *s = NULL;
	int rc = sa_db_prepare(
		db, &s, "DELETE FROM marks WHERE point = ?1 AND ((?2 >> mark) & 1) = 1", err);

	if (rc != 0)
		return rc;
	sa_db_bind_bytes(s, 1, point->b, sizeof(point->b));
	sa_db_bind_u64(s, 2, marks);
	rc = sa_db_run(db, s, err);
	(void)sqlite3_finalize(s);
	return rc;
}

int sa_statedb_mark(struct sa_statedb *s, const struct lb_hash *point, enum sa_mark mark,
		    uint64_t wall_ns, const char *note, struct lb_err *err)
{
	int rc;

	(void)pthread_mutex_lock(&s->lock);
	rc = sa_db_exec(&s->db, "PRAGMA synchronous=FULL; BEGIN", err);
	if (rc == 0) {
		rc = put_mark(&s->db, point, mark, wall_ns, note, err);
		if (rc == 0)
			rc = take_back(&s->db, point, taken_back(mark), err);
		if (rc == 0)
			rc = sa_db_exec(&s->db, "COMMIT", err);
		if (rc != 0)
			(void)sa_db_exec(&s->db, "ROLLBACK", NULL);
	}
	(void)pthread_mutex_unlock(&s->lock);
	return rc;
}

static int get_marks(struct sa_db *db, const struct lb_hash *point, unsigned *out,
		     struct lb_err *err)
{
	sqlite3_stmt *s = NULL;
	unsigned bits = 0;
	int row = 1;
	int rc = sa_db_prepare(db, &s, "SELECT mark FROM marks WHERE point = ?1", err);

	if (rc != 0)
		return rc;
	sa_db_bind_bytes(s, 1, point->b, sizeof(point->b));
	while (rc == 0 && row) {
		rc = sa_db_step(db, s, &row, err);
		if (rc == 0 && row)
			bits |= 1u << (sqlite3_column_int(s, 0) & 31);
	}
	(void)sqlite3_finalize(s);
	if (rc == 0)
		*out = bits;
	return rc;
}

int sa_statedb_marks(struct sa_statedb *s, const struct lb_hash *point, unsigned *out,
		     struct lb_err *err)
{
	int rc;

	(void)pthread_mutex_lock(&s->lock);
	rc = get_marks(&s->db, point, out, err);
	(void)pthread_mutex_unlock(&s->lock);
	return rc;
}

/* ---- events ---- */

static int put_event(struct sa_statedb *s, const struct sa_event *e, struct lb_err *err)
{
	sqlite3_int64 newest;
	int rc;

	sa_db_bind_u64(s->add, 1, e->wall_ns);
	sa_db_bind_text(s->add, 2, e->level);
	sa_db_bind_text(s->add, 3, e->comp);
	sa_db_bind_text(s->add, 4, e->ev);
	sa_db_bind_text(s->add, 5, e->line);
	rc = sa_db_run(&s->db, s->add, err);
	newest = sqlite3_last_insert_rowid(s->db.h);
	if (rc != 0 || newest <= (sqlite3_int64)SA_EVENTS_MAX)
		return rc;
	sa_db_bind_u64(s->prune, 1, (uint64_t)newest - SA_EVENTS_MAX);
	return sa_db_run(&s->db, s->prune, err);
}

int sa_statedb_event_add(struct sa_statedb *s, const struct sa_event *e, struct lb_err *err)
{
	int rc;

	(void)pthread_mutex_lock(&s->lock);
	/* A sync per log line would stall the loop that logs. WAL keeps the file whole without. */
	rc = sa_db_exec(&s->db, "PRAGMA synchronous=NORMAL; BEGIN", err);
	if (rc == 0) {
		rc = put_event(s, e, err);
		if (rc == 0)
			rc = sa_db_exec(&s->db, "COMMIT", err);
		if (rc != 0)
			(void)sa_db_exec(&s->db, "ROLLBACK", NULL);
	}
	(void)pthread_mutex_unlock(&s->lock);
	return rc;
}

static void copy_text(char *out, size_t out_bytes, sqlite3_stmt *s, int column)
{
	const char *text = (const char *)sqlite3_column_text(s, column);

	(void)snprintf(out, out_bytes, "%s", text != NULL ? text : "");
}

static int read_chunk(struct sa_db *db, uint64_t after, unsigned max, struct sa_event *out,
		      unsigned *n, struct lb_err *err)
{
	sqlite3_stmt *s = NULL;
	int row = 1;
	int rc = sa_db_prepare(db, &s,
			       "SELECT n, wall_ns, level, comp, ev, line FROM events WHERE n > ?1"
			       " ORDER BY n LIMIT ?2",
			       err);

	if (rc != 0)
		return rc;
	sa_db_bind_u64(s, 1, after);
	sa_db_bind_u64(s, 2, max);
	for (*n = 0; rc == 0 && *n < max; (*n)++) {
		struct sa_event *e = &out[*n];

		rc = sa_db_step(db, s, &row, err);
		if (rc != 0 || !row)
			break;
		e->n = (uint64_t)sqlite3_column_int64(s, 0);
		e->wall_ns = (uint64_t)sqlite3_column_int64(s, 1);
		copy_text(e->level, sizeof(e->level), s, 2);
		copy_text(e->comp, sizeof(e->comp), s, 3);
		copy_text(e->ev, sizeof(e->ev), s, 4);
		copy_text(e->line, sizeof(e->line), s, 5);
	}
	(void)sqlite3_finalize(s);
	return rc;
}

/* In chunks, so that @fn runs without the lock: it may log, and logging adds an event. */
int sa_statedb_events(struct sa_statedb *s, uint64_t after, unsigned max, sa_event_fn fn, void *arg,
		      struct lb_err *err)
{
	struct sa_event *chunk = calloc(CHUNK, sizeof(*chunk));
	unsigned n = CHUNK;
	int rc = 0;

	if (chunk == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "read events");
	while (rc == 0 && max > 0 && n == CHUNK) {
		(void)pthread_mutex_lock(&s->lock);
		rc = read_chunk(&s->db, after, max < CHUNK ? max : CHUNK, chunk, &n, err);
		(void)pthread_mutex_unlock(&s->lock);
		for (unsigned i = 0; rc == 0 && i < n; i++) {
			after = chunk[i].n;
			max--;
			rc = fn(arg, &chunk[i]);
		}
	}
	free(chunk);
	return rc;
}
