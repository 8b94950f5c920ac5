#include "replicator/record.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/wr.h"
#include "format_int.h"

#define CRC_OFFSET 52u

static bool kind_valid(unsigned kind)
{
	switch (kind) {
	case REP_RECORD_SEGMENT:
	case REP_RECORD_MARK:
	case REP_RECORD_DIRECTORY:
	case REP_RECORD_LAYER_HEADER:
	case REP_RECORD_PACK:
	case REP_RECORD_DIGESTS:
	case REP_RECORD_INDEX:
	case REP_RECORD_LEAVES:
	case REP_RECORD_FOOTER:
	case REP_RECORD_MANIFEST:
	case REP_RECORD_RECEIPT:
	case REP_RECORD_HOLD:
	case REP_RECORD_BRANCH:
	case REP_RECORD_SPAN:
	case REP_RECORD_REMOVAL:
	case REP_RECORD_ABANDON:
		return true;
	default: /* a number read from disk, not an enum: -Wswitch-enum has no say here */
		return false;
	}
}

bool rep_record_of_layer(enum rep_record_kind kind)
{
	return kind >= REP_RECORD_LAYER_HEADER && kind <= REP_RECORD_FOOTER;
}

/* Who may stand in the owner field is part of the kind: a pack without its layer is unusable, and a
 * manifest that names one would have two meanings. */
static bool owner_fits(enum rep_record_kind kind, const struct lb_id *owner)
{
	if (rep_record_of_layer(kind))
		return !lb_id_is_zero(owner);
	if (kind == REP_RECORD_MARK || kind == REP_RECORD_MANIFEST || kind == REP_RECORD_RECEIPT)
		return lb_id_is_zero(owner);
	return true;
}

uint64_t rep_record_span(uint32_t body_bytes)
{
	return (REP_RECORD_HEADER_BYTES + (uint64_t)body_bytes + 7) & ~UINT64_C(7);
}

void rep_record_encode(uint8_t out[REP_RECORD_HEADER_BYTES], const struct rep_record *r)
{
	struct lb_wr wr = lb_wr_init(out, REP_RECORD_HEADER_BYTES);

	LB_ASSERT(kind_valid((unsigned)r->kind) && owner_fits(r->kind, &r->owner));
	LB_ASSERT(r->bytes <= REP_RECORD_MAX);
	lb_wr_u32le(&wr, REP_MAGIC_RECORD);
	lb_wr_u16le(&wr, (uint16_t)r->kind);
	lb_wr_u16le(&wr, 0);
	lb_wr_u32le(&wr, r->bytes);
	lb_wr_u32le(&wr, r->number);
	lb_wr_id(&wr, &r->owner);
	lb_wr_u64le(&wr, r->segment);
	lb_wr_u64le(&wr, r->offset);
	lb_wr_u32le(&wr, r->body_crc);
	lb_wr_u32le(&wr, lb_crc32c(0, out, CRC_OFFSET));
	LB_ASSERT(lb_wr_done(&wr) && wr.len == REP_RECORD_HEADER_BYTES);
}

int rep_record_decode(struct rep_record *out, const void *p, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	struct rep_record r = {.bytes = 0};
	uint32_t magic = lb_rd_u32le(&rd);
	unsigned kind = lb_rd_u16le(&rd);
	unsigned flags = lb_rd_u16le(&rd);

	r.bytes = lb_rd_u32le(&rd);
	r.number = lb_rd_u32le(&rd);
	r.owner = lb_rd_id(&rd);
	r.segment = lb_rd_u64le(&rd);
	r.offset = lb_rd_u64le(&rd);
	r.body_crc = lb_rd_u32le(&rd);
	uint32_t crc = lb_rd_u32le(&rd);
	if (rd.bad)
		return lb_err_set(err, LB_ECORRUPT, 0, "record header: %zu of %u bytes", len,
				  REP_RECORD_HEADER_BYTES);
	if (magic != REP_MAGIC_RECORD)
		return lb_err_set(err, LB_ECORRUPT, 0, "record header: magic 0x%08x", magic);
	if (crc != lb_crc32c(0, p, CRC_OFFSET))
		return lb_err_set(err, LB_ECORRUPT, 0, "record header: checksum 0x%08x", crc);
	if (!kind_valid(kind))
		return lb_err_set(err, LB_ECORRUPT, 0, "record header: kind %u", kind);
	if (flags != 0)
		return lb_err_set(err, LB_ECORRUPT, 0, "record header: flags 0x%04x", flags);
	if (r.bytes > REP_RECORD_MAX)
		return lb_err_set(err, LB_ECORRUPT, 0, "record header: length %u", r.bytes);
	r.kind = (enum rep_record_kind)kind;
	if (!owner_fits(r.kind, &r.owner))
		return lb_err_set(err, LB_ECORRUPT, 0, "record header: owner of kind %u", kind);
	*out = r;
	return 0;
}
