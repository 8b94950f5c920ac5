/*
 * The segment store on a real directory: write, commit, open again, read; drafts; torn tails;
 * damage before a mark. Crash points and failing disks: tests/crash/crash_store.c.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "memfs.h"
#include "rnd.h"
#include "store_fix.h"

#define GROUPS 3u

struct world {
	char dir[64];
	struct lb_fs *fs;
	struct fix_env env;
	struct rep_store_cfg cfg;
	struct rep_store *store;
	struct sf_group group[GROUPS + 1]; /* the last one ends the list */
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static void open_store(struct world *w)
{
	struct lb_err err = {.code = 0};

	must(rep_store_open(&w->store, &w->env.env, w->fs, &w->cfg, &err), &err);
}

static void reopen(struct world *w)
{
	rep_store_close(w->store);
	w->store = NULL;
	open_store(w);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct lb_err err = {.code = 0};

	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/lb_store_XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	must(lb_fs_dir_create(&w->fs, w->dir, &err), &err);
	w->env = fix_env(1);
	w->cfg = (struct rep_store_cfg)REP_STORE_CFG_DEFAULTS;
	w->cfg.segment_bytes = 64 << 10;
	for (unsigned i = 0; i < GROUPS; i++)
		sf_group_init(&w->group[i], i, 2, 96, 42);
	open_store(w);
	*state = w;
	return 0;
}

static int remove_one(void *arg, const char *name)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "seg/%s", name);
	return lb_fs_unlink(arg, path, NULL);
}

static int teardown(void **state)
{
	struct world *w = *state;
	char path[96];

	rep_store_close(w->store);
	for (unsigned i = 0; i < GROUPS; i++)
		sf_group_fini(&w->group[i]);
	(void)lb_fs_list(w->fs, "seg", remove_one, w->fs, NULL);
	(void)lb_fs_unlink(w->fs, "store.id", NULL);
	(void)lb_fs_unlink(w->fs, "lock", NULL);
	lb_fs_destroy(w->fs);
	(void)snprintf(path, sizeof(path), "%s/seg", w->dir);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(w->dir), 0);
	free(w);
	return 0;
}

/* One more committed point of @g; *p stays the caller's when asked for. */
static void one_point(struct world *w, struct sf_group *g, struct sf_point *keep)
{
	struct lb_err err = {.code = 0};
	struct sf_point p;

	sf_group_write(g, 24);
	sf_point_cut(g, &p);
	must(sf_point_send(w->store, &p, &err), &err);
	must(rep_store_commit(w->store, &err), &err);
	sf_point_accepted(g, &p);
	if (keep != NULL)
		*keep = p;
	else
		sf_point_free(&p);
}

static int count_point(void *arg, const struct rep_point *p)
{
	(void)p;
	++*(unsigned *)arg;
	return 0;
}

static unsigned points(struct world *w)
{
	unsigned n = 0;

	assert_int_equal(rep_store_points(w->store, NULL, count_point, &n), 0);
	return n;
}

static void check_parts(struct world *w, const struct sf_point *p)
{
	struct lb_err err = {.code = 0};

	for (uint32_t i = 0; i < p->layers; i++) {
		for (uint32_t k = 0; k < p->layer[i].parts; k++) {
			const struct sf_part *part = &p->layer[i].part[k];
			struct lb_buf *b = NULL;

			must(rep_store_read_part(w->store, &p->layer[i].header.layer, part->kind,
						 part->number, &b, &err),
			     &err);
			assert_int_equal(b->len, part->body->len);
			assert_memory_equal(b->p, part->body->p, b->len);
			lb_buf_unref(b);
		}
	}
}

static void check_manifest(struct world *w, const struct sf_point *p)
{
	struct lb_err err = {.code = 0};
	struct lb_buf *b = NULL;

	must(rep_store_read_manifest(w->store, &p->hash, &b, &err), &err);
	assert_int_equal(b->len, p->manifest->len);
	assert_memory_equal(b->p, p->manifest->p, b->len);
	lb_buf_unref(b);
}

static void test_round_trip(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct sf_point p[GROUPS * 6];
	uint8_t receipt[REP_RECEIPT_BYTES];
	uint8_t again[REP_RECEIPT_BYTES];
	struct rep_recovery rec;

	for (unsigned i = 0; i < GROUPS * 6; i++)
		one_point(w, &w->group[i % GROUPS], &p[i]);
	sf_receipt(receipt, w->store, &w->group[1], &p[4]);
	must(rep_store_append_receipt(w->store, receipt, sizeof(receipt), &err), &err);
	must(rep_store_commit(w->store, &err), &err);
	for (int pass = 0; pass < 2; pass++) {
		assert_int_equal(points(w), GROUPS * 6);
		assert_int_equal(rep_store_damage(w->store, NULL, NULL), 0);
		for (unsigned i = 0; i < GROUPS * 6; i++) {
			check_parts(w, &p[i]);
			check_manifest(w, &p[i]);
		}
		for (unsigned i = 0; i < GROUPS; i++) {
			struct rep_point head;

			assert_true(rep_store_head(w->store, &w->group[i].group, &head));
			assert_true(lb_hash_equal(&head.manifest, &p[GROUPS * 5 + i].hash));
			assert_int_equal(head.seq, 6);
			assert_string_equal(head.group_name, w->group[i].name);
			assert_false(head.damaged);
		}
		must(rep_store_read_receipt(w->store, &p[4].hash, again, sizeof(again), &err),
		     &err);
		assert_memory_equal(receipt, again, sizeof(again));
		reopen(w);
	}
	rep_store_recovery(w->store, &rec);
	assert_true(rec.segments > 3);
	assert_int_equal(rec.cut_bytes, 0);
	assert_int_equal(rep_store_receipt_counter(w->store), 2);
	for (unsigned i = 0; i < GROUPS * 6; i++)
		sf_point_free(&p[i]);
}

static void test_draft_survives(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct rep_recovery rec;
	struct rep_have have;
	struct sf_point p;
	const struct sf_layer *l;

	one_point(w, &w->group[0], NULL);
	sf_group_write(&w->group[0], 60);
	sf_point_cut(&w->group[0], &p);
	l = &p.layer[0];
	for (uint32_t k = 0; k < l->parts; k++)
		if (l->part[k].kind != REP_RECORD_PACK || l->part[k].number != 1)
			must(sf_part_send(w->store, l, &l->part[k], &err), &err);
	assert_int_equal(sf_point_seal(w->store, &p, &err), LB_ENOTFOUND);
	assert_non_null(strstr(err.msg, "the first missing is 1"));
	reopen(w);
	assert_int_equal(points(w), 1);
	assert_true(rep_store_have(w->store, &l->header.layer, &have));
	assert_true(have.header);
	assert_true(have.footer);
	assert_int_equal(have.first_missing, 1);
	assert_true(rep_store_have_part(w->store, &l->header.layer, REP_RECORD_PACK, 0));
	assert_false(rep_store_have_part(w->store, &l->header.layer, REP_RECORD_PACK, 1));
	rep_store_recovery(w->store, &rec);
	assert_int_equal(rec.kept_records, l->parts - 1);
	/* Sending all of it again stores only what is missing. */
	must(sf_point_send(w->store, &p, &err), &err);
	reopen(w);
	/* Sealed but not committed: nobody may see it, not even after the next commit. */
	rep_store_recovery(w->store, &rec);
	assert_int_equal(rec.voided, 1);
	assert_int_equal(points(w), 1);
	must(rep_store_commit(w->store, &err), &err);
	reopen(w);
	assert_int_equal(points(w), 1);
	must(sf_point_seal(w->store, &p, &err), &err);
	assert_false(rep_store_point_find(w->store, &p.hash, &(struct rep_point){.seq = 0}));
	must(rep_store_commit(w->store, &err), &err);
	assert_int_equal(points(w), 2);
	assert_int_equal(sf_point_seal(w->store, &p, &err), LB_EEXIST);
	reopen(w);
	assert_int_equal(points(w), 2);
	check_parts(w, &p);
	sf_point_free(&p);
}

static void test_same_part_twice(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct lb_buf *other = NULL;
	struct sf_point p;
	const struct sf_part *part;
	const struct lb_id *id;

	sf_group_write(&w->group[0], 30);
	sf_point_cut(&w->group[0], &p);
	part = &p.layer[0].part[1];
	id = &p.layer[0].header.layer;
	must(rep_store_append(w->store, part->kind, id, part->number, part->body, NULL, &err),
	     &err);
	assert_int_equal(rep_store_append(w->store, part->kind, id, part->number, part->body,
					  &part->leaf, &err),
			 LB_EEXIST);
	must(lb_buf_copy_of(&other, part->body->p, part->body->len, &err), &err);
	other->p[5] ^= 1;
	assert_int_equal(
		rep_store_append(w->store, part->kind, id, part->number, other, NULL, &err),
		LB_ECORRUPT);
	lb_buf_unref(other);
	must(rep_store_abandon(w->store, id, &err), &err);
	assert_int_equal(
		rep_store_append(w->store, part->kind, id, part->number, part->body, NULL, &err),
		LB_EDENIED);
	reopen(w);
	assert_int_equal(
		rep_store_append(w->store, part->kind, id, part->number, part->body, NULL, &err),
		LB_EDENIED);
	assert_false(rep_store_have(w->store, id, &(struct rep_have){.packs = 0}));
	sf_point_free(&p);
}

/* Nobody is told of damage in what an older attempt at a layer left. */
static void no_damage(void *arg, const struct rep_damage *d)
{
	(void)arg;
	fail_msg("damage: %s", d->what);
}

/* An attempt at a layer was broken off behind its last pack; the next one has another end. */
static void test_other_end(void **state)
{
	struct world *w = *state;
	struct rep_scrub_opts o = {.on_damage = no_damage};
	struct rep_scrub_stats st = {.records = 0};
	struct lb_err err = {.code = 0};
	struct sf_point p;
	const struct lb_id *id = &p.layer[0].header.layer;
	unsigned replaced = 0;

	sf_group_write(&w->group[0], 60);
	sf_point_cut(&w->group[0], &p);
	for (uint32_t k = 0; k < p.layer[0].parts; k++) {
		const struct sf_part *part = &p.layer[0].part[k];
		bool of_end = part->kind >= REP_RECORD_DIGESTS;
		struct lb_buf *old = NULL;

		must(lb_buf_copy_of(&old, part->body->p, part->body->len, &err), &err);
		old->p[old->len - 1] ^= 1;
		must(rep_store_append(w->store, part->kind, id, part->number,
				      of_end ? old : part->body, NULL, &err),
		     &err);
		if (!of_end) /* a header and a pack stay what they are */
			assert_int_equal(rep_store_append(w->store, part->kind, id, part->number,
							  old, NULL, &err),
					 LB_ECORRUPT);
		replaced += of_end;
		lb_buf_unref(old);
	}
	assert_true(replaced >= 3); /* index, leaves, footer */
	reopen(w);
	assert_int_equal(sf_point_seal(w->store, &p, &err), LB_ECORRUPT);
	must(sf_point_send(w->store, &p, &err), &err);
	/* The manifest is appended: from now on nothing of the layer changes. */
	for (uint32_t k = 0; k < p.layer[0].parts; k++) {
		struct sf_part *part = &p.layer[0].part[k];
		int rc;

		part->body->p[part->body->len - 1] ^= 1;
		rc = rep_store_append(w->store, part->kind, id, part->number, part->body, NULL,
				      &err);
		part->body->p[part->body->len - 1] ^= 1;
		assert_int_equal(rc, LB_ECORRUPT);
	}
	must(rep_store_commit(w->store, &err), &err);
	check_parts(w, &p);
	must(rep_store_scrub(w->store, &o, &st, &err), &err);
	reopen(w);
	check_parts(w, &p);
	must(rep_store_scrub(w->store, &o, &st, &err), &err);
	assert_int_equal(points(w), 1);
	sf_point_free(&p);
}

static void refuse_changed(struct world *w, struct sf_point *p, uint32_t k, size_t at, int want)
{
	struct lb_err err = {.code = 0};
	struct sf_part *part = &p->layer[0].part[k];
	struct lb_id id;

	/* A new layer id each time: the store keeps the first bytes of a part. */
	id = p->layer[0].header.layer;
	part->body->p[at] ^= 1;
	part->has_leaf = false;
	must(rep_store_append(w->store, part->kind, &id, part->number, part->body, NULL, &err),
	     &err);
	for (uint32_t i = 0; i < p->layer[0].parts; i++)
		if (i != k)
			must(sf_part_send(w->store, &p->layer[0], &p->layer[0].part[i], &err),
			     &err);
	for (uint32_t i = 0; i < p->layer[1].parts; i++)
		must(sf_part_send(w->store, &p->layer[1], &p->layer[1].part[i], &err), &err);
	assert_int_equal(sf_point_seal(w->store, p, &err), want);
	part->body->p[at] ^= 1;
}

/* Every part of a layer is under the signed root, the leaves, or the footer. */
static void test_check_refuses(void **state)
{
	struct world *w = *state;

	for (uint32_t k = 0;; k++) {
		struct sf_group g;
		struct sf_point p;
		bool end;

		sf_group_init(&g, 7, 2, 64, 1000 + k);
		sf_group_write(&g, 30);
		sf_point_cut(&g, &p);
		end = k >= p.layer[0].parts;
		if (!end)
			refuse_changed(w, &p, k, p.layer[0].part[k].body->len / 2, LB_ECORRUPT);
		sf_point_free(&p);
		sf_group_fini(&g);
		if (end)
			return;
	}
}

static void test_order_and_base(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct sf_point first;
	struct sf_point p;

	one_point(w, &w->group[0], &first);
	one_point(w, &w->group[0], NULL);
	/* The same (epoch, seq) once more. */
	w->group[0].seq = 1;
	sf_group_write(&w->group[0], 5);
	sf_point_cut(&w->group[0], &p);
	assert_int_equal(sf_point_send(w->store, &p, &err), LB_EDENIED);
	sf_point_free(&p);
	/* A base nobody has. */
	w->group[0].seq = 2;
	w->group[0].head.b[0] ^= 1;
	sf_point_cut(&w->group[0], &p);
	assert_int_equal(sf_point_send(w->store, &p, &err), LB_EBASE);
	sf_point_free(&p);
	sf_point_free(&first);
}

/* ---- a disk that is nearly full, a disk that does not always read ---- */

static struct rep_store *open_on(struct world *w, struct lb_fs *fs)
{
	struct rep_store *s = NULL;
	struct lb_err err = {.code = 0};

	must(rep_store_open(&s, &w->env.env, fs, &w->cfg, &err), &err);
	return s;
}

/* Parts stop at the reserve; the manifest of a point that is all there goes into it. */
static void test_reserve(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct lb_fs *fs = NULL;
	struct rep_store *s;
	struct sf_point p;
	uint64_t room = 0;
	const struct sf_part *last;
	uint64_t bytes;

	w->cfg.reserve_bytes = 1 << 20;
	w->cfg.segment_bytes = 16 << 20;
	must(lb_memfs_create(&fs, 3, &err), &err);
	s = open_on(w, fs);
	sf_group_write(&w->group[0], 30);
	sf_point_cut(&w->group[0], &p);
	last = &p.layer[1].part[p.layer[1].parts - 1];
	for (uint32_t i = 0; i < p.layer[0].parts; i++)
		must(sf_part_send(s, &p.layer[0], &p.layer[0].part[i], &err), &err);
	for (uint32_t i = 0; i + 1 < p.layer[1].parts; i++)
		must(sf_part_send(s, &p.layer[1], &p.layer[1].part[i], &err), &err);
	bytes = rep_record_span((uint32_t)last->body->len);
	must(lb_fs_space(fs, &room, &err), &err);
	assert_true(room == UINT64_MAX);
	lb_memfs_set_space(fs, 64 << 20);
	must(lb_fs_space(fs, &room, &err), &err);
	lb_memfs_set_space(fs, (64 << 20) - room + (1 << 20) + bytes - 1);
	assert_int_equal(sf_part_send(s, &p.layer[1], last, &err), LB_ENOSPC);
	assert_non_null(strstr(err.msg, "1 MiB of it is the reserve"));
	lb_memfs_set_space(fs, (64 << 20) - room + (1 << 20) + bytes);
	must(sf_part_send(s, &p.layer[1], last, &err), &err);
	must(sf_point_seal(s, &p, &err), &err);
	must(rep_store_commit(s, &err), &err);
	must(lb_fs_space(fs, &room, &err), &err);
	assert_true(room < 1 << 20 && room > 0);
	assert_true(rep_store_point_find(s, &p.hash, &(struct rep_point){.seq = 0}));
	lb_memfs_fail_at(fs, lb_memfs_ops(fs) + 1, LB_EIO); /* the question itself fails */
	sf_point_free(&p);
	sf_group_write(&w->group[1], 30);
	sf_point_cut(&w->group[1], &p);
	assert_int_equal(sf_part_send(s, &p.layer[0], &p.layer[0].part[0], &err), LB_EIO);
	sf_point_free(&p);
	rep_store_close(s);
	lb_fs_destroy(fs);
}

/* One operation of an open fails: it says so, or everything is seen. Never a point less. */
static void test_read_error_at_open(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct rep_recovery found;
	struct lb_fs *fs = NULL;
	struct rep_store *s;
	uint64_t ops;
	unsigned refused = 0, healed = 0;

	must(lb_memfs_create(&fs, 4, &err), &err);
	rep_store_close(w->store);
	w->store = open_on(w, fs);
	for (unsigned i = 0; i < 12; i++)
		one_point(w, &w->group[i % GROUPS], NULL);
	rep_store_close(w->store);
	ops = lb_memfs_ops(fs);
	s = open_on(w, fs);
	ops = lb_memfs_ops(fs) - ops;
	rep_store_close(s);
	for (uint64_t k = 1; k <= ops; k++) {
		lb_memfs_fail_at(fs, lb_memfs_ops(fs) + k, LB_EIO);
		w->store = NULL;
		if (rep_store_open(&w->store, &w->env.env, fs, &w->cfg, &err) != 0) {
			refused++;
			continue;
		}
		rep_store_recovery(w->store, &found);
		assert_int_equal(found.unread, 0);
		assert_int_equal(points(w), 12);
		assert_int_equal(rep_store_damage(w->store, NULL, NULL), 0);
		healed++;
		rep_store_close(w->store);
	}
	print_message("%u of %" PRIu64 " failures refused, %u healed\n", refused, ops, healed);
	assert_true(refused > 0 && healed >= 12);
	lb_fs_destroy(fs);
	open_store(w);
}

/* ---- files changed behind the store's back ---- */

static void flip(struct world *w, uint64_t seg, uint64_t off, uint8_t mask)
{
	struct lb_err err = {.code = 0};
	struct lb_file *f = NULL;
	char path[32];
	uint8_t b = 0;

	(void)snprintf(path, sizeof(path), "seg/%016llx.seg", (unsigned long long)seg);
	must(lb_fs_open(w->fs, &f, path, LB_FS_WRITE, &err), &err);
	must(lb_file_pread_full(f, &b, 1, off, &err), &err);
	b ^= mask;
	must(lb_file_pwrite(f, &b, 1, off, &err), &err);
	lb_file_close(f);
}

static uint64_t seg_size(struct world *w, uint64_t seg)
{
	struct lb_err err = {.code = 0};
	struct lb_file *f = NULL;
	char path[32];
	uint64_t n = 0;

	(void)snprintf(path, sizeof(path), "seg/%016llx.seg", (unsigned long long)seg);
	must(lb_fs_open(w->fs, &f, path, LB_FS_READ, &err), &err);
	must(lb_file_size(f, &n, &err), &err);
	lb_file_close(f);
	return n;
}

static void test_torn_tail(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct rep_recovery rec;
	struct rep_have have;
	struct sf_point p;
	uint64_t before;

	w->cfg.segment_bytes = 8 << 20;
	reopen(w);
	one_point(w, &w->group[0], NULL);
	sf_group_write(&w->group[0], 60);
	sf_point_cut(&w->group[0], &p);
	for (uint32_t k = 0; k < 3; k++)
		must(sf_part_send(w->store, &p.layer[0], &p.layer[0].part[k], &err), &err);
	before = seg_size(w, 1);
	must(sf_part_send(w->store, &p.layer[0], &p.layer[0].part[3], &err), &err);
	rep_store_close(w->store);
	flip(w, 1, before + 100, 0x10);
	w->store = NULL;
	open_store(w);
	rep_store_recovery(w->store, &rec);
	assert_int_equal(rec.cut_offset, before);
	assert_int_equal(seg_size(w, 1), before);
	assert_int_equal(rep_store_damage(w->store, NULL, NULL), 0);
	assert_true(rep_store_have(w->store, &p.layer[0].header.layer, &have));
	assert_int_equal(have.packs, 2);
	must(sf_point_send(w->store, &p, &err), &err);
	must(rep_store_commit(w->store, &err), &err);
	reopen(w);
	assert_int_equal(points(w), 2);
	check_parts(w, &p);
	sf_point_free(&p);
}

struct told {
	unsigned n;
	struct rep_damage last;
};

static void tell(void *arg, const struct rep_damage *d)
{
	struct told *t = arg;

	t->n++;
	t->last = *d;
}

/* A header that rots before a mark: the mark names the record, nothing is cut, later points stay.
 */
static void test_header_rot(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct sf_point p[3];
	struct told told = {.n = 0};
	struct rep_point q;
	struct lb_buf *b = NULL;
	uint64_t at;

	w->cfg.segment_bytes = 8 << 20;
	reopen(w);
	one_point(w, &w->group[0], &p[0]);
	at = seg_size(w, 1);
	one_point(w, &w->group[1], &p[1]);
	one_point(w, &w->group[0], &p[2]);
	rep_store_close(w->store);
	flip(w, 1, at + 20, 1); /* in the header of group 1's first record */
	open_store(w);
	assert_int_equal(rep_store_damage(w->store, tell, &told), 1);
	assert_int_equal(told.last.kind, REP_RECORD_LAYER_HEADER);
	assert_true(lb_id_equal(&told.last.layer, &p[1].layer[0].header.layer));
	assert_non_null(strstr(told.last.what, "group1 seq 1 layer header"));
	assert_int_equal(points(w), 3);
	assert_true(rep_store_point_find(w->store, &p[1].hash, &q));
	assert_true(q.damaged);
	assert_true(rep_store_point_find(w->store, &p[2].hash, &q));
	assert_false(q.damaged);
	check_parts(w, &p[0]);
	check_parts(w, &p[2]);
	assert_int_equal(rep_store_read_part(w->store, &p[1].layer[0].header.layer,
					     REP_RECORD_LAYER_HEADER, 0, &b, &err),
			 LB_ECORRUPT);
	for (unsigned i = 0; i < 3; i++)
		sf_point_free(&p[i]);
}

/* A mark rots: its echo still says that the batch was committed. The newest one may as well have
 * been torn by a power cut: it is mended. An older one is damage. */
static void test_mark_rot(void **state)
{
	struct world *w = *state;
	struct rep_recovery rec;
	struct told told = {.n = 0};
	struct sf_point p;
	uint64_t end;

	w->cfg.segment_bytes = 8 << 20;
	reopen(w);
	one_point(w, &w->group[0], &p);
	rep_store_close(w->store);
	end = seg_size(w, 1);
	flip(w, 1, end - 120 - 40, 4);
	open_store(w);
	assert_int_equal(points(w), 1);
	assert_int_equal(rep_store_damage(w->store, tell, &told), 0);
	rep_store_recovery(w->store, &rec);
	assert_true(rec.mended_mark > 0);
	reopen(w);
	rep_store_recovery(w->store, &rec);
	assert_int_equal(rec.mended_mark, 0);
	one_point(w, &w->group[1], NULL);
	rep_store_close(w->store);
	flip(w, 1, end - 120 - 40, 4);
	open_store(w);
	assert_int_equal(points(w), 2);
	assert_int_equal(rep_store_damage(w->store, tell, &told), 1);
	assert_int_equal(told.last.kind, REP_RECORD_MARK);
	check_parts(w, &p);
	/* Closed with that gap in it, the segment still has a directory that is believed. */
	w->cfg.segment_bytes = 4096;
	reopen(w);
	one_point(w, &w->group[0], NULL);
	reopen(w);
	assert_int_equal(points(w), 3);
	assert_int_equal(rep_store_damage(w->store, NULL, NULL), 0);
	sf_point_free(&p);
}

/* The power goes while a segment is closed, before there is a next one: of the closing mark only
 * the echo arrived. */
static void test_torn_closing_mark(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct rep_recovery rec;
	struct told told = {.n = 0};
	char path[32];
	unsigned before;
	uint64_t end;

	for (unsigned i = 0; i < 8; i++)
		one_point(w, &w->group[i % GROUPS], NULL);
	reopen(w);
	rep_store_recovery(w->store, &rec);
	assert_true(rec.segments >= 3);
	rep_store_close(w->store);
	(void)snprintf(path, sizeof(path), "seg/%016llx.seg", (unsigned long long)rec.segments);
	must(lb_fs_unlink(w->fs, path, &err), &err);
	open_store(w);
	before = points(w);
	assert_true(before >= 3);
	assert_int_equal(rep_store_damage(w->store, NULL, NULL), 0);
	rep_store_close(w->store);
	end = seg_size(w, rec.segments - 1);
	flip(w, rec.segments - 1, end - 240 + 70, 4);
	for (int pass = 0; pass < 2; pass++) {
		struct rep_recovery found;

		open_store(w);
		assert_int_equal(rep_store_damage(w->store, tell, &told), 0);
		assert_int_equal(points(w), before);
		rep_store_recovery(w->store, &found);
		assert_int_equal(found.mended_mark, pass == 0 ? end - 240 : 0);
		assert_int_equal(found.cut_bytes, 0);
		rep_store_close(w->store);
	}
	open_store(w); /* for the teardown */
}

/* More rots than is listed one by one, and the newest mark is torn as well. */
static void test_much_rot(void **state)
{
	enum {
		PARTS = 1100
	};
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct lb_id layer = w->group[0].group; /* any */
	struct rep_recovery rec;
	struct lb_buf *body = NULL;
	uint64_t at[PARTS];

	w->cfg.segment_bytes = 8 << 20;
	reopen(w);
	must(lb_buf_copy_of(&body, "12345678", 8, &err), &err);
	for (uint32_t i = 0; i < PARTS; i++) {
		at[i] = seg_size(w, 1);
		must(rep_store_append(w->store, REP_RECORD_PACK, &layer, i, body, NULL, &err),
		     &err);
	}
	must(rep_store_commit(w->store, &err), &err);
	must(rep_store_append(w->store, REP_RECORD_PACK, &layer, PARTS, body, NULL, &err), &err);
	must(rep_store_commit(w->store, &err), &err);
	lb_buf_unref(body);
	rep_store_close(w->store);
	for (uint32_t i = 0; i < PARTS; i++)
		flip(w, 1, at[i] + 20, 1);
	flip(w, 1, seg_size(w, 1) - 120 - 40, 4);
	open_store(w);
	rep_store_recovery(w->store, &rec);
	assert_true(rec.mended_mark > at[PARTS - 1]);
	assert_int_equal(rep_store_damage(w->store, NULL, NULL), 1024);
	assert_true(rep_store_have_part(w->store, &layer, REP_RECORD_PACK, PARTS));
	assert_false(rep_store_have_part(w->store, &layer, REP_RECORD_PACK, 7));
}

static void test_pack_rot(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct told told = {.n = 0};
	struct sf_point p;
	struct rep_point q;
	struct lb_buf *b = NULL;

	w->cfg.segment_bytes = 8 << 20;
	reopen(w);
	one_point(w, &w->group[0], &p);
	one_point(w, &w->group[0], NULL);
	one_point(w, &w->group[1], NULL);
	/* head, layer header record, pack 0 */
	flip(w, 1, 104 + 56 + 256 + 56 + 70, 0x40);
	assert_int_equal(rep_store_read_part(w->store, &p.layer[0].header.layer, REP_RECORD_PACK, 0,
					     &b, &err),
			 LB_ECORRUPT);
	assert_int_equal(rep_store_damage(w->store, tell, &told), 1);
	assert_non_null(strstr(told.last.what, "group0 seq 1 pack 0"));
	/* The delta on top of it is damaged with it; the other group is not. */
	assert_true(rep_store_head(w->store, &w->group[0].group, &q));
	assert_true(q.damaged);
	assert_true(rep_store_head(w->store, &w->group[1].group, &q));
	assert_false(q.damaged);
	sf_point_free(&p);
}

static void test_directory_rot(void **state)
{
	struct world *w = *state;
	struct told told = {.n = 0};
	struct sf_point p[8];
	uint64_t end;

	for (unsigned i = 0; i < 8; i++)
		one_point(w, &w->group[i % GROUPS], &p[i]);
	rep_store_close(w->store);
	end = seg_size(w, 1);
	flip(w, 1, end - 240 - 8, 1);
	open_store(w);
	assert_int_equal(points(w), 8);
	assert_true(rep_store_damage(w->store, tell, &told) >= 1);
	assert_int_equal(told.last.kind, REP_RECORD_DIRECTORY);
	for (unsigned i = 0; i < 8; i++) {
		check_parts(w, &p[i]);
		sf_point_free(&p[i]);
	}
}

/* It rots while the store is open: its segment is still there. */
static void test_directory_rot_later(void **state)
{
	struct world *w = *state;
	struct told told = {.n = 0};
	struct sf_point p[8];
	uint64_t end;

	for (unsigned i = 0; i < 8; i++)
		one_point(w, &w->group[i % GROUPS], &p[i]);
	reopen(w);
	end = seg_size(w, 1);
	flip(w, 1, end - 240 - 8, 1);
	for (unsigned i = 0; i < 8; i++)
		check_parts(w, &p[i]);
	assert_int_equal(rep_store_damage(w->store, tell, &told), 1);
	assert_int_equal(told.last.kind, REP_RECORD_DIRECTORY);
	assert_int_equal(told.last.segment, 1);
	for (unsigned i = 0; i < 8; i++) {
		struct rep_point q;

		assert_true(rep_store_point_find(w->store, &p[i].hash, &q));
		assert_false(q.damaged);
		sf_point_free(&p[i]);
	}
}

static void test_store_id(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct rep_store *second = NULL;
	struct lb_id before;
	struct lb_id after;

	one_point(w, &w->group[0], NULL);
	rep_store_id(w->store, &before);
	assert_int_equal(rep_store_open(&second, &w->env.env, w->fs, &w->cfg, &err), LB_EBUSY);
	rep_store_close(w->store);
	must(lb_fs_unlink(w->fs, "store.id", &err), &err);
	open_store(w);
	rep_store_id(w->store, &after);
	assert_true(lb_id_equal(&before, &after));
	assert_int_equal(points(w), 1);
	assert_int_equal(rep_store_damage(w->store, NULL, NULL), 1);
	reopen(w);
	assert_int_equal(rep_store_damage(w->store, NULL, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_draft_survives, setup, teardown),
		cmocka_unit_test_setup_teardown(test_same_part_twice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_check_refuses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order_and_base, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reserve, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_error_at_open, setup, teardown),
		cmocka_unit_test_setup_teardown(test_torn_tail, setup, teardown),
		cmocka_unit_test_setup_teardown(test_header_rot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mark_rot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_torn_closing_mark, setup, teardown),
		cmocka_unit_test_setup_teardown(test_much_rot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pack_rot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_directory_rot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_directory_rot_later, setup, teardown),
		cmocka_unit_test_setup_teardown(test_store_id, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
