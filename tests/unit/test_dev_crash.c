/* The crash device: flushed data always survives a cut; of the rest a subset, the last survivor
 * torn. */
#include "base/err.h"
#include "check.h"
#include "imaging/dev.h"

#define SECTOR 512u
#define BLOCK  UINT64_C(4096)
#define BLOCKS 16u
#define SIZE   (BLOCKS * BLOCK)

static struct img_dev *crash(uint64_t cut_at_flush, uint64_t seed)
{
	struct img_dev *d = NULL;

	assert_int_equal(img_crash_create(&d, SIZE, cut_at_flush, seed, NULL), 0);
	return d;
}

static void put_block(struct img_dev *d, unsigned block, uint8_t value)
{
	uint8_t b[BLOCK];

	memset(b, value, sizeof(b));
	assert_int_equal(img_pwrite(d, b, sizeof(b), (uint64_t)block * BLOCK, NULL), 0);
}

/* How many of the block's sectors hold @value; every sector must be whole, @value or @other. */
static unsigned sectors_of(struct img_dev *d, unsigned block, uint8_t value, uint8_t other)
{
	uint8_t b[BLOCK];
	unsigned n = 0;

	assert_int_equal(img_pread(d, b, sizeof(b), (uint64_t)block * BLOCK, NULL), 0);
	for (unsigned s = 0; s < BLOCK; s += SECTOR) {
		assert_true(b[s] == value || b[s] == other);
		for (unsigned i = 1; i < SECTOR; i++)
			assert_int_equal(b[s + i], b[s]);
		n += b[s] == value;
	}
	return n;
}

static void reads_see_what_is_not_flushed(void **state)
{
	struct img_dev *d = crash(0, 0);
	struct img_extent e = {0};

	(void)state;
	put_block(d, 3, 1);
	assert_int_equal(sectors_of(d, 3, 1, 0), 8);
	assert_int_equal(img_zero(d, BLOCK, 3 * BLOCK, NULL), 0);
	assert_int_equal(sectors_of(d, 3, 0, 0), 8);
	assert_int_equal(img_next_extent(d, &e, 0, NULL), 0);
	assert_false(e.zero);
	img_dev_destroy(d);
}

static void flushed_data_always_survives(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 200; seed++) {
		struct img_dev *d = crash(0, 0);

		for (unsigned b = 0; b < BLOCKS; b += 2)
			put_block(d, b, 1);
		assert_int_equal(img_flush(d, NULL), 0);
		for (unsigned b = 1; b < BLOCKS; b += 2)
			put_block(d, b, 2);
		img_crash_cut(d, seed);
		for (unsigned b = 0; b < BLOCKS; b += 2)
			assert_int_equal(sectors_of(d, b, 1, 1), 8);
		img_dev_destroy(d);
	}
}

/* Over many seeds: every write survives sometimes and is lost sometimes, at most one is torn, and
 * it is the last of those that arrived. */
static void a_subset_survives_and_only_the_last_is_torn(void **state)
{
	unsigned survived[BLOCKS] = {0};
	unsigned torn_seen = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 300; seed++) {
		struct img_dev *d = crash(0, 0);
		bool torn = false;

		for (unsigned b = 0; b < BLOCKS; b++)
			put_block(d, b, 2);
		img_crash_cut(d, seed);
		for (unsigned b = 0; b < BLOCKS; b++) {
			unsigned n = sectors_of(d, b, 2, 0);

			assert_false(torn && n > 0);
			torn = torn || (n > 0 && n < 8);
			survived[b] += n > 0;
		}
		torn_seen += torn;
		img_dev_destroy(d);
	}
	assert_true(torn_seen > 100);
	for (unsigned b = 0; b < BLOCKS; b++)
		assert_true(survived[b] > 50 && survived[b] < 250);
}

static void the_same_seed_gives_the_same_disk(void **state)
{
	uint8_t first[SIZE];
	uint8_t second[SIZE];

	(void)state;
	for (unsigned turn = 0; turn < 2; turn++) {
		struct img_dev *d = crash(0, 0);

		for (unsigned b = 0; b < BLOCKS; b++)
			put_block(d, b, 2);
		img_crash_cut(d, 77);
		assert_int_equal(img_pread(d, turn == 0 ? first : second, SIZE, 0, NULL), 0);
		img_dev_destroy(d);
	}
	assert_memory_equal(first, second, SIZE);
}

/* One block written 1 (flushed), then 2, 3, 4 unflushed: any of the four may be there, by sectors.
 */
static void overwrites_keep_their_order(void **state)
{
	unsigned seen[5] = {0};

	(void)state;
	for (uint64_t seed = 0; seed < 200; seed++) {
		struct img_dev *d = crash(0, 0);
		uint8_t b[BLOCK];
		uint8_t newest = 0;

		put_block(d, 0, 1);
		assert_int_equal(img_flush(d, NULL), 0);
		for (uint8_t v = 2; v <= 4; v++)
			put_block(d, 0, v);
		img_crash_cut(d, seed);
		assert_int_equal(img_pread(d, b, sizeof(b), 0, NULL), 0);
		for (unsigned i = 0; i < BLOCK; i += SECTOR) {
			assert_true(b[i] >= 1 && b[i] <= 4);
			newest = b[i] > newest ? b[i] : newest;
		}
		seen[newest]++;
		img_dev_destroy(d);
	}
	assert_true(seen[1] > 0 && seen[2] > 0 && seen[3] > 0 && seen[4] > 0);
}

static void the_nth_flush_cuts_until_reboot(void **state)
{
	struct img_dev *d = crash(2, 5);
	struct lb_err err = {0};
	uint8_t b[1] = {0};
	struct img_extent e = {0};

	(void)state;
	put_block(d, 0, 1);
	assert_int_equal(img_flush(d, NULL), 0);
	put_block(d, 1, 2);
	assert_int_equal(img_flush(d, &err), LB_EIO);
	assert_string_equal(err.msg, "crash: power cut at flush 2");
	assert_int_equal(img_pread(d, b, 1, 0, &err), LB_EIO);
	assert_string_equal(err.msg, "crash: pread while the power is off");
	assert_int_equal(img_pwrite(d, b, 1, 0, NULL), LB_EIO);
	assert_int_equal(img_zero(d, 1, 0, NULL), LB_EIO);
	assert_int_equal(img_next_extent(d, &e, 0, NULL), LB_EIO);
	assert_int_equal(img_flush(d, NULL), LB_EIO);
	img_crash_reboot(d);
	assert_int_equal(img_crash_flushes(d), 2);
	assert_int_equal(sectors_of(d, 0, 1, 1), 8);
	(void)sectors_of(d, 1, 2, 0);
	put_block(d, 1, 3);
	assert_int_equal(img_flush(d, NULL), 0);
	img_crash_cut(d, 1);
	assert_int_equal(sectors_of(d, 1, 3, 3), 8);
	img_dev_destroy(d);
}

/* The two-block commit every store does: data, flush, mark, flush. Cut at each flush and each seed:
 * a mark that is there whole means that the data is there. */
static void a_commit_protocol_holds(void **state)
{
	(void)state;
	for (uint64_t cut_at = 1; cut_at <= 3; cut_at++) {
		for (uint64_t seed = 0; seed < 50; seed++) {
			struct img_dev *d = crash(cut_at, seed);

			put_block(d, 0, 7);
			if (img_flush(d, NULL) == 0) {
				put_block(d, 1, 9);
				(void)img_flush(d, NULL);
			}
			img_crash_reboot(d);
			if (sectors_of(d, 1, 9, 0) > 0)
				assert_int_equal(sectors_of(d, 0, 7, 7), 8);
			img_dev_destroy(d);
		}
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_see_what_is_not_flushed),
		cmocka_unit_test(flushed_data_always_survives),
		cmocka_unit_test(a_subset_survives_and_only_the_last_is_torn),
		cmocka_unit_test(the_same_seed_gives_the_same_disk),
		cmocka_unit_test(overwrites_keep_their_order),
		cmocka_unit_test(the_nth_flush_cuts_until_reboot),
		cmocka_unit_test(a_commit_protocol_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
