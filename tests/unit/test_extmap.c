/* extmap against a naive model: one cell per block, seeded random inserts, removes and finds. */
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "imaging/extmap.h"
#include "rnd.h"

#define BLOCKS 256u
#define OPS    10000u

struct model {
	bool set[BLOCKS];
	uint64_t value[BLOCKS];
};

static void model_insert(struct model *m, uint64_t start, uint64_t count, uint64_t value, bool adv)
{
	for (uint64_t i = 0; i < count; i++) {
		m->set[start + i] = true;
		m->value[start + i] = adv ? value + i : value;
	}
}

static void model_remove(struct model *m, uint64_t start, uint64_t count)
{
	memset(m->set + start, 0, count * sizeof(*m->set));
}

/* How many maximal runs the model has: the map must have exactly these. */
static size_t model_runs(const struct model *m, bool adv)
{
	size_t n = 0;

	for (unsigned b = 0; b < BLOCKS; b++) {
		bool joins =
			b > 0 && m->set[b - 1] && m->value[b] == m->value[b - 1] + (adv ? 1 : 0);
		n += m->set[b] && !joins;
	}
	return n;
}

static void check_find(const struct img_extmap *map, const struct model *m, unsigned block)
{
	struct img_run r;
	unsigned b = block;

	while (b < BLOCKS && !m->set[b])
		b++;
	if (b == BLOCKS) {
		assert_false(img_extmap_find(map, block, &r));
		return;
	}
	assert_true(img_extmap_find(map, block, &r));
	assert_int_equal(r.start, b);
	assert_int_equal(r.value, m->value[b]);
	assert_true(r.count > 0);
}

static void check_equal(const struct img_extmap *map, const struct model *m, bool adv)
{
	const struct img_run *runs = img_extmap_runs(map);
	uint64_t end = 0;
	uint64_t blocks = 0;
	struct model seen = {0};

	for (size_t i = 0; i < img_extmap_count(map); i++) {
		assert_true(runs[i].count > 0);
		assert_true(runs[i].start >= end);
		end = runs[i].start + runs[i].count;
		assert_true(end <= BLOCKS);
		model_insert(&seen, runs[i].start, runs[i].count, runs[i].value, adv);
		blocks += runs[i].count;
	}
	for (unsigned b = 0; b < BLOCKS; b++) {
		assert_int_equal(seen.set[b], m->set[b]);
		if (seen.set[b])
			assert_int_equal(seen.value[b], m->value[b]);
	}
	assert_int_equal(img_extmap_blocks(map), blocks);
	assert_int_equal(img_extmap_count(map), model_runs(m, adv));
}

static void follows_the_model(uint64_t seed, bool adv)
{
	struct img_extmap *map = NULL;
	struct model m = {0};
	uint64_t rnd = seed;

	assert_int_equal(img_extmap_create(&map, adv, BLOCKS, NULL), 0);
	for (unsigned op = 0; op < OPS; op++) {
		uint64_t start = rnd_u64(&rnd) % BLOCKS;
		uint64_t count = rnd_u64(&rnd) % (BLOCKS - start < 24 ? BLOCKS - start + 1 : 24);
		/* few values, near the block number, so that neighbours often continue each other
		 */
		uint64_t value = (adv ? start : 0) + rnd_u64(&rnd) % 3;

		if (rnd_u64(&rnd) % 3 != 0) {
			assert_int_equal(img_extmap_insert(map, start, count, value, NULL), 0);
			model_insert(&m, start, count, value, adv);
		} else {
			assert_int_equal(img_extmap_remove(map, start, count, NULL), 0);
			model_remove(&m, start, count);
		}
		check_find(map, &m, (unsigned)(rnd_u64(&rnd) % BLOCKS));
		check_equal(map, &m, adv);
	}
	img_extmap_destroy(map);
}

static void random_ops_with_advancing_values(void **state)
{
	(void)state;
	follows_the_model(1, true);
}

static void random_ops_with_constant_values(void **state)
{
	(void)state;
	follows_the_model(2, false);
}

static void a_bulk_load_in_order_merges(void **state)
{
	struct img_extmap *map = NULL;

	(void)state;
	assert_int_equal(img_extmap_create(&map, true, 2, NULL), 0);
	for (uint64_t b = 0; b < 1000; b++)
		assert_int_equal(img_extmap_insert(map, b, 1, 7000 + b, NULL), 0);
	assert_int_equal(img_extmap_count(map), 1);
	assert_int_equal(img_extmap_blocks(map), 1000);
	img_extmap_clear(map);
	assert_int_equal(img_extmap_count(map), 0);
	assert_int_equal(img_extmap_blocks(map), 0);
	img_extmap_destroy(map);
}

static void find_trims_to_the_block(void **state)
{
	struct img_extmap *map = NULL;
	struct img_run r = {0};

	(void)state;
	assert_int_equal(img_extmap_create(&map, true, 4, NULL), 0);
	assert_false(img_extmap_find(map, 0, &r));
	assert_int_equal(img_extmap_insert(map, 10, 10, 100, NULL), 0);
	assert_true(img_extmap_find(map, 13, &r));
	assert_int_equal(r.start, 13);
	assert_int_equal(r.count, 7);
	assert_int_equal(r.value, 103);
	assert_true(img_extmap_find(map, 0, &r));
	assert_int_equal(r.start, 10);
	assert_false(img_extmap_find(map, 20, &r));
	img_extmap_destroy(map);
}

static void the_bound_holds_and_changes_nothing(void **state)
{
	struct img_extmap *map = NULL;
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(img_extmap_create(&map, false, 2, NULL), 0);
	assert_int_equal(img_extmap_insert(map, 0, 10, 1, NULL), 0);
	assert_int_equal(img_extmap_insert(map, 20, 10, 2, NULL), 0);
	assert_int_equal(img_extmap_insert(map, 40, 1, 3, &err), LB_ENOMEM);
	assert_string_equal(err.msg, "extmap: more than 2 runs");
	assert_int_equal(img_extmap_insert(map, 4, 1, 9, &err), LB_ENOMEM);
	assert_int_equal(img_extmap_remove(map, 4, 1, &err), LB_ENOMEM);
	assert_int_equal(img_extmap_count(map), 2);
	assert_int_equal(img_extmap_blocks(map), 20);
	/* what needs no new run still works at the bound */
	assert_int_equal(img_extmap_insert(map, 5, 20, 2, NULL), 0);
	assert_int_equal(img_extmap_count(map), 2);
	assert_int_equal(img_extmap_blocks(map), 30);
	img_extmap_destroy(map);
}

static void wrapping_ranges_are_refused(void **state)
{
	struct img_extmap *map = NULL;

	(void)state;
	assert_int_equal(img_extmap_create(&map, true, 8, NULL), 0);
	assert_int_equal(img_extmap_insert(map, UINT64_MAX, 2, 0, NULL), LB_EINVAL);
	assert_int_equal(img_extmap_insert(map, 0, 2, UINT64_MAX, NULL), LB_EINVAL);
	assert_int_equal(img_extmap_remove(map, 1, UINT64_MAX, NULL), LB_EINVAL);
	assert_int_equal(img_extmap_insert(map, UINT64_MAX - 2, 2, 0, NULL), 0);
	assert_int_equal(img_extmap_remove(map, 0, UINT64_MAX, NULL), 0);
	assert_int_equal(img_extmap_count(map), 0);
	img_extmap_destroy(map);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_ops_with_advancing_values),
		cmocka_unit_test(random_ops_with_constant_values),
		cmocka_unit_test(a_bulk_load_in_order_merges),
		cmocka_unit_test(find_trims_to_the_block),
		cmocka_unit_test(the_bound_holds_and_changes_nothing),
		cmocka_unit_test(wrapping_ranges_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
