/* The durable role and epoch records: what may follow what, and what a power cut leaves. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "memfs.h"
#include "roles_int.h"

#define ROLES 7

static uint64_t fake_ns(struct lb_env *env)
{
	(void)env;
	return 77;
}

static void fake_random(struct lb_env *env, void *p, size_t len)
{
	(void)env;
	memset(p, 1, len);
}

static struct lb_env env = {.now_ns = fake_ns, .wall_ns = fake_ns, .random = fake_random};

static struct sa_role_record record(enum sa_role role, uint64_t epoch)
{
	struct sa_role_record r = {.role = role, .epoch = epoch, .lineage = epoch};

	memset(&r.group, 0xa5, sizeof(r.group));
	(void)snprintf(r.name, sizeof(r.name), "erp");
	(void)snprintf(r.why, sizeof(r.why), "%s at %" PRIu64, sa_role_name(role), epoch);
	r.acked_seq = epoch * 10;
	return r;
}

static void assert_same(const struct sa_role_record *a, const struct sa_role_record *b)
{
	assert_int_equal(a->role, b->role);
	assert_int_equal(a->epoch, b->epoch);
	assert_int_equal(a->lineage, b->lineage);
	assert_int_equal(a->acked_seq, b->acked_seq);
	assert_string_equal(a->name, b->name);
	assert_string_equal(a->why, b->why);
}

/* ---- transitions ---- */

/* Written out again by hand, not taken from roles.def: '=' same epoch, '+' higher, '*' both. Rows
 * from, columns to: UNPAIRED BACKUP ACQUIRING PRIMARY QUIESCING FENCED REPROTECTING. */
static const char allowed[ROLES][ROLES + 1] = {
	/* UNPAIRED     */ ".*.*...",
	/* BACKUP       */ ".*+....",
	/* ACQUIRING    */ "...=.+.",
	/* PRIMARY      */ "...==+.",
	/* QUIESCING    */ "...=.+.",
	/* FENCED       */ ".....**",
	/* REPROTECTING */ ".*.....",
};

/* Bring a new store to @role at epoch 5 by allowed steps. */
static void reach(struct sa_roles *r, enum sa_role role)
{
	static const struct {
		enum sa_role role;
		uint64_t epoch;
	} path[ROLES][3] = {
		[SA_ROLE_BACKUP] = {{SA_ROLE_BACKUP, 5}},
		[SA_ROLE_ACQUIRING] = {{SA_ROLE_BACKUP, 4}, {SA_ROLE_ACQUIRING, 5}},
		[SA_ROLE_PRIMARY] = {{SA_ROLE_PRIMARY, 5}},
		[SA_ROLE_QUIESCING] = {{SA_ROLE_PRIMARY, 5}, {SA_ROLE_QUIESCING, 5}},
		[SA_ROLE_FENCED] = {{SA_ROLE_PRIMARY, 4}, {SA_ROLE_FENCED, 5}},
		[SA_ROLE_REPROTECTING] = {{SA_ROLE_PRIMARY, 4},
					  {SA_ROLE_FENCED, 5},
					  {SA_ROLE_REPROTECTING, 5}},
	};

	for (size_t i = 0; i < 3 && path[role][i].epoch != 0; i++) {
		struct sa_role_record rec = record(path[role][i].role, path[role][i].epoch);

		assert_int_equal(sa_role_set(r, &rec, NULL), 0);
	}
}

static int expected(enum sa_role from, enum sa_role to, int step)
{
	char rule = allowed[from][to];

	if (step < 0)
		return LB_EFENCED;
	if (rule == '*' || (rule == '=' && step == 0) || (rule == '+' && step > 0))
		return 0;
	return LB_EINVAL;
}

static void try_one(enum sa_role from, enum sa_role to, int step)
{
	uint64_t base = from == SA_ROLE_UNPAIRED ? 0 : 5;
	struct sa_role_record rec = record(to, base + (uint64_t)step), got, before;
	struct lb_fs *fs = NULL;
	struct sa_roles *r = NULL;
	struct lb_err err = {0};
	bool had;
	int rc, want = expected(from, to, step);

	assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
	assert_int_equal(sa_roles_open(&r, &env, fs, NULL), 0);
	reach(r, from);
	had = sa_role_get(r, &rec.group, &before);
	assert_int_equal(had, from != SA_ROLE_UNPAIRED);
	rc = sa_role_set(r, &rec, &err);
	if (rc != want)
		fail_msg("%s -> %s epoch %+d: %s, expected %s", sa_role_name(from),
			 sa_role_name(to), step, lb_err_name(rc), lb_err_name(want));
	/* a refusal names the group and leaves the record alone, in memory and on disk */
	if (rc != 0)
		assert_non_null(strstr(err.msg, "erp"));
	sa_roles_close(r);
	assert_int_equal(sa_roles_open(&r, &env, fs, NULL), 0);
	assert_int_equal(sa_role_get(r, &rec.group, &got), had || rc == 0);
	if (rc == 0)
		assert_same(&got, &rec);
	else if (had)
		assert_same(&got, &before);
	sa_roles_close(r);
	lb_fs_destroy(fs);
}

static void test_transitions(void **state)
{
	unsigned n = 0;

	(void)state;
	for (int from = 0; from < ROLES; from++)
		for (int to = 0; to < ROLES; to++)
			for (int step = from == SA_ROLE_UNPAIRED ? 0 : -1; step <= 1; step++, n++)
				try_one((enum sa_role)from, (enum sa_role)to, step);
	assert_int_equal(n, ROLES * (ROLES - 1) * 3 + ROLES * 2);
}

/* ---- durability ---- */

static const struct {
	enum sa_role role;
	uint64_t epoch;
} life[] = {
	{SA_ROLE_BACKUP, 1},  {SA_ROLE_BACKUP, 3}, {SA_ROLE_ACQUIRING, 4},    {SA_ROLE_PRIMARY, 4},
	{SA_ROLE_PRIMARY, 4}, {SA_ROLE_FENCED, 6}, {SA_ROLE_REPROTECTING, 6}, {SA_ROLE_BACKUP, 7},
};
#define LIFE (sizeof(life) / sizeof(life[0]))

static struct sa_role_record life_record(size_t i)
{
	struct sa_role_record rec = record(life[i].role, life[i].epoch);

	rec.acked_seq = i; /* steps that differ in nothing else are told apart */
	return rec;
}

/* Go on from step @i until one fails; returns how many are done. */
static size_t live(struct sa_roles *r, size_t i)
{
	for (; i < LIFE; i++) {
		struct sa_role_record rec = life_record(i);

		if (sa_role_set(r, &rec, NULL) != 0)
			break;
	}
	return i;
}

/* The record is that of the last step done, or of the one under way. Returns the steps done. */
static size_t check_after(struct sa_roles *r, size_t done)
{
	struct sa_role_record got, want = life_record(0);
	bool there = sa_role_get(r, &want.group, &got);

	if (!there) {
		assert_int_equal(done, 0);
		return 0;
	}
	if (done < LIFE && got.acked_seq == done)
		done++;
	assert_true(done > 0);
	want = life_record(done - 1);
	assert_same(&got, &want);
	return done;
}

static void cut_once(uint64_t n, uint64_t seed, bool at_op)
{
	struct lb_fs *fs = NULL;
	struct sa_roles *r = NULL;
	size_t done = 0;

	assert_int_equal(lb_memfs_create(&fs, seed, NULL), 0);
	if (at_op)
		lb_memfs_cut_at_op(fs, n);
	else
		lb_memfs_cut_at_sync(fs, n);
	if (sa_roles_open(&r, &env, fs, NULL) == 0)
		done = live(r, 0);
	sa_roles_close(r);
	r = NULL;
	assert_true(lb_memfs_is_cut(fs));
	lb_memfs_power_cut(fs, seed * 31 + n);
	assert_int_equal(sa_roles_open(&r, &env, fs, NULL), 0);
	done = check_after(r, done);
	assert_int_equal(live(r, done), LIFE);
	sa_roles_close(r);
	lb_fs_destroy(fs);
}

static void count(uint64_t *ops, uint64_t *syncs)
{
	struct lb_fs *fs = NULL;
	struct sa_roles *r = NULL;

	assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
	assert_int_equal(sa_roles_open(&r, &env, fs, NULL), 0);
	assert_int_equal(live(r, 0), LIFE);
	sa_roles_close(r);
	*ops = lb_memfs_ops(fs);
	*syncs = lb_memfs_syncs(fs);
	lb_fs_destroy(fs);
}

static void test_power_cuts(void **state)
{
	uint64_t ops, syncs;

	(void)state;
	count(&ops, &syncs);
	assert_true(syncs >= LIFE);
	for (uint64_t seed = 1; seed <= 40; seed++) {
		for (uint64_t n = 1; n <= syncs; n++)
			cut_once(n, seed, false);
		for (uint64_t n = 1; n <= ops; n++)
			cut_once(n, seed, true);
	}
}

/* A cut right after a success, nothing under way: that very record is there. */
static void test_acked_survives(void **state)
{
	(void)state;
	for (size_t steps = 1; steps <= LIFE; steps++)
		for (uint64_t seed = 1; seed <= 20; seed++) {
			struct lb_fs *fs = NULL;
			struct sa_roles *r = NULL;
			struct sa_role_record got, want = life_record(steps - 1);

			assert_int_equal(lb_memfs_create(&fs, seed, NULL), 0);
			assert_int_equal(sa_roles_open(&r, &env, fs, NULL), 0);
			for (size_t i = 0; i < steps; i++) {
				struct sa_role_record rec = life_record(i);

				assert_int_equal(sa_role_set(r, &rec, NULL), 0);
			}
			sa_roles_close(r);
			lb_memfs_power_cut(fs, seed);
			assert_int_equal(sa_roles_open(&r, &env, fs, NULL), 0);
			assert_true(sa_role_get(r, &want.group, &got));
			assert_same(&got, &want);
			sa_roles_close(r);
			lb_fs_destroy(fs);
		}
}

static void test_kth_failure(void **state)
{
	static const int codes[] = {LB_EIO, LB_ENOSPC};
	uint64_t ops, syncs;

	(void)state;
	count(&ops, &syncs);
	for (uint64_t k = 1; k <= ops; k++)
		for (size_t c = 0; c < 2; c++) {
			struct lb_fs *fs = NULL;
			struct sa_roles *r = NULL;
			size_t done;

			assert_int_equal(lb_memfs_create(&fs, k, NULL), 0);
			lb_memfs_fail_at(fs, k, codes[c]);
			if (sa_roles_open(&r, &env, fs, NULL) != 0)
				assert_int_equal(sa_roles_open(&r, &env, fs, NULL), 0);
			done = live(r, 0);
			if (done <
			    LIFE) /* what failed did not happen, and works when asked again */
				done = live(r, done);
			assert_int_equal(done, LIFE);
			sa_roles_close(r);
			assert_int_equal(sa_roles_open(&r, &env, fs, NULL), 0);
			assert_int_equal(check_after(r, LIFE), LIFE);
			sa_roles_close(r);
			lb_fs_destroy(fs);
		}
}

/* ---- rot ---- */

static struct lb_fs *lived(char path[64])
{
	struct lb_fs *fs = NULL;
	struct sa_roles *r = NULL;
	struct sa_role_record rec = life_record(0);
	char hex[LB_ID_TEXT];

	assert_int_equal(lb_memfs_create(&fs, 3, NULL), 0);
	assert_int_equal(sa_roles_open(&r, &env, fs, NULL), 0);
	assert_int_equal(live(r, 0), LIFE); /* an even number: the newest is in slot 1 */
	sa_roles_close(r);
	(void)snprintf(path, 64, "roles/%s", lb_id_text(&rec.group, hex));
	return fs;
}

static void test_one_slot_torn(void **state)
{
	(void)state;
	for (uint64_t off = 0; off < 8192; off += 97) {
		char path[64];
		struct lb_fs *fs = lived(path);
		struct sa_roles *r = NULL;
		struct sa_role_record got, want = life_record(off < 4096 ? LIFE - 1 : LIFE - 2);

		assert_int_equal(lb_memfs_corrupt(fs, path, off, 0x10), 0);
		assert_int_equal(sa_roles_open(&r, &env, fs, NULL), 0);
		assert_true(sa_role_get(r, &want.group, &got));
		assert_same(&got, &want);
		sa_roles_close(r);
		lb_fs_destroy(fs);
	}
}

static void test_both_slots_bad(void **state)
{
	char path[64];
	struct lb_fs *fs = lived(path);
	struct sa_roles *r = NULL;
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(lb_memfs_corrupt(fs, path, 40, 1), 0);
	assert_int_equal(lb_memfs_corrupt(fs, path, 4096 + 40, 1), 0);
	assert_int_equal(sa_roles_open(&r, &env, fs, &err), LB_ECORRUPT);
	assert_non_null(strstr(err.msg, path));
	assert_null(r);
	lb_fs_destroy(fs);
}

static void test_cut_short(void **state)
{
	char path[64];
	struct lb_fs *fs = lived(path);
	struct lb_file *f = NULL;
	struct sa_roles *r = NULL;

	(void)state;
	assert_int_equal(lb_fs_open(fs, &f, path, LB_FS_WRITE, NULL), 0);
	assert_int_equal(lb_file_truncate(f, 100, NULL), 0);
	lb_file_close(f);
	assert_int_equal(sa_roles_open(&r, &env, fs, NULL), LB_ECORRUPT);
	lb_fs_destroy(fs);
}

/* ---- looking ---- */

static void test_many_groups(void **state)
{
	struct lb_fs *fs = NULL;
	struct sa_roles *r = NULL;
	struct sa_role_record rec, got;

	(void)state;
	assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
	assert_int_equal(sa_roles_open(&r, &env, fs, NULL), 0);
	for (unsigned i = 0; i < 40; i++) {
		rec = record(SA_ROLE_PRIMARY, i + 1);
		memset(&rec.group, (int)i + 1, sizeof(rec.group));
		(void)snprintf(rec.name, sizeof(rec.name), "g%u", i);
		assert_int_equal(sa_role_set(r, &rec, NULL), 0);
	}
	sa_roles_close(r);
	assert_int_equal(sa_roles_open(&r, &env, fs, NULL), 0);
	assert_int_equal(sa_roles_count(r), 40);
	assert_true(sa_role_by_name(r, "g7", &got));
	assert_int_equal(got.epoch, 8);
	assert_int_equal(got.changed_wall_ns, 77);
	assert_false(sa_role_by_name(r, "g40", &got));
	assert_true(sa_roles_at(r, 39, &got));
	assert_false(sa_roles_at(r, 40, &got));
	sa_roles_close(r);
	lb_fs_destroy(fs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transitions),    cmocka_unit_test(test_power_cuts),
		cmocka_unit_test(test_acked_survives), cmocka_unit_test(test_kth_failure),
		cmocka_unit_test(test_one_slot_torn),  cmocka_unit_test(test_both_slots_bad),
		cmocka_unit_test(test_cut_short),      cmocka_unit_test(test_many_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
