/*
 * The store's index in RAM: what it holds of layers that came to nothing, of many layers, of
 * damage. Its promises are in store_int.h.
 */
#include <malloc.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "memfs.h"
#include "store_fix.h"
#include "store_int.h"

#define GROUPS 2u

struct world {
	struct lb_fs *fs;
	struct fix_env env;
	struct rep_store_cfg cfg;
	struct rep_store *store;
	struct sf_group group[GROUPS];
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

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct lb_err err = {.code = 0};

	assert_non_null(w);
	must(lb_memfs_create(&w->fs, 1, &err), &err);
	w->env = fix_env(1);
	w->cfg = (struct rep_store_cfg)REP_STORE_CFG_DEFAULTS;
	w->cfg.segment_bytes = 256 << 10;
	for (unsigned i = 0; i < GROUPS; i++)
		sf_group_init(&w->group[i], i, 2, 48, 3);
	open_store(w);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	rep_store_close(w->store);
	for (unsigned i = 0; i < GROUPS; i++)
		sf_group_fini(&w->group[i]);
	lb_fs_destroy(w->fs);
	free(w);
	return 0;
}

static struct lb_id numbered(unsigned n)
{
	struct lb_id id = {{1}};

	id.b[14] = (uint8_t)(n >> 8);
	id.b[15] = (uint8_t)n;
	return id;
}

/* A full disk refuses one layer after the other: none of them is remembered, and those that are
 * held are still found. */
static void test_refused_layers(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct lb_buf *body = NULL;
	struct lb_id id;

	must(lb_buf_copy_of(&body, "12345678", 8, &err), &err);
	for (unsigned i = 0; i < 300; i++) {
		id = numbered(i);
		lb_memfs_set_space(w->fs, i % 3 == 0 ? UINT64_MAX : 0);
		assert_int_equal(
			rep_store_append(w->store, REP_RECORD_PACK, &id, 0, body, NULL, &err),
			i % 3 == 0 ? 0 : LB_ENOSPC);
	}
	lb_memfs_set_space(w->fs, UINT64_MAX);
	assert_int_equal(w->store->layers, 100);
	for (unsigned i = 0; i < 300; i++) {
		id = numbered(i);
		assert_int_equal(rep_store_have_part(w->store, &id, REP_RECORD_PACK, 0),
				 i % 3 == 0);
		/* there is nothing to give up, and no record that says so */
		assert_int_equal(rep_store_abandon(w->store, &id, &err),
				 i % 3 == 0 ? 0 : LB_ENOTFOUND);
	}
	lb_buf_unref(body);
}

static void one_point(struct world *w, struct sf_group *g, struct sf_point *p)
{
	struct lb_err err = {.code = 0};

	sf_group_write(g, 6);
	sf_point_cut(g, p);
	must(sf_point_send(w->store, p, &err), &err);
	must(rep_store_commit(w->store, &err), &err);
	sf_point_accepted(g, p);
}

static void check_parts(struct world *w, const struct sf_layer *l)
{
	struct lb_err err = {.code = 0};

	for (uint32_t k = 0; k < l->parts; k++) {
		struct lb_buf *b = NULL;

		must(rep_store_read_part(w->store, &l->header.layer, l->part[k].kind,
					 l->part[k].number, &b, &err),
		     &err);
		assert_int_equal(b->len, l->part[k].body->len);
		assert_memory_equal(b->p, l->part[k].body->p, b->len);
		lb_buf_unref(b);
	}
	assert_false(rep_store_have_part(w->store, &l->header.layer, REP_RECORD_PACK, 60000));
}

/* Nobody reads, points only come: what is held of their layers' parts is bounded all the same. */
static void test_parts_bounded(void **state)
{
	struct world *w = *state;
	struct sf_point p[40];
	uint32_t held = 0;

	w->store->parts_max = 100;
	for (unsigned i = 0; i < 40; i++) {
		one_point(w, &w->group[i % GROUPS], &p[i]);
		assert_true(w->store->cached_parts <= 100);
	}
	for (uint32_t i = 0; i < w->store->layer_slots; i++)
		held += w->store->layer[i] != NULL && w->store->layer[i]->parts != NULL;
	assert_int_equal(w->store->layers, 80);
	assert_in_range(held, 2, 100 / (REP_PARTS_COST + 5));
	for (unsigned i = 0; i < 40; i++) {
		check_parts(w, &p[i].layer[0]);
		check_parts(w, &p[39 - i].layer[1]);
		assert_true(w->store->cached_parts <= 100);
	}
	for (unsigned i = 0; i < 40; i++)
		sf_point_free(&p[i]);
}

/* A layer larger than the bound is read from, pack by pack: what is sealed meanwhile does not make
 * it go, or each of its packs would load all of it again. */
static void test_large_stays(void **state)
{
	struct world *w = *state;
	const struct rep_layer *large;
	struct sf_point p[6];

	for (unsigned i = 0; i < 5; i++)
		one_point(w, &w->group[0], &p[i]);
	w->store->parts_max = 1;
	assert_true(rep_store_have_part(w->store, &p[0].layer[0].header.layer, REP_RECORD_PACK, 0));
	large = rep_layer_find(w->store, &p[0].layer[0].header.layer);
	one_point(w, &w->group[1], &p[5]); /* its first: it loads no other layer */
	assert_non_null(large->parts);
	assert_null(rep_layer_find(w->store, &p[1].layer[0].header.layer)->parts);
	for (unsigned i = 0; i < 6; i++)
		sf_point_free(&p[i]);
}

/* What grows with every point holds what is asked of a point, and nothing it was made with. */
static void test_little_is_kept(void **state)
{
	struct world *w = *state;
	struct sf_point p[30];
	uint32_t with_sources = 0;

	for (unsigned i = 0; i < 30; i++)
		one_point(w, &w->group[0], &p[i]);
	for (uint32_t i = 0; i < w->store->layer_slots; i++) {
		struct rep_layer *l = w->store->layer[i];
		const struct lb_id *source = NULL;
		uint32_t n = 0;

		if (l == NULL)
			continue;
		assert_true(l->visible);
		assert_non_null(l->parts);
		assert_ptr_equal(l->parts->v, l->parts->room);
		assert_int_equal(l->parts->cap, 0);
		assert_null(l->parts->leaf);
		assert_null(l->parts->slot);
		assert_null(l->parts->checked);
		assert_null(l->source);
		assert_int_equal(rep_layer_sources(w->store, l, &source, &n, NULL), 0);
		with_sources += n != 0;
		if (n != 0)
			assert_true(malloc_usable_size(l->source) <= (n + 1) * sizeof(*source));
	}
	assert_true(with_sources > 10);
	for (unsigned i = 1; i < 30; i++)
		assert_ptr_equal(w->store->point[i]->name, w->store->point[0]->name);
	for (unsigned i = 0; i < 30; i++) {
		check_parts(w, &p[i].layer[0]);
		sf_point_free(&p[i]);
	}
}

/* Of the layers that a layer refers to those outside its chain are remembered: whether they are
 * damaged is not seen from the chain. */
static void test_sources_outside(void **state)
{
	struct world *w = *state;
	struct sf_group *g = &w->group[0];
	struct sf_volume *v = &g->vol[0];
	struct rep_scrub_opts o = {.on_damage = NULL};
	struct rep_scrub_stats st;
	struct lb_err err = {.code = 0};
	struct sf_point p[3];
	const struct rep_layer *l;
	struct rep_point q;
	uint32_t x = 0, y;

	for (unsigned i = 0; i < 2; i++)
		one_point(w, g, &p[i]);
	/* A full one; what stands in block x is taken from where it is, also for block y. */
	while (!v->where[x].valid || v->dirty[x])
		x++;
	y = x == 0 ? 1 : 0;
	memcpy(v->image + (size_t)y * REP_BLOCK_BYTES, v->image + (size_t)x * REP_BLOCK_BYTES,
	       REP_BLOCK_BYTES);
	for (uint32_t i = 0; i < v->blocks; i++)
		v->dirty[i] = i != x;
	g->epoch++;
	g->head = (struct lb_hash){{0}};
	sf_point_cut(g, &p[2]);
	must(sf_point_send(w->store, &p[2], &err), &err);
	must(rep_store_commit(w->store, &err), &err);
	must(rep_store_scrub(w->store, &o, &st, &err), &err);
	l = rep_layer_find(w->store, &p[1].layer[0].header.layer);
	assert_int_equal(l->sources, 0);
	l = rep_layer_find(w->store, &p[2].layer[0].header.layer);
	assert_true(l->sources_known && l->sources > 0);
	for (uint32_t i = 0; i < l->sources; i++) {
		struct rep_damage d = {.layer = l->source[i], .kind = REP_RECORD_PACK};

		rep_lock(w->store);
		rep_damage_add(w->store, &d);
		rep_unlock(w->store);
	}
	assert_true(rep_store_point_find(w->store, &p[2].hash, &q));
	assert_true(q.damaged);
	for (unsigned i = 0; i < 3; i++)
		sf_point_free(&p[i]);
}

static void add_point(struct rep_store *s, const struct lb_id *layer, uint64_t seq,
		      struct lb_hash *head)
{
	struct rep_manifest *m = calloc(1, sizeof(*m));
	struct rep_spoint *p = NULL;
	struct rep_layer *l = NULL;
	struct lb_err err = {.code = 0};
	struct lb_hash hash;

	assert_non_null(m);
	m->group = numbered(60000);
	(void)snprintf(m->group_name, sizeof(m->group_name), "long");
	m->epoch = 1;
	m->seq = seq;
	m->base = *head;
	m->volumes = 1;
	m->volume[0].layer = *layer;
	lb_sha256(&hash, &seq, sizeof(seq));
	rep_lock(s);
	must(rep_points_reserve(s, &m->group, &err), &err);
	must(rep_layer_get(&l, s, layer, &err), &err);
	must(rep_point_create(&p, s, m, &hash, (struct rep_loc){0, 0}, &err), &err);
	rep_point_add(s, p);
	rep_point_show(s, s->points - 1);
	rep_unlock(s);
	*head = hash;
	free(m);
}

static int count_damaged(void *arg, const struct rep_point *p)
{
	*(unsigned *)arg += p->damaged;
	return 0;
}

static unsigned damaged(struct rep_store *s)
{
	unsigned n = 0;

	assert_int_equal(rep_store_points(s, NULL, count_damaged, &n), 0);
	return n;
}

static void damage_layer(struct rep_store *s, unsigned n)
{
	struct rep_damage d = {.layer = numbered(n), .kind = REP_RECORD_PACK};

	rep_lock(s);
	rep_damage_add(s, &d);
	rep_unlock(s);
}

/* One damaged layer in a chain of very many points, and all of them listed: what takes a step for
 * each point below each point does not come to an end here. */
static void test_damage_in_long_chain(void **state)
{
	enum {
		POINTS = 60000
	};
	struct world *w = *state;
	struct lb_hash head = {{0}};

	for (unsigned i = 0; i < POINTS; i++) {
		struct lb_id layer = numbered(i);

		add_point(w->store, &layer, i + 1, &head);
	}
	assert_int_equal(damaged(w->store), 0);
	damage_layer(w->store, POINTS - 10);
	assert_int_equal(damaged(w->store), 10);
	assert_int_equal(damaged(w->store), 10);
	damage_layer(w->store, 100);
	assert_int_equal(damaged(w->store), POINTS - 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_refused_layers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parts_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(test_little_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sources_outside, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage_in_long_chain, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
