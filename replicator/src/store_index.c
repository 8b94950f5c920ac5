#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "store_int.h"

/* ---- layers ---- */

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= UINT64_C(0x9e3779b97f4a7c15);
	return x ^ (x >> 29);
}

/* Peers choose layer ids: the salt keeps them from choosing collisions. */
static uint64_t id_slot(const struct rep_store *s, const struct lb_id *id)
{
	uint64_t w[2];

	memcpy(w, id->b, sizeof(w));
	return mix(mix(w[0] ^ s->layer_salt) + w[1]);
}

static uint32_t layer_slot(const struct rep_store *s, const struct lb_id *id)
{
	uint32_t mask = s->layer_slots - 1;
	uint32_t i = (uint32_t)id_slot(s, id) & mask;

	while (s->layer[i] != NULL && !lb_id_equal(&s->layer[i]->id, id))
		i = (i + 1) & mask;
	return i;
}

struct rep_layer *rep_layer_find(struct rep_store *s, const struct lb_id *id)
{
	return s->layer_slots == 0 ? NULL : s->layer[layer_slot(s, id)];
}

static int grow_layers(struct rep_store *s, struct lb_err *err)
{
	uint32_t old_slots = s->layer_slots;
	struct rep_layer **old = s->layer;
	uint32_t want = old_slots == 0 ? 64 : old_slots * 2;
	struct rep_layer **more = calloc(want, sizeof(struct rep_layer *));

	if (more == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "index %u layers", want);
	s->layer = more;
	s->layer_slots = want;
	for (uint32_t i = 0; i < old_slots; i++)
		if (old[i] != NULL)
			s->layer[layer_slot(s, &old[i]->id)] = old[i];
	free(old);
	return 0;
}

int rep_layer_get(struct rep_layer **out, struct rep_store *s, const struct lb_id *id,
		  struct lb_err *err)
{
	struct rep_layer *l = rep_layer_find(s, id);

	if (l == NULL) {
		if (s->layers >= s->layer_slots / 2) {
			int rc = grow_layers(s, err);

			if (rc != 0)
				return rc;
		}
		l = calloc(1, sizeof(*l));
		if (l == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "index a layer");
		l->id = *id;
		s->layer[layer_slot(s, id)] = l;
		s->layers++;
	}
	*out = l;
	return 0;
}

void rep_layer_forget_empty(struct rep_store *s, const struct lb_id *id)
{
	struct rep_layer *l = rep_layer_find(s, id);
	uint32_t mask = s->layer_slots - 1;
	uint32_t hole;

	if (l == NULL || l->visible || l->segs != 0)
		return;
	hole = layer_slot(s, id);
	s->layer[hole] = NULL;
	s->layers--;
	rep_layer_destroy(l);
	/* Those behind it up to the next free slot may have been pushed there: nearer to home. */
	for (uint32_t i = (hole + 1) & mask; s->layer[i] != NULL; i = (i + 1) & mask) {
		uint32_t home = (uint32_t)id_slot(s, &s->layer[i]->id) & mask;

		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		s->layer[hole] = s->layer[i];
		s->layer[i] = NULL;
		hole = i;
	}
}

static uint32_t segs_cap(const struct rep_layer *l)
{
	return l->seg_cap != 0 ? l->seg_cap : REP_SEGS_FEW;
}

const uint32_t *rep_layer_segs(const struct rep_layer *l)
{
	return l->seg_cap != 0 ? l->seg.more : l->seg.few;
}

int rep_layer_reserve_seg(struct rep_layer *l, struct lb_err *err)
{
	uint32_t want = segs_cap(l) * 2;
	uint32_t *more;

	if (l->segs < segs_cap(l))
		return 0;
	more = realloc(l->seg_cap != 0 ? l->seg.more : NULL, want * sizeof(*more));
	if (more == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "index a layer's segments");
	if (l->seg_cap == 0)
		memcpy(more, l->seg.few, sizeof(l->seg.few));
	l->seg.more = more;
	l->seg_cap = want;
	return 0;
}

void rep_layer_in_seg(struct rep_layer *l, uint32_t seg)
{
	uint32_t *v = l->seg_cap != 0 ? l->seg.more : l->seg.few;

	if (l->segs > 0 && v[l->segs - 1] == seg)
		return;
	LB_ASSERT(l->segs < segs_cap(l));
	v[l->segs++] = seg;
}

bool rep_chain_has(struct rep_store *s, uint32_t index, const struct lb_id *id, uint32_t n)
{
	const struct rep_spoint *p = s->point[index];

	for (uint32_t i = 0; i < n; i++) {
		const struct rep_layer *l = rep_layer_find(s, &id[i]);

		if (l == NULL || !l->visible || l->point < p->chain || l->point >= index ||
		    !lb_id_equal(&l->group, &p->pub.group))
			return false;
	}
	return true;
}

void rep_layer_seal(struct rep_store *s, struct rep_layer *l, uint32_t index)
{
	if (l->visible)
		return;
	l->visible = true;
	l->point = index;
	if (l->sources > 0 && rep_chain_has(s, index, l->source, l->sources)) {
		free(l->source);
		l->source = NULL;
		l->sources = 0;
		l->sources_known = false;
	}
	if (l->parts != NULL)
		rep_layer_cache(s, l);
}

void rep_layer_destroy(struct rep_layer *l)
{
	if (l == NULL)
		return;
	rep_parts_destroy(l->parts);
	free(l->source);
	if (l->seg_cap != 0)
		free(l->seg.more);
	free(l);
}

/* ---- parts of a layer ---- */

int rep_parts_create(struct rep_parts **out, bool leaves, struct lb_err *err)
{
	struct rep_parts *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "index parts");
	if (leaves) {
		p->leaf = calloc(8, sizeof(*p->leaf));
		p->v = calloc(8, sizeof(*p->v));
		p->cap = 8;
		if (p->leaf == NULL || p->v == NULL) {
			rep_parts_destroy(p);
			return lb_err_set(err, LB_ENOMEM, 0, "index parts");
		}
	}
	*out = p;
	return 0;
}

void rep_parts_destroy(struct rep_parts *p)
{
	if (p == NULL)
		return;
	if (p->v != p->room)
		free(p->v);
	free(p->leaf);
	free(p->checked);
	free(p->slot);
	free(p);
}

static int by_number(const void *pa, const void *pb)
{
	const struct rep_part *a = pa;
	const struct rep_part *b = pb;

	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return a->number < b->number ? -1 : a->number > b->number;
}

void rep_parts_pack(struct rep_parts **p)
{
	struct rep_parts *old = *p;
	struct rep_parts *now = malloc(sizeof(*now) + old->n * sizeof(*old->v));

	if (now == NULL) {
		free(old->leaf);
		old->leaf = NULL;
		return;
	}
	*now = (struct rep_parts){
		.n = old->n, .packs = old->packs, .first_missing = old->first_missing};
	now->v = now->room;
	if (old->n > 0)
		memcpy(now->v, old->v, old->n * sizeof(*old->v));
	qsort(now->v, now->n, sizeof(*now->v), by_number);
	rep_parts_destroy(old);
	*p = now;
}

static uint32_t part_slot(const struct rep_parts *p, uint16_t kind, uint32_t number)
{
	uint32_t mask = p->slots - 1;
	uint32_t i = (uint32_t)mix(((uint64_t)kind << 32) | number) & mask;

	while (p->slot[i] != 0) {
		const struct rep_part *v = &p->v[p->slot[i] - 1];

		if (v->kind == kind && v->number == number)
			break;
		i = (i + 1) & mask;
	}
	return i;
}

static int grow_slots(struct rep_parts *p, struct lb_err *err)
{
	uint32_t want = p->slots == 0 ? 16 : p->slots * 2;
	uint32_t *slot = calloc(want, sizeof(*slot));

	if (slot == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "index %u parts", want);
	free(p->slot);
	p->slot = slot;
	p->slots = want;
	for (uint32_t i = 0; i < p->n; i++)
		p->slot[part_slot(p, p->v[i].kind, p->v[i].number)] = i + 1;
	return 0;
}

static int grow_array(struct rep_parts *p, struct lb_err *err)
{
	uint32_t want = p->cap == 0 ? 8 : p->cap + p->cap / 2;
	struct rep_part *v = realloc(p->v, want * sizeof(*v));

	if (v == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "index %u parts", want);
	p->v = v;
	if (p->leaf != NULL) {
		struct lb_hash *leaf = realloc(p->leaf, want * sizeof(*leaf));

		if (leaf == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "index %u leaves", want);
		p->leaf = leaf;
	}
	p->cap = want;
	return 0;
}

int rep_parts_reserve(struct rep_parts *p, struct lb_err *err)
{
	int rc = 0;

	LB_ASSERT(p->v != p->room);
	if (p->n == p->cap)
		rc = grow_array(p, err);
	if (rc == 0 && (p->n + 1) * 2 > p->slots)
		rc = grow_slots(p, err);
	return rc;
}

struct rep_part *rep_parts_find(const struct rep_parts *p, enum rep_record_kind kind,
				uint32_t number)
{
	const struct rep_part key = {.kind = (uint16_t)kind, .number = number};
	uint32_t at;

	if (p->slots == 0)
		return p->n == 0 ? NULL : bsearch(&key, p->v, p->n, sizeof(*p->v), by_number);
	at = p->slot[part_slot(p, (uint16_t)kind, number)];
	return at == 0 ? NULL : &p->v[at - 1];
}

bool rep_part_held(const struct rep_part *p)
{
	return p != NULL && p->seg != REP_NO_SEG && p->bad == 0;
}

/* Everything below first_missing is held; advance it as far as that is still true. */
static void count_packs(struct rep_parts *p)
{
	while (rep_part_held(rep_parts_find(p, REP_RECORD_PACK, p->first_missing)))
		p->first_missing++;
}

void rep_parts_add(struct rep_parts *p, const struct rep_part *part, const struct lb_hash *leaf)
{
	uint32_t slot = part_slot(p, part->kind, part->number);
	uint32_t at = p->slot[slot];
	bool held = at != 0 && rep_part_held(&p->v[at - 1]);

	if (at == 0) {
		LB_ASSERT(p->n < p->cap);
		at = ++p->n;
		p->slot[slot] = at;
	}
	p->v[at - 1] = *part;
	p->v[at - 1].has_leaf = p->leaf != NULL && leaf != NULL;
	if (p->leaf != NULL && leaf != NULL)
		p->leaf[at - 1] = *leaf;
	if (part->kind != REP_RECORD_PACK)
		return;
	if (!held && rep_part_held(part))
		p->packs++;
	else if (held && !rep_part_held(part))
		p->packs--;
	if (part->number < p->first_missing && !rep_part_held(part))
		p->first_missing = part->number;
	count_packs(p);
}

void rep_parts_drop(struct rep_parts *p, struct rep_part *part)
{
	struct rep_part gone = *part;

	gone.seg = REP_NO_SEG;
	rep_parts_add(p, &gone, NULL);
}

/* ---- points ---- */

static const struct rep_group_name *name_of(struct rep_store *s, const struct rep_manifest *m)
{
	struct rep_group_head *h = NULL;
	struct rep_group_name *name;

	for (uint32_t i = 0; i < s->heads; i++)
		if (lb_id_equal(&s->head[i].group, &m->group))
			h = &s->head[i];
	LB_ASSERT(h != NULL);
	if (h->name != NULL && strcmp(h->name->text, m->group_name) == 0)
		return h->name;
	name = calloc(1, sizeof(*name));
	if (name == NULL)
		return NULL;
	memcpy(name->text, m->group_name, sizeof(name->text));
	name->next = s->names;
	s->names = name;
	h->name = name;
	return name;
}

int rep_point_create(struct rep_spoint **out, struct rep_store *s, const struct rep_manifest *m,
		     const struct lb_hash *hash, struct rep_loc loc, struct lb_err *err)
{
	const struct rep_group_name *name = name_of(s, m);
	struct rep_spoint *p = calloc(1, sizeof(*p) + m->volumes * sizeof(*p->layer));

	if (p == NULL || name == NULL) {
		free(p);
		return lb_err_set(err, LB_ENOMEM, 0, "index a point");
	}
	p->manifest = loc;
	p->receipt = (struct rep_loc){.seg = REP_NO_SEG};
	p->name = name;
	p->layers = m->volumes;
	p->pub = (struct rep_point_core){
		.manifest = *hash,
		.group = m->group,
		.epoch = m->epoch,
		.seq = m->seq,
		.prev = m->prev,
		.base = m->base,
		.capture_wall_ns = m->capture_wall_ns,
		.capture_boot_ns = m->capture_boot_ns,
		.consistency = m->consistency,
	};
	for (uint32_t i = 0; i < m->volumes; i++) {
		p->layer[i] = m->volume[i].layer;
		p->pub.stored_bytes += m->volume[i].layer_bytes;
	}
	*out = p;
	return 0;
}

static uint32_t hash_slot(const struct rep_store *s, const struct lb_hash *h)
{
	uint32_t mask = s->point_slots - 1;
	uint64_t w;
	uint32_t i;

	memcpy(&w, h->b, sizeof(w));
	i = (uint32_t)mix(w ^ s->layer_salt) & mask;
	while (s->point_slot[i] != 0 &&
	       !lb_hash_equal(&s->point[s->point_slot[i] - 1]->pub.manifest, h))
		i = (i + 1) & mask;
	return i;
}

struct rep_spoint *rep_point_lookup(struct rep_store *s, const struct lb_hash *manifest,
				    uint32_t *index)
{
	uint32_t at;

	if (s->point_slots == 0)
		return NULL;
	at = s->point_slot[hash_slot(s, manifest)];
	if (at == 0)
		return NULL;
	if (index != NULL)
		*index = at - 1;
	return s->point[at - 1];
}

static int grow_points(struct rep_store *s, struct lb_err *err)
{
	uint32_t want = s->point_cap == 0 ? 32 : s->point_cap * 2;
	struct rep_spoint **v = realloc(s->point, want * sizeof(struct rep_spoint *));
	uint32_t *slot;

	if (v == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "index %u points", want);
	s->point = v;
	slot = calloc((size_t)want * 2, sizeof(*slot));
	if (slot == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "index %u points", want);
	free(s->point_slot);
	s->point_slot = slot;
	s->point_slots = want * 2;
	s->point_cap = want;
	for (uint32_t i = 0; i < s->points; i++)
		s->point_slot[hash_slot(s, &s->point[i]->pub.manifest)] = i + 1;
	return 0;
}

static int head_of(struct rep_store *s, const struct lb_id *group, struct rep_group_head **out,
		   struct lb_err *err)
{
	for (uint32_t i = 0; i < s->heads; i++) {
		if (lb_id_equal(&s->head[i].group, group)) {
			*out = &s->head[i];
			return 0;
		}
	}
	if (s->heads == s->head_cap) {
		uint32_t want = s->head_cap == 0 ? 8 : s->head_cap * 2;
		struct rep_group_head *more = realloc(s->head, want * sizeof(*more));

		if (more == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "index %u groups", want);
		s->head = more;
		s->head_cap = want;
	}
	*out = &s->head[s->heads++];
	**out = (struct rep_group_head){.group = *group, .point = UINT32_MAX, .last = UINT32_MAX};
	return 0;
}

void rep_point_add(struct rep_store *s, struct rep_spoint *p)
{
	struct rep_group_head *h = NULL;
	uint32_t base;

	LB_ASSERT(s->points < s->point_cap && head_of(s, &p->pub.group, &h, NULL) == 0);
	p->chain = UINT32_MAX;
	if (lb_hash_is_zero(&p->pub.base))
		p->chain = s->points;
	else if (rep_point_lookup(s, &p->pub.base, &base) != NULL && base == h->last)
		p->chain = s->point[base]->chain;
	h->last = s->points;
	s->point[s->points++] = p;
	s->point_slot[hash_slot(s, &p->pub.manifest)] = s->points;
}

static bool newer(const struct rep_point_core *a, const struct rep_point_core *b)
{
	return a->epoch != b->epoch ? a->epoch > b->epoch : a->seq > b->seq;
}

int rep_points_reserve(struct rep_store *s, const struct lb_id *group, struct lb_err *err)
{
	struct rep_group_head *h;
	int rc = s->points < s->point_cap ? 0 : grow_points(s, err);

	return rc != 0 ? rc : head_of(s, group, &h, err);
}

void rep_point_show(struct rep_store *s, uint32_t index)
{
	struct rep_spoint *p = s->point[index];
	struct rep_group_head *h = NULL;

	LB_ASSERT(head_of(s, &p->pub.group, &h, NULL) == 0);
	p->visible = true;
	for (uint32_t i = 0; i < p->layers; i++) {
		struct rep_layer *l = rep_layer_find(s, &p->layer[i]);

		if (l != NULL)
			rep_layer_seal(s, l, index);
	}
	if (h->point == UINT32_MAX || newer(&p->pub, &s->point[h->point]->pub))
		h->point = index;
}

static struct rep_spoint *point_of_layer(struct rep_store *s, const struct lb_id *layer)
{
	for (uint32_t i = 0; i < s->points; i++)
		for (uint32_t k = 0; k < s->point[i]->layers; k++)
			if (lb_id_equal(&s->point[i]->layer[k], layer))
				return s->point[i];
	return NULL;
}

/* ---- damage ---- */

static bool layer_damaged(struct rep_store *s, const struct lb_id *id)
{
	const struct rep_layer *l = rep_layer_find(s, id);

	if (l == NULL || l->damaged)
		return true;
	for (uint32_t i = 0; i < l->sources; i++) {
		const struct rep_layer *src = rep_layer_find(s, &l->source[i]);

		if (src == NULL || src->damaged)
			return true;
	}
	return false;
}

static bool own_damaged(struct rep_store *s, const struct rep_spoint *p)
{
	if (p->damaged)
		return true;
	for (uint32_t i = 0; i < p->layers; i++)
		if (layer_damaged(s, &p->layer[i]))
			return true;
	return false;
}

/* What @p is a delta against; NULL: nothing, or it is not there. */
static struct rep_spoint *base_of(struct rep_store *s, const struct rep_spoint *p)
{
	return lb_hash_is_zero(&p->pub.base) ? NULL : rep_point_lookup(s, &p->pub.base, NULL);
}

/*
 * A point is damaged when its own manifest, a layer of its chain of bases, or a layer one of these
 * refers to is; or when the chain does not end well. Down to the first that is known or decides,
 * which all above it share: a chain may be as long as there are points, and all are asked for.
 */
bool rep_point_damaged(struct rep_store *s, struct rep_spoint *p)
{
	const struct rep_spoint *last = NULL;
	bool bad = false;

	if (!s->any_damage)
		return false;
	for (struct rep_spoint *at = p; at != NULL; at = base_of(s, at)) {
		bool known = at->looked == s->damage_changes;

		last = at;
		bad = known ? at->chain_bad : own_damaged(s, at);
		if (known || bad)
			break;
		bad = !lb_hash_is_zero(&at->pub.base); /* if there is no next one */
	}
	for (struct rep_spoint *at = p; at != NULL; at = at == last ? NULL : base_of(s, at)) {
		at->looked = s->damage_changes;
		at->chain_bad = bad;
	}
	return bad;
}

static bool same_damage(const struct rep_damage *a, const struct rep_damage *b)
{
	return a->kind == b->kind && a->segment == b->segment && a->offset == b->offset &&
	       a->number == b->number && lb_id_equal(&a->layer, &b->layer) &&
	       lb_hash_equal(&a->manifest, &b->manifest);
}

void rep_damage_add(struct rep_store *s, const struct rep_damage *d)
{
	struct rep_layer *l = lb_id_is_zero(&d->layer) ? NULL : rep_layer_find(s, &d->layer);
	struct rep_spoint *p =
		lb_hash_is_zero(&d->manifest) ? NULL : rep_point_lookup(s, &d->manifest, NULL);

	s->any_damage = true;
	s->damage_changes++;
	if (l != NULL)
		l->damaged = true;
	else if (p != NULL)
		p->damaged = true;
	for (uint32_t i = 0; i < s->damages; i++)
		if (same_damage(&s->damage[i], d))
			return;
	if (s->damages == REP_DAMAGE_MAX) {
		s->damage_dropped++;
		return;
	}
	if (s->damage == NULL)
		s->damage = calloc(REP_DAMAGE_MAX, sizeof(*s->damage));
	if (s->damage != NULL)
		s->damage[s->damages++] = *d;
	else
		s->damage_dropped++;
}

static const char *kind_name(enum rep_record_kind k)
{
	switch (k) {
	case REP_RECORD_SEGMENT:
		return "segment head";
	case REP_RECORD_MARK:
		return "commit mark";
	case REP_RECORD_DIRECTORY:
		return "directory";
	case REP_RECORD_LAYER_HEADER:
		return "layer header";
	case REP_RECORD_PACK:
		return "pack";
	case REP_RECORD_DIGESTS:
		return "digests";
	case REP_RECORD_INDEX:
		return "index";
	case REP_RECORD_LEAVES:
		return "leaves";
	case REP_RECORD_FOOTER:
		return "footer";
	case REP_RECORD_MANIFEST:
		return "manifest";
	case REP_RECORD_RECEIPT:
		return "receipt";
	case REP_RECORD_HOLD:
	case REP_RECORD_BRANCH:
	case REP_RECORD_SPAN:
	case REP_RECORD_REMOVAL:
	case REP_RECORD_ABANDON:
		break;
	}
	return "record";
}

/* Fill d->what: the object first, for it may be cut off at the end. */
void rep_damage_text(struct rep_store *s, struct rep_damage *d, const char *why)
{
	char of[80] = "";
	struct rep_spoint *p = NULL;
	char id[LB_ID_TEXT];

	if (!lb_hash_is_zero(&d->manifest))
		p = rep_point_lookup(s, &d->manifest, NULL);
	else if (!lb_id_is_zero(&d->layer))
		p = point_of_layer(s, &d->layer);
	if (p != NULL)
		(void)snprintf(of, sizeof(of), "%.40s seq %" PRIu64 " ", p->name->text, p->pub.seq);
	else if (!lb_id_is_zero(&d->layer))
		(void)snprintf(of, sizeof(of), "draft %.8s ", lb_id_text(&d->layer, id));
	if (p != NULL)
		d->manifest = p->pub.manifest;
	(void)snprintf(d->what, sizeof(d->what),
		       "%s%s %u in segment %" PRIx64 " at %" PRIu64 ": %s", of, kind_name(d->kind),
		       d->number, d->segment, d->offset, why);
}
