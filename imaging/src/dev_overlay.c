#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "dev_int.h"
#include "imaging/dev.h"

#define BLOCK_BYTES 4096u

/*
 * A set bit says: this block is in @upper. It is set only after the block's bytes are there, so a
 * failed write leaves the old content visible, from @lower or, for a block that was changed before,
 * whatever of the new bytes arrived: as on any disk.
 */
struct overlay_dev {
	struct img_dev dev;
	struct img_dev *lower; /* borrowed */
	struct img_dev *upper; /* borrowed */
	pthread_mutex_t lock;  /* @bitmap, and the order of operations */
	uint8_t *bitmap;
	uint64_t bitmap_bytes;
	uint64_t blocks;
};

static const struct img_dev_ops overlay_ops;

static struct overlay_dev *overlay_of(struct img_dev *d)
{
	LB_ASSERT(d->ops == &overlay_ops);
	return (struct overlay_dev *)d;
}

static bool in_upper(const struct overlay_dev *o, uint64_t block)
{
	return (o->bitmap[block / 8] >> (block % 8) & 1) != 0;
}

static void set_upper(struct overlay_dev *o, uint64_t block)
{
	o->bitmap[block / 8] |= (uint8_t)(1u << (block % 8));
}

/* How many of the @len bytes from @off come from the same place, and from which. */
static uint64_t same_source(const struct overlay_dev *o, uint64_t len, uint64_t off, bool *upper)
{
	uint64_t block = off / BLOCK_BYTES;
	uint64_t n = BLOCK_BYTES - off % BLOCK_BYTES;

	*upper = in_upper(o, block);
	while (n < len && in_upper(o, ++block) == *upper)
		n += BLOCK_BYTES;
	return img_min(n, len);
}

static int overlay_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off,
			 struct lb_err *err)
{
	struct overlay_dev *o = overlay_of(d);
	uint8_t *to = buf;
	int rc = 0;

	(void)pthread_mutex_lock(&o->lock);
	while (rc == 0 && len > 0) {
		bool upper;
		uint64_t n = same_source(o, len, off, &upper);

		rc = img_pread(upper ? o->upper : o->lower, to, n, off, err);
		to += n;
		len -= n;
		off += n;
	}
	(void)pthread_mutex_unlock(&o->lock);
	return rc;
}

/* Write part of one block; @buf NULL writes zeros. Brings the rest up from below the first time. */
static int write_partial(struct overlay_dev *o, const uint8_t *buf, uint64_t len, uint64_t off,
			 struct lb_err *err)
{
	uint64_t block = off / BLOCK_BYTES;
	uint64_t base = block * BLOCK_BYTES;
	uint64_t block_len = img_min(BLOCK_BYTES, o->dev.size_bytes - base);
	uint8_t tmp[BLOCK_BYTES];
	int rc = img_pread(in_upper(o, block) ? o->upper : o->lower, tmp, block_len, base, err);

	if (rc != 0)
		return rc;
	if (buf != NULL)
		memcpy(tmp + (off - base), buf, len);
	else
		memset(tmp + (off - base), 0, len);
	rc = img_pwrite(o->upper, tmp, block_len, base, err);
	if (rc == 0)
		set_upper(o, block);
	return rc;
}

/* Write whole blocks (the last one may be the device's short one); @buf NULL writes zeros. */
static int write_whole(struct overlay_dev *o, const uint8_t *buf, uint64_t len, uint64_t off,
		       struct lb_err *err)
{
	int rc = buf != NULL ? img_pwrite(o->upper, buf, len, off, err)
			     : img_zero(o->upper, len, off, err);

	for (uint64_t done = 0; rc == 0 && done < len; done += BLOCK_BYTES)
		set_upper(o, (off + done) / BLOCK_BYTES);
	return rc;
}

static int overlay_store(struct overlay_dev *o, const uint8_t *buf, uint64_t len, uint64_t off,
			 struct lb_err *err)
{
	int rc = 0;

	(void)pthread_mutex_lock(&o->lock);
	while (rc == 0 && len > 0) {
		uint64_t n = img_min(len, BLOCK_BYTES - off % BLOCK_BYTES);
		bool whole = n == BLOCK_BYTES ||
			     (off % BLOCK_BYTES == 0 && off + n == o->dev.size_bytes);

		if (whole) {
			n = off + len == o->dev.size_bytes ? len : len - len % BLOCK_BYTES;
			rc = write_whole(o, buf, n, off, err);
		} else {
			rc = write_partial(o, buf, n, off, err);
		}
		if (buf != NULL)
			buf += n;
		len -= n;
		off += n;
	}
	(void)pthread_mutex_unlock(&o->lock);
	return rc;
}

static int overlay_pwrite(struct img_dev *d, const void *buf, uint64_t len, uint64_t off,
			  struct lb_err *err)
{
	return overlay_store(overlay_of(d), buf, len, off, err);
}

static int overlay_zero(struct img_dev *d, uint64_t len, uint64_t off, struct lb_err *err)
{
	return overlay_store(overlay_of(d), NULL, len, off, err);
}

static int overlay_flush(struct img_dev *d, struct lb_err *err)
{
	return img_flush(overlay_of(d)->upper, err);
}

static int overlay_next_extent(struct img_dev *d, struct img_extent *out, uint64_t off,
			       struct lb_err *err)
{
	struct overlay_dev *o = overlay_of(d);
	uint64_t n;
	bool upper;
	int rc;

	(void)pthread_mutex_lock(&o->lock);
	n = same_source(o, d->size_bytes - off, off, &upper);
	rc = img_next_extent(upper ? o->upper : o->lower, out, off, err);
	(void)pthread_mutex_unlock(&o->lock);
	if (rc == 0)
		out->len = img_min(out->len, n);
	return rc;
}

static void overlay_destroy(struct img_dev *d)
{
	struct overlay_dev *o = overlay_of(d);

	(void)pthread_mutex_destroy(&o->lock);
	free(o->bitmap);
	free(o);
}

static const struct img_dev_ops overlay_ops = {
	.name = "overlay",
	.pread = overlay_pread,
	.pwrite = overlay_pwrite,
	.zero = overlay_zero,
	.flush = overlay_flush,
	.next_extent = overlay_next_extent,
	.destroy = overlay_destroy,
};

int img_overlay_create(struct img_dev **out, struct img_dev *lower, struct img_dev *upper,
		       struct lb_err *err)
{
	struct overlay_dev *o = NULL;
	int rc = 0;

	if (!img_writable(upper))
		return lb_err_set(err, LB_EDENIED, 0, "overlay: the upper %s is read-only",
				  upper->ops->name);
	if (upper->size_bytes < lower->size_bytes)
		return lb_err_set(
			err, LB_EINPUT, 0,
			"overlay: the upper %s has %" PRIu64 " bytes, the lower %s %" PRIu64,
			upper->ops->name, upper->size_bytes, lower->ops->name, lower->size_bytes);
	o = calloc(1, sizeof(*o));
	if (o == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "overlay: device");
		goto out;
	}
	o->blocks = lower->size_bytes / BLOCK_BYTES + (lower->size_bytes % BLOCK_BYTES != 0);
	o->bitmap_bytes = o->blocks / 8 + (o->blocks % 8 != 0);
	o->bitmap = calloc(1, o->bitmap_bytes != 0 ? o->bitmap_bytes : 1);
	if (o->bitmap == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "overlay: bitmap of %" PRIu64 " bytes",
				o->bitmap_bytes);
		goto out;
	}
	o->dev = (struct img_dev){.ops = &overlay_ops, .size_bytes = lower->size_bytes};
	o->lower = lower;
	o->upper = upper;
	LB_ASSERT(pthread_mutex_init(&o->lock, NULL) == 0);
	*out = &o->dev;
	o = NULL; /* now the caller's */
out:
	free(o);
	return rc;
}

uint64_t img_overlay_bitmap_bytes(const struct img_dev *d)
{
	LB_ASSERT(d->ops == &overlay_ops);
	return ((const struct overlay_dev *)d)->bitmap_bytes;
}

void img_overlay_save(struct img_dev *d, uint8_t *bitmap)
{
	struct overlay_dev *o = overlay_of(d);

	(void)pthread_mutex_lock(&o->lock);
	memcpy(bitmap, o->bitmap, o->bitmap_bytes);
	(void)pthread_mutex_unlock(&o->lock);
}

int img_overlay_load(struct img_dev *d, const uint8_t *bitmap, uint64_t bytes, struct lb_err *err)
{
	struct overlay_dev *o = overlay_of(d);

	if (bytes != o->bitmap_bytes)
		return lb_err_set(err, LB_EINPUT, 0,
				  "overlay: bitmap of %" PRIu64
				  " bytes for a device that needs %" PRIu64,
				  bytes, o->bitmap_bytes);
	if (o->blocks % 8 != 0 && bitmap[bytes - 1] >> (o->blocks % 8) != 0)
		return lb_err_set(err, LB_EINPUT, 0, "overlay: bitmap marks blocks after the end");
	(void)pthread_mutex_lock(&o->lock);
	memcpy(o->bitmap, bitmap, bytes);
	(void)pthread_mutex_unlock(&o->lock);
	return 0;
}
