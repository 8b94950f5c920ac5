/*
 * lifeboat-journal-plugin.so - the NBD target of QEMU's synchronous mirror.
 *
 *   nbdkit -f -U DIR/nbd lifeboat-journal-plugin.so dir=DIR size=BYTES [side-max=BYTES]
 *
 *   export ""     read and write: the mirror (QEMU)
 *   export "cut"  read only: the open cut (the agent)
 *   DIR/ctl       control socket, see replicator/journal.h; when the agent hangs up, this process
 * ends DIR/mirror DIR/side   made anew: nothing of an earlier life is trusted
 *
 * Flush and FUA do nothing on purpose: the guest's flush is honoured by its own disk; this mirror
 * is never what a machine is recovered from.
 *
 * nbdkit's plugin API has no place for state but globals: `plugin` is the one of this process.
 */
#define NBDKIT_API_VERSION 2

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <nbdkit-plugin.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "imaging/dev.h"
#include "replicator/journal.h"

#define THREAD_MODEL  NBDKIT_THREAD_MODEL_PARALLEL
#define AGENT_WAIT_MS 60000

static struct {
	char *dir;
	int64_t size_bytes, side_max_bytes;
	struct img_dev *mirror, *side;
	struct rep_journal *journal;
	int ctl_fd;
} plugin = {.side_max_bytes = INT64_C(1) << 30, .ctl_fd = -1};

/* One NBD connection. */
struct conn {
	bool cut;
	bool wrote;
};

static int journal_config(const char *key, const char *value)
{
	if (strcmp(key, "dir") == 0) {
		free(plugin.dir);
		plugin.dir = nbdkit_absolute_path(value);
		return plugin.dir != NULL ? 0 : -1;
	}
	if (strcmp(key, "size") == 0) {
		plugin.size_bytes = nbdkit_parse_size(value);
		return plugin.size_bytes > 0 ? 0 : -1;
	}
	if (strcmp(key, "side-max") == 0) {
		plugin.side_max_bytes = nbdkit_parse_size(value);
		return plugin.side_max_bytes > 0 ? 0 : -1;
	}
	nbdkit_error("unknown parameter \"%s\"", key);
	return -1;
}

static int journal_config_complete(void)
{
	if (plugin.dir != NULL && plugin.size_bytes > 0)
		return 0;
	nbdkit_error("dir= and size= are needed");
	return -1;
}

static int make_file(struct img_dev **out, const char *name, struct lb_err *err)
{
	char path[4096];
	struct img_file_cfg cfg = {.path = path,
				   .writable = true,
				   .create = true,
				   .size_bytes = (uint64_t)plugin.size_bytes};

	if (snprintf(path, sizeof path, "%s/%s", plugin.dir, name) >= (int)sizeof path)
		return lb_err_set(err, LB_EINPUT, 0, "directory name too long");
	(void)unlink(path);
	return img_file_create(out, &cfg, err);
}

static int open_ctl(struct lb_err *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (snprintf(a.sun_path, sizeof a.sun_path, "%s/ctl", plugin.dir) >= (int)sizeof a.sun_path)
		return lb_err_set(err, LB_EINPUT, 0, "%s/ctl is too long for a socket", plugin.dir);
	(void)unlink(a.sun_path);
	plugin.ctl_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (plugin.ctl_fd < 0 || bind(plugin.ctl_fd, (struct sockaddr *)&a, sizeof a) != 0 ||
	    listen(plugin.ctl_fd, 1) != 0)
		return lb_err_errno(err, errno, "listen on %s", a.sun_path);
	return 0;
}

static int journal_get_ready(void)
{
	struct rep_journal_cfg cfg = {.side_max_bytes = (uint64_t)plugin.side_max_bytes};
	struct lb_err err = {0};
	int rc = make_file(&plugin.mirror, "mirror", &err);

	if (rc == 0)
		rc = make_file(&plugin.side, "side", &err);
	if (rc == 0) {
		cfg.mirror = plugin.mirror;
		cfg.side = plugin.side;
		rc = rep_journal_create(&plugin.journal, &cfg, &err);
	}
	if (rc == 0)
		rc = open_ctl(&err);
	if (rc != 0)
		nbdkit_error("%s", err.msg);
	return rc == 0 ? 0 : -1;
}

/* A mirror without an agent is of no use, and nothing of it is needed again: QEMU's job ends, its
 * guest goes on. */
static _Noreturn void end_process(void)
{
	static const char *const names[] = {"mirror", "side", "ctl"};
	char path[4096];

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (snprintf(path, sizeof path, "%s/%s", plugin.dir, names[i]) < (int)sizeof path)
			(void)unlink(path);
	_exit(0);
}

/* One agent, once: when it hangs up (or never comes), this process ends. */
static void *serve_ctl(void *arg)
{
	struct pollfd p = {.fd = plugin.ctl_fd, .events = POLLIN};
	int fd = -1;

	(void)arg;
	while (fd < 0 && poll(&p, 1, AGENT_WAIT_MS) > 0)
		fd = accept4(plugin.ctl_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		rep_jctl_serve(plugin.journal, fd);
	end_process();
}

static int journal_after_fork(void)
{
	pthread_t t;
	int e = pthread_create(&t, NULL, serve_ctl, NULL);

	if (e == 0)
		e = pthread_detach(t);
	if (e == 0)
		return 0;
	nbdkit_error("control thread: %s", strerror(e));
	return -1;
}

static void *journal_open(int readonly)
{
	const char *name = nbdkit_export_name();
	struct conn *c;

	(void)readonly;
	if (name == NULL || (name[0] != '\0' && strcmp(name, "cut") != 0)) {
		nbdkit_error("no export of that name");
		return NULL;
	}
	c = calloc(1, sizeof *c);
	if (c == NULL)
		nbdkit_error("out of memory");
	else
		c->cut = name[0] != '\0';
	return c;
}

/* A writer that leaves, for whatever reason, leaves a mirror that misses what the guest writes
 * next. */
static void journal_close(void *handle)
{
	struct conn *c = handle;

	if (__atomic_load_n(&c->wrote, __ATOMIC_RELAXED))
		rep_journal_writer_lost(plugin.journal);
	free(c);
}

static int64_t journal_get_size(void *handle)
{
	(void)handle;
	return plugin.size_bytes;
}

static int journal_can_write(void *handle)
{
	const struct conn *c = handle;

	return !c->cut;
}

static int journal_can_multi_conn(void *handle)
{
	const struct conn *c = handle;

	return c->cut;
}

static int journal_yes(void *handle)
{
	(void)handle;
	return 1;
}

static int journal_can_fua(void *handle)
{
	(void)handle;
	return NBDKIT_FUA_NATIVE;
}

static int answer(int rc, const struct lb_err *err)
{
	if (rc == 0)
		return 0;
	nbdkit_error("%s", err->msg);
	switch (rc) {
	case LB_ENOSPC:
		nbdkit_set_error(ENOSPC);
		break;
	case LB_EINVAL:
		nbdkit_set_error(EINVAL);
		break;
	case LB_ECHANGED:
		nbdkit_set_error(ESTALE);
		break;
	default:
		nbdkit_set_error(EIO);
		break;
	}
	return -1;
}

static int journal_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	const struct conn *c = handle;
	struct lb_err err = {0};

	(void)flags;
	if (c->cut)
		return answer(rep_journal_cut_read(plugin.journal, buf, count, offset, &err), &err);
	return answer(rep_journal_read(plugin.journal, buf, count, offset, &err), &err);
}

static int journal_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
			  uint32_t flags)
{
	struct conn *c = handle;
	struct lb_err err = {0};

	(void)flags;
	__atomic_store_n(&c->wrote, true, __ATOMIC_RELAXED);
	return answer(rep_journal_write(plugin.journal, buf, count, offset, &err), &err);
}

static int journal_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct conn *c = handle;
	struct lb_err err = {0};

	(void)flags;
	__atomic_store_n(&c->wrote, true, __ATOMIC_RELAXED);
	return answer(rep_journal_zero(plugin.journal, count, offset, &err), &err);
}

static int journal_flush(void *handle, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return 0;
}

static int journal_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
			   struct nbdkit_extents *extents)
{
	const struct conn *c = handle;
	uint64_t end = offset + count;

	do {
		struct lb_err err = {0};
		struct img_extent e;
		int rc = c->cut ? rep_journal_cut_extent(plugin.journal, &e, offset, &err)
				: rep_journal_extent(plugin.journal, &e, offset, &err);

		if (rc != 0)
			return answer(rc, &err);
		if (nbdkit_add_extent(extents, e.off, e.len,
				      e.zero ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0) != 0)
			return -1;
		offset = e.off + e.len;
	} while (offset < end && (flags & NBDKIT_FLAG_REQ_ONE) == 0);
	return 0;
}

static int journal_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
			      uint32_t *maximum)
{
	(void)handle;
	*minimum = 1;
	*preferred = REP_JOURNAL_BLOCK_BYTES;
	*maximum = UINT32_MAX;
	return 0;
}

static struct nbdkit_plugin plugin_ops = {
	.name = "lifeboat-journal",
	.longname = "Lifeboat journal",
	.config = journal_config,
	.config_complete = journal_config_complete,
	.config_help = "dir=DIR       (required) private directory for mirror, side and ctl\n"
		       "size=BYTES    (required) size of the mirrored disk\n"
		       "side-max=BYTES  old blocks kept while a cut is open (default 1G)",
	.get_ready = journal_get_ready,
	.after_fork = journal_after_fork,
	.open = journal_open,
	.close = journal_close,
	.get_size = journal_get_size,
	.block_size = journal_block_size,
	.can_write = journal_can_write,
	.can_multi_conn = journal_can_multi_conn,
	.can_flush = journal_yes,
	.can_fua = journal_can_fua,
	.can_trim = journal_can_write,
	.can_zero = journal_yes,
	.can_fast_zero = journal_yes,
	.can_extents = journal_yes,
	.pread = journal_pread,
	.pwrite = journal_pwrite,
	.zero = journal_zero,
	.trim = journal_zero,
	.flush = journal_flush,
	.extents = journal_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin_ops)
