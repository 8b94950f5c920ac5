/*
 * sha256x_int.h - SHA-256 of up to 16 independent messages at once.
 *
 * One SHA-256 stream is a chain of dependent steps: it can use neither the width of a vector unit
 * nor the throughput of the SHA instructions. Sixteen messages can, one in each vector lane, or
 * four at a time beside each other through the SHA instructions. Used for the pieces of a Merkle
 * leaf (hash.h). Same results as hashing one after the other.
 */
#ifndef SHA256X_INT_H
#define SHA256X_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"

#define LB_SHA256X_LANES 16u

enum lb_sha256x_unit {
	LB_SHA256X_NONE, /* one after the other is as good */
	LB_SHA256X_AVX2,
	LB_SHA256X_AVX512,
	LB_SHA256X_SHA,
};

struct lb_sha256x_msg {
	const uint8_t *p;
	size_t len;
};

bool lb_sha256x_has(enum lb_sha256x_unit unit); /* does this CPU? */
/* The fastest this CPU has and this compiler made. Asks CPUID, which is slow in a guest: keep the
 * answer. */
enum lb_sha256x_unit lb_sha256x_best(void);
/* out[i] = SHA-256(@tag || msg[i]) for i < @n, n in 1..LB_SHA256X_LANES, by a @unit that the CPU
 * has and that is not NONE. */
void lb_sha256x(enum lb_sha256x_unit unit, struct lb_hash *out, uint8_t tag,
		const struct lb_sha256x_msg *msg, size_t n);

#endif
