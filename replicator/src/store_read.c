#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "store_int.h"

int rep_part_get(struct rep_store *s, const struct lb_id *layer, enum rep_record_kind kind,
		 uint32_t number, struct rep_part *out, struct lb_err *err)
{
	const struct rep_part *p = NULL;
	struct rep_layer *l;
	char id[LB_ID_TEXT];
	int rc = 0;

	rep_lock(s);
	l = rep_layer_find(s, layer);
	if (l != NULL && !l->abandoned)
		rc = rep_layer_load(s, l, err);
	if (rc == 0 && l != NULL && l->parts != NULL)
		p = rep_parts_find(l->parts, kind, number);
	if (rc == 0 && (p == NULL || p->seg == REP_NO_SEG))
		rc = lb_err_set(err, LB_ENOTFOUND, 0, "layer %.8s: part %u of kind %d is not held",
				lb_id_text(layer, id), number, (int)kind);
	if (rc == 0)
		*out = *p;
	rep_unlock(s);
	return rc;
}

static void read_damage(struct rep_store *s, const struct lb_id *layer, const struct rep_part *p,
			const char *why)
{
	struct rep_damage d = {.layer = *layer,
			       .kind = (enum rep_record_kind)p->kind,
			       .number = p->number,
			       .offset = (uint64_t)p->off8 * 8};

	rep_lock(s);
	d.segment = s->seg[p->seg].number;
	rep_damage_text(s, &d, why);
	rep_damage_add(s, &d);
	rep_unlock(s);
}

int rep_store_read_part(struct rep_store *s, const struct lb_id *layer, enum rep_record_kind kind,
			uint32_t number, struct lb_buf **out, struct lb_err *err)
{
	struct lb_err own = {.code = 0};
	struct rep_part part;
	int rc = rep_part_get(s, layer, kind, number, &part, err);

	if (rc != 0)
		return rc;
	rc = rep_store_part(s, layer, &part, out, &own);
	if (rc == LB_ECORRUPT)
		read_damage(s, layer, &part, own.msg);
	if (rc != 0 && err != NULL)
		*err = own;
	return rc;
}

/* ---- drafts ---- */

static struct rep_layer *loaded(struct rep_store *s, const struct lb_id *layer)
{
	struct rep_layer *l = rep_layer_find(s, layer);

	if (l == NULL || l->abandoned || l->segs == 0 || rep_layer_load(s, l, NULL) != 0)
		return NULL;
	return l;
}

bool rep_store_have(struct rep_store *s, const struct lb_id *layer, struct rep_have *out)
{
	const struct rep_layer *l;

	rep_lock(s);
	l = loaded(s, layer);
	if (l != NULL)
		*out = (struct rep_have){
			.header =
				rep_part_held(rep_parts_find(l->parts, REP_RECORD_LAYER_HEADER, 0)),
			.footer = rep_part_held(rep_parts_find(l->parts, REP_RECORD_FOOTER, 0)),
			.packs = l->parts->packs,
			.first_missing = l->parts->first_missing,
		};
	rep_unlock(s);
	return l != NULL;
}

bool rep_store_have_part(struct rep_store *s, const struct lb_id *layer, enum rep_record_kind kind,
			 uint32_t number)
{
	const struct rep_layer *l;
	bool held;

	rep_lock(s);
	l = loaded(s, layer);
	held = l != NULL && rep_part_held(rep_parts_find(l->parts, kind, number));
	rep_unlock(s);
	return held;
}

/* Keep @out ascending and at most @max long; the largest falls out. */
static uint32_t insert_number(uint32_t *out, uint32_t n, uint32_t max, uint32_t number)
{
	uint32_t at = n;

	while (at > 0 && out[at - 1] > number)
		at--;
	if (at == max)
		return n;
	if (n == max)
		n--;
	memmove(&out[at + 1], &out[at], (n - at) * sizeof(*out));
	out[at] = number;
	return n + 1;
}

uint32_t rep_store_have_extra(struct rep_store *s, const struct lb_id *layer, uint32_t *out,
			      uint32_t max)
{
	const struct rep_layer *l;
	uint32_t n = 0;

	rep_lock(s);
	l = loaded(s, layer);
	for (uint32_t i = 0; l != NULL && i < l->parts->n; i++) {
		const struct rep_part *p = &l->parts->v[i];

		if (p->kind == REP_RECORD_PACK && p->number > l->parts->first_missing &&
		    rep_part_held(p))
			n = insert_number(out, n, max, p->number);
	}
	rep_unlock(s);
	return n;
}

/* ---- points ---- */

static void copy_point(struct rep_store *s, struct rep_spoint *p, struct rep_point *out)
{
	const struct rep_point_core *c = &p->pub;

	*out = (struct rep_point){
		.manifest = c->manifest,
		.group = c->group,
		.epoch = c->epoch,
		.seq = c->seq,
		.prev = c->prev,
		.base = c->base,
		.capture_wall_ns = c->capture_wall_ns,
		.capture_boot_ns = c->capture_boot_ns,
		.receive_wall_ns = c->receive_wall_ns,
		.stored_bytes = c->stored_bytes,
		.consistency = c->consistency,
		.damaged = rep_point_damaged(s, p),
	};
	memcpy(out->group_name, p->name->text, sizeof(out->group_name));
}

int rep_store_points(struct rep_store *s, const struct lb_id *group, rep_point_fn fn, void *arg)
{
	/* Points are only ever added at the end: the lock is not held over @fn. */
	for (uint32_t i = 0;; i++) {
		struct rep_point p;
		bool end;
		bool take = false;
		int rc;

		rep_lock(s);
		end = i >= s->points;
		if (!end && s->point[i]->visible &&
		    (group == NULL || lb_id_equal(group, &s->point[i]->pub.group))) {
			copy_point(s, s->point[i], &p);
			take = true;
		}
		rep_unlock(s);
		if (end)
			return 0;
		rc = take ? fn(arg, &p) : 0;
		if (rc != 0)
			return rc;
	}
}

bool rep_store_head(struct rep_store *s, const struct lb_id *group, struct rep_point *out)
{
	bool found = false;

	rep_lock(s);
	for (uint32_t i = 0; i < s->heads && !found; i++) {
		found = lb_id_equal(&s->head[i].group, group) && s->head[i].point != UINT32_MAX;
		if (found)
			copy_point(s, s->point[s->head[i].point], out);
	}
	rep_unlock(s);
	return found;
}

bool rep_store_point_find(struct rep_store *s, const struct lb_hash *manifest,
			  struct rep_point *out)
{
	struct rep_spoint *p;
	bool found;

	rep_lock(s);
	p = rep_point_lookup(s, manifest, NULL);
	found = p != NULL && p->visible;
	if (found)
		copy_point(s, p, out);
	rep_unlock(s);
	return found;
}

static int point_loc(struct rep_store *s, const struct lb_hash *manifest, bool receipt,
		     struct rep_loc *out, struct lb_err *err)
{
	const struct rep_spoint *p;
	char text[LB_HASH_TEXT];
	int rc = 0;

	rep_lock(s);
	p = rep_point_lookup(s, manifest, NULL);
	if (p == NULL || !p->visible || (receipt && p->receipt.seg == REP_NO_SEG))
		rc = lb_err_set(err, LB_ENOTFOUND, 0, "%s of point %.16s",
				receipt ? "receipt" : "manifest", lb_hash_text(manifest, text));
	else
		*out = receipt ? p->receipt : p->manifest;
	rep_unlock(s);
	return rc;
}

int rep_store_read_manifest(struct rep_store *s, const struct lb_hash *manifest,
			    struct lb_buf **out, struct lb_err *err)
{
	struct rep_record r;
	struct rep_loc loc;
	struct lb_hash hash;
	struct lb_buf *b = NULL;
	int rc = point_loc(s, manifest, false, &loc, err);

	if (rc == 0)
		rc = rep_store_record(s, loc, &r, &b, err);
	if (rc == 0) {
		rep_manifest_hash(&hash, b->p, b->len);
		if (r.kind != REP_RECORD_MANIFEST || !lb_hash_equal(&hash, manifest))
			rc = lb_err_set(err, LB_ECORRUPT, 0, "manifest: its hash is another");
	}
	if (rc == 0) {
		*out = b;
		b = NULL;
	}
	lb_buf_unref(b);
	return rc;
}

int rep_store_read_receipt(struct rep_store *s, const struct lb_hash *manifest, uint8_t *out,
			   size_t out_bytes, struct lb_err *err)
{
	struct rep_record r;
	struct rep_loc loc;
	struct lb_buf *b = NULL;
	int rc = point_loc(s, manifest, true, &loc, err);

	if (rc == 0)
		rc = rep_store_record(s, loc, &r, &b, err);
	if (rc == 0 && (r.kind != REP_RECORD_RECEIPT || b->len > out_bytes))
		rc = lb_err_set(err, LB_ECORRUPT, 0, "receipt: not the record listed there");
	if (rc == 0)
		memcpy(out, b->p, b->len);
	lb_buf_unref(b);
	return rc;
}

/* ---- the store ---- */

uint64_t rep_store_damage(struct rep_store *s, rep_damage_fn fn, void *arg)
{
	uint64_t n;

	for (uint32_t i = 0;; i++) {
		struct rep_damage d;
		bool end;

		rep_lock(s);
		end = i >= s->damages;
		if (!end)
			d = s->damage[i];
		n = s->damages + s->damage_dropped;
		rep_unlock(s);
		if (end)
			return n;
		if (fn != NULL)
			fn(arg, &d);
	}
}

void rep_store_recovery(struct rep_store *s, struct rep_recovery *out)
{
	*out = s->recovery;
}

uint64_t rep_store_bytes(struct rep_store *s)
{
	uint64_t n = 0;

	rep_lock(s);
	for (uint32_t i = 0; i < s->segs; i++)
		n += s->seg[i].bytes;
	rep_unlock(s);
	return n;
}

void rep_store_id(struct rep_store *s, struct lb_id *out)
{
	*out = s->id;
}
