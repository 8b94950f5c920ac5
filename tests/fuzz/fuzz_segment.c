/*
 * A segment file: opened as the last or as a finished one, scrubbed, viewed, appended to, opened
 * again. Byte 0 of the input: bit 0 mends the CRCs record by record, so that what is behind them is
 * reached; bit 1 puts an empty segment behind it, which makes it a finished one.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/hash.h"
#include "format_fix.h"
#include "imaging/dev.h"
#include "memfs.h"
#include "replicator/store.h"
#include "replicator/view.h"
#include "store_int.h"

#define INPUT_MAX (256u << 10)
#define VIEW_MAX  (UINT64_C(1) << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int dek_of(void *arg, const struct lb_id *id, struct lb_key *out)
{
	(void)arg;
	(void)id;
	*out = fix_key();
	return 0;
}

static int key_of(void *arg, const struct lb_id *site, struct lb_pubkey *out)
{
	(void)arg;
	memcpy(out->b, site->b, sizeof(site->b));
	return 0;
}

static void put_file(struct lb_fs *fs, const char *path, const void *p, size_t len)
{
	struct lb_file *f = NULL;

	LB_ASSERT(lb_fs_open(fs, &f, path, LB_FS_CREATE, NULL) == 0);
	LB_ASSERT(lb_file_truncate(f, 0, NULL) == 0 && lb_file_pwrite(f, p, len, 0, NULL) == 0);
	lb_file_close(f);
}

static void put_u32(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

/* Give every record the place and the sums it should have. */
static void mend(uint8_t *p, size_t len)
{
	size_t off = 0;

	while (len - off >= REP_RECORD_HEADER_BYTES) {
		uint8_t *h = p + off;
		uint32_t bytes = (uint32_t)h[8] | (uint32_t)h[9] << 8 | (uint32_t)h[10] << 16;
		uint64_t span = rep_record_span(bytes);

		if (span > len - off)
			return;
		memset(h + 32, 0, 16);
		h[11] = 0;
		h[32] = 1;
		put_u32(h + 40, (uint32_t)off);
		put_u32(h + 48, lb_crc32c(0, h + REP_RECORD_HEADER_BYTES, bytes));
		put_u32(h + 52, lb_crc32c(0, h, 52));
		off += (size_t)span;
	}
}

/* A store whose id and tag are always the same, with @p as its segment 1. */
static void make_store(struct lb_fs *fs, const uint8_t *p, size_t len, bool finished)
{
	struct fix_env env = fix_env(1);
	struct rep_store_cfg cfg = REP_STORE_CFG_DEFAULTS;
	struct rep_store *s = NULL;
	uint8_t *head = NULL;
	size_t head_len = 0;

	LB_ASSERT(rep_store_open(&s, &env.env, fs, &cfg, NULL) == 0);
	rep_store_close(s);
	LB_ASSERT(lb_fs_read_all(fs, "seg/0000000000000001.seg", 4096, &head, &head_len, NULL) ==
		  0);
	put_file(fs, "seg/0000000000000001.seg", p, len);
	if (finished) {
		head[32] = 2; /* its number, and its predecessor's */
		head[REP_RECORD_HEADER_BYTES + 32] = 1;
		put_u32(head + 48,
			lb_crc32c(0, head + REP_RECORD_HEADER_BYTES, REP_SEG_HEAD_BYTES));
		put_u32(head + 52, lb_crc32c(0, head, 52));
		put_file(fs, "seg/0000000000000002.seg", head, head_len);
	}
	free(head);
}

static void look_at(struct rep_store *s, const struct rep_manifest *m, const struct lb_hash *hash)
{
	struct rep_view_cfg cfg = {.dek_of = dek_of};

	for (uint32_t i = 0; i < m->volumes && i < 2; i++) {
		struct img_dev *d = NULL;
		struct img_extent x;
		uint8_t *p;

		if (rep_view_open(&d, s, hash, &m->volume[i].volume, &cfg, NULL) != 0)
			continue;
		if (d->size_bytes <= VIEW_MAX) {
			p = malloc((size_t)d->size_bytes);
			LB_ASSERT(p != NULL);
			(void)img_pread(d, p, d->size_bytes, 0, NULL);
			free(p);
		}
		LB_ASSERT(img_next_extent(d, &x, 0, NULL) == 0);
		img_dev_destroy(d);
	}
}

static int each_point(void *arg, const struct rep_point *p)
{
	struct rep_store *s = arg;
	struct rep_scrub_opts o = {.key_of = key_of, .dek_of = dek_of, .only = &p->manifest};
	struct rep_manifest *m = NULL;
	struct lb_buf *b = NULL;

	if (rep_store_read_manifest(s, &p->manifest, &b, NULL) == 0 &&
	    rep_manifest_alloc(&m, b, NULL) == 0)
		look_at(s, m, &p->manifest);
	(void)rep_store_scrub(s, &o, NULL, NULL);
	lb_buf_unref(b);
	free(m);
	return 0;
}

static void use(struct rep_store *s)
{
	struct rep_scrub_opts o = {.key_of = NULL};
	struct lb_id layer = fix_id(0x77);
	struct lb_buf *b = NULL;

	(void)rep_store_scrub(s, &o, NULL, NULL);
	(void)rep_store_points(s, NULL, each_point, s);
	LB_ASSERT(lb_buf_copy_of(&b, "part", 4, NULL) == 0);
	(void)rep_store_append(s, REP_RECORD_PACK, &layer, 0, b, NULL, NULL);
	lb_buf_unref(b);
	(void)rep_store_commit(s, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fix_env env = fix_env(2);
	struct rep_store_cfg cfg = REP_STORE_CFG_DEFAULTS;
	struct rep_store *s = NULL;
	struct lb_fs *fs = NULL;
	uint8_t *copy;

	if (size < 1 || size > INPUT_MAX)
		return 0;
	copy = malloc(size);
	LB_ASSERT(copy != NULL && lb_memfs_create(&fs, 1, NULL) == 0);
	memcpy(copy, data + 1, size - 1);
	if ((data[0] & 1) != 0)
		mend(copy, size - 1);
	make_store(fs, copy, size - 1, (data[0] & 2) != 0);
	if (rep_store_open(&s, &env.env, fs, &cfg, NULL) == 0) {
		use(s);
		rep_store_close(s);
		/* What opened once opens again. */
		LB_ASSERT(rep_store_open(&s, &env.env, fs, &cfg, NULL) == 0);
		rep_store_close(s);
	}
	free(copy);
	lb_fs_destroy(fs);
	return 0;
}
