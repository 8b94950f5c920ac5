/*
 * The smallest nbdkit plugin built as ours are: it serves one imaging RAM device. It exists to show
 * that a plugin with our components in it loads into plain nbdkit in every preset.
 */
#include <stddef.h>

#include "base/err.h"
#include "imaging/dev.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define SIZE_BYTES   (1024u * 1024u)

static int report(int rc, const struct lb_err *err)
{
	if (rc == 0)
		return 0;
	nbdkit_error("%s: %s", lb_err_name(rc), err->msg);
	return -1;
}

static void *trivial_open(int readonly)
{
	struct img_dev *d = NULL;
	struct lb_err err;

	(void)readonly;
	if (report(img_mem_create(&d, SIZE_BYTES, &err), &err) != 0)
		return NULL;
	return d;
}

static void trivial_close(void *handle)
{
	img_dev_destroy(handle);
}

static int64_t trivial_get_size(void *handle)
{
	const struct img_dev *d = handle;

	return (int64_t)d->size_bytes;
}

static int trivial_pread(void *handle, void *buf, uint32_t count, uint64_t off, uint32_t flags)
{
	struct lb_err err;

	(void)flags;
	return report(img_pread(handle, buf, count, off, &err), &err);
}

static int trivial_pwrite(void *handle, const void *buf, uint32_t count, uint64_t off,
			  uint32_t flags)
{
	struct lb_err err;

	(void)flags;
	return report(img_pwrite(handle, buf, count, off, &err), &err);
}

static struct nbdkit_plugin plugin = {
	.name = "trivial",
	.open = trivial_open,
	.close = trivial_close,
	.get_size = trivial_get_size,
	.pread = trivial_pread,
	.pwrite = trivial_pwrite,
};

NBDKIT_REGISTER_PLUGIN(plugin)
