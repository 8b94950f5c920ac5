#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "imaging/dev.h"

struct fault_dev {
	struct img_dev dev;
	struct img_dev *lower; /* borrowed */
	_Atomic uint64_t ops_done;
	uint64_t fail_at;
	int code;
};

static const struct img_dev_ops fault_ops;
static const struct img_dev_ops fault_ro_ops;

static struct fault_dev *fault_of(struct img_dev *d)
{
	return (struct fault_dev *)d;
}

static int maybe_fail(struct fault_dev *f, const char *op, struct lb_err *err)
{
	uint64_t n = atomic_fetch_add(&f->ops_done, 1) + 1;

	if (n == f->fail_at)
		return lb_err_set(err, (enum lb_code)f->code, 0,
				  "fault: injected into %s, operation %" PRIu64, op, n);
	return 0;
}

static int fault_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	struct fault_dev *f = fault_of(d);
	int rc = maybe_fail(f, "pread", err);

	return rc != 0 ? rc : img_pread(f->lower, buf, len, off, err);
}

static int fault_pwrite(struct img_dev *d, const void *buf, uint64_t len, uint64_t off,
			struct lb_err *err)
{
	struct fault_dev *f = fault_of(d);
	int rc = maybe_fail(f, "pwrite", err);

	return rc != 0 ? rc : img_pwrite(f->lower, buf, len, off, err);
}

static int fault_zero(struct img_dev *d, uint64_t len, uint64_t off, struct lb_err *err)
{
	struct fault_dev *f = fault_of(d);
	int rc = maybe_fail(f, "zero", err);

	return rc != 0 ? rc : img_zero(f->lower, len, off, err);
}

static int fault_flush(struct img_dev *d, struct lb_err *err)
{
	struct fault_dev *f = fault_of(d);
	int rc = maybe_fail(f, "flush", err);

	return rc != 0 ? rc : img_flush(f->lower, err);
}

static int fault_next_extent(struct img_dev *d, struct img_extent *out, uint64_t off,
			     struct lb_err *err)
{
	struct fault_dev *f = fault_of(d);
	int rc = maybe_fail(f, "next_extent", err);

	return rc != 0 ? rc : img_next_extent(f->lower, out, off, err);
}

static void fault_destroy(struct img_dev *d)
{
	free(d);
}

static const struct img_dev_ops fault_ops = {
	.name = "fault",
	.pread = fault_pread,
	.pwrite = fault_pwrite,
	.zero = fault_zero,
	.flush = fault_flush,
	.next_extent = fault_next_extent,
	.destroy = fault_destroy,
};

static const struct img_dev_ops fault_ro_ops = {
	.name = "fault",
	.pread = fault_pread,
	.flush = fault_flush,
	.next_extent = fault_next_extent,
	.destroy = fault_destroy,
};

int img_fault_create(struct img_dev **out, struct img_dev *lower, uint64_t fail_at, int code,
		     struct lb_err *err)
{
	struct fault_dev *f;

	LB_ASSERT(code < 0);
	f = calloc(1, sizeof(*f));
	if (f == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "fault: device");
	f->dev.ops = img_writable(lower) ? &fault_ops : &fault_ro_ops;
	f->dev.size_bytes = lower->size_bytes;
	f->lower = lower;
	f->fail_at = fail_at;
	f->code = code;
	*out = &f->dev;
	return 0;
}

uint64_t img_fault_count(const struct img_dev *d)
{
	const struct fault_dev *f = (const struct fault_dev *)d;

	LB_ASSERT(d->ops == &fault_ops || d->ops == &fault_ro_ops);
	return atomic_load(&f->ops_done);
}
