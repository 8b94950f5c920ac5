#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/err.h"
#include "store_int.h"

void rep_lock(struct rep_store *s)
{
	LB_ASSERT(pthread_mutex_lock(&s->mu) == 0);
}

void rep_unlock(struct rep_store *s)
{
	LB_ASSERT(pthread_mutex_unlock(&s->mu) == 0);
}

/* ---- open files ---- */

static void close_oldest(struct rep_store *s)
{
	struct rep_seg *old = NULL;
	unsigned open = 0;

	for (uint32_t i = 0; i + 1 < s->segs; i++) {
		struct rep_seg *g = &s->seg[i];

		if (g->file == NULL)
			continue;
		open++;
		if (g->users == 0 && (old == NULL || g->file_tick < old->file_tick))
			old = g;
	}
	if (open < REP_FILES_CACHE || old == NULL)
		return;
	lb_file_close(old->file);
	old->file = NULL;
}

int rep_file_get(struct rep_store *s, uint32_t seg, struct lb_file **out, struct lb_err *err)
{
	struct rep_seg *g = &s->seg[seg];

	if (g->file == NULL) {
		char path[32];
		int rc;

		close_oldest(s);
		rep_seg_path(path, g->number);
		rc = lb_fs_open(s->fs, &g->file, path, LB_FS_READ, err);
		if (rc != 0)
			return rc;
	}
	g->users++;
	g->file_tick = ++s->tick;
	*out = g->file;
	return 0;
}

void rep_file_put(struct rep_store *s, uint32_t seg)
{
	LB_ASSERT(s->seg[seg].users > 0);
	s->seg[seg].users--;
}

/* ---- directories ---- */

static int by_owner(const void *pa, const void *pb)
{
	const struct rep_entry *a = pa;
	const struct rep_entry *b = pb;
	int c = lb_id_compare(&a->owner, &b->owner);

	if (c != 0)
		return c;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->number != b->number)
		return a->number < b->number ? -1 : 1;
	return a->off8 < b->off8 ? -1 : a->off8 > b->off8;
}

static void drop_oldest_dir(struct rep_store *s)
{
	struct rep_seg *old = NULL;
	unsigned held = 0;

	for (uint32_t i = 0; i < s->segs; i++) {
		if (s->seg[i].sorted == NULL)
			continue;
		held++;
		if (old == NULL || s->seg[i].sorted_tick < old->sorted_tick)
			old = &s->seg[i];
	}
	if (held < REP_DIRS_CACHE)
		return;
	free(old->sorted);
	old->sorted = NULL;
	old->sorted_n = 0;
}

static int read_directory(struct rep_store *s, uint32_t seg, struct rep_seg_scan *sc,
			  struct lb_err *err)
{
	struct rep_seg *g = &s->seg[seg];
	struct lb_file *f;
	int rc = rep_file_get(s, seg, &f, err);

	if (rc != 0)
		return rc;
	rc = rep_seg_directory(sc, f, g->number, g->bytes, s->tag, err);
	rep_file_put(s, seg);
	return rc;
}

/* The directory has gone bad since the store was opened: what opening would do, for this segment.
 * From now on its entries are kept. */
static int read_records(struct rep_store *s, uint32_t seg, struct lb_err *err)
{
	struct rep_seg *g = &s->seg[seg];
	struct rep_damage d = {
		.kind = REP_RECORD_DIRECTORY, .segment = g->number, .offset = g->dir_off};
	struct rep_seg_scan sc = {.entries = 0};
	struct lb_file *f;
	int rc = rep_file_get(s, seg, &f, err);

	if (rc != 0)
		return rc;
	rc = rep_seg_scan(&sc, f, g->number, g->bytes, s->tag, err);
	rep_file_put(s, seg);
	if (rc != 0)
		return rc;
	rep_damage_text(s, &d, "not readable any more; the segment was read record by record");
	rep_damage_add(s, &d);
	g->entry = sc.entry;
	g->entries = sc.entries;
	g->entry_cap = sc.cap;
	sc.entry = NULL;
	rep_seg_scan_fini(&sc);
	return 0;
}

/* Entries of @seg, in @sc: the caller's. */
static int read_entries(struct rep_store *s, uint32_t seg, struct rep_seg_scan *sc,
			struct lb_err *err)
{
	struct rep_seg *g = &s->seg[seg];
	int rc;

	if (g->entry == NULL) {
		rc = read_directory(s, seg, sc, err);
		if (rc == 0 || rc == LB_ENOMEM || rc == LB_EVERSION)
			return rc;
		rc = read_records(s, seg, err);
		if (rc != 0)
			return rc;
	}
	sc->entries = g->entries;
	sc->entry = malloc((size_t)(sc->entries + 1) * sizeof(*sc->entry));
	if (sc->entry == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "sort %u records", sc->entries);
	if (sc->entries > 0)
		memcpy(sc->entry, g->entry, (size_t)sc->entries * sizeof(*sc->entry));
	return 0;
}

int rep_seg_sorted(struct rep_store *s, uint32_t seg, const struct rep_entry **out, uint32_t *n,
		   struct lb_err *err)
{
	struct rep_seg *g = &s->seg[seg];
	struct rep_seg_scan sc = {.entries = 0};
	int rc;

	g->sorted_tick = ++s->tick;
	if (g->sorted == NULL || (g->entry != NULL && g->sorted_n != g->entries)) {
		free(g->sorted);
		g->sorted = NULL;
		drop_oldest_dir(s);
		rc = read_entries(s, seg, &sc, err);
		if (rc != 0)
			return lb_err_wrap(err, rc, "segment %" PRIx64, g->number);
		qsort(sc.entry, sc.entries, sizeof(*sc.entry), by_owner);
		g->sorted = sc.entry;
		g->sorted_n = sc.entries;
	}
	*out = g->sorted;
	*n = g->sorted_n;
	return 0;
}

static uint32_t lower_bound(const struct rep_entry *v, uint32_t n, const struct lb_id *owner)
{
	uint32_t lo = 0;
	uint32_t hi = n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (lb_id_compare(&v[mid].owner, owner) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool is_part(uint16_t kind)
{
	return kind >= REP_RECORD_LAYER_HEADER && kind <= REP_RECORD_FOOTER;
}

static int load_from(struct rep_store *s, struct rep_parts *p, const struct lb_id *id, uint32_t seg,
		     struct lb_err *err)
{
	const struct rep_entry *v;
	uint32_t n;
	int rc = rep_seg_sorted(s, seg, &v, &n, err);

	if (rc != 0)
		return rc;
	for (uint32_t i = lower_bound(v, n, id); i < n && lb_id_equal(&v[i].owner, id); i++) {
		struct rep_part part = {.number = v[i].number,
					.kind = v[i].kind,
					.bad = v[i].bad != 0,
					.seg = seg,
					.off8 = v[i].off8,
					.bytes = v[i].bytes};

		if (!is_part(v[i].kind))
			continue;
		rc = rep_parts_reserve(p, err);
		if (rc != 0)
			return rc;
		rep_parts_add(p, &part, NULL);
	}
	return 0;
}

/* Drafts keep theirs. */
void rep_layer_cache(struct rep_store *s, struct rep_layer *l)
{
	rep_parts_pack(&l->parts);
	TAILQ_INSERT_TAIL(&s->used, l, used);
	s->used_layers++;
	s->cached_parts += l->parts->n + REP_PARTS_COST;
	while (s->cached_parts > s->parts_max && s->used_layers > REP_PARTS_KEPT) {
		struct rep_layer *old = TAILQ_FIRST(&s->used);

		TAILQ_REMOVE(&s->used, old, used);
		s->used_layers--;
		s->cached_parts -= old->parts->n + REP_PARTS_COST;
		rep_parts_destroy(old->parts);
		old->parts = NULL;
	}
}

int rep_layer_load(struct rep_store *s, struct rep_layer *l, struct lb_err *err)
{
	struct rep_parts *p = NULL;
	int rc;

	if (l->parts != NULL && l->visible) {
		TAILQ_REMOVE(&s->used, l, used);
		TAILQ_INSERT_TAIL(&s->used, l, used);
	}
	if (l->parts != NULL)
		return 0;
	rc = rep_parts_create(&p, !l->visible, err);
	for (uint32_t i = 0; i < l->segs && rc == 0; i++)
		rc = load_from(s, p, &l->id, rep_layer_segs(l)[i], err);
	if (rc != 0) {
		rep_parts_destroy(p);
		return rc;
	}
	l->parts = p;
	if (l->visible)
		rep_layer_cache(s, l);
	return 0;
}

/* ---- records ---- */

int rep_store_record(struct rep_store *s, struct rep_loc loc, struct rep_record *r,
		     struct lb_buf **body, struct lb_err *err)
{
	struct lb_file *f = NULL;
	uint64_t number = 0;
	uint64_t bytes = 0;
	int rc;

	rep_lock(s);
	LB_ASSERT(loc.seg < s->segs);
	number = s->seg[loc.seg].number;
	bytes = s->seg[loc.seg].bytes;
	rc = rep_file_get(s, loc.seg, &f, err);
	rep_unlock(s);
	if (rc == 0) {
		rc = rep_seg_record(f, number, (uint64_t)loc.off8 * 8, bytes, r, body, err);
		rep_lock(s);
		rep_file_put(s, loc.seg);
		rep_unlock(s);
	}
	if (rc != 0)
		return lb_err_wrap(err, rc, "segment %" PRIx64, number);
	return 0;
}

int rep_store_part(struct rep_store *s, const struct lb_id *layer, const struct rep_part *part,
		   struct lb_buf **body, struct lb_err *err)
{
	struct rep_record r;
	struct lb_buf *b = NULL;
	int rc = rep_store_record(s, (struct rep_loc){part->seg, part->off8}, &r, &b, err);

	if (rc == 0 && (r.kind != (enum rep_record_kind)part->kind || r.number != part->number ||
			r.bytes != part->bytes || !lb_id_equal(&r.owner, layer)))
		rc = lb_err_set(err, LB_ECORRUPT, 0,
				"record at %" PRIu64 " is not the one listed there", r.offset);
	if (rc == 0 && body != NULL) {
		*body = b;
		b = NULL;
	}
	lb_buf_unref(b);
	return rc;
}
