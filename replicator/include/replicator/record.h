/*
 * replicator/record.h - the one framing of everything in the store.
 *
 *   offset size
 *        0    4  magic "LBR1"
 *        4    2  kind (enum rep_record_kind, frozen)
 *        6    2  flags, 0
 *        8    4  length of the body in bytes, <= REP_RECORD_MAX
 *       12    4  number (pack, part number; 0 where there is only one)
 *       16   16  owner: layer id; zero for manifest, mark, receipt
 *       32    8  segment number
 *       40    8  offset of this header in the segment file (finds misdirected writes)
 *       48    4  CRC32C of the body
 *       52    4  CRC32C of bytes 0..51
 *       56    n  body, then zero padding to a multiple of 8
 *
 * Thread: pure, any thread.
 */
#ifndef REPLICATOR_RECORD_H
#define REPLICATOR_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"

struct lb_err;

#define REP_RECORD_HEADER_BYTES 56u

enum rep_record_kind {
	REP_RECORD_SEGMENT = 1,   /* first of a file: store id, number, predecessor */
	REP_RECORD_MARK = 2,      /* commit mark: everything before it is durable */
	REP_RECORD_DIRECTORY = 3, /* last of a finished segment: where its records are */
	REP_RECORD_LAYER_HEADER = 100,
	REP_RECORD_PACK = 101,
	REP_RECORD_DIGESTS = 102,
	REP_RECORD_INDEX = 103,
	REP_RECORD_LEAVES = 104,
	REP_RECORD_FOOTER = 105,
	REP_RECORD_MANIFEST = 200,
	REP_RECORD_RECEIPT = 201,
	REP_RECORD_HOLD = 300,
	REP_RECORD_BRANCH = 301,
	REP_RECORD_SPAN = 302,
	REP_RECORD_REMOVAL = 303,
	REP_RECORD_ABANDON = 304, /* a draft layer that will never be completed */
};

struct rep_record {
	enum rep_record_kind kind;
	uint32_t number;
	uint32_t bytes; /* of the body */
	struct lb_id owner;
	uint64_t segment;
	uint64_t offset;
	uint32_t body_crc;
};

/* One of the six parts of a layer (100..105)? Their owner is the layer's id, never zero. */
bool rep_record_of_layer(enum rep_record_kind kind);
/* Bytes a record with @body_bytes takes in the file, header and padding included. */
uint64_t rep_record_span(uint32_t body_bytes);
void rep_record_encode(uint8_t out[REP_RECORD_HEADER_BYTES], const struct rep_record *r);
/* Reads the first REP_RECORD_HEADER_BYTES of @p (@len may be more). LB_ECORRUPT when magic, CRC,
 * kind, flags, length, or owner (zero or not, as the kind says) are off; segment and offset are
 * compared by the caller. */
int rep_record_decode(struct rep_record *out, const void *p, size_t len, struct lb_err *err);

#endif
