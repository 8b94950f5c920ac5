#include "replicator/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/wr.h"
#include "store_int.h"
#include "test_bugs.h"

/*
 *              append()                    commit(): sync, mark, sync
 *   COMMITTED ----------> BATCH OPEN ------------------------------------> COMMITTED
 *       ^                     | append() and the segment is full
 *       |                     v
 *       |                 CLOSING: sync, directory + closing mark, sync
 *       |                     | on disk: all under a mark; in RAM points wait for commit()
 *       +---- successor() <---+
 *
 *   any sync that fails -> SUSPECT: nothing but reading until the store is opened again.
 */

static struct rep_seg *active(struct rep_store *s)
{
	return &s->seg[s->segs - 1];
}

static int suspect(struct rep_store *s, struct lb_err *err, const char *what)
{
	struct lb_err why = {0};

	s->suspect = true;
	if (err != NULL)
		why = *err;
	return lb_err_set(err, LB_ESUSPECT, 0,
			  "%s: %s; the store takes nothing until it is opened again", what,
			  why.msg);
}

static int check_usable(struct rep_store *s, struct lb_err *err)
{
	if (s->suspect)
		return lb_err_set(err, LB_ESUSPECT, 0,
				  "a sync failed earlier; open the store again to re-verify it");
	if (s->need_truncate) {
		int rc = lb_file_truncate(active(s)->file, active(s)->bytes, err);

		if (rc != 0)
			return rc;
		s->need_truncate = false;
	}
	return 0;
}

/* Write at the tail. What a failure left behind goes at once, or before the next write. */
static int write_tail(struct rep_store *s, const struct iovec *iov, int n, struct lb_err *err)
{
	struct rep_seg *g = active(s);
	int rc = lb_file_pwritev(g->file, iov, n, g->bytes, err);

	if (rc != 0)
		s->need_truncate = lb_file_truncate(g->file, g->bytes, NULL) != 0;
	return rc;
}

static void encode_header(uint8_t out[REP_RECORD_HEADER_BYTES], const struct rep_entry *e,
			  uint64_t segment, uint64_t off, uint32_t body_crc)
{
	rep_record_encode(out, &(struct rep_record){.kind = (enum rep_record_kind)e->kind,
						    .number = e->number,
						    .bytes = e->bytes,
						    .owner = e->owner,
						    .segment = segment,
						    .offset = off,
						    .body_crc = body_crc});
}

/* ---- the commit mark ---- */

/* A mark that lists nothing, so of fixed size, at @p for offset @off. */
static void encode_mark(uint8_t *p, const struct rep_store *s, const struct rep_mark *m,
			uint64_t off)
{
	uint8_t *body = p + REP_RECORD_HEADER_BYTES;
	struct rep_entry e = {
		.kind = REP_RECORD_MARK, .number = m->echo ? 1 : 0, .bytes = REP_MARK_FIXED};

	rep_mark_encode(body, m, s->tag);
	encode_header(p, &e, s->seg[s->segs - 1].number, off, lb_crc32c(0, body, REP_MARK_FIXED));
}

/* The mark lists its batch: were a record header of it to rot, the mark still names the record. */
static uint8_t *encode_commit(const struct rep_store *s, const struct rep_seg *g, size_t *len)
{
	uint32_t n = g->entries - s->batch;
	uint32_t listed = n <= REP_SEG_MAX_RECORDS ? n : 0;
	uint32_t body = REP_MARK_FIXED + listed * REP_SEG_ENTRY_BYTES;
	uint64_t span = rep_record_span(body);
	struct rep_mark m = {.commit = s->commit + 1,
			     .records = n,
			     .headers_crc = s->batch_crc,
			     .entries = listed};
	struct rep_entry e = {.kind = REP_RECORD_MARK, .bytes = body};
	uint8_t *p;

	*len = (size_t)(span + rep_record_span(REP_MARK_FIXED));
	p = calloc(1, *len);
	if (p == NULL)
		return NULL;
	rep_mark_encode(p + REP_RECORD_HEADER_BYTES, &m, s->tag);
	for (uint32_t i = 0; i < listed; i++)
		rep_entry_encode(p + REP_RECORD_HEADER_BYTES + REP_MARK_FIXED +
					 (size_t)i * REP_SEG_ENTRY_BYTES,
				 &g->entry[s->batch + i]);
	encode_header(p, &e, g->number, g->bytes, lb_crc32c(0, p + REP_RECORD_HEADER_BYTES, body));
	m.echo = true;
	m.entries = 0;
	encode_mark(p + span, s, &m, g->bytes + span);
	return p;
}

/* The mark and its echo, just written at the tail, as entries. Reserved before. */
static void push_marks(struct rep_seg *g, uint32_t mark_body)
{
	struct rep_entry e = {.kind = REP_RECORD_MARK, .bytes = mark_body};

	e.off8 = (uint32_t)(g->bytes / 8);
	g->entry[g->entries++] = e;
	e.off8 += (uint32_t)(rep_record_span(mark_body) / 8);
	e.number = 1;
	e.bytes = REP_MARK_FIXED;
	g->entry[g->entries++] = e;
}

static int write_mark(struct rep_store *s, struct lb_err *err)
{
	struct rep_seg *g = active(s);
	uint32_t n = g->entries - s->batch;
	uint32_t listed = n <= REP_SEG_MAX_RECORDS ? n : 0;
	struct iovec iov;
	size_t len;
	uint8_t *p = encode_commit(s, g, &len);
	int rc;

	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "commit mark of %u records", n);
	rep_lock(s);
	rc = rep_entry_reserve(&g->entry, g->entries + 2, &g->entry_cap, err);
	rep_unlock(s);
	iov = (struct iovec){.iov_base = p, .iov_len = len};
	if (rc == 0)
		rc = write_tail(s, &iov, 1, err);
	if (rc == 0) {
		rep_lock(s);
		push_marks(g, REP_MARK_FIXED + listed * REP_SEG_ENTRY_BYTES);
		g->bytes += len;
		rep_unlock(s);
	}
	free(p);
	return rc;
}

/* Records -> sync -> mark -> sync. */
static int mark_batch(struct rep_store *s, struct lb_err *err)
{
	struct rep_seg *g = active(s);
	int rc = lb_file_sync(g->file, err);

	if (rc != 0)
		return suspect(s, err, "sync a batch");
	rc = write_mark(s, err);
	if (rc != 0)
		return rc;
	rc = lb_file_sync(g->file, err);
	if (rc != 0)
		return suspect(s, err, "sync a commit mark");
	s->commit++;
	s->batch = g->entries;
	s->batch_crc = 0;
	rep_lock(s);
	s->marked = g->bytes;
	rep_unlock(s);
	return 0;
}

/* ---- closing a segment ---- */

/* The directory record of @g for offset g->bytes; *m becomes the mark that closes it. */
static uint8_t *encode_directory(const struct rep_store *s, const struct rep_seg *g, size_t *len,
				 struct rep_mark *m)
{
	uint32_t body = REP_DIR_FIXED + g->entries * REP_SEG_ENTRY_BYTES;
	struct rep_entry e = {.kind = REP_RECORD_DIRECTORY, .bytes = body};
	uint8_t *p;
	struct lb_wr wr;

	*len = (size_t)rep_record_span(body);
	p = calloc(1, *len);
	if (p == NULL)
		return NULL;
	wr = lb_wr_init(p + REP_RECORD_HEADER_BYTES, REP_DIR_FIXED);
	lb_wr_u32le(&wr, g->entries);
	lb_wr_u32le(&wr, 0);
	lb_wr_u64le(&wr, g->number);
	for (uint32_t i = 0; i < g->entries; i++)
		rep_entry_encode(p + REP_RECORD_HEADER_BYTES + REP_DIR_FIXED +
					 (size_t)i * REP_SEG_ENTRY_BYTES,
				 &g->entry[i]);
	encode_header(p, &e, g->number, g->bytes, lb_crc32c(0, p + REP_RECORD_HEADER_BYTES, body));
	*m = (struct rep_mark){.commit = s->commit + 1,
			       .dir_off = g->bytes,
			       .records = g->entries - s->batch +
					  1, /* the directory is one of the batch */
			       .headers_crc = lb_crc32c(s->batch_crc, p, REP_RECORD_HEADER_BYTES)};
	return p;
}

static int write_closing_marks(struct rep_store *s, uint64_t at, struct rep_mark *m,
			       struct lb_err *err)
{
	uint8_t p[2 * (REP_RECORD_HEADER_BYTES + REP_MARK_FIXED)];
	uint64_t span = rep_record_span(REP_MARK_FIXED);

	LB_ASSERT(sizeof(p) == 2 * span);
	encode_mark(p, s, m, at);
	m->echo = true;
	encode_mark(p + span, s, m, at + span);
	return lb_file_pwrite(active(s)->file, p, sizeof(p), at, err);
}

static void set_closed(struct rep_store *s, uint64_t end)
{
	struct rep_seg *g = active(s);

	rep_lock(s);
	g->dir_off = g->bytes;
	g->bytes = s->marked = end;
	g->closed = true;
	free(g->entry);
	free(g->sorted);
	g->entry = g->sorted = NULL;
	g->entries = g->entry_cap = g->sorted_n = 0;
	s->commit++;
	s->batch = 0;
	s->batch_crc = 0;
	s->need_successor = true;
	rep_unlock(s);
}

/* End the active segment: its directory is its last record, so one batch more: sync, mark, sync.
 * Everything in it is under a mark afterwards. */
static int close_segment(struct rep_store *s, struct lb_err *err)
{
	const struct rep_seg *g = active(s);
	struct rep_mark m;
	struct iovec iov;
	uint8_t *p;
	size_t len;
	int rc;

	/* Only a segment somebody else wrote holds so many: it gets no directory. */
	if (g->entries > REP_SEG_MAX_RECORDS) {
		rc = g->entries > s->batch ? mark_batch(s, err) : 0;
		s->need_successor = rc == 0;
		return rc;
	}
	p = encode_directory(s, g, &len, &m);
	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "directory of %u records", g->entries);
	iov = (struct iovec){.iov_base = p, .iov_len = len};
	rc = write_tail(s, &iov, 1, err);
	free(p);
	if (rc != 0)
		return rc;
	rc = lb_file_sync(g->file, err);
	if (rc != 0)
		return suspect(s, err, "sync a full segment");
	rc = write_closing_marks(s, g->bytes + len, &m, err);
	if (rc != 0) {
		s->need_truncate = lb_file_truncate(g->file, g->bytes, NULL) != 0;
		return rc;
	}
	rc = lb_file_sync(g->file, err);
	if (rc != 0)
		return suspect(s, err, "sync a segment's closing mark");
	set_closed(s, g->bytes + len + 2 * rep_record_span(REP_MARK_FIXED));
	return 0;
}

/* Room for @bytes more in the active segment, in a new one if need be. */
static int make_room(struct rep_store *s, uint64_t bytes, struct lb_err *err)
{
	const struct rep_seg *g = active(s);
	int rc = 0;

	/* One more record, a mark and its echo must still fit the directory. */
	if (!s->need_successor && g->entries > 1 &&
	    (g->bytes + bytes > s->cfg.segment_bytes || g->entries + 4 > REP_SEG_MAX_RECORDS))
		rc = close_segment(s, err);
	if (rc == 0 && s->need_successor) {
		rc = rep_store_successor(s, err);
		if (rc != 0 && s->suspect)
			rc = suspect(s, err, "begin a segment");
	}
	return rc;
}

/* ---- one record ---- */

static int append(struct rep_store *s, struct rep_entry e, const void *body, struct rep_loc *loc,
		  struct lb_err *err)
{
	static const uint8_t zeros[8];
	uint8_t head[REP_RECORD_HEADER_BYTES];
	uint64_t span = rep_record_span(e.bytes);
	struct iovec iov[3];
	struct rep_seg *g;
	int rc = check_usable(s, err);

	if (rc == 0)
		rc = make_room(s, span, err);
	if (rc != 0)
		return rc;
	g = active(s);
	e.off8 = (uint32_t)(g->bytes / 8);
	encode_header(head, &e, g->number, g->bytes, lb_crc32c(0, body, e.bytes));
	rep_lock(s);
	rc = rep_entry_reserve(&g->entry, g->entries + 1, &g->entry_cap, err);
	rep_unlock(s);
	if (rc != 0)
		return rc;
	iov[0] = (struct iovec){.iov_base = head, .iov_len = sizeof(head)};
	iov[1] = (struct iovec){.iov_base = (void *)(uintptr_t)body, .iov_len = e.bytes};
	iov[2] = (struct iovec){.iov_base = (void *)(uintptr_t)zeros,
				.iov_len = (size_t)(span - sizeof(head) - e.bytes)};
	rc = write_tail(s, iov, 3, err);
	if (rc != 0)
		return rc;
	rep_lock(s);
	g->entry[g->entries++] = e;
	g->bytes += span;
	rep_unlock(s);
	s->batch_crc = lb_crc32c(s->batch_crc, head, sizeof(head));
	*loc = (struct rep_loc){.seg = s->segs - 1, .off8 = e.off8};
	return 0;
}

/* ---- parts of layers ---- */

static int already_there(struct rep_store *s, const struct lb_id *layer,
			 const struct rep_part *part, const struct lb_buf *body, struct lb_err *err)
{
	struct lb_buf *old = NULL;
	int rc = rep_store_part(s, layer, part, &old, err);

	if (rc == 0 && (old->len != body->len || memcmp(old->p, body->p, body->len) != 0))
		rc = lb_err_set(err, LB_ECORRUPT, 0,
				"part %u of kind %u: other bytes than the ones held", part->number,
				part->kind);
	else if (rc == 0)
		rc = lb_err_set(err, LB_EEXIST, 0, "part %u of kind %u is held already",
				part->number, part->kind);
	lb_buf_unref(old);
	return rc;
}

static int has_leaf(enum rep_record_kind kind)
{
	return kind == REP_RECORD_LAYER_HEADER || kind == REP_RECORD_PACK ||
	       kind == REP_RECORD_DIGESTS || kind == REP_RECORD_INDEX;
}

/* An attempt at a layer goes on with the packs of the one before it, but its end is its own. */
static bool is_end(enum rep_record_kind kind)
{
	return kind == REP_RECORD_DIGESTS || kind == REP_RECORD_INDEX ||
	       kind == REP_RECORD_LEAVES || kind == REP_RECORD_FOOTER;
}

/* Find or make the draft and reserve what keeping one more part needs. LB_EEXIST: *held is set. */
static int part_reserve(struct rep_store *s, const struct lb_id *layer, enum rep_record_kind kind,
			uint32_t number, struct rep_layer **out, struct rep_part *held,
			struct lb_err *err)
{
	struct rep_layer *l;
	const struct rep_part *p;
	int rc = rep_layer_get(&l, s, layer, err);

	if (rc == 0 && l->abandoned)
		rc = lb_err_set(err, LB_EDENIED, 0, "this layer was abandoned");
	if (rc == 0)
		rc = rep_layer_load(s, l, err);
	if (rc != 0)
		return rc;
	p = rep_parts_find(l->parts, kind, number);
	if (rep_part_held(p)) {
		*held = *p;
		*out = l;
		return LB_EEXIST;
	}
	if (l->visible)
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "layer is sealed; part %u of kind %d is not one of it", number,
				  (int)kind);
	rc = rep_parts_reserve(l->parts, err);
	if (rc == 0)
		rc = rep_layer_reserve_seg(l, err);
	*out = l;
	return rc;
}

/* Asked each time: others write to the same file system, and it is one cheap system call beside a
 * write of tens of KiB. */
static int leave_reserve(struct rep_store *s, uint64_t bytes, struct lb_err *err)
{
	uint64_t room = 0;
	int rc = s->cfg.reserve_bytes == 0 ? 0 : lb_fs_space(s->fs, &room, err);

	if (rc != 0 || s->cfg.reserve_bytes == 0)
		return rc;
	if (room < bytes || room - bytes < s->cfg.reserve_bytes)
		return lb_err_set(err, LB_ENOSPC, 0,
				  "store: %" PRIu64 " MiB free, %" PRIu64
				  " MiB of it is the reserve",
				  room >> 20, s->cfg.reserve_bytes >> 20);
	return 0;
}

/* A part of this kind and number is held. 0: it is to be replaced, by reserved room. */
static int held_part(struct rep_store *s, struct rep_layer *l, const struct rep_part *held,
		     const struct lb_buf *body, struct lb_err *err)
{
	struct lb_err own = {.code = 0};
	int rc = already_there(s, &l->id, held, body, &own);

	if (rc != LB_ECORRUPT || !is_end((enum rep_record_kind)held->kind) || l->visible ||
	    REP_BUG(draft_tail_kept)) {
		if (err != NULL)
			*err = own;
		return rc;
	}
	rep_lock(s);
	rc = rep_layer_reserve_seg(l, err);
	rep_unlock(s);
	return rc;
}

static int append_part(struct rep_store *s, enum rep_record_kind kind, const struct lb_id *layer,
		       uint32_t number, const struct lb_buf *body, const struct lb_hash *leaf,
		       struct lb_err *err)
{
	struct rep_part part = {.number = number, .kind = (uint16_t)kind};
	struct rep_layer *l = NULL;
	struct lb_hash own;
	struct rep_loc loc = {.seg = REP_NO_SEG};
	int rc;

	rep_lock(s);
	rc = part_reserve(s, layer, kind, number, &l, &part, err);
	rep_unlock(s);
	if (rc == LB_EEXIST)
		rc = held_part(s, l, &part, body, err);
	if (rc != 0)
		return rc;
	rc = leave_reserve(s, rep_record_span((uint32_t)body->len), err);
	if (rc != 0)
		return rc;
	if (leaf == NULL && has_leaf(kind)) {
		lb_merkle_leaf(&own, body->p, body->len);
		leaf = &own;
	}
	part.bytes = (uint32_t)body->len;
	rc = append(s,
		    (struct rep_entry){.owner = *layer,
				       .number = number,
				       .bytes = part.bytes,
				       .kind = (uint16_t)kind},
		    body->p, &loc, err);
	if (rc != 0)
		return rc;
	part.seg = loc.seg;
	part.off8 = loc.off8;
	rep_lock(s);
	rep_parts_add(l->parts, &part, has_leaf(kind) ? leaf : NULL);
	rep_layer_in_seg(l, loc.seg);
	free(l->parts->checked);
	l->parts->checked = NULL;
	rep_unlock(s);
	return 0;
}

int rep_store_append(struct rep_store *s, enum rep_record_kind kind, const struct lb_id *layer,
		     uint32_t number, const struct lb_buf *body, const struct lb_hash *leaf,
		     struct lb_err *err)
{
	int rc;

	if (kind < REP_RECORD_LAYER_HEADER || kind > REP_RECORD_FOOTER || lb_id_is_zero(layer) ||
	    body->len == 0 || body->len > REP_RECORD_MAX)
		return lb_err_set(err, LB_EINVAL, 0, "append a part of kind %d, %zu bytes",
				  (int)kind, body->len);
	rc = check_usable(s, err); /* before a duplicate is called a success */
	if (rc != 0)
		return rc;
	rc = append_part(s, kind, layer, number, body, leaf, err);
	if (rc != 0) {
		rep_lock(s);
		rep_layer_forget_empty(s, layer);
		rep_unlock(s);
	}
	return rc;
}

int rep_store_abandon(struct rep_store *s, const struct lb_id *layer, struct lb_err *err)
{
	struct rep_layer *l;
	struct rep_loc loc = {.seg = REP_NO_SEG};
	int rc = 0;

	rep_lock(s);
	l = rep_layer_find(s, layer);
	if (l == NULL)
		rc = lb_err_set(err, LB_ENOTFOUND, 0, "no such layer");
	else if (l->visible)
		rc = lb_err_set(err, LB_EDENIED, 0, "the layer belongs to a recovery point");
	else
		rc = rep_layer_reserve_seg(l, err);
	rep_unlock(s);
	if (rc != 0 || l->abandoned)
		return rc;
	rc = append(s, (struct rep_entry){.owner = *layer, .kind = REP_RECORD_ABANDON}, "", &loc,
		    err);
	if (rc != 0)
		return rc;
	rep_lock(s);
	l->abandoned = true;
	rep_layer_in_seg(l, loc.seg);
	rep_parts_destroy(l->parts);
	l->parts = NULL;
	rep_unlock(s);
	return 0;
}

/* ---- manifests and receipts ---- */

static int base_known(struct rep_store *s, const struct rep_manifest *m, struct lb_err *err)
{
	const struct rep_spoint *base;
	const struct rep_group_head *h = NULL;
	const struct rep_point_core *newest = NULL;

	for (uint32_t i = 0; i < s->heads; i++)
		if (lb_id_equal(&s->head[i].group, &m->group))
			h = &s->head[i];
	if (h != NULL && h->point != UINT32_MAX)
		newest = &s->point[h->point]->pub;
	for (uint32_t i = s->points - s->pending; i < s->points; i++)
		if (lb_id_equal(&s->point[i]->pub.group, &m->group))
			newest = &s->point[i]->pub;
	if (newest != NULL &&
	    (m->epoch < newest->epoch || (m->epoch == newest->epoch && m->seq <= newest->seq)))
		return lb_err_set(err, LB_EDENIED, 0,
				  "point epoch %" PRIu64 " seq %" PRIu64
				  " is not newer than epoch %" PRIu64 " seq %" PRIu64,
				  m->epoch, m->seq, newest->epoch, newest->seq);
	if (lb_hash_is_zero(&m->base))
		return 0;
	base = rep_point_lookup(s, &m->base, NULL);
	if (base == NULL || !lb_id_equal(&base->pub.group, &m->group))
		return lb_err_set(err, LB_EBASE, 0, "the base of seq %" PRIu64 " is not held",
				  m->seq);
	return 0;
}

static bool was_checked(const struct rep_layer *l, const struct rep_manifest *m,
			const struct rep_manifest_volume *v)
{
	const struct rep_checked *c = l->parts != NULL ? l->parts->checked : NULL;

	return c != NULL && !l->visible && c->epoch == m->epoch && c->seq == m->seq &&
	       lb_hash_equal(&c->base, &m->base) && lb_id_equal(&l->group, &m->group) &&
	       lb_id_equal(&l->volume, &v->volume) && lb_hash_equal(&l->root, &v->root);
}

/* May @m be appended? Its layers passed rep_store_layer_check() for exactly this point. */
static int manifest_fits(struct rep_store *s, const struct rep_manifest *m,
			 const struct lb_hash *hash, struct lb_err *err)
{
	int rc;

	if (rep_point_lookup(s, hash, NULL) != NULL)
		return lb_err_set(err, LB_EEXIST, 0, "this manifest is held already");
	rc = base_known(s, m, err);
	for (uint32_t i = 0; rc == 0 && i < m->volumes; i++) {
		const struct rep_layer *l = rep_layer_find(s, &m->volume[i].layer);

		if (l == NULL || !was_checked(l, m, &m->volume[i]))
			rc = lb_err_set(err, LB_EINVAL, 0,
					"volume %s: its layer was not checked for this point",
					m->volume[i].volume_name);
	}
	if (rc == 0)
		rc = rep_points_reserve(s, &m->group, err);
	return rc;
}

static void add_pending(struct rep_store *s, struct rep_spoint *p)
{
	rep_point_add(s, p);
	s->pending++;
	for (uint32_t i = 0; i < p->layers; i++)
		rep_layer_seal(s, rep_layer_find(s, &p->layer[i]), s->points - 1);
}

int rep_store_append_manifest(struct rep_store *s, const struct lb_buf *manifest,
			      struct lb_err *err)
{
	struct rep_manifest *m = NULL;
	struct rep_spoint *p = NULL;
	struct lb_hash hash;
	struct rep_loc loc = {.seg = REP_NO_SEG};
	int rc;

	if (manifest->len > REP_RECORD_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "manifest of %zu bytes", manifest->len);
	rc = rep_manifest_alloc(&m, manifest, err);
	if (rc != 0)
		return rc;
	rep_manifest_hash(&hash, manifest->p, manifest->len);
	rep_lock(s);
	rc = manifest_fits(s, m, &hash, err);
	rep_unlock(s);
	if (rc == 0)
		rc = rep_point_create(&p, s, m, &hash, loc, err);
	if (rc == 0)
		rc = append(s,
			    (struct rep_entry){.bytes = (uint32_t)manifest->len,
					       .kind = REP_RECORD_MANIFEST},
			    manifest->p, &loc, err);
	if (rc == 0) {
		p->manifest = loc;
		rep_lock(s);
		add_pending(s, p);
		rep_unlock(s);
		p = NULL;
	}
	free(p);
	free(m);
	return rc;
}

int rep_store_append_receipt(struct rep_store *s, const void *receipt, size_t len,
			     struct lb_err *err)
{
	struct rep_receipt r;
	struct rep_spoint *p;
	struct rep_loc loc = {.seg = REP_NO_SEG};
	int rc = rep_receipt_decode(&r, receipt, len, err);

	if (rc != 0)
		return rc;
	rep_lock(s);
	p = rep_point_lookup(s, &r.manifest, NULL);
	if (p == NULL || !p->visible)
		rc = lb_err_set(err, LB_ENOTFOUND, 0,
				"receipt %" PRIu64 " is for a point that is not visible",
				r.counter);
	rep_unlock(s);
	if (rc == 0)
		rc = append(s,
			    (struct rep_entry){.bytes = (uint32_t)len, .kind = REP_RECORD_RECEIPT},
			    receipt, &loc, err);
	if (rc != 0)
		return rc;
	rep_lock(s);
	p->receipt = loc;
	p->pub.receive_wall_ns = r.receive_wall_ns;
	if (r.counter > s->counter)
		s->counter = r.counter;
	rep_unlock(s);
	return 0;
}

uint64_t rep_store_receipt_counter(struct rep_store *s)
{
	uint64_t n;

	rep_lock(s);
	n = ++s->counter;
	rep_unlock(s);
	return n;
}

/* ---- commit ---- */

static void show_pending(struct rep_store *s)
{
	rep_lock(s);
	for (uint32_t i = s->points - s->pending; i < s->points; i++)
		rep_point_show(s, i);
	s->pending = 0;
	rep_unlock(s);
}

int rep_store_commit(struct rep_store *s, struct lb_err *err)
{
	const struct rep_seg *g = active(s);
	int rc = check_usable(s, err);

	if (rc != 0)
		return rc;
	/* Just rolled: the closing mark covers everything. */
	if (!s->need_successor && g->entries > s->batch)
		rc = mark_batch(s, err);
	if (rc == 0)
		show_pending(s);
	return rc;
}
