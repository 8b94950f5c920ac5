/*
 * The states and invariants are in journal.h. One lock guards all of it, also across the copies: a
 * write must not land between "is this block moved?" and the read that relies on the answer.
 */
#include "replicator/journal.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/thread.h"
#include "imaging/dev.h"

#define BLOCK ((uint64_t)REP_JOURNAL_BLOCK_BYTES)

struct rep_journal {
	struct img_dev *mirror, *side;
	uint64_t size_bytes, blocks, side_max_bytes;
	pthread_mutex_t lock;
	pthread_cond_t resumed;
	uint8_t *dirty, *frozen, *moved;
	uint64_t dirty_blocks, moved_blocks, writes;
	uint64_t hold_until_ns; /* CLOCK_MONOTONIC; 0: not held */
	bool cut_open, cut_broken, lost;
	int lost_code;
	uint8_t block[REP_JOURNAL_BLOCK_BYTES]; /* scratch of move_aside() */
};

static bool bit_get(const uint8_t *map, uint64_t n)
{
	return (map[n / 8] >> (n % 8) & 1) != 0;
}

static void bit_set(uint8_t *map, uint64_t n)
{
	map[n / 8] = (uint8_t)(map[n / 8] | 1u << (n % 8));
}

static int check_range(const struct rep_journal *j, uint64_t len, uint64_t off, struct lb_err *err)
{
	if (off > j->size_bytes || len > j->size_bytes - off)
		return lb_err_set(err, LB_EINVAL, 0,
				  "range %" PRIu64 "+%" PRIu64 " outside a disk of %" PRIu64
				  " bytes",
				  off, len, j->size_bytes);
	return 0;
}

static void free_journal(struct rep_journal *j)
{
	free(j->dirty);
	free(j->frozen);
	free(j->moved);
	free(j);
}

int rep_journal_create(struct rep_journal **out, const struct rep_journal_cfg *cfg,
		       struct lb_err *err)
{
	struct rep_journal *j;

	if (!img_writable(cfg->mirror) || !img_writable(cfg->side) ||
	    cfg->side->size_bytes < cfg->mirror->size_bytes || cfg->mirror->size_bytes == 0)
		return lb_err_set(err, LB_EINVAL, 0,
				  "journal devices of %" PRIu64 " (mirror) and %" PRIu64
				  " (side) bytes",
				  cfg->mirror->size_bytes, cfg->side->size_bytes);
	j = calloc(1, sizeof *j);
	if (j == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "journal");
	j->mirror = cfg->mirror;
	j->side = cfg->side;
	j->size_bytes = cfg->mirror->size_bytes;
	j->blocks = (j->size_bytes + BLOCK - 1) / BLOCK;
	j->side_max_bytes = cfg->side_max_bytes;
	j->dirty = calloc(1, rep_journal_bitmap_bytes(j));
	j->frozen = calloc(1, rep_journal_bitmap_bytes(j));
	j->moved = calloc(1, rep_journal_bitmap_bytes(j));
	if (j->dirty == NULL || j->frozen == NULL || j->moved == NULL) {
		free_journal(j);
		return lb_err_set(err, LB_ENOMEM, 0, "journal bitmaps");
	}
	lb_cond_init(&j->resumed);
	(void)pthread_mutex_init(&j->lock, NULL); /* a default mutex cannot fail on Linux */
	*out = j;
	return 0;
}

void rep_journal_destroy(struct rep_journal *j)
{
	if (j == NULL)
		return;
	(void)pthread_cond_destroy(&j->resumed);
	(void)pthread_mutex_destroy(&j->lock);
	free_journal(j);
}

uint64_t rep_journal_bitmap_bytes(const struct rep_journal *j)
{
	return (j->blocks + 7) / 8;
}

/* ---- the disk ---- */

int rep_journal_read(struct rep_journal *j, void *buf, uint64_t len, uint64_t off,
		     struct lb_err *err)
{
	int rc;

	(void)pthread_mutex_lock(&j->lock);
	rc = img_pread(j->mirror, buf, len, off, err);
	(void)pthread_mutex_unlock(&j->lock);
	return rc;
}

int rep_journal_extent(struct rep_journal *j, struct img_extent *out, uint64_t off,
		       struct lb_err *err)
{
	int rc;

	(void)pthread_mutex_lock(&j->lock);
	rc = img_next_extent(j->mirror, out, off, err);
	(void)pthread_mutex_unlock(&j->lock);
	return rc;
}

/* (J1) at the door: what waits here has changed nothing yet, so it belongs behind the mark. (J2) */
static void wait_resumed(struct rep_journal *j)
{
	while (j->hold_until_ns != 0 && lb_monotonic_ns() < j->hold_until_ns) {
		struct timespec until = lb_cond_until(j->hold_until_ns);

		(void)pthread_cond_timedwait(&j->resumed, &j->lock, &until);
	}
	j->hold_until_ns = 0;
}

/* A cut that cannot be kept breaks; the guest's write goes on. */
static void move_aside(struct rep_journal *j, uint64_t block)
{
	uint64_t off = block * BLOCK;
	uint64_t len = j->size_bytes - off < BLOCK ? j->size_bytes - off : BLOCK;

	if (!j->cut_open || j->cut_broken || bit_get(j->moved, block))
		return;
	if ((j->moved_blocks + 1) * BLOCK > j->side_max_bytes ||
	    img_pread(j->mirror, j->block, len, off, NULL) != 0 ||
	    img_pwrite(j->side, j->block, len, off, NULL) != 0) {
		j->cut_broken = true;
		return;
	}
	bit_set(j->moved, block);
	j->moved_blocks++;
}

static void note_write(struct rep_journal *j, uint64_t len, uint64_t off)
{
	for (uint64_t b = off / BLOCK; b * BLOCK < off + len; b++) {
		move_aside(j, b);
		if (!bit_get(j->dirty, b)) {
			bit_set(j->dirty, b);
			j->dirty_blocks++;
		}
	}
	j->writes++;
}

/* (J4) */
static void note_lost(struct rep_journal *j, int code)
{
	if (!j->lost)
		j->lost_code = code;
	j->lost = true;
}

/* @buf NULL: zeroes. */
static int change(struct rep_journal *j, const void *buf, uint64_t len, uint64_t off,
		  struct lb_err *err)
{
	int rc = check_range(j, len, off, err);

	if (rc != 0 || len == 0)
		return rc;
	(void)pthread_mutex_lock(&j->lock);
	wait_resumed(j);
	note_write(j, len, off);
	if (buf != NULL)
		rc = img_pwrite(j->mirror, buf, len, off, err);
	else
		rc = img_zero(j->mirror, len, off, err);
	if (rc != 0)
		note_lost(j, rc);
	(void)pthread_mutex_unlock(&j->lock);
	return rc;
}

int rep_journal_write(struct rep_journal *j, const void *buf, uint64_t len, uint64_t off,
		      struct lb_err *err)
{
	LB_ASSERT(buf != NULL || len == 0);
	return change(j, buf, len, off, err);
}

int rep_journal_zero(struct rep_journal *j, uint64_t len, uint64_t off, struct lb_err *err)
{
	return change(j, NULL, len, off, err);
}

void rep_journal_writer_lost(struct rep_journal *j)
{
	(void)pthread_mutex_lock(&j->lock);
	note_lost(j, LB_ECLOSED);
	(void)pthread_mutex_unlock(&j->lock);
}

/* ---- cuts ---- */

int rep_journal_hold(struct rep_journal *j, uint64_t limit_ns, struct lb_err *err)
{
	int rc = 0;

	(void)pthread_mutex_lock(&j->lock);
	if (j->hold_until_ns != 0 && lb_monotonic_ns() < j->hold_until_ns)
		rc = lb_err_set(err, LB_EBUSY, 0, "writes are withheld already");
	else
		j->hold_until_ns = lb_monotonic_ns() + limit_ns;
	(void)pthread_mutex_unlock(&j->lock);
	return rc;
}

static int may_mark(const struct rep_journal *j, struct lb_err *err)
{
	if (j->lost)
		return lb_err_set(err, LB_ECLOSED, 0, "the mirror lost its writer or a write");
	if (j->cut_open)
		return lb_err_set(err, LB_EBUSY, 0, "a cut is open");
	if (j->hold_until_ns == 0 || lb_monotonic_ns() >= j->hold_until_ns)
		return lb_err_set(err, LB_ETIMEDOUT, 0, "the hold ended before the mark");
	return 0;
}

int rep_journal_mark(struct rep_journal *j, uint64_t *dirty_blocks, struct lb_err *err)
{
	uint8_t *swap;
	int rc;

	(void)pthread_mutex_lock(&j->lock);
	rc = may_mark(j, err);
	if (rc == 0) {
		swap = j->frozen;
		j->frozen = j->dirty;
		j->dirty = swap;
		*dirty_blocks = j->dirty_blocks;
		j->dirty_blocks = 0;
		memset(j->dirty, 0, rep_journal_bitmap_bytes(j));
		memset(j->moved, 0, rep_journal_bitmap_bytes(j));
		j->moved_blocks = 0;
		j->cut_open = true;
		j->cut_broken = false;
	}
	(void)pthread_mutex_unlock(&j->lock);
	return rc;
}

void rep_journal_resume(struct rep_journal *j)
{
	(void)pthread_mutex_lock(&j->lock);
	j->hold_until_ns = 0;
	(void)pthread_cond_broadcast(&j->resumed);
	(void)pthread_mutex_unlock(&j->lock);
}

static uint64_t count_bits(const uint8_t *map, uint64_t bytes)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < bytes; i++)
		n += (uint64_t)__builtin_popcount(map[i]);
	return n;
}

void rep_journal_release(struct rep_journal *j, bool kept)
{
	uint64_t bytes = rep_journal_bitmap_bytes(j);

	(void)pthread_mutex_lock(&j->lock);
	if (j->cut_open && !kept) {
		for (uint64_t i = 0; i < bytes; i++)
			j->dirty[i] = (uint8_t)(j->dirty[i] | j->frozen[i]);
		j->dirty_blocks = count_bits(j->dirty, bytes);
	}
	/* Gives the space back. If that does not work the bytes stay, unused: `moved` says what
	 * counts. */
	if (j->cut_open && j->moved_blocks > 0)
		(void)img_zero(j->side, j->size_bytes, 0, NULL);
	j->moved_blocks = 0;
	j->cut_open = false;
	j->cut_broken = false;
	(void)pthread_mutex_unlock(&j->lock);
}

static int cut_usable(const struct rep_journal *j, struct lb_err *err)
{
	if (!j->cut_open)
		return lb_err_set(err, LB_ECLOSED, 0, "no cut is open");
	if (j->cut_broken)
		return lb_err_set(err, LB_ECHANGED, 0,
				  "the cut broke: old blocks no longer fit in %" PRIu64
				  " bytes aside",
				  j->side_max_bytes);
	return 0;
}

/* How many bytes from @off lie on the same device, and whether that is `side`. */
static uint64_t same_device(const struct rep_journal *j, uint64_t off, uint64_t len, bool *aside)
{
	uint64_t first = off / BLOCK, b = first + 1;

	*aside = bit_get(j->moved, first);
	while (b * BLOCK < off + len && bit_get(j->moved, b) == *aside)
		b++;
	return b * BLOCK - off < len ? b * BLOCK - off : len;
}

int rep_journal_cut_read(struct rep_journal *j, void *buf, uint64_t len, uint64_t off,
			 struct lb_err *err)
{
	uint8_t *p = buf;
	int rc = check_range(j, len, off, err);

	if (rc != 0)
		return rc;
	(void)pthread_mutex_lock(&j->lock);
	rc = cut_usable(j, err);
	while (rc == 0 && len > 0) {
		bool aside;
		uint64_t n = same_device(j, off, len, &aside);

		rc = img_pread(aside ? j->side : j->mirror, p, n, off, err);
		p += n;
		off += n;
		len -= n;
	}
	(void)pthread_mutex_unlock(&j->lock);
	return rc;
}

int rep_journal_cut_extent(struct rep_journal *j, struct img_extent *out, uint64_t off,
			   struct lb_err *err)
{
	bool aside;
	uint64_t n;
	int rc = check_range(j, 1, off, err);

	if (rc != 0)
		return rc;
	(void)pthread_mutex_lock(&j->lock);
	rc = cut_usable(j, err);
	if (rc == 0) {
		n = same_device(j, off, j->size_bytes - off, &aside);
		if (aside)
			*out = (struct img_extent){.off = off, .len = n, .zero = false};
		else
			rc = img_next_extent(j->mirror, out, off, err);
		if (rc == 0 && out->len > n)
			out->len = n;
	}
	(void)pthread_mutex_unlock(&j->lock);
	return rc;
}

int rep_journal_cut_bitmap(struct rep_journal *j, uint8_t *out, struct lb_err *err)
{
	int rc;

	(void)pthread_mutex_lock(&j->lock);
	rc = cut_usable(j, err);
	if (rc == 0)
		memcpy(out, j->frozen, rep_journal_bitmap_bytes(j));
	(void)pthread_mutex_unlock(&j->lock);
	return rc;
}

void rep_journal_status(struct rep_journal *j, struct rep_journal_status *out)
{
	(void)pthread_mutex_lock(&j->lock);
	*out = (struct rep_journal_status){
		.size_bytes = j->size_bytes,
		.dirty_blocks = j->dirty_blocks,
		.side_bytes = j->moved_blocks * BLOCK,
		.writes = j->writes,
		.held = j->hold_until_ns != 0 && lb_monotonic_ns() < j->hold_until_ns,
		.cut_open = j->cut_open,
		.cut_broken = j->cut_broken,
		.lost = j->lost,
		.lost_code = j->lost_code,
	};
	(void)pthread_mutex_unlock(&j->lock);
}
