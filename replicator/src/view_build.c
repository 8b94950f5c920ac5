/*
 * Merge the chain of layers behind one volume of one point into a view map.
 *
 * Layers come newest first. Each gives a sorted list of runs; lists are merged pairwise like the
 * digits of a binary counter, so that a run is copied O(log layers) times, never moved about in one
 * big array. At the end only live runs are left; only their packs and layers enter the map.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/err.h"
#include "idset.h"
#include "store_int.h"
#include "view_int.h"

#define ZERO       UINT32_MAX
#define LISTS      48u
#define NOT_IN_MAP UINT32_MAX
#define RUNS_MAX   (UINT64_C(1) << 30)

struct run { /* like rep_viewmap_run, with the layer's slot; layer ZERO: reads as zero */
	uint64_t block, count;
	uint32_t layer, pack, pos, patch;
};

struct list {
	struct run *v;
	uint64_t n;
	uint32_t layers; /* that went into it */
};

struct slot { /* a layer that runs name */
	struct lb_id id;
	struct rep_layer_header h;
	uint8_t header_bytes[REP_LAYER_HEADER_BYTES];
	struct rep_footer f;
	struct lb_hash *leaf;
	uint32_t *pack_at; /* pack number -> index in the map */
	uint32_t at;       /* index in the map */
};

struct patch {
	uint32_t layer, pack, pos, bytes;
	uint32_t at;
};

struct build {
	struct rep_store *s;
	struct lb_id volume;
	struct slot *slot;
	uint32_t slots, slot_cap;
	struct rep_idset known; /* the slots' ids, in their order */
	struct patch *patch;
	uint32_t patches, patch_cap;
	struct list list[LISTS];
	uint32_t lists;
	uint64_t blocks; /* of the volume at the point */
	uint64_t shown;  /* what older layers may still show: the smallest size since */
};

/* ---- layers ---- */

static int read_header(struct build *b, struct slot *t, struct lb_err *err)
{
	struct lb_buf *body = NULL;
	struct lb_hash leaf;
	int rc = rep_store_read_part(b->s, &t->id, REP_RECORD_LAYER_HEADER, 0, &body, err);

	if (rc == 0)
		rc = rep_layer_header_decode(&t->h, body->p, body->len, err);
	if (rc == 0) {
		lb_merkle_leaf(&leaf, body->p, body->len);
		if (!lb_hash_equal(&leaf, &t->leaf[0]) || body->len != REP_LAYER_HEADER_BYTES)
			rc = lb_err_set(err, LB_ECORRUPT, 0,
					"layer header is not the one under the signed root");
		else
			memcpy(t->header_bytes, body->p, sizeof(t->header_bytes));
	}
	if (rc == 0 &&
	    (!lb_id_equal(&t->h.layer, &t->id) || !lb_id_equal(&t->h.volume, &b->volume)))
		rc = lb_err_set(err, LB_ECORRUPT, 0, "layer is of another volume");
	lb_buf_unref(body);
	return rc;
}

/* The slot of layer @id, read and checked against the root its manifest signed. */
static int get_slot(struct build *b, const struct lb_id *id, uint32_t *out, struct lb_err *err)
{
	const struct rep_layer *l;
	struct lb_hash root = {{0}};
	struct slot *t;
	int rc;

	*out = rep_idset_find(&b->known, id);
	if (*out != UINT32_MAX)
		return 0;
	if (b->slots == b->slot_cap) {
		uint32_t want = b->slot_cap == 0 ? 16 : b->slot_cap * 2;
		struct slot *more = realloc(b->slot, want * sizeof(*more));

		if (more == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "view of %u layers", want);
		b->slot = more;
		b->slot_cap = want;
	}
	rep_lock(b->s);
	l = rep_layer_find(b->s, id);
	if (l != NULL && l->visible)
		root = l->root;
	rep_unlock(b->s);
	if (lb_hash_is_zero(&root))
		return lb_err_set(err, LB_ECORRUPT, 0, "a layer of the chain is not in the store");
	t = &b->slot[b->slots];
	*t = (struct slot){.id = *id, .at = NOT_IN_MAP};
	rc = rep_layer_leaves(b->s, id, &root, &t->f, &t->leaf, err);
	if (rc == 0)
		rc = read_header(b, t, err);
	if (rc == 0)
		rc = rep_idset_add(&b->known, id, out, err);
	if (rc != 0) {
		free(t->leaf);
		return rc;
	}
	LB_ASSERT(*out == b->slots);
	b->slots++;
	return 0;
}

static int add_patch(struct build *b, uint32_t layer, const struct rep_run *r, struct lb_err *err)
{
	if (b->patches == b->patch_cap) {
		uint32_t want = b->patch_cap == 0 ? 64 : b->patch_cap * 2;
		struct patch *more = realloc(b->patch, want * sizeof(*more));

		if (more == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "view of %u patches", want);
		b->patch = more;
		b->patch_cap = want;
	}
	b->patch[b->patches++] = (struct patch){.layer = layer,
						.pack = r->patch_pack,
						.pos = r->patch_pos,
						.bytes = r->patch_bytes,
						.at = NOT_IN_MAP};
	return 0;
}

static int check_pack(const struct build *b, uint32_t slot, uint32_t pack, struct lb_err *err)
{
	if (pack < b->slot[slot].f.packs)
		return 0;
	return lb_err_set(err, LB_ECORRUPT, 0, "index names pack %u of a layer with %u", pack,
			  b->slot[slot].f.packs);
}

static int take_run(struct build *b, uint32_t slot, const uint32_t *sources,
		    const struct rep_run *r, struct list *out, struct lb_err *err)
{
	struct run v = {.block = r->block, .count = r->count, .layer = ZERO};
	int rc = 0;

	switch (r->kind) {
	case REP_RUN_ZERO:
		break;
	case REP_RUN_DATA:
		v.layer = slot;
		break;
	case REP_RUN_REF:
		v.layer = sources[r->src];
		break;
	case REP_RUN_PATCH:
		v.layer = sources[r->src];
		rc = check_pack(b, slot, r->patch_pack, err);
		if (rc == 0)
			rc = add_patch(b, slot, r, err);
		v.patch = b->patches;
		break;
	}
	if (rc == 0 && v.layer != ZERO) {
		v.pack = r->pack;
		v.pos = r->pos;
		rc = check_pack(b, v.layer, r->pack, err);
	}
	out->v[out->n++] = v;
	return rc;
}

static int take_part(struct build *b, uint32_t slot, uint32_t number, struct list *out,
		     struct lb_err *err)
{
	uint64_t leaf_at =
		UINT64_C(1) + b->slot[slot].f.packs + b->slot[slot].f.digest_parts + number;
	uint32_t sources[REP_INDEX_MAX_SOURCES];
	struct lb_id id = b->slot[slot].id;
	struct lb_buf *body = NULL;
	struct rep_index ix;
	struct lb_hash leaf;
	struct run *more;
	int rc = rep_store_read_part(b->s, &id, REP_RECORD_INDEX, number, &body, err);

	if (rc != 0)
		return rc;
	lb_merkle_leaf(&leaf, body->p, body->len);
	if (!lb_hash_equal(&leaf, &b->slot[slot].leaf[leaf_at]))
		rc = lb_err_set(err, LB_ECORRUPT, 0, "index is not the one under the signed root");
	if (rc == 0)
		rc = rep_index_decode(&ix, body->p, body->len, &b->slot[slot].h, err);
	for (uint32_t i = 0; rc == 0 && i < ix.sources; i++) {
		rep_index_source(&id, &ix, i);
		rc = get_slot(b, &id, &sources[i], err); /* may move b->slot */
	}
	if (rc == 0) {
		/* One more than named: take_layer() may hide what a smaller volume cut off. */
		more = realloc(out->v, (size_t)(out->n + ix.count + 1) * sizeof(*more));
		if (more == NULL)
			rc = lb_err_set(err, LB_ENOMEM, 0, "view: runs of a layer");
		else
			out->v = more;
	}
	for (uint32_t i = 0; rc == 0 && i < ix.count; i++) {
		struct rep_run r;

		rep_index_run(&r, &ix, i);
		rc = take_run(b, slot, sources, &r, out, err);
	}
	lb_buf_unref(body);
	return rc;
}

/* ---- merging ---- */

static struct run cut_run(const struct run *r, uint64_t from, uint64_t to)
{
	struct run v = *r;

	v.block = from;
	v.count = to - from;
	if (v.layer != ZERO)
		v.pos += (uint32_t)(from - r->block);
	return v;
}

/* @newer over @older; both are freed, *out is new. Out holds at most 2 newer + older runs. */
static int merge(struct list *out, struct list *newer, struct list *older, struct lb_err *err)
{
	uint64_t cap = 2 * newer->n + older->n + 1;
	struct run *v = cap <= RUNS_MAX ? malloc((size_t)cap * sizeof(*v)) : NULL;
	uint64_t n = 0;
	uint64_t i = 0;
	uint64_t from = 0; /* what of older[k] lies before it is decided */

	if (v == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "view of %" PRIu64 " runs", cap);
	for (uint64_t k = 0; k < older->n; k++) {
		const struct run *o = &older->v[k];
		uint64_t end = o->block + o->count;

		if (from < o->block)
			from = o->block;
		while (i < newer->n && newer->v[i].block < end) {
			const struct run *w = &newer->v[i];

			if (from < w->block)
				v[n++] = cut_run(o, from, w->block);
			v[n++] = *w;
			if (from < w->block + w->count)
				from = w->block + w->count;
			i++;
		}
		if (from < end) {
			v[n++] = cut_run(o, from, end);
			from = end;
		}
	}
	while (i < newer->n)
		v[n++] = newer->v[i++];
	LB_ASSERT(n <= cap);
	*out = (struct list){.v = v, .n = n, .layers = newer->layers + older->layers};
	free(newer->v);
	free(older->v);
	return 0;
}

static int merge_top(struct build *b, struct lb_err *err)
{
	struct list out;
	int rc = merge(&out, &b->list[b->lists - 2], &b->list[b->lists - 1], err);

	if (rc != 0)
		return rc;
	b->list[b->lists - 1] = (struct list){.n = 0};
	b->list[b->lists - 2] = out;
	b->lists--;
	return 0;
}

static int push_list(struct build *b, struct list *l, struct lb_err *err)
{
	int rc = 0;

	LB_ASSERT(b->lists < LISTS);
	l->layers = 1;
	b->list[b->lists++] = *l;
	*l = (struct list){.n = 0};
	while (rc == 0 && b->lists > 1 &&
	       b->list[b->lists - 2].layers <= b->list[b->lists - 1].layers)
		rc = merge_top(b, err);
	return rc;
}

/* ---- the chain ---- */

static int take_layer(struct build *b, const struct rep_manifest_volume *v, bool *full,
		      struct lb_err *err)
{
	struct list l = {.n = 0};
	uint32_t slot = 0;
	int rc = get_slot(b, &v->layer, &slot, err);

	l.v = malloc(sizeof(*l.v));
	if (rc == 0 && l.v == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "view: runs of a layer");
	for (uint32_t i = 0; rc == 0 && i < b->slot[slot].f.index_parts; i++)
		rc = take_part(b, slot, i, &l, err);
	if (rc == 0) {
		uint64_t blocks = b->slot[slot].h.volume_bytes / REP_BLOCK_BYTES;

		*full = b->slot[slot].h.full;
		/* The volume was smaller here and grew later: nothing older shows there. */
		if (blocks < b->shown) {
			l.v[l.n++] = (struct run){
				.block = blocks, .count = b->shown - blocks, .layer = ZERO};
			b->shown = blocks;
		}
		rc = push_list(b, &l, err);
	}
	free(l.v);
	return rc;
}

static const struct rep_manifest_volume *volume_of(const struct rep_manifest *m,
						   const struct lb_id *volume)
{
	for (uint32_t i = 0; i < m->volumes; i++)
		if (lb_id_equal(&m->volume[i].volume, volume))
			return &m->volume[i];
	return NULL;
}

static int chain_step(struct build *b, struct lb_hash *at, bool first, bool *full,
		      struct lb_err *err)
{
	const struct rep_manifest_volume *v;
	struct rep_manifest *m = NULL;
	struct lb_buf *bytes = NULL;
	char text[LB_HASH_TEXT];
	int rc = rep_store_read_manifest(b->s, at, &bytes, err);

	if (rc == LB_ENOTFOUND && !first)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "base %.16s of the chain is not in the store",
				lb_hash_text(at, text));
	if (rc == 0)
		rc = rep_manifest_alloc(&m, bytes, err);
	lb_buf_unref(bytes);
	if (rc != 0)
		return rc;
	v = volume_of(m, &b->volume);
	if (v == NULL) {
		rc = lb_err_set(err, first ? LB_ENOTFOUND : LB_ECORRUPT, 0,
				"point %.16s has no such volume", lb_hash_text(at, text));
	} else {
		if (first)
			b->blocks = b->shown = v->volume_bytes / REP_BLOCK_BYTES;
		rc = take_layer(b, v, full, err);
		if (rc != 0)
			rc = lb_err_wrap(err, rc, "%s seq %" PRIu64 " volume %s", m->group_name,
					 m->seq, v->volume_name);
	}
	*at = m->base;
	free(m);
	if (rc == 0 && !*full && lb_hash_is_zero(at))
		rc = lb_err_set(err, LB_ECORRUPT, 0, "the chain ends without a full layer");
	return rc;
}

/* ---- the map ---- */

struct writer {
	uint32_t layers, packs, patches;
	uint64_t runs;
	uint8_t *layer_p, *pack_p, *run_p, *patch_p;
};

static int number_pack(struct build *b, struct writer *w, uint32_t slot, uint32_t pack,
		       struct lb_err *err)
{
	struct slot *t = &b->slot[slot];

	if (t->pack_at == NULL) {
		t->pack_at = malloc((size_t)t->f.packs * sizeof(*t->pack_at));
		if (t->pack_at == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "view of %u packs", t->f.packs);
		for (uint32_t i = 0; i < t->f.packs; i++)
			t->pack_at[i] = NOT_IN_MAP;
		t->at = w->layers++;
	}
	if (t->pack_at[pack] == NOT_IN_MAP)
		t->pack_at[pack] = w->packs++;
	return 0;
}

/* Which layers, packs and patches are live, and what index each gets. Runs behind the end of the
 * volume (of a time when it was larger) go. */
static int number_all(struct build *b, struct writer *w, struct list *l, struct lb_err *err)
{
	uint64_t keep = 0;
	int rc = 0;

	for (uint64_t i = 0; i < l->n && rc == 0; i++) {
		struct run *r = &l->v[i];

		if (r->layer == ZERO || r->block >= b->blocks)
			continue;
		if (r->count > b->blocks - r->block)
			r->count = b->blocks - r->block;
		rc = number_pack(b, w, r->layer, r->pack, err);
		if (rc == 0 && r->patch != 0) {
			struct patch *t = &b->patch[r->patch - 1];

			t->at = w->patches++;
			rc = number_pack(b, w, t->layer, t->pack, err);
		}
		l->v[keep++] = *r;
	}
	l->n = w->runs = keep;
	return rc;
}

static int put_packs(struct build *b, struct writer *w, struct lb_err *err)
{
	int rc = 0;

	for (uint32_t s = 0; s < b->slots; s++) {
		const struct slot *t = &b->slot[s];

		if (t->pack_at == NULL)
			continue;
		memcpy(w->layer_p + (size_t)t->at * REP_LAYER_HEADER_BYTES, t->header_bytes,
		       REP_LAYER_HEADER_BYTES);
		for (uint32_t i = 0; i < t->f.packs && rc == 0; i++) {
			struct rep_part part = {.seg = 0};

			if (t->pack_at[i] == NOT_IN_MAP)
				continue;
			rc = rep_part_get(b->s, &t->id, REP_RECORD_PACK, i, &part, err);
			if (rc != 0)
				break;
			rep_lock(b->s);
			uint64_t number = b->s->seg[part.seg].number;
			rep_unlock(b->s);
			rep_viewmap_put_pack(
				w->pack_p + (size_t)t->pack_at[i] * REP_VIEWMAP_PACK_BYTES,
				&(struct rep_viewmap_pack){.layer = t->at,
							   .number = i,
							   .segment = number,
							   .offset = (uint64_t)part.off8 * 8,
							   .bytes = part.bytes,
							   .leaf = t->leaf[1 + i]});
		}
	}
	return rc;
}

static void put_runs(const struct build *b, struct writer *w, const struct list *l)
{
	for (uint64_t i = 0; i < l->n; i++) {
		const struct run *r = &l->v[i];
		struct rep_viewmap_run v = {.block = r->block,
					    .count = r->count,
					    .pack = b->slot[r->layer].pack_at[r->pack],
					    .pos = r->pos};

		if (r->patch != 0) {
			const struct patch *t = &b->patch[r->patch - 1];

			v.patch = t->at + 1;
			rep_viewmap_put_patch(w->patch_p + (size_t)t->at * REP_VIEWMAP_PATCH_BYTES,
					      &(struct rep_viewmap_patch){
						      .pack = b->slot[t->layer].pack_at[t->pack],
						      .pos = t->pos,
						      .bytes = t->bytes});
		}
		rep_viewmap_put_run(w->run_p + (size_t)i * REP_VIEWMAP_RUN_BYTES, &v);
	}
}

static int write_map(struct build *b, const struct lb_hash *manifest, uint8_t **out, size_t *len,
		     struct lb_err *err)
{
	struct rep_viewmap m = {.volume_bytes = b->blocks * REP_BLOCK_BYTES,
				.volume = b->volume,
				.store = b->s->id,
				.manifest = *manifest};
	struct writer w = {.layers = 0};
	uint8_t *p;
	int rc = number_all(b, &w, &b->list[0], err);

	if (rc != 0)
		return rc;
	*len = rep_viewmap_bytes(w.layers, w.packs, w.runs, w.patches);
	p = calloc(1, *len);
	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "view map of %zu bytes", *len);
	w.layer_p = p + REP_VIEWMAP_HEADER_BYTES;
	w.pack_p = w.layer_p + (size_t)w.layers * REP_LAYER_HEADER_BYTES;
	w.run_p = w.pack_p + (size_t)w.packs * REP_VIEWMAP_PACK_BYTES;
	w.patch_p = w.run_p + (size_t)w.runs * REP_VIEWMAP_RUN_BYTES;
	rc = put_packs(b, &w, err);
	if (rc != 0) {
		free(p);
		return rc;
	}
	put_runs(b, &w, &b->list[0]);
	m.layers = w.layers;
	m.packs = w.packs;
	m.runs = w.runs;
	m.patches = w.patches;
	rep_viewmap_finish(p, &m);
	*out = p;
	return 0;
}

int rep_view_build(uint8_t **out, size_t *len, struct rep_store *s, const struct lb_hash *manifest,
		   const struct lb_id *volume, struct lb_err *err)
{
	struct build b = {.s = s, .volume = *volume};
	struct lb_hash at = *manifest;
	bool full = false;
	int rc = chain_step(&b, &at, true, &full, err);

	while (rc == 0 && !full)
		rc = chain_step(&b, &at, false, &full, err);
	while (rc == 0 && b.lists > 1)
		rc = merge_top(&b, err);
	if (rc == 0)
		rc = write_map(&b, manifest, out, len, err);
	for (uint32_t i = 0; i < b.lists; i++)
		free(b.list[i].v);
	for (uint32_t i = 0; i < b.slots; i++) {
		free(b.slot[i].leaf);
		free(b.slot[i].pack_at);
	}
	rep_idset_fini(&b.known);
	free(b.slot);
	free(b.patch);
	return rc;
}
