#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/rd.h"
#include "base/wr.h"
#include "store_int.h"

#define SCAN_CHUNK (256u << 10)

void rep_seg_path(char out[32], uint64_t number)
{
	(void)snprintf(out, 32, "seg/%016" PRIx64 ".seg", number);
}

/* ---- bodies ---- */

void rep_entry_encode(uint8_t out[REP_SEG_ENTRY_BYTES], const struct rep_entry *e)
{
	struct lb_wr wr = lb_wr_init(out, REP_SEG_ENTRY_BYTES);

	lb_wr_u16le(&wr, e->kind);
	lb_wr_u16le(&wr, 0);
	lb_wr_u32le(&wr, e->number);
	lb_wr_id(&wr, &e->owner);
	lb_wr_u32le(&wr, e->off8);
	lb_wr_u32le(&wr, e->bytes);
	LB_ASSERT(lb_wr_done(&wr));
}

void rep_entry_decode(struct rep_entry *out, const uint8_t in[REP_SEG_ENTRY_BYTES])
{
	struct lb_rd rd = lb_rd_init(in, REP_SEG_ENTRY_BYTES);

	*out = (struct rep_entry){.bad = 0};
	out->kind = lb_rd_u16le(&rd);
	(void)lb_rd_u16le(&rd);
	out->number = lb_rd_u32le(&rd);
	out->owner = lb_rd_id(&rd);
	out->off8 = lb_rd_u32le(&rd);
	out->bytes = lb_rd_u32le(&rd);
}

#define MARK_ECHO 1u

void rep_mark_encode(uint8_t out[REP_MARK_FIXED], const struct rep_mark *m,
		     const uint8_t tag[REP_TAG_BYTES])
{
	struct lb_wr wr = lb_wr_init(out, REP_MARK_FIXED);

	lb_wr_u64le(&wr, m->commit);
	lb_wr_u32le(&wr, m->records);
	lb_wr_u32le(&wr, m->headers_crc);
	lb_wr_bytes(&wr, tag, REP_TAG_BYTES);
	lb_wr_u64le(&wr, m->dir_off);
	lb_wr_u32le(&wr, m->entries);
	lb_wr_u32le(&wr, m->echo ? MARK_ECHO : 0);
	lb_wr_zeros(&wr, 16);
	LB_ASSERT(lb_wr_done(&wr));
}

int rep_mark_decode(struct rep_mark *out, const void *p, size_t len,
		    const uint8_t tag[REP_TAG_BYTES], struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	uint8_t got_tag[REP_TAG_BYTES];
	uint32_t flags;

	*out = (struct rep_mark){.commit = lb_rd_u64le(&rd)};
	out->records = lb_rd_u32le(&rd);
	out->headers_crc = lb_rd_u32le(&rd);
	lb_rd_copy(&rd, got_tag, sizeof(got_tag));
	out->dir_off = lb_rd_u64le(&rd);
	out->entries = lb_rd_u32le(&rd);
	flags = lb_rd_u32le(&rd);
	out->echo = (flags & MARK_ECHO) != 0;
	(void)lb_rd_bytes(&rd, 16);
	if (rd.bad || (flags & ~MARK_ECHO) != 0 || out->entries > REP_SEG_MAX_RECORDS)
		return lb_err_set(err, LB_ECORRUPT, 0, "commit mark: fields out of range");
	if (memcmp(got_tag, tag, REP_TAG_BYTES) != 0)
		return lb_err_set(err, LB_ECORRUPT, 0, "commit mark: of another store");
	out->entry_bytes = lb_rd_bytes(&rd, (size_t)out->entries * REP_SEG_ENTRY_BYTES);
	if (!lb_rd_done(&rd))
		return lb_err_set(err, LB_ECORRUPT, 0, "commit mark: %zu bytes for %u entries", len,
				  out->entries);
	return 0;
}

void rep_seg_head_encode(uint8_t out[REP_SEG_HEAD_BYTES], const struct rep_seg_head *h)
{
	struct lb_wr wr = lb_wr_init(out, REP_SEG_HEAD_BYTES);

	lb_wr_id(&wr, &h->store);
	lb_wr_bytes(&wr, h->tag, REP_TAG_BYTES);
	lb_wr_u64le(&wr, h->previous);
	lb_wr_u64le(&wr, 1); /* version of the segment layout */
	LB_ASSERT(lb_wr_done(&wr));
}

int rep_seg_head_decode(struct rep_seg_head *out, const void *p, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	uint64_t version;

	*out = (struct rep_seg_head){.store = lb_rd_id(&rd)};
	lb_rd_copy(&rd, out->tag, REP_TAG_BYTES);
	out->previous = lb_rd_u64le(&rd);
	version = lb_rd_u64le(&rd);
	if (!lb_rd_done(&rd))
		return lb_err_set(err, LB_ECORRUPT, 0, "segment head: %zu bytes", len);
	if (version != 1)
		return lb_err_set(err, LB_EVERSION, 0, "segment layout version %" PRIu64, version);
	return 0;
}

/* ---- one record ---- */

int rep_seg_header(struct lb_file *f, uint64_t seg_number, uint64_t off, uint64_t seg_bytes,
		   struct rep_record *r, struct lb_err *err)
{
	uint8_t head[REP_RECORD_HEADER_BYTES];
	int rc;

	*r = (struct rep_record){.offset = off};
	if (off > seg_bytes || seg_bytes - off < sizeof(head))
		return lb_err_set(err, LB_ECORRUPT, 0, "record header at %" PRIu64 ": end of file",
				  off);
	rc = lb_file_pread_full(f, head, sizeof(head), off, err);
	if (rc == 0)
		rc = rep_record_decode(r, head, sizeof(head), err);
	if (rc != 0)
		return lb_err_wrap(err, rc, "record header at %" PRIu64, off);
	if (r->segment != seg_number || r->offset != off)
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "record header at %" PRIu64 ": written for segment %" PRIu64
				  " offset %" PRIu64,
				  off, r->segment, r->offset);
	if (rep_record_span(r->bytes) > seg_bytes - off)
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "record at %" PRIu64 ": %u bytes go past the end", off, r->bytes);
	return 0;
}

static int check_body(const struct rep_record *r, const uint8_t *p, size_t padded,
		      struct lb_err *err)
{
	if (lb_crc32c(0, p, r->bytes) != r->body_crc)
		return lb_err_set(err, LB_ECORRUPT, 0, "record at %" PRIu64 ": CRC of its %u bytes",
				  r->offset, r->bytes);
	for (size_t i = r->bytes; i < padded; i++)
		if (p[i] != 0)
			return lb_err_set(err, LB_ECORRUPT, 0,
					  "record at %" PRIu64 ": padding is not zero", r->offset);
	return 0;
}

int rep_seg_record(struct lb_file *f, uint64_t seg_number, uint64_t off, uint64_t seg_bytes,
		   struct rep_record *r, struct lb_buf **body, struct lb_err *err)
{
	struct lb_buf *b = NULL;
	size_t padded;
	int rc = rep_seg_header(f, seg_number, off, seg_bytes, r, err);

	if (rc != 0)
		return rc;
	padded = (size_t)(rep_record_span(r->bytes) - REP_RECORD_HEADER_BYTES);
	rc = lb_buf_create(&b, padded > 0 ? padded : 1, err);
	if (rc == 0)
		rc = lb_file_pread_full(f, b->p, padded, off + REP_RECORD_HEADER_BYTES, err);
	if (rc == 0)
		rc = check_body(r, b->p, padded, err);
	if (rc == 0 && body != NULL) {
		b->len = r->bytes;
		*body = b;
		b = NULL;
	}
	lb_buf_unref(b);
	return rc;
}

/* ---- entries of a segment ---- */

int rep_entry_reserve(struct rep_entry **v, uint32_t n, uint32_t *cap, struct lb_err *err)
{
	uint32_t want = *cap == 0 ? 64 : *cap * 2;
	struct rep_entry *more;

	if (n <= *cap)
		return 0;
	more = realloc(*v, want * sizeof(**v));
	if (more == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "list %u records", want);
	*v = more;
	*cap = want;
	return 0;
}

int rep_entry_push(struct rep_entry **v, uint32_t *n, uint32_t *cap, const struct rep_entry *e,
		   struct lb_err *err)
{
	int rc = rep_entry_reserve(v, *n + 1, cap, err);

	if (rc == 0)
		(*v)[(*n)++] = *e;
	return rc;
}

void rep_seg_scan_fini(struct rep_seg_scan *sc)
{
	free(sc->entry);
	free(sc->damage);
	*sc = (struct rep_seg_scan){.entries = 0};
}

static struct rep_entry entry_of(const struct rep_record *r)
{
	return (struct rep_entry){
		.owner = r->owner,
		.number = r->number,
		.off8 = (uint32_t)(r->offset / 8),
		.bytes = r->bytes,
		.kind = (uint16_t)r->kind,
	};
}

static int scan_damage(struct rep_seg_scan *sc, uint64_t segment, const struct rep_entry *e,
		       const char *what, struct lb_err *err)
{
	struct rep_damage *d;

	if (sc->damages == sc->damage_cap) {
		uint32_t want = sc->damage_cap == 0 ? 8 : sc->damage_cap * 2;
		struct rep_damage *more;

		if (sc->damages >= REP_DAMAGE_MAX)
			return 0;
		more = realloc(sc->damage, want * sizeof(*more));
		if (more == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "list damage");
		sc->damage = more;
		sc->damage_cap = want;
	}
	d = &sc->damage[sc->damages++];
	*d = (struct rep_damage){
		.layer = e->owner,
		.kind = (enum rep_record_kind)e->kind,
		.number = e->number,
		.segment = segment,
		.offset = (uint64_t)e->off8 * 8,
	};
	(void)snprintf(d->what, sizeof(d->what), "%s", what);
	return 0;
}

/* Take over what the directory lists: records that follow each other. A gap is bytes that rotted
 * before the segment was closed, so that nobody knew what they were. */
static int directory_entries(struct rep_seg_scan *out, const struct lb_buf *body, uint64_t number,
			     uint64_t dir_off, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(body->p, body->len);
	uint32_t n = lb_rd_u32le(&rd);
	uint32_t flags = lb_rd_u32le(&rd);
	uint64_t of = lb_rd_u64le(&rd);
	uint64_t off = 0;

	if (rd.bad || flags != 0 || of != number || n > REP_SEG_MAX_RECORDS ||
	    rd.left != (size_t)n * REP_SEG_ENTRY_BYTES)
		return lb_err_set(err, LB_ECORRUPT, 0, "directory: %u entries in %zu bytes", n,
				  body->len);
	for (uint32_t i = 0; i < n; i++) {
		struct rep_entry e;
		int rc;

		rep_entry_decode(&e, lb_rd_bytes(&rd, REP_SEG_ENTRY_BYTES));
		if ((uint64_t)e.off8 * 8 < off || e.bytes > REP_RECORD_MAX)
			return lb_err_set(err, LB_ECORRUPT, 0, "directory: entry %u does not fit",
					  i);
		off = (uint64_t)e.off8 * 8 + rep_record_span(e.bytes);
		rc = rep_entry_push(&out->entry, &out->entries, &out->cap, &e, err);
		if (rc != 0)
			return rc;
	}
	if (off > dir_off)
		return lb_err_set(err, LB_ECORRUPT, 0, "directory: ends at %" PRIu64, off);
	return 0;
}

/* The closing mark is of fixed size and written twice: look where both copies are. */
static int closing_mark(struct rep_mark *m, struct lb_file *f, uint64_t number, uint64_t bytes,
			const uint8_t tag[REP_TAG_BYTES], struct lb_err *err)
{
	uint64_t span = rep_record_span(REP_MARK_FIXED);
	int rc = LB_ECORRUPT;

	for (uint64_t back = 2; back >= 1 && rc != 0; back--) {
		struct lb_buf *body = NULL;
		struct rep_record r;

		if (bytes < back * span)
			continue;
		rc = rep_seg_record(f, number, bytes - back * span, bytes, &r, &body, err);
		if (rc == 0 && r.kind != REP_RECORD_MARK)
			rc = lb_err_set(err, LB_ECORRUPT, 0, "no mark at the end");
		if (rc == 0)
			rc = rep_mark_decode(m, body->p, body->len, tag, err);
		if (rc == 0 && m->dir_off == 0)
			rc = lb_err_set(err, LB_ECORRUPT, 0, "no closing mark at the end");
		lb_buf_unref(body);
	}
	return rc;
}

int rep_seg_directory(struct rep_seg_scan *out, struct lb_file *f, uint64_t number, uint64_t bytes,
		      const uint8_t tag[REP_TAG_BYTES], struct lb_err *err)
{
	struct rep_mark m;
	struct rep_record r;
	struct lb_buf *body = NULL;
	int rc;

	*out = (struct rep_seg_scan){.entries = 0};
	rc = closing_mark(&m, f, number, bytes, tag, err);
	if (rc == 0)
		rc = rep_seg_record(f, number, m.dir_off, bytes, &r, &body, err);
	if (rc == 0 && r.kind != REP_RECORD_DIRECTORY)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "no directory at %" PRIu64, m.dir_off);
	if (rc == 0)
		rc = directory_entries(out, body, number, m.dir_off, err);
	if (rc == 0) {
		out->commit = m.commit;
		out->dir_off = m.dir_off;
		out->marked = out->entries;
		out->mark_end = out->tail = bytes;
	} else {
		rep_seg_scan_fini(out);
	}
	lb_buf_unref(body);
	return rc;
}

/* ---- scan ---- */

struct scan {
	struct rep_seg_scan *o;
	struct lb_file *f;
	uint64_t number, bytes;
	const uint8_t *tag;
	uint64_t off;
	uint32_t crc;     /* over the headers since the newest mark */
	uint32_t records; /* since the newest mark */
	bool hurt;        /* something since the newest mark could not be read */
};

/* Only these mean "these bytes are not a good record"; anything else ends the scan: on a read
 * error nothing may be cut. */
static bool is_bad(int rc)
{
	return rc == LB_ECORRUPT || rc == LB_EVERSION || rc == LB_EINPUT;
}

static int mark_at(struct scan *c, uint64_t off, struct rep_record *r, struct rep_mark *m,
		   struct lb_buf **body, struct lb_err *err)
{
	int rc = rep_seg_record(c->f, c->number, off, c->bytes, r, body, err);

	if (rc == 0 && r->kind != REP_RECORD_MARK)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "no mark");
	if (rc == 0)
		rc = rep_mark_decode(m, (*body)->p, (*body)->len, c->tag, err);
	if (rc != 0) {
		lb_buf_unref(*body);
		*body = NULL;
	}
	return rc;
}

/* The next good mark of this store at or behind @from. LB_ENOTFOUND when there is none. */
static int find_mark(struct scan *c, uint64_t from, uint64_t *at, struct lb_err *err)
{
	uint8_t *buf = malloc(SCAN_CHUNK);
	int rc = LB_ENOTFOUND;

	if (buf == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "search for a mark");
	for (uint64_t base = from; rc == LB_ENOTFOUND && base < c->bytes; base += SCAN_CHUNK) {
		size_t got = 0;
		int io = lb_file_pread(c->f, buf, SCAN_CHUNK, base, &got, err);

		if (io != 0)
			rc = io;
		for (size_t i = 0; rc == LB_ENOTFOUND && i + 8 <= got; i += 8) {
			struct lb_buf *body = NULL;
			struct rep_record r;
			struct rep_mark m;
			int found;

			if (memcmp(buf + i, "LBR1", 4) != 0 || buf[i + 4] != REP_RECORD_MARK)
				continue;
			found = mark_at(c, base + i, &r, &m, &body, NULL);
			lb_buf_unref(body);
			*at = base + i;
			if (found == 0 || !is_bad(found))
				rc = found;
		}
	}
	free(buf);
	return rc;
}

static void take_mark(struct scan *c, const struct rep_mark *m, uint64_t span)
{
	struct rep_seg_scan *o = c->o;

	if (!(m->echo && m->commit == o->commit))
		o->batch_start = o->mark_end;
	o->commit = m->commit;
	o->marked = o->entries;
	o->mark_end = c->off + span;
	if (m->dir_off != 0)
		o->dir_off = m->dir_off;
	c->crc = 0;
	c->records = 0;
	c->hurt = false;
}

static int scan_mark(struct scan *c, const struct rep_entry *e, struct lb_err *err)
{
	struct lb_buf *body = NULL;
	struct rep_record r;
	struct rep_mark m;
	bool first;
	int rc = mark_at(c, c->off, &r, &m, &body, err);

	if (rc != 0)
		return rc;
	first = !(m.echo && m.commit == c->o->commit);
	if (first && !c->hurt && (m.records != c->records || m.headers_crc != c->crc))
		rc = scan_damage(c->o, c->number, e, "records before this mark are not its own",
				 err);
	if (rc == 0)
		rc = rep_entry_push(&c->o->entry, &c->o->entries, &c->o->cap, e, err);
	if (rc == 0)
		take_mark(c, &m, rep_record_span(r.bytes));
	lb_buf_unref(body);
	return rc;
}

/* Entries the mark @m at @at lists between the bad bytes at c->off and itself. */
static int take_listed(struct scan *c, const struct rep_mark *m, uint64_t at, bool *told,
		       struct lb_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < m->entries && rc == 0; i++) {
		struct rep_record r;
		struct rep_entry e;
		int head;

		rep_entry_decode(&e, m->entry_bytes + (size_t)i * REP_SEG_ENTRY_BYTES);
		if ((uint64_t)e.off8 * 8 < c->off || (uint64_t)e.off8 * 8 >= at)
			continue;
		head = rep_seg_header(c->f, c->number, (uint64_t)e.off8 * 8, c->bytes, &r, err);
		if (head != 0 && !is_bad(head))
			return head;
		e.bad = head != 0 || r.kind != (enum rep_record_kind)e.kind ||
			r.number != e.number || r.bytes != e.bytes ||
			!lb_id_equal(&r.owner, &e.owner);
		if (e.bad) {
			*told = true;
			rc = scan_damage(c->o, c->number, &e, "record header", err);
		}
		if (rc == 0)
			rc = rep_entry_push(&c->o->entry, &c->o->entries, &c->o->cap, &e, err);
	}
	return rc;
}

/* Of the first copy of mark @m, which is an echo: a closing one lists nothing. */
static uint32_t mark_body(const struct rep_mark *m)
{
	return REP_MARK_FIXED + (m->dir_off == 0 ? m->records * REP_SEG_ENTRY_BYTES : 0);
}

/* Are the bad bytes at c->off the first copy of mark @m, whose echo is at @at? Records before them
 * are the batch, complete; and the length fits. */
static bool is_torn_mark(const struct scan *c, const struct rep_mark *m, uint64_t at)
{
	return m->echo && !c->hurt && m->records == c->records && m->headers_crc == c->crc &&
	       m->records <= REP_SEG_MAX_RECORDS && at - c->off == rep_record_span(mark_body(m));
}

static int take_torn_mark(struct scan *c, const struct rep_mark *m, uint64_t at, struct lb_err *err)
{
	struct rep_seg_scan *o = c->o;
	struct rep_entry e = {
		.kind = REP_RECORD_MARK, .off8 = (uint32_t)(c->off / 8), .bytes = mark_body(m)};

	o->torn_mark = c->off;
	o->torn_commit = m->commit;
	o->torn_first = o->entries - m->records;
	o->torn_records = m->records;
	o->torn_crc = m->headers_crc;
	o->torn_dir_off = m->dir_off;
	o->torn_damage = o->damages;
	c->off = at;
	/* Listed all the same: mended or not, its bytes are there. */
	if (rep_entry_push(&o->entry, &o->entries, &o->cap, &e, err) != 0)
		return LB_ENOMEM;
	return scan_damage(o, c->number, &e, "only its echo is good", err);
}

/* The record at c->off is bad. If a mark follows it was durable once: damage, go on behind it.
 * Else it is the torn tail: *stop. */
static int skip_damage(struct scan *c, bool *stop, struct lb_err *err)
{
	struct lb_buf *body = NULL;
	struct rep_record r;
	struct rep_mark m;
	uint64_t at = 0;
	bool told = false;
	int rc = find_mark(c, c->off + 8, &at, err);

	if (rc == LB_ENOTFOUND) {
		*stop = true;
		return 0;
	}
	if (rc == 0)
		rc = mark_at(c, at, &r, &m, &body, err);
	if (rc == 0 && is_torn_mark(c, &m, at)) {
		rc = take_torn_mark(c, &m, at, err);
		lb_buf_unref(body);
		return rc;
	}
	if (rc == 0)
		rc = take_listed(c, &m, at, &told, err);
	if (rc == 0 && !told) {
		struct rep_entry e = {.off8 = (uint32_t)(c->off / 8), .kind = REP_RECORD_MARK};

		if (c->off == 0)
			e.kind = REP_RECORD_SEGMENT;
		rc = scan_damage(c->o, c->number, &e,
				 "bytes before the next mark are no good record", err);
	}
	if (rc == 0) {
		c->off = at;
		c->hurt = true;
	}
	lb_buf_unref(body);
	return rc;
}

static int scan_step(struct scan *c, bool *stop, struct lb_err *err)
{
	uint8_t head[REP_RECORD_HEADER_BYTES];
	struct rep_record r;
	struct rep_entry e;
	int rc = rep_seg_header(c->f, c->number, c->off, c->bytes, &r, err);

	if (rc == 0 && (c->off == 0) != (r.kind == REP_RECORD_SEGMENT))
		rc = lb_err_set(err, LB_ECORRUPT, 0, "segment head out of place");
	if (rc == 0) {
		e = entry_of(&r);
		if (r.kind == REP_RECORD_MARK)
			rc = scan_mark(c, &e, err);
		else
			rc = rep_entry_push(&c->o->entry, &c->o->entries, &c->o->cap, &e, err);
	}
	if (is_bad(rc))
		return skip_damage(c, stop, err);
	if (rc != 0)
		return rc;
	if (r.kind != REP_RECORD_MARK && r.kind != REP_RECORD_SEGMENT) {
		rep_record_encode(head, &r);
		c->crc = lb_crc32c(c->crc, head, sizeof(head));
		c->records++;
	}
	c->off += rep_record_span(r.bytes);
	return 0;
}

/* Check the bodies behind the newest mark; what follows the first bad one is not kept. */
static int check_tail(struct scan *c, struct lb_err *err)
{
	struct rep_seg_scan *o = c->o;

	o->tail = o->mark_end;
	for (uint32_t i = o->marked; i < o->entries; i++) {
		uint8_t head[REP_RECORD_HEADER_BYTES];
		uint64_t off = (uint64_t)o->entry[i].off8 * 8;
		struct rep_record r;
		int rc = rep_seg_record(c->f, c->number, off, c->bytes, &r, NULL, err);

		if (rc != 0 && !is_bad(rc))
			return rc;
		/* A directory without its closing mark: the segment was about to be closed. */
		if (rc != 0 || r.kind == REP_RECORD_DIRECTORY) {
			o->entries = i;
			break;
		}
		if (r.kind != REP_RECORD_SEGMENT) {
			rep_record_encode(head, &r);
			o->tail_crc = lb_crc32c(o->tail_crc, head, sizeof(head));
		}
		o->tail = off + rep_record_span(r.bytes);
	}
	return 0;
}

int rep_seg_scan(struct rep_seg_scan *out, struct lb_file *f, uint64_t number, uint64_t bytes,
		 const uint8_t tag[REP_TAG_BYTES], struct lb_err *err)
{
	struct scan c = {.o = out, .f = f, .number = number, .bytes = bytes, .tag = tag};
	bool stop = false;
	int rc = 0;

	*out = (struct rep_seg_scan){.entries = 0};
	if (bytes > REP_SEG_MAX_BYTES)
		return lb_err_set(err, LB_ECORRUPT, 0, "segment of %" PRIu64 " bytes", bytes);
	while (rc == 0 && !stop && c.off < bytes)
		rc = scan_step(&c, &stop, err);
	if (rc == 0)
		rc = check_tail(&c, err);
	if (rc != 0)
		rep_seg_scan_fini(out);
	return rc;
}
