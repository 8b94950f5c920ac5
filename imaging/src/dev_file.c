#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "dev_int.h"
#include "imaging/dev.h"

#define DIRECT_ALIGN 4096u /* of buffers, and of places in regular files: covers all in use */
#define IO_MAX_BYTES \
	(UINT64_C(1024) * 1024 * 1024) /* below what one pread(2) may return on Linux */
#define CREATE_MODE 0600

struct file_dev {
	struct img_dev dev;
	char *path;
	int fd;
	int direct_fd;         /* O_DIRECT, for what is aligned; -1 without */
	uint32_t direct_align; /* of offset and length; a device: its logical block */
	bool is_block;
	dev_t st_dev; /* regular: where and which file it was at open */
	ino_t st_ino;
	dev_t st_rdev; /* block device: which one */
	atomic_bool sync_failed;
};

static const struct img_dev_ops file_ops;
static const struct img_dev_ops file_ro_ops;

static struct file_dev *file_of(struct img_dev *d)
{
	LB_ASSERT(d->ops == &file_ops || d->ops == &file_ro_ops);
	return (struct file_dev *)d;
}

/* An alignment O_DIRECT takes goes there; the page cache serves odd heads and tails coherently. */
static int fd_for(const struct file_dev *f, const void *buf, uint64_t len, uint64_t off)
{
	bool aligned = (uintptr_t)buf % DIRECT_ALIGN == 0 && (len | off) % f->direct_align == 0;

	return f->direct_fd >= 0 && aligned ? f->direct_fd : f->fd;
}

/* A block device that was unplugged answers with one of these. */
static bool is_gone(int sys_errno)
{
	return sys_errno == ENODEV || sys_errno == ENXIO || sys_errno == ENOMEDIUM;
}

static int io_err(const struct file_dev *f, int sys_errno, const char *op, uint64_t off,
		  struct lb_err *err)
{
	if (is_gone(sys_errno))
		return lb_err_set(err, LB_ECHANGED, sys_errno, "%s %s at %" PRIu64, op, f->path,
				  off);
	return lb_err_errno(err, sys_errno, "%s %s at %" PRIu64, op, f->path, off);
}

static int file_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	struct file_dev *f = file_of(d);
	uint8_t *to = buf;

	while (len > 0) {
		uint64_t want = img_min(len, IO_MAX_BYTES);
		ssize_t n = pread(fd_for(f, to, want, off), to, want, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return io_err(f, errno, "read", off, err);
		if (n == 0)
			return lb_err_set(err, LB_ECHANGED, 0,
					  "read %s at %" PRIu64 ": it ends before its %" PRIu64
					  " bytes at open",
					  f->path, off, d->size_bytes);
		to += n;
		len -= (uint64_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

static int file_pwrite(struct img_dev *d, const void *buf, uint64_t len, uint64_t off,
		       struct lb_err *err)
{
	struct file_dev *f = file_of(d);
	const uint8_t *from = buf;

	while (len > 0) {
		uint64_t want = img_min(len, IO_MAX_BYTES);
		ssize_t n = pwrite(fd_for(f, from, want, off), from, want, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return io_err(f, errno, "write", off, err);
		if (n == 0)
			return lb_err_set(err, LB_EIO, 0,
					  "write %s at %" PRIu64 ": nothing written", f->path, off);
		from += n;
		len -= (uint64_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

static int file_zero(struct img_dev *d, uint64_t len, uint64_t off, struct lb_err *err)
{
	struct file_dev *f = file_of(d);
	int rc;

	do {
		rc = fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
			       (off_t)len);
	} while (rc != 0 && errno == EINTR);
	if (rc == 0)
		return 0;
	/* EINVAL: a block device's sector alignment. The others: it cannot at all. */
	if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)
		return img_write_zeros(d, len, off, err);
	return io_err(f, errno, "punch hole in", off, err);
}

/* The kernel reports a lost write once and then forgets it: a later success would be a lie. */
static int file_flush(struct img_dev *d, struct lb_err *err)
{
	struct file_dev *f = file_of(d);

	if (atomic_load(&f->sync_failed))
		return lb_err_set(err, LB_ESUSPECT, 0, "sync %s: an earlier one failed", f->path);
	if (fdatasync(f->fd) == 0)
		return 0;
	atomic_store(&f->sync_failed, true);
	return lb_err_errno(err, errno, "sync %s", f->path);
}

/* How long the thing behind @fd is now. */
static int size_of(int fd, bool is_block, uint64_t *out)
{
	struct stat st;

	if (is_block)
		return ioctl(fd, BLKGETSIZE64, out);
	if (fstat(fd, &st) != 0)
		return -1;
	*out = (uint64_t)st.st_size;
	return 0;
}

static int check_length(const struct file_dev *f, struct lb_err *err)
{
	uint64_t now_bytes = 0;

	if (size_of(f->fd, f->is_block, &now_bytes) != 0)
		return lb_err_set(err, LB_ECHANGED, errno, "size of %s", f->path);
	if (now_bytes < f->dev.size_bytes)
		return lb_err_set(err, LB_ECHANGED, 0,
				  "%s shrank from %" PRIu64 " to %" PRIu64 " bytes", f->path,
				  f->dev.size_bytes, now_bytes);
	return 0;
}

static int file_next_extent(struct img_dev *d, struct img_extent *out, uint64_t off,
			    struct lb_err *err)
{
	struct file_dev *f = file_of(d);
	off_t data = lseek(f->fd, (off_t)off, SEEK_DATA);
	off_t hole;

	*out = (struct img_extent){.off = off, .len = d->size_bytes - off, .zero = false};
	if (data < 0 && errno == ENXIO) {
		/* A hole up to the end, unless the end is not where it was. */
		out->zero = true;
		return check_length(f, err);
	}
	if (data < 0)
		return 0; /* cannot tell (block devices): all is data */
	if ((uint64_t)data > off) {
		out->zero = true;
		out->len = img_min(out->len, (uint64_t)data - off);
		return 0;
	}
	hole = lseek(f->fd, (off_t)off, SEEK_HOLE);
	if (hole > data)
		out->len = img_min(out->len, (uint64_t)hole - off);
	return 0;
}

static void file_destroy(struct img_dev *d)
{
	struct file_dev *f = file_of(d);

	if (f->direct_fd >= 0)
		(void)close(f->direct_fd);
	if (f->fd >= 0)
		(void)close(f->fd);
	free(f->path);
	free(f);
}

static const struct img_dev_ops file_ops = {
	.name = "file",
	.pread = file_pread,
	.pwrite = file_pwrite,
	.zero = file_zero,
	.flush = file_flush,
	.next_extent = file_next_extent,
	.destroy = file_destroy,
};

static const struct img_dev_ops file_ro_ops = {
	.name = "file",
	.pread = file_pread,
	.next_extent = file_next_extent,
	.destroy = file_destroy,
};

/* O_NONBLOCK: a FIFO must not hang us before it is refused. O_EXCL (without O_CREAT only block
 * devices care): writing to a mounted disk is refused by the kernel. */
static int open_file(struct file_dev *f, const struct img_file_cfg *cfg, struct lb_err *err)
{
	int flags =
		O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (cfg->writable ? O_RDWR | O_EXCL : O_RDONLY);

	if (cfg->create)
		flags |= O_CREAT;
	f->fd = open(cfg->path, flags, CREATE_MODE);
	if (f->fd < 0 && errno == EBUSY)
		return lb_err_set(err, LB_EBUSY, errno, "open %s for writing", cfg->path);
	if (f->fd < 0)
		return lb_err_errno(err, errno, "%s %s", cfg->create ? "create" : "open",
				    cfg->path);
	if (cfg->create && ftruncate(f->fd, (off_t)cfg->size_bytes) != 0)
		return lb_err_errno(err, errno, "make %s %" PRIu64 " bytes large", cfg->path,
				    cfg->size_bytes);
	return 0;
}

/* By the descriptor, not the name: it must be the same file. */
static int open_direct(struct file_dev *f, const struct img_file_cfg *cfg, struct lb_err *err)
{
	char link[40];
	int sector = 0;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", f->fd);
	f->direct_fd = open(link, O_CLOEXEC | O_DIRECT | (cfg->writable ? O_RDWR : O_RDONLY));
	if (f->direct_fd < 0 && errno == EINVAL)
		return lb_err_set(err, LB_EUNSUPPORTED, errno, "open %s with O_DIRECT", cfg->path);
	if (f->direct_fd < 0)
		return lb_err_errno(err, errno, "open %s with O_DIRECT", cfg->path);
	/* A partition may end inside a 4 KiB block. Its tail from the page cache would be what it
	 * was at the first read, for ever. */
	if (f->is_block && ioctl(f->fd, BLKSSZGET, &sector) == 0 && sector > 0)
		f->direct_align = (uint32_t)sector;
	return 0;
}

static int identify(struct file_dev *f, struct lb_err *err)
{
	struct stat st;

	if (fstat(f->fd, &st) != 0)
		return lb_err_errno(err, errno, "stat %s", f->path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return lb_err_set(err, LB_EINPUT, 0,
				  "%s is neither a regular file nor a block device", f->path);
	f->is_block = S_ISBLK(st.st_mode);
	f->st_dev = st.st_dev;
	f->st_ino = st.st_ino;
	f->st_rdev = st.st_rdev;
	if (size_of(f->fd, f->is_block, &f->dev.size_bytes) != 0)
		return lb_err_errno(err, errno, "size of %s", f->path);
	return 0;
}

int img_file_create(struct img_dev **out, const struct img_file_cfg *cfg, struct lb_err *err)
{
	struct file_dev *f;
	int rc;

	LB_ASSERT(!cfg->create || cfg->writable);
	if (cfg->create && cfg->size_bytes > INT64_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "create %s of %" PRIu64 " bytes", cfg->path,
				  cfg->size_bytes);
	f = calloc(1, sizeof(*f));
	if (f == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "file: device");
	f->fd = -1;
	f->direct_fd = -1;
	f->direct_align = DIRECT_ALIGN;
	f->dev.ops = cfg->writable ? &file_ops : &file_ro_ops;
	f->path = strdup(cfg->path);
	if (f->path == NULL) {
		rc = lb_err_set(err, LB_ENOMEM, 0, "file: name %s", cfg->path);
		goto out;
	}
	rc = open_file(f, cfg, err);
	if (rc == 0)
		rc = identify(f, err);
	if (rc == 0 && cfg->direct)
		rc = open_direct(f, cfg, err);
	if (rc != 0)
		goto out;
	*out = &f->dev;
	f = NULL; /* now the caller's */
out:
	if (f != NULL) {
		if (cfg->create && f->fd >= 0) /* our own half-made file */
			(void)unlink(cfg->path);
		file_destroy(&f->dev);
	}
	return rc;
}

int img_file_create_fd(struct img_dev **out, int fd, const char *label, bool writable,
		       struct lb_err *err)
{
	struct file_dev *f = calloc(1, sizeof(*f));
	int rc = 0;

	if (f == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "file: device");
	f->fd = -1; /* still the caller's */
	f->direct_fd = -1;
	f->direct_align = DIRECT_ALIGN;
	f->dev.ops = writable ? &file_ops : &file_ro_ops;
	f->path = strdup(label);
	if (f->path == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "file: name %s", label);
	if (rc == 0) {
		f->fd = fd;
		rc = identify(f, err);
	}
	if (rc != 0) {
		f->fd = -1;
		file_destroy(&f->dev);
		return rc;
	}
	*out = &f->dev;
	return 0;
}

int img_file_length(struct img_dev *d, uint64_t *bytes, struct lb_err *err)
{
	const struct file_dev *f = file_of(d);

	if (size_of(f->fd, f->is_block, bytes) != 0)
		return lb_err_set(err, LB_ECHANGED, errno, "size of %s", f->path);
	return 0;
}

int img_file_check(struct img_dev *d, struct lb_err *err)
{
	struct file_dev *f = file_of(d);
	struct stat st;
	bool same;

	if (stat(f->path, &st) != 0)
		return lb_err_set(err, LB_ECHANGED, errno, "look for %s again", f->path);
	if (f->is_block)
		same = S_ISBLK(st.st_mode) && st.st_rdev == f->st_rdev;
	else
		same = st.st_dev == f->st_dev && st.st_ino == f->st_ino;
	if (!same)
		return lb_err_set(err, LB_ECHANGED, 0, "%s was replaced by another file", f->path);
	return check_length(f, err);
}
