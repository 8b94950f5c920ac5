#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "dev_int.h"
#include "imaging/dev.h"

#define CHUNK_BYTES (UINT64_C(64) * 1024)

/*
 * A chunk that is NULL reads as zero. Readers and writers hold @lock shared and meet only at the
 * chunk pointer, which a writer sets once by compare-and-swap; img_zero() takes it exclusively, for
 * it frees chunks under everybody's feet.
 */
struct mem_dev {
	struct img_dev dev;
	pthread_rwlock_t lock;
	_Atomic(uint8_t *) *chunks;
	uint64_t chunk_count;
};

static struct mem_dev *mem_of(struct img_dev *d)
{
	return (struct mem_dev *)d;
}

/* The part of the range at @off that lies in one chunk. */
static uint64_t piece_len(uint64_t len, uint64_t off)
{
	return img_min(len, CHUNK_BYTES - off % CHUNK_BYTES);
}

static int mem_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	struct mem_dev *m = mem_of(d);
	uint8_t *to = buf;

	(void)err;
	(void)pthread_rwlock_rdlock(&m->lock);
	while (len > 0) {
		const uint8_t *chunk = atomic_load(&m->chunks[off / CHUNK_BYTES]);
		uint64_t n = piece_len(len, off);

		if (chunk == NULL)
			memset(to, 0, n);
		else
			memcpy(to, chunk + off % CHUNK_BYTES, n);
		to += n;
		len -= n;
		off += n;
	}
	(void)pthread_rwlock_unlock(&m->lock);
	return 0;
}

/* The chunk of @off, made when missing; NULL when out of memory. */
static uint8_t *chunk_get(struct mem_dev *m, uint64_t off)
{
	_Atomic(uint8_t *) *slot = &m->chunks[off / CHUNK_BYTES];
	uint8_t *have = atomic_load(slot);
	uint8_t *fresh;

	if (have != NULL)
		return have;
	fresh = calloc(1, CHUNK_BYTES);
	if (fresh == NULL)
		return NULL;
	if (atomic_compare_exchange_strong(slot, &have, fresh))
		return fresh;
	free(fresh); /* another writer was faster; @have is its chunk */
	return have;
}

static int mem_pwrite(struct img_dev *d, const void *buf, uint64_t len, uint64_t off,
		      struct lb_err *err)
{
	struct mem_dev *m = mem_of(d);
	const uint8_t *from = buf;
	int rc = 0;

	(void)pthread_rwlock_rdlock(&m->lock);
	while (len > 0) {
		uint8_t *chunk = chunk_get(m, off);
		uint64_t n = piece_len(len, off);

		if (chunk == NULL) {
			rc = lb_err_set(err, LB_ENOMEM, 0, "mem: chunk at %" PRIu64, off);
			break;
		}
		memcpy(chunk + off % CHUNK_BYTES, from, n);
		from += n;
		len -= n;
		off += n;
	}
	(void)pthread_rwlock_unlock(&m->lock);
	return rc;
}

static int mem_zero(struct img_dev *d, uint64_t len, uint64_t off, struct lb_err *err)
{
	struct mem_dev *m = mem_of(d);

	(void)err;
	(void)pthread_rwlock_wrlock(&m->lock);
	while (len > 0) {
		_Atomic(uint8_t *) *slot = &m->chunks[off / CHUNK_BYTES];
		uint8_t *chunk = atomic_load(slot);
		uint64_t n = piece_len(len, off);
		bool whole =
			n == CHUNK_BYTES || (off % CHUNK_BYTES == 0 && off + n == d->size_bytes);

		if (whole) {
			free(chunk);
			atomic_store(slot, NULL);
		} else if (chunk != NULL) {
			memset(chunk + off % CHUNK_BYTES, 0, n);
		}
		len -= n;
		off += n;
	}
	(void)pthread_rwlock_unlock(&m->lock);
	return 0;
}

static int mem_next_extent(struct img_dev *d, struct img_extent *out, uint64_t off,
			   struct lb_err *err)
{
	struct mem_dev *m = mem_of(d);
	uint64_t i = off / CHUNK_BYTES;
	bool zero = atomic_load(&m->chunks[i]) == NULL;

	(void)err;
	do {
		i++;
	} while (i < m->chunk_count && (atomic_load(&m->chunks[i]) == NULL) == zero);
	out->off = off;
	out->len = img_min(i * CHUNK_BYTES, d->size_bytes) - off;
	out->zero = zero;
	return 0;
}

static void mem_destroy(struct img_dev *d)
{
	struct mem_dev *m = mem_of(d);

	for (uint64_t i = 0; i < m->chunk_count; i++)
		free(atomic_load(&m->chunks[i]));
	free(m->chunks);
	(void)pthread_rwlock_destroy(&m->lock);
	free(m);
}

static const struct img_dev_ops mem_ops = {
	.name = "mem",
	.pread = mem_pread,
	.pwrite = mem_pwrite,
	.zero = mem_zero,
	.next_extent = mem_next_extent,
	.destroy = mem_destroy,
};

int img_mem_create(struct img_dev **out, uint64_t size_bytes, struct lb_err *err)
{
	struct mem_dev *m = calloc(1, sizeof(*m));
	uint64_t count = size_bytes / CHUNK_BYTES + (size_bytes % CHUNK_BYTES != 0);
	int rc = 0;

	if (m == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "mem: device");
		goto out;
	}
	m->chunks = calloc(count != 0 ? count : 1, sizeof(*m->chunks));
	if (m->chunks == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "mem: table of %" PRIu64 " chunks", count);
		goto out;
	}
	m->chunk_count = count;
	m->dev = (struct img_dev){.ops = &mem_ops, .size_bytes = size_bytes};
	LB_ASSERT(pthread_rwlock_init(&m->lock, NULL) == 0);
	*out = &m->dev;
	m = NULL; /* now the caller's */
out:
	free(m);
	return rc;
}
