/*
 * segment_int.h - the bytes of one segment file: marks, directories, its head, and reading what it
 * holds. Nothing here knows of the store around it. Format: docs/formats/segment.md.
 */
#ifndef REPLICATOR_SEGMENT_INT_H
#define REPLICATOR_SEGMENT_INT_H

#include "base/fs.h"
#include "base/hash.h"
#include "replicator/record.h"

struct lb_buf;
struct rep_damage;

#define REP_SEG_MAX_RECORDS 30000u /* keeps a directory within one record */
#define REP_SEG_ENTRY_BYTES 32u
#define REP_SEG_HEAD_BYTES  48u
#define REP_MARK_FIXED      64u
#define REP_DIR_FIXED       16u
#define REP_TAG_BYTES       16u
#define REP_SEG_MAX_BYTES   (UINT64_C(1) << 34) /* offsets are kept as u32 of 8-byte units */

/* Where one record is, as directories and marks list it. */
struct rep_entry {
	struct lb_id owner;
	uint32_t number;
	uint32_t off8;  /* offset / 8 */
	uint32_t bytes; /* of the body */
	uint16_t kind;
	uint16_t bad; /* its header failed its check: only a mark or directory names it */
};

struct rep_mark {
	uint64_t commit;
	uint32_t records; /* since the last mark */
	uint32_t headers_crc;
	uint64_t dir_off; /* closing mark: of the directory; else 0 */
	bool echo;        /* the second copy */
	uint32_t entries; /* listed, 0 in an echo or a closing mark */
	const uint8_t *entry_bytes;
};

struct rep_seg_head {
	struct lb_id store;
	uint8_t tag[REP_TAG_BYTES];
	uint64_t previous;
};

void rep_seg_path(char out[32], uint64_t number);
void rep_entry_encode(uint8_t out[REP_SEG_ENTRY_BYTES], const struct rep_entry *e);
void rep_entry_decode(struct rep_entry *out, const uint8_t in[REP_SEG_ENTRY_BYTES]);
void rep_mark_encode(uint8_t out[REP_MARK_FIXED], const struct rep_mark *m,
		     const uint8_t tag[REP_TAG_BYTES]);
int rep_mark_decode(struct rep_mark *out, const void *p, size_t len,
		    const uint8_t tag[REP_TAG_BYTES], struct lb_err *err);
void rep_seg_head_encode(uint8_t out[REP_SEG_HEAD_BYTES], const struct rep_seg_head *h);
int rep_seg_head_decode(struct rep_seg_head *out, const void *p, size_t len, struct lb_err *err);

/* Read the record at @off of @f and check header, place, CRC and padding. @body (may be NULL) gets
 * the body: the caller's. LB_ECORRUPT says what is off; @r is set as far as the header decoded. */
int rep_seg_record(struct lb_file *f, uint64_t seg_number, uint64_t off, uint64_t seg_bytes,
		   struct rep_record *r, struct lb_buf **body, struct lb_err *err);
/* Header only. */
int rep_seg_header(struct lb_file *f, uint64_t seg_number, uint64_t off, uint64_t seg_bytes,
		   struct rep_record *r, struct lb_err *err);

/* What reading a segment gives. */
struct rep_seg_scan {
	struct rep_entry *entry; /* in file order; the caller's: free() */
	uint32_t entries, cap;
	uint32_t marked;      /* entries under the newest mark */
	uint64_t mark_end;    /* offset behind the newest mark */
	uint64_t batch_start; /* offset where the newest mark's batch begins */
	uint64_t tail;        /* offset behind the last good record */
	uint64_t commit;      /* of the newest mark */
	uint64_t dir_off;     /* not 0: closed */
	uint32_t tail_crc;    /* over the headers behind the newest mark */
	/* A mark of which only the echo is good: a torn write if it is the newest, else rot. */
	uint64_t torn_mark; /* its offset; 0: none */
	uint64_t torn_commit;
	uint32_t torn_first, torn_records, torn_crc; /* its batch: index of the first entry, ... */
	uint64_t torn_dir_off;                       /* not 0: it closes the segment */
	uint32_t torn_damage; /* index in damage; .damages: the list was full */
	struct rep_damage *damage;
	uint32_t damages, damage_cap;
};
void rep_seg_scan_fini(struct rep_seg_scan *sc);
/* The directory of a closed segment, by its closing mark. LB_ECORRUPT: scan instead. */
int rep_seg_directory(struct rep_seg_scan *out, struct lb_file *f, uint64_t number, uint64_t bytes,
		      const uint8_t tag[REP_TAG_BYTES], struct lb_err *err);
/* Record by record, skipping damage before a mark. Bodies are checked behind the newest mark. */
int rep_seg_scan(struct rep_seg_scan *out, struct lb_file *f, uint64_t number, uint64_t bytes,
		 const uint8_t tag[REP_TAG_BYTES], struct lb_err *err);
/* Room for @n entries, two more than there are at most; LB_ENOMEM. Push is reserve and append. */
int rep_entry_reserve(struct rep_entry **v, uint32_t n, uint32_t *cap, struct lb_err *err);
int rep_entry_push(struct rep_entry **v, uint32_t *n, uint32_t *cap, const struct rep_entry *e,
		   struct lb_err *err);

#endif
