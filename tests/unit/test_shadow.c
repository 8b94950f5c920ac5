#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "rnd.h"
#include "shadow_int.h"
#include "word_delta_int.h"

/*
 * The shadow beside a peer played by a table: every page of every layer that was acknowledged, and
 * for each block what the newest point reaches. What the shadow chooses is carried out and
 * compared; every source must be reached (W1). Linked with --wrap: allocations fail when the test
 * says so.
 */
#define BLOCKS     96u
#define LAYERS_MAX 512u

static unsigned fail_at; /* 0: never; else the how many-th allocation from now */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

static bool fails_now(void)
{
	return fail_at > 0 && --fail_at == 0;
}

void *__wrap_malloc(size_t n)
{
	return fails_now() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails_now() ? NULL : __real_realloc(p, n);
}

struct place {
	unsigned layer; /* 0: none, reads as zero */
	unsigned page;
};

struct peer_layer {
	struct lb_id id;
	uint8_t *pages; /* BLOCKS of them at most; pack page / 8, position page % 8 */
	unsigned n;
	bool acked;
};

struct rig {
	struct rep_shadow *s;
	uint64_t rnd;
	uint8_t now[BLOCKS][REP_BLOCK_BYTES], acked[BLOCKS][REP_BLOCK_BYTES];
	struct place reached[BLOCKS], next[BLOCKS];
	struct peer_layer layer[LAYERS_MAX];
	unsigned layers; /* from 1 */
	uint64_t seq;
	bool has_base;
	struct lb_hash base, made;
	unsigned data, twice, refs, patches, zeros;
};

static struct rig *rig_new(uint64_t shadow_bytes)
{
	struct rig *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	r->rnd = 5;
	assert_int_equal(rep_shadow_create(&r->s, shadow_bytes, NULL), 0);
	return r;
}

static void rig_free(struct rig *r)
{
	rep_shadow_destroy(r->s);
	for (unsigned i = 1; i <= r->layers; i++)
		free(r->layer[i].pages);
	free(r);
}

static bool is_zero(const uint8_t *p)
{
	static const uint8_t zeros[REP_BLOCK_BYTES];

	return memcmp(p, zeros, sizeof(zeros)) == 0;
}

static struct lb_digest digest_of(const uint8_t *p)
{
	static const uint8_t secret[LB_XXH_SECRET_BYTES] = {7};
	struct lb_digest d;

	lb_xxh3(&d, p, REP_BLOCK_BYTES, secret);
	return d;
}

static unsigned layer_by_id(const struct rig *r, const struct lb_id *id)
{
	for (unsigned i = 1; i <= r->layers; i++)
		if (lb_id_equal(&r->layer[i].id, id))
			return i;
	fail_msg("a layer that never was");
	return 0;
}

static const uint8_t *page_of(const struct rig *r, struct place p)
{
	assert_true(p.page < r->layer[p.layer].n);
	return r->layer[p.layer].pages + (size_t)p.page * REP_BLOCK_BYTES;
}

/* A source is reached by the newest point, which is of acknowledged layers. */
static struct place source_of(const struct rig *r, const struct rep_way *w)
{
	struct place p = {.layer = layer_by_id(r, rep_shadow_layer(r->s, w->src)),
			  .page = w->pack * 8 + w->pos};

	assert_true(r->layer[p.layer].acked);
	for (unsigned i = 0; i < BLOCKS; i++)
		if (r->reached[i].layer == p.layer && r->reached[i].page == p.page)
			return p;
	fail_msg("a source that the newest point does not reach");
	return p;
}

static void add_page(struct rig *r, unsigned block, const struct lb_digest *d)
{
	struct peer_layer *l = &r->layer[r->layers];

	memcpy(l->pages + (size_t)l->n * REP_BLOCK_BYTES, r->now[block], REP_BLOCK_BYTES);
	rep_shadow_data(r->s, block, r->now[block], d, l->n / 8, l->n % 8);
	r->next[block] = (struct place){r->layers, l->n++};
	r->data++;
}

static void send_block(struct rig *r, unsigned block)
{
	struct lb_digest d = digest_of(r->now[block]);
	uint8_t patch[REP_PATCH_MAX_BYTES], got[REP_BLOCK_BYTES];
	struct rep_way w;

	rep_shadow_choose(r->s, &w, patch, block, r->now[block], &d);
	if (w.kind == REP_RUN_DATA && !w.made) {
		add_page(r, block, &d);
		return;
	}
	if (w.kind == REP_RUN_DATA) {
		r->next[block] = (struct place){r->layers, w.pack * 8 + w.pos};
		r->twice++;
	} else {
		assert_true(r->has_base);
		r->next[block] = source_of(r, &w);
	}
	memcpy(got, page_of(r, r->next[block]), sizeof(got));
	r->refs += w.kind == REP_RUN_REF;
	if (w.kind == REP_RUN_PATCH) {
		r->patches++;
		assert_int_equal(rep_word_delta_apply(got, patch, w.patch_bytes, NULL), 0);
	}
	assert_memory_equal(got, r->now[block], sizeof(got));
}

/* Begin and send; false: the shadow could not be used, everything went as data. */
static bool cut(struct rig *r)
{
	struct peer_layer *l;
	bool with;

	assert_true(++r->layers < LAYERS_MAX);
	l = &r->layer[r->layers];
	l->id = (struct lb_id){.b = {(uint8_t)r->layers, (uint8_t)(r->layers >> 8), 1}};
	l->pages = __real_malloc((size_t)BLOCKS * REP_BLOCK_BYTES);
	with = rep_shadow_begin(r->s, r->has_base ? &r->base : NULL, &l->id, BLOCKS, NULL) == 0;
	memcpy(r->next, r->reached, sizeof(r->next));
	for (unsigned i = 0; i < BLOCKS; i++) {
		if (r->has_base && memcmp(r->now[i], r->acked[i], REP_BLOCK_BYTES) == 0)
			continue;
		if (is_zero(r->now[i])) {
			if (with)
				rep_shadow_zero(r->s, i, 1);
			r->next[i].layer = 0;
			r->zeros++;
		} else if (with) {
			send_block(r, i);
		} else {
			memcpy(l->pages + (size_t)l->n * REP_BLOCK_BYTES, r->now[i],
			       REP_BLOCK_BYTES);
			r->next[i] = (struct place){r->layers, l->n++};
		}
	}
	r->seq++;
	r->made = (struct lb_hash){.b = {(uint8_t)r->seq, (uint8_t)(r->seq >> 8), 9}};
	if (with)
		rep_shadow_seal(r->s, &r->made);
	return with;
}

static void acked(struct rig *r)
{
	rep_shadow_commit(r->s, &r->made);
	rep_shadow_commit(r->s, &r->made); /* said twice: the same */
	r->layer[r->layers].acked = true;
	r->base = r->made;
	r->has_base = true;
	memcpy(r->acked, r->now, sizeof(r->acked));
	memcpy(r->reached, r->next, sizeof(r->reached));
}

static void fill(struct rig *r, unsigned block)
{
	rnd_fill(&r->rnd, r->now[block], REP_BLOCK_BYTES);
}

static void counts(struct rig *r, unsigned data, unsigned twice, unsigned refs, unsigned patches)
{
	assert_int_equal(r->data, data);
	assert_int_equal(r->twice, twice);
	assert_int_equal(r->refs, refs);
	assert_int_equal(r->patches, patches);
	r->data = r->twice = r->refs = r->patches = 0;
}

/* Words edited, pages that go back, move, appear twice in one cut, and vanish. */
static void test_ways(void **state)
{
	struct rig *r = rig_new(0);
	uint8_t was[REP_BLOCK_BYTES];

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		fill(r, i);
	memcpy(r->now[10], r->now[9], REP_BLOCK_BYTES);
	assert_true(cut(r));
	acked(r);
	counts(r, 10, 1, 0, 0); /* the full layer holds equal pages once */
	memcpy(was, r->now[1], sizeof(was));
	r->now[0][8] ^= 1;
	r->now[1][4095] ^= 1;
	assert_true(cut(r));
	acked(r);
	counts(r, 0, 0, 0, 2);
	memcpy(r->now[1], was, sizeof(was));            /* back */
	memcpy(r->now[20], r->now[3], REP_BLOCK_BYTES); /* copied */
	memcpy(r->now[21], r->now[4], REP_BLOCK_BYTES); /* moved */
	memset(r->now[4], 0, REP_BLOCK_BYTES);
	fill(r, 22); /* the same new page twice */
	memcpy(r->now[23], r->now[22], REP_BLOCK_BYTES);
	memcpy(r->now[24], r->now[0], REP_BLOCK_BYTES); /* of a patched page: no data block */
	r->now[0][16] ^= 1;                             /* a patch of the first page still */
	assert_true(cut(r));
	acked(r);
	counts(r, 2, 1, 3, 1);
	r->now[20][100] ^= 1; /* what is held by a ref is patched against its source */
	r->now[21][100] ^= 1;
	r->now[23][100] ^= 1;
	memcpy(r->now[4], r->now[21], REP_BLOCK_BYTES);
	assert_true(cut(r));
	acked(r);
	counts(r, 1, 0, 0, 3);
	fill(r, 5); /* nothing in common: not a patch of a whole block */
	assert_true(cut(r));
	acked(r);
	counts(r, 1, 0, 0, 0);
	rig_free(r);
}

/* What was not acknowledged, and what belongs to another history, is not built on. */
static void test_abandoned(void **state)
{
	struct rig *r = rig_new(0);
	struct lb_hash other = {.b = {1, 1, 1}};

	(void)state;
	fill(r, 0);
	fill(r, 1);
	assert_true(cut(r)); /* full, given up: the next is full again */
	assert_true(cut(r));
	acked(r);
	counts(r, 4, 0, 0, 0);
	r->now[0][0] ^= 1;
	fill(r, 1);
	assert_true(cut(r)); /* given up after it was sealed */
	counts(r, 1, 0, 0, 1);
	r->now[1][0] ^= 1; /* near the page of the layer that came to nothing */
	assert_true(cut(r));
	acked(r);
	counts(r, 1, 0, 0, 1);
	r->now[1][0] ^= 1;
	assert_true(cut(r));
	rep_shadow_commit(r->s, &other); /* the receipt of something we do not know */
	counts(r, 0, 0, 0, 1);
	r->base = other;
	memcpy(r->acked, r->now, sizeof(r->acked)); /* the other point holds the same, by chance */
	r->now[1][0] ^= 1;
	assert_true(cut(r));
	counts(r, 1, 0, 0, 0);
	acked(r);
	/* The target came back with an older point than ours. */
	r->base = (struct lb_hash){.b = {77}};
	r->now[1][0] ^= 1;
	assert_true(cut(r));
	counts(r, 1, 0, 0, 0);
	rig_free(r);
}

static void mutate(struct rig *r, unsigned changes)
{
	for (unsigned i = 0; i < changes; i++) {
		unsigned b = (unsigned)rnd_below(&r->rnd, BLOCKS);
		unsigned from = (unsigned)rnd_below(&r->rnd, BLOCKS);
		uint64_t what = rnd_below(&r->rnd, 100);

		if (what < 55)
			for (uint64_t n = rnd_below(&r->rnd, what < 10 ? 400 : 12); n > 0; n--)
				r->now[b][rnd_below(&r->rnd, REP_BLOCK_BYTES)]++;
		else if (what < 70)
			fill(r, b);
		else if (what < 80)
			memcpy(r->now[b], r->now[from], REP_BLOCK_BYTES);
		else if (what < 90 && r->reached[b].layer != 0)
			memcpy(r->now[b], page_of(r, r->reached[b]), REP_BLOCK_BYTES);
		else
			memset(r->now[b], 0, REP_BLOCK_BYTES);
	}
}

/* 400 cuts, some given up, some with an allocation that fails in the middle, some full. */
static void life(uint64_t shadow_bytes, bool failing)
{
	struct rig *r = rig_new(shadow_bytes);
	struct rep_shadow_stats st;
	unsigned without = 0;

	for (unsigned i = 0; i < 400; i++) {
		mutate(r, 1 + (unsigned)rnd_below(&r->rnd, i % 20 == 0 ? 300 : 20));
		if (rnd_below(&r->rnd, 50) == 0)
			r->has_base = false;
		if (!r->has_base)
			memset(r->reached, 0, sizeof(r->reached));
		if (failing && i % 4 == 0) { /* a restart: everything is allocated anew */
			rep_shadow_destroy(r->s);
			assert_int_equal(rep_shadow_create(&r->s, shadow_bytes, NULL), 0);
		}
		fail_at = failing ? (unsigned)rnd_below(&r->rnd, 6) : 0;
		without += !cut(r);
		fail_at = 0;
		if (rnd_below(&r->rnd, 6) > 0)
			acked(r);
		rep_shadow_stats(r->s, &st);
		assert_true(st.blocks <= st.pages_used && st.pages_used <= st.pages_max);
	}
	(void)printf("data %u twice %u refs %u patches %u zeros %u, %u without a shadow\n", r->data,
		     r->twice, r->refs, r->patches, r->zeros, without);
	assert_true(failing ? without > 50 : without == 0);
	if (shadow_bytes == 0 && !failing)
		assert_true(r->refs > 100 && r->patches > 500 && r->twice > 10);
	if (shadow_bytes == 1)
		assert_int_equal(r->refs + r->patches, 0);
	rig_free(r);
}

static void test_life(void **state)
{
	(void)state;
	life(0, false);
}

/* Room for half, for one page, for none. */
static void test_little_room(void **state)
{
	(void)state;
	life((uint64_t)BLOCKS / 2 * REP_BLOCK_BYTES, false);
	life(REP_BLOCK_BYTES, false);
	life(1, false);
}

static void test_no_memory(void **state)
{
	struct rep_shadow *s = NULL;

	(void)state;
	for (unsigned k = 1; k <= 2; k++) {
		fail_at = k;
		assert_int_equal(rep_shadow_create(&s, 0, NULL), LB_ENOMEM);
		assert_null(s);
	}
	fail_at = 0;
	life(0, true);
}

/* A volume that grows or shrinks begins anew. */
static void test_resized(void **state)
{
	struct lb_hash base = {.b = {1}};
	struct lb_id layer = {.b = {2}};
	struct rep_shadow *s = NULL;
	struct rep_shadow_stats st;
	uint8_t page[REP_BLOCK_BYTES] = {1};
	struct lb_digest d = digest_of(page);

	(void)state;
	assert_int_equal(rep_shadow_create(&s, 0, NULL), 0);
	assert_int_equal(rep_shadow_begin(s, NULL, &layer, 10, NULL), 0);
	rep_shadow_data(s, 9, page, &d, 0, 0);
	rep_shadow_seal(s, &base);
	rep_shadow_commit(s, &base);
	rep_shadow_stats(s, &st);
	assert_int_equal(st.blocks, 1);
	layer.b[0]++;
	assert_int_equal(rep_shadow_begin(s, &base, &layer, 5, NULL), 0);
	rep_shadow_stats(s, &st);
	assert_int_equal(st.blocks + st.pages_used, 0);
	assert_int_equal(rep_shadow_begin(s, &base, &layer, UINT64_C(1) << 32, NULL), LB_EINPUT);
	rep_shadow_commit(s, &base); /* of a cut it took no part in */
	assert_int_equal(rep_shadow_begin(s, &base, &layer, 5, NULL), 0);
	rep_shadow_destroy(s);
	rep_shadow_destroy(NULL);
}

/* One page a cut, each in a layer of its own: layers are forgotten before there are too many. */
static void test_many_layers(void **state)
{
	uint8_t page[REP_BLOCK_BYTES] = {0};
	struct rep_shadow *s = NULL;
	struct rep_shadow_stats st;
	struct lb_hash base = {{0}};
	uint32_t most = 0;

	(void)state;
	assert_int_equal(rep_shadow_create(&s, 0, NULL), 0);
	for (uint32_t i = 1; i <= 9000; i++) {
		struct lb_id layer = {.b = {(uint8_t)i, (uint8_t)(i >> 8), 1}};
		struct lb_digest d;
		struct rep_way w;
		uint8_t patch[REP_PATCH_MAX_BYTES];

		memcpy(page, &i, sizeof(i));
		d = digest_of(page);
		assert_int_equal(rep_shadow_begin(s, i == 1 ? NULL : &base, &layer, 10000, NULL),
				 0);
		rep_shadow_choose(s, &w, patch, i, page, &d);
		assert_int_equal(w.kind, REP_RUN_DATA);
		rep_shadow_data(s, i, page, &d, 0, 0);
		memcpy(base.b, &i, sizeof(i));
		rep_shadow_seal(s, &base);
		rep_shadow_commit(s, &base);
		if (i % 500 != 0)
			continue;
		rep_shadow_stats(s, &st);
		assert_int_equal(st.layers, st.blocks);
		most = st.layers > most ? st.layers : most;
	}
	assert_true(most > 3000 && most <= 4096);
	rep_shadow_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ways),        cmocka_unit_test(test_abandoned),
		cmocka_unit_test(test_life),        cmocka_unit_test(test_little_room),
		cmocka_unit_test(test_no_memory),   cmocka_unit_test(test_resized),
		cmocka_unit_test(test_many_layers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
