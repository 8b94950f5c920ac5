/*
 * An overlay whose bitmap survives.
 *
 *   map: header (4096 bytes) | bitmap, one bit a block, padded to 4096
 *
 * Order of a flush: copy the bitmap as it is now; flush the upper device, so every block the copy
 * names is durable; write the pages of the copy that differ from what the map holds; flush the map.
 * Bits only ever go from 0 to 1, so a page of the map that is torn by a power cut holds a mixture
 * of old and new bits, each of which is true.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/id.h"
#include "base/rd.h"
#include "base/wr.h"
#include "dev_int.h"
#include "imaging/dev.h"

#define PAGE   4096u
#define MAGIC  0x4d564f4cu /* "LOVM" */
#define LAYOUT 1u

struct kept_dev {
	struct img_dev dev;
	struct img_dev *overlay;
	struct img_dev *map;   /* borrowed */
	pthread_mutex_t flush; /* guards what follows */
	uint8_t *now, *saved;  /* bitmaps of .bytes: scratch, and what the map holds */
	uint64_t bytes;        /* padded to pages */
};

static const struct img_dev_ops kept_ops;

static struct kept_dev *kept_of(struct img_dev *d)
{
	LB_ASSERT(d->ops == &kept_ops);
	return (struct kept_dev *)d;
}

static int kept_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	return img_pread(kept_of(d)->overlay, buf, len, off, err);
}

static int kept_pwrite(struct img_dev *d, const void *buf, uint64_t len, uint64_t off,
		       struct lb_err *err)
{
	return img_pwrite(kept_of(d)->overlay, buf, len, off, err);
}

static int kept_zero(struct img_dev *d, uint64_t len, uint64_t off, struct lb_err *err)
{
	return img_zero(kept_of(d)->overlay, len, off, err);
}

static int kept_next_extent(struct img_dev *d, struct img_extent *out, uint64_t off,
			    struct lb_err *err)
{
	return img_next_extent(kept_of(d)->overlay, out, off, err);
}

static int save_map(struct kept_dev *k, struct lb_err *err)
{
	bool any = false;
	int rc = 0;

	for (uint64_t at = 0; at < k->bytes && rc == 0; at += PAGE) {
		if (memcmp(k->now + at, k->saved + at, PAGE) == 0)
			continue;
		any = true;
		rc = img_pwrite(k->map, k->now + at, PAGE, PAGE + at, err);
	}
	if (rc == 0 && any)
		rc = img_flush(k->map, err);
	if (rc == 0)
		memcpy(k->saved, k->now, k->bytes);
	return rc;
}

static int kept_flush(struct img_dev *d, struct lb_err *err)
{
	struct kept_dev *k = kept_of(d);
	int rc;

	(void)pthread_mutex_lock(&k->flush);
	img_overlay_save(k->overlay, k->now);
	rc = img_flush(k->overlay, err);
	if (rc == 0)
		rc = save_map(k, err);
	(void)pthread_mutex_unlock(&k->flush);
	return rc;
}

static void kept_destroy(struct img_dev *d)
{
	struct kept_dev *k = kept_of(d);

	img_dev_destroy(k->overlay);
	(void)pthread_mutex_destroy(&k->flush);
	free(k->now);
	free(k->saved);
	free(k);
}

static const struct img_dev_ops kept_ops = {
	.name = "kept",
	.pread = kept_pread,
	.pwrite = kept_pwrite,
	.zero = kept_zero,
	.flush = kept_flush,
	.next_extent = kept_next_extent,
	.destroy = kept_destroy,
};

/* ---- the map's header ---- */

static uint64_t padded_bitmap(uint64_t lower_bytes)
{
	uint64_t blocks = lower_bytes / PAGE + (lower_bytes % PAGE != 0);
	uint64_t bytes = blocks / 8 + (blocks % 8 != 0);

	return (bytes + PAGE - 1) / PAGE * PAGE;
}

uint64_t img_kept_map_bytes(uint64_t lower_bytes)
{
	return PAGE + padded_bitmap(lower_bytes);
}

static void build_header(uint8_t page[PAGE], uint64_t size, const struct lb_hash *of)
{
	struct lb_wr wr = lb_wr_init(page, PAGE);
	struct lb_hash sum;

	memset(page, 0, PAGE);
	lb_wr_u32le(&wr, MAGIC);
	lb_wr_u32le(&wr, LAYOUT);
	lb_wr_u64le(&wr, size);
	lb_wr_hash(&wr, of);
	lb_sha256(&sum, page, wr.len);
	lb_wr_hash(&wr, &sum);
	LB_ASSERT(lb_wr_done(&wr));
}

/* Zeros: nothing was ever kept. A header that was torn while it was made is of a map without bits,
 * but so may be one that was overwritten: it is refused. */
static int check_header(const uint8_t page[PAGE], uint64_t size, const struct lb_hash *of,
			bool *fresh, struct lb_err *err)
{
	static const uint8_t zeros[PAGE];
	struct lb_rd rd = lb_rd_init(page, PAGE);
	struct lb_hash sum, is_of;
	uint32_t magic = lb_rd_u32le(&rd), layout = lb_rd_u32le(&rd);
	uint64_t is_size = lb_rd_u64le(&rd);
	uint8_t expect[PAGE];

	*fresh = memcmp(page, zeros, PAGE) == 0;
	if (*fresh)
		return 0;
	is_of = lb_rd_hash(&rd);
	sum = lb_rd_hash(&rd);
	build_header(expect, is_size, &is_of);
	if (magic != MAGIC || layout != LAYOUT || lb_hash_is_zero(&sum) ||
	    memcmp(expect, page, PAGE) != 0)
		return lb_err_set(err, LB_ECORRUPT, 0, "overlay map: its header is damaged");
	if (is_size != size || !lb_hash_equal(&is_of, of))
		return lb_err_set(err, LB_EINPUT, 0,
				  "overlay map belongs to another recovery point or size");
	return 0;
}

static int load_map(struct kept_dev *k, const struct lb_hash *of, struct lb_err *err)
{
	uint8_t page[PAGE];
	bool fresh = false;
	int rc = img_pread(k->map, page, PAGE, 0, err);

	if (rc == 0)
		rc = check_header(page, k->dev.size_bytes, of, &fresh, err);
	if (rc != 0)
		return rc;
	if (fresh) {
		build_header(page, k->dev.size_bytes, of);
		rc = img_pwrite(k->map, page, PAGE, 0, err);
		return rc == 0 ? img_flush(k->map, err) : rc;
	}
	rc = img_pread(k->map, k->saved, k->bytes, PAGE, err);
	if (rc != 0)
		return rc;
	return img_overlay_load(k->overlay, k->saved, img_overlay_bitmap_bytes(k->overlay), err);
}

int img_kept_create(struct img_dev **out, struct img_dev *lower, struct img_dev *upper,
		    struct img_dev *map, const struct lb_hash *of, struct lb_err *err)
{
	struct kept_dev *k;
	int rc;

	if (!img_writable(map) || map->size_bytes < img_kept_map_bytes(lower->size_bytes))
		return lb_err_set(err, LB_EINPUT, 0,
				  "overlay map of %" PRIu64 " bytes, %" PRIu64 " needed",
				  map->size_bytes, img_kept_map_bytes(lower->size_bytes));
	k = calloc(1, sizeof(*k));
	if (k == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "overlay: device");
	(void)pthread_mutex_init(&k->flush, NULL);
	k->dev = (struct img_dev){.ops = &kept_ops, .size_bytes = lower->size_bytes};
	k->map = map;
	k->bytes = padded_bitmap(lower->size_bytes);
	k->now = calloc(1, k->bytes + 1);
	k->saved = calloc(1, k->bytes + 1);
	rc = k->now == NULL || k->saved == NULL
		     ? lb_err_set(err, LB_ENOMEM, 0, "overlay: bitmap of %" PRIu64 " bytes",
				  k->bytes)
		     : img_overlay_create(&k->overlay, lower, upper, err);
	if (rc == 0)
		rc = load_map(k, of, err);
	if (rc != 0) {
		kept_destroy(&k->dev);
		return rc;
	}
	*out = &k->dev;
	return 0;
}
