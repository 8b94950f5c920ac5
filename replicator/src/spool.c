#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fs.h"
#include "delta_int.h"

/* Scratch space of one cut: nothing here is ever synced, and a crash leaves only files that
 * rep_spool_clean() removes at the next start. */

void rep_spool_init(struct rep_spool *s, struct lb_fs *fs, const struct lb_id *layer,
		    const char *name, size_t max_bytes)
{
	char hex[LB_ID_TEXT];

	*s = (struct rep_spool){.fs = fs, .max_bytes = max_bytes};
	(void)snprintf(s->path, sizeof(s->path), "spool/%s.%s", lb_id_text(layer, hex), name);
}

void rep_spool_fini(struct rep_spool *s)
{
	free(s->mem);
	s->mem = NULL;
	if (s->file == NULL)
		return;
	lb_file_close(s->file);
	s->file = NULL;
	(void)lb_fs_unlink(s->fs, s->path, NULL);
}

static int to_file(struct rep_spool *s, struct lb_err *err)
{
	int rc = lb_fs_mkdir(s->fs, "spool", err);

	if (rc == 0)
		rc = lb_fs_open(s->fs, &s->file, s->path, LB_FS_CREATE, err);
	if (rc == 0 && s->bytes != 0)
		rc = lb_file_pwrite(s->file, s->mem, (size_t)s->bytes, 0, err);
	if (rc == 0) {
		free(s->mem);
		s->mem = NULL;
	}
	return rc;
}

static int grow(struct rep_spool *s, uint64_t end, struct lb_err *err)
{
	size_t cap = s->cap_bytes == 0 ? 4096 : s->cap_bytes;
	uint8_t *mem;

	while (cap < end)
		cap *= 2;
	if (cap == s->cap_bytes)
		return 0;
	mem = realloc(s->mem, cap);
	if (mem == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "allocate a spool of %zu bytes", cap);
	/* Writers by number run ahead of each other. */
	memset(mem + s->cap_bytes, 0, cap - s->cap_bytes);
	s->mem = mem;
	s->cap_bytes = cap;
	return 0;
}

int rep_spool_write(struct rep_spool *s, uint64_t off, const void *p, size_t len,
		    struct lb_err *err)
{
	uint64_t end = off + len;
	int rc = 0;

	if (s->file == NULL && end > s->max_bytes)
		rc = to_file(s, err);
	if (rc == 0 && s->file == NULL)
		rc = grow(s, end, err);
	if (rc != 0)
		return rc;
	if (s->file != NULL)
		rc = lb_file_pwrite(s->file, p, len, off, err);
	else if (len != 0)
		memcpy(s->mem + off, p, len);
	if (rc == 0 && end > s->bytes)
		s->bytes = end;
	return rc;
}

int rep_spool_read(struct rep_spool *s, uint64_t off, void *p, size_t len, struct lb_err *err)
{
	if (off > s->bytes || len > s->bytes - off)
		return lb_err_set(err, LB_EINVAL, 0, "read %s past its end", s->path);
	if (s->file != NULL)
		return lb_file_pread_full(s->file, p, len, off, err);
	if (len != 0)
		memcpy(p, s->mem + off, len);
	return 0;
}

static int clean_one(void *arg, const char *name)
{
	struct lb_fs *fs = arg;
	char path[300];

	(void)snprintf(path, sizeof(path), "spool/%s", name);
	return lb_fs_unlink(fs, path, NULL);
}

int rep_spool_clean(struct lb_fs *fs, struct lb_err *err)
{
	int rc = lb_fs_list(fs, "spool", clean_one, fs, err);

	return rc == LB_ENOTFOUND ? 0 : rc;
}
