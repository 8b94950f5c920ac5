/*
 * Scrub: a good store is good with and without keys; every lie that no CRC sees is found; one point
 * and its closure. Single flipped bits, by the thousand: tests/crash/crash_flips.c.
 */
#include <stdlib.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "check.h"
#include "memfs.h"
#include "store_fix.h"

struct world {
	struct lb_fs *fs;
	struct fix_env env;
	struct rep_store *store;
	struct sf_group group[3];
	struct sf_point point[6];
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct rep_store_cfg cfg = {.segment_bytes = 64 << 10};
	struct lb_err err = {.code = 0};

	must(lb_memfs_create(&w->fs, 1, &err), &err);
	w->env = fix_env(1);
	for (unsigned i = 0; i < 2; i++)
		sf_group_init(&w->group[i], i, 2, 64, 11);
	must(rep_store_open(&w->store, &w->env.env, w->fs, &cfg, &err), &err);
	for (unsigned i = 0; i < 6; i++) {
		struct sf_group *g = &w->group[i % 2];
		uint8_t receipt[REP_RECEIPT_BYTES];

		sf_group_write(g, 20);
		sf_point_cut(g, &w->point[i]);
		must(sf_point_send(w->store, &w->point[i], &err), &err);
		must(rep_store_commit(w->store, &err), &err);
		sf_point_accepted(g, &w->point[i]);
		sf_receipt(receipt, w->store, g, &w->point[i]);
		must(rep_store_append_receipt(w->store, receipt, sizeof(receipt), &err), &err);
	}
	must(rep_store_commit(w->store, &err), &err);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	rep_store_close(w->store);
	for (unsigned i = 0; i < 6; i++)
		sf_point_free(&w->point[i]);
	for (unsigned i = 0; i < 2; i++)
		sf_group_fini(&w->group[i]);
	lb_fs_destroy(w->fs);
	free(w);
	return 0;
}

struct told {
	unsigned n;
	struct rep_damage last;
	uint64_t done, all;
	struct sf_group *groups;
	bool wrong_key;
};

static void tell(void *arg, const struct rep_damage *d)
{
	struct told *t = arg;

	t->n++;
	t->last = *d;
}

static void progress(void *arg, uint64_t done, uint64_t all)
{
	struct told *t = arg;

	assert_true(done >= t->done && done <= all);
	t->done = done;
	t->all = all;
}

static int key_of(void *arg, const struct lb_id *site, struct lb_pubkey *out)
{
	struct told *t = arg;
	int rc = sf_key_of(t->groups, site, out);

	out->b[0] ^= t->wrong_key;
	return rc;
}

static int dek_of(void *arg, const struct lb_id *id, struct lb_key *out)
{
	struct told *t = arg;

	return sf_dek_of(t->groups, id, out);
}

static struct rep_scrub_opts opts(struct told *t, struct world *w)
{
	*t = (struct told){.groups = w->group};
	return (struct rep_scrub_opts){.on_damage = tell,
				       .progress = progress,
				       .key_of = key_of,
				       .dek_of = dek_of,
				       .arg = t};
}

static void test_good(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct rep_scrub_stats st;
	struct told t;
	struct rep_scrub_opts o = opts(&t, w);

	must(rep_store_scrub(w->store, &o, &st, &err), &err);
	assert_int_equal(st.damaged, 0);
	assert_int_equal(st.points, 6);
	assert_int_equal(st.bytes, rep_store_bytes(w->store));
	assert_int_equal(t.done, t.all);
	assert_true(st.records > 6 * 2 * 5);
	o.dek_of = NULL;
	o.key_of = NULL;
	o.progress = NULL;
	must(rep_store_scrub(w->store, &o, NULL, &err), &err);
	o = opts(&t, w);
	o.only = &w->point[5].hash;
	must(rep_store_scrub(w->store, &o, &st, &err), &err);
	assert_int_equal(st.points, 3);
	assert_int_equal(t.n, 0);
}

static void test_signature(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct rep_scrub_stats st;
	struct told t;
	struct rep_scrub_opts o = opts(&t, w);

	t.wrong_key = true;
	assert_int_equal(rep_store_scrub(w->store, &o, &st, &err), LB_ECORRUPT);
	assert_int_equal(st.damaged, 6);
	assert_int_equal(t.last.kind, REP_RECORD_MANIFEST);
}

/* Replace @len bytes of a body and mend its CRCs: only the hash tree can tell. */
static void forge(struct world *w, uint64_t seg, uint64_t off, uint64_t at, uint8_t mask)
{
	struct lb_err err = {.code = 0};
	struct lb_file *f = NULL;
	char path[32];
	uint8_t head[REP_RECORD_HEADER_BYTES];
	struct rep_record r;
	uint8_t *body;

	(void)snprintf(path, sizeof(path), "seg/%016llx.seg", (unsigned long long)seg);
	must(lb_fs_open(w->fs, &f, path, LB_FS_WRITE, &err), &err);
	must(lb_file_pread_full(f, head, sizeof(head), off, &err), &err);
	must(rep_record_decode(&r, head, sizeof(head), &err), &err);
	body = malloc(r.bytes);
	must(lb_file_pread_full(f, body, r.bytes, off + sizeof(head), &err), &err);
	body[at] ^= mask;
	r.body_crc = lb_crc32c(0, body, r.bytes);
	rep_record_encode(head, &r);
	must(lb_file_pwrite(f, head, sizeof(head), off, &err), &err);
	must(lb_file_pwrite(f, body, r.bytes, off + sizeof(head), &err), &err);
	lb_file_close(f);
	free(body);
}

static void test_forged_pack(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct rep_scrub_stats st;
	struct rep_point p;
	struct told t;
	struct rep_scrub_opts o = opts(&t, w);

	/* segment head, layer header, pack 0 of group0 */
	forge(w, 1, 104 + 312, 70, 1);
	o.dek_of = NULL;
	assert_int_equal(rep_store_scrub(w->store, &o, &st, &err), LB_ECORRUPT);
	assert_int_equal(st.damaged, 1);
	assert_int_equal(t.last.kind, REP_RECORD_PACK);
	assert_non_null(strstr(t.last.what, "group0 seq 1 pack 0 in segment 1"));
	assert_non_null(strstr(t.last.what, "not the bytes under the signed root"));
	for (unsigned i = 0; i < 6; i++) {
		assert_true(rep_store_point_find(w->store, &w->point[i].hash, &p));
		assert_int_equal(p.damaged, i % 2 == 0);
	}
	/* The other group's newest point does not need it. */
	o = opts(&t, w);
	o.only = &w->point[5].hash;
	must(rep_store_scrub(w->store, &o, NULL, &err), &err);
	o = opts(&t, w);
	o.only = &w->point[4].hash;
	assert_int_equal(rep_store_scrub(w->store, &o, NULL, &err), LB_ECORRUPT);
}

/* A full point with a ref: what lies behind the ref is in no chain and is checked all the same. */
static void test_forged_source(void **state)
{
	struct world *w = *state;
	struct sf_group *g = &w->group[0];
	struct sf_volume *v = &g->vol[0];
	struct lb_err err = {.code = 0};
	struct rep_scrub_stats st;
	struct sf_point full;
	struct rep_point p;
	struct told t;
	struct rep_scrub_opts o = opts(&t, w);
	uint32_t x = 0, y;

	/* Block x stands in pack 0 of the first layer still; y becomes a copy of it. */
	while (!v->where[x].valid || v->where[x].pack != 0 ||
	       !lb_id_equal(&v->where[x].layer, &w->point[0].layer[0].header.layer))
		x++;
	y = x == 0 ? 1 : 0;
	memcpy(v->image + (size_t)y * REP_BLOCK_BYTES, v->image + (size_t)x * REP_BLOCK_BYTES,
	       REP_BLOCK_BYTES);
	for (uint32_t i = 0; i < v->blocks; i++)
		v->dirty[i] = i != x;
	g->epoch++; /* a lineage of its own */
	g->head = (struct lb_hash){{0}};
	sf_point_cut(g, &full);
	must(sf_point_send(w->store, &full, &err), &err);
	must(rep_store_commit(w->store, &err), &err);
	o.only = &full.hash;
	must(rep_store_scrub(w->store, &o, &st, &err), &err);
	assert_int_equal(st.points, 1);

	forge(w, 1, 104 + 312, 70, 1);
	o = opts(&t, w);
	o.only = &full.hash;
	o.dek_of = NULL;
	assert_int_equal(rep_store_scrub(w->store, &o, &st, &err), LB_ECORRUPT);
	assert_int_equal(st.damaged, 1);
	if (strstr(t.last.what, "group0 seq 1 pack 0 in segment 1") == NULL)
		fail_msg("%s", t.last.what);
	assert_true(rep_store_point_find(w->store, &full.hash, &p));
	assert_true(p.damaged);
	sf_point_free(&full);
}

/* Every byte was read; only then somebody wants to be rid of it. */
static bool cancelled_when_read(void *arg)
{
	const struct told *t = arg;

	return t->all != 0 && t->done == t->all;
}

/* There may be many points: an agent that ends does not wait for all of them. */
static void test_cancelled_among_points(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct rep_scrub_stats st;
	struct told t;
	struct rep_scrub_opts o = opts(&t, w);

	o.cancelled = cancelled_when_read;
	assert_int_equal(rep_store_scrub(w->store, &o, &st, &err), LB_ECANCELED);
	assert_true(st.records > 30);
	assert_int_equal(st.points, 0);
}

static void test_forged_header(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct rep_scrub_stats st;
	struct told t;
	struct rep_scrub_opts o = opts(&t, w);

	forge(w, 1, 104, 40, 1);
	assert_int_equal(rep_store_scrub(w->store, &o, &st, &err), LB_ECORRUPT);
	assert_int_equal(t.last.kind, REP_RECORD_LAYER_HEADER);
}

static void test_missing_segment(void **state)
{
	struct world *w = *state;
	struct rep_store_cfg cfg = {.segment_bytes = 64 << 10};
	struct lb_err err = {.code = 0};
	struct rep_scrub_stats st;
	struct told t;
	struct rep_scrub_opts o = opts(&t, w);
	struct rep_recovery rec;

	rep_store_recovery(w->store, &rec);
	rep_store_close(w->store);
	must(lb_fs_unlink(w->fs, "seg/0000000000000002.seg", &err), &err);
	must(rep_store_open(&w->store, &w->env.env, w->fs, &cfg, &err), &err);
	assert_true(rep_store_damage(w->store, tell, &t) >= 1);
	assert_int_equal(rep_store_scrub(w->store, &o, &st, &err), LB_ECORRUPT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signature, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forged_pack, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forged_source, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancelled_among_points, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forged_header, setup, teardown),
		cmocka_unit_test_setup_teardown(test_missing_segment, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
