/* The dispatcher, RAM, fault and overlay devices, alone and stacked. */
#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "imaging/dev.h"
#include "rnd.h"

#define KIB UINT64_C(1024)
#define MIB (1024u * KIB)

static struct img_dev *mem(uint64_t bytes)
{
	struct img_dev *d = NULL;

	assert_int_equal(img_mem_create(&d, bytes, NULL), 0);
	return d;
}

static void assert_reads(struct img_dev *d, uint64_t off, uint64_t len, uint8_t value)
{
	uint8_t *got = malloc(len);

	assert_non_null(got);
	assert_int_equal(img_pread(d, got, len, off, NULL), 0);
	for (uint64_t i = 0; i < len; i++)
		if (got[i] != value)
			fail_msg("byte %llu is %u, not %u", (unsigned long long)(off + i), got[i],
				 value);
	free(got);
}

static void put(struct img_dev *d, uint64_t off, uint64_t len, uint8_t value)
{
	uint8_t *b = malloc(len);

	assert_non_null(b);
	memset(b, value, len);
	assert_int_equal(img_pwrite(d, b, len, off, NULL), 0);
	free(b);
}

static void assert_extent(struct img_dev *d, uint64_t off, uint64_t len, bool zero)
{
	struct img_extent e = {0};

	assert_int_equal(img_next_extent(d, &e, off, NULL), 0);
	assert_int_equal(e.off, off);
	assert_int_equal(e.len, len);
	assert_int_equal(e.zero, zero);
}

static void range_is_checked_without_overflow(void **state)
{
	struct img_dev *d = mem(512);
	struct img_extent e = {0};
	struct lb_err err = {0};
	uint8_t b[1] = {0};

	(void)state;
	assert_int_equal(img_pread(d, b, 1, 512, &err), LB_EINVAL);
	assert_string_equal(err.msg, "mem: range 512+1 beyond 512 bytes");
	assert_int_equal(img_pread(d, b, UINT64_MAX, 1, &err), LB_EINVAL);
	assert_int_equal(img_pwrite(d, b, 1, UINT64_MAX, &err), LB_EINVAL);
	assert_int_equal(img_zero(d, 513, 0, &err), LB_EINVAL);
	assert_int_equal(img_next_extent(d, &e, 512, &err), LB_EINVAL);
	assert_int_equal(img_pread(d, b, 0, 512, &err), 0);
	img_dev_destroy(d);
	img_dev_destroy(NULL);
}

static int bare_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	(void)d;
	(void)off;
	(void)err;
	memset(buf, 7, len);
	return 0;
}

/* A device may leave everything but pread and destroy out. */
static void missing_operations_have_a_meaning(void **state)
{
	static const struct img_dev_ops ops = {.name = "bare", .pread = bare_pread};
	struct img_dev d = {.ops = &ops, .size_bytes = 100};
	struct lb_err err = {0};
	uint8_t b[4] = {0};

	(void)state;
	assert_false(img_writable(&d));
	assert_int_equal(img_pwrite(&d, b, 4, 8, &err), LB_EDENIED);
	assert_string_equal(err.msg, "bare: write at 8 to a read-only device");
	assert_int_equal(img_zero(&d, 4, 0, &err), LB_EDENIED);
	assert_int_equal(img_flush(&d, &err), 0);
	assert_extent(&d, 60, 40, false);
}

static void mem_is_sparse(void **state)
{
	struct img_dev *d = mem(UINT64_C(1) << 40);

	(void)state;
	assert_extent(d, 0, UINT64_C(1) << 40, true);
	put(d, 3 * MIB - 1, 2, 9); /* two chunks */
	assert_extent(d, 0, 3 * MIB - 64 * KIB, true);
	assert_extent(d, 3 * MIB - 64 * KIB, 128 * KIB, false);
	assert_extent(d, 3 * MIB, 64 * KIB, false);
	assert_reads(d, 3 * MIB - 1, 2, 9);
	assert_reads(d, 3 * MIB + 1, 100 * KIB, 0);
	assert_int_equal(img_zero(d, 65 * KIB, 3 * MIB - 1 * KIB, NULL), 0);
	assert_reads(d, 3 * MIB - 64 * KIB, 128 * KIB, 0);
	assert_extent(d, 3 * MIB - 64 * KIB, 64 * KIB, false); /* part of it was zeroed: kept */
	assert_extent(d, 3 * MIB, (UINT64_C(1) << 40) - 3 * MIB, true);
	img_dev_destroy(d);
}

static void mem_end_need_not_be_a_chunk(void **state)
{
	struct img_dev *d = mem(64 * KIB + 513);

	(void)state;
	put(d, 64 * KIB, 513, 5);
	assert_reads(d, 64 * KIB, 513, 5);
	assert_extent(d, 64 * KIB, 513, false);
	assert_int_equal(img_zero(d, 513, 64 * KIB, NULL), 0);
	assert_extent(d, 0, 64 * KIB + 513, true);
	img_dev_destroy(d);
	d = mem(0);
	assert_int_equal(img_pread(d, NULL, 0, 0, NULL), 0);
	img_dev_destroy(d);
}

/* The operation under test: a copy by extents, flushed. */
static int copy_all(struct img_dev *dst, struct img_dev *src, struct lb_err *err)
{
	uint8_t block[4 * KIB];
	struct img_extent e;
	int rc = 0;

	for (uint64_t off = 0; rc == 0 && off < src->size_bytes; off += sizeof(block)) {
		rc = img_next_extent(src, &e, off, err);
		if (rc == 0 && e.zero) {
			rc = img_zero(dst, sizeof(block), off, err);
			continue;
		}
		if (rc == 0)
			rc = img_pread(src, block, sizeof(block), off, err);
		if (rc == 0)
			rc = img_pwrite(dst, block, sizeof(block), off, err);
	}
	return rc != 0 ? rc : img_flush(dst, err);
}

/* Fail operation 1, 2, ... until one run succeeds untouched. */
static void fault_hits_every_operation_once(void **state)
{
	unsigned failures = 0;

	(void)state;
	for (uint64_t n = 1;; n++) {
		struct img_dev *src = mem(128 * KIB);
		struct img_dev *dst = mem(128 * KIB);
		struct img_dev *bad = NULL;
		struct lb_err err = {0};
		int rc;

		put(src, 64 * KIB, 64 * KIB, 3);
		assert_int_equal(img_fault_create(&bad, dst, n, LB_ENOSPC, NULL), 0);
		rc = copy_all(bad, src, &err);
		if (rc != 0) {
			failures++;
			assert_int_equal(rc, LB_ENOSPC);
			assert_non_null(strstr(err.msg, "fault: injected into"));
			assert_int_equal(img_fault_count(bad), n);
		} else {
			assert_reads(dst, 64 * KIB, 64 * KIB, 3);
			assert_int_equal(img_fault_count(bad), n - 1);
		}
		img_dev_destroy(bad);
		img_dev_destroy(dst);
		img_dev_destroy(src);
		if (rc == 0)
			break;
	}
	assert_int_equal(failures, 33); /* 16 zero, 16 pwrite, 1 flush */
}

static void fault_on_the_source_counts_reads_and_extents(void **state)
{
	struct img_dev *src = mem(8 * KIB);
	struct img_dev *dst = mem(8 * KIB);
	struct img_dev *bad = NULL;

	(void)state;
	put(src, 0, 8 * KIB, 1);
	assert_int_equal(img_fault_create(&bad, src, 0, LB_EIO, NULL), 0);
	assert_int_equal(copy_all(dst, bad, NULL), 0);
	assert_int_equal(img_fault_count(bad), 4);
	img_dev_destroy(bad);
	img_dev_destroy(dst);
	img_dev_destroy(src);
}

static void overlay_leaves_the_lower_alone(void **state)
{
	struct img_dev *lower = mem(256 * KIB);
	struct img_dev *upper = mem(256 * KIB);
	struct img_dev *o = NULL;

	(void)state;
	put(lower, 0, 64 * KIB, 1);
	assert_int_equal(img_overlay_create(&o, lower, upper, NULL), 0);
	put(o, 4096 + 100, 8192, 2); /* head and tail are part of a block */
	assert_reads(o, 0, 4096 + 100, 1);
	assert_reads(o, 4096 + 100, 8192, 2);
	assert_reads(o, 4096 + 100 + 8192, 40 * KIB, 1);
	assert_reads(lower, 0, 64 * KIB, 1);
	assert_int_equal(img_zero(o, 64 * KIB - 10, 0, NULL), 0);
	assert_reads(o, 0, 64 * KIB - 10, 0);
	assert_reads(o, 64 * KIB - 10, 10, 1);
	assert_reads(lower, 0, 64 * KIB, 1);
	assert_int_equal(img_flush(o, NULL), 0);
	img_dev_destroy(o);
	img_dev_destroy(upper);
	img_dev_destroy(lower);
}

static void overlay_extents_follow_the_source(void **state)
{
	struct img_dev *lower = mem(256 * KIB);
	struct img_dev *upper = mem(512 * KIB);
	struct img_dev *o = NULL;

	(void)state;
	put(lower, 0, 64 * KIB, 1);
	assert_int_equal(img_overlay_create(&o, lower, upper, NULL), 0);
	assert_extent(o, 0, 64 * KIB, false);
	assert_extent(o, 64 * KIB, 192 * KIB, true);
	put(o, 128 * KIB, 4096, 2);
	assert_extent(o, 64 * KIB, 64 * KIB, true);
	assert_extent(o, 128 * KIB, 4096, false);
	assert_extent(o, 132 * KIB, 124 * KIB, true);
	assert_int_equal(img_zero(o, 64 * KIB, 0, NULL), 0);
	assert_extent(o, 0, 64 * KIB, true); /* hidden data of the lower does not show */
	img_dev_destroy(o);
	img_dev_destroy(upper);
	img_dev_destroy(lower);
}

static void overlay_is_stored_and_loaded(void **state)
{
	struct img_dev *lower = mem(64 * KIB + 512); /* 17 blocks, 3 bytes */
	struct img_dev *upper = mem(64 * KIB + 512);
	struct img_dev *o = NULL;
	struct lb_err err = {0};
	uint8_t map[3] = {0};
	uint8_t bad[3] = {0, 0, 2};

	(void)state;
	put(lower, 0, 64 * KIB + 512, 1);
	assert_int_equal(img_overlay_create(&o, lower, upper, NULL), 0);
	assert_int_equal(img_overlay_bitmap_bytes(o), 3);
	put(o, 0, 1, 2);
	put(o, 64 * KIB, 512, 2); /* the short last block as a whole */
	img_overlay_save(o, map);
	check_hex(map, 3, "010001");
	img_dev_destroy(o);
	assert_int_equal(img_overlay_create(&o, lower, upper, NULL), 0);
	assert_reads(o, 64 * KIB, 512, 1);
	assert_int_equal(img_overlay_load(o, map, 2, &err), LB_EINPUT);
	assert_int_equal(img_overlay_load(o, bad, 3, &err), LB_EINPUT);
	assert_int_equal(img_overlay_load(o, map, 3, &err), 0);
	assert_reads(o, 0, 1, 2);
	assert_reads(o, 1, 4095, 1);
	assert_reads(o, 64 * KIB, 512, 2);
	img_dev_destroy(o);
	img_dev_destroy(upper);
	img_dev_destroy(lower);
}

static void overlay_refuses_an_unfit_upper(void **state)
{
	struct img_dev *lower = mem(8 * KIB);
	struct img_dev *small = mem(4 * KIB);
	struct img_dev *o = NULL;
	struct lb_err err = {0};
	static const struct img_dev_ops ro = {.name = "bare", .pread = bare_pread};
	struct img_dev bare = {.ops = &ro, .size_bytes = 8 * KIB};

	(void)state;
	assert_int_equal(img_overlay_create(&o, lower, small, &err), LB_EINPUT);
	assert_int_equal(img_overlay_create(&o, lower, &bare, &err), LB_EDENIED);
	assert_null(o);
	img_dev_destroy(small);
	img_dev_destroy(lower);
}

/* Random writes and zeros through an overlay against a flat copy. */
static void overlay_equals_a_flat_disk(void **state)
{
	enum {
		SIZE = 96 * 1024 + 700
	};
	static uint8_t flat[SIZE];
	static uint8_t got[SIZE];
	struct img_dev *lower = mem(SIZE);
	struct img_dev *upper = mem(SIZE);
	struct img_dev *o = NULL;
	uint64_t rnd = 42;

	(void)state;
	rnd_fill(&rnd, flat, SIZE);
	assert_int_equal(img_pwrite(lower, flat, SIZE, 0, NULL), 0);
	assert_int_equal(img_overlay_create(&o, lower, upper, NULL), 0);
	for (unsigned i = 0; i < 500; i++) {
		uint64_t off = rnd_below(&rnd, SIZE);
		uint64_t max = SIZE - off < 20000 ? SIZE - off : 20000;
		uint64_t len = rnd_below(&rnd, max + 1);

		if (rnd_below(&rnd, 3) == 0) {
			memset(flat + off, 0, len);
			assert_int_equal(img_zero(o, len, off, NULL), 0);
		} else {
			rnd_fill(&rnd, flat + off, len);
			assert_int_equal(img_pwrite(o, flat + off, len, off, NULL), 0);
		}
		assert_int_equal(img_pread(o, got, SIZE, 0, NULL), 0);
		assert_memory_equal(got, flat, SIZE);
	}
	img_dev_destroy(o);
	img_dev_destroy(upper);
	img_dev_destroy(lower);
}

/* Bytes 4000..8299 of a block run in three pieces: bring up, write, for head, middle and tail. */
static int write_over(struct img_dev *o, struct lb_err *err)
{
	uint8_t b[8492];

	memset(b, 2, sizeof(b));
	return img_pwrite(o, b, sizeof(b), 4000, err);
}

/* Overlay over fault over mem, and overlay whose upper faults: every nth failure comes out, and
 * what is then read is the old or the new byte of each place, never anything else. */
static void overlay_over_faults(bool in_upper, unsigned expected)
{
	unsigned failures = 0;

	for (uint64_t n = 1;; n++) {
		struct img_dev *lower = mem(16 * KIB);
		struct img_dev *upper = mem(16 * KIB);
		struct img_dev *bad = NULL;
		struct img_dev *o = NULL;
		struct lb_err err = {0};
		uint8_t got[16 * KIB];
		int rc;

		put(lower, 0, 16 * KIB, 1);
		assert_int_equal(img_fault_create(&bad, in_upper ? upper : lower, n, LB_EIO, NULL),
				 0);
		assert_int_equal(img_overlay_create(&o, in_upper ? lower : bad,
						    in_upper ? bad : upper, NULL),
				 0);
		rc = write_over(o, &err);
		if (rc != 0) {
			failures++;
			assert_int_equal(rc, LB_EIO);
			assert_non_null(strstr(err.msg, "injected"));
		}
		/* when the write needed fewer operations, the fault is still to come, once */
		if (img_pread(o, got, sizeof(got), 0, NULL) != 0)
			assert_int_equal(img_pread(o, got, sizeof(got), 0, NULL), 0);
		for (unsigned i = 0; i < sizeof(got); i++) {
			bool inside = i >= 4000 && i < 4000 + 8492;

			assert_true(got[i] == 1 || (inside && got[i] == 2));
			if (rc == 0 && inside)
				assert_int_equal(got[i], 2);
		}
		img_dev_destroy(o);
		img_dev_destroy(bad);
		img_dev_destroy(upper);
		img_dev_destroy(lower);
		if (rc == 0)
			break;
	}
	assert_int_equal(failures, expected);
}

static void overlay_survives_every_fault_below(void **state)
{
	(void)state;
	overlay_over_faults(false, 2); /* bring up head and tail */
}

static void overlay_survives_every_fault_above(void **state)
{
	(void)state;
	overlay_over_faults(true, 3); /* write head, middle, tail */
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(range_is_checked_without_overflow),
		cmocka_unit_test(missing_operations_have_a_meaning),
		cmocka_unit_test(mem_is_sparse),
		cmocka_unit_test(mem_end_need_not_be_a_chunk),
		cmocka_unit_test(fault_hits_every_operation_once),
		cmocka_unit_test(fault_on_the_source_counts_reads_and_extents),
		cmocka_unit_test(overlay_leaves_the_lower_alone),
		cmocka_unit_test(overlay_extents_follow_the_source),
		cmocka_unit_test(overlay_is_stored_and_loaded),
		cmocka_unit_test(overlay_refuses_an_unfit_upper),
		cmocka_unit_test(overlay_equals_a_flat_disk),
		cmocka_unit_test(overlay_survives_every_fault_below),
		cmocka_unit_test(overlay_survives_every_fault_above),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
