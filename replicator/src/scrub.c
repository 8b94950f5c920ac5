/*
 * Scrub. Over the whole store first every segment is read once from front to back: each record's
 * header, CRC and padding, and for parts of visible layers the leaf hash under the signed root
 * (and, with keys, the tag). Then every point: manifest, signature, chain, and of each layer root,
 * counts, header and index. Of one point only: the parts of the layers of its closure, one by one.
 *
 * The writer goes on meanwhile. The log only grows, so what is committed at the beginning is three
 * numbers (struct scope); a record, point or layer beyond them is not looked at. Callbacks are
 * called without the lock.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/seal.h"
#include "idset.h"
#include "store_int.h"

#define SEEN_MAX 64u

struct seen {            /* a visible layer whose parts are met just now */
	struct lb_id id; /* zero: free */
	bool usable;     /* leaves are there and give the signed root */
	struct rep_layer_header h;
	struct rep_footer f;
	struct lb_hash *leaf;
	struct lb_sealer *sealer; /* NULL: no key asked for, or not held */
	uint64_t tick;
};

struct scope {           /* what was under a mark when the scrub began */
	uint32_t segs;   /* segments */
	uint64_t last;   /* bytes of the last of them, all of the others */
	uint64_t bytes;  /* in all of them */
	uint32_t points; /* points, in log order */
};

struct scrub {
	struct rep_store *s;
	struct scope scope;
	const struct rep_scrub_opts *o;
	struct rep_scrub_stats *st;
	uint64_t done, all;
	uint64_t tick;
	struct seen seen[SEEN_MAX];
	uint8_t *raw; /* deep: one opened pack or digests part */
};

/* ---- telling ---- */

static void told(struct scrub *c, struct rep_damage *d, const char *why)
{
	rep_lock(c->s);
	rep_damage_text(c->s, d, why);
	rep_damage_add(c->s, d);
	rep_unlock(c->s);
	c->st->damaged++;
	if (c->o->on_damage != NULL)
		c->o->on_damage(c->o->arg, d);
}

static void step(struct scrub *c, uint64_t bytes)
{
	c->done += bytes;
	c->st->bytes += bytes;
	if (c->o->progress != NULL)
		c->o->progress(c->o->arg, c->done < c->all ? c->done : c->all, c->all);
}

/* Bad bytes are what a scrub is for; anything else (memory, a file that cannot be opened) ends it.
 */
static bool is_damage(int rc)
{
	return rc == LB_ECORRUPT || rc == LB_EVERSION || rc == LB_EINPUT || rc == LB_EIO ||
	       rc == LB_ENOTFOUND || rc == LB_EBASE;
}

static void take_scope(struct scrub *c)
{
	struct rep_store *s = c->s;
	struct scope *x = &c->scope;

	rep_lock(s);
	LB_ASSERT(s->segs > 0 && s->marked <= s->seg[s->segs - 1].bytes);
	x->segs = s->segs;
	x->last = s->marked;
	x->bytes = s->marked;
	for (uint32_t i = 0; i + 1 < s->segs; i++)
		x->bytes += s->seg[i].bytes;
	x->points = s->points - s->pending;
	rep_unlock(s);
}

/* The layer @id if a point in scope names it, else NULL: it is a draft, or was one. Lock held. */
static struct rep_layer *layer_in_scope(struct scrub *c, const struct lb_id *id)
{
	struct rep_layer *l = rep_layer_find(c->s, id);

	return l != NULL && l->visible && l->point < c->scope.points ? l : NULL;
}

/* ---- layers met ---- */

static void seen_free(struct seen *x)
{
	free(x->leaf);
	lb_sealer_destroy(x->sealer);
	*x = (struct seen){.usable = false};
}

static int seen_load(struct scrub *c, struct seen *x, const struct lb_hash *root,
		     struct lb_err *err)
{
	struct lb_key key;
	int rc = rep_layer_leaves(c->s, &x->id, root, &x->f, &x->leaf, err);

	x->usable = rc == 0;
	if (rc == 0)
		rc = rep_layer_header_read(c->s, &x->id, &x->h, err);
	if (rc == 0 && c->o->dek_of != NULL && c->o->dek_of(c->o->arg, &x->h.key, &key) == 0) {
		rc = lb_sealer_create(&x->sealer, &key, err);
		lb_key_wipe(&key);
	}
	return is_damage(rc) ? 0 : rc; /* told where the bad part itself is met */
}

/* The layer @id with its leaves; *out NULL when it is not in scope. */
static int seen_get(struct scrub *c, const struct lb_id *id, struct seen **out, struct lb_err *err)
{
	const struct rep_layer *l;
	struct lb_hash root = {{0}};
	struct seen *old = &c->seen[0];

	*out = NULL;
	for (unsigned i = 0; i < SEEN_MAX; i++) {
		struct seen *x = &c->seen[i];

		if (lb_id_equal(&x->id, id)) {
			x->tick = ++c->tick;
			*out = x;
			return 0;
		}
		if (x->tick < old->tick)
			old = x;
	}
	rep_lock(c->s);
	l = layer_in_scope(c, id);
	if (l != NULL)
		root = l->root;
	rep_unlock(c->s);
	if (l == NULL)
		return 0;
	seen_free(old);
	old->id = *id;
	old->tick = ++c->tick;
	*out = old;
	return seen_load(c, old, &root, err);
}

/* ---- one part ---- */

/* Place of a part among its layer's leaves; false: it has none. */
static bool leaf_at(const struct rep_footer *f, enum rep_record_kind kind, uint32_t number,
		    uint64_t *at)
{
	uint64_t first = 0;
	uint32_t n = 1;

	if (kind == REP_RECORD_PACK) {
		first = 1;
		n = f->packs;
	} else if (kind == REP_RECORD_DIGESTS) {
		first = UINT64_C(1) + f->packs;
		n = f->digest_parts;
	} else if (kind == REP_RECORD_INDEX) {
		first = UINT64_C(1) + f->packs + f->digest_parts;
		n = f->index_parts;
	} else if (kind != REP_RECORD_LAYER_HEADER) {
		return false;
	}
	*at = first + number;
	return number < n;
}

static int open_sealed(struct scrub *c, struct seen *x, const struct rep_record *r,
		       const struct lb_buf *body, struct lb_err *err)
{
	uint32_t n;

	if (r->kind == REP_RECORD_PACK)
		return rep_pack_open(c->raw, &n, x->sealer, &x->h,
				     (struct rep_sealed){r->number, body->p, body->len}, err);
	if (r->kind == REP_RECORD_DIGESTS)
		return rep_digests_open((struct lb_digest *)(void *)c->raw, &n, x->sealer, &x->h,
					(struct rep_sealed){r->number, body->p, body->len}, err);
	return 0;
}

/* A part whose record is good: is it the one under the root? */
static int check_part(struct scrub *c, const struct rep_record *r, const struct lb_buf *body,
		      struct lb_err *err)
{
	struct seen *x;
	struct lb_hash leaf;
	uint64_t at;
	int rc = seen_get(c, &r->owner, &x, err);

	if (rc != 0 || x == NULL || !x->usable || !leaf_at(&x->f, r->kind, r->number, &at))
		return rc;
	lb_merkle_leaf(&leaf, body->p, body->len);
	if (!lb_hash_equal(&leaf, &x->leaf[at]))
		return lb_err_set(err, LB_ECORRUPT, 0, "not the bytes under the signed root");
	return x->sealer != NULL ? open_sealed(c, x, r, body, err) : 0;
}

/* ---- segments ---- */

/* What the index in RAM knows of the record at @off: true and *e, or false. *next: where the next
 * known record begins. */
static int known_at(struct scrub *c, uint32_t seg, uint64_t off, struct rep_entry *e, bool *known,
		    uint64_t *next, struct lb_err *err)
{
	const struct rep_seg *g;
	const struct rep_entry *v = NULL;
	uint64_t end = 2 * rep_record_span(REP_MARK_FIXED);
	uint32_t n = 0;
	int rc;

	rep_lock(c->s);
	g = &c->s->seg[seg];
	rc = rep_seg_sorted(c->s, seg, &v, &n, err);
	if (is_damage(rc))
		n = 0; /* the directory itself has gone bad since it was read */
	*known = false;
	*next = g->bytes;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t at = (uint64_t)v[i].off8 * 8;

		if (at == off) {
			*known = true;
			*e = v[i];
		} else if (at > off && at < *next) {
			*next = at;
		}
	}
	if (g->closed) {
		uint64_t fixed[3] = {g->dir_off, g->bytes - end, g->bytes - end / 2};

		for (int i = 0; i < 3; i++) {
			if (fixed[i] > off && fixed[i] < *next)
				*next = fixed[i];
			if (fixed[i] == off) {
				*known = true;
				*e = (struct rep_entry){.kind = i == 0 ? REP_RECORD_DIRECTORY
								       : REP_RECORD_MARK,
							.number = i == 2};
			}
		}
	}
	rep_unlock(c->s);
	return is_damage(rc) ? 0 : rc;
}

/* The point whose manifest or receipt is at @loc, for naming it. */
static void name_point(struct scrub *c, struct rep_loc loc, struct rep_damage *d)
{
	rep_lock(c->s);
	for (uint32_t i = 0; i < c->s->points; i++) {
		const struct rep_spoint *p = c->s->point[i];
		const struct rep_loc *at =
			d->kind == REP_RECORD_MANIFEST ? &p->manifest : &p->receipt;

		if (at->seg == loc.seg && at->off8 == loc.off8)
			d->manifest = p->pub.manifest;
	}
	rep_unlock(c->s);
}

/* A copy of a draft's part that was given up and sent again counts for nothing. */
static bool superseded(struct scrub *c, uint32_t seg, const struct rep_entry *e)
{
	struct rep_part part;

	if (e->kind < REP_RECORD_LAYER_HEADER || e->kind > REP_RECORD_FOOTER)
		return false;
	return rep_part_get(c->s, &e->owner, (enum rep_record_kind)e->kind, e->number, &part,
			    NULL) == 0 &&
	       (part.seg != seg || part.off8 != e->off8);
}

static int bad_record(struct scrub *c, uint32_t seg, uint64_t off, const char *why, uint64_t *next,
		      struct lb_err *err)
{
	struct rep_damage d = {.kind = REP_RECORD_MARK, .offset = off};
	struct rep_entry e = {.kind = 0};
	bool known;
	int rc = known_at(c, seg, off, &e, &known, next, err);

	if (rc != 0 || (known && superseded(c, seg, &e)))
		return rc;
	rep_lock(c->s);
	d.segment = c->s->seg[seg].number;
	rep_unlock(c->s);
	if (known) {
		d.layer = e.owner;
		d.kind = (enum rep_record_kind)e.kind;
		d.number = e.number;
	} else if (off == 0) {
		d.kind = REP_RECORD_SEGMENT;
	}
	if (d.kind == REP_RECORD_MANIFEST || d.kind == REP_RECORD_RECEIPT)
		name_point(c, (struct rep_loc){seg, (uint32_t)(off / 8)}, &d);
	told(c, &d, why);
	return 0;
}

static int go_on(struct scrub *c, struct lb_err *err)
{
	if (c->o->cancelled != NULL && c->o->cancelled(c->o->arg))
		return lb_err_set(err, LB_ECANCELED, 0, "verify was cancelled");
	return 0;
}

static int scrub_record(struct scrub *c, uint32_t seg, uint64_t off, uint64_t *next,
			struct lb_err *err)
{
	struct lb_err why = {.code = 0};
	struct lb_buf *body = NULL;
	struct rep_record r;
	int rc = go_on(c, err);

	if (rc != 0)
		return rc;
	rc = rep_store_record(c->s, (struct rep_loc){seg, (uint32_t)(off / 8)}, &r, &body, &why);
	if (rc == 0) {
		*next = off + rep_record_span(r.bytes);
		rc = check_part(c, &r, body, &why);
	}
	lb_buf_unref(body);
	c->st->records++;
	if (is_damage(rc))
		return bad_record(c, seg, off, why.msg, next, err);
	if (rc != 0 && err != NULL)
		*err = why;
	return rc;
}

/* Where what is in scope ends in @seg. */
static uint64_t end_of(struct scrub *c, uint32_t seg)
{
	uint64_t bytes = c->scope.last;

	if (seg + 1 < c->scope.segs) {
		rep_lock(c->s);
		bytes = c->s->seg[seg].bytes;
		rep_unlock(c->s);
	}
	return bytes;
}

static int scrub_segment(struct scrub *c, uint32_t seg, struct lb_err *err)
{
	uint64_t bytes = end_of(c, seg);
	uint64_t off = 0;
	int rc = 0;

	while (rc == 0 && off < bytes) {
		uint64_t next = bytes;

		rc = scrub_record(c, seg, off, &next, err);
		LB_ASSERT(next > off);
		if (next > bytes) /* past a bad record: the next known one is the writer's */
			next = bytes;
		step(c, next - off);
		off = next;
	}
	return rc;
}

/* ---- points ---- */

static int check_signature(struct scrub *c, const struct rep_manifest *m, const struct lb_buf *b,
			   struct lb_err *err)
{
	struct lb_pubkey key;

	if (c->o->key_of == NULL)
		return 0;
	if (c->o->key_of(c->o->arg, &m->site, &key) != 0)
		return lb_err_set(err, LB_ECORRUPT, 0, "signed by a site that is not known here");
	return rep_manifest_verify(b->p, b->len, &key, err);
}

/* The base must be held. The predecessor may be gone; but if one of this epoch just before it is
 * held, it must be the one that is named. */
static int check_chain(struct scrub *c, const struct rep_manifest *m, struct lb_err *err)
{
	const struct rep_spoint *base = NULL;
	int rc = 0;

	rep_lock(c->s);
	if (!lb_hash_is_zero(&m->base)) {
		base = rep_point_lookup(c->s, &m->base, NULL);
		if (base == NULL || !lb_id_equal(&base->pub.group, &m->group))
			rc = lb_err_set(err, LB_ECORRUPT, 0, "its base is not in the store");
	}
	for (uint32_t i = 0; rc == 0 && i < c->scope.points; i++) {
		const struct rep_point_core *p = &c->s->point[i]->pub;

		if (p->epoch == m->epoch && p->seq + 1 == m->seq &&
		    lb_id_equal(&p->group, &m->group) && !lb_hash_equal(&p->manifest, &m->prev))
			rc = lb_err_set(err, LB_ECORRUPT, 0,
					"it does not follow the point before it");
	}
	rep_unlock(c->s);
	return rc;
}

static bool layer_is_damaged(struct scrub *c, const struct lb_id *id)
{
	const struct rep_layer *l;
	bool damaged;

	rep_lock(c->s);
	l = rep_layer_find(c->s, id);
	damaged = l != NULL && l->damaged;
	rep_unlock(c->s);
	return damaged;
}

static int scrub_volume(struct scrub *c, const struct rep_manifest *m,
			const struct rep_manifest_volume *v, const struct lb_hash *point,
			struct lb_err *err)
{
	struct rep_damage d = {.layer = v->layer, .manifest = *point, .kind = REP_RECORD_FOOTER};
	struct lb_err why = {.code = 0};
	/* Told already, with its place. */
	int rc = layer_is_damaged(c, &v->layer) ? 0 : rep_layer_verify(c->s, v, m, &why);

	if (rc == 0)
		return 0;
	if (!is_damage(rc)) {
		if (err != NULL)
			*err = why;
		return rc;
	}
	told(c, &d, why.msg);
	return 0;
}

static int scrub_point(struct scrub *c, const struct lb_hash *point, struct lb_err *err)
{
	struct rep_damage d = {.manifest = *point, .kind = REP_RECORD_MANIFEST};
	struct lb_err why = {.code = 0};
	struct rep_manifest *m = NULL;
	struct lb_buf *b = NULL;
	int rc = go_on(c, err);

	if (rc != 0)
		return rc;
	rc = rep_store_read_manifest(c->s, point, &b, &why);
	c->st->points++;
	if (rc == 0)
		rc = rep_manifest_alloc(&m, b, &why);
	if (rc == 0)
		rc = check_signature(c, m, b, &why);
	if (rc == 0)
		rc = check_chain(c, m, &why);
	if (is_damage(rc)) {
		told(c, &d, why.msg);
		rc = 0;
	} else if (rc != 0 && err != NULL) {
		*err = why;
	}
	for (uint32_t i = 0; rc == 0 && m != NULL && i < m->volumes; i++)
		rc = scrub_volume(c, m, &m->volume[i], point, err);
	lb_buf_unref(b);
	free(m);
	return rc;
}

/* The @i-th point, which is in scope, so visible. */
static struct lb_hash point_at(struct scrub *c, uint32_t i)
{
	struct lb_hash point;

	rep_lock(c->s);
	LB_ASSERT(c->s->point[i]->visible);
	point = c->s->point[i]->pub.manifest;
	rep_unlock(c->s);
	return point;
}

static int scrub_all(struct scrub *c, struct lb_err *err)
{
	int rc = 0;

	c->all = c->scope.bytes;
	for (uint32_t i = 0; rc == 0 && i < c->scope.segs; i++)
		rc = scrub_segment(c, i, err);
	for (uint32_t i = 0; rc == 0 && i < c->scope.points; i++) {
		struct lb_hash point = point_at(c, i);

		rc = scrub_point(c, &point, err);
	}
	return rc;
}

/* ---- one point and its closure ---- */

/* All parts of layer @id, where the index says they are. */
static int scrub_parts(struct scrub *c, const struct lb_id *id, struct lb_err *err)
{
	struct rep_part *v = NULL;
	struct rep_layer *l;
	uint32_t n = 0;
	int rc = 0;

	rep_lock(c->s);
	l = layer_in_scope(c, id);
	if (l != NULL)
		rc = rep_layer_load(c->s, l, err);
	if (rc == 0 && l != NULL) {
		n = l->parts->n;
		v = malloc(((size_t)n + 1) * sizeof(*v));
		if (v == NULL)
			rc = lb_err_set(err, LB_ENOMEM, 0, "scrub %u parts", n);
		else if (n > 0)
			memcpy(v, l->parts->v, n * sizeof(*v));
	}
	rep_unlock(c->s);
	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		uint64_t next;

		if (v[i].seg == REP_NO_SEG)
			continue;
		rc = scrub_record(c, v[i].seg, (uint64_t)v[i].off8 * 8, &next, err);
		step(c, v[i].bytes);
	}
	free(v);
	return rc;
}

/* Layer @id and those its index refers to. */
static int closure_of_layer(struct scrub *c, struct rep_idset *x, const struct lb_id *id,
			    struct lb_err *err)
{
	const struct lb_id *source = NULL;
	uint32_t n = 0;
	struct rep_layer *l;
	int rc = rep_idset_add(x, id, NULL, err);

	rep_lock(c->s);
	l = layer_in_scope(c, id);
	rep_unlock(c->s);
	if (rc == 0 && l != NULL)
		rc = rep_layer_sources(c->s, l, &source, &n, err);
	if (is_damage(rc))
		return 0; /* told when its parts are read */
	for (uint32_t i = 0; rc == 0 && i < n; i++)
		rc = rep_idset_add(x, &source[i], NULL, err);
	return rc;
}

/* Layers of @point, and those their index refers to; *base: the next one of the chain. */
static int closure_of(struct scrub *c, struct rep_idset *x, const struct lb_hash *point,
		      struct lb_hash *base, struct lb_err *err)
{
	const struct rep_spoint *p;
	struct rep_idset own = {.n = 0};
	int rc = go_on(c, err);

	if (rc != 0)
		return rc;
	rep_lock(c->s);
	p = rep_point_lookup(c->s, point, NULL);
	*base = p != NULL ? p->pub.base : (struct lb_hash){{0}};
	for (uint32_t i = 0; p != NULL && rc == 0 && i < p->layers; i++) {
		c->all += p->pub.stored_bytes / p->layers;
		rc = rep_idset_add(&own, &p->layer[i], NULL, err);
	}
	rep_unlock(c->s);
	for (uint32_t i = 0; rc == 0 && i < own.n; i++)
		rc = closure_of_layer(c, x, &own.v[i], err);
	rep_idset_fini(&own);
	return rc;
}

static bool in_scope(struct scrub *c, const struct lb_hash *point)
{
	uint32_t index = 0;
	bool found;

	rep_lock(c->s);
	found = rep_point_lookup(c->s, point, &index) != NULL && index < c->scope.points;
	rep_unlock(c->s);
	return found;
}

static int scrub_one(struct scrub *c, const struct lb_hash *point, struct lb_err *err)
{
	struct rep_idset x = {.n = 0};
	struct lb_hash at = *point;
	struct rep_point p;
	char text[LB_HASH_TEXT];
	int rc = 0;

	if (!in_scope(c, point))
		return lb_err_set(err, LB_ENOTFOUND, 0, "point %.16s", lb_hash_text(point, text));
	while (rc == 0 && !lb_hash_is_zero(&at)) {
		struct lb_hash base;

		rc = closure_of(c, &x, &at, &base, err);
		at = base;
	}
	for (uint32_t i = 0; rc == 0 && i < x.n; i++)
		rc = scrub_parts(c, &x.v[i], err);
	at = *point;
	while (rc == 0 && !lb_hash_is_zero(&at)) {
		rc = scrub_point(c, &at, err);
		at = rep_store_point_find(c->s, &at, &p) ? p.base : (struct lb_hash){{0}};
	}
	rep_idset_fini(&x);
	return rc;
}

int rep_store_scrub(struct rep_store *s, const struct rep_scrub_opts *o, struct rep_scrub_stats *st,
		    struct lb_err *err)
{
	struct rep_scrub_stats own;
	struct scrub *c = calloc(1, sizeof(*c));
	int rc = 0;

	if (c == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "scrub");
	c->s = s;
	c->o = o;
	c->st = st != NULL ? st : &own;
	*c->st = (struct rep_scrub_stats){.records = 0};
	if (o->dek_of != NULL) {
		c->raw = malloc(REP_PACK_MAX_RAW);
		if (c->raw == NULL)
			rc = lb_err_set(err, LB_ENOMEM, 0, "scrub");
	}
	take_scope(c);
	if (rc == 0)
		rc = o->only != NULL ? scrub_one(c, o->only, err) : scrub_all(c, err);
	for (unsigned i = 0; i < SEEN_MAX; i++)
		seen_free(&c->seen[i]);
	if (c->raw != NULL)
		explicit_bzero(c->raw, REP_PACK_MAX_RAW);
	free(c->raw);
	if (rc == 0 && c->st->damaged > 0)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "%" PRIu64 " damaged objects", c->st->damaged);
	free(c);
	return rc;
}
