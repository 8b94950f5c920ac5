#include "replicator/export.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"
#include "imaging/dev.h"

#define CHUNK_BYTES (UINT64_C(1) << 20)

static int copy_run(struct img_dev *out, struct img_dev *view, uint8_t *buf, uint64_t off,
		    uint64_t len, struct lb_err *err)
{
	int rc = img_pread(view, buf, len, off, err);

	return rc != 0 ? rc : img_pwrite(out, buf, len, off, err);
}

static int copy_all(struct img_dev *out, struct img_dev *view, uint8_t *buf,
		    void (*progress)(void *arg, uint64_t done, uint64_t all), void *arg,
		    struct lb_err *err)
{
	uint64_t off = 0;

	while (off < view->size_bytes) {
		struct img_extent e;
		int rc = img_next_extent(view, &e, off, err);

		if (rc != 0)
			return rc;
		if (!e.zero && e.len > CHUNK_BYTES)
			e.len = CHUNK_BYTES;
		if (!e.zero)
			rc = copy_run(out, view, buf, off, e.len, err);
		if (rc != 0)
			return rc;
		off += e.len;
		if (progress != NULL)
			progress(arg, off, view->size_bytes);
	}
	return img_flush(out, err);
}

int rep_export_raw(struct img_dev *view, const char *path,
		   void (*progress)(void *arg, uint64_t done, uint64_t all), void *arg,
		   struct lb_err *err)
{
	char part[PATH_MAX];
	struct img_file_cfg cfg = {
		.path = part, .writable = true, .create = true, .size_bytes = view->size_bytes};
	struct img_dev *out = NULL;
	uint8_t *buf = NULL;
	int rc, n = snprintf(part, sizeof(part), "%s.part", path);

	if (n < 0 || (size_t)n >= sizeof(part))
		return lb_err_set(err, LB_EINPUT, 0, "path is too long: %.80s...", path);
	if (access(path, F_OK) == 0)
		return lb_err_set(err, LB_EEXIST, 0, "%s is there already", path);
	rc = img_file_create(&out, &cfg, err);
	if (rc != 0)
		return rc;
	buf = malloc(CHUNK_BYTES);
	rc = buf == NULL ? lb_err_set(err, LB_ENOMEM, 0, "export of %s", path)
			 : copy_all(out, view, buf, progress, arg, err);
	img_dev_destroy(out);
	if (rc == 0)
		rc = lb_fs_publish(part, path, err);
	if (rc != 0)
		(void)unlink(part);
	free(buf);
	return rc;
}
