#include "replicator/frame.h"

#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/err.h"
#include "format_int.h"
#include "frame_int.h"

#define CRC_OFFSET     12u
#define STATUS_HEAD    1u
#define STATUS_WRITE   2u
#define RECORD_PREFIX  40u
#define OFFER_FIXED    (16u + 8u + 8u + 32u + 32u + 4u)
#define OFFER_LAYER    64u
#define ADMIT_FIXED    (16u + 8u + 8u + 4u + 4u)
#define ADMIT_LAYER    24u
#define ADMIT_EXTRA    8u
#define REFUSE_FIXED   (16u + 8u + 8u + 2u + 6u + 32u)
#define POINT_FIXED    8u
#define STR16_MAX(max) (2u + (max))

/* ---- text ---- */

static bool printable(char c)
{
	return c >= 0x20 && c <= 0x7e;
}

void rep_put_text(struct lb_wr *wr, const char *s)
{
	size_t n = strnlen(s, REP_FRAME_TEXT_MAX);

	lb_wr_u16le(wr, (uint16_t)n);
	for (size_t i = 0; i < n; i++)
		lb_wr_u8(wr, (uint8_t)(printable(s[i]) ? s[i] : '?'));
}

bool rep_get_text(struct lb_rd *rd, char out[REP_FRAME_TEXT_MAX + 1])
{
	lb_rd_str16(rd, out, REP_FRAME_TEXT_MAX + 1);
	if (rd->bad)
		return false;
	for (const char *c = out; *c != '\0'; c++) {
		if (!printable(*c))
			return false;
	}
	return true;
}

/* ---- the small payloads ---- */

static void put_hello(const struct rep_frame *f, struct lb_wr *wr)
{
	const struct rep_hello *h = &f->hello;

	lb_wr_u16le(wr, h->version_min);
	lb_wr_u16le(wr, h->version_max);
	lb_wr_u16le(wr, h->connection);
	lb_wr_u16le(wr, h->connections);
	lb_wr_id(wr, &h->deployment);
	lb_wr_id(wr, &h->site);
	lb_wr_id(wr, &h->boot_id);
	lb_wr_id(wr, &h->session);
}

static const char *get_hello(struct rep_frame *f, struct lb_rd *rd)
{
	struct rep_hello *h = &f->hello;

	h->version_min = lb_rd_u16le(rd);
	h->version_max = lb_rd_u16le(rd);
	h->connection = lb_rd_u16le(rd);
	h->connections = lb_rd_u16le(rd);
	h->deployment = lb_rd_id(rd);
	h->site = lb_rd_id(rd);
	h->boot_id = lb_rd_id(rd);
	h->session = lb_rd_id(rd);
	if (h->version_min < 1 || h->version_max < h->version_min)
		return "versions";
	if (h->connections < 1 || h->connections > REP_HELLO_MAX_CONNECTIONS)
		return "connections";
	return h->connection < h->connections ? NULL : "connection";
}

static void put_error(const struct rep_frame *f, struct lb_wr *wr)
{
	lb_wr_u32le(wr, (uint32_t)f->error.code);
	rep_put_text(wr, f->error.text);
}

static const char *get_error(struct rep_frame *f, struct lb_rd *rd)
{
	f->error.code = (int32_t)lb_rd_u32le(rd);
	if (!rep_get_text(rd, f->error.text))
		return "text";
	return f->error.code < 0 && f->error.code > -(int32_t)LB_CODE_COUNT ? NULL : "code";
}

static void put_ping(const struct rep_frame *f, struct lb_wr *wr)
{
	lb_wr_u64le(wr, f->ping.sent_ns);
	lb_wr_u64le(wr, f->ping.peer_now_ns);
	lb_wr_id(wr, &f->ping.peer_boot_id);
}

static const char *get_pong(struct rep_frame *f, struct lb_rd *rd)
{
	f->ping.sent_ns = lb_rd_u64le(rd);
	f->ping.peer_now_ns = lb_rd_u64le(rd);
	f->ping.peer_boot_id = lb_rd_id(rd);
	return NULL;
}

static const char *get_ping(struct rep_frame *f, struct lb_rd *rd)
{
	(void)get_pong(f, rd);
	return f->ping.peer_now_ns == 0 ? NULL : "an answer's clock";
}

static void put_status_req(const struct rep_frame *f, struct lb_wr *wr)
{
	lb_wr_id(wr, &f->status_req);
}

static const char *get_status_req(struct rep_frame *f, struct lb_rd *rd)
{
	f->status_req = lb_rd_id(rd);
	return NULL;
}

static void put_status(const struct rep_frame *f, struct lb_wr *wr)
{
	static const struct lb_hash none;
	const struct rep_status *s = &f->status;
	unsigned flags = (s->has_head ? STATUS_HEAD : 0) | (s->writable ? STATUS_WRITE : 0);

	lb_wr_id(wr, &s->group);
	lb_wr_u64le(wr, s->epoch);
	lb_wr_u8(wr, (uint8_t)flags);
	lb_wr_zeros(wr, 7);
	lb_wr_u64le(wr, s->has_head ? s->head_epoch : 0);
	lb_wr_u64le(wr, s->has_head ? s->head_seq : 0);
	lb_wr_hash(wr, s->has_head ? &s->head : &none);
}

static const char *get_status(struct rep_frame *f, struct lb_rd *rd)
{
	struct rep_status *s = &f->status;

	s->group = lb_rd_id(rd);
	s->epoch = lb_rd_u64le(rd);
	unsigned flags = lb_rd_u8(rd);
	bool zeros = rep_rd_zeros(rd, 7);
	s->head_epoch = lb_rd_u64le(rd);
	s->head_seq = lb_rd_u64le(rd);
	s->head = lb_rd_hash(rd);
	s->has_head = (flags & STATUS_HEAD) != 0;
	s->writable = (flags & STATUS_WRITE) != 0;
	if (!zeros || (flags & ~(STATUS_HEAD | STATUS_WRITE)) != 0)
		return "flags";
	if (s->has_head == lb_hash_is_zero(&s->head))
		return "head";
	if (!s->has_head && (s->head_epoch != 0 || s->head_seq != 0))
		return "head";
	return s->head_epoch <= s->epoch ? NULL : "head epoch";
}

static void put_credit(const struct rep_frame *f, struct lb_wr *wr)
{
	lb_wr_u64le(wr, f->credit);
}

static const char *get_credit(struct rep_frame *f, struct lb_rd *rd)
{
	f->credit = lb_rd_u64le(rd);
	return NULL;
}

static void put_receipt(const struct rep_frame *f, struct lb_wr *wr)
{
	if (f->receipt.len != REP_RECEIPT_BYTES)
		wr->bad = true;
	else
		lb_wr_bytes(wr, f->receipt.bytes, f->receipt.len);
}

static const char *get_receipt(struct rep_frame *f, struct lb_rd *rd)
{
	f->receipt.bytes = lb_rd_bytes(rd, REP_RECEIPT_BYTES);
	f->receipt.len = REP_RECEIPT_BYTES;
	return NULL;
}

static void put_fence(const struct rep_frame *f, struct lb_wr *wr)
{
	lb_wr_id(wr, &f->fence.group);
	lb_wr_u64le(wr, f->fence.epoch);
}

static const char *get_fence(struct rep_frame *f, struct lb_rd *rd)
{
	f->fence.group = lb_rd_id(rd);
	f->fence.epoch = lb_rd_u64le(rd);
	return f->fence.epoch > 0 ? NULL : "epoch";
}

static void put_key(const struct rep_frame *f, struct lb_wr *wr)
{
	lb_wr_id(wr, &f->key.group);
	lb_wr_id(wr, &f->key.machine);
	lb_wr_id(wr, &f->key.key_id);
	lb_wr_bytes(wr, f->key.key.b, sizeof(f->key.key.b));
}

static const char *get_key(struct rep_frame *f, struct lb_rd *rd)
{
	f->key.group = lb_rd_id(rd);
	f->key.machine = lb_rd_id(rd);
	f->key.key_id = lb_rd_id(rd);
	lb_rd_copy(rd, f->key.key.b, sizeof(f->key.key.b));
	return NULL;
}

static void put_key_ok(const struct rep_frame *f, struct lb_wr *wr)
{
	lb_wr_id(wr, &f->key_ok);
}

static const char *get_key_ok(struct rep_frame *f, struct lb_rd *rd)
{
	f->key_ok = lb_rd_id(rd);
	return NULL;
}

/* ---- the table ---- */

struct frame_kind {
	enum rep_frame_type type;
	const char *name;
	uint32_t min, max; /* payload bytes */
	rep_frame_put_fn put;
	rep_frame_get_fn get;
};

static const struct frame_kind kinds[] = {
	{REP_FRAME_HELLO, "HELLO", 72, 72, put_hello, get_hello},
	{REP_FRAME_ERROR, "ERROR", 6, 4 + STR16_MAX(REP_FRAME_TEXT_MAX), put_error, get_error},
	{REP_FRAME_PING, "PING", 32, 32, put_ping, get_ping},
	{REP_FRAME_PONG, "PONG", 32, 32, put_ping, get_pong},
	{REP_FRAME_STATUS_REQ, "STATUS_REQ", 16, 16, put_status_req, get_status_req},
	{REP_FRAME_STATUS, "STATUS", 80, 80, put_status, get_status},
	{REP_FRAME_OFFER, "OFFER", OFFER_FIXED + STR16_MAX(1) + OFFER_LAYER,
	 OFFER_FIXED + STR16_MAX(REP_NAME_MAX) + OFFER_LAYER *REP_OFFER_MAX_LAYERS, rep_put_offer,
	 rep_get_offer},
	{REP_FRAME_ADMIT, "ADMIT", ADMIT_FIXED + ADMIT_LAYER,
	 ADMIT_FIXED + ADMIT_LAYER *REP_OFFER_MAX_LAYERS + ADMIT_EXTRA *REP_ADMIT_MAX_EXTRA,
	 rep_put_admit, rep_get_admit},
	{REP_FRAME_REFUSE, "REFUSE", REFUSE_FIXED + STR16_MAX(0),
	 REFUSE_FIXED + STR16_MAX(REP_FRAME_TEXT_MAX), rep_put_refuse, rep_get_refuse},
	{REP_FRAME_RECORD, "RECORD", RECORD_PREFIX + 1, RECORD_PREFIX + REP_RECORD_MAX,
	 rep_put_record, rep_get_record},
	{REP_FRAME_CREDIT, "CREDIT", 8, 8, put_credit, get_credit},
	{REP_FRAME_POINT, "POINT", POINT_FIXED + 1, POINT_FIXED + REP_RECORD_MAX, rep_put_point,
	 rep_get_point},
	{REP_FRAME_RECEIPT, "RECEIPT", REP_RECEIPT_BYTES, REP_RECEIPT_BYTES, put_receipt,
	 get_receipt},
	{REP_FRAME_FENCE, "FENCE", 24, 24, put_fence, get_fence},
	{REP_FRAME_KEY, "KEY", 80, 80, put_key, get_key},
	{REP_FRAME_KEY_OK, "KEY_OK", 16, 16, put_key_ok, get_key_ok},
};

static const struct frame_kind *kind_of(unsigned type)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if ((unsigned)kinds[i].type == type)
			return &kinds[i];
	}
	return NULL;
}

const char *rep_frame_name(enum rep_frame_type type)
{
	const struct frame_kind *k = kind_of((unsigned)type);

	return k != NULL ? k->name : "unknown";
}

/* ---- frames ---- */

static void header_encode(uint8_t *out, const struct frame_kind *k, size_t payload_bytes)
{
	struct lb_wr wr = lb_wr_init(out, REP_FRAME_HEADER_BYTES);

	LB_ASSERT(payload_bytes >= k->min && payload_bytes <= k->max);
	lb_wr_u32le(&wr, REP_MAGIC_FRAME);
	lb_wr_u16le(&wr, (uint16_t)k->type);
	lb_wr_u16le(&wr, 0);
	lb_wr_u32le(&wr, (uint32_t)payload_bytes);
	lb_wr_u32le(&wr, lb_crc32c(0, out, CRC_OFFSET));
	LB_ASSERT(lb_wr_done(&wr));
}

int rep_frame_header_decode(enum rep_frame_type *type, uint32_t *payload_bytes,
			    const uint8_t p[REP_FRAME_HEADER_BYTES], struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, REP_FRAME_HEADER_BYTES);
	uint32_t magic = lb_rd_u32le(&rd);
	unsigned number = lb_rd_u16le(&rd);
	unsigned flags = lb_rd_u16le(&rd);
	uint32_t bytes = lb_rd_u32le(&rd);
	uint32_t crc = lb_rd_u32le(&rd);

	if (magic != REP_MAGIC_FRAME)
		return lb_err_set(err, LB_EPROTO, 0, "frame header: magic 0x%08x", magic);
	if (crc != lb_crc32c(0, p, CRC_OFFSET))
		return lb_err_set(err, LB_EPROTO, 0, "frame header: checksum 0x%08x", crc);
	const struct frame_kind *k = kind_of(number);
	if (k == NULL)
		return lb_err_set(err, LB_EPROTO, 0, "frame header: type %u", number);
	if (flags != 0)
		return lb_err_set(err, LB_EPROTO, 0, "%s frame: flags 0x%04x", k->name, flags);
	if (bytes < k->min || bytes > k->max)
		return lb_err_set(err, LB_EPROTO, 0, "%s frame: length %u", k->name, bytes);
	*type = k->type;
	*payload_bytes = bytes;
	return 0;
}

/* NULL, or what is wrong with the payload. */
static const char *payload_decode(struct rep_frame *out, const struct frame_kind *k, const void *p,
				  size_t len)
{
	struct lb_rd rd = lb_rd_init(p, len);

	out->type = k->type;
	const char *wrong = k->get(out, &rd);
	if (rd.bad || (wrong == NULL && !lb_rd_done(&rd)))
		return "length";
	return wrong;
}

int rep_frame_decode(struct rep_frame *out, enum rep_frame_type type, const void *p, size_t len,
		     struct lb_err *err)
{
	const struct frame_kind *k = kind_of((unsigned)type);

	if (k == NULL)
		return lb_err_set(err, LB_EPROTO, 0, "frame: type %u", (unsigned)type);
	if (len < k->min || len > k->max)
		return lb_err_set(err, LB_EPROTO, 0, "%s frame: length %zu", k->name, len);
	const char *wrong = payload_decode(out, k, p, len);
	if (wrong != NULL)
		return lb_err_set(err, LB_EPROTO, 0, "%s frame: %s", k->name, wrong);
	return 0;
}

/* Room for the payload of @f: exact where it carries a body, the type's maximum otherwise. */
static size_t payload_room(const struct rep_frame *f, const struct frame_kind *k)
{
	if (f->type == REP_FRAME_RECORD)
		return RECORD_PREFIX + (size_t)f->record.bytes;
	if (f->type == REP_FRAME_POINT)
		return POINT_FIXED + (size_t)f->point.bytes;
	return k->max;
}

int rep_frame_encode(struct lb_buf **out, const struct rep_frame *f, struct lb_err *err)
{
	const struct frame_kind *k = kind_of((unsigned)f->type);
	struct lb_buf *b = NULL;
	struct rep_frame check;

	if (k == NULL)
		return lb_err_set(err, LB_EINVAL, 0, "encode frame of type %u", (unsigned)f->type);
	size_t room = payload_room(f, k);
	if (room < k->min || room > k->max)
		return lb_err_set(err, LB_EINVAL, 0, "encode %s frame of %zu bytes", k->name, room);
	int rc = lb_buf_create(&b, REP_FRAME_HEADER_BYTES + room, err);
	if (rc != 0)
		return rc;
	struct lb_wr wr = lb_wr_init(b->p + REP_FRAME_HEADER_BYTES, room);
	k->put(f, &wr);
	/* The peer's own reader is the judge of what we are about to send: what it would refuse
	 * never leaves this host. */
	const char *wrong = wr.bad ? "counts" : payload_decode(&check, k, wr.p, wr.len);
	if (wrong != NULL) {
		lb_buf_unref(b);
		return lb_err_set(err, LB_EINVAL, 0, "encode %s frame: %s", k->name, wrong);
	}
	header_encode(b->p, k, wr.len);
	b->len = REP_FRAME_HEADER_BYTES + wr.len;
	*out = b;
	return 0;
}

int rep_frame_encode_record_head(struct lb_buf **out, const struct rep_record_frame *r,
				 struct lb_err *err)
{
	const struct frame_kind *k = kind_of(REP_FRAME_RECORD);
	struct rep_frame f = {.type = REP_FRAME_RECORD, .record = *r};
	struct lb_buf *b = NULL;

	if (r->bytes < 1 || r->bytes > REP_RECORD_MAX || !rep_record_of_layer(r->kind) ||
	    lb_id_is_zero(&r->layer))
		return lb_err_set(err, LB_EINVAL, 0, "encode RECORD head: kind %u of %u bytes",
				  (unsigned)r->kind, r->bytes);
	int rc = lb_buf_create(&b, REP_FRAME_HEADER_BYTES + RECORD_PREFIX, err);
	if (rc != 0)
		return rc;
	struct lb_wr wr = lb_wr_init(b->p + REP_FRAME_HEADER_BYTES, RECORD_PREFIX);
	f.record.bytes = 0;
	rep_put_record(&f, &wr);
	LB_ASSERT(lb_wr_done(&wr) && wr.len == RECORD_PREFIX);
	header_encode(b->p, k, RECORD_PREFIX + (size_t)r->bytes);
	b->len = b->cap;
	*out = b;
	return 0;
}
