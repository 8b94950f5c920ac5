/*
 * base/rd.h - bounded reader over untrusted bytes (little-endian).
 *
 * The error is sticky: after the first short read every getter returns 0 and rd->bad stays set, so
 * a decoder reads like the format's schema and checks once, at the end, with lb_rd_done(). Nobody
 * outside this file does arithmetic on wire lengths.
 */
#ifndef BASE_RD_H
#define BASE_RD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"

struct lb_rd {
	const uint8_t *p;
	size_t left; /* bytes not yet consumed */
	bool bad;    /* sticky: ran past the end */
};

static inline struct lb_rd lb_rd_init(const void *p, size_t len_bytes)
{
	return (struct lb_rd){.p = p, .left = len_bytes};
}

uint8_t lb_rd_u8(struct lb_rd *rd);
uint16_t lb_rd_u16le(struct lb_rd *rd);
uint32_t lb_rd_u32le(struct lb_rd *rd);
uint64_t lb_rd_u64le(struct lb_rd *rd);
struct lb_id lb_rd_id(struct lb_rd *rd);
struct lb_hash lb_rd_hash(struct lb_rd *rd);

/* Borrow @len bytes in place; NULL when short. Valid as long as the underlying buffer. */
const uint8_t *lb_rd_bytes(struct lb_rd *rd, size_t len);

/* Copy @len bytes to @out; zeroes @out when short. */
void lb_rd_copy(struct lb_rd *rd, void *out, size_t len);

/* A string of u16 length + bytes into @out (NUL-terminated). Bad when it is longer than
 * @out_bytes - 1 or holds a NUL. */
void lb_rd_str16(struct lb_rd *rd, char *out, size_t out_bytes);

/* True when everything was read and nothing is left over. */
bool lb_rd_done(const struct lb_rd *rd);

#endif
