/* Payloads of the conversation about one point: OFFER, ADMIT, REFUSE, RECORD, POINT. */
#include <string.h>

#include "format_int.h"
#include "frame_int.h"

/* ---- OFFER ---- */

void rep_put_offer(const struct rep_frame *f, struct lb_wr *wr)
{
	const struct rep_offer *o = &f->offer;

	if (o->layers > REP_OFFER_MAX_LAYERS) {
		wr->bad = true;
		return;
	}
	lb_wr_id(wr, &o->group);
	lb_wr_u64le(wr, o->epoch);
	lb_wr_u64le(wr, o->seq);
	lb_wr_hash(wr, &o->base);
	lb_wr_hash(wr, &o->prev);
	lb_wr_u32le(wr, o->layers);
	lb_wr_str16(wr, o->group_name);
	for (uint32_t i = 0; i < o->layers; i++) {
		lb_wr_id(wr, &o->layer[i].machine);
		lb_wr_id(wr, &o->layer[i].volume);
		lb_wr_id(wr, &o->layer[i].layer);
		lb_wr_u64le(wr, o->layer[i].volume_bytes);
		lb_wr_u8(wr, (uint8_t)o->layer[i].kind);
		lb_wr_zeros(wr, 7);
	}
}

static const char *get_offer_layer(struct rep_offer *o, uint32_t i, struct lb_rd *rd)
{
	struct rep_offer_layer *l = &o->layer[i];

	l->machine = lb_rd_id(rd);
	l->volume = lb_rd_id(rd);
	l->layer = lb_rd_id(rd);
	l->volume_bytes = lb_rd_u64le(rd);
	l->kind = lb_rd_u8(rd);
	if (!rep_rd_zeros(rd, 7))
		return "reserved bytes";
	if (!rep_volume_kind_valid((unsigned)l->kind))
		return "volume kind";
	if (!rep_volume_bytes_valid(l->volume_bytes))
		return "volume size";
	if (lb_id_is_zero(&l->layer))
		return "layer id";
	for (uint32_t k = 0; k < i; k++) {
		if (lb_id_equal(&o->layer[k].layer, &l->layer))
			return "a layer twice";
		if (lb_id_equal(&o->layer[k].volume, &l->volume) &&
		    lb_id_equal(&o->layer[k].machine, &l->machine))
			return "a volume twice";
	}
	return NULL;
}

const char *rep_get_offer(struct rep_frame *f, struct lb_rd *rd)
{
	struct rep_offer *o = &f->offer;

	o->group = lb_rd_id(rd);
	o->epoch = lb_rd_u64le(rd);
	o->seq = lb_rd_u64le(rd);
	o->base = lb_rd_hash(rd);
	o->prev = lb_rd_hash(rd);
	o->layers = lb_rd_u32le(rd);
	if (!rep_rd_name(rd, o->group_name))
		return "group name";
	if (o->layers < 1 || o->layers > REP_OFFER_MAX_LAYERS)
		return "layer count";
	for (uint32_t i = 0; i < o->layers; i++) {
		const char *wrong = get_offer_layer(o, i, rd);

		if (wrong != NULL)
			return wrong;
	}
	return NULL;
}

/* ---- ADMIT ---- */

void rep_put_admit(const struct rep_frame *f, struct lb_wr *wr)
{
	const struct rep_admit *a = &f->admit;

	if (a->layers > REP_OFFER_MAX_LAYERS || a->extras > REP_ADMIT_MAX_EXTRA) {
		wr->bad = true;
		return;
	}
	lb_wr_id(wr, &a->group);
	lb_wr_u64le(wr, a->epoch);
	lb_wr_u64le(wr, a->seq);
	lb_wr_u32le(wr, a->layers);
	lb_wr_u32le(wr, a->extras);
	for (uint32_t i = 0; i < a->layers; i++) {
		lb_wr_id(wr, &a->layer[i].layer);
		lb_wr_u32le(wr, a->layer[i].first_missing);
		lb_wr_u8(wr, a->layer[i].header ? 1 : 0);
		lb_wr_zeros(wr, 3);
	}
	for (uint32_t i = 0; i < a->extras; i++) {
		lb_wr_u16le(wr, a->extra[i].layer);
		lb_wr_u16le(wr, 0);
		lb_wr_u32le(wr, a->extra[i].number);
	}
}

static const char *get_admit_layer(struct rep_admit *a, uint32_t i, struct lb_rd *rd)
{
	a->layer[i].layer = lb_rd_id(rd);
	a->layer[i].first_missing = lb_rd_u32le(rd);
	unsigned header = lb_rd_u8(rd);

	a->layer[i].header = header == 1;
	if (!rep_rd_zeros(rd, 3) || header > 1)
		return "reserved bytes";
	if (a->layer[i].first_missing > REP_LAYER_MAX_PACKS)
		return "first missing pack";
	if (lb_id_is_zero(&a->layer[i].layer))
		return "layer id";
	for (uint32_t k = 0; k < i; k++) {
		if (lb_id_equal(&a->layer[k].layer, &a->layer[i].layer))
			return "a layer twice";
	}
	return NULL;
}

/* Extras ascend by (layer, number) and say something new: the first missing pack is not held. */
static const char *get_admit_extra(struct rep_admit *a, uint32_t i, struct lb_rd *rd)
{
	uint16_t layer = lb_rd_u16le(rd);
	bool zeros = rep_rd_zeros(rd, 2);
	uint32_t number = lb_rd_u32le(rd);

	if (!zeros)
		return "reserved bytes";
	if (layer >= a->layers)
		return "extra's layer";
	if (number >= REP_LAYER_MAX_PACKS || number <= a->layer[layer].first_missing)
		return "extra's pack";
	if (i > 0 && (layer < a->extra[i - 1].layer ||
		      (layer == a->extra[i - 1].layer && number <= a->extra[i - 1].number)))
		return "order of extras";
	a->extra[i].layer = layer;
	a->extra[i].number = number;
	return NULL;
}

const char *rep_get_admit(struct rep_frame *f, struct lb_rd *rd)
{
	struct rep_admit *a = &f->admit;
	const char *wrong = NULL;

	a->group = lb_rd_id(rd);
	a->epoch = lb_rd_u64le(rd);
	a->seq = lb_rd_u64le(rd);
	a->layers = lb_rd_u32le(rd);
	a->extras = lb_rd_u32le(rd);
	if (a->layers < 1 || a->layers > REP_OFFER_MAX_LAYERS)
		return "layer count";
	if (a->extras > REP_ADMIT_MAX_EXTRA)
		return "extra count";
	for (uint32_t i = 0; i < a->layers && wrong == NULL; i++)
		wrong = get_admit_layer(a, i, rd);
	for (uint32_t i = 0; i < a->extras && wrong == NULL; i++)
		wrong = get_admit_extra(a, i, rd);
	return wrong;
}

/* ---- REFUSE ---- */

void rep_put_refuse(const struct rep_frame *f, struct lb_wr *wr)
{
	static const struct lb_hash none;
	const struct rep_refuse *r = &f->refuse;

	lb_wr_id(wr, &r->group);
	lb_wr_u64le(wr, r->seq);
	lb_wr_u64le(wr, r->epoch);
	lb_wr_u16le(wr, (uint16_t)r->reason);
	lb_wr_u8(wr, r->has_head ? 1 : 0);
	lb_wr_zeros(wr, 5);
	lb_wr_hash(wr, r->has_head ? &r->head : &none);
	rep_put_text(wr, r->text);
}

static bool reason_valid(unsigned reason)
{
	return reason >= REP_REFUSE_BASE && reason <= REP_REFUSE_DENIED;
}

const char *rep_get_refuse(struct rep_frame *f, struct lb_rd *rd)
{
	struct rep_refuse *r = &f->refuse;

	r->group = lb_rd_id(rd);
	r->seq = lb_rd_u64le(rd);
	r->epoch = lb_rd_u64le(rd);
	unsigned reason = lb_rd_u16le(rd);
	unsigned flags = lb_rd_u8(rd);
	bool zeros = rep_rd_zeros(rd, 5);
	r->head = lb_rd_hash(rd);
	r->has_head = flags == 1;
	r->reason = (enum rep_refuse_reason)reason;
	if (!rep_get_text(rd, r->text))
		return "text";
	if (!zeros || flags > 1)
		return "reserved bytes";
	if (!reason_valid(reason))
		return "reason";
	return r->has_head != lb_hash_is_zero(&r->head) ? NULL : "head";
}

/* ---- RECORD ---- */

void rep_put_record(const struct rep_frame *f, struct lb_wr *wr)
{
	const struct rep_record_frame *r = &f->record;

	lb_wr_u16le(wr, (uint16_t)r->kind);
	lb_wr_u16le(wr, 0);
	lb_wr_u32le(wr, r->number);
	lb_wr_id(wr, &r->group);
	lb_wr_id(wr, &r->layer);
	lb_wr_bytes(wr, r->body, r->bytes);
}

const char *rep_get_record(struct rep_frame *f, struct lb_rd *rd)
{
	struct rep_record_frame *r = &f->record;

	r->kind = (enum rep_record_kind)lb_rd_u16le(rd);
	unsigned reserved = lb_rd_u16le(rd);
	r->number = lb_rd_u32le(rd);
	r->group = lb_rd_id(rd);
	r->layer = lb_rd_id(rd);
	r->bytes = (uint32_t)rd->left; /* at most the type's maximum, checked before */
	r->body = lb_rd_bytes(rd, rd->left);
	if (!rep_record_of_layer(r->kind))
		return "record kind";
	if (reserved != 0)
		return "reserved bytes";
	return lb_id_is_zero(&r->layer) ? "layer id" : NULL;
}

/* ---- POINT ---- */

void rep_put_point(const struct rep_frame *f, struct lb_wr *wr)
{
	lb_wr_u64le(wr, f->point.age_ns);
	lb_wr_bytes(wr, f->point.manifest, f->point.bytes);
}

const char *rep_get_point(struct rep_frame *f, struct lb_rd *rd)
{
	f->point.age_ns = lb_rd_u64le(rd);
	f->point.bytes = (uint32_t)rd->left; /* at most the type's maximum, checked before */
	f->point.manifest = lb_rd_bytes(rd, rd->left);
	return NULL;
}
