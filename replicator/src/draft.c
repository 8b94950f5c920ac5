#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/rd.h"
#include "base/wr.h"
#include "delta_int.h"
#include "draft_int.h"
#include "format_int.h"
#include "replicator/digest.h"
#include "replicator/frame.h"
#include "test_bugs.h"

#define MAGIC         REP_MAGIC('L', 'B', 'J', '1')
#define VERSION       1u
#define BLOCK_BYTES   24u /* of a PACK entry: block and digest */
#define PACK_FIXED    44u
#define BODY_MAX      (PACK_FIXED + REP_PACK_MAX_BLOCKS * BLOCK_BYTES)
#define WALK_BYTES    65536u
#define NUMBERS_AHEAD 65536u /* a number further above the ones before is no number of ours */
#define SPOOL_MEM     (1u << 20)

/* What is kept of a pack that the peer holds. */
struct held_pack {
	struct lb_hash leaf;
	uint32_t bytes;
	uint32_t held;
};

struct rep_draft {
	struct lb_fs *fs;
	struct lb_file *file; /* NULL: given up */
	char path[64];
	struct rep_draft_facts facts; /* as in the header */
	struct lb_id run;
	uint32_t next;           /* above every number noted */
	uint8_t *known, *filled; /* bits by number: some entry names it; a FILL does */
	size_t bits_bytes;       /* of each */
	uint32_t index_parts, digest_parts;

	uint32_t first_missing, extras; /* held by the peer */
	uint32_t extra[REP_ADMIT_MAX_EXTRA];
	bool going_on;
	struct rep_spool places, packs;

	pthread_mutex_t lock; /* guards from here, and file */
	uint64_t bytes;       /* of the good part */
	uint32_t crc;         /* of its last entry: the next goes on from it */
};

void rep_draft_probe(struct lb_digest *out, const struct rep_digest *d)
{
	uint8_t block[REP_BLOCK_BYTES];

	memset(block, 0xdb, sizeof(block));
	rep_digest_of(d, out, block);
}

static void path_of(char out[64], const struct lb_id *volume)
{
	char hex[LB_ID_TEXT];

	(void)snprintf(out, 64, "drafts/%s", lb_id_text(volume, hex));
}

const struct lb_id *rep_draft_layer(const struct rep_draft *d)
{
	return &d->facts.header.layer;
}

uint32_t rep_draft_next(const struct rep_draft *d)
{
	return REP_BUG(draft_number_reused) ? d->first_missing : d->next;
}

uint32_t rep_draft_parts_min(const struct rep_draft *d, enum rep_record_kind kind)
{
	if (!d->going_on)
		return 0;
	return kind == REP_RECORD_INDEX ? d->index_parts : d->digest_parts;
}

bool rep_draft_broken(const struct rep_draft *d)
{
	return d->file == NULL;
}

/* ---- bytes ---- */

static void header_encode(uint8_t out[REP_DRAFT_HEADER_BYTES], const struct rep_draft_facts *f)
{
	struct lb_wr wr = lb_wr_init(out, REP_DRAFT_HEADER_BYTES);
	uint8_t layer[REP_LAYER_HEADER_BYTES];

	rep_layer_header_encode(layer, &f->header);
	lb_wr_u32le(&wr, MAGIC);
	lb_wr_u32le(&wr, VERSION);
	lb_wr_bytes(&wr, layer, sizeof(layer));
	lb_wr_hash(&wr, &f->prev);
	lb_wr_bytes(&wr, f->probe.b, sizeof(f->probe.b));
	lb_wr_id(&wr, &f->run);
	lb_wr_zeros(&wr, 4);
	lb_wr_u32le(&wr, lb_crc32c(0, out, REP_DRAFT_HEADER_BYTES - 4));
	LB_ASSERT(lb_wr_done(&wr) && wr.len == REP_DRAFT_HEADER_BYTES);
}

static int header_decode(struct rep_draft_facts *f, const uint8_t in[REP_DRAFT_HEADER_BYTES],
			 struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(in, REP_DRAFT_HEADER_BYTES);
	uint32_t magic = lb_rd_u32le(&rd), version = lb_rd_u32le(&rd);
	const uint8_t *layer = lb_rd_bytes(&rd, REP_LAYER_HEADER_BYTES);

	f->prev = lb_rd_hash(&rd);
	lb_rd_copy(&rd, f->probe.b, sizeof(f->probe.b));
	f->run = lb_rd_id(&rd);
	bool zeros = rep_rd_zeros(&rd, 4);
	uint32_t crc = lb_rd_u32le(&rd);

	if (magic != MAGIC)
		return lb_err_set(err, LB_ECORRUPT, 0, "draft journal: magic 0x%08x", magic);
	if (crc != lb_crc32c(0, in, REP_DRAFT_HEADER_BYTES - 4))
		return lb_err_set(err, LB_ECORRUPT, 0, "draft journal: checksum 0x%08x", crc);
	if (version != VERSION || !zeros)
		return lb_err_set(err, LB_ECORRUPT, 0, "draft journal: version %u", version);
	return rep_layer_header_decode(&f->header, layer, REP_LAYER_HEADER_BYTES, err);
}

/* An entry, decoded in place. */
struct entry {
	enum rep_draft_entry kind;
	uint32_t number, bytes, count;
	enum rep_record_kind part;
	struct lb_hash leaf;
	struct lb_id run;
	struct lb_rd blocks; /* PACK: count times block and digest */
};

static uint32_t entry_encode(uint8_t *out, uint32_t crc, enum rep_draft_entry kind,
			     const uint8_t *body, uint32_t bytes)
{
	struct lb_wr wr = lb_wr_init(out, REP_DRAFT_ENTRY_BYTES + bytes);
	struct lb_wr head = lb_wr_init(out, 4);

	lb_wr_zeros(&wr, 4);
	lb_wr_u32le(&wr, kind);
	lb_wr_u32le(&wr, bytes);
	lb_wr_bytes(&wr, body, bytes);
	LB_ASSERT(lb_wr_done(&wr));
	crc = lb_crc32c(crc, out + 4, wr.len - 4);
	lb_wr_u32le(&head, crc);
	return crc;
}

static bool pack_valid(const struct rep_draft *d, const struct entry *e)
{
	uint64_t blocks = d->facts.header.volume_bytes / REP_BLOCK_BYTES;
	struct lb_rd rd = e->blocks;

	if (e->count > d->facts.header.pack_raw_bytes / REP_BLOCK_BYTES)
		return false;
	for (uint32_t i = 0; i < e->count; i++) {
		if (lb_rd_u64le(&rd) >= blocks)
			return false;
		(void)lb_rd_bytes(&rd, sizeof(struct lb_digest));
	}
	return lb_rd_done(&rd);
}

static bool is_known(const struct rep_draft *d, const uint8_t *bits, uint32_t number)
{
	return number / 8 < d->bits_bytes && (bits[number / 8] >> (number % 8) & 1) != 0;
}

/* Does the entry decode? A number is packed once; what is filled was packed, or lost with a tail.
 */
static bool entry_decode(const struct rep_draft *d, struct entry *e, uint32_t kind,
			 const uint8_t *body, uint32_t bytes)
{
	struct lb_rd rd = lb_rd_init(body, bytes);

	*e = (struct entry){.kind = kind};
	switch (kind) {
	case REP_DRAFT_PACK:
	case REP_DRAFT_FILL:
		e->number = lb_rd_u32le(&rd);
		e->bytes = lb_rd_u32le(&rd);
		e->leaf = lb_rd_hash(&rd);
		e->count = kind == REP_DRAFT_PACK ? lb_rd_u32le(&rd) : 0;
		e->blocks = rd;
		return !rd.bad && e->number < REP_LAYER_MAX_PACKS && e->bytes <= REP_RECORD_MAX &&
		       e->number <= (uint64_t)d->next + NUMBERS_AHEAD && pack_valid(d, e);
	case REP_DRAFT_PART:
		e->part = (enum rep_record_kind)lb_rd_u32le(&rd);
		e->number = lb_rd_u32le(&rd);
		return lb_rd_done(&rd) && e->number < REP_LAYER_MAX_PARTS &&
		       (e->part == REP_RECORD_INDEX || e->part == REP_RECORD_DIGESTS);
	case REP_DRAFT_RUN:
		e->run = lb_rd_id(&rd);
		return lb_rd_done(&rd);
	default: /* a number from the disk */
		return false;
	}
}

/* ---- reading ---- */

/* The entries one by one, to the first that is torn. */
struct walk {
	struct rep_draft *d;
	uint64_t at;  /* of the next entry */
	uint64_t end; /* where to stop */
	uint32_t crc;
	uint8_t buf[WALK_BYTES];
	uint64_t buf_at;
	size_t len;
};

/* @n bytes at w->at; NULL in *out: there are not so many. */
static int walk_peek(struct walk *w, const uint8_t **out, size_t n, struct lb_err *err)
{
	size_t want = w->end - w->at < WALK_BYTES ? (size_t)(w->end - w->at) : WALK_BYTES;
	int rc;

	*out = NULL;
	if (w->end - w->at < n)
		return 0;
	if (w->at < w->buf_at || w->at + n > w->buf_at + w->len) {
		rc = lb_file_pread(w->d->file, w->buf, want, w->at, &w->len, err);
		if (rc != 0)
			return rc;
		w->buf_at = w->at;
	}
	if (w->at + n <= w->buf_at + w->len)
		*out = w->buf + (w->at - w->buf_at);
	return 0;
}

/* The next entry; *more is false at the end of what is good. */
static int walk_next(struct walk *w, struct entry *e, bool *more, struct lb_err *err)
{
	uint32_t crc, kind = 0, bytes = 0;
	const uint8_t *p;
	int rc = walk_peek(w, &p, REP_DRAFT_ENTRY_BYTES, err);

	*more = false;
	if (rc != 0 || p == NULL)
		return rc;
	struct lb_rd rd = lb_rd_init(p, REP_DRAFT_ENTRY_BYTES);

	crc = lb_rd_u32le(&rd);
	kind = lb_rd_u32le(&rd);
	bytes = lb_rd_u32le(&rd);
	if (bytes > BODY_MAX)
		return 0;
	rc = walk_peek(w, &p, REP_DRAFT_ENTRY_BYTES + bytes, err);
	if (rc != 0 || p == NULL)
		return rc;
	if (crc != lb_crc32c(w->crc, p + 4, REP_DRAFT_ENTRY_BYTES - 4 + bytes) ||
	    !entry_decode(w->d, e, kind, p + REP_DRAFT_ENTRY_BYTES, bytes))
		return 0;
	w->crc = crc;
	w->at += REP_DRAFT_ENTRY_BYTES + bytes;
	*more = true;
	return 0;
}

static int bits_grow(struct rep_draft *d, uint32_t number, struct lb_err *err)
{
	size_t want = d->bits_bytes == 0 ? 1024 : d->bits_bytes;
	uint8_t *p[2] = {d->known, d->filled};

	while (number / 8 >= want)
		want *= 2;
	if (want == d->bits_bytes)
		return 0;
	for (unsigned i = 0; i < 2; i++) {
		uint8_t *more = realloc(p[i], want);

		if (more == NULL)
			return lb_err_set(err, LB_ENOMEM, 0, "the numbers of %u packs", number);
		memset(more + d->bits_bytes, 0, want - d->bits_bytes);
		*(i == 0 ? &d->known : &d->filled) = more;
	}
	d->bits_bytes = want;
	return 0;
}

/* Take note of @e. *good false: it contradicts the entries before it. */
static int entry_count(struct rep_draft *d, const struct entry *e, bool *good, struct lb_err *err)
{
	uint32_t *parts = e->part == REP_RECORD_INDEX ? &d->index_parts : &d->digest_parts;
	int rc;

	*good = true;
	if (e->kind == REP_DRAFT_PART && e->number >= *parts)
		*parts = e->number + 1;
	if (e->kind != REP_DRAFT_PACK && e->kind != REP_DRAFT_FILL)
		return 0;
	rc = bits_grow(d, e->number, err);
	if (rc != 0)
		return rc;
	*good = e->kind == REP_DRAFT_FILL || !is_known(d, d->known, e->number);
	d->known[e->number / 8] |= (uint8_t)(1u << e->number % 8);
	if (e->kind == REP_DRAFT_FILL)
		d->filled[e->number / 8] |= (uint8_t)(1u << e->number % 8);
	if (e->number >= d->next)
		d->next = e->number + 1;
	return 0;
}

static struct walk *walk_begin(struct rep_draft *d, uint64_t end, struct lb_err *err)
{
	struct walk *w = calloc(1, sizeof(*w));
	uint8_t head[REP_DRAFT_HEADER_BYTES];

	if (w == NULL) {
		(void)lb_err_set(err, LB_ENOMEM, 0, "read a draft journal");
		return NULL;
	}
	header_encode(head, &d->facts);
	w->d = d;
	w->at = REP_DRAFT_HEADER_BYTES;
	w->end = end;
	w->crc = lb_crc32c(0, head, sizeof(head));
	return w;
}

/* First reading: numbers, runs, where the good part ends. *ours: @run made part of it. */
static int read_entries(struct rep_draft *d, uint64_t size, const struct lb_id *run, bool *ours,
			struct lb_err *err)
{
	struct walk *w = walk_begin(d, size, err);
	bool more = w != NULL, good = true;
	struct entry e;
	int rc = w != NULL ? 0 : LB_ENOMEM;

	*ours = lb_id_equal(&d->facts.run, run);
	while (rc == 0 && more) {
		d->bytes = w->at;
		d->crc = w->crc;
		rc = walk_next(w, &e, &more, err);
		if (rc != 0 || !more)
			break;
		rc = entry_count(d, &e, &good, err);
		more = good;
		*ours = *ours || (e.kind == REP_DRAFT_RUN && lb_id_equal(&e.run, run));
	}
	free(w);
	return rc;
}

static const char *facts_differ(const struct rep_draft_facts *a, const struct rep_draft_facts *b)
{
	uint8_t x[REP_LAYER_HEADER_BYTES], y[REP_LAYER_HEADER_BYTES];
	struct rep_layer_header h = b->header;

	h.layer = a->header.layer;
	rep_layer_header_encode(x, &a->header);
	rep_layer_header_encode(y, &h);
	if (memcmp(x, y, sizeof(x)) != 0 && !REP_BUG(draft_of_other))
		return "its layer is of another epoch, seq, size, key or base";
	if (!lb_hash_equal(&a->prev, &b->prev) && !REP_BUG(draft_of_other))
		return "its layer follows another point";
	if (memcmp(&a->probe, &b->probe, sizeof(a->probe)) != 0)
		return "its digests were made with another secret";
	return NULL;
}

/* ---- life ---- */

static struct rep_draft *draft_new(struct lb_fs *fs, const struct lb_id *volume, struct lb_err *err)
{
	struct rep_draft *d = calloc(1, sizeof(*d));

	if (d == NULL) {
		(void)lb_err_set(err, LB_ENOMEM, 0, "a draft journal");
		return NULL;
	}
	d->fs = fs;
	path_of(d->path, volume);
	(void)pthread_mutex_init(&d->lock, NULL);
	return d;
}

void rep_draft_close(struct rep_draft *d)
{
	if (d == NULL)
		return;
	if (d->going_on) {
		rep_spool_fini(&d->places);
		rep_spool_fini(&d->packs);
	}
	lb_file_close(d->file);
	(void)pthread_mutex_destroy(&d->lock);
	free(d->known);
	free(d->filled);
	free(d);
}

int rep_draft_discard(struct lb_fs *fs, const struct lb_id *volume, struct lb_err *err)
{
	struct lb_err own;
	char path[64];
	int rc;

	path_of(path, volume);
	rc = lb_fs_unlink(fs, path, &own);
	if (rc != 0 && rc != LB_ENOTFOUND && err != NULL)
		*err = own;
	return rc == LB_ENOTFOUND ? 0 : rc;
}

int rep_draft_create(struct rep_draft **out, struct lb_fs *fs, const struct rep_draft_facts *f,
		     struct lb_err *err)
{
	struct rep_draft *d = draft_new(fs, &f->header.volume, err);
	uint8_t head[REP_DRAFT_HEADER_BYTES];
	int rc;

	if (d == NULL)
		return LB_ENOMEM;
	d->facts = *f;
	d->run = f->run;
	header_encode(head, f);
	rc = lb_fs_mkdir(fs, "drafts", err);
	if (rc == 0)
		rc = lb_fs_open(fs, &d->file, d->path, LB_FS_CREATE, err);
	if (rc == 0)
		rc = lb_file_truncate(d->file, 0, err);
	if (rc == 0)
		rc = lb_file_pwrite(d->file, head, sizeof(head), 0, err);
	if (rc != 0) {
		rep_draft_close(d);
		return rc;
	}
	d->bytes = sizeof(head);
	d->crc = lb_crc32c(0, head, sizeof(head));
	*out = d;
	return 0;
}

static int resume(struct rep_draft *d, const struct rep_draft_facts *f, struct lb_err *err)
{
	uint8_t head[REP_DRAFT_HEADER_BYTES];
	const char *differ;
	uint64_t size = 0;
	bool ours = false;
	int rc = lb_fs_open(d->fs, &d->file, d->path, LB_FS_WRITE, err);

	if (rc == 0)
		rc = lb_file_size(d->file, &size, err);
	if (rc == 0)
		rc = lb_file_pread_full(d->file, head, sizeof(head), 0, err);
	if (rc == 0)
		rc = header_decode(&d->facts, head, err);
	if (rc != 0)
		return rc;
	d->run = f->run;
	differ = facts_differ(&d->facts, f);
	if (differ != NULL)
		return lb_err_set(err, LB_ENOTFOUND, 0, "draft journal: %s", differ);
	rc = read_entries(d, size, &f->run, &ours, err);
	if (rc == 0 && ours && !REP_BUG(draft_of_this_run))
		rc = lb_err_set(err, LB_ENOTFOUND, 0, "draft journal: made by this process");
	return rc;
}

int rep_draft_resume(struct rep_draft **out, struct lb_fs *fs, const struct rep_draft_facts *f,
		     struct lb_err *err)
{
	struct rep_draft *d = draft_new(fs, &f->header.volume, err);
	int rc = d != NULL ? resume(d, f, err) : LB_ENOMEM;

	if (rc != 0) {
		rep_draft_close(d);
		return rc;
	}
	*out = d;
	return 0;
}

/* ---- what the peer holds ---- */

static bool is_held(const struct rep_draft *d, uint32_t number)
{
	uint32_t low = 0, high = d->extras;

	if (number < d->first_missing || REP_BUG(draft_thought_held))
		return true;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (d->extra[mid] == number)
			return true;
		if (d->extra[mid] < number)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

static int unknown(uint32_t number, struct lb_err *err)
{
	return lb_err_set(err, LB_ENOTFOUND, 0,
			  "draft: the peer holds pack %u, which the journal does not know", number);
}

int rep_draft_hold(struct rep_draft *d, const struct rep_admit *a, uint32_t i, struct lb_err *err)
{
	if (a->extras >= REP_ADMIT_MAX_EXTRA)
		return lb_err_set(err, LB_ENOTFOUND, 0,
				  "draft: the peer holds more packs out of order than it can tell");
	d->first_missing = a->layer[i].first_missing;
	d->extras = 0;
	for (uint32_t x = 0; x < a->extras; x++)
		if (a->extra[x].layer == i)
			d->extra[d->extras++] = a->extra[x].number;
	if (d->first_missing == 0 && d->extras == 0 && !a->layer[i].header)
		return lb_err_set(err, LB_ENOTFOUND, 0, "draft: the peer holds nothing of it");
	for (uint32_t n = 0; n < d->first_missing && !REP_BUG(draft_unknown_taken); n++)
		if (!is_known(d, d->known, n))
			return unknown(n, err);
	for (uint32_t x = 0; x < d->extras && !REP_BUG(draft_unknown_taken); x++)
		if (!is_known(d, d->known, d->extra[x]))
			return unknown(d->extra[x], err);
	return 0;
}

/* ---- going on ---- */

static int take_pack(struct rep_draft *d, struct entry *e, struct lb_err *err)
{
	const struct held_pack h = {.leaf = e->leaf, .bytes = e->bytes, .held = 1};
	int rc = rep_spool_write(&d->packs, (uint64_t)e->number * sizeof(h), &h, sizeof(h), err);

	for (uint32_t i = 0; rc == 0 && i < e->count; i++) {
		struct rep_draft_place p = {.pack = e->number, .pos = i, .known = 1};
		uint64_t block = lb_rd_u64le(&e->blocks);

		lb_rd_copy(&e->blocks, p.digest.b, sizeof(p.digest.b));
		rc = rep_spool_write(&d->places, block * sizeof(p), &p, sizeof(p), err);
	}
	return rc;
}

/* Second reading: places of blocks in packs that are held. A pack that was filled has none. */
static int read_places(struct rep_draft *d, struct lb_err *err)
{
	struct walk *w = walk_begin(d, d->bytes, err);
	bool more = w != NULL;
	struct entry e;
	int rc = w != NULL ? 0 : LB_ENOMEM;

	while (rc == 0 && more) {
		rc = walk_next(w, &e, &more, err);
		if (rc != 0 || !more)
			break;
		if (e.kind == REP_DRAFT_PACK && is_known(d, d->filled, e.number))
			continue;
		if ((e.kind == REP_DRAFT_PACK || e.kind == REP_DRAFT_FILL) && is_held(d, e.number))
			rc = take_pack(d, &e, err);
	}
	if (rc == 0 && w->at != d->bytes)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "draft journal changed while it was read");
	free(w);
	return rc;
}

static int append(struct rep_draft *d, enum rep_draft_entry kind, const uint8_t *body,
		  uint32_t bytes, struct lb_err *err)
{
	uint8_t entry[REP_DRAFT_ENTRY_BYTES + BODY_MAX];
	uint32_t crc = entry_encode(entry, d->crc, kind, body, bytes);
	int rc = lb_file_pwrite(d->file, entry, REP_DRAFT_ENTRY_BYTES + bytes, d->bytes, err);

	if (rc != 0)
		return rc;
	d->crc = crc;
	d->bytes += REP_DRAFT_ENTRY_BYTES + bytes;
	return 0;
}

int rep_draft_go_on(struct rep_draft *d, struct lb_err *err)
{
	const struct lb_id *layer = &d->facts.header.layer;
	int rc;

	rep_spool_init(&d->places, d->fs, layer, "jb", SPOOL_MEM);
	rep_spool_init(&d->packs, d->fs, layer, "jp", SPOOL_MEM);
	d->going_on = true;
	rc = read_places(d, err);
	/* What lies behind the torn entry must never follow a new one. */
	if (rc == 0)
		rc = lb_file_truncate(d->file, d->bytes, err);
	if (rc == 0)
		rc = append(d, REP_DRAFT_RUN, d->run.b, LB_ID_BYTES, err);
	if (rc == 0)
		rc = lb_file_sync(d->file, err);
	return rc;
}

int rep_draft_read(struct rep_draft *d, struct rep_draft_place *out, uint64_t block, uint32_t count,
		   struct lb_err *err)
{
	uint64_t have = d->going_on ? d->places.bytes / sizeof(*out) : 0;
	uint32_t n = block >= have ? 0 : have - block < count ? (uint32_t)(have - block) : count;
	int rc = 0;

	if (n != 0)
		rc = rep_spool_read(&d->places, block * sizeof(*out), out, n * sizeof(*out), err);
	memset(out + n, 0, (count - n) * sizeof(*out));
	return rc;
}

bool rep_draft_stands(const struct rep_draft_place *p, const struct lb_digest *digest)
{
	return p->known != 0 &&
	       (REP_BUG(draft_not_compared) || memcmp(&p->digest, digest, sizeof(*digest)) == 0);
}

int rep_draft_pack(struct rep_draft *d, uint32_t number, bool *held, struct lb_hash *leaf,
		   uint32_t *bytes, struct lb_err *err)
{
	uint64_t at = (uint64_t)number * sizeof(struct held_pack);
	struct held_pack h = {.held = 0};
	int rc = 0;

	if (d->going_on && at < d->packs.bytes)
		rc = rep_spool_read(&d->packs, at, &h, sizeof(h), err);
	*held = h.held != 0;
	*leaf = h.leaf;
	*bytes = h.bytes;
	return rc;
}

/* ---- noting ---- */

/* Without its last entries the journal would only lead to finding out later: it goes. */
static void give_up(struct rep_draft *d)
{
	(void)lb_file_truncate(d->file, 0, NULL);
	lb_file_close(d->file);
	d->file = NULL;
	(void)lb_fs_unlink(d->fs, d->path, NULL);
}

static void note(struct rep_draft *d, enum rep_draft_entry kind, const uint8_t *body, size_t bytes)
{
	(void)pthread_mutex_lock(&d->lock);
	if (d->file != NULL && append(d, kind, body, (uint32_t)bytes, NULL) != 0)
		give_up(d);
	(void)pthread_mutex_unlock(&d->lock);
}

void rep_draft_note_pack(struct rep_draft *d, uint32_t number, const struct lb_hash *leaf,
			 uint32_t bytes, const uint64_t *block, const struct lb_digest *digest,
			 uint32_t count)
{
	uint8_t body[BODY_MAX];
	struct lb_wr wr = lb_wr_init(body, sizeof(body));

	lb_wr_u32le(&wr, number);
	lb_wr_u32le(&wr, bytes);
	lb_wr_hash(&wr, leaf);
	lb_wr_u32le(&wr, count);
	for (uint32_t i = 0; i < count; i++) {
		lb_wr_u64le(&wr, block[i]);
		lb_wr_bytes(&wr, digest[i].b, sizeof(digest[i].b));
	}
	LB_ASSERT(lb_wr_done(&wr));
	note(d, REP_DRAFT_PACK, body, wr.len);
}

void rep_draft_note_fill(struct rep_draft *d, uint32_t number, const struct lb_hash *leaf,
			 uint32_t bytes)
{
	uint8_t body[8 + LB_HASH_BYTES];
	struct lb_wr wr = lb_wr_init(body, sizeof(body));

	lb_wr_u32le(&wr, number);
	lb_wr_u32le(&wr, bytes);
	lb_wr_hash(&wr, leaf);
	LB_ASSERT(lb_wr_done(&wr));
	note(d, REP_DRAFT_FILL, body, wr.len);
}

void rep_draft_note_part(struct rep_draft *d, enum rep_record_kind kind, uint32_t number)
{
	uint8_t body[8];
	struct lb_wr wr = lb_wr_init(body, sizeof(body));

	lb_wr_u32le(&wr, kind);
	lb_wr_u32le(&wr, number);
	LB_ASSERT(lb_wr_done(&wr));
	note(d, REP_DRAFT_PART, body, wr.len);
}

void rep_draft_sync(struct rep_draft *d)
{
	(void)pthread_mutex_lock(&d->lock);
	if (d->file != NULL && lb_file_sync(d->file, NULL) != 0)
		give_up(d);
	(void)pthread_mutex_unlock(&d->lock);
}
