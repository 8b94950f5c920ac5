/*
 * A machine with a cut device loses its power at every single write and flush of disk and log, in
 * many orders of guest writes, flushes and cuts. After the reboot the disk differs from the cut
 * that the other site has only in blocks that the log names, or the log says that it does not know.
 */
#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "imaging/cut.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"
#include "rnd.h"

#define BLOCK  UINT64_C(4096)
#define BLOCKS 48u
#define SIZE   (BLOCKS * BLOCK)
#define REGION (4 * BLOCK)
#define STEPS  60u

/* Both devices of one host: when the power goes, it goes for both. */
struct power {
	uint64_t left; /* operations until it goes */
	bool off;
};

struct powered {
	struct img_dev dev; /* first */
	struct img_dev *lower;
	struct power *power;
};

static int spend(struct power *p, struct lb_err *err)
{
	p->off |= p->left == 0;
	if (p->off)
		return lb_err_set(err, LB_EIO, 0, "the power is off");
	p->left--;
	return 0;
}

static int powered_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off,
			 struct lb_err *err)
{
	struct powered *p = (struct powered *)d;

	if (p->power->off)
		return lb_err_set(err, LB_EIO, 0, "the power is off");
	return img_pread(p->lower, buf, len, off, err);
}

/* The write at which the power goes still reaches the disk's cache: all, a part or nothing of it
 * survives. */
static int powered_pwrite(struct img_dev *d, const void *buf, uint64_t len, uint64_t off,
			  struct lb_err *err)
{
	struct powered *p = (struct powered *)d;
	int rc;

	if (!p->power->off && p->power->left == 0)
		(void)img_pwrite(p->lower, buf, len, off, err);
	rc = spend(p->power, err);
	return rc != 0 ? rc : img_pwrite(p->lower, buf, len, off, err);
}

static int powered_flush(struct img_dev *d, struct lb_err *err)
{
	struct powered *p = (struct powered *)d;
	int rc = spend(p->power, err);

	return rc != 0 ? rc : img_flush(p->lower, err);
}

static void powered_destroy(struct img_dev *d)
{
	(void)d;
}

static const struct img_dev_ops powered_ops = {
	.name = "powered",
	.pread = powered_pread,
	.pwrite = powered_pwrite,
	.flush = powered_flush,
	.destroy = powered_destroy,
};

struct world {
	uint64_t rnd;
	struct power power;
	struct img_dev *disk_crash, *log_crash, *side;
	struct powered disk, log;
	struct img_dev *cut;
	bool open, log_begun;
	uint8_t opened[SIZE];  /* content of the open cut */
	uint8_t kept[2][SIZE]; /* of the last two kept ones: [0] is the newest */
	uint8_t kept_tag[2];   /* 0: none */
	uint8_t tag;
};

static struct powered powered_over(struct img_dev *lower, struct power *power)
{
	return (struct powered){
		.dev = {.ops = &powered_ops, .size_bytes = lower->size_bytes},
		.lower = lower,
		.power = power,
	};
}

static void boot(struct world *w)
{
	struct img_cut_cfg cfg = {.side = w->side, .region_bytes = REGION};
	struct lb_err err = {0};

	w->disk = powered_over(w->disk_crash, &w->power);
	w->log = powered_over(w->log_crash, &w->power);
	cfg.lower = &w->disk.dev;
	cfg.log = &w->log.dev;
	if (img_cut_create(&w->cut, &cfg, &err) != 0)
		fail_msg("%s", err.msg);
	w->open = false;
}

static void world_init(struct world *w, uint64_t seed)
{
	*w = (struct world){.rnd = seed, .power = {.left = UINT64_MAX}};
	assert_int_equal(img_crash_create(&w->disk_crash, SIZE, 0, seed, NULL), 0);
	assert_int_equal(
		img_crash_create(&w->log_crash, img_cut_log_bytes(SIZE, REGION), 0, seed, NULL), 0);
	assert_int_equal(img_mem_create(&w->side, SIZE, NULL), 0);
	boot(w);
}

static void world_fini(struct world *w)
{
	img_dev_destroy(w->cut);
	img_dev_destroy(w->side);
	img_dev_destroy(w->log_crash);
	img_dev_destroy(w->disk_crash);
}

static void guest_writes(struct world *w)
{
	uint8_t buf[3 * BLOCK];
	uint64_t block = rnd_below(&w->rnd, BLOCKS), count = 1 + rnd_below(&w->rnd, 3);

	if (count > BLOCKS - block)
		count = BLOCKS - block;
	memset(buf, (int)rnd_below(&w->rnd, 255) + 1, sizeof(buf));
	(void)img_pwrite(w->cut, buf, count * BLOCK, block * BLOCK, NULL);
}

/* Read the whole cut, as the sender does. */
static bool read_cut(struct world *w)
{
	struct img_dev *view;

	assert_int_equal(img_cut_view(w->cut, &view, NULL), 0);
	return img_pread(view, w->opened, SIZE, 0, NULL) == 0 && img_cut_check(w->cut, NULL) == 0;
}

/* The receipt is there: from now on the other site has this cut, whatever happens here. */
static void keep_cut(struct world *w)
{
	struct lb_hash base = {{0}};

	memcpy(w->kept[1], w->kept[0], SIZE);
	w->kept_tag[1] = w->kept_tag[0];
	memcpy(w->kept[0], w->opened, SIZE);
	w->kept_tag[0] = ++w->tag;
	base.b[0] = w->tag;
	img_cut_release(w->cut, true, &base);
}

static void step(struct world *w)
{
	uint64_t dice = rnd_below(&w->rnd, 10);

	if (dice < 6) {
		guest_writes(w);
	} else if (dice == 6) {
		(void)img_flush(w->cut, NULL);
	} else if (!w->open) {
		assert_int_equal(img_cut_mark(w->cut, NULL), 0);
		w->open = true;
	} else {
		if (dice != 7 && read_cut(w))
			keep_cut(w);
		else
			img_cut_release(w->cut, false, NULL);
		w->open = false;
	}
}

/* Every block that differs from @kept is named. */
static void check_named(struct world *w, const struct img_extmap *m, const uint8_t *kept,
			uint64_t seed, uint64_t at)
{
	uint8_t buf[BLOCK];

	for (unsigned b = 0; b < BLOCKS; b++) {
		struct img_run r;

		assert_int_equal(img_pread(w->cut, buf, BLOCK, b * BLOCK, NULL), 0);
		if (memcmp(buf, kept + b * BLOCK, BLOCK) != 0 &&
		    !(img_extmap_find(m, b, &r) && r.start == b))
			fail_msg("seed %u, power cut at %u: block %u changed, unnamed",
				 (unsigned)seed, (unsigned)at, b);
	}
}

/* Which blocks the reborn device believes to have changed, against what the other site has. */
static bool check_reboot(struct world *w, uint64_t seed, uint64_t at)
{
	const struct img_extmap *m;
	struct lb_hash base;
	enum img_cut_log_state s = img_cut_log(w->cut, &base);

	assert_int_equal(img_cut_mark(w->cut, NULL), 0);
	assert_int_equal(img_cut_changed(w->cut, &m, NULL), 0);
	if (s != IMG_CUT_LOG_KEPT) {
		/* only as long as no kept cut was ever written down whole */
		assert_null(m);
		assert_int_equal(s, IMG_CUT_LOG_NEW);
		assert_false(w->log_begun);
		return false;
	}
	w->log_begun = true;
	assert_non_null(m);
	assert_true(base.b[0] == w->kept_tag[0] || base.b[0] == w->kept_tag[1]);
	check_named(w, m, w->kept[0], seed, at);
	if (base.b[0] == w->kept_tag[1])
		check_named(w, m, w->kept[1], seed, at);
	img_cut_release(w->cut, false, NULL);
	return true;
}

/* Run @steps with the power gone after @at operations. False: it did not go, there are no more. */
static bool play(uint64_t seed, uint64_t at, unsigned *known)
{
	static struct world w;
	bool cut_off;

	world_init(&w, seed);
	w.power.left = at;
	for (unsigned i = 0; i < STEPS && !w.power.off; i++)
		step(&w);
	cut_off = w.power.off;
	img_dev_destroy(w.cut);
	img_crash_cut(w.disk_crash, seed * 31 + at);
	img_crash_cut(w.log_crash, seed * 37 + at);
	w.power = (struct power){.left = UINT64_MAX};
	boot(&w);
	*known += check_reboot(&w, seed, at);
	world_fini(&w);
	return cut_off;
}

static void power_cut_at_every_operation(void **state)
{
	unsigned known = 0, runs = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 25; seed++)
		for (uint64_t at = 0; play(seed, at, &known); at++)
			runs++;
	assert_true(runs > 1000);
	assert_true(known > runs / 2); /* the log is of use */
}

/* Life goes on after a power cut, and is cut off again, and again. */
static void power_cut_again_and_again(void **state)
{
	(void)state;
	for (uint64_t seed = 100; seed < 140; seed++) {
		static struct world w;

		world_init(&w, seed);
		for (unsigned life = 0; life < 12; life++) {
			w.power.left = rnd_below(&w.rnd, 60);
			for (unsigned i = 0; i < STEPS && !w.power.off; i++)
				step(&w);
			img_dev_destroy(w.cut);
			img_crash_cut(w.disk_crash, rnd_u64(&w.rnd));
			img_crash_cut(w.log_crash, rnd_u64(&w.rnd));
			w.power = (struct power){.left = UINT64_MAX};
			boot(&w);
			if (!check_reboot(&w, seed, life))
				img_cut_release(w.cut, false, NULL);
		}
		world_fini(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_cut_at_every_operation),
		cmocka_unit_test(power_cut_again_and_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
