/*
 * Scrubs beside the writer: one thread ingests, one scrubs the store, one scrubs the point that was
 * acknowledged last. They meet at a barrier after every commit, so each scrub runs beside the
 * writing of one round. Nothing is damaged, so nothing may be told. Worth its time under the tsan
 * preset. What a scrub covers, without threads: the writer is called from inside the scrub.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "crash/ingest.h"
#include "memfs.h"
#include "store_int.h"

#define POINTS  24u
#define ROUNDS  (POINTS / 2)
#define THREADS 3u

struct world {
	struct lb_fs *fs;
	struct ingest g;
	struct rep_store *store;
	pthread_barrier_t commit; /* a round is acknowledged */
	atomic_uint wrong;
	int ingested; /* what the writer ended with */
	/* called from inside a scrub */
	uint32_t records;
	int late; /* result of the writing there */
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static void open_store(struct world *w)
{
	struct lb_err err = {.code = 0};

	must(rep_store_open(&w->store, &w->g.env.env, w->fs, &w->g.cfg, &err), &err);
	/* Parts are given back and read again all the time. */
	w->store->parts_max = 1;
}

static struct world *world_new(uint64_t segment_bytes)
{
	struct world *w = calloc(1, sizeof(*w));
	struct lb_err err = {.code = 0};

	assert_non_null(w);
	must(lb_memfs_create(&w->fs, 1, &err), &err);
	ingest_init(&w->g, POINTS, 48, 12, segment_bytes, 5);
	assert_int_equal(pthread_barrier_init(&w->commit, NULL, THREADS), 0);
	open_store(w);
	return w;
}

static void world_free(struct world *w)
{
	rep_store_close(w->store);
	assert_int_equal(pthread_barrier_destroy(&w->commit), 0);
	ingest_fini(&w->g);
	lb_fs_destroy(w->fs);
	free(w);
}

/* Ingest the first half. */
static void prefill(struct world *w)
{
	struct ingest_log log = {.on_ack = NULL};
	struct lb_err err = {.code = 0};

	w->g.points = POINTS / 2;
	must(ingest_run(&w->g, w->store, &log, &err), &err);
	w->g.points = POINTS;
}

/* ---- threads ---- */

/* cmocka's asserts are for the first thread. */
static void expect(struct world *w, bool ok, const char *what, const char *why)
{
	if (ok)
		return;
	atomic_fetch_add(&w->wrong, 1);
	(void)fprintf(stderr, "%s: %s\n", what, why);
}

static void meet(struct world *w)
{
	(void)pthread_barrier_wait(&w->commit);
}

static void told(void *arg, const struct rep_damage *d)
{
	expect(arg, false, "damage", d->what);
}

static int key_of(void *arg, const struct lb_id *site, struct lb_pubkey *out)
{
	struct world *w = arg;

	return sf_key_of(w->g.group, site, out);
}

static int dek_of(void *arg, const struct lb_id *id, struct lb_key *out)
{
	struct world *w = arg;

	return sf_dek_of(w->g.group, id, out);
}

static void scrub(struct world *w, const struct lb_hash *only, bool deep,
		  struct rep_scrub_stats *st)
{
	struct rep_scrub_opts o = {.on_damage = told,
				   .key_of = key_of,
				   .dek_of = deep ? dek_of : NULL,
				   .arg = w,
				   .only = only};
	struct lb_err err = {.code = 0};

	expect(w, rep_store_scrub(w->store, &o, st, &err) == 0, "scrub", err.msg);
	expect(w, st->damaged == 0, "scrub", "it counts damage");
}

struct rounds {
	struct world *w;
	unsigned n;
};

static void on_ack(void *arg, unsigned point, bool receipt)
{
	struct rounds *r = arg;

	if (receipt || point % 2 != 0)
		return;
	r->n++;
	meet(r->w);
}

static void *writer(void *arg)
{
	struct world *w = arg;
	struct rounds r = {.w = w};
	struct ingest_log log = {.on_ack = on_ack, .arg = &r};
	struct lb_err err = {.code = 0};

	w->ingested = ingest_run(&w->g, w->store, &log, &err);
	expect(w, w->ingested == 0, "ingest", err.msg);
	for (; r.n < ROUNDS; r.n++)
		meet(w);
	return NULL;
}

/* Deep by turns. What the writer shows meanwhile need not be counted, but no more than that. */
static void *scrub_store(void *arg)
{
	struct world *w = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct rep_scrub_stats st;

		meet(w);
		scrub(w, NULL, i % 2 == 1, &st);
		expect(w, st.points >= UINT64_C(2) * (i + 1), "scrub", "a point is not covered");
	}
	return NULL;
}

static void *scrub_points(void *arg)
{
	struct world *w = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct rep_scrub_stats st;

		meet(w);
		scrub(w, &w->g.point[(size_t)i * 2].hash, true, &st);
		/* its chain: every third point is of its group */
		expect(w, st.points == i * 2 / INGEST_GROUPS + 1, "scrub", "not its chain");
	}
	return NULL;
}

static void run_threads(struct world *w)
{
	void *(*fn[THREADS])(void *) = {writer, scrub_store, scrub_points};
	struct rep_scrub_stats st;
	pthread_t t[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, fn[i], w), 0);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	scrub(w, NULL, true, &st);
	assert_int_equal(st.points, POINTS);
	assert_int_equal(st.bytes, rep_store_bytes(w->store));
	assert_int_equal(rep_store_damage(w->store, NULL, NULL), 0);
	assert_int_equal(atomic_load(&w->wrong), 0);
}

static void test_new_store(void **state)
{
	struct world *w = world_new(24 << 10);

	(void)state;
	run_threads(w);
	world_free(w);
}

/* Half of it is there already: its parts, sources and directories come from the files. */
static void test_opened_store(void **state)
{
	struct world *w = world_new(24 << 10);

	(void)state;
	prefill(w);
	rep_store_close(w->store);
	open_store(w);
	run_threads(w);
	world_free(w);
}

/* ---- what one scrub covers ---- */

/* At the 20th record the writer sends and commits a whole round. */
static bool write_round(void *arg)
{
	struct world *w = arg;
	struct ingest_log log = {.on_ack = NULL};

	if (++w->records != 20)
		return false;
	w->g.points = POINTS / 2 + 2;
	w->late = ingest_run(&w->g, w->store, &log, NULL);
	w->g.points = POINTS;
	return false;
}

static void test_covers_what_was_committed(void **state)
{
	/* small segments: the round rolls some */
	struct world *w = world_new(8 << 10);
	struct rep_scrub_opts o = {.on_damage = told,
				   .cancelled = write_round,
				   .key_of = key_of,
				   .dek_of = dek_of,
				   .arg = w};
	struct lb_err err = {.code = 0};
	struct rep_scrub_stats st;
	uint64_t before;

	(void)state;
	prefill(w);
	before = rep_store_bytes(w->store);
	w->late = -1;
	must(rep_store_scrub(w->store, &o, &st, &err), &err);
	assert_int_equal(w->late, 0);
	assert_true(rep_store_bytes(w->store) > before);
	assert_int_equal(st.points, POINTS / 2);
	assert_int_equal(st.bytes, before);
	assert_int_equal(atomic_load(&w->wrong), 0);
	world_free(w);
}

/* Rot behind the newest mark: nothing was promised there. Once a mark follows it is told. */
static void test_skips_what_has_no_mark(void **state)
{
	struct world *w = world_new(16 << 20);
	const struct sf_layer *l = &w->g.point[POINTS / 2].layer[0];
	struct rep_scrub_opts o = {.arg = w};
	struct lb_err err = {.code = 0};
	struct rep_scrub_stats st;
	uint64_t marked;

	(void)state;
	prefill(w);
	marked = rep_store_bytes(w->store);
	for (uint32_t i = 0; i < l->parts; i++)
		must(sf_part_send(w->store, l, &l->part[i], &err), &err);
	/* an open keeps what was sent, and knows where the mark is */
	rep_store_close(w->store);
	open_store(w);
	assert_true(rep_store_bytes(w->store) > marked);
	must(lb_memfs_corrupt(w->fs, "seg/0000000000000001.seg", marked + 70, 1), &err);
	must(rep_store_scrub(w->store, &o, &st, &err), &err);
	assert_int_equal(st.bytes, marked);
	must(rep_store_commit(w->store, &err), &err);
	assert_int_equal(rep_store_scrub(w->store, &o, &st, &err), LB_ECORRUPT);
	assert_int_equal(st.damaged, 1);
	assert_int_equal(st.bytes, rep_store_bytes(w->store));
	world_free(w);
}

/* A manifest that waits for its commit is not a point yet, though a full segment's closing mark
 * may have covered it. */
static void test_skips_what_is_pending(void **state)
{
	struct world *w = world_new(8 << 10);
	struct lb_err err = {.code = 0};
	struct rep_scrub_stats st;

	(void)state;
	prefill(w);
	must(sf_point_send(w->store, &w->g.point[POINTS / 2], &err), &err);
	scrub(w, NULL, true, &st);
	assert_int_equal(st.points, POINTS / 2);
	must(rep_store_commit(w->store, &err), &err);
	scrub(w, NULL, true, &st);
	assert_int_equal(st.points, POINTS / 2 + 1);
	assert_int_equal(atomic_load(&w->wrong), 0);
	world_free(w);
}

/* What rep_layer_sources() gives stays: another thread's scrub must not replace it. */
static void test_sources_stay(void **state)
{
	struct world *w = world_new(24 << 10);
	const struct lb_id *source[POINTS / 2];
	struct lb_err err = {.code = 0};
	struct rep_scrub_stats st;
	uint32_t met = 0;

	(void)state;
	prefill(w);
	for (int again = 0; again < 2; again++) {
		for (unsigned i = 0; i < POINTS / 2; i++) {
			const struct lb_id *v = NULL;
			uint32_t n = 0;
			struct rep_layer *l;

			rep_lock(w->store);
			l = rep_layer_find(w->store, &w->g.point[i].layer[0].header.layer);
			rep_unlock(w->store);
			must(rep_layer_sources(w->store, l, &v, &n, &err), &err);
			if (again)
				assert_ptr_equal(v, source[i]);
			source[i] = v;
			met += n;
		}
		scrub(w, NULL, false, &st);
	}
	assert_true(met > 0);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_store),
		cmocka_unit_test(test_opened_store),
		cmocka_unit_test(test_covers_what_was_committed),
		cmocka_unit_test(test_skips_what_has_no_mark),
		cmocka_unit_test(test_skips_what_is_pending),
		cmocka_unit_test(test_sources_stay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
