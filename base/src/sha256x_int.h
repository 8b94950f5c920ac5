/*
 * sha256x_int.h - SHA-256 of up to 16 independent messages at once, one in each vector lane.
 *
 * One SHA-256 stream cannot use the width of a CPU without SHA instructions; sixteen can. Used for
 * the pieces of a Merkle leaf (hash.h). Same results as hashing one after the other.
 */
#ifndef SHA256X_INT_H
#define SHA256X_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"

#define LB_SHA256X_LANES 16u

struct lb_sha256x_msg {
	const uint8_t *p;
	size_t len;
};

/* Is there a vector unit that makes lanes worth while, and no SHA instruction that beats it? */
bool lb_sha256x_useful(void);
/* out[i] = SHA-256(@tag || msg[i]) for i < @n, n in 1..LB_SHA256X_LANES. Only when useful. */
void lb_sha256x(struct lb_hash *out, uint8_t tag, const struct lb_sha256x_msg *msg, size_t n);

#endif
