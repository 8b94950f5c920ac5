/*
 * crash.powercut [COUNT [SEED [nosync]]] - power cuts below a real ext4.
 *
 * An ingest runs on ext4 on a device that logs writes and flushes (blocklog.h). Then COUNT prefixes
 * of the log become disk images: everything up to the last flush, and of the writes after it all,
 * none, or a random half of their 4 KiB pieces. Each image is mounted, which replays its journal,
 * and the store on it is opened, scrubbed with keys, and compared with what was acknowledged before
 * the cut; one of ten goes on to the end of the ingest.
 *
 * nosync: the control. The store's file syncs do nothing; the same checker must find violations.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fs.h"
#include "blocklog.h"
#include "check.h"
#include "ingest.h"
#include "rnd.h"

#define DISK_BYTES  (UINT64_C(16) << 20)
#define POINTS      60u
#define PIECE       4096u
#define PENDING_MAX 4096u
#define ACKS_MAX    (2 * INGEST_MAX)
#define WATCHDOG_S  220

/* ---- a file system whose file syncs do nothing (the control) ---- */

struct lazy_file {
	struct lb_file f;
	struct lb_file *under;
};

static struct lb_file *under(struct lb_file *f)
{
	return ((struct lazy_file *)f)->under;
}

static int lazy_pread(struct lb_file *f, void *p, size_t len, uint64_t off, size_t *got,
		      struct lb_err *err)
{
	return lb_file_pread(under(f), p, len, off, got, err);
}

static int lazy_pwritev(struct lb_file *f, const struct iovec *iov, int n, uint64_t off,
			struct lb_err *err)
{
	return lb_file_pwritev(under(f), iov, n, off, err);
}

static int lazy_sync(struct lb_file *f, struct lb_err *err)
{
	(void)f;
	(void)err;
	return 0;
}

static int lazy_truncate(struct lb_file *f, uint64_t len, struct lb_err *err)
{
	return lb_file_truncate(under(f), len, err);
}

static int lazy_size(struct lb_file *f, uint64_t *out, struct lb_err *err)
{
	return lb_file_size(under(f), out, err);
}

static int lazy_lock(struct lb_file *f, struct lb_err *err)
{
	return lb_file_lock(under(f), err);
}

static void lazy_close(struct lb_file *f)
{
	lb_file_close(under(f));
	free(f);
}

static const struct lb_file_ops lazy_file_ops = {
	.pread = lazy_pread,
	.pwritev = lazy_pwritev,
	.sync = lazy_sync,
	.truncate = lazy_truncate,
	.size = lazy_size,
	.lock = lazy_lock,
	.close = lazy_close,
};

struct lazy_fs {
	struct lb_fs fs;
	struct lb_fs_ops ops;
	struct lb_fs *under;
};

static int lazy_open(struct lb_fs *fs, struct lb_file **out, const char *path, unsigned flags,
		     struct lb_err *err)
{
	struct lazy_file *f = calloc(1, sizeof(*f));
	int rc;

	LB_ASSERT(f != NULL);
	f->f.ops = &lazy_file_ops;
	rc = lb_fs_open(((struct lazy_fs *)fs)->under, &f->under, path, flags, err);
	if (rc != 0)
		free(f);
	else
		*out = &f->f;
	return rc;
}

static int lazy_mkdir(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	return lb_fs_mkdir(((struct lazy_fs *)fs)->under, path, err);
}

static int lazy_rename(struct lb_fs *fs, const char *from, const char *to, struct lb_err *err)
{
	return lb_fs_rename(((struct lazy_fs *)fs)->under, from, to, err);
}

static int lazy_sync_dir(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	return lb_fs_sync_dir(((struct lazy_fs *)fs)->under, path, err);
}

static int lazy_list(struct lb_fs *fs, const char *path, lb_fs_list_fn fn, void *arg,
		     struct lb_err *err)
{
	return lb_fs_list(((struct lazy_fs *)fs)->under, path, fn, arg, err);
}

static int lazy_space(struct lb_fs *fs, uint64_t *free_bytes, struct lb_err *err)
{
	return lb_fs_space(((struct lazy_fs *)fs)->under, free_bytes, err);
}

static const struct lb_fs_ops lazy_ops = {
	.open = lazy_open,
	.mkdir = lazy_mkdir,
	.rename = lazy_rename,
	.sync_dir = lazy_sync_dir,
	.list = lazy_list,
	.space = lazy_space,
};

/* ---- the ingest on the logged device ---- */

struct ack {
	unsigned point;
	bool receipt;
	uint64_t position; /* of the log when the promise was made */
};

struct cutter {
	struct ingest ingest;
	struct ack ack[ACKS_MAX];
	unsigned acks;
	uint64_t start; /* of the log, when the empty file system was in place */
	bool nosync;
	uint64_t rnd;
	unsigned violations, mounts_failed, finished;
};

static void note_ack(void *arg, unsigned point, bool receipt)
{
	struct cutter *c = arg;

	LB_ASSERT(c->acks < ACKS_MAX);
	c->ack[c->acks++] = (struct ack){point, receipt, blocklog_position()};
}

static int run(const char *const *argv)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	LB_ASSERT(pid > 0 && waitpid(pid, &status, 0) == pid);
	return status;
}

static void die(const char *what)
{
	(void)fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static void mount_logged(void)
{
	char dev[32];
	int loop = blocklog_loop(BLOCKLOG_DIR "/dev/disk", dev);
	const char *const mkfs[] = {
		"mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0",
		dev,         NULL};

	if (loop < 0)
		die("loop device over the FUSE file");
	if (run(mkfs) != 0)
		die("mkfs.ext4");
	if (mount(dev, BLOCKLOG_DIR "/fs", "ext4", 0, "") != 0)
		die("mount the logged device");
	(void)close(loop);
}

static void ingest_on_log(struct cutter *c)
{
	struct ingest_log log = {.on_ack = note_ack, .arg = c};
	struct lazy_fs lazy = {.ops = lazy_ops};
	struct rep_store *s = NULL;
	struct lb_err err = {.code = 0};
	struct lb_fs *fs = NULL;
	int fd;

	mount_logged();
	/* The directory of the store is the installer's, not the ingest's. */
	if (lb_fs_dir_create(&fs, BLOCKLOG_DIR "/fs/store", &err) != 0)
		die(err.msg);
	fd = open(BLOCKLOG_DIR "/fs", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || syncfs(fd) != 0)
		die("sync the empty file system");
	(void)close(fd);
	c->start = blocklog_position();
	lazy.fs.ops = &lazy.ops;
	lazy.under = fs;
	if (rep_store_open(&s, &c->ingest.env.env, c->nosync ? &lazy.fs : fs, &c->ingest.cfg,
			   &err) != 0 ||
	    ingest_run(&c->ingest, s, &log, &err) != 0)
		die(err.msg);
	rep_store_close(s);
	lb_fs_destroy(fs);
	if (umount(BLOCKLOG_DIR "/fs") != 0)
		die("umount the logged device");
}

/* ---- replay ---- */

struct event {
	struct blocklog_event e;
	const uint8_t *data;
	uint64_t end; /* position in the log behind it */
};

struct replay {
	uint8_t *log;
	size_t len;
	struct event *event;
	size_t events, first; /* first: after the start */
	uint8_t *base;        /* the disk up to the last flush */
	struct event *pending[PENDING_MAX];
	unsigned pendings;
	int image;
};

static void load_log(struct replay *r, uint64_t start)
{
	int fd = open(BLOCKLOG_DIR "/log", O_RDONLY | O_CLOEXEC);

	r->len = (size_t)blocklog_position();
	r->log = malloc(r->len);
	r->base = calloc(1, DISK_BYTES);
	r->event = calloc(r->len / sizeof(struct blocklog_event), sizeof(*r->event));
	if (fd < 0 || r->log == NULL || r->base == NULL || r->event == NULL)
		die("read the log");
	for (size_t done = 0; done < r->len;) {
		ssize_t n = read(fd, r->log + done, r->len - done);

		if (n <= 0)
			die("read the log");
		done += (size_t)n;
	}
	(void)close(fd);
	for (size_t at = 0; at < r->len;) {
		struct event *e = &r->event[r->events++];

		memcpy(&e->e, r->log + at, sizeof(e->e));
		e->data = r->log + at + sizeof(e->e);
		at += sizeof(e->e) + e->e.len;
		e->end = at;
		LB_ASSERT(at <= r->len && e->e.off + e->e.len <= DISK_BYTES);
		if (at <= start)
			r->first = r->events;
	}
	r->image = open(BLOCKLOG_DIR "/image", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (r->image < 0)
		die("image file");
}

static void take_event(struct replay *r, struct event *e)
{
	if (e->e.flush == 0) {
		LB_ASSERT(r->pendings < PENDING_MAX);
		r->pending[r->pendings++] = e;
		return;
	}
	for (unsigned i = 0; i < r->pendings; i++)
		memcpy(r->base + r->pending[i]->e.off, r->pending[i]->data, r->pending[i]->e.len);
	r->pendings = 0;
}

static void put(int fd, const uint8_t *p, size_t len, uint64_t off)
{
	if (pwrite(fd, p, len, (off_t)off) != (ssize_t)len)
		die("write the image");
}

/* The base with what survived of the pending writes: all, none, or half of their 4 KiB pieces. */
static void make_image(struct replay *r, uint64_t *rnd)
{
	uint64_t how = rnd_below(rnd, 4);

	if (ftruncate(r->image, 0) != 0 || ftruncate(r->image, (off_t)DISK_BYTES) != 0)
		die("image file");
	for (uint64_t off = 0; off < DISK_BYTES; off += 65536) {
		static const uint8_t zeros[65536];

		if (memcmp(r->base + off, zeros, sizeof(zeros)) != 0)
			put(r->image, r->base + off, sizeof(zeros), off);
	}
	for (unsigned i = 0; i < r->pendings && how != 0; i++) {
		const struct event *e = r->pending[i];

		for (uint64_t at = 0; at < e->e.len; at += PIECE) {
			uint64_t n = e->e.len - at < PIECE ? e->e.len - at : PIECE;

			if (how == 1 || rnd_below(rnd, 2) == 0)
				put(r->image, e->data + at, n, e->e.off + at);
		}
	}
}

static void check_mounted(struct cutter *c, const struct ingest_log *log, bool finish)
{
	struct ingest_log copy = *log;
	struct rep_store *s = NULL;
	struct lb_err err = {.code = 0};
	struct lb_fs *fs = NULL;

	if (lb_fs_dir_create(&fs, BLOCKLOG_DIR "/cut/store", &err) != 0)
		die(err.msg);
	c->violations += ingest_check(&c->ingest, fs, log, !c->nosync, &s);
	if (s != NULL && finish) {
		c->finished++;
		if (ingest_run(&c->ingest, s, &copy, &err) != 0) {
			(void)fprintf(stderr, "  does not go on: %s\n", err.msg);
			c->violations++;
		}
	}
	rep_store_close(s);
	lb_fs_destroy(fs);
}

static void check_cut(struct cutter *c, struct replay *r, uint64_t position, bool finish)
{
	struct ingest_log log = {.arg = NULL};
	unsigned before = c->violations;
	char dev[32];
	int loop;

	for (unsigned i = 0; i < c->acks; i++) {
		if (c->ack[i].position > position)
			continue;
		if (c->ack[i].receipt)
			log.receipt[c->ack[i].point] = true;
		else
			log.acked[c->ack[i].point] = true;
	}
	make_image(r, &c->rnd);
	loop = blocklog_loop(BLOCKLOG_DIR "/image", dev);
	if (loop < 0)
		die("loop device over an image");
	if (mount(dev, BLOCKLOG_DIR "/cut", "ext4", 0, "") != 0) {
		c->mounts_failed++;
	} else {
		check_mounted(c, &log, finish);
		if (umount(BLOCKLOG_DIR "/cut") != 0)
			die("umount an image");
	}
	(void)close(loop);
	if (c->violations != before && !c->nosync)
		(void)fprintf(stderr, "^ cut at byte %" PRIu64 " of the log\n", position);
}

static void replay(struct cutter *c, unsigned long count)
{
	struct replay *r = calloc(1, sizeof(*r));
	unsigned long cuts = 0;
	size_t span;

	LB_ASSERT(r != NULL);
	load_log(r, c->start);
	span = r->events - r->first;
	for (size_t i = 0; i < r->events; i++) {
		take_event(r, &r->event[i]);
		/* Spread @count cuts over the events; several at one when there are fewer. */
		while (i >= r->first && cuts < count && (i - r->first + 1) * count / span > cuts) {
			check_cut(c, r, r->event[i].end, cuts % 10 == 0);
			cuts++;
		}
	}
	(void)printf("%lu power cuts over %zu writes and flushes on ext4, %u acknowledgements: %u "
		     "violations, %u images did not mount, %u went on to the end\n",
		     cuts, span, c->acks, c->violations, c->mounts_failed, c->finished);
	(void)close(r->image);
	free(r->event);
	free(r->base);
	free(r->log);
	free(r);
}

int main(int argc, char **argv)
{
	unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 300;
	const char *missing = blocklog_missing();
	struct cutter *c = calloc(1, sizeof(*c));
	pid_t server;
	int status = 0;
	bool good;

	LB_ASSERT(c != NULL);
	c->rnd = argc > 2 ? strtoull(argv[2], NULL, 10) : 20251122;
	c->nosync = argc > 3 && strcmp(argv[3], "nosync") == 0;
	server = missing == NULL ? blocklog_start(DISK_BYTES) : -1;
	if (server < 0) {
		(void)fprintf(stderr, "skip: %s\n",
			      missing != NULL ? missing : "mounting is not permitted here");
		free(c);
		return 77;
	}
	/* A hang must end, and with this process everything it mounted. */
	(void)alarm(argc > 1 ? 0 : WATCHDOG_S);
	ingest_init(&c->ingest, POINTS, 32, 8, 64 << 10, 4711);
	ingest_on_log(c);
	(void)kill(server, SIGKILL);
	(void)waitpid(server, &status, 0);
	replay(c, count);
	good = c->nosync ? c->violations > 0 : c->violations == 0 && c->mounts_failed == 0;
	if (c->nosync && !good)
		(void)fprintf(stderr, "the syncs do nothing, and the checker did not notice\n");
	ingest_fini(&c->ingest);
	free(c);
	return good ? 0 : 1;
}
