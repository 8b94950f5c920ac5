#include <stdlib.h>

#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "draft_int.h"
#include "format_fix.h"
#include "memfs.h"
#include "replicator/frame.h"
#include "rnd.h"

/*
 * The journal of a layer that is being made. A story is written (packs, a filled number, the end's
 * parts), then harm is done to the file; whatever is read afterwards is a beginning of the story.
 */
#define PACKS  12u /* even */
#define BLOCKS 4u  /* in each pack */

struct fixture {
	struct lb_fs *fs;
	struct rep_draft_facts facts;
	char path[64];
};

static struct rep_draft_facts facts_make(void)
{
	struct rep_draft_facts f = {
		.header = {.deployment = fix_id(0x11),
			   .site = fix_id(0x22),
			   .group = fix_id(0x33),
			   .machine = fix_id(0x44),
			   .volume = fix_id(0x55),
			   .layer = fix_id(0x66),
			   .key = fix_id(0x77),
			   .epoch = 7,
			   .seq = 1,
			   .volume_bytes = 1u << 20,
			   .pack_raw_bytes = 65536,
			   .kind = REP_VOLUME_DISK,
			   .codec = REP_CODEC_LZ4,
			   .full = true},
		.prev = fix_hash(0x88),
		.run = fix_id(1),
	};

	memset(f.probe.b, 0x99, sizeof(f.probe.b));
	return f;
}

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));
	char hex[LB_ID_TEXT];

	assert_non_null(x);
	x->facts = facts_make();
	assert_int_equal(lb_memfs_create(&x->fs, 5, NULL), 0);
	(void)snprintf(x->path, sizeof(x->path), "drafts/%s",
		       lb_id_text(&x->facts.header.volume, hex));
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	lb_fs_destroy(x->fs);
	free(x);
	return 0;
}

/* Pack n holds blocks 4 n to 4 n + 3; of block b the digest is full of b + 1. */
static void note_pack(struct rep_draft *d, uint32_t n)
{
	struct lb_digest digest[BLOCKS];
	uint64_t block[BLOCKS];
	struct lb_hash leaf = fix_hash(n + 1);

	for (uint32_t i = 0; i < BLOCKS; i++) {
		block[i] = n * BLOCKS + i;
		memset(digest[i].b, (int)(block[i] + 1), sizeof(digest[i].b));
	}
	rep_draft_note_pack(d, n, &leaf, 1000 + n, block, digest, BLOCKS);
}

static void story(struct rep_draft *d, uint32_t packs)
{
	struct lb_hash leaf = fix_hash(0xf1);

	for (uint32_t n = 0; n < packs; n++)
		note_pack(d, n ^ 1); /* as two workers do */
	rep_draft_note_fill(d, 3, &leaf, 99);
	rep_draft_note_part(d, REP_RECORD_INDEX, 0);
	rep_draft_note_part(d, REP_RECORD_INDEX, 1);
	rep_draft_note_part(d, REP_RECORD_DIGESTS, 0);
}

static struct rep_draft *begun(struct fixture *x)
{
	struct rep_draft *d = NULL;

	assert_int_equal(rep_draft_create(&d, x->fs, &x->facts, NULL), 0);
	return d;
}

/* As another process, with the volume's next cut. */
static int resumed(struct fixture *x, struct rep_draft **d, unsigned run, struct lb_err *err)
{
	struct rep_draft_facts f = x->facts;

	f.run = fix_id(run);
	f.header.layer = fix_id(0xee);
	return rep_draft_resume(d, x->fs, &f, err);
}

static int hold(struct rep_draft *d, uint32_t first_missing, const uint32_t *extra, uint32_t n,
		struct lb_err *err)
{
	static struct rep_admit a;

	memset(&a, 0, sizeof(a));
	a.layers = 2;
	a.layer[0].first_missing = 77; /* another layer's */
	a.extra[0].layer = 0;
	a.extra[0].number = 1000;
	a.layer[1].first_missing = first_missing;
	for (uint32_t i = 0; i < n; i++) {
		a.extra[i + 1].layer = 1;
		a.extra[i + 1].number = extra[i];
	}
	a.extras = n + 1;
	return rep_draft_hold(d, &a, 1, err);
}

/* Every place told is the one noted, in a pack of @held (bits). Returns how many are told. */
static unsigned check_places(struct rep_draft *d, uint32_t held)
{
	struct rep_draft_place p[PACKS * BLOCKS + 9];
	unsigned known = 0;

	assert_int_equal(rep_draft_read(d, p, 0, PACKS * BLOCKS + 9, NULL), 0);
	for (uint32_t b = 0; b < PACKS * BLOCKS + 9; b++) {
		struct lb_digest want;

		memset(want.b, (int)(b + 1), sizeof(want.b));
		if (p[b].known == 0)
			continue;
		known++;
		assert_true(p[b].pack == b / BLOCKS && p[b].pos == b % BLOCKS);
		assert_true((held >> p[b].pack & 1) != 0);
		assert_true(rep_draft_stands(&p[b], &want));
		want.b[7] ^= 1;
		assert_false(rep_draft_stands(&p[b], &want));
	}
	return known;
}

static void check_packs(struct rep_draft *d, uint32_t held_bits)
{
	for (uint32_t n = 0; n < PACKS + 2; n++) {
		struct lb_hash leaf, want = fix_hash(n == 3 ? 0xf1 : n + 1);
		bool held = false;
		uint32_t bytes;

		assert_int_equal(rep_draft_pack(d, n, &held, &leaf, &bytes, NULL), 0);
		assert_int_equal(held, held_bits >> n & 1);
		if (!held)
			continue;
		assert_true(lb_hash_equal(&leaf, &want));
		assert_int_equal(bytes, n == 3 ? 99 : 1000 + n);
	}
}

static void test_story(void **state)
{
	struct fixture *x = *state;
	const uint32_t extra[] = {5, 8};
	struct rep_draft *d = begun(x);

	assert_int_equal(rep_draft_next(d), 0); /* of a layer's first attempt */
	assert_int_equal(rep_draft_parts_min(d, REP_RECORD_INDEX), 0);
	story(d, PACKS);
	assert_int_equal(check_places(d, 0), 0);
	rep_draft_close(d);
	assert_int_equal(resumed(x, &d, 2, NULL), 0);
	assert_true(lb_id_equal(rep_draft_layer(d), &x->facts.header.layer));
	assert_int_equal(rep_draft_next(d), PACKS);
	assert_int_equal(hold(d, 4, extra, 2, NULL), 0);
	assert_int_equal(rep_draft_go_on(d, NULL), 0);
	assert_int_equal(rep_draft_parts_min(d, REP_RECORD_INDEX), 2);
	assert_int_equal(rep_draft_parts_min(d, REP_RECORD_DIGESTS), 1);
	/* 0, 1, 2, 5 and 8; 3 was filled, so its blocks are nowhere */
	assert_int_equal(check_places(d, 0x127), 5 * BLOCKS);
	check_packs(d, 0x12f);
	rep_draft_close(d);
	assert_int_equal(rep_draft_discard(x->fs, &x->facts.header.volume, NULL), 0);
	assert_int_equal(rep_draft_discard(x->fs, &x->facts.header.volume, NULL), 0);
	assert_int_equal(resumed(x, &d, 3, NULL), LB_ENOTFOUND);
}

/* What the peer says it holds must be known, all of it. */
static void test_hold(void **state)
{
	struct fixture *x = *state;
	const uint32_t good[] = {11}, bad[] = {11, 12}, far[] = {1u << 29};
	struct rep_draft *d = begun(x);
	struct rep_admit *a = calloc(1, sizeof(*a));
	struct lb_err err;

	assert_non_null(a);
	story(d, PACKS);
	rep_draft_close(d);
	assert_int_equal(resumed(x, &d, 2, NULL), 0);
	assert_int_equal(hold(d, 0, NULL, 0, &err), LB_ENOTFOUND);
	assert_non_null(strstr(err.msg, "nothing"));
	a->layers = 1;
	a->layer[0].header = true; /* of a layer without data that is all there is */
	assert_int_equal(rep_draft_hold(d, a, 0, NULL), 0);
	assert_int_equal(hold(d, PACKS + 1, NULL, 0, &err), LB_ENOTFOUND);
	assert_non_null(strstr(err.msg, "pack 12"));
	assert_int_equal(hold(d, 2, bad, 2, NULL), LB_ENOTFOUND);
	assert_int_equal(hold(d, 2, far, 1, NULL), LB_ENOTFOUND);
	a->extras = REP_ADMIT_MAX_EXTRA; /* there may be more */
	a->layer[0].first_missing = 2;
	assert_int_equal(rep_draft_hold(d, a, 0, NULL), LB_ENOTFOUND);
	assert_int_equal(hold(d, 0, good, 1, NULL), 0);
	free(a);
	rep_draft_close(d);
}

static void differs(struct fixture *x, const struct rep_draft_facts *f)
{
	struct rep_draft *d = NULL;

	assert_int_equal(rep_draft_resume(&d, x->fs, f, NULL), LB_ENOTFOUND);
}

/* A journal of any other layer, or of this process, is none. */
static void test_other(void **state)
{
	struct fixture *x = *state;
	struct rep_draft_facts f;
	struct rep_draft *d = begun(x);

	story(d, PACKS);
	rep_draft_close(d);
	differs(x, &x->facts); /* made by this run */
	x->facts.run = fix_id(9);
	f = x->facts;
	f.header.epoch++;
	differs(x, &f);
	f = x->facts;
	f.header.seq++;
	differs(x, &f);
	f = x->facts;
	f.header.volume_bytes += 4096;
	differs(x, &f);
	f = x->facts;
	f.header.pack_raw_bytes *= 2;
	differs(x, &f);
	f = x->facts;
	f.header.key = fix_id(3);
	differs(x, &f);
	f = x->facts;
	f.header.machine = fix_id(3);
	differs(x, &f);
	f = x->facts;
	f.header.full = false;
	f.header.base = fix_hash(3);
	differs(x, &f);
	f = x->facts;
	f.prev = fix_hash(3);
	differs(x, &f);
	f = x->facts;
	f.probe.b[15] ^= 1;
	differs(x, &f);
	f = x->facts;
	f.header.volume = fix_id(3);
	differs(x, &f); /* no file of that name */
	assert_int_equal(rep_draft_resume(&d, x->fs, &x->facts, NULL), 0);
	assert_int_equal(hold(d, PACKS, NULL, 0, NULL), 0);
	assert_int_equal(rep_draft_go_on(d, NULL), 0);
	rep_draft_close(d);
	differs(x, &x->facts); /* noted by going on */
	assert_int_equal(resumed(x, &d, 10, NULL), 0);
	rep_draft_close(d);
}

static void file_write(struct fixture *x, const uint8_t *p, size_t len)
{
	struct lb_file *f = NULL;

	assert_int_equal(lb_fs_mkdir(x->fs, "drafts", NULL), 0);
	assert_int_equal(lb_fs_open(x->fs, &f, x->path, LB_FS_CREATE, NULL), 0);
	assert_int_equal(lb_file_truncate(f, 0, NULL), 0);
	assert_int_equal(lb_file_pwrite(f, p, len, 0, NULL), 0);
	lb_file_close(f);
}

static uint8_t *file_read(struct fixture *x, size_t *len)
{
	uint8_t *p = NULL;

	assert_int_equal(lb_fs_read_all(x->fs, x->path, 1u << 20, &p, len, NULL), 0);
	return p;
}

/* Go on with whatever of the story is known, and tell how many packs that is. */
static unsigned go_on(struct fixture *x, struct rep_draft *d)
{
	unsigned packs = rep_draft_next(d);

	(void)x;
	while (packs > 0 && hold(d, packs, NULL, 0, NULL) != 0)
		packs--; /* the one below may have been written later */
	if (packs == 0)
		return 0;
	assert_int_equal(rep_draft_go_on(d, NULL), 0);
	assert_true(check_places(d, (1u << packs) - 1) >= (packs - 1) * BLOCKS);
	return packs;
}

/* The file ends anywhere: what is whole is kept; what is noted then follows it. */
static void test_torn(void **state)
{
	struct fixture *x = *state;
	struct rep_draft *d = begun(x);
	unsigned most = 0, packs;
	uint8_t *whole;
	size_t len;

	story(d, PACKS);
	rep_draft_close(d);
	whole = file_read(x, &len);
	for (size_t n = 0; n <= len; n += n < 400 || n + 60 > len ? 1 : 7) {
		file_write(x, whole, n);
		d = NULL;
		if (resumed(x, &d, 2, NULL) != 0) {
			assert_true(n < REP_DRAFT_HEADER_BYTES);
			continue;
		}
		packs = go_on(x, d);
		assert_true(packs + 1 >= most); /* pairs are noted in turned order */
		most = packs > most ? packs : most;
		if (packs != 0)
			note_pack(d, rep_draft_next(d));
		rep_draft_close(d);
		if (packs == 0)
			continue;
		assert_int_equal(resumed(x, &d, 3, NULL), 0);
		assert_true(rep_draft_next(d) >= packs + 1);
		assert_int_equal(hold(d, packs, NULL, 0, NULL), 0);
		rep_draft_close(d);
	}
	assert_int_equal(most, PACKS);
	free(whole);
}

/* Entries behind a torn one, whole ones of the same story, do not come back when it is written
 * over. */
static void test_behind_torn(void **state)
{
	const size_t pack = REP_DRAFT_ENTRY_BYTES + 44 + BLOCKS * 24;
	const size_t third = REP_DRAFT_HEADER_BYTES + 2 * pack;
	struct fixture *x = *state;
	struct rep_draft *d = begun(x);
	uint8_t *p;
	size_t len, now;

	story(d, PACKS);
	rep_draft_close(d);
	p = file_read(x, &len);
	p[third + 20] ^= 1;
	file_write(x, p, len);
	free(p);
	assert_int_equal(resumed(x, &d, 2, NULL), 0);
	assert_int_equal(rep_draft_next(d), 2);
	assert_int_equal(hold(d, 2, NULL, 0, NULL), 0);
	assert_int_equal(rep_draft_go_on(d, NULL), 0);
	rep_draft_close(d);
	p = file_read(x, &now);
	assert_int_equal(now, third + REP_DRAFT_ENTRY_BYTES + LB_ID_BYTES);
	free(p);
}

/* Any bit flips: never a place that was not noted. */
static void test_flips(void **state)
{
	struct fixture *x = *state;
	struct rep_draft *d = begun(x);
	unsigned whole = 0;
	uint8_t *p;
	size_t len;

	story(d, PACKS);
	rep_draft_close(d);
	p = file_read(x, &len);
	for (size_t n = 0; n < 8 * len; n += 1 + n % 5) {
		p[n / 8] ^= (uint8_t)(1u << n % 8);
		file_write(x, p, len);
		p[n / 8] ^= (uint8_t)(1u << n % 8);
		d = NULL;
		if (resumed(x, &d, 2, NULL) != 0) {
			assert_true(n / 8 < REP_DRAFT_HEADER_BYTES);
			continue;
		}
		assert_true(n / 8 >= REP_DRAFT_HEADER_BYTES);
		whole += go_on(x, d) == PACKS;
		rep_draft_close(d);
	}
	assert_true(whole > 0); /* in the last entries, which are no packs */
	free(p);
}

/* A number given twice, one far from all others, a block outside, a foreign kind: the end. */
static void test_contradiction(void **state)
{
	const struct lb_digest digest = {.b = {1}};
	const uint64_t outside = 256;
	const struct lb_hash leaf = fix_hash(1);
	struct fixture *x = *state;
	struct rep_draft *d;

	for (unsigned what = 0; what < 4; what++) {
		d = begun(x);
		note_pack(d, 0);
		if (what == 0)
			note_pack(d, 0);
		else if (what == 1)
			rep_draft_note_pack(d, 1, &leaf, 10, &outside, &digest, 1);
		else if (what == 2)
			rep_draft_note_pack(d, 100000, &leaf, 10, &outside, &digest, 0);
		else
			rep_draft_note_part(d, REP_RECORD_FOOTER, 0);
		note_pack(d, 1);
		rep_draft_close(d);
		assert_int_equal(resumed(x, &d, 2, NULL), 0);
		assert_int_equal(rep_draft_next(d), 1);
		rep_draft_close(d);
	}
}

/* No room for an entry: the journal goes, the layer is made without. */
static void test_full_disk(void **state)
{
	struct fixture *x = *state;

	for (uint64_t room = 0; room < 4000; room += 97) {
		struct rep_draft *d = NULL;
		bool broken;

		lb_memfs_set_space(x->fs, room);
		if (rep_draft_create(&d, x->fs, &x->facts, NULL) != 0) {
			assert_true(room < REP_DRAFT_HEADER_BYTES);
			continue;
		}
		story(d, PACKS);
		rep_draft_sync(d);
		broken = rep_draft_broken(d);
		rep_draft_close(d);
		lb_memfs_set_space(x->fs, UINT64_MAX);
		assert_int_equal(resumed(x, &d, 2, NULL), broken ? LB_ENOTFOUND : 0);
		if (broken)
			continue;
		assert_int_equal(go_on(x, d), PACKS);
		rep_draft_close(d);
	}
}

/* One life: a story, its continuation. False at the first failure the journal cannot do without. */
static bool live(struct fixture *x)
{
	struct rep_draft *d = NULL;
	bool good;

	if (rep_draft_create(&d, x->fs, &x->facts, NULL) != 0)
		return false;
	story(d, PACKS);
	rep_draft_sync(d);
	good = !rep_draft_broken(d);
	rep_draft_close(d);
	if (!good || resumed(x, &d, 2, NULL) != 0)
		return false;
	good = hold(d, PACKS, NULL, 0, NULL) == 0 && rep_draft_go_on(d, NULL) == 0;
	if (good)
		note_pack(d, PACKS);
	good = good && !rep_draft_broken(d);
	rep_draft_close(d);
	return good;
}

/* Every operation fails once, and the power fails in every one. */
static void test_harm(void **state)
{
	struct fixture *x = *state;
	uint64_t ops;

	assert_true(live(x));
	ops = lb_memfs_ops(x->fs);
	for (uint64_t k = 1; k <= 2 * ops; k++) {
		struct rep_draft *d = NULL;
		uint64_t at;
		bool cut = k > ops, good;

		assert_int_equal(rep_draft_discard(x->fs, &x->facts.header.volume, NULL), 0);
		at = lb_memfs_ops(x->fs) + (cut ? k - ops : k);
		if (cut)
			lb_memfs_cut_at_op(x->fs, at);
		else
			lb_memfs_fail_at(x->fs, at, k % 2 == 0 ? LB_EIO : LB_ENOSPC);
		good = live(x);
		if (cut)
			lb_memfs_power_cut(x->fs, k);
		else
			lb_memfs_fail_at(x->fs, 0, 0);
		if (resumed(x, &d, 3, NULL) == 0) {
			unsigned packs = go_on(x, d);

			assert_true(!good || cut || packs == PACKS + 1);
			rep_draft_close(d);
		} else {
			assert_true(!good || cut);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_story, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hold, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other, setup, teardown),
		cmocka_unit_test_setup_teardown(test_torn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_behind_torn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flips, setup, teardown),
		cmocka_unit_test_setup_teardown(test_contradiction, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_harm, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
