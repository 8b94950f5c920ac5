#include "base/fs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

int lb_fs_open(struct lb_fs *fs, struct lb_file **out, const char *path, unsigned flags,
	       struct lb_err *err)
{
	return fs->ops->open(fs, out, path, flags, err);
}

int lb_fs_mkdir(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	return fs->ops->mkdir(fs, path, err);
}

int lb_fs_rename(struct lb_fs *fs, const char *from, const char *to, struct lb_err *err)
{
	return fs->ops->rename(fs, from, to, err);
}

int lb_fs_unlink(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	return fs->ops->unlink(fs, path, err);
}

int lb_fs_sync_dir(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	return fs->ops->sync_dir(fs, path, err);
}

int lb_fs_list(struct lb_fs *fs, const char *path, lb_fs_list_fn fn, void *arg, struct lb_err *err)
{
	return fs->ops->list(fs, path, fn, arg, err);
}

int lb_fs_space(struct lb_fs *fs, uint64_t *free_bytes, struct lb_err *err)
{
	return fs->ops->space(fs, free_bytes, err);
}

void lb_fs_destroy(struct lb_fs *fs)
{
	if (fs != NULL)
		fs->ops->destroy(fs);
}

int lb_file_pread(struct lb_file *f, void *p, size_t len, uint64_t off, size_t *got,
		  struct lb_err *err)
{
	return f->ops->pread(f, p, len, off, got, err);
}

int lb_file_pread_full(struct lb_file *f, void *p, size_t len, uint64_t off, struct lb_err *err)
{
	size_t got = 0;
	int rc = f->ops->pread(f, p, len, off, &got, err);

	if (rc != 0)
		return rc;
	if (got < len)
		return lb_err_set(err, LB_ECORRUPT, 0,
				  "read %zu bytes at %llu: truncated after %zu", len,
				  (unsigned long long)off, got);
	return 0;
}

int lb_file_pwrite(struct lb_file *f, const void *p, size_t len, uint64_t off, struct lb_err *err)
{
	/* iovec serves reads too, hence its pointer without const; pwritev only reads from it. */
	struct iovec iov = {.iov_base = (void *)p, .iov_len = len};

	return f->ops->pwritev(f, &iov, 1, off, err);
}

int lb_file_pwritev(struct lb_file *f, const struct iovec *iov, int n, uint64_t off,
		    struct lb_err *err)
{
	return f->ops->pwritev(f, iov, n, off, err);
}

int lb_file_sync(struct lb_file *f, struct lb_err *err)
{
	return f->ops->sync(f, err);
}

int lb_file_truncate(struct lb_file *f, uint64_t len, struct lb_err *err)
{
	return f->ops->truncate(f, len, err);
}

int lb_file_size(struct lb_file *f, uint64_t *out, struct lb_err *err)
{
	return f->ops->size(f, out, err);
}

int lb_file_lock(struct lb_file *f, struct lb_err *err)
{
	return f->ops->lock(f, err);
}

void lb_file_close(struct lb_file *f)
{
	if (f != NULL)
		f->ops->close(f);
}

static int write_tmp(struct lb_fs *fs, const char *tmp, const void *p, size_t len,
		     struct lb_err *err)
{
	struct lb_file *f = NULL;
	int rc = lb_fs_open(fs, &f, tmp, LB_FS_CREATE, err);

	/* What an interrupted call left behind may be longer. */
	if (rc == 0)
		rc = lb_file_truncate(f, 0, err);
	if (rc == 0)
		rc = lb_file_pwrite(f, p, len, 0, err);
	if (rc == 0)
		rc = lb_file_sync(f, err);
	lb_file_close(f);
	return rc;
}

int lb_fs_replace(struct lb_fs *fs, const char *path, const void *p, size_t len, struct lb_err *err)
{
	const char *slash = strrchr(path, '/');
	char *tmp = NULL;
	char *dir = NULL;
	int rc;

	dir = slash != NULL ? strndup(path, (size_t)(slash - path)) : strdup(".");
	if (dir == NULL || asprintf(&tmp, "%s.tmp", path) < 0) {
		tmp = NULL;
		rc = lb_err_set(err, LB_ENOMEM, 0, "replace %s", path);
		goto out;
	}
	rc = write_tmp(fs, tmp, p, len, err);
	if (rc == 0)
		rc = lb_fs_rename(fs, tmp, path, err);
	if (rc != 0) {
		(void)lb_fs_unlink(fs, tmp, NULL);
		goto out;
	}
	rc = lb_fs_sync_dir(fs, dir, err);
out:
	free(tmp);
	free(dir);
	return rc;
}

int lb_fs_read_all(struct lb_fs *fs, const char *path, size_t max, uint8_t **out, size_t *len,
		   struct lb_err *err)
{
	struct lb_file *f = NULL;
	uint8_t *p = NULL;
	uint64_t size = 0;
	int rc = lb_fs_open(fs, &f, path, LB_FS_READ, err);

	if (rc == 0)
		rc = lb_file_size(f, &size, err);
	if (rc != 0)
		goto out;
	if (size > max) {
		rc = lb_err_set(err, LB_EINPUT, 0, "read %s: %llu bytes, at most %zu", path,
				(unsigned long long)size, max);
		goto out;
	}
	p = malloc((size_t)size + 1); /* + 1: an empty file is not NULL, and text gets its NUL */
	if (p == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "read %s of %llu bytes", path,
				(unsigned long long)size);
		goto out;
	}
	rc = lb_file_pread_full(f, p, (size_t)size, 0, err);
	if (rc != 0) {
		rc = lb_err_wrap(err, rc, "read %s", path);
		goto out;
	}
	p[size] = 0;
	*out = p;
	*len = (size_t)size;
	p = NULL;
out:
	free(p);
	lb_file_close(f);
	return rc;
}
