#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "catalog_int.h"
#include "db_int.h"
#include "statedb_int.h"

#define VERSION    1
#define POINTS_MAX (UINT64_C(1) << 22)

static const char schema[] =
	"CREATE TABLE points (manifest BLOB PRIMARY KEY, group_id BLOB NOT NULL,"
	" group_name TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,"
	" prev BLOB NOT NULL, base BLOB NOT NULL, capture_wall_ns INTEGER NOT NULL,"
	" capture_boot_ns INTEGER NOT NULL, receive_wall_ns INTEGER NOT NULL,"
	" stored_bytes INTEGER NOT NULL, consistency INTEGER NOT NULL, damaged INTEGER NOT NULL)"
	" WITHOUT ROWID;"
	"CREATE INDEX points_by_seq ON points (group_id, epoch, seq);"
	"CREATE TABLE point_volumes (manifest BLOB NOT NULL, n INTEGER NOT NULL,"
	" machine BLOB NOT NULL, machine_name TEXT NOT NULL, volume BLOB NOT NULL,"
	" volume_name TEXT NOT NULL, kind INTEGER NOT NULL, volume_bytes INTEGER NOT NULL,"
	" key BLOB NOT NULL, layer BLOB NOT NULL, PRIMARY KEY (manifest, n)) WITHOUT ROWID;"
	"CREATE TABLE layers (layer BLOB PRIMARY KEY, manifest BLOB NOT NULL,"
	" layer_bytes INTEGER NOT NULL, root BLOB NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX layers_by_manifest ON layers (manifest);";

struct sa_catalog {
	pthread_mutex_t lock; /* of db */
	struct sa_db db;
	char path[512];
	bool started_empty; /* catalog.db was missing or damaged: the next sync says so */
	struct sa_statedb *state;
};

/* ---- open ---- */

static int open_new(struct sa_catalog *c, struct lb_err *err)
{
	sa_db_close(&c->db);
	sa_db_remove(c->path);
	return sa_db_open(&c->db, c->path, schema, VERSION, err);
}

static bool is_empty(struct sa_db *db)
{
	sqlite3_stmt *s = NULL;
	int row = 0;

	if (sa_db_prepare(db, &s, "SELECT 1 FROM points LIMIT 1", NULL) == 0)
		(void)sa_db_step(db, s, &row, NULL);
	(void)sqlite3_finalize(s);
	return !row;
}

/* It is an index of the store: one that is no good is made anew, no question asked. */
static int open_index(struct sa_catalog *c, struct lb_err *err)
{
	struct lb_err why = {0};
	int rc = sa_db_open(&c->db, c->path, schema, VERSION, &why);

	if (rc == LB_ECORRUPT || rc == LB_EVERSION) {
		lb_log(LB_LOG_WARN, "catalog", "catalog_damaged", "err=%s", why.msg, NULL);
		rc = open_new(c, err);
	} else if (rc != 0 && err != NULL) {
		*err = why;
	}
	c->started_empty = rc == 0 && is_empty(&c->db);
	return rc;
}

int sa_catalog_open(struct sa_catalog **out, const char *state_dir, struct lb_err *err)
{
	struct sa_catalog *c = calloc(1, sizeof(*c));
	char path[512];
	int rc;

	if (c == NULL || pthread_mutex_init(&c->lock, NULL) != 0) {
		free(c);
		return lb_err_set(err, LB_ENOMEM, 0, "open the catalog of %s", state_dir);
	}
	(void)snprintf(c->path, sizeof(c->path), "%s/catalog.db", state_dir);
	(void)snprintf(path, sizeof(path), "%s/state.db", state_dir);
	rc = open_index(c, err);
	if (rc == 0)
		rc = sa_statedb_open(&c->state, path, err);
	if (rc != 0) {
		sa_catalog_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

void sa_catalog_close(struct sa_catalog *c)
{
	if (c == NULL)
		return;
	sa_statedb_close(c->state);
	sa_db_close(&c->db);
	(void)pthread_mutex_destroy(&c->lock);
	free(c);
}

/* ---- one point ---- */

static int put_row(struct sa_db *db, const struct rep_point *p, struct lb_err *err)
{
	sqlite3_stmt *s = NULL;
	int rc = sa_db_prepare(db, &s,
			       "INSERT OR REPLACE INTO points VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7,"
			       " ?8, ?9, ?10, ?11, ?12, ?13)",
			       err);

	if (rc != 0)
		return rc;
	sa_db_bind_bytes(s, 1, p->manifest.b, sizeof(p->manifest.b));
	sa_db_bind_bytes(s, 2, p->group.b, sizeof(p->group.b));
	sa_db_bind_text(s, 3, p->group_name);
	sa_db_bind_u64(s, 4, p->epoch);
	sa_db_bind_u64(s, 5, p->seq);
	sa_db_bind_bytes(s, 6, p->prev.b, sizeof(p->prev.b));
	sa_db_bind_bytes(s, 7, p->base.b, sizeof(p->base.b));
	sa_db_bind_u64(s, 8, p->capture_wall_ns);
	sa_db_bind_u64(s, 9, p->capture_boot_ns);
	sa_db_bind_u64(s, 10, p->receive_wall_ns);
	sa_db_bind_u64(s, 11, p->stored_bytes);
	sa_db_bind_u64(s, 12, (uint64_t)p->consistency);
	sa_db_bind_u64(s, 13, p->damaged ? 1 : 0);
	rc = sa_db_run(db, s, err);
	(void)sqlite3_finalize(s);
	return rc;
}

static void bind_volume(sqlite3_stmt *s, const struct lb_hash *manifest, uint32_t n,
			const struct rep_manifest_volume *v)
{
	sa_db_bind_bytes(s, 1, manifest->b, sizeof(manifest->b));
	sa_db_bind_u64(s, 2, n);
	sa_db_bind_bytes(s, 3, v->machine.b, sizeof(v->machine.b));
	sa_db_bind_text(s, 4, v->machine_name);
	sa_db_bind_bytes(s, 5, v->volume.b, sizeof(v->volume.b));
	sa_db_bind_text(s, 6, v->volume_name);
	sa_db_bind_u64(s, 7, (uint64_t)v->kind);
	sa_db_bind_u64(s, 8, v->volume_bytes);
	sa_db_bind_bytes(s, 9, v->key.b, sizeof(v->key.b));
	sa_db_bind_bytes(s, 10, v->layer.b, sizeof(v->layer.b));
}

static int put_volumes(struct sa_db *db, const struct lb_hash *manifest,
		       const struct rep_manifest *m, struct lb_err *err)
{
	sqlite3_stmt *volume = NULL, *layer = NULL;
	int rc = sa_db_prepare(db, &volume,
			       "INSERT OR REPLACE INTO point_volumes VALUES (?1, ?2, ?3, ?4, ?5,"
			       " ?6, ?7, ?8, ?9, ?10)",
			       err);

	if (rc == 0)
		rc = sa_db_prepare(db, &layer,
				   "INSERT OR REPLACE INTO layers VALUES (?1, ?2, ?3, ?4)", err);
	for (uint32_t i = 0; i < m->volumes && rc == 0; i++) {
		const struct rep_manifest_volume *v = &m->volume[i];

		bind_volume(volume, manifest, i, v);
		rc = sa_db_run(db, volume, err);
		sa_db_bind_bytes(layer, 1, v->layer.b, sizeof(v->layer.b));
		sa_db_bind_bytes(layer, 2, manifest->b, sizeof(manifest->b));
		sa_db_bind_u64(layer, 3, v->layer_bytes);
		sa_db_bind_bytes(layer, 4, v->root.b, sizeof(v->root.b));
		if (rc == 0)
			rc = sa_db_run(db, layer, err);
	}
	(void)sqlite3_finalize(volume);
	(void)sqlite3_finalize(layer);
	return rc;
}

/* @m NULL: its manifest cannot be read; the point is listed all the same. */
static int put_point(struct sa_db *db, const struct rep_point *p, const struct rep_manifest *m,
		     struct lb_err *err)
{
	int rc = put_row(db, p, err);

	return rc == 0 && m != NULL ? put_volumes(db, &p->manifest, m, err) : rc;
}

/* Begin, or end by how it went. */
static int begin(struct sa_db *db, struct lb_err *err)
{
	return sa_db_exec(db, "BEGIN IMMEDIATE", err);
}

static int end(struct sa_db *db, int rc, struct lb_err *err)
{
	if (rc == 0)
		rc = sa_db_exec(db, "COMMIT", err);
	if (rc != 0)
		(void)sa_db_exec(db, "ROLLBACK", NULL);
	return rc;
}

int sa_catalog_add_point(struct sa_catalog *c, const struct rep_point *p,
			 const struct rep_manifest *m, struct lb_err *err)
{
	int rc;

	(void)pthread_mutex_lock(&c->lock);
	rc = begin(&c->db, err);
	if (rc == 0)
		rc = end(&c->db, put_point(&c->db, p, m, err), err);
	(void)pthread_mutex_unlock(&c->lock);
	return rc;
}

/* ---- in step with the store ---- */

/* The store's points, copied. */
struct points {
	struct rep_point *p;
	size_t n, cap;
};

static int on_point(void *arg, const struct rep_point *p)
{
	struct points *all = arg;

	if (all->n == all->cap) {
		size_t cap = all->cap != 0 ? all->cap * 2 : 64;
		struct rep_point *more;

		if (cap > POINTS_MAX)
			return LB_ENOMEM;
		more = realloc(all->p, cap * sizeof(*more));
		if (more == NULL)
			return LB_ENOMEM;
		all->p = more;
		all->cap = cap;
	}
	all->p[all->n++] = *p;
	return 0;
}

/* Is @p there as it is? What can change in a point's life is compared. */
static int is_there(struct sa_db *db, sqlite3_stmt *s, const struct rep_point *p, int *there,
		    struct lb_err *err)
{
	int rc;

	sa_db_bind_bytes(s, 1, p->manifest.b, sizeof(p->manifest.b));
	sa_db_bind_u64(s, 2, p->receive_wall_ns);
	sa_db_bind_u64(s, 3, p->stored_bytes);
	sa_db_bind_u64(s, 4, p->damaged ? 1 : 0);
	rc = sa_db_step(db, s, there, err);
	(void)sqlite3_reset(s);
	return rc;
}

static int add_from_store(struct sa_db *db, struct rep_store *s, const struct rep_point *p,
			  struct rep_manifest *m, struct lb_err *err)
{
	struct lb_buf *bytes = NULL;
	int rc = rep_store_read_manifest(s, &p->manifest, &bytes, NULL);

	if (rc == 0)
		rc = rep_manifest_decode(m, bytes->p, bytes->len, NULL);
	rc = put_point(db, p, rc == 0 ? m : NULL, err);
	lb_buf_unref(bytes);
	return rc;
}

static int note_seen(struct sa_db *db, sqlite3_stmt *s, const struct rep_point *p,
		     struct lb_err *err)
{
	sa_db_bind_bytes(s, 1, p->manifest.b, sizeof(p->manifest.b));
	return sa_db_run(db, s, err);
}

static int add_missing(struct sa_db *db, struct rep_store *store, const struct points *all,
		       struct lb_err *err)
{
	struct rep_manifest *m = calloc(1, sizeof(*m)); /* tens of KiB */
	sqlite3_stmt *seen = NULL, *same = NULL;
	int rc = m == NULL ? lb_err_set(err, LB_ENOMEM, 0, "index a point") : 0;

	if (rc == 0)
		rc = sa_db_prepare(db, &seen, "INSERT OR IGNORE INTO temp.seen VALUES (?1)", err);
	if (rc == 0)
		rc = sa_db_prepare(db, &same,
				   "SELECT 1 FROM points WHERE manifest = ?1 AND"
				   " receive_wall_ns = ?2 AND stored_bytes = ?3 AND damaged = ?4",
				   err);
	for (size_t i = 0; i < all->n && rc == 0; i++) {
		int there = 0;

		rc = note_seen(db, seen, &all->p[i], err);
		if (rc == 0)
			rc = is_there(db, same, &all->p[i], &there, err);
		if (rc == 0 && !there)
			rc = add_from_store(db, store, &all->p[i], m, err);
	}
	(void)sqlite3_finalize(seen);
	(void)sqlite3_finalize(same);
	free(m);
	return rc;
}

static int sync_points(struct sa_db *db, struct rep_store *s, const struct points *all,
		       struct lb_err *err)
{
	int rc = sa_db_exec(db,
			    "CREATE TEMP TABLE IF NOT EXISTS seen (manifest BLOB PRIMARY KEY)"
			    " WITHOUT ROWID; DELETE FROM temp.seen",
			    err);

	if (rc == 0)
		rc = begin(db, err);
	if (rc != 0)
		return rc;
	rc = add_missing(db, s, all, err);
	if (rc == 0)
		rc = sa_db_exec(
			db,
			"DELETE FROM points WHERE manifest NOT IN (SELECT manifest FROM temp.seen);"
			"DELETE FROM point_volumes WHERE manifest NOT IN (SELECT manifest FROM"
			" temp.seen);"
			"DELETE FROM layers WHERE manifest NOT IN (SELECT manifest FROM temp.seen);"
			"DELETE FROM temp.seen",
			err);
	return end(db, rc, err);
}

/* Under the lock. @anew: forget the file first. A file that turns out damaged is forgotten, too. */
static int fill(struct sa_catalog *c, struct rep_store *s, const struct points *all, bool anew,
		struct lb_err *err)
{
	int rc = anew ? open_new(c, err) : 0;

	if (rc == 0)
		rc = sync_points(&c->db, s, all, err);
	if (rc != LB_ECORRUPT || anew)
		return rc;
	c->started_empty = true;
	rc = open_new(c, err);
	return rc == 0 ? sync_points(&c->db, s, all, err) : rc;
}

static int fill_from(struct sa_catalog *c, struct rep_store *s, bool anew, struct lb_err *err)
{
	struct points all = {.p = NULL};
	bool tell;
	int rc;

	/* Listed under the lock: a point that is added to both in between would be dropped here. */
	(void)pthread_mutex_lock(&c->lock);
	rc = rep_store_points(s, NULL, on_point, &all);
	if (rc != 0)
		rc = lb_err_set(err, (enum lb_code)rc, 0, "list the points of the store");
	else
		rc = fill(c, s, &all, anew, err);
	tell = rc == 0 && (anew || (c->started_empty && all.n > 0));
	if (rc == 0)
		c->started_empty = false;
	(void)pthread_mutex_unlock(&c->lock);
	/* Not under a lock: the agent's log tap comes back to this catalog. */
	if (tell)
		lb_log(LB_LOG_INFO, "catalog", "catalog_rebuilt", "points=%zu", all.n, NULL);
	free(all.p);
	return rc;
}

int sa_catalog_sync(struct sa_catalog *c, struct rep_store *s, struct lb_err *err)
{
	return fill_from(c, s, false, err);
}

int sa_catalog_rebuild(struct sa_catalog *c, struct rep_store *s, struct lb_err *err)
{
	return fill_from(c, s, true, err);
}

/* ---- dump ---- */

static void print_value(FILE *out, sqlite3_stmt *s, int i)
{
	const uint8_t *bytes = sqlite3_column_blob(s, i);
	int len = sqlite3_column_bytes(s, i);

	if (sqlite3_column_type(s, i) == SQLITE_INTEGER) {
		(void)fprintf(out, "%lld", sqlite3_column_int64(s, i));
		return;
	}
	for (int j = 0; j < len; j++) /* names are [A-Za-z0-9._-]: printed as they are */
		(void)fprintf(out, sqlite3_column_type(s, i) == SQLITE_BLOB ? "%02x" : "%c",
			      bytes[j]);
}

static int dump_rows(struct sa_db *db, const char *what, const char *sql, FILE *out,
		     struct lb_err *err)
{
	sqlite3_stmt *s = NULL;
	int row = 1;
	int rc = sa_db_prepare(db, &s, sql, err);

	while (rc == 0) {
		rc = sa_db_step(db, s, &row, err);
		if (rc != 0 || !row)
			break;
		(void)fputs(what, out);
		for (int i = 0; i < sqlite3_column_count(s); i++) {
			(void)fprintf(out, " %s=", sqlite3_column_name(s, i));
			print_value(out, s, i);
		}
		(void)fputc('\n', out);
	}
	(void)sqlite3_finalize(s);
	return rc;
}

int sa_catalog_dump(struct sa_catalog *c, FILE *out, struct lb_err *err)
{
	int rc;

	(void)pthread_mutex_lock(&c->lock);
	(void)fprintf(out, "lifeboat catalog %d\n", VERSION);
	rc = dump_rows(&c->db, "point",
		       "SELECT * FROM points ORDER BY group_id, epoch, seq, manifest", out, err);
	if (rc == 0)
		rc = dump_rows(&c->db, "volume", "SELECT * FROM point_volumes ORDER BY manifest, n",
			       out, err);
	if (rc == 0)
		rc = dump_rows(&c->db, "layer", "SELECT * FROM layers ORDER BY layer", out, err);
	(void)pthread_mutex_unlock(&c->lock);
	if (rc == 0 && (fflush(out) != 0 || ferror(out) != 0))
		rc = lb_err_set(err, LB_EIO, 0, "write the catalog's dump");
	return rc;
}

/* ---- state.db ---- */

int sa_catalog_mark(struct sa_catalog *c, const struct lb_hash *point, enum sa_mark mark,
		    uint64_t wall_ns, const char *note, struct lb_err *err)
{
	return sa_statedb_mark(c->state, point, mark, wall_ns, note, err);
}

int sa_catalog_marks(struct sa_catalog *c, const struct lb_hash *point, unsigned *out,
		     struct lb_err *err)
{
	return sa_statedb_marks(c->state, point, out, err);
}

int sa_catalog_event_add(struct sa_catalog *c, const struct sa_event *e, struct lb_err *err)
{
	return sa_statedb_event_add(c->state, e, err);
}

int sa_catalog_events(struct sa_catalog *c, uint64_t after, unsigned max, sa_event_fn fn, void *arg,
		      struct lb_err *err)
{
	return sa_statedb_events(c->state, after, max, fn, arg, err);
}
