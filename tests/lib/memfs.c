/*
 * Every file has its live bytes, its durable bytes and the writes between them (pending). Every
 * directory has a live and a durable map; the name operations between them are one list of the
 * whole disk, because a rename touches two names at once.
 */
#include "memfs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fs.h"

enum {
	SECTOR = 512,
	MAX_NAME = 255
};

struct bytes {
	uint8_t *p;
	uint64_t len;
	uint64_t cap;
};

struct pending {      /* a write, or a truncation when data is NULL */
	uint64_t off; /* truncation: the new length */
	uint64_t len;
	uint8_t *data;
};

struct entry {
	char *name;
	struct inode *ino;
};

struct map {
	struct entry *e;
	size_t n;
};

struct inode {
	struct inode *next;
	bool is_dir;
	bool marked;
	unsigned opens;
	uint64_t number;
	bool locked;
	struct bytes live;
	struct bytes durable;
	struct pending *pending;
	size_t n_pending;
	struct map names;
	struct map durable_names;
};

/* One name before and after; ino NULL = removed. */
struct effect {
	struct inode *dir;
	char *name;
	struct inode *was;
	struct inode *ino;
};

struct name_op {
	struct effect e[2];
	unsigned n;
};

struct memfs {
	struct lb_fs fs;
	pthread_mutex_t lock;
	struct inode *inodes;
	struct inode *root;
	struct name_op *ops;
	size_t n_ops;
	uint64_t random;
	uint64_t generation; /* of power */
	uint64_t next_number;
	uint64_t count;
	uint64_t syncs;
	uint64_t space;
	uint64_t fail_at;
	int fail_code;
	uint64_t cut_sync;
	uint64_t cut_op;
	uint64_t ignore_sync;
	bool cut;
};

struct memfile {
	struct lb_file file;
	struct memfs *m;
	struct inode *ino;
	uint64_t generation;
	bool writable;
	bool holds_lock;
	char *path;
};

/* ---- small tools ---- */

static void *must(void *p)
{
	LB_ASSERT(p != NULL); /* a test without memory tells nothing */
	return p;
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u; /* splitmix64 */
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static uint64_t draw(struct memfs *m, uint64_t below)
{
	m->random = mix(m->random);
	return m->random % below;
}

static void bytes_resize(struct bytes *b, uint64_t len)
{
	if (len > b->cap) {
		b->cap = len + len / 2 + SECTOR;
		b->p = must(realloc(b->p, (size_t)b->cap));
	}
	if (len > b->len)
		memset(b->p + b->len, 0, (size_t)(len - b->len));
	b->len = len;
}

static struct memfs *as_mem(struct lb_fs *fs)
{
	return (struct memfs *)fs;
}

static struct memfile *as_file(struct lb_file *f)
{
	return (struct memfile *)f;
}

/* ---- maps ---- */

static struct entry *map_find(const struct map *m, const char *name)
{
	for (size_t i = 0; i < m->n; i++) {
		if (strcmp(m->e[i].name, name) == 0)
			return &m->e[i];
	}
	return NULL;
}

static struct inode *map_get(const struct map *m, const char *name)
{
	const struct entry *e = map_find(m, name);

	return e != NULL ? e->ino : NULL;
}

static void map_set(struct map *m, const char *name, struct inode *ino)
{
	struct entry *e = map_find(m, name);

	if (e != NULL && ino != NULL) {
		e->ino = ino;
	} else if (e != NULL) {
		free(e->name);
		*e = m->e[--m->n];
	} else if (ino != NULL) {
		m->e = must(realloc(m->e, (m->n + 1) * sizeof(*m->e)));
		m->e[m->n++] = (struct entry){must(strdup(name)), ino};
	}
}

static void map_clear(struct map *m)
{
	for (size_t i = 0; i < m->n; i++)
		free(m->e[i].name);
	free(m->e);
	*m = (struct map){0};
}

static void map_copy(struct map *to, const struct map *from)
{
	map_clear(to);
	for (size_t i = 0; i < from->n; i++)
		map_set(to, from->e[i].name, from->e[i].ino);
}

/* ---- inodes ---- */

static struct inode *inode_new(struct memfs *m, bool is_dir)
{
	struct inode *n = must(calloc(1, sizeof(*n)));

	n->is_dir = is_dir;
	n->number = ++m->next_number;
	n->next = m->inodes;
	m->inodes = n;
	return n;
}

static void pending_clear(struct inode *n)
{
	for (size_t i = 0; i < n->n_pending; i++)
		free(n->pending[i].data);
	free(n->pending);
	n->pending = NULL;
	n->n_pending = 0;
}

static void inode_free(struct inode *n)
{
	pending_clear(n);
	map_clear(&n->names);
	map_clear(&n->durable_names);
	free(n->live.p);
	free(n->durable.p);
	free(n);
}

static bool mark_map(const struct map *m)
{
	bool more = false;

	for (size_t i = 0; i < m->n; i++) {
		more = more || !m->e[i].ino->marked;
		m->e[i].ino->marked = true;
	}
	return more;
}

static void mark_roots(struct memfs *m)
{
	for (struct inode *n = m->inodes; n != NULL; n = n->next)
		n->marked = n->opens != 0;
	m->root->marked = true;
	for (size_t i = 0; i < m->n_ops; i++) {
		for (unsigned j = 0; j < m->ops[i].n; j++) {
			struct effect *e = &m->ops[i].e[j];

			e->dir->marked = true;
			if (e->was != NULL)
				e->was->marked = true;
			if (e->ino != NULL)
				e->ino->marked = true;
		}
	}
}

/* Free what no name, handle or pending operation can reach any more. */
static void collect(struct memfs *m)
{
	bool more = true;

	mark_roots(m);
	while (more) {
		more = false;
		for (struct inode *n = m->inodes; n != NULL; n = n->next) {
			if (n->marked && mark_map(&n->names))
				more = true;
			if (n->marked && mark_map(&n->durable_names))
				more = true;
		}
	}
	for (struct inode **p = &m->inodes; *p != NULL;) {
		struct inode *n = *p;

		if (n->marked) {
			p = &n->next;
			continue;
		}
		*p = n->next;
		inode_free(n);
	}
}

/* ---- durability of bytes ---- */

/* How many of the pending writes sector @s has seen when the power goes: none, all, or some. */
static uint64_t sector_time(const struct inode *n, uint64_t seed, uint64_t s)
{
	uint64_t r = mix(seed ^ mix(n->number ^ mix(s)));

	if (r % 3 == 0)
		return 0;
	if (r % 3 == 1)
		return n->n_pending;
	return (r >> 8) % (n->n_pending + 1);
}

/* Apply pending write @i to the sectors that saw it (all of them when @seed is NULL). */
static void apply_pending(struct inode *n, size_t i, const uint64_t *seed)
{
	const struct pending *w = &n->pending[i];
	uint64_t end = w->data != NULL ? w->off + w->len : n->durable.len;

	for (uint64_t at = w->off; at < end;) {
		uint64_t stop = (at / SECTOR + 1) * SECTOR;

		if (stop > end)
			stop = end;
		if (seed == NULL || i < sector_time(n, *seed, at / SECTOR)) {
			if (w->data != NULL)
				memcpy(n->durable.p + at, w->data + (at - w->off),
				       (size_t)(stop - at));
			else
				memset(n->durable.p + at, 0, (size_t)(stop - at));
		}
		at = stop;
	}
}

/* Length after pending write @i, from @len before it. */
static uint64_t length_after(const struct inode *n, size_t i, uint64_t len)
{
	const struct pending *w = &n->pending[i];

	if (w->data == NULL)
		return w->off;
	return w->off + w->len > len ? w->off + w->len : len;
}

/* @seed NULL: everything becomes durable. Else each sector, and the length, as the seed says. */
static void settle(struct inode *n, const uint64_t *seed)
{
	uint64_t len = n->durable.len;
	uint64_t lo = len;
	uint64_t hi = len;

	for (size_t i = 0; i < n->n_pending; i++) {
		len = length_after(n, i, len);
		lo = len < lo ? len : lo;
		hi = len > hi ? len : hi;
	}
	bytes_resize(&n->durable, hi);
	for (size_t i = 0; i < n->n_pending; i++)
		apply_pending(n, i, seed);
	if (seed != NULL && hi > lo) {
		uint64_t r = mix(*seed ^ mix(~n->number));

		if (r % 3 == 0)
			len = lo;
		else if (r % 3 == 1)
			len = lo + (r >> 8) % (hi - lo + 1);
	}
	bytes_resize(&n->durable, len);
	pending_clear(n);
}

static void note_pending(struct inode *n, uint64_t off, const void *p, uint64_t len)
{
	struct pending w = {.off = off, .len = len};

	if (p != NULL) {
		w.data = must(malloc((size_t)len));
		memcpy(w.data, p, (size_t)len);
	}
	/* Doubled at each power of two, as the count says. */
	if ((n->n_pending & (n->n_pending - 1)) == 0)
		n->pending = must(realloc(n->pending,
					  (n->n_pending != 0 ? 2 * n->n_pending : 1) * sizeof(w)));
	n->pending[n->n_pending++] = w;
}

/* ---- durability of names ---- */

static void note_names(struct memfs *m, const struct effect *e, unsigned count)
{
	struct name_op op = {.n = count};

	for (unsigned i = 0; i < count; i++) {
		op.e[i] = e[i];
		op.e[i].name = must(strdup(e[i].name));
		map_set(&e[i].dir->names, e[i].name, e[i].ino);
	}
	m->ops = must(realloc(m->ops, (m->n_ops + 1) * sizeof(op)));
	m->ops[m->n_ops++] = op;
}

static void name_op_free(struct name_op *op)
{
	for (unsigned i = 0; i < op->n; i++)
		free(op->e[i].name);
}

static bool touches(const struct name_op *op, const struct inode *dir)
{
	return op->e[0].dir == dir || (op->n == 2 && op->e[1].dir == dir);
}

/* Make @dir's names durable, and those of directories it exchanged names with. */
static void settle_dir(struct memfs *m, struct inode *dir)
{
	bool again = true;

	while (again) {
		again = false;
		map_copy(&dir->durable_names, &dir->names);
		for (size_t i = 0; i < m->n_ops && !again; i++) {
			struct name_op op = m->ops[i];

			if (!touches(&op, dir))
				continue;
			m->n_ops--;
			memmove(m->ops + i, m->ops + i + 1, (m->n_ops - i) * sizeof(op));
			again = true;
			for (unsigned j = 0; j < op.n; j++) {
				if (op.e[j].dir != dir)
					settle_dir(m, op.e[j].dir);
			}
			name_op_free(&op);
		}
	}
}

static void apply_names(const struct name_op *op)
{
	for (unsigned i = 0; i < op->n; i++) {
		const struct effect *e = &op->e[i];

		if (e->ino != NULL || map_get(&e->dir->durable_names, e->name) == e->was)
			map_set(&e->dir->durable_names, e->name, e->ino);
	}
}

static void settle_names_at_random(struct memfs *m, uint64_t seed)
{
	bool prefix = mix(seed) % 2 == 0;
	uint64_t keep = mix(seed + 1) % (m->n_ops + 1);

	for (size_t i = 0; i < m->n_ops; i++) {
		if (prefix ? i < keep : mix(seed + 2 + i) % 2 == 0)
			apply_names(&m->ops[i]);
		name_op_free(&m->ops[i]);
	}
	m->n_ops = 0;
}

/* ---- every operation passes here ---- */

static int injected(struct memfs *m, const char *what, const char *path, struct lb_err *err)
{
	/* The code is one of enum lb_code: that is the contract of fail_at. */
	return lb_err_set(err, (enum lb_code)m->fail_code, 0, "%s %s: injected failure", what,
			  path);
}

/* Count one operation; non-zero when it must fail, -1 in *@ignore when it must only pretend. */
static int begin(struct memfs *m, const char *what, const char *path, bool is_sync, bool *ignore,
		 struct lb_err *err)
{
	if (!m->cut) {
		m->count++;
		m->syncs += is_sync;
		m->cut = (m->cut_op != 0 && m->count == m->cut_op) ||
			 (is_sync && m->cut_sync != 0 && m->syncs == m->cut_sync);
	}
	if (m->cut)
		return lb_err_set(err, LB_EIO, 0, "%s %s: the power is off", what, path);
	if (ignore != NULL)
		*ignore = m->ignore_sync != 0 && m->syncs == m->ignore_sync;
	if (m->fail_at != 0 && m->count == m->fail_at)
		return injected(m, what, path, err);
	return 0;
}

static int begin_file(struct memfile *f, const char *what, bool is_sync, bool *ignore,
		      struct lb_err *err)
{
	if (f->generation != f->m->generation)
		return lb_err_set(err, LB_EIO, 0, "%s %s: opened before the power cut", what,
				  f->path);
	return begin(f->m, what, f->path, is_sync, ignore, err);
}

static void lock(struct memfs *m)
{
	(void)pthread_mutex_lock(&m->lock);
}

static int unlock(struct memfs *m, int rc)
{
	(void)pthread_mutex_unlock(&m->lock);
	return rc;
}

/* ---- paths ---- */

/* Walk to the directory that holds the last component, which is copied to @leaf ("" for the root).
 */
static int walk(struct memfs *m, const char *path, struct inode **dir, char leaf[MAX_NAME + 1],
		struct lb_err *err)
{
	struct inode *at = m->root;

	leaf[0] = 0;
	if (path[0] == '/')
		return lb_err_set(err, LB_EDENIED, 0, "open %s beneath its root", path);
	for (const char *p = path; *p != 0;) {
		size_t n = strcspn(p, "/");

		if (leaf[0] != 0)
			at = map_get(&at->names, leaf);
		if (at == NULL)
			return lb_err_set(err, LB_ENOTFOUND, 0, "open %s", path);
		if (!at->is_dir || n == 0 || n > MAX_NAME)
			return lb_err_set(err, LB_EIO, 0, "open %s: not a directory", path);
		memcpy(leaf, p, n);
		leaf[n] = 0;
		if (strcmp(leaf, "..") == 0)
			return lb_err_set(err, LB_EDENIED, 0, "open %s beneath its root", path);
		if (strcmp(leaf, ".") == 0)
			leaf[0] = 0;
		p += n;
		if (*p == '/' && *++p == 0)
			return lb_err_set(err, LB_EIO, 0, "open %s: ends with a slash", path);
	}
	*dir = at;
	return 0;
}

/* As walk(), for operations that need a last component. */
static int walk_leaf(struct memfs *m, const char *path, struct inode **dir, char leaf[MAX_NAME + 1],
		     struct lb_err *err)
{
	int rc = walk(m, path, dir, leaf, err);

	if (rc == 0 && leaf[0] == 0)
		rc = lb_err_set(err, LB_EIO, 0, "\"%s\" names the root", path);
	return rc;
}

static int find_dir(struct memfs *m, const char *path, struct inode **out, struct lb_err *err)
{
	char leaf[MAX_NAME + 1];
	struct inode *n = NULL;
	int rc = walk(m, path, &n, leaf, err);

	if (rc == 0 && leaf[0] != 0)
		n = map_get(&n->names, leaf);
	if (rc == 0 && n == NULL)
		rc = lb_err_set(err, LB_ENOTFOUND, 0, "open directory %s", path);
	else if (rc == 0 && !n->is_dir)
		rc = lb_err_set(err, LB_EIO, 0, "open directory %s: is a file", path);
	if (rc == 0)
		*out = n;
	return rc;
}

/* ---- file operations ---- */

static int mem_pread(struct lb_file *file, void *p, size_t len, uint64_t off, size_t *got,
		     struct lb_err *err)
{
	struct memfile *f = as_file(file);
	const struct bytes *b = &f->ino->live;
	int rc;

	lock(f->m);
	rc = begin_file(f, "read", false, NULL, err);
	if (rc == 0) {
		*got = off >= b->len ? 0 : len < b->len - off ? len : (size_t)(b->len - off);
		if (*got != 0)
			memcpy(p, b->p + off, *got);
	}
	return unlock(f->m, rc);
}

static uint64_t used_bytes(const struct memfs *m)
{
	uint64_t sum = 0;

	for (const struct inode *n = m->inodes; n != NULL; n = n->next)
		sum += n->live.len;
	return sum;
}

/* How many of @len bytes at @off fit on the disk. */
static uint64_t fitting(const struct memfs *m, const struct inode *n, uint64_t off, uint64_t len)
{
	uint64_t used;
	uint64_t end;

	if (m->space == UINT64_MAX || off + len <= n->live.len)
		return len;
	used = used_bytes(m);
	end = n->live.len + (m->space > used ? m->space - used : 0);
	if (end <= off)
		return 0;
	return end - off < len ? end - off : len;
}

static void write_piece(struct inode *n, const void *p, uint64_t len, uint64_t off)
{
	if (len == 0)
		return;
	if (off + len > n->live.len)
		bytes_resize(&n->live, off + len);
	memcpy(n->live.p + off, p, (size_t)len);
	note_pending(n, off, p, len);
}

static int write_checked(struct memfile *f, uint64_t off, struct lb_err *err)
{
	if (!f->writable)
		return lb_err_set(err, LB_EIO, 0, "write %s: opened for reading", f->path);
	if (off > INT64_MAX)
		return lb_err_set(err, LB_EIO, 0, "write %s: offset too large", f->path);
	return 0;
}

static int mem_pwritev(struct lb_file *file, const struct iovec *iov, int n, uint64_t off,
		       struct lb_err *err)
{
	struct memfile *f = as_file(file);
	bool was_on;
	bool failed;
	int rc;

	lock(f->m);
	was_on = !f->m->cut && f->generation == f->m->generation;
	rc = begin_file(f, "write", false, NULL, err);
	failed = rc != 0 && was_on;
	if (rc == 0)
		rc = write_checked(f, off, err);
	if ((rc != 0 && !failed) || !f->writable || off > INT64_MAX)
		return unlock(f->m, rc);
	for (int i = 0; i < n; i++) {
		/* A failing write stops anywhere, one that the power cut interrupts at a sector. */
		uint64_t want = failed ? draw(f->m, iov[i].iov_len + 1) : iov[i].iov_len;
		uint64_t torn = f->m->cut && want < iov[i].iov_len ? (off + want) % SECTOR : 0;
		uint64_t fits = fitting(f->m, f->ino, off, torn < want ? want - torn : 0);

		write_piece(f->ino, iov[i].iov_base, fits, off);
		off += fits;
		if (fits < want && rc == 0)
			rc = lb_err_set(err, LB_ENOSPC, 0, "write %s at %llu", f->path,
					(unsigned long long)off);
		if (fits < iov[i].iov_len)
			break;
	}
	return unlock(f->m, rc);
}

static int mem_sync(struct lb_file *file, struct lb_err *err)
{
	struct memfile *f = as_file(file);
	bool ignore = false;
	int rc;

	lock(f->m);
	rc = begin_file(f, "sync", true, &ignore, err);
	if (rc == 0 && !ignore) {
		settle(f->ino, NULL);
	} else if (rc != 0 && f->generation == f->m->generation && !f->m->cut) {
		uint64_t seed = draw(f->m, UINT64_MAX);

		settle(f->ino, &seed); /* the kernel reported it once and forgot the pages */
	}
	return unlock(f->m, rc);
}

static int mem_truncate(struct lb_file *file, uint64_t len, struct lb_err *err)
{
	struct memfile *f = as_file(file);
	int rc;

	lock(f->m);
	rc = begin_file(f, "truncate", false, NULL, err);
	if (rc == 0)
		rc = write_checked(f, len, err);
	if (rc == 0 && len > f->ino->live.len &&
	    fitting(f->m, f->ino, f->ino->live.len, len - f->ino->live.len) <
		    len - f->ino->live.len)
		rc = lb_err_set(err, LB_ENOSPC, 0, "truncate %s to %llu", f->path,
				(unsigned long long)len);
	if (rc == 0 && len != f->ino->live.len) {
		bytes_resize(&f->ino->live, len);
		note_pending(f->ino, len, NULL, 0);
	}
	return unlock(f->m, rc);
}

static int mem_size(struct lb_file *file, uint64_t *out, struct lb_err *err)
{
	struct memfile *f = as_file(file);
	int rc;

	lock(f->m);
	rc = begin_file(f, "stat", false, NULL, err);
	if (rc == 0)
		*out = f->ino->live.len;
	return unlock(f->m, rc);
}

static int mem_lock(struct lb_file *file, struct lb_err *err)
{
	struct memfile *f = as_file(file);
	int rc;

	lock(f->m);
	rc = begin_file(f, "lock", false, NULL, err);
	if (rc == 0 && !f->writable)
		rc = lb_err_set(err, LB_EIO, 0, "lock %s: opened for reading", f->path);
	else if (rc == 0 && f->ino->locked && !f->holds_lock)
		rc = lb_err_set(err, LB_EBUSY, 0, "lock %s: held by another open", f->path);
	else if (rc == 0)
		f->ino->locked = f->holds_lock = true;
	return unlock(f->m, rc);
}

static void mem_close(struct lb_file *file)
{
	struct memfile *f = as_file(file);
	struct memfs *m = f->m;

	lock(m);
	if (f->holds_lock && f->generation == m->generation)
		f->ino->locked = false;
	f->ino->opens--;
	(void)unlock(m, 0);
	free(f->path);
	free(f);
}

static const struct lb_file_ops file_ops = {
	.pread = mem_pread,
	.pwritev = mem_pwritev,
	.sync = mem_sync,
	.truncate = mem_truncate,
	.size = mem_size,
	.lock = mem_lock,
	.close = mem_close,
};

/* ---- name operations ---- */

static struct memfile *file_new(struct memfs *m, struct inode *n, const char *path, unsigned flags)
{
	struct memfile *f = must(calloc(1, sizeof(*f)));

	f->file.ops = &file_ops;
	f->m = m;
	f->ino = n;
	f->generation = m->generation;
	f->writable = (flags & (LB_FS_WRITE | LB_FS_CREATE)) != 0;
	f->path = must(strdup(path));
	n->opens++;
	return f;
}

static int mem_open(struct lb_fs *fs, struct lb_file **out, const char *path, unsigned flags,
		    struct lb_err *err)
{
	struct memfs *m = as_mem(fs);
	char leaf[MAX_NAME + 1];
	struct inode *dir = NULL;
	struct inode *n = NULL;
	int rc;

	lock(m);
	rc = begin(m, "open", path, false, NULL, err);
	if (rc == 0)
		rc = walk_leaf(m, path, &dir, leaf, err);
	if (rc != 0)
		return unlock(m, rc);
	n = map_get(&dir->names, leaf);
	if (n != NULL && (flags & LB_FS_EXCL) != 0)
		rc = lb_err_set(err, LB_EEXIST, 0, "open %s", path);
	else if (n != NULL && n->is_dir)
		rc = lb_err_set(err, LB_EDENIED, 0, "open %s: not a regular file", path);
	else if (n == NULL && (flags & LB_FS_CREATE) == 0)
		rc = lb_err_set(err, LB_ENOTFOUND, 0, "open %s", path);
	if (rc == 0 && n == NULL) {
		n = inode_new(m, false);
		note_names(m, &(struct effect){.dir = dir, .name = leaf, .ino = n}, 1);
	}
	if (rc == 0)
		*out = &file_new(m, n, path, flags)->file;
	return unlock(m, rc);
}

static int mem_mkdir(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	struct memfs *m = as_mem(fs);
	char leaf[MAX_NAME + 1];
	struct inode *dir = NULL;
	int rc;

	lock(m);
	rc = begin(m, "make directory", path, false, NULL, err);
	if (rc == 0)
		rc = walk_leaf(m, path, &dir, leaf, err);
	if (rc == 0 && map_get(&dir->names, leaf) == NULL)
		note_names(m, &(struct effect){.dir = dir, .name = leaf, .ino = inode_new(m, true)},
			   1);
	else if (rc == 0 && !map_get(&dir->names, leaf)->is_dir)
		rc = lb_err_set(err, LB_EEXIST, 0, "make directory %s", path);
	return unlock(m, rc);
}

static int check_rename(const struct inode *n, const struct inode *target, const char *from,
			const char *to, struct lb_err *err)
{
	if (n == NULL)
		return lb_err_set(err, LB_ENOTFOUND, 0, "rename %s to %s", from, to);
	if (target != NULL && (target->is_dir || n->is_dir))
		return lb_err_set(err, LB_EIO, 0, "rename %s to %s: a directory is there", from,
				  to);
	return 0;
}

static int mem_rename(struct lb_fs *fs, const char *from, const char *to, struct lb_err *err)
{
	struct memfs *m = as_mem(fs);
	char from_leaf[MAX_NAME + 1];
	char to_leaf[MAX_NAME + 1];
	struct effect e[2] = {{.name = from_leaf}, {.name = to_leaf}};
	int rc;

	lock(m);
	rc = begin(m, "rename", from, false, NULL, err);
	if (rc == 0)
		rc = walk_leaf(m, from, &e[0].dir, from_leaf, err);
	if (rc == 0)
		rc = walk_leaf(m, to, &e[1].dir, to_leaf, err);
	if (rc == 0) {
		e[0].was = e[1].ino = map_get(&e[0].dir->names, from_leaf);
		e[1].was = map_get(&e[1].dir->names, to_leaf);
		rc = check_rename(e[1].ino, e[1].was, from, to, err);
	}
	if (rc == 0 && e[1].was != e[1].ino)
		note_names(m, e, 2);
	return unlock(m, rc);
}

static int mem_unlink(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	struct memfs *m = as_mem(fs);
	char leaf[MAX_NAME + 1];
	struct effect e = {.name = leaf};
	int rc;

	lock(m);
	rc = begin(m, "remove", path, false, NULL, err);
	if (rc == 0)
		rc = walk_leaf(m, path, &e.dir, leaf, err);
	if (rc == 0) {
		e.was = map_get(&e.dir->names, leaf);
		if (e.was == NULL)
			rc = lb_err_set(err, LB_ENOTFOUND, 0, "remove %s", path);
		else if (e.was->is_dir && e.was->names.n != 0)
			rc = lb_err_set(err, LB_EIO, 0, "remove %s: not empty", path);
	}
	if (rc == 0)
		note_names(m, &e, 1);
	return unlock(m, rc);
}

static int mem_sync_dir(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	struct memfs *m = as_mem(fs);
	struct inode *dir = NULL;
	bool ignore = false;
	int rc;

	lock(m);
	rc = begin(m, "sync directory", path, true, &ignore, err);
	if (rc == 0)
		rc = find_dir(m, path, &dir, err);
	if (rc == 0 && !ignore) {
		settle_dir(m, dir);
		collect(m);
	}
	return unlock(m, rc);
}

static int mem_list(struct lb_fs *fs, const char *path, lb_fs_list_fn fn, void *arg,
		    struct lb_err *err)
{
	struct memfs *m = as_mem(fs);
	struct inode *dir = NULL;
	struct map copy = {0}; /* @fn may call back */
	int rc;

	lock(m);
	rc = begin(m, "list", path, false, NULL, err);
	if (rc == 0)
		rc = find_dir(m, path, &dir, err);
	if (rc == 0)
		map_copy(&copy, &dir->names);
	(void)unlock(m, 0);
	for (size_t i = 0; i < copy.n && rc == 0; i++)
		rc = fn(arg, copy.e[i].name);
	map_clear(&copy);
	return rc;
}

static int mem_space(struct lb_fs *fs, uint64_t *free_bytes, struct lb_err *err)
{
	struct memfs *m = as_mem(fs);
	uint64_t used;
	int rc;

	lock(m);
	rc = begin(m, "space", "", false, NULL, err);
	used = used_bytes(m);
	if (rc == 0 && m->space == UINT64_MAX)
		*free_bytes = UINT64_MAX;
	else if (rc == 0)
		*free_bytes = m->space > used ? m->space - used : 0;
	return unlock(m, rc);
}

static void mem_destroy(struct lb_fs *fs)
{
	struct memfs *m = as_mem(fs);

	for (size_t i = 0; i < m->n_ops; i++)
		name_op_free(&m->ops[i]);
	free(m->ops);
	for (struct inode *n = m->inodes; n != NULL;) {
		struct inode *next = n->next;

		LB_ASSERT(n->opens == 0);
		inode_free(n);
		n = next;
	}
	(void)pthread_mutex_destroy(&m->lock);
	free(m);
}

static const struct lb_fs_ops mem_ops = {
	.open = mem_open,
	.mkdir = mem_mkdir,
	.rename = mem_rename,
	.unlink = mem_unlink,
	.sync_dir = mem_sync_dir,
	.list = mem_list,
	.space = mem_space,
	.destroy = mem_destroy,
};

/* ---- the test's side ---- */

int lb_memfs_create(struct lb_fs **out, uint64_t seed, struct lb_err *err)
{
	struct memfs *m = must(calloc(1, sizeof(*m)));

	(void)err;
	m->fs.ops = &mem_ops;
	m->random = mix(seed);
	m->space = UINT64_MAX;
	(void)pthread_mutex_init(&m->lock, NULL);
	m->root = inode_new(m, true);
	*out = &m->fs;
	return 0;
}

void lb_memfs_power_cut(struct lb_fs *fs, uint64_t seed)
{
	struct memfs *m = as_mem(fs);

	lock(m);
	seed = mix(seed);
	settle_names_at_random(m, seed);
	for (struct inode *n = m->inodes; n != NULL; n = n->next) {
		settle(n, &seed);
		bytes_resize(&n->live, 0);
		bytes_resize(&n->live, n->durable.len);
		if (n->live.len != 0)
			memcpy(n->live.p, n->durable.p, (size_t)n->live.len);
		map_copy(&n->names, &n->durable_names);
		n->locked = false;
	}
	collect(m);
	m->generation++;
	m->cut = false;
	m->cut_sync = m->cut_op = m->fail_at = m->ignore_sync = 0;
	(void)unlock(m, 0);
}

static uint64_t read_locked(const struct lb_fs *fs, const uint64_t *field)
{
	struct memfs *m = (struct memfs *)(uintptr_t)fs; /* the lock is not part of its value */
	uint64_t v;

	lock(m);
	v = *field;
	(void)unlock(m, 0);
	return v;
}

uint64_t lb_memfs_ops(const struct lb_fs *fs)
{
	return read_locked(fs, &((const struct memfs *)fs)->count);
}

uint64_t lb_memfs_syncs(const struct lb_fs *fs)
{
	return read_locked(fs, &((const struct memfs *)fs)->syncs);
}

static void write_locked(struct lb_fs *fs, uint64_t *field, uint64_t v)
{
	lock(as_mem(fs));
	*field = v;
	(void)unlock(as_mem(fs), 0);
}

void lb_memfs_fail_at(struct lb_fs *fs, uint64_t k, int code)
{
	as_mem(fs)->fail_code = code;
	write_locked(fs, &as_mem(fs)->fail_at, k);
}

void lb_memfs_cut_at_sync(struct lb_fs *fs, uint64_t n)
{
	write_locked(fs, &as_mem(fs)->cut_sync, n);
}

void lb_memfs_cut_at_op(struct lb_fs *fs, uint64_t k)
{
	write_locked(fs, &as_mem(fs)->cut_op, k);
}

bool lb_memfs_is_cut(const struct lb_fs *fs)
{
	struct memfs *m = (struct memfs *)(uintptr_t)fs;
	bool cut;

	lock(m);
	cut = m->cut;
	(void)unlock(m, 0);
	return cut;
}

void lb_memfs_ignore_sync(struct lb_fs *fs, uint64_t nth)
{
	write_locked(fs, &as_mem(fs)->ignore_sync, nth);
}

void lb_memfs_set_space(struct lb_fs *fs, uint64_t bytes)
{
	write_locked(fs, &as_mem(fs)->space, bytes);
}

int lb_memfs_corrupt(struct lb_fs *fs, const char *path, uint64_t off, uint8_t xor_with)
{
	struct memfs *m = as_mem(fs);
	char leaf[MAX_NAME + 1];
	struct inode *n = NULL;
	int rc;

	lock(m);
	rc = walk_leaf(m, path, &n, leaf, NULL);
	if (rc == 0)
		n = map_get(&n->names, leaf);
	if (rc == 0 && (n == NULL || n->is_dir || off >= n->live.len))
		rc = LB_ENOTFOUND;
	if (rc == 0) {
		n->live.p[off] ^= xor_with;
		if (off < n->durable.len)
			n->durable.p[off] ^= xor_with;
	}
	return unlock(m, rc);
}
