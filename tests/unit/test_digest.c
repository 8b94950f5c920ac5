#include <stdlib.h>

#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "memfs.h"
#include "replicator/digest.h"
#include "rnd.h"

/*
 * A model beside the store: what every block's digest is after each cut. Whatever happens to the
 * disk, the store must open as a base that a receipt named, with exactly the model's digests, and
 * a sealed log must lead to exactly the model's next state.
 */
#define BLOCKS 3000u /* more than one record, more than a buffer of the log */
#define CUTS   7u

struct model {
	struct lb_digest at[CUTS + 1][BLOCKS]; /* [0]: nothing */
	unsigned sealed;                       /* newest cut whose seal returned */
	unsigned committed;                    /* newest whose commit returned */
	unsigned voided;                       /* cuts up to this were made void by a full one */
};

static const struct lb_id volume = {.b = {7}};

static struct lb_hash manifest_of(unsigned cut)
{
	struct lb_hash h = {.b = {(uint8_t)cut, 0x77}};

	return h;
}

static struct lb_digest digest_of(unsigned cut, unsigned block)
{
	struct lb_digest d = {.b = {(uint8_t)cut, (uint8_t)block, (uint8_t)(block >> 8), 1}};

	return d;
}

static bool is_full(unsigned cut)
{
	return cut == 1 || cut == 5;
}

/* Change the model from what the store describes to cut @cut, and tell the store. */
static int change(struct rep_digest *d, struct model *m, unsigned from, unsigned cut, uint64_t seed)
{
	struct lb_digest *at = m->at[cut];
	uint64_t r = seed + cut;

	if (is_full(cut))
		memset(at, 0, sizeof(m->at[cut]));
	else
		memcpy(at, m->at[from], sizeof(m->at[cut]));
	for (unsigned b = 0; b < BLOCKS;) {
		unsigned n = 1 + (unsigned)(rnd_u64(&r) % (cut == 2 ? 1800 : 40));
		unsigned what = (unsigned)(rnd_u64(&r) % 4);
		int rc = 0;

		n = n < BLOCKS - b ? n : BLOCKS - b;
		for (unsigned i = 0; what <= 1 && i < n; i++)
			at[b + i] = digest_of(cut, b + i);
		for (unsigned i = 0; what == 2 && i < n; i++)
			memset(&at[b + i], 0, sizeof(at[b + i]));
		if (what <= 2)
			rc = rep_digest_change(d, b, n, what == 2 ? NULL : &at[b], NULL);
		if (rc != 0)
			return rc;
		b += n;
	}
	return 0;
}

static bool harmless; /* nothing is done to the disk: read in between, too */
static bool keeping;  /* the stores keep digests in memory, too */

static bool reads_as(struct rep_digest *d, const struct lb_digest *want)
{
	static struct lb_digest got[BLOCKS + 5];

	for (unsigned b = 0; b + 7 <= BLOCKS; b += 97) { /* few at a time, as a scan does */
		if (rep_digest_read(d, got, b, 7, NULL) != 0 ||
		    memcmp(got, want + b, 7 * sizeof(*want)) != 0)
			return false;
	}
	if (rep_digest_read(d, got, 0, BLOCKS + 5, NULL) != 0)
		return false;
	for (unsigned i = BLOCKS; i < BLOCKS + 5; i++) {
		if (!rep_digest_is_zero(&got[i]))
			return false;
	}
	return memcmp(got, want, BLOCKS * sizeof(*want)) == 0;
}

/* The cut whose manifest the store describes; 0: none. */
static unsigned base_of(const struct rep_digest *d)
{
	struct lb_hash h;

	return rep_digest_base(d, &h) ? h.b[0] : 0;
}

/*
 * The life of a store: cut 1 full and acked, 2 acked, 3 sealed but never acked, 4 acked (on 2), 5
 * full and acked, 6 sealed and its receipt comes only after 7 was begun, 7 from 6. Stops at the
 * first error.
 */
static int live(struct lb_fs *fs, struct model *m, uint64_t seed)
{
	struct rep_digest *d = NULL;
	struct lb_hash h;
	int rc = rep_digest_open(&d, lb_env_real(), fs, &volume, NULL);

	if (rc == 0 && keeping)
		rc = rep_digest_keep(d, BLOCKS / 2, NULL);
	for (unsigned cut = 1; rc == 0 && cut <= CUTS; cut++) {
		unsigned from = base_of(d);

		if (is_full(cut))
			m->voided = cut - 1;
		rc = rep_digest_begin(d, is_full(cut), NULL);
		if (rc == 0)
			rc = change(d, m, from, cut, seed);
		if (rc == 0 && cut == 7) { /* the receipt of 6 after all: begin again on it */
			h = manifest_of(6);
			rc = rep_digest_commit(d, &h, NULL);
			m->committed = rc == 0 ? 6 : m->committed;
			if (rc == 0)
				rc = rep_digest_begin(d, false, NULL);
			if (rc == 0)
				rc = change(d, m, 6, 7, seed);
		}
		h = manifest_of(cut);
		if (rc == 0)
			rc = rep_digest_seal(d, &h, NULL);
		if (rc == 0)
			m->sealed = cut;
		if (rc == 0 && cut != 3 && cut != 6) {
			rc = rep_digest_commit(d, &h, NULL);
			m->committed = rc == 0 ? cut : m->committed;
		}
		if (rc == 0 && keeping && cut == 4) /* the volume has grown */
			rc = rep_digest_keep(d, BLOCKS, NULL);
		if (rc == 0 && cut != 5 && !lb_memfs_is_cut(fs) && harmless)
			assert_true(reads_as(d, m->at[base_of(d)]));
	}
	rep_digest_close(d);
	return rc;
}

/* After whatever happened: the store opens, and is one of the states the model allows. */
static void check_after(struct lb_fs *fs, struct model *m)
{
	struct rep_digest *d = NULL;
	struct lb_err err;
	unsigned base;

	if (rep_digest_open(&d, lb_env_real(), fs, &volume, &err) != 0)
		fail_msg("sealed %u committed %u: %s", m->sealed, m->committed, err.msg);
	base = base_of(d);
	/* A commit that returned stays; one that did not may have been done. */
	if (m->committed > m->voided)
		assert_true(base == m->committed || base == m->sealed);
	else
		assert_true(base == 0 || base == m->committed || base == m->sealed ||
			    (m->voided != 0 && base <= m->voided));
	assert_true(reads_as(d, m->at[base]));
	for (unsigned cut = 1; cut <= CUTS; cut++) {
		struct lb_hash h = manifest_of(cut);

		/* What was sealed last waits for its receipt, unless it is the base already. */
		if (cut == m->sealed && cut != base && cut > m->voided && cut > m->committed)
			assert_true(rep_digest_pending(d, &h));
	}
	for (unsigned cut = CUTS; cut >= 1; cut--) {
		struct lb_hash h = manifest_of(cut);

		if (!rep_digest_pending(d, &h))
			continue;
		assert_int_equal(rep_digest_commit(d, &h, NULL), 0);
		assert_int_equal(base_of(d), cut);
		assert_true(reads_as(d, m->at[cut]));
		break;
	}
	rep_digest_close(d);
}

static struct model *model_new(void)
{
	struct model *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	return m;
}

static void test_life(void **state)
{
	struct model *m = model_new();
	struct rep_digest *d = NULL;
	struct lb_fs *fs = NULL;
	struct lb_hash h = manifest_of(7), six = manifest_of(6);

	(void)state;
	assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
	harmless = true;
	assert_int_equal(live(fs, m, 1), 0);
	harmless = false;
	assert_int_equal(rep_digest_open(&d, lb_env_real(), fs, &volume, NULL), 0);
	assert_int_equal(base_of(d), 7);
	assert_true(reads_as(d, m->at[7]));
	assert_int_equal(rep_digest_commit(d, &h, NULL), 0); /* again: no harm */
	assert_int_equal(rep_digest_commit(d, &six, NULL), LB_ENOTFOUND);
	rep_digest_close(d);
	assert_int_equal(rep_digest_discard(fs, &volume, NULL), 0);
	assert_int_equal(rep_digest_open(&d, lb_env_real(), fs, &volume, NULL), 0);
	assert_int_equal(base_of(d), 0);
	rep_digest_close(d);
	lb_fs_destroy(fs);
	free(m);
}

/* Two logs wait on one base: whichever receipt comes decides. */
static void test_two_pending(void **state)
{
	struct model *m = model_new();

	(void)state;
	for (unsigned winner = 2; winner <= 3; winner++) {
		struct rep_digest *d = NULL;
		struct lb_fs *fs = NULL;

		assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
		assert_int_equal(rep_digest_open(&d, lb_env_real(), fs, &volume, NULL), 0);
		for (unsigned cut = 1; cut <= 3; cut++) {
			struct lb_hash h = manifest_of(cut);

			assert_int_equal(rep_digest_begin(d, cut == 1, NULL), 0);
			assert_int_equal(change(d, m, cut == 1 ? 0 : 1, cut, 9), 0);
			assert_int_equal(rep_digest_seal(d, &h, NULL), 0);
			if (cut == 1)
				assert_int_equal(rep_digest_commit(d, &h, NULL), 0);
		}
		rep_digest_close(d);
		lb_memfs_power_cut(fs, 5);
		assert_int_equal(rep_digest_open(&d, lb_env_real(), fs, &volume, NULL), 0);
		for (unsigned cut = 2; cut <= 3; cut++) {
			struct lb_hash h = manifest_of(cut);

			assert_true(rep_digest_pending(d, &h));
		}
		struct lb_hash h = manifest_of(winner), other = manifest_of(5 - winner);
		assert_int_equal(rep_digest_commit(d, &h, NULL), 0);
		assert_false(rep_digest_pending(d, &other));
		assert_true(reads_as(d, m->at[winner]));
		rep_digest_close(d);
		lb_fs_destroy(fs);
	}
	free(m);
}

static void test_digest_of(void **state)
{
	struct rep_digest *a = NULL, *b = NULL;
	struct lb_id other = {.b = {8}};
	struct lb_digest x, y, z;
	struct lb_fs *fs = NULL;
	uint8_t block[4096] = {1};

	(void)state;
	assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
	assert_int_equal(rep_digest_open(&a, lb_env_real(), fs, &volume, NULL), 0);
	assert_int_equal(rep_digest_open(&b, lb_env_real(), fs, &other, NULL), 0);
	rep_digest_of(a, &x, block);
	rep_digest_of(a, &y, block);
	rep_digest_of(b, &z, block);
	assert_memory_equal(&x, &y, sizeof(x));
	assert_memory_not_equal(&x, &z, sizeof(x)); /* each volume has its own secret */
	assert_false(rep_digest_is_zero(&x));
	rep_digest_close(a);
	assert_int_equal(rep_digest_open(&a, lb_env_real(), fs, &volume, NULL), 0);
	rep_digest_of(a, &y, block);
	assert_memory_equal(&x, &y, sizeof(x));
	rep_digest_close(a);
	rep_digest_close(b);
	lb_fs_destroy(fs);
}

/* The power fails inside every operation of the store's life. */
static void test_power_cuts(void **state)
{
	struct lb_fs *fs = NULL;
	uint64_t ops;
	struct model *m = model_new();

	(void)state;
	assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
	assert_int_equal(live(fs, m, 3), 0);
	ops = lb_memfs_ops(fs);
	lb_fs_destroy(fs);
	assert_true(ops > 50);
	for (uint64_t k = 1; k <= ops; k++) {
		for (uint64_t seed = 0; seed < 2; seed++) {
			memset(m, 0, sizeof(*m));
			assert_int_equal(lb_memfs_create(&fs, seed, NULL), 0);
			lb_memfs_cut_at_op(fs, k);
			(void)live(fs, m, 3);
			lb_memfs_power_cut(fs, seed * 1000 + k);
			check_after(fs, m);
			lb_fs_destroy(fs);
		}
	}
	(void)printf("%llu operations, 2 seeds each\n", (unsigned long long)ops);
	free(m);
}

/* Every operation fails once; the process goes on and opens the store again. */
static void test_failures(void **state)
{
	struct model *m = model_new();
	struct lb_fs *fs = NULL;
	bool clean = false;

	(void)state;
	for (uint64_t k = 1; !clean; k++) {
		memset(m, 0, sizeof(*m));
		assert_int_equal(lb_memfs_create(&fs, k, NULL), 0);
		lb_memfs_fail_at(fs, k, LB_EIO);
		clean = live(fs, m, 3) == 0 && lb_memfs_ops(fs) < k;
		lb_memfs_fail_at(fs, 0, 0);
		check_after(fs, m);
		lb_fs_destroy(fs);
	}
	free(m);
}

/* The same lives with the digests in memory. */
static void test_kept(void **state)
{
	keeping = true;
	test_life(state);
	test_power_cuts(state);
	test_failures(state);
	keeping = false;
}

static struct rep_digest *open_boot(struct lb_fs *fs, uint8_t boot, int want)
{
	const struct lb_id id = {.b = {boot}};
	struct rep_digest *d = NULL;

	assert_int_equal(rep_digest_open_volatile(&d, lb_env_real(), fs, &volume, &id, NULL), want);
	return d;
}

static void cut_of(struct rep_digest *d, struct model *m, unsigned cut, bool acked)
{
	struct lb_hash h = manifest_of(cut);
	unsigned from = base_of(d);

	assert_int_equal(rep_digest_begin(d, is_full(cut), NULL), 0);
	assert_int_equal(change(d, m, from, cut, 4), 0);
	assert_int_equal(rep_digest_seal(d, &h, NULL), 0);
	if (acked)
		assert_int_equal(rep_digest_commit(d, &h, NULL), 0);
}

/* What the kernel could not write back is told at the next open, by one of the three syncs. */
static void failing_opens(struct lb_fs *fs)
{
	const struct lb_id id = {.b = {2}};
	unsigned lost = 0;
	bool clean = false;

	for (uint64_t k = 1; !clean; k++) {
		struct rep_digest *d = NULL;
		uint64_t at = lb_memfs_ops(fs) + k;
		int rc;

		lb_memfs_fail_at(fs, at, LB_EIO);
		rc = rep_digest_open_volatile(&d, lb_env_real(), fs, &volume, &id, NULL);
		clean = rc == 0 && lb_memfs_ops(fs) < at;
		lost += rc == LB_ECORRUPT;
		assert_true(rc == 0 || rc == LB_EIO || rc == LB_ECORRUPT);
		lb_memfs_fail_at(fs, 0, 0);
		rep_digest_close(d);
	}
	assert_int_equal(lost, 3);
}

/* Of RAM: nothing is synced, a killed process loses nothing, another boot finds nothing. */
static void test_volatile(void **state)
{
	struct model *m = model_new();
	struct lb_hash h = manifest_of(3);
	struct rep_digest *d;
	struct lb_fs *fs = NULL;
	uint64_t syncs;

	(void)state;
	for (uint64_t seed = 0; seed < 20; seed++) {
		assert_int_equal(lb_memfs_create(&fs, seed, NULL), 0);
		d = open_boot(fs, 1, 0);
		syncs = lb_memfs_syncs(fs);
		cut_of(d, m, 1, true);
		cut_of(d, m, 2, true);
		cut_of(d, m, 3, false);
		assert_true(lb_memfs_syncs(fs) == syncs);
		rep_digest_close(d);
		d = open_boot(fs, 1, 0); /* the process was killed, the kernel was not */
		assert_int_equal(base_of(d), 2);
		assert_true(reads_as(d, m->at[2]));
		assert_true(rep_digest_pending(d, &h));
		assert_int_equal(rep_digest_commit(d, &h, NULL), 0);
		assert_true(reads_as(d, m->at[3]));
		cut_of(d, m, 4, seed % 2 == 0);
		rep_digest_close(d);
		lb_memfs_power_cut(fs, seed);
		d = open_boot(fs, 2, 0);
		assert_int_equal(base_of(d), 0);
		for (unsigned cut = 1; cut <= 4; cut++) {
			struct lb_hash old = manifest_of(cut);

			assert_false(rep_digest_pending(d, &old));
		}
		cut_of(d, m, 5, true);
		assert_true(reads_as(d, m->at[5]));
		rep_digest_close(d);
		failing_opens(fs);
		assert_int_equal(rep_digest_discard(fs, &volume, NULL), 0);
		d = open_boot(fs, 2, 0);
		assert_int_equal(base_of(d), 0);
		rep_digest_close(d);
		lb_fs_destroy(fs);
	}
	free(m);
}

/* The power fails, or an operation does, inside the opening of a store of another boot. */
static void test_volatile_opening(void **state)
{
	const struct lb_id two = {.b = {2}};
	struct model *m = model_new();
	bool clean = false;

	(void)state;
	for (uint64_t k = 1; !clean; k++) {
		struct lb_fs *fs = NULL;
		struct rep_digest *d;
		uint64_t ops;

		assert_int_equal(lb_memfs_create(&fs, k, NULL), 0);
		d = open_boot(fs, 1, 0);
		cut_of(d, m, 1, true);
		cut_of(d, m, 2, true);
		rep_digest_close(d);
		lb_memfs_power_cut(fs, k);
		ops = lb_memfs_ops(fs);
		lb_memfs_cut_at_op(fs, ops + k);
		d = NULL;
		clean = rep_digest_open_volatile(&d, lb_env_real(), fs, &volume, &two, NULL) == 0 &&
			lb_memfs_ops(fs) < ops + k;
		rep_digest_close(d);
		lb_memfs_power_cut(fs, k);
		d = open_boot(fs, 3, 0);
		assert_int_equal(base_of(d), 0);
		rep_digest_close(d);
		lb_fs_destroy(fs);
	}
	free(m);
}

static void test_corruption(void **state)
{
	static const uint64_t sector[] = {1, 50, 100, 233};
	struct model *m = model_new();
	struct rep_digest *d = NULL;
	struct lb_fs *fs = NULL;
	struct lb_err err;
	char path[64], hex[LB_ID_TEXT];

	(void)state;
	(void)snprintf(path, sizeof(path), "digests/%s", lb_id_text(&volume, hex));
	for (size_t i = 0; i < sizeof(sector) / sizeof(sector[0]); i++) {
		assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
		assert_int_equal(live(fs, m, 1), 0);
		assert_int_equal(lb_memfs_corrupt(fs, path, sector[i], 0x20), 0);
		assert_int_equal(rep_digest_open(&d, lb_env_real(), fs, &volume, &err),
				 LB_ECORRUPT);
		assert_non_null(strstr(err.msg, hex));
		assert_int_equal(rep_digest_discard(fs, &volume, NULL), 0);
		assert_int_equal(rep_digest_open(&d, lb_env_real(), fs, &volume, NULL), 0);
		assert_int_equal(base_of(d), 0);
		rep_digest_close(d);
		lb_fs_destroy(fs);
	}
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),       cmocka_unit_test(test_two_pending),
		cmocka_unit_test(test_digest_of),  cmocka_unit_test(test_power_cuts),
		cmocka_unit_test(test_failures),   cmocka_unit_test(test_kept),
		cmocka_unit_test(test_volatile),   cmocka_unit_test(test_volatile_opening),
		cmocka_unit_test(test_corruption),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
