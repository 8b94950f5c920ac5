#define FUSE_USE_VERSION 31

#include "blocklog.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISK "/disk"

const char *blocklog_missing(void)
{
	int fd;

	if (geteuid() != 0)
		return "mounting needs root";
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return "no /dev/fuse";
	(void)close(fd);
	fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return "no /dev/loop-control";
	(void)close(fd);
	if (access("/sbin/mkfs.ext4", X_OK) != 0 && access("/usr/sbin/mkfs.ext4", X_OK) != 0)
		return "no mkfs.ext4";
	return NULL;
}

/* ---- the FUSE side ---- */

struct disk {
	uint8_t *p;
	uint64_t bytes;
	int log;
};

static struct disk *disk(void)
{
	return fuse_get_context()->private_data;
}

static int log_event(const struct blocklog_event *e, const void *data)
{
	if (write(disk()->log, e, sizeof(*e)) != (ssize_t)sizeof(*e))
		return -EIO;
	if (data != NULL && e->len > 0 && write(disk()->log, data, e->len) != (ssize_t)e->len)
		return -EIO;
	return 0;
}

static int disk_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	(void)fi;
	memset(st, 0, sizeof(*st));
	if (strcmp(path, "/") == 0) {
		st->st_mode = S_IFDIR | 0700;
		st->st_nlink = 2;
		return 0;
	}
	if (strcmp(path, DISK) != 0)
		return -ENOENT;
	st->st_mode = S_IFREG | 0600;
	st->st_nlink = 1;
	st->st_size = (off_t)disk()->bytes;
	return 0;
}

static int disk_open(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	fi->direct_io = 1;
	return 0;
}

static int clip(size_t *n, off_t off)
{
	if (off < 0 || (uint64_t)off > disk()->bytes)
		return -EINVAL;
	if (*n > disk()->bytes - (uint64_t)off)
		*n = (size_t)(disk()->bytes - (uint64_t)off);
	return 0;
}

static int disk_read(const char *path, char *buf, size_t n, off_t off, struct fuse_file_info *fi)
{
	(void)path;
	(void)fi;
	if (clip(&n, off) != 0)
		return -EINVAL;
	memcpy(buf, disk()->p + off, n);
	return (int)n;
}

static int disk_write(const char *path, const char *buf, size_t n, off_t off,
		      struct fuse_file_info *fi)
{
	struct blocklog_event e;

	(void)path;
	(void)fi;
	if (clip(&n, off) != 0)
		return -EINVAL;
	e = (struct blocklog_event){.off = (uint64_t)off, .len = n};
	if (log_event(&e, buf) != 0)
		return -EIO;
	memcpy(disk()->p + off, buf, n);
	return (int)n;
}

static int disk_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
	(void)path;
	(void)datasync;
	(void)fi;
	return log_event(&(struct blocklog_event){.flush = 1}, NULL);
}

static const struct fuse_operations disk_ops = {
	.getattr = disk_getattr,
	.open = disk_open,
	.read = disk_read,
	.write = disk_write,
	.fsync = disk_fsync,
};

static _Noreturn void serve(uint64_t bytes, int ready)
{
	char *argv[] = {(char[]){"blocklog"}, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct disk d = {.bytes = bytes};
	struct fuse *f;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	d.p = calloc(1, bytes);
	d.log = open(BLOCKLOG_DIR "/log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	f = fuse_new(&args, &disk_ops, sizeof(disk_ops), &d);
	if (d.p == NULL || d.log < 0 || f == NULL || fuse_mount(f, BLOCKLOG_DIR "/dev") != 0 ||
	    write(ready, "", 1) != 1)
		_exit(1);
	_exit(fuse_loop(f) == 0 ? 0 : 1);
}

/* ---- the test's side ---- */

pid_t blocklog_start(uint64_t bytes)
{
	int ready[2];
	char c;
	pid_t pid;

	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("tmpfs", BLOCKLOG_DIR, "tmpfs", 0, "mode=0700") != 0 ||
	    mkdir(BLOCKLOG_DIR "/dev", 0700) != 0 || mkdir(BLOCKLOG_DIR "/fs", 0700) != 0 ||
	    mkdir(BLOCKLOG_DIR "/cut", 0700) != 0 || pipe2(ready, O_CLOEXEC) != 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		(void)close(ready[0]);
		serve(bytes, ready[1]);
	}
	(void)close(ready[1]);
	if (pid > 0 && read(ready[0], &c, 1) != 1)
		pid = -1;
	(void)close(ready[0]);
	return pid;
}

uint64_t blocklog_position(void)
{
	struct stat st;

	return stat(BLOCKLOG_DIR "/log", &st) == 0 ? (uint64_t)st.st_size : 0;
}

int blocklog_loop(const char *path, char dev[32])
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int file = open(path, O_RDWR | O_CLOEXEC);
	int fd = -1;

	/* Somebody else may take the free device between the two calls: try the next. */
	for (int tries = 0; control >= 0 && file >= 0 && fd < 0 && tries < 50; tries++) {
		int n = ioctl(control, LOOP_CTL_GET_FREE);
		struct loop_config cfg = {.fd = (uint32_t)file,
					  .info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO};

		if (n < 0)
			break;
		(void)snprintf(dev, 32, "/dev/loop%d", n);
		fd = open(dev, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &cfg) != 0) {
			(void)close(fd);
			fd = -1;
			if (errno != EBUSY)
				break;
		}
	}
	if (file >= 0)
		(void)close(file);
	if (control >= 0)
		(void)close(control);
	return fd;
}
