#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/err.h"
#include "delta_int.h"
#include "draft_int.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"
#include "replicator/digest.h"
#include "shadow_int.h"

/*
 * Chunks of 1 MiB are taken in ascending order, so each worker's runs ascend. Within a chunk, reads
 * of 256 KiB (they stay in the second-level cache) go straight behind the blocks of the open pack:
 * a seed moves nothing, a delta moves only what it keeps.
 */

#define CHUNK_BLOCKS 256u
#define READ_BLOCKS  64u
#define RUN_MAX      4096u      /* blocks in one run, so that its digests are bounded */
#define SPOOL_MEM    (1u << 20) /* then to a file */
#define EXTENT_MIN   16u        /* shorter ranges are read without asking for holes */

int rep_scan_init(struct rep_scan_worker *w, struct rep_delta *d, unsigned number,
		  struct lb_err *err)
{
	const char name[] = {'r', (char)('a' + number), '\0'};

	*w = (struct rep_scan_worker){.delta = d};
	rep_spool_init(&w->spool, d->cfg->fs, &d->cfg->header->layer, name, SPOOL_MEM);
	w->buf = aligned_alloc(REP_BLOCK_BYTES,
			       (size_t)(REP_PACK_MAX_BLOCKS + READ_BLOCKS) * REP_BLOCK_BYTES);
	w->old = calloc(CHUNK_BLOCKS, sizeof(*w->old));
	w->run_digests = malloc(RUN_MAX * sizeof(*w->run_digests));
	if (d->cfg->shadow != NULL)
		w->patches = malloc(d->cfg->header->pack_raw_bytes + REP_PATCH_MAX_BYTES);
	if (w->buf == NULL || w->old == NULL || w->run_digests == NULL ||
	    (d->cfg->shadow != NULL && w->patches == NULL))
		return lb_err_set(err, LB_ENOMEM, 0, "allocate a scan worker");
	return rep_packer_create(&w->packer, d->cfg->env, d->cfg->header, d->cfg->dek, err);
}

void rep_scan_fini(struct rep_scan_worker *w)
{
	rep_packer_destroy(w->packer);
	rep_spool_fini(&w->spool);
	free(w->buf);
	free(w->old);
	free(w->run_digests);
	free(w->patches);
}

/* ---- runs ---- */

static int run_close(struct rep_scan_worker *w, struct lb_err *err)
{
	size_t digests = w->run.kind == REP_RUN_DATA ? w->run.count * sizeof(struct lb_digest) : 0;
	int rc;

	if (!w->have_run)
		return 0;
	w->have_run = false;
	rc = rep_spool_write(&w->spool, w->spool.bytes, &w->run, sizeof(w->run), err);
	if (rc == 0 && digests != 0)
		rc = rep_spool_write(&w->spool, w->spool.bytes, w->run_digests, digests, err);
	return rc;
}

/* Does @n, one block, lengthen run @r? A patch is a run of its own. */
static bool run_extends(const struct rep_spooled_run *r, const struct rep_spooled_run *n)
{
	if (r->kind != n->kind || r->block + r->count != n->block || r->count == RUN_MAX)
		return false;
	return n->kind == REP_RUN_ZERO || (n->kind != REP_RUN_PATCH && r->src == n->src &&
					   r->pack == n->pack && r->pos + r->count == n->pos);
}

/* Add the one block of @n; @digest is NULL unless it is DATA. */
static int run_add(struct rep_scan_worker *w, const struct rep_spooled_run *n,
		   const struct lb_digest *digest, struct lb_err *err)
{
	int rc = 0;

	if (!w->have_run || !run_extends(&w->run, n)) {
		rc = run_close(w, err);
		w->run = *n;
		w->run.count = 0;
		w->have_run = true;
	}
	if (digest != NULL)
		w->run_digests[w->run.count] = *digest;
	w->data_blocks += digest != NULL;
	w->run.count++;
	return rc;
}

static int run_zero(struct rep_scan_worker *w, uint64_t block, struct lb_err *err)
{
	const struct rep_spooled_run n = {.block = block, .kind = REP_RUN_ZERO};

	if (w->delta->cfg->shadow != NULL)
		rep_shadow_zero(w->delta->cfg->shadow, block, 1);
	return run_add(w, &n, NULL, err);
}

/* ---- packs ---- */

static uint32_t pack_number(struct rep_delta *d)
{
	uint32_t n;

	(void)pthread_mutex_lock(&d->lock);
	n = d->packs++;
	(void)pthread_mutex_unlock(&d->lock);
	return n;
}

/* @blocks of the pack's are noted in the draft's journal: none of a pack of patches. */
static int pack_seal_of(struct rep_scan_worker *w, uint32_t number, const uint8_t *raw,
			uint32_t bytes, uint32_t blocks, struct lb_err *err)
{
	struct rep_draft *draft = w->delta->cfg->draft;
	struct lb_buf *body = NULL;
	struct lb_hash leaf;
	int rc = rep_packer_seal(w->packer, &body, &leaf, number, raw, bytes, err);

	if (rc != 0)
		return rc;
	if (draft != NULL)
		rep_draft_note_pack(draft, number, &leaf, (uint32_t)body->len, w->pack_block,
				    w->pack_digest, blocks);
	return rep_delta_part(w->delta, REP_RECORD_PACK, number, body, &leaf, &w->delta->leaves,
			      err);
}

/* Seal the open pack. */
static int pack_seal(struct rep_scan_worker *w, struct lb_err *err)
{
	uint32_t blocks = w->fill;

	w->fill = 0;
	return pack_seal_of(w, w->pack, w->buf, blocks * REP_BLOCK_BYTES, blocks, err);
}

/* Seal the open pack of patches. They have packs of their own: blocks stay aligned in theirs. */
static int patches_seal(struct rep_scan_worker *w, struct lb_err *err)
{
	uint32_t bytes = w->patch_fill;

	w->patch_fill = 0;
	return pack_seal_of(w, w->patch_pack, w->patches, bytes, 0, err);
}

/* ---- blocks ---- */

static bool is_zero_block(const uint8_t *p)
{
	const uint64_t *q = (const uint64_t *)(const void *)p;
	uint64_t any = q[0] | q[REP_BLOCK_BYTES / 8 - 1];

	for (unsigned i = 0; any == 0 && i < REP_BLOCK_BYTES / 8; i += 8)
		any = q[i] | q[i + 1] | q[i + 2] | q[i + 3] | q[i + 4] | q[i + 5] | q[i + 6] |
		      q[i + 7];
	return any == 0;
}

/* Keep the block at @p: it becomes the next of the open pack. Every number given out is sealed. */
static int keep(struct rep_scan_worker *w, uint64_t block, const uint8_t *p,
		const struct lb_digest *digest, struct lb_err *err)
{
	struct rep_spooled_run n = {.block = block, .kind = REP_RUN_DATA, .pos = w->fill};
	uint8_t *to = w->buf + (size_t)w->fill * REP_BLOCK_BYTES;
	int rc;

	if (w->fill == 0)
		w->pack = pack_number(w->delta);
	n.pack = w->pack;
	if (w->delta->cfg->shadow != NULL)
		rep_shadow_data(w->delta->cfg->shadow, block, p, digest, n.pack, n.pos);
	if (to != p)
		memmove(to, p, REP_BLOCK_BYTES);
	rc = run_add(w, &n, digest, err);
	w->pack_block[w->fill] = block;
	w->pack_digest[w->fill] = *digest;
	w->fill++;
	if (rc == 0 && w->fill == w->delta->cfg->header->pack_raw_bytes / REP_BLOCK_BYTES)
		rc = pack_seal(w, err);
	return rc;
}

/* The patch of @n stands behind the open pack of patches, in its room for one. */
static int patch_keep(struct rep_scan_worker *w, struct rep_spooled_run *n, struct lb_err *err)
{
	uint8_t *p = w->patches + w->patch_fill;
	int rc = 0;

	if (w->patch_fill + n->patch_bytes > w->delta->cfg->header->pack_raw_bytes) {
		rc = patches_seal(w, err);
		memmove(w->patches, p, n->patch_bytes);
	}
	if (w->patch_fill == 0)
		w->patch_pack = pack_number(w->delta);
	n->patch_pack = w->patch_pack;
	n->patch_pos = w->patch_fill;
	w->patch_fill += n->patch_bytes;
	return rc != 0 ? rc : run_add(w, n, NULL, err);
}

/* A changed block of RAM: as what the peer holds already, as a patch of it, or as data. */
static int keep_ram(struct rep_scan_worker *w, uint64_t block, const uint8_t *p,
		    const struct lb_digest *digest, struct lb_err *err)
{
	struct rep_way way;

	rep_shadow_choose(w->delta->cfg->shadow, &way, w->patches + w->patch_fill, block, p,
			  digest);
	if (way.kind == REP_RUN_DATA && !way.made)
		return keep(w, block, p, digest, err);

	struct rep_spooled_run n = {.block = block,
				    .kind = way.kind,
				    .pack = way.pack,
				    .pos = way.pos,
				    .src = way.src,
				    .patch_bytes = way.patch_bytes};

	if (way.kind == REP_RUN_PATCH)
		return patch_keep(w, &n, err);
	return run_add(w, &n, way.made ? digest : NULL, err);
}

/* The block stands in a pack of an earlier attempt at this layer. */
static int keep_place(struct rep_scan_worker *w, uint64_t block, const struct rep_draft_place *p,
		      const struct lb_digest *digest, struct lb_err *err)
{
	const struct rep_spooled_run n = {
		.block = block, .kind = REP_RUN_DATA, .pack = p->pack, .pos = p->pos};

	w->blocks_kept++;
	return run_add(w, &n, digest, err);
}

/* Record what happened to [block, block + n) of which entry i changed to digest[i]. */
static int note_changes(struct rep_scan_worker *w, uint64_t block, uint32_t n,
			const struct lb_digest *digest, const bool *changed, struct lb_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < n;) {
		bool zero;
		uint32_t k = i;

		if (!changed[i]) {
			i++;
			continue;
		}
		zero = rep_digest_is_zero(&digest[i]);
		while (k < n && changed[k] && rep_digest_is_zero(&digest[k]) == zero)
			k++;
		rc = rep_digest_change(w->delta->cfg->digest, block + i, k - i,
				       zero ? NULL : &digest[i], err);
		i = k;
	}
	return rc;
}

/* Deal with @n blocks whose bytes stand at @p (behind the open pack); @old as of the base. */
static int blocks_data(struct rep_scan_worker *w, uint64_t block, uint32_t n, const uint8_t *p,
		       const struct lb_digest *old, struct lb_err *err)
{
	const struct rep_delta_cfg *cfg = w->delta->cfg;
	struct rep_draft_place place[READ_BLOCKS];
	struct lb_digest digest[READ_BLOCKS] = {0};
	bool changed[READ_BLOCKS];
	int rc = 0;

	if (cfg->draft != NULL)
		rc = rep_draft_read(cfg->draft, place, block, n, err);
	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		const uint8_t *b = p + (size_t)i * REP_BLOCK_BYTES;
		bool zero = is_zero_block(b);

		if (!zero)
			rep_digest_of(cfg->digest, &digest[i], b);
		changed[i] = memcmp(&digest[i], &old[i], sizeof(old[i])) != 0;
		if (changed[i] && zero)
			rc = run_zero(w, block + i, err);
		else if (changed[i] && cfg->draft != NULL &&
			 rep_draft_stands(&place[i], &digest[i]))
			rc = keep_place(w, block + i, &place[i], &digest[i], err);
		else if (changed[i])
			rc = cfg->shadow != NULL ? keep_ram(w, block + i, b, &digest[i], err)
						 : keep(w, block + i, b, &digest[i], err);
	}
	return rc != 0 ? rc : note_changes(w, block, n, digest, changed, err);
}

/* @n blocks are a hole: what was not zero before is now. */
static int blocks_hole(struct rep_scan_worker *w, uint64_t block, uint32_t n,
		       const struct lb_digest *old, struct lb_err *err)
{
	static const struct lb_digest zeros[CHUNK_BLOCKS];
	bool changed[CHUNK_BLOCKS];
	int rc = 0;

	if (!w->delta->compare)
		return 0;
	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		changed[i] = !rep_digest_is_zero(&old[i]);
		if (changed[i])
			rc = run_zero(w, block + i, err);
	}
	return rc != 0 ? rc : note_changes(w, block, n, zeros, changed, err);
}

static int read_blocks(struct rep_scan_worker *w, uint64_t block, uint32_t n,
		       const struct lb_digest *old, struct lb_err *err)
{
	struct img_dev *dev = w->delta->cfg->dev;
	uint64_t off = block * REP_BLOCK_BYTES, len = (uint64_t)n * REP_BLOCK_BYTES;
	uint64_t have = dev->size_bytes > off ? dev->size_bytes - off : 0;
	uint8_t *p = w->buf + (size_t)w->fill * REP_BLOCK_BYTES;
	int rc = 0;

	/* The last block of a device that does not end on one reads as filled up with zeros. */
	if (have < len) {
		memset(p + have, 0, len - have);
		len = have;
	}
	if (len != 0)
		rc = img_pread(dev, p, len, off, err);
	w->bytes_read += len;
	return rc != 0 ? rc : blocks_data(w, block, n, p, old, err);
}

/* ---- chunks ---- */

/* Bytes from @off that are all hole (*hole) or all data, from the cache or the device. */
static int extent_at(struct rep_scan_worker *w, uint64_t off, uint64_t *len, bool *hole,
		     struct lb_err *err)
{
	struct img_dev *dev = w->delta->cfg->dev;
	struct img_extent e;
	int rc;

	if (off >= dev->size_bytes || off < w->hole_from || off >= w->data_to) {
		rc = off >= dev->size_bytes ? 0 : img_next_extent(dev, &e, off, err);
		if (rc != 0)
			return rc;
		w->hole_from = w->hole_to = off;
		w->data_to = off >= dev->size_bytes ? UINT64_MAX : off + e.len;
		if (off < dev->size_bytes && e.zero)
			w->hole_to = w->data_to;
	}
	*hole = off < w->hole_to;
	*len = (*hole ? w->hole_to : w->data_to) - off;
	return 0;
}

/* One range inside a chunk, at most CHUNK_BLOCKS long; w->old[0] belongs to its first block. */
static int range(struct rep_scan_worker *w, uint64_t block, uint32_t count, struct lb_err *err)
{
	int rc = 0;

	if (w->delta->compare)
		rc = rep_digest_read(w->delta->cfg->digest, w->old, block, count, err);
	for (uint32_t i = 0, n; rc == 0 && i < count; i += n) {
		uint64_t len = UINT64_MAX;
		bool hole = false;

		if (count >= EXTENT_MIN)
			rc = extent_at(w, (block + i) * REP_BLOCK_BYTES, &len, &hole, err);
		if (rc != 0)
			return rc;
		n = count - i;
		/* A block that is partly hole is read. */
		if (hole && len < REP_BLOCK_BYTES) {
			hole = false;
			len = REP_BLOCK_BYTES;
		}
		if (!hole)
			len += REP_BLOCK_BYTES - 1 < UINT64_MAX - len ? REP_BLOCK_BYTES - 1 : 0;
		if (len / REP_BLOCK_BYTES < n)
			n = (uint32_t)(len / REP_BLOCK_BYTES);
		if (!hole && n > READ_BLOCKS)
			n = READ_BLOCKS;
		rc = hole ? blocks_hole(w, block + i, n, w->old + i, err)
			  : read_blocks(w, block + i, n, w->old + i, err);
	}
	return rc;
}

/* The next chunk of work; false: there is none, or somebody failed. *passed: blocks from the chunk
 * before to the end of this one. */
static bool chunk_next(struct rep_delta *d, uint64_t *block, uint32_t *count, uint64_t *passed)
{
	bool more;

	(void)pthread_mutex_lock(&d->lock);
	struct img_run r = {.start = d->next_block};
	more = d->code == 0 && d->next_block < d->blocks &&
	       (d->cfg->changed == NULL || img_extmap_find(d->cfg->changed, d->next_block, &r)) &&
	       r.start < d->blocks;
	if (more) {
		*block = r.start / CHUNK_BLOCKS * CHUNK_BLOCKS;
		*count = d->blocks - *block < CHUNK_BLOCKS ? (uint32_t)(d->blocks - *block)
							   : CHUNK_BLOCKS;
		*passed = *block + *count - d->next_block;
		d->next_block = *block + *count;
	}
	(void)pthread_mutex_unlock(&d->lock);
	return more;
}

static int chunk(struct rep_scan_worker *w, uint64_t block, uint32_t count, struct lb_err *err)
{
	const struct img_extmap *changed = w->delta->cfg->changed;
	uint64_t end = block + count;
	struct img_run r;
	int rc = 0;

	if (changed == NULL)
		return range(w, block, count, err);
	while (rc == 0 && block < end && img_extmap_find(changed, block, &r) && r.start < end) {
		uint64_t n = r.count < end - r.start ? r.count : end - r.start;

		rc = range(w, r.start, (uint32_t)n, err);
		block = r.start + n;
	}
	return rc;
}

void rep_scan_run(struct rep_scan_worker *w)
{
	struct rep_delta *d = w->delta;
	uint64_t block = 0, passed = 0;
	uint32_t count = 0;
	struct lb_err err = {0};
	int rc = 0;

	while (rc == 0 && chunk_next(d, &block, &count, &passed)) {
		rc = chunk(w, block, count, &err);
		if (rc == 0 && d->cfg->progress != NULL)
			d->cfg->progress(d->cfg->arg, passed * REP_BLOCK_BYTES);
	}
	if (rc == 0 && w->fill != 0)
		rc = pack_seal(w, &err);
	if (rc == 0 && w->patch_fill != 0)
		rc = patches_seal(w, &err);
	if (rc == 0)
		rc = run_close(w, &err);
	if (rc != 0)
		rep_delta_fail(d, rc, &err);
	(void)pthread_mutex_lock(&d->lock);
	d->bytes_read += w->bytes_read;
	d->data_blocks += w->data_blocks;
	d->blocks_kept += w->blocks_kept;
	(void)pthread_mutex_unlock(&d->lock);
}
