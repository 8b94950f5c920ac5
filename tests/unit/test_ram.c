#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "check.h"
#include "imaging/dev.h"
#include "ram_fix.h"
#include "replicator/export.h"
#include "replicator/point.h"
#include "replicator/store.h"
#include "replicator/view.h"
#include "rnd.h"

/* RAM volumes through the product's own delta maker into a real store, and back by views. */
#define RAM_BYTES (UINT64_C(8) << 20)

static unsigned fail_at, fail_next; /* 0: never; else the how many-th allocation from now */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

static bool fails_now(void)
{
	unsigned left = __atomic_load_n(&fail_at, __ATOMIC_RELAXED);

	return left > 0 && __atomic_sub_fetch(&fail_at, 1, __ATOMIC_RELAXED) == 0;
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

static void arm(void)
{
	fail_at = fail_next;
}

struct world {
	char dir[64];
	struct lb_fs *fs;
	struct rep_store *store;
	struct ram_fix r;
	struct rep_view_cfg keys;
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static int setup(void **state)
{
	struct rep_store_cfg cfg = REP_STORE_CFG_DEFAULTS;
	struct world *w = calloc(1, sizeof(*w));
	struct lb_err err = {0};

	assert_non_null(w);
	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/lb-test-ram-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	must(lb_fs_dir_create(&w->fs, w->dir, &err), &err);
	ram_fix_init(&w->r, NULL, RAM_BYTES, 3, 17);
	must(rep_store_open(&w->store, &w->r.env.env, w->fs, &cfg, &err), &err);
	w->keys = (struct rep_view_cfg){.dek_of = ram_fix_dek_of, .arg = &w->r};
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	char cmd[96];

	rep_store_close(w->store);
	lb_fs_destroy(w->fs);
	ram_fix_fini(&w->r);
	(void)snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
	assert_int_equal(system(cmd), 0);
	free(w);
	return 0;
}

static struct img_dev *view_of(struct world *w, unsigned seq)
{
	struct lb_id volume = ram_fix_volume();
	struct img_dev *d = NULL;
	struct lb_err err = {0};

	must(rep_view_open(&d, w->store, &w->r.point[seq - 1], &volume, &w->keys, &err), &err);
	return d;
}

static struct img_dev *map_of(struct world *w, unsigned seq)
{
	struct lb_id volume = ram_fix_volume();
	struct img_dev *d = NULL;
	struct lb_err err = {0};
	char path[80];

	must(rep_view_prepare(w->store, &w->r.point[seq - 1], &volume, w->fs, "map", &err), &err);
	(void)snprintf(path, sizeof(path), "%s/map", w->dir);
	must(rep_view_open_map(&d, path, w->dir, &w->keys, &err), &err);
	return d;
}

static void check_image(struct world *w, struct img_dev *d, unsigned seq)
{
	uint8_t *p = malloc(RAM_BYTES);
	struct lb_err err = {0};
	struct lb_hash got;

	assert_true(d->size_bytes == RAM_BYTES);
	must(img_pread(d, p, RAM_BYTES, 0, &err), &err);
	lb_sha256(&got, p, RAM_BYTES);
	if (!lb_hash_equal(&got, &w->r.image[seq - 1]))
		fail_msg("point %u reads otherwise than it was", seq);
	img_dev_destroy(d);
	free(p);
}

/* Cuts of all sizes, given up now and then; *sum counts the blocks. */
static void live(struct world *w, unsigned points, struct rep_footer *sum)
{
	memset(sum, 0, sizeof(*sum));
	while (w->r.seq < points) {
		fake_ram_run(w->r.ram, w->r.seq % 7 == 3 ? 900 : 40, FAKE_RAM_GUEST);
		if (w->r.seq % 5 == 4)
			ram_fix_cut(&w->r, w->store, false);
		fake_ram_run(w->r.ram, 10, FAKE_RAM_WORDS);
		ram_fix_cut(&w->r, w->store, true);
		sum->data_blocks += w->r.made.footer.data_blocks;
		sum->zero_blocks += w->r.made.footer.zero_blocks;
		sum->ref_blocks += w->r.made.footer.ref_blocks;
		sum->patch_blocks += w->r.made.footer.patch_blocks;
	}
	(void)printf("data %u zero %u ref %u patch %u\n", (unsigned)sum->data_blocks,
		     (unsigned)sum->zero_blocks, (unsigned)sum->ref_blocks,
		     (unsigned)sum->patch_blocks);
}

static void test_every_point(void **state)
{
	struct world *w = *state;
	struct rep_footer sum;

	live(w, 25, &sum);
	assert_true(sum.patch_blocks > 1000 && sum.ref_blocks > 20 && sum.zero_blocks > 50);
	for (unsigned seq = 1; seq <= 25; seq++) {
		check_image(w, view_of(w, seq), seq);
		check_image(w, map_of(w, seq), seq);
	}
}

/* A shadow of a few pages, of none, and none any more after a restart: larger, never other. */
static void test_little_shadow(void **state)
{
	static const uint64_t bytes[3] = {1, 64 * 4096, RAM_BYTES / 2};
	struct world *w = *state;
	unsigned patches = 0;

	for (unsigned i = 0; i < 3; i++) {
		struct lb_hash none = {{0}};
		struct rep_footer sum;

		rep_shadow_destroy(w->r.shadow);
		w->r.shadow = NULL;
		assert_int_equal(rep_shadow_create(&w->r.shadow, bytes[i], NULL), 0);
		w->r.head = none;
		live(w, (unsigned)w->r.seq + 6, &sum);
		check_image(w, view_of(w, (unsigned)w->r.seq), (unsigned)w->r.seq);
		assert_true(i == 0 ? sum.patch_blocks + sum.ref_blocks == 0
				   : sum.patch_blocks > patches);
		patches = (unsigned)sum.patch_blocks;
	}
	rep_shadow_destroy(w->r.shadow); /* a restart: the digests are there, the shadow is not */
	w->r.shadow = NULL;
	assert_int_equal(rep_shadow_create(&w->r.shadow, 0, NULL), 0);
	fake_ram_run(w->r.ram, 50, FAKE_RAM_WORDS);
	ram_fix_cut(&w->r, w->store, true);
	assert_int_equal(w->r.made.footer.patch_blocks, 0);
	assert_true(w->r.made.footer.data_blocks <= 50);
	fake_ram_run(w->r.ram, 50, FAKE_RAM_WORDS);
	ram_fix_cut(&w->r, w->store, true);
	check_image(w, view_of(w, (unsigned)w->r.seq), (unsigned)w->r.seq);
}

/* One page a thousand times over: once in a layer, more blocks than its packs have room for. */
static void test_same_page(void **state)
{
	struct world *w = *state;
	const struct rep_footer *f = &w->r.made.footer;
	struct rep_footer sum;
	uint8_t page[REP_BLOCK_BYTES];

	live(w, 1, &sum);
	memset(page, 0x5a, sizeof(page));
	for (uint64_t i = 0; i < 1000; i++)
		fake_ram_put(w->r.ram, i, page);
	ram_fix_cut(&w->r, w->store, true);
	assert_int_equal(f->data_blocks, 1000);
	assert_int_equal(f->packs, 1);
	check_image(w, view_of(w, 2), 2);
	memset(page, 0xa5, sizeof(page));
	fake_ram_put(w->r.ram, 1500, page);
	ram_fix_cut(&w->r, w->store, true);
	for (uint64_t i = 0; i < 1000; i++)
		fake_ram_put(w->r.ram, i, page);
	ram_fix_cut(&w->r, w->store, true);
	assert_int_equal(f->ref_blocks, 1000);
	assert_int_equal(f->packs, 0);
	page[0] = 0; /* each is a patch of the one page */
	for (uint64_t i = 0; i < 1000; i++)
		fake_ram_put(w->r.ram, i, page);
	ram_fix_cut(&w->r, w->store, true);
	assert_int_equal(f->patch_blocks, 1000);
	check_image(w, view_of(w, 5), 5);
}

/* Reads of any place and length, through patches, in a small cache. */
static void test_random_reads(void **state)
{
	struct world *w = *state;
	struct lb_id volume = ram_fix_volume();
	struct img_dev *d = NULL;
	struct lb_err err = {0};
	struct rep_footer sum;
	static uint8_t got[20000];
	uint64_t rnd = 3;

	live(w, 12, &sum);
	w->keys.cache_bytes = 1;
	must(rep_view_open(&d, w->store, &w->r.point[11], &volume, &w->keys, &err), &err);
	for (unsigned i = 0; i < 2000; i++) {
		uint64_t off = rnd_below(&rnd, RAM_BYTES), len = 1 + rnd_below(&rnd, sizeof(got));

		len = len < RAM_BYTES - off ? len : RAM_BYTES - off;
		must(img_pread(d, got, len, off, &err), &err);
		assert_memory_equal(got, fake_ram_frozen(w->r.ram) + off, len);
	}
	img_dev_destroy(d);
}

static void test_export(void **state)
{
	struct world *w = *state;
	struct img_dev *d;
	struct lb_err err = {0};
	struct rep_footer sum;
	uint8_t *p = malloc(RAM_BYTES);
	char path[80];
	FILE *f;

	live(w, 4, &sum);
	(void)snprintf(path, sizeof(path), "%s/out.raw", w->dir);
	d = view_of(w, 4);
	must(rep_export_raw(d, path, NULL, NULL, &err), &err);
	img_dev_destroy(d);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fread(p, 1, RAM_BYTES, f), RAM_BYTES);
	assert_int_equal(fgetc(f), EOF);
	(void)fclose(f);
	assert_memory_equal(p, fake_ram_frozen(w->r.ram), RAM_BYTES);
	free(p);
}

/* Each allocation of a cut fails once: the cut is over or larger, and the next one is right. */
static void test_no_memory(void **state)
{
	struct world *w = *state;
	struct rep_footer sum;
	unsigned failed = 0, k = 1;
	bool clean = false;

	w->r.workers = 1;
	live(w, 3, &sum);
	for (; !clean; k++) {
		struct lb_err err = {0};
		int rc;

		fake_ram_run(w->r.ram, 30, FAKE_RAM_GUEST);
		if (k % 8 == 0) { /* the shadow has to be made again as well */
			rep_shadow_destroy(w->r.shadow);
			w->r.shadow = NULL;
			assert_int_equal(rep_shadow_create(&w->r.shadow, 0, NULL), 0);
		}
		fail_next = k;
		w->r.before_layer = arm;
		rc = ram_fix_try(&w->r, w->store, &err);
		clean = fail_at > 0;
		fail_at = 0;
		w->r.before_layer = NULL;
		assert_true(rc == 0 || rc == LB_ENOMEM);
		assert_int_equal(rc, err.code);
		failed += rc != 0;
		if (k % 4 != 0)
			continue;
		ram_fix_cut(&w->r, w->store, true);
		check_image(w, view_of(w, (unsigned)w->r.seq), (unsigned)w->r.seq);
	}
	(void)printf("%u allocations, %u cuts given up\n", k, failed);
	assert_true(failed > 10);
	ram_fix_cut(&w->r, w->store, true);
	check_image(w, view_of(w, (unsigned)w->r.seq), (unsigned)w->r.seq);
}

static int no_key(void *arg, const struct lb_id *id, struct lb_key *out)
{
	(void)arg;
	(void)id;
	(void)out;
	return LB_ENOTFOUND;
}

static int wrong_key(void *arg, const struct lb_id *id, struct lb_key *out)
{
	(void)arg;
	(void)id;
	*out = (struct lb_key){{1}};
	return 0;
}

static void test_device_state(void **state)
{
	struct world *w = *state;
	struct lb_id machine = ram_fix_machine(), other = fix_id(0x99);
	struct rep_view_cfg keyless = {.dek_of = no_key};
	struct lb_buf *b = NULL;
	struct lb_err err = {0};
	struct rep_footer sum;
	struct rep_point p;

	live(w, 2, &sum);
	assert_true(rep_store_point_find(w->store, &w->r.point[1], &p));
	assert_int_equal(p.consistency, REP_CONSISTENCY_MEMORY);
	must(rep_point_device_state(&b, w->store, &p.manifest, &machine, &w->keys, &err), &err);
	assert_int_equal(b->len, sizeof("registers"));
	assert_string_equal((const char *)b->p, "registers");
	lb_buf_unref(b);
	b = NULL;
	assert_int_equal(rep_point_device_state(&b, w->store, &p.manifest, &other, &w->keys, &err),
			 LB_ENOTFOUND);
	assert_non_null(strstr(err.msg, "no device state"));
	assert_int_equal(rep_point_attachment(&b, w->store, &p.manifest, &machine,
					      REP_ATTACH_MACHINE, &w->keys, &err),
			 LB_ENOTFOUND);
	assert_int_equal(
		rep_point_device_state(&b, w->store, &p.manifest, &machine, &keyless, &err),
		LB_ENOTFOUND);
	assert_non_null(strstr(err.msg, "does not hold data key"));
	keyless.dek_of = wrong_key;
	assert_int_equal(
		rep_point_device_state(&b, w->store, &p.manifest, &machine, &keyless, &err),
		LB_ECORRUPT);
	p.manifest.b[0] ^= 1;
	assert_int_equal(
		rep_point_device_state(&b, w->store, &p.manifest, &machine, &w->keys, &err),
		LB_ENOTFOUND);
	assert_null(b);
}

static void on_damage(void *arg, const struct rep_damage *d)
{
	(void)arg;
	(void)d;
}

/* Every pack is checked with its key too: whole, and by the newest point's closure. */
static void test_verify(void **state)
{
	struct world *w = *state;
	struct rep_scrub_opts o = {.on_damage = on_damage, .dek_of = ram_fix_dek_of, .arg = &w->r};
	struct rep_scrub_stats st;
	struct lb_err err = {0};
	struct rep_footer sum;

	live(w, 10, &sum);
	must(rep_store_scrub(w->store, &o, &st, &err), &err);
	assert_int_equal(st.damaged, 0);
	assert_int_equal(st.points, 10);
	o.only = &w->r.point[9];
	must(rep_store_scrub(w->store, &o, &st, &err), &err);
	assert_int_equal(st.points, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_point, setup, teardown),
		cmocka_unit_test_setup_teardown(test_little_shadow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_same_page, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_export, setup, teardown),
		cmocka_unit_test_setup_teardown(test_device_state, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_verify, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
