#include "pipe_kill.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/fs.h"
#include "imaging/dev.h"

static uint64_t ops, kill_op; /* atomic */
static int (*sync_instead)(struct lb_file *f, struct lb_err *err);

static void count(void)
{
	if (__atomic_add_fetch(&ops, 1, __ATOMIC_RELAXED) == kill_op)
		(void)kill(getpid(), SIGKILL);
}

uint64_t pipe_kill_ops(void)
{
	return __atomic_load_n(&ops, __ATOMIC_RELAXED);
}

/* ---- files ---- */

struct kfile {
	struct lb_file f;
	struct lb_file *lower;
};
struct kfs {
	struct lb_fs fs;
	struct lb_fs *lower;
};

static struct lb_file *file_of(struct lb_file *f)
{
	return ((struct kfile *)(void *)f)->lower;
}

static struct lb_fs *fs_of(struct lb_fs *fs)
{
	return ((struct kfs *)(void *)fs)->lower;
}

static int k_pread(struct lb_file *f, void *p, size_t len, uint64_t off, size_t *got,
		   struct lb_err *err)
{
	return lb_file_pread(file_of(f), p, len, off, got, err);
}

static int k_pwritev(struct lb_file *f, const struct iovec *iov, int n, uint64_t off,
		     struct lb_err *err)
{
	count();
	return lb_file_pwritev(file_of(f), iov, n, off, err);
}

static int k_sync(struct lb_file *f, struct lb_err *err)
{
	count();
	return sync_instead != NULL ? sync_instead(f, err) : lb_file_sync(file_of(f), err);
}

static int k_truncate(struct lb_file *f, uint64_t len, struct lb_err *err)
{
	count();
	return lb_file_truncate(file_of(f), len, err);
}

static int k_size(struct lb_file *f, uint64_t *out, struct lb_err *err)
{
	return lb_file_size(file_of(f), out, err);
}

static int k_lock(struct lb_file *f, struct lb_err *err)
{
	return lb_file_lock(file_of(f), err);
}

static void k_close(struct lb_file *f)
{
	lb_file_close(file_of(f));
	free(f);
}

static const struct lb_file_ops file_ops = {.pread = k_pread,
					    .pwritev = k_pwritev,
					    .sync = k_sync,
					    .truncate = k_truncate,
					    .size = k_size,
					    .lock = k_lock,
					    .close = k_close};

static int k_open(struct lb_fs *fs, struct lb_file **out, const char *path, unsigned flags,
		  struct lb_err *err)
{
	struct lb_file *lower = NULL;
	struct kfile *k;
	int rc;

	count();
	rc = lb_fs_open(fs_of(fs), &lower, path, flags, err);
	if (rc != 0)
		return rc;
	k = calloc(1, sizeof(*k));
	LB_ASSERT(k != NULL);
	k->f.ops = &file_ops;
	k->lower = lower;
	*out = &k->f;
	return 0;
}

static int k_mkdir(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	count();
	return lb_fs_mkdir(fs_of(fs), path, err);
}

static int k_rename(struct lb_fs *fs, const char *from, const char *to, struct lb_err *err)
{
	count();
	return lb_fs_rename(fs_of(fs), from, to, err);
}

static int k_unlink(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	count();
	return lb_fs_unlink(fs_of(fs), path, err);
}

static int k_sync_dir(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	count();
	return sync_instead != NULL ? 0 : lb_fs_sync_dir(fs_of(fs), path, err);
}

static int k_list(struct lb_fs *fs, const char *path, lb_fs_list_fn fn, void *arg,
		  struct lb_err *err)
{
	return lb_fs_list(fs_of(fs), path, fn, arg, err);
}

static int k_space(struct lb_fs *fs, uint64_t *free_bytes, struct lb_err *err)
{
	return lb_fs_space(fs_of(fs), free_bytes, err);
}

static void k_destroy(struct lb_fs *fs)
{
	lb_fs_destroy(fs_of(fs));
	free(fs);
}

static const struct lb_fs_ops fs_ops = {.open = k_open,
					.mkdir = k_mkdir,
					.rename = k_rename,
					.unlink = k_unlink,
					.sync_dir = k_sync_dir,
					.list = k_list,
					.space = k_space,
					.destroy = k_destroy};

struct lb_fs *pipe_kill_fs(struct lb_fs *fs, uint64_t kill_at,
			   int (*sync)(struct lb_file *f, struct lb_err *err))
{
	struct kfs *k = calloc(1, sizeof(*k));

	LB_ASSERT(k != NULL);
	k->fs.ops = &fs_ops;
	k->lower = fs;
	kill_op = kill_at;
	sync_instead = sync;
	return &k->fs;
}

/* ---- the device ---- */

struct kdev {
	struct img_dev dev;
	struct img_dev *lower;
};

static int d_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	count();
	return img_pread(((struct kdev *)(void *)d)->lower, buf, len, off, err);
}

static int d_next_extent(struct img_dev *d, struct img_extent *out, uint64_t off,
			 struct lb_err *err)
{
	return img_next_extent(((struct kdev *)(void *)d)->lower, out, off, err);
}

static void d_destroy(struct img_dev *d)
{
	free(d);
}

static const struct img_dev_ops dev_ops = {
	.name = "kill", .pread = d_pread, .next_extent = d_next_extent, .destroy = d_destroy};

struct img_dev *pipe_kill_dev(struct img_dev *dev)
{
	struct kdev *k = calloc(1, sizeof(*k));

	LB_ASSERT(k != NULL);
	k->dev.ops = &dev_ops;
	k->dev.size_bytes = dev->size_bytes;
	k->lower = dev;
	return &k->dev;
}
