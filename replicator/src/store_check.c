#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "idset.h"
#include "store_int.h"

#define SOURCES_MAX 65536u

int rep_manifest_alloc(struct rep_manifest **out, const struct lb_buf *bytes, struct lb_err *err)
{
	struct rep_manifest *m = malloc(sizeof(*m));
	int rc;

	if (m == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "decode a manifest");
	rc = rep_manifest_decode(m, bytes->p, bytes->len, err);
	if (rc != 0) {
		free(m);
		return rc;
	}
	*out = m;
	return 0;
}

/* ---- parts of whole layers ---- */

int rep_layer_header_read(struct rep_store *s, const struct lb_id *layer,
			  struct rep_layer_header *h, struct lb_err *err)
{
	struct lb_buf *b = NULL;
	int rc = rep_store_read_part(s, layer, REP_RECORD_LAYER_HEADER, 0, &b, err);

	if (rc == 0)
		rc = rep_layer_header_decode(h, b->p, b->len, err);
	if (rc == 0 && !lb_id_equal(&h->layer, layer))
		rc = lb_err_set(err, LB_ECORRUPT, 0, "layer header names another layer");
	lb_buf_unref(b);
	return rc;
}

static int footer_read(struct rep_store *s, const struct lb_id *layer, struct rep_footer *f,
		       struct lb_err *err)
{
	struct lb_buf *b = NULL;
	int rc = rep_store_read_part(s, layer, REP_RECORD_FOOTER, 0, &b, err);

	if (rc == 0)
		rc = rep_footer_decode(f, b->p, b->len, err);
	if (rc == 0 && !lb_id_equal(&f->layer, layer))
		rc = lb_err_set(err, LB_ECORRUPT, 0, "footer names another layer");
	lb_buf_unref(b);
	return rc;
}

static uint64_t leaf_count(const struct rep_footer *f)
{
	return UINT64_C(1) + f->packs + f->digest_parts + f->index_parts;
}

/* Append the hashes of leaves part @number; what was read bounds what is allocated. */
static int add_leaves(struct rep_store *s, const struct lb_id *layer, uint32_t number,
		      struct lb_hash **v, uint64_t *n, struct lb_err *err)
{
	struct lb_hash *more = realloc(*v, (size_t)(*n + REP_LEAVES_MAX) * sizeof(*more));
	struct lb_buf *b = NULL;
	uint32_t got = 0;
	uint32_t own = 0;
	int rc;

	if (more == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "leaf hashes");
	*v = more;
	rc = rep_store_read_part(s, layer, REP_RECORD_LEAVES, number, &b, err);
	if (rc == 0)
		rc = rep_leaves_decode(more + *n, &got, &own, b->p, b->len, err);
	if (rc == 0 && own != number)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "leaves part %u says it is %u", number, own);
	if (rc == 0)
		*n += got;
	lb_buf_unref(b);
	return rc;
}

int rep_layer_leaves(struct rep_store *s, const struct lb_id *layer, const struct lb_hash *root,
		     struct rep_footer *f, struct lb_hash **leaves, struct lb_err *err)
{
	struct lb_hash *v = NULL;
	struct lb_hash got;
	uint64_t n = 0;
	int rc = footer_read(s, layer, f, err);

	for (uint32_t i = 0; rc == 0 && i < f->leaf_parts; i++)
		rc = add_leaves(s, layer, i, &v, &n, err);
	if (rc == 0 && n != leaf_count(f))
		rc = lb_err_set(err, LB_ECORRUPT, 0, "layer has %" PRIu64 " leaves, not %" PRIu64,
				n, leaf_count(f));
	if (rc == 0) {
		rep_layer_root(&got, f, v);
		if (!lb_hash_equal(&got, &f->root) || (root != NULL && !lb_hash_equal(&got, root)))
			rc = lb_err_set(err, LB_ECORRUPT, 0,
					"leaf hashes do not give the signed root");
	}
	if (rc == 0) {
		*leaves = v;
		v = NULL;
	}
	free(v);
	return rc;
}

/* ---- sources ---- */

static int add_sources(struct rep_idset *x, const struct rep_index *ix, struct lb_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < ix->sources && rc == 0; i++) {
		struct lb_id id;

		rep_index_source(&id, ix, i);
		rc = rep_idset_add(x, &id, NULL, err);
	}
	if (rc == 0 && x->n > SOURCES_MAX)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "index: more than %u sources", SOURCES_MAX);
	return rc;
}

/* Takes x->v, or leaves it: once those of a visible layer are known, others may be reading them. */
static void set_sources(struct rep_store *s, struct rep_layer *l, struct rep_idset *x)
{
	struct lb_id *less = x->n > 0 ? realloc(x->v, x->n * sizeof(*less)) : NULL;

	if (less != NULL) /* it stays as long as the layer: without the room to grow */
		x->v = less;
	rep_lock(s);
	if (!l->visible || !l->sources_known) {
		free(l->source);
		l->source = x->v;
		l->sources = x->n;
		l->sources_known = true;
		s->damage_changes += l->visible;
		x->v = NULL;
	}
	rep_unlock(s);
}

static int read_sources(struct rep_store *s, struct rep_layer *l, struct lb_err *err)
{
	struct rep_layer_header h;
	struct rep_footer f;
	struct rep_idset x = {.n = 0};
	int rc;

	rc = rep_layer_header_read(s, &l->id, &h, err);
	if (rc == 0)
		rc = footer_read(s, &l->id, &f, err);
	for (uint32_t i = 0; rc == 0 && i < f.index_parts; i++) {
		struct rep_index ix;
		struct lb_buf *b = NULL;

		rc = rep_store_read_part(s, &l->id, REP_RECORD_INDEX, i, &b, err);
		if (rc == 0)
			rc = rep_index_decode(&ix, b->p, b->len, &h, err);
		if (rc == 0)
			rc = add_sources(&x, &ix, err);
		lb_buf_unref(b);
	}
	if (rc == 0)
		set_sources(s, l, &x);
	rep_idset_fini(&x);
	return rc;
}

int rep_layer_sources(struct rep_store *s, struct rep_layer *l, const struct lb_id **out,
		      uint32_t *n, struct lb_err *err)
{
	bool known;
	int rc;

	rep_lock(s);
	known = l->sources_known;
	rep_unlock(s);
	rc = known ? 0 : read_sources(s, l, err);
	if (rc != 0)
		return rc;
	rep_lock(s);
	*out = l->source;
	*n = l->sources;
	rep_unlock(s);
	return 0;
}

/* ---- the check before a manifest ---- */

struct check {
	struct rep_store *s;
	struct rep_layer *l;
	const struct rep_manifest_volume *v;
	const struct rep_manifest *m;
	struct rep_footer f;
	struct rep_layer_header h;
	struct lb_hash *leaf;
	uint64_t leaves, bytes;
	uint64_t data, zero, ref, patch; /* blocks the index names */
	uint64_t next_block;
	struct rep_idset sources;
	bool sealed; /* a visible layer is looked at again: nothing of it is given up */
};

/* One part of the draft. A part that does not read back is given up, so that it is sent again. */
static int fetch(struct check *c, enum rep_record_kind kind, uint32_t number, struct lb_buf **out,
		 struct lb_err *err)
{
	struct rep_part part;
	int rc = rep_part_get(c->s, &c->l->id, kind, number, &part, err);

	if (rc == 0)
		rc = rep_store_part(c->s, &c->l->id, &part, out, err);
	if (rc == LB_ECORRUPT && !c->sealed) {
		struct rep_part *p;

		rep_lock(c->s);
		p = rep_parts_find(c->l->parts, kind, number);
		if (p != NULL)
			rep_parts_drop(c->l->parts, p);
		rep_unlock(c->s);
		rc = lb_err_set(err, LB_ENOTFOUND, 0,
				"part %u of kind %d does not read back: send it again", number,
				(int)kind);
	}
	return rc;
}

/* The leaf hash of one part: remembered from its arrival, or from the disk after a restart. */
static int take_leaf(struct check *c, enum rep_record_kind kind, uint32_t number,
		     struct lb_err *err)
{
	struct lb_buf *b = NULL;
	struct lb_hash leaf = {{0}};
	struct rep_part *p;
	bool known;
	int rc;

	rep_lock(c->s);
	p = rep_parts_find(c->l->parts, kind, number);
	known = rep_part_held(p) && p->has_leaf;
	if (known) {
		leaf = c->l->parts->leaf[p - c->l->parts->v];
		c->bytes += p->bytes;
	}
	rep_unlock(c->s);
	if (!known) {
		rc = fetch(c, kind, number, &b, err);
		if (rc != 0)
			return rc;
		lb_merkle_leaf(&leaf, b->p, b->len);
		c->bytes += b->len;
		rep_lock(c->s);
		p = rep_parts_find(c->l->parts, kind, number);
		c->l->parts->leaf[p - c->l->parts->v] = leaf;
		p->has_leaf = 1;
		rep_unlock(c->s);
		lb_buf_unref(b);
	}
	c->leaf[c->leaves++] = leaf;
	return 0;
}

static int take_leaves(struct check *c, enum rep_record_kind kind, uint32_t n, struct lb_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < n && rc == 0; i++)
		rc = take_leaf(c, kind, i, err);
	return rc;
}

/* Nothing is held beyond what the footer counts, and nothing is missing. */
static int check_counts(struct check *c, struct lb_err *err)
{
	const struct rep_footer *f = &c->f;
	uint64_t held = 0;
	uint64_t want = leaf_count(f) + f->leaf_parts + 1;
	uint32_t packs;
	uint32_t missing;
	int rc;

	rep_lock(c->s);
	rc = rep_layer_load(c->s, c->l, err); /* a visible layer's may have been evicted */
	if (rc != 0) {
		rep_unlock(c->s);
		return rc;
	}
	for (uint32_t i = 0; i < c->l->parts->n; i++)
		held += rep_part_held(&c->l->parts->v[i]);
	packs = c->l->parts->packs;
	missing = c->l->parts->first_missing;
	rep_unlock(c->s);
	if (packs < f->packs)
		return lb_err_set(err, LB_ENOTFOUND, 0,
				  "volume %s: %u of %u packs are held, the first missing is %u",
				  c->v->volume_name, packs, f->packs, missing);
	if (held < want)
		return lb_err_set(err, LB_ENOTFOUND, 0,
				  "volume %s: %" PRIu64 " of %" PRIu64 " parts are held",
				  c->v->volume_name, held, want);
	if (held > want || packs > f->packs)
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "volume %s: %" PRIu64
				  " parts are held, its footer counts %" PRIu64,
				  c->v->volume_name, held, want);
	return 0;
}

static int check_footer(struct check *c, struct lb_err *err)
{
	struct lb_buf *b = NULL;
	int rc = fetch(c, REP_RECORD_FOOTER, 0, &b, err);

	if (rc == 0)
		rc = rep_footer_decode(&c->f, b->p, b->len, err);
	lb_buf_unref(b);
	if (rc != 0)
		return rc;
	if (!lb_id_equal(&c->f.layer, &c->l->id) || !lb_hash_equal(&c->f.root, &c->v->root))
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "volume %s: the footer's layer or root is not the manifest's",
				  c->v->volume_name);
	return check_counts(c, err);
}

static int check_root(struct check *c, struct lb_err *err)
{
	struct lb_hash root;
	int rc;

	c->leaf = malloc((size_t)leaf_count(&c->f) * sizeof(*c->leaf));
	if (c->leaf == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "%" PRIu64 " leaf hashes", leaf_count(&c->f));
	rc = take_leaves(c, REP_RECORD_LAYER_HEADER, 1, err);
	if (rc == 0)
		rc = take_leaves(c, REP_RECORD_PACK, c->f.packs, err);
	if (rc == 0)
		rc = take_leaves(c, REP_RECORD_DIGESTS, c->f.digest_parts, err);
	if (rc == 0)
		rc = take_leaves(c, REP_RECORD_INDEX, c->f.index_parts, err);
	if (rc != 0)
		return rc;
	rep_layer_root(&root, &c->f, c->leaf);
	if (!lb_hash_equal(&root, &c->v->root) || c->bytes != c->f.bytes ||
	    c->bytes != c->v->layer_bytes)
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "volume %s: its %" PRIu64 " bytes do not give the signed root",
				  c->v->volume_name, c->bytes);
	return 0;
}

/* What a scrub without keys will rely on must be what we computed. */
static int check_leaves(struct check *c, struct lb_err *err)
{
	struct lb_hash *v = malloc(REP_LEAVES_MAX * sizeof(*v));
	uint64_t at = 0;
	int rc = 0;

	if (v == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "leaf hashes");
	for (uint32_t i = 0; i < c->f.leaf_parts && rc == 0; i++) {
		struct lb_buf *b = NULL;
		uint32_t n = 0;
		uint32_t number = 0;

		rc = fetch(c, REP_RECORD_LEAVES, i, &b, err);
		if (rc == 0)
			rc = rep_leaves_decode(v, &n, &number, b->p, b->len, err);
		if (rc == 0 && (number != i || n > c->leaves - at ||
				memcmp(v, c->leaf + at, n * sizeof(*v)) != 0))
			rc = lb_err_set(err, LB_ECORRUPT, 0,
					"volume %s: leaves part %u is not of its parts",
					c->v->volume_name, i);
		at += n;
		lb_buf_unref(b);
	}
	if (rc == 0 && at != c->leaves)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "volume %s: leaves are missing",
				c->v->volume_name);
	free(v);
	return rc;
}

/* A delta builds on the same volume in the base point. */
static int check_base(struct check *c, struct lb_err *err)
{
	const struct rep_spoint *base;
	bool found = false;

	if (c->h.full)
		return 0;
	rep_lock(c->s);
	base = rep_point_lookup(c->s, &c->m->base, NULL);
	for (uint32_t i = 0; base != NULL && i < base->layers && !found; i++) {
		const struct rep_layer *l = rep_layer_find(c->s, &base->layer[i]);

		found = l != NULL && lb_id_equal(&l->volume, &c->v->volume) &&
			lb_id_equal(&l->group, &c->m->group);
	}
	rep_unlock(c->s);
	if (found)
		return 0;
	return lb_err_set(err, LB_EBASE, 0, "volume %s: the base it is a delta against is not held",
			  c->v->volume_name);
}

static int check_header(struct check *c, struct lb_err *err)
{
	const struct rep_layer_header *h = &c->h;
	struct lb_buf *b = NULL;
	int rc = fetch(c, REP_RECORD_LAYER_HEADER, 0, &b, err);

	if (rc == 0)
		rc = rep_layer_header_decode(&c->h, b->p, b->len, err);
	lb_buf_unref(b);
	if (rc != 0)
		return rc;
	if (!lb_id_equal(&h->deployment, &c->m->deployment) ||
	    !lb_id_equal(&h->site, &c->m->site) || !lb_id_equal(&h->group, &c->m->group) ||
	    !lb_id_equal(&h->machine, &c->v->machine) || !lb_id_equal(&h->volume, &c->v->volume) ||
	    !lb_id_equal(&h->layer, &c->v->layer) || !lb_id_equal(&h->key, &c->v->key) ||
	    h->epoch != c->m->epoch || h->seq != c->m->seq || h->kind != c->v->kind ||
	    h->volume_bytes != c->v->volume_bytes ||
	    (!h->full && !lb_hash_equal(&h->base, &c->m->base)))
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "volume %s: the layer's header is not of this point",
				  c->v->volume_name);
	return check_base(c, err);
}

/* A run that takes bytes from another layer: it must be a kept one of the same volume. */
static int check_source(struct check *c, const struct rep_index *ix, const struct rep_run *r,
			struct lb_err *err)
{
	struct rep_layer *l;
	struct lb_id id;
	int rc = 0;

	rep_index_source(&id, ix, r->src);
	rep_lock(c->s);
	l = rep_layer_find(c->s, &id);
	if (l == NULL || !l->visible || !lb_id_equal(&l->volume, &c->v->volume) ||
	    !lb_id_equal(&l->group, &c->m->group))
		rc = lb_err_set(err, LB_ECORRUPT, 0,
				"volume %s: block %" PRIu64
				" refers to a layer that is not of this volume",
				c->v->volume_name, r->block);
	if (rc == 0)
		rc = rep_layer_load(c->s, l, err);
	if (rc == 0 && !rep_part_held(rep_parts_find(l->parts, REP_RECORD_PACK, r->pack)))
		rc = lb_err_set(err, LB_ECORRUPT, 0,
				"volume %s: block %" PRIu64 " refers to pack %u that is not held",
				c->v->volume_name, r->block, r->pack);
	rep_unlock(c->s);
	return rc;
}

static int check_run(struct check *c, const struct rep_index *ix, const struct rep_run *r,
		     struct lb_err *err)
{
	bool own = true; /* its packs of this layer exist */
	int rc = 0;

	switch (r->kind) {
	case REP_RUN_DATA:
		c->data += r->count;
		own = r->pack < c->f.packs;
		break;
	case REP_RUN_ZERO:
		c->zero += r->count;
		break;
	case REP_RUN_REF:
		c->ref += r->count;
		rc = check_source(c, ix, r, err);
		break;
	case REP_RUN_PATCH:
		c->patch += r->count;
		own = r->patch_pack < c->f.packs;
		rc = check_source(c, ix, r, err);
		break;
	}
	if (rc == 0 && (!own || r->block < c->next_block))
		rc = lb_err_set(err, LB_ECORRUPT, 0,
				"volume %s: run at block %" PRIu64 " is out of order or range",
				c->v->volume_name, r->block);
	c->next_block = r->block + r->count;
	return rc;
}

static int check_index_part(struct check *c, uint32_t number, struct lb_err *err)
{
	struct lb_buf *b = NULL;
	struct rep_index ix;
	int rc = fetch(c, REP_RECORD_INDEX, number, &b, err);

	if (rc == 0)
		rc = rep_index_decode(&ix, b->p, b->len, &c->h, err);
	if (rc == 0 && ix.number != number)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "index part %u says it is %u", number,
				ix.number);
	if (rc == 0)
		rc = add_sources(&c->sources, &ix, err);
	for (uint32_t i = 0; rc == 0 && i < ix.count; i++) {
		struct rep_run r;

		rep_index_run(&r, &ix, i);
		rc = check_run(c, &ix, &r, err);
	}
	lb_buf_unref(b);
	return rc;
}

static int check_index(struct check *c, struct lb_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < c->f.index_parts && rc == 0; i++)
		rc = check_index_part(c, i, err);
	if (rc == 0 && (c->data != c->f.data_blocks || c->zero != c->f.zero_blocks ||
			c->ref != c->f.ref_blocks || c->patch != c->f.patch_blocks))
		rc = lb_err_set(
			err, LB_ECORRUPT, 0,
			"volume %s: the index names other numbers of blocks than the footer",
			c->v->volume_name);
	return rc;
}

static int find_draft(struct check *c, struct lb_err *err)
{
	int rc = 0;

	rep_lock(c->s);
	c->l = rep_layer_find(c->s, &c->v->layer);
	if (c->l == NULL || c->l->abandoned)
		rc = lb_err_set(err, LB_ENOTFOUND, 0, "volume %s: nothing of its layer is held",
				c->v->volume_name);
	else if (c->l->visible)
		rc = lb_err_set(err, LB_EEXIST, 0, "volume %s: its layer is sealed already",
				c->v->volume_name);
	else
		rc = rep_layer_load(c->s, c->l, err);
	rep_unlock(c->s);
	return rc;
}

static int note_checked(struct check *c, struct lb_err *err)
{
	struct rep_checked *now = malloc(sizeof(*now));

	if (now == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "check a layer");
	*now = (struct rep_checked){.epoch = c->m->epoch, .seq = c->m->seq, .base = c->m->base};
	rep_lock(c->s);
	c->l->group = c->m->group;
	c->l->volume = c->v->volume;
	c->l->root = c->v->root;
	free(c->l->parts->checked);
	c->l->parts->checked = now;
	rep_unlock(c->s);
	return 0;
}

int rep_store_layer_check(struct rep_store *s, const struct rep_manifest_volume *v,
			  const struct rep_manifest *m, struct lb_err *err)
{
	struct check c = {.s = s, .v = v, .m = m};
	int rc = find_draft(&c, err);

	if (rc == 0)
		rc = check_footer(&c, err);
	if (rc == 0)
		rc = check_root(&c, err);
	if (rc == 0)
		rc = check_leaves(&c, err);
	if (rc == 0)
		rc = check_header(&c, err);
	if (rc == 0)
		rc = check_index(&c, err);
	if (rc == 0) {
		set_sources(s, c.l, &c.sources);
		rc = note_checked(&c, err);
	}
	rep_idset_fini(&c.sources);
	free(c.leaf);
	return rc;
}

/* As when it became visible: those of its own chain are not remembered. */
static void keep_sources(struct check *c)
{
	bool in_chain;

	rep_lock(c->s);
	in_chain = c->l->visible && c->sources.n > 0 &&
		   rep_chain_has(c->s, c->l->point, c->sources.v, c->sources.n);
	rep_unlock(c->s);
	if (!in_chain)
		set_sources(c->s, c->l, &c->sources);
}

int rep_layer_verify(struct rep_store *s, const struct rep_manifest_volume *v,
		     const struct rep_manifest *m, struct lb_err *err)
{
	struct check c = {.s = s, .v = v, .m = m, .sealed = true};
	int rc = 0;

	rep_lock(s);
	c.l = rep_layer_find(s, &v->layer);
	if (c.l == NULL)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "volume %s: its layer is not in the store",
				v->volume_name);
	rep_unlock(s);
	if (rc == 0)
		rc = rep_layer_leaves(s, &v->layer, &v->root, &c.f, &c.leaf, err);
	if (rc == 0 && c.f.bytes != v->layer_bytes)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "volume %s: the footer counts other bytes",
				v->volume_name);
	if (rc == 0)
		rc = check_counts(&c, err);
	if (rc == 0)
		rc = check_header(&c, err);
	if (rc == 0)
		rc = check_index(&c, err);
	if (rc == 0)
		keep_sources(&c);
	rep_idset_fini(&c.sources);
	free(c.leaf);
	return rc;
}
