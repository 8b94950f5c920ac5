#include "cutlog.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/rd.h"
#include "base/wr.h"
#include "imaging/dev.h"

#define SECTOR         512u
#define SLOT_BYTES     4096u /* of a header */
#define BITMAPS_AT     (2 * (uint64_t)SLOT_BYTES)
#define MAGIC          UINT32_C(0x5455434c) /* "LCUT" */
#define VERSION        1u
#define CRC_AT         (SECTOR - 4)
#define WORDS          62u /* of bits in a sector: generation, index and checksum take the rest */
#define BITS           (UINT64_C(64) * WORDS)
#define REGION_DEFAULT (UINT64_C(4) << 20)
/* No log gets there by itself; a foreign one shall not wrap around. */
#define GENERATION_MAX (UINT64_C(1) << 62)

uint64_t cutlog_region_default(uint64_t region_bytes)
{
	return region_bytes != 0 ? region_bytes : REGION_DEFAULT;
}

static uint64_t sectors_of(uint64_t disk_bytes, uint64_t region_bytes)
{
	uint64_t regions = disk_bytes / region_bytes + (disk_bytes % region_bytes != 0);

	return regions / BITS + (regions % BITS != 0);
}

uint64_t img_cut_log_bytes(uint64_t disk_bytes, uint64_t region_bytes)
{
	uint64_t n = sectors_of(disk_bytes, cutlog_region_default(region_bytes)) * SECTOR;

	return BITMAPS_AT + 2 * n;
}

uint64_t cutlog_words(const struct cutlog *l)
{
	return (uint64_t)l->sectors * WORDS;
}

const char *img_cut_log_state_name(enum img_cut_log_state s)
{
	static const char *const name[] = {"none", "new", "kept", "misfit", "damaged", "failed"};

	return name[s];
}

/* ---- sectors ---- */

static void seal(uint8_t *sector)
{
	struct lb_wr wr = lb_wr_init(sector + CRC_AT, 4);

	lb_wr_u32le(&wr, lb_crc32c(0, sector, CRC_AT));
}

static bool is_sealed(const uint8_t *sector)
{
	struct lb_rd rd = lb_rd_init(sector + CRC_AT, 4);

	return lb_rd_u32le(&rd) == lb_crc32c(0, sector, CRC_AT);
}

static bool is_blank(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != 0)
			return false;
	return true;
}

static uint64_t sector_at(const struct cutlog *l, unsigned map, uint32_t index)
{
	return BITMAPS_AT + ((uint64_t)map * l->sectors + index) * SECTOR;
}

static uint32_t sector_id(unsigned map, uint32_t index)
{
	return index << 1 | map;
}

static int write_header(struct cutlog *l, uint64_t generation, const struct lb_hash *base,
			struct lb_err *err)
{
	uint8_t raw[SECTOR] = {0};
	struct lb_wr wr = lb_wr_init(raw, sizeof(raw));
	int rc;

	lb_wr_u32le(&wr, MAGIC);
	lb_wr_u32le(&wr, VERSION);
	lb_wr_u64le(&wr, l->disk_bytes);
	lb_wr_u64le(&wr, l->region_bytes);
	lb_wr_u64le(&wr, generation);
	lb_wr_hash(&wr, base);
	seal(raw);
	rc = img_pwrite(l->dev, raw, sizeof(raw), (generation & 1) * SLOT_BYTES, err);
	return rc != 0 ? rc : img_flush(l->dev, err);
}

/* No restart believes the log then. */
static int write_no_header(struct cutlog *l, struct lb_err *err)
{
	static const uint8_t zeros[BITMAPS_AT];
	int rc = img_pwrite(l->dev, zeros, sizeof(zeros), 0, err);

	return rc != 0 ? rc : img_flush(l->dev, err);
}

static int write_sector(struct cutlog *l, uint64_t gen, uint32_t index, const uint64_t *words,
			struct lb_err *err)
{
	uint8_t raw[SECTOR] = {0};
	struct lb_wr wr = lb_wr_init(raw, sizeof(raw));

	lb_wr_u64le(&wr, gen);
	lb_wr_u32le(&wr, sector_id(gen & 1, index));
	for (unsigned i = 0; i < WORDS; i++)
		lb_wr_u64le(&wr, words[i]);
	seal(raw);
	return img_pwrite(l->dev, raw, sizeof(raw), sector_at(l, gen & 1, index), err);
}

/* ---- open ---- */

enum header {
	HEADER_BLANK,
	HEADER_BAD,
	HEADER_MISFIT,
	HEADER_GOOD,
};

static enum header read_header(const struct cutlog *l, const uint8_t *raw, uint64_t *generation,
			       struct lb_hash *base)
{
	struct lb_rd rd = lb_rd_init(raw, SECTOR);
	uint32_t magic, version;
	uint64_t disk, region;

	if (is_blank(raw, SECTOR))
		return HEADER_BLANK;
	if (!is_sealed(raw))
		return HEADER_BAD;
	magic = lb_rd_u32le(&rd);
	version = lb_rd_u32le(&rd);
	disk = lb_rd_u64le(&rd);
	region = lb_rd_u64le(&rd);
	*generation = lb_rd_u64le(&rd);
	*base = lb_rd_hash(&rd);
	if (magic != MAGIC || version != VERSION || disk != l->disk_bytes ||
	    region != l->region_bytes)
		return HEADER_MISFIT;
	return *generation == 0 || *generation > GENERATION_MAX ? HEADER_BAD : HEADER_GOOD;
}

/* Take over a sector's bits. False: it is damaged. */
static bool take_sector(struct cutlog *l, const uint8_t *raw, unsigned map, uint32_t index)
{
	struct lb_rd rd = lb_rd_init(raw, SECTOR);
	uint64_t g = atomic_load(&l->generation), gen;
	uint64_t want = (g & 1) == map ? g : g + 1;

	if (is_blank(raw, SECTOR))
		return true;
	gen = lb_rd_u64le(&rd);
	if (!is_sealed(raw) || lb_rd_u32le(&rd) != sector_id(map, index) || (gen & 1) != map ||
	    gen > want)
		return false;
	for (unsigned i = 0; gen == want && i < WORDS; i++)
		atomic_store(&l->bits[map][(uint64_t)index * WORDS + i], lb_rd_u64le(&rd));
	return true;
}

static int take_bitmaps(struct cutlog *l, struct lb_err *err)
{
	uint8_t raw[SECTOR];

	for (unsigned map = 0; map < 2; map++) {
		for (uint32_t i = 0; i < l->sectors; i++) {
			int rc = img_pread(l->dev, raw, sizeof(raw), sector_at(l, map, i), err);

			if (rc != 0)
				return rc;
			if (!take_sector(l, raw, map, i)) {
				atomic_store(&l->state, IMG_CUT_LOG_DAMAGED);
				return 0;
			}
		}
	}
	atomic_store(&l->state, IMG_CUT_LOG_KEPT);
	return 0;
}

/* One header may be torn by a power cut: then the other one is older and names more. */
static int take_log(struct cutlog *l, struct lb_err *err)
{
	uint8_t raw[SECTOR];
	enum header h[2];
	uint64_t gen[2] = {0, 0};
	struct lb_hash base[2] = {{{0}}, {{0}}};
	unsigned newest;

	for (unsigned i = 0; i < 2; i++) {
		int rc = img_pread(l->dev, raw, sizeof(raw), i * (uint64_t)SLOT_BYTES, err);

		if (rc != 0)
			return rc;
		h[i] = read_header(l, raw, &gen[i], &base[i]);
	}
	if (h[0] == HEADER_MISFIT || h[1] == HEADER_MISFIT)
		atomic_store(&l->state, IMG_CUT_LOG_MISFIT);
	else if (h[0] == HEADER_BLANK && h[1] == HEADER_BLANK)
		atomic_store(&l->state, IMG_CUT_LOG_NEW);
	else if (h[0] != HEADER_GOOD && h[1] != HEADER_GOOD)
		atomic_store(&l->state, IMG_CUT_LOG_DAMAGED);
	else {
		newest = h[1] == HEADER_GOOD && (h[0] != HEADER_GOOD || gen[1] > gen[0]);
		atomic_store(&l->generation, gen[newest]);
		l->base = base[newest];
		return take_bitmaps(l, err);
	}
	return 0;
}

int cutlog_init(struct cutlog *l, struct img_dev *dev, uint64_t disk_bytes, uint64_t region_bytes,
		struct lb_err *err)
{
	uint64_t need = img_cut_log_bytes(disk_bytes, region_bytes), words;
	int rc;

	*l = (struct cutlog){0};
	if (dev->size_bytes < need)
		return lb_err_set(err, LB_EINPUT, 0,
				  "cut log of %" PRIu64 " bytes, a disk of %" PRIu64
				  " bytes needs %" PRIu64,
				  dev->size_bytes, disk_bytes, need);
	*l = (struct cutlog){.dev = dev, .disk_bytes = disk_bytes, .region_bytes = region_bytes};
	l->regions = disk_bytes / region_bytes + (disk_bytes % region_bytes != 0);
	l->sectors = (uint32_t)sectors_of(disk_bytes, region_bytes);
	words = cutlog_words(l);
	(void)pthread_mutex_init(&l->lock, NULL);
	l->bits[0] = calloc(words, sizeof(*l->bits[0]));
	l->bits[1] = calloc(words, sizeof(*l->bits[1]));
	if (l->bits[0] == NULL || l->bits[1] == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "cut log of %" PRIu64 " regions", l->regions);
	else
		rc = take_log(l, err);
	if (rc != 0)
		cutlog_fini(l);
	else if (atomic_load(&l->state) != IMG_CUT_LOG_KEPT)
		atomic_store(&l->generation, 0); /* begun anew, whatever there was */
	return rc;
}

void cutlog_fini(struct cutlog *l)
{
	if (l->dev == NULL)
		return;
	(void)pthread_mutex_destroy(&l->lock);
	free((void *)l->bits[0]);
	free((void *)l->bits[1]);
	*l = (struct cutlog){0};
}

/* ---- notes ---- */

static bool has(const struct cutlog *l, uint64_t gen, uint64_t region)
{
	return (atomic_load(&l->bits[gen & 1][region / 64]) >> (region % 64) & 1) != 0;
}

bool cutlog_has(const struct cutlog *l, uint64_t region)
{
	return has(l, 0, region) || has(l, 1, region);
}

static bool has_all(const struct cutlog *l, uint64_t gen, uint64_t first, uint64_t last)
{
	while (first <= last && has(l, gen, first))
		first++;
	return first > last;
}

/* The sector's bits as they shall be: what is durable, [first, last], and what will follow. */
static void compose(const struct cutlog *l, uint64_t gen, uint32_t index, uint64_t first,
		    uint64_t last, const uint64_t *also, uint64_t *words)
{
	uint64_t base = (uint64_t)index * BITS;

	for (unsigned i = 0; i < WORDS; i++) {
		words[i] = atomic_load(&l->bits[gen & 1][(uint64_t)index * WORDS + i]);
		if (also != NULL)
			words[i] |= also[(uint64_t)index * WORDS + i];
	}
	first = first > base ? first - base : 0;
	last = last < base + BITS - 1 ? last - base : BITS - 1;
	for (uint64_t r = first; r <= last; r++)
		words[r / 64] |= UINT64_C(1) << (r % 64);
}

static void set_durable(struct cutlog *l, uint64_t gen, uint32_t index, const uint64_t *words)
{
	for (unsigned i = 0; i < WORDS; i++)
		atomic_store(&l->bits[gen & 1][(uint64_t)index * WORDS + i], words[i]);
}

static int write_note(struct cutlog *l, uint64_t gen, uint64_t first, uint64_t last,
		      const uint64_t *also, struct lb_err *err)
{
	uint64_t words[WORDS];
	int rc = 0;

	for (uint64_t i = first / BITS; rc == 0 && i <= last / BITS; i++) {
		compose(l, gen, (uint32_t)i, first, last, also, words);
		rc = write_sector(l, gen, (uint32_t)i, words, err);
		if (rc == 0)
			rc = img_flush(l->dev, err);
		if (rc == 0)
			set_durable(l, gen, (uint32_t)i, words);
		atomic_fetch_add(&l->writes, 1);
	}
	return rc;
}

/* The log is no more what it says. Better none than a wrong one; when it cannot even be made
 * invalid, nothing may be written to the disk any more that it does not name. */
static int give_up(struct cutlog *l, struct lb_err *err)
{
	int rc;

	l->poisoned = true;
	atomic_store(&l->state, IMG_CUT_LOG_FAILED);
	rc = write_no_header(l, err);
	l->poisoned = rc != 0;
	return rc != 0 ? lb_err_wrap(err, rc, "cut log, neither written nor made invalid") : 0;
}

static int note_locked(struct cutlog *l, uint64_t gen, uint64_t first, uint64_t last,
		       const uint64_t *also, struct lb_err *err)
{
	uint64_t g = atomic_load(&l->generation);

	if (l->poisoned)
		return give_up(l, err);
	if (atomic_load(&l->state) != IMG_CUT_LOG_KEPT)
		return 0;
	LB_ASSERT(gen == g || gen == g + 1);
	if (l->doubtful)
		gen = g + 1; /* named whichever header is there */
	if (has_all(l, gen, first, last) || write_note(l, gen, first, last, also, err) == 0)
		return 0;
	return give_up(l, err);
}

int cutlog_note(struct cutlog *l, uint64_t gen, uint64_t first, uint64_t last, const uint64_t *also,
		struct lb_err *err)
{
	int state = atomic_load(&l->state), rc;

	LB_ASSERT(first <= last && last < l->regions);
	/* without the lock: another note may be waiting for the disk under it */
	if (state == IMG_CUT_LOG_KEPT && !atomic_load(&l->doubtful) && has_all(l, gen, first, last))
		return 0;
	if (state != IMG_CUT_LOG_KEPT && state != IMG_CUT_LOG_FAILED)
		return 0;
	(void)pthread_mutex_lock(&l->lock);
	rc = note_locked(l, gen, first, last, also, err);
	(void)pthread_mutex_unlock(&l->lock);
	return rc;
}

/* ---- cuts ---- */

static const struct lb_hash no_base;

static void clear_bits(struct cutlog *l, uint64_t gen)
{
	for (uint64_t i = 0; i < cutlog_words(l); i++)
		atomic_store(&l->bits[gen & 1][i], 0);
}

int cutlog_advance(struct cutlog *l, const struct lb_hash *base, struct lb_err *err)
{
	uint64_t g = atomic_load(&l->generation);
	int rc;

	if (g >= GENERATION_MAX)
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "cut log: no generation after the last");
	(void)pthread_mutex_lock(&l->lock);
	rc = write_header(l, g + 1, base != NULL ? base : &no_base, err);
	l->doubtful = rc != 0;
	if (rc == 0) {
		l->base = base != NULL ? *base : no_base;
		clear_bits(l, g + 2);
		atomic_store(&l->generation, g + 1);
	}
	(void)pthread_mutex_unlock(&l->lock);
	return rc;
}

static int write_anew(struct cutlog *l, const struct lb_hash *base, const uint64_t *regions,
		      struct lb_err *err)
{
	static const uint64_t none[WORDS];
	uint64_t g = atomic_load(&l->generation) + 1;
	int rc = write_no_header(l, err);

	for (uint32_t i = 0; rc == 0 && i < l->sectors; i++) {
		rc = write_sector(l, g, i, regions + (uint64_t)i * WORDS, err);
		if (rc == 0)
			rc = write_sector(l, g - 1, i, none, err);
	}
	if (rc == 0)
		rc = img_flush(l->dev, err);
	if (rc == 0)
		rc = write_header(l, g, base != NULL ? base : &no_base, err);
	if (rc != 0)
		return rc;
	clear_bits(l, g + 1);
	for (uint32_t i = 0; i < l->sectors; i++)
		set_durable(l, g, i, regions + (uint64_t)i * WORDS);
	l->base = base != NULL ? *base : no_base;
	l->doubtful = false;
	atomic_store(&l->generation, g);
	return 0;
}

int cutlog_begin(struct cutlog *l, const struct lb_hash *base,
		 void (*snapshot)(void *arg, uint64_t *regions), void *arg, struct lb_err *err)
{
	uint64_t *regions;
	int before, rc;

	if (atomic_load(&l->generation) >= GENERATION_MAX)
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "cut log: no generation after the last");
	regions = calloc(cutlog_words(l), sizeof(*regions));
	if (regions == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "cut log of %" PRIu64 " regions", l->regions);
	(void)pthread_mutex_lock(&l->lock);
	/* From here on notes come to the lock; who did not see that is in the snapshot. */
	before = atomic_exchange(&l->state, IMG_CUT_LOG_KEPT);
	snapshot(arg, regions);
	rc = write_anew(l, base, regions, err);
	if (rc != 0) {
		/* the header may be there after all */
		l->poisoned = give_up(l, NULL) != 0;
		if (!l->poisoned && before != IMG_CUT_LOG_FAILED)
			atomic_store(&l->state, before);
	}
	(void)pthread_mutex_unlock(&l->lock);
	free(regions);
	return rc;
}
