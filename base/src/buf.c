#include "base/buf.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"

#define KEEP_BYTES (32 << 20)
#define MMAP_BYTES ((1 << 20) + (128 << 10)) /* above a frame with the largest record */

int lb_buf_create(struct lb_buf **out, size_t cap_bytes, struct lb_err *err)
{
	struct lb_buf *b = calloc(1, sizeof(*b));

	if (b == NULL)
		goto fail;
	b->p = malloc(cap_bytes != 0 ? cap_bytes : 1);
	if (b->p == NULL)
		goto fail;
	b->cap = cap_bytes;
	b->refs = 1;
	*out = b;
	return 0;
fail:
	free(b);
	return lb_err_set(err, LB_ENOMEM, 0, "allocate a buffer of %zu bytes", cap_bytes);
}

int lb_buf_copy_of(struct lb_buf **out, const void *p, size_t len, struct lb_err *err)
{
	int rc = lb_buf_create(out, len, err);

	if (rc == 0 && len != 0) {
		memcpy((*out)->p, p, len);
		(*out)->len = len;
	}
	return rc;
}

struct lb_buf *lb_buf_ref(struct lb_buf *b)
{
	uint32_t before = __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED);

	LB_ASSERT(before != 0 && before != UINT32_MAX);
	return b;
}

void lb_buf_unref(struct lb_buf *b)
{
	uint32_t before;

	if (b == NULL)
		return;
	/* Acquire-release: the last holder sees every other holder's accesses before it frees. */
	before = __atomic_fetch_sub(&b->refs, 1, __ATOMIC_ACQ_REL);
	LB_ASSERT(before != 0);
	if (before != 1)
		return;
	free(b->p);
	free(b);
}

void lb_buf_keep_freed(void)
{
	/* Each only makes it cheaper; an allocator without them does what it does. */
	(void)mallopt(M_ARENA_MAX, 1);
	(void)mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
	(void)mallopt(M_TRIM_THRESHOLD, KEEP_BYTES);
}
