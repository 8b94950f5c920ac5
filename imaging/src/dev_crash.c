/*
 *   on ──[flush number cut_at_flush]──► off: everything is LB_EIO
 *    ▲                                   │
 *    └──────[img_crash_reboot / _cut]────┘
 *
 * on:  reads see @cache; @stable + @pending in order == @cache; flush moves @pending to @stable.
 * cut: a subset of @pending reaches @stable, then @cache is made equal to @stable and @pending is
 * empty.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "dev_int.h"
#include "imaging/dev.h"

#define SECTOR_BYTES      512u
#define TOUCH_BYTES       4096u
#define PENDING_MAX_BYTES (UINT64_C(256) * 1024 * 1024) /* unflushed data; more is LB_ENOMEM */

struct pending {
	struct pending *next;
	uint64_t off;
	uint64_t len;
	uint8_t bytes[];
};

struct crash_dev {
	struct img_dev dev;
	pthread_mutex_t lock; /* everything below */
	struct img_dev *stable;
	struct img_dev *cache;
	struct pending *first;
	struct pending **last;
	uint64_t pending_bytes;
	uint64_t flushes;
	uint64_t cut_at_flush;
	uint64_t seed;
	bool off;
};

static const struct img_dev_ops crash_ops;

static struct crash_dev *crash_of(struct img_dev *d)
{
	LB_ASSERT(d->ops == &crash_ops);
	return (struct crash_dev *)d;
}

/* splitmix64 (Steele, Lea, Flood 2014): a whole sequence from any seed, zero too. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static int check_on(const struct crash_dev *c, const char *op, struct lb_err *err)
{
	if (c->off)
		return lb_err_set(err, LB_EIO, 0, "crash: %s while the power is off", op);
	return 0;
}

static int crash_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	struct crash_dev *c = crash_of(d);
	int rc;

	(void)pthread_mutex_lock(&c->lock);
	rc = check_on(c, "pread", err);
	if (rc == 0)
		rc = img_pread(c->cache, buf, len, off, err);
	(void)pthread_mutex_unlock(&c->lock);
	return rc;
}

/* Have @stable allocate what backs the range now, so that a flush or a cut cannot run out of
 * memory. */
static int touch(struct img_dev *stable, uint64_t len, uint64_t off, struct lb_err *err)
{
	int rc = 0;

	while (rc == 0 && len > 0) {
		uint64_t n = img_min(len, TOUCH_BYTES - off % TOUCH_BYTES);
		uint8_t b;

		rc = img_pread(stable, &b, 1, off, err);
		if (rc == 0)
			rc = img_pwrite(stable, &b, 1, off, err);
		len -= n;
		off += n;
	}
	return rc;
}

static int add_pending(struct crash_dev *c, const void *buf, uint64_t len, uint64_t off,
		       struct lb_err *err)
{
	struct pending *p = NULL;
	int rc;

	if (len > PENDING_MAX_BYTES - c->pending_bytes)
		return lb_err_set(err, LB_ENOMEM, 0,
				  "crash: more than %" PRIu64 " bytes not flushed",
				  PENDING_MAX_BYTES);
	p = malloc(sizeof(*p) + len);
	if (p == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "crash: write of %" PRIu64 " bytes", len);
		goto out;
	}
	rc = touch(c->stable, len, off, err);
	if (rc == 0)
		rc = img_pwrite(c->cache, buf, len, off, err);
	if (rc != 0)
		goto out;
	p->next = NULL;
	p->off = off;
	p->len = len;
	memcpy(p->bytes, buf, len);
	c->pending_bytes += len;
	*c->last = p;
	c->last = &p->next;
	p = NULL; /* now the list's */
out:
	free(p);
	return rc;
}

static int crash_pwrite(struct img_dev *d, const void *buf, uint64_t len, uint64_t off,
			struct lb_err *err)
{
	struct crash_dev *c = crash_of(d);
	int rc;

	(void)pthread_mutex_lock(&c->lock);
	rc = check_on(c, "pwrite", err);
	if (rc == 0)
		rc = add_pending(c, buf, len, off, err);
	(void)pthread_mutex_unlock(&c->lock);
	return rc;
}

/* Into memory that touch() made: cannot fail. */
static void must_write(struct img_dev *mem, const uint8_t *p, uint64_t len, uint64_t off)
{
	LB_ASSERT(img_pwrite(mem, p, len, off, NULL) == 0);
}

static void drop_pending(struct crash_dev *c)
{
	while (c->first != NULL) {
		struct pending *p = c->first;

		c->first = p->next;
		free(p);
	}
	c->last = &c->first;
	c->pending_bytes = 0;
}

/* Each 512-byte sector of the write arrives or not. */
static void write_torn(struct crash_dev *c, const struct pending *p, uint64_t *rnd)
{
	uint64_t done = 0;

	while (done < p->len) {
		uint64_t n = img_min(p->len - done, SECTOR_BYTES - (p->off + done) % SECTOR_BYTES);

		if ((next_random(rnd) & 1) != 0)
			must_write(c->stable, p->bytes + done, n, p->off + done);
		done += n;
	}
}

/* @cache gets the bytes of @stable again wherever they may differ. */
static void roll_back(struct crash_dev *c)
{
	uint8_t tmp[TOUCH_BYTES];

	for (const struct pending *p = c->first; p != NULL; p = p->next) {
		for (uint64_t done = 0; done < p->len; done += sizeof(tmp)) {
			uint64_t n = img_min(p->len - done, sizeof(tmp));

			LB_ASSERT(img_pread(c->stable, tmp, n, p->off + done, NULL) == 0);
			must_write(c->cache, tmp, n, p->off + done);
		}
	}
}

static void cut(struct crash_dev *c, uint64_t seed)
{
	uint64_t rnd = seed;
	const struct pending *held =
		NULL; /* the newest survivor so far: only the last one is torn */

	for (const struct pending *p = c->first; p != NULL; p = p->next) {
		if ((next_random(&rnd) & 1) == 0)
			continue;
		if (held != NULL)
			must_write(c->stable, held->bytes, held->len, held->off);
		held = p;
	}
	if (held != NULL)
		write_torn(c, held, &rnd);
	roll_back(c);
	drop_pending(c);
}

static int crash_flush(struct img_dev *d, struct lb_err *err)
{
	struct crash_dev *c = crash_of(d);
	int rc;

	(void)pthread_mutex_lock(&c->lock);
	rc = check_on(c, "flush", err);
	if (rc != 0)
		goto out;
	if (++c->flushes == c->cut_at_flush) {
		cut(c, c->seed);
		c->off = true;
		rc = lb_err_set(err, LB_EIO, 0, "crash: power cut at flush %" PRIu64, c->flushes);
		goto out;
	}
	for (const struct pending *p = c->first; p != NULL; p = p->next)
		must_write(c->stable, p->bytes, p->len, p->off);
	drop_pending(c);
out:
	(void)pthread_mutex_unlock(&c->lock);
	return rc;
}

static int crash_next_extent(struct img_dev *d, struct img_extent *out, uint64_t off,
			     struct lb_err *err)
{
	struct crash_dev *c = crash_of(d);
	int rc;

	(void)pthread_mutex_lock(&c->lock);
	rc = check_on(c, "next_extent", err);
	if (rc == 0)
		rc = img_next_extent(c->cache, out, off, err);
	(void)pthread_mutex_unlock(&c->lock);
	return rc;
}

static void crash_destroy(struct img_dev *d)
{
	struct crash_dev *c = crash_of(d);

	drop_pending(c);
	img_dev_destroy(c->cache);
	img_dev_destroy(c->stable);
	(void)pthread_mutex_destroy(&c->lock);
	free(c);
}

/* No .zero: zeros are written, so that they are pending and can be torn like any other write. */
static const struct img_dev_ops crash_ops = {
	.name = "crash",
	.pread = crash_pread,
	.pwrite = crash_pwrite,
	.flush = crash_flush,
	.next_extent = crash_next_extent,
	.destroy = crash_destroy,
};

int img_crash_create(struct img_dev **out, uint64_t size_bytes, uint64_t cut_at_flush,
		     uint64_t seed, struct lb_err *err)
{
	struct crash_dev *c = calloc(1, sizeof(*c));
	int rc;

	if (c == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "crash: device");
	rc = img_mem_create(&c->stable, size_bytes, err);
	if (rc == 0)
		rc = img_mem_create(&c->cache, size_bytes, err);
	if (rc != 0)
		goto out;
	c->dev = (struct img_dev){.ops = &crash_ops, .size_bytes = size_bytes};
	c->last = &c->first;
	c->cut_at_flush = cut_at_flush;
	c->seed = seed;
	LB_ASSERT(pthread_mutex_init(&c->lock, NULL) == 0);
	*out = &c->dev;
	return 0;
out:
	img_dev_destroy(c->stable);
	free(c);
	return rc;
}

void img_crash_cut(struct img_dev *d, uint64_t seed)
{
	struct crash_dev *c = crash_of(d);

	(void)pthread_mutex_lock(&c->lock);
	cut(c, seed);
	c->off = false;
	(void)pthread_mutex_unlock(&c->lock);
}

void img_crash_reboot(struct img_dev *d)
{
	struct crash_dev *c = crash_of(d);

	(void)pthread_mutex_lock(&c->lock);
	c->off = false;
	(void)pthread_mutex_unlock(&c->lock);
}

uint64_t img_crash_flushes(const struct img_dev *d)
{
	LB_ASSERT(d->ops == &crash_ops);
	return ((const struct crash_dev *)d)->flushes;
}
