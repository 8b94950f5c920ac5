/*
 * Views: every point of a changing group reads back bit by bit, over the store and over a map file;
 * chains of 1,000 layers; concurrent readers; bad packs are errors; sparse export.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "imaging/dev.h"
#include "replicator/export.h"
#include "replicator/view.h"
#include "rnd.h"
#include "store_fix.h"
#include "view_int.h"
#include "word_delta_int.h"

#define VOLUME_BLOCKS 96u
#define READERS       4u

struct world {
	char dir[64];
	struct lb_fs *fs;
	struct fix_env env;
	struct rep_store *store;
	struct sf_group group[2];
	struct rep_view_cfg cfg;
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct rep_store_cfg cfg = {.segment_bytes = 256 << 10};
	struct lb_err err = {.code = 0};

	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/lb_view_XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	must(lb_fs_dir_create(&w->fs, w->dir, &err), &err);
	w->env = fix_env(1);
	sf_group_init(&w->group[0], 0, 2, VOLUME_BLOCKS, 7);
	w->cfg = (struct rep_view_cfg){.dek_of = sf_dek_of, .arg = w->group};
	must(rep_store_open(&w->store, &w->env.env, w->fs, &cfg, &err), &err);
	*state = w;
	return 0;
}

static int remove_one(void *arg, const char *name)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "seg/%s", name);
	return lb_fs_unlink(arg, path, NULL);
}

static int teardown(void **state)
{
	struct world *w = *state;
	char path[96];

	rep_store_close(w->store);
	sf_group_fini(&w->group[0]);
	(void)lb_fs_list(w->fs, "seg", remove_one, w->fs, NULL);
	(void)lb_fs_unlink(w->fs, "store.id", NULL);
	(void)lb_fs_unlink(w->fs, "lock", NULL);
	(void)lb_fs_unlink(w->fs, "map", NULL);
	(void)lb_fs_unlink(w->fs, "out.raw", NULL);
	lb_fs_destroy(w->fs);
	(void)snprintf(path, sizeof(path), "%s/seg", w->dir);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(w->dir), 0);
	free(w);
	return 0;
}

static void one_point(struct world *w, struct sf_point *p, uint32_t changes)
{
	struct sf_group *g = &w->group[0];
	struct lb_err err = {.code = 0};

	sf_group_write(g, changes);
	sf_point_cut(g, p);
	must(sf_point_send(w->store, p, &err), &err);
	must(rep_store_commit(w->store, &err), &err);
	sf_point_accepted(g, p);
}

static void check_image(struct img_dev *d, const struct lb_hash *want)
{
	struct lb_err err = {.code = 0};
	uint8_t *p = malloc(d->size_bytes);
	struct lb_hash got;

	must(img_pread(d, p, d->size_bytes, 0, &err), &err);
	lb_sha256(&got, p, d->size_bytes);
	assert_true(lb_hash_equal(&got, want));
	free(p);
}

/* Extents cover the device, alternate, and never call data zero. */
static void check_extents(struct img_dev *d)
{
	struct lb_err err = {.code = 0};
	uint8_t block[REP_BLOCK_BYTES];
	static const uint8_t zeros[REP_BLOCK_BYTES];
	struct img_extent x;

	for (uint64_t off = 0; off < d->size_bytes; off += x.len) {
		must(img_next_extent(d, &x, off, &err), &err);
		assert_int_equal(x.off, off);
		assert_true(x.len > 0 && x.len <= d->size_bytes - off);
		for (uint64_t at = 0; x.zero && at < x.len; at += sizeof(block)) {
			must(img_pread(d, block, sizeof(block), off + at, &err), &err);
			assert_memory_equal(block, zeros, sizeof(block));
		}
	}
}

static void test_every_point(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct sf_point p[20];
	char map[96];

	(void)snprintf(map, sizeof(map), "%s/map", w->dir);
	for (unsigned i = 0; i < 20; i++)
		one_point(w, &p[i], i == 0 ? 60 : 12);
	for (unsigned i = 0; i < 20; i++) {
		for (unsigned k = 0; k < 2; k++) {
			struct img_dev *d = NULL;
			const struct lb_id *vol = &w->group[0].vol[k].volume;

			must(rep_view_open(&d, w->store, &p[i].hash, vol, &w->cfg, &err), &err);
			assert_int_equal(d->size_bytes, VOLUME_BLOCKS * REP_BLOCK_BYTES);
			assert_false(img_writable(d));
			check_image(d, &p[i].image[k]);
			check_extents(d);
			img_dev_destroy(d);
			must(rep_view_prepare(w->store, &p[i].hash, vol, w->fs, "map", &err), &err);
			must(rep_view_open_map(&d, map, w->dir, &w->cfg, &err), &err);
			check_image(d, &p[i].image[k]);
			img_dev_destroy(d);
		}
		sf_point_free(&p[i]);
	}
}

static void test_small_reads(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct sf_point p[3];
	struct img_dev *d = NULL;
	uint64_t rnd = 5;

	for (unsigned i = 0; i < 3; i++)
		one_point(w, &p[i], 40);
	must(rep_view_open(&d, w->store, &p[2].hash, &w->group[0].vol[0].volume, &w->cfg, &err),
	     &err);
	for (unsigned i = 0; i < 2000; i++) {
		uint8_t buf[3 * REP_BLOCK_BYTES];
		uint64_t off = rnd_below(&rnd, d->size_bytes);
		uint64_t len = 1 + rnd_below(&rnd, sizeof(buf));

		if (len > d->size_bytes - off)
			len = d->size_bytes - off;
		must(img_pread(d, buf, len, off, &err), &err);
		assert_memory_equal(buf, w->group[0].vol[0].image + off, len);
	}
	img_dev_destroy(d);
	for (unsigned i = 0; i < 3; i++)
		sf_point_free(&p[i]);
}

static void test_long_chain(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct timespec a;
	struct timespec b;
	struct img_dev *d = NULL;
	struct sf_point p = {.layers = 0};

	for (unsigned i = 0; i < 1000; i++) {
		sf_point_free(&p);
		one_point(w, &p, 3);
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &a);
	must(rep_view_open(&d, w->store, &p.hash, &w->group[0].vol[1].volume, &w->cfg, &err), &err);
	(void)clock_gettime(CLOCK_MONOTONIC, &b);
	print_message(
		"a view of 1,000 layers opened in %.1f ms (sanitizers included, not asserted)\n",
		(double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6);
	check_image(d, &p.image[1]);
	img_dev_destroy(d);
	sf_point_free(&p);
}

struct reader {
	pthread_t thread;
	struct img_dev *d;
	const uint8_t *want;
	uint64_t seed;
	unsigned wrong;
};

static void *read_all(void *arg)
{
	struct reader *r = arg;
	uint8_t buf[REP_BLOCK_BYTES];

	for (unsigned i = 0; i < 400; i++) {
		uint64_t off = rnd_below(&r->seed, VOLUME_BLOCKS) * REP_BLOCK_BYTES;

		if (img_pread(r->d, buf, sizeof(buf), off, NULL) != 0 ||
		    memcmp(buf, r->want + off, sizeof(buf)) != 0)
			r->wrong++;
	}
	return NULL;
}

static void test_readers(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct reader r[READERS];
	struct img_dev *d = NULL;
	struct sf_point p[4];

	for (unsigned i = 0; i < 4; i++)
		one_point(w, &p[i], 50);
	w->cfg.cache_bytes = 1; /* the smallest: readers fight for entries */
	must(rep_view_open(&d, w->store, &p[3].hash, &w->group[0].vol[0].volume, &w->cfg, &err),
	     &err);
	for (unsigned i = 0; i < READERS; i++) {
		r[i] = (struct reader){.d = d, .want = w->group[0].vol[0].image, .seed = i};
		assert_int_equal(pthread_create(&r[i].thread, NULL, read_all, &r[i]), 0);
	}
	for (unsigned i = 0; i < READERS; i++) {
		assert_int_equal(pthread_join(r[i].thread, NULL), 0);
		assert_int_equal(r[i].wrong, 0);
	}
	img_dev_destroy(d);
	for (unsigned i = 0; i < 4; i++)
		sf_point_free(&p[i]);
}

static void test_bad_pack(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct lb_file *f = NULL;
	struct img_dev *d = NULL;
	struct sf_point p;
	uint8_t b = 0;
	uint8_t *all = malloc((size_t)VOLUME_BLOCKS * REP_BLOCK_BYTES);

	one_point(w, &p, 60);
	must(rep_view_open(&d, w->store, &p.hash, &w->group[0].vol[0].volume, &w->cfg, &err), &err);
	must(lb_fs_open(w->fs, &f, "seg/0000000000000001.seg", LB_FS_WRITE, &err), &err);
	must(lb_file_pread_full(f, &b, 1, 104 + 312 + 56 + 70, &err), &err);
	b ^= 1;
	must(lb_file_pwrite(f, &b, 1, 104 + 312 + 56 + 70, &err), &err);
	lb_file_close(f);
	assert_int_equal(img_pread(d, all, d->size_bytes, 0, &err), LB_ECORRUPT);
	assert_non_null(strstr(err.msg, "pack 0 of seq 1"));
	img_dev_destroy(d);
	sf_point_free(&p);
	free(all);
}

static int no_key(void *arg, const struct lb_id *id, struct lb_key *out)
{
	(void)arg;
	(void)id;
	(void)out;
	return LB_ENOTFOUND;
}

static void test_refusals(void **state)
{
	struct world *w = *state;
	struct rep_view_cfg keyless = {.dek_of = no_key};
	struct lb_hash other = {{1}};
	struct lb_err err = {.code = 0};
	struct img_dev *d = NULL;
	struct sf_point p;
	const struct lb_id *vol = &w->group[0].vol[0].volume;

	one_point(w, &p, 30);
	assert_int_equal(rep_view_open(&d, w->store, &other, vol, &w->cfg, &err), LB_ENOTFOUND);
	assert_int_equal(rep_view_open(&d, w->store, &p.hash, &w->group[0].group, &w->cfg, &err),
			 LB_ENOTFOUND);
	assert_int_equal(rep_view_open(&d, w->store, &p.hash, vol, &keyless, &err), LB_ENOTFOUND);
	assert_non_null(strstr(err.msg, "does not hold data key"));
	must(rep_view_open(&d, w->store, &p.hash, vol, &w->cfg, &err), &err);
	assert_int_equal(img_pwrite(d, &p, 4096, 0, &err), LB_EDENIED);
	img_dev_destroy(d);
	sf_point_free(&p);
}

/* No single flipped bit of a map file passes. */
static void test_map_flips(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	struct rep_viewmap m;
	struct sf_point p;
	uint8_t *map = NULL;
	size_t len = 0;

	one_point(w, &p, 60);
	must(rep_view_build(&map, &len, w->store, &p.hash, &w->group[0].vol[0].volume, &err), &err);
	must(rep_viewmap_decode(&m, map, len, &err), &err);
	for (size_t i = 0; i < len; i++) {
		map[i] ^= (uint8_t)(1u << (i % 8));
		assert_int_equal(rep_viewmap_decode(&m, map, len, &err), LB_ECORRUPT);
		map[i] ^= (uint8_t)(1u << (i % 8));
	}
	for (size_t n = 0; n < len; n += 37)
		assert_int_equal(rep_viewmap_decode(&m, map, n, &err), LB_ECORRUPT);
	free(map);
	sf_point_free(&p);
}

static void test_patch(void **state)
{
	uint8_t block[REP_BLOCK_BYTES] = {0};
	/* words 1-2 and the last one */
	uint8_t delta[4 + 16 + 4 + 8] = {1, 0, 1, 0};
	struct lb_err err = {.code = 0};

	(void)state;
	memset(delta + 4, 0xaa, 16);
	delta[20] = 0xff;
	delta[21] = 0x01;
	memset(delta + 24, 0xbb, 8);
	must(rep_word_delta_apply(block, delta, sizeof(delta), &err), &err);
	assert_int_equal(block[7], 0);
	assert_int_equal(block[8], 0xaa);
	assert_int_equal(block[23], 0xaa);
	assert_int_equal(block[24], 0);
	assert_int_equal(block[4095], 0xbb);
	assert_int_equal(rep_word_delta_apply(block, delta, sizeof(delta) - 1, &err), LB_ECORRUPT);
	delta[22] = 1; /* one word too far */
	assert_int_equal(rep_word_delta_apply(block, delta, sizeof(delta), &err), LB_ECORRUPT);
}

static void count_progress(void *arg, uint64_t done, uint64_t all)
{
	uint64_t *last = arg;

	assert_true(done >= *last && done <= all);
	*last = done;
}

/* A map is made again under the name of one that is being served. */
static void test_map_replaced(void **state)
{
	struct world *w = *state;
	const struct lb_id *volume = &w->group[0].vol[0].volume;
	struct lb_err err = {.code = 0};
	struct img_dev *d = NULL, *other = NULL;
	struct sf_point p[2];
	char map[96];

	(void)snprintf(map, sizeof(map), "%s/map", w->dir);
	one_point(w, &p[0], 60);
	one_point(w, &p[1], 12);
	must(rep_view_prepare(w->store, &p[0].hash, volume, w->fs, "map", &err), &err);
	must(rep_view_open_map(&d, map, w->dir, &w->cfg, &err), &err);
	must(rep_view_prepare(w->store, &p[1].hash, volume, w->fs, "map", &err), &err);
	must(rep_view_open_map(&other, map, w->dir, &w->cfg, &err), &err);
	check_image(d, &p[0].image[0]);
	check_image(other, &p[1].image[0]);
	img_dev_destroy(d);
	img_dev_destroy(other);
	for (unsigned i = 0; i < 2; i++)
		sf_point_free(&p[i]);
}

static void test_export(void **state)
{
	struct world *w = *state;
	struct lb_err err = {.code = 0};
	uint64_t done = 0;
	struct img_dev *d = NULL;
	struct img_dev *back = NULL;
	struct img_file_cfg cfg = {0};
	struct sf_point p;
	struct stat st;
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/out.raw", w->dir);
	one_point(w, &p, 20);
	must(rep_view_open(&d, w->store, &p.hash, &w->group[0].vol[0].volume, &w->cfg, &err), &err);
	must(rep_export_raw(d, path, count_progress, &done, &err), &err);
	assert_int_equal(done, d->size_bytes);
	assert_int_equal(rep_export_raw(d, path, NULL, NULL, &err), LB_EEXIST);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, d->size_bytes);
	assert_true((uint64_t)st.st_blocks * 512 < d->size_bytes); /* holes stayed holes */
	cfg.path = path;
	must(img_file_create(&back, &cfg, &err), &err);
	check_image(back, &p.image[0]);
	img_dev_destroy(back);
	img_dev_destroy(d);
	sf_point_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_point, setup, teardown),
		cmocka_unit_test_setup_teardown(test_small_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_readers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_pack, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map_flips, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(test_export, setup, teardown),
		cmocka_unit_test(test_patch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
