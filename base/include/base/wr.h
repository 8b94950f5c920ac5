/*
 * base/wr.h - bounded writer, the mirror of rd.h (little-endian).
 *
 * Writes into a caller's buffer and never past its end: overflow sets a sticky flag that is checked
 * once with lb_wr_done(). The buffer's content is undefined after an overflow.
 */
#ifndef BASE_WR_H
#define BASE_WR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"

struct lb_wr {
	uint8_t *p; /* start of the buffer, borrowed */
	size_t cap; /* bytes in the buffer */
	size_t len; /* bytes written so far */
	bool bad;   /* sticky: did not fit */
};

static inline struct lb_wr lb_wr_init(void *p, size_t cap_bytes)
{
	return (struct lb_wr){.p = p, .cap = cap_bytes};
}

void lb_wr_u8(struct lb_wr *wr, uint8_t v);
void lb_wr_u16le(struct lb_wr *wr, uint16_t v);
void lb_wr_u32le(struct lb_wr *wr, uint32_t v);
void lb_wr_u64le(struct lb_wr *wr, uint64_t v);
void lb_wr_bytes(struct lb_wr *wr, const void *p, size_t len);
void lb_wr_zeros(struct lb_wr *wr, size_t len);
void lb_wr_id(struct lb_wr *wr, const struct lb_id *id);
void lb_wr_hash(struct lb_wr *wr, const struct lb_hash *h);
/* u16 length + bytes, no NUL. Overflow when @s is longer than 65535. */
void lb_wr_str16(struct lb_wr *wr, const char *s);

/* True when everything fitted. */
bool lb_wr_done(const struct lb_wr *wr);

#endif
