/*
 * base/fs.h - the disk as a core sees it: a tree of files under one root, with explicit durability.
 *
 * Model (what a power cut keeps): bytes written and then covered by lb_file_sync(); a created,
 * renamed or removed name once lb_fs_sync_dir() of its directory returned. Everything else may be
 * lost, and the last unsynced writes may be torn at 512 bytes. Two implementations:
 * lb_fs_dir_create() (a real directory; paths are resolved beneath it, symlinks refused) and
 * tests/lib/memfs.h (RAM; power cuts and k-th failures on demand).
 *
 * Thread: a struct lb_file may be used by several threads; the caller orders writes and syncs.
 * Errors: LB_EIO, LB_ENOSPC, LB_ENOTFOUND, LB_EEXIST, LB_EDENIED; each message names the path.
 */
#ifndef BASE_FS_H
#define BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct lb_err;
struct lb_fs;
struct lb_file;

enum lb_fs_open_flags {
	LB_FS_READ = 0,
	LB_FS_WRITE = 1,  /* read and write */
	LB_FS_CREATE = 2, /* make it when missing (mode 0600); implies LB_FS_WRITE */
	LB_FS_EXCL = 4,   /* with CREATE: LB_EEXIST when it is there */
};

/* Called once per entry, "." and ".." left out; non-zero stops the listing and is returned. */
typedef int (*lb_fs_list_fn)(void *arg, const char *name);

struct lb_fs_ops {
	int (*open)(struct lb_fs *fs, struct lb_file **out, const char *path, unsigned flags,
		    struct lb_err *err);
	int (*mkdir)(struct lb_fs *fs, const char *path,
		     struct lb_err *err); /* ok when it exists */
	int (*rename)(struct lb_fs *fs, const char *from, const char *to, struct lb_err *err);
	int (*unlink)(struct lb_fs *fs, const char *path, struct lb_err *err);
	int (*sync_dir)(struct lb_fs *fs, const char *path, struct lb_err *err);
	int (*list)(struct lb_fs *fs, const char *path, lb_fs_list_fn fn, void *arg,
		    struct lb_err *err);
	int (*space)(struct lb_fs *fs, uint64_t *free_bytes, struct lb_err *err);
	void (*destroy)(struct lb_fs *fs);
};

struct lb_file_ops {
	/* Reads up to @len at @off; *got is short only at the end of the file. */
	int (*pread)(struct lb_file *f, void *p, size_t len, uint64_t off, size_t *got,
		     struct lb_err *err);
	/* All of it or an error (then any part may have been written). */
	int (*pwritev)(struct lb_file *f, const struct iovec *iov, int n, uint64_t off,
		       struct lb_err *err);
	int (*sync)(struct lb_file *f, struct lb_err *err); /* fdatasync */
	int (*truncate)(struct lb_file *f, uint64_t len, struct lb_err *err);
	int (*size)(struct lb_file *f, uint64_t *out, struct lb_err *err);
	int (*lock)(struct lb_file *f,
		    struct lb_err *err); /* exclusive, held until close; LB_EBUSY */
	void (*close)(struct lb_file *f);
};

struct lb_fs {
	const struct lb_fs_ops *ops;
};

struct lb_file {
	const struct lb_file_ops *ops;
};

/*
 * Paths are relative, '/'-separated; "" or "." names the root itself (sync_dir, list). What leads
 * outside the root, passes a symlink, or is no regular file (open) is LB_EDENIED.
 */

/* A real directory (created, mode 0700, when missing). *@out is the caller's: lb_fs_destroy(). */
int lb_fs_dir_create(struct lb_fs **out, const char *dir, struct lb_err *err);

int lb_fs_open(struct lb_fs *fs, struct lb_file **out, const char *path, unsigned flags,
	       struct lb_err *err);
int lb_fs_mkdir(struct lb_fs *fs, const char *path, struct lb_err *err);
int lb_fs_rename(struct lb_fs *fs, const char *from, const char *to, struct lb_err *err);
/* A file, or a directory that is empty. */
int lb_fs_unlink(struct lb_fs *fs, const char *path, struct lb_err *err);
int lb_fs_sync_dir(struct lb_fs *fs, const char *path, struct lb_err *err);
int lb_fs_list(struct lb_fs *fs, const char *path, lb_fs_list_fn fn, void *arg, struct lb_err *err);
/* Bytes that can still be written beneath the root by this process: what the file system calls
 * available, so without the part it keeps for root. UINT64_MAX: no limit is known. */
int lb_fs_space(struct lb_fs *fs, uint64_t *free_bytes, struct lb_err *err);
void lb_fs_destroy(struct lb_fs *fs); /* NULL is allowed */

int lb_file_pread(struct lb_file *f, void *p, size_t len, uint64_t off, size_t *got,
		  struct lb_err *err);
/* As pread, but fewer than @len bytes is LB_ECORRUPT ("truncated"). */
int lb_file_pread_full(struct lb_file *f, void *p, size_t len, uint64_t off, struct lb_err *err);
int lb_file_pwrite(struct lb_file *f, const void *p, size_t len, uint64_t off, struct lb_err *err);
int lb_file_pwritev(struct lb_file *f, const struct iovec *iov, int n, uint64_t off,
		    struct lb_err *err);
int lb_file_sync(struct lb_file *f, struct lb_err *err);
int lb_file_truncate(struct lb_file *f, uint64_t len, struct lb_err *err);
int lb_file_size(struct lb_file *f, uint64_t *out, struct lb_err *err);
int lb_file_lock(struct lb_file *f, struct lb_err *err);
void lb_file_close(struct lb_file *f); /* NULL is allowed */

/* Replace @path as a whole: write "@path.tmp", sync, rename, sync the directory. After success the
 * new bytes survive a power cut; after a failure there are the old or the new ones, whole. */
int lb_fs_replace(struct lb_fs *fs, const char *path, const void *p, size_t len,
		  struct lb_err *err);
/* Read a whole file of at most @max bytes; *out is the caller's (free) and ends with a NUL that
 * *len does not count. LB_EINPUT when larger. */
int lb_fs_read_all(struct lb_fs *fs, const char *path, size_t max, uint8_t **out, size_t *len,
		   struct lb_err *err);

/* Give the synced file @part its name @path: never in place of something that is there by now, and
 * so that a power cut keeps the name too. Both are paths of the process, in one directory.
 * Errors: LB_EEXIST. */
int lb_fs_publish(const char *part, const char *path, struct lb_err *err);

#endif
