#include "replicator/digest.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/rd.h"
#include "base/wr.h"
#include "replicator/layer.h"
#include "test_bugs.h"

/*
 * base file:  sector 0 identity {magic, version, store id, volume, secret, CRC}, written once
 *             sectors 1 and 2: state {serial, generation, has base, base manifest, CRC}, written
 *             in turn; the whole one with the higher serial counts
 *             from 4096: 16 bytes a block, zero for zero
 * log file:   sector 0 header {store id, generation, number, base, manifest, body bytes, CRCs}
 *             sector 1 decision {store id, manifest, CRC}: the receipt came
 *             from 1024: records {u64 block, u32 count, u32 kind, count digests}
 *
 *   begin ──► open log ──[seal: body, header, sync]──► pending ──[commit: decision, sync]──►
 * decided │ base names the manifest ◄──[apply: digests + state, one sync]
 *
 * A header or decision that a failed write tore counts as not written; of the states one is whole.
 * A decided log is applied again at open when it leads from the base, or to it: digests and state
 * share one sync, so the state may be there before the digests are. The two log files alternate, so
 * that a pending log outlives the cut after it: its receipt may still come.
 */

#define BASE_MAGIC   UINT32_C(0x3144424c) /* "LBD1" */
#define STATE_MAGIC  UINT32_C(0x3153424c) /* "LBS1" */
#define LOG_MAGIC    UINT32_C(0x314c424c) /* "LBL1" */
#define DECIDE_MAGIC UINT32_C(0x3143424c) /* "LBC1" */
#define VERSION      1u

#define SECTOR_BYTES 512u
#define BASE_DATA    4096u
#define LOG_DATA     1024u
#define ENTRY_BYTES  16u
#define BUFFER_BYTES 65536u
#define RECORD_MAX   1024u /* digests in one record of the log */
#define GAP_MAX      256u  /* blocks between two changes that are written as one */

enum record_kind {
	RECORD_ZERO = 0,
	RECORD_DIGESTS = 1
};

/* A log file's header as far as it concerns this store. */
struct log {
	struct lb_file *file;
	bool sealed;  /* header and body are whole and of this store's generation */
	bool decided; /* the receipt of its manifest is recorded */
	uint64_t number;
	bool has_base;
	struct lb_hash base, manifest;
	uint64_t body_bytes;
	uint32_t body_crc;
};

struct rep_digest {
	struct lb_env *env;
	struct lb_file *file;
	bool syncless; /* ends with this boot: see rep_digest_open_volatile() */
	struct lb_id volume, store;
	uint8_t secret[LB_XXH_SECRET_BYTES];
	uint64_t serial; /* of the state */
	uint64_t generation;
	bool has_base;
	struct lb_hash base;
	uint8_t *kept; /* the base file's entries in memory; NULL: not */
	uint64_t kept_blocks;
	uint64_t from, to; /* of the base file: entries in kept that are to be written */
	int broken;        /* a change of the base failed half way: open it again */
	bool full;         /* the open cut has no base: digests go straight to the base file */
	bool open;         /* between begin and seal */
	struct log log[2];
	unsigned current;     /* log being written */
	uint64_t next_number; /* of logs, ascending */
	pthread_mutex_t lock; /* guards the fields below */
	uint8_t *buf;         /* log records not written yet */
	size_t buffered;
	uint64_t body_bytes; /* written, without what is buffered */
	uint32_t body_crc;
	int failed; /* first error of a change since begin */
};

static void path_of(char out[64], const struct lb_id *volume, const char *suffix)
{
	char hex[LB_ID_TEXT];

	(void)snprintf(out, 64, "digests/%s%s", lb_id_text(volume, hex), suffix);
}

static int corrupt(const struct rep_digest *d, const char *what, struct lb_err *err)
{
	char hex[LB_ID_TEXT];

	return lb_err_set(err, LB_ECORRUPT, 0, "digest store of volume %s: %s",
			  lb_id_text(&d->volume, hex), what);
}

static int sync_file(const struct rep_digest *d, struct lb_file *f, struct lb_err *err)
{
	return d->syncless ? 0 : lb_file_sync(f, err);
}

/* Close a sector with the CRC of what precedes it; the rest of the sector is zero. */
static void sector_finish(uint8_t sector[SECTOR_BYTES], struct lb_wr *wr)
{
	uint32_t crc;

	LB_ASSERT(lb_wr_done(wr) && wr->len + 4 <= SECTOR_BYTES);
	crc = lb_crc32c(0, sector, wr->len);
	lb_wr_u32le(wr, crc);
	lb_wr_zeros(wr, SECTOR_BYTES - wr->len);
}

/* The mirror: the next 4 bytes of @rd are the CRC of what was read so far. */
static bool sector_check(const uint8_t sector[SECTOR_BYTES], struct lb_rd *rd)
{
	size_t body = SECTOR_BYTES - rd->left;

	return !rd->bad && lb_rd_u32le(rd) == lb_crc32c(0, sector, body);
}

static void state_encode(uint8_t sector[SECTOR_BYTES], const struct rep_digest *d)
{
	struct lb_wr wr = lb_wr_init(sector, SECTOR_BYTES);

	lb_wr_u32le(&wr, STATE_MAGIC);
	lb_wr_u32le(&wr, d->has_base ? 1 : 0);
	lb_wr_u64le(&wr, d->serial);
	lb_wr_u64le(&wr, d->generation);
	lb_wr_hash(&wr, &d->base);
	sector_finish(sector, &wr);
}

static int state_write(struct rep_digest *d, struct lb_err *err)
{
	uint8_t sector[SECTOR_BYTES];

	d->serial++;
	state_encode(sector, d);
	return lb_file_pwrite(d->file, sector, sizeof(sector), SECTOR_BYTES * (1 + d->serial % 2),
			      err);
}

/* Take the state in @sector when it is whole and newer. */
static void state_take(struct rep_digest *d, const uint8_t *sector)
{
	struct lb_rd rd = lb_rd_init(sector, SECTOR_BYTES);
	uint32_t magic = lb_rd_u32le(&rd), flags = lb_rd_u32le(&rd);
	uint64_t serial = lb_rd_u64le(&rd), generation = lb_rd_u64le(&rd);
	struct lb_hash base = lb_rd_hash(&rd);

	if (magic != STATE_MAGIC || flags > 1 || !sector_check(sector, &rd) || serial <= d->serial)
		return;
	d->serial = serial;
	d->generation = generation;
	d->has_base = flags == 1;
	d->base = base;
}

static int base_create(struct rep_digest *d, struct lb_fs *fs, const char *path, struct lb_err *err)
{
	const struct rep_digest fresh = {.serial = 1, .generation = 1};
	uint8_t head[3 * SECTOR_BYTES] = {0};
	struct lb_wr wr = lb_wr_init(head, SECTOR_BYTES);
	struct lb_id store;
	uint8_t secret[LB_XXH_SECRET_BYTES];

	lb_id_random(&store, d->env);
	d->env->random(d->env, secret, sizeof(secret));
	lb_wr_u32le(&wr, BASE_MAGIC);
	lb_wr_u32le(&wr, VERSION);
	lb_wr_id(&wr, &store);
	lb_wr_id(&wr, &d->volume);
	lb_wr_bytes(&wr, secret, sizeof(secret));
	sector_finish(head, &wr);
	state_encode(head + (size_t)2 * SECTOR_BYTES, &fresh);
	return lb_fs_replace(fs, path, head, sizeof(head), err);
}

static int base_load(struct rep_digest *d, struct lb_err *err)
{
	uint8_t head[3 * SECTOR_BYTES];
	struct lb_rd rd = lb_rd_init(head, SECTOR_BYTES);
	struct lb_id volume;
	uint32_t magic, version;
	int rc = lb_file_pread_full(d->file, head, sizeof(head), 0, err);

	if (rc != 0)
		return rc;
	magic = lb_rd_u32le(&rd);
	version = lb_rd_u32le(&rd);
	d->store = lb_rd_id(&rd);
	volume = lb_rd_id(&rd);
	lb_rd_copy(&rd, d->secret, sizeof(d->secret));
	if (magic != BASE_MAGIC || !sector_check(head, &rd))
		return corrupt(d, "identity fails its checksum", err);
	if (version != VERSION)
		return corrupt(d, "unknown version", err);
	if (!lb_id_equal(&volume, &d->volume))
		return corrupt(d, "is of another volume", err);

	state_take(d, head + SECTOR_BYTES);
	state_take(d, head + (size_t)2 * SECTOR_BYTES);
	if (d->serial == 0)
		return corrupt(d, "state fails its checksum", err);
	return 0;
}

static int log_body_check(struct log *l, uint8_t *buf, bool *whole, struct lb_err *err)
{
	uint32_t crc = 0;
	size_t got = 0;

	*whole = false;
	for (uint64_t off = 0; off < l->body_bytes; off += got) {
		uint64_t left = l->body_bytes - off;
		size_t want = left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES;
		int rc = lb_file_pread(l->file, buf, want, LOG_DATA + off, &got, err);

		if (rc != 0)
			return rc;
		if (got < want)
			return 0;
		crc = lb_crc32c(crc, buf, got);
	}
	*whole = crc == l->body_crc;
	return 0;
}

static bool log_decode(const struct rep_digest *d, struct log *l, const uint8_t *head)
{
	struct lb_rd rd = lb_rd_init(head, SECTOR_BYTES);
	uint32_t magic = lb_rd_u32le(&rd), flags = lb_rd_u32le(&rd);
	struct lb_id store = lb_rd_id(&rd);
	uint64_t generation = lb_rd_u64le(&rd);

	l->number = lb_rd_u64le(&rd);
	l->base = lb_rd_hash(&rd);
	l->manifest = lb_rd_hash(&rd);
	l->body_bytes = lb_rd_u64le(&rd);
	l->body_crc = lb_rd_u32le(&rd);
	l->has_base = flags == 1;
	return magic == LOG_MAGIC && flags <= 1 && sector_check(head, &rd) &&
	       lb_id_equal(&store, &d->store) && generation == d->generation;
}

static bool decision_decode(const struct rep_digest *d, const struct log *l, const uint8_t *sector)
{
	struct lb_rd rd = lb_rd_init(sector, SECTOR_BYTES);
	uint32_t magic = lb_rd_u32le(&rd);
	struct lb_id store = lb_rd_id(&rd);
	uint64_t number = lb_rd_u64le(&rd);
	struct lb_hash manifest = lb_rd_hash(&rd);

	return magic == DECIDE_MAGIC && sector_check(sector, &rd) &&
	       lb_id_equal(&store, &d->store) && number == l->number &&
	       lb_hash_equal(&manifest, &l->manifest);
}

static bool log_fits_base(const struct rep_digest *d, const struct log *l)
{
	return l->has_base == d->has_base && (!l->has_base || lb_hash_equal(&l->base, &d->base));
}

static bool log_leads_to_base(const struct rep_digest *d, const struct log *l)
{
	return d->has_base && lb_hash_equal(&l->manifest, &d->base);
}

static int log_load(struct rep_digest *d, struct log *l, struct lb_err *err)
{
	uint8_t head[2 * SECTOR_BYTES] = {0};
	size_t got = 0;
	bool whole = false;
	int rc = lb_file_pread(l->file, head, sizeof(head), 0, &got, err);

	if (rc != 0)
		return rc;
	if (got < sizeof(head) || !log_decode(d, l, head)) {
		*l = (struct log){.file = l->file};
		return 0;
	}
	if (l->number >= d->next_number)
		d->next_number = l->number + 1;
	l->decided = decision_decode(d, l, head + SECTOR_BYTES);
	if (!log_fits_base(d, l) && !log_leads_to_base(d, l))
		return 0;
	rc = log_body_check(l, d->buf, &whole, err);
	if (rc != 0)
		return rc;
	/* Undecided: the power went during the seal. Decided: it was whole once. */
	if (!whole && l->decided)
		return corrupt(d, "a decided log fails its checksum", err);
	l->sealed = whole;
	return 0;
}

static int entries_write(struct rep_digest *d, const uint8_t *entries, uint64_t block,
			 uint64_t count, struct lb_err *err)
{
	return lb_file_pwrite(d->file, entries, (size_t)count * ENTRY_BYTES,
			      BASE_DATA + block * ENTRY_BYTES, err);
}

static int kept_flush(struct rep_digest *d, struct lb_err *err)
{
	uint64_t from = d->from, count = d->to - d->from;

	d->from = d->to = 0;
	return count == 0 ? 0 : entries_write(d, d->kept + from * ENTRY_BYTES, from, count, err);
}

/* Take into memory what of the entries is kept there. */
static void kept_take(struct rep_digest *d, const uint8_t *entries, uint64_t block, uint32_t count)
{
	uint64_t n = block < d->kept_blocks ? d->kept_blocks - block : 0;

	if (n != 0)
		memcpy(d->kept + block * ENTRY_BYTES, entries,
		       (size_t)(n < count ? n : count) * ENTRY_BYTES);
}

/* The same, and write what lies near together as one: what stands between two changes is written as
 * it is. */
static int kept_put(struct rep_digest *d, const uint8_t *entries, uint64_t block, uint32_t count,
		    struct lb_err *err)
{
	int rc = 0;

	if (block < d->from || block > d->to + GAP_MAX)
		rc = kept_flush(d, err);
	kept_take(d, entries, block, count);
	if (d->from == d->to)
		d->from = block;
	if (block + count > d->to)
		d->to = block + count;
	return rc;
}

static bool kept_covers(const struct rep_digest *d, uint64_t block, uint32_t count)
{
	return d->kept != NULL && count <= d->kept_blocks && block <= d->kept_blocks - count;
}

/* Write the records in @p (whole ones) to the base file; *used is what was taken. */
static int apply_records(struct rep_digest *d, const uint8_t *p, size_t len, size_t *used,
			 struct lb_err *err)
{
	static const uint8_t zeros[RECORD_MAX * ENTRY_BYTES];
	struct lb_rd rd = lb_rd_init(p, len);

	for (*used = 0;; *used = len - rd.left) {
		uint64_t block = lb_rd_u64le(&rd);
		uint32_t count = lb_rd_u32le(&rd);
		uint32_t kind = lb_rd_u32le(&rd);
		const uint8_t *entries = zeros;
		int rc;

		if (rd.bad)
			return 0;
		if (count == 0 || count > RECORD_MAX || kind > RECORD_DIGESTS ||
		    block > REP_VOLUME_MAX_BYTES / REP_BLOCK_BYTES - count)
			return corrupt(d, "a log record is out of range", err);
		if (kind == RECORD_DIGESTS)
			entries = lb_rd_bytes(&rd, (size_t)count * ENTRY_BYTES);
		if (entries == NULL)
			return 0;
		if (kept_covers(d, block, count)) {
			rc = kept_put(d, entries, block, count, err);
		} else {
			kept_take(d, entries, block, count);
			rc = entries_write(d, entries, block, count, err);
		}
		if (rc != 0)
			return rc;
	}
}

/* Bring the base to @l's manifest: digests and state, then one sync. May be done again. */
static int log_apply(struct rep_digest *d, const struct log *l, struct lb_err *err)
{
	uint64_t off = 0;
	size_t used = 0;
	int rc;

	while (off < l->body_bytes) {
		uint64_t left = l->body_bytes - off;
		size_t want = left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES;

		rc = lb_file_pread_full(l->file, d->buf, want, LOG_DATA + off, err);
		if (rc == 0)
			rc = apply_records(d, d->buf, want, &used, err);
		if (rc == 0 && used == 0)
			rc = corrupt(d, "a log ends within a record", err);
		if (rc != 0)
			return rc;
		off += used;
	}
	rc = kept_flush(d, err);
	if (rc != 0)
		return rc;
	d->has_base = true;
	d->base = l->manifest;
	rc = state_write(d, err);
	return rc != 0 ? rc : sync_file(d, d->file, err);
}

/* After a crash: what was decided is done (again), in the order it was decided. */
static int recover(struct rep_digest *d, struct lb_err *err)
{
	unsigned first = d->log[0].number <= d->log[1].number ? 0 : 1;

	for (unsigned i = 0; i < 2; i++) {
		struct log *l = &d->log[i == 0 ? first : 1 - first];
		int rc;

		if (!l->sealed || !l->decided || (!log_fits_base(d, l) && !log_leads_to_base(d, l)))
			continue;
		rc = log_apply(d, l, err);
		if (rc != 0)
			return rc;
		l->sealed = false;
	}
	for (unsigned i = 0; i < 2; i++)
		d->log[i].sealed = d->log[i].sealed && log_fits_base(d, &d->log[i]);
	/* The next log goes to the file that was sealed first. */
	d->current = first == 0 ? 1 : 0;
	return 0;
}

static int files_open(struct rep_digest *d, struct lb_fs *fs, struct lb_err *err)
{
	static const char *const suffix[2] = {".redo0", ".redo1"};
	char path[64];
	bool made = false;
	int rc;

	path_of(path, &d->volume, "");
	rc = lb_fs_mkdir(fs, "digests", err);
	if (rc != 0)
		return rc;
	rc = lb_fs_open(fs, &d->file, path, LB_FS_WRITE, err);
	if (rc == LB_ENOTFOUND) {
		made = true;
		rc = base_create(d, fs, path, err);
		if (rc == 0)
			rc = lb_fs_open(fs, &d->file, path, LB_FS_WRITE, err);
	}
	for (unsigned i = 0; rc == 0 && i < 2; i++) {
		path_of(path, &d->volume, suffix[i]);
		rc = lb_fs_open(fs, &d->log[i].file, path, LB_FS_WRITE, NULL);
		if (rc == LB_ENOTFOUND)
			made = true;
		if (rc != 0)
			rc = lb_fs_open(fs, &d->log[i].file, path, LB_FS_CREATE, err);
	}
	if (rc == 0 && made)
		rc = lb_fs_sync_dir(fs, "digests", err);
	if (rc == 0 && made)
		rc = lb_fs_sync_dir(fs, "", err);
	return rc;
}

int rep_digest_open(struct rep_digest **out, struct lb_env *env, struct lb_fs *fs,
		    const struct lb_id *volume, struct lb_err *err)
{
	struct rep_digest *d = calloc(1, sizeof(*d));
	int rc = 0;

	if (d == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "allocate a digest store");
	(void)pthread_mutex_init(&d->lock, NULL);
	d->env = env;
	d->volume = *volume;
	d->next_number = 1;
	d->buf = malloc(BUFFER_BYTES);
	if (d->buf == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "allocate a digest buffer");
	if (rc == 0)
		rc = files_open(d, fs, err);
	if (rc == 0)
		rc = base_load(d, err);
	for (unsigned i = 0; rc == 0 && i < 2; i++)
		rc = log_load(d, &d->log[i], err);
	if (rc == 0)
		rc = recover(d, err);
	if (rc == 0)
		*out = d;
	else
		rep_digest_close(d);
	return rc;
}

static int boot_matches(struct lb_fs *fs, const char *path, const struct lb_id *boot, bool *out,
			struct lb_err *err)
{
	struct lb_file *f = NULL;
	uint8_t was[LB_ID_BYTES + 1];
	size_t got = 0;
	int rc = lb_fs_open(fs, &f, path, LB_FS_READ, err);

	*out = false;
	if (rc == LB_ENOTFOUND)
		return 0;
	if (rc == 0)
		rc = lb_file_pread(f, was, sizeof(was), 0, &got, err);
	lb_file_close(f);
	*out = rc == 0 && got == LB_ID_BYTES && memcmp(was, boot->b, LB_ID_BYTES) == 0;
	return rc;
}

/* The store of another boot goes before its files are used, and before this boot is named. */
static int boot_begin(struct lb_fs *fs, const struct lb_id *volume, const struct lb_id *boot,
		      bool *same, struct lb_err *err)
{
	char path[64];
	int rc;

	path_of(path, volume, ".boot");
	rc = lb_fs_mkdir(fs, "digests", err);
	if (rc == 0)
		rc = boot_matches(fs, path, boot, same, err);
	if (rc != 0 || *same || REP_BUG(boot_ignored))
		return rc;
	rc = rep_digest_discard(fs, volume, err);
	return rc != 0 ? rc : lb_fs_replace(fs, path, boot->b, LB_ID_BYTES, err);
}

int rep_digest_open_volatile(struct rep_digest **out, struct lb_env *env, struct lb_fs *fs,
			     const struct lb_id *volume, const struct lb_id *boot,
			     struct lb_err *err)
{
	struct rep_digest *d = NULL;
	bool same = false;
	int rc = boot_begin(fs, volume, boot, &same, err);

	if (rc == 0)
		rc = rep_digest_open(&d, env, fs, volume, err);
	if (rc != 0)
		return rc;
	/* What an earlier process wrote may have met an error since: this is where it is told. */
	if (same && (lb_file_sync(d->file, NULL) != 0 || lb_file_sync(d->log[0].file, NULL) != 0 ||
		     lb_file_sync(d->log[1].file, NULL) != 0)) {
		rc = corrupt(d, "was not written back", err);
		rep_digest_close(d);
		return rc;
	}
	d->syncless = true;
	*out = d;
	return 0;
}

void rep_digest_close(struct rep_digest *d)
{
	if (d == NULL)
		return;
	lb_file_close(d->file);
	lb_file_close(d->log[0].file);
	lb_file_close(d->log[1].file);
	(void)pthread_mutex_destroy(&d->lock);
	free(d->buf);
	free(d->kept);
	free(d);
}

int rep_digest_keep(struct rep_digest *d, uint64_t blocks, struct lb_err *err)
{
	uint8_t *p;
	size_t got = 0;
	int rc = 0;

	if (blocks <= d->kept_blocks)
		return 0;
	p = calloc(blocks, ENTRY_BYTES);
	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "keep %" PRIu64 " digests in memory", blocks);
	if (d->has_base)
		rc = lb_file_pread(d->file, p, blocks * ENTRY_BYTES, BASE_DATA, &got, err);
	if (rc != 0) {
		free(p);
		return rc;
	}
	free(d->kept);
	d->kept = p;
	d->kept_blocks = blocks;
	return 0;
}

int rep_digest_discard(struct lb_fs *fs, const struct lb_id *volume, struct lb_err *err)
{
	static const char *const suffix[4] = {"", ".redo0", ".redo1", ".boot"};
	char path[64];

	for (unsigned i = 0; i < 4; i++) {
		int rc;

		path_of(path, volume, suffix[i]);
		rc = lb_fs_unlink(fs, path, err);
		if (rc != 0 && rc != LB_ENOTFOUND)
			return rc;
	}
	return lb_fs_sync_dir(fs, "digests", err);
}

bool rep_digest_base(const struct rep_digest *d, struct lb_hash *out)
{
	if (d->has_base)
		*out = d->base;
	return d->has_base;
}

static int pending_find(const struct rep_digest *d, const struct lb_hash *manifest)
{
	for (int i = 0; i < 2; i++) {
		const struct log *l = &d->log[i];

		if (l->sealed && lb_hash_equal(&l->manifest, manifest) && log_fits_base(d, l))
			return i;
	}
	return -1;
}

bool rep_digest_pending(const struct rep_digest *d, const struct lb_hash *manifest)
{
	return pending_find(d, manifest) >= 0;
}

bool rep_digest_is_zero(const struct lb_digest *a)
{
	uint64_t w[2];

	memcpy(w, a->b, sizeof(w));
	return (w[0] | w[1]) == 0;
}

void rep_digest_of(const struct rep_digest *d, struct lb_digest *out, const void *block)
{
	lb_xxh3(out, block, REP_BLOCK_BYTES, d->secret);
	/* Zero means a block of zeros; once in 2^128 another block gives way. */
	if (rep_digest_is_zero(out))
		out->b[0] = 1;
}

int rep_digest_read(struct rep_digest *d, struct lb_digest *out, uint64_t block, uint32_t count,
		    struct lb_err *err)
{
	size_t want = (size_t)count * ENTRY_BYTES, got = 0;
	int rc = 0;

	/* A full cut writes the very file: nothing is known. */
	if (!d->full && d->has_base && kept_covers(d, block, count)) {
		memcpy(out, d->kept + block * ENTRY_BYTES, want);
		return 0;
	}
	if (!d->full && d->has_base)
		rc = lb_file_pread(d->file, out, want, BASE_DATA + block * ENTRY_BYTES, &got, err);
	if (rc == 0 && got < want)
		memset((uint8_t *)out + got, 0, want - got);
	return rc;
}

/* Make every trace of a base disappear, durably, before the file is written over. */
static int base_void(struct rep_digest *d, struct lb_err *err)
{
	int rc;

	d->generation++;
	d->has_base = false;
	memset(&d->base, 0, sizeof(d->base));
	d->log[0].sealed = d->log[1].sealed = false;
	rc = state_write(d, err);
	if (rc == 0)
		rc = sync_file(d, d->file, err);
	if (rc == 0)
		rc = lb_file_truncate(d->file, BASE_DATA, err);
	if (d->kept != NULL)
		memset(d->kept, 0, d->kept_blocks * ENTRY_BYTES);
	return rc;
}

/* A decided log that leads to the base would be read again at open: take its header away. */
static int log_void(struct rep_digest *d, struct log *l, struct lb_err *err)
{
	static const uint8_t zeros[2 * SECTOR_BYTES];
	int rc = 0;

	l->sealed = false;
	if (l->decided && log_leads_to_base(d, l)) {
		rc = lb_file_pwrite(l->file, zeros, sizeof(zeros), 0, err);
		if (rc == 0)
			rc = sync_file(d, l->file, err);
	}
	l->decided = false;
	return rc;
}

static int broken(const struct rep_digest *d, struct lb_err *err)
{
	return lb_err_set(err, (enum lb_code)d->broken, 0,
			  "digest store: an earlier change broke off, open it again");
}

int rep_digest_begin(struct rep_digest *d, bool full, struct lb_err *err)
{
	unsigned next = d->open ? d->current : 1 - d->current;
	int rc;

	if (d->broken != 0)
		return broken(d, err);
	if (!d->has_base)
		full = true; /* what the file holds is of a full cut that came to nothing */
	rc = log_void(d, &d->log[next], err);
	if (rc == 0 && full)
		rc = base_void(d, err);
	if (rc != 0) {
		d->broken = rc;
		return rc;
	}
	d->current = next;
	d->open = true;
	d->full = full;
	d->buffered = 0;
	d->body_bytes = 0;
	d->body_crc = 0;
	d->failed = 0;
	return 0;
}

static int log_flush(struct rep_digest *d, struct lb_err *err)
{
	int rc;

	if (d->buffered == 0)
		return 0;
	rc = lb_file_pwrite(d->log[d->current].file, d->buf, d->buffered, LOG_DATA + d->body_bytes,
			    err);
	if (rc != 0)
		return rc;
	d->body_crc = lb_crc32c(d->body_crc, d->buf, d->buffered);
	d->body_bytes += d->buffered;
	d->buffered = 0;
	return 0;
}

static int log_put(struct rep_digest *d, uint64_t block, uint32_t count,
		   const struct lb_digest *digests, struct lb_err *err)
{
	size_t entries = digests != NULL ? (size_t)count * ENTRY_BYTES : 0;
	struct lb_wr wr;
	int rc = 0;

	if (d->buffered + 16 + entries > BUFFER_BYTES)
		rc = log_flush(d, err);
	if (rc != 0)
		return rc;
	wr = lb_wr_init(d->buf + d->buffered, BUFFER_BYTES - d->buffered);
	lb_wr_u64le(&wr, block);
	lb_wr_u32le(&wr, count);
	lb_wr_u32le(&wr, digests != NULL ? RECORD_DIGESTS : RECORD_ZERO);
	if (digests != NULL)
		lb_wr_bytes(&wr, digests, entries);
	LB_ASSERT(lb_wr_done(&wr));
	d->buffered += wr.len;
	return 0;
}

static int change_one(struct rep_digest *d, uint64_t block, uint32_t count,
		      const struct lb_digest *digests, struct lb_err *err)
{
	if (!d->full)
		return log_put(d, block, count, digests, err);
	if (digests == NULL) /* the file was cut off: zero already */
		return 0;
	kept_take(d, (const uint8_t *)digests, block, count); /* read after the receipt only */
	return entries_write(d, (const uint8_t *)digests, block, count, err);
}

int rep_digest_change(struct rep_digest *d, uint64_t block, uint32_t count,
		      const struct lb_digest *digests, struct lb_err *err)
{
	int rc = 0;

	LB_ASSERT(d->open);
	(void)pthread_mutex_lock(&d->lock);
	for (uint32_t done = 0; rc == 0 && done < count;) {
		uint32_t n = count - done < RECORD_MAX ? count - done : RECORD_MAX;

		rc = change_one(d, block + done, n, digests != NULL ? digests + done : NULL, err);
		done += n;
	}
	if (rc != 0 && d->failed == 0)
		d->failed = rc;
	(void)pthread_mutex_unlock(&d->lock);
	return rc;
}

static int log_seal(struct rep_digest *d, struct log *l, const struct lb_hash *manifest,
		    struct lb_err *err)
{
	uint8_t head[2 * SECTOR_BYTES] = {0};
	struct lb_wr wr = lb_wr_init(head, SECTOR_BYTES);
	int rc = log_flush(d, err);

	if (rc != 0)
		return rc;
	l->number = d->next_number++;
	l->has_base = d->has_base;
	l->base = d->base;
	l->manifest = *manifest;
	l->body_bytes = d->body_bytes;
	l->body_crc = d->body_crc;
	lb_wr_u32le(&wr, LOG_MAGIC);
	lb_wr_u32le(&wr, l->has_base ? 1 : 0);
	lb_wr_id(&wr, &d->store);
	lb_wr_u64le(&wr, d->generation);
	lb_wr_u64le(&wr, l->number);
	lb_wr_hash(&wr, &l->base);
	lb_wr_hash(&wr, &l->manifest);
	lb_wr_u64le(&wr, l->body_bytes);
	lb_wr_u32le(&wr, l->body_crc);
	sector_finish(head, &wr);
	rc = lb_file_pwrite(l->file, head, sizeof(head), 0, err);
	return rc != 0 ? rc : sync_file(d, l->file, err);
}

int rep_digest_seal(struct rep_digest *d, const struct lb_hash *manifest, struct lb_err *err)
{
	struct log *l = &d->log[d->current];
	int rc = 0;

	LB_ASSERT(d->open);
	if (d->broken != 0)
		return broken(d, err);
	if (d->failed != 0)
		return lb_err_set(err, (enum lb_code)d->failed, 0,
				  "digest store: a change of this cut was not written");
	if (d->full)
		rc = sync_file(d, d->file, err);
	if (rc == 0)
		rc = log_seal(d, l, manifest, err);
	if (rc != 0) {
		d->broken = rc;
		return rc;
	}
	l->sealed = true;
	l->decided = false;
	d->open = false;
	return 0;
}

static int decide(struct rep_digest *d, struct log *l, struct lb_err *err)
{
	uint8_t sector[SECTOR_BYTES];
	struct lb_wr wr = lb_wr_init(sector, SECTOR_BYTES);
	int rc;

	lb_wr_u32le(&wr, DECIDE_MAGIC);
	lb_wr_id(&wr, &d->store);
	lb_wr_u64le(&wr, l->number);
	lb_wr_hash(&wr, &l->manifest);
	sector_finish(sector, &wr);
	rc = lb_file_pwrite(l->file, sector, sizeof(sector), SECTOR_BYTES, err);
	if (rc == 0)
		rc = sync_file(d, l->file, err);
	l->decided = rc == 0;
	return rc;
}

int rep_digest_commit(struct rep_digest *d, const struct lb_hash *manifest, struct lb_err *err)
{
	char hex[LB_HASH_TEXT];
	int i, rc;

	if (d->broken != 0)
		return broken(d, err);
	if (d->has_base && lb_hash_equal(&d->base, manifest))
		return 0;
	i = pending_find(d, manifest);
	if (i < 0)
		return lb_err_set(err, LB_ENOTFOUND, 0, "no sealed digest log leads to %s",
				  lb_hash_text(manifest, hex));
	d->open = false; /* a log begun on the old base is void, and its buffer is needed */
	rc = decide(d, &d->log[i], err);
	if (rc == 0)
		rc = log_apply(d, &d->log[i], err);
	if (rc != 0) {
		d->broken = rc;
		return rc;
	}
	for (unsigned k = 0; k < 2; k++)
		d->log[k].sealed = false;
	d->current = (unsigned)i;
	d->full = false;
	return 0;
}
