/*
 * runlog_codec.h - one record of the run log as bytes. Offsets: docs/formats/runlog.md.
 */
#ifndef RUNBOOKS_RUNLOG_CODEC_H
#define RUNBOOKS_RUNLOG_CODEC_H

#include "base/wr.h"
#include "runlog_int.h"

struct rb_log_header {
	uint16_t version, type;
	uint32_t payload_bytes;
	uint32_t generation;
	uint64_t seq;
	uint64_t batch_first; /* seq of the first record of the batch */
	uint64_t t_ns, wall_ns;
	struct lb_hash prev;  /* SHA-256 of the record before, zero for the first */
	uint32_t payload_crc; /* CRC32C */
};

/* What the pointers of a decoded record point into. */
struct rb_log_strings {
	char who[RB_NAME_BYTES];
	char text[RB_DETAIL_BYTES];
	struct rb_log_begin begin;
};

void rb_log_put_header(uint8_t out[RB_LOG_HEADER_BYTES], const struct rb_log_header *h);
/* False when short, not a header, or its checksum does not fit. */
bool rb_log_get_header(struct rb_log_header *h, const uint8_t *p, size_t len);
void rb_log_put_payload(struct lb_wr *wr, const struct rb_record *r, const struct rb_log_begin *b);
/* False when it is not exactly one payload of @type. */
bool rb_log_get_payload(struct rb_record *r, struct rb_log_strings *s, unsigned type,
			const uint8_t *p, size_t len);

#endif
