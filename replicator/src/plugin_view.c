/*
 * lifeboat-view-plugin.so - serves one volume as of one recovery point, read only.
 *
 *   nbdkit -f -r -U SOCKET lifeboat-view-plugin.so map=FILE store=DIR keyfile=FILE|keyfd=N
 *          [cache=BYTES] [outlive=BOOL]
 *
 *   map=      view map made by rep_view_prepare()
 *   store=    root directory of the segment store; segment files are only read
 *   keyfile=  data keys, one a line: 32 hex digits key id, a space, 64 hex digits key. A regular
 *             file nobody else may read or write (0600). keyfd= is the same on an open descriptor,
 *             which is closed. Never on the command line: arguments are public.
 *   outlive=  stay when who started us ends, however that is. nbdkit 1.32 asks for SIGTERM then
 *             whenever it stays in the foreground, and would finish no machine's next request.
 *
 * Blocks that no layer holds are holes, so qemu-img and QEMU skip them. A bad pack is EIO for the
 * blocks in it, and is named in nbdkit's log.
 *
 * nbdkit's plugin API has no place for state but globals: `plugin` is the one of this process.
 */
#define NBDKIT_API_VERSION 2

#include <errno.h>
#include <fcntl.h>
#include <nbdkit-plugin.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/seal.h"
#include "imaging/dev.h"
#include "replicator/view.h"

#define THREAD_MODEL   NBDKIT_THREAD_MODEL_PARALLEL
#define KEYS_MAX       1024u
#define KEY_LINE_CHARS (2 * LB_ID_BYTES + 1 + 2 * LB_KEY_BYTES)

struct key_line {
	struct lb_id id;
	struct lb_key key;
};

static struct {
	char *map, *store, *keyfile;
	int keyfd;
	int outlive;
	int64_t cache_bytes;
	struct img_dev *view;
} plugin = {.keyfd = -1};

struct keys {
	struct key_line *v;
	size_t n;
};

/* ---- keys ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int parse_key(struct key_line *out, const char *line, struct lb_err *err)
{
	char id[LB_ID_TEXT];
	const char *hex = line + LB_ID_TEXT;

	if (strlen(line) != KEY_LINE_CHARS || line[LB_ID_TEXT - 1] != ' ')
		return lb_err_set(err, LB_EINPUT, 0, "want \"<key id> <key>\" in hex");
	memcpy(id, line, sizeof(id) - 1);
	id[sizeof(id) - 1] = 0;
	for (size_t i = 0; i < LB_KEY_BYTES; i++) {
		int high = hex_digit(hex[2 * i]);
		int low = hex_digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return lb_err_set(err, LB_EINPUT, 0, "the key is not hex");
		out->key.b[i] = (uint8_t)(high << 4 | low);
	}
	return lb_id_parse(&out->id, id, err);
}

static int read_keys(struct keys *k, FILE *f, struct lb_err *err)
{
	char line[KEY_LINE_CHARS + 8];
	int rc = 0;

	while (rc == 0 && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = 0;
		if (line[0] == 0 || line[0] == '#')
			continue;
		if (k->n == KEYS_MAX)
			rc = lb_err_set(err, LB_EINPUT, 0, "more than %u keys", KEYS_MAX);
		else
			rc = parse_key(&k->v[k->n], line, err);
		if (rc == 0)
			k->n++;
		else
			rc = lb_err_wrap(err, rc, "key %zu", k->n + 1);
	}
	explicit_bzero(line, sizeof(line));
	if (rc == 0 && ferror(f) != 0)
		rc = lb_err_errno(err, errno, "read keys");
	return rc;
}

/* Takes @fd. */
static int load_keys(struct keys *k, int fd, bool is_file, struct lb_err *err)
{
	struct stat st;
	FILE *f = fdopen(fd, "r");
	int rc = 0;

	if (f == NULL) {
		rc = lb_err_errno(err, errno, "keys on descriptor %d", fd);
		(void)close(fd);
		return rc;
	}
	/* What stdio would buffer stays behind in freed memory. */
	(void)setvbuf(f, NULL, _IONBF, 0);
	if (is_file && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (st.st_mode & 077) != 0))
		rc = lb_err_set(err, LB_EDENIED, 0, "key file: others may read or write it");
	if (rc == 0)
		rc = read_keys(k, f, err);
	(void)fclose(f);
	return rc;
}

static int open_keys(struct keys *k, struct lb_err *err)
{
	int fd = plugin.keyfd;

	k->v = calloc(KEYS_MAX, sizeof(*k->v));
	if (k->v == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "keys");
	if (plugin.keyfile != NULL)
		fd = open(plugin.keyfile, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return lb_err_errno(err, errno, "open key file %s", plugin.keyfile);
	return load_keys(k, fd, plugin.keyfile != NULL, err);
}

static int dek_of(void *arg, const struct lb_id *id, struct lb_key *out)
{
	const struct keys *k = arg;

	for (size_t i = 0; i < k->n; i++) {
		if (lb_id_equal(&k->v[i].id, id)) {
			*out = k->v[i].key;
			return 0;
		}
	}
	return LB_ENOTFOUND;
}

/* ---- parameters ---- */

static int set_path(char **to, const char *value)
{
	free(*to);
	*to = nbdkit_absolute_path(value);
	return *to != NULL ? 0 : -1;
}

static int view_config(const char *key, const char *value)
{
	if (strcmp(key, "map") == 0)
		return set_path(&plugin.map, value);
	if (strcmp(key, "store") == 0)
		return set_path(&plugin.store, value);
	if (strcmp(key, "keyfile") == 0)
		return set_path(&plugin.keyfile, value);
	if (strcmp(key, "keyfd") == 0)
		return nbdkit_parse_int("keyfd", value, &plugin.keyfd);
	if (strcmp(key, "outlive") == 0) {
		plugin.outlive = nbdkit_parse_bool(value);
		return plugin.outlive >= 0 ? 0 : -1;
	}
	if (strcmp(key, "cache") == 0) {
		plugin.cache_bytes = nbdkit_parse_size(value);
		return plugin.cache_bytes > 0 ? 0 : -1;
	}
	nbdkit_error("unknown parameter \"%s\"", key);
	return -1;
}

static int view_config_complete(void)
{
	if (plugin.map == NULL || plugin.store == NULL) {
		nbdkit_error("map= and store= are needed");
		return -1;
	}
	if ((plugin.keyfile != NULL) == (plugin.keyfd > 2)) {
		nbdkit_error("one of keyfile= and keyfd= (above 2) is needed");
		return -1;
	}
	/* of this thread, nbdkit's first, which is the one that asked */
	if (plugin.outlive == 1 && prctl(PR_SET_PDEATHSIG, 0L) != 0) {
		nbdkit_error("prctl: %m");
		return -1;
	}
	return 0;
}

static int view_get_ready(void)
{
	struct keys keys = {.n = 0};
	struct rep_view_cfg cfg = {
		.cache_bytes = (uint64_t)plugin.cache_bytes, .dek_of = dek_of, .arg = &keys};
	struct lb_err err = {0};
	int rc = open_keys(&keys, &err);

	if (rc == 0)
		rc = rep_view_open_map(&plugin.view, plugin.map, plugin.store, &cfg, &err);
	/* The view has its own copy of those it needs. */
	if (keys.v != NULL)
		explicit_bzero(keys.v, KEYS_MAX * sizeof(*keys.v));
	free(keys.v);
	if (rc != 0)
		nbdkit_error("%s", err.msg);
	return rc == 0 ? 0 : -1;
}

static void view_unload(void)
{
	img_dev_destroy(plugin.view);
	free(plugin.map);
	free(plugin.store);
	free(plugin.keyfile);
}

/* ---- serving ---- */

static void *view_open(int readonly)
{
	(void)readonly;
	return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t view_get_size(void *handle)
{
	(void)handle;
	return (int64_t)plugin.view->size_bytes;
}

static int view_no(void *handle)
{
	(void)handle;
	return 0;
}

static int view_yes(void *handle)
{
	(void)handle;
	return 1;
}

static int view_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
	(void)handle;
	*minimum = 1;
	*preferred = 4096;
	*maximum = UINT32_MAX;
	return 0;
}

static int fail(const struct lb_err *err)
{
	nbdkit_error("%s", err->msg);
	nbdkit_set_error(EIO);
	return -1;
}

static int view_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct lb_err err = {0};

	(void)handle;
	(void)flags;
	return img_pread(plugin.view, buf, count, offset, &err) == 0 ? 0 : fail(&err);
}

static int view_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
			struct nbdkit_extents *extents)
{
	uint64_t end = offset + count;

	(void)handle;
	do {
		struct lb_err err = {0};
		struct img_extent e;

		if (img_next_extent(plugin.view, &e, offset, &err) != 0)
			return fail(&err);
		if (nbdkit_add_extent(extents, e.off, e.len,
				      e.zero ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0) != 0)
			return -1;
		offset = e.off + e.len;
	} while (offset < end && (flags & NBDKIT_FLAG_REQ_ONE) == 0);
	return 0;
}

static struct nbdkit_plugin plugin_ops = {
	.name = "lifeboat-view",
	.longname = "Lifeboat view of a recovery point",
	.config = view_config,
	.config_complete = view_config_complete,
	.config_help = "map=FILE      (required) view map\n"
		       "store=DIR     (required) root of the segment store\n"
		       "keyfile=FILE  data keys, 0600: lines of <key id> <key> in hex\n"
		       "keyfd=N       the same on a descriptor\n"
		       "cache=BYTES   opened packs kept (default 16M)\n"
		       "outlive=BOOL  stay when the parent ends (default false)",
	.get_ready = view_get_ready,
	.unload = view_unload,
	.open = view_open,
	.get_size = view_get_size,
	.block_size = view_block_size,
	.can_write = view_no,
	.can_multi_conn = view_yes,
	.can_extents = view_yes,
	.pread = view_pread,
	.extents = view_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin_ops)
