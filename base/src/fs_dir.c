#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fs.h"

enum {
	IOV_BATCH = 64
};

struct dir_fs {
	struct lb_fs fs;
	int root; /* O_PATH-like descriptor every look-up starts from */
};

struct dir_file {
	struct lb_file file;
	int fd;
	char *path; /* for messages */
};

/* EXDEV and ELOOP are how the kernel says "outside the root" and "a symlink". */
static int refuse(struct lb_err *err, int sys_errno, const char *what, const char *path)
{
	if (sys_errno == EXDEV || sys_errno == ELOOP)
		return lb_err_set(err, LB_EDENIED, sys_errno, "%s %s beneath its root", what, path);
	return lb_err_errno(err, sys_errno, "%s %s", what, path);
}

/* Returns a descriptor or -errno. The kernel refuses what leads outside, and symlinks (also the
 * last component: O_NOFOLLOW is not needed, and with O_DIRECTORY it would hide ELOOP as ENOTDIR).
 */
static int open_beneath(int root, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = (flags & O_CREAT) != 0 ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	/* EAGAIN: a concurrent rename somewhere on the way; the kernel asks to try again. */
	do
		fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return fd < 0 ? -errno : (int)fd;
}

static int open_dir(int root, const char *path)
{
	return open_beneath(root, path[0] != 0 ? path : ".", O_RDONLY | O_DIRECTORY, 0);
}

/* Open the directory that holds @path and point *@leaf at the last component. -errno on failure. */
static int open_parent(int root, const char *path, const char **leaf)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX];
	size_t len = slash != NULL ? (size_t)(slash - path) : 0;

	*leaf = slash != NULL ? slash + 1 : path;
	if ((*leaf)[0] == 0 || strcmp(*leaf, ".") == 0 || strcmp(*leaf, "..") == 0)
		return -EINVAL;
	if (slash == path)
		return -EXDEV; /* absolute */
	if (len >= sizeof(dir))
		return -ENAMETOOLONG;
	memcpy(dir, path, len);
	dir[len] = 0;
	return open_dir(root, dir);
}

/* ---- files ---- */

static struct dir_file *as_file(struct lb_file *f)
{
	return (struct dir_file *)f;
}

static int file_pread(struct lb_file *f, void *p, size_t len, uint64_t off, size_t *got,
		      struct lb_err *err)
{
	struct dir_file *d = as_file(f);
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(d->fd, (char *)p + done, len - done, (off_t)off + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return lb_err_errno(err, errno, "read %s at %llu", d->path,
					    (unsigned long long)off + done);
		if (n == 0)
			break;
		done += (size_t)n;
	}
	*got = done;
	return 0;
}

/* Drop @done written bytes from the front of @iov; returns the first entry with bytes left. */
static int iov_advance(struct iovec *iov, int first, int n, size_t done)
{
	while (first < n && done >= iov[first].iov_len) {
		done -= iov[first].iov_len;
		first++;
	}
	if (first < n) {
		iov[first].iov_base = (char *)iov[first].iov_base + done;
		iov[first].iov_len -= done;
	}
	return first;
}

static int write_batch(struct dir_file *d, struct iovec *iov, int n, uint64_t *off,
		       struct lb_err *err)
{
	int first = iov_advance(iov, 0, n, 0);

	while (first < n) {
		ssize_t done = pwritev(d->fd, iov + first, n - first, (off_t)*off);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return lb_err_errno(err, done < 0 ? errno : EIO, "write %s at %llu",
					    d->path, (unsigned long long)*off);
		*off += (uint64_t)done;
		first = iov_advance(iov, first, n, (size_t)done);
	}
	return 0;
}

static int file_pwritev(struct lb_file *f, const struct iovec *iov, int n, uint64_t off,
			struct lb_err *err)
{
	struct iovec batch[IOV_BATCH]; /* a copy, because short writes move it forward */
	int rc = 0;

	for (int i = 0; i < n && rc == 0; i += IOV_BATCH) {
		int take = n - i < IOV_BATCH ? n - i : IOV_BATCH;

		memcpy(batch, iov + i, (size_t)take * sizeof(*iov));
		rc = write_batch(as_file(f), batch, take, &off, err);
	}
	return rc;
}

static int file_sync(struct lb_file *f, struct lb_err *err)
{
	struct dir_file *d = as_file(f);

	if (fdatasync(d->fd) != 0)
		return lb_err_errno(err, errno, "sync %s", d->path);
	return 0;
}

static int file_truncate(struct lb_file *f, uint64_t len, struct lb_err *err)
{
	struct dir_file *d = as_file(f);

	if (ftruncate(d->fd, (off_t)len) != 0)
		return lb_err_errno(err, errno, "truncate %s to %llu", d->path,
				    (unsigned long long)len);
	return 0;
}

static int file_size(struct lb_file *f, uint64_t *out, struct lb_err *err)
{
	struct dir_file *d = as_file(f);
	struct stat st;

	if (fstat(d->fd, &st) != 0)
		return lb_err_errno(err, errno, "stat %s", d->path);
	*out = (uint64_t)st.st_size;
	return 0;
}

/* An open-file-description lock: unlike POSIX ones it survives another close() of the same file in
 * this process, and two opens inside one process exclude each other. */
static int file_lock(struct lb_file *f, struct lb_err *err)
{
	struct dir_file *d = as_file(f);
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (fcntl(d->fd, F_OFD_SETLK, &fl) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return lb_err_set(err, LB_EBUSY, 0, "lock %s: held by another process or open",
				  d->path);
	return lb_err_errno(err, errno, "lock %s", d->path);
}

static void file_close(struct lb_file *f)
{
	struct dir_file *d = as_file(f);

	(void)close(d->fd);
	free(d->path);
	free(d);
}

static const struct lb_file_ops file_ops = {
	.pread = file_pread,
	.pwritev = file_pwritev,
	.sync = file_sync,
	.truncate = file_truncate,
	.size = file_size,
	.lock = file_lock,
	.close = file_close,
};

/* ---- names ---- */

static struct dir_fs *as_dir(struct lb_fs *fs)
{
	return (struct dir_fs *)fs;
}

/* O_NONBLOCK: a FIFO planted under our root must not hang the open (regular files ignore it). */
static int open_flags(unsigned flags)
{
	int f = O_NONBLOCK | ((flags & (LB_FS_WRITE | LB_FS_CREATE)) != 0 ? O_RDWR : O_RDONLY);

	if ((flags & LB_FS_CREATE) != 0)
		f |= O_CREAT;
	if ((flags & LB_FS_EXCL) != 0)
		f |= O_EXCL;
	return f;
}

static int check_regular(int fd, const char *path, struct lb_err *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return lb_err_errno(err, errno, "stat %s", path);
	if (!S_ISREG(st.st_mode))
		return lb_err_set(err, LB_EDENIED, 0, "open %s: not a regular file", path);
	return 0;
}

static int dir_open(struct lb_fs *fs, struct lb_file **out, const char *path, unsigned flags,
		    struct lb_err *err)
{
	int fd = open_beneath(as_dir(fs)->root, path, open_flags(flags), 0600);
	struct dir_file *d = NULL;
	int rc;

	if (fd < 0)
		return refuse(err, -fd, "open", path);
	rc = check_regular(fd, path, err);
	if (rc != 0)
		goto out;
	d = calloc(1, sizeof(*d));
	if (d != NULL)
		d->path = strdup(path);
	if (d == NULL || d->path == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "open %s", path);
		goto out;
	}
	d->file.ops = &file_ops;
	d->fd = fd;
	fd = -1;
	*out = &d->file;
	d = NULL;
out:
	free(d);
	if (fd >= 0)
		(void)close(fd);
	return rc;
}

/* 0 when @leaf in @dirfd is a directory, else EEXIST: what mkdir said. */
static int is_dir(int dirfd, const char *leaf)
{
	struct stat st;

	if (fstatat(dirfd, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
		return 0;
	return EEXIST;
}

static int dir_mkdir(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	const char *leaf;
	int parent = open_parent(as_dir(fs)->root, path, &leaf);
	int e = 0;

	if (parent < 0)
		return refuse(err, -parent, "make directory", path);
	if (mkdirat(parent, leaf, 0700) != 0)
		e = errno == EEXIST ? is_dir(parent, leaf) : errno;
	(void)close(parent);
	return e != 0 ? refuse(err, e, "make directory", path) : 0;
}

static int dir_rename(struct lb_fs *fs, const char *from, const char *to, struct lb_err *err)
{
	const char *from_leaf;
	const char *to_leaf;
	int from_dir = open_parent(as_dir(fs)->root, from, &from_leaf);
	int to_dir = open_parent(as_dir(fs)->root, to, &to_leaf);
	int rc = 0;

	if (from_dir < 0)
		rc = refuse(err, -from_dir, "rename", from);
	else if (to_dir < 0)
		rc = refuse(err, -to_dir, "rename to", to);
	else if (renameat(from_dir, from_leaf, to_dir, to_leaf) != 0)
		rc = lb_err_errno(err, errno, "rename %s to %s", from, to);
	if (from_dir >= 0)
		(void)close(from_dir);
	if (to_dir >= 0)
		(void)close(to_dir);
	return rc;
}

static int dir_unlink(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	const char *leaf;
	int parent = open_parent(as_dir(fs)->root, path, &leaf);
	int e = 0;

	if (parent < 0)
		return refuse(err, -parent, "remove", path);
	if (unlinkat(parent, leaf, 0) != 0)
		e = errno;
	if (e == EISDIR)
		e = unlinkat(parent, leaf, AT_REMOVEDIR) != 0 ? errno : 0;
	(void)close(parent);
	return e != 0 ? refuse(err, e, "remove", path) : 0;
}

static int dir_sync_dir(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	int fd = open_dir(as_dir(fs)->root, path);
	int e;

	if (fd < 0)
		return refuse(err, -fd, "sync directory", path);
	e = fsync(fd) != 0 ? errno : 0;
	(void)close(fd);
	return e != 0 ? lb_err_errno(err, e, "sync directory %s", path) : 0;
}

static int list_entries(DIR *dir, const char *path, lb_fs_list_fn fn, void *arg, struct lb_err *err)
{
	int rc = 0;

	while (rc == 0) {
		const struct dirent *e;

		errno = 0;
		e = readdir(dir);
		if (e == NULL)
			return errno != 0 ? lb_err_errno(err, errno, "list %s", path) : 0;
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			rc = fn(arg, e->d_name);
	}
	return rc;
}

static int dir_list(struct lb_fs *fs, const char *path, lb_fs_list_fn fn, void *arg,
		    struct lb_err *err)
{
	int fd = open_dir(as_dir(fs)->root, path);
	DIR *dir;
	int rc;

	if (fd < 0)
		return refuse(err, -fd, "list", path);
	dir = fdopendir(fd); /* takes fd */
	if (dir == NULL) {
		rc = lb_err_errno(err, errno, "list %s", path);
		(void)close(fd);
		return rc;
	}
	rc = list_entries(dir, path, fn, arg, err);
	(void)closedir(dir);
	return rc;
}

static int dir_space(struct lb_fs *fs, uint64_t *free_bytes, struct lb_err *err)
{
	struct statvfs v;

	while (fstatvfs(as_dir(fs)->root, &v) != 0)
		if (errno != EINTR)
			return lb_err_errno(err, errno, "ask for the free space");
	*free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	return 0;
}

static void dir_destroy(struct lb_fs *fs)
{
	(void)close(as_dir(fs)->root);
	free(fs);
}

static const struct lb_fs_ops dir_ops = {
	.open = dir_open,
	.mkdir = dir_mkdir,
	.rename = dir_rename,
	.unlink = dir_unlink,
	.sync_dir = dir_sync_dir,
	.list = dir_list,
	.space = dir_space,
	.destroy = dir_destroy,
};

/* Make @dir's own name durable: a store whose root vanishes at the first power cut is no store. */
static int sync_parent_of(int root)
{
	int fd = openat(root, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int e = 0;

	if (fd < 0)
		return errno == EACCES ? 0 : errno;
	if (fsync(fd) != 0)
		e = errno;
	(void)close(fd);
	return e;
}

int lb_fs_dir_create(struct lb_fs **out, const char *dir, struct lb_err *err)
{
	bool made = mkdir(dir, 0700) == 0;
	struct dir_fs *d = NULL;
	int root;
	int e = 0;

	if (!made && errno != EEXIST)
		return lb_err_errno(err, errno, "make directory %s", dir);
	root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return lb_err_errno(err, errno, "open directory %s", dir);
	if (made)
		e = sync_parent_of(root);
	if (e == 0)
		d = calloc(1, sizeof(*d));
	if (d == NULL) {
		(void)close(root);
		return lb_err_errno(err, e != 0 ? e : ENOMEM, "open directory %s", dir);
	}
	d->fs.ops = &dir_ops;
	d->root = root;
	*out = &d->fs;
	return 0;
}

/* Some file systems (NFS) know no flags. There a look just before is all there is. */
static int rename_new(const char *part, const char *path)
{
	if (renameat2(AT_FDCWD, part, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return errno;
	if (access(path, F_OK) == 0)
		return EEXIST;
	return rename(part, path) == 0 ? 0 : errno;
}

int lb_fs_publish(const char *part, const char *path, struct lb_err *err)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX] = ".";
	int fd, e = rename_new(part, path);

	if (e != 0)
		return lb_err_errno(err, e, "rename %s to %s", part, path);
	if (slash != NULL) /* "/x" lies in "/" */
		(void)snprintf(dir, sizeof(dir), "%.*s", slash == path ? 1 : (int)(slash - path),
			       path);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	e = fd < 0 || fsync(fd) != 0 ? errno : 0;
	if (fd >= 0)
		(void)close(fd);
	return e != 0 ? lb_err_errno(err, e, "sync directory %s", dir) : 0;
}
