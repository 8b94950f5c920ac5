/*
 * catalog.db is nothing but an index: whatever happens to it, a sync or rebuild from the store
 * gives the identical dump (I6). state.db is nowhere else: a damaged one is kept aside.
 */
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/thread.h"
#include "catalog_int.h"
#include "check.h"
#include "rnd.h"
#include "store_fix.h"

#define GROUPS 2u

struct world {
	char dir[64];
	struct fix_env env;
	struct lb_fs *fs;
	struct rep_store *store;
	struct sf_group group[GROUPS + 1];
	struct sa_catalog *catalog;
	char log[4096];
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static void on_log(void *arg, enum lb_log_level lvl, const char *line)
{
	struct world *w = arg;
	size_t len = strlen(w->log);

	(void)lvl;
	(void)snprintf(w->log + len, sizeof(w->log) - len, "%s", line);
}

static void reopen(struct world *w)
{
	struct lb_err err = {0};

	sa_catalog_close(w->catalog);
	w->catalog = NULL;
	must(sa_catalog_open(&w->catalog, w->dir, &err), &err);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct rep_store_cfg cfg = REP_STORE_CFG_DEFAULTS;
	struct lb_err err = {0};
	char path[96];

	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/lb-test-catalog-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	(void)snprintf(path, sizeof(path), "%s/store", w->dir);
	must(lb_fs_dir_create(&w->fs, path, &err), &err);
	w->env = fix_env(1);
	must(rep_store_open(&w->store, &w->env.env, w->fs, &cfg, &err), &err);
	for (unsigned i = 0; i < GROUPS; i++)
		sf_group_init(&w->group[i], i, 2, 64, 42);
	reopen(w);
	lb_log_set_tap(on_log, w);
	*state = w;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	struct world *w = *state;

	lb_log_set_tap(NULL, NULL);
	sa_catalog_close(w->catalog);
	rep_store_close(w->store);
	lb_fs_destroy(w->fs);
	for (unsigned i = 0; i < GROUPS; i++)
		sf_group_fini(&w->group[i]);
	assert_int_equal(nftw(w->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	free(w);
	return 0;
}

/* One more visible point; indexed the way the agent does it when @index. */
static void one_point(struct world *w, struct sf_group *g, bool index, bool receipt)
{
	static struct rep_manifest m;
	uint8_t bytes[REP_RECEIPT_BYTES];
	struct lb_err err = {0};
	struct rep_point at;
	struct sf_point p;

	sf_group_write(g, 16);
	sf_point_cut(g, &p);
	must(sf_point_send(w->store, &p, &err), &err);
	must(rep_store_commit(w->store, &err), &err);
	sf_point_accepted(g, &p);
	if (receipt) {
		sf_receipt(bytes, w->store, g, &p);
		must(rep_store_append_receipt(w->store, bytes, sizeof(bytes), &err), &err);
		must(rep_store_commit(w->store, &err), &err);
	}
	assert_true(rep_store_point_find(w->store, &p.hash, &at));
	must(rep_manifest_decode(&m, p.manifest->p, p.manifest->len, &err), &err);
	if (index)
		must(sa_catalog_add_point(w->catalog, &at, &m, &err), &err);
	sf_point_free(&p);
}

static void some_points(struct world *w, bool index)
{
	for (unsigned i = 0; i < 8; i++)
		one_point(w, &w->group[i % GROUPS], index, i % 3 == 0);
}

static char *dump(struct world *w)
{
	struct lb_err err = {0};
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	must(sa_catalog_dump(w->catalog, f, &err), &err);
	assert_int_equal(fclose(f), 0);
	return text;
}

static unsigned lines(const char *text, const char *prefix)
{
	unsigned n = 0;

	for (const char *p = text; p != NULL && *p != '\0'; p = strchr(p, '\n'), p += p != NULL)
		n += strncmp(p, prefix, strlen(prefix)) == 0;
	return n;
}

static void expect_dump(struct world *w, const char *want)
{
	char *got = dump(w);

	assert_string_equal(got, want);
	free(got);
}

/* Added one by one, synced, rebuilt, opened again: one text. */
static void test_identical(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	char *want;

	some_points(w, true);
	want = dump(w);
	assert_int_equal(lines(want, "point "), 8);
	assert_int_equal(lines(want, "volume "), 16);
	assert_int_equal(lines(want, "layer "), 16);
	assert_non_null(strstr(want, w->group[0].name));
	must(sa_catalog_sync(w->catalog, w->store, &err), &err);
	expect_dump(w, want);
	must(sa_catalog_rebuild(w->catalog, w->store, &err), &err);
	expect_dump(w, want);
	must(sa_catalog_rebuild(w->catalog, w->store, &err), &err);
	expect_dump(w, want);
	assert_non_null(strstr(w->log, "ev=catalog_rebuilt points=8"));
	reopen(w);
	expect_dump(w, want);
	free(want);
}

int __wrap_rep_store_points(struct rep_store *s, const struct lb_id *group, rep_point_fn fn,
			    void *arg);
int __real_rep_store_points(struct rep_store *s, const struct lb_id *group, rep_point_fn fn,
			    void *arg);

/* A point that comes as soon as the store's points were listed. */
static struct late {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	struct world *world; /* NULL: none comes */
	bool came;
} late = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *come_late(void *arg)
{
	struct world *w = arg;

	one_point(w, &w->group[0], true, false);
	(void)pthread_mutex_lock(&late.lock);
	late.came = true;
	(void)pthread_cond_signal(&late.changed);
	(void)pthread_mutex_unlock(&late.lock);
	return NULL;
}

int __wrap_rep_store_points(struct rep_store *s, const struct lb_id *group, rep_point_fn fn,
			    void *arg)
{
	struct timespec until = lb_cond_deadline(UINT64_C(300000000));
	int rc = __real_rep_store_points(s, group, fn, arg);

	if (late.world == NULL)
		return rc;
	assert_int_equal(pthread_create(&late.thread, NULL, come_late, late.world), 0);
	late.world = NULL;
	/* it cannot get into the catalog before who listed is done; if it can, it does here */
	(void)pthread_mutex_lock(&late.lock);
	while (!late.came && pthread_cond_timedwait(&late.changed, &late.lock, &until) == 0)
		continue;
	(void)pthread_mutex_unlock(&late.lock);
	return rc;
}

/* A point that comes while the catalog is brought in step is in it afterwards. */
static void test_point_during_sync(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	char *got, *want;

	some_points(w, true);
	lb_cond_init(&late.changed);
	late.world = w;
	must(sa_catalog_sync(w->catalog, w->store, &err), &err);
	assert_int_equal(pthread_join(late.thread, NULL), 0);
	got = dump(w);
	must(sa_catalog_rebuild(w->catalog, w->store, &err), &err);
	want = dump(w);
	assert_int_equal(lines(want, "point "), 9);
	assert_string_equal(got, want);
	free(want);
	free(got);
	(void)pthread_cond_destroy(&late.changed);
}

static void test_sync_adds_and_drops(void **state)
{
	static struct rep_manifest m;
	struct world *w = *state;
	struct rep_point ghost = {.manifest = fix_hash(0xee), .group = fix_id(1), .seq = 1};
	struct lb_err err = {0};
	char *want, *with_ghost;

	some_points(w, false);
	must(sa_catalog_sync(w->catalog, w->store, &err), &err);
	want = dump(w);
	assert_int_equal(lines(want, "point "), 8);
	m.volumes = 1;
	must(sa_catalog_add_point(w->catalog, &ghost, &m, &err), &err);
	with_ghost = dump(w);
	assert_int_equal(lines(with_ghost, "point "), 9);
	assert_int_equal(lines(with_ghost, "layer "), 17);
	free(with_ghost);
	must(sa_catalog_sync(w->catalog, w->store, &err), &err);
	expect_dump(w, want);
	free(want);
}

/* What changes about a point after it was indexed: its receipt. */
static void test_sync_updates(void **state)
{
	struct world *w = *state;
	uint8_t bytes[REP_RECEIPT_BYTES];
	struct lb_err err = {0};
	struct sf_point p;
	char *before, *after;

	sf_group_write(&w->group[0], 16);
	sf_point_cut(&w->group[0], &p);
	must(sf_point_send(w->store, &p, &err), &err);
	must(rep_store_commit(w->store, &err), &err);
	must(sa_catalog_sync(w->catalog, w->store, &err), &err);
	before = dump(w);
	assert_non_null(strstr(before, " receive_wall_ns=0 "));
	sf_receipt(bytes, w->store, &w->group[0], &p);
	must(rep_store_append_receipt(w->store, bytes, sizeof(bytes), &err), &err);
	must(rep_store_commit(w->store, &err), &err);
	must(sa_catalog_sync(w->catalog, w->store, &err), &err);
	after = dump(w);
	assert_null(strstr(after, " receive_wall_ns=0 "));
	must(sa_catalog_rebuild(w->catalog, w->store, &err), &err);
	expect_dump(w, after);
	free(before);
	free(after);
	sf_point_free(&p);
}

static void path_of(char *out, size_t cap, const struct world *w, const char *file)
{
	(void)snprintf(out, cap, "%s/%s", w->dir, file);
}

static void run_sql(struct world *w, const char *file, const char *sql)
{
	char path[96];
	sqlite3 *h = NULL;

	path_of(path, sizeof(path), w, file);
	assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
	assert_int_equal(sqlite3_exec(h, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(h), SQLITE_OK);
}

/* Missing, garbage, cut short, of another version: made anew by itself, and said. */
static void test_lost_catalog(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	char path[96], *want;

	some_points(w, true);
	want = dump(w);
	path_of(path, sizeof(path), w, "catalog.db");
	for (int way = 0; way < 4; way++) {
		FILE *f;

		sa_catalog_close(w->catalog);
		w->catalog = NULL;
		w->log[0] = '\0';
		if (way == 0) {
			assert_int_equal(unlink(path), 0);
		} else if (way == 1) {
			f = fopen(path, "w");
			assert_non_null(f);
			assert_true(fputs("this is no database, but it is long enough to be "
					  "looked at as one, and the header does not fit\n",
					  f) >= 0);
			assert_int_equal(fclose(f), 0);
		} else if (way == 2) {
			assert_int_equal(truncate(path, 5000), 0);
		} else {
			run_sql(w, "catalog.db", "PRAGMA user_version = 77");
		}
		reopen(w);
		must(sa_catalog_sync(w->catalog, w->store, &err), &err);
		expect_dump(w, want);
		assert_non_null(strstr(w->log, "ev=catalog_rebuilt points=8"));
		if (way != 0)
			assert_non_null(strstr(w->log, "ev=catalog_damaged"));
	}
	free(want);
}

/* Rot anywhere in the file: the agent starts, and a rebuild makes the index right. */
static void test_rot(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	uint64_t rnd = 5;
	char path[96], *want;
	struct stat st;

	some_points(w, true);
	want = dump(w);
	path_of(path, sizeof(path), w, "catalog.db");
	for (int i = 0; i < 60; i++) {
		uint8_t noise[64];
		int fd;

		sa_catalog_close(w->catalog);
		w->catalog = NULL;
		assert_int_equal(stat(path, &st), 0);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		rnd_fill(&rnd, noise, sizeof(noise));
		assert_int_equal(pwrite(fd, noise, sizeof(noise),
					(off_t)rnd_below(&rnd, (uint64_t)st.st_size)),
				 sizeof(noise));
		assert_int_equal(close(fd), 0);
		reopen(w);
		must(sa_catalog_rebuild(w->catalog, w->store, &err), &err);
		expect_dump(w, want);
	}
	free(want);
}

/* ---- state.db ---- */

static void test_marks(void **state)
{
	struct world *w = *state;
	struct lb_hash a = fix_hash(1), b = fix_hash(2);
	struct lb_err err = {0};
	unsigned bits = 99;

	must(sa_catalog_mark(w->catalog, &a, SA_MARK_VERIFIED, 5, "by scrub", &err), &err);
	must(sa_catalog_mark(w->catalog, &a, SA_MARK_BOOTED, 6, NULL, &err), &err);
	must(sa_catalog_mark(w->catalog, &a, SA_MARK_BOOTED, 7, "again", &err), &err);
	must(sa_catalog_mark(w->catalog, &b, SA_MARK_BAD, 8, "it's; \"bad\"", &err), &err);
	for (int pass = 0; pass < 2; pass++) {
		must(sa_catalog_marks(w->catalog, &a, &bits, &err), &err);
		assert_int_equal(bits, 1u << SA_MARK_VERIFIED | 1u << SA_MARK_BOOTED);
		must(sa_catalog_marks(w->catalog, &b, &bits, &err), &err);
		assert_int_equal(bits, 1u << SA_MARK_BAD);
		reopen(w);
	}
	a = fix_hash(3);
	must(sa_catalog_marks(w->catalog, &a, &bits, &err), &err);
	assert_int_equal(bits, 0);
	/* the catalog may go; marks stay */
	must(sa_catalog_rebuild(w->catalog, w->store, &err), &err);
	must(sa_catalog_marks(w->catalog, &b, &bits, &err), &err);
	assert_int_equal(bits, 1u << SA_MARK_BAD);
}

static void expect_marks(struct world *w, enum sa_mark mark, unsigned want)
{
	struct lb_hash p = fix_hash(4);
	struct lb_err err = {0};
	unsigned bits = 99;

	must(sa_catalog_mark(w->catalog, &p, mark, 5, "", &err), &err);
	must(sa_catalog_marks(w->catalog, &p, &bits, &err), &err);
	assert_int_equal(bits, want);
}

/* A point that was found bad and then, as closely looked at, good can be booted by latest-good
 * again; one that was good is not told as verified when it is bad. */
static void test_marks_are_taken_back(void **state)
{
	const unsigned verified = 1u << SA_MARK_VERIFIED, deep = 1u << SA_MARK_DEEP_VERIFIED,
		       booted = 1u << SA_MARK_BOOTED, bad = 1u << SA_MARK_BAD;
	struct world *w = *state;

	expect_marks(w, SA_MARK_VERIFIED, verified);
	expect_marks(w, SA_MARK_DEEP_VERIFIED, verified | deep);
	expect_marks(w, SA_MARK_BOOTED, verified | deep | booted);
	expect_marks(w, SA_MARK_BAD, booted | bad);
	expect_marks(w, SA_MARK_VERIFIED, verified | booted | bad);
	expect_marks(w, SA_MARK_DEEP_VERIFIED, verified | deep | booted);
}

static void test_bad_state(void **state)
{
	struct world *w = *state;
	struct lb_hash a = fix_hash(1);
	struct lb_err err = {0};
	char path[96];
	unsigned bits = 99;
	FILE *f;

	must(sa_catalog_mark(w->catalog, &a, SA_MARK_VERIFIED, 5, "", &err), &err);
	sa_catalog_close(w->catalog);
	w->catalog = NULL;
	path_of(path, sizeof(path), w, "state.db");
	f = fopen(path, "r+");
	assert_non_null(f);
	assert_true(fputs("no database any more", f) >= 0);
	assert_int_equal(fclose(f), 0);
	reopen(w);
	assert_non_null(strstr(w->log, "lvl=error comp=catalog ev=state_db_set_aside"));
	path_of(path, sizeof(path), w, "state.db.bad");
	assert_int_equal(access(path, F_OK), 0);
	must(sa_catalog_marks(w->catalog, &a, &bits, &err), &err);
	assert_int_equal(bits, 0);
	must(sa_catalog_mark(w->catalog, &a, SA_MARK_VERIFIED, 5, "", &err), &err);
	/* one of a newer program is not touched */
	sa_catalog_close(w->catalog);
	w->catalog = NULL;
	run_sql(w, "state.db", "PRAGMA user_version = 77");
	assert_int_equal(sa_catalog_open(&w->catalog, w->dir, &err), LB_EVERSION);
	assert_non_null(strstr(err.msg, "version 77"));
	assert_null(w->catalog);
}

struct reader {
	struct world *w;
	uint64_t first, last;
	unsigned n, stop_at;
};

static int on_event(void *arg, const struct sa_event *e)
{
	struct reader *r = arg;

	if (r->n == 0)
		r->first = e->n;
	else
		assert_true(e->n > r->last);
	r->last = e->n;
	assert_int_equal(e->wall_ns, e->n * 10);
	assert_string_equal(e->level, "info");
	assert_string_equal(e->line, "ts=x lvl=info comp=test ev=beat\n");
	return ++r->n == r->stop_at ? 17 : 0;
}

static struct reader read_events(struct world *w, uint64_t after, unsigned max, unsigned stop_at)
{
	struct reader r = {.w = w, .stop_at = stop_at};
	struct lb_err err = {0};
	int rc = sa_catalog_events(w->catalog, after, max, on_event, &r, &err);

	assert_int_equal(rc, stop_at != 0 ? 17 : 0);
	return r;
}

static void add_events(struct world *w, uint64_t from, uint64_t to)
{
	struct sa_event e = {.level = "info", .comp = "test", .ev = "beat"};
	struct lb_err err = {0};

	(void)snprintf(e.line, sizeof(e.line), "ts=x lvl=info comp=test ev=beat\n");
	for (uint64_t i = from; i <= to; i++) {
		e.wall_ns = i * 10;
		must(sa_catalog_event_add(w->catalog, &e, &err), &err);
	}
}

static void test_events(void **state)
{
	struct world *w = *state;
	struct reader r;

	add_events(w, 1, 200);
	r = read_events(w, 0, 1000, 0);
	assert_true(r.first == 1 && r.last == 200 && r.n == 200);
	r = read_events(w, 150, 1000, 0);
	assert_true(r.first == 151 && r.n == 50);
	r = read_events(w, 10, 70, 0);
	assert_true(r.first == 11 && r.last == 80 && r.n == 70);
	r = read_events(w, 0, 1000, 65);
	assert_true(r.n == 65);
	r = read_events(w, 200, 1000, 0);
	assert_true(r.n == 0);
	reopen(w);
	add_events(w, 201, 201); /* numbers go on */
	r = read_events(w, 200, 1000, 0);
	assert_true(r.first == 201 && r.n == 1);
}

static void test_events_are_pruned(void **state)
{
	struct world *w = *state;
	struct reader r;

	add_events(w, 1, 10005);
	r = read_events(w, 0, 20000, 0);
	assert_true(r.first == 6 && r.last == 10005 && r.n == 10000);
}

/* A reader that logs: the log's tap adds an event to the same catalog. */
static int on_event_add(void *arg, const struct sa_event *e)
{
	struct reader *r = arg;

	(void)e;
	add_events(r->w, 1000, 1000);
	return ++r->n == 3;
}

static void test_event_from_reader(void **state)
{
	struct world *w = *state;
	struct reader r = {.w = w};

	add_events(w, 1, 5);
	assert_int_equal(sa_catalog_events(w->catalog, 0, 100, on_event_add, &r, NULL), 1);
	assert_int_equal(r.n, 3);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_identical),    T(test_point_during_sync),    T(test_sync_adds_and_drops),
		T(test_sync_updates), T(test_lost_catalog),         T(test_rot),
		T(test_marks),        T(test_marks_are_taken_back), T(test_bad_state),
		T(test_events),       T(test_events_are_pruned),    T(test_event_from_reader),
	};
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (null >= 0)
		lb_log_set_fd(null); /* what is logged is read through the tap */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
