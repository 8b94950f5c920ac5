/*
 * One thread writes, others read what is visible: points, heads, parts, whole views. Worth its time
 * under the tsan preset; under the others it checks that readers never see a half-made point.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "check.h"
#include "imaging/dev.h"
#include "memfs.h"
#include "replicator/view.h"
#include "store_fix.h"

#define POINTS  24u
#define READERS 3u

struct world {
	struct rep_store *store;
	struct sf_group group[3];
	struct sf_point point[POINTS];
	atomic_bool done;
	atomic_uint wrong, views;
};

/* Open the view of the newest point of group @n and compare every byte. */
static void read_head(struct world *w, unsigned n)
{
	struct rep_view_cfg cfg = {.dek_of = sf_dek_of, .arg = w->group, .cache_bytes = 1};
	struct img_dev *d = NULL;
	struct rep_point head;
	struct lb_hash got;
	uint8_t *p;

	if (!rep_store_head(w->store, &w->group[n].group, &head))
		return;
	if (rep_view_open(&d, w->store, &head.manifest, &w->group[n].vol[0].volume, &cfg, NULL) !=
	    0) {
		atomic_fetch_add(&w->wrong, 1);
		return;
	}
	p = malloc(d->size_bytes);
	if (p == NULL || img_pread(d, p, d->size_bytes, 0, NULL) != 0) {
		atomic_fetch_add(&w->wrong, 1);
	} else {
		lb_sha256(&got, p, d->size_bytes);
		/* Points of a group are every other one, in order. */
		if (!lb_hash_equal(&got, &w->point[(head.seq - 1) * 2 + n].image[0]))
			atomic_fetch_add(&w->wrong, 1);
		atomic_fetch_add(&w->views, 1);
	}
	free(p);
	img_dev_destroy(d);
}

static int count(void *arg, const struct rep_point *p)
{
	*(unsigned *)arg += !p->damaged;
	return 0;
}

static void *reader(void *arg)
{
	struct world *w = arg;
	unsigned before = 0;
	bool last;

	do {
		unsigned n = 0;

		last = atomic_load(&w->done);
		(void)rep_store_points(w->store, NULL, count, &n);
		if (n < before)
			atomic_fetch_add(&w->wrong, 1);
		before = n;
		read_head(w, n % 2);
		(void)rep_store_have_part(w->store, &w->point[POINTS - 1].layer[0].header.layer,
					  REP_RECORD_PACK, 0);
		(void)rep_store_bytes(w->store);
	} while (!last);
	return NULL;
}

static void write_all(struct world *w)
{
	struct lb_err err = {.code = 0};

	for (unsigned i = 0; i < POINTS; i++) {
		uint8_t receipt[REP_RECEIPT_BYTES];

		if (sf_point_send(w->store, &w->point[i], &err) != 0 ||
		    rep_store_commit(w->store, &err) != 0)
			fail_msg("%s", err.msg);
		sf_receipt(receipt, w->store, &w->group[i % 2], &w->point[i]);
		assert_int_equal(rep_store_append_receipt(w->store, receipt, sizeof(receipt), &err),
				 0);
	}
}

static void test_readers(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct rep_store_cfg cfg = {.segment_bytes = 32 << 10};
	struct fix_env env = fix_env(1);
	struct lb_fs *fs = NULL;
	pthread_t thread[READERS];

	(void)state;
	assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
	for (unsigned i = 0; i < 2; i++)
		sf_group_init(&w->group[i], i, 1, 48, 21);
	for (unsigned i = 0; i < POINTS; i++) {
		sf_group_write(&w->group[i % 2], 12);
		sf_point_cut(&w->group[i % 2], &w->point[i]);
		sf_point_accepted(&w->group[i % 2], &w->point[i]);
	}
	assert_int_equal(rep_store_open(&w->store, &env.env, fs, &cfg, NULL), 0);
	for (unsigned i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, reader, w), 0);
	write_all(w);
	atomic_store(&w->done, true);
	for (unsigned i = 0; i < READERS; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	assert_int_equal(atomic_load(&w->wrong), 0);
	assert_true(atomic_load(&w->views) >= READERS);
	rep_store_close(w->store);
	for (unsigned i = 0; i < POINTS; i++)
		sf_point_free(&w->point[i]);
	for (unsigned i = 0; i < 2; i++)
		sf_group_fini(&w->group[i]);
	lb_fs_destroy(fs);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
