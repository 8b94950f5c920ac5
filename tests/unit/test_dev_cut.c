#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "gate_dev.h"
#include "imaging/cut.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"

#define BLOCK  UINT64_C(4096)
#define BLOCKS UINT64_C(256)
#define SIZE   (BLOCKS * BLOCK + 512) /* the last block is short */
#define REGION (16 * BLOCK)

struct fix {
	struct img_dev *disk, *side, *log, *cut;
	struct gate_dev gate;
};

static void open_cut(struct fix *f, uint64_t region, struct img_dev *side)
{
	struct img_cut_cfg cfg = {
		.lower = &f->gate.dev,
		.side = side,
		.log = f->log,
		.region_bytes = region,
	};
	struct lb_err err = {0};

	if (img_cut_create(&f->cut, &cfg, &err) != 0)
		fail_msg("%s", err.msg);
}

static void fix_init(struct fix *f, uint64_t side_blocks)
{
	*f = (struct fix){0};
	assert_int_equal(img_mem_create(&f->disk, SIZE, NULL), 0);
	assert_int_equal(img_mem_create(&f->side, side_blocks * BLOCK, NULL), 0);
	assert_int_equal(img_mem_create(&f->log, img_cut_log_bytes(SIZE, REGION), NULL), 0);
	gate_dev_init(&f->gate, f->disk, true);
	open_cut(f, REGION, f->side);
}

static void reopen(struct fix *f)
{
	img_dev_destroy(f->cut);
	open_cut(f, REGION, f->side);
}

static void fix_fini(struct fix *f)
{
	img_dev_destroy(f->cut);
	gate_dev_fini(&f->gate);
	img_dev_destroy(f->log);
	img_dev_destroy(f->side);
	img_dev_destroy(f->disk);
}

static void put(struct fix *f, uint64_t block, uint64_t count, uint8_t v)
{
	uint8_t *b = malloc(count * BLOCK);

	assert_non_null(b);
	memset(b, v, count * BLOCK);
	assert_int_equal(img_pwrite(f->cut, b, count * BLOCK, block * BLOCK, NULL), 0);
	free(b);
}

static uint8_t get(struct img_dev *d, uint64_t block)
{
	uint8_t b[BLOCK];

	assert_int_equal(img_pread(d, b, sizeof(b), block * BLOCK, NULL), 0);
	for (unsigned i = 1; i < BLOCK; i++)
		assert_int_equal(b[i], b[0]);
	return b[0];
}

static struct img_dev *mark(struct fix *f)
{
	struct img_dev *view;

	assert_int_equal(img_cut_mark(f->cut, NULL), 0);
	assert_int_equal(img_cut_view(f->cut, &view, NULL), 0);
	return view;
}

/* Is exactly [@from, +@count) named? */
static void assert_changed(struct fix *f, uint64_t from, uint64_t count)
{
	const struct img_extmap *m;
	struct img_run r;

	assert_int_equal(img_cut_changed(f->cut, &m, NULL), 0);
	assert_non_null(m);
	assert_int_equal(img_extmap_blocks(m), count);
	if (count == 0)
		return;
	assert_true(img_extmap_find(m, from, &r));
	assert_int_equal(r.start, from);
	assert_int_equal(r.count, count);
}

static bool all_changed(struct fix *f)
{
	const struct img_extmap *m;

	assert_int_equal(img_cut_changed(f->cut, &m, NULL), 0);
	return m == NULL;
}

static void keep(struct fix *f)
{
	assert_int_equal(img_cut_check(f->cut, NULL), 0);
	img_cut_release(f->cut, true, NULL);
}

static void test_view(void **state)
{
	struct fix f;
	struct img_dev *view;
	struct img_extent e;
	uint8_t part[700], tail[512];

	(void)state;
	fix_init(&f, 64);
	put(&f, 3, 4, 1);
	view = mark(&f);
	assert_false(img_writable(view));
	assert_int_equal(view->size_bytes, SIZE);
	put(&f, 4, 1, 2);
	put(&f, 4, 1, 3); /* only the first one moves the old block */
	memset(part, 9, sizeof(part));
	assert_int_equal(img_pwrite(f.cut, part, sizeof(part), 6 * BLOCK - 100, NULL), 0);
	assert_int_equal(img_zero(f.cut, BLOCK, 3 * BLOCK, NULL), 0);
	memset(tail, 8, sizeof(tail));
	assert_int_equal(img_pwrite(f.cut, tail, sizeof(tail), BLOCKS * BLOCK, NULL), 0);
	for (uint64_t b = 0; b < 8; b++)
		assert_int_equal(get(view, b), b >= 3 && b < 7);
	assert_int_equal(img_pread(view, part, sizeof(part), 6 * BLOCK - 350, NULL), 0);
	for (unsigned i = 0; i < sizeof(part); i++)
		assert_int_equal(part[i], 1);
	assert_int_equal(img_pread(view, tail, sizeof(tail), BLOCKS * BLOCK, NULL), 0);
	assert_int_equal(tail[0] | tail[511], 0);
	assert_int_equal(get(f.cut, 4), 3);
	assert_int_equal(get(f.cut, 3), 0);

	assert_int_equal(img_next_extent(view, &e, 3 * BLOCK + 5, NULL), 0);
	assert_int_equal(e.len, BLOCK - 5);
	assert_false(e.zero);
	assert_int_equal(img_next_extent(view, &e, 7 * BLOCK, NULL), 0);
	assert_int_equal(e.off + e.len, BLOCKS * BLOCK);
	assert_int_equal(img_next_extent(view, &e, BLOCKS * BLOCK, NULL), 0);
	assert_int_equal(e.len, 512);
	keep(&f);
	assert_int_equal(img_cut_view(f.cut, &view, NULL), LB_ECLOSED);
	assert_int_equal(img_cut_check(f.cut, NULL), LB_ECLOSED);
	img_cut_release(f.cut, true, NULL); /* nothing */
	fix_fini(&f);
}

static void test_changed(void **state)
{
	struct fix f;
	struct img_cut_stats st;

	(void)state;
	fix_init(&f, 64);
	put(&f, 10, 2, 1);
	(void)mark(&f);
	assert_int_equal(img_cut_mark(f.cut, NULL), LB_EBUSY);
	assert_true(all_changed(&f)); /* there never was a kept one */
	keep(&f);
	(void)mark(&f);
	assert_changed(&f, 0, 0);
	put(&f, 20, 3, 2);
	assert_changed(&f, 0, 0); /* belongs to the next */
	keep(&f);
	(void)mark(&f);
	assert_changed(&f, 20, 3);
	put(&f, 23, 2, 2);
	img_cut_release(f.cut, false, NULL); /* given back: counts on */
	put(&f, 25, 1, 2);
	img_cut_stats(f.cut, &st);
	assert_int_equal(st.changed_blocks, 6);
	(void)mark(&f);
	assert_changed(&f, 20, 6);
	keep(&f);
	(void)mark(&f);
	assert_changed(&f, 0, 0);
	keep(&f);
	assert_int_equal(img_pwrite(f.cut, "x", 1, SIZE - 1, NULL), 0);
	(void)mark(&f);
	assert_changed(&f, BLOCKS, 1);
	keep(&f);
	fix_fini(&f);
}

/* The side is full, or fails, or the disk cannot be read: the cut is lost, never the write. */
static void test_given_up(void **state)
{
	struct fix f;
	struct img_dev *view, *fault;
	struct lb_err err = {0};
	uint8_t b[BLOCK];

	(void)state;
	fix_init(&f, 4);
	put(&f, 0, 8, 1);
	view = mark(&f);
	put(&f, 0, 4, 2);
	assert_int_equal(get(view, 3), 1);
	assert_int_equal(img_cut_check(f.cut, NULL), 0);
	put(&f, 2, 3, 3); /* one more than there is room for */
	assert_int_equal(get(f.cut, 4), 3);
	assert_int_equal(img_cut_check(f.cut, &err), LB_ECHANGED);
	assert_non_null(strstr(err.msg, "no room"));
	assert_int_equal(img_pread(view, b, BLOCK, 0, NULL), LB_ECHANGED);
	put(&f, 6, 1, 4);
	img_cut_release(f.cut, false, NULL);
	view = mark(&f); /* the next one is whole again */
	put(&f, 0, 4, 5);
	assert_int_equal(get(view, 0), 2);
	assert_int_equal(get(view, 6), 4);
	img_cut_release(f.cut, false, NULL);

	assert_int_equal(img_fault_create(&fault, f.side, 1, LB_EIO, NULL), 0);
	img_dev_destroy(f.cut);
	open_cut(&f, REGION, fault);
	view = mark(&f);
	put(&f, 0, 1, 6);
	assert_int_equal(get(f.cut, 0), 6);
	assert_int_equal(img_pread(view, b, BLOCK, 0, NULL), LB_ECHANGED);
	img_cut_release(f.cut, false, NULL);
	fix_fini(&f);
	img_dev_destroy(fault);
}

/* All of it was read and it was whole; then the guest wrote on until it was given up, and only then
 * the other site has it. */
static void test_given_up_after_check(void **state)
{
	struct lb_hash base = {{4}}, got;
	struct fix f;
	struct img_dev *view;

	(void)state;
	fix_init(&f, 4);
	(void)mark(&f);
	keep(&f);
	put(&f, 0, 8, 1);
	view = mark(&f);
	assert_int_equal(get(view, 7), 1);
	assert_int_equal(img_cut_check(f.cut, NULL), 0);
	put(&f, 2, 6, 2);
	assert_int_equal(img_cut_check(f.cut, NULL), LB_ECHANGED);
	img_cut_release(f.cut, true, &base);
	(void)img_cut_log(f.cut, &got);
	assert_true(lb_hash_equal(&got, &base));
	view = mark(&f);
	assert_changed(&f, 2, 6);
	assert_int_equal(get(view, 2), 2);
	keep(&f);
	fix_fini(&f);
}

struct bg {
	struct fix *f;
	uint64_t block;
	uint8_t v;
	struct img_dev *view;
	_Atomic int done;
};

static void *write_main(void *arg)
{
	struct bg *b = arg;

	put(b->f, b->block, 1, b->v);
	atomic_store(&b->done, 1);
	return NULL;
}

static void *read_main(void *arg)
{
	struct bg *b = arg;

	b->v = get(b->view, b->block);
	atomic_store(&b->done, 1);
	return NULL;
}

/* A write under way at the mark is in the cut, whole; the reader and a later write of the same
 * block wait for it. */
static void test_in_flight(void **state)
{
	struct fix f;
	struct bg w = {&f, 5, 7, NULL, 0}, later = {&f, 5, 8, NULL, 0}, r = {&f, 5, 0, NULL, 0};
	pthread_t t[3];

	(void)state;
	fix_init(&f, 64);
	put(&f, 5, 1, 1);
	gate_dev_set(&f.gate, false);
	assert_int_equal(pthread_create(&t[0], NULL, write_main, &w), 0);
	gate_dev_wait(&f.gate, 1);
	r.view = mark(&f); /* does not wait */
	assert_int_equal(pthread_create(&t[1], NULL, read_main, &r), 0);
	assert_int_equal(pthread_create(&t[2], NULL, write_main, &later), 0);
	assert_int_equal(atomic_load(&r.done) + atomic_load(&later.done), 0);
	gate_dev_set(&f.gate, true);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	assert_int_equal(r.v, 7);
	assert_int_equal(get(r.view, 5), 7);
	assert_int_equal(get(f.cut, 5), 8);
	keep(&f);
	(void)mark(&f);
	assert_changed(&f, 5, 1);
	keep(&f);
	fix_fini(&f);
}

struct storm {
	struct fix *f;
	unsigned seed;
	_Atomic int *stop;
};

static void *storm_main(void *arg)
{
	struct storm *s = arg;
	uint32_t x = s->seed;

	for (unsigned i = 0; atomic_load(s->stop) == 0; i++) {
		uint64_t block;

		x = x * 1664525 + 1013904223;
		block = 8 * (x >> 24 & 15) +
			s->seed % 4 * 2; /* blocks of its own, regions shared */
		put(s->f, block, 1 + (x >> 16 & 1), (uint8_t)i);
	}
	return NULL;
}

/* Four writers without pause; every cut read twice is the same, and what it does not name is equal
 * in the cut before it. */
static void test_storm(void **state)
{
	enum {
		N = 128
	};
	struct fix f;
	struct storm s[4];
	pthread_t t[4];
	_Atomic int stop = 0;
	uint8_t last[N] = {0};

	(void)state;
	fix_init(&f, 256);
	for (unsigned i = 0; i < 4; i++) {
		s[i] = (struct storm){&f, i + 1, &stop};
		assert_int_equal(pthread_create(&t[i], NULL, storm_main, &s[i]), 0);
	}
	for (unsigned cut = 0; cut < 60; cut++) {
		struct img_dev *view = mark(&f);
		const struct img_extmap *m;
		uint8_t now[N];

		assert_int_equal(img_cut_changed(f.cut, &m, NULL), 0);
		for (unsigned b = 0; b < N; b++)
			now[b] = get(view, b);
		for (unsigned b = 0; b < N; b++)
			assert_int_equal(get(view, b), now[b]);
		for (unsigned b = 0; m != NULL && b < N; b++) {
			struct img_run r;

			if (now[b] != last[b])
				assert_true(img_extmap_find(m, b, &r) && r.start == b);
		}
		if (cut % 3 == 2) {
			img_cut_release(f.cut, false, NULL);
			continue;
		}
		memcpy(last, now, sizeof(last));
		keep(&f);
	}
	atomic_store(&stop, 1);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	fix_fini(&f);
}

/* After a restart the log names the regions, and what it counts from. */
static void test_log(void **state)
{
	struct fix f;
	struct lb_hash base = {{1, 2, 3}}, got;
	struct img_cut_stats st;

	(void)state;
	fix_init(&f, 64);
	assert_int_equal(img_cut_log(f.cut, NULL), IMG_CUT_LOG_NEW);
	put(&f, 1, 1, 1);
	reopen(&f);
	assert_int_equal(img_cut_log(f.cut, NULL), IMG_CUT_LOG_NEW);
	(void)mark(&f);
	assert_true(all_changed(&f));
	put(&f, 70, 1, 1); /* after the cut: region 4 */
	img_cut_release(f.cut, true, &base);
	assert_int_equal(img_cut_log(f.cut, &got), IMG_CUT_LOG_KEPT);
	assert_true(lb_hash_equal(&got, &base));
	reopen(&f);
	assert_int_equal(img_cut_log(f.cut, &got), IMG_CUT_LOG_KEPT);
	assert_true(lb_hash_equal(&got, &base));
	(void)mark(&f);
	assert_changed(&f, 64, 16);
	put(&f, 0, 1, 9);
	reopen(&f); /* with a cut open: both sides of its mark */
	(void)mark(&f);
	img_cut_stats(f.cut, &st);
	assert_int_equal(st.changed_blocks, 32);
	base.b[0] = 7;
	img_cut_release(f.cut, true, &base);
	reopen(&f); /* what was noted after the lost cut's mark still counts: more, never less */
	(void)mark(&f);
	img_cut_stats(f.cut, &st);
	assert_int_equal(st.changed_blocks, 32);
	img_cut_release(f.cut, true, &base);
	reopen(&f);
	(void)mark(&f);
	assert_changed(&f, 0, 0);
	assert_int_equal(img_cut_log(f.cut, &got), IMG_CUT_LOG_KEPT);
	assert_int_equal(got.b[0], 7);
	img_cut_release(f.cut, false, NULL);
	/* the last region is short */
	assert_int_equal(img_pwrite(f.cut, "x", 1, SIZE - 1, NULL), 0);
	reopen(&f);
	(void)mark(&f);
	assert_changed(&f, 256, 1);
	fix_fini(&f);
}

/* A region that is written again after a cut costs no further note: it went with the first. */
static void test_log_ahead(void **state)
{
	struct fix f;
	struct img_cut_stats st;
	uint64_t before;

	(void)state;
	fix_init(&f, 64);
	(void)mark(&f);
	keep(&f);
	for (uint64_t r = 0; r < 8; r++)
		put(&f, 16 * r, 1, 1);
	img_cut_stats(f.cut, &st);
	assert_int_equal(st.log_writes, 8);
	for (unsigned cut = 0; cut < 3; cut++) {
		(void)mark(&f);
		before = st.log_writes;
		for (uint64_t r = 0; r < 8; r++)
			put(&f, 16 * r + cut, 1, 1);
		img_cut_stats(f.cut, &st);
		assert_int_equal(st.log_writes, before + 1);
		keep(&f);
	}
	fix_fini(&f);
}

/* One bit anywhere in the log: noticed, or without meaning. */
static void test_log_damage(void **state)
{
	struct fix f;
	uint64_t bytes = img_cut_log_bytes(SIZE, REGION);

	(void)state;
	fix_init(&f, 64);
	(void)mark(&f);
	keep(&f);
	put(&f, 0, 1, 1);
	(void)mark(&f);
	put(&f, 100, 1, 1);
	for (uint64_t at = 0; at < bytes; at++) {
		uint8_t b;
		enum img_cut_log_state s;

		img_dev_destroy(f.cut);
		assert_int_equal(img_pread(f.log, &b, 1, at, NULL), 0);
		b ^= 0x10;
		assert_int_equal(img_pwrite(f.log, &b, 1, at, NULL), 0);
		open_cut(&f, REGION, f.side);
		s = img_cut_log(f.cut, NULL);
		(void)mark(&f);
		if (s == IMG_CUT_LOG_KEPT) {
			const struct img_extmap *m;
			struct img_run r;

			assert_int_equal(img_cut_changed(f.cut, &m, NULL), 0);
			assert_true(img_extmap_find(m, 0, &r) && r.start == 0);
			assert_true(img_extmap_find(m, 100, &r) && r.start == 100);
		} else {
			assert_int_equal(s, IMG_CUT_LOG_DAMAGED);
			assert_true(all_changed(&f));
		}
		b ^= 0x10;
		assert_int_equal(img_pwrite(f.log, &b, 1, at, NULL), 0);
	}
	fix_fini(&f);
}

/* docs/formats/cutlog.md, byte for byte. */
static void test_log_format(void **state)
{
	struct fix f;
	struct lb_hash base = {{0xaa, 0xbb}};
	uint8_t b[512];

	(void)state;
	assert_int_equal(img_cut_log_bytes(SIZE, REGION), 8192 + 1024);
	assert_int_equal(img_cut_log_bytes(UINT64_C(1) << 40, 0), 8192 + 2 * 67 * 512);
	fix_init(&f, 64);
	(void)mark(&f);
	img_cut_release(f.cut, true, &base);
	put(&f, 35, 1, 1); /* region 2, generation 1 */
	assert_int_equal(img_pread(f.log, b, 512, 4096, NULL), 0);
	check_hex(b, 64,
		  "4c43555401000000000210000000000000000100000000000100000000000000"
		  "aabb000000000000000000000000000000000000000000000000000000000000");
	check_hex(b + 508, 4, "7c8490b9");
	assert_int_equal(img_pread(f.log, b, 512, 8192 + 512, NULL), 0);
	check_hex(b, 24, "010000000000000001000000040000000000000000000000");
	check_hex(b + 508, 4, "1d20214d");
	assert_int_equal(img_pread(f.log, b, 512, 0, NULL), 0);
	assert_int_equal(b[0], 0); /* generation 0 never was */
	fix_fini(&f);
}

static void test_log_misfit(void **state)
{
	struct fix f;
	struct img_cut_cfg cfg;
	struct img_dev *small, *cut;
	struct lb_err err = {0};

	(void)state;
	fix_init(&f, 64);
	(void)mark(&f);
	keep(&f);
	img_dev_destroy(f.cut);
	open_cut(&f, 2 * REGION, f.side); /* other regions */
	assert_int_equal(img_cut_log(f.cut, NULL), IMG_CUT_LOG_MISFIT);
	(void)mark(&f);
	assert_true(all_changed(&f));
	put(&f, 40, 1, 1);
	keep(&f); /* begun anew */
	assert_int_equal(img_cut_log(f.cut, NULL), IMG_CUT_LOG_KEPT);
	img_dev_destroy(f.cut);
	open_cut(&f, 2 * REGION, f.side);
	(void)mark(&f);
	assert_changed(&f, 32, 32);

	assert_int_equal(img_mem_create(&small, 4096, NULL), 0);
	cfg = (struct img_cut_cfg){.lower = f.disk, .side = f.side, .log = small};
	assert_int_equal(img_cut_create(&cut, &cfg, &err), LB_EINPUT);
	cfg = (struct img_cut_cfg){.lower = f.disk, .side = f.side, .region_bytes = 5000};
	assert_int_equal(img_cut_create(&cut, &cfg, &err), LB_EINPUT);
	cfg.lower = small;
	cfg.region_bytes = 0;
	img_cut_release(f.cut, false, NULL);
	(void)mark(&f);
	assert_int_equal(img_cut_view(f.cut, &cfg.lower, NULL), 0);
	assert_int_equal(img_cut_create(&cut, &cfg, &err), LB_EDENIED);
	img_dev_destroy(small);
	fix_fini(&f);
}

static void test_no_log(void **state)
{
	struct fix f;
	struct img_dev *log;

	(void)state;
	fix_init(&f, 64);
	img_dev_destroy(f.cut);
	log = f.log;
	f.log = NULL;
	open_cut(&f, 0, f.side);
	assert_int_equal(img_cut_log(f.cut, NULL), IMG_CUT_LOG_NONE);
	assert_string_equal(img_cut_log_state_name(IMG_CUT_LOG_NONE), "none");
	(void)mark(&f);
	keep(&f);
	put(&f, 9, 1, 1);
	(void)mark(&f);
	assert_changed(&f, 9, 1);
	keep(&f);
	reopen(&f);
	(void)mark(&f);
	assert_true(all_changed(&f));
	f.log = log;
	fix_fini(&f);
}

/* The n-th operation of the log fails, for every n: guest writes succeed as long as the log can be
 * made invalid, and a restart never believes too little. */
static void test_log_fails(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 40; n++) {
		struct fix f;
		struct img_dev *good, *bad;
		struct img_run r;
		const struct img_extmap *m;

		fix_init(&f, 64);
		good = f.log;
		assert_int_equal(img_fault_create(&bad, good, n, LB_EIO, NULL), 0);
		img_dev_destroy(f.cut);
		f.log = bad;
		f.cut = NULL;
		if (n <= 2) { /* it cannot even be read */
			struct img_cut_cfg cfg = {.lower = f.disk,
						  .side = f.side,
						  .log = bad,
						  .region_bytes = REGION};

			assert_int_equal(img_cut_create(&f.cut, &cfg, NULL), LB_EIO);
			img_dev_destroy(bad);
			f.log = good;
			f.cut = NULL;
			fix_fini(&f);
			continue;
		}
		open_cut(&f, REGION, f.side);
		for (uint64_t cut = 0; cut < 3; cut++) {
			(void)mark(&f);
			put(&f, 32 * cut, 1, 1);
			keep(&f);
			put(&f, 100 + 32 * cut, 1, 2);
		}
		img_dev_destroy(f.cut);
		f.log = good;
		open_cut(&f, REGION, f.side);
		(void)mark(&f);
		assert_int_equal(img_cut_changed(f.cut, &m, NULL), 0);
		if (m != NULL) {
			assert_true(img_extmap_find(m, 64, &r) && r.start == 64);
			assert_true(img_extmap_find(m, 164, &r) && r.start == 164);
		}
		img_dev_destroy(bad);
		fix_fini(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_view),       cmocka_unit_test(test_changed),
		cmocka_unit_test(test_given_up),   cmocka_unit_test(test_given_up_after_check),
		cmocka_unit_test(test_in_flight),  cmocka_unit_test(test_storm),
		cmocka_unit_test(test_log),        cmocka_unit_test(test_log_ahead),
		cmocka_unit_test(test_log_damage), cmocka_unit_test(test_log_format),
		cmocka_unit_test(test_log_misfit), cmocka_unit_test(test_no_log),
		cmocka_unit_test(test_log_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
