#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "runlog_codec.h"
#include "runlog_int.h"

struct rb_log {
	struct lb_file *f;
	char *path;
	struct rb_log_end end;   /* newest durable record */
	struct rb_log_end ahead; /* newest of the batch */
	uint8_t *batch;
	size_t batch_bytes, batch_cap;
};

static struct rb_log *log_alloc(const char *path, struct lb_err *err)
{
	struct rb_log *l = calloc(1, sizeof(*l));

	if (l != NULL)
		l->path = strdup(path);
	if (l != NULL && l->path != NULL)
		return l;
	free(l);
	(void)lb_err_set(err, LB_ENOMEM, 0, "open run log %s", path);
	return NULL;
}

void rb_log_destroy(struct rb_log *l)
{
	if (l == NULL)
		return;
	lb_file_close(l->f);
	free(l->batch);
	free(l->path);
	free(l);
}

static int sync_parent(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash != NULL ? strndup(path, (size_t)(slash - path)) : strdup(".");
	int rc;

	if (dir == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "sync directory of %s", path);
	rc = lb_fs_sync_dir(fs, dir, err);
	free(dir);
	return rc;
}

void rb_log_discard(struct rb_log *l, struct lb_fs *fs)
{
	if (l == NULL)
		return;
	/* The bytes first: should the name come back after a power cut, it names nothing. */
	(void)lb_file_truncate(l->f, 0, NULL);
	(void)lb_file_sync(l->f, NULL);
	(void)lb_fs_unlink(fs, l->path, NULL);
	(void)sync_parent(fs, l->path, NULL);
	rb_log_destroy(l);
}

int rb_log_create(struct rb_log **out, struct lb_fs *fs, const char *path, struct lb_err *err)
{
	struct rb_log *l = log_alloc(path, err);
	int rc;

	if (l == NULL)
		return LB_ENOMEM;
	rc = lb_fs_open(fs, &l->f, path, LB_FS_WRITE | LB_FS_CREATE | LB_FS_EXCL, err);
	if (rc != 0) {
		rb_log_destroy(l); /* what is there is not ours */
		return rc;
	}
	rc = lb_file_lock(l->f, err);
	if (rc == 0)
		rc = sync_parent(fs, path, err);
	if (rc == 0)
		*out = l;
	else
		rb_log_discard(l, fs);
	return rc;
}

static int read_file(const struct rb_log *l, uint64_t bytes, uint8_t **out, struct lb_err *err)
{
	uint8_t *p;
	int rc;

	if (bytes > RB_LOG_MAX_BYTES)
		return lb_err_set(err, LB_ECORRUPT, 0, "run log %s: %" PRIu64 " bytes, at most %u",
				  l->path, bytes, RB_LOG_MAX_BYTES);
	p = malloc((size_t)bytes + 1);
	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "read run log %s", l->path);
	rc = lb_file_pread_full(l->f, p, (size_t)bytes, 0, err);
	if (rc != 0) {
		free(p);
		return rc;
	}
	*out = p;
	return 0;
}

/* What a killed predecessor wrote without its sync is made durable, or cut, before it is acted on.
 */
static int settle_tail(struct rb_log *l, uint64_t size, struct lb_err *err)
{
	int rc = 0;

	if (l->end.valid_bytes < size)
		rc = lb_file_truncate(l->f, l->end.valid_bytes, err);
	if (rc == 0)
		rc = lb_file_sync(l->f, err);
	return rc;
}

static int log_open(struct rb_log **out, struct lb_fs *fs, const char *path, bool own, rb_log_fn fn,
		    void *arg, struct lb_err *err)
{
	struct rb_log *l = log_alloc(path, err);
	uint8_t *p = NULL;
	uint64_t size = 0;
	int rc;

	if (l == NULL)
		return LB_ENOMEM;
	rc = lb_fs_open(fs, &l->f, path, own ? LB_FS_WRITE : LB_FS_READ, err);
	if (rc == 0 && own)
		rc = lb_file_lock(l->f, err);
	if (rc == 0)
		rc = lb_file_size(l->f, &size, err);
	if (rc == 0)
		rc = read_file(l, size, &p, err);
	if (rc == 0) {
		rc = rb_log_scan(p, (size_t)size, fn, arg, &l->end, err);
		if (rc != 0)
			rc = lb_err_wrap(err, rc, "%s", path);
	}
	if (rc == 0 && own)
		rc = settle_tail(l, size, err);
	if (rc == 0) {
		l->ahead = l->end;
		*out = l;
		l = NULL;
	}
	free(p);
	rb_log_destroy(l);
	return rc;
}

int rb_log_open(struct rb_log **out, struct lb_fs *fs, const char *path, rb_log_fn fn, void *arg,
		struct lb_err *err)
{
	return log_open(out, fs, path, true, fn, arg, err);
}

int rb_log_load(struct rb_log **out, struct lb_fs *fs, const char *path, rb_log_fn fn, void *arg,
		struct lb_err *err)
{
	return log_open(out, fs, path, false, fn, arg, err);
}

static int grow_batch(struct rb_log *l, size_t need, struct lb_err *err)
{
	size_t cap = l->batch_cap != 0 ? l->batch_cap : 4096;
	uint8_t *p;

	while (cap < need)
		cap *= 2;
	if (cap == l->batch_cap)
		return 0;
	p = realloc(l->batch, cap);
	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "run log %s: batch of %zu bytes", l->path,
				  cap);
	l->batch = p;
	l->batch_cap = cap;
	return 0;
}

int rb_log_add(struct rb_log *l, const struct rb_record *r, const struct rb_log_begin *begin,
	       struct lb_err *err)
{
	size_t most = RB_LOG_HEADER_BYTES + (begin != NULL ? RB_LOG_PAYLOAD_MAX : 2048);
	uint8_t *at;
	struct lb_wr wr;
	int rc;

	if (l->end.valid_bytes + l->batch_bytes + most > RB_LOG_MAX_BYTES)
		return lb_err_set(err, LB_ENOSPC, 0, "run log %s: full at %u bytes", l->path,
				  RB_LOG_MAX_BYTES);
	rc = grow_batch(l, l->batch_bytes + most, err);
	if (rc != 0)
		return rc;
	at = l->batch + l->batch_bytes;
	wr = lb_wr_init(at + RB_LOG_HEADER_BYTES, most - RB_LOG_HEADER_BYTES);
	rb_log_put_payload(&wr, r, begin);
	LB_ASSERT(lb_wr_done(&wr)); /* every string and list was bounded on its way in */
	LB_ASSERT(r->seq == l->ahead.seq + 1);
	rb_log_put_header(at, &(struct rb_log_header){
				      .version = RB_LOG_VERSION,
				      .type = (uint16_t)r->type,
				      .payload_bytes = (uint32_t)wr.len,
				      .generation = r->generation,
				      .seq = r->seq,
				      .batch_first = l->end.seq + 1,
				      .t_ns = r->t_ns,
				      .wall_ns = r->wall_ns,
				      .prev = l->ahead.head,
				      .payload_crc = lb_crc32c(0, wr.p, wr.len),
			      });
	lb_sha256(&l->ahead.head, at, RB_LOG_HEADER_BYTES + wr.len);
	l->batch_bytes += RB_LOG_HEADER_BYTES + wr.len;
	l->ahead.seq = r->seq;
	l->ahead.t_ns = r->t_ns;
	l->ahead.wall_ns = r->wall_ns;
	return 0;
}

bool rb_log_has_batch(const struct rb_log *l)
{
	return l->batch_bytes != 0;
}

int rb_log_commit(struct rb_log *l, struct lb_err *err)
{
	int rc = lb_file_pwrite(l->f, l->batch, l->batch_bytes, l->end.valid_bytes, err);

	if (rc == 0)
		rc = lb_file_sync(l->f, err);
	if (rc != 0)
		return rc;
	l->ahead.valid_bytes = l->end.valid_bytes + l->batch_bytes;
	l->end = l->ahead;
	l->batch_bytes = 0;
	return 0;
}

void rb_log_end(const struct rb_log *l, struct rb_log_end *out)
{
	*out = l->end;
}

int rb_log_each(const struct rb_log *l, rb_log_fn fn, void *arg, struct lb_err *err)
{
	struct rb_log_end end;
	uint8_t *p = NULL;
	int rc = read_file(l, l->end.valid_bytes, &p, err);

	if (rc == 0)
		rc = rb_log_scan(p, (size_t)l->end.valid_bytes, fn, arg, &end, err);
	free(p);
	return rc;
}
