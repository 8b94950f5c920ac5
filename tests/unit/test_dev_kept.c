/* The overlay of a booted machine after crashes at any point. */
#include <stdlib.h>

#include "base/err.h"
#include "base/id.h"
#include "check.h"
#include "imaging/dev.h"

#define SIZE  (UINT64_C(40) << 20) /* its bitmap is more than one page long */
#define BLOCK 4096u

static const struct lb_hash point = {{1, 2, 3}}, other = {{9}};

struct rig {
	struct img_dev *lower, *upper, *map;
};

static void rig_make(struct rig *r)
{
	uint8_t block[BLOCK];

	assert_int_equal(img_mem_create(&r->lower, SIZE * 4, NULL), 0);
	assert_int_equal(img_crash_create(&r->upper, SIZE * 4, 0, 1, NULL), 0);
	assert_int_equal(img_crash_create(&r->map, img_kept_map_bytes(SIZE * 4), 0, 2, NULL), 0);
	memset(block, 'L', sizeof(block));
	for (uint64_t b = 0; b < 64; b++)
		assert_int_equal(img_pwrite(r->lower, block, BLOCK, b * BLOCK, NULL), 0);
}

static void rig_drop(struct rig *r)
{
	img_dev_destroy(r->map);
	img_dev_destroy(r->upper);
	img_dev_destroy(r->lower);
}

static struct img_dev *kept(struct rig *r)
{
	struct img_dev *d = NULL;

	assert_int_equal(img_kept_create(&d, r->lower, r->upper, r->map, &point, NULL), 0);
	return d;
}

static void put(struct img_dev *d, uint64_t b, int c)
{
	uint8_t block[BLOCK];

	memset(block, c, sizeof(block));
	assert_int_equal(img_pwrite(d, block, BLOCK, b * BLOCK, NULL), 0);
}

static int get(struct img_dev *d, uint64_t b)
{
	uint8_t block[BLOCK];

	assert_int_equal(img_pread(d, block, BLOCK, b * BLOCK, NULL), 0);
	for (unsigned i = 1; i < BLOCK; i++)
		assert_int_equal(block[i], block[0]);
	return block[0];
}

static void test_flushed_writes_are_there_again(void **state)
{
	struct rig r;
	struct img_dev *d;

	(void)state;
	rig_make(&r);
	d = kept(&r);
	put(d, 3, 'A');
	put(d, SIZE * 4 / BLOCK - 1, 'Z'); /* in the map's last page */
	assert_int_equal(img_flush(d, NULL), 0);
	img_dev_destroy(d);
	img_crash_cut(r.upper, 5);
	img_crash_cut(r.map, 6);
	d = kept(&r);
	assert_int_equal(get(d, 3), 'A');
	assert_int_equal(get(d, SIZE * 4 / BLOCK - 1), 'Z');
	assert_int_equal(get(d, 4), 'L');
	img_dev_destroy(d);
	rig_drop(&r);
}

/* What was flushed is never lost, and nothing ever reads as bytes that nobody wrote. Overwritten
 * blocks that were flushed before may show either version, as on a disk. */
static void test_power_cuts(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct rig r;
		struct img_dev *d;

		rig_make(&r);
		d = kept(&r);
		for (uint64_t b = 0; b < 20; b++)
			put(d, b, 'A');
		assert_int_equal(img_flush(d, NULL), 0);
		for (uint64_t b = 20; b < 40; b++)
			put(d, b, 'B');
		img_dev_destroy(d);
		img_crash_cut(r.upper, seed);
		img_crash_cut(r.map, seed + 1000);
		d = kept(&r);
		for (uint64_t b = 0; b < 20; b++)
			assert_int_equal(get(d, b), 'A');
		for (uint64_t b = 20; b < 40; b++)
			assert_int_equal(get(d, b), 'L'); /* never flushed, so not in the map */
		img_dev_destroy(d);
		rig_drop(&r);
	}
}

/* The power goes inside a flush of the upper device: the map must not name what is not there. */
static void test_cut_inside_a_flush(void **state)
{
	struct rig r;
	struct img_dev *d, *upper = NULL;

	(void)state;
	rig_make(&r);
	assert_int_equal(img_crash_create(&upper, SIZE * 4, 2, 7, NULL), 0);
	img_dev_destroy(r.upper);
	r.upper = upper;
	d = kept(&r);
	put(d, 1, 'A');
	assert_int_equal(img_flush(d, NULL), 0);
	put(d, 2, 'B');
	assert_int_not_equal(img_flush(d, NULL), 0);
	img_dev_destroy(d);
	img_crash_reboot(r.upper);
	d = kept(&r);
	assert_int_equal(get(d, 1), 'A');
	assert_int_equal(get(d, 2), 'L');
	img_dev_destroy(d);
	rig_drop(&r);
}

static void test_refusals(void **state)
{
	struct rig r;
	struct img_dev *d = NULL, *small = NULL;
	uint8_t byte = 0xff;

	(void)state;
	rig_make(&r);
	d = kept(&r);
	img_dev_destroy(d);
	assert_int_equal(img_kept_create(&d, r.lower, r.upper, r.map, &other, NULL), LB_EINPUT);
	assert_int_equal(img_pwrite(r.map, &byte, 1, 20, NULL), 0);
	assert_int_equal(img_kept_create(&d, r.lower, r.upper, r.map, &point, NULL), LB_ECORRUPT);
	assert_int_equal(img_mem_create(&small, 8192, NULL), 0);
	assert_int_equal(img_kept_create(&d, r.lower, r.upper, small, &point, NULL), LB_EINPUT);
	img_dev_destroy(small);
	rig_drop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flushed_writes_are_there_again),
		cmocka_unit_test(test_power_cuts),
		cmocka_unit_test(test_cut_inside_a_flush),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
