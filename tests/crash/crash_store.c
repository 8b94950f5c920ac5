/*
 * crash.store [SEEDS] - an ingest on a disk in RAM that loses power at every sync (and every other
 * operation), fails at every operation, and is full at every position. Afterwards no acknowledged
 * point may be lost, no visible one wrong, and the ingest must be able to go on to its end.
 *
 * The control: a sync that only pretends must make the same checker cry. Else it proves nothing.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "ingest.h"
#include "memfs.h"
#include "rnd.h"

#define POINTS 12u

static unsigned seeds = 2;

static int setup(void **state)
{
	struct ingest *g = calloc(1, sizeof(*g));

	LB_ASSERT(g != NULL);
	ingest_init(g, POINTS, 32, 8, 16 << 10, 77);
	*state = g;
	return 0;
}

static int teardown(void **state)
{
	ingest_fini(*state);
	free(*state);
	return 0;
}

static struct lb_fs *new_disk(uint64_t seed)
{
	struct lb_fs *fs = NULL;

	LB_ASSERT(lb_memfs_create(&fs, seed, NULL) == 0);
	return fs;
}

/* Open and run to the end or the first error; closes the store. */
static int attempt(struct ingest *g, struct lb_fs *fs, struct ingest_log *log, struct lb_err *err)
{
	struct rep_store *s = NULL;
	int rc = rep_store_open(&s, &g->env.env, fs, &g->cfg, err);

	if (rc == 0)
		rc = ingest_run(g, s, log, err);
	rep_store_close(s);
	return rc;
}

/* After whatever happened: check, go on to the end, check again over a power cut. */
static unsigned finish(struct ingest *g, struct lb_fs *fs, struct ingest_log *log, uint64_t seed)
{
	struct rep_store *s = NULL;
	struct lb_err err = {.code = 0};
	unsigned bad = ingest_check(g, fs, log, true, &s);

	if (bad != 0)
		return bad;
	if (ingest_run(g, s, log, &err) != 0) {
		(void)fprintf(stderr, "  does not go on: %s\n", err.msg);
		bad++;
	}
	rep_store_close(s);
	lb_memfs_power_cut(fs, seed);
	for (unsigned i = 0; i < g->points; i++)
		bad += !log->acked[i];
	return bad + ingest_check(g, fs, log, true, NULL);
}

static void count_all(struct ingest *g, uint64_t *syncs, uint64_t *ops)
{
	struct lb_fs *fs = new_disk(1);
	struct ingest_log log = {.arg = NULL};
	struct lb_err err = {.code = 0};

	if (attempt(g, fs, &log, &err) != 0)
		fail_msg("%s", err.msg);
	*syncs = lb_memfs_syncs(fs);
	*ops = lb_memfs_ops(fs);
	lb_fs_destroy(fs);
}

/* Cut at sync @n, or at operation @n; with @again also inside the recovery that follows. */
static unsigned cut_once(struct ingest *g, uint64_t n, bool at_op, bool again, uint64_t seed)
{
	struct lb_fs *fs = new_disk(seed);
	struct ingest_log log = {.arg = NULL};
	struct lb_err err = {.code = 0};
	unsigned bad;

	if (at_op)
		lb_memfs_cut_at_op(fs, n);
	else
		lb_memfs_cut_at_sync(fs, n);
	LB_ASSERT(attempt(g, fs, &log, &err) != 0);
	lb_memfs_power_cut(fs, seed * 31 + n);
	if (again) {
		struct rep_store *s = NULL;

		lb_memfs_cut_at_op(fs, lb_memfs_ops(fs) + 1 + seed % 40);
		if (rep_store_open(&s, &g->env.env, fs, &g->cfg, &err) == 0)
			rep_store_close(s);
		lb_memfs_power_cut(fs, seed * 37 + n);
	}
	bad = finish(g, fs, &log, seed);
	if (bad != 0)
		(void)fprintf(stderr, "^ cut at %s %" PRIu64 " seed %" PRIu64 "%s\n",
			      at_op ? "operation" : "sync", n, seed, again ? ", twice" : "");
	lb_fs_destroy(fs);
	return bad;
}

static void test_every_sync(void **state)
{
	struct ingest *g = *state;
	uint64_t syncs;
	uint64_t ops;
	unsigned cuts = 0;
	unsigned bad = 0;

	count_all(g, &syncs, &ops);
	for (uint64_t n = 1; n <= syncs; n++) {
		for (unsigned seed = 1; seed <= seeds; seed++, cuts++)
			bad += cut_once(g, n, false, seed == 2, seed * 1000 + n);
	}
	print_message("%u power cuts, each of %" PRIu64 " syncs: %u violations\n", cuts, syncs,
		      bad);
	assert_int_equal(bad, 0);
}

static void test_every_operation(void **state)
{
	struct ingest *g = *state;
	uint64_t syncs;
	uint64_t ops;
	unsigned cuts = 0;
	unsigned bad = 0;

	count_all(g, &syncs, &ops);
	for (uint64_t n = 1; n <= ops; n += seeds > 10 ? 1 : 3, cuts++)
		bad += cut_once(g, n, true, false, n);
	print_message("%u power cuts over %" PRIu64 " operations: %u violations\n", cuts, ops, bad);
	assert_int_equal(bad, 0);
}

/* One operation fails. What cannot be retried (a sync) needs the store opened again. */
static unsigned fail_once(struct ingest *g, uint64_t k, int code)
{
	struct lb_fs *fs = new_disk(k);
	struct ingest_log log = {.arg = NULL};
	struct lb_err err = {.code = 0};
	struct rep_store *s = NULL;
	unsigned bad;
	int rc = 0;

	lb_memfs_fail_at(fs, k, code);
	for (unsigned tries = 0; tries < 6; tries++) {
		if (s == NULL && rep_store_open(&s, &g->env.env, fs, &g->cfg, &err) != 0) {
			s = NULL;
			continue;
		}
		rc = ingest_run(g, s, &log, &err);
		if (rc == 0)
			break;
		if (rc == LB_ESUSPECT || tries > 1) {
			rep_store_close(s);
			s = NULL;
		}
	}
	rep_store_close(s);
	lb_memfs_power_cut(fs, k);
	bad = finish(g, fs, &log, k);
	if (bad != 0 || rc != 0)
		(void)fprintf(stderr, "^ operation %" PRIu64 " failed with %s; then %s\n", k,
			      lb_err_name(code), err.msg);
	lb_fs_destroy(fs);
	return bad + (rc != 0);
}

static void test_every_failure(void **state)
{
	struct ingest *g = *state;
	uint64_t syncs;
	uint64_t ops;
	unsigned failures = 0;
	unsigned bad = 0;

	count_all(g, &syncs, &ops);
	for (uint64_t k = 1; k <= ops; k += seeds > 10 ? 1 : 2, failures++)
		bad += fail_once(g, k, k % 4 < 2 ? LB_EIO : LB_ENOSPC);
	print_message("%u failed operations of %" PRIu64 ": %u violations\n", failures, ops, bad);
	assert_int_equal(bad, 0);
}

/* Nothing is acknowledged between a failed sync and the next open (I7). */
static void test_suspect(void **state)
{
	struct ingest *g = *state;
	uint64_t syncs;
	uint64_t ops;
	unsigned suspects = 0;

	count_all(g, &syncs, &ops);
	for (uint64_t k = 1; k <= ops; k++) {
		struct lb_fs *fs = new_disk(k);
		struct ingest_log log = {.arg = NULL};
		struct rep_store *s = NULL;
		struct lb_err err = {.code = 0};

		lb_memfs_fail_at(fs, k, LB_EIO);
		if (rep_store_open(&s, &g->env.env, fs, &g->cfg, &err) == 0 &&
		    ingest_run(g, s, &log, &err) == LB_ESUSPECT) {
			suspects++;
			assert_int_equal(rep_store_commit(s, &err), LB_ESUSPECT);
			assert_int_equal(sf_part_send(s, &g->point[POINTS - 1].layer[0],
						      &g->point[POINTS - 1].layer[0].part[0], &err),
					 LB_ESUSPECT);
		}
		rep_store_close(s);
		lb_fs_destroy(fs);
	}
	print_message("%u failed syncs made the store suspect\n", suspects);
	assert_true(suspects > 20);
}

static unsigned full_at(struct ingest *g, uint64_t bytes)
{
	struct lb_fs *fs = new_disk(bytes);
	struct ingest_log log = {.arg = NULL};
	struct lb_err err = {.code = 0};
	struct rep_store *s = NULL;
	unsigned bad = 0;
	int rc;

	lb_memfs_set_space(fs, bytes);
	rc = rep_store_open(&s, &g->env.env, fs, &g->cfg, &err);
	if (rc == 0)
		rc = ingest_run(g, s, &log, &err);
	/* A sync may find the disk full too: then the store is suspect. */
	if (rc != 0 && rc != LB_ENOSPC && rc != LB_ESUSPECT)
		bad++;
	if (s != NULL && rc == LB_ENOSPC && bytes % 2 == 0) {
		/* In the same process: space comes back, appending works again. */
		lb_memfs_set_space(fs, UINT64_MAX);
		bad += ingest_run(g, s, &log, &err) != 0;
	}
	if (s != NULL) {
		rep_store_close(s);
		/* Full or not, it opens and everything reads: a failover must work. */
		bad += ingest_check(g, fs, &log, true, NULL);
	}
	lb_memfs_power_cut(fs, bytes);
	lb_memfs_set_space(fs, UINT64_MAX);
	bad += finish(g, fs, &log, bytes);
	if (bad != 0)
		(void)fprintf(stderr, "^ disk of %" PRIu64 " bytes: %s\n", bytes, err.msg);
	lb_fs_destroy(fs);
	return bad;
}

static void test_full_disk(void **state)
{
	struct ingest *g = *state;
	struct lb_fs *fs = new_disk(1);
	struct ingest_log log = {.arg = NULL};
	struct rep_store *s = NULL;
	uint64_t all;
	uint64_t rnd = 9;
	unsigned bad = 0;
	unsigned n = 0;

	assert_int_equal(attempt(g, fs, &log, NULL), 0);
	assert_int_equal(rep_store_open(&s, &g->env.env, fs, &g->cfg, NULL), 0);
	all = rep_store_bytes(s);
	rep_store_close(s);
	lb_fs_destroy(fs);
	for (uint64_t at = 0; at < all; at += 1 + rnd_below(&rnd, all / (seeds * 50)), n++)
		bad += full_at(g, at);
	print_message("full at %u positions of %" PRIu64 " bytes: %u violations\n", n, all, bad);
	assert_int_equal(bad, 0);
}

/* Sync @n only pretends, and the power goes at one of the next: does the checker cry? */
static bool missing_sync_seen(struct ingest *g, uint64_t n)
{
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct lb_fs *fs = new_disk(seed);
		struct ingest_log log = {.arg = NULL};
		bool seen;

		lb_memfs_ignore_sync(fs, n);
		lb_memfs_cut_at_sync(fs, n + 1 + (seed % 4 == 0 ? seed / 4 % 3 : 0));
		(void)attempt(g, fs, &log, NULL);
		lb_memfs_power_cut(fs, seed * 13 + n);
		seen = ingest_check(g, fs, &log, false, NULL) != 0;
		lb_fs_destroy(fs);
		if (seen)
			return true;
	}
	return false;
}

static void test_missing_sync(void **state)
{
	struct ingest *g = *state;
	uint64_t syncs;
	uint64_t ops;
	unsigned caught = 0;
	unsigned tried = 0;

	count_all(g, &syncs, &ops);
	for (uint64_t n = 1; n < syncs; n++, tried++) {
		bool seen = missing_sync_seen(g, n);

		caught += seen;
		if (!seen)
			print_message("  missing sync %" PRIu64 " goes unnoticed\n", n);
	}
	print_message("a missing sync was noticed at %u of %u places\n", caught, tried);
	/* Some syncs only matter when two things fail; but most are what the promise stands on. */
	assert_true(caught >= tried / 2);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_sync),    cmocka_unit_test(test_every_operation),
		cmocka_unit_test(test_every_failure), cmocka_unit_test(test_suspect),
		cmocka_unit_test(test_full_disk),     cmocka_unit_test(test_missing_sync),
	};

	if (argc > 1)
		seeds = (unsigned)strtoul(argv[1], NULL, 10);
	LB_ASSERT(seeds > 0);
	return cmocka_run_group_tests(tests, setup, teardown);
}
