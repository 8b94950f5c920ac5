#include "runlog_codec.h"

#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/rd.h"
#include "runlog_int.h"

#define TIME_MAX_NS (UINT64_MAX / 4) /* so that adding a timeout cannot overflow */

static void put_begin(struct lb_wr *wr, const struct rb_log_begin *b)
{
	lb_wr_id(wr, &b->run);
	lb_wr_u8(wr, (uint8_t)b->mode);
	lb_wr_u8(wr, b->unattended ? 1 : 0);
	lb_wr_str16(wr, b->who);
	lb_wr_str16(wr, b->source_name);
	lb_wr_u16le(wr, (uint16_t)b->fact_count);
	for (size_t i = 0; i < b->fact_count; i++) {
		lb_wr_str16(wr, b->facts[i].name);
		lb_wr_str16(wr, b->facts[i].value);
	}
	lb_wr_u32le(wr, (uint32_t)b->source_bytes);
	lb_wr_bytes(wr, b->source, b->source_bytes);
}

void rb_log_put_payload(struct lb_wr *wr, const struct rb_record *r, const struct rb_log_begin *b)
{
	switch (r->type) {
	case RB_REC_BEGIN:
		put_begin(wr, b);
		break;
	case RB_REC_RESUME:
		break;
	case RB_REC_RESULT:
		lb_wr_u32le(wr, r->step);
		lb_wr_u32le(wr, r->attempt);
		lb_wr_u32le(wr, (uint32_t)r->code);
		lb_wr_str16(wr, r->text != NULL ? r->text : "");
		break;
	case RB_REC_START:
	case RB_REC_TIMEOUT:
	case RB_REC_GIVEUP:
		lb_wr_u32le(wr, r->step);
		lb_wr_u32le(wr, r->attempt);
		break;
	case RB_REC_COMMAND:
		lb_wr_u16le(wr, (uint16_t)r->command);
		lb_wr_u32le(wr, r->step);
		lb_wr_str16(wr, r->who != NULL ? r->who : "");
		lb_wr_str16(wr, r->text != NULL ? r->text : "");
		break;
	case RB_REC_END:
		lb_wr_u16le(wr, (uint16_t)r->state);
		break;
	}
}

static bool get_begin(struct lb_rd *rd, struct rb_log_begin *b)
{
	size_t n;

	b->run = lb_rd_id(rd);
	n = lb_rd_u8(rd);
	if (n >= RB_MODE_COUNT)
		return false;
	b->mode = (enum rb_mode)n;
	n = lb_rd_u8(rd);
	if (n > 1)
		return false;
	b->unattended = n == 1;
	lb_rd_str16(rd, b->who, sizeof(b->who));
	lb_rd_str16(rd, b->source_name, sizeof(b->source_name));
	b->fact_count = lb_rd_u16le(rd);
	if (b->fact_count > RB_LOG_MAX_FACTS)
		return false;
	for (size_t i = 0; i < b->fact_count; i++) {
		lb_rd_str16(rd, b->facts[i].name, sizeof(b->facts[i].name));
		lb_rd_str16(rd, b->facts[i].value, sizeof(b->facts[i].value));
	}
	b->source_bytes = lb_rd_u32le(rd);
	if (b->source_bytes > RB_MAX_SOURCE)
		return false;
	b->source = lb_rd_bytes(rd, b->source_bytes);
	return true;
}

static bool get_command(struct lb_rd *rd, struct rb_record *r, struct rb_log_strings *s)
{
	uint16_t n = lb_rd_u16le(rd);

	if (n >= RB_CMD_COUNT)
		return false;
	r->command = (enum rb_command)n;
	r->step = lb_rd_u32le(rd);
	lb_rd_str16(rd, s->who, sizeof(s->who));
	lb_rd_str16(rd, s->text, sizeof(s->text));
	return true;
}

static bool get_payload(struct lb_rd *rd, unsigned type, struct rb_record *r,
			struct rb_log_strings *s)
{
	uint16_t n;

	r->step = RB_NO_STEP;
	switch (type) {
	case RB_REC_BEGIN:
		return get_begin(rd, &s->begin);
	case RB_REC_RESUME:
		return true;
	case RB_REC_START:
	case RB_REC_TIMEOUT:
	case RB_REC_GIVEUP:
	case RB_REC_RESULT:
		r->step = lb_rd_u32le(rd);
		r->attempt = lb_rd_u32le(rd);
		if (type == RB_REC_RESULT) {
			r->code = (int32_t)lb_rd_u32le(rd);
			lb_rd_str16(rd, s->text, sizeof(s->text));
		}
		return true;
	case RB_REC_COMMAND:
		return get_command(rd, r, s);
	case RB_REC_END:
		n = lb_rd_u16le(rd);
		if (n < RB_RUN_DONE || n > RB_RUN_ABORTED)
			return false;
		r->state = (enum rb_run_state)n;
		return true;
	default:
		return false;
	}
}

bool rb_log_get_payload(struct rb_record *r, struct rb_log_strings *s, unsigned type,
			const uint8_t *p, size_t len)
{
	struct lb_rd rd = lb_rd_init(p, len);

	s->who[0] = s->text[0] = '\0';
	if (!get_payload(&rd, type, r, s) || !lb_rd_done(&rd))
		return false;
	r->type = (enum rb_record_type)type;
	r->who = type == RB_REC_BEGIN ? s->begin.who : s->who;
	r->text = s->text;
	return true;
}

bool rb_log_get_header(struct rb_log_header *h, const uint8_t *p, size_t len)
{
	struct lb_rd rd = lb_rd_init(p, len);

	if (len < RB_LOG_HEADER_BYTES || lb_rd_u32le(&rd) != RB_LOG_MAGIC)
		return false;
	h->version = lb_rd_u16le(&rd);
	h->type = lb_rd_u16le(&rd);
	h->payload_bytes = lb_rd_u32le(&rd);
	h->generation = lb_rd_u32le(&rd);
	h->seq = lb_rd_u64le(&rd);
	h->batch_first = lb_rd_u64le(&rd);
	h->t_ns = lb_rd_u64le(&rd);
	h->wall_ns = lb_rd_u64le(&rd);
	h->prev = lb_rd_hash(&rd);
	h->payload_crc = lb_rd_u32le(&rd);
	return lb_rd_u32le(&rd) == lb_crc32c(0, p, RB_LOG_HEADER_BYTES - 4);
}

void rb_log_put_header(uint8_t out[RB_LOG_HEADER_BYTES], const struct rb_log_header *h)
{
	struct lb_wr wr = lb_wr_init(out, RB_LOG_HEADER_BYTES);

	lb_wr_u32le(&wr, RB_LOG_MAGIC);
	lb_wr_u16le(&wr, h->version);
	lb_wr_u16le(&wr, h->type);
	lb_wr_u32le(&wr, h->payload_bytes);
	lb_wr_u32le(&wr, h->generation);
	lb_wr_u64le(&wr, h->seq);
	lb_wr_u64le(&wr, h->batch_first);
	lb_wr_u64le(&wr, h->t_ns);
	lb_wr_u64le(&wr, h->wall_ns);
	lb_wr_hash(&wr, &h->prev);
	lb_wr_u32le(&wr, h->payload_crc);
	lb_wr_u32le(&wr, lb_crc32c(0, out, RB_LOG_HEADER_BYTES - 4));
}

/* Is there, behind the bad record @seq at @off, a record written after @seq was durable? */
static bool durable_behind(const uint8_t *p, size_t len, size_t off, uint64_t seq)
{
	struct rb_log_header h;

	for (size_t i = off + 1; len >= RB_LOG_HEADER_BYTES && i <= len - RB_LOG_HEADER_BYTES;
	     i++) {
		const uint8_t *q = memchr(p + i, RB_LOG_MAGIC & 0xffu, len - i);

		if (q == NULL)
			return false;
		i = (size_t)(q - p);
		if (rb_log_get_header(&h, q, len - i) && h.batch_first > seq)
			return true;
	}
	return false;
}

static bool header_follows(const struct rb_log_header *h, const struct rb_log_end *end,
			   uint64_t batch)
{
	return h->version == RB_LOG_VERSION && h->seq == end->seq + 1 &&
	       lb_hash_equal(&h->prev, &end->head) && h->t_ns >= end->t_ns &&
	       h->t_ns <= TIME_MAX_NS && (h->batch_first == h->seq || h->batch_first == batch);
}

int rb_log_scan(const uint8_t *p, size_t len, rb_log_fn fn, void *arg, struct rb_log_end *out,
		struct lb_err *err)
{
	struct rb_log_end end = {0};
	struct rb_log_header h;
	struct rb_log_strings s;
	uint64_t batch = 0;
	size_t off = 0;

	while (off < len) {
		struct rb_record r = {.type = RB_REC_BEGIN};
		const uint8_t *payload = p + off + RB_LOG_HEADER_BYTES;
		bool whole = rb_log_get_header(&h, p + off, len - off) &&
			     h.payload_bytes <= len - off - RB_LOG_HEADER_BYTES &&
			     h.payload_crc == lb_crc32c(0, payload, h.payload_bytes);
		int rc;

		if (!whole && !durable_behind(p, len, off, end.seq + 1))
			break;
		if (!whole || !header_follows(&h, &end, batch) ||
		    !rb_log_get_payload(&r, &s, h.type, payload, h.payload_bytes))
			return lb_err_set(err, LB_ECORRUPT, 0,
					  "run log: record %" PRIu64 " at byte %zu is damaged",
					  end.seq + 1, off);
		r.seq = h.seq;
		r.t_ns = h.t_ns;
		r.wall_ns = h.wall_ns;
		r.generation = h.generation;
		rc = fn(arg, &r, r.type == RB_REC_BEGIN ? &s.begin : NULL, err);
		if (rc != 0)
			return rc;
		lb_sha256(&end.head, p + off, RB_LOG_HEADER_BYTES + h.payload_bytes);
		off += RB_LOG_HEADER_BYTES + h.payload_bytes;
		batch = h.batch_first;
		end.valid_bytes = off;
		end.seq = h.seq;
		end.t_ns = h.t_ns;
		end.wall_ns = h.wall_ns;
	}
	*out = end;
	return 0;
}
