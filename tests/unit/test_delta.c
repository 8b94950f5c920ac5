#include <pthread.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/seal.h"
#include "check.h"
#include "delta_int.h"
#include "draft_int.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"
#include "memfs.h"
#include "replicator/digest.h"
#include "replicator/frame.h"
#include "rnd.h"

/*
 * One volume in RAM, scanned cut after cut. Each layer is taken apart with the format's own
 * decoders, checked (root, leaves, counts) and applied to a copy, which must equal the volume.
 */
#define MAX_PARTS 4096u
#define BLOCK     REP_BLOCK_BYTES

struct part {
	enum rep_record_kind kind;
	uint32_t number;
	struct lb_buf *body;
};

struct fixture {
	struct lb_fs *fs;
	struct rep_digest *digest;
	struct lb_key dek;
	struct img_dev *dev;
	uint64_t size_bytes;
	uint8_t *copy; /* what the peer has */
	uint64_t seq, rnd;
	struct lb_hash base;
	struct rep_layer_header header;
	pthread_mutex_t lock;
	struct part part[MAX_PARTS];
	unsigned parts, emit_fails_at, emitted;
	unsigned workers;
	uint32_t pack_bytes;
	struct rep_delta_result result;
	struct rep_draft *draft;
	struct part held[MAX_PARTS]; /* of drafts, by the peer */
	unsigned helds;
};

static struct fixture *fixture_new(uint64_t size_bytes, unsigned workers)
{
	struct fixture *x = calloc(1, sizeof(*x));
	struct lb_id volume = {.b = {1}};

	assert_non_null(x);
	x->size_bytes = size_bytes;
	x->workers = workers;
	x->pack_bytes = 65536;
	x->rnd = 42;
	x->copy = calloc(1, size_bytes + BLOCK);
	lb_key_random(&x->dek, lb_env_real());
	(void)pthread_mutex_init(&x->lock, NULL);
	assert_int_equal(lb_memfs_create(&x->fs, 1, NULL), 0);
	assert_int_equal(img_mem_create(&x->dev, size_bytes, NULL), 0);
	assert_int_equal(rep_digest_open(&x->digest, lb_env_real(), x->fs, &volume, NULL), 0);
	return x;
}

static void parts_drop(struct fixture *x)
{
	while (x->parts > 0)
		lb_buf_unref(x->part[--x->parts].body);
}

static void fixture_free(struct fixture *x)
{
	parts_drop(x);
	rep_digest_close(x->digest);
	img_dev_destroy(x->dev);
	lb_fs_destroy(x->fs);
	(void)pthread_mutex_destroy(&x->lock);
	free(x->copy);
	free(x);
}

static int on_emit(void *arg, enum rep_record_kind kind, uint32_t number, struct lb_buf *body,
		   struct lb_err *err)
{
	struct fixture *x = arg;
	int rc = 0;

	(void)pthread_mutex_lock(&x->lock);
	if (++x->emitted == x->emit_fails_at)
		rc = lb_err_set(err, LB_ECANCELED, 0, "enough");
	else if (x->parts < MAX_PARTS)
		x->part[x->parts++] = (struct part){kind, number, lb_buf_ref(body)};
	(void)pthread_mutex_unlock(&x->lock);
	return rc;
}

static void header_make(struct fixture *x)
{
	x->header = (struct rep_layer_header){.volume_bytes =
						      (x->size_bytes + BLOCK - 1) / BLOCK * BLOCK,
					      .pack_raw_bytes = x->pack_bytes,
					      .kind = REP_VOLUME_DISK,
					      .codec = REP_CODEC_LZ4,
					      .full = lb_hash_is_zero(&x->base),
					      .base = x->base,
					      .epoch = 1,
					      .seq = ++x->seq};
	memset(x->header.group.b, 1, sizeof(struct lb_id));
	memset(x->header.machine.b, 2, sizeof(struct lb_id));
	memset(x->header.volume.b, 3, sizeof(struct lb_id));
	memset(x->header.site.b, 4, sizeof(struct lb_id));
	memset(x->header.deployment.b, 5, sizeof(struct lb_id));
	lb_key_id(&x->header.key, &x->dek);
	lb_id_random(&x->header.layer, lb_env_real());
}

/* Scan @dev as the next cut. */
static int scan(struct fixture *x, struct img_dev *dev, const struct img_extmap *changed,
		struct lb_err *err)
{
	struct rep_delta_cfg c = {.env = lb_env_real(),
				  .fs = x->fs,
				  .header = &x->header,
				  .dek = &x->dek,
				  .digest = x->digest,
				  .dev = dev,
				  .changed = changed,
				  .draft = x->draft,
				  .workers = x->workers,
				  .emit = on_emit,
				  .arg = x};
	bool full = lb_hash_is_zero(&x->base);

	parts_drop(x);
	x->emitted = 0;
	if (x->draft == NULL)
		header_make(x);
	assert_int_equal(rep_digest_begin(x->digest, full, NULL), 0);
	return rep_delta_run(&x->result, &c, err);
}

static const struct part *find(const struct fixture *x, enum rep_record_kind kind, uint32_t number)
{
	const struct part *found = NULL;

	for (unsigned i = 0; i < x->parts; i++) {
		if (x->part[i].kind == kind && x->part[i].number == number) {
			assert_null(found); /* each once */
			found = &x->part[i];
		}
	}
	assert_non_null(found);
	return found;
}

static unsigned count_of(const struct fixture *x, enum rep_record_kind kind)
{
	unsigned n = 0;

	for (unsigned i = 0; i < x->parts; i++)
		n += x->part[i].kind == kind;
	return n;
}

static uint32_t leaves_of(const struct fixture *x, struct lb_hash *out, uint32_t at,
			  enum rep_record_kind kind, uint32_t n, uint64_t *bytes)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct part *p = find(x, kind, i);

		lb_merkle_leaf(&out[at++], p->body->p, p->body->len);
		*bytes += p->body->len;
	}
	return at;
}

static void check_footer(const struct fixture *x, struct rep_footer *f)
{
	const struct part *p = find(x, REP_RECORD_FOOTER, 0);
	struct lb_hash *leaf = calloc(MAX_PARTS, sizeof(*leaf)), root;
	struct lb_hash *told = calloc(REP_LEAVES_MAX, sizeof(*told));
	uint64_t bytes = 0;
	uint32_t n = 0, at = 0;

	assert_int_equal(rep_footer_decode(f, p->body->p, p->body->len, NULL), 0);
	assert_memory_equal(f, &x->result.footer, sizeof(*f));
	n = leaves_of(x, leaf, n, REP_RECORD_LAYER_HEADER, 1, &bytes);
	n = leaves_of(x, leaf, n, REP_RECORD_PACK, f->packs, &bytes);
	n = leaves_of(x, leaf, n, REP_RECORD_DIGESTS, f->digest_parts, &bytes);
	n = leaves_of(x, leaf, n, REP_RECORD_INDEX, f->index_parts, &bytes);
	assert_true(bytes == f->bytes);
	assert_int_equal(x->parts, n + f->leaf_parts + 1);
	rep_layer_root(&root, f, leaf);
	assert_true(lb_hash_equal(&root, &f->root));
	for (uint32_t i = 0; i < f->leaf_parts; i++) {
		uint32_t got = 0, number = 0;

		p = find(x, REP_RECORD_LEAVES, i);
		assert_int_equal(
			rep_leaves_decode(told, &got, &number, p->body->p, p->body->len, NULL), 0);
		assert_int_equal(number, i);
		assert_memory_equal(told, leaf + at, got * sizeof(*leaf));
		at += got;
	}
	assert_int_equal(at, n);
	free(leaf);
	free(told);
}

/* Apply the layer to the copy, and check its digests part against the copy's blocks. */
static void apply(struct fixture *x)
{
	static uint8_t raw[REP_PACK_MAX_RAW];
	static struct lb_digest digests[REP_DIGESTS_MAX];
	struct lb_sealer *s = NULL;
	struct rep_footer f;
	uint64_t data = 0, zero = 0;
	uint32_t digests_left = 0, digests_part = 0, digests_n = 0;

	check_footer(x, &f);
	assert_int_equal(lb_sealer_create(&s, &x->dek, NULL), 0);
	for (uint32_t i = 0; i < f.index_parts; i++) {
		const struct part *p = find(x, REP_RECORD_INDEX, i);
		struct rep_index index;

		assert_int_equal(
			rep_index_decode(&index, p->body->p, p->body->len, &x->header, NULL), 0);
		for (uint32_t k = 0; k < index.count; k++) {
			struct rep_run r;
			uint32_t raw_bytes = 0;

			rep_index_run(&r, &index, k);
			if (r.kind == REP_RUN_ZERO) {
				memset(x->copy + r.block * BLOCK, 0, (size_t)r.count * BLOCK);
				zero += r.count;
				continue;
			}
			data += r.count;
			p = find(x, REP_RECORD_PACK, r.pack);
			assert_int_equal(
				rep_pack_open(raw, &raw_bytes, s, &x->header,
					      (struct rep_sealed){r.pack, p->body->p, p->body->len},
					      NULL),
				0);
			assert_true((r.pos + r.count) * BLOCK <= raw_bytes);
			memcpy(x->copy + r.block * BLOCK, raw + (size_t)r.pos * BLOCK,
			       (size_t)r.count * BLOCK);
			for (uint32_t b = 0; b < r.count; b++) {
				struct lb_digest want;

				if (digests_left == 0) {
					p = find(x, REP_RECORD_DIGESTS, digests_part);
					assert_int_equal(
						rep_digests_open(digests, &digests_n, s, &x->header,
								 (struct rep_sealed){digests_part++,
										     p->body->p,
										     p->body->len},
								 NULL),
						0);
					digests_left = digests_n;
				}
				rep_digest_of(x->digest, &want, raw + (size_t)(r.pos + b) * BLOCK);
				assert_memory_equal(&digests[digests_n - digests_left], &want, 16);
				digests_left--;
			}
		}
	}
	assert_true(data == f.data_blocks && zero == f.zero_blocks && digests_left == 0);
	assert_int_equal(digests_part, f.digest_parts);
	lb_sealer_destroy(s);
}

static void check_equal(struct fixture *x)
{
	uint8_t *now = malloc(x->size_bytes);

	assert_int_equal(img_pread(x->dev, now, x->size_bytes, 0, NULL), 0);
	assert_memory_equal(now, x->copy, x->size_bytes);
	free(now);
}

/* Scan, take apart, compare, and let the digests follow. */
static void cut(struct fixture *x, const struct img_extmap *changed)
{
	struct lb_err err = {0};
	struct lb_hash m = {.b = {0}};

	if (scan(x, x->dev, changed, &err) != 0)
		fail_msg("%s", err.msg);
	if (x->header.full)
		memset(x->copy, 0, x->size_bytes);
	apply(x);
	check_equal(x);
	m.b[0] = (uint8_t)x->seq;
	m.b[1] = 1;
	assert_int_equal(rep_digest_seal(x->digest, &m, NULL), 0);
	assert_int_equal(rep_digest_commit(x->digest, &m, NULL), 0);
	x->base = m;
}

/* Write, zero and rewrite with the same bytes, here and there; @map notes where. */
static void scribble(struct fixture *x, unsigned times, struct img_extmap *map)
{
	static uint8_t data[64 * BLOCK];

	for (unsigned i = 0; i < times; i++) {
		uint64_t blocks = x->size_bytes / BLOCK, block = rnd_below(&x->rnd, blocks);
		uint64_t n = 1 + rnd_below(&x->rnd, i % 7 == 0 ? 64 : 3);

		n = n < blocks - block ? n : blocks - block;
		if (map != NULL)
			assert_int_equal(img_extmap_insert(map, block, n, 0, NULL), 0);
		if (i % 5 == 4) {
			assert_int_equal(img_zero(x->dev, n * BLOCK, block * BLOCK, NULL), 0);
			continue;
		}
		if (i % 11 == 10) { /* the same bytes: in the map, not in the layer */
			assert_int_equal(img_pread(x->dev, data, n * BLOCK, block * BLOCK, NULL),
					 0);
		} else {
			rnd_fill(&x->rnd, data, n * BLOCK);
		}
		assert_int_equal(img_pwrite(x->dev, data, n * BLOCK, block * BLOCK, NULL), 0);
	}
}

static void life(unsigned workers, uint64_t size_bytes)
{
	struct fixture *x = fixture_new(size_bytes, workers);
	struct img_extmap *map = NULL;

	cut(x, NULL); /* nothing but zeros: costs nothing */
	assert_int_equal(x->result.footer.packs + x->result.footer.index_parts, 0);
	memset(&x->base, 0, sizeof(x->base));
	x->pack_bytes = REP_PACK_MAX_RAW;
	scribble(x, 60, NULL);
	cut(x, NULL);
	x->pack_bytes = 65536;
	cut(x, NULL); /* nothing changed */
	assert_int_equal(x->result.footer.packs + x->result.footer.index_parts, 0);
	for (unsigned i = 0; i < 4; i++) {
		scribble(x, 10 + 40 * i, NULL);
		cut(x, NULL);
	}
	assert_int_equal(img_extmap_create(&map, false, 10000, NULL), 0);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t dirty;

		img_extmap_clear(map);
		scribble(x, 15 * (i + 1), map);
		dirty = img_extmap_blocks(map);
		cut(x, map);
		assert_true(x->result.bytes_read <= dirty * BLOCK);
		assert_true(x->result.footer.data_blocks + x->result.footer.zero_blocks < dirty);
	}
	assert_int_equal(img_zero(x->dev, x->size_bytes / BLOCK * BLOCK, 0, NULL), 0);
	cut(x, NULL); /* all gone: one run, however many chunks */
	assert_int_equal(x->result.footer.data_blocks, 0);
	assert_int_equal(count_of(x, REP_RECORD_INDEX), 1);
	img_extmap_destroy(map);
	fixture_free(x);
}

static void test_one_worker(void **state)
{
	(void)state;
	life(1, 8u << 20);
}

static void test_three_workers(void **state)
{
	(void)state;
	life(3, 24u << 20);
}

/* A size that is no multiple of a block: the rest reads as zeros. */
static void test_odd_size(void **state)
{
	(void)state;
	life(2, (5u << 20) + 512);
}

/* Every operation of the device fails once; so does every hand-over. */
static void test_failures(void **state)
{
	struct fixture *x = fixture_new(6u << 20, 2);
	struct lb_err err = {0};
	bool clean = false;
	unsigned refused = 0;

	(void)state;
	scribble(x, 50, NULL);
	for (uint64_t k = 1; !clean; k++) {
		struct img_dev *bad = NULL;
		int rc;

		assert_int_equal(img_fault_create(&bad, x->dev, k, LB_EIO, NULL), 0);
		rc = scan(x, bad, NULL, &err);
		clean = img_fault_count(bad) < k;
		assert_int_equal(rc, clean ? 0 : LB_EIO);
		img_dev_destroy(bad);
	}
	/* How many parts there are depends on which worker took which chunk: the last may not come.
	 */
	for (unsigned k = x->emitted; k >= 1; k--) {
		int rc;

		x->emit_fails_at = k;
		rc = scan(x, x->dev, NULL, &err);
		assert_int_equal(rc, x->emitted < k ? 0 : LB_ECANCELED);
		if (rc == 0)
			continue;
		assert_string_equal(err.msg, "enough");
		refused++;
	}
	assert_true(refused > 0);
	x->emit_fails_at = 0;
	cut(x, NULL);
	fixture_free(x);
}

static void test_spool(void **state)
{
	struct lb_id layer = {.b = {9}};
	struct lb_fs *fs = NULL;
	struct rep_spool s;
	uint8_t out[1000], in[1000];

	(void)state;
	assert_int_equal(lb_memfs_create(&fs, 1, NULL), 0);
	rep_spool_init(&s, fs, &layer, "t", 8000);
	for (unsigned i = 0; i < 20; i++) {
		memset(in, (int)i, sizeof(in));
		assert_int_equal(rep_spool_write(&s, (i ^ 1) * 1000, in, 1000, NULL), 0);
	}
	assert_non_null(s.file);
	for (unsigned i = 0; i < 20; i++) {
		memset(in, (int)(i ^ 1), sizeof(in));
		assert_int_equal(rep_spool_read(&s, i * 1000, out, 1000, NULL), 0);
		assert_memory_equal(in, out, 1000);
	}
	assert_int_equal(rep_spool_read(&s, 19001, out, 1000, NULL), LB_EINVAL);
	/* A killed process leaves it; the next one removes it. */
	lb_file_close(s.file);
	assert_int_equal(rep_spool_clean(fs, NULL), 0);
	assert_int_equal(lb_fs_open(fs, &s.file, s.path, LB_FS_READ, NULL), LB_ENOTFOUND);
	lb_fs_destroy(fs);
}

/* ---- drafts: attempts at one layer that are broken off ---- */

static struct part *held_of(struct fixture *x, enum rep_record_kind kind, uint32_t number)
{
	for (unsigned i = 0; i < x->helds; i++)
		if (x->held[i].kind == kind && x->held[i].number == number)
			return &x->held[i];
	return NULL;
}

/* What was emitted arrives, but some of the last packs. Of the end of a layer the newest counts. */
static void arrive(struct fixture *x, unsigned lost)
{
	for (unsigned i = 0; i < x->parts; i++) {
		const struct part *p = &x->part[i];
		struct part *old = held_of(x, p->kind, p->number);

		if (i + lost >= x->parts && rnd_below(&x->rnd, 2) == 0)
			continue;
		if (old == NULL) {
			assert_true(x->helds < MAX_PARTS);
			old = &x->held[x->helds++];
			*old = (struct part){p->kind, p->number, lb_buf_ref(p->body)};
			continue;
		}
		assert_true(p->kind != REP_RECORD_PACK); /* never given a second time */
		if (p->kind == REP_RECORD_LAYER_HEADER)
			assert_memory_equal(old->body->p, p->body->p, p->body->len);
		lb_buf_unref(old->body);
		old->body = lb_buf_ref(p->body);
	}
}

static void admit_of(struct fixture *x, struct rep_admit *a)
{
	memset(a, 0, sizeof(*a));
	a->layers = 1;
	while (held_of(x, REP_RECORD_PACK, a->layer[0].first_missing) != NULL)
		a->layer[0].first_missing++;
	for (uint32_t n = a->layer[0].first_missing; n < MAX_PARTS; n++)
		if (held_of(x, REP_RECORD_PACK, n) != NULL)
			a->extra[a->extras++].number = n;
}

/* Another process: go on with the layer, or begin it. */
static void attempt(struct fixture *x, unsigned run, unsigned fails_at, unsigned lost)
{
	struct rep_draft_facts f = {.run = {.b = {(uint8_t)run, 1}}};
	struct rep_admit a;
	struct lb_err err = {0};
	int rc;

	rep_draft_probe(&f.probe, x->digest);
	f.header = x->header;
	if (run == 0) {
		assert_int_equal(rep_draft_create(&x->draft, x->fs, &f, NULL), 0);
	} else {
		admit_of(x, &a);
		lb_id_random(&f.header.layer, lb_env_real());
		assert_int_equal(rep_draft_resume(&x->draft, x->fs, &f, NULL), 0);
		assert_true(lb_id_equal(rep_draft_layer(x->draft), &x->header.layer));
		assert_int_equal(rep_draft_hold(x->draft, &a, 0, NULL), 0);
		assert_int_equal(rep_draft_go_on(x->draft, NULL), 0);
	}
	x->emit_fails_at = fails_at;
	rc = scan(x, x->dev, NULL, &err);
	assert_int_equal(rc, fails_at == 0 || x->emitted < fails_at ? 0 : LB_ECANCELED);
	arrive(x, lost);
	rep_draft_close(x->draft);
	x->draft = NULL;
}

static void fill_with_data(struct fixture *x)
{
	uint8_t block[BLOCK];

	for (uint64_t b = 0; b < x->size_bytes / BLOCK; b++) {
		rnd_fill(&x->rnd, block, 64);
		memset(block + 64, 0, sizeof(block) - 64);
		assert_int_equal(img_pwrite(x->dev, block, BLOCK, b * BLOCK, NULL), 0);
	}
}

/* The layer, of all attempts' parts, is whole, and is the last cut. */
static void drafted(struct fixture *x)
{
	parts_drop(x);
	x->emit_fails_at = 0;
	memcpy(x->part, x->held, x->helds * sizeof(x->held[0]));
	x->parts = x->helds;
	x->helds = 0;
	memset(x->copy, 0, x->size_bytes);
	apply(x);
	check_equal(x);
}

static void test_draft(void **state)
{
	struct fixture *x = fixture_new(6u << 20, 3);
	uint64_t again;

	(void)state;
	fill_with_data(x);
	header_make(x);
	for (unsigned run = 0; run < 30; run++) {
		attempt(x, run, 2 + (unsigned)rnd_below(&x->rnd, 9), 4);
		scribble(x, 3, NULL);
	}
	attempt(x, 30, 0, 0);
	again = x->result.footer.data_blocks - x->result.blocks_kept;
	(void)printf("30 attempts broken off: %llu of %llu blocks kept, %u packs filled\n",
		     (unsigned long long)x->result.blocks_kept,
		     (unsigned long long)x->result.footer.data_blocks, x->result.packs_filled);
	assert_true(again < x->result.footer.data_blocks && x->result.packs_filled > 0);
	drafted(x);
	fixture_free(x);
}

/* Broken off behind the last pack: the next attempt has less of an end, and leaves nothing of the
 * older one's behind. */
static void test_draft_end(void **state)
{
	struct fixture *x = fixture_new(80u << 20, 2);

	(void)state;
	fill_with_data(x);
	for (uint64_t b = 0; b < x->size_bytes / BLOCK; b += 2) /* runs of one block */
		assert_int_equal(img_zero(x->dev, BLOCK, b * BLOCK, NULL), 0);
	header_make(x);
	attempt(x, 0, 0, 0);
	assert_true(x->result.footer.index_parts > 1);
	fill_with_data(x); /* twice as many digests, and no block where it was */
	attempt(x, 1, 0, 2);
	assert_true(x->result.footer.digest_parts > 1 && x->result.blocks_kept == 0);
	assert_int_equal(img_zero(x->dev, x->size_bytes - 100 * BLOCK, 0, NULL), 0);
	attempt(x, 2, 0, 0);
	assert_true(x->result.footer.data_blocks == 100 && x->result.blocks_kept > 0);
	drafted(x);
	fixture_free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_worker), cmocka_unit_test(test_three_workers),
		cmocka_unit_test(test_odd_size),   cmocka_unit_test(test_failures),
		cmocka_unit_test(test_spool),      cmocka_unit_test(test_draft),
		cmocka_unit_test(test_draft_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
