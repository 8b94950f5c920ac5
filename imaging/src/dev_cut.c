#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "cutlog.h"
#include "dev_int.h"
#include "imaging/cut.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"
#include "sidestore.h"

/*
 *            mark                       release
 *   CLOSED ────────► OPEN ──────────────────────────► CLOSED
 *   writes set       writes set .after (and what      kept: .since := .after
 *   .since           they overwrite goes aside);      abandoned: .since |= .after
 *                    .since stands still: it is
 *                    what changed() tells
 *
 * A write takes a ticket: the bits are set and the cut it belongs to is settled under the lock in
 * one step; then log, side and disk are written without it. A write with a ticket from before the
 * mark belongs to the cut, so whoever needs the cut's content waits until those have ended.
 */

#define BLOCK      ((uint64_t)IMG_CUT_BLOCK_BYTES)
#define RUNS_MAX   ((size_t)1 << 20) /* of changed(): 24 MiB; then runs are merged over gaps */
#define CHUNK      (UINT64_C(256) << 10)
#define CHUNK_BITS (CHUNK / BLOCK)
#define FOLD_WORDS UINT64_C(8192) /* of a bitmap in one hold of the lock */

struct cut_view {
	struct img_dev dev; /* first */
	struct cut_dev *cut;
};

struct cut_dev {
	struct img_dev dev; /* first */
	struct cut_view view;
	struct img_dev *lower; /* borrowed */
	struct cutlog log;     /* .dev NULL: none */
	uint64_t region_bytes, blocks, words, region_words;

	pthread_mutex_t lock; /* all that follows; never held during I/O */
	pthread_cond_t ended; /* a write ended, or a block is aside */
	bool open, all_changed;
	int given_up; /* why reads of the cut fail: a code; 0: they do not */
	char why[160];
	uint64_t marks;                /* so far: which cut a ticket is of */
	uint64_t writing, writing_old; /* in flight, since the last mark and from before it */
	uint64_t preparing;            /* writes of the open cut that still use log and side */
	uint64_t generation;           /* of the log, for tickets */
	uint64_t *since, *after;       /* a bit a block */
	uint64_t *since_regions, *after_regions;
	struct sidestore side;
	struct img_extmap *runs; /* of changed() */
};

struct ticket {
	uint64_t mark, generation;
	bool open;
	const uint64_t
		*also; /* regions for cutlog_note(); stand still while .preparing counts us */
};

static const struct img_dev_ops cut_ops, view_ops;

static struct cut_dev *cut_of(struct img_dev *d)
{
	LB_ASSERT(d->ops == &cut_ops);
	return (struct cut_dev *)d;
}

static void set_bits(uint64_t *map, uint64_t first, uint64_t last)
{
	for (uint64_t i = first; i <= last; i++) {
		if (i % 64 == 0 && last - i >= 63) {
			map[i / 64] = UINT64_MAX;
			i += 63;
		} else {
			map[i / 64] |= UINT64_C(1) << (i % 64);
		}
	}
}

/* The first bit from @from on that is set, or @end. */
static uint64_t next_bit(const uint64_t *map, uint64_t from, uint64_t end)
{
	while (from < end) {
		uint64_t word = map[from / 64] >> (from % 64);

		if (word != 0) {
			from += (unsigned)__builtin_ctzll(word);
			break;
		}
		from = (from / 64 + 1) * 64;
	}
	return from < end ? from : end;
}

static void give_up(struct cut_dev *c, const struct lb_err *why)
{
	if (c->given_up == 0) {
		c->given_up = LB_ECHANGED;
		(void)snprintf(c->why, sizeof(c->why), "%s", why->msg);
	}
	(void)pthread_cond_broadcast(&c->ended);
}

/* ---- a guest's write ---- */

static struct ticket take_ticket(struct cut_dev *c, uint64_t len, uint64_t off)
{
	struct ticket t;
	uint64_t last = off + len - 1;

	(void)pthread_mutex_lock(&c->lock);
	t.mark = c->marks;
	t.open = c->open;
	t.generation = c->generation + c->open;
	t.also = c->open ? c->since_regions : NULL;
	c->writing++;
	c->preparing += c->open;
	set_bits(c->open ? c->after : c->since, off / BLOCK, last / BLOCK);
	set_bits(c->open ? c->after_regions : c->since_regions, off / c->region_bytes,
		 last / c->region_bytes);
	(void)pthread_mutex_unlock(&c->lock);
	return t;
}

static void end_ticket(struct cut_dev *c, const struct ticket *t)
{
	(void)pthread_mutex_lock(&c->lock);
	if (t->mark == c->marks)
		c->writing--;
	else
		c->writing_old--;
	(void)pthread_cond_broadcast(&c->ended);
	(void)pthread_mutex_unlock(&c->lock);
}

/* Regions that were written before this cut will probably be written again: one note for all of a
 * sector of the log. */
static int note(struct cut_dev *c, const struct ticket *t, uint64_t len, uint64_t off,
		struct lb_err *err)
{
	if (c->log.dev == NULL)
		return 0;
	return cutlog_note(&c->log, t->generation, off / c->region_bytes,
			   (off + len - 1) / c->region_bytes, t->also, err);
}

static bool is_whole(const struct cut_dev *c, uint64_t mark)
{
	return c->open && c->marks == mark && c->given_up == 0;
}

/* Old blocks [@run, +@count) to their new places aside. No lock. */
static int move_aside(struct cut_dev *c, uint64_t run, uint64_t count, uint64_t slot, uint8_t *buf,
		      struct lb_err *err)
{
	uint64_t off = run * BLOCK;
	uint64_t len = img_min(count * BLOCK, c->dev.size_bytes - off);
	int rc = img_pread(c->lower, buf, len, off, err);

	if (rc == 0 && len < count * BLOCK)
		memset(buf + len, 0, count * BLOCK - len);
	return rc != 0 ? rc : sidestore_write(&c->side, slot, buf, count, err);
}

/* One step, the lock held: false when [@first, @last] is all aside, or the cut is not worth it. */
static bool preserve_step(struct cut_dev *c, uint64_t mark, uint64_t *first, uint64_t last,
			  uint8_t *buf)
{
	struct lb_err err = {0};
	uint64_t slot, run, count;
	int rc;

	/* writes of the cut itself first: what they write is the old content */
	while (is_whole(c, mark) && c->writing_old != 0)
		(void)pthread_cond_wait(&c->ended, &c->lock);
	if (!is_whole(c, mark) || *first > last)
		return false;
	run = *first;
	count = sidestore_reserve(&c->side, &run, last, SIDESTORE_RUN_MAX, &slot);
	*first = run;
	if (count == 0 && run > last)
		return false;
	if (count == 0 && sidestore_is_reserved(&c->side, run)) { /* another write moves it now */
		(void)pthread_cond_wait(&c->ended, &c->lock);
		return true;
	}
	if (count == 0) {
		(void)lb_err_set(&err, LB_ENOSPC, 0,
				 "%" PRIu64 " old blocks are aside, there is no room for more",
				 c->side.used);
		give_up(c, &err);
		return false;
	}
	(void)pthread_mutex_unlock(&c->lock);
	rc = move_aside(c, run, count, slot, buf, &err);
	(void)pthread_mutex_lock(&c->lock);
	if (rc != 0)
		give_up(c, &err);
	else
		sidestore_done(&c->side, slot, count);
	(void)pthread_cond_broadcast(&c->ended);
	*first = run + count;
	return rc == 0;
}

static void preserve(struct cut_dev *c, const struct ticket *t, uint64_t len, uint64_t off)
{
	uint64_t first = off / BLOCK, last = (off + len - 1) / BLOCK;
	struct lb_err err = {0};
	uint8_t *buf;

	if (!t->open)
		return;
	buf = malloc(SIDESTORE_RUN_MAX * BLOCK);
	(void)pthread_mutex_lock(&c->lock);
	if (buf == NULL && is_whole(c, t->mark)) {
		(void)lb_err_set(&err, LB_ENOMEM, 0, "buffer for old blocks");
		give_up(c, &err);
	}
	while (buf != NULL && preserve_step(c, t->mark, &first, last, buf))
		;
	(void)pthread_mutex_unlock(&c->lock);
	free(buf);
}

/* Log and side are not used for it any more. */
static void end_preparation(struct cut_dev *c, const struct ticket *t)
{
	if (!t->open)
		return;
	(void)pthread_mutex_lock(&c->lock);
	c->preparing--;
	(void)pthread_cond_broadcast(&c->ended);
	(void)pthread_mutex_unlock(&c->lock);
}

static int cut_store(struct cut_dev *c, const void *buf, uint64_t len, uint64_t off,
		     struct lb_err *err)
{
	struct ticket t = take_ticket(c, len, off);
	int rc = note(c, &t, len, off, err);

	if (rc == 0)
		preserve(c, &t, len, off);
	end_preparation(c, &t);
	if (rc == 0)
		rc = buf != NULL ? img_pwrite(c->lower, buf, len, off, err)
				 : img_zero(c->lower, len, off, err);
	end_ticket(c, &t);
	return rc;
}

static int cut_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	return img_pread(cut_of(d)->lower, buf, len, off, err);
}

static int cut_pwrite(struct img_dev *d, const void *buf, uint64_t len, uint64_t off,
		      struct lb_err *err)
{
	return cut_store(cut_of(d), buf, len, off, err);
}

static int cut_zero(struct img_dev *d, uint64_t len, uint64_t off, struct lb_err *err)
{
	return cut_store(cut_of(d), NULL, len, off, err);
}

static int cut_flush(struct img_dev *d, struct lb_err *err)
{
	return img_flush(cut_of(d)->lower, err);
}

static int cut_next_extent(struct img_dev *d, struct img_extent *out, uint64_t off,
			   struct lb_err *err)
{
	return img_next_extent(cut_of(d)->lower, out, off, err);
}

/* ---- the view ---- */

/* Lock held. */
static int check_cut(const struct cut_dev *c, struct lb_err *err)
{
	if (!c->open)
		return lb_err_set(err, LB_ECLOSED, 0, "no cut is open");
	if (c->given_up != 0)
		return lb_err_set(err, LB_ECHANGED, 0, "the cut was given up: %s", c->why);
	return 0;
}

/* Until the writes that belong to the cut have ended. */
static int settle(struct cut_dev *c, struct lb_err *err)
{
	int rc;

	(void)pthread_mutex_lock(&c->lock);
	while (c->writing_old != 0)
		(void)pthread_cond_wait(&c->ended, &c->lock);
	rc = check_cut(c, err);
	(void)pthread_mutex_unlock(&c->lock);
	return rc;
}

/*
 * At most CHUNK bytes. The disk is read first and without a lock: a block that is not aside AFTER
 * that had not been overwritten before it, because it goes aside before it is.
 */
static int view_chunk(struct cut_dev *c, uint8_t *buf, uint64_t len, uint64_t off,
		      struct lb_err *err)
{
	uint64_t slot[CHUNK_BITS + 1];
	uint64_t first = off / BLOCK, count = (off + len - 1) / BLOCK - first + 1;
	int rc = img_pread(c->lower, buf, len, off, err);

	if (rc != 0)
		return rc;
	(void)pthread_mutex_lock(&c->lock);
	rc = check_cut(c, err);
	for (uint64_t i = 0; i < count; i++)
		slot[i] = sidestore_find(&c->side, first + i);
	(void)pthread_mutex_unlock(&c->lock);
	for (uint64_t i = 0; rc == 0 && i < count; i++) {
		uint64_t from = (first + i) * BLOCK, to = from + BLOCK;

		if (slot[i] == SIDESTORE_NONE)
			continue;
		from = from > off ? from : off;
		to = img_min(to, off + len);
		rc = sidestore_read(&c->side, slot[i], buf + (from - off), to - from, from % BLOCK,
				    err);
	}
	return rc;
}

static int view_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	struct cut_dev *c = ((struct cut_view *)d)->cut;
	uint8_t *to = buf;
	int rc = settle(c, err);

	while (rc == 0 && len > 0) {
		uint64_t n = img_min(len, CHUNK - off % BLOCK);

		rc = view_chunk(c, to, n, off, err);
		to += n;
		len -= n;
		off += n;
	}
	return rc;
}

/* As the disk says it, up to the first block that was overwritten since. */
static int view_next_extent(struct img_dev *d, struct img_extent *out, uint64_t off,
			    struct lb_err *err)
{
	struct cut_dev *c = ((struct cut_view *)d)->cut;
	struct img_extent e;
	uint64_t block = off / BLOCK, hit;
	int rc = settle(c, err);

	if (rc == 0)
		rc = img_next_extent(c->lower, &e, off, err);
	if (rc != 0)
		return rc;
	(void)pthread_mutex_lock(&c->lock);
	rc = check_cut(c, err);
	hit = next_bit(c->after, block, (off + e.len - 1) / BLOCK + 1);
	(void)pthread_mutex_unlock(&c->lock);
	if (rc != 0)
		return rc;
	if (hit == block) {
		e.zero = false;
		e.len = img_min(BLOCK - off % BLOCK, c->dev.size_bytes - off);
	} else {
		e.len = img_min(e.len, hit * BLOCK - off);
	}
	*out = e;
	return 0;
}

static void view_destroy(struct img_dev *d)
{
	(void)d; /* part of the cut device */
}

static const struct img_dev_ops view_ops = {
	.name = "cut view",
	.pread = view_pread,
	.next_extent = view_next_extent,
	.destroy = view_destroy,
};

/* ---- cuts ---- */

int img_cut_mark(struct img_dev *d, struct lb_err *err)
{
	struct cut_dev *c = cut_of(d);
	int rc = 0;

	(void)pthread_mutex_lock(&c->lock);
	if (c->open) {
		rc = lb_err_set(err, LB_EBUSY, 0, "a cut is open");
	} else {
		c->marks++;
		c->writing_old += c->writing;
		c->writing = 0;
		c->given_up = 0;
		c->open = true;
	}
	(void)pthread_mutex_unlock(&c->lock);
	return rc;
}

int img_cut_check(struct img_dev *d, struct lb_err *err)
{
	struct cut_dev *c = cut_of(d);
	int rc;

	(void)pthread_mutex_lock(&c->lock);
	rc = check_cut(c, err);
	(void)pthread_mutex_unlock(&c->lock);
	return rc;
}

int img_cut_view(struct img_dev *d, struct img_dev **out, struct lb_err *err)
{
	struct cut_dev *c = cut_of(d);

	if (!c->open)
		return lb_err_set(err, LB_ECLOSED, 0, "no cut is open");
	*out = &c->view.dev;
	return 0;
}

/* Runs of .since with gaps of less than @gap blocks filled. LB_ENOMEM: too many. */
static int collect(struct cut_dev *c, uint64_t gap, struct lb_err *err)
{
	uint64_t at = next_bit(c->since, 0, c->blocks);
	int rc = 0;

	img_extmap_clear(c->runs);
	while (rc == 0 && at < c->blocks) {
		uint64_t end = at + 1, next = next_bit(c->since, end, c->blocks);

		while (next < c->blocks && next - end < gap) {
			end = next + 1;
			next = next_bit(c->since, end, c->blocks);
		}
		rc = img_extmap_insert(c->runs, at, end - at, 0, err);
		at = next;
	}
	return rc;
}

int img_cut_changed(struct img_dev *d, const struct img_extmap **out, struct lb_err *err)
{
	struct cut_dev *c = cut_of(d);
	uint64_t gap = 1;
	int rc;

	if (!c->open)
		return lb_err_set(err, LB_ECLOSED, 0, "no cut is open");
	if (c->all_changed) {
		*out = NULL;
		return 0;
	}
	/* .since stands still: no lock */
	rc = collect(c, gap, err);
	while (rc == LB_ENOMEM && gap < c->blocks) {
		gap *= 2;
		rc = collect(c, gap, err);
	}
	if (rc == 0)
		*out = c->runs;
	return rc;
}

static void snapshot(void *arg, uint64_t *regions)
{
	struct cut_dev *c = arg;

	(void)pthread_mutex_lock(&c->lock);
	memcpy(regions, c->after_regions, c->region_words * sizeof(*regions));
	(void)pthread_mutex_unlock(&c->lock);
}

/* The log may count from the kept cut on once the disk holds all of it. */
static void keep_log(struct cut_dev *c, const struct lb_hash *base)
{
	int state = atomic_load(&c->log.state);

	if (c->log.dev == NULL || img_flush(c->lower, NULL) != 0)
		return;
	if (state == IMG_CUT_LOG_KEPT)
		(void)cutlog_advance(&c->log, base, NULL);
	else
		(void)cutlog_begin(&c->log, base, snapshot, c, NULL);
}

static void swap(uint64_t **a, uint64_t **b)
{
	uint64_t *t = *a;

	*a = *b;
	*b = t;
}

/* The cut is over; whoever moves blocks aside for it has ended when this returns. */
static void close_cut(struct cut_dev *c, bool kept)
{
	(void)pthread_mutex_lock(&c->lock);
	if (kept) {
		swap(&c->since, &c->after);
		swap(&c->since_regions, &c->after_regions);
		c->all_changed = false;
		c->generation = atomic_load(&c->log.generation);
	}
	c->open = false;
	(void)pthread_cond_broadcast(&c->ended);
	while (c->preparing != 0)
		(void)pthread_cond_wait(&c->ended, &c->lock);
	(void)pthread_mutex_unlock(&c->lock);
}

/* .after into .since, in pieces: guests write meanwhile. */
static void fold(struct cut_dev *c)
{
	for (uint64_t at = 0; at < c->words; at += FOLD_WORDS) {
		uint64_t end = img_min(c->words, at + FOLD_WORDS);

		(void)pthread_mutex_lock(&c->lock);
		for (uint64_t i = at; i < end; i++)
			c->since[i] |= c->after[i];
		(void)pthread_mutex_unlock(&c->lock);
	}
	(void)pthread_mutex_lock(&c->lock);
	for (uint64_t i = 0; i < c->region_words; i++)
		c->since_regions[i] |= c->after_regions[i];
	(void)pthread_mutex_unlock(&c->lock);
}

void img_cut_release(struct img_dev *d, bool kept, const struct lb_hash *base)
{
	struct cut_dev *c = cut_of(d);

	if (!c->open)
		return;
	if (kept) {
		(void)settle(c, NULL); /* what is flushed below is all of the cut */
		keep_log(c, base);
	}
	close_cut(c, kept);
	if (!kept)
		fold(c);
	/* nobody looks at these while no cut is open */
	memset(c->after, 0, c->words * sizeof(*c->after));
	memset(c->after_regions, 0, c->region_words * sizeof(*c->after_regions));
	sidestore_clear(&c->side);
}

enum img_cut_log_state img_cut_log(const struct img_dev *d, struct lb_hash *base)
{
	const struct cut_dev *c = (const struct cut_dev *)d;

	LB_ASSERT(d->ops == &cut_ops);
	if (base != NULL)
		*base = c->log.base;
	return (enum img_cut_log_state)atomic_load(&c->log.state);
}

static uint64_t count_changed(const struct cut_dev *c, uint64_t at, uint64_t end)
{
	uint64_t n = 0;

	for (; at < end; at++)
		n += (unsigned)__builtin_popcountll(c->since[at] | c->after[at]);
	return n;
}

void img_cut_stats(struct img_dev *d, struct img_cut_stats *out)
{
	struct cut_dev *c = cut_of(d);

	*out = (struct img_cut_stats){.log_writes = atomic_load(&c->log.writes)};
	for (uint64_t at = 0; at < c->words; at += FOLD_WORDS) {
		(void)pthread_mutex_lock(&c->lock);
		out->changed_blocks += count_changed(c, at, img_min(c->words, at + FOLD_WORDS));
		(void)pthread_mutex_unlock(&c->lock);
	}
	(void)pthread_mutex_lock(&c->lock);
	out->open = c->open;
	out->given_up = c->given_up != 0;
	out->side_blocks = c->side.used;
	if (c->all_changed)
		out->changed_blocks = c->blocks;
	(void)pthread_mutex_unlock(&c->lock);
}

/* ---- create ---- */

static void cut_destroy(struct img_dev *d)
{
	struct cut_dev *c = cut_of(d);

	cutlog_fini(&c->log);
	sidestore_fini(&c->side);
	img_extmap_destroy(c->runs);
	free(c->since);
	free(c->after);
	free(c->since_regions);
	free(c->after_regions);
	(void)pthread_cond_destroy(&c->ended);
	(void)pthread_mutex_destroy(&c->lock);
	free(c);
}

static const struct img_dev_ops cut_ops = {
	.name = "cut",
	.pread = cut_pread,
	.pwrite = cut_pwrite,
	.zero = cut_zero,
	.flush = cut_flush,
	.next_extent = cut_next_extent,
	.destroy = cut_destroy,
};

static int check_cfg(const struct img_cut_cfg *cfg, uint64_t region, struct lb_err *err)
{
	if (!img_writable(cfg->lower) || !img_writable(cfg->side) ||
	    (cfg->log != NULL && !img_writable(cfg->log)))
		return lb_err_set(err, LB_EDENIED, 0, "cut: disk, side or log is read-only");
	if (region < BLOCK || (region & (region - 1)) != 0)
		return lb_err_set(err, LB_EINPUT, 0, "cut: regions of %" PRIu64 " bytes", region);
	return 0;
}

/* What the log knows to have changed before this process. */
static void take_over(struct cut_dev *c)
{
	uint64_t region_blocks = c->region_bytes / BLOCK;

	c->generation = atomic_load(&c->log.generation);
	c->all_changed = atomic_load(&c->log.state) != IMG_CUT_LOG_KEPT;
	for (uint64_t r = 0; !c->all_changed && r < c->log.regions; r++) {
		if (!cutlog_has(&c->log, r))
			continue;
		set_bits(c->since, r * region_blocks,
			 img_min((r + 1) * region_blocks, c->blocks) - 1);
		set_bits(c->since_regions, r, r);
	}
}

static int allocate(struct cut_dev *c, struct lb_err *err)
{
	uint64_t regions = c->dev.size_bytes / c->region_bytes + 1;

	c->blocks = c->dev.size_bytes / BLOCK + (c->dev.size_bytes % BLOCK != 0);
	c->words = c->blocks / 64 + 1;
	c->region_words = c->log.dev != NULL ? cutlog_words(&c->log) : regions / 64 + 1;
	c->since = calloc(c->words, sizeof(*c->since));
	c->after = calloc(c->words, sizeof(*c->after));
	c->since_regions = calloc(c->region_words, sizeof(*c->since_regions));
	c->after_regions = calloc(c->region_words, sizeof(*c->after_regions));
	if (c->since == NULL || c->after == NULL || c->since_regions == NULL ||
	    c->after_regions == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "cut: bitmaps of %" PRIu64 " blocks",
				  c->blocks);
	return img_extmap_create(&c->runs, false, RUNS_MAX, err);
}

int img_cut_create(struct img_dev **out, const struct img_cut_cfg *cfg, struct lb_err *err)
{
	uint64_t region = cutlog_region_default(cfg->region_bytes);
	struct cut_dev *c;
	int rc = check_cfg(cfg, region, err);

	if (rc != 0)
		return rc;
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "cut: device");
	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_cond_init(&c->ended, NULL);
	c->dev = (struct img_dev){.ops = &cut_ops, .size_bytes = cfg->lower->size_bytes};
	c->view.dev = (struct img_dev){.ops = &view_ops, .size_bytes = cfg->lower->size_bytes};
	c->view.cut = c;
	c->lower = cfg->lower;
	c->region_bytes = region;
	if (cfg->log != NULL)
		rc = cutlog_init(&c->log, cfg->log, c->dev.size_bytes, region, err);
	if (rc == 0)
		rc = allocate(c, err);
	if (rc == 0)
		rc = sidestore_init(&c->side, cfg->side, err);
	if (rc != 0) {
		cut_destroy(&c->dev);
		return rc;
	}
	take_over(c);
	*out = &c->dev;
	return 0;
}
