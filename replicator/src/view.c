#include "replicator/view.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/seal.h"
#include "imaging/dev.h"
#include "store_int.h"
#include "view_int.h"
#include "word_delta_int.h"

#define FILES           32u
#define SEALERS_IDLE    8u
#define PACKS_MIN       8u          /* of the largest: there is always room for these */
#define ENTRY_SHARE     (16u << 10) /* an entry for each so many bytes of the cache */
#define DEFAULT_CACHE   (UINT64_C(16) << 20)
#define EXTENT_RUNS_MAX 4096u

/*
 * A cache entry:  FREE -> LOADING -> READY -> (its room is needed) FREE
 *                            `-> FREE when the pack is bad: the next reader tries, and fails, anew
 * An entry with users is never taken. What counts is bytes: a point of many small deltas reads its
 * patches from hundreds of small packs. Lock: v->mu; not held while a pack is read and opened.
 */
enum entry_state {
	ENTRY_FREE,
	ENTRY_LOADING,
	ENTRY_READY
};

struct entry {
	enum entry_state state;
	uint32_t pack;
	unsigned users;
	uint64_t tick;
	uint32_t raw_bytes;
	uint8_t *raw; /* LOADING: REP_PACK_MAX_RAW; READY: raw_bytes; FREE: NULL */
};

struct seg_file {
	uint64_t number; /* 0: free */
	struct lb_file *file;
	unsigned users;
	uint64_t tick;
};

/* Sealers of one data key: each is used by one reader at a time. */
struct view_key {
	struct lb_id id;
	struct lb_key key;
	struct lb_sealer *idle[SEALERS_IDLE];
	unsigned idles;
};

struct view {
	struct img_dev dev;
	struct rep_viewmap map;
	uint8_t *own;     /* map bytes, when in RAM */
	void *mapped;     /* map bytes, when a file */
	struct lb_fs *fs; /* of the store */
	bool fs_owned;
	struct view_key *key;
	uint32_t keys;
	uint32_t *layer_key; /* map layer -> index in key */

	pthread_mutex_t mu;
	pthread_cond_t changed; /* an entry became READY or FREE, or lost a user; a file too */
	struct entry *entry;
	uint32_t entries;
	uint64_t cache_bytes, cached_bytes; /* what may be; what is, or is being loaded */
	uint32_t *pack_entry;               /* map pack -> entry + 1; 0: not cached */
	struct seg_file file[FILES];
	uint64_t tick;
};

static struct view *as_view(struct img_dev *d)
{
	return (struct view *)d;
}

static void lock(struct view *v)
{
	LB_ASSERT(pthread_mutex_lock(&v->mu) == 0);
}

static void unlock(struct view *v)
{
	LB_ASSERT(pthread_mutex_unlock(&v->mu) == 0);
}

static void wait_change(struct view *v)
{
	LB_ASSERT(pthread_cond_wait(&v->changed, &v->mu) == 0);
}

static void tell_change(struct view *v)
{
	LB_ASSERT(pthread_cond_broadcast(&v->changed) == 0);
}

/* ---- segment files (lock held) ---- */

static struct seg_file *file_slot(struct view *v, uint64_t number)
{
	struct seg_file *old = NULL;

	for (unsigned i = 0; i < FILES; i++) {
		struct seg_file *f = &v->file[i];

		if (f->number == number)
			return f;
		if (f->users == 0 && (old == NULL || f->tick < old->tick))
			old = f;
	}
	return old;
}

static int file_get(struct view *v, uint64_t number, struct seg_file **out, struct lb_err *err)
{
	struct seg_file *f;

	while ((f = file_slot(v, number)) == NULL)
		wait_change(v);
	if (f->number != number) {
		struct lb_file *file = NULL;
		char path[32];
		int rc;

		rep_seg_path(path, number);
		rc = lb_fs_open(v->fs, &file, path, LB_FS_READ, err);
		if (rc != 0)
			return rc;
		lb_file_close(f->file);
		f->file = file;
		f->number = number;
	}
	f->users++;
	f->tick = ++v->tick;
	*out = f;
	return 0;
}

static void file_put(struct view *v, struct seg_file *f)
{
	f->users--;
	tell_change(v);
}

/* ---- sealers ---- */

static int sealer_get(struct view *v, struct view_key *k, struct lb_sealer **out,
		      struct lb_err *err)
{
	lock(v);
	*out = k->idles > 0 ? k->idle[--k->idles] : NULL;
	unlock(v);
	return *out != NULL ? 0 : lb_sealer_create(out, &k->key, err);
}

static void sealer_put(struct view *v, struct view_key *k, struct lb_sealer *s)
{
	lock(v);
	if (k->idles < SEALERS_IDLE) {
		k->idle[k->idles++] = s;
		s = NULL;
	}
	unlock(v);
	lb_sealer_destroy(s);
}

/* ---- packs ---- */

static int read_pack(struct view *v, const struct rep_viewmap_pack *k,
		     const struct rep_layer_header *h, struct lb_buf **out, struct lb_err *err)
{
	struct seg_file *f = NULL;
	struct lb_file *file;
	struct rep_record r;
	struct lb_hash leaf;
	int rc;

	lock(v);
	rc = file_get(v, k->segment, &f, err);
	unlock(v);
	if (rc != 0)
		return rc;
	file = f->file;
	rc = rep_seg_record(file, k->segment, k->offset, k->offset + rep_record_span(k->bytes), &r,
			    out, err);
	lock(v);
	file_put(v, f);
	unlock(v);
	if (rc != 0)
		return rc;
	lb_merkle_leaf(&leaf, (*out)->p, (*out)->len);
	if (r.kind != REP_RECORD_PACK || r.number != k->number ||
	    !lb_id_equal(&r.owner, &h->layer) || !lb_hash_equal(&leaf, &k->leaf))
		return lb_err_set(err, LB_ECORRUPT, 0, "not the pack under the signed root");
	return 0;
}

/* Read, check, decrypt and expand pack @pack into @e. */
static int load_pack(struct view *v, uint32_t pack, struct entry *e, struct lb_err *err)
{
	struct rep_viewmap_pack k;
	struct rep_layer_header h;
	struct lb_sealer *sealer = NULL;
	struct view_key *key;
	struct lb_buf *body = NULL;
	int rc;

	rep_viewmap_pack(&k, &v->map, pack);
	key = &v->key[v->layer_key[k.layer]];
	rc = rep_viewmap_layer(&h, &v->map, k.layer, err);
	if (rc == 0)
		rc = read_pack(v, &k, &h, &body, err);
	if (rc == 0)
		rc = sealer_get(v, key, &sealer, err);
	if (rc == 0)
		rc = rep_pack_open(e->raw, &e->raw_bytes, sealer, &h,
				   (struct rep_sealed){k.number, body->p, body->len}, err);
	if (sealer != NULL)
		sealer_put(v, key, sealer);
	lb_buf_unref(body);
	if (rc != 0)
		return lb_err_wrap(err, rc,
				   "pack %" PRIu32 " of seq %" PRIu64 " in segment %" PRIx64
				   " at %" PRIu64,
				   k.number, h.seq, k.segment, k.offset);
	return 0;
}

/* Lock held. */
static void evict(struct view *v, struct entry *e)
{
	v->pack_entry[e->pack] = 0;
	v->cached_bytes -= e->raw_bytes;
	explicit_bzero(e->raw, e->raw_bytes);
	free(e->raw);
	e->raw = NULL;
	e->state = ENTRY_FREE;
}

/* Lock held. A free entry and room for a pack, at the expense of those not used for longest; NULL:
 * all are in use. */
static struct entry *room(struct view *v)
{
	for (;;) {
		struct entry *unused = NULL, *old = NULL;

		for (uint32_t i = 0; i < v->entries; i++) {
			struct entry *e = &v->entry[i];

			if (e->state == ENTRY_FREE)
				unused = e;
			else if (e->state == ENTRY_READY && e->users == 0 &&
				 (old == NULL || e->tick < old->tick))
				old = e;
		}
		if (unused != NULL && v->cached_bytes + REP_PACK_MAX_RAW <= v->cache_bytes)
			return unused;
		if (old == NULL)
			return NULL;
		evict(v, old);
	}
}

/* Most packs are smaller than what they are opened into. */
static void shrink(struct entry *e)
{
	uint8_t *less = realloc(e->raw, e->raw_bytes);

	if (less != NULL)
		e->raw = less;
}

/* Lock held, but for the loading. @e is free and has room. */
static int fill(struct view *v, uint32_t pack, struct entry *e, struct lb_err *err)
{
	int rc = 0;

	e->state = ENTRY_LOADING;
	e->pack = pack;
	v->pack_entry[pack] = (uint32_t)(e - v->entry) + 1;
	v->cached_bytes += REP_PACK_MAX_RAW;
	unlock(v);
	e->raw = malloc(REP_PACK_MAX_RAW);
	if (e->raw == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "cache a pack");
	else
		rc = load_pack(v, pack, e, err);
	if (rc == 0)
		shrink(e);
	lock(v);
	v->cached_bytes -= REP_PACK_MAX_RAW;
	if (rc == 0) {
		e->state = ENTRY_READY;
		v->cached_bytes += e->raw_bytes;
	} else {
		free(e->raw);
		e->raw = NULL;
		e->state = ENTRY_FREE;
		v->pack_entry[pack] = 0;
	}
	tell_change(v);
	return rc;
}

/* The opened pack, in use until pack_put(). */
static int pack_get(struct view *v, uint32_t pack, struct entry **out, struct lb_err *err)
{
	int rc = 0;

	lock(v);
	for (;;) {
		uint32_t at = v->pack_entry[pack];
		struct entry *e = at != 0 ? &v->entry[at - 1] : room(v);

		if (e == NULL || e->state == ENTRY_LOADING) {
			wait_change(v);
			continue;
		}
		if (at == 0)
			rc = fill(v, pack, e, err);
		if (rc == 0) {
			e->users++;
			e->tick = ++v->tick;
			*out = e;
		}
		break;
	}
	unlock(v);
	return rc;
}

static void pack_put(struct view *v, struct entry *e)
{
	lock(v);
	if (--e->users == 0)
		tell_change(v);
	unlock(v);
}

/* Copy @len bytes from byte @at of opened pack @pack. */
static int pack_copy(struct view *v, uint32_t pack, uint64_t at, void *out, uint64_t len,
		     struct lb_err *err)
{
	struct entry *e;
	int rc = pack_get(v, pack, &e, err);

	if (rc != 0)
		return rc;
	if (at > e->raw_bytes || len > e->raw_bytes - at)
		rc = lb_err_set(err, LB_ECORRUPT, 0,
				"index names bytes %" PRIu64 "+%" PRIu64 " of a pack of %u", at,
				len, e->raw_bytes);
	else
		memcpy(out, e->raw + at, (size_t)len);
	pack_put(v, e);
	return rc;
}

static int patched_copy(struct view *v, const struct rep_viewmap_run *r, uint64_t in_block,
			void *out, uint64_t len, struct lb_err *err)
{
	uint8_t block[REP_BLOCK_BYTES];
	uint8_t delta[REP_BLOCK_BYTES];
	struct rep_viewmap_patch t;
	int rc;

	rep_viewmap_patch(&t, &v->map, r->patch - 1);
	rc = pack_copy(v, r->pack, (uint64_t)r->pos * REP_BLOCK_BYTES, block, sizeof(block), err);
	if (rc == 0)
		rc = pack_copy(v, t.pack, t.pos, delta, t.bytes, err);
	if (rc == 0)
		rc = rep_word_delta_apply(block, delta, t.bytes, err);
	if (rc == 0)
		memcpy(out, block + in_block, (size_t)len);
	return rc;
}

/* ---- the device ---- */

/* Index of the first run that ends behind @block. */
static uint64_t first_run(const struct view *v, uint64_t block)
{
	uint64_t lo = 0;
	uint64_t hi = v->map.runs;

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;
		struct rep_viewmap_run r;

		rep_viewmap_run(&r, &v->map, mid);
		if (r.block + r.count > block)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* What of [off, end) run @r holds, or the gap before it: bytes, and zero or not. */
static uint64_t piece(const struct rep_viewmap_run *r, bool none, uint64_t off, uint64_t end,
		      bool *zero)
{
	uint64_t start = r->block * REP_BLOCK_BYTES;
	uint64_t stop = (r->block + r->count) * REP_BLOCK_BYTES;

	*zero = none || off < start;
	if (none)
		return end - off;
	stop = *zero ? start : stop;
	return (stop < end ? stop : end) - off;
}

static int view_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	struct view *v = as_view(d);
	uint64_t i = first_run(v, off / REP_BLOCK_BYTES);
	uint64_t end = off + len;
	uint8_t *out = buf;
	int rc = 0;

	while (off < end && rc == 0) {
		struct rep_viewmap_run r = {.block = 0};
		bool zero;
		uint64_t n;

		if (i < v->map.runs)
			rep_viewmap_run(&r, &v->map, i);
		n = piece(&r, i >= v->map.runs, off, end, &zero);
		if (zero)
			memset(out, 0, (size_t)n);
		else if (r.patch != 0)
			rc = patched_copy(v, &r, off % REP_BLOCK_BYTES, out, n, err);
		else
			rc = pack_copy(v, r.pack,
				       (uint64_t)r.pos * REP_BLOCK_BYTES + off -
					       r.block * REP_BLOCK_BYTES,
				       out, n, err);
		out += n;
		off += n;
		if (!zero)
			i++;
	}
	return rc;
}

static int view_next_extent(struct img_dev *d, struct img_extent *out, uint64_t off,
			    struct lb_err *err)
{
	struct view *v = as_view(d);
	uint64_t i = first_run(v, off / REP_BLOCK_BYTES);
	uint64_t at = off;

	(void)err;
	*out = (struct img_extent){.off = off};
	for (unsigned n = 0; n < EXTENT_RUNS_MAX && at < d->size_bytes; n++, i++) {
		struct rep_viewmap_run r = {.block = 0};
		uint64_t len;
		bool zero;

		if (i < v->map.runs)
			rep_viewmap_run(&r, &v->map, i);
		len = piece(&r, i >= v->map.runs, at, d->size_bytes, &zero);
		if (n > 0 && zero != out->zero)
			break;
		out->zero = zero;
		at += len;
		if (zero)
			break;
	}
	out->len = at - off;
	return 0;
}

static void view_destroy(struct img_dev *d)
{
	struct view *v = as_view(d);

	for (uint32_t i = 0; i < v->entries; i++) {
		if (v->entry[i].state == ENTRY_READY)
			evict(v, &v->entry[i]);
	}
	for (uint32_t i = 0; i < v->keys; i++) {
		while (v->key[i].idles > 0)
			lb_sealer_destroy(v->key[i].idle[--v->key[i].idles]);
		lb_key_wipe(&v->key[i].key);
	}
	for (unsigned i = 0; i < FILES; i++)
		lb_file_close(v->file[i].file);
	free(v->entry);
	free(v->pack_entry);
	free(v->key);
	free(v->layer_key);
	free(v->own);
	if (v->mapped != NULL)
		(void)munmap(v->mapped, v->map.len);
	if (v->fs_owned)
		lb_fs_destroy(v->fs);
	LB_ASSERT(pthread_cond_destroy(&v->changed) == 0);
	LB_ASSERT(pthread_mutex_destroy(&v->mu) == 0);
	free(v);
}

static const struct img_dev_ops view_ops = {
	.name = "view",
	.pread = view_pread,
	.next_extent = view_next_extent,
	.destroy = view_destroy,
};

/* ---- opening ---- */

static int add_key(struct view *v, const struct rep_view_cfg *cfg, const struct lb_id *id,
		   uint32_t *out, struct lb_err *err)
{
	struct view_key *k;
	char text[LB_ID_TEXT];
	int rc;

	for (uint32_t i = 0; i < v->keys; i++) {
		if (lb_id_equal(&v->key[i].id, id)) {
			*out = i;
			return 0;
		}
	}
	k = &v->key[v->keys]; /* room for one key a layer */
	*k = (struct view_key){.id = *id};
	rc = cfg->dek_of(cfg->arg, id, &k->key);
	if (rc != 0)
		return lb_err_set(err, (enum lb_code)rc, 0,
				  "this site does not hold data key %.16s", lb_id_text(id, text));
	*out = v->keys++;
	return 0;
}

static int load_keys(struct view *v, const struct rep_view_cfg *cfg, struct lb_err *err)
{
	int rc = 0;

	v->key = calloc((size_t)v->map.layers + 1, sizeof(*v->key));
	v->layer_key = calloc((size_t)v->map.layers + 1, sizeof(*v->layer_key));
	if (v->key == NULL || v->layer_key == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "view of %u layers", v->map.layers);
	for (uint32_t i = 0; i < v->map.layers && rc == 0; i++) {
		struct rep_layer_header h;

		rc = rep_viewmap_layer(&h, &v->map, i, err);
		if (rc == 0)
			rc = add_key(v, cfg, &h.key, &v->layer_key[i], err);
	}
	return rc;
}

/* Takes @own or @mapped, and @fs when @fs_owned, in any case. */
static int view_create(struct img_dev **out, struct view *given, size_t len,
		       const struct rep_view_cfg *cfg, struct lb_err *err)
{
	struct view *v = given;
	uint64_t cache = cfg->cache_bytes != 0 ? cfg->cache_bytes : DEFAULT_CACHE;
	const void *p = v->own != NULL ? (const void *)v->own : v->mapped;
	int rc = rep_viewmap_decode(&v->map, p, len, err);

	v->map.len = len;
	LB_ASSERT(pthread_mutex_init(&v->mu, NULL) == 0);
	LB_ASSERT(pthread_cond_init(&v->changed, NULL) == 0);
	if (rc == 0)
		rc = load_keys(v, cfg, err);
	if (rc == 0) {
		uint64_t least = (uint64_t)PACKS_MIN * REP_PACK_MAX_RAW;
		uint64_t n;

		v->cache_bytes = cache < least ? least : cache;
		n = v->cache_bytes / ENTRY_SHARE;
		v->entries = (uint32_t)(n < v->map.packs + 1 ? n : v->map.packs + 1);
		v->entry = calloc(v->entries, sizeof(*v->entry));
		v->pack_entry = calloc((size_t)v->map.packs + 1, sizeof(*v->pack_entry));
		if (v->entry == NULL || v->pack_entry == NULL) {
			v->entries = 0;
			rc = lb_err_set(err, LB_ENOMEM, 0, "view cache");
		}
	}
	v->dev.ops = &view_ops;
	v->dev.size_bytes = v->map.volume_bytes;
	if (rc != 0) {
		view_destroy(&v->dev);
		return rc;
	}
	*out = &v->dev;
	return 0;
}

int rep_view_open(struct img_dev **out, struct rep_store *s, const struct lb_hash *manifest,
		  const struct lb_id *volume, const struct rep_view_cfg *cfg, struct lb_err *err)
{
	struct view *v = calloc(1, sizeof(*v));
	size_t len = 0;
	int rc;

	if (v == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "open a view");
	rc = rep_view_build(&v->own, &len, s, manifest, volume, err);
	if (rc != 0) {
		free(v);
		return rc;
	}
	v->fs = s->fs;
	return view_create(out, v, len, cfg, err);
}

int rep_view_prepare(struct rep_store *s, const struct lb_hash *manifest,
		     const struct lb_id *volume, struct lb_fs *fs, const char *path,
		     struct lb_err *err)
{
	struct lb_file *f = NULL;
	uint8_t *p = NULL;
	size_t len = 0;
	int rc = rep_view_build(&p, &len, s, manifest, volume, err);

	if (rc == 0) {
		/* Never into a file that somebody may have mapped: that would be SIGBUS there. */
		rc = lb_fs_unlink(fs, path, err);
		rc = rc == LB_ENOTFOUND ? 0 : rc;
	}
	if (rc == 0)
		rc = lb_fs_open(fs, &f, path, LB_FS_CREATE | LB_FS_EXCL, err);
	if (rc == 0)
		rc = lb_file_pwrite(f, p, len, 0, err);
	lb_file_close(f);
	free(p);
	return rc;
}

/* The only place that maps a file: base/fs.h has no mmap, and a map of a large volume must not be
 * read into RAM. */
static int map_file(struct view *v, const char *path, size_t *len, struct lb_err *err)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int rc = 0;

	if (fd < 0)
		return lb_err_errno(err, errno, "open view map %s", path);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size <= 0)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "view map %s: not a file with bytes in it",
				path);
	if (rc == 0) {
		*len = (size_t)st.st_size;
		v->mapped = mmap(NULL, *len, PROT_READ, MAP_PRIVATE, fd, 0);
		if (v->mapped == MAP_FAILED) {
			v->mapped = NULL;
			rc = lb_err_errno(err, errno, "map view map %s", path);
		}
	}
	(void)close(fd);
	return rc;
}

int rep_view_open_map(struct img_dev **out, const char *map_path, const char *store_dir,
		      const struct rep_view_cfg *cfg, struct lb_err *err)
{
	struct view *v = calloc(1, sizeof(*v));
	size_t len = 0;
	int rc;

	if (v == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "open a view");
	rc = map_file(v, map_path, &len, err);
	if (rc == 0)
		rc = lb_fs_dir_create(&v->fs, store_dir, err);
	if (rc != 0) {
		if (v->mapped != NULL)
			(void)munmap(v->mapped, len);
		free(v);
		return rc;
	}
	v->fs_owned = true;
	return view_create(out, v, len, cfg, err);
}
