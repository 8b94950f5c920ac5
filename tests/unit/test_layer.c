#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "format_fix.h"
#include "replicator/layer.h"

static void test_header_round_trip(void **state)
{
	struct lb_err err = {0};
	struct rep_layer_header h = fix_layer_header();
	struct rep_layer_header got;
	uint8_t first[REP_LAYER_HEADER_BYTES];
	uint8_t second[REP_LAYER_HEADER_BYTES];

	(void)state;
	for (int full = 0; full < 2; full++) {
		h.full = full == 1;
		h.base = fix_hash(full == 1 ? 0 : 0xba);
		rep_layer_header_encode(first, &h);
		assert_int_equal(rep_layer_header_decode(&got, first, sizeof(first), &err), 0);
		assert_int_equal(got.full, h.full);
		assert_int_equal(got.seq, h.seq);
		assert_true(lb_id_equal(&got.volume, &h.volume));
		rep_layer_header_encode(second, &got);
		assert_memory_equal(first, second, sizeof(first));
		assert_int_equal(rep_layer_header_decode(&got, first, sizeof(first) - 1, &err),
				 LB_ECORRUPT);
	}
}

static const struct rep_run good_runs[] = {
	{.block = 0, .count = 16, .kind = REP_RUN_DATA, .pack = 0, .pos = 0},
	{.block = 16, .count = 1, .kind = REP_RUN_DATA, .pack = 1, .pos = 15},
	{.block = 20, .count = 900, .kind = REP_RUN_ZERO},
	{.block = 1000, .count = 3, .kind = REP_RUN_REF, .pack = 9, .pos = 61, .src = 1},
	{.block = 1023,
	 .count = 1,
	 .kind = REP_RUN_PATCH,
	 .pack = 3,
	 .pos = 2,
	 .src = 0,
	 .patch_pack = 1,
	 .patch_pos = 65535,
	 .patch_bytes = 1},
};
#define GOOD_RUNS (sizeof(good_runs) / sizeof(good_runs[0]))

static void test_index_round_trip(void **state)
{
	struct lb_err err = {0};
	struct rep_layer_header h = fix_layer_header();
	struct lb_id sources[2] = {fix_id(0x71), fix_id(0x72)};
	uint8_t first[512];
	uint8_t second[512];
	struct rep_index x;
	struct rep_run runs[GOOD_RUNS];
	struct lb_id ids[2];

	(void)state;
	size_t n = rep_index_encode(first, sizeof(first), 4, good_runs, GOOD_RUNS, sources, 2);
	assert_int_equal(n, rep_index_bytes(GOOD_RUNS, 2));
	if (rep_index_decode(&x, first, n, &h, &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(x.number, 4);
	assert_int_equal(x.count, GOOD_RUNS);
	for (uint32_t i = 0; i < GOOD_RUNS; i++)
		rep_index_run(&runs[i], &x, i);
	for (uint32_t i = 0; i < 2; i++)
		rep_index_source(&ids[i], &x, i);
	assert_int_equal(runs[3].pos, 61);
	assert_int_equal(runs[4].patch_pos, 65535);
	assert_int_equal(rep_index_encode(second, sizeof(second), 4, runs, GOOD_RUNS, ids, 2), n);
	assert_memory_equal(first, second, n);

	n = rep_index_encode(first, sizeof(first), 0, NULL, 0, NULL, 0);
	assert_int_equal(rep_index_decode(&x, first, n, &h, &err), 0);
	assert_int_equal(x.count, 0);
}

static void test_leaves_round_trip(void **state)
{
	struct lb_err err = {0};
	struct lb_hash *leaves = calloc(REP_LEAVES_MAX, sizeof(*leaves));
	struct lb_hash *got = calloc(REP_LEAVES_MAX, sizeof(*got));
	size_t cap = rep_leaves_bytes(REP_LEAVES_MAX);
	uint8_t *part = malloc(cap);
	uint32_t n = 0;
	uint32_t number = 0;

	(void)state;
	assert_true(leaves != NULL && got != NULL && part != NULL);
	for (unsigned i = 0; i < REP_LEAVES_MAX; i++)
		leaves[i] = fix_hash(i & 0xff);
	size_t len = rep_leaves_encode(part, cap, 3, leaves, REP_LEAVES_MAX);
	assert_int_equal(len, cap);
	assert_true(len <= REP_RECORD_MAX);
	assert_int_equal(rep_leaves_decode(got, &n, &number, part, len, &err), 0);
	assert_int_equal(n, REP_LEAVES_MAX);
	assert_int_equal(number, 3);
	assert_memory_equal(got, leaves, REP_LEAVES_MAX * sizeof(*got));
	assert_int_equal(rep_leaves_decode(got, &n, &number, part, len - 1, &err), LB_ECORRUPT);
	free(part);
	free(got);
	free(leaves);
}

static void test_footer_round_trip(void **state)
{
	struct lb_err err = {0};
	struct rep_footer f = {.layer = fix_id(0x66),
			       .packs = 8000,
			       .digest_parts = 1,
			       .index_parts = 2,
			       .leaf_parts = 2,
			       .bytes = UINT64_C(1) << 20,
			       .data_blocks = 9000,
			       .zero_blocks = 1,
			       .ref_blocks = 2,
			       .patch_blocks = 3,
			       .root = fix_hash(1)};
	struct rep_footer got;
	uint8_t first[REP_FOOTER_BYTES];
	uint8_t second[REP_FOOTER_BYTES];

	(void)state;
	rep_footer_encode(first, &f);
	if (rep_footer_decode(&got, first, sizeof(first), &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(got.patch_blocks, 3);
	rep_footer_encode(second, &got);
	assert_memory_equal(first, second, sizeof(first));
	assert_int_equal(rep_footer_leaves(&got), 8004);
}

/* Every count and every leaf changes the root: nothing can be dropped unseen. */
static void test_root_binds_counts_and_leaves(void **state)
{
	struct lb_hash leaves[5];
	struct rep_footer f = {.packs = 2, .digest_parts = 1, .index_parts = 1, .bytes = 4096};
	struct lb_hash root;
	struct lb_hash other;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		leaves[i] = fix_hash(i);
	rep_layer_root(&root, &f, leaves);
	struct rep_footer g = f;
	g.bytes++;
	rep_layer_root(&other, &g, leaves);
	assert_false(lb_hash_equal(&root, &other));
	g = f; /* the same number of leaves, divided in another way */
	g.packs = 3;
	g.digest_parts = 0;
	rep_layer_root(&other, &g, leaves);
	assert_false(lb_hash_equal(&root, &other));
	for (unsigned i = 0; i < 5; i++) {
		leaves[i].b[31] ^= 1;
		rep_layer_root(&other, &f, leaves);
		assert_false(lb_hash_equal(&root, &other));
		leaves[i].b[31] ^= 1;
	}
	rep_layer_root(&other, &f, leaves);
	assert_true(lb_hash_equal(&root, &other));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_round_trip),
		cmocka_unit_test(test_index_round_trip),
		cmocka_unit_test(test_leaves_round_trip),
		cmocka_unit_test(test_footer_round_trip),
		cmocka_unit_test(test_root_binds_counts_and_leaves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
