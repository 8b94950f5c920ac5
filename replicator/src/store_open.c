#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/rd.h"
#include "base/wr.h"
#include "store_int.h"

#define ID_FILE       "store.id"
#define ID_BYTES      44u
#define ID_MAGIC      UINT32_C(0x3153424c) /* "LBS1" */
#define REWRITE_CHUNK ((size_t)1 << 20)
#define READ_TRIES    3

/* ---- store.id ---- */

static void id_encode(uint8_t out[ID_BYTES], const struct rep_store *s)
{
	struct lb_wr wr = lb_wr_init(out, ID_BYTES);

	lb_wr_u32le(&wr, ID_MAGIC);
	lb_wr_u32le(&wr, 1);
	lb_wr_id(&wr, &s->id);
	lb_wr_bytes(&wr, s->tag, REP_TAG_BYTES);
	lb_wr_u32le(&wr, lb_crc32c(0, out, ID_BYTES - 4));
	LB_ASSERT(lb_wr_done(&wr));
}

static int id_decode(struct rep_store *s, const uint8_t *p, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	uint32_t magic = lb_rd_u32le(&rd);
	uint32_t version = lb_rd_u32le(&rd);
	struct lb_id id = lb_rd_id(&rd);
	uint8_t tag[REP_TAG_BYTES];
	uint32_t crc;

	lb_rd_copy(&rd, tag, sizeof(tag));
	crc = lb_rd_u32le(&rd);
	if (!lb_rd_done(&rd) || magic != ID_MAGIC || crc != lb_crc32c(0, p, ID_BYTES - 4))
		return lb_err_set(err, LB_ECORRUPT, 0, ID_FILE ": damaged");
	if (version != 1)
		return lb_err_set(err, LB_EVERSION, 0, ID_FILE ": version %" PRIu32, version);
	s->id = id;
	memcpy(s->tag, tag, sizeof(tag));
	return 0;
}

static int id_write(struct rep_store *s, struct lb_err *err)
{
	uint8_t p[ID_BYTES];

	id_encode(p, s);
	return lb_fs_replace(s->fs, ID_FILE, p, sizeof(p), err);
}

/* Every segment says whose it is: the file can be made again from any of them. */
static int id_from_segments(struct rep_store *s, struct lb_err *err)
{
	for (uint32_t i = 0; i < s->segs; i++) {
		struct rep_seg_head h;
		struct rep_record r;
		struct lb_buf *body = NULL;
		struct lb_file *f;
		int rc = rep_file_get(s, i, &f, err);

		if (rc != 0)
			return rc;
		rc = rep_seg_record(f, s->seg[i].number, 0, s->seg[i].bytes, &r, &body, err);
		rep_file_put(s, i);
		if (rc == 0 && r.kind == REP_RECORD_SEGMENT)
			rc = rep_seg_head_decode(&h, body->p, body->len, err);
		else if (rc == 0)
			rc = LB_ECORRUPT;
		lb_buf_unref(body);
		if (rc == 0) {
			struct rep_damage d = {.kind = REP_RECORD_SEGMENT};

			s->id = h.store;
			memcpy(s->tag, h.tag, REP_TAG_BYTES);
			(void)snprintf(d.what, sizeof(d.what),
				       ID_FILE ": missing or damaged, made again");
			rep_damage_add(s, &d);
			return id_write(s, err);
		}
	}
	return lb_err_set(err, LB_ECORRUPT, 0, "no segment says which store this is");
}

static int id_load(struct rep_store *s, struct lb_err *err)
{
	uint8_t *p = NULL;
	size_t len = 0;
	int rc = lb_fs_read_all(s->fs, ID_FILE, ID_BYTES * 2, &p, &len, err);

	if (rc == 0)
		rc = id_decode(s, p, len, err);
	free(p);
	if (rc == 0 || (rc != LB_ENOTFOUND && rc != LB_ECORRUPT && rc != LB_EINPUT))
		return rc;
	if (s->segs > 0)
		return id_from_segments(s, err);
	lb_id_random(&s->id, s->env);
	s->env->random(s->env, s->tag, sizeof(s->tag));
	return id_write(s, err);
}

/* ---- the list of segments ---- */

static int push_seg(struct rep_store *s, uint64_t number, struct lb_err *err)
{
	if (s->segs == s->seg_cap) {
		uint32_t want = s->seg_cap == 0 ? 8 : s->seg_cap * 2;
		struct rep_seg *more = realloc(s->seg, want * sizeof(*more));

		if (more == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "list %u segments", want);
		s->seg = more;
		s->seg_cap = want;
	}
	s->seg[s->segs++] = (struct rep_seg){.number = number};
	return 0;
}

struct listing {
	struct rep_store *s;
	struct lb_err *err;
};

/* Names that are not 16 lower-case hex digits and ".seg" are not ours: left alone. */
static int list_one(void *arg, const char *name)
{
	struct listing *l = arg;
	uint64_t number = 0;

	if (strlen(name) != 20 || strcmp(name + 16, ".seg") != 0)
		return 0;
	for (int i = 0; i < 16; i++) {
		const char *digit = strchr("0123456789abcdef", name[i]);
		uint64_t v = 0;

		if (digit == NULL)
			return 0;
		while ("0123456789abcdef"[v] != *digit)
			v++;
		number = number << 4 | v;
	}
	return number == 0 ? 0 : push_seg(l->s, number, l->err);
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = ((const struct rep_seg *)a)->number;
	uint64_t y = ((const struct rep_seg *)b)->number;

	return x < y ? -1 : x > y;
}

static int list_segments(struct rep_store *s, struct lb_err *err)
{
	struct listing l = {.s = s, .err = err};
	int rc = lb_fs_list(s->fs, "seg", list_one, &l, err);

	if (rc != 0)
		return rc;
	if (s->segs > 1)
		qsort(s->seg, s->segs, sizeof(*s->seg), by_number);
	for (uint32_t i = 0; i < s->segs && rc == 0; i++) {
		struct lb_file *f;

		rc = rep_file_get(s, i, &f, err);
		if (rc == 0) {
			rc = lb_file_size(f, &s->seg[i].bytes, err);
			rep_file_put(s, i);
		}
	}
	return rc;
}

/* ---- what the records of a segment say ---- */

static int apply_manifest(struct rep_store *s, uint32_t seg, const struct rep_entry *e,
			  const struct lb_buf *body, struct lb_err *err)
{
	struct rep_manifest *m = NULL;
	struct rep_spoint *p = NULL;
	struct lb_hash hash;
	int rc = rep_manifest_alloc(&m, body, err);

	if (rc != 0)
		return rc;
	rep_manifest_hash(&hash, body->p, body->len);
	rc = rep_points_reserve(s, &m->group, err);
	if (rc == 0 && rep_point_lookup(s, &hash, NULL) == NULL)
		rc = rep_point_create(&p, s, m, &hash, (struct rep_loc){seg, e->off8}, err);
	for (uint32_t i = 0; rc == 0 && p != NULL && i < m->volumes; i++) {
		struct rep_layer *l;

		rc = rep_layer_get(&l, s, &m->volume[i].layer, err);
		if (rc != 0)
			break;
		l->group = m->group;
		l->volume = m->volume[i].volume;
		l->root = m->volume[i].root;
	}
	if (rc == 0 && p != NULL) {
		rep_point_add(s, p);
		rep_point_show(s, s->points - 1);
		p = NULL;
	}
	free(p);
	free(m);
	return rc;
}

static int apply_receipt(struct rep_store *s, uint32_t seg, const struct rep_entry *e,
			 const struct lb_buf *body, struct lb_err *err)
{
	struct rep_receipt r;
	struct rep_spoint *p;
	int rc = rep_receipt_decode(&r, body->p, body->len, err);

	if (rc != 0)
		return rc;
	if (r.counter > s->counter)
		s->counter = r.counter;
	p = rep_point_lookup(s, &r.manifest, NULL);
	if (p == NULL)
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "receipt %" PRIu64 ": its manifest is not in the store",
				  r.counter);
	p->receipt = (struct rep_loc){seg, e->off8};
	p->pub.receive_wall_ns = r.receive_wall_ns;
	return 0;
}

static int apply_part(struct rep_store *s, uint32_t seg, const struct rep_entry *e,
		      struct lb_err *err)
{
	struct rep_layer *l;
	int rc;

	if (lb_id_is_zero(&e->owner))
		return 0;
	rc = rep_layer_get(&l, s, &e->owner, err);
	if (rc == 0)
		rc = rep_layer_reserve_seg(l, err);
	if (rc == 0) {
		rep_layer_in_seg(l, seg);
		if (e->kind == REP_RECORD_ABANDON)
			l->abandoned = true;
		if (e->bad)
			l->damaged = true;
	}
	return rc;
}

/* A disk that answers after a second try has lost nothing. One that does not is no reason to keep
 * all other points from a failover either: the caller takes it as damage. */
static int read_listed(struct rep_store *s, uint32_t seg, const struct rep_entry *e,
		       struct lb_buf **body, struct lb_err *err)
{
	struct rep_record r;
	int rc = LB_EIO;

	for (int tries = 0; rc == LB_EIO && tries < READ_TRIES; tries++)
		rc = rep_store_record(s, (struct rep_loc){seg, e->off8}, &r, body, err);
	if (rc == 0 && r.kind != (enum rep_record_kind)e->kind)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "not the record listed there");
	if (rc == LB_EIO)
		s->recovery.unread++;
	return rc;
}

static int apply_entry(struct rep_store *s, uint32_t seg, const struct rep_entry *e,
		       struct lb_err *err)
{
	struct lb_buf *body = NULL;
	struct lb_err why = {.code = 0};
	int rc;

	if ((e->kind >= REP_RECORD_LAYER_HEADER && e->kind <= REP_RECORD_FOOTER) ||
	    e->kind == REP_RECORD_ABANDON)
		return apply_part(s, seg, e, err);
	if ((e->kind != REP_RECORD_MANIFEST && e->kind != REP_RECORD_RECEIPT) || e->bad)
		return 0;
	rc = read_listed(s, seg, e, &body, &why);
	if (rc == 0)
		rc = e->kind == REP_RECORD_MANIFEST ? apply_manifest(s, seg, e, body, &why)
						    : apply_receipt(s, seg, e, body, &why);
	lb_buf_unref(body);
	if (rc == LB_ENOMEM)
		return lb_err_set(err, LB_ENOMEM, 0, "%s", why.msg);
	if (rc != 0) {
		struct rep_damage d = {.kind = (enum rep_record_kind)e->kind,
				       .segment = s->seg[seg].number,
				       .offset = (uint64_t)e->off8 * 8};

		rep_damage_text(s, &d, why.msg);
		rep_damage_add(s, &d);
	}
	return 0;
}

static int apply_scan(struct rep_store *s, uint32_t seg, const struct rep_seg_scan *sc,
		      struct lb_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < sc->entries && rc == 0; i++)
		rc = apply_entry(s, seg, &sc->entry[i], err);
	/* After the manifests, so that damage names the machine's group. */
	for (uint32_t i = 0; i < sc->damages && rc == 0; i++) {
		struct rep_damage d = sc->damage[i];
		char why[sizeof(d.what)];

		memcpy(why, d.what, sizeof(why));
		rep_damage_text(s, &d, why);
		rep_damage_add(s, &d);
	}
	s->recovery.records += sc->entries;
	if (sc->commit > s->commit)
		s->commit = sc->commit;
	return rc;
}

/* ---- finished segments ---- */

static void seg_damage(struct rep_store *s, uint64_t number, enum rep_record_kind kind,
		       const char *why)
{
	struct rep_damage d = {.kind = kind, .segment = number};

	rep_damage_text(s, &d, why);
	rep_damage_add(s, &d);
}

static int check_head(struct rep_store *s, uint32_t seg, struct lb_file *f, struct lb_err *err)
{
	struct rep_seg_head h;
	struct rep_record r;
	struct lb_buf *body = NULL;
	int rc = rep_seg_record(f, s->seg[seg].number, 0, s->seg[seg].bytes, &r, &body, NULL);

	if (rc == 0 && r.kind == REP_RECORD_SEGMENT)
		rc = rep_seg_head_decode(&h, body->p, body->len, NULL);
	lb_buf_unref(body);
	if (rc != 0 || r.kind != REP_RECORD_SEGMENT)
		return rc == LB_EVERSION
			       ? lb_err_set(err, rc, 0,
					    "segment %" PRIx64 ": layout of a newer version",
					    s->seg[seg].number)
			       : 0; /* damage: told when its records are read */
	if (!lb_id_equal(&h.store, &s->id) || memcmp(h.tag, s->tag, REP_TAG_BYTES) != 0)
		return lb_err_set(err, LB_ECORRUPT, 0, "segment %" PRIx64 " is of another store",
				  s->seg[seg].number);
	return 0;
}

static int load_finished(struct rep_store *s, uint32_t seg, struct lb_err *err)
{
	struct rep_seg *g = &s->seg[seg];
	struct rep_seg_scan sc = {.entries = 0};
	struct lb_file *f;
	int rc = rep_file_get(s, seg, &f, err);

	if (rc != 0)
		return rc;
	rc = check_head(s, seg, f, err);
	if (rc == 0) {
		rc = LB_EIO;
		for (int tries = 0; rc == LB_EIO && tries < READ_TRIES; tries++)
			rc = rep_seg_directory(&sc, f, g->number, g->bytes, s->tag, err);
		g->closed = rc == 0;
		g->dir_off = sc.dir_off;
	}
	if (rc != 0 && rc != LB_ENOMEM && !g->closed && rc != LB_EVERSION) {
		rc = rep_seg_scan(&sc, f, g->number, g->bytes, s->tag, err);
		if (rc == 0)
			seg_damage(s, g->number, REP_RECORD_DIRECTORY,
				   "not readable; the segment was read record by record");
	}
	rep_file_put(s, seg);
	if (rc == 0)
		rc = apply_scan(s, seg, &sc, err);
	if (rc == 0 && !g->closed) {
		g->entry = sc.entry;
		g->entries = sc.entries;
		g->entry_cap = sc.cap;
		sc.entry = NULL;
	}
	rep_seg_scan_fini(&sc);
	return rc;
}

/* ---- the last segment ---- */

/* Write the newest batch once more. A sync that failed in an earlier process may have left pages
 * that read well, count as clean, and are not on the disk; and the newest mark may be one of them.
 * Writing the same bytes makes them dirty again: the sync that follows is then proof. */
static int rewrite(struct lb_file *f, uint64_t from, uint64_t to, struct lb_err *err)
{
	uint8_t *p = malloc(REWRITE_CHUNK);
	int rc = 0;

	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "rewrite the newest batch");
	while (rc == 0 && from < to) {
		size_t n = to - from < REWRITE_CHUNK ? (size_t)(to - from) : REWRITE_CHUNK;

		rc = lb_file_pread_full(f, p, n, from, err);
		if (rc == 0)
			rc = lb_file_pwrite(f, p, n, from, err);
		from += n;
	}
	free(p);
	return rc;
}

/* A manifest behind the newest mark was never committed. Left as it is, the next mark would make it
 * visible behind the back of whoever decides that: write over it with a void record. */
static int void_manifests(struct rep_store *s, struct lb_file *f, uint64_t number,
			  struct rep_seg_scan *sc, struct lb_err *err)
{
	for (uint32_t i = sc->marked; i < sc->entries; i++) {
		struct rep_entry *e = &sc->entry[i];
		struct rep_record r = {.kind = REP_RECORD_ABANDON,
				       .bytes = e->bytes,
				       .segment = number,
				       .offset = (uint64_t)e->off8 * 8};
		uint8_t *p;
		int rc;

		if (e->kind != REP_RECORD_MANIFEST)
			continue;
		p = calloc(1, (size_t)rep_record_span(e->bytes));
		if (p == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "void a manifest");
		r.body_crc = lb_crc32c(0, p, e->bytes);
		rep_record_encode(p, &r);
		rc = lb_file_pwrite(f, p, (size_t)rep_record_span(e->bytes), r.offset, err);
		free(p);
		if (rc != 0)
			return rc;
		e->kind = REP_RECORD_ABANDON;
		s->recovery.voided++;
	}
	return 0;
}

static int batch_crc(struct rep_store *s, struct lb_file *f, const struct rep_seg *g,
		     const struct rep_seg_scan *sc, struct lb_err *err)
{
	s->batch_crc = 0;
	for (uint32_t i = sc->marked; i < sc->entries; i++) {
		uint8_t head[REP_RECORD_HEADER_BYTES];
		struct rep_record r;
		int rc = rep_seg_header(f, g->number, (uint64_t)sc->entry[i].off8 * 8, sc->tail, &r,
					err);

		if (rc != 0)
			return rc;
		if (r.kind == REP_RECORD_SEGMENT)
			continue;
		rep_record_encode(head, &r);
		s->batch_crc = lb_crc32c(s->batch_crc, head, sizeof(head));
	}
	return 0;
}

/* The newest mark was torn, its echo is whole: the batch was committed. Write the mark again. */
static int mend_mark(struct rep_store *s, struct lb_file *f, uint64_t number,
		     struct rep_seg_scan *sc, struct lb_err *err)
{
	uint32_t listed = sc->torn_dir_off == 0 ? sc->torn_records : 0;
	uint32_t body = REP_MARK_FIXED + listed * REP_SEG_ENTRY_BYTES;
	struct rep_mark m = {.commit = sc->torn_commit,
			     .records = sc->torn_records,
			     .headers_crc = sc->torn_crc,
			     .dir_off = sc->torn_dir_off,
			     .entries = listed};
	struct rep_record r = {
		.kind = REP_RECORD_MARK, .bytes = body, .segment = number, .offset = sc->torn_mark};
	uint8_t *p;
	int rc;

	if (sc->torn_mark == 0 || sc->torn_commit != sc->commit)
		return 0;
	p = calloc(1, (size_t)rep_record_span(body));
	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "mend a mark");
	rep_mark_encode(p + REP_RECORD_HEADER_BYTES, &m, s->tag);
	for (uint32_t i = 0; i < listed; i++)
		rep_entry_encode(p + REP_RECORD_HEADER_BYTES + REP_MARK_FIXED +
					 (size_t)i * REP_SEG_ENTRY_BYTES,
				 &sc->entry[sc->torn_first + i]);
	r.body_crc = lb_crc32c(0, p + REP_RECORD_HEADER_BYTES, body);
	rep_record_encode(p, &r);
	rc = lb_file_pwrite(f, p, (size_t)rep_record_span(body), sc->torn_mark, err);
	free(p);
	if (rc != 0)
		return rc;
	s->recovery.mended_mark = sc->torn_mark;
	if (sc->torn_damage == sc->damages) /* the list was full: it is not in it */
		return 0;
	memmove(&sc->damage[sc->torn_damage], &sc->damage[sc->torn_damage + 1],
		(sc->damages - sc->torn_damage - 1) * sizeof(*sc->damage));
	sc->damages--;
	return 0;
}

static int mend_last(struct rep_store *s, struct rep_seg *g, struct rep_seg_scan *sc,
		     struct lb_err *err)
{
	int rc = 0;

	if (sc->tail < g->bytes) {
		s->recovery.cut_segment = g->number;
		s->recovery.cut_offset = sc->tail;
		s->recovery.cut_bytes = g->bytes - sc->tail;
		rc = lb_file_truncate(g->file, sc->tail, err);
	}
	if (rc == 0)
		rc = rewrite(g->file, sc->batch_start, sc->tail, err);
	if (rc == 0)
		rc = mend_mark(s, g->file, g->number, sc, err);
	if (rc == 0)
		rc = void_manifests(s, g->file, g->number, sc, err);
	if (rc == 0)
		rc = lb_file_sync(g->file, err);
	if (rc == 0)
		rc = batch_crc(s, g->file, g, sc, err);
	return rc;
}

static int open_last_file(struct rep_store *s, struct rep_seg *g, struct lb_err *err)
{
	char path[32];

	LB_ASSERT(g->users == 0);
	lb_file_close(g->file);
	g->file = NULL;
	rep_seg_path(path, g->number);
	return lb_fs_open(s->fs, &g->file, path, LB_FS_WRITE, err);
}

/* The last segment. A file that was made but holds no good record and no mark was being born. */
static int load_last(struct rep_store *s, struct lb_err *err)
{
	uint32_t seg = s->segs - 1;
	struct rep_seg *g = &s->seg[seg];
	struct rep_seg_scan sc = {.entries = 0};
	int rc = open_last_file(s, g, err);

	if (rc == 0)
		rc = check_head(s, seg, g->file, err);
	if (rc == 0)
		rc = rep_seg_scan(&sc, g->file, g->number, g->bytes, s->tag, err);
	if (rc != 0)
		return rc;
	if (sc.entries == 0) {
		if (g->bytes > 0) {
			s->recovery.cut_segment = g->number;
			s->recovery.cut_bytes = g->bytes;
		}
		lb_file_close(g->file);
		s->segs--;
		s->marked = s->segs > 0 ? s->seg[s->segs - 1].bytes : 0;
		rep_seg_scan_fini(&sc);
		/* With a predecessor it can wait for the first append: a full disk must not keep
		 * the store from being read. */
		s->need_successor = true;
		return s->segs > 0 ? 0 : rep_store_successor(s, err);
	}
	rc = mend_last(s, g, &sc, err);
	g->bytes = sc.tail;
	g->closed = sc.dir_off != 0;
	g->dir_off = sc.dir_off;
	s->batch = sc.marked > 0 ? sc.marked : 1;
	s->marked = s->batch < sc.entries ? (uint64_t)sc.entry[s->batch].off8 * 8 : sc.tail;
	s->recovery.kept_records = sc.entries - s->batch;
	if (rc == 0)
		rc = apply_scan(s, seg, &sc, err);
	if (rc == 0) {
		g->entry = sc.entry;
		g->entries = sc.entries;
		g->entry_cap = sc.cap;
		sc.entry = NULL;
		s->need_successor = g->closed;
	}
	rep_seg_scan_fini(&sc);
	return rc;
}

int rep_store_successor(struct rep_store *s, struct lb_err *err)
{
	uint64_t previous = s->segs > 0 ? s->seg[s->segs - 1].number : 0;
	struct rep_seg_head h = {.store = s->id, .previous = previous};
	uint8_t p[REP_RECORD_HEADER_BYTES + REP_SEG_HEAD_BYTES];
	struct rep_record r = {.kind = REP_RECORD_SEGMENT, .bytes = REP_SEG_HEAD_BYTES};
	struct rep_entry e = {.kind = REP_RECORD_SEGMENT, .bytes = REP_SEG_HEAD_BYTES};
	struct lb_file *f = NULL;
	struct rep_seg *g;
	char path[32];
	int rc;

	memcpy(h.tag, s->tag, REP_TAG_BYTES);
	r.segment = previous + 1;
	rep_seg_head_encode(p + REP_RECORD_HEADER_BYTES, &h);
	r.body_crc = lb_crc32c(0, p + REP_RECORD_HEADER_BYTES, REP_SEG_HEAD_BYTES);
	rep_record_encode(p, &r);
	rep_seg_path(path, previous + 1);
	rc = lb_fs_open(s->fs, &f, path, LB_FS_CREATE, err);
	if (rc == 0)
		rc = lb_file_truncate(f, 0, err); /* of a first try that failed */
	if (rc == 0)
		rc = lb_file_pwrite(f, p, sizeof(p), 0, err);
	if (rc != 0)
		goto out;
	rc = lb_file_sync(f, err);
	if (rc == 0)
		rc = lb_fs_sync_dir(s->fs, "seg", err);
	if (rc != 0) {
		s->suspect = true;
		goto out;
	}
	rep_lock(s);
	rc = push_seg(s, previous + 1, err);
	g = &s->seg[s->segs - 1];
	if (rc == 0)
		rc = rep_entry_push(&g->entry, &g->entries, &g->entry_cap, &e, err);
	if (rc == 0) {
		g->file = f;
		g->bytes = s->marked = sizeof(p);
		f = NULL;
		s->batch = 1;
		s->batch_crc = 0;
		s->need_successor = false;
	} else if (s->segs > 0 && g->number == previous + 1) {
		s->segs--;
	}
	rep_unlock(s);
out:
	lb_file_close(f);
	return rc;
}

/* ---- open ---- */

static int take_lock(struct rep_store *s, struct lb_err *err)
{
	int rc = lb_fs_open(s->fs, &s->lock, "lock", LB_FS_CREATE, err);

	if (rc == 0)
		rc = lb_file_lock(s->lock, err);
	if (rc == LB_EBUSY)
		return lb_err_wrap(err, rc, "another process has this store open");
	return rc;
}

/* Layers a visible manifest names but of which nothing is there; gaps between segments. */
static void find_holes(struct rep_store *s)
{
	for (uint32_t i = 0; i < s->points; i++) {
		for (uint32_t k = 0; k < s->point[i]->layers; k++) {
			struct rep_damage d = {.layer = s->point[i]->layer[k],
					       .manifest = s->point[i]->pub.manifest,
					       .kind = REP_RECORD_LAYER_HEADER};
			const struct rep_layer *l = rep_layer_find(s, &d.layer);

			if (l != NULL && l->segs > 0)
				continue;
			rep_damage_text(s, &d, "no part of the layer is in the store");
			rep_damage_add(s, &d);
		}
	}
	for (uint32_t i = 1; i < s->segs; i++)
		if (s->seg[i].number != s->seg[i - 1].number + 1)
			seg_damage(s, s->seg[i - 1].number + 1, REP_RECORD_SEGMENT,
				   "the segment file is missing");
}

static int open_all(struct rep_store *s, struct lb_err *err)
{
	int rc = take_lock(s, err);

	if (rc == 0)
		rc = lb_fs_mkdir(s->fs, "seg", err);
	if (rc == 0)
		rc = lb_fs_sync_dir(s->fs, "", err);
	if (rc == 0)
		rc = list_segments(s, err);
	if (rc == 0)
		rc = id_load(s, err);
	/* The directory may be newer in the cache than on the disk: see rewrite(). */
	if (rc == 0)
		rc = lb_fs_sync_dir(s->fs, "seg", err);
	for (uint32_t i = 0; rc == 0 && i + 1 < s->segs; i++)
		rc = load_finished(s, i, err);
	if (rc == 0)
		rc = s->segs > 0 ? load_last(s, err) : rep_store_successor(s, err);
	if (rc == 0)
		find_holes(s);
	s->recovery.segments = s->segs;
	return rc;
}

int rep_store_open(struct rep_store **out, struct lb_env *env, struct lb_fs *fs,
		   const struct rep_store_cfg *cfg, struct lb_err *err)
{
	struct rep_store *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "open a store");
	s->env = env;
	s->fs = fs;
	s->parts_max = REP_PARTS_CACHE;
	s->damage_changes = 1;
	TAILQ_INIT(&s->used);
	s->cfg = (struct rep_store_cfg)REP_STORE_CFG_DEFAULTS;
	if (cfg != NULL)
		s->cfg = *cfg;
	if (s->cfg.segment_bytes == 0 || s->cfg.segment_bytes > REP_SEG_MAX_BYTES / 2) {
		free(s);
		return lb_err_set(err, LB_EINVAL, 0, "segments of %" PRIu64 " bytes",
				  cfg->segment_bytes);
	}
	LB_ASSERT(pthread_mutex_init(&s->mu, NULL) == 0);
	s->layer_salt = lb_env_random_u64(env);
	rc = open_all(s, err);
	if (rc != 0) {
		rep_store_close(s);
		return lb_err_wrap(err, rc, "open the store");
	}
	*out = s;
	return 0;
}

void rep_store_close(struct rep_store *s)
{
	if (s == NULL)
		return;
	for (uint32_t i = 0; i < s->segs; i++) {
		lb_file_close(s->seg[i].file);
		free(s->seg[i].entry);
		free(s->seg[i].sorted);
	}
	for (uint32_t i = 0; i < s->layer_slots; i++)
		rep_layer_destroy(s->layer[i]);
	for (uint32_t i = 0; i < s->points; i++)
		free(s->point[i]);
	for (struct rep_group_name *n = s->names; n != NULL;) {
		struct rep_group_name *next = n->next;

		free(n);
		n = next;
	}
	free(s->seg);
	free(s->layer);
	free(s->point);
	free(s->point_slot);
	free(s->head);
	free(s->damage);
	lb_file_close(s->lock);
	LB_ASSERT(pthread_mutex_destroy(&s->mu) == 0);
	free(s);
}
