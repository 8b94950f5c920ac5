#include "imaging/dev.h"

#include <inttypes.h>
#include <stddef.h>

#include "base/assert.h"
#include "base/err.h"
#include "dev_int.h"

#define ZEROS_BYTES (UINT64_C(64) * 1024)

static const uint8_t zeros[ZEROS_BYTES];

/* The only range check in the tree: no implementation sees an out-of-range request. */
static int check_range(const struct img_dev *d, uint64_t len, uint64_t off, struct lb_err *err)
{
	if (off > d->size_bytes || len > d->size_bytes - off)
		return lb_err_set(err, LB_EINVAL, 0,
				  "%s: range %" PRIu64 "+%" PRIu64 " beyond %" PRIu64 " bytes",
				  d->ops->name, off, len, d->size_bytes);
	return 0;
}

static int check_write(const struct img_dev *d, uint64_t len, uint64_t off, struct lb_err *err)
{
	if (d->ops->pwrite == NULL)
		return lb_err_set(err, LB_EDENIED, 0,
				  "%s: write at %" PRIu64 " to a read-only device", d->ops->name,
				  off);
	return check_range(d, len, off, err);
}

int img_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	int rc = check_range(d, len, off, err);

	if (rc != 0 || len == 0)
		return rc;
	return d->ops->pread(d, buf, len, off, err);
}

int img_pwrite(struct img_dev *d, const void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	int rc = check_write(d, len, off, err);

	if (rc != 0 || len == 0)
		return rc;
	return d->ops->pwrite(d, buf, len, off, err);
}

int img_write_zeros(struct img_dev *d, uint64_t len, uint64_t off, struct lb_err *err)
{
	while (len > 0) {
		uint64_t n = img_min(len, ZEROS_BYTES);
		int rc = d->ops->pwrite(d, zeros, n, off, err);

		if (rc != 0)
			return rc;
		len -= n;
		off += n;
	}
	return 0;
}

int img_zero(struct img_dev *d, uint64_t len, uint64_t off, struct lb_err *err)
{
	int rc = check_write(d, len, off, err);

	if (rc != 0 || len == 0)
		return rc;
	if (d->ops->zero == NULL)
		return img_write_zeros(d, len, off, err);
	return d->ops->zero(d, len, off, err);
}

int img_flush(struct img_dev *d, struct lb_err *err)
{
	return d->ops->flush == NULL ? 0 : d->ops->flush(d, err);
}

int img_next_extent(struct img_dev *d, struct img_extent *out, uint64_t off, struct lb_err *err)
{
	struct img_extent e = {.off = off, .len = 0, .zero = false};
	int rc;

	if (off >= d->size_bytes)
		return lb_err_set(err, LB_EINVAL, 0,
				  "%s: extent at %" PRIu64 " of %" PRIu64 " bytes", d->ops->name,
				  off, d->size_bytes);
	if (d->ops->next_extent == NULL) {
		e.len = d->size_bytes - off;
		*out = e;
		return 0;
	}
	rc = d->ops->next_extent(d, &e, off, err);
	if (rc != 0)
		return rc;
	/* A loop over extents must end and must not skip: the device's promise, not input. */
	LB_ASSERT(e.off == off && e.len > 0 && e.len <= d->size_bytes - off);
	*out = e;
	return 0;
}

bool img_writable(const struct img_dev *d)
{
	return d->ops->pwrite != NULL;
}

void img_dev_destroy(struct img_dev *d)
{
	if (d != NULL)
		d->ops->destroy(d);
}
