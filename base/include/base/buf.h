/*
 * base/buf.h - reference-counted payload: packs, frames, records.
 *
 * Filled by its creator, then shared; immutable once it has more than one holder or was handed to
 * another thread. The count is atomic: any thread may take or drop a reference.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct lb_err;

struct lb_buf {
	uint8_t *p;
	size_t len;    /* bytes in use */
	size_t cap;    /* bytes allocated */
	uint32_t refs; /* atomic; use the functions */
};

/* A buffer of @cap bytes, len 0, one reference. Errors: LB_ENOMEM. */
int lb_buf_create(struct lb_buf **out, size_t cap_bytes, struct lb_err *err);
/* A buffer holding a copy of @len bytes at @p. Errors: LB_ENOMEM. */
int lb_buf_copy_of(struct lb_buf **out, const void *p, size_t len, struct lb_err *err);
struct lb_buf *lb_buf_ref(struct lb_buf *b);
void lb_buf_unref(struct lb_buf *b); /* NULL is allowed */

/* For main() of a program that ships or stores, before it has threads: freed buffers stay with the
 * process, in one heap that all threads share. By default each thread's heap gives a freed pack
 * back to the kernel, and the next one costs a page fault for each 4 KiB again. */
void lb_buf_keep_freed(void);

#endif
